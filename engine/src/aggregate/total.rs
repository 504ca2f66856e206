//! Sums of integers and decimals that know when they have left their type.
//!
//! Modular addition makes a sum independent of order and exactly retractable, and how often it has wrapped, up or down, is a sum of the same kind: one that goes
//! beyond its type and comes back is right again, and one that is beyond it when it is shown is an error and no other number. The wraps are kept in the high
//! bits of the count, so a sum is no larger than it was, and rows pay for one jump that is never taken.

use arrow::array::{ArrayRef, ArrowNativeTypeOp};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, i256};

use super::select::nulls;
use crate::error::{EngineError, Result};
use crate::hash::{Words, native_column};

/// A number that can be summed, and multiplied by a weight.
pub(crate) trait Weighted: ArrowNativeTypeOp + Words {
    /// The weight in this type, modulo its width.
    fn from_weight(weight: i64) -> Self;
    /// The sum modulo the width of the type, and whether it is another number.
    fn add_overflowing(self, other: Self) -> (Self, bool);
    /// The difference modulo the width of the type, and whether it is another number.
    fn sub_overflowing(self, other: Self) -> (Self, bool);
}

macro_rules! weighted {
    ($($native:ty),*) => {$(
        impl Weighted for $native {
            #[inline(always)]
            fn from_weight(weight: i64) -> Self {
                weight as Self
            }

            #[inline(always)]
            fn add_overflowing(self, other: Self) -> (Self, bool) {
                self.overflowing_add(other)
            }

            #[inline(always)]
            fn sub_overflowing(self, other: Self) -> (Self, bool) {
                self.overflowing_sub(other)
            }
        }
    )*};
}
weighted!(i32, i64, u64, i128);

impl Weighted for i256 {
    #[inline(always)]
    fn from_weight(weight: i64) -> Self {
        i256::from_i128(i128::from(weight))
    }

    #[inline(always)]
    fn add_overflowing(self, other: Self) -> (Self, bool) {
        let sum = self.wrapping_add(other);
        (sum, (sum < self) != (other < i256::ZERO))
    }

    #[inline(always)]
    fn sub_overflowing(self, other: Self) -> (Self, bool) {
        let difference = self.wrapping_sub(other);
        (difference, (difference > self) != (other < i256::ZERO))
    }
}

/// Bits of [`Total`]'s word that count; those above say how often the sum has wrapped.
const COUNT_BITS: u32 = 48;

/// So many wraps are not told apart from more of them.
const WRAPS_MAX: i64 = (1 << (i64::BITS - COUNT_BITS - 1)) - 1;

/// A sum, and how many values were added (fewer than 2^47).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Total<N> {
    /// Modulo the width of the type.
    sum: N,
    /// The count, and `2^COUNT_BITS` for each time that the sum has wrapped upwards.
    word: i64,
}

impl<N: Weighted> Total<N> {
    /// What [`Self::parts`] gave. A word without wraps is the count, as it was before wraps were told.
    #[inline(always)]
    pub(crate) fn of_parts(sum: N, word: i64) -> Self {
        Self { sum, word }
    }

    /// The sum modulo the width of the type, and a word that says how many values there are and how often the sum has wrapped.
    #[inline(always)]
    pub(crate) fn parts(&self) -> (N, i64) {
        (self.sum, self.word)
    }

    /// How many values were added, less those that were taken away.
    #[inline(always)]
    pub(crate) fn count(&self) -> i64 {
        const UNUSED_BITS: u32 = i64::BITS - COUNT_BITS;
        self.word << UNUSED_BITS >> UNUSED_BITS
    }

    #[inline(always)]
    fn wraps(&self) -> i64 {
        self.word.wrapping_sub(self.count()) >> COUNT_BITS
    }

    /// Whether the sum is no number of its type.
    #[inline(always)]
    pub(crate) fn is_beyond(&self) -> bool {
        self.count() != self.word
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, value: N) {
        let (sum, overflows) = self.sum.add_overflowing(value);
        self.sum = sum;
        self.word = self.word.wrapping_add(1);
        if overflows {
            self.wrap(!value.is_lt(N::ZERO));
        }
    }

    #[inline(always)]
    pub(crate) fn sub(&mut self, value: N) {
        let (sum, overflows) = self.sum.sub_overflowing(value);
        self.sum = sum;
        self.word = self.word.wrapping_sub(1);
        if overflows {
            self.wrap(value.is_lt(N::ZERO));
        }
    }

