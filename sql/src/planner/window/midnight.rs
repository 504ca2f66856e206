//! Windows over a DATE: each date stands for its midnight, which is a column of the input that nobody sees.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};

/// The name of the column.
const MIDNIGHT: &str = "__eagre_midnight";

/// The type of the column, and so of the windows' ends.
pub(in crate::planner) const MIDNIGHT_TYPE: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// The input with the midnights of its column `date` behind its columns, and that column.
pub(super) fn add(input: LogicalPlan, date: Column) -> Result<(LogicalPlan, Column)> {
    let midnight = cast(Expr::Column(date), MIDNIGHT_TYPE).alias(MIDNIGHT);
    let columns = input.schema().columns().into_iter().map(Expr::Column).chain([midnight]);
    let columns: Vec<Expr> = columns.collect();
    let plan = LogicalPlanBuilder::from(input).project(columns)?.build()?;
    Ok((plan, Column::new_unqualified(MIDNIGHT)))
}

/// The columns of `plan` without it.
pub(super) fn remove(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().filter(|column| column.name != MIDNIGHT).map(Expr::Column);
    let columns: Vec<Expr> = columns.collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
