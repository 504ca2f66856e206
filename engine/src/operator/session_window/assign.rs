//! Session windows as columns: each row leaves with the session that it is in.
//!
//! Rows wait until their session is final; where results are shown early or corrected, they leave at once and are taken back when
//! their session grows, is merged or, where the input can take rows back, is split. A window function drops nothing: a row whose session was
//! closed before it came leaves with a session of its own, and whoever aggregates it calls it late.
//!
//! A split is the exception: a part of an open session may end before the watermark, and none of its rows was late. Who has only the
//! window's end cannot tell the two apart, so where sessions of rows that can be taken back are aggregated, rows are judged here
//! ([`SessionAssignFactory::judging`]) and no more behind it.
//!
//! Rows of a key lie in order of time, so that a stretch of them can be cut into sessions again; sessions are kept beside them, so that
//! without retractions a row costs a search and not the length of its session. State is a function of the rows taken in and of the
//! watermark by which they came, so both are logged, and a restore runs them again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::is_not_null;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, UInt64Type};

use super::aggregate::check_gap;
use super::{SessionSpec, is_past};
use crate::aggregate::partial::newest_time;
use crate::aggregate::table::types_of;
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::keys::GroupKeys;
use crate::operator::group_aggregate::GroupEmit;
use crate::operator::partial_aggregate::refuse_null_times;
use crate::operator::window_assign::{check_time_type, window_fields};
use crate::operator::{
    Input, LateRows, Operator, OperatorFactory, Output, OutputWatermark, Progress, SaveKind, StateReader, StateWriter,
};
use crate::rows::{RowChange, RowLog, Rows};
use crate::time::{EventTimeMs, WATERMARK_MIN, event_times_ms};

/// Makes [`SessionAssign`]s.
pub struct SessionAssignFactory {
    plan: Arc<Plan>,
}

struct Plan {
    spec: SessionSpec,
    keys: Vec<usize>,
    key_types: Vec<DataType>,
    time_type: DataType,
    /// How many columns the input has.
    width: usize,
    /// Rows of the input can be taken back.
    retracting: bool,
    /// Rows whose session was closed before they came are refused.
    judging: bool,
    /// The input's columns and, where rows are only inserted, their arrival number.
    stored: SchemaRef,
    /// The input's columns and the watermark by which they came.
    logged: SchemaRef,
    output: SchemaRef,
}

