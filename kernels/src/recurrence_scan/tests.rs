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

    /// A hot key goes through loops of its own, tile by tile: with all values there and with some missing, in one step and in many, it scores
    /// what the books say, and the same to the bit however it is cut.
    #[test]
    fn a_hot_key_is_scored_as_any(
        recurrence in recurrences(), min_training in 0u32..40, missing in 0u32..3, seed in 0u32..1000, rows in 250usize..1600,
        batch_rows in 1usize..700
    ) {
        let value = |row: u32| {
            let random = (row ^ seed).wrapping_mul(2_654_435_761) ^ (row.wrapping_mul(40_503) >> 3);
            match (missing, random % 97) {
                // None, now and then one, and a tile without any.
                (1, 0) => f64::INFINITY,
                (2, _) if row / 256 == 1 => f64::NAN,
                _ => 50.0 + f64::from(random >> 8) / f64::from(1 << 20),
            }
        };
        let rows: Vec<(u32, f64)> = (0..rows as u32).map(|row| (0, value(row))).collect();
        let config = Config { min_training, ..Config::new(recurrence) };
        let kernel = RecurrenceScan::new(config).unwrap();
        let (mut whole, mut cut) = (StatePages::new(kernel.state_shape()), StatePages::new(kernel.state_shape()));
        let scores = run(&kernel, &mut whole, &rows);
        let pieces = rows.chunks(batch_rows).flat_map(|rows| run(&kernel, &mut cut, rows));
        let mut naive = Naive::new(config);
        for (row, (score, piece)) in scores.iter().zip(pieces).enumerate() {
            prop_assert_eq!(score.to_bits(), piece.to_bits(), "row {}", row);
            let expected = naive.score(0, rows[row].1);
            prop_assert!(close(*score, expected), "row {row}: {score} for {expected}");
        }
        prop_assert_eq!(whole.slot(0), cut.slot(0));
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
        r#"{"recurrence":"holt","half_life":2.0,"trend_half_life":3.0,"min_training":30,"variance_floor":1e-18}"#
    );
    assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
}

#[cfg(feature = "gpu")]
mod device {
    use super::*;
    use crate::device::testing::{shared_test_device, test_device, test_options};
    use crate::device::validation::{assert_constants_agree, assert_registered};
    use crate::device::{Access, Binding, DeviceOptions, Dispatch, Program, SharedDevice};
    use crate::placed::{Placed, PlacedOptions};
    use crate::recurrence_scan::gpu;
    use std::sync::OnceLock;
    use std::time::Duration;

    /// Why a test did not run on the device is in its output.
    fn loud() -> PlacedOptions {
        PlacedOptions { on_event: Arc::new(|event| println!("{event}")), ..PlacedOptions::default() }
    }

