//! That a rate which is asked for is the rate that comes.

use std::ops::Range;
use std::sync::Arc;

use serde_json::json;

use super::{AlarmOptions, Calibration, GroupedContext, HALF_LIFE_ROWS, Prior, tail};
use crate::features::Features;
use crate::placed::WaveGroup;
use crate::rows::GroupedRows;
use crate::score::{DetectorOptions, METHODS, RowContext};
use crate::series::testing::{gaussian, unit};
use crate::state::StatePages;

/// A series without anomalies; what follows from the row before it has a state.
pub(super) fn normal(kind: &str, seed: u64, rows: usize) -> Vec<f64> {
    let mut state = 0.0;
    let noise = |row: usize, stream: u64| gaussian((seed * 16 + stream) * 1_000_003 + row as u64);
    let value = |row: usize| match kind {
        "Gaussian" => noise(row, 0),
        "Student t of 3" => {
            noise(row, 0) / ((1..=3).map(|stream| noise(row, stream).powi(2)).sum::<f64>() / 3.0).sqrt()
        }
        "log-normal" => noise(row, 0).exp(),
        "autoregression 0.9" => {
            state = 0.9 * state + noise(row, 0);
            state
        }
        "day" => 10.0 * (std::f64::consts::TAU * row as f64 / 288.0).sin() + noise(row, 0),
        "drift" => row as f64 * 0.01 + noise(row, 0),
        "autoregression 0.99" => {
            state = 0.99 * state + noise(row, 0);
            state
        }
        "square wave" => (row / 50 % 2) as f64 * 5.0 + 0.2 * noise(row, 0),
        "random walk" => {
            state += noise(row, 0);
            state
        }
        "Poisson" => {
            let (mut count, mut product) = (0u32, 1.0);
            while product > (-5.0f64).exp() {
                product *= unit((seed * 1_000_003 + row as u64) * 64 + u64::from(count)).max(1e-12);
                count += 1;
            }
            f64::from(count - 1)
        }
        other => unreachable!("{other}"),
    };
    (0..rows).map(value).collect()
}

const KINDS: [&str; 9] = [
    "Gaussian",
    "Student t of 3",
    "log-normal",
    "autoregression 0.9",
    "autoregression 0.99",
    "day",
    "square wave",
    "random walk",
    "Poisson",
];

/// The share of rows, after training and whatever the rest, whose p-value is below the rate, as a multiple of it; and that of alarms.
fn rates(kind: &str, method: &str, rate: f64, keys: u64, rows: usize) -> (f64, f64) {
    rates_of_rows(kind, method, &[rate], keys, 1000..rows)[0]
}

/// The same of some rows of each key, for several rates; training ends where they begin.
fn rates_of_rows(kind: &str, method: &str, rates: &[f64], keys: u64, judged: Range<usize>) -> Vec<(f64, f64)> {
    let (training, rows) = (judged.start, judged.end);
    let options = json!({ "method": method, "min_training": training });
    let options = DetectorOptions::parse(options.as_object().expect("an object")).expect("they can be");
    let (method, alarm) = (options.method(), options.alarm());
    let grouped = Arc::new(GroupedRows::group(&vec![0; rows], 1));
    let times: Vec<i64> = (0..rows as i64).map(|row| row * 300_000).collect();
    let context = RowContext { time_ms: Some(&times), learn: None };
    let beyond = vec![false; rows];
    let seen = GroupedContext { time_ms: Some(&times), learn: None, beyond: &beyond };
    let mut counts = vec![(0, 0); rates.len()];
    for key in 0..keys {
        // Scores do not depend on the rate, and are what takes time.
        let mut scorer = method.scorer(1, &Arc::default()).expect("one value");
        let values = normal(kind, key + 1, rows);
        let mut group = WaveGroup::new();
        scorer.start(&grouped, &[&values], context, &mut group);
        group.submit(|| {});
        let scores = scorer.finish();
        let surprises = scorer.take_surprises();
        let features = Features::new(Arc::clone(&grouped), &[&values]);
        for (rate, (below, alarms)) in rates.iter().zip(&mut counts) {
            let alarm = AlarmOptions { max_false_alarm_rate: *rate, ..alarm.clone() };
            let calibration = Calibration::new(alarm, method.prior(1), 1, method.warm_up_rows(1));
            let mut state = StatePages::new(calibration.shape().clone());
            state.grow(1);
            let said = calibration.run(&features, (scores.clone(), surprises.clone()), None, seen, &mut state);
            *below += said.p_value.iter().filter(|p_value| f64::from(**p_value) < *rate).count();
            *alarms += said.is_anomaly.iter().filter(|alarm| **alarm).count();
        }
    }
    let rows = (keys as usize * judged.len()) as f64;
    let multiple = |(rate, (below, alarms)): (&f64, (usize, usize))| {
        let expected = rate * rows;
        (below as f64 / expected, alarms as f64 / expected)
    };
    rates.iter().zip(counts).map(multiple).collect()
}

