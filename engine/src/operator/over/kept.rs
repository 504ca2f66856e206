//! Rows that are only ever inserted and forgotten, with the arrivals by which a checkpoint tells new ones from those that it has.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::rows::Rows;

/// Rows by id.
pub(in crate::operator) struct Kept {
    pub(in crate::operator) rows: Rows,
    /// By id: when the row came; `u64::MAX` where there is none.
    arrivals: Vec<u64>,
    pub(in crate::operator) next_arrival: u64,
    /// What came since the last save.
    unsaved: Vec<(u64, u32)>,
}

impl Kept {
    pub(in crate::operator) fn new(schema: &SchemaRef) -> Result<Self> {
        Ok(Self { rows: Rows::new(schema, false)?, arrivals: Vec::new(), next_arrival: 0, unsaved: Vec::new() })
    }

    /// Stores rows, whose ids are added to `ids`.
    pub(in crate::operator) fn append(&mut self, rows: &RecordBatch, ids: &mut Vec<u32>) -> Result<()> {
        let first = ids.len();
        self.rows.append(rows, ids)?;
        self.arrivals.resize(self.rows.id_bound().max(self.arrivals.len()), u64::MAX);
        for id in &ids[first..] {
            self.arrivals[*id as usize] = self.next_arrival;
            self.unsaved.push((self.next_arrival, *id));
            self.next_arrival += 1;
        }
        Ok(())
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
        self.arrivals.resize(self.rows.id_bound().max(self.arrivals.len()), u64::MAX);
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
        ids.iter().for_each(|id| self.arrivals[*id as usize] = u64::MAX);
        self.rows.remove(ids)?;
        // Without checkpoints nobody asks what is unsaved.
        if self.unsaved.len() > 2 * self.rows.len() + 65_536 {
            let arrivals = &self.arrivals;
            self.unsaved.retain(|(arrival, id)| arrivals[*id as usize] == *arrival);
        }
        Ok(())
    }

    /// The rows that came since the last call and are still there.
    pub(in crate::operator) fn take_unsaved(&mut self) -> Vec<(u64, u32)> {
        let mut unsaved = std::mem::take(&mut self.unsaved);
        unsaved.retain(|(arrival, id)| self.arrivals[*id as usize] == *arrival);
        unsaved
    }

    /// All rows that are there.
    pub(in crate::operator) fn all(&self) -> Vec<(u64, u32)> {
        self.rows.live_ids().into_iter().map(|id| (self.arrivals[id as usize], id)).collect()
    }

    /// Bytes held, about.
    pub(in crate::operator) fn bytes(&self) -> usize {
        self.rows.bytes() + self.arrivals.capacity() * 8 + self.unsaved.capacity() * 16
    }
}
