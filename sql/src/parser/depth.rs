//! Long chains: `a = 1 OR a = 2 OR ..`, `x + y + ..`, `SELECT .. UNION ALL SELECT ..`, as programs write them.
//!
//! sqlparser reads a chain in a loop, into a tree as deep as the chain is long, and whatever walks the tree then needs as much stack, so that some
//! thousand terms would end the process. Where it does not matter how terms are put together (`AND`, `OR`, `UNION`), the tree is made as flat as
//! it can be; other chains have a greatest length.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Query, SetExpr, SetOperator, SetQuantifier, Spanned, Value, Values, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::error::{Location, Result, SqlError};

/// The most terms of a chain that cannot be made flat.
const CHAIN_MAX: usize = 1_000;
/// Shorter chains stay as they are written.
const FLAT_FROM: usize = 32;

/// Makes the chains of a query or an expression flat.
///
/// # Errors
/// One that is too long.
pub(super) fn flatten(tree: &mut impl VisitMut) -> Result<()> {
    match tree.visit(&mut Flattener) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Flattener;

impl VisitorMut for Flattener {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        flatten_chain(query.body.as_mut())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        flatten_chain(expr)
    }
}

/// A tree that is read as a chain, which grows on its first part.
trait Chain: Sized {
    /// What may be put together in any way.
    type Joint: Clone + PartialEq;

    /// What a chain is made of, for errors.
    const TERMS: &str;

    /// A tree of nothing.
    fn nothing() -> Self;

    /// The part that the chain goes on with.
    fn first_mut(&mut self) -> Option<&mut Self>;

    fn joint(&self) -> Option<Self::Joint>;

    /// The two parts of a joint, or the tree.
    fn parted(self) -> std::result::Result<(Self, Self), Self>;

    fn joined(left: Self, joint: Self::Joint, right: Self) -> Self;

    /// The place of the part that the chain does not go on with.
    fn last_span(&self) -> Span;
}

/// Puts the terms of a joint together anew.
fn put_together<C: Chain>(tree: &mut C, joint: &C::Joint) {
    let mut terms = Vec::new();
    let mut rest = std::mem::replace(tree, C::nothing());
    while rest.joint().as_ref() == Some(joint) {
        match rest.parted() {
            Ok((first, last)) => {
                terms.push(last);
                rest = first;
            }
            Err(whole) => {
                rest = whole;
                break;
            }
        }
    }
    terms.push(rest);
    let count = terms.len();
    *tree = balanced(&mut terms.into_iter().rev(), count, joint).unwrap_or_else(C::nothing);
}

fn flatten_chain<C: Chain>(tree: &mut C) -> ControlFlow<SqlError> {
    if let Some(joint) = tree.joint()
        && length(tree, |tree| tree.joint().as_ref() == Some(&joint)) >= FLAT_FROM
    {
        put_together(tree, &joint);
    }
    let length = length(tree, |_| true);
    if length <= CHAIN_MAX {
        return ControlFlow::Continue(());
    }
    let at = Location::of(tree.last_span());
    // To forget a deep tree takes as much stack as to walk it.
    let mut rest = std::mem::replace(tree, C::nothing());
    while let Some(first) = rest.first_mut() {
        rest = std::mem::replace(first, C::nothing());
    }
    ControlFlow::Break(SqlError::unsupported(
        format!("a chain of {length} {}", C::TERMS),
        format!("there may be {CHAIN_MAX}; put parts of it into parentheses, or split the query into views"),
        at,
    ))
}

/// How many trees of a chain come before one that is not `of` it.
fn length<C: Chain>(mut tree: &mut C, of: impl Fn(&C) -> bool) -> usize {
    let mut length = 0;
    while of(tree) {
        length += 1;
        match tree.first_mut() {
            Some(first) => tree = first,
            None => break,
        }
    }
    length
}

/// So many terms, put together with as few levels as can be.
fn balanced<C: Chain>(terms: &mut impl Iterator<Item = C>, count: usize, joint: &C::Joint) -> Option<C> {
    if count < 2 {
        return terms.next();
    }
    let left = balanced(terms, count / 2, joint)?;
    let right = balanced(terms, count - count / 2, joint)?;
    Some(C::joined(left, joint.clone(), right))
}

impl Chain for Expr {
    type Joint = BinaryOperator;

    const TERMS: &str = "operators";

    fn nothing() -> Self {
        Self::Value(Value::Null.into())
    }

