//! A subquery over the elements of an array, `(SELECT string_agg(u, '-') FROM UNNEST(t.a) AS s(u))`, has them in the order in which they stand there.
//!
//! Rows of a subquery that looks outwards are found for all rows around it at once, and have no order of their own. So where such a one reads one
//! array alone and gives no order itself, the elements are numbered, and what depends on an order goes by their numbers: `LIMIT`, `ARRAY(SELECT ..)`, and
//! the aggregates that put one value behind the other. (Elements that are shown beside the row they come from have their order by themselves.)

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident, OrderBy,
    OrderByExpr, OrderByKind, OrderByOptions, Query, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor,
    TableWithJoins, VisitMut, VisitorMut, visit_expressions,
};

use super::context::default_functions;
use super::window::groups;

/// Aggregates that put one value behind the other.
const ORDERED: [&str; 8] =
    ["array_agg", "string_agg", "listagg", "json_agg", "jsonb_agg", "first_value", "last_value", "collect"];
/// What the elements are numbered by, and what they are called where the query gives them no name.
const PLACE: &str = "__place";
const ELEMENTS: &str = "__unnested";

/// Has a query keep to the order of the elements that it reads. `collects`: its rows become an array.
pub(super) fn keep(query: &mut Query, collects: bool) {
    let limits = query.limit_clause.is_some() || query.fetch.is_some();
    let gives_order = query.order_by.is_some() || query.with.is_some();
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let shows_all = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    if gives_order || groups(select) || select.projection.iter().any(shows_all) {
        return;
    }
    let mut calls = Calls::default();
    let _ = select.projection.visit(&mut calls);
    // What is computed of all elements in any order has one row.
    if calls.windows || calls.others && !calls.ordered || !(calls.ordered || limits || collects) {
        return;
    }
    if select.from.is_empty() && !calls.ordered {
        from_list(&mut select.projection, &mut select.from);
    }
    let [
        TableWithJoins {
            relation: TableFactor::UNNEST { alias, array_exprs, with_offset, with_ordinality, .. },
            joins,
        },
    ] = select.from.as_mut_slice()
    else {
        return;
    };
    let [array] = array_exprs.as_slice() else { return };
    let names = alias.as_ref().map_or(0, |alias| alias.columns.len());
    if !joins.is_empty() || *with_offset || *with_ordinality || names > 1 || !looks_around(array) {
        return;
    }
    let alias = alias.get_or_insert_with(|| named("unnest"));
    if alias.columns.is_empty() {
        alias.columns.push(column(alias.name.clone()));
    }
    alias.columns.push(column(Ident::with_quote('"', PLACE)));
    *with_ordinality = true;
    if calls.ordered {
        let _ = select.projection.visit(&mut Calls { orders: true, ..Calls::default() });
    } else {
        query.order_by = Some(OrderBy { kind: OrderByKind::Expressions(vec![by_place()]), interpolate: None });
    }
}

/// `SELECT unnest(t.a)` as `SELECT unnest FROM UNNEST(t.a) AS unnest`.
fn from_list(items: &mut [SelectItem], from: &mut Vec<TableWithJoins>) {
    let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = items else { return };
    let Expr::Function(function) = expr else { return };
    let FunctionArguments::List(list) = &function.args else { return };
    let is_unnest = function.name.to_string().eq_ignore_ascii_case("unnest") && function.over.is_none();
    let array = match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))] if is_unnest && looks_around(array) => array.clone(),
        _ => return,
    };
    let relation = TableFactor::UNNEST {
        alias: Some(TableAlias { columns: vec![column(Ident::with_quote('"', "unnest"))], ..named(ELEMENTS) }),
        array_exprs: vec![array],
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    };
    from.push(TableWithJoins { relation, joins: vec![] });
    *expr = Expr::CompoundIdentifier(vec![Ident::with_quote('"', ELEMENTS), Ident::with_quote('"', "unnest")]);
}

/// Whether an array is one of the rows around: a constant has its order.
fn looks_around(array: &Expr) -> bool {
    let found = visit_expressions(array, |part| match part {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn named(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: vec![], at: None }
}

fn column(name: Ident) -> TableAliasColumnDef {
    TableAliasColumnDef { name, data_type: None }
}

fn by_place() -> OrderByExpr {
    let options = OrderByOptions { asc: None, nulls_first: None };
    OrderByExpr { expr: Expr::Identifier(Ident::with_quote('"', PLACE)), options, with_fill: None }
}

/// The aggregates and windows of a `SELECT` list.
#[derive(Default)]
struct Calls {
    /// Gives those that put one value behind the other, and have no order, that of the elements.
    orders: bool,
    /// There are such.
    ordered: bool,
    /// There is something else that may be an aggregate.
    others: bool,
    /// There are windows, which have an order of their own.
    windows: bool,
    /// How many subqueries are around the current node: theirs are not its.
    depth: usize,
}

impl VisitorMut for Calls {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let name = function.name.to_string().to_lowercase();
        let is_scalar = name == "unnest" || default_functions().scalar.contains_key(name.as_str());
        let FunctionArguments::List(list) = &mut function.args else { return ControlFlow::Continue(()) };
        let has_order = list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)));
        let takes_order = ORDERED.contains(&name.as_str())
            && !has_order
            && function.within_group.is_empty()
            && list.duplicate_treatment != Some(DuplicateTreatment::Distinct);
        match () {
            () if function.over.is_some() => self.windows = true,
            () if takes_order => {
                self.ordered = true;
                if self.orders {
                    list.clauses.push(FunctionArgumentClause::OrderBy(vec![by_place()]));
                }
            }
            () => self.others |= !is_scalar,
        }
        ControlFlow::Continue(())
    }
}
