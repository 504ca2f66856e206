//! How often each row is there, by a hash of 128 bits: a table whose entries hold the counts themselves, so that a row costs one cache line.
//!
//! Open addressing with linear probing; removal shifts back, so there are no tombstones. The hash is spread over all bits already, so its
//! first ones are the place.

use crate::keys::look_ahead;

/// The fewest entries of a table.
const ENTRIES_MIN: usize = 64;

/// What is known of a row besides its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct RowHash {
    /// The hash by which rows are exchanged.
    pub(super) route: u64,
    pub(super) low: u64,
    pub(super) high: u64,
}

/// A row and how often it is there. Half a cache line, so that none lies across two.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct Entry {
    row: RowHash,
    /// The count in the high bits, [`USED`] and [`NOTED`] in the low ones.
    packed: i64,
}

/// There is a row in the entry.
const USED: i64 = 1;
/// The row was noted for the next checkpoint.
const NOTED: i64 = 2;
/// The first bit of the count.
const COUNT_SHIFT: u32 = 2;

impl Entry {
    #[inline(always)]
    fn holds(&self, row: &RowHash) -> bool {
        self.packed & USED != 0 && self.row.low == row.low && self.row.high == row.high
    }

    #[inline(always)]
    fn count(&self) -> i64 {
        self.packed >> COUNT_SHIFT
    }
}

/// The counts of all rows that are there.
#[derive(Default)]
pub(super) struct RowCounts {
    /// A power of two of them, at most 3/4 used.
    entries: Vec<Entry>,
    /// `64 - log2(entries.len())`.
    shift: u32,
    used: usize,
}

impl RowCounts {
    /// How many rows there are, equal ones as one.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    #[inline(always)]
    fn home(&self, row: &RowHash) -> usize {
        (row.low >> self.shift) as usize
    }

    /// The entry that holds a row, or the free one where it would be put.
    #[inline(always)]
    fn find(&self, row: &RowHash) -> usize {
        let entries = self.entries.as_slice();
        let mask = entries.len() - 1;
        let mut position = self.home(row);
        loop {
            let entry = &entries[position & mask];
            if entry.packed & USED == 0 || entry.holds(row) {
                return position & mask;
            }
            position += 1;
        }
    }

    /// Makes room for one more row.
    #[inline(always)]
    fn make_room(&mut self) {
        if (self.used + 1) * 4 > self.entries.len() * 3 {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.entries.len() * 2).max(ENTRIES_MIN);
        let old = std::mem::replace(&mut self.entries, vec![Entry::default(); size]);
        self.shift = 64 - size.trailing_zeros();
        for entry in old.into_iter().filter(|entry| entry.packed & USED != 0) {
            let position = self.find(&entry.row);
            self.entries[position] = entry;
        }
    }

