//! Which rows of a batch count, and how often: nulls, `FILTER` and weights brought into one form, so that accumulators need one tight
//! loop for "all rows once" and one for the rest.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, DataType};

use super::RowInfo;
use crate::error::Result;
use crate::hash::native_values;

/// The rows that count, with their weights.
pub(crate) struct Selection<'a> {
    valid: Option<BooleanBuffer>,
    weights: Option<&'a [i64]>,
}

impl<'a> Selection<'a> {
    /// The rows that the filter keeps and where no argument is null.
    pub(crate) fn of(args: &[ArrayRef], rows: RowInfo<'a>) -> Self {
        let mut valid = rows.filter.and_then(|filter| {
            let mask = match filter.nulls() {
                Some(nulls) => filter.values() & nulls.inner(),
                None => filter.values().clone(),
            };
            (mask.count_set_bits() < mask.len()).then_some(mask)
        });
        for arg in args {
            if let Some(nulls) = arg.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
                valid = Some(match valid {
                    Some(valid) => &valid & nulls.inner(),
                    None => nulls.into_inner(),
                });
            }
        }
        Self { valid, weights: rows.weights.map(|weights| weights.values().as_ref()) }
    }

    /// The rows that count; `None`: all.
    pub(crate) fn rows(&self) -> Option<&BooleanBuffer> {
        self.valid.as_ref()
    }

    /// Whether every row counts once.
    pub(crate) fn is_all(&self) -> bool {
        self.valid.is_none() && self.weights.is_none()
    }

    /// Whether weights are given.
    pub(crate) fn is_weighted(&self) -> bool {
        self.weights.is_some()
    }

    /// Calls `each(row, weight)` for every row of the first `rows` that counts.
    #[inline(always)]
    pub(crate) fn each(&self, rows: usize, mut each: impl FnMut(usize, i64)) {
        match (&self.valid, self.weights) {
            (None, None) => (0..rows).for_each(|row| each(row, 1)),
            (None, Some(weights)) => (0..rows).for_each(|row| each(row, weights[row])),
            (Some(valid), None) => valid.set_indices().for_each(|row| each(row, 1)),
            (Some(valid), Some(weights)) => valid.set_indices().for_each(|row| each(row, weights[row])),
        }
    }
}

/// The values of `array` as those of a column of `data_type`, whose native type is `N`.
pub(crate) fn natives<N: ArrowNativeType>(array: &ArrayRef, data_type: &DataType) -> Result<ScalarBuffer<N>> {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    let same = match (array.data_type(), data_type) {
        // The precision of a decimal does not show in its values.
        (Decimal32(_, a), Decimal32(_, b))
        | (Decimal64(_, a), Decimal64(_, b))
        | (Decimal128(_, a), Decimal128(_, b))
        | (Decimal256(_, a), Decimal256(_, b)) => a == b,
        (found, wanted) => found == wanted,
    };
    Ok(if same { native_values(array) } else { native_values(&cast(array, data_type)?) })
}

/// The validity of a result column: `None` where all are valid.
pub(crate) fn nulls(valid: Vec<bool>) -> Option<NullBuffer> {
    (!valid.iter().all(|valid| *valid)).then(|| NullBuffer::from(valid))
}

/// A column of counts.
pub(crate) fn counts(values: Vec<i64>) -> ArrayRef {
    std::sync::Arc::new(arrow::array::Int64Array::new(ScalarBuffer::from(values), None))
}

/// The counts of a state column.
pub(crate) fn as_counts(column: &ArrayRef) -> &[i64] {
    column.as_primitive::<arrow::datatypes::Int64Type>().values()
}
