//! Frames that DataFusion does not have, in a query that is answered at once: sessions ([`session_at_once`](super::session_at_once)) become
//! partitions, and what leaves rows out ([`excluding_at_once`]) becomes a function.

use datafusion::common::{Column, Result as DataFusionResult};
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan, LogicalPlanBuilder, Window};

use super::excluding_at_once;
use super::frame::is_session;
use super::session_at_once::Sessions;
use crate::planner::expr::strip_alias;

/// A window whose frames DataFusion has: without sessions, and without exclusions; `None`: it has none of them.
///
/// # Errors
/// A gap that is none of the order key.
pub(in crate::planner) fn frames_at_once(window: &Window) -> DataFusionResult<Option<LogicalPlan>> {
    let mut sessions: Vec<Sessions> = Vec::new();
    let mut plan = window.input.as_ref().clone();
    let mut calls = Vec::with_capacity(window.window_expr.len());
    let mut excludes = false;
    for expr in &window.window_expr {
        let LogicalExpr::WindowFunction(function) = strip_alias(expr) else { continue };
        if !is_session(function) {
            let excluding = excluding_at_once::of_all_rows(function);
            excludes |= excluding.is_some();
            calls.push(excluding.unwrap_or_else(|| LogicalExpr::WindowFunction(function.clone())));
            continue;
        }
        let (of_call, data_type) = Sessions::of(function, window)?;
        let known = sessions.iter().position(|known| *known == of_call);
        let number = format!("__session_{}", known.unwrap_or(sessions.len()));
        if known.is_none() {
            plan = of_call.numbered(plan, &data_type, &number)?;
        }
        calls.push(of_call.over(function, &number));
        if known.is_none() {
            sessions.push(of_call);
        }
    }
    if sessions.is_empty() && !excludes {
        return Ok(None);
    }
    let mut columns: Vec<LogicalExpr> = window.input.schema().columns().into_iter().map(LogicalExpr::Column).collect();
    for (call, field) in calls.iter().zip(window.schema.fields().iter().skip(columns.len())) {
        let name = Column::new_unqualified(call.schema_name().to_string());
        columns.push(LogicalExpr::Column(name).alias(field.name()));
    }
    let plan = LogicalPlanBuilder::window_plan(plan, calls)?;
    LogicalPlanBuilder::from(plan).project(columns)?.build().map(Some)
}
