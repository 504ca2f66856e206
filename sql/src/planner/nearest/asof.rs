//! Conditions of an `ASOF JOIN` beyond the equalities and the inequality of its operator, said in their terms.
//!
//! The nearest row is looked for among those that meet the whole condition, so a condition of right columns alone is a filter of the right
//! side. One of left columns says which rows have a nearest at all: of an inner join a filter of the left side, of a left join an equality
//! with a column of the right side that is always true. `a.k IS NOT DISTINCT FROM b.k` is two equalities, of what stands for the values,
//! and of whether they are null.

use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, lit};

use super::{Side, side_of};
use crate::planner::context::column;
use crate::planner::expr::strip_alias;

/// A column of the right side that is always true.
const MET: &str = "__eagre_met";

/// Both sides of an `ASOF JOIN` and what is left of its condition.
pub(super) struct Sides {
    pub(super) left: LogicalPlan,
    pub(super) right: LogicalPlan,
    pub(super) on: Vec<Expr>,
}

/// Takes the conditions of one side out of `on`, and those that hold for nulls too apart. What cannot be said so stays as it is.
pub(super) fn split(left: LogicalPlan, right: LogicalPlan, outer: bool, on: Vec<Expr>) -> DataFusionResult<Sides> {
    let (mut of_left, mut of_right, mut of_both) = (vec![], vec![], vec![]);
    for part in on {
        match side_of(&part, left.schema(), right.schema()) {
            Some(Side::Left) => of_left.push(part),
            Some(Side::Right) => of_right.push(part),
            None => of_both.extend(null_safe(part, &left, &right)?),
        }
    }
    let filtered = |plan: LogicalPlan, parts: Vec<Expr>| match conjunction(parts) {
        Some(condition) => LogicalPlanBuilder::from(plan).filter(condition)?.build(),
        None => Ok(plan),
    };
    let right = filtered(right, of_right)?;
    if !outer || of_left.is_empty() {
        return Ok(Sides { left: filtered(left, of_left)?, right, on: of_both });
    }
    let columns = right.schema().columns().into_iter().map(Expr::Column).chain([lit(true).alias(MET)]);
    let right = LogicalPlanBuilder::from(right.clone()).project(columns)?.build()?;
    of_both.extend(conjunction(of_left).map(|condition| condition.eq(column(MET))));
    Ok(Sides { left, right, on: of_both })
}

/// `l IS NOT DISTINCT FROM r` of both sides as equalities; any other part as it is.
fn null_safe(part: Expr, left: &LogicalPlan, right: &LogicalPlan) -> DataFusionResult<Vec<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::IsNotDistinctFrom, right: b }) = strip_alias(&part) else {
        return Ok(vec![part]);
    };
    let schema_of = |expr: &Expr| match side_of(expr, left.schema(), right.schema()) {
        Some(Side::Left) => Some(left.schema()),
        Some(Side::Right) => Some(right.schema()),
        None => None,
    };
    let (Some(of_a), Some(of_b)) = (schema_of(a), schema_of(b)) else { return Ok(vec![part]) };
    let value = |expr: &Expr, data_type| -> DataFusionResult<Expr> {
        Ok(coalesce(vec![expr.clone(), lit(ScalarValue::new_default(&data_type)?)]))
    };
    Ok(vec![value(a, a.get_type(of_a)?)?.eq(value(b, b.get_type(of_b)?)?), a.clone().is_null().eq(b.clone().is_null())])
}
