//! Texts as parts of SQL, as PostgreSQL writes them: `QUOTE_LITERAL`, `QUOTE_NULLABLE`, `QUOTE_IDENT`, and `FORMAT('%I = %L', name, value)`.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};

use super::definition::{Call, Definition, Param};

/// `__format(pattern, row of values)`.
pub(crate) const FORMAT: &str = "__format";

/// Words that are no names without quotes.
const KEYWORDS: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// No text of a row is wider for its width alone, in characters.
const WIDTH_MAX: i64 = 16 << 20;

pub(super) fn definitions() -> Vec<Definition> {
    let text = |_: &[DataType]| DataType::Utf8View;
    vec![
        Definition::new("quote_literal", &[Param::Any], text, |call| each(call, |text| text.map(literal))),
        Definition::new("quote_nullable", &[Param::Any], text, |call| {
            each(call, |text| Some(text.map_or_else(|| "NULL".to_string(), literal)))
        }),
        Definition::new("quote_ident", &[Param::Text], text, |call| each(call, |text| text.map(identifier))),
        Definition {
            name: FORMAT,
            params: &[Param::Text, Param::Any],
            optional: 1,
            returns: text,
            invoke: format_rows,
        },
    ]
}

fn each(call: &Call, quoted: fn(Option<&str>) -> Option<String>) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let texts = match array.data_type() {
        // A cast writes the word, and `FORMAT` a letter.
        DataType::Boolean => cast(&array, &DataType::Utf8View)?.as_string_view().clone(),
        _ => texts_of(&array)?,
    };
    Ok(Arc::new(texts.iter().map(quoted).collect::<StringViewArray>()))
}

/// Values as texts, as PostgreSQL's `FORMAT` writes them.
fn texts_of(array: &ArrayRef) -> Result<StringViewArray> {
    let texts = match array.data_type() {
        DataType::Boolean => {
            let words = array.as_boolean().iter().map(|truth| truth.map(|truth| if truth { "t" } else { "f" }));
            return Ok(words.collect());
        }
        DataType::Timestamp(..) => {
            let texts = cast(array, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>().iter().map(|text| text.map(|text| text.replacen('T', " ", 1)));
            return Ok(texts.collect());
        }
        _ => cast(array, &DataType::Utf8View)?,
    };
    Ok(texts.as_string_view().clone())
}

/// A text as a constant: a quote in it is written twice, and where a backslash is in it, it is one of those in which two of them stand for one.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', r"\\")),
        false => format!("'{quoted}'"),
    }
}

