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

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array, new_null_array,
};
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, UInt64Type};
use arrow_row::RowConverter;
use eagre_kernels::rows::GroupedRows;
use eagre_patterns::NoConditions;

use super::asked::Asked;
use super::busy::{Active, Busy, Part, Parts};
use super::conditions::{Fresh, bitmaps};
use super::matches::{Evaluation, Matches};
use super::registers::Running;
use super::rows::{NewRows, Places, View};
use super::run::{Fed, Known, Scratch, Time, Work, needed_from, new_from, row_values, run, times_of_waiting};
use super::starts::{Group, Starts, ends_of, group_of_rows};
use super::{NAME, Plan, Plans, matcher_error};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::StepContext;
use crate::keys::{AHEAD, GroupKeys};
use crate::operator::over::kept::Kept;
use crate::operator::over::{Buffer, in_order_of_arrival, judge, order_of};
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

/// The times at which partitions are to be looked at again are noted in so many steps of the bound.
const DUE_STEPS: i64 = 4_096;
/// So many rows of partitions that lie side by side are matched together: what is looked at in several passes stays in the cache.
const BLOCK_ROWS: usize = if cfg!(test) { 8 } else { 8_192 };
/// But of no more partitions: it is what these have under way that has to fit there.
const BLOCK_PARTITIONS: usize = if cfg!(test) { 4 } else { 2_048 };
/// Each pattern is a pass of its own, which needs so many rows to be worth it.
const PATTERN_ROWS: usize = if cfg!(test) { 2 } else { 64 };
/// So many partitions more than those that are busy may be idle before they are forgotten: many of them soon have a row again.
const IDLE_MAX: usize = 262_144;

/// See the [module](self).
pub(super) struct Settled {
    plans: Arc<Plans>,
    buffer: Buffer,
    converter: RowConverter,
    partitions: GroupKeys,
    parts: Parts,
    /// The rows that stay.
    kept: Kept,
    log: RowLog,
    /// Partitions with which the watermark will have something to do when it has passed a time: by steps of `due_step`.
    due: BTreeMap<i64, Vec<u32>>,
    due_step: i64,
    /// Partitions that were restored and whose rows are to be matched again; whether that is what is being done.
    asleep: Vec<u32>,
    wakes: bool,
    dirty_slots: Vec<u32>,
    /// Partitions in which nothing was under way when they were looked at last, where such are forgotten.
    idle: Vec<u32>,
    /// Keys of partitions that were forgotten since the last save.
    forgotten: Vec<RecordBatch>,
    /// Whether anything was ever saved.
    saves: bool,
    watermark: EventTimeMs,
    empty: RecordBatch,
    slots: Vec<u32>,
    /// Used again, as memory that is new costs more than what it is used for.
    groups: Vec<Group>,
    scratch: Scratch,
    state_schema: SchemaRef,
    ended: bool,
    /// The order of the buffer, by milliseconds, is that of the query.
    by_ms: bool,
}

