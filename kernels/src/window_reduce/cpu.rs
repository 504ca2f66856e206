//! The twin: a line of 64 rows at a time, one for each lane, each reduction a loop over the line.
//!
//! Sums of 64-bit integers are kept as sums of their low and of their high halves, which vector units add without carries; the carry is
//! made up for once for each group.

use super::{Batch, Cells, LANES, PIECE_ROWS, ValueKind, Values, order_of_float};
use crate::state::StatePages;
use multiversion::multiversion;
use std::ops::Range;

/// What a group of rows adds to its cell, apart from sums of floats.
struct Reduced<T, S> {
    count: u64,
    sum: S,
    min: T,
    max: T,
}

/// One cell's words, read and written at their stride in the page.
struct Cell<'a> {
    page: &'a mut [u32],
    slot: usize,
    slots_per_page: usize,
}

impl Cell<'_> {
    fn word(&mut self, word: usize) -> &mut u32 {
        &mut self.page[word * self.slots_per_page + self.slot]
    }

    fn add_count(&mut self, count: u64) {
        let sum = (u64::from(*self.word(1)) << 32 | u64::from(*self.word(0))).wrapping_add(count);
        (*self.word(0), *self.word(1)) = (sum as u32, (sum >> 32) as u32);
    }

    /// Adds a number of `count` words, lowest first.
    fn add_words(&mut self, first: usize, words: impl Iterator<Item = u32>) {
        let mut carry = 0;
        for (word, added) in (first..).zip(words) {
            let sum = u64::from(*self.word(word)) + u64::from(added) + carry;
            *self.word(word) = sum as u32;
            carry = sum >> 32;
        }
    }

    fn set_words(&mut self, first: usize, words: impl Iterator<Item = u32>) {
        (first..).zip(words).for_each(|(word, value)| *self.word(word) = value);
    }

    fn words(&mut self, range: Range<usize>) -> [u32; 4] {
        let mut words = [0; 4];
        range.zip(&mut words).for_each(|(word, value)| *value = *self.word(word));
        words
    }

    fn f32(&mut self, word: usize) -> f32 {
        f32::from_bits(*self.word(word))
    }
}

fn i64_of(words: [u32; 4]) -> i64 {
    (u64::from(words[1]) << 32 | u64::from(words[0])) as i64
}

fn i128_of(words: [u32; 4]) -> i128 {
    words.iter().rev().fold(0u128, |value, &word| value << 32 | u128::from(word)) as i128
}

fn words_of(value: i128) -> impl Iterator<Item = u32> {
    // The fifth word is the sign.
    (0..5).map(move |word| (value >> (32 * word).min(127)) as u32)
}

pub(super) fn run(kind: ValueKind, batch: &Batch, state: &mut StatePages) -> Cells {
    let cell_words = kind.cell_words();
    let slots_per_page = state.shape().slots_per_page();
    let mut out = Vec::with_capacity(batch.rows.slots().len() * cell_words);
    let mut sums = Sums::default();
    for (slot, rows) in batch.rows.groups() {
        let (page, slot) = (slot as usize / slots_per_page, slot as usize % slots_per_page);
        let mut cell = Cell { page: state.page_mut(page), slot, slots_per_page };
        match &batch.values {
            Values::Int64(values) => merge_i64(batch, values, rows, &mut cell, &mut sums),
            Values::Decimal128(values) => merge_i128(batch, values, rows, &mut cell, &mut sums),
            Values::Float32(values) => merge_f32(batch, values, rows, &mut cell, &mut sums),
        }
        out.extend((0..cell_words).map(|word| *cell.word(word)));
    }
    Cells { kind, words: out }
}

fn merge_i64(batch: &Batch, values: &[i64], rows: Range<usize>, cell: &mut Cell<'_>, sums: &mut Sums) {
    let Reduced { count, sum, min, max } = reduce_i64(batch, values, rows, sums);
    let squares = cell.f32(9) + total(&mut sums.squares);
    cell.add_count(count);
    cell.add_words(2, words_of(sum).take(3));
    let (min, max) = (min.min(i64_of(cell.words(5..7))), max.max(i64_of(cell.words(7..9))));
    cell.set_words(5, words_of(i128::from(min)).take(2));
    cell.set_words(7, words_of(i128::from(max)).take(2));
    cell.set_words(9, std::iter::once(squares.to_bits()));
}

