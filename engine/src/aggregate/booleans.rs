//! `bool_and` and `bool_or`: how many rows were false and how many true, which takes rows back exactly and needs no multiset.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};

use super::select::{Selection, as_counts, counts, nulls};
use super::{Accumulators, RowInfo, Slots};
use crate::error::Result;

/// Two counts a slot.
pub(crate) struct Booleans {
    /// `[false, true]`.
    entries: Vec<[i64; 2]>,
    and: bool,
}

impl Booleans {
    /// `bool_and`, or `bool_or`.
    pub(crate) fn new(and: bool) -> Self {
        Self { entries: Vec::new(), and }
    }
}

impl Accumulators for Booleans {
    fn resize(&mut self, count: usize) {
        if count > self.entries.len() {
            self.entries.resize(count, [0; 2]);
        }
    }

    fn update(&mut self, slots: &[u32], args: &[ArrayRef], rows: RowInfo<'_>) -> Result<()> {
        let values = args[0].as_boolean().values();
        Selection::of(args, rows).each(slots.len(), |row, weight| {
            self.entries[slots[row] as usize][usize::from(values.value(row))] += weight;
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        for ((slot, no), yes) in slots.iter().zip(as_counts(&state[0])).zip(as_counts(&state[1])) {
            let entry = &mut self.entries[*slot as usize];
            entry[0] += no;
            entry[1] += yes;
        }
        Ok(())
    }

    fn state(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        Ok(vec![
            counts(slots.gather(&self.entries, |entry| entry[0])),
            counts(slots.gather(&self.entries, |entry| entry[1])),
        ])
    }

    fn evaluate(&mut self, slots: Slots<'_>) -> Result<ArrayRef> {
        let valid = nulls(slots.gather(&self.entries, |entry| entry != [0; 2]));
        let and = self.and;
        let results = slots.gather(&self.entries, |[no, yes]| if and { no == 0 } else { yes != 0 });
        Ok(Arc::new(BooleanArray::new(results.into(), valid)))
    }

    fn clear(&mut self, slots: Slots<'_>) {
        slots.fill(&mut self.entries, [0; 2]);
    }

    fn state_bytes(&self) -> usize {
        self.entries.capacity() * 16
    }
}
