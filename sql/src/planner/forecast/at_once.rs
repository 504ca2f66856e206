//! Forecasts in a query that is answered at once: the operator of a pipeline, over rows that are all there.
//!
//! DataFusion has no such operator, and none of ours waits for its rows. So what a forecast reads is answered first; the operator takes these rows
//! in one step at whose end all time has passed, in which it says what it would have said of them in a pipeline; and what it said is a table
//! for the rest of the query. Of rows that it takes back again (`changelog => 'latest'`) those are left that it did not.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, Result as DataFusionResult};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use eagre_engine::delta::Delta;
use eagre_engine::expr::StepContext;
use eagre_engine::operator::forecast::ForecastFactory;
use eagre_engine::operator::{Input, OperatorFactory, Output, Progress};
use eagre_engine::time::{WATERMARK_MAX, WATERMARK_MIN, Watermarks};

use super::ForecastTable;
use crate::error::{Result, SqlError};
use crate::planner::lower::engine;

/// A plan whose forecasts have been made, over inputs that `session` can answer.
///
/// # Errors
/// What answering their inputs has to say.
pub(in crate::planner) async fn made(session: &SessionContext, mut plan: LogicalPlan) -> Result<LogicalPlan> {
    while let Some(node) = innermost(&plan)? {
        let forecast = of(&node).ok_or_else(|| SqlError::internal("a forecast is none"))?;
        let frame = session.execute_logical_plan(forecast.input.clone()).await?;
        let table = rows(forecast, &frame.collect().await?)?;
        plan = plan
            .transform_down_with_subqueries(|other| match other == node {
                true => Ok(Transformed::new(table.clone(), true, TreeNodeRecursion::Jump)),
                false => Ok(Transformed::no(other)),
            })?
            .data;
    }
    Ok(plan)
}

fn of(plan: &LogicalPlan) -> Option<&ForecastTable> {
    match plan {
        LogicalPlan::Extension(Extension { node }) => node.as_any().downcast_ref(),
        _ => None,
    }
}

/// A forecast that no other one has to be made for.
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

/// What is forecast of these rows, as a table in memory with the columns of the node.
fn rows(forecast: &ForecastTable, input: &[RecordBatch]) -> Result<LogicalPlan> {
    let place = |column: &Column| forecast.input.schema().index_of_column(column);
    let keys = forecast.rules.keys.iter().map(place).collect::<DataFusionResult<Vec<_>>>()?;
    let (time, value) = (place(&forecast.rules.time)?, place(&forecast.rules.value)?);
    let expected: SchemaRef = Arc::clone(forecast.input.schema().inner());
    let spec = forecast.rules.spec(Arc::clone(&expected), keys, time, value, false);
    let factory = ForecastFactory::new(spec).map_err(engine).map_err(|error| error.or_at(forecast.location))?;
    let mut operator = factory.create().map_err(engine)?;
    let mut deltas = vec![];
    for batch in input.iter().filter(|batch| batch.num_rows() > 0) {
        let batch = RecordBatch::try_new(Arc::clone(&expected), batch.columns().to_vec());
        deltas.push(Delta::insert(batch.map_err(|error| SqlError::internal(error.to_string()))?));
    }
    let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
    let watermarks = Watermarks { before: WATERMARK_MIN, after: WATERMARK_MAX };
    let mut out = Output::default();
    match operator.step(Input { ports: vec![deltas], context: &context, watermarks }, &mut out).map_err(engine)? {
        Progress::Done => {}
        Progress::Pending(_) => return Err(SqlError::internal("a forecast on the CPU waits for a device")),
    }
    let left = kept(&out.deltas)?;
    // The columns of a forecast have no table of their own.
    let schema = Arc::new(Schema::clone(forecast.schema.inner()));
    let left = left.into_iter().map(|batch| RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()));
    let left =
        left.collect::<std::result::Result<Vec<_>, _>>().map_err(|error| SqlError::internal(error.to_string()))?;
    let table = MemTable::try_new(Arc::clone(&schema), vec![left])?;
    let scan = LogicalPlanBuilder::scan("__forecast", provider_as_source(Arc::new(table)), None)?;
    let columns = scan.schema().columns().into_iter().map(|column| {
        let name = column.name.clone();
        Expr::Column(column).alias(name)
    });
    let columns = columns.collect::<Vec<_>>();
    Ok(scan.project(columns)?.build()?)
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
