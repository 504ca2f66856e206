//! From rows that belong together to deltas of the output.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, new_null_array};
use arrow::compute::concat;

use super::spec::{OutputColumn, Plan};
use crate::delta::{DELTA_ROWS_MAX, Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::operator::Output;

/// Fewer rows than this wait for others: what follows pays for each delta.
const ROWS_MIN: usize = 1_024;

/// Columns of one side, by kept column, as far as somebody needs them.
pub(super) type Columns = Vec<Option<ArrayRef>>;

/// Writes one step's output.
pub(super) struct Emitter<'a> {
    plan: &'a Plan,
    /// Nothing comes out of a step that only brings back what was there.
    out: Option<&'a mut Output>,
    small: Vec<Piece>,
    small_rows: usize,
}

struct Piece {
    columns: Vec<ArrayRef>,
    rows: usize,
    weights: Option<Vec<i64>>,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(plan: &'a Plan, out: Option<&'a mut Output>) -> Self {
        Self { plan, out, small: Vec::new(), small_rows: 0 }
    }

    /// Whether what is emitted goes nowhere.
    pub(super) fn is_silent(&self) -> bool {
        self.out.is_none()
    }

    /// Emits pairs: `sides` are the columns of both of their rows.
    pub(super) fn pairs(&mut self, sides: &[Columns; 2], rows: usize, weights: Option<Vec<i64>>) -> Result<()> {
        let column = |column: &OutputColumn| match column {
            OutputColumn::Kept { side, column } => sides[*side][*column].clone().ok_or_else(|| missing(*column)),
            OutputColumn::Mark => Err(EngineError::bug("pairs have no mark")),
        };
        let columns = self.plan.columns.iter().map(column).collect::<Result<_>>()?;
        self.push(columns, rows, weights)
    }

    /// Emits rows of one side beside nulls, or with a mark.
    pub(super) fn rows(
        &mut self,
        side: usize,
        kept: &Columns,
        rows: usize,
        weights: Option<Vec<i64>>,
        mark: bool,
    ) -> Result<()> {
        let fields = self.plan.output.fields();
        let column = |(column, field): (&OutputColumn, &arrow::datatypes::FieldRef)| match column {
            OutputColumn::Kept { side: from, column } if *from == side => {
                kept[*column].clone().ok_or_else(|| missing(*column))
            }
            OutputColumn::Kept { .. } => Ok(new_null_array(field.data_type(), rows)),
            OutputColumn::Mark => Ok(Arc::new(BooleanArray::from(vec![mark; rows])) as ArrayRef),
        };
        let columns = self.plan.columns.iter().zip(fields).map(column).collect::<Result<_>>()?;
        self.push(columns, rows, weights)
    }

    fn push(&mut self, columns: Vec<ArrayRef>, rows: usize, weights: Option<Vec<i64>>) -> Result<()> {
        if rows == 0 || self.is_silent() {
            return Ok(());
        }
        let weights = self.plan.updating.then(|| weights.unwrap_or_else(|| vec![1; rows]));
        let piece = Piece { columns, rows, weights };
        if rows >= ROWS_MIN {
            return self.emit(piece);
        }
        self.small.push(piece);
        self.small_rows += rows;
        if self.small_rows + ROWS_MIN > DELTA_ROWS_MAX { self.flush() } else { Ok(()) }
    }

    /// Emits what waits for others.
    pub(super) fn flush(&mut self) -> Result<()> {
        let mut pieces = std::mem::take(&mut self.small);
        let rows = std::mem::take(&mut self.small_rows);
        let Some(mut first) = pieces.pop() else {
            return Ok(());
        };
        if !pieces.is_empty() {
            for (index, column) in first.columns.iter_mut().enumerate() {
                let mut parts: Vec<&dyn Array> = pieces.iter().map(|piece| piece.columns[index].as_ref()).collect();
                parts.push(column.as_ref());
                *column = concat(&parts)?;
            }
            if let Some(last) = first.weights.take() {
                let mut weights: Vec<i64> =
                    pieces.iter_mut().flat_map(|piece| piece.weights.take()).flatten().collect();
                weights.extend(last);
                first.weights = Some(weights);
            }
            first.rows = rows;
        }
        self.emit(first)
    }

    fn emit(&mut self, Piece { columns, rows, weights }: Piece) -> Result<()> {
        let batch = batch_of(&self.plan.output, columns, rows)?;
        if let Some(out) = &mut self.out {
            out.emit(Delta { batch, weights: weights.map(Int64Array::from), ordinals: None });
        }
        Ok(())
    }
}

fn missing(column: usize) -> EngineError {
    EngineError::bug(format!("kept column {column} of a join was not gathered"))
}
