//! Forms of SQL that say what others say, written as those: what comes after knows fewer of them.
//!
//! `ARG_MAX(x, y)` and its kin, `ARRAY(SELECT ..)` ([`super::array_subquery`]), `LIKE ANY`, `SIMILAR TO`, `OVERLAPS` ([`super::comparisons`]), `FROM generate_series(..)`, `TABLE t`, `SEMI JOIN`, `CROSS APPLY`, `GROUP BY ()`, `BETWEEN SYMMETRIC`, subqueries in `VALUES`, and rows in comparisons
//! and `IN`, `ANY` and `ALL` of subqueries ([`super::rows`]): what changes the names that are in scope, so it comes before they are resolved.
//! [`super::forms`] has those that do not.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, OrderByExpr, OrderByKind,
    OrderByOptions, Query, Select, SelectItem, SetExpr, Spanned, TableAlias, TableAliasColumnDef, TableFactor,
    TableWithJoins, UnaryOperator, Value, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::match_recognize::compare_with_values;
use super::named_windows::NamedWindows;
use super::rows::{and, filter_by_rows, or, quantified, row_in_list, rows_compared};
use super::score_aliases::{alias, event_time};
use super::{
    array_subquery, comparisons, element_order, json_forms, json_made, json_rows, nested_unnest, places, predict,
    random_cut_forest, text_forms, timestamp_digits, value_queries, window,
};
use crate::catalog::Catalog;
use crate::error::{Location, Result, SqlError};
use crate::functions::score::fold_options;
use crate::parser::SYMMETRIC;
use crate::parser::match_recognize::{FINAL, MATCH_FUNCTION, RUNNING};
use crate::parser::written::written;

/// Writes all such forms of a query as others.
///
/// # Errors
/// A form that is written wrongly.
pub(super) fn expand(catalog: &Catalog, query: &mut Query) -> Result<()> {
    match query.visit(&mut Expander { catalog, written: vec![], times: vec![] }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Expander<'a> {
    catalog: &'a Catalog,
    /// The unnamed columns of the `SELECT`s around, the innermost last: what they were, and how that was written.
    written: Vec<Vec<Option<(String, String)>>>,
    /// The event times of the `SELECT`s around, the innermost last, of those that read one table with a watermark.
    times: Vec<Option<Ident>>,
}

impl Expander<'_> {
    fn is_aggregate(&self, name: &str) -> bool {
        self.catalog.functions().is_aggregate(name)
    }
}