impl SessionAssignFactory {
    /// Adds the sessions of each key (columns `keys`) to rows of `input`, which can be taken back where it is `retracting`.
    ///
    /// # Errors
    /// Keys of a type that cannot be compared (with `retracting`: any column), a time column that is not a timestamp or date, or a gap
    /// below 1 ms.
    pub fn new(input: SchemaRef, keys: Vec<usize>, spec: SessionSpec, retracting: bool) -> Result<Self> {
        check_gap(&spec)?;
        let time = input.field(spec.time_column);
        check_time_type(time.name(), time.data_type())?;
        let fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
        let with = |more: Vec<Field>| {
            let fields: Vec<FieldRef> = fields.iter().cloned().chain(more.into_iter().map(Arc::new)).collect();
            Arc::new(Schema::new(fields))
        };
        let ordinal = Field::new("__arrival", DataType::UInt64, true);
        let key_types = keys.iter().flat_map(|key| types_of(&input, *key, 1)).collect::<Vec<_>>();
        let plan = Plan {
            spec,
            width: input.fields().len(),
            time_type: time.data_type().clone(),
            retracting,
            judging: false,
            stored: with(if retracting { Vec::new() } else { vec![ordinal] }),
            logged: with(vec![Field::new("__watermark", DataType::Int64, false)]),
            output: with(window_fields(time.data_type(), Some(time)).to_vec()),
            keys,
            key_types,
        };
        GroupKeys::new(plan.key_types.clone())?;
        Rows::new(&plan.stored, retracting)?;
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Refuses late rows, those that find no open session and were too late to begin one, so that whoever aggregates the sessions judges
    /// no row by the end of its window.
    pub fn judging(mut self, judging: bool) -> Self {
        Arc::get_mut(&mut self.plan).expect("no operator was made yet").judging = judging;
        self
    }

    /// The input's columns, then `window_start`, `window_end`, `window_time`.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

impl OperatorFactory for SessionAssignFactory {
    fn name(&self) -> &'static str {
        "SessionAssign"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        let plan = Arc::clone(&self.plan);
        Ok(Box::new(SessionAssign {
            rows: Rows::new(&plan.stored, plan.retracting)?,
            keys: GroupKeys::new(plan.key_types.clone())?,
            key_rows: Vec::new(),
            entries: Vec::new(),
            ordered: BTreeSet::new(),
            sessions: BTreeMap::new(),
            calendar: BTreeMap::new(),
            negative: BTreeSet::new(),
            changed: Vec::new(),
            log: RowLog::new(ROWS, &plan.logged),
            watermark: WATERMARK_MIN,
            key_slots: Vec::new(),
            changes: Vec::new(),
            plan,
        }))
    }

    fn output_watermark(&self) -> OutputWatermark {
        SessionSpec::OUTPUT_WATERMARK
    }
}

/// Adds the session to each row.
pub struct SessionAssign {
    plan: Arc<Plan>,
    rows: Rows,
    keys: GroupKeys,
    /// How many rows each key has, by key slot.
    key_rows: Vec<u32>,
    /// By row id.
    entries: Vec<Entry>,
    /// The rows that are there, by `(key, time, id)`.
    ordered: BTreeSet<(u32, EventTimeMs, u32)>,
    /// The sessions, by `(key, start)`.
    sessions: BTreeMap<(u32, EventTimeMs), Span>,
    /// Sessions by the time that the watermark must pass before they are looked at. Entries that are not their session's are stale.
    calendar: BTreeMap<EventTimeMs, Vec<(u32, EventTimeMs)>>,
    /// Rows with a weight below zero, by `(time, id)`: what they take back may still come.
    negative: BTreeSet<(EventTimeMs, u32)>,
    /// Ids of rows that the step touched, each once.
    changed: Vec<u32>,
    log: RowLog,
    /// The watermark at the end of the last step.
    watermark: EventTimeMs,
    key_slots: Vec<u32>,
    changes: Vec<RowChange>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    key: u32,
    time: EventTimeMs,
    /// The weight by which the row is in `ordered`; 0: it is not.
    weight: i64,
    /// The session with which the row has left, where that can be corrected.
    shown: Option<Shown>,
    /// In `changed`.
    in_step: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Shown {
    start: EventTimeMs,
    last: EventTimeMs,
    weight: i64,
}

#[derive(Clone, Copy)]
struct Span {
    last: EventTimeMs,
    timer: EventTimeMs,
}

/// Where something changed in a step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Touched {
    key: u32,
    time: EventTimeMs,
    /// The rows around have to be looked at again.
    recut: bool,
}

/// Rows that leave in a step, as they do.
#[derive(Default)]
struct Leaving {
    ids: Vec<u32>,
    starts: Vec<EventTimeMs>,
    lasts: Vec<EventTimeMs>,
    weights: Vec<i64>,
    /// Rows that leave nowhere and are to be forgotten, because they are late.
    late: Vec<u32>,
}

impl Leaving {
    fn push(&mut self, id: u32, shown: Shown, sign: i64) {
        self.ids.push(id);
        self.starts.push(shown.start);
        self.lasts.push(shown.last);
        self.weights.push(shown.weight * sign);
    }
}

/// The table of a checkpoint.
const ROWS: &str = "rows";
const WATERMARK: &str = "watermark";

impl SessionAssign {
    // ---------------------------------------------------------------- rows in

    /// Takes in rows that came by `watermark`.
    fn take_in(&mut self, delta: &Delta, watermark: EventTimeMs, log: bool) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let rows = delta.rows();
        if log {
            let mut columns = delta.batch.columns().to_vec();
            columns.push(Arc::new(Int64Array::from_value(watermark, rows)));
            self.log.push(&delta.with_batch(batch_of(&plan.logged, columns, rows)?))?;
        }
        let times = plan.spec.local_times(delta)?;
        let keys: Vec<ArrayRef> = plan.keys.iter().map(|key| Arc::clone(delta.batch.column(*key))).collect();
        self.keys.intern(&keys, rows, &mut self.key_slots)?;
        self.key_rows.resize(self.keys.slot_count(), 0);
        let mut columns = delta.batch.columns().to_vec();
        if !plan.retracting {
            columns.push(Arc::new(delta.ordinals.clone().unwrap_or_else(|| UInt64Array::new_null(rows))));
        }
        let mut stored = delta.with_batch(batch_of(&plan.stored, columns, rows)?);
        if !plan.retracting {
            stored.weights = None;
        }
        let mut changes = std::mem::take(&mut self.changes);
        changes.clear();
        self.rows.apply(&stored, &mut changes)?;
        self.entries.resize(self.rows.id_bound().max(self.entries.len()), Entry::default());
        for ((change, key), time) in changes.iter().zip(&self.key_slots).zip(times.values()) {
            let entry = &mut self.entries[change.id as usize];
            if entry.in_step {
                continue;
            }
            if change.before == 0 {
                *entry = Entry { key: *key, time: *time, ..Entry::default() };
                self.key_rows[*key as usize] += 1;
            }
            entry.in_step = true;
            self.changed.push(change.id);
        }
        self.changes = changes;
        Ok(())
    }

