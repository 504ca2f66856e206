use super::naive::Naive;
use super::*;
use proptest::prelude::*;

fn recurrences() -> impl Strategy<Value = Recurrence> {
    prop_oneof![
        (0.5f64..200.0).prop_map(|half_life| Recurrence::Ewma { half_life }),
        (0.5f64..200.0, 0.5f64..500.0)
            .prop_map(|(half_life, trend_half_life)| Recurrence::Holt { half_life, trend_half_life }),
        (0.5f64..200.0, 0.0f64..2.0, 1.0f64..20.0).prop_map(|(half_life, drift, residual_limit)| Recurrence::Cusum {
            half_life,
            drift,
            residual_limit
        }),
    ]
}

fn values() -> impl Strategy<Value = f64> {
    prop_oneof![
        12 => -100.0f64..100.0,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(1e300),
        1 => Just(0.0),
        1 => Just(5e-324),
    ]
}

/// Keys, some hot and some rare.
fn slots() -> impl Strategy<Value = u32> {
    prop_oneof![2 => 0u32..40, 1 => Just(7), 1 => 30_000u32..30_004]
}

pub(super) fn run(kernel: &RecurrenceScan, state: &mut StatePages, rows: &[(u32, f64)]) -> Vec<f32> {
    let slots: Vec<u32> = rows.iter().map(|row| row.0).collect();
    let values: Vec<f64> = rows.iter().map(|row| row.1).collect();
    let slot_count = slots.iter().max().map_or(0, |&slot| slot as usize + 1);
    let grouped = Arc::new(GroupedRows::group(&slots, slot_count));
    let batch = Batch::gather(grouped.clone(), &values);
    state.grow(kernel.slot_count(&batch));
    let scores = kernel.run_twin(&batch, state);
    let mut arrived = vec![0.0; rows.len()];
    grouped.order().iter().zip(scores).for_each(|(&row, score)| arrived[row as usize] = score);
    arrived
}

fn close(left: f32, right: f64) -> bool {
    (left.is_nan() && right.is_nan()) || (f64::from(left) - right).abs() <= 1e-4 + 1e-4 * right.abs()
}

proptest! {
    /// The fast loops score what the books say, for keys in lanes and alone, through warm-up and missing values.
    #[test]
    fn twin_agrees_with_naive(
        recurrence in recurrences(), min_training in 0u32..8, rows in proptest::collection::vec((slots(), values()), 0..600)
    ) {
        let config = Config { min_training, ..Config::new(recurrence) };
        let kernel = RecurrenceScan::new(config).unwrap();
        let (mut state, mut naive) = (StatePages::new(kernel.state_shape()), Naive::new(config));
        let scores = run(&kernel, &mut state, &rows);
        for (index, &(slot, value)) in rows.iter().enumerate() {
            let expected = naive.score(slot, value);
            prop_assert!(close(scores[index], expected), "row {index} of key {slot}: {} for {expected}", scores[index]);
        }
    }

    /// How rows are cut into steps is an accident of the source: it never shows, not in the last bit.
    #[test]
    fn scores_do_not_depend_on_batching(
        recurrence in recurrences(), min_training in 0u32..8, rows in proptest::collection::vec((slots(), values()), 1..400),
        batch_rows in 1usize..100
    ) {
        let kernel = RecurrenceScan::new(Config { min_training, ..Config::new(recurrence) }).unwrap();
        let (mut whole, mut cut) = (StatePages::new(kernel.state_shape()), StatePages::new(kernel.state_shape()));
        let expected: Vec<u32> = run(&kernel, &mut whole, &rows).iter().map(|score| score.to_bits()).collect();
        let scores: Vec<u32> = rows.chunks(batch_rows).flat_map(|rows| run(&kernel, &mut cut, rows)).map(f32::to_bits).collect();
        prop_assert_eq!(scores, expected);
        for &(slot, _) in &rows {
            prop_assert_eq!(whole.slot(slot), cut.slot(slot));
        }
    }

    /// The mean and the variance are those of all rows so far, each weighing less by age: worked out from the weights themselves.
    #[test]
    fn ewma_is_a_weighted_mean_and_variance(half_life in 0.5f64..50.0, values in proptest::collection::vec(-50.0f64..50.0, 1..60)) {
        let mut naive = Naive::new(Config::new(Recurrence::Ewma { half_life }));
        let mut weights: Vec<f64> = Vec::new();
        for (n, &value) in values.iter().enumerate() {
            naive.score(0, value);
            let gain = gain_of_half_life(half_life).max(1.0 / (n as f64 + 1.0));
            weights.iter_mut().for_each(|weight| *weight *= 1.0 - gain);
            weights.push(gain);
        }
        let mean: f64 = weights.iter().zip(&values).map(|(weight, value)| weight * value).sum();
        let variance: f64 = weights.iter().zip(&values).map(|(weight, value)| weight * (value - mean).powi(2)).sum();
        let known = naive.mean_and_variance(0);
        prop_assert!((known.0 - mean).abs() < 1e-9 && (known.1 - variance).abs() < 1e-8, "{known:?} for {mean}, {variance}");
    }
}

