//! `OVER` in the order of event time where no frame looks ahead: each row's values follow from what its partition has seen, so a row
//! leaves with the watermark that settles it, and costs the same whatever its frame holds.
//!
//! Rows wait in a buffer ([`Buffer`]) until the watermark has passed them. Those that it lets go are taken together, in order; their partitions are
//! looked up at once, and each function goes over them partition by partition ([`Arrived`]) with its state in vectors by slot.
//! Frames that begin at the partition's start need no rows; those of sliding frames lie in one [`Tail`] for all functions.
//!
//! A checkpoint takes the rows that came since the last one and are still waiting or in a frame, and the states of the partitions that changed;
//! what sliding frames hold is rebuilt by letting their rows come again.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_row::RowConverter;

pub(in crate::operator) use self::buffer::Buffer;
use self::tail::{Slid, Start, Tail};
use super::{OrderKey, Plan, in_order, judge, row_converter};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::delta::{Delta, batch_of, take_batch};
use crate::error::Result;
use crate::keys::{GroupKeys, canonical_values};
use crate::operator::{Input, Operator, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::rows::RowLog;
use crate::time::{EventTimeMs, WATERMARK_MIN, event_times_ms};

mod buffer;
pub(super) mod functions;
pub(super) mod tail;

/// The tables of a checkpoint, and its meta.
const TAIL: &str = "tail";
const PARTITIONS: &str = "partitions";
const WATERMARK: &str = "watermark";
const ARRIVALS: &str = "arrivals";
/// About as many rows are taken through all functions at once.
const CHUNK_ROWS: usize = 16_384;

/// Rows of a batch that have their places, partition by partition.
#[derive(Clone, Copy)]
pub(super) struct Grouped<'a> {
    /// The rows of the batch, grouped by partition and in order within.
    pub(super) order: &'a [u32],
    /// Each partition's slot, with its part of `order`.
    pub(super) runs: &'a [(u32, std::ops::Range<usize>)],
    /// By position in `order`: whether the row is no peer of the one before it.
    pub(super) new_peer: &'a [bool],
}

/// Rows that a call takes in.
pub(super) struct Arrived<'a> {
    /// The rows.
    pub(super) rows: Grouped<'a>,
    /// What the call's frame did, where it slides.
    pub(super) slid: Option<&'a Slid>,
    /// The arguments of the rows that left its frame.
    pub(super) left_args: &'a [ArrayRef],
    /// Their filter.
    pub(super) left_filter: Option<&'a BooleanArray>,
    /// The rows that sliding frames hold.
    pub(super) tail: &'a Tail,
}

/// A function that takes rows as they come and remembers of each partition what it needs.
pub(super) trait Running: Send {
    /// Where the frame begins, if it slides; then the state is a function of the rows in it.
    fn slides(&self) -> Option<Start> {
        None
    }

    /// Whether what left the frame matters, and not only what is in it.
    fn wants_left(&self) -> bool {
        true
    }

    /// Makes room for slots `0..count`.
    fn resize(&mut self, count: usize);

