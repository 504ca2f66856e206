//! Several `IN (..)` of one value.
//!
//! DataFusion makes one list of two as sets of expressions: `v IN (w, 4) AND v IN (x, 2)` has no row for it, because `w` is not `x`, though both may be 4;
//! and where nothing is left it says false or true, also where `v` is null and the answer is not known. So what is no literal stands beside the list,
//! and lists are put together here first.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, LogicalPlan, Operator, binary_expr, lit};

use crate::error::Result;
use crate::planner::expr::constant;

/// The plan, in whose conditions no list can be taken for another.
pub(in crate::planner) fn rewrite_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(rewrite(expr)?.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(plan.data)
}

/// The same of an expression.
pub(in crate::planner) fn rewrite(expr: Expr) -> DataFusionResult<Transformed<Expr>> {
    expr.transform_up(|expr| {
        Ok(match expr {
            Expr::Not(inner) => match *inner {
                Expr::InList(list) => Transformed::yes(Expr::InList(InList { negated: !list.negated, ..list })),
                other => Transformed::no(Expr::Not(Box::new(other))),
            },
            Expr::InList(list) if list.list.iter().any(is_cast_of_value) => {
                let values =
                    list.list.into_iter().map(|item| if is_cast_of_value(&item) { constant(item) } else { Ok(item) });
                let list = InList { list: values.collect::<DataFusionResult<_>>()?, ..list };
                Transformed::yes(rewrite(Expr::InList(list))?.data)
            }
            Expr::InList(list) if !list.expr.is_volatile() && !list.list.iter().all(is_value) => {
                Transformed::yes(apart(list))
            }
            Expr::InList(list) if list.list.iter().any(is_zero) => Transformed::yes(Expr::InList(with_zeros(list))),
            Expr::BinaryExpr(binary) if binary.op == Operator::Or && united(&binary).is_some() => {
                Transformed::yes(united(&binary).map_or_else(|| Expr::BinaryExpr(binary), Expr::InList))
            }
            Expr::BinaryExpr(binary) if matches!(binary.op, Operator::And | Operator::Or) => {
                let op = binary.op;
                together(Expr::BinaryExpr(binary), op)
            }
            other => Transformed::no(other),
        })
    })
}

/// A value that is written there.
fn is_value(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if !value.is_null())
}

/// A number that is written and was made to fit the others: what it is has to be known, as both zeros are one value. One that does not fit fails where it is met.
fn is_cast_of_value(expr: &Expr) -> bool {
    matches!(expr, Expr::Cast(Cast { expr: inner, field }) if is_value(inner) && field.data_type().is_floating())
}

/// `v IN (1, 2, w, NULL)` as `v IN (1, 2) OR v = w OR v = NULL`; `NOT IN` likewise.
fn apart(InList { expr, list, negated }: InList) -> Expr {
    let (values, others): (Vec<Expr>, Vec<Expr>) = list.into_iter().partition(is_value);
    let (compare, join) = if negated { (Operator::NotEq, Operator::And) } else { (Operator::Eq, Operator::Or) };
    let first =
        (!values.is_empty()).then(|| Expr::InList(with_zeros(InList { expr: expr.clone(), list: values, negated })));
    let others = others.into_iter().map(|other| binary_expr(expr.as_ref().clone(), compare, other));
    let all = first.into_iter().chain(others).reduce(|left, right| binary_expr(left, join, right));
    all.unwrap_or_else(|| lit(negated))
}

/// `v = 1 OR v IN (2, 3)` as one list.
fn united(BinaryExpr { left, right, .. }: &BinaryExpr) -> Option<InList> {
    let (mut left, right) = (as_list(left)?, as_list(right)?);
    if left.expr != right.expr {
        return None;
    }
    left.list.extend(right.list);
    Some(with_zeros(left))
}

fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Float16(Some(value)), _) => value.to_f32() == 0.0,
        Expr::Literal(ScalarValue::Float32(Some(value)), _) => *value == 0.0,
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => *value == 0.0,
        _ => false,
    }
}

