//! Matches leave once, when they are final.
//!
//! Rows wait in order until the watermark has passed them ([`Buffer`]); then their partition's automaton takes them in, and of them only
//! those stay that the match under way may have, or that a measure or a condition may look back at. A partition with nothing under way
//! is forgotten, unless its matches are numbered.
//!
//! A checkpoint takes the rows that wait, the rows that stay, and a few numbers for each partition: the automaton's state follows from
//! the rows, which are matched again after a restart and give nothing that they gave before.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow_row::RowConverter;
use eagre_kernels::rows::GroupedRows;
use eagre_patterns::Key;

use super::held::Held;
use super::matches::Matches;
use super::rows::{Places, View};
use super::run::{Scratch, Time, Work, fresh_from, leaving, needed_from, run};
use super::{NAME, Plan};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::expr::StepContext;
use crate::keys::GroupKeys;
use crate::operator::over::kept::Kept;
use crate::operator::over::{Buffer, in_order, in_order_of_arrival, judge};
use crate::operator::{Input, Operator, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::rows::RowLog;
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN};

/// The tables of a checkpoint, and its meta.
const PARTITIONS: &str = "partitions";
const HELD: &str = "held";
const WATERMARK: &str = "watermark";
const ARRIVALS: &str = "arrivals";
const HELD_ARRIVALS: &str = "held_arrivals";
/// About as many rows are matched at once.
const CHUNK_ROWS: usize = 65_536;

/// A partition.
struct Part {
    key: Key,
    /// Its rows that stay; `None`: none, and the next one is at the key's position.
    held: Option<Box<Held>>,
}

/// See the [module](self).
pub(super) struct Settled {
    plan: Arc<Plan>,
    buffer: Buffer,
    converter: RowConverter,
    partitions: GroupKeys,
    /// By slot.
    parts: Vec<Part>,
    /// The rows that stay.
    kept: Kept,
    log: RowLog,
    /// Partitions with which the watermark will have something to do when it has passed a time.
    due: BTreeMap<i64, Vec<u32>>,
    /// Partitions that were restored and whose rows are to be matched again.
    asleep: Vec<u32>,
    /// By slot: whether the partition differs from what was saved.
    dirty: Vec<bool>,
    dirty_slots: Vec<u32>,
    /// Keys of partitions that were forgotten since the last save.
    forgotten: Vec<RecordBatch>,
    /// Whether anything was ever saved.
    saves: bool,
    watermark: EventTimeMs,
    empty: RecordBatch,
    slots: Vec<u32>,
    scratch: Scratch,
    state_schema: SchemaRef,
    ended: bool,
}

impl Settled {
    pub(super) fn new(plan: &Arc<Plan>) -> Result<Self> {
        let input = &plan.spec.input;
        let mut fields: Vec<Field> = plan.spec.partition.iter().map(|column| input.field(*column).clone()).collect();
        for name in ["start", "number", "matched_until", "told_until", "first_held", "held_from"] {
            fields.push(Field::new(format!("__{name}"), DataType::UInt64, false));
        }
        fields.push(Field::new("__there", DataType::Boolean, false));
        Ok(Self {
            buffer: Buffer::new(input)?,
            converter: plan.converter()?,
            partitions: GroupKeys::new(plan.partition_types())?,
            parts: Vec::new(),
            kept: Kept::new(input)?,
            log: RowLog::new(HELD, input),
            due: BTreeMap::new(),
            asleep: Vec::new(),
            dirty: Vec::new(),
            dirty_slots: Vec::new(),
            forgotten: Vec::new(),
            saves: false,
            watermark: WATERMARK_MIN,
            empty: RecordBatch::new_empty(Arc::clone(input)),
            slots: Vec::new(),
            scratch: Scratch::default(),
            state_schema: Arc::new(Schema::new(fields)),
            ended: false,
            plan: Arc::clone(plan),
        })
    }

    /// Takes in rows that are in order.
    fn take_in(&mut self, batch: &RecordBatch, context: &StepContext, out: &mut Output) -> Result<()> {
        let partition = &self.plan.spec.partition;
        let keys: Vec<ArrayRef> = partition.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        self.partitions.intern(&keys, batch.num_rows(), &mut self.slots)?;
        let count = self.partitions.slot_count();
        for slot in self.partitions.fresh() {
            if let Some(part) = self.parts.get_mut(*slot as usize) {
                *part = Part { key: self.plan.matcher.key(), held: None };
            }
        }
        let matcher = &self.plan.matcher;
        self.parts.resize_with(count.max(self.parts.len()), || Part { key: matcher.key(), held: None });
        self.dirty.resize(count.max(self.dirty.len()), false);
        let grouped = GroupedRows::group(&self.slots, count);
        let time = Time::default();
        self.advance(grouped.slots(), Some(&grouped), batch, time, context, out)
    }

