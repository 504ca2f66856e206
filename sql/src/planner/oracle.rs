//! The same query answered at once, by DataFusion, over finite rows: what a streamed answer must equal when all input is in.
//!
//! Names, types and functions go through the same hands as in a pipeline; windows do not: each becomes a union of projections in plain
//! arithmetic, so that a mistake in the engine's windows is not made twice. Rows that a pipeline refused (`<table>.late`, `<table>.errors`)
//! are for the caller to leave out.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result as DataFusionResult, TableReference};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionStateBuilder;
use datafusion::functions::core::expr_fn::greatest;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, TableScan, WindowFunctionDefinition, cast,
    lit,
};
use datafusion::prelude::{SessionConfig, SessionContext};
use eagre_engine::operator::over::Distance;
use eagre_engine::operator::window::WindowKind;

use super::at_once::{self, UnkeyedPlanner};
use super::context::{CatalogTable, PlanContext, column};
use super::local_time::last_instant;
use super::nearest::NearestJoin;
use super::over::{self, Sessions, score};
use super::set_operation::SetOperation;
use super::window::{WindowShape, WindowTableFunction};
use super::{decorrelate, logical, online, unkeyed};
use crate::catalog::{Catalog, ColumnKind, Relation};
use crate::error::{Result, SqlError};
use crate::functions::local_time::WALL_CLOCK;
use crate::parser::QueryText;

/// The most windows that a row may be in: each is one more branch of a union.
const WINDOWS_MAX: i64 = 10_000;

/// The answer to `query` where the tables hold `tables`: by the table's name, batches of its [`source_schema`], or for the pseudo-tables
/// of theirs. A table that is not named is empty.
///
/// [`source_schema`]: crate::catalog::TableDefinition::source_schema
///
/// # Errors
/// All that planning and DataFusion's execution have to say.
pub async fn answer(
    catalog: &Catalog,
    query: &QueryText,
    tables: &HashMap<String, Vec<RecordBatch>>,
) -> Result<RecordBatch> {
    let plan = batch_plan(catalog, query, tables)?;
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().execution.time_zone = Some(catalog.time_zone().to_string());
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_optimizer_rules(logical::batch_rules())
        .with_query_planner(Arc::new(UnkeyedPlanner))
        .with_config(config)
        .build();
    let session = SessionContext::new_with_state(state);
    let plan = at_once::made(&session, plan, catalog.match_settings()).await?;
    let frame = session.execute_logical_plan(plan).await?;
    let schema = Arc::clone(frame.schema().inner());
    let batches = frame.collect().await?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    concat_batches(&schema, &batches).map_err(|error| SqlError::internal(error.to_string()))
}

/// The plan that [`answer`] runs, over in-memory tables and without our own nodes.
fn batch_plan(catalog: &Catalog, query: &QueryText, tables: &HashMap<String, Vec<RecordBatch>>) -> Result<LogicalPlan> {
    let context = PlanContext::inlining(catalog);
    let plan = context.plan_in_order_of_view(query, |_| true)?;
    let plan = logical::analyze(&context, plan).map_err(|error| error.or_at(query.location))?;
    if let Some(model) = online::asked_models(&plan).pop() {
        let message = format!("a query that asks `{model}`, a model that goes on learning, and is answered at once");
        return Err(SqlError::unsupported(message, "ask it in a pipeline", query.location));
    }
    executable(plan, |scan| memory_scan(&context, scan, tables))
}

