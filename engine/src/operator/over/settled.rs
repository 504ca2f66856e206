//! `OVER` in the order of event time: each row leaves once, when its value is final.
//!
//! A row waits until the watermark has passed its time: then all rows before it are known, and it takes its place at the end of its
//! partition. Its values are final when all rows after it that they look at have taken theirs; then it leaves, in the order of
//! event time, further keys and arrival. It stays for as long as rows to come may look back at it.
//!
//! Rows of a window may be in any order of the query's: they all wait for the window's end, are evaluated together, and are forgotten.
//!
//! Waiting rows lie in a few sorted runs, each at most half as long as the one before: a row is merged no more often than the logarithm of
//! their number, and what a step lets go is cut off their ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;

use super::frame::{Distance, Reach};
use super::shelf::{Shelf, SortKeys, Work};
use super::{Plan, judge};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::operator::{Input, Operator, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN, event_times_ms};

const PARTITIONS: &str = "partitions";
const WATERMARK: &str = "watermark";
/// More runs than this are merged.
const RUNS_MAX: usize = 8;

/// A row in the ordering buffer.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    time: EventTimeMs,
    arrival: u64,
    id: u32,
    slot: u32,
}

/// A row that has its place.
#[derive(Debug, Clone, Copy)]
struct Placed {
    time: EventTimeMs,
    arrival: u64,
    id: u32,
}

/// The rows of a partition that have their place, as far back as anyone looks.
#[derive(Default)]
struct Part {
    rows: VecDeque<Placed>,
    /// How many of them, at the front, have left.
    left: usize,
    /// How many rows came before them.
    dropped: u64,
    /// `dropped` differs from what was saved.
    dirty: bool,
    /// How many rows of the partition are in the ordering buffer.
    waiting: u32,
    in_step: bool,
}

/// See the [module](self).
pub(super) struct Settled {
    plan: Arc<Plan>,
    shelf: Shelf,
    /// Each sorted so that the row to leave first is its last.
    runs: Vec<Vec<Waiting>>,
    /// By slot.
    parts: Vec<Part>,
    /// Partitions to be looked at when the watermark has passed a time.
    due: BTreeMap<EventTimeMs, Vec<u32>>,
    watermark: EventTimeMs,
}

impl Settled {
    pub(super) fn new(plan: &Arc<Plan>) -> Result<Self> {
        Ok(Self {
            shelf: Shelf::new(plan)?,
            plan: Arc::clone(plan),
            runs: Vec::new(),
            parts: Vec::new(),
            due: BTreeMap::new(),
            watermark: WATERMARK_MIN,
        })
    }

