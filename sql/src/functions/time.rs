//! Time: parts of timestamps, patterns, arithmetic in calendar units, under Flink's names.
//!
//! Where Flink answers NULL (a text that is no date) we do too: one bad value must not end a stream. Values of `TIMESTAMP_LTZ` are shown
//! in the session's time zone, as everywhere in SQL.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, Int64Array, StringViewBuilder, Time64MicrosecondArray,
    TimestampMillisecondArray,
};
use arrow::compute::{DatePart, cast, date_part};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Time64MicrosecondType, TimeUnit};
use arrow::temporal_conversions::{
    timestamp_ms_to_datetime, timestamp_ns_to_datetime, timestamp_s_to_datetime, timestamp_us_to_datetime,
};
use chrono::{Datelike, Months, NaiveDate, NaiveDateTime, TimeDelta, TimeZone};
use datafusion::common::{Result, exec_err};

use super::date_pattern::{PatternCache, parse_iso};
use super::definition::{Call, Definition, Param};
use super::local_time::time_zone;
use super::time_text;
use crate::types::{UTC, sql_name};

const DAY_MICROS: i64 = 86_400_000_000;

/// `TIMESTAMPADD` of days and longer units.
pub(crate) const ADD_DAYS: &str = "__add_days";

/// Flink's pattern where none is given.
const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

pub(crate) fn definitions() -> Vec<Definition> {
    let part = |name, invoke| Definition::new(name, &[Param::Temporal], |_| DataType::Int64, invoke);
    vec![
        part("year", |call| part_of(call, DatePart::Year)),
        part("quarter", |call| part_of(call, DatePart::Quarter)),
        part("month", |call| part_of(call, DatePart::Month)),
        part("week", |call| part_of(call, DatePart::WeekISO)),
        part("dayofyear", |call| part_of(call, DatePart::DayOfYear)),
        part("dayofmonth", |call| part_of(call, DatePart::Day)),
        part("dayofweek", |call| part_of(call, DatePart::DayOfWeekSunday1)),
        part("hour", |call| part_of(call, DatePart::Hour)),
        part("minute", |call| part_of(call, DatePart::Minute)),
        part("second", |call| part_of(call, DatePart::Second)),
        Definition::new("date_format", &[Param::Timestamp, Param::Text], |_| DataType::Utf8View, date_format),
        Definition {
            name: "to_timestamp",
            params: &[Param::Any, Param::Text],
            optional: 1,
            returns: |_| DataType::Timestamp(TimeUnit::Millisecond, None),
            invoke: to_timestamp,
        },
        Definition {
            name: "to_timestamp_ltz",
            params: &[Param::Any, Param::Any, Param::Text],
            optional: 2,
            returns: |_| DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())),
            invoke: to_timestamp_ltz,
        },
        Definition::new("convert_tz", &[Param::Text, Param::Text, Param::Text], |_| DataType::Utf8View, convert_tz),
        Definition {
            name: "to_date",
            params: &[Param::Any, Param::Text],
            optional: 1,
            returns: |_| DataType::Date32,
            invoke: to_date,
        },
        Definition {
            name: "from_unixtime",
            params: &[Param::Integer, Param::Text],
            optional: 1,
            returns: |_| DataType::Utf8View,
            invoke: from_unixtime,
        },
        Definition {
            name: "unix_timestamp",
            params: &[Param::Text, Param::Text],
            optional: 1,
            returns: |_| DataType::Int64,
            invoke: unix_timestamp,
        },
        Definition::new(
            "timestampdiff",
            &[Param::Text, Param::Timestamp, Param::Timestamp],
            |_| DataType::Int64,
            timestampdiff,
        ),
        Definition::new(
            "timestampadd",
            &[Param::Text, Param::Integer, Param::TimestampOrTime],
            |types| types.get(2).cloned().unwrap_or(DataType::Null),
            timestampadd,
        ),
        Definition::new(
            ADD_DAYS,
            &[Param::Text, Param::Integer, Param::Temporal],
            |types| types.get(2).cloned().unwrap_or(DataType::Null),
            add_days,
        ),
    ]
}

