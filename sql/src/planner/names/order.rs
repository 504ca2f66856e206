//! `SELECT round(x) AS x FROM t ORDER BY t.x`: what is sorted by has the name of an output column, and is another one.
//!
//! The planner adds to the output what it sorts by, and then finds two columns of one name. So what is sorted by gets a name of its own, inside of a
//! subquery, and what is around it leaves that out again. So does what is sorted by where it has a subquery in it: those stand in a `SELECT`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, OrderByKind, Query, SelectItem, SetExpr, TableFactor, visit_expressions,
};

use super::Output;
use crate::planner::window;

/// What such columns are called, before their number.
const SORTED_BY: &str = "__sorted_by_";

/// Gives names to what a query is sorted by, where they are needed. All names are resolved; `output` are the columns of the query.
pub(super) fn name_sort_keys(query: &mut Query, output: &Output) {
    let Some(order_by) = &mut query.order_by else { return };
    let OrderByKind::Expressions(keys) = &mut order_by.kind else { return };
    let SetExpr::Select(select) = &mut *query.body else { return };
    if select.distinct.is_some() {
        return;
    }
    let asks = keys.iter().any(|key| has_subquery(&key.expr));
    let names = match select.projection.iter().map(output_name).collect::<Option<Vec<String>>>() {
        Some(names) => names,
        // Of `*`.
        None if asks && !output.1 => output.0.iter().map(|column| column.name.clone()).collect(),
        None => return,
    };
    let is_output = |expr: &Expr| matches!(expr, Expr::Identifier(ident) if names.contains(&ident.value));
    let clashes = keys.iter().any(|key| match &key.expr {
        Expr::CompoundIdentifier(idents) if idents.len() == 2 => {
            names.iter().zip(&select.projection).any(|(name, item)| {
                let SelectItem::ExprWithAlias { expr, .. } = item else { return false };
                *name == idents[1].value && *expr != key.expr
            })
        }
        _ => false,
    });
    if !clashes && !asks {
        return;
    }
    for (place, key) in keys.iter_mut().enumerate() {
        if is_output(&key.expr) || matches!(key.expr, Expr::Value(_)) {
            continue;
        }
        let name = Ident::with_quote('"', format!("{SORTED_BY}{place}"));
        let expr = std::mem::replace(&mut key.expr, Expr::Identifier(name.clone()));
        select.projection.push(SelectItem::ExprWithAlias { expr, alias: name });
    }
    let outer = names.iter().map(|name| SelectItem::UnnamedExpr(Expr::Identifier(Ident::with_quote('"', name))));
    let outer: Vec<SelectItem> = outer.collect();
    let inner = query.body.as_ref().clone();
    let subquery = Box::new(window::query_of(inner));
    let factor = TableFactor::Derived { lateral: false, subquery, alias: None, sample: None };
    *query.body = *window::select_query(outer, Some(factor), None).body;
}

fn has_subquery(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |part| match part {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn output_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) if idents.len() == 2 => Some(idents[1].value.clone()),
        _ => None,
    }
}
