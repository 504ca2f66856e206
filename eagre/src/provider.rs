//! What is behind tables: connectors, and what only a session has (pushed rows, fixtures in memory, callbacks).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use eagre_connectors::{Environment, TableOptions};
use eagre_engine::checkpoint::CheckpointStore;
use eagre_engine::graph::ChangelogMode;
use eagre_engine::model::ModelAndHistory;
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::source::{Places, Source, SourceReader, StopFlag};
use eagre_engine::{Delta, EngineError};
use eagre_sql::catalog::{
    ColumnKind, InferredTable, ModelDefinition, PLANNER_OPTIONS, TableDefinition, TableProviderFactory,
};
use eagre_sql::error::{Result, SqlError};

use crate::models::Models;
use crate::sink::callback::CallbackSink;
use crate::source::journal::JournaledSource;
use crate::source::memory::MemorySource;
use crate::source::push::{InputHandle, PushSource};
use crate::state::InferredColumns;

/// Connector of rows pushed from code.
pub(crate) const PUSH: &str = "push";
/// Connector of fixtures: a table without `'connector'` holds what `INSERT INTO .. VALUES` put there.
pub(crate) const MEMORY: &str = "memory";
/// Connector of functions registered with the session.
pub(crate) const CALLBACK: &str = "callback";
/// How rows are taken back: `retract`, `upsert`; not given: they are not.
const CHANGELOG_MODE: &str = "changelog.mode";

/// Opens the data behind the tables of one session.
pub(crate) struct Providers {
    pub environment: Environment,
    pub store: Option<Arc<dyn CheckpointStore>>,
    pushes: Mutex<HashMap<String, Arc<PushSource>>>,
    memory: Mutex<HashMap<String, MemoryTable>>,
    callbacks: Mutex<HashMap<String, CallbackSink>>,
    /// Whether sources that are not replayable are read on, or only their journal.
    pub live: bool,
    pub models: Models,
    /// Of tables that are created without.
    pub columns: InferredColumns,
}

