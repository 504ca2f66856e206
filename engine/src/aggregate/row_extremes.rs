//! `min` and `max` of rows and arrays where rows are only inserted: field by field, a null after all values, as `ORDER BY` has them.
//!
//! Values are kept in arrow's row format, whose bytes compare as the values do.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::DataType;
use arrow_row::{RowConverter, SortField};

use super::first_last::decode_rows;
use super::min_max::ByteExtremes;
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
    encoded: ByteExtremes,
    converter: RowConverter,
    data_type: DataType,
}

impl RowExtremes {
    pub(crate) fn new(data_type: DataType, max: bool) -> Result<Self> {
        let converter = RowConverter::new(vec![ascending(&data_type)])?;
        Ok(Self { encoded: ByteExtremes::new(DataType::Binary, max), converter, data_type })
    }
}

impl Accumulators for RowExtremes {
    fn resize(&mut self, count: usize) {
        self.encoded.resize(count);
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = match args[0].data_type() == &self.data_type {
            true => Arc::clone(&args[0]),
            false => cast(&args[0], &self.data_type)?,
        };
        let encoded = self.converter.convert_columns(&[canonical_values(&values)])?;
        let selection = Selection::of(std::slice::from_ref(&values), RowInfo { weights: None, ..rows });
        selection.each(slots.len(), |row, _| self.encoded.take_in(slots[row], encoded.row(row).data()));
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.update(slots, state, RowInfo::default())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let values = slots.iter().map(|slot| self.encoded.value(slot));
        decode_rows(&self.converter, &self.data_type, values, 0)
    }

    fn clear(&mut self, slots: Slots<'_>) {
        self.encoded.clear(slots);
    }

    fn state_bytes(&self) -> usize {
        self.encoded.state_bytes()
    }
}
