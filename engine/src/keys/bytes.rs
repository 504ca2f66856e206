//! Keys of one string or binary column.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use xxhash_rust::xxh3::xxh3_64;

use super::NewSlots;
use super::columns::bytes_column;
use super::table::{Arena, SlotTable};
use crate::aggregate::Slots;
use crate::error::{EngineError, Result};

/// Keys of one string or binary column.
#[derive(Default)]
pub(super) struct ByteStore {
    pub(super) table: SlotTable,
    pub(super) arena: Arena,
    pub(super) null_slot: Option<u32>,
    /// The hashes of the batch at hand.
    pub(super) hashes: Vec<u64>,
}

impl ByteStore {
    pub(super) fn intern(&mut self, column: &ArrayRef, slots: &mut Vec<u32>, new: &mut NewSlots<'_>) -> Result<()> {
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
    pub(super) fn find_or_insert(&mut self, hash: u64, bytes: &[u8], new: &mut NewSlots<'_>) -> u32 {
        let arena = &self.arena;
        let (slot, is_new) = self.table.find_or_insert(hash, |slot| arena.get(slot) == bytes, || new.give());
        if is_new {
            self.arena.set(slot, bytes);
        }
        slot
    }

    pub(super) fn null(&mut self, new: &mut NewSlots<'_>) -> u32 {
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

    pub(super) fn remove(&mut self, slot: u32) {
        if self.null_slot == Some(slot) {
            self.null_slot = None;
        } else {
            self.table.remove(slot);
            self.arena.remove(slot);
        }
    }

    pub(super) fn clear(&mut self, live: Option<&[u32]>) {
        self.table.clear(self.null_slot, live);
        self.arena.clear();
        self.null_slot = None;
    }

    pub(super) fn column(&self, data_type: &DataType, slots: Slots<'_>) -> ArrayRef {
        let null = self.null_slot.map(|slot| slot as usize);
        let values = slots.iter().map(|slot| (Some(slot) != null).then(|| self.arena.get(slot as u32)));
        bytes_column(data_type, values)
    }
}
