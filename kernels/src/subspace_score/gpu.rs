//! The device side of `subspace_score`: sixteen lanes for each key.

use super::{Model, Scale, SubspaceScore};
use crate::device::{Access, Binding, Dispatch, Program, Readback, Region, ResidentPages, Wave};
use crate::features::{Features, Scores};
use crate::kernel::KernelError;

/// See the shader's head.
pub(crate) static SUBSPACE_SCORE: Program = Program {
    name: "subspace_score",
    source: include_str!("subspace_score.wgsl"),
    storage: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
};

/// Keys of a workgroup.
const KEYS: u32 = 2;

pub(super) fn encode(
    kernel: &SubspaceScore,
    batch: &Features,
    state: &mut ResidentPages,
    wave: &mut Wave,
) -> Result<Vec<Region>, KernelError> {
    let parameters = kernel.parameters();
    let slots_per_page = state.shape().slots_per_page();
    let (slots, starts) = (wave.upload(batch.rows().slots()), wave.upload(batch.starts()));
    let (high, low) = (wave.upload_f32(batch.all_high()), wave.upload_f32(batch.all_low()));
    let score = wave.output(batch.kept_count());
    let centroids = parameters.model == Model::Centroids;
    let overrides = [
        ("STRIDE", parameters.stride() as f64),
        ("CENTROIDS", f64::from(u8::from(centroids))),
        ("COMPONENTS", f64::from(parameters.components)),
    ];
    for (page, groups) in batch.rows().pages(slots_per_page) {
        let params = [
            groups.start as u32,
            groups.end as u32,
            (page * slots_per_page) as u32,
            state.shape().words_per_slot() as u32,
            parameters.window,
            parameters.components,
            u32::from(parameters.scale == Scale::Value),
            parameters.min_training_windows(),
            kernel.gain_min.to_bits(),
            parameters.flat_span.to_bits(),
            0,
        ];
        wave.dispatch(Dispatch {
            program: &SUBSPACE_SCORE,
            entry: "subspace_score",
            overrides: &overrides,
            params: &params,
            bindings: &[
                Binding::Region(&slots),
                Binding::Region(&starts),
                Binding::Region(&high),
                Binding::Region(&low),
                Binding::Page(state, page),
                Binding::Region(&score),
            ],
            workgroups: (groups.len() as u32).div_ceil(KEYS),
        })?;
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
        BASE_HIGH, BASE_LOW, CENTRE_SQUARES_MIN, COUNT, COUNT_MAX, EMPTY_SQUARES, FLAT_SHARE, HEADER_WORDS,
        TAKEN_SQUARES,
    };
    use super::*;
    use crate::device::self_test::Need;
    use crate::device::validation::{assert_constants_agree, assert_registered};
    use crate::features::testing::{edge_batches, patient_device, run_on_device};
    use crate::features::{VALUE_MAX, VALUE_MIN};
    use crate::subspace_score::SubspaceParameters;
    use crate::window::{FLAT_RELATIVE, LANES, REBASE_SPANS, SQUARES_MIN};

    #[test]
    fn the_shader_agrees_with_rust() {
        assert_registered(&SUBSPACE_SCORE);
        assert_constants_agree(
            &SUBSPACE_SCORE,
            &[
                ("LANES", LANES as f64),
                ("KEYS", f64::from(KEYS)),
                ("WORKGROUP_SIZE", f64::from(KEYS) * LANES as f64),
                ("COMPONENTS_MAX", 16.0),
                ("CENTRE_QUARTERS", 5.0),
                ("EMPTY_SQUARES", f64::from(EMPTY_SQUARES)),
                ("TAKEN_SQUARES", f64::from(TAKEN_SQUARES)),
                ("CENTRE_SQUARES_MIN", f64::from(CENTRE_SQUARES_MIN)),
                ("COUNT_MAX", f64::from(COUNT_MAX)),
                ("VALUE_MAX", f64::from(VALUE_MAX)),
                ("VALUE_MIN", f64::from(VALUE_MIN)),
                ("FLAT_RELATIVE", f64::from(FLAT_RELATIVE)),
                ("SQUARES_MIN", f64::from(SQUARES_MIN)),
                ("REBASE_SPANS", f64::from(REBASE_SPANS)),
                ("BASE_HIGH", BASE_HIGH as f64),
                ("BASE_LOW", BASE_LOW as f64),
                ("COUNT", COUNT as f64),
                ("FLAT_SHARE", FLAT_SHARE as f64),
                ("HEADER_WORDS", HEADER_WORDS as f64),
            ],
        );
    }

    fn agrees(kernel: &SubspaceScore, batches: &[Features]) {
        let Some(device) = patient_device() else { return };
        let (ours, pages) = run_on_device(&device, kernel, batches);
        let (expected, state) = run_twin(kernel, batches);
        for (ours, expected) in ours.iter().zip(&expected) {
            assert_near(&ours.score, &expected.score, 1e-3);
        }
        // Where an adapter keeps the order of operations, decisions are the same because all is the same to the bit.
        let in_order = device.self_test().allows(Need::FloatOrder).is_ok();
        let bits = |scores: &Scores| scores.score.iter().map(|score| score.to_bits()).collect::<Vec<u32>>();
        assert!(!in_order || ours.iter().map(bits).eq(expected.iter().map(bits)), "scores to the bit");
        for (page, words) in pages.iter().enumerate() {
            let twin = state.page(page);
            let slot_words = state.shape().words_per_slot();
            for (slot, (ours, twin)) in words.chunks(slot_words).zip(twin.chunks(slot_words)).enumerate() {
                let compared = if in_order { slot_words } else { FLAT_SHARE };
                assert_eq!(ours[..compared], twin[..compared], "state of slot {slot}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn device_agrees_with_twin(case in case(400)) {
            agrees(&kernel(case.parameters.clone()), &Case::batches(&case));
        }
    }

    /// None, one, as many rows and keys as lanes and one beside it, nothing but nulls, one hot key, the edges of pages.
    #[test]
    fn device_agrees_with_twin_at_the_edges() {
        for model in [Model::Subspace, Model::Centroids] {
            let parameters = SubspaceParameters { window: 8, components: 3, model, ..Default::default() };
            let kernel = kernel(parameters);
            let slots_per_page = crate::Kernel::state_shape(&kernel).slots_per_page();
            edge_batches(1, slots_per_page, 3_000).iter().for_each(|batches| agrees(&kernel, batches));
        }
        let large = SubspaceParameters { window: 512, components: 16, ..Default::default() };
        agrees(&kernel(large), &[edge_batches(1, 4, 3000).remove(6).remove(0)]);
    }
}
