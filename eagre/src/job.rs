//! A running pipeline, its results, and the state folder that it starts from.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use eagre_engine::checkpoint::{self, CheckpointStore, Manifest};
use eagre_engine::graph::{ChangelogMode, NodeKind};
use eagre_engine::log::StepRecord;
use eagre_engine::metrics::Metrics;
use eagre_engine::runtime::{Mode, Pipeline, PipelineConfig, Start, StepObserver, Stopper, Summary, publish_ended};
use eagre_engine::settings::{self, Settings};
use eagre_engine::thread::start_detached;
use eagre_sql::planner::ad_hoc::AdHocQuery;
use eagre_sql::planner::{FinalSort, Job, OutputInfo};

use crate::error::{Error, Result};
use crate::session::Session;
use crate::sink::results::{Change, Materialized, ResultStream, Shown, result_channel};
use crate::state::JobObject;
use crate::views::read::ViewChanges;

/// Where a pipeline keeps its state.
pub(crate) struct StateFolder {
    pub store: Arc<dyn CheckpointStore>,
    pub text: Option<String>,
}

/// A pipeline that runs.
pub struct RunningJob {
    pipeline: Option<Pipeline>,
    /// The session whose views' pipeline this is, which goes on when this handle is dropped.
    views: Option<Session>,
    /// The result of each top-level `SELECT`, in order. Unread results hold the pipeline back: read all of them, or drop them.
    pub results: Vec<QueryResult>,
    already_complete: Option<Summary>,
    metrics: Option<Arc<Metrics>>,
    bounded: bool,
    keeps_state: bool,
}

/// The result of one `SELECT`.
pub struct QueryResult {
    info: ResultInfo,
    rows: ResultRows,
}

/// Where the rows of a result come from.
enum ResultRows {
    /// A pipeline.
    Stream(ResultStream),
    /// A view whose changes are asked for.
    Changes(Box<ViewChanges>),
    /// A query over views, answered when their pipeline has ended.
    AtEnd(Option<(Session, Box<AdHocQuery>)>),
}

/// What is known of a result before its first row.
#[derive(Debug, Clone)]
pub struct ResultInfo {
    /// The columns.
    pub schema: SchemaRef,
    /// Whether the input ends: then the result has an end too.
    pub bounded: bool,
    /// Whether rows can be taken back.
    pub changelog: ChangelogMode,
    /// Columns that identify a row, where known.
    pub key: Option<Vec<usize>>,
    /// The columns of the changes: those of the result, then what only its order needs.
    sink_schema: SchemaRef,
    final_sort: Option<FinalSort>,
}

impl QueryResult {
    /// What is known of it.
    pub fn info(&self) -> &ResultInfo {
        &self.info
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.info.schema
    }

    /// The changes of a view.
    pub(crate) fn of_changes(changes: ViewChanges) -> Self {
        Self { info: changes.info().clone(), rows: ResultRows::Changes(Box::new(changes)) }
    }

    /// The answer of a query over views, once their pipeline has ended.
    pub(crate) fn at_end(session: &Session, query: AdHocQuery, time_zone: &str) -> Self {
        let schema = Arc::clone(Shown::new(&query.schema(), time_zone).schema());
        let info = ResultInfo { bounded: true, ..ResultInfo::of_changes(schema, ChangelogMode::AppendOnly, None) };
        Self { info, rows: ResultRows::AtEnd(Some((session.clone(), Box::new(query)))) }
    }

    /// The next rows that change; `None`: the pipeline has ended, also where it has failed.
    pub async fn next(&mut self) -> Option<Change> {
        match &mut self.rows {
            ResultRows::Stream(stream) => stream.next().await,
            ResultRows::Changes(changes) => changes.next().await.ok().flatten(),
            ResultRows::AtEnd(query) => {
                let (session, query) = query.take()?;
                tokio::task::spawn_blocking(move || answer_at_end(&session, &query)).await.ok()?.ok()
            }
        }
    }

    /// As [`next`](Self::next), for threads outside of an async runtime.
    pub fn blocking_next(&mut self) -> Option<Change> {
        self.try_next().ok().flatten()
    }

    /// As [`blocking_next`](Self::blocking_next), where a query over views can fail.
    fn try_next(&mut self) -> Result<Option<Change>> {
        match &mut self.rows {
            ResultRows::Stream(stream) => Ok(stream.blocking_next()),
            ResultRows::Changes(changes) => changes.blocking_next(),
            ResultRows::AtEnd(query) => {
                query.take().map(|(session, query)| answer_at_end(&session, &query)).transpose()
            }
        }
    }

