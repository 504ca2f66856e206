//! A session: a catalog, settings, perhaps a state folder, and the pipelines that its statements start.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::sql::sqlparser::ast::SetExpr;
use eagre_connectors::Environment;
use eagre_engine::EngineError;
use eagre_engine::checkpoint::{self, CheckpointStore, Manifest};
use eagre_engine::runtime::{Clock, Mode, StepObserver};
use eagre_engine::settings::{self, SETTINGS, Settings};
use eagre_sql::catalog::{Catalog, MatchSettings, ModelDefinition, Relation, Table, TableDefinition};
use eagre_sql::error::{Location, SqlError};
use eagre_sql::parser::{
    self, Analyze, Describe, DropKind, Explain, ExplainMatch, Insert, ObjectName, QueryText, Show, Statement,
    StatementKind, TableRole,
};
use eagre_sql::planner::ad_hoc::{self, AdHocQuery};
use eagre_sql::planner::{self, Job, PlanOptions, PlannedStatement};

use crate::clock::SystemClock;
use crate::config;
use crate::device::{self, DeviceLog};
use crate::error::{Error, Result};
use crate::job::{JobObject, QueryResult, RunningJob, StateFolder};
use crate::provider::{MEMORY, PUSH, Providers, connector};
use crate::sink::callback::{Callback, CallbackSink};
use crate::source::push::InputHandle;
use crate::state;
use crate::views::change::{self, Outlook};
use crate::views::read::{Snapshot, ViewChanges};
use crate::views::{Kept, Views, start, statements as view_statements};

/// Builds a [`Session`].
#[derive(Default)]
pub struct SessionBuilder {
    settings: Settings,
    changes: Vec<(String, String)>,
    state: Option<String>,
    fresh: bool,
    clock: Option<Arc<dyn Clock>>,
    store: Option<Arc<dyn CheckpointStore>>,
    environment: Option<Environment>,
    abort_after_step: Option<u64>,
    replay: bool,
    device_log: Option<DeviceLog>,
    progress_log: Option<DeviceLog>,
}

impl SessionBuilder {
    /// Starts from these settings (from [`crate::config::load`], say) and not from the defaults.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Changes a setting, by the name that `SET` uses.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.changes.push((name.into(), value.into()));
        self
    }

    /// A folder or object store URL for checkpoints: a pipeline that is started again goes on where its last checkpoint was.
    pub fn state(mut self, location: impl Into<String>) -> Self {
        self.state = Some(location.into());
        self
    }

    /// Forgets what the state folder holds.
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// Time from elsewhere, for simulations.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Checkpoints in a store of the caller's (in memory, for simulations).
    pub fn store(mut self, store: Arc<dyn CheckpointStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Standard streams and object stores from elsewhere.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Told, a line for each, of what happens to kernels that run on a device: that one was lost, and the CPU goes on, say.
    pub fn device_log(mut self, log: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.device_log = Some(Arc::new(log));
        self
    }

    /// Told, a line for each, of how far what takes long is: the training of a model, say.
    pub fn progress_log(mut self, log: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.progress_log = Some(Arc::new(log));
        self
    }

    /// Reads the journals of the state folder and never the live input behind them.
    pub(crate) fn replay(mut self) -> Self {
        self.replay = true;
        self
    }

    /// Fault injection: a pipeline vanishes after this step, as by `kill -9`.
    pub fn abort_after_step(mut self, step: u64) -> Self {
        self.abort_after_step = Some(step);
        self
    }

    /// The session.
    ///
    /// # Errors
    /// An unknown setting or wrong value; a state folder that cannot be opened.
    pub fn build(self) -> Result<Session> {
        let mut settings = self.settings;
        for (name, value) in &self.changes {
            config::set(&mut settings, name, value)?;
        }
        config::check_zone(settings.text(settings::SQL_TIME_ZONE))?;
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("eagre-io")
            .enable_all()
            .build()
            .map_err(|error| Error::File { path: "the io runtime".to_owned(), error })?;
        let run = run_name();
        let mut environment = self.environment.unwrap_or_else(|| {
            let variables = std::env::vars_os();
            let text =
                variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
            Environment { object_store_options: config::object_store_options(text), ..Environment::new(&run) }
        });
        environment.runtime = Some(io.handle().clone());
        let store: Option<Arc<dyn CheckpointStore>> = match (self.store, &self.state) {
            (Some(store), _) => Some(store),
            (None, Some(location)) => {
                Some(Arc::new(eagre_connectors::ObjectCheckpointStore::open(location, &environment)?))
            }
            (None, None) => None,
        };
        environment.state_enabled = store.is_some();
        if let Some(store) = store.as_deref().filter(|_| !self.replay) {
            if self.fresh {
                state::forget(store)?;
            }
            // The name in the files that sinks write: the same after a restart on the same state.
            environment.pipeline_id = state::pipeline_name(store, &run)?;
        }
        let providers = Arc::new(Providers::new(environment, store.clone(), !self.replay));
        let mut catalog = Catalog::new(Arc::clone(&providers) as Arc<dyn eagre_sql::catalog::TableProviderFactory>);
        let device_log = self.device_log.unwrap_or_else(|| Arc::new(|_| {}));
        apply_settings(&settings, &device_log, &mut catalog);
        Ok(Session {
            inner: Arc::new(Inner {
                io: Some(io),
                clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::default())),
                store,
                run,
                abort_after_step: self.abort_after_step,
                views: Arc::default(),
                progress_log: self.progress_log.unwrap_or_else(|| Arc::new(|_| {})),
                state: Mutex::new(State {
                    catalog,
                    base: settings.clone(),
                    settings,
                    providers,
                    restored: false,
                    device_log,
                    definitions: Vec::new(),
                }),
            }),
        })
    }
}

