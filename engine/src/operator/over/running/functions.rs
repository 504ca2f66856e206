//! The running forms of the functions: their states in vectors by slot, one tight loop a batch.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray, Float64Array, Int64Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, UInt64Type};

use super::tail::{NONE, Start};
use super::{Arrived, Running};
use crate::aggregate::{Accumulators, AggregateFunctionRef, DoubleDouble, RowInfo, Slots, Total, Weighted, sum_column};
use crate::error::Result;
use crate::hash::{native_column, native_values};
use crate::operator::over::aggregates::counting;
use crate::operator::over::frame::{Bound, Distance, Frame, FrameUnit};
use crate::rows::Rows;

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

/// `row_number`, `rank`, `dense_rank`.
pub(in crate::operator::over) struct RunningRanks {
    kind: RankKind,
    /// How many rows, and how many groups of peers.
    states: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operator::over) enum RankKind {
    RowNumber,
    Rank,
    DenseRank,
}

impl RunningRanks {
    pub(in crate::operator::over) fn new(kind: RankKind) -> Self {
        Self { kind, states: Vec::new() }
    }
}

impl Running for RunningRanks {
    fn resize(&mut self, count: usize) {
        self.states.resize(count.max(self.states.len()), (0, 0));
    }

    fn advance(
        &mut self,
        _args: &[ArrayRef],
        _columns: &[usize],
        _filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef> {
        let grouped = rows.rows;
        let mut ranks = vec![0; grouped.order.len()];
        for (slot, run) in grouped.runs {
            let (mut count, mut groups) = self.states[*slot as usize];
            let mut rank = 0;
            for position in run.clone() {
                count += 1;
                if grouped.new_peer[position] {
                    groups += 1;
                    rank = count;
                }
                let number = match self.kind {
                    RankKind::RowNumber => count,
                    RankKind::Rank => rank,
                    RankKind::DenseRank => groups,
                };
                ranks[grouped.order[position] as usize] = number as i64;
            }
            self.states[*slot as usize] = (count, groups);
        }
        Ok(Arc::new(Int64Array::from(ranks)))
    }

    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.states[*slot as usize] = (0, 0));
    }

    fn state_fields(&self) -> Vec<Field> {
        let field = |name| Field::new(name, DataType::UInt64, false);
        vec![field("rows"), field("groups")]
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let column = |of: fn(&(u64, u64)) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(slots.iter().map(|slot| of(&self.states[*slot as usize]))))
        };
        Ok(vec![column(|state| state.0), column(|state| state.1)])
    }

    fn restore(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let (rows, groups) = (state[0].as_primitive::<UInt64Type>(), state[1].as_primitive::<UInt64Type>());
        for (row, slot) in slots.iter().enumerate() {
            self.states[*slot as usize] = (rows.value(row), groups.value(row));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.states.capacity() * 16
    }
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

/// `count`.
pub(in crate::operator::over) struct RunningCounts {
    from: From,
    counts: Vec<i64>,
}

impl RunningCounts {
    pub(in crate::operator::over) fn new(from: From) -> Self {
        Self { from, counts: Vec::new() }
    }
}

impl Running for RunningCounts {
    fn slides(&self) -> Option<Start> {
        self.from.slides()
    }

    fn resize(&mut self, count: usize) {
        self.counts.resize(count.max(self.counts.len()), 0);
    }

    fn advance(
        &mut self,
        args: &[ArrayRef],
        _columns: &[usize],
        filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef> {
        let walk = Walk::new(self.from.by_row(), args, filter, rows);
        let mut results = vec![0; rows.rows.order.len()];
        let counts = std::cell::RefCell::new(&mut self.counts);
        walk.run(
            |slot| counts.borrow()[slot],
            |count, _, valid| *count += i64::from(valid),
            |count, _, valid| *count -= i64::from(valid),
            |count, rows| rows.iter().for_each(|row| results[*row as usize] = *count),
            |slot, count| counts.borrow_mut()[slot] = count,
        );
        Ok(Arc::new(Int64Array::from(results)))
    }

    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.counts[*slot as usize] = 0);
    }

    fn state_fields(&self) -> Vec<Field> {
        match self.from.slides() {
            Some(_) => Vec::new(),
            None => vec![Field::new("count", DataType::Int64, false)],
        }
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        if self.from.slides().is_some() {
            return Ok(Vec::new());
        }
        let counts = slots.iter().map(|slot| self.counts[*slot as usize]);
        Ok(vec![Arc::new(Int64Array::from_iter_values(counts))])
    }

    fn restore(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let counts = native_values::<i64>(&state[0]);
        slots.iter().zip(counts.iter()).for_each(|(slot, count)| self.counts[*slot as usize] = *count);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * 8
    }
}

