//! `LIMIT` and `OFFSET` by an expression: computed once, before anything asks how many rows are meant.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Limit, LogicalPlan, lit};

use super::expr::{constant, short_text};
use crate::error::{Result, SqlError};

/// Gives all limits of a plan their numbers.
///
/// # Errors
/// An expression that is no constant number of rows.
pub(super) fn computed(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut all_known = true;
    plan.apply_with_subqueries(|node| {
        all_known &= !matches!(node, LogicalPlan::Limit(limit) if !is_known(limit));
        Ok(if all_known { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    if all_known {
        return Ok(plan);
    }
    let plan = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Limit(limit) = &node else { return Ok(Transformed::no(node)) };
        if is_known(limit) {
            return Ok(Transformed::no(node));
        }
        let skip = limit.skip.as_deref().map(|skip| rows(skip, "OFFSET")).transpose()?.flatten();
        let fetch = limit.fetch.as_deref().map(|fetch| rows(fetch, "LIMIT")).transpose()?.flatten();
        let number = |rows: i64| Box::new(lit(rows));
        let input = Arc::clone(&limit.input);
        Ok(Transformed::yes(LogicalPlan::Limit(Limit { skip: skip.map(number), fetch: fetch.map(number), input })))
    })?;
    Ok(plan.data)
}

fn is_known(limit: &Limit) -> bool {
    let is_number = |expr: &Expr| matches!(expr, Expr::Literal(ScalarValue::Int64(Some(_)), _));
    limit.skip.iter().chain(&limit.fetch).all(|expr| is_number(expr))
}

/// How many rows an expression says; none where it is NULL, which limits nothing.
fn rows(expr: &Expr, clause: &str) -> Result<Option<i64>> {
    let wrong = || SqlError::plan(format!("`{clause} {}` is no constant number of rows", short_text(expr)), None);
    match constant(expr.clone()).map_err(|_| wrong())? {
        Expr::Literal(value, _) => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(None)) => Ok(None),
            Ok(ScalarValue::Int64(Some(rows))) if rows >= 0 => Ok(Some(rows)),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}