    /// The changes as a stream.
    ///
    /// # Panics
    /// The system has no thread left.
    pub fn into_stream(mut self) -> ResultStream {
        if let ResultRows::Stream(stream) = self.rows {
            return stream;
        }
        let (sink, stream) = result_channel();
        let pass = move || {
            while let Some(change) = self.blocking_next() {
                if !sink.pass(change) {
                    return;
                }
            }
        };
        start_detached("eagre-result", pass).expect("a thread for the result");
        stream
    }

    /// The final result of bounded input: all changes applied, `ORDER BY` and `LIMIT` honoured.
    ///
    /// # Errors
    /// The rows cannot be sorted; a query over views fails.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        if !matches!(self.rows, ResultRows::Stream(_)) {
            let collected = tokio::task::spawn_blocking(move || self.collect_blocking()).await;
            return collected.map_err(|error| Error::usage(format!("the result was given up: {error}")))?;
        }
        let mut table = Materialized::new(Arc::clone(&self.info.sink_schema));
        while let Some(change) = self.next().await {
            table.apply(&change.batch, change.weights.as_ref())?;
        }
        self.info.finish(table.finish()?)
    }

    /// As [`collect`](Self::collect), for threads outside of an async runtime.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn collect_blocking(mut self) -> Result<Vec<RecordBatch>> {
        let mut table = Materialized::new(Arc::clone(&self.info.sink_schema));
        while let Some(change) = self.try_next()? {
            table.apply(&change.batch, change.weights.as_ref())?;
        }
        self.info.finish(table.finish()?)
    }
}

/// Waits for the end of the views' pipeline, then answers.
fn answer_at_end(session: &Session, query: &AdHocQuery) -> Result<Change> {
    session.inner.views.wait_for_end()?;
    let snapshot = session.snapshot()?;
    let batch = snapshot.answer(query)?.collect_blocking()?;
    Ok(Change { step: snapshot.step(), batch, weights: None })
}

impl ResultInfo {
    /// Of rows and changes that come as they are.
    pub(crate) fn of_changes(schema: SchemaRef, changelog: ChangelogMode, key: Option<Vec<usize>>) -> Self {
        Self { sink_schema: Arc::clone(&schema), schema, bounded: false, changelog, key, final_sort: None }
    }

    /// Whether its rows are those that come, as they come: none is taken back, and no order or limit waits for the end.
    pub(crate) fn only_grows(&self) -> bool {
        self.changelog == ChangelogMode::AppendOnly && self.final_sort.is_none()
    }

    fn finish(&self, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let Some(sort) = &self.final_sort else { return Ok(rows) };
        let whole =
            arrow::compute::concat_batches(&self.sink_schema, &rows).map_err(eagre_engine::EngineError::from)?;
        Ok(vec![sort.apply(&whole)?])
    }
}

impl RunningJob {
    pub(crate) fn start(
        session: &Session,
        mut job: Job,
        settings: &Settings,
        folder: Option<StateFolder>,
        mode: Mode,
    ) -> Result<Self> {
        let store = folder.as_ref().map(|folder| Arc::clone(&folder.store));
        let results = attach_results(&mut job, store.as_ref(), &session.inner.run);
        let mut running = Self::start_as_is(session, job, settings, folder, mode, None)?;
        running.results = results;
        Ok(running)
    }

    /// As [`start`](Self::start), for a job whose results have their sinks already.
    pub(crate) fn start_as_is(
        session: &Session,
        job: Job,
        settings: &Settings,
        folder: Option<StateFolder>,
        mode: Mode,
        observer: Option<Arc<dyn StepObserver>>,
    ) -> Result<Self> {
        let inner = &session.inner;
        let (bounded, keeps_state) = (job.bounded(), folder.is_some());
        let mut restore = None;
        let mut store = None;
        if let Some(folder) = folder {
            let manifest = checkpoint::read_latest(folder.store.as_ref())?;
            // Before the folder is given the text: what is refused changes nothing.
            if let Some(manifest) = &manifest {
                manifest.check_same_query(&job.graph)?;
            }
            if let Some(manifest) = manifest.as_ref().filter(|manifest| manifest.finished) {
                publish_again(&job, manifest)?;
                let summary = Summary {
                    steps: manifest.step,
                    rows_read: 0,
                    bad_rows: 0,
                    finished: true,
                    checkpoint: Some(manifest.checkpoint),
                };
                return Ok(Self {
                    pipeline: None,
                    views: None,
                    results: Vec::new(),
                    already_complete: Some(summary),
                    metrics: None,
                    bounded,
                    keeps_state: true,
                });
            }
            if let Some(text) = &folder.text {
                JobObject::new(text, &session.providers().columns).write(folder.store.as_ref())?;
            }
            restore = manifest.map(|manifest| (manifest, Arc::clone(&folder.store)));
            store = Some(folder.store);
        }
        // Faults are injected into the session's own pipeline, not into those that fill fixtures or measure.
        let abort_after_step = inner.abort_after_step.filter(|_| store.is_some());
        let config = PipelineConfig { abort_after_step, ..pipeline_config(settings, &inner.run) };
        let clock = Arc::clone(&inner.clock);
        let pipeline = Pipeline::start(Start { graph: job.graph, config, clock, store, restore, mode, observer })?;
        let metrics = Some(Arc::clone(pipeline.metrics()));
        let pipeline = Some(pipeline);
        Ok(Self { pipeline, views: None, results: Vec::new(), already_complete: None, metrics, bounded, keeps_state })
    }

