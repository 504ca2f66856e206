//! Functions of strings under Flink's names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int32Array, StringViewArray, new_null_array};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::functions::regex::compile_and_cache_regex;
use memchr::memchr;
use regex::{CaptureLocations, Regex};

use super::definition::{Call, Definition, Param};
use super::key_pattern::KeyPattern;
use super::text_column::TextColumn;

pub(crate) fn definitions() -> Vec<Definition> {
    let test = |name, invoke| Definition::new(name, &[Param::Text], |_| DataType::Boolean, invoke);
    vec![
        Definition {
            name: "regexp_extract",
            params: &[Param::Text, Param::Text, Param::Integer],
            optional: 1,
            returns: |_| DataType::Utf8View,
            invoke: regexp_extract,
        },
        Definition::new(
            "split_index",
            &[Param::Text, Param::Text, Param::Integer],
            |_| DataType::Utf8View,
            split_index,
        ),
        Definition {
            name: "locate",
            params: &[Param::Text, Param::Text, Param::Integer],
            optional: 1,
            returns: |_| DataType::Int32,
            invoke: locate,
        },
        Definition {
            name: "instr",
            params: &[Param::Text, Param::Text, Param::Integer, Param::Integer],
            optional: 2,
            returns: |_| DataType::Int32,
            invoke: instr,
        },
        test("is_digit", |call| every_character(call, |character| character.is_ascii_digit())),
        test("is_alpha", |call| every_character(call, char::is_alphabetic)),
        test("is_decimal", is_decimal),
    ]
}

/// A pattern made ready for a group of it.
struct Compiled {
    pattern: String,
    group: usize,
    search: Search,
}

enum Search {
    /// The group is a run after a fixed text.
    Key(Box<KeyPattern>),
    /// The whole match: without groups the search needs no captures and is much faster.
    Match(Regex),
    /// A group, and where the groups matched last.
    Group(Regex, CaptureLocations),
}

impl Compiled {
    /// # Errors
    /// If the pattern is none.
    fn new(pattern: &str, group: usize) -> Result<Self> {
        let search = match KeyPattern::new(pattern, group) {
            Some(key) => Search::Key(Box::new(key)),
            None => {
                let regex = compile_and_cache_regex(pattern, None, &mut HashMap::new())?.clone();
                match group {
                    0 => Search::Match(regex),
                    _ => {
                        let groups = regex.capture_locations();
                        Search::Group(regex, groups)
                    }
                }
            }
        };
        Ok(Self { pattern: pattern.to_string(), group, search })
    }

    /// Where the group matches, in bytes; none where the pattern, or the group, does not.
    fn find(&mut self, text: &str) -> Option<Range<usize>> {
        match &mut self.search {
            Search::Key(key) => key.find(text),
            Search::Match(regex) => Some(regex.find(text)?.range()),
            Search::Group(regex, groups) => {
                regex.captures_read(groups, text)?;
                groups.get(self.group).map(|(start, end)| start..end)
            }
        }
    }
}

/// So many patterns stay compiled on a thread; those that are used alternate, so the oldest goes.
const COMPILED_MAX: usize = 16;

thread_local! {
    /// Patterns are constants in practice, and compiling one costs more than a thousand searches. A regex of a thread's own also needs
    /// no lock for its caches.
    static COMPILED: RefCell<Vec<Compiled>> = const { RefCell::new(Vec::new()) };
}

/// The place of a pattern and group among the compiled ones.
fn compiled(known: &mut Vec<Compiled>, pattern: &str, group: usize) -> Result<usize> {
    let is_it = |compiled: &Compiled| compiled.group == group && compiled.pattern == pattern;
    if let Some(place) = known.iter().position(is_it) {
        return Ok(place);
    }
    let new = Compiled::new(pattern, group)?;
    if known.len() == COMPILED_MAX {
        known.remove(0);
    }
    known.push(new);
    Ok(known.len() - 1)
}

/// Group 0 is the whole match; none where the pattern, or the group, did not match.
fn regexp_extract(call: &Call) -> Result<ArrayRef> {
    let texts = call.text(0)?;
    COMPILED.with_borrow_mut(|known| {
        if let (Some(pattern), Some(group)) = (call.same_text(1), call.same_integer_or(2, 0))
            && let Ok(group) = usize::try_from(group)
        {
            // A pattern is an error only if a row asks for it.
            if texts.null_count() == texts.len() {
                return Ok(new_null_array(&DataType::Utf8View, texts.len()));
            }
            let place = compiled(known, pattern, group)?;
            return Ok(parts(&texts, |_, text| known[place].find(text)));
        }
        let (patterns, groups) = (call.text(1)?, call.integer_or(2, 0)?);
        let mut column = TextColumn::over(&texts);
        for row in 0..texts.len() {
            let group = groups.is_valid(row).then(|| usize::try_from(groups.value(row)).ok()).flatten();
            let part = match group {
                Some(group) if texts.is_valid(row) && patterns.is_valid(row) => {
                    let place = compiled(known, patterns.value(row), group)?;
                    known[place].find(texts.value(row))
                }
                _ => None,
            };
            column.push_part_or_null(row, part);
        }
        Ok(Arc::new(column.finish()) as ArrayRef)
    })
}

