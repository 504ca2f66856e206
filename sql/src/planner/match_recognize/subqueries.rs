//! Subqueries in the expressions of a clause: each becomes a column of the rows that the pattern is looked for in.
//!
//! A subquery knows the rows' columns and no match, so what it gives is there before any row is matched: `A.price > (SELECT max(price) FROM
//! old)` is `A.price > q` over `SELECT *, (SELECT max(price) FROM old) AS q FROM rows`. The column is one of the row in question, as any
//! other; unlike others it belongs to whatever variable it stands beside. `x IN (SELECT ..)` asks the list of all that the subquery gives,
//! `EXISTS (SELECT ..)` their count, `x > ALL (SELECT ..)` the greatest. A subquery without tables is the expression that it selects.
//! `(A.x, A.y) IN (SELECT ..)` is a column of the row of `A`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, Ident, Query, SelectItem, SetExpr, Spanned, TableFactor, UnaryOperator,
    Value, VisitMut, VisitorMut,
};

use super::{labels, parts_of, slots};
use crate::error::{Location, Result, SqlError};
use crate::parser::parse_query;
use crate::planner::macros::case;
use crate::planner::window;

/// How the names of the columns begin.
const LIFTED: &str = "__eagre_subquery_";

/// The function of a variable, if one is named, and an expression over columns of its row that is a column of the row.
const ROW_COLUMN: &str = "__eagre_row_column";

/// Whether a column is one that a subquery became.
pub(in crate::planner) fn is_lifted(column: &str) -> bool {
    column.starts_with(LIFTED)
}

/// Takes the subqueries out of the expressions of a clause; returns them with the names of their columns.
///
/// # Errors
/// None but of our own making.
pub(in crate::planner) fn lift<'e>(exprs: impl Iterator<Item = &'e mut Expr>) -> Result<Vec<(String, Expr)>> {
    let mut lifter = Lifter { lifted: vec![] };
    for expr in exprs {
        if let ControlFlow::Break(error) = expr.visit(&mut lifter) {
            return Err(error);
        }
    }
    Ok(lifter.lifted)
}

struct Lifter {
    lifted: Vec<(String, Expr)>,
}

impl Lifter {
    /// The column that the value of a subquery becomes.
    fn column(&mut self, subquery: Expr) -> Expr {
        let known = self.lifted.iter().find(|(_, known)| *known == subquery).map(|(name, _)| name.clone());
        let name = known.unwrap_or_else(|| {
            let name = format!("{LIFTED}{}", self.lifted.len());
            self.lifted.push((name.clone(), subquery));
            name
        });
        Expr::Identifier(Ident::with_quote('"', name))
    }

    /// The column of an [aggregate](aggregated).
    fn aggregate(&mut self, aggregate: &str, columns: &str, query: &Query) -> Result<Expr> {
        Ok(self.column(aggregated(aggregate, columns, query)?))
    }

    fn replacement(&mut self, expr: &Expr) -> Result<Option<Expr>> {
        Ok(Some(match expr {
            Expr::Subquery(query) => match constant(query) {
                Some(value) => Expr::Nested(Box::new(value)),
                None => self.column(expr.clone()),
            },
            Expr::Exists { subquery, negated } => match constant(subquery) {
                Some(_) => boolean(!negated),
                None => {
                    // What it selects does not matter.
                    let count = self.aggregate("count(*) > 0", "", subquery)?;
                    if *negated { not(count) } else { count }
                }
            },
            Expr::InSubquery { expr: value, subquery, negated } => {
                let is_in = self.is_in(value, subquery)?;
                if *negated { not(is_in) } else { is_in }
            }
            Expr::Function(function) if function.name.to_string() == ROW_COLUMN => match slots::args_of(function)[..] {
                [value] => self.column(value.clone()),
                [Expr::Identifier(variable), value] => match self.column(value.clone()) {
                    Expr::Identifier(column) => Expr::CompoundIdentifier(vec![variable.clone(), column]),
                    column => column,
                },
                _ => return Err(SqlError::internal("a column of rows has another form")),
            },
            _ => return Ok(None),
        }))
    }

