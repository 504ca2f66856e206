//! Calls over windows that are written otherwise and are the same: each is asked once.
//!
//! `JSON_AGG(x) OVER w` gathers its values as `ARRAY_AGG(x) OVER w` does. DataFusion would compute what two calls of a window have in common below
//! it, where there is no window.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Window};

use crate::planner::expr::strip_alias;

/// Has windows with equal calls give each of them once.
pub(in crate::planner) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| match &plan {
        LogicalPlan::Window(window) => Ok(asked_once(window)?.map_or_else(|| Transformed::no(plan), Transformed::yes)),
        _ => Ok(Transformed::no(plan)),
    })?;
    Ok(rewritten.data)
}

fn asked_once(window: &Window) -> Result<Option<LogicalPlan>> {
    let calls = &window.window_expr;
    let first_of = |call: &Expr| calls.iter().position(|other| strip_alias(other) == strip_alias(call)).unwrap_or(0);
    let firsts: Vec<usize> = calls.iter().map(first_of).collect();
    if firsts.iter().enumerate().all(|(place, first)| place == *first) {
        return Ok(None);
    }
    let width = window.input.schema().fields().len();
    let asked =
        firsts.iter().enumerate().filter(|(place, first)| place == *first).map(|(place, _)| calls[place].clone());
    let once = LogicalPlanBuilder::from(window.input.as_ref().clone()).window(asked.collect::<Vec<_>>())?;
    let columns = window.schema.iter().enumerate().map(|(place, (qualifier, field))| {
        let source = if place < width { place } else { width + firsts[place - width] };
        let column = Expr::Column(Column::from(window.schema.qualified_field(source)));
        if source == place { column } else { column.alias_qualified(qualifier.cloned(), field.name()) }
    });
    once.project(columns.collect::<Vec<_>>())?.build().map(Some)
}