    /// Matches the rows that the partitions `slots`, ascending, hold and those that they get from `batch`.
    fn advance(
        &mut self,
        slots: &[u32],
        grouped: Option<&GroupedRows>,
        batch: &RecordBatch,
        time: Time,
        context: &StepContext,
        out: &mut Output,
    ) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let fresh = |index: usize| match grouped {
            Some(grouped) => &grouped.order()[grouped.offsets()[index] as usize..grouped.offsets()[index + 1] as usize],
            None => &[],
        };
        let mut works = Vec::with_capacity(slots.len());
        let mut rest = self.parts.as_mut_slice();
        let mut passed = 0;
        for (index, slot) in slots.iter().enumerate() {
            let (before, after) = rest.split_at_mut(*slot as usize - passed + 1);
            (rest, passed) = (after, *slot as usize + 1);
            let part = before.last_mut().expect("one more than the slots before");
            let (first, kept) = match &part.held {
                Some(held) => (held.first, held.ids()),
                None => (part.key.position(), &[][..]),
            };
            works.push(Work { view: View { first, kept, fresh: fresh(index) }, key: &mut part.key });
        }
        let places = Places { kept: &self.kept.rows, batch };
        let mut matches = Matches::default();
        run(&plan, &mut works, places, context, time, &mut self.scratch, &mut matches)?;
        if let Some(rows) = leaving(&plan, &matches, places, context)? {
            out.emit(Delta::insert(rows));
        }
        // What is still needed stays.
        let mut staying: Vec<u32> = Vec::new();
        let mut ends = Vec::with_capacity(slots.len());
        for work in &works {
            staying.extend_from_slice(fresh_from(work.view, needed_from(&plan, work.key)));
            ends.push((work.view.end(), staying.len()));
        }
        drop(works);
        let mut ids = Vec::new();
        if !staying.is_empty() {
            let rows = take_record_batch(batch, &UInt32Array::from(staying))?;
            self.kept.append(&rows, &mut ids)?;
        }
        let mut gone = Vec::new();
        let mut forgotten = Vec::new();
        let mut start = 0;
        for (slot, (view_end, end)) in slots.iter().zip(ends) {
            let new = &ids[start..end];
            start = end;
            self.settle_rows(*slot, new, view_end, &mut gone);
            if !std::mem::replace(&mut self.dirty[*slot as usize], true) {
                self.dirty_slots.push(*slot);
            }
            let part = &self.parts[*slot as usize];
            if plan.forgets && part.held.is_none() && part.key.start() == part.key.position() {
                forgotten.push(*slot);
            }
        }
        self.kept.release(&gone)?;
        self.forget(&forgotten)
    }

    /// Notes which rows of a partition stay, and when it is to be looked at again.
    fn settle_rows(&mut self, slot: u32, new: &[u32], end: u64, gone: &mut Vec<u32>) {
        let part = &mut self.parts[slot as usize];
        let needed = needed_from(&self.plan, &part.key);
        if part.held.is_none() && new.is_empty() {
            return;
        }
        let first = end - new.len() as u64;
        let held = part.held.get_or_insert_with(|| Box::new(Held::new(first)));
        held.release(needed, gone);
        if held.ids().is_empty() {
            held.first = first;
        }
        held.push(new);
        if held.ids().is_empty() && part.key.position() == end {
            part.held = None;
            return;
        }
        if let Some(deadline) = part.key.deadline()
            && held.due.is_none_or(|due| deadline < due)
        {
            held.due = Some(deadline);
            self.due.entry(deadline).or_default().push(slot);
        }
    }

    fn forget(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        if self.saves {
            let gone: Vec<u32> = slots.to_vec();
            self.forgotten.push(self.states(&gone, false)?);
        }
        self.partitions.remove(slots);
        Ok(())
    }

    /// Partitions whose attempts may have run out of time.
    fn expire(&mut self, context: &StepContext, out: &mut Output) -> Result<()> {
        let Some(within) = self.plan.spec.within else { return Ok(()) };
        if self.watermark == WATERMARK_MIN || self.watermark == WATERMARK_MAX {
            return Ok(());
        }
        let time = self.plan.units(within, self.watermark);
        let mut slots = Vec::new();
        while let Some(entry) = self.due.first_entry()
            && *entry.key() < time
        {
            let deadline = *entry.key();
            for slot in entry.remove() {
                // A partition that was forgotten, or looked at since, may have another one, or none.
                if let Some(held) = &mut self.parts[slot as usize].held
                    && held.due == Some(deadline)
                {
                    held.due = None;
                    slots.push(slot);
                }
            }
        }
        slots.sort_unstable();
        slots.dedup();
        if slots.is_empty() {
            return Ok(());
        }
        let empty = self.empty.clone();
        self.advance(&slots, None, &empty, Time { expired: Some(time), ended: false }, context, out)
    }

    /// The columns of partitions in a checkpoint.
    fn states(&self, slots: &[u32], there: bool) -> Result<RecordBatch> {
        let mut columns = self.partitions.columns(Slots::Some(slots))?;
        let numbers = |of: &dyn Fn(&Part) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(slots.iter().map(|slot| of(&self.parts[*slot as usize]))))
        };
        let first_held = |part: &Part| match part.held.as_ref().and_then(|held| held.ids().first()) {
            Some(id) => self.kept.arrival(*id),
            None => self.kept.next_arrival,
        };
        columns.push(numbers(&|part| part.key.start()));
        columns.push(numbers(&|part| part.key.number()));
        columns.push(numbers(&|part| part.key.matched_until()));
        columns.push(numbers(&|part| part.key.told_until()));
        columns.push(numbers(&first_held));
        columns.push(numbers(&|part| part.held.as_ref().map_or(part.key.position(), |held| held.first)));
        columns.push(Arc::new(BooleanArray::from(vec![there; slots.len()])));
        batch_of(&self.state_schema, columns, slots.len())
    }

    /// All partitions that are there.
    fn live(&self) -> Vec<u32> {
        let mut slots = self.partitions.live_slots();
        slots.sort_unstable();
        slots
    }
}

