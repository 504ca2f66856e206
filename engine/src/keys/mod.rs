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

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use self::bytes::ByteStore;
use self::columns::word_count;
use self::encoded::EncodedStore;
use self::row::RowStore;
use self::word::WordStore;
use crate::aggregate::Slots;
use crate::error::Result;

mod ahead;
mod bytes;
mod columns;
mod encoded;
mod row;
mod table;
#[cfg(test)]
mod tests;
mod word;

pub(crate) use self::ahead::{AHEAD, look_ahead};
pub(crate) use self::columns::{bytes_column, is_bytes};
pub use self::columns::{canonical_values, has_other_forms, with_types};
pub(crate) use self::row::KeyWords;

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
        Ok(Self { types, store, free: Vec::new(), slot_count: 0, fresh: Vec::new(), in_order: true })
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
        self.intern_hashed(columns, rows, None, slots)
    }

    /// The same where a well-mixed hash of each row is at hand, so that none need be computed: equal rows have the same in all calls, and
    /// either all calls bring hashes or none.
    pub(crate) fn intern_hashed(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        hashes: Option<&[u64]>,
        slots: &mut Vec<u32>,
    ) -> Result<()> {
        debug_assert_eq!(columns.len(), self.types.len());
        slots.clear();
        self.fresh.clear();
        if rows == 0 {
            return Ok(());
        }
        let mut new = NewSlots { free: &mut self.free, slot_count: &mut self.slot_count, fresh: &mut self.fresh };
        match &mut self.store {
            Store::Unit => {
                if *new.slot_count == 0 || !new.free.is_empty() {
                    new.give();
                }
                slots.resize(rows, 0);
                Ok(())
            }
            Store::Word(store) => store.intern(&columns[0], slots, &mut new),
            Store::Row(store) => store.intern(columns, rows, hashes, slots, &mut new),
            Store::Bytes(store) => store.intern(&columns[0], slots, &mut new),
            Store::Encoded(store) => store.intern(columns, rows, hashes, slots, &mut new),
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

    /// One of the [`columns`](Self::columns).
    pub fn column(&self, index: usize, slots: Slots<'_>) -> Result<ArrayRef> {
        match &self.store {
            Store::Row(store) => Ok(store.column(&self.types, index, slots)),
            _ => Ok(self.columns(slots)?.swap_remove(index)),
        }
    }

    /// One of the columns as words, where each value is a word of a row of words. Under nulls lies 0.
    pub(crate) fn words(&self, index: usize) -> Option<KeyWords<'_>> {
        match &self.store {
            Store::Row(store) => store.words(&self.types, index),
            _ => None,
        }
    }

    /// The slots that hold keys, ascending.
    pub fn live_slots(&self) -> Vec<u32> {
        let mut live = vec![true; self.slot_count];
        self.free.iter().for_each(|slot| live[*slot as usize] = false);
        (0..self.slot_count as u32).filter(|slot| live[*slot as usize]).collect()
    }

    /// Forgets the keys of `slots`, all of which are in use; the slots will be given out again.
    pub fn remove(&mut self, slots: &[u32]) {
        match &mut self.store {
            Store::Unit => {}
            Store::Word(store) => slots.iter().for_each(|slot| store.remove(*slot)),
            Store::Row(store) => store.remove(slots),
            Store::Bytes(store) => slots.iter().for_each(|slot| store.remove(*slot)),
            Store::Encoded(store) => slots.iter().for_each(|slot| store.remove(*slot)),
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
            Store::Word(store) => store.clear(),
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
            Store::Row(store) => store.bytes(),
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
