//! What an operator that keeps rows writes into a checkpoint: the deltas that it took in since the last one.
//!
//! State that is a function of the rows taken in needs no form of its own: handing over the deltas costs nothing (their buffers are
//! shared), and restoring is taking them in again. Rows freed by time leave no trace, because the watermark beside the chunks says
//! that they are gone. A full save hands over the rows that are there now; so does the first one, whatever is asked for, because until
//! then nothing is noted: a pipeline without checkpoints must not remember its input for ever.
//!
//! Where an operator names the stored rows, those that came and went since the last checkpoint are not written ([`noted`](super::noted)): most rows of a
//! rank are pushed out by better ones soon. Nor are they remembered for long.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::noted::Noted;
use crate::aggregate::partial::check_chunk;
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::hash::{HashGroups, hash_columns};
use crate::operator::{SaveKind, StateReader, StateWriter};

/// Column names of weight and arrival number in a chunk.
const WEIGHT: &str = "__weight";
const ORDINAL: &str = "__ordinal";

/// So many noted rows that are gone are no burden.
const GONE_MAX: usize = if cfg!(test) { 8 } else { 65_536 };

/// The deltas of one input since the last checkpoint.
pub(crate) struct RowLog {
    /// The table of the checkpoint.
    table: &'static str,
    chunk: SchemaRef,
    rows: SchemaRef,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    noted: Noted,
    /// Whether some store knows of earlier rows.
    active: bool,
}

