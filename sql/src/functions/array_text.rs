//! Arrays as PostgreSQL writes them as texts: `{1,2,NULL}`, `{{a,b},{"c, d",e}}`.
//!
//! An element in double quotes is taken as it is, with a backslash before a quote or a backslash; one without has no blanks around it, and is null where it is the word
//! `NULL`. Texts become elements as a cast of each would make them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, StringViewArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;

/// How deep arrays are nested at most, as in PostgreSQL.
const DEPTH_MAX: usize = 6;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Null,
    Text(String),
    Array(Vec<Item>),
}

/// The arrays that texts are, whose elements `convert` makes of their texts; null where `lenient` and a text is none.
///
/// # Errors
/// A text is no array, or an element is none of `field`'s type.
pub(super) fn arrays_of_texts(
    texts: &StringViewArray,
    field: &FieldRef,
    lenient: bool,
    convert: &dyn Fn(&ArrayRef, &DataType, bool) -> Result<ArrayRef, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    let mut rows = Vec::with_capacity(texts.len());
    for text in texts {
        rows.push(match text.map(parse) {
            None => None,
            Some(Ok(items)) => Some(items),
            Some(Err(_)) if lenient => None,
            Some(Err(reason)) => {
                let text = text.unwrap_or_default();
                return Err(ArrowError::CastError(format!(
                    "'{text}' is no array: {reason}; it is written as '{{1,2,NULL}}', or ARRAY[1, 2, NULL]"
                )));
            }
        });
    }
    lists(rows, field, lenient, convert)
}

fn lists(
    rows: Vec<Option<Vec<Item>>>,
    field: &FieldRef,
    lenient: bool,
    convert: &dyn Fn(&ArrayRef, &DataType, bool) -> Result<ArrayRef, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    let lengths: Vec<usize> = rows.iter().map(|row| row.as_ref().map_or(0, Vec::len)).collect();
    let mut is_valid: Vec<bool> = rows.iter().map(Option::is_some).collect();
    let items: Vec<Item> = rows.into_iter().flatten().flatten().collect();
    let is_null: Vec<bool> = items.iter().map(|item| *item == Item::Null).collect();
    let values = match field.data_type() {
        DataType::List(inner) => {
            let inner_rows = items.into_iter().map(|item| match item {
                Item::Array(items) => Ok(Some(items)),
                Item::Null => Ok(None),
                Item::Text(_) if lenient => Ok(None),
                Item::Text(text) => {
                    Err(ArrowError::CastError(format!("'{text}' is no array, which an array of arrays is made of")))
                }
            });
            lists(inner_rows.collect::<Result<_, _>>()?, inner, lenient, convert)?
        }
        element => {
            let texts = items.into_iter().map(|item| match item {
                Item::Text(text) => Ok(Some(text)),
                Item::Null => Ok(None),
                Item::Array(_) if lenient => Ok(None),
                Item::Array(_) => Err(ArrowError::CastError(
                    "the text of an array has braces within braces, and its type has no arrays within: write `INT[][]`"
                        .into(),
                )),
            });
            let texts: ArrayRef = Arc::new(texts.collect::<Result<StringViewArray, _>>()?);
            convert(&texts, element, lenient)?
        }
    };
    // An element that is none makes no array of the rest.
    let mut at = 0;
    for (row, length) in lengths.iter().enumerate() {
        if (at..at + length).any(|element| values.is_null(element) && !is_null[element]) {
            is_valid[row] = false;
        }
        at += length;
    }
    let nulls = Some(NullBuffer::from(is_valid)).filter(|nulls| nulls.null_count() > 0);
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), values, nulls)?))
}

/// The texts of an array without arrays in it; none of a text that is no such array.
pub(super) fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let element = |item| match item {
        Item::Null => Some(None),
        Item::Text(text) => Some(Some(text)),
        Item::Array(_) => None,
    };
    parse(text).ok()?.into_iter().map(element).collect()
}

