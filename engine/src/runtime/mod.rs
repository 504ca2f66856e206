//! Running a graph: reader threads, the coordinator that cuts steps, shards, sink threads and the checkpointer.
//!
//! ```text
//! readers --(bounded queue each)--> coordinator --steps--> shards --(whole steps)--> sinks
//!                                        |                    |                        |
//!                                        +------ parts of a checkpoint ----------------+--> checkpointer
//! ```
//! The coordinator decides everything that could vary and writes it down; shards and operators are pure functions of that. With one
//! shard the steps run on the coordinator's own thread and nothing is handed over; with several, each has a thread and the coordinator
//! keeps a bounded number of steps in flight.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::checkpoint::{CheckpointStore, Compression, Manifest};
use crate::error::{EngineError, Result};
use crate::graph::{Graph, NodeKind, OperatorId, SinkNode};
use crate::log::{StepRecord, Taken};
use crate::metrics::{Metrics, NodeLabel};
use crate::sink::Sink;
use crate::thread::spawn;

mod coordinator;
mod input;
mod output;
mod shard;
#[cfg(test)]
mod tests;
mod watermarks;

/// Time, handed in: the engine reads no clock of its own.
pub trait Clock: Send + Sync {
    /// Processing time in milliseconds since 1970 (UTC). Recorded for each step.
    fn now_ms(&self) -> i64;
    /// Nanoseconds from any fixed point, for metrics only; never seen by an operator.
    fn monotonic_ns(&self) -> u64;
}

/// Told what each step took and when it had run, for measurements. Called on the coordinator's thread: an observer that dawdles slows
/// every step.
pub trait StepObserver: Send + Sync {
    /// Step `step` was cut, with these rows. Steps are cut in order.
    fn cut(&self, step: u64, taken: &[Taken]);
    /// All shards have run the step; what it gave may still wait for its sink.
    fn done(&self, step: u64);
}

/// Plain values that a pipeline runs with.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// Copies of the graph, 1 to 1,024.
    pub shards: usize,
    /// The most rows of a step, over all sources and shards.
    pub rows_max: usize,
    /// The most rows of a step, over all sources and shards, where operators have [many keys](crate::operator::Operator::keys); less than
    /// `rows_max`: as many.
    pub rows_max_by_keys: usize,
    /// The most bytes of a step, over all sources and shards.
    pub bytes_max: u64,
    /// How many batches a reader may have ready.
    pub queue_batches: usize,
    /// How many steps a fast shard may be ahead of a slow one.
    pub steps_in_flight: u64,
    /// Processing time between checkpoints.
    pub checkpoint_interval_ms: u64,
    /// A checkpoint after every so many steps besides; 0: by the interval alone.
    pub checkpoint_steps: u64,
    /// How many checkpoints are kept.
    pub checkpoint_retain: usize,
    /// How state files are compressed; `None`: where the store is not [near](CheckpointStore::is_near).
    pub checkpoint_compression: Option<Compression>,
    /// State beyond this ends the pipeline; 0: no bound.
    pub memory_max_bytes: u64,
    /// A source this far ahead of the slowest one, in event time, waits; 0: never.
    pub max_drift_ms: u64,
    /// Seed of all randomness; a resumed pipeline keeps that of its checkpoint.
    pub seed: u64,
    /// Names this run among all that write to one store.
    pub run: String,
    /// Whether the steps are written down for a replay.
    pub log_steps: bool,
    /// Whether a pipeline that begins runs a step before anything has come, for those who read what it keeps.
    pub first_step: bool,
    /// Fault injection for simulations: the pipeline vanishes after this step, as by `kill -9`.
    pub abort_after_step: Option<u64>,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            rows_max: 65_536,
            rows_max_by_keys: 0,
            bytes_max: 64 << 20,
            queue_batches: 16,
            steps_in_flight: 4,
            checkpoint_interval_ms: 1_000,
            checkpoint_steps: 0,
            checkpoint_retain: 3,
            checkpoint_compression: None,
            memory_max_bytes: 0,
            max_drift_ms: 0,
            seed: 1,
            run: "run".to_owned(),
            log_steps: true,
            first_step: false,
            abort_after_step: None,
        }
    }
}

/// Where steps come from.
#[derive(Debug, Default)]
pub enum Mode {
    /// From the sources, as they come.
    #[default]
    Live,
    /// From the log: exactly these steps, in order.
    Replay(Vec<StepRecord>),
}

/// Everything that a pipeline is started with.
pub struct Start {
    /// What runs.
    pub graph: Graph,
    /// How.
    pub config: PipelineConfig,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// `Some`: checkpoints are written here.
    pub store: Option<Arc<dyn CheckpointStore>>,
    /// The checkpoint to start from, and the store that it lies in.
    pub restore: Option<(Manifest, Arc<dyn CheckpointStore>)>,
    /// Live or replay.
    pub mode: Mode,
    /// Watches the steps.
    pub observer: Option<Arc<dyn StepObserver>>,
}

/// A running pipeline.
pub struct Pipeline {
    control: Sender<Event>,
    thread: Option<JoinHandle<Result<Summary>>>,
    metrics: Arc<Metrics>,
}

/// How a pipeline ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The last step.
    pub steps: u64,
    /// Rows read in this run.
    pub rows_read: u64,
    /// Unreadable rows in this run.
    pub bad_rows: u64,
    /// Whether all input was read (else it was stopped).
    pub finished: bool,
    /// The newest checkpoint.
    pub checkpoint: Option<u64>,
}

