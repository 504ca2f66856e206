//! In which order events are handed over: by number, or shuffled within small groups.
//!
//! The official Nexmark generator makes disorder in groups: within each run of `group_size` event numbers, the number at place
//! `p` is handed over as event `(p * 953) mod group_size` of the group. That is a bijection whenever the group size shares no
//! factor with 953, needs no memory, and bounds how late an event can be by the length of the group, which a watermark needs.
//!
//! Two words are kept apart below: an event *number* is a place in the stream as it is handed over; an event *id* says which
//! event that is (its kind, its time, its draws). Without disorder they are the same.

use std::ops::Range;

use crate::error::{DatasetError, Result};

/// The prime by which the official generator strides through a group.
const STRIDE: u64 = 953;
/// A larger group would make a seek, which walks one group, slow.
const GROUP_SIZE_MAX: u64 = 1_000_000;

/// The order of hand-over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    group_size: u64,
}

impl Order {
    pub(crate) fn new(dataset: &'static str, group_size: u64) -> Result<Self> {
        if group_size == 0 || group_size > GROUP_SIZE_MAX || (group_size > 1 && group_size.is_multiple_of(STRIDE)) {
            return Err(DatasetError::OptionOutOfRange {
                dataset,
                option: "out-of-order-group-size",
                value: group_size.to_string(),
                way_out: format!(
                    "use 1 for events in order, or up to {GROUP_SIZE_MAX} for groups in which events are shuffled; no multiple \
                     of {STRIDE}, with which the shuffle would repeat events"
                ),
            });
        }
        Ok(Self { group_size })
    }

    pub(crate) fn is_shuffled(self) -> bool {
        self.group_size > 1
    }

    /// The first event number of the group that `number` is in. All event ids from there on are handed over from there on.
    pub(crate) fn group_start(self, number: u64) -> u64 {
        number - number % self.group_size
    }

    pub(crate) fn group_size(self) -> u64 {
        self.group_size
    }

    /// The ids of the events at the given numbers.
    pub(crate) fn ids(self, numbers: Range<u64>) -> impl Iterator<Item = u64> {
        numbers.map(move |number| self.id(number))
    }

    #[inline]
    pub(crate) fn id(self, number: u64) -> u64 {
        if self.group_size == 1 {
            return number;
        }
        let place = number % self.group_size;
        number - place + place * STRIDE % self.group_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each event is handed over exactly once, and never outside its group.
    #[test]
    fn a_group_is_permuted() {
        for group_size in [1, 2, 7, 50, 952, 954, 1_000] {
            let order = Order::new("test", group_size).expect("a legal size");
            let mut ids: Vec<u64> = order.ids(group_size..2 * group_size).collect();
            ids.sort_unstable();
            assert_eq!(ids, (group_size..2 * group_size).collect::<Vec<_>>());
        }
    }

    /// A group size with which the official formula repeats events is refused, with the reason.
    #[test]
    fn sizes_that_would_repeat_events_are_refused() {
        for group_size in [0, STRIDE, 10 * STRIDE, GROUP_SIZE_MAX + 1] {
            let error = Order::new("nexmark", group_size).expect_err("an illegal size").to_string();
            assert!(error.contains(&group_size.to_string()) && error.contains("use 1"), "{error}");
        }
    }
}