/// Nobody is called more often than was agreed: far above the rate, alarms are switched off; that holds for young keys as for old. And not
/// much less often either: a rate that is asked for is also what one is ready to look at.
#[test]
fn false_alarms_stay_near_the_rate() {
    for kind in KINDS {
        let (_, alarms) = rates(kind, "auto", 5e-4, 2, 20_000);
        assert!(alarms < 2.0, "{kind}: {alarms:.2} times as many alarms");
        let (below, alarms) = rates(kind, "auto", 2e-3, 1, 100_000);
        assert!((0.5..=2.0).contains(&below), "{kind}: {below:.2} times the rate, {alarms:.2} after the rest");
    }
    for method in ["ewma", "novelty", "seasonal", "half_space", "changepoint", "forecast", "rcf"] {
        let (below, alarms) = rates("Student t of 3", method, 2e-3, 1, 30_000);
        assert!((0.1..2.0).contains(&alarms), "{method}: {alarms:.2} times as many alarms, {below:.2} before the rest");
    }
}

/// Scores that last, and those of windows, are much the same in neighbouring rows, and drift with the series: one alarm is not to be many, nor
/// none at all.
#[test]
fn scores_of_windows_and_sums_hold_the_rate() {
    let mut failed = Vec::new();
    for method in ["changepoint", "cusum", "centroids", "subspace", "distance"] {
        for kind in ["Gaussian", "Student t of 3", "autoregression 0.9", "day", "random walk", "drift"] {
            let (below, alarms) = rates(kind, method, 2e-3, 1, 30_000);
            println!("{method}, {kind}: {below:.2} times the rate, {alarms:.2} after the rest");
            // A level that only rises has a change in no row and a sum that is greater in each.
            let may_be_silent = kind == "drift" || (method == "cusum" && kind == "random walk");
            if below > 2.0 || (below < 0.2 && !may_be_silent) {
                failed.push(format!("{method}, {kind}: {below:.2}"));
            }
        }
    }
    assert!(failed.is_empty(), "times the rate: {failed:?}");
}

/// Who asks for more alarms gets more, and misses nothing that who asks for fewer is told: rows of a cluster are one event, and there must be
/// rows outside of clusters. (Changes were not found at all at a rate of 0.05 and more, and `auto` gave an eighth of 0.2.)
#[test]
fn looser_rates_find_no_less() {
    let found = |method: &str, rate: f64| {
        let is_found = |key: &u64| {
            let shifted = |row: u64| gaussian(key * 100_003 + row) + if row >= 1000 { 5.0 } else { 0.0 };
            let options = json!({ "method": method, "max_false_alarm_rate": rate, "rest": 0 });
            let options = DetectorOptions::parse(options.as_object().expect("an object")).expect("they can be");
            let mut detector = options.detector(1, &Arc::default()).expect("one value");
            let values: Vec<f64> = (0..1050).map(shifted).collect();
            let rows = Arc::new(GroupedRows::group(&vec![0; values.len()], 1));
            let mut group = WaveGroup::new();
            detector.start(&rows, &[&values], RowContext::default(), &mut group);
            group.submit(|| {});
            detector.finish().is_anomaly[1000..].contains(&true)
        };
        (0..10).filter(is_found).count()
    };
    for method in ["changepoint", "cusum"] {
        let counts = [5e-4, 2e-3, 0.01, 0.05, 0.2].map(|rate| found(method, rate));
        assert!(counts[0] >= 9 && counts.is_sorted(), "{method}: {counts:?}");
    }
    for method in ["auto", "half_space", "changepoint", "cusum"] {
        for rate in [0.05, 0.2] {
            let (below, _) = rates("Gaussian", method, rate, 1, 10_000);
            println!("{method} at {rate}: {below:.2} times the rate");
            assert!((0.4..1.3).contains(&below), "{method} at {rate}: {below:.2} times the rate");
        }
    }
}

