//! One run of one query: the session, its tables, the clock.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use eagre_datasets::nexmark::NexmarkTable;
use eagre_engine::EngineError;
use eagre_engine::graph::NodeKind;
use eagre_engine::metrics::Metrics;
use eagre_engine::runtime::StepObserver;
use eagre_sql::catalog::TableDefinition;
use eagre_sql::planner::Job;
use serde::Serialize;

use super::args::{SinkKind, SourceKind};
use super::input::{self, EVENT_TIME, Events, Feed, Gate, Memory, Pace, SlicedSource, WATERMARK_DELAY};
use super::latency::{Latency, Recorder};
use super::process;
use super::query::{self, Folder, Query};
use super::sink::MeasuringFactory;
use crate::error::{Error, Result};
use crate::session::{Session, SessionBuilder};
use crate::source::memory::MemorySource;

/// What a run reads.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// Events of the generator.
    Stream(Events, Feed),
    /// Rows of the keyed queries.
    Keyed(Arc<Vec<RecordBatch>>),
    /// Files of others in a folder, and how many rows they have.
    Parquet(Arc<Path>, u64),
    /// Rows of others' files, in memory.
    Tables(Rows),
}

/// How a query is run.
#[derive(Debug, Clone)]
pub(super) struct Setup<'a> {
    pub folder: &'a Folder,
    pub input: Input,
    pub shards: u64,
    pub rows_per_step: u64,
    pub device: Option<&'a str>,
    /// The folder of checkpoints.
    pub state: Option<&'a str>,
    pub pace: Option<Arc<Pace>>,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    pub query: String,
    /// Where events came from, see `--source`.
    pub source: String,
    /// What became of the output.
    pub sink: String,
    pub shards: u64,
    pub rows_per_step: u64,
    /// Events of all tables, read or not; for keyed queries rows.
    pub events: u64,
    /// Events that pass in one second of event time.
    pub event_time_rate: Option<u64>,
    /// Rows that the query read.
    pub rows: u64,
    /// Rows that came out, insertions and retractions.
    pub rows_out: u64,
    pub seconds: f64,
    pub events_per_s: f64,
    pub cpu_seconds: f64,
    pub events_per_cpu_s: f64,
    /// CPU seconds per second.
    pub cores: f64,
    pub steps: u64,
    pub step_ms_p50: f64,
    pub step_ms_p99: f64,
    pub step_ms_max: f64,
    /// Resident before the run: with `memory`, the events above all.
    pub rss_mib_start: f64,
    pub rss_mib_max: f64,
    /// The most state at any time, as operators count it.
    pub state_mib_max: f64,
    pub state_rows_max: u64,
    pub rows_late: u64,
    pub checkpoints: Option<Checkpoints>,
    /// DataFusion's batch answer, one core.
    pub datafusion_events_per_s: Option<f64>,
    /// Events per CPU second as a multiple of each peer's.
    pub times_peer: BTreeMap<String, f64>,
    /// Whether the answer was right.
    pub answer: String,
    /// The run at a fixed rate.
    pub latency: Option<AtRate>,
}

/// What checkpoints cost.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Checkpoints {
    pub count: u64,
    pub mib: f64,
    pub mib_per_s: f64,
    /// What steps waited for, in all.
    pub save_ms: f64,
    /// The longest.
    pub save_ms_max: f64,
    /// CPU seconds on top of a run without, as a share of it.
    pub cost: Option<f64>,
}

/// A run at a fixed rate.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AtRate {
    pub events_per_s: u64,
    pub checkpoints: u64,
    pub step_ms_max: f64,
    /// CPU seconds per second.
    pub cores: f64,
    #[serde(flatten)]
    pub latency: Latency,
}

/// A query that was planned, with all that watches it.
struct Planned {
    session: Session,
    job: Job,
    rows_out: Arc<AtomicU64>,
    recorder: Option<Arc<Recorder>>,
}

