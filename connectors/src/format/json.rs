//! JSON, one object a line.
//!
//! A line is a row: a text that goes on in the next line is broken JSON here, so that one broken row never swallows its neighbours.
//! Keys match a column's name exactly, or else ignoring case; where an object holds both, the exact one counts. Objects of a file
//! mostly have the same keys in the same order, so the scanner remembers which column the n-th key belonged to and compares once.

use super::cell::{Cell, CellKind};

/// Deeper nesting is refused instead of overflowing the stack.
const DEPTH_MAX: usize = 128;

/// Why a text is no JSON, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanError {
    pub(crate) at: usize,
    pub(crate) expected: &'static str,
}

type Scan<T> = Result<T, ScanError>;

fn error<T>(at: usize, expected: &'static str) -> Scan<T> {
    Err(ScanError { at, expected })
}

/// A line end is no blank: nothing runs on into the next line.
#[inline]
fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// A bit set in each byte of `word` that equals `byte`; bytes above the first match may be wrong.
#[inline]
fn equals(word: u64, byte: u8) -> u64 {
    let difference = word ^ (LOW_BITS * u64::from(byte));
    difference.wrapping_sub(LOW_BITS) & !difference & HIGH_BITS
}

/// Where a text ends, from behind its opening quote: index of the closing quote, and whether there were escapes.
#[inline]
fn scan_text(bytes: &[u8], mut at: usize) -> Scan<(usize, bool)> {
    let mut escaped = false;
    loop {
        // Eight bytes at a time up to the first quote, backslash or control character.
        while let Some(chunk) = bytes.get(at..at + 8) {
            let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            let control = word.wrapping_sub(LOW_BITS * 0x20) & !word & HIGH_BITS;
            let found = equals(word, b'"') | equals(word, b'\\') | control;
            if found != 0 {
                at += found.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        match bytes.get(at) {
            Some(b'"') => return Ok((at, escaped)),
            Some(b'\\') => {
                escaped = true;
                match bytes.get(at + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                    Some(b'u') => {
                        let hex = bytes.get(at + 2..at + 6);
                        if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                            return error(at, "four hexadecimal digits after `\\u`");
                        }
                        at += 6;
                    }
                    _ => return error(at, "a known escape after `\\`"),
                }
            }
            Some(0..0x20) => return error(at, "no control character in a text"),
            Some(_) => at += 1,
            None => return error(at, "the closing quote of a text"),
        }
    }
}

#[inline]
fn scan_number(bytes: &[u8], start: usize) -> Scan<usize> {
    let digits = |mut at: usize| {
        let first = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        (at > first).then_some(at)
    };
    let at = if bytes[start] == b'-' { start + 1 } else { start };
    let mut at = match bytes.get(at) {
        Some(b'0') => at + 1,
        Some(b'1'..=b'9') => digits(at).unwrap_or(at),
        _ => return error(at, "a digit"),
    };
    if bytes.get(at) == Some(&b'.') {
        at = match digits(at + 1) {
            Some(end) => end,
            None => return error(at + 1, "a digit after the point"),
        };
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = match digits(at) {
            Some(end) => end,
            None => return error(at, "a digit of the exponent"),
        };
    }
    if bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric()) {
        return error(at, "the end of the number");
    }
    Ok(at)
}

/// One value from `start` on: its cell, and the index behind it.
#[inline]
pub(crate) fn scan_value(bytes: &[u8], start: usize) -> Scan<(Cell, usize)> {
    scan_value_in(bytes, start, 0)
}

#[inline]
fn scan_value_in(bytes: &[u8], start: usize, depth: usize) -> Scan<(Cell, usize)> {
    let start = skip_blanks(bytes, start);
    let literal = |word: &[u8], kind| match bytes[start..].starts_with(word) {
        true => Ok((Cell::new(kind, start, start + word.len()), start + word.len())),
        false => error(start, "a value"),
    };
    match bytes.get(start) {
        Some(b'"') => {
            let (end, escaped) = scan_text(bytes, start + 1)?;
            let kind = if escaped { CellKind::Escaped } else { CellKind::Text };
            Ok((Cell::new(kind, start + 1, end), end + 1))
        }
        Some(b'-' | b'0'..=b'9') => {
            let end = scan_number(bytes, start)?;
            Ok((Cell::new(CellKind::Number, start, end), end))
        }
        Some(b't') => literal(b"true", CellKind::True),
        Some(b'f') => literal(b"false", CellKind::False),
        Some(b'n') => literal(b"null", CellKind::Null),
        Some(b'{') => {
            let end = scan_object(bytes, start, depth + 1, |_, _| {})?;
            Ok((Cell::new(CellKind::Object, start, end), end))
        }
        Some(b'[') => {
            let end = scan_items(bytes, start, depth + 1, |_| {})?;
            Ok((Cell::new(CellKind::Array, start, end), end))
        }
        _ => error(start, "a value"),
    }
}

