//! `RANGE` frames whose offsets mean something else than what was written, or nothing.
//!
//! Over a time DataFusion takes a bare number for months (`RANGE 3 PRECEDING`), and an offset below zero for what it says, so that the frame has no rows.
//! In the standard (SQL:2016, 7.15) an offset over a time is an interval, and none is negative. A frame without offsets asks its order key for peers
//! alone, which every type that has an order can tell; DataFusion asks for a type that it can add to. A frame over a constant key has all rows: DataFusion
//! drops the key, and then misses it.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, WindowFrame, WindowFrameBound, WindowFrameUnits, cast,
};

use super::expr::short_text;
use super::filters;
use super::logical::volatile_calls;
use crate::error::{Result, SqlError};

/// Refuses such frames, a `FILTER` that is no condition, and groups of aggregates. Asked of the plan before its types are made to fit, while offsets are as they were written.
pub(super) fn check_written(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        filters::check_groups(node)?;
        let schema = merge_schema(&node.inputs());
        for expr in node.expressions() {
            expr.apply(|expr| {
                filters::check(expr, &schema)?;
                if let Expr::WindowFunction(function) = expr {
                    check_bounds(&function.params.window_frame)?;
                    let by = function.params.order_by.first().map(|sort| &sort.expr);
                    if let Some((by, data_type)) = by.and_then(|by| Some((by, by.get_type(&schema).ok()?))) {
                        check(function, by, &data_type)?;
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// `RANGE` frames without offsets as `GROUPS` frames, which are the same rows, where DataFusion has no offsets for the order key's type; those with
/// offsets over a time of day as frames over that time of one day, which no offset goes around.
pub(super) fn as_known(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        if !matches!(node, LogicalPlan::Window(_)) {
            return Ok(Transformed::no(node));
        }
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let changed = expr.transform_up(|mut expr| {
                let Expr::WindowFunction(function) = &mut expr else { return Ok(Transformed::no(expr)) };
                let params = &mut function.params;
                let Some(by) = params.order_by.first_mut() else { return Ok(Transformed::no(expr)) };
                let Ok(data_type) = by.expr.get_type(&schema) else { return Ok(Transformed::no(expr)) };
                let frame = &params.window_frame;
                if frame.units == WindowFrameUnits::Range && has_offset(frame) && is_constant(&by.expr) {
                    params.window_frame = among_peers(frame);
                    return Ok(Transformed::yes(expr));
                }
                if frame.units != WindowFrameUnits::Range || is_range_key(&data_type) {
                    return Ok(Transformed::no(expr));
                }
                if !has_offset(frame) {
                    params.window_frame = WindowFrame::new_bounds(
                        WindowFrameUnits::Groups,
                        frame.start_bound.clone(),
                        frame.end_bound.clone(),
                    );
                } else if let Some((of_day, timestamp)) = time_of_day(&data_type) {
                    let since_midnight = cast(cast(by.expr.clone(), of_day), DataType::Int64);
                    by.expr = cast(since_midnight, timestamp);
                }
                Ok(Transformed::yes(expr))
            })?;
            Ok(changed.update_data(|expr| name.restore(expr)))
        })?;
        match node.transformed {
            true => node.map_data(LogicalPlan::recompute_schema),
            false => Ok(node),
        }
    })?;
    Ok(rewritten.data)
}

/// Whether all rows are peers.
fn is_constant(by: &Expr) -> bool {
    by.column_refs().is_empty() && volatile_calls(by).is_empty()
}

/// The rows of a `RANGE` frame where all are peers: all of them, or none where it begins or ends off the current value. DataFusion drops a constant
/// order key, and then misses it.
fn among_peers(frame: &WindowFrame) -> WindowFrame {
    let bound = |bound: &WindowFrameBound| {
        // An offset is a text here: a number, or the parts of an interval.
        let is_off = |value: &ScalarValue| {
            let text = value.to_string();
            let mut numbers = text.split_whitespace().filter_map(|part| part.parse::<f64>().ok()).peekable();
            numbers.peek().is_none() || numbers.any(|number| number != 0.0)
        };
        let group = |value: &ScalarValue| ScalarValue::UInt64((!value.is_null()).then_some(1));
        match bound {
            WindowFrameBound::Preceding(value) if value.is_null() || is_off(value) => {
                WindowFrameBound::Preceding(group(value))
            }
            WindowFrameBound::Following(value) if value.is_null() || is_off(value) => {
                WindowFrameBound::Following(group(value))
            }
            _ => WindowFrameBound::CurrentRow,
        }
    };
    WindowFrame::new_bounds(WindowFrameUnits::Groups, bound(&frame.start_bound), bound(&frame.end_bound))
}

/// Of a time of day the type of its number since midnight, and that of the timestamp of that number.
fn time_of_day(data_type: &DataType) -> Option<(DataType, DataType)> {
    match data_type {
        DataType::Time32(unit) => Some((DataType::Int32, DataType::Timestamp(*unit, None))),
        DataType::Time64(unit) => Some((DataType::Int64, DataType::Timestamp(*unit, None))),
        _ => None,
    }
}

/// Whether a bound is so far from the current row.
fn has_offset(frame: &WindowFrame) -> bool {
    [&frame.start_bound, &frame.end_bound].into_iter().any(|bound| match bound {
        WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) => !value.is_null(),
        WindowFrameBound::CurrentRow => false,
    })
}

/// Whether an offset is so far from a value of this type.
fn counts(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => counts(value),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null => true,
        other => other.is_numeric(),
    }
}

