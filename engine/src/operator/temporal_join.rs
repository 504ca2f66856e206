//! The join with the version that is valid at the time of a row: rows wait for the watermark and are answered once.
//!
//! A right row is a version of its key from its own event time on, until the next one begins or one says that the key is gone. A left row
//! waits until the watermark of both inputs has passed its time: then no version that could concern it comes any more, it gets the one that is
//! valid then, and it is forgotten. So what leaves is final, and what is kept is bounded: the left rows that wait, the versions that
//! began after the watermark, and for each key the newest one before it.
//!
//! An `ASOF JOIN` of two append-only inputs by their event times is the same thing, where every right row is a version.
//!
//! A row that comes when its time has been passed is late on either side: left rows of that time were answered, with or without it. A deletion is told as late and
//! counts all the same for left rows to come: changelogs often say of a row that goes only when it had come, so that all of their deletions are
//! late, and a key that is gone would be found for ever.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, UInt64Array};
use arrow::datatypes::{Schema, SchemaRef};

use super::asof_join::{AsofJoinPlan, KeySlots, alone, split_nulls, spread};
use super::ordered::{Contents, Entry, OrderedIndex, Position, Positions};
use super::{Input, LateRows, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::aggregate::partial::newest_time;
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::{ExprRef, StepContext};
use crate::rows::{RowLog, Rows};
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN, event_times_ms};

/// How the right rows say that a version ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionEnd {
    /// Where the next one of its key begins.
    Next,
    /// It does not: the first row of a key is its only version.
    Never,
    /// There too, or at the event time of a row of its key with a negative weight, whatever is in its other columns.
    Deletion,
    /// A row is taken back as it was. Where another one of its key came after it, it ends where the next one begins; where none came,
    /// it is as if it had never been, because nothing says when it ended.
    Retraction,
}

/// What such a join does.
#[derive(Clone, Debug)]
pub struct TemporalJoinPlan {
    /// Sides, keys and output. The compared columns are the event times of which the watermarks speak, and the comparison looks back.
    pub join: AsofJoinPlan,
    /// How versions end; other than [`VersionEnd::Next`] the right rows need arrival numbers.
    pub end: VersionEnd,
    /// What else must hold for a left row and its version, over the left columns and then the right ones; the version is not another one
    /// where it does not.
    pub residual: Option<ExprRef>,
}

/// Makes [`TemporalJoin`]s.
pub struct TemporalJoinFactory {
    plan: Arc<TemporalJoinPlan>,
    name: &'static str,
}

impl TemporalJoinFactory {
    /// # Errors
    /// Columns that cannot be compared with each other.
    pub fn new(plan: TemporalJoinPlan, name: &'static str) -> Result<Self> {
        plan.join.check()?;
        if plan.join.comparison.is_upward() {
            return Err(EngineError::bug("a version ahead of time never becomes final"));
        }
        if matches!(plan.end, VersionEnd::Deletion | VersionEnd::Retraction) && !plan.join.right_ordinals {
            return Err(EngineError::bug("versions that end need arrival numbers"));
        }
        let plan = Arc::new(plan);
        TemporalJoin::new(&plan, name)?;
        Ok(Self { plan, name })
    }

    /// See [`AsofJoinPlan::output_schema`]. Rows that leave have weights where the left rows have.
    pub fn output_schema(&self) -> SchemaRef {
        self.plan.join.output_schema()
    }
}

impl OperatorFactory for TemporalJoinFactory {
    fn name(&self) -> &'static str {
        self.name
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(TemporalJoin::new(&self.plan, self.name)?))
    }
}

/// A join of rows that wait with versions.
pub struct TemporalJoin {
    name: &'static str,
    plan: Arc<TemporalJoinPlan>,
    output: SchemaRef,
    /// The left columns, then the right ones.
    both: SchemaRef,
    keys: KeySlots,
    left: Waiting,
    right: Versions,
    /// The watermark at the end of the last step.
    passed: EventTimeMs,
}

/// No version.
const NONE: u32 = u32::MAX;
/// The tables of a checkpoint.
const LEFT: &str = "left";
const RIGHT: &str = "right";
const WATERMARK: &str = "watermark";

