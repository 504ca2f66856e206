//! The older form, `GROUP BY TUMBLE(ts, ..)`, written as the newer one in the syntax tree.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, Join,
    JoinConstraint, JoinOperator, ObjectName, Select, SelectItem, SetExpr, Spanned, TableFactor, TableWithJoins, Value,
    VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::{WINDOW_PLACEHOLDERS, WindowFunction, arg_expr, call, column_ident, from_of, select_query, table_factor};
use crate::error::{Location, Result, SqlError};

/// Rewrites `FROM t GROUP BY TUMBLE(ts, i)` to `FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), i)) GROUP BY window_start, window_end`, and
/// `TUMBLE_START(ts, i)` and its kin to the columns. The columns get their real names later: see [`WINDOW_PLACEHOLDERS`].
pub(in crate::planner) fn rewrite_group_windows(select: &mut Select, order_by: &mut [&mut Expr]) -> Result<()> {
    let GroupByExpr::Expressions(groups, _) = &mut select.group_by else {
        return Ok(());
    };
    let is_window = |expr: &Expr| match expr {
        Expr::Function(function) => WindowFunction::of_name(&function.name.to_string()).is_some(),
        _ => false,
    };
    let Some(index) = groups.iter().position(is_window) else {
        return Ok(());
    };
    let Expr::Function(function) = groups[index].clone() else {
        return Ok(());
    };
    let location = Location::of(function.name.span());
    if groups.iter().skip(index + 1).any(is_window) {
        return Err(SqlError::unsupported("`GROUP BY` with two windows", "", location));
    }
    let FunctionArguments::List(FunctionArgumentList { args, .. }) = &function.args else {
        return Err(SqlError::plan(format!("`{}` needs arguments", function.name), location));
    };
    let name = function.name.to_string().to_lowercase();
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(time))) = args.first() else {
        return Err(SqlError::plan(format!("`{}` needs an event-time column", function.name), location));
    };
    let written = match time {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => time.clone(),
        other => {
            return Err(SqlError::unsupported(
                format!("`{}` over an expression (`{other}`)", function.name),
                "compute the column in a subquery, or as a computed column of the table",
                location,
            ));
        }
    };
    let Some(mut table) = one_table(&mut select.from) else {
        return Err(SqlError::plan(format!("`{}` needs a table", function.name), location));
    };
    let of_table = match &table {
        TableWithJoins { relation: TableFactor::Table { name, alias, args: None, version: None, .. }, joins }
            if joins.is_empty() =>
        {
            let idents = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
            Some((Expr::CompoundIdentifier(idents), alias.clone()))
        }
        TableWithJoins { relation: TableFactor::Derived { lateral: false, subquery, alias, .. }, joins }
            if joins.is_empty() =>
        {
            Some((Expr::Subquery(subquery.clone()), alias.clone()))
        }
        _ => None,
    };
    let (data, time, alias) = match (name.as_str(), of_table) {
        ("session", Some((_, alias))) => {
            // Rows that the query leaves out make no session, so the filter comes first; and each key has its own.
            let keys = session_keys(groups, index, &mut select.projection, &mut select.having, order_by, location)?;
            let mut items = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            items.extend(keys.computed);
            let query = select_query(items, Some(table.relation), select.selection.take());
            let mut parts = vec![Expr::Subquery(Box::new(query))];
            parts.extend(keys.columns.into_iter().map(Expr::Identifier));
            let data = Expr::Prefixed { prefix: Ident::new("TABLE"), value: Box::new(Expr::Tuple(parts)) };
            (data, column_ident(&written).map(Expr::Identifier), alias)
        }
        ("session", None) => {
            return Err(SqlError::unsupported(
                "`GROUP BY SESSION(..)` over a join or a function in `FROM`",
                "put it into a subquery: `FROM (SELECT .. FROM a JOIN b ON ..) GROUP BY k, SESSION(ts, ..)`",
                location,
            ));
        }
        (_, Some((data, alias))) => (data, column_ident(&written).map(Expr::Identifier), alias),
        (_, None) => {
            let all = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            let mut query = select_query(all, None, None);
            if let SetExpr::Select(inner) = query.body.as_mut() {
                inner.from.push(std::mem::replace(&mut table, no_table()));
            }
            (from_of(Box::new(query)), Some(written.clone()), None)
        }
    };
    let time = time.ok_or_else(|| SqlError::internal("a window without a time"))?;
    let mut call_args = vec![data, time];
    call_args.extend(args.iter().skip(1).filter_map(|arg| arg_expr(arg).cloned()));
    let Expr::Function(mut window) = call(&name, call_args) else { unreachable!("`call` makes a function") };
    window.name = function.name.clone();
    let relation = TableFactor::TableFunction { expr: Expr::Function(window), alias };
    select.from = vec![TableWithJoins { relation, joins: vec![] }];

    let mut parts = GroupWindowParts { name: &name, args, used_time: false, first: true };
    let mut visit = |node: &mut Expr| match node.visit(&mut parts) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            visit(expr)?;
        }
    }
    if let Some(having) = &mut select.having {
        visit(having)?;
    }
    for expr in order_by {
        visit(expr)?;
    }
    let placeholder = |part: usize| Expr::Identifier(Ident::new(WINDOW_PLACEHOLDERS[part]));
    let mut columns = vec![placeholder(0), placeholder(1)];
    if parts.used_time {
        columns.push(placeholder(2));
    }
    groups.splice(index..=index, columns);
    Ok(())
}

