//! `count(*)` and `count(x, ..)`: rows where no argument is null, weights added up.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};

use super::select::{Selection, as_counts, counts};
use super::{Accumulators, RowInfo, Slots};
use crate::error::Result;

/// One count a slot.
#[derive(Default)]
pub(crate) struct Count {
    counts: Vec<i64>,
}

impl Accumulators for Count {
    fn resize(&mut self, count: usize) {
        if count > self.counts.len() {
            self.counts.resize(count, 0);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let selection = Selection::of(args, rows);
        if selection.is_all() {
            slots.iter().for_each(|slot| self.counts[*slot as usize] += 1);
        } else {
            selection.each(slots.len(), |row, weight| self.counts[slots[row] as usize] += weight);
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        slots.iter().zip(as_counts(&state[0])).for_each(|(slot, count)| self.counts[*slot as usize] += count);
        Ok(())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        Ok(vec![counts(slots.gather(&self.counts, |count| count))])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(slots.gather(&self.counts, |count| count))))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.counts, 0);
    }

    fn state_bytes(&self) -> usize {
        self.counts.capacity() * 8
    }
}