/// Left rows that wait for their time.
struct Waiting {
    rows: Rows,
    log: RowLog,
    positions: Positions,
    queue: BTreeSet<Waiter>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Waiter {
    time: EventTimeMs,
    slot: u32,
    at: Position,
    id: u32,
}

/// Versions of all keys.
struct Versions {
    rows: Rows,
    log: RowLog,
    index: OrderedIndex,
    positions: Positions,
    /// How ties are told apart where rows have no arrival numbers.
    contents: Option<Contents>,
    end: VersionEnd,
    /// By id: when the row arrived.
    arrivals: Vec<u64>,
    /// By id: whether the row says that its key is gone.
    deletion: Vec<bool>,
    /// By slot: when the newest version arrived.
    newest: Vec<u64>,
    /// Where each version begins: when that is passed, those before it are not needed.
    begins: BTreeSet<(EventTimeMs, Entry)>,
}

impl Waiting {
    /// Stores rows with the event times `times`, all of which can be compared.
    fn take_in(&mut self, plan: &AsofJoinPlan, keys: &mut KeySlots, delta: &Delta, times: &Int64Array) -> Result<()> {
        let side = &plan.left;
        keys.intern(delta, &side.keys)?;
        let places = self.positions.of(delta.batch.column(side.by))?;
        let mut changes = Vec::with_capacity(delta.rows());
        self.rows.apply(delta, &mut changes)?;
        let mut gone = Vec::new();
        for (row, (change, at)) in changes.iter().zip(places).enumerate() {
            let waiter = Waiter { time: times.value(row), slot: keys.slots[row], at, id: change.id };
            let slot = waiter.slot;
            if change.after == 0 {
                gone.push(waiter);
            } else if self.queue.insert(waiter) {
                keys.add(slot);
            }
        }
        // What came back since within the delta stays.
        gone.retain(|waiter| self.rows.weight(waiter.id) == 0);
        gone.sort_unstable_by_key(|waiter: &Waiter| waiter.id);
        gone.dedup_by_key(|waiter| waiter.id);
        for waiter in &gone {
            if self.queue.remove(waiter) {
                keys.release(waiter.slot);
            }
        }
        self.rows.remove(&gone.iter().map(|waiter| waiter.id).collect::<Vec<_>>())
    }