/// After ten 0 and ten 2 a mean is 1 and a variance 1, so 5 is 4 standard deviations away.
#[test]
fn ewma_scores_standard_deviations_from_the_mean() {
    let config = Config { min_training: 20, variance_floor: 1e-12, ..Config::new(Recurrence::Ewma { half_life: 1e6 }) };
    let kernel = RecurrenceScan::new(config).unwrap();
    let mut rows: Vec<(u32, f64)> = (0..20).map(|row| (0, f64::from(row % 2) * 2.0)).collect();
    rows.push((0, 5.0));
    let scores = run(&kernel, &mut StatePages::new(kernel.state_shape()), &rows);
    assert!(scores[..20].iter().all(|&score| score == 0.0), "{scores:?}");
    assert!((scores[20] - 4.0).abs() < 1e-5, "{scores:?}");
}

/// A line is no news to Holt from its third row on; a break of it is.
#[test]
fn holt_follows_a_line() {
    let config = Config { min_training: 3, ..Config::new(Recurrence::Holt { half_life: 5.0, trend_half_life: 20.0 }) };
    let kernel = RecurrenceScan::new(config).unwrap();
    let mut rows: Vec<(u32, f64)> = (0..50).map(|row| (3, 1e6 + 7.0 * f64::from(row))).collect();
    rows.push((3, 1e6));
    let scores = run(&kernel, &mut StatePages::new(kernel.state_shape()), &rows);
    // The second row's residual is the whole slope: it fades out of the variance, and is all that a line leaves.
    assert!(scores[3..50].iter().all(|&score| score < 1e-3), "{scores:?}");
    assert!(scores[50] > 100.0, "{scores:?}");
}

/// A shift of one standard deviation, which no single row shows, adds up; a wild row alone does not go over the limit.
#[test]
fn cusum_adds_up_a_small_shift() {
    let recurrence = Recurrence::Cusum { half_life: 10_000.0, drift: 0.5, residual_limit: 4.0 };
    let kernel = RecurrenceScan::new(Config { min_training: 1000, ..Config::new(recurrence) }).unwrap();
    let noise = |row: u32| f64::from(row.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24) * 12f64.sqrt();
    let mut rows: Vec<(u32, f64)> = (0..2000).map(|row| (0, noise(row))).collect();
    rows.push((0, 1e9));
    let wild = rows.len() - 1;
    rows.extend((0..100).map(|row| (1, noise(row))));
    let mut state = StatePages::new(kernel.state_shape());
    let scores = run(&kernel, &mut state, &rows);
    let calm = scores[1000..wild].iter().fold(0f32, |most, &score| most.max(score));
    assert!(calm < 9.0, "{calm}");
    assert!(scores[wild] <= calm + 4.0, "{}", scores[wild]);
    let mut state = StatePages::new(kernel.state_shape());
    run(&kernel, &mut state, &rows[..2000]);
    let shifted: Vec<(u32, f64)> = (2000..2100).map(|row| (0, noise(row) + 1.0)).collect();
    let scores = run(&kernel, &mut state, &shifted);
    assert!(scores[99] > 25.0, "{scores:?}");
}

