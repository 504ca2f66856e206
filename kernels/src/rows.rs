//! Rows of one step, grouped by key: what every keyed kernel reads.

/// With fewer rows than this share of the slots, rows are sorted instead of counted.
const ROWS_TO_SLOTS: usize = 16;

/// Which rows belong to which key, in event-time order within the key (compressed sparse rows).
///
/// The `i`-th group is key `slots[i]`; its rows are `offsets[i]..offsets[i + 1]` of every column of the batch. Slots ascend, so the
/// groups of one state page lie side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupedRows {
    slots: Vec<u32>,
    offsets: Vec<u32>,
    order: Vec<u32>,
}

impl GroupedRows {
    /// Groups rows by their dense key id, keeping the order of rows within a key: a counting sort, or, where there are far fewer rows than
    /// slots, a sort of the rows, so that a small step costs nothing for the keys that it does not have.
    ///
    /// `slots[r]` is the slot of row `r` and is below `slot_count`. [`order`](Self::order) tells where each grouped row came from.
    ///
    /// # Panics
    /// When there are more than `u32::MAX` rows (a step is cut far below), or a slot is not below `slot_count`.
    pub fn group(slots: &[u32], slot_count: usize) -> Self {
        assert!(u32::try_from(slots.len()).is_ok(), "a step has fewer than 2^32 rows");
        assert!(slots.iter().all(|slot| (*slot as usize) < slot_count), "each row's slot is one of the slots");
        if slots.len() < slot_count / ROWS_TO_SLOTS {
            return Self::group_few(slots);
        }
        let mut starts = vec![0u32; slot_count + 1];
        for &slot in slots {
            starts[slot as usize + 1] += 1;
        }
        let mut grouped = GroupedRows { slots: Vec::new(), offsets: vec![0], order: vec![0; slots.len()] };
        for slot in 0..slot_count {
            let count = starts[slot + 1];
            starts[slot + 1] += starts[slot];
            if count > 0 {
                grouped.slots.push(slot as u32);
                grouped.offsets.push(starts[slot + 1]);
            }
        }
        for (row, &slot) in slots.iter().enumerate() {
            let place = &mut starts[slot as usize];
            grouped.order[*place as usize] = row as u32;
            *place += 1;
        }
        grouped
    }

    fn group_few(slots: &[u32]) -> Self {
        let mut rows: Vec<u64> = slots.iter().zip(0u64..).map(|(slot, row)| u64::from(*slot) << 32 | row).collect();
        rows.sort_unstable();
        let mut grouped = GroupedRows { slots: Vec::new(), offsets: vec![0], order: Vec::with_capacity(rows.len()) };
        for row in rows {
            let slot = (row >> 32) as u32;
            if grouped.slots.last() != Some(&slot) {
                grouped.slots.push(slot);
                grouped.offsets.push(grouped.order.len() as u32);
            }
            grouped.order.push(row as u32);
            let end = grouped.offsets.last_mut().expect("it starts with 0");
            *end = grouped.order.len() as u32;
        }
        grouped
    }

    /// Rows that are grouped already: `offsets` starts at 0, ascends strictly and has one more entry than `slots`, which ascends too.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn from_parts(slots: Vec<u32>, offsets: Vec<u32>) -> Self {
        assert_eq!(slots.len() + 1, offsets.len(), "one end for each group");
        assert_eq!(offsets[0], 0, "the first group starts at row 0");
        assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "no group is empty");
        assert!(slots.windows(2).all(|pair| pair[0] < pair[1]), "slots ascend");
        let order = (0..*offsets.last().expect("has a first entry")).collect();
        GroupedRows { slots, offsets, order }
    }

    /// The slot of each group, ascending.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// Where each group starts; the last entry is the count of rows.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// For each grouped row, the row before grouping.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// How many rows there are.
    pub fn row_count(&self) -> usize {
        self.order.len()
    }

    /// The slot and the rows of each group.
    pub fn groups(&self) -> impl Iterator<Item = (u32, std::ops::Range<usize>)> + '_ {
        self.slots.iter().zip(self.offsets.windows(2)).map(|(&slot, pair)| (slot, pair[0] as usize..pair[1] as usize))
    }

    /// The runs of groups that lie in one page of `slots_per_page` slots: page number and range of groups.
    pub fn pages(&self, slots_per_page: usize) -> Vec<(usize, std::ops::Range<usize>)> {
        let mut pages: Vec<(usize, std::ops::Range<usize>)> = Vec::new();
        for (group, &slot) in self.slots.iter().enumerate() {
            let page = slot as usize / slots_per_page;
            match pages.last_mut() {
                Some((last, groups)) if *last == page => groups.end = group + 1,
                _ => pages.push((page, group..group + 1)),
            }
        }
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_keep_their_order_within_a_key() {
        let grouped = GroupedRows::group(&[5, 0, 5, 7, 0], 9);
        assert_eq!(grouped.slots(), [0, 5, 7]);
        assert_eq!(grouped.offsets(), [0, 2, 4, 5]);
        assert_eq!(grouped.order(), [1, 4, 0, 2, 3]);
        assert_eq!(grouped.pages(6), [(0, 0..2), (1, 2..3)]);
    }

    #[test]
    fn no_rows_are_no_groups() {
        let grouped = GroupedRows::group(&[], 4);
        assert_eq!((grouped.slots().len(), grouped.offsets(), grouped.row_count()), (0, &[0u32][..], 0));
        assert!(grouped.pages(16).is_empty());
    }

    proptest! {
        /// A row that is lost or moved to another key in grouping would be scored wrongly.
        #[test]
        fn grouping_is_a_stable_sort(
            slots in proptest::collection::vec(0u32..50, 0..300),
            slot_count in prop_oneof![Just(50usize), 50usize..20_000],
        ) {
            let grouped = GroupedRows::group(&slots, slot_count);
            let mut expected: Vec<u32> = (0..slots.len() as u32).collect();
            expected.sort_by_key(|&row| slots[row as usize]);
            prop_assert_eq!(grouped.order(), expected);
            for (slot, rows) in grouped.groups() {
                prop_assert!(grouped.order()[rows].iter().all(|&row| slots[row as usize] == slot));
            }
        }
    }
}