    /// Takes out the rows whose time the watermark has passed.
    fn due(&mut self, watermark: EventTimeMs) -> Vec<Waiter> {
        if watermark == WATERMARK_MAX {
            return std::mem::take(&mut self.queue).into_iter().collect();
        }
        let first = Waiter { time: watermark, slot: 0, at: Position::FIRST, id: 0 };
        let later = self.queue.split_off(&first);
        std::mem::replace(&mut self.queue, later).into_iter().collect()
    }
}

impl Versions {
    /// Stores rows with the event times `times`, all of which can be compared.
    fn take_in(&mut self, plan: &AsofJoinPlan, keys: &mut KeySlots, delta: &Delta, times: &Int64Array) -> Result<()> {
        let side = &plan.right;
        keys.intern(delta, &side.keys)?;
        self.newest.resize(keys.keys.slot_count(), 0);
        keys.keys.fresh().iter().for_each(|slot| self.newest[*slot as usize] = 0);
        let places = self.positions.of(delta.batch.column(side.by))?;
        let mut ties = match &self.contents {
            Some(contents) => contents.of(&delta.batch)?.into_iter(),
            None => Vec::new().into_iter(),
        };
        let ordinals = match (&self.contents, &delta.ordinals) {
            (None, None) => {
                return Err(EngineError::bug("a temporal join without the arrival numbers it was promised"));
            }
            (None, ordinals) => ordinals.as_ref(),
            (Some(_), _) => None,
        };
        let mut ids = Vec::with_capacity(delta.rows());
        match self.end {
            VersionEnd::Next | VersionEnd::Never | VersionEnd::Deletion => self.rows.append(&delta.batch, &mut ids)?,
            VersionEnd::Retraction => {
                let mut changes = Vec::new();
                self.rows.apply(delta, &mut changes)?;
                ids.extend(changes.iter().map(|change| change.id));
            }
        }
        self.arrivals.resize(self.rows.id_bound(), 0);
        self.deletion.resize(self.rows.id_bound(), false);
        let mut unknown = Vec::new();
        for (row, (id, at)) in ids.iter().zip(places).enumerate() {
            let (slot, time) = (keys.slots[row], times.value(row));
            let arrival = ordinals.map_or(0, |ordinals| ordinals.value(row));
            let comes = delta.weight(row) > 0;
            let known = Position::Word(self.arrivals[*id as usize] as i64);
            let tie = ties.next().unwrap_or(Position::Word(arrival as i64));
            let entry = Entry { slot, at, tie, id: *id };
            if self.end == VersionEnd::Retraction {
                let old = Entry { tie: known, ..entry.clone() };
                if !comes {
                    // It stays until time has passed; whether it still counts is asked then. One that was freed is gone.
                    if !self.index.contains(&old) {
                        unknown.push(entry);
                    }
                    continue;
                }
                if self.index.remove(&old) {
                    self.begins.remove(&(time, old));
                    keys.release(slot);
                }
                let newest = &mut self.newest[slot as usize];
                *newest = (*newest).max(arrival);
            }
            self.arrivals[*id as usize] = arrival;
            self.deletion[*id as usize] = !comes;
            keys.add(slot);
            self.begins.insert((time, entry.clone()));
            self.index.insert(entry);
        }
        unknown.retain_mut(|entry| {
            entry.tie = Position::Word(self.arrivals[entry.id as usize] as i64);
            !self.index.contains(entry)
        });
        let mut unknown: Vec<u32> = unknown.into_iter().map(|entry| entry.id).collect();
        unknown.sort_unstable();
        unknown.dedup();
        self.rows.remove(&unknown)
    }

    /// The version of a key that is valid at a time.
    fn valid(&self, slot: u32, at: &Position, inclusive: bool) -> u32 {
        let Some(entry) = self.index.nearest(slot, at, inclusive) else { return NONE };
        let (id, index) = (entry.id, entry.id as usize);
        let is_valid = match self.end {
            VersionEnd::Never => return self.index.first(slot).map_or(NONE, |first| first.id),
            VersionEnd::Next => true,
            VersionEnd::Deletion => !self.deletion[index],
            VersionEnd::Retraction => {
                self.rows.weight(id) > 0 || self.newest[entry.slot as usize] > self.arrivals[index]
            }
        };
        if is_valid { id } else { NONE }
    }

