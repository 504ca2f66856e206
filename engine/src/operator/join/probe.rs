//! Rows that arrived meet the other side's.
//!
//! The keys of all rows are looked up first; then the lists of the other side are walked into pairs of (arrived row, stored row), and
//! columns are gathered for a chunk of pairs at a time: what the residual reads, then, of the pairs that pass, what comes out.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter, take};

use super::emit::{Columns, Emitter};
use super::index::{KeyIndex, NONE};
use super::side::{Arrived, Side};
use super::spec::{Plan, Residual};
use crate::delta::{DELTA_ROWS_MAX, batch_of};
use crate::error::Result;
use crate::expr::StepContext;

/// Pairs of an arrived row and a stored one, by ascending arrived row.
#[derive(Default)]
pub(super) struct Pairs {
    rows: Vec<u32>,
    ids: Vec<u32>,
}

/// How far the arrived rows were looked at.
struct Cursor {
    /// The next arrived row.
    row: usize,
    /// The next stored row that the one before it meets.
    id: u32,
}

impl Pairs {
    /// Fills up to [`DELTA_ROWS_MAX`] pairs; whether there may be more.
    #[inline(always)]
    fn fill(
        &mut self,
        cursor: &mut Cursor,
        slots: &[u32],
        head: impl Fn(usize, u32) -> u32,
        next: &[u32],
        meets: impl Fn(u32) -> bool,
    ) -> bool {
        self.rows.clear();
        self.ids.clear();
        let Cursor { mut row, mut id } = *cursor;
        loop {
            while id != NONE {
                if self.rows.len() == DELTA_ROWS_MAX {
                    *cursor = Cursor { row, id };
                    return true;
                }
                if meets(id) {
                    self.rows.push(row as u32 - 1);
                    self.ids.push(id);
                }
                id = next[id as usize];
            }
            let Some(slot) = slots.get(row) else {
                *cursor = Cursor { row, id };
                return false;
            };
            id = head(row, *slot);
            row += 1;
        }
    }

    /// Keeps the pairs where `mask` is true.
    fn keep(&mut self, mask: &BooleanArray) {
        let mut kept = 0;
        for pair in mask.values().set_indices() {
            (self.rows[kept], self.ids[kept]) = (self.rows[pair], self.ids[pair]);
            kept += 1;
        }
        self.rows.truncate(kept);
        self.ids.truncate(kept);
    }
}

/// One side's arrived rows against the other side's stored ones.
pub(super) struct Probe<'a> {
    pub(super) plan: &'a Plan,
    /// The side that arrived.
    pub(super) at: usize,
    pub(super) index: &'a KeyIndex,
    pub(super) arriving: &'a mut Side,
    pub(super) stored: &'a mut Side,
    pub(super) context: &'a StepContext,
    pub(super) pairs: &'a mut Pairs,
}