impl VisitorMut for Expander<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        tables_as_selects(&mut query.body);
        value_queries::write_out(&mut query.body);
        element_order::keep(query, false);
        match write_out_windows(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        // Those of the whole query are written out already; these are of a part of a set operation.
        match NamedWindows::take(select)
            .and_then(|windows| windows.map_or(Ok(()), |windows| windows.write_into_select(select)))
        {
            Ok(()) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        select.from.iter_mut().for_each(plain_joins);
        group_by_nothing(select);
        nested_unnest::flatten(select);
        for condition in select.selection.iter_mut().chain(&mut select.having) {
            filter_by_rows(condition, &|name| self.is_aggregate(name));
        }
        let name = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) => Some((expr.to_string(), written(expr))),
            _ => None,
        };
        self.written.push(select.projection.iter().map(name).collect());
        self.times.push(event_time(self.catalog, select));
        json_rows::in_select(select);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        let names = self.written.pop().unwrap_or_default();
        self.times.pop();
        for (item, name) in select.projection.iter_mut().zip(names) {
            // A column is named as it was written.
            if let (SelectItem::UnnamedExpr(expr), Some((text, name))) = (&*item, name)
                && expr.to_string() != text
            {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        match series(factor) {
            Ok(Some(series)) => *factor = series,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        if let TableFactor::UNNEST { array_exprs, .. } = factor {
            array_exprs.iter_mut().for_each(json_rows::of_unnest);
        }
        for written in [predict::table_function, random_cut_forest::table_function] {
            match written(self.catalog, factor) {
                Ok(Some(subquery)) => *factor = subquery,
                Ok(None) => {}
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<SqlError> {
        if let [schema, _, ..] = relation.0.as_slice()
            && schema.as_ident().is_some_and(|schema| self.catalog.is_public(&schema.value))
        {
            relation.0.remove(0);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if let Expr::CompoundIdentifier(parts) = expr
            && parts.len() > 2
            && self.catalog.is_public(&parts[0].value)
        {
            parts.remove(0);
        }
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        // `t.current_time` is read as the function; with a table before it, it is a column.
        if matches!(function.args, FunctionArguments::None) && function.name.0.len() > 1 {
            let parts: Option<Vec<Ident>> = function.name.0.iter().map(|part| part.as_ident().cloned()).collect();
            if let Some(parts) = parts {
                *expr = Expr::CompoundIdentifier(parts);
                return ControlFlow::Continue(());
            }
        }
        let name = function.name.to_string().to_lowercase();
        if name == MATCH_FUNCTION
            && let Err(error) = compare_with_values(function)
        {
            return ControlFlow::Break(error);
        }
        if let Some(array) = array_of_rows(&name).filter(|_| !self.catalog.functions().contains(&name)) {
            function.name = ObjectName::from(vec![Ident::with_span(function.name.span(), array)]);
            let Expr::Function(array) = &*expr else { return ControlFlow::Continue(()) };
            *expr = window::call("unnest", vec![Expr::Function(array.clone())]);
            return ControlFlow::Continue(());
        }
        if name == "unnest"
            && let FunctionArguments::List(list) = &mut function.args
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))] = list.args.as_mut_slice()
        {
            json_rows::of_unnest(array);
        }
        let json = match self.catalog.functions().contains(&name) {
            true => Ok(None),
            false => json_made::written_out(function, &name)
                .map(|made| made.or_else(|| json_rows::in_expression(function)))
                .map(|made| made.or_else(|| json_forms::extracted(function, &name))),
        };
        match json
            .transpose()
            .or_else(|| alias(function, self.times.last().and_then(Option::as_ref)).transpose())
            .transpose()
        {
            Ok(None) => {}
            // Its parts are visited next.
            Ok(Some(written)) => *expr = written,
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        // Of no array it is not known what is in it.
        if let Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } = expr
            && is_null(right)
        {
            let null = Box::new(Expr::Value(Value::Null.into()));
            let (kind, data_type) = (CastKind::Cast, DataType::Boolean);
            *expr = Expr::Cast { kind, expr: null, data_type, array: false, format: None };
            return ControlFlow::Continue(());
        }
        match comparisons::written_out(expr) {
            Ok(None) => {}
            Ok(Some(written)) => {
                *expr = written;
                return ControlFlow::Continue(());
            }
            Err(error) => return ControlFlow::Break(error),
        }
        let expanded = match expr {
            Expr::InSubquery { .. } | Expr::AnyOp { .. } | Expr::AllOp { .. } => {
                quantified(expr, &|name| self.is_aggregate(name))
            }
            Expr::Cast { .. } => timestamp_digits::cut(expr),
            Expr::BinaryOp { left, op, right } => rows_compared(left, op, right),
            Expr::InList { expr: row, list, negated } => row_in_list(row, list, *negated),
            Expr::Between { expr: value, negated, low, high } => symmetric_between(value, *negated, low, high),
            Expr::Function(function) if predict::is_call(self.catalog, function) => {
                match predict::resolve(self.catalog, function) {
                    Ok(()) => return ControlFlow::Continue(()),
                    Err(error) => return ControlFlow::Break(error),
                }
            }
            Expr::Function(function) if matches!(function.args, FunctionArguments::Subquery(_)) => {
                match array_subquery::written_out(function) {
                    Ok(expanded) => expanded,
                    Err(error) => return ControlFlow::Break(error),
                }
            }
            Expr::Function(function) => match fold_options(function).and_then(|()| arg_extreme_in_match(function)) {
                Ok(expanded) => expanded.or_else(|| collected(function)),
                Err(error) => return ControlFlow::Break(error),
            },
            Expr::CompoundFieldAccess { .. } => match places::written_out(expr) {
                Ok(expanded) => expanded,
                Err(error) => return ControlFlow::Break(error),
            },
            _ => match text_forms::written_out(expr) {
                Ok(expanded) => expanded,
                Err(error) => return ControlFlow::Break(error),
            },
        };
        if let Some(expanded) = expanded {
            *expr = expanded;
        }
        ControlFlow::Continue(())
    }
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_null(inner),
        Expr::Value(value) => value.value == Value::Null,
        _ => false,
    }
}

/// `OVER w` where a `WINDOW` clause says what `w` is.
fn write_out_windows(query: &mut Query) -> Result<()> {
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(()) };
    let Some(windows) = NamedWindows::take(select)? else { return Ok(()) };
    windows.write_into_select(select)?;
    if let Some(OrderByKind::Expressions(keys)) = query.order_by.as_mut().map(|order| &mut order.kind) {
        keys.iter_mut().try_for_each(|key| windows.write_into(&mut key.expr))?;
    }
    Ok(())
}

