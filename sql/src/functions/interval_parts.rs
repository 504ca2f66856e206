//! Intervals made of their parts, and brought into others: `MAKE_INTERVAL`, `AGE`, `JUSTIFY_DAYS`, `JUSTIFY_HOURS`, `JUSTIFY_INTERVAL`, as PostgreSQL has them.
//!
//! A day is 24 hours and a month 30 days where one is made the other. `AGE` counts as people do: whole years, months and days from the earlier time on, a
//! month being as long as the one in the calendar that it passes.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampNanosecondType,
};
use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::definition::{Call, Definition, Param};

const NS_PER_SECOND: i64 = 1_000_000_000;
const NS_PER_HOUR: i64 = 3_600 * NS_PER_SECOND;
const NS_PER_DAY: i64 = 24 * NS_PER_HOUR;
const DAYS_PER_MONTH: i32 = 30;

/// The names of the parameters of `MAKE_INTERVAL`, in their order.
pub(crate) const MAKE_INTERVAL_PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

pub(super) fn definitions() -> Vec<Definition> {
    let interval = |_: &[DataType]| DataType::Interval(IntervalUnit::MonthDayNano);
    vec![
        Definition {
            name: "make_interval",
            params: &[
                Param::Integer,
                Param::Integer,
                Param::Integer,
                Param::Integer,
                Param::Integer,
                Param::Integer,
                Param::Double,
            ],
            optional: 7,
            returns: interval,
            invoke: make_interval,
        },
        Definition::new("age", &[Param::Timestamp, Param::Timestamp], interval, ages),
        Definition::new("justify_days", &[Param::Interval], interval, |call| justified(call, justify_days)),
        Definition::new("justify_hours", &[Param::Interval], interval, |call| justified(call, justify_hours)),
        Definition::new("justify_interval", &[Param::Interval], interval, |call| justified(call, justify_interval)),
    ]
}

/// The same interval with each 24 hours as a day, where there is room for them.
pub(crate) static HOURS_AS_DAYS: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let returns = |_: &[DataType]| DataType::Interval(IntervalUnit::MonthDayNano);
    let invoke = |call: &Call| {
        let intervals = call.array(0)?;
        let days = |interval| justify_hours(interval).unwrap_or(interval);
        let days = intervals.as_primitive::<IntervalMonthDayNanoType>().unary::<_, IntervalMonthDayNanoType>(days);
        Ok(Arc::new(days) as ArrayRef)
    };
    Definition { name: "__hours_as_days", params: &[Param::Interval], optional: 0, returns, invoke }.udf()
});

fn make_interval(call: &Call) -> Result<ArrayRef> {
    let wholes = (0..6).map(|part| call.integer_or(part, 0)).collect::<Result<Vec<_>>>()?;
    let seconds = if call.is_given(6) { Some(call.doubles(6)?) } else { None };
    let rows = (0..call.rows).map(|row| {
        let is_null =
            wholes.iter().any(|part| part.is_null(row)) || seconds.as_ref().is_some_and(|part| part.is_null(row));
        if is_null {
            return Ok(None);
        }
        let part = |index: usize| wholes[index].value(row);
        let second = seconds.as_ref().map_or(0.0, |part| part.value(row));
        let made = interval_of([part(0), part(1), part(2), part(3), part(4), part(5)], second);
        made.map(Some).ok_or_else(|| DataFusionError::Execution("MAKE_INTERVAL: the interval is out of range".into()))
    });
    Ok(Arc::new(rows.collect::<Result<IntervalMonthDayNanoArray>>()?))
}

/// Of years, months, weeks, days, hours and minutes, and seconds, which are rounded to microseconds; none out of range.
fn interval_of([years, months, weeks, days, hours, minutes]: [i64; 6], seconds: f64) -> Option<IntervalMonthDayNano> {
    let months = i32::try_from(years.checked_mul(12)?.checked_add(months)?).ok()?;
    let days = i32::try_from(weeks.checked_mul(7)?.checked_add(days)?).ok()?;
    let micros = (seconds * 1e6).round_ties_even();
    if !micros.is_finite() || micros.abs() >= 9.2e15 {
        return None;
    }
    let of_clock = hours.checked_mul(NS_PER_HOUR)?.checked_add(minutes.checked_mul(60 * NS_PER_SECOND)?)?;
    Some(IntervalMonthDayNano::new(months, days, of_clock.checked_add((micros as i64).checked_mul(1_000)?)?))
}

fn justified(call: &Call, justify: fn(IntervalMonthDayNano) -> Option<IntervalMonthDayNano>) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let intervals = cast(&array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let rows =
        intervals.as_primitive::<IntervalMonthDayNanoType>().iter().map(|interval| match interval.map(justify) {
            Some(None) => exec_err!("{}: the interval is out of range", call.name.to_uppercase()),
            justified => Ok(justified.flatten()),
        });
    Ok(Arc::new(rows.collect::<Result<IntervalMonthDayNanoArray>>()?))
}

/// Each 24 hours as a day.
fn justify_hours(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let whole = i32::try_from(interval.nanoseconds / NS_PER_DAY).ok()?;
    let (mut days, mut ns) = (interval.days.checked_add(whole)?, interval.nanoseconds % NS_PER_DAY);
    if days > 0 && ns < 0 {
        (days, ns) = (days - 1, ns + NS_PER_DAY);
    } else if days < 0 && ns > 0 {
        (days, ns) = (days + 1, ns - NS_PER_DAY);
    }
    Some(IntervalMonthDayNano::new(interval.months, days, ns))
}

