//! Conditions as small programs over words, where they are of numbers, times and booleans.
//!
//! What a program computes is what DataFusion's expression computes; whatever is not certain to be the same has none, and is evaluated
//! through columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NegativeExpr, NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use eagre_engine::operator::match_recognize::{Arithmetic, Comparison, Program, Wide, Word, WordKind};

use super::expr::by_units;

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
    if let Some(case) = expr.downcast_ref::<CaseExpr>() {
        return self::case(case, &expr.data_type(schema).ok()?, schema);
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        return in_list(list, schema);
    }
    if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
        return match negative.arg().data_type(schema).ok()? {
            DataType::Int64 => {
                let zero = Box::new(Program::Constant(Some(0)));
                Some(Program::Calculate(Arithmetic::Subtract, WordKind::Integer, zero, of(negative.arg())?))
            }
            _ => None,
        };
    }
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return match (call.name(), call.args()) {
            (ABS, [arg]) => {
                let data_type = arg.data_type(schema).ok()?;
                match bits(&data_type) {
                    Some(bits) => Some(Program::AbsoluteInteger(bits, of(arg)?)),
                    None if data_type == DataType::Float64 => Some(Program::AbsoluteFloat(of(arg)?)),
                    None => None,
                }
            }
            ("nullif", [value, other]) => {
                let same = compare(Comparison::Equal, value, other, schema)?;
                Some(Program::Case(vec![(same, Program::Constant(None))], of(value)?))
            }
            _ => None,
        };
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let from = cast.expr().data_type(schema).ok()?;
        if let (DataType::Decimal128(_, scale), DataType::Float64) = (&from, cast.cast_type()) {
            return Some(Program::DecimalToFloat(*scale, Box::new(wide(cast.expr(), schema)?)));
        }
        let inner = program(cast.expr(), schema)?;
        return match (from, cast.cast_type()) {
            (from, DataType::Float64) if is_integer(&from) => Some(Program::ToFloat(Box::new(inner))),
            (DataType::Float32, DataType::Float64) => Some(inner),
            (from, DataType::Int64) if is_integer(&from) => Some(inner),
            (from, DataType::Int32) if bits(&from).is_some_and(|bits| bits <= 32) => Some(inner),
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

const ABS: &str = "abs";

/// Integers whose values all fit a signed word.
fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer() && *data_type != DataType::UInt64
}

/// Of signed integers.
fn bits(data_type: &DataType) -> Option<u32> {
    match data_type {
        DataType::Int8 => Some(8),
        DataType::Int16 => Some(16),
        DataType::Int32 => Some(32),
        DataType::Int64 => Some(64),
        _ => None,
    }
}

fn comparison_of(operator: &Operator) -> Option<Comparison> {
    match operator {
        Operator::Eq => Some(Comparison::Equal),
        Operator::NotEq => Some(Comparison::NotEqual),
        Operator::Lt => Some(Comparison::Less),
        Operator::LtEq => Some(Comparison::LessOrEqual),
        Operator::Gt => Some(Comparison::Greater),
        Operator::GtEq => Some(Comparison::GreaterOrEqual),
        _ => None,
    }
}

fn arithmetic_of(operator: &Operator) -> Option<Arithmetic> {
    match operator {
        Operator::Plus => Some(Arithmetic::Add),
        Operator::Minus => Some(Arithmetic::Subtract),
        Operator::Multiply => Some(Arithmetic::Multiply),
        Operator::Divide => Some(Arithmetic::Divide),
        Operator::Modulo => Some(Arithmetic::Remainder),
        _ => None,
    }
}