    fn device() -> Option<&'static SharedDevice> {
        static DEVICE: OnceLock<Option<SharedDevice>> = OnceLock::new();
        // Many waves of several tests may wait for one another where a CPU computes them.
        let options = DeviceOptions { timeout: Duration::from_secs(120), ..test_options() };
        DEVICE.get_or_init(|| shared_test_device(&options)).as_ref()
    }

    fn batch_of(rows: &[(u32, f64)]) -> Arc<Batch> {
        let slots: Vec<u32> = rows.iter().map(|row| row.0).collect();
        let values: Vec<f64> = rows.iter().map(|row| row.1).collect();
        let slot_count = slots.iter().max().map_or(0, |&slot| slot as usize + 1);
        Arc::new(Batch::gather(Arc::new(GroupedRows::group(&slots, slot_count)), &values))
    }

    /// Runs steps on both sides and compares scores by the kernel's tolerance, and how much was learnt exactly.
    fn assert_close(config: Config, piece_rows: usize, steps: &[&[(u32, f64)]]) {
        let Some(device) = device() else { return };
        let mut kernel = RecurrenceScan::new(config).unwrap();
        kernel.piece_rows = piece_rows;
        let Exactness::Tolerance { relative, absolute } = kernel.exactness() else { panic!("floats") };
        let mut state = StatePages::new(kernel.state_shape());
        let mut placed = Placed::new(Arc::new(kernel.clone()), loud());
        placed.move_to_device(device).expect("a device");
        for (step, rows) in steps.iter().enumerate() {
            let batch = batch_of(rows);
            state.grow(kernel.slot_count(&batch));
            let (scores, expected) = (placed.run(batch.clone()), kernel.run_twin(&batch, &mut state));
            assert_eq!(scores.len(), expected.len());
            for (row, (score, expected)) in scores.iter().zip(&expected).enumerate() {
                let close = (score.is_nan() && expected.is_nan())
                    || (score - expected).abs() <= relative * expected.abs() + absolute;
                assert!(close, "{config:?}: step {step}, row {row}: {score} for {expected}");
            }
        }
        assert_eq!(placed.metrics().device_batches, steps.len() as u64, "ran on the device");
        placed.sync();
        for rows in steps {
            for &(slot, _) in *rows {
                let (words, expected) = (placed.state().slot(slot), state.slot(slot));
                assert_eq!(
                    words[word::LEARNT..word::MEAN],
                    expected[word::LEARNT..word::MEAN],
                    "count and base of {slot}"
                );
            }
        }
    }

    #[test]
    fn shader_and_rust_agree_on_constants() {
        let constants = [
            ("WORKGROUP_SIZE", f64::from(gpu::WORKGROUP_SIZE)),
            ("MEMBER_ROWS_MAX", f64::from(gpu::MEMBER_ROWS_MAX)),
            ("PITCH", f64::from(gpu::MEMBER_ROWS_MAX + 1)),
            ("PIECE_WORDS", gpu::PIECE_WORDS as f64),
            ("FLAG_FIRST", f64::from(gpu::FLAG_FIRST)),
            ("FLAG_LAST", f64::from(gpu::FLAG_LAST)),
            ("FLAG_LEARNS", f64::from(gpu::FLAG_LEARNS)),
            ("HOLT", f64::from(gpu::HOLT)),
            ("CUSUM", f64::from(gpu::CUSUM)),
            ("SQUARE_MAX", f64::from(3e38f32)),
            ("NEVER", f64::from(-3e38f32)),
            ("WORD_LEARNT", word::LEARNT as f64),
            ("WORD_BASE", word::BASE as f64),
            ("WORD_MEAN", word::MEAN as f64),
            ("WORD_VARIANCE", word::VARIANCE as f64),
            ("WORD_EXTRA", word::EXTRA as f64),
            ("CARRY_LEARNT", f64::from(gpu::CARRY_LEARNT)),
            ("CARRY_MEAN", f64::from(gpu::CARRY_LEARNT + 1)),
            ("CARRY_MEAN_REST", f64::from(gpu::CARRY_LEARNT + 2)),
            ("CARRY_TREND", f64::from(gpu::CARRY_LEARNT + 3)),
            ("CARRY_VARIANCE", f64::from(gpu::CARRY_LEARNT + 4)),
            ("CARRY_RISE", f64::from(gpu::CARRY_LEARNT + 5)),
            ("CARRY_FALL", f64::from(gpu::CARRY_LEARNT + 6)),
            ("TO_SCORE", 0.0),
            ("TO_MAP", 1.0),
            ("TO_MAP_RESIDUALS", 2.0),
        ];
        assert_constants_agree(&gpu::RECURRENCE_SCAN, &constants);
        assert_registered(&gpu::RECURRENCE_SCAN);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// A query scores the same wherever it runs, within the tolerance, keys cut into pieces or not.
        #[test]
        fn device_agrees_with_twin(
            recurrence in recurrences(), min_training in 2u32..8, rows in proptest::collection::vec((slots(), values()), 1..600),
            piece_rows in 1usize..100, batch_rows in 50usize..600
        ) {
            // A floor that is not small beside the values: f32 holds a value to 1e-7 of its distance from the origin, and the score
            // divides that by the deviation.
            let config = Config { min_training, variance_floor: 1.0, ..Config::new(recurrence) };
            assert_close(config, piece_rows, &rows.chunks(batch_rows).collect::<Vec<_>>());
        }
    }

    const ALL: [Recurrence; 3] = [
        Recurrence::Ewma { half_life: 50.0 },
        Recurrence::Holt { half_life: 20.0, trend_half_life: 100.0 },
        Recurrence::Cusum { half_life: 50.0, drift: 0.5, residual_limit: 6.0 },
    ];

    fn noise(row: u32) -> f64 {
        f64::from(row.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 22)
    }

    /// Sizes around workgroups and pages; one key, many keys, skew.
    #[test]
    fn sizes_at_the_edges_agree() {
        for recurrence in ALL {
            let config = Config { min_training: 5, ..Config::new(recurrence) };
            for count in [0u32, 1, 63, 64, 65, 255, 256, 257, 65_535, 65_536, 65_537] {
                for keys in [1, 3, 100_000] {
                    let rows: Vec<(u32, f64)> =
                        (0..count).map(|row| (row.wrapping_mul(7919) % keys, noise(row))).collect();
                    assert_close(config, gpu::PIECE_ROWS, &[&rows, &rows[..rows.len().min(300)]]);
                }
            }
            let skewed: Vec<(u32, f64)> =
                (0..30_000).map(|row| (if row % 7 < 6 { 65_535 } else { row % 500 }, noise(row))).collect();
            assert_close(config, 32, &[&skewed]);
        }
    }

    /// What one side has learnt the other goes on with: a state that moves at each step scores as one that stays. Holt's has a slope.
    #[test]
    fn a_state_goes_on_at_the_other_side() {
        let Some(device) = device() else { return };
        for recurrence in ALL {
            let kernel = RecurrenceScan::new(Config { min_training: 5, ..Config::new(recurrence) }).unwrap();
            let Exactness::Tolerance { relative, absolute } = kernel.exactness() else { panic!("floats") };
            let mut placed = Placed::new(Arc::new(kernel.clone()), loud());
            let mut state = StatePages::new(kernel.state_shape());
            let rows: Vec<(u32, f64)> =
                (0..3000).map(|row| (row % 3, 500.0 + noise(row) + f64::from(row) * 25.0)).collect();
            for (step, rows) in rows.chunks(250).enumerate() {
                if step % 2 == 1 {
                    placed.move_to_device(device).expect("a device");
                } else {
                    placed.move_to_cpu();
                }
                let batch = batch_of(rows);
                state.grow(kernel.slot_count(&batch));
                let (scores, expected) = (placed.run(batch.clone()), kernel.run_twin(&batch, &mut state));
                for (row, (score, expected)) in scores.iter().zip(&expected).enumerate() {
                    let off = (score - expected).abs();
                    assert!(
                        off <= relative * expected.abs() + absolute,
                        "{recurrence:?}: step {step}, row {row}: {score} for {expected}"
                    );
                }
            }
            assert_eq!(placed.metrics().device_batches, 6, "every other step ran on the device");
        }
    }

    /// A level of a billion, where f32 alone holds no digit behind the point; and one that moves from step to step.
    #[test]
    fn a_high_level_keeps_precision_on_the_device() {
        for recurrence in ALL {
            let config = Config { min_training: 5, ..Config::new(recurrence) };
            let rows: Vec<(u32, f64)> =
                (0..3000).map(|row| (row % 2, 1e9 + noise(row) + f64::from(row) * 10.0)).collect();
            assert_close(config, 100, &rows.chunks(700).collect::<Vec<_>>());
        }
    }

    /// A level that changes within a step by far more than the noise must leave the noise its digits, keys cut into pieces or not.
    #[test]
    fn a_level_that_changes_within_a_step_keeps_precision() {
        for recurrence in [
            Recurrence::Ewma { half_life: 50.0 },
            Recurrence::Cusum { half_life: 50.0, drift: 0.5, residual_limit: 6.0 },
        ] {
            let config = Config { min_training: 5, ..Config::new(recurrence) };
            let level = |row: u32| if (40..80).contains(&(row / 10)) { 7.0 } else { 1e6 };
            let rows: Vec<(u32, f64)> = (0..2400).map(|row| (row % 3, level(row) + noise(row))).collect();
            // Steps of which a key has a few rows of each level.
            assert_close(config, gpu::PIECE_ROWS, &rows.chunks(17).collect::<Vec<_>>());
            assert_close(config, 16, &[&rows]);
        }
        let holt =
            Config { min_training: 5, ..Config::new(Recurrence::Holt { half_life: 20.0, trend_half_life: 100.0 }) };
        let rows: Vec<(u32, f64)> =
            (0..600).map(|row| (row % 3, if row < 300 { 1e6 } else { 7.0 } + noise(row))).collect();
        assert_close(holt, gpu::PIECE_ROWS, &rows.chunks(17).collect::<Vec<_>>());
    }

    /// A wild value must not take the digits of those that come with it, or what comes later is scored wrongly.
    #[test]
    fn a_wild_first_value_is_forgotten_on_the_device_too() {
        let rows: Vec<(u32, f64)> =
            (0..20_000).map(|row| (0, if row == 0 { 1e10 } else { 20.0 + noise(row) })).collect();
        let kernel = RecurrenceScan::new(Config::new(Recurrence::Ewma { half_life: 50.0 })).unwrap();
        let Some(device) = device() else { return };
        let mut placed = Placed::new(Arc::new(kernel.clone()), loud());
        placed.move_to_device(device).expect("a device");
        let (batch, mut state) = (batch_of(&rows), StatePages::new(kernel.state_shape()));
        state.grow(kernel.slot_count(&batch));
        let (scores, expected) = (placed.run(batch.clone()), kernel.run_twin(&batch, &mut state));
        for (row, (score, expected)) in scores.iter().zip(expected).enumerate().skip(10_000) {
            assert!((score - expected).abs() <= 2e-3 * expected.abs() + 2e-3, "row {row}: {score} for {expected}");
        }
    }

    /// A long memory means a small gain, and f32 sums would swallow what a row changes; here the level moves, far from the origin.
    #[test]
    fn a_long_memory_does_not_drift() {
        let value = |row: u32| match row {
            0 => 0.0,
            1..100_000 => 1000.0 + noise(row),
            _ => 1001.0 + noise(row),
        };
        for recurrence in
            [Recurrence::Ewma { half_life: 1e5 }, Recurrence::Cusum { half_life: 1e5, drift: 0.5, residual_limit: 6.0 }]
        {
            let rows: Vec<(u32, f64)> = (0..200_000).map(|row| (0, value(row))).collect();
            // In one piece, and in many.
            for piece_rows in [usize::MAX / 2, gpu::PIECE_ROWS] {
                assert_close(Config::new(recurrence), piece_rows, &[&rows]);
            }
        }
    }

    /// Missing rows only, and values that no number can hold.
    #[test]
    fn missing_and_extreme_values_agree() {
        for recurrence in ALL {
            let config = Config { min_training: 1, ..Config::new(recurrence) };
            let missing = [(0, f64::NAN); 70];
            assert_close(config, 16, &[&missing, &[(0, 5.0), (0, 6.0)], &missing]);
            let extreme = [f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 5e-324, -0.0, 9e18, 1.0];
            let rows: Vec<(u32, f64)> = (0..64).map(|row| (row / 16, extreme[row as usize % extreme.len()])).collect();
            let Some(device) = device() else { return };
            let kernel = RecurrenceScan::new(config).unwrap();
            let mut placed = Placed::new(Arc::new(kernel.clone()), loud());
            placed.move_to_device(device).expect("a device");
            let (batch, mut state) = (batch_of(&rows), StatePages::new(kernel.state_shape()));
            state.grow(kernel.slot_count(&batch));
            let (scores, expected) = (placed.run(batch.clone()), kernel.run_twin(&batch, &mut state));
            for (score, expected) in scores.iter().zip(expected) {
                assert_eq!(score.is_nan(), expected.is_nan(), "{recurrence:?}: {score} for {expected}");
            }
        }
    }

    /// Sums of 64-bit floats in integers are those of the CPU, to the bit.
    #[test]
    fn sums_in_integers_are_right() {
        static SUMS: Program = Program {
            name: "f64",
            source: concat!(
                include_str!("f64.wgsl"),
                "struct Params { count: u32 }
                @group(0) @binding(0) var<uniform> params: Params;
                @group(0) @binding(1) var<storage, read> pairs: array<vec4<u32>>;
                @group(0) @binding(2) var<storage, read_write> sums: array<vec4<u32>>;
                @compute @workgroup_size(64)
                fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                    if id.x >= params.count { return; }
                    let pair = pairs[id.x];
                    let near = f32_of_f64(pair.xy);
                    sums[2u * id.x] = vec4<u32>(f64_add(pair.xy, pair.zw), f64_add(pair.xy, f64_negated(pair.zw)));
                    sums[2u * id.x + 1u] = vec4<u32>(bitcast<u32>(near), 0u, f64_of_f32(near));
                }"
            ),
            storage: &[Access::Read, Access::ReadWrite],
        };
        let Some(device) = test_device() else { return };
        let mut random = 1u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut pairs: Vec<(f64, f64)> = (0..2000)
            .map(|_| {
                let (left, right) = (next() - 0.5, next() - 0.5);
                (left * 10f64.powi((next() * 24.0) as i32 - 6), right * 10f64.powi((next() * 24.0) as i32 - 6))
            })
            .collect();
        for left in
            [0.0, 1.0, -1.0, 1e9, 1.5, 2f64.powi(53), 2f64.powi(53) - 1.0, f64::EPSILON, 2f64.powi(-54), 3e38, 1e-37]
        {
            for right in
                [0.0, 1.0, -1.0, -1e9, 1.0 + f64::EPSILON, 2f64.powi(53), 0.5, f64::EPSILON / 2.0, 2f64.powi(-55)]
            {
                pairs.push((left, right));
            }
        }
        let words: Vec<u32> = pairs
            .iter()
            .flat_map(|(left, right)| [left.to_bits(), right.to_bits()])
            .flat_map(|bits| [bits as u32, (bits >> 32) as u32])
            .collect();
        let mut wave = device.wave().unwrap();
        let (input, output) = (wave.upload(&words), wave.output(pairs.len() * 8));
        wave.dispatch(Dispatch {
            program: &SUMS,
            entry: "main",
            overrides: &[],
            params: &[pairs.len() as u32],
            bindings: &[Binding::Region(&input), Binding::Region(&output)],
            workgroups: pairs.len().div_ceil(64) as u32,
        })
        .unwrap();
        let readback = device.submit(wave).wait().unwrap();
        let f64_at = |words: &[u32]| f64::from_bits(u64::from(words[1]) << 32 | u64::from(words[0]));
        for (words, &(left, right)) in readback.words(&output).chunks_exact(8).zip(&pairs) {
            assert_eq!(f64_at(words), left + right, "{left:e} + {right:e}");
            assert_eq!(f64_at(&words[2..]), left - right, "{left:e} - {right:e}");
            assert_eq!(f32::from_bits(words[4]), left as f32, "{left:e}");
            assert_eq!(f64_at(&words[6..]), f64::from(left as f32), "{left:e}");
        }
    }
}