impl RowLog {
    /// Of rows with the columns of `schema`, saved under the name `table`.
    pub(crate) fn new(table: &'static str, schema: &SchemaRef) -> Self {
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(WEIGHT, DataType::Int64, true)));
        fields.push(Arc::new(Field::new(ORDINAL, DataType::UInt64, true)));
        Self {
            table,
            chunk: Arc::new(Schema::new(fields)),
            rows: Arc::clone(schema),
            pending: Vec::new(),
            pending_rows: 0,
            noted: Noted::default(),
            active: false,
        }
    }

    fn chunk_of(&self, delta: &Delta) -> Result<RecordBatch> {
        let rows = delta.rows();
        let mut columns = delta.batch.columns().to_vec();
        columns.push(Arc::new(delta.weights.clone().unwrap_or_else(|| Int64Array::new_null(rows))));
        columns.push(Arc::new(delta.ordinals.clone().unwrap_or_else(|| UInt64Array::new_null(rows))));
        batch_of(&self.chunk, columns, rows)
    }

    /// Notes a delta that the operator keeps.
    pub(crate) fn push(&mut self, delta: &Delta) -> Result<()> {
        if self.active && !delta.is_empty() {
            self.pending.push(self.chunk_of(delta)?);
            self.pending_rows += delta.rows();
        }
        Ok(())
    }

    /// The same of a delta whose rows are the stored rows `ids`; `is_new`: which of them were not there before. Each id that leaves has then
    /// to be [`remove`](Self::remove)d.
    pub(crate) fn push_rows(&mut self, delta: &Delta, ids: &[u32], is_new: impl Fn(usize) -> bool) -> Result<()> {
        debug_assert_eq!(delta.rows(), ids.len());
        if self.active {
            self.noted.push(self.pending_rows, ids, is_new);
        }
        self.push(delta)
    }

    /// Stored rows leave. What was noted of those that no checkpoint knows is forgotten.
    pub(crate) fn remove(&mut self, ids: &[u32]) -> Result<()> {
        if self.noted.is_empty() {
            return Ok(());
        }
        ids.iter().for_each(|id| _ = self.noted.remove(*id));
        let gone = self.noted.gone_count();
        if gone > GONE_MAX && gone * 2 > self.pending_rows { self.sweep() } else { Ok(()) }
    }

    /// A stored row will be noted otherwise. Returns whether what was noted of it is forgotten, as no checkpoint knows it.
    pub(crate) fn withdraw(&mut self, id: u32) -> bool {
        self.noted.remove(id)
    }

    /// Takes away the rows that are gone.
    fn sweep(&mut self) -> Result<()> {
        let mut all = Vec::with_capacity(self.pending.len());
        for (chunk, left) in self.take_pending() {
            all.extend(match left {
                Some(left) => filtered(chunk, &left)?,
                None => Some(chunk),
            });
        }
        self.pending = all;
        self.noted.sweep();
        self.pending_rows = self.pending.iter().map(RecordBatch::num_rows).sum();
        Ok(())
    }

    /// What was noted, with which rows of it are not gone (`None`: all). The notes of a row lie in several chunks and are of use together
    /// or not at all, so those that are gone must go from each chunk.
    fn take_pending(&mut self) -> Vec<(RecordBatch, Option<BooleanArray>)> {
        let mut first = 0;
        let pending = std::mem::take(&mut self.pending).into_iter();
        let some_are_gone = self.noted.gone_count() > 0;
        let with_left = pending.map(|chunk| {
            let left = some_are_gone.then(|| self.noted.left(first, chunk.num_rows())).flatten();
            first += chunk.num_rows();
            (chunk, left)
        });
        with_left.collect()
    }

    /// How many rows are noted.
    pub(crate) fn pending_rows(&self) -> usize {
        self.pending_rows
    }

    /// Forgets noted rows of which a restore would find at once that they are gone: those that `keep` says `false` of, which sees the
    /// rows' own columns first.
    pub(crate) fn retain(&mut self, keep: impl Fn(&RecordBatch) -> BooleanArray) -> Result<()> {
        if !self.noted.is_empty() {
            let mut first = 0;
            for chunk in &self.pending {
                self.noted.retain(first, &keep(chunk));
                first += chunk.num_rows();
            }
            return self.sweep();
        }
        for chunk in std::mem::take(&mut self.pending) {
            let kept = keep(&chunk);
            self.pending.extend(filtered(chunk, &kept)?);
        }
        self.pending_rows = self.pending.iter().map(RecordBatch::num_rows).sum();
        Ok(())
    }

    /// The columns of the rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.rows
    }

    /// Whether deltas are noted: the rows of before are in some store.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// Hands over what came since the last save or, for a full one and the first one, `all`.
    pub(crate) fn save(
        &mut self,
        kind: SaveKind,
        state: &mut StateWriter,
        all: impl FnOnce() -> Result<Vec<Delta>>,
    ) -> Result<()> {
        let known = std::mem::replace(&mut self.active, true);
        match kind {
            SaveKind::Changes if known => {
                for (chunk, left) in self.take_pending() {
                    match left {
                        Some(left) => state.put_left(self.table, chunk, left),
                        None => state.put(self.table, chunk),
                    }
                }
            }
            _ => {
                for delta in all()? {
                    state.put(self.table, self.chunk_of(&delta)?);
                }
            }
        }
        self.pending.clear();
        self.pending_rows = 0;
        self.noted.clear();
        Ok(())
    }

    /// The deltas that were saved under this table, oldest first, of the keys (columns `keys`) that `state`'s hash groups own.
    /// Chunks of other tables are left to others.
    pub(crate) fn restore(&mut self, operator: &str, state: &StateReader<'_>, keys: &[usize]) -> Result<Vec<Delta>> {
        let mut deltas = Vec::new();
        for chunk in state.chunks.iter().filter(|chunk| chunk.table == self.table) {
            self.active = true;
            check_chunk(operator, chunk, &self.chunk)?;
            let rows = owned_rows(&chunk.rows, keys, state.owned)?;
            let width = self.rows.fields().len();
            let batch = batch_of(&self.rows, rows.columns()[..width].to_vec(), rows.num_rows())?;
            let mut delta = Delta::insert(batch);
            let (weights, ordinals) = (rows.column(width), rows.column(width + 1));
            delta.weights = (weights.null_count() == 0).then(|| weights.as_primitive().clone());
            delta.ordinals = (ordinals.null_count() == 0).then(|| ordinals.as_primitive().clone());
            if !delta.is_empty() {
                deltas.push(delta);
            }
        }
        Ok(deltas)
    }

    /// Bytes held until the next save, about. (Mostly shared with the rows themselves.)
    pub(crate) fn bytes(&self) -> usize {
        self.pending.len() * 256 + self.noted.bytes()
    }
}

/// The rows where `left` is true; `None`: there are none.
fn filtered(chunk: RecordBatch, left: &BooleanArray) -> Result<Option<RecordBatch>> {
    Ok(match left.true_count() {
        0 => None,
        all if all == chunk.num_rows() => Some(chunk),
        _ => Some(filter_record_batch(&chunk, left)?),
    })
}

/// The rows whose key the hash groups own; without keys all of them belong to the owner of hash 0.
fn owned_rows(rows: &RecordBatch, keys: &[usize], owned: HashGroups) -> Result<RecordBatch> {
    let keys: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(rows.column(*key))).collect();
    let mut hashes = Vec::new();
    hash_columns(&keys, rows.num_rows(), &mut hashes)?;
    let mask: BooleanArray = hashes.iter().map(|hash| Some(owned.owns(*hash))).collect();
    match mask.true_count() == mask.len() {
        true => Ok(rows.clone()),
        false => Ok(filter_record_batch(rows, &mask)?),
    }
}
