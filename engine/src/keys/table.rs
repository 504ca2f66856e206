//! The hash table behind keys of more than a word, and the arena of those of any length.
//!
//! Open addressing with linear probing. Removal shifts back, so there are no tombstones; and a table that holds little is emptied entry
//! by entry, youngest first, because the capacity that a large step left behind must not cost the small ones after it.

use super::look_ahead;

/// Marks an unused table entry.
pub(super) const EMPTY: u32 = u32::MAX;
/// The fewest entries of a table.
pub(super) const ENTRIES_MIN: usize = 64;
/// A multiplier with well-spread bits (2^64 / golden ratio), for tables whose keys are not hashed.
pub(super) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whether the entry at `next` whose probe starts at `home` may move back into `hole`.
#[inline]
pub(super) fn may_move(home: usize, hole: usize, next: usize, mask: usize) -> bool {
    // The hole lies on the way from home to where the entry is.
    (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask)
}

/// A table from hashes to slots; what a slot's key is, the caller knows.
#[derive(Default)]
pub(super) struct SlotTable {
    /// `(tag, slot)`, a power of two of them, at most 3/4 used. The first bits of a tag are where its probe begins, so that shifting
    /// entries back looks at nothing but the entries.
    pub(super) entries: Vec<(u32, u32)>,
    /// `32 - log2(entries.len())`.
    shift: u32,
    pub(super) used: usize,
    /// The hash of each slot.
    pub(super) hashes: Vec<u64>,
}

impl SlotTable {
    pub(super) fn bytes(&self) -> usize {
        (self.entries.capacity() + self.hashes.capacity()) * 8
    }

    /// Spread once more, because a shard's hashes have their first bits in common.
    #[inline(always)]
    fn tag(hash: u64) -> u32 {
        (hash.wrapping_mul(SPREAD) >> 32) as u32
    }

    #[inline(always)]
    fn home(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    /// The slot with this hash for which `equal` holds, else a new one from `give`; and whether it is new.
    #[inline(always)]
    pub(super) fn find_or_insert(
        &mut self,
        hash: u64,
        equal: impl Fn(u32) -> bool,
        give: impl FnOnce() -> u32,
    ) -> (u32, bool) {
        if (self.used + 1) * 4 > self.entries.len() * 3 {
            self.grow();
        }
        let wanted = Self::tag(hash);
        let mut position = self.home(wanted);
        let entries = self.entries.as_mut_slice();
        let mask = entries.len() - 1;
        let free = loop {
            let entry = &mut entries[position & mask];
            if entry.1 == EMPTY {
                break entry;
            }
            if entry.0 == wanted && equal(entry.1) {
                return (entry.1, false);
            }
            position += 1;
        };
        let slot = give();
        *free = (wanted, slot);
        self.used += 1;
        if slot as usize == self.hashes.len() {
            self.hashes.push(hash);
        } else {
            self.hashes[slot as usize] = hash;
        }
        (slot, true)
    }

    /// The slot in the entry where the probe for a hash begins, if its tag is the hash's; else [`EMPTY`].
    #[inline(always)]
    pub(super) fn first(&self, hash: u64) -> u32 {
        let wanted = Self::tag(hash);
        let (tag, slot) = self.entries[self.home(wanted) & (self.entries.len() - 1)];
        if tag == wanted { slot } else { EMPTY }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let size = (self.entries.len() * 2).max(ENTRIES_MIN);
        let old = std::mem::replace(&mut self.entries, vec![(0, EMPTY); size]);
        // A table with more entries than tags tell apart begins all probes in its first part.
        self.shift = 32_u32.saturating_sub(size.trailing_zeros());
        let mask = size - 1;
        for (tag, slot) in old.into_iter().filter(|(_, slot)| *slot != EMPTY) {
            let mut position = self.home(tag);
            while self.entries[position].1 != EMPTY {
                position = (position + 1) & mask;
            }
            self.entries[position] = (tag, slot);
        }
    }

    /// Loads the entries where the probes for slots in use begin.
    pub(super) fn look_ahead(&self, slots: &[u32]) {
        let home = |slot: &u32| self.home(Self::tag(self.hashes[*slot as usize]));
        look_ahead(slots.iter().map(|slot| u64::from(self.entries[home(slot)].0)));
    }

    fn position(&self, slot: u32) -> usize {
        let mask = self.entries.len() - 1;
        let mut position = self.home(Self::tag(self.hashes[slot as usize]));
        while self.entries[position].1 != slot {
            position = (position + 1) & mask;
        }
        position
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let mask = self.entries.len() - 1;
        let mut hole = self.position(slot);
        let mut next = (hole + 1) & mask;
        while self.entries[next].1 != EMPTY {
            let home = self.home(self.entries[next].0);
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
    pub(super) fn clear(&mut self, skip: Option<u32>, live: Option<&[u32]>) {
        if self.hashes.len() * 8 >= self.entries.len() {
            self.entries.fill((0, EMPTY));
        } else if let Some(live) = live {
            live.iter().filter(|slot| Some(**slot) != skip).for_each(|slot| self.remove(*slot));
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

/// Variable-length keys, one after the other.
#[derive(Default)]
pub(super) struct Arena {
    pub(super) bytes: Vec<u8>,
    /// Where each slot's key lies.
    pub(super) spans: Vec<(usize, u32)>,
    /// Bytes of removed keys.
    pub(super) garbage: usize,
}

impl Arena {
    #[inline(always)]
    pub(super) fn get(&self, slot: u32) -> &[u8] {
        let (start, length) = self.spans[slot as usize];
        &self.bytes[start..start + length as usize]
    }

    pub(super) fn set(&mut self, slot: u32, key: &[u8]) {
        let span = (self.bytes.len(), u32::try_from(key.len()).expect("arrow rows and strings stay below 4 GiB"));
        self.bytes.extend_from_slice(key);
        if slot as usize == self.spans.len() {
            self.spans.push(span);
        } else {
            self.spans[slot as usize] = span;
        }
    }

    pub(super) fn remove(&mut self, slot: u32) {
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

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.garbage = 0;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * 16
    }
}
