//! Windows over a DATE: each date stands for its midnight, which is a column of the input that nobody sees.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};

/// The type of the column, and so of the windows' ends.
pub(in crate::planner) const MIDNIGHT_TYPE: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// The input with the midnights of its column `date` behind its columns, and that column.
pub(super) fn add(input: LogicalPlan, date: Column) -> Result<(LogicalPlan, Column)> {
    let taken = |name: &String| input.schema().fields().iter().any(|field| field.name() == name);
    let name = format!("midnight({})", date.name);
    let name = std::iter::successors(Some(name), |name| Some(format!("midnight({name})"))).find(|name| !taken(name));
    let midnight = Column::new_unqualified(name.unwrap_or_default());
    let value = cast(Expr::Column(date), MIDNIGHT_TYPE).alias(&midnight.name);
    let columns = input.schema().columns().into_iter().map(Expr::Column).chain([value]);
    let columns: Vec<Expr> = columns.collect();
    let plan = LogicalPlanBuilder::from(input).project(columns)?.build()?;
    Ok((plan, midnight))
}

/// The columns of `plan` without it.
pub(super) fn remove(plan: LogicalPlan, midnight: &Column) -> Result<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().filter(|column| column != midnight).map(Expr::Column);
    let columns: Vec<Expr> = columns.collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
