//! Labelled series of one value: what anomaly scores are measured on, with the truth beside it.
//!
//! Real benchmarks have few files and labels that are drawn by hand around what somebody saw. Here each anomaly is planted into
//! a course that is also made without it, so that a label is exactly the rows that are other than they would have been. A series
//! is a function of (base, anomaly, seed, length): [`SeriesSpec::make`]; [`SeriesSpec::numbered`] goes through all pairs of a
//! base and an anomaly that fit. [`NormalKind`] has series without anomalies, as long as one likes, to count false alarms on.
//!
//! A walk or an autoregression has no formula for row `n`: a row needs all before it. The table `measurement` is still a pure
//! function of the event number, because a series is as long as `series-length` and is made as a whole: the series that are on
//! at the same time are a *block*, the last block is kept, and a reader that goes on elsewhere makes the block of that place
//! again.

mod base;
mod config;
mod kind;
mod normal;
mod series;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::columns::{TIMESTAMP_MS, int64, optional, project, required, timestamp};
use crate::error::Result;
use crate::generator::{EVENT_COUNT_MAX, Generator, clamp};
use crate::random::{Draws, high, unit};
use crate::text::TextList;
pub use base::{Base, DAY_ROWS};
pub use config::AnomaliesConfig;
pub use kind::AnomalyKind;
pub use normal::NormalKind;
pub use series::{LabelledSeries, SeriesSpec};

/// The dataset's name in the catalog and in errors.
pub(crate) const NAME: &str = "anomalies";
/// Shorter series have no room for a few cycles to learn from and an anomaly after them.
const SERIES_LENGTH_MIN: u64 = 2_000;
const SERIES_LENGTH_MAX: u64 = 1 << 20;

/// The series that are on at the same time.
#[derive(Debug)]
struct Block {
    number: u64,
    series: Vec<LabelledSeries>,
}

/// One row, before it is spread over the columns.
#[derive(Debug, Clone, Copy)]
struct Measurement {
    event: u64,
    series: u64,
    value: f64,
    base: Base,
    /// Id and kind.
    anomaly: Option<(i64, AnomalyKind)>,
}

/// The generator of the table `measurement`.
#[derive(Debug)]
pub struct AnomaliesGenerator {
    config: AnomaliesConfig,
    healthy: Draws,
    kept: Mutex<Option<Arc<Block>>>,
    bases: TextList,
    kinds: TextList,
}

impl AnomaliesGenerator {
    /// Checks the configuration.
    pub fn new(config: AnomaliesConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            healthy: Draws::new(config.seed, "anomalies.healthy"),
            kept: Mutex::new(None),
            bases: TextList::new(Base::ALL.map(Base::name)),
            kinds: TextList::new(AnomalyKind::ALL.map(AnomalyKind::name)),
            config,
        })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &AnomaliesConfig {
        &self.config
    }

    /// Which series stands behind the number in column `series`.
    pub fn spec(&self, series: u64) -> SeriesSpec {
        let spec = SeriesSpec::of_length(self.config.seed, series, self.config.series_length as usize);
        let is_healthy = unit(high(self.healthy.at(series))) >= self.config.anomaly_share;
        if is_healthy { SeriesSpec { anomaly: None, ..spec } } else { spec }
    }

    fn block(&self, number: u64) -> Result<Arc<Block>> {
        // A panic elsewhere has left either a whole block or none.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = kept.as_ref().filter(|block| block.number == number) {
            return Ok(Arc::clone(block));
        }
        let first = number * self.config.series_count;
        let series = (first..first + self.config.series_count).map(|series| self.spec(series).make());
        let block = Arc::new(Block { number, series: series.collect::<Result<_>>()? });
        *kept = Some(Arc::clone(&block));
        Ok(block)
    }

    fn measurements(&self, events: Range<u64>) -> Result<Vec<Measurement>> {
        let mut measurements = Vec::with_capacity((events.end - events.start) as usize);
        let (block_events, count) = (self.config.block_events(), self.config.series_count);
        let mut event = events.start;
        while event < events.end {
            let block = self.block(event / block_events)?;
            let block_start = block.number * block_events;
            let end = events.end.min(block_start + block_events);
            measurements.extend((event..end).map(|event| {
                let (row, place) = ((event - block_start) / count, (event - block_start) % count);
                let (series, row) = (&block.series[place as usize], row as usize);
                let number = block.number * count + place;
                let window = series.windows.iter().position(|window| window.contains(&row));
                // A series has at most five anomalies.
                let id = |window: usize| (number * 8) as i64 + window as i64;
                Measurement {
                    event,
                    series: number,
                    value: series.values[row],
                    base: series.spec.base,
                    anomaly: window.and_then(|window| Some((id(window), series.spec.anomaly?))),
                }
            }));
            event = end;
        }
        Ok(measurements)
    }

    fn column(&self, measurements: &[Measurement], index: usize) -> ArrayRef {
        let rows = measurements.iter();
        match index {
            0 => int64(rows.map(|row| row.series as i64)),
            1 => timestamp(rows.map(|row| self.config.event_time_ms(row.event))),
            2 => Arc::new(Float64Array::from_iter_values(rows.map(|row| row.value))),
            3 => self.bases.pick(rows.map(|row| row.base as u32)),
            4 => Arc::new(BooleanArray::from_iter(rows.map(|row| Some(row.anomaly.is_some())))),
            5 => Arc::new(rows.map(|row| row.anomaly.map(|(id, _)| id)).collect::<Int64Array>()),
            _ => self.kinds.pick_optional(rows.map(|row| row.anomaly.map(|(_, kind)| kind as u32))),
        }
    }
}

/// All columns of the table `measurement`.
pub(crate) fn schema() -> &'static SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            required("series", DataType::Int64),
            required("event_time", TIMESTAMP_MS),
            required("value", DataType::Float64),
            required("base", DataType::Utf8View),
            required("is_anomaly", DataType::Boolean),
            optional("anomaly_id", DataType::Int64),
            optional("anomaly_kind", DataType::Utf8View),
        ]))
    });
    &SCHEMA
}

impl Generator for AnomaliesGenerator {
    fn schema(&self) -> &SchemaRef {
        schema()
    }

    fn event_count(&self) -> Option<u64> {
        self.config.event_count
    }

    fn event_time_ms_min(&self, first_event: u64) -> i64 {
        self.config.event_time_ms(first_event.min(EVENT_COUNT_MAX))
    }

    fn batch(&self, events: Range<u64>, projection: Option<&[usize]>) -> Result<RecordBatch> {
        let events = clamp(events, self.config.event_count);
        if projection.is_some_and(<[usize]>::is_empty) {
            return project(schema(), projection, (events.end - events.start) as usize, |index| {
                self.column(&[], index)
            });
        }
        let measurements = self.measurements(events)?;
        project(schema(), projection, measurements.len(), |index| self.column(&measurements, index))
    }
}