    /// Runs logged steps of a planned job again, from `restore` on (or from the beginning), at the shard count that they ran at.
    pub(crate) fn replay(
        session: &Session,
        job: Job,
        shards: usize,
        seed: u64,
        restore: Option<(Manifest, Arc<dyn CheckpointStore>)>,
        records: Vec<StepRecord>,
    ) -> Result<Self> {
        let inner = &session.inner;
        let config = PipelineConfig { shards, seed, ..pipeline_config(&session.settings(), &inner.run) };
        let clock = Arc::clone(&inner.clock);
        let (mode, bounded) = (Mode::Replay(records), job.bounded());
        job.views.begin_unread();
        let graph = job.graph;
        let pipeline = Pipeline::start(Start { graph, config, clock, store: None, restore, mode, observer: None })?;
        let metrics = Some(Arc::clone(pipeline.metrics()));
        let pipeline = Some(pipeline);
        Ok(Self {
            pipeline,
            views: None,
            results: Vec::new(),
            already_complete: None,
            metrics,
            bounded,
            keeps_state: false,
        })
    }

    /// The pipeline of a session's views.
    pub(crate) fn of_views(session: &Session, results: Vec<QueryResult>, already_complete: Option<Summary>) -> Self {
        let current = session.inner.views.current();
        Self {
            pipeline: None,
            views: Some(session.clone()),
            results,
            already_complete,
            metrics: current.as_ref().map(|current| Arc::clone(&current.metrics)),
            bounded: current.as_ref().is_some_and(|current| current.bounded),
            keeps_state: session.inner.store.is_some(),
        }
    }

    /// Whether the state folder says that all input was read before: nothing runs.
    pub fn already_complete(&self) -> Option<&Summary> {
        self.already_complete.as_ref()
    }

    /// Whether the pipeline ends by itself.
    pub fn bounded(&self) -> bool {
        self.bounded
    }

    /// Whether a run that was stopped can go on.
    pub fn keeps_state(&self) -> bool {
        self.keeps_state
    }

    /// Takes the results out, to be read elsewhere.
    pub fn take_results(&mut self) -> Vec<QueryResult> {
        std::mem::take(&mut self.results)
    }

    /// Asks for an orderly stop: no more rows are taken, a checkpoint is written, sinks publish it.
    pub fn stop(&self) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.stop();
        }
        if let Some(session) = &self.views {
            session.inner.views.stop();
        }
    }

    /// Stops the pipeline from elsewhere.
    pub fn stopper(&self) -> Option<Stopper> {
        match &self.views {
            Some(session) => session.inner.views.current()?.stopper,
            None => self.pipeline.as_ref().map(Pipeline::stopper),
        }
    }

    /// Ends at once as by `kill -9`, for simulations.
    pub fn abort(&self) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.abort();
        }
        if let Some(session) = &self.views {
            session.inner.views.abort();
        }
    }

    /// The counters.
    pub fn metrics(&self) -> Option<&Arc<Metrics>> {
        self.metrics.as_ref()
    }

    /// Whether the pipeline has ended.
    pub fn is_finished(&self) -> bool {
        match &self.views {
            Some(session) => session.inner.views.has_ended(),
            None => self.pipeline.as_ref().is_none_or(Pipeline::is_finished),
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// What ended the pipeline, if not its input or [`stop`](Self::stop).
    pub async fn wait(self) -> Result<Summary> {
        tokio::task::spawn_blocking(move || self.wait_blocking())
            .await
            .map_err(|error| Error::usage(format!("the wait was given up: {error}")))?
    }

    /// As [`wait`](Self::wait), for threads outside of an async runtime. Results that were not taken out are dropped.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_blocking(mut self) -> Result<Summary> {
        self.results.clear();
        if let (Some(session), None) = (&self.views, &self.already_complete) {
            return session.inner.views.wait_for_end();
        }
        match (self.pipeline.take(), self.already_complete.take()) {
            (Some(pipeline), _) => Ok(pipeline.wait()?),
            (None, Some(summary)) => Ok(summary),
            (None, None) => Err(Error::usage("the pipeline was taken out")),
        }
    }
}

