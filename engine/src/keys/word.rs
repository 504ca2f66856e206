//! Keys of one fixed-width column: a table that holds the key itself, so that a probe touches one cache line.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;

use super::columns::{column_words, words_column};
use super::table::{ENTRIES_MIN, SPREAD, may_move};
use super::{AHEAD, NewSlots, look_ahead};
use crate::aggregate::Slots;
use crate::error::Result;
use crate::rows::make_room;

/// A table with so many entries is beyond the caches of a core; in tests one that is large for them.
const FAR: usize = if cfg!(test) { 256 } else { 1 << 15 };
/// One with so many is beyond the nearest of them, and beyond the others too where others took their place since it was last looked at.
const NEAR: usize = if cfg!(test) { 64 } else { 1 << 12 };
/// That is so where a batch has so much fewer rows than there are entries: it comes between two steps, and all tables of a step take turns.
const COLD_RATIO: usize = 4;
/// A table with fewer entries is in the nearest cache whatever else a step does.
const YOUNG: usize = if cfg!(test) { 64 } else { 1 << 10 };
/// One over the part of the keys of which a young generation has touched all but.
const OLD_PART: usize = 8;

/// So many generations at most pass until keeping keys is tried again where it did not pay.
const PAUSE_MAX: u32 = 64;

/// A place of the table.
#[derive(Clone, Copy, Default)]
pub(super) struct Entry {
    word: u64,
    /// Means something in the generation at hand only.
    slot: u32,
    /// Of which generation the slot is; 0: the place is free.
    generation: u32,
}

/// Keys of one word: the table entry holds the key, so a probe touches one cache line.
///
/// Clearing begins a new *generation*: slots are given out anew, the entries stay where they are. A table that is drained over and over (each
/// step, each pane) mostly sees the same keys again, and a key that has its entry is neither placed again nor swept away before that. Keys
/// that do not come back are in nobody's way: they fill room that is there anyway, and are dropped when the table would grow.
pub(super) struct WordStore {
    /// A power of two of them, at most 5/8 used.
    pub(super) entries: Vec<Entry>,
    /// `64 - log2(entries.len())`.
    shift: u32,
    /// How many entries are not free, those of generations gone by included.
    used: usize,
    /// How many are of generations gone by.
    stale: usize,
    /// At least 1.
    generation: u32,
    /// Whether entries were left to this generation by the one before.
    inherited: bool,
    /// How many of them this generation has found.
    renewed: usize,
    /// So many generations, counted down, leave no entries because that did not pay, and how many the last such pause had.
    pause: u32,
    pause_last: u32,
    /// The word of each slot.
    pub(super) words: Vec<u64>,
    pub(super) null_slot: Option<u32>,
}

impl Default for WordStore {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            shift: 0,
            used: 0,
            stale: 0,
            generation: 1,
            inherited: false,
            renewed: 0,
            pause: 0,
            pause_last: 0,
            words: Vec::new(),
            null_slot: None,
        }
    }
}

impl WordStore {
    /// Whether the entries that a batch of `rows` rows looks for are far away.
    fn is_far(&self, rows: usize) -> bool {
        let entries = self.entries.len();
        entries >= FAR || entries >= NEAR && rows <= entries / COLD_RATIO
    }