impl Setup<'_> {
    fn builder(&self) -> SessionBuilder {
        let mut builder = Session::builder()
            .set("eagre.shards", self.shards.to_string())
            .set("eagre.step.rows_max", self.rows_per_step.to_string());
        if let Some(device) = self.device {
            builder = builder.set("eagre.device", device);
        }
        if let Input::Parquet(..) | Input::Tables(_) = self.input {
            // Tables are read side by side: none may run ahead of the others in event time.
            builder = builder.set("eagre.source.max_drift", "1 s");
        }
        if let Some(state) = self.state {
            builder = builder.state(state).fresh(true);
        }
        builder
    }

    /// A session with all tables and functions; the gate is for the tables that a job reads.
    pub(super) fn session(&self) -> Result<(Session, Arc<Gate>)> {
        let session = self.builder().build()?;
        let gate = Arc::new(Gate::default());
        session.prepare(query::FUNCTIONS)?;
        session.prepare(&self.folder.side_input())?;
        match &self.input {
            Input::Keyed(batches) => {
                let schema = input::keyed_schema();
                let table = TableDefinition::from_schema("keyed", &schema)
                    .with_watermark("ts", Some(&format!("ts - {WATERMARK_DELAY}")))?;
                let source = MemorySource::new("keyed", schema, batches.as_ref().clone());
                session.register_source(table, Arc::new(source))?;
            }
            Input::Stream(events, feed) => {
                for table in NexmarkTable::ALL {
                    let source = SlicedSource {
                        table,
                        events: events.clone(),
                        feed: feed.clone(),
                        gate: Arc::clone(&gate),
                        pace: self.pace.clone(),
                    };
                    session.register_source(definition(table)?, Arc::new(source))?;
                }
            }
            Input::Tables(rows) => {
                let mut tables = rows.tables();
                for table in NexmarkTable::ALL {
                    let batches = tables.remove(table.name()).unwrap_or_default();
                    let source = MemorySource::new(table.name(), Arc::clone(table.schema()), batches);
                    session.register_source(definition(table)?, Arc::new(source))?;
                }
            }
            Input::Parquet(folder, _) => {
                for table in NexmarkTable::ALL {
                    let path = parquet_path(folder, table)?.replace('\'', "''");
                    let create = definition(table)?.create_statement();
                    session.prepare(&format!(
                        "{create} WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = '{path}')"
                    ))?;
                }
            }
        }
        Ok((session, gate))
    }

    fn plan(&self, query: &Query, sink: SinkKind) -> Result<Planned> {
        let (session, gate) = self.session()?;
        let prepared = session.prepare(&query.measured_text(self.folder))?;
        let mut job = prepared.job.ok_or_else(|| Error::usage("the text holds no query"))?;
        let tables: Vec<Option<NexmarkTable>> = source_tables(&job)
            .iter()
            .map(|name| NexmarkTable::ALL.into_iter().find(|table| table.name() == name.as_str()))
            .collect();
        gate.open(&tables.iter().flatten().copied().collect::<Vec<_>>());
        let recorder = self.pace.clone().map(|pace| Arc::new(Recorder::new(pace, tables)));
        let rows_out = Arc::new(AtomicU64::new(0));
        if !query.writes_files() {
            for output in 0..job.outputs.len() {
                let factory = MeasuringFactory {
                    hash: sink == SinkKind::Hash,
                    rows: Arc::clone(&rows_out),
                    recorder: recorder.clone(),
                };
                job.attach_results(output, Arc::new(factory));
            }
        }
        Ok(Planned { session, job, rows_out, recorder })
    }
}

/// The tables of a job's sources, in graph order.
fn source_tables(job: &Job) -> Vec<String> {
    let sources = job.graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Source(source) => Some(source.table.clone()),
        _ => None,
    });
    sources.collect()
}

/// Opens the gate for the tables that a job reads.
pub(super) fn open_gate(gate: &Gate, job: &Job) {
    let names = source_tables(job);
    let read = |table: &NexmarkTable| names.iter().any(|name| name == table.name());
    gate.open(&NexmarkTable::ALL.into_iter().filter(read).collect::<Vec<_>>());
}

fn definition(table: NexmarkTable) -> Result<TableDefinition> {
    let definition = TableDefinition::from_schema(table.name(), table.schema());
    Ok(definition.with_watermark(EVENT_TIME, Some(&format!("\"{EVENT_TIME}\" - {WATERMARK_DELAY}")))?)
}

/// `DIR/bid.parquet`, or the folder `DIR/bid`.
fn parquet_path(folder: &Path, table: NexmarkTable) -> Result<String> {
    let file = folder.join(format!("{}.parquet", table.name()));
    let files = folder.join(table.name());
    match (file.is_file(), files.is_dir()) {
        (true, _) => Ok(file.display().to_string()),
        (_, true) => Ok(files.display().to_string()),
        _ => Err(Error::usage(format!(
            "`{}` holds neither the file `{name}.parquet` nor a folder `{name}`",
            folder.display(),
            name = table.name()
        ))),
    }
}

