//! What aggregates are asked beside their values: `FILTER (WHERE ..)`, which is a condition as `WHERE` is, and `GROUP BY`, which comes before them.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use super::expr::{location_of, short_text, strip_alias};
use crate::error::{Location, SqlError};
use crate::types::sql_name;

/// Refuses a `FILTER` that is no condition.
///
/// Asked before types are made to fit: DataFusion would take a number for one.
pub(super) fn check(call: &Expr, schema: &DFSchema) -> Result<()> {
    let filter = match call {
        Expr::AggregateFunction(function) => &function.params.filter,
        Expr::WindowFunction(function) => &function.params.filter,
        _ => return Ok(()),
    };
    let Some((filter, data_type)) = filter.as_ref().and_then(|filter| Some((filter, filter.get_type(schema).ok()?)))
    else {
        return Ok(());
    };
    match data_type {
        DataType::Boolean | DataType::Null => Ok(()),
        other => Err(SqlError::plan(
            format!(
                "the condition `{}` of a `FILTER` is {} and not BOOLEAN; compare it with something",
                short_text(filter),
                sql_name(&other)
            ),
            location_of(filter).map(|(line, column)| Location { line, column }),
        )
        .into()),
    }
}

/// Refuses a `GROUP BY` of what is computed of groups.
pub(super) fn check_groups(plan: &LogicalPlan) -> Result<()> {
    let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(()) };
    let is_aggregate = |expr: &Expr| matches!(expr, Expr::AggregateFunction(_) | Expr::WindowFunction(_));
    let of_groups = |key: &&Expr| key.exists(|part| Ok(is_aggregate(part))).unwrap_or(true);
    match aggregate.group_expr.iter().find(of_groups) {
        None => Ok(()),
        Some(key) => Err(SqlError::plan(
            format!(
                "`GROUP BY {}`: what is computed of groups, or over windows, comes after them; group by columns, and group its result in a query around",
                short_text(strip_alias(key))
            ),
            location_of(key).map(|(line, column)| Location { line, column }),
        )
        .into()),
    }
}
