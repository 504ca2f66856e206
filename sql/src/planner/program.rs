//! Conditions as small programs over words, where they are of numbers, times and booleans.
//!
//! What a program computes is what DataFusion's expression computes; whatever is not certain to be the same has none, and is evaluated
//! through columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};
use eagre_engine::operator::match_recognize::{Arithmetic, Comparison, Program, Word, WordKind};

/// The program of an expression over `schema`, whose columns are its slots.
pub(super) fn program(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Program> {
    let of = |expr: &Arc<dyn PhysicalExpr>| program(expr, schema).map(Box::new);
    if let Some(column) = expr.downcast_ref::<Column>() {
        WordKind::of_slot(schema.field(column.index()).data_type())?;
        return Some(Program::Slot(column.index()));
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return constant(literal.value()).map(Program::Constant);
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return self::binary(binary, schema);
    }
    if let Some(not) = expr.downcast_ref::<NotExpr>() {
        return Some(Program::Not(of(not.arg())?));
    }
    if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
        return Some(Program::IsNull(of(is_null.arg())?));
    }
    if let Some(is_there) = expr.downcast_ref::<IsNotNullExpr>() {
        return Some(Program::Not(Box::new(Program::IsNull(of(is_there.arg())?))));
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let from = cast.expr().data_type(schema).ok()?;
        let inner = program(cast.expr(), schema)?;
        return match (from, cast.cast_type()) {
            (from, DataType::Float64) if is_integer(&from) => Some(Program::ToFloat(Box::new(inner))),
            (DataType::Float32, DataType::Float64) => Some(inner),
            (from, DataType::Int64) if is_integer(&from) => Some(inner),
            (from, to) if from == *to => Some(inner),
            (DataType::Decimal128(from, scale), DataType::Decimal128(to, to_scale))
                if scale == *to_scale && *to >= from =>
            {
                Some(inner)
            }
            _ => None,
        };
    }
    None
}

/// Integers whose values all fit a signed word.
fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer() && *data_type != DataType::UInt64
}

fn binary(binary: &BinaryExpr, schema: &Schema) -> Option<Program> {
    let (left, right) = (binary.left(), binary.right());
    let (left_type, right_type) = (left.data_type(schema).ok()?, right.data_type(schema).ok()?);
    let (left, right) = (Box::new(program(left, schema)?), Box::new(program(right, schema)?));
    let comparison = match binary.op() {
        Operator::And => return Some(Program::And(left, right)),
        Operator::Or => return Some(Program::Or(left, right)),
        Operator::Eq => Some(Comparison::Equal),
        Operator::NotEq => Some(Comparison::NotEqual),
        Operator::Lt => Some(Comparison::Less),
        Operator::LtEq => Some(Comparison::LessOrEqual),
        Operator::Gt => Some(Comparison::Greater),
        Operator::GtEq => Some(Comparison::GreaterOrEqual),
        _ => None,
    };
    if left_type != right_type {
        return None;
    }
    if let Some(comparison) = comparison {
        return Some(Program::Compare(comparison, WordKind::of_slot(&left_type)?, left, right));
    }
    let (arithmetic, kind) = match (binary.op(), left_type) {
        (Operator::Plus, DataType::Int64) => (Arithmetic::Add, WordKind::Integer),
        (Operator::Minus, DataType::Int64) => (Arithmetic::Subtract, WordKind::Integer),
        (Operator::Multiply, DataType::Int64) => (Arithmetic::Multiply, WordKind::Integer),
        (Operator::Plus, DataType::Float64) => (Arithmetic::Add, WordKind::Float),
        (Operator::Minus, DataType::Float64) => (Arithmetic::Subtract, WordKind::Float),
        (Operator::Multiply, DataType::Float64) => (Arithmetic::Multiply, WordKind::Float),
        (Operator::Divide, DataType::Float64) => (Arithmetic::Divide, WordKind::Float),
        _ => return None,
    };
    Some(Program::Calculate(arithmetic, kind, left, right))
}

/// A constant as a word; `None`: it has none.
fn constant(value: &ScalarValue) -> Option<Word> {
    WordKind::of_slot(&value.data_type())?;
    let integer = |value: Option<i64>| Some(value.map(|value| value as u64));
    match value {
        ScalarValue::Boolean(value) => Some(value.map(u64::from)),
        ScalarValue::Float64(value) => Some(value.map(f64::to_bits)),
        ScalarValue::Float32(value) => Some(value.map(|value| f64::from(value).to_bits())),
        ScalarValue::Int8(value) => integer(value.map(i64::from)),
        ScalarValue::Int16(value) => integer(value.map(i64::from)),
        ScalarValue::Int32(value) | ScalarValue::Date32(value) => integer(value.map(i64::from)),
        ScalarValue::Int64(value) | ScalarValue::Date64(value) => integer(*value),
        ScalarValue::UInt8(value) => integer(value.map(i64::from)),
        ScalarValue::UInt16(value) => integer(value.map(i64::from)),
        ScalarValue::UInt32(value) => integer(value.map(i64::from)),
        ScalarValue::TimestampSecond(value, _)
        | ScalarValue::TimestampMillisecond(value, _)
        | ScalarValue::TimestampMicrosecond(value, _)
        | ScalarValue::TimestampNanosecond(value, _) => integer(*value),
        ScalarValue::Decimal128(value, ..) => match value.map(i64::try_from).transpose() {
            Ok(value) => integer(value),
            Err(_) => None,
        },
        _ => None,
    }
}
