//! Scalars from text: what JSON and CSV agree on.
//!
//! The parsers are strict (all of the text must be the value) and say nothing of columns; the caller knows those. Times are read in
//! both the SQL form (`2024-01-31 12:00:00.5`) and the ISO 8601 form (`2024-01-31T12:00:00.5Z`), whatever the option says: no text
//! means two things, and files often mix them. A number is never a time, since its unit would be a guess.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};

/// A day or an instant: days and nanoseconds since 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instant {
    seconds: i64,
    nanos: u32,
}

impl Instant {
    /// In the unit, cut off (never rounded up into the next); `None`: out of range.
    pub(crate) fn in_unit(self, unit: TimeUnit) -> Option<i64> {
        let (per_second, nanos_per) = match unit {
            TimeUnit::Second => (1, 1_000_000_000),
            TimeUnit::Millisecond => (1_000, 1_000_000),
            TimeUnit::Microsecond => (1_000_000, 1_000),
            TimeUnit::Nanosecond => (1_000_000_000, 1),
        };
        self.seconds.checked_mul(per_second)?.checked_add(i64::from(self.nanos / nanos_per))
    }
}

fn digits(bytes: &[u8]) -> Option<u32> {
    let mut value = 0;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    Some(value)
}

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `2024-01-31`, as days since 1970.
pub(crate) fn parse_date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..])?);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    let in_month = (1..=days_in_month).contains(&day);
    in_month.then(|| days_from_civil(year as i32, month, day) as i32)
}

