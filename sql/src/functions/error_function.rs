//! `ERF(x)` and `ERFC(x)`: the chance that a normal deviate of variance 1/2 is within `x` of its mean, and that it is not.
//!
//! By libm, whose C original (FreeBSD's `s_erf.c`) is off by less than one unit in the last place. `ERFC` is no difference from 1, which would have no
//! digits left for large `x`.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result;

use super::definition::{Call, Definition, Param};

pub(super) fn definitions() -> Vec<Definition> {
    let of_one = |name, invoke| Definition::new(name, &[Param::Double], |_| DataType::Float64, invoke);
    vec![of_one("erf", |call| each(call, libm::erf)), of_one("erfc", |call| each(call, libm::erfc))]
}

fn each(call: &Call, function: fn(f64) -> f64) -> Result<ArrayRef> {
    Ok(Arc::new(call.doubles(0)?.unary::<_, Float64Type>(function)))
}
