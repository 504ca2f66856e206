use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use crate::placed::WaveGroup;
use crate::rows::GroupedRows;
use crate::score::tests::{map, rows, young};
use crate::score::{DetectorOptions, METHODS, Method, RowContext, Scorer};
use crate::series::testing::gaussian;

/// Keys of [`rows`].
const KEYS: u32 = 4;

/// A method whose models of rows have no place for a row that is not learnt, not even in time.
fn without_time(name: &str) -> Method {
    match name {
        "auto" | "seasonal" => {
            Method::parse(&map(json!({ "method": name, "seasonality": "none" }))).expect("it can be")
        }
        name => young(name),
    }
}

fn words(scorer: &dyn Scorer) -> Vec<u32> {
    let mut words = Vec::new();
    (0..KEYS).for_each(|slot| scorer.read_slot(slot, &mut words));
    words
}

/// The bits of the scores of rows, in steps of `cut` with a checkpoint after each, and the state at the end.
fn run(method: &Method, rows: &[(u32, f64)], learn: &[bool], cut: usize) -> (Vec<u32>, Vec<u32>) {
    // All keys are there from the beginning, as in a checkpoint.
    let scorer = || method.selective_scorer(1).expect("one value");
    let (mut running, mut scores) = (scorer(), Vec::new());
    let initial: Vec<u32> = (0..KEYS).flat_map(|_| running.state_shape().initial().to_vec()).collect();
    let slots: Vec<u32> = (0..KEYS).collect();
    running.load(&slots, &initial);
    for (rows, learn) in rows.chunks(cut).zip(learn.chunks(cut)) {
        let (of_rows, values): (Vec<u32>, Vec<f64>) = rows.iter().copied().unzip();
        let grouped = Arc::new(GroupedRows::group(&of_rows, KEYS as usize));
        let context = RowContext { time_ms: None, learn: Some(learn) };
        running.start(&grouped, &[&values], context, &mut WaveGroup::new());
        let mut all = vec![0; rows.len()];
        let found = running.finish();
        grouped.order().iter().zip(found).for_each(|(row, score)| all[*row as usize] = score.to_bits());
        scores.extend(all);
        let mut restored = scorer();
        restored.load(&slots, &words(running.as_ref()));
        running = restored;
    }
    (scores, words(running.as_ref()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Where a stream is cut into steps shows in no score, whatever is learnt; and where all is, the scores are those of a call that says
    /// nothing of it.
    #[test]
    fn steps_never_show(rows in rows(), learn in proptest::collection::vec(any::<bool>(), 300), cut in 1usize..80) {
        let learn = &learn[..rows.len()];
        for described in METHODS {
            let method = young(described.name);
            let whole = run(&method, &rows, learn, 300);
            prop_assert_eq!(&whole, &run(&method, &rows, learn, cut), "{}", described.name);
            let mut plain = method.scorer(1, &Arc::default()).expect("one value");
            let (slots, values): (Vec<u32>, Vec<f64>) = rows.iter().copied().unzip();
            let grouped = Arc::new(GroupedRows::group(&slots, KEYS as usize));
            let expected = crate::score::score_now(plain.as_mut(), &grouped, &[&values]);
            let (all, _) = run(&method, &rows, &vec![true; rows.len()], cut);
            let all: Vec<u32> = grouped.order().iter().map(|row| all[*row as usize]).collect();
            prop_assert_eq!(all, expected.iter().map(|score| score.to_bits()).collect::<Vec<_>>(), "{}", described.name);
        }
    }

    /// A row that is not learnt leaves no trace: scores after it and the state, to the bit, are those of a stream without it.
    #[test]
    fn what_is_not_learnt_was_never_there(
        rows in rows(), learn in proptest::collection::vec(proptest::bool::weighted(0.7), 300), cut in 1usize..80
    ) {
        let learn = &learn[..rows.len()];
        let learnt: Vec<(u32, f64)> = rows.iter().zip(learn).filter(|(_, learn)| **learn).map(|(row, _)| *row).collect();
        for name in ["auto", "novelty", "seasonal", "ewma", "holt", "cusum", "changepoint", "rcf", "half_space"] {
            let method = without_time(name);
            let (scores, state) = run(&method, &rows, learn, cut);
            let scores: Vec<u32> = scores.into_iter().zip(learn).filter(|(_, learn)| **learn).map(|(score, _)| score).collect();
            let (expected, state_without) = run(&method, &learnt, &vec![true; learnt.len()], 300);
            prop_assert_eq!(scores, expected, "{}", name);
            prop_assert!(state == state_without, "the state of {name}");
        }
    }

    /// A row that is not learnt is scored as if it were: what was learnt before it is all that its score is made of.
    #[test]
    fn what_is_not_learnt_is_scored_as_any(rows in rows(), last in 0usize..300) {
        prop_assume!(last < rows.len());
        for described in METHODS {
            let method = young(described.name);
            let scored = |learns_last: bool| {
                let learn: Vec<bool> = (0..=last).map(|row| row < last || learns_last).collect();
                run(&method, &rows[..=last], &learn, 300).0[last]
            };
            prop_assert_eq!(scored(true), scored(false), "{}", described.name);
        }
    }
}

/// What a selective detector says of one key, row by row, with the words of the key after each row.
fn judged(method: &str, values: &[f64], learn: &[bool]) -> Vec<(f32, Vec<u32>)> {
    let options = json!({ "method": method, "rest": 0 });
    let options = DetectorOptions::parse(&map(options)).expect("they can be");
    let mut detector = options.selective_detector(1).expect("one value");
    let grouped = Arc::new(GroupedRows::group(&[0], 1));
    let mut said = Vec::new();
    for (row, (value, learn)) in values.iter().zip(learn).enumerate() {
        let context = RowContext { time_ms: Some(&[row as i64 * 60_000]), learn: Some(&[*learn]) };
        detector.start(&grouped, &[&[*value]], context, &mut WaveGroup::new());
        let found = detector.finish();
        let mut words = Vec::new();
        detector.read_slot(0, &mut words);
        said.push((found.p_value[0], words));
    }
    said
}

/// Neither a model of windows nor its calibration learns a window that holds a row that is not to be learnt; the next one is learnt again.
#[test]
fn windows_with_such_a_row_are_not_learnt() {
    const FIRST: usize = 600;
    let values: Vec<f64> = (0..FIRST as u64 + 60).map(|row| (row as f64 * 0.4).sin() + 0.1 * gaussian(row)).collect();
    let learn: Vec<bool> = (0..values.len()).map(|row| row != FIRST && row != FIRST + 3).collect();
    for name in ["subspace", "centroids", "distance"] {
        let options = DetectorOptions::parse(&map(json!({ "method": name }))).expect("they can be");
        let words = options.selective_detector(1).expect("one value").state_shape().words_per_slot();
        let of_scorer = options.method().selective_scorer(1).expect("one value").state_shape().words_per_slot();
        let said = judged(name, &values, &learn);
        // The last such window ends 31 rows after the second row.
        for row in FIRST - 1..FIRST + 40 {
            let (before, after) = (&said[row - 1].1[of_scorer..words], &said[row].1[of_scorer..words]);
            let learns = !(FIRST..FIRST + 3 + 32).contains(&row);
            assert_eq!(before != after, learns, "{name}: the calibration in row {row}");
            if name != "distance" {
                // Vectors stand behind the header, their counts and the values.
                let vectors = 4 + 4 + 32;
                let model = |row: usize| (said[row].1[2], said[row].1[3], said[row].1[vectors..of_scorer - 1].to_vec());
                assert_eq!(model(row - 1) != model(row), learns, "{name}: the model in row {row}");
            }
        }
    }
}

/// A condition that all rows meet changes nothing that a detector says: so the rate is held as it is without one.
#[test]
fn a_condition_that_always_holds_changes_nothing() {
    let values: Vec<f64> = (0..1200).map(|row| gaussian(row) + if row == 900 { 30.0 } else { 0.0 }).collect();
    let times: Vec<i64> = (0..1200).map(|row| row * 60_000).collect();
    let grouped = Arc::new(GroupedRows::group(&vec![0; values.len()], 1));
    for described in METHODS {
        for features in [1, 2] {
            if features > described.features_max {
                continue;
            }
            let options = DetectorOptions::parse(&map(json!({ "method": described.name }))).expect("they can be");
            let said = |mut detector: crate::score::Detector, learn: Option<&[bool]>| {
                let context = RowContext { time_ms: Some(&times), learn };
                let mut group = WaveGroup::new();
                detector.start(&grouped, &vec![values.as_slice(); features], context, &mut group);
                group.submit(|| {});
                // As text, in which what is not a number is equal to itself.
                format!("{:?}", detector.finish())
            };
            let all = vec![true; values.len()];
            let with = said(options.selective_detector(features).expect("it can be"), Some(&all));
            let without = said(options.detector(features, &Arc::default()).expect("it can be"), None);
            assert!(with == without, "{} of {features}", described.name);
        }
    }
}