    /// Takes in rows and gives their values, in the order of the batch. `columns` are the input columns of the arguments.
    fn advance(
        &mut self,
        args: &[ArrayRef],
        columns: &[usize],
        filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef>;

    /// Forgets partitions.
    fn clear(&mut self, slots: &[u32]);

    /// The columns of a state that does not follow from the rows in the frame.
    fn state_fields(&self) -> Vec<Field> {
        Vec::new()
    }

    /// The states of partitions.
    fn state(&mut self, _slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    /// Takes states over, of partitions that have none.
    fn restore(&mut self, _slots: &[u32], _state: &[ArrayRef]) -> Result<()> {
        Ok(())
    }

    /// Bytes held, about.
    fn bytes(&self) -> usize;
}

/// See the [module](self).
pub(super) struct RunningOver {
    plan: Arc<Plan>,
    calls: Vec<Box<dyn Running>>,
    /// For each call: its frame in the tail.
    frames: Vec<Option<usize>>,
    buffer: Buffer,
    partitions: GroupKeys,
    tail: Tail,
    tail_log: RowLog,
    /// What tells peers apart; `None`: the event time in milliseconds does.
    converter: Option<RowConverter>,
    /// What orders rows of one millisecond; `None`: nothing but their arrival.
    order: Option<(Vec<OrderKey>, RowConverter)>,
    state_schema: SchemaRef,
    /// By slot: whether the state differs from what was saved.
    dirty: Vec<bool>,
    dirty_slots: Vec<u32>,
    scratch: Scratch,
    watermark: EventTimeMs,
}

/// Vectors that are used again.
#[derive(Default)]
struct Scratch {
    slots: Vec<u32>,
    /// By slot, zero between uses.
    counts: Vec<u32>,
    order: Vec<u32>,
    runs: Vec<(u32, std::ops::Range<usize>)>,
    new_peer: Vec<bool>,
}

impl RunningOver {
    /// `None`: some call looks ahead, or has no running form.
    pub(super) fn new(plan: &Arc<Plan>) -> Result<Option<Self>> {
        let spec = &plan.spec;
        let calls: Option<Vec<Box<dyn Running>>> =
            spec.calls.iter().map(|call| Some(call.function.running()?.0)).collect();
        let Some(calls) = calls.filter(|_| !spec.retracting && !plan.by_window()) else {
            return Ok(None);
        };
        let mut starts: Vec<Start> = Vec::new();
        let mut columns = vec![spec.order[0].column];
        let mut frames = Vec::new();
        for (call, running) in spec.calls.iter().zip(&calls) {
            frames.push(running.slides().map(|start| {
                columns.extend(call.args.iter().chain(&call.filter));
                starts.iter().position(|known| *known == start).unwrap_or_else(|| {
                    starts.push(start);
                    starts.len() - 1
                })
            }));
        }
        if starts.len() > usize::from(u8::MAX) {
            return Ok(None);
        }
        let mut seen = Vec::new();
        columns.retain(|column| {
            let new = !seen.contains(column);
            seen.push(*column);
            new
        });
        let tail = Tail::new(&spec.input, columns, starts, |units| plan.milliseconds(units))?;
        let data_type = |column: usize| spec.input.field(column).data_type().clone();
        let by_ms = spec.order.len() == 1
            && matches!(
                data_type(spec.order[0].column),
                DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Second, _)
            );
        let mut fields: Vec<Field> = spec.partition.iter().map(|column| spec.input.field(*column).clone()).collect();
        for (index, call) in calls.iter().enumerate() {
            let named = |field: Field| {
                let name = format!("{index}.{}", field.name());
                field.with_name(name)
            };
            fields.extend(call.state_fields().into_iter().map(named));
        }
        Ok(Some(Self {
            converter: if by_ms { None } else { Some(row_converter(&spec.input, &spec.order)?) },
            order: match by_ms && spec.tie.is_none() {
                true => None,
                false => {
                    let order = spec.total_order();
                    let converter = row_converter(&spec.input, &order)?;
                    Some((order, converter))
                }
            },
            buffer: Buffer::new(&spec.input)?,
            partitions: GroupKeys::new(plan.partition_types())?,
            tail_log: RowLog::new(TAIL, &tail.saved_schema(&spec.input, &spec.partition)),
            tail,
            state_schema: Arc::new(Schema::new(fields)),
            dirty: Vec::new(),
            dirty_slots: Vec::new(),
            scratch: Scratch::default(),
            watermark: WATERMARK_MIN,
            frames,
            calls,
            plan: Arc::clone(plan),
        }))
    }

    /// Whether partitions have states of their own, which stay.
    fn has_states(&self) -> bool {
        self.state_schema.fields().len() > self.plan.spec.partition.len()
    }

    /// Gives rows, which are in order, their values. `replays`: only to what sliding frames hold, and the values are not asked for.
    fn advance(&mut self, batch: &RecordBatch, replays: bool) -> Result<Vec<ArrayRef>> {
        let plan = Arc::clone(&self.plan);
        let rows = batch.num_rows();
        let keys: Vec<ArrayRef> = plan.spec.partition.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        let mut scratch = std::mem::take(&mut self.scratch);
        self.partitions.intern(&keys, rows, &mut scratch.slots)?;
        let count = self.partitions.slot_count();
        if !self.partitions.fresh().is_empty() {
            self.calls.iter_mut().for_each(|call| call.resize(count));
            self.tail.resize(count);
            self.dirty.resize(count.max(self.dirty.len()), false);
            scratch.counts.resize(count.max(scratch.counts.len()), 0);
        }
        scratch.group();
        let times = event_times_ms(batch.column(plan.spec.order[0].column))?;
        self.find_peers(batch, times.values(), &mut scratch)?;
        if self.has_states() && !replays {
            for (slot, _) in &scratch.runs {
                if !std::mem::replace(&mut self.dirty[*slot as usize], true) {
                    self.dirty_slots.push(*slot);
                }
            }
        }
        let grouped = Grouped { order: &scratch.order, runs: &scratch.runs, new_peer: &scratch.new_peer };
        let slid = match self.tail.is_empty() {
            true => Vec::new(),
            false => self.tail.take_in(batch, &scratch.slots, times.values(), grouped)?,
        };
        let mut results = Vec::with_capacity(self.calls.len());
        for ((spec, call), frame) in plan.spec.calls.iter().zip(&mut self.calls).zip(&self.frames) {
            if replays && frame.is_none() {
                continue;
            }
            let args: Vec<ArrayRef> = spec.args.iter().map(|arg| Arc::clone(batch.column(*arg))).collect();
            let filter = spec.filter.map(|filter| batch.column(filter).as_boolean());
            let (mut left_args, mut left_filter) = (Vec::new(), None);
            let slid = frame.map(|frame| &slid[frame]);
            if let Some(slid) = slid.filter(|_| call.wants_left()) {
                for arg in &spec.args {
                    left_args.push(self.tail.column(&slid.left, *arg)?);
                }
                if let Some(filter) = spec.filter {
                    left_filter = Some(self.tail.column(&slid.left, filter)?.as_boolean().clone());
                }
            }
            let (left_args, left_filter) = (left_args.as_slice(), left_filter.as_ref());
            let arrived = Arrived { rows: grouped, slid, left_args, left_filter, tail: &self.tail };
            results.push(call.advance(&args, &spec.args, filter, &arrived)?);
        }
        self.scratch = scratch;
        self.tail.forget()?;
        Ok(results)
    }

    fn find_peers(&self, batch: &RecordBatch, times: &[i64], scratch: &mut Scratch) -> Result<()> {
        let Scratch { order, runs, new_peer, .. } = scratch;
        new_peer.clear();
        match &self.converter {
            None => {
                for (_, run) in runs.iter() {
                    let mut last = None;
                    for row in &order[run.clone()] {
                        let time = times[*row as usize];
                        new_peer.push(last != Some(time));
                        last = Some(time);
                    }
                }
            }
            Some(converter) => {
                let keys = self.order_columns(batch);
                let keys = converter.convert_columns(&keys)?;
                for (_, run) in runs.iter() {
                    for position in run.clone() {
                        let is_new = position == run.start
                            || keys.row(order[position] as usize) != keys.row(order[position - 1] as usize);
                        new_peer.push(is_new);
                    }
                }
            }
        }
        Ok(())
    }

    fn order_columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.plan.spec.order.iter().map(|key| canonical_values(batch.column(key.column))).collect()
    }

