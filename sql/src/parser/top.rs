//! `SELECT TOP n ..`, which other engines have, is `LIMIT n`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, LimitClause, Query, SetExpr, Spanned, TopQuantity, Value, VisitMut, VisitorMut,
};

use crate::error::{Location, Result, SqlError};

/// Moves each `TOP` of a query to the `LIMIT` of the query that it stands in.
///
/// # Errors
/// There is a `LIMIT` besides, or it is a share, or it stands in a part of a `UNION`.
pub(super) fn to_limits(query: &mut Query) -> Result<()> {
    match query.visit(&mut Mover) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Mover;

impl VisitorMut for Mover {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        match moved(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn moved(query: &mut Query) -> Result<()> {
    let at = Location::of(query.body.span());
    refuse_in_parts(&query.body)?;
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(()) };
    let Some(top) = select.top.take() else { return Ok(()) };
    let limit = match top.quantity {
        Some(TopQuantity::Constant(rows)) => Expr::Value(Value::Number(rows.to_string(), false).into()),
        Some(TopQuantity::Expr(Expr::Nested(expr))) => *expr,
        Some(TopQuantity::Expr(expr)) => expr,
        None => return Err(SqlError::syntax("`TOP` needs a number of rows: `SELECT TOP 3 ..`", at)),
    };
    if top.percent || top.with_ties {
        let what = if top.percent { "`TOP .. PERCENT`" } else { "`TOP .. WITH TIES`" };
        return Err(SqlError::unsupported(what, "filter by `RANK() OVER (ORDER BY ..) <= n` in `QUALIFY`", at));
    }
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return Err(SqlError::syntax("`TOP` and `LIMIT` both say how many rows there are; write one of them", at));
    }
    query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by: vec![] });
    Ok(())
}

fn refuse_in_parts(body: &SetExpr) -> Result<()> {
    let SetExpr::SetOperation { left, right, .. } = body else { return Ok(()) };
    for part in [left, right] {
        match part.as_ref() {
            SetExpr::Select(select) if select.top.is_some() => {
                let hint = "put the part into parentheses and write `LIMIT` there";
                return Err(SqlError::unsupported(
                    "`TOP` in a part of a set operation",
                    hint,
                    Location::of(part.span()),
                ));
            }
            part => refuse_in_parts(part)?,
        }
    }
    Ok(())
}
