//! `PRINTF('%d of %s', n, name)`: texts by a pattern, as Java's `Formatter` writes them, which Flink's function uses.
//!
//! Conversions are `d`, `x`, `o`, `f`, `e`, `g`, `s`, `c`, `b`, `n` and `%`, the upper ones too, with index (`%2$s`), flags, width and precision; dates
//! have `DATE_FORMAT`. Numbers are rounded half up, and a double by the digits that it is shown with. A null is `null`. Where the pattern is
//! none, or does not fit its values, there is no text: NULL.

mod digits;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;

use self::digits::{Decimal, grouped};
use super::definition::{Call, Definition, Param};

/// `__printf(pattern, row of values)`.
pub(crate) const PRINTF: &str = "__printf";

pub(crate) fn definitions() -> Vec<Definition> {
    vec![Definition {
        name: PRINTF,
        params: &[Param::Text, Param::Any],
        optional: 1,
        returns: |_| DataType::Utf8View,
        invoke: printf,
    }]
}

/// A value to be written.
#[derive(Debug, Clone, PartialEq)]
enum Argument {
    Null,
    Whole(i64),
    /// The digits of a number with a point, plain or with an exponent; of a DOUBLE those that it is shown with.
    Digits(String),
    /// One that has no digits: infinite, or none.
    Special(f64),
    Truth(bool),
    Text(String),
}

/// The values of one column.
fn arguments(array: &ArrayRef) -> Result<Vec<Argument>> {
    const FORMAT: FormatOptions<'static> =
        FormatOptions::new().with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f")).with_timestamp_tz_format(Some("%+"));
    let data_type = array.data_type();
    let shown = |to: fn(String) -> Argument| -> Result<Vec<Argument>> {
        let formatter = ArrayFormatter::try_new(array.as_ref(), &FORMAT)?;
        let rows = (0..array.len()).map(|row| match array.is_valid(row) {
            true => to(formatter.value(row).to_string()),
            false => Argument::Null,
        });
        Ok(rows.collect())
    };
    match data_type {
        DataType::Null => Ok(vec![Argument::Null; array.len()]),
        DataType::Boolean => {
            Ok(array.as_boolean().iter().map(|truth| truth.map_or(Argument::Null, Argument::Truth)).collect())
        }
        DataType::UInt64 | DataType::Decimal128(..) | DataType::Decimal256(..) => shown(Argument::Digits),
        _ if data_type.is_integer() => {
            let numbers = cast(array, &DataType::Int64)?;
            let numbers = numbers.as_primitive::<Int64Type>().iter();
            Ok(numbers.map(|number| number.map_or(Argument::Null, Argument::Whole)).collect())
        }
        DataType::Float32 => shown(|digits| match digits.parse::<f64>() {
            Ok(number) if !number.is_finite() => Argument::Special(number),
            _ => Argument::Digits(digits),
        }),
        DataType::Float64 => {
            let numbers = array.as_primitive::<Float64Type>().iter();
            let numbers = numbers.map(|number| match number {
                None => Argument::Null,
                Some(number) if number.is_finite() => Argument::Digits(format!("{number:?}")),
                Some(number) => Argument::Special(number),
            });
            Ok(numbers.collect())
        }
        _ => shown(Argument::Text),
    }
}

fn printf(call: &Call) -> Result<ArrayRef> {
    let patterns = call.text(0)?;
    let columns = call.values(1, "PRINTF")?;
    let columns = columns.iter().map(arguments).collect::<Result<Vec<_>>>()?;
    let rows = patterns.iter().enumerate().map(|(row, pattern)| {
        let values: Vec<&Argument> = columns.iter().map(|column| &column[row]).collect();
        formatted(pattern?, &values)
    });
    Ok(Arc::new(rows.collect::<StringViewArray>()))
}

#[derive(Debug, Default, Clone, Copy)]
struct Flags {
    left: bool,
    plus: bool,
    space: bool,
    zeros: bool,
    groups: bool,
    parentheses: bool,
    alternate: bool,
}

