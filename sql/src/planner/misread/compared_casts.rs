//! `TRY_CAST(b AS TINYINT) < 5`: what is compared is what the cast gives.
//!
//! DataFusion compares `b` with the constant in its type. That is the same where the cast keeps all values; where it does not, 300 would be less than nothing, though
//! it is no TINYINT, and a `CAST` that fails would not. A constant with more digits than a timestamp has (`ts = TIMESTAMP '2026-01-01 00:00:00.9995'`) would lose them.
//! There the cast is kept ([`as_it_is`]), and the constant is rounded as the comparison has it.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast, binary_expr, lit,
};

use crate::error::Result;
use crate::functions::as_it_is::as_it_is;
use crate::functions::round_time::per_second;
use crate::planner::expr::constant;

/// The plan, in whose conditions such casts are kept.
pub(in crate::planner) fn rewrite_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let mut schema = merge_schema(&node.inputs());
        if let LogicalPlan::TableScan(scan) = &node {
            schema.merge(&scan.projected_schema);
        }
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(rewrite(expr, &schema)?.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(plan.data)
}

/// The same of an expression over `schema`.
pub(in crate::planner) fn rewrite(expr: Expr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
    expr.transform_up(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if op.supports_propagation() => {
                if let Some(rounded) = beside_finer(&left, op, &right, schema) {
                    return Ok(Transformed::yes(rounded));
                }
                let kept_left = kept(&left, &[&right], schema);
                let kept_right = kept(&right, &[&left], schema);
                let changed = kept_left.is_some() || kept_right.is_some();
                let (left, right) = (kept_left.map_or(left, Box::new), kept_right.map_or(right, Box::new));
                Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), changed)
            }
            Expr::InList(InList { expr, list, negated }) => {
                let op = if negated { Operator::NotEq } else { Operator::Eq };
                let finer = list.iter().map(|item| beside_finer(&expr, op, item, schema)).collect::<Vec<_>>();
                if finer.iter().any(Option::is_some) {
                    let each = finer.into_iter().zip(list);
                    let each = each
                        .map(|(rounded, item)| rounded.unwrap_or_else(|| binary_expr(expr.as_ref().clone(), op, item)));
                    let all = each.reduce(if negated { Expr::and } else { Expr::or });
                    return Ok(Transformed::yes(all.unwrap_or_else(|| lit(negated))));
                }
                let kept = kept(&expr, &list.iter().collect::<Vec<_>>(), schema);
                let changed = kept.is_some();
                let expr = kept.map_or(expr, Box::new);
                Transformed::new_transformed(Expr::InList(InList { expr, list, negated }), changed)
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let from = beside_finer(&expr, Operator::GtEq, &low, schema);
                let to = beside_finer(&expr, Operator::LtEq, &high, schema);
                if from.is_some() || to.is_some() {
                    let from = from.unwrap_or_else(|| expr.as_ref().clone().gt_eq(*low));
                    let within = from.and(to.unwrap_or_else(|| expr.as_ref().clone().lt_eq(*high)));
                    return Ok(Transformed::yes(if negated { Expr::Not(Box::new(within)) } else { within }));
                }
                let kept = kept(&expr, &[&low, &high], schema);
                let changed = kept.is_some();
                let expr = kept.map_or(expr, Box::new);
                Transformed::new_transformed(Expr::Between(Between { expr, negated, low, high }), changed)
            }
            other => Transformed::no(other),
        })
    })
}

/// `expr` with the outermost cast that is not to be taken off where it is compared with `others` kept; none if there is no such cast.
fn kept(expr: &Expr, others: &[&Expr], schema: &DFSchema) -> Option<Expr> {
    let (inner, field, lenient) = match expr {
        Expr::Cast(Cast { expr: inner, field }) => (inner, field, false),
        Expr::TryCast(TryCast { expr: inner, field }) => (inner, field, true),
        _ => return None,
    };
    let is_constant = |other: &Expr| other.column_refs().is_empty() && !other.contains_outer() && !other.is_volatile();
    if is_constant(inner) || !others.iter().any(|other| is_constant(other)) {
        return None;
    }
    let (from, to) = (inner.get_type(schema).ok()?, field.data_type());
    if loses_values(&from, to) {
        return Some(as_it_is(expr.clone()));
    }
    // Below one that is taken off.
    let (expr, field) = (Box::new(kept(inner, others, schema)?), Arc::clone(field));
    Some(if lenient { Expr::TryCast(TryCast { expr, field }) } else { Expr::Cast(Cast { expr, field }) })
}

