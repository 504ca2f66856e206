//! Intervals as texts, as PostgreSQL and ISO 8601 write them.
//!
//! One reader for constants of SQL, casts and columns of files, so that a text means the same everywhere: `1 day 02:03:04`, `1-2` (years and months), `6`
//! (seconds), `P1Y2M3DT4H5M6S`, `P0001-02-03T04:05:06`, `@ 1 day ago`, and what our sinks write (`14 mons 3 days 4 hours`). Of a part of a year whole months
//! count, what is left of a month goes on as days, thirty to the month, and what is left of a day as time, as in PostgreSQL. A digit is never lost silently:
//! what is finer than a nanosecond is rounded, what is too long is an error.

use arrow::datatypes::IntervalMonthDayNano;

const NS_OF_SECOND: i128 = 1_000_000_000;
const NS_OF_DAY: i128 = 86_400 * NS_OF_SECOND;

/// The fields of the standard's qualifiers, from the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Twelve months.
    Year,
    /// A month of the calendar.
    Month,
    /// A day of the calendar.
    Day,
    /// 60 minutes.
    Hour,
    /// 60 seconds.
    Minute,
    /// With its fraction.
    Second,
}

/// `DAY TO SECOND(2)` behind a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qualifier {
    /// The longest field.
    pub first: Field,
    /// The shortest field; the same where there is one.
    pub last: Field,
    /// Digits of the seconds' fraction.
    pub precision: Option<u32>,
}

/// The interval that a text is.
///
/// # Errors
/// It is none; the message names the text and what is wrong with it.
pub fn parse(text: &str) -> Result<IntervalMonthDayNano, String> {
    parse_qualified(text, None)
}

/// The interval that a text is before a qualifier: a number without a unit is of the last field, and what is shorter than that is cut off. Where there are two fields,
/// a sign at the beginning is that of all that comes, as the standard has it.
///
/// # Errors
/// As [`parse`].
pub fn parse_qualified(text: &str, qualifier: Option<Qualifier>) -> Result<IntervalMonthDayNano, String> {
    read(text, qualifier).map_err(|reason| {
        format!("'{text}' is no INTERVAL: {reason}; it is written as '1 day 02:03:04', '3 hours 5 minutes', '1-2' (years and months) or 'P1DT2H'")
    })
}

fn read(text: &str, qualifier: Option<Qualifier>) -> Result<IntervalMonthDayNano, String> {
    let text = text.trim();
    let unsigned = text.trim_start_matches(['-', '+']);
    let mut sum = Sum::default();
    if let Some(designated) = unsigned.strip_prefix(['P', 'p']) {
        if text.len() - unsigned.len() > 1 {
            return Err("it has two signs".into());
        }
        read_iso(designated, &mut sum)?;
        return if text.starts_with('-') { sum.negative().finish(qualifier) } else { sum.finish(qualifier) };
    }
    match (text.strip_prefix('-'), qualifier) {
        (Some(rest), Some(qualifier)) if qualifier.first != qualifier.last => {
            read_words(rest, Some(qualifier), &mut sum)?;
            sum = sum.negative();
        }
        _ => read_words(text, qualifier, &mut sum)?,
    }
    sum.finish(qualifier)
}

/// A number as it is written: exact, to eighteen digits behind the point.
#[derive(Debug, Clone, Copy)]
struct Number {
    negative: bool,
    whole: i128,
    /// Of `scale`.
    part: i128,
    scale: i128,
}

impl Number {
    /// The number at the beginning of a text, with its sign, and what stands behind it.
    fn take(text: &str) -> Result<(Self, &str), String> {
        let negative = text.starts_with('-');
        let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = rest.split_at(digits(rest));
        let (part, rest) = match rest.strip_prefix('.') {
            Some(behind) => behind.split_at(digits(behind)),
            None => ("", rest),
        };
        if whole.is_empty() && part.is_empty() {
            let word = text.split_ascii_whitespace().next().unwrap_or_default();
            return Err(if word.is_empty() { "a number is missing".into() } else { format!("`{word}` is no number") });
        }
        if whole.len() > 18 {
            return Err(format!("{whole} is too large"));
        }
        let part = &part[..part.len().min(18)];
        let value = |digits: &str| digits.parse::<i128>().unwrap_or(0);
        let number = Self { negative, whole: value(whole), part: value(part), scale: 10i128.pow(part.len() as u32) };
        Ok((number, rest))
    }

