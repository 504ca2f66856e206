//! Times and numbers as texts and texts as times, by a pattern of any kind: `TO_CHAR`, and `TO_TIMESTAMP`, `TO_DATE` and their kin.
//!
//! A pattern with a `%` is strftime's. What `TO_CHAR` gets else is PostgreSQL's; a pattern that texts are read by is PostgreSQL's or Java's
//! ([`Template::is_meant`]). A text that does not fit one of PostgreSQL's patterns is an error, as there; of the others it is NULL, as in Flink. A pattern means the
//! same as a constant and in a column: the one of the row before is kept compiled.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, StringViewBuilder, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Float64Type, Int64Type, Time64NanosecondType, TimeUnit,
};
use chrono::{FixedOffset, NaiveDate, NaiveTime, Offset, TimeDelta, TimeZone};
use datafusion::common::{Result, exec_err};

use super::date_pattern::{DatePattern, PatternCache};
use super::definition::{Call, Definition, Param};
use super::interval::intervals;
use super::template::{Digits, Moment, NumberTemplate, Reading, Template};
use super::time::{WallClock, days, to_utc, zone};
use crate::types::{UTC, sql_name};

/// `TO_TIMESTAMP(text, pattern)` where the pattern is, or may be, one of PostgreSQL's: it keeps microseconds.
pub(crate) const READ_TIMESTAMP: &str = "__to_timestamp";
/// `TO_TIMESTAMP_LTZ` of the same.
pub(crate) const READ_INSTANT: &str = "__to_timestamp_ltz";

pub(super) fn definitions() -> Vec<Definition> {
    let to_timestamp = |_: &[DataType]| DataType::Timestamp(TimeUnit::Microsecond, None);
    let to_instant = |_: &[DataType]| DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
    let texts = &[Param::Text, Param::Text];
    vec![
        Definition::new("to_char", &[Param::Any, Param::Text], |_| DataType::Utf8View, to_char),
        Definition::new(READ_TIMESTAMP, texts, to_timestamp, |call| timestamps(call, false)),
        Definition::new("try_to_timestamp", texts, to_timestamp, |call| timestamps(call, true)),
        Definition::new(READ_INSTANT, texts, to_instant, instants),
        Definition::new("try_to_date", texts, |_| DataType::Date32, |call| dates(call, true)),
    ]
}

#[derive(Debug)]
enum Pattern {
    Template(Template),
    Other(DatePattern),
}

impl Pattern {
    fn to_write(pattern: &str) -> Result<Self> {
        if pattern.contains('%') { Self::other(pattern) } else { Ok(Self::Template(Template::new(pattern))) }
    }

    fn to_read(pattern: &str) -> Result<Self> {
        match !pattern.contains('%') && Template::is_meant(pattern) {
            true => Ok(Self::Template(Template::new(pattern))),
            false => Self::other(pattern),
        }
    }

    fn other(pattern: &str) -> Result<Self> {
        DatePattern::new(pattern).map(Self::Other)
    }
}

/// Whether texts are read by one of PostgreSQL's patterns here.
pub(crate) fn is_template(pattern: &str) -> bool {
    matches!(Pattern::to_read(pattern), Ok(Pattern::Template(_)))
}

// ---------------------------------------------------------------- texts of times

fn to_char(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    match array.data_type() {
        DataType::Timestamp(..) => of_times(call),
        DataType::Date32 | DataType::Date64 => {
            of_times(&call.with_args(vec![cast(&array, &DataType::Timestamp(TimeUnit::Second, None))?, call.array(1)?]))
        }
        // PostgreSQL's patterns take a time of day for an interval; strftime's take it for what it is.
        DataType::Time32(_) | DataType::Time64(_) => of_times_of_day(call, &array),
        DataType::Interval(_) | DataType::Duration(_) => {
            let intervals = intervals(&array)?;
            written(
                call,
                |row| intervals.is_valid(row).then(|| Moment::of_interval(intervals.value(row))),
                |_, _, _| {
                    exec_err!("TO_CHAR: a pattern with a `%` is of times; of an INTERVAL write it as `DD HH24:MI:SS`")
                },
            )
        }
        numeric if numeric.is_numeric() => of_numbers(call, &array),
        DataType::Null => Ok(arrow::array::new_null_array(&DataType::Utf8View, call.rows)),
        other => exec_err!(
            "TO_CHAR takes a TIMESTAMP, DATE, TIME, INTERVAL or number, and not a {}; `CAST(x AS STRING)` writes any type",
            sql_name(other)
        ),
    }
}

