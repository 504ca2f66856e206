//! What names stand for: tables, views, models, functions of code.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::DataType;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use eagre_engine::model::ModelSlot;
use eagre_engine::settings::{self, Settings};
use eagre_engine::sink::SinkFactory;
use eagre_engine::source::Source;
use eagre_patterns::{BadSkip, Overflow};

use super::table::{DRIFT_SUFFIX, ERRORS_SUFFIX, LATE_SUFFIX, TableDefinition, quoted_list};
use crate::error::Location;
use crate::parser::{CreateModel, FunctionArg, QueryText, TableOption};
use crate::planner::online::OnlineQuery;
use crate::types::quote_if_needed;

/// A table and what is behind it.
pub struct Table {
    /// What was said about it.
    pub definition: TableDefinition,
    pub(super) source: OnceLock<Arc<dyn Source>>,
    pub(super) sink: OnceLock<Arc<dyn SinkFactory>>,
    /// Whether its data was attached from code: the provider knows nothing of it.
    pub(super) attached: bool,
}

impl Table {
    pub(super) fn new(definition: TableDefinition) -> Self {
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
    /// Whether an aggregate function has this name as it was written.
    pub(crate) fn is_aggregate(&self, name: &str) -> bool {
        self.aggregate.contains_key(name.trim_matches('"').to_lowercase().as_str())
    }

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

    pub(super) fn add_scalar(&mut self, function: Arc<ScalarUDF>) {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
            self.scalar.insert(name.to_lowercase(), Arc::clone(&function));
        }
    }

    pub(super) fn add_aggregate(&mut self, function: Arc<AggregateUDF>) {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
            self.aggregate.insert(name.to_lowercase(), Arc::clone(&function));
        }
    }
}

/// What holds for all `MATCH_RECOGNIZE` clauses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MatchSettings {
    /// What becomes of a match whose `SKIP TO` leads nowhere; `None`: of finished input an error, of streams the next row.
    pub bad_skip: Option<BadSkip>,
    /// How many rows the partial matches of a partition may have.
    pub max_partial: usize,
    /// Whether that was set, and holds over input that ends, too.
    pub max_partial_is_set: bool,
    /// What happens where there are more.
    pub overflow: Overflow,
}

impl MatchSettings {
    /// The bound of an operator. Rows that are there are no burden of the pattern: over input that ends, where conditions ask only rows, there is none
    /// but that which is set.
    pub(crate) fn partial_rows_max(&self, bounded: bool, asks_rows_alone: bool) -> usize {
        if bounded && asks_rows_alone && !self.max_partial_is_set { usize::MAX } else { self.max_partial }
    }

    /// As the settings say.
    pub fn of(settings: &Settings) -> Self {
        Self {
            bad_skip: match settings.text(settings::MATCH_BAD_SKIP) {
                "error" => Some(BadSkip::Error),
                "next-row" => Some(BadSkip::NextRow),
                _ => None,
            },
            max_partial: usize::try_from(settings.count(settings::MATCH_MAX_PARTIAL)).unwrap_or(usize::MAX),
            max_partial_is_set: settings.is_set(settings::MATCH_MAX_PARTIAL),
            overflow: match settings.text(settings::MATCH_OVERFLOW) {
                "drop-oldest" => Overflow::DropOldest,
                _ => Overflow::Error,
            },
        }
    }
}

impl Default for MatchSettings {
    fn default() -> Self {
        Self { bad_skip: None, max_partial: 1_000_000, max_partial_is_set: false, overflow: Overflow::Error }
    }
}
