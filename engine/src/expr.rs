//! Expressions: a batch in, a column out. `sql` implements them with DataFusion's physical expressions.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};

use crate::error::Result;
use crate::time::EventTimeMs;

/// All that an expression may know besides its batch; the same context always gives the same answer, so a step can be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepContext {
    /// Which step this is, from 1.
    pub step: u64,
    /// Processing time of the step in milliseconds since 1970 (UTC), as recorded in the step log.
    pub clock_ms: i64,
    /// The seed of all randomness in this run, as recorded in the step log.
    pub seed: u64,
}

/// A pure function of a batch, the step and the arrival numbers of the rows.
pub trait Expr: Send + Sync + fmt::Debug + fmt::Display {
    /// The column of `batch.num_rows()` values. `ordinals`, where the edge has them, are the rows' arrival numbers: volatile
    /// functions (`random()`) are functions of seed and arrival number, so that batching does not show in them.
    fn evaluate(
        &self,
        batch: &RecordBatch,
        context: &StepContext,
        ordinals: Option<&arrow::array::UInt64Array>,
    ) -> Result<ArrayRef>;
    /// As [`evaluate`](Self::evaluate), where the watermark of the rows is known: what it was at the start of the step, by which they are
    /// late or not.
    fn evaluate_behind(
        &self,
        batch: &RecordBatch,
        context: &StepContext,
        ordinals: Option<&arrow::array::UInt64Array>,
        _watermark: EventTimeMs,
    ) -> Result<ArrayRef> {
        self.evaluate(batch, context, ordinals)
    }
    /// Name, type and nullability of the result.
    fn field(&self) -> &FieldRef;
    /// Whether the value depends on the step's clock or seed, and not on the batch alone.
    fn is_volatile(&self) -> bool {
        false
    }
    /// `Some(i)`: the expression is column `i` as it is, so a chain passes it on and evaluates nothing.
    fn as_column(&self) -> Option<usize> {
        None
    }
    /// The parts of a boolean that is `AND` of several, each of which can be evaluated for all rows by itself; empty: it is none. What
    /// several expressions have in common is then evaluated once.
    fn conjuncts(&self) -> Vec<ExprRef> {
        Vec::new()
    }
}

/// A shared expression.
pub type ExprRef = Arc<dyn Expr>;

/// A batch-wise function with any number of rows out, for stateless work that is neither filter nor projection (`UNNEST`).
pub trait Transform: Send + Sync + fmt::Debug + fmt::Display {
    /// The new batch and, for each of its rows, the row of `batch` that it comes from (weights and ordinals follow it).
    fn apply(&self, batch: &RecordBatch, context: &StepContext) -> Result<(RecordBatch, arrow::array::UInt32Array)>;
    /// The columns that come out.
    fn schema(&self) -> SchemaRef;
}

/// A column of the input as it is.
#[derive(Debug)]
pub struct PlainColumn {
    index: usize,
    /// Its name so far.
    from: String,
    field: FieldRef,
}

impl PlainColumn {
    /// Column `index`, called `field`'s name from here on.
    pub fn new(index: usize, field: FieldRef) -> Self {
        Self { index, from: field.name().clone(), field }
    }

    /// Column `index`, called `from` so far.
    pub fn renamed(index: usize, from: String, field: FieldRef) -> Self {
        Self { index, from, field }
    }
}

impl fmt::Display for PlainColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.from)?;
        if self.from == *self.field.name() { Ok(()) } else { write!(f, " AS {}", self.field.name()) }
    }
}

impl Expr for PlainColumn {
    fn evaluate(
        &self,
        batch: &RecordBatch,
        _context: &StepContext,
        _ordinals: Option<&arrow::array::UInt64Array>,
    ) -> Result<ArrayRef> {
        Ok(Arc::clone(batch.column(self.index)))
    }

    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn as_column(&self) -> Option<usize> {
        Some(self.index)
    }
}
