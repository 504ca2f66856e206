//! Rows under way that are too many for the key itself and whose attempt waits for more: they lie in one piece of memory, of which the next
//! row is written at the end and nothing else is looked at.
//!
//! That holds as long as a row decides nothing. When one does, the states of the rows before it are made anew, a look-up each: most rows of a
//! long match only go on, and where there are many partitions, what they cost is how many lines of a cache they are spread over.

use crate::determinise::Attempts;
use crate::matcher::MatcherSpec;
use crate::short::{NO_DEADLINE, deadline_of, gap_of};

/// As many rows are kept so.
pub(crate) const LONG_ROWS: usize = if cfg!(test) { 12 } else { 128 };
/// The gaps of so many rows are side by side, and then their classes, a byte each.
const GROUP: usize = 4;
const GROUP_WORDS: usize = GROUP + 1;

/// No match so far.
const NONE: u16 = u16::MAX;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Long {
    /// The first row under way.
    pub(crate) start: u64,
    /// Until when rows may join it.
    deadline: i64,
    /// The times of rows, counted from the first one's, and their classes.
    words: Vec<u32>,
    rows: u16,
    /// How many rows the match has that it is if no preferred one comes.
    best: u16,
    /// Of the attempt, after the last row.
    state: u8,
}

/// Where an attempt stands that has taken all rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) state: u8,
    pub(crate) best: Option<usize>,
}

impl Long {
    /// Rows from `start` on, with their times if there is a bound, all of which the attempt at the first one has taken. `None`: they do not
    /// fit.
    pub(crate) fn of(
        start: u64,
        (classes, times): (&[u8], &[i64]),
        standing: Standing,
        within: Option<i64>,
    ) -> Option<Self> {
        if classes.len() > LONG_ROWS {
            return None;
        }
        let mut long = Self {
            start,
            deadline: NO_DEADLINE,
            words: Vec::with_capacity(classes.len().div_ceil(GROUP).next_multiple_of(4) * GROUP_WORDS),
            rows: 0,
            best: standing.best.map_or(NONE, |best| best as u16),
            state: standing.state,
        };
        let mut first = 0;
        if let (Some(within), Some(time)) = (within, times.first()) {
            long.deadline = deadline_of(*time, within)?;
            first = *time;
        }
        for (row, class) in classes.iter().enumerate() {
            let gap = times.get(row).map_or(Some(0), |time| gap_of(first, *time))?;
            long.push(gap, *class);
        }
        Some(long)
    }

    fn push(&mut self, gap: u32, class: u8) {
        let (group, place) = (usize::from(self.rows) / GROUP * GROUP_WORDS, usize::from(self.rows) % GROUP);
        if place == 0 {
            if self.words.capacity() < group + GROUP_WORDS {
                self.words.reserve(group.max(GROUP_WORDS));
            }
            self.words.extend([0; GROUP_WORDS]);
        }
        self.words[group + place] = gap;
        self.words[group + GROUP] |= u32::from(class) << (8 * place);
        self.rows += 1;
    }

    pub(crate) fn deadline(&self) -> Option<i64> {
        (self.deadline != NO_DEADLINE).then_some(self.deadline)
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.into()
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing { state: self.state, best: (self.best != NONE).then_some(self.best.into()) }
    }

    pub(crate) fn classes(&self) -> impl Iterator<Item = u8> + '_ {
        let groups = self.words.chunks_exact(GROUP_WORDS);
        groups.flat_map(|group| group[GROUP].to_le_bytes()).take(self.rows.into())
    }

    /// The times of the rows, where there is a bound.
    pub(crate) fn times(&self, within: Option<i64>) -> impl Iterator<Item = i64> + '_ {
        let first = within.map_or(0, |within| self.deadline - within);
        let rows = if within.is_some() { self.rows.into() } else { 0 };
        let gaps = self.words.chunks_exact(GROUP_WORDS).flat_map(|group| &group[..GROUP]);
        gaps.take(rows).map(move |gap| first + i64::from(*gap))
    }

    /// Takes the next rows as long as none of them decides anything; gives how many it has taken.
    #[inline]
    pub(crate) fn take(&mut self, attempts: &Attempts, spec: &MatcherSpec, classes: &[u8], times: &[i64]) -> usize {
        let first = spec.within.map_or(0, |within| self.deadline - within);
        for (taken, class) in classes.iter().enumerate() {
            let rows = usize::from(self.rows) + 1;
            let mut gap = 0;
            if spec.within.is_some() {
                let time = times[taken];
                let Some(known) = gap_of(first, time).filter(|_| time <= self.deadline) else { return taken };
                gap = known;
            }
            if rows > LONG_ROWS || rows > spec.max_partial {
                return taken;
            }
            let Some((next, accepts)) = attempts.undecided(self.state, *class) else { return taken };
            self.push(gap, *class);
            self.state = next;
            if accepts {
                self.best = self.rows;
            }
        }
        classes.len()
    }

    /// Touches its lines.
    #[inline]
    pub(crate) fn look_ahead(&self) -> u64 {
        u64::from(self.words.first().copied().unwrap_or(0) ^ self.words.last().copied().unwrap_or(0))
    }

    /// Bytes elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is kept is what came, however it lies.
        #[test]
        fn rows_come_back(rows in prop::collection::vec((0u8..9, 0i64..1_000), 1..LONG_ROWS + 1), best in prop::option::of(0usize..5)) {
            let mut time = -7;
            let times: Vec<i64> = rows.iter().map(|(_, gap)| { time += gap; time }).collect();
            let classes: Vec<u8> = rows.iter().map(|(class, _)| *class).collect();
            let standing = Standing { state: 3, best };
            let long = Long::of(5, (&classes, &times), standing, Some(100)).expect("it fits");
            prop_assert_eq!(long.classes().collect::<Vec<_>>(), classes);
            prop_assert_eq!(long.times(Some(100)).collect::<Vec<_>>(), times);
            prop_assert_eq!((long.rows(), long.standing().best, long.standing().state), (rows.len(), best, 3));
            prop_assert_eq!(long.deadline(), Some(rows[0].1 - 7 + 100));
        }
    }
}
