//! JSON values in comparisons with each other and with numbers.
//!
//! The value of `j -> 'a'` is of any type. Two are equal where they are the same value: numbers of one amount (`3` and `3.0`), the same text, the
//! same JSON. Which is greater is asked of two numbers, two texts or two truth values; of others it is not known.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringViewArray, UnionArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UnionMode};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;

use super::definition::{Call, Definition, Param};

/// A text that is the same for equal JSON values; null for a JSON null.
pub(super) static JSON_KEY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| keys(call, |value| value.key());
    Definition { name: "__json_key", params: &[Param::Any], optional: 0, returns: |_| DataType::Utf8View, invoke }.udf()
});

/// A text that is the same for numbers of one amount, in JSON or not; null for all that is no number.
pub(super) static NUMBER_KEY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| keys(call, |value| if value.is_number() { value.key() } else { None });
    Definition { name: "__number_key", params: &[Param::Any], optional: 0, returns: |_| DataType::Utf8View, invoke }
        .udf()
});

/// -1, 0 or 1 as the first is less than, equal to, or greater than the second; null where that is not known.
pub(super) static JSON_ORDER: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let params = &[Param::Any, Param::Any];
    Definition { name: "__json_order", params, optional: 0, returns: |_| DataType::Int64, invoke: orders }.udf()
});

/// The same values, each in the one way in which equal ones are written.
pub(super) static JSON_PLAIN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| plain(&call.array(0)?);
    Definition { name: "__json_plain", params: &[Param::Any], optional: 0, returns: |types| types[0].clone(), invoke }
        .udf()
});

/// One value.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// An array or an object, as its JSON.
    Other(String),
}

impl Value {
    fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Float(_))
    }

    fn key(&self) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => match whole(*value) {
                Some(value) => value.to_string(),
                None => value.to_string(),
            },
            Self::Text(text) => format!("\"{text}"),
            Self::Other(json) => {
                serde_json::from_str::<serde_json::Value>(json).map_or_else(|_| json.clone(), |v| v.to_string())
            }
        })
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Float(b)) => int_to_float(*a, *b),
            (Self::Float(a), Self::Int(b)) => int_to_float(*b, *a).map(Ordering::reverse),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// The integer that a float is.
fn whole(value: f64) -> Option<i64> {
    // Both bounds are floats, and the upper one is no i64 any more.
    let fits = value >= i64::MIN as f64 && value < i64::MAX as f64;
    (fits && value.fract() == 0.0).then_some(value as i64)
}

/// Exactly, also where a float cannot hold the integer.
fn int_to_float(int: i64, float: f64) -> Option<Ordering> {
    match whole(float) {
        Some(float) => Some(int.cmp(&float)),
        None => (int as f64).partial_cmp(&float),
    }
}

/// Bytes in the order of the values, in which each of two has a place: texts, numbers, truth values, and by their text arrays and objects.
fn sort_key(value: &Value) -> Option<Vec<u8>> {
    // A float whose bits are in order, and how far beyond it an integer lies that no float is.
    let number = |float: f64, beyond: i64| {
        let bits = (float + 0.0).to_bits() as i64;
        let ordered = (bits ^ ((bits >> 63) as u64 >> 1) as i64) ^ i64::MIN;
        [&[2][..], &ordered.to_be_bytes(), &(beyond ^ i64::MIN).to_be_bytes()].concat()
    };
    Some(match value {
        Value::Null => return None,
        Value::Text(text) => [&[1][..], text.as_bytes()].concat(),
        Value::Int(int) => number(*int as f64, (i128::from(*int) - (*int as f64) as i128) as i64),
        Value::Float(float) => number(*float, 0),
        Value::Bool(value) => vec![3, u8::from(*value)],
        Value::Other(_) => [&[4][..], value.key()?.as_bytes()].concat(),
    })
}

/// Of each value of a column of JSON; of nulls none.
pub(super) fn sort_keys(array: &ArrayRef) -> Result<Vec<Option<Vec<u8>>>> {
    Ok(values(array)?.iter().map(sort_key).collect())
}

/// The values of a column of JSON or of numbers.
fn values(array: &ArrayRef) -> Result<Vec<Value>> {
    if let Some(union) = array.as_any().downcast_ref::<UnionArray>() {
        return (0..union.len()).map(|row| json_value(union, row)).collect();
    }
    if array.data_type().is_integer() && *array.data_type() != DataType::UInt64 {
        let ints = cast(array, &DataType::Int64)?;
        let ints = ints.as_primitive::<Int64Type>();
        return Ok(ints.iter().map(|value| value.map_or(Value::Null, Value::Int)).collect());
    }
    let floats = cast(array, &DataType::Float64)?;
    let floats = floats.as_primitive::<Float64Type>();
    Ok(floats.iter().map(|value| value.map_or(Value::Null, Value::Float)).collect())
}