    fn is_whole(&self) -> bool {
        self.scale == 1
    }

    fn signed(&self, value: i128) -> i128 {
        if self.negative { -value } else { value }
    }

    /// So many units, rounded half away from zero.
    fn times(&self, units: i128) -> i128 {
        self.signed(self.whole * units + (self.part * units * 2 + self.scale) / (self.scale * 2))
    }

    /// Whole units, of which there are `count` in one, and how many nanoseconds are left of the last one, which has `length_ns`.
    fn whole_and_rest(&self, count: i128, length_ns: i128) -> (i128, i128) {
        let units = self.part * count;
        let rest = units % self.scale;
        (
            self.signed(self.whole * count + units / self.scale),
            self.signed((rest * length_ns * 2 + self.scale) / (self.scale * 2)),
        )
    }
}

#[derive(Debug, Default)]
struct Sum {
    months: i128,
    days: i128,
    ns: i128,
    /// Whether anything was said.
    is_given: bool,
    /// Whether any part of it was said by a word, a clock or a designator.
    has_units: bool,
}

impl Sum {
    fn negative(self) -> Self {
        Self { months: -self.months, days: -self.days, ns: -self.ns, ..self }
    }

    fn add(&mut self, number: Number, unit: Unit) {
        self.is_given = true;
        match unit {
            // Whole months, as PostgreSQL counts a part of a year.
            Unit::Months(count) if count >= 12 => self.months += number.times(count),
            Unit::Months(count) => {
                let (months, rest_of_month) = (number.whole * count, number.part * count);
                let (more, rest) = (rest_of_month / number.scale, rest_of_month % number.scale);
                self.months += number.signed(months + more);
                let (days, ns) = Number { whole: 0, part: rest, ..number }.whole_and_rest(30, NS_OF_DAY);
                self.days += days;
                self.ns += ns;
            }
            Unit::Days(count) => {
                let (days, ns) = number.whole_and_rest(count, NS_OF_DAY);
                self.days += days;
                self.ns += ns;
            }
            Unit::Ns(length) => self.ns += number.times(length),
        }
    }

    fn finish(mut self, qualifier: Option<Qualifier>) -> Result<IntervalMonthDayNano, String> {
        if !self.is_given {
            return Err("it says no length".into());
        }
        if let Some(Qualifier { last, precision, .. }) = qualifier {
            let cut = |value: i128, unit: i128| value / unit * unit;
            // A number alone is of the last field, parts and all.
            if self.has_units {
                match last {
                    Field::Year => (self.months, self.days, self.ns) = (cut(self.months, 12), 0, 0),
                    Field::Month => (self.days, self.ns) = (0, 0),
                    Field::Day => self.ns = 0,
                    Field::Hour => self.ns = cut(self.ns, 3_600 * NS_OF_SECOND),
                    Field::Minute => self.ns = cut(self.ns, 60 * NS_OF_SECOND),
                    Field::Second => {}
                }
            }
            if let Some(precision) = precision.filter(|precision| *precision < 9) {
                let unit = 10i128.pow(9 - precision);
                self.ns = (self.ns + self.ns.signum() * unit / 2) / unit * unit;
            }
        }
        let fits = || {
            Some(IntervalMonthDayNano::new(
                i32::try_from(self.months).ok()?,
                i32::try_from(self.days).ok()?,
                i64::try_from(self.ns).ok()?,
            ))
        };
        fits().ok_or_else(|| "it is longer than an INTERVAL can be".into())
    }
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    Months(i128),
    Days(i128),
    Ns(i128),
}

const SECOND: Unit = Unit::Ns(NS_OF_SECOND);
const MINUTE: Unit = Unit::Ns(60 * NS_OF_SECOND);
const HOUR: Unit = Unit::Ns(3_600 * NS_OF_SECOND);
const DAY: Unit = Unit::Days(1);

