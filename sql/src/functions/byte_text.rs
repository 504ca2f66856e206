//! Bytes as PostgreSQL writes them as texts: `'\x1234'`, and `'De\123'` with bytes in octal digits.
//!
//! `CAST(x AS BYTEA)`, by that name of the type, reads them; `AS BYTES`, Flink's and others', gives a text's own bytes. A table's column has no such name: what is inserted
//! there is read where it is hexadecimal throughout.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};

use super::definition::{Call, Definition, Param};

/// What `CAST(x AS BYTEA)` is.
pub(crate) const BYTEA: &str = "__bytea";
/// What `TRY_CAST(x AS BYTEA)` is.
pub(crate) const TRY_BYTEA: &str = "__try_bytea";

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        Definition::new(BYTEA, &[Param::Any], |_| DataType::Binary, |call| bytes_of(call, false)),
        Definition::new(TRY_BYTEA, &[Param::Any], |_| DataType::Binary, |call| bytes_of(call, true)),
    ]
}

fn bytes_of(call: &Call, lenient: bool) -> Result<ArrayRef> {
    let array = call.array(0)?;
    if !matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return Ok(cast(&array, &DataType::Binary)?);
    }
    let texts = cast(&array, &DataType::Utf8View)?;
    let mut out = BinaryBuilder::new();
    for text in texts.as_string_view() {
        match text.map(parse) {
            Some(Ok(bytes)) => out.append_value(bytes),
            Some(Err(reason)) if !lenient => {
                return exec_err!(
                    "'{}' is no BYTEA: {reason}; it is written '\\x1234', or as text in which a backslash is `\\\\`",
                    text.unwrap_or_default()
                );
            }
            _ => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// What a column of bytes gets from texts: bytes where a text is written in hexadecimal digits (`'\\x1234'`), else its own.
pub(super) fn assigned(texts: &StringViewArray) -> BinaryArray {
    let bytes = |text: &str| in_digits(text).unwrap_or_else(|| text.as_bytes().to_vec());
    texts.iter().map(|text| text.map(bytes)).collect()
}

/// The bytes of a text that is written in hexadecimal digits.
pub(super) fn in_digits(text: &str) -> Option<Vec<u8>> {
    hexadecimal(text.strip_prefix("\\x")?).ok()
}

/// The bytes that a text stands for.
fn parse(text: &str) -> Result<Vec<u8>, String> {
    if let Some(digits) = text.strip_prefix("\\x") {
        return hexadecimal(digits);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = match (first, behind) {
            (b'\\', [b'\\', behind @ ..]) => {
                out.push(b'\\');
                behind
            }
            (b'\\', [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', behind @ ..]) => {
                out.push((high - b'0') * 64 + (middle - b'0') * 8 + (low - b'0'));
                behind
            }
            (b'\\', _) => return Err("behind a backslash stand three octal digits, or another one".into()),
            (byte, behind) => {
                out.push(*byte);
                behind
            }
        };
    }
    Ok(out)
}

/// Pairs of digits, with blanks between them.
fn hexadecimal(digits: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(digits.len() / 2);
    let mut rest = digits.chars().peekable();
    loop {
        while rest.next_if(|character| character.is_ascii_whitespace()).is_some() {}
        let Some(high) = rest.next() else { return Ok(out) };
        let digit =
            |character: char| character.to_digit(16).ok_or_else(|| format!("`{character}` is no hexadecimal digit"));
        let Some(low) = rest.next() else { return Err("it has an odd number of digits".into()) };
        out.push((digit(high)? * 16 + digit(low)?) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    /// As PostgreSQL reads them.
    #[test]
    fn texts_of_bytes() {
        for (text, bytes) in [
            (r"\x1234", &[0x12, 0x34][..]),
            (r"\xDe ad bE", &[0xde, 0xad, 0xbe]),
            (r"\x", &[]),
            (r"De\123", b"DeS"),
            (r"a\\b\000\377", b"a\\b\0\xff"),
            ("", &[]),
            ("ü", "ü".as_bytes()),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(bytes), "{text}");
        }
        for (text, reason) in [
            (r"\x123", "odd number"),
            (r"\x1g", "`g` is no hexadecimal digit"),
            (r"\x1 2", "is no hexadecimal digit"),
            (r"a\", "behind a backslash"),
            (r"\400", "behind a backslash"),
            (r"\X12", "behind a backslash"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
