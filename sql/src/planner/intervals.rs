//! Constants of intervals: `INTERVAL '1-2' YEAR TO MONTH`, `'01:00'::INTERVAL`.
//!
//! All are read by [`eagre_engine::interval_text`], as columns are, and written as what DataFusion reads the same. What it reads right as it stands is left, so that it is shown
//! as the user wrote it.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::arrow::compute::kernels::cast_utils::{
    IntervalParseConfig, IntervalUnit, parse_interval_month_day_nano_config,
};
use datafusion::sql::sqlparser::ast::{
    DateTimeField, Expr, Interval, IntervalFields, Spanned, UnaryOperator, Value, ValueWithSpan,
};
use eagre_engine::interval_text::{Field, Qualifier, parse, parse_qualified};

use super::window;
use crate::error::{Location, Result, SqlError};

/// The interval that `interval` is, in a form that DataFusion's planner reads; none where it reads it as it stands, and where it is no constant.
///
/// # Errors
/// It is none.
pub(super) fn of_constant(interval: &mut Interval) -> Result<Option<Expr>> {
    // The standard has a sign before the text, too: `INTERVAL -'1-2' YEAR TO MONTH`.
    let (is_negative, value) = match interval.value.as_ref() {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (true, quoted(expr)),
        value => (false, quoted(value)),
    };
    let Some(text) = text_of(&value) else { return Ok(None) };
    let location = Location::of(interval.value.span());
    let read = read(interval, text, location)?;
    if is_negative {
        let negative = read.checked_neg().ok_or_else(|| SqlError::plan("an INTERVAL cannot be that long", location))?;
        return Ok(Some(constant(negative)));
    }
    let written = match &interval.leading_field {
        None => text.to_string(),
        Some(first) => format!("{text} {first}"),
    };
    let has_precision = interval.leading_precision.is_some() || interval.fractional_seconds_precision.is_some();
    let as_it_stands = interval.last_field.is_none() && !has_precision && as_datafusion_reads(&written) == Some(read);
    if as_it_stands {
        *interval.value = value;
        return Ok(None);
    }
    Ok(Some(constant(read)))
}

/// What the text of an interval says, with its fields.
fn read(interval: &Interval, text: &str, location: Option<Location>) -> Result<IntervalMonthDayNano> {
    let read = match (&interval.leading_field, &interval.last_field) {
        (None, _) => parse(text),
        (Some(first), last) => match (field(first), last.as_ref().map(field)) {
            (Some(first_field), None) => {
                let precision = interval.leading_precision.filter(|_| first_field == Field::Second);
                let precision = interval.fractional_seconds_precision.or(precision);
                parse_qualified(text, Some(qualifier(first_field, first_field, precision)))
            }
            (Some(first_field), Some(Some(last_field))) if are_fields(first_field, last_field) => {
                parse_qualified(text, Some(qualifier(first_field, last_field, interval.fractional_seconds_precision)))
            }
            (_, Some(_)) => {
                let last = last.as_ref().map(ToString::to_string).unwrap_or_default();
                return Err(SqlError::plan(
                    format!(
                        "`INTERVAL '{text}' {first} TO {last}`: it is YEAR TO MONTH, or two of DAY, HOUR, MINUTE and SECOND, the longer one first"
                    ),
                    location,
                ));
            }
            // `INTERVAL '3' WEEK`.
            (None, None) => parse(&format!("{text} {first}")),
        },
    };
    read.map_err(|message| SqlError::plan(message, location))
}

/// `CAST('01:00' AS INTERVAL)` of a constant text; none of anything else.
///
/// # Errors
/// The text is no interval.
pub(super) fn of_cast(value: &Expr, fields: Option<&IntervalFields>, precision: Option<u64>) -> Result<Option<Expr>> {
    let Some(text) = text_of(value) else { return Ok(None) };
    let qualifier = fields.map_or_else(
        || precision.map(|precision| qualifier(Field::Year, Field::Second, Some(precision))),
        |fields| {
            let (first, last) = ends(fields);
            Some(qualifier(first, last, precision))
        },
    );
    let read =
        parse_qualified(text, qualifier).map_err(|message| SqlError::plan(message, Location::of(value.span())))?;
    Ok(Some(constant(read)))
}

