//! Statements that tell: `SHOW`, `DESCRIBE`, `EXPLAIN`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use eagre_engine::settings::{self, SETTINGS};
use eagre_sql::catalog::TableDefinition;
use eagre_sql::error::SqlError;
use eagre_sql::parser::{
    Analyze, Describe, Explain, ExplainMatch, Insert, ObjectName, Show, Statement, StatementKind, TableRole,
};
use eagre_sql::planner::{self, Job};

use super::Session;
use super::statements::{Queries, at};
use crate::error::{Error, Result};
use crate::provider::connector;
use crate::views::change::Outlook;
use crate::views::statements as view_statements;

impl Session {
    pub(super) fn show(&self, show: &Show) -> Result<RecordBatch> {
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

    pub(super) fn describe(&self, describe: &Describe) -> Result<RecordBatch> {
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

    pub(super) fn explain(&self, explain: &Explain) -> Result<RecordBatch> {
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