/// `TABLE t` is `SELECT * FROM t`.
fn tables_as_selects(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            tables_as_selects(left);
            tables_as_selects(right);
        }
        SetExpr::Table(table) => {
            let parts = [&table.schema_name, &table.table_name];
            let name = ObjectName::from(parts.into_iter().flatten().map(Ident::new).collect::<Vec<_>>());
            let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
            *body = *window::select_query(vec![all], Some(window::table_factor(name)), None).body;
        }
        _ => {}
    }
}

/// `a SEMI JOIN b` and `a ANTI JOIN b` keep rows of `a`; `a CROSS APPLY (q)` is `a CROSS JOIN LATERAL (q)`, and `OUTER APPLY` its left join.
fn plain_joins(table: &mut TableWithJoins) {
    let relations = std::iter::once(&mut table.relation).chain(table.joins.iter_mut().map(|join| {
        let operator = std::mem::replace(&mut join.join_operator, JoinOperator::CrossJoin(JoinConstraint::None));
        if let (JoinOperator::CrossApply | JoinOperator::OuterApply, TableFactor::Derived { lateral, .. }) =
            (&operator, &mut join.relation)
        {
            *lateral = true;
        }
        join.join_operator = match operator {
            JoinOperator::Semi(constraint) => JoinOperator::LeftSemi(constraint),
            JoinOperator::Anti(constraint) => JoinOperator::LeftAnti(constraint),
            JoinOperator::CrossApply => JoinOperator::CrossJoin(JoinConstraint::None),
            JoinOperator::OuterApply => {
                JoinOperator::LeftOuter(JoinConstraint::On(Expr::Value(Value::Boolean(true).into())))
            }
            other => other,
        };
        &mut join.relation
    }));
    for relation in relations {
        if let TableFactor::NestedJoin { table_with_joins, .. } = relation {
            plain_joins(table_with_joins);
        }
    }
}

/// `GROUP BY ()` is one group of all rows, also where there are none. Beside other keys it says nothing; alone it is a condition on an aggregate that
/// always holds, without which a `SELECT` of constants would be no aggregation.
fn group_by_nothing(select: &mut Select) {
    let GroupByExpr::Expressions(exprs, _) = &mut select.group_by else { return };
    let is_empty = |expr: &Expr| matches!(expr, Expr::Tuple(values) if values.is_empty());
    if !exprs.iter().any(is_empty) {
        return;
    }
    exprs.retain(|expr| !is_empty(expr));
    if !exprs.is_empty() {
        return;
    }
    let always = Expr::IsNotNull(Box::new(window::call("count", vec![Expr::Value(Value::Boolean(true).into())])));
    select.having = Some(match select.having.take() {
        Some(condition) => and(Expr::Nested(Box::new(condition)), always),
        None => always,
    });
}

