//! Calls that a row need not be asked about: in a branch of a `CASE` that it does not take, or beside a condition that is false already.
//!
//! Calls are columns of an operator below the expression, so all rows would be asked, which takes time, and of a service money. A row with a null
//! among the inputs is asked nothing and has a null for an answer, so the first input of such a call becomes
//! `CASE WHEN <the row gets there> THEN input END`. The answer of a row that does not get there is never looked at.
//!
//! The condition is made from the conditions around the call, in their order, so nothing is evaluated that was not before. It may ask models
//! itself: a cheap one says which rows an expensive one is asked about. Conditions that need not say the same twice, or that hold a subquery, are
//! left alone, and so is a call that some expression of the same node asks about all rows.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{BinaryExpr, Case};
use datafusion::logical_expr::{Expr, Operator, lit};

use super::as_call;

/// When calls are asked.
#[derive(Default)]
struct Asked {
    /// Each call, and the conditions under which it is; empty for all rows.
    calls: Vec<(Expr, Vec<Expr>)>,
}

/// The expressions of a node, with calls asked only where their answers are looked at.
pub(super) fn guard(exprs: Vec<Expr>) -> Result<Vec<Expr>> {
    let mut asked = Asked::default();
    for expr in &exprs {
        asked.collect(expr, None)?;
    }
    if asked.calls.iter().all(|(_, conditions)| conditions.is_empty()) {
        return Ok(exprs);
    }
    exprs.into_iter().map(|expr| asked.rewrite(expr)).collect()
}

/// Whether an expression says the same each time, from the row alone.
fn is_plain(expr: &Expr) -> bool {
    let is_subquery = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::OuterReferenceColumn(..)
        ))
    };
    !expr.is_volatile() && !expr.exists(is_subquery).unwrap_or(true)
}

fn asks(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(as_call(expr).is_some())).unwrap_or(false)
}

/// Both conditions; the second one only where the first holds.
fn both(outer: Option<&Expr>, inner: Expr) -> Expr {
    match outer {
        None => inner,
        Some(outer) => case(None, vec![(outer.clone(), inner)], false),
    }
}

/// A `CASE` of conditions that says `otherwise` in the end.
fn case(base: Option<&Expr>, branches: Vec<(Expr, Expr)>, otherwise: bool) -> Expr {
    Expr::Case(Case {
        expr: base.cloned().map(Box::new),
        when_then_expr: branches.into_iter().map(|(when, then)| (Box::new(when), Box::new(then))).collect(),
        else_expr: Some(Box::new(lit(otherwise))),
    })
}

impl Asked {
    /// Takes in the calls of an expression that is evaluated where `condition` holds.
    fn collect(&mut self, expr: &Expr, condition: Option<&Expr>) -> Result<()> {
        match expr {
            Expr::Case(Case { expr: base, when_then_expr, else_expr })
                if base.iter().all(|base| is_plain(base))
                    && when_then_expr.iter().all(|(when, _)| is_plain(when))
                    && asks(expr) =>
            {
                let base = base.as_deref();
                if let Some(base) = base {
                    self.collect(base, condition)?;
                }
                // What the branches before say of a row that gets further: no.
                let mut before: Vec<(Expr, Expr)> = vec![];
                for (when, then) in when_then_expr {
                    match before.is_empty() {
                        true => self.collect(when, condition)?,
                        false => self.collect(when, Some(&both(condition, case(base, before.clone(), true))))?,
                    }
                    let mut taken = before.clone();
                    taken.push((when.as_ref().clone(), lit(true)));
                    self.collect(then, Some(&both(condition, case(base, taken, false))))?;
                    before.push((when.as_ref().clone(), lit(false)));
                }
                if let Some(otherwise) = else_expr {
                    self.collect(otherwise, Some(&both(condition, case(base, before, true))))?;
                }
                Ok(())
            }
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) if asks(expr) => {
                // The side that asks nobody is looked at first.
                let (first, second) = if asks(left) && !asks(right) { (right, left) } else { (left, right) };
                self.collect(first, condition)?;
                if !is_plain(first) {
                    return self.collect(second, condition);
                }
                let undecided = match op {
                    Operator::And => Expr::IsNotFalse(first.clone()),
                    _ => Expr::IsNotTrue(first.clone()),
                };
                self.collect(second, Some(&both(condition, undecided)))
            }
            expr => {
                if as_call(expr).is_some() {
                    self.take_in(expr, condition);
                }
                expr.apply_children(|child| {
                    self.collect(child, condition)?;
                    Ok(TreeNodeRecursion::Continue)
                })?;
                Ok(())
            }
        }
    }

    fn take_in(&mut self, call: &Expr, condition: Option<&Expr>) {
        match (self.calls.iter_mut().find(|(known, _)| known == call), condition) {
            (None, condition) => self.calls.push((call.clone(), condition.into_iter().cloned().collect())),
            (Some((_, conditions)), None) => conditions.clear(),
            // Empty: all rows are asked already.
            (Some((_, conditions)), Some(condition)) => {
                if !conditions.is_empty() && !conditions.contains(condition) {
                    conditions.push(condition.clone());
                }
            }
        }
    }

    fn rewrite(&self, expr: Expr) -> Result<Expr> {
        let rewritten = expr.transform_down(|expr| {
            let Some((_, conditions)) = self.calls.iter().find(|(call, _)| *call == expr) else {
                return Ok(Transformed::no(expr));
            };
            let Expr::ScalarFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
            call.args = call.args.into_iter().map(|arg| self.rewrite(arg)).collect::<Result<_>>()?;
            if let (false, Some(input)) = (conditions.is_empty(), call.args.first_mut()) {
                let conditions = conditions.iter().cloned().map(|condition| self.rewrite(condition));
                let conditions = conditions.collect::<Result<Vec<_>>>()?;
                let when = conditions.into_iter().map(|condition| (Box::new(condition), Box::new(input.clone())));
                *input = Expr::Case(Case { expr: None, when_then_expr: when.collect(), else_expr: None });
            }
            Ok(Transformed::new(Expr::ScalarFunction(call), true, TreeNodeRecursion::Jump))
        })?;
        Ok(rewritten.data)
    }
}
