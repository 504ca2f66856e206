//! What names mean: tables, views and functions.
//!
//! Unquoted names ignore case, and two objects may not differ in case only; so a name always means one object, whoever wrote it. Each
//! keeps the spelling that it was created with, for messages and output.
//!
//! The catalog holds definitions. What is behind a table (files, a topic, a callback) comes from a [`TableProviderFactory`] that
//! the crate `eagre` hands in, and only when a plan needs it: a file of statements can be checked where its data is not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, WindowUDF};
use eagre_engine::graph::{ChangelogMode, errors_schema, late_schema};
use eagre_engine::model::{ModelAndHistory, ModelSlot};
use eagre_engine::score::Placement;
use eagre_engine::settings::{self, Settings};
use eagre_engine::sink::SinkFactory;
use eagre_engine::source::Source;
use eagre_patterns::{BadSkip, Overflow};

use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::{
    self, ColumnKind as AstColumnKind, CreateFunction, CreateModel, CreateTable, CreateView, Drop, DropKind, ExprText,
    FunctionArg, Name, ObjectName, QueryText, TableOption, TableRole,
};
use crate::planner::online::OnlineQuery;
use crate::planner::{self, ROWTIME_METADATA, function::SqlFunction};
use crate::types::{quote_if_needed, sql_name};

/// Suffix of the pseudo-table of rows that could not be read.
pub const ERRORS_SUFFIX: &str = "errors";
/// What is told of a model that goes on learning, behind its name.
pub const DRIFT_SUFFIX: &str = "drift";
/// Suffix of the pseudo-table of rows that were refused as late.
pub const LATE_SUFFIX: &str = "late";

/// Table option: how long after its window closed a row may still correct the result.
pub const OPTION_ALLOWED_LATENESS: &str = "allowed-lateness";
/// Table option: after how long without rows a partition leaves the watermark's minimum.
pub const OPTION_IDLE_TIMEOUT: &str = "scan.watermark.idle-timeout";
/// Table option: `fail` ends the pipeline at an unreadable row, `collect` (the default, also called `skip`) sends it to
/// `<table>.errors`.
pub const OPTION_BAD_ROWS: &str = "bad-rows";

/// Table option: whether rows that a changelog takes back must have been there.
pub const OPTION_CHANGELOG_CHECK: &str = "changelog.check";

/// Table option, where it is joined `FOR SYSTEM_TIME AS OF` the processing time: whether answers are held, `NONE` or `PARTIAL`.
pub const OPTION_LOOKUP_CACHE: &str = "lookup.cache";
/// Table option: the most rows of answers that are held.
pub const OPTION_LOOKUP_ROWS_MAX: &str = "lookup.partial-cache.max-rows";
/// Table option: how old an answer may be.
pub const OPTION_LOOKUP_EXPIRE: &str = "lookup.partial-cache.expire-after-write";
/// Table option: how often a request that failed is made again.
pub const OPTION_LOOKUP_RETRIES: &str = "lookup.max-retries";

/// The options that the planner itself reads; connectors must let them pass.
pub const PLANNER_OPTIONS: &[&str] = &[
    OPTION_ALLOWED_LATENESS,
    OPTION_IDLE_TIMEOUT,
    OPTION_BAD_ROWS,
    OPTION_CHANGELOG_CHECK,
    OPTION_LOOKUP_CACHE,
    OPTION_LOOKUP_ROWS_MAX,
    OPTION_LOOKUP_EXPIRE,
    OPTION_LOOKUP_RETRIES,
];

/// Gives the data behind tables. Implemented by the crate `eagre` on the connectors.
pub trait TableProviderFactory: Send + Sync {
    /// Opens nothing yet: describes how to read the table. Its schema has the columns of [`TableDefinition::source_schema`].
    ///
    /// # Errors
    /// Options that the connector does not know or that do not fit, with their place.
    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>>;

    /// Describes how to write the table: rows have the columns of [`TableDefinition::sink_schema`].
    ///
    /// # Errors
    /// As [`source`](Self::source), and where the connector cannot write.
    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn SinkFactory>>;

    /// Checks what a definition says of the data behind it, without looking at the data: for `CREATE TABLE`.
    ///
    /// # Errors
    /// A connector or an option that is not known, with its place.
    fn check(&self, _table: &TableDefinition) -> Result<()> {
        Ok(())
    }

    /// The columns of a table that was created without any.
    ///
    /// # Errors
    /// Where the data has no schema of its own or cannot be looked at.
    fn infer_schema(&self, table: &TableDefinition) -> Result<InferredTable>;

    /// Whether rows of the source can be taken back, and how: [`ChangelogMode::Retract`] has weights on full rows;
    /// [`ChangelogMode::Upsert`] has a positive weight on a row that stands in the place of its key's, and a negative one where the row of
    /// a key goes. A table of the latter kind has a primary key.
    fn changelog(&self, _table: &TableDefinition) -> ChangelogMode {
        ChangelogMode::AppendOnly
    }

    /// The model of a definition, and what finds others that its name has meant.
    ///
    /// # Errors
    /// Options that cannot be, a file that is no such model, with their place.
    fn model(&self, model: &ModelDefinition) -> Result<ModelAndHistory> {
        Err(SqlError::plan(format!("model `{}` cannot be had: nothing here runs models", model.name), model.location))
    }
}

