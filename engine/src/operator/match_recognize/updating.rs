//! Matches leave and are taken back again.
//!
//! Rows stay in order until nothing can change them: until the watermark has passed them by the allowed lateness. The automaton has taken
//! in what is settled, once and for all. What is *shown* lies behind that: the rows that the watermark has passed, or, where matches
//! leave before they are final, all rows. Of each partition that a step changes, the shown rows are matched twice from where the
//! settled ones end, as they were and as they are, and what differs leaves: matches that are undone with weight -1, new ones with
//! weight 1. So what has been told is never kept, and a checkpoint takes the rows alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{Field, Schema, SchemaRef, UInt64Type};
use eagre_patterns::{Key, Matcher};

use super::conditions::{Fresh, bitmaps};
use super::matches::{Evaluation, Matches};
use super::rows::{NewRows, Places, View};
use super::run::{Known, Scratch, Time, Work, needed_from, run};
use super::{MatchEmit, NAME, Plan, Plans};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::expr::StepContext;
use crate::operator::over::{Edit, OverSpec, Shelf, judge};
use crate::operator::{Input, Operator, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::rows::Rows;
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN, event_times_ms};

/// The table of partitions in a checkpoint, and its meta.
const PARTITIONS: &str = "partitions";
const WATERMARK: &str = "watermark";

/// A row in its place.
#[derive(Debug, Clone, Copy)]
struct Row {
    arrival: u64,
    id: u32,
    time: EventTimeMs,
}

/// A partition: two words while it is idle, as most are.
struct Part {
    /// What there is of it beside its position, unless it is idle.
    open: Option<Box<Open>>,
    /// How many rows came, of an idle one; and a bit of it for what differs from what was saved.
    position: u64,
}

/// The bit of [`Part::position`].
const DIRTY: u64 = 1 << 63;

/// A partition in which rows stay, or matches are under way or counted.
struct Open {
    /// It has taken in the settled rows.
    key: Key,
    /// The position of the first of `rows`.
    first: u64,
    /// In order; some of them are settled.
    rows: Vec<Row>,
    /// When time will have something to do with it, as far as it is noted.
    due: Option<EventTimeMs>,
}

impl Part {
    /// No row has come, and nothing was saved.
    fn new() -> Self {
        Self { open: None, position: 0 }
    }

    fn rows(&self) -> &[Row] {
        self.open.as_ref().map_or(&[], |open| &open.rows)
    }

    fn position(&self) -> u64 {
        self.open.as_ref().map_or(self.position & !DIRTY, |open| open.key.position())
    }

    fn is_dirty(&self) -> bool {
        self.position & DIRTY != 0
    }

    /// What there is, if need be as it is when all rows have gone.
    fn open(&mut self, matcher: &Matcher) -> &mut Open {
        let position = self.position & !DIRTY;
        self.open.get_or_insert_with(|| Box::new(Open::at(matcher, position)))
    }

    /// Gives back what an idle partition does not need: nothing stays in it, and nobody counts its matches.
    fn close(&mut self) {
        let position = self.position();
        self.open = None;
        self.position = position | self.position & DIRTY;
    }
}

impl Open {
    /// All rows before a position were taken in and have gone.
    fn at(matcher: &Matcher, position: u64) -> Self {
        Self { key: matcher.resume(position, 0, 0), first: position, rows: Vec::new(), due: None }
    }

    fn is_idle(&self) -> bool {
        self.rows.is_empty() && self.key.start() == self.key.position()
    }
}

/// See the [module](self).
pub(super) struct Updating {
    plans: Arc<Plans>,
    shelf: Shelf,
    /// By slot.
    parts: Vec<Part>,
    due: BTreeMap<EventTimeMs, Vec<u32>>,
    /// Partitions that were restored.
    asleep: Vec<u32>,
    watermark: EventTimeMs,
    empty: RecordBatch,
    /// What leaves in a step, so that equal rows meet; empty between two steps.
    net: Rows,
    scratch: Scratch,
    state_schema: SchemaRef,
    /// Partitions that were let go since the last save.
    freed: Vec<RecordBatch>,
    /// Whether anything was ever saved.
    saves: bool,
}

