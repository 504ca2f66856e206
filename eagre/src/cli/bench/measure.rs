//! One run of one query of Nexmark: the session and its tables.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use eagre_datasets::nexmark::NexmarkTable;
use eagre_engine::EngineError;
use eagre_engine::graph::NodeKind;
use eagre_sql::catalog::TableDefinition;
use eagre_sql::planner::Job;

use super::args::{SinkKind, SourceKind};
use super::figure::{AtRate, Checkpoints, Figure, Subject, mib};
use super::input::{self, EVENT_TIME, Events, Feed, Gate, Memory, Pace, SlicedSource, WATERMARK_DELAY};
use super::latency::Recorder;
use super::query::{self, Folder, Query};
use super::run::Planned;
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

impl Setup<'_> {
    fn builder(&self) -> SessionBuilder {
        let mut builder = Session::builder()
            .set("eagre.shards", self.shards.to_string())
            .set("eagre.step.rows_max", self.rows_per_step.saturating_mul(self.shards.max(1)).to_string());
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
        let job = prepared.job.ok_or_else(|| Error::usage("the text holds no query"))?;
        let tables: Vec<Option<NexmarkTable>> = source_tables(&job)
            .iter()
            .map(|name| NexmarkTable::ALL.into_iter().find(|table| table.name() == name.as_str()))
            .collect();
        gate.open(&tables.iter().flatten().copied().collect::<Vec<_>>());
        let recorder = self.pace.clone().map(|pace| Arc::new(Recorder::new(pace, tables)));
        let mut planned = Planned::new(session, job, recorder);
        if !query.writes_files() {
            planned.measure_results(sink == SinkKind::Hash);
        }
        Ok(planned)
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
    let run = setup.plan(query, sink)?.run(setup.state.map(|_| query.text))?;
    setup.folder.clear(query.name);
    let (events, event_time_rate) = match &setup.input {
        Input::Stream(events, _) => (events.count(), Some(events.rate())),
        Input::Parquet(_, rows) => (*rows, None),
        Input::Keyed(_) | Input::Tables(_) => (run.rows_read, None),
    };
    let subject = Subject {
        query: query.name.to_owned(),
        source: source.name(),
        sink: if query.writes_files() { "files" } else { sink.name() },
        shards: setup.shards,
        rows_per_step: Some(setup.rows_per_step),
        events,
        event_time_rate,
    };
    let mut figure = Figure::of(subject, &run);
    let metrics = run.metrics.snapshot();
    figure.checkpoints = setup.state.is_some().then(|| Checkpoints {
        count: metrics.checkpoints,
        mib: mib(metrics.checkpoint_bytes),
        mib_per_s: mib(metrics.checkpoint_bytes) / run.seconds,
        save_ms: metrics.checkpoint_save_ns as f64 / 1e6,
        save_ms_max: metrics.checkpoint_save_ns_max as f64 / 1e6,
        cost: None,
    });
    if query.writes_files() {
        let written = metrics.nodes.iter().filter(|node| node.label.table == "nexmark_q10");
        figure.rows_out = written.map(|node| node.rows_in).sum();
    }
    Ok(figure)
}

/// Runs a query at the setup's pace.
pub(super) fn measure_latency(query: &Query, sink: SinkKind, events_per_s: u64, setup: &Setup<'_>) -> Result<AtRate> {
    setup.folder.clear(query.name);
    let planned = setup.plan(query, sink)?;
    let recorder = planned.recorder.clone();
    let run = planned.run(setup.state.map(|_| query.text))?;
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
