//! Java's date patterns (`yyyy-MM-dd HH:mm:ss.SSS`), which Flink's functions take.
//!
//! A pattern is compiled once to pieces that both format and parse. Patterns with a `%` are chrono's (`%Y-%m-%d`), as DataFusion's own
//! `to_char` takes them: no Java pattern needs a bare `%`. A letter that we do not know is an error, not a literal, as in Java.

use std::fmt::Write;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use datafusion::common::{Result, exec_err};

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DatePattern {
    Java(Vec<Piece>),
    Chrono(String),
}

/// One piece of a Java pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(String),
    /// A letter and how often it stands.
    Field(char, usize),
}

/// The letters that we know.
pub(super) const LETTERS: &str = "GyuMLdDHhkKmsSaEeQwXxZz";

impl DatePattern {
    pub(crate) fn new(pattern: &str) -> Result<Self> {
        if pattern.contains('%') {
            return Ok(Self::Chrono(pattern.to_string()));
        }
        let mut pieces = vec![];
        let mut characters = pattern.chars().peekable();
        let mut literal = String::new();
        while let Some(character) = characters.next() {
            if character == '\'' {
                // `''` is a quote, inside and outside of quoted text.
                if characters.next_if_eq(&'\'').is_some() {
                    literal.push('\'');
                    continue;
                }
                loop {
                    match characters.next() {
                        Some('\'') if characters.next_if_eq(&'\'').is_some() => literal.push('\''),
                        Some('\'') => break,
                        Some(character) => literal.push(character),
                        None => return exec_err!("date pattern '{pattern}': the quote does not end"),
                    }
                }
            } else if character.is_ascii_alphabetic() {
                if !LETTERS.contains(character) {
                    return exec_err!(
                        "date pattern '{pattern}': the letter `{character}` means nothing; quote text as in \
                         `yyyy-MM-dd''T''HH:mm`"
                    );
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                let mut count = 1;
                while characters.next_if_eq(&character).is_some() {
                    count += 1;
                }
                pieces.push(Piece::Field(character, count));
            } else {
                literal.push(character);
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self::Java(pieces))
    }

    /// Times of the wall clock whose seconds since 1970 have the same quotient by this are written the same; `None`: it is not known.
    pub(crate) fn period_s(&self) -> Option<i64> {
        let Self::Java(pieces) = self else { return None };
        let period = |piece: &Piece| match piece {
            Piece::Field('S', _) => None,
            Piece::Field('s', _) => Some(1),
            Piece::Field('m', _) => Some(60),
            Piece::Field('H' | 'h' | 'k' | 'K' | 'a', _) => Some(3_600),
            _ => Some(86_400),
        };
        pieces.iter().map(period).try_fold(86_400, |least, period| Some(period?.min(least)))
    }

    /// Writes `time` after what `out` holds.
    pub(crate) fn format(&self, time: NaiveDateTime, out: &mut String) -> Result<()> {
        let pieces = match self {
            Self::Java(pieces) => pieces,
            Self::Chrono(pattern) => {
                return match write!(out, "{}", time.format(pattern)) {
                    Ok(()) => Ok(()),
                    Err(_) => exec_err!("date pattern '{pattern}' is not one of chrono's"),
                };
            }
        };
        for piece in pieces {
            let (letter, count) = match piece {
                Piece::Literal(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Field(letter, count) => (*letter, *count),
            };
            let number = match letter {
                'y' | 'u' if count == 2 => i64::from(time.year().rem_euclid(100)),
                'y' | 'u' => i64::from(time.year()),
                'M' | 'L' if count >= 3 => {
                    let name = time.format("%B").to_string();
                    out.push_str(if count == 3 { &name[..3] } else { &name });
                    continue;
                }
                'M' | 'L' => i64::from(time.month()),
                'd' => i64::from(time.day()),
                'D' => i64::from(time.ordinal()),
                'H' => i64::from(time.hour()),
                'k' => i64::from(if time.hour() == 0 { 24 } else { time.hour() }),
                'K' => i64::from(time.hour() % 12),
                'h' => i64::from(time.hour12().1),
                'm' => i64::from(time.minute()),
                's' => i64::from(time.second()),
                'Q' => i64::from(time.month0() / 3 + 1),
                'w' => i64::from(time.iso_week().week()),
                'e' => i64::from(time.weekday().number_from_sunday()),
                'S' => {
                    let digits = format!("{:09}", time.nanosecond() % 1_000_000_000);
                    out.push_str(&digits[..count.min(9)]);
                    continue;
                }
                'a' => {
                    out.push_str(if time.hour() < 12 { "AM" } else { "PM" });
                    continue;
                }
                'E' => {
                    let name = time.format("%A").to_string();
                    out.push_str(if count <= 3 { &name[..3] } else { &name });
                    continue;
                }
                'G' => {
                    out.push_str(if time.year() > 0 { "AD" } else { "BC" });
                    continue;
                }
                'X' => {
                    out.push('Z');
                    continue;
                }
                'z' => {
                    out.push_str("UTC");
                    continue;
                }
                _ => {
                    out.push_str(if count == 3 { "+00:00" } else { "+0000" });
                    continue;
                }
            };
            // Writing to a String does not fail.
            let _ = write!(out, "{number:0count$}");
        }
        Ok(())
    }

    /// Reads the whole of `text`; none if it does not fit. What the pattern leaves out is 1970-01-01 00:00.
    pub(crate) fn parse(&self, text: &str) -> Option<NaiveDateTime> {
        let pieces = match self {
            Self::Java(pieces) => pieces,
            Self::Chrono(pattern) => {
                return NaiveDateTime::parse_from_str(text, pattern).ok().or_else(|| {
                    NaiveDate::parse_from_str(text, pattern).ok().map(|date| date.and_time(NaiveTime::MIN))
                });
            }
        };
        let mut rest = text.trim();
        let (mut year, mut month, mut day, mut day_of_year) = (1970, 1, 1, None);
        let (mut hour, mut minute, mut second, mut nanosecond) = (0u32, 0, 0, 0);
        let (mut is_pm, mut offset_s) = (None, 0i64);
        for (index, piece) in pieces.iter().enumerate() {
            let (letter, count) = match piece {
                Piece::Literal(literal) => {
                    rest = rest.strip_prefix(literal.as_str())?;
                    continue;
                }
                Piece::Field(letter, count) => (*letter, *count),
            };
            // Fields that touch (`yyyyMMdd`) have exactly as many digits as letters.
            let touches = matches!(pieces.get(index + 1), Some(Piece::Field(..)));
            match letter {
                'y' | 'u' if count == 2 => year = 2000 + take_digits(&mut rest, 2, 2)? as i32,
                'y' | 'u' => year = take_digits(&mut rest, count.min(4), if touches { count } else { 9 })? as i32,
                'M' | 'L' if count >= 3 => month = take_name(&mut rest, &MONTHS)? + 1,
                'M' | 'L' => month = take_digits(&mut rest, count, 2)?,
                'd' => day = take_digits(&mut rest, count, 2)?,
                'D' => day_of_year = Some(take_digits(&mut rest, count, 3)?),
                'H' => hour = take_digits(&mut rest, count, 2)?,
                'k' => hour = take_digits(&mut rest, count, 2)? % 24,
                'h' => hour = take_digits(&mut rest, count, 2)? % 12,
                'K' => hour = take_digits(&mut rest, count, 2)?,
                'm' => minute = take_digits(&mut rest, count, 2)?,
                's' => second = take_digits(&mut rest, count, 2)?,
                'S' => {
                    let length =
                        rest.bytes().take_while(u8::is_ascii_digit).count().min(if touches { count } else { 9 });
                    nanosecond = take_digits(&mut rest, 1, length)? * 10u32.pow(9 - length as u32);
                }
                'a' => is_pm = Some(take_name(&mut rest, &["AM", "PM"])? == 1),
                'E' => {
                    take_name(&mut rest, &WEEKDAYS)?;
                }
                'X' | 'x' | 'Z' => offset_s = take_offset(&mut rest)?,
                'z' => {
                    rest = rest.strip_prefix("UTC").or_else(|| rest.strip_prefix("GMT"))?;
                }
                _ => return None,
            }
        }
        if !rest.is_empty() {
            return None;
        }
        if is_pm == Some(true) && hour < 12 {
            hour += 12;
        }
        let date = match day_of_year {
            Some(day_of_year) => NaiveDate::from_yo_opt(year, day_of_year)?,
            None => NaiveDate::from_ymd_opt(year, month, day)?,
        };
        let time = NaiveTime::from_hms_nano_opt(hour, minute, second, nanosecond)?;
        date.and_time(time).checked_sub_signed(chrono::TimeDelta::seconds(offset_s))
    }
}

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

fn take_digits(rest: &mut &str, least: usize, most: usize) -> Option<u32> {
    let length = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if length < least {
        return None;
    }
    let (digits, after) = rest.split_at(length);
    *rest = after;
    digits.parse().ok()
}

/// The index of the name, whole or by its first three letters, ignoring case, at the beginning of `rest`.
fn take_name(rest: &mut &str, names: &[&str]) -> Option<u32> {
    for (index, name) in names.iter().enumerate() {
        for form in [name, &name[..name.len().min(3)]] {
            if rest.get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form)) {
                *rest = &rest[form.len()..];
                return Some(index as u32);
            }
        }
    }
    None
}

/// `Z`, `+01`, `+0100`, `+01:00` in seconds.
fn take_offset(rest: &mut &str) -> Option<i64> {
    if let Some(after) = rest.strip_prefix('Z') {
        *rest = after;
        return Some(0);
    }
    let sign = if rest.starts_with('-') { -1 } else { 1 };
    *rest = rest.strip_prefix(['+', '-'])?;
    let hours = take_digits(rest, 2, 2)?;
    *rest = rest.strip_prefix(':').unwrap_or(rest);
    let minutes =
        if rest.starts_with(|character: char| character.is_ascii_digit()) { take_digits(rest, 2, 2)? } else { 0 };
    Some(sign * i64::from(hours * 3600 + minutes * 60))
}

/// A timestamp in the usual forms: `2024-01-31`, `2024-01-31 10:00:00`, `2024-01-31T10:00:00.123Z`.
pub(crate) fn parse_iso(text: &str) -> Option<NaiveDateTime> {
    let time: DateTime<Utc> = arrow::compute::kernels::cast_utils::string_to_datetime(&Utc, text.trim()).ok()?;
    Some(time.naive_utc())
}

/// Keeps the last pattern compiled: a column of patterns is a constant in practice.
pub(crate) struct PatternCache<P = DatePattern> {
    last: Option<(String, P)>,
}

impl<P> Default for PatternCache<P> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl PatternCache {
    pub(crate) fn get(&mut self, pattern: &str) -> Result<&DatePattern> {
        self.get_or(pattern, DatePattern::new)
    }
}

impl<P> PatternCache<P> {
    pub(crate) fn get_or(&mut self, pattern: &str, compile: impl FnOnce(&str) -> Result<P>) -> Result<&P> {
        if self.last.as_ref().is_none_or(|(last, _)| last != pattern) {
            self.last = Some((pattern.to_string(), compile(pattern)?));
        }
        Ok(self.last.as_ref().map(|(_, compiled)| compiled).expect("it was set above"))
    }
}