/// What the data says of a table that is created without columns.
#[derive(Debug, Clone)]
pub struct InferredTable {
    /// All columns.
    pub schema: SchemaRef,
    /// Those of them by which the data is partitioned.
    pub partitioned_by: Vec<String>,
}

/// Knows no connector: for checks and tests that only plan.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoProviders;

impl NoProviders {
    fn refuse<T>(table: &TableDefinition) -> Result<T> {
        Err(SqlError::plan(format!("table `{}` has no data behind it", table.name), table.location))
    }
}

impl TableProviderFactory for NoProviders {
    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>> {
        Self::refuse(table)
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn SinkFactory>> {
        Self::refuse(table)
    }

    fn infer_schema(&self, table: &TableDefinition) -> Result<InferredTable> {
        Self::refuse(table)
    }
}

/// What `CREATE TABLE` said.
#[derive(Debug, Clone)]
pub struct TableDefinition {
    /// Its name, as created.
    pub name: String,
    /// Which word created it.
    pub role: TableRole,
    /// The columns in order.
    pub columns: Vec<ColumnDefinition>,
    /// `WATERMARK FOR`.
    pub watermark: Option<WatermarkDefinition>,
    /// `PRIMARY KEY`: names of columns, spelled as the columns are.
    pub primary_key: Vec<String>,
    /// `PARTITIONED BY`: names of columns, spelled as the columns are.
    pub partitioned_by: Vec<String>,
    /// `WITH (..)`.
    pub options: Vec<TableOption>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// Whether the columns were inferred from the data.
    pub inferred: bool,
    /// Where it was created.
    pub location: Option<Location>,
}

/// One column of a table.
#[derive(Debug, Clone)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type; that of a computed column is the type of its expression.
    pub data_type: DataType,
    /// Whether it may hold nulls.
    pub nullable: bool,
    /// Where its values come from.
    pub kind: ColumnKind,
    /// `COMMENT`.
    pub comment: Option<String>,
}

/// Where a column's values come from.
#[derive(Debug, Clone)]
pub enum ColumnKind {
    /// From the bytes of the row.
    Physical,
    /// From what the connector knows about the row.
    Metadata {
        /// What the connector calls it.
        key: String,
        /// Read only, no part of what is written.
        is_virtual: bool,
    },
    /// From the other columns.
    Computed(Box<ExprText>),
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone)]
pub struct WatermarkDefinition {
    /// The event-time column.
    pub column: String,
    /// The watermark of a row; none means the column itself.
    pub expr: Option<ExprText>,
    /// Where it stands.
    pub location: Option<Location>,
}

impl TableDefinition {
    /// A table of physical columns, for sources and sinks that are attached from code.
    pub fn from_schema(name: impl Into<String>, schema: &Schema) -> Self {
        let columns = schema.fields().iter().map(|field| ColumnDefinition {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
            kind: ColumnKind::Physical,
            comment: None,
        });
        Self {
            name: name.into(),
            role: TableRole::Table,
            columns: columns.collect(),
            watermark: None,
            primary_key: vec![],
            partitioned_by: vec![],
            options: vec![],
            comment: None,
            inferred: false,
            location: None,
        }
    }

    /// The same with `WATERMARK FOR column AS expr` (`expr` as SQL text).
    ///
    /// # Errors
    /// Where `expr` does not parse.
    pub fn with_watermark(mut self, column: &str, expr: Option<&str>) -> Result<Self> {
        let expr = expr.map(parser::parse_expr).transpose()?;
        self.watermark = Some(WatermarkDefinition { column: column.to_string(), expr, location: None });
        Ok(self)
    }

    /// The value of an option, by its key.
    pub fn option(&self, key: &str) -> Option<&TableOption> {
        self.options.iter().find(|option| option.key.eq_ignore_ascii_case(key))
    }

