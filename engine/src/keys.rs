//! Group keys: rows of key columns in, dense slot numbers out.
//!
//! Everything that is kept per key (accumulators, flags, window ends) lies in plain vectors indexed by slot, so one probe of one hash
//! table serves all aggregates of a query. How keys are kept depends on their types: one column that fits a word is compared inside
//! the table entry itself; several fixed-width columns become rows of words in one arena; one string or binary column keeps its bytes;
//! all else goes through arrow's row format, whose bytes are equal exactly where the rows are. Floats are made canonical first, so
//! that -0.0 groups with 0.0 and all NaNs group together, as [`crate::hash`] has it.
//!
//! The tables are our own open addressing with linear probing: slots are numbered in order of first sight, removal shifts back (no
//! tombstones), and draining a table costs what is in it, not what once was: a step of one row stays cheap after a step of a million.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, GenericByteArray, GenericByteViewArray, new_empty_array};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    BinaryType, BinaryViewType, ByteArrayType, ByteViewType, DataType, LargeBinaryType, LargeUtf8Type, StringViewType,
    Utf8Type,
};
use arrow_row::{RowConverter, Rows, SortField};
use xxhash_rust::xxh3::xxh3_64;

use crate::aggregate::Slots;
use crate::error::{EngineError, Result};
use crate::hash::{Words, by_native, mix_words, native_column, native_values};

/// The distinct rows of some key columns, each with a slot.
pub struct GroupKeys {
    types: Vec<DataType>,
    store: Store,
    /// Slots that were removed, to be given out again.
    free: Vec<u32>,
    /// One past the highest slot ever given out since the last clear.
    slot_count: usize,
    /// The slots that the last [`intern`](Self::intern) gave out, in order.
    fresh: Vec<u32>,
    /// Whether nothing was removed since the last clear, so that slots are in order of insertion.
    in_order: bool,
}

enum Store {
    /// No key columns: one slot for all rows.
    Unit,
    Word(WordStore),
    Row(RowStore),
    Bytes(ByteStore),
    Encoded(EncodedStore),
}

impl GroupKeys {
    /// An empty table for key columns of these types.
    ///
    /// # Errors
    /// A type whose values cannot be compared for equality.
    pub fn new(types: Vec<DataType>) -> Result<Self> {
        let store = match types.as_slice() {
            [] => Store::Unit,
            [one] if word_count(one) == Some(1) => Store::Word(WordStore::default()),
            [one] if is_bytes(one) => Store::Bytes(ByteStore::default()),
            many => match many.iter().map(word_count).sum::<Option<usize>>() {
                Some(words) if many.len() <= 64 => Store::Row(RowStore::new(words + 1)),
                _ => Store::Encoded(EncodedStore::new(many)?),
            },
        };
        Ok(Self {
            types,
            store,
            free: Vec::new(),
            slot_count: 0,
            fresh: Vec::new(),
            in_order: true,
        })
    }

    /// The types of the key columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.slot_count - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One past the highest slot in use: what is indexed by slot needs this length.
    pub fn slot_count(&self) -> usize {
        self.slot_count
    }

    /// The slots that the last [`intern`](Self::intern) gave to keys that it had not seen, in order.
    pub fn fresh(&self) -> &[u32] {
        &self.fresh
    }