/// An analysed plan without our own nodes, which DataFusion can execute, over what `scan` makes of its leaves. Forecasts and patterns are left in
/// it, for [`at_once::made`].
pub(super) fn executable(
    plan: LogicalPlan,
    scan: impl Fn(&TableScan) -> DataFusionResult<LogicalPlan>,
) -> Result<LogicalPlan> {
    // A subquery in an expression would not be seen below.
    let plan = match decorrelate::has_subquery(&plan) {
        true => decorrelate::decorrelate(logical::join_tables(plan)?)?,
        false => plan,
    };
    let plan = plan.transform_up(|node| match &node {
        // Where a recursive query reads itself.
        LogicalPlan::TableScan(leaf) if leaf.source.downcast_ref::<CatalogTable>().is_none() => {
            Ok(Transformed::no(node))
        }
        LogicalPlan::TableScan(leaf) => Ok(Transformed::yes(scan(leaf)?)),
        LogicalPlan::Window(window) => {
            window.window_expr.iter().try_for_each(|expr| score::check_over(expr, window.input.schema()))?;
            Ok(over::frames_at_once(window)?.map_or_else(|| Transformed::no(node), Transformed::yes))
        }
        LogicalPlan::Extension(extension) => {
            let inner = extension.node.as_any();
            if let Some(window) = inner.downcast_ref::<WindowTableFunction>() {
                return Ok(Transformed::yes(expand(window)?));
            }
            if let Some(join) = inner.downcast_ref::<NearestJoin>() {
                return Ok(Transformed::yes(super::nearest::expand(join)?));
            }
            if let Some(operation) = inner.downcast_ref::<SetOperation>() {
                return Ok(Transformed::yes(operation.expand()?));
            }
            Ok(Transformed::no(node))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    // Set operations unnest as well.
    Ok(unkeyed::mark(plan.data.recompute_schema_deep()?)?)
}

trait RecomputeSchema: Sized {
    fn recompute_schema_deep(self) -> DataFusionResult<Self>;
}

impl RecomputeSchema for LogicalPlan {
    fn recompute_schema_deep(self) -> DataFusionResult<Self> {
        Ok(self.transform_up(|plan| plan.recompute_schema().map(Transformed::yes))?.data)
    }
}

fn memory_scan(
    context: &PlanContext<'_>,
    scan: &TableScan,
    tables: &HashMap<String, Vec<RecordBatch>>,
) -> DataFusionResult<LogicalPlan> {
    let relation = scan.source.downcast_ref::<CatalogTable>();
    let relation = relation.ok_or_else(|| SqlError::internal("a scan of no table"))?;
    let name = relation.relation.name();
    let (schema, exprs) = match &relation.relation {
        Relation::Table(table) => {
            let schema = table.definition.source_schema();
            let mut exprs = vec![];
            for definition in &table.definition.columns {
                exprs.push(match &definition.kind {
                    ColumnKind::Computed(expr) => context.plan_expr(expr, &schema)?,
                    _ => column(&definition.name),
                });
            }
            let names = table.definition.columns.iter().map(|definition| definition.name.clone());
            let exprs: Vec<_> = exprs.into_iter().zip(names).map(|(expr, name)| expr.alias(name)).collect();
            (schema, exprs)
        }
        other => {
            let schema = context.catalog.relation_schema(other)?;
            let exprs = schema.fields().iter().map(|field| column(field.name())).collect();
            (schema, exprs)
        }
    };
    let batches =
        tables.iter().find(|(table, _)| table.eq_ignore_ascii_case(&name)).map(|(_, batches)| batches.clone());
    let table = MemTable::try_new(schema, vec![batches.unwrap_or_default()])?;
    let memory = LogicalPlanBuilder::scan("__memory", provider_as_source(Arc::new(table)), None)?;
    let all = memory.project(exprs)?;
    let projection = scan.projection.clone().unwrap_or_else(|| (0..scan.source.schema().fields().len()).collect());
    let columns: Vec<_> = {
        let schema = all.schema();
        projection.iter().map(|index| Expr::Column(Column::from(schema.qualified_field(*index)))).collect()
    };
    let names: Vec<_> = projection.iter().map(|index| relation_column(scan, *index)).collect();
    let columns: Vec<_> = columns.into_iter().zip(names).map(|(column, name)| column.alias(name)).collect();
    all.project(columns)?.alias(TableReference::bare(scan.table_name.to_string()))?.build()
}

fn relation_column(scan: &TableScan, index: usize) -> String {
    scan.source.schema().field(index).name().clone()
}

/// Start and end, in milliseconds, of the window of a row with this number.
type Bounds<'a> = Box<dyn Fn(i64) -> (Expr, Expr) + 'a>;

/// The rows of a window function as a union: one branch for each of the windows that a row may be in.
fn expand(window: &WindowTableFunction) -> DataFusionResult<LogicalPlan> {
    let time = Expr::Column(window.time.clone());
    let milliseconds = DataType::Timestamp(TimeUnit::Millisecond, None);
    let clock = &window.cut.clock;
    let local = match clock.is_utc() {
        true => time.clone(),
        false => WALL_CLOCK.call(vec![time.clone()]),
    };
    let ms = cast(cast(local, milliseconds.clone()), DataType::Int64);
    let spec = match window.cut.spec {
        WindowShape::Aligned(spec) => spec,
        WindowShape::Session { gap_ms } => return sessions(window, gap_ms, ms),
    };
    let offset_ms = spec.offset_ms;
    // The greatest multiple of `unit` (and the offset) that is not after the row, also for times before 1970.
    let floor = |unit: i64| {
        let rest = (ms.clone() - lit(offset_ms)) % lit(unit);
        ms.clone() - (rest + lit(unit)) % lit(unit)
    };
    let (bounds, count): (Bounds, i64) = match spec.kind {
        WindowKind::Tumble { size_ms } => (Box::new(move |_| (floor(size_ms), floor(size_ms) + lit(size_ms))), 1),
        WindowKind::Hop { slide_ms, size_ms } => {
            let count = size_ms / slide_ms + i64::from(size_ms % slide_ms != 0);
            (
                Box::new(move |index| {
                    let start = floor(slide_ms) - lit(index * slide_ms);
                    (start.clone(), start + lit(size_ms))
                }),
                count,
            )
        }
        WindowKind::Cumulate { step_ms, size_ms } => (
            Box::new(move |index| {
                let start = floor(size_ms);
                (start.clone(), start + lit((index + 1) * step_ms))
            }),
            size_ms / step_ms,
        ),
    };
    if count > WINDOWS_MAX {
        return Err(SqlError::plan(
            format!("a row is in {count} windows; the oracle takes {WINDOWS_MAX} at most"),
            None,
        )
        .into());
    }
    let schema = datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(window);
    let width = window.input.schema().fields().len();
    let mut union: Option<LogicalPlanBuilder> = None;
    for index in 0..count {
        let (start, end) = bounds(index);
        let inside = time.clone().is_not_null().and(end.clone().gt(ms.clone())).and(start.clone().lt_eq(ms.clone()));
        let mut exprs: Vec<Expr> = window.input.schema().columns().into_iter().map(Expr::Column).collect();
        let window_time = last_instant(clock, end.clone() - lit(1i64));
        exprs.extend(window_columns(window, [start, end, window_time], width));
        let branch = LogicalPlanBuilder::from(window.input.clone()).filter(inside)?.project(exprs)?;
        union = Some(match union {
            None => branch,
            Some(union) => union.union(branch.build()?)?,
        });
    }
    let union = union.ok_or_else(|| SqlError::internal("a window function without windows"))?;
    // A union forgets the qualifiers of its columns.
    let plan = union.build()?;
    let exprs = plan
        .schema()
        .columns()
        .into_iter()
        .zip(schema.iter())
        .map(|(column, (qualifier, field))| Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
    let exprs: Vec<_> = exprs.collect();
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}

/// `window_start`, `window_end`, `window_time` from milliseconds.
fn window_columns(window: &WindowTableFunction, times: [Expr; 3], width: usize) -> Vec<Expr> {
    let schema = datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(window);
    let columns = times.into_iter().enumerate().map(|(part, ms)| {
        let field = schema.field(width + part);
        let time = cast(ms, DataType::Timestamp(TimeUnit::Millisecond, None));
        cast(time, field.data_type().clone()).alias(field.name())
    });
    columns.collect()
}

/// The rows of a session window, whose bounds follow from its first and its last row.
fn sessions(window: &WindowTableFunction, gap_ms: i64, ms: Expr) -> DataFusionResult<LogicalPlan> {
    let schema = datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(window);
    let columns: Vec<Expr> = window.input.schema().columns().into_iter().map(Expr::Column).collect();
    let width = columns.len();
    let with = |more: Vec<Expr>| columns.iter().cloned().chain(more).collect::<Vec<_>>();
    let keys: Vec<Expr> = window.partition.iter().cloned().map(Expr::Column).collect();
    let (time, session) = (column("__ms"), column("__session"));
    let of_session = |function: Arc<AggregateUDF>| {
        let partition = keys.iter().cloned().chain([session.clone()]).collect();
        let function = WindowFunctionDefinition::AggregateUDF(function);
        Expr::from(WindowFunction::new(function, vec![time.clone()])).partition_by(partition).build()
    };
    let clock = &window.cut.clock;
    let end = column("__last") + lit(gap_ms);
    let window_time =
        greatest(vec![last_instant(clock, end.clone() - lit(1i64)), last_instant(clock, end.clone()) - lit(1i64)]);
    let bounds = window_columns(window, [column("__first"), end, window_time], width);
    let timed = LogicalPlanBuilder::from(window.input.clone())
        .project(with(vec![ms.alias("__ms")]))?
        .filter(time.clone().is_not_null())?
        .build()?;
    let order = time.clone().sort(true, false);
    let sessions = Sessions { keys: keys.clone(), order, gap: Distance::Count(gap_ms.unsigned_abs()) };
    let numbered = LogicalPlanBuilder::from(sessions.numbered(timed, &DataType::Int64, "__session")?)
        .window(vec![of_session(min_udaf())?.alias("__first"), of_session(max_udaf())?.alias("__last")])?
        .project(with(bounds))?
        .build()?;
    let exprs = numbered.schema().columns().into_iter().zip(schema.iter());
    let exprs = exprs
        .map(|(column, (qualifier, field))| Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
    let exprs: Vec<_> = exprs.collect();
    LogicalPlanBuilder::from(numbered).project(exprs)?.build()
}
