//! `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS` with SQL's paths (`$.a.b[0]`), beside the functions of `datafusion-functions-json`.
//!
//! Those take keys one by one (`json_get_str(j, 'a', 'b')`, `j ->> 'a'`) and skip over what they do not need, so prefer them where the
//! rate is high. A text that is no JSON has no value: NULL, and no error.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringViewArray};
use arrow::datatypes::DataType;
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
        text("json_value", |call| texts(call, scalar_text)),
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
