//! `PIVOT` as an aggregation, and `UNPIVOT` as a union: the names of a table say what they are made of.
//!
//! `t PIVOT (SUM(v) FOR k IN ('a', 'b' AS bee))` groups by all columns of `t` that it does not name, and has a column for each value:
//! `SELECT rest, SUM(v) FILTER (WHERE k = 'a') AS "a", .. FROM t GROUP BY rest`. `t UNPIVOT (v FOR k IN (a, b))` has a row for each of the columns:
//! `SELECT rest, 'a' AS k, a AS v FROM t WHERE a IS NOT NULL UNION ALL ..`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, ExprWithAlias, GroupByExpr, Ident, NullInclusion, PivotValueSource, SelectItem, SetExpr,
    SetOperator, SetQuantifier, Spanned, TableAlias, TableFactor, TableWithJoins, Value, Visit, Visitor,
};

use super::{Column, Input, Resolver, Scope, find_column, unknown_column};
use crate::error::{Location, Result, SqlError};
use crate::planner::rows::and;
use crate::planner::window;

impl Resolver<'_> {
    /// Writes a `PIVOT` or `UNPIVOT` as the subquery that it is.
    ///
    /// # Errors
    /// Columns that are not there; values that are not listed.
    pub(super) fn write_out_pivot(&mut self, factor: &mut TableFactor) -> Result<()> {
        let (TableFactor::Pivot { table, .. } | TableFactor::Unpivot { table, .. }) = &*factor else {
            return Ok(());
        };
        // What it is made of is resolved with the subquery; here only its columns are asked for.
        let mut inputs = vec![];
        self.factors(&mut table.as_ref().clone(), &mut inputs)?;
        let location = Location::of(factor.span());
        if inputs.iter().any(|input| input.open) {
            let word = if matches!(factor, TableFactor::Pivot { .. }) { "PIVOT" } else { "UNPIVOT" };
            return Err(SqlError::plan(
                format!("`{word}` needs the names of all columns that it reads; list them in a subquery with aliases"),
                location,
            ));
        }
        let columns = inputs.iter().flat_map(Input::own_columns).cloned().collect::<Vec<_>>();
        let known = Known { columns, location };
        let (body, alias) = match &*factor {
            TableFactor::Pivot { alias, .. } => (pivoted(factor, &known)?, alias.clone()),
            _ => (unpivoted(factor, &known)?, unpivot_alias(factor)),
        };
        let subquery = Box::new(window::query_of(body));
        *factor = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
        Ok(())
    }
}

fn unpivot_alias(factor: &TableFactor) -> Option<TableAlias> {
    match factor {
        TableFactor::Unpivot { alias, .. } => alias.clone(),
        _ => None,
    }
}

/// The columns of the table in question.
struct Known {
    columns: Vec<Column>,
    location: Option<Location>,
}

impl Known {
    fn find(&self, expr: &Expr) -> Result<usize> {
        let ident = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(idents) => idents.last(),
            _ => None,
        };
        let Some(ident) = ident else {
            let location = Location::of(expr.span()).or(self.location);
            return Err(SqlError::plan(
                format!("`{expr}` is no column; compute it in a subquery and name it here"),
                location,
            ));
        };
        find_column(&self.columns, ident).ok_or_else(|| {
            let input = Input { columns: self.columns.clone(), ..Input::default() };
            unknown_column(ident, &Scope { inputs: vec![input], ..Scope::default() })
        })
    }

    /// The columns but for those of `used`.
    fn rest(&self, used: &[usize]) -> Vec<Expr> {
        let rest = self.columns.iter().enumerate().filter(|(index, _)| !used.contains(index));
        rest.map(|(_, column)| Expr::Identifier(quoted(&column.name))).collect()
    }
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// The columns that expressions name.
struct Named<'a> {
    known: &'a Known,
    found: Vec<usize>,
}

impl Visitor for Named<'_> {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SqlError> {
        if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            match self.known.find(expr) {
                Ok(index) => self.found.push(index),
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}

