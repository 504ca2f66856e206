//! Which noted rows are which stored ones, so that a row that came and went between two checkpoints is never written.
//!
//! Notes are counted from the last checkpoint on: the first one has place 0. The notes of one stored row are a list, from the newest back to
//! the first, which says whether the last checkpoint has the row. When the row leaves and it has not, all its notes are gone: together they
//! say nothing. A row that the checkpoint has keeps its notes, the last of which takes it back.

use arrow::array::{BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;

/// No place.
const NONE: u32 = u32::MAX;
/// Before the first note of a row that the last checkpoint has.
const KNOWN: u32 = u32::MAX - 1;
/// Before the first note of one that it does not have.
const NEW: u32 = u32::MAX - 2;

/// The notes since the last checkpoint.
#[derive(Default)]
pub(super) struct Noted {
    /// By place: the id of the row; [`NONE`]: it cannot be told any more, or never could.
    ids: Vec<u32>,
    /// By place: where the row's note before is, or [`KNOWN`] or [`NEW`].
    before: Vec<u32>,
    /// By place.
    gone: Vec<bool>,
    gone_count: usize,
    /// By id: the place of the newest note.
    newest: Vec<u32>,
}

impl Noted {
    /// Notes rows from place `place` on; `is_new`: which of them were not there before.
    pub(super) fn push(&mut self, place: usize, ids: &[u32], is_new: impl Fn(usize) -> bool) {
        self.reach(place);
        for (row, id) in ids.iter().enumerate() {
            if self.newest.len() <= *id as usize {
                self.newest.resize(*id as usize + 1, NONE);
            }
            let newest = &mut self.newest[*id as usize];
            let first = if is_new(row) { NEW } else { KNOWN };
            self.before.push(if *newest == NONE { first } else { *newest });
            *newest = (place + row) as u32;
        }
        self.ids.extend_from_slice(ids);
        self.gone.resize(self.ids.len(), false);
    }

    /// Notes up to `place` that nobody named are of rows that are not known.
    fn reach(&mut self, place: usize) {
        self.ids.resize(place, NONE);
        self.before.resize(place, KNOWN);
        self.gone.resize(place, false);
    }

    /// The row leaves, or is noted otherwise from now on. Returns whether the last checkpoint does not have it and it had notes, which are gone
    /// then.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        let Some(newest) = self.newest.get_mut(id as usize).filter(|place| **place != NONE) else {
            return false;
        };
        let newest = std::mem::replace(newest, NONE);
        let mut place = newest;
        while place < NEW {
            self.ids[place as usize] = NONE;
            place = self.before[place as usize];
        }
        if place != NEW {
            return false;
        }
        let mut place = newest;
        while place < NEW {
            self.lose(place as usize);
            place = self.before[place as usize];
        }
        true
    }

    fn lose(&mut self, place: usize) {
        self.gone_count += usize::from(!std::mem::replace(&mut self.gone[place], true));
    }

    /// The notes `[first, first + kept.len())` that `kept` says `false` of are gone.
    pub(super) fn retain(&mut self, first: usize, kept: &BooleanArray) {
        self.reach(self.ids.len().max(first + kept.len()));
        (0..kept.len()).filter(|row| !kept.value(*row)).for_each(|row| self.lose(first + row));
    }

    pub(super) fn gone_count(&self) -> usize {
        self.gone_count
    }

    /// Which of the notes `[first, first + count)` are not gone; `None`: all.
    pub(super) fn left(&self, first: usize, count: usize) -> Option<BooleanArray> {
        // Behind the last one are notes that nobody named.
        let gone = &self.gone[first.min(self.gone.len())..(first + count).min(self.gone.len())];
        if !gone.contains(&true) {
            return None;
        }
        let mut left = BooleanBufferBuilder::new(count);
        left.append_buffer(&BooleanBuffer::collect_bool(gone.len(), |place| !gone[place]));
        left.append_n(count - gone.len(), true);
        Some(BooleanArray::new(left.finish(), None))
    }

    /// The notes that are gone are taken away, and the others move together.
    pub(super) fn sweep(&mut self) {
        let left = self.ids.len() - self.gone_count;
        let mut ids = Vec::with_capacity(left);
        let mut before = Vec::with_capacity(left);
        let mut moved_to = vec![NONE; self.ids.len()];
        for (place, id) in self.ids.iter().enumerate() {
            let mut last = place as u32;
            while last < NEW && self.gone[last as usize] {
                last = self.before[last as usize];
            }
            if last == place as u32 {
                let mut last = self.before[place];
                while last < NEW && self.gone[last as usize] {
                    last = self.before[last as usize];
                }
                moved_to[place] = ids.len() as u32;
                before.push(if last < NEW { moved_to[last as usize] } else { last });
                ids.push(*id);
            }
            // The newest note of a row is its last one that is left.
            if let Some(newest) = self.newest.get_mut(*id as usize).filter(|newest| **newest == place as u32) {
                *newest = if last < NEW { moved_to[last as usize] } else { NONE };
            }
        }
        (self.ids, self.before) = (ids, before);
        self.gone.clear();
        self.gone.resize(left, false);
        self.gone_count = 0;
    }

    /// All notes are in a checkpoint.
    pub(super) fn clear(&mut self) {
        for id in &self.ids {
            if let Some(newest) = self.newest.get_mut(*id as usize) {
                *newest = NONE;
            }
        }
        self.ids.clear();
        self.before.clear();
        self.gone.clear();
        self.gone_count = 0;
    }

    /// Whether there is nothing to be told of any note.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        (self.ids.capacity() + self.before.capacity() + self.newest.capacity()) * 4 + self.gone.capacity()
    }
}