/// Has the sinks of a job that has ended publish what its last checkpoint covers, where it was killed before they had, or could not; its results
/// go to their readers once more.
///
/// # Errors
/// A sink cannot publish, a result cannot be read.
pub(crate) fn publish_again(job: &Job, manifest: &Manifest) -> Result<()> {
    let is_result = |node: usize| job.outputs.iter().any(|output| output.node == node && output.table.is_none());
    for (index, node) in job.graph.nodes.iter().enumerate() {
        let NodeKind::Sink(sink) = &node.kind else { continue };
        let mut sink = publish_ended(node.id, sink, manifest)?;
        match is_result(index) {
            // It takes as long as its reader, who comes when the job is there.
            true => start_detached("eagre-result", move || _ = sink.finish())?,
            false => sink.finish()?,
        }
    }
    Ok(())
}

/// Gives each top-level `SELECT` a queue to its reader.
pub(crate) fn attach_results(job: &mut Job, store: Option<&Arc<dyn CheckpointStore>>, run: &str) -> Vec<QueryResult> {
    let mut results = Vec::new();
    for index in 0..job.outputs.len() {
        let output = &job.outputs[index];
        if output.table.is_some() {
            continue;
        }
        let (sink, stream) = result_channel();
        let mut sink = sink.shown_as(Shown::new(&output.schema, &output.time_zone));
        let name = job.graph.nodes[output.node].id.to_string();
        if let Some(store) = store.filter(|_| output.bounded) {
            sink = sink.durable(Arc::clone(store), &name, run);
        }
        results.push(QueryResult { info: ResultInfo::from(output), rows: ResultRows::Stream(stream) });
        job.attach_results(index, Arc::new(sink));
    }
    results
}

impl From<&OutputInfo> for ResultInfo {
    fn from(output: &OutputInfo) -> Self {
        let sink_schema = Arc::clone(Shown::new(&output.schema, &output.time_zone).schema());
        Self {
            schema: match &output.final_sort {
                Some(sort) => sort.visible_schema(&sink_schema),
                None => Arc::clone(&sink_schema),
            },
            sink_schema,
            bounded: output.bounded,
            changelog: output.changelog,
            key: output.key.clone(),
            final_sort: output.final_sort.clone(),
        }
    }
}

/// So many times as many rows a step may have where patterns are looked for in many keys: several of each.
const TIMES_BY_KEYS: usize = 4;

/// The engine's plain values from the settings.
pub(crate) fn pipeline_config(settings: &Settings, run: &str) -> PipelineConfig {
    let shards = match settings.count(settings::SHARDS) {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        shards => shards as usize,
    };
    let seed = match settings.count(settings::SEED) {
        0 => xxhash_rust::xxh3::xxh3_64(run.as_bytes()),
        seed => seed,
    };
    // A shard's part of a step is as large beside others as alone: what a step costs whatever its size would else come back with each shard.
    let set = settings.is_set(settings::STEP_ROWS_MAX);
    let rows_max = (settings.count(settings::STEP_ROWS_MAX) as usize).saturating_mul(if set { 1 } else { shards });
    PipelineConfig {
        shards,
        rows_max,
        rows_max_by_keys: rows_max.saturating_mul(if set { 1 } else { TIMES_BY_KEYS }),
        bytes_max: settings.bytes(settings::STEP_BYTES_MAX),
        queue_batches: settings.count(settings::SOURCE_QUEUE_BATCHES) as usize,
        steps_in_flight: settings.count(settings::STEPS_IN_FLIGHT),
        checkpoint_interval_ms: settings.duration_ms(settings::CHECKPOINT_INTERVAL),
        checkpoint_steps: settings.count(settings::CHECKPOINT_STEPS),
        checkpoint_retain: settings.count(settings::CHECKPOINT_RETAIN) as usize,
        // `auto` is none of them.
        checkpoint_compression: settings.text(settings::CHECKPOINT_COMPRESSION).parse().ok(),
        memory_max_bytes: settings.bytes(settings::MEMORY_MAX),
        max_drift_ms: settings.duration_ms(settings::SOURCE_MAX_DRIFT),
        seed,
        run: run.to_owned(),
        log_steps: true,
        first_step: false,
        abort_after_step: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two shards take twice the rows a step that one takes, so that each has as much to do; a bound that was asked for stays what it is.
    #[test]
    fn a_step_grows_with_the_shards() {
        let rows_max = |sets: &[(&str, &str)]| {
            let mut settings = Settings::new();
            sets.iter().for_each(|(name, value)| settings.set(name, value).expect("it takes that"));
            let config = pipeline_config(&settings, "run");
            (config.rows_max, config.rows_max_by_keys)
        };
        let (one, by_keys) = rows_max(&[(settings::SHARDS, "1")]);
        assert!(by_keys > one);
        assert_eq!(rows_max(&[(settings::SHARDS, "2")]), (2 * one, 2 * by_keys));
        assert_eq!(rows_max(&[(settings::SHARDS, "3"), (settings::STEP_ROWS_MAX, "7")]), (7, 7));
    }
}