impl Settled {
    pub(super) fn new(plans: &Arc<Plans>) -> Result<Self> {
        let spec = plans.spec();
        let input = &spec.input;
        let mut fields: Vec<Field> = spec.partition.iter().map(|column| input.field(*column).clone()).collect();
        for name in ["position", "first_held", "held_from"] {
            fields.push(Field::new(format!("__{name}"), DataType::UInt64, false));
        }
        fields.push(Field::new("__active", DataType::Binary, true));
        Ok(Self {
            buffer: Buffer::new(input)?,
            converter: plans.converter()?,
            partitions: GroupKeys::new(plans.partition_types())?,
            parts: Parts::default(),
            kept: Kept::new(input)?,
            log: RowLog::new(HELD, input),
            due: BTreeMap::new(),
            due_step: plans
                .plans
                .iter()
                .filter_map(|plan| plan.spec.within)
                .map(|within| within.units)
                .min()
                .map_or(1, |within| (within / DUE_STEPS).max(1)),
            asleep: Vec::new(),
            wakes: false,
            dirty_slots: Vec::new(),
            idle: Vec::new(),
            forgotten: Vec::new(),
            saves: false,
            watermark: WATERMARK_MIN,
            empty: RecordBatch::new_empty(Arc::clone(input)),
            slots: Vec::new(),
            groups: Vec::new(),
            scratch: Scratch::default(),
            state_schema: Arc::new(Schema::new(fields)),
            ended: false,
            by_ms: plans.time().is_some_and(|time| {
                let unit = input.field(time).data_type();
                spec.order.len() == 1
                    && matches!(unit, DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Second, _))
            }),
            plans: Arc::clone(plans),
        })
    }

    /// Takes in rows of the buffer, in the order of milliseconds and arrival.
    ///
    /// They are fetched as they are needed: each partition's rows side by side.
    fn take_in(&mut self, mut ids: Vec<u32>, context: &StepContext, out: &mut Output) -> Result<()> {
        let plans = Arc::clone(&self.plans);
        let spec = plans.spec();
        let rows = &self.buffer.kept.rows;
        if !self.by_ms {
            let columns: Vec<usize> = spec.order.iter().map(|key| key.column).collect();
            if let Some(order) = order_of(&rows.take(&ids, &columns)?, &self.converter)? {
                ids = order.iter().map(|row| ids[*row as usize]).collect();
            }
        }
        let keys = rows.take(&ids, &spec.partition)?;
        self.partitions.intern(&keys, ids.len(), &mut self.slots)?;
        for slot in self.partitions.fresh() {
            self.parts.reset(*slot);
        }
        let count = self.partitions.slot_count();
        self.parts.resize(count);
        let grouped = GroupedRows::group(&self.slots, count);
        let by_partition: Vec<u32> = grouped.order().iter().map(|row| ids[*row as usize]).collect();
        let time = Time { expired: None, ended: spec.whole_partitions };
        let (slots, offsets) = (grouped.slots(), grouped.offsets());
        let mut emitted = Vec::new();
        let mut first = 0;
        while first < slots.len() {
            let worth = PATTERN_ROWS * plans.plans.len();
            let rows_max = offsets[first] as usize + BLOCK_ROWS.max(worth);
            // Whole partitions, and at least one.
            let count = offsets[first + 1..].partition_point(|end| *end as usize <= rows_max);
            let end = first + count.clamp(1, BLOCK_PARTITIONS.max(worth));
            let start = offsets[first];
            let block: Vec<u32> = offsets[first..=end].iter().map(|offset| offset - start).collect();
            // Fetched by block, a row is still near when it is looked at.
            let batch = self.buffer.kept.rows.take_batch(&by_partition[start as usize..offsets[end] as usize])?;
            emitted.extend(self.advance(&slots[first..end], &block, &batch, time, context)?);
            first = end;
        }
        self.buffer.kept.release(&ids)?;
        self.emit(emitted, out)
    }

    /// Matches the rows that the partitions `slots`, ascending, hold, and those that they get: rows `offsets[i]..offsets[i + 1]` of
    /// `batch` are those of partition `slots[i]`. Without offsets they get none.
    fn advance(
        &mut self,
        slots: &[u32],
        offsets: &[u32],
        batch: &RecordBatch,
        time: Time,
        context: &StepContext,
    ) -> Result<Vec<(usize, RecordBatch)>> {
        let plans = Arc::clone(&self.plans);
        let lookahead = if time.ended { 0 } else { plans.lookahead };
        let mut groups = std::mem::take(&mut self.groups);
        groups.clear();
        let mut fresh = Fresh::new(&plans.distinct);
        let mut count = 0;
        for (index, slot) in slots.iter().enumerate() {
            if index % AHEAD == 0 {
                self.parts.look_ahead(slots[index..].iter().take(AHEAD).copied());
            }
            let new = match offsets.get(index..index + 2) {
                Some(ends) => NewRows { first: ends[0], count: ends[1] - ends[0] },
                None => NewRows::default(),
            };
            let position = self.parts.part(*slot).position;
            let (mut from, mut new_at) = (position, position);
            if let Some(busy) = self.parts.busy(*slot) {
                new_at = busy.held.end();
                // After a restart it is fed again from its start.
                if self.wakes {
                    from = busy.active().map(|active| active.key.position()).fold(from, u64::min);
                }
            }
            let end = (new_at + u64::from(new.count)).saturating_sub(lookahead).max(from);
            let rows = count..count + (end - from) as usize;
            count = rows.end;
            let group = Group { slot: *slot, from, rows, position, new, new_at };
            fresh.add(&plans.distinct, group.view(&self.parts), from..end);
            groups.push(group);
            self.parts.part_mut(*slot).position = position.max(end);
        }
        debug_assert_eq!(fresh.rows.len(), count, "all rows are there");
        let mut needed = Vec::with_capacity(groups.len());
        let emitted = match &plans.plans[..] {
            [plan] => self.match_one((&plans, plan), &groups, &fresh, batch, time, context, &mut needed)?,
            _ => self.match_many(&plans, &groups, &fresh, batch, time, context, &mut needed)?,
        };
        // What is still needed stays.
        let mut staying: Vec<u32> = Vec::new();
        for (group, needed) in groups.iter().zip(&needed) {
            staying.extend(new_from(group.new, group.new_at, *needed));
        }
        let mut ids = Vec::with_capacity(staying.len());
        if !staying.is_empty() {
            let staying = UInt32Array::from(staying);
            let columns = batch.columns().iter().map(|column| Ok(take(column, &staying, None)?));
            // Where no column is asked for, rows are still counted.
            let rows = batch_of(&batch.schema(), columns.collect::<Result<_>>()?, staying.len())?;
            self.kept.append(&rows, &mut ids)?;
        }
        let mut gone = Vec::new();
        let mut start = 0;
        for (index, (group, needed)) in groups.iter().zip(needed).enumerate() {
            if index % AHEAD == 0 {
                self.parts.look_ahead(groups[index..].iter().take(AHEAD).map(|group| group.slot));
            }
            let end = start + new_from(group.new, group.new_at, needed).len();
            self.settle(&plans, group, &ids[start..end], needed, &mut gone);
            start = end;
        }
        self.kept.release(&gone)?;
        self.groups = groups;
        if self.idle.len() > IDLE_MAX + self.parts.busy_count() {
            self.forget_idle()?;
        }
        Ok(emitted)
    }

    /// Matches the rows of partitions where there is one pattern. For each of them, from where on its rows are still needed is added to
    /// `needed`.
    #[expect(clippy::too_many_arguments, reason = "what is matched, what is known, and where it goes")]
    fn match_one(
        &mut self,
        (plans, plan): (&Plans, &Plan),
        groups: &[Group],
        fresh: &Fresh,
        batch: &RecordBatch,
        time: Time,
        context: &StepContext,
        needed: &mut Vec<u64>,
    ) -> Result<Vec<(usize, RecordBatch)>> {
        let places = Places { kept: &self.kept.rows, batch };
        let count = fresh.rows.len();
        let (bits, times) = match count {
            0 => (Vec::new(), Vec::new()),
            _ => (bitmaps(&plans.distinct, fresh, places, context)?, plans.times_of(&fresh.rows, places)?),
        };
        let any = vec![u64::MAX; count.div_ceil(64)];
        let bitmaps = if count == 0 { Vec::new() } else { plans.distinct.of(0, &bits, &any) };
        let starts = Starts::of(plan, &bitmaps, count, &ends_of(groups, count));
        if count > 0 {
            let starts = starts.looked_ahead().unwrap_or(&[]);
            plan.matcher.symbols_with(&bitmaps, starts, count, &mut self.scratch.symbols);
        }
        let within = plan.spec.within.is_some();
        let expired = time.expired.filter(|_| within);
        let waits = groups.iter().map(|group| group.view(&self.parts).at(self.parts.part(group.slot).position));
        let waiting = times_of_waiting(plans, waits, places, expired)?;
        if let Some(registers) = &plan.registers {
            let rows = groups.iter().map(|group| (group.view(&self.parts), group.from, group.rows.len()));
            let values = row_values(registers, rows, count, places)?;
            self.scratch.symbols.set_values(values, registers.stride());
        }
        let evaluation = Evaluation { spec: &plan.spec, places, context };
        let mut matches = Matches::default();
        let Scratch { symbols, found, dropped, bad_skips } = &mut self.scratch;
        for (index, group) in groups.iter().enumerate() {
            if index % AHEAD == 0 {
                self.parts.look_ahead(groups[index..].iter().take(AHEAD).map(|group| group.slot));
            }
            needed.push(self.parts.part(group.slot).position.saturating_sub(plans.lookback));
            let mut begun = None;
            let (view, active) = match self.parts.busy_mut(group.slot) {
                Some(Busy { held, one: Some(active), .. }) => {
                    (View { first: held.first, kept: held.ids(), new: group.new }, active)
                }
                busy => {
                    let Some(row) = starts.next(group) else { continue };
                    let position = group.from + (row - group.rows.start) as u64;
                    let number = busy.as_ref().map_or(0, |busy| busy.number(0));
                    let key = plan.matcher.resume(position, number, 0);
                    let view = match busy {
                        Some(busy) => View { first: busy.held.first, kept: busy.held.ids(), new: group.new },
                        None => View { first: group.position, kept: &[], new: group.new },
                    };
                    (view, begun.insert(Active { pattern: 0, key }))
                }
            };
            let key = &mut active.key;
            let from = group.rows.start + (key.position() - group.from) as usize;
            let rows = from..group.rows.end.max(from);
            found.clear();
            let waits_from = waiting.get(index).copied().flatten();
            let fed = Fed {
                matcher: &plan.matcher,
                symbols: &*symbols,
                times: if within && !rows.is_empty() { &times[rows.clone()] } else { &[] },
                rows,
                ended: time.ended,
                expired: expired.map(|time| waits_from.map_or(time, |first| time.min(first))),
            };
            let result = match (&plan.registers, plan.asks) {
                (Some(registers), _) => fed.feed(key, &mut Running { registers }, found),
                (None, true) => fed.feed(key, &mut Asked { evaluation, view, margin: plan.run_margin }, found),
                (None, false) => fed.feed(key, &mut NoConditions, found),
            };
            result.map_err(matcher_error)?;
            matches.add(&plan.spec, found, view, plan.margin);
            let needed = &mut needed[index];
            *needed = needed_from(plans, key).min(*needed);
            let idle = key.start() == key.position();
            let number = (plan.counts && key.number() > 0).then_some(key.number());
            if let Some(number) = number {
                let position = self.parts.part(group.slot).position;
                self.parts.make_busy(group.slot, position).set_number(0, number);
            }
            match begun {
                Some(active) if !idle => {
                    let position = self.parts.part(group.slot).position;
                    self.parts.make_busy(group.slot, position).one = Some(active);
                }
                None if idle => {
                    if let Some(busy) = self.parts.busy_mut(group.slot) {
                        busy.one = None;
                    }
                }
                _ => {}
            }
        }
        *dropped += std::mem::take(&mut found.dropped);
        *bad_skips += std::mem::take(&mut found.bad_skips);
        Ok(matches.leaving(evaluation)?.map(|rows| (0, rows)).into_iter().collect())
    }

    /// Matches the rows of partitions where there are several patterns, as [`match_one`](Self::match_one).
    #[expect(clippy::too_many_arguments, reason = "what is matched, what is known, and where it goes")]
    fn match_many(
        &mut self,
        plans: &Plans,
        groups: &[Group],
        fresh: &Fresh,
        batch: &RecordBatch,
        time: Time,
        context: &StepContext,
        needed: &mut Vec<u64>,
    ) -> Result<Vec<(usize, RecordBatch)>> {
        // Matches under way, by pattern, each with the place of its partition.
        let mut under_way: Vec<Vec<(usize, Active)>> = Vec::new();
        under_way.resize_with(plans.plans.len(), Vec::new);
        for (index, group) in groups.iter().enumerate() {
            for active in self.parts.busy_mut(group.slot).into_iter().flat_map(Busy::take_active) {
                under_way[active.pattern as usize].push((index, active));
            }
        }
        let places = Places { kept: &self.kept.rows, batch };
        let count = fresh.rows.len();
        let (bits, times) = match count {
            0 => (Vec::new(), Vec::new()),
            _ => (bitmaps(&plans.distinct, fresh, places, context)?, plans.times_of(&fresh.rows, places)?),
        };
        let any = vec![u64::MAX; count.div_ceil(64)];
        let (ends, group_of) = (ends_of(groups, count), group_of_rows(groups, count));
        let mut emitted: Vec<(usize, RecordBatch)> = Vec::new();
        for (pattern, plan) in plans.plans.iter().enumerate() {
            let bitmaps = if count == 0 { Vec::new() } else { plans.distinct.of(pattern, &bits, &any) };
            let starts = Starts::of(plan, &bitmaps, count, &ends);
            let known = Known { rows: count, bitmaps, times: &times, starts: starts.looked_ahead().unwrap_or(&[]) };
            let work = |index: usize, active: Active| {
                let group: &Group = &groups[index];
                let start = group.rows.start + (active.key.position() - group.from) as usize;
                let rows = start..group.rows.end.max(start);
                Work { key: active.key, view: group.view(&self.parts), rows }
            };
            let (mut places_of, mut works) = (Vec::new(), Vec::new());
            let mut started = std::mem::take(&mut under_way[pattern]).into_iter().peekable();
            let mut index = 0;
            while let Some(begins) = starts.next_group(groups, &group_of, index) {
                while let Some((before, active)) = started.next_if(|(before, _)| *before < begins.0) {
                    places_of.push(before);
                    works.push(work(before, active));
                }
                let (group, row) = (&groups[begins.0], begins.1);
                let active = match started.next_if(|(before, _)| *before == begins.0) {
                    // A match under way takes the partition's rows in itself.
                    Some((_, active)) => active,
                    None => {
                        let position = group.from + (row - group.rows.start) as u64;
                        let number = self.parts.busy(group.slot).map_or(0, |busy| busy.number(pattern as u32));
                        let key = plan.matcher.resume(position, number, 0);
                        Active { pattern: pattern as u32, key }
                    }
                };
                places_of.push(begins.0);
                works.push(work(begins.0, active));
                index = begins.0 + 1;
            }
            for (index, active) in started {
                places_of.push(index);
                works.push(work(index, active));
            }
            if works.is_empty() {
                continue;
            }
            let mut matches = Matches::default();
            run((plans, plan), &mut works, &known, (places, context), time, &mut self.scratch, &mut matches)?;
            if let Some(rows) = matches.leaving(Evaluation { spec: &plan.spec, places, context })? {
                emitted.push((pattern, rows));
            }
            under_way[pattern] = places_of
                .into_iter()
                .zip(works)
                .filter(|(_, work)| work.key.start() < work.key.position() || plan.counts)
                .map(|(index, work)| (index, Active { pattern: pattern as u32, key: work.key }))
                .collect();
        }
        needed.extend(groups.iter().map(|group| self.parts.part(group.slot).position.saturating_sub(plans.lookback)));
        for (index, active) in under_way.iter().flatten() {
            needed[*index] = needed_from(plans, &active.key).min(needed[*index]);
        }
        self.put_back(plans, groups, under_way);
        Ok(emitted)
    }

    /// Gives partitions back the matches that are still under way.
    fn put_back(&mut self, plans: &Plans, groups: &[Group], under_way: Vec<Vec<(usize, Active)>>) {
        for (plan, active) in plans.plans.iter().zip(under_way) {
            for (index, active) in active {
                let slot = groups[index].slot;
                let idle = active.key.start() == active.key.position();
                let number = (plan.counts && active.key.number() > 0).then_some(active.key.number());
                if idle && number.is_none() {
                    continue;
                }
                let position = self.parts.part(slot).position;
                let busy = self.parts.make_busy(slot, position);
                if let Some(number) = number {
                    busy.set_number(active.pattern, number);
                }
                if !idle {
                    busy.put_active(active);
                }
            }
        }
    }

    /// Notes which rows of a partition stay, and when it is to be looked at again. `new` are those of its new rows that do.
    #[inline]
    fn settle(&mut self, plans: &Plans, group: &Group, new: &[u32], needed: u64, gone: &mut Vec<u32>) {
        let slot = group.slot;
        let part = self.parts.part_mut(slot);
        if !std::mem::replace(&mut part.dirty, true) {
            self.dirty_slots.push(slot);
        }
        let first = group.new_at + u64::from(group.new.count) - new.len() as u64;
        let busy = if new.is_empty() { self.parts.busy_mut(slot) } else { Some(self.parts.make_busy(slot, first)) };
        if let Some(busy) = busy {
            busy.held.release(needed, gone);
            if busy.held.ids().is_empty() {
                busy.held.first = first;
            }
            busy.held.push(new);
            let deadline = || busy.active().filter_map(|active| active.key.deadline()).min();
            if let Some(deadline) = plans.bounded.then(deadline).flatten()
                && busy.held.due.is_none_or(|due| deadline < due)
            {
                let step = deadline.div_euclid(self.due_step);
                let noted = busy.held.due.is_some_and(|due| due.div_euclid(self.due_step) == step);
                busy.held.due = Some(deadline);
                if !noted {
                    self.due.entry(step).or_default().push(slot);
                }
            }
        }
        let idle = self.parts.settle(slot);
        let part = self.parts.part_mut(slot);
        if idle && plans.forgets && !std::mem::replace(&mut part.listed, true) {
            self.idle.push(slot);
        }
    }

    /// Forgets the partitions that are idle.
    fn forget_idle(&mut self) -> Result<()> {
        let mut idle = std::mem::take(&mut self.idle);
        idle.retain(|slot| {
            self.parts.part_mut(*slot).listed = false;
            self.parts.busy(*slot).is_none()
        });
        self.forget(&idle)
    }

    fn forget(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        if self.saves {
            self.forgotten.push(self.states(slots, false)?);
        }
        self.partitions.remove(slots);
        Ok(())
    }

    /// Emits the matches of patterns.
    fn emit(&self, matches: Vec<(usize, RecordBatch)>, out: &mut Output) -> Result<()> {
        let plans = &self.plans;
        if plans.columns.is_empty() {
            let rows: Vec<RecordBatch> = matches.into_iter().map(|(_, rows)| rows).collect();
            if !rows.is_empty() {
                out.emit(Delta::insert(concat_batches(&plans.output, &rows)?));
            }
            return Ok(());
        }
        let mut together = Vec::with_capacity(matches.len());
        for (pattern, rows) in matches {
            let count = rows.num_rows();
            let fields = plans.output.fields().iter();
            let mut columns: Vec<ArrayRef> = fields.map(|field| new_null_array(field.data_type(), count)).collect();
            columns[0] = Arc::new(UInt32Array::from(vec![pattern as u32; count]));
            for (column, place) in rows.columns().iter().zip(&plans.columns[pattern]) {
                columns[*place] = Arc::clone(column);
            }
            together.push(batch_of(&plans.output, columns, count)?);
        }
        // Each pattern's consumer looks at all that leaves: at one batch rather than at one for each pattern.
        if !together.is_empty() {
            out.emit(Delta::insert(concat_batches(&plans.output, &together)?));
        }
        Ok(())
    }

    /// Partitions whose attempts may have run out of time.
    fn expire(&mut self, context: &StepContext, out: &mut Output) -> Result<()> {
        let Some(within) = self.plans.plans.iter().find_map(|plan| plan.spec.within) else { return Ok(()) };
        if self.watermark == WATERMARK_MIN || self.watermark == WATERMARK_MAX {
            return Ok(());
        }
        let time = self.plans.units(within, self.watermark);
        let mut slots = Vec::new();
        let mut later = Vec::new();
        while let Some(entry) = self.due.first_entry()
            && entry.key().saturating_mul(self.due_step) < time
        {
            let step = *entry.key();
            for slot in entry.remove() {
                // A partition that was forgotten, or looked at since, may have another one, or none.
                let Some(busy) = self.parts.busy_mut(slot) else { continue };
                match busy.held.due {
                    Some(due) if due < time => {
                        busy.held.due = None;
                        slots.push(slot);
                    }
                    Some(due) if due.div_euclid(self.due_step) == step => later.push((step, slot)),
                    _ => {}
                }
            }
        }
        for (step, slot) in later {
            self.due.entry(step).or_default().push(slot);
        }
        slots.sort_unstable();
        slots.dedup();
        if slots.is_empty() {
            return Ok(());
        }
        let empty = self.empty.clone();
        let emitted = self.advance(&slots, &[], &empty, Time { expired: Some(time), ended: false }, context)?;
        self.emit(emitted, out)
    }

    /// The columns of partitions in a checkpoint; those that are not there have no matches under way.
    fn states(&self, slots: &[u32], there: bool) -> Result<RecordBatch> {
        let mut columns = self.partitions.columns(Slots::Some(slots))?;
        let numbers = |of: &dyn Fn(u32) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(slots.iter().map(|slot| of(*slot))))
        };
        let parts = &self.parts;
        let position = |slot| parts.part(slot).position;
        let held = |slot| parts.busy(slot).and_then(|busy| busy.held.ids().first().copied());
        columns.push(numbers(&position));
        columns.push(numbers(&|slot| held(slot).map_or(self.kept.next_arrival, |id| self.kept.arrival(id))));
        columns.push(numbers(&|slot| parts.busy(slot).map_or(position(slot), |busy| busy.held.first)));
        let active = slots.iter().map(|slot| there.then(|| encode(parts.busy(*slot))));
        columns.push(Arc::new(active.collect::<BinaryArray>()));
        batch_of(&self.state_schema, columns, slots.len())
    }
}