    /// Brings rows and sessions up to date with what the step touched; `gone` gets the rows that are no longer there.
    fn settle(&mut self, watermark: EventTimeMs, leaving: &mut Leaving, gone: &mut Vec<u32>, refused: &mut Vec<u32>) {
        let corrects = self.plan.spec.corrects();
        let mut touched: Vec<Touched> = Vec::with_capacity(self.changed.len());
        for id in std::mem::take(&mut self.changed) {
            let weight = self.rows.weight(id);
            let entry = &mut self.entries[id as usize];
            entry.in_step = false;
            let Entry { key, time, weight: known, shown, .. } = *entry;
            entry.weight = weight.max(0);
            if weight < 0 {
                self.negative.insert((time, id));
            } else {
                self.negative.remove(&(time, id));
            }
            match (known > 0, weight > 0) {
                (false, true) => {
                    self.ordered.insert((key, time, id));
                    touched.push(Touched { key, time, recut: corrects });
                }
                (true, false) => {
                    self.ordered.remove(&(key, time, id));
                    touched.push(Touched { key, time, recut: true });
                    if let Some(shown) = shown {
                        leaving.push(id, shown, -1);
                        self.entries[id as usize].shown = None;
                    }
                }
                (true, true) if corrects && known != weight => touched.push(Touched { key, time, recut: true }),
                _ => {}
            }
            if weight == 0 {
                gone.push(id);
            }
        }
        touched.sort_unstable();
        let mut rest = touched.as_slice();
        while let Some((first, more)) = rest.split_first() {
            rest = more;
            self.recut_around(*first, &mut rest, watermark, leaving);
        }
        gone.extend_from_slice(&leaving.late);
        for id in std::mem::take(&mut leaving.late) {
            refused.extend(std::iter::repeat_n(id, self.entries[id as usize].weight as usize));
        }
        while let Some((time, id)) = self.negative.first().copied() {
            if !is_past(self.plan.spec.over_at(time), watermark) {
                break;
            }
            self.negative.pop_first();
            refused.push(id);
            gone.push(id);
        }
    }

    /// Makes the sessions around a touched row anew, and around those after it (taken from `rest`) that are in reach.
    fn recut_around(&mut self, first: Touched, rest: &mut &[Touched], watermark: EventTimeMs, leaving: &mut Leaving) {
        let gap = self.plan.spec.gap_ms;
        let (key, mut low, mut high, mut recut) = (first.key, first.time, first.time, first.recut);
        // The timer of the session that begins first, which goes on if its successor begins there too.
        let mut known: Option<(EventTimeMs, EventTimeMs)> = None;
        loop {
            loop {
                let reach = (key, EventTimeMs::MIN)..=(key, high.saturating_add(gap));
                let Some((at, span)) = self.sessions.range(reach).next_back().map(|(at, span)| (*at, *span)) else {
                    break;
                };
                if span.last < low.saturating_sub(gap) {
                    break;
                }
                self.sessions.remove(&at);
                known = Some((at.1, span.timer));
                (low, high) = (low.min(at.1), high.max(span.last));
            }
            match rest.split_first() {
                Some((next, more)) if next.key == key && next.time <= high.saturating_add(gap) => {
                    (high, recut, *rest) = (high.max(next.time), recut || next.recut, more);
                }
                _ => break,
            }
        }
        if known.is_none() && self.plan.judging && self.plan.spec.is_late(high, self.watermark) {
            // They found no open session, and could not begin one.
            let rows = (key, low, 0)..=(key, high, u32::MAX);
            let rows: Vec<(u32, EventTimeMs, u32)> = self.ordered.range(rows).copied().collect();
            for row in rows {
                self.ordered.remove(&row);
                leaving.late.push(row.2);
            }
            return;
        }
        if !recut {
            // Rows only came: all of it hangs together.
            self.put_session(key, low, high, known, watermark);
            return;
        }
        let rows: Vec<(EventTimeMs, u32)> =
            self.ordered.range((key, low, 0)..=(key, high, u32::MAX)).map(|(_, time, id)| (*time, *id)).collect();
        for session in rows.chunk_by(|left, right| right.0.saturating_sub(left.0) <= gap) {
            let (start, last) = (session[0].0, session[session.len() - 1].0);
            self.put_session(key, start, last, known, watermark);
            if self.plan.spec.corrects() {
                session.iter().for_each(|(_, id)| self.show(*id, start, last, watermark, leaving));
            }
        }
    }