/// Runs a query as fast as it goes.
pub(super) fn measure(query: &Query, source: &SourceKind, sink: SinkKind, setup: &Setup<'_>) -> Result<Figure> {
    setup.folder.clear(query.name);
    let planned = setup.plan(query, sink)?;
    process::reset_peak_memory();
    let rss_mib_start = process::memory_mib();
    let run = planned.run(query, setup)?;
    let rss_mib_max = process::peak_memory_mib();
    setup.folder.clear(query.name);
    let metrics = run.metrics.snapshot();
    let (events, event_time_rate) = match &setup.input {
        Input::Stream(events, _) => (events.count(), Some(events.rate())),
        Input::Parquet(_, rows) => (*rows, None),
        Input::Keyed(_) | Input::Tables(_) => (run.rows_read, None),
    };
    let checkpoints = setup.state.is_some().then(|| Checkpoints {
        count: metrics.checkpoints,
        mib: mib(metrics.checkpoint_bytes),
        mib_per_s: mib(metrics.checkpoint_bytes) / run.seconds,
        save_ms: metrics.checkpoint_save_ns as f64 / 1e6,
        save_ms_max: metrics.checkpoint_save_ns_max as f64 / 1e6,
        cost: None,
    });
    let rows_out = match query.writes_files() {
        true => metrics.nodes.iter().filter(|node| node.label.table == "nexmark_q10").map(|node| node.rows_in).sum(),
        false => run.rows_out,
    };
    Ok(Figure {
        query: query.name.to_owned(),
        source: source.name().to_owned(),
        sink: match (query.writes_files(), sink) {
            (true, _) => "files",
            (false, SinkKind::Hash) => "hash",
            (false, SinkKind::Blackhole) => "blackhole",
        }
        .to_owned(),
        shards: setup.shards,
        rows_per_step: setup.rows_per_step,
        events,
        event_time_rate,
        rows: run.rows_read,
        rows_out,
        seconds: run.seconds,
        events_per_s: events as f64 / run.seconds,
        cpu_seconds: run.cpu_seconds,
        // The system counts in hundredths: a run that took no time took less than one.
        events_per_cpu_s: events as f64 / run.cpu_seconds.max(0.01),
        cores: run.cpu_seconds / run.seconds,
        steps: metrics.steps,
        step_ms_p50: metrics.step_ns_p50 as f64 / 1e6,
        step_ms_p99: metrics.step_ns_p99 as f64 / 1e6,
        step_ms_max: metrics.step_ns_max as f64 / 1e6,
        rss_mib_start,
        rss_mib_max,
        state_mib_max: mib(run.state_bytes_max),
        state_rows_max: run.state_rows_max,
        rows_late: metrics.nodes.iter().map(|node| node.rows_late).sum(),
        checkpoints,
        datafusion_events_per_s: None,
        times_peer: BTreeMap::new(),
        answer: String::new(),
        latency: None,
    })
}

/// Runs a query at the setup's pace.
pub(super) fn measure_latency(query: &Query, sink: SinkKind, events_per_s: u64, setup: &Setup<'_>) -> Result<AtRate> {
    setup.folder.clear(query.name);
    let planned = setup.plan(query, sink)?;
    let recorder = planned.recorder.clone();
    let run = planned.run(query, setup)?;
    setup.folder.clear(query.name);
    let metrics = run.metrics.snapshot();
    let latency = recorder.and_then(|recorder| recorder.finish());
    Ok(AtRate {
        events_per_s,
        checkpoints: metrics.checkpoints,
        step_ms_max: metrics.step_ns_max as f64 / 1e6,
        cores: run.cpu_seconds / run.seconds,
        latency: latency.ok_or_else(|| Error::usage("no event was measured; give more --rate-seconds"))?,
    })
}

struct Run {
    seconds: f64,
    cpu_seconds: f64,
    rows_read: u64,
    rows_out: u64,
    state_bytes_max: u64,
    state_rows_max: u64,
    metrics: Arc<Metrics>,
}

