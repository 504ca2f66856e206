//! Arrays of the parts of texts, under Flink's names.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListBuilder, StringViewBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use datafusion::functions::regex::compile_and_cache_regex;
use regex::Regex;

use super::definition::{Call, Definition, Param};

pub(crate) fn definitions() -> Vec<Definition> {
    let list = |_: &[DataType]| DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)));
    vec![
        Definition { name: "split", params: &[Param::Text, Param::Text], optional: 0, returns: list, invoke: split },
        Definition {
            name: "regexp_extract_all",
            params: &[Param::Text, Param::Text, Param::Integer],
            optional: 1,
            returns: list,
            invoke: extract_all,
        },
        Definition {
            name: "regexp_split_to_array",
            params: &[Param::Text, Param::Text, Param::Text],
            optional: 1,
            returns: list,
            invoke: split_by_pattern,
        },
    ]
}

fn lists() -> ListBuilder<StringViewBuilder> {
    ListBuilder::new(StringViewBuilder::new())
}

/// All pieces, the empty ones too. An empty delimiter stands between all characters.
fn split(call: &Call) -> Result<ArrayRef> {
    let (texts, delimiters) = (call.text(0)?, call.text(1)?);
    let mut out = lists();
    for (text, delimiter) in texts.iter().zip(delimiters.iter()) {
        match (text, delimiter) {
            (Some(text), Some("")) => {
                for (place, letter) in text.char_indices() {
                    out.values().append_value(&text[place..place + letter.len_utf8()]);
                }
                out.append(true);
            }
            (Some(text), Some(delimiter)) => {
                text.split(delimiter).for_each(|piece| out.values().append_value(piece));
                out.append(true);
            }
            _ => out.append(false),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// What stands between the matches of a pattern, as in PostgreSQL: one of nothing splits only between two characters. A third argument has flags.
fn split_by_pattern(call: &Call) -> Result<ArrayRef> {
    let (texts, patterns, flags) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let has_flags = call.is_given(2);
    let mut compiled = HashMap::new();
    let mut out = lists();
    for row in 0..call.rows {
        if texts.is_null(row) || patterns.is_null(row) || has_flags && flags.is_null(row) {
            out.append(false);
            continue;
        }
        let flags = has_flags.then(|| flags.value(row)).filter(|flags| !flags.is_empty());
        let regex = compile_and_cache_regex(patterns.value(row), flags, &mut compiled)?;
        pieces(texts.value(row), regex).for_each(|piece| out.values().append_value(piece));
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

fn pieces<'t>(text: &'t str, regex: &'t Regex) -> impl Iterator<Item = &'t str> {
    let mut from = 0;
    let splits = regex.find_iter(text).filter(move |found| {
        let is_split = found.start() < text.len() && found.end() > from;
        from = if is_split { found.end() } else { from };
        is_split
    });
    let mut begin = 0;
    let ends = splits.map(|found| (found.start(), found.end())).chain([(text.len(), text.len())]);
    ends.map(move |(end, next)| &text[std::mem::replace(&mut begin, next)..end])
}

/// The group of each match, 1 where none is told, as in Flink; none at all where the pattern has no such group. A pattern that is the same
/// in all rows is an error if it is none; one of a row's own is not, and gives null.
fn extract_all(call: &Call) -> Result<ArrayRef> {
    let (texts, patterns, groups) = (call.text(0)?, call.text(1)?, call.integer_or(2, 1)?);
    let is_constant = call.same_text(1).is_some();
    let mut compiled = HashMap::new();
    let mut out = lists();
    for row in 0..call.rows {
        let is_there = texts.is_valid(row) && patterns.is_valid(row) && groups.is_valid(row);
        let regex: Option<&Regex> = match is_there {
            false => None,
            true => match compile_and_cache_regex(patterns.value(row), None, &mut compiled) {
                Ok(regex) => Some(regex),
                Err(error) if is_constant => return Err(error.into()),
                Err(_) => None,
            },
        };
        let group = usize::try_from(groups.value(row)).ok();
        match regex.zip(group).filter(|(regex, group)| *group < regex.captures_len()) {
            None => out.append(false),
            Some((regex, 0)) => {
                regex.find_iter(texts.value(row)).for_each(|found| out.values().append_value(found.as_str()));
                out.append(true);
            }
            Some((regex, group)) => {
                for found in regex.captures_iter(texts.value(row)) {
                    out.values().append_option(found.get(group).map(|part| part.as_str()));
                }
                out.append(true);
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PostgreSQL 15 gives these.
    #[test]
    fn texts_are_split_where_patterns_match() {
        for (text, pattern, expected) in [
            ("the quick brown", r"\s+", vec!["the", "quick", "brown"]),
            ("fox", r"\s*", vec!["f", "o", "x"]),
            ("fox", "", vec!["f", "o", "x"]),
            ("a,b,", ",", vec!["a", "b", ""]),
            (",a", ",", vec!["", "a"]),
            ("", ",", vec![""]),
            ("", "", vec![""]),
            ("abc", "x", vec!["abc"]),
            ("aXbxc", "(?i)x", vec!["a", "b", "c"]),
        ] {
            let regex = Regex::new(pattern).expect(pattern);
            assert_eq!(pieces(text, &regex).collect::<Vec<_>>(), expected, "{text:?} by {pattern:?}");
        }
    }
}
