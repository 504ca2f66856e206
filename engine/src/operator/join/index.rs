//! From keys to the rows that have them.
//!
//! Both sides share one table of keys, so that a row is hashed once: the slot of its key leads to its own side's rows, where it is added,
//! and to the other side's, which it meets. The rows of a key are a list through vectors indexed by row id, newest first. Where rows
//! leave, the list is linked both ways, because a key with a million rows must not be walked to take one of them out.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use crate::error::Result;
use crate::keys::GroupKeys;

/// No row.
pub(super) const NONE: u32 = u32::MAX;
/// Marks, in place of the row before the first one, the slot of the key.
const HEAD: u32 = 1 << 31;
/// Marks a key that is about to be forgotten.
const DOOMED: u32 = u32::MAX - 1;

/// Keys with the first row that each side has for them.
pub(super) struct KeyIndex {
    keys: GroupKeys,
    /// By slot.
    heads: Vec<[u32; 2]>,
    /// Slots that may have no rows.
    loose: Vec<u32>,
}

impl KeyIndex {
    pub(super) fn new(types: &[DataType]) -> Result<Self> {
        Ok(Self { keys: GroupKeys::new(types.to_vec())?, heads: Vec::new(), loose: Vec::new() })
    }

    /// The slots of the keys of `rows` rows.
    pub(super) fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut slots = Vec::with_capacity(rows);
        self.keys.intern(keys, rows, &mut slots)?;
        self.heads.resize(self.keys.slot_count(), [NONE; 2]);
        Ok(slots)
    }

    /// The first row that `side` has for a key, or [`NONE`].
    #[inline(always)]
    pub(super) fn head(&self, slot: u32, side: usize) -> u32 {
        self.heads[slot as usize][side]
    }

    /// Forgets the keys without rows. At the end of a step, because a key whose last row leaves often gets the next one in the same step.
    pub(super) fn forget_unused(&mut self) {
        let mut unused = std::mem::take(&mut self.loose);
        unused.retain(|slot| {
            let head = &mut self.heads[*slot as usize];
            let is_unused = *head == [NONE; 2];
            if is_unused {
                // A slot may be listed twice.
                *head = [DOOMED; 2];
            }
            is_unused
        });
        unused.iter().for_each(|slot| self.heads[*slot as usize] = [NONE; 2]);
        self.keys.remove(&unused);
        unused.clear();
        self.loose = unused;
    }

    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes() + self.heads.capacity() * 8 + self.loose.capacity() * 4
    }
}

/// The lists of one side.
pub(super) struct Chains {
    side: usize,
    /// By row id: the next row of the same key.
    pub(super) next: Vec<u32>,
    /// By row id: the row before, or the slot of the key. Empty where rows never leave.
    before: Vec<u32>,
    shrinks: bool,
}

impl Chains {
    pub(super) fn new(side: usize, shrinks: bool) -> Self {
        Self { side, next: Vec::new(), before: Vec::new(), shrinks }
    }

    /// Makes room for row ids below `bound`.
    pub(super) fn grow(&mut self, bound: usize) {
        if self.next.len() < bound {
            self.next.resize(bound, NONE);
            if self.shrinks {
                self.before.resize(bound, NONE);
            }
        }
    }

    /// Adds rows, each at the front of the list of its key.
    pub(super) fn link(&mut self, index: &mut KeyIndex, slots: &[u32], ids: &[u32]) {
        let heads = index.heads.as_mut_slice();
        for (slot, id) in slots.iter().zip(ids) {
            let head = &mut heads[*slot as usize][self.side];
            let first = std::mem::replace(head, *id);
            self.next[*id as usize] = first;
            if self.shrinks {
                self.before[*id as usize] = HEAD | *slot;
                if first != NONE {
                    self.before[first as usize] = *id;
                }
            }
        }
    }

    /// Takes a row out.
    pub(super) fn unlink(&mut self, index: &mut KeyIndex, id: u32) {
        let (before, next) = (self.before[id as usize], self.next[id as usize]);
        if before & HEAD == 0 {
            self.next[before as usize] = next;
        } else {
            let slot = before & !HEAD;
            let heads = &mut index.heads[slot as usize];
            heads[self.side] = next;
            if *heads == [NONE; 2] {
                index.loose.push(slot);
            }
        }
        if next != NONE {
            self.before[next as usize] = before;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        (self.next.capacity() + self.before.capacity()) * 4
    }
}