proptest! {
    /// A row that is not learnt has the score of the books, and what is known stays, in lanes of keys and in one that is hot.
    #[test]
    fn rows_that_are_left_out_agree_with_naive(
        recurrence in recurrences(), min_training in 0u32..8,
        rows in proptest::collection::vec((slots(), values(), any::<bool>()), 0..600)
    ) {
        let config = Config { min_training, ..Config::new(recurrence) };
        let kernel = RecurrenceScan::new(config).unwrap();
        let mut naive = Naive::new(config);
        let slots: Vec<u32> = rows.iter().map(|row| row.0).collect();
        let slot_count = slots.iter().max().map_or(0, |&slot| slot as usize + 1);
        let grouped = Arc::new(GroupedRows::group(&slots, slot_count));
        let values: Vec<f64> = rows.iter().map(|row| row.1).collect();
        let learns: Vec<bool> = grouped.order().iter().map(|row| rows[*row as usize].2).collect();
        let batch = Batch::gather(grouped.clone(), &values).learning(&learns);
        let mut state = StatePages::new(kernel.state_shape());
        state.grow(kernel.slot_count(&batch));
        let scores = kernel.run_twin(&batch, &mut state);
        for (&row, score) in grouped.order().iter().zip(scores) {
            let (slot, value, learns) = rows[row as usize];
            let expected = if learns { naive.score(slot, value) } else { naive.judge(slot, value) };
            prop_assert!(close(score, expected), "row {row} of key {slot}: {score} for {expected}");
        }
    }
}
