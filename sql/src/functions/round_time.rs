//! `FLOOR(time TO unit)` and `CEIL(time TO unit)`: the last start of a unit up to a time, the first one from it on.
//!
//! As in Flink, a date stays a date, weeks begin on Sunday, and centuries in the year 1 (`date_trunc` has PostgreSQL's Mondays). The
//! parser makes calls of these functions and knows the units. For instants it is the wall clock of the session's zone that is rounded;
//! units below a day are cut by the time that passes, so that an hour which the clock shows twice stays two.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use chrono::{DateTime, Datelike, Months, NaiveDate};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::definition::{Call, Definition, Param};
use super::local_time;
use crate::types::sql_name;

const DAY_S: i64 = 86_400;

pub(crate) fn definitions() -> Vec<Definition> {
    vec![FLOOR_TO, definition("ceil_to", |call| rounded(call, true))]
}

const FLOOR_TO: Definition = definition("floor_to", |call| rounded(call, false));

/// `floor_to(unit, time)`.
pub(crate) fn floor_to() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| FLOOR_TO.udf());
    Arc::clone(&FUNCTION)
}

const fn definition(name: &'static str, invoke: fn(&Call) -> Result<ArrayRef>) -> Definition {
    let returns = |types: &[DataType]| types.get(1).cloned().unwrap_or(DataType::Null);
    Definition::new(name, &[Param::Text, Param::Temporal], returns, invoke)
}

/// Whether a word is a unit to which times are rounded.
pub(crate) fn is_unit(word: &str) -> bool {
    Unit::parse(word).is_some()
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// So many nanoseconds; less than a day.
    Clock(i64),
    Days,
    /// From Sunday on.
    Weeks,
    /// So many months, and the year from which on they are counted.
    Months(u32, i32),
}

impl Unit {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_lowercase().trim_end_matches('s') {
            "nanosecond" => Self::Clock(1),
            "microsecond" => Self::Clock(1_000),
            "millisecond" => Self::Clock(1_000_000),
            "second" => Self::Clock(1_000_000_000),
            "minute" => Self::Clock(60_000_000_000),
            "hour" => Self::Clock(3_600_000_000_000),
            "day" => Self::Days,
            "week" => Self::Weeks,
            "month" => Self::Months(1, 0),
            "quarter" => Self::Months(3, 0),
            "year" => Self::Months(12, 0),
            "decade" => Self::Months(120, 0),
            "century" | "centurie" => Self::Months(1_200, 1),
            "millennium" | "millenium" => Self::Months(12_000, 1),
            _ => return None,
        })
    }

    /// The start of the unit in which a time lies, and that of the next; times in counts of which `per_second` make a second.
    fn around(self, count: i64, per_second: i64) -> Option<(i64, i64)> {
        let multiples = |size: i64, from: i64| {
            let start = count.checked_sub((count - from).rem_euclid(size))?;
            Some((start, start.checked_add(size)?))
        };
        let day = DAY_S * per_second;
        match self {
            Self::Clock(nanoseconds) => {
                let size = i128::from(nanoseconds) * i128::from(per_second) / 1_000_000_000;
                // Times have no digits below their own unit.
                if size <= 1 { Some((count, count)) } else { multiples(i64::try_from(size).ok()?, 0) }
            }
            Self::Days => multiples(day, 0),
            // 1970-01-01 was a Thursday.
            Self::Weeks => multiples(7 * day, 3 * day),
            Self::Months(length, first_year) => {
                let date = DateTime::from_timestamp(count.div_euclid(per_second), 0)?.date_naive();
                let months = (date.year() - first_year) * 12 + date.month0() as i32;
                let start = months.div_euclid(length as i32) * length as i32;
                let start =
                    NaiveDate::from_ymd_opt(start.div_euclid(12) + first_year, start.rem_euclid(12) as u32 + 1, 1)?;
                let next = start.checked_add_months(Months::new(length))?;
                let counts = |date: NaiveDate| date.and_hms_opt(0, 0, 0)?.and_utc().timestamp().checked_mul(per_second);
                Some((counts(start)?, counts(next)?))
            }
        }
    }
}