/// `x BETWEEN SYMMETRIC a AND b`: between them, whichever of them is less.
fn symmetric_between(value: &Expr, negated: bool, low: &Expr, high: &Expr) -> Option<Expr> {
    let Expr::Prefixed { prefix, value: low } = low else { return None };
    if prefix.value != SYMMETRIC {
        return None;
    }
    let between = |low: &Expr, high: &Expr| Expr::Between {
        expr: Box::new(value.clone()),
        negated: false,
        low: Box::new(low.clone()),
        high: Box::new(high.clone()),
    };
    let either = Expr::Nested(Box::new(or(between(low, high), between(high, low))));
    Some(match negated {
        true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(either) },
        false => either,
    })
}

/// `generate_series(..) [AS g[(i)]]` is `UNNEST(generate_series(..)) AS g(i)`, `string_to_table(..)` is `UNNEST(string_to_array(..))`, `LATERAL UNNEST(..)` is `UNNEST(..)`; both also as `TABLE(..)`.
fn series(factor: &TableFactor) -> Result<Option<TableFactor>> {
    let Some((name, alias, args, with_ordinality)) = call_in_from(factor) else { return Ok(None) };
    let spelled = name.to_string().to_lowercase();
    if let Some(rows) = json_rows::in_from(&spelled, args, alias.as_ref(), *with_ordinality)? {
        return Ok(Some(rows));
    }
    // `LATERAL UNNEST(..)` comes as a function of that name.
    let unnests = spelled == "unnest";
    let function = match spelled.as_str() {
        "unnest" | "generate_series" | "range" => spelled.as_str(),
        name => match array_of_rows(name) {
            Some(array) => array,
            None => return Ok(None),
        },
    };
    let mut values = vec![];
    for arg in args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = arg else {
            return Ok(None);
        };
        values.push(value.clone());
    }
    let plain = || TableAlias { explicit: true, name: Ident::new(&spelled), columns: vec![], at: None };
    let mut alias = alias.clone().unwrap_or_else(plain);
    if alias.columns.is_empty() && !unnests {
        alias.columns.push(TableAliasColumnDef::from_name(alias.name.value.clone()));
    }
    Ok(Some(TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs: if unnests { values } else { vec![window::call(function, values)] },
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: *with_ordinality,
    }))
}

/// The function that gives as an array what one gives as rows.
fn array_of_rows(name: &str) -> Option<&'static str> {
    match name {
        "string_to_table" => Some("string_to_array"),
        "regexp_split_to_table" => Some("regexp_split_to_array"),
        _ => None,
    }
}

/// Name, alias and arguments of a function in `FROM`, and whether its rows are numbered.
fn call_in_from(factor: &TableFactor) -> Option<(&ObjectName, &Option<TableAlias>, &[FunctionArg], &bool)> {
    Some(match factor {
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => {
            let FunctionArguments::List(list) = &function.args else { return None };
            (&function.name, alias, list.args.as_slice(), &false)
        }
        // `LATERAL TABLE(..)` comes as a function of that name.
        TableFactor::Function { name, alias, args, with_ordinality, .. }
            if name.to_string().eq_ignore_ascii_case("table") =>
        {
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(function)))] = args.as_slice() else {
                return None;
            };
            let FunctionArguments::List(list) = &function.args else { return None };
            (&function.name, alias, list.args.as_slice(), with_ordinality)
        }
        TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } if args.settings.is_none() => {
            (name, alias, args.args.as_slice(), with_ordinality)
        }
        // Of what stands before it, it may speak without the word `LATERAL` too.
        TableFactor::Function { name, alias, args, with_ordinality, .. } => {
            (name, alias, args.as_slice(), with_ordinality)
        }
        _ => return None,
    })
}

/// `COLLECT(x)`: an array of the values that are not null, an empty one where there are none, as Flink's multiset.
fn collected(function: &Function) -> Option<Expr> {
    if !function.name.to_string().eq_ignore_ascii_case("collect") {
        return None;
    }
    let value = window::only_arg(function)?;
    let mut values = function.clone();
    values.name = ObjectName::from(vec![Ident::with_span(function.name.span(), "array_agg")]);
    let known = Expr::IsNotNull(Box::new(value.clone()));
    values.filter = Some(Box::new(match &function.filter {
        Some(filter) => and(Expr::Nested(filter.clone()), known),
        None => known,
    }));
    Some(window::call("coalesce", vec![Expr::Function(values), window::call("make_array", vec![])]))
}