fn merge_i128(batch: &Batch, values: &[i128], rows: Range<usize>, cell: &mut Cell<'_>, sums: &mut Sums) {
    let Reduced { count, sum, min, max } = reduce_i128(batch, values, rows, sums);
    let squares = cell.f32(15) + total(&mut sums.squares);
    cell.add_count(count);
    let (low, high) = sum;
    cell.add_words(2, words_of(low as i128).take(4).chain(std::iter::once(high as u32)));
    let (min, max) = (min.min(i128_of(cell.words(7..11))), max.max(i128_of(cell.words(11..15))));
    cell.set_words(7, words_of(min).take(4));
    cell.set_words(11, words_of(max).take(4));
    cell.set_words(15, std::iter::once(squares.to_bits()));
}

fn merge_f32(batch: &Batch, values: &[f32], rows: Range<usize>, cell: &mut Cell<'_>, sums: &mut Sums) {
    let Reduced { count, min, max, .. } = reduce_f32(batch, values, rows, sums);
    let (sum, squares) = (cell.f32(2) + total(&mut sums.values), cell.f32(5) + total(&mut sums.squares));
    cell.add_count(count);
    let (min, max) = (min.min(*cell.word(3)), max.max(*cell.word(4)));
    cell.set_words(2, [sum.to_bits(), min, max, squares.to_bits()].into_iter());
}

/// The bits of up to 64 rows from `row` on, ones after them cut off.
#[inline(always)]
fn valid_bits(batch: &Batch, row: usize, rows: usize) -> u64 {
    let all = if rows == 64 { u64::MAX } else { (1 << rows) - 1 };
    if batch.valid.is_empty() {
        return all;
    }
    let word = |index: usize| u128::from(batch.valid.get(row / 32 + index).copied().unwrap_or(0));
    ((word(0) | word(1) << 32 | word(2) << 64) >> (row % 32)) as u64 & all
}

/// The line's values, and 0 for rows that are not there or have none.
#[inline(always)]
fn line_of<T: Copy + Default>(values: &[T], valid: u64) -> [T; LANES] {
    let mut line = [T::default(); LANES];
    line[..values.len()].copy_from_slice(values);
    if valid != u64::MAX {
        for (lane, value) in line.iter_mut().enumerate() {
            *value = if valid >> lane & 1 == 1 { *value } else { T::default() };
        }
    }
    line
}

#[inline(always)]
fn add_line(lanes: &mut [f32; LANES], line: &[f32; LANES]) {
    lanes.iter_mut().zip(line).for_each(|(lane, value)| *lane += *value);
}

/// The sum of the lanes.
#[inline(always)]
fn halve(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes[..2 * half].split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        half /= 2;
    }
    lanes[0]
}

/// The sums of a cell's pieces; kept from cell to cell for its memory.
#[derive(Default)]
struct Sums {
    values: Vec<f32>,
    squares: Vec<f32>,
}

/// Adds the sums of pieces as rows are added, until one is left, and takes them all.
fn total(sums: &mut Vec<f32>) -> f32 {
    while sums.len() > 1 {
        let piece = |piece: &[f32]| {
            let mut lanes = [0.0; LANES];
            piece.chunks(LANES).for_each(|line| add_line(&mut lanes, &line_of(line, u64::MAX)));
            halve(lanes)
        };
        *sums = sums.chunks(PIECE_ROWS).map(piece).collect();
    }
    sums.pop().unwrap_or(0.0)
}

/// The square of an integer in `f32`, by the words of its magnitude (in two's complement they would cancel), as a device does it.
#[inline(always)]
fn square_of_i64(value: i64) -> f32 {
    let magnitude = value.unsigned_abs();
    let float = (magnitude >> 32) as u32 as f32 * 4_294_967_296.0 + magnitude as u32 as f32;
    float * float
}

