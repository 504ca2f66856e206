//! Trigonometry in degrees, as PostgreSQL has it: `SIND`, `COSD`, `TAND`, `COTD`, `ASIND`, `ACOSD`, `ATAND`, `ATAN2D`.
//!
//! `sin(radians(30))` is no 0.5, because no double is a sixth of pi. Here the angles that have simple values (30, 45, 60 degrees and what they are turned by)
//! have exactly those: an angle is brought into the first quarter, and there each function is scaled by its own value at such an angle.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::definition::{Call, Definition, Param};

pub(super) fn definitions() -> Vec<Definition> {
    let of_one = |name, invoke| Definition::new(name, &[Param::Double], |_| DataType::Float64, invoke);
    vec![
        of_one("sind", |call| each(call, sine)),
        of_one("cosd", |call| each(call, cosine)),
        of_one("tand", |call| each(call, tangent)),
        of_one("cotd", |call| each(call, cotangent)),
        of_one("asind", |call| each(call, arcsine)),
        of_one("acosd", |call| each(call, arccosine)),
        of_one("atand", |call| each(call, |x| x.atan() / 1f64.atan() * 45.0)),
        Definition::new(
            "atan2d",
            &[Param::Double, Param::Double],
            |_| DataType::Float64,
            |call| {
                let (y, x) = (call.doubles(0)?, call.doubles(1)?);
                let angles = y.iter().zip(&x).map(|(y, x)| Some(y?.atan2(x?) / 1f64.atan() * 45.0));
                Ok(Arc::new(angles.collect::<Float64Array>()))
            },
        ),
    ]
}

fn each(call: &Call, function: fn(f64) -> f64) -> Result<ArrayRef> {
    Ok(Arc::new(call.doubles(0)?.unary::<_, arrow::datatypes::Float64Type>(function)))
}

/// Of an angle from 0 to 30 degrees.
fn sine_to_30(angle: f64) -> f64 {
    angle.to_radians().sin() / 30f64.to_radians().sin() / 2.0
}

/// Of an angle from 0 to 60 degrees.
fn cosine_to_60(angle: f64) -> f64 {
    1.0 - (1.0 - angle.to_radians().cos()) / (1.0 - 60f64.to_radians().cos()) / 2.0
}

/// Of an angle from 0 to 90 degrees.
fn sine_to_90(angle: f64) -> f64 {
    if angle <= 30.0 { sine_to_30(angle) } else { cosine_to_60(90.0 - angle) }
}

/// Of an angle from 0 to 90 degrees.
fn cosine_to_90(angle: f64) -> f64 {
    if angle <= 60.0 { cosine_to_60(angle) } else { sine_to_30(90.0 - angle) }
}

/// The angle from 0 to 90 degrees that has the same values but for their signs, whether the one that was given points down, and whether it points to the
/// left.
fn to_first_quarter(angle: f64) -> (f64, bool, bool) {
    let angle = angle % 360.0;
    let (angle, is_negative) = (angle.abs(), angle < 0.0);
    let (angle, is_low) = if angle > 180.0 { (360.0 - angle, !is_negative) } else { (angle, is_negative) };
    if angle > 90.0 { (180.0 - angle, is_low, true) } else { (angle, is_low, false) }
}

fn signed(value: f64, is_negative: bool) -> f64 {
    if is_negative { -value } else { value }
}

fn sine(angle: f64) -> f64 {
    let (angle, is_low, _) = to_first_quarter(angle);
    signed(sine_to_90(angle), is_low)
}

fn cosine(angle: f64) -> f64 {
    let (angle, _, is_left) = to_first_quarter(angle);
    signed(cosine_to_90(angle), is_left)
}

fn tangent(angle: f64) -> f64 {
    let (angle, is_low, is_left) = to_first_quarter(angle);
    let of_45 = sine_to_90(45.0) / cosine_to_90(45.0);
    // No zero has a sign.
    signed(sine_to_90(angle) / cosine_to_90(angle) / of_45, is_low != is_left) + 0.0
}

