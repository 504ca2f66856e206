//! Reading a time by a pattern.
//!
//! First the text is taken apart field by field, then the fields are put together: where several say the same thing, the more exact one counts, as PostgreSQL
//! ranks them. A field that is 0 counts as not given there, and so here.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime};

use super::{DAYS, Field, JULIAN_OF_1970, MONTHS, Part, ROMAN, Template, Word, is_separator, is_space};

/// What a text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What the clock shows.
    pub(crate) time: NaiveDateTime,
    /// How far it is ahead of UTC, where the text says so.
    pub(crate) offset_s: Option<i64>,
}

/// Why a text does not fit a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// The character at which it does not, from 1; none of fields that do not go together.
    pub(crate) place: Option<usize>,
    pub(crate) reason: String,
}

fn misfit(reason: impl Into<String>) -> Misfit {
    Misfit { place: None, reason: reason.into() }
}

type Result<T> = std::result::Result<T, Misfit>;

/// The fields of a text; 0 where it says nothing.
#[derive(Debug, Default)]
struct Fields {
    /// Hours, of twelve where `is_12_hours`.
    hour: i64,
    is_12_hours: bool,
    is_pm: i64,
    minute: i64,
    second: i64,
    second_of_day: i64,
    millisecond: i64,
    microsecond: i64,
    year: i64,
    /// How many digits the year's word has.
    year_digits: usize,
    is_bc: i64,
    century: i64,
    month: i64,
    day: i64,
    /// From Sunday, 1.
    day_of_week: i64,
    day_of_year: i64,
    week: i64,
    week_of_month: i64,
    julian: i64,
    /// Whether days and weeks are ISO 8601's; none before the first of them.
    is_iso: Option<bool>,
    /// 1 or -1; 0 without a zone.
    zone_sign: i64,
    zone_hour: i64,
    zone_minute: i64,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// How many more characters were passed over than the pattern asks for.
    skipped: i64,
    /// Behind an `FX`.
    is_exact: bool,
}

impl Template {
    /// Reads `text`. What the pattern leaves out is the first day of the year 0, 00:00; what stands behind its end is not looked at.
    ///
    /// # Errors
    /// The text does not fit.
    pub(crate) fn read(&self, text: &str) -> Result<Reading> {
        let mut fields = Fields::default();
        let mut reader = Reader { text, at: 0, skipped: 0, is_exact: false };
        for (index, part) in self.parts.iter().enumerate() {
            if reader.rest().is_empty() {
                break;
            }
            let starts_exact = matches!(part, Part::Field(Field { word: Word::Exact, .. }));
            if !reader.is_exact && !starts_exact && (index == 0 || matches!(part, Part::Field(_))) {
                reader.skipped += reader.pass_spaces();
            }
            match part {
                Part::Separator(_) => reader.separator(),
                Part::Text(_) => reader.letter(),
                Part::Field(field) => {
                    let begin = reader.at;
                    let ends = ends_at_digits(field, self.parts.get(index + 1));
                    reader.field(field, ends, &mut fields).map_err(|error| {
                        let place = text.get(..begin).map_or(1, |before| before.chars().count() + 1);
                        Misfit { place: Some(place), ..error }
                    })?;
                    if !reader.is_exact {
                        reader.skipped = reader.pass_spaces();
                    }
                }
            }
        }
        fields.together()
    }
}

