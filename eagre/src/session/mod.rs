//! A session: a catalog, settings, perhaps a state folder, and the pipelines that its statements start.

mod builder;
mod show;
mod statements;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use eagre_engine::checkpoint::{self, CheckpointStore, Manifest};
use eagre_engine::runtime::{Clock, Mode, StepObserver};
use eagre_engine::settings::{self, Settings};
use eagre_engine::thread::{DEEP_STACK_BYTES, start_detached};
use eagre_sql::catalog::{Catalog, MatchSettings, Relation, Table, TableDefinition};
use eagre_sql::parser::{self, ObjectName, StatementKind};
use eagre_sql::planner::{self, Job};
use tokio::runtime::Runtime;

use crate::config;
use crate::device::{self, DeviceLog};
use crate::error::{Error, Result};
use crate::job::{QueryResult, RunningJob, StateFolder};
use crate::provider::{MEMORY, PUSH, Providers, connector};
use crate::sink::callback::{Callback, CallbackSink};
use crate::source::push::InputHandle;
use crate::state::JobObject;
use crate::views::Views;
use crate::views::change::{self, Outlook};
use crate::views::read::{Snapshot, ViewChanges};
use crate::views::start;
pub use builder::SessionBuilder;
pub(crate) use show::table;
pub use statements::Prepared;
use statements::{Wanted, changes_views};

/// Runs statements. Clones are the same session.
#[derive(Clone)]
pub struct Session {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    io: Option<Runtime>,
    pub clock: Arc<dyn Clock>,
    pub store: Option<Arc<dyn CheckpointStore>>,
    pub run: String,
    pub abort_after_step: Option<u64>,
    pub views: Arc<Views>,
    progress_log: DeviceLog,
    state: Mutex<State>,
}

