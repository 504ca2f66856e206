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
