//! A view whose query ends with an `ORDER BY` is read in that order by a query that gives none: `SELECT * FROM urgent`. So is a subquery, or a query
//! of `WITH`: `SELECT * FROM (SELECT .. ORDER BY v) AS t LIMIT 2`.
//!
//! Rows of a view have no order of their own, as in any SQL. Who writes one all the same means that of the list that is shown, so what is shown, or
//! written, of the view alone has it. It holds for a result that ends, and where a `LIMIT` keeps the first rows of one that does not; a `SELECT` that groups, or names its own order, is left as it is.

use std::ops::ControlFlow;

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    Cte, Expr, Ident, LimitClause, OrderBy, OrderByExpr, OrderByKind, Query, SelectItem, SetExpr, TableAlias,
    TableFactor, Value, visit_expressions,
};

use super::context::PlanContext;
use super::window::{column_ident, groups};
use crate::catalog::{Catalog, Relation};
use crate::error::Result;
use crate::parser::QueryText;

impl PlanContext<'_> {
    /// The plan of a query; where it reads a view that has an order, gives none itself, and `shows` its rows in one, in that of the view.
    ///
    /// # Errors
    /// As [`plan_query`](Self::plan_query).
    pub(super) fn plan_in_order_of_view(
        &self,
        query: &QueryText,
        shows: impl Fn(&LogicalPlan) -> bool,
    ) -> Result<LogicalPlan> {
        // What cannot be ordered so, such as a sum over all rows, has no order.
        let ordered = with_order(self.catalog, query).and_then(|ordered| self.plan_query(&ordered).ok());
        ordered.filter(shows).map_or_else(|| self.plan_query(query), Ok)
    }
}

/// The query with the order of the view, the subquery or the query of its `WITH` that it reads.
fn with_order(catalog: &Catalog, query: &QueryText) -> Option<QueryText> {
    if query.ast.order_by.is_some() {
        return None;
    }
    let SetExpr::Select(select) = query.ast.body.as_ref() else { return None };
    // What is unnested in the list has no place for a further column.
    let unnests = visit_expressions(&select.projection, |part| match part {
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("unnest") => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    if groups(select) || unnests.is_break() {
        return None;
    }
    let [from] = select.from.as_slice() else { return None };
    if !from.joins.is_empty() {
        return None;
    }
    let names_of = |alias: &TableAlias| alias.columns.iter().map(|column| column.name.value.clone()).collect();
    let (relation, keys) = match &from.relation {
        TableFactor::Derived { lateral: false, subquery, alias, .. } => {
            let names: Vec<String> = alias.as_ref().map(names_of).unwrap_or_default();
            (alias.as_ref().map(|alias| &alias.name), order_of(subquery, &names)?)
        }
        TableFactor::Table { name, alias, args: None, .. } => {
            if alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
                return None;
            }
            let parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
            let relation = alias.as_ref().map_or_else(|| parts.last().copied(), |alias| Some(&alias.name))?;
            let ctes = query.ast.with.iter().flat_map(|with| &with.cte_tables);
            let is_named = |cte: &&Cte| parts.len() == 1 && same(&cte.alias.name, parts[0]);
            let keys = match ctes.rev().find(is_named) {
                Some(cte) => order_of(&cte.query, &names_of(&cte.alias))?,
                None => {
                    let named: Vec<(&str, bool)> =
                        parts.iter().map(|ident| (ident.value.as_str(), ident.quote_style.is_some())).collect();
                    let Ok(Relation::View(view)) = catalog.relation(&named, None) else { return None };
                    order_of(&view.query.ast, &view.columns)?
                }
            };
            (Some(relation), keys)
        }
        _ => return None,
    };
    let keys = keys.into_iter().map(|(column, key)| OrderByExpr {
        // Of what is read, and not of what the query names so.
        expr: match relation {
            Some(relation) => Expr::CompoundIdentifier(vec![relation.clone(), column]),
            None => Expr::Identifier(column),
        },
        ..key
    });
    let kind = OrderByKind::Expressions(keys.collect());
    let mut ast = query.ast.clone();
    ast.order_by = Some(OrderBy { kind, interpolate: None });
    Some(QueryText { ast, ..query.clone() })
}

/// The order of a query, as columns that it has; `columns`: as what is around it calls them, if it does.
fn order_of(query: &Query, columns: &[String]) -> Option<Vec<(Ident, OrderByExpr)>> {
    let OrderByKind::Expressions(keys) = &query.order_by.as_ref()?.kind else { return None };
    // What an `OFFSET` leaves is not sorted again: DataFusion would take the offset off the limit as well.
    if matches!(
        query.limit_clause,
        Some(LimitClause::LimitOffset { offset: Some(_), .. } | LimitClause::OffsetCommaLimit { .. })
    ) {
        return None;
    }
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let items = select.projection.as_slice();
    let has_wildcard =
        items.iter().any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    if has_wildcard && !columns.is_empty() {
        return None;
    }
    // What the query itself calls it, and what is around it does.
    let own_name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(expr) => column_ident(expr),
        _ => None,
    };
    let name = |place: usize| match columns.get(place) {
        Some(name) => Some(Ident::with_quote('"', name)),
        None => own_name(items.get(place)?),
    };
    let column_of = |key: &OrderByExpr| -> Option<Ident> {
        if let Some(place) = place_of(&key.expr) {
            return name(place).filter(|_| !has_wildcard);
        }
        let unqualified = match &key.expr {
            Expr::Identifier(ident) => Some(ident),
            _ => None,
        };
        let is_named = |item: &SelectItem| own_name(item).zip(unqualified).is_some_and(|(own, key)| same(&own, key));
        let is_written = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => *expr == key.expr,
            _ => false,
        };
        // A name is that of an output first, as in any `ORDER BY`.
        match items.iter().position(is_named).or_else(|| items.iter().position(is_written)) {
            Some(place) => name(place),
            None => unqualified.filter(|_| has_wildcard).cloned(),
        }
    };
    keys.iter().map(|key| Some((column_of(key)?, key.clone()))).collect()
}

/// The place that a number in an `ORDER BY` means, from 0.
fn place_of(key: &Expr) -> Option<usize> {
    let Expr::Value(value) = key else { return None };
    let Value::Number(number, _) = &value.value else { return None };
    number.parse::<usize>().ok()?.checked_sub(1)
}

fn same(a: &Ident, b: &Ident) -> bool {
    match a.quote_style.is_some() && b.quote_style.is_some() {
        true => a.value == b.value,
        false => a.value.eq_ignore_ascii_case(&b.value),
    }
}
