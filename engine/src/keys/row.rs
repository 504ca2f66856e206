//! Keys of several fixed-width columns.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::columns::{gather_words, scatter_words, word_count, words_column};
use super::table::{EMPTY, SlotTable};
use super::{AHEAD, NewSlots};
use crate::aggregate::Slots;
use crate::error::Result;
use crate::hash::mix_words;
use crate::rows::make_room;

/// Keys of several fixed-width columns: rows of words, the first of which has a bit for each column that is null.
pub(super) struct RowStore {
    pub(super) table: SlotTable,
    /// Words of a row.
    pub(super) stride: usize,
    /// `stride` words a slot.
    pub(super) words: Vec<u64>,
    /// The rows of the batch at hand, and their hashes.
    pub(super) scratch: Vec<u64>,
    hashes: Vec<u64>,
}

/// A table with so many entries is beyond the nearest cache; in tests one that is large for them.
const FAR: usize = if cfg!(test) { 256 } else { 1 << 12 };

impl RowStore {
    pub(super) fn new(stride: usize) -> Self {
        Self { table: SlotTable::default(), stride, words: Vec::new(), scratch: Vec::new(), hashes: Vec::new() }
    }

    pub(super) fn intern(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        known: Option<&[u64]>,
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
        let scratch = std::mem::take(&mut self.scratch);
        let mut hashes = std::mem::take(&mut self.hashes);
        if known.is_none() {
            hashes.clear();
            hashes.extend(scratch.chunks_exact(stride).map(mix_words));
        }
        slots.reserve(rows);
        for (rows, hashes) in scratch.chunks(stride * AHEAD).zip(known.unwrap_or(&hashes).chunks(AHEAD)) {
            let first = self.first_hits(rows, hashes);
            for ((row, hash), first) in rows.chunks_exact(stride).zip(hashes).zip(first) {
                slots.push(if first == EMPTY { self.find_or_insert(*hash, row, new) } else { first });
            }
        }
        (self.scratch, self.hashes) = (scratch, hashes);
        Ok(())
    }

    /// The slots of the rows that the first entry of their probe holds, [`EMPTY`] for the others: of a table in memory nearly all that
    /// are known. No load waits for the one of another row, so a block of misses costs about what one does.
    fn first_hits(&self, rows: &[u64], hashes: &[u64]) -> [u32; AHEAD] {
        let mut first = [EMPTY; AHEAD];
        if self.table.entries.len() < FAR || self.words.is_empty() {
            return first;
        }
        for (first, hash) in first.iter_mut().zip(hashes) {
            *first = self.table.first(*hash);
        }
        for (first, row) in first.iter_mut().zip(rows.chunks_exact(self.stride)) {
            // Some slot is read in any case, because a branch here would be a guess.
            let slot = if *first == EMPTY { 0 } else { *first };
            let differ = self.row(slot).iter().zip(row).fold(0, |differ, (a, b)| differ | (a ^ b));
            *first = if differ == 0 { *first } else { EMPTY };
        }
        first
    }

    #[inline(always)]
    fn row(&self, slot: u32) -> &[u64] {
        &self.words[slot as usize * self.stride..][..self.stride]
    }

    #[inline]
    fn find_or_insert(&mut self, hash: u64, row: &[u64], new: &mut NewSlots<'_>) -> u32 {
        // Rows are a few words: a loop beats the call of `memcmp` that comparing slices becomes.
        let same = |slot: u32| self.words[slot as usize * self.stride..].iter().zip(row).all(|(a, b)| a == b);
        let (slot, is_new) = self.table.find_or_insert(hash, same, || new.give());
        if !is_new {
            return slot;
        }
        let start = slot as usize * self.stride;
        if start == self.words.len() {
            make_room(&mut self.words, start + self.stride);
            self.words.extend_from_slice(row);
        } else {
            self.words[start..start + self.stride].copy_from_slice(row);
        }
        slot
    }

    pub(super) fn remove(&mut self, slots: &[u32]) {
        for slots in slots.chunks(AHEAD) {
            self.table.look_ahead(slots);
            slots.iter().for_each(|slot| self.table.remove(*slot));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes() + (self.words.capacity() + self.scratch.capacity() + self.hashes.capacity()) * 8
    }

    pub(super) fn clear(&mut self, live: Option<&[u32]>) {
        self.table.clear(None, live);
        self.words.clear();
    }

    pub(super) fn columns(&self, types: &[DataType], slots: Slots<'_>) -> Vec<ArrayRef> {
        (0..types.len()).map(|index| self.column(types, index, slots)).collect()
    }

    /// One of the columns.
    pub(super) fn column(&self, types: &[DataType], index: usize, slots: Slots<'_>) -> ArrayRef {
        gather_words(&types[index], &self.words, self.stride, offset_of(types, index), index, slots)
    }

    /// One of the columns if its values are a word each.
    pub(super) fn words<'a>(&'a self, types: &'a [DataType], index: usize) -> Option<KeyWords<'a>> {
        let data_type = &types[index];
        let offset = offset_of(types, index);
        let is_word = word_count(data_type) == Some(1);
        is_word.then(|| KeyWords { data_type, words: &self.words, stride: self.stride, offset })
    }
}

/// The first word of a column in a row.
fn offset_of(types: &[DataType], index: usize) -> usize {
    let words = |data_type| word_count(data_type).expect("only fixed-width types are kept as words");
    1 + types[..index].iter().map(words).sum::<usize>()
}

/// The values of a key column, a word each, by slot.
pub(crate) struct KeyWords<'a> {
    data_type: &'a DataType,
    words: &'a [u64],
    stride: usize,
    offset: usize,
}

impl KeyWords<'_> {
    #[inline(always)]
    pub(crate) fn of(&self, slot: u32) -> u64 {
        self.words[slot as usize * self.stride + self.offset]
    }

    /// A column of such words, none of them null.
    pub(crate) fn column(&self, words: Vec<u64>) -> ArrayRef {
        words_column(self.data_type, words, None)
    }
}
