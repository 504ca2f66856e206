use proptest::prelude::*;

use super::naive::NaiveSubspace;
use super::*;
use crate::window_distance::testing::{batch, noise};

pub(crate) fn kernel(parameters: SubspaceParameters) -> SubspaceScore {
    SubspaceScore::new(parameters).expect("parameters of tests are in range")
}

pub(crate) fn run_twin(kernel: &SubspaceScore, batches: &[Features]) -> (Vec<Scores>, StatePages) {
    let mut state = StatePages::new(kernel.state_shape());
    let run = |batch| {
        state.grow(kernel.slot_count(batch));
        kernel.run_twin(batch, &mut state)
    };
    (batches.iter().map(run).collect(), state)
}

pub(crate) fn assert_near(ours: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), expected.len());
    for (row, (&ours, &expected)) in ours.iter().zip(expected).enumerate() {
        assert_eq!(ours.is_nan(), expected.is_nan(), "row {row}: {ours} for {expected}");
        assert!(
            ours.is_nan() || (ours - expected).abs() <= tolerance * (1.0 + expected.abs()),
            "row {row}: {ours} for {expected}"
        );
    }
}

fn score(parameters: SubspaceParameters, values: &[f64]) -> Vec<f32> {
    run_twin(&kernel(parameters), &[batch(&vec![0; values.len()], values)]).0.remove(0).score
}

const MODELS: [Model; 2] = [Model::Subspace, Model::Centroids];

#[test]
fn parameters_out_of_range_are_named() {
    let refused = |parameters| SubspaceScore::new(parameters).expect_err("is out of range").to_string();
    let error = refused(SubspaceParameters { window: 4, components: 4, ..Default::default() });
    assert_eq!(error, "`subspace_score`: components must be between 1 and 3, not 4");
    assert!(refused(SubspaceParameters { half_life: f32::NAN, ..Default::default() }).contains("half_life"));
}

/// By hand: with one component, the first window is the component; the second is compared with it.
#[test]
fn the_second_window_is_measured_by_the_first() {
    let parameters = SubspaceParameters { window: 4, components: 1, min_training: Some(1), ..Default::default() };
    let values = [1.0, 0.0, 1.0, 0.0, 0.0];
    // (1, -1, 1, -1) / 2 and (-1/4, 3/4, -1/4, -1/4) / sqrt(3/4): their product is -1 / sqrt(12) * 2.
    let product: f32 = -0.5 / 0.75f32.sqrt();
    assert_near(&score(parameters.clone(), &values), &[0.0, 0.0, 0.0, 0.0, (1.0 - product * product).sqrt()], 1e-6);
    let parameters = SubspaceParameters { model: Model::Centroids, ..parameters };
    assert_near(&score(parameters, &values), &[0.0, 0.0, 0.0, 0.0, (2.0 - 2.0 * product).sqrt()], 1e-6);
}

/// A wave that is always there is explained; one of another shape is not, even around a large value.
#[test]
fn a_shape_that_was_not_there_before_stands_out() {
    for (model, components) in [(Model::Subspace, 4), (Model::Centroids, 16)] {
        let rows = 4000;
        let mut values: Vec<f64> = noise(1, rows)
            .iter()
            .enumerate()
            .map(|(row, noise)| 1e9 + 10.0 * (row as f64 * 0.2).sin() + 0.3 * noise)
            .collect();
        (3500..3540).for_each(|row| values[row] = 1e9 + 10.0 * (row as f64 * 1.1).sin());
        let score = score(SubspaceParameters { model, components, ..Default::default() }, &values);
        let greatest = (300..rows).max_by(|&a, &b| score[a].total_cmp(&score[b])).expect("has rows");
        assert!((3500..3572).contains(&greatest), "{model:?}: {greatest}");
        let usual = score[1000..3500].iter().copied().fold(0.0, f32::max);
        assert!(usual < 0.7 * score[greatest], "{model:?}: {usual}, {}", score[greatest]);
    }
}

#[test]
fn a_sensor_that_is_stuck_for_the_first_time_stands_out() {
    for model in MODELS {
        let mut values = noise(3, 600);
        values.extend([0.25; 64]);
        let score = score(SubspaceParameters { window: 16, model, ..Default::default() }, &values);
        assert_eq!(score[615], 1.0, "the first flat window");
        assert!(score[663] < score[615], "after a while it is known");
    }
}

/// In units of the value a shape counts by its size.
#[test]
fn scores_in_units_grow_with_the_amplitude() {
    let small = noise(4, 1000);
    let large: Vec<f64> = small.iter().map(|value| value * 1000.0).collect();
    for model in MODELS {
        let of = |scale, values: &[f64]| score(SubspaceParameters { model, scale, ..Default::default() }, values);
        assert_near(&of(Scale::Shape, &large), &of(Scale::Shape, &small), 1e-3);
        let expected: Vec<f32> = of(Scale::Value, &small).iter().map(|score| score * 1000.0).collect();
        assert_near(&of(Scale::Value, &large), &expected, 1e-3);
    }
}