impl Updating {
    pub(super) fn new(plans: &Arc<Plans>) -> Result<Self> {
        let spec = plans.spec();
        let over = OverSpec {
            input: Arc::clone(&spec.input),
            retracting: spec.retracting,
            partition: spec.partition.clone(),
            order: spec.order.clone(),
            tie: None,
            calls: Vec::new(),
        };
        let mut fields: Vec<Field> = spec.partition.iter().map(|column| spec.input.field(*column).clone()).collect();
        for name in ["start", "number", "matched_until", "told_until", "first", "held"] {
            fields.push(Field::new(format!("__{name}"), arrow::datatypes::DataType::UInt64, false));
        }
        Ok(Self {
            shelf: Shelf::of(over)?,
            parts: Vec::new(),
            due: BTreeMap::new(),
            asleep: Vec::new(),
            watermark: WATERMARK_MIN,
            empty: RecordBatch::new_empty(Arc::clone(&spec.input)),
            net: Rows::new(&plans.output, true)?,
            scratch: Scratch::default(),
            state_schema: Arc::new(Schema::new(fields)),
            freed: Vec::new(),
            saves: false,
            plans: Arc::clone(plans),
        })
    }

    /// Below this time rows are settled.
    fn settled_below(&self, watermark: EventTimeMs) -> EventTimeMs {
        match watermark {
            WATERMARK_MAX | WATERMARK_MIN => watermark,
            watermark => watermark.saturating_sub(self.plan().spec.allowed_lateness_ms),
        }
    }

    /// How many of a partition's rows are shown.
    fn shown(&self, rows: &[Row], watermark: EventTimeMs) -> usize {
        match self.plan().spec.emit {
            MatchEmit::Changes => rows.len(),
            MatchEmit::Final if watermark == WATERMARK_MAX => rows.len(),
            MatchEmit::Final if !self.plan().spec.by_watermark => 0,
            MatchEmit::Final => rows.partition_point(|row| row.time < watermark),
        }
    }

    /// What time does to rows that are shown when the watermark is at `watermark`.
    fn time(&self, watermark: EventTimeMs) -> Time {
        let bounded = watermark != WATERMARK_MIN && watermark != WATERMARK_MAX;
        let within = self.plan().spec.within.filter(|_| bounded && self.plan().spec.by_watermark);
        let expired = within.map(|within| self.plans.units(within, watermark));
        Time { expired, ended: watermark == WATERMARK_MAX, provisional: true }
    }

    /// Adds to `matches` what the shown rows of a partition give behind the settled ones. Its deadline, if it has one.
    fn show(
        &mut self,
        (key, first, ids): (&Key, u64, &[u32]),
        watermark: EventTimeMs,
        context: &StepContext,
        matches: &mut Matches,
    ) -> Result<Option<i64>> {
        let key = key.clone();
        let view = View { first, kept: ids, new: NewRows::default() };
        let time = self.time(watermark);
        let work = Work { key, view, rows: 0..0, stopped: false };
        let work = self.run(work, time, context, matches)?;
        if work.stopped {
            return Ok(None);
        }
        let deadline = work.key.deadline();
        if self.plan().spec.emit == MatchEmit::Changes && !time.ended {
            // The best there is of what is still open. What could still go on has not run out of time.
            let time = Time { expired: None, ended: true, provisional: true };
            let open = matches.len();
            self.run(work, time, context, matches)?;
            matches.drop_partial_from(open);
        }
        Ok(deadline)
    }