    /// Finds or makes the slot of each of the `rows` rows of `columns`, into `slots` (which is overwritten).
    pub fn intern(&mut self, columns: &[ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<()> {
        debug_assert_eq!(columns.len(), self.types.len());
        slots.clear();
        self.fresh.clear();
        if rows == 0 {
            return Ok(());
        }
        let mut new = NewSlots {
            free: &mut self.free,
            slot_count: &mut self.slot_count,
            fresh: &mut self.fresh,
        };
        match &mut self.store {
            Store::Unit => {
                if *new.slot_count == 0 || !new.free.is_empty() {
                    new.give();
                }
                slots.resize(rows, 0);
                Ok(())
            }
            Store::Word(store) => store.intern(&columns[0], slots, &mut new),
            Store::Row(store) => store.intern(columns, rows, slots, &mut new),
            Store::Bytes(store) => store.intern(&columns[0], slots, &mut new),
            Store::Encoded(store) => store.intern(columns, rows, slots, &mut new),
        }
    }

    /// The key columns of `slots`. Slots that were removed give some value of the type.
    pub fn columns(&self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        match &self.store {
            Store::Unit => Ok(Vec::new()),
            Store::Word(store) => Ok(vec![store.column(&self.types[0], slots)]),
            Store::Row(store) => Ok(store.columns(&self.types, slots)),
            Store::Bytes(store) => Ok(vec![store.column(&self.types[0], slots)]),
            Store::Encoded(store) => store.columns(&self.types, slots),
        }
    }

    /// The slots that hold keys, ascending.
    pub fn live_slots(&self) -> Vec<u32> {
        let mut live = vec![true; self.slot_count];
        self.free.iter().for_each(|slot| live[*slot as usize] = false);
        (0..self.slot_count as u32)
            .filter(|slot| live[*slot as usize])
            .collect()
    }

    /// Forgets the keys of `slots`, all of which are in use; the slots will be given out again.
    pub fn remove(&mut self, slots: &[u32]) {
        for slot in slots {
            match &mut self.store {
                Store::Unit => {}
                Store::Word(store) => store.remove(*slot),
                Store::Row(store) => store.remove(*slot),
                Store::Bytes(store) => store.remove(*slot),
                Store::Encoded(store) => store.remove(*slot),
            }
        }
        self.free.extend_from_slice(slots);
        self.in_order &= slots.is_empty();
    }

    /// Forgets all keys; capacity is kept.
    pub fn clear(&mut self) {
        let live = (!self.in_order).then(|| self.live_slots());
        let live = live.as_deref();
        match &mut self.store {
            Store::Unit => {}
            Store::Word(store) => store.clear(live),
            Store::Row(store) => store.clear(live),
            Store::Bytes(store) => store.clear(live),
            Store::Encoded(store) => store.clear(live),
        }
        self.free.clear();
        self.fresh.clear();
        self.slot_count = 0;
        self.in_order = true;
    }

    /// Drains the table: the key columns in slot order. Nothing must have been removed.
    pub fn take_all(&mut self) -> Result<Vec<ArrayRef>> {
        debug_assert!(self.free.is_empty());
        let columns = self.columns(Slots::First(self.slot_count))?;
        self.clear();
        Ok(columns)
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        let store = match &self.store {
            Store::Unit => 0,
            Store::Word(store) => store.entries.capacity() * 16 + store.words.capacity() * 8,
            Store::Row(store) => store.table.bytes() + (store.words.capacity() + store.scratch.capacity()) * 8,
            Store::Bytes(store) => store.table.bytes() + store.arena.bytes(),
            Store::Encoded(store) => store.table.bytes() + store.arena.bytes() + store.rows.size(),
        };
        store + (self.free.capacity() + self.fresh.capacity()) * 4
    }
}

/// Gives out slots.
struct NewSlots<'a> {
    free: &'a mut Vec<u32>,
    slot_count: &'a mut usize,
    fresh: &'a mut Vec<u32>,
}

impl NewSlots<'_> {
    fn give(&mut self) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            *self.slot_count += 1;
            u32::try_from(*self.slot_count - 1).expect("memory ends before u32 slots do")
        });
        self.fresh.push(slot);
        slot
    }
}

/// Marks an unused table entry.
const EMPTY: u32 = u32::MAX;
/// The fewest entries of a table.
const ENTRIES_MIN: usize = 64;
/// A multiplier with well-spread bits (2^64 / golden ratio), for tables whose keys are not hashed.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Keys of one word: the table entry holds the key, so a probe touches one cache line.
#[derive(Default)]
struct WordStore {
    /// `(word, slot)`, a power of two of them, at most 5/8 used.
    entries: Vec<(u64, u32)>,
    /// `64 - log2(entries.len())`.
    shift: u32,
    used: usize,
    /// The word of each slot.
    words: Vec<u64>,
    null_slot: Option<u32>,
}

impl WordStore {
    #[inline(always)]
    fn home(word: u64, shift: u32) -> usize {
        ((word ^ (word >> 32)).wrapping_mul(SPREAD) >> shift) as usize
    }

