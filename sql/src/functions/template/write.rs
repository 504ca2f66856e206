//! Writing a time by a pattern.

use std::fmt::Write;

use arrow::datatypes::IntervalMonthDayNano;
use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};

use super::{Case, DAYS, Field, JULIAN_OF_1970, MONTHS, Part, ROMAN, Template, Word};

/// What is written: a time on a clock, or an interval, whose parts may be negative and as long as they like.
#[derive(Debug, Clone)]
pub(crate) struct Moment<'a> {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    microsecond: i64,
    /// None of an interval.
    date: Option<NaiveDate>,
    /// How far the clock is ahead of UTC.
    offset_s: i64,
    /// The short name of its zone, empty where it has none; none of a zone that is called by its offset.
    zone: Option<&'a str>,
}

impl<'a> Moment<'a> {
    /// What a clock shows that is `offset_s` ahead of UTC in a zone of that short name; none where it is called by its offset.
    pub(crate) fn of_clock(time: NaiveDateTime, offset_s: i64, zone: Option<&'a str>) -> Self {
        Self {
            year: i64::from(time.year()),
            month: i64::from(time.month()),
            day: i64::from(time.day()),
            hour: i64::from(time.hour()),
            minute: i64::from(time.minute()),
            second: i64::from(time.second()),
            microsecond: i64::from(time.nanosecond() % 1_000_000_000 / 1_000),
            date: Some(time.date()),
            offset_s,
            zone,
        }
    }

    pub(crate) fn of_interval(interval: IntervalMonthDayNano) -> Self {
        let microseconds = interval.nanoseconds / 1_000;
        let seconds = microseconds / 1_000_000;
        Self {
            year: i64::from(interval.months / 12),
            month: i64::from(interval.months % 12),
            day: i64::from(interval.days),
            hour: seconds / 3_600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            microsecond: microseconds % 1_000_000,
            date: None,
            offset_s: 0,
            zone: None,
        }
    }

    /// The year as it is called: 1 BC is year 0.
    fn year_called(&self, year: i64) -> i64 {
        if self.date.is_some() && year <= 0 { 1 - year } else { year }
    }

    fn day_of_year(&self) -> i64 {
        match self.date {
            Some(date) => i64::from(date.ordinal()),
            None => (self.year * 12 + self.month) * 30 + self.day,
        }
    }
}

impl Template {
    /// Writes `moment` behind what `out` holds.
    ///
    /// # Errors
    /// A word that says nothing of an interval: its name.
    pub(crate) fn write(&self, moment: &Moment, out: &mut String) -> Result<(), &'static str> {
        for part in &self.parts {
            match part {
                Part::Text(character) | Part::Separator(character) => out.push(*character),
                Part::Field(field) => field.write(moment, out).ok_or(field.name)?,
            }
        }
        Ok(())
    }
}

/// Of at least `width` characters, the sign among them.
fn with_sign(number: i64, width: usize, out: &mut String) {
    // Writing to a String does not fail.
    let _ = write!(out, "{number:0width$}");
}

/// Of at least `width` digits, and a sign where there is one.
fn digits(number: i64, width: usize, out: &mut String) {
    with_sign(number, width + usize::from(number < 0), out);
}

fn name(name: &str, case: Case, width: usize, out: &mut String) {
    let written = match case {
        Case::Upper => name.to_ascii_uppercase(),
        Case::Title => name.to_string(),
        Case::Lower => name.to_ascii_lowercase(),
    };
    let _ = write!(out, "{written:width$}");
}