fn parse(text: &str) -> Result<Vec<Item>, String> {
    let text = text.trim();
    // `[0:2]={..}` says where its elements are counted from, which arrays do not keep.
    let text = match text.split_once('=') {
        Some((bounds, array)) if bounds.starts_with('[') => array.trim_start(),
        _ => text,
    };
    let (items, rest) = array(text, 1)?;
    if !rest.trim().is_empty() {
        return Err(format!("`{}` stands behind its end", rest.trim()));
    }
    Ok(items)
}

/// The array at the beginning of `text`, which is within `depth - 1` others, and what stands behind it.
fn array(text: &str, depth: usize) -> Result<(Vec<Item>, &str), String> {
    if depth > DEPTH_MAX {
        return Err(format!("it has arrays within arrays more than {DEPTH_MAX} deep"));
    }
    let Some(mut rest) = text.strip_prefix('{') else {
        return Err("it begins with `{`".into());
    };
    let mut items = vec![];
    if let Some(behind) = rest.trim_start().strip_prefix('}') {
        return Ok((items, behind));
    }
    loop {
        let (item, behind) = item(rest.trim_start(), depth)?;
        items.push(item);
        let behind = behind.trim_start();
        match behind.chars().next() {
            Some(',') => rest = &behind[1..],
            Some('}') => return Ok((items, &behind[1..])),
            Some(_) => return Err(format!("before `{behind}` stands no comma")),
            None => return Err("its last brace is missing".into()),
        }
    }
}

fn item(text: &str, depth: usize) -> Result<(Item, &str), String> {
    if text.starts_with('{') {
        return array(text, depth + 1).map(|(items, rest)| (Item::Array(items), rest));
    }
    let mut value = String::new();
    if let Some(quoted) = text.strip_prefix('"') {
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => return Ok((Item::Text(value), &quoted[at + 1..])),
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        return Err("a quote does not end".into());
    }
    let mut end = text.len();
    // Behind an escaped blank nothing is trimmed.
    let mut kept = 0;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ',' | '}' => {
                end = at;
                break;
            }
            '{' | '"' => return Err(format!("`{character}` stands within an element; put it in double quotes")),
            '\\' => {
                value.extend(characters.next().map(|(_, escaped)| escaped));
                kept = value.len();
            }
            other => value.push(other),
        }
    }
    let trimmed = value.trim_end().len().max(kept);
    let is_escaped = kept > 0;
    value.truncate(trimmed);
    if value.is_empty() {
        return Err("an element is missing; an empty text is written `\"\"`".into());
    }
    let item = if !is_escaped && value.eq_ignore_ascii_case("null") { Item::Null } else { Item::Text(value) };
    Ok((item, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(items: &[Item]) -> String {
        let item = |item: &Item| match item {
            Item::Null => "-".to_string(),
            Item::Text(text) => format!("<{text}>"),
            Item::Array(items) => shown(items),
        };
        format!("[{}]", items.iter().map(item).collect::<String>())
    }

    /// As PostgreSQL reads them.
    #[test]
    fn texts_of_arrays() {
        for (text, expected) in [
            ("{}", "[]"),
            (" { 1 , 2 } ", "[<1><2>]"),
            ("{a b , null,\"NULL\"}", "[<a b>-<NULL>]"),
            (r#"{"a, b","c\"d","e\\f",""}"#, r#"[<a, b><c"d><e\f><>]"#),
            (r"{a\,b,c\ }", "[<a,b><c >]"),
            ("{{1,2},{3,NULL}}", "[[<1><2>][<3>-]]"),
            ("[0:1]={5,6}", "[<5><6>]"),
            ("{ü,{}}", "[<ü>[]]"),
        ] {
            assert_eq!(parse(text).map(|items| shown(&items)), Ok(expected.to_string()), "{text}");
        }
        for (text, reason) in [
            ("1,2", "it begins with `{`"),
            ("{1,2", "its last brace is missing"),
            ("{1,,2}", "an element is missing"),
            ("{1} x", "`x` stands behind its end"),
            ("{\"a", "a quote does not end"),
            ("{\"a\"b}", "stands no comma"),
            ("{a\"b\"}", "stands within an element"),
            ("", "it begins with `{`"),
            (&"{".repeat(1_000_000), "more than 6 deep"),
        ] {
            let error = parse(text).expect_err(reason);
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
