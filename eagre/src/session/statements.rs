//! The statements of a text, one after the other: definitions and settings at once, queries gathered for one pipeline.

use std::collections::HashSet;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast::SetExpr;
use eagre_engine::EngineError;
use eagre_engine::runtime::Mode;
use eagre_engine::settings;
use eagre_sql::catalog::{Catalog, ModelDefinition, Relation};
use eagre_sql::error::{Location, SqlError};
use eagre_sql::parser::{
    CreateModel, CreateTable, Drop, DropKind, Insert, Name, ObjectName, QueryText, Statement, StatementKind,
};
use eagre_sql::planner::ad_hoc::{self, AdHocQuery};
use eagre_sql::planner::{self, Job, PlanOptions, PlannedStatement};

use super::Session;
use crate::error::{Error, Result};
use crate::job::RunningJob;
use crate::provider::{MEMORY, connector};
use crate::views::{Kept, statements as view_statements};

/// The statements of a text that run, each with the catalog as it was at its place.
#[derive(Default)]
pub(super) struct Queries {
    pub(super) planned: Vec<(usize, Statement, Catalog)>,
    /// What is shown at once, in order.
    tables: Vec<RecordBatch>,
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
pub(super) enum Wanted {
    /// Of a query that a pipeline runs.
    Streamed,
    /// Of a query over views that the text itself creates.
    AtEnd(Box<AdHocQuery>),
    /// The changes of a view.
    Changes(ObjectName),
}

impl Queries {
    pub(super) fn add(&mut self, number: usize, statement: Statement, catalog: &Catalog) -> Result<()> {
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

/// Statements that were planned and not started.
pub struct Prepared {
    /// In the order of the statements.
    pub tables: Vec<RecordBatch>,
    /// All `INSERT`s and `SELECT`s.
    pub job: Option<Job>,
    /// The text, for the state folder.
    pub text: String,
    pub(super) wanted: Vec<Wanted>,
    pub(super) views: Option<Vec<Kept>>,
    /// All definitions so far, where there are new ones beside views that run on as they are.
    pub(super) definitions: Option<String>,
}

impl Session {
    pub(super) fn prepare_statements(&self, statements: &[Statement], text: &str) -> Result<Prepared> {
        let mut queries = Queries::default();
        let known = self.state().definitions.len();
        for (index, statement) in statements.iter().enumerate() {
            if defines(statement)
                || matches!(&statement.kind, StatementKind::Insert(insert) if self.is_fixture(insert)?)
            {
                self.state().definitions.push(statement.text.clone());
            }
            self.prepare_statement(index + 1, statement, &mut queries)?;
        }
        let names = statements.iter().any(names);
        self.plan_queries(queries, text, (known, names))
    }

    /// Runs a definition or setting, and takes a query in.
    fn prepare_statement(&self, number: usize, statement: &Statement, queries: &mut Queries) -> Result<()> {
        match &statement.kind {
            StatementKind::CreateTable(create) => self.create_table(number, statement, create, queries)?,
            StatementKind::CreateView(create) if create.materialized => {
                if create.or_replace {
                    check_unasked(&self.state().catalog, queries, &create.name)?;
                }
                let mut kept = self.kept(queries);
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
            StatementKind::CreateModel(create) => self.create_model(number, statement, create, queries)?,
            StatementKind::Drop(drop) => self.drop_object(drop, queries)?,
            StatementKind::Set { key, value, key_location, .. } => {
                self.set(key, value).map_err(|error| at(error, Some(*key_location)))?;
            }
            StatementKind::Reset { key: Some((key, location)) } => {
                self.reset(Some(key)).map_err(|error| at(error, Some(*location)))?;
            }
            StatementKind::Reset { key: None } => self.reset(None)?,
            StatementKind::Show(show) => queries.tables.push(self.show(show)?),
            StatementKind::Describe(describe) => queries.tables.push(self.describe(describe)?),
            StatementKind::Explain(explain) => queries.tables.push(self.explain(explain)?),
            StatementKind::Insert(insert) if self.is_fixture(insert)? => self.fill(insert, statement)?,
            StatementKind::Subscribe(view) => {
                check_materialized(&self.state().catalog, view)?;
                queries.wanted.push(Wanted::Changes(view.clone()));
            }
            StatementKind::Query(query) => self.take_query(number, statement, query, queries)?,
            StatementKind::Insert(_) | StatementKind::StatementSet(_) => {
                queries.add(number, statement.clone(), &self.state().catalog)?;
            }
        }
        Ok(())
    }

    fn create_table(
        &self,
        number: usize,
        statement: &Statement,
        create: &CreateTable,
        queries: &mut Queries,
    ) -> Result<()> {
        let mut state = self.state();
        if create.or_replace {
            view_statements::check_unread(&self.kept(queries), &state.catalog, &create.name)?;
        }
        let replaced = if create.or_replace { state.keep(&create.name) } else { None };
        state.catalog.create_table(create)?;
        if let Some(table) = replaced {
            state.providers.forget(&table.definition.name);
            queries.written.remove(&table.definition.name.to_lowercase());
        }
        let Some(query) = &create.query else { return Ok(()) };
        let insert = Insert { table: create.name.clone(), columns: Vec::new(), query: query.clone() };
        let kind = StatementKind::Insert(Box::new(insert));
        let insert = Statement { kind, text: statement.text.clone(), location: statement.location };
        queries.add(number, insert, &state.catalog)
    }

    fn create_model(
        &self,
        number: usize,
        statement: &Statement,
        create: &CreateModel,
        queries: &mut Queries,
    ) -> Result<()> {
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
            let drop = Drop { kind: DropKind::Model, name, if_exists: true, cascade: false };
            self.state().catalog.drop(&drop)?;
            return Err(error);
        }
        if made && learns_once && create.query.is_some() {
            queries.tables.push(self.training_report(&create.name.plain())?);
        }
        // The views go on from a checkpoint with all that the model before has answered, under a text that has this one.
        if made && create.or_replace && self.inner.store.is_some() && self.inner.views.current().is_some() {
            queries.views = Some(self.kept(queries));
        }
        Ok(())
    }

    fn drop_object(&self, drop: &Drop, queries: &mut Queries) -> Result<()> {
        let catalog = self.state().catalog.clone();
        match drop.kind {
            DropKind::View => check_not_materialized(&catalog, &drop.name, "DROP MATERIALIZED VIEW")?,
            DropKind::MaterializedView => view_statements::check_materialized(&catalog, &drop.name)?,
            _ => {}
        }
        let dependents = catalog.dependents(drop)?;
        view_statements::check_drop(&self.kept(queries), drop, &dependents)?;
        let at = drop.name.location();
        let named = |name: &str| ObjectName(vec![Name { text: name.to_owned(), quoted: false, location: at }]);
        let mut gone: Vec<Drop> = dependents
            .iter()
            .map(|one| Drop { kind: one.kind, name: named(&one.name), if_exists: true, cascade: true })
            .collect();
        gone.push(drop.clone());
        gone.iter().try_for_each(|drop| check_unasked(&catalog, queries, &drop.name))?;
        gone.iter().try_for_each(|drop| self.drop_alone(drop, queries))
    }

    /// Drops an object, and of what needs it only what runs over a materialized view.
    fn drop_alone(&self, drop: &Drop, queries: &mut Queries) -> Result<()> {
        let mut state = self.state();
        if drop.kind == DropKind::MaterializedView && state.catalog.lookup(&drop.name).is_ok() {
            let mut kept = self.kept(queries);
            view_statements::drop(&mut state.catalog, &mut kept, drop)?;
            queries.views = Some(kept);
            return Ok(());
        }
        let dropped = state.keep(&drop.name);
        state.catalog.drop(drop)?;
        if let Some(table) = dropped {
            state.providers.forget(&table.definition.name);
            queries.written.remove(&table.definition.name.to_lowercase());
        }
        Ok(())
    }

    /// A query over views is answered at once, or at the end where this text creates them; any other one runs with the rest.
    fn take_query(&self, number: usize, statement: &Statement, query: &QueryText, queries: &mut Queries) -> Result<()> {
        let catalog = self.state().catalog.clone();
        match self.over_views(&catalog, query)? {
            Some(query) if queries.views.is_none() => {
                queries.tables.push(self.snapshot()?.answer(&query)?.collect_blocking()?);
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
        Ok(())
    }

    /// Plans what a text asks for. `known`: how many definitions there were before it; `names`: whether it gives names a meaning.
    fn plan_queries(&self, queries: Queries, text: &str, (known, names): (usize, bool)) -> Result<Prepared> {
        let Queries { planned, tables, wanted, views, at_end, .. } = queries;
        let Some(mut kept) = views else {
            let job = if planned.is_empty() { None } else { Some(self.plan(&planned)?) };
            let is_kept = names && self.inner.views.current().is_some();
            let definitions = is_kept.then(|| self.definitions_with(&self.inner.views.kept()));
            return Ok(Prepared { tables, job, text: text.to_owned(), wanted, views: None, definitions });
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
            _ => self.definitions_with(&kept),
        };
        Ok(Prepared { tables, job, text, wanted, views: Some(kept), definitions: None })
    }

    /// All definitions so far, and the queries that run beside views: what makes the views again.
    fn definitions_with(&self, kept: &[Kept]) -> String {
        let queries = kept.iter().filter(|kept| kept.view.is_none()).map(|kept| kept.statement.text.clone());
        let mut texts = self.state().definitions.clone();
        texts.extend(queries);
        texts.join(";\n")
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

/// Whether a statement gives a name a meaning, or takes it; settings are those of a session.
fn names(statement: &Statement) -> bool {
    defines(statement) && !matches!(statement.kind, StatementKind::Set { .. } | StatementKind::Reset { .. })
}

/// Whether a statement creates, replaces or drops a materialized view, or exchanges a model that views may ask.
pub(super) fn changes_views(statement: &Statement) -> bool {
    match &statement.kind {
        StatementKind::CreateView(create) => create.materialized,
        // What has been answered is written down before another model answers.
        StatementKind::CreateModel(create) => create.or_replace,
        StatementKind::Drop(drop) => drop.kind == DropKind::MaterializedView || drop.cascade,
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
                "`{0}` is no materialized view, so none of its rows are kept; `CREATE MATERIALIZED VIEW {0}_rows AS SELECT * FROM {0}` and \
                 subscribe to that, or run `SELECT * FROM {0}`: its changes are the result",
                other.name()
            );
            Err(SqlError::plan(message, name.location()).into())
        }
    }
}

/// An error of settings with its place in the text.
pub(super) fn at(error: Error, location: Option<eagre_sql::error::Location>) -> Error {
    match error {
        Error::Engine(error) => Error::Sql(SqlError::plan(error.to_string(), location)),
        other => other,
    }
}
