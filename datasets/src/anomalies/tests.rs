//! What measures of anomaly scores rely on: labels that are exactly true, and courses that are the same without anomalies.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use proptest::prelude::*;

use super::*;

fn all_specs(length: usize, seed: u64) -> impl Iterator<Item = SeriesSpec> {
    SeriesSpec::pairs().into_iter().map(move |(base, kind)| SeriesSpec { base, anomaly: Some(kind), seed, length })
}

fn make(spec: SeriesSpec) -> LabelledSeries {
    spec.make().expect("a valid spec")
}

/// Every kind that fits a course, at the shortest and at a usual length: rows outside the windows are those of the course, to the
/// bit; the first and the last row of a window, and most in between, are not.
#[test]
fn labels_are_exactly_the_changed_rows() {
    for (length, seed) in [(2_000, 1), (2_000, 2), (7_001, 3)] {
        for spec in all_specs(length, seed) {
            let series = make(spec);
            let plain = make(SeriesSpec { anomaly: None, ..spec });
            let what = format!("{spec:?} {:?}", series.windows);
            assert!(plain.windows.is_empty() && plain.values.len() == length, "{what}");
            assert!((1..=5).contains(&series.windows.len()), "{what}");
            assert!(series.windows[0].start >= length / 3, "{what}");
            assert!(series.windows.is_sorted_by(|a, b| a.end + 32 <= b.start), "{what}");
            assert!(series.values.iter().all(|value| value.is_finite()), "{what}");
            let labels = series.labels();
            let is_changed = |row: usize| series.values[row] != plain.values[row];
            for (row, label) in labels.iter().enumerate() {
                assert!(*label || !is_changed(row), "row {row} of {what}");
            }
            for window in &series.windows {
                assert!(is_changed(window.start) && is_changed(window.end - 1), "{window:?} of {what}");
                let changed = window.clone().filter(|row| is_changed(*row)).count();
                let least = match spec.anomaly.expect("given") {
                    AnomalyKind::DoubleSpike => 2,
                    // Below the limit, and in the same half of a switch, nothing changes.
                    AnomalyKind::CutOff => 1,
                    _ if spec.base == Base::Square || spec.base == Base::Heartbeat => 1,
                    // A count may happen to be what it would have been.
                    _ => window.len().div_ceil(2),
                };
                assert!(changed >= least, "{changed} rows changed in {window:?} of {what}");
            }
        }
    }
}

/// An anomaly that changes rows in their last digits is a label without an anomaly: each kind goes at least as far as the noise.
#[test]
fn anomalies_can_be_seen() {
    for spec in all_specs(6_000, 9) {
        let series = make(spec);
        let plain = make(SeriesSpec { anomaly: None, ..spec });
        let steps: Vec<f64> = plain.values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
        let step = steps.iter().sum::<f64>() / steps.len() as f64;
        for window in &series.windows {
            let far = window.clone().map(|row| (series.values[row] - plain.values[row]).abs()).fold(0.0, f64::max);
            assert!(far > 0.7 * step, "{spec:?}: {far} at {window:?}, mean step {step}");
        }
    }
}

