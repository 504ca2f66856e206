//! `Score`: how strange each row is beside the earlier ones of its partition, in event-time order.
//!
//! A score is made of the rows before its own and of nothing else, so rows wait in order until the watermark has passed them, get their
//! scores and leave once; what stays of them is the model of their partition, a few words that the kernel knows how to read. Rows of a
//! partition stay on one shard.
//!
//! The numbers are a kernel's ([`eagre_kernels::score`]): the operator orders, groups by key and puts back, for all keys of a step at
//! once. As a score does not depend on how rows are cut into batches, neither steps nor shards nor a restart show in it.
//!
//! Where a kernel runs, on the CPU or on a device, its placer says ([`Placement`]). All scores of a batch share one wave of work on the
//! device, and the operator is pending until it is answered. As both sides agree within a tolerance only, each move between them goes
//! into the step log, and a replay repeats it.
//!
//! A checkpoint takes the rows that wait, the words of the partitions that changed, and where kernels ran.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, RecordBatch, UInt32Array, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use arrow_row::{RowConverter, SortField};
use eagre_kernels::placed::{WaitingFor, WaveGroup};
use eagre_kernels::rows::GroupedRows;
use eagre_kernels::score::{DeviceChoice, Method, Placement, RowContext, Scorer, Side, Switch, score_now};

use super::over::{Buffer, OrderKey, in_order, in_order_of_arrival, judge};
use super::{Input, Operator, OperatorFactory, Output, Placed, Progress, SaveKind, StateReader, StateWriter, Ticket};
use crate::aggregate::Slots;
use crate::aggregate::partial::{check_chunk, keep_owned, newest_time};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::HashGroups;
use crate::keys::GroupKeys;
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN};

#[cfg(test)]
mod tests;

const NAME: &str = "Score";
/// The tables of a checkpoint, and its meta.
const PARTITIONS: &str = "partitions";
const WATERMARK: &str = "watermark";
const ARRIVALS: &str = "arrivals";
const SHARD: &str = "shard";
const PLACES: &str = "places";
const LAYOUTS: &str = "layouts";
/// About as many rows are scored at once.
const CHUNK_ROWS: usize = 65_536;

/// One score of a query.
#[derive(Debug, Clone)]
pub struct ScoreCall {
    /// What the result is called.
    pub name: String,
    /// How rows are scored.
    pub method: Method,
    /// What they are scored by, as numeric columns of the operator's input.
    pub features: Vec<usize>,
}

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

    fn converter(&self) -> Result<RowConverter> {
        let field = |key: &OrderKey| SortField::new_with_options(self.data_type(key.column), key.options);
        Ok(RowConverter::new(self.order.iter().map(field).collect())?)
    }
}

/// Makes the operators of a [`ScoreSpec`].
pub struct ScoreFactory {
    spec: Arc<ScoreSpec>,
    output: SchemaRef,
}

impl ScoreFactory {
    /// Rows leave once: the input's columns, then a `DOUBLE` for each call, null where the row has no value to score. Late are rows
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
        fields.extend(spec.calls.iter().map(|call| Arc::new(Field::new(&call.name, DataType::Float64, true))));
        let factory = Self { spec: Arc::new(spec), output: Arc::new(Schema::new(fields)) };
        Score::new(&factory)?;
        Ok(factory)
    }

    /// The input's columns, then one score a call.
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
        match self.spec.placement.settings().device {
            DeviceChoice::Cpu => "CPU",
            DeviceChoice::Gpu => "GPU",
            DeviceChoice::Auto => "CPU or GPU, whichever measures faster",
        }
    }
}

/// The scores of rows that are all of one partition, in order: what [`Score`] gives a partition's rows, for finished tables.
///
/// # Errors
/// Features that are no numbers, or not as many as the method takes.
pub fn score_partition(method: &Method, features: &[ArrayRef], rows: usize) -> Result<Float64Array> {
    let columns = features.iter().map(feature).collect::<Result<Vec<_>>>()?;
    let mut scorer = scorer_of(method, features.len(), &Arc::default())?;
    let grouped = Arc::new(GroupedRows::group(&vec![0; rows], 1));
    let slices: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    Ok(scores_in_order(&grouped, &score_now(scorer.as_mut(), &grouped, &slices), &columns))
}