    /// Forgets the versions that ended before the watermark.
    fn free(&mut self, keys: &mut KeySlots, watermark: EventTimeMs) -> Result<()> {
        let mut gone = Vec::new();
        let mut entries = Vec::new();
        while let Some((time, _)) = self.begins.first() {
            if *time >= watermark {
                break;
            }
            let (_, entry) = self.begins.pop_first().expect("it was just looked at");
            let arrival = self.arrivals[entry.id as usize];
            // A version that arrived after one that begins later says of that one that it was replaced.
            let arrived_later =
                |other: &Entry| self.end == VersionEnd::Retraction && self.arrivals[other.id as usize] > arrival;
            if self.end == VersionEnd::Never {
                let is_first = self.index.before(&entry).next().is_none();
                entries.extend((!is_first).then_some(entry));
            } else {
                entries.extend(self.index.before(&entry).filter(|other| !arrived_later(other)).cloned());
                // A deletion that nothing is left for says nothing more.
                entries.extend(self.deletion[entry.id as usize].then_some(entry));
            }
            for entry in entries.drain(..) {
                if self.index.remove(&entry) {
                    keys.release(entry.slot);
                    gone.push(entry.id);
                }
            }
        }
        self.rows.remove(&gone)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let (rows, arrivals, deletion, end) = (&self.rows, &self.arrivals, &self.deletion, self.end);
        let ordinals = self.contents.is_none();
        self.log.save(kind, state, || {
            let all = rows.live_ids();
            let part = |ids: &[u32], comes: bool| -> Result<Delta> {
                let mut delta = Delta::insert(rows.take_batch(ids)?);
                if ordinals {
                    delta.ordinals = Some(UInt64Array::from_iter_values(ids.iter().map(|id| arrivals[*id as usize])));
                }
                if matches!(end, VersionEnd::Deletion | VersionEnd::Retraction) {
                    let weight = |id: &u32| if comes { rows.weight(*id).max(1) } else { -1 };
                    delta.weights = Some(Int64Array::from_iter_values(ids.iter().map(weight)));
                }
                Ok(delta)
            };
            let gone = |id: &u32| match end {
                VersionEnd::Next | VersionEnd::Never => false,
                VersionEnd::Deletion => deletion[*id as usize],
                VersionEnd::Retraction => rows.weight(*id) <= 0,
            };
            let ended: Vec<u32> = all.iter().copied().filter(gone).collect();
            let coming: Vec<u32> = match end {
                VersionEnd::Deletion => all.iter().copied().filter(|id| !gone(id)).collect(),
                // First that it came, then that it went.
                _ => all,
            };
            let parts = [(coming, true), (ended, false)];
            parts.iter().filter(|(ids, _)| !ids.is_empty()).map(|(ids, comes)| part(ids, *comes)).collect()
        })
    }
}

impl TemporalJoin {
    fn new(plan: &Arc<TemporalJoinPlan>, name: &'static str) -> Result<Self> {
        let AsofJoinPlan { left, right, .. } = &plan.join;
        let fields: Vec<_> = left.schema.fields().iter().chain(right.schema.fields()).cloned().collect();
        Ok(Self {
            name,
            output: plan.join.output_schema(),
            both: Arc::new(Schema::new(fields)),
            keys: KeySlots::new(plan.join.key_types())?,
            left: Waiting {
                rows: Rows::new(&left.schema, left.retracts)?,
                log: RowLog::new(LEFT, &left.schema),
                positions: Positions::new(left.schema.field(left.by).data_type(), false)?,
                queue: BTreeSet::new(),
            },
            right: Versions {
                rows: Rows::new(&right.schema, plan.end == VersionEnd::Retraction)?,
                log: RowLog::new(RIGHT, &right.schema),
                index: OrderedIndex::default(),
                positions: Positions::new(right.schema.field(right.by).data_type(), false)?,
                contents: match plan.join.right_ordinals {
                    true => None,
                    false => Some(Contents::new(&right.schema, &plan.join.right_key)?),
                },
                end: plan.end,
                arrivals: Vec::new(),
                deletion: Vec::new(),
                newest: Vec::new(),
                begins: BTreeSet::new(),
            },
            passed: WATERMARK_MIN,
            plan: Arc::clone(plan),
        })
    }

    /// Gives the rows whose time has been passed their versions.
    fn answer(&mut self, watermark: EventTimeMs, context: &StepContext, out: &mut Output) -> Result<()> {
        let due = self.left.due(watermark);
        let inclusive = self.plan.join.comparison.is_inclusive();
        let mut done = Vec::with_capacity(due.len());
        for waiters in due.chunks(DELTA_ROWS_MAX) {
            let (mut left, mut found) = (Vec::with_capacity(waiters.len()), Vec::with_capacity(waiters.len()));
            for waiter in waiters {
                self.keys.release(waiter.slot);
                done.push(waiter.id);
                // What was taken back more often than it came is nothing to answer.
                if self.left.rows.weight(waiter.id) > 0 {
                    left.push(waiter.id);
                    found.push(self.right.valid(waiter.slot, &waiter.at, inclusive));
                }
            }
            self.check_residual(&left, &mut found, context)?;
            self.emit(left, found, out)?;
        }
        self.left.rows.remove(&done)
    }