/// Sums of integers and decimals.
pub(in crate::operator::over) struct RunningSums<N> {
    from: From,
    field: FieldRef,
    states: Vec<Total<N>>,
}

impl<N> RunningSums<N> {
    pub(in crate::operator::over) fn new(from: From, field: FieldRef) -> Self {
        Self { from, field, states: Vec::new() }
    }
}

impl<N: Weighted> Running for RunningSums<N> {
    fn slides(&self) -> Option<Start> {
        self.from.slides()
    }

    fn resize(&mut self, count: usize) {
        self.states.resize(count.max(self.states.len()), Total::default());
    }

    fn advance(
        &mut self,
        args: &[ArrayRef],
        _columns: &[usize],
        filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef> {
        let walk = Walk::new(self.from.by_row(), args, filter, rows);
        let values = native_values::<N>(&args[0]);
        let left = rows.left_args.first().map(native_values::<N>).unwrap_or_default();
        let count = rows.rows.order.len();
        let mut totals = vec![Total::default(); count];
        let states = std::cell::RefCell::new(&mut self.states);
        walk.run(
            |slot| states.borrow()[slot],
            |total, row, valid| {
                if valid {
                    total.add(values[row]);
                }
            },
            |total, index, valid| {
                if valid {
                    total.sub(left[index]);
                }
            },
            |total, rows| rows.iter().for_each(|row| totals[*row as usize] = *total),
            |slot, state| states.borrow_mut()[slot] = state,
        );
        sum_column(&totals, self.field.data_type())
    }

    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.states[*slot as usize] = Total::default());
    }

    fn state_fields(&self) -> Vec<Field> {
        match self.from.slides() {
            Some(_) => Vec::new(),
            None => vec![
                Field::new("sum", self.field.data_type().clone(), false),
                Field::new("count", DataType::UInt64, false),
            ],
        }
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        if self.from.slides().is_some() {
            return Ok(Vec::new());
        }
        let sums = slots.iter().map(|slot| self.states[*slot as usize].parts().0).collect();
        let counts = slots.iter().map(|slot| self.states[*slot as usize].parts().1.cast_unsigned());
        Ok(vec![native_column(self.field.data_type(), sums, None), Arc::new(UInt64Array::from_iter_values(counts))])
    }

    fn restore(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let (sums, counts) = (native_values::<N>(&state[0]), native_values::<u64>(&state[1]));
        for (row, slot) in slots.iter().enumerate() {
            self.states[*slot as usize] = Total::of_parts(sums[row], counts[row].cast_signed());
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.states.capacity() * size_of::<Total<N>>()
    }
}

/// Sums and averages of doubles.
pub(in crate::operator::over) struct RunningDoubles {
    from: From,
    average: bool,
    states: Vec<Doubles>,
    bytes: usize,
}

#[derive(Default)]
struct Doubles {
    /// Of all rows, or where rows leave of those that came after `leaving` was made.
    sum: DoubleDouble,
    count: u64,
    /// Sums of the rows that leave next, the one of all of them last.
    leaving: Vec<DoubleDouble>,
    /// The rows that came after; what does not count is zero.
    later: Vec<f64>,
}

impl RunningDoubles {
    pub(in crate::operator::over) fn new(from: From, average: bool) -> Self {
        Self { from, average, states: Vec::new(), bytes: 0 }
    }
}

impl Running for RunningDoubles {
    fn slides(&self) -> Option<Start> {
        self.from.slides()
    }

    fn resize(&mut self, count: usize) {
        self.states.resize_with(count.max(self.states.len()), Doubles::default);
    }

