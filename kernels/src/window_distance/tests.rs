use proptest::prelude::*;

use super::naive::NaiveDistance;
pub(crate) use super::testing::{batch, noise};
use super::*;

pub(crate) fn kernel(parameters: DistanceParameters) -> WindowDistance {
    WindowDistance::new(parameters).expect("parameters of tests are in range")
}

pub(crate) fn run_twin(kernel: &WindowDistance, batches: &[Features]) -> (Vec<Scores>, StatePages) {
    let mut state = StatePages::new(kernel.state_shape());
    let run = |batch| {
        state.grow(kernel.slot_count(batch));
        kernel.run_twin(batch, &mut state)
    };
    (batches.iter().map(run).collect(), state)
}

/// Two scores of windows agree in their correlation: distances near 0 are roots of roundings.
pub(crate) fn assert_near(ours: &[f32], expected: &[f32], window: u32, tolerance: f32) {
    assert_eq!(ours.len(), expected.len());
    for (row, (&ours, &expected)) in ours.iter().zip(expected).enumerate() {
        assert_eq!(ours.is_nan(), expected.is_nan(), "row {row}: {ours} for {expected}");
        let correlation = |distance: f32| distance * distance / (2.0 * window as f32);
        let error = (correlation(ours) - correlation(expected)).abs();
        assert!(ours.is_nan() || error <= tolerance, "row {row}: {ours} for {expected}, correlation off by {error}");
    }
}

fn agrees(parameters: DistanceParameters, values: &[f64], tolerance: f32) {
    let kernel = kernel(parameters);
    let batch = batch(&vec![0; values.len()], values);
    let (scores, _) = run_twin(&kernel, std::slice::from_ref(&batch));
    let expected = NaiveDistance::new(kernel.clone()).run(&batch);
    assert_near(&scores[0].score, &expected.score, kernel.parameters().window, tolerance);
}

#[test]
fn parameters_out_of_range_are_named() {
    let refused = |parameters| WindowDistance::new(parameters).expect_err("is out of range").to_string();
    let defaults = DistanceParameters::default();
    assert_eq!(
        refused(DistanceParameters { history: 10, ..defaults.clone() }),
        "`window_distance`: history must be between 64 and 1000000, not 10"
    );
    assert!(refused(DistanceParameters { flat_span: f32::NAN, ..defaults.clone() }).contains("flat_span"));
    assert!(refused(DistanceParameters { exclusion: Some(3000), ..defaults.clone() }).contains("exclusion"));
    assert!(refused(DistanceParameters { min_training: Some(3000), ..defaults }).contains("min_training"));
}

/// By hand: `0 1 0 1 1 0` with windows of 4. The first that is compared is the fifth row's, with the first window.
#[test]
fn distances_are_those_computed_by_hand() {
    let parameters =
        DistanceParameters { window: 4, history: 8, exclusion: Some(0), min_training: Some(1), ..Default::default() };
    let (scores, _) = run_twin(&kernel(parameters), &[batch(&[0; 6], &[0.0, 1.0, 0.0, 1.0, 1.0, 0.0])]);
    // 0101 and 1011: correlation -1/sqrt(3). 0110: 0 with 0101, -1/sqrt(3) with 1011.
    let expected = [0.0, 0.0, 0.0, 0.0, (8.0f32 * (1.0 + 1.0 / 3f32.sqrt())).sqrt(), 8f32.sqrt()];
    assert_near(&scores[0].score, &expected, 4, 1e-6);
}

#[test]
fn a_shape_that_was_not_there_before_is_the_farthest() {
    let rows = 3000;
    let mut values: Vec<f64> = noise(1, rows)
        .iter()
        .enumerate()
        .map(|(row, noise)| 1e9 + 10.0 * (row as f64 * 0.21).sin() + 0.5 * noise)
        .collect();
    (2500..2530).for_each(|row| values[row] = 1e9 + 10.0 * ((row as f64) * 0.63).sin());
    let (scores, _) = run_twin(&kernel(DistanceParameters::default()), &[batch(&vec![0; rows], &values)]);
    let score = &scores[0].score;
    let greatest = (200..rows).max_by(|&a, &b| score[a].total_cmp(&score[b])).expect("has rows");
    assert!((2500..2562).contains(&greatest), "{greatest}");
    assert!(score[200..2500].iter().all(|&other| other < 0.5 * score[greatest]));
}

/// Two flat windows are alike, a flat one is as far from others as noise is.
#[test]
fn flat_windows_follow_the_convention() {
    let parameters = DistanceParameters { window: 8, history: 64, min_training: Some(1), ..Default::default() };
    let mut values = noise(2, 40);
    values.extend([5.0; 30]);
    values.extend(noise(3, 40));
    agrees(parameters.clone(), &values, 1e-4);
    let (scores, _) = run_twin(&kernel(parameters), &[batch(&vec![0; values.len()], &values)]);
    assert!((scores[0].score[47] - 8f32.sqrt()).abs() < 1e-6, "the first flat window");
    assert_eq!(scores[0].score[60], 0.0, "a flat window after others");
    assert!(scores[0].score[85..].iter().all(|&score| score <= 8f32.sqrt()), "a flat window is near enough to all");
}

