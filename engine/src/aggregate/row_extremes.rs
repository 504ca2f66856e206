//! `min` and `max` of rows and arrays where rows are only inserted: field by field, a null after all values, as `ORDER BY` has them.
//!
//! Values are kept in arrow's row format, whose bytes compare as the values do.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::DataType;
use arrow_row::{RowConverter, SortField};

use super::first_last::decode_rows;
use super::select::Selection;
use super::{Accumulators, RowInfo, Slots};
use crate::error::Result;
use crate::keys::canonical_values;

/// The order of `ORDER BY x`.
pub(crate) fn ascending(data_type: &DataType) -> SortField {
    SortField::new_with_options(data_type.clone(), SortOptions { descending: false, nulls_first: false })
}

/// Extremes of a type with rows inside.
pub(crate) struct RowExtremes {
    values: Vec<Option<Box<[u8]>>>,
    bytes: usize,
    converter: RowConverter,
    data_type: DataType,
    max: bool,
}

impl RowExtremes {
    pub(crate) fn new(data_type: DataType, max: bool) -> Result<Self> {
        let converter = RowConverter::new(vec![ascending(&data_type)])?;
        Ok(Self { values: Vec::new(), bytes: 0, converter, data_type, max })
    }
}

impl Accumulators for RowExtremes {
    fn resize(&mut self, count: usize) {
        if count > self.values.len() {
            self.values.resize(count, None);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = match args[0].data_type() == &self.data_type {
            true => Arc::clone(&args[0]),
            false => cast(&args[0], &self.data_type)?,
        };
        let encoded = self.converter.convert_columns(&[canonical_values(&values)])?;
        let selection = Selection::of(std::slice::from_ref(&values), RowInfo { weights: None, ..rows });
        selection.each(slots.len(), |row, _| {
            let best = &mut self.values[slots[row] as usize];
            let value = encoded.row(row);
            let value = value.data();
            let better = |best: &[u8]| if self.max { value > best } else { value < best };
            if best.as_deref().is_none_or(better) {
                self.bytes += value.len();
                self.bytes -= best.as_deref().map_or(0, <[u8]>::len);
                *best = Some(value.into());
            }
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
        let values = slots.iter().map(|slot| self.values[slot].as_deref());
        decode_rows(&self.converter, &self.data_type, values, 0)
    }

    fn clear(&mut self, slots: Slots<'_>) {
        for slot in slots.iter() {
            self.bytes -= self.values[slot].take().map_or(0, |value| value.len());
        }
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.values.capacity() * size_of::<Option<Box<[u8]>>>()
    }
}
