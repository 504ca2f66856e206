//! `SELECT round(x) AS x FROM t ORDER BY t.x`: what is sorted by has the name of an output column, and is another one. So are the columns in an
//! expression: `ORDER BY x` is by the output column, and `ORDER BY abs(x)`, as in PostgreSQL, by the column of the table.
//!
//! The planner adds to the output what it sorts by, and then finds two columns of one name. So what is sorted by gets a name of its own, inside of a
//! subquery, and what is around it leaves that out again. So does what is sorted by where it has a subquery in it: those stand in a `SELECT`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, OrderByKind, Query, SelectItem, SetExpr, TableFactor, VisitMut, VisitorMut, visit_expressions,
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
    let hides = |part: &Expr| match part {
        Expr::CompoundIdentifier(idents) if idents.len() == 2 => {
            names.iter().zip(&select.projection).any(|(name, item)| {
                let SelectItem::ExprWithAlias { expr, .. } = item else { return false };
                *name == idents[1].value && expr != part
            })
        }
        _ => false,
    };
    let clashes = keys.iter().any(|key| exists(&key.expr, hides));
    if !clashes && !asks {
        return;
    }
    let shown = select.projection.clone();
    for (place, key) in keys.iter_mut().enumerate() {
        if is_output(&key.expr) || matches!(key.expr, Expr::Value(_)) {
            continue;
        }
        let name = Ident::with_quote('"', format!("{SORTED_BY}{place}"));
        let mut expr = std::mem::replace(&mut key.expr, Expr::Identifier(name.clone()));
        write_out_outputs(&mut expr, &shown);
        select.projection.push(SelectItem::ExprWithAlias { expr, alias: name });
    }
    let outer = names.iter().map(|name| SelectItem::UnnamedExpr(Expr::Identifier(Ident::with_quote('"', name))));
    let outer: Vec<SelectItem> = outer.collect();
    let inner = query.body.as_ref().clone();
    let subquery = Box::new(window::query_of(inner));
    let factor = TableFactor::Derived { lateral: false, subquery, alias: None, sample: None };
    *query.body = *window::select_query(outer, Some(factor), None).body;
}

/// Beside the output columns, in the list, nothing knows their names: what is computed stands in their places.
fn write_out_outputs(expr: &mut Expr, items: &[SelectItem]) {
    each_outside(expr, |part| {
        let Expr::Identifier(ident) = &*part else { return };
        let computed = items.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias.value == ident.value => Some(expr),
            _ => None,
        });
        if let Some(computed) = computed.filter(|computed| *computed != &*part) {
            *part = Expr::Nested(Box::new(computed.clone()));
        }
    });
}

/// Goes through an expression but for its subqueries and lambdas, whose names are their own.
pub(super) fn each_outside(expr: &mut Expr, visit: impl FnMut(&mut Expr)) {
    let _ = VisitMut::visit(expr, &mut Outside { visit, depth: 0 });
}

struct Outside<F> {
    visit: F,
    /// How many subqueries and lambdas are around the current node.
    depth: usize,
}

impl<F: FnMut(&mut Expr)> VisitorMut for Outside<F> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.depth += usize::from(matches!(expr, Expr::Lambda(_)));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Lambda(_) => self.depth -= 1,
            expr if self.depth == 0 => (self.visit)(expr),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn has_subquery(expr: &Expr) -> bool {
    exists(expr, |part| matches!(part, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. }))
}

fn exists(expr: &Expr, is_one: impl Fn(&Expr) -> bool) -> bool {
    let found = visit_expressions(expr, |part| match is_one(part) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// The output column that has just what is sorted by.
pub(super) fn shown(key: &Expr, items: &[SelectItem]) -> Option<Ident> {
    let of_key = items.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if expr == key => Some(alias),
        _ => None,
    });
    let is_name = matches!(key, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_));
    of_key.filter(|_| !is_name).map(|alias| Ident::with_quote_and_span('"', alias.span, &alias.value))
}

/// The names of output columns that are no columns of their name.
pub(super) fn computed(items: &[SelectItem]) -> Vec<String> {
    let computed = items.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } => {
            let own = match expr {
                Expr::Identifier(ident) => Some(ident),
                Expr::CompoundIdentifier(idents) => idents.last(),
                _ => None,
            };
            own.is_none_or(|own| own.value != alias.value).then(|| alias.value.clone())
        }
        _ => None,
    });
    computed.collect()
}

fn output_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) if idents.len() == 2 => Some(idents[1].value.clone()),
        _ => None,
    }
}
