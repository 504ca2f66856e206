//! What holds for the series methods as a whole, through the face that operators see.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::testing::{gaussian, unit};
use crate::placed::WaveGroup;
use crate::rows::GroupedRows;
use crate::score::{Detections, Detector, DetectorOptions, RowContext};

const METHODS: [&str; 6] = ["auto", "novelty", "seasonal", "changepoint", "forecast", "rcf"];
const FIVE_MINUTES_MS: i64 = 300_000;

fn detector(options: Value) -> Detector {
    let options = DetectorOptions::parse(options.as_object().expect("an object")).expect("they can be");
    options.selective_detector(1).expect("one value")
}

/// Rows of some keys, in the order in which they come.
#[derive(Debug)]
struct Rows {
    slots: Vec<u32>,
    values: Vec<f64>,
    times: Vec<i64>,
    learn: Vec<bool>,
}

impl Rows {
    fn of(values: Vec<f64>) -> Self {
        let times = (0..values.len() as i64).map(|row| row * FIVE_MINUTES_MS).collect();
        Rows { slots: vec![0; values.len()], learn: vec![true; values.len()], times, values }
    }

    fn len(&self) -> usize {
        self.values.len()
    }
}

/// What is said of a part of the rows, in their order: score, p-value, whether it is an alarm, what was expected.
fn feed(detector: &mut Detector, rows: &Rows, part: std::ops::Range<usize>) -> Vec<(u32, u32, bool, u64)> {
    let keys = rows.slots.iter().max().map_or(0, |last| *last as usize + 1);
    let grouped = Arc::new(GroupedRows::group(&rows.slots[part.clone()], keys));
    let context = RowContext { time_ms: Some(&rows.times[part.clone()]), learn: Some(&rows.learn[part.clone()]) };
    let mut group = WaveGroup::new();
    detector.start(&grouped, &[&rows.values[part]], context, &mut group);
    group.submit(|| {});
    let Detections { score, p_value, is_anomaly, expected, .. } = detector.finish();
    let mut answers = vec![(0, 0, false, 0); score.len()];
    for (place, row) in grouped.order().iter().enumerate() {
        answers[*row as usize] =
            (score[place].to_bits(), p_value[place].to_bits(), is_anomaly[place], expected[place].to_bits());
    }
    answers
}

