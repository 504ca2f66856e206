//! `window_reduce`: count, sum, minimum, maximum and sum of squares for each (key, pane), over one column.
//!
//! A slot of the state is one (key, pane) cell; the caller gives them out and takes them back when the pane is over. A step's rows,
//! grouped by cell, are reduced and merged into the cells, and the answer is what the cells hold then.
//!
//! # Exactness
//! Counts, sums of integers and decimals, minima and maxima are exact on both sides: sums carry, and have 32 bits more than the column,
//! so no order of 2^32 rows overflows one. Minima and maxima of floats go by their total order (-0 below 0, NaN above all), so they
//! do not depend on the order of rows.
//!
//! Sums of floats depend on the order of additions, so it is fixed, whatever the device's width. The cell's rows of a step are cut into
//! pieces of [`PIECE_ROWS`]. In a piece each of [`LANES`] lanes adds every 64th row, one after the other, and the lanes are then halved:
//! `lane[i] += lane[i + 32]`, then 16, 8, 4, 2, 1; missing rows are 0. The sums of several pieces are a column that is cut and added in
//! the same way, until one sum is left, and that is added to the cell's. So no sum is made of more than a hundred additions in a chain
//! for each level, vector units and devices add lanes side by side, and a hot cell is spread over a whole device. Device and twin are
//! equal to the bit where the adapter keeps float operations as they are written. Sums of squares go the same way, in `f32` for every
//! column, and are approximate: a device may fuse the square with the addition.

mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub mod naive;

#[cfg(feature = "gpu")]
use crate::kernel::KernelError;
use crate::kernel::{Exactness, Kernel};
use crate::rows::GroupedRows;
use crate::state::{Layout, StatePages, StateShape};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The name of the kernel.
pub const NAME: &str = "window_reduce";
/// The lanes that floats are added by, each every 64th row of a piece.
pub const LANES: usize = 64;
/// How many rows, or sums of pieces, the lanes add before they are halved.
pub const PIECE_ROWS: usize = 2048;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// 64-bit integers.
    Int64,
    /// Unscaled 128-bit decimals.
    Decimal128,
    /// 32-bit floats.
    Float32,
}

impl ValueKind {
    /// Words of one value.
    pub(crate) fn value_words(self) -> usize {
        match self {
            ValueKind::Int64 => 2,
            ValueKind::Decimal128 => 4,
            ValueKind::Float32 => 1,
        }
    }

    /// Words of a sum: those of integers have one more than the value.
    pub(crate) fn sum_words(self) -> usize {
        if self == ValueKind::Float32 { 1 } else { self.value_words() + 1 }
    }

    /// Words of a cell: count (2), sum, minimum, maximum, sum of squares (1).
    pub fn cell_words(self) -> usize {
        2 + self.sum_words() + 2 * self.value_words() + 1
    }

    /// The words of a cell without rows.
    pub fn initial(self) -> Vec<u32> {
        let mut words = vec![0; 2 + self.sum_words()];
        match self {
            ValueKind::Int64 | ValueKind::Decimal128 => {
                let last = self.value_words() - 1;
                words.extend((0..=last).map(|word| if word == last { i32::MAX as u32 } else { u32::MAX }));
                words.extend((0..=last).map(|word| if word == last { i32::MIN as u32 } else { 0 }));
            }
            ValueKind::Float32 => words.extend([u32::MAX, 0]),
        }
        words.push(0);
        words
    }
}

/// A column, a value for each grouped row. What stands in rows without a value does not matter.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// See [`ValueKind::Int64`].
    Int64(Vec<i64>),
    /// See [`ValueKind::Decimal128`].
    Decimal128(Vec<i128>),
    /// See [`ValueKind::Float32`].
    Float32(Vec<f32>),
}

impl Values {
    /// What the column holds.
    pub fn kind(&self) -> ValueKind {
        match self {
            Values::Int64(_) => ValueKind::Int64,
            Values::Decimal128(_) => ValueKind::Decimal128,
            Values::Float32(_) => ValueKind::Float32,
        }
    }

    fn len(&self) -> usize {
        match self {
            Values::Int64(values) => values.len(),
            Values::Decimal128(values) => values.len(),
            Values::Float32(values) => values.len(),
        }
    }

