use std::collections::BTreeMap;

use arrow::array::{Decimal128Array, Int32Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{Field, Schema, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::expr::StepContext;
use crate::time::Watermarks;

const SIZE_MS: i64 = 10;

/// Time, value and number of a row.
type Row = (Option<i64>, Option<i32>, i64);

fn schema(value: DataType) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    Arc::new(Schema::new(vec![
        Field::new("ts", time, true),
        Field::new("value", value, true),
        Field::new("number", DataType::Int64, false),
    ]))
}

fn batch(rows: &[Row], value: &DataType) -> Delta {
    let values = Int32Array::from_iter(rows.iter().map(|row| row.1));
    let values = match value {
        DataType::Decimal128(precision, scale) => {
            let words = values.iter().map(|value| value.map(i128::from)).collect::<Decimal128Array>();
            Arc::new(words.with_precision_and_scale(*precision, *scale).expect("fits")) as ArrayRef
        }
        other => cast(&values, other).expect("casts"),
    };
    let times = TimestampMillisecondArray::from_iter(rows.iter().map(|row| row.0));
    let numbers = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
    let columns = vec![Arc::new(times) as ArrayRef, values, Arc::new(numbers)];
    Delta::insert(RecordBatch::try_new(schema(value.clone()), columns).expect("a batch"))
}

fn filter(value: &DataType, greatest: bool, ends_ms: (i64, i64)) -> Box<dyn Operator> {
    let spec = ExtremeSpec { value: 1, greatest, time: 0, size_ms: SIZE_MS, offset_ms: 3, ends_ms };
    let factory = ExtremeFilterFactory::new(spec, &schema(value.clone())).expect("plans").expect("pays");
    factory.create().expect("creates")
}

fn run(operator: &mut dyn Operator, deltas: Vec<Delta>, watermarks: Watermarks) -> Vec<i64> {
    let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
    let mut out = Output::default();
    operator.step(Input { ports: vec![deltas], context: &context, watermarks }, &mut out).expect("runs");
    let numbers =
        out.deltas.iter().flat_map(|delta| delta.batch.column(2).as_primitive::<Int64Type>().values().to_vec());
    numbers.collect()
}

/// The end of the window of a time.
fn end_of(time: i64) -> i64 {
    (time - 3).div_euclid(SIZE_MS) * SIZE_MS + 3 + SIZE_MS
}

fn value_type() -> impl Strategy<Value = DataType> {
    prop_oneof![
        Just(DataType::Int64),
        Just(DataType::Int8),
        Just(DataType::Decimal128(20, 2)),
        Just(DataType::Timestamp(TimeUnit::Second, None)),
    ]
}

proptest! {
    /// Every row that equals the final extreme of a window that it may be joined with has passed, whatever came when, and all rows that did
    /// are rows of the input, in its order. What is late or incomplete passes.
    #[test]
    fn whoever_may_match_passes(
        steps in proptest::collection::vec(
            (proptest::collection::vec((proptest::option::weighted(0.95, -30_i64..60), proptest::option::weighted(0.95, -3_i32..4)), 0..40), 0_i64..12),
            1..8,
        ),
        value in value_type(),
        greatest in any::<bool>(),
        (least, span) in (-15_i64..15, 0_i64..25),
    ) {
        let ends_ms = (least, least + span);
        let mut operator = filter(&value, greatest, ends_ms);
        let (mut before, mut number) = (i64::MIN, 0);
        let mut best: BTreeMap<i64, i32> = BTreeMap::new();
        let (mut all, mut passed, mut must) = (Vec::new(), Vec::new(), Vec::new());
        for (rows, advance) in steps {
            let rows: Vec<Row> = rows.into_iter().map(|(time, value)| { number += 1; (time, value, number) }).collect();
            for (time, value, number) in &rows {
                if let (Some(time), Some(value)) = (time, value) && end_of(*time) > before {
                    let entry = best.entry(end_of(*time)).or_insert(*value);
                    *entry = if greatest { (*entry).max(*value) } else { (*entry).min(*value) };
                }
                if time.is_none_or(|time| time < before) || value.is_none() {
                    must.push(*number);
                }
            }
            let after = before.max(-40).saturating_add(advance);
            let halves = rows.split_at(rows.len() / 2);
            let deltas = vec![batch(halves.0, &value), batch(halves.1, &value)];
            passed.extend(run(operator.as_mut(), deltas, Watermarks { before, after }));
            all.extend(rows);
            before = after;
        }
        let meets = |time: i64, value: i32| best.iter().any(|(end, best)| {
            (time + ends_ms.0..=time + ends_ms.1).contains(end) && *best == value
        });
        let matching = all.iter().filter(|(time, value, _)| time.zip(*value).is_some_and(|(time, value)| meets(time, value)));
        must.extend(matching.map(|row| row.2));
        let missing: Vec<_> = must.iter().filter(|number| !passed.contains(number)).collect();
        prop_assert!(missing.is_empty(), "{missing:?} of {all:?} did not pass");
        prop_assert!(passed.windows(2).all(|pair| pair[0] < pair[1]), "{passed:?}");
    }
}

/// Rows below what has come go, in the step of the greater one too, and each window has its own.
#[test]
fn whoever_cannot_match_is_dropped() {
    let mut operator = filter(&DataType::Int64, true, (0, SIZE_MS));
    let none = Watermarks { before: i64::MIN, after: 0 };
    let rows = [(Some(4), Some(5), 1), (Some(5), Some(7), 2), (Some(6), Some(6), 3), (Some(14), Some(1), 4)];
    assert_eq!(run(operator.as_mut(), vec![batch(&rows, &DataType::Int64)], none), [2, 4]);
    // At 13 a row may be of the window that ends there, of which 7 is the greatest, and of the next one.
    let rows = [(Some(7), Some(7), 5), (Some(8), Some(6), 6), (Some(13), Some(0), 7), (Some(13), Some(7), 8)];
    let none = Watermarks { before: 0, after: 13 };
    assert_eq!(run(operator.as_mut(), vec![batch(&rows, &DataType::Int64)], none), [5, 8]);
    // The window that ends at 13 is closed, and behind it no row asks any more.
    let none = Watermarks { before: 13, after: 23 };
    assert_eq!(run(operator.as_mut(), vec![batch(&[(Some(9), Some(1), 9)], &DataType::Int64)], none), [9]);
    assert_eq!(run(operator.as_mut(), vec![batch(&[(Some(24), Some(1), 10)], &DataType::Int64)], none), [10]);
}

/// Only where equal means the same, and where few windows are met.
#[test]
fn where_it_does_not_pay_there_is_none() {
    let spec = ExtremeSpec { value: 1, greatest: true, time: 0, size_ms: 10, offset_ms: 0, ends_ms: (0, 10) };
    let made = |spec: &ExtremeSpec, value| ExtremeFilterFactory::new(spec.clone(), &schema(value)).expect("plans");
    assert!(made(&spec, DataType::Int32).is_some());
    assert!(made(&spec, DataType::Float64).is_none());
    assert!(made(&spec, DataType::Utf8).is_none());
    assert!(made(&spec, DataType::UInt64).is_none());
    assert!(made(&ExtremeSpec { ends_ms: (0, 1_000), ..spec.clone() }, DataType::Int32).is_none());
    assert!(made(&ExtremeSpec { ends_ms: (10, 0), ..spec }, DataType::Int32).is_none());
}