#[inline]
fn scan_object(bytes: &[u8], start: usize, depth: usize, mut member: impl FnMut(Cell, Cell)) -> Scan<usize> {
    if depth > DEPTH_MAX {
        return error(start, "less nesting");
    }
    let mut at = skip_blanks(bytes, start + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        if bytes.get(at) != Some(&b'"') {
            return error(at, "a key in quotes");
        }
        let (key_end, escaped) = scan_text(bytes, at + 1)?;
        let key = Cell::new(if escaped { CellKind::Escaped } else { CellKind::Text }, at + 1, key_end);
        at = skip_blanks(bytes, key_end + 1);
        if bytes.get(at) != Some(&b':') {
            return error(at, "`:`");
        }
        let (value, end) = scan_value_in(bytes, at + 1, depth)?;
        member(key, value);
        at = skip_blanks(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = skip_blanks(bytes, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return error(at, "`,` or `}`"),
        }
    }
}

fn scan_items(bytes: &[u8], start: usize, depth: usize, mut item: impl FnMut(Cell)) -> Scan<usize> {
    if depth > DEPTH_MAX {
        return error(start, "less nesting");
    }
    let mut at = skip_blanks(bytes, start + 1);
    if bytes.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        let (value, end) = scan_value_in(bytes, at, depth)?;
        item(value);
        at = skip_blanks(bytes, end);
        match bytes.get(at) {
            Some(b',') => at += 1,
            Some(b']') => return Ok(at + 1),
            _ => return error(at, "`,` or `]`"),
        }
    }
}

/// The items of an array whose form was checked before.
pub(crate) fn scan_array(bytes: &[u8], start: usize, item: impl FnMut(Cell)) {
    let _ = scan_items(bytes, start, 0, item);
}

/// The members of an object whose form was checked before.
pub(crate) fn scan_entries(bytes: &[u8], start: usize, member: impl FnMut(Cell, Cell)) {
    let _ = scan_object(bytes, start, 0, member);
}

/// Resolves a text's escapes; `None`: half of a surrogate pair.
pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = &rest[at + 2..];
        out.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = u32::from_str_radix(rest.get(..4)?, 16).ok()?;
                rest = &rest[4..];
                if (0xd800..0xdc00).contains(&code) {
                    let low = u32::from_str_radix(rest.strip_prefix("\\u")?.get(..4)?, 16).ok()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return None;
                    }
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    rest = &rest[6..];
                }
                char::from_u32(code)?
            }
            other => char::from(other),
        });
    }
    out.push_str(rest);
    Some(out)
}

/// Finds the wanted members of objects.
pub(crate) struct ObjectScanner {
    names: Vec<Box<str>>,
    /// By place of the key in the object: the key last seen there, and what it meant.
    predicted: Vec<(Box<[u8]>, Option<Match>)>,
    /// By column: one more than the row whose cell came from a key that matched exactly.
    exact_rows: Vec<usize>,
    /// How many members the last object had.
    member_count: usize,
}

#[derive(Clone, Copy)]
struct Match {
    column: usize,
    exact: bool,
}

