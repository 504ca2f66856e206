use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::rows::GroupedRows;
use crate::series::testing::unit;
use std::sync::Arc;

pub(super) fn map(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

/// Every method, with few rows of training so that short inputs are scored.
pub(super) fn young(name: &str) -> Method {
    let mut options = map(json!({ "method": name }));
    let described = Method::named(name).expect("it is described");
    let small: &[(&str, u32)] = &[("min_training", 2), ("window", 8), ("history", 64)];
    for (option, value) in small {
        if described.options.iter().any(|known| known.name == *option) {
            options.insert(option.to_string(), (*value).into());
        }
    }
    if described.name == "half_space" {
        options.insert("window".to_string(), 32.into());
    }
    Method::parse(&options).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn what_cannot_be_is_named_with_what_can() {
    let error = |value| Method::parse(&map(value)).expect_err("it cannot be").to_string();
    assert!(
        error(json!({ "method": "ewna" }))
            .starts_with("method 'ewna' is not known; the methods are 'auto', 'novelty', 'seasonal', 'ewma', ")
    );
    assert_eq!(
        error(json!({ "method": "ewma", "trees": 5 })),
        "method 'ewma' has no option `trees`, which 'rcf' and 'half_space' have; its options are `half_life`, `min_training`, `variance_floor`"
    );
    assert_eq!(
        error(json!({ "method": "ewma", "half_life": "x" })),
        "option `half_life` of method 'ewma' must be a number, not 'x'"
    );
    assert_eq!(
        error(json!({ "method": "ewma", "min_training": 1.5 })),
        "option `min_training` of method 'ewma' must be a whole number, not 1.5"
    );
    assert_eq!(
        error(json!({ "method": "ewma", "half_life": -1 })),
        "option `half_life` of method 'ewma' must be between 0.1 and 1000000000, not -1"
    );
    assert_eq!(
        error(json!({ "method": "ewma", "tree": 5 })),
        "method 'ewma' has no option `tree`; its options are `half_life`, `min_training`, `variance_floor`"
    );
    assert!(
        error(json!({ "method": "holt", "seasonality": "none" })).starts_with(
            "method 'holt' has no option `seasonality`, which 'auto', 'seasonal' and 'forecast' have; its"
        )
    );
    for method in ["novelty", "forecast", "half_space", "distance"] {
        assert_eq!(
            error(json!({ "method": method, "half_life": 10 })),
            format!("option `half_life` of method '{method}' must be between 1000 and 1000000, not 10")
        );
    }
    assert!(
        error(json!({ "method": "forecast", "period": 24, "seasonality": "none" }))
            .starts_with("option `seasonality` of method 'forecast' must be 'auto' or 'none' (its season is of rows")
    );
    let two = Method::parse(&map(json!({ "method": "ewma" })))
        .expect("it can be")
        .scorer(2, &Arc::default())
        .err()
        .expect("it takes one");
    assert_eq!(two.to_string(), "method 'ewma' takes one value, not 2");
}

/// A method that is described and cannot be made would fail in a running query.
#[test]
fn every_method_is_made_with_its_defaults() {
    for method in METHODS {
        let made = Method::parse(&map(json!({ "method": method.name })))
            .unwrap_or_else(|error| panic!("{}: {error}", method.name));
        assert!(made.scorer(method.features_max, &Arc::default()).is_ok(), "{}", method.name);
        assert!(made.to_string().starts_with(method.name));
    }
}

pub(super) fn rows() -> impl Strategy<Value = Vec<(u32, f64)>> {
    let value = prop_oneof![
        8 => -100.0..100.0f64,
        1 => Just(f64::NAN),
        1 => Just(1e6),
    ];
    proptest::collection::vec((0u32..4, value), 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Where a stream is cut into steps, and whether state went through a checkpoint in between, never shows in a score.
    #[test]
    fn scores_do_not_depend_on_batches(rows in rows(), cuts in proptest::collection::vec(1usize..80, 1..40)) {
        for described in METHODS {
            let method = young(described.name);
            let scorer = || method.scorer(1, &Arc::default()).expect("one feature");
            let score = |scorer: &mut Box<dyn Scorer>, rows: &[(u32, f64)]| {
                let (slots, values): (Vec<u32>, Vec<f64>) = rows.iter().copied().unzip();
                let grouped = Arc::new(GroupedRows::group(&slots, 4));
                let scores = score_now(scorer.as_mut(), &grouped, &[&values]);
                let mut all = vec![0; rows.len()];
                grouped.order().iter().zip(scores).for_each(|(row, score)| all[*row as usize] = score.to_bits());
                all
            };
            let whole = score(&mut scorer(), &rows);
            let mut pieces = Vec::new();
            let (mut rest, mut cut) = (rows.as_slice(), cuts.iter().cycle());
            let (mut running, mut known_max) = (scorer(), 0);
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*cut.next().expect("it cycles")));
                pieces.extend(score(&mut running, now));
                rest = later;
                let mut restored = scorer();
                running.sync();
                let known: Vec<u32> = (0..=now.iter().map(|(slot, _)| *slot).max().unwrap_or(0).max(known_max)).collect();
                known_max = *known.last().expect("it has one");
                let mut words = Vec::new();
                known.iter().for_each(|slot| running.read_slot(*slot, &mut words));
                restored.load(&known, &words);
                running = restored;
            }
            prop_assert_eq!(whole, pieces, "{}", described.name);
        }
    }

    /// A score that knew later rows would look good on history and be worth nothing on a stream.
    #[test]
    fn scores_depend_on_earlier_rows_only(rows in rows(), keep in 0usize..300) {
        for described in METHODS {
            let method = young(described.name);
            let score = |rows: &[(u32, f64)]| {
                let (slots, values): (Vec<u32>, Vec<f64>) = rows.iter().copied().unzip();
                let grouped = Arc::new(GroupedRows::group(&slots, 4));
                let mut scorer = method.scorer(1, &Arc::default()).expect("one feature");
                let scores = score_now(scorer.as_mut(), &grouped, &[&values]);
                let mut all = vec![0; rows.len()];
                grouped.order().iter().zip(scores).for_each(|(row, score)| all[*row as usize] = score.to_bits());
                all
            };
            let keep = keep.min(rows.len());
            prop_assert_eq!(&score(&rows)[..keep], score(&rows[..keep]), "{}", described.name);
        }
    }
}

