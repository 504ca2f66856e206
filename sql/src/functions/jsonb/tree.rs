//! JSON as a tree that keeps what serde_json's does not: the digits of numbers.
//!
//! Objects are in PostgreSQL's order of JSONB: shorter keys first, then by their bytes, and of equal keys the last. So equal values are written in
//! one way, but for numbers of one amount (`1` and `1.0`), whose digits stay; [`Json::key`] makes these one too.

use std::fmt::Write as _;

use serde::de::IgnoredAny;

/// How deep values are nested at most, as in serde_json.
const DEPTH_MAX: usize = 128;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// What a text says; none for one that is no JSON.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // What is read below is known to be well formed.
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        Reader { text, at: 0 }.value(0)
    }

    /// An object of the last value of each key, in order.
    pub(super) fn object(mut fields: Vec<(String, Self)>) -> Self {
        fields.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
        let mut kept: Vec<(String, Self)> = Vec::with_capacity(fields.len());
        for field in fields {
            match kept.last_mut().filter(|(key, _)| *key == field.0) {
                Some(last) => *last = field,
                None => kept.push(field),
            }
        }
        Self::Object(kept)
    }

    pub(super) fn is_scalar(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// The value of a key; none where there is no such key, or no object.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Whether both are the same value: numbers by their amount.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a == b || amount(a) == amount(b),
            (Self::Array(a), Self::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Self::Object(a), Self::Object(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.same(&b.1))
            }
            (a, b) => a == b,
        }
    }

    /// As JSONB is written here: without spaces.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, &|digits, out| out.push_str(digits));
        out
    }

    /// A text that is the same for equal values and no others.
    pub(super) fn key(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, &|digits, out| {
            let (negative, digits, exponent) = amount(digits);
            let _ = write!(out, "{}{digits}e{exponent}", if negative { "-" } else { "" });
        });
        out
    }

    fn write(&self, out: &mut String, number: &dyn Fn(&str, &mut String)) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(digits) => number(digits, out),
            Self::Text(text) => quote(text, out),
            Self::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value.write(out, number);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (index, (key, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    quote(key, out);
                    out.push(':');
                    value.write(out, number);
                }
                out.push('}');
            }
        }
    }

    /// With a line for each value, as PostgreSQL's `jsonb_pretty`.
    pub(super) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write_pretty(0, &mut out);
        out
    }

    fn write_pretty(&self, level: usize, out: &mut String) {
        const INDENT: &str = "    ";
        let (open, close, count) = match self {
            Self::Array(values) => ('[', ']', values.len()),
            Self::Object(fields) => ('{', '}', fields.len()),
            scalar => return out.push_str(&scalar.text()),
        };
        out.push(open);
        for index in 0..count {
            out.push_str(if index > 0 { ",\n" } else { "\n" });
            out.push_str(&INDENT.repeat(level + 1));
            match self {
                Self::Array(values) => values[index].write_pretty(level + 1, out),
                Self::Object(fields) => {
                    quote(&fields[index].0, out);
                    out.push_str(": ");
                    fields[index].1.write_pretty(level + 1, out);
                }
                _ => {}
            }
        }
        out.push('\n');
        out.push_str(&INDENT.repeat(level));
        out.push(close);
    }
}

fn quote(text: &str, out: &mut String) {
    // A string always has its JSON.
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// Sign, digits without zeros around them, and the power of ten by which they are multiplied.
pub(super) fn amount(number: &str) -> (bool, String, i64) {
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_end_matches('0');
    // An exponent of more than 18 digits is beyond all numbers that are compared.
    let exponent: i64 = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 });
    let exponent = exponent + (all.len() - significant.len()) as i64 - fraction.len() as i64;
    match significant.trim_start_matches('0') {
        "" => (false, String::new(), 0),
        digits => (negative, digits.to_string(), exponent),
    }
}

