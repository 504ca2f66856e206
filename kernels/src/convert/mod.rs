//! Columns to device words in one pass.
//!
//! What goes to a device is read once from the column's buffer and written once into mapped staging. Narrowing rides on that pass and
//! costs nothing beside the memory it moves, and it halves what crosses the bus: a timestamp becomes a base and a `u32` delta, an
//! `f64` becomes an `f32` centred on a base, so that 1e9 + 1 and 1e9 + 2 stay apart. Bits (validity, booleans, predicates) begin at
//! any bit, as those of sliced columns do, and come out as whole words.
//!
//! Grouping by key rides along too: the `gather_` forms read rows in the order that [`GroupedRows`](crate::rows::GroupedRows) gives,
//! so that a column is never written in the order of arrival first. Writes ascend and staging is never read, because mapped memory of
//! a discrete card is slow to read and wants whole lines.
//!
//! This room knows no Arrow: a column is a slice of values with the bits of its validity. The loops are written for the compiler to
//! vectorise; blocks of 64 rows share one word of validity, so a column with few nulls costs what one without them does.

mod bits;
mod number;
mod time;

#[cfg(test)]
mod tests;

pub use bits::Bits;
pub use time::SpanTooLong;

/// Instruction sets that loops of this module are compiled for; the best that the machine has is chosen when first called.
macro_rules! vectorised {
    ($($function:item)*) => {
        $(
            #[multiversion::multiversion(targets(
                "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma+bmi1+bmi2+lzcnt+popcnt",
                "x86_64+avx2+fma+bmi1+bmi2+lzcnt+popcnt",
            ))]
            $function
        )*
    };
}
use vectorised;

/// Values of one column as they lie in memory, and which of them are not null.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a, T> {
    values: &'a [T],
    validity: Option<Bits<'a>>,
}

impl<'a, T: Copy> Column<'a, T> {
    /// A column without nulls.
    pub fn new(values: &'a [T]) -> Self {
        Column { values, validity: None }
    }

    /// A column of which row `r` is null when bit `r` of `validity` is 0; what lies in `values` there is never looked at.
    ///
    /// # Panics
    /// When there are not as many bits as values.
    pub fn with_validity(values: &'a [T], validity: Bits<'a>) -> Self {
        assert_eq!(values.len(), validity.len(), "one bit of validity for each value");
        Column { values, validity: Some(validity) }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of a row, unless it is null.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn get(&self, row: usize) -> Option<T> {
        let value = self.values[row];
        self.validity.is_none_or(|validity| validity.get(row)).then_some(value)
    }
}

/// `out[row] = map(value)`, or `null` where the row is null. Inlined into a vectorised function.
#[inline(always)]
fn map_rows<T: Copy>(column: Column<'_, T>, out: &mut [u32], null: u32, mut map: impl FnMut(T) -> u32) {
    let Some(validity) = column.validity else {
        for (out, &value) in out.iter_mut().zip(column.values) {
            *out = map(value);
        }
        return;
    };
    for (block, (out, values)) in out.chunks_mut(64).zip(column.values.chunks(64)).enumerate() {
        let valid = validity.block(block);
        if valid == u64::MAX || values.len() < 64 && valid == (1 << values.len()) - 1 {
            for (out, &value) in out.iter_mut().zip(values) {
                *out = map(value);
            }
        } else {
            for (row, (out, &value)) in out.iter_mut().zip(values).enumerate() {
                *out = if valid >> row & 1 == 1 { map(value) } else { null };
            }
        }
    }
}

/// `out[place] = map(value of row order[place])`, or `null` where that row is null. Inlined into a vectorised function.
#[inline(always)]
fn gather_rows<T: Copy>(
    column: Column<'_, T>,
    order: &[u32],
    out: &mut [u32],
    null: u32,
    mut map: impl FnMut(T) -> u32,
) {
    let values = column.values;
    match column.validity {
        None => {
            for (out, &row) in out.iter_mut().zip(order) {
                *out = map(values[row as usize]);
            }
        }
        Some(validity) => {
            for (out, &row) in out.iter_mut().zip(order) {
                let row = row as usize;
                let value = values[row];
                *out = if validity.get(row) { map(value) } else { null };
            }
        }
    }
}

fn check_room(rows: usize, words_per_row: usize, out: &[u32]) {
    assert_eq!(rows * words_per_row, out.len(), "the staging slice has {words_per_row} word(s) for each row");
}
