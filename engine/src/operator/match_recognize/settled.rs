//! Matches leave once, when they are final.
//!
//! Rows wait in order until the watermark has passed them ([`Buffer`]); then their partition's automaton takes them in, and of them only
//! those stay that the match under way may have, or that a measure or a condition may look back at. A partition with nothing under way
//! is forgotten, unless its matches are numbered.
//!
//! A checkpoint takes the rows that wait, the rows that stay, and a few numbers for each partition: the automaton's state follows from
//! the rows, which are matched again after a restart and give nothing that they gave before.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array, new_null_array,
};
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow_row::RowConverter;
use eagre_kernels::rows::GroupedRows;
use eagre_patterns::Key;

use super::conditions::{Fresh, bitmaps};
use super::held::Held;
use super::matches::{Evaluation, Matches};
use super::rows::{Places, View};
use super::run::{Known, Scratch, Time, Work, fresh_from, needed_from, run};
use super::{NAME, Plan, Plans};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
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
#[derive(Default)]
struct Part {
    /// How many of its rows were matched.
    position: u64,
    /// What is under way; `None`: nothing, and no row stays.
    busy: Option<Box<Busy>>,
}

/// What is under way in a partition.
struct Busy {
    /// Its rows that stay.
    held: Held,
    /// The patterns of which a match is under way, ascending.
    active: Vec<Active>,
    /// How many matches patterns had, where someone counts them.
    numbers: Vec<(u32, u64)>,
}

/// A pattern of which a match is under way.
struct Active {
    pattern: u32,
    key: Key,
    /// What conditions on the match read of its rows.
    words: Vec<u64>,
}

impl Busy {
    fn bytes(&self) -> usize {
        let active = self.active.iter().map(|active| active.key.bytes() + active.words.capacity() * 8);
        size_of::<Self>() + self.held.bytes() + active.sum::<usize>() + self.active.capacity() * size_of::<Active>()
    }
}

impl Part {
    fn view<'a>(&'a self, fresh: &'a [u32]) -> View<'a> {
        match &self.busy {
            Some(busy) => View { first: busy.held.first, kept: busy.held.ids(), fresh },
            None => View { first: self.position, kept: &[], fresh },
        }
    }

    /// Bytes held outside of the value itself.
    fn bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.bytes())
    }

    fn number(&self, pattern: u32) -> u64 {
        let numbers = self.busy.as_ref().map_or(&[][..], |busy| &busy.numbers);
        numbers.iter().find(|(of, _)| *of == pattern).map_or(0, |(_, number)| *number)
    }

    fn is_idle(&self) -> bool {
        self.busy
            .as_ref()
            .is_none_or(|busy| busy.active.is_empty() && busy.held.ids().is_empty() && busy.numbers.is_empty())
    }
}

/// A partition in work: where its rows are among those whose conditions are known.
struct Group {
    slot: u32,
    /// The position of the first of them.
    from: u64,
    rows: Range<usize>,
    /// Up to which position all was matched before.
    position: u64,
}