/// Moving between CPU and device in the middle, as a placer would, never shows beyond a method's tolerance.
#[cfg(feature = "gpu")]
#[test]
fn scores_on_a_device_are_those_of_the_twin() {
    use crate::device::testing;
    use crate::placer::{DeviceChoice, PlacerSettings, Side, Switch};

    let Some(device) = testing::shared_test_device(&testing::test_options()) else { return };
    let rows: Vec<(u32, f64)> = (0..600u32)
        .map(|row| {
            (
                row % 3,
                f64::from(row).sin() * 10.0 + f64::from(row * 7919 % 101) / 50.0 + if row == 500 { 90.0 } else { 0.0 },
            )
        })
        .collect();
    for described in METHODS {
        let method = young(described.name);
        let settings = PlacerSettings { device: DeviceChoice::Gpu, ..PlacerSettings::default() };
        let opened = OpenDevice { device: device.clone(), calibration: None };
        let placement =
            Arc::new(Placement::on(settings, PlacedOptions::default(), Arc::new(move || Ok(opened.clone()))));
        let mut twin = method.scorer(1, &Arc::default()).expect("one feature");
        let mut moving = method.scorer(1, &placement).expect("one feature");
        let side = |step: u64| if (step / 3).is_multiple_of(2) { Side::Device } else { Side::Cpu };
        for (step, part) in (0u64..).zip(rows.chunks(47)) {
            moving.recall(&[Switch { step, side: side(step) }]);
            let (slots, values): (Vec<u32>, Vec<f64>) = part.iter().copied().unzip();
            let grouped = Arc::new(GroupedRows::group(&slots, 3));
            let expected = score_now(twin.as_mut(), &grouped, &[&values]);
            let found = score_now(moving.as_mut(), &grouped, &[&values]);
            // What has no shader stays where it is.
            let on_cpu_alone =
                ["auto", "novelty", "seasonal", "changepoint", "forecast", "rcf"].contains(&described.name);
            let placed = moving.decision().map(|decision| decision.side);
            assert_eq!(placed, (!on_cpu_alone).then(|| side(step)), "{}", described.name);
            for (expected, found) in expected.iter().zip(&found) {
                let near = (expected - found).abs() <= 2e-3 * expected.abs() + 2e-3;
                assert!(
                    near || expected == found || (expected.is_nan() && found.is_nan()),
                    "{}, batch {step}: {expected} and {found}",
                    described.name
                );
            }
        }
        moving.sync();
        let words = |scorer: &dyn Scorer, slot| {
            let mut words = Vec::new();
            scorer.read_slot(slot, &mut words);
            words
        };
        if described.name == "half_space" {
            (0..3).for_each(|slot| assert_eq!(words(moving.as_ref(), slot), words(twin.as_ref(), slot), "slot {slot}"));
        }
    }
}

