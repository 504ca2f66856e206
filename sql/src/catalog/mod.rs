//! What names mean: tables, views and functions.
//!
//! Unquoted names ignore case, and two objects may not differ in case only; so a name always means one object, whoever wrote it. Each
//! keeps the spelling that it was created with, for messages and output.
//!
//! The catalog holds definitions. What is behind a table (files, a topic, a callback) comes from a [`TableProviderFactory`] that
//! the crate `eagre` hands in, and only when a plan needs it: a file of statements can be checked where its data is not.

mod define;
mod dependents;
mod like;
mod objects;
mod provider;
mod table;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, Expr, ScalarUDF};
use eagre_engine::graph::ChangelogMode;
use eagre_engine::score::Placement;
use eagre_engine::sink::SinkFactory;
use eagre_engine::source::Source;

use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::{ObjectName, TableRole};
use crate::planner;
use crate::planner::function::SqlFunction;
pub use dependents::Dependent;
pub(crate) use objects::Functions;
pub use objects::{CatalogModel, MatchSettings, ModelDefinition, Relation, Table, View};
pub use provider::{InferredTable, NoProviders, TableProviderFactory};
pub use table::*;
pub use tell::ColumnDescription;

/// What was created under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ObjectKind {
    Table,
    Source,
    Sink,
    View,
}

impl ObjectKind {
    fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Source => "source",
            Self::Sink => "sink",
            Self::View => "view",
        }
    }
}

/// All that names mean. Cheap to clone: a session plans against a copy while statements change the original.
#[derive(Clone)]
pub struct Catalog {
    tables: BTreeMap<String, Arc<Table>>,
    views: BTreeMap<String, Arc<View>>,
    sql_functions: BTreeMap<String, Arc<SqlFunction>>,
    models: BTreeMap<String, Arc<CatalogModel>>,
    functions: Arc<Functions>,
    provider: Arc<dyn TableProviderFactory>,
    time_zone: String,
    state_ttl_ms: Option<u64>,
    placement: Arc<Placement>,
    recursion_max: (u64, u64),
    match_settings: MatchSettings,
    approximate: bool,
}

/// PostgreSQL's schema of objects that were put into no other; clients write it before names.
const PUBLIC: &str = "public";

impl Catalog {
    /// A catalog without tables, with DataFusion's and this dialect's functions.
    pub fn new(provider: Arc<dyn TableProviderFactory>) -> Self {
        Self {
            tables: BTreeMap::new(),
            views: BTreeMap::new(),
            sql_functions: BTreeMap::new(),
            models: BTreeMap::new(),
            functions: planner::context::default_functions(),
            provider,
            time_zone: "UTC".into(),
            state_ttl_ms: None,
            placement: Arc::default(),
            recursion_max: (10_000, 10_000_000),
            match_settings: MatchSettings::default(),
            approximate: false,
        }
    }

    /// The zone in which `TIMESTAMP_LTZ` is shown and in which texts are read into it (`SET 'eagre.sql.time_zone'`).
    pub fn time_zone(&self) -> &str {
        &self.time_zone
    }

    /// Sets [`time_zone`](Self::time_zone).
    pub fn set_time_zone(&mut self, time_zone: impl Into<String>) {
        self.time_zone = time_zone.into();
    }

    /// After how long state that was not touched is forgotten (`SET 'eagre.state.ttl'`); `None`: never.
    pub fn state_ttl_ms(&self) -> Option<u64> {
        self.state_ttl_ms
    }

    /// Sets [`state_ttl_ms`](Self::state_ttl_ms); 0 is never.
    pub fn set_state_ttl_ms(&mut self, ttl_ms: u64) {
        self.state_ttl_ms = Some(ttl_ms).filter(|ttl_ms| *ttl_ms > 0);
    }

    /// Where kernels may run (`SET 'eagre.device'`).
    pub fn placement(&self) -> &Arc<Placement> {
        &self.placement
    }

    /// Sets [`placement`](Self::placement).
    pub fn set_placement(&mut self, placement: Arc<Placement>) {
        self.placement = placement;
    }

    /// The most iterations and rows of a recursive query in one step (`SET 'eagre.sql.recursion_max'`, `.._rows_max`).
    pub fn recursion_max(&self) -> (u64, u64) {
        self.recursion_max
    }

    /// Sets [`recursion_max`](Self::recursion_max).
    pub fn set_recursion_max(&mut self, iterations: u64, rows: u64) {
        self.recursion_max = (iterations, rows);
    }

    /// What holds for all `MATCH_RECOGNIZE` clauses (`SET 'eagre.match.max_partial'` and its kin).
    pub fn match_settings(&self) -> &MatchSettings {
        &self.match_settings
    }

    /// Whether aggregates of floats by window may be approximate (`SET 'eagre.sql.approximate'`).
    pub fn approximate(&self) -> bool {
        self.approximate
    }