    fn advance(
        &mut self,
        args: &[ArrayRef],
        _columns: &[usize],
        filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef> {
        let walk = Walk::new(self.from.by_row(), args, filter, rows);
        let values = native_values::<f64>(&args[0]);
        let slides = self.from.slides().is_some();
        let count = rows.rows.order.len();
        let (mut results, mut full) = (vec![0.0; count], vec![true; count]);
        let average = self.average;
        let (states, bytes) = (std::cell::RefCell::new(&mut self.states), std::cell::Cell::new(self.bytes));
        let held = |state: &Doubles| state.leaving.capacity() * 16 + state.later.capacity() * 8;
        walk.run(
            |slot| {
                let state = std::mem::take(&mut states.borrow_mut()[slot]);
                bytes.set(bytes.get() - held(&state));
                state
            },
            |state, row, valid| {
                if valid {
                    state.sum.add(values[row]);
                    state.count += 1;
                }
                if slides {
                    state.later.push(if valid { values[row] } else { 0.0 });
                }
            },
            |state, _, valid| {
                if state.leaving.is_empty() {
                    let mut sum = DoubleDouble::default();
                    while let Some(value) = state.later.pop() {
                        sum.add(value);
                        state.leaving.push(sum);
                    }
                    state.sum = DoubleDouble::default();
                }
                state.leaving.pop();
                state.count -= u64::from(valid);
            },
            |state, rows| {
                let mut sum = state.sum;
                if let Some(leaving) = state.leaving.last() {
                    sum.merge(*leaving);
                }
                let value = if average { sum.value() / state.count as f64 } else { sum.value() };
                for row in rows {
                    results[*row as usize] = value;
                    full[*row as usize] = state.count > 0;
                }
            },
            |slot, state| {
                bytes.set(bytes.get() + held(&state));
                states.borrow_mut()[slot] = state;
            },
        );
        self.bytes = bytes.get();
        Ok(Arc::new(Float64Array::new(results.into(), nulls(full))))
    }

    fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            let state = std::mem::take(&mut self.states[*slot as usize]);
            self.bytes -= state.leaving.capacity() * 16 + state.later.capacity() * 8;
        }
    }

    fn state_fields(&self) -> Vec<Field> {
        match self.from.slides() {
            Some(_) => Vec::new(),
            None => vec![
                Field::new("sum", DataType::Float64, false),
                Field::new("sum_low", DataType::Float64, false),
                Field::new("count", DataType::UInt64, false),
            ],
        }
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        if self.from.slides().is_some() {
            return Ok(Vec::new());
        }
        let parts = |of: fn(&Doubles) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(slots.iter().map(|slot| of(&self.states[*slot as usize]))))
        };
        let counts = slots.iter().map(|slot| self.states[*slot as usize].count);
        Ok(vec![
            parts(|state| state.sum.parts().0),
            parts(|state| state.sum.parts().1),
            Arc::new(UInt64Array::from_iter_values(counts)),
        ])
    }

    fn restore(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let (high, low) = (state[0].as_primitive::<Float64Type>(), state[1].as_primitive::<Float64Type>());
        let counts = native_values::<u64>(&state[2]);
        for (row, slot) in slots.iter().enumerate() {
            let state = &mut self.states[*slot as usize];
            (state.sum, state.count) = (DoubleDouble::of_parts(high.value(row), low.value(row)), counts[row]);
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.states.capacity() * size_of::<Doubles>() + self.bytes
    }
}

/// The least or the greatest of a primitive type.
pub(in crate::operator::over) struct RunningExtremes<N> {
    from: From,
    field: FieldRef,
    max: bool,
    states: Vec<Extreme<N>>,
}

struct Extreme<N> {
    /// How many rows came, and left.
    came: u64,
    left: u64,
    /// What may still become the best, with the number of its row.
    best: VecDeque<(u64, N)>,
}

impl<N> Default for Extreme<N> {
    fn default() -> Self {
        Self { came: 0, left: 0, best: VecDeque::new() }
    }
}

impl<N: ArrowNativeTypeOp> RunningExtremes<N> {
    pub(in crate::operator::over) fn new(from: From, field: FieldRef, max: bool) -> Self {
        Self { from, field, max, states: Vec::new() }
    }
}