    /// Lets partitions go of which nothing is left.
    fn free(&mut self, idle: Vec<u32>) {
        if idle.is_empty() {
            return;
        }
        for (call, frame) in self.calls.iter_mut().zip(&self.frames) {
            if frame.is_some() && matches!(call.slides(), Some(Start::Range(_))) {
                call.clear(&idle);
            }
        }
        if self.has_states() {
            return;
        }
        let free: Vec<u32> = idle.into_iter().filter(|slot| self.tail.is_free(*slot)).collect();
        self.calls.iter_mut().for_each(|call| call.clear(&free));
        self.partitions.remove(&free);
    }

    fn put_states(&mut self, slots: &[u32], state: &mut StateWriter) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut columns = self.partitions.columns(Slots::Some(slots))?;
        for call in &mut self.calls {
            columns.extend(call.state(slots)?);
        }
        state.put(PARTITIONS, batch_of(&self.state_schema, columns, slots.len())?);
        Ok(())
    }
}

impl Scratch {
    /// Groups rows by partition, in the order in which these first come.
    fn group(&mut self) {
        let Self { slots, counts, order, runs, .. } = self;
        runs.clear();
        order.clear();
        if slots.is_empty() {
            return;
        }
        if slots.iter().all(|slot| *slot == slots[0]) {
            runs.push((slots[0], 0..slots.len()));
            order.extend(0..slots.len() as u32);
            return;
        }
        for slot in slots.iter() {
            if counts[*slot as usize] == 0 {
                runs.push((*slot, 0..0));
            }
            counts[*slot as usize] += 1;
        }
        let mut start = 0;
        for (slot, run) in runs.iter_mut() {
            let count = counts[*slot as usize] as usize;
            *run = start..start + count;
            counts[*slot as usize] = start as u32;
            start += count;
        }
        order.resize(slots.len(), 0);
        for (row, slot) in slots.iter().enumerate() {
            let place = &mut counts[*slot as usize];
            order[*place as usize] = row as u32;
            *place += 1;
        }
        runs.iter().for_each(|(slot, _)| counts[*slot as usize] = 0);
    }
}