    /// Sets [`approximate`](Self::approximate).
    pub fn set_approximate(&mut self, approximate: bool) {
        self.approximate = approximate;
    }

    /// Sets [`match_settings`](Self::match_settings).
    pub fn set_match_settings(&mut self, settings: MatchSettings) {
        self.match_settings = settings;
    }

    pub(crate) fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Registers a scalar function from Rust; it replaces one of the same name.
    pub fn register_scalar_function(&mut self, function: ScalarUDF) {
        Arc::make_mut(&mut self.functions).add_scalar(Arc::new(function));
    }

    /// Registers an aggregate function from Rust; it replaces one of the same name.
    pub fn register_aggregate_function(&mut self, function: AggregateUDF) {
        Arc::make_mut(&mut self.functions).add_aggregate(Arc::new(function));
    }

    /// The model that a name means.
    ///
    /// # Errors
    /// There is none.
    pub fn model(&self, name: &str, quoted: bool, location: Option<Location>) -> Result<&Arc<CatalogModel>> {
        let found = self.models.get(&name.to_lowercase()).filter(|model| !quoted || model.definition.name == name);
        found.ok_or_else(|| SqlError::UnknownModel {
            name: name.to_string(),
            nearest: nearest(name, self.models.values().map(|model| model.definition.name.as_str())),
            location,
        })
    }

