//! What changes a JSON value: `jsonb_set`, `jsonb_insert`, `-`, `#-`, `||`, `jsonb_strip_nulls`.
//!
//! Pure functions of trees; a place that is none in the value leaves it as it is, as in PostgreSQL.

use datafusion::common::{Result, exec_err};

use super::tree::Json;

/// Where in an array of `len` values a step of a path points: from the end, where it is negative. It may lie outside.
fn place(step: &str, len: usize) -> Result<i64> {
    match step.trim().parse::<i64>() {
        Ok(index) if index < 0 => Ok(index + len as i64),
        Ok(index) => Ok(index),
        Err(_) => exec_err!("a path has '{step}' where an array is, whose places are numbers"),
    }
}

/// The index of a value that is there.
pub(super) fn index_of(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index + len as i64 } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

/// The value at a path; none where nothing is.
pub(super) fn at_path<'a>(json: &'a Json, path: &[String]) -> Option<&'a Json> {
    path.iter().try_fold(json, |value, step| match value {
        Json::Object(_) => value.get(step),
        Json::Array(values) => values.get(index_of(step.trim().parse().ok()?, values.len())?),
        _ => None,
    })
}

/// `jsonb_set(json, path, new, creates)`: `new` in the place of what is at the path; with `creates` also where nothing is yet.
pub(super) fn set(json: &mut Json, path: &[String], new: Json, creates: bool) -> Result<()> {
    let [step, rest @ ..] = path else { return Ok(()) };
    match json {
        Json::Object(fields) => match fields.iter_mut().find(|(key, _)| key == step) {
            Some((_, value)) if rest.is_empty() => *value = new,
            Some((_, value)) => set(value, rest, new, creates)?,
            None if rest.is_empty() && creates => {
                fields.push((step.clone(), new));
                *json = Json::object(std::mem::take(fields));
            }
            None => {}
        },
        Json::Array(values) => {
            let place = place(step, values.len())?;
            match usize::try_from(place).ok().filter(|index| *index < values.len()) {
                Some(index) if rest.is_empty() => values[index] = new,
                Some(index) => set(&mut values[index], rest, new, creates)?,
                None if rest.is_empty() && creates && place < 0 => values.insert(0, new),
                None if rest.is_empty() && creates => values.push(new),
                None => {}
            }
        }
        _ => {}
    }
    Ok(())
}

/// `jsonb_insert(json, path, new, after)`: `new` before or after the element of an array at the path, or under a key that is not there yet.
pub(super) fn insert(json: &mut Json, path: &[String], new: Json, after: bool) -> Result<()> {
    let [step, rest @ ..] = path else { return Ok(()) };
    match json {
        Json::Object(fields) => match fields.iter_mut().find(|(key, _)| key == step) {
            Some(_) if rest.is_empty() => {
                return exec_err!("JSONB_INSERT: the key '{step}' is there already; `jsonb_set` replaces its value");
            }
            Some((_, value)) => insert(value, rest, new, after)?,
            None if rest.is_empty() => {
                fields.push((step.clone(), new));
                *json = Json::object(std::mem::take(fields));
            }
            None => {}
        },
        Json::Array(values) => {
            let place = place(step, values.len())?;
            match usize::try_from(place).ok().filter(|index| *index < values.len()) {
                Some(index) if rest.is_empty() => values.insert(index + usize::from(after), new),
                Some(index) => insert(&mut values[index], rest, new, after)?,
                None if rest.is_empty() && place < 0 => values.insert(0, new),
                None if rest.is_empty() => values.push(new),
                None => {}
            }
        }
        _ => {}
    }
    Ok(())
}

/// `json - 'key'`: an object without the key, an array without the texts that are it. None of a value that is neither.
pub(super) fn without_key(json: Json, key: &str) -> Option<Json> {
    Some(match json {
        Json::Object(fields) => Json::Object(fields.into_iter().filter(|(name, _)| name != key).collect()),
        Json::Array(values) => {
            Json::Array(values.into_iter().filter(|value| !matches!(value, Json::Text(text) if text == key)).collect())
        }
        _ => return None,
    })
}