fn json_value(union: &UnionArray, row: usize) -> Result<Value> {
    let value = union.value(row);
    if value.is_empty() || value.is_null(0) {
        return Ok(Value::Null);
    }
    Ok(match value.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(value.as_boolean().value(0)),
        DataType::Int64 => Value::Int(value.as_primitive::<Int64Type>().value(0)),
        DataType::Float64 => Value::Float(value.as_primitive::<Float64Type>().value(0)),
        _ => {
            let text = cast(&value, &DataType::Utf8View)?.as_string_view().value(0).to_string();
            let is_json = matches!(union.data_type(), DataType::Union(fields, _)
                if fields.iter().any(|(id, field)| id == union.type_id(row) && field.metadata().contains_key("is_json")));
            if is_json { Value::Other(text) } else { Value::Text(text) }
        }
    })
}

/// Numbers without a fraction as whole ones, arrays and objects in their shortest form.
fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    let Some(union) = array.as_any().downcast_ref::<UnionArray>() else { return Ok(Arc::clone(array)) };
    let DataType::Union(fields, UnionMode::Sparse) = union.data_type() else { return Ok(Arc::clone(array)) };
    let of_type = |wanted: &DataType| fields.iter().find(|(_, field)| field.data_type() == wanted).map(|(id, _)| id);
    let (Some(int), Some(float)) = (of_type(&DataType::Int64), of_type(&DataType::Float64)) else {
        return Ok(Arc::clone(array));
    };
    let floats = union.child(float).as_primitive::<Float64Type>();
    let wholes: Vec<Option<i64>> = (0..union.len())
        .map(|row| match union.type_id(row) == float && floats.is_valid(row) {
            true => whole(floats.value(row)),
            false => None,
        })
        .collect();
    let type_ids = (0..union.len()).map(|row| if wholes[row].is_some() { int } else { union.type_id(row) });
    let children = fields.iter().map(|(id, field)| -> Result<ArrayRef> {
        let child = union.child(id);
        if id == int {
            let ints = child.as_primitive::<Int64Type>().iter().zip(&wholes);
            return Ok(Arc::new(ints.map(|(value, whole)| whole.or(value)).collect::<Int64Array>()));
        }
        if !field.metadata().contains_key("is_json") {
            return Ok(Arc::clone(child));
        }
        let texts = cast(child, &DataType::Utf8View)?;
        let shortest = texts.as_string_view().iter().map(|text| {
            text.map(|text| match serde_json::from_str::<serde_json::Value>(text) {
                Ok(value) => value.to_string(),
                Err(_) => text.to_owned(),
            })
        });
        Ok(cast(&shortest.collect::<StringViewArray>(), field.data_type())?)
    });
    let children = children.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(UnionArray::try_new(fields.clone(), type_ids.collect(), None, children)?))
}

fn keys(call: &Call, key: fn(&Value) -> Option<String>) -> Result<ArrayRef> {
    let keys: StringViewArray = values(&call.array(0)?)?.iter().map(key).collect();
    Ok(Arc::new(keys))
}

fn orders(call: &Call) -> Result<ArrayRef> {
    let (left, right) = (values(&call.array(0)?)?, values(&call.array(1)?)?);
    let orders: Int64Array =
        left.iter().zip(&right).map(|(left, right)| left.order(right).map(|order| order as i64)).collect();
    Ok(Arc::new(orders))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A float that is near an integer is not it: 2^53 + 1 has no float.
    #[test]
    fn numbers_by_their_amount() {
        let (int, float) = (Value::Int(9_007_199_254_740_993), Value::Float(9_007_199_254_740_992.0));
        assert_eq!(int.order(&float), Some(Ordering::Greater));
        assert_eq!(float.order(&int), Some(Ordering::Less));
        assert_eq!(Value::Int(3).order(&Value::Float(3.0)), Some(Ordering::Equal));
        assert_eq!(Value::Int(3).order(&Value::Float(2.5)), Some(Ordering::Greater));
        assert_eq!(Value::Int(i64::MAX).order(&Value::Float(1e300)), Some(Ordering::Less));
        let text = |text: &str| Value::Text(text.to_owned());
        let sorted = [
            text(""),
            text("10"),
            text("9"),
            Value::Float(f64::NEG_INFINITY),
            Value::Int(i64::MIN),
            Value::Float(-2.5),
            Value::Int(-1),
            Value::Int(0),
            Value::Float(1.5),
            Value::Int(10),
            Value::Float(9_007_199_254_740_992.0),
            Value::Int(9_007_199_254_740_993),
            Value::Int(9_007_199_254_740_995),
            Value::Int(i64::MAX),
            Value::Float(1e300),
            Value::Bool(false),
            Value::Bool(true),
            Value::Other("[1]".to_owned()),
        ];
        assert!(sorted.windows(2).all(|pair| sort_key(&pair[0]) < sort_key(&pair[1])));
        assert_eq!(sort_key(&Value::Int(3)), sort_key(&Value::Float(3.0)));
        assert_eq!(sort_key(&Value::Float(-0.0)), sort_key(&Value::Int(0)));
        assert_eq!(Value::Int(3).order(&Value::Text("3".into())), None);
        assert_eq!(Value::Float(-0.0).key(), Value::Int(0).key());
        assert_eq!(Value::Float(3.0).key(), Value::Int(3).key());
        assert_ne!(Value::Text("3".into()).key(), Value::Int(3).key());
        assert_eq!(Value::Null.key(), None);
        assert_eq!(Value::Other("{\"a\": 1}".into()).key(), Value::Other("{ \"a\":1 }".into()).key());
    }
}
