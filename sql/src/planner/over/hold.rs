//! How long calls hold rows back, and which are computed first.
//!
//! A row whose values wait for rows to come leaves behind the watermark, so an `OVER` behind it cannot go by that any more and would have to correct its
//! values. Calls that hold nothing back are taken first, and those that do are the last.

use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, LogicalPlan, Window};
use eagre_engine::operator::over::Reach;

use super::frame::{aggregate_of, frame_of, is_session};
use super::{is_constant, strip_alias};

/// How long a call may hold rows back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// No longer than the watermark takes to pass them.
    None,
    /// So much longer as its frame looks ahead.
    Frame,
    /// Until others have come.
    Rows,
}

pub(super) fn hold_of(function: &WindowFunction, input: &LogicalPlan) -> Hold {
    let params = &function.params;
    let framed = aggregate_of(function).is_some();
    match function.fun.name() {
        "lead" => Hold::Rows,
        _ if !framed => Hold::None,
        _ if is_session(function) => Hold::Rows,
        _ => {
            let order = params.order_by.iter().find(|sort| !is_constant(&sort.expr));
            let order = order.and_then(|sort| sort.expr.get_type(input.schema()).ok());
            match frame_of(&params.window_frame, order.as_ref()).map(|frame| frame.lookahead()) {
                Some(Reach::Rows(0) | Reach::Groups(0)) => Hold::None,
                Some(Reach::Range(_)) => Hold::Frame,
                _ => Hold::Rows,
            }
        }
    }
}

/// The calls of an `OVER`, and of those that it stands on where these hold rows back and it does not ask for their values: all are over the
/// rows of the input that is given, and may be taken in any order. Their columns are in the order of the expressions.
pub(super) fn at_once(window: &Window) -> (&LogicalPlan, Vec<&LogicalExpr>) {
    let mut exprs: Vec<&LogicalExpr> = window.window_expr.iter().collect();
    let mut input = window.input.as_ref();
    while let LogicalPlan::Window(below) = input {
        let known =
            |expr: &LogicalExpr| expr.column_refs().iter().all(|column| below.input.schema().has_column(column));
        let hold = |exprs: &mut dyn Iterator<Item = &LogicalExpr>| {
            let functions = exprs.filter_map(|expr| match strip_alias(expr) {
                LogicalExpr::WindowFunction(function) => Some(hold_of(function, &below.input)),
                _ => None,
            });
            functions.collect::<Vec<_>>()
        };
        let above = hold(&mut exprs.iter().copied());
        let most_below = hold(&mut below.window_expr.iter()).into_iter().max().unwrap_or(Hold::None);
        if !exprs.iter().all(|expr| known(expr)) || above.iter().all(|above| *above >= most_below) {
            break;
        }
        exprs = below.window_expr.iter().chain(exprs).collect();
        input = below.input.as_ref();
    }
    (input, exprs)
}
