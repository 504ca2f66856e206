//! Functions of strings under Flink's names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, StringViewArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::functions::regex::compile_and_cache_regex;
use memchr::memchr;
use regex::{CaptureLocations, Regex};

use super::definition::{Call, Definition, Param};

pub(crate) fn definitions() -> Vec<Definition> {
    let test =
        |name, invoke| Definition { name, params: &[Param::Text], optional: 0, returns: |_| DataType::Boolean, invoke };
    vec![
        Definition {
            name: "regexp_extract",
            params: &[Param::Text, Param::Text, Param::Integer],
            optional: 1,
            returns: |_| DataType::Utf8View,
            invoke: regexp_extract,
        },
        Definition {
            name: "split_index",
            params: &[Param::Text, Param::Text, Param::Integer],
            optional: 0,
            returns: |_| DataType::Utf8View,
            invoke: split_index,
        },
        Definition {
            name: "locate",
            params: &[Param::Text, Param::Text, Param::Integer],
            optional: 1,
            returns: |_| DataType::Int32,
            invoke: locate,
        },
        Definition {
            name: "parse_url",
            params: &[Param::Text, Param::Text, Param::Text],
            optional: 1,
            returns: |_| DataType::Utf8View,
            invoke: parse_url,
        },
        test("is_digit", |call| every_character(call, |character| character.is_ascii_digit())),
        test("is_alpha", |call| every_character(call, char::is_alphabetic)),
        test("is_decimal", is_decimal),
    ]
}

/// A compiled pattern, and where its groups matched last.
struct Compiled {
    pattern: String,
    regex: Regex,
    groups: CaptureLocations,
}

/// So many patterns stay compiled on a thread; those that are used alternate, so the oldest goes.
const COMPILED_MAX: usize = 16;

thread_local! {
    /// Patterns are constants in practice, and compiling one costs more than a thousand searches. A regex of a thread's own also needs
    /// no lock for its caches.
    static COMPILED: RefCell<Vec<Compiled>> = const { RefCell::new(Vec::new()) };
}

/// The place of a pattern among the compiled ones.
fn compiled(known: &mut Vec<Compiled>, pattern: &str) -> Result<usize> {
    if let Some(place) = known.iter().position(|compiled| compiled.pattern == pattern) {
        return Ok(place);
    }
    let regex = compile_and_cache_regex(pattern, None, &mut HashMap::new())?.clone();
    let groups = regex.capture_locations();
    if known.len() == COMPILED_MAX {
        known.remove(0);
    }
    known.push(Compiled { pattern: pattern.to_string(), regex, groups });
    Ok(known.len() - 1)
}

/// Group 0 is the whole match; none where the pattern, or the group, did not match.
fn regexp_extract(call: &Call) -> Result<ArrayRef> {
    let (texts, patterns, groups) = (call.text(0)?, call.text(1)?, call.integer_or(2, 0)?);
    COMPILED.with_borrow_mut(|known| {
        let mut place = None;
        let rows = texts.iter().zip(patterns.iter()).zip(groups.iter()).map(|((text, pattern), group)| {
            let (Some(text), Some(pattern), Some(group)) = (text, pattern, group) else {
                return Ok(None);
            };
            let Ok(group) = usize::try_from(group) else {
                return Ok(None);
            };
            let at = match place.filter(|place: &usize| known[*place].pattern == pattern) {
                Some(at) => at,
                None => compiled(known, pattern)?,
            };
            place = Some(at);
            let Compiled { regex, groups, .. } = &mut known[at];
            Ok(match group {
                // Without groups the search needs no captures and is much faster.
                0 => regex.find(text).map(|found| found.as_str()),
                group => regex
                    .captures_read(groups, text)
                    .and_then(|_| groups.get(group))
                    .map(|(start, end)| &text[start..end]),
            })
        });
        Ok(Arc::new(rows.collect::<Result<StringViewArray>>()?) as ArrayRef)
    })
}

