//! `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS` with SQL's paths (`$.a.b[0]`), beside the functions of `datafusion-functions-json`.
//!
//! Those take keys one by one (`json_get_str(j, 'a', 'b')`, `j ->> 'a'`) and skip over what they do not need, so prefer them where the
//! rate is high. A text that is no JSON has no value: NULL, and no error.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, ListBuilder, StringViewArray, StringViewBuilder, UnionArray};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{and, is_not_null, is_null};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Result, exec_err};
use serde_json::Value;

use super::definition::{Call, Definition, Param};
use super::json_path::{Found, Path};

/// `__json_returning(text, value, otherwise)`: the value, which is the text as another type; where the text is none of it, the other one.
pub(crate) const JSON_RETURNING: &str = "__json_returning";
/// `__json_texts(array)`: an array of JSON as one of texts.
pub(crate) const JSON_TEXTS: &str = "__json_texts";

pub(crate) fn definitions() -> Vec<Definition> {
    vec![
        Definition {
            name: "json_value",
            params: &[Param::Text, Param::Text, Param::Text, Param::Text, Param::Text],
            optional: 3,
            returns: |_| DataType::Utf8View,
            invoke: json_value,
        },
        Definition {
            name: "json_query",
            params: &[Param::Text, Param::Text, Param::Text, Param::Text, Param::Text],
            optional: 3,
            returns: |_| DataType::Utf8View,
            invoke: json_query,
        },
        Definition {
            name: "json_exists",
            params: &[Param::Text, Param::Text, Param::Text],
            optional: 1,
            returns: |_| DataType::Boolean,
            invoke: json_exists,
        },
        Definition::new(
            JSON_RETURNING,
            &[Param::Any, Param::Any, Param::Any],
            |types| types[1].clone(),
            |call| {
                let (text, value, otherwise) = (call.array(0)?, call.array(1)?, call.array(2)?);
                let is_none = and(&is_not_null(&text)?, &is_null(&value)?)?;
                Ok(zip(&is_none, &otherwise, &value)?)
            },
        ),
        Definition::new(
            JSON_TEXTS,
            &[Param::Text],
            |_| DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true))),
            json_texts,
        ),
    ]
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What a row asks for.
struct Row<'a> {
    index: usize,
    path: &'a str,
    found: Found<'a>,
}