fn rounded(call: &Call, up: bool) -> Result<ArrayRef> {
    let time = &call.array(1)?;
    // What the counts are, and how many make a second; days are counted in seconds here.
    let (factor, per_second) = match time.data_type() {
        DataType::Date32 => (DAY_S, 1),
        DataType::Date64 => (1, 1_000),
        DataType::Time32(unit) | DataType::Time64(unit) | DataType::Timestamp(unit, _) => (1, per_second(unit)),
        other => return exec_err!("FLOOR and CEIL .. TO take a time, not a {}", sql_name(other)),
    };
    let counts = |array: &ArrayRef| -> Result<Int64Array> {
        let whole = match array.data_type() {
            DataType::Date32 | DataType::Time32(_) => cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?,
            _ => cast(array, &DataType::Int64)?,
        };
        Ok(whole.as_primitive::<Int64Type>().clone())
    };
    let is_instant = matches!(time.data_type(), DataType::Timestamp(_, Some(_)));
    let times = counts(time)?;
    let clocks = match is_instant {
        true => counts(&local_time::wall_clock(&call.with_args(vec![Arc::clone(time)]))?)?,
        false => times.clone(),
    };
    let units = call.text(0)?;
    let of_all = call.same_text(0).and_then(Unit::parse);
    // A clock that has passed midnight shows the first hours again.
    let is_clock = matches!(time.data_type(), DataType::Time32(_) | DataType::Time64(_));
    let (mut out, mut by_calendar) = (Vec::with_capacity(call.rows), Vec::with_capacity(call.rows));
    for row in 0..call.rows {
        if times.is_null(row) || units.is_null(row) {
            out.push(None);
            by_calendar.push(false);
            continue;
        }
        let Some(unit) = of_all.or_else(|| Unit::parse(units.value(row))) else {
            return exec_err!("there is no unit '{}' of time; units are DAY, HOUR, MONTH and so on", units.value(row));
        };
        let clock = clocks.value(row) * factor;
        let Some((start, next)) = unit.around(clock, per_second) else {
            return exec_err!("{} TO a unit leaves the range of its type", if up { "CEIL" } else { "FLOOR" });
        };
        let to = if up && start != clock { next } else { start };
        let passing = matches!(unit, Unit::Clock(_));
        let rounded = if passing { (times.value(row) * factor + to - clock) / factor } else { to / factor };
        out.push(Some(if is_clock { rounded.rem_euclid(DAY_S * per_second) } else { rounded }));
        by_calendar.push(is_instant && !passing);
    }
    let out = Int64Array::from(out);
    let typed = |counts: &Int64Array| -> Result<ArrayRef> {
        Ok(match &call.return_type {
            DataType::Date32 | DataType::Time32(_) => cast(&cast(counts, &DataType::Int32)?, &call.return_type)?,
            other => cast(counts, other)?,
        })
    };
    if !by_calendar.contains(&true) {
        return typed(&out);
    }
    let instants = counts(&local_time::instant(&call.with_args(vec![typed(&out)?]))?)?;
    let each = by_calendar.iter().enumerate().map(|(row, calendar)| {
        let from = if *calendar { &instants } else { &out };
        from.is_valid(row).then(|| from.value(row))
    });
    typed(&each.collect())
}

/// How many of a unit make a second.
pub(crate) fn per_second(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveDateTime, TimeDelta};
    use proptest::prelude::*;

    use super::*;

    fn around(unit: &str, time: &str) -> (String, String) {
        let time: NaiveDateTime = time.parse().expect("a time");
        let unit = Unit::parse(unit).expect("a unit");
        let (start, next) = unit.around(time.and_utc().timestamp_millis(), 1_000).expect("in range");
        let shown = |count: i64| DateTime::from_timestamp_millis(count).expect("in range").naive_utc().to_string();
        (shown(start), shown(next))
    }

    /// Flink's own cases: 2020-02-29 was a Saturday.
    #[test]
    fn units_begin_where_flinks_do() {
        for (unit, start, next) in [
            ("SECOND", "2020-02-29 01:56:59", "2020-02-29 01:57:00"),
            ("HOUR", "2020-02-29 01:00:00", "2020-02-29 02:00:00"),
            ("DAY", "2020-02-29 00:00:00", "2020-03-01 00:00:00"),
            ("WEEK", "2020-02-23 00:00:00", "2020-03-01 00:00:00"),
            ("MONTH", "2020-02-01 00:00:00", "2020-03-01 00:00:00"),
            ("QUARTER", "2020-01-01 00:00:00", "2020-04-01 00:00:00"),
            ("YEAR", "2020-01-01 00:00:00", "2021-01-01 00:00:00"),
            ("DECADE", "2020-01-01 00:00:00", "2030-01-01 00:00:00"),
            ("CENTURY", "2001-01-01 00:00:00", "2101-01-01 00:00:00"),
            ("MILLENNIUM", "2001-01-01 00:00:00", "3001-01-01 00:00:00"),
        ] {
            assert_eq!(around(unit, "2020-02-29T01:56:59.987"), (start.to_string(), next.to_string()), "{unit}");
        }
        assert_eq!(around("HOURS", "1969-12-31T23:30:00").0, "1969-12-31 23:00:00");
    }

    proptest! {
        /// A time lies in its unit, and the unit's start is its own.
        #[test]
        fn a_start_is_its_own_start(days in -700_000_i64..700_000, ms in 0_i64..86_400_000, unit in 0_usize..14) {
            let name = ["nanosecond", "microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter",
                        "year", "decade", "century", "millennium"][unit];
            let unit = Unit::parse(name).expect("a unit");
            let count = TimeDelta::days(days).num_milliseconds() + ms;
            let (start, next) = unit.around(count, 1_000).expect("in range");
            prop_assert!(start <= count && (count < next || start == next));
            prop_assert_eq!(unit.around(start, 1_000).map(|(again, _)| again), Some(start));
        }
    }
}
