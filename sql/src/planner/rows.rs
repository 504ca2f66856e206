//! Rows in comparisons, and what `IN`, `ANY` and `ALL` ask of the rows of a subquery, value by value, so that nulls leave open what they do.
//!
//! `(a, b) IN (SELECT ..)` and `a > ALL (SELECT ..)` become `EXISTS` over the subquery, whose columns get names of their own first: DataFusion
//! would look for `a` among the subquery's columns before it looks around it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, SelectItem, Spanned,
    TableAlias, TableAliasColumnDef, TableFactor, UnaryOperator, Value, visit_expressions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::window;

/// What the rows of such a subquery are called.
pub(super) const ROWS: &str = "__rows";

/// `(a, b) op (x, y)`, value by value.
pub(super) fn rows_compared(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let (left, right) = (without_parentheses(left), without_parentheses(right));
    let (left, right) = match (values_of(left), values_of(right)) {
        (Some(left), Some(right)) => (left, right),
        (Some(left), None) => (left.clone(), values_of_subquery(right, left.len())?),
        (None, Some(right)) => (values_of_subquery(left, right.len())?, right),
        (None, None) => return None,
    };
    if left.len() != right.len() || !matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
        return None;
    }
    let strict = match op {
        LtEq => Lt,
        GtEq => Gt,
        other => other.clone(),
    };
    let mut values = left.iter().zip(&right).rev();
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
pub(super) fn row_in_list(row: &Expr, list: &[Expr], negated: bool) -> Option<Expr> {
    let equal = list.iter().map(|other| rows_compared(row, &BinaryOperator::Eq, other));
    let any = Expr::Nested(Box::new(equal.collect::<Option<Vec<_>>>()?.into_iter().reduce(or)?));
    Some(match negated {
        true => Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(any) })),
        false => any,
    })
}

/// The values of `(a, b)` and `ROW(a, b)`.
fn values_of(row: &Expr) -> Option<Vec<Expr>> {
    match row {
        Expr::Tuple(values) => Some(values.clone()),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("row") => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let values = list.args.iter().map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
                _ => None,
            });
            values.collect()
        }
        _ => None,
    }
}

/// The values of the one row that a subquery gives, each a subquery by itself: that it gives one is asked of each, and they are worked out once.
fn values_of_subquery(subquery: &Expr, count: usize) -> Option<Vec<Expr>> {
    let Expr::Subquery(query) = subquery else { return None };
    let value = |place: usize| {
        let rows = rows_of(query, count, Span::empty());
        let item = SelectItem::UnnamedExpr(column_of_rows(place));
        Expr::Subquery(Box::new(window::select_query(vec![item], Some(rows), None)))
    };
    Some((0..count).map(value).collect())
}

/// A value where `condition` holds, and else none.
pub(super) fn where_known(condition: Expr, value: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result: value }],
        else_result: None,
    }
}

fn column_of_rows(place: usize) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::with_quote('"', ROWS), column_name(place)])
}

fn column_name(place: usize) -> Ident {
    Ident::with_quote('"', format!("__c{place}"))
}

/// A subquery whose columns have names of their own.
fn rows_of(subquery: &Query, count: usize, span: Span) -> TableFactor {
    let columns = (0..count).map(|place| TableAliasColumnDef::from_name(column_name(place).value));
    let mut name = Ident::with_quote('"', ROWS);
    name.span = span;
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(subquery.clone()),
        alias: Some(TableAlias { explicit: true, name, columns: columns.collect(), at: None }),
        sample: None,
    }
}

fn without_parentheses(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => without_parentheses(inner),
        other => other,
    }
}

/// `(a, b) [NOT] IN (SELECT x, y ..)`, `a > ANY (SELECT x ..)`; `ALL` is what `ANY` with the opposite comparison is not.
struct Quantified {
    row: Vec<Expr>,
    op: BinaryOperator,
    subquery: Query,
    negated: bool,
}

impl Quantified {
    fn of(expr: &Expr) -> Option<Self> {
        match expr {
            Expr::InSubquery { expr, subquery, negated } => match values_of(without_parentheses(expr)) {
                Some(row) if row.len() > 1 => {
                    Some(Self { row, op: BinaryOperator::Eq, subquery: subquery.as_ref().clone(), negated: *negated })
                }
                _ => None,
            },
            Expr::AnyOp { left, compare_op, right, .. } => Self::comparison(left, compare_op.clone(), right, false),
            Expr::AllOp { left, compare_op, right } => Self::comparison(left, opposite(compare_op)?, right, true),
            _ => None,
        }
    }

    fn comparison(left: &Expr, op: BinaryOperator, right: &Expr, negated: bool) -> Option<Self> {
        opposite(&op)?;
        let row = values_of(without_parentheses(left)).unwrap_or_else(|| vec![left.clone()]);
        match without_parentheses(right) {
            Expr::Subquery(subquery) => Some(Self { row, op, subquery: subquery.as_ref().clone(), negated }),
            _ => None,
        }
    }

