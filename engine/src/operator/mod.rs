//! Operators: what a pipeline is made of. The contract is [`Operator`]; each file beside this one holds one operator.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::delta::Delta;
use crate::error::Result;
use crate::expr::StepContext;
use crate::time::{EventTimeMs, Watermarks};

/// What an [`Operator`] without state says of it: nothing is saved, restored or counted.
macro_rules! keeps_nothing {
    () => {
        fn save(
            &mut self,
            _kind: $crate::operator::SaveKind,
            _state: &mut $crate::operator::StateWriter,
        ) -> $crate::error::Result<()> {
            Ok(())
        }

        fn restore(&mut self, _state: &$crate::operator::StateReader<'_>) -> $crate::error::Result<()> {
            Ok(())
        }

        fn state_bytes(&self) -> usize {
            0
        }

        fn state_rows(&self) -> usize {
            0
        }
    };
}

pub mod array_lengths;
pub mod asof_join;
pub mod chain;
pub mod changelog_normalize;
pub mod consolidate;
pub mod expand;
mod expiry;
pub mod extreme_filter;
pub mod forecast;
pub mod group_aggregate;
pub mod join;
pub mod lookup_join;
pub mod match_recognize;
pub mod materialize;
mod moves;
pub mod online;
mod ordered;
pub mod over;
pub mod partial_aggregate;
pub mod predict;
pub mod processing_time;
pub mod recursion;
pub mod remote_predict;
pub mod retraction_check;
pub mod score;
pub mod session_window;
pub mod set_operation;
pub mod sort;
pub mod temporal_join;
pub mod top_n;
mod ttl;
pub mod unfounded;
mod wave;
pub mod window;
pub mod window_aggregate;
pub mod window_assign;
pub mod window_reduce;

pub use unfounded::{BadRows, Judge, Unfounded};
pub use wave::StepWave;

/// One operator of a pipeline: this step's changes in, this step's changes out, keyed state in between.
///
/// # When it is called
/// A shard calls [`step`](Self::step) once per step, after the operators before it, with *all* that they produced: nothing of this
/// step comes later. Calls never overlap and steps come in order, so an operator holds no locks. Time is handed in, so it reads no
/// clock: the same calls always give the same output. `step` is also called when the input is empty, because time may have moved.
///
/// # What must hold after
/// - The output is complete for this step, in any order, in deltas of at most [`DELTA_ROWS_MAX`](crate::delta::DELTA_ROWS_MAX) rows.
/// - The cost grew with the step's input and with what became final, never with the history.
/// - Rows for what the watermark at the step's *start* had already closed went to [`Output::late`], all others counted.
///
/// # State
/// Between two steps a shard may call [`save`](Self::save); it hands over frozen Arrow chunks and returns at once, encoding and
/// upload happen elsewhere. [`restore`](Self::restore) is called exactly once, before the first step, with everything that all shards
/// ever saved for this operator and that is still listed (nothing, in a fresh pipeline); the operator keeps the rows of the hash
/// groups that its shard owns now. So a checkpoint restores at any number of shards.
pub trait Operator: Send {
    /// Shown in `EXPLAIN`, metrics and errors, for example `"WindowAggregate"`.
    fn name(&self) -> &'static str;