/// What reaches the coordinator besides rows.
pub(crate) enum Event {
    StepDone { step: u64, cut_ns: u64 },
    Failed(EngineError),
    Written(Result<crate::checkpoint::writer::Written>),
    SinkFinished,
    Stop,
    Drain,
    Abort,
    Checkpoint,
}

impl Pipeline {
    /// Opens sources and sinks, restores state and starts the steps.
    ///
    /// # Errors
    /// What can be told before the first step: a source that cannot be opened, a checkpoint that is damaged or of another query.
    pub fn start(start: Start) -> Result<Self> {
        let labels = start.graph.nodes.iter().enumerate().map(|(index, node)| NodeLabel {
            node: index,
            name: node.name().to_owned(),
            table: match &node.kind {
                NodeKind::Source(source) => source.table.clone(),
                NodeKind::Sink(sink) => sink.table.clone(),
                NodeKind::Operator(factory) => factory.table().unwrap_or_default().to_owned(),
                NodeKind::Union => String::new(),
            },
        });
        let metrics = Metrics::new(labels.collect(), start.config.shards);
        let (control, events) = unbounded();
        let coordinator = coordinator::Coordinator::open(start, Arc::clone(&metrics), control.clone(), events)?;
        let thread = spawn("eagre-steps", move || coordinator.run())?;
        Ok(Self { control, thread: Some(thread), metrics })
    }

    /// Asks for an orderly stop: no more rows are taken, a checkpoint is written, sinks publish it.
    pub fn stop(&self) {
        let _ = self.control.send(Event::Stop);
    }

    /// Asks for an orderly stop after which nothing that readers took from outside is lost: they stop, and what they have handed over is
    /// worked on first. For a pipeline that goes on as another graph.
    pub fn drain(&self) {
        let _ = self.control.send(Event::Drain);
    }

    /// Ends at once as by `kill -9`: nothing is saved or published any more.
    pub fn abort(&self) {
        let _ = self.control.send(Event::Abort);
    }

    /// Asks for a checkpoint with the next step.
    pub fn checkpoint(&self) {
        let _ = self.control.send(Event::Checkpoint);
    }

    /// A handle that can stop the pipeline from elsewhere (a signal handler).
    pub fn stopper(&self) -> Stopper {
        Stopper(self.control.clone())
    }

    /// The counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether the pipeline has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// What ended the pipeline, if not its input or [`stop`](Self::stop).
    pub fn wait(mut self) -> Result<Summary> {
        let thread = self.thread.take().expect("wait consumes the pipeline");
        join(thread)?
    }
}

/// Opens a sink of a pipeline that has ended, and has it publish what it had staged for the last checkpoint: the pipeline may have been killed
/// before that was done, or it was refused. All that is left is to finish it.
///
/// # Errors
/// The sink cannot be opened, or cannot publish.
pub fn publish_ended(id: OperatorId, sink: &SinkNode, manifest: &Manifest) -> Result<Box<dyn Sink>> {
    let mut opened = sink.factory.create()?;
    opened.publish_ended(manifest.sink_transaction(&id.to_string()))?;
    Ok(opened)
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.abort();
            let _ = thread.join();
        }
    }
}

/// Stops a pipeline from elsewhere.
#[derive(Clone)]
pub struct Stopper(Sender<Event>);

impl Stopper {
    /// As [`Pipeline::stop`].
    pub fn stop(&self) {
        let _ = self.0.send(Event::Stop);
    }

    /// As [`Pipeline::drain`].
    pub fn drain(&self) {
        let _ = self.0.send(Event::Drain);
    }

    /// As [`Pipeline::abort`].
    pub fn abort(&self) {
        let _ = self.0.send(Event::Abort);
    }
}

/// Adds up the time that a node works on a thread of its own, for metrics.
pub(crate) struct Stopwatch {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    node: usize,
}

impl Stopwatch {
    pub(crate) fn new(clock: &Arc<dyn Clock>, metrics: &Arc<Metrics>, node: usize) -> Self {
        Self { clock: Arc::clone(clock), metrics: Arc::clone(metrics), node }
    }

    /// Runs `work`, and counts the time that it took.
    pub(crate) fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let started = self.clock.monotonic_ns();
        let done = work();
        self.add_since(started);
        done
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.monotonic_ns()
    }

    pub(crate) fn add_since(&self, started_ns: u64) {
        self.metrics.node(0, self.node).busy_ns.add(self.clock.monotonic_ns() - started_ns);
    }
}

/// A thread whose panic ends the pipeline with an error: who waits for what it owes would wait for ever.
pub(crate) fn spawn_watched<T: Send + 'static>(
    name: &'static str,
    events: &Sender<Event>,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let events = events.clone();
    spawn(name, move || match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(panic) => {
            // Whoever has gone before needs no telling.
            let _ = events.send(Event::Failed(panicked(panic.as_ref())));
            resume_unwind(panic)
        }
    })
}

fn join<T>(thread: JoinHandle<T>) -> Result<T> {
    thread.join().map_err(|panic| panicked(panic.as_ref()))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> EngineError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    EngineError::bug(text.unwrap_or("a thread of the pipeline panicked"))
}

/// Each row as a line of JSON, nulls included.
pub(crate) fn rows_as_json(rows: &RecordBatch) -> Result<Vec<String>> {
    let mut text = Vec::new();
    let options = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = options.build::<_, arrow::json::writer::LineDelimited>(&mut text);
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}

type EventReceiver = Receiver<Event>;
