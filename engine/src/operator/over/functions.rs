//! The functions that find a row rather than compute with many: ranks, `lag` and `lead`, the n-th value of a frame. And the choice of
//! the engine's own functions ([`native`]); what is not here the planner runs through DataFusion.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, FieldRef};

use super::aggregates;
use super::frame::{Frame, Ordered, Reach};
use super::running::functions::{
    From, RankKind, RunningAggregate, RunningFirst, RunningLast, RunningPlaces, RunningRanks,
};
use super::{OverFunction, OverFunctionRef, RunningForm};
use crate::aggregate::AggregateFunctionRef;
use crate::error::Result;

/// A function of an `OVER` expression, after type coercion.
#[derive(Debug, Clone)]
pub enum OverRequest<'a> {
    /// `row_number()`.
    RowNumber,
    /// `rank()`.
    Rank,
    /// `dense_rank()`.
    DenseRank,
    /// `lag(x, offset, default)`; `lead` has a negative offset.
    Shift {
        /// How many rows back.
        offset: i64,
        /// One value of the result's type for rows that have no such row; `None`: null.
        default: Option<ArrayRef>,
    },
    /// `nth_value(x, n)`: from the frame's start (1 is the first), or where negative from its end (-1 is the last).
    Value {
        /// Which row of the frame; never 0.
        n: i64,
        /// The frame.
        frame: Frame,
    },
    /// An aggregate, without `DISTINCT`.
    Aggregate {
        /// As DataFusion spells it.
        name: &'a str,
        /// The frame.
        frame: Frame,
    },
}

/// The engine's own implementation; `None`: there is none for these types. `args` are the columns that are read (no offsets and defaults;
/// none for `count(*)`).
pub fn native(request: &OverRequest<'_>, args: &[FieldRef], return_field: &FieldRef) -> Option<OverFunctionRef> {
    let counts = return_field.data_type() == &DataType::Int64;
    let same = args.first().is_some_and(|arg| args.len() == 1 && arg.data_type() == return_field.data_type());
    let field = Arc::clone(return_field);
    match request {
        OverRequest::RowNumber if counts => Some(Arc::new(Rank { kind: RankKind::RowNumber, field })),
        OverRequest::Rank if counts => Some(Arc::new(Rank { kind: RankKind::Rank, field })),
        OverRequest::DenseRank if counts => Some(Arc::new(Rank { kind: RankKind::DenseRank, field })),
        OverRequest::Shift { offset, default } if same => {
            let fits = default.as_ref().is_none_or(|value| value.data_type() == return_field.data_type());
            fits.then(|| Arc::new(Shift { offset: *offset, default: default.clone(), field }) as OverFunctionRef)
        }
        OverRequest::Value { n, frame } if same && *n != 0 => Some(Arc::new(Value { n: *n, frame: *frame, field })),
        OverRequest::Aggregate { name, frame } => aggregates::aggregate(name, args, *frame, return_field),
        _ => None,
    }
}

/// `row_number`, `rank`, `dense_rank`.
#[derive(Debug)]
struct Rank {
    kind: RankKind,
    field: FieldRef,
}

impl OverFunction for Rank {
    fn name(&self) -> &str {
        match self.kind {
            RankKind::RowNumber => "row_number",
            RankKind::Rank => "rank",
            RankKind::DenseRank => "dense_rank",
        }
    }

    fn field(&self) -> FieldRef {
        Arc::clone(&self.field)
    }

    fn lookback(&self) -> Reach {
        Reach::Unbounded
    }

    fn lookahead(&self) -> Reach {
        Reach::NONE
    }

    fn context(&self) -> Reach {
        match self.kind {
            RankKind::RowNumber => Reach::NONE,
            RankKind::Rank => Reach::Groups(0),
            RankKind::DenseRank => Reach::Unbounded,
        }
    }

    fn counts_rows(&self) -> bool {
        self.kind != RankKind::DenseRank
    }

    fn running(&self) -> Option<RunningForm> {
        Some(RunningForm(Box::new(RunningRanks::new(self.kind))))
    }

    fn evaluate(&self, _args: &[ArrayRef], _filter: Option<&BooleanArray>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let mut ranks: Vec<i64> = Vec::with_capacity(rows.wanted());
        for segment in rows.segments {
            let number = |row: usize| (segment.first + (row - segment.rows.start) as u64 + 1) as i64;
            match self.kind {
                RankKind::RowNumber => ranks.extend(segment.wanted.clone().map(number)),
                RankKind::Rank => {
                    let mut rank = number(segment.rows.start);
                    for row in segment.rows.start..segment.wanted.end {
                        if rows.new_peer[row] {
                            rank = number(row);
                        }
                        if row >= segment.wanted.start {
                            ranks.push(rank);
                        }
                    }
                }
                RankKind::DenseRank => {
                    let mut rank = 0;
                    for row in segment.rows.start..segment.wanted.end {
                        rank += i64::from(rows.new_peer[row] || row == segment.rows.start);
                        if row >= segment.wanted.start {
                            ranks.push(rank);
                        }
                    }
                }
            }
        }
        Ok(Arc::new(Int64Array::from(ranks)))
    }
}

