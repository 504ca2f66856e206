//! Partitions that did not change for the TTL are forgotten ([`crate::operator::ttl`]).
//!
//! A partition is touched by a row that gets into it or is taken out of it: one that is not kept changes nothing. So the first row of a key, kept
//! to tell later ones that they are not the first, is forgotten a TTL after it came.
//!
//! A checkpoint holds the rows that were taken in, with the clock of their step. Rows of a partition that was forgotten in between lie before
//! those of the one that began anew; the times of both say so, and a restore forgets again what was forgotten.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{Schema, SchemaRef};

use super::key::SortKey;
use super::{Core, TopN};
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::operator::ttl::{touched_field, touched_of};

/// The rows of a checkpoint: those of the input, and when they came.
pub(super) fn logged_schema(input: &SchemaRef) -> SchemaRef {
    let fields = input.fields().iter().cloned().chain([touched_field()]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A delta with the times at which its rows, or their partitions, were touched.
pub(super) fn with_touched(mut delta: Delta, touched: ArrayRef, schema: &SchemaRef) -> Result<Delta> {
    let rows = delta.rows();
    let mut columns = delta.batch.columns().to_vec();
    columns.push(touched);
    delta.batch = batch_of(schema, columns, rows)?;
    Ok(delta)
}

impl<K: SortKey> TopN<K> {
    /// Forgets the partitions that did not change for the TTL.
    pub(super) fn forget_idle(&mut self, clock_ms: i64) -> Result<()> {
        match self.ttl.as_mut().map(|ttl| ttl.due(clock_ms)) {
            Some(idle) => self.free(&idle),
            None => Ok(()),
        }
    }

    fn free(&mut self, slots: &[u32]) -> Result<()> {
        let mut dead = Vec::new();
        for slot in slots {
            match &mut self.core {
                Core::Few(few) => few.free(*slot, &mut dead),
                Core::Full(full) => full.free(*slot, &mut dead),
            }
        }
        self.remove(slots);
        self.forget(dead)
    }

    /// The step is taken in, and of its rows `kept` where few are kept. What it changed lives on, what it took back of forgotten rows is
    /// dropped, and the rest is noted for the next checkpoint.
    pub(super) fn touch(&mut self, kept: Option<&Delta>, clock_ms: i64) -> Result<()> {
        let Some(ttl) = &mut self.ttl else { return Ok(()) };
        let noted = match &mut self.core {
            Core::Few(few) => {
                ttl.touch(few.touched(), clock_ms);
                kept.cloned()
            }
            Core::Full(full) => {
                let effect = full.drop_unfounded(&mut self.rows);
                ttl.touch(&effect.slots, clock_ms);
                let mut noted = Delta::insert(self.rows.take_batch(&effect.ids)?);
                noted.weights = self.plan.spec.retracting.then(|| Int64Array::from(effect.weights));
                let ordinals = || effect.ties.iter().map(|tie| self.plan.spec.ties.turned(*tie));
                noted.ordinals = self.plan.spec.ties.by_arrival().then(|| UInt64Array::from_iter_values(ordinals()));
                Some(noted)
            }
        };
        match noted.filter(|noted| !noted.is_empty()) {
            Some(noted) if self.log.is_active() => {
                let touched = Arc::new(Int64Array::from_value(clock_ms, noted.rows()));
                self.log.push(&with_touched(noted, touched, &self.plan.logged)?)
            }
            _ => Ok(()),
        }
    }

    /// Takes in rows of a checkpoint, and forgets their partitions where they were forgotten between two of them.
    pub(super) fn restore_aging(&mut self, delta: &Delta) -> Result<()> {
        let width = self.plan.input.fields().len();
        let touched = touched_of(&delta.batch).clone();
        let rows = batch_of(&self.plan.input, delta.batch.columns()[..width].to_vec(), delta.rows())?;
        let mut start = 0;
        // Where partitions are forgotten one after the other, the rows behind are not looked up again for each.
        let mut most = delta.rows();
        while start < delta.rows() {
            let length = most.min(delta.rows() - start);
            let (end, forgotten) = self.age(&rows.slice(start, length), &touched.slice(start, length))?;
            if let Some(slot) = forgotten.filter(|_| end == 0) {
                self.free(&[slot])?;
                most = 16;
                continue;
            }
            let slice = Delta {
                batch: rows.slice(start, end),
                weights: delta.weights.as_ref().map(|weights| weights.slice(start, end)),
                ordinals: delta.ordinals.as_ref().map(|ordinals| ordinals.slice(start, end)),
            };
            self.take_in(&[slice], false)?;
            let mut dead = Vec::new();
            self.changes(false, &mut Vec::new(), &mut dead);
            self.forget(dead)?;
            start += end;
            most = most.saturating_mul(2);
        }
        Ok(())
    }

    /// Touches the partitions of rows, up to the first row that found its partition forgotten: how many rows those are, and which partition
    /// that is.
    fn age(&mut self, rows: &RecordBatch, touched: &Int64Array) -> Result<(usize, Option<u32>)> {
        self.intern(rows)?;
        let Some(ttl) = &mut self.ttl else { return Ok((rows.num_rows(), None)) };
        for (row, slot) in self.slots.iter().enumerate() {
            if ttl.is_due(*slot, touched.value(row)) {
                return Ok((row, Some(*slot)));
            }
            ttl.restore(&[*slot], &touched.slice(row, 1));
        }
        Ok((rows.num_rows(), None))
    }
}
