//! Rows in work: a few partitions at a time, so that what is looked at in several passes stays in the cache.

use std::sync::Arc;

use arrow::array::RecordBatch;
use eagre_kernels::rows::GroupedRows;

use super::Settled;
use crate::error::Result;
use crate::expr::StepContext;
use crate::keys::AHEAD;
use crate::operator::match_recognize::Plans;
use crate::operator::match_recognize::conditions::{Fresh, bitmaps};
use crate::operator::match_recognize::rows::{NewRows, Places};
use crate::operator::match_recognize::run::{Time, new_from};
use crate::operator::match_recognize::starts::{Group, ends_of};
use crate::operator::over::order_of;
use crate::operator::{StepWave, Ticket};

/// So many rows of partitions that lie side by side are matched together: what is looked at in several passes stays in the cache.
const BLOCK_ROWS: usize = if cfg!(test) { 8 } else { 8_192 };
/// But of no more partitions: it is what these have under way that has to fit there.
const BLOCK_PARTITIONS: usize = if cfg!(test) { 4 } else { 2_048 };
/// Each pattern is a pass of its own, which needs so many rows to be worth it.
const PATTERN_ROWS: usize = if cfg!(test) { 2 } else { 64 };

/// Rows of the buffer that are being taken in.
pub(super) struct Chunk {
    /// As the buffer has them.
    ids: Vec<u32>,
    by_partition: Vec<u32>,
    grouped: GroupedRows,
    /// The first partition that is not taken in.
    next: usize,
}

impl Chunk {
    pub(super) fn is_done(&self) -> bool {
        self.next == self.grouped.slots().len()
    }
}

/// Partitions that get no rows and are looked at again, some after the others: what all of them have under way would not fit the cache,
/// nor, of millions that have one row each, the memory.
#[derive(Default)]
pub(super) struct Again {
    slots: std::vec::IntoIter<u32>,
    pub(super) time: Time,
    /// See [`Fetched::wakes`].
    pub(super) wakes: bool,
}

impl Again {
    /// Partitions, ascending.
    pub(super) fn new(slots: Vec<u32>, time: Time, wakes: bool) -> Self {
        Self { slots: slots.into_iter(), time, wakes }
    }

    /// The next ones, at most `count`, if there are any left.
    pub(super) fn next(&mut self, count: usize) -> Option<Vec<u32>> {
        let next: Vec<u32> = self.slots.by_ref().take(count).collect();
        (!next.is_empty()).then_some(next)
    }
}

/// Partitions whose rows are to be matched.
pub(super) struct Fetched {
    /// Ascending.
    pub(super) slots: Vec<u32>,
    /// Rows `offsets[i]..offsets[i + 1]` of `batch` are new ones of partition `slots[i]`. Without offsets they get none.
    pub(super) offsets: Vec<u32>,
    pub(super) batch: RecordBatch,
    pub(super) time: Time,
    /// The partitions were restored: they are fed again from where their matches under way start.
    pub(super) wakes: bool,
}

/// Rows of some partitions whose conditions are known.
pub(super) struct Block {
    pub(super) groups: Vec<Group>,
    pub(super) batch: RecordBatch,
    pub(super) time: Time,
    /// How many rows there are.
    pub(super) rows: usize,
    /// The bitmaps of all conditions.
    pub(super) bits: Arc<Vec<Vec<u64>>>,
    /// In the unit of the bound, where there is one.
    pub(super) times: Vec<i64>,
    /// A bit for the last row of each partition.
    pub(super) ends: Arc<Vec<u64>>,
}

impl Settled {
    /// Orders rows of the buffer, which come in the order of milliseconds and arrival, by partition.
    pub(super) fn chunk_of(&mut self, mut ids: Vec<u32>) -> Result<Chunk> {
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
        let by_partition = grouped.order().iter().map(|row| ids[*row as usize]).collect();
        Ok(Chunk { ids, by_partition, grouped, next: 0 })
    }

    /// Rows that make a block worth the passes of all patterns.
    fn worth(&self) -> usize {
        PATTERN_ROWS * self.plans.plans.len()
    }

    /// So many partitions may be in work at once.
    pub(super) fn partitions_max(&self) -> usize {
        BLOCK_PARTITIONS.max(self.worth())
    }