    fn gather(&self, order: &[u32]) -> Values {
        fn gather<T: Copy>(values: &[T], order: &[u32]) -> Vec<T> {
            order.iter().map(|&row| values[row as usize]).collect()
        }
        match self {
            Values::Int64(values) => Values::Int64(gather(values, order)),
            Values::Decimal128(values) => Values::Decimal128(gather(values, order)),
            Values::Float32(values) => Values::Float32(gather(values, order)),
        }
    }
}

/// The rows of one step.
#[derive(Debug, Clone)]
pub struct Batch {
    rows: Arc<GroupedRows>,
    values: Values,
    /// Bit `i % 32` of word `i / 32` tells whether grouped row `i` has a value; empty when all have.
    valid: Vec<u32>,
}

impl Batch {
    /// `values` and `valid` (a bitmap; empty when no row lacks its value) are by grouped row.
    ///
    /// # Panics
    /// When there is not a value, or not a bit, for each row.
    pub fn new(rows: Arc<GroupedRows>, values: Values, valid: Vec<u32>) -> Self {
        assert_eq!(values.len(), rows.row_count(), "one value for each row");
        assert!(valid.is_empty() || valid.len() >= rows.row_count().div_ceil(32), "one bit for each row");
        Batch { rows, values, valid }
    }

    /// The same with values and bits in the order that rows had before grouping.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn gather(rows: Arc<GroupedRows>, values: &Values, valid: &[u32]) -> Self {
        assert_eq!(values.len(), rows.row_count(), "one value for each row");
        let bit = |row: u32| valid[row as usize / 32] >> (row % 32) & 1;
        let word = |rows: &[u32]| rows.iter().enumerate().fold(0, |word, (index, &row)| word | bit(row) << index);
        let valid = if valid.is_empty() { Vec::new() } else { rows.order().chunks(32).map(word).collect() };
        let values = values.gather(rows.order());
        Batch { rows, values, valid }
    }

    /// Which rows are which cell's.
    pub fn rows(&self) -> &Arc<GroupedRows> {
        &self.rows
    }

    fn is_valid(&self, row: usize) -> bool {
        self.valid.is_empty() || self.valid[row / 32] >> (row % 32) & 1 == 1
    }
}

/// What cells hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cells {
    kind: ValueKind,
    /// `[cell][word]`, as in the state.
    words: Vec<u32>,
}

/// A minimum or maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Of integers and decimals.
    Integer(i128),
    /// Of floats.
    Float(f32),
}

/// A sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sum {
    /// Of integers and decimals.
    Integer(i128),
    /// Of floats.
    Float(f32),
    /// Of decimals, when it does not fit into 128 bits.
    Overflow,
}

impl Cells {
    /// Takes words as they stand in a slot of the state, one cell after the other.
    ///
    /// # Panics
    /// When these are not whole cells.
    pub fn from_words(kind: ValueKind, words: Vec<u32>) -> Self {
        assert!(words.len().is_multiple_of(kind.cell_words()), "cells are whole");
        Cells { kind, words }
    }