impl Operator for Settled {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        let context = *input.context;
        let mut deltas = input.single();
        let time = self.plan.time();
        if let Some(time) = time {
            deltas = judge((time, 0), deltas, before, out)?;
        }
        self.buffer.take_in(in_order_of_arrival(deltas)?, time)?;
        if !self.asleep.is_empty() {
            let slots = std::mem::take(&mut self.asleep);
            let empty = self.empty.clone();
            self.advance(&slots, None, &empty, Time::default(), &context, out)?;
        }
        let moves = time.is_some() && after > self.watermark;
        if self.ended || (!moves && after != WATERMARK_MAX) {
            return Ok(Progress::Done);
        }
        self.watermark = after;
        while let Some(batch) = self.buffer.settle(after, CHUNK_ROWS)? {
            let batch = in_order(batch, &self.plan.spec.order, &self.converter)?;
            self.take_in(&batch, &context, out)?;
        }
        self.expire(&context, out)?;
        if after == WATERMARK_MAX {
            self.ended = true;
            let (slots, empty) = (self.live(), self.empty.clone());
            self.advance(&slots, None, &empty, Time { expired: None, ended: true }, &context, out)?;
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        state.meta.insert(ARRIVALS.into(), self.buffer.kept.next_arrival.into());
        state.meta.insert(HELD_ARRIVALS.into(), self.kept.next_arrival.into());
        self.buffer.save(kind, state)?;
        let unsaved = self.kept.take_unsaved();
        let rows = if kind == SaveKind::Full { self.kept.all() } else { unsaved };
        if !rows.is_empty() {
            let ids: Vec<u32> = rows.iter().map(|(_, id)| *id).collect();
            let rows = Delta {
                batch: self.kept.rows.take_batch(&ids)?,
                weights: None,
                ordinals: Some(UInt64Array::from_iter_values(rows.iter().map(|(arrival, _)| *arrival))),
            };
            self.log.save(SaveKind::Full, state, || Ok(vec![rows]))?;
        }
        let forgotten = std::mem::take(&mut self.forgotten);
        let mut slots = std::mem::take(&mut self.dirty_slots);
        slots.iter().for_each(|slot| self.dirty[*slot as usize] = false);
        let live = self.partitions.live_slots();
        match kind {
            SaveKind::Full => slots = live,
            SaveKind::Changes => {
                forgotten.into_iter().for_each(|rows| state.put(PARTITIONS, rows));
                let mut is_live = vec![false; self.parts.len()];
                live.iter().for_each(|slot| is_live[*slot as usize] = true);
                slots.retain(|slot| is_live[*slot as usize]);
            }
        }
        self.saves = true;
        if !slots.is_empty() {
            state.put(PARTITIONS, self.states(&slots, true)?);
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.watermark = newest_time(state.metas, WATERMARK);
        self.ended = self.watermark == WATERMARK_MAX;
        let number = |name: &str| state.metas.iter().filter_map(|meta| meta.get(name)?.as_u64()).max().unwrap_or(0);
        let (arrivals, held_arrivals) = (number(ARRIVALS), number(HELD_ARRIVALS));
        let plan = Arc::clone(&self.plan);
        let width = plan.spec.partition.len();
        self.buffer.restore(state, &plan.spec.partition, plan.time(), self.watermark)?;
        self.buffer.kept.take_unsaved();
        self.buffer.kept.next_arrival = arrivals.max(self.buffer.kept.next_arrival);
        self.saves = !state.metas.is_empty();
        // The newest state of each partition; `None`: it was forgotten.
        let mut newest: Vec<Option<[u64; 6]>> = Vec::new();
        for chunk in state.chunks.iter().filter(|chunk| chunk.table == PARTITIONS) {
            check_chunk(NAME, chunk, &self.state_schema)?;
            let rows = keep_owned(&chunk.rows, 0, width, state.owned)?;
            let mut slots = Vec::new();
            self.partitions.intern(&rows.columns()[..width], rows.num_rows(), &mut slots)?;
            newest.resize(self.partitions.slot_count().max(newest.len()), None);
            let columns: Vec<&[u64]> =
                (0..6).map(|column| &rows.column(width + column).as_primitive::<UInt64Type>().values()[..]).collect();
            let there = rows.column(width + 6).as_boolean();
            for (row, slot) in slots.iter().enumerate() {
                let values = std::array::from_fn(|column| columns[column][row]);
                newest[*slot as usize] = there.value(row).then_some(values);
            }
        }
        // Rows, each for its partition, in order.
        let mut held: Vec<Vec<(u64, u32)>> = vec![Vec::new(); newest.len()];
        for delta in self.log.restore(NAME, state, &plan.spec.partition)? {
            let keys: Vec<ArrayRef> =
                plan.spec.partition.iter().map(|column| Arc::clone(delta.batch.column(*column))).collect();
            let mut slots = Vec::new();
            self.partitions.intern(&keys, delta.rows(), &mut slots)?;
            newest.resize(self.partitions.slot_count().max(newest.len()), None);
            held.resize(newest.len(), Vec::new());
            let is_held = |row: usize| {
                newest[slots[row] as usize].is_some_and(|[.., first_held, _]| delta.ordinal(row) >= first_held)
            };
            let mask: Vec<bool> = (0..delta.rows()).map(is_held).collect();
            let rows = filter_record_batch(&delta.batch, &BooleanArray::from(mask.clone()))?;
            let kept = || (0..delta.rows()).filter(|row| mask[*row]);
            let arrivals: Vec<u64> = kept().map(|row| delta.ordinal(row)).collect();
            let mut ids = Vec::new();
            self.kept.append_again(&rows, &arrivals, &mut ids)?;
            for ((row, arrival), id) in kept().zip(&arrivals).zip(&ids) {
                held[slots[row] as usize].push((*arrival, *id));
            }
        }
        self.kept.next_arrival = held_arrivals.max(self.kept.next_arrival);
        let mut gone = Vec::new();
        for (slot, (state, mut rows)) in newest.into_iter().zip(held).enumerate() {
            let Some([start, number, matched_until, told_until, _, held_from]) = state else {
                gone.push(slot as u32);
                self.parts.push(Part { key: plan.matcher.key(), held: None });
                continue;
            };
            rows.sort_unstable();
            let ids: Vec<u32> = rows.iter().map(|(_, id)| *id).collect();
            let mut part =
                Part { key: plan.matcher.resume_after_partial(start, number, matched_until, told_until), held: None };
            if !ids.is_empty() {
                let mut held = Held::new(held_from);
                held.push(&ids);
                part.held = Some(Box::new(held));
                self.asleep.push(slot as u32);
            }
            self.parts.push(part);
        }
        self.dirty.resize(self.parts.len(), false);
        self.partitions.remove(&gone);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let parts: usize = self.parts.iter().filter_map(|part| part.held.as_ref()).map(|held| held.bytes()).sum();
        let keys: usize = self.parts.capacity() * size_of::<Part>();
        self.buffer.bytes() + self.partitions.bytes() + self.kept.bytes() + parts + keys + self.dirty.capacity()
    }

    fn state_rows(&self) -> usize {
        self.buffer.kept.rows.len() + self.kept.rows.len() + self.partitions.len()
    }
}
