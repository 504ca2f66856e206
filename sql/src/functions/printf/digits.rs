//! Numbers as their decimal digits, rounded half up.
//!
//! `format!("{:.2}", 1.005)` rounds the binary number, which is below it, and halves to even; Java rounds the digits that are shown.

/// `0.d1 d2 d3 .. * 10^point`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) is_negative: bool,
    /// From 0 to 9; the first is 0 only where all are.
    digits: Vec<u8>,
    point: i32,
}

impl Decimal {
    /// Of `-12.5`, `1e-7` and their like.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (is_negative, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = whole.bytes().chain(part.bytes()).map(|byte| byte.is_ascii_digit().then(|| byte - b'0'));
        let digits = digits.collect::<Option<Vec<u8>>>()?;
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        let point = i32::try_from(whole.len()).ok()? + exponent - i32::try_from(zeros).ok()?;
        match zeros == digits.len() {
            true => Some(Self { is_negative, digits: vec![], point: 1 }),
            false => Some(Self { is_negative, digits: digits[zeros..].to_vec(), point }),
        }
    }

    /// With so many digits, of which there may be none.
    fn rounded(&self, count: i32) -> Self {
        let Ok(count) = usize::try_from(count) else {
            return Self { is_negative: self.is_negative, digits: vec![], point: 1 };
        };
        let mut kept = self.clone();
        let is_up = self.digits.get(count).is_some_and(|digit| *digit >= 5);
        kept.digits.truncate(count);
        if is_up {
            match kept.digits.iter().rposition(|digit| *digit < 9) {
                Some(place) => {
                    kept.digits[place] += 1;
                    kept.digits[place + 1..].fill(0);
                }
                // 0.99 is 1.0.
                None => {
                    kept.digits.fill(0);
                    kept.digits.insert(0, 1);
                    kept.point += 1;
                }
            }
        }
        kept
    }

    /// The digit at a place, from the first one; zeros around them.
    fn at(&self, place: i32) -> char {
        let digit = usize::try_from(place).ok().and_then(|place| self.digits.get(place));
        char::from(b'0' + digit.copied().unwrap_or(0))
    }

    /// With so many digits behind the point; without a sign, as all of these.
    pub(super) fn plain(&self, precision: usize, keeps_point: bool) -> String {
        let rounded = self.rounded(self.point.saturating_add(precision as i32));
        let mut text: String = match rounded.point > 0 {
            true => (0..rounded.point).map(|place| rounded.at(place)).collect(),
            false => "0".into(),
        };
        if precision > 0 || keeps_point {
            text.push('.');
        }
        text.extend((0..precision as i32).map(|place| rounded.at(rounded.point + place)));
        text
    }

    /// `d.ddde+xx`, with so many digits behind the point.
    pub(super) fn scientific(&self, precision: usize, keeps_point: bool) -> String {
        let rounded = self.rounded(precision as i32 + 1);
        let mut text = String::from(rounded.at(0));
        if precision > 0 || keeps_point {
            text.push('.');
        }
        text.extend((1..=precision as i32).map(|place| rounded.at(place)));
        let exponent = rounded.point - 1;
        text + &format!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }

    /// So many digits in all: plain from 0.0001 on where they reach to the point, else with an exponent.
    pub(super) fn general(&self, precision: usize) -> String {
        let rounded = self.rounded(precision as i32);
        match rounded.digits.is_empty() || (-3..=precision as i32).contains(&rounded.point) {
            true => rounded.plain((precision as i32 - rounded.point).max(0) as usize, false),
            false => rounded.scientific(precision - 1, false),
        }
    }
}

/// Commas between the thousands before the point.
pub(super) fn grouped(digits: &str) -> String {
    let whole = digits.find('.').unwrap_or(digits.len());
    let mut text = String::with_capacity(digits.len() + whole / 3);
    for (place, letter) in digits.char_indices() {
        if place > 0 && place < whole && (whole - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(letter);
    }
    text
}
