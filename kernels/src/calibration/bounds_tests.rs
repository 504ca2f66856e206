//! That bounds hold their rate, and that what is expected is what the method expects.

use std::sync::Arc;

use serde_json::{Value, json};

use super::bounds::normal_quantile;
use super::tests::normal;
use crate::placed::WaveGroup;
use crate::rows::GroupedRows;
use crate::score::{Detections, DetectorOptions, RowContext};

fn detect(options: Value, values: &[f64]) -> Detections {
    detect_columns(options, &[values])
}

fn detect_columns(options: Value, columns: &[&[f64]]) -> Detections {
    let options = DetectorOptions::parse(options.as_object().expect("an object")).expect("they can be");
    let mut detector = options.detector(columns.len(), &Arc::default()).expect("as many as it takes");
    let rows = columns[0].len();
    let grouped = Arc::new(GroupedRows::group(&vec![0; rows], 1));
    let times: Vec<i64> = (0..rows as i64).map(|row| row * 300_000).collect();
    let mut group = WaveGroup::new();
    detector.start(&grouped, columns, RowContext { time_ms: Some(&times), learn: None }, &mut group);
    group.submit(|| {});
    detector.finish()
}

/// Of a table of the normal distribution.
#[test]
fn quantiles_are_those_of_tables() {
    for (rate, quantile) in
        [(0.5, 0.674_490), (0.1, 1.644_854), (0.05, 1.959_964), (5e-4, 3.480_756), (1e-9, 6.109_410)]
    {
        assert!((normal_quantile(rate) - quantile).abs() < 1e-6, "{rate}");
    }
}

/// As many values as were asked for lie outside, whatever their distribution is and however they follow each other. (Of normal values, at a rate
/// of 0.1, it was a fifth of that; of others, at 5e-4, thirty times as many.)
#[test]
fn bounds_hold_their_rate() {
    const KINDS: [&str; 6] = ["Gaussian", "Student t of 3", "log-normal", "autoregression 0.9", "day", "Poisson"];
    let mut failed = Vec::new();
    for (methods, kinds, rates, rows) in [
        (&["ewma", "holt", "seasonal"][..], &KINDS[..], &[0.1, 0.01, 1e-3][..], 30_000),
        (&["novelty", "auto", "forecast", "distance"], &KINDS[1..2], &[0.1, 0.01], 6_000),
    ] {
        for (method, kind) in methods.iter().flat_map(|method| kinds.iter().map(move |kind| (*method, *kind))) {
            let values = normal(kind, 7, rows);
            for rate in rates {
                let options = json!({ "method": method, "alarm": "bounds", "rest": 0, "max_false_alarm_rate": rate });
                let said = detect(options, &values);
                let outside = said.is_anomaly[1000..].iter().filter(|alarm| **alarm).count();
                let multiple = outside as f64 / (rate * (values.len() - 1000) as f64);
                println!("{method}, {kind} at {rate}: {multiple:.2} times the rate");
                // Values that have an end are within the first bounds, which come nearer as slowly as there is nothing to learn from.
                let least = if kind == "day" && *rate < 0.01 { 0.0 } else { 0.5 };
                if !(least..=2.0).contains(&multiple) {
                    failed.push(format!("{method}, {kind} at {rate}: {multiple:.2}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "times the rate: {failed:#?}");
}

/// A recurrence expects what its score is the distance from, a line of `holt` too.
#[test]
fn what_is_expected_is_what_the_score_compares_with() {
    let values: Vec<f64> = normal("Gaussian", 3, 2000).iter().zip(0..).map(|(v, row)| v + f64::from(row)).collect();
    for method in ["ewma", "holt"] {
        let said = detect(json!({ "method": method, "half_life": 25, "alarm": "bounds" }), &values);
        for row in 200..values.len() {
            let deviation = f64::from(said.score[row]);
            let beside = (values[row] - said.expected[row]).abs();
            let rest = said.upper[row] - said.expected[row];
            // The score is in deviations, and so are the bounds, whose factor moves slowly.
            let before = row - 1;
            let ratio = (beside / deviation)
                / rest
                / (((values[before] - said.expected[before]).abs() / f64::from(said.score[before]))
                    / (said.upper[before] - said.expected[before]));
            assert!((0.75..1.3).contains(&ratio), "{method}, row {row}: {ratio}");
        }
    }
    let line: Vec<f64> = (0..1000).map(f64::from).collect();
    let said = detect(json!({ "method": "holt" }), &line);
    assert!((said.expected[900] - 900.0).abs() < 1e-3, "{}", said.expected[900]);
}

/// After a level has shifted, what is below the new one is a dip.
#[test]
fn directions_follow_a_level() {
    let mut values = normal("Gaussian", 5, 1200);
    values.iter_mut().skip(1000).for_each(|value| *value += 50.0);
    values[1150] -= 20.0;
    let said = detect(json!({ "method": "ewma", "half_life": 20 }), &values);
    assert_eq!((said.direction[1000], said.direction[1150]), (1, -1));
}

/// Of several values the direction is that of the one that contributes most.
#[test]
fn the_direction_is_of_what_contributes_most() {
    let (mut first, mut second) = (normal("Gaussian", 1, 1000), normal("Gaussian", 2, 1000));
    (first[900], second[900]) = (0.5, -40.0);
    (first[950], second[950]) = (30.0, -1.0);
    let said = detect_columns(json!({ "method": "half_space" }), &[&first, &second]);
    assert_eq!((said.direction[900], said.direction[950]), (-1, 1));
    assert!(said.contributions[1][900] > 0.9 && said.contributions[0][950] > 0.9);
}

/// What is measured in volts is as strange in microvolts; of a power of two, so that nothing is rounded.
#[test]
fn scores_do_not_depend_on_the_unit() {
    let mut values = normal("Gaussian", 9, 1000);
    values[900] = 12.0;
    for method in ["ewma", "holt", "cusum", "novelty", "seasonal", "auto", "forecast", "changepoint"] {
        let [plain, small] = [1.0, 0.5f64.powi(20)].map(|unit| {
            let values: Vec<f64> = values.iter().map(|value| value * unit).collect();
            detect(json!({ "method": method }), &values)
        });
        for row in 0..values.len() {
            let (left, right) = (plain.score[row], small.score[row]);
            assert!((left - right).abs() <= 2e-3 * left.abs().max(0.1), "{method}, row {row}: {left}, {right}");
        }
        assert_eq!(plain.is_anomaly, small.is_anomaly, "{method}");
    }
}
