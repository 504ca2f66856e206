//! The events: what customers of a shop or a bank do, each with a key and an amount.
//!
//! All that a row has follows from its number, so the first events of a long stream are those of a short one. Distances in time vary,
//! from none to twice the mean: sessions end somewhere.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use eagre_engine::EngineError;

use crate::cli::bench::input::{KEYED_BATCH_ROWS, mix};
use crate::error::Result;

/// How far behind the newest event the watermark is.
pub(super) const WATERMARK_DELAY: &str = "INTERVAL '1' SECOND";
/// A key has no more events in a second of event time: with few keys, patterns are as long as with many.
const EVENTS_PER_KEY_AND_SECOND: u64 = 10;
/// Amounts are below this.
pub(super) const AMOUNTS: u64 = 1_000;

/// Times are drawn from bits of their own.
const TIMES: u64 = 0x7469_6d65;

/// What is done, and how often of a hundred times.
pub(super) const ACTIONS: [(&str, u64); 6] =
    [("view", 58), ("cart", 15), ("login", 12), ("buy", 7), ("change", 5), ("transfer", 3)];

/// Events of so many keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub seed: u64,
    pub keys: u64,
    /// In a second of event time.
    pub event_rate: u64,
    /// How far rows come out of order.
    pub disorder_ms: u64,
}

/// The columns.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("k", DataType::Int64, false),
        Field::new("action", DataType::Utf8View, false),
        Field::new("amount", DataType::Int64, false),
    ]))
}

impl Stream {
    /// Events that pass in one second of event time.
    pub(super) fn events_per_s(&self) -> u64 {
        self.event_rate.min(self.keys.saturating_mul(EVENTS_PER_KEY_AND_SECOND)).max(1)
    }

    /// Half as long again as the mean distance of two events of a key, in milliseconds: where a session ends.
    pub(super) fn session_gap_ms(&self) -> u64 {
        (1_500 * self.keys / self.events_per_s()).max(1)
    }

    /// The first events, as they come.
    pub(super) fn batches(&self, events: u64) -> Result<Vec<RecordBatch>> {
        let mean_us = 1_000_000.0 / self.events_per_s() as f64;
        let mut time_us = 0.0f64;
        // When each comes, its event time in milliseconds and its number.
        let mut rows: Vec<(u64, u64, u64)> = (0..events)
            .map(|event| {
                let bits = mix(self.seed ^ TIMES, event);
                time_us += 2.0 * mean_us * unit(bits as u32);
                let disorder_us = unit((bits >> 32) as u32) * (self.disorder_ms * 1_000) as f64;
                ((time_us + disorder_us) as u64, time_us as u64 / 1_000, event)
            })
            .collect();
        rows.sort_unstable_by_key(|(comes, _, event)| (*comes, *event));
        let batches = rows.chunks(KEYED_BATCH_ROWS as usize).map(|rows| self.batch(rows));
        batches.collect()
    }

    fn batch(&self, rows: &[(u64, u64, u64)]) -> Result<RecordBatch> {
        let bits = || rows.iter().map(|(.., event)| mix(self.seed, *event));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|(_, ms, _)| *ms as i64))),
            Arc::new(Int64Array::from_iter_values(bits().map(|bits| ((bits >> 20) % self.keys) as i64))),
            Arc::new(StringViewArray::from_iter_values(bits().map(|bits| action(bits % 1_024)))),
            Arc::new(Int64Array::from_iter_values(bits().map(|bits| ((bits >> 10) % 1_024 * AMOUNTS / 1_024) as i64))),
        ];
        Ok(RecordBatch::try_new(schema(), columns).map_err(EngineError::from)?)
    }
}

/// From 0 to 1.
fn unit(bits: u32) -> f64 {
    f64::from(bits) / f64::from(u32::MAX)
}

/// The action of one of 1,024 lots.
fn action(lot: u64) -> &'static str {
    let mut below = lot * 100 / 1_024;
    for (name, share) in ACTIONS {
        match below.checked_sub(share) {
            Some(rest) => below = rest,
            None => return name,
        }
    }
    ACTIONS[0].0
}