/// [`arg_extreme`], also behind `RUNNING` and `FINAL`.
fn arg_extreme_in_match(function: &mut Function) -> Result<Option<Expr>> {
    let semantics = match function.name.0.as_slice() {
        [first, _] => first.as_ident().filter(|ident| matches!(ident.value.as_str(), RUNNING | FINAL)).cloned(),
        _ => None,
    };
    let Some(semantics) = semantics else { return arg_extreme(function) };
    let semantics = function.name.0.drain(..1).next().unwrap_or(ObjectNamePart::Identifier(semantics));
    let mut expanded = arg_extreme(function)?;
    let name = match &mut expanded {
        Some(Expr::Function(function)) => &mut function.name,
        _ => &mut function.name,
    };
    name.0.insert(0, semantics);
    Ok(expanded)
}

/// `ARG_MAX(x, y)`: `FIRST_VALUE(x ORDER BY y DESC)` of the rows where neither is null, as in DuckDB and RisingWave; of `MAX_BY(x, y)`, as in
/// Snowflake, Spark and Trino, `x` may be null. With `OVER`, where aggregates have no order of their own, the value of the greatest row `(y, x)`.
fn arg_extreme(function: &Function) -> Result<Option<Expr>> {
    let name = function.name.to_string();
    let (greatest, of_known) = match name.to_lowercase().as_str() {
        "arg_max" | "argmax" => (true, true),
        "arg_min" | "argmin" => (false, true),
        "max_by" => (true, false),
        "min_by" => (false, false),
        _ => return Ok(None),
    };
    let wrong = |why: &str| {
        let which = if greatest { "greatest" } else { "least" };
        let form = format!("`{name}(value, by) [FILTER (WHERE ..)]`: the value where `by` is {which}");
        SqlError::plan(format!("`{name}` {why}; it is written {form}"), Location::of(function.name.span()))
    };
    let args = match &function.args {
        FunctionArguments::List(args) => args,
        _ => return Err(wrong("needs two arguments")),
    };
    let of = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr.clone()),
        other => Err(wrong(&format!("takes no `{other}`"))),
    };
    let [value, by] = args.args.as_slice() else {
        return Err(wrong(&format!("takes two arguments, not {}", args.args.len())));
    };
    let (value, by) = (of(value)?, of(by)?);
    if !args.clauses.is_empty() || !function.within_group.is_empty() {
        return Err(wrong("takes no order of its own"));
    }
    let mut known = Expr::IsNotNull(Box::new(by.clone()));
    if of_known {
        known = and(known, Expr::IsNotNull(Box::new(value.clone())));
    }
    let known = Some(Box::new(match &function.filter {
        Some(filter) => and(Expr::Nested(filter.clone()), known),
        None => known,
    }));
    if function.over.is_some() {
        let pair = vec![window::string("by"), by, window::string("value"), value];
        let extreme = window::call(if greatest { "max" } else { "min" }, vec![window::call("named_struct", pair)]);
        let Expr::Function(mut extreme) = extreme else { return Ok(None) };
        (extreme.filter, extreme.over) = (known, function.over.clone());
        return Ok(Some(window::call("get_field", vec![Expr::Function(extreme), window::string("value")])));
    }
    let Expr::Function(mut first) = window::call("first_value", vec![value]) else { return Ok(None) };
    if let FunctionArguments::List(list) = &mut first.args {
        let options = OrderByOptions { asc: Some(!greatest), nulls_first: Some(false) };
        list.clauses.push(FunctionArgumentClause::OrderBy(vec![OrderByExpr { expr: by, options, with_fill: None }]));
    }
    first.filter = known;
    Ok(Some(Expr::Function(first)))
}