/// What a detector with such options says of one key's rows.
pub(super) fn detections(options: Value, rows: &[(i64, f64)]) -> Detections {
    let options = DetectorOptions::parse(&map(options)).expect("they can be");
    let mut detector = options.detector(1, &Arc::default()).expect("one value");
    let (times, values): (Vec<i64>, Vec<f64>) = rows.iter().copied().unzip();
    let grouped = Arc::new(GroupedRows::group(&vec![0; rows.len()], 1));
    let mut group = crate::placed::WaveGroup::new();
    let context = RowContext { time_ms: Some(&times), learn: None };
    detector.start(&grouped, &[&values], context, &mut group);
    group.submit(|| {});
    detector.finish()
}

/// What is expected of a row, and between what, is told from the rows before it: its own value never shows.
#[test]
fn expectations_are_those_of_the_rows_before() {
    use crate::series::testing::gaussian;

    let value = |row: u64| 5.0 + (std::f64::consts::TAU * row as f64 / 24.0).sin() + gaussian(row);
    for described in METHODS {
        for rows in [1, 2, 30, 200, 500] {
            let said = |last: f64| {
                let mut rows: Vec<_> = (0..rows).map(|row| (row as i64 * 3_600_000, value(row))).collect();
                rows.last_mut().expect("a row").1 = last;
                let said = detections(json!({ "method": described.name }), &rows);
                [said.expected, said.lower, said.upper].map(|all| all[all.len() - 1])
            };
            let (usual, strange) = (said(6.0), said(6e3));
            assert_eq!(
                usual.map(f64::to_bits),
                strange.map(f64::to_bits),
                "{}, row {rows}: {usual:?} and {strange:?}",
                described.name
            );
            assert_eq!(usual[0].is_nan(), rows == 1 || (described.name == "forecast" && rows <= 30));
        }
    }
}

/// How long a method says that it has no score is how long it has none.
#[test]
fn scores_begin_after_the_warm_up() {
    use crate::series::testing::gaussian;

    for described in METHODS {
        for method in [young(described.name), Method::parse(&map(json!({ "method": described.name }))).expect("known")]
        {
            let values: Vec<f64> = (0..1000).map(gaussian).collect();
            let rows = Arc::new(GroupedRows::group(&vec![0; values.len()], 1));
            let mut scorer = method.scorer(1, &Arc::default()).expect("one feature");
            let scores = score_now(scorer.as_mut(), &rows, &[&values]);
            let first = scores.iter().position(|score| *score > 0.0).expect("a score");
            let warm_up = method.warm_up_rows(1) as usize;
            // `auto` scores all rows but has seen nothing yet; samples of `rcf` fill while they score.
            let begins = match described.name {
                "auto" => warm_up == 0,
                "rcf" => first <= warm_up,
                _ => (warm_up..warm_up + 3).contains(&first),
            };
            assert!(begins, "{method}: {first}, not {warm_up}");
        }
    }
}

pub(super) fn alarms(detections: &Detections) -> Vec<usize> {
    (0..detections.is_anomaly.len()).filter(|row| detections.is_anomaly[*row]).collect()
}

/// A series in which every row from the 200th on is far out, once a second.
fn noisy_then_wild() -> Vec<(i64, f64)> {
    let value = |row: i64| if row < 200 { (row * 7 % 13) as f64 } else { 1e6 * 2f64.powi(row as i32 - 200) };
    (0..220).map(|row| (row * 1_000, value(row))).collect()
}

/// After an alarm a key is quiet for as many rows, or for as long, as was asked for.
#[test]
fn rest_is_in_rows_or_in_time() {
    let rows = noisy_then_wild();
    let with = |rest: Value| {
        alarms(&detections(
            json!({ "method": "ewma", "max_false_alarm_rate": 0.2, "half_life": 1e6, "rest": rest }),
            &rows,
        ))
    };
    let all = with(json!(0));
    assert!(all.ends_with(&(201..220).collect::<Vec<_>>()), "{all:?}");
    let spaced = |alarms: &[usize], least: usize| alarms.windows(2).all(|pair| pair[1] - pair[0] >= least);
    let (by_rows, by_time) = (with(json!(4)), with(json!({ "ms": 5_000 })));
    assert!(spaced(&by_rows, 5) && by_rows.len() >= 4, "{by_rows:?}");
    assert_eq!(by_rows, by_time, "five seconds are five rows, of which the first is no longer at rest");
}

