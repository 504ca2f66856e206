//! Names in a `MATCH_RECOGNIZE`: its rows bring columns, its pattern brings variables, and what leaves has columns of its own.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, Select, SelectItem, SetExpr, Spanned, TableAlias, Visit, Visitor,
};

use super::{Aliases, Column, Input, Resolver, rename, shared_names};
use crate::error::{Location, Result, SqlError};
use crate::parser::match_recognize::{Clause, RowsSyntax};
use crate::planner::match_recognize as patterns;
use crate::planner::match_recognize::labels::{self, Known};

/// Functions are easily written without their parentheses.
fn of_function(error: SqlError) -> SqlError {
    let SqlError::UnknownColumn { name, location, .. } = &error else { return error };
    match ["CLASSIFIER", "MATCH_NUMBER", "MATCH_SEQUENCE_NUMBER", "MATCH_STATUS"]
        .iter()
        .find(|function| function.eq_ignore_ascii_case(name))
    {
        Some(function) => SqlError::plan(
            format!("`{function}` is a function, and no column of the rows has that name: `{function}()`"),
            *location,
        ),
        None => error,
    }
}

/// A subquery in a clause knows of no matches: who asks it for the row of a variable asks for a column that nobody has.
fn of_variable(error: SqlError, clause: &Clause) -> SqlError {
    let SqlError::UnknownColumn { name, location, .. } = &error else { return error };
    match name.split_once('.') {
        Some((first, column)) if labels::label(clause, &Ident::new(first)).is_some() => SqlError::plan(
            format!(
                "`{name}` in a subquery of `MATCH_RECOGNIZE`: it sees the columns of the row in question, and no variables; write `{column}`"
            ),
            *location,
        ),
        _ => error,
    }
}

