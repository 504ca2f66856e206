//! PostgreSQL's template patterns of numbers (`FM999,990.00`): table 9.29 of its manual.
//!
//! Digits of the pattern are places of the number, counted from the point; the sign stands before the first digit that is written, wherever that is. `D` and `G` are a point
//! and a comma, and `L` is a blank, as without a locale. Roman numbers, exponents and `V` are refused.

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NumberTemplate {
    parts: Vec<Part>,
    /// Places before the point.
    whole: usize,
    /// Places behind the point.
    behind: usize,
    has_point: bool,
    /// The first place with a `0`: from there zeros are written before the number.
    zeros_from: Option<usize>,
    /// How many places there are up to the last `0`.
    zeros_to: usize,
    fills: bool,
    sign: Sign,
}

/// Where the sign is written, if it has no place of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A minus or a blank before the first digit.
    First,
    /// `S`: plus or minus before the first digit.
    SignedFirst,
    /// `S` behind the digits: plus or minus behind the last one.
    SignedLast,
    /// `PR`.
    Brackets,
    /// `MI`, `SG`: as parts.
    Elsewhere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Digit,
    Zero,
    Point,
    Comma,
    Minus,
    Plus,
    PlusOrMinus,
    Currency,
    Ordinal { upper: bool },
    Text(char),
}

/// A number in decimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digits {
    pub(crate) negative: bool,
    /// Without leading zeros, but for that of 0.
    pub(crate) whole: String,
    /// Rounded to the pattern's places; fewer where no more are known.
    pub(crate) behind: String,
}

impl Digits {
    /// `value / 10^scale`, rounded half away from zero to so many places; none where it has too many digits.
    pub(crate) fn of_decimal(value: i128, scale: i8, places: usize) -> Option<Self> {
        let scale = i32::from(scale);
        let (kept, cut) = (scale.min(places as i32), scale - scale.min(places as i32));
        let mut size = value.unsigned_abs();
        if cut > 0 {
            let unit = 10u128.checked_pow(cut as u32)?;
            size = size / unit + u128::from(size % unit >= unit.div_ceil(2));
        }
        let mut digits = size.to_string();
        // A negative scale counts tens.
        digits.extend(std::iter::repeat_n('0', usize::try_from(-kept).unwrap_or(0)));
        let kept = usize::try_from(kept).unwrap_or(0);
        let digits = format!("{digits:0>width$}", width = kept + 1);
        let (whole, behind) = digits.split_at(digits.len() - kept);
        let whole = whole.trim_start_matches('0');
        Some(Self {
            negative: value < 0 && size != 0,
            whole: if whole.is_empty() { "0".into() } else { whole.into() },
            behind: format!("{behind:0<places$}"),
        })
    }

    /// To the digits that a double has.
    pub(crate) fn of_double(value: f64, places: usize) -> Self {
        const DIGITS_MAX: usize = 15;
        let whole_digits = format!("{:.0}", value.abs()).len();
        let places = places.min(DIGITS_MAX.saturating_sub(whole_digits));
        let text = format!("{:.places$}", value.abs());
        let (whole, behind) = text.split_once('.').unwrap_or((&text, ""));
        Self { negative: value.is_sign_negative() && !value.is_nan(), whole: whole.into(), behind: behind.into() }
    }
}

