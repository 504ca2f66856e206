//! Forecasts and patterns in a query that is answered at once: the operators of a pipeline, over rows that are all there.
//!
//! DataFusion has no such operators, and none of ours waits for its rows. So what such a node reads is answered first; the operator takes these
//! rows in one step at whose end all time has passed, in which it says what it would have said of them in a pipeline; and what it said is a
//! table for the rest of the query. Of rows that it takes back again (`changelog => 'latest'`) those are left that it did not.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::SessionContext;
use eagre_engine::delta::Delta;
use eagre_engine::expr::StepContext;
use eagre_engine::operator::{Input, OperatorFactoryRef, Output, Progress};
use eagre_engine::time::{WATERMARK_MAX, WATERMARK_MIN, Watermarks};

use super::fallible::may_fail;
use super::forecast::ForecastTable;
use super::guarded::one_by_one;
use super::lower::engine;
use super::match_recognize::MatchRecognize;
use super::unkeyed::Unkeyed;
use crate::catalog::MatchSettings;
use crate::error::{Location, Result, SqlError};

/// A node that an operator answers.
pub(super) trait AtOnce {
    /// What it reads.
    fn input(&self) -> &LogicalPlan;
    fn schema(&self) -> &DFSchema;
    /// Where it stands.
    fn location(&self) -> Option<Location>;
    /// The operator, for rows that are all there and come in the columns of the input.
    ///
    /// # Errors
    /// What is wrong with the node.
    fn operator(&self, config: &Arc<ConfigOptions>, settings: &MatchSettings) -> Result<OperatorFactoryRef>;
}

fn of(plan: &LogicalPlan) -> Option<&dyn AtOnce> {
    let LogicalPlan::Extension(Extension { node }) = plan else { return None };
    let node = node.as_any();
    let forecast = node.downcast_ref::<ForecastTable>().map(|node| node as &dyn AtOnce);
    forecast.or_else(|| node.downcast_ref::<MatchRecognize>().map(|node| node as &dyn AtOnce))
}

/// Whether an operator answers a node, from rows in the order in which they come.
pub(super) fn is_answered_at_once(plan: &LogicalPlan) -> bool {
    of(plan).is_some()
}

/// A plan whose forecasts have been made and whose patterns have been looked for, over inputs that `session` can answer.
///
/// # Errors
/// What answering their inputs has to say, and their operators.
pub(super) async fn made(
    session: &SessionContext,
    mut plan: LogicalPlan,
    settings: &MatchSettings,
) -> Result<LogicalPlan> {
    while let Some(found) = innermost(&plan)? {
        let node = of(&found).ok_or_else(|| SqlError::internal("a node that no operator answers"))?;
        let frame = session.execute_logical_plan(node.input().clone()).await?;
        let table = rows(node, session, settings, &frame.collect().await?)?;
        plan = plan
            .transform_down_with_subqueries(|other| match other == found {
                true => Ok(Transformed::new(table.clone(), true, TreeNodeRecursion::Jump)),
                false => Ok(Transformed::no(other)),
            })?
            .data;
    }
    Ok(plan)
}