    fn intern(&mut self, column: &ArrayRef, slots: &mut Vec<u32>, new: &mut NewSlots<'_>) -> Result<()> {
        let words = column_words(column)?;
        match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => {
                slots.reserve(words.len());
                for word in words.iter() {
                    let slot = self.find_or_insert(*word, new);
                    slots.push(slot);
                }
            }
            Some(nulls) => {
                for (word, valid) in words.iter().zip(nulls.iter()) {
                    let slot = if valid {
                        self.find_or_insert(*word, new)
                    } else {
                        self.null(new)
                    };
                    slots.push(slot);
                }
            }
        }
        Ok(())
    }

    fn null(&mut self, new: &mut NewSlots<'_>) -> u32 {
        if let Some(slot) = self.null_slot {
            return slot;
        }
        let slot = new.give();
        self.set_word(slot, 0);
        self.null_slot = Some(slot);
        slot
    }

    fn set_word(&mut self, slot: u32, word: u64) {
        if slot as usize == self.words.len() {
            self.words.push(word);
        } else {
            self.words[slot as usize] = word;
        }
    }

    #[inline(always)]
    fn find_or_insert(&mut self, word: u64, new: &mut NewSlots<'_>) -> u32 {
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
    fn insert(&mut self, word: u64, new: &mut NewSlots<'_>) -> u32 {
        if (self.used + 1) * 8 > self.entries.len() * 5 {
            self.grow();
        }
        let slot = new.give();
        self.set_word(slot, word);
        self.place(word, slot);
        self.used += 1;
        slot
    }

    fn place(&mut self, word: u64, slot: u32) {
        let mask = self.entries.len() - 1;
        let mut position = Self::home(word, self.shift);
        while self.entries[position].1 != EMPTY {
            position = (position + 1) & mask;
        }
        self.entries[position] = (word, slot);
    }

    fn grow(&mut self) {
        let size = (self.entries.len() * 2).max(ENTRIES_MIN);
        let old = std::mem::replace(&mut self.entries, vec![(0, EMPTY); size]);
        self.shift = 64 - size.trailing_zeros();
        for (word, slot) in old {
            if slot != EMPTY {
                self.place(word, slot);
            }
        }
    }

    fn position(&self, slot: u32) -> usize {
        let mask = self.entries.len() - 1;
        let mut position = Self::home(self.words[slot as usize], self.shift);
        while self.entries[position].1 != slot {
            position = (position + 1) & mask;
        }
        position
    }

    fn remove(&mut self, slot: u32) {
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
    fn clear(&mut self, live: Option<&[u32]>) {
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

    fn column(&self, data_type: &DataType, slots: Slots<'_>) -> ArrayRef {
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

/// Whether the entry at `next` whose probe starts at `home` may move back into `hole`.
#[inline]
fn may_move(home: usize, hole: usize, next: usize, mask: usize) -> bool {
    // The hole lies on the way from home to where the entry is.
    (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask)
}

/// A table from hashes to slots; what a slot's key is, the caller knows.
#[derive(Default)]
struct SlotTable {
    /// `(low half of the hash, slot)`, a power of two of them, at most 5/8 used.
    entries: Vec<(u32, u32)>,
    shift: u32,
    used: usize,
    /// The hash of each slot.
    hashes: Vec<u64>,
}

impl SlotTable {
    fn bytes(&self) -> usize {
        (self.entries.capacity() + self.hashes.capacity()) * 8
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        (hash.wrapping_mul(SPREAD) >> self.shift) as usize
    }

    #[inline(always)]
    fn find(&self, hash: u64, equal: impl Fn(u32) -> bool) -> Option<u32> {
        let entries = self.entries.as_slice();
        if entries.is_empty() {
            return None;
        }
        let mask = entries.len() - 1;
        let mut position = self.home(hash);
        loop {
            let (tag, slot) = entries[position & mask];
            if slot == EMPTY {
                return None;
            }
            if tag == hash as u32 && equal(slot) {
                return Some(slot);
            }
            position += 1;
        }
    }

    fn insert(&mut self, hash: u64, slot: u32) {
        if (self.used + 1) * 8 > self.entries.len() * 5 {
            let size = (self.entries.len() * 2).max(ENTRIES_MIN);
            let old = std::mem::replace(&mut self.entries, vec![(0, EMPTY); size]);
            self.shift = 64 - size.trailing_zeros();
            for (_, slot) in old.into_iter().filter(|(_, slot)| *slot != EMPTY) {
                self.place(self.hashes[slot as usize], slot);
            }
        }
        if slot as usize == self.hashes.len() {
            self.hashes.push(hash);
        } else {
            self.hashes[slot as usize] = hash;
        }
        self.place(hash, slot);
        self.used += 1;
    }

    fn place(&mut self, hash: u64, slot: u32) {
        let mask = self.entries.len() - 1;
        let mut position = self.home(hash);
        while self.entries[position].1 != EMPTY {
            position = (position + 1) & mask;
        }
        self.entries[position] = (hash as u32, slot);
    }

    fn position(&self, slot: u32) -> usize {
        let mask = self.entries.len() - 1;
        let mut position = self.home(self.hashes[slot as usize]);
        while self.entries[position].1 != slot {
            position = (position + 1) & mask;
        }
        position
    }

    fn remove(&mut self, slot: u32) {
        let mask = self.entries.len() - 1;
        let mut hole = self.position(slot);
        let mut next = (hole + 1) & mask;
        while self.entries[next].1 != EMPTY {
            let home = self.home(self.hashes[self.entries[next].1 as usize]);
            if may_move(home, hole, next, mask) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.entries[hole].1 = EMPTY;
        self.used -= 1;
    }

    /// Empties the table; `skip` is a slot that never was in it (the null of a byte column), `live` are the slots in use where some
    /// were removed.
    fn clear(&mut self, skip: Option<u32>, live: Option<&[u32]>) {
        if self.hashes.len() * 8 >= self.entries.len() {
            self.entries.fill((0, EMPTY));
        } else if let Some(live) = live {
            live.iter()
                .filter(|slot| Some(**slot) != skip)
                .for_each(|slot| self.remove(*slot));
        } else {
            for slot in (0..self.hashes.len() as u32).rev().filter(|slot| Some(*slot) != skip) {
                let position = self.position(slot);
                self.entries[position].1 = EMPTY;
            }
        }
        self.hashes.clear();
        self.used = 0;
    }
}

/// Keys of several fixed-width columns: rows of words, the first of which has a bit for each column that is null.
struct RowStore {
    table: SlotTable,
    /// Words of a row.
    stride: usize,
    /// `stride` words a slot.
    words: Vec<u64>,
    /// The rows of the batch at hand.
    scratch: Vec<u64>,
}

impl RowStore {
    fn new(stride: usize) -> Self {
        Self {
            table: SlotTable::default(),
            stride,
            words: Vec::new(),
            scratch: Vec::new(),
        }
    }

    fn intern(
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
            let same = |slot: u32| {
                words[slot as usize * stride..][..stride]
                    .iter()
                    .zip(row)
                    .all(|(a, b)| a == b)
            };
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

    fn remove(&mut self, slot: u32) {
        self.table.remove(slot);
    }

    fn clear(&mut self, live: Option<&[u32]>) {
        self.table.clear(None, live);
        self.words.clear();
    }

    fn columns(&self, types: &[DataType], slots: Slots<'_>) -> Vec<ArrayRef> {
        let mut offset = 1;
        let mut columns = Vec::with_capacity(types.len());
        for (index, data_type) in types.iter().enumerate() {
            columns.push(gather_words(data_type, &self.words, self.stride, offset, index, slots));
            offset += word_count(data_type).expect("only fixed-width types are kept as words");
        }
        columns
    }
}

/// Variable-length keys, one after the other.
#[derive(Default)]
struct Arena {
    bytes: Vec<u8>,
    /// Where each slot's key lies.
    spans: Vec<(usize, u32)>,
    /// Bytes of removed keys.
    garbage: usize,
}

impl Arena {
    #[inline(always)]
    fn get(&self, slot: u32) -> &[u8] {
        let (start, length) = self.spans[slot as usize];
        &self.bytes[start..start + length as usize]
    }

    fn set(&mut self, slot: u32, key: &[u8]) {
        let span = (
            self.bytes.len(),
            u32::try_from(key.len()).expect("arrow rows and strings stay below 4 GiB"),
        );
        self.bytes.extend_from_slice(key);
        if slot as usize == self.spans.len() {
            self.spans.push(span);
        } else {
            self.spans[slot as usize] = span;
        }
    }

    fn remove(&mut self, slot: u32) {
        self.garbage += self.spans[slot as usize].1 as usize;
        self.spans[slot as usize] = (0, 0);
        if self.garbage > 4_096 && self.garbage * 2 > self.bytes.len() {
            let mut bytes = Vec::with_capacity(self.bytes.len() - self.garbage);
            for (start, length) in &mut self.spans {
                let end = *start + *length as usize;
                let moved = bytes.len();
                bytes.extend_from_slice(&self.bytes[*start..end]);
                *start = moved;
            }
            self.bytes = bytes;
            self.garbage = 0;
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.garbage = 0;
    }

    fn bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * 16
    }
}

/// Keys of one string or binary column.
#[derive(Default)]
struct ByteStore {
    table: SlotTable,
    arena: Arena,
    null_slot: Option<u32>,
    /// The hashes of the batch at hand.
    hashes: Vec<u64>,
}

impl ByteStore {
    fn intern(&mut self, column: &ArrayRef, slots: &mut Vec<u32>, new: &mut NewSlots<'_>) -> Result<()> {
        macro_rules! each {
            ($array:expr) => {{
                let array = $array;
                slots.reserve(array.len());
                // All hashes first: then the probes, whose memory is far, do not wait for one another.
                let mut hashes = std::mem::take(&mut self.hashes);
                hashes.clear();
                hashes.extend((0..array.len()).map(|row| {
                    let bytes: &[u8] = array.value(row).as_ref();
                    xxh3_64(bytes)
                }));
                for (row, hash) in hashes.iter().enumerate() {
                    let slot = if array.is_valid(row) {
                        self.find_or_insert(*hash, array.value(row).as_ref(), new)
                    } else {
                        self.null(new)
                    };
                    slots.push(slot);
                }
                self.hashes = hashes;
            }};
        }
        match column.data_type() {
            DataType::Utf8 => each!(column.as_string::<i32>()),
            DataType::LargeUtf8 => each!(column.as_string::<i64>()),
            DataType::Utf8View => each!(column.as_string_view()),
            DataType::Binary => each!(column.as_binary::<i32>()),
            DataType::LargeBinary => each!(column.as_binary::<i64>()),
            DataType::BinaryView => each!(column.as_binary_view()),
            other => return Err(EngineError::bug(format!("a byte key column has type {other}"))),
        }
        Ok(())
    }

    #[inline]
    fn find_or_insert(&mut self, hash: u64, bytes: &[u8], new: &mut NewSlots<'_>) -> u32 {
        let arena = &self.arena;
        if let Some(slot) = self.table.find(hash, |slot| arena.get(slot) == bytes) {
            return slot;
        }
        let slot = new.give();
        self.table.insert(hash, slot);
        self.arena.set(slot, bytes);
        slot
    }

    fn null(&mut self, new: &mut NewSlots<'_>) -> u32 {
        if let Some(slot) = self.null_slot {
            return slot;
        }
        let slot = new.give();
        self.arena.set(slot, &[]);
        // Keeps the slots of table and arena in step; the entry itself is never placed.
        if slot as usize == self.table.hashes.len() {
            self.table.hashes.push(0);
        }
        self.null_slot = Some(slot);
        slot
    }

    fn remove(&mut self, slot: u32) {
        if self.null_slot == Some(slot) {
            self.null_slot = None;
        } else {
            self.table.remove(slot);
            self.arena.remove(slot);
        }
    }

    fn clear(&mut self, live: Option<&[u32]>) {
        self.table.clear(self.null_slot, live);
        self.arena.clear();
        self.null_slot = None;
    }

    fn column(&self, data_type: &DataType, slots: Slots<'_>) -> ArrayRef {
        let null = self.null_slot.map(|slot| slot as usize);
        let values = slots
            .iter()
            .map(|slot| (Some(slot) != null).then(|| self.arena.get(slot as u32)));
        bytes_column(data_type, values)
    }
}

/// Keys of any other types: the bytes of arrow's row format.
struct EncodedStore {
    converter: RowConverter,
    /// The rows of the batch at hand.
    rows: Rows,
    table: SlotTable,
    arena: Arena,
}

impl EncodedStore {
    fn new(types: &[DataType]) -> Result<Self> {
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
        Ok(Self {
            converter,
            rows,
            table: SlotTable::default(),
            arena: Arena::default(),
        })
    }

    fn intern(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        slots: &mut Vec<u32>,
        new: &mut NewSlots<'_>,
    ) -> Result<()> {
        let columns: Vec<ArrayRef> = columns.iter().map(canonical_floats).collect();
        self.rows.clear();
        self.converter.append(&mut self.rows, &columns)?;
        slots.reserve(rows);
        for row in &self.rows {
            let bytes = row.data();
            let hash = xxh3_64(bytes);
            let arena = &self.arena;
            let found = self.table.find(hash, |slot| arena.get(slot) == bytes);
            slots.push(found.unwrap_or_else(|| {
                let slot = new.give();
                self.table.insert(hash, slot);
                self.arena.set(slot, bytes);
                slot
            }));
        }
        Ok(())
    }

    fn remove(&mut self, slot: u32) {
        self.table.remove(slot);
        self.arena.remove(slot);
    }

    fn clear(&mut self, live: Option<&[u32]>) {
        self.table.clear(None, live);
        self.arena.clear();
    }

    fn columns(&self, types: &[DataType], slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        if slots.count() == 0 {
            return Ok(types.iter().map(new_empty_array).collect());
        }
        let parser = self.converter.parser();
        let live = slots.iter().map(|slot| self.arena.get(slot as u32)).collect::<Vec<_>>();
        // A removed slot has no bytes; any key stands in for it, because nobody reads it.
        let some = live.iter().copied().find(|bytes| !bytes.is_empty());
        let Some(some) = some else {
            return Ok(types
                .iter()
                .map(|data_type| arrow::array::new_null_array(data_type, live.len()))
                .collect());
        };
        let rows = live
            .iter()
            .map(|bytes| parser.parse(if bytes.is_empty() { some } else { bytes }));
        let columns = self.converter.convert_rows(rows)?;
        // Dictionaries come back as plain values.
        let as_asked = |(column, data_type): (ArrayRef, &DataType)| {
            if column.data_type() == data_type {
                Ok(column)
            } else {
                Ok(cast(&column, data_type)?)
            }
        };
        columns.into_iter().zip(types).map(as_asked).collect()
    }
}

/// Whether a type is kept as plain bytes.
pub(crate) fn is_bytes(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    matches!(
        data_type,
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView
    )
}

/// How many words a value of a fixed-width type takes; `None` for all other types.
pub(crate) fn word_count(data_type: &DataType) -> Option<usize> {
    macro_rules! count {
        ($native:ty) => {
            Some(<$native as Words>::COUNT)
        };
    }
    by_native! {
        data_type => count,
        DataType::Boolean => Some(1),
        _ => None,
    }
}

/// The values of a one-word column as words, whatever lies under nulls included.
fn column_words(column: &ArrayRef) -> Result<ScalarBuffer<u64>> {
    macro_rules! words {
        (i64) => {
            // Eight bytes that are their own word.
            native_values::<u64>(column)
        };
        (u64) => {
            native_values::<u64>(column)
        };
        ($native:ty) => {
            native_values::<$native>(column)
                .iter()
                .map(|value| value.to_words()[0])
                .collect()
        };
    }
    Ok(by_native! {
        column.data_type() => words,
        DataType::Boolean => column.as_boolean().values().iter().map(u64::from).collect(),
        other => return Err(EngineError::bug(format!("a word key column has type {other}"))),
    })
}

fn words_column(data_type: &DataType, words: Vec<u64>, nulls: Option<NullBuffer>) -> ArrayRef {
    macro_rules! column {
        ($native:ty) => {{
            let values = words
                .iter()
                .map(|word| <$native as Words>::from_words(&[*word, 0, 0, 0]))
                .collect();
            native_column::<$native>(data_type, values, nulls)
        }};
    }
    by_native! {
        data_type => column,
        DataType::Boolean => {
            Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(words.len(), |row| words[row] != 0), nulls))
        },
        _ => unreachable!("only fixed-width types are kept as words"),
    }
}

/// Writes a fixed-width column into rows of `stride` words, from word `offset` on; bit `index` of word 0 says null. Returns how many
/// words a value takes.
fn scatter_words(column: &ArrayRef, rows: &mut [u64], stride: usize, offset: usize, index: usize) -> Result<usize> {
    fn natives<N: Words>(values: &[N], rows: &mut [u64], stride: usize, offset: usize) -> usize {
        for (row, value) in rows.chunks_exact_mut(stride).zip(values) {
            row[offset..offset + N::COUNT].copy_from_slice(&value.to_words()[..N::COUNT]);
        }
        N::COUNT
    }
    macro_rules! scatter {
        ($native:ty) => {
            natives(&native_values::<$native>(column), rows, stride, offset)
        };
    }
    let count = by_native! {
        column.data_type() => scatter,
        DataType::Boolean => {
            for (row, value) in rows.chunks_exact_mut(stride).zip(column.as_boolean().values().iter()) {
                row[offset] = u64::from(value);
            }
            1
        },
        other => return Err(EngineError::bug(format!("a word key column has type {other}"))),
    };
    if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
        for (row, valid) in rows.chunks_exact_mut(stride).zip(nulls.iter()) {
            if !valid {
                row[0] |= 1 << index;
                row[offset..offset + count].fill(0);
            }
        }
    }
    Ok(count)
}

/// The column that [`scatter_words`] wrote, for `slots`.
fn gather_words(
    data_type: &DataType,
    words: &[u64],
    stride: usize,
    offset: usize,
    index: usize,
    slots: Slots<'_>,
) -> ArrayRef {
    let is_valid = |slot: usize| words[slot * stride] & (1 << index) == 0;
    let nulls = NullBuffer::from_iter(slots.iter().map(is_valid));
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    macro_rules! column {
        ($native:ty) => {{
            let values = slots
                .iter()
                .map(|slot| <$native as Words>::from_words(&words[slot * stride + offset..]))
                .collect();
            native_column::<$native>(data_type, values, nulls)
        }};
    }
    by_native! {
        data_type => column,
        DataType::Boolean => {
            let values = slots.iter().map(|slot| words[slot * stride + offset] != 0).collect();
            Arc::new(BooleanArray::new(values, nulls))
        },
        _ => unreachable!("only fixed-width types are kept as words"),
    }
}

/// A string or binary column of the given type.
pub(crate) fn bytes_column<'a>(data_type: &DataType, values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
    fn offsets<'a, T: ByteArrayType>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
        let bytes = arrow::array::GenericBinaryArray::<T::Offset>::from_iter(values);
        let (offsets, data, nulls) = bytes.into_parts();
        Arc::new(GenericByteArray::<T>::new(offsets, data, nulls))
    }
    fn views<'a, T: ByteViewType + ?Sized>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
        let (views, buffers, nulls) = arrow::array::BinaryViewArray::from_iter(values).into_parts();
        Arc::new(GenericByteViewArray::<T>::new(views, buffers, nulls))
    }
    match data_type {
        DataType::Utf8 => offsets::<Utf8Type>(values),
        DataType::LargeUtf8 => offsets::<LargeUtf8Type>(values),
        DataType::Binary => offsets::<BinaryType>(values),
        DataType::LargeBinary => offsets::<LargeBinaryType>(values),
        DataType::Utf8View => views::<StringViewType>(values),
        DataType::BinaryView => views::<BinaryViewType>(values),
        other => unreachable!("{other} is not kept as bytes"),
    }
}