impl Probe<'_> {
    /// Emits the pairs of `arrived` with the stored rows as they are now, and counts them.
    pub(super) fn run(&mut self, arrived: &Arrived, emitter: &mut Emitter<'_>) -> Result<()> {
        if self.stored.rows.len() == 0 {
            return Ok(());
        }
        let other = 1 - self.at;
        let (plan, index) = (self.plan, self.index);
        let counts_arriving = plan.sides[self.at].role.counts();
        let counts_stored = plan.sides[other].role.counts();
        if !plan.pairs && counts_arriving && plan.residual.is_none() && plan.sides[self.at].saturates {
            // Any row of the key is a match.
            for (slot, id) in arrived.slots.iter().zip(&arrived.ids) {
                if index.head(*slot, other) != NONE {
                    self.arriving.count(*id, 1);
                }
            }
            return Ok(());
        }
        let fresh = arrived.fresh.as_deref();
        // Rows that were there before have their matches already.
        let only_fresh = fresh.filter(|_| !plan.pairs && !counts_stored);
        let only_unmatched = !plan.pairs && counts_stored && plan.sides[other].saturates;
        let mut cursor = Cursor { row: 0, id: NONE };
        let mut pairs = std::mem::take(self.pairs);
        loop {
            let next = self.stored.chains.next.as_slice();
            let (slots, rows) = (arrived.slots.as_slice(), &self.stored.rows);
            let head = |_: usize, slot: u32| index.head(slot, other);
            let more = if only_unmatched {
                pairs.fill(&mut cursor, slots, head, next, |id| self.stored.matches_of(id) == 0)
            } else if let Some(fresh) = only_fresh {
                let head = |row: usize, slot: u32| if fresh[row] { index.head(slot, other) } else { NONE };
                pairs.fill(&mut cursor, slots, head, next, |id| rows.weight(id) != 0)
            } else if plan.sides[other].retracting {
                pairs.fill(&mut cursor, slots, head, next, |id| rows.weight(id) != 0)
            } else {
                pairs.fill(&mut cursor, slots, head, next, |_| true)
            };
            if !pairs.rows.is_empty() {
                self.take_pairs(arrived, &mut pairs, emitter)?;
            }
            if !more {
                break;
            }
        }
        *self.pairs = pairs;
        Ok(())
    }

    fn take_pairs(&mut self, arrived: &Arrived, pairs: &mut Pairs, emitter: &mut Emitter<'_>) -> Result<()> {
        let plan = self.plan;
        let other = 1 - self.at;
        let mut known = [Columns::new(), Columns::new()];
        if let Some(residual) = &plan.residual {
            self.gather(arrived, pairs, &mut known, |side| residual_columns(residual, side))?;
            let columns: Vec<ArrayRef> = residual
                .columns
                .iter()
                .map(|(side, column)| known[*side][*column].clone().expect("all that the residual reads was gathered"))
                .collect();
            let batch = batch_of(&residual.schema, columns, pairs.rows.len())?;
            let mask = passes(residual, &batch, self.context)?;
            if mask.true_count() < mask.len() {
                pairs.keep(&mask);
                for column in known.iter_mut().flatten().filter_map(Option::as_mut) {
                    *column = filter(column, &mask)?;
                }
            }
            if pairs.rows.is_empty() {
                return Ok(());
            }
        }
        if plan.sides[other].role.counts() {
            for (row, id) in pairs.rows.iter().zip(&pairs.ids) {
                let weight = arrived.weights.as_ref().map_or(1, |weights| weights[*row as usize]);
                self.stored.count(*id, weight);
            }
        }
        if plan.sides[self.at].role.counts() {
            let fresh = arrived.fresh.as_deref();
            for (row, id) in pairs.rows.iter().zip(&pairs.ids) {
                if fresh.is_none_or(|fresh| fresh[*row as usize]) {
                    self.arriving.count(arrived.ids[*row as usize], self.stored.rows.weight(*id));
                }
            }
        }
        if !plan.pairs || emitter.is_silent() {
            return Ok(());
        }
        self.gather(arrived, pairs, &mut known, |side| plan.sides[side].output.clone())?;
        let weights = (arrived.weights.is_some() || plan.sides[other].retracting).then(|| {
            let weight = |(row, id): (&u32, &u32)| {
                arrived.weights.as_ref().map_or(1, |weights| weights[*row as usize]) * self.stored.rows.weight(*id)
            };
            pairs.rows.iter().zip(&pairs.ids).map(weight).collect()
        });
        emitter.pairs(&known, pairs.rows.len(), weights)
    }

    /// Adds the columns that are asked for and not yet known.
    fn gather(
        &self,
        arrived: &Arrived,
        pairs: &Pairs,
        known: &mut [Columns; 2],
        columns: impl Fn(usize) -> Vec<usize>,
    ) -> Result<()> {
        for (side, known) in known.iter_mut().enumerate() {
            known.resize(self.plan.sides[side].stored.fields().len(), None);
            let mut wanted = columns(side);
            wanted.retain(|column| known[*column].is_none());
            if wanted.is_empty() {
                continue;
            }
            if side == self.at {
                gather_arrived(&arrived.batch, &pairs.rows, &wanted, known)?;
            } else {
                for (column, taken) in wanted.iter().zip(self.stored.rows.take(&pairs.ids, &wanted)?) {
                    known[*column] = Some(taken);
                }
            }
        }
        Ok(())
    }
}

fn residual_columns(residual: &Residual, at: usize) -> Vec<usize> {
    let mut columns: Vec<usize> =
        residual.columns.iter().filter(|(side, _)| *side == at).map(|(_, column)| *column).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Columns of arrived rows; as they are where each row has one match.
fn gather_arrived(batch: &RecordBatch, rows: &[u32], wanted: &[usize], known: &mut Columns) -> Result<()> {
    let all = rows.len() == batch.num_rows() && rows.iter().enumerate().all(|(place, row)| place == *row as usize);
    let rows = (!all).then(|| UInt32Array::from(rows.to_vec()));
    for column in wanted {
        let array = batch.column(*column);
        known[*column] = Some(match &rows {
            None => ArrayRef::clone(array),
            Some(rows) => take(array, rows, None)?,
        });
    }
    Ok(())
}

/// Where the condition holds; null does not.
fn passes(residual: &Residual, batch: &RecordBatch, context: &StepContext) -> Result<BooleanArray> {
    let mask = residual.expr.evaluate(batch, context, None)?;
    let mask = mask.as_boolean_opt().ok_or_else(|| {
        crate::error::EngineError::bug(format!("the condition of a join has type {}", mask.data_type()))
    })?;
    Ok(match mask.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => mask.clone(),
        Some(nulls) => BooleanArray::new(mask.values() & nulls.inner(), None),
    })
}
