//! The running forms of the functions: their states in vectors by slot, one tight loop a batch.

mod any_aggregate;
mod extremes;
mod places;
mod ranks;
mod sums;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};

pub(in crate::operator::over) use any_aggregate::RunningAggregate;
pub(in crate::operator::over) use extremes::RunningExtremes;
pub(in crate::operator::over) use places::{RunningFirst, RunningLast, RunningPlaces};
pub(in crate::operator::over) use ranks::{RankKind, RunningRanks};
pub(in crate::operator::over) use sums::{RunningCounts, RunningDoubles, RunningSums};

use super::Arrived;
use super::tail::Start;
use crate::operator::over::aggregates::counting;
use crate::operator::over::frame::{Bound, Distance, Frame, FrameUnit};

/// Calls `each` for the positions of every value: one for each row, or all of a group of peers.
#[inline(always)]
fn each_value(
    by_row: bool,
    rows: &Arrived<'_>,
    run: std::ops::Range<usize>,
    mut each: impl FnMut(std::ops::Range<usize>),
) {
    if by_row {
        run.for_each(|position| each(position..position + 1));
        return;
    }
    let new_peer = rows.rows.new_peer;
    let mut position = run.start;
    while position < run.end {
        let mut end = position + 1;
        while end < run.end && !new_peer[end] {
            end += 1;
        }
        each(position..end);
        position = end;
    }
}

/// Goes over the rows that come and those that leave, and writes what each value is.
struct Walk<'a> {
    by_row: bool,
    valid: Option<BooleanBuffer>,
    left_valid: Option<BooleanBuffer>,
    rows: &'a Arrived<'a>,
}

impl<'a> Walk<'a> {
    fn new(by_row: bool, args: &[ArrayRef], filter: Option<&BooleanArray>, rows: &'a Arrived<'a>) -> Self {
        let left_valid = rows.slid.and_then(|_| counting(rows.left_args, rows.left_filter));
        Self { by_row, valid: counting(args, filter), left_valid, rows }
    }

    /// `load(slot)` gives a partition's state, `push(state, row)` and `pop(state, index among those that left)` change it (null where
    /// the row does not count), `value(state, rows)` takes its value for some rows, `store` keeps it.
    #[inline(always)]
    fn run<S>(
        &self,
        mut load: impl FnMut(usize) -> S,
        mut push: impl FnMut(&mut S, usize, bool),
        mut pop: impl FnMut(&mut S, usize, bool),
        mut value: impl FnMut(&mut S, &[u32]),
        mut store: impl FnMut(usize, S),
    ) {
        let grouped = self.rows.rows;
        let counts = self.rows.slid.map(|slid| slid.counts.as_slice());
        let mut left = 0;
        for (slot, run) in grouped.runs {
            let mut state = load(*slot as usize);
            each_value(self.by_row, self.rows, run.clone(), |positions| {
                let rows = &grouped.order[positions.clone()];
                for row in rows {
                    let row = *row as usize;
                    push(&mut state, row, self.valid.as_ref().is_none_or(|valid| valid.value(row)));
                }
                if let Some(counts) = counts {
                    for _ in 0..counts[positions.start] {
                        pop(&mut state, left, self.left_valid.as_ref().is_none_or(|valid| valid.value(left)));
                        left += 1;
                    }
                }
                value(&mut state, rows);
            });
            store(*slot as usize, state);
        }
    }
}

fn nulls(full: Vec<bool>) -> Option<NullBuffer> {
    (!full.iter().all(|full| *full)).then(|| NullBuffer::from(full))
}

/// Where a frame that ends with the current row begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operator::over) enum From {
    /// At the partition's start; it ends with the row, or with its peers.
    PartitionStart {
        /// With the row.
        by_row: bool,
    },
    /// So far before.
    Sliding(Start),
}

impl From {
    /// Of a frame that ends with the current row; `None`: another frame, or one that begins in another way.
    pub(in crate::operator::over) fn of(frame: &Frame) -> Option<Self> {
        if frame.end != Bound::CurrentRow {
            return None;
        }
        match (frame.unit, frame.start) {
            (unit, Bound::UnboundedPreceding) => Some(Self::PartitionStart { by_row: unit == FrameUnit::Rows }),
            (FrameUnit::Rows, Bound::Preceding(Distance::Count(count))) => Some(Self::Sliding(Start::Rows(count))),
            (FrameUnit::Rows, Bound::CurrentRow) => Some(Self::Sliding(Start::Rows(0))),
            (FrameUnit::Range, Bound::Preceding(Distance::Count(units))) => Some(Self::Sliding(Start::Range(units))),
            _ => None,
        }
    }

    pub(in crate::operator::over) fn by_row(self) -> bool {
        matches!(self, Self::PartitionStart { by_row: true } | Self::Sliding(Start::Rows(_)))
    }

    pub(in crate::operator::over) fn slides(self) -> Option<Start> {
        match self {
            Self::Sliding(start) => Some(start),
            Self::PartitionStart { .. } => None,
        }
    }
}
