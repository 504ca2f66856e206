//! `ARRAY(SELECT ..)`: the rows of a subquery of one column as an array.
//!
//! `ARRAY(SELECT x FROM t ORDER BY y)` is `coalesce((SELECT array_agg(e ORDER BY k) FROM (SELECT x, y FROM t ORDER BY y) AS a(e, k)), [])`: no rows are an
//! empty array, as in PostgreSQL. What the subquery orders by goes along as further columns, because a derived table has no order. Names are not
//! resolved yet, so the subquery may look outwards wherever one in the place of a value may.

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Function, FunctionArgumentClause, FunctionArguments, Ident, OrderByExpr, OrderByKind, Query,
    SelectItem, SetExpr, Spanned, TableAlias, TableAliasColumnDef, TableFactor, Value,
};

use super::{element_order, window};
use crate::error::{Location, Result, SqlError};

/// What the rows of such a subquery are called.
pub(super) const ELEMENTS: &str = "__elements";
const ELEMENT: &str = "__element";

/// The expression that `ARRAY(SELECT ..)` is; none for other calls.
///
/// # Errors
/// An order by what is no column of a set operation or a `DISTINCT`.
pub(super) fn written_out(function: &Function) -> Result<Option<Expr>> {
    let FunctionArguments::Subquery(query) = &function.args else { return Ok(None) };
    if !function.name.to_string().eq_ignore_ascii_case("array") {
        return Ok(None);
    }
    let mut query = query.as_ref().clone();
    element_order::keep(&mut query, true);
    let keys = order_keys(&mut query, Location::of(function.name.span()))?;
    let column = |name: &str| TableAliasColumnDef { name: Ident::with_quote('"', name), data_type: None };
    let mut columns = vec![column(ELEMENT)];
    let mut order: Vec<OrderByExpr> = vec![];
    for (index, key) in keys.into_iter().enumerate() {
        let name = match key.expr {
            None => ELEMENT.to_string(),
            Some(_) => format!("__key_{index}"),
        };
        if let Some(expr) = key.expr {
            columns.push(column(&name));
            append(&mut query, expr, &name);
        }
        order.push(OrderByExpr { expr: Expr::Identifier(Ident::with_quote('"', name)), ..key.by });
    }
    let mut collected = window::call("array_agg", vec![Expr::Identifier(Ident::with_quote('"', ELEMENT))]);
    if let Expr::Function(call) = &mut collected
        && let FunctionArguments::List(list) = &mut call.args
        && !order.is_empty()
    {
        list.clauses.push(FunctionArgumentClause::OrderBy(order));
    }
    let name = Ident::with_quote_and_span('"', function.name.span(), ELEMENTS);
    let rows = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query),
        alias: Some(TableAlias { explicit: true, name, columns, at: None }),
        sample: None,
    };
    let aggregated = window::select_query(vec![SelectItem::UnnamedExpr(collected)], Some(rows), None);
    let aggregated = Expr::Subquery(Box::new(aggregated));
    Ok(Some(window::call("coalesce", vec![aggregated, window::call("make_array", vec![])])))
}

/// A key of the subquery's order.
struct Key {
    /// What it is by; none: the element itself.
    expr: Option<Expr>,
    by: OrderByExpr,
}

fn order_keys(query: &mut Query, location: Option<Location>) -> Result<Vec<Key>> {
    let Some(OrderByKind::Expressions(keys)) = query.order_by.as_ref().map(|order| &order.kind) else {
        return Ok(vec![]);
    };
    let (item, may_append) = match query.body.as_ref() {
        SetExpr::Select(select) => {
            let item = match select.projection.as_slice() {
                [item] => Some(item),
                _ => None,
            };
            (item, !matches!(select.distinct, Some(Distinct::Distinct | Distinct::On(_))))
        }
        _ => (None, false),
    };
    let is_element = |key: &Expr| match (key, item) {
        (Expr::Value(value), _) if matches!(&value.value, Value::Number(number, _) if number == "1") => true,
        (key, Some(SelectItem::UnnamedExpr(expr))) if key == expr => true,
        (Expr::Identifier(name), Some(SelectItem::ExprWithAlias { alias, .. })) => {
            alias.value.eq_ignore_ascii_case(&name.value)
        }
        (Expr::Identifier(name), Some(SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)))) => {
            idents.last().is_some_and(|last| last.value.eq_ignore_ascii_case(&name.value))
        }
        (_, Some(SelectItem::ExprWithAlias { expr, .. })) => key == expr,
        // The only name that a set operation can be ordered by.
        (Expr::Identifier(_), None) => !may_append,
        _ => false,
    };
    let key_of = |key: &OrderByExpr| match is_element(&key.expr) {
        true => Ok(Key { expr: None, by: key.clone() }),
        false if may_append => Ok(Key { expr: Some(key.expr.clone()), by: key.clone() }),
        false => Err(SqlError::unsupported(
            format!("`ARRAY(SELECT ..)` in the order of `{}`", key.expr),
            "a `DISTINCT` or a set operation is ordered by its column: `ORDER BY 1`",
            Location::of(key.expr.span()).or(location),
        )),
    };
    keys.iter().map(key_of).collect()
}

fn append(query: &mut Query, expr: Expr, name: &str) {
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection.push(SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) });
    }
}
