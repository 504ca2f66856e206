//! Numbers as their decimal digits, rounded half up.
//!
//! `format!("{:.2}", 1.005)` rounds the binary number, which is below it, and halves to even; Java rounds the digits that are shown.

use std::num::NonZeroU64;
use std::str::FromStr;

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, RoundingMode, Zero};

/// A number and its sign, which 0 has as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) is_negative: bool,
    number: BigDecimal,
}

impl Decimal {
    /// Of `-12.5`, `1e-7` and their like.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = BigDecimal::from_str(text).ok()?.abs();
        Some(Self { is_negative: text.starts_with('-'), number })
    }

    /// So many digits, the first of which is not 0 (but for 0 itself), and the exponent of the first one.
    fn digits(&self, count: usize) -> (String, i64) {
        if self.number.is_zero() {
            return ("0".repeat(count), 0);
        }
        let precision = NonZeroU64::new(count as u64).unwrap_or(NonZeroU64::MIN);
        let (digits, scale): (BigInt, i64) =
            self.number.with_precision_round(precision, RoundingMode::HalfUp).into_bigint_and_exponent();
        let digits = digits.to_string();
        let exponent = digits.len() as i64 - 1 - scale;
        (format!("{digits:0<count$.count$}"), exponent)
    }

    /// With so many digits behind the point; without a sign, as all of these.
    pub(super) fn plain(&self, precision: usize, keeps_point: bool) -> String {
        let text = self.number.with_scale_round(precision as i64, RoundingMode::HalfUp).to_plain_string();
        if precision == 0 && keeps_point { text + "." } else { text }
    }

    /// `d.ddde+xx`, with so many digits behind the point.
    pub(super) fn scientific(&self, precision: usize, keeps_point: bool) -> String {
        let (digits, exponent) = self.digits(precision + 1);
        let (first, rest) = digits.split_at(1);
        let point = if precision > 0 || keeps_point { "." } else { "" };
        format!("{first}{point}{rest}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }

    /// So many digits in all: plain from 0.0001 on where they reach to the point, else with an exponent.
    pub(super) fn general(&self, precision: usize) -> String {
        let (_, exponent) = self.digits(precision);
        let behind = precision as i64 - 1 - exponent;
        match exponent >= -4 && behind >= 0 {
            true => self.plain(behind as usize, false),
            false => self.scientific(precision - 1, false),
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
