//! Keys of several fixed-width columns.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::NewSlots;
use super::columns::{gather_words, scatter_words, word_count};
use super::table::SlotTable;
use crate::aggregate::Slots;
use crate::error::Result;
use crate::hash::mix_words;

/// Keys of several fixed-width columns: rows of words, the first of which has a bit for each column that is null.
pub(super) struct RowStore {
    pub(super) table: SlotTable,
    /// Words of a row.
    pub(super) stride: usize,
    /// `stride` words a slot.
    pub(super) words: Vec<u64>,
    /// The rows of the batch at hand.
    pub(super) scratch: Vec<u64>,
}

impl RowStore {
    pub(super) fn new(stride: usize) -> Self {
        Self { table: SlotTable::default(), stride, words: Vec::new(), scratch: Vec::new() }
    }

    pub(super) fn intern(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        slots: &mut Vec<u32>,
        new: &mut NewSlots<'_>,
    ) -> Result<()> {
        let stride = self.stride;
        self.scratch.clear();
        self.scratch.resize(rows * stride, 0);
        let mut offset = 1;
        for (index, column) in columns.iter().enumerate() {
            offset += scatter_words(column, &mut self.scratch, stride, offset, index)?;
        }
        for row in self.scratch.chunks_exact(stride) {
            let hash = mix_words(row);
            let words = &self.words;
            // Rows are a few words: a loop beats the call of `memcmp` that comparing slices becomes.
            let same = |slot: u32| words[slot as usize * stride..][..stride].iter().zip(row).all(|(a, b)| a == b);
            let found = self.table.find(hash, same);
            slots.push(found.unwrap_or_else(|| {
                let slot = new.give();
                self.table.insert(hash, slot);
                let start = slot as usize * stride;
                if start == self.words.len() {
                    self.words.extend_from_slice(row);
                } else {
                    self.words[start..start + stride].copy_from_slice(row);
                }
                slot
            }));
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.table.remove(slot);
    }

    pub(super) fn clear(&mut self, live: Option<&[u32]>) {
        self.table.clear(None, live);
        self.words.clear();
    }

    pub(super) fn columns(&self, types: &[DataType], slots: Slots<'_>) -> Vec<ArrayRef> {
        let mut offset = 1;
        let mut columns = Vec::with_capacity(types.len());
        for (index, data_type) in types.iter().enumerate() {
            columns.push(gather_words(data_type, &self.words, self.stride, offset, index, slots));
            offset += word_count(data_type).expect("only fixed-width types are kept as words");
        }
        columns
    }
}