    /// Takes in the step's deltas of every input port and emits what they change; [`Input::watermarks`] tells what has become final.
    fn step(&mut self, input: Input<'_>, out: &mut Output) -> Result<Progress>;

    /// Hands over frozen chunks of what changed since the last call ([`SaveKind::Changes`]) or of all ([`SaveKind::Full`], after
    /// which everything handed over before is forgotten).
    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()>;

    /// Rebuilds the state from all that was saved, for the hash groups that this shard owns now; tells which those are.
    fn restore(&mut self, state: &StateReader<'_>) -> Result<()>;

    /// In a replay, before each step: what the outside answered then, for this operator on all shards, as it was recorded
    /// ([`Output::answers`]). From the first call on it asks nobody else.
    ///
    /// # Errors
    /// Answers that it did not give.
    fn recall(&mut self, _answers: &[RecordBatch]) -> Result<()> {
        Ok(())
    }

    /// Tells, before the first step, that all rows of the main port go through one exchange: to the owners, among so many shards, of the
    /// hash of `columns`. An operator that gathers its rows from a table may then gather those of each owner by themselves
    /// ([`Output::emit_to`]), which saves gathering them once more; what it [emits](Output::emit) as ever is divided behind it.
    fn exchanged(&mut self, _columns: &[usize], _shards: usize) {}

    /// How many bytes of state are held, for metrics and the memory bound. Cheap: called after every step.
    fn state_bytes(&self) -> usize;

    /// How many rows a [`SaveKind::Full`] save would hand over, about; the checkpointer asks for one when the chunks in the store
    /// hold more than twice as many.
    fn state_rows(&self) -> usize;

    /// How many keys it knows, if a step costs it something for each key that the step has rows of: with many keys steps take in more rows,
    /// where so many wait ([`PipelineConfig::rows_max_by_keys`](crate::runtime::PipelineConfig::rows_max_by_keys)). 0: rows alone count.
    /// Called after every step.
    fn keys(&self) -> usize {
        0
    }

    /// Where its kernels run, and why; for `EXPLAIN ANALYZE` and metrics. Called after every step.
    fn placements(&self) -> Vec<Placed> {
        Vec::new()
    }

    /// What it did that no row of its output tells, by name (words with `_` between), and how often since the pipeline was started; what
    /// never happened may be left out. For `EXPLAIN ANALYZE` and metrics. Called after every step.
    fn incidents(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Where a kernel of an operator runs.
#[derive(Debug, Clone, Serialize)]
pub struct Placed {
    /// What the kernel does, as users name it.
    pub what: String,
    /// What was decided for its last batch.
    #[serde(flatten)]
    pub decision: crate::score::Decision,
    /// How often the CPU has taken over from a failed device.
    pub fall_backs: u64,
    /// Batches that the CPU has done again because of that.
    pub replayed_batches: u64,
}

/// Whether an operator has finished its step.
#[derive(Debug)]
pub enum Progress {
    /// The output of the step is complete.
    Done,
    /// Something outside (a device, a lookup, a remote model) has to answer first; the shard runs what else is ready and calls `step`
    /// again, with empty ports and the same output, when the ticket is redeemed.
    Pending(Ticket),
}

/// What a pending operator waits for.
#[derive(Debug)]
pub struct Ticket(crossbeam_channel::Receiver<()>);

/// Redeems a [`Ticket`], from any thread; dropping it redeems too, so that a dead helper never hangs a shard.
#[derive(Debug)]
pub struct Redeemer(crossbeam_channel::Sender<()>);

impl Ticket {
    /// A ticket and what redeems it.
    pub fn new() -> (Redeemer, Ticket) {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        (Redeemer(sender), Ticket(receiver))
    }

    /// Whether it was redeemed; stays true.
    pub(crate) fn is_redeemed(&self) -> bool {
        !self.0.is_empty() || matches!(self.0.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected))
    }

    pub(crate) fn receiver(&self) -> &crossbeam_channel::Receiver<()> {
        &self.0
    }
}

impl Redeemer {
    /// Lets the shard call the operator again.
    pub fn redeem(self) {
        // A full channel was redeemed already; a closed one has nobody waiting.
        let _ = self.0.try_send(());
    }
}

/// The input of one operator in one step.
#[derive(Debug)]
pub struct Input<'a> {
    /// The deltas of each input port, moved out by the operator.
    pub ports: Vec<Vec<Delta>>,
    /// Step number, processing time and seed.
    pub context: &'a StepContext,
    /// The minimum over the watermarks of the input ports.
    pub watermarks: Watermarks,
}

impl Input<'_> {
    /// The deltas of an operator with one input port.
    pub fn single(&mut self) -> Vec<Delta> {
        debug_assert_eq!(self.ports.len(), 1);
        std::mem::take(&mut self.ports[0])
    }
}

/// What an operator emits in one step.
#[derive(Debug, Default)]
pub struct Output {
    /// The deltas of output port 0.
    pub deltas: Vec<Delta>,
    /// More of them, each for the shard that owns its rows; they come behind the others.
    pub owned: Vec<(usize, Delta)>,
    /// Rows that this operator refused as late (output port 1, see [`late_schema`](crate::graph::late_schema)).
    pub late: Vec<LateRows>,
    /// What the outside answered in this step, for the step log.
    pub answers: Vec<RecordBatch>,
    /// Whether anyone writes them down.
    pub records_answers: bool,
    /// Rows that this operator refused as unreadable (output port 1, see [`errors_schema`](crate::graph::errors_schema)). An operator
    /// refuses in one of the two ways only.
    pub bad: Vec<BadRows>,
    /// Where its kernels leave what they have for the device.
    pub wave: StepWave,
}

impl Output {
    /// Emits a delta on the main port, cut to size; an empty one vanishes.
    pub fn emit(&mut self, delta: Delta) {
        delta.split(&mut self.deltas);
    }

