//! Sums, averages and variances of doubles.
//!
//! How rows were batched, sharded and taken back must not show in the answer. So a sum is kept as two doubles: the rounded sum, and
//! the sum of all rounding errors, each of which is itself exact (TwoSum: Knuth; Neumaier's variant of Kahan's sum). A variance is
//! kept as the sums of x and of x squared in that form, squares with the error of their rounding (TwoProduct by fused multiply-add):
//! about 106 bits leave enough after the cancellation that makes the textbook formula useless in plain doubles, and unlike Welford's
//! recurrence the sums are linear, so that rows can be taken back. NaN and the infinities are counted apart: retracting one heals the sum.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Float64Array};
use arrow::datatypes::{DataType, Float64Type};

use super::select::{Selection, as_counts, counts, natives, nulls};
use super::{Accumulators, RowInfo, Slots};
use crate::error::{EngineError, Result};

/// An unevaluated sum of two doubles.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct DoubleDouble {
    high: f64,
    low: f64,
}

impl DoubleDouble {
    /// As it was taken apart by [`parts`](Self::parts).
    pub(crate) fn of_parts(high: f64, low: f64) -> Self {
        Self { high, low }
    }

    /// An integer, exactly if it has up to 106 bits.
    pub(crate) fn of_integer(value: i128) -> Self {
        let high = value as f64;
        Self { high, low: value.wrapping_sub(high as i128) as f64 }
    }

    /// The rounded sum and the sum of all rounding errors.
    pub(crate) fn parts(self) -> (f64, f64) {
        (self.high, self.low)
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, value: f64) {
        let (sum, error) = two_sum(self.high, value);
        self.high = sum;
        self.low += error;
    }

    #[inline(always)]
    fn add_product(&mut self, a: f64, b: f64) {
        let product = a * b;
        self.add(product);
        self.low += a.mul_add(b, -product);
    }

    #[inline(always)]
    pub(crate) fn merge(&mut self, other: Self) {
        self.add(other.high);
        self.low += other.low;
    }

    /// The nearest double. An overflow stays an infinity.
    pub(crate) fn value(self) -> f64 {
        if self.high.is_finite() { self.high + self.low } else { self.high }
    }

    fn normal(self) -> Self {
        let (high, low) = two_sum(self.high, self.low);
        Self { high, low }
    }

    fn square(self) -> Self {
        let product = self.high * self.high;
        let error = self.high.mul_add(self.high, -product) + 2.0 * self.high * self.low;
        Self { high: product, low: error }.normal()
    }

    fn divide(self, divisor: f64) -> Self {
        let quotient = self.high / divisor;
        let remainder = quotient.mul_add(-divisor, self.high) + self.low;
        Self { high: quotient, low: remainder / divisor }.normal()
    }

    fn subtract(self, other: Self) -> f64 {
        let (high, error) = two_sum(self.high, -other.high);
        high + (error + (self.low - other.low))
    }
}

/// The sum of some values and that of their squares, from those of what they are beyond `base`.
pub(crate) fn sums_around(base: f64, count: u64, sum: f64, squares: f64) -> (DoubleDouble, DoubleDouble) {
    let count = count as f64;
    let (mut total, mut total_squares) = (DoubleDouble::default(), DoubleDouble::default());
    total.add_product(base, count);
    total.add(sum);
    // The square of the base has two doubles.
    let square = base * base;
    total_squares.add_product(square, count);
    total_squares.add_product(base.mul_add(base, -square), count);
    total_squares.add_product(2.0 * base, sum);
    total_squares.add(squares);
    (total, total_squares)
}

#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    let a_part = sum - b_part;
    (sum, (a - a_part) + (b - b_part))
}

/// How many NaNs, positive and negative infinities each slot has; nothing is allocated before the first of them.
#[derive(Default)]
struct Specials {
    counts: Vec<[i64; 3]>,
}

impl Specials {
    #[cold]
    fn add(&mut self, slot: u32, value: f64, weight: i64) {
        let kind = if value.is_nan() { 0 } else { 1 + usize::from(value < 0.0) };
        self.entry(slot)[kind] += weight;
    }

    fn entry(&mut self, slot: u32) -> &mut [i64; 3] {
        if slot as usize >= self.counts.len() {
            self.counts.resize(slot as usize + 1, [0; 3]);
        }
        &mut self.counts[slot as usize]
    }

    fn get(&self, slot: usize) -> [i64; 3] {
        self.counts.get(slot).copied().unwrap_or_default()
    }