impl Planned {
    fn run(self, query: &Query, setup: &Setup<'_>) -> Result<Run> {
        let observer = self.recorder.map(|recorder| recorder as Arc<dyn StepObserver>);
        let (cpu, started) = (process::cpu_seconds(), Instant::now());
        let job = self.session.start_as_is(self.job, setup.state.map(|_| query.text), observer)?;
        let metrics = job.metrics().cloned().ok_or_else(|| Error::usage("the pipeline has no metrics"))?;
        let watch = StateWatch::start(Arc::clone(&metrics));
        let summary = job.wait_blocking();
        let (seconds, cpu_seconds) = (started.elapsed().as_secs_f64(), process::cpu_seconds() - cpu);
        let (state_bytes_max, state_rows_max) = watch.stop();
        let rows_read = summary?.rows_read;
        let rows_out = self.rows_out.load(Ordering::Relaxed);
        Ok(Run { seconds, cpu_seconds, rows_read, rows_out, state_bytes_max, state_rows_max, metrics })
    }
}

/// Looks at the size of the state now and then: at the end of the input it is what is left when all windows have closed.
struct StateWatch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u64, u64)>,
}

impl StateWatch {
    const INTERVAL: Duration = Duration::from_millis(50);

    fn start(metrics: Arc<Metrics>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut bytes, mut rows) = (0, 0);
            loop {
                bytes = metrics.state_bytes().max(bytes);
                rows = metrics.state_rows().max(rows);
                if stopped.load(Ordering::Acquire) {
                    return (bytes, rows);
                }
                std::thread::park_timeout(Self::INTERVAL);
            }
        });
        Self { stop, thread }
    }

    /// The most bytes and rows that were seen.
    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_default()
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Events per second of DataFusion's batch answer.
pub(super) fn datafusion_rate(query: &Query, setup: &Setup<'_>, rows: &Rows) -> Result<f64> {
    let (session, _) = setup.session()?;
    let tables = rows.tables();
    let started = Instant::now();
    std::hint::black_box(session.answer_at_once(query.text, &tables)?);
    Ok(rows.events as f64 / started.elapsed().as_secs_f64())
}

/// How many rows a table has.
pub(super) fn count_rows(session: &Session, table: NexmarkTable) -> Result<u64> {
    let text = format!("SELECT count(*) FROM {}", table.name());
    let mut job = session.execute(&text)?.job.ok_or_else(|| Error::usage("the text holds no query"))?;
    let rows = job.take_results().remove(0).collect_blocking()?;
    job.wait_blocking()?;
    let count = rows.iter().find(|batch| batch.num_rows() > 0).map(|batch| batch.column(0).as_primitive::<Int64Type>());
    Ok(count.map_or(0, |count| count.value(0) as u64))
}

/// The first rows of a table, at most `rows_max`.
pub(super) fn all_rows(session: &Session, table: NexmarkTable, rows_max: u64) -> Result<Vec<RecordBatch>> {
    let mut job = session
        .execute(&format!("SELECT * FROM {}", table.name()))?
        .job
        .ok_or_else(|| Error::usage("the text holds no query"))?;
    let mut stream = job.take_results().remove(0);
    let (mut batches, mut left) = (Vec::new(), usize::try_from(rows_max).unwrap_or(usize::MAX));
    while let Some(change) = stream.blocking_next() {
        let batch = change.batch.slice(0, change.batch.num_rows().min(left));
        left -= batch.num_rows();
        batches.push(
            RecordBatch::try_new(Arc::clone(table.schema()), batch.columns().to_vec()).map_err(EngineError::from)?,
        );
        if left == 0 {
            job.stop();
        }
    }
    job.wait_blocking()?;
    Ok(batches)
}

/// Finished tables, for batch engines and oracles.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub events: u64,
    pub kind: RowsKind,
}

#[derive(Debug, Clone)]
pub(super) enum RowsKind {
    Nexmark(Arc<Memory>),
    Keyed(Arc<Vec<RecordBatch>>),
}

impl Rows {
    pub(super) fn tables(&self) -> std::collections::HashMap<String, Vec<RecordBatch>> {
        match &self.kind {
            RowsKind::Nexmark(memory) => NexmarkTable::ALL
                .into_iter()
                .map(|table| (table.name().to_owned(), memory.table(table).to_vec()))
                .collect(),
            RowsKind::Keyed(batches) => [("keyed".to_owned(), batches.as_ref().clone())].into(),
        }
    }
}
