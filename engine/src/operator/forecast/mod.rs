//! `Forecast`: of each key, what values come next.
//!
//! Rows wait in order until the watermark has passed them; then they are learnt, and a forecast leaves as often as the query says: as
//! many rows as steps, in one step of the pipeline. So what reads forecasts has each whole or not at all, and neither steps nor shards
//! nor a restart show. What stays of a key is the forecaster's words ([`eagre_kernels::forecast`]), where its time is, and, if it is taken
//! back or held against what comes, its newest forecast.
//!
//! # Time
//! A forecaster knows rows, not time. So time is cut into steps from the key's first row on, and a row belongs to the step that is
//! nearest: rows that come a little early or late are rows of their step. A step without row is a missing value, for which the
//! forecaster has an expectation of its own, so that the season goes on; after a gap longer than all that it remembers the key begins
//! anew. Of a step the first row counts: whoever wants its mean aggregates before.

mod output;
mod series;
mod spec;
#[cfg(test)]
mod tests;

pub use spec::{ForecastEmit, ForecastFactory, ForecastNames, ForecastOutput, ForecastSpec};

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};
use eagre_kernels::forecast::Forecaster;
use eagre_kernels::rows::GroupedRows;

use self::output::Rows;
use self::series::{Made, Series};
use self::spec::NAME;
use super::over::{Buffer, in_order, in_order_of_arrival, judge};
use super::{Input, Operator, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::delta::batch_of;
use crate::error::{EngineError, Result};
use crate::keys::GroupKeys;
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN, event_times_ms};

/// The table of a checkpoint, and its meta.
const SERIES: &str = "series";
const WATERMARK: &str = "watermark";
const ARRIVALS: &str = "arrivals";
const LAYOUT: &str = "layout";
/// About as many rows are learnt at once, and as many leave.
const CHUNK_ROWS: usize = 65_536;

/// See the [module](self).
struct Forecast {
    spec: Arc<ForecastSpec>,
    output: SchemaRef,
    levels: Vec<f64>,
    forecaster: Forecaster,
    buffer: Buffer,
    keys: GroupKeys,
    /// By slot.
    series: Vec<Series>,
    /// Steps of time in which keys have had rows, by when they end.
    closing: BTreeSet<(EventTimeMs, u32)>,
    converter: RowConverter,
    state_schema: SchemaRef,
    dirty: Vec<bool>,
    dirty_slots: Vec<u32>,
    slots: Vec<u32>,
    watermark: EventTimeMs,
    /// What is forecast, between two rows of it.
    quantiles: Vec<f64>,
    fresh_words: Vec<u32>,
}

impl Forecast {
    fn new(factory: &ForecastFactory) -> Result<Self> {
        let spec = &factory.spec;
        let forecaster = Forecaster::new(spec.parameters.clone())
            .map_err(|error| EngineError::Plan { message: error.to_string() })?;
        let shape = forecaster.state_shape();
        let bytes = i32::try_from(shape.words_per_slot() * 4)
            .map_err(|_| EngineError::bug("the state of a key is larger than a page"))?;
        let fresh_words = shape.initial().to_vec();
        let mut fields: Vec<Field> = spec.keys.iter().map(|column| spec.input.field(*column).clone()).collect();
        fields.push(Field::new("__state", DataType::FixedSizeBinary(bytes), false));
        fields.push(Field::new("__series", DataType::Binary, false));
        Ok(Self {
            levels: spec.levels(),
            buffer: Buffer::new(&spec.input)?,
            keys: GroupKeys::new(spec.key_types())?,
            series: Vec::new(),
            closing: BTreeSet::new(),
            converter: RowConverter::new(vec![SortField::new(spec.time_type())])?,
            state_schema: Arc::new(Schema::new(fields)),
            dirty: Vec::new(),
            dirty_slots: Vec::new(),
            slots: Vec::new(),
            watermark: WATERMARK_MIN,
            quantiles: Vec::new(),
            fresh_words,
            forecaster,
            output: Arc::clone(&factory.output),
            spec: Arc::clone(spec),
        })
    }

