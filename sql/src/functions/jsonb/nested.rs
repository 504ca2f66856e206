//! JSON values as rows, maps and arrays of them: `CAST(PARSE_JSON(text) AS ROW<id BIGINT, tags MAP<STRING, STRING>>)`.
//!
//! An object becomes a `ROW` by the names of its fields, exactly or else ignoring case; a field that is not there is NULL, one that the type has
//! not is left out. Plain values are read as a cast of their text reads them, a text without its quotes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, MapArray, StringViewArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

use super::tree::Json;
use crate::functions::convert::has_fields;
use crate::types::sql_name;

/// How plain values become others: an array, the type, and whether what does not fit is NULL.
type Convert<'a> = &'a dyn Fn(&ArrayRef, &DataType, bool) -> Result<ArrayRef, ArrowError>;

/// Whether values of `from` become values of `to` here: JSON, or a text of it, and a type with a `ROW` or a `MAP` in it.
pub(crate) fn reads(from: &DataType, to: &DataType) -> bool {
    has_fields(to) && (matches!(from, DataType::Union(..)) || super::is_text(from))
}

/// The values of `to` that JSON texts say; with `lenient` NULL where one does not fit.
///
/// # Errors
/// A text is no JSON, or a value does not fit its type.
pub(in crate::functions) fn values_of_texts(
    texts: &[Option<String>],
    to: &DataType,
    lenient: bool,
    convert: Convert<'_>,
) -> Result<ArrayRef, ArrowError> {
    let mut trees = Vec::with_capacity(texts.len());
    for text in texts {
        let tree = text.as_deref().map(|text| Json::parse(text).ok_or(text));
        trees.push(match tree.transpose() {
            Ok(tree) => tree,
            Err(_) if lenient => None,
            Err(text) => {
                let to = sql_name(to);
                return Err(ArrowError::CastError(format!("'{text}' is no JSON, of which a cast makes a {to}")));
            }
        });
    }
    let trees: Vec<Option<&Json>> = trees.iter().map(Option::as_ref).collect();
    values(&trees, to, lenient, convert)
}

fn values(trees: &[Option<&Json>], to: &DataType, lenient: bool, convert: Convert<'_>) -> Result<ArrayRef, ArrowError> {
    match to {
        DataType::Struct(fields) => {
            let objects = taken(trees, to, lenient, |tree| match tree {
                Json::Object(fields) => Some(fields),
                _ => None,
            })?;
            let column = |field: &Arc<Field>| {
                let of_rows = objects.iter().map(|object| value_of((*object)?, field.name()));
                values(&of_rows.collect::<Vec<_>>(), field.data_type(), lenient, convert)
            };
            let columns = fields.iter().map(column).collect::<Result<_, _>>()?;
            let nulls = NullBuffer::from_iter(objects.iter().map(Option::is_some));
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), trees.len())?))
        }
        DataType::List(field) => {
            let lists = taken(trees, to, lenient, |tree| match tree {
                Json::Array(elements) => Some(elements),
                _ => None,
            })?;
            let elements: Vec<Option<&Json>> = lists.iter().flatten().flat_map(|list| list.iter().map(Some)).collect();
            let elements = values(&elements, field.data_type(), lenient, convert)?;
            let (offsets, nulls) = places(&lists);
            Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, elements, Some(nulls))?))
        }
        DataType::Map(entries, sorted) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(ArrowError::CastError(format!("{to} is no MAP")));
            };
            let mut objects = taken(trees, to, lenient, |tree| match tree {
                Json::Object(fields) => Some(fields),
                _ => None,
            })?;
            if lenient {
                let is_key = |key: &String| {
                    let key: ArrayRef = Arc::new(StringViewArray::from_iter([Some(key)]));
                    convert(&key, fields[0].data_type(), true).is_ok_and(|key| key.is_valid(0))
                };
                for object in &mut objects {
                    *object = object.filter(|object| object.iter().all(|(key, _)| is_key(key)));
                }
            }
            let all: Vec<&(String, Json)> = objects.iter().flatten().flat_map(|object| object.iter()).collect();
            let keys: ArrayRef = Arc::new(all.iter().map(|(key, _)| Some(key)).collect::<StringViewArray>());
            let keys = convert(&keys, fields[0].data_type(), false)?;
            let of_keys: Vec<Option<&Json>> = all.iter().map(|(_, value)| Some(value)).collect();
            let columns = vec![keys, values(&of_keys, fields[1].data_type(), lenient, convert)?];
            let (offsets, nulls) = places(&objects);
            let rows = StructArray::try_new(fields.clone(), columns, None)?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, rows, Some(nulls), *sorted)?))
        }
        plain => {
            let text = |tree: &Option<&Json>| match tree {
                None | Some(Json::Null) => None,
                Some(Json::Text(text)) => Some(text.clone()),
                // An integer is rounded, as a cast of the value itself does it.
                Some(Json::Number(digits)) if plain.is_integer() && digits.contains(['.', 'e', 'E']) => {
                    Some(digits.parse::<f64>().map_or_else(|_| digits.clone(), |number| number.round().to_string()))
                }
                Some(other) => Some(other.text()),
            };
            let texts: ArrayRef = Arc::new(trees.iter().map(text).collect::<StringViewArray>());
            if !super::is_text(plain) {
                return convert(&texts, plain, lenient);
            }
            arrow::compute::cast(&texts, plain)
        }
    }
}