/// `CAST(ts AS TIMESTAMP(6)) op constant` where the constant has more digits than `ts`, as a comparison of `ts` with the time before it; none where it has no more.
fn beside_finer(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::Cast(Cast { expr: time, field }) = left else {
        return match right {
            Expr::Cast(_) => beside_finer(right, op.swap()?, left, schema),
            _ => None,
        };
    };
    let (from, to) = (time.get_type(schema).ok()?, field.data_type());
    let (DataType::Timestamp(unit, zone), DataType::Timestamp(finer, _)) = (&from, to) else { return None };
    let per_unit = per_second(finer).checked_div(per_second(unit)).filter(|per_unit| *per_unit > 1)?;
    if time.column_refs().is_empty() || !right.column_refs().is_empty() || right.contains_outer() || right.is_volatile()
    {
        return None;
    }
    let Expr::Literal(value, _) = constant(right.clone()).ok()? else { return None };
    let ScalarValue::Int64(Some(count)) = value.cast_to(to).ok()?.cast_to(&DataType::Int64).ok()? else { return None };
    if count.rem_euclid(per_unit) == 0 {
        return None;
    }
    let before =
        ScalarValue::Int64(Some(count.div_euclid(per_unit))).cast_to(&DataType::Timestamp(*unit, zone.clone())).ok()?;
    let time = || time.as_ref().clone();
    Some(match op {
        // What is not there is not known to be equal.
        Operator::Eq => time().is_null().and(lit(ScalarValue::Boolean(None))),
        Operator::NotEq => time().is_not_null().or(lit(ScalarValue::Boolean(None))),
        Operator::Lt | Operator::LtEq => time().lt_eq(lit(before)),
        Operator::Gt | Operator::GtEq => time().gt(lit(before)),
        Operator::IsDistinctFrom => lit(true),
        Operator::IsNotDistinctFrom => lit(false),
        _ => return None,
    })
}

/// Whether there are numbers of type `from` that are none of type `to`.
fn loses_values(from: &DataType, to: &DataType) -> bool {
    let digits = |data_type: &DataType| match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            Some((i16::from(*precision) - i16::from(*scale), i16::from(*scale)))
        }
        _ => integer_range(data_type).map(|(least, most)| {
            (least.unsigned_abs().max(most.unsigned_abs()).checked_ilog10().map_or(1, |log| log as i16 + 1), 0)
        }),
    };
    match (integer_range(from), integer_range(to)) {
        (Some(from), Some(to)) => from.0 < to.0 || from.1 > to.1,
        _ if from.is_floating() => {
            to.is_integer() || to.is_decimal() || (*from == DataType::Float64 && to.is_floating())
        }
        _ if to.is_floating() => false,
        (None, Some(_)) => from.is_decimal(),
        _ => match (digits(from), digits(to)) {
            // Of the most digits is what decimals of several scales are made to fit each other by.
            (Some(from), Some(of_to)) => from.1 > of_to.1 || from.0 > of_to.0 && !has_most_digits(to),
            _ => false,
        },
    }
}

fn has_most_digits(data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal128(precision, _) => *precision == DECIMAL128_MAX_PRECISION,
        DataType::Decimal256(precision, _) => *precision == DECIMAL256_MAX_PRECISION,
        _ => false,
    }
}

fn integer_range(data_type: &DataType) -> Option<(i128, i128)> {
    Some(match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => (i64::MIN.into(), i64::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, u64::MAX.into()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_that_keep_all_values() {
        use DataType::{Decimal128, Float32, Float64, Int8, Int32, Int64, UInt32, Utf8};
        let keep = [
            (Int32, Int64),
            (UInt32, Int64),
            (Int32, Decimal128(12, 2)),
            (Int64, Float64),
            (Float32, Float64),
            (Decimal128(5, 2), Decimal128(7, 3)),
            (Decimal128(38, 10), Decimal128(38, 15)),
            (Utf8, Int64),
        ];
        for (from, to) in keep {
            assert!(!loses_values(&from, &to), "{from} to {to}");
        }
        let lose = [
            (Int64, Int32),
            (Int64, UInt32),
            (UInt32, Int8),
            (Float64, Int64),
            (Float64, Float32),
            (Float64, Decimal128(38, 10)),
            (Int64, Decimal128(4, 1)),
            (Decimal128(5, 2), Int64),
            (Decimal128(5, 2), Decimal128(5, 1)),
            (Decimal128(5, 0), Decimal128(5, 1)),
        ];
        for (from, to) in lose {
            assert!(loses_values(&from, &to), "{from} to {to}");
        }
    }
}