    /// Learns rows that are in order, and emits what is forecast.
    fn take_in(&mut self, batch: &RecordBatch, rows: &mut Rows, out: &mut Output) -> Result<()> {
        let columns: Vec<ArrayRef> = self.spec.keys.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        self.keys.intern(&columns, batch.num_rows(), &mut self.slots)?;
        let count = self.keys.slot_count();
        self.series.resize_with(count.max(self.series.len()), Series::default);
        self.dirty.resize(count.max(self.dirty.len()), false);
        self.forecaster.grow(count);
        let times = event_times_ms(batch.column(self.spec.time))?;
        let values = cast(batch.column(self.spec.value), &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        let grouped = GroupedRows::group(&self.slots, count);
        for (slot, range) in grouped.groups() {
            if !std::mem::replace(&mut self.dirty[slot as usize], true) {
                self.dirty_slots.push(slot);
            }
            for row in &grouped.order()[range] {
                let row = *row as usize;
                let value = if values.is_null(row) { f64::NAN } else { values.value(row) };
                // A row without time has no place in a series; only a finished table has any.
                if !times.is_null(row) {
                    self.learn(slot, times.value(row), value, rows);
                }
                // A horizon of a thousand steps makes a thousand rows of each.
                if rows.len() >= CHUNK_ROWS {
                    self.emit(rows, out)?;
                }
            }
        }
        self.emit(rows, out)
    }

    /// Learns one row of a key.
    fn learn(&mut self, slot: u32, time: EventTimeMs, value: f64, rows: &mut Rows) {
        let closes = self.series[slot as usize].closes;
        if let Some(closes) = closes.filter(|closes| *closes <= time) {
            self.close(slot, closes, rows);
        }
        let series = &mut self.series[slot as usize];
        let Some(missing) = series.advance(time, self.spec.step_ms) else { return };
        // Nothing of what a forecaster remembers is left then.
        let remembered = u64::from(self.forecaster.rows_remembered());
        if missing > remembered {
            self.forecaster.load(&[slot], &self.fresh_words);
        } else {
            (0..missing).for_each(|_| self.forecaster.learn_one(slot, f64::NAN));
        }
        if self.spec.output == ForecastOutput::Errors
            && let Some(made) = series.made.as_ref().filter(|_| value.is_finite())
            && let Some((steps, quantiles)) = made.of(series.index, self.levels.len())
        {
            rows.error(slot, time, made.at, steps, value, quantiles);
        }
        self.forecaster.learn_one(slot, value);
        match self.spec.emit {
            ForecastEmit::Every(rows_between) if series.count.is_multiple_of(u64::from(rows_between)) => {
                self.make(slot, time, rows);
            }
            ForecastEmit::Every(_) => {}
            ForecastEmit::OnWindowClose => {
                let closes = series.window_end(time, self.spec.step_ms);
                series.closes = Some(closes);
                self.closing.insert((closes, slot));
            }
        }
    }

    /// A step of time has ended in which the key had rows.
    fn close(&mut self, slot: u32, at: EventTimeMs, rows: &mut Rows) {
        self.closing.remove(&(at, slot));
        self.series[slot as usize].closes = None;
        if !std::mem::replace(&mut self.dirty[slot as usize], true) {
            self.dirty_slots.push(slot);
        }
        self.make(slot, at, rows);
    }

    /// Forecasts a key, if there is enough to forecast from.
    fn make(&mut self, slot: u32, at: EventTimeMs, rows: &mut Rows) {
        self.quantiles.clear();
        if !self.forecaster.forecast(slot, &self.levels, &mut self.quantiles) {
            return;
        }
        let series = &mut self.series[slot as usize];
        let made = Made { at, index: series.index, last: series.last, quantiles: Vec::new() };
        match self.spec.output {
            ForecastOutput::Append => rows.forecast(slot, &made, &self.quantiles, self.spec.step_ms, 1),
            ForecastOutput::Latest => {
                if let Some(before) = &series.made {
                    rows.forecast(slot, before, &before.quantiles, self.spec.step_ms, -1);
                }
                rows.forecast(slot, &made, &self.quantiles, self.spec.step_ms, 1);
                series.made = Some(Box::new(Made { quantiles: self.quantiles.clone(), ..made }));
            }
            ForecastOutput::Errors => {
                series.made = Some(Box::new(Made { quantiles: self.quantiles.clone(), ..made }));
            }
        }
    }

    fn emit(&self, rows: &mut Rows, out: &mut Output) -> Result<()> {
        rows.emit(&self.spec, &self.keys, &self.output, out)
    }

    fn states(&self, slots: &[u32]) -> Result<RecordBatch> {
        let mut columns = self.keys.columns(Slots::Some(slots))?;
        let mut words = Vec::new();
        slots.iter().for_each(|slot| self.forecaster.read_slot(*slot, &mut words));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let width = (self.forecaster.state_shape().words_per_slot() * 4) as i32;
        columns.push(Arc::new(FixedSizeBinaryArray::try_new(width, bytes.into(), None)?));
        let series = slots.iter().map(|slot| self.series[*slot as usize].encode());
        columns.push(Arc::new(BinaryArray::from_iter_values(series)));
        batch_of(&self.state_schema, columns, slots.len())
    }
}

impl Operator for Forecast {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        let mut deltas = input.single();
        let time = self.spec.by_watermark.then_some(self.spec.time);
        if let Some(time) = time {
            deltas = judge((time, 0), deltas, before, out)?;
        }
        self.buffer.take_in(in_order_of_arrival(deltas)?, time)?;
        let moves = time.is_some() && after > self.watermark;
        if !moves && after != WATERMARK_MAX {
            return Ok(Progress::Done);
        }
        self.watermark = after;
        let mut rows = Rows::new(self.levels.len());
        while let Some(batch) = self.buffer.settle(after, CHUNK_ROWS)? {
            let batch = in_order(batch, &[self.spec.order()], &self.converter)?;
            self.take_in(&batch, &mut rows, out)?;
        }
        while let Some((closes, slot)) = self.closing.first().copied().filter(|(closes, _)| *closes <= after) {
            self.close(slot, closes, &mut rows);
            if rows.len() >= CHUNK_ROWS {
                self.emit(&mut rows, out)?;
            }
        }
        self.emit(&mut rows, out)?;
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        state.meta.insert(ARRIVALS.into(), self.buffer.kept.next_arrival.into());
        state.meta.insert(LAYOUT.into(), self.forecaster.state_layout().into());
        self.buffer.save(kind, state)?;
        let mut slots = std::mem::take(&mut self.dirty_slots);
        slots.iter().for_each(|slot| self.dirty[*slot as usize] = false);
        if kind == SaveKind::Full {
            slots = self.keys.live_slots();
        }
        if !slots.is_empty() {
            state.put(SERIES, self.states(&slots)?);
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.watermark = newest_time(state.metas, WATERMARK);
        let arrivals = state.metas.iter().filter_map(|meta| meta.get(ARRIVALS)?.as_u64()).max().unwrap_or(0);
        let layout = self.forecaster.state_layout();
        for meta in state.metas {
            let found = meta.get(LAYOUT).and_then(serde_json::Value::as_str).unwrap_or_default();
            if found != layout {
                return Err(EngineError::Checkpoint {
                    message: format!(
                        "the models of `{NAME}` were saved as `{found}`, not `{layout}`: by another query or version; start over with `--fresh`"
                    ),
                });
            }
        }
        let spec = Arc::clone(&self.spec);
        let time = spec.by_watermark.then_some(spec.time);
        self.buffer.restore(state, &spec.keys, time, self.watermark)?;
        let width = spec.keys.len();
        for chunk in state.chunks.iter().filter(|chunk| chunk.table == SERIES) {
            check_chunk(NAME, chunk, &self.state_schema)?;
            let rows = keep_owned(&chunk.rows, 0, width, state.owned)?;
            let mut slots = Vec::new();
            self.keys.intern(&rows.columns()[..width], rows.num_rows(), &mut slots)?;
            let count = self.keys.slot_count();
            self.series.resize_with(count.max(self.series.len()), Series::default);
            let states = rows.column(width).as_fixed_size_binary();
            let words: Vec<u32> = (0..slots.len())
                .flat_map(|row| states.value(row).chunks_exact(4))
                .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
                .collect();
            self.forecaster.load(&slots, &words);
            let series = rows.column(width + 1).as_binary::<i32>();
            for (row, slot) in slots.iter().enumerate() {
                self.series[*slot as usize] = Series::decode(series.value(row)).ok_or_else(|| {
                    EngineError::Checkpoint { message: format!("a series of `{NAME}` cannot be read") }
                })?;
            }
        }
        let closing = (0..).zip(&self.series).filter_map(|(slot, series)| Some((series.closes?, slot)));
        self.closing = closing.collect();
        self.dirty.resize(self.keys.slot_count(), false);
        // They are all in the store.
        self.buffer.kept.take_unsaved();
        // The rows of several shards, numbered anew, may be more than any of these had counted.
        self.buffer.kept.next_arrival = arrivals.max(self.buffer.kept.next_arrival);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let made = match self.spec.output {
            ForecastOutput::Append => 0,
            _ => self.series.len() * self.levels.len() * self.spec.parameters.horizon as usize * 8,
        };
        let series = self.series.capacity() * size_of::<Series>() + made;
        self.buffer.bytes() + self.keys.bytes() + self.forecaster.bytes() + series + self.slots.capacity() * 4
    }

    fn state_rows(&self) -> usize {
        self.buffer.kept.rows.len() + self.keys.len()
    }
}
