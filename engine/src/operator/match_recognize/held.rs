//! The rows that a partition keeps: ids by position, of which the first ones go and new ones come behind.

/// So many ids have room in place: most partitions keep few rows, and there are many partitions.
const HERE: usize = 6;

/// Ids of rows at positions one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// The position of the first row that is held.
    pub(super) first: u64,
    /// When the watermark will have something to do with the partition, as far as it is noted.
    pub(super) due: Option<i64>,
    /// Where all ids are, if it has a capacity.
    elsewhere: Vec<u32>,
    here: [u32; HERE],
    /// So many ids of those that are there have gone, and so many are there.
    gone: u32,
    len: u32,
}

impl Held {
    /// No rows; the next one will be at `first`.
    pub(super) fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// The rows, in order.
    #[inline]
    pub(super) fn ids(&self) -> &[u32] {
        let range = self.gone as usize..self.len as usize;
        if self.elsewhere.capacity() == 0 { &self.here[range] } else { &self.elsewhere[range] }
    }

    /// Loads the ids that are elsewhere; what they are does not matter.
    #[inline]
    pub(super) fn look_ahead(&self) -> u64 {
        self.elsewhere.first().map_or(0, |id| u64::from(*id))
    }

    /// One past the position of the last row.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.len - self.gone)
    }

    /// Lets rows before a position go; their ids are added to `gone`.
    pub(super) fn release(&mut self, before: u64, gone: &mut Vec<u32>) {
        let count = before.saturating_sub(self.first).min(self.ids().len() as u64) as usize;
        gone.extend_from_slice(&self.ids()[..count]);
        self.gone += count as u32;
        self.first = self.first.max(before);
        if self.gone == self.len {
            (self.gone, self.len) = (0, 0);
            self.elsewhere = Vec::new();
        } else if self.gone > self.len / 2 {
            let rest = self.gone as usize..self.len as usize;
            self.len -= self.gone;
            self.gone = 0;
            if self.elsewhere.capacity() == 0 {
                self.here.copy_within(rest, 0);
            } else if rest.len() <= HERE / 2 {
                self.here[..rest.len()].copy_from_slice(&self.elsewhere[rest]);
                self.elsewhere = Vec::new();
            } else {
                self.elsewhere.drain(..rest.start);
            }
        }
    }

    /// Adds rows behind.
    pub(super) fn push(&mut self, ids: &[u32]) {
        let len = self.len as usize;
        if self.elsewhere.capacity() == 0 {
            if let Some(place) = self.here.get_mut(len..len + ids.len()) {
                place.copy_from_slice(ids);
                self.len += ids.len() as u32;
                return;
            }
            self.elsewhere.reserve((len + ids.len()).max(2 * HERE));
            self.elsewhere.extend_from_slice(&self.here[..len]);
        }
        self.elsewhere.extend_from_slice(ids);
        self.len += ids.len() as u32;
    }

    /// Bytes held outside of the value itself.
    pub(super) fn bytes(&self) -> usize {
        self.elsewhere.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Rows come and go in order, wherever their ids are.
        #[test]
        fn holds_rows_by_position(steps in proptest::collection::vec((0usize..20, 0u64..20), 0..40)) {
            let (mut held, mut model, mut next) = (Held::new(3), std::collections::VecDeque::new(), 3u64);
            for (come, go) in steps {
                let ids: Vec<u32> = (next..next + come as u64).map(|position| position as u32 * 7).collect();
                held.push(&ids);
                model.extend(ids);
                next += come as u64;
                let before = (held.first + go).min(next);
                let (mut gone, first) = (Vec::new(), held.first);
                held.release(before, &mut gone);
                prop_assert_eq!(gone, model.drain(..(before - first) as usize).collect::<Vec<_>>());
                prop_assert_eq!(held.first, before);
                prop_assert_eq!(held.end(), next);
                prop_assert_eq!(held.ids(), model.make_contiguous() as &[u32]);
            }
        }
    }
}
