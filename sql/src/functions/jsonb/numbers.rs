//! Numbers out of JSON: what a cast of a JSON value to a number reads.
//!
//! A number is read by its digits, and a text as `->>` would give it; of an integer the fraction is rounded away from zero, as PostgreSQL does. (DataFusion's
//! JSON functions give null for a number with a fraction.) Anything else is an error, and null in a `TRY_CAST` or where it was taken out of a
//! value, whose parts may be of any type.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, Decimal128Array, StringViewArray};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::super::definition::{Call, Definition, Param};
use super::super::json_build::documents;
use super::tree::amount;

/// What whole numbers are read as.
pub(super) const WHOLE_TYPE: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

/// Names of the functions that give a whole number and a number as text, and of those that give null for anything else.
const NAMES: [[&str; 2]; 2] = [["__json_whole", "__json_number"], ["__try_json_whole", "__try_json_number"]];

pub(super) fn definitions() -> Vec<Definition> {
    let [[whole, number], [try_whole, try_number]] = NAMES;
    let of_json = |name, returns, invoke| Definition::new(name, &[Param::Any], returns, invoke);
    let as_text: fn(&[DataType]) -> DataType = |_| DataType::Utf8View;
    let as_whole: fn(&[DataType]) -> DataType = |_| WHOLE_TYPE;
    vec![
        of_json(whole, as_whole, |call| wholes(call, false)),
        of_json(try_whole, as_whole, |call| wholes(call, true)),
        of_json(number, as_text, |call| numbers(call, false)),
        of_json(try_number, as_text, |call| numbers(call, true)),
    ]
}

/// Whether a function is one of those here.
pub(super) fn is_name(name: &str) -> bool {
    NAMES.iter().flatten().any(|own| *own == name)
}

/// The function that reads a whole number, or the digits of any.
pub(super) fn function(is_whole: bool, lenient: bool) -> &'static Arc<ScalarUDF> {
    static FUNCTIONS: LazyLock<Vec<Arc<ScalarUDF>>> =
        LazyLock::new(|| definitions().into_iter().map(Definition::udf).collect());
    &FUNCTIONS[usize::from(!is_whole) * 2 + usize::from(lenient)]
}

/// The digits of a JSON number, or of a text that has some; `Err` for what has none.
fn digits(document: &str) -> Result<Option<Cow<'_, str>>, ()> {
    let document = document.trim();
    let text = match document {
        "null" => return Ok(None),
        quoted if quoted.starts_with('"') => {
            let text = serde_json::from_str::<String>(quoted).map_err(|_| ())?;
            Cow::Owned(text.trim().trim_start_matches('+').to_string())
        }
        plain => Cow::Borrowed(plain),
    };
    let of_digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    match of_digits && text.parse::<f64>().is_ok() {
        true => Ok(Some(text)),
        false => Err(()),
    }
}

/// A number without its fraction, rounded away from zero; none for one of more digits than there is place for.
fn rounded(text: &str) -> Option<i128> {
    if let Ok(whole) = text.parse::<i128>() {
        return (whole.unsigned_abs() < 10u128.pow(u32::from(DECIMAL128_MAX_PRECISION))).then_some(whole);
    }
    let (negative, digits, exponent) = amount(text);
    let length = digits.len() as i64 + exponent;
    if length > i64::from(DECIMAL128_MAX_PRECISION) - 1 {
        return None;
    }
    let whole = match usize::try_from(length) {
        Err(_) => 0,
        Ok(length) if length >= digits.len() => {
            let zeros = "0".repeat(length - digits.len());
            if digits.is_empty() { 0 } else { format!("{digits}{zeros}").parse().ok()? }
        }
        Ok(length) => {
            let whole: i128 = if length == 0 { 0 } else { digits[..length].parse().ok()? };
            whole + i128::from(digits.as_bytes()[length] >= b'5')
        }
    };
    Some(if negative { -whole } else { whole })
}

fn read<T>(call: &Call, lenient: bool, read: fn(&str) -> Option<T>) -> Result<Vec<Option<T>>> {
    let one = |document: Option<&str>| {
        let Some(document) = document else { return Ok(None) };
        let text = match digits(document) {
            Ok(None) => return Ok(None),
            Ok(Some(text)) => text,
            Err(()) if lenient => return Ok(None),
            Err(()) => return exec_err!("the JSON value {document} is no number; TRY_CAST gives NULL there"),
        };
        match read(&text) {
            Some(number) => Ok(Some(number)),
            None if lenient => Ok(None),
            None => {
                exec_err!("the JSON value {document} has too many digits for an integer; TRY_CAST gives NULL there")
            }
        }
    };
    let array = call.array(0)?;
    match array.data_type() {
        DataType::Union(..) => documents(&array)?.iter().map(|document| one(document.as_deref())).collect(),
        _ => call.text(0)?.iter().map(one).collect(),
    }
}

fn wholes(call: &Call, lenient: bool) -> Result<ArrayRef> {
    let wholes: Decimal128Array = read(call, lenient, rounded)?.into_iter().collect();
    Ok(Arc::new(wholes.with_data_type(WHOLE_TYPE)))
}

fn numbers(call: &Call, lenient: bool) -> Result<ArrayRef> {
    let numbers = read(call, lenient, |text| Some(text.to_owned()))?;
    Ok(Arc::new(numbers.into_iter().collect::<StringViewArray>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As PostgreSQL rounds a NUMERIC: halves away from zero, by the digits and not by the nearest DOUBLE.
    #[test]
    fn fractions_are_rounded() {
        for (text, whole) in [
            ("2.5", Some(3)),
            ("-2.5", Some(-3)),
            ("2.4999999999999999999", Some(2)),
            ("0.5", Some(1)),
            ("0.05", Some(0)),
            ("5e-2", Some(0)),
            ("1.25e1", Some(13)),
            ("1e3", Some(1000)),
            ("0.0", Some(0)),
            ("0e9", Some(0)),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("1e99", None),
            ("1e-99", Some(0)),
        ] {
            assert_eq!(rounded(text), whole, "{text}");
        }
    }

    #[test]
    fn digits_of_values() {
        for (document, read) in [
            ("2.50", Ok(Some("2.50"))),
            ("\" 12 \"", Ok(Some("12"))),
            ("null", Ok(None)),
            ("true", Err(())),
            ("\"x\"", Err(())),
            ("\"NaN\"", Err(())),
            ("\"-\"", Err(())),
            ("[1]", Err(())),
        ] {
            assert_eq!(digits(document), read.map(|text| text.map(Cow::Borrowed)), "{document}");
        }
    }
}