/// `json - index`: an array without the element. None of a value that is no array.
pub(super) fn without_index(json: Json, index: i64) -> Option<Json> {
    let Json::Array(mut values) = json else { return None };
    if let Some(index) = index_of(index, values.len()) {
        values.remove(index);
    }
    Some(Json::Array(values))
}

/// `json #- path`.
pub(super) fn without_path(json: &mut Json, path: &[String]) -> Result<()> {
    let [step, rest @ ..] = path else { return Ok(()) };
    match json {
        Json::Object(fields) if rest.is_empty() => fields.retain(|(key, _)| key != step),
        Json::Object(fields) => {
            if let Some((_, value)) = fields.iter_mut().find(|(key, _)| key == step) {
                without_path(value, rest)?;
            }
        }
        Json::Array(values) => {
            let place = place(step, values.len())?;
            if let Some(index) = usize::try_from(place).ok().filter(|index| *index < values.len()) {
                match rest.is_empty() {
                    true => drop(values.remove(index)),
                    false => without_path(&mut values[index], rest)?,
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// `left || right`: two objects become one, of equal keys the right one's; anything else is an array of all elements.
pub(super) fn joined(left: Json, right: Json) -> Json {
    match (left, right) {
        (Json::Object(mut left), Json::Object(right)) => {
            left.extend(right);
            Json::object(left)
        }
        (left, right) => {
            let elements = |json| match json {
                Json::Array(values) => values,
                other => vec![other],
            };
            let mut values = elements(left);
            values.extend(elements(right));
            Json::Array(values)
        }
    }
}

/// Objects without the fields that are null, at any depth.
pub(super) fn without_nulls(json: Json) -> Json {
    match json {
        Json::Object(fields) => {
            let known = fields.into_iter().filter(|(_, value)| *value != Json::Null);
            Json::Object(known.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Json::Array(values) => Json::Array(values.into_iter().map(without_nulls).collect()),
        scalar => scalar,
    }
}

/// `left @> right`, as PostgreSQL has it: an object contains one of some of its fields, an array one of some of its elements, in any order, and an array a
/// single value that is one of them.
pub(super) fn contains(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Array(values), scalar) if scalar.is_scalar() => values.iter().any(|value| value.same(scalar)),
        (left, right) => contains_inside(left, right),
    }
}

fn contains_inside(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Object(_), Json::Object(fields)) => {
            fields.iter().all(|(key, value)| left.get(key).is_some_and(|own| contains_inside(own, value)))
        }
        (Json::Array(own), Json::Array(values)) => {
            values.iter().all(|value| own.iter().any(|own| contains_inside(own, value)))
        }
        (left, right) => left.same(right),
    }
}

/// `json ? 'key'`: a key of an object, a text of an array, or the text itself.
pub(super) fn has_key(json: &Json, key: &str) -> bool {
    match json {
        Json::Object(_) => json.get(key).is_some(),
        Json::Array(values) => values.iter().any(|value| matches!(value, Json::Text(text) if text == key)),
        Json::Text(text) => text == key,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).expect("it is JSON")
    }

    fn path(steps: &[&str]) -> Vec<String> {
        steps.iter().map(|step| step.to_string()).collect()
    }

    /// The answers of PostgreSQL's documentation and regression suite.
    #[test]
    fn places_are_set() {
        for (document, steps, new, creates, expected) in [
            (
                r#"[{"f1":1,"f2":null},2,null,3]"#,
                &["0", "f1"][..],
                "[2,3,4]",
                false,
                r#"[{"f1":[2,3,4],"f2":null},2,null,3]"#,
            ),
            (r#"[{"f1":1,"f2":null},2]"#, &["0", "f3"], "[2,3,4]", true, r#"[{"f1":1,"f2":null,"f3":[2,3,4]},2]"#),
            (r#"{"a":1}"#, &["b"], "2", false, r#"{"a":1}"#),
            (r#"{"a":1}"#, &["b", "c"], "2", true, r#"{"a":1}"#),
            ("[1,2]", &["-1"], "9", true, "[1,9]"),
            ("[1,2]", &["-9"], "9", true, "[9,1,2]"),
            ("[1,2]", &["9"], "9", true, "[1,2,9]"),
            ("[1,2]", &[], "9", true, "[1,2]"),
            ("3", &["a"], "9", true, "3"),
        ] {
            let mut value = json(document);
            set(&mut value, &path(steps), json(new), creates).expect("a path");
            assert_eq!(value.text(), expected, "{document} {steps:?}");
        }
        assert!(set(&mut json("[1]"), &path(&["a"]), Json::Null, true).is_err());
    }

    #[test]
    fn values_are_put_in() {
        for (document, steps, after, expected) in [
            (r#"{"a":[0,1,2]}"#, &["a", "1"][..], false, r#"{"a":[0,9,1,2]}"#),
            (r#"{"a":[0,1,2]}"#, &["a", "1"], true, r#"{"a":[0,1,9,2]}"#),
            (r#"{"a":[0,1,2]}"#, &["a", "-1"], true, r#"{"a":[0,1,2,9]}"#),
            (r#"{"a":1}"#, &["b"], true, r#"{"a":1,"b":9}"#),
        ] {
            let mut value = json(document);
            insert(&mut value, &path(steps), json("9"), after).expect("a path");
            assert_eq!(value.text(), expected, "{document} {steps:?}");
        }
        assert!(insert(&mut json(r#"{"a":1}"#), &path(&["a"]), Json::Null, true).is_err());
    }

    #[test]
    fn parts_are_taken_out_and_joined() {
        assert_eq!(without_key(json(r#"{"a":1,"b":2}"#), "a"), Some(json(r#"{"b":2}"#)));
        assert_eq!(without_key(json(r#"["a","b","a",1]"#), "a"), Some(json(r#"["b",1]"#)));
        assert_eq!(without_key(json("1"), "a"), None);
        assert_eq!(without_index(json("[1,2,3]"), -1), Some(json("[1,2]")));
        assert_eq!(without_index(json("[1]"), 5), Some(json("[1]")));
        assert_eq!(without_index(json("{}"), 0), None);
        let mut value = json(r#"{"a":[1,{"b":2}]}"#);
        without_path(&mut value, &path(&["a", "1", "b"])).expect("a path");
        assert_eq!(value, json(r#"{"a":[1,{}]}"#));
        for (left, right, both) in [
            (r#"{"a":1,"b":1}"#, r#"{"b":2}"#, r#"{"a":1,"b":2}"#),
            ("[1,2]", "[2]", "[1,2,2]"),
            ("[1]", r#"{"a":1}"#, r#"[1,{"a":1}]"#),
            ("1", "2", "[1,2]"),
        ] {
            assert_eq!(joined(json(left), json(right)).text(), both);
        }
        assert_eq!(without_nulls(json(r#"[{"a":null,"b":{"c":null}},null]"#)), json(r#"[{"b":{}},null]"#));
    }

    #[test]
    fn containment() {
        for (left, right, expected) in [
            (r#"{"a":1,"b":2}"#, r#"{"b":2.0}"#, true),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            ("[1,2,[1,3]]", "[1,3]", false),
            ("[1,2,[1,3]]", "[[3]]", true),
            ("[1,2,3]", "[3,1,1]", true),
            ("[1,2]", "1", true),
            ("1", "[1]", false),
            (r#"{"a":[1]}"#, r#"{"a":1}"#, false),
            (r#"["foo","bar"]"#, r#""bar""#, true),
            (r#"{"a":{"b":1}}"#, r#"{"a":{}}"#, true),
            ("{}", "[]", false),
        ] {
            assert_eq!(contains(&json(left), &json(right)), expected, "{left} @> {right}");
        }
        assert!(
            has_key(&json(r#"["a"]"#), "a") && has_key(&json(r#""a""#), "a") && has_key(&json(r#"{"a":null}"#), "a")
        );
        assert!(!has_key(&json("[1]"), "1"));
    }
}
