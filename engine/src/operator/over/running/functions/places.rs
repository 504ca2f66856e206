//! Values of rows at known places: `lag`, `first_value`, `last_value`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{Field, FieldRef};

use super::each_value;
use crate::error::Result;
use crate::operator::over::running::tail::{NONE, Start};
use crate::operator::over::running::{Arrived, Running};
use crate::rows::Rows;

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
