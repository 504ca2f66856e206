//! Intervals are put in order by their length, as they are compared: a day is 24 hours, and a month 30 days, as in PostgreSQL. (By themselves they would go
//! by months, then days, then what is left.)
//!
//! Where rows are told apart by them, 24 hours are a day. A month and 30 days stay two groups: they are equal, and what is added to a date by one is
//! not what is added by the other, so neither may be shown for both.

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, SortExpr};

use super::expr::strip_alias;
use super::one_way::{OneWay, Place, first_in_order};
use crate::functions::extreme_by::by_key;
use crate::functions::interval::length_of;
use crate::functions::interval_parts::HOURS_AS_DAYS;

/// Has rows ordered by the lengths of intervals, and told apart by their days.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let keys = OneWay { key: is_interval, written: of_days, order: in_order, check: |_, _| Ok(()) };
    let rewritten = keys.rewrite(plan)?.transform_up_with_subqueries(|plan| {
        let extreme = match &plan {
            LogicalPlan::Aggregate(_) => extreme,
            LogicalPlan::Window(_) => extreme_over,
            _ => return Ok(Transformed::no(plan)),
        };
        let (names, schema) = (NamePreserver::new(&plan), merge_schema(&plan.inputs()));
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(match extreme(&expr, &schema) {
                Some(call) => Transformed::yes(name.restore(call)),
                None => Transformed::no(expr),
            })
        })
    })?;
    Ok(rewritten.data)
}

pub(super) fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(IntervalUnit::MonthDayNano))
}

pub(super) fn of_days(expr: Expr) -> Expr {
    HOURS_AS_DAYS.call(vec![expr])
}

fn in_order(by: &mut SortExpr, _: Place, schema: &DFSchema) -> Result<bool> {
    let has_length = is_interval(&by.expr.get_type(schema)?);
    if has_length {
        by.expr = length_of(by.expr.clone());
    }
    Ok(has_length)
}

/// The shortest or longest interval, which is the first of them in order; `None`: it is another call.
fn extreme(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::AggregateFunction(call) = strip_alias(expr) else { return None };
    let ("min" | "max", [value]) = (call.func.name(), call.params.args.as_slice()) else { return None };
    if !value.get_type(schema).is_ok_and(|data_type| is_interval(&data_type)) {
        return None;
    }
    Some(Expr::AggregateFunction(first_in_order(call, length_of(value.clone()))))
}

/// The same over a window.
fn extreme_over(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::WindowFunction(call) = strip_alias(expr) else { return None };
    let key_of = |value: &Expr| {
        value.get_type(schema).is_ok_and(|data_type| is_interval(&data_type)).then(|| length_of(value.clone()))
    };
    by_key(call, key_of).map(Expr::from)
}
