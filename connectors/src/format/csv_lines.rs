//! Rows as lines of CSV.
//!
//! A writer of its own because arrow-csv's writes a null and an empty text alike; here a null is an empty field (or the null literal) and
//! an empty text is `""`. Whole numbers, texts and times without a zone of their own go from their column to the line at once; all else,
//! and whatever could need quotes, is shown as Arrow shows it first.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, make_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{Datelike, NaiveDate};
use memchr::{memchr2, memchr3};

use super::encode::{timestamp_formats, write_json};
use super::{CsvFormat, JsonFormat};

const DAY_S: i64 = 86_400;
/// The day before the first of the common era, counted from 1970.
const DAYS_BEFORE_1970: i64 = 719_163;

/// Writes the names of the columns.
pub(super) fn write_csv_header(format: &CsvFormat, schema: &Schema, out: &mut Vec<u8>) {
    for (index, field) in schema.fields().iter().enumerate() {
        if index > 0 {
            out.push(format.dialect.delimiter);
        }
        write_field(format, field.name(), false, out);
    }
    out.push(b'\n');
}

/// Writes a line for each row.
pub(super) fn write_csv(format: &CsvFormat, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let columns = batch.columns().iter().map(csv_column).collect::<Result<Vec<_>, _>>()?;
    let (plain, zoned) = timestamp_formats(batch.schema_ref(), false);
    let options = FormatOptions::default().with_timestamp_format(Some(plain)).with_timestamp_tz_format(Some(zoned));
    let formatters =
        columns.iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<Vec<_>, _>>()?;
    let never_quoted = numbers_are_never_quoted(format);
    let cells = columns.iter().map(|column| Cells::of(column, never_quoted));
    let mut cells = cells.collect::<Result<Vec<_>, _>>()?;
    let null = format.null_literal.as_deref().unwrap_or("");
    let (mut text, mut digits) = (String::new(), itoa::Buffer::new());
    for row in 0..batch.num_rows() {
        for (index, (column, cells)) in columns.iter().zip(&mut cells).enumerate() {
            if index > 0 {
                out.push(format.dialect.delimiter);
            }
            if column.is_null(row) {
                out.extend_from_slice(null.as_bytes());
                continue;
            }
            let shown = match cells {
                Cells::Integers(integers) => {
                    out.extend_from_slice(digits.format(integers.value(row)).as_bytes());
                    continue;
                }
                Cells::Texts(texts) => texts(row),
                Cells::Times(times) => match times.write(row, out) {
                    true => continue,
                    false => show(&formatters[index], row, &mut text)?,
                },
                Cells::Others => show(&formatters[index], row, &mut text)?,
            };
            write_field(format, shown, shown == null || shown.is_empty(), out);
        }
        out.push(b'\n');
    }
    Ok(())
}

/// A value as Arrow shows it.
fn show<'a>(formatter: &ArrayFormatter<'_>, row: usize, text: &'a mut String) -> Result<&'a str, ArrowError> {
    text.clear();
    formatter.value(row).write(text).map_err(|error| ArrowError::CsvError(error.to_string()))?;
    Ok(text)
}

/// The values of a column, by how they are written.
enum Cells<'a> {
    Integers(Int64Array),
    Times(Times),
    Texts(Box<dyn Fn(usize) -> &'a str + 'a>),
    Others,
}