fn unit(word: &str) -> Option<Unit> {
    Some(match word.to_ascii_lowercase().as_str() {
        "ns" | "nsec" | "nsecs" | "nanosecond" | "nanoseconds" => Unit::Ns(1),
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" | "microsecon" => {
            Unit::Ns(1_000)
        }
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" | "millisecon" => {
            Unit::Ns(1_000_000)
        }
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => MINUTE,
        "h" | "hr" | "hrs" | "hour" | "hours" => HOUR,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => Unit::Days(7),
        "mon" | "mons" | "month" | "months" => Unit::Months(1),
        "qtr" | "quarter" | "quarters" => Unit::Months(3),
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Months(12),
        "dec" | "decs" | "decade" | "decades" => Unit::Months(120),
        "c" | "cent" | "century" | "centuries" => Unit::Months(1_200),
        "mil" | "mils" | "millennium" | "millennia" => Unit::Months(12_000),
        _ => return None,
    })
}

fn field_unit(field: Field) -> Unit {
    match field {
        Field::Year => Unit::Months(12),
        Field::Month => Unit::Months(1),
        Field::Day => DAY,
        Field::Hour => HOUR,
        Field::Minute => MINUTE,
        Field::Second => SECOND,
    }
}

/// `1 day 02:03:04`, `1-2 3`, `@ 5 minutes ago`.
fn read_words(text: &str, qualifier: Option<Qualifier>, sum: &mut Sum) -> Result<(), String> {
    let mut rest = text;
    // Numbers whose unit has not come yet.
    let mut bare: Vec<Number> = vec![];
    let mut is_ago = false;
    loop {
        rest = rest.trim_start_matches(|character: char| {
            character.is_ascii_whitespace() || character == ',' || character == '@'
        });
        let Some(first) = rest.chars().next() else { break };
        if is_ago {
            return Err(format!("`{rest}` stands behind `ago`"));
        }
        if first.is_alphabetic() {
            let end = rest.find(|character: char| !character.is_alphabetic()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            if word.eq_ignore_ascii_case("ago") {
                is_ago = true;
                continue;
            }
            let Some(unit) = unit(word) else { return Err(format!("`{word}` is no unit of time")) };
            let Some(number) = bare.pop() else { return Err(format!("`{word}` has no number before it")) };
            if !bare.is_empty() {
                return Err("a number has no unit".into());
            }
            sum.add(number, unit);
            sum.has_units = true;
            continue;
        }
        let (number, after) = Number::take(rest)?;
        if let Some(behind) = after.strip_prefix(':') {
            // Before a clock stand days.
            for days in bare.drain(..) {
                sum.add(days, DAY);
            }
            rest = read_clock(number, behind, qualifier, sum)?;
            sum.has_units = true;
        } else if let Some(behind) = after.strip_prefix('-').filter(|_| number.is_whole() && bare.is_empty()) {
            rest = read_months(number, behind, sum)?;
            sum.has_units = true;
        } else {
            bare.push(number);
            rest = after;
        }
    }
    match (bare.as_slice(), qualifier.map(|qualifier| qualifier.last)) {
        ([], _) => {}
        ([number], last) => sum.add(*number, last.map_or(SECOND, field_unit)),
        ([days, hours], Some(Field::Hour)) => {
            sum.add(*days, DAY);
            sum.add(*hours, HOUR);
            sum.has_units = true;
        }
        _ => return Err("a number has no unit".into()),
    }
    if is_ago {
        (sum.months, sum.days, sum.ns) = (-sum.months, -sum.days, -sum.ns);
    }
    Ok(())
}

/// `03:04.5` behind the `02:` of a clock; what stands behind it is left.
fn read_clock<'a>(
    first: Number,
    text: &'a str,
    qualifier: Option<Qualifier>,
    sum: &mut Sum,
) -> Result<&'a str, String> {
    let (second, rest) = Number::take(text)?;
    let (third, rest) = match rest.strip_prefix(':').filter(|_| second.is_whole()) {
        Some(rest) => {
            let (third, rest) = Number::take(rest)?;
            (Some(third), rest)
        }
        None => (None, rest),
    };
    let of_minutes =
        qualifier.is_some_and(|qualifier| qualifier.first == Field::Minute && qualifier.last == Field::Second);
    let parts = match third {
        Some(third) => [(first, HOUR), (second, MINUTE), (third, SECOND)].to_vec(),
        None if of_minutes || !second.is_whole() => [(first, MINUTE), (second, SECOND)].to_vec(),
        None => [(first, HOUR), (second, MINUTE)].to_vec(),
    };
    if rest.starts_with(|character: char| !character.is_ascii_whitespace() && character != ',')
        && !rest.starts_with(char::is_alphabetic)
    {
        return Err(format!("`{rest}` stands behind a time of day"));
    }
    if !first.is_whole() || text.starts_with(['-', '+']) {
        return Err("a time of day is written 02:03:04.5".into());
    }
    for (index, (part, unit)) in parts.into_iter().enumerate() {
        if index > 0 && part.whole > 59 {
            return Err(format!("{} is no minute or second of a time of day", part.whole));
        }
        sum.add(Number { negative: first.negative, ..part }, unit);
    }
    Ok(rest)
}