/// Both zeros, where there is one of them: lists are looked up by the bits of their values, and -0.0 is 0.0.
fn with_zeros(mut list: InList) -> InList {
    let zeros: Vec<Expr> = list.list.iter().filter(|item| is_zero(item)).cloned().collect();
    for zero in zeros {
        let Expr::Literal(value, metadata) = zero else { continue };
        let Ok(other) = value.arithmetic_negate() else { continue };
        let other = Expr::Literal(other, metadata);
        if !list.list.contains(&other) {
            list.list.push(other);
        }
    }
    list
}

fn as_list(expr: &Expr) -> Option<InList> {
    match expr {
        Expr::InList(list) if !list.negated && matches!(*list.expr, Expr::Column(_)) => Some(list.clone()),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let (column, value) = match (left.as_ref(), right.as_ref()) {
                (column @ Expr::Column(_), value) if is_value(value) => (column, value),
                (value, column @ Expr::Column(_)) if is_value(value) => (column, value),
                _ => return None,
            };
            Some(InList { expr: Box::new(column.clone()), list: vec![value.clone()], negated: false })
        }
        _ => None,
    }
}

/// Lists of one value in a chain of conditions as one list.
fn together(chain: Expr, op: Operator) -> Transformed<Expr> {
    let mut terms = Vec::new();
    flatten(&chain, op, &mut terms);
    // `AND` narrows what may be in, `OR` what may not.
    let narrows = |list: &InList| list.negated == (op == Operator::Or);
    let mut merged: Vec<Option<Expr>> = terms.iter().map(|term| Some((*term).clone())).collect();
    let mut changed = false;
    for (place, term) in terms.iter().enumerate() {
        let Expr::InList(first) = term else { continue };
        if merged[place].is_none() || !narrows(first) {
            continue;
        }
        let of_same = |other: &&Expr| matches!(other, Expr::InList(list) if list.expr == first.expr);
        let places: Vec<usize> = (0..terms.len())
            .filter(|other| *other != place && merged[*other].is_some() && of_same(&terms[*other]))
            .collect();
        let others: Vec<&InList> = places
            .iter()
            .filter_map(|other| match terms[*other] {
                Expr::InList(list) if op == Operator::And || list.negated => Some(list),
                _ => None,
            })
            .collect();
        if others.is_empty() || !of_one_type(first, &others) {
            continue;
        }
        let keeps =
            |item: &&Expr| others.iter().all(|other| other.list.contains(item) == (other.negated == first.negated));
        let list: Vec<Expr> = first.list.iter().filter(keeps).cloned().collect();
        for (other, place) in places.iter().map(|place| (terms[*place], *place)) {
            if matches!(other, Expr::InList(list) if op == Operator::And || list.negated) {
                merged[place] = None;
            }
        }
        merged[place] = Some(match list.is_empty() {
            false => Expr::InList(InList { list, ..first.clone() }),
            true => unless_null(first.expr.as_ref().clone(), op),
        });
        changed = true;
    }
    if !changed {
        return Transformed::no(chain);
    }
    let whole = merged.into_iter().flatten().reduce(|left, right| binary_expr(left, op, right));
    Transformed::yes(whole.unwrap_or(chain))
}

fn flatten<'a>(expr: &'a Expr, op: Operator, terms: &mut Vec<&'a Expr>) {
    match expr {
        Expr::BinaryExpr(binary) if binary.op == op => {
            flatten(&binary.left, op, terms);
            flatten(&binary.right, op, terms);
        }
        term => terms.push(term),
    }
}

/// Values of several types may be equal and are different literals.
fn of_one_type(first: &InList, others: &[&InList]) -> bool {
    let data_type = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(value.data_type()),
        _ => None,
    };
    let known = first.list.first().and_then(data_type);
    let all = first.list.iter().chain(others.iter().flat_map(|other| &other.list));
    known.as_ref().is_some_and(|known| !known.is_floating()) && all.into_iter().all(|item| data_type(item) == known)
}

/// What a condition is that no value meets (`AND`) or each (`OR`): not known where there is none.
fn unless_null(value: Expr, op: Operator) -> Expr {
    let unknown = Expr::Literal(ScalarValue::Boolean(None), None);
    match op {
        Operator::And => binary_expr(value.is_null(), Operator::And, unknown),
        _ => binary_expr(value.is_not_null(), Operator::Or, unknown),
    }
}
