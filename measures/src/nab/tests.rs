//! The rules by hand, and against figures of another implementation of them on real files.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// 100 rows, a window of ten, and alarms at the given rows.
fn score_of(alarms: &[usize], profile: Profile, threshold: Threshold) -> Outcome {
    let plan = Plan::new(100, vec![50..60]).expect("a window in the file");
    let mut scores = vec![0.0; 100];
    alarms.iter().for_each(|row| scores[*row] = 1.0);
    score(&[plan], &[scores], profile, threshold).expect("one finite score for each row")
}

fn standard(alarms: &[usize]) -> f64 {
    score_of(alarms, Profile::Standard, Threshold::Fixed(0.5)).score
}

fn assert_near(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-9, "{value}, expected {expected}");
}

/// Each rule by itself. With one window a hit is worth 2 of 200 raw points on the scale: from −1 to +1.
#[test]
fn rules_by_hand() {
    assert_near(standard(&[]), 0.0);
    assert_near(standard(&[50]), 100.0);
    // Later hits earn nothing, and the probation of 15 rows does not count.
    assert_near(standard(&[50, 55, 59]), 100.0);
    assert_near(standard(&[3, 14, 50]), 100.0);
    assert_near(standard(&[59]), 50.0 * (sigma(-0.1) / sigma(-1.0) + 1.0));
    // A false alarm before the window, one just after it, and one far after it, which is as bad as the first.
    assert_near(standard(&[20, 50]), 100.0 - 5.5);
    assert_near(standard(&[50, 60]), 100.0 + 0.11 * sigma(1.0 / 9.0) * 50.0);
    assert_near(standard(&[50, 87]), 100.0 - 5.5);
    // σ(y) by hand: σ(−1) = 2 / (1 + e^−5) − 1.
    assert_near(sigma(-1.0), 2.0 / (1.0 + (-5.0f64).exp()) - 1.0);
    let low = |profile| score_of(&[20, 50], profile, Threshold::Fixed(0.5)).score;
    assert_near(low(Profile::RewardLowFalsePositives), 100.0 - 11.0);
    // With misses at 2 the scale has 3 raw points.
    assert_near(low(Profile::RewardLowFalseNegatives), 100.0 - 0.11 / 3.0 * 100.0);
}

/// Counts are of rows and windows after the probation.
#[test]
fn counts_by_hand() {
    let outcome = score_of(&[3, 20, 50, 55, 99], Profile::Standard, Threshold::Fixed(0.5));
    assert_eq!((outcome.windows_hit, outcome.windows, outcome.false_alarm_rows, outcome.scored_rows), (1, 1, 2, 85));
    assert_near(outcome.false_alarms_per_10k_rows(), 1e4 * 2.0 / 85.0);
    // A window within the probation can be neither hit nor missed, but a perfect detector is still said to have it.
    let plan = Plan::new(100, vec![2..5, 50..60]).expect("windows in the file");
    let silent = score(&[plan], &[vec![0.0; 100]], Profile::Standard, Threshold::Fixed(0.5)).expect("scores");
    assert_eq!((silent.windows, silent.files[0].raw), (1, -1.0));
    // A long file has no longer probation than 750 rows.
    assert_eq!(Plan::new(20_000, Vec::new()).expect("no windows").probation_rows, 750);
    assert_eq!(Plan::new(99, Vec::new()).expect("no windows").probation_rows, 14);
}

/// The best threshold takes the hit and leaves the false alarm; left out, a file does not choose for itself.
#[test]
fn thresholds_are_chosen() {
    let plan = Plan::new(100, vec![50..60]).expect("a window in the file");
    let file = |hit: f64, miss: f64| {
        let mut scores = vec![0.0; 100];
        (scores[50], scores[20]) = (hit, miss);
        scores
    };
    let run = |scores: Vec<Vec<f64>>, threshold| {
        score(&vec![plan.clone(); scores.len()], &scores, Profile::Standard, threshold).expect("scores")
    };
    let best = run(vec![file(0.9, 0.8)], Threshold::Best);
    assert_eq!(best.files[0].threshold, 0.9);
    assert_near(best.score, 100.0);
    // Alone, a file has no other to choose for it, and silence is what no evidence advises.
    assert_eq!(run(vec![file(0.9, 0.8)], Threshold::LeaveOneOut).files[0].threshold, f64::INFINITY);
    let outcome = run(vec![file(0.9, 0.8), file(0.5, 0.3)], Threshold::LeaveOneOut);
    assert_eq!((outcome.files[0].threshold, outcome.files[1].threshold), (0.5, 0.9));
    // The first has both its rows at 0.5 and more, the second none at 0.9.
    assert_near(outcome.score, (100.0 - 5.5 + 0.0) / 2.0);
}