impl Operator for RunningOver {
    fn name(&self) -> &'static str {
        "Over"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        let deltas = judge(self.plan.time(), input.single(), before, out)?;
        self.buffer.take_in(super::shelf::in_order_of_arrival(deltas)?, Some(self.plan.time().0))?;
        if after <= self.watermark && after != crate::time::WATERMARK_MAX {
            return Ok(Progress::Done);
        }
        self.watermark = after;
        while let Some(batch) = self.buffer.settle(after, CHUNK_ROWS)? {
            let batch = match &self.order {
                Some((order, converter)) => in_order(batch, order, converter)?,
                None => batch,
            };
            let results = self.advance(&batch, false)?;
            let rows = batch.num_rows();
            let columns = batch.columns().iter().cloned().chain(results).collect();
            out.emit(Delta::insert(batch_of(&self.plan.output, columns, rows)?));
        }
        let mut idle = Vec::new();
        self.tail.expire(after, &mut idle)?;
        self.free(idle);
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        let arrivals = self.buffer.kept.next_arrival.max(self.tail.kept.next_arrival);
        state.meta.insert(ARRIVALS.into(), arrivals.into());
        self.buffer.save(kind, state)?;
        let unsaved = self.tail.kept.take_unsaved();
        let rows = if kind == SaveKind::Full { self.tail.kept.all() } else { unsaved };
        if !rows.is_empty() {
            let plan = &self.plan;
            let schema = self.tail.saved_schema(&plan.spec.input, &plan.spec.partition);
            let partition = |slots: &[u32]| self.partitions.columns(Slots::Some(slots));
            let rows = self.tail.saved(&rows, partition, &schema)?;
            // What is handed over is known by now; only the form is the log's.
            self.tail_log.save(SaveKind::Full, state, || Ok(vec![rows]))?;
        }
        let mut slots = std::mem::take(&mut self.dirty_slots);
        slots.iter().for_each(|slot| self.dirty[*slot as usize] = false);
        if kind == SaveKind::Full && self.has_states() {
            slots = self.partitions.live_slots();
        }
        self.put_states(&slots, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        self.watermark = newest_time(state.metas, WATERMARK);
        let arrivals = state.metas.iter().filter_map(|meta| meta.get(ARRIVALS)?.as_u64()).max().unwrap_or(0);
        self.buffer.restore(state, &plan.spec.partition, Some(plan.time().0), self.watermark)?;
        let width = plan.spec.partition.len();
        for chunk in state.chunks.iter().filter(|chunk| chunk.table == PARTITIONS) {
            check_chunk("Over", chunk, &self.state_schema)?;
            let rows = keep_owned(&chunk.rows, 0, width, state.owned)?;
            let mut slots = Vec::new();
            self.partitions.intern(&rows.columns()[..width], rows.num_rows(), &mut slots)?;
            let count = self.partitions.slot_count();
            self.tail.resize(count);
            self.dirty.resize(count.max(self.dirty.len()), false);
            self.scratch.counts.resize(count.max(self.scratch.counts.len()), 0);
            let mut first = width;
            for call in &mut self.calls {
                call.resize(count);
                let fields = call.state_fields().len();
                if fields > 0 {
                    call.clear(&slots);
                    call.restore(&slots, &rows.columns()[first..first + fields])?;
                }
                first += fields;
            }
        }
        let keys: Vec<usize> = (0..width).collect();
        let saved = self.tail_log.restore("Over", state, &keys)?;
        if !saved.is_empty() {
            let all = concat_batches(&saved[0].batch.schema(), saved.iter().map(|delta| &delta.batch))?;
            let arrivals: Vec<u64> = saved
                .iter()
                .filter_map(|delta| delta.ordinals.as_ref())
                .flat_map(|ordinals| ordinals.values().iter().copied())
                .collect();
            let mut order: Vec<u32> = (0..arrivals.len() as u32).collect();
            order.sort_by_key(|row| arrivals[*row as usize]);
            let all = take_batch(&all, &UInt32Array::from(order))?;
            let all = self.tail.widened(&all, &plan.spec.partition, &plan.spec.input)?;
            self.advance(&all, true)?;
            let mut idle = Vec::new();
            self.tail.expire(self.watermark, &mut idle)?;
            self.free(idle);
        }
        // They are all in the store.
        self.tail.kept.take_unsaved();
        self.buffer.kept.take_unsaved();
        // The rows of several shards, numbered anew, may be more than any of these had counted.
        let arrivals = arrivals.max(self.tail.kept.next_arrival);
        self.tail.kept.next_arrival = arrivals;
        self.buffer.kept.next_arrival = arrivals;
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let calls: usize = self.calls.iter().map(|call| call.bytes()).sum();
        let scratch = self.scratch.order.capacity() * 9 + self.scratch.counts.capacity() * 4;
        self.buffer.bytes() + self.partitions.bytes() + self.tail.bytes() + calls + scratch
    }

    fn state_rows(&self) -> usize {
        let states = if self.has_states() { self.partitions.len() } else { 0 };
        self.buffer.kept.rows.len() + self.tail.kept.rows.len() + states
    }
}