/// Rows of a fixture.
#[derive(Clone, Default)]
struct MemoryTable {
    batches: Arc<Mutex<Vec<RecordBatch>>>,
    /// What those read who read the table as it is now, once its rows change.
    frozen: Arc<OnceLock<Vec<RecordBatch>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Providers {
    pub(crate) fn new(environment: Environment, store: Option<Arc<dyn CheckpointStore>>, live: bool) -> Self {
        Self {
            models: Models::new(store.clone(), live),
            columns: InferredColumns::new(store.clone()),
            environment,
            store,
            pushes: Mutex::default(),
            memory: Mutex::default(),
            callbacks: Mutex::default(),
            live,
        }
    }

    pub(crate) fn register_callback(&self, name: &str, callback: CallbackSink) {
        lock(&self.callbacks).insert(name.to_lowercase(), callback);
    }

    /// The handle of a push table.
    pub(crate) fn input(&self, table: &TableDefinition) -> crate::Result<InputHandle> {
        if connector(table) != PUSH {
            return Err(crate::Error::usage(format!(
                "table `{}` does not take pushed rows; create it WITH ('connector' = 'push')",
                table.name
            )));
        }
        self.push_source(table).handle()
    }

    /// Forgets what belongs to a dropped table.
    pub(crate) fn forget(&self, table: &str) {
        lock(&self.pushes).remove(&table.to_lowercase());
        lock(&self.memory).remove(&table.to_lowercase());
    }

    /// The rows of a fixture are about to change: whoever has opened it so far keeps those of now.
    pub(crate) fn freeze(&self, table: &TableDefinition) {
        if let Some(found) = lock(&self.memory).get_mut(&table.name.to_lowercase()) {
            let rows = lock(&found.batches).clone();
            found.frozen.get_or_init(|| rows);
            found.frozen = Arc::default();
        }
    }

    fn push_source(&self, table: &TableDefinition) -> Arc<PushSource> {
        let mut pushes = lock(&self.pushes);
        let source = pushes
            .entry(table.name.to_lowercase())
            .or_insert_with(|| Arc::new(PushSource::new(&table.name, table.source_schema())));
        Arc::clone(source)
    }

    fn memory_table(&self, table: &TableDefinition) -> MemoryTable {
        lock(&self.memory).entry(table.name.to_lowercase()).or_default().clone()
    }

    fn check_options(&self, table: &TableDefinition, known: &[&str]) -> Result<()> {
        for option in &table.options {
            let known_here = |name: &&&str| name.eq_ignore_ascii_case(&option.key);
            if option.key == "connector" || known.iter().chain(PLANNER_OPTIONS).any(|name| known_here(&name)) {
                continue;
            }
            let names = known.iter().chain(PLANNER_OPTIONS).copied();
            let nearest = names.min_by_key(|name| strsim::levenshtein(name, &option.key)).unwrap_or("connector");
            return Err(SqlError::plan(
                format!(
                    "table `{}`: option `{}` is not known; did you mean `{nearest}`? The options of connector `{}` are listed by \
                     `DESCRIBE CONNECTOR {}`",
                    table.name,
                    option.key,
                    connector(table),
                    connector(table)
                ),
                Some(option.key_location),
            ));
        }
        Ok(())
    }
}

/// The connector of a table.
pub(crate) fn connector(table: &TableDefinition) -> &str {
    table.option("connector").map_or(MEMORY, |option| option.value.as_str())
}

/// A connector's view of a table.
fn definition(table: &TableDefinition, schema: SchemaRef, only_written: bool) -> eagre_connectors::TableDefinition {
    let mut options = TableOptions::new();
    for option in
        table.options.iter().filter(|option| !PLANNER_OPTIONS.iter().any(|name| name.eq_ignore_ascii_case(&option.key)))
    {
        options.set(&option.key, &option.value);
    }
    let columns = table.columns.iter().filter(|column| match only_written {
        true => column.is_written(),
        false => !matches!(column.kind, ColumnKind::Computed(_)),
    });
    let metadata_columns = columns.enumerate().filter_map(|(index, column)| match &column.kind {
        ColumnKind::Metadata { key, .. } => Some((index, key.clone())),
        _ => None,
    });
    eagre_connectors::TableDefinition {
        metadata_columns: metadata_columns.collect(),
        partitioned_by: table.partitioned_by.clone(),
        primary_key: table.primary_key.clone(),
        ..eagre_connectors::TableDefinition::new(&table.name, schema, options)
    }
}

fn connector_error(table: &TableDefinition, error: &eagre_connectors::ConnectorError) -> SqlError {
    let option = error.option().and_then(|key| table.option(key));
    SqlError::plan(error.to_string(), option.map(|option| option.key_location).or(table.location))
}

/// What `'changelog.mode'` says, where it can be.
fn check_changelog(table: &TableDefinition) -> Result<Option<eagre_connectors::ChangelogMode>> {
    eagre_connectors::changelog_mode(&definition(table, table.source_schema(), false))
        .map_err(|error| connector_error(table, &error))
}

/// Nobody takes back what was put into a fixture.
fn check_fixture(table: &TableDefinition) -> Result<()> {
    if check_changelog(table)? != Some(eagre_connectors::ChangelogMode::Retract) {
        return Ok(());
    }
    let message = format!(
        "table `{}`: rows of a fixture are inserted and never taken back; 'changelog.mode' is 'upsert' here, or not given",
        table.name
    );
    Err(SqlError::plan(message, table.location))
}

impl TableProviderFactory for Providers {
    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>> {
        let source: Arc<dyn Source> = match connector(table) {
            PUSH => {
                self.check_options(table, &[CHANGELOG_MODE])?;
                check_changelog(table)?;
                self.push_source(table)
            }
            MEMORY => {
                self.check_options(table, &[CHANGELOG_MODE])?;
                check_fixture(table)?;
                Arc::new(Fixture {
                    name: table.name.clone(),
                    schema: table.source_schema(),
                    table: self.memory_table(table),
                })
            }
            CALLBACK => {
                let message = format!("table `{}`: connector `callback` takes rows and has none to give", table.name);
                return Err(SqlError::plan(message, table.location));
            }
            _ => {
                let definition = definition(table, table.source_schema(), false);
                eagre_connectors::source(&definition, &self.environment)
                    .map_err(|error| connector_error(table, &error))?
            }
        };
        Ok(match &self.store {
            Some(store) if !source.replayable() => {
                Arc::new(JournaledSource::new(&table.name, source, Arc::clone(store), self.live))
            }
            _ => source,
        })
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn SinkFactory>> {
        match connector(table) {
            MEMORY => Ok(Arc::new(self.memory_table(table))),
            CALLBACK => {
                let callbacks = lock(&self.callbacks);
                let callback = callbacks.get(&table.name.to_lowercase()).cloned().ok_or_else(|| {
                    let message =
                        format!("table `{0}` has no function; call `register_callback(\"{0}\", ..)` first", table.name);
                    SqlError::plan(message, table.location)
                })?;
                Ok(Arc::new(callback))
            }
            PUSH => {
                let message = format!("table `{}` takes rows from code; INSERT cannot write to it", table.name);
                Err(SqlError::plan(message, table.location))
            }
            _ => {
                let definition = definition(table, table.sink_schema(), true);
                let writer_id = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(table.name.to_lowercase().as_bytes()));
                let environment = Environment { writer_id, ..self.environment.clone() };
                eagre_connectors::sink(&definition, &environment).map_err(|error| connector_error(table, &error))
            }
        }
    }

