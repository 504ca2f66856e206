//! Forms of SQL that say what others say, written as those: what comes after knows fewer of them.
//!
//! Rows in comparisons and in `IN` (`(a, b) = (1, 2)`, `(a, b) IN (SELECT ..)`, value by value, so that nulls leave open what they do), `ARG_MAX(x, y)` and its kin, `FROM generate_series(..)`, and `TABLE t`: what changes the names
//! that are in scope, so it comes before they are resolved. [`super::forms`] has those that do not.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    Ident, ObjectName, OrderByExpr, OrderByOptions, Query, Select, SelectItem, SetExpr, TableAlias,
    TableAliasColumnDef, TableFactor, UnaryOperator, Value, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::window;
use crate::error::{Result, SqlError};
use crate::functions::score::fold_options;

/// Writes all such forms of a query as others.
///
/// # Errors
/// Options of a function that cannot be.
pub(super) fn expand(query: &mut Query) -> Result<()> {
    let mut expander = Expander { error: None };
    let _ = query.visit(&mut expander);
    expander.error.map_or(Ok(()), Err)
}

struct Expander {
    error: Option<SqlError>,
}

impl VisitorMut for Expander {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        tables_as_selects(&mut query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for condition in select.selection.iter_mut().chain(&mut select.having) {
            filter_by_rows(condition);
        }
        for item in &mut select.projection {
            let SelectItem::UnnamedExpr(expr) = item else { continue };
            let mut expanded = expr.clone();
            let _ = expanded.visit(self);
            if expanded != *expr {
                // The column is named as it was written.
                let name = expr.to_string();
                *item = SelectItem::ExprWithAlias { expr: expanded, alias: Ident::with_quote('"', name) };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let Some(series) = series(factor) {
            *factor = series;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let expanded = match expr {
            Expr::InSubquery { .. } => RowsIn::of(expr).map(RowsIn::value),
            Expr::BinaryOp { left, op, right } => rows_compared(left, op, right),
            Expr::InList { expr: row, list, negated } => row_in_list(row, list, *negated),
            Expr::Function(function) => {
                if let Err(error) = fold_options(function) {
                    self.error.get_or_insert(error);
                    return ControlFlow::Break(());
                }
                arg_extreme(function)
            }
            _ => None,
        };
        if let Some(expanded) = expanded {
            *expr = expanded;
        }
        ControlFlow::Continue(())
    }
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

/// `generate_series(..) [AS g[(i)]]` is `UNNEST(generate_series(..)) AS g(i)`.
fn series(factor: &TableFactor) -> Option<TableFactor> {
    let (name, alias, args, with_ordinality) = match factor {
        TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } if args.settings.is_none() => {
            (name, alias, &args.args, with_ordinality)
        }
        // Of what stands before it, it may speak without the word `LATERAL` too.
        TableFactor::Function { name, alias, args, with_ordinality, .. } => (name, alias, args, with_ordinality),
        _ => return None,
    };
    let spelled = name.to_string().to_lowercase();
    if spelled != "generate_series" && spelled != "range" {
        return None;
    }
    let mut values = vec![];
    for arg in args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = arg else {
            return None;
        };
        values.push(value.clone());
    }
    let plain = || TableAlias { explicit: true, name: Ident::new(&spelled), columns: vec![], at: None };
    let mut alias = alias.clone().unwrap_or_else(plain);
    if alias.columns.is_empty() {
        alias.columns.push(TableAliasColumnDef::from_name(alias.name.value.clone()));
    }
    Some(TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs: vec![window::call(&spelled, values)],
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: *with_ordinality,
    })
}

/// `ARG_MAX(x, y)`: `FIRST_VALUE(x ORDER BY y DESC)` of the rows where `y` is not null.
fn arg_extreme(function: &Function) -> Option<Expr> {
    let greatest = match function.name.to_string().to_lowercase().as_str() {
        "arg_max" | "argmax" | "max_by" => true,
        "arg_min" | "argmin" | "min_by" => false,
        _ => return None,
    };
    let FunctionArguments::List(args) = &function.args else { return None };
    let [value, by] = args.args.as_slice() else { return None };
    let of = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    let (value, by) = (of(value)?, of(by)?);
    if !args.clauses.is_empty() || args.duplicate_treatment.is_some() || function.over.is_some() {
        return None;
    }
    let Expr::Function(mut first) = window::call("first_value", vec![value]) else { return None };
    let known = Expr::IsNotNull(Box::new(by.clone()));
    if let FunctionArguments::List(list) = &mut first.args {
        let options = OrderByOptions { asc: Some(!greatest), nulls_first: Some(false) };
        list.clauses.push(FunctionArgumentClause::OrderBy(vec![OrderByExpr { expr: by, options, with_fill: None }]));
    }
    first.filter = Some(Box::new(match &function.filter {
        Some(filter) => and(Expr::Nested(filter.clone()), known),
        None => known,
    }));
    Some(Expr::Function(first))
}

/// `(a, b) op (x, y)`, value by value.
fn rows_compared(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let (Expr::Tuple(left), Expr::Tuple(right)) = (without_parentheses(left), without_parentheses(right)) else {
        return None;
    };
    if left.len() != right.len() || !matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
        return None;
    }
    let strict = match op {
        LtEq => Lt,
        GtEq => Gt,
        other => other.clone(),
    };
    let mut values = left.iter().zip(right).rev();
    let (last_left, last_right) = values.next()?;
    let last = values_compared(last_left, op, last_right);
    let all = values.fold(last, |rest, (left, right)| match op {
        Eq => and(values_compared(left, &Eq, right), rest),
        NotEq => or(values_compared(left, &NotEq, right), rest),
        // By the first values that differ.
        _ => or(values_compared(left, &strict, right), and(values_compared(left, &Eq, right), rest)),
    });
    Some(Expr::Nested(Box::new(all)))
}