/// How often rows 100 to 1500 of new keys are alarms, as a multiple of the rate; values are independent noise. No key rests, but where sums
/// make one alarm of many rows.
fn young_rate(method: &str, features: usize, rate: f64, keys: u64) -> f64 {
    const ROWS: usize = 1500;
    let rest = if method == "cusum" { 100 } else { 0 };
    let options = json!({ "method": method, "max_false_alarm_rate": rate, "rest": rest });
    let options = DetectorOptions::parse(options.as_object().expect("an object")).expect("they can be");
    let slots: Vec<u32> = (0..ROWS as u32 * keys as u32).map(|row| row % keys as u32).collect();
    let column = |feature: u64| -> Vec<f64> {
        (0..slots.len() as u64).map(|row| gaussian(feature * 10_000_019 + row)).collect()
    };
    let columns: Vec<Vec<f64>> = (0..features as u64).map(column).collect();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let mut detector = options.detector(features, &Arc::default()).expect("so many values");
    let grouped = Arc::new(GroupedRows::group(&slots, keys as usize));
    let mut group = WaveGroup::new();
    detector.start(&grouped, &columns, RowContext::default(), &mut group);
    group.submit(|| {});
    let said = detector.finish();
    assert!((0..slots.len()).filter(|row| row % ROWS < 100).all(|row| said.p_value[row] == 1.0), "{method}");
    let alarms = said.is_anomaly.iter().filter(|alarm| **alarm).count();
    alarms as f64 / (rate * (keys as usize * (ROWS - 100)) as f64)
}

/// Rows of which a method has no score yet are no evidence that scores are 0: the first that has one is no alarm.
#[test]
fn new_keys_give_no_more_false_alarms_than_old_ones() {
    let alarms = young_rate("auto", 2, 5e-4, 40);
    println!("auto of 2 at 0.0005: {alarms:.2} times the rate");
    assert!((0.5..2.0).contains(&alarms), "two values: {alarms:.2} times the rate");
    let methods = [
        ("auto", 5),
        ("half_space", 1),
        ("half_space", 3),
        ("distance", 1),
        ("subspace", 1),
        ("centroids", 1),
        ("rcf", 1),
        ("rcf", 2),
        ("seasonal", 1),
        ("novelty", 1),
        ("ewma", 1),
        ("holt", 1),
        ("cusum", 1),
        ("changepoint", 1),
        ("forecast", 1),
    ];
    let mut failed = Vec::new();
    for (method, features) in methods {
        for (rate, keys) in [(5e-4, 12), (1e-2, 6)] {
            let alarms = young_rate(method, features, rate, keys);
            println!("{method} of {features} at {rate}: {alarms:.2} times the rate");
            if alarms > 2.0 {
                failed.push(format!("{method} of {features} at {rate}: {alarms:.2}"));
            }
        }
    }
    assert!(failed.is_empty(), "times the rate: {failed:?}");
}

/// Scores of windows of which one is hardly rarer than the next, those that end far beyond others, and those of regions that a series stays in:
/// ranks tell them apart, however they lie, and what ranks are wrong by is made up for. (The first three had a third of the rate or none, the
/// fourth 2.6 times, the last 2.4 times.)
#[test]
fn ranks_hold_the_rate_however_scores_lie() {
    let mut failed = Vec::new();
    for (method, kind) in [
        ("subspace", "Gaussian"),
        ("subspace", "square wave"),
        ("centroids", "day"),
        ("changepoint", "square wave"),
        ("half_space", "autoregression 0.99"),
    ] {
        let (below, alarms) = rates(kind, method, 1e-3, 1, 40_000);
        println!("{method}, {kind}: {below:.2} times the rate, {alarms:.2} after the rest");
        if !(0.5..2.0).contains(&below) {
            failed.push(format!("{method}, {kind}: {below:.2}"));
        }
    }
    assert!(failed.is_empty(), "times the rate: {failed:?}");
}

