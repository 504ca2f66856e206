//! `count`, `sum` and `avg` as they go on, over sliding frames too.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};

use super::{From, Walk, nulls};
use crate::aggregate::{DoubleDouble, Total, Weighted, sum_column};
use crate::error::Result;
use crate::hash::{native_column, native_values};
use crate::operator::over::running::tail::Start;
use crate::operator::over::running::{Arrived, Running};

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