/// Per row what `part` takes out of its value; none where there is none.
fn taken<'a, T>(
    trees: &[Option<&'a Json>],
    to: &DataType,
    lenient: bool,
    part: impl Fn(&'a Json) -> Option<&'a Vec<T>>,
) -> Result<Vec<Option<&'a Vec<T>>>, ArrowError> {
    let of_row = |tree: &Option<&'a Json>| match tree {
        None | Some(Json::Null) => Ok(None),
        Some(tree) => match part(tree) {
            None if !lenient => {
                Err(ArrowError::CastError(format!("the JSON value `{}` is no {}", tree.text(), sql_name(to))))
            }
            part => Ok(part),
        },
    };
    trees.iter().map(of_row).collect()
}

/// Where each row's parts lie among those of all rows.
fn places<T>(rows: &[Option<&Vec<T>>]) -> (OffsetBuffer<i32>, NullBuffer) {
    let lengths = rows.iter().map(|row| row.map_or(0, Vec::len));
    (OffsetBuffer::from_lengths(lengths), NullBuffer::from_iter(rows.iter().map(Option::is_some)))
}

/// The value of a field, the last one of equal names.
fn value_of<'a>(object: &'a [(String, Json)], name: &str) -> Option<&'a Json> {
    let mut fields = object.iter().rev();
    let exact = fields.clone().find(|(key, _)| key == name);
    exact.or_else(|| fields.find(|(key, _)| key.eq_ignore_ascii_case(name))).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;
    use crate::functions::convert;
    use crate::parser::parse_type;

    fn read(texts: &[&str], to: &str, lenient: bool) -> Result<Vec<String>, String> {
        let texts: Vec<Option<String>> = texts.iter().map(|text| Some((*text).to_owned())).collect();
        let to = parse_type(to).expect("a type");
        let values = values_of_texts(&texts, &to, lenient, &convert::convert).map_err(|error| error.to_string())?;
        assert_eq!(values.data_type(), &to);
        let text = convert::convert(&values, &DataType::Utf8View, false).map_err(|error| error.to_string())?;
        Ok(text.as_string_view().iter().map(|text| text.unwrap_or("NULL").to_owned()).collect())
    }

    #[test]
    fn objects_become_rows_and_maps_at_any_depth() {
        let to = "ROW<id BIGINT, at TIMESTAMP(3), tags MAP<STRING, INT>, lines ARRAY<ROW<sku STRING, n INT>>>";
        let texts = [
            r#"{"ID": 7, "at": "2026-01-02 03:04:05", "tags": {"a": 1, "b": null}, "lines": [{"n": "2", "sku": "x"}, null], "more": 1}"#,
            r#"{"id": 9007199254740993}"#,
            "null",
        ];
        assert_eq!(
            read(&texts, to, false).expect("they fit"),
            ["(7, 2026-01-02 03:04:05, {a=1, b=NULL}, [(x, 2), NULL])", "(9007199254740993, NULL, NULL, NULL)", "NULL"]
        );
        assert_eq!(read(&[r#"{"a": 2.5, "b": 1e3}"#], "ROW<a INT, b BIGINT>", false).expect("they fit"), ["(3, 1000)"]);
        assert_eq!(read(&[r#"{"1": {"x": [1]}}"#], "MAP<INT, STRING>", false).expect("it fits"), [r#"{1={"x":[1]}}"#]);
    }

    #[test]
    fn what_does_not_fit_is_told_or_null() {
        for (text, to, reason) in [
            ("[1]", "ROW<a INT>", "the JSON value `[1]` is no ROW<a INT>"),
            ("5", "MAP<STRING, INT>", "the JSON value `5` is no MAP<STRING, INT>"),
            (r#"{"a": {"b": 1}}"#, "ARRAY<ROW<a INT>>", r#"the JSON value `{"a":{"b":1}}` is no ARRAY<ROW<a INT>>"#),
            (r#"{"a": "x"}"#, "ROW<a INT>", "'x'"),
            ("{a}", "ROW<a INT>", "'{a}' is no JSON"),
            (r#"{"x": 1}"#, "MAP<INT, INT>", "'x'"),
        ] {
            let error = read(&[text], to, false).expect_err("it does not fit");
            assert!(error.contains(reason), "{error}\nshould contain: {reason}");
            let null = read(&[text], to, true).expect("lenient");
            assert!(null == ["NULL"] || null == ["(NULL)"], "{null:?}");
        }
    }
}