/// One conversion: `%[index$][flags][width][.precision]letter`.
#[derive(Debug, Clone, Copy)]
struct Conversion {
    /// From 1.
    index: Option<usize>,
    /// `%<s`: the value before.
    again: bool,
    flags: Flags,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

/// Widths and precisions are no longer than that: a pattern that comes with the data must not fill the memory.
const WIDTH_MAX: usize = 10_000;

impl Conversion {
    /// What stands behind a `%`, and what is left of the text.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let number = |text: &str| {
            let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
            let number = if end == 0 { None } else { Some(text[..end].parse::<usize>().ok()?) };
            Some((number.filter(|number| *number <= WIDTH_MAX).or(number.map(|_| usize::MAX)), end))
        };
        let mut rest = text;
        let mut index = None;
        let (first, end) = number(rest)?;
        if let (Some(first), Some(after)) = (first, rest[end..].strip_prefix('$')) {
            (index, rest) = (Some(first), after);
        }
        let again = rest.strip_prefix('<').inspect(|after| rest = after).is_some();
        let mut flags = Flags::default();
        while let Some(letter) = rest.chars().next() {
            let flag = match letter {
                '-' => &mut flags.left,
                '+' => &mut flags.plus,
                ' ' => &mut flags.space,
                '0' => &mut flags.zeros,
                ',' => &mut flags.groups,
                '(' => &mut flags.parentheses,
                '#' => &mut flags.alternate,
                _ => break,
            };
            // Each once.
            (!std::mem::replace(flag, true)).then_some(())?;
            rest = &rest[1..];
        }
        let (width, end) = number(rest)?;
        rest = &rest[end..];
        let mut precision = None;
        if let Some(after) = rest.strip_prefix('.') {
            let (digits, end) = number(after)?;
            precision = Some(digits?);
            rest = &after[end..];
        }
        let letter = rest.chars().next()?;
        rest = &rest[letter.len_utf8()..];
        let too_long = width == Some(usize::MAX) || precision == Some(usize::MAX);
        let contradicts = flags.left && flags.zeros || flags.plus && flags.space;
        let lacks_width = (flags.left || flags.zeros) && width.is_none();
        if too_long || contradicts || lacks_width {
            return None;
        }
        Some((Self { index, again, flags, width: width.unwrap_or(0), precision, letter }, rest))
    }

    fn padded(&self, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        match self.flags.left {
            true => text + &" ".repeat(missing),
            false => " ".repeat(missing) + &text,
        }
    }

    /// Sign, groups and zeros around the digits of a number, which may have a point and an exponent.
    fn signed(&self, is_negative: bool, digits: &str) -> String {
        let (before, behind) = match is_negative {
            true if self.flags.parentheses => ("(", ")"),
            true => ("-", ""),
            false if self.flags.plus => ("+", ""),
            false if self.flags.space => (" ", ""),
            false => ("", ""),
        };
        let digits = if self.flags.groups { grouped(digits) } else { digits.to_string() };
        let zeros = match self.flags.zeros {
            true => self.width.saturating_sub(before.len() + digits.len() + behind.len()),
            false => 0,
        };
        format!("{before}{}{digits}{behind}", "0".repeat(zeros))
    }

    fn write(&self, value: &Argument) -> Option<String> {
        let lower = self.letter.to_ascii_lowercase();
        // These have no upper form.
        let is_upper = self.letter.is_ascii_uppercase();
        if is_upper && matches!(lower, 'd' | 'o' | 'f' | 'n') {
            return None;
        }
        let flags = &self.flags;
        let is_number = matches!(lower, 'd' | 'o' | 'x' | 'f' | 'e' | 'g');
        let has_sign = flags.plus || flags.space || flags.zeros || flags.groups || flags.parentheses;
        if !is_number && (has_sign || flags.alternate) {
            return None;
        }
        let text = match (lower, value) {
            ('b', value) => {
                let truth = match value {
                    Argument::Null => "false".to_string(),
                    Argument::Truth(truth) => truth.to_string(),
                    _ => "true".to_string(),
                };
                self.cut(truth)
            }
            ('s', value) => self.cut(match value {
                Argument::Null => "null".into(),
                Argument::Whole(number) => number.to_string(),
                Argument::Digits(text) | Argument::Text(text) => text.clone(),
                Argument::Special(number) => special(*number).into(),
                Argument::Truth(truth) => truth.to_string(),
            }),
            ('d' | 'o' | 'x' | 'c', _) if self.precision.is_some() => return None,
            ('d' | 'o' | 'x' | 'c', Argument::Null) => "null".into(),
            ('f' | 'e' | 'g', Argument::Null) => self.cut("null".into()),
            ('c', Argument::Whole(code)) => char::from_u32(u32::try_from(*code).ok()?)?.to_string(),
            ('c', Argument::Text(text)) => {
                let mut letters = text.chars();
                let letter = letters.next()?;
                letters.next().is_none().then(|| letter.to_string())?
            }
            ('d', Argument::Whole(number)) if !flags.alternate => {
                self.signed(*number < 0, &number.unsigned_abs().to_string())
            }
            ('x' | 'o', Argument::Whole(number))
                if !(flags.plus || flags.space || flags.groups || flags.parentheses) =>
            {
                let (prefix, digits) = match lower {
                    'x' => ("0x", format!("{number:x}")),
                    _ => ("0", format!("{number:o}")),
                };
                let prefix = if flags.alternate { prefix } else { "" };
                let zeros = if flags.zeros { self.width.saturating_sub(prefix.len() + digits.len()) } else { 0 };
                format!("{prefix}{}{digits}", "0".repeat(zeros))
            }
            ('f' | 'e' | 'g', Argument::Special(number)) => {
                let unsigned = special(number.abs());
                match number.is_nan() {
                    true => unsigned.into(),
                    false => {
                        let plain = Self { flags: Flags { zeros: false, groups: false, ..self.flags }, ..*self };
                        plain.signed(*number < 0.0, unsigned)
                    }
                }
            }
            ('f' | 'e' | 'g', Argument::Digits(digits)) => {
                let number = Decimal::parse(digits)?;
                let precision = self.precision.unwrap_or(6);
                let text = match lower {
                    'f' => number.plain(precision, flags.alternate),
                    'e' if flags.groups => return None,
                    'e' => number.scientific(precision, flags.alternate),
                    _ if flags.alternate => return None,
                    _ => number.general(precision.max(1)),
                };
                self.signed(number.is_negative, &text)
            }
            _ => return None,
        };
        let text = self.padded(text);
        Some(if is_upper { text.to_uppercase() } else { text })
    }

    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text,
        }
    }
}

