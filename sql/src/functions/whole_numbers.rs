//! Quotients without a fraction and how many digits numbers have, as PostgreSQL has them: `DIV`, `SCALE`, `MIN_SCALE`; and `ISFINITE`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Float64Type, Int64Type};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, exec_err};

use super::definition::{Call, Definition, Param};
use crate::types::sql_name;

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        Definition::new("div", &[Param::Number, Param::Number], |types| quotient_type(&types[0], &types[1]), quotients),
        Definition::new("scale", &[Param::Any], |_| DataType::Int32, |call| digits(call, |_, scale| scale)),
        Definition::new("min_scale", &[Param::Any], |_| DataType::Int32, |call| digits(call, needed_scale)),
        Definition::new("isfinite", &[Param::Any], |_| DataType::Boolean, are_finite),
    ]
}

/// Whole numbers as they are divided, or decimals without digits behind the point, or doubles.
fn quotient_type(left: &DataType, right: &DataType) -> DataType {
    let whole = |data_type: &DataType| data_type.is_integer() || data_type == &DataType::Null;
    match (left, right) {
        (left, right) if left.is_floating() || right.is_floating() => DataType::Float64,
        (left, right) if whole(left) && whole(right) => DataType::Int64,
        _ => DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0),
    }
}

fn quotients(call: &Call) -> Result<ArrayRef> {
    let (left, right) = (call.array(0)?, call.array(1)?);
    let by_zero = || DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
    let too_large = || DataFusionError::Execution("DIV: the quotient is out of range".into());
    match quotient_type(left.data_type(), right.data_type()) {
        DataType::Int64 => {
            let (left, right) = (cast(&left, &DataType::Int64)?, cast(&right, &DataType::Int64)?);
            let pairs = left.as_primitive::<Int64Type>().iter().zip(right.as_primitive::<Int64Type>());
            let rows = pairs.map(|pair| match pair {
                (Some(_), Some(0)) => Err(by_zero()),
                (Some(left), Some(right)) => left.checked_div(right).map(Some).ok_or_else(too_large),
                _ => Ok(None),
            });
            Ok(Arc::new(rows.collect::<Result<Int64Array>>()?))
        }
        DataType::Float64 => {
            let (left, right) = (call.doubles(0)?, call.doubles(1)?);
            let rows = left.iter().zip(&right).map(|pair| match pair {
                (Some(_), Some(0.0)) => Err(by_zero()),
                (Some(left), Some(right)) => Ok(Some((left / right).trunc())),
                _ => Ok(None),
            });
            Ok(Arc::new(rows.collect::<Result<Float64Array>>()?))
        }
        _ => {
            let (left, right) = (Decimals::of(&left)?, Decimals::of(&right)?);
            let scale = left.scale.max(right.scale);
            let scaled =
                |digits: i128, of: i8| digits.checked_mul(10i128.checked_pow(u32::try_from(scale - of).ok()?)?);
            let rows = left.digits.iter().zip(&right.digits).map(|pair| match pair {
                (Some(_), Some(0)) => Err(by_zero()),
                (Some(a), Some(b)) => {
                    let pair = scaled(a, left.scale).zip(scaled(b, right.scale));
                    pair.and_then(|(a, b)| a.checked_div(b)).map(Some).ok_or_else(too_large)
                }
                _ => Ok(None),
            });
            let rows = rows.collect::<Result<Decimal128Array>>()?;
            Ok(Arc::new(rows.with_precision_and_scale(DECIMAL128_MAX_PRECISION, 0)?))
        }
    }
}

/// Numbers as digits of which the last `scale` stand behind the point.
struct Decimals {
    digits: Decimal128Array,
    scale: i8,
}

impl Decimals {
    fn of(array: &ArrayRef) -> Result<Self> {
        let scale = match array.data_type() {
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale)
            | DataType::Decimal256(_, scale) => *scale,
            _ => 0,
        };
        if scale < 0 {
            return exec_err!("a DECIMAL whose last digits stand before the point");
        }
        let digits = match array.data_type() {
            DataType::Decimal128(..) => Arc::clone(array),
            _ => cast(array, &DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale))?,
        };
        Ok(Self { digits: digits.as_primitive::<Decimal128Type>().clone(), scale })
    }
}

fn digits(call: &Call, scale_of: fn(i128, i32) -> i32) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let data_type = array.data_type();
    if !data_type.is_integer() && !data_type.is_decimal() && data_type != &DataType::Null {
        let (name, of) = (call.name.to_uppercase(), sql_name(data_type));
        return exec_err!("{name} is of a DECIMAL, and this is a {of}; cast it: `CAST(x AS DECIMAL(10, 2))`");
    }
    let decimals = Decimals::of(&array)?;
    let scale = i32::from(decimals.scale);
    Ok(Arc::new(decimals.digits.iter().map(|digits| Some(scale_of(digits?, scale))).collect::<Int32Array>()))
}

/// How many digits behind the point are needed to write a number.
fn needed_scale(mut digits: i128, mut scale: i32) -> i32 {
    while scale > 0 && digits % 10 == 0 {
        (digits, scale) = (digits / 10, scale - 1);
    }
    scale
}

/// Every date, time and interval here is; a number may be infinite, or none.
fn are_finite(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    if array.data_type().is_floating() {
        let numbers = cast(&array, &DataType::Float64)?;
        let finite = numbers.as_primitive::<Float64Type>().iter().map(|number| Some(number?.is_finite()));
        return Ok(Arc::new(finite.collect::<BooleanArray>()));
    }
    let rows = (0..array.len()).map(|row| array.is_valid(row).then_some(true));
    Ok(Arc::new(rows.collect::<BooleanArray>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_are_not_needed() {
        for (digits, scale, needed) in [(84_100, 4, 2), (0, 3, 0), (-120, 1, 0), (5, 0, 0), (123, 2, 2)] {
            assert_eq!(needed_scale(digits, scale), needed, "{digits} e-{scale}");
        }
    }
}
