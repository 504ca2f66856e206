//! The device side of `half_space_forest`: ranges and coordinates, then trees, then how far each key is.

use super::HalfSpaceForest;
use crate::device::registry::OverrideSet;
use crate::device::{Access, Binding, Dispatch, Program, Readback, Region, ResidentPages, Wave};
use crate::features::{Features, Scores};
use crate::kernel::KernelError;

/// See the shader's head.
pub(crate) static TRACK: Program = Program {
    name: "half_space_forest.track",
    source: include_str!("track.wgsl"),
    storage: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
};
/// See the shader's head.
pub(crate) static COUNT_ROWS: Program = Program {
    name: "half_space_forest.count",
    source: include_str!("count.wgsl"),
    storage: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::ReadWrite,
        Access::ReadWrite,
        Access::ReadWrite,
    ],
};

/// Trees up to this depth have their leaves in workgroup memory; deeper ones count on the page.
const NEAR_DEPTH_MAX: u32 = 12;
/// Leaves of a workgroup, of one tree or of several.
const NEAR_LEAVES: u32 = 1 << NEAR_DEPTH_MAX;
/// A key takes the words of its trees into workgroup memory when it has more rows than leaves of a tree over this: a tree's words cross
/// twice then, in a row, while a row's crosses twice with all of its sector.
const NEAR_LEAVES_PER_ROW: u32 = 8;
/// Rows that a lane takes at the same time.
const ROWS_PER_LANE: u32 = 4;
/// As many workgroups fill a large device, some of them waiting; with more, they take several trees each.
pub(super) const WORKGROUPS: u32 = 2048;
/// A split that starts another feature, see the shader.
const SPLIT_FRESH: u32 = 32;

/// For both shaders: small and large workgroups.
pub(crate) const OVERRIDES: &[OverrideSet] = &[SMALL, MEDIUM, LARGE];
const SMALL: OverrideSet = &[("WORKGROUP_SIZE", 64.0)];
const MEDIUM: OverrideSet = &[("WORKGROUP_SIZE", 128.0)];
const LARGE: OverrideSet = &[("WORKGROUP_SIZE", 256.0)];

/// `[tree]`: the feature of each level; then its splits by feature, so that a feature's coordinate is read once. A coordinate's bit for
/// a level is above the leaf's bit for it: there are no fewer levels after it than further bits of the coordinate.
fn levels_table(forest: &HalfSpaceForest) -> Vec<u32> {
    let depth = forest.parameters().depth;
    let mut words = Vec::with_capacity(2 * forest.levels.len());
    for tree in 0..forest.parameters().trees as usize {
        let levels = forest.levels_of(tree);
        words.extend(levels.iter().map(|level| u32::from(level.feature)));
        let mut splits: Vec<(u32, super::Level)> = (0..depth).rev().zip(levels.iter().copied()).collect();
        splits.sort_by_key(|(_, level)| level.feature);
        let mut before = None;
        for (bit, level) in splits {
            let fresh = if before.replace(level.feature) == Some(level.feature) { 0 } else { SPLIT_FRESH };
            let shift = u32::from(level.shift) - bit;
            words.push(u32::from(level.feature) | fresh | shift << 6 | bit << 10 | u32::from(level.offset) << 16);
        }
    }
    words
}