/// Whether DataFusion has `RANGE` frames over a key of this type.
fn is_range_key(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_range_key(value),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => true,
        DataType::Boolean | DataType::Null => true,
        other => other.is_numeric() || other.is_string(),
    }
}

/// Refuses a frame whose bounds stand the wrong way round.
fn check_bounds(frame: &WindowFrame) -> Result<()> {
    let goes = match (&frame.start_bound, &frame.end_bound) {
        (WindowFrameBound::CurrentRow, WindowFrameBound::Preceding(_)) => {
            "from the current row on, and to a row before it"
        }
        (WindowFrameBound::Following(_), WindowFrameBound::CurrentRow | WindowFrameBound::Preceding(_)) => {
            "from a row behind the current one on, and to none behind it"
        }
        _ => return Ok(()),
    };
    let message = format!(
        "a frame goes {goes}; write the bound that comes first as the first one, as in `BETWEEN 1 PRECEDING AND CURRENT ROW`"
    );
    Err(SqlError::plan(message, None))
}

fn check(function: &WindowFunction, by: &Expr, data_type: &DataType) -> Result<()> {
    let frame = &function.params.window_frame;
    let is_time_of_day = time_of_day(data_type).is_some();
    if frame.units == WindowFrameUnits::Range && has_offset(frame) && !counts(data_type) && !is_time_of_day {
        return Err(SqlError::plan(
            format!(
                "a `RANGE` frame with an offset is over numbers, dates, times and timestamps, and `{}` is a {}; rows are counted by `ROWS`",
                short_text(by),
                crate::types::sql_name(data_type)
            ),
            None,
        ));
    }
    let is_time = is_time_of_day || matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    if frame.units != WindowFrameUnits::Range || !is_time {
        return Ok(());
    }
    for (bound, word) in [&frame.start_bound, &frame.end_bound].map(|bound| (bound, word_of(bound))) {
        let (WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value)) = bound else { continue };
        let Some(text) = value.try_as_str().flatten() else { continue };
        let of = format!("`{}`, which is a {}", short_text(by), crate::types::sql_name(data_type));
        if text.trim().parse::<f64>().is_ok() {
            return Err(SqlError::plan(
                format!(
                    "`RANGE {text} {word}` is over {of}: {text} of what? Write an interval, such as `INTERVAL '{text}' SECOND {word}`; rows are \
                     counted by `ROWS {text} {word}`"
                ),
                None,
            ));
        }
        if is_negative(text) {
            let other = if word == "PRECEDING" { "FOLLOWING" } else { "PRECEDING" };
            return Err(SqlError::plan(
                format!(
                    "`RANGE .. INTERVAL '{text}' {word}` is negative; an offset is not, the other way from a row is `{other}`"
                ),
                None,
            ));
        }
    }
    Ok(())
}

fn word_of(bound: &WindowFrameBound) -> &'static str {
    match bound {
        WindowFrameBound::Following(_) => "FOLLOWING",
        _ => "PRECEDING",
    }
}

/// Whether the text of an interval is one below zero; months count as 30 days beside days.
fn is_negative(text: &str) -> bool {
    match eagre_engine::interval_text::parse(text) {
        Ok(interval) => {
            let days = i128::from(interval.months) * 30 + i128::from(interval.days);
            days * 86_400_000_000_000 + i128::from(interval.nanoseconds) < 0
        }
        _ => false,
    }
}
