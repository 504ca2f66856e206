//! The oracle: row after row, each cell in a map, sums of floats in `f64`.

use super::{Batch, Values};
use std::collections::HashMap;

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct NaiveCell {
    /// Rows with a value.
    pub count: u64,
    /// Sum of integers, or `None` when it does not fit.
    pub sum: Option<i128>,
    /// Sum of floats, and of their magnitudes (which bounds its error).
    pub float_sum: (f64, f64),
    /// Least and greatest integer.
    pub integers: Option<(i128, i128)>,
    /// Least and greatest float.
    pub floats: Option<(f32, f32)>,
    /// Sum of squares.
    pub squares: f64,
}

/// Adds the rows of a batch to cells.
pub fn reduce(batch: &Batch, cells: &mut HashMap<u32, NaiveCell>) {
    for (slot, rows) in batch.rows.groups() {
        let cell = cells.entry(slot).or_insert(NaiveCell { sum: Some(0), ..NaiveCell::default() });
        for row in rows.filter(|&row| batch.is_valid(row)) {
            cell.count += 1;
            match &batch.values {
                Values::Int64(values) => cell.add_integer(i128::from(values[row])),
                Values::Decimal128(values) => cell.add_integer(values[row]),
                Values::Float32(values) => cell.add_float(values[row]),
            }
        }
    }
}

impl NaiveCell {
    fn add_integer(&mut self, value: i128) {
        self.sum = self.sum.and_then(|sum| sum.checked_add(value));
        let (min, max) = self.integers.unwrap_or((value, value));
        self.integers = Some((min.min(value), max.max(value)));
        self.squares += (value as f64).powi(2);
    }

    fn add_float(&mut self, value: f32) {
        self.float_sum.0 += f64::from(value);
        self.float_sum.1 += f64::from(value).abs();
        let (min, max) = self.floats.unwrap_or((value, value));
        let less = |left: f32, right: f32| left.total_cmp(&right).is_lt();
        self.floats = Some((if less(value, min) { value } else { min }, if less(max, value) { value } else { max }));
        self.squares += f64::from(value).powi(2);
    }
}