    /// Loads the entries where the probes for rows begin, and the next lines, where half of them end.
    pub(super) fn look_ahead<'a>(&self, rows: impl Iterator<Item = &'a RowHash>) {
        if !self.entries.is_empty() {
            let mask = self.entries.len() - 1;
            let homes = rows.map(|row| self.home(row));
            look_ahead(homes.map(|home| self.entries[home].row.low ^ self.entries[(home + 2) & mask].row.low));
        }
    }

    /// How often a row is there.
    pub(super) fn count(&self, row: &RowHash) -> i64 {
        if self.entries.is_empty() { 0 } else { self.entries[self.find(row)].count() }
    }

    /// Adds `weight`, not 0, to the count of a row, where that does not fall below 0; a row that is no longer there is forgotten. With `notes`,
    /// a row that changed and is not noted is added to it. Returns whether the count was changed.
    #[inline]
    pub(super) fn add(&mut self, row: &RowHash, weight: i64, notes: Option<&mut Vec<RowHash>>) -> bool {
        self.make_room();
        let position = self.find(row);
        let entry = &mut self.entries[position];
        if entry.count() + weight < 0 {
            return false;
        }
        if entry.packed & USED == 0 {
            *entry = Entry { row: *row, packed: USED };
            self.used += 1;
        }
        if let Some(notes) = notes
            && entry.packed & NOTED == 0
        {
            entry.packed |= NOTED;
            notes.push(*row);
        }
        entry.packed += weight << COUNT_SHIFT;
        if entry.count() == 0 {
            self.remove_at(position);
        }
        true
    }

    /// Forgets a row, if it is there.
    fn remove(&mut self, row: &RowHash) {
        if self.entries.is_empty() {
            return;
        }
        let position = self.find(row);
        if self.entries[position].packed & USED != 0 {
            self.remove_at(position);
        }
    }

    /// Forgets the row in an entry.
    #[inline]
    fn remove_at(&mut self, mut hole: usize) {
        let mask = self.entries.len() - 1;
        let mut next = (hole + 1) & mask;
        while self.entries[next].packed & USED != 0 {
            let home = self.home(&self.entries[next].row);
            // The hole lies on the way from home to where the entry is.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.entries[hole] = Entry::default();
        self.used -= 1;
    }

    /// Says how often a row is there; 0 forgets it.
    pub(super) fn set(&mut self, row: &RowHash, count: i64) {
        if count == 0 {
            return self.remove(row);
        }
        self.make_room();
        let position = self.find(row);
        self.used += usize::from(self.entries[position].packed & USED == 0);
        self.entries[position] = Entry { row: *row, packed: (count << COUNT_SHIFT) | USED };
    }

    /// A row that was noted is to be noted again when it changes.
    pub(super) fn forget_note(&mut self, row: &RowHash) {
        if !self.entries.is_empty() {
            let position = self.find(row);
            self.entries[position].packed &= !NOTED;
        }
    }

    /// All rows with their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RowHash, i64)> {
        self.entries.iter().filter(|entry| entry.packed & USED != 0).map(|entry| (entry.row, entry.count()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Rows whose places in the table meet often.
    fn row(number: u64) -> RowHash {
        RowHash { route: number, low: ((number % 5) << 59) | (number / 5 % 2), high: number }
    }

    proptest! {
        /// Counts are those of a map, whatever was put in and forgotten before; each row that changed is noted once between two checkpoints.
        #[test]
        fn counts_follow_a_map(steps in proptest::collection::vec(proptest::collection::vec((0_u64..150, -2_i64..3), 0..120), 1..12)) {
            let mut counts = RowCounts::default();
            let mut model = BTreeMap::<u64, i64>::new();
            let (mut notes, mut changed) = (Vec::new(), std::collections::BTreeSet::new());
            for (number, step) in steps.into_iter().enumerate() {
                for (key, weight) in step.into_iter().filter(|(_, weight)| *weight != 0) {
                    let entry = model.entry(key).or_default();
                    let fits = *entry + weight >= 0;
                    if fits {
                        *entry += weight;
                        changed.insert(key);
                    }
                    prop_assert_eq!(counts.add(&row(key), weight, Some(&mut notes)), fits);
                }
                model.retain(|_, count| *count != 0);
                let found: BTreeMap<u64, i64> = counts.iter().map(|(row, count)| (row.high, count)).collect();
                prop_assert_eq!(&found, &model);
                prop_assert_eq!(counts.len(), model.len());
                prop_assert!((0..150).all(|key| counts.count(&row(key)) == model.get(&key).copied().unwrap_or(0)));
                if number % 3 == 2 {
                    let noted: std::collections::BTreeSet<u64> = notes.drain(..).map(|row: RowHash| row.high).collect();
                    prop_assert_eq!(&noted, &changed);
                    changed.clear();
                    noted.iter().for_each(|key| counts.forget_note(&row(*key)));
                }
            }
            let mut copy = RowCounts::default();
            counts.iter().for_each(|(row, count)| copy.set(&row, count));
            model.keys().for_each(|key| copy.set(&row(*key), 0));
            prop_assert_eq!(copy.len(), 0);
        }
    }
}