fn rows() -> impl Strategy<Value = Rows> {
    let value = prop_oneof![
        6 => (0u8..20).prop_map(f64::from),
        6 => -1e3f64..1e3,
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(1e300), Just(-1e38), Just(1e-40), Just(0.0)],
    ];
    proptest::collection::vec((0u32..3, value, 0i64..10_000_000_000, any::<bool>()), 1..700).prop_map(|rows| Rows {
        slots: rows.iter().map(|row| row.0).collect(),
        values: rows.iter().map(|row| row.1).collect(),
        times: rows.iter().map(|row| row.2).collect(),
        learn: rows.iter().map(|row| row.3 || row.2 % 3 > 0).collect(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A row's score depends on rows up to it and on nothing else: however rows are cut into batches, and after a restart between them,
    /// every one gets the same answer to the bit. (A prefix is a cut, so no row looks ahead.)
    #[test]
    fn scores_depend_on_earlier_rows_alone(rows in rows(), cuts in proptest::collection::vec(0usize..700, 0..4), method in 0usize..METHODS.len()) {
        let options = json!({ "method": METHODS[method], "min_training": 20, "max_false_alarm_rate": 0.01, "rest": 5 });
        let whole = feed(&mut detector(options.clone()), &rows, 0..rows.len());
        let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(rows.len())).collect();
        ends.push(rows.len());
        ends.sort_unstable();
        let mut parts = Vec::new();
        let mut running = detector(options.clone());
        let mut start = 0;
        for end in ends {
            parts.extend(feed(&mut running, &rows, start..end));
            start = end;
            // Another process goes on from the words.
            let seen = rows.slots[..end].iter().max().map_or(0, |last| last + 1);
            let mut words = Vec::new();
            (0..seen).for_each(|slot| running.read_slot(slot, &mut words));
            let mut next = detector(options.clone());
            next.load(&(0..seen).collect::<Vec<_>>(), &words);
            running = next;
        }
        prop_assert_eq!(whole, parts);
    }

    /// No input makes a score that is no number, a negative one, or a chance outside of `(0, 1]`.
    #[test]
    fn answers_are_numbers(rows in rows(), method in 0usize..METHODS.len()) {
        let mut detector = detector(json!({ "method": METHODS[method], "min_training": 20 }));
        for (row, (score, p_value, ..)) in feed(&mut detector, &rows, 0..rows.len()).into_iter().enumerate() {
            let (score, p_value) = (f32::from_bits(score), f32::from_bits(p_value));
            prop_assert!(score >= 0.0 || rows.values[row].is_nan(), "{}: {score}", rows.values[row]);
            prop_assert!(p_value > 0.0 && p_value <= 1.0, "{}: {p_value}", rows.values[row]);
        }
    }
}

/// A row that is not to be learnt changes nothing for the rows after it.
#[test]
fn what_is_not_learnt_leaves_no_trace() {
    let value = |row: u64| if row % 5 == 4 { 1e4 + row as f64 } else { gaussian(row) };
    // Time goes on for a forecast: what is not learnt is a value that is missing there.
    for method in METHODS.into_iter().filter(|method| *method != "forecast") {
        let mut options = json!({ "method": method, "min_training": 20 });
        if ["auto", "seasonal"].contains(&method) {
            options["seasonality"] = json!("none");
        }
        let mut all = Rows::of((0..2000).map(value).collect());
        all.learn.iter_mut().skip(4).step_by(5).for_each(|learn| *learn = false);
        let with = feed(&mut detector(options.clone()), &all, 0..all.len());
        let learnt = Rows::of((0..2000).filter(|row| row % 5 != 4).map(value).collect());
        let without = feed(&mut detector(options), &learnt, 0..learnt.len());
        let with: Vec<_> = with.into_iter().enumerate().filter(|(row, _)| row % 5 != 4).collect();
        for ((row, one), other) in with.into_iter().zip(without) {
            // Whether a row alarms depends on the rest, which rows that are not learnt may begin.
            assert_eq!((one.0, one.1, one.3), (other.0, other.1, other.3), "{method}, row {row}");
        }
    }
}

/// Planted faults of several kinds are alarmed at, each within its rows, and little else is.
#[test]
fn auto_finds_what_is_planted() {
    let day = |row: u64| 10.0 * (std::f64::consts::TAU * row as f64 / 288.0).sin() + 0.5 * gaussian(row);
    type Plant = fn(u64, f64) -> f64;
    let plants: [(&str, Plant, u64); 6] = [
        ("spike", |row, value| if row == 6000 { value + 30.0 } else { value }, 1),
        ("level shift", |row, value| if row >= 6000 { value + 15.0 } else { value }, 40),
        ("usual value at another time", |row, value| if (6000..6060).contains(&row) { -value } else { value }, 60),
        ("season that stops", |row, value| if (6000..6288).contains(&row) { value * 0.05 } else { value }, 288),
        ("stuck sensor", |row, value| if (6048..6250).contains(&row) { 9.9 } else { value }, 260),
        (
            "noise burst",
            |row, value| if (6000..6100).contains(&row) { value + 8.0 * gaussian(row + 9) } else { value },
            100,
        ),
    ];
    for (name, plant, length) in plants {
        let rows = Rows::of((0..8000).map(|row| plant(row, day(row))).collect());
        let answers = feed(&mut detector(json!({})), &rows, 0..rows.len());
        let alarms: Vec<usize> = (0..answers.len()).filter(|row| answers[*row].2).collect();
        let found = alarms.iter().any(|row| (6000..6000 + length as usize).contains(row));
        let early = alarms.iter().filter(|row| **row < 6000).count();
        assert!(found && early <= 3, "{name}: {alarms:?}");
    }
}

/// The value that is expected follows the season, and what is usual lies between the bounds.
#[test]
fn expectations_follow_the_season() {
    let rows = Rows::of((0..6000u64).map(|row| f64::from(u8::from(row % 24 < 8)) * 50.0 + unit(row)).collect());
    for method in ["auto", "seasonal", "forecast"] {
        // So few rows are to be outside of the bounds that none of these is.
        let mut detector = detector(json!({ "method": method, "max_false_alarm_rate": 1e-6 }));
        let grouped = Arc::new(GroupedRows::group(&rows.slots, 1));
        let mut group = WaveGroup::new();
        let context = RowContext { time_ms: None, learn: None };
        detector.start(&grouped, &[&rows.values], context, &mut group);
        group.submit(|| {});
        let said = detector.finish();
        for row in 3000..6000 {
            assert!((said.expected[row] - rows.values[row]).abs() < 2.0, "{method}, row {row}: {}", said.expected[row]);
            assert!(said.lower[row] <= rows.values[row] && rows.values[row] <= said.upper[row], "{method}, row {row}");
        }
    }
}

#[test]
fn a_key_of_auto_takes_less_than_eight_kibibytes() {
    let bytes = detector(json!({})).state_shape().words_per_slot() * 4;
    assert!(bytes <= 8192, "{bytes}");
}

/// Why `AnomalyDetection_ChangePoint` is `changepoint`: at one rate of false alarms it finds more changes than cumulative sums do, of the level
/// and above all of the spread.
#[test]
fn changepoint_finds_more_changes_than_cumulative_sums() {
    const CHANGE: usize = 1500;
    let found = |method: &str, change: fn(f64) -> f64| {
        let (mut hits, mut early) = (0, 0);
        for key in 0..40u64 {
            let value = |row: usize| {
                let noise = gaussian(key * 100_003 + row as u64);
                if row < CHANGE { noise } else { change(noise) }
            };
            let rows = Rows::of((0..CHANGE + 60).map(value).collect());
            let options = json!({ "method": method, "max_false_alarm_rate": 2e-3, "rest": 50 });
            let alarms = feed(&mut detector(options), &rows, 0..rows.len()).into_iter().map(|answer| answer.2);
            let alarms: Vec<usize> = alarms.enumerate().filter(|(_, alarm)| *alarm).map(|(row, _)| row).collect();
            early += alarms.iter().filter(|row| **row < CHANGE).count();
            hits += usize::from(alarms.iter().any(|row| *row >= CHANGE));
        }
        (hits, early)
    };
    type Change = fn(f64) -> f64;
    let changes: [(&str, Change); 3] =
        [("level", |noise| noise + 1.5), ("wider", |noise| 2.0 * noise), ("narrower", |noise| 0.3 * noise)];
    let (mut told, mut more) = (vec![], 0);
    for (name, change) in changes {
        let (bayes, sums) = (found("changepoint", change), found("cusum", change));
        more += bayes.0 as i64 - sums.0 as i64;
        told.push((name, bayes, sums));
    }
    assert!(more > 0, "{told:?}");
    assert!(told.iter().all(|(_, (_, early), _)| *early < 2 * 40 * CHANGE / 500), "{told:?}");
}