    /// Leaves no version where the rest of the condition does not hold.
    fn check_residual(&self, left: &[u32], found: &mut [u32], context: &StepContext) -> Result<()> {
        let Some(residual) = &self.plan.residual else { return Ok(()) };
        let pairs: Vec<usize> = (0..found.len()).filter(|row| found[*row] != NONE).collect();
        if pairs.is_empty() {
            return Ok(());
        }
        let lefts: Vec<u32> = pairs.iter().map(|row| left[*row]).collect();
        let rights: Vec<u32> = pairs.iter().map(|row| found[*row]).collect();
        let mut columns = self.left.rows.take_batch(&lefts)?.columns().to_vec();
        columns.extend_from_slice(self.right.rows.take_batch(&rights)?.columns());
        let holds = residual.evaluate(&batch_of(&self.both, columns, pairs.len())?, context, None)?;
        let holds = holds.as_boolean_opt().ok_or_else(|| EngineError::bug("a condition is no boolean"))?;
        for (place, row) in pairs.into_iter().enumerate() {
            if holds.is_null(place) || !holds.value(place) {
                found[row] = NONE;
            }
        }
        Ok(())
    }

    fn emit(&self, mut left: Vec<u32>, mut found: Vec<u32>, out: &mut Output) -> Result<()> {
        let plan = &self.plan.join;
        if !plan.outer {
            let mut matched = found.iter().map(|id| *id != NONE);
            left.retain(|_| matched.next().expect("there are as many"));
            found.retain(|id| *id != NONE);
        }
        if left.is_empty() {
            return Ok(());
        }
        let mut columns = self.left.rows.take(&left, &plan.left.output)?;
        let present: Vec<u32> = found.iter().copied().filter(|id| *id != NONE).collect();
        let right = self.right.rows.take(&present, &plan.right.output)?;
        columns.extend(spread(right, found.iter().map(|id| *id != NONE))?);
        let mut delta = Delta::insert(batch_of(&self.output, columns, left.len())?);
        if plan.left.retracts {
            delta.weights = Some(Int64Array::from_iter_values(left.iter().map(|id| self.left.rows.weight(*id))));
        }
        out.emit(delta);
        Ok(())
    }

