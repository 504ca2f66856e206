//! Rows in an order, when all of them are there: `INSERT INTO .. SELECT .. ORDER BY` over input that ends.
//!
//! All rows meet on one shard, are kept until the input has ended, and leave then, in order.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices};
use arrow::datatypes::SchemaRef;

use super::over::OrderKey;
use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::delta::{Delta, take_batch};
use crate::error::{EngineError, Result};
use crate::keys::canonical_values;
use crate::rows::{RowLog, Rows};
use crate::time::WATERMARK_MAX;

const NAME: &str = "Sort";
/// The table of a checkpoint, and whether its rows have left.
const ROWS: &str = "rows";
const LEFT: &str = "left";

/// Makes [`Sort`]s.
pub struct SortFactory {
    input: SchemaRef,
    order: Arc<[OrderKey]>,
}

impl SortFactory {
    /// Of rows that are only inserted and all come to one shard, in this order. Those that `order` does not tell apart stand as they came.
    ///
    /// # Errors
    /// A column that is not there, or whose values have no order.
    pub fn new(input: SchemaRef, order: Vec<OrderKey>) -> Result<Self> {
        let none = RecordBatch::new_empty(Arc::clone(&input));
        if let Some(key) = order.iter().find(|key| key.column >= input.fields().len()) {
            return Err(EngineError::bug(format!(
                "rows are ordered by column {} of {}",
                key.column,
                input.fields().len()
            )));
        }
        sorted(&none, &order)?;
        Ok(Self { input, order: order.into() })
    }
}

impl OperatorFactory for SortFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Sort {
            order: Arc::clone(&self.order),
            rows: Rows::new(&self.input, false)?,
            log: RowLog::new(ROWS, &self.input),
            has_left: false,
        }))
    }
}

/// See the [module](self).
struct Sort {
    order: Arc<[OrderKey]>,
    rows: Rows,
    log: RowLog,
    /// Whether the rows have left: none comes any more.
    has_left: bool,
}

fn sorted(rows: &RecordBatch, order: &[OrderKey]) -> Result<RecordBatch> {
    if order.is_empty() {
        return Ok(rows.clone());
    }
    let keys = order
        .iter()
        .map(|key| SortColumn { values: canonical_values(rows.column(key.column)), options: Some(key.options) });
    take_batch(rows, &lexsort_to_indices(&keys.collect::<Vec<_>>(), None)?)
}

impl Sort {
    fn all(&self) -> Result<Vec<RecordBatch>> {
        self.rows.live_pieces().into_iter().map(|ids| self.rows.take_batch(&ids)).collect()
    }
}

impl Operator for Sort {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let mut changes = Vec::new();
        for delta in input.single().into_iter().filter(|delta| !delta.is_empty()) {
            changes.clear();
            self.log.push(&delta)?;
            self.rows.apply(&delta, &mut changes)?;
        }
        if input.watermarks.after == WATERMARK_MAX && self.rows.len() > 0 {
            let all = concat_batches(self.rows.schema(), &self.all()?)?;
            out.emit(Delta::insert(sorted(&all, &self.order)?));
            self.rows.remove(&self.rows.live_ids())?;
            self.has_left = true;
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(LEFT.to_owned(), self.has_left.into());
        let (log, rows) = (&mut self.log, &self.rows);
        log.save(kind, state, || {
            let pieces = rows.live_pieces().into_iter();
            pieces.map(|ids| Ok(Delta::insert(rows.take_batch(&ids)?))).collect()
        })
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        let mut changes = Vec::new();
        let deltas = self.log.restore(NAME, state, &[])?;
        self.has_left = state.metas.iter().any(|meta| meta.get(LEFT).is_some_and(|left| left == true));
        for delta in deltas.into_iter().filter(|_| !self.has_left) {
            self.rows.apply(&delta, &mut changes)?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes() + self.log.bytes()
    }

    fn state_rows(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests;