/// What no number can be compared with is an alarm, what is missing is none, and neither moves the expectations of the rows after it.
#[test]
fn values_beyond_all_others_are_alarms() {
    let mut rows = noisy_then_wild();
    rows.truncate(200);
    let calm = detections(json!({ "method": "ewma" }), &rows);
    rows[150].1 = f64::INFINITY;
    rows[151].1 = f64::NAN;
    // Beyond what `ewma` compares, and not beyond `f32`.
    rows[152].1 = 1e25;
    let wild = detections(json!({ "method": "ewma", "rest": 0 }), &rows);
    assert_eq!(alarms(&wild), [150, 152]);
    assert_eq!((wild.score[150], wild.p_value[150]), (f32::MAX, f32::MIN_POSITIVE));
    assert!(wild.score[151].is_nan() && !wild.is_anomaly[151]);
    // Three rows fewer were learnt; their values are in the same range.
    assert!((150..200).all(|row| wild.expected[row].is_nan() == (150..153).contains(&row)));
    assert!((153..200).all(|row| (wild.expected[row] - calm.expected[row]).abs() < 1.0));
}

/// Options of alarms are checked wherever they are given; `min_training` is the method's too.
#[test]
fn options_of_alarms_are_apart_from_those_of_the_method() {
    let method = |value| DetectorOptions::parse_method(&map(value)).map(|method| method.to_string());
    assert_eq!(
        method(json!({ "method": "ewma", "min_training": 7, "rest": 3 })),
        Ok("ewma(half_life=100, min_training=7, variance_floor=0.000000000000000001)".to_string())
    );
    assert!(method(json!({ "method": "distance", "min_training": 7 })).is_ok());
    let error = method(json!({ "rest": "x" })).expect_err("no rows").to_string();
    assert!(error.contains("must be a whole number of rows up to 10^9, not 'x'"), "{error}");
    let error = method(json!({ "rest": { "ms": -1 } })).expect_err("no time").to_string();
    assert!(error.contains("must be an interval of at most a thousand years, not below 0"), "{error}");
}

/// A value that a broken meter wrote must not blind the models to what comes after it: of it only a part is learnt.
#[test]
fn one_glitch_hides_no_later_anomaly() {
    use crate::series::testing::gaussian;

    const GLITCH: usize = 1500;
    let series = |key: u64, glitch: Option<f64>| -> Vec<(i64, f64)> {
        let mut values: Vec<f64> = (0..1700).map(|row| 5.0 + gaussian(key * 100_003 + row)).collect();
        values[GLITCH + 50] = 15.0;
        if let Some(glitch) = glitch {
            values[GLITCH] = glitch;
        }
        values.into_iter().zip(0..).map(|(value, row)| (row * 60_000, value)).collect()
    };
    for (method, hidden_max) in [("auto", 0), ("novelty", 3), ("seasonal", 0), ("forecast", 0)] {
        let mut hidden = vec![];
        for key in 0..10 {
            for glitch in [200.0, 999_999.0, -1e12] {
                let options = || json!({ "method": method, "rest": 10 });
                let (with, without) =
                    (detections(options(), &series(key, Some(glitch))), detections(options(), &series(key, None)));
                assert!(with.is_anomaly[GLITCH], "{method}, key {key}: {glitch} is no alarm");
                assert!(without.is_anomaly[GLITCH + 50], "{method}, key {key}: there is nothing to hide");
                if !with.is_anomaly[GLITCH + 50] {
                    hidden.push((key, glitch));
                }
            }
        }
        // What is told in the chance of a row is also how many as strange there were, and the glitch is one.
        assert!(hidden.len() <= hidden_max, "{method}: hidden is what comes after {hidden:?}");
    }
    for method in ["auto", "novelty", "seasonal", "changepoint", "forecast"] {
        let said = detections(json!({ "method": method }), &series(1, Some(999_999.0)));
        let (expected, width) = (said.expected[GLITCH + 10], said.upper[GLITCH + 10] - said.lower[GLITCH + 10]);
        assert!((expected - 5.0).abs() < 2.0 && width < 40.0, "{method}: {expected}, {width}");
    }
}

