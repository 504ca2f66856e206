//! What flows along an edge in a step: columns of rows, and, where rows can be taken back, a weight for each.
//!
//! Weights are those of Z-sets (Budiu et al., "DBSP", VLDB 2023): a positive weight inserts a row that many times, a negative one
//! retracts it, zero does not occur. Append-only edges carry no weights and pay nothing. Only a sink turns weights into the words of
//! its changelog. Deltas of a step come in any order; where a consumer needs the order of arrival, the planner has the edge carry
//! `ordinals`, given by the source, which exchanges and chains keep.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{filter_record_batch, take};

use crate::error::Result;

/// The most rows of one delta: a batch of this size with a few columns stays in the second-level cache.
pub const DELTA_ROWS_MAX: usize = 8_192;

/// Rows of one edge in one step.
#[derive(Debug, Clone)]
pub struct Delta {
    /// The columns.
    pub batch: RecordBatch,
    /// One weight a row, never zero; `None`: every row is inserted once.
    pub weights: Option<Int64Array>,
    /// One arrival number a row, growing in order of arrival over all sources; `None` where no consumer needs it.
    pub ordinals: Option<UInt64Array>,
}

impl Delta {
    /// Rows that are inserted once each.
    pub fn insert(batch: RecordBatch) -> Self {
        Self { batch, weights: None, ordinals: None }
    }

    /// Rows with weights (`weights.len() == batch.num_rows()`, none zero).
    pub fn weighted(batch: RecordBatch, weights: Int64Array) -> Self {
        debug_assert_eq!(batch.num_rows(), weights.len());
        Self { batch, weights: Some(weights), ordinals: None }
    }

    /// How many rows this delta has.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.batch.num_rows() == 0
    }

    /// The weight of row `row`.
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row))
    }

    /// The arrival number of row `row`; 0 where rows have none.
    pub fn ordinal(&self, row: usize) -> u64 {
        self.ordinals.as_ref().map_or(0, |ordinals| ordinals.value(row))
    }

    /// Rows `[offset, offset + rows)`, sharing buffers.
    pub fn slice(&self, offset: usize, rows: usize) -> Self {
        Self {
            batch: self.batch.slice(offset, rows),
            weights: self.weights.as_ref().map(|weights| weights.slice(offset, rows)),
            ordinals: self.ordinals.as_ref().map(|ordinals| ordinals.slice(offset, rows)),
        }
    }

    /// The rows where `mask` is true (null counts as false).
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self> {
        let batch = filter_record_batch(&self.batch, mask)?;
        let side = |column: &dyn Array| arrow::compute::filter(column, mask);
        Ok(Self {
            batch,
            weights: self.weights.as_ref().map(|w| side(w)).transpose()?.map(|w| as_int64(&w)),
            ordinals: self.ordinals.as_ref().map(|o| side(o)).transpose()?.map(|o| as_uint64(&o)),
        })
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self> {
        Ok(Self {
            batch: take_batch(&self.batch, indices)?,
            weights: self.weights.as_ref().map(|w| take(w, indices, None)).transpose()?.map(|w| as_int64(&w)),
            ordinals: self.ordinals.as_ref().map(|o| take(o, indices, None)).transpose()?.map(|o| as_uint64(&o)),
        })
    }

    /// The same weights and ordinals with other columns (`columns` has as many rows).
    pub fn with_batch(&self, batch: RecordBatch) -> Self {
        debug_assert_eq!(self.rows(), batch.num_rows());
        Self { batch, weights: self.weights.clone(), ordinals: self.ordinals.clone() }
    }

    /// Cuts into deltas of at most [`DELTA_ROWS_MAX`] rows.
    pub fn split(self, out: &mut Vec<Delta>) {
        if self.rows() <= DELTA_ROWS_MAX {
            if !self.is_empty() {
                out.push(self);
            }
            return;
        }
        let mut offset = 0;
        while offset < self.rows() {
            let rows = DELTA_ROWS_MAX.min(self.rows() - offset);
            out.push(self.slice(offset, rows));
            offset += rows;
        }
    }
}

fn as_int64(array: &ArrayRef) -> Int64Array {
    array.as_any().downcast_ref::<Int64Array>().expect("kernels keep the type").clone()
}

fn as_uint64(array: &ArrayRef) -> UInt64Array {
    array.as_any().downcast_ref::<UInt64Array>().expect("kernels keep the type").clone()
}

/// Rows of a batch, which may have no columns.
pub(crate) fn take_batch(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch> {
    let columns =
        batch.columns().iter().map(|column| take(column, rows, None)).collect::<std::result::Result<_, _>>()?;
    batch_of(&batch.schema(), columns, rows.len())
}

/// A batch with `columns`, also where there are none (`SELECT count(*)` needs rows without columns).
pub fn batch_of(schema: &arrow::datatypes::SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
