//! Checks of parameters that users give.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::kernel::KernelError;

/// Refuses a parameter outside of its range, and NaN.
pub(crate) fn check<T: PartialOrd + Display>(
    kernel: &'static str,
    parameter: &'static str,
    given: T,
    range: RangeInclusive<T>,
) -> Result<(), KernelError> {
    if range.contains(&given) {
        return Ok(());
    }
    let expected = format!("between {} and {}", range.start(), range.end());
    Err(KernelError::Parameter { kernel, parameter, expected, given: given.to_string() })
}