/// An old key has seen nearly all that it ever has, and sums of a walk are up for thousands of rows: there are rarer rows among those, too, and as many
/// alarms as were asked for. (There were 0.04 and 0.09 times as many by `novelty`, a quarter by `cusum`.)
#[test]
fn old_keys_have_as_many_alarms_as_were_asked_for() {
    let mut failed = Vec::new();
    for (method, kind, rate) in [("novelty", "Poisson", 1e-3), ("novelty", "day", 1e-3), ("cusum", "random walk", 5e-4)]
    {
        let (below, alarms) = rates(kind, method, rate, 1, 400_000);
        println!("{method}, {kind} at {rate:.0e}: {below:.2} times the rate, {alarms:.2} after the rest");
        if !(0.5..2.0).contains(&below) {
            failed.push(format!("{method}, {kind}: {below:.2}"));
        }
    }
    assert!(failed.is_empty(), "times the rate: {failed:?}");
}

/// The methods whose names `EAGRE_TEST_METHODS` has, or all.
fn methods_to_test() -> impl Iterator<Item = &'static str> {
    let only = std::env::var("EAGRE_TEST_METHODS").ok();
    let is_meant = move |name: &&str| only.as_ref().is_none_or(|only| only.split(',').any(|one| one == *name));
    METHODS.iter().map(|method| method.name).filter(is_meant)
}