    /// Whether a row of the subquery compares so or, `or_unknown`, may for all that nulls say.
    fn exists(&self, or_unknown: bool, negated: bool) -> Expr {
        let span = self.row.first().map_or(Span::empty(), Spanned::span);
        let rows = rows_of(&self.subquery, self.row.len(), span);
        let of_rows = (0..self.row.len()).map(column_of_rows).collect::<Vec<_>>();
        let mut holds = match (self.row.as_slice(), of_rows.as_slice()) {
            ([value], [of_rows]) => values_compared(value, &self.op, of_rows),
            _ => values_compared(&Expr::Tuple(self.row.clone()), &self.op, &Expr::Tuple(of_rows)),
        };
        if or_unknown {
            holds = Expr::IsNotFalse(Box::new(Expr::Nested(Box::new(holds))));
        }
        let one = SelectItem::UnnamedExpr(Expr::value(Value::Number("1".into(), false)));
        Expr::Exists { subquery: Box::new(window::select_query(vec![one], Some(rows), Some(holds))), negated }
    }

    /// Where only true counts.
    fn condition(self) -> Expr {
        self.exists(self.negated, self.negated)
    }

    /// With null where it is not known.
    fn value(self) -> Expr {
        self.case(self.exists(false, false), self.exists(true, false))
    }

    fn case(&self, holds: Expr, unknown: Expr) -> Expr {
        let (found, missing) = (Value::Boolean(!self.negated), Value::Boolean(self.negated));
        let when = |condition: Expr, result: Value| CaseWhen { condition, result: Expr::value(result) };
        Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![when(holds, found), when(unknown, Value::Null)],
            else_result: Some(Box::new(Expr::value(missing))),
        }
    }
}

impl Quantified {
    /// The comparison of one value of a whole group (`HAVING SUM(v) > ALL (SELECT ..)`), which a subquery cannot look at: it is compared with the least
    /// and the greatest of the rows. None where several values are compared.
    fn of_group(&self) -> Option<Expr> {
        use BinaryOperator::{Eq, Gt, GtEq, NotEq};
        let [value] = self.row.as_slice() else { return None };
        let value = Expr::Nested(Box::new(value.clone()));
        if self.op == Eq {
            let (expr, subquery) = (Box::new(value), Box::new(self.subquery.clone()));
            return Some(Expr::InSubquery { expr, subquery, negated: self.negated });
        }
        let span = value.span();
        let of_rows = |item: Expr| {
            let rows = rows_of(&self.subquery, 1, span);
            Expr::Subquery(Box::new(window::select_query(vec![SelectItem::UnnamedExpr(item)], Some(rows), None)))
        };
        let compared = |extreme: &str| {
            let extreme = of_rows(window::call(extreme, vec![column_of_rows(0)]));
            Expr::BinaryOp { left: Box::new(value.clone()), op: self.op.clone(), right: Box::new(extreme) }
        };
        let holds = match self.op {
            NotEq => or(compared("min"), compared("max")),
            Gt | GtEq => compared("min"),
            _ => compared("max"),
        };
        let one = || Expr::value(Value::Number("1".into(), false));
        let zero = || Box::new(Expr::value(Value::Number("0".into(), false)));
        let some = |count: Expr| Expr::BinaryOp { left: Box::new(count), op: Gt, right: zero() };
        let count = |of: Expr| window::call("count", vec![of]);
        let nulls = Expr::BinaryOp {
            left: Box::new(count(one())),
            op: BinaryOperator::Minus,
            right: Box::new(count(column_of_rows(0))),
        };
        let is_null = Expr::IsNull(Box::new(value.clone()));
        let unknown = or(some(of_rows(nulls)), Expr::Nested(Box::new(and(is_null, some(of_rows(count(one())))))));
        Some(self.case(holds, unknown))
    }
}

/// The comparison that holds where this one does not; none for what is no comparison.
pub(super) fn opposite(op: &BinaryOperator) -> Option<BinaryOperator> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    Some(match op {
        Eq => NotEq,
        NotEq => Eq,
        Lt => GtEq,
        LtEq => Gt,
        Gt => LtEq,
        GtEq => Lt,
        _ => return None,
    })
}

/// `IN` of rows, `ANY` and `ALL` as a value, with null where it is not known.
pub(super) fn quantified(expr: &Expr, is_aggregate: &dyn Fn(&str) -> bool) -> Option<Expr> {
    let quantified = Quantified::of(expr)?;
    let of_group = quantified.row.iter().any(|value| aggregates(value, is_aggregate));
    of_group.then(|| quantified.of_group()).flatten().or_else(|| Some(quantified.value()))
}

/// Whether an expression speaks of a whole group.
fn aggregates(expr: &Expr, is_aggregate: &dyn Fn(&str) -> bool) -> bool {
    let found = visit_expressions(expr, |part| match part {
        Expr::Function(function) if function.over.is_none() && is_aggregate(&function.name.to_string()) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// The conjuncts of a filter that are `IN` of rows, `ANY` or `ALL`, as the semi and anti joins that they can be there.
pub(super) fn filter_by_rows(condition: &mut Expr, is_aggregate: &dyn Fn(&str) -> bool) {
    let of_rows =
        |expr: &Expr| Quantified::of(expr).filter(|rows| !rows.row.iter().any(|value| aggregates(value, is_aggregate)));
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            filter_by_rows(left, is_aggregate);
            filter_by_rows(right, is_aggregate);
        }
        Expr::Nested(inner) => filter_by_rows(inner, is_aggregate),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
            if let Some(rows) = of_rows(expr) {
                *condition = Quantified { negated: !rows.negated, ..rows }.condition();
            }
        }
        other => {
            if let Some(rows) = of_rows(other) {
                *other = rows.condition();
            }
        }
    }
}

pub(super) fn or(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Or, right: Box::new(right) }
}

pub(super) fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}

pub(super) fn equal(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Eq, right: Box::new(right) }
}