/// `12:00`, `12:00:00` or `12:00:00.123456789`, as seconds and nanoseconds of the day; also how long the text was.
fn parse_clock(text: &[u8]) -> Option<(u32, u32, usize)> {
    if text.len() < 5 || text[2] != b':' {
        return None;
    }
    let (hour, minute) = (digits(&text[..2])?, digits(&text[3..5])?);
    if hour > 23 || minute > 59 {
        return None;
    }
    let mut end = 5;
    let (mut second, mut nanos) = (0, 0);
    if text.get(5) == Some(&b':') {
        second = digits(text.get(6..8)?)?;
        if second > 59 {
            return None;
        }
        end = 8;
        if text.get(8) == Some(&b'.') {
            let fraction = text[9..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if fraction == 0 {
                return None;
            }
            // Digits beyond nanoseconds are cut off.
            let kept = fraction.min(9);
            nanos = digits(&text[9..9 + kept])? * 10u32.pow(9 - kept as u32);
            end = 9 + fraction;
        }
    }
    Some((hour * 3_600 + minute * 60 + second, nanos, end))
}

/// `12:00:00.5` as nanoseconds of the day.
pub(crate) fn parse_time(text: &[u8]) -> Option<i64> {
    let (seconds, nanos, end) = parse_clock(text)?;
    (end == text.len()).then_some(i64::from(seconds) * 1_000_000_000 + i64::from(nanos))
}

/// A timestamp in the SQL or the ISO 8601 form, with or without an offset; without one it is taken as UTC. A day alone is its
/// midnight.
pub(crate) fn parse_timestamp(text: &[u8]) -> Option<Instant> {
    let days = i64::from(parse_date(text.get(..10)?)?);
    if text.len() == 10 {
        return Some(Instant { seconds: days * 86_400, nanos: 0 });
    }
    if !matches!(text[10], b' ' | b'T' | b't') {
        return None;
    }
    let (clock, nanos, end) = parse_clock(&text[11..])?;
    let offset = parse_offset(text[11 + end..].trim_ascii_start())?;
    Some(Instant { seconds: days * 86_400 + i64::from(clock) - offset, nanos })
}

/// Nothing, `Z`, `UTC`, `+02`, `+0200` or `+02:00`, as seconds east of Greenwich.
fn parse_offset(text: &[u8]) -> Option<i64> {
    let sign = match text {
        b"" | b"Z" | b"z" | b"UTC" => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let (hours, minutes) = match &text[1..] {
        [a, b] => (digits(&[*a, *b])?, 0),
        [a, b, c, d] | [a, b, b':', c, d] => (digits(&[*a, *b])?, digits(&[*c, *d])?),
        _ => return None,
    };
    (hours <= 18 && minutes <= 59).then_some(sign * i64::from(hours * 3_600 + minutes * 60))
}

/// `1 day 02:03:04`, `P1DT2H`: see [`eagre_engine::interval_text`].
pub(crate) fn parse_interval(text: &[u8]) -> Option<IntervalMonthDayNano> {
    eagre_engine::interval_text::parse(std::str::from_utf8(text).ok()?).ok()
}

/// A whole number; `1e3` and `2.0` are whole, `2.5` is not.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i128> {
    let (negative, number) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if (1..=18).contains(&number.len()) {
        let mut value = 0u64;
        let mut plain = true;
        for byte in number {
            let digit = byte.wrapping_sub(b'0');
            plain &= digit <= 9;
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        }
        if plain {
            return Some(if negative { -i128::from(value) } else { i128::from(value) });
        }
    }
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    let value: f64 = parse_float(text.as_bytes())?;
    // Beyond this a double does not tell neighbours apart.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    (value.fract() == 0.0 && value.abs() <= EXACT_MAX).then_some(value as i128)
}

/// A floating-point number; `NaN`, `Infinity` and `-Infinity` too.
pub(crate) fn parse_float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `true` or `false`, ignoring case.
pub(crate) fn parse_bool(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

/// A decimal as its digits at `scale`, rounded half away from zero as SQL does; `None`: no decimal, or more than `precision` digits.
pub(crate) fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let exponent_at = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = match exponent_at {
        Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let point = mantissa.iter().position(|byte| *byte == b'.');
    let whole = &mantissa[..point.unwrap_or(mantissa.len())];
    let fraction = point.map_or(&[][..], |at| &mantissa[at + 1..]);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // How many digits, counted from the first, stand before the last one that is kept.
    let kept = i64::from(exponent) + whole.len() as i64 + i64::from(scale);
    let mut value: i128 = 0;
    let mut round_up = false;
    let mut position = 0i64;
    for byte in whole.iter().chain(fraction) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        if position < kept {
            value = value.checked_mul(10)?.checked_add(i128::from(digit))?;
        } else if position == kept {
            round_up = digit >= 5;
        }
        position += 1;
    }
    if value != 0 {
        for _ in position..kept {
            value = value.checked_mul(10)?;
        }
    }
    value += i128::from(round_up);
    let bound = 10i128.checked_pow(u32::from(precision))?;
    (value < bound).then_some(if negative { -value } else { value })
}

/// The SQL name of a type, for messages.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP_LTZ".into(),
        DataType::List(item) => format!("ARRAY<{}>", type_name(item.data_type())),
        DataType::Struct(_) => "ROW".into(),
        DataType::Map(_, _) => "MAP".into(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<i64> {
        parse_timestamp(text.as_bytes())?.in_unit(TimeUnit::Millisecond)
    }

    #[test]
    fn timestamps_are_read_in_both_forms() {
        for text in ["2024-02-29 12:34:56.789", "2024-02-29T12:34:56.789Z", "2024-02-29T14:34:56.789123+02:00"] {
            assert_eq!(ms(text), Some(1_709_210_096_789), "{text}");
        }
        assert_eq!(ms("1969-12-31 23:59:59.999"), Some(-1));
        assert_eq!(ms("2024-01-01"), ms("2024-01-01 00:00"));
        for text in [
            "2023-02-29 00:00:00",
            "2024-01-01 24:00:00",
            "2024-01-01 1:00:00",
            "2024-01-01 00:00:00 Mars",
            "1704067200000",
        ] {
            assert_eq!(ms(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_strict() {
        assert_eq!(parse_integer(b"-9223372036854775808"), Some(i128::from(i64::MIN)));
        assert_eq!(parse_integer(b"1e3"), Some(1_000));
        assert_eq!(parse_integer(b"2.0"), Some(2));
        for text in ["", "-", "2.5", "12a", " 1"] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_decimal(b"12.345", 10, 2), Some(1_235));
        assert_eq!(parse_decimal(b"-0.005", 10, 2), Some(-1));
        assert_eq!(parse_decimal(b"1.5e2", 10, 2), Some(15_000));
        assert_eq!(parse_decimal(b"15e-3", 10, 2), Some(2));
        assert_eq!(parse_decimal(b"100", 4, 2), None);
        assert_eq!(parse_decimal(b"1-0", 4, 2), None);
        assert_eq!(parse_decimal(b"1e999999", 4, 2), None);
        assert_eq!(parse_decimal(b"0e999999", 4, 2), Some(0));
    }

    #[test]
    fn times_of_day() {
        assert_eq!(parse_time(b"01:00:00.5"), Some(3_600_500_000_000));
        assert_eq!(parse_time(b"25:00:00"), None);
    }
}