/// Roundings must not add up: a long series, with a level that moves by far more than its noise, and a history shorter than it.
#[test]
fn drift_stays_bounded_over_a_long_series() {
    let rows = 10_000;
    let mut level = 1e6;
    let series: Vec<f64> = noise(4, rows)
        .iter()
        .zip(noise(5, rows))
        .enumerate()
        .map(|(row, (noise, step))| {
            level += 3.0 * step;
            level + 20.0 * (row as f64 * 0.07).sin() + noise
        })
        .collect();
    agrees(DistanceParameters { window: 16, history: 300, refresh: 128, ..Default::default() }, &series, 1e-4);
}

/// Spikes, single ones and series that ring out, leave nothing behind.
#[test]
fn what_a_spike_rounds_away_is_computed_anew() {
    let mut values = noise(7, 1500);
    for (row, height) in [(400, 1e4), (640, -1e9), (700, 1e14)] {
        values[row] += height;
    }
    (0..60).for_each(|step| values[1000 + step] += 1e8 * 0.6f64.powi(step as i32));
    agrees(DistanceParameters { window: 16, history: 400, refresh: 1000, ..Default::default() }, &values, 1e-4);
}

/// A sensor that jumps by far more than its noise: the base follows, and afterwards the noise has its digits again.
#[test]
fn noise_is_compared_again_after_the_level_has_jumped() {
    let rows = 2000;
    let series: Vec<f64> =
        noise(6, rows).iter().enumerate().map(|(row, noise)| noise + if row < 900 { 0.0 } else { 2e9 }).collect();
    let kernel = kernel(DistanceParameters { window: 8, history: 100, refresh: 64, ..Default::default() });
    let batch = batch(&vec![0; rows], &series);
    let (scores, _) = run_twin(&kernel, std::slice::from_ref(&batch));
    let expected = NaiveDistance::new(kernel).run(&batch);
    assert_near(&scores[0].score[..900], &expected.score[..900], 8, 1e-5);
    assert_near(&scores[0].score[1400..], &expected.score[1400..], 8, 1e-4);
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) parameters: DistanceParameters,
    pub(crate) slots: Vec<u32>,
    pub(crate) values: Vec<f64>,
    pub(crate) cut: usize,
}

pub(crate) fn case(rows_max: usize) -> impl Strategy<Value = Case> {
    let value = prop_oneof![
        20 => -1.0f64..1.0,
        10 => (0i32..3).prop_map(f64::from),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(1e300), Just(-0.0), Just(50.0), Just(1e6), Just(-1e35)],
    ];
    let parameters = (4u32..20, 0u32..200, proptest::option::of(0u32..8), 16u32..200);
    (parameters, 1u32..4, 0..rows_max, prop_oneof![Just(0.0), Just(1e9)]).prop_flat_map(
        move |(parameters, keys, rows, level)| {
            let (window, history, exclusion, refresh) = parameters;
            let history = 2 * window + history;
            let parameters = DistanceParameters {
                window,
                history,
                exclusion,
                refresh,
                min_training: Some(1 + window / 2),
                flat_span: 0.0,
            };
            // The first value of a key is its base for a while, so it is an ordinary one.
            let series = move |values: Vec<f64>| -> Vec<f64> {
                let ordinary = |row: usize, value: f64| if row < 24 { value.clamp(-1.0, 2.0) } else { value };
                values.iter().enumerate().map(|(row, &value)| ordinary(row, value) + level).collect()
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
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn twin_agrees_with_the_definition(case in case(600)) {
        let kernel = kernel(case.parameters.clone());
        let mut naive = NaiveDistance::new(kernel.clone());
        let batches = case.batches();
        let (scores, _) = run_twin(&kernel, &batches);
        for (scores, batch) in scores.iter().zip(&batches) {
            assert_near(&scores.score, &naive.run(batch).score, case.parameters.window, CORRELATION_ERROR_MAX);
        }
    }

    /// How a stream is cut into steps is an accident: scores and state do not depend on it.
    #[test]
    fn cutting_into_batches_changes_nothing(case in case(600)) {
        let kernel = kernel(case.parameters.clone());
        let whole = Case { cut: case.slots.len(), ..case.clone() };
        let (_, state) = run_twin(&kernel, &case.batches());
        let (_, whole_state) = run_twin(&kernel, &whole.batches());
        for page in 0..state.page_count() {
            prop_assert!(state.page(page) == whole_state.page(page));
        }
    }
}

/// Windows that are not learnt are compared with others and others not with them: also a spike, flat ones, and more of them than there is history.
#[test]
fn windows_that_are_left_out_agree_with_the_definition() {
    let mut values = noise(11, 1500);
    values[505] = 1e9;
    values[505 + 3] = 40.0;
    values[900..960].fill(2.5);
    let learns: Vec<bool> =
        (0..values.len()).map(|row| !matches!(row, 500..=530 | 700 | 905..=940 | 1000..=1180)).collect();
    let parameters = DistanceParameters { window: 12, history: 150, min_training: Some(20), ..Default::default() };
    let kernel = kernel(parameters);
    let batches: Vec<Features> = [0..503, 503..504, 504..1100, 1100..1500]
        .map(|rows: std::ops::Range<usize>| batch(&vec![0; rows.len()], &values[rows.clone()]).learning(&learns[rows]))
        .into();
    let (scores, _) = run_twin(&kernel, &batches);
    let mut naive = NaiveDistance::new(kernel.clone());
    for (ours, batch) in scores.iter().zip(&batches) {
        assert_near(&ours.score, &naive.run(batch).score, 12, 1e-4);
    }
    assert!(scores[2].score[1050 - 504] > 0.0 && scores[3].score[1165 - 1100] == 0.0, "its history is used up");
}
