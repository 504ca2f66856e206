//! Rows that an operator keeps, each with an id by which others point to it.
//!
//! Where rows are only inserted, every row is stored as it came ([`pages`]) or, where rows that came together do not go together, in a place
//! of its own ([`slab`]). Where rows can be taken back, equal rows are one row with
//! a weight, found again by all of its columns (a table of [`GroupKeys`], so a retraction costs a probe however many rows share a
//! join key). Both answer the same calls.
//!
//! What is kept here is a function of what was put in, so operators checkpoint the deltas that they took in since the last checkpoint
//! ([`RowLog`]) and not this structure; on restore they take them in again, consolidated.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take;
use arrow::datatypes::SchemaRef;

use self::pages::Pages;
use self::slab::Slab;
use crate::aggregate::Slots;
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::values_buffer;
use crate::keys::GroupKeys;

mod log;
mod noted;
mod pages;
mod slab;
#[cfg(test)]
mod tests;

pub(crate) use log::RowLog;
pub(crate) use pages::pack;
pub(crate) use slab::Reader;

/// Rows with ids and weights.
pub(crate) struct Rows {
    schema: SchemaRef,
    store: Store,
}

enum Store {
    /// Each row was inserted once.
    Appended(Pages),
    /// Each row was inserted once, and goes by itself.
    Single(Slab),
    /// Distinct rows with the sum of their weights, which may be negative or zero between the deltas of a step.
    Counted { keys: Box<GroupKeys>, weights: Vec<i64>, slots: Vec<u32> },
}