    /// All columns, as a query sees them. The event-time column carries [`ROWTIME_METADATA`].
    pub fn schema(&self) -> SchemaRef {
        let watermark = self.watermark.as_ref().map(|watermark| watermark.column.as_str());
        let fields = self.columns.iter().map(|column| {
            let field = Field::new(&column.name, column.data_type.clone(), column.nullable);
            match watermark == Some(column.name.as_str()) {
                true => field.with_metadata([(ROWTIME_METADATA.to_string(), self.name.clone())].into()),
                false => field,
            }
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The columns that a source must give: all but the computed ones.
    pub fn source_schema(&self) -> SchemaRef {
        let fields = self.columns.iter().filter(|column| !matches!(column.kind, ColumnKind::Computed(_)));
        Arc::new(Schema::new(fields.map(ColumnDefinition::field).collect::<Vec<_>>()))
    }

    /// The columns that a sink gets: all but computed columns and virtual metadata.
    pub fn sink_schema(&self) -> SchemaRef {
        let fields = self.columns.iter().filter(|column| column.is_written());
        Arc::new(Schema::new(fields.map(ColumnDefinition::field).collect::<Vec<_>>()))
    }

    /// The index of the column that `name` means: exactly, else, when unquoted, ignoring case.
    pub fn column_index(&self, name: &Name) -> Option<usize> {
        let exact = self.columns.iter().position(|column| column.name == name.text);
        exact.or_else(|| self.columns.iter().position(|column| name.matches(&column.name)))
    }

    /// The statement that creates this table.
    pub fn create_statement(&self) -> String {
        let word = match self.role {
            TableRole::Table => "TABLE",
            TableRole::Source => "SOURCE",
            TableRole::Sink => "SINK",
        };
        let mut lines = self.columns.iter().map(ColumnDefinition::sql).collect::<Vec<_>>();
        if let Some(watermark) = &self.watermark {
            let column = quote_if_needed(&watermark.column);
            let expr = watermark.expr.as_ref().map_or(column.clone(), |expr| expr.text.clone());
            lines.push(format!("WATERMARK FOR {column} AS {expr}"));
        }
        if !self.primary_key.is_empty() {
            lines.push(format!("PRIMARY KEY ({}) NOT ENFORCED", quoted_list(&self.primary_key)));
        }
        let mut text = format!("CREATE {word} {}", quote_if_needed(&self.name));
        if !lines.is_empty() {
            let _ = write!(text, " (\n  {}\n)", lines.join(",\n  "));
        }
        if let Some(comment) = &self.comment {
            let _ = write!(text, " COMMENT '{}'", comment.replace('\'', "''"));
        }
        if !self.partitioned_by.is_empty() {
            let _ = write!(text, " PARTITIONED BY ({})", quoted_list(&self.partitioned_by));
        }
        if !self.options.is_empty() {
            let options = self.options.iter();
            let options = options.map(|option| format!("'{}' = '{}'", option.key, option.value.replace('\'', "''")));
            let _ = write!(text, " WITH (\n  {}\n)", options.collect::<Vec<_>>().join(",\n  "));
        }
        text
    }

    /// What an option counts.
    pub(crate) fn count_option(&self, key: &str) -> Result<Option<u64>> {
        let Some(option) = self.option(key) else {
            return Ok(None);
        };
        match option.value.trim().parse() {
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(SqlError::InvalidOption {
                owner: format!("`{}`", self.name),
                option: option.key.clone(),
                value: option.value.clone(),
                message: "it is a whole number".into(),
                location: Some(option.value_location),
            }),
        }
    }

    /// What an option says in milliseconds.
    pub(crate) fn duration_option_ms(&self, key: &str) -> Result<Option<u64>> {
        let Some(option) = self.option(key) else {
            return Ok(None);
        };
        match parse_duration_ms(&option.value) {
            Some(ms) => Ok(Some(ms)),
            None => Err(SqlError::InvalidOption {
                owner: format!("`{}`", self.name),
                option: option.key.clone(),
                value: option.value.clone(),
                message: "it is a duration such as '500 ms', '10 s', '5 min', '1 h' or '1 d'".into(),
                location: Some(option.value_location),
            }),
        }
    }
}

impl ColumnDefinition {
    fn field(&self) -> Field {
        Field::new(&self.name, self.data_type.clone(), self.nullable)
    }

    /// Whether `INSERT` fills it.
    pub fn is_written(&self) -> bool {
        match self.kind {
            ColumnKind::Physical => true,
            ColumnKind::Metadata { is_virtual, .. } => !is_virtual,
            ColumnKind::Computed(_) => false,
        }
    }

    fn sql(&self) -> String {
        let name = quote_if_needed(&self.name);
        let not_null = if self.nullable { "" } else { " NOT NULL" };
        let mut text = match &self.kind {
            ColumnKind::Physical => format!("{name} {}{not_null}", sql_name(&self.data_type)),
            ColumnKind::Metadata { key, is_virtual } => format!(
                "{name} {}{not_null} METADATA FROM '{key}'{}",
                sql_name(&self.data_type),
                if *is_virtual { " VIRTUAL" } else { "" }
            ),
            ColumnKind::Computed(expr) => format!("{name} AS {}", expr.text),
        };
        if let Some(comment) = &self.comment {
            let _ = write!(text, " COMMENT '{}'", comment.replace('\'', "''"));
        }
        text
    }
}

fn quoted_list(names: &[String]) -> String {
    names.iter().map(|name| quote_if_needed(name)).collect::<Vec<_>>().join(", ")
}

/// Milliseconds of a duration as Flink writes it: `10 s`, `500ms`, `5 min`, `1 h`, `1 d`; a bare number is milliseconds.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim().to_lowercase().as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A table and what is behind it.
pub struct Table {
    /// What was said about it.
    pub definition: TableDefinition,
    source: OnceLock<Arc<dyn Source>>,
    sink: OnceLock<Arc<dyn SinkFactory>>,
    /// Whether its data was attached from code: the provider knows nothing of it.
    attached: bool,
}

impl Table {
    fn new(definition: TableDefinition) -> Self {
        Self { definition, source: OnceLock::new(), sink: OnceLock::new(), attached: false }
    }
}

/// A query with a name.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name, as created.
    pub name: String,
    /// New names of its columns; empty to keep those of the query.
    pub columns: Vec<String>,
    /// The query.
    pub query: QueryText,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// Whether it was created as `MATERIALIZED`.
    pub materialized: bool,
}

impl View {
    /// The statement that creates this view.
    pub fn create_statement(&self) -> String {
        let materialized = if self.materialized { "MATERIALIZED " } else { "" };
        let columns = match self.columns.is_empty() {
            true => String::new(),
            false => format!(" ({})", quoted_list(&self.columns)),
        };
        format!("CREATE {materialized}VIEW {}{columns} AS\n{}", quote_if_needed(&self.name), self.query.text)
    }
}

/// What a table name in a query means.
#[derive(Clone)]
pub enum Relation {
    /// A table.
    Table(Arc<Table>),
    /// A view.
    View(Arc<View>),
    /// `<table>.errors`.
    Errors(Arc<Table>),
    /// `<table>.late`.
    Late(Arc<Table>),
    /// `<view>.errors`: the rows that models refused on their way into the view.
    ViewErrors(Arc<View>),
    /// `<model>.drift`: how well a model does that goes on learning, and how far its inputs have gone.
    ModelDrift(Arc<CatalogModel>),
    /// `<model>.errors`: the labelled rows that it could not learn.
    ModelErrors(Arc<CatalogModel>),
}

impl Relation {
    /// The name by which plans know it.
    pub fn name(&self) -> String {
        match self {
            Self::Table(table) => table.definition.name.clone(),
            Self::View(view) => view.name.clone(),
            Self::Errors(table) => format!("{}.{ERRORS_SUFFIX}", table.definition.name),
            Self::Late(table) => format!("{}.{LATE_SUFFIX}", table.definition.name),
            Self::ViewErrors(view) => format!("{}.{ERRORS_SUFFIX}", view.name),
            Self::ModelDrift(model) => format!("{}.{DRIFT_SUFFIX}", model.slot.name()),
            Self::ModelErrors(model) => format!("{}.{ERRORS_SUFFIX}", model.slot.name()),
        }
    }
}

/// What `CREATE MODEL` said.
#[derive(Debug, Clone)]
pub struct ModelDefinition {
    /// Its name, as created.
    pub name: String,
    /// `INPUT (..)`: names and types.
    pub input: Option<Vec<(String, DataType)>>,
    /// `OUTPUT (..)`: names and types.
    pub output: Option<Vec<(String, DataType)>>,
    /// `WITH (..)`.
    pub options: Vec<TableOption>,
    /// `COMMENT`.
    pub comment: Option<String>,
    /// The statement, as written.
    pub text: String,
    /// Where it was created.
    pub location: Option<Location>,
    /// Of a model that goes on learning from the rows of its query: the type of what is learnt. Its `input` are the columns that it is learnt from.
    pub label: Option<DataType>,
}

impl ModelDefinition {
    /// Of a statement and its text.
    pub fn of(create: &CreateModel, text: &str) -> Self {
        let columns = |columns: &Option<Vec<FunctionArg>>| {
            let column = |column: &FunctionArg| (column.name.text.clone(), column.data_type.clone());
            columns.as_ref().map(|columns| columns.iter().map(column).collect())
        };
        Self {
            name: create.name.last().text.clone(),
            input: columns(&create.input),
            output: columns(&create.output),
            options: create.options.clone(),
            comment: create.comment.clone(),
            text: text.to_string(),
            location: Some(create.name.location()),
            label: None,
        }
    }

    /// Whether it says that the model goes on learning.
    pub fn is_online(&self) -> bool {
        self.option("learn").is_some_and(|option| option.value.trim().eq_ignore_ascii_case("online"))
    }

    /// The value of an option, by its key.
    pub fn option(&self, key: &str) -> Option<&TableOption> {
        self.options.iter().find(|option| option.key.eq_ignore_ascii_case(key))
    }
}

/// A model and what was said of it.
pub struct CatalogModel {
    /// What `CREATE MODEL` said.
    pub definition: ModelDefinition,
    /// What the name means, from step to step.
    pub slot: Arc<ModelSlot>,
    /// Its labelled rows, if it goes on learning.
    pub(crate) online: Option<OnlineQuery>,
}

/// The functions that a query may call, by their lower-case names.
#[derive(Clone, Default)]
pub(crate) struct Functions {
    pub(crate) scalar: BTreeMap<String, Arc<ScalarUDF>>,
    pub(crate) aggregate: BTreeMap<String, Arc<AggregateUDF>>,
    pub(crate) window: BTreeMap<String, Arc<WindowUDF>>,
    pub(crate) higher_order: BTreeMap<String, Arc<HigherOrderUDF>>,
}

impl Functions {
    /// Whether some function has this lower-case name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.scalar.contains_key(name)
            || self.aggregate.contains_key(name)
            || self.window.contains_key(name)
            || self.higher_order.contains_key(name)
    }

    /// All names, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names = self.scalar.keys().chain(self.aggregate.keys()).chain(self.window.keys());
        let mut names: Vec<_> = names.by_ref().map(String::as_str).collect();
        names.extend(self.higher_order.keys().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        names
    }

    fn add_scalar(&mut self, function: Arc<ScalarUDF>) {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
            self.scalar.insert(name.to_lowercase(), Arc::clone(&function));
        }
    }