fn text_of(value: &Expr) -> Option<&str> {
    match value {
        Expr::Nested(inner) => text_of(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn qualifier(first: Field, last: Field, precision: Option<u64>) -> Qualifier {
    Qualifier { first, last, precision: precision.and_then(|precision| u32::try_from(precision).ok()) }
}

fn field(field: &DateTimeField) -> Option<Field> {
    Some(match field {
        DateTimeField::Year | DateTimeField::Years => Field::Year,
        DateTimeField::Month | DateTimeField::Months => Field::Month,
        DateTimeField::Day | DateTimeField::Days => Field::Day,
        DateTimeField::Hour | DateTimeField::Hours => Field::Hour,
        DateTimeField::Minute | DateTimeField::Minutes => Field::Minute,
        DateTimeField::Second | DateTimeField::Seconds => Field::Second,
        _ => return None,
    })
}

/// Months and days lie on different scales.
fn are_fields(first: Field, last: Field) -> bool {
    first < last && (first <= Field::Month) == (last <= Field::Month)
}

fn ends(fields: &IntervalFields) -> (Field, Field) {
    match fields {
        IntervalFields::Year => (Field::Year, Field::Year),
        IntervalFields::Month => (Field::Month, Field::Month),
        IntervalFields::Day => (Field::Day, Field::Day),
        IntervalFields::Hour => (Field::Hour, Field::Hour),
        IntervalFields::Minute => (Field::Minute, Field::Minute),
        IntervalFields::Second => (Field::Second, Field::Second),
        IntervalFields::YearToMonth => (Field::Year, Field::Month),
        IntervalFields::DayToHour => (Field::Day, Field::Hour),
        IntervalFields::DayToMinute => (Field::Day, Field::Minute),
        IntervalFields::DayToSecond => (Field::Day, Field::Second),
        IntervalFields::HourToMinute => (Field::Hour, Field::Minute),
        IntervalFields::HourToSecond => (Field::Hour, Field::Second),
        IntervalFields::MinuteToSecond => (Field::Minute, Field::Second),
    }
}

/// The text of an interval, also of `INTERVAL 20 SECONDS`, which is `INTERVAL '20' SECONDS`: the planner needs it so in the bounds of a frame.
fn quoted(value: &Expr) -> Expr {
    match value {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), span }) => {
            Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(number.to_string()), span: *span })
        }
        value => value.clone(),
    }
}

fn as_datafusion_reads(text: &str) -> Option<IntervalMonthDayNano> {
    parse_interval_month_day_nano_config(text, IntervalParseConfig::new(IntervalUnit::Second)).ok()
}

/// An interval as it is written for DataFusion.
pub(super) fn constant(read: IntervalMonthDayNano) -> Expr {
    let parts = [(i64::from(read.months), "months"), (i64::from(read.days), "days"), (read.nanoseconds, "nanoseconds")];
    let words: Vec<String> =
        parts.iter().filter(|(count, _)| *count != 0).map(|(count, unit)| format!("{count} {unit}")).collect();
    let text = if words.is_empty() { "0 seconds".to_string() } else { words.join(" ") };
    Expr::Interval(Interval {
        value: Box::new(window::string(&text)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written for DataFusion is what was read.
    #[test]
    fn constants_are_read_as_they_are_written() {
        for text in
            ["0", "1", "-1-2 3 4:05:06.123456789", "P1Y2M3DT4H5M6S", "-106751 days 23:47:16", "178000000 years", "5 ns"]
        {
            let read = parse(text).expect(text);
            let Expr::Interval(interval) = constant(read) else { panic!("{text} is no interval") };
            assert_eq!(text_of(&interval.value).and_then(as_datafusion_reads), Some(read), "{text}");
        }
    }
}