impl<'a> Cells<'a> {
    fn of(column: &'a ArrayRef, never_quoted: bool) -> Result<Self, ArrowError> {
        Ok(match column.data_type() {
            DataType::Utf8 => {
                let texts = column.as_string::<i32>();
                Self::Texts(Box::new(|row| texts.value(row)))
            }
            DataType::Utf8View => {
                let texts = column.as_string_view();
                Self::Texts(Box::new(|row| texts.value(row)))
            }
            integer if never_quoted && integer.is_integer() && *integer != DataType::UInt64 => {
                Self::Integers(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::Timestamp(unit, None) if never_quoted => Self::Times(Times {
                values: cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
                per_second: match unit {
                    TimeUnit::Second => 1,
                    TimeUnit::Millisecond => 1_000,
                    TimeUnit::Microsecond => 1_000_000,
                    TimeUnit::Nanosecond => 1_000_000_000,
                },
                day: None,
                date: [0; 10],
            }),
            _ => Self::Others,
        })
    }
}

/// Whether numbers and times need no look at what is in them: nothing of theirs has a meaning in the dialect, and none reads as null.
fn numbers_are_never_quoted(format: &CsvFormat) -> bool {
    let has_meaning = |byte: u8| {
        byte == format.dialect.delimiter || Some(byte) == format.dialect.quote || Some(byte) == format.dialect.escape
    };
    let of_numbers = |byte: u8| byte.is_ascii_digit() || b"-:. ".contains(&byte);
    let null_is_number = format.null_literal.as_deref().is_some_and(|null| null.bytes().next().is_some_and(of_numbers));
    !null_is_number && !(0..=u8::MAX).any(|byte| of_numbers(byte) && has_meaning(byte))
}

/// Times of which most have the day of the one before.
struct Times {
    values: Int64Array,
    per_second: i64,
    /// The day of the last time that was written, from 1970 on, and its date.
    day: Option<i64>,
    date: [u8; 10],
}

impl Times {
    /// Writes a time as in `2026-01-31 23:59:59.5`, with 3, 6 or 9 digits of a second that is not whole; false where its year has not four digits.
    fn write(&mut self, row: usize, out: &mut Vec<u8>) -> bool {
        let value = self.values.value(row);
        let (seconds, part) = (value.div_euclid(self.per_second), value.rem_euclid(self.per_second));
        let (day, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S) as u64);
        if self.day != Some(day) {
            let days = day.checked_add(DAYS_BEFORE_1970).and_then(|days| i32::try_from(days).ok());
            let date = days.and_then(NaiveDate::from_num_days_from_ce_opt);
            let Some(date) = date.filter(|date| (0..=9_999).contains(&date.year())) else {
                return false;
            };
            let (year, month, day_of_month) = (date.year() as u64, u64::from(date.month()), u64::from(date.day()));
            put_digits(&mut self.date[..4], year);
            put_digits(&mut self.date[5..7], month);
            put_digits(&mut self.date[8..], day_of_month);
            (self.date[4], self.date[7]) = (b'-', b'-');
            self.day = Some(day);
        }
        out.extend_from_slice(&self.date);
        let mut clock = *b" 00:00:00";
        put_digits(&mut clock[1..3], second / 3_600);
        put_digits(&mut clock[4..6], second / 60 % 60);
        put_digits(&mut clock[7..], second % 60);
        out.extend_from_slice(&clock);
        let nanoseconds = part as u64 * (1_000_000_000 / self.per_second as u64);
        let (digits, shown) = match nanoseconds {
            0 => return true,
            whole if whole % 1_000_000 == 0 => (3, whole / 1_000_000),
            whole if whole % 1_000 == 0 => (6, whole / 1_000),
            all => (9, all),
        };
        let mut fraction = [b'.'; 10];
        put_digits(&mut fraction[1..=digits], shown);
        out.extend_from_slice(&fraction[..=digits]);
        true
    }
}

/// A number in as many digits as there is room for.
fn put_digits(room: &mut [u8], mut number: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn write_field(format: &CsvFormat, text: &str, null_like: bool, out: &mut Vec<u8>) {
    let (dialect, bytes) = (&format.dialect, text.as_bytes());
    let Some(quote) = dialect.quote else {
        out.extend_from_slice(bytes);
        return;
    };
    let comment = dialect.allow_comments && text.starts_with('#');
    let special = || {
        memchr3(quote, dialect.delimiter, b'\n', bytes).is_some()
            || memchr2(b'\r', dialect.escape.unwrap_or(b'\r'), bytes).is_some()
    };
    if !null_like && !comment && !special() {
        out.extend_from_slice(bytes);
        return;
    }
    out.push(quote);
    for byte in text.bytes() {
        if byte == quote {
            out.push(dialect.escape.unwrap_or(quote));
        } else if Some(byte) == dialect.escape {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(quote);
}

/// A column as text has it: bytes in base64, nested values in JSON.
fn csv_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let texts: Vec<Option<String>> = match column.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let binary = cast(column, &DataType::Binary)?;
            binary.as_binary::<i32>().iter().map(|bytes| bytes.map(|bytes| BASE64_STANDARD.encode(bytes))).collect()
        }
        DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) => {
            let schema = Arc::new(Schema::new(vec![Field::new("v", column.data_type().clone(), true)]));
            let batch = RecordBatch::try_new(schema, vec![make_array(column.to_data())])?;
            let mut out = Vec::new();
            write_json(&JsonFormat::default(), &batch, &mut out)?;
            let text = String::from_utf8_lossy(&out);
            let lines = text.lines().map(|line| {
                let value = line.strip_prefix("{\"v\":").and_then(|line| line.strip_suffix('}'));
                value.filter(|value| *value != "null").map(str::to_owned)
            });
            lines.collect()
        }
        _ => return Ok(Arc::clone(column)),
    };
    Ok(Arc::new(arrow::array::StringArray::from(texts)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Int16Array, StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
        TimestampNanosecondArray, TimestampSecondArray, UInt32Array, UInt64Array,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::format::CsvHeader;
    use crate::format::csv::CsvDialect;

    /// Each field as Arrow shows it, and quotes wherever anything in it might need them.
    fn twin(format: &CsvFormat, batch: &RecordBatch) -> String {
        let options = FormatOptions::default()
            .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
            .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.fZ"));
        let null = format.null_literal.as_deref().unwrap_or("");
        let mut out = String::new();
        for row in 0..batch.num_rows() {
            let fields = batch.columns().iter().map(|column| {
                if column.is_null(row) {
                    return null.to_string();
                }
                let shown = ArrayFormatter::try_new(column, &options).expect("it is shown").value(row).to_string();
                let Some(quote) = format.dialect.quote.map(char::from) else { return shown };
                let escape = format.dialect.escape.map(char::from);
                let special = |c: char| {
                    c == quote || c == char::from(format.dialect.delimiter) || "\r\n".contains(c) || Some(c) == escape
                };
                let comment = format.dialect.allow_comments && shown.starts_with('#');
                if shown != null && !shown.is_empty() && !comment && !shown.contains(special) {
                    return shown;
                }
                let mut quoted = String::from(quote);
                for c in shown.chars() {
                    if c == quote || Some(c) == escape {
                        quoted.push(escape.unwrap_or(quote));
                    }
                    quoted.push(c);
                }
                quoted.push(quote);
                quoted
            });
            let fields: Vec<String> = fields.collect();
            out.push_str(&fields.join(&char::from(format.dialect.delimiter).to_string()));
            out.push('\n');
        }
        out
    }

    fn times() -> impl Strategy<Value = i64> {
        prop_oneof![any::<i64>(), -3_000_000_000_i64..3_000_000_000, Just(0), Just(-1), Just(i64::MIN), Just(i64::MAX)]
    }

    proptest! {
        /// Lines are the same whichever way a column takes: in every dialect, for every unit of time, for years that have no four digits.
        #[test]
        fn lines_are_those_of_arrow(
            rows in proptest::collection::vec(
                (
                    proptest::option::of(times()),
                    proptest::option::of(prop_oneof!["[a#,;\"\\\\\r\né0-9-]{0,6}", "[a-z ]{20,40}[,\"]?"]),
                    any::<i16>(),
                    any::<u32>(),
                    proptest::option::of(any::<u64>()),
                ),
                1..12,
            ),
            delimiter in prop::sample::select(b",;|-7\t ".to_vec()),
            quote in prop::sample::select(vec![None, Some(b'"'), Some(b'\''), Some(b'5')]),
            escape in prop::sample::select(vec![None, Some(b'\\'), Some(b':')]),
            null_literal in prop::sample::select(vec![None, Some("NULL"), Some("-1"), Some("0"), Some("a")]),
            allow_comments in any::<bool>(),
            scale in prop::sample::select(vec![1_i64, 1_000, 1_000_000, 1_000_000_000]),
            skipped in 0_usize..3,
        ) {
            let of_times = || rows.iter().map(|row| row.0);
            // Times near to each other too.
            let near = || rows.iter().map(|row| row.0.map(|time| time % 100_000_000_000 / scale * scale));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(of_times().collect::<Int64Array>()),
                Arc::new(rows.iter().map(|row| row.1.as_deref()).collect::<StringViewArray>()),
                Arc::new(rows.iter().map(|row| row.1.as_deref()).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Int16Array>()),
                Arc::new(rows.iter().map(|row| Some(row.3)).collect::<UInt32Array>()),
                Arc::new(rows.iter().map(|row| row.4).collect::<UInt64Array>()),
                Arc::new(near().collect::<TimestampSecondArray>()),
                Arc::new(near().collect::<TimestampMillisecondArray>()),
                Arc::new(near().collect::<TimestampMicrosecondArray>()),
                Arc::new(of_times().collect::<TimestampNanosecondArray>()),
                Arc::new(near().collect::<TimestampMillisecondArray>().with_timezone("+00:00")),
            ];
            let fields: Vec<Field> = (0..).zip(&columns)
                .map(|(index, column)| Field::new(format!("c{index}"), column.data_type().clone(), true))
                .collect();
            let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit");
            let skipped = skipped.min(batch.num_rows() - 1);
            let batch = batch.slice(skipped, batch.num_rows() - skipped);
            let format = CsvFormat {
                dialect: CsvDialect { delimiter, quote, escape, allow_comments },
                null_literal: null_literal.map(String::from),
                header: CsvHeader::No,
                ignore_parse_errors: false,
            };
            let mut out = Vec::new();
            write_csv(&format, &batch, &mut out).expect("it is written");
            prop_assert_eq!(String::from_utf8(out).expect("text"), twin(&format, &batch));
        }
    }

    /// The ends of what is shown by digits.
    #[test]
    fn times_at_the_ends_of_years() {
        let times = vec![
            -62_167_219_200_000, // 0000-01-01
            -62_167_219_200_001,
            253_402_300_799_999, // 9999-12-31
            253_402_300_800_000,
            951_782_400_000, // 29 February 2000
            -1,
        ];
        let times = TimestampMillisecondArray::from(times);
        let schema = Schema::new(vec![Field::new("t", times.data_type().clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(times)]).expect("columns fit");
        let format = CsvFormat {
            dialect: CsvDialect::default(),
            null_literal: None,
            header: CsvHeader::No,
            ignore_parse_errors: false,
        };
        let mut out = Vec::new();
        write_csv(&format, &batch, &mut out).expect("it is written");
        let out = String::from_utf8(out).expect("text");
        assert_eq!(out, twin(&format, &batch));
        assert!(out.contains("\n2000-02-29 00:00:00\n1969-12-31 23:59:59.999\n"), "{out}");
    }
}