/// Per row what `show` makes of what is at the path; none where the document or the path is null.
fn found<T>(call: &Call, mut show: impl FnMut(Row<'_>) -> Result<Option<T>>) -> Result<Vec<Option<T>>> {
    let (documents, paths) = (call.text(0)?, call.text(1)?);
    let mut last: Option<(&str, Path)> = None;
    let mut out = Vec::with_capacity(call.rows);
    for (index, (document, text)) in documents.iter().zip(paths.iter()).enumerate() {
        let (Some(document), Some(text)) = (document, text) else {
            out.push(None);
            continue;
        };
        let path = match &last {
            Some((last, path)) if *last == text => path,
            _ => &last.insert((text, Path::parse(text)?)).1,
        };
        let root = serde_json::from_str::<Value>(document).ok();
        let found = root.as_ref().map_or(Found::Error, |root| path.find(root));
        out.push(show(Row { index, path: text, found })?);
    }
    Ok(out)
}

/// What [`JSON_VALUE`](json_value) and `JSON_QUERY` fail with where `ERROR ON EMPTY` or `ERROR ON ERROR` stands.
fn refused<T>(call: &Call, row: &Row<'_>, is_empty: bool) -> Result<T> {
    let name = call.name.to_uppercase();
    let what = if is_empty { "the document has nothing" } else { "no JSON, or not one value of this kind, is" };
    exec_err!("{name}: {what} at '{}'", row.path)
}

/// `JSON_VALUE(document, path[, on_empty[, on_error[, raised]]])`: the one where the document has nothing at the path, the other where it is no JSON, or
/// an array or object is there. What `raised` names, `empty` and `error`, is an error of the query.
fn json_value(call: &Call) -> Result<ArrayRef> {
    let (on_empty, on_error, raised) = (call.text(2)?, call.text(3)?, call.text(4)?);
    let or = |texts: &StringViewArray, row: usize| texts.is_valid(row).then(|| texts.value(row).to_owned());
    let raises = |row: usize, what: &str| raised.is_valid(row) && raised.value(row).contains(what);
    let rows = found(call, |row| match row.found {
        Found::One(value) if !value.is_array() && !value.is_object() => Ok(scalar_text(value)),
        Found::Nothing if raises(row.index, "empty") => refused(call, &row, true),
        Found::Nothing => Ok(or(&on_empty, row.index)),
        _ if raises(row.index, "error") => refused(call, &row, false),
        _ => Ok(or(&on_error, row.index)),
    })?;
    Ok(Arc::new(rows.into_iter().collect::<StringViewArray>()))
}

/// `JSON_QUERY(document, path[, wrapper[, on_empty[, on_error]]])`: the array or object at the path. The wrapper is `without`, `conditional` (an array is not
/// wrapped) or `unconditional`; what to answer otherwise is `null`, `array`, `object` or `error`.
fn json_query(call: &Call) -> Result<ArrayRef> {
    let (wrappers, on_empty, on_error) = (call.text(2)?, call.text(3)?, call.text(4)?);
    let word = |texts: &StringViewArray, row: usize| match texts.is_valid(row) {
        true => texts.value(row).to_owned(),
        false => String::new(),
    };
    let rows = found(call, |row| {
        let wrapper = word(&wrappers, row.index);
        let value = match &row.found {
            Found::One(value) => Some((*value).clone()),
            Found::Several(values) => Some(Value::Array(values.iter().map(|value| (*value).clone()).collect())),
            // All of them are asked for by a wrapper.
            Found::Unwrapped(values) if matches!(wrapper.as_str(), "conditional" | "unconditional") => {
                let values = Value::Array(values.iter().map(|value| (*value).clone()).collect());
                return Ok(Some(values.to_string()));
            }
            Found::Unwrapped(_) | Found::Nothing | Found::Error => None,
        };
        let value = value.filter(|value| !value.is_null()).map(|value| match (wrapper.as_str(), &value) {
            ("conditional", Value::Array(_)) => value,
            ("conditional" | "unconditional", _) => Value::Array(vec![value]),
            _ => value,
        });
        let (is_empty, otherwise) = match value {
            Some(value @ (Value::Array(_) | Value::Object(_))) => return Ok(Some(value.to_string())),
            None if !matches!(row.found, Found::Error | Found::Unwrapped(_)) => (true, word(&on_empty, row.index)),
            _ => (false, word(&on_error, row.index)),
        };
        match otherwise.as_str() {
            "array" => Ok(Some("[]".into())),
            "object" => Ok(Some("{}".into())),
            "error" => refused(call, &row, is_empty),
            _ => Ok(None),
        }
    })?;
    Ok(Arc::new(rows.into_iter().collect::<StringViewArray>()))
}

/// `JSON_EXISTS(document, path[, on_error])`: whether something is there; what to answer of a text that is no JSON is `false`, `true`, `unknown` or `error`.
fn json_exists(call: &Call) -> Result<ArrayRef> {
    let on_error = call.text(2)?;
    let rows = found(call, |row| match &row.found {
        Found::One(_) | Found::Unwrapped(_) => Ok(Some(true)),
        Found::Several(values) => Ok(Some(!values.is_empty())),
        Found::Nothing => Ok(Some(false)),
        Found::Error => match on_error.is_valid(row.index).then(|| on_error.value(row.index)) {
            Some("true") => Ok(Some(true)),
            Some("unknown") => Ok(None),
            Some("error") => refused(call, &row, false),
            _ => Ok(Some(false)),
        },
    })?;
    Ok(Arc::new(rows.into_iter().collect::<BooleanArray>()))
}

/// The elements of an array of JSON: texts as they are, anything else as JSON.
fn json_texts(call: &Call) -> Result<ArrayRef> {
    let mut out = ListBuilder::new(StringViewBuilder::new());
    for text in &call.text(0)? {
        match text.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            Some(Value::Array(values)) => {
                for value in values {
                    match value {
                        Value::Null => out.values().append_null(),
                        Value::String(text) => out.values().append_value(text),
                        other => out.values().append_value(other.to_string()),
                    }
                }
                out.append(true);
            }
            _ => out.append(false),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// The values of `j -> 'a'` and `json_get(j, ..)`, which are of many types, as texts: a text as it is, anything else as JSON.
pub(crate) fn texts_of(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let texts = json_values(values.as_ref(), false)?;
    Ok(Arc::new(texts.into_iter().collect::<StringViewArray>()))
}

/// Values of a JSON column (the union that `->` and `json_get` give), one for each row: as JSON with `quoted`, otherwise texts without
/// their quotes.
///
/// # Errors
/// The column is none of JSON.
pub fn json_values(values: &dyn Array, quoted: bool) -> Result<Vec<Option<String>>, ArrowError> {
    let union = values.as_any().downcast_ref::<UnionArray>();
    let union = union.ok_or_else(|| ArrowError::CastError(format!("a {} is no JSON", values.data_type())))?;
    let options = FormatOptions::default();
    let mut texts = Vec::with_capacity(union.len());
    for row in 0..union.len() {
        let value = union.value(row);
        if value.is_empty() || value.is_null(0) || value.data_type() == &DataType::Null {
            texts.push(None);
            continue;
        }
        let text = ArrayFormatter::try_new(value.as_ref(), &options)?.value(0).to_string();
        // Arrays and objects are kept as their JSON.
        let is_json = matches!(values.data_type(), DataType::Union(fields, _)
            if fields.iter().any(|(id, field)| id == union.type_id(row) && field.metadata().contains_key("is_json")));
        let is_text = matches!(value.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        texts.push(Some(if quoted && is_text && !is_json { Value::String(text).to_string() } else { text }));
    }
    Ok(texts)
}