    /// What the sum is where there are any.
    fn sum(&self, slot: usize) -> Option<f64> {
        match self.get(slot) {
            [0, 0, 0] => None,
            [nan, positive, negative] if nan != 0 || (positive != 0 && negative != 0) => Some(f64::NAN),
            [_, 0, _] => Some(f64::NEG_INFINITY),
            _ => Some(f64::INFINITY),
        }
    }

    /// Three little-endian counts for slots that have any, null for the rest.
    fn state(&self, slots: Slots<'_>) -> ArrayRef {
        if self.counts.is_empty() {
            return arrow::array::new_null_array(&DataType::Binary, slots.count());
        }
        let mut builder = BinaryBuilder::new();
        for slot in slots.iter() {
            match self.get(slot) {
                [0, 0, 0] => builder.append_null(),
                counts => builder.append_value(counts.map(i64::to_le_bytes).as_flattened()),
            }
        }
        Arc::new(builder.finish())
    }

    fn merge(&mut self, slots: &[u32], column: &ArrayRef) -> Result<()> {
        let column = column.as_binary::<i32>();
        if column.null_count() == column.len() {
            return Ok(());
        }
        for (slot, bytes) in slots.iter().zip(column) {
            let Some(bytes) = bytes else { continue };
            if bytes.len() != 24 {
                return Err(EngineError::bug(format!("a state of special floats has {} bytes", bytes.len())));
            }
            let entry = self.entry(*slot);
            for (count, bytes) in entry.iter_mut().zip(bytes.chunks_exact(8)) {
                *count += i64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
            }
        }
        Ok(())
    }

    fn clear(&mut self, slots: Slots<'_>) {
        match slots {
            Slots::First(count) if count >= self.counts.len() => self.counts.clear(),
            slots => slots.iter().for_each(|slot| {
                if let Some(counts) = self.counts.get_mut(slot) {
                    *counts = [0; 3];
                }
            }),
        }
    }
}

/// `sum` and `avg` of doubles.
pub(crate) struct FloatSums {
    entries: Vec<SumEntry>,
    specials: Specials,
    average: bool,
}

#[derive(Clone, Copy, Default)]
struct SumEntry {
    sum: DoubleDouble,
    count: i64,
}

impl FloatSums {
    pub(crate) fn new(average: bool) -> Self {
        Self { entries: Vec::new(), specials: Specials::default(), average }
    }
}

impl Accumulators for FloatSums {
    fn resize(&mut self, count: usize) {
        if count > self.entries.len() {
            self.entries.resize(count, SumEntry::default());
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = natives::<f64>(&args[0], &DataType::Float64)?;
        let selection = Selection::of(args, rows);
        let specials = &mut self.specials;
        if selection.is_all() {
            for (slot, value) in slots.iter().zip(values.iter()) {
                let entry = &mut self.entries[*slot as usize];
                entry.count += 1;
                if value.is_finite() {
                    entry.sum.add(*value);
                } else {
                    specials.add(*slot, *value, 1);
                }
            }
            return Ok(());
        }
        selection.each(slots.len(), |row, weight| {
            let entry = &mut self.entries[slots[row] as usize];
            entry.count += weight;
            match (values[row], weight) {
                (value, weight) if !value.is_finite() => specials.add(slots[row], value, weight),
                (value, 1) => entry.sum.add(value),
                (value, -1) => entry.sum.add(-value),
                (value, weight) => entry.sum.add_product(value, weight as f64),
            }
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let high = state[0].as_primitive::<Float64Type>().values();
        let low = state[1].as_primitive::<Float64Type>().values();
        for (((slot, high), low), count) in slots.iter().zip(high).zip(low).zip(as_counts(&state[2])) {
            let entry = &mut self.entries[*slot as usize];
            entry.sum.merge(DoubleDouble { high: *high, low: *low });
            entry.count += count;
        }
        self.specials.merge(slots, &state[3])
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        Ok(vec![
            Arc::new(Float64Array::from(slots.gather(&self.entries, |entry| entry.sum.high))),
            Arc::new(Float64Array::from(slots.gather(&self.entries, |entry| entry.sum.low))),
            counts(slots.gather(&self.entries, |entry| entry.count)),
            self.specials.state(slots),
        ])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let valid = nulls(slots.gather(&self.entries, |entry| entry.count != 0));
        let average = self.average;
        let finish = |sum: f64, count: i64| if average && count != 0 { sum / count as f64 } else { sum };
        let mut results = slots.gather(&self.entries, |entry| finish(entry.sum.value(), entry.count));
        if !self.specials.counts.is_empty() {
            for (result, slot) in results.iter_mut().zip(slots.iter()) {
                if let Some(special) = self.specials.sum(slot) {
                    *result = special;
                }
            }
        }
        Ok(Arc::new(Float64Array::new(results.into(), valid)))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.entries, SumEntry::default());
        self.specials.clear(slots);
    }

    fn state_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<SumEntry>() + self.specials.counts.capacity() * 24
    }
}

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VarianceKind {
    /// Divide by n - 1.
    pub(crate) sample: bool,
    /// Take the square root.
    pub(crate) root: bool,
}

/// Variances and standard deviations.
pub(crate) struct Variances {
    entries: Vec<VarianceEntry>,
    specials: Specials,
    kind: VarianceKind,
}

/// What a variance is kept as: finite values, their squares, and how many there are of them and of others.
#[derive(Clone, Copy, Default)]
pub(crate) struct VarianceEntry {
    pub(crate) sum: DoubleDouble,
    pub(crate) squares: DoubleDouble,
    pub(crate) count: i64,
}

impl VarianceEntry {
    /// A finite value, which is counted by who adds it.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.sum.add(value);
        self.squares.add_product(value, value);
    }