    /// The model of a lower-case name.
    pub(crate) fn model_by_key(&self, key: &str) -> Option<&Arc<CatalogModel>> {
        self.models.get(key)
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = &CatalogModel> {
        self.models.values().map(|model| &**model)
    }

    fn kind_of(&self, key: &str) -> Option<ObjectKind> {
        if self.views.contains_key(key) {
            return Some(ObjectKind::View);
        }
        Some(match self.tables.get(key)?.definition.role {
            TableRole::Table => ObjectKind::Table,
            TableRole::Source => ObjectKind::Source,
            TableRole::Sink => ObjectKind::Sink,
        })
    }

    fn object_key(&self, name: &ObjectName) -> Result<String> {
        match name.0.as_slice() {
            [name] => Ok(name.text.clone()),
            [schema, name] if schema.text.eq_ignore_ascii_case(PUBLIC) => Ok(name.text.clone()),
            _ => Err(SqlError::unsupported(
                format!("a name with qualifiers (`{name}`)"),
                "all objects live in one namespace; use the last part alone",
                name.location(),
            )),
        }
    }

    /// Whether a name begins with the schema in which PostgreSQL has all objects that were put into no other, and not with a table of that name.
    pub(crate) fn is_public(&self, first: &str) -> bool {
        first.eq_ignore_ascii_case(PUBLIC) && !self.exists(PUBLIC)
    }

    fn exists(&self, name: &str) -> bool {
        let key = name.to_lowercase();
        self.tables.contains_key(&key) || self.views.contains_key(&key)
    }

    /// What the parts of a name mean; each with whether it was quoted.
    ///
    /// # Errors
    /// [`SqlError::UnknownTable`] with the nearest name.
    pub fn relation(&self, parts: &[(&str, bool)], location: Option<Location>) -> Result<Relation> {
        let fits = |object: &str, (text, quoted): (&str, bool)| !quoted || object == text;
        if let [part] = parts {
            let key = part.0.to_lowercase();
            if let Some(table) = self.tables.get(&key).filter(|table| fits(&table.definition.name, *part)) {
                return Ok(Relation::Table(Arc::clone(table)));
            }
            if let Some(view) = self.views.get(&key).filter(|view| fits(&view.name, *part)) {
                return Ok(Relation::View(Arc::clone(view)));
            }
        }
        if let [part, (suffix, _)] = parts
            && let Some(table) = self.tables.get(&part.0.to_lowercase()).filter(|t| fits(&t.definition.name, *part))
        {
            match suffix.to_lowercase().as_str() {
                ERRORS_SUFFIX => return Ok(Relation::Errors(Arc::clone(table))),
                LATE_SUFFIX => return Ok(Relation::Late(Arc::clone(table))),
                _ => {}
            }
        }
        if let [part, (suffix, _)] = parts
            && suffix.eq_ignore_ascii_case(planner::FORECAST_ERROR_SUFFIX)
            && let Some(view) = self.views.get(&part.0.to_lowercase()).filter(|view| fits(&view.name, *part))
        {
            return match planner::errors_of(view) {
                Some(errors) => Ok(Relation::View(Arc::new(errors))),
                None => Err(SqlError::plan(
                    format!(
                        "view `{0}` has no `{1}`: it is no `SELECT .. FROM FORECAST(..)`; only of one forecast there is an error",
                        view.name,
                        planner::FORECAST_ERROR_SUFFIX
                    ),
                    location,
                )),
            };
        }
        if let [part, (suffix, _)] = parts
            && suffix.eq_ignore_ascii_case(ERRORS_SUFFIX)
            && let Some(view) = self.views.get(&part.0.to_lowercase()).filter(|view| fits(&view.name, *part))
        {
            return Ok(Relation::ViewErrors(Arc::clone(view)));
        }
        if let [part, (suffix, _)] = parts
            && let Some(model) =
                self.models.get(&part.0.to_lowercase()).filter(|model| fits(&model.definition.name, *part))
            && model.online.is_some()
        {
            match suffix.to_lowercase().as_str() {
                DRIFT_SUFFIX => return Ok(Relation::ModelDrift(Arc::clone(model))),
                ERRORS_SUFFIX => return Ok(Relation::ModelErrors(Arc::clone(model))),
                _ => {}
            }
        }
        let name = parts.iter().map(|(text, _)| *text).collect::<Vec<_>>().join(".");
        Err(SqlError::UnknownTable { nearest: self.nearest_relation(&name), name, location })
    }

    /// What a statement's name means.
    ///
    /// # Errors
    /// As [`relation`](Self::relation).
    pub fn lookup(&self, name: &ObjectName) -> Result<Relation> {
        let parts: Vec<_> = name.0.iter().map(|part| (part.text.as_str(), part.quoted)).collect();
        self.relation(&parts, Some(name.location()))
    }

    fn nearest_relation(&self, name: &str) -> Option<String> {
        let tables = self.tables.values().map(|table| table.definition.name.clone());
        let mut names: Vec<_> = tables.chain(self.views.values().map(|view| view.name.clone())).collect();
        if name.contains('.') {
            for table in self.tables.values() {
                names.push(format!("{}.{ERRORS_SUFFIX}", table.definition.name));
                names.push(format!("{}.{LATE_SUFFIX}", table.definition.name));
            }
            names.extend(self.views.values().map(|view| format!("{}.{ERRORS_SUFFIX}", view.name)));
            for model in self.models.values().filter(|model| model.online.is_some()) {
                names.extend([DRIFT_SUFFIX, ERRORS_SUFFIX].map(|suffix| format!("{}.{suffix}", model.slot.name())));
            }
        }
        nearest(name, names.iter().map(String::as_str))
    }

    /// The table's data as a source.
    ///
    /// # Errors
    /// The provider's, and for tables created as sinks.
    pub fn source(&self, table: &Table) -> Result<Arc<dyn Source>> {
        if let Some(source) = table.source.get() {
            return Ok(Arc::clone(source));
        }
        if table.definition.role == TableRole::Sink {
            return Err(SqlError::plan(
                format!("`{0}` is a sink and cannot be read; create it with `CREATE TABLE {0}`", table.definition.name),
                None,
            ));
        }
        let source = self.provider.source(&table.definition)?;
        Ok(Arc::clone(table.source.get_or_init(|| source)))
    }

    /// The table as a place to write to.
    ///
    /// # Errors
    /// The provider's, and for tables created as sources.
    pub fn sink(&self, table: &Table) -> Result<Arc<dyn SinkFactory>> {
        if let Some(sink) = table.sink.get() {
            return Ok(Arc::clone(sink));
        }
        if table.definition.role == TableRole::Source {
            return Err(SqlError::plan(
                format!(
                    "`{0}` is a source and cannot be written; create it with `CREATE TABLE {0}`",
                    table.definition.name
                ),
                None,
            ));
        }
        let sink = self.provider.sink(&table.definition)?;
        Ok(Arc::clone(table.sink.get_or_init(|| sink)))
    }

    /// Whether rows of the table's source can be taken back.
    pub(crate) fn changelog(&self, table: &Table) -> ChangelogMode {
        self.provider.changelog(&table.definition)
    }

    /// The views are again those of `before`, and what was dropped since is there again.
    pub fn restore(&mut self, before: &Self) {
        self.views.clone_from(&before.views);
        for (key, table) in &before.tables {
            self.tables.entry(key.clone()).or_insert_with(|| Arc::clone(table));
        }
        for (key, model) in &before.models {
            self.models.entry(key.clone()).or_insert_with(|| Arc::clone(model));
        }
        for (key, function) in &before.sql_functions {
            self.sql_functions.entry(key.clone()).or_insert_with(|| Arc::clone(function));
            Arc::make_mut(&mut self.functions).scalar.entry(key.clone()).or_insert_with(|| Arc::new(function.udf()));
        }
    }

    /// All tables, by name.
    pub fn tables(&self) -> impl Iterator<Item = &TableDefinition> {
        self.tables.values().map(|table| &table.definition)
    }

    /// All views, by name.
    pub fn views(&self) -> impl Iterator<Item = &View> {
        self.views.values().map(|view| &**view)
    }

    /// The body of a function created with `CREATE FUNCTION`, over its arguments.
    pub fn sql_function_body(&self, name: &str) -> Option<&Expr> {
        self.sql_functions.get(&name.to_lowercase()).map(|function| function.body())
    }
}
