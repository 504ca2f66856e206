//! The operator against each partition's rows, sorted and scored at once.

use std::collections::BTreeMap;

use arrow::array::{Float64Array, Int64Array, ListArray, TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::{Float64Type, TimeUnit};
use proptest::prelude::*;

use arrow::compute::SortOptions;

use eagre_kernels::score::{DetectorOptions, Method};

use super::*;
use crate::aggregate::testing::{Pipeline, show};
use crate::operator::chain::ChainFactory;

#[derive(Debug, Clone, Copy)]
struct Row {
    ts: i64,
    key: i64,
    value: Option<f64>,
    arrival: u64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Float64, true),
        Field::new("pair", crate::arrays::array_type(), true),
    ]))
}

impl Row {
    /// The value and the key as an array; now and then one number is missing.
    fn pair(&self) -> Vec<Option<f64>> {
        let both = vec![self.value, Some(self.key as f64)];
        if self.arrival % 7 == 6 { both[..1].to_vec() } else { both }
    }
}

fn pairs(rows: &[Row]) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows.iter().map(|row| Some(row.pair()))))
}

fn delta_of(rows: &[Row]) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.ts))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.key))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.value))),
        pairs(rows),
    ];
    Delta {
        batch: RecordBatch::try_new(schema(), columns).expect("columns fit"),
        weights: None,
        ordinals: Some(UInt64Array::from_iter_values(rows.iter().map(|row| row.arrival))),
    }
}

fn method() -> Method {
    let options = r#"{ "method": "ewma", "min_training": 3, "half_life": 5 }"#;
    Method::parse(&serde_json::from_str(options).expect("an object")).expect("it can be")
}

fn score() -> ScoreAnswer {
    ScoreAnswer::Score(method())
}

/// Alarms are frequent and rest for a while, so that what a detector remembers shows.
fn found() -> ScoreAnswer {
    let options = r#"{ "half_life": 5, "min_training": 2, "max_false_alarm_rate": 0.4, "rest": { "ms": 11 } }"#;
    let options = serde_json::from_str(options).expect("an object");
    ScoreAnswer::Detections(DetectorOptions::parse(&options).expect("they can be"))
}

/// Of arrays, by a method that takes several values.
fn of_pairs() -> ScoreAnswer {
    let options = r#"{ "method": "rcf", "window": 1, "trees": 3, "sample": 8, "min_training": 2 }"#;
    ScoreAnswer::Detections(
        DetectorOptions::parse(&serde_json::from_str(options).expect("an object")).expect("they can be"),
    )
}

fn factory(by_watermark: bool) -> ScoreFactory {
    let call = |name: &str, answer: ScoreAnswer| ScoreCall {
        name: name.into(),
        answer,
        features: vec![2],
        width: None,
        time: Some(0),
        learn: None,
    };
    let pairs = ScoreCall { features: vec![3], width: Some(2), ..call("pairs", of_pairs()) };
    let order = vec![OrderKey { column: 0, options: SortOptions { descending: false, nulls_first: false } }];
    let spec = ScoreSpec {
        input: schema(),
        partition: vec![1],
        order,
        by_watermark,
        calls: vec![call("score", score()), call("found", found()), pairs],
        placement: Arc::default(),
    };
    ScoreFactory::new(spec).expect("it can be")
}

