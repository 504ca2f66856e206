//! The options of a table, `WITH ('key' = 'value', ..)`: kept as written, read through typed getters.
//!
//! A value is text until the connector that knows its type asks for it, so that an error can quote what the user wrote. Spellings
//! of durations and sizes are Flink's.

use std::time::Duration;

use crate::error::{ConnectorError, Result};

/// Keys and values as written, in the order in which they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableOptions {
    entries: Vec<(String, String)>,
}

impl TableOptions {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option; a second value for a key replaces the first.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        match self.entries.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key, value)),
        }
    }

    /// The value of an option.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// All options, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for TableOptions {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut options = Self::new();
        for (key, value) in entries {
            options.set(key, value);
        }
        options
    }
}

/// Typed access to the options of one table; every error names the table, the option and the value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionReader<'a> {
    pub(crate) table: &'a str,
    pub(crate) options: &'a TableOptions,
}

impl<'a> OptionReader<'a> {
    pub(crate) fn new(table: &'a str, options: &'a TableOptions) -> Self {
        Self { table, options }
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.options.get(key)
    }

    pub(crate) fn required(&self, key: &str, meaning: &str, example: &str) -> Result<&'a str> {
        self.text(key).ok_or_else(|| ConnectorError::MissingOption {
            table: self.table.to_owned(),
            option: key.to_owned(),
            meaning: meaning.to_owned(),
            example: example.to_owned(),
        })
    }

    pub(crate) fn bad(&self, key: &str, expected: impl Into<String>) -> ConnectorError {
        ConnectorError::BadValue {
            table: self.table.to_owned(),
            option: key.to_owned(),
            value: self.text(key).unwrap_or_default().to_owned(),
            expected: expected.into(),
        }
    }

    fn parsed<T>(&self, key: &str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
        match self.text(key) {
            None => Ok(None),
            Some(value) => parse(value.trim()).map(Some).ok_or_else(|| self.bad(key, expected)),
        }
    }

    pub(crate) fn bool(&self, key: &str, default: bool) -> Result<bool> {
        let parse = |value: &str| match value.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        Ok(self.parsed(key, "use 'true' or 'false'", parse)?.unwrap_or(default))
    }

    pub(crate) fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.parsed(key, "use a whole number that is not negative", |value| value.replace('_', "").parse().ok())
    }

    pub(crate) fn i64(&self, key: &str) -> Result<Option<i64>> {
        self.parsed(key, "use a whole number", |value| value.replace('_', "").parse().ok())
    }

    pub(crate) fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.parsed(key, "use a number", |value| value.parse().ok().filter(|number: &f64| number.is_finite()))
    }

    pub(crate) fn duration(&self, key: &str) -> Result<Option<Duration>> {
        self.parsed(
            key,
            "use a number and a unit, for example '500 ms', '10 s', '1 min', '2 h' or '1 d'",
            parse_duration,
        )
    }

    pub(crate) fn size(&self, key: &str) -> Result<Option<u64>> {
        self.parsed(key, "use a number and a unit, for example '64 kb', '128 mb' or '1 gb'", parse_size)
    }

    /// One character; `\t`, `\n`, `\\`, `\'` and `\u0001` stand for what they do elsewhere.
    pub(crate) fn ascii(&self, key: &str) -> Result<Option<u8>> {
        match self.text(key) {
            None => Ok(None),
            Some(value) => parse_ascii(value)
                .map(Some)
                .ok_or_else(|| self.bad(key, "use one ASCII character, for example ';', '\\t' or '\\u0001'")),
        }
    }

    /// One of the words, ignoring case; gives its index.
    pub(crate) fn one_of(&self, key: &str, words: &[&str]) -> Result<Option<usize>> {
        let expected = format!("use one of '{}'", words.join("', '"));
        self.parsed(key, &expected, |value| words.iter().position(|word| word.eq_ignore_ascii_case(value)))
    }
}

fn split_unit(value: &str) -> Option<(u64, String)> {
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(value.len());
    let number = value[..digits].replace('_', "").parse().ok()?;
    Some((number, value[digits..].trim().to_ascii_lowercase()))
}

/// A duration in Flink's spelling: `500 ms`, `10s`, `1 min`, `2 h`, `1 d`; a number alone counts milliseconds.
pub fn parse_duration(value: &str) -> Option<Duration> {
    let (number, unit) = split_unit(value.trim())?;
    let nanos: u64 = match unit.as_str() {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return None,
    };
    number.checked_mul(nanos).map(Duration::from_nanos)
}

/// A size in bytes in Flink's spelling: `64 kb`, `128mb`, `1 g`; units are powers of 1024, a number alone counts bytes.
pub fn parse_size(value: &str) -> Option<u64> {
    let (number, unit) = split_unit(value.trim())?;
    let bytes: u64 = match unit.as_str() {
        "" | "b" | "bytes" => 1,
        "k" | "kb" | "kib" | "kibibytes" => 1 << 10,
        "m" | "mb" | "mib" | "mebibytes" => 1 << 20,
        "g" | "gb" | "gib" | "gibibytes" => 1 << 30,
        "t" | "tb" | "tib" | "tebibytes" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(bytes)
}

fn parse_ascii(value: &str) -> Option<u8> {
    let byte = match value {
        "\\t" => b'\t',
        "\\n" => b'\n',
        "\\r" => b'\r',
        "\\\\" => b'\\',
        "\\'" => b'\'',
        "\\\"" => b'"',
        "\\0" => 0,
        _ => match value.strip_prefix("\\u").or_else(|| value.strip_prefix("\\x")) {
            Some(code) => u8::from_str_radix(code.trim_start_matches('0'), 16).ok()?,
            None if value.len() == 1 => value.as_bytes()[0],
            None => return None,
        },
    };
    byte.is_ascii().then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_flink_writes_them() {
        assert_eq!(parse_duration("10 s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("1min"), Some(Duration::from_secs(60)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("7"), Some(Duration::from_millis(7)));
        assert_eq!(parse_duration("7 weeks"), None);
        assert_eq!(parse_duration("-7 s"), None);
        assert_eq!(parse_size("128MB"), Some(128 << 20));
        assert_eq!(parse_size("1 g"), Some(1 << 30));
        assert_eq!(parse_size("99999999999999 tb"), None);
        assert_eq!(parse_ascii("\\t"), Some(b'\t'));
        assert_eq!(parse_ascii("\\u0001"), Some(1));
        assert_eq!(parse_ascii("ab"), None);
        assert_eq!(parse_ascii("é"), None);
    }
}
