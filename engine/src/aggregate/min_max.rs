//! `min` and `max` where rows are only inserted: the best value so far of each slot.
//!
//! Floats are ordered as by `ORDER BY`: NaN is greater than everything (PostgreSQL's and arrow's rule; what DataFusion's grouped
//! `min` and `max` do with NaN depends on the order of rows). Strings and binaries are ordered by their bytes.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray,
};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, DataType};

use super::select::{Selection, nulls, primitive};
use super::{Accumulators, RowInfo, Slots};
use crate::error::{EngineError, Result};
use crate::hash::Words;
use crate::keys::bytes_column;

/// Extremes of a primitive type: `MAX`, or the minimum.
pub(crate) struct PrimitiveExtremes<T: ArrowPrimitiveType, const MAX: bool> {
    values: Vec<T::Native>,
    seen: Vec<bool>,
    data_type: DataType,
    is_float: bool,
}

impl<T: ArrowPrimitiveType<Native: Words>, const MAX: bool> PrimitiveExtremes<T, MAX> {
    /// What every value beats or equals.
    const START: T::Native = if MAX { T::Native::MIN_TOTAL_ORDER } else { T::Native::MAX_TOTAL_ORDER };

    pub(crate) fn new(data_type: DataType) -> Self {
        let is_float = data_type.is_floating();
        Self { values: Vec::new(), seen: Vec::new(), data_type, is_float }
    }

    #[inline(always)]
    fn take_in(&mut self, slot: u32, value: T::Native) {
        let best = &mut self.values[slot as usize];
        if if MAX { value.is_gt(*best) } else { value.is_lt(*best) } {
            *best = value;
        }
        self.seen[slot as usize] = true;
    }

    fn all(&mut self, slots: &[u32], values: &[T::Native]) {
        let (best, seen) = (self.values.as_mut_slice(), self.seen.as_mut_slice());
        for (slot, value) in slots.iter().zip(values) {
            let best = &mut best[*slot as usize];
            *best = if (MAX && value.is_gt(*best)) || (!MAX && value.is_lt(*best)) { *value } else { *best };
            seen[*slot as usize] = true;
        }
    }
}

impl<T: ArrowPrimitiveType<Native: Words>, const MAX: bool> Accumulators for PrimitiveExtremes<T, MAX> {
    fn resize(&mut self, count: usize) {
        if count > self.values.len() {
            self.values.resize(count, Self::START);
            self.seen.resize(count, false);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let mut array = primitive::<T>(&args[0], &self.data_type)?;
        if self.is_float {
            array = array.unary(|value| T::Native::from_words(&value.to_words()));
        }
        let values = array.values();
        let selection = Selection::of(args, RowInfo { weights: None, ..rows });
        if selection.is_all() {
            self.all(slots, values);
        } else {
            selection.each(slots.len(), |row, _| self.take_in(slots[row], values[row]));
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.update(slots, state, RowInfo::default())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let valid = nulls(slots.gather(&self.seen, |seen| seen));
        let values = slots.gather(&self.values, |value| value);
        Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), valid).with_data_type(self.data_type.clone())))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.values, Self::START);
        slots.fill(&mut self.seen, false);
    }

    fn state_bytes(&self) -> usize {
        self.values.capacity() * T::Native::get_byte_width() + self.seen.capacity()
    }
}

/// Extremes of booleans: false is less than true.
pub(crate) struct BooleanExtremes {
    values: Vec<Option<bool>>,
    max: bool,
}

impl BooleanExtremes {
    pub(crate) fn new(max: bool) -> Self {
        Self { values: Vec::new(), max }
    }
}

impl Accumulators for BooleanExtremes {
    fn resize(&mut self, count: usize) {
        if count > self.values.len() {
            self.values.resize(count, None);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = args[0].as_boolean().values();
        let max = self.max;
        Selection::of(args, RowInfo { weights: None, ..rows }).each(slots.len(), |row, _| {
            let best = &mut self.values[slots[row] as usize];
            let value = values.value(row);
            *best = Some(best.map_or(value, |best| if max { best | value } else { best & value }));
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.update(slots, state, RowInfo::default())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        Ok(Arc::new(BooleanArray::from(slots.gather(&self.values, |value| value))))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.values, None);
    }

    fn state_bytes(&self) -> usize {
        self.values.capacity()
    }
}

/// Extremes of strings and binaries.
pub(crate) struct ByteExtremes {
    /// The buffers of cleared slots are kept for the next value.
    values: Vec<Vec<u8>>,
    seen: Vec<bool>,
    bytes: usize,
    data_type: DataType,
    max: bool,
}

impl ByteExtremes {
    pub(crate) fn new(data_type: DataType, max: bool) -> Self {
        Self { values: Vec::new(), seen: Vec::new(), bytes: 0, data_type, max }
    }

    #[inline]
    fn take_in(&mut self, slot: u32, value: &[u8]) {
        let slot = slot as usize;
        let best = &mut self.values[slot];
        if self.seen[slot] && (if self.max { value <= best.as_slice() } else { value >= best.as_slice() }) {
            return;
        }
        self.bytes -= best.capacity();
        best.clear();
        best.extend_from_slice(value);
        self.bytes += best.capacity();
        self.seen[slot] = true;
    }
}

impl Accumulators for ByteExtremes {
    fn resize(&mut self, count: usize) {
        if count > self.values.len() {
            self.values.resize(count, Vec::new());
            self.seen.resize(count, false);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let array = if args[0].data_type() == &self.data_type {
            Arc::clone(&args[0])
        } else {
            cast(&args[0], &self.data_type)?
        };
        let selection = Selection::of(args, RowInfo { weights: None, ..rows });
        macro_rules! each {
            ($array:expr) => {{
                let array = $array;
                selection.each(slots.len(), |row, _| self.take_in(slots[row], array.value(row).as_ref()));
            }};
        }
        match array.data_type() {
            DataType::Utf8 => each!(array.as_string::<i32>()),
            DataType::LargeUtf8 => each!(array.as_string::<i64>()),
            DataType::Utf8View => each!(array.as_string_view()),
            DataType::Binary => each!(array.as_binary::<i32>()),
            DataType::LargeBinary => each!(array.as_binary::<i64>()),
            DataType::BinaryView => each!(array.as_binary_view()),
            other => return Err(EngineError::bug(format!("min or max of bytes over {other}"))),
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.update(slots, state, RowInfo::default())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let value = |slot: usize| self.seen[slot].then(|| self.values[slot].as_slice());
        Ok(bytes_column(&self.data_type, slots.iter().map(value)))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.seen, false);
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.values.capacity() * size_of::<Vec<u8>>() + self.seen.capacity()
    }
}
