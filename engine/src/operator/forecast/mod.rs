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
//!
//! # Work
//! Forecasts of a step are worked out together ([`due`]), those of the method `conv` by a kernel where its placer says, as scores are
//! (`operator/score`). What a key learns does not depend on where: that stays on the CPU.

mod due;
mod output;
mod series;
mod spec;
#[cfg(test)]
mod tests;

pub use spec::{ForecastEmit, ForecastFactory, ForecastNames, ForecastOutput, ForecastSpec};

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};
use eagre_kernels::forecast::{Forecaster, Method};
use eagre_kernels::rows::GroupedRows;

use self::due::{Due, Event};
use self::output::Rows;
use self::series::{Made, Series};
use self::spec::NAME;
use super::over::{Buffer, in_order, in_order_of_arrival, judge};
use super::{Input, Operator, Output, Placed, Progress, SaveKind, StateReader, StateWriter};
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
    due: Due,
    /// Rows that are being learnt.
    chunk: Option<Chunk>,
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
    fresh_words: Vec<u32>,
}

/// Rows in the order in which they are learnt.
struct Chunk {
    times: Int64Array,
    values: Float64Array,
    /// Slot and row.
    order: Vec<(u32, u32)>,
    next: usize,
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
            due: Due::new(&forecaster, &spec.levels(), &spec.placement),
            chunk: None,
            fresh_words,
            forecaster,
            output: Arc::clone(&factory.output),
            spec: Arc::clone(spec),
        })
    }

    /// Has rows that are in order be learnt.
    fn take_in(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns: Vec<ArrayRef> = self.spec.keys.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        self.keys.intern(&columns, batch.num_rows(), &mut self.slots)?;
        let count = self.keys.slot_count();
        self.series.resize_with(count.max(self.series.len()), Series::default);
        self.dirty.resize(count.max(self.dirty.len()), false);
        self.forecaster.grow(count);
        let times = event_times_ms(batch.column(self.spec.time))?;
        let values = cast(batch.column(self.spec.value), &DataType::Float64)?.as_primitive::<Float64Type>().clone();
        let grouped = GroupedRows::group(&self.slots, count);
        let mut order = Vec::with_capacity(batch.num_rows());
        let mut groups: Vec<_> = grouped.groups().collect();
        for (slot, _) in &groups {
            self.touch(*slot);
        }
        // The network is asked about many keys at once, so the first rows of all keys come first; the others' words are best left near.
        let at_once = if self.spec.parameters.method == Method::Conv { 1 } else { usize::MAX };
        while !groups.is_empty() {
            for (slot, range) in &mut groups {
                let end = range.start.saturating_add(at_once).min(range.end);
                order.extend(grouped.order()[range.start..end].iter().map(|row| (*slot, *row)));
                range.start = end;
            }
            groups.retain(|(_, range)| !range.is_empty());
        }
        self.chunk = Some(Chunk { times, values, order, next: 0 });
        Ok(())
    }

    /// Learns rows until none are left, or many forecasts are due.
    fn go_on(&mut self) {
        let Some(mut chunk) = self.chunk.take() else { return };
        let mut before = None;
        while let Some((slot, row)) = chunk.order.get(chunk.next).copied() {
            if self.due.is_full() {
                break;
            }
            if before.is_some_and(|before| before > slot) {
                // Each key may have another row now.
                self.forecaster.settle();
            }
            before = Some(slot);
            chunk.next += 1;
            let row = row as usize;
            let value = if chunk.values.is_null(row) { f64::NAN } else { chunk.values.value(row) };
            // A row without time has no place in a series; only a finished table has any.
            if !chunk.times.is_null(row) {
                self.learn(slot, chunk.times.value(row), value);
            }
        }
        self.forecaster.settle();
        self.chunk = (chunk.next < chunk.order.len()).then_some(chunk);
    }

    /// Learns one row of a key.
    fn learn(&mut self, slot: u32, time: EventTimeMs, value: f64) {
        let closes = self.series[slot as usize].closes;
        if let Some(closes) = closes.filter(|closes| *closes <= time) {
            self.close(slot, closes);
        }
        let series = &mut self.series[slot as usize];
        let Some(missing) = series.advance(time, self.spec.step_ms) else { return };
        // Nothing of what a forecaster remembers is left then.
        let remembered = u64::from(self.forecaster.rows_remembered());
        if missing > remembered {
            self.forecaster.settle();
            self.forecaster.load(&[slot], &self.fresh_words);
        } else {
            (0..missing).for_each(|_| self.forecaster.learn_later(slot, f64::NAN));
        }
        if self.spec.output == ForecastOutput::Errors && value.is_finite() {
            self.due.came(slot, time, series.index, value);
        }
        self.forecaster.learn_later(slot, value);
        match self.spec.emit {
            ForecastEmit::Every(rows_between) if series.count.is_multiple_of(u64::from(rows_between)) => {
                self.make(slot, time);
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
    fn close(&mut self, slot: u32, at: EventTimeMs) {
        self.closing.remove(&(at, slot));
        self.series[slot as usize].closes = None;
        self.touch(slot);
        self.make(slot, at);
    }

    /// Asks for the forecast of a key.
    fn make(&mut self, slot: u32, at: EventTimeMs) {
        let series = &self.series[slot as usize];
        self.due.ask(&mut self.forecaster, slot, (at, series.index, series.last));
    }

    /// The key's words differ from what was saved.
    fn touch(&mut self, slot: u32) {
        if !std::mem::replace(&mut self.dirty[slot as usize], true) {
            self.dirty_slots.push(slot);
        }
    }

    /// Says what is due; all forecasts are there.
    fn say(&mut self, out: &mut Output) -> Result<()> {
        let mut rows = Rows::new(self.levels.len());
        let (events, forecasts) = self.due.take();
        for event in events {
            match event {
                Event::Came { slot, time, index, value } => {
                    let made = self.series[slot as usize].made.as_ref();
                    if let Some((made, (steps, quantiles))) =
                        made.and_then(|made| Some((made, made.of(index, self.levels.len())?)))
                    {
                        rows.error(slot, time, made.at, steps, value, quantiles);
                    }
                }
                Event::Made { slot, at, index, last, forecast } => {
                    let quantiles = forecasts.quantiles(forecast);
                    let newest = &mut self.series[slot as usize].made;
                    let made = Made { at, index, last, quantiles: Vec::new() };
                    if let (ForecastOutput::Latest, Some(before)) = (self.spec.output, newest.as_ref()) {
                        rows.forecast(slot, before, &before.quantiles, self.spec.step_ms, -1);
                    }
                    if self.spec.output != ForecastOutput::Errors {
                        rows.forecast(slot, &made, quantiles, self.spec.step_ms, 1);
                    }
                    if self.spec.output != ForecastOutput::Append {
                        *newest = Some(Box::new(Made { quantiles: quantiles.to_vec(), ..made }));
                    }
                }
            }
            // A horizon of a thousand steps makes a thousand rows of each.
            if rows.len() >= CHUNK_ROWS {
                rows.emit(&self.spec, &self.keys, &self.output, out)?;
            }
        }
        self.due.clear();
        rows.emit(&self.spec, &self.keys, &self.output, out)?;
        self.due.record(out)
    }

    /// Learns all rows that the watermark has passed, and says what is forecast.
    fn advance(&mut self, out: &mut Output) -> Result<Progress> {
        loop {
            if let Some(ticket) = self.due.work(&mut out.wave)? {
                return Ok(Progress::Pending(ticket));
            }
            self.say(out)?;
            if self.chunk.is_some() {
                self.go_on();
            } else if let Some(batch) = self.buffer.settle(self.watermark, CHUNK_ROWS)? {
                let batch = in_order(batch, &[self.spec.order()], &self.converter)?;
                self.take_in(&batch)?;
            } else if self.closing.first().is_some_and(|(closes, _)| *closes <= self.watermark) {
                while let Some((closes, slot)) = self.closing.first().copied()
                    && closes <= self.watermark
                    && !self.due.is_full()
                {
                    self.close(slot, closes);
                }
            } else {
                return Ok(Progress::Done);
            }
        }
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
        if self.due.is_working {
            // The device has answered.
            self.due.answered();
            return self.advance(out);
        }
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
        self.advance(out)
    }

    fn recall(&mut self, answers: &[RecordBatch]) -> Result<()> {
        self.due.recall(answers)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        state.meta.insert(ARRIVALS.into(), self.buffer.kept.next_arrival.into());
        state.meta.insert(LAYOUT.into(), self.forecaster.state_layout().into());
        self.due.save(&mut state.meta);
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
        self.due.restore(state.owned, state.metas);
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

    fn placements(&self) -> Vec<Placed> {
        let decided = self.due.decision().map(|(decision, (fall_backs, replayed_batches))| Placed {
            what: self.spec.parameters.method.name().to_string(),
            decision,
            fall_backs,
            replayed_batches,
        });
        decided.into_iter().collect()
    }

    fn state_rows(&self) -> usize {
        self.buffer.kept.rows.len() + self.keys.len()
    }
}
