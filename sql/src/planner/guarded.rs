//! Expressions that fail on some rows, and stand behind a condition that leaves these rows out.
//!
//! `id <> 0 AND 10 / id > 1` is false where `id` is 0, and no error, though DataFusion computes both sides for all rows of a batch. To look at
//! the right side only where the left one leaves something open costs each batch a selection, and is needed by few: so it is done where
//! the evaluation of a batch has failed.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::{Operator, when};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, NotExpr, lit};

use super::fallible::may_fail;

/// The same expression, in which the right side of `AND` and `OR` is looked at only for rows that the left side leaves open; none where it has
/// neither.
pub(super) fn one_by_one(expr: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    let guarded = Arc::clone(expr).transform_up(|expr| {
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(expr)) };
        let left = Arc::clone(binary.left());
        // Where the left side is unknown, the right one counts.
        let (decided, value): (Arc<dyn PhysicalExpr>, bool) = match binary.op() {
            Operator::And => (Arc::new(NotExpr::new(left)), false),
            Operator::Or => (left, true),
            _ => return Ok(Transformed::no(expr)),
        };
        let case = CaseExpr::try_new(None, vec![(decided, lit(value))], Some(expr))?;
        Ok(Transformed::yes(Arc::new(case) as Arc<dyn PhysicalExpr>))
    });
    guarded.ok().filter(|guarded| guarded.transformed).map(|guarded| guarded.data)
}

/// An aggregate's parts, whose arguments are computed only for rows that its `FILTER` leaves, where they may fail.
pub(super) fn behind_filter(params: &AggregateFunctionParams, schema: &DFSchema) -> Result<AggregateFunctionParams> {
    let mut params = params.clone();
    if let Some(filter) = &params.filter {
        for arg in params.args.iter_mut().filter(|arg| may_fail(arg, schema)) {
            *arg = when(filter.as_ref().clone(), arg.clone()).end()?;
        }
    }
    Ok(params)
}