/// Single kinds do what they are named after.
#[test]
fn kinds_do_what_they_say() {
    let series = |base, kind| {
        let spec = SeriesSpec { base, anomaly: Some(kind), seed: 5, length: 8_000 };
        (make(spec), make(SeriesSpec { anomaly: None, ..spec }))
    };
    let (stuck, _) = series(Base::Daily, AnomalyKind::StuckSensor);
    for window in &stuck.windows {
        assert!(stuck.values[window.clone()].iter().all(|value| *value == stuck.values[window.start - 1]));
    }
    let (outage, _) = series(Base::Weekly, AnomalyKind::Outage);
    assert!(outage.windows.iter().all(|window| outage.values[window.clone()].iter().all(|value| *value == 0.0)));
    for (kind, sign) in [(AnomalyKind::Spike, 1.0), (AnomalyKind::Dip, -1.0)] {
        let (spike, plain) = series(Base::Trend, kind);
        for window in &spike.windows {
            assert!(window.len() <= 3 && window.clone().all(|row| sign * spike.values[row] > sign * plain.values[row]));
        }
    }
    let (cut, plain) = series(Base::Sawtooth, AnomalyKind::CutOff);
    for window in &cut.windows {
        let limit = cut.values[window.clone()].iter().copied().fold(f64::MIN, f64::max);
        assert!(window.clone().all(|row| cut.values[row] == plain.values[row].min(limit)));
    }
    // A reversed sawtooth falls where it rose; without its noise the two would be mirror images in time.
    let (reversed, plain) = series(Base::Sawtooth, AnomalyKind::ReversedCycle);
    for window in &reversed.windows {
        let rise = |values: &[f64]| values[window.end - 2] - values[window.start + 1];
        assert!(rise(&plain.values) > 0.0 && rise(&reversed.values) < 0.0);
    }
    // A swapped pair of days: the Friday is as quiet as a Saturday, and the other way round.
    let (swapped, plain) = series(Base::Weekly, AnomalyKind::SwappedCycle);
    for window in &swapped.windows {
        let middle = (window.start + window.end) / 2;
        let sum = |values: &[f64], rows: Range<usize>| values[rows].iter().sum::<f64>();
        let (friday, saturday) = (window.start..middle, middle..window.end);
        assert!(sum(&plain.values, friday.clone()) > sum(&plain.values, saturday.clone()), "{window:?}");
        assert!(sum(&swapped.values, friday) < sum(&swapped.values, saturday), "{window:?}");
    }
}