impl Field {
    /// None where the word says nothing of an interval.
    fn write(&self, of: &Moment, out: &mut String) -> Option<()> {
        let begin = out.len();
        let width = |width: usize| if self.fills { 0 } else { width };
        let of_year = |year: i64, count: usize, out: &mut String| {
            let year = of.year_called(year);
            digits(if count == 4 { year } else { year % 10i64.pow(count as u32) }, width(count), out);
        };
        match self.word {
            Word::Exact => {}
            Word::Meridiem { dots, upper } => {
                let is_later = of.hour % 24 >= 12;
                out.push_str(match (is_later, dots, upper) {
                    (false, false, true) => "AM",
                    (false, false, false) => "am",
                    (false, true, true) => "A.M.",
                    (false, true, false) => "a.m.",
                    (true, false, true) => "PM",
                    (true, false, false) => "pm",
                    (true, true, true) => "P.M.",
                    (true, true, false) => "p.m.",
                });
            }
            Word::Era { dots, upper } => {
                of.date?;
                out.push_str(match (of.year > 0, dots, upper) {
                    (true, false, true) => "AD",
                    (true, false, false) => "ad",
                    (true, true, true) => "A.D.",
                    (true, true, false) => "a.d.",
                    (false, false, true) => "BC",
                    (false, false, false) => "bc",
                    (false, true, true) => "B.C.",
                    (false, true, false) => "b.c.",
                });
            }
            Word::MonthName(case) => name(MONTHS[of.date?.month0() as usize], case, width(9), out),
            Word::ShortMonthName(case) => name(&MONTHS[of.date?.month0() as usize][..3], case, 0, out),
            Word::DayName(case) => {
                name(DAYS[of.date?.weekday().num_days_from_sunday() as usize], case, width(9), out);
            }
            Word::ShortDayName(case) => {
                name(&DAYS[of.date?.weekday().num_days_from_sunday() as usize][..3], case, 0, out);
            }
            Word::RomanMonth { upper } => {
                if of.month == 0 && of.year == 0 {
                    return Some(());
                }
                // Of an interval's months that are negative, from the end of the year; none of them is twelve.
                let index = match of.month {
                    0 if of.year >= 0 => 11,
                    0 => 0,
                    month if month < 0 => 12 + month,
                    month => month - 1,
                };
                name(ROMAN[index as usize], if upper { Case::Upper } else { Case::Lower }, width(4), out);
            }
            Word::Century => {
                let century = match of.date {
                    None => of.year / 100,
                    Some(_) if of.year > 0 => (of.year - 1) / 100 + 1,
                    Some(_) => of.year / 100 - 1,
                };
                digits(century, width(2), out);
            }
            Word::Year(count) => of_year(of.year, count, out),
            Word::YearWithComma => {
                let year = of.year_called(of.year);
                let _ = write!(out, "{},{:03}", year / 1000, year % 1000);
            }
            Word::IsoYear(count) => of_year(i64::from(of.date?.iso_week().year()), count, out),
            Word::Quarter => {
                if of.month != 0 {
                    digits((of.month - 1) / 3 + 1, 1, out);
                }
            }
            Word::Month => digits(of.month, width(2), out),
            Word::Week => with_sign((of.day_of_year() - 1) / 7 + 1, width(2), out),
            Word::IsoWeek => digits(i64::from(of.date?.iso_week().week()), width(2), out),
            Word::WeekOfMonth => digits((of.day - 1) / 7 + 1, 1, out),
            Word::DayOfYear => with_sign(of.day_of_year(), width(3), out),
            Word::IsoDayOfYear => {
                let date = of.date?;
                let day = (date.iso_week().week() - 1) * 7 + date.weekday().number_from_monday();
                digits(i64::from(day), width(3), out);
            }
            Word::Day => with_sign(of.day, width(2), out),
            Word::DayOfWeek => digits(i64::from(of.date?.weekday().number_from_sunday()), 1, out),
            Word::IsoDayOfWeek => digits(i64::from(of.date?.weekday().number_from_monday()), 1, out),
            Word::Julian => {
                digits(i64::from(of.date?.num_days_from_ce() - 719_163) + JULIAN_OF_1970, 1, out);
            }
            Word::Hour12 => {
                let hour = of.hour % 12;
                // As wide as the sign of all hours asks for, not of those that are left.
                let wide = width(2) + usize::from(!self.fills && of.hour < 0 && hour == 0);
                digits(if hour == 0 { 12 } else { hour }, wide, out);
            }
            Word::Hour24 => digits(of.hour, width(2), out),
            Word::Minute => digits(of.minute, width(2), out),
            Word::Second => digits(of.second, width(2), out),
            Word::Millisecond => fraction(of.microsecond, 3, out),
            Word::Microsecond => fraction(of.microsecond, 6, out),
            Word::Fraction(count) => fraction(of.microsecond, count, out),
            Word::SecondOfDay => digits(of.hour * 3_600 + of.minute * 60 + of.second, 1, out),
            Word::Zone { upper } => {
                of.date?;
                match of.zone {
                    Some(zone) => name(zone, if upper { Case::Title } else { Case::Lower }, 0, out),
                    None => offset(of.offset_s, 2, out),
                }
            }
            Word::ZoneHour => {
                of.date?;
                let _ = write!(out, "{}{:02}", sign(of.offset_s), of.offset_s.abs() / 3_600);
            }
            Word::ZoneMinute => {
                of.date?;
                digits(of.offset_s.abs() % 3_600 / 60, 2, out);
            }
            Word::ZoneOffset => {
                of.date?;
                offset(of.offset_s, width(2), out);
            }
        }
        if let Some(upper) = self.ordinal
            && self.word.is_counted()
            && out.len() > begin
        {
            let ending = ordinal(&out[begin..]);
            name(ending, if upper { Case::Upper } else { Case::Lower }, 0, out);
        }
        Some(())
    }
}

impl Word {
    /// Whether a `TH` behind it writes an ending.
    fn is_counted(self) -> bool {
        !matches!(
            self,
            Self::Meridiem { .. }
                | Self::Era { .. }
                | Self::MonthName(_)
                | Self::ShortMonthName(_)
                | Self::DayName(_)
                | Self::ShortDayName(_)
                | Self::RomanMonth { .. }
                | Self::Zone { .. }
                | Self::ZoneHour
                | Self::ZoneMinute
                | Self::ZoneOffset
                | Self::Exact
        )
    }
}

fn sign(offset_s: i64) -> char {
    if offset_s < 0 { '-' } else { '+' }
}

/// `+02`, `-05:30`.
fn offset(offset_s: i64, width: usize, out: &mut String) {
    out.push(sign(offset_s));
    digits(offset_s.abs() / 3_600, width, out);
    if offset_s % 3_600 != 0 {
        let _ = write!(out, ":{:02}", offset_s.abs() % 3_600 / 60);
    }
}

/// The first `count` digits of a fraction of a second.
fn fraction(microsecond: i64, count: usize, out: &mut String) {
    with_sign(microsecond / 10i64.pow(6 - count as u32), count, out);
}

/// `st` of 1, `th` of 11.
pub(super) fn ordinal(number: &str) -> &'static str {
    let digits = number.as_bytes();
    match digits {
        [.., b'1', _] => "th",
        [.., b'1'] => "st",
        [.., b'2'] => "nd",
        [.., b'3'] => "rd",
        _ => "th",
    }
}