fn scorer_of(method: &Method, features: usize, placement: &Arc<Placement>) -> Result<Box<dyn Scorer>> {
    method
        .scorer(features, placement)
        .map_err(|error| EngineError::Evaluate { operator: NAME.to_string(), message: error.to_string() })
}

/// A column of numbers, null as NaN.
fn feature(column: &ArrayRef) -> Result<Vec<f64>> {
    let numbers = cast(column, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    Ok(match numbers.null_count() {
        0 => numbers.values().to_vec(),
        _ => numbers.iter().map(|value| value.unwrap_or(f64::NAN)).collect(),
    })
}

/// The score of a value that no kernel can compute with: infinite, or of a magnitude where no difference is left. Nothing is stranger, and
/// it is not learnt.
const BEYOND: f64 = 3.402_82e38;

/// Scores of grouped rows, put back where the rows were; null where a feature is null or NaN.
fn scores_in_order(grouped: &GroupedRows, scores: &[f32], features: &[Vec<f64>]) -> Float64Array {
    let mut all = vec![None; scores.len()];
    for (row, score) in grouped.order().iter().zip(scores) {
        let row = *row as usize;
        all[row] = match score.is_nan() {
            false => Some(six_digits(f64::from(*score))),
            true => features.iter().all(|column| !column[row].is_nan()).then_some(BEYOND),
        };
    }
    Float64Array::from(all)
}

/// The nearest number of six significant decimal digits: kernels compute in `f32`, which has no more, and 0.3 is to be shown as such.
fn six_digits(score: f64) -> f64 {
    let magnitude = score.abs();
    if !(1e-30..1e30).contains(&magnitude) {
        return score;
    }
    let digits = 5 - magnitude.log10().floor() as i32;
    // Powers of ten up to 22 are exact, and a quotient of exact numbers is the nearest number there is.
    match digits {
        0..=22 => (score * 10f64.powi(digits)).round() / 10f64.powi(digits),
        digits if (-22..0).contains(&digits) => (score / 10f64.powi(-digits)).round() * 10f64.powi(-digits),
        _ => score,
    }
}

/// See the [module](self).
struct Score {
    spec: Arc<ScoreSpec>,
    output: SchemaRef,
    scorers: Vec<Box<dyn Scorer>>,
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

/// Rows in order, how they are grouped, and the features of each call.
struct Working {
    batch: RecordBatch,
    grouped: Arc<GroupedRows>,
    features: Vec<Vec<Vec<f64>>>,
}

/// Moves between CPU and device in the step log: who moved, at which of its batches, and to where.
fn answers_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("first_group", DataType::UInt32, false),
        Field::new("end_group", DataType::UInt32, false),
        Field::new("call", DataType::UInt32, false),
        Field::new("batch", DataType::UInt64, false),
        Field::new("device", DataType::Boolean, false),
    ]))
}