impl Resolver<'_> {
    /// Resolves the names of a clause; returns the columns that leave it.
    pub(super) fn match_input(&mut self, function: &mut Function, alias: Option<&mut TableAlias>) -> Result<Input> {
        let lineage = self.lineage.clone();
        let function_span = function.name.span();
        patterns::add_parts(function)?;
        let (rows, mut clause, mut exprs) = patterns::parts_of(function)?;
        let Expr::Subquery(query) = rows else { return Err(SqlError::internal("`MATCH_RECOGNIZE` lost its rows")) };
        let SetExpr::Select(select) = &mut *query.body else {
            return Err(SqlError::internal("the rows of `MATCH_RECOGNIZE` are no table"));
        };
        let mut scope = self.from(&mut select.from)?;
        let location = Location::of(function_span);
        let own_names = shared_names::tell_apart(select, &scope, (&mut exprs, &clause), location)?;
        let before = clause.partition + clause.order.len();
        let within = usize::from(clause.within.is_some());
        let (measures, defines) = exprs.split_at_mut(before + clause.measures.len());
        let of_match = measures.iter_mut().skip(before).chain(defines.iter_mut().skip(within));
        let lifted = patterns::lift(of_match.map(|expr| &mut **expr))?;
        for (name, expr) in lifted {
            let alias = Ident::with_quote('"', name);
            select.projection.push(SelectItem::ExprWithAlias { expr, alias });
        }
        let written = vec![None; select.projection.len()];
        let projected = self.projection(&mut select.projection, &written, &scope);
        let (mut columns, open) = projected.map_err(|error| of_variable(error, &clause))?;
        let lifted = columns.extract_if(.., |column| patterns::is_lifted(&column.name)).collect();
        scope.inputs.push(Input { columns: lifted, ..Input::default() });
        shared_names::rename(&mut scope, own_names);
        // Whatever table they come from, in the plan they are the rows'.
        for input in &mut scope.inputs {
            input.qualifier = Some(patterns::ROWS.to_string());
            input.values.clear();
        }
        for (index, expr) in exprs.iter_mut().enumerate() {
            let same = |ident: &Ident, name: &str| match ident.quote_style {
                Some(_) => ident.value == name,
                None => ident.value.eq_ignore_ascii_case(name),
            };
            let is_table = |ident: &Ident| {
                let mut names = scope.inputs.iter().filter_map(|input| input.name.as_deref());
                open || names.any(|name| name.split('.').any(|part| same(ident, part)))
            };
            let is_column = |ident: &Ident| {
                let mut columns = scope.inputs.iter().flat_map(|input| &input.columns);
                is_table(ident) || columns.any(|column| same(ident, &column.name))
            };
            let known = Known { column: &is_column, table: &is_table };
            if index >= before {
                labels::mark(expr, &clause, known)?;
            } else {
                labels::mark_key(expr, &clause, known)?;
                labels::check_key(expr, if index < clause.partition { "PARTITION BY" } else { "ORDER BY" })?;
            }
            self.expr(expr, &scope, Aliases::None).map_err(of_function)?;
        }
        if clause.explain.is_some() {
            let name = alias.map(|alias| alias.name.value.clone());
            return Ok(Input { qualifier: name.clone(), name, open: true, ..Input::default() });
        }
        let named = |expr: &&mut Expr| -> Option<Column> {
            let mut expr: &Expr = expr;
            while let Expr::Nested(inner) = expr {
                expr = inner;
            }
            let name = match expr {
                Expr::Identifier(ident) => &ident.value,
                Expr::CompoundIdentifier(idents) => &idents.last()?.value,
                _ => return None,
            };
            Some(columns.iter().find(|column| column.name == *name).cloned().unwrap_or_else(|| Column::untyped(name)))
        };
        let all = clause.rows.has_columns();
        let keys = clause.partition + if all { clause.order.len() } else { 0 };
        let mut output: Vec<Column> = match clause.rows {
            RowsSyntax::Window => columns.clone(),
            _ => exprs.iter().take(keys).filter_map(named).collect(),
        };
        let is_key = |column: &Column| output.iter().any(|key| key.name == column.name);
        let rest: Vec<Column> = columns.iter().filter(|column| all && !is_key(column)).cloned().collect();
        output.extend(clause.measures.iter().map(|measure| Column::untyped(&measure.name)));
        output.extend(rest);
        let names = patterns::leaving_names(&output.iter().map(|column| column.name.as_str()).collect::<Vec<_>>());
        output.iter_mut().zip(names).for_each(|(column, name)| column.name = name);
        // A column or measure of that name is the one that is meant.
        let is_there = |name: &&str| output.iter().any(|column| column.name == **name);
        let mut hidden: Vec<String> = lineage.iter().filter(|name| !is_there(name)).map(ToString::to_string).collect();
        if !hidden.is_empty() {
            output.extend(hidden.iter().map(Column::untyped));
            clause.lineage.clone_from(&hidden);
            patterns::write_clause(function, &clause)?;
        }
        let name = alias.as_ref().map(|alias| alias.name.value.clone());
        if let Some(alias) = alias {
            // Whoever names columns names those that are shown.
            rename(&mut output, open, alias);
            let first = output.len() - hidden.len();
            hidden = output[first..].iter().map(|column| column.name.clone()).collect();
        }
        Ok(Input { qualifier: name.clone(), name, columns: output, open: open && all, hidden, ..Input::default() })
    }
}

/// The columns of matches that a `SELECT` names and `*` does not show. What its tables are made of is not looked at: a subquery there has
/// names of its own.
pub(super) fn lineage_columns(select: &mut Select, order: &[&mut Expr]) -> Vec<&'static str> {
    let from = std::mem::take(&mut select.from);
    let mut names = LineageNames(vec![]);
    let _ = select.visit(&mut names);
    for join in from.iter().flat_map(|table| &table.joins) {
        let _ = join.join_operator.visit(&mut names);
    }
    select.from = from;
    for expr in order {
        let _ = expr.visit(&mut names);
    }
    names.0
}

struct LineageNames(Vec<&'static str>);

impl Visitor for LineageNames {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let name = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(idents) => idents.last(),
            _ => None,
        };
        if let Some(column) = name.and_then(|i| patterns::lineage_column(&i.value, i.quote_style.is_some()))
            && !self.0.contains(&column)
        {
            self.0.push(column);
        }
        ControlFlow::Continue(())
    }
}