/// A name that no other run has.
fn run_name() -> String {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hasher is seeded by the system's randomness.
    format!("{:016x}", std::hash::RandomState::new().build_hasher().finish())
}

/// Runs statements. Clones are the same session.
#[derive(Clone)]
pub struct Session {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    io: Option<tokio::runtime::Runtime>,
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
        self.io.as_ref().map(tokio::runtime::Runtime::handle).ok_or_else(|| Error::usage("the session is gone"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.views.abort();
        if let Some(io) = self.io.take() {
            // Waiting for its threads is not allowed where a session may be dropped: inside another runtime.
            io.shutdown_background();
        }
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

/// The statements of a text that run, each with the catalog as it was at its place.
#[derive(Default)]
struct Queries {
    planned: Vec<(usize, Statement, Catalog)>,
    /// Tables in memory, by lower-case name, that one of them writes.
    written: HashSet<String>,
    /// What is to be shown of them, in order.
    wanted: Vec<Wanted>,
    /// The statements of the views' pipeline, where the text changes them.
    views: Option<Vec<Kept>>,
    /// Where queries over views stand that are answered at the end.
    at_end: Vec<Location>,
}

/// A result of a text.
enum Wanted {
    /// Of a query that a pipeline runs.
    Streamed,
    /// Of a query over views that the text itself creates.
    AtEnd(Box<AdHocQuery>),
    /// The changes of a view.
    Changes(ObjectName),
}

impl Queries {
    fn add(&mut self, number: usize, statement: Statement, catalog: &Catalog) -> Result<()> {
        self.check_reads(&statement, catalog)?;
        self.planned.push((number, statement, catalog.clone()));
        Ok(())
    }

    /// A table in memory has the rows of a query when the query has ended: read beside it, it would be empty.
    fn check_reads(&mut self, statement: &Statement, catalog: &Catalog) -> Result<()> {
        let query = match &statement.kind {
            StatementKind::StatementSet(statements) => {
                return statements.iter().try_for_each(|statement| self.check_reads(statement, catalog));
            }
            StatementKind::Insert(insert) => &insert.query,
            StatementKind::Query(query) => query,
            _ => return Ok(()),
        };
        if !self.written.is_empty() {
            let read = planner::tables_read(catalog, query)?;
            if let Some(table) = read.iter().find(|table| self.written.contains(&table.to_lowercase())) {
                let message = format!(
                    "`{table}` holds its rows in memory and a statement before this one writes it: its rows are there when the whole \
                     run has ended; define it by `CREATE VIEW {table} AS SELECT ..`, or give it a connector and read it in a run of \
                     its own"
                );
                return Err(SqlError::plan(message, query.location).into());
            }
        }
        if let StatementKind::Insert(insert) = &statement.kind
            && let Ok(Relation::Table(table)) = catalog.lookup(&insert.table)
            && connector(&table.definition) == MEMORY
        {
            self.written.insert(table.definition.name.to_lowercase());
        }
        Ok(())
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

/// Statements that were planned and not started.
pub struct Prepared {
    /// In the order of the statements.
    pub tables: Vec<RecordBatch>,
    /// All `INSERT`s and `SELECT`s.
    pub job: Option<Job>,
    /// The text, for the state folder.
    pub text: String,
    wanted: Vec<Wanted>,
    views: Option<Vec<Kept>>,
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
            state.catalog.restore_views(&before);
            state.definitions.truncate(definitions);
        }
        drop(change);
        done
    }

    fn run(&self, prepared: Prepared) -> Result<Execution> {
        let Prepared { tables, job, text, wanted, views } = prepared;
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
                "this session's state folder belongs to the pipeline that it started first; give another pipeline its own session",
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
        self.prepare_statements(&parser::parse(text)?, text)
    }

    fn prepare_statements(&self, statements: &[Statement], text: &str) -> Result<Prepared> {
        let mut tables = Vec::new();
        let mut queries = Queries::default();
        let known = self.state().definitions.len();
        for (index, statement) in statements.iter().enumerate() {
            let number = index + 1;
            if defines(statement)
                || matches!(&statement.kind, StatementKind::Insert(insert) if self.is_fixture(insert)?)
            {
                self.state().definitions.push(statement.text.clone());
            }
            match &statement.kind {
                StatementKind::CreateTable(create) => {
                    let mut state = self.state();
                    if create.or_replace {
                        view_statements::check_unread(&self.kept(&queries), &state.catalog, &create.name)?;
                    }
                    let replaced = if create.or_replace { state.keep(&create.name) } else { None };
                    state.catalog.create_table(create)?;
                    if let Some(table) = replaced {
                        state.providers.forget(&table.definition.name);
                        queries.written.remove(&table.definition.name.to_lowercase());
                    }
                    if let Some(query) = &create.query {
                        let insert = Insert { table: create.name.clone(), columns: Vec::new(), query: query.clone() };
                        let kind = StatementKind::Insert(Box::new(insert));
                        let insert = Statement { kind, text: statement.text.clone(), location: statement.location };
                        queries.add(number, insert, &state.catalog)?;
                    }
                }
                StatementKind::CreateView(create) if create.materialized => {
                    if create.or_replace {
                        check_unasked(&self.state().catalog, &queries, &create.name)?;
                    }
                    let mut kept = self.kept(&queries);
                    if view_statements::create(&mut self.state().catalog, &mut kept, number, statement, create)? {
                        queries.views = Some(kept);
                    }
                }
                StatementKind::CreateView(create) => {
                    let mut state = self.state();
                    check_not_materialized(&state.catalog, &create.name, "CREATE OR REPLACE MATERIALIZED VIEW")?;
                    state.catalog.create_view(create)?;
                }
                StatementKind::CreateFunction(create) => self.state().catalog.create_function(create)?,
                StatementKind::CreateModel(create) => {
                    let catalog = self.state().catalog.clone();
                    let definition = ModelDefinition::of(create, &statement.text);
                    let learns_once = !definition.is_online();
                    if let Some(query) = &create.query
                        && learns_once
                        && catalog.creates_model(create)?
                    {
                        let rows = StatementKind::Query(Box::new(query.clone()));
                        queries.check_reads(&Statement { kind: rows, ..statement.clone() }, &catalog)?;
                        self.train(number, statement, create, query, &catalog)?;
                    }
                    let made = self.state().catalog.create_model(definition, create)?;
                    if made
                        && !learns_once
                        && let Err(error) = self.check_online(number, statement, create)
                    {
                        let name = create.name.clone();
                        let drop = parser::Drop { kind: DropKind::Model, name, if_exists: true, cascade: false };
                        self.state().catalog.drop(&drop)?;
                        return Err(error);
                    }
                    if made && learns_once && create.query.is_some() {
                        tables.push(self.training_report(&create.name.plain())?);
                    }
                    // The views go on from a checkpoint with all that the model before has answered, under a text that has this one.
                    if made && create.or_replace && self.inner.store.is_some() && self.inner.views.current().is_some() {
                        queries.views = Some(self.kept(&queries));
                    }
                }
                StatementKind::Drop(drop) if drop.kind == DropKind::MaterializedView => {
                    check_unasked(&self.state().catalog, &queries, &drop.name)?;
                    let mut kept = self.kept(&queries);
                    if view_statements::drop(&mut self.state().catalog, &mut kept, drop)? {
                        queries.views = Some(kept);
                    }
                }
                StatementKind::Drop(drop) => {
                    let mut state = self.state();
                    match drop.kind {
                        DropKind::View => check_not_materialized(&state.catalog, &drop.name, "DROP MATERIALIZED VIEW")?,
                        DropKind::Table | DropKind::Source => {
                            view_statements::check_unread(&self.kept(&queries), &state.catalog, &drop.name)?;
                        }
                        _ => {}
                    }
                    let dropped = state.keep(&drop.name);
                    state.catalog.drop(drop)?;
                    if let Some(table) = dropped {
                        state.providers.forget(&table.definition.name);
                        queries.written.remove(&table.definition.name.to_lowercase());
                    }
                }
                StatementKind::Set { key, value, key_location, .. } => {
                    self.set(key, value).map_err(|error| at(error, Some(*key_location)))?;
                }
                StatementKind::Reset { key: Some((key, location)) } => {
                    self.reset(Some(key)).map_err(|error| at(error, Some(*location)))?;
                }
                StatementKind::Reset { key: None } => self.reset(None)?,
                StatementKind::Show(show) => tables.push(self.show(show)?),
                StatementKind::Describe(describe) => tables.push(self.describe(describe)?),
                StatementKind::Explain(explain) => tables.push(self.explain(explain)?),
                StatementKind::Insert(insert) if self.is_fixture(insert)? => self.fill(insert, statement)?,
                StatementKind::Subscribe(view) => {
                    check_materialized(&self.state().catalog, view)?;
                    queries.wanted.push(Wanted::Changes(view.clone()));
                }
                StatementKind::Query(query) => {
                    let catalog = self.state().catalog.clone();
                    match self.over_views(&catalog, query)? {
                        Some(query) if queries.views.is_none() => {
                            tables.push(self.snapshot()?.answer(&query)?.collect_blocking()?);
                        }
                        Some(found) => {
                            queries.at_end.push(query.location);
                            queries.wanted.push(Wanted::AtEnd(Box::new(found)));
                        }
                        None => {
                            queries.add(number, statement.clone(), &catalog)?;
                            queries.wanted.push(Wanted::Streamed);
                        }
                    }
                }
                StatementKind::Insert(_) | StatementKind::StatementSet(_) => {
                    queries.add(number, statement.clone(), &self.state().catalog)?;
                }
            }
        }
        let Queries { planned, wanted, views, at_end, .. } = queries;
        let Some(mut kept) = views else {
            let job = if planned.is_empty() { None } else { Some(self.plan(&planned)?) };
            return Ok(Prepared { tables, job, text: text.to_owned(), wanted, views: None });
        };
        for (number, statement, catalog) in planned {
            kept.push(view_statements::query(number, statement, catalog)?);
        }
        // Without any views left the pipeline goes on without operators.
        let job = match kept.is_empty() && self.inner.views.current().is_none() {
            true => None,
            false => Some(self.plan_views(&kept)?),
        };
        if let (Some(job), Some(location)) = (&job, at_end.first())
            && !job.bounded()
        {
            let message = "a query over materialized views in the text that creates them is answered at the end of the input, and this \
                           input has none; `SUBSCRIBE TO` a view shows its rows and then its changes, and in code a query in a text of its \
                           own reads the views as they are then";
            return Err(SqlError::plan(message, *location).into());
        }
        // A first text is kept as it is, so that it can be replayed.
        let text = match known {
            0 => text.to_owned(),
            _ => {
                let queries = kept.iter().filter(|kept| kept.view.is_none()).map(|kept| kept.statement.text.clone());
                let mut texts = self.state().definitions.clone();
                texts.extend(queries);
                texts.join(";\n")
            }
        };
        Ok(Prepared { tables, job, text, wanted, views: Some(kept) })
    }

    /// The statements of the views' pipeline, as the text so far has them.
    fn kept(&self, queries: &Queries) -> Vec<Kept> {
        queries.views.clone().unwrap_or_else(|| self.inner.views.kept())
    }

    /// The query, where it reads materialized views and nothing else.
    pub(crate) fn over_views(&self, catalog: &Catalog, query: &QueryText) -> Result<Option<AdHocQuery>> {
        match catalog.views().any(|view| view.materialized) {
            true => Ok(ad_hoc::plan(catalog, query)?),
            false => Ok(None),
        }
    }

    pub(crate) fn plan_views(&self, kept: &[Kept]) -> Result<Job> {
        let statements = kept.iter().map(|kept| (kept.number, kept.statement.clone(), kept.catalog.clone()));
        let statements = statements.collect::<Vec<_>>();
        self.plan(&statements).map_err(|error| self.of_reader(error, kept, &statements))
    }

    /// An error of a view that runs already and no longer plans, because one that it reads is made anew: told with its name.
    fn of_reader(&self, error: Error, kept: &[Kept], statements: &[(usize, Statement, Catalog)]) -> Error {
        let failing = (0..kept.len()).find(|last| self.plan(&statements[..=*last]).is_err());
        let Some((Some(name), reader)) = failing.map(|index| (kept[index].view.clone(), &kept[index])) else {
            return error;
        };
        let runs =
            |running: &Kept| running.view.as_ref() == Some(&name) && running.statement.text == reader.statement.text;
        if !self.inner.views.kept().iter().any(runs) {
            return error;
        }
        let read = reader.reads.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Error::usage(format!(
            "materialized view `{name}`, which reads {read}, would no longer run: {error}; `DROP MATERIALIZED VIEW {name}` first, or \
             replace it in the same text"
        ))
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
        Ok(runtime.block_on(planner::oracle::answer(&self.state().catalog, query, tables))?)
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

    pub(crate) fn plan(&self, statements: &[(usize, Statement, Catalog)]) -> Result<Job> {
        let mut planned: Vec<(&Catalog, PlannedStatement<'_>)> = Vec::new();
        for (number, statement, catalog) in statements {
            planned.extend(PlannedStatement::of(*number, statement).into_iter().map(|statement| (catalog, statement)));
        }
        let idle_timeout_ms = self.state().settings.duration_ms(settings::SOURCE_IDLE_TIMEOUT);
        let idle_timeout_ms = Some(idle_timeout_ms).filter(|timeout| *timeout > 0);
        Ok(planner::plan_each(&planned, &PlanOptions { idle_timeout_ms, ..PlanOptions::default() })?)
    }

    /// Whether an `INSERT` fills a fixture: its rows are there for every statement after it.
    fn is_fixture(&self, insert: &Insert) -> Result<bool> {
        let state = self.state();
        let Relation::Table(table) = state.catalog.lookup(&insert.table)? else {
            return Ok(false);
        };
        Ok(connector(&table.definition) == MEMORY && matches!(*insert.query.ast.body, SetExpr::Values(_)))
    }

    fn fill(&self, insert: &Insert, statement: &Statement) -> Result<()> {
        let catalog = {
            let mut state = self.state();
            state.keep(&insert.table);
            state.catalog.clone()
        };
        let job = self.plan(&[(1, statement.clone(), catalog)])?;
        let done = RunningJob::start(self, job, &self.settings(), None, Mode::Live)?.wait_blocking();
        match done {
            Ok(_) => Ok(()),
            // The rows are in the text, and so is their place.
            Err(Error::Engine(EngineError::Evaluate { message, .. })) => {
                Err(SqlError::plan(message, insert.query.location).into())
            }
            Err(Error::Engine(error @ EngineError::Sink { .. })) => {
                Err(SqlError::plan(error.to_string(), insert.query.location).into())
            }
            Err(error) => Err(error),
        }
    }

    fn show(&self, show: &Show) -> Result<RecordBatch> {
        let state = self.state();
        match show {
            Show::Tables => list_tables("table", state.catalog.tables()),
            Show::Sources => {
                list_tables("source", state.catalog.tables().filter(|table| table.role == TableRole::Source))
            }
            Show::Sinks => list_tables("sink", state.catalog.tables().filter(|table| table.role == TableRole::Sink)),
            Show::Views => table(&[("view", state.catalog.views().map(|view| Some(view.name.clone())).collect())]),
            Show::MaterializedViews => {
                drop(state);
                self.show_materialized_views()
            }
            Show::Functions => {
                let functions = state.catalog.function_names();
                table(&[
                    ("function", functions.iter().map(|(name, _)| Some(name.clone())).collect()),
                    ("kind", functions.iter().map(|(_, kind)| Some((*kind).to_owned())).collect()),
                ])
            }
            Show::Models => crate::models::list(state.catalog.models()),
            Show::ModelOptions => crate::models::options(),
            Show::Settings => {
                let text = |read: fn(&settings::Setting) -> &'static str| -> Vec<Option<String>> {
                    SETTINGS.iter().map(|setting| Some(read(setting).to_owned())).collect()
                };
                let values =
                    SETTINGS.iter().map(|setting| Some(state.settings.text(setting.name).to_owned())).collect();
                table(&[
                    ("setting", text(|setting| setting.name)),
                    ("value", values),
                    ("default", text(|setting| setting.default)),
                    ("unit", text(|setting| setting.unit)),
                    ("meaning", text(|setting| setting.meaning)),
                ])
            }
            Show::Setting { key, location } => {
                let value = state.settings.get(key).map_err(|error| at(error.into(), Some(*location)))?;
                table(&[("setting", vec![Some(key.clone())]), ("value", vec![Some(value.to_owned())])])
            }
            Show::Connectors => crate::describe::connectors(),
            Show::Formats => crate::describe::formats(),
            Show::Create(name) => table(&[("statement", vec![Some(state.catalog.show_create(name)?)])]),
        }
    }

    fn show_materialized_views(&self) -> Result<RecordBatch> {
        let set = self.inner.views.readable().ok();
        let stores = set.as_ref().map(|set| set.views()).unwrap_or_default();
        let names = |columns: &[usize], schema: &SchemaRef| {
            columns.iter().map(|column| schema.field(*column).name().as_str()).collect::<Vec<_>>().join(", ")
        };
        let step = set.as_ref().map(|set| set.published().to_string());
        table(&[
            ("view", stores.iter().map(|view| Some(view.name.clone())).collect()),
            ("rows", stores.iter().map(|view| Some(view.rows().to_string())).collect()),
            ("step", stores.iter().map(|_| step.clone()).collect()),
            ("key", stores.iter().map(|view| view.key.as_ref().map(|key| names(key, &view.schema))).collect()),
        ])
    }

    fn describe(&self, describe: &Describe) -> Result<RecordBatch> {
        match describe {
            Describe::Table(name) => self.describe_table(name),
            Describe::Model(name) => {
                let state = self.state();
                let last = name.last();
                crate::models::describe(state.catalog.model(&last.text, last.quoted, Some(last.location))?)
            }
            Describe::Connector(name) => crate::describe::connector(&name.text, Some(name.location)),
        }
    }

    fn describe_table(&self, name: &ObjectName) -> Result<RecordBatch> {
        let columns = self.state().catalog.describe(name)?;
        table(&[
            ("column", columns.iter().map(|column| Some(column.name.clone())).collect()),
            ("type", columns.iter().map(|column| Some(column.data_type.clone())).collect()),
            ("null", columns.iter().map(|column| Some(column.nullable.to_string())).collect()),
            ("key", columns.iter().map(|column| column.key.then(|| "PRIMARY KEY".to_owned())).collect()),
            (
                "extra",
                columns.iter().map(|column| Some(column.extra.clone()).filter(|extra| !extra.is_empty())).collect(),
            ),
            ("comment", columns.iter().map(|column| column.comment.clone()).collect()),
        ])
    }

    fn explain(&self, explain: &Explain) -> Result<RecordBatch> {
        if let Some(asked) = &explain.matching {
            return self.explain_match(&explain.statement, asked);
        }
        if let Some(text) = self.explain_views(&explain.statement, explain.analyze.as_ref())? {
            return table(&[("plan", text.lines().map(|line| Some(line.to_owned())).collect())]);
        }
        let job = self.explained(&explain.statement)?;
        let text = match &explain.analyze {
            None => planner::explain(&job),
            Some(analyze) => crate::describe::analyze(self, job, analyze)?,
        };
        table(&[("plan", text.lines().map(|line| Some(line.to_owned())).collect())])
    }

    /// Runs the search for a pattern, and tells how it went.
    fn explain_match(&self, statement: &Statement, asked: &ExplainMatch) -> Result<RecordBatch> {
        let StatementKind::Query(query) = &statement.kind else {
            return Err(SqlError::plan("`EXPLAIN MATCH` takes a query", statement.location).into());
        };
        let catalog = self.state().catalog.clone();
        let kind = StatementKind::Query(Box::new(planner::explain_match(query, asked, &catalog)?));
        let statement = Statement { kind, text: statement.text.clone(), location: statement.location };
        let mut queries = Queries::default();
        queries.add(1, statement, &catalog)?;
        crate::describe::told_matches(self, self.plan(&queries.planned)?)
    }

    /// Of statements about views, which run in the pipeline of views or over its rows.
    fn explain_views(&self, statement: &Statement, analyze: Option<&Analyze>) -> Result<Option<String>> {
        let mut catalog = self.state().catalog.clone();
        match &statement.kind {
            StatementKind::Query(query) => match self.over_views(&catalog, query)? {
                Some(_) if self.inner.views.current().is_none() => {
                    let message = "`EXPLAIN` of a query over materialized views tells how it reads their rows, and the views of this \
                                   text have none before it runs; `EXPLAIN CREATE MATERIALIZED VIEW ..` tells how they are made";
                    Err(SqlError::plan(message, query.location).into())
                }
                Some(query) => Ok(Some(self.snapshot()?.explain(&query, analyze.is_some())?)),
                None => Ok(None),
            },
            StatementKind::CreateView(create) if create.materialized => {
                if let Some(analyze) = analyze {
                    let message = "`EXPLAIN ANALYZE` runs a query and keeps nothing; write `EXPLAIN ANALYZE SELECT ..`";
                    return Err(SqlError::plan(message, analyze.location).into());
                }
                let mut kept = self.inner.views.kept();
                view_statements::create(&mut catalog, &mut kept, 1, statement, create)?;
                let job = self.plan_views(&kept)?;
                let mut text = planner::explain(&job);
                if let Some(current) = self.inner.views.current() {
                    text.push_str(&Outlook::of(&current.graph, &job.graph)?.describe(&job.graph));
                }
                Ok(Some(text))
            }
            _ => Ok(None),
        }
    }

    /// What a statement would run. Nothing is created, and no fixture is filled.
    fn explained(&self, statement: &Statement) -> Result<Job> {
        let mut catalog = self.state().catalog.clone();
        let mut kind = statement.kind.clone();
        match &statement.kind {
            StatementKind::CreateView(create) => {
                catalog.create_view(create)?;
                kind = StatementKind::Query(Box::new(create.query.clone()));
            }
            StatementKind::CreateTable(create) => {
                catalog.create_table(create)?;
                let query = create.query.clone().ok_or_else(|| {
                    let message = "there is nothing to explain: `CREATE TABLE` without `AS SELECT ..` runs no pipeline";
                    SqlError::plan(message, statement.location)
                })?;
                let insert = Insert { table: create.name.clone(), columns: Vec::new(), query };
                kind = StatementKind::Insert(Box::new(insert));
            }
            _ => {}
        }
        let statement = Statement { kind, text: statement.text.clone(), location: statement.location };
        let mut queries = Queries::default();
        queries.add(1, statement, &catalog)?;
        self.plan(&queries.planned)
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

/// Whether what comes after a statement may mean something else because of it.
fn defines(statement: &Statement) -> bool {
    matches!(
        statement.kind,
        StatementKind::CreateTable(_)
            | StatementKind::CreateView(_)
            | StatementKind::CreateFunction(_)
            | StatementKind::CreateModel(_)
            | StatementKind::Drop(_)
            | StatementKind::Set { .. }
            | StatementKind::Reset { .. }
    )
}

/// Whether a statement creates, replaces or drops a materialized view, or exchanges a model that views may ask.
fn changes_views(statement: &Statement) -> bool {
    match &statement.kind {
        StatementKind::CreateView(create) => create.materialized,
        // What has been answered is written down before another model answers.
        StatementKind::CreateModel(create) => create.or_replace,
        StatementKind::Drop(drop) => drop.kind == DropKind::MaterializedView,
        _ => false,
    }
}

/// All statements of a text start together: a view that queries further up may read is not replaced or dropped behind them.
fn check_unasked(catalog: &Catalog, queries: &Queries, name: &ObjectName) -> Result<()> {
    let there = matches!(catalog.lookup(name), Ok(Relation::View(view)) if view.materialized);
    if !there || queries.wanted.is_empty() && queries.planned.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the queries further up would find `{name}` as it is from here on, because all statements of a text start together; replace or \
         drop it in a text of its own, or before them"
    );
    Err(SqlError::plan(message, name.location()).into())
}

fn check_not_materialized(catalog: &Catalog, name: &ObjectName, instead: &str) -> Result<()> {
    match catalog.lookup(name) {
        Ok(Relation::View(view)) if view.materialized => {
            let message = format!("`{0}` is a materialized view; write `{instead} {0}`", view.name);
            Err(SqlError::plan(message, name.location()).into())
        }
        _ => Ok(()),
    }
}

fn check_materialized(catalog: &Catalog, name: &ObjectName) -> Result<()> {
    match catalog.lookup(name)? {
        Relation::View(view) if view.materialized => Ok(()),
        other => {
            let message = format!(
                "`{0}` is no materialized view, so none of its rows are kept; `CREATE MATERIALIZED VIEW v AS SELECT * FROM {0}` and \
                 subscribe to that, or run `SELECT * FROM {0}`: its changes are the result",
                other.name()
            );
            Err(SqlError::plan(message, name.location()).into())
        }
    }
}

/// An error of settings with its place in the text.
fn at(error: Error, location: Option<eagre_sql::error::Location>) -> Error {
    match error {
        Error::Engine(error) => Error::Sql(SqlError::plan(error.to_string(), location)),
        other => other,
    }
}

fn list_tables<'a>(what: &str, tables: impl Iterator<Item = &'a TableDefinition>) -> Result<RecordBatch> {
    let (names, connectors) = tables.map(|table| (Some(table.name.clone()), Some(connector(table).to_owned()))).unzip();
    table(&[(what, names), ("connector", connectors)])
}

/// A batch of text columns.
pub(crate) fn table(columns: &[(&str, Vec<Option<String>>)]) -> Result<RecordBatch> {
    let columns =
        columns.iter().map(|(name, values)| (*name, Arc::new(StringArray::from(values.clone())) as ArrayRef, true));
    RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| Error::Engine(error.into()))
}