    fn is_in(&mut self, value: &Expr, subquery: &Query) -> Result<Expr> {
        let is_in = match constant(subquery) {
            Some(only) => compare(value.clone(), BinaryOperator::Eq, Expr::Nested(Box::new(only))),
            None => {
                let list = self.aggregate("array_agg(c) FILTER (WHERE c IS NOT NULL)", " (c)", subquery)?;
                let rows = self.aggregate(ROWS, " (c)", subquery)?;
                let nulls = self.aggregate(NULLS, " (c)", subquery)?;
                is_in(value, list, rows, nulls)
            }
        };
        Ok(Expr::Nested(Box::new(is_in)))
    }
}

impl VisitorMut for Lifter {
    type Break = SqlError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match self.replacement(expr) {
            Ok(Some(replacement)) => *expr = replacement,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

/// How many rows a subquery gives, and how many of them are null.
const ROWS: &str = "count(*)";
const NULLS: &str = "count(*) - count(c)";

/// An aggregate, in the words of SQL, over what a subquery gives, named `q` with these columns.
fn aggregated(aggregate: &str, columns: &str, query: &Query) -> Result<Expr> {
    let text = format!("SELECT {aggregate} FROM (SELECT 1) AS q{columns}");
    let mut aggregated = parse_query(&text)?;
    let SetExpr::Select(select) = &mut *aggregated.ast.body else {
        return Err(SqlError::internal("a `SELECT` is none"));
    };
    if let TableFactor::Derived { subquery, .. } = &mut select.from[0].relation {
        **subquery = query.clone();
    }
    Ok(Expr::Subquery(aggregated.ast))
}

/// `x > ALL (SELECT ..)` and its kin in the arguments of a clause as comparisons with values of the subquery: of itself it would be asked about
/// variables, of which it knows nothing. And several values `IN (SELECT ..)` as a column of their row ([`ROW_COLUMN`]).
///
/// # Errors
/// Values of more than one row before `IN`.
pub(in crate::planner) fn compare_with_values(function: &mut Function) -> Result<()> {
    let (_, clause, _) = parts_of(function)?;
    match function.args.visit(&mut Comparisons { depth: 0, label: &|ident| labels::label(&clause, ident) }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Comparisons<'a> {
    /// In how many queries it is: the first is that of the rows.
    depth: usize,
    /// The variable or subset that a name is.
    label: &'a dyn Fn(&Ident) -> Option<String>,
}

impl VisitorMut for Comparisons<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<SqlError> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        let (value, op, values, is_all) = match &*expr {
            Expr::AllOp { left, compare_op, right } => (left, compare_op, right, true),
            Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, false),
            _ => return ControlFlow::Continue(()),
        };
        let Expr::Subquery(query) = values.as_ref() else { return ControlFlow::Continue(()) };
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match compared(value, op, query, is_all) {
            Ok(Some(compared)) => *expr = compared,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }

    // Behind its parts, as it is among those of what it becomes.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        if let Expr::InSubquery { expr: values, .. } = &*expr
            && matches!(**values, Expr::Tuple(_))
            && self.depth == 0
        {
            match row_column(expr, self.label) {
                Ok(column) => *expr = column,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}

/// `(A.x, A.y) IN (SELECT ..)` as a call of [`ROW_COLUMN`].
fn row_column(is_in: &Expr, label: &dyn Fn(&Ident) -> Option<String>) -> Result<Expr> {
    let mut is_in = is_in.clone();
    let Expr::InSubquery { expr: values, .. } = &mut is_in else { return Err(SqlError::internal("an `IN` is none")) };
    let at = Location::of(values.span());
    let mut row = RowOf { label, variable: None };
    if values.visit(&mut row).is_break() {
        return Err(SqlError::unsupported(
            "`(.., ..) IN (SELECT ..)` in `MATCH_RECOGNIZE` of other values than columns of one variable",
            "compute it in a subquery that the pattern is looked for in",
            at,
        ));
    }
    let variable = row.variable.flatten().map(|(_, variable)| Expr::Identifier(variable));
    Ok(window::call(ROW_COLUMN, variable.into_iter().chain([is_in]).collect()))
}

/// Takes the variable away from columns, if all of them are of one, or of none; else, and where a function is asked, it breaks off.
struct RowOf<'a> {
    label: &'a dyn Fn(&Ident) -> Option<String>,
    /// That of the columns so far, with its label.
    variable: Option<Option<(String, Ident)>>,
}

impl VisitorMut for RowOf<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let of = match expr {
            Expr::Identifier(_) => None,
            Expr::CompoundIdentifier(idents) => (self.label)(&idents[0]).map(|label| (label, idents.remove(0))),
            Expr::Function(_) | Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                return ControlFlow::Break(());
            }
            _ => return ControlFlow::Continue(()),
        };
        if let Expr::CompoundIdentifier(idents) = expr
            && idents.len() == 1
        {
            *expr = Expr::Identifier(idents.remove(0));
        }
        let label = |of: &Option<(String, Ident)>| of.as_ref().map(|(label, _)| label.clone());
        match &self.variable {
            Some(known) if label(known) != label(&of) => ControlFlow::Break(()),
            _ => {
                self.variable = Some(of);
                ControlFlow::Continue(())
            }
        }
    }
}