/// Whether a number goes as far as there are digits: what stands behind it begins with none.
fn ends_at_digits(field: &Field, next: Option<&Part>) -> bool {
    let is_number = |word: Word| {
        !matches!(
            word,
            Word::Meridiem { .. }
                | Word::Era { .. }
                | Word::MonthName(_)
                | Word::ShortMonthName(_)
                | Word::DayName(_)
                | Word::ShortDayName(_)
                | Word::RomanMonth { .. }
                | Word::Zone { .. }
                | Word::ZoneHour
                | Word::ZoneOffset
                | Word::Exact
        )
    };
    field.fills
        || field.ordinal.is_some()
        || match next {
            None | Some(Part::Separator(_)) => true,
            Some(Part::Text(character)) => !character.is_ascii_digit(),
            Some(Part::Field(next)) => !is_number(next.word),
        }
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn pass_spaces(&mut self) -> i64 {
        let rest = self.rest();
        let count = rest.len() - rest.trim_start_matches(is_space).len();
        self.at += count;
        count as i64
    }

    fn pass_character(&mut self) {
        self.at += self.rest().chars().next().map_or(0, char::len_utf8);
    }

    /// A space or a sign of the pattern: one of the text, or none where there is none.
    fn separator(&mut self) {
        if self.is_exact {
            return self.pass_character();
        }
        self.skipped -= 1;
        if self.rest().starts_with(|character| is_separator(character) || is_space(character)) {
            self.pass_character();
            self.skipped += 1;
        }
    }

    /// A letter of the pattern: any character, unless one too many was passed before.
    fn letter(&mut self) {
        if !self.is_exact && self.skipped > 0 {
            self.skipped -= 1;
        } else {
            self.pass_character();
        }
    }

    /// The text from here to the next space, for errors.
    fn shown(&self) -> String {
        self.rest().split(is_space).next().unwrap_or_default().to_string()
    }

    /// A number of at most `most` digits, and how many characters it has with what stands before it; of exactly so many where digits follow it.
    fn number(&mut self, field: &Field, most: usize, ends_at_digits: bool) -> Result<(i64, usize)> {
        let begin = self.at;
        self.pass_spaces();
        let name = field.name;
        let rest = self.rest();
        if !ends_at_digits && rest.len() < most {
            return Err(misfit(format!(
                "`{name}` takes {most} digits, and '{rest}' has fewer; `FM{name}` takes as many as there are"
            )));
        }
        let signed = usize::from(rest.starts_with(['+', '-']));
        let limit = if ends_at_digits { rest.len() } else { most };
        let count = rest.bytes().take(limit).skip(signed).take_while(u8::is_ascii_digit).count();
        let number = &rest[..signed + count];
        if count == 0 {
            return Err(misfit(format!("`{name}` is a number, and '{}' is none", self.shown())));
        }
        if !ends_at_digits && number.len() < most {
            return Err(misfit(format!(
                "`{name}` takes {most} digits, and '{number}' has fewer; `FM{name}` takes as many as there are"
            )));
        }
        let Ok(value) = number.parse::<i32>() else {
            return Err(misfit(format!("`{name}`: {number} is too large")));
        };
        self.at += number.len();
        Ok((i64::from(value), self.at - begin))
    }

    /// The index of the first of `names` that stands here, in any case.
    fn name<'n>(&mut self, field: &Field, names: impl IntoIterator<Item = &'n str>) -> Result<i64> {
        let rest = self.rest();
        let is_here = |name: &str| rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        let found = names.into_iter().enumerate().find(|(_, name)| is_here(name));
        let Some((index, name)) = found else {
            return Err(misfit(format!("`{}`: '{}' is no name of one", field.name, self.shown())));
        };
        self.at += name.len();
        Ok(index as i64)
    }

    fn field(&mut self, field: &Field, ends: bool, fields: &mut Fields) -> Result<()> {
        if let Some(is_iso) = field.word.calendar() {
            if fields.is_iso.is_some_and(|before| before != is_iso) {
                return Err(misfit(format!(
                    "`{}` and what stands before it are of two calendars: weeks of ISO 8601 go with `IYYY`, `IW`, `ID` and `IDDD` only",
                    field.name
                )));
            }
            fields.is_iso = Some(is_iso);
        }
        // Two digits of hours, whatever `HH24` is spelt with.
        let width = match field.word {
            Word::Hour12 | Word::Hour24 | Word::ZoneHour | Word::ZoneMinute => 2,
            Word::Millisecond | Word::IsoDayOfYear => 3,
            Word::Microsecond => 6,
            Word::Fraction(count) => count,
            Word::IsoDayOfWeek => 1,
            _ => field.name.len(),
        };
        match field.word {
            Word::Exact => {
                self.is_exact = true;
                return Ok(());
            }
            Word::Meridiem { dots, .. } => {
                let is_pm = self.name(field, if dots { ["a.m.", "p.m."] } else { ["am", "pm"] })?;
                fields.is_12_hours = true;
                return set(&mut fields.is_pm, is_pm, field);
            }
            Word::Era { dots, .. } => {
                let is_bc = self.name(field, if dots { ["a.d.", "b.c."] } else { ["ad", "bc"] })?;
                return set(&mut fields.is_bc, is_bc, field);
            }
            Word::MonthName(_) => {
                let month = self.name(field, MONTHS)? + 1;
                return set(&mut fields.month, month, field);
            }
            Word::ShortMonthName(_) => {
                let month = self.name(field, MONTHS.map(|name| &name[..3]))? + 1;
                return set(&mut fields.month, month, field);
            }
            Word::DayName(_) => {
                let day = self.name(field, DAYS)? + 1;
                return set(&mut fields.day_of_week, day, field);
            }
            Word::ShortDayName(_) => {
                let day = self.name(field, DAYS.map(|name| &name[..3]))? + 1;
                return set(&mut fields.day_of_week, day, field);
            }
            Word::RomanMonth { .. } => {
                // The longer ones first: `XI` begins with `X`.
                const LONGER_FIRST: [usize; 12] = [7, 2, 6, 11, 1, 3, 5, 8, 10, 0, 4, 9];
                let place = self.name(field, LONGER_FIRST.map(|index| ROMAN[index]))?;
                return set(&mut fields.month, LONGER_FIRST[place as usize] as i64 + 1, field);
            }
            Word::Zone { .. } | Word::ZoneOffset => {
                return Err(misfit(format!("`{}` is of TO_CHAR only; offsets are read by `TZH:TZM`", field.name)));
            }
            Word::ZoneHour => {
                // The sign may have been passed over as a separator.
                let passed = self.skipped > 0 && self.text[..self.at].ends_with('-');
                fields.zone_sign = if self.rest().starts_with('-') || passed { -1 } else { 1 };
                if self.rest().starts_with(['+', '-', ' ']) {
                    fields.zone_sign = if self.rest().starts_with('-') { -1 } else { 1 };
                    self.at += 1;
                }
                let (hour, _) = self.number(field, width, ends)?;
                return set(&mut fields.zone_hour, hour, field);
            }
            Word::ZoneMinute => {
                if fields.zone_sign == 0 {
                    fields.zone_sign = 1;
                }
                let (minute, _) = self.number(field, width, ends)?;
                return set(&mut fields.zone_minute, minute, field);
            }
            Word::YearWithComma => {
                let (thousands, _) = self.number(field, 0, true)?;
                let after = self.rest().strip_prefix(',').unwrap_or_default();
                let three = &after[..after.bytes().take(3).take_while(u8::is_ascii_digit).count()];
                let Ok(year) = three.parse::<u16>() else {
                    return Err(misfit(format!("`Y,YYY` is written 2,024, and not '{thousands}{}'", self.shown())));
                };
                self.at += 1 + three.len();
                fields.year_digits = 4;
                set(&mut fields.year, thousands * 1000 + i64::from(year), field)?;
            }
            word => {
                let (number, length) = self.number(field, width, ends)?;
                match word {
                    Word::Hour12 => {
                        fields.is_12_hours = true;
                        set(&mut fields.hour, number, field)?;
                    }
                    Word::Hour24 => set(&mut fields.hour, number, field)?,
                    Word::Minute => set(&mut fields.minute, number, field)?,
                    Word::Second => set(&mut fields.second, number, field)?,
                    Word::SecondOfDay => set(&mut fields.second_of_day, number, field)?,
                    // `.5` is half a second, and `.05` a twentieth.
                    Word::Millisecond => {
                        set(&mut fields.millisecond, number, field)?;
                        fields.millisecond *= 10i64.pow(3 - length.min(3) as u32);
                    }
                    Word::Microsecond | Word::Fraction(_) => {
                        set(&mut fields.microsecond, number, field)?;
                        fields.microsecond *= 10i64.pow(6 - length.min(6) as u32);
                    }
                    Word::Year(count) | Word::IsoYear(count) => {
                        let is_partial = count < 4 && length < 4;
                        set(&mut fields.year, if is_partial { whole_year(number) } else { number }, field)?;
                        fields.year_digits = count;
                    }
                    Word::Century => set(&mut fields.century, number, field)?,
                    Word::Month => set(&mut fields.month, number, field)?,
                    Word::Day => set(&mut fields.day, number, field)?,
                    Word::DayOfYear | Word::IsoDayOfYear => set(&mut fields.day_of_year, number, field)?,
                    Word::DayOfWeek => set(&mut fields.day_of_week, number, field)?,
                    Word::IsoDayOfWeek => {
                        set(&mut fields.day_of_week, if number >= 7 { 1 } else { number + 1 }, field)?;
                    }
                    Word::Week | Word::IsoWeek => set(&mut fields.week, number, field)?,
                    Word::WeekOfMonth => set(&mut fields.week_of_month, number, field)?,
                    Word::Julian => set(&mut fields.julian, number, field)?,
                    // Which day of the quarter is not said.
                    _ => {}
                }
            }
        }
        if field.ordinal.is_some() {
            self.pass_character();
            self.pass_character();
        }
        Ok(())
    }
}

