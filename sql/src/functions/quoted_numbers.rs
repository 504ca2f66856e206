//! `d * '2'`: a constant in quotes beside a number is a number, as PostgreSQL reads it.
//!
//! The type of the other side is the one that is meant; a DECIMAL has as many digits behind the point as are written. A text that is no such number is left: the
//! planner then says that there is no such operation.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

#[derive(Debug)]
pub(super) struct QuotedNumbers;

impl ExprPlanner for QuotedNumbers {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
        if matches!(expr.op, Plus | Minus | Multiply | Divide | Modulo) {
            let (left, right) = (expr.left.get_type(schema), expr.right.get_type(schema));
            if let (Ok(left), Ok(right)) = (left, right) {
                if let Some(number) = number(&expr.right, &left) {
                    expr.right = number;
                } else if let Some(number) = number(&expr.left, &right) {
                    expr.left = number;
                }
            }
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// The constant that a text is beside a number of type `beside`; none where it is no text, or no such number.
fn number(expr: &Expr, beside: &DataType) -> Option<Expr> {
    let Expr::Literal(value, _) = expr else { return None };
    let text = value.try_as_str().flatten()?.trim();
    let meant = match beside {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            let digits = text.split_once('.').map_or(0, |(_, digits)| digits.len());
            DataType::Decimal128(DECIMAL128_MAX_PRECISION, (*scale).max(i8::try_from(digits).ok()?))
        }
        numeric if numeric.is_numeric() => numeric.clone(),
        _ => return None,
    };
    let read = ScalarValue::try_from_string(text.to_string(), &meant).ok().filter(|read| !read.is_null())?;
    // Of as few digits as there are, so that the product has room.
    let read = match read {
        ScalarValue::Decimal128(Some(digits), _, scale) => {
            let count = digits.unsigned_abs().checked_ilog10().map_or(1, |log| log as u8 + 1);
            ScalarValue::Decimal128(Some(digits), count.max(u8::try_from(scale).ok()?), scale)
        }
        other => other,
    };
    Some(lit(read))
}