/// `ts|key|value|pair|score|found|pairs` of every row, from the definition: an array is its numbers as columns.
fn expected(rows: &[Row]) -> Vec<String> {
    let mut by_key: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| by_key.entry(row.key).or_default().push(*row));
    let mut lines = Vec::new();
    for mut rows in by_key.into_values() {
        rows.sort_by_key(|row| (row.ts, row.arrival));
        let values: ArrayRef = Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.value)));
        let time: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.ts)));
        let answer = |answer| score_partition(&answer, &[Arc::clone(&values)], None, Some(&time), None, rows.len());
        let place = |place: usize| -> ArrayRef {
            let number = |row: &Row| if row.pair().len() == 2 { row.pair()[place] } else { None };
            Arc::new(rows.iter().map(number).collect::<Float64Array>())
        };
        let side_by_side = [place(0), place(1)];
        let columns = vec![
            Arc::clone(&time),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.key))),
            Arc::clone(&values),
            pairs(&rows),
            answer(score()).expect("scores"),
            answer(found()).expect("detections"),
            score_partition(&of_pairs(), &side_by_side, None, Some(&time), None, rows.len()).expect("detections"),
        ];
        let batch = batch_of(&factory(true).output_schema(), columns, rows.len()).expect("the operator's columns");
        lines.extend(show(&[Delta::insert(batch)]).into_iter().map(|(line, _)| line));
    }
    lines.sort();
    lines
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    // The value is a whole number of eighths, so that it prints as it is.
    let row = (0i64..20, 0i64..4, proptest::option::weighted(0.9, -400i32..400));
    proptest::collection::vec(row, 0..120).prop_map(|rows| {
        let row = |(index, (jitter, key, value)): (usize, (i64, i64, Option<i32>))| Row {
            ts: (index as i64) * 3 + jitter,
            key,
            value: value.map(|value| f64::from(value) / 8.0),
            arrival: index as u64,
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Steps, disorder within the watermark's delay, shards, checkpoints and restarts never show in a score.
    #[test]
    fn scores_are_those_of_the_sorted_partition(
        rows in rows(),
        steps in proptest::collection::vec(1usize..20, 1..10),
        shards in 1usize..4,
        restarts in proptest::collection::vec(proptest::option::weighted(0.3, (any::<bool>(), 1usize..4)), 0..40),
        by_watermark in any::<bool>(),
    ) {
        let (local, global) = (ChainFactory::new(vec![]), factory(by_watermark));
        let mut pipeline = Pipeline::new(&local, &global, vec![1], shards);
        let (mut results, mut rest, mut greatest, mut step) = (Vec::new(), rows.as_slice(), i64::MIN, 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(steps[step % steps.len()].min(rest.len()));
            rest = later;
            greatest = now.iter().fold(greatest, |greatest, row| greatest.max(row.ts));
            results.extend(show(&pipeline.step(&[delta_of(now)], greatest.saturating_sub(20))));
            if let Some((full, shards)) = restarts.get(step).copied().flatten() {
                pipeline.save(if full { SaveKind::Full } else { SaveKind::Changes });
                pipeline.restart(shards);
            }
            step += 1;
        }
        results.extend(show(&pipeline.step(&[], i64::MAX)));
        prop_assert!(pipeline.late.is_empty());
        prop_assert!(results.iter().all(|(_, weight)| *weight == 1));
        let mut results: Vec<String> = results.into_iter().map(|(line, _)| line).collect();
        results.sort();
        prop_assert_eq!(results, expected(&rows));
    }
}

/// A row behind the watermark cannot be scored any more, because later ones were; it must not vanish either.
#[test]
fn late_rows_are_refused_and_told() {
    let (local, global) = (ChainFactory::new(vec![]), factory(true));
    let mut pipeline = Pipeline::new(&local, &global, vec![1], 1);
    let row = |ts, arrival| Row { ts, key: 1, value: Some(1.0), arrival };
    assert_eq!(show(&pipeline.step(&[delta_of(&[row(5, 0), row(9, 1)])], 8)).len(), 1, "5 is passed, 9 waits");
    assert!(show(&pipeline.step(&[delta_of(&[row(7, 2)])], 8)).is_empty());
    let late: Vec<i64> = pipeline.late.iter().flat_map(|late| late.event_times.iter().copied()).collect();
    assert_eq!(late, [7]);
    assert_eq!(show(&pipeline.step(&[], i64::MAX)).len(), 1);
}

/// A reader should not see the digits that a score does not have.
#[test]
fn scores_have_six_digits() {
    let of = |score: f32| calls::six_digits(f64::from(score));
    assert_eq!((of(0.3), of(2.371_639_3), of(-12_345.678), of(0.0)), (0.3, 2.37164, -12_345.7, 0.0));
    assert_eq!((of(1.234_567e-7), of(123_456_790.0), of(f32::INFINITY)), (1.23457e-7, 123_457_000.0, f64::INFINITY));
}

/// A reader should see of an expectation what is known of it: digits beyond those of the distance to its bounds are noise.
#[test]
fn expectations_have_the_digits_of_their_bounds() {
    assert_eq!(calls::in_grains(20.100_000_043, 3.2), 20.1);
    assert_eq!(calls::in_grains(1_000_000.250_000_012, 0.5), 1_000_000.25);
    assert_eq!(calls::in_grains(1_000_000.25, 4e7), 1_000_000.0);
    assert_eq!(calls::in_grains(0.1 + 0.2, 0.0), 0.3);
}