fn part_of(call: &Call, part: DatePart) -> Result<ArrayRef> {
    let mut array = call.array(0)?;
    if let DataType::Timestamp(unit, Some(_)) = array.data_type() {
        array = cast(&array, &DataType::Timestamp(*unit, Some(call.time_zone().into())))?;
    }
    Ok(cast(&date_part(&array, part)?, &DataType::Int64)?)
}

pub(super) fn zone(name: &str) -> Result<Tz> {
    Ok(name.parse()?)
}

/// How the values of a timestamp column read on the wall clock: of the session's zone for instants.
pub(super) struct WallClock {
    of: fn(i64) -> Option<NaiveDateTime>,
    /// Units of a second.
    units: i64,
    /// None where it is UTC's.
    pub(super) zone: Option<Tz>,
}

impl WallClock {
    pub(super) fn of(call: &Call, index: usize) -> Result<Self> {
        let array = &call.array(index)?;
        let DataType::Timestamp(unit, array_zone) = array.data_type() else {
            return exec_err!("{} got a {} for a timestamp", call.name, array.data_type());
        };
        let (of, units): (fn(i64) -> _, _) = match unit {
            TimeUnit::Second => (timestamp_s_to_datetime, 1),
            TimeUnit::Millisecond => (timestamp_ms_to_datetime, 1_000),
            TimeUnit::Microsecond => (timestamp_us_to_datetime, 1_000_000),
            TimeUnit::Nanosecond => (timestamp_ns_to_datetime, 1_000_000_000),
        };
        let is_local = array_zone.is_some() && call.time_zone() != UTC;
        Ok(Self { of, units, zone: is_local.then(|| zone(call.time_zone())).transpose()? })
    }

    /// The time of UTC's clock.
    pub(super) fn utc(&self, value: i64) -> Option<NaiveDateTime> {
        (self.of)(value)
    }

    fn at(&self, value: i64) -> Option<NaiveDateTime> {
        let time = self.utc(value)?;
        Some(self.zone.map_or(time, |zone| zone.from_utc_datetime(&time).naive_local()))
    }
}

/// The wall clock of each row: of the session's zone for instants.
fn datetimes(call: &Call, index: usize) -> Result<Vec<Option<NaiveDateTime>>> {
    let clock = WallClock::of(call, index)?;
    let values = cast(&call.array(index)?, &DataType::Int64)?;
    Ok(values.as_primitive::<Int64Type>().iter().map(|value| clock.at(value?)).collect())
}

/// The instant at which the session's wall clock shows `time`; the earlier of two, and none in the gap of a clock change.
pub(super) fn to_utc(zone: &Tz, time: NaiveDateTime) -> Option<NaiveDateTime> {
    zone.from_local_datetime(&time).earliest().map(|time| time.naive_utc())
}

/// Since 1980 the offsets of zones have changed at whole minutes of UTC only; before, some did at any second.
const ZONES_CHANGE_S: i64 = 60;
const YEAR_1980_S: i64 = 315_532_800;

/// Times that come in order mostly have the text of the one before, which is then not made anew.
fn date_format(call: &Call) -> Result<ArrayRef> {
    let (clock, patterns) = (WallClock::of(call, 0)?, call.text(1)?);
    let values = cast(&call.array(0)?, &DataType::Int64)?;
    let mut cache = PatternCache::default();
    let (mut out, mut text) = (StringViewBuilder::with_capacity(call.rows), String::new());
    // Of the last row: its pattern, and the quotient that the times of equal text share.
    let mut last: Option<(&str, i64)> = None;
    for (value, pattern) in values.as_primitive::<Int64Type>().iter().zip(patterns.iter()) {
        let (Some(value), Some(pattern)) = (value, pattern) else {
            out.append_null();
            continue;
        };
        let compiled = cache.get(pattern)?;
        let period_s = match clock.zone {
            None => compiled.period_s(),
            Some(_) if value < YEAR_1980_S * clock.units => None,
            Some(_) => compiled.period_s().map(|period_s| period_s.min(ZONES_CHANGE_S)),
        };
        let period = period_s.map(|period_s| (pattern, value.div_euclid(period_s * clock.units)));
        if period.is_none() || period != last {
            last = None;
            let Some(time) = clock.at(value) else {
                out.append_null();
                continue;
            };
            text.clear();
            compiled.format(time, &mut text)?;
            last = period;
        }
        out.append_value(&text);
    }
    Ok(Arc::new(out.finish()))
}