    /// Adds a value so many times, or takes it away so many times.
    #[inline(always)]
    pub(crate) fn add_weighted(&mut self, value: N, weight: i64) {
        match weight {
            1 => self.add(value),
            -1 => self.sub(value),
            _ => self.add_times(value, weight),
        }
    }

    fn add_times(&mut self, value: N, weight: i64) {
        let times = weight.unsigned_abs();
        match i64::try_from(times).ok().and_then(|times| value.mul_checked(N::from_weight(times)).ok()) {
            Some(product) => {
                // One value of many: the count is told apart from it.
                let count = self.word;
                if weight > 0 {
                    self.add(product);
                } else {
                    self.sub(product);
                }
                let step = if weight > 0 { 1 } else { -1 };
                let wraps = self.word.wrapping_sub(count).wrapping_sub(step);
                self.word = count.wrapping_add(wraps).wrapping_add(weight);
            }
            None => (0..times).for_each(|_| if weight > 0 { self.add(value) } else { self.sub(value) }),
        }
    }

    /// Adds all that `other` has.
    #[inline(always)]
    pub(crate) fn merge(&mut self, other: Self) {
        let (sum, overflows) = self.sum.add_overflowing(other.sum);
        let before = *self;
        self.sum = sum;
        self.word = self.word.wrapping_add(other.word);
        if overflows || before.is_beyond() || other.is_beyond() {
            let by_sum = if overflows { if other.sum.is_lt(N::ZERO) { -1 } else { 1 } } else { 0 };
            *self = before.with_wraps(sum, before.count() + other.count(), &[before.wraps(), other.wraps(), by_sum]);
        }
    }

    /// Takes away all that `other` has.
    pub(crate) fn unmerge(&mut self, other: Self) {
        let (sum, overflows) = self.sum.sub_overflowing(other.sum);
        let by_sum = if overflows { if other.sum.is_lt(N::ZERO) { 1 } else { -1 } } else { 0 };
        *self = self.with_wraps(sum, self.count() - other.count(), &[self.wraps(), -other.wraps(), by_sum]);
    }

    #[cold]
    fn with_wraps(&self, sum: N, count: i64, wraps: &[i64]) -> Self {
        // Who has come to the end stays there.
        let end = wraps.iter().copied().find(|wraps| wraps.abs() >= WRAPS_MAX);
        let wraps = end.unwrap_or_else(|| wraps.iter().sum()).clamp(-WRAPS_MAX, WRAPS_MAX);
        Self { sum, word: (wraps << COUNT_BITS).wrapping_add(count) }
    }

    #[cold]
    fn wrap(&mut self, up: bool) {
        *self = self.with_wraps(self.sum, self.count(), &[self.wraps(), if up { 1 } else { -1 }]);
    }
}

/// The sums as a column, null where nothing was added.
///
/// # Errors
/// A sum that is no number of the type.
pub(crate) fn sum_column<N: Weighted>(totals: &[Total<N>], data_type: &DataType) -> Result<ArrayRef> {
    if totals.iter().fold(false, |beyond, total| beyond | total.is_beyond()) {
        return Err(beyond(data_type));
    }
    let sums: Vec<N> = totals.iter().map(|total| total.sum).collect();
    let full = totals.iter().map(|total| total.count() != 0).collect();
    check_digits(&sums, data_type)?;
    Ok(native_column(data_type, sums, nulls(full)))
}

/// Refuses sums that have more digits than any decimal of their width.
pub(crate) fn check_digits<N: Weighted>(sums: &[N], data_type: &DataType) -> Result<()> {
    let digits = match data_type {
        DataType::Decimal128(digits @ DECIMAL128_MAX_PRECISION, _)
        | DataType::Decimal256(digits @ DECIMAL256_MAX_PRECISION, _) => u32::from(*digits),
        _ => return Ok(()),
    };
    let end = N::from_weight(10).pow_checked(digits)?;
    let start = end.neg_checked()?;
    match sums.iter().any(|sum| sum.is_ge(end) || sum.is_le(start)) {
        true => Err(beyond(data_type)),
        false => Ok(()),
    }
}

