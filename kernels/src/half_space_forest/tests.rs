use std::sync::Arc;

use proptest::prelude::*;

use super::naive::NaiveForest;
use super::*;
use crate::rows::GroupedRows;

pub(crate) fn forest(parameters: ForestParameters) -> HalfSpaceForest {
    HalfSpaceForest::new(parameters).expect("parameters of tests are in range")
}

pub(crate) fn batch(slots: &[u32], columns: &[Vec<f64>]) -> Features {
    let slot_count = slots.iter().max().map_or(0, |&slot| slot as usize + 1);
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    Features::new(Arc::new(GroupedRows::group(slots, slot_count)), &columns)
}

pub(crate) fn run_twin(forest: &HalfSpaceForest, batches: &[Features]) -> (Vec<Scores>, StatePages) {
    let mut state = StatePages::new(forest.state_shape());
    let scores = batches
        .iter()
        .map(|batch| {
            state.grow(forest.slot_count(batch));
            forest.run_twin(batch, &mut state)
        })
        .collect();
    // As a device has it, which gets whole pages.
    state.fill();
    (scores, state)
}

/// A deterministic stream of numbers in [0, 1).
pub(crate) fn noise(seed: u32, index: u32) -> f64 {
    f64::from(random(seed, index, 0)) / 2f64.powi(32)
}

fn assert_near(ours: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), expected.len());
    for (row, (&ours, &expected)) in ours.iter().zip(expected).enumerate() {
        assert_eq!(ours.is_nan(), expected.is_nan(), "row {row}: {ours} for {expected}");
        assert!(ours.is_nan() || (ours - expected).abs() <= tolerance, "row {row}: {ours} for {expected}");
    }
}

#[test]
fn parameters_out_of_range_are_named() {
    let error = HalfSpaceForest::new(ForestParameters { depth: 16, ..Default::default() }).expect_err("too deep");
    assert_eq!(error.to_string(), "`half_space_forest`: depth must be between 1 and 15, not 16");
    assert!(HalfSpaceForest::new(ForestParameters { window: 7, ..Default::default() }).is_err());
    let large = ForestParameters { depth: 15, trees: 256, attribution: true, ..Default::default() };
    assert!(HalfSpaceForest::new(ForestParameters { attribution: false, ..large.clone() }).is_ok(), "fits a page");
    let error = HalfSpaceForest::new(large).expect_err("does not");
    assert!(error.to_string().contains("2^depth"), "{error}");
}