/// As Java shows it.
fn special(number: f64) -> &'static str {
    match number {
        _ if number.is_nan() => "NaN",
        _ if number < 0.0 => "-Infinity",
        _ => "Infinity",
    }
}

/// The text; none where the pattern is none, or does not fit the values.
fn formatted(pattern: &str, values: &[&Argument]) -> Option<String> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    // The next value without an index, and the last one that was written.
    let (mut next, mut last) = (0, None);
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let (conversion, behind) = Conversion::parse(behind)?;
        rest = behind;
        match conversion.letter {
            '%' if conversion.precision.is_none() => out.push_str(&conversion.padded("%".into())),
            'n' if conversion.width == 0 && conversion.precision.is_none() => out.push('\n'),
            _ => {
                let place = match (conversion.index, conversion.again) {
                    (Some(_), true) | (Some(0), _) => return None,
                    (Some(index), false) => index - 1,
                    (None, true) => last?,
                    (None, false) => {
                        next += 1;
                        next - 1
                    }
                };
                last = Some(place);
                out.push_str(&conversion.write(values.get(place)?)?);
            }
        }
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of Java's `String.format`.
    #[test]
    fn patterns() {
        let digits = |text: &str| Argument::Digits(text.into());
        let text = |text: &str| Argument::Text(text.into());
        for (pattern, values, expected) in [
            ("plain", vec![], Some("plain")),
            ("%d of %s", vec![Argument::Whole(3), text("x")], Some("3 of x")),
            ("%2$s %1$s %<s", vec![text("a"), text("b")], Some("b a a")),
            (
                "[%5d|%-5d|%05d|%+d|%,d|%(d]",
                vec![-42, 42, -42, 42, 1_234_567, -7].into_iter().map(Argument::Whole).collect(),
                Some("[  -42|42   |-0042|+42|1,234,567|(7)]"),
            ),
            ("%x %X %#x %o", vec![255, 255, 255, 8].into_iter().map(Argument::Whole).collect(), Some("ff FF 0xff 10")),
            ("%x", vec![Argument::Whole(-1)], Some("ffffffffffffffff")),
            ("%.2f %.0f %f", vec![digits("3.14159"), digits("2.5"), digits("1.0")], Some("3.14 3 1.000000")),
            // Half up, by the digits that are shown.
            ("%.2f %.2f %.1f", vec![digits("1.005"), digits("0.125"), digits("-0.05")], Some("1.01 0.13 -0.1")),
            ("%,.2f %08.2f", vec![digits("1234567.891"), digits("-3.14159")], Some("1,234,567.89 -0003.14")),
            ("%.2f", vec![digits("1e20")], Some("100000000000000000000.00")),
            ("%e %.1E", vec![digits("12345.678"), digits("0.00099")], Some("1.234568e+04 9.9E-04")),
            (
                "%g %g %.3g",
                vec![digits("12345.678"), digits("0.00001"), digits("0.0")],
                Some("12345.7 1.00000e-05 0.00"),
            ),
            (
                "%s %S %.2s|%5s|%-5s|",
                vec![text("ab"), text("ab"), text("abc"), text("a"), text("b")],
                Some("ab AB ab|    a|b    |"),
            ),
            ("%s %d %f %b", vec![Argument::Null; 4], Some("null null null false")),
            (
                "%b %B %c %C",
                vec![Argument::Truth(true), text("x"), Argument::Whole(97), text("z")],
                Some("true TRUE a Z"),
            ),
            ("100%% %n", vec![], Some("100% \n")),
            (
                "%f %5.1f",
                vec![Argument::Special(f64::NAN), Argument::Special(f64::NEG_INFINITY)],
                Some("NaN -Infinity"),
            ),
            // What Java refuses.
            ("%d", vec![text("a")], None),
            ("%d", vec![digits("1.5")], None),
            ("%f", vec![Argument::Whole(1)], None),
            ("%s", vec![], None),
            ("%", vec![], None),
            ("%y", vec![text("a")], None),
            ("%-d", vec![Argument::Whole(1)], None),
            ("%.1d", vec![Argument::Whole(1)], None),
            ("%999999999d", vec![Argument::Whole(1)], None),
        ] {
            let values: Vec<&Argument> = values.iter().collect();
            assert_eq!(formatted(pattern, &values).as_deref(), expected, "{pattern}");
        }
    }
}