/// The same of four words.
#[inline(always)]
fn square_of_i128(value: i128) -> f32 {
    let magnitude = value.unsigned_abs();
    let word = |word: u32| (magnitude >> (32 * word)) as u32 as f32;
    let high = (word(3) * 4_294_967_296.0 + word(2)) * 4_294_967_296.0;
    let float = (high + word(1)) * 4_294_967_296.0 + word(0);
    float * float
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn reduce_i64(batch: &Batch, values: &[i64], rows: Range<usize>, sums: &mut Sums) -> Reduced<i64, i128> {
    let mut reduced = Reduced { count: 0, sum: 0i128, min: i64::MAX, max: i64::MIN };
    let (mut low, mut high) = (0u64, 0i64);
    for piece in rows.clone().step_by(PIECE_ROWS) {
        let piece_end = (piece + PIECE_ROWS).min(rows.end);
        let mut squares = [0.0; LANES];
        for first in (piece..piece_end).step_by(LANES) {
            let end = (first + LANES).min(piece_end);
            let valid = valid_bits(batch, first, end - first);
            let line = line_of(&values[first..end], valid);
            reduced.count += u64::from(valid.count_ones());
            for &value in &line {
                low += value as u64 & 0xffff_ffff;
                high += value >> 32;
            }
            if valid == u64::MAX {
                for &value in &line {
                    reduced.min = reduced.min.min(value);
                    reduced.max = reduced.max.max(value);
                }
            } else {
                for (lane, &value) in line.iter().enumerate() {
                    let there = valid >> lane & 1 == 1;
                    reduced.min = reduced.min.min(if there { value } else { i64::MAX });
                    reduced.max = reduced.max.max(if there { value } else { i64::MIN });
                }
            }
            add_line(&mut squares, &line.map(square_of_i64));
        }
        sums.squares.push(halve(squares));
    }
    reduced.sum = (i128::from(high) << 32) + i128::from(low);
    reduced
}

/// The sum is its low 128 bits, and what is above them.
fn reduce_i128(batch: &Batch, values: &[i128], rows: Range<usize>, sums: &mut Sums) -> Reduced<i128, (u128, i64)> {
    let mut reduced = Reduced { count: 0, sum: (0u128, 0i64), min: i128::MAX, max: i128::MIN };
    for piece in rows.clone().step_by(PIECE_ROWS) {
        let piece_end = (piece + PIECE_ROWS).min(rows.end);
        let mut squares = [0.0; LANES];
        for first in (piece..piece_end).step_by(LANES) {
            let end = (first + LANES).min(piece_end);
            let valid = valid_bits(batch, first, end - first);
            for (lane, &value) in values[first..end].iter().enumerate().filter(|(lane, _)| valid >> lane & 1 == 1) {
                reduced.count += 1;
                let (low, carried) = reduced.sum.0.overflowing_add(value as u128);
                reduced.sum = (low, reduced.sum.1 + (value >> 127) as i64 + i64::from(carried));
                reduced.min = reduced.min.min(value);
                reduced.max = reduced.max.max(value);
                squares[lane] += square_of_i128(value);
            }
        }
        sums.squares.push(halve(squares));
    }
    reduced
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn reduce_f32(batch: &Batch, values: &[f32], rows: Range<usize>, sums: &mut Sums) -> Reduced<u32, ()> {
    let mut reduced = Reduced { count: 0, sum: (), min: u32::MAX, max: 0 };
    for piece in rows.clone().step_by(PIECE_ROWS) {
        let piece_end = (piece + PIECE_ROWS).min(rows.end);
        let (mut added, mut squares) = ([0.0; LANES], [0.0; LANES]);
        for first in (piece..piece_end).step_by(LANES) {
            let end = (first + LANES).min(piece_end);
            let valid = valid_bits(batch, first, end - first);
            let line = line_of(&values[first..end], valid);
            reduced.count += u64::from(valid.count_ones());
            for (lane, &value) in line.iter().enumerate() {
                let there = valid >> lane & 1 == 1;
                let order = order_of_float(value);
                reduced.min = reduced.min.min(if there { order } else { u32::MAX });
                reduced.max = reduced.max.max(if there { order } else { 0 });
            }
            add_line(&mut added, &line);
            add_line(&mut squares, &line.map(|value| value * value));
        }
        sums.values.push(halve(added));
        sums.squares.push(halve(squares));
    }
    reduced
}
