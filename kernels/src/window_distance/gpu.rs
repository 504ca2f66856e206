//! The device side of `window_distance`: chunks of rows in turn, all keys of a page at the same time.

use super::{CHUNK, WindowDistance};
use crate::device::{Access, Binding, Dispatch, Program, Readback, Region, ResidentPages, Wave};
use crate::features::{Features, Scores};
use crate::kernel::KernelError;

/// See the shader's head.
pub(crate) static WINDOW_DISTANCE: Program = Program {
    name: "window_distance",
    source: include_str!("window_distance.wgsl"),
    storage: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::ReadWrite,
        Access::ReadWrite,
        Access::ReadWrite,
        Access::ReadWrite,
    ],
};

/// Lags of a workgroup.
const TILE: u32 = 1024;
/// Words of a key's chunk and of a row, in scratch.
const CHUNK_WORDS: usize = 4;
const ROW_WORDS: usize = 2;

pub(super) fn encode(
    kernel: &WindowDistance,
    batch: &Features,
    state: &mut ResidentPages,
    wave: &mut Wave,
) -> Result<Vec<Region>, KernelError> {
    let parameters = kernel.parameters();
    let (slots_per_page, groups_in_all) = (state.shape().slots_per_page(), batch.rows().slots().len());
    let (slots, starts) = (wave.upload(batch.rows().slots()), wave.upload(batch.starts()));
    let (high, low) = (wave.upload_f32(batch.all_high()), wave.upload_f32(batch.all_low()));
    let chunks = wave.scratch(groups_in_all * CHUNK_WORDS + batch.kept_count() * ROW_WORDS);
    let best = wave.scratch(batch.kept_count());
    let score = wave.output(batch.kept_count());
    let lags = parameters.history - parameters.exclusion_rows() as u32;
    let tiles = lags.div_ceil(TILE);
    let (slices, slice_lags) = parameters.slices();
    for (page, groups) in batch.rows().pages(slots_per_page) {
        let group_count = groups.len() as u32;
        let rows_max =
            batch.starts()[groups.start..=groups.end].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let params = [
            groups.start as u32,
            groups.end as u32,
            groups_in_all as u32,
            (page * slots_per_page) as u32,
            state.shape().words_per_slot() as u32,
            parameters.window,
            parameters.history,
            parameters.exclusion_rows() as u32,
            parameters.ring() as u32,
            parameters.min_training_windows() as u32,
            slices,
            slice_lags,
            tiles,
            parameters.flat_span.to_bits(),
            0,
        ];
        let bindings = [
            Binding::Region(&slots),
            Binding::Region(&starts),
            Binding::Region(&high),
            Binding::Region(&low),
            Binding::Page(state, page),
            Binding::Region(&chunks),
            Binding::Region(&best),
            Binding::Region(&score),
        ];
        // A chunk ends where the key's count says, which only the device knows: the first may be as short as one row.
        let rounds = if rows_max == 0 { 0 } else { 1 + (rows_max - 1).div_ceil(CHUNK as u32) };
        for _ in 0..rounds {
            for (entry, workgroups) in
                [("prepare", group_count), ("compare", group_count * tiles), ("finish", group_count)]
            {
                let program = &WINDOW_DISTANCE;
                wave.dispatch(Dispatch {
                    program,
                    entry,
                    overrides: &[],
                    params: &params,
                    bindings: &bindings,
                    workgroups,
                })?;
            }
        }
    }
    Ok(vec![score])
}