/// `value op ALL (SELECT ..)`, or `ANY`: what the least and the greatest of the values say, and whether there are any, and nulls among them (SQL:2016,
/// 8.9). None for other operators.
fn compared(value: &Expr, op: &BinaryOperator, query: &Query, is_all: bool) -> Result<Option<Expr>> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let is_in =
        |negated| Expr::InSubquery { expr: Box::new(value.clone()), subquery: Box::new(query.clone()), negated };
    if let SetExpr::Select(select) = &*query.body
        && select.projection.len() > 1
    {
        let word = if is_all { "ALL" } else { "ANY" };
        let message =
            format!("`{word} (SELECT ..)` compares with one column, and the query gives {}", select.projection.len());
        return Err(SqlError::plan(message, Location::of(query.span())));
    }
    let extreme = match (op, is_all) {
        (Eq, false) => return Ok(Some(is_in(false))),
        (NotEq, true) => return Ok(Some(is_in(true))),
        (NotEq, false) => return Ok(compared(value, &Eq, query, true)?.map(not)),
        (Eq, true) => None,
        (Gt | GtEq, true) | (Lt | LtEq, false) => Some("max(c)"),
        (Gt | GtEq, false) | (Lt | LtEq, true) => Some("min(c)"),
        _ => return Ok(None),
    };
    let of_values = |aggregate| aggregated(aggregate, " (c)", query);
    let beside = |aggregate| Ok::<_, SqlError>(compare(value.clone(), op.clone(), of_values(aggregate)?));
    let holds = match extreme {
        Some(extreme) => beside(extreme)?,
        None => compare(beside("min(c)")?, BinaryOperator::And, beside("max(c)")?),
    };
    let holds = Expr::Nested(Box::new(holds));
    let decides = if is_all { not(holds.clone()) } else { holds.clone() };
    let conditions = vec![
        when(compare(of_values(ROWS)?, Eq, number("0")), boolean(is_all)),
        when(decides, boolean(!is_all)),
        when(compare(of_values(NULLS)?, Gt, number("0")), Expr::Value(Value::Null.into())),
    ];
    Ok(Some(Expr::Nested(Box::new(case(conditions, Some(holds))))))
}

/// What a query of one row selects that looks at no table: `(SELECT 5)`.
fn constant(query: &Query) -> Option<Expr> {
    let plain =
        query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let SetExpr::Select(select) = &*query.body else { return None };
    let plain = plain && select.from.is_empty() && select.selection.is_none() && select.having.is_none();
    match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] if plain && is_constant(expr) => {
            Some(expr.clone())
        }
        _ => None,
    }
}

/// Whether an expression is made of values alone.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::TypedString(_) | Expr::Interval(_) => true,
        Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } | Expr::Cast { expr: inner, .. } => is_constant(inner),
        Expr::BinaryOp { left, right, .. } => is_constant(left) && is_constant(right),
        _ => false,
    }
}

/// `value IN (..)` of a list without nulls that comes of so many rows, of which so many are null.
fn is_in(value: &Expr, list: Expr, rows: Expr, nulls: Expr) -> Expr {
    let null = || Expr::Value(Value::Null.into());
    let conditions = vec![
        when(compare(rows, BinaryOperator::Eq, number("0")), boolean(false)),
        when(Expr::IsNull(Box::new(value.clone())), null()),
        when(window::call("array_has", vec![list, value.clone()]), boolean(true)),
        when(compare(nulls, BinaryOperator::Gt, number("0")), null()),
    ];
    case(conditions, Some(boolean(false)))
}

fn when(condition: Expr, result: Expr) -> CaseWhen {
    CaseWhen { condition, result }
}

fn compare(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn number(number: &str) -> Expr {
    Expr::Value(Value::Number(number.into(), false).into())
}

fn boolean(value: bool) -> Expr {
    Expr::Value(Value::Boolean(value).into())
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) }
}