/// What lasts is no glitch: a level that shifts, however far, is learnt and gives no alarms for ever.
#[test]
fn a_level_that_shifts_is_followed() {
    use crate::series::testing::gaussian;

    const SHIFT: usize = 1500;
    for method in ["auto", "novelty", "seasonal", "changepoint", "forecast"] {
        for shift in [30.0, 1e5] {
            let value = |row: usize| 5.0 + gaussian(row as u64) + if row >= SHIFT { shift } else { 0.0 };
            let rows: Vec<(i64, f64)> = (0..3000).map(|row| (row as i64 * 60_000, value(row))).collect();
            let said = detections(json!({ "method": method }), &rows);
            let found = alarms(&said);
            assert!(found.iter().any(|row| (SHIFT..SHIFT + 30).contains(row)), "{method}, {shift}: {found:?}");
            assert!(found.iter().filter(|row| **row >= SHIFT + 300).count() <= 2, "{method}, {shift}: {found:?}");
        }
    }
}

/// Where alarms are told by bounds, a row is one if it is outside of them, and only then.
#[test]
fn alarms_by_bounds_agree_with_bounds() {
    use crate::series::testing::gaussian;

    let value = |row: u64| gaussian(row) * if row.is_multiple_of(90) { 6.0 } else { 1.0 } + (row / 400) as f64;
    let rows: Vec<(i64, f64)> = (0..2000).map(|row| (row as i64 * 60_000, value(row))).collect();
    for described in METHODS {
        let options = json!({ "method": described.name, "alarm": "bounds", "rest": 0, "max_false_alarm_rate": 0.01 });
        let said = detections(options, &rows);
        let found = alarms(&said);
        let first = found.first().copied().unwrap_or_default();
        let outside = |row: &usize| rows[*row].1 < said.lower[*row] || rows[*row].1 > said.upper[*row];
        let expected: Vec<usize> = (first..rows.len()).filter(outside).collect();
        assert_eq!(found, expected, "{}", described.name);
        assert!(first >= 100 && found.len() > 5, "{}: {found:?}", described.name);
    }
    let error = DetectorOptions::parse(&map(json!({ "alarm": "p" }))).expect_err("no such alarm").to_string();
    assert!(error.contains("must be 'chance' or 'bounds', not 'p'"), "{error}");
}

/// A half-life of chances is one of chances: scores stay, and of a series whose noise grows chances are greater the sooner earlier rows fade.
/// What is not said is the default.
#[test]
fn a_half_life_of_chances_changes_no_score() {
    let noise = |row: u64| if row < 6_000 { unit(row) } else { 3.0 * unit(row) };
    let rows: Vec<(i64, f64)> = (0..9_000).map(|row| (60_000 * row as i64, noise(row))).collect();
    for method in ["novelty", "forecast", "half_space", "distance"] {
        let described = Method::named(method).expect("it is described").options;
        let half_life = described.iter().find(|option| option.name == "half_life").expect("it has one");
        assert_eq!(half_life.default as f32, crate::calibration::HALF_LIFE_ROWS, "that of all others");
        let found = |half_life: Option<u32>| {
            let mut options = json!({ "method": method });
            half_life.into_iter().for_each(|rows| options["half_life"] = rows.into());
            detections(options, &rows)
        };
        let (unsaid, said, short) = (found(None), found(Some(50_000)), found(Some(1_000)));
        // As text: nothing is expected of a first row, and no NaN equals another.
        assert_eq!(format!("{unsaid:?}"), format!("{said:?}"), "{method}");
        assert_eq!(format!("{:?}", unsaid.score), format!("{:?}", short.score), "{method}");
        assert!(unsaid.p_value != short.p_value, "{method}");
    }
}

/// `seasonality => 'none'` takes no season out: what comes next is then told by the last values alone, which say nothing of the next one here.
/// (A season as short as the model's lags are long would be among these.)
#[test]
fn a_forecast_without_seasons_has_none() {
    let season = |row: u64| 10.0 * unit(row % 100) + 0.1 * unit(1_000 + row);
    let rows: Vec<(i64, f64)> = (0..1_200).map(|row| (3_600_000 * row as i64, season(row))).collect();
    let off_by = |seasonality: &str| {
        let found = detections(json!({ "method": "forecast", "seasonality": seasonality }), &rows);
        let missed = rows.iter().zip(&found.expected).skip(600).map(|((_, value), expected)| (value - expected).abs());
        missed.sum::<f64>() / 600.0
    };
    let (found, none) = (off_by("auto"), off_by("none"));
    assert!(none > 10.0 * found, "{none} without a season, {found} with it");
}
