//! `NTH_VALUE(v, n) IGNORE NULLS` over a frame without some of its rows (`EXCLUDE ..`): the aggregate that stands for it there knows no nulls to
//! ignore, so the rows without a value are left out by a condition.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::NullTreatment;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::frame::exclusion_of;

/// Writes the condition of such calls.
pub(in crate::planner) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        if !matches!(plan, LogicalPlan::Window(_)) {
            return Ok(Transformed::no(plan));
        }
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| match expr {
                Expr::WindowFunction(mut function)
                    if function.fun.name() == "nth_value"
                        && function.params.null_treatment == Some(NullTreatment::IgnoreNulls)
                        && exclusion_of(&function).is_some() =>
                {
                    let params = &mut function.params;
                    params.null_treatment = None;
                    let known = params.args[0].clone().is_not_null();
                    params.filter = Some(Box::new(match params.filter.take() {
                        Some(filter) => filter.and(known),
                        None => known,
                    }));
                    Ok(Transformed::yes(Expr::WindowFunction(function)))
                }
                expr => Ok(Transformed::no(expr)),
            })?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(rewritten.data)
}
