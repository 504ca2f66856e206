//! Rows that cannot be computed, and may be taken back.
//!
//! `10 / SUM(a)` has no answer while the sum is 0, and has one at the end. So a row of a changelog of which some expression fails ends
//! nothing: it is kept, what follows does not see it, and whoever takes it back makes up for it. Where it is still there when the input has
//! ended, the query has no answer, and the error is that of the row. Until then it is a bad row, which `<view>.errors` shows.
//!
//! (Materialize keeps errors beside the rows of a collection, with weights, for the same reason.)

use std::collections::BTreeMap;

use arrow::array::{Int64Array, UInt64Array};
use arrow::datatypes::SchemaRef;

use crate::delta::Delta;
use crate::error::{EngineError, Result};
use crate::operator::{BadRows, Output, SaveKind, StateReader, StateWriter};
use crate::rows::{RowChange, RowLog, Rows};

/// The table of a checkpoint.
const FAILED: &str = "failed";
/// The `origin` of such rows in `<view>.errors`.
const ORIGIN: &str = "expression";

/// The rows of which something cannot be computed now.
pub(super) struct Deferred {
    rows: Rows,
    log: RowLog,
    /// The columns whose hash tells which shard a row is of.
    route: Vec<usize>,
    changes: Vec<RowChange>,
    /// What the step has touched, by id.
    touched: BTreeMap<u32, Touched>,
}

struct Touched {
    weight_before: i64,
    ordinal: u64,
    reason: String,
}

impl Deferred {
    /// None, of rows with these columns.
    ///
    /// # Errors
    /// A column whose values cannot be compared.
    pub(super) fn new(schema: &SchemaRef, route: &[usize]) -> Result<Self> {
        Ok(Self {
            rows: Rows::new(schema, true)?,
            log: RowLog::new(FAILED, schema),
            route: route.to_vec(),
            changes: Vec::new(),
            touched: BTreeMap::new(),
        })
    }

    /// Takes in what a step says of rows that cannot be computed; `reasons`: why, row by row.
    pub(super) fn take_in(&mut self, failed: &Delta, reasons: Vec<String>) -> Result<()> {
        debug_assert_eq!(failed.rows(), reasons.len());
        self.changes.clear();
        self.rows.apply(failed, &mut self.changes)?;
        self.log.push(failed)?;
        for ((row, change), reason) in self.changes.iter().enumerate().zip(reasons) {
            self.touched.entry(change.id).or_insert_with(|| Touched {
                weight_before: change.before,
                ordinal: failed.ordinal(row),
                reason,
            });
        }
        Ok(())
    }

    /// The step is taken in: tells of the rows that came, and forgets those that are gone.
    pub(super) fn settle(&mut self, out: &mut Output) -> Result<()> {
        let mut gone = Vec::new();
        for (id, touched) in std::mem::take(&mut self.touched) {
            let weight = self.rows.weight(id);
            if weight == 0 {
                gone.push(id);
            } else if touched.weight_before <= 0 && weight > 0 {
                out.bad(BadRows {
                    rows: self.rows.take_batch(&[id])?,
                    ordinals: vec![touched.ordinal],
                    reason: touched.reason.into(),
                    origin: ORIGIN.into(),
                });
            }
        }
        self.rows.remove(&gone)
    }

    /// One of the rows that are there.
    pub(super) fn any(&self) -> Result<Option<Delta>> {
        match self.rows.live_ids().into_iter().find(|id| self.rows.weight(*id) > 0) {
            // A stage may ask when the row came.
            Some(id) => {
                let ordinals = Some(UInt64Array::from(vec![0]));
                Ok(Some(Delta { ordinals, ..Delta::insert(self.rows.take_batch(&[id])?) }))
            }
            None => Ok(None),
        }
    }

    pub(super) fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let rows = &self.rows;
        self.log.save(kind, state, || {
            let pieces = rows.live_pieces().into_iter();
            let deltas = pieces.map(|ids| {
                let weights = Int64Array::from_iter_values(ids.iter().map(|id| rows.weight(*id)));
                Ok(Delta::weighted(rows.take_batch(&ids)?, weights))
            });
            deltas.collect()
        })
    }

    pub(super) fn restore(&mut self, operator: &str, state: &StateReader<'_>) -> Result<()> {
        if let Some(other) = state.chunks.iter().find(|chunk| chunk.table != FAILED) {
            return Err(EngineError::Checkpoint {
                message: format!("{operator} knows no state `{}`; start over with `--fresh`", other.table),
            });
        }
        for delta in self.log.restore(operator, state, &self.route)? {
            self.rows.apply(&delta, &mut self.changes)?;
        }
        self.changes.clear();
        let mut gone = self.rows.live_ids();
        gone.retain(|id| self.rows.weight(*id) == 0);
        self.rows.remove(&gone)
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes() + self.log.bytes()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}