/// Floats in the form by which keys compare: 0.0 for both zeros, one NaN. Other columns as they are.
pub(crate) fn canonical_floats(column: &ArrayRef) -> ArrayRef {
    macro_rules! canonical {
        ($type:ty) => {
            Arc::new(
                column
                    .as_primitive::<$type>()
                    .unary::<_, $type>(|value| Words::from_words(&value.to_words())),
            )
        };
    }
    match column.data_type() {
        DataType::Float16 => canonical!(arrow::datatypes::Float16Type),
        DataType::Float32 => canonical!(arrow::datatypes::Float32Type),
        DataType::Float64 => canonical!(arrow::datatypes::Float64Type),
        _ => Arc::clone(column),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::{Int64Array, StringArray, TimestampMillisecondArray};
    use proptest::prelude::*;

    use super::*;

    /// One column of each store: word, bytes, row of words, arrow's rows.
    fn columns(kind: usize, keys: &[Option<i64>]) -> Vec<ArrayRef> {
        let ints = || Arc::new(Int64Array::from(keys.to_vec())) as ArrayRef;
        let times = || Arc::new(TimestampMillisecondArray::from(keys.to_vec())) as ArrayRef;
        let text = || {
            Arc::new(
                keys.iter()
                    .map(|key| key.map(|key| format!("key {key}")))
                    .collect::<StringArray>(),
            ) as ArrayRef
        };
        let halves = || Arc::new(keys.iter().map(|key| key.map(|key| key / 2)).collect::<Int64Array>()) as ArrayRef;
        let flags = || {
            Arc::new(
                keys.iter()
                    .map(|key| key.map(|key| key % 2 == 0))
                    .collect::<BooleanArray>(),
            ) as ArrayRef
        };
        match kind {
            0 => vec![times()],
            1 => vec![text()],
            2 => vec![halves(), flags()],
            _ => vec![ints(), text()],
        }
    }

    fn table(kind: usize) -> GroupKeys {
        let types = columns(kind, &[])
            .iter()
            .map(|column| column.data_type().clone())
            .collect();
        GroupKeys::new(types).expect("comparable")
    }

    proptest! {
        /// A key keeps its slot until it is removed, comes back as it went in, and draining leaves a table as good as new.
        #[test]
        fn slots_follow_a_map(
            kind in 0_usize..4,
            rounds in proptest::collection::vec(
                (proptest::collection::vec(proptest::option::weighted(0.95, 0_i64..300), 0..200), any::<u8>()),
                1..12,
            ),
        ) {
            let mut keys = table(kind);
            let mut model = HashMap::<Option<i64>, u32>::new();
            let mut slots = Vec::new();
            for (batch, action) in rounds {
                keys.intern(&columns(kind, &batch), batch.len(), &mut slots).expect("interns");
                for (key, slot) in batch.iter().zip(&slots) {
                    prop_assert_eq!(*model.entry(*key).or_insert(*slot), *slot);
                }
                prop_assert_eq!(keys.len(), model.len());
                let mut live: Vec<u32> = model.values().copied().collect();
                live.sort_unstable();
                prop_assert_eq!(keys.live_slots(), live.clone());
                let order: Vec<Option<i64>> =
                    live.iter().map(|slot| *model.iter().find(|(_, found)| *found == slot).expect("live").0).collect();
                prop_assert_eq!(keys.columns(Slots::Some(&live)).expect("reads"), columns(kind, &order));
                if action < 40 {
                    keys.clear();
                    model.clear();
                } else if action < 150 {
                    let gone: Vec<u32> = live.into_iter().filter(|slot| slot % 3 != 0).collect();
                    keys.remove(&gone);
                    model.retain(|_, slot| !gone.contains(slot));
                }
            }
        }
    }

    /// A table that was large once is drained in proportion to what is in it now; no key is left behind.
    #[test]
    fn draining_few_keys_of_a_large_table_leaves_none() {
        for kind in 0..4 {
            let mut keys = table(kind);
            let mut slots = Vec::new();
            let many: Vec<Option<i64>> = (0..10_000).map(Some).collect();
            keys.intern(&columns(kind, &many), many.len(), &mut slots)
                .expect("interns");
            keys.take_all().expect("drains");
            for round in 0..100 {
                let few: Vec<Option<i64>> = (0..50).map(|key| Some(key * 7 + round)).chain([None]).collect();
                keys.intern(&columns(kind, &few), few.len(), &mut slots)
                    .expect("interns");
                assert_eq!(slots, (0..51).collect::<Vec<u32>>());
                assert_eq!(keys.take_all().expect("drains"), columns(kind, &few));
            }
        }
    }

    /// Zeros of both signs are one group, and so are NaNs of any bits; alone and beside another key.
    #[test]
    fn floats_group_as_they_compare() {
        let floats: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![
            -0.0,
            0.0,
            f64::NAN,
            -f64::NAN,
            1.0,
        ]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a"; 5]));
        for columns in [
            vec![Arc::clone(&floats)],
            vec![Arc::clone(&floats), Arc::clone(&floats)],
            vec![floats, text],
        ] {
            let mut keys =
                GroupKeys::new(columns.iter().map(|column| column.data_type().clone()).collect()).expect("keys");
            let mut slots = Vec::new();
            keys.intern(&columns, 5, &mut slots).expect("interns");
            assert_eq!(slots, [0, 0, 1, 1, 2]);
        }
    }
}