impl NumberTemplate {
    /// # Errors
    /// Words that do not go together, or that are not supported.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let mut template = Self {
            parts: vec![],
            whole: 0,
            behind: 0,
            has_point: false,
            zeros_from: None,
            zeros_to: 0,
            fills: false,
            sign: Sign::First,
        };
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            if let Some(quoted) = rest.strip_prefix('"') {
                let mut parts = vec![];
                rest = super::quoted_text(quoted, &mut parts);
                template.parts.extend(parts.into_iter().filter_map(|part| match part {
                    super::Part::Text(character) => Some(Part::Text(character)),
                    _ => None,
                }));
                continue;
            }
            let word = ["EEEE", "FM", "MI", "PL", "PR", "RN", "SG", "SP", "TH", "B", "C", "D", "G", "L", "S", "V"]
                .into_iter()
                .find(|word| rest.starts_with(word) || rest.starts_with(&word.to_lowercase()));
            let written = match word {
                Some(word) => word,
                None if matches!(first, '0' | '9' | '.' | ',') => &rest[..1],
                None => {
                    let is_quote = first == '\\' && rest[1..].starts_with('"');
                    template.parts.push(Part::Text(if is_quote { '"' } else { first }));
                    rest = &rest[first.len_utf8() + usize::from(is_quote)..];
                    continue;
                }
            };
            template.push(written, first.is_ascii_uppercase())?;
            rest = &rest[written.len()..];
        }
        Ok(template)
    }

    /// Places behind the point, to which numbers are rounded.
    pub(crate) fn places(&self) -> usize {
        self.behind
    }

    fn push(&mut self, word: &str, upper: bool) -> Result<(), String> {
        let part = match word {
            "9" | "0" => {
                if self.sign == Sign::Brackets {
                    return Err(format!("`{word}` stands before `PR`"));
                }
                if word == "0" && !self.has_point {
                    self.zeros_from.get_or_insert(self.whole);
                }
                if self.has_point {
                    self.behind += 1
                } else {
                    self.whole += 1
                }
                if word == "0" {
                    self.zeros_to = self.whole + self.behind;
                }
                // An `S` that digits follow stands before them.
                if self.sign == Sign::SignedLast && !self.has_point {
                    self.sign = Sign::SignedFirst;
                }
                if word == "0" { Part::Zero } else { Part::Digit }
            }
            "." | "D" => {
                if std::mem::replace(&mut self.has_point, true) {
                    return Err("it has two points".into());
                }
                Part::Point
            }
            "," | "G" => Part::Comma,
            "FM" => {
                self.fills = true;
                return Ok(());
            }
            // Without an effect in PostgreSQL too.
            "B" | "C" | "SP" => return Ok(()),
            "L" => Part::Currency,
            "TH" => Part::Ordinal { upper },
            "S" | "MI" | "PL" | "SG" | "PR" => return self.push_sign(word),
            other => return Err(format!("`{other}` is not supported in patterns of numbers")),
        };
        self.parts.push(part);
        Ok(())
    }

    fn push_sign(&mut self, word: &str) -> Result<(), String> {
        let is_plain = self.sign == Sign::First && !self.parts.contains(&Part::Plus);
        let together = || {
            Err("`S`, `PR` and `MI`, `PL`, `SG` do not go together, nor does one of the first two with itself".into())
        };
        match word {
            "S" if is_plain => self.sign = Sign::SignedLast,
            "PR" if is_plain => self.sign = Sign::Brackets,
            "PL" if matches!(self.sign, Sign::First | Sign::Elsewhere) => self.parts.push(Part::Plus),
            "MI" | "SG" if matches!(self.sign, Sign::First | Sign::Elsewhere) => {
                self.sign = Sign::Elsewhere;
                self.parts.push(if word == "MI" { Part::Minus } else { Part::PlusOrMinus });
            }
            _ => return together(),
        }
        Ok(())
    }

    /// Writes a number behind what `out` holds; signs of hash where it has more digits than the pattern.
    pub(crate) fn write(&self, number: &Digits, out: &mut String) {
        let blank = if self.fills { "" } else { " " };
        let fits = number.whole.len() <= self.whole;
        // `0.5` is `.5` where no zero is asked for.
        let hides_zero = fits && number.whole == "0" && self.zeros_from.is_none() && self.behind > 0;
        let kept = self.kept_behind(number);
        let mut is_signed = self.sign == Sign::Elsewhere;
        let mut has_digit = false;
        let last_place = self.parts.iter().rposition(|part| matches!(part, Part::Digit | Part::Zero | Part::Point));
        let (mut place, mut place_behind, mut is_behind) = (0usize, 0usize, false);
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Digit | Part::Zero if is_behind => {
                    let digit = number.behind.chars().nth(place_behind);
                    match digit {
                        _ if !fits => {
                            self.first(number, &mut is_signed, out);
                            out.push('#');
                        }
                        Some(digit) if place_behind < kept || *part == Part::Zero => {
                            self.first(number, &mut is_signed, out);
                            out.push(digit);
                        }
                        _ => {}
                    }
                    has_digit = true;
                    place_behind += 1;
                }
                Part::Digit | Part::Zero => {
                    let before = self.whole.saturating_sub(number.whole.len());
                    let digit = match place.checked_sub(before) {
                        _ if !fits => Some('#'),
                        Some(0) if hides_zero => (self.fills && kept == 0).then_some('0'),
                        Some(index) => number.whole.chars().nth(index),
                        None => self.zeros_from.filter(|from| *from <= place).map(|_| '0'),
                    };
                    match digit {
                        Some(digit) => {
                            self.first(number, &mut is_signed, out);
                            out.push(digit);
                            has_digit = true;
                        }
                        None => out.push_str(blank),
                    }
                    place += 1;
                }
                Part::Point => {
                    is_behind = true;
                    self.first(number, &mut is_signed, out);
                    if self.behind > 0 || !fits {
                        out.push('.');
                    }
                }
                Part::Comma if has_digit => out.push(','),
                Part::Comma => out.push_str(blank),
                Part::Minus => out.push_str(if number.negative { "-" } else { blank }),
                Part::Plus => out.push_str(if number.negative { blank } else { "+" }),
                Part::PlusOrMinus => out.push(if number.negative { '-' } else { '+' }),
                Part::Currency => out.push(' '),
                Part::Ordinal { upper } => {
                    if fits && !number.negative && !self.has_point {
                        let ending = super::write::ordinal(&number.whole);
                        out.push_str(&if *upper { ending.to_ascii_uppercase() } else { ending.to_string() });
                    }
                }
                Part::Text(character) => out.push(*character),
            }
            if Some(index) == last_place {
                match self.sign {
                    Sign::Brackets if number.negative => out.push('>'),
                    Sign::Brackets => out.push_str(blank),
                    Sign::SignedLast => out.push(if number.negative { '-' } else { '+' }),
                    _ => {}
                }
            }
        }
    }

    /// What stands before the first digit.
    fn first(&self, number: &Digits, is_signed: &mut bool, out: &mut String) {
        if std::mem::replace(is_signed, true) {
            return;
        }
        match (self.sign, number.negative) {
            (Sign::First, true) => out.push('-'),
            (Sign::First | Sign::Brackets, false) => out.push_str(if self.fills { "" } else { " " }),
            (Sign::SignedFirst, negative) => out.push(if negative { '-' } else { '+' }),
            (Sign::Brackets, true) => out.push('<'),
            (Sign::SignedLast | Sign::Elsewhere, _) => {}
        }
    }

    /// How many digits behind the point are written: with `FM` up to the last that is no zero, or that a `0` asks for.
    fn kept_behind(&self, number: &Digits) -> usize {
        if !self.fills {
            return number.behind.len();
        }
        let last = number.behind.trim_end_matches('0').len();
        last.max(self.zeros_to.saturating_sub(self.whole).min(number.behind.len()))
    }
}