/// A node that no other one has to be answered for.
fn innermost(plan: &LogicalPlan) -> DataFusionResult<Option<LogicalPlan>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        // From above: the last one on a way down is the innermost.
        if of(node).is_some() {
            found = Some(node.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// What the operator says of these rows, as a table in memory with the columns of the node.
fn rows(
    node: &dyn AtOnce,
    session: &SessionContext,
    settings: &MatchSettings,
    input: &[RecordBatch],
) -> Result<LogicalPlan> {
    let internal = |error: arrow::error::ArrowError| SqlError::internal(error.to_string());
    let failed = |error| engine(error).or_at(node.location());
    let expected: SchemaRef = Arc::clone(node.input().schema().inner());
    let mut operator = node.operator(session.state().config_options(), settings)?.create().map_err(failed)?;
    let mut deltas = vec![];
    for batch in input.iter().filter(|batch| batch.num_rows() > 0) {
        deltas.push(Delta::insert(with_schema(batch, &expected).map_err(internal)?));
    }
    let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
    let watermarks = Watermarks { before: WATERMARK_MIN, after: WATERMARK_MAX };
    let mut out = Output::default();
    match operator.step(Input { ports: vec![deltas], context: &context, watermarks }, &mut out).map_err(failed)? {
        Progress::Done => {}
        Progress::Pending(_) => return Err(SqlError::internal("an operator on the CPU waits for a device")),
    }
    let left = kept(&out.deltas)?;
    let schema = Arc::new(Schema::clone(node.schema().inner()));
    let left = left.iter().map(|batch| with_schema(batch, &schema));
    let left = left.collect::<std::result::Result<Vec<_>, _>>().map_err(internal)?;
    let table = MemTable::try_new(Arc::clone(&schema), vec![left])?;
    let scan = LogicalPlanBuilder::scan("__rows", provider_as_source(Arc::new(table)), None)?;
    // The columns of the node have no table of their own.
    let columns = scan.schema().columns().into_iter().map(|column| {
        let name = column.name.clone();
        Expr::Column(column).alias(name)
    });
    let columns = columns.collect::<Vec<_>>();
    Ok(scan.project(columns)?.build()?)
}

fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
    // Rows may have no columns at all, and still are so many.
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
}

/// The rows that are left of insertions and retractions, in the order in which they came.
fn kept(deltas: &[Delta]) -> Result<Vec<RecordBatch>> {
    let internal = |error: arrow::error::ArrowError| SqlError::internal(error.to_string());
    if deltas.iter().all(|delta| delta.weights.is_none()) {
        return Ok(deltas.iter().map(|delta| delta.batch.clone()).collect());
    }
    let Some(first) = deltas.first() else { return Ok(vec![]) };
    let fields = first.batch.schema_ref().fields().iter().map(|field| SortField::new(field.data_type().clone()));
    let converter = RowConverter::new(fields.collect()).map_err(internal)?;
    let all = deltas.iter().map(|delta| converter.convert_columns(delta.batch.columns()));
    let all = all.collect::<std::result::Result<Vec<_>, _>>().map_err(internal)?;
    let mut taken_back: BTreeMap<&[u8], i64> = BTreeMap::new();
    for (delta, rows) in deltas.iter().zip(&all) {
        for row in (0..delta.rows()).filter(|row| delta.weight(*row) < 0) {
            *taken_back.entry(rows.row(row).data()).or_default() -= delta.weight(row);
        }
    }
    let mut left = vec![];
    for (delta, rows) in deltas.iter().zip(&all) {
        let mut indices: Vec<u32> = vec![];
        for row in (0..delta.rows()).filter(|row| delta.weight(*row) > 0) {
            match taken_back.get_mut(rows.row(row).data()) {
                Some(count) if *count > 0 => *count -= 1,
                _ => indices.push(row as u32),
            }
        }
        let indices = UInt32Array::from(indices);
        if !indices.is_empty() {
            left.push(take_record_batch(&delta.batch, &indices).map_err(internal)?);
        }
    }
    Ok(left)
}

/// Whether a filter or a projection of a plan computes what some values make fail.
fn computes_what_may_fail(plan: &LogicalPlan) -> DataFusionResult<bool> {
    plan.exists(|node| {
        let computes = matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Projection(_));
        let fails = |input: &&LogicalPlan| node.expressions().iter().any(|expr| may_fail(expr, input.schema()));
        Ok(computes && node.inputs().iter().any(fails))
    })
}

/// The same plan, in whose filters and projections the right side of `AND` and `OR` is computed only for the rows that the left side leaves
/// open: there is no asking twice, as there is of a step ([`guarded`](super::guarded)).
fn guarded(plan: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let guarded = plan.transform_up(|node| {
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            return Ok(match one_by_one(filter.predicate()) {
                Some(predicate) => {
                    let filter = FilterExecBuilder::from(filter).with_predicate(predicate).build()?;
                    Transformed::yes(Arc::new(filter) as Arc<dyn ExecutionPlan>)
                }
                None => Transformed::no(node),
            });
        }
        let Some(projection) = node.downcast_ref::<ProjectionExec>() else { return Ok(Transformed::no(node)) };
        let mut found = false;
        let exprs: Vec<ProjectionExpr> = projection
            .expr()
            .iter()
            .map(|expr| match one_by_one(&expr.expr) {
                Some(one_by_one) => {
                    found = true;
                    ProjectionExpr { expr: one_by_one, alias: expr.alias.clone() }
                }
                None => expr.clone(),
            })
            .collect();
        if !found {
            return Ok(Transformed::no(node));
        }
        let projection = ProjectionExec::try_new(exprs, Arc::clone(projection.input()))?;
        Ok(Transformed::yes(Arc::new(projection) as Arc<dyn ExecutionPlan>))
    })?;
    Ok(guarded.data)
}

/// DataFusion's planner, for which [`Unkeyed`] is what is in it, and conditions guard what stands behind them.
#[derive(Debug)]
pub(super) struct UnkeyedPlanner;

#[async_trait]
impl QueryPlanner for UnkeyedPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Self)]);
        let physical = planner.create_physical_plan(plan, session).await?;
        // A window knows by its input that this is in order, and of an input that was made again it does not.
        let has_window = plan.exists(|node| Ok(matches!(node, LogicalPlan::Window(_))))?;
        if computes_what_may_fail(plan)? && !has_window { guarded(physical) } else { Ok(physical) }
    }
}

#[async_trait]
impl ExtensionPlanner for UnkeyedPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _planning: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        Ok(physical_inputs.first().filter(|_| node.as_any().is::<Unkeyed>()).cloned())
    }
}