impl Word {
    /// Whether it counts in the weeks of ISO 8601; none of what is no part of a date, or of both calendars.
    fn calendar(self) -> Option<bool> {
        match self {
            Self::IsoYear(_) | Self::IsoWeek | Self::IsoDayOfYear | Self::IsoDayOfWeek => Some(true),
            Self::MonthName(_)
            | Self::ShortMonthName(_)
            | Self::RomanMonth { .. }
            | Self::Year(_)
            | Self::YearWithComma
            | Self::Month
            | Self::Week
            | Self::WeekOfMonth
            | Self::DayOfYear
            | Self::Day
            | Self::DayOfWeek => Some(false),
            _ => None,
        }
    }
}

/// Sets what was not set to something else before.
fn set(to: &mut i64, value: i64, field: &Field) -> Result<()> {
    if *to != 0 && *to != value {
        return Err(misfit(format!("`{}` says {value}, and what stands before it {to}", field.name)));
    }
    *to = value;
    Ok(())
}

/// The year next to 2020 with these last digits.
fn whole_year(digits: i64) -> i64 {
    match digits {
        ..70 => digits + 2000,
        70..100 => digits + 1900,
        100..520 => digits + 2000,
        520..1000 => digits + 1000,
        _ => digits,
    }
}

/// The Monday of the first ISO week of a year.
fn first_monday(year: i64) -> Option<NaiveDate> {
    let fourth = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, 1, 4)?;
    fourth.checked_sub_days(Days::new(u64::from(fourth.weekday().num_days_from_monday())))
}