/// What to say of a sum that is no number of `data_type`.
pub(crate) fn beyond(data_type: &DataType) -> EngineError {
    let (name, cast) = match data_type {
        DataType::Int64 => ("BIGINT".to_string(), "`SUM(CAST(.. AS DECIMAL(38, 0)))`"),
        DataType::UInt64 => ("BIGINT UNSIGNED".to_string(), "`SUM(CAST(.. AS DECIMAL(38, 0)))`"),
        DataType::Decimal128(digits, scale) | DataType::Decimal256(digits, scale) => {
            (format!("DECIMAL({digits}, {scale})"), "`SUM(CAST(.. AS DOUBLE))`")
        }
        other => (other.to_string(), "a wider type"),
    };
    EngineError::evaluate("sum", format!("a sum is beyond {name}; cast what is summed: {cast}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown<N: Weighted>(total: Total<N>) -> Option<N> {
        (!total.is_beyond()).then_some(total.sum)
    }

    /// Who sums near the end of the type gets an error while the sum is beyond it, and the sum once it is back.
    #[test]
    fn a_sum_that_comes_back_is_right() {
        let mut total = Total::<i64>::default();
        total.add(i64::MAX);
        total.add(1);
        assert_eq!((shown(total), total.count()), (None, 2));
        total.add(-5);
        assert_eq!((shown(total), total.count()), (Some(i64::MAX - 4), 3));
        total.sub(i64::MAX);
        total.add(i64::MIN);
        total.sub(1);
        assert_eq!(shown(total), None);
        total.add(i64::MAX);
        assert_eq!((shown(total), total.count()), (Some(-6), 3));
    }

    /// A sum that was far beyond its type is never taken for one within it.
    #[test]
    fn many_wraps_stay_beyond() {
        let mut total = Total::<i64>::default();
        (0..200_000).for_each(|_| total.add(i64::MAX));
        assert!(total.is_beyond());
        let mut twice = total;
        twice.merge(total);
        assert!(twice.is_beyond());
        assert_eq!(twice.count(), 400_000);
    }

    fn near(word: i64) -> i64 {
        match word.rem_euclid(4) {
            0 => i64::MAX - word.rem_euclid(7),
            1 => i64::MIN + word.rem_euclid(7),
            _ => word % 10,
        }
    }

    proptest! {
        /// Whatever is added, taken away, weighted and merged in whatever order: the sum is that of wide integers, or told to be none.
        #[test]
        fn as_wide_integers(rows in prop::collection::vec((any::<i64>(), -3i64..4), 0..60), cut in 0usize..60) {
            let value = |row: &(i64, i64)| near(row.0);
            let wide: i128 = rows.iter().map(|row| i128::from(value(row)) * i128::from(row.1)).sum();
            let count: i64 = rows.iter().map(|row| row.1).sum();
            let sum = |rows: &[(i64, i64)]| {
                let mut total = Total::<i64>::default();
                rows.iter().for_each(|row| total.add_weighted(value(row), row.1));
                total
            };
            let (first, second) = rows.split_at(cut.min(rows.len()));
            let mut merged = sum(first);
            merged.merge(sum(second));
            prop_assert_eq!(sum(&rows), merged);
            prop_assert_eq!(shown(merged), i64::try_from(wide).ok());
            prop_assert_eq!(merged.count(), count);
            merged.unmerge(sum(second));
            prop_assert_eq!(merged, sum(first));
        }

        /// Integers without a sign, of decimals too, wrap below zero.
        #[test]
        fn as_wide_integers_without_sign(rows in prop::collection::vec((any::<u64>(), -2i64..3), 0..40)) {
            let wide: i128 = rows.iter().map(|row| i128::from(row.0) * i128::from(row.1)).sum();
            let mut total = Total::<u64>::default();
            rows.iter().for_each(|row| total.add_weighted(row.0, row.1));
            prop_assert_eq!(shown(total), u64::try_from(wide).ok());
        }

        #[test]
        fn as_wide_decimals(rows in prop::collection::vec((any::<i128>(), -2i64..3), 0..40)) {
            let wide = rows.iter().fold(i256::ZERO, |sum, row| {
                sum.wrapping_add(i256::from_i128(row.0).wrapping_mul(i256::from_i128(i128::from(row.1))))
            });
            let mut total = Total::<i128>::default();
            rows.iter().for_each(|row| total.add_weighted(row.0, row.1));
            prop_assert_eq!(shown(total), wide.to_i128());
        }
    }
}