    /// The rows whose time was not passed at the start of the step; the others are refused.
    fn in_time(
        &self,
        port: usize,
        delta: Delta,
        before: EventTimeMs,
        judged: impl Fn(&Delta, usize) -> bool,
        out: &mut Output,
    ) -> Result<(Delta, Int64Array)> {
        let by = [&self.plan.join.left, &self.plan.join.right][port].by;
        let times = event_times_ms(delta.batch.column(by))?;
        let late = |row: usize| times.value(row) < before && judged(&delta, row);
        let mask: BooleanArray = (0..delta.rows()).map(|row| Some(!late(row))).collect();
        if mask.true_count() == mask.len() {
            return Ok((delta, times));
        }
        refuse(port, &delta, &arrow::compute::not(&mask)?, &times, before, out)?;
        let kept = delta.filter(&mask)?;
        let times = event_times_ms(kept.batch.column(by))?;
        Ok((kept, times))
    }
}

fn refuse(
    port: usize,
    delta: &Delta,
    mask: &BooleanArray,
    times: &Int64Array,
    watermark: EventTimeMs,
    out: &mut Output,
) -> Result<()> {
    let Delta { batch: rows, weights, .. } = delta.filter(mask)?;
    let event_times = mask.iter().zip(times.iter()).filter(|(late, _)| *late == Some(true));
    let event_times: Vec<EventTimeMs> = event_times.map(|(_, time)| time.unwrap_or(EventTimeMs::MIN)).collect();
    let windows_missed = vec![1; rows.num_rows()];
    out.late(LateRows { input: Some(port), rows, weights, event_times, windows_missed, watermark });
    Ok(())
}

impl Operator for TemporalJoin {
    fn name(&self) -> &'static str {
        self.name
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let plan = Arc::clone(&self.plan);
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        for delta in std::mem::take(&mut input.ports[1]) {
            let (delta, others) = split_nulls(delta, &plan.join.right)?;
            // A deletion that does not say when cannot end anything.
            if let Some(others) = others.filter(|others| plan.end == VersionEnd::Deletion && !others.is_empty()) {
                let times = event_times_ms(others.batch.column(plan.join.right.by))?;
                let mask: BooleanArray =
                    (0..others.rows()).map(|row| Some(others.weight(row) < 0 && times.is_null(row))).collect();
                refuse(1, &others, &mask, &times, before, out)?;
            }
            if plan.end == VersionEnd::Deletion {
                let times = event_times_ms(delta.batch.column(plan.join.right.by))?;
                let late = |row: usize| delta.weight(row) < 0 && times.value(row) < before;
                let mask: BooleanArray = (0..delta.rows()).map(|row| Some(late(row))).collect();
                if mask.true_count() > 0 {
                    refuse(1, &delta, &mask, &times, before, out)?;
                }
            }
            // A row that is taken back is no news of its time, and of a deletion all is told.
            let ends = matches!(plan.end, VersionEnd::Deletion | VersionEnd::Retraction);
            let judged = |delta: &Delta, row| !ends || delta.weight(row) > 0;
            let (delta, times) = self.in_time(1, delta, before, judged, out)?;
            if !delta.is_empty() {
                self.right.log.push(&delta)?;
                self.right.take_in(&plan.join, &mut self.keys, &delta, &times)?;
            }
        }
        for delta in std::mem::take(&mut input.ports[0]) {
            let (delta, others) = split_nulls(delta, &plan.join.left)?;
            if let Some(others) = others.filter(|others| plan.join.outer && !others.is_empty()) {
                out.emit(alone(&plan.join, &self.output, &others)?);
            }
            let (delta, times) = self.in_time(0, delta, before, |_, _| true, out)?;
            if !delta.is_empty() {
                self.left.log.push(&delta)?;
                self.left.take_in(&plan.join, &mut self.keys, &delta, &times)?;
            }
        }
        self.answer(after, input.context, out)?;
        self.right.free(&mut self.keys, after)?;
        self.keys.sweep();
        self.passed = self.passed.max(after);
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.passed.into());
        let (rows, retracts) = (&self.left.rows, self.plan.join.left.retracts);
        self.left.log.save(kind, state, || {
            let delta = |ids: &Vec<u32>| -> Result<Delta> {
                let mut delta = Delta::insert(rows.take_batch(ids)?);
                if retracts {
                    delta.weights = Some(Int64Array::from_iter_values(ids.iter().map(|id| rows.weight(*id))));
                }
                Ok(delta)
            };
            rows.live_pieces().iter().map(delta).collect()
        })?;
        self.right.save(kind, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.passed = newest_time(state.metas, WATERMARK);
        let plan = Arc::clone(&self.plan);
        for delta in self.right.log.restore(self.name, state, &plan.join.right.keys)? {
            let times = event_times_ms(delta.batch.column(plan.join.right.by))?;
            self.right.take_in(&plan.join, &mut self.keys, &delta, &times)?;
        }
        for delta in self.left.log.restore(self.name, state, &plan.join.left.keys)? {
            // Rows of times that were passed have been answered.
            let times = event_times_ms(delta.batch.column(plan.join.left.by))?;
            let mask: BooleanArray = times.iter().map(|time| Some(time >= Some(self.passed))).collect();
            let delta = delta.filter(&mask)?;
            if !delta.is_empty() {
                let times = event_times_ms(delta.batch.column(plan.join.left.by))?;
                self.left.take_in(&plan.join, &mut self.keys, &delta, &times)?;
            }
        }
        self.right.free(&mut self.keys, self.passed)?;
        self.keys.sweep();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let queues = self.left.queue.len() * size_of::<Waiter>() + self.right.begins.len() * size_of::<Entry>();
        let right =
            self.right.arrivals.capacity() * 8 + self.right.deletion.capacity() + self.right.newest.capacity() * 8;
        self.keys.bytes()
            + self.left.rows.bytes()
            + self.left.log.bytes()
            + self.right.rows.bytes()
            + self.right.log.bytes()
            + self.right.index.bytes()
            + queues * 3 / 2
            + right
    }

    fn state_rows(&self) -> usize {
        self.left.rows.len() + self.right.rows.len()
    }
}

#[cfg(test)]
mod tests;
