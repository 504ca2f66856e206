//! PostgreSQL's template patterns of times (`YYYY-MM-DD HH24:MI:SS.US`), and of numbers ([`number`]): chapter 9.8 of its manual.
//!
//! No crate has them, and they are no other notation of Java's or strftime's: a text is read leniently (spaces, signs and letters of a pattern stand for any
//! character), fields may contradict each other, and `FM`, `TH` and `FX` change what stands around them. A pattern is compiled once to parts that both write
//! ([`write`]) and read ([`read`]). Words stand as PostgreSQL has them: the longest one that fits, in capitals or in small letters. What is no word is text, so that
//! every pattern means something.

mod number;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use number::{Digits, NumberTemplate};
pub(crate) use read::Reading;
pub(crate) use write::Moment;

use super::date_pattern::MONTHS;

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Field(Field),
    /// A letter, a digit, or anything in double quotes.
    Text(char),
    /// Any other sign, or a space.
    Separator(char),
}

/// A word of the pattern with what stands around it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    word: Word,
    /// As written, for errors.
    name: &'static str,
    /// `FM`: no padding.
    fills: bool,
    /// `TH`, and whether in capitals.
    ordinal: Option<bool>,
}

/// How the letters of a name are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Upper,
    Title,
    Lower,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// `AM`, `p.m.`.
    Meridiem {
        dots: bool,
        upper: bool,
    },
    /// `AD`, `b.c.`.
    Era {
        dots: bool,
        upper: bool,
    },
    MonthName(Case),
    ShortMonthName(Case),
    DayName(Case),
    ShortDayName(Case),
    RomanMonth {
        upper: bool,
    },
    Century,
    /// So many of the year's last digits.
    Year(usize),
    /// `Y,YYY`.
    YearWithComma,
    IsoYear(usize),
    Quarter,
    Month,
    Week,
    IsoWeek,
    WeekOfMonth,
    DayOfYear,
    IsoDayOfYear,
    Day,
    DayOfWeek,
    IsoDayOfWeek,
    Julian,
    Hour12,
    Hour24,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    /// `FF1` to `FF6`: so many digits of the fraction.
    Fraction(usize),
    SecondOfDay,
    Zone {
        upper: bool,
    },
    ZoneHour,
    ZoneMinute,
    /// `OF`.
    ZoneOffset,
    /// `FX`: from here on, texts are read letter by letter.
    Exact,
}

const fn meridiem(dots: bool, upper: bool) -> Word {
    Word::Meridiem { dots, upper }
}

const fn era(dots: bool, upper: bool) -> Word {
    Word::Era { dots, upper }
}

/// All words; of two that fit the longer one counts.
const WORDS: &[(&str, Word)] = &[
    ("A.M.", meridiem(true, true)),
    ("P.M.", meridiem(true, true)),
    ("a.m.", meridiem(true, false)),
    ("p.m.", meridiem(true, false)),
    ("AM", meridiem(false, true)),
    ("PM", meridiem(false, true)),
    ("am", meridiem(false, false)),
    ("pm", meridiem(false, false)),
    ("A.D.", era(true, true)),
    ("B.C.", era(true, true)),
    ("a.d.", era(true, false)),
    ("b.c.", era(true, false)),
    ("AD", era(false, true)),
    ("BC", era(false, true)),
    ("ad", era(false, false)),
    ("bc", era(false, false)),
    ("MONTH", Word::MonthName(Case::Upper)),
    ("Month", Word::MonthName(Case::Title)),
    ("month", Word::MonthName(Case::Lower)),
    ("MON", Word::ShortMonthName(Case::Upper)),
    ("Mon", Word::ShortMonthName(Case::Title)),
    ("mon", Word::ShortMonthName(Case::Lower)),
    ("DAY", Word::DayName(Case::Upper)),
    ("Day", Word::DayName(Case::Title)),
    ("day", Word::DayName(Case::Lower)),
    ("DY", Word::ShortDayName(Case::Upper)),
    ("Dy", Word::ShortDayName(Case::Title)),
    ("dy", Word::ShortDayName(Case::Lower)),
    ("RM", Word::RomanMonth { upper: true }),
    ("rm", Word::RomanMonth { upper: false }),
    ("TZ", Word::Zone { upper: true }),
    ("tz", Word::Zone { upper: false }),
];

