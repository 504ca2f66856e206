//! Rows that are only ever inserted and forgotten, with the arrivals by which a checkpoint tells new ones from those that it has.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::rows::{Rows, for_each_bit, make_room};

/// Rows by id.
pub(in crate::operator) struct Kept {
    pub(in crate::operator) rows: Rows,
    /// By id: when the row came; anything where there is none.
    arrivals: Vec<u64>,
    pub(in crate::operator) next_arrival: u64,
    /// By id, a bit: whether the row is there and came since the last save.
    unsaved: Vec<u64>,
}

impl Kept {
    pub(in crate::operator) fn new(schema: &SchemaRef) -> Result<Self> {
        Ok(Self::of(Rows::new(schema, false)?))
    }

    /// For rows that come a few at a time and go one by one.
    pub(in crate::operator) fn single(schema: &SchemaRef) -> Self {
        Self::of(Rows::single(schema))
    }

    fn of(rows: Rows) -> Self {
        Self { rows, arrivals: Vec::new(), next_arrival: 0, unsaved: Vec::new() }
    }

    /// Stores rows, whose ids are added to `ids`.
    pub(in crate::operator) fn append(&mut self, rows: &RecordBatch, ids: &mut Vec<u32>) -> Result<()> {
        let first = ids.len();
        self.rows.append(rows, ids)?;
        self.arrive(&ids[first..]);
        Ok(())
    }

    /// Stores the rows `rows` of a batch, whose ids are added to `ids`.
    pub(in crate::operator) fn append_some(
        &mut self,
        batch: &RecordBatch,
        rows: &[u32],
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let first = ids.len();
        self.rows.append_some(batch, rows, ids)?;
        self.arrive(&ids[first..]);
        Ok(())
    }

    fn arrive(&mut self, ids: &[u32]) {
        let bound = self.rows.id_bound();
        make_room(&mut self.arrivals, bound);
        self.arrivals.resize(bound.max(self.arrivals.len()), 0);
        self.unsaved.resize(bound.div_ceil(64).max(self.unsaved.len()), 0);
        for (id, arrival) in ids.iter().zip(self.next_arrival..) {
            self.arrivals[*id as usize] = arrival;
            self.unsaved[*id as usize / 64] |= 1 << (id % 64);
        }
        self.next_arrival += ids.len() as u64;
    }

    /// Stores rows that came before, at `arrivals`.
    pub(in crate::operator) fn append_again(
        &mut self,
        rows: &RecordBatch,
        arrivals: &[u64],
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let first = ids.len();
        self.rows.append(rows, ids)?;
        self.arrivals.resize(self.rows.id_bound().max(self.arrivals.len()), 0);
        ids[first..].iter().zip(arrivals).for_each(|(id, arrival)| self.arrivals[*id as usize] = *arrival);
        Ok(())
    }

    /// When a row came.
    #[inline]
    pub(in crate::operator) fn arrival(&self, id: u32) -> u64 {
        self.arrivals[id as usize]
    }

    /// Forgets rows.
    pub(in crate::operator) fn release(&mut self, ids: &[u32]) -> Result<()> {
        for id in ids {
            // Rows that were restored are beyond what came.
            if let Some(word) = self.unsaved.get_mut(*id as usize / 64) {
                *word &= !(1 << (id % 64));
            }
        }
        self.rows.remove(ids)
    }

    /// The rows that came since the last call and are still there, in the order in which they came.
    pub(in crate::operator) fn take_unsaved(&mut self) -> Vec<(u64, u32)> {
        let mut unsaved = Vec::new();
        for_each_bit(&self.unsaved, |id| unsaved.push((self.arrivals[id], id as u32)));
        self.unsaved.fill(0);
        unsaved.sort_unstable();
        unsaved
    }

    /// All rows that are there.
    pub(in crate::operator) fn all(&self) -> Vec<(u64, u32)> {
        self.rows.live_ids().into_iter().map(|id| (self.arrivals[id as usize], id)).collect()
    }

    /// Bytes held, about.
    pub(in crate::operator) fn bytes(&self) -> usize {
        self.rows.bytes() + self.arrivals.capacity() * 8 + self.unsaved.capacity() * 8
    }
}