fn days_behind(date: Option<NaiveDate>, days: i64) -> Option<NaiveDate> {
    let size = Days::new(days.unsigned_abs());
    let date = date?;
    if days < 0 { date.checked_sub_days(size) } else { date.checked_add_days(size) }
}

impl Fields {
    fn together(mut self) -> Result<Reading> {
        let time = self.clock()?;
        let date = self.date()?;
        let offset_s = match self.zone_sign {
            0 => None,
            sign if (0..16).contains(&self.zone_hour) && (0..60).contains(&self.zone_minute) => {
                Some(sign * (self.zone_hour * 3_600 + self.zone_minute * 60))
            }
            _ => return Err(misfit(format!("{}:{} is no offset of a time zone", self.zone_hour, self.zone_minute))),
        };
        Ok(Reading { time: date.and_time(time), offset_s })
    }

    fn clock(&self) -> Result<NaiveTime> {
        let or = |field: i64, of_day: i64| if field == 0 { of_day } else { field };
        let mut hour = or(self.hour, self.second_of_day / 3_600);
        let minute = or(self.minute, self.second_of_day / 60 % 60);
        let second = or(self.second, self.second_of_day % 60);
        if self.is_12_hours {
            if !(1..=12).contains(&hour) {
                return Err(misfit(format!(
                    "{hour} is no hour of a clock with twelve; `HH24` takes hours from 0 to 23"
                )));
            }
            hour = hour % 12 + 12 * self.is_pm;
        }
        let fraction_us = self.millisecond * 1_000 + self.microsecond;
        let fits = |value: i64, bound: i64| (0..bound).contains(&value).then_some(value as u32);
        let time = || {
            let (hour, minute, second) = (fits(hour, 24)?, fits(minute, 60)?, fits(second, 60)?);
            NaiveTime::from_hms_micro_opt(hour, minute, second, fits(fraction_us, 1_000_000)?)
        };
        time().ok_or_else(|| misfit(format!("{hour:02}:{minute:02}:{second:02}.{fraction_us:06} is no time of day")))
    }