/// The rows' texts: by a template of what `moment` gives, by another pattern as `other` writes it. `other` is asked only for rows that have a moment.
fn written<'a>(
    call: &Call,
    moment: impl Fn(usize) -> Option<Moment<'a>>,
    other: impl Fn(usize, &DatePattern, &mut String) -> Result<()>,
) -> Result<ArrayRef> {
    let patterns = call.text(1)?;
    let mut cache = PatternCache::default();
    let (mut out, mut text) = (StringViewBuilder::with_capacity(call.rows), String::new());
    for row in 0..call.rows {
        let (Some(moment), true) = (moment(row), patterns.is_valid(row)) else {
            out.append_null();
            continue;
        };
        text.clear();
        match cache.get_or(patterns.value(row), Pattern::to_write)? {
            Pattern::Other(pattern) => other(row, pattern, &mut text)?,
            Pattern::Template(template) => {
                if let Err(word) = template.write(&moment, &mut text) {
                    return exec_err!(
                        "TO_CHAR: `{word}` of the pattern '{}' is of dates, and an INTERVAL or a TIME has none; write `DD` and `HH24`",
                        patterns.value(row)
                    );
                }
            }
        }
        out.append_value(&text);
    }
    Ok(Arc::new(out.finish()))
}

fn of_times(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let clock = WallClock::of(call, 0)?;
    let values = cast(&array, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    let is_instant = matches!(array.data_type(), DataType::Timestamp(_, Some(_)));
    // The clock's time, and how far it is ahead of UTC.
    let at = |row: usize| {
        let utc = values.is_valid(row).then(|| clock.utc(values.value(row))).flatten()?;
        let offset_s = clock.zone.map_or(0, |zone| zone.offset_from_utc_datetime(&utc).fix().local_minus_utc());
        Some((utc.checked_add_signed(TimeDelta::seconds(i64::from(offset_s)))?, offset_s))
    };
    // All that the database of zones tells is the offset.
    let name = match clock.zone {
        Some(_) => None,
        None => Some(if is_instant { UTC } else { "" }),
    };
    written(
        call,
        |row| at(row).map(|(time, offset_s)| Moment::of_clock(time, i64::from(offset_s), name)),
        |row, pattern, out| match (at(row), pattern) {
            // With the offset, which `%z` writes.
            (Some((time, offset_s)), DatePattern::Chrono(text)) if is_instant => {
                let shown = FixedOffset::east_opt(offset_s).and_then(|zone| zone.from_local_datetime(&time).single());
                match shown.map(|shown| write!(out, "{}", shown.format(text))) {
                    Some(Ok(())) => Ok(()),
                    _ => exec_err!("date pattern '{text}' is not one of strftime's"),
                }
            }
            (Some((time, _)), pattern) => pattern.format(time, out),
            (None, _) => Ok(()),
        },
    )
}

fn of_times_of_day(call: &Call, array: &ArrayRef) -> Result<ArrayRef> {
    let nanoseconds = cast(array, &DataType::Time64(TimeUnit::Nanosecond))?;
    let nanoseconds = nanoseconds.as_primitive::<Time64NanosecondType>();
    let moment = |row: usize| {
        let interval = arrow::datatypes::IntervalMonthDayNano::new(0, 0, nanoseconds.value(row));
        nanoseconds.is_valid(row).then(|| Moment::of_interval(interval))
    };
    written(call, moment, |row, pattern, out| {
        let nanoseconds = nanoseconds.value(row);
        let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds as u32, rest as u32);
        pattern.format(NaiveDate::default().and_time(time.unwrap_or_default()), out)
    })
}