impl Inner {
    /// The threads that wait for input and output, and answer queries over views.
    pub(crate) fn io(&self) -> Result<&tokio::runtime::Handle> {
        self.io.as_ref().map(Runtime::handle).ok_or_else(|| Error::usage("the session is gone"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.views.abort();
        if let Some(io) = self.io.take() {
            shut_down(io);
        }
    }
}

/// Ends a runtime without waiting for its threads here, which is not allowed where a session may be dropped: inside another runtime.
/// They are joined all the same, as [`eagre_engine::thread`] asks.
fn shut_down(io: Runtime) {
    let (sender, receiver) = std::sync::mpsc::channel::<Runtime>();
    match start_detached("eagre-io-ending", move || drop(receiver.recv())) {
        Ok(()) => drop(sender.send(io)),
        Err(_) => io.shutdown_background(),
    }
}

struct State {
    catalog: Catalog,
    settings: Settings,
    /// What `RESET` goes back to: the settings before any statement.
    base: Settings,
    providers: Arc<Providers>,
    /// Whether a pipeline has taken the state folder.
    restored: bool,
    /// Told of what happens to kernels on a device.
    device_log: DeviceLog,
    /// The definitions so far, as written: what a state folder needs to have the views come back.
    definitions: Vec<String>,
}

/// The settings by which statements are planned.
fn apply_settings(settings: &Settings, log: &DeviceLog, catalog: &mut Catalog) {
    catalog.set_time_zone(settings.text(settings::SQL_TIME_ZONE));
    catalog.set_state_ttl_ms(settings.duration_ms(settings::STATE_TTL));
    catalog.set_recursion_max(settings.count(settings::RECURSION_MAX), settings.count(settings::RECURSION_ROWS_MAX));
    catalog.set_approximate(settings.is_true(settings::SQL_APPROXIMATE));
    catalog.set_match_settings(MatchSettings::of(settings));
    catalog.set_placement(device::placement(settings, log));
}

impl State {
    /// Has the statements from here on be planned by the settings.
    fn apply_settings(&mut self) {
        apply_settings(&self.settings, &self.device_log, &mut self.catalog);
    }

    /// The data of a table is about to change, where the session holds it: the queries so far keep what they read. Gives the table.
    fn keep(&mut self, name: &ObjectName) -> Option<Arc<Table>> {
        let Ok(Relation::Table(table)) = self.catalog.lookup(name) else { return None };
        let kind = connector(&table.definition);
        if kind != MEMORY && kind != PUSH {
            return None;
        }
        // Opened now, because the catalogs of earlier queries share this entry. What cannot be opened is told to whoever reads or
        // writes it.
        let _ = self.catalog.source(&table);
        if kind == MEMORY {
            let _ = self.catalog.sink(&table);
            self.providers.freeze(&table.definition);
        }
        self.catalog.renew(&table);
        Some(table)
    }
}

/// What statements gave: tables at once (`SHOW`, `DESCRIBE`, `EXPLAIN`), and a pipeline if there were queries.
pub struct Execution {
    /// In the order of the statements.
    pub tables: Vec<RecordBatch>,
    /// What a user should know, such as state that is never freed.
    pub notices: Vec<String>,
    /// All `INSERT`s and `SELECT`s together, running.
    pub job: Option<RunningJob>,
}

/// Plans where there is room for expressions of a thousand operators, one in the other, whatever the stack of the caller's thread.
pub(crate) fn with_deep_stack<T>(plan: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(DEEP_STACK_BYTES / 2, DEEP_STACK_BYTES, plan)
}

impl Session {
    /// A builder at the defaults.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }

    /// Runs statements: definitions and settings at once, then all queries of the text as one pipeline, which is running when this returns.
    ///
    /// # Errors
    /// The first statement that is wrong, with its place; what can be told of the pipeline before its first step.
    pub async fn sql(&self, text: &str) -> Result<Execution> {
        let session = self.clone();
        let text = text.to_owned();
        // Planning may look at files and buckets: not on a thread of the caller's runtime.
        tokio::task::spawn_blocking(move || session.execute(&text))
            .await
            .map_err(|error| Error::usage(format!("the statement was given up: {error}")))?
    }

    /// As [`sql`](Self::sql), for threads outside of an async runtime.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn execute(&self, text: &str) -> Result<Execution> {
        with_deep_stack(|| self.execute_here(text))
    }

    fn execute_here(&self, text: &str) -> Result<Execution> {
        let statements = parser::parse(text)?;
        if !statements.iter().any(changes_views) {
            let prepared = self.prepare_statements(&statements, text)?;
            return self.run(prepared);
        }
        let (before, definitions) = {
            let state = self.state();
            (state.catalog.clone(), state.definitions.len())
        };
        let change = self.inner.views.change(before.clone());
        let done = self.prepare_statements(&statements, text).and_then(|prepared| self.run(prepared));
        if done.is_err() {
            // The views are what they were, so their names are too.
            let mut state = self.state();
            state.catalog.restore(&before);
            state.definitions.truncate(definitions);
        }
        drop(change);
        done
    }

    fn run(&self, prepared: Prepared) -> Result<Execution> {
        let Prepared { tables, job, text, wanted, views, definitions } = prepared;
        if let (Some(definitions), Some(store)) = (definitions, &self.inner.store) {
            JobObject::new(&definitions, &self.providers().columns).write(store.as_ref())?;
        }
        let mut notices: Vec<String> =
            job.iter().flat_map(|job| &job.notices).map(|notice| notice.message.clone()).collect();
        let time_zone = self.settings().text(settings::SQL_TIME_ZONE).to_owned();
        let (mut running, mut already_complete) = (None, None);
        let streamed = match (job, views) {
            (Some(job), Some(kept)) => match self.inner.views.current() {
                Some(current) => {
                    notices.extend(Outlook::of(&current.graph, &job.graph)?.notices(&job.graph));
                    change::change(self, job, kept, &text)?;
                    Vec::new()
                }
                None => {
                    let (results, complete) = start::start(self, job, kept, &text)?;
                    already_complete = complete;
                    results
                }
            },
            (Some(job), None) => {
                let job = match self.fills_fixtures(&job) {
                    true => self.start_fixtures(job)?,
                    false => self.start(job, Some(&text), Mode::Live)?,
                };
                running.insert(job).take_results()
            }
            // What a text makes and drops again.
            (None, _) if wanted.is_empty() => return Ok(Execution { tables, notices, job: None }),
            (None, _) => Vec::new(),
        };
        let mut streamed = streamed.into_iter();
        let mut results = Vec::new();
        for wanted in wanted {
            match wanted {
                Wanted::Streamed => results.extend(streamed.next()),
                Wanted::AtEnd(query) => results.push(QueryResult::at_end(self, *query, &time_zone)),
                Wanted::Changes(view) => results.push(QueryResult::of_changes(self.subscribe(&view.plain())?)),
            }
        }
        let job = match running {
            Some(mut job) => {
                job.results = results;
                job
            }
            None => RunningJob::of_views(self, results, already_complete),
        };
        Ok(Execution { tables, notices, job: Some(job) })
    }

    /// All materialized views as they are after the newest step that is complete.
    ///
    /// # Errors
    /// There are none, or their pipeline has failed.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let (set, catalog) = self.inner.views.to_read(|| self.state().catalog.clone())?;
        Ok(Snapshot::new(self.clone(), catalog, set.pin()))
    }

