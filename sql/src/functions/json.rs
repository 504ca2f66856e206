//! `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS` with SQL's paths (`$.a.b[0]`), beside the functions of `datafusion-functions-json`.
//!
//! Those take keys one by one (`json_get_str(j, 'a', 'b')`, `j ->> 'a'`) and skip over what they do not need, so prefer them where the
//! rate is high. A text that is no JSON has no value: NULL, and no error.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringViewArray, UnionArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Result, exec_err};
use serde_json::Value;

use super::definition::{Call, Definition, Param};

pub(crate) fn definitions() -> Vec<Definition> {
    let text = |name, invoke| Definition {
        name,
        params: &[Param::Text, Param::Text],
        optional: 0,
        returns: |_| DataType::Utf8View,
        invoke,
    };
    vec![
        Definition {
            name: "json_value",
            params: &[Param::Text, Param::Text, Param::Text, Param::Text],
            optional: 2,
            returns: |_| DataType::Utf8View,
            invoke: json_value,
        },
        text("json_query", |call| {
            texts(call, |value| (value.is_object() || value.is_array()).then(|| value.to_string()))
        }),
        Definition {
            name: "json_exists",
            params: &[Param::Text, Param::Text],
            optional: 0,
            returns: |_| DataType::Boolean,
            invoke: json_exists,
        },
    ]
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PathStep {
    Key(String),
    Index(usize),
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `JSON_VALUE(document, path[, on_empty[, on_error]])`: the one where the document has nothing at the path, the other where it is no JSON, or an array or
/// object is there.
fn json_value(call: &Call) -> Result<ArrayRef> {
    let (documents, on_empty, on_error) = (call.text(0)?, call.text(2)?, call.text(3)?);
    let found = found(call, |value| value.map(|value| (scalar_text(value), value.is_array() || value.is_object())))?;
    let or = |texts: &StringViewArray, row: usize| texts.is_valid(row).then(|| texts.value(row).to_owned());
    let rows = found.into_iter().enumerate().map(|(row, found)| match found {
        // No document or no path.
        None => None,
        Some(Some((text, false))) => text,
        Some(Some((_, true))) => or(&on_error, row),
        Some(None) if on_empty.is_null(row) && on_error.is_null(row) => None,
        Some(None) => match serde_json::from_str::<serde::de::IgnoredAny>(documents.value(row)) {
            Ok(_) => or(&on_empty, row),
            Err(_) => or(&on_error, row),
        },
    });
    Ok(Arc::new(rows.collect::<StringViewArray>()))
}

fn texts(call: &Call, show: fn(&Value) -> Option<String>) -> Result<ArrayRef> {
    let rows = found(call, |value| value.and_then(show))?.into_iter().map(Option::flatten);
    Ok(Arc::new(rows.collect::<StringViewArray>()))
}

fn json_exists(call: &Call) -> Result<ArrayRef> {
    Ok(Arc::new(found(call, |value| value.is_some())?.into_iter().collect::<BooleanArray>()))
}

/// Per row what `show` makes of the value at the path; none where the document or the path is null.
fn found<T>(call: &Call, show: impl Fn(Option<&Value>) -> T) -> Result<Vec<Option<T>>> {
    let (documents, paths) = (call.text(0)?, call.text(1)?);
    let mut last: Option<(&str, Vec<PathStep>)> = None;
    let mut out = Vec::with_capacity(call.rows);
    for (document, path) in documents.iter().zip(paths.iter()) {
        let (Some(document), Some(path)) = (document, path) else {
            out.push(None);
            continue;
        };
        let steps = match &last {
            Some((text, steps)) if *text == path => steps,
            _ => &last.insert((path, parse_path(path)?)).1,
        };
        let root = serde_json::from_str::<Value>(document).ok();
        let value = steps.iter().try_fold(root.as_ref(), |value, step| match step {
            PathStep::Key(key) => value?.get(key.as_str()).map(Some),
            PathStep::Index(index) => value?.get(*index).map(Some),
        });
        out.push(Some(show(value.flatten())));
    }
    Ok(out)
}

fn parse_path(path: &str) -> Result<Vec<PathStep>> {
    let trimmed = path.trim();
    let plain = trimmed.strip_prefix("lax ").or_else(|| trimmed.strip_prefix("strict ")).unwrap_or(trimmed).trim();
    let steps = plain.strip_prefix('$').and_then(|mut rest| {
        let mut steps = vec![];
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let key = after[..end].trim_matches('"');
                if key.is_empty() || key == "*" {
                    return None;
                }
                steps.push(PathStep::Key(key.to_string()));
                rest = &after[end..];
            } else {
                let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
                let quoted = inside.trim().trim_matches(['\'', '"']);
                steps.push(match inside.trim() == quoted {
                    true => PathStep::Index(quoted.parse().ok()?),
                    false => PathStep::Key(quoted.to_string()),
                });
                rest = after;
            }
        }
        Some(steps)
    });
    match steps {
        Some(steps) => Ok(steps),
        None => exec_err!("JSON path '{path}' is not of the form `$.key[0]['other key']`"),
    }
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