    /// Of too few values anything.
    pub(crate) fn finish(self, kind: VarianceKind) -> f64 {
        let divisor = self.count - i64::from(kind.sample);
        if divisor == 0 || self.count == 0 {
            return f64::NAN;
        }
        let mean_part = self.sum.normal().square().divide(self.count as f64);
        let variance = (self.squares.normal().subtract(mean_part) / divisor as f64).max(0.0);
        if kind.root { variance.sqrt() } else { variance }
    }
}

impl Variances {
    pub(crate) fn new(kind: VarianceKind) -> Self {
        Self { entries: Vec::new(), specials: Specials::default(), kind }
    }
}

impl Accumulators for Variances {
    fn resize(&mut self, count: usize) {
        if count > self.entries.len() {
            self.entries.resize(count, VarianceEntry::default());
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = natives::<f64>(&args[0], &DataType::Float64)?;
        Selection::of(args, rows).each(slots.len(), |row, weight| {
            let entry = &mut self.entries[slots[row] as usize];
            let value = values[row];
            entry.count += weight;
            if !value.is_finite() {
                self.specials.add(slots[row], value, weight);
            } else if weight == 1 {
                entry.add(value);
            } else if weight == -1 {
                entry.sum.add(-value);
                entry.squares.add_product(-value, value);
            } else {
                // The square of a double has two doubles; each is multiplied by the weight without error.
                let weight = weight as f64;
                let square = value * value;
                entry.sum.add_product(value, weight);
                entry.squares.add_product(square, weight);
                entry.squares.add_product(value.mul_add(value, -square), weight);
            }
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let column = |index: usize| state[index].as_primitive::<Float64Type>().values().as_ref();
        let (high, low, square_high, square_low) = (column(0), column(1), column(2), column(3));
        let count = as_counts(&state[4]);
        for (row, slot) in slots.iter().enumerate() {
            let entry = &mut self.entries[*slot as usize];
            entry.sum.merge(DoubleDouble { high: high[row], low: low[row] });
            entry.squares.merge(DoubleDouble { high: square_high[row], low: square_low[row] });
            entry.count += count[row];
        }
        self.specials.merge(slots, &state[5])
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        Ok(vec![
            Arc::new(Float64Array::from(slots.gather(&self.entries, |entry| entry.sum.high))),
            Arc::new(Float64Array::from(slots.gather(&self.entries, |entry| entry.sum.low))),
            Arc::new(Float64Array::from(slots.gather(&self.entries, |entry| entry.squares.high))),
            Arc::new(Float64Array::from(slots.gather(&self.entries, |entry| entry.squares.low))),
            counts(slots.gather(&self.entries, |entry| entry.count)),
            self.specials.state(slots),
        ])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let kind = self.kind;
        let valid = nulls(slots.gather(&self.entries, |entry| entry.count > i64::from(kind.sample)));
        let mut results = slots.gather(&self.entries, |entry| entry.finish(kind));
        if !self.specials.counts.is_empty() {
            for (result, slot) in results.iter_mut().zip(slots.iter()) {
                if self.specials.get(slot) != [0; 3] {
                    *result = f64::NAN;
                }
            }
        }
        Ok(Arc::new(Float64Array::new(results.into(), valid)))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.entries, VarianceEntry::default());
        self.specials.clear(slots);
    }

    fn state_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<VarianceEntry>() + self.specials.counts.capacity() * 24
    }
}