    /// The rows of a materialized view as they are after the newest complete step, then the changes of each later step.
    ///
    /// # Errors
    /// There is no such view, or its pipeline has failed.
    pub fn subscribe(&self, view: &str) -> Result<ViewChanges> {
        let set = self.inner.views.readable()?;
        let found = set.view(view).ok_or_else(|| {
            let names: Vec<_> = set.views().iter().map(|view| format!("`{}`", view.name)).collect();
            Error::usage(format!("there is no materialized view `{view}`; there are {}", names.join(", ")))
        })?;
        let subscription = set.subscribe(&found)?;
        let time_zone = self.settings().text(settings::SQL_TIME_ZONE).to_owned();
        Ok(ViewChanges::new(&found, subscription, &time_zone))
    }

    /// The state folder, for the one pipeline that it belongs to.
    pub(crate) fn take_state_folder(&self) -> Result<Option<Arc<dyn CheckpointStore>>> {
        let Some(store) = &self.inner.store else { return Ok(None) };
        if std::mem::replace(&mut self.state().restored, true) {
            return Err(Error::usage(
                "this session's state folder belongs to the pipeline that it started first: statements may ask its materialized views or \
                 change them, and another pipeline is given a session and a state folder of its own",
            ));
        }
        Ok(Some(Arc::clone(store)))
    }

    /// The pipeline that was to have the state folder did not start.
    pub(crate) fn give_back_state_folder(&self) {
        self.state().restored = false;
    }

    /// Starts the views that the session's state folder holds, as the statements made them that a session before has run.
    ///
    /// # Errors
    /// There is no state folder, or it holds nothing; as [`execute`](Self::execute).
    pub fn resume(&self) -> Result<Execution> {
        let nothing = || Error::usage("there is nothing to resume: the session has no state folder, or an empty one");
        let store = self.inner.store.as_ref().ok_or_else(nothing)?;
        let text = JobObject::read(store.as_ref())?.ok_or_else(nothing)?.text;
        self.execute(&text)
    }

    /// Runs definitions and settings, plans queries, starts nothing.
    ///
    /// # Errors
    /// The first statement that is wrong, with its place.
    pub fn prepare(&self, text: &str) -> Result<Prepared> {
        with_deep_stack(|| self.prepare_statements(&parser::parse(text)?, text))
    }

    /// The handle that pushes rows into a table `WITH ('connector' = 'push')`.
    ///
    /// # Errors
    /// There is no such table, it takes no pushes, or its handle was given away before.
    pub fn input(&self, table: &str) -> Result<InputHandle> {
        let state = self.state();
        match state.catalog.relation(&[(table, false)], None)? {
            Relation::Table(found) => state.providers.input(&found.definition),
            _ => Err(Error::usage(format!("`{table}` is no table that takes pushed rows"))),
        }
    }

    /// Calls `callback` for each batch that is inserted into the table `name`, which is created `WITH ('connector' = 'callback')`.
    pub fn register_callback(&self, name: &str, callback: Box<Callback>) {
        self.state().providers.register_callback(name, CallbackSink::new(name, callback));
    }

    /// Makes a DataFusion scalar function known to SQL.
    pub fn register_scalar_function(&self, function: ScalarUDF) {
        self.state().catalog.register_scalar_function(function);
    }

    /// Makes a DataFusion aggregate function known to SQL.
    pub fn register_aggregate_function(&self, function: AggregateUDF) {
        self.state().catalog.register_aggregate_function(function);
    }