impl<N: ArrowNativeTypeOp + Send> Running for RunningExtremes<N> {
    fn slides(&self) -> Option<Start> {
        self.from.slides()
    }

    fn wants_left(&self) -> bool {
        false
    }

    fn resize(&mut self, count: usize) {
        self.states.resize_with(count.max(self.states.len()), Extreme::default);
    }

    fn advance(
        &mut self,
        args: &[ArrayRef],
        _columns: &[usize],
        filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef> {
        let walk = Walk::new(self.from.by_row(), args, filter, rows);
        let values = native_values::<N>(&args[0]);
        let count = rows.rows.order.len();
        let (mut results, mut full) = (vec![N::ZERO; count], vec![true; count]);
        let (max, slides) = (self.max, self.from.slides().is_some());
        let states = std::cell::RefCell::new(&mut self.states);
        walk.run(
            |slot| std::mem::take(&mut states.borrow_mut()[slot]),
            |state, row, valid| {
                if valid {
                    let value = values[row];
                    let beaten = |old: N| if max { old.is_le(value) } else { old.is_ge(value) };
                    while state.best.back().is_some_and(|(_, old)| beaten(*old)) {
                        state.best.pop_back();
                    }
                    // What never leaves needs no second.
                    if slides || state.best.is_empty() {
                        state.best.push_back((state.came, value));
                    }
                }
                state.came += 1;
            },
            |state, _, _| {
                if state.best.front().is_some_and(|(row, _)| *row == state.left) {
                    state.best.pop_front();
                }
                state.left += 1;
            },
            |state, rows| {
                let best = state.best.front();
                for row in rows {
                    full[*row as usize] = best.is_some();
                    results[*row as usize] = best.map_or(N::ZERO, |(_, value)| *value);
                }
            },
            |slot, state| states.borrow_mut()[slot] = state,
        );
        Ok(native_column(self.field.data_type(), results, nulls(full)))
    }

    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.states[*slot as usize] = Extreme::default());
    }

    fn state_fields(&self) -> Vec<Field> {
        match self.from.slides() {
            Some(_) => Vec::new(),
            None => vec![Field::new("best", self.field.data_type().clone(), true)],
        }
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        if self.from.slides().is_some() {
            return Ok(Vec::new());
        }
        let best = |slot: &u32| self.states[*slot as usize].best.front().map(|(_, value)| *value);
        let values = slots.iter().map(|slot| best(slot).unwrap_or(N::ZERO)).collect();
        let full = slots.iter().map(|slot| best(slot).is_some()).collect();
        Ok(vec![native_column(self.field.data_type(), values, nulls(full))])
    }

    fn restore(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let values = native_values::<N>(&state[0]);
        for (row, slot) in slots.iter().enumerate().filter(|(row, _)| state[0].is_valid(*row)) {
            self.states[*slot as usize].best = VecDeque::from([(0, values[row])]);
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.states.capacity() * size_of::<Extreme<N>>()
    }
}

/// `lag`, and the first value of a sliding frame: values that the tail has.
pub(in crate::operator::over) struct RunningPlaces {
    start: Start,
    /// Only where the frame is as long as it can be: `lag`.
    full_only: bool,
    /// One value of the result's type, where there is no such row.
    default: Option<ArrayRef>,
}

impl RunningPlaces {
    pub(in crate::operator::over) fn first(start: Start) -> Self {
        Self { start, full_only: false, default: None }
    }

    pub(in crate::operator::over) fn lag(offset: u64, default: Option<ArrayRef>) -> Self {
        Self { start: Start::Rows(offset), full_only: true, default }
    }
}

impl Running for RunningPlaces {
    fn slides(&self) -> Option<Start> {
        Some(self.start)
    }

    fn wants_left(&self) -> bool {
        false
    }

    fn resize(&mut self, _count: usize) {}