    fn put_session(
        &mut self,
        key: u32,
        start: EventTimeMs,
        last: EventTimeMs,
        known: Option<(EventTimeMs, EventTimeMs)>,
        watermark: EventTimeMs,
    ) {
        let due = self.plan.spec.due(last, watermark);
        let timer = match known {
            Some((at, timer)) if at == start && timer <= due => timer,
            _ => {
                self.calendar.entry(due).or_default().push((key, start));
                due
            }
        };
        self.sessions.insert((key, start), Span { last, timer });
    }

    /// Takes a row back and sends it again where its session, or whether it is shown, is no longer as it was told.
    fn show(&mut self, id: u32, start: EventTimeMs, last: EventTimeMs, watermark: EventTimeMs, leaving: &mut Leaving) {
        let spec = &self.plan.spec;
        let visible = spec.emit == GroupEmit::EveryStep || spec.is_closed(last, watermark);
        let entry = &mut self.entries[id as usize];
        let shown = visible.then_some(Shown { start, last, weight: entry.weight });
        if entry.shown == shown {
            return;
        }
        let old = std::mem::replace(&mut entry.shown, shown);
        old.into_iter().for_each(|old| leaving.push(id, old, -1));
        shown.into_iter().for_each(|shown| leaving.push(id, shown, 1));
    }

    /// Looks at all sessions that are due.
    fn pass_time(&mut self, watermark: EventTimeMs, leaving: &mut Leaving, gone: &mut Vec<u32>) {
        let plan = Arc::clone(&self.plan);
        let spec = &plan.spec;
        while let Some(entry) = self.calendar.first_entry().filter(|entry| *entry.key() < watermark) {
            let (time, due) = entry.remove_entry();
            for (key, start) in due {
                let Some(span) = self.sessions.get_mut(&(key, start)).filter(|span| span.timer == time) else {
                    continue;
                };
                let last = span.last;
                let is_over = is_past(spec.over_at(last), watermark);
                if !is_over {
                    span.timer = spec.due(last, watermark);
                    self.calendar.entry(span.timer).or_default().push((key, start));
                }
                let rows = (key, start, 0)..=(key, last, u32::MAX);
                if spec.emit == GroupEmit::OnWindowClose && spec.is_closed(last, watermark) {
                    for (_, _, id) in self.ordered.range(rows.clone()) {
                        let entry = &mut self.entries[*id as usize];
                        if entry.shown.is_none() {
                            let shown = Shown { start, last, weight: entry.weight };
                            entry.shown = Some(shown);
                            leaving.push(*id, shown, 1);
                        }
                    }
                }
                if is_over {
                    self.sessions.remove(&(key, start));
                    let rows: Vec<(u32, EventTimeMs, u32)> = self.ordered.range(rows).copied().collect();
                    for row in rows {
                        self.ordered.remove(&row);
                        gone.push(row.2);
                    }
                }
            }
        }
    }

    // ---------------------------------------------------------------- rows out

    fn emit(&self, leaving: Leaving, out: &mut Output) -> Result<()> {
        let plan = &self.plan;
        let Leaving { mut ids, mut starts, mut lasts, weights, late: _ } = leaving;
        if ids.is_empty() {
            return Ok(());
        }
        if !plan.spec.corrects() && weights.iter().any(|weight| *weight > 1) {
            // Without weights a row leaves as often as it is there.
            fn repeated<T: Copy>(values: &[T], weights: &[i64]) -> Vec<T> {
                let times = values.iter().zip(weights);
                times.flat_map(|(value, weight)| std::iter::repeat_n(*value, *weight as usize)).collect()
            }
            (ids, starts, lasts) = (repeated(&ids, &weights), repeated(&starts, &weights), repeated(&lasts, &weights));
        }
        let mut columns = self.rows.take_batch(&ids)?.columns().to_vec();
        let ordinals = columns.split_off(plan.width).pop();
        let ordinals = ordinals.filter(|ordinals| ordinals.null_count() == 0);
        columns.extend(plan.spec.window_columns(starts, &lasts, &plan.time_type)?);
        let mut delta = Delta::insert(batch_of(&plan.output, columns, ids.len())?);
        delta.ordinals = ordinals.map(|ordinals| ordinals.as_primitive::<UInt64Type>().clone());
        delta.weights = plan.spec.corrects().then(|| Int64Array::from(weights));
        out.emit(delta);
        Ok(())
    }