/// Figures of an independent implementation (Python, of the same rules) on the real files of this repository, for a score that anyone
/// can write down again: the step over the running mean of steps.
#[test]
fn agrees_with_another_implementation_on_real_files() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../datasets/data/nab");
    let files = load(&data, &data.join("windows.json")).expect("the files of the repository");
    let scores: Vec<Vec<f64>> = files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(data.join(&file.name)).expect("a file of the repository");
            let values: Vec<f64> = text
                .lines()
                .skip(1)
                .map(|line| line.split(',').nth(1).expect("two columns").parse().expect("a number"))
                .collect();
            let (mut mean, mut previous) = (0.0, values[0]);
            let score = |value: &f64| {
                let step = (value - previous).abs();
                let score = step / (mean + 1.0);
                mean += 0.01 * (step - mean);
                previous = *value;
                score
            };
            values.iter().map(score).collect()
        })
        .collect();
    let plans: Vec<Plan> = files.iter().map(|file| file.plan.clone()).collect();
    let cases = [
        (Threshold::Best, [(43.67, 39), (33.09, 39), (50.17, 39)]),
        (Threshold::LeaveOneOut, [(39.88, 42), (30.17, 39), (41.19, 68)]),
        (Threshold::Fixed(5.0), [(42.24, 45), (30.19, 45), (49.21, 45)]),
    ];
    for (threshold, expected) in cases {
        for (profile, (points, false_alarm_rows)) in Profile::ALL.into_iter().zip(expected) {
            let outcome = score(&plans, &scores, profile, threshold).expect("scores");
            let what = format!("{} {threshold:?}: {}", profile.name(), outcome.score);
            assert!((outcome.score - points).abs() < 0.005 + 1e-9, "{what}, expected {points}");
            assert_eq!((outcome.false_alarm_rows, outcome.windows), (false_alarm_rows, 19), "{what}");
        }
    }
}

/// Files of results are found beside their prefix, and what is wrong with them is told by name.
#[test]
fn files_of_results() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, results) = (folder.path().join("data"), folder.path().join("results"));
    let write = |path: PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write(
        data.join("a/x.csv"),
        "timestamp,value\n2020-01-01T00:00:00,1\n2020-01-01 00:05:00,2\n2020-01-01 00:10:00,3\n",
    );
    let windows = folder.path().join("windows.json");
    write(
        windows.clone(),
        r#"{"a/x.csv": [["2020-01-01 00:05:00.000000", "2020-01-01 00:10:00"]], "a/held_back.csv": []}"#,
    );
    let files = load(&data, &windows).expect("one file");
    assert_eq!((files.len(), files[0].windows.clone(), files[0].timestamps.len()), (1, vec![1..3], 3));
    let error = |expected: &str| {
        let error = load_scores(&results, &files[0]).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}\nshould contain: {expected}");
    };
    error("results/a");
    write(results.join("a/detector_x.csv"), "timestamp,value,anomaly_score\n,,0\n,,0.5\n,,1e-3\n");
    assert_eq!(load_scores(&results, &files[0]).expect("scores"), [0.0, 0.5, 0.001]);
    write(results.join("a/x.csv"), "anomaly_score\n0\n0\nhigh\n");
    error("2 files of results for `a/x.csv`; there has to be one");
    std::fs::remove_file(results.join("a/detector_x.csv")).expect("a file");
    error("the score of row 2 (rows count from 0) is `high`");
    write(results.join("a/x.csv"), "anomaly_score\n0\n");
    error("1 scores for the 3 rows of `a/x.csv`");
    write(results.join("a/x.csv"), "value\n0\n");
    error("no column is named `anomaly_score` or `score`");
    write(windows.clone(), r#"{"a/x.csv": [["2020-01-01 00:06:00", "2020-01-01 00:10:00"]]}"#);
    let error = load(&data, &windows).expect_err("no such timestamp").to_string();
    assert!(error.contains("`2020-01-01 00:06:00`, is no timestamp of the file"), "{error}");
    write(windows.clone(), r#"{"b.csv": []}"#);
    assert!(load(&data, &windows).expect_err("no file").to_string().contains("none of the files"));
}

/// What cannot be scored is refused.
#[test]
fn refusals_help() {
    let error = Plan::new(10, vec![3..5, 4..7]).expect_err("windows overlap").to_string();
    assert!(error.contains("window 4..7 does not lie in the 10 rows"), "{error}");
    let plan = Plan::new(3, Vec::new()).expect("no windows");
    let error = score(std::slice::from_ref(&plan), &[vec![0.0; 2]], Profile::Standard, Threshold::Best)
        .expect_err("too few")
        .to_string();
    assert!(error.contains("2 scores for 3 labels"), "{error}");
    let scores = vec![0.0, f64::INFINITY, 0.0];
    assert!(score(&[plan], &[scores], Profile::Standard, Threshold::Best).is_err());
}

proptest! {
    /// The chosen threshold is at least as good as any other, tried one by one.
    #[test]
    fn no_threshold_is_better_than_the_best(
        files in prop::collection::vec(prop::collection::vec(0u8..8, 40..80), 1..4), at in 10usize..25, width in 1usize..10,
    ) {
        let scores: Vec<Vec<f64>> = files.iter().map(|file| file.iter().map(|score| f64::from(*score)).collect()).collect();
        let plans: Vec<Plan> =
            scores.iter().map(|scores| Plan::new(scores.len(), vec![at..at + width]).expect("in the file")).collect();
        for profile in Profile::ALL {
            let best = score(&plans, &scores, profile, Threshold::Best).expect("scores").score;
            for threshold in 0..=8 {
                let fixed = score(&plans, &scores, profile, Threshold::Fixed(f64::from(threshold))).expect("scores").score;
                prop_assert!(fixed <= best + 1e-9, "{} at {} over {}", fixed, threshold, best);
            }
            prop_assert!((-1e-9..=100.0 + 1e-9).contains(&best));
        }
    }
}