    /// Matches the rows of one partition that are behind its key's position.
    fn run<'a>(
        &mut self,
        mut work: Work<'a>,
        time: Time,
        context: &StepContext,
        matches: &mut Matches,
    ) -> Result<Work<'a>> {
        let plans = &self.plans;
        let lookahead = if time.ended { 0 } else { plans.lookahead };
        let end = work.view.end().saturating_sub(lookahead);
        let fresh = Fresh::of(&plans.distinct, [(work.view, work.key.position()..end)].into_iter());
        let places = Places { kept: &self.shelf.rows, batch: &self.empty };
        let rows = fresh.rows.len();
        work.rows = 0..rows;
        let (bits, times) = match rows {
            0 => (Vec::new(), Vec::new()),
            _ => (bitmaps(&plans.distinct, &fresh, places, context)?, plans.times_of(&fresh.rows, places)?),
        };
        let any = vec![u64::MAX; rows.div_ceil(64)];
        let known = Known {
            rows,
            bitmaps: if rows == 0 { Vec::new() } else { plans.distinct.of(0, &bits, &any) },
            times: &times,
            starts: &[],
        };
        let mut works = [work];
        let at = (places, context);
        run((plans, &plans.plans[0]), &mut works, &known, at, time, &mut self.scratch, matches)?;
        let [work] = works;
        Ok(work)
    }

    fn plan(&self) -> &Plan {
        &self.plans.plans[0]
    }

    /// Puts rows in their places and takes out those that went.
    fn apply(&mut self, slot: u32, edits: &[Edit], times: &BTreeMap<u32, EventTimeMs>) {
        let order = &self.shelf.order;
        let part = self.parts[slot as usize].open(&self.plans.plans[0].matcher);
        for edit in edits {
            let place = part.rows.partition_point(|row| {
                order.get(row.id).cmp(order.get(edit.id)).then(row.arrival.cmp(&edit.arrival)).is_lt()
            });
            if edit.added {
                let time = times.get(&edit.id).copied().unwrap_or(WATERMARK_MIN);
                part.rows.insert(place, Row { arrival: edit.arrival, id: edit.id, time });
            } else if part.rows.get(place).is_some_and(|row| row.arrival == edit.arrival && row.id == edit.id) {
                part.rows.remove(place);
            }
        }
    }

    /// Brings a partition from one watermark to another, and adds what leaves to `before` and `after`.
    fn change(
        &mut self,
        slot: u32,
        edits: &[Edit],
        times: &BTreeMap<u32, EventTimeMs>,
        (before_watermark, after_watermark): (EventTimeMs, EventTimeMs),
        context: &StepContext,
        (before, after): (&mut Matches, &mut Matches),
    ) -> Result<()> {
        let index = slot as usize;
        let plans = Arc::clone(&self.plans);
        let part = self.parts[index].open(&plans.plans[0].matcher);
        let (key, first) = (part.key.clone(), part.first);
        let part = &self.parts[index];
        let shown = self.shown(part.rows(), before_watermark);
        let ids: Vec<u32> = part.rows()[..shown].iter().map(|row| row.id).collect();
        self.show((&key, first, &ids), before_watermark, context, before)?;
        self.apply(slot, edits, times);
        // What is settled now is matched for good.
        let below = self.settled_below(after_watermark);
        let spec = plans.spec();
        let part = self.parts[index].open(&plans.plans[0].matcher);
        let settled = match below {
            WATERMARK_MAX => part.rows.len(),
            _ if !spec.by_watermark => 0,
            below => part.rows.partition_point(|row| row.time < below),
        };
        let ids: Vec<u32> = part.rows.iter().map(|row| row.id).collect();
        let view = View { first: part.first, kept: &ids[..settled], new: NewRows::default() };
        let ended = below == WATERMARK_MAX;
        let bounded = !ended && below != WATERMARK_MIN && spec.by_watermark;
        let within = spec.within.filter(|_| bounded);
        let time = Time { expired: within.map(|within| plans.units(within, below)), ended, provisional: false };
        let key = std::mem::replace(&mut part.key, plans.plans[0].matcher.key());
        let work = Work { key, view, rows: 0..0, stopped: false };
        let key = self.run(work, time, context, after)?.key;
        self.parts[index].open(&plans.plans[0].matcher).key = key.clone();
        let mut deadline = None;
        if !ended {
            let shown = self.shown(self.parts[index].rows(), after_watermark);
            deadline = self.show((&key, first, &ids[..shown]), after_watermark, context, after)?;
        }
        self.note(slot, after_watermark, deadline);
        Ok(())
    }

    /// Notes when time will have something to do with a partition: a row is passed, or settled, or an attempt runs out.
    fn note(&mut self, slot: u32, watermark: EventTimeMs, deadline: Option<i64>) {
        if !self.plan().spec.by_watermark || watermark == WATERMARK_MAX {
            return;
        }
        let lateness = self.plan().spec.allowed_lateness_ms;
        let below = self.settled_below(watermark);
        let Some(part) = &self.parts[slot as usize].open else { return };
        let unsettled = part.rows.partition_point(|row| row.time < below);
        let shown = self.shown(&part.rows, watermark);
        let within = self.plan().spec.within;
        let times = [
            part.rows.get(unsettled).map(|row| row.time.saturating_add(lateness)),
            part.rows.get(shown).map(|row| row.time),
            deadline.zip(within).map(|(deadline, within)| self.plans.time_of(within, deadline)),
            // Settled by the watermark less the lateness.
            part.key
                .deadline()
                .zip(within)
                .map(|(deadline, within)| self.plans.time_of(within, deadline).saturating_add(lateness)),
        ];
        // What has passed already and changed nothing will not change anything.
        let next = times.into_iter().flatten().filter(|time| *time >= watermark).min();
        if let Some(next) = next
            && let Some(part) = &mut self.parts[slot as usize].open
            && part.due.is_none_or(|due| next < due)
        {
            part.due = Some(next);
            self.due.entry(next).or_default().push(slot);
        }
    }

    /// Partitions with which the watermark has something to do.
    fn due(&mut self, watermark: EventTimeMs, slots: &mut Vec<u32>) {
        while let Some(entry) = self.due.first_entry()
            && *entry.key() < watermark
        {
            let due = *entry.key();
            for slot in entry.remove() {
                if let Some(part) = &mut self.parts[slot as usize].open
                    && part.due == Some(due)
                {
                    part.due = None;
                    slots.push(slot);
                }
            }
        }
    }

    /// Emits what differs.
    fn emit(&mut self, before: &Matches, after: &Matches, context: &StepContext, out: &mut Output) -> Result<()> {
        let places = Places { kept: &self.shelf.rows, batch: &self.empty };
        let evaluation = Evaluation { spec: self.plans.spec(), places, context };
        let before = before.leaving(evaluation)?;
        let after = after.leaving(evaluation)?;
        let mut changes = Vec::new();
        for (rows, weight) in [(before, -1), (after, 1)] {
            if let Some(rows) = rows {
                let weights = Int64Array::from_value(weight, rows.num_rows());
                self.net.apply(&Delta::weighted(rows, weights), &mut changes)?;
            }
        }
        let mut ids: Vec<u32> = changes.iter().map(|change| change.id).collect();
        ids.sort_unstable();
        ids.dedup();
        // What goes leaves first.
        let mut changed: Vec<u32> = ids.iter().copied().filter(|id| self.net.weight(*id) != 0).collect();
        changed.sort_by_key(|id| self.net.weight(*id) > 0);
        if !changed.is_empty() {
            let weights = changed.iter().map(|id| self.net.weight(*id)).collect::<Vec<_>>();
            out.emit(Delta::weighted(self.net.take_batch(&changed)?, Int64Array::from(weights)));
        }
        self.net.remove(&ids)
    }

    /// Lets rows go that nobody looks at any more, and partitions without rows.
    fn release(&mut self, slots: &[u32]) -> Result<()> {
        let mut gone = Vec::new();
        let mut freed: Vec<u32> = Vec::new();
        let plans = Arc::clone(&self.plans);
        let plan = &plans.plans[0];
        for slot in slots {
            let part = &mut self.parts[*slot as usize];
            part.position |= DIRTY;
            let Some(open) = &mut part.open else { continue };
            let needed = needed_from(&plans, &open.key);
            let count = needed.saturating_sub(open.first).min(open.rows.len() as u64) as usize;
            gone.extend(open.rows.drain(..count).map(|row| (row.arrival, row.id)));
            open.first = open.first.max(needed);
            if !open.is_idle() {
                continue;
            }
            if (plans.forgets && !plan.counts) || open.key.position() == 0 {
                freed.push(*slot);
            } else if !plan.counts {
                part.close();
            }
        }
        self.shelf.release(&gone)?;
        freed.iter().for_each(|slot| self.parts[*slot as usize] = Part::new());
        if self.saves && !freed.is_empty() {
            self.freed.push(self.states(&freed)?);
        }
        self.shelf.partitions.remove(&freed);
        Ok(())
    }
}

