//! `min` and `max` as they go on, over sliding frames too.

use std::collections::VecDeque;

use arrow::array::{ArrayRef, ArrowNativeTypeOp, BooleanArray};
use arrow::datatypes::{Field, FieldRef};

use super::{From, Walk, nulls};
use crate::error::Result;
use crate::hash::{native_column, native_values};
use crate::operator::over::running::tail::Start;
use crate::operator::over::running::{Arrived, Running};

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