/// A level of a billion must not swallow a noise of one: scores are those of the same rows around zero.
#[test]
fn a_high_level_keeps_precision() {
    for recurrence in [
        Recurrence::Ewma { half_life: 20.0 },
        Recurrence::Holt { half_life: 20.0, trend_half_life: 100.0 },
        Recurrence::Cusum { half_life: 20.0, drift: 0.5, residual_limit: 8.0 },
    ] {
        let kernel = RecurrenceScan::new(Config { min_training: 3, ..Config::new(recurrence) }).unwrap();
        let noise = |row: u32| f64::from(row.wrapping_mul(2_654_435_761) >> 12) / f64::from(1 << 20);
        let (near, far): (Vec<_>, Vec<_>) = (0..1000).map(|row| ((0, noise(row)), (0, 1e9 + noise(row)))).unzip();
        let near = run(&kernel, &mut StatePages::new(kernel.state_shape()), &near);
        let far = run(&kernel, &mut StatePages::new(kernel.state_shape()), &far);
        for (row, (near, far)) in near.iter().zip(&far).enumerate() {
            assert!((near - far).abs() <= 1e-4 + 1e-5 * near.abs(), "{recurrence:?} row {row}: {near} and {far}");
        }
    }
}

/// A constant series is no anomaly, at any level.
#[test]
fn a_constant_series_scores_zero() {
    for level in [0.0, 0.1, 1e9 + 0.3, -1e18] {
        for recurrence in [
            Recurrence::Ewma { half_life: 3.0 },
            Recurrence::Holt { half_life: 3.0, trend_half_life: 9.0 },
            Recurrence::Cusum { half_life: 3.0, drift: 0.0, residual_limit: 8.0 },
        ] {
            let kernel = RecurrenceScan::new(Config { min_training: 0, ..Config::new(recurrence) }).unwrap();
            let scores = run(&kernel, &mut StatePages::new(kernel.state_shape()), &[(0, level); 100]);
            assert_eq!(scores, [0.0; 100], "{recurrence:?} at {level}");
        }
    }
}

/// A key whose first rows are missing begins with the first one that is not.
#[test]
fn missing_rows_are_not_learnt() {
    let kernel = RecurrenceScan::new(Config { min_training: 1, ..Config::default() }).unwrap();
    let mut state = StatePages::new(kernel.state_shape());
    let scores =
        run(&kernel, &mut state, &[(0, f64::NAN), (0, f64::INFINITY), (0, 5.0), (0, f64::NEG_INFINITY), (0, 5.0)]);
    assert!([0, 1, 3].iter().all(|&row| scores[row].is_nan()), "{scores:?}");
    assert_eq!((scores[2], scores[4], state.slot(0)[word::LEARNT]), (0.0, 0.0, 2));
    let kernel_all_null = run(&kernel, &mut StatePages::new(kernel.state_shape()), &[(0, f64::NAN); 70]);
    assert!(kernel_all_null.iter().all(|score| score.is_nan()));
}

#[test]
fn parameters_out_of_range_are_named() {
    let refuse = |config: Config| RecurrenceScan::new(config).unwrap_err().to_string();
    assert_eq!(
        refuse(Config::new(Recurrence::Ewma { half_life: 0.0 })),
        "`recurrence_scan`: half_life must be between 0.1 and 1000000000, not 0"
    );
    let nan = refuse(Config { variance_floor: f64::NAN, ..Config::default() });
    assert!(nan.contains("variance_floor") && nan.contains("NaN"), "{nan}");
    let holt = refuse(Config::new(Recurrence::Holt { half_life: 1.0, trend_half_life: -1.0 }));
    assert!(holt.contains("trend_half_life"), "{holt}");
}

#[test]
fn settings_are_plain_data() {
    let config = Config::new(Recurrence::Holt { half_life: 2.0, trend_half_life: 3.0 });
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(
        text,
        r#"{"recurrence":"holt","half_life":2.0,"trend_half_life":3.0,"min_training":30,"variance_floor":1e-6}"#
    );
    assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
}
