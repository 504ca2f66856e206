//! Conditions by column, turned into symbols by row.

use std::ops::Range;

use crate::pattern::Variable;

/// The symbols of some rows, in a form that the matcher has chosen.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    /// For each row the variables whose conditions it meets, if partial matches run one by one.
    pub(crate) bits: Vec<u64>,
    /// For each row its class, a bit for each variable of the pattern, if they run together.
    pub(crate) classes: Vec<u8>,
    /// A bit for each row at which a match may begin; empty: that is not known.
    pub(crate) starts: Vec<u64>,
    /// What conditions on the match read of each row, so many for each.
    values: Vec<u32>,
    value_count: usize,
}

impl Symbols {
    /// Adds what conditions on the match read of the rows, `count` words of 32 bits for each row, one row after the other: they find them by
    /// [`Trail::values`](crate::Trail::values) for as long as the row is under way. Is forgotten when the symbols are made again.
    pub fn set_values(&mut self, values: Vec<u32>, count: usize) {
        (self.values, self.value_count) = (values, count);
    }

    /// Those of rows, if partial matches run one by one. `times`: of the same rows, or none.
    pub(crate) fn of_threads<'a>(&'a self, rows: Range<usize>, times: &'a [i64]) -> ThreadSymbols<'a> {
        let value_count = self.value_count;
        let values = &self.values[rows.start * value_count..rows.end * value_count];
        ThreadSymbols { bits: &self.bits[rows], values, value_count, times }
    }

    /// Forgets what is not made anew.
    pub(crate) fn clear(&mut self) {
        self.starts.clear();
        self.values.clear();
        self.value_count = 0;
    }

    /// Makes `bits`.
    pub(crate) fn collect(&mut self, bitmaps: &[&[u64]], rows: usize) {
        self.bits.clear();
        self.bits.resize(rows, 0);
        for (variable, bitmap) in bitmaps.iter().enumerate() {
            for (chunk, word) in self.bits.chunks_mut(64).zip(*bitmap) {
                for (bit, row) in chunk.iter_mut().enumerate() {
                    *row |= (word >> bit & 1) << variable;
                }
            }
        }
    }

    /// Makes `classes`: bit `b` is that of variable `variables[b]`.
    pub(crate) fn classify(&mut self, variables: &[Variable], bitmaps: &[&[u64]], rows: usize) {
        self.classes.clear();
        self.classes.resize(rows.next_multiple_of(64), 0);
        let none: &[u64] = &[];
        let mut of: [&[u64]; 8] = [none; 8];
        for (place, variable) in of.iter_mut().zip(variables) {
            *place = bitmaps.get(usize::from(*variable)).copied().unwrap_or(none);
        }
        for (word, rows) in self.classes.chunks_exact_mut(64).enumerate() {
            let words = of.map(|bitmap| bitmap.get(word).copied().unwrap_or(0));
            for (byte, rows) in rows.chunks_exact_mut(8).enumerate() {
                // Byte `v` has eight rows of variable `v`; turned, byte `i` has all variables of row `i`.
                let square = words.iter().rev().fold(0u64, |square, word| square << 8 | word >> (8 * byte) & 0xff);
                rows.copy_from_slice(&transpose(square).to_le_bytes());
            }
        }
        self.classes.truncate(rows);
    }
}

/// What partial matches that run one by one are told of rows that come to a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadSymbols<'a> {
    pub(crate) bits: &'a [u64],
    pub(crate) values: &'a [u32],
    pub(crate) value_count: usize,
    /// Empty where there is no bound in time.
    pub(crate) times: &'a [i64],
}

impl<'a> ThreadSymbols<'a> {
    /// None.
    pub(crate) const EMPTY: Self = Self { bits: &[], values: &[], value_count: 0, times: &[] };

    /// Those from `row` on.
    pub(crate) fn from(self, row: usize) -> Self {
        Self {
            bits: &self.bits[row..],
            values: &self.values[row * self.value_count..],
            times: self.times.get(row..).unwrap_or(&[]),
            ..self
        }
    }

    pub(crate) fn values(self, row: usize) -> &'a [u32] {
        &self.values[row * self.value_count..][..self.value_count]
    }
}

/// Turns a square of 8 by 8 bits: bit `i` of byte `v` becomes bit `v` of byte `i`. After Warren, "Hacker's Delight", section 7-3.
fn transpose(square: u64) -> u64 {
    let mut square = square;
    for (shift, mask) in [(7, 0x00aa_00aa_00aa_00aa), (14, 0x0000_cccc_0000_cccc), (28, 0x0000_0000_f0f0_f0f0)] {
        let swapped = (square ^ square >> shift) & mask;
        square ^= swapped ^ swapped << shift;
    }
    square
}