/// The tables of a `FROM` as one: `a, b` is `a CROSS JOIN b`.
fn one_table(from: &mut Vec<TableWithJoins>) -> Option<TableWithJoins> {
    let mut tables = std::mem::take(from).into_iter();
    let mut first = tables.next()?;
    for table in tables {
        let keeps_right = table.joins.iter().any(|join| {
            matches!(
                join.join_operator,
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
            )
        });
        let (relation, joins) = match keeps_right {
            true => (TableFactor::NestedJoin { table_with_joins: Box::new(table), alias: None }, vec![]),
            false => (table.relation, table.joins),
        };
        let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
        first.joins.push(Join { relation, global: false, join_operator });
        first.joins.extend(joins);
    }
    Some(first)
}

fn no_table() -> TableWithJoins {
    TableWithJoins { relation: table_factor(ObjectName::from(vec![])), joins: vec![] }
}

/// Whether two calls have the same arguments; the first one is a column, with or without its table.
fn same_arguments(one: &[FunctionArg], other: &[FunctionArg]) -> bool {
    let text = |args: &[FunctionArg]| args.iter().skip(1).map(|a| a.to_string().to_lowercase()).collect::<Vec<_>>();
    let column = |args: &[FunctionArg]| match args.first().and_then(arg_expr) {
        Some(Expr::CompoundIdentifier(idents)) => {
            let texts: Vec<String> = idents.iter().map(|ident| ident.value.to_lowercase()).collect();
            texts
        }
        Some(Expr::Identifier(ident)) => vec![ident.value.to_lowercase()],
        other => vec![other.map(ToString::to_string).unwrap_or_default()],
    };
    let (one_column, other_column) = (column(one), column(other));
    one.len() == other.len()
        && text(one) == text(other)
        && (one_column.ends_with(&other_column) || other_column.ends_with(&one_column))
}

/// Replaces `TUMBLE_START(..)` and its kin by the window's columns.
struct GroupWindowParts<'a> {
    name: &'a str,
    args: &'a [FunctionArg],
    used_time: bool,
    first: bool,
}

impl VisitorMut for GroupWindowParts<'_> {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        self.first = false;
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let name = function.name.to_string().to_lowercase();
        let part = match name.strip_prefix(self.name) {
            Some("" | "_start") => 0,
            Some("_end") => 1,
            Some("_rowtime" | "_proctime") => 2,
            _ => return ControlFlow::Continue(()),
        };
        let same = match &function.args {
            FunctionArguments::List(list) => same_arguments(&list.args, self.args),
            _ => false,
        };
        if !same {
            return ControlFlow::Break(SqlError::plan(
                format!("`{}` needs the arguments of the window in `GROUP BY`", function.name),
                Location::of(function.name.span()),
            ));
        }
        self.used_time |= part == 2;
        *expr = Expr::Identifier(Ident::new(WINDOW_PLACEHOLDERS[part]));
        ControlFlow::Continue(())
    }
}

/// The keys beside a `SESSION` in a `GROUP BY`.
struct SessionKeys {
    /// The columns that partition the rows.
    columns: Vec<Ident>,
    /// Those of them that are computed first.
    computed: Vec<SelectItem>,
}

/// The keys of a `GROUP BY SESSION(..), ..`, whose window is the one at `window`. A key that is no column is computed below the
/// window, and becomes a column wherever the query has it.
fn session_keys(
    groups: &mut [Expr],
    window: usize,
    projection: &mut [SelectItem],
    having: &mut Option<Expr>,
    order_by: &mut [&mut Expr],
    location: Option<Location>,
) -> Result<SessionKeys> {
    let mut keys = SessionKeys { columns: vec![], computed: vec![] };
    for (index, group) in groups.iter_mut().enumerate().filter(|(index, _)| *index != window) {
        if matches!(group, Expr::GroupingSets(_) | Expr::Rollup(_) | Expr::Cube(_)) {
            return Err(SqlError::unsupported(
                "`GROUP BY SESSION` with grouping sets",
                "use `TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap))`, whose sessions do not depend on the sets",
                location,
            ));
        }
        // `GROUP BY 1` is the first column of the result.
        if let Expr::Value(value) = &*group
            && let Value::Number(number, _) = &value.value
            && let Some(place) = number.to_string().parse::<usize>().ok().and_then(|number| number.checked_sub(1))
            && let Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = projection.get(place)
        {
            *group = expr.clone();
        }
        if let Some(ident) = column_ident(group) {
            keys.columns.push(ident);
            continue;
        }
        let name = Ident::new(format!("__eagre_key_{index}"));
        let mut replace = ReplaceExpr { from: group.clone(), to: Expr::Identifier(name.clone()) };
        for item in projection.iter_mut() {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let _ = expr.visit(&mut replace);
            }
        }
        for expr in having.iter_mut().chain(order_by.iter_mut().map(|expr| &mut **expr)) {
            let _ = expr.visit(&mut replace);
        }
        keys.computed.push(SelectItem::ExprWithAlias { expr: group.clone(), alias: name.clone() });
        *group = Expr::Identifier(name.clone());
        keys.columns.push(name);
    }
    Ok(keys)
}

struct ReplaceExpr {
    from: Expr,
    to: Expr,
}

impl VisitorMut for ReplaceExpr {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if *expr == self.from {
            *expr = self.to.clone();
        }
        ControlFlow::Continue(())
    }
}
