//! `min` and `max` where rows are only inserted: the best value so far of each slot.
//!
//! Floats are ordered as by `ORDER BY`: NaN is greater than everything (PostgreSQL's and arrow's rule; what DataFusion's grouped
//! `min` and `max` do with NaN depends on the order of rows). Strings and binaries are ordered by their bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::select::{Selection, natives, nulls};
use super::{Accumulators, RowInfo, Slots};
use crate::error::{EngineError, Result};
use crate::hash::{Words, native_column};
use crate::keys::bytes_column;

/// Extremes of a primitive type with the native type `N`.
pub(crate) struct PrimitiveExtremes<N> {
    values: Vec<N>,
    seen: Vec<bool>,
    data_type: DataType,
    max: bool,
}

impl<N: Words + ArrowNativeTypeOp> PrimitiveExtremes<N> {
    pub(crate) fn new(data_type: DataType, max: bool) -> Self {
        Self { values: Vec::new(), seen: Vec::new(), data_type, max }
    }

    /// What every value beats or equals.
    fn start(&self) -> N {
        if self.max { N::MIN_TOTAL_ORDER } else { N::MAX_TOTAL_ORDER }
    }

    fn take_in(&mut self, slots: &[u32], values: &[N], selection: &Selection<'_>, better: impl Fn(N, N) -> bool) {
        let (bests, seen) = (self.values.as_mut_slice(), self.seen.as_mut_slice());
        if selection.is_all() {
            for (slot, value) in slots.iter().zip(values) {
                let best = &mut bests[*slot as usize];
                *best = if better(*value, *best) { *value } else { *best };
                seen[*slot as usize] = true;
            }
        } else {
            selection.each(slots.len(), |row, _| {
                let best = &mut bests[slots[row] as usize];
                if better(values[row], *best) {
                    *best = values[row];
                }
                seen[slots[row] as usize] = true;
            });
        }
    }
}

impl<N: Words + ArrowNativeTypeOp> Accumulators for PrimitiveExtremes<N> {
    fn resize(&mut self, count: usize) {
        if count > self.values.len() {
            self.values.resize(count, self.start());
            self.seen.resize(count, false);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let mut values = natives::<N>(&args[0], &self.data_type)?;
        if self.data_type.is_floating() {
            values = values.iter().map(|value| N::from_words(&value.to_words())).collect();
        }
        let selection = Selection::of(args, RowInfo { weights: None, ..rows });
        if self.max {
            self.take_in(slots, &values, &selection, |value, best| value.is_gt(best));
        } else {
            self.take_in(slots, &values, &selection, |value, best| value.is_lt(best));
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
        Ok(native_column(&self.data_type, slots.gather(&self.values, |value| value), valid))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        let start = self.start();
        slots.fill(&mut self.values, start);
        slots.fill(&mut self.seen, false);
    }

    fn state_bytes(&self) -> usize {
        self.values.capacity() * size_of::<N>() + self.seen.capacity()
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

    /// The extreme of a slot; none where there was no value.
    pub(super) fn value(&self, slot: usize) -> Option<&[u8]> {
        self.seen[slot].then(|| self.values[slot].as_slice())
    }

    #[inline]
    pub(super) fn take_in(&mut self, slot: u32, value: &[u8]) {
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
        Ok(bytes_column(&self.data_type, slots.iter().map(|slot| self.value(slot))))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.seen, false);
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.values.capacity() * size_of::<Vec<u8>>() + self.seen.capacity()
    }
}