impl Score {
    fn new(factory: &ScoreFactory) -> Result<Self> {
        let spec = &factory.spec;
        let scorer = |call: &ScoreCall| scorer_of(&call.method, call.features.len(), &spec.placement);
        let scorers: Vec<Box<dyn Scorer>> = spec.calls.iter().map(scorer).collect::<Result<_>>()?;
        let mut fields: Vec<Field> = spec.partition.iter().map(|column| spec.input.field(*column).clone()).collect();
        for (index, scorer) in scorers.iter().enumerate() {
            let bytes = i32::try_from(scorer.state_shape().words_per_slot() * 4)
                .map_err(|_| EngineError::bug("the state of a key is larger than a page"))?;
            fields.push(Field::new(format!("{index}.state"), DataType::FixedSizeBinary(bytes), false));
        }
        Ok(Self {
            scorers,
            buffer: Buffer::new(&spec.input)?,
            partitions: GroupKeys::new(spec.partition_types())?,
            converter: spec.converter()?,
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
    fn start(&mut self, batch: RecordBatch) -> Result<Option<Ticket>> {
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
        let mut group = WaveGroup::new();
        let mut features = Vec::with_capacity(self.scorers.len());
        for (call, scorer) in self.spec.calls.iter().zip(&mut self.scorers) {
            let columns = call.features.iter().map(|column| feature(batch.column(*column)));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let slices: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
            scorer.start(&grouped, &slices, RowContext::default(), &mut group);
            features.push(columns);
        }
        self.working = Some(Working { batch, grouped, features });
        let (redeemer, ticket) = Ticket::new();
        Ok(match group.submit(move || redeemer.redeem()) {
            WaitingFor::Nothing => None,
            WaitingFor::Device => Some(ticket),
        })
    }

    /// Emits the rows that are being scored.
    fn finish(&mut self, out: &mut Output) -> Result<()> {
        let Some(Working { batch, grouped, features }) = self.working.take() else { return Ok(()) };
        let mut columns = batch.columns().to_vec();
        for (scorer, features) in self.scorers.iter_mut().zip(&features) {
            columns.push(Arc::new(scores_in_order(&grouped, &scorer.finish(), features)));
        }
        let rows = batch.num_rows();
        out.emit(Delta::insert(batch_of(&self.output, columns, rows)?));
        let mut moves: Vec<(u32, Switch)> = Vec::new();
        for (call, scorer) in (0..).zip(&mut self.scorers) {
            moves.extend(scorer.take_switches().into_iter().map(|switch| (call, switch)));
        }
        if out.records_answers && !moves.is_empty() {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt32Array::from(vec![u32::from(self.owned.start); moves.len()])),
                Arc::new(UInt32Array::from(vec![u32::from(self.owned.end); moves.len()])),
                Arc::new(UInt32Array::from_iter_values(moves.iter().map(|(call, _)| *call))),
                Arc::new(UInt64Array::from_iter_values(moves.iter().map(|(_, switch)| switch.step))),
                Arc::new(moves.iter().map(|(_, switch)| Some(switch.side == Side::Device)).collect::<BooleanArray>()),
            ];
            out.answers.push(batch_of(&answers_schema(), columns, moves.len())?);
        }
        Ok(())
    }

    /// What the words of models mean.
    fn layouts(&self) -> String {
        self.spec.calls.iter().map(|call| call.method.state_layout()).collect::<Vec<_>>().join(", ")
    }

    /// Kernels go on where they ran; at another number of shards, where those of some shard did.
    fn resume_places(&mut self, metas: &[serde_json::Map<String, serde_json::Value>]) {
        let of_shard = |meta: &&serde_json::Map<String, serde_json::Value>| {
            meta.get(SHARD).and_then(serde_json::Value::as_u64) == Some(u64::from(self.owned.start))
        };
        let Some(meta) = metas.iter().find(of_shard).or(metas.first()) else { return };
        let places = meta.get(PLACES).and_then(serde_json::Value::as_array);
        for (scorer, place) in self.scorers.iter_mut().zip(places.into_iter().flatten()) {
            if let (Some(batches), Some(device)) = (place[0].as_u64(), place[1].as_bool()) {
                scorer.resume(batches, if device { Side::Device } else { Side::Cpu });
            }
        }
    }

    fn put_states(&mut self, slots: &[u32], state: &mut StateWriter) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut columns = self.partitions.columns(Slots::Some(slots))?;
        let mut words = Vec::new();
        for scorer in &mut self.scorers {
            scorer.sync();
            words.clear();
            slots.iter().for_each(|slot| scorer.read_slot(*slot, &mut words));
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let width = (scorer.state_shape().words_per_slot() * 4) as i32;
            columns.push(Arc::new(FixedSizeBinaryArray::try_new(width, bytes.into(), None)?));
        }
        state.put(PARTITIONS, batch_of(&self.state_schema, columns, slots.len())?);
        Ok(())
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
            if let Some(ticket) = self.start(batch)? {
                return Ok(Progress::Pending(ticket));
            }
            self.finish(out)?;
        }
        Ok(Progress::Done)
    }

    fn recall(&mut self, answers: &[RecordBatch]) -> Result<()> {
        let mut moves: Vec<Vec<Switch>> = vec![Vec::new(); self.scorers.len()];
        for answer in answers {
            if answer.schema().fields() != answers_schema().fields() {
                return Err(EngineError::bug("the step log has answers of another operator for `Score`"));
            }
            let word = |column: usize, row: usize| answer.column(column).as_primitive::<UInt32Type>().value(row);
            // At another number of shards a shard follows the one that had its first keys then.
            let mine = u32::from(self.owned.start);
            for row in (0..answer.num_rows()).filter(|row| word(0, *row) <= mine && mine < word(1, *row)) {
                let recorded = answer.column(3).as_primitive::<UInt64Type>().value(row);
                let side = if answer.column(4).as_boolean().value(row) { Side::Device } else { Side::Cpu };
                let call = word(2, row) as usize;
                if let (Some(moves), Some(scorer)) = (moves.get_mut(call), self.scorers.get(call)) {
                    // Its batches are counted otherwise then: the move is one of this step.
                    let same = word(0, row) == mine && word(1, row) == u32::from(self.owned.end);
                    let next = scorer.place().0;
                    moves.push(Switch { step: if same { recorded.max(next) } else { next }, side });
                }
            }
        }
        self.scorers.iter_mut().zip(moves).for_each(|(scorer, moves)| scorer.recall(&moves));
        Ok(())
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        state.meta.insert(ARRIVALS.into(), self.buffer.kept.next_arrival.into());
        state.meta.insert(SHARD.into(), self.owned.start.into());
        let places = self.scorers.iter().map(|scorer| {
            let (batches, side) = scorer.place();
            serde_json::Value::from(vec![batches.into(), serde_json::Value::from(side == Side::Device)])
        });
        state.meta.insert(PLACES.into(), places.collect());
        state.meta.insert(LAYOUTS.into(), self.layouts().into());
        self.buffer.save(kind, state)?;
        let mut slots = std::mem::take(&mut self.dirty_slots);
        slots.iter().for_each(|slot| self.dirty[*slot as usize] = false);
        if kind == SaveKind::Full {
            slots = self.partitions.live_slots();
        }
        self.put_states(&slots, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.watermark = newest_time(state.metas, WATERMARK);
        let arrivals = state.metas.iter().filter_map(|meta| meta.get(ARRIVALS)?.as_u64()).max().unwrap_or(0);
        for meta in state.metas {
            let found = meta.get(LAYOUTS).and_then(serde_json::Value::as_str).unwrap_or_default();
            if found != self.layouts() {
                return Err(EngineError::Checkpoint {
                    message: format!(
                        "the models of `{NAME}` were saved as `{found}`, not `{}`: by another query or version; start over with `--fresh`",
                        self.layouts()
                    ),
                });
            }
        }
        self.owned = state.owned;
        self.resume_places(state.metas);
        let spec = Arc::clone(&self.spec);
        self.buffer.restore(state, &spec.partition, spec.time(), self.watermark)?;
        let width = spec.partition.len();
        for chunk in state.chunks.iter().filter(|chunk| chunk.table == PARTITIONS) {
            check_chunk(NAME, chunk, &self.state_schema)?;
            let rows = keep_owned(&chunk.rows, 0, width, state.owned)?;
            let mut slots = Vec::new();
            self.partitions.intern(&rows.columns()[..width], rows.num_rows(), &mut slots)?;
            for (scorer, column) in self.scorers.iter_mut().zip(&rows.columns()[width..]) {
                let states = column.as_fixed_size_binary();
                let words: Vec<u32> = (0..slots.len())
                    .flat_map(|row| states.value(row).chunks_exact(4))
                    .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
                    .collect();
                scorer.load(&slots, &words);
            }
        }
        self.dirty.resize(self.partitions.slot_count(), false);
        // They are all in the store.
        self.buffer.kept.take_unsaved();
        // The rows of several shards, numbered anew, may be more than any of these had counted.
        let arrivals = arrivals.max(self.buffer.kept.next_arrival);
        self.buffer.kept.next_arrival = arrivals;
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let scorers: usize = self.scorers.iter().map(|scorer| scorer.bytes()).sum();
        self.buffer.bytes() + self.partitions.bytes() + scorers + self.slots.capacity() * 4
    }

    fn state_rows(&self) -> usize {
        self.buffer.kept.rows.len() + self.partitions.len()
    }

    fn placements(&self) -> Vec<Placed> {
        let calls = self.spec.calls.iter().zip(&self.scorers);
        let decided = calls.filter_map(|(call, scorer)| {
            let decision = scorer.decision()?.clone();
            let (fall_backs, replayed_batches) = scorer.fall_backs();
            Some(Placed { what: call.method.description().name.to_string(), decision, fall_backs, replayed_batches })
        });
        decided.collect()
    }
}
