//! Queries over materialized views, answered at once by DataFusion from the rows that are kept.
//!
//! Only what reads nothing but materialized views comes here; a query that reads a table too is a stream, in which a view is its rows
//! and their changes. Names, types and functions go through the same hands as in a pipeline. All views of a query are read at one
//! step: whoever gives the tables sees to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_expr::execution_props::ExecutionProps;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::ad_hoc_keys;
use super::ad_hoc_orders;
use super::ad_hoc_repeats;
use super::at_once::{self, UnkeyedPlanner};
use super::context::{CatalogTable, PlanContext};
use super::logical::{self, is_random, volatile_calls};
use super::materialized::{view_of, views_in};
use super::nearest;
use super::oracle::executable;
use crate::catalog::{Catalog, MatchSettings, Relation};
use crate::error::{Result, SqlError};
use crate::functions::volatile::{self, StepContext};
use crate::parser::QueryText;

/// A query that reads materialized views only.
#[derive(Debug, Clone)]
pub struct AdHocQuery {
    plan: LogicalPlan,
    time_zone: String,
    match_settings: MatchSettings,
    /// All of its parts have to see the rows of a view in one order.
    in_one_order: bool,
    /// The views that it reads, by name.
    pub views: BTreeSet<String>,
}

/// Gives the rows of a view, by its name.
pub type ViewTables<'a> = dyn Fn(&str) -> Result<Arc<dyn TableProvider>> + 'a;

/// Plans a query that reads materialized views and nothing else; `None`: it reads something else, or nothing at all, and is run by a
/// pipeline.
///
/// # Errors
/// All that is wrong with the query.
pub fn plan(catalog: &Catalog, query: &QueryText) -> Result<Option<AdHocQuery>> {
    let context = PlanContext::new(catalog);
    let plan = context.plan_in_order_of_view(query, |_| true)?;
    let mut others = false;
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(table) = scan.source.downcast_ref::<CatalogTable>()
        {
            others |= !matches!(table.relation, Relation::View(_));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let views = views_in(&plan)?;
    if others || views.is_empty() {
        return Ok(None);
    }
    if let Some(emit) = query.emit {
        let message = "EMIT says when a stream shows results; a query over materialized views is answered at once: leave it out, or read \
                       the changes with SUBSCRIBE";
        return Err(SqlError::plan(message, emit.location));
    }
    let plan = logical::analyze(&context, plan).map_err(|error| error.or_at(query.location))?;
    nearest::check_at_once(&plan)?;
    let (time_zone, match_settings) = (catalog.time_zone().to_owned(), catalog.match_settings().clone());
    let in_one_order = ad_hoc_repeats::need_one_order(&plan)?;
    Ok(Some(AdHocQuery { plan, time_zone, match_settings, in_one_order, views }))
}

impl AdHocQuery {
    /// The columns of the answer.
    pub fn schema(&self) -> SchemaRef {
        let fields = self.plan.schema().fields().iter();
        // A subquery that gives no row is NULL, whatever its column promises.
        let fields = fields.map(|field| field.as_ref().clone().with_nullable(true).with_metadata(Default::default()));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The answer over the rows that `tables` gives, at this processing time.
    ///
    /// # Errors
    /// What DataFusion's planner and executor have to say.
    pub async fn run(&self, tables: &ViewTables<'_>, clock_ms: i64) -> Result<SendableRecordBatchStream> {
        let session = self.session();
        let plan = at_once::made(&session, self.executable(tables, clock_ms)?, &self.match_settings).await?;
        Ok(session.execute_logical_plan(plan).await?.execute_stream().await?)
    }

    /// How DataFusion would answer, as text; `run`: how it has answered, with what each part of the plan counted.
    ///
    /// # Errors
    /// What DataFusion's planner has to say, and its executor.
    pub async fn explain(&self, tables: &ViewTables<'_>, clock_ms: i64, run: bool) -> Result<String> {
        let session = self.session();
        // What forecasts and matches there are is known once they are made.
        let plan = at_once::made(&session, self.executable(tables, clock_ms)?, &self.match_settings).await?;
        let frame = session.execute_logical_plan(plan).await?;
        let context = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await?;
        if !run {
            return Ok(displayable(plan.as_ref()).indent(false).to_string());
        }
        collect(Arc::clone(&plan), context).await?;
        Ok(DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false).to_string())
    }

    fn session(&self) -> SessionContext {
        let mut config = SessionConfig::new();
        if self.in_one_order {
            config = config.with_target_partitions(1);
        }
        config.options_mut().execution.time_zone = Some(self.time_zone.clone());
        // What the physical plan of a CASE says of its nulls can differ from the logical one, and is the same rows.
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        let state = SessionStateBuilder::new().with_default_features().with_optimizer_rules(logical::batch_rules());
        let state = state.with_query_planner(Arc::new(UnkeyedPlanner));
        SessionContext::new_with_state(state.with_config(config).build())
    }

    fn executable(&self, tables: &ViewTables<'_>, clock_ms: i64) -> Result<LogicalPlan> {
        let plan = ad_hoc_orders::rewrite(at_one_time(self.plan.clone(), clock_ms)?)?;
        let plan = executable(plan, |scan| {
            let view = view_of(scan).ok_or_else(|| SqlError::internal("a scan of no view"))?;
            let source = provider_as_source(tables(&view.name)?);
            LogicalPlanBuilder::scan(scan.table_name.clone(), source, scan.projection.clone())?.build()
        })?;
        ad_hoc_keys::rewrite(plan)
    }
}

/// `now()` and its like are what they are when the query begins, for all rows.
fn at_one_time(plan: LogicalPlan, clock_ms: i64) -> Result<LogicalPlan> {
    let context = StepContext { processing_time_ms: clock_ms, seed: 0, ordinal_base: 0, watermark_ms: None };
    let replaced = plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let replaced = expr.transform_up(|expr| match &expr {
                Expr::ScalarFunction(call) if volatile::is_volatile(call.func.name()) => {
                    Ok(Transformed::yes(Expr::Literal(value_at(&expr, context)?, None)))
                }
                _ => Ok(Transformed::no(expr)),
            })?;
            Ok(replaced.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(replaced.data)
}

fn value_at(call: &Expr, context: StepContext) -> datafusion::common::Result<ScalarValue> {
    if let Some(name) = volatile_calls(call).iter().find(|name| is_random(name)) {
        let hint = "compute it in the view's own query, where each row has one value for good";
        return Err(SqlError::unsupported(format!("`{name}()` in a query over materialized views"), hint, None).into());
    }
    if volatile_calls(call).iter().any(|name| name == volatile::CURRENT_WATERMARK) {
        let hint = "ask for it in the view's own query, where event time goes on";
        return Err(SqlError::unsupported("`CURRENT_WATERMARK` in a query over materialized views", hint, None).into());
    }
    // One row without columns that mean anything.
    let schema = Arc::new(Schema::new(vec![Field::new("row", DataType::Int32, false)]));
    let row = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int32Array::from(vec![0]))])?;
    let compiled = create_physical_expr(
        call,
        &DFSchema::try_from(schema)?,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )?;
    match volatile::with_context(context, || compiled.evaluate(&row))? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0),
    }
}

/// The columns of a materialized view, as queries over it know them.
///
/// # Errors
/// There is no such view, or it no longer plans.
pub fn view_schema(catalog: &Catalog, name: &str) -> Result<SchemaRef> {
    let relation = catalog.relation(&[(name, false)], None)?;
    let source = PlanContext::new(catalog).table_source(relation)?;
    Ok(source.schema())
}