    fn first_mut(&mut self) -> Option<&mut Self> {
        match self {
            Self::BinaryOp { left: expr, .. }
            | Self::Cast { expr, .. }
            | Self::Collate { expr, .. }
            | Self::CompoundFieldAccess { root: expr, .. }
            | Self::AtTimeZone { timestamp: expr, .. }
            | Self::InList { expr, .. }
            | Self::InSubquery { expr, .. }
            | Self::Between { expr, .. }
            | Self::Like { expr, .. }
            | Self::ILike { expr, .. }
            | Self::IsNull(expr)
            | Self::IsNotNull(expr)
            | Self::IsTrue(expr)
            | Self::IsNotTrue(expr)
            | Self::IsFalse(expr)
            | Self::IsNotFalse(expr)
            | Self::IsUnknown(expr)
            | Self::IsNotUnknown(expr)
            | Self::IsDistinctFrom(expr, _)
            | Self::IsNotDistinctFrom(expr, _) => Some(expr),
            _ => None,
        }
    }

    fn joint(&self) -> Option<BinaryOperator> {
        match self {
            Self::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } => Some(op.clone()),
            _ => None,
        }
    }

    fn parted(self) -> std::result::Result<(Self, Self), Self> {
        match self {
            Self::BinaryOp { left, right, .. } => Ok((*left, *right)),
            other => Err(other),
        }
    }

    fn joined(left: Self, op: BinaryOperator, right: Self) -> Self {
        Self::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
    }

    fn last_span(&self) -> Span {
        match self {
            Self::BinaryOp { right, .. } => right.span(),
            _ => Span::empty(),
        }
    }
}

impl Chain for SetExpr {
    type Joint = (SetOperator, SetQuantifier);

    const TERMS: &str = "set operations";

    fn nothing() -> Self {
        Self::Values(Values { explicit_row: false, value_keyword: false, rows: Vec::new() })
    }

    fn first_mut(&mut self) -> Option<&mut Self> {
        match self {
            Self::SetOperation { left, .. } => Some(left),
            _ => None,
        }
    }

    fn joint(&self) -> Option<Self::Joint> {
        match self {
            Self::SetOperation {
                op: op @ SetOperator::Union,
                set_quantifier: quantifier @ (SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None),
                ..
            } => Some((*op, *quantifier)),
            _ => None,
        }
    }

    fn parted(self) -> std::result::Result<(Self, Self), Self> {
        match self {
            Self::SetOperation { left, right, .. } => Ok((*left, *right)),
            other => Err(other),
        }
    }

    fn joined(left: Self, (op, set_quantifier): Self::Joint, right: Self) -> Self {
        Self::SetOperation { left: Box::new(left), op, set_quantifier, right: Box::new(right) }
    }

    fn last_span(&self) -> Span {
        match self {
            Self::SetOperation { right, .. } => right.span(),
            _ => Span::empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::parser::{parse_expr, parse_query};

    /// How deep a tree is told to be by how it is written with all parentheses.
    fn chain(term: &str, operator: &str, count: usize) -> String {
        vec![term; count].join(&format!(" {operator} "))
    }

    /// Terms keep their order, and chains of a hundred thousand do not need a stack for each.
    #[test]
    fn conditions_and_unions_may_be_long() {
        let expr = parse_expr(&chain("a > 0", "AND", 100_000)).expect("it is a condition");
        assert_eq!(expr.ast.to_string().matches("AND").count(), 99_999);
        let terms = (0..100).map(|number| format!("a = {number}")).collect::<Vec<_>>().join(" OR ");
        assert_eq!(parse_expr(&terms).expect("it is a condition").ast.to_string(), terms);
        parse_query(&chain("SELECT 1", "UNION ALL", 20_000)).expect("it is a query");
        let parts = (0..50).map(|number| format!("SELECT {number}")).collect::<Vec<_>>().join(" UNION ");
        assert_eq!(parse_query(&parts).expect("it is a query").ast.to_string(), parts);
    }

    /// Of other chains the greatest length is told, and where it is passed.
    #[test]
    fn other_chains_have_a_greatest_length() {
        for sql in
            [chain("a", "+", 50_000), format!("a{}", "::INT".repeat(50_000)), format!("a{}", " IS NULL".repeat(5_000))]
        {
            let error = parse_expr(&sql).expect_err("it is too long").to_string();
            assert!(
                error.contains("a chain of ") && error.contains(" operators is not supported; there may be 1000"),
                "{error}"
            );
        }
        let error = parse_query(&chain("SELECT 1", "EXCEPT", 5_000)).expect_err("it is too long").to_string();
        assert!(error.contains("a chain of 5000 set operations is not supported"), "{error}");
        assert!(parse_expr(&chain("a", "+", 1_000)).is_ok());
    }
}
