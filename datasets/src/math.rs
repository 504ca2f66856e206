//! The few curves that the generators need, in arithmetic that rounds the same on every machine.
//!
//! The platform's `exp` and `sin` differ in the last bit between C libraries, and one bit in one price would make two runs of a
//! "deterministic" benchmark disagree. Addition, multiplication and division are exactly specified, so these use nothing else.

/// e^x for |x| up to a few dozen, to about 1e-14 relative.
#[inline]
pub(crate) const fn exp(x: f64) -> f64 {
    // A series on an argument made small by halving, then squared back up.
    const HALVINGS: u32 = 6;
    const DEGREE: usize = 14;
    const RECIPROCALS: [f64; DEGREE + 1] = {
        let mut reciprocals = [0.0; DEGREE + 1];
        let mut degree = 1;
        while degree <= DEGREE {
            reciprocals[degree] = 1.0 / degree as f64;
            degree += 1;
        }
        reciprocals
    };
    let small = x * (1.0 / (1u64 << HALVINGS) as f64);
    let mut power = 1.0;
    let mut degree = DEGREE;
    while degree > 0 {
        power = 1.0 + power * small * RECIPROCALS[degree];
        degree -= 1;
    }
    let mut squarings = 0;
    while squarings < HALVINGS {
        power *= power;
        squarings += 1;
    }
    power
}

/// The natural logarithm of a positive, normal `x`, to about 1e-15.
#[inline]
pub(crate) fn ln(x: f64) -> f64 {
    // x = mantissa * 2^exponent with the mantissa near 1, where the series of the inverse hyperbolic tangent is good.
    const TERMS: u32 = 12;
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i32 - 1_023;
    let mut mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let mut sum = 0.0;
    for term in (0..TERMS).rev() {
        sum = sum * square + 1.0 / f64::from(2 * term + 1);
    }
    2.0 * ratio * sum + f64::from(exponent) * std::f64::consts::LN_2
}

/// The sine of a whole turn: `turn` 0.25 gives 1. Any number of turns, to about 1e-6, which is far below any sensor's noise.
#[inline]
pub(crate) fn sine_of_turn(turn: f64) -> f64 {
    // Fold to [-0.25, 0.25] turns, where the odd Taylor polynomial is good.
    let rest = turn - (turn as i64) as f64; // faster than `floor` on a baseline CPU
    let turn = if rest < 0.0 { rest + 1.0 } else { rest };
    let folded = if turn < 0.25 {
        turn
    } else if turn < 0.75 {
        0.5 - turn
    } else {
        turn - 1.0
    };
    let angle = folded * std::f64::consts::TAU;
    let square = angle * angle;
    angle
        * (1.0
            + square * (-1.0 / 6.0 + square * (1.0 / 120.0 + square * (-1.0 / 5_040.0 + square * (1.0 / 362_880.0)))))
}

/// Rounds an amount of 0 or more to hundredths, up at a half.
#[inline]
pub(crate) fn round_to_cents(amount: f64) -> f64 {
    (amount * 100.0 + 0.5) as i64 as f64 / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The curves are what their names say; a slip here would bend every generated distribution.
    #[test]
    fn curves_agree_with_the_platform() {
        for step in -200..=200 {
            let x = f64::from(step) / 10.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "exp({x})");
            assert!((sine_of_turn(x) - (x * std::f64::consts::TAU).sin()).abs() < 5e-6, "sine of {x} turns");
        }
        for x in [1e-300, 1e-9, 0.1, 0.5, 0.99, 1.0, 1.01, std::f64::consts::SQRT_2, 2.0, 3.7, 1e6, 1e300] {
            assert!((ln(x) - x.ln()).abs() <= 2e-15 * x.ln().abs().max(1.0), "ln({x})");
        }
        for step in 0..1_000 {
            let turn = f64::from(step) / 1_000.0;
            assert!((sine_of_turn(turn) - (turn * std::f64::consts::TAU).sin()).abs() < 5e-6, "sine of {turn} turns");
        }
        assert_eq!(round_to_cents(1.005_1), 1.01);
    }
}