    /// Puts rows that came into the buffer, and takes those out that were taken back.
    fn wait(&mut self, edits: &[super::shelf::Edit]) -> Result<()> {
        let mut ids: Vec<u32> = edits.iter().filter(|edit| edit.added).map(|edit| edit.id).collect();
        let mut run = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            let (column, shift_ms) = self.plan.time();
            let times = event_times_ms(&self.shelf.rows.take(&ids, &[column])?[0])?;
            ids.clear();
            for (row, edit) in edits.iter().filter(|edit| edit.added).enumerate() {
                run.push(Waiting {
                    time: times.value(row) + shift_ms,
                    arrival: edit.arrival,
                    id: edit.id,
                    slot: edit.slot,
                });
            }
        }
        self.parts.resize_with(self.shelf.partitions.slot_count().max(self.parts.len()), Part::default);
        run.iter().for_each(|row| self.parts[row.slot as usize].waiting += 1);
        let gone = edits.iter().filter(|edit| !edit.added).map(|edit| (edit.arrival, edit.slot));
        let gone: BTreeSet<(u64, u32)> = gone.collect();
        if !gone.is_empty() {
            // All at once: a changelog may take back as many rows in a step as wait.
            for run in self.runs.iter_mut().chain([&mut run]) {
                run.retain(|row| !gone.contains(&(row.arrival, row.slot)));
            }
            gone.iter().for_each(|(_, slot)| self.parts[*slot as usize].waiting -= 1);
        }
        sort(&mut run, &self.shelf.order);
        self.runs.push(run);
        self.merge_runs();
        Ok(())
    }

    fn merge_runs(&mut self) {
        self.runs.retain(|run| !run.is_empty());
        if self.runs.len() <= RUNS_MAX {
            return;
        }
        let mut after: usize = self.runs.iter().map(Vec::len).sum();
        let first = self.runs.iter().position(|run| {
            after -= run.len();
            run.len() <= after
        });
        let mut merged: Vec<Waiting> = self.runs.drain(first.unwrap_or(0)..).flatten().collect();
        // Runs that are sorted already merge in linear time.
        merged.sort_by(|a, b| compare(b, a, &self.shelf.order));
        self.runs.push(merged);
    }

    /// The rows whose place is known now, in order.
    fn settle(&mut self, watermark: EventTimeMs) -> Vec<Waiting> {
        let mut settled = Vec::new();
        for run in &mut self.runs {
            let first = run.partition_point(|row| row.time >= watermark && watermark != WATERMARK_MAX);
            settled.extend(run.drain(first..).rev());
        }
        self.runs.retain(|run| !run.is_empty());
        settled.sort_by(|a, b| compare(a, b, &self.shelf.order));
        settled
    }

    fn in_reach(&self, earlier: &Placed, later: &Placed, distance: Distance) -> bool {
        let Distance::Count(units) = distance else {
            return true;
        };
        later.time.abs_diff(earlier.time) <= self.plan.milliseconds(units).saturating_add(self.plan.floored_ms())
    }

    fn starts_group(&self, rows: &VecDeque<Placed>, index: usize) -> bool {
        index == 0 || self.shelf.order.peers(rows[index].id) != self.shelf.order.peers(rows[index - 1].id)
    }

    /// Whether a row to come may belong to the session of a partition's last row.
    fn is_open(&self, part: &Part, gap: Distance, watermark: EventTimeMs) -> bool {
        part.rows.back().is_some_and(|last| last.time.saturating_add(self.ahead_ms(gap)) >= watermark)
    }

    /// The first row of a session, or one before it where times are finer than milliseconds.
    fn session_start(&self, rows: &VecDeque<Placed>, index: usize, gap: Distance) -> usize {
        let mut start = index;
        while start > 0 && self.in_reach(&rows[start - 1], &rows[start], gap) {
            start -= 1;
        }
        start
    }

    /// How many rows of a partition, from the front, have their final values.
    fn complete(&self, part: &Part, watermark: EventTimeMs) -> usize {
        let rows = &part.rows;
        if watermark == WATERMARK_MAX || self.plan.by_window() {
            return rows.len();
        }
        let calls = self.plan.spec.calls.iter().map(|call| match call.function.lookahead() {
            Reach::Unbounded => 0,
            Reach::Rows(count) => rows.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX)),
            Reach::Groups(count) => {
                let (mut index, mut groups) = (rows.len(), 0);
                while index > part.left && groups < count {
                    index -= 1;
                    groups += u64::from(self.starts_group(rows, index));
                }
                index
            }
            Reach::Range(distance) => {
                let ahead = self.ahead_ms(distance);
                rows.partition_point(|row| row.time.saturating_add(ahead) < watermark)
            }
            Reach::Session(gap) if self.is_open(part, gap, watermark) => self.session_start(rows, rows.len() - 1, gap),
            Reach::Session(_) => rows.len(),
        });
        calls.min().unwrap_or(rows.len()).max(part.left)
    }

    /// How many milliseconds after its time the rows are settled that a row looks ahead at.
    fn ahead_ms(&self, distance: Distance) -> i64 {
        match distance {
            Distance::Count(units) => i64::try_from(self.plan.milliseconds(units)).unwrap_or(i64::MAX),
            Distance::Float(_) => i64::MAX,
        }
    }

    /// The first row that the row at `index` (or the next one to come, if there is none) looks back at.
    fn context(&self, part: &Part, index: usize, watermark: EventTimeMs) -> usize {
        let rows = &part.rows;
        if self.plan.by_window() {
            return index;
        }
        let calls = self.plan.spec.calls.iter().map(|call| match call.function.context() {
            Reach::Unbounded => 0,
            Reach::Rows(count) => index.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX)),
            Reach::Groups(count) => {
                let mut start = index;
                if index < rows.len() {
                    while !self.starts_group(rows, start) {
                        start -= 1;
                    }
                }
                for _ in 0..count {
                    if start == 0 {
                        break;
                    }
                    start -= 1;
                    while !self.starts_group(rows, start) {
                        start -= 1;
                    }
                }
                start
            }
            Reach::Range(distance) => {
                let next = Placed { time: watermark, arrival: 0, id: 0 };
                let row = rows.get(index).unwrap_or(&next);
                rows.partition_point(|other| other.time <= row.time && !self.in_reach(other, row, distance))
            }
            Reach::Session(gap) if index < rows.len() => self.session_start(rows, index, gap),
            Reach::Session(gap) if self.is_open(part, gap, watermark) => self.session_start(rows, rows.len() - 1, gap),
            Reach::Session(_) => index,
        });
        calls.min().unwrap_or(index).min(index)
    }

    /// Looks at partitions again: what is complete leaves, what nobody looks back at is forgotten.
    fn advance(&mut self, slots: &[u32], watermark: EventTimeMs, out: &mut Output) -> Result<()> {
        let mut work = Work::default();
        let mut leaving: Vec<Waiting> = Vec::new();
        for slot in slots {
            let part = &self.parts[*slot as usize];
            let complete = self.complete(part, watermark);
            if complete > part.left {
                let start = self.context(part, part.left, watermark);
                let ids = part.rows.range(start..).map(|row| row.id);
                work.push(ids, part.left - start..complete - start, part.dropped + start as u64);
                let rows = part.rows.range(part.left..complete);
                leaving.extend(rows.map(|row| Waiting {
                    time: row.time,
                    arrival: row.arrival,
                    id: row.id,
                    slot: *slot,
                }));
            }
            self.parts[*slot as usize].left = complete;
        }
        if !leaving.is_empty() {
            let results = self.shelf.evaluate(&work)?;
            self.emit(&leaving, results, work.segments.len(), out)?;
        }
        let mut gone = Vec::new();
        for slot in slots {
            let part = &self.parts[*slot as usize];
            let keep = self.context(part, part.left, watermark).min(part.left);
            let part = &mut self.parts[*slot as usize];
            gone.extend(part.rows.drain(..keep).map(|row| (row.arrival, row.id)));
            part.dropped += keep as u64;
            part.left -= keep;
            self.look_again(*slot);
        }
        self.shelf.release(&gone)
    }

    /// Notes when the watermark will have something to do with a partition.
    fn look_again(&mut self, slot: u32) {
        let part = &self.parts[slot as usize];
        let Some(last) = part.rows.back() else {
            return;
        };
        let mut at = WATERMARK_MAX;
        for call in &self.plan.spec.calls {
            if let (Reach::Range(distance), Some(row)) = (call.function.lookahead(), part.rows.get(part.left)) {
                at = at.min(row.time.saturating_add(self.ahead_ms(distance)));
            }
            if let Reach::Session(gap) = call.function.lookahead() {
                at = at.min(last.time.saturating_add(self.ahead_ms(gap)));
            }
            if let Reach::Range(distance) = call.function.context() {
                at = at.min(last.time.saturating_add(self.ahead_ms(distance)).saturating_add(1));
            }
        }
        if at < WATERMARK_MAX {
            let slots = self.due.entry(at).or_default();
            if slots.last() != Some(&slot) {
                slots.push(slot);
            }
        }
    }

    /// Emits rows, whose values come partition by partition, in their order.
    fn emit(&self, leaving: &[Waiting], results: Vec<ArrayRef>, segments: usize, out: &mut Output) -> Result<()> {
        let mut order: Vec<u32> = (0..leaving.len() as u32).collect();
        let mut results = results;
        if segments > 1 {
            order.sort_by(|a, b| compare(&leaving[*a as usize], &leaving[*b as usize], &self.shelf.order));
            let indices = UInt32Array::from(order.clone());
            results = results.iter().map(|column| take(column, &indices, None)).collect::<Result<_, _>>()?;
        }
        let ids: Vec<u32> = order.iter().map(|row| leaving[*row as usize].id).collect();
        let all: Vec<usize> = (0..self.plan.spec.input.fields().len()).collect();
        let mut columns = self.shelf.rows.take(&ids, &all)?;
        columns.append(&mut results);
        out.emit(Delta::insert(batch_of(&self.plan.output, columns, ids.len())?));
        Ok(())
    }

    /// Gives rows their places; lists their partitions, each once.
    fn place(&mut self, settled: Vec<Waiting>) -> Vec<u32> {
        let mut slots = Vec::new();
        for row in settled {
            let part = &mut self.parts[row.slot as usize];
            part.rows.push_back(Placed { time: row.time, arrival: row.arrival, id: row.id });
            part.waiting -= 1;
            part.dirty = true;
            if !part.in_step {
                part.in_step = true;
                slots.push(row.slot);
            }
        }
        slots
    }

    /// Forgets partitions of which nothing is left.
    fn free(&mut self, slots: &[u32]) {
        let mut freed: Vec<u32> = slots.to_vec();
        freed.append(&mut self.shelf.made);
        freed.sort_unstable();
        freed.dedup();
        freed.retain(|slot| {
            let part = &self.parts[*slot as usize];
            let counted = self.plan.counts_rows && part.dropped > 0 && !self.plan.by_window();
            part.rows.is_empty() && part.waiting == 0 && !counted
        });
        freed.iter().for_each(|slot| self.parts[*slot as usize] = Part::default());
        self.shelf.partitions.remove(&freed);
    }

    /// Every row that is held.
    fn held(&self) -> Vec<(u64, u32)> {
        let waiting = self.runs.iter().flatten().map(|row| (row.arrival, row.id));
        let placed = self.parts.iter().flat_map(|part| part.rows.iter().map(|row| (row.arrival, row.id)));
        waiting.chain(placed).collect()
    }

    /// The columns of a partition's count of rows in a checkpoint.
    fn counts_schema(&self) -> arrow::datatypes::SchemaRef {
        use arrow::datatypes::{DataType, Field, Schema};
        let plan = &self.plan;
        let mut fields: Vec<_> =
            plan.spec.partition.iter().map(|column| Arc::clone(&plan.spec.input.fields()[*column])).collect();
        fields.push(Arc::new(Field::new("placed", DataType::UInt64, false)));
        Arc::new(Schema::new(fields))
    }

    fn counts(&self, slots: &[u32]) -> Result<RecordBatch> {
        let mut columns = self.shelf.partitions.columns(Slots::Some(slots))?;
        let placed = slots.iter().map(|slot| {
            let part = &self.parts[*slot as usize];
            part.dropped + part.rows.len() as u64
        });
        columns.push(Arc::new(arrow::array::UInt64Array::from_iter_values(placed)));
        batch_of(&self.counts_schema(), columns, slots.len())
    }
}