fn pivoted(factor: &TableFactor, known: &Known) -> Result<SetExpr> {
    let TableFactor::Pivot { table, aggregate_functions, value_column, value_source, default_on_null, .. } = factor
    else {
        return Err(SqlError::internal("a PIVOT that is none"));
    };
    let PivotValueSource::List(values) = value_source else {
        return Err(SqlError::unsupported(
            "`PIVOT` over values that are not listed",
            "the columns of a result are known when it is planned; write `FOR k IN ('a', 'b')`",
            known.location,
        ));
    };
    let mut named = Named { known, found: vec![] };
    for expr in value_column.iter().chain(aggregate_functions.iter().map(|aggregate| &aggregate.expr)) {
        if let ControlFlow::Break(error) = expr.visit(&mut named) {
            return Err(error);
        }
    }
    let rest = known.rest(&named.found);
    let mut items: Vec<SelectItem> = rest.iter().cloned().map(SelectItem::UnnamedExpr).collect();
    for value in values {
        let condition = condition(value_column, &value.expr, known)?;
        let value_name = value.alias.as_ref().map_or_else(|| name_of(&value.expr), |alias| alias.value.clone());
        for aggregate in aggregate_functions {
            let Expr::Function(function) = &aggregate.expr else {
                return Err(SqlError::internal("a PIVOT of what is no function"));
            };
            let mut function = function.clone();
            function.filter = Some(Box::new(match function.filter {
                Some(filter) => and(Expr::Nested(filter), condition.clone()),
                None => condition.clone(),
            }));
            let mut expr = Expr::Function(function);
            if let Some(default) = default_on_null {
                expr = window::call("coalesce", vec![expr, default.clone()]);
            }
            let name = match (&aggregate.alias, aggregate_functions.len()) {
                (Some(alias), _) => format!("{value_name}_{}", alias.value),
                (None, 1) => value_name.clone(),
                (None, _) => format!("{value_name}_{}", aggregate.expr),
            };
            items.push(SelectItem::ExprWithAlias { expr, alias: quoted(&name) });
        }
    }
    let mut body = *window::select_query(items, None, None).body;
    if let SetExpr::Select(select) = &mut body {
        select.from = vec![TableWithJoins { relation: table.as_ref().clone(), joins: vec![] }];
        select.group_by = GroupByExpr::Expressions(rest, vec![]);
    }
    Ok(body)
}

/// `columns = value`, value by value where there are several; a NULL is found by what it is.
fn condition(columns: &[Expr], value: &Expr, known: &Known) -> Result<Expr> {
    let values = match value {
        Expr::Tuple(values) if columns.len() > 1 => values.as_slice(),
        other => std::slice::from_ref(other),
    };
    if values.len() != columns.len() {
        return Err(SqlError::plan(
            format!("`PIVOT` by {} columns, and `{value}` is {} values", columns.len(), values.len()),
            Location::of(value.span()).or(known.location),
        ));
    }
    let equal = columns.iter().zip(values).map(|(column, value)| match value {
        Expr::Value(null) if null.value == Value::Null => Expr::IsNull(Box::new(column.clone())),
        value => Expr::BinaryOp {
            left: Box::new(column.clone()),
            op: BinaryOperator::Eq,
            right: Box::new(Expr::Nested(Box::new(value.clone()))),
        },
    });
    equal.reduce(and).ok_or_else(|| SqlError::plan("`PIVOT` by no column", known.location))
}

/// What the column of a value is called.
fn name_of(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::Null => "NULL".to_string(),
            other => other.to_string(),
        },
        Expr::Identifier(ident) => ident.value.clone(),
        Expr::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        Expr::Tuple(values) => values.iter().map(name_of).collect::<Vec<_>>().join("_"),
        other => other.to_string(),
    }
}

fn unpivoted(factor: &TableFactor, known: &Known) -> Result<SetExpr> {
    let TableFactor::Unpivot { table, value, name, columns, null_inclusion, .. } = factor else {
        return Err(SqlError::internal("an UNPIVOT that is none"));
    };
    let Expr::Identifier(value) = value else {
        return Err(SqlError::unsupported(
            "`UNPIVOT` of several columns at once",
            "name one value column: `UNPIVOT (value FOR name IN (a, b))`",
            Location::of(value.span()).or(known.location),
        ));
    };
    let places = columns.iter().map(|column| known.find(&column.expr)).collect::<Result<Vec<_>>>()?;
    let rest = known.rest(&places);
    let part = |(column, place): (&ExprWithAlias, &usize)| {
        let source = &known.columns[*place].name;
        let label = column.alias.as_ref().map_or(source, |alias| &alias.value);
        let mut items: Vec<SelectItem> = rest.iter().cloned().map(SelectItem::UnnamedExpr).collect();
        items.push(SelectItem::ExprWithAlias { expr: window::string(label), alias: name.clone() });
        items.push(SelectItem::ExprWithAlias { expr: Expr::Identifier(quoted(source)), alias: value.clone() });
        let nulls = null_inclusion == &Some(NullInclusion::IncludeNulls);
        let filter = (!nulls).then(|| Expr::IsNotNull(Box::new(Expr::Identifier(quoted(source)))));
        let mut body = *window::select_query(items, None, filter).body;
        if let SetExpr::Select(select) = &mut body {
            select.from = vec![TableWithJoins { relation: table.as_ref().clone(), joins: vec![] }];
        }
        body
    };
    let union = columns.iter().zip(&places).map(part).reduce(|left, right| SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: SetQuantifier::All,
        left: Box::new(left),
        right: Box::new(right),
    });
    union.ok_or_else(|| SqlError::plan("`UNPIVOT` of no column", known.location))
}
