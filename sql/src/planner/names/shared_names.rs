//! Columns that are called the same, in the rows of a `MATCH_RECOGNIZE` over a join.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, Select, SelectItem, VisitMut, VisitorMut};

use super::{Input, Scope};
use crate::error::{Location, Result, SqlError};
use crate::parser::match_recognize::Clause;
use crate::planner::match_recognize::{self as patterns, labels};

/// Columns of joined tables that are called the same get names of their own in the rows, and whoever names one says whose it is. Returns the
/// names that columns then have, for [`rename`] once the rows are planned; none where no two are called the same.
pub(super) fn tell_apart(
    select: &mut Select,
    scope: &Scope,
    (exprs, clause): (&mut [&mut Expr], &Clause),
    location: Option<Location>,
) -> Result<Vec<String>> {
    let names: Vec<String> =
        scope.inputs.iter().flat_map(Input::own_columns).map(|column| column.name.clone()).collect();
    let shared: Vec<&String> =
        names.iter().enumerate().filter(|(i, name)| names[..*i].contains(name)).map(|(_, name)| name).collect();
    let Some(first) = shared.first() else { return Ok(vec![]) };
    if scope.inputs.iter().any(|input| input.name.is_none() || input.open) {
        let message = format!(
            "the rows of `MATCH_RECOGNIZE` have two columns named `{first}`; name them in a subquery: `FROM (SELECT a.x, b.x AS y FROM ..) \
             MATCH_RECOGNIZE (..)`"
        );
        return Err(SqlError::plan(message, location));
    }
    let own = patterns::leaving_names(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut each = names.iter().zip(&own);
    let mut items = vec![];
    let mut columns: Vec<Qualified> = vec![];
    for input in &scope.inputs {
        let table = input.name.clone().unwrap_or_default();
        let shown: Vec<String> = input.shown_columns().map(|column| column.name.clone()).collect();
        for (place, column) in input.columns.iter().enumerate() {
            if input.merged.contains(&column.name) {
                continue;
            }
            let (name, own) = each.next().ok_or_else(|| SqlError::internal("a column without a name"))?;
            if shown.contains(name) {
                let of_table =
                    || Expr::CompoundIdentifier(vec![Ident::with_quote('"', &table), Ident::with_quote('"', name)]);
                let expr = input.values.get(place).cloned().unwrap_or_else(of_table);
                items.push(SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', own) });
            }
            if shared.contains(&name) {
                columns.push(Qualified { table: table.clone(), name: name.clone(), own: own.clone() });
            }
        }
    }
    select.projection.splice(0..1, items);
    for (index, expr) in exprs.iter_mut().enumerate() {
        let is_key = index < clause.partition + clause.order.len();
        if let ControlFlow::Break(error) = expr.visit(&mut Qualifier { columns: &columns, clause, is_key }) {
            return Err(error);
        }
    }
    Ok(own)
}

/// Gives columns the names that [`tell_apart`] has found for them.
pub(super) fn rename(scope: &mut Scope, names: Vec<String>) {
    let mut names = names.into_iter();
    for input in &mut scope.inputs {
        let merged = &input.merged;
        for column in input.columns.iter_mut().filter(|column| !merged.contains(&column.name)) {
            if let Some(name) = names.next() {
                column.name = name;
            }
        }
    }
}

/// A column of which there are several by its name.
struct Qualified {
    table: String,
    name: String,
    /// Its name in the rows.
    own: String,
}

/// Gives columns their own names.
struct Qualifier<'a> {
    columns: &'a [Qualified],
    clause: &'a Clause,
    /// Of keys, where no variables are known.
    is_key: bool,
}

impl Qualifier<'_> {
    /// The column that a name with a table is; none if it is no such column.
    fn own_name(&self, table: Option<&Ident>, name: &Ident) -> Result<Option<Ident>> {
        let same = |ident: &Ident, name: &str| match ident.quote_style {
            Some(_) => ident.value == name,
            None => ident.value.eq_ignore_ascii_case(name),
        };
        let called: Vec<&Qualified> = self.columns.iter().filter(|column| same(name, &column.name)).collect();
        if called.is_empty() {
            return Ok(None);
        }
        let is_label = |ident: &Ident| !self.is_key && labels::label(self.clause, ident).is_some();
        let table = table.filter(|table| !is_label(table));
        if let Some(column) = table.and_then(|table| called.iter().find(|column| same(table, &column.table))) {
            return Ok(Some(Ident::with_quote_and_span('"', name.span, &column.own)));
        }
        if table.is_some() {
            // No table of these rows.
            return Ok(None);
        }
        let all: Vec<String> = called.iter().map(|column| format!("`{}.{}`", column.table, column.name)).collect();
        let message = format!(
            "the rows of `MATCH_RECOGNIZE` have several columns named `{}`: {}; say which, or give them names of their own in a subquery: \
             `FROM (SELECT a.x, b.x AS y FROM ..) MATCH_RECOGNIZE (..)`",
            name.value,
            all.join(", ")
        );
        Err(SqlError::plan(message, Location::of(name.span)))
    }
}

impl VisitorMut for Qualifier<'_> {
    type Break = SqlError;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        let own = match &*expr {
            Expr::Identifier(name) => self.own_name(None, name),
            Expr::CompoundIdentifier(idents) => match idents.as_slice() {
                [table, name] => self.own_name(Some(table), name),
                _ => Ok(None),
            },
            _ => Ok(None),
        };
        match own {
            Ok(Some(own)) => *expr = Expr::Identifier(own),
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}
