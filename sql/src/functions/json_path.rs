//! Paths into JSON documents: `$.key[0]['other key']`, `$.items[*].price`, `$.items[last]`, `$.items[0 to 2]`, `strict $.key`.
//!
//! Without `strict`, what is not there is nothing, which `ON EMPTY` speaks of, a key is asked of the elements of an array, and what is no array is one of
//! one element; with it, all that is an error, which `ON ERROR` speaks of (ISO/IEC 19075-6, 4.10). A path with a `*` or with `to` finds an array of what is
//! there, whatever its mode, as in Flink: what one of several values lacks is no error.

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
    Index(Place),
    /// The elements from one place to another, both included.
    Range(Place, Place),
    /// All elements of an array, or all values of an object.
    All,
}

impl Step {
    /// Whether it finds an array of what is there.
    fn is_of_several(&self) -> bool {
        matches!(self, Self::All | Self::Range(..))
    }
}

/// A place in an array: `2`, `last`, `last - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    At(usize),
    BeforeLast(usize),
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let Some(behind) = text.trim().strip_prefix("last") else { return text.trim().parse().ok().map(Self::At) };
        match behind.trim() {
            "" => Some(Self::BeforeLast(0)),
            behind => behind.strip_prefix('-')?.trim().parse().ok().map(Self::BeforeLast),
        }
    }

    /// The index among so many elements.
    fn index(self, count: usize) -> Option<usize> {
        match self {
            Self::At(index) => Some(index),
            Self::BeforeLast(distance) => count.checked_sub(1)?.checked_sub(distance),
        }
    }
}

/// What is at a path.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'a> {
    One(&'a Value),
    /// Of a path with a `*`, or with places from one to another.
    Several(Vec<&'a Value>),
    /// More than one of the elements of an array that the path does not ask for.
    Unwrapped(Vec<&'a Value>),
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
            None => exec_err!(
                "JSON path '{text}' is not of the form `$.key[0]['other key'][*]`, `$.key[last]`, `$.key[0 to 2]`"
            ),
        }
    }

    pub(super) fn find<'a>(&self, root: &'a Value) -> Found<'a> {
        let first_all = self.steps.iter().position(Step::is_of_several);
        let mut values = vec![root];
        for (place, step) in self.steps.iter().enumerate() {
            let among_several = first_all.is_some_and(|first| place > first);
            let mut next = Vec::with_capacity(values.len());
            for value in values {
                let before = next.len();
                match self.is_strict {
                    true => next.extend(strict(value, step)),
                    false => lax(value, step, &mut next),
                }
                if self.is_strict && !among_several && !step.is_of_several() && next.len() == before {
                    return Found::Error;
                }
            }
            if next.is_empty() && first_all.is_none_or(|first| place < first) {
                return Found::Nothing;
            }
            values = next;
        }
        match (first_all, values.as_slice()) {
            (Some(_), _) => Found::Several(values),
            (None, [value]) => Found::One(value),
            (None, _) => Found::Unwrapped(values),
        }
    }
}

fn strict<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match step {
        Step::Key(key) => value.as_object().and_then(|fields| fields.get(key)).into_iter().collect(),
        Step::Index(place) => {
            let element = |values: &'a Vec<Value>| values.get(place.index(values.len())?);
            value.as_array().and_then(element).into_iter().collect()
        }
        Step::Range(first, last) => {
            let elements = |values: &'a Vec<Value>| {
                let (first, last) = (first.index(values.len()).unwrap_or(0), last.index(values.len())?);
                values.get(first..=last.min(values.len().checked_sub(1)?))
            };
            value.as_array().and_then(elements).into_iter().flatten().collect()
        }
        Step::All => match value {
            Value::Array(values) => values.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => vec![],
        },
    }
}

/// A key is asked of the elements of an array; what is no array is one of one element.
fn lax<'a>(value: &'a Value, step: &Step, out: &mut Vec<&'a Value>) {
    match (step, value) {
        (Step::Key(_), Value::Array(values)) => out.extend(values.iter().flat_map(|value| strict(value, step))),
        (Step::Index(Place::At(0) | Place::BeforeLast(0)), value) if !value.is_array() => out.push(value),
        _ => out.extend(strict(value, step)),
    }
}

fn steps(mut rest: &str) -> Option<Vec<Step>> {
    let mut steps = vec![];
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.').filter(|after| !after.starts_with('[')) {
            let is_quoted = after.starts_with('"');
            let (key, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(['.', '[']).unwrap_or(after.len())),
            };
            // A method or a filter.
            if key.is_empty() || !is_quoted && key.contains(['(', ')', '?']) {
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
                        places => match places.split_once(" to ") {
                            Some((first, last)) => (Step::Range(Place::parse(first)?, Place::parse(last)?), after),
                            None => (Step::Index(Place::parse(places)?), after),
                        },
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
            ("$.a.b[last]", Found::One(&json!(2))),
            ("$.a.b[last - 1]", Found::One(&json!(1))),
            ("$.a.b[ last-2 ]", Found::Nothing),
            ("$.a.b[0 to last]", Found::Several(vec![&json!(1), &json!(2)])),
            ("$.a.b[1 to 7]", Found::Several(vec![&json!(2)])),
            ("$.items[1 to 2].p", Found::Several(vec![&json!([2])])),
            ("lax $.items.p", Found::Unwrapped(vec![&json!(1), &json!([2])])),
            ("$.items.q", Found::Nothing),
            ("strict $.items.p", Found::Error),
            ("$.items[2].p[0]", Found::One(&json!(2))),
            ("$.items[0][0].p[0]", Found::One(&json!(1))),
            ("$.items[0].p[1]", Found::Nothing),
            ("strict $.items[0].p[0]", Found::Error),
        ] {
            let parsed = Path::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(parsed.find(&document), expected, "{path}");
        }
        for path in ["a", "$a", "$.", "$[x]", "$['a", "$..a", "$.size()", "$.a?(@.b > 1)", "$[last + 1]", "$[0 to]"] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
    }
}