    /// Retractions of what was never there, or is final.
    fn refuse(&self, ids: &[u32], watermark: EventTimeMs, out: &mut Output) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let rows = batch_of(&self.input_schema(), self.rows.take_batch(ids)?.columns().to_vec(), ids.len())?;
        let event_times = event_times_ms(rows.column(self.plan.spec.time_column))?.values().to_vec();
        let weights = ids.iter().map(|id| self.entries[*id as usize].weight.signum());
        let weights = Some(Int64Array::from_iter_values(weights));
        let windows_missed = vec![1; ids.len()];
        out.late(LateRows { input: None, rows, weights, event_times, windows_missed, watermark });
        Ok(())
    }

    fn input_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.plan.output.fields()[..self.plan.width].to_vec()))
    }

    /// Forgets rows, each named once.
    fn forget(&mut self, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.rows.remove(ids)?;
        let mut unused = Vec::new();
        for id in ids {
            let entry = std::mem::take(&mut self.entries[*id as usize]);
            let count = &mut self.key_rows[entry.key as usize];
            *count -= 1;
            if *count == 0 {
                unused.push(entry.key);
            }
        }
        self.keys.remove(&unused);
        Ok(())
    }

    /// Everything that a step does after its rows were taken in.
    fn finish(&mut self, watermark: EventTimeMs, out: Option<&mut Output>) -> Result<()> {
        let (mut leaving, mut gone, mut refused) = (Leaving::default(), Vec::new(), Vec::new());
        self.settle(watermark, &mut leaving, &mut gone, &mut refused);
        self.pass_time(watermark, &mut leaving, &mut gone);
        if let Some(out) = out {
            self.emit(leaving, out)?;
            self.refuse(&refused, self.watermark, out)?;
        }
        self.forget(&gone)?;
        self.watermark = self.watermark.max(watermark);
        Ok(())
    }
}

impl Operator for SessionAssign {
    fn name(&self) -> &'static str {
        "SessionAssign"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let before = input.watermarks.before;
        for mut delta in input.single() {
            let times = delta.batch.column(self.plan.spec.time_column);
            if times.null_count() > 0 {
                refuse_null_times(&delta, self.plan.spec.time_column, before, out)?;
                delta = delta.filter(&is_not_null(times)?)?;
            }
            if !delta.is_empty() {
                self.take_in(&delta, before, true)?;
            }
        }
        self.finish(input.watermarks.after, Some(out))?;
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        let (plan, rows, watermark) = (&self.plan, &self.rows, self.watermark);
        self.log.save(kind, state, || {
            let delta = |ids: &Vec<u32>| -> Result<Delta> {
                let mut columns = rows.take_batch(ids)?.columns().to_vec();
                let ordinals = columns.split_off(plan.width).pop();
                // Just before it: what is there was taken, whenever it came.
                columns.push(Arc::new(Int64Array::from_value(watermark.saturating_sub(1), ids.len())));
                let mut delta = Delta::insert(batch_of(&plan.logged, columns, ids.len())?);
                delta.ordinals = ordinals
                    .filter(|ordinals| ordinals.null_count() == 0)
                    .map(|ordinals| ordinals.as_primitive::<UInt64Type>().clone());
                delta.weights = plan.retracting.then(|| ids.iter().map(|id| rows.weight(*id)).collect());
                Ok(delta)
            };
            rows.live_pieces().iter().map(delta).collect()
        })
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        let saved_at = newest_time(state.metas, WATERMARK);
        let mut by_watermark: BTreeMap<EventTimeMs, Vec<Delta>> = BTreeMap::new();
        for delta in self.log.restore("SessionAssign", state, &self.plan.keys)? {
            let watermarks = delta.batch.column(self.plan.width).as_primitive::<Int64Type>();
            let mut start = 0;
            for run in watermarks.values().chunk_by(|left, right| left == right) {
                let part = delta.slice(start, run.len());
                start += run.len();
                let columns = part.batch.columns()[..self.plan.width].to_vec();
                let batch: RecordBatch = batch_of(&self.input_schema(), columns, part.rows())?;
                by_watermark.entry(run[0]).or_default().push(part.with_batch(batch));
            }
        }
        // Each group of rows meets the sessions that were open when it came.
        for (watermark, deltas) in by_watermark {
            self.finish(watermark, None)?;
            for delta in &deltas {
                self.take_in(delta, watermark, false)?;
            }
        }
        self.finish(saved_at, None)
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes()
            + self.keys.bytes()
            + self.log.bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.ordered.len() * 24
            + (self.sessions.len() + self.calendar.len()) * 48
            + self.key_rows.capacity() * 4
    }

    fn state_rows(&self) -> usize {
        self.rows.len()
    }
}