    /// The next partitions of a chunk: whole ones, and at least one. Fetched as they are needed, a row is still near when it is looked at.
    pub(super) fn fetch(&self, chunk: &mut Chunk) -> Result<Fetched> {
        let (slots, offsets) = (chunk.grouped.slots(), chunk.grouped.offsets());
        let first = chunk.next;
        let rows_max = offsets[first] as usize + BLOCK_ROWS.max(self.worth());
        let count = offsets[first + 1..].partition_point(|end| *end as usize <= rows_max);
        let end = first + count.clamp(1, self.partitions_max());
        let start = offsets[first];
        let ids = &chunk.by_partition[start as usize..offsets[end] as usize];
        let fetched = Fetched {
            slots: slots[first..end].to_vec(),
            offsets: offsets[first..=end].iter().map(|offset| offset - start).collect(),
            batch: self.buffer.kept.rows.take_batch(ids)?,
            time: Time { ended: self.plans.spec().whole_partitions, ..Time::default() },
            wakes: false,
        };
        chunk.next = end;
        Ok(fetched)
    }

    /// Gives the rows of a chunk back that was taken in.
    pub(super) fn give_back(&mut self, chunk: &Chunk) -> Result<()> {
        self.buffer.kept.release(&chunk.ids)
    }

    /// Works out the conditions of the rows that partitions hold, and of those that they get. A ticket: a device has to say first where
    /// matches may begin.
    pub(super) fn open(
        &mut self,
        fetched: Fetched,
        context: &StepContext,
        wave: &mut StepWave,
    ) -> Result<Option<Ticket>> {
        let Fetched { slots, offsets, batch, time, wakes } = fetched;
        let plans = Arc::clone(&self.plans);
        let lookahead = if time.ended { 0 } else { plans.lookahead };
        let mut groups = std::mem::take(&mut self.groups);
        groups.clear();
        let mut fresh = Fresh::new(&plans.distinct, batch.num_rows());
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
            if let Some(busy) = self.parts.wake(*slot, &plans.plans[0].matcher) {
                new_at = busy.held.end();
                // After a restart it is fed again from its start.
                if wakes {
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
        let places = Places { kept: &self.kept.rows, batch: &batch };
        let (bits, times) = match count {
            0 => (Vec::new(), Vec::new()),
            _ => (bitmaps(&plans.distinct, &fresh, places, context)?, plans.times_of(&fresh.rows, places)?),
        };
        let (bits, ends) = (Arc::new(bits), Arc::new(ends_of(&groups, count)));
        let ticket = self.ahead.ask(count, &bits, &ends, wave)?;
        self.block = Some(Block { groups, batch, time, rows: count, bits, times, ends });
        Ok(ticket)
    }

    /// Matches the rows of a block, and lets go of what is not needed any more.
    pub(super) fn close(&mut self, block: Block, context: &StepContext) -> Result<()> {
        let plans = Arc::clone(&self.plans);
        let mut needed = Vec::with_capacity(block.groups.len());
        let emitted = match &plans.plans[..] {
            [plan] => self.match_one((&plans, plan), &block, context, &mut needed)?,
            _ => self.match_many(&plans, &block, context, &mut needed)?,
        };
        self.emitted.extend(emitted);
        let Block { groups, batch, .. } = block;
        // What is still needed stays.
        let mut staying: Vec<u32> = Vec::with_capacity(batch.num_rows());
        for (group, needed) in groups.iter().zip(&needed) {
            staying.extend(new_from(group.new, group.new_at, *needed));
        }
        let mut ids = Vec::with_capacity(staying.len());
        if !staying.is_empty() {
            self.kept.append_some(&batch, &staying, &mut ids)?;
        }
        let mut gone = Vec::with_capacity(batch.num_rows());
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
        if self.idle.len() > super::IDLE_MAX + self.parts.busy_count() {
            self.forget_idle()?;
        }
        Ok(())
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
        let idle = self.parts.settle(slot, plans.of_last_rows());
        let part = self.parts.part_mut(slot);
        if idle && plans.forgets && !std::mem::replace(&mut part.listed, true) {
            self.idle.push(slot);
        }
    }
}
