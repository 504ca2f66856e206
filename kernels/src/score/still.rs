//! What holds for series that stand still: stuck gauges, counters of errors that hardly ever come.

use serde_json::json;

use super::METHODS;
use super::tests::{alarms, detections};
use crate::series::testing::unit;

fn rows(count: usize, value: impl Fn(usize) -> f64) -> Vec<(i64, f64)> {
    (0..count).map(|row| (row as i64 * 60_000, value(row))).collect()
}

/// The first change of a gauge that stood still is an alarm at its first row, and one alarm: whether it goes back or stays.
#[test]
fn the_first_change_of_a_constant_is_an_alarm() {
    const CHANGE: usize = 2000;
    for method in ["auto", "novelty", "seasonal", "changepoint", "ewma", "holt", "cusum", "forecast"] {
        for changed in [505.0, 5.5, -1e9] {
            let said =
                detections(json!({ "method": method }), &rows(3000, |row| if row == CHANGE { changed } else { 5.0 }));
            assert_eq!(alarms(&said), [CHANGE], "{method}: {changed}");
            assert!(
                said.score[CHANGE].is_finite() && said.score[CHANGE] < f32::MAX,
                "{method}: {}",
                said.score[CHANGE]
            );
        }
        let said = detections(json!({ "method": method }), &rows(3000, |row| if row >= CHANGE { 6.0 } else { 5.0 }));
        assert_eq!(alarms(&said).first(), Some(&CHANGE), "{method}");
        assert!(alarms(&said).iter().all(|row| *row < CHANGE + 200), "{method}: {:?}", alarms(&said));
    }
}

/// A glitch of a gauge that stands still does not make its size the usual one.
#[test]
fn a_glitch_of_a_constant_hides_nothing() {
    let value = |row| match row {
        2000 => 1e9,
        2300 => 505.0,
        _ => 5.0,
    };
    for method in ["auto", "novelty", "seasonal", "changepoint", "forecast"] {
        let said = detections(json!({ "method": method }), &rows(3000, value));
        assert_eq!(alarms(&said), [2000, 2300], "{method}");
        assert_eq!(said.expected[2100], 5.0, "{method}");
    }
}

/// A series that never changes has no alarm, however many are asked for.
#[test]
fn a_series_that_never_changes_has_no_alarm() {
    for described in METHODS {
        let count = if described.name == "rcf" { 2_000 } else { 6_000 };
        for rate in [0.01, 0.1, 0.5] {
            let options = json!({ "method": described.name, "max_false_alarm_rate": rate, "rest": 0 });
            let said = detections(options, &rows(count, |_| 5.0));
            assert_eq!(alarms(&said), [0; 0], "{} at {rate}", described.name);
        }
    }
}

/// A counter of errors that hardly ever come gives no more alarms than were asked for: what is off its scale each time is told by how often that
/// is. (Forecasts gave eighty times as many.)
#[test]
fn rare_errors_are_as_rare_as_they_are() {
    const ROWS: usize = 20_000;
    let mut failed = Vec::new();
    for method in ["auto", "novelty", "seasonal", "changepoint", "ewma", "forecast"] {
        for share in [0.001, 0.003, 0.01] {
            let error = |row: usize| {
                let errors = (1.0 + 5.0 * unit(row as u64 + 77_000_000)).floor();
                if unit(row as u64) < share { errors } else { 0.0 }
            };
            let said = detections(json!({ "method": method, "rest": 0 }), &rows(ROWS, error));
            let times =
                said.p_value[1000..].iter().filter(|p_value| **p_value < 5e-4).count() as f64 / (5e-4 * 19_000.0);
            println!("{method}, one row in {}: {times:.2} times the rate", 1.0 / share);
            if times > 2.0 {
                failed.push(format!("{method} at {share}: {times:.2}"));
            }
        }
    }
    assert!(failed.is_empty(), "times the rate: {failed:?}");
}