impl Operator for Updating {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let context = *input.context;
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        let mut deltas = input.single();
        if let Some(time) = self.plans.time() {
            deltas = judge((time, self.plan().spec.allowed_lateness_ms), deltas, before, out)?;
        }
        // After a restart, settled rows are taken in again; that gives nothing.
        let known = self.watermark;
        let asleep = std::mem::take(&mut self.asleep);
        for slot in &asleep {
            let mut nothing = (Matches::default(), Matches::default());
            let times = BTreeMap::new();
            self.change(*slot, &[], &times, (known, known), &context, (&mut nothing.0, &mut nothing.1))?;
        }
        let mut edits: Vec<Edit> = Vec::new();
        self.shelf.take_in(deltas, &mut edits)?;
        for slot in std::mem::take(&mut self.shelf.made) {
            if (slot as usize) < self.parts.len() {
                self.parts[slot as usize] = Part::new();
            }
        }
        let count = self.shelf.partitions.slot_count().max(self.parts.len());
        self.parts.resize_with(count, Part::new);
        let times = self.times_of(&edits)?;
        edits.sort_by_key(|edit| edit.slot);
        let mut slots: Vec<u32> = edits.iter().map(|edit| edit.slot).collect();
        if after == WATERMARK_MAX && known != WATERMARK_MAX {
            slots.extend(self.shelf.partitions.live_slots());
        } else if after > known {
            self.due(after, &mut slots);
        }
        slots.sort_unstable();
        slots.dedup();
        let (mut old, mut new) = (Matches::default(), Matches::default());
        for slot in &slots {
            let start = edits.partition_point(|edit| edit.slot < *slot);
            let end = edits.partition_point(|edit| edit.slot <= *slot);
            let of_slot = edits[start..end].to_vec();
            self.change(*slot, &of_slot, &times, (known, after.max(known)), &context, (&mut old, &mut new))?;
        }
        self.watermark = after.max(known);
        self.emit(&old, &new, &context, out)?;
        self.shelf.sweep()?;
        self.release(&slots)?;
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        let held = self.parts.iter().flat_map(|part| part.rows().iter().map(|row| (row.arrival, row.id)));
        let all: Vec<(u64, u32)> = if kind == SaveKind::Full { held.collect() } else { Vec::new() };
        self.shelf.save(kind, state, || all)?;
        let mut slots = self.shelf.partitions.live_slots();
        slots.retain(|slot| kind == SaveKind::Full || self.parts[*slot as usize].is_dirty());
        self.parts.iter_mut().for_each(|part| part.position &= !DIRTY);
        let freed = std::mem::take(&mut self.freed);
        if kind == SaveKind::Changes {
            freed.into_iter().for_each(|rows| state.put(PARTITIONS, rows));
        }
        self.saves = true;
        if !slots.is_empty() {
            state.put(PARTITIONS, self.states(&slots)?);
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.watermark = newest_time(state.metas, WATERMARK);
        let mut edits = Vec::new();
        self.shelf.restore(state, &mut edits)?;
        let plans = Arc::clone(&self.plans);
        let plan = &plans.plans[0];
        let width = plan.spec.partition.len();
        let mut known: Vec<Option<[u64; 6]>> = Vec::new();
        for chunk in state.chunks.iter().filter(|chunk| chunk.table == PARTITIONS) {
            check_chunk(NAME, chunk, &self.state_schema)?;
            let rows = keep_owned(&chunk.rows, 0, width, state.owned)?;
            let mut slots = Vec::new();
            self.shelf.partitions.intern(&rows.columns()[..width], rows.num_rows(), &mut slots)?;
            known.resize(self.shelf.partitions.slot_count().max(known.len()), None);
            for (row, slot) in slots.iter().enumerate() {
                let value = |column: usize| rows.column(width + column).as_primitive::<UInt64Type>().value(row);
                known[*slot as usize] = Some(std::array::from_fn(value));
            }
        }
        for slot in 0..self.shelf.partitions.slot_count() {
            let mut part = Part::new();
            if let Some([start, number, matched_until, told_until, first, _]) = known.get(slot).copied().flatten() {
                let open = part.open(&plan.matcher);
                open.key = plan.matcher.resume_after_partial(start, number, matched_until, told_until);
                open.first = first;
            }
            self.parts.push(part);
        }
        let times = self.times_of(&edits)?;
        edits.sort_by_key(|edit| edit.slot);
        for edits in edits.chunk_by(|a, b| a.slot == b.slot) {
            self.apply(edits[0].slot, edits, &times);
        }
        // What older chunks hold and was let go since lies before the rows that were there at the last save.
        let (mut gone, mut freed) = (Vec::new(), Vec::new());
        for (slot, part) in self.parts.iter_mut().enumerate() {
            let held = known.get(slot).copied().flatten().map_or(0, |[.., held]| held as usize);
            if let Some(open) = &mut part.open {
                let count = open.rows.len().saturating_sub(held);
                gone.extend(open.rows.drain(..count).map(|row| (row.arrival, row.id)));
            }
            if part.rows().is_empty() && part.position() == 0 {
                freed.push(slot as u32);
            }
        }
        self.shelf.release(&gone)?;
        self.shelf.partitions.remove(&freed);
        self.shelf.made.clear();
        self.saves = !state.metas.is_empty();
        self.asleep = self.shelf.partitions.live_slots();
        Ok(())
    }