/// Reads a text that is JSON.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Takes `byte`, if it is next.
    fn accept(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEPTH_MAX {
            return None;
        }
        Some(match self.peek()? {
            b'"' => Json::Text(self.string()?),
            b'[' => {
                self.at += 1;
                let mut values = vec![];
                while !self.accept(b']') {
                    values.push(self.value(depth + 1)?);
                    self.accept(b',');
                }
                Json::Array(values)
            }
            b'{' => {
                self.at += 1;
                let mut fields = vec![];
                while !self.accept(b'}') {
                    self.peek()?;
                    let key = self.string()?;
                    self.accept(b':');
                    fields.push((key, self.value(depth + 1)?));
                    self.accept(b',');
                }
                Json::object(fields)
            }
            _ => {
                let rest = &self.text[self.at..];
                let end = rest.find([',', ']', '}', ' ', '\n', '\r', '\t']).unwrap_or(rest.len());
                self.at += end;
                match &rest[..end] {
                    "null" => Json::Null,
                    "true" => Json::Bool(true),
                    "false" => Json::Bool(false),
                    digits => Json::Number(digits.to_string()),
                }
            }
        })
    }

    /// A text in quotes, which begins here.
    fn string(&mut self) -> Option<String> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut end = start + 1;
        let mut is_plain = true;
        while *bytes.get(end)? != b'"' {
            let escaped = bytes[end] == b'\\';
            is_plain &= !escaped;
            end += 1 + usize::from(escaped);
        }
        self.at = end + 1;
        match is_plain {
            true => Some(self.text[start + 1..end].to_string()),
            false => serde_json::from_str(&self.text[start..self.at]).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values are written in one way, and nothing of them is lost.
    #[test]
    fn written_in_one_way() {
        for (text, written) in [
            (r#" {"b": 1, "a" :2,"aa":3, "a":[ ] } "#, r#"{"a":[],"b":1,"aa":3}"#),
            ("1.10", "1.10"),
            ("12345678901234567890123", "12345678901234567890123"),
            (r#"["\u00e9\n", "a\"b", null,true ,false]"#, "[\"é\\n\",\"a\\\"b\",null,true,false]"),
            ("{}", "{}"),
        ] {
            assert_eq!(Json::parse(text).map(|json| json.text()).as_deref(), Some(written), "{text}");
        }
        for text in [
            "",
            "{",
            "{a:1}",
            "[1,]",
            "1 2",
            "'x'",
            &"[".repeat(100_000),
            &format!("{}{}", "[".repeat(200), "]".repeat(200)),
        ] {
            assert_eq!(Json::parse(text), None);
        }
    }

    /// Numbers are equal by their amount.
    #[test]
    fn equal_amounts() {
        for (a, b, equal) in [
            ("1", "1.0", true),
            ("100", "1e2", true),
            ("1.5e1", "15", true),
            ("0", "-0.0", true),
            ("0.1", "0.10", true),
            ("12345678901234567890123", "12345678901234567890124", false),
            ("-1", "1", false),
            ("10", "1", false),
        ] {
            let (a, b) = (Json::Number(a.into()), Json::Number(b.into()));
            assert_eq!(a.same(&b), equal, "{a:?} {b:?}");
            assert_eq!(a.key() == b.key(), equal, "{a:?} {b:?}");
        }
    }

    #[test]
    fn pretty_lines() {
        let json = Json::parse(r#"{"a":[1,{"b":null}],"c":{}}"#).expect("it is JSON");
        assert_eq!(
            json.pretty(),
            "{\n    \"a\": [\n        1,\n        {\n            \"b\": null\n        }\n    ],\n    \"c\": {\n    }\n}"
        );
    }

    proptest! {
        /// serde_json's tree is the oracle: the same values come out of what is written.
        #[test]
        fn agrees_with_serde(value in json_value()) {
            let text = value.to_string();
            let written = Json::parse(&text).expect("it is JSON").text();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("it is JSON"), value);
            prop_assert_eq!(&Json::parse(&written).expect("it is JSON").text(), &written);
        }
    }

    fn json_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,6}".prop_map(|text: String| text.into()),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec(("[a-c\"\\\\]{0,2}", inner), 0..4)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }
}