    /// Emits a delta whose rows a shard owns, where the operator was told of the [exchange](Operator::exchanged), cut to size.
    pub fn emit_to(&mut self, shard: usize, delta: Delta) {
        let mut deltas = Vec::new();
        delta.split(&mut deltas);
        self.owned.extend(deltas.into_iter().map(|delta| (shard, delta)));
    }

    /// Refuses rows as unreadable. The runtime sends them to `<table>.errors`.
    pub fn bad(&mut self, rows: BadRows) {
        if rows.rows.num_rows() > 0 {
            self.bad.push(rows);
        }
    }

    /// Refuses rows as late. The runtime completes them with operator and statement and sends them to `<table>.late`.
    pub fn late(&mut self, rows: LateRows) {
        if rows.rows.num_rows() > 0 {
            self.late.push(rows);
        }
    }
}

/// Rows that came after what they belong to was closed.
#[derive(Debug, Clone)]
pub struct LateRows {
    /// Which input they came by, of an operator that has two.
    pub input: Option<usize>,
    /// The rows as the operator saw them.
    pub rows: RecordBatch,
    /// Their weights, negative for rows that are taken back; `None`: each is inserted.
    pub weights: Option<Int64Array>,
    /// The event time of each row in milliseconds; `i64::MIN` where it is null (such a row belongs to no window).
    pub event_times: Vec<EventTimeMs>,
    /// How many windows each row missed.
    pub windows_missed: Vec<u32>,
    /// The watermark by which they were judged.
    pub watermark: EventTimeMs,
}

/// Port number of the main output.
pub const PORT_MAIN: u8 = 0;
/// Port number of the rows refused as late (operators) or unreadable (sources).
pub const PORT_SIDE: u8 = 1;

/// How much an operator hands over in [`Operator::save`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaveKind {
    /// Everything.
    Full,
    /// What changed since the last save.
    Changes,
}

/// Takes the chunks of one operator in one checkpoint.
#[derive(Debug, Default)]
pub struct StateWriter {
    /// In the order handed over.
    pub chunks: Vec<SavedChunk>,
    /// What the lists in the chunks hold, where their entries count as rows in [`Operator::state_rows`].
    pub entries: u64,
    /// What is small and not keyed (a watermark, a format version), written with every save; the newest of each shard is read.
    pub meta: serde_json::Map<String, serde_json::Value>,
}

impl StateWriter {
    /// Hands over a frozen chunk of the named table; an empty one vanishes.
    pub fn put(&mut self, table: &'static str, rows: RecordBatch) {
        if rows.num_rows() > 0 {
            self.chunks.push(SavedChunk { table, rows, left: None });
        }
    }

