//! Sums and averages of integers, decimals and durations. Sums wrap on overflow, as DataFusion's do: wrapping addition is what makes
//! them independent of order and exactly retractable.

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, i256};

use super::select::{Selection, as_counts, counts, natives, nulls};
use super::{Accumulators, RowInfo, Slots};
use crate::error::{EngineError, Result};
use crate::hash::{Words, native_column, native_values};

/// A number that a weight can multiply.
pub(crate) trait Weighted: ArrowNativeTypeOp + Words {
    /// The weight in this type, modulo its width.
    fn from_weight(weight: i64) -> Self;
}

macro_rules! weighted {
    ($($native:ty),*) => {$(
        impl Weighted for $native {
            #[inline(always)]
            fn from_weight(weight: i64) -> Self {
                weight as Self
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
}

/// How a sum and a count become the result.
#[derive(Clone, Debug)]
pub(crate) enum Finish {
    /// The sum.
    Sum,
    /// The sum times ten to this power, divided by the count, towards zero.
    Average {
        /// How many digits the result has after the point beyond those of the argument.
        digits: u32,
        /// The type in which the quotient is computed: that of the sum, at the result's scale.
        quotient: DataType,
    },
}

/// One sum and one count a slot, side by side: a row touches one cache line.
pub(crate) struct IntegerSums<N> {
    entries: Vec<Entry<N>>,
    sum_type: DataType,
    return_type: DataType,
    finish: Finish,
}

#[derive(Clone, Copy, Default)]
struct Entry<N> {
    sum: N,
    count: i64,
}

impl<N: Weighted> IntegerSums<N> {
    pub(crate) fn new(sum_type: DataType, return_type: DataType, finish: Finish) -> Self {
        Self { entries: Vec::new(), sum_type, return_type, finish }
    }
}

impl<N: Weighted> Accumulators for IntegerSums<N> {
    fn resize(&mut self, count: usize) {
        if count > self.entries.len() {
            self.entries.resize(count, Entry::default());
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = natives::<N>(&args[0], &self.sum_type)?;
        let selection = Selection::of(args, rows);
        if selection.is_all() {
            for (slot, value) in slots.iter().zip(values.iter()) {
                let entry = &mut self.entries[*slot as usize];
                entry.sum = entry.sum.add_wrapping(*value);
                entry.count += 1;
            }
        } else if selection.is_weighted() {
            selection.each(slots.len(), |row, weight| {
                let entry = &mut self.entries[slots[row] as usize];
                entry.sum = entry.sum.add_wrapping(values[row].mul_wrapping(N::from_weight(weight)));
                entry.count += weight;
            });
        } else {
            selection.each(slots.len(), |row, _| {
                let entry = &mut self.entries[slots[row] as usize];
                entry.sum = entry.sum.add_wrapping(values[row]);
                entry.count += 1;
            });
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let sums = native_values::<N>(&state[0]);
        for ((slot, sum), count) in slots.iter().zip(sums.iter()).zip(as_counts(&state[1])) {
            let entry = &mut self.entries[*slot as usize];
            entry.sum = entry.sum.add_wrapping(*sum);
            entry.count += count;
        }
        Ok(())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let sums = slots.gather(&self.entries, |entry| entry.sum);
        let sums = native_column(&self.sum_type, sums, None);
        Ok(vec![sums, counts(slots.gather(&self.entries, |entry| entry.count))])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let nulls = nulls(slots.gather(&self.entries, |entry| entry.count != 0));
        match &self.finish {
            Finish::Sum => {
                let sums = slots.gather(&self.entries, |entry| entry.sum);
                Ok(native_column(&self.return_type, sums, nulls))
            }
            Finish::Average { digits, quotient } => {
                let factor = N::from_weight(10).pow_checked(*digits)?;
                let average = |entry: Entry<N>| {
                    if entry.count == 0 {
                        return Ok(N::ZERO);
                    }
                    let overflow = |_| {
                        let sum = entry.sum;
                        let message = format!(
                            "the sum {sum:?} with {digits} more digits does not fit {}; cast the argument to a wider DECIMAL or to DOUBLE",
                            self.sum_type
                        );
                        EngineError::evaluate("avg", message)
                    };
                    Ok(entry.sum.mul_checked(factor).map_err(overflow)?.div_wrapping(N::from_weight(entry.count)))
                };
                let averages = slots.gather(&self.entries, average).into_iter().collect::<Result<Vec<_>>>()?;
                let averages = native_column(quotient, averages, nulls);
                if averages.data_type() == &self.return_type {
                    return Ok(averages);
                }
                let options = CastOptions { safe: false, ..CastOptions::default() };
                Ok(cast_with_options(&averages, &self.return_type, &options)?)
            }
        }
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.entries, Entry::default());
    }

    fn state_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry<N>>()
    }
}