/// Of each text that is there the part that `cut` tells, which is given the row's number too; null where it tells none.
fn parts(texts: &StringViewArray, mut cut: impl FnMut(usize, &str) -> Option<Range<usize>>) -> ArrayRef {
    let mut column = TextColumn::over(texts);
    for row in 0..texts.len() {
        let part = if texts.is_valid(row) { cut(row, texts.value(row)) } else { None };
        column.push_part_or_null(row, part);
    }
    Arc::new(column.finish())
}

/// The piece at `index`, from 0; none beyond the last.
fn split_index(call: &Call) -> Result<ArrayRef> {
    let texts = call.text(0)?;
    if let (Some(delimiter), Some(index)) = (call.same_text(1), call.same_integer_or(2, 0)) {
        let Ok(index) = usize::try_from(index) else {
            return Ok(new_null_array(&DataType::Utf8View, texts.len()));
        };
        return Ok(match delimiter.as_bytes() {
            &[byte] => parts(&texts, |_, text| piece_at_byte(text, byte, index)),
            _ => parts(&texts, |_, text| piece(text, delimiter, index)),
        });
    }
    let (delimiters, indices) = (call.text(1)?, call.integer_or(2, 0)?);
    Ok(parts(&texts, |row, text| {
        let index = indices.is_valid(row).then(|| usize::try_from(indices.value(row)).ok()).flatten();
        delimiters.is_valid(row).then(|| piece(text, delimiters.value(row), index?)).flatten()
    }))
}

/// Where the piece at `index` of a text is that `delimiter` cuts. An empty text has none, and an empty delimiter cuts nothing.
fn piece(text: &str, delimiter: &str, index: usize) -> Option<Range<usize>> {
    match (text, delimiter) {
        ("", _) => None,
        (text, "") => (index == 0).then_some(0..text.len()),
        (text, delimiter) => {
            let mut start = 0;
            let mut lengths = text.split(delimiter).map(str::len);
            for length in lengths.by_ref().take(index) {
                start += length + delimiter.len();
            }
            Some(start..start + lengths.next()?)
        }
    }
}

/// The first so many bytes of a text are looked at in words of eight: delimiters lie close together there, as a rule, and each search for the
/// next would cost more than the word that it is in.
const NEAR_BYTES: usize = 64;

/// The same where the delimiter is one byte.
fn piece_at_byte(text: &str, delimiter: u8, index: usize) -> Option<Range<usize>> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return None;
    }
    // The start of the piece, and how many delimiters there are yet before it.
    let (mut start, mut left) = ((index == 0).then_some(0), index);
    let (words, _) = bytes[..bytes.len().min(NEAR_BYTES)].as_chunks::<8>();
    let mut place = 0;
    for word in words {
        let mut found = zero_bytes(u64::from_le_bytes(*word) ^ (EACH * u64::from(delimiter)));
        if start.is_none() {
            let count = ((found >> 7).wrapping_mul(EACH) >> 56) as usize;
            if count < left {
                left -= count;
                place += 8;
                continue;
            }
            (1..left).for_each(|_| found &= found - 1);
            start = Some(place + found.trailing_zeros() as usize / 8 + 1);
            found &= found - 1;
        }
        if let (Some(start), true) = (start, found != 0) {
            return Some(start..place + found.trailing_zeros() as usize / 8);
        }
        place += 8;
    }
    let start = match start {
        Some(start) => start,
        None => {
            for _ in 0..left {
                place += memchr(delimiter, &bytes[place..])? + 1;
            }
            place
        }
    };
    // Behind the words that were looked at, if the piece began in one of them.
    let from = place.max(start);
    let end = memchr(delimiter, &bytes[from..]).map_or(bytes.len(), |length| from + length);
    Some(start..end)
}

/// The highest bit of each byte that is zero.
fn zero_bytes(word: u64) -> u64 {
    const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !(((word & LOW_BITS) + LOW_BITS) | word | LOW_BITS)
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

/// The place of the n-th occurrence of a part from a letter on; 0 where there is none. From a negative one on it is looked for backwards, from so many
/// letters before the end. Occurrences may overlap.
fn instr(call: &Call) -> Result<ArrayRef> {
    let (texts, parts) = (call.text(0)?, call.text(1)?);
    let (starts, counts) = (call.integer_or(2, 1)?, call.integer_or(3, 1)?);
    let mut places = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let is_known = texts.is_valid(row) && parts.is_valid(row) && starts.is_valid(row) && counts.is_valid(row);
        places.push(match is_known {
            true => Some(nth_place(texts.value(row), parts.value(row), starts.value(row), counts.value(row))?),
            false => None,
        });
    }
    Ok(Arc::new(Int32Array::from(places)))
}

fn nth_place(text: &str, part: &str, start: i64, count: i64) -> Result<i32> {
    let Some(skipped) = usize::try_from(count).ok().and_then(|count| count.checked_sub(1)) else {
        return exec_err!("INSTR: the occurrence {count} is none; the first one is 1");
    };
    let letters: Vec<usize> = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
    let begins = |place: &usize| text[letters[*place]..].starts_with(part);
    let last = letters.len() - 1;
    let from = usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX);
    let found = match start.signum() {
        1 => (from - 1..letters.len()).filter(begins).nth(skipped),
        -1 if from <= last => (0..=last - from).rev().filter(begins).nth(skipped),
        _ => None,
    };
    Ok(found.and_then(|place| i32::try_from(place + 1).ok()).unwrap_or(0))
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
