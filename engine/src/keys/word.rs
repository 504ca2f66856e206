//! Keys of one fixed-width column: a table that holds the key itself, so that a probe touches one cache line.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;

use super::columns::{column_words, words_column};
use super::table::{EMPTY, ENTRIES_MIN, SPREAD, may_move};
use super::{AHEAD, NewSlots, look_ahead};
use crate::aggregate::Slots;
use crate::error::Result;

/// A table with so many entries is beyond the caches of a core; in tests one that is large for them.
const FAR: usize = if cfg!(test) { 256 } else { 1 << 15 };
/// One with so many is beyond the nearest of them, and beyond the others too where others took their place since it was last looked at.
const NEAR: usize = if cfg!(test) { 64 } else { 1 << 12 };
/// That is so where a batch has so much fewer rows than there are entries: it comes between two steps, and all tables of a step take turns.
const COLD_RATIO: usize = 4;

/// Keys of one word: the table entry holds the key, so a probe touches one cache line.
#[derive(Default)]
pub(super) struct WordStore {
    /// `(word, slot)`, a power of two of them, at most 5/8 used.
    pub(super) entries: Vec<(u64, u32)>,
    /// `64 - log2(entries.len())`.
    pub(super) shift: u32,
    pub(super) used: usize,
    /// The word of each slot.
    pub(super) words: Vec<u64>,
    pub(super) null_slot: Option<u32>,
}

impl WordStore {
    /// Whether the entries that a batch of `rows` rows looks for are far away.
    fn is_far(&self, rows: usize) -> bool {
        let entries = self.entries.len();
        entries >= FAR || entries >= NEAR && rows <= entries / COLD_RATIO
    }

    #[inline(always)]
    pub(super) fn home(word: u64, shift: u32) -> usize {
        ((word ^ (word >> 32)).wrapping_mul(SPREAD) >> shift) as usize
    }

    pub(super) fn intern(&mut self, column: &ArrayRef, slots: &mut Vec<u32>, new: &mut NewSlots<'_>) -> Result<()> {
        let words = column_words(column)?;
        match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => {
                slots.reserve(words.len());
                // A table that grows meanwhile was near.
                let is_far = self.is_far(words.len());
                for words in words.chunks(AHEAD) {
                    if is_far || self.entries.len() >= FAR {
                        let home = |word: &u64| Self::home(*word, self.shift) & (self.entries.len() - 1);
                        look_ahead(words.iter().map(|word| self.entries[home(word)].0));
                    }
                    for word in words {
                        let slot = self.find_or_insert(*word, new);
                        slots.push(slot);
                    }
                }
            }
            Some(nulls) => {
                for (word, valid) in words.iter().zip(nulls.iter()) {
                    let slot = if valid { self.find_or_insert(*word, new) } else { self.null(new) };
                    slots.push(slot);
                }
            }
        }
        Ok(())
    }

    pub(super) fn null(&mut self, new: &mut NewSlots<'_>) -> u32 {
        if let Some(slot) = self.null_slot {
            return slot;
        }
        let slot = new.give();
        self.set_word(slot, 0);
        self.null_slot = Some(slot);
        slot
    }

    pub(super) fn set_word(&mut self, slot: u32, word: u64) {
        if slot as usize == self.words.len() {
            self.words.push(word);
        } else {
            self.words[slot as usize] = word;
        }
    }

    #[inline(always)]
    pub(super) fn find_or_insert(&mut self, word: u64, new: &mut NewSlots<'_>) -> u32 {
        let entries = self.entries.as_slice();
        if !entries.is_empty() {
            let mask = entries.len() - 1;
            let mut position = Self::home(word, self.shift) & mask;
            loop {
                let (found, slot) = entries[position & mask];
                if slot == EMPTY {
                    break;
                }
                if found == word {
                    return slot;
                }
                position += 1;
            }
        }
        self.insert(word, new)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn insert(&mut self, word: u64, new: &mut NewSlots<'_>) -> u32 {
        if (self.used + 1) * 8 > self.entries.len() * 5 {
            self.grow();
        }
        let slot = new.give();
        self.set_word(slot, word);
        self.place(word, slot);
        self.used += 1;
        slot
    }

    pub(super) fn place(&mut self, word: u64, slot: u32) {
        let mask = self.entries.len() - 1;
        let mut position = Self::home(word, self.shift);
        while self.entries[position].1 != EMPTY {
            position = (position + 1) & mask;
        }
        self.entries[position] = (word, slot);
    }

    pub(super) fn grow(&mut self) {
        let size = (self.entries.len() * 2).max(ENTRIES_MIN);
        let old = std::mem::replace(&mut self.entries, vec![(0, EMPTY); size]);
        self.shift = 64 - size.trailing_zeros();
        for (word, slot) in old {
            if slot != EMPTY {
                self.place(word, slot);
            }
        }
    }

    pub(super) fn position(&self, slot: u32) -> usize {
        let mask = self.entries.len() - 1;
        let mut position = Self::home(self.words[slot as usize], self.shift);
        while self.entries[position].1 != slot {
            position = (position + 1) & mask;
        }
        position
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if self.null_slot == Some(slot) {
            self.null_slot = None;
            return;
        }
        let mask = self.entries.len() - 1;
        let mut hole = self.position(slot);
        let mut next = (hole + 1) & mask;
        while self.entries[next].1 != EMPTY {
            let home = Self::home(self.entries[next].0, self.shift);
            if may_move(home, hole, next, mask) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.entries[hole].1 = EMPTY;
        self.used -= 1;
    }

    /// `live` are the slots in use where some were removed.
    pub(super) fn clear(&mut self, live: Option<&[u32]>) {
        if self.words.len() * 8 >= self.entries.len() {
            self.entries.fill((0, EMPTY));
        } else if let Some(live) = live {
            live.iter().for_each(|slot| self.remove(*slot));
        } else {
            // Youngest first: each is still where its insertion put it.
            for slot in (0..self.words.len() as u32).rev() {
                if self.null_slot != Some(slot) {
                    let position = self.position(slot);
                    self.entries[position].1 = EMPTY;
                }
            }
        }
        self.words.clear();
        self.null_slot = None;
        self.used = 0;
    }

    pub(super) fn column(&self, data_type: &DataType, slots: Slots<'_>) -> ArrayRef {
        let nulls = self.null_slot.and_then(|null| match slots {
            Slots::First(count) => ((null as usize) < count)
                .then(|| NullBuffer::new(BooleanBuffer::collect_bool(count, |slot| slot != null as usize))),
            Slots::Some(slots) => slots
                .contains(&null)
                .then(|| NullBuffer::new(BooleanBuffer::collect_bool(slots.len(), |row| slots[row] != null))),
        });
        let words = match slots {
            Slots::First(count) => self.words[..count].to_vec(),
            Slots::Some(slots) => slots.iter().map(|slot| self.words[*slot as usize]).collect(),
        };
        words_column(data_type, words, nulls)
    }
}