pub(super) fn encode(
    forest: &HalfSpaceForest,
    batch: &Features,
    state: &mut ResidentPages,
    wave: &mut Wave,
) -> Result<Vec<Region>, KernelError> {
    let parameters = forest.parameters();
    let (row_count, features) = (batch.kept_count(), batch.column_count());
    let (slots_per_page, slot_words) = (state.shape().slots_per_page(), state.shape().words_per_slot() as u32);
    let levels = state.table("levels", || levels_table(forest))?;
    let log_units = state.table("log_units", || forest.log_units.iter().map(|&units| u32::from(units)).collect())?;
    let (slots, starts) = (wave.upload(batch.rows().slots()), wave.upload(batch.starts()));
    let (high, low) = (wave.upload_f32(batch.all_high()), wave.upload_f32(batch.all_low()));
    let (plans_at, group_count) = (features * row_count, batch.rows().slots().len());
    // A lane reads the coordinates of all its rows, also where there is but one.
    let beyond = (ROWS_PER_LANE * 256) as usize;
    let coordinates = wave.scratch(plans_at + 2 * group_count + beyond);
    let units = wave.output(row_count);
    let credits = wave.output(if parameters.attribution { features * row_count } else { 0 });
    let track_overrides = if row_count / group_count.max(1) < 512 { SMALL } else { LARGE };
    // A window's rows over as many lanes as it gives work to, but for the ends of windows.
    let count_overrides = match parameters.window {
        0..=512 => SMALL,
        513..=2048 => MEDIUM,
        _ => LARGE,
    };
    let tree_leaves = 1 << parameters.depth.min(NEAR_DEPTH_MAX);
    for (page, groups) in batch.rows().pages(slots_per_page) {
        let (start, end, slot_first) = (groups.start as u32, groups.end as u32, (page * slots_per_page) as u32);
        let group_count = groups.len() as u32;
        wave.dispatch(Dispatch {
            program: &TRACK,
            entry: "track",
            overrides: track_overrides,
            params: &[
                start,
                end,
                slot_first,
                slot_words,
                parameters.features,
                row_count as u32,
                parameters.window,
                parameters.calibration_rows(),
                plans_at as u32,
                0,
            ],
            bindings: &[
                Binding::Region(&slots),
                Binding::Region(&starts),
                Binding::Region(&high),
                Binding::Region(&low),
                Binding::Page(state, page),
                Binding::Region(&coordinates),
            ],
            workgroups: group_count * parameters.features,
        })?;
        let block_trees = (group_count * parameters.trees / forest.workgroups)
            .clamp(1, NEAR_LEAVES / tree_leaves)
            .min(parameters.trees);
        let blocks = parameters.trees.div_ceil(block_trees);
        wave.dispatch(Dispatch {
            program: &COUNT_ROWS,
            entry: "count_rows",
            overrides: count_overrides,
            params: &[
                start,
                end,
                slot_first,
                slot_words,
                parameters.trees,
                parameters.depth,
                row_count as u32,
                parameters.window,
                parameters.calibration_rows(),
                parameters.node_mass_min(),
                forest.units_max(),
                parameters.table_start() as u32,
                parameters.mass_start() as u32,
                u32::from(parameters.attribution),
                plans_at as u32,
                block_trees,
                tree_leaves / NEAR_LEAVES_PER_ROW,
            ],
            bindings: &[
                Binding::Region(&slots),
                Binding::Region(&starts),
                Binding::Region(&coordinates),
                Binding::Table(&levels),
                Binding::Table(&log_units),
                Binding::Page(state, page),
                Binding::Region(&units),
                Binding::Region(&credits),
            ],
            workgroups: group_count * blocks,
        })?;
    }
    Ok(vec![units, credits])
}

