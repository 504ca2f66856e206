//! Sums and averages of integers, decimals and durations. Sums know when they are beyond their type ([`Total`]), which is an error when they are shown.

use arrow::array::{Array, ArrayRef};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;

use super::select::{Selection, as_counts, counts, natives, nulls};
use super::total::{Total, Weighted, beyond, sum_column};
use super::{Accumulators, RowInfo, Slots};
use crate::error::{EngineError, Result};
use crate::hash::{native_column, native_values};

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
    entries: Vec<Total<N>>,
    sum_type: DataType,
    return_type: DataType,
    finish: Finish,
}

impl<N: Weighted> IntegerSums<N> {
    pub(crate) fn new(sum_type: DataType, return_type: DataType, finish: Finish) -> Self {
        Self { entries: Vec::new(), sum_type, return_type, finish }
    }
}

impl<N: Weighted> Accumulators for IntegerSums<N> {
    fn resize(&mut self, count: usize) {
        if count > self.entries.len() {
            self.entries.resize(count, Total::default());
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = natives::<N>(&args[0], &self.sum_type)?;
        let selection = Selection::of(args, rows);
        if selection.is_all() {
            for (slot, value) in slots.iter().zip(values.iter()) {
                self.entries[*slot as usize].add(*value);
            }
        } else if selection.is_weighted() {
            selection.each(slots.len(), |row, weight| {
                self.entries[slots[row] as usize].add_weighted(values[row], weight);
            });
        } else {
            selection.each(slots.len(), |row, _| {
                self.entries[slots[row] as usize].add(values[row]);
            });
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let sums = native_values::<N>(&state[0]);
        for ((slot, sum), count) in slots.iter().zip(sums.iter()).zip(as_counts(&state[1])) {
            self.entries[*slot as usize].merge(Total::of_parts(*sum, *count));
        }
        Ok(())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let sums = slots.gather(&self.entries, |entry| entry.parts().0);
        let sums = native_column(&self.sum_type, sums, None);
        Ok(vec![sums, counts(slots.gather(&self.entries, |entry| entry.parts().1))])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        match &self.finish {
            Finish::Sum => sum_column(&slots.gather(&self.entries, |entry| entry), &self.return_type),
            Finish::Average { digits, quotient } => {
                let nulls = nulls(slots.gather(&self.entries, |entry| entry.count() != 0));
                let factor = N::from_weight(10).pow_checked(*digits)?;
                let average = |entry: Total<N>| {
                    if entry.is_beyond() {
                        return Err(beyond(&self.sum_type));
                    }
                    let (sum, count) = entry.parts();
                    if count == 0 {
                        return Ok(N::ZERO);
                    }
                    let overflow = |_| {
                        let message = format!(
                            "the sum {sum:?} with {digits} more digits does not fit {}; cast the argument to a wider DECIMAL or to DOUBLE",
                            self.sum_type
                        );
                        EngineError::evaluate("avg", message)
                    };
                    Ok(sum.mul_checked(factor).map_err(overflow)?.div_wrapping(N::from_weight(count)))
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
        slots.fill(&mut self.entries, Total::default());
    }

    fn state_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Total<N>>()
    }
}
