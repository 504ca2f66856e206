//! Frames that DataFusion does not have, in a query that is answered at once: sessions ([`session_at_once`](super::session_at_once)) become
//! partitions, and what leaves rows out, or slides where DataFusion cannot ([`anew_at_once`]), becomes a function. `LEAD(v, 2) IGNORE NULLS`,
//! for which DataFusion looks at too few rows, is the second value behind the row, and `LAG(v, 0, d)`, for which it may take the default, the row's own.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::{Column, Result as DataFusionResult, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_window::nth_value::nth_value_udwf;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::{
    Expr as LogicalExpr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, Window, WindowFrame, WindowFrameBound,
    WindowFrameUnits, WindowFunctionDefinition, cast, lit,
};

use super::anew_at_once;
use super::frame::{aggregate_of, is_session};
use super::session_at_once::Sessions;
use crate::planner::expr::strip_alias;

/// `LEAD(v, n) IGNORE NULLS` of more than one row as `NTH_VALUE` of what is behind the row; `None`: it is another call. (`LAG(v, -n)` is written so
/// where names are resolved.)
fn nth_behind(function: &WindowFunction) -> DataFusionResult<Option<LogicalExpr>> {
    let params = &function.params;
    let WindowFunctionDefinition::WindowUDF(udf) = &function.fun else { return Ok(None) };
    let ("lead", Some(NullTreatment::IgnoreNulls), [value, offset, ..]) =
        (udf.name(), params.null_treatment, params.args.as_slice())
    else {
        return Ok(None);
    };
    let LogicalExpr::Literal(offset, _) = strip_alias(offset) else { return Ok(None) };
    let ScalarValue::Int64(Some(rows @ 2..)) = offset.cast_to(&DataType::Int64)? else { return Ok(None) };
    let behind = WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::Following(ScalarValue::UInt64(Some(1))),
        WindowFrameBound::Following(ScalarValue::UInt64(None)),
    );
    let nth = nth_value_udwf();
    let call = LogicalExpr::from(WindowFunction::new(nth, vec![value.clone(), lit(rows)]));
    let call = call.partition_by(params.partition_by.clone()).order_by(params.order_by.clone());
    call.window_frame(behind).null_treatment(NullTreatment::IgnoreNulls).build().map(Some)
}

/// What an aggregate gives of no rows, where a frame ends before it begins (`ROWS BETWEEN 1 PRECEDING AND 3 PRECEDING`), which DataFusion refuses; `None`: it
/// may have rows.
fn of_no_rows(function: &WindowFunction, data_type: &DataType) -> DataFusionResult<Option<LogicalExpr>> {
    let Some(aggregate) = aggregate_of(function) else { return Ok(None) };
    let frame = &function.params.window_frame;
    let (first, last) = match (&frame.start_bound, &frame.end_bound) {
        (WindowFrameBound::Preceding(first), WindowFrameBound::Preceding(last)) => (last, first),
        (WindowFrameBound::Following(first), WindowFrameBound::Following(last)) => (first, last),
        _ => return Ok(None),
    };
    let is_empty = !first.is_null() && !last.is_null() && first > last;
    if is_empty { aggregate.default_value(data_type).map(|value| Some(lit(value))) } else { Ok(None) }
}

/// The row's own value, which `LAG(v, 0, d) IGNORE NULLS` is, null or not; `None`: it is another call.
fn own_value(function: &WindowFunction) -> Option<LogicalExpr> {
    let (WindowFunctionDefinition::WindowUDF(udf), [value, offset, ..]) =
        (&function.fun, function.params.args.as_slice())
    else {
        return None;
    };
    let LogicalExpr::Literal(offset, _) = strip_alias(offset) else { return None };
    let here = matches!(offset.cast_to(&DataType::Int64), Ok(ScalarValue::Int64(Some(0))));
    (here && matches!(udf.name(), "lag" | "lead")).then(|| value.clone())
}

/// A window whose frames DataFusion has: without sessions, and without exclusions; `None`: it has none of them.
///
/// # Errors
/// A gap that is none of the order key.
pub(in crate::planner) fn frames_at_once(window: &Window) -> DataFusionResult<Option<LogicalPlan>> {
    let mut sessions: Vec<Sessions> = Vec::new();
    let mut plan = window.input.as_ref().clone();
    let mut calls = Vec::with_capacity(window.window_expr.len());
    let mut rewritten = false;
    // What stands where a call gives no row, and what stands in its place, by the place of the call.
    let mut defaults: BTreeMap<usize, LogicalExpr> = BTreeMap::new();
    let mut instead: BTreeMap<usize, LogicalExpr> = BTreeMap::new();
    for expr in &window.window_expr {
        let LogicalExpr::WindowFunction(function) = strip_alias(expr) else { continue };
        if !is_session(function) {
            let written = match anew_at_once::of_all_rows(function, window.input.schema())? {
                Some(anew) => Some(anew),
                None => {
                    let behind = nth_behind(function)?;
                    if let (Some(_), [_, _, default]) = (&behind, function.params.args.as_slice()) {
                        defaults.insert(calls.len(), default.clone());
                    }
                    behind
                }
            };
            let data_type = window.schema.field(window.input.schema().fields().len() + calls.len()).data_type();
            let known = match of_no_rows(function, data_type)? {
                Some(value) => Some(value),
                None => own_value(function),
            };
            rewritten |= written.is_some() || known.is_some();
            if let Some(known) = known {
                instead.insert(calls.len(), known);
                // Nobody looks at it.
                calls.push(LogicalExpr::from(WindowFunction::new(row_number_udwf(), vec![])));
                continue;
            }
            calls.push(written.unwrap_or_else(|| LogicalExpr::WindowFunction(function.clone())));
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
    if sessions.is_empty() && !rewritten {
        return Ok(None);
    }
    let mut columns: Vec<LogicalExpr> = window.input.schema().columns().into_iter().map(LogicalExpr::Column).collect();
    for (place, (call, field)) in calls.iter().zip(window.schema.fields().iter().skip(columns.len())).enumerate() {
        let name = call.schema_name().to_string();
        let found = LogicalExpr::Column(Column::new_unqualified(&name));
        if let Some(own) = instead.remove(&place) {
            columns.push(cast(own, field.data_type().clone()).alias(field.name()));
            continue;
        }
        columns.push(match defaults.remove(&place) {
            Some(default) => coalesce(vec![found, cast(default, field.data_type().clone())]).alias(field.name()),
            // An alias that changes nothing makes DataFusion's rule for fields of rows (`extract_leaf_expressions`) name a column twice.
            None if &name == field.name() => found,
            None => found.alias(field.name()),
        });
    }
    // Two that were told apart by what is beside them now may be one.
    let mut different: Vec<LogicalExpr> = Vec::with_capacity(calls.len());
    for call in calls {
        if !different.contains(&call) {
            different.push(call);
        }
    }
    let plan = LogicalPlanBuilder::window_plan(plan, different)?;
    LogicalPlanBuilder::from(plan).project(columns)?.build().map(Some)
}