fn cotangent(angle: f64) -> f64 {
    let (angle, is_low, is_left) = to_first_quarter(angle);
    let of_45 = cosine_to_90(45.0) / sine_to_90(45.0);
    signed(cosine_to_90(angle) / sine_to_90(angle) / of_45, is_low != is_left) + 0.0
}

/// NaN beyond -1 and 1, as `asin`.
fn arcsine(value: f64) -> f64 {
    let size = value.abs();
    let angle = match size <= 0.5 {
        true => size.asin() / 0.5f64.asin() * 30.0,
        false => 90.0 - size.acos() / 0.5f64.acos() * 60.0,
    };
    signed(angle, value < 0.0)
}

fn arccosine(value: f64) -> f64 {
    let size = value.abs();
    let angle = match size <= 0.5 {
        true => 90.0 - size.asin() / 0.5f64.asin() * 30.0,
        false => size.acos() / 0.5f64.acos() * 60.0,
    };
    if value < 0.0 { 180.0 - angle } else { angle }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The angles that everybody knows have the values that everybody knows.
    #[test]
    fn known_angles_are_exact() {
        for turns in [-720.0, 0.0, 360.0] {
            for (angle, sin, cos, tan) in [
                (0.0, 0.0, 1.0, 0.0),
                (30.0, 0.5, 0.866_025_403_784_438_6, 0.577_350_269_189_625_7),
                (45.0, std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::FRAC_1_SQRT_2, 1.0),
                (60.0, 0.866_025_403_784_438_6, 0.5, 1.732_050_807_568_877),
                (90.0, 1.0, 0.0, f64::INFINITY),
                (135.0, std::f64::consts::FRAC_1_SQRT_2, -std::f64::consts::FRAC_1_SQRT_2, -1.0),
                (180.0, 0.0, -1.0, 0.0),
                (210.0, -0.5, -0.866_025_403_784_438_6, 0.577_350_269_189_625_7),
                (270.0, -1.0, 0.0, f64::NEG_INFINITY),
                (300.0, -0.866_025_403_784_438_6, 0.5, -1.732_050_807_568_877),
            ] {
                let angle = angle + turns;
                let near = |a: f64, b: f64| a == b || (a - b).abs() < 3e-16 * b.abs().max(1.0);
                assert!(near(sine(angle), sin), "sind({angle}) is {}", sine(angle));
                assert!(near(cosine(angle), cos), "cosd({angle}) is {}", cosine(angle));
                assert!(near(tangent(angle), tan), "tand({angle}) is {}", tangent(angle));
            }
        }
        assert_eq!((sine(30.0), cosine(60.0), tangent(45.0), cotangent(45.0)), (0.5, 0.5, 1.0, 1.0));
        assert_eq!((arcsine(0.5), arccosine(0.5), arcsine(-1.0), arccosine(-1.0)), (30.0, 60.0, -90.0, 180.0));
        assert!(tangent(-180.0).is_sign_positive() && cotangent(-90.0).is_sign_positive());
        assert!(
            sine(f64::NAN).is_nan()
                && sine(f64::INFINITY).is_nan()
                && arcsine(1.5).is_nan()
                && arccosine(-2.0).is_nan()
        );
    }

    proptest! {
        /// They are the functions of radians, as near as doubles are.
        #[test]
        fn they_are_those_of_radians(angle in -1e4f64..1e4, value in -1f64..1.0) {
            prop_assert!((sine(angle) - angle.to_radians().sin()).abs() < 1e-11);
            prop_assert!((cosine(angle) - angle.to_radians().cos()).abs() < 1e-11);
            prop_assert!((arcsine(value) - value.asin().to_degrees()).abs() < 1e-12);
            prop_assert!((arccosine(value) - value.acos().to_degrees()).abs() < 1e-12);
            prop_assert!((sine(arcsine(value)) - value).abs() < 1e-12);
        }
    }
}