/// `lag` and `lead`.
#[derive(Debug)]
struct Shift {
    offset: i64,
    default: Option<ArrayRef>,
    field: FieldRef,
}

impl OverFunction for Shift {
    fn name(&self) -> &str {
        if self.offset < 0 { "lead" } else { "lag" }
    }

    fn field(&self) -> FieldRef {
        Arc::clone(&self.field)
    }

    fn lookback(&self) -> Reach {
        Reach::Rows(self.offset.max(0) as u64)
    }

    fn lookahead(&self) -> Reach {
        Reach::Rows(self.offset.min(0).unsigned_abs())
    }

    fn running(&self) -> Option<RunningForm> {
        let offset = u64::try_from(self.offset).ok()?;
        Some(RunningForm(Box::new(RunningPlaces::lag(offset, self.default.clone()))))
    }

    fn evaluate(&self, args: &[ArrayRef], _filter: Option<&BooleanArray>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let values = &args[0];
        // The default is one more row at the end.
        let outside = self.default.as_ref().map(|_| values.len() as u32);
        let mut indices: Vec<Option<u32>> = Vec::with_capacity(rows.wanted());
        for segment in rows.segments {
            for row in segment.wanted.clone() {
                let at = row as i128 - i128::from(self.offset);
                let inside = at >= segment.rows.start as i128 && at < segment.rows.end as i128;
                indices.push(if inside { Some(at as u32) } else { outside });
            }
        }
        let indices = UInt32Array::from(indices);
        Ok(match &self.default {
            Some(default) => take(&concat(&[values.as_ref(), default.as_ref()])?, &indices, None)?,
            None => take(values, &indices, None)?,
        })
    }
}

/// `first_value`, `last_value`, `nth_value`.
#[derive(Debug)]
struct Value {
    n: i64,
    frame: Frame,
    field: FieldRef,
}

impl OverFunction for Value {
    fn name(&self) -> &str {
        match self.n {
            1 => "first_value",
            -1 => "last_value",
            _ => "nth_value",
        }
    }

    fn field(&self) -> FieldRef {
        Arc::clone(&self.field)
    }

    fn lookback(&self) -> Reach {
        self.frame.lookback()
    }

    fn lookahead(&self) -> Reach {
        self.frame.lookahead()
    }

    fn compares_keys(&self) -> bool {
        self.frame.compares_keys()
    }

    fn running(&self) -> Option<RunningForm> {
        Some(RunningForm(match (From::of(&self.frame)?, self.n) {
            (From::PartitionStart { .. }, 1) => Box::new(RunningFirst::new(Arc::clone(&self.field)).ok()?),
            (From::Sliding(start), 1) => Box::new(RunningPlaces::first(start)),
            (from, -1) => Box::new(RunningLast { by_row: from.by_row() }),
            _ => return None,
        }))
    }

    fn evaluate(&self, args: &[ArrayRef], _filter: Option<&BooleanArray>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        let mut indices: Vec<Option<u32>> = Vec::with_capacity(rows.wanted());
        let distance = usize::try_from(self.n.unsigned_abs() - 1).unwrap_or(usize::MAX);
        for segment in rows.segments {
            rows.frames(&self.frame, segment, |_, start, end| {
                let inside = distance < end.saturating_sub(start);
                let index = inside.then(|| if self.n > 0 { start + distance } else { end - 1 - distance });
                indices.push(index.map(|index| index as u32));
            })?;
        }
        Ok(take(&args[0], &UInt32Array::from(indices), None)?)
    }
}

/// An aggregate over all rows so far that is evaluated by `function` and, where rows come in order, kept in the accumulators of `aggregate`:
/// one state for each partition, and no rows. The aggregate must not depend on the order of rows.
pub fn accumulated(function: OverFunctionRef, aggregate: AggregateFunctionRef, frame: Frame) -> OverFunctionRef {
    match From::of(&frame) {
        Some(From::PartitionStart { by_row }) => Arc::new(Accumulated { function, aggregate, by_row }),
        _ => function,
    }
}

#[derive(Debug)]
struct Accumulated {
    function: OverFunctionRef,
    aggregate: AggregateFunctionRef,
    by_row: bool,
}

impl OverFunction for Accumulated {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn field(&self) -> FieldRef {
        self.function.field()
    }

    fn lookback(&self) -> Reach {
        self.function.lookback()
    }

    fn lookahead(&self) -> Reach {
        self.function.lookahead()
    }

    fn compares_keys(&self) -> bool {
        self.function.compares_keys()
    }

    fn running(&self) -> Option<RunningForm> {
        Some(RunningForm(Box::new(RunningAggregate::new(Arc::clone(&self.aggregate), self.by_row).ok()?)))
    }

    fn evaluate(&self, args: &[ArrayRef], filter: Option<&BooleanArray>, rows: &Ordered<'_>) -> Result<ArrayRef> {
        self.function.evaluate(args, filter, rows)
    }
}
