//! Paths into JSON documents: `$.key[0]['other key']`, `$.items[*].price`, `strict $.key`.
//!
//! Without `strict`, what is not there is nothing, which `ON EMPTY` speaks of; with it, an error, which `ON ERROR` speaks of. A path with a `*` finds an
//! array of what is there, whatever its mode, as in Flink: what one of several values lacks is no error.

use datafusion::common::{Result, exec_err};
use serde_json::Value;

/// A path that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    steps: Vec<Step>,
    is_strict: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    /// All elements of an array, or all values of an object.
    All,
}

/// What is at a path.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'a> {
    One(&'a Value),
    /// Of a path with a `*`.
    Several(Vec<&'a Value>),
    Nothing,
    /// No JSON, or nothing where the path is strict.
    Error,
}

impl Path {
    /// # Errors
    /// The text is no path, or one of the standard's that is not supported.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let trimmed = text.trim();
        let (is_strict, plain) = match (trimmed.strip_prefix("strict "), trimmed.strip_prefix("lax ")) {
            (Some(plain), _) => (true, plain),
            (None, plain) => (false, plain.unwrap_or(trimmed)),
        };
        match plain.trim().strip_prefix('$').and_then(steps) {
            Some(steps) => Ok(Self { steps, is_strict }),
            None => exec_err!("JSON path '{text}' is not of the form `$.key[0]['other key'][*]`"),
        }
    }

    pub(super) fn find<'a>(&self, root: &'a Value) -> Found<'a> {
        let Some(first_all) = self.steps.iter().position(|step| step == &Step::All) else {
            return match (one(root, &self.steps), self.is_strict) {
                (Some(value), _) => Found::One(value),
                (None, false) => Found::Nothing,
                (None, true) => Found::Error,
            };
        };
        let (before, rest) = self.steps.split_at(first_all);
        let Some(value) = one(root, before) else {
            return if self.is_strict { Found::Error } else { Found::Nothing };
        };
        let mut values = vec![value];
        for step in rest {
            values = match step {
                Step::All => values.into_iter().flat_map(children).collect(),
                step => values.into_iter().filter_map(|value| one(value, std::slice::from_ref(step))).collect(),
            };
        }
        Found::Several(values)
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => vec![],
    }
}

/// Along steps of which none is [`Step::All`].
fn one<'a>(root: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(root, |value, step| match step {
        Step::Key(key) => value.as_object()?.get(key),
        Step::Index(index) => value.as_array()?.get(*index),
        Step::All => None,
    })
}

fn steps(mut rest: &str) -> Option<Vec<Step>> {
    let mut steps = vec![];
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.').filter(|after| !after.starts_with('[')) {
            let (key, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(['.', '[']).unwrap_or(after.len())),
            };
            if key.is_empty() {
                return None;
            }
            let is_all = key == "*";
            steps.push(if is_all { Step::All } else { Step::Key(key.trim_end().to_string()) });
            rest = after;
        } else {
            // `$.['key']` is `$['key']`.
            let inside = rest.strip_prefix('.').unwrap_or(rest).strip_prefix('[')?.trim_start();
            let quote = inside.chars().next().filter(|quote| matches!(quote, '\'' | '"'));
            let (step, after) = match quote {
                Some(quote) => {
                    let (key, after) = inside[1..].split_once(quote)?;
                    (Step::Key(key.to_string()), after.trim_start().strip_prefix(']')?)
                }
                None => {
                    let (inside, after) = inside.split_once(']')?;
                    match inside.trim() {
                        "*" => (Step::All, after),
                        index => (Step::Index(index.parse().ok()?), after),
                    }
                }
            };
            steps.push(step);
            rest = after;
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A path finds what its steps say, and tells nothing from an error.
    #[test]
    fn paths() {
        let document = json!({"a": {"b": [1, 2]}, "x y": 3, "n": null, "items": [{"p": 1}, {}, {"p": [2]}], "d.t": 4});
        let (b, n) = (json!([1, 2]), Value::Null);
        for (path, expected) in [
            ("$", Found::One(&document)),
            ("$.a.b", Found::One(&b)),
            ("lax $.a.b[1]", Found::One(&json!(2))),
            ("$.a.b[2]", Found::Nothing),
            ("strict $.a.b[2]", Found::Error),
            ("$['x y']", Found::One(&json!(3))),
            ("$.[\"d.t\"]", Found::One(&json!(4))),
            ("$.\"d.t\"", Found::One(&json!(4))),
            ("$.n", Found::One(&n)),
            ("$.items[*].p", Found::Several(vec![&json!(1), &json!([2])])),
            ("strict $.items[*].p", Found::Several(vec![&json!(1), &json!([2])])),
            ("$.items[*].p[*]", Found::Several(vec![&json!(2)])),
            ("$.a.*[0]", Found::Several(vec![&json!(1)])),
            ("$.z[*]", Found::Nothing),
            ("strict $.z[*]", Found::Error),
            ("$.b[*]", Found::Nothing),
        ] {
            let parsed = Path::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(parsed.find(&document), expected, "{path}");
        }
        for path in ["a", "$a", "$.", "$[x]", "$['a", "$..a"] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
    }
}
