//! Between instants and the wall clock of the session's time zone.
//!
//! An instant (`TIMESTAMP_LTZ`) is held in UTC, and arrow casts it to a `TIMESTAMP` by forgetting the zone, which would show UTC's clock to
//! everybody. These functions stand in the place of such casts; no name leads to them. They are functions and not casts by way of a
//! third type because the optimiser may move a cast from one side of a comparison to the other, which is wrong where clocks change.
//!
//! A wall clock shows some times twice and leaves others out. As in Java's calendar, the first of two is meant, and a time that is left
//! out is as much later as the clock jumped.

use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::definition::{Call, Definition, Param};
use crate::types::UTC;

/// Longer than any clock jumps.
const BEFORE_A_JUMP: TimeDelta = TimeDelta::hours(6);

/// The wall clock of the session's zone at an instant.
pub(crate) static WALL_CLOCK: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let returns = |types: &[DataType]| timestamp(types.first(), None);
    Definition { name: "__wall_clock", params: &[Param::Any], optional: 0, returns, invoke: wall_clock }.udf()
});

/// The instant at which the session's wall clock shows a time.
pub(crate) static INSTANT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let returns = |types: &[DataType]| timestamp(types.first(), Some(UTC));
    Definition { name: "__instant", params: &[Param::Any], optional: 0, returns, invoke: instant }.udf()
});

/// The instant that a text says, by an offset of its own or by the session's wall clock; an error where it says none.
pub(crate) static INSTANT_OF_TEXT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| instant_of_text(call, false);
    Definition { name: "__instant_of_text", params: &[Param::Text], optional: 0, returns: of_text, invoke }.udf()
});

/// As [`INSTANT_OF_TEXT`]; null where it says none.
pub(crate) static TRY_INSTANT_OF_TEXT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| instant_of_text(call, true);
    Definition { name: "__try_instant_of_text", params: &[Param::Text], optional: 0, returns: of_text, invoke }.udf()
});

/// What `x AT TIME ZONE zone` is written as: of an instant the wall clock of the zone, of a `TIMESTAMP` the instant at which that clock shows it.
pub(crate) const AT_TIME_ZONE: &str = "__at_time_zone";

pub(super) fn definitions() -> Vec<Definition> {
    let returns = |types: &[DataType]| match types.first() {
        Some(DataType::Timestamp(_, Some(_))) => timestamp(types.first(), None),
        given => timestamp(given, Some(UTC)),
    };
    let params = &[Param::Timestamp, Param::Text];
    vec![Definition { name: AT_TIME_ZONE, params, optional: 0, returns, invoke: at_time_zone }]
}

fn of_text(_types: &[DataType]) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

fn timestamp(given: Option<&DataType>, zone: Option<&str>) -> DataType {
    let unit = match given {
        Some(DataType::Timestamp(unit, _)) => *unit,
        _ => TimeUnit::Millisecond,
    };
    DataType::Timestamp(unit, zone.map(Into::into))
}

/// The counts of a timestamp column, and how many there are in a second.
fn counts(call: &Call) -> Result<(Int64Array, i64)> {
    let array = &call.array(0)?;
    let per_second = match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => 1,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000_000,
        other => return exec_err!("{} got a {other} for a timestamp", call.name),
    };
    Ok((cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone(), per_second))
}

/// The time zone of this name, whatever the case of its letters, or an offset.
pub(crate) fn time_zone(name: &str) -> Option<Tz> {
    let of_any_case = || {
        let mut known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        Tz::from_str(known.find(|known| known.eq_ignore_ascii_case(name))?).ok()
    };
    Tz::from_str(name).ok().or_else(of_any_case)
}

fn shifted(call: &Call, offset_s: impl Fn(&Tz, NaiveDateTime) -> i64) -> Result<ArrayRef> {
    let zone = Tz::from_str(call.time_zone())?;
    let (counts, per_second) = counts(call)?;
    let shift = |count: i64| {
        let time = DateTime::from_timestamp(count.div_euclid(per_second), 0)?.naive_utc();
        count.checked_add(offset_s(&zone, time).checked_mul(per_second)?)
    };
    let shifted: Int64Array = counts.iter().map(|count| count.and_then(shift)).collect();
    Ok(cast(&shifted, &call.return_type)?)
}

fn at_time_zone(call: &Call) -> Result<ArrayRef> {
    let shows_clock = matches!(call.array(0)?.data_type(), DataType::Timestamp(_, Some(_)));
    let zones = call.text(1)?;
    let (counts, per_second) = counts(call)?;
    let mut known: Option<(&str, Tz)> = None;
    let mut times = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        if zones.is_null(row) || counts.is_null(row) {
            times.push(None);
            continue;
        }
        let name = zones.value(row);
        let zone = match known {
            Some((known, zone)) if known == name => zone,
            _ => match time_zone(name) {
                Some(zone) => zone,
                None => {
                    return exec_err!(
                        "'{name}' is no time zone; write a name as 'Europe/Berlin', or an offset as '+02:00'"
                    );
                }
            },
        };
        known = Some((name, zone));
        let shifted = || {
            let count = counts.value(row);
            let time = DateTime::from_timestamp(count.div_euclid(per_second), 0)?.naive_utc();
            let offset_s = match shows_clock {
                true => i64::from(zone.offset_from_utc_datetime(&time).fix().local_minus_utc()),
                false => -local_offset_s(&zone, time),
            };
            count.checked_add(offset_s.checked_mul(per_second)?)
        };
        times.push(shifted());
    }
    Ok(cast(&Int64Array::from(times), &call.return_type)?)
}

pub(super) fn wall_clock(call: &Call) -> Result<ArrayRef> {
    shifted(call, |zone, time| i64::from(zone.offset_from_utc_datetime(&time).fix().local_minus_utc()))
}

pub(super) fn instant(call: &Call) -> Result<ArrayRef> {
    shifted(call, |zone, time| -local_offset_s(zone, time))
}

/// How far the wall clock is ahead of UTC when it shows `time`.
fn local_offset_s(zone: &Tz, time: NaiveDateTime) -> i64 {
    let offset = zone.offset_from_local_datetime(&time).earliest();
    let offset = offset.or_else(|| zone.offset_from_local_datetime(&(time - BEFORE_A_JUMP)).earliest());
    offset.map_or(0, |offset| i64::from(offset.fix().local_minus_utc()))
}

fn instant_of_text(call: &Call, lenient: bool) -> Result<ArrayRef> {
    let zone = Tz::from_str(call.time_zone())?;
    let (here, east) = (Tz::from_str("+00:00")?, Tz::from_str("+01:00")?);
    let read = |text: &str| -> Result<i64, arrow::error::ArrowError> {
        let time = string_to_datetime(&here, text)?;
        // Which zone is assumed shows only where the text says none.
        if string_to_datetime(&east, text)?.timestamp() == time.timestamp() {
            return Ok(time.timestamp_micros());
        }
        Ok(time.timestamp_micros() - local_offset_s(&zone, time.naive_utc()) * 1_000_000)
    };
    let texts = call.text(0)?;
    let mut times = Vec::with_capacity(texts.len());
    for text in &texts {
        times.push(match text.map(read) {
            Some(Err(_)) if lenient => None,
            read => read.transpose()?,
        });
    }
    Ok(Arc::new(TimestampMicrosecondArray::from(times).with_timezone(UTC)))
}
