//! A view whose query ends with an `ORDER BY` is read in that order by a query that gives none: `SELECT * FROM urgent`.
//!
//! Rows of a view have no order of their own, as in any SQL. Who writes one all the same means that of the list that is shown, so what is shown, or
//! written, of the view alone has it. It holds for a result that ends; a `SELECT` that groups, or names its own order, is left as it is.

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, OrderBy, OrderByExpr, OrderByKind, SelectItem, SetExpr, TableFactor, Value,
};

use super::context::PlanContext;
use super::window::column_ident;
use crate::catalog::{Catalog, Relation, View};
use crate::parser::QueryText;

impl PlanContext<'_> {
    /// The plan of a query in the order of the view that it reads, where it reads one that has an order, and gives none itself.
    pub(super) fn plan_in_order_of_view(&self, query: &QueryText) -> Option<LogicalPlan> {
        let ordered = with_order(self.catalog, query)?;
        // What cannot be ordered so, such as a sum over all rows, has no order.
        self.plan_query(&ordered).ok()
    }
}

/// The query with the order of its view.
fn with_order(catalog: &Catalog, query: &QueryText) -> Option<QueryText> {
    if query.ast.order_by.is_some() || query.ast.with.is_some() {
        return None;
    }
    let SetExpr::Select(select) = query.ast.body.as_ref() else { return None };
    let [from] = select.from.as_slice() else { return None };
    let TableFactor::Table { name, alias, args: None, .. } = &from.relation else { return None };
    if !from.joins.is_empty() || alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
        return None;
    }
    let parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    let named: Vec<(&str, bool)> =
        parts.iter().map(|ident| (ident.value.as_str(), ident.quote_style.is_some())).collect();
    let Ok(Relation::View(view)) = catalog.relation(&named, None) else { return None };
    let relation = alias.as_ref().map_or_else(|| parts.last().copied(), |alias| Some(&alias.name))?;
    let keys = order_of(&view)?.into_iter().map(|(column, key)| OrderByExpr {
        // Of the view, and not of what the query names so.
        expr: Expr::CompoundIdentifier(vec![relation.clone(), column]),
        ..key
    });
    let kind = OrderByKind::Expressions(keys.collect());
    let mut ast = query.ast.clone();
    ast.order_by = Some(OrderBy { kind, interpolate: None });
    Some(QueryText { ast, ..query.clone() })
}

/// The order of a view, as columns that it has.
fn order_of(view: &View) -> Option<Vec<(Ident, OrderByExpr)>> {
    let OrderByKind::Expressions(keys) = &view.query.ast.order_by.as_ref()?.kind else { return None };
    let SetExpr::Select(select) = view.query.ast.body.as_ref() else { return None };
    let output = |(place, item): (usize, &SelectItem)| match (view.columns.get(place), item) {
        (Some(name), _) => Some(Ident::with_quote('"', name)),
        (None, SelectItem::ExprWithAlias { alias, .. }) => Some(alias.clone()),
        (None, SelectItem::UnnamedExpr(expr)) => column_ident(expr),
        _ => None,
    };
    let outputs: Vec<Option<Ident>> = select.projection.iter().enumerate().map(output).collect();
    let has_wildcard = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    if has_wildcard && !view.columns.is_empty() {
        return None;
    }
    let column_of = |key: &OrderByExpr| -> Option<Ident> {
        let ordinal = match &key.expr {
            Expr::Value(value) => match &value.value {
                Value::Number(number, _) => Some(number.parse::<usize>().ok()?.checked_sub(1)?),
                _ => None,
            },
            _ => None,
        };
        if let Some(place) = ordinal {
            return outputs.get(place).filter(|_| !has_wildcard)?.clone();
        }
        let named = column_ident(&key.expr);
        let same = |(output, item): &(&Option<Ident>, &SelectItem)| {
            let alias = match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias),
                _ => output.as_ref(),
            };
            let by_name =
                named.as_ref().zip(alias).is_some_and(|(key, name)| key.value.eq_ignore_ascii_case(&name.value));
            let by_expr = match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => *expr == key.expr,
                _ => false,
            };
            by_name || by_expr
        };
        match outputs.iter().zip(&select.projection).find(same) {
            Some((output, _)) => output.clone(),
            None => named.filter(|_| has_wildcard),
        }
    };
    keys.iter().map(|key| Some((column_of(key)?, key.clone()))).collect()
}