impl ObjectScanner {
    pub(crate) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let names: Vec<Box<str>> = names.map(Into::into).collect();
        Self { exact_rows: vec![0; names.len()], names, predicted: Vec::new(), member_count: 0 }
    }

    /// How many members the object had that was scanned last.
    pub(crate) fn member_count(&self) -> usize {
        self.member_count
    }

    /// The next object is another one, even if it is scanned into the same row.
    pub(crate) fn forget_row(&mut self) {
        self.exact_rows.fill(0);
    }

    fn find(&self, key: &str) -> Option<Match> {
        let exact = self.names.iter().position(|name| **name == *key).map(|column| Match { column, exact: true });
        exact.or_else(|| {
            let column = self
                .names
                .iter()
                .position(|name| name.eq_ignore_ascii_case(key) || name.to_lowercase() == key.to_lowercase());
            column.map(|column| Match { column, exact: false })
        })
    }

    /// Scans the object at `start` and notes the wanted values in `columns[column][row]`; the index behind the object.
    #[inline]
    pub(crate) fn scan(&mut self, bytes: &[u8], start: usize, row: usize, columns: &mut [Vec<Cell>]) -> Scan<usize> {
        if bytes.get(start) != Some(&b'{') {
            return error(start, "an object");
        }
        let mut place = 0;
        let end = scan_object(bytes, start, 0, |key, value| {
            let text = &bytes[key.start as usize..(key.start + key.len) as usize];
            let found = match self.predicted.get(place) {
                Some((known, found)) if **known == *text => *found,
                _ => self.learn(place, text, key.kind),
            };
            place += 1;
            let Some(Match { column, exact }) = found else {
                return;
            };
            if exact {
                self.exact_rows[column] = row + 1;
            } else if self.exact_rows[column] == row + 1 {
                return;
            }
            columns[column][row] = value;
        });
        self.member_count = place;
        end
    }

    #[cold]
    fn learn(&mut self, place: usize, text: &[u8], kind: CellKind) -> Option<Match> {
        let key = std::str::from_utf8(text).ok()?;
        let found = match kind {
            CellKind::Escaped => self.find(&unescape(key)?),
            _ => self.find(key),
        };
        // Objects with endlessly many keys would fill the memory with keys that are never seen again.
        const PLACES_MAX: usize = 1_024;
        if let Some(entry) = self.predicted.get_mut(place) {
            *entry = (text.into(), found);
        } else if place == self.predicted.len() && place < PLACES_MAX {
            self.predicted.push((text.into(), found));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What serde_json calls JSON is JSON here, and nothing else is.
    #[test]
    fn the_scanner_agrees_with_serde_json() {
        let texts = [
            r#"{"a":1}"#,
            r#"{}"#,
            r#"{"a":[1,2,{"b":null}],"c":"x\n\u00e9\ud83d\ude00"}"#,
            r#"{"a":1,}"#,
            r#"{"a":1,,"b":2}"#,
            r#"{"a" 1}"#,
            r#"{a:1}"#,
            r#"{"a":01}"#,
            r#"{"a":-}"#,
            r#"{"a":1.}"#,
            r#"{"a":1e}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e5}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":tru}"#,
            r#"{"a":truex}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":[1 2]}"#,
            r#"{"a":"#,
            r#"{"a":"b}"#,
            "{\"a\":\"\t\"}",
            r#"{"a":1x}"#,
            r#"{"a":nul"#,
            r#"{"a":+1}"#,
            r#" { "a" : [ ] , "b" : { } } "#,
        ];
        for text in texts {
            let mut columns = vec![vec![Cell::MISSING]];
            let start = skip_blanks(text.as_bytes(), 0);
            let ours = ObjectScanner::new(["a"].into_iter())
                .scan(text.as_bytes(), start, 0, &mut columns)
                .is_ok_and(|end| text[end..].trim().is_empty());
            let theirs = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(ours, theirs, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_a_stack_overflow() {
        let text = "[".repeat(100_000);
        assert!(scan_value(text.as_bytes(), 0).is_err());
    }

    #[test]
    fn a_key_matches_exactly_first_and_else_ignoring_case() {
        let mut scanner = ObjectScanner::new(["dateTime", "price"].into_iter());
        for (row, (text, expected)) in [
            (r#"{"datetime":1,"dateTime":2}"#, "2"),
            (r#"{"dateTime":2,"DATETIME":1}"#, "2"),
            (r#"{"DATETIME":7}"#, "7"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut columns = vec![vec![Cell::MISSING; 3]; 2];
            scanner.scan(text.as_bytes(), 0, row, &mut columns).expect("good JSON");
            assert_eq!(columns[0][row].text(text), expected);
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        assert_eq!(unescape(r"\ud83d"), None);
        assert_eq!(unescape(r"\ud83d\ude00\/"), Some("😀/".to_owned()));
    }
}