    /// How many there are: one for each group of the batch.
    pub fn len(&self) -> usize {
        self.words.len() / self.kind.cell_words()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Their words, one cell after the other.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    fn cell(&self, cell: usize) -> &[u32] {
        &self.words[cell * self.kind.cell_words()..(cell + 1) * self.kind.cell_words()]
    }

    /// How many rows have a value.
    pub fn count(&self, cell: usize) -> u64 {
        let words = self.cell(cell);
        u64::from(words[1]) << 32 | u64::from(words[0])
    }

    /// Their sum.
    pub fn sum(&self, cell: usize) -> Sum {
        let words = &self.cell(cell)[2..2 + self.kind.sum_words()];
        if self.kind == ValueKind::Float32 {
            return Sum::Float(f32::from_bits(words[0]));
        }
        let value = integer(&words[..words.len().min(4)]);
        match words.get(4) {
            Some(&above) if above != (value >> 127) as u32 => Sum::Overflow,
            _ => Sum::Integer(value),
        }
    }

    /// The sum of integers or decimals modulo 2^128; of floats 0.
    pub fn wrapped_sum(&self, cell: usize) -> i128 {
        match self.kind {
            ValueKind::Float32 => 0,
            kind => integer(&self.cell(cell)[2..2 + kind.sum_words().min(4)]),
        }
    }

    /// The least value, if there is one.
    pub fn min(&self, cell: usize) -> Option<Value> {
        self.extreme(cell, 0)
    }

    /// The greatest value, if there is one.
    pub fn max(&self, cell: usize) -> Option<Value> {
        self.extreme(cell, 1)
    }

    fn extreme(&self, cell: usize, which: usize) -> Option<Value> {
        let start = 2 + self.kind.sum_words() + which * self.kind.value_words();
        let words = &self.cell(cell)[start..start + self.kind.value_words()];
        let value = match self.kind {
            ValueKind::Float32 => Value::Float(float_of_order(words[0])),
            _ => Value::Integer(integer(words)),
        };
        (self.count(cell) > 0).then_some(value)
    }

    /// The sum of squares, approximately.
    pub fn sum_of_squares(&self, cell: usize) -> f32 {
        f32::from_bits(self.cell(cell)[self.kind.cell_words() - 1])
    }
}

/// An integer of up to four words in two's complement, lowest first.
fn integer(words: &[u32]) -> i128 {
    let sign = if words[words.len() - 1] >> 31 == 1 { u32::MAX } else { 0 };
    (0..4).rev().fold(0i128, |value, word| value << 32 | i128::from(words.get(word).copied().unwrap_or(sign)))
}

/// A word that is ordered as floats are by their total order.
#[inline(always)]
fn order_of_float(value: f32) -> u32 {
    let bits = value.to_bits();
    bits ^ ((bits as i32 >> 31) as u32 | 0x8000_0000)
}

fn float_of_order(order: u32) -> f32 {
    f32::from_bits(if order >> 31 == 1 { order ^ 0x8000_0000 } else { !order })
}

/// See the module.
#[derive(Debug, Clone)]
pub struct WindowReduce {
    kind: ValueKind,
}

impl WindowReduce {
    /// Reduces columns of one kind.
    pub fn new(kind: ValueKind) -> Self {
        WindowReduce { kind }
    }

    /// # Panics
    /// When the batch has another kind of column: the caller has built both from one plan.
    fn check(&self, batch: &Batch) {
        assert_eq!(batch.values.kind(), self.kind, "the batch has the kind of column that the kernel was made for");
    }
}

impl Kernel for WindowReduce {
    type Batch = Batch;
    /// What each of the batch's cells holds after the step.
    type Output = Cells;

    fn name(&self) -> &'static str {
        NAME
    }

    fn exactness(&self) -> Exactness {
        Exactness::SameTree
    }

    fn state_shape(&self) -> StateShape {
        StateShape::new(self.kind.initial(), Layout::WordMajor)
    }

    fn slot_count(&self, batch: &Batch) -> usize {
        batch.rows.slots().last().map_or(0, |&slot| slot as usize + 1)
    }

    fn row_count(&self, batch: &Batch) -> usize {
        batch.rows.row_count()
    }

    fn batch_bytes(&self, batch: &Batch) -> usize {
        batch.rows.row_count() * (self.kind.value_words() + 1) * 4
    }

    fn touched_slots<'a>(&self, batch: &'a Batch) -> Option<&'a [u32]> {
        Some(batch.rows.slots())
    }

    fn run_twin(&self, batch: &Batch, state: &mut StatePages) -> Cells {
        self.check(batch);
        cpu::run(self.kind, batch, state)
    }

    #[cfg(feature = "gpu")]
    fn encode(
        &self,
        batch: &Batch,
        state: &mut crate::device::ResidentPages,
        wave: &mut crate::device::Wave,
    ) -> Result<Vec<crate::device::Region>, KernelError> {
        self.check(batch);
        gpu::encode(self, batch, state, wave)
    }

    #[cfg(feature = "gpu")]
    fn decode(&self, _: &Batch, regions: &[crate::device::Region], readback: &crate::device::Readback) -> Cells {
        Cells { kind: self.kind, words: readback.words(&regions[0]).to_vec() }
    }
}

#[cfg(test)]
mod tests;