    /// Whether many keys that were left to this generation have not come again yet. Each that comes is a wrong guess, which is only seen to
    /// be one when the entry is here: and entries that this generation has not touched are far away.
    fn is_young(&self) -> bool {
        self.stale * OLD_PART > self.used && self.entries.len() >= YOUNG
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
                    if self.is_young() {
                        self.renew_ahead(words, new);
                    } else if is_far || self.entries.len() >= FAR {
                        let home = |word: &u64| Self::home(*word, self.shift) & (self.entries.len() - 1);
                        look_ahead(words.iter().map(|word| self.entries[home(word)].word));
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
            make_room(&mut self.words, slot as usize + 1);
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
                let entry = entries[position & mask];
                if entry.word == word && entry.generation == self.generation {
                    return entry.slot;
                }
                if entry.generation == 0 {
                    break;
                }
                if entry.word == word {
                    return self.renew(position & mask, new);
                }
                position += 1;
            }
        }
        self.insert(word, new)
    }

    /// Gives slots to those of up to [`AHEAD`] keys whose entries are of generations gone by, where they are all that need one: else
    /// slots would not be in the order in which keys come first. Their entries are loaded side by side, and which of them are old is seen
    /// without a guess for each.
    fn renew_ahead(&mut self, words: &[u64], new: &mut NewSlots<'_>) {
        debug_assert!(words.len() <= AHEAD);
        let mask = self.entries.len() - 1;
        let (mut old, mut known) = (0_u32, true);
        for (bit, word) in words.iter().enumerate() {
            let entry = &self.entries[Self::home(*word, self.shift) & mask];
            known &= entry.word == *word && entry.generation != 0;
            old |= u32::from(entry.generation != self.generation) << bit;
        }
        while known && old != 0 {
            let position = Self::home(words[old.trailing_zeros() as usize], self.shift) & mask;
            // A key that comes twice among these has its slot the second time.
            if self.entries[position].generation != self.generation {
                self.renew(position, new);
            }
            old &= old - 1;
        }
    }

    /// Gives a slot to a key whose entry is of a generation gone by.
    #[cold]
    #[inline(never)]
    fn renew(&mut self, position: usize, new: &mut NewSlots<'_>) -> u32 {
        let slot = new.give();
        let word = self.entries[position].word;
        self.set_word(slot, word);
        self.entries[position] = Entry { word, slot, generation: self.generation };
        self.stale -= 1;
        self.renewed += 1;
        slot
    }

    #[cold]
    #[inline(never)]
    pub(super) fn insert(&mut self, word: u64, new: &mut NewSlots<'_>) -> u32 {
        if (self.used + 1) * 8 > self.entries.len() * 5 {
            self.grow();
        }
        let slot = new.give();
        self.set_word(slot, word);
        self.place(Entry { word, slot, generation: self.generation });
        self.used += 1;
        slot
    }

    fn place(&mut self, entry: Entry) {
        let mask = self.entries.len() - 1;
        let mut position = Self::home(entry.word, self.shift);
        while self.entries[position].generation != 0 {
            position = (position + 1) & mask;
        }
        self.entries[position] = entry;
    }

    /// Makes room: drops the entries of generations gone by, and doubles the table where that is not half of what it may hold.
    fn grow(&mut self) {
        let live = self.used - self.stale;
        let size = match live * 16 <= self.entries.len() * 5 {
            true => self.entries.len(),
            false => self.entries.len() * 2,
        };
        let size = size.max(ENTRIES_MIN);
        let old = std::mem::replace(&mut self.entries, vec![Entry::default(); size]);
        self.shift = 64 - size.trailing_zeros();
        let now = self.generation;
        old.into_iter().filter(|entry| entry.generation == now).for_each(|entry| self.place(entry));
        (self.used, self.stale) = (live, 0);
    }

    fn position(&self, slot: u32) -> usize {
        let mask = self.entries.len() - 1;
        let mut position = Self::home(self.words[slot as usize], self.shift);
        let is_it = |entry: Entry| entry.slot == slot && entry.generation == self.generation;
        while !is_it(self.entries[position]) {
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
        while self.entries[next].generation != 0 {
            let home = Self::home(self.entries[next].word, self.shift);
            if may_move(home, hole, next, mask) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.entries[hole] = Entry::default();
        self.used -= 1;
    }

    /// Begins a new generation.
    pub(super) fn clear(&mut self) {
        let keep = self.keeps();
        if keep && let Some(next) = self.generation.checked_add(1) {
            self.generation = next;
            self.stale = self.used;
        } else {
            self.entries.fill(Entry::default());
            (self.used, self.stale, self.generation) = (0, 0, 1);
        }
        self.inherited = self.used > 0;
        self.renewed = 0;
        self.words.clear();
        self.null_slot = None;
    }

    /// Whether the next generation is left the entries of this one. Sweeping them away takes as long as the table is large, so it is
    /// done only where this generation has filled a part of it; and where of its keys most were new, as it was left others.
    fn keeps(&mut self) -> bool {
        let live = self.used - self.stale;
        if live * 8 < self.entries.len() {
            return true;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return self.pause == 0;
        }
        if self.inherited {
            let paid = self.renewed * 2 >= live;
            self.pause_last = if paid { 0 } else { (self.pause_last * 2).clamp(1, PAUSE_MAX) };
            self.pause = self.pause_last;
        }
        self.pause == 0
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