    fn incidents(&self) -> Vec<(&'static str, u64)> {
        self.scratch.incidents()
    }

    fn state_bytes(&self) -> usize {
        let open = self.parts.iter().filter_map(|part| part.open.as_ref());
        let rows: usize =
            open.map(|open| size_of::<Open>() + open.rows.capacity() * size_of::<Row>() + open.key.bytes()).sum();
        self.shelf.bytes() + rows + self.parts.capacity() * size_of::<Part>()
    }

    fn state_rows(&self) -> usize {
        self.shelf.rows.len() + self.shelf.partitions.len()
    }

    fn keys(&self) -> usize {
        self.shelf.partitions.len()
    }
}

impl Updating {
    /// The columns of partitions in a checkpoint.
    fn states(&self, slots: &[u32]) -> Result<RecordBatch> {
        let mut columns = self.shelf.partitions.columns(Slots::Some(slots))?;
        let of = |slot: &u32| {
            let part = &self.parts[*slot as usize];
            match &part.open {
                None => [part.position(), 0, 0, 0, part.position(), 0],
                Some(open) => {
                    let Open { key, first, rows, .. } = &**open;
                    let counts = [key.start(), key.number(), key.matched_until(), key.told_until()];
                    [counts[0], counts[1], counts[2], counts[3], *first, rows.len() as u64]
                }
            }
        };
        let numbers: Vec<[u64; 6]> = slots.iter().map(of).collect();
        for place in 0..6 {
            columns.push(Arc::new(UInt64Array::from_iter_values(numbers.iter().map(|numbers| numbers[place]))));
        }
        batch_of(&self.state_schema, columns, slots.len())
    }

    /// The times of rows that came.
    fn times_of(&self, edits: &[Edit]) -> Result<BTreeMap<u32, EventTimeMs>> {
        let ids: Vec<u32> = edits.iter().filter(|edit| edit.added).map(|edit| edit.id).collect();
        let Some(time) = self.plans.time() else { return Ok(BTreeMap::new()) };
        let columns = self.shelf.rows.take(&ids, &[time])?;
        let times = event_times_ms(&columns[0])?;
        Ok(ids.into_iter().zip(times.iter().map(|time| time.unwrap_or(WATERMARK_MIN))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Part;

    /// Ten million keys in which nothing is under way have to fit a gigabyte, with the table that finds them.
    #[test]
    fn an_idle_partition_is_small() {
        assert!(size_of::<Part>() <= 16);
    }
}