/// See the [module](self).
pub(super) struct Settled {
    plans: Arc<Plans>,
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
    /// What partitions hold that are busy: counted where it changes, because all of them are too many to ask after each step.
    busy_bytes: usize,
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
            busy_bytes: 0,
            plans: Arc::clone(plans),
        })
    }

    /// Takes in rows that are in order.
    fn take_in(&mut self, batch: &RecordBatch, context: &StepContext, out: &mut Output) -> Result<()> {
        let partition = &self.plans.spec().partition;
        let keys: Vec<ArrayRef> = partition.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        self.partitions.intern(&keys, batch.num_rows(), &mut self.slots)?;
        let count = self.partitions.slot_count();
        for slot in self.partitions.fresh() {
            if let Some(part) = self.parts.get_mut(*slot as usize) {
                *part = Part::default();
            }
        }
        self.parts.resize_with(count.max(self.parts.len()), Part::default);
        self.dirty.resize(count.max(self.dirty.len()), false);
        let grouped = GroupedRows::group(&self.slots, count);
        let time = Time { expired: None, ended: self.plans.spec().whole_partitions };
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
        let plans = Arc::clone(&self.plans);
        let fresh_of = |index: usize| match grouped {
            Some(grouped) => &grouped.order()[grouped.offsets()[index] as usize..grouped.offsets()[index + 1] as usize],
            None => &[],
        };
        // Matches under way, by pattern, each with the place of its partition.
        let mut under_way: Vec<Vec<(usize, Active)>> = Vec::new();
        under_way.resize_with(plans.plans.len(), Vec::new);
        let mut groups = Vec::with_capacity(slots.len());
        let lookahead = if time.ended { 0 } else { plans.lookahead };
        let bytes_before: usize = slots.iter().map(|slot| self.parts[*slot as usize].bytes()).sum();
        let mut count = 0;
        for (index, slot) in slots.iter().enumerate() {
            let part = &mut self.parts[*slot as usize];
            let mut from = part.position;
            for active in part.busy.iter_mut().flat_map(|busy| busy.active.drain(..)) {
                // After a restart it is fed again from its start.
                from = from.min(active.key.position());
                under_way[active.pattern as usize].push((index, active));
            }
            let end = part.view(fresh_of(index)).end().saturating_sub(lookahead).max(from);
            let rows = count..count + (end - from) as usize;
            count = rows.end;
            groups.push(Group { slot: *slot, from, rows, position: part.position });
            part.position = part.position.max(end);
        }
        let views: Vec<View<'_>> = slots
            .iter()
            .enumerate()
            .map(|(index, slot)| {
                let part = &self.parts[*slot as usize];
                let first = part.busy.as_ref().map_or(groups[index].position, |busy| busy.held.first);
                View { first, ..part.view(fresh_of(index)) }
            })
            .collect();
        let places = Places { kept: &self.kept.rows, batch };
        let positions = |group: &Group| group.from..group.from + group.rows.len() as u64;
        let fresh = Fresh::of(&plans.distinct, views.iter().copied().zip(groups.iter().map(positions)));
        debug_assert_eq!(fresh.rows.len(), count, "all rows are there");
        let (bits, times) = match count {
            0 => (Vec::new(), Vec::new()),
            _ => (bitmaps(&plans.distinct, &fresh, places, context)?, plans.times_of(&fresh.rows, places)?),
        };
        let any = vec![u64::MAX; count.div_ceil(64)];
        let mut emitted: Vec<(usize, RecordBatch)> = Vec::new();
        for (pattern, plan) in plans.plans.iter().enumerate() {
            let bitmaps = if count == 0 { Vec::new() } else { plans.distinct.of(pattern, &bits, &any) };
            let known = Known { rows: count, bitmaps, times: &times };
            let work = |index: usize, active: Active| {
                let group = &groups[index];
                let start = group.rows.start + (active.key.position() - group.from) as usize;
                Work {
                    key: active.key,
                    view: views[index],
                    rows: start..group.rows.end.max(start),
                    words: active.words,
                }
            };
            let (mut places_of, mut works) = (Vec::new(), Vec::new());
            let mut started = std::mem::take(&mut under_way[pattern]).into_iter().peekable();
            if count > 0 {
                let mut next = 0;
                beginnings(plan, &known, &groups, |index, row| {
                    while let Some((before, active)) = started.next_if(|(before, _)| *before <= index) {
                        places_of.push(before);
                        works.push(work(before, active));
                        next = before + 1;
                    }
                    // A match under way takes the partition's rows in itself.
                    if index < next {
                        return;
                    }
                    next = index + 1;
                    let group = &groups[index];
                    let position = group.from + (row - group.rows.start) as u64;
                    let number = self.parts[group.slot as usize].number(pattern as u32);
                    let key = plan.matcher.resume(position, number, 0);
                    places_of.push(index);
                    works.push(work(index, Active { pattern: pattern as u32, key, words: Vec::new() }));
                });
            }
            for (index, active) in started {
                places_of.push(index);
                works.push(work(index, active));
            }
            if works.is_empty() {
                continue;
            }
            let mut matches = Matches::default();
            run((&plans, plan), &mut works, &known, (places, context), time, &mut self.scratch, &mut matches)?;
            if let Some(rows) = matches.leaving(Evaluation { spec: &plan.spec, places, context })? {
                emitted.push((pattern, rows));
            }
            under_way[pattern] = places_of
                .into_iter()
                .zip(works)
                .map(|(index, work)| (index, Active { pattern: pattern as u32, key: work.key, words: work.words }))
                .collect();
        }
        // What is still needed stays.
        let mut needed: Vec<u64> =
            slots.iter().map(|slot| self.parts[*slot as usize].position.saturating_sub(plans.lookback)).collect();
        for (index, active) in under_way.iter().flatten() {
            needed[*index] = needed[*index].min(needed_from(&plans, &active.key));
        }
        let mut staying: Vec<u32> = Vec::new();
        let mut ends = Vec::with_capacity(slots.len());
        for (view, needed) in views.iter().zip(&needed) {
            staying.extend_from_slice(fresh_from(*view, *needed));
            ends.push((view.end(), staying.len()));
        }
        let mut ids = Vec::new();
        if !staying.is_empty() {
            let staying = UInt32Array::from(staying);
            let columns = batch.columns().iter().map(|column| Ok(take(column, &staying, None)?));
            // Where no column is asked for, rows are still counted.
            let rows = batch_of(&batch.schema(), columns.collect::<Result<_>>()?, staying.len())?;
            self.kept.append(&rows, &mut ids)?;
        }
        self.put_back(&plans, slots, under_way);
        let mut gone = Vec::new();
        let mut forgotten = Vec::new();
        let mut start = 0;
        for (index, (slot, (view_end, end))) in slots.iter().zip(ends).enumerate() {
            self.settle_rows(*slot, &ids[start..end], view_end, needed[index], &mut gone);
            start = end;
            if !std::mem::replace(&mut self.dirty[*slot as usize], true) {
                self.dirty_slots.push(*slot);
            }
            let part = &mut self.parts[*slot as usize];
            if part.is_idle() {
                part.busy = None;
                if plans.forgets {
                    forgotten.push(*slot);
                }
            }
        }
        let bytes_after: usize = slots.iter().map(|slot| self.parts[*slot as usize].bytes()).sum();
        self.busy_bytes = (self.busy_bytes + bytes_after).saturating_sub(bytes_before);
        self.kept.release(&gone)?;
        self.forget(&forgotten)?;
        self.emit(emitted, out)
    }

    /// Gives partitions back the matches that are still under way.
    fn put_back(&mut self, plans: &Plans, slots: &[u32], under_way: Vec<Vec<(usize, Active)>>) {
        for (plan, active) in plans.plans.iter().zip(under_way) {
            for (index, active) in active {
                let part = &mut self.parts[slots[index] as usize];
                let idle = active.key.start() == active.key.position();
                if idle && !(plan.counts && active.key.number() > 0) {
                    continue;
                }
                let position = part.position;
                let busy = part.busy.get_or_insert_with(|| {
                    Box::new(Busy { held: Held::new(position), active: Vec::new(), numbers: Vec::new() })
                });
                if plan.counts && active.key.number() > 0 {
                    match busy.numbers.iter_mut().find(|(of, _)| *of == active.pattern) {
                        Some((_, number)) => *number = active.key.number(),
                        None => busy.numbers.push((active.pattern, active.key.number())),
                    }
                }
                if !idle {
                    busy.active.push(active);
                }
            }
        }
    }

    /// Notes which rows of a partition stay, and when it is to be looked at again.
    fn settle_rows(&mut self, slot: u32, new: &[u32], end: u64, needed: u64, gone: &mut Vec<u32>) {
        let part = &mut self.parts[slot as usize];
        if part.busy.is_none() && new.is_empty() {
            return;
        }
        let first = end - new.len() as u64;
        let busy = part
            .busy
            .get_or_insert_with(|| Box::new(Busy { held: Held::new(first), active: Vec::new(), numbers: Vec::new() }));
        busy.held.release(needed, gone);
        if busy.held.ids().is_empty() {
            busy.held.first = first;
        }
        busy.held.push(new);
        let deadline = busy.active.iter().filter_map(|active| active.key.deadline()).min();
        if let Some(deadline) = deadline
            && busy.held.due.is_none_or(|due| deadline < due)
        {
            busy.held.due = Some(deadline);
            self.due.entry(deadline).or_default().push(slot);
        }
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
            matches.into_iter().for_each(|(_, rows)| out.emit(Delta::insert(rows)));
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
        while let Some(entry) = self.due.first_entry()
            && *entry.key() < time
        {
            let deadline = *entry.key();
            for slot in entry.remove() {
                // A partition that was forgotten, or looked at since, may have another one, or none.
                if let Some(busy) = &mut self.parts[slot as usize].busy
                    && busy.held.due == Some(deadline)
                {
                    busy.held.due = None;
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

    /// The columns of partitions in a checkpoint; those that are not there have no matches under way.
    fn states(&self, slots: &[u32], there: bool) -> Result<RecordBatch> {
        let mut columns = self.partitions.columns(Slots::Some(slots))?;
        let numbers = |of: &dyn Fn(&Part) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(slots.iter().map(|slot| of(&self.parts[*slot as usize]))))
        };
        let held = |part: &Part| part.busy.as_ref().and_then(|busy| busy.held.ids().first().copied());
        columns.push(numbers(&|part| part.position));
        columns.push(numbers(&|part| held(part).map_or(self.kept.next_arrival, |id| self.kept.arrival(id))));
        columns.push(numbers(&|part| part.busy.as_ref().map_or(part.position, |busy| busy.held.first)));
        let active = slots.iter().map(|slot| there.then(|| encode(&self.parts[*slot as usize])));
        columns.push(Arc::new(active.collect::<BinaryArray>()));
        batch_of(&self.state_schema, columns, slots.len())
    }
}

/// Calls `begin` with the place of each group in which a match may begin, and the row of the first one, ascending.
fn beginnings(plan: &Plan, known: &Known<'_>, groups: &[Group], mut begin: impl FnMut(usize, usize)) {
    let begins = &plan.begins;
    let first_row = |group: &Group| group.rows.start + (group.position - group.from) as usize;
    let variables = (0..plan.spec.variables.len()).filter(|variable| begins.variables.contains(*variable as u8));
    let any_row = begins.everywhere || variables.clone().any(|variable| plan.spec.conditions[variable].row.is_none());
    if any_row {
        for (index, group) in groups.iter().enumerate() {
            if first_row(group) < group.rows.end {
                begin(index, first_row(group));
            }
        }
        return;
    }
    let bitmaps: Vec<&[u64]> = variables.map(|variable| known.bitmaps[variable]).collect();
    let mut rows = (0..known.rows.div_ceil(64)).flat_map(|word| {
        let mut bits = bitmaps.iter().fold(0, |bits, bitmap| bits | bitmap[word]);
        std::iter::from_fn(move || {
            let bit = bits.trailing_zeros() as usize;
            bits &= bits.wrapping_sub(1);
            (bit < 64).then_some(word * 64 + bit)
        })
    });
    let mut row = rows.next();
    for (index, group) in groups.iter().enumerate() {
        let first = first_row(group);
        while row.is_some_and(|row| row < first) {
            row = rows.next();
        }
        if begins.at_first && group.position == 0 && first < group.rows.end {
            begin(index, first);
        } else if let Some(row) = row.filter(|row| *row < group.rows.end) {
            begin(index, row);
        }
    }
}

/// What is under way in a partition, as bytes: for each pattern its place, where it starts, how many matches it had, up to where rows are
/// in matches, and up to where beginnings of matches were told.
fn encode(part: &Part) -> Vec<u8> {
    let Some(busy) = &part.busy else { return Vec::new() };
    let active = busy.active.iter().map(|active| {
        let key = &active.key;
        [u64::from(active.pattern), key.start(), key.number(), key.matched_until(), key.told_until()]
    });
    let idle = busy.numbers.iter().filter(|(of, _)| busy.active.iter().all(|active| active.pattern != *of));
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
            self.advance(&slots, None, &empty, Time::default(), &context, out)?;
        }
        let moves = time.is_some() && after > self.watermark;
        if self.ended || (!moves && after != WATERMARK_MAX) {
            return Ok(Progress::Done);
        }
        self.watermark = after;
        while let Some(batch) = self.buffer.settle(after, CHUNK_ROWS)? {
            let batch = in_order(batch, &self.plans.spec().order, &self.converter)?;
            self.take_in(&batch, &context, out)?;
        }
        self.expire(&context, out)?;
        if after == WATERMARK_MAX {
            self.ended = true;
            let busy = |slot: &u32| self.parts[*slot as usize].busy.is_some();
            let mut slots: Vec<u32> = self.partitions.live_slots().into_iter().filter(busy).collect();
            slots.sort_unstable();
            let empty = self.empty.clone();
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
                self.parts.push(Part::default());
                continue;
            };
            rows.sort_unstable();
            let ids: Vec<u32> = rows.iter().map(|(_, id)| *id).collect();
            let mut busy = Busy { held: Held::new(held_from), active: Vec::new(), numbers: Vec::new() };
            busy.held.push(&ids);
            for [pattern, start, number, matched_until, told_until] in decode(&active) {
                let Some(plan) = plans.plans.get(pattern as usize) else {
                    return Err(EngineError::bug("a checkpoint has more patterns than the query"));
                };
                if plan.counts && number > 0 {
                    busy.numbers.push((pattern as u32, number));
                }
                if start != u64::MAX {
                    let key = plan.matcher.resume_after_partial(start, number, matched_until, told_until);
                    busy.active.push(Active { pattern: pattern as u32, key, words: Vec::new() });
                }
            }
            let part = Part { position, busy: Some(Box::new(busy)) };
            if !ids.is_empty() {
                self.asleep.push(slot as u32);
            }
            self.parts.push(part);
        }
        self.busy_bytes = self.parts.iter().map(Part::bytes).sum();
        self.dirty.resize(self.parts.len(), false);
        self.partitions.remove(&gone);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        debug_assert_eq!(self.busy_bytes, self.parts.iter().map(Part::bytes).sum::<usize>(), "no change was missed");
        let keys: usize = self.parts.capacity() * size_of::<Part>();
        self.buffer.bytes()
            + self.partitions.bytes()
            + self.kept.bytes()
            + self.busy_bytes
            + keys
            + self.dirty.capacity()
    }

    fn state_rows(&self) -> usize {
        self.buffer.kept.rows.len() + self.kept.rows.len() + self.partitions.len()
    }
}
