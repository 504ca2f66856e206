//! `Score`: how strange each row is beside the earlier ones of its partition, in event-time order, and whether that is worth an alarm.
//!
//! A score is made of the rows before its own and of nothing else, so rows wait in order until the watermark has passed them, get their
//! scores and leave once; what stays of them is the model of their partition, a few words that the kernel knows how to read. Rows of a
//! partition stay on one shard.
//!
//! The numbers are a kernel's ([`eagre_kernels::score`]): the operator orders, groups by key and puts back, for all keys of a step at
//! once. As a score does not depend on how rows are cut into batches, neither steps nor shards nor a restart show in it.
//!
//! Where a kernel runs, on the CPU or on a device, its placer says ([`Placement`]). All scores of a batch share one wave of work on the
//! device, with those of other operators of the step, and the operator is pending until it is answered. As both sides agree within a tolerance only, each move between them goes
//! into the step log, and a replay repeats it.
//!
//! A checkpoint takes the rows that wait, the words of the partitions that changed, and where kernels ran.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_row::RowConverter;
use eagre_kernels::rows::GroupedRows;
use eagre_kernels::score::{Placement, Switch};

use self::calls::{CallRows, Running};
pub use self::calls::{ScoreAnswer, ScoreCall, detections_type, score_partition};
use super::moves::{record, runs_on};
use super::over::{Buffer, OrderKey, in_order, in_order_of_arrival, judge, row_converter};
use super::{
    Input, Operator, OperatorFactory, Output, Placed, Progress, SaveKind, StateReader, StateWriter, StepWave, Ticket,
};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::HashGroups;
use crate::keys::GroupKeys;
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN};

mod calls;
mod checkpoint;
#[cfg(test)]
mod tests;

const NAME: &str = "Score";
/// About as many rows are scored at once.
const CHUNK_ROWS: usize = 65_536;

/// What a [`ScoreFactory`]'s operators do: some scores over the same partitions in the same order.
#[derive(Debug, Clone)]
pub struct ScoreSpec {
    /// The rows, which are only inserted.
    pub input: SchemaRef,
    /// `PARTITION BY`, as columns of the input.
    pub partition: Vec<usize>,
    /// `ORDER BY`; rows that are equal in it are in order of arrival.
    pub order: Vec<OrderKey>,
    /// Whether a watermark speaks of the first column of the order, which is ascending then; otherwise rows wait until the input ends.
    pub by_watermark: bool,
    /// The scores.
    pub calls: Vec<ScoreCall>,
    /// Where they may be computed.
    pub placement: Arc<Placement>,
}

impl ScoreSpec {
    fn data_type(&self, column: usize) -> DataType {
        self.input.field(column).data_type().clone()
    }

    fn partition_types(&self) -> Vec<DataType> {
        self.partition.iter().map(|column| self.data_type(*column)).collect()
    }

    fn time(&self) -> Option<usize> {
        self.by_watermark.then(|| self.order[0].column)
    }
}

/// Makes the operators of a [`ScoreSpec`].
pub struct ScoreFactory {
    spec: Arc<ScoreSpec>,
    output: SchemaRef,
    /// Whether a method has a kernel that may run on a device.
    has_kernels: bool,
}

impl ScoreFactory {
    /// Rows leave once: the input's columns, then the answer of each call. Late are rows
    /// whose time lies before the watermark at the step's start, and those without one.
    ///
    /// # Errors
    /// Partitions or an order that cannot be compared; a method that does not take so many features; a device that is asked for and
    /// not there.
    pub fn new(spec: ScoreSpec) -> Result<Self> {
        if spec.by_watermark && spec.order.first().is_none_or(|key| key.options.descending) {
            return Err(EngineError::bug("rows become final in the order of their event time only"));
        }
        if let Err(reason) = spec.placement.check() {
            return Err(EngineError::Device { reason });
        }
        let mut fields: Vec<FieldRef> = spec.input.fields().iter().cloned().collect();
        fields.extend(spec.calls.iter().map(|call| Arc::new(Field::new(&call.name, call.answer.data_type(), true))));
        let mut factory = Self { spec: Arc::new(spec), output: Arc::new(Schema::new(fields)), has_kernels: false };
        factory.has_kernels = Score::new(&factory)?.running.iter().any(|running| running.scorer().has_kernel());
        Ok(factory)
    }

    /// The input's columns, then one answer a call.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }
}

impl OperatorFactory for ScoreFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Score::new(self)?))
    }

    fn runs_on(&self) -> &'static str {
        if self.has_kernels { runs_on(&self.spec.placement) } else { "CPU" }
    }
}

/// See the [module](self).
struct Score {
    spec: Arc<ScoreSpec>,
    output: SchemaRef,
    running: Vec<Running>,
    buffer: Buffer,
    partitions: GroupKeys,
    /// What orders rows of one millisecond.
    converter: RowConverter,
    state_schema: SchemaRef,
    /// By slot: whether the state differs from what was saved.
    dirty: Vec<bool>,
    dirty_slots: Vec<u32>,
    slots: Vec<u32>,
    watermark: EventTimeMs,
    /// Rows whose scores are under way.
    working: Option<Working>,
    /// The hash groups of this shard: whose answers it writes.
    owned: HashGroups,
}