    /// The year, where the text has one: 0 is 1 BC.
    fn year(&mut self) -> Option<i64> {
        if self.is_bc == 1 {
            self.century = -self.century;
        }
        let century = self.century;
        if self.year != 0 && (century == 0 || self.year_digits > 2) {
            let year = if self.is_bc == 1 { -self.year } else { self.year };
            return Some(if year < 0 { year + 1 } else { year });
        }
        if self.year != 0 {
            return Some(match self.year % 100 {
                0 => century * 100 + i64::from(century < 0),
                last if century >= 0 => last + (century - 1) * 100,
                last => (century + 1) * 100 - last + 1,
            });
        }
        match century {
            0 => None,
            // Its first year.
            century if century > 0 => Some((century - 1) * 100 + 1),
            century => Some(century * 100 + 1),
        }
    }

    fn date(&mut self) -> Result<NaiveDate> {
        let given_year = self.year();
        let (mut year, mut month, mut day) = (given_year.unwrap_or(0), 1i64, 1i64);
        let is_iso = self.is_iso == Some(true);
        let mut set = |date: Option<NaiveDate>| -> Result<()> {
            let date = date.ok_or_else(|| misfit("the date is out of range"))?;
            (year, month, day) = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
            Ok(())
        };
        if self.julian != 0 {
            set(days_behind(NaiveDate::from_ymd_opt(1970, 1, 1), self.julian - JULIAN_OF_1970))?;
        }
        if self.week != 0 && is_iso {
            let in_week = match self.day_of_week {
                0 => 0,
                1 => 6,
                day => day - 2,
            };
            set(days_behind(first_monday(given_year.unwrap_or(0)), (self.week - 1) * 7 + in_week))?;
        } else if self.week != 0 {
            self.day_of_year = (self.week - 1) * 7 + 1;
        }
        if self.week_of_month != 0 {
            self.day = (self.week_of_month - 1) * 7 + 1;
        }
        if self.day != 0 {
            day = self.day;
        }
        if self.month != 0 {
            month = self.month;
        }
        if self.day_of_year != 0 && (month <= 1 || day <= 1) {
            if year == 0 && self.is_bc == 0 {
                return Err(misfit("a day of the year says no date without the year"));
            }
            let first = match is_iso {
                true => first_monday(year),
                false => i32::try_from(year).ok().and_then(|year| NaiveDate::from_ymd_opt(year, 1, 1)),
            };
            let date = days_behind(first, self.day_of_year - 1);
            match date {
                Some(date) if is_iso => {
                    (year, month, day) = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
                }
                Some(date) if i64::from(date.year()) == year => {
                    month = if month <= 1 { i64::from(date.month()) } else { month };
                    day = if day <= 1 { i64::from(date.day()) } else { day };
                }
                _ => return Err(misfit(format!("the year {year} has no day {}", self.day_of_year))),
            }
        }
        let date = || {
            let (month, day) = (u32::try_from(month).ok()?, u32::try_from(day).ok()?);
            NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
        };
        date().ok_or_else(|| misfit(format!("{year:04}-{month:02}-{day:02} is no date")))
    }
}