    /// Makes a table of the caller's own source known to SQL.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register_source(&self, table: TableDefinition, source: Arc<dyn eagre_engine::source::Source>) -> Result<()> {
        Ok(self.state().catalog.register_table(table, Some(source), None)?)
    }

    /// Makes a table of the caller's own sink known to SQL.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register_sink(&self, table: TableDefinition, sink: Arc<dyn eagre_engine::sink::SinkFactory>) -> Result<()> {
        Ok(self.state().catalog.register_table(table, None, Some(sink))?)
    }

    /// Changes a setting, as `SET` does.
    ///
    /// # Errors
    /// An unknown name or wrong value.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        let mut state = self.state();
        config::set(&mut state.settings, name, value)?;
        state.apply_settings();
        Ok(())
    }

    /// Changes a setting, or all of them, back to what held before any statement, as `RESET` does.
    ///
    /// # Errors
    /// An unknown name.
    pub fn reset(&self, name: Option<&str>) -> Result<()> {
        let mut state = self.state();
        let base = state.base.clone();
        match name {
            Some(name) => state.settings.reset(name, &base)?,
            None => state.settings = base,
        }
        state.apply_settings();
        Ok(())
    }

    /// The settings as they are.
    pub fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    /// The newest checkpoint of the state folder.
    ///
    /// # Errors
    /// The folder cannot be read, or the manifest is damaged.
    pub fn checkpoint(&self) -> Result<Option<Manifest>> {
        match &self.inner.store {
            Some(store) => Ok(checkpoint::read_latest(store.as_ref())?),
            None => Ok(None),
        }
    }

    /// Starts a planned job. `text`: kept in the state folder, so that it can be replayed.
    pub(crate) fn start(&self, job: Job, text: Option<&str>, mode: Mode) -> Result<RunningJob> {
        let settings = self.settings();
        let folder = self.take_state_folder()?;
        let folder = folder.map(|store| StateFolder { store, text: text.map(str::to_owned) });
        RunningJob::start(self, job, &settings, folder, mode)
    }

    /// Whether a pipeline does nothing but put rows into tables in memory.
    fn fills_fixtures(&self, job: &Job) -> bool {
        let state = self.state();
        let in_memory = |name: &String| {
            let mut tables = state.catalog.tables();
            tables.any(|table| table.name == *name && connector(table) == MEMORY)
        };
        !job.outputs.is_empty() && job.outputs.iter().all(|output| output.table.as_ref().is_some_and(in_memory))
    }

    /// Fills tables in memory, which are gone with the process: beside the state folder, which belongs to what reads them. On one shard, so that
    /// a session that goes on from that folder at any number of shards finds the same rows at the same places.
    fn start_fixtures(&self, job: Job) -> Result<RunningJob> {
        let mut settings = self.settings();
        if self.inner.store.is_some() {
            settings.set(settings::SHARDS, "1")?;
        }
        RunningJob::start(self, job, &settings, None, Mode::Live)
    }

    /// The answer that DataFusion gives to the last query of `text` over finished tables (by name, the columns that a source gives): what a
    /// streamed answer must equal when all input is in. For tests and benchmarks.
    ///
    /// # Errors
    /// The query is wrong, or DataFusion cannot run it.
    pub fn answer_at_once(
        &self,
        text: &str,
        tables: &std::collections::HashMap<String, Vec<RecordBatch>>,
    ) -> Result<RecordBatch> {
        let statements = parser::parse(text)?;
        let query = statements.iter().rev().find_map(|statement| match &statement.kind {
            StatementKind::Query(query) => Some(query),
            _ => None,
        });
        let query = query.ok_or_else(|| Error::usage("there is no query in the text"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| Error::File { path: "the oracle's runtime".to_owned(), error })?;
        let answer = || runtime.block_on(planner::oracle::answer(&self.state().catalog, query, tables));
        Ok(with_deep_stack(answer)?)
    }

    /// Starts a planned job whose results have their sinks already; with `text`, in the state folder.
    pub(crate) fn start_as_is(
        &self,
        job: Job,
        text: Option<&str>,
        observer: Option<Arc<dyn StepObserver>>,
    ) -> Result<RunningJob> {
        let settings = self.settings();
        let folder = match (&self.inner.store, text) {
            (Some(store), Some(text)) => Some(StateFolder { store: Arc::clone(store), text: Some(text.to_owned()) }),
            _ => None,
        };
        RunningJob::start_as_is(self, job, &settings, folder, Mode::Live, observer)
    }

    /// Starts a planned job beside the state folder: nothing of it is kept.
    pub(crate) fn start_detached(&self, job: Job, mode: Mode) -> Result<RunningJob> {
        RunningJob::start(self, job, &self.settings(), None, mode)
    }

    /// What gives this session its models.
    pub(crate) fn providers(&self) -> Arc<Providers> {
        Arc::clone(&self.state().providers)
    }

    /// What names mean now.
    pub(crate) fn catalog(&self) -> Catalog {
        self.state().catalog.clone()
    }

    /// Tells of what takes long.
    pub(crate) fn tell_progress(&self, line: &str) {
        (self.inner.progress_log)(line);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