/// The texts of argument 0 as times, by the pattern in argument 1 if there is one.
fn parsed(call: &Call) -> Result<Vec<Option<NaiveDateTime>>> {
    let (texts, patterns) = (call.text(0)?, call.text(1)?);
    let has_pattern = call.is_given(1);
    let mut cache = PatternCache::default();
    let times = texts.iter().zip(patterns.iter()).map(|(text, pattern)| {
        Ok(match (text, pattern) {
            (Some(text), Some(pattern)) => cache.get(pattern)?.parse(text),
            (Some(text), None) if !has_pattern => parse_iso(text),
            _ => None,
        })
    });
    times.collect()
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Numbers are seconds, as in DataFusion's function of the same name.
fn to_timestamp(call: &Call) -> Result<ArrayRef> {
    let array = &call.array(0)?;
    match array.data_type() {
        data_type if is_text(data_type) => {
            let times = parsed(call)?.into_iter().map(|time| time.map(|time| time.and_utc().timestamp_millis()));
            Ok(Arc::new(times.collect::<TimestampMillisecondArray>()))
        }
        data_type if data_type.is_integer() => {
            let seconds = call.integer_or(0, 0)?;
            let times: TimestampMillisecondArray =
                seconds.iter().map(|second| second.and_then(|second| second.checked_mul(1000))).collect();
            Ok(Arc::new(times))
        }
        data_type if data_type.is_numeric() => {
            let seconds = cast(array, &DataType::Float64)?;
            let seconds: &Float64Array = seconds.as_primitive::<Float64Type>();
            let times: TimestampMillisecondArray =
                seconds.iter().map(|second| second.map(|second| (second * 1e3).round() as i64)).collect();
            Ok(Arc::new(times))
        }
        _ => Ok(cast(array, &call.return_type)?),
    }
}

/// `TO_TIMESTAMP_LTZ(number, precision)`: the number counts seconds (0), milliseconds (3), ...; or a text as `TO_TIMESTAMP`, read in the
/// session's time zone, or that of a third argument.
fn to_timestamp_ltz(call: &Call) -> Result<ArrayRef> {
    let array = &call.array(0)?;
    let times: TimestampMillisecondArray = if is_text(array.data_type()) {
        let mut zones = Zones::default();
        let (own, has_zone, session) = (call.text(2)?, call.is_given(2), call.time_zone().to_string());
        let times = parsed(call)?.into_iter().enumerate().map(|(row, time)| {
            let name = if has_zone { own.is_valid(row).then(|| own.value(row)) } else { Some(session.as_str()) };
            let (Some(time), Some(name)) = (time, name) else { return Ok(None) };
            let zone = zones.get(call, name)?;
            Ok(to_utc(&zone, time).map(|time| time.and_utc().timestamp_millis()))
        });
        times.collect::<Result<_>>()?
    } else if array.data_type().is_integer() {
        let (numbers, precisions) = (call.integer_or(0, 0)?, call.integer_or(1, 3)?);
        let times = numbers.iter().zip(precisions.iter()).map(|(number, precision)| {
            Ok(match (number, precision) {
                (Some(number), Some(0)) => number.checked_mul(1000),
                (Some(number), Some(3)) => Some(number),
                (Some(number), Some(6)) => Some(number.div_euclid(1_000)),
                (Some(number), Some(9)) => Some(number.div_euclid(1_000_000)),
                (_, None) | (None, _) => None,
                (_, Some(precision)) => {
                    return exec_err!("TO_TIMESTAMP_LTZ: precision {precision} is none of 0, 3, 6, 9");
                }
            })
        });
        times.collect::<Result<_>>()?
    } else if array.data_type().is_numeric() {
        let scale = 10f64.powi(3 - call.integer_or(1, 3)?.value(0) as i32);
        let numbers = cast(array, &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        numbers.iter().map(|number| number.map(|number| (number * scale).round() as i64)).collect()
    } else {
        return Ok(cast(array, &call.return_type)?);
    };
    Ok(Arc::new(times.with_timezone(UTC)))
}

/// Zones by the names that Java knows too: `GMT+8` and abbreviations like `PST`. The last one is kept: a column of zones is a constant in practice.
#[derive(Default)]
struct Zones {
    last: Option<(String, Tz)>,
}

/// Abbreviations that no other database of zones has.
const ABBREVIATIONS: [(&str, &str); 5] = [
    ("PST", "America/Los_Angeles"),
    ("CST", "America/Chicago"),
    ("CTT", "Asia/Shanghai"),
    ("JST", "Asia/Tokyo"),
    ("IST", "Asia/Kolkata"),
];

impl Zones {
    fn get(&mut self, call: &Call, name: &str) -> Result<Tz> {
        if let Some((last, zone)) = &self.last
            && last == name
        {
            return Ok(*zone);
        }
        let trimmed = name.trim();
        let known = ABBREVIATIONS.iter().find(|(abbreviation, _)| trimmed == *abbreviation).map(|(_, zone)| *zone);
        let offset = trimmed.strip_prefix("GMT").or_else(|| trimmed.strip_prefix("UTC"));
        let parsed = match (known, offset.filter(|offset| offset.starts_with(['+', '-']))) {
            (Some(known), _) => time_zone(known),
            (None, Some(offset)) => time_zone(&full_offset(offset)),
            (None, None) => time_zone(trimmed),
        };
        let Some(zone) = parsed else {
            return exec_err!(
                "{}: `{name}` is no time zone; write a name such as `Europe/Berlin`, or an offset such as `+02:00`",
                call.name.to_uppercase()
            );
        };
        self.last = Some((name.to_string(), zone));
        Ok(zone)
    }
}

/// `-8` as `-08:00`.
fn full_offset(offset: &str) -> String {
    let (sign, time) = offset.split_at(1);
    match time.split_once(':').unwrap_or((time, "00")) {
        (hours, minutes) if hours.len() <= 2 => format!("{sign}{hours:0>2}:{minutes:0>2}"),
        _ => offset.to_string(),
    }
}

/// `CONVERT_TZ(text, from, to)`: the time that a text is on the clocks of one zone, as those of another show it. Null where the text is no
/// time.
fn convert_tz(call: &Call) -> Result<ArrayRef> {
    let (texts, from, to) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let (mut zones_from, mut zones_to) = (Zones::default(), Zones::default());
    let mut patterns = PatternCache::default();
    let mut out = StringViewBuilder::with_capacity(call.rows);
    for ((text, from), to) in texts.iter().zip(from.iter()).zip(to.iter()) {
        let (Some(text), Some(from), Some(to)) = (text, from, to) else {
            out.append_null();
            continue;
        };
        let (from, to) = (zones_from.get(call, from)?, zones_to.get(call, to)?);
        match parse_iso(text).and_then(|time| to_utc(&from, time)) {
            None => out.append_null(),
            Some(time) => {
                let mut shown = String::new();
                patterns.get(DEFAULT_PATTERN)?.format(to.from_utc_datetime(&time).naive_local(), &mut shown)?;
                out.append_value(shown);
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

pub(super) fn days(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - 719_163
}

fn to_date(call: &Call) -> Result<ArrayRef> {
    match is_text(call.array(0)?.data_type()) {
        true if call.is_given(1) => time_text::dates(call, false),
        true => {
            let dates = parsed(call)?.into_iter().map(|time| time.map(|time| days(time.date())));
            Ok(Arc::new(dates.collect::<Date32Array>()))
        }
        false => Ok(cast(&call.array(0)?, &DataType::Date32)?),
    }
}

fn from_unixtime(call: &Call) -> Result<ArrayRef> {
    let (seconds, patterns) = (call.integer_or(0, 0)?, call.text(1)?);
    let (zone, has_pattern) = (zone(call.time_zone())?, call.is_given(1));
    let mut cache = PatternCache::default();
    let (mut out, mut text) = (StringViewBuilder::with_capacity(call.rows), String::new());
    for (second, pattern) in seconds.iter().zip(patterns.iter()) {
        let pattern = if has_pattern { pattern } else { Some(DEFAULT_PATTERN) };
        let time = second.and_then(timestamp_s_to_datetime);
        let (Some(time), Some(pattern)) = (time, pattern) else {
            out.append_null();
            continue;
        };
        text.clear();
        cache.get(pattern)?.format(zone.from_utc_datetime(&time).naive_local(), &mut text)?;
        out.append_value(&text);
    }
    Ok(Arc::new(out.finish()))
}

fn unix_timestamp(call: &Call) -> Result<ArrayRef> {
    let zone = zone(call.time_zone())?;
    let times = parsed(call)?.into_iter();
    let seconds = times.map(|time| time.and_then(|time| to_utc(&zone, time)).map(|time| time.and_utc().timestamp()));
    Ok(Arc::new(seconds.collect::<Int64Array>()))
}

/// A unit of time: a fixed number of microseconds, or of months.
enum Unit {
    Micros(i64),
    Months(i32),
}

fn unit(call: &Call, name: &str) -> Result<Unit> {
    match unit_of(name) {
        Some(unit) => Ok(unit),
        None => exec_err!(
            "{}: unit `{name}` is none of SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER, YEAR",
            call.name.to_uppercase()
        ),
    }
}

fn unit_of(name: &str) -> Option<Unit> {
    let lower = name.to_lowercase();
    let plain = lower.strip_prefix("sql_tsi_").unwrap_or(&lower);
    Some(match plain.strip_suffix('s').unwrap_or(plain) {
        "microsecond" => Unit::Micros(1),
        "millisecond" => Unit::Micros(1_000),
        "second" => Unit::Micros(1_000_000),
        "minute" => Unit::Micros(60_000_000),
        "hour" => Unit::Micros(3_600_000_000),
        "day" => Unit::Micros(DAY_MICROS),
        "week" => Unit::Micros(7 * DAY_MICROS),
        "month" => Unit::Months(1),
        "quarter" => Unit::Months(3),
        "year" => Unit::Months(12),
        _ => return None,
    })
}

/// Whether a unit is of whole days, so that a date and some of it are a date.
pub(crate) fn is_of_days(name: &str) -> bool {
    match unit_of(name) {
        Some(Unit::Micros(micros)) => micros % DAY_MICROS == 0,
        Some(Unit::Months(_)) => true,
        None => false,
    }
}

/// Whole units from the first time to the second, towards zero.
fn timestampdiff(call: &Call) -> Result<ArrayRef> {
    let (units, from, to) = (call.text(0)?, datetimes(call, 1)?, datetimes(call, 2)?);
    let differences = units.iter().zip(from).zip(to).map(|((name, from), to)| {
        let (Some(name), Some(from), Some(to)) = (name, from, to) else {
            return Ok(None);
        };
        Ok(match unit(call, name)? {
            Unit::Micros(micros) => to.signed_duration_since(from).num_microseconds().map(|length| length / micros),
            Unit::Months(months) => Some(i64::from(whole_months(from, to) / months)),
        })
    });
    Ok(Arc::new(differences.collect::<Result<Int64Array>>()?))
}

fn whole_months(from: NaiveDateTime, to: NaiveDateTime) -> i32 {
    if to < from {
        return -whole_months(to, from);
    }
    let months = (to.year() - from.year()) * 12 + to.month() as i32 - from.month() as i32;
    let is_partial = (to.day(), to.time()) < (from.day(), from.time());
    months - i32::from(is_partial)
}

/// A date and whole days are a date.
fn add_days(call: &Call) -> Result<ArrayRef> {
    if call.return_type != DataType::Date32 {
        return timestampadd(call);
    }
    let midnight = DataType::Timestamp(TimeUnit::Millisecond, None);
    let mut of_times = call.with_args(vec![call.array(0)?, call.array(1)?, cast(&call.array(2)?, &midnight)?]);
    of_times.return_type = midnight;
    Ok(cast(&timestampadd(&of_times)?, &DataType::Date32)?)
}

/// A time of day goes around at midnight, and no day changes it.
fn times_of_day(call: &Call) -> Result<ArrayRef> {
    let (units, numbers) = (call.text(0)?, call.integer_or(1, 0)?);
    let times = cast(&call.array(2)?, &DataType::Time64(TimeUnit::Microsecond))?;
    let times = times.as_primitive::<Time64MicrosecondType>();
    let sums = units.iter().zip(numbers.iter()).zip(times).map(|((name, number), time)| {
        let (Some(name), Some(number), Some(time)) = (name, number, time) else { return Ok(None) };
        Ok(Some(match unit(call, name)? {
            Unit::Micros(micros) => {
                let sum = i128::from(time) + i128::from(number) * i128::from(micros);
                sum.rem_euclid(i128::from(DAY_MICROS)) as i64
            }
            Unit::Months(_) => time,
        }))
    });
    let sums: ArrayRef = Arc::new(sums.collect::<Result<Time64MicrosecondArray>>()?);
    Ok(cast(&sums, &call.return_type)?)
}

fn timestampadd(call: &Call) -> Result<ArrayRef> {
    // In UTC, so that an hour is an hour; months are of the calendar.
    let (units, numbers) = (call.text(0)?, call.integer_or(1, 0)?);
    let time_unit = match &call.return_type {
        DataType::Timestamp(time_unit, _) => time_unit,
        DataType::Time32(_) | DataType::Time64(_) => return times_of_day(call),
        other => return exec_err!("TIMESTAMPADD got a {} for a timestamp", sql_name(other)),
    };
    let plain = cast(&call.array(2)?, &DataType::Timestamp(*time_unit, None))?;
    let plain = call.with_args(vec![plain]);
    let sums = units.iter().zip(numbers.iter()).zip(datetimes(&plain, 0)?).map(|((name, number), time)| {
        let (Some(name), Some(number), Some(time)) = (name, number, time) else {
            return Ok(None);
        };
        Ok(match unit(call, name)? {
            Unit::Micros(micros) => {
                number.checked_mul(micros).and_then(|micros| time.checked_add_signed(TimeDelta::microseconds(micros)))
            }
            Unit::Months(months) => {
                let months = number.checked_mul(i64::from(months));
                months.and_then(|months| {
                    let size = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
                    if months < 0 { time.checked_sub_months(size) } else { time.checked_add_months(size) }
                })
            }
        })
    });
    let sums = sums.collect::<Result<Vec<_>>>()?;
    let micros = sums.iter().map(|time| time.map(|time| time.and_utc().timestamp_micros()));
    let nanos_left =
        sums.iter().map(|time| time.map_or(0, |time| i64::from(time.and_utc().timestamp_subsec_nanos() % 1000)));
    let values: Int64Array = match time_unit {
        TimeUnit::Second => micros.map(|micros| micros.map(|micros| micros.div_euclid(1_000_000))).collect(),
        TimeUnit::Millisecond => micros.map(|micros| micros.map(|micros| micros.div_euclid(1_000))).collect(),
        TimeUnit::Microsecond => micros.collect(),
        TimeUnit::Nanosecond => micros
            .zip(nanos_left)
            .map(|(micros, nanos)| micros.and_then(|micros| micros.checked_mul(1_000)?.checked_add(nanos)))
            .collect(),
    };
    let plain = cast(&(Arc::new(values) as ArrayRef), &DataType::Timestamp(*time_unit, None))?;
    // The zone is only how it is shown: the count is of UTC.
    let data = plain.to_data().into_builder().data_type(call.return_type.clone()).build()?;
    Ok(arrow::array::make_array(data))
}
