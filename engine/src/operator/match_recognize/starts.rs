//! Partitions in work, and the rows at which matches may begin in them: most rows are the beginning of none, and cost nothing then.

use std::borrow::Cow;
use std::ops::Range;

use super::Plan;
use super::busy::Parts;
use super::rows::{NewRows, View};

/// A partition in work: where its rows are among those whose conditions are known.
pub(super) struct Group {
    pub(super) slot: u32,
    /// The position of the first of them.
    pub(super) from: u64,
    pub(super) rows: Range<usize>,
    /// Up to which position all was matched before.
    pub(super) position: u64,
    /// Its rows of the batch in work, and the position of the first of them.
    pub(super) new: NewRows,
    pub(super) new_at: u64,
}

impl Group {
    /// Its rows, with those that `parts` keeps.
    #[inline]
    pub(super) fn view<'a>(&self, parts: &'a Parts) -> View<'a> {
        match parts.busy(self.slot) {
            Some(busy) => View { first: busy.held.first, kept: busy.held.ids(), new: self.new },
            None => View { first: self.position, kept: &[], new: self.new },
        }
    }
}

/// A bit for the last row of each group.
pub(super) fn ends_of(groups: &[Group], count: usize) -> Vec<u64> {
    let mut ends = vec![0; count.div_ceil(64)];
    for row in groups.iter().filter(|group| !group.rows.is_empty()).map(|group| group.rows.end - 1) {
        ends[row / 64] |= 1 << (row % 64);
    }
    ends
}

/// The rows at which a match may begin, in groups one after the other.
pub(super) struct Starts<'a> {
    /// Any row may.
    any: bool,
    /// The first row of a partition may.
    at_first: bool,
    /// A bit for each row.
    words: Cow<'a, [u64]>,
    /// What the next rows are counts, too.
    looked_ahead: bool,
}

impl<'a> Starts<'a> {
    /// What was found for all patterns at once.
    pub(super) fn known(plan: &Plan, words: &'a [u64]) -> Self {
        Self { any: false, at_first: plan.begins.at_first, words: words.into(), looked_ahead: true }
    }

    /// `ends` has a bit for the last row of each group.
    pub(super) fn of(plan: &Plan, bitmaps: &[&[u64]], count: usize, ends: &[u64]) -> Self {
        let begins = &plan.begins;
        if count > 0
            && let Some(words) = plan.matcher.starts(bitmaps, count, ends)
        {
            return Self { any: false, at_first: begins.at_first, words: words.into(), looked_ahead: true };
        }
        let variables = || (0..plan.spec.variables.len()).filter(|place| begins.variables.contains(*place as u8));
        let any = begins.everywhere || variables().any(|variable| plan.spec.conditions[variable].row.is_none());
        let mut words = Vec::new();
        if !any && count > 0 {
            words.resize(count.div_ceil(64), 0);
            for variable in variables() {
                words.iter_mut().zip(bitmaps[variable]).for_each(|(word, bits)| *word |= bits);
            }
            if !count.is_multiple_of(64) {
                *words.last_mut().expect("there are rows") &= (1 << (count % 64)) - 1;
            }
        }
        Self { any, at_first: begins.at_first, words: words.into(), looked_ahead: false }
    }

    /// What the matcher does not know by itself.
    pub(super) fn looked_ahead(&self) -> Option<&[u64]> {
        self.looked_ahead.then_some(&self.words)
    }

    /// The first row of a group at which a match may begin.
    #[inline]
    pub(super) fn next(&self, group: &Group) -> Option<usize> {
        let first = group.rows.start + (group.position - group.from) as usize;
        if first >= group.rows.end {
            return None;
        }
        if self.any || self.at_first && group.position == 0 {
            return Some(first);
        }
        self.next_row(first, group.rows.end)
    }

    /// The first row from `from` on, and before `end`, whose bit is set.
    #[inline]
    fn next_row(&self, from: usize, end: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = *self.words.get(word)? & u64::MAX << (from % 64);
        loop {
            if bits != 0 {
                let row = word * 64 + bits.trailing_zeros() as usize;
                return (row < end).then_some(row);
            }
            word += 1;
            if word * 64 >= end {
                return None;
            }
            bits = *self.words.get(word)?;
        }
    }

    /// The first group from `index` on in which a match may begin, and the row at which. `group_of` has the group of each row.
    pub(super) fn next_group(&self, groups: &[Group], group_of: &[u32], index: usize) -> Option<(usize, usize)> {
        let mut index = index;
        while let Some(group) = groups.get(index) {
            if let Some(row) = self.next(group) {
                return Some((index, row));
            }
            index += 1;
            if self.any || self.at_first {
                continue;
            }
            // Groups without such a row are passed over together.
            let from = groups.get(index)?.rows.start;
            index = group_of[self.next_row(from, group_of.len())?] as usize;
        }
        None
    }
}

/// The group of each row.
pub(super) fn group_of_rows(groups: &[Group], count: usize) -> Vec<u32> {
    let mut group_of = Vec::with_capacity(count);
    for (group, index) in groups.iter().zip(0u32..) {
        group_of.resize(group.rows.end, index);
    }
    group_of
}
