//! `bit_and`, `bit_or`, `bit_xor`.
//!
//! `bit_xor` is its own inverse: a row counts by the parity of its weight. The other two keep the value where rows are only inserted;
//! where rows can be taken back they keep, for each bit, how many rows have it set, which is linear and needs no multiset.

use std::ops::{BitAnd, BitOr, BitXor};
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, Int64Array, PrimitiveArray};
use arrow::datatypes::{DataType, Field, Int64Type};

use super::select::{Selection, as_counts, counts, natives, nulls};
use super::{Accumulators, RowInfo, Slots};
use crate::error::Result;
use crate::hash::Words;

/// An integer with bits.
pub(crate) trait Bits:
    Words + Default + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self>
{
}
impl<T: Words + Default + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self>> Bits for T {}

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BitOperation {
    And,
    Or,
    Xor,
}

/// One value and one count of rows a slot.
pub(crate) struct BitValues<T: ArrowPrimitiveType> {
    /// `(value, rows)`; the value means nothing before the first row.
    entries: Vec<(T::Native, i64)>,
    operation: BitOperation,
}

impl<T: ArrowPrimitiveType<Native: Bits>> BitValues<T> {
    pub(crate) fn new(operation: BitOperation) -> Self {
        Self { entries: Vec::new(), operation }
    }

    fn take_in(&mut self, slot: u32, value: T::Native, weight: i64, count: i64) {
        let (current, rows) = &mut self.entries[slot as usize];
        *current = match self.operation {
            BitOperation::Xor if weight % 2 == 0 => *current,
            BitOperation::Xor => *current ^ value,
            _ if *rows == 0 => value,
            BitOperation::And => *current & value,
            BitOperation::Or => *current | value,
        };
        *rows += count;
    }
}

impl<T: ArrowPrimitiveType<Native: Bits>> Accumulators for BitValues<T> {
    fn resize(&mut self, count: usize) {
        if count > self.entries.len() {
            self.entries.resize(count, Default::default());
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = natives::<T::Native>(&args[0], &T::DATA_TYPE)?;
        Selection::of(args, rows)
            .each(slots.len(), |row, weight| self.take_in(slots[row], values[row], weight, weight));
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let values = state[0].as_primitive::<T>().values();
        let xor = self.operation == BitOperation::Xor;
        for ((slot, value), count) in slots.iter().zip(values.iter()).zip(as_counts(&state[1])) {
            // A count of zero brings nothing, but for bit_xor (a row and the retraction of another).
            if xor || *count != 0 {
                self.take_in(*slot, *value, 1, *count);
            }
        }
        Ok(())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let values = slots.gather(&self.entries, |(value, _)| value);
        let values = PrimitiveArray::<T>::new(values.into(), None);
        Ok(vec![Arc::new(values), counts(slots.gather(&self.entries, |(_, rows)| rows))])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let valid = nulls(slots.gather(&self.entries, |(_, rows)| rows != 0));
        let values = slots.gather(&self.entries, |(value, _)| value);
        Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), valid)))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.entries, Default::default());
    }

    fn state_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(T::Native, i64)>()
    }
}

/// For each slot how many rows it has and, for each bit, how many of them have it set.
pub(crate) struct BitCounts<T: ArrowPrimitiveType> {
    rows: Vec<i64>,
    /// [`WIDTH`](Self::WIDTH) counts a slot, lowest bit first.
    ones: Vec<i64>,
    and: bool,
    native: std::marker::PhantomData<T::Native>,
}

impl<T: ArrowPrimitiveType<Native: Bits>> BitCounts<T> {
    const WIDTH: usize = size_of::<T::Native>() * 8;

    /// `bit_and`, or `bit_or`.
    pub(crate) fn new(and: bool) -> Self {
        Self { rows: Vec::new(), ones: Vec::new(), and, native: std::marker::PhantomData }
    }

    /// The type of the first state column.
    pub(crate) fn state_type() -> DataType {
        DataType::FixedSizeList(Self::item(), Self::WIDTH as i32)
    }

    fn item() -> Arc<Field> {
        Arc::new(Field::new("ones", DataType::Int64, false))
    }
}

impl<T: ArrowPrimitiveType<Native: Bits>> Accumulators for BitCounts<T> {
    fn resize(&mut self, count: usize) {
        if count > self.rows.len() {
            self.rows.resize(count, 0);
            self.ones.resize(count * Self::WIDTH, 0);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = natives::<T::Native>(&args[0], &T::DATA_TYPE)?;
        let mask = u64::MAX >> (64 - Self::WIDTH);
        Selection::of(args, rows).each(slots.len(), |row, weight| {
            let slot = slots[row] as usize;
            self.rows[slot] += weight;
            let mut bits = values[row].to_words()[0] & mask;
            while bits != 0 {
                self.ones[slot * Self::WIDTH + bits.trailing_zeros() as usize] += weight;
                bits &= bits - 1;
            }
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let lists = state[0].as_fixed_size_list();
        for (row, (slot, count)) in slots.iter().zip(as_counts(&state[1])).enumerate() {
            let slot = *slot as usize;
            self.rows[slot] += count;
            let ones = lists.value(row);
            let into = &mut self.ones[slot * Self::WIDTH..][..Self::WIDTH];
            into.iter_mut().zip(ones.as_primitive::<Int64Type>().values()).for_each(|(into, ones)| *into += ones);
        }
        Ok(())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let mut ones = Vec::with_capacity(slots.count() * Self::WIDTH);
        slots.iter().for_each(|slot| ones.extend_from_slice(&self.ones[slot * Self::WIDTH..][..Self::WIDTH]));
        let ones = Arc::new(Int64Array::from(ones));
        let lists =
            FixedSizeListArray::try_new_with_length(Self::item(), Self::WIDTH as i32, ones, None, slots.count())?;
        Ok(vec![Arc::new(lists), counts(slots.gather(&self.rows, |rows| rows))])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let result = |slot: usize| {
            let ones = &self.ones[slot * Self::WIDTH..][..Self::WIDTH];
            let is_set = |count: i64| if self.and { count == self.rows[slot] } else { count != 0 };
            let word = ones.iter().rev().fold(0_u64, |word, count| (word << 1) | u64::from(is_set(*count)));
            T::Native::from_words(&[word, 0, 0, 0])
        };
        let values: Vec<T::Native> = slots.iter().map(result).collect();
        let valid = nulls(slots.gather(&self.rows, |rows| rows != 0));
        Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), valid)))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.rows, 0);
        slots.iter().for_each(|slot| self.ones[slot * Self::WIDTH..][..Self::WIDTH].fill(0));
    }

    fn state_bytes(&self) -> usize {
        (self.rows.capacity() + self.ones.capacity()) * 8
    }
}
