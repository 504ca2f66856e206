//! Aggregates of sessions, without their rows.
//!
//! Every key has its newest session at hand, so that a row of input that is nearly in order costs two comparisons; older ones that are
//! still open lie in one ordered map. Accumulators are indexed by session, so a batch is first placed (row to session) and then
//! updated in one go. Where a row joins two sessions, the state of one is merged into that of the other after the batch; rows that
//! were placed in it before are merged along.
//!
//! When a session is due stands in a calendar. An entry is not moved when its session grows, which would cost each row a search: it is
//! looked at when its time comes, and then put where it belongs. So a step costs its rows and what closes.
//!
//! A checkpoint takes, of each key that was touched since the last one, all open sessions: they replace what older chunks say of the key.
//! Sessions freed by time leave no trace, because the watermark beside the chunks says that they are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::{SessionSpec, is_past};
use crate::aggregate::calls::CallAccumulators;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::aggregate::table::{GroupTable, StateLayout, result_fields, state_fields, types_of};
use crate::aggregate::{AggregateCall, Slots};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::keys::GroupKeys;
use crate::operator::group_aggregate::{GroupEmit, concat_columns, rows_at, same_rows};
use crate::operator::partial_aggregate::refuse_null_times;
use crate::operator::window_assign::{check_time_type, window_fields};
use crate::operator::{
    Input, LateRows, Operator, OperatorFactory, Output, OutputWatermark, Progress, SaveKind, StateReader, StateWriter,
};
use crate::time::{EventTimeMs, WATERMARK_MIN, event_times_ms};

/// Makes [`SessionAggregate`]s.
pub struct SessionAggregateFactory {
    plan: Arc<Plan>,
}

struct Plan {
    spec: SessionSpec,
    keys: Vec<usize>,
    key_types: Vec<DataType>,
    time_type: DataType,
    calls: Vec<AggregateCall>,
    layout: StateLayout,
    /// `keys.., start, last, states..`.
    saved: SchemaRef,
    output: SchemaRef,
}

impl SessionAggregateFactory {
    /// Aggregates rows of `input`, which are only inserted, by the columns `keys` and the sessions of each key.
    ///
    /// # Errors
    /// Keys of a type that cannot be compared, a time column that is not a timestamp or date, or a gap below 1 ms.
    pub fn new(input: SchemaRef, keys: Vec<usize>, calls: Vec<AggregateCall>, spec: SessionSpec) -> Result<Self> {
        check_gap(&spec)?;
        let time = input.field(spec.time_column);
        check_time_type(time.name(), time.data_type())?;
        let time_type = time.data_type().clone();
        let key_fields: Vec<Field> = keys.iter().map(|index| input.field(*index).clone()).collect();
        let mut saved = key_fields.clone();
        saved.extend(["start", "last"].map(|name| Field::new(name, DataType::Int64, false)));
        saved.extend(state_fields(&calls));
        let mut output = key_fields;
        output.extend(window_fields(&time_type, None));
        output.extend(result_fields(&calls));
        let saved = Arc::new(Schema::new(saved));
        let key_types = types_of(&saved, 0, keys.len());
        GroupTable::new(&key_types, &calls)?;
        let layout = StateLayout::new(&calls);
        let output = Arc::new(Schema::new(output));
        Ok(Self { plan: Arc::new(Plan { spec, keys, key_types, time_type, calls, layout, saved, output }) })
    }

    /// `keys.., window_start, window_end, window_time, results..`.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

/// Refuses a gap that is none.
pub(super) fn check_gap(spec: &SessionSpec) -> Result<()> {
    match spec.gap_ms > 0 {
        true => Ok(()),
        false => Err(EngineError::Plan {
            message: format!("the gap of a session is {} ms; it must be at least 1 ms", spec.gap_ms),
        }),
    }
}

impl OperatorFactory for SessionAggregateFactory {
    fn name(&self) -> &'static str {
        "SessionAggregate"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        let plan = Arc::clone(&self.plan);
        Ok(Box::new(SessionAggregate {
            keys: GroupKeys::new(plan.key_types.clone())?,
            accumulators: CallAccumulators::new(&plan.calls)?,
            of_key: Vec::new(),
            sessions: Vec::new(),
            free: Vec::new(),
            older: BTreeMap::new(),
            calendar: BTreeMap::new(),
            merged: Vec::new(),
            touched: Vec::new(),
            before: Before::default(),
            dirty: Vec::new(),
            watermark: WATERMARK_MIN,
            key_slots: Vec::new(),
            session_slots: Vec::new(),
            plan,
        }))
    }

