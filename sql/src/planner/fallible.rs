//! Expressions that some values make fail.
//!
//! What rows say by themselves is evaluated for all of them, also for those that the pattern never asks: `100 / A.price > 3` is asked of
//! the rows behind those that `A` has taken, and `A AS price > 0` sees to it that these have a price. Such a condition is evaluated where
//! it is asked only. Arguments of aggregates behind a `FILTER` are told apart so, too ([`guarded`](super::guarded)).

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, Operator};

use crate::functions::convert;
use crate::planner::expr::strip_alias;
use crate::planner::single_value::ONLY;

/// Functions of DataFusion and of this dialect that refuse some values of the right type; those that begin so, too.
const FALLIBLE: &[&str] = &[
    "__bytea",
    "__cast_json",
    "__cast_jsonb",
    "__convert",
    "__json_at_path",
    "__json_number",
    "__json_whole",
    ONLY,
    "__period_end",
    "__to_",
    "arrow_cast",
    "chr",
    "date_bin",
    "decode",
    "div",
    "factorial",
    "from_",
    "gen_series",
    "generate_series",
    "json",
    "jsonb",
    "jsonb_",
    "lcm",
    "lpad",
    "make_",
    "mod",
    "power",
    "range",
    "regexp",
    "repeat",
    "rpad",
    "split_part",
    "timestampadd",
    "to_",
];

/// Whether the evaluation of an expression over `schema` can end with an error, by what is known of it.
pub(super) fn may_fail(expr: &Expr, schema: &DFSchema) -> bool {
    let mut fails = false;
    let _ = expr.apply(|expr| {
        fails |= match expr {
            Expr::BinaryExpr(_) => divides_by_zero(expr, schema),
            Expr::Cast(Cast { expr, field }) => match expr.get_type(schema) {
                Ok(from) => !always_fits(&from, field.data_type()),
                Err(_) => true,
            },
            Expr::ScalarFunction(call) if is_plain_text(call, schema) => false,
            Expr::ScalarFunction(call) => {
                let name = call.func.name();
                FALLIBLE
                    .iter()
                    .any(|fallible| name == *fallible || fallible.ends_with('_') && name.starts_with(fallible))
                    || name.starts_with("regexp")
            }
            _ => false,
        };
        Ok(if fails { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    fails
}

/// Whether something in an expression may be divided by zero, which is an error.
pub(super) fn may_divide_by_zero(expr: &Expr, schema: &DFSchema) -> bool {
    expr.exists(|expr| Ok(divides_by_zero(expr, schema))).unwrap_or(true)
}

/// The expression itself.
fn divides_by_zero(expr: &Expr, schema: &DFSchema) -> bool {
    let Expr::BinaryExpr(binary) = expr else { return false };
    let is_float = || expr.get_type(schema).is_ok_and(|data_type| data_type.is_floating());
    matches!(binary.op, Operator::Divide | Operator::Modulo) && !is_nonzero(&binary.right) && !is_float()
}

/// A cast that stands there as a call of ours, of a time to a text: there is a text of each.
fn is_plain_text(call: &ScalarFunction, schema: &DFSchema) -> bool {
    let Some(Expr::Cast(Cast { expr, field })) = convert::as_cast(call) else { return false };
    expr.get_type(schema)
        .is_ok_and(|from| matches!(from, DataType::Timestamp(..)) && always_fits(&from, field.data_type()))
}

fn is_nonzero(expr: &Expr) -> bool {
    match strip_alias(expr) {
        Expr::Literal(value, _) => {
            !value.is_null() && ScalarValue::new_zero(&value.data_type()).is_ok_and(|zero| zero != *value)
        }
        Expr::Cast(cast) => is_nonzero(&cast.expr),
        _ => false,
    }
}

/// Whether each value of a type has one in the other. (Times beyond the year 200,000 are not looked at.)
fn always_fits(from: &DataType, to: &DataType) -> bool {
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(0);
    match (from, to) {
        _ if from == to => true,
        (DataType::Null, _) | (_, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => true,
        (DataType::Boolean, to) => to.is_numeric(),
        (from, to) if from.is_signed_integer() && to.is_signed_integer() => width(to) >= width(from),
        (from, to) if from.is_unsigned_integer() && to.is_integer() => {
            width(to) > width(from) || to.is_unsigned_integer() && width(to) == width(from)
        }
        (from, to) if from.is_integer() || from.is_floating() || from.is_decimal() => to.is_floating(),
        (DataType::Timestamp(..) | DataType::Date32 | DataType::Date64, to) => {
            matches!(to, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
        }
        (DataType::Duration(_) | DataType::Interval(_), to) => {
            matches!(to, DataType::Duration(_) | DataType::Interval(_))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{cast, col, lit};

    use super::*;

    /// What cannot fail is evaluated for whole columns.
    #[test]
    fn only_what_can_fail_does() {
        let schema = Schema::new(vec![
            Field::new("i", DataType::Int64, true),
            Field::new("d", DataType::Float64, true),
            Field::new("s", DataType::Utf8, true),
        ]);
        let schema = DFSchema::try_from(schema).expect("columns");
        for (expr, fails) in [
            (col("i") + lit(1i64), false),
            (col("i") / lit(2i64), false),
            (col("i") / lit(0i64), true),
            (lit(2i64) / col("i"), true),
            (col("i") % (col("i") - lit(1i64)), true),
            (lit(2.0) / col("d"), false),
            (cast(col("i"), DataType::Float64), false),
            (cast(col("i"), DataType::Utf8), false),
            (cast(col("i"), DataType::Int32), true),
            (cast(col("d"), DataType::Int64), true),
            (cast(col("s"), DataType::Int64), true),
        ] {
            assert_eq!(may_fail(&expr, &schema), fails, "{expr}");
        }
    }
}