/// What is under way in a partition, as bytes: for each pattern its place, where it starts, how many matches it had, up to where rows are
/// in matches, and up to where beginnings of matches were told.
fn encode(busy: Option<&Busy>) -> Vec<u8> {
    let Some(busy) = busy else { return Vec::new() };
    let active = busy.active().map(|active| {
        let key = &active.key;
        [u64::from(active.pattern), key.start(), key.number(), key.matched_until(), key.told_until()]
    });
    let idle = busy.numbers().iter().filter(|(of, _)| busy.active().all(|active| active.pattern != *of));
    let idle = idle.map(|(pattern, number)| [u64::from(*pattern), u64::MAX, *number, 0, 0]);
    active.chain(idle).flatten().flat_map(u64::to_le_bytes).collect()
}

/// What [`encode`] gave.
fn decode(bytes: &[u8]) -> Vec<[u64; 5]> {
    let words: Vec<u64> =
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect();
    words.chunks_exact(5).map(|words| words.try_into().expect("five words")).collect()
}

impl Operator for Settled {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        let context = *input.context;
        let mut deltas = input.single();
        let time = self.plans.time();
        if let Some(time) = time {
            deltas = judge((time, 0), deltas, before, out)?;
        }
        self.buffer.take_in(in_order_of_arrival(deltas)?, time)?;
        if !self.asleep.is_empty() {
            let slots = std::mem::take(&mut self.asleep);
            let empty = self.empty.clone();
            self.wakes = true;
            let emitted = self.advance(&slots, &[], &empty, Time::default(), &context)?;
            self.emit(emitted, out)?;
            self.wakes = false;
        }
        let moves = time.is_some() && after > self.watermark;
        if self.ended || (!moves && after != WATERMARK_MAX) {
            return Ok(Progress::Done);
        }
        self.watermark = after;
        while let Some(ids) = self.buffer.settle_ids(after, CHUNK_ROWS) {
            self.take_in(ids, &context, out)?;
        }
        self.expire(&context, out)?;
        if after == WATERMARK_MAX {
            self.ended = true;
            let busy = |slot: &u32| self.parts.busy(*slot).is_some();
            let mut slots: Vec<u32> = self.partitions.live_slots().into_iter().filter(busy).collect();
            slots.sort_unstable();
            let empty = self.empty.clone();
            let emitted = self.advance(&slots, &[], &empty, Time { expired: None, ended: true }, &context)?;
            self.emit(emitted, out)?;
            self.forget_idle()?;
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
        self.forget_idle()?;
        let forgotten = std::mem::take(&mut self.forgotten);
        let mut slots = std::mem::take(&mut self.dirty_slots);
        slots.iter().for_each(|slot| self.parts.part_mut(*slot).dirty = false);
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
        let plans = Arc::clone(&self.plans);
        let spec = plans.spec();
        let width = spec.partition.len();
        self.buffer.restore(state, &spec.partition, plans.time(), self.watermark)?;
        self.buffer.kept.take_unsaved();
        self.buffer.kept.next_arrival = arrivals.max(self.buffer.kept.next_arrival);
        self.saves = !state.metas.is_empty();
        // The newest state of each partition; `None`: it was forgotten.
        let mut newest: Vec<Option<([u64; 3], Vec<u8>)>> = Vec::new();
        for chunk in state.chunks.iter().filter(|chunk| chunk.table == PARTITIONS) {
            check_chunk(NAME, chunk, &self.state_schema)?;
            let rows = keep_owned(&chunk.rows, 0, width, state.owned)?;
            let mut slots = Vec::new();
            self.partitions.intern(&rows.columns()[..width], rows.num_rows(), &mut slots)?;
            newest.resize(self.partitions.slot_count().max(newest.len()), None);
            let active = rows.column(width + 3).as_binary::<i32>();
            for (row, slot) in slots.iter().enumerate() {
                let number = |column: usize| rows.column(width + column).as_primitive::<UInt64Type>().value(row);
                let there = active.is_valid(row);
                newest[*slot as usize] = there.then(|| (std::array::from_fn(number), active.value(row).to_vec()));
            }
        }
        // Rows, each for its partition, in order.
        let mut held: Vec<Vec<(u64, u32)>> = vec![Vec::new(); newest.len()];
        for delta in self.log.restore(NAME, state, &spec.partition)? {
            let keys: Vec<ArrayRef> =
                spec.partition.iter().map(|column| Arc::clone(delta.batch.column(*column))).collect();
            let mut slots = Vec::new();
            self.partitions.intern(&keys, delta.rows(), &mut slots)?;
            newest.resize(self.partitions.slot_count().max(newest.len()), None);
            held.resize(newest.len(), Vec::new());
            let is_held = |row: usize| {
                let first_held = newest[slots[row] as usize].as_ref().map(|([_, first_held, _], _)| *first_held);
                first_held.is_some_and(|first_held| delta.ordinal(row) >= first_held)
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
            let Some(([position, _, held_from], active)) = state else {
                gone.push(slot as u32);
                self.parts.push(Part::default(), None);
                continue;
            };
            rows.sort_unstable();
            let ids: Vec<u32> = rows.iter().map(|(_, id)| *id).collect();
            let mut busy = Busy::new(held_from);
            busy.held.push(&ids);
            for [pattern, start, number, matched_until, told_until] in decode(&active) {
                let Some(plan) = plans.plans.get(pattern as usize) else {
                    return Err(EngineError::bug("a checkpoint has more patterns than the query"));
                };
                if plan.counts && number > 0 {
                    busy.set_number(pattern as u32, number);
                }
                if start != u64::MAX {
                    let key = plan.matcher.resume_after_partial(start, number, matched_until, told_until);
                    let active = Active { pattern: pattern as u32, key };
                    match plans.plans.len() {
                        1 => busy.one = Some(active),
                        _ => busy.put_active(active),
                    }
                }
            }
            if !ids.is_empty() {
                self.asleep.push(slot as u32);
            }
            self.parts.push(Part::at(position), Some(busy));
        }
        self.partitions.remove(&gone);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let noted: usize = self.due.values().map(|slots| slots.capacity() * 4).sum();
        self.buffer.bytes()
            + self.partitions.bytes()
            + self.kept.bytes()
            + self.parts.bytes()
            + noted
            + self.idle.capacity() * 4
    }

    fn state_rows(&self) -> usize {
        self.buffer.kept.rows.len() + self.kept.rows.len() + self.partitions.len()
    }
}