    fn output_watermark(&self) -> OutputWatermark {
        SessionSpec::OUTPUT_WATERMARK
    }
}

/// Aggregates rows by key and session.
pub struct SessionAggregate {
    plan: Arc<Plan>,
    keys: GroupKeys,
    /// By session slot.
    accumulators: CallAccumulators,
    /// By key slot.
    of_key: Vec<KeySessions>,
    /// By session slot.
    sessions: Vec<Session>,
    /// Session slots to be given out again.
    free: Vec<u32>,
    /// The sessions of keys other than their newest, by `(key, start)`.
    older: BTreeMap<(u32, EventTimeMs), u32>,
    /// Sessions by the time that the watermark must pass before they are looked at. Entries that are not their session's are stale.
    calendar: BTreeMap<EventTimeMs, Vec<u32>>,
    /// Sessions that the batch at hand merged into others.
    merged: Vec<u32>,
    /// Sessions that this step made or touched, where results are corrected.
    touched: Vec<u32>,
    /// The results that touched sessions had shown.
    before: Before,
    /// Key slots touched since the last save, each once.
    dirty: Vec<u32>,
    /// The watermark at the end of the last step.
    watermark: EventTimeMs,
    key_slots: Vec<u32>,
    session_slots: Vec<u32>,
}

#[derive(Clone, Copy)]
struct KeySessions {
    /// The newest session.
    newest: u32,
    /// In `dirty`.
    dirty: bool,
}

#[derive(Clone, Copy)]
struct Session {
    start: EventTimeMs,
    /// The greatest event time.
    last: EventTimeMs,
    /// Where in the calendar it stands.
    timer: EventTimeMs,
    /// The key slot; [`FREE`], or [`MERGED`] until the end of the batch.
    key: u32,
    /// Of a merged one: the session that took it over.
    into: u32,
    /// A result of it was emitted and not taken back.
    shown: bool,
    /// In `touched`.
    in_step: bool,
}

/// What sessions had shown before this step.
#[derive(Default)]
struct Before {
    slots: Vec<u32>,
    keys: Vec<u32>,
    starts: Vec<EventTimeMs>,
    lasts: Vec<EventTimeMs>,
    /// In pieces.
    results: Vec<Vec<ArrayRef>>,
}

const NONE: u32 = u32::MAX;
const FREE: u32 = u32::MAX;
const MERGED: u32 = u32::MAX - 1;
/// Of a session that is about to be freed.
const NO_TIMER: EventTimeMs = EventTimeMs::MIN;
/// The table of a checkpoint.
const SESSIONS: &str = "sessions";
const WATERMARK: &str = "watermark";

impl SessionAggregate {
    // ---------------------------------------------------------------- placing rows

    /// Finds the slots of rows' keys; new ones have no session.
    fn intern(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        self.keys.intern(columns, rows, &mut self.key_slots)?;
        if !self.keys.fresh().is_empty() {
            self.of_key.resize(self.keys.slot_count(), KeySessions { newest: NONE, dirty: false });
            self.keys.fresh().iter().for_each(|slot| self.of_key[*slot as usize].newest = NONE);
        }
        Ok(())
    }

    /// The session of a row, extended to it.
    #[inline]
    fn place<const CORRECTS: bool>(&mut self, key: u32, time: EventTimeMs) -> u32 {
        let state = &mut self.of_key[key as usize];
        if !state.dirty {
            state.dirty = true;
            self.dirty.push(key);
        }
        let newest = state.newest;
        if newest != NONE {
            let session = &mut self.sessions[newest as usize];
            if session.start <= time && time <= session.last.saturating_add(self.plan.spec.gap_ms) {
                if CORRECTS {
                    self.touch(newest);
                }
                let session = &mut self.sessions[newest as usize];
                session.last = session.last.max(time);
                return newest;
            }
        }
        self.place_slowly::<CORRECTS>(key, time)
    }