/// The months behind the years of `1-2`.
fn read_months<'a>(years: Number, text: &'a str, sum: &mut Sum) -> Result<&'a str, String> {
    let (months, rest) = Number::take(text)?;
    if months.negative || !months.is_whole() || months.whole > 11 {
        return Err(format!("behind the years of `{}-` stand months from 0 to 11", years.whole));
    }
    sum.add(years, Unit::Months(12));
    sum.add(Number { negative: years.negative, ..months }, Unit::Months(1));
    Ok(rest)
}

/// What stands behind the `P` of ISO 8601: `1Y2M3DT4H5M6S`, `0001-02-03T04:05:06`.
fn read_iso(text: &str, sum: &mut Sum) -> Result<(), String> {
    let (date, time) = match text.split_once(['T', 't']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    sum.has_units = true;
    let is_alternative =
        |text: &str, sign: char| !text.contains(char::is_alphabetic) && text.trim_start_matches('-').contains(sign);
    if is_alternative(date, '-') {
        let mut rest = date;
        for (index, unit) in [Unit::Months(12), Unit::Months(1), DAY].into_iter().enumerate() {
            if index > 0 {
                match rest.strip_prefix('-') {
                    Some(behind) => rest = behind,
                    None => break,
                }
            }
            let (number, behind) = Number::take(rest)?;
            sum.add(number, unit);
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(format!("`{rest}` stands behind a date"));
        }
    } else {
        read_designated(
            date,
            &[('y', Unit::Months(12)), ('m', Unit::Months(1)), ('w', Unit::Days(7)), ('d', DAY)],
            sum,
        )?;
    }
    let Some(time) = time else { return Ok(()) };
    if is_alternative(time, ':') {
        let (first, behind) = Number::take(time)?;
        let rest = match behind.strip_prefix(':') {
            Some(behind) => read_clock(first, behind, None, sum)?,
            None => behind,
        };
        return if rest.is_empty() { Ok(()) } else { Err(format!("`{rest}` stands behind a time of day")) };
    }
    read_designated(time, &[('h', HOUR), ('m', MINUTE), ('s', SECOND)], sum)
}

/// Numbers with a letter behind each, from the longest unit.
fn read_designated(text: &str, units: &[(char, Unit)], sum: &mut Sum) -> Result<(), String> {
    let (mut rest, mut units) = (text, units);
    while !rest.is_empty() {
        let (number, behind) = Number::take(rest)?;
        let letter = behind.chars().next().map(|letter| letter.to_ascii_lowercase());
        let Some(place) = units.iter().position(|(name, _)| Some(*name) == letter) else {
            return Err(format!("`{rest}` has no unit that fits there"));
        };
        sum.add(number, units[place].1);
        units = &units[place + 1..];
        rest = &behind[1..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<(i32, i32, i64), String> {
        parse(text).map(|interval| (interval.months, interval.days, interval.nanoseconds))
    }

    const S: i64 = 1_000_000_000;

    /// PostgreSQL 15's own readings.
    #[test]
    fn texts_are_intervals() {
        for (text, expected) in [
            ("6", (0, 0, 6 * S)),
            ("1.234", (0, 0, 1_234_000_000)),
            ("-.5", (0, 0, -S / 2)),
            ("01:00", (0, 0, 3_600 * S)),
            ("10:20.5", (0, 0, 620 * S + S / 2)),
            ("25:00:00.25", (0, 0, 90_000 * S + S / 4)),
            ("1 day 02:03:04", (0, 1, 7_384 * S)),
            ("1 2:03:04", (0, 1, 7_384 * S)),
            ("1 day -02:03:04", (0, 1, -7_384 * S)),
            ("-1 +02:03:04", (0, -1, 7_384 * S)),
            ("1-2", (14, 0, 0)),
            ("-1-2 3 4:05:06", (-14, 3, 14_706 * S)),
            ("P1Y2M3DT4H5M6S", (14, 3, 14_706 * S)),
            ("P0001-02-03T04:05:06", (14, 3, 14_706 * S)),
            ("P1-2", (14, 0, 0)),
            ("P-1Y2WT-0.5S", (-12, 14, -S / 2)),
            ("-PT5M", (0, 0, -300 * S)),
            ("PT176400S", (0, 0, 176_400 * S)),
            ("@ 1 day ago", (0, -1, 0)),
            ("@ 1 minute 2 secs ago", (0, 0, -62 * S)),
            ("1y2mon3d4h5m6s", (14, 3, 14_706 * S)),
            ("+1 year, 2 mons", (14, 0, 0)),
            ("1.5 years", (18, 0, 0)),
            ("1.04 year", (12, 0, 0)),
            ("1.5 mons", (1, 15, 0)),
            ("0.1 mon 1.5 weeks", (0, 13, 43_200 * S)),
            ("1.5 days", (0, 1, 43_200 * S)),
            ("1 decade 2 centuries 1 millennium", (14_520, 0, 0)),
            ("1.5 ms 2 us 3 ns", (0, 0, 1_502_003)),
            ("14 mons 3 days 4 hours 5 mins 6.500000001 secs", (14, 3, 14_706 * S + 500_000_001)),
        ] {
            assert_eq!(parts(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_interval_says_why() {
        for (text, reason) in [
            ("", "it says no length"),
            ("soon", "`soon` is no unit of time"),
            ("day", "`day` has no number before it"),
            ("1 fortnight", "`fortnight` is no unit of time"),
            ("1 2", "a number has no unit"),
            ("1:70", "70 is no minute or second"),
            ("1-13", "months from 0 to 11"),
            ("1 day ago 2 hours", "behind `ago`"),
            ("P1X", "`1X` has no unit that fits there"),
            ("P1D2Y", "`2Y` has no unit that fits there"),
            ("--P1D", "two signs"),
            ("9999999999 years", "longer than an INTERVAL can be"),
            ("1 day year", "`year` has no number"),
            ("ünix", "`ünix` is no unit"),
            ("1;2", "`;2` is no number"),
        ] {
            let error = parts(text).expect_err(text);
            assert!(error.starts_with(&format!("'{text}' is no INTERVAL: ")) && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn qualifiers_say_what_a_number_is() {
        use Field::{Day, Hour, Minute, Month, Second, Year};
        let of = |text: &str, first, last, precision| {
            let interval = parse_qualified(text, Some(Qualifier { first, last, precision })).expect(text);
            (interval.months, interval.days, interval.nanoseconds)
        };
        assert_eq!(of("1-2", Year, Month, None), (14, 0, 0));
        assert_eq!(of("-1 02:03:04", Day, Second, None), (0, -1, -7_384 * S));
        assert_eq!(of("1 2:03", Hour, Second, None), (0, 1, 7_380 * S));
        assert_eq!(of("2:03", Minute, Second, None), (0, 0, 123 * S));
        assert_eq!(of("2:03", Day, Minute, None), (0, 0, 7_380 * S));
        assert_eq!(of("1 2:03:04", Day, Minute, None), (0, 1, 7_380 * S));
        assert_eq!(of("1 2", Day, Hour, None), (0, 1, 7_200 * S));
        assert_eq!(of("1.236", Second, Second, Some(2)), (0, 0, 1_240_000_000));
        assert_eq!(of("-1.236", Second, Second, Some(2)), (0, 0, -1_240_000_000));
        assert_eq!(of("1.5", Hour, Hour, None), (0, 0, 5_400 * S));
        assert_eq!(of("1 day 02:03:04", Hour, Hour, None), (0, 1, 7_200 * S));
        assert_eq!(of("1 year 5 months", Year, Year, None), (12, 0, 0));
        assert_eq!(of("3", Month, Month, None), (3, 0, 0));
        assert_eq!(of("1 day 2 hours", Day, Day, None), (0, 1, 0));
    }
}
