//! `unnest(unnest(a))`: the elements of the arrays that are elements of `a`, without a row for each array of the first level.
//!
//! Beside other calls of `unnest` each level would have its own rows to be filled up, so there it stays, and is refused with what to write.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, Select, VisitMut, VisitorMut,
};

use super::window;
use crate::functions::nested;

/// Rewrites the calls of a `SELECT` list, where all of them are of the same arrays.
pub(super) fn flatten(select: &mut Select) {
    let mut calls = Calls { rewrites: false, queries: 0, calls: 0, found: vec![] };
    for item in &mut select.projection {
        let _ = item.visit(&mut calls);
    }
    calls.found.dedup();
    if let [(_, true)] = calls.found.as_slice() {
        calls.rewrites = true;
        for item in &mut select.projection {
            let _ = item.visit(&mut calls);
        }
    }
}

struct Calls {
    rewrites: bool,
    /// How many subqueries are around, and how many calls.
    queries: usize,
    calls: usize,
    /// The outermost calls, and whether each is nested.
    found: Vec<(String, bool)>,
}

/// The argument of `unnest(..)`.
fn argument(expr: &Expr) -> Option<&Expr> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return None };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))] if name.to_string().eq_ignore_ascii_case("unnest") => {
            Some(array)
        }
        _ => None,
    }
}

impl VisitorMut for Calls {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Some(array) = argument(expr) else { return ControlFlow::Continue(()) };
        if self.calls == 0 && self.queries == 0 {
            match (self.rewrites, argument(array)) {
                (false, inner) => self.found.push((expr.to_string(), inner.is_some())),
                (true, Some(_)) => *expr = window::call("unnest", vec![flat(array)]),
                (true, None) => {}
            }
        }
        self.calls += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.calls -= usize::from(argument(expr).is_some());
        ControlFlow::Continue(())
    }
}

/// The arrays within as one array, where `array` is a call.
fn flat(array: &Expr) -> Expr {
    match argument(array) {
        Some(arrays) => window::call(nested::INNER, vec![flat(arrays)]),
        None => array.clone(),
    }
}