    fn check(&self, table: &TableDefinition) -> Result<()> {
        match connector(table) {
            PUSH => {
                self.check_options(table, &[CHANGELOG_MODE])?;
                check_changelog(table).map(drop)
            }
            MEMORY => {
                self.check_options(table, &[CHANGELOG_MODE])?;
                check_fixture(table)
            }
            CALLBACK => self.check_options(table, &[]),
            _ => {
                let definition = definition(table, table.source_schema(), false);
                eagre_connectors::check_table(&definition).map_err(|error| connector_error(table, &error))
            }
        }
    }

    fn infer_schema(&self, table: &TableDefinition) -> Result<InferredTable> {
        match connector(table) {
            PUSH | MEMORY | CALLBACK => {
                let message = format!(
                    "table `{}` needs columns: connector `{}` has none of its own",
                    table.name,
                    connector(table)
                );
                Err(SqlError::plan(message, table.location))
            }
            _ => {
                let definition = definition(table, Arc::new(arrow::datatypes::Schema::empty()), false);
                self.columns.of(table, || {
                    let inferred = eagre_connectors::infer_schema(&table.name, &definition.options, &self.environment)
                        .map_err(|error| connector_error(table, &error))?;
                    Ok(InferredTable { schema: inferred.schema, partitioned_by: inferred.partitioned_by })
                })
            }
        }
    }

    fn model(&self, model: &ModelDefinition) -> Result<ModelAndHistory> {
        self.models.open(model)
    }

    fn changelog(&self, table: &TableDefinition) -> ChangelogMode {
        // What does not fit was refused when the source was described.
        match eagre_connectors::changelog_mode(&definition(table, table.source_schema(), false)) {
            Ok(Some(eagre_connectors::ChangelogMode::Retract)) => ChangelogMode::Retract,
            Ok(Some(eagre_connectors::ChangelogMode::Upsert)) => ChangelogMode::Upsert,
            Ok(None) | Err(_) => ChangelogMode::AppendOnly,
        }
    }
}

/// Reads a fixture as it is when the pipeline starts, or as it was before its rows changed.
struct Fixture {
    name: String,
    schema: SchemaRef,
    table: MemoryTable,
}

impl Fixture {
    fn rows(&self) -> MemorySource {
        let rows = self.table.frozen.get().cloned().unwrap_or_else(|| lock(&self.table.batches).clone());
        MemorySource::new(&self.name, Arc::clone(&self.schema), rows)
    }
}

impl Source for Fixture {
    fn describe(&self) -> String {
        self.rows().describe()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        true
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(
        &self,
        projection: &[usize],
        places: &Places,
        stop: StopFlag,
    ) -> eagre_engine::Result<Box<dyn SourceReader>> {
        self.rows().open(projection, places, stop)
    }
}

impl SinkFactory for MemoryTable {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn accepts_retractions(&self) -> bool {
        false
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> eagre_engine::Result<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
}

impl Sink for MemoryTable {
    fn write(&mut self, _step: u64, deltas: &[Delta]) -> eagre_engine::Result<()> {
        let mut batches = lock(&self.batches);
        for delta in deltas {
            if delta
                .weights
                .as_ref()
                .is_some_and(|weights: &Int64Array| weights.values().iter().any(|weight| *weight != 1))
            {
                return Err(EngineError::bug("a fixture was sent rows that are taken back"));
            }
            batches.push(delta.batch.clone());
        }
        Ok(())
    }

    fn prepare(&mut self, _step: u64) -> eagre_engine::Result<Option<serde_json::Value>> {
        Ok(None)
    }

    fn commit(&mut self, _transaction: &serde_json::Value) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn recover(&mut self, _transaction: Option<&serde_json::Value>) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> eagre_engine::Result<()> {
        Ok(())
    }
}