/// A sensor that jumps by far more than its noise: the base follows, and the shape of the noise is seen again.
#[test]
fn noise_has_its_shape_again_after_the_level_has_jumped() {
    let rows = 1500;
    let wave: Vec<f64> =
        noise(5, rows).iter().enumerate().map(|(row, noise)| (row as f64 * 0.3).sin() + 0.1 * noise).collect();
    let series: Vec<f64> =
        wave.iter().enumerate().map(|(row, value)| value + if row < 700 { 0.0 } else { 3e9 }).collect();
    let score = score(SubspaceParameters { window: 16, ..Default::default() }, &series);
    assert!(score[700] > 0.5, "the jump");
    assert!(score[1000..].iter().all(|&score| score < 0.5) && score[1000..].iter().any(|&score| score > 0.01));
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) parameters: SubspaceParameters,
    pub(crate) slots: Vec<u32>,
    pub(crate) values: Vec<f64>,
    pub(crate) cut: usize,
}

pub(crate) fn case(rows_max: usize) -> impl Strategy<Value = Case> {
    let value = prop_oneof![
        20 => -1.0f64..1.0,
        5 => Just(0.5),
        1 => prop_oneof![Just(f64::NAN), Just(f64::NEG_INFINITY), Just(1e300), Just(-0.0), Just(30.0)],
    ];
    let models = prop_oneof![Just(Model::Subspace), Just(Model::Centroids)];
    let scales = prop_oneof![Just(Scale::Shape), Just(Scale::Value)];
    let parameters = (4u32..40, 1u32..4, models, scales, 10.0f32..1000.0);
    (parameters, 1u32..4, 0..rows_max, prop_oneof![Just(0.0), Just(1e9)]).prop_flat_map(
        move |(parameters, keys, rows, level)| {
            let (window, components, model, scale, half_life) = parameters;
            let min_training = Some(window);
            let parameters =
                SubspaceParameters { window, components, model, scale, half_life, min_training, flat_span: 0.0 };
            // A wave below the noise, so that components are told apart.
            let series = move |values: Vec<f64>| {
                values
                    .iter()
                    .enumerate()
                    .map(|(row, value)| {
                        level + value + 2.0 * (row as f64 * 0.4).sin() * f64::from(u8::from(*value != 0.5))
                    })
                    .collect::<Vec<f64>>()
            };
            let values = proptest::collection::vec(value.clone(), rows).prop_map(series);
            (Just(parameters), proptest::collection::vec(0..keys, rows), values, 0..=rows)
                .prop_map(|(parameters, slots, values, cut)| Case { parameters, slots, values, cut })
        },
    )
}

impl Case {
    pub(crate) fn batches(&self) -> [Features; 2] {
        let part = |rows: std::ops::Range<usize>| batch(&self.slots[rows.clone()], &self.values[rows]);
        [part(0..self.cut), part(self.cut..self.slots.len())]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn twin_agrees_with_the_models_in_f64(case in case(500)) {
        let kernel = kernel(case.parameters.clone());
        let mut naive = NaiveSubspace::new(kernel.clone());
        let batches = case.batches();
        let (scores, _) = run_twin(&kernel, &batches);
        for (scores, batch) in scores.iter().zip(&batches) {
            assert_near(&scores.score, &naive.run(batch).score, 1e-3);
        }
    }

    /// How a stream is cut into steps is an accident: scores and state do not depend on it.
    #[test]
    fn cutting_into_batches_changes_nothing(case in case(500)) {
        let kernel = kernel(case.parameters.clone());
        let whole = Case { cut: case.slots.len(), ..case.clone() };
        let (_, state) = run_twin(&kernel, &case.batches());
        let (_, whole_state) = run_twin(&kernel, &whole.batches());
        for page in 0..state.page_count() {
            prop_assert!(state.page(page) == whole_state.page(page));
        }
    }
}

/// Windows that are not learnt are scored by the model as it was, in the midst of others and before there is any.
#[test]
fn windows_that_are_left_out_agree_with_the_books() {
    for model in MODELS {
        let values: Vec<f64> =
            noise(6, 900).iter().zip(0..).map(|(noise, row)| (f64::from(row) * 0.3).sin() + 0.2 * noise).collect();
        let learns: Vec<bool> =
            (0..values.len()).map(|row| !matches!(row, 0..=4 | 20..=60 | 500 | 600..=650)).collect();
        let kernel = kernel(SubspaceParameters { window: 16, components: 3, model, ..Default::default() });
        let batch = batch(&vec![0; values.len()], &values).learning(&learns);
        let (scores, _) = run_twin(&kernel, std::slice::from_ref(&batch));
        assert_near(&scores[0].score, &NaiveSubspace::new(kernel.clone()).run(&batch).score, 1e-3);
    }
}