/// Rows of a run: the first to leave is the last.
fn sort(run: &mut [Waiting], order: &SortKeys) {
    run.sort_by(|a, b| compare(b, a, order));
}

fn compare(a: &Waiting, b: &Waiting, order: &SortKeys) -> std::cmp::Ordering {
    a.time.cmp(&b.time).then_with(|| order.get(a.id).cmp(order.get(b.id))).then(a.arrival.cmp(&b.arrival))
}

impl Operator for Settled {
    fn name(&self) -> &'static str {
        "Over"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        let deltas = judge(self.plan.time(), input.single(), before, out)?;
        if !deltas.is_empty() {
            let mut edits = Vec::new();
            self.shelf.take_in(deltas, &mut edits)?;
            self.wait(&edits)?;
            self.shelf.sweep()?;
        }
        if after > self.watermark || after == WATERMARK_MAX {
            self.watermark = after;
            let settled = self.settle(after);
            let mut slots = self.place(settled);
            if after == WATERMARK_MAX {
                self.due.clear();
                let pending = self.parts.iter().enumerate().filter(|(_, part)| part.left < part.rows.len());
                let pending: Vec<u32> = pending.map(|(slot, _)| slot as u32).collect();
                slots.extend(pending.into_iter().filter(|slot| !self.parts[*slot as usize].in_step));
            } else {
                let later = self.due.split_off(&after);
                for slot in std::mem::replace(&mut self.due, later).into_values().flatten() {
                    if let Some(part) = self.parts.get_mut(slot as usize)
                        && !part.in_step
                    {
                        part.in_step = true;
                        slots.push(slot);
                    }
                }
            }
            self.advance(&slots, after, out)?;
            slots.iter().for_each(|slot| self.parts[*slot as usize].in_step = false);
            self.free(&slots);
        } else {
            self.free(&[]);
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        let all = if kind == SaveKind::Full { self.held() } else { Vec::new() };
        self.shelf.save(kind, state, || all)?;
        if self.plan.counts_rows && !self.plan.by_window() {
            let of_interest = |part: &Part| match kind {
                SaveKind::Full => part.dropped > 0 || !part.rows.is_empty(),
                SaveKind::Changes => part.dirty,
            };
            let slots = self.parts.iter().enumerate().filter(|(_, part)| of_interest(part));
            let slots: Vec<u32> = slots.map(|(slot, _)| slot as u32).collect();
            if !slots.is_empty() {
                state.put(PARTITIONS, self.counts(&slots)?);
            }
        }
        self.parts.iter_mut().for_each(|part| part.dirty = false);
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.watermark = newest_time(state.metas, WATERMARK);
        let mut edits = Vec::new();
        self.shelf.restore(state, &mut edits)?;
        self.wait(&edits)?;
        let settled = self.settle(self.watermark);
        let mut slots = self.place(settled);
        let width = self.plan.spec.partition.len();
        for chunk in state.chunks.iter().filter(|chunk| chunk.table == PARTITIONS) {
            check_chunk("Over", chunk, &self.counts_schema())?;
            let rows = keep_owned(&chunk.rows, 0, width, state.owned)?;
            let mut of_rows = Vec::new();
            self.shelf.partitions.intern(&rows.columns()[..width], rows.num_rows(), &mut of_rows)?;
            self.parts.resize_with(self.shelf.partitions.slot_count().max(self.parts.len()), Part::default);
            let placed = event_count(&rows, width);
            for (slot, placed) in of_rows.iter().zip(placed) {
                let part = &mut self.parts[*slot as usize];
                // What an older checkpoint holds and nobody looked at any more is counted, and gone.
                part.dropped = placed.saturating_sub(part.rows.len() as u64);
                if !part.in_step {
                    part.in_step = true;
                    slots.push(*slot);
                }
            }
        }
        let mut gone = Vec::new();
        for slot in &slots {
            let part = &self.parts[*slot as usize];
            let left = self.complete(part, self.watermark);
            let keep = self.context(part, left, self.watermark);
            let part = &mut self.parts[*slot as usize];
            gone.extend(part.rows.drain(..keep).map(|row| (row.arrival, row.id)));
            part.dropped += keep as u64;
            part.left = left - keep;
            (part.in_step, part.dirty) = (false, false);
            self.look_again(*slot);
        }
        self.shelf.release(&gone)?;
        self.free(&slots);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let waiting: usize = self.runs.iter().map(|run| run.capacity() * size_of::<Waiting>()).sum();
        let placed = (self.shelf.rows.len()) * size_of::<Placed>() + self.parts.len() * size_of::<Part>();
        self.shelf.bytes() + waiting + placed
    }

    fn state_rows(&self) -> usize {
        self.shelf.rows.len() + if self.plan.counts_rows { self.shelf.partitions.len() } else { 0 }
    }
}

fn event_count(rows: &RecordBatch, column: usize) -> Vec<u64> {
    use arrow::array::AsArray;
    rows.column(column).as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec()
}