fn values_compared(left: &Expr, op: &BinaryOperator, right: &Expr) -> Expr {
    rows_compared(left, op, right).unwrap_or_else(|| Expr::BinaryOp {
        left: Box::new(Expr::Nested(Box::new(left.clone()))),
        op: op.clone(),
        right: Box::new(Expr::Nested(Box::new(right.clone()))),
    })
}

/// `(a, b) [NOT] IN ((1, 2), (3, 4))`.
fn row_in_list(row: &Expr, list: &[Expr], negated: bool) -> Option<Expr> {
    let equal = list.iter().map(|other| rows_compared(row, &BinaryOperator::Eq, other));
    let any = Expr::Nested(Box::new(equal.collect::<Option<Vec<_>>>()?.into_iter().reduce(or)?));
    Some(match negated {
        true => Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(any) })),
        false => any,
    })
}

fn without_parentheses(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => without_parentheses(inner),
        other => other,
    }
}

/// `(a, b) [NOT] IN (SELECT x, y ..)`.
struct RowsIn {
    row: Vec<Expr>,
    subquery: Query,
    negated: bool,
}

impl RowsIn {
    fn of(expr: &Expr) -> Option<Self> {
        match expr {
            Expr::InSubquery { expr, subquery, negated } => match expr.as_ref() {
                Expr::Tuple(row) if row.len() > 1 => {
                    Some(Self { row: row.clone(), subquery: subquery.as_ref().clone(), negated: *negated })
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a row of the subquery is equal or, `or_unknown`, may be for all that nulls say.
    fn exists(&self, or_unknown: bool, negated: bool) -> Expr {
        let column = |index: usize| Ident::with_quote('"', format!("__c{index}"));
        let columns = (0..self.row.len()).map(|index| TableAliasColumnDef::from_name(column(index).value));
        let rows = TableFactor::Derived {
            lateral: false,
            subquery: Box::new(self.subquery.clone()),
            alias: Some(TableAlias {
                explicit: true,
                name: Ident::with_quote('"', "__rows"),
                columns: columns.collect(),
                at: None,
            }),
            sample: None,
        };
        let equal = self.row.iter().enumerate().map(|(index, value)| {
            let of_rows = Expr::CompoundIdentifier(vec![Ident::with_quote('"', "__rows"), column(index)]);
            values_compared(&of_rows, &BinaryOperator::Eq, value)
        });
        let mut equal = equal.reduce(and).unwrap_or_else(|| Expr::value(Value::Boolean(true)));
        if or_unknown {
            equal = Expr::IsNotFalse(Box::new(Expr::Nested(Box::new(equal))));
        }
        let one = SelectItem::UnnamedExpr(Expr::value(Value::Number("1".into(), false)));
        Expr::Exists { subquery: Box::new(window::select_query(vec![one], Some(rows), Some(equal))), negated }
    }

    /// Where only true counts.
    fn condition(self) -> Expr {
        self.exists(self.negated, self.negated)
    }

    /// With null where it is not known.
    fn value(self) -> Expr {
        let (found, missing) = (Value::Boolean(!self.negated), Value::Boolean(self.negated));
        let when = |condition: Expr, result: Value| CaseWhen { condition, result: Expr::value(result) };
        Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![when(self.exists(false, false), found), when(self.exists(true, false), Value::Null)],
            else_result: Some(Box::new(Expr::value(missing))),
        }
    }
}

/// The conjuncts of a filter that are `IN` of rows, as the semi and anti joins that they can be there.
fn filter_by_rows(condition: &mut Expr) {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            filter_by_rows(left);
            filter_by_rows(right);
        }
        Expr::Nested(inner) => filter_by_rows(inner),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
            if let Some(rows) = RowsIn::of(expr) {
                *condition = RowsIn { negated: !rows.negated, ..rows }.condition();
            }
        }
        other => {
            if let Some(rows) = RowsIn::of(other) {
                *other = rows.condition();
            }
        }
    }
}

fn or(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Or, right: Box::new(right) }
}

fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}