/// The promise itself, for every method: three million rows of each kind, between half and twice the rate before the rest.
/// (`EAGRE_TEST_METHODS` names some methods.)
#[test]
#[ignore = "half an hour; `make false-alarms` runs it"]
fn the_rate_is_held_within_a_factor_of_two() {
    const RATES: [f64; 2] = [5e-4, 1e-4];
    let mut failed = Vec::new();
    for method in methods_to_test() {
        for kind in KINDS {
            for (keys, rows) in [(3, 1_000_000), (30, 100_000)] {
                let multiples = rates_of_rows(kind, method, &RATES, keys, 1000..rows);
                for (rate, (below, alarms)) in RATES.iter().zip(multiples) {
                    println!(
                        "{method}, {kind}, {keys} keys of {rows} rows at {rate:.0e}: {below:.2} times the rate, {alarms:.2} after the rest"
                    );
                    if !(0.5..=2.0).contains(&below) {
                        failed.push(format!("{method}, {kind} at {rate:.0e} ({keys} keys): {below:.2}"));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The share of rows 100 to 2,000 of new keys whose p-value is below the rate, as a multiple of it.
fn new_keys_rate(kind: &str, method: &str, rate: f64, keys: u64) -> f64 {
    rates_of_rows(kind, method, &[rate], keys, 100..2000)[0].0
}

/// Scores that last, of keys too young for a rank to say much: how high sums are where values follow each other is learnt within the training,
/// and a hundred rows of one excursion are not a hundred scores. (Ranks and a prior for all keys gave 3 to 14 times the rate to an
/// autoregression, and a tenth of it to independent values.)
#[test]
fn the_rate_is_held_for_new_keys_by_scores_that_last() {
    let mut failed = Vec::new();
    for method in ["cusum", "changepoint"] {
        for kind in ["Gaussian", "log-normal", "autoregression 0.9"] {
            for (rate, keys) in [(5e-4, 40), (2e-3, 20)] {
                let below = new_keys_rate(kind, method, rate, keys);
                println!("{method}, {kind}, {keys} keys of 2000 rows at {rate:.0e}: {below:.2} times the rate");
                // Noise that is what the model takes it to be hardly ever makes it sure of a change.
                let least = if method == "changepoint" { 0.02 } else { 0.3 };
                if !(least..=2.0).contains(&below) {
                    failed.push(format!("{method}, {kind} at {rate:.0e}: {below:.2}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "times the rate: {failed:?}");
}

/// A new key of a walk, or nearly one, is at its edge again and again, or long where it seldom is: that is told once, and a young key's records are
/// common. (It was up to 21 times the rate.)
#[test]
fn new_keys_that_wander_are_not_news_at_every_step() {
    let mut failed = Vec::new();
    for (method, kind, most) in [
        ("auto", "random walk", 5.0),
        ("auto", "autoregression 0.99", 3.0),
        ("novelty", "random walk", 3.0),
        ("half_space", "autoregression 0.99", 2.5),
        ("half_space", "random walk", 2.5),
    ] {
        let below = new_keys_rate(kind, method, 5e-4, 60);
        println!("{method}, {kind}: {below:.2} times the rate");
        if !(0.5..most).contains(&below) {
            failed.push(format!("{method}, {kind}: {below:.2}"));
        }
    }
    assert!(failed.is_empty(), "times the rate: {failed:?}");
}

/// All methods and kinds, and as many keys as the figures take. Where a hundred rows are all that is known, what is rare is a guess: three
/// times the rate is as good as it is.
#[test]
#[ignore = "minutes; `make false-alarms` runs it"]
fn the_rate_is_held_for_many_new_keys() {
    const RATES: [f64; 2] = [5e-4, 2e-3];
    let mut failed = Vec::new();
    for method in methods_to_test() {
        let keys = if method == "rcf" { 50 } else { 500 };
        for kind in KINDS {
            let multiples = rates_of_rows(kind, method, &RATES, keys, 100..2000);
            for (rate, (below, alarms)) in RATES.iter().zip(multiples) {
                println!(
                    "{method}, {kind}, {keys} keys of 2000 rows at {rate:.0e}: {below:.2} times the rate, {alarms:.2} after the rest"
                );
                let most = match (method, kind) {
                    ("cusum" | "changepoint", _) => 2.0,
                    // Levels are means of hundreds of rows, and a walk is not back for as many.
                    ("seasonal" | "auto", "random walk") => 5.0,
                    _ => 3.5,
                };
                if below > most {
                    failed.push(format!("{method}, {kind} at {rate:.0e}: {below:.2}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "times the rate: {failed:#?}");
}

/// One distance that is far beyond all others says nothing of those that come after it; the next one says that such distances belong to the key.
#[test]
fn a_far_distance_is_learnt_when_it_comes_again() {
    let prior = &Prior::DEVIATIONS;
    let mut state = vec![0.0; tail::words(prior)];
    let mut age = 0;
    let mut say = |score: f32, learn: bool| {
        age += u32::from(learn);
        tail::p_value(
            &mut state,
            prior,
            5e-4,
            tail::Judged { score, age, learn, judged: age > 100, growth: tail::growth(HALF_LIFE_ROWS) },
        )
    };
    let usual = |rows: u64, say: &mut dyn FnMut(f32, bool) -> f32| {
        for row in 0..rows {
            say(gaussian(row).abs() as f32, true);
        }
    };
    usual(1000, &mut say);
    let before = say(10.0, false);
    assert!(before < 2e-4 && say(1e6, true) < 1e-6);
    usual(60, &mut say);
    let once = say(10.0, false);
    assert!((once / before - 1.0).abs() < 0.1, "{once} after a glitch, {before} before it");
    assert!(say(1e6, true) < 1e-6, "nor does a glitch hide the next one");
    usual(60, &mut say);
    assert!(say(10.0, false) > 5e-4, "a key that has glitches has them");
}

/// A key whose scores become greater for good: the shorter the half-life, the sooner what was rare before is not any more.
#[test]
fn a_shorter_half_life_follows_sooner() {
    let chance = |half_life_rows: f32| {
        let prior = &Prior::UNKNOWN;
        let mut state = vec![0.0; tail::words(prior)];
        let mut chance = 1.0;
        for row in 0..24_000u64 {
            let scale = if row < 20_000 { 1.0 } else { 2.0 };
            let score = scale * gaussian(row).abs() as f32;
            let age = row as u32;
            // Ranks alone: what makes up for misses would hide them.
            let judged = tail::Judged { score, age, learn: true, judged: false, growth: tail::growth(half_life_rows) };
            tail::p_value(&mut state, prior, 5e-4, judged);
            chance = tail::p_value(&mut state, prior, 5e-4, tail::Judged { score: 4.0, learn: false, ..judged });
        }
        chance
    };
    let chances = [1e6, HALF_LIFE_ROWS, 5_000.0, 1_000.0].map(chance);
    assert!(chances.windows(2).all(|pair| pair[1] > pair[0]), "{chances:?}");
    // Of the later rows alone, two standard deviations.
    assert!((0.03..0.07).contains(&chances[3]), "{chances:?}");
}
