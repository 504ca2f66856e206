//! The rows that a partition keeps: ids by position, of which the first ones go and new ones come behind.

/// Ids of rows at positions one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// The position of the first row that is held.
    pub(super) first: u64,
    ids: Vec<u32>,
    /// So many of `ids` have gone.
    gone: usize,
    /// When the watermark will have something to do with the partition, as far as it is noted.
    pub(super) due: Option<i64>,
}

impl Held {
    /// No rows; the next one will be at `first`.
    pub(super) fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// The rows, in order.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids[self.gone..]
    }

    /// Lets rows before a position go; their ids are added to `gone`.
    pub(super) fn release(&mut self, before: u64, gone: &mut Vec<u32>) {
        let count = before.saturating_sub(self.first).min(self.ids().len() as u64) as usize;
        gone.extend_from_slice(&self.ids[self.gone..self.gone + count]);
        self.gone += count;
        self.first = self.first.max(before);
        if self.gone > self.ids.len() / 2 {
            self.ids.drain(..self.gone);
            self.gone = 0;
        }
    }

    /// Adds rows behind.
    pub(super) fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        self.ids.capacity() * 4
    }
}