/// The piece at `index`, from 0; none beyond the last.
fn split_index(call: &Call) -> Result<ArrayRef> {
    let (texts, delimiters, indices) = (call.text(0)?, call.text(1)?, call.integer_or(2, 0)?);
    let rows = texts.iter().zip(delimiters.iter()).zip(indices.iter()).map(|((text, delimiter), index)| {
        let index = usize::try_from(index?).ok()?;
        match (text?, delimiter?) {
            ("", _) => None,
            (text, "") => (index == 0).then_some(text),
            (text, delimiter) => piece(text, delimiter, index),
        }
    });
    Ok(Arc::new(rows.collect::<StringViewArray>()))
}

/// The piece at `index` of a text that `delimiter` cuts.
fn piece<'a>(text: &'a str, delimiter: &str, index: usize) -> Option<&'a str> {
    let &[byte] = delimiter.as_bytes() else {
        return text.split(delimiter).nth(index);
    };
    let bytes = text.as_bytes();
    let mut start = 0;
    for _ in 0..index {
        start += memchr(byte, &bytes[start..])? + 1;
    }
    let end = memchr(byte, &bytes[start..]).map_or(bytes.len(), |length| start + length);
    Some(&text[start..end])
}

/// `LOCATE(part, text[, from])`: the place of the first character, from 1; 0 where it is not found.
fn locate(call: &Call) -> Result<ArrayRef> {
    let (parts, texts, starts) = (call.text(0)?, call.text(1)?, call.integer_or(2, 1)?);
    let rows = parts.iter().zip(texts.iter()).zip(starts.iter()).map(|((part, text), start)| {
        let (part, text, start) = (part?, text?, start?);
        let skipped = usize::try_from(start - 1).ok();
        let offset =
            skipped.and_then(|skipped| text.char_indices().map(|(offset, _)| offset).chain([text.len()]).nth(skipped));
        let place = offset.and_then(|offset| {
            let found = offset + text[offset..].find(part)?;
            i32::try_from(text[..found].chars().count() + 1).ok()
        });
        Some(place.unwrap_or(0))
    });
    Ok(Arc::new(rows.collect::<Int32Array>()))
}

/// False for the empty string, as in Flink.
fn every_character(call: &Call, test: fn(char) -> bool) -> Result<ArrayRef> {
    let texts = call.text(0)?;
    let rows = texts.iter().map(|text| text.map(|text| !text.is_empty() && text.chars().all(test)));
    Ok(Arc::new(rows.collect::<BooleanArray>()))
}

fn is_decimal(call: &Call) -> Result<ArrayRef> {
    let texts = call.text(0)?;
    let rows = texts.iter().map(|text| {
        text.map(|text| {
            let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
            let digits = unsigned.bytes().filter(u8::is_ascii_digit).count();
            let points = unsigned.bytes().filter(|byte| *byte == b'.').count();
            digits > 0 && points <= 1 && digits + points == unsigned.len()
        })
    });
    Ok(Arc::new(rows.collect::<BooleanArray>()))
}

/// `PARSE_URL(url, part[, key])` with Java's parts; none where the URL has no such part.
fn parse_url(call: &Call) -> Result<ArrayRef> {
    let (urls, parts, keys) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let has_key = call.is_given(2);
    let rows = urls.iter().zip(parts.iter()).zip(keys.iter()).map(|((url, part), key)| {
        let value = url_part(url?, part?)?;
        match has_key {
            false => Some(value),
            // A key is for the query only.
            true if part? == "QUERY" => {
                let pairs = value.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                let key = key?;
                pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
            }
            true => None,
        }
    });
    Ok(Arc::new(rows.collect::<StringViewArray>()))
}

fn url_part<'a>(url: &'a str, part: &str) -> Option<&'a str> {
    let (protocol, rest) = url.split_once("://")?;
    let (rest, fragment) = match rest.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (rest, None),
    };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, file) = rest.split_at(authority_end);
    let (path, query) = match file.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (file, None),
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    match part {
        "PROTOCOL" => Some(protocol),
        "AUTHORITY" => Some(authority),
        "USERINFO" => user,
        // An IPv6 address keeps its brackets, and its colons are no port.
        "HOST" => match host.find(']') {
            Some(end) => host.get(..=end),
            None => host.split(':').next(),
        },
        "PATH" => Some(path),
        "QUERY" => query,
        "FILE" => Some(file),
        "REF" => fragment,
        _ => None,
    }
}
