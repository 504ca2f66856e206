//! The columns of a file, for tables that are created without.
//!
//! Text is read up to a bound and the narrowest type is taken that holds all values seen; what comes later and does not fit is a bad
//! row, with a reason that names the column. Texts that are all times are times: event time is what a stream table is for.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde_json::Value;

use super::csv::unescape;
use super::scalar;
use super::{CsvFormat, CsvHeader};

/// How much of a file is looked at.
pub(crate) const SAMPLE_BYTES: usize = 1 << 20;

/// What is known of a column's values.
#[derive(Debug, Clone, PartialEq, Default)]
enum Seen {
    /// Only nulls.
    #[default]
    Nothing,
    Bool,
    Int,
    Float,
    Timestamp,
    Date,
    Text,
    List(Box<Seen>),
    Object(Vec<(String, Seen)>),
}

impl Seen {
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            (Self::Date, Self::Timestamp) | (Self::Timestamp, Self::Date) => Self::Timestamp,
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.with(*b))),
            (Self::Object(mut members), Self::Object(others)) => {
                for (name, seen) in others {
                    match members.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => *known = std::mem::take(known).with(seen),
                        None => members.push((name, seen)),
                    }
                }
                Self::Object(members)
            }
            (a, b) if a == b => a,
            _ => Self::Text,
        }
    }

    fn of_text(text: &str) -> Self {
        let bytes = text.as_bytes();
        if scalar::parse_date(bytes).is_some() {
            Self::Date
        } else if scalar::parse_timestamp(bytes).is_some() {
            Self::Timestamp
        } else {
            Self::Text
        }
    }

    fn of_csv(text: &str) -> Self {
        let bytes = text.as_bytes();
        if text.is_empty() {
            Self::Nothing
        } else if scalar::parse_bool(bytes).is_some() {
            Self::Bool
        } else if text.parse::<i64>().is_ok() {
            Self::Int
        } else if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
            && text.parse::<f64>().is_ok()
        {
            Self::Float
        } else {
            Self::of_text(text)
        }
    }

    fn of_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Bool(_) => Self::Bool,
            Value::Number(number) if number.is_i64() => Self::Int,
            Value::Number(_) => Self::Float,
            Value::String(text) => Self::of_text(text),
            Value::Array(items) => {
                Self::List(Box::new(items.iter().map(Self::of_json).fold(Self::Nothing, Self::with)))
            }
            Value::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (name.clone(), Self::of_json(value))).collect())
            }
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Nothing | Self::Text => DataType::Utf8View,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, None),
            Self::Date => DataType::Date32,
            Self::List(item) => DataType::List(Arc::new(Field::new_list_field(item.data_type(), true))),
            // A struct without fields holds nothing; its text does.
            Self::Object(members) if members.is_empty() => DataType::Utf8View,
            Self::Object(members) => {
                DataType::Struct(members.iter().map(|(name, seen)| Field::new(name, seen.data_type(), true)).collect())
            }
        }
    }
}

fn schema(columns: Vec<(String, Seen)>) -> SchemaRef {
    let fields = columns.into_iter().map(|(name, seen)| Field::new(name, seen.data_type(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The type that holds all these texts.
pub(crate) fn infer_texts<'a>(texts: impl Iterator<Item = &'a str>) -> DataType {
    texts.map(Seen::of_csv).fold(Seen::Nothing, Seen::with).data_type()
}

/// The columns of JSON lines, from whole lines; lines that are broken do not count.
pub(crate) fn infer_json(text: &[u8]) -> Result<SchemaRef, String> {
    let objects = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let value: Value = serde_json::from_slice(line.trim_ascii()).ok()?;
        value.is_object().then(|| Seen::of_json(&value))
    });
    match objects.fold(Seen::Nothing, Seen::with) {
        Seen::Object(members) if !members.is_empty() => Ok(schema(members)),
        _ => Err("it has no line that is a JSON object".into()),
    }
}

/// The columns of CSV. Without a header they are called `column_1`, `column_2` and so on.
pub(crate) fn infer_csv(format: &CsvFormat, text: &[u8], whole: bool) -> Result<SchemaRef, String> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_start_matches('\u{feff}');
    let Some((first, after)) = format.dialect.first_record(text.as_bytes()) else {
        return Err("it has no record".into());
    };
    let kinds: Vec<Seen> = first.iter().map(|field| Seen::of_csv(field)).collect();
    let header = match format.header {
        CsvHeader::Yes => true,
        CsvHeader::No | CsvHeader::Ignored => false,
        CsvHeader::Auto => {
            let unique = first.iter().enumerate().all(|(index, name)| !first[..index].contains(name));
            unique && kinds.iter().all(|kind| *kind == Seen::Text)
        }
    };
    let names: Vec<String> = match header {
        true => first.clone(),
        false => (1..=first.len()).map(|number| format!("column_{number}")).collect(),
    };
    let mut columns: Vec<(String, Seen)> = names.into_iter().map(|name| (name, Seen::Nothing)).collect();
    let mut at = if header || format.header == CsvHeader::Ignored { after } else { 0 };
    let bytes = text.as_bytes();
    while at < bytes.len() {
        if let Some(end) = format.dialect.skipped_line(bytes, at, whole) {
            at = end;
            continue;
        }
        let mut fields = Vec::new();
        let record = format.dialect.scan(bytes, at, whole, |span| {
            let value = unescape(span.cell.text(text), format.dialect.quote, format.dialect.escape);
            let null = !span.quoted && format.null_literal.as_deref() == Some(value.as_str());
            fields.push(if null { Seen::Nothing } else { Seen::of_csv(value.trim()) });
        });
        at = match record {
            super::csv::Record::Whole(end) => end,
            super::csv::Record::Broken(end, _) => {
                at = end;
                continue;
            }
            super::csv::Record::Open => break,
        };
        if fields.len() == columns.len() {
            for ((_, known), seen) in columns.iter_mut().zip(fields) {
                *known = std::mem::take(known).with(seen);
            }
        }
    }
    Ok(schema(columns))
}

/// A schema of a file as tables have it: strings are views, dictionaries are plain.
pub(crate) fn table_schema(file: &Schema) -> SchemaRef {
    fn plain(data_type: &DataType) -> DataType {
        match data_type {
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
            DataType::Dictionary(_, value) => plain(value),
            other => other.clone(),
        }
    }
    let fields =
        file.fields().iter().map(|field| Field::new(field.name(), plain(field.data_type()), field.is_nullable()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