/// Parameters are kept in checkpoints and given as text: what is left out has its default, what is unknown is refused.
#[test]
fn parameters_are_data() {
    let parameters: ForestParameters = serde_json::from_str(r#"{"features": 3, "depth": 6}"#).expect("parses");
    assert_eq!(parameters, ForestParameters { features: 3, depth: 6, ..Default::default() });
    assert!(serde_json::from_str::<ForestParameters>(r#"{"deptth": 6}"#).is_err());
}

#[test]
fn a_row_where_none_was_before_scores_high_and_says_by_which_feature() {
    let parameters = ForestParameters { features: 3, attribution: true, ..Default::default() };
    let forest = forest(parameters.clone());
    let rows = 2000u32;
    let mut columns: Vec<Vec<f64>> = (0..3)
        .map(|feature| (0..rows).map(|row| 1e9 + noise(feature, row) + noise(feature + 10, row)).collect())
        .collect();
    columns[1][1500] += 6.0;
    columns[2][1700] -= 5.0;
    let (scores, _) = run_twin(&forest, &[batch(&vec![0; rows as usize], &columns)]);
    let scores = &scores[0];
    let warm_up = parameters.warm_up_rows() as usize;
    assert!(scores.score[..warm_up].iter().all(|&score| score == 0.0) && scores.score[warm_up] > 0.0);
    let mut order: Vec<usize> = (0..rows as usize).collect();
    order.sort_by(|&a, &b| scores.score[b].total_cmp(&scores.score[a]));
    let rank = |row: usize| order.iter().position(|&other| other == row).expect("is one of them");
    assert!(
        rank(1500) < 100 && rank(1700) < 100,
        "the planted rows are among the strangest 5 %: {}, {}",
        rank(1500),
        rank(1700)
    );
    for (row, feature) in [(1500, 1), (1700, 2)] {
        let credits: Vec<f32> = scores.attribution.iter().map(|column| column[row]).collect();
        assert!((0..3).all(|other| other == feature || credits[other] < credits[feature]), "row {row}: {credits:?}");
    }
    for row in 0..rows as usize {
        let sum: f32 = scores.attribution.iter().map(|column| column[row]).sum();
        assert!((sum - scores.score[row]).abs() < 1e-4, "attributions add up to the score");
    }
}

/// A sensor that jumps to another level by far more than its noise must be resolved again after a few windows.
#[test]
fn noise_is_seen_again_after_the_level_has_jumped() {
    let forest = forest(ForestParameters { window: 64, ..Default::default() });
    let rows = 2000u32;
    let mut column: Vec<f64> = (0..rows).map(|row| noise(1, row) + if row < 700 { 0.0 } else { 3e9 }).collect();
    column[1900] += 4.0;
    let (scores, _) = run_twin(&forest, &[batch(&vec![0; rows as usize], &[column])]);
    let score = &scores[0].score;
    let greatest = score[1000..].iter().copied().fold(0.0, f32::max);
    assert_eq!(score[1900], greatest);
    assert!(score[1000..1900].iter().sum::<f32>() / 900.0 < 0.6 * greatest, "noise is not all alike");
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) parameters: ForestParameters,
    slots: Vec<u32>,
    columns: Vec<Vec<f64>>,
    cut: usize,
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        20 => -1.0f64..1.0,
        10 => (0i32..5).prop_map(f64::from),
        2 => Just(f64::NAN),
        1 => prop_oneof![Just(f64::INFINITY), Just(1e300), Just(1e-310), Just(-1e30), Just(0.0), Just(-0.0), Just(1e9), Just(f64::MIN_POSITIVE)],
    ]
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    (1u32..5, 1u32..6, 1u32..10, 32u32..80, any::<u32>(), any::<bool>(), 1u32..4, 0usize..600).prop_flat_map(
        |(features, trees, depth, window, seed, attribution, keys, rows)| {
            let parameters = ForestParameters { features, trees, depth, window, seed, attribution };
            let columns = proptest::collection::vec(proptest::collection::vec(value(), rows), features as usize);
            (Just(parameters), proptest::collection::vec(0..keys, rows), columns, 0..=rows)
                .prop_map(|(parameters, slots, columns, cut)| Case { parameters, slots, columns, cut })
        },
    )
}

impl Case {
    pub(crate) fn batches(&self) -> [Features; 2] {
        let part = |rows: std::ops::Range<usize>| {
            let columns: Vec<Vec<f64>> = self.columns.iter().map(|column| column[rows.clone()].to_vec()).collect();
            batch(&self.slots[rows], &columns)
        };
        [part(0..self.cut), part(self.cut..self.slots.len())]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn twin_agrees_with_the_paper(case in case()) {
        let forest = forest(case.parameters.clone());
        let mut naive = NaiveForest::new(forest.clone());
        let batches = case.batches();
        let (scores, state) = run_twin(&forest, &batches);
        for (scores, batch) in scores.iter().zip(&batches) {
            let expected = naive.run(batch);
            assert_near(&scores.score, &expected.score, 2e-3);
            prop_assert_eq!(scores.attribution.len(), expected.attribution.len());
            for (ours, expected) in scores.attribution.iter().zip(&expected.attribution) {
                assert_near(ours, expected, 0.01);
            }
        }
        for slot in 0..case.slots.iter().max().map_or(0, |&slot| slot + 1) {
            let expected = naive.leaf_masses(slot).concat();
            if !expected.is_empty() {
                let words = &state.slot(slot)[case.parameters.table_start()..][..expected.len()];
                let ours: Vec<u32> = words.iter().map(|word| word & 0xFFFF).collect();
                prop_assert_eq!(ours, expected);
            }
        }
    }

    /// How a stream is cut into steps is an accident: scores and state do not depend on it.
    #[test]
    fn cutting_into_batches_changes_nothing(case in case()) {
        let forest = forest(case.parameters.clone());
        let whole = Case { cut: case.slots.len(), ..case.clone() };
        let (scores, state) = run_twin(&forest, &case.batches());
        let (whole_scores, whole_state) = run_twin(&forest, &whole.batches());
        for page in 0..state.page_count() {
            prop_assert_eq!(state.page(page), whole_state.page(page));
        }
        let by_row = |batches: &[Features], scores: &[Scores]| -> Vec<u32> {
            let ungroup = |(batch, scores): (&Features, &Scores)| {
                let mut by_row = vec![0; scores.score.len()];
                batch.rows().order().iter().zip(&scores.score).for_each(|(&row, score)| by_row[row as usize] = score.to_bits());
                by_row
            };
            batches.iter().zip(scores).flat_map(ungroup).collect()
        };
        prop_assert_eq!(by_row(&case.batches(), &scores), by_row(&whole.batches(), &whole_scores));
    }
}

/// Rows that are not learnt are scored and counted in no cell, at any place of a window, while ranges stay and after they have moved.
#[test]
fn rows_that_are_left_out_agree_with_the_paper() {
    let rows = 1500u32;
    let columns: Vec<Vec<f64>> = (0..2)
        .map(|feature| (0..rows).map(|row| noise(feature, row) * if row < 700 { 1.0 } else { 50.0 }).collect())
        .collect();
    let learns: Vec<bool> = (0..rows).map(|row| !matches!(row, 0..=4 | 300..=420 | 650) && row % 7 != 3).collect();
    let forest = forest(ForestParameters { features: 2, window: 64, attribution: true, ..Default::default() });
    let batch = batch(&vec![0; rows as usize], &columns).learning(&learns);
    let (scores, _) = run_twin(&forest, std::slice::from_ref(&batch));
    let expected = NaiveForest::new(forest.clone()).run(&batch);
    assert_near(&scores[0].score, &expected.score, 2e-2);
    assert!(expected.score[301] > 0.0);
    for (ours, expected) in scores[0].attribution.iter().zip(&expected.attribution) {
        assert_near(ours, expected, 2e-2);
    }
}
