//! CSV, after RFC 4180 with the usual liberties.
//!
//! A record may run over several lines inside quotes, so finding where one ends means reading quotes. Where they do not add up (text
//! after a closing quote, or none before the record grows past [`RECORD_BYTES_MAX`]) only the *first line* is taken for the broken
//! record and reading goes on with the next line: one stray quote must not swallow a file. The rule looks at the text from the
//! record's start only, so that it finds the same records however the file is cut into blocks.

use std::borrow::Cow;

use super::cell::{Cell, CellKind};

/// A quoted field that is still open after so many bytes was never meant to be one.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 20;

/// How fields are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CsvDialect {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) escape: Option<u8>,
    pub(crate) allow_comments: bool,
}

impl Default for CsvDialect {
    fn default() -> Self {
        Self { delimiter: b',', quote: Some(b'"'), escape: None, allow_comments: false }
    }
}

/// One field of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldSpan {
    pub(crate) cell: Cell,
    pub(crate) quoted: bool,
}

/// What was found from a record's start on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// A whole record; the index behind its line end.
    Whole(usize),
    /// The quotes do not add up: the first line is broken; the index behind its line end, and what was expected.
    Broken(usize, &'static str),
    /// The text ends before the record does.
    Open,
}

/// Resolves doubled quotes and escapes.
pub(crate) fn unescape(text: &str, quote: Option<u8>, escape: Option<u8>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let is = |byte: Option<u8>| byte.is_some_and(|byte| c == char::from(byte));
        if is(escape) || is(quote) {
            out.extend(chars.next());
        } else {
            out.push(c);
        }
    }
    out
}

impl CsvDialect {
    /// Reads one record from `start` on. With `whole`, the text ends where the file (or block) ends, so a last record without a line
    /// end counts.
    pub(crate) fn scan(&self, bytes: &[u8], start: usize, whole: bool, mut field: impl FnMut(FieldSpan)) -> Record {
        let broken = |expected| match memchr::memchr(b'\n', &bytes[start..]) {
            Some(at) => Record::Broken(start + at + 1, expected),
            None if whole => Record::Broken(bytes.len(), expected),
            None => Record::Open,
        };
        let mut at = start;
        loop {
            // A quoted field.
            if self.quote.is_some() && bytes.get(at).copied() == self.quote {
                let quote = bytes[at];
                let first = at + 1;
                let mut escaped = false;
                at = first;
                loop {
                    let found = match self.escape {
                        Some(escape) => memchr::memchr2(quote, escape, &bytes[at..]),
                        None => memchr::memchr(quote, &bytes[at..]),
                    };
                    let end = found.map_or(bytes.len(), |found| at + found);
                    if end - start > RECORD_BYTES_MAX {
                        return broken("a closing quote");
                    }
                    if end == bytes.len() {
                        return if whole { broken("a closing quote") } else { Record::Open };
                    }
                    at = end + 1;
                    if bytes[end] != quote || bytes.get(at) == Some(&quote) {
                        escaped = true;
                        at += 1;
                        if at > bytes.len() {
                            return if whole { broken("a closing quote") } else { Record::Open };
                        }
                    } else {
                        let kind = if escaped { CellKind::Escaped } else { CellKind::Text };
                        field(FieldSpan { cell: Cell::new(kind, first, end), quoted: true });
                        break;
                    }
                }
                match bytes.get(at) {
                    Some(&byte) if byte == self.delimiter => {
                        at += 1;
                        continue;
                    }
                    Some(b'\n') => return Record::Whole(at + 1),
                    Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => return Record::Whole(at + 2),
                    Some(b'\r') if at + 1 == bytes.len() => {
                        return if whole { Record::Whole(at + 1) } else { Record::Open };
                    }
                    None => return if whole { Record::Whole(at) } else { Record::Open },
                    Some(_) => return broken("a delimiter or the line's end after the closing quote"),
                }
            }
            // A plain field: up to the delimiter or the line's end.
            let found = memchr::memchr2(self.delimiter, b'\n', &bytes[at..]);
            let end = match found {
                Some(found) => at + found,
                None if whole => bytes.len(),
                None => return Record::Open,
            };
            let last = bytes.get(end) != Some(&self.delimiter);
            let text_end = if last && end > at && bytes[end - 1] == b'\r' { end - 1 } else { end };
            let escaped = self.escape.is_some_and(|escape| bytes[at..text_end].contains(&escape));
            let kind = if escaped { CellKind::Escaped } else { CellKind::Text };
            field(FieldSpan { cell: Cell::new(kind, at, text_end), quoted: false });
            if last {
                return Record::Whole((end + 1).min(bytes.len()));
            }
            at = end + 1;
        }
    }

    /// Whether the line from `start` on is no record: blank, or a comment. Gives the index behind it.
    pub(crate) fn skipped_line(&self, bytes: &[u8], start: usize, whole: bool) -> Option<usize> {
        let end = match memchr::memchr(b'\n', &bytes[start..]) {
            Some(at) => start + at + 1,
            None if whole => bytes.len(),
            None => return None,
        };
        let blank = matches!(&bytes[start..end], b"" | b"\n" | b"\r\n");
        let comment = self.allow_comments && bytes[start] == b'#';
        (blank || comment).then_some(end)
    }

    /// The fields of the first record of a text as text.
    pub(crate) fn first_record(&self, bytes: &[u8]) -> Option<(Vec<String>, usize)> {
        let mut at = 0;
        while let Some(end) = self.skipped_line(bytes, at, true) {
            if end == bytes.len() {
                return None;
            }
            at = end;
        }
        let mut fields = Vec::new();
        let record = self.scan(bytes, at, true, |span| {
            let text = &bytes[span.cell.start as usize..(span.cell.start + span.cell.len) as usize];
            let text = String::from_utf8_lossy(text);
            let text = match span.cell.kind {
                CellKind::Escaped => Cow::Owned(unescape(&text, self.quote, self.escape)),
                _ => text,
            };
            fields.push(text.trim().to_owned());
        });
        match record {
            Record::Whole(end) => Some((fields, end)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Vec<Vec<String>> {
        let dialect = CsvDialect::default();
        let (mut at, mut records) = (0, Vec::new());
        while at < text.len() {
            let mut fields = Vec::new();
            at = match dialect.scan(text.as_bytes(), at, true, |span| {
                fields.push(unescape(span.cell.text(text), dialect.quote, dialect.escape));
            }) {
                Record::Whole(end) => end,
                Record::Broken(end, _) => {
                    fields = vec!["broken".into()];
                    end
                }
                Record::Open => unreachable!("the text is whole"),
            };
            records.push(fields);
        }
        records
    }

    #[test]
    fn quotes_delimiters_and_line_ends() {
        assert_eq!(records("a,b\r\n\"c,\n\"\"d\",\n,"), [vec!["a", "b"], vec!["c,\n\"d", ""], vec!["", ""]]);
    }

    /// One stray quote costs one line, not the file.
    #[test]
    fn a_stray_quote_costs_its_line() {
        assert_eq!(records("1,\"x\n2,y\n3,\"z\"\n"), [vec!["broken"], vec!["2", "y"], vec!["3", "z"]]);
        assert_eq!(records("1,\"x\n2,y\n"), [vec!["broken"], vec!["2", "y"]]);
    }
}