    fn advance(
        &mut self,
        args: &[ArrayRef],
        columns: &[usize],
        _filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef> {
        let (grouped, Some(slid)) = (rows.rows, rows.slid) else {
            return Err(crate::error::EngineError::bug("a sliding call without its frame"));
        };
        let least = match (self.full_only, self.start) {
            (true, Start::Rows(count)) => u32::try_from(count.saturating_add(1)).unwrap_or(u32::MAX),
            _ => 1,
        };
        let mut ids = vec![NONE; grouped.order.len()];
        for (position, row) in grouped.order.iter().enumerate() {
            if slid.lengths[position] >= least {
                ids[*row as usize] = slid.heads[position];
            }
        }
        if !ids.contains(&NONE) {
            return rows.tail.column(&ids, columns[0]);
        }
        let found: Vec<u32> = ids.iter().copied().filter(|id| *id != NONE).collect();
        let values = rows.tail.column(&found, columns[0])?;
        let default = match &self.default {
            Some(default) => Arc::clone(default),
            None => arrow::array::new_null_array(args[0].data_type(), 1),
        };
        let values = concat(&[values.as_ref(), default.as_ref()])?;
        let mut next = 0;
        let indices = ids.iter().map(|id| match *id {
            NONE => found.len() as u32,
            _ => {
                next += 1;
                next - 1
            }
        });
        Ok(take(&values, &UInt32Array::from_iter_values(indices), None)?)
    }

    fn clear(&mut self, _slots: &[u32]) {}

    fn bytes(&self) -> usize {
        0
    }
}

/// The last value of a frame that ends with the current row: its own, or that of its last peer.
pub(in crate::operator::over) struct RunningLast {
    pub(in crate::operator::over) by_row: bool,
}

impl Running for RunningLast {
    fn resize(&mut self, _count: usize) {}

    fn advance(
        &mut self,
        args: &[ArrayRef],
        _columns: &[usize],
        _filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef> {
        if self.by_row {
            return Ok(Arc::clone(&args[0]));
        }
        let grouped = rows.rows;
        let mut indices = vec![0; grouped.order.len()];
        for (_, run) in grouped.runs {
            each_value(false, rows, run.clone(), |peers| {
                let last = grouped.order[peers.end - 1];
                grouped.order[peers].iter().for_each(|row| indices[*row as usize] = last);
            });
        }
        Ok(take(&args[0], &UInt32Array::from(indices), None)?)
    }

    fn clear(&mut self, _slots: &[u32]) {}

    fn bytes(&self) -> usize {
        0
    }
}

/// The first value of a partition.
pub(in crate::operator::over) struct RunningFirst {
    field: FieldRef,
    values: Rows,
    /// By slot: where its value is.
    ids: Vec<u32>,
}

impl RunningFirst {
    pub(in crate::operator::over) fn new(field: FieldRef) -> Result<Self> {
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![field.as_ref().clone().with_nullable(true)]));
        Ok(Self { field, values: Rows::new(&schema, false)?, ids: Vec::new() })
    }

    fn learn(&mut self, slots: &[u32], values: &ArrayRef) -> Result<()> {
        let batch = crate::delta::batch_of(self.values.schema(), vec![Arc::clone(values)], values.len())?;
        let mut ids = Vec::with_capacity(slots.len());
        self.values.append(&batch, &mut ids)?;
        slots.iter().zip(ids).for_each(|(slot, id)| self.ids[*slot as usize] = id);
        Ok(())
    }
}

impl Running for RunningFirst {
    fn resize(&mut self, count: usize) {
        self.ids.resize(count.max(self.ids.len()), NONE);
    }