/// A name in quotes, if it needs them.
fn identifier(name: &str) -> String {
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    match begins && is_plain && KEYWORDS.binary_search(&name).is_err() {
        true => name.to_string(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

fn format_rows(call: &Call) -> Result<ArrayRef> {
    let patterns = call.text(0)?;
    let columns = call.values(1, "FORMAT")?;
    let columns = columns.iter().map(texts_of).collect::<Result<Vec<_>>>()?;
    let rows = patterns.iter().enumerate().map(|(row, pattern)| {
        let value = |index: usize| columns.get(index).map(|column| column.is_valid(row).then(|| column.value(row)));
        pattern.map(|pattern| formatted(pattern, &value)).transpose()
    });
    let rows = rows.collect::<Result<StringViewArray, String>>();
    Ok(Arc::new(rows.map_err(|message| DataFusionError::Execution(format!("FORMAT: {message}")))?))
}

/// The pattern with values in the places of its `%s`, `%I` and `%L`; `value` gives them from 0 on, none beyond the last.
fn formatted<'v>(pattern: &str, value: &dyn Fn(usize) -> Option<Option<&'v str>>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = pattern;
    let mut next = 0;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let mut take = |place: Option<usize>| {
            let index = match place {
                Some(0) => return Err("the first value is `1$`".to_string()),
                Some(place) => place - 1,
                None => next,
            };
            next = index + 1;
            value(index).ok_or_else(|| format!("`{pattern}` asks for value {}, which is not there", index + 1))
        };
        let (specifier, after) = Specifier::read(after).map_err(|message| format!("`{pattern}`: {message}"))?;
        let (mut is_left, mut width) = (specifier.is_left, specifier.width.unwrap_or(0));
        if let Some(place) = specifier.width_at {
            let given = take(place)?.unwrap_or("0");
            width = given.trim().parse().map_err(|_| format!("`{given}` is no width"))?;
            is_left |= width < 0;
            width = width.saturating_abs();
        }
        if width > WIDTH_MAX {
            return Err(format!("{width} characters are too many; a text is at most {WIDTH_MAX} wide"));
        }
        let written = match (specifier.kind, take(specifier.place)?) {
            ('s', text) => text.unwrap_or_default().to_string(),
            ('I', Some(name)) => identifier(name),
            ('I', None) => return Err("NULL is no name for `%I`".to_string()),
            ('L', Some(text)) => literal(text),
            (_, _) => "NULL".to_string(),
        };
        let missing = usize::try_from(width).unwrap_or(0).saturating_sub(written.chars().count());
        let _ = match is_left {
            true => write!(out, "{written}{}", " ".repeat(missing)),
            false => write!(out, "{}{written}", " ".repeat(missing)),
        };
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// `%[place$][-][width]kind`; a width is a number, `*` or `*place$`.
struct Specifier {
    place: Option<usize>,
    is_left: bool,
    width: Option<i64>,
    /// The width is a value, the next one or that of a place.
    width_at: Option<Option<usize>>,
    kind: char,
}

impl Specifier {
    /// What stands behind a `%`, and what comes after it.
    fn read(text: &str) -> Result<(Self, &str), String> {
        let (place, mut rest) = place(text);
        let mut is_left = false;
        while let Some(after) = rest.strip_prefix('-') {
            (is_left, rest) = (true, after);
        }
        let (mut width, mut width_at) = (None, None);
        if let Some(after) = rest.strip_prefix('*') {
            let (of_width, after) = self::place(after);
            (width_at, rest) = (Some(of_width), after);
        } else {
            let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
            if digits > 0 {
                width = Some(rest[..digits].parse().unwrap_or(i64::MAX));
                rest = &rest[digits..];
            }
        }
        let mut letters = rest.chars();
        match letters.next() {
            Some(kind @ ('s' | 'I' | 'L')) => Ok((Self { place, is_left, width, width_at, kind }, letters.as_str())),
            Some(letter) => Err(format!("`%{letter}` means nothing; there are `%s`, `%I`, `%L` and `%%`")),
            None => Err("it ends within a `%`; a percent sign is `%%`".to_string()),
        }
    }
}

/// `2$`, and what comes after it.
fn place(text: &str) -> (Option<usize>, &str) {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    match text[digits..].strip_prefix('$') {
        Some(rest) if digits > 0 => (Some(text[..digits].parse().unwrap_or(usize::MAX)), rest),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pattern: &str) -> Result<String, String> {
        let values = [Some("a b"), None, Some("it's"), Some("-6")];
        formatted(pattern, &|index| values.get(index).copied())
    }

    /// PostgreSQL 15 gives these.
    #[test]
    fn values_stand_in_their_places() {
        for (pattern, text) in [
            ("%s|%s|%s", "a b||it's"),
            ("%I %L %L", "\"a b\" NULL 'it''s'"),
            ("%3$s %1$s %s 100%%", "it's a b  100%"),
            ("[%5s][%-5s][%05s]", "[  a b][     ][ it's]"),
            ("[%1$*4$s] [%1$-6s]", "[a b   ] [a b   ]"),
            ("none", "none"),
        ] {
            assert_eq!(shown(pattern).as_deref(), Ok(text), "{pattern}");
        }
        for (pattern, message) in [
            ("%s %s %s %s %s", "asks for value 5"),
            ("%0$s", "the first value is"),
            ("%d", "`%d` means nothing"),
            ("%", "it ends within"),
            ("%2$I", "NULL is no name"),
            ("%*s", "`a b` is no width"),
            ("%99999999999999999999s", "too many"),
        ] {
            let error = shown(pattern).expect_err(pattern);
            assert!(error.contains(message), "{pattern}: {error}");
        }
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal(r"a\b'"), r"E'a\\b'''");
        for (name, quoted) in [
            ("a_1", "a_1"),
            ("A", "\"A\""),
            ("select", "\"select\""),
            ("1a", "\"1a\""),
            ("a\"b", "\"a\"\"b\""),
            ("", "\"\""),
        ] {
            assert_eq!(identifier(name), quoted);
        }
        assert!(KEYWORDS.is_sorted());
    }
}
