//! `ASOF JOIN .. USING`: keys by their names alone.
//!
//! Snowflake writes `MATCH_CONDITION (a.at >= b.at) USING (k)`: the columns are keys, and the condition is the inequality. DuckDB writes
//! `USING (k, at)` alone: the last column is the one that is compared, as `>=`. A text as the last column is refused, because then it is a key whose
//! inequality was forgotten.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident, JoinConstraint, ObjectName, Spanned};

use super::{Input, last_ident_mut};
use crate::error::{Location, Result, SqlError};
use crate::parser::ASOF_USING;

/// What decides which row is the nearest, where keys are named by `USING`.
pub(super) enum Nearest {
    /// This condition, whose names are still those of the text.
    By(Box<Expr>),
    /// The last of the columns.
    LastColumn(Ident),
}

/// Takes the inequality of an `ASOF JOIN` apart from its keys, which stay as a plain `USING`. `None` where there is no `USING`.
pub(super) fn take(constraint: &mut JoinConstraint) -> Result<Option<Nearest>> {
    match constraint {
        JoinConstraint::On(Expr::BinaryOp { left, op: BinaryOperator::Custom(name), right }) if name == ASOF_USING => {
            let columns = match right.as_ref() {
                Expr::Nested(column) => std::slice::from_ref(column.as_ref()),
                Expr::Tuple(columns) => columns.as_slice(),
                other => std::slice::from_ref(other),
            };
            let name_of = |column: &Expr| match column {
                Expr::Identifier(ident) => Ok(ObjectName::from(vec![ident.clone()])),
                other => Err(SqlError::plan(
                    format!("`USING` names columns of both sides, and `{other}` is none; write `ON`"),
                    Location::of(other.span()),
                )),
            };
            let names = columns.iter().map(name_of).collect::<Result<Vec<_>>>()?;
            let condition = left.clone();
            *constraint = JoinConstraint::Using(names);
            Ok(Some(Nearest::By(condition)))
        }
        JoinConstraint::Using(names) => match names.last_mut() {
            Some(last) => Ok(Some(Nearest::LastColumn(last_ident_mut(last)?.clone()))),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// Whether the last column of `USING`, as it is among the columns that the join made one, can be compared as `>=`.
pub(super) fn check_last(column: &Ident, made: Option<&Input>) -> Result<()> {
    let data_type = made.and_then(|made| made.columns.last()?.data_type.as_ref());
    match data_type {
        Some(DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Boolean) => Err(SqlError::plan(
            format!(
                "an `ASOF JOIN .. USING` compares its last column as `>=`, and `{0}` is no time or number; name that one last, or write \
                 `MATCH_CONDITION (a.ts >= b.ts) USING ({0})`",
                column.value
            ),
            Location::of(column.span),
        )),
        _ => Ok(()),
    }
}

/// The equalities of a `USING` with the last of them as `>=`.
pub(super) fn last_as_inequality(constraint: &mut JoinConstraint) {
    let JoinConstraint::On(Expr::BinaryOp { op, right, .. }) = constraint else { return };
    match (&op, right.as_mut()) {
        (BinaryOperator::And, Expr::BinaryOp { op: last @ BinaryOperator::Eq, .. }) => *last = BinaryOperator::GtEq,
        (BinaryOperator::Eq, _) => *op = BinaryOperator::GtEq,
        _ => {}
    }
}