    #[cold]
    #[inline(never)]
    fn place_slowly<const CORRECTS: bool>(&mut self, key: u32, time: EventTimeMs) -> u32 {
        let gap = self.plan.spec.gap_ms;
        let low = time.saturating_sub(gap);
        // Sessions lie further apart than the gap, so at most the last that begins by then, and the one before it, are in reach.
        let right = self.last_that_begins_by(key, time.saturating_add(gap));
        let Some(right) = right.filter(|slot| self.sessions[*slot as usize].last >= low) else {
            let slot = self.create(key, time, time);
            if CORRECTS {
                self.sessions[slot as usize].in_step = true;
                self.touched.push(slot);
            }
            return slot;
        };
        if CORRECTS {
            self.touch(right);
        }
        let start = self.sessions[right as usize].start;
        if time < start {
            let left = self.older.range((key, EventTimeMs::MIN)..(key, start)).next_back().map(|(_, slot)| *slot);
            match left.filter(|slot| self.sessions[*slot as usize].last >= low) {
                Some(left) => {
                    if CORRECTS {
                        self.touch(left);
                    }
                    let start = self.sessions[left as usize].start;
                    self.older.remove(&(key, start));
                    self.sessions[left as usize].key = MERGED;
                    self.sessions[left as usize].into = right;
                    self.merged.push(left);
                    self.move_start(right, start);
                }
                None => self.move_start(right, time),
            }
        }
        let session = &mut self.sessions[right as usize];
        session.last = session.last.max(time);
        right
    }

    fn last_that_begins_by(&self, key: u32, time: EventTimeMs) -> Option<u32> {
        let newest = self.of_key[key as usize].newest;
        if newest == NONE || self.sessions[newest as usize].start <= time {
            return (newest != NONE).then_some(newest);
        }
        self.older.range((key, EventTimeMs::MIN)..=(key, time)).next_back().map(|(_, slot)| *slot)
    }

    fn move_start(&mut self, slot: u32, start: EventTimeMs) {
        let session = &mut self.sessions[slot as usize];
        let (key, old) = (session.key, session.start);
        session.start = start;
        if self.of_key[key as usize].newest != slot {
            self.older.remove(&(key, old));
            self.older.insert((key, start), slot);
        }
    }