pub(super) fn decode(batch: &Features, regions: &[Region], readback: &Readback) -> Scores {
    Scores { score: batch.spread(readback.f32s(&regions[0]).to_vec()), attribution: Vec::new() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Case, assert_near, case, kernel, run_twin};
    use super::super::{
        BASE_HIGH, BASE_LOW, CORRELATION_ERROR_MAX, COUNT, COUNT_BACK, COUNT_MAX, DistanceParameters, FLAT_COUNT,
        HEADER_WORDS, PEAK, PEAK_RATIO, PLACE, RENEWED,
    };
    use super::*;
    use crate::Kernel;
    use crate::device::validation::{assert_constants_agree, assert_registered};
    use crate::features::testing::{edge_batches, patient_device, run_on_device};
    use crate::features::{VALUE_MAX, VALUE_MIN};
    use crate::window::{FLAT_RELATIVE, REBASE_SPANS, SQUARES_MIN};

    #[test]
    fn the_shader_agrees_with_rust() {
        assert_registered(&WINDOW_DISTANCE);
        assert_constants_agree(
            &WINDOW_DISTANCE,
            &[
                ("CHUNK", CHUNK as f64),
                ("LAGS", f64::from(TILE) / CHUNK as f64),
                ("TILE", f64::from(TILE)),
                ("ROWS", 8.0),
                ("VALUE_MAX", f64::from(VALUE_MAX)),
                ("VALUE_MIN", f64::from(VALUE_MIN)),
                ("FLAT_RELATIVE", f64::from(FLAT_RELATIVE)),
                ("SQUARES_MIN", f64::from(SQUARES_MIN)),
                ("REBASE_SPANS", f64::from(REBASE_SPANS)),
                ("PEAK_RATIO", f64::from(PEAK_RATIO)),
                ("RENEWED", f64::from(RENEWED)),
                ("PEAK", PEAK as f64),
                ("COUNT_MAX", f64::from(COUNT_MAX)),
                ("COUNT_BACK", f64::from(COUNT_BACK)),
                ("BASE_HIGH", BASE_HIGH as f64),
                ("BASE_LOW", BASE_LOW as f64),
                ("COUNT", COUNT as f64),
                ("FLAT_COUNT", FLAT_COUNT as f64),
                ("PLACE", PLACE as f64),
                ("HEADER_WORDS", HEADER_WORDS as f64),
                ("CHUNK_DONE", 0.0),
                ("CHUNK_ROWS", 1.0),
                ("CHUNK_PLACE", 2.0),
                ("CHUNK_COUNT", 3.0),
                ("CHUNK_WORDS", CHUNK_WORDS as f64),
                ("ROW_OFFSET", 0.0),
                ("ROW_FLAGS", 1.0),
                ("ROW_WORDS", ROW_WORDS as f64),
            ],
        );
    }

    fn agrees(kernel: &WindowDistance, batches: &[Features]) {
        let Some(device) = patient_device() else { return };
        let (ours, pages) = run_on_device(&device, kernel, batches);
        let (expected, state) = run_twin(kernel, batches);
        for (ours, expected) in ours.iter().zip(&expected) {
            assert_near(&ours.score, &expected.score, kernel.parameters().window, CORRELATION_ERROR_MAX);
        }
        for (page, words) in pages.iter().enumerate() {
            let slot_words = state.shape().words_per_slot();
            let values = HEADER_WORDS + kernel.parameters().ring();
            for (slot, (ours, twin)) in words.chunks(slot_words).zip(state.page(page).chunks(slot_words)).enumerate() {
                assert_eq!(ours[..PEAK], twin[..PEAK], "header of slot {slot}");
                assert_eq!(ours[HEADER_WORDS..values], twin[HEADER_WORDS..values], "values of slot {slot}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn device_agrees_with_twin(case in case(900)) {
            agrees(&kernel(case.parameters.clone()), &Case::batches(&case));
        }
    }

    /// None, one, as many rows and keys as lanes and one beside it, nothing but nulls, one hot key, the edges of pages; more lags
    /// than a workgroup takes.
    #[test]
    fn device_agrees_with_twin_at_the_edges() {
        let small = kernel(DistanceParameters { window: 4, history: 20, min_training: Some(1), ..Default::default() });
        let slots_per_page = small.state_shape().slots_per_page();
        edge_batches(1, slots_per_page, 1_500).iter().for_each(|batches| agrees(&small, batches));
        for history in [1023, 1024, 1025, 1026, 2500] {
            let parameters = DistanceParameters { window: 12, history, exclusion: Some(1), ..Default::default() };
            agrees(&kernel(parameters), &edge_batches(1, 4, 10)[6]);
        }
    }
}