/// Words that mean the same in capitals and in small letters.
const WORDS_OF_ANY_CASE: &[(&str, Word)] = &[
    ("CC", Word::Century),
    ("Y,YYY", Word::YearWithComma),
    ("YYYY", Word::Year(4)),
    ("YYY", Word::Year(3)),
    ("YY", Word::Year(2)),
    ("Y", Word::Year(1)),
    ("IYYY", Word::IsoYear(4)),
    ("IYY", Word::IsoYear(3)),
    ("IY", Word::IsoYear(2)),
    ("I", Word::IsoYear(1)),
    ("Q", Word::Quarter),
    ("MM", Word::Month),
    ("WW", Word::Week),
    ("IW", Word::IsoWeek),
    ("W", Word::WeekOfMonth),
    ("DDD", Word::DayOfYear),
    ("IDDD", Word::IsoDayOfYear),
    ("DD", Word::Day),
    ("D", Word::DayOfWeek),
    ("ID", Word::IsoDayOfWeek),
    ("J", Word::Julian),
    ("HH24", Word::Hour24),
    ("HH12", Word::Hour12),
    ("HH", Word::Hour12),
    ("MI", Word::Minute),
    ("SSSSS", Word::SecondOfDay),
    ("SSSS", Word::SecondOfDay),
    ("SS", Word::Second),
    ("MS", Word::Millisecond),
    ("US", Word::Microsecond),
    ("FF1", Word::Fraction(1)),
    ("FF2", Word::Fraction(2)),
    ("FF3", Word::Fraction(3)),
    ("FF4", Word::Fraction(4)),
    ("FF5", Word::Fraction(5)),
    ("FF6", Word::Fraction(6)),
    ("TZH", Word::ZoneHour),
    ("TZM", Word::ZoneMinute),
    ("OF", Word::ZoneOffset),
    ("FX", Word::Exact),
];

/// From Sunday.
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// The day of 1970-01-01, counted from the first one of the Julian calendar.
const JULIAN_OF_1970: i64 = 2_440_588;

/// The longest word at the beginning of `rest`.
fn word_at(rest: &str) -> Option<(&'static str, Word)> {
    let is_here = |name: &str| rest.starts_with(name);
    let is_small = |name: &str| {
        let start = rest.as_bytes().get(..name.len());
        start.is_some_and(|start| {
            start.eq_ignore_ascii_case(name.as_bytes()) && !start.iter().any(u8::is_ascii_uppercase)
        })
    };
    let same = WORDS.iter().filter(|(name, _)| is_here(name));
    let any_case = WORDS_OF_ANY_CASE.iter().filter(|(name, _)| is_here(name) || is_small(name));
    same.chain(any_case).copied().max_by_key(|(name, _)| name.len())
}

/// A modifier before or behind a word: `FM`, `TH`.
fn modifier(rest: &str, names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| rest.starts_with(name))
}

fn is_separator(character: char) -> bool {
    character.is_ascii_graphic() && !character.is_ascii_alphanumeric()
}

/// As C's `isspace`.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

impl Template {
    pub(crate) fn new(pattern: &str) -> Self {
        let mut parts = vec![];
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let before = modifier(rest, &["FM", "fm", "TM", "tm"]);
            rest = &rest[before.map_or(0, str::len)..];
            if let Some((name, word)) = word_at(rest) {
                rest = &rest[name.len()..];
                let behind = modifier(rest, &["TH", "th", "SP"]);
                rest = &rest[behind.map_or(0, str::len)..];
                // `TM` asks for the names of the language, which are not padded.
                let is_long_name = matches!(word, Word::MonthName(_) | Word::DayName(_));
                let fills = matches!(before, Some("FM" | "fm")) || before.is_some() && is_long_name;
                let ordinal = behind.filter(|name| *name != "SP").map(|name| name == "TH");
                parts.push(Part::Field(Field { word, name, fills, ordinal }));
                continue;
            }
            if before.is_some() {
                continue;
            }
            if let Some(quoted) = rest.strip_prefix('"') {
                rest = quoted_text(quoted, &mut parts);
                continue;
            }
            // A quote behind a backslash is a quote.
            let is_quote = first == '\\' && rest[1..].starts_with('"');
            let character = if is_quote { '"' } else { first };
            rest = &rest[first.len_utf8() + usize::from(is_quote)..];
            let separates = is_separator(character) || is_space(character);
            parts.push(if separates { Part::Separator(character) } else { Part::Text(character) });
        }
        Self { parts }
    }

    /// Whether a pattern that texts are read by is one of these, and not Java's (`yyyy-MM-dd`): it has a capital `Y`, `HH12` or `HH24`, or a word
    /// with a letter that Java's have not. What stands in quotes does not count.
    pub(crate) fn is_meant(pattern: &str) -> bool {
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            if matches!(first, '\'' | '"') {
                match rest[1..].split_once(first) {
                    Some((_, after)) => rest = after,
                    None => return false,
                }
                continue;
            }
            let before = modifier(rest, &["FM", "fm", "TM", "tm"]).map_or(0, str::len);
            match word_at(&rest[before..]) {
                Some((name, word)) => {
                    let (written, after) = rest.split_at(before + name.len());
                    let is_java =
                        |letter: char| !letter.is_ascii_alphabetic() || super::date_pattern::LETTERS.contains(letter);
                    if written.contains('Y')
                        || name.starts_with("HH") && name.len() == 4
                        || !written.chars().all(is_java)
                    {
                        return word != Word::Exact || Self::is_meant(after);
                    }
                    rest = after;
                }
                None => rest = &rest[first.len_utf8()..],
            }
        }
        false
    }
}

/// Adds what stands up to the next double quote, and gives what comes behind it.
fn quoted_text<'a>(quoted: &'a str, parts: &mut Vec<Part>) -> &'a str {
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return &quoted[at + 1..],
            '\\' => parts.push(Part::Text(characters.next().map_or('\\', |(_, escaped)| escaped))),
            other => parts.push(Part::Text(other)),
        }
    }
    ""
}