fn binary(binary: &BinaryExpr, schema: &Schema) -> Option<Program> {
    let (left, right) = (binary.left(), binary.right());
    let boxed = |expr| program(expr, schema).map(Box::new);
    match binary.op() {
        Operator::And => return Some(Program::And(boxed(left)?, boxed(right)?)),
        Operator::Or => return Some(Program::Or(boxed(left)?, boxed(right)?)),
        Operator::IsDistinctFrom => return is_distinct(left, right, schema),
        Operator::IsNotDistinctFrom => return Some(Program::Not(Box::new(is_distinct(left, right, schema)?))),
        _ => {}
    }
    if let Some(comparison) = comparison_of(binary.op()) {
        return compare(comparison, left, right, schema);
    }
    let arithmetic = arithmetic_of(binary.op())?;
    let data_type = left.data_type(schema).ok()?;
    if data_type != right.data_type(schema).ok()? {
        return None;
    }
    let (left, right) = (boxed(left)?, boxed(right)?);
    if data_type == DataType::Float64 {
        return Some(Program::Calculate(arithmetic, WordKind::Float, left, right));
    }
    let bits = bits(&data_type)?;
    let value = Program::Calculate(arithmetic, WordKind::Integer, left, right);
    match bits {
        u64::BITS => Some(value),
        // The least one divided by -1 is too large for its bits, which is an error.
        _ if arithmetic == Arithmetic::Divide => None,
        bits => Some(Program::Wrapped(bits, Box::new(value))),
    }
}

