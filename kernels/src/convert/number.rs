//! Floats centred on a base, and integers as words.

use super::{Column, check_room, gather_rows, map_rows, vectorised};
use crate::rows::GroupedRows;

/// What a null row of a float column becomes: the quiet NaN. Kernels tell it by its bits, because shaders may not compare NaN.
const NULL_F32: u32 = 0x7fc0_0000;

impl Column<'_, f64> {
    /// Writes the bits of `(value - base) as f32`, rounded once at the end; null rows give NaN.
    ///
    /// # Panics
    /// When `out` does not have a word for each row.
    pub fn centred(&self, base: f64, out: &mut [u32]) {
        check_room(self.len(), 1, out);
        centre(*self, base, out);
    }

    /// As [`centred`](Self::centred), with the base of each row's key: row `r` is centred on `bases[slots[r]]`.
    ///
    /// # Panics
    /// When `slots` and `out` do not have an entry for each row, or a slot has no base.
    pub fn centred_by_key(&self, slots: &[u32], bases: &[f64], out: &mut [u32]) {
        check_room(self.len(), 1, out);
        assert_eq!(slots.len(), self.len(), "one slot for each row");
        centre_by_key(*self, slots, bases, out);
    }

    /// As [`centred`](Self::centred), in the order of `order`.
    ///
    /// # Panics
    /// When `out` does not have a word for each entry of `order`, or `order` names a row that is not there.
    pub fn gather_centred(&self, order: &[u32], base: f64, out: &mut [u32]) {
        check_room(order.len(), 1, out);
        gather_centre(*self, order, base, out);
    }

    /// Groups the rows by key and centres the `i`-th group on `bases[i]`, in one pass.
    ///
    /// # Panics
    /// When there is not a base for each group and a word for each row, or the grouping names a row that is not there.
    pub fn gather_centred_by_key(&self, rows: &GroupedRows, bases: &[f64], out: &mut [u32]) {
        check_room(rows.row_count(), 1, out);
        assert_eq!(rows.slots().len(), bases.len(), "one base for each group");
        gather_centre_by_key(*self, rows.order(), rows.offsets(), bases, out);
    }
}

impl Column<'_, f32> {
    /// Writes the bits of each value; null rows give NaN.
    ///
    /// # Panics
    /// When `out` does not have a word for each row.
    pub fn words(&self, out: &mut [u32]) {
        check_room(self.len(), 1, out);
        float_words(*self, out);
    }

    /// As [`words`](Self::words), in the order of `order`.
    ///
    /// # Panics
    /// When `out` does not have a word for each entry of `order`, or `order` names a row that is not there.
    pub fn gather_words(&self, order: &[u32], out: &mut [u32]) {
        check_room(order.len(), 1, out);
        gather_float_words(*self, order, out);
    }
}

macro_rules! integers {
    ($($integer:ty, $words_per_row:literal, $write:ident, $gather:ident, $doc:literal;)*) => {
        $(
            impl Column<'_, $integer> {
                #[doc = $doc]
                ///
                /// # Panics
                /// When `out` does not have that many words for each row.
                pub fn words(&self, out: &mut [u32]) {
                    check_room(self.len(), $words_per_row, out);
                    $write(*self, out);
                }

                /// As [`words`](Self::words), in the order of `order`.
                ///
                /// # Panics
                /// When `out` does not have that many words for each entry of `order`, or `order` names a row that is not there.
                pub fn gather_words(&self, order: &[u32], out: &mut [u32]) {
                    check_room(order.len(), $words_per_row, out);
                    $gather(*self, order, out);
                }
            }
        )*
    };
}

integers! {
    i32, 1, int_words, gather_int_words, "Writes each value as one word (two's complement); null rows give 0.";
    u32, 1, id_words, gather_id_words, "Writes each value as one word; null rows give 0.";
    i64, 2, long_words, gather_long_words, "Writes each value as two words, the low one first; null rows give 0.";
    i128, 4, wide_words, gather_wide_words, "Writes each value (a decimal) as four words, the lowest first; null rows give 0.";
}

#[inline(always)]
fn centred_bits(value: f64, base: f64) -> u32 {
    ((value - base) as f32).to_bits()
}

