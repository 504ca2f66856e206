//! `first_value` and `last_value` in order of arrival, where rows are only inserted. A null is a value like any other (RESPECT NULLS).
//!
//! Each slot keeps the arrival number of its best row and the row's value. Values of a batch are copied only for the slots whose best
//! row the batch changed, once each.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, UInt64Array, new_empty_array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, UInt64Type};
use arrow_row::{RowConverter, SortField};

use super::select::{Selection, nulls};
use super::{Accumulators, RowInfo, Slots};
use crate::error::{EngineError, Result};

/// The first or the last row of each slot.
pub(crate) struct FirstLast {
    last: bool,
    ordinals: Vec<u64>,
    seen: Vec<bool>,
    /// The values in arrow's row format, nulls included.
    values: Vec<Vec<u8>>,
    bytes: usize,
    converter: RowConverter,
    data_type: DataType,
    /// For each slot that the batch at hand changed, the row that it has now.
    winners: Vec<u32>,
}

/// The slot was not changed by the batch.
const NO_ROW: u32 = u32::MAX;

impl FirstLast {
    pub(crate) fn new(data_type: DataType, last: bool) -> Result<Self> {
        Ok(Self {
            last,
            ordinals: Vec::new(),
            seen: Vec::new(),
            values: Vec::new(),
            bytes: 0,
            converter: RowConverter::new(vec![SortField::new(data_type.clone())])?,
            data_type,
            winners: Vec::new(),
        })
    }

    /// Whether arrow can encode values of the type.
    pub(crate) fn supports(data_type: &DataType) -> bool {
        RowConverter::supports_fields(&[SortField::new(data_type.clone())])
    }

    fn take_in(&mut self, slots: &[u32], values: &ArrayRef, ordinals: &[u64], selection: &Selection<'_>) -> Result<()> {
        let mut changed = Vec::new();
        selection.each(slots.len(), |row, weight| {
            let slot = slots[row] as usize;
            let (ordinal, best) = (ordinals[row], self.ordinals[slot]);
            // Among rows of one number (an UNNEST) their order in the batch decides.
            let better = !self.seen[slot] || if self.last { ordinal >= best } else { ordinal < best };
            if weight > 0 && better {
                self.seen[slot] = true;
                self.ordinals[slot] = ordinal;
                if self.winners[slot] == NO_ROW {
                    changed.push(slot as u32);
                }
                self.winners[slot] = row as u32;
            }
        });
        if changed.is_empty() {
            return Ok(());
        }
        let rows = UInt32Array::from_iter_values(changed.iter().map(|slot| self.winners[*slot as usize]));
        let encoded = self.converter.convert_columns(&[take(values, &rows, None)?])?;
        for (slot, row) in changed.iter().zip(&encoded) {
            let value = &mut self.values[*slot as usize];
            self.bytes -= value.capacity();
            value.clear();
            value.extend_from_slice(row.data());
            self.bytes += value.capacity();
            self.winners[*slot as usize] = NO_ROW;
        }
        Ok(())
    }
}

impl Accumulators for FirstLast {
    fn resize(&mut self, count: usize) {
        if count > self.seen.len() {
            self.ordinals.resize(count, 0);
            self.seen.resize(count, false);
            self.values.resize(count, Vec::new());
            self.winners.resize(count, NO_ROW);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let ordinals = rows
            .ordinals
            .ok_or_else(|| EngineError::bug("first_value and last_value need an edge with arrival numbers"))?;
        // No arguments: a null is a value.
        let selection = Selection::of(&[], rows);
        self.take_in(slots, &args[0], ordinals.values(), &selection)
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let ordinals = state[0].as_primitive::<UInt64Type>();
        let selection = Selection::of(&state[..1], RowInfo::default());
        self.take_in(slots, &state[1], ordinals.values(), &selection)
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let valid = nulls(slots.gather(&self.seen, |seen| seen));
        let ordinals = slots.gather(&self.ordinals, |ordinal| ordinal);
        Ok(vec![Arc::new(UInt64Array::new(ordinals.into(), valid)), self.evaluate(slots)?])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let values = slots.iter().map(|slot| self.seen[slot].then(|| self.values[slot].as_slice()));
        decode_rows(&self.converter, &self.data_type, values, 0)
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.seen, false);
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.values.capacity() * (size_of::<Vec<u8>>() + 13)
    }
}

/// Column `column` of rows in arrow's row format, null where there is no row.
pub(crate) fn decode_rows<'a>(
    converter: &RowConverter,
    data_type: &DataType,
    rows: impl Iterator<Item = Option<&'a [u8]>>,
    column: usize,
) -> Result<ArrayRef> {
    let rows: Vec<_> = rows.collect();
    let parser = converter.parser();
    let present: Vec<&[u8]> = rows.iter().copied().flatten().collect();
    let values = if present.is_empty() {
        new_empty_array(data_type)
    } else {
        let mut columns = converter.convert_rows(present.iter().map(|row| parser.parse(row)))?;
        columns.swap_remove(column)
    };
    // Dictionaries come back as plain values.
    let values = if values.data_type() == data_type { values } else { cast(&values, data_type)? };
    if present.len() == rows.len() {
        return Ok(values);
    }
    let mut next = 0;
    let indices: UInt32Array = rows
        .iter()
        .map(|row| {
            next += u32::from(row.is_some());
            row.map(|_| next - 1)
        })
        .collect();
    Ok(take(&values, &indices, None)?)
}
