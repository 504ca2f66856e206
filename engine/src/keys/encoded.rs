//! Keys of any comparable types, through arrow's row format.

use arrow::array::{ArrayRef, new_empty_array, new_null_array};
use arrow::datatypes::DataType;
use arrow_row::{RowConverter, Rows, SortField};
use xxhash_rust::xxh3::xxh3_64;

use super::NewSlots;
use super::columns::{canonical_values, with_types};
use super::table::{Arena, SlotTable};
use crate::aggregate::Slots;
use crate::error::{EngineError, Result};

/// Keys of any other types: the bytes of arrow's row format.
pub(super) struct EncodedStore {
    pub(super) converter: RowConverter,
    /// The rows of the batch at hand.
    pub(super) rows: Rows,
    pub(super) table: SlotTable,
    pub(super) arena: Arena,
}

impl EncodedStore {
    pub(super) fn new(types: &[DataType]) -> Result<Self> {
        let fields: Vec<SortField> = types.iter().cloned().map(SortField::new).collect();
        if !RowConverter::supports_fields(&fields) {
            let types = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(EngineError::Plan {
                message: format!(
                    "keys of type ({types}) cannot be compared; group by parts of the value, or cast it to STRING"
                ),
            });
        }
        let converter = RowConverter::new(fields)?;
        let rows = converter.empty_rows(0, 0);
        Ok(Self { converter, rows, table: SlotTable::default(), arena: Arena::default() })
    }

    pub(super) fn intern(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        known: Option<&[u64]>,
        slots: &mut Vec<u32>,
        new: &mut NewSlots<'_>,
    ) -> Result<()> {
        let columns: Vec<ArrayRef> = columns.iter().map(canonical_values).collect();
        self.rows.clear();
        self.converter.append(&mut self.rows, &columns)?;
        slots.reserve(rows);
        for (index, row) in self.rows.iter().enumerate() {
            let bytes = row.data();
            let hash = known.map_or_else(|| xxh3_64(bytes), |known| known[index]);
            let arena = &self.arena;
            let (slot, is_new) = self.table.find_or_insert(hash, |slot| arena.get(slot) == bytes, || new.give());
            if is_new {
                self.arena.set(slot, bytes);
            }
            slots.push(slot);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.table.remove(slot);
        self.arena.remove(slot);
    }

    pub(super) fn clear(&mut self, live: Option<&[u32]>) {
        self.table.clear(None, live);
        self.arena.clear();
    }

    pub(super) fn columns(&self, types: &[DataType], slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        if slots.count() == 0 {
            return Ok(types.iter().map(new_empty_array).collect());
        }
        let parser = self.converter.parser();
        let live = slots.iter().map(|slot| self.arena.get(slot as u32)).collect::<Vec<_>>();
        // A removed slot has no bytes; any key stands in for it, because nobody reads it.
        let some = live.iter().copied().find(|bytes| !bytes.is_empty());
        let Some(some) = some else {
            return Ok(types.iter().map(|data_type| new_null_array(data_type, live.len())).collect());
        };
        let rows = live.iter().map(|bytes| parser.parse(if bytes.is_empty() { some } else { bytes }));
        with_types(self.converter.convert_rows(rows)?, types.iter())
    }
}
