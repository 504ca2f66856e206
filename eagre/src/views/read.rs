//! Reading materialized views: queries at one step, and subscriptions.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use eagre_engine::graph::ChangelogMode;
use eagre_engine::view::{Pin, Subscription, ViewStore};
use eagre_sql::catalog::Catalog;
use eagre_sql::error::SqlError;
use eagre_sql::parser::{self, StatementKind};
use eagre_sql::planner::ad_hoc::{self, AdHocQuery};
use futures::StreamExt;

use super::table::ViewTable;
use crate::error::{Error, Result};
use crate::job::ResultInfo;
use crate::session::{Session, with_deep_stack};
use crate::sink::results::{Change, Shown};

/// All materialized views of a session as they are after one step. While it lives, that step stays readable; what changes meanwhile costs
/// memory, up to `eagre.views.versions_max`.
pub struct Snapshot {
    session: Session,
    catalog: Catalog,
    pin: Arc<Pin>,
}

/// The answer of a query over materialized views, as it comes.
pub struct Answer {
    /// Its columns.
    schema: SchemaRef,
    shown: Shown,
    rows: SendableRecordBatchStream,
    /// Threads that DataFusion works on.
    io: tokio::runtime::Handle,
    /// Until the last row is read.
    _pin: Arc<Pin>,
}

impl Snapshot {
    pub(crate) fn new(session: Session, catalog: Catalog, pin: Pin) -> Self {
        Self { session, catalog, pin: Arc::new(pin) }
    }

    /// The step.
    pub fn step(&self) -> u64 {
        self.pin.step()
    }

    /// Begins a query that reads materialized views and nothing else.
    ///
    /// # Errors
    /// The query is wrong, or reads something else.
    pub fn query(&self, sql: &str) -> Result<Answer> {
        with_deep_stack(|| self.query_here(sql))
    }

    fn query_here(&self, sql: &str) -> Result<Answer> {
        let statements = parser::parse(sql)?;
        let query = match statements.as_slice() {
            [statement] => match &statement.kind {
                StatementKind::Query(query) => query,
                _ => return Err(not_a_query(Some(statement.location))),
            },
            _ => return Err(not_a_query(statements.get(1).map(|statement| statement.location))),
        };
        let planned = ad_hoc::plan(&self.catalog, query)?.ok_or_else(|| not_a_query(Some(query.location)))?;
        self.answer(&planned)
    }

    /// Begins a planned query.
    pub(crate) fn answer(&self, query: &AdHocQuery) -> Result<Answer> {
        let inner = &self.session.inner;
        let io = inner.io()?.clone();
        let run = || wait_on(&io, query.run(&|view| self.table(view), inner.clock.now_ms()));
        // The views that are read are planned here, as deep as they are, in whatever thread the caller has.
        let rows = with_deep_stack(run)?;
        let schema = query.schema();
        let shown = Shown::new(&schema, self.catalog.time_zone());
        Ok(Answer { schema: Arc::clone(shown.schema()), shown, rows, io, _pin: Arc::clone(&self.pin) })
    }

    /// How DataFusion answers a planned query; `run`: and what it did.
    pub(crate) fn explain(&self, query: &AdHocQuery, run: bool) -> Result<String> {
        let inner = &self.session.inner;
        let table = |view: &str| self.table(view);
        let io = inner.io()?;
        Ok(with_deep_stack(|| wait_on(io, query.explain(&table, inner.clock.now_ms(), run)))?)
    }

    fn table(&self, name: &str) -> eagre_sql::error::Result<Arc<dyn TableProvider>> {
        let view = self.pin.set().view(name).ok_or_else(|| {
            SqlError::plan(format!("materialized view `{name}` is not running: its pipeline was never started"), None)
        })?;
        let schema = ad_hoc::view_schema(&self.catalog, name)?;
        let same = |(a, b): (&FieldRef, &FieldRef)| a.name() == b.name();
        if schema.fields().len() != view.schema.fields().len()
            || !schema.fields().iter().zip(view.schema.fields()).all(same)
        {
            let message =
                format!("materialized view `{name}` has other columns at step {}; take a newer snapshot", self.step());
            return Err(SqlError::plan(message, None));
        }
        Ok(Arc::new(ViewTable::new(view, Arc::clone(&self.pin), schema)))
    }
}

fn not_a_query(location: Option<eagre_sql::error::Location>) -> Error {
    let message = "here goes one `SELECT` that reads materialized views and nothing else; what reads a table is a stream: give it to \
                   `Session::sql`";
    SqlError::plan(message, location).into()
}

/// Waits on a thread that may block, inside of a runtime or not.
fn wait_on<T>(io: &tokio::runtime::Handle, work: impl Future<Output = T>) -> T {
    // Not `Handle::block_on`, which panics in a task of somebody's runtime.
    let _entered = io.enter();
    futures::executor::block_on(work)
}

impl Answer {
    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows.
    ///
    /// # Errors
    /// An expression fails on a row; the step was given up (`eagre.views.versions_max`).
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        match self.rows.next().await {
            None => Ok(None),
            Some(rows) => Ok(Some(self.shown.show(&rows.map_err(of_query)?)?)),
        }
    }

    /// As [`next`](Self::next), for threads outside of an async runtime.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn blocking_next(&mut self) -> Result<Option<RecordBatch>> {
        let io = self.io.clone();
        wait_on(&io, self.next())
    }

    /// All rows.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn collect_blocking(mut self) -> Result<RecordBatch> {
        let mut batches = Vec::new();
        while let Some(rows) = self.blocking_next()? {
            batches.push(rows);
        }
        Ok(concat_batches(&self.schema, &batches).map_err(eagre_engine::EngineError::from)?)
    }
}

/// An error of DataFusion, or of ours inside one.
fn of_query(error: datafusion::error::DataFusionError) -> Error {
    SqlError::from(error).into()
}

/// A view's rows, then its changes, as they come.
pub struct ViewChanges {
    info: ResultInfo,
    shown: Shown,
    subscription: Subscription,
}

impl ViewChanges {
    pub(crate) fn new(view: &ViewStore, subscription: Subscription, time_zone: &str) -> Self {
        let shown = Shown::new(&view.schema, time_zone);
        let info = ResultInfo::of_changes(Arc::clone(shown.schema()), ChangelogMode::Retract, view.key.clone());
        Self { info, shown, subscription }
    }

    /// What is known of the view.
    pub fn info(&self) -> &ResultInfo {
        &self.info
    }

    /// The step of the rows that come first.
    pub fn step(&self) -> u64 {
        self.subscription.step()
    }

    /// The next rows that change: first all rows as they are after [`step`](Self::step), then what each later step changes (in one change a
    /// part of the view). `None`: the view was dropped or replaced, or its pipeline has ended.
    ///
    /// # Errors
    /// The step of the first rows was given up before all of them were read (`eagre.views.versions_max`).
    pub async fn next(&mut self) -> Result<Option<Change>> {
        let delta = std::future::poll_fn(|context| self.subscription.poll_next(context)).await?;
        delta.map(|delta| self.change(delta)).transpose()
    }

    /// As [`next`](Self::next), for threads outside of an async runtime.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn blocking_next(&mut self) -> Result<Option<Change>> {
        let delta = self.subscription.blocking_next()?;
        delta.map(|delta| self.change(delta)).transpose()
    }

    fn change(&self, delta: eagre_engine::view::ViewDelta) -> Result<Change> {
        Ok(Change { step: delta.step, batch: self.shown.show(&delta.batch)?, weights: delta.weights })
    }
}
