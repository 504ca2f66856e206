//! Which of the rows that an order does not tell apart comes first: the one that arrived first where rows have arrival numbers, else the one
//! with the lesser hash.
//!
//! Behind an operator there is no order of arrival that does not depend on how the input was cut into steps and shards. An `OVER`, a window with a
//! pattern, and a join that has at most one row for each of its left side keep the arrival numbers of rows that are only inserted as one more
//! column, where an `OVER`, a top-N or a pattern above them asks for it; all other rows go by what is in them.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{WindowFrameUnits, WindowFunctionDefinition};
use eagre_engine::EngineError;
use eagre_engine::expr::{Expr, StepContext};
use eagre_engine::graph::ChangelogMode;
use eagre_engine::hash::{hash_columns, is_hashable};

use super::super::aggregate::ORDERED_FUNCTIONS;
use super::super::lower::{Lowering, Slot, Stream};

/// The arrival numbers of rows, as a column.
#[derive(Debug)]
struct Arrival(FieldRef);

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("arrival number")
    }
}

impl Expr for Arrival {
    fn evaluate(
        &self,
        _batch: &RecordBatch,
        _context: &StepContext,
        ordinals: Option<&UInt64Array>,
    ) -> eagre_engine::Result<ArrayRef> {
        let ordinals = ordinals.ok_or_else(|| EngineError::bug("rows came without their arrival numbers"))?;
        Ok(Arc::new(ordinals.clone()))
    }

    fn field(&self) -> &FieldRef {
        &self.0
    }
}

/// A hash of what is in the rows.
#[derive(Debug)]
struct Contents {
    columns: Vec<usize>,
    field: FieldRef,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hash of the row")
    }
}

impl Expr for Contents {
    fn evaluate(
        &self,
        batch: &RecordBatch,
        _context: &StepContext,
        _ordinals: Option<&UInt64Array>,
    ) -> eagre_engine::Result<ArrayRef> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        let mut hashes = Vec::new();
        hash_columns(&columns, batch.num_rows(), &mut hashes)?;
        Ok(Arc::new(UInt64Array::from(hashes)))
    }

    fn field(&self) -> &FieldRef {
        &self.field
    }
}

/// Whether the value of a call depends on the order of peers among themselves.
pub(super) fn sees_ties(function: &WindowFunction) -> bool {
    match &function.fun {
        WindowFunctionDefinition::WindowUDF(udf) => {
            !matches!(udf.name(), "rank" | "dense_rank" | "percent_rank" | "cume_dist")
        }
        WindowFunctionDefinition::AggregateUDF(udf) => {
            let frame = &function.params.window_frame;
            let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
            let by_peers = frame.units != WindowFrameUnits::Rows || whole;
            !by_peers || ORDERED_FUNCTIONS.contains(&udf.name())
        }
    }
}

impl Lowering<'_> {
    /// The column by which rows stand that an order does not tell apart; `None`: they come with arrival numbers and go by these.
    pub(in crate::planner) fn tie(&self, stream: &mut Stream) -> Option<usize> {
        if let Some(arrival) = stream.arrival {
            return Some(arrival);
        }
        if stream.ordered {
            stream.require_ordinals();
            return None;
        }
        Some(self.add_contents(stream))
    }

    /// Has the rows carry their arrival numbers beyond the next operator, if they have any and none can be taken back: what takes a row back has
    /// an arrival number of its own.
    pub(in crate::planner) fn keep_arrival(&self, stream: &mut Stream) {
        if stream.arrival.is_none() && stream.ordered && stream.changelog == ChangelogMode::AppendOnly {
            stream.require_ordinals();
            let field = Arc::new(Field::new("__arrival", DataType::UInt64, false));
            stream.arrival = Some(stream.add_column(Arc::new(Arrival(field))));
        }
    }

    /// Adds a hash of the rows as a column.
    pub(in crate::planner) fn add_contents(&self, stream: &mut Stream) -> usize {
        let places = stream.columns.iter().filter_map(|column| match column.slot {
            Slot::Physical(place) => Some(place),
            Slot::Window(_) => None,
        });
        let mut columns: Vec<usize> = places.filter(|place| *place != usize::MAX).collect();
        columns.sort_unstable();
        columns.dedup();
        columns.retain(|place| is_hashable(stream.physical.field(*place).data_type()));
        let field = Arc::new(Field::new("__contents", DataType::UInt64, false));
        stream.add_column(Arc::new(Contents { columns, field }))
    }
}