/// Several words a row: the same as [`map_rows`] and [`gather_rows`] with a value that is 0 where the row is null.
#[inline(always)]
fn split_rows<T: Copy, const N: usize>(column: Column<'_, T>, out: &mut [u32], split: impl Fn(T) -> [u32; N]) {
    let (out, _) = out.as_chunks_mut::<N>();
    match column.validity {
        None => {
            for (out, &value) in out.iter_mut().zip(column.values) {
                *out = split(value);
            }
        }
        Some(validity) => {
            for (block, (out, values)) in out.chunks_mut(64).zip(column.values.chunks(64)).enumerate() {
                let valid = validity.block(block);
                for (row, (out, &value)) in out.iter_mut().zip(values).enumerate() {
                    let keep = ((valid >> row & 1) as u32).wrapping_neg();
                    *out = split(value).map(|word| word & keep);
                }
            }
        }
    }
}

#[inline(always)]
fn gather_split_rows<T: Copy, const N: usize>(
    column: Column<'_, T>,
    order: &[u32],
    out: &mut [u32],
    split: impl Fn(T) -> [u32; N],
) {
    let (out, _) = out.as_chunks_mut::<N>();
    for (out, &row) in out.iter_mut().zip(order) {
        let row = row as usize;
        let words = split(column.values[row]);
        *out = if column.validity.is_none_or(|validity| validity.get(row)) { words } else { [0; N] };
    }
}

#[inline(always)]
fn long_split(value: i64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[inline(always)]
fn wide_split(value: i128) -> [u32; 4] {
    [value as u32, (value >> 32) as u32, (value >> 64) as u32, (value >> 96) as u32]
}

vectorised! {
    fn centre(column: Column<'_, f64>, base: f64, out: &mut [u32]) {
        map_rows(column, out, NULL_F32, |value| centred_bits(value, base));
    }

    fn gather_centre(column: Column<'_, f64>, order: &[u32], base: f64, out: &mut [u32]) {
        gather_rows(column, order, out, NULL_F32, |value| centred_bits(value, base));
    }

    fn centre_by_key(column: Column<'_, f64>, slots: &[u32], bases: &[f64], out: &mut [u32]) {
        let mut slots = slots.chunks(64);
        match column.validity {
            None => {
                for ((out, &value), &slot) in out.iter_mut().zip(column.values).zip(slots.by_ref().flatten()) {
                    *out = centred_bits(value, bases[slot as usize]);
                }
            }
            Some(validity) => {
                for (block, ((out, values), slots)) in out.chunks_mut(64).zip(column.values.chunks(64)).zip(slots).enumerate() {
                    let valid = validity.block(block);
                    for (row, ((out, &value), &slot)) in out.iter_mut().zip(values).zip(slots).enumerate() {
                        let centred = centred_bits(value, bases[slot as usize]);
                        *out = if valid >> row & 1 == 1 { centred } else { NULL_F32 };
                    }
                }
            }
        }
    }

    fn gather_centre_by_key(column: Column<'_, f64>, order: &[u32], offsets: &[u32], bases: &[f64], out: &mut [u32]) {
        for (group, &base) in offsets.windows(2).zip(bases) {
            let rows = group[0] as usize..group[1] as usize;
            gather_rows(column, &order[rows.clone()], &mut out[rows], NULL_F32, |value| centred_bits(value, base));
        }
    }

    fn float_words(column: Column<'_, f32>, out: &mut [u32]) {
        map_rows(column, out, NULL_F32, f32::to_bits);
    }

    fn gather_float_words(column: Column<'_, f32>, order: &[u32], out: &mut [u32]) {
        gather_rows(column, order, out, NULL_F32, f32::to_bits);
    }

    fn int_words(column: Column<'_, i32>, out: &mut [u32]) {
        map_rows(column, out, 0, |value| value as u32);
    }

    fn gather_int_words(column: Column<'_, i32>, order: &[u32], out: &mut [u32]) {
        gather_rows(column, order, out, 0, |value| value as u32);
    }

    fn id_words(column: Column<'_, u32>, out: &mut [u32]) {
        map_rows(column, out, 0, |value| value);
    }

    fn gather_id_words(column: Column<'_, u32>, order: &[u32], out: &mut [u32]) {
        gather_rows(column, order, out, 0, |value| value);
    }

    fn long_words(column: Column<'_, i64>, out: &mut [u32]) {
        split_rows(column, out, long_split);
    }

    fn gather_long_words(column: Column<'_, i64>, order: &[u32], out: &mut [u32]) {
        gather_split_rows(column, order, out, long_split);
    }

    fn wide_words(column: Column<'_, i128>, out: &mut [u32]) {
        split_rows(column, out, wide_split);
    }

    fn gather_wide_words(column: Column<'_, i128>, order: &[u32], out: &mut [u32]) {
        gather_split_rows(column, order, out, wide_split);
    }
}