/// Numbers by PostgreSQL's patterns of numbers.
fn of_numbers(call: &Call, array: &ArrayRef) -> Result<ArrayRef> {
    let patterns = call.text(1)?;
    let mut cache = PatternCache::default();
    let (decimals, scale) = match array.data_type() {
        data_type if data_type.is_integer() => (Some(cast(array, &DataType::Decimal128(38, 0))?), 0),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
            (Some(cast(array, &DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale))?), *scale)
        }
        _ => (None, 0),
    };
    let doubles = if decimals.is_none() { Some(cast(array, &DataType::Float64)?) } else { None };
    let (mut out, mut text) = (StringViewBuilder::with_capacity(call.rows), String::new());
    for row in 0..call.rows {
        if array.is_null(row) || patterns.is_null(row) {
            out.append_null();
            continue;
        }
        let pattern = patterns.value(row);
        let template = cache.get_or(pattern, |pattern| match NumberTemplate::new(pattern) {
            Ok(template) => Ok(template),
            Err(reason) => exec_err!("TO_CHAR: the pattern '{pattern}' is none of numbers: {reason}"),
        })?;
        let digits = match (&decimals, &doubles) {
            (Some(decimals), _) => {
                Digits::of_decimal(decimals.as_primitive::<Decimal128Type>().value(row), scale, template.places())
            }
            (None, Some(doubles)) => {
                let double = doubles.as_primitive::<Float64Type>().value(row);
                if !double.is_finite() {
                    return exec_err!("TO_CHAR: {double} has no digits; `CAST(x AS STRING)` writes it");
                }
                Some(Digits::of_double(double, template.places()))
            }
            (None, None) => None,
        };
        let Some(digits) = digits else {
            return exec_err!("TO_CHAR: a number has too many digits for the pattern '{pattern}'");
        };
        text.clear();
        template.write(&digits, &mut text);
        out.append_value(&text);
    }
    Ok(Arc::new(out.finish()))
}

// ---------------------------------------------------------------- times of texts

/// What each text says.
fn read(call: &Call, lenient: bool) -> Result<Vec<Option<Reading>>> {
    let (texts, patterns) = (call.text(0)?, call.text(1)?);
    let mut cache = PatternCache::default();
    let times = texts.iter().zip(patterns.iter()).map(|(text, pattern)| {
        let (Some(text), Some(pattern)) = (text, pattern) else { return Ok(None) };
        let template = match cache.get_or(pattern, Pattern::to_read)? {
            Pattern::Other(other) => return Ok(other.parse(text).map(|time| Reading { time, offset_s: None })),
            Pattern::Template(template) => template,
        };
        match template.read(text) {
            Ok(reading) => Ok(Some(reading)),
            Err(_) if lenient => Ok(None),
            Err(misfit) => {
                let name = call.name.trim_start_matches('_').to_uppercase();
                let place = misfit.place.map_or(String::new(), |place| format!(" at character {place}"));
                let way_out = if name == "TO_DATE" { "TRY_TO_DATE" } else { "TRY_TO_TIMESTAMP" };
                exec_err!(
                    "{name}: '{text}' does not fit the pattern '{pattern}'{place}: {}; {way_out} gives NULL for such a text",
                    misfit.reason
                )
            }
        }
    });
    times.collect()
}

/// On the session's clock where the text has an offset of its own, else as the text has it.
fn timestamps(call: &Call, lenient: bool) -> Result<ArrayRef> {
    let session = zone(call.time_zone())?;
    let times = read(call, lenient)?.into_iter().map(|read| {
        let Reading { time, offset_s } = read?;
        let time = match offset_s {
            None => time,
            Some(offset_s) => {
                let utc = time.checked_sub_signed(TimeDelta::seconds(offset_s))?;
                session.from_utc_datetime(&utc).naive_local()
            }
        };
        Some(time.and_utc().timestamp_micros())
    });
    Ok(Arc::new(times.collect::<TimestampMicrosecondArray>()))
}

fn instants(call: &Call) -> Result<ArrayRef> {
    let session = zone(call.time_zone())?;
    let times = read(call, false)?.into_iter().map(|read| {
        let Reading { time, offset_s } = read?;
        let utc = match offset_s {
            None => to_utc(&session, time),
            Some(offset_s) => time.checked_sub_signed(TimeDelta::seconds(offset_s)),
        };
        utc.map(|utc| utc.and_utc().timestamp_micros())
    });
    Ok(Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone(UTC)))
}

/// `TO_DATE(text, pattern)`.
pub(super) fn dates(call: &Call, lenient: bool) -> Result<ArrayRef> {
    let dates = read(call, lenient)?.into_iter().map(|read| read.map(|read| days(read.time.date())));
    Ok(Arc::new(dates.collect::<Date32Array>()))
}
