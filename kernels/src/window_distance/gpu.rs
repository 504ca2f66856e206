//! The device side of `window_distance`: windows of all rows first, then pairs, in tiles of lags and blocks of rows at the same time.

use super::{RINGS, WindowDistance};
use crate::device::{Access, Binding, Dispatch, Program, Readback, Region, ResidentPages, Wave};
use crate::features::{Features, Scores};
use crate::kernel::KernelError;

/// See the shader's head.
pub(crate) static PREPARE: Program = Program {
    name: "window_distance.prepare",
    source: include_str!("prepare.wgsl"),
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
/// See the shader's head.
pub(crate) static COMPARE: Program = Program {
    name: "window_distance.compare",
    source: include_str!("compare.wgsl"),
    storage: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
};

/// Lanes of a workgroup that goes over rows.
const WORKGROUP_SIZE: u32 = 256;
/// Lags of a workgroup, and of a lane.
const TILE: u32 = 256;
const LAGS: u32 = 4;
/// The most rows of a block.
const BLOCK_ROWS_MAX: u32 = 1024;
/// The least, unless covariances are to be renewed sooner: fewer, and most of a block would be its start.
const BLOCK_ROWS_MIN: u32 = 64;
/// With so many workgroups a card has enough to do.
const WORKGROUPS_ENOUGH: u32 = 1024;
/// Straight arrays: the rings, offsets and squares.
const ARRAYS: usize = RINGS + 2;
/// Positions of all keys in the straight arrays, so that these fit into one binding of 128 MiB. Tests have several segments.
const POSITIONS_MAX: usize = if cfg!(test) { 4 << 10 } else { 4 << 20 };

/// How the rows of a page's keys are cut.
struct Cut {
    /// So that the columns of a lane's lags start at multiples of four.
    pad: u32,
    /// Of a key.
    positions: u32,
    segment_rows: u32,
    block_rows: u32,
}

impl Cut {
    fn new(kernel: &WindowDistance, keys: u32, rows_max: u32, tiles: u32) -> Self {
        let parameters = kernel.parameters();
        let ring = parameters.ring() as u32;
        // The first row's greatest lag of the first lane, `exclusion + 4`, is at a multiple of four.
        let pad = (parameters.exclusion_rows() as u32 + LAGS + LAGS - ring % LAGS) % LAGS;
        let positions_of = |rows: u32| (pad + ring + rows).next_multiple_of(LAGS) + 2 * LAGS;
        let segment_max = (POSITIONS_MAX / keys.max(1) as usize) as u32;
        let segment_max = segment_max.saturating_sub(positions_of(0) + LAGS).max(BLOCK_ROWS_MAX);
        let segment_rows = rows_max.min(segment_max);
        let blocks_at = |block_rows: u32| keys * tiles * segment_rows.div_ceil(block_rows);
        let mut block_rows = BLOCK_ROWS_MAX.min(parameters.refresh / LAGS * LAGS);
        let least = BLOCK_ROWS_MIN.max(parameters.window);
        while block_rows / 2 >= least && blocks_at(block_rows) < WORKGROUPS_ENOUGH {
            block_rows = block_rows / 2 / LAGS * LAGS;
        }
        Cut { pad, positions: positions_of(segment_rows), segment_rows, block_rows }
    }
}

pub(super) fn encode(
    kernel: &WindowDistance,
    batch: &Features,
    state: &mut ResidentPages,
    wave: &mut Wave,
) -> Result<Vec<Region>, KernelError> {
    let parameters = kernel.parameters();
    let slots_per_page = state.shape().slots_per_page();
    let (slots, starts) = (wave.upload(batch.rows().slots()), wave.upload(batch.starts()));
    let (high, low) = (wave.upload_f32(batch.all_high()), wave.upload_f32(batch.all_low()));
    let lags = parameters.history - parameters.exclusion_rows() as u32;
    let tiles = lags.div_ceil(TILE);
    let ring = parameters.ring() as u32;
    let (slices, slice_lags) = parameters.slices();
    let rows_max = |groups: &std::ops::Range<usize>| {
        batch.starts()[groups.start..=groups.end].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    };
    let cuts: Vec<_> = batch
        .rows()
        .pages(slots_per_page)
        .into_iter()
        .map(|(page, groups)| {
            let rows = rows_max(&groups);
            let cut = Cut::new(kernel, groups.len() as u32, rows, tiles);
            (page, groups, rows, cut)
        })
        .collect();
    let words_of = |groups: usize, cut: &Cut| ARRAYS * groups * cut.positions as usize;
    let words = cuts.iter().map(|(_, groups, _, cut)| words_of(groups.len(), cut)).max().unwrap_or(0);
    let straight = wave.scratch(words);
    let best = wave.scratch(batch.kept_count());
    let score = wave.output(batch.kept_count());
    for (page, groups, rows, cut) in cuts {
        let keys = groups.len() as u32;
        let prepared = [
            Binding::Region(&slots),
            Binding::Region(&starts),
            Binding::Region(&high),
            Binding::Region(&low),
            Binding::Page(state, page),
            Binding::Region(&straight),
            Binding::Region(&best),
            Binding::Region(&score),
        ];
        let compared = [
            Binding::Region(&slots),
            Binding::Region(&starts),
            Binding::Region(&straight),
            Binding::Region(&straight),
            Binding::Page(state, page),
            Binding::Region(&best),
        ];
        for segment_start in (0..rows).step_by(cut.segment_rows.max(1) as usize) {
            let segment_rows = cut.segment_rows.min(rows - segment_start);
            let params = |blocks: u32| {
                [
                    groups.start as u32,
                    groups.end as u32,
                    (page * slots_per_page) as u32,
                    state.shape().words_per_slot() as u32,
                    parameters.window,
                    parameters.history,
                    parameters.exclusion_rows() as u32,
                    ring,
                    cut.pad,
                    cut.positions,
                    segment_start,
                    cut.segment_rows,
                    blocks,
                    parameters.min_training_windows() as u32,
                    slices,
                    slice_lags,
                    tiles,
                    cut.block_rows,
                    parameters.flat_span.to_bits(),
                    0,
                ]
            };
            let unrolled = (ring + segment_rows).div_ceil(WORKGROUP_SIZE);
            let rows_of_lanes = segment_rows.div_ceil(WORKGROUP_SIZE);
            let blocks = segment_rows.div_ceil(cut.block_rows);
            for (program, bindings, entry, blocks, workgroups) in [
                (&PREPARE, &prepared[..], "unroll", unrolled, keys * unrolled),
                (&PREPARE, &prepared, "shape", rows_of_lanes, keys * rows_of_lanes),
                (&PREPARE, &prepared, "mark", 1, keys),
                (&COMPARE, &compared, "compare", blocks, keys * tiles * blocks),
                (&PREPARE, &prepared, "finish", rows_of_lanes, keys * rows_of_lanes),
                (&PREPARE, &prepared, "settle", 1, keys.div_ceil(WORKGROUP_SIZE)),
            ] {
                let params = &params(blocks);
                wave.dispatch(Dispatch { program, entry, overrides: &[], params, bindings, workgroups })?;
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

    use super::super::tests::{Case, assert_near, batch, case, kernel, noise, run_twin};
    use super::super::{
        CORRELATION_ERROR_MAX, COUNT, COUNT_BACK, COUNT_MAX, DistanceParameters, FLAT_COUNT, HEADER_WORDS, PEAK,
        PEAK_RATIO, PLACE, RENEWED,
    };
    use super::*;
    use crate::Kernel;
    use crate::device::validation::{assert_constants_agree, assert_registered};
    use crate::features::testing::{edge_batches, patient_device, run_on_device};
    use crate::features::{VALUE_MAX, VALUE_MIN};
    use crate::window::{FLAT_RELATIVE, SQUARES_MIN};

    #[test]
    fn the_shaders_agree_with_rust() {
        assert_registered(&PREPARE);
        assert_registered(&COMPARE);
        let both = [
            ("VALUE_MAX", f64::from(VALUE_MAX)),
            ("VALUE_MIN", f64::from(VALUE_MIN)),
            ("RENEWED", f64::from(RENEWED)),
            ("NO_WINDOW", 3.0),
            ("COUNT_MAX", f64::from(COUNT_MAX)),
            ("COUNT_BACK", f64::from(COUNT_BACK)),
            ("COUNT", COUNT as f64),
            ("HEADER_WORDS", HEADER_WORDS as f64),
            ("HIGH", 0.0),
            ("LOW", 1.0),
            ("DF", 2.0),
            ("DG", 3.0),
            ("INVERSE", 4.0),
            ("OFFSET", RINGS as f64),
        ];
        let prepare = [
            ("WORKGROUP_SIZE", f64::from(WORKGROUP_SIZE)),
            ("BLOCK", 1024.0),
            ("PLACES", 1024.0 / f64::from(WORKGROUP_SIZE)),
            ("FLAT_RELATIVE", f64::from(FLAT_RELATIVE)),
            ("SQUARES_MIN", f64::from(SQUARES_MIN)),
            ("PEAK_RATIO", f64::from(PEAK_RATIO)),
            ("FIRST", 2.0),
            ("FLAT_COUNT", FLAT_COUNT as f64),
            ("PLACE", PLACE as f64),
            ("PEAK", PEAK as f64),
            ("SQUARES", (ARRAYS - 1) as f64),
        ];
        assert_constants_agree(&PREPARE, &[&both[..], &prepare[..]].concat());
        let compare = [
            ("WORKGROUP_SIZE", f64::from(TILE / LAGS)),
            ("LAGS", f64::from(LAGS)),
            ("TILE", f64::from(TILE)),
            ("STAGED", f64::from(TILE / LAGS)),
            ("REDUCED", 8.0),
            ("BLOCK_ROWS_MAX", f64::from(BLOCK_ROWS_MAX)),
            ("LOWEST", f64::from(-3.4e38f32)),
            ("RINGS", RINGS as f64),
        ];
        assert_constants_agree(&COMPARE, &[&both[..], &compare[..]].concat());
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
            let values = HEADER_WORDS + 2 * kernel.parameters().ring();
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

    /// One key with many blocks of rows and several segments, and spikes in some of them; covariances that are renewed sooner than a
    /// block ends.
    #[test]
    fn device_agrees_with_twin_over_blocks_of_rows() {
        let mut values = noise(11, 9_000);
        for (row, height) in [(700, 1e5), (2_048, -1e9), (5_000, 1e14), (5_003, -1e14)] {
            values[row] += height;
        }
        values[7_000..7_080].fill(0.25);
        for (history, refresh) in [(300, 1024), (1_100, 16)] {
            let parameters = DistanceParameters { window: 16, history, refresh, ..Default::default() };
            let kernel = kernel(parameters);
            let parts: Vec<Features> = [0..40, 40..6_500, 6_500..9_000]
                .map(|rows: std::ops::Range<usize>| batch(&vec![0; rows.len()], &values[rows]))
                .into();
            agrees(&kernel, &parts);
        }
    }
}