/// Each 30 days as a month.
fn justify_days(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let mut months = interval.months.checked_add(interval.days / DAYS_PER_MONTH)?;
    let mut days = interval.days % DAYS_PER_MONTH;
    if months > 0 && days < 0 {
        (months, days) = (months - 1, days + DAYS_PER_MONTH);
    } else if months < 0 && days > 0 {
        (months, days) = (months + 1, days - DAYS_PER_MONTH);
    }
    Some(IntervalMonthDayNano::new(months, days, interval.nanoseconds))
}

/// Both, and all parts of one sign.
fn justify_interval(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let whole = i64::from(interval.days) + interval.nanoseconds / NS_PER_DAY;
    let mut ns = interval.nanoseconds % NS_PER_DAY;
    let mut months = i64::from(interval.months) + whole / i64::from(DAYS_PER_MONTH);
    let mut days = whole % i64::from(DAYS_PER_MONTH);
    if months > 0 && (days < 0 || days == 0 && ns < 0) {
        (months, days) = (months - 1, days + i64::from(DAYS_PER_MONTH));
    } else if months < 0 && (days > 0 || days == 0 && ns > 0) {
        (months, days) = (months + 1, days - i64::from(DAYS_PER_MONTH));
    }
    if days > 0 && ns < 0 {
        (days, ns) = (days - 1, ns + NS_PER_DAY);
    } else if days < 0 && ns > 0 {
        (days, ns) = (days + 1, ns - NS_PER_DAY);
    }
    Some(IntervalMonthDayNano::new(i32::try_from(months).ok()?, i32::try_from(days).ok()?, ns))
}

fn ages(call: &Call) -> Result<ArrayRef> {
    let times = |index| -> Result<ArrayRef> {
        Ok(cast(&call.array(index)?, &DataType::Timestamp(TimeUnit::Nanosecond, None))?)
    };
    let (later, earlier) = (times(0)?, times(1)?);
    let pairs =
        later.as_primitive::<TimestampNanosecondType>().iter().zip(earlier.as_primitive::<TimestampNanosecondType>());
    let at = |ns: i64| DateTime::from_timestamp_nanos(ns).naive_utc();
    let rows = pairs.map(|(later, earlier)| Some(age(at(later?), at(earlier?))));
    Ok(Arc::new(rows.collect::<IntervalMonthDayNanoArray>()))
}

/// From `b` to `a`.
fn age(a: NaiveDateTime, b: NaiveDateTime) -> IntervalMonthDayNano {
    if a < b {
        let IntervalMonthDayNano { months, days, nanoseconds } = age_of(b, a);
        return IntervalMonthDayNano::new(-months, -days, -nanoseconds);
    }
    age_of(a, b)
}

/// From `earlier` to `later`.
fn age_of(later: NaiveDateTime, earlier: NaiveDateTime) -> IntervalMonthDayNano {
    let ns_of_day = |time: NaiveDateTime| {
        i64::from(time.num_seconds_from_midnight()) * NS_PER_SECOND + i64::from(time.nanosecond())
    };
    let months_of = |time: NaiveDateTime| time.year() * 12 + time.month0() as i32;
    let mut ns = ns_of_day(later) - ns_of_day(earlier);
    let mut days = later.day() as i32 - earlier.day() as i32;
    let mut months = months_of(later) - months_of(earlier);
    if ns < 0 {
        (ns, days) = (ns + NS_PER_DAY, days - 1);
    }
    while days < 0 {
        (days, months) = (days + i32::from(earlier.date().num_days_in_month()), months - 1);
    }
    IntervalMonthDayNano::new(months, days, ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> NaiveDateTime {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// PostgreSQL 15 gives these.
    #[test]
    fn ages_are_counted_as_by_people() {
        for (a, b, months, days, hours) in [
            ("2001-04-10T00:00:00", "1957-06-13T00:00:00", 43 * 12 + 9, 27, 0),
            ("1957-06-13T00:00:00", "2001-04-10T00:00:00", -(43 * 12 + 9), -27, 0),
            ("2024-03-01T00:00:00", "2024-01-31T00:00:00", 1, 1, 0),
            ("2024-03-30T00:00:00", "2024-01-31T00:00:00", 1, 30, 0),
            ("2023-03-01T12:00:00", "2023-02-28T18:00:00", 0, 0, 18),
            ("2024-01-01T00:00:00", "2024-01-01T00:00:00", 0, 0, 0),
        ] {
            let expected = IntervalMonthDayNano::new(months, days, hours * NS_PER_HOUR);
            assert_eq!(age(time(a), time(b)), expected, "{a} from {b}");
        }
    }

    #[test]
    fn parts_are_made_of_others() {
        let interval = IntervalMonthDayNano::new;
        assert_eq!(justify_hours(interval(1, 1, -NS_PER_HOUR)), Some(interval(1, 0, 23 * NS_PER_HOUR)));
        assert_eq!(justify_days(interval(1, -65, 5)), Some(interval(-1, -5, 5)));
        assert_eq!(justify_interval(interval(1, 0, -NS_PER_HOUR)), Some(interval(0, 29, 23 * NS_PER_HOUR)));
        assert_eq!(justify_interval(interval(-1, 40, 25 * NS_PER_HOUR)), Some(interval(0, 11, NS_PER_HOUR)));
        assert_eq!(justify_days(interval(i32::MAX, 30, 0)), None);
        assert_eq!(interval_of([1, 2, 3, 4, 5, 6], 7.5), Some(interval(14, 25, 5 * NS_PER_HOUR + 367_500_000_000)));
        assert_eq!(interval_of([i64::MAX, 0, 0, 0, 0, 0], 0.0), None);
        assert_eq!(interval_of([0; 6], f64::NAN), None);
    }
}