/// The places whose bits are set, ascending.
pub(crate) fn for_each_bit(words: &[u64], mut each: impl FnMut(usize)) {
    for (word, bits) in words.iter().enumerate() {
        let mut bits = *bits;
        while bits != 0 {
            each(word * 64 + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
}

/// Makes room for `len` values and a quarter more, where as much again would be much: there may be one for each of many keys.
pub(crate) fn make_room<T>(values: &mut Vec<T>, len: usize) {
    if len > values.capacity() {
        values.reserve_exact(len - values.len() + len / 4);
    }
}

/// Columns of values of eight bytes of which none is null, as most are: they are copied as words, with no look at their type.
fn words_of<'a>(columns: impl IntoIterator<Item = &'a ArrayRef>) -> Option<Vec<ScalarBuffer<u64>>> {
    let words = |column: &ArrayRef| {
        let is_word = column.data_type().primitive_width() == Some(size_of::<u64>());
        (is_word && column.null_count() == 0).then(|| ScalarBuffer::from(values_buffer(column)))
    };
    columns.into_iter().map(words).collect()
}

/// What one row of a delta did to a stored row. A row that is touched twice by a delta is told twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowChange {
    /// The stored row.
    pub(crate) id: u32,
    /// Its weight before; 0: it was not there.
    pub(crate) before: i64,
    /// Its weight after; 0: it is gone, and stays readable until [`Rows::remove`].
    pub(crate) after: i64,
}

impl Rows {
    /// No rows of these columns. `retracting`: deltas may have weights.
    ///
    /// # Errors
    /// With `retracting`, a column whose values cannot be compared for equality.
    pub(crate) fn new(schema: &SchemaRef, retracting: bool) -> Result<Self> {
        let store = match retracting {
            false => Store::Appended(Pages::new(schema)),
            true => {
                let types = schema.fields().iter().map(|field| field.data_type().clone()).collect();
                Store::Counted { keys: Box::new(GroupKeys::new(types)?), weights: Vec::new(), slots: Vec::new() }
            }
        };
        Ok(Self { schema: Arc::clone(schema), store })
    }

    /// No rows of these columns, which are only inserted, a few at a time, and go one by one.
    pub(crate) fn single(schema: &SchemaRef) -> Self {
        let store = Slab::new(schema).map_or_else(|| Store::Appended(Pages::new(schema)), Store::Single);
        Self { schema: Arc::clone(schema), store }
    }

    /// The columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many (distinct) rows there are.
    pub(crate) fn len(&self) -> usize {
        match &self.store {
            Store::Appended(pages) => pages.len(),
            Store::Single(slab) => slab.len(),
            Store::Counted { keys, .. } => keys.len(),
        }
    }

    /// One past the highest id ever given out: what is indexed by id needs this length.
    pub(crate) fn id_bound(&self) -> usize {
        match &self.store {
            Store::Appended(pages) => pages.id_bound(),
            Store::Single(slab) => slab.id_bound(),
            Store::Counted { keys, .. } => keys.slot_count(),
        }
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        match &self.store {
            Store::Appended(pages) => pages.bytes(),
            Store::Single(slab) => slab.bytes(),
            Store::Counted { keys, weights, slots } => keys.bytes() + weights.capacity() * 8 + slots.capacity() * 4,
        }
    }

    /// Takes in a delta of the columns of [`schema`](Self::schema); for each of its rows, in order, what it did is added to `changes`.
    ///
    /// A row whose weight became 0 keeps its id until it is removed, so that what a step retracts and inserts again meets itself: look at
    /// the rows with weight 0 when the whole step is taken in, and [`remove`](Self::remove) them then.
    pub(crate) fn apply(&mut self, delta: &Delta, changes: &mut Vec<RowChange>) -> Result<()> {
        self.apply_hashed(delta, None, changes)
    }

    /// The same where a hash of each row is at hand, as [`GroupKeys::intern_hashed`] has it.
    pub(crate) fn apply_hashed(
        &mut self,
        delta: &Delta,
        hashes: Option<&[u64]>,
        changes: &mut Vec<RowChange>,
    ) -> Result<()> {
        match &mut self.store {
            Store::Appended(pages) => {
                debug_assert!(delta.weights.is_none(), "an append-only edge has no weights");
                let mut ids = Vec::with_capacity(delta.rows());
                pages.append(&delta.batch, &mut ids)?;
                changes.extend(ids.into_iter().map(|id| RowChange { id, before: 0, after: 1 }));
            }
            Store::Single(slab) => {
                debug_assert!(delta.weights.is_none(), "an append-only edge has no weights");
                let mut ids = Vec::with_capacity(delta.rows());
                slab.append(&delta.batch, 0..delta.rows(), &mut ids);
                changes.extend(ids.into_iter().map(|id| RowChange { id, before: 0, after: 1 }));
            }
            Store::Counted { keys, weights, slots } => {
                keys.intern_hashed(delta.batch.columns(), delta.rows(), hashes, slots)?;
                weights.resize(keys.slot_count(), 0);
                keys.fresh().iter().for_each(|slot| weights[*slot as usize] = 0);
                changes.reserve(slots.len());
                for (row, slot) in slots.iter().enumerate() {
                    let before = weights[*slot as usize];
                    let after = before + delta.weight(row);
                    weights[*slot as usize] = after;
                    changes.push(RowChange { id: *slot, before, after });
                }
            }
        }
        Ok(())
    }

    /// Stores rows that are only inserted, each of them anew; their ids, in order, are added to `ids`.
    pub(crate) fn append(&mut self, batch: &RecordBatch, ids: &mut Vec<u32>) -> Result<()> {
        match &mut self.store {
            Store::Appended(pages) => pages.append(batch, ids),
            Store::Single(slab) => {
                slab.append(batch, 0..batch.num_rows(), ids);
                Ok(())
            }
            Store::Counted { .. } => Err(EngineError::bug("rows that are counted have no place of their own")),
        }
    }

    /// As [`append`](Self::append), of the rows `rows` of the batch.
    pub(crate) fn append_some(&mut self, batch: &RecordBatch, rows: &[u32], ids: &mut Vec<u32>) -> Result<()> {
        if let Store::Single(slab) = &mut self.store {
            slab.append(batch, rows.iter().map(|row| *row as usize), ids);
            return Ok(());
        }
        let rows = UInt32Array::from(rows.to_vec());
        let columns = batch.columns().iter().map(|column| Ok(take(column, &rows, None)?));
        // Where no column is asked for, rows are still counted.
        self.append(&batch_of(&batch.schema(), columns.collect::<Result<_>>()?, rows.len())?, ids)
    }

    /// Reads a column of values of eight bytes, where each row has a place of its own.
    pub(crate) fn reader(&self, column: usize) -> Option<Reader<'_>> {
        match &self.store {
            Store::Single(slab) => slab.reader(column),
            _ => None,
        }
    }

    /// How often a row is there.
    #[inline]
    pub(crate) fn weight(&self, id: u32) -> i64 {
        match &self.store {
            Store::Appended(_) | Store::Single(_) => 1,
            Store::Counted { weights, .. } => weights[id as usize],
        }
    }

    /// Says how often a row is there, where rows are counted.
    pub(crate) fn set_weight(&mut self, id: u32, weight: i64) {
        if let Store::Counted { weights, .. } = &mut self.store {
            weights[id as usize] = weight;
        }
    }

    /// Forgets rows, whatever their weight, each named once; their ids will be given out again.
    pub(crate) fn remove(&mut self, ids: &[u32]) -> Result<()> {
        match &mut self.store {
            Store::Appended(pages) => pages.remove(ids)?,
            Store::Single(slab) => slab.remove(ids),
            Store::Counted { keys, .. } => keys.remove(ids),
        }
        Ok(())
    }

    /// These columns of the rows `ids`, in that order (a row may be named more than once).
    pub(crate) fn take(&self, ids: &[u32], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        if ids.is_empty() {
            let empty = |column: &usize| arrow::array::new_empty_array(self.schema.field(*column).data_type());
            return Ok(columns.iter().map(empty).collect());
        }
        match &self.store {
            Store::Appended(pages) => pages.take_columns(ids, columns),
            Store::Single(slab) => Ok(slab.take_columns(ids, columns)),
            Store::Counted { keys, .. } => {
                let all = keys.columns(Slots::Some(ids))?;
                Ok(columns.iter().map(|column| Arc::clone(&all[*column])).collect())
            }
        }
    }

    /// All columns of the rows `ids` as a batch.
    pub(crate) fn take_batch(&self, ids: &[u32]) -> Result<RecordBatch> {
        let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
        batch_of(&self.schema, self.take(ids, &columns)?, ids.len())
    }

    /// The ids in use, ascending.
    pub(crate) fn live_ids(&self) -> Vec<u32> {
        match &self.store {
            Store::Appended(pages) => pages.live_ids(),
            Store::Single(slab) => slab.live_ids(),
            Store::Counted { keys, .. } => keys.live_slots(),
        }
    }

    /// The same in pieces of at most [`DELTA_ROWS_MAX`]. Of rows that are only inserted each piece lies together, so that
    /// [taking](Self::take) it copies nothing where all its rows are still there.
    pub(crate) fn live_pieces(&self) -> Vec<Vec<u32>> {
        match &self.store {
            Store::Appended(pages) => pages.live_pages(),
            Store::Single(slab) => slab.live_ids().chunks(DELTA_ROWS_MAX).map(<[u32]>::to_vec).collect(),
            Store::Counted { keys, .. } => keys.live_slots().chunks(DELTA_ROWS_MAX).map(<[u32]>::to_vec).collect(),
        }
    }
}
