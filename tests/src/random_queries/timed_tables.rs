//! Tables with an event time, for queries in it.
//!
//! All tables of a case have the columns `id BIGINT, ts, k, s STRING, v`, of types that are drawn anew: `id` tells rows apart, `ts` is the event
//! time, out of order. Times of `t1` are all different, so that the latest row before a time is one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use eagre_sql::catalog::TableDefinition;

use super::{Table, pick};
use crate::harness::Random;

/// Where times begin: before 1970 and after it, shortly before a minute.
const BEGINS_MS: [i64; 2] = [-7_000, 1_704_067_195_000];

/// What the tables of a case have in common.
pub(super) struct Columns {
    begins_ms: i64,
    time: DataType,
    key: DataType,
    number: DataType,
    /// The type of `v`, in SQL.
    pub(super) number_sql: &'static str,
}

/// How rows come.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Rows {
    /// None is late, however rows are cut into steps.
    InTime,
    /// And some are taken back before the watermark has passed them.
    Retracted,
    /// Some are further behind than the watermark allows.
    Late,
}

impl Columns {
    pub(super) fn drawn(random: &mut Random) -> Self {
        let time = pick(
            random,
            &[
                DataType::Timestamp(TimeUnit::Millisecond, None),
                DataType::Timestamp(TimeUnit::Microsecond, None),
                DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            ],
        );
        let key = pick(
            random,
            &[
                DataType::Int32,
                DataType::Int64,
                DataType::Utf8View,
                DataType::Boolean,
                DataType::Date32,
                DataType::Decimal128(6, 1),
            ],
        );
        let (number_sql, number) = pick(
            random,
            &[
                ("INT", DataType::Int32),
                ("BIGINT", DataType::Int64),
                ("DOUBLE", DataType::Float64),
                ("DECIMAL(12, 2)", DataType::Decimal128(12, 2)),
            ],
        );
        Self { begins_ms: pick(random, &BEGINS_MS), time, key, number, number_sql }
    }

    /// Rows in the order in which they come.
    pub(super) fn table(&self, random: &mut Random, name: &str, come: Rows) -> Table {
        let delay = pick(random, &[0, 1_500, 4_000]);
        let behind = if come == Rows::Late { delay + 3_000 } else { delay };
        let (mut newest, mut alive) = (self.begins_ms, Vec::<usize>::new());
        let (mut ids, mut times, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let (mut keys, mut texts, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..random.between(0, 20) as usize {
            // Late for no step, however rows are cut into them.
            alive.retain(|place: &usize| times[*place] >= newest - delay);
            if come == Rows::Retracted && !alive.is_empty() && random.between(0, 3) == 0 {
                let place = alive.swap_remove(random.between(0, alive.len() as u64 - 1) as usize);
                ids.push(ids[place]);
                times.push(times[place]);
                keys.push(keys[place]);
                texts.push(texts[place]);
                numbers.push(numbers[place]);
                weights.push(-1);
                continue;
            }
            let mut at = newest + 500 * random.between(0, 5) as i64;
            if random.between(0, 2) == 0 {
                at = newest - random.between(0, behind as u64 / 500) as i64 * 500;
            }
            while name == "t1" && times.contains(&at) {
                at += 1;
            }
            newest = newest.max(at);
            alive.push(row);
            ids.push(row as i64);
            times.push(at);
            keys.push((random.between(0, 9) > 0).then(|| random.between(0, 2) as i64));
            texts.push(pick(random, &[None, Some("a"), Some("b"), Some("a text of more than twelve bytes")]));
            numbers.push((random.between(0, 6) > 0).then(|| random.between(0, 9) as i64 - 3));
            weights.push(1);
        }
        let times = cast(&Int64Array::from(times), &DataType::Timestamp(TimeUnit::Millisecond, None));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(ids))),
            ("ts", times.and_then(|times| cast(&times, &self.time)).expect("milliseconds are times")),
            ("k", key_column(&Int64Array::from(keys), &self.key)),
            ("s", Arc::new(texts.into_iter().collect::<StringViewArray>())),
            ("v", cast(&Int64Array::from(numbers), &self.number).expect("small numbers")),
        ];
        let fields: Vec<Field> =
            columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), *name != "ts")).collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length");
        let watermark = (delay > 0).then(|| format!("ts - INTERVAL '{delay} milliseconds'"));
        let definition = TableDefinition::from_schema(name, &rows.schema()).with_watermark("ts", watermark.as_deref());
        let weights = (come == Rows::Retracted).then(|| Int64Array::from(weights));
        Table::new(definition.expect("an event time"), rows, weights, random.between(1, 12) as usize)
    }
}

/// Small numbers as keys of a type.
fn key_column(keys: &Int64Array, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Boolean => Arc::new(keys.iter().map(|key| key.map(|key| key % 2 == 0)).collect::<BooleanArray>()),
        DataType::Utf8View => {
            let names: StringArray = keys.iter().map(|key| key.map(|key| format!("key {key}"))).collect();
            cast(&names, data_type).expect("texts")
        }
        DataType::Date32 => {
            let days = cast(keys, &DataType::Int32).and_then(|days| cast(&days, data_type));
            days.expect("days since 1970")
        }
        _ => cast(keys, data_type).expect("small numbers"),
    }
}
