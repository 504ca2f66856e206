//! Matches leave once, when they are final.
//!
//! Rows wait in order until the watermark has passed them ([`Buffer`]); then their partition's automaton takes them in, and of them only
//! those stay that the match under way may have, or that a measure or a condition may look back at. A partition with nothing under way
//! is forgotten, unless its matches are numbered.
//!
//! A checkpoint takes the rows that wait, the rows that stay, and a few numbers for each partition: the automaton's state follows from
//! the rows, which are matched again after a restart and give nothing that they gave before.

mod block;
mod checkpoint;
mod matching;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_row::RowConverter;

use self::block::{Again, Block, Chunk, Fetched};
use super::ahead::LookAhead;
use super::busy::Parts;
use super::run::{Scratch, Time};
use super::starts::Group;
use super::{NAME, Plans};
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::expr::StepContext;
use crate::keys::GroupKeys;
use crate::operator::over::kept::Kept;
use crate::operator::over::{Buffer, in_order_of_arrival, judge};
use crate::operator::{Input, Operator, Output, Placed, Progress, SaveKind, StateReader, StateWriter};
use crate::rows::RowLog;
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN};

/// About as many rows are matched at once.
const CHUNK_ROWS: usize = 262_144;

/// The times at which partitions are to be looked at again are noted in so many steps of the bound.
const DUE_STEPS: i64 = 4_096;
/// So many partitions more than those that are busy may be idle before they are forgotten: many of them soon have a row again.
const IDLE_MAX: usize = 262_144;

/// What is left to be done of a step, one after the other.
enum Task {
    /// Partitions were restored.
    Wake,
    /// The watermark has passed rows,
    Rows,
    /// and attempts run out of time.
    Expire,
    /// No further row comes.
    End,
    /// Partitions with nothing under way are forgotten.
    Forget,
}

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
    /// Partitions that were restored and whose rows are to be matched again.
    asleep: Vec<u32>,
    tasks: VecDeque<Task>,
    /// Rows that are being taken in, and those of them that are in work.
    chunk: Option<Chunk>,
    /// Partitions that get no rows, but are to be looked at.
    again: Again,
    block: Option<Block>,
    /// Where matches may begin in the block.
    ahead: LookAhead,
    /// The matches of patterns that have not left yet.
    emitted: Vec<(usize, RecordBatch)>,
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
        // Of the only pattern, `Matcher::packed`: a match under way that is made again without its rows.
        fields.push(Field::new("__packed", DataType::UInt64, false));
        Ok(Self {
            buffer: Buffer::new(input)?,
            converter: plans.converter()?,
            partitions: GroupKeys::new(plans.partition_types())?,
            parts: Parts::default(),
            kept: Kept::single(input),
            log: RowLog::new(checkpoint::HELD, input),
            due: BTreeMap::new(),
            due_step: plans
                .plans
                .iter()
                .filter_map(|plan| plan.spec.within)
                .map(|within| within.units)
                .min()
                .map_or(1, |within| (within / DUE_STEPS).max(1)),
            asleep: Vec::new(),
            tasks: VecDeque::new(),
            chunk: None,
            again: Again::default(),
            block: None,
            ahead: LookAhead::new(plans, &spec.placement)?,
            emitted: Vec::new(),
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

    /// Forgets the partitions that are idle.
    fn forget_idle(&mut self) -> Result<()> {
        let mut idle = std::mem::take(&mut self.idle);
        idle.retain(|slot| {
            self.parts.part_mut(*slot).listed = false;
            self.parts.is_idle(*slot)
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
    fn expired(&mut self) -> Again {
        let within = self.plans.plans.iter().find_map(|plan| plan.spec.within);
        let Some(within) = within.filter(|_| self.watermark != WATERMARK_MIN && self.watermark != WATERMARK_MAX) else {
            return Again::default();
        };
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
        Again::new(slots, Time { expired: Some(time), ..Time::default() }, false)
    }

    /// Goes on with what is left to be done of the step.
    fn go_on(&mut self, context: &StepContext, out: &mut Output) -> Result<Progress> {
        loop {
            if let Some(block) = self.block.take() {
                self.ahead.answered();
                self.close(block, context)?;
            }
            let fetched = if let Some(mut chunk) = self.chunk.take_if(|chunk| !chunk.is_done()) {
                let fetched = self.fetch(&mut chunk)?;
                self.chunk = Some(chunk);
                Some(fetched)
            } else if let Some(chunk) = self.chunk.take() {
                self.give_back(&chunk)?;
                None
            } else if let Some(slots) = self.again.next(self.partitions_max()) {
                let Again { time, wakes, .. } = self.again;
                Some(Fetched { slots, offsets: Vec::new(), batch: self.empty.clone(), time, wakes })
            } else if !self.emitted.is_empty() {
                let emitted = std::mem::take(&mut self.emitted);
                self.emit(emitted, out)?;
                None
            } else if let Some(task) = self.tasks.pop_front() {
                self.begin(task)?;
                None
            } else {
                self.ahead.record(out)?;
                return Ok(Progress::Done);
            };
            if let Some(fetched) = fetched
                && let Some(ticket) = self.open(fetched, context, &mut out.wave)?
            {
                return Ok(Progress::Pending(ticket));
            }
        }
    }

    /// Finds the rows or the partitions that a task is about, if it is about some.
    fn begin(&mut self, task: Task) -> Result<()> {
        match task {
            Task::Wake => {
                let slots = std::mem::take(&mut self.asleep);
                self.again = Again::new(slots, Time::default(), true);
            }
            Task::Rows => {
                if let Some(ids) = self.buffer.settle_ids(self.watermark, CHUNK_ROWS) {
                    self.chunk = Some(self.chunk_of(ids)?);
                    // Until there are none.
                    self.tasks.push_front(Task::Rows);
                }
            }
            Task::Expire => self.again = self.expired(),
            Task::End => {
                let busy = |slot: &u32| !self.parts.is_idle(*slot);
                let mut slots: Vec<u32> = self.partitions.live_slots().into_iter().filter(busy).collect();
                slots.sort_unstable();
                self.again = Again::new(slots, Time { ended: true, ..Time::default() }, false);
            }
            Task::Forget => self.forget_idle()?,
        }
        Ok(())
    }
}

impl Operator for Settled {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        let context = *input.context;
        if self.block.is_some() {
            // The device has answered.
            return self.go_on(&context, out);
        }
        let mut deltas = input.single();
        let time = self.plans.time();
        if let Some(time) = time {
            deltas = judge((time, 0), deltas, before, out)?;
        }
        self.buffer.take_in(in_order_of_arrival(deltas)?, time)?;
        if !self.asleep.is_empty() {
            self.tasks.push_back(Task::Wake);
        }
        let moves = time.is_some() && after > self.watermark;
        if !self.ended && (moves || after == WATERMARK_MAX) {
            self.watermark = after;
            self.tasks.extend([Task::Rows, Task::Expire]);
            if after == WATERMARK_MAX {
                self.ended = true;
                self.tasks.extend([Task::End, Task::Forget]);
            }
        }
        self.go_on(&context, out)
    }

    fn recall(&mut self, answers: &[RecordBatch]) -> Result<()> {
        self.ahead.recall(answers)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        self.save_state(kind, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.restore_state(state)
    }

    fn placements(&self) -> Vec<Placed> {
        self.ahead.placements()
    }

    fn incidents(&self) -> Vec<(&'static str, u64)> {
        self.scratch.incidents()
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

    fn keys(&self) -> usize {
        self.partitions.len()
    }
}