/// Cyclic courses repeat themselves at their period, which a seasonal scorer has to find.
#[test]
fn cycles_have_the_period_that_is_told() {
    for base in Base::ALL {
        let series = make(SeriesSpec { base, anomaly: None, seed: 11, length: 6_000 });
        assert_eq!(series.period > 0, base.is_cyclic(), "{base:?}");
        if !base.is_cyclic() || base.has_trend() {
            continue;
        }
        let lag = if base == Base::Weekly { 7 * series.period } else { series.period };
        let mean = series.values.iter().sum::<f64>() / series.values.len() as f64;
        let variance: f64 = series.values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let covariance: f64 =
            series.values.iter().zip(&series.values[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum();
        assert!(covariance / variance > 0.8, "{base:?}: {}", covariance / variance);
    }
}

/// A test set of a few hundred series has every kind and every base, and neighbours differ.
#[test]
fn numbered_series_go_through_all_pairs() {
    let pairs = SeriesSpec::pairs();
    let different: BTreeSet<_> = pairs.iter().collect();
    assert_eq!(different.len(), pairs.len());
    assert!(AnomalyKind::ALL.iter().all(|kind| pairs.iter().any(|(_, known)| known == kind)));
    for number in 0..pairs.len() as u64 {
        let spec = SeriesSpec::numbered(3, number);
        assert_eq!(
            Some((spec.base, spec.anomaly)),
            pairs.get(number as usize).map(|(base, kind)| (*base, Some(*kind)))
        );
        assert!((2_000..=20_000).contains(&spec.length));
        assert_ne!(spec, SeriesSpec { length: spec.length, ..SeriesSpec::numbered(4, number) });
    }
}

/// What does not fit is refused with what does.
#[test]
fn refusals_help() {
    let spec = SeriesSpec { base: Base::RandomWalk, anomaly: Some(AnomalyKind::Drift), seed: 0, length: 2_000 };
    let error = spec.make().expect_err("a walk drifts by itself").to_string();
    assert!(error.contains("`anomaly` = drift") && error.contains("`random_walk` use one of spike, dip"), "{error}");
    let error = SeriesSpec { length: 1_999, ..spec }.make().expect_err("too short").to_string();
    assert!(error.contains("`series-length` = 1999 is out of range; use 2000 to"), "{error}");
    let config = AnomaliesConfig { series_count: 8_000, ..Default::default() };
    let error = AnomaliesGenerator::new(config).expect_err("too many rows").to_string();
    assert!(error.contains("with a `series-length` of 5000 use 1 to 3355"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same seed gives the same series, and any spec that is allowed gives one without a panic.
    #[test]
    fn a_series_is_a_function_of_its_spec(seed: u64, number: u64, length in 2_000usize..6_000) {
        let spec = SeriesSpec { length, ..SeriesSpec::numbered(seed, number) };
        let series = make(spec);
        prop_assert_eq!(&series, &make(spec));
        prop_assert!(!series.windows.is_empty());
    }

    /// A longer course begins with the rows of the shorter one: the future of a series does not reach back.
    #[test]
    fn courses_are_causal(seed: u64, base in prop::sample::select(Base::ALL.to_vec()), more in 0usize..3_000) {
        let short = make(SeriesSpec { base, anomaly: None, seed, length: 2_000 });
        let long = make(SeriesSpec { base, anomaly: None, seed, length: 2_000 + more });
        prop_assert_eq!(&short.values[..], &long.values[..2_000]);
    }

    /// A checkpoint may fall anywhere, in a series or between two blocks of them: how the stream is cut never shows.
    #[test]
    fn cuts_do_not_show(
        seed: u64, start in 0u64..15_000, lengths in prop::collection::vec(0u64..4_000, 1..4),
        indices in prop::collection::vec(0usize..7, 0..4),
    ) {
        let config = AnomaliesConfig { seed, series_count: 3, series_length: 2_000, ..Default::default() };
        let generator = AnomaliesGenerator::new(config).expect("a valid configuration");
        let mut parts = Vec::new();
        let mut end = start;
        for length in lengths {
            parts.push(generator.batch(end..end + length, None).expect("a batch"));
            end += length;
        }
        let whole = generator.batch(start..end, None).expect("a batch");
        let projected = generator.batch(start..end, Some(&indices)).expect("a batch");
        prop_assert_eq!(&concat_batches(schema(), &parts).expect("one schema"), &whole);
        prop_assert_eq!(projected, whole.project(&indices).expect("columns"));
    }
}

/// The table shows the series that its numbers name, in order of time, with their labels.
#[test]
fn the_table_shows_the_series() {
    let config = AnomaliesConfig { series_count: 5, series_length: 2_500, anomaly_share: 0.7, ..Default::default() };
    let generator = AnomaliesGenerator::new(config).expect("a valid configuration");
    // Two blocks: series 0 to 4, then 5 to 9.
    let batch = generator.batch(0..25_000, None).expect("a batch");
    let times = batch["event_time"].as_primitive::<TimestampMillisecondType>().values();
    assert!(times.is_sorted() && times[5] - times[4] == 1_800_000 && times[4] == times[0]);
    let (numbers, values) = (batch["series"].as_primitive::<Int64Type>(), batch["value"].as_primitive::<Float64Type>());
    let (flags, kinds) = (batch["is_anomaly"].as_boolean(), batch["anomaly_kind"].as_string_view());
    let (ids, bases) = (batch["anomaly_id"].as_primitive::<Int64Type>(), batch["base"].as_string_view());
    let mut with_anomaly = 0;
    for number in 0..10 {
        let series = make(generator.spec(number));
        with_anomaly += usize::from(series.spec.anomaly.is_some());
        let labels = series.labels();
        let rows: Vec<usize> = (0..batch.num_rows()).filter(|row| numbers.value(*row) == number as i64).collect();
        assert_eq!(rows.len(), 2_500);
        let mut seen = BTreeSet::new();
        for (place, row) in rows.into_iter().enumerate() {
            assert!(values.value(row) == series.values[place] && flags.value(row) == labels[place]);
            assert!(bases.value(row) == series.spec.base.name() && ids.is_valid(row) == labels[place]);
            if labels[place] {
                assert_eq!(Some(kinds.value(row)), series.spec.anomaly.map(AnomalyKind::name));
                seen.insert(ids.value(row));
            } else {
                assert!(kinds.is_null(row));
            }
        }
        assert_eq!(seen.len(), series.windows.len());
    }
    assert!((1..10).contains(&with_anomaly), "{with_anomaly} of 10 series have anomalies");
}

/// Series without anomalies have the distributions that the false-alarm tests count on.
#[test]
fn normal_kinds_are_what_they_say() {
    for kind in NormalKind::ALL {
        let values = kind.values(7, 200_000);
        assert_eq!(values.len(), 200_000);
        assert!(values.iter().all(|value| value.is_finite()), "{kind:?}");
        assert_eq!(values[..500], kind.values(7, 500)[..], "{kind:?}");
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let share_over = |limit: f64| values.iter().filter(|value| **value > limit).count() as f64 / count;
        let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
        let lag = values.iter().zip(&values[1..]).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / count / variance;
        let near = |value: f64, expected: f64, within: f64| {
            assert!((value - expected).abs() < within, "{kind:?}: {value}, expected {expected}");
        };
        match kind {
            NormalKind::Gaussian => {
                near(mean, 0.0, 0.01);
                near(variance, 1.0, 0.02);
                near(lag, 0.0, 0.01);
            }
            NormalKind::StudentT3 => {
                near(mean, 0.0, 0.02);
                // The quantile 0.99 of t with 3 degrees of freedom.
                near(share_over(4.540_7), 0.01, 0.001);
                near(lag, 0.0, 0.02);
            }
            NormalKind::LogNormal => {
                near(mean, 1.648_7, 0.03);
                near(share_over(1.0), 0.5, 0.01);
            }
            NormalKind::Autoregressive => {
                near(lag, 0.9, 0.01);
                near(variance, 1.0 / (1.0 - 0.81), 0.2);
            }
            NormalKind::Daily => {
                let day: f64 =
                    values.iter().zip(&values[DAY_ROWS..]).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
                assert!(day / count / variance > 0.8);
            }
            NormalKind::RandomWalk => {
                let steps = values.windows(2).map(|pair| (pair[1] - pair[0]) * (pair[1] - pair[0])).sum::<f64>();
                near(steps / count, 1.0, 0.02);
            }
            NormalKind::Counts => {
                near(mean, 6.0, 0.05);
                near(variance, 6.0, 0.1);
                assert!(values.iter().all(|value| value.fract() == 0.0 && *value >= 0.0));
            }
            NormalKind::Binary => {
                near(mean, 0.1, 0.005);
                assert!(values.iter().all(|value| *value == 0.0 || *value == 1.0));
            }
        }
    }
}

/// A column's texts are picked by the place of the variant: an enum in another order than its texts would mislabel rows.
#[test]
fn variants_are_in_the_order_of_their_texts() {
    assert!(AnomalyKind::ALL.iter().enumerate().all(|(index, kind)| index == *kind as usize));
    assert!(Base::ALL.iter().enumerate().all(|(index, base)| index == *base as usize));
    let names: BTreeSet<&str> = AnomalyKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), AnomalyKind::ALL.len());
}

/// Settings at their limits make no panic and no overflow.
#[test]
fn extremes_hold() {
    for config in [
        AnomaliesConfig { series_count: 1, series_length: 2_000, interval_ms: 1, ..Default::default() },
        AnomaliesConfig {
            series_count: 2,
            interval_ms: 86_400_000,
            base_time_ms: 1_000_000_000_000_000,
            ..Default::default()
        },
    ] {
        let generator = AnomaliesGenerator::new(config).expect("a valid configuration");
        for events in [0..500, EVENT_COUNT_MAX - 100..u64::MAX] {
            let batch = generator.batch(events.clone(), None).expect("a batch");
            assert_eq!(batch.num_rows() as u64, generator.row_count(events));
        }
    }
}