fn compare(
    comparison: Comparison,
    left: &Arc<dyn PhysicalExpr>,
    right: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Option<Program> {
    let data_type = left.data_type(schema).ok()?;
    if data_type != right.data_type(schema).ok()? {
        return None;
    }
    let words = WordKind::of_slot(&data_type).and_then(|kind| {
        let (left, right) = (program(left, schema)?, program(right, schema)?);
        Some(Program::Compare(comparison, kind, Box::new(left), Box::new(right)))
    });
    words.or_else(|| {
        let (left, right) = (wide(left, schema)?, wide(right, schema)?);
        Some(Program::CompareWide(comparison, Box::new(left), Box::new(right)))
    })
}

fn is_distinct(left: &Arc<dyn PhysicalExpr>, right: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Program> {
    let differ = compare(Comparison::NotEqual, left, right, schema)?;
    let is_null = |expr| Some(Program::IsNull(Box::new(program(expr, schema)?)));
    let (left, right) = (is_null(left)?, is_null(right)?);
    let (is_there, always) = (Program::Not(Box::new(right.clone())), Program::Constant(Some(1)));
    Some(Program::Case(vec![(left, is_there), (right, always)], Box::new(differ)))
}

/// `result`: the type of its values.
fn case(case: &CaseExpr, result: &DataType, schema: &Schema) -> Option<Program> {
    WordKind::of_slot(result)?;
    let value = |expr: &Arc<dyn PhysicalExpr>| match expr.data_type(schema).ok()? {
        DataType::Null => Some(Program::Constant(None)),
        data_type if data_type == *result => program(expr, schema),
        _ => None,
    };
    let branch = |(when, then): &(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)| {
        let condition = match case.expr() {
            Some(base) => compare(Comparison::Equal, base, when, schema)?,
            None => program(when, schema)?,
        };
        Some((condition, value(then)?))
    };
    let branches = case.when_then_expr().iter().map(branch).collect::<Option<Vec<_>>>()?;
    let otherwise = match case.else_expr() {
        Some(expr) => value(expr)?,
        None => Program::Constant(None),
    };
    Some(Program::Case(branches, Box::new(otherwise)))
}

fn in_list(list: &InListExpr, schema: &Schema) -> Option<Program> {
    let mut equal = list.list().iter().map(|item| compare(Comparison::Equal, list.expr(), item, schema));
    let first = equal.next()??;
    let any = equal.try_fold(first, |any, equal| Some(Program::Or(Box::new(any), Box::new(equal?))))?;
    Some(if list.negated() { Program::Not(Box::new(any)) } else { any })
}

/// How many of the unit are a second.
fn per_second(unit: &TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// What a decimal, a time, a difference of times or an interval without months and days (in nanoseconds) is computed as.
fn wide(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Wide> {
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return match literal.value() {
            ScalarValue::Decimal128(value, ..) => Some(Wide::Constant(*value)),
            ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 && interval.days == 0 => {
                Some(Wide::Constant(Some(interval.nanoseconds.into())))
            }
            other => Some(Wide::Constant(constant(other)?.map(|word| i128::from(word as i64)))),
        };
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let factor = scaled(&cast.expr().data_type(schema).ok()?, cast.cast_type())?;
        return Some(Wide::Scaled(factor, Box::new(wide(cast.expr(), schema)?)));
    }
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>()
        && let ([arg], ABS) = (call.args(), call.name())
        && matches!(arg.data_type(schema).ok()?, DataType::Decimal128(..))
    {
        return Some(Wide::Absolute(Box::new(wide(arg, schema)?)));
    }
    if let Some(plain) = by_units(expr, schema) {
        return wide(&plain, schema);
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return wide_binary(binary, &expr.data_type(schema).ok()?, schema);
    }
    program(expr, schema).map(Wide::Of)
}

/// How many times as much a value is after a cast that every value has a result of.
fn scaled(from: &DataType, to: &DataType) -> Option<i128> {
    let power = |digits: i8| 10i128.checked_pow(u32::try_from(digits).ok()?);
    let whole = |precision: u8, scale: i8| i16::from(precision) - i16::from(scale);
    let unit = |from: &TimeUnit, to: &TimeUnit| {
        let (from, to) = (per_second(from), per_second(to));
        (to % from == 0).then_some(to / from)
    };
    match (from, to) {
        (DataType::Decimal128(precision, scale), DataType::Decimal128(to_precision, to_scale))
            if whole(*to_precision, *to_scale) >= whole(*precision, *scale) =>
        {
            power(to_scale - scale)
        }
        (from, DataType::Decimal128(precision, scale)) if is_integer(from) && whole(*precision, *scale) >= 19 => {
            power(*scale)
        }
        (DataType::Duration(from), DataType::Duration(to)) => unit(from, to),
        (DataType::Duration(from), DataType::Interval(IntervalUnit::MonthDayNano)) => unit(from, &TimeUnit::Nanosecond),
        (DataType::Timestamp(from, zone), DataType::Timestamp(to, to_zone)) if zone == to_zone => unit(from, to),
        (from, to) => (from == to).then_some(1),
    }
}

/// `result`: its type.
fn wide_binary(binary: &BinaryExpr, result: &DataType, schema: &Schema) -> Option<Wide> {
    let arithmetic = arithmetic_of(binary.op())?;
    let (left, right) = (binary.left(), binary.right());
    let types = (left.data_type(schema).ok()?, right.data_type(schema).ok()?);
    let calculate = |left, right| Some(Wide::Calculate(arithmetic, Box::new(left), Box::new(right)));
    match (arithmetic, &types.0, &types.1, result) {
        (
            Arithmetic::Add | Arithmetic::Subtract,
            DataType::Decimal128(_, left_scale),
            DataType::Decimal128(_, right_scale),
            DataType::Decimal128(_, scale),
        ) => {
            let to_scale = |expr, from: i8| {
                let factor = 10i128.checked_pow(u32::try_from(scale - from).ok()?)?;
                Some(Wide::Scaled(factor, Box::new(wide(expr, schema)?)))
            };
            calculate(to_scale(left, *left_scale)?, to_scale(right, *right_scale)?)
        }
        (
            Arithmetic::Multiply,
            DataType::Decimal128(_, left_scale),
            DataType::Decimal128(_, right_scale),
            DataType::Decimal128(_, scale),
        ) if left_scale + right_scale == *scale => calculate(wide(left, schema)?, wide(right, schema)?),
        // Of times and their differences.
        (Arithmetic::Add | Arithmetic::Subtract, ..) if same_units(&types.0, &types.1, result) => {
            calculate(wide(left, schema)?, wide(right, schema)?)
        }
        _ => None,
    }
}

/// Whether times and differences of times are all counted in one unit.
fn same_units(left: &DataType, right: &DataType, result: &DataType) -> bool {
    let unit = |data_type: &DataType| match data_type {
        DataType::Timestamp(unit, _) | DataType::Duration(unit) => Some(*unit),
        _ => None,
    };
    unit(left).is_some() && unit(left) == unit(right) && unit(left) == unit(result)
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
        ScalarValue::DurationSecond(value)
        | ScalarValue::DurationMillisecond(value)
        | ScalarValue::DurationMicrosecond(value)
        | ScalarValue::DurationNanosecond(value) => integer(*value),
        ScalarValue::Decimal128(value, ..) => match value.map(i64::try_from).transpose() {
            Ok(value) => integer(value),
            Err(_) => None,
        },
        _ => None,
    }
}