    fn add_aggregate(&mut self, function: Arc<AggregateUDF>) {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
            self.aggregate.insert(name.to_lowercase(), Arc::clone(&function));
        }
    }
}

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

/// What holds for all `MATCH_RECOGNIZE` clauses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MatchSettings {
    /// What becomes of a match whose `SKIP TO` leads nowhere; `None`: of finished input an error, of streams the next row.
    pub bad_skip: Option<BadSkip>,
    /// How many partial matches a partition may have.
    pub max_partial: usize,
    /// What happens where there are more.
    pub overflow: Overflow,
}

impl MatchSettings {
    /// As the settings say.
    pub fn of(settings: &Settings) -> Self {
        Self {
            bad_skip: match settings.text(settings::MATCH_BAD_SKIP) {
                "error" => Some(BadSkip::Error),
                "next-row" => Some(BadSkip::NextRow),
                _ => None,
            },
            max_partial: usize::try_from(settings.count(settings::MATCH_MAX_PARTIAL)).unwrap_or(usize::MAX),
            overflow: match settings.text(settings::MATCH_OVERFLOW) {
                "drop-oldest" => Overflow::DropOldest,
                _ => Overflow::Error,
            },
        }
    }
}

impl Default for MatchSettings {
    fn default() -> Self {
        Self { bad_skip: None, max_partial: 1_000_000, overflow: Overflow::Error }
    }
}

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

    /// Adds a table whose data comes from code: what is `None` comes from the provider.
    ///
    /// # Errors
    /// Where the name is taken or the definition does not hold.
    pub fn register_table(
        &mut self,
        mut definition: TableDefinition,
        source: Option<Arc<dyn Source>>,
        sink: Option<Arc<dyn SinkFactory>>,
    ) -> Result<()> {
        self.check_free(&definition.name, definition.location)?;
        self.complete(&mut definition)?;
        let key = definition.name.to_lowercase();
        let table = Table { attached: source.is_some() || sink.is_some(), ..Table::new(definition) };
        if let Some(source) = source {
            let _ = table.source.set(source);
        }
        if let Some(sink) = sink {
            let _ = table.sink.set(sink);
        }
        self.tables.insert(key, Arc::new(table));
        Ok(())
    }

    /// `CREATE TABLE`, `CREATE SOURCE`, `CREATE SINK`. Of `CREATE TABLE .. AS` only the table is created.
    ///
    /// # Errors
    /// Names that are taken or unknown, types that do not fit, expressions that do not plan.
    pub fn create_table(&mut self, create: &CreateTable) -> Result<()> {
        let name = self.object_key(&create.name)?;
        if self.exists(&name) {
            if create.if_not_exists {
                return Ok(());
            }
            if !(create.or_replace && self.tables.contains_key(&name.to_lowercase())) {
                self.check_free(&name, Some(create.name.location()))?;
            }
        }
        let mut definition = TableDefinition {
            name: name.clone(),
            role: create.role,
            columns: vec![],
            watermark: None,
            primary_key: vec![],
            partitioned_by: vec![],
            options: create.options.clone(),
            comment: create.comment.clone(),
            inferred: false,
            location: Some(create.name.location()),
        };
        for column in &create.columns {
            if definition.column_index(&column.name).is_some() {
                return Err(SqlError::AlreadyExists {
                    kind: "column",
                    name: column.name.text.clone(),
                    location: Some(column.name.location),
                });
            }
            let (data_type, nullable, kind) = match &column.kind {
                AstColumnKind::Physical { data_type, not_null } => (data_type.clone(), !not_null, ColumnKind::Physical),
                AstColumnKind::Metadata { data_type, not_null, key, is_virtual } => {
                    let key = key.clone().unwrap_or_else(|| column.name.text.clone());
                    (data_type.clone(), !not_null, ColumnKind::Metadata { key, is_virtual: *is_virtual })
                }
                // Its type is known when all other columns are.
                AstColumnKind::Computed { expr } => {
                    (DataType::Null, true, ColumnKind::Computed(Box::new(expr.clone())))
                }
            };
            let comment = column.comment.clone();
            definition.columns.push(ColumnDefinition {
                name: column.name.text.clone(),
                data_type,
                nullable,
                kind,
                comment,
            });
        }
        let physical = definition.columns.iter().any(|column| matches!(column.kind, ColumnKind::Physical));
        if !physical {
            let inferred = match &create.query {
                Some(query) => InferredTable { schema: planner::query_schema(self, query)?, partitioned_by: vec![] },
                None => self.provider.infer_schema(&definition)?,
            };
            definition.partitioned_by = inferred.partitioned_by;
            let inferred = inferred.schema.fields().iter().map(|field| ColumnDefinition {
                name: field.name().clone(),
                data_type: match field.data_type() {
                    // A table holds what is taken out of a JSON text as a text.
                    DataType::Union(..) => DataType::Utf8View,
                    other => other.clone(),
                },
                nullable: field.is_nullable(),
                kind: ColumnKind::Physical,
                comment: None,
            });
            definition.columns.splice(0..0, inferred.collect::<Vec<_>>());
            definition.inferred = true;
        }
        definition.primary_key = match &create.primary_key {
            Some(key) => self.own_columns(&definition, &key.columns)?,
            None => vec![],
        };
        if !create.partitioned_by.is_empty() {
            definition.partitioned_by = self.own_columns(&definition, &create.partitioned_by)?;
        }
        if let Some(watermark) = &create.watermark {
            let column = self.own_columns(&definition, std::slice::from_ref(&watermark.column))?.remove(0);
            definition.watermark =
                Some(WatermarkDefinition { column, expr: watermark.expr.clone(), location: Some(watermark.location) });
        }
        self.complete(&mut definition)?;
        self.provider.check(&definition)?;
        self.tables.insert(name.to_lowercase(), Arc::new(Table::new(definition)));
        Ok(())
    }

    /// Has the data behind a table looked up anew by those who read it from now on; clones of this catalog keep what they know.
    pub fn renew(&mut self, table: &Table) {
        if !table.attached {
            let definition = table.definition.clone();
            self.tables.insert(definition.name.to_lowercase(), Arc::new(Table::new(definition)));
        }
    }

    /// Plans what a definition computes: the types of computed columns, and whether the watermark is one.
    fn complete(&self, definition: &mut TableDefinition) -> Result<()> {
        let source_schema = definition.source_schema();
        for index in 0..definition.columns.len() {
            let ColumnKind::Computed(expr) = &definition.columns[index].kind else {
                continue;
            };
            let field = planner::expr_field(self, expr, &source_schema)?;
            definition.columns[index].data_type = field.data_type().clone();
            definition.columns[index].nullable = field.is_nullable();
        }
        planner::watermark_spec(self, definition)?;
        definition.duration_option_ms(OPTION_ALLOWED_LATENESS)?;
        definition.duration_option_ms(OPTION_IDLE_TIMEOUT)?;
        if let Some(option) = definition.option(OPTION_CHANGELOG_CHECK)
            && !matches!(option.value.as_str(), "true" | "false")
        {
            return Err(SqlError::InvalidOption {
                owner: format!("`{}`", definition.name),
                option: option.key.clone(),
                value: option.value.clone(),
                message:
                    "it is 'true' (a row that is taken back and was never there goes to `<table>.errors`) or 'false'"
                        .into(),
                location: Some(option.value_location),
            });
        }
        match definition.option(OPTION_BAD_ROWS) {
            Some(option) if !matches!(option.value.as_str(), "collect" | "fail" | "skip") => {
                Err(SqlError::InvalidOption {
                    owner: format!("`{}`", definition.name),
                    option: option.key.clone(),
                    value: option.value.clone(),
                    message: "it is 'collect' (to `<table>.errors`; 'skip' says the same) or 'fail'".into(),
                    location: Some(option.value_location),
                })
            }
            _ => Ok(()),
        }
    }

    fn own_columns(&self, definition: &TableDefinition, names: &[Name]) -> Result<Vec<String>> {
        let find = |name: &Name| match definition.column_index(name) {
            Some(index) => Ok(definition.columns[index].name.clone()),
            None => Err(SqlError::UnknownColumn {
                name: name.text.clone(),
                nearest: nearest(&name.text, definition.columns.iter().map(|column| column.name.as_str())),
                location: Some(name.location),
            }),
        };
        names.iter().map(find).collect()
    }

    /// `CREATE VIEW`. The query is planned once, so that a view that cannot be is an error now.
    ///
    /// # Errors
    /// A name that is taken, a query that does not plan, a number of column names that does not fit.
    pub fn create_view(&mut self, create: &CreateView) -> Result<()> {
        let name = self.object_key(&create.name)?;
        if self.exists(&name) {
            if create.if_not_exists {
                return Ok(());
            }
            if !(create.or_replace && self.views.contains_key(&name.to_lowercase())) {
                self.check_free(&name, Some(create.name.location()))?;
            }
        }
        let schema = planner::query_schema(self, &create.query)?;
        if !create.columns.is_empty() && create.columns.len() != schema.fields().len() {
            return Err(SqlError::plan(
                format!(
                    "view `{name}` names {} columns, but its query has {}",
                    create.columns.len(),
                    schema.fields().len()
                ),
                create.columns[0].location,
            ));
        }
        let view = View {
            name: name.clone(),
            columns: create.columns.iter().map(|column| column.text.clone()).collect(),
            query: create.query.clone(),
            comment: create.comment.clone(),
            materialized: create.materialized,
        };
        self.views.insert(name.to_lowercase(), Arc::new(view));
        Ok(())
    }

    /// `CREATE FUNCTION`.
    ///
    /// # Errors
    /// A name that is taken, a body that does not plan over the arguments or cannot be cast to the stated type.
    pub fn create_function(&mut self, create: &CreateFunction) -> Result<()> {
        let name = self.object_key(&create.name)?;
        let key = name.to_lowercase();
        if self.functions.contains(&key) {
            if create.if_not_exists {
                return Ok(());
            }
            if !(create.or_replace && self.sql_functions.contains_key(&key)) {
                return Err(SqlError::AlreadyExists { kind: "function", name, location: Some(create.name.location()) });
            }
        }
        let function = SqlFunction::plan(self, &key, create)?;
        Arc::make_mut(&mut self.functions).scalar.insert(key.clone(), Arc::new(function.udf()));
        self.sql_functions.insert(key, Arc::new(function));
        Ok(())
    }

    /// `CREATE MODEL` of a file, or with the model that was trained for it. `OR REPLACE` exchanges the model for all who ask it. Gives whether
    /// there is another one now.
    ///
    /// # Errors
    /// A name that is taken; a model that cannot be had; one that cannot take the place of another.
    pub fn create_model(&mut self, mut definition: ModelDefinition, create: &CreateModel) -> Result<bool> {
        let name = self.object_key(&create.name)?;
        let key = name.to_lowercase();
        let known = self.models.get(&key).cloned();
        if !self.creates_model(create)? {
            return Ok(false);
        }
        let online = match &create.query {
            Some(query) if definition.is_online() => Some(OnlineQuery::of(self, &mut definition, query)?),
            _ => None,
        };
        let (model, history) = self.provider.model(&definition)?;
        let slot = match &known {
            Some(known) => {
                known.slot.replace(model).map_err(|error| SqlError::plan(error.to_string(), definition.location))?;
                Arc::clone(&known.slot)
            }
            None => {
                let slot = ModelSlot::new(&name, model);
                Arc::new(match history {
                    Some(history) => slot.with_history(history),
                    None => slot,
                })
            }
        };
        self.models.insert(key, Arc::new(CatalogModel { definition, slot, online }));
        Ok(true)
    }

    /// Whether `CREATE MODEL` makes a model, or leaves the one that there is.
    ///
    /// # Errors
    /// The name is taken.
    pub fn creates_model(&self, create: &CreateModel) -> Result<bool> {
        let name = self.object_key(&create.name)?;
        match self.models.contains_key(&name.to_lowercase()) {
            true if create.if_not_exists => Ok(false),
            true if !create.or_replace => {
                Err(SqlError::AlreadyExists { kind: "model", name, location: Some(create.name.location()) })
            }
            _ => Ok(true),
        }
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

    /// `DROP ..`. `DROP TABLE` drops sources and sinks too.
    ///
    /// # Errors
    /// A name that does not exist, without `IF EXISTS`, and one of another kind.
    pub fn drop(&mut self, drop: &Drop) -> Result<()> {
        let name = drop.name.plain();
        let key = name.to_lowercase();
        let location = Some(drop.name.location());
        if drop.kind == DropKind::Function {
            if self.sql_functions.remove(&key).is_some() {
                Arc::make_mut(&mut self.functions).scalar.remove(&key);
            } else if !drop.if_exists {
                let nearest = nearest(&name, self.sql_functions.keys().map(String::as_str));
                return Err(SqlError::UnknownFunction { name, nearest, location });
            }
            return Ok(());
        }
        if drop.kind == DropKind::Model {
            // Pipelines that ask it go on with it.
            return match self.models.remove(&key) {
                None if !drop.if_exists => self.model(&name, false, location).map(|_| ()),
                _ => Ok(()),
            };
        }
        let (kind, word) = match drop.kind {
            DropKind::Source => (ObjectKind::Source, "SOURCE"),
            DropKind::Sink => (ObjectKind::Sink, "SINK"),
            DropKind::View => (ObjectKind::View, "VIEW"),
            DropKind::MaterializedView => (ObjectKind::View, "MATERIALIZED VIEW"),
            DropKind::Table | DropKind::Function | DropKind::Model => (ObjectKind::Table, "TABLE"),
        };
        match self.kind_of(&key) {
            Some(found) if found == kind || (kind == ObjectKind::Table && found != ObjectKind::View) => {
                self.tables.remove(&key);
                self.views.remove(&key);
                Ok(())
            }
            Some(found) => {
                let materialized = self.views.get(&key).is_some_and(|view| view.materialized);
                let found = if materialized { "materialized view" } else { found.word() };
                let message = format!(
                    "`{name}` is a {found}: `DROP {word}` does not drop it, `DROP {} {name}` does",
                    found.to_uppercase()
                );
                Err(SqlError::plan(message, location))
            }
            None if drop.if_exists => Ok(()),
            None if kind == ObjectKind::Table => {
                Err(SqlError::UnknownTable { nearest: self.nearest_relation(&name), name, location })
            }
            None => {
                let alike = self.tables.keys().chain(self.views.keys()).filter(|key| self.kind_of(key) == Some(kind));
                let nearest = nearest(&name, alike.map(String::as_str));
                Err(SqlError::UnknownObject { kind: kind.word(), name, nearest, location })
            }
        }
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
            _ => Err(SqlError::unsupported(
                format!("a name with qualifiers (`{name}`)"),
                "all objects live in one namespace; use the last part alone",
                name.location(),
            )),
        }
    }

    fn exists(&self, name: &str) -> bool {
        let key = name.to_lowercase();
        self.tables.contains_key(&key) || self.views.contains_key(&key)
    }

    fn check_free(&self, name: &str, location: Option<Location>) -> Result<()> {
        let key = name.to_lowercase();
        let kind = match (self.tables.contains_key(&key), self.views.contains_key(&key)) {
            (true, _) => "table",
            (_, true) => "view",
            _ => return Ok(()),
        };
        Err(SqlError::AlreadyExists { kind, name: name.to_string(), location })
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

    /// The views are again those of `before`.
    pub fn restore_views(&mut self, before: &Self) {
        self.views.clone_from(&before.views);
    }

    /// All tables, by name.
    pub fn tables(&self) -> impl Iterator<Item = &TableDefinition> {
        self.tables.values().map(|table| &table.definition)
    }

    /// All views, by name.
    pub fn views(&self) -> impl Iterator<Item = &View> {
        self.views.values().map(|view| &**view)
    }

    /// The names of all functions, with what kind each is.
    pub fn function_names(&self) -> Vec<(String, &'static str)> {
        let kind = |name: &str| {
            if self.sql_functions.contains_key(name) {
                "sql"
            } else if self.functions.aggregate.contains_key(name) {
                "aggregate"
            } else if self.functions.window.contains_key(name) {
                "window"
            } else {
                "scalar"
            }
        };
        let mut names: Vec<_> = self.functions.names().into_iter().map(|name| (name.to_string(), kind(name))).collect();
        let written = planner::WRITTEN_FUNCTIONS.iter().filter(|(name, _)| !self.functions.contains(name));
        names.extend(written.map(|(name, kind)| ((*name).to_string(), *kind)));
        let macros = planner::macros::names().filter(|name| !self.functions.contains(name));
        names.extend(
            macros.map(|name| (name.to_string(), if name.starts_with("count") { "aggregate" } else { "scalar" })),
        );
        names.sort_unstable();
        names
    }

    /// The columns of a table, view or pseudo-table, as a query sees them.
    ///
    /// # Errors
    /// Where a view no longer plans, because what it reads was dropped.
    pub fn relation_schema(&self, relation: &Relation) -> Result<SchemaRef> {
        Ok(match relation {
            Relation::Table(table) => table.definition.schema(),
            Relation::View(view) => planner::view_schema(self, view)?,
            Relation::Errors(_) | Relation::ViewErrors(_) | Relation::ModelErrors(_) => errors_schema(),
            Relation::ModelDrift(model) => planner::online::drift_schema(model)?,
            Relation::Late(_) => late_schema(),
        })
    }

    /// The rows of `DESCRIBE name`: name, type, nullability, role and comment of each column.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup) and [`relation_schema`](Self::relation_schema).
    pub fn describe(&self, name: &ObjectName) -> Result<Vec<ColumnDescription>> {
        let relation = self.lookup(name)?;
        let plain = |field: &FieldRef| ColumnDescription {
            name: field.name().clone(),
            data_type: sql_name(field.data_type()),
            nullable: field.is_nullable(),
            key: false,
            extra: String::new(),
            comment: None,
        };
        let Relation::Table(table) = &relation else {
            return Ok(self.relation_schema(&relation)?.fields().iter().map(plain).collect());
        };
        let definition = &table.definition;
        Ok(definition
            .columns
            .iter()
            .map(|column| {
                let mut extra = match &column.kind {
                    ColumnKind::Physical => vec![],
                    ColumnKind::Metadata { key, .. } => vec![format!("METADATA FROM '{key}'")],
                    ColumnKind::Computed(expr) => vec![format!("AS {}", expr.text)],
                };
                if let Some(watermark) = definition.watermark.as_ref().filter(|w| w.column == column.name) {
                    let expr = watermark.expr.as_ref().map_or(watermark.column.as_str(), |expr| &expr.text);
                    extra.push(format!("WATERMARK AS {expr}"));
                }
                ColumnDescription {
                    name: column.name.clone(),
                    data_type: sql_name(&column.data_type),
                    nullable: column.nullable,
                    key: definition.primary_key.contains(&column.name),
                    extra: extra.join(" "),
                    comment: column.comment.clone(),
                }
            })
            .collect())
    }

    /// The text of `SHOW CREATE TABLE name` or `SHOW CREATE VIEW name`.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub fn show_create(&self, name: &ObjectName) -> Result<String> {
        Ok(match self.lookup(name)? {
            Relation::Table(table) | Relation::Errors(table) | Relation::Late(table) => {
                table.definition.create_statement()
            }
            Relation::View(view) | Relation::ViewErrors(view) => view.create_statement(),
            Relation::ModelDrift(model) | Relation::ModelErrors(model) => model.definition.text.clone(),
        })
    }

    /// The body of a function created with `CREATE FUNCTION`, over its arguments.
    pub fn sql_function_body(&self, name: &str) -> Option<&Expr> {
        self.sql_functions.get(&name.to_lowercase()).map(|function| function.body())
    }
}

/// One row of `DESCRIBE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDescription {
    /// The column's name.
    pub name: String,
    /// Its type, as SQL writes it.
    pub data_type: String,
    /// Whether it may hold nulls.
    pub nullable: bool,
    /// Whether it is part of the primary key.
    pub key: bool,
    /// Computed, metadata and watermark clauses.
    pub extra: String,
    /// `COMMENT`.
    pub comment: Option<String>,
}