    fn advance(
        &mut self,
        args: &[ArrayRef],
        _columns: &[usize],
        _filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef> {
        let grouped = rows.rows;
        let new: Vec<(u32, u32)> = grouped
            .runs
            .iter()
            .filter(|(slot, _)| self.ids[*slot as usize] == NONE)
            .map(|(slot, run)| (*slot, grouped.order[run.start]))
            .collect();
        let (slots, firsts): (Vec<u32>, Vec<u32>) = new.into_iter().unzip();
        if !slots.is_empty() {
            self.learn(&slots, &take(&args[0], &UInt32Array::from(firsts), None)?)?;
        }
        let mut ids = vec![0; grouped.order.len()];
        for (slot, run) in grouped.runs {
            let id = self.ids[*slot as usize];
            grouped.order[run.clone()].iter().for_each(|row| ids[*row as usize] = id);
        }
        Ok(self.values.take(&ids, &[0])?.swap_remove(0))
    }

    fn clear(&mut self, slots: &[u32]) {
        let ids: Vec<u32> = slots
            .iter()
            .map(|slot| std::mem::replace(&mut self.ids[*slot as usize], NONE))
            .filter(|id| *id != NONE)
            .collect();
        // Rows that are in use are removed without an error.
        let _ = self.values.remove(&ids);
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("first", self.field.data_type().clone(), true)]
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let ids: Vec<u32> = slots.iter().map(|slot| self.ids[*slot as usize]).collect();
        self.values.take(&ids, &[0])
    }

    fn restore(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.learn(slots, &state[0])
    }

    fn bytes(&self) -> usize {
        self.values.bytes() + self.ids.capacity() * 4
    }
}

/// Any aggregate over all rows so far. Each row needs a value of its own, so the rows of a batch go to the accumulators in waves: first the first
/// row (or group of peers) of every partition, then the second, and so on.
pub(in crate::operator::over) struct RunningAggregate {
    function: AggregateFunctionRef,
    accumulators: Box<dyn Accumulators>,
    by_row: bool,
}

impl RunningAggregate {
    pub(in crate::operator::over) fn new(function: AggregateFunctionRef, by_row: bool) -> Result<Self> {
        Ok(Self { accumulators: function.create()?, function, by_row })
    }
}

impl Running for RunningAggregate {
    fn resize(&mut self, count: usize) {
        self.accumulators.resize(count);
    }

    fn advance(
        &mut self,
        args: &[ArrayRef],
        _columns: &[usize],
        filter: Option<&BooleanArray>,
        rows: &Arrived<'_>,
    ) -> Result<ArrayRef> {
        let grouped = rows.rows;
        // By wave: the values' partitions, and their positions.
        let mut waves: Vec<(Vec<u32>, Vec<std::ops::Range<usize>>)> = Vec::new();
        for (slot, run) in grouped.runs {
            let mut wave = 0;
            each_value(self.by_row, rows, run.clone(), |positions| {
                if waves.len() == wave {
                    waves.push((Vec::new(), Vec::new()));
                }
                waves[wave].0.push(*slot);
                waves[wave].1.push(positions);
                wave += 1;
            });
        }
        let mut places = vec![0; grouped.order.len()];
        let (mut results, mut count) = (Vec::with_capacity(waves.len()), 0_u32);
        for (slots, values) in &waves {
            let taken: Vec<u32> =
                values.iter().flat_map(|positions| grouped.order[positions.clone()].iter().copied()).collect();
            let of_rows: Vec<u32> =
                slots.iter().zip(values).flat_map(|(slot, positions)| positions.clone().map(|_| *slot)).collect();
            let indices = UInt32Array::from(taken);
            let args = args.iter().map(|arg| take(arg, &indices, None)).collect::<Result<Vec<_>, _>>()?;
            let filter = match filter {
                Some(filter) => Some(take(filter, &indices, None)?.as_boolean().clone()),
                None => None,
            };
            let info = RowInfo { filter: filter.as_ref(), weights: None, ordinals: None };
            self.accumulators.update(&of_rows, &args, info)?;
            results.push(self.accumulators.evaluate(Slots::Some(slots))?);
            for positions in values {
                grouped.order[positions.clone()].iter().for_each(|row| places[*row as usize] = count);
                count += 1;
            }
        }
        let results: Vec<&dyn Array> = results.iter().map(|result| result.as_ref()).collect();
        Ok(take(&concat(&results)?, &UInt32Array::from(places), None)?)
    }

    fn clear(&mut self, slots: &[u32]) {
        self.accumulators.clear(Slots::Some(slots));
    }

    fn state_fields(&self) -> Vec<Field> {
        self.function.state_fields()
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.accumulators.state(Slots::Some(slots))
    }

    fn restore(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.accumulators.merge(slots, state)
    }

    fn bytes(&self) -> usize {
        self.accumulators.state_bytes()
    }
}