pub(super) fn decode(forest: &HalfSpaceForest, batch: &Features, regions: &[Region], readback: &Readback) -> Scores {
    let unit = forest.unit();
    let scale = |units: &[u32]| batch.spread(units.iter().map(|&units| units as f32 * unit).collect());
    let attribution = match batch.kept_count() {
        _ if !forest.parameters().attribution => Vec::new(),
        0 => vec![scale(&[]); batch.column_count()],
        rows => readback.words(&regions[1]).chunks_exact(rows).map(scale).collect(),
    };
    Scores { score: scale(readback.words(&regions[0])), attribution }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Case, case, forest, run_twin};
    use super::super::*;
    use super::*;
    use crate::device::validation::{assert_constants_agree, assert_registered};
    use crate::features::testing::{batch, edge_batches, patient_device, run_on_device};
    use crate::features::{VALUE_MAX, VALUE_MIN};

    #[test]
    fn the_shaders_agree_with_rust() {
        assert_registered(&TRACK);
        assert_registered(&COUNT_ROWS);
        assert_constants_agree(
            &TRACK,
            &[
                ("PARTS", f64::from(PARTS)),
                ("KEEP_BELOW", f64::from(KEEP_BELOW)),
                ("KEEP_ABOVE", f64::from(KEEP_ABOVE)),
                ("KEEP_SPAN", f64::from(KEEP_SPAN)),
                ("SPAN_RELATIVE", f64::from(SPAN_RELATIVE)),
                ("SPAN_MIN", f64::from(SPAN_MIN)),
                ("REBASE_SPANS", f64::from(REBASE_SPANS)),
                ("VALUE_MAX", f64::from(VALUE_MAX)),
                ("VALUE_MIN", f64::from(VALUE_MIN)),
                ("CALIBRATING", f64::from(CALIBRATING)),
                ("COUNTING", f64::from(COUNTING)),
                ("SCORING", f64::from(SCORING)),
                ("PHASE", PHASE as f64),
                ("COUNT", COUNT as f64),
                ("HEADER_WORDS", HEADER_WORDS as f64),
                ("FEATURE_WORDS", FEATURE_WORDS as f64),
                ("BASE_HIGH", BASE_HIGH as f64),
                ("BASE_LOW", BASE_LOW as f64),
                ("LOW", LOW as f64),
                ("SCALE", SCALE as f64),
                ("REFERENCE_LOW", REFERENCE_LOW as f64),
                ("REFERENCE_SCALE", REFERENCE_SCALE as f64),
                ("PART_MIN", PART_MIN as f64),
                ("PART_MAX", PART_MAX as f64),
                ("LEAST", LEAST as f64),
                ("LEAST_2", LEAST_2 as f64),
                ("GREATEST", GREATEST as f64),
                ("GREATEST_2", GREATEST_2 as f64),
            ],
        );
        assert_constants_agree(
            &COUNT_ROWS,
            &[
                ("ROWS_PER_LANE", f64::from(ROWS_PER_LANE)),
                ("NEAR_DEPTH_MAX", f64::from(NEAR_DEPTH_MAX)),
                ("HALF_WORDS", f64::from(NEAR_LEAVES / 2)),
                ("OPEN", f64::from(u16::MAX)),
                ("SPLIT_FRESH", f64::from(SPLIT_FRESH)),
                ("UNITS", f64::from(UNITS)),
                ("CALIBRATING", f64::from(CALIBRATING)),
                ("SCORING", f64::from(SCORING)),
                ("PHASE", PHASE as f64),
                ("COUNT", COUNT as f64),
            ],
        );
    }

    /// Scores, attributions and state are equal to the bit.
    fn agrees(forest: &HalfSpaceForest, batches: &[Features]) {
        let Some(device) = patient_device() else { return };
        let (ours, pages) = run_on_device(&device, forest, batches);
        let (expected, state) = run_twin(forest, batches);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
        for (ours, expected) in ours.iter().zip(&expected) {
            assert_eq!(bits(&ours.score), bits(&expected.score));
            assert_eq!(ours.attribution.len(), expected.attribution.len());
            for (ours, expected) in ours.attribution.iter().zip(&expected.attribution) {
                assert_eq!(bits(ours), bits(expected));
            }
        }
        assert_eq!(pages.len(), state.page_count());
        for (page, words) in pages.iter().enumerate() {
            let different = words.iter().zip(state.page(page)).position(|(ours, twin)| ours != twin);
            let slot_words = state.shape().words_per_slot();
            assert_eq!(
                different.map(|word| (word / slot_words, word % slot_words)),
                None,
                "slot and word of page {page}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn device_agrees_with_twin(case in case()) {
            agrees(&forest(case.parameters.clone()), &Case::batches(&case));
        }

        /// Trees that share a workgroup share its memory, and must not see each other's masses.
        #[test]
        fn trees_in_one_workgroup_agree_with_the_twin(case in case(), workgroups in 1u32..8) {
            let mut forest = forest(case.parameters.clone());
            forest.workgroups = workgroups;
            agrees(&forest, &Case::batches(&case));
        }
    }

    /// None, one, as many rows and keys as lanes and one beside it, nothing but nulls, one hot key, the edges of pages.
    #[test]
    fn device_agrees_with_twin_at_the_edges() {
        let parameters =
            ForestParameters { features: 2, trees: 3, depth: 4, window: 40, attribution: true, ..Default::default() };
        let kernel = forest(parameters);
        let slots_per_page = kernel.state_shape().slots_per_page();
        edge_batches(2, slots_per_page, 3_000).iter().for_each(|batches| agrees(&kernel, batches));
        let long = ForestParameters { features: 2, trees: 2, depth: 5, window: 5000, ..Default::default() };
        for rows in [65_535, 65_536, 65_537] {
            agrees(&forest(long.clone()), &[batch(2, rows, 1, |_| 0, false)]);
        }
        let large = ForestParameters { features: 32, trees: 20, depth: 12, window: 300, ..Default::default() };
        agrees(&forest(large), &edge_batches(32, 4, 10)[6]);
        // The largest masses there are: all rows of the longest window in one leaf.
        let heavy = ForestParameters { trees: 2, depth: 3, window: 65_535, attribution: true, ..Default::default() };
        let (slots, rows) = (vec![0; 150_000], vec![2.5; 150_000]);
        agrees(&forest(heavy), &[super::super::tests::batch(&slots, &[rows])]);
        for depth in [12, 13, 15] {
            let deep = ForestParameters { trees: 2, depth, window: 33, attribution: true, ..Default::default() };
            agrees(&forest(deep), &edge_batches(1, 4, 10)[5]);
        }
        let deep = ForestParameters { features: 1, trees: 2, depth: 15, window: 500, ..Default::default() };
        agrees(&forest(deep), &edge_batches(1, 4, 10)[6]);
    }
}
