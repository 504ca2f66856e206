//! Puts right what the parser binds too far: the right side of `IS [NOT] DISTINCT FROM`.
//!
//! sqlparser reads everything after `FROM` as one expression, so `a IS NOT DISTINCT FROM b AND c` becomes
//! `a IS NOT DISTINCT FROM (b AND c)`. Parentheses stay in the syntax tree as a node, so an `AND` or `OR` directly below can only come
//! from that and is moved above; and so on upwards, since `AND` binds closer than `OR`, and `NOT` than both.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Query, UnaryOperator, VisitMut, VisitorMut};

/// Mends all expressions of a query.
pub(super) fn mend(query: &mut Query) {
    let _ = query.visit(&mut Mender);
}

struct Mender;

impl VisitorMut for Mender {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        while let Some(mended) = rotated(expr) {
            *expr = mended;
            // What moved down may have to move further.
            if let Expr::BinaryOp { left, .. } = expr {
                let _ = self.post_visit_expr(left);
            }
        }
        ControlFlow::Continue(())
    }
}

fn is_and(op: &BinaryOperator) -> bool {
    *op == BinaryOperator::And
}

fn is_or(op: &BinaryOperator) -> bool {
    *op == BinaryOperator::Or
}

/// `x op' (y op z)` as `(x op' y) op z`, where `op` binds less than `op'` and no parentheses say otherwise.
fn rotated(expr: &Expr) -> Option<Expr> {
    let (rebuild, right): (Box<dyn Fn(Expr) -> Expr>, &Expr) = match expr {
        Expr::IsDistinctFrom(left, right) => {
            let left = left.clone();
            (Box::new(move |y| Expr::IsDistinctFrom(left.clone(), Box::new(y))), right)
        }
        Expr::IsNotDistinctFrom(left, right) => {
            let left = left.clone();
            (Box::new(move |y| Expr::IsNotDistinctFrom(left.clone(), Box::new(y))), right)
        }
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
            (Box::new(|y| Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(y) }), expr)
        }
        Expr::BinaryOp { left, op, right } if is_and(op) => {
            let Expr::BinaryOp { op: below, .. } = right.as_ref() else { return None };
            if !is_or(below) {
                return None;
            }
            let left = left.clone();
            let and = |left: Box<Expr>, y| Expr::BinaryOp { left, op: BinaryOperator::And, right: Box::new(y) };
            (Box::new(move |y| and(left.clone(), y)), right)
        }
        _ => return None,
    };
    match right {
        Expr::BinaryOp { left: y, op, right: z } if is_and(op) || is_or(op) => {
            Some(Expr::BinaryOp { left: Box::new(rebuild(y.as_ref().clone())), op: op.clone(), right: z.clone() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn mended(condition: &str) -> String {
        let sql = format!("SELECT 1 FROM t WHERE {condition}");
        let mut statements = Parser::parse_sql(&GenericDialect {}, &sql).expect("it parses");
        let Some(Statement::Query(query)) = statements.first_mut() else { panic!("a query") };
        mend(query);
        with_parentheses(query)
    }

    /// The condition with parentheses around every operator.
    fn with_parentheses(query: &Query) -> String {
        fn text(expr: &Expr) -> String {
            match expr {
                Expr::BinaryOp { left, op, right } => format!("({} {op} {})", text(left), text(right)),
                Expr::IsNotDistinctFrom(left, right) => format!("({} == {})", text(left), text(right)),
                Expr::IsDistinctFrom(left, right) => format!("({} != {})", text(left), text(right)),
                Expr::UnaryOp { expr, .. } => format!("!{}", text(expr)),
                Expr::Nested(inner) => format!("[{}]", text(inner)),
                other => other.to_string(),
            }
        }
        text(query.body.as_select().and_then(|select| select.selection.as_ref()).expect("a condition"))
    }

    /// A condition means what it says, wherever `IS DISTINCT FROM` stands in it.
    #[test]
    fn distinct_from_binds_closer_than_and_or() {
        for (condition, meaning) in [
            ("a IS NOT DISTINCT FROM b AND c", "((a == b) AND c)"),
            ("a IS NOT DISTINCT FROM b AND c OR d", "(((a == b) AND c) OR d)"),
            ("p AND a IS NOT DISTINCT FROM b OR c", "((p AND (a == b)) OR c)"),
            ("p OR a IS DISTINCT FROM b AND c", "(p OR ((a != b) AND c))"),
            ("NOT a IS NOT DISTINCT FROM b AND c", "(!(a == b) AND c)"),
            ("a IS NOT DISTINCT FROM (b AND c)", "(a == [(b AND c)])"),
            ("a IS NOT DISTINCT FROM b AND c IS NOT DISTINCT FROM d AND e", "((a == b) AND ((c == d) AND e))"),
            ("p AND (q OR r)", "(p AND [(q OR r)])"),
        ] {
            assert_eq!(mended(condition), meaning, "{condition}");
        }
    }
}