    /// Hands over the rows of a chunk where `left` is true. They are gathered by the thread that writes them, as that takes a step longer
    /// than sharing the chunk.
    pub(crate) fn put_left(&mut self, table: &'static str, rows: RecordBatch, left: BooleanArray) {
        if left.true_count() > 0 {
            self.chunks.push(SavedChunk { table, rows, left: Some(left) });
        }
    }

    /// What a restore would be given of this save.
    ///
    /// # Errors
    /// Arrow's, where rows are gathered.
    pub fn saved(&self) -> Result<Vec<StateChunk>> {
        let chunks = self.chunks.iter();
        chunks.map(|chunk| Ok(StateChunk { table: chunk.table.to_owned(), rows: chunk.rows()? })).collect()
    }
}

/// A chunk on its way into a checkpoint.
#[derive(Debug, Clone)]
pub struct SavedChunk {
    /// The table that it is put under.
    pub table: &'static str,
    rows: RecordBatch,
    /// Which of the rows are meant; `None`: all.
    left: Option<BooleanArray>,
}

impl SavedChunk {
    /// All of some rows.
    pub fn new(table: &'static str, rows: RecordBatch) -> Self {
        Self { table, rows, left: None }
    }

    /// Its columns.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    /// How many rows are meant.
    pub fn row_count(&self) -> usize {
        self.left.as_ref().map_or(self.rows.num_rows(), BooleanArray::true_count)
    }

    /// The rows that are meant.
    ///
    /// # Errors
    /// Arrow's, where rows are gathered.
    pub fn rows(&self) -> Result<RecordBatch> {
        match &self.left {
            None => Ok(self.rows.clone()),
            Some(left) => Ok(filter_record_batch(&self.rows, left)?),
        }
    }
}

/// A chunk as it comes back.
#[derive(Debug, Clone)]
pub struct StateChunk {
    /// The table that it was put under.
    pub table: String,
    /// The rows.
    pub rows: RecordBatch,
}

/// Everything saved for one operator by all shards, oldest checkpoint first.
#[derive(Debug)]
pub struct StateReader<'a> {
    /// The chunks in the order of checkpoints; within one, in the order of shards.
    pub chunks: &'a [StateChunk],
    /// The newest meta of each shard that saved.
    pub metas: &'a [serde_json::Map<String, serde_json::Value>],
    /// The hash groups of the restoring shard.
    pub owned: crate::hash::HashGroups,
}

/// Makes the operator of a node, once for each shard.
pub trait OperatorFactory: Send + Sync {
    /// The operator's name, as [`Operator::name`].
    fn name(&self) -> &'static str;
    /// The table whose rows it judges, for metrics; `None`: it judges none.
    fn table(&self) -> Option<&str> {
        None
    }
    /// A fresh operator without state.
    fn create(&self) -> Result<Box<dyn Operator>>;

    /// Whether it refuses rows for what is in them ([`Output::bad`]): these are then rows of `<view>.errors`.
    fn refuses_as_bad(&self) -> bool {
        false
    }
    /// Where it may run, for `EXPLAIN`.
    fn runs_on(&self) -> &'static str {
        "CPU"
    }
    /// How the watermark behind the operator follows from the one before it.
    fn output_watermark(&self) -> OutputWatermark {
        OutputWatermark::Behind(0)
    }
}

/// How the watermark of what leaves an operator follows from that of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputWatermark {
    /// So many milliseconds behind it: an operator that holds rows back says here how far their event times can lie behind.
    Behind(i64),
    /// It is the processing time of the step, which is the event time of the rows from here on. Something can become final only where
    /// it passes `offset_ms` or a multiple of `grain_ms` from there, so that no step need be cut in between.
    Clock {
        /// At least 1.
        grain_ms: i64,
        /// Counted from 1970-01-01T00:00:00Z.
        offset_ms: i64,
    },
}

/// A shared factory.
pub type OperatorFactoryRef = Arc<dyn OperatorFactory>;