    /// A new session of a key.
    fn create(&mut self, key: u32, start: EventTimeMs, last: EventTimeMs) -> u32 {
        let timer = self.plan.spec.due(last, self.watermark);
        let session = Session { start, last, timer, key, into: NONE, shown: false, in_step: false };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.sessions[slot as usize] = session;
                slot
            }
            None => {
                self.sessions.push(session);
                u32::try_from(self.sessions.len() - 1).expect("memory ends before u32 slots do")
            }
        };
        self.calendar.entry(timer).or_default().push(slot);
        let newest = &mut self.of_key[key as usize].newest;
        if *newest == NONE {
            *newest = slot;
        } else {
            let other = self.sessions[*newest as usize].start;
            if other < start {
                self.older.insert((key, other), std::mem::replace(newest, slot));
            } else {
                self.older.insert((key, start), slot);
            }
        }
        slot
    }

    /// Notes what a session has shown before this step changes it.
    fn touch(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        if session.in_step {
            return;
        }
        session.in_step = true;
        self.touched.push(slot);
        if session.shown {
            self.before.slots.push(slot);
            self.before.keys.push(session.key);
            self.before.starts.push(session.start);
            self.before.lasts.push(session.last);
        }
    }

    /// Takes in rows of known keys (`key_slots`) and times.
    fn update(&mut self, delta: &Delta, times: &[EventTimeMs]) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let keys = std::mem::take(&mut self.key_slots);
        let mut slots = std::mem::take(&mut self.session_slots);
        slots.clear();
        let known = self.before.slots.len();
        let pairs = keys.iter().zip(times);
        match plan.spec.corrects() {
            true => slots.extend(pairs.map(|(key, time)| self.place::<true>(*key, *time))),
            false => slots.extend(pairs.map(|(key, time)| self.place::<false>(*key, *time))),
        }
        if self.before.slots.len() > known {
            let results = self.accumulators.results(Slots::Some(&self.before.slots[known..]))?;
            self.before.results.push(results);
        }
        self.accumulators.resize(self.sessions.len());
        // Rows are only inserted: what weights they have say nothing.
        let rows = Delta { batch: delta.batch.clone(), weights: None, ordinals: delta.ordinals.clone() };
        self.accumulators.update(&slots, &rows, &plan.calls)?;
        self.key_slots = keys;
        self.session_slots = slots;
        self.merge_sessions()
    }

    /// Moves the state of merged sessions to those that took them over.
    fn merge_sessions(&mut self) -> Result<()> {
        if self.merged.is_empty() {
            return Ok(());
        }
        let losers = std::mem::take(&mut self.merged);
        let winner = |slot: &u32| {
            let mut slot = *slot;
            while self.sessions[slot as usize].key == MERGED {
                slot = self.sessions[slot as usize].into;
            }
            slot
        };
        let winners: Vec<u32> = losers.iter().map(winner).collect();
        let states = self.accumulators.states(Slots::Some(&losers))?;
        self.accumulators.merge(&winners, &states, &self.plan.layout)?;
        self.accumulators.clear(Slots::Some(&losers));
        losers.iter().for_each(|slot| self.sessions[*slot as usize].key = FREE);
        self.free.extend(losers);
        Ok(())
    }

    /// Takes in what a step brings: rows that are on time first, then those that can only join.
    fn take_in(&mut self, deltas: Vec<Delta>, watermark: EventTimeMs, out: &mut Output) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let mut behind: Vec<Delta> = Vec::new();
        for mut delta in deltas {
            if delta.batch.column(plan.spec.time_column).null_count() > 0 {
                refuse_null_times(&delta, plan.spec.time_column, watermark, out)?;
                delta = delta.filter(&is_not_null(delta.batch.column(plan.spec.time_column))?)?;
            }
            let mut times = plan.spec.local_times(&delta)?;
            let least = times.values().iter().min();
            if least.is_some_and(|time| plan.spec.is_late(*time, watermark)) {
                let late: BooleanArray =
                    times.values().iter().map(|time| Some(plan.spec.is_late(*time, watermark))).collect();
                behind.push(delta.filter(&late)?);
                delta = delta.filter(&arrow::compute::not(&late)?)?;
                times = plan.spec.local_times(&delta)?;
            }
            if !delta.is_empty() {
                let keys = key_columns(&delta.batch, &plan.keys);
                self.intern(&keys, delta.rows())?;
                self.update(&delta, times.values())?;
            }
        }
        if behind.is_empty() { Ok(()) } else { self.take_in_behind(&behind, watermark, out) }
    }

    /// Rows whose own sessions are closed join one that is open, or are late.
    fn take_in_behind(&mut self, deltas: &[Delta], watermark: EventTimeMs, out: &mut Output) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let delta = concat_deltas(deltas)?;
        let times = plan.spec.local_times(&delta)?;
        self.intern(&key_columns(&delta.batch, &plan.keys), delta.rows())?;
        let fresh = self.keys.fresh().to_vec();
        let keys = std::mem::take(&mut self.key_slots);
        let mut order: Vec<u32> = (0..delta.rows() as u32).collect();
        order.sort_by_key(|row| (std::cmp::Reverse(times.value(*row as usize)), *row));
        // The earliest time to which the open session of each key can be extended by rows seen so far.
        let gap = plan.spec.gap_ms;
        let (mut joining, mut late) = (Vec::new(), Vec::new());
        let mut reach: BTreeMap<u32, EventTimeMs> = BTreeMap::new();
        for row in order {
            let (key, time) = (keys[row as usize], times.value(row as usize));
            let joins_rows = reach.get(&key).is_some_and(|reached| time.saturating_add(gap) >= *reached);
            let session = self.last_that_begins_by(key, time.saturating_add(gap));
            let joins =
                joins_rows || session.is_some_and(|slot| self.sessions[slot as usize].last >= time.saturating_sub(gap));
            if joins {
                reach.insert(key, time);
                joining.push(row);
            } else {
                late.push(row);
            }
        }
        if !joining.is_empty() {
            self.key_slots = joining.iter().map(|row| keys[*row as usize]).collect();
            let times: Vec<EventTimeMs> = joining.iter().map(|row| times.value(*row as usize)).collect();
            self.update(&delta.take(&UInt32Array::from(joining))?, &times)?;
        }
        let unused: Vec<u32> = fresh.into_iter().filter(|key| self.of_key[*key as usize].newest == NONE).collect();
        self.keys.remove(&unused);
        if !late.is_empty() {
            late.sort_unstable();
            let windows_missed = vec![1; late.len()];
            let Delta { batch: rows, weights, .. } = delta.take(&UInt32Array::from(late))?;
            let event_times = event_times_ms(rows.column(plan.spec.time_column))?.values().to_vec();
            out.late(LateRows { input: None, rows, weights, event_times, windows_missed, watermark });
        }
        Ok(())
    }

    // ---------------------------------------------------------------- what leaves

    /// `keys.., window_start, window_end, window_time, results..` of sessions.
    fn output_columns(
        &mut self,
        keys: &[u32],
        starts: Vec<EventTimeMs>,
        lasts: &[EventTimeMs],
        results: Vec<ArrayRef>,
    ) -> Result<Vec<ArrayRef>> {
        let mut columns = self.keys.columns(Slots::Some(keys))?;
        columns.extend(self.plan.spec.window_columns(starts, lasts, &self.plan.time_type)?);
        columns.extend(results);
        Ok(columns)
    }

    fn result_columns(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let of = |get: fn(&Session) -> i64| slots.iter().map(|slot| get(&self.sessions[*slot as usize])).collect();
        let keys: Vec<u32> = slots.iter().map(|slot| self.sessions[*slot as usize].key).collect();
        let (starts, lasts): (Vec<i64>, Vec<i64>) = (of(|session| session.start), of(|session| session.last));
        let results = self.accumulators.results(Slots::Some(slots))?;
        self.output_columns(&keys, starts, &lasts, results)
    }

    /// Takes back what touched sessions had shown and shows what they are now, where that differs.
    fn emit_corrections(&mut self, watermark: EventTimeMs, out: &mut Output) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let mut shown: Vec<u32> = Vec::new();
        for slot in std::mem::take(&mut self.touched) {
            let session = &mut self.sessions[slot as usize];
            // One that was merged away, or is listed twice because its slot was given out again.
            if session.key == FREE || !session.in_step {
                continue;
            }
            session.in_step = false;
            session.shown = plan.spec.emit == GroupEmit::EveryStep || plan.spec.is_closed(session.last, watermark);
            if session.shown {
                shown.push(slot);
            }
            // A closed session that was opened again speaks earlier than it would have been freed.
            let due = plan.spec.due(session.last, watermark);
            if due < session.timer {
                session.timer = due;
                self.calendar.entry(due).or_default().push(slot);
            }
        }
        let mut news = self.result_columns(&shown)?;
        let before = std::mem::take(&mut self.before);
        let rows = before.slots.len();
        if rows == 0 {
            let weights = Int64Array::from_value(1, shown.len());
            out.emit(Delta::weighted(batch_of(&plan.output, news, shown.len())?, weights));
            return Ok(());
        }
        let old_results = concat_columns(&before.results)?;
        let mut olds = self.output_columns(&before.keys, before.starts, &before.lasts, old_results)?;
        let places: BTreeMap<u32, usize> = shown.iter().enumerate().map(|(place, slot)| (*slot, place)).collect();
        let (mut at_old, mut at_new) = (Vec::new(), Vec::new());
        for (old, slot) in before.slots.iter().enumerate() {
            if let Some(place) = places.get(slot) {
                at_old.push(old as u32);
                at_new.push(*place as u32);
            }
        }
        if !at_old.is_empty() {
            let same = same_rows(&take_rows(&olds, &at_old)?, &take_rows(&news, &at_new)?, at_old.len())?;
            let keep = |count: usize, places: &[u32]| {
                let mut keep = vec![true; count];
                places.iter().zip(&same).for_each(|(place, same)| keep[*place as usize] = !same);
                (0..count as u32).filter(|row| keep[*row as usize]).collect::<Vec<u32>>()
            };
            olds = rows_at(olds.iter(), &keep(rows, &at_old), rows)?;
            news = rows_at(news.iter(), &keep(shown.len(), &at_new), shown.len())?;
        }
        let (retracted, inserted) = (olds[plan.keys.len()].len(), news[plan.keys.len()].len());
        let columns = concat_columns(&[olds, news])?;
        let weights: Int64Array = (0..retracted + inserted).map(|row| if row < retracted { -1 } else { 1 }).collect();
        out.emit(Delta::weighted(batch_of(&plan.output, columns, retracted + inserted)?, weights));
        Ok(())
    }

    /// Looks at all sessions that are due: shows those that have become final, and frees those that nothing can change.
    fn pass_time(&mut self, watermark: EventTimeMs, out: &mut Output) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let (mut closing, mut over) = (Vec::new(), Vec::new());
        while let Some(entry) = self.calendar.first_entry().filter(|entry| *entry.key() < watermark) {
            let (time, slots) = entry.remove_entry();
            for slot in slots {
                let session = &mut self.sessions[slot as usize];
                if session.key == FREE || session.timer != time {
                    continue;
                }
                if !session.shown && plan.spec.is_closed(session.last, watermark) {
                    session.shown = true;
                    closing.push(slot);
                }
                if is_past(plan.spec.over_at(session.last), watermark) {
                    session.timer = NO_TIMER;
                    over.push(slot);
                } else {
                    session.timer = plan.spec.due(session.last, watermark);
                    self.calendar.entry(session.timer).or_default().push(slot);
                }
            }
        }
        if !closing.is_empty() {
            let columns = self.result_columns(&closing)?;
            let batch = batch_of(&plan.output, columns, closing.len())?;
            out.emit(match plan.spec.corrects() {
                true => Delta::weighted(batch, Int64Array::from_value(1, closing.len())),
                false => Delta::insert(batch),
            });
        }
        self.free_sessions(over);
        Ok(())
    }

    fn free_sessions(&mut self, slots: Vec<u32>) {
        if slots.is_empty() {
            return;
        }
        self.accumulators.clear(Slots::Some(&slots));
        let mut keys = Vec::new();
        for slot in &slots {
            let session = &mut self.sessions[*slot as usize];
            let (key, start) = (session.key, session.start);
            session.key = FREE;
            if self.of_key[key as usize].newest != *slot {
                self.older.remove(&(key, start));
                continue;
            }
            let next =
                self.older.range((key, EventTimeMs::MIN)..=(key, start)).next_back().map(|(at, slot)| (*at, *slot));
            match next {
                Some((at, slot)) => {
                    self.older.remove(&at);
                    self.of_key[key as usize].newest = slot;
                }
                None => {
                    self.of_key[key as usize].newest = NONE;
                    keys.push(key);
                }
            }
        }
        self.keys.remove(&keys);
        self.free.extend(slots);
    }

    /// The sessions of a key, in no order.
    fn sessions_of(&self, key: u32, slots: &mut Vec<u32>) {
        let newest = self.of_key[key as usize].newest;
        if newest != NONE {
            slots.push(newest);
            slots.extend(self.older.range((key, EventTimeMs::MIN)..=(key, EventTimeMs::MAX)).map(|(_, slot)| *slot));
        }
    }

    /// Takes a chunk of a checkpoint in: what it says of a key replaces what was there.
    fn restore_chunk(&mut self, rows: &RecordBatch) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let key_count = plan.keys.len();
        let columns = rows.columns();
        self.intern(&columns[..key_count], rows.num_rows())?;
        let keys = std::mem::take(&mut self.key_slots);
        let mut replaced = Vec::new();
        for key in &keys {
            let state = &mut self.of_key[*key as usize];
            // Once for each key of the chunk.
            if !std::mem::replace(&mut state.dirty, true) {
                let first = replaced.len();
                self.sessions_of(*key, &mut replaced);
                self.of_key[*key as usize].newest = NONE;
                for slot in &replaced[first..] {
                    self.older.remove(&(*key, self.sessions[*slot as usize].start));
                    self.sessions[*slot as usize].key = FREE;
                }
            }
        }
        self.accumulators.clear(Slots::Some(&replaced));
        self.free.extend(replaced);
        let (starts, lasts) =
            (columns[key_count].as_primitive::<Int64Type>(), columns[key_count + 1].as_primitive::<Int64Type>());
        let mut slots = Vec::with_capacity(keys.len());
        for (row, key) in keys.iter().enumerate() {
            let (start, last) = (starts.value(row), lasts.value(row));
            let slot = self.create(*key, start, last);
            self.sessions[slot as usize].shown =
                plan.spec.emit == GroupEmit::EveryStep || plan.spec.is_closed(last, self.watermark);
            slots.push(slot);
        }
        keys.iter().for_each(|key| self.of_key[*key as usize].dirty = false);
        self.accumulators.resize(self.sessions.len());
        self.accumulators.merge(&slots, &columns[key_count + 2..], &plan.layout)
    }
}