/// Rows in order, how they are grouped, and what each call reads of them.
struct Working {
    batch: RecordBatch,
    grouped: Arc<GroupedRows>,
    calls: Vec<CallRows>,
}

impl Score {
    fn new(factory: &ScoreFactory) -> Result<Self> {
        let spec = &factory.spec;
        let running =
            |call: &ScoreCall| Running::new(&call.answer, call.value_count(), call.learn.is_some(), &spec.placement);
        let running: Vec<Running> = spec.calls.iter().map(running).collect::<Result<_>>()?;
        let mut fields: Vec<Field> = spec.partition.iter().map(|column| spec.input.field(*column).clone()).collect();
        for (index, running) in running.iter().enumerate() {
            let bytes = i32::try_from(running.state_shape().words_per_slot() * 4)
                .map_err(|_| EngineError::bug("the state of a key is larger than a page"))?;
            fields.push(Field::new(format!("{index}.state"), DataType::FixedSizeBinary(bytes), false));
        }
        Ok(Self {
            running,
            buffer: Buffer::new(&spec.input)?,
            partitions: GroupKeys::new(spec.partition_types())?,
            converter: row_converter(&spec.input, &spec.order)?,
            state_schema: Arc::new(Schema::new(fields)),
            dirty: Vec::new(),
            dirty_slots: Vec::new(),
            slots: Vec::new(),
            watermark: WATERMARK_MIN,
            working: None,
            owned: HashGroups::ALL,
            output: Arc::clone(&factory.output),
            spec: Arc::clone(spec),
        })
    }

    /// Starts to score rows that are in order. A ticket: the device has to answer first.
    fn start(&mut self, batch: RecordBatch, wave: &mut StepWave) -> Result<Option<Ticket>> {
        let keys: Vec<ArrayRef> = self.spec.partition.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        self.partitions.intern(&keys, batch.num_rows(), &mut self.slots)?;
        let count = self.partitions.slot_count();
        self.dirty.resize(count.max(self.dirty.len()), false);
        let grouped = Arc::new(GroupedRows::group(&self.slots, count));
        for slot in grouped.slots() {
            if !std::mem::replace(&mut self.dirty[*slot as usize], true) {
                self.dirty_slots.push(*slot);
            }
        }
        let calls = self.spec.calls.iter().map(|call| CallRows::of(call, &batch)).collect::<Result<Vec<_>>>()?;
        let ticket = wave.start(calls.len(), |group| {
            self.running.iter_mut().zip(&calls).for_each(|(running, rows)| running.start(&grouped, rows, group));
            Ok(())
        })?;
        self.working = Some(Working { batch, grouped, calls });
        Ok(ticket)
    }

    /// Emits the rows that are being scored.
    fn finish(&mut self, out: &mut Output) -> Result<()> {
        let Some(Working { batch, grouped, calls }) = self.working.take() else { return Ok(()) };
        let mut columns = batch.columns().to_vec();
        for (running, rows) in self.running.iter_mut().zip(&calls) {
            columns.push(running.finish(&grouped, rows));
        }
        let rows = batch.num_rows();
        out.emit(Delta::insert(batch_of(&self.output, columns, rows)?));
        let mut moves: Vec<(u32, Switch)> = Vec::new();
        for (call, running) in (0..).zip(&mut self.running) {
            moves.extend(running.scorer_mut().take_switches().into_iter().map(|switch| (call, switch)));
        }
        record(self.owned, &moves, out)
    }
}

impl Operator for Score {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        if self.working.is_some() {
            // The device has answered.
            self.finish(out)?;
        } else {
            let mut deltas = input.single();
            let time = self.spec.time();
            if let Some(time) = time {
                deltas = judge((time, 0), deltas, before, out)?;
            }
            self.buffer.take_in(in_order_of_arrival(deltas)?, time)?;
            let moves = time.is_some() && after > self.watermark;
            if !moves && after != WATERMARK_MAX {
                return Ok(Progress::Done);
            }
            self.watermark = after;
        }
        while let Some(batch) = self.buffer.settle(after, CHUNK_ROWS)? {
            let batch = in_order(batch, &self.spec.order, &self.converter)?;
            if let Some(ticket) = self.start(batch, &mut out.wave)? {
                return Ok(Progress::Pending(ticket));
            }
            self.finish(out)?;
        }
        Ok(Progress::Done)
    }

    fn recall(&mut self, answers: &[RecordBatch]) -> Result<()> {
        self.recall_moves(answers)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        self.save_all(kind, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.restore_all(state)
    }

    fn state_bytes(&self) -> usize {
        let running: usize = self.running.iter().map(Running::bytes).sum();
        self.buffer.bytes() + self.partitions.bytes() + running + self.slots.capacity() * 4
    }

    fn state_rows(&self) -> usize {
        self.buffer.kept.rows.len() + self.partitions.len()
    }

    fn placements(&self) -> Vec<Placed> {
        let calls = self.spec.calls.iter().zip(&self.running);
        let decided = calls.filter_map(|(call, running)| {
            let scorer = running.scorer();
            let decision = scorer.decision()?.clone();
            let (fall_backs, replayed_batches) = scorer.fall_backs();
            Some(Placed {
                what: call.answer.method().description().name.to_string(),
                decision,
                fall_backs,
                replayed_batches,
            })
        });
        decided.collect()
    }
}