fn key_columns(batch: &RecordBatch, keys: &[usize]) -> Vec<ArrayRef> {
    keys.iter().map(|key| Arc::clone(batch.column(*key))).collect()
}

fn take_rows(columns: &[ArrayRef], rows: &[u32]) -> Result<Vec<ArrayRef>> {
    let rows = UInt32Array::from(rows.to_vec());
    columns.iter().map(|column| Ok(arrow::compute::take(column, &rows, None)?)).collect()
}

/// One delta of several without weights.
fn concat_deltas(deltas: &[Delta]) -> Result<Delta> {
    if let [one] = deltas {
        return Ok(one.clone());
    }
    let batch = concat_batches(&deltas[0].batch.schema(), deltas.iter().map(|delta| &delta.batch))?;
    let ordinals = deltas.iter().map(|delta| delta.ordinals.as_ref().map(|ordinals| ordinals as &dyn Array));
    let ordinals = match ordinals.collect::<Option<Vec<_>>>() {
        Some(ordinals) => Some(arrow::compute::concat(&ordinals)?.as_primitive().clone()),
        None => None,
    };
    Ok(Delta { batch, weights: None, ordinals })
}

impl Operator for SessionAggregate {
    fn name(&self) -> &'static str {
        "SessionAggregate"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let deltas: Vec<Delta> = input.single().into_iter().filter(|delta| !delta.is_empty()).collect();
        if !deltas.is_empty() {
            self.take_in(deltas, input.watermarks.before, out)?;
        }
        let watermark = input.watermarks.after;
        if !self.touched.is_empty() {
            self.emit_corrections(watermark, out)?;
        }
        self.pass_time(watermark, out)?;
        self.watermark = self.watermark.max(watermark);
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        let mut keys = std::mem::take(&mut self.dirty);
        keys.iter().for_each(|key| self.of_key[*key as usize].dirty = false);
        if kind == SaveKind::Full {
            keys = self.keys.live_slots();
        }
        let mut slots = Vec::with_capacity(keys.len());
        keys.iter().for_each(|key| self.sessions_of(*key, &mut slots));
        if slots.is_empty() {
            return Ok(());
        }
        let of = |get: fn(&Session) -> i64| -> ArrayRef {
            Arc::new(slots.iter().map(|slot| Some(get(&self.sessions[*slot as usize]))).collect::<Int64Array>())
        };
        let bounds = [of(|session| session.start), of(|session| session.last)];
        let of_slots: Vec<u32> = slots.iter().map(|slot| self.sessions[*slot as usize].key).collect();
        let mut columns = self.keys.columns(Slots::Some(&of_slots))?;
        columns.extend(bounds);
        columns.extend(self.accumulators.states(Slots::Some(&slots))?);
        state.put(SESSIONS, batch_of(&self.plan.saved, columns, slots.len())?);
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.watermark = newest_time(state.metas, WATERMARK);
        for chunk in state.chunks {
            if chunk.table != SESSIONS {
                return Err(EngineError::Checkpoint {
                    message: format!("SessionAggregate knows no state `{}`; start over with `--fresh`", chunk.table),
                });
            }
            check_chunk("SessionAggregate", chunk, &self.plan.saved)?;
            let key_count = self.plan.keys.len();
            let rows = keep_owned(&chunk.rows, 0, key_count, state.owned)?;
            let lasts = rows.column(key_count + 1).as_primitive::<Int64Type>();
            let is_over = |last: &i64| is_past(self.plan.spec.over_at(*last), self.watermark);
            let kept: BooleanArray = lasts.values().iter().map(|last| Some(!is_over(last))).collect();
            let rows = filter_record_batch(&rows, &kept)?;
            if rows.num_rows() > 0 {
                self.restore_chunk(&rows)?;
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let lists = self.of_key.capacity() * size_of::<KeySessions>()
            + self.sessions.capacity() * (size_of::<Session>() + 4)
            + self.older.len() * 32
            + self.calendar.len() * 48
            + (self.dirty.capacity() + self.key_slots.capacity() + self.session_slots.capacity()) * 4;
        self.keys.bytes() + self.accumulators.state_bytes() + lists
    }

    fn state_rows(&self) -> usize {
        self.sessions.len() - self.free.len()
    }
}
