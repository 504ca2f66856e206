//! A grouped table: keys in slots, and the accumulators of every call beside them. The building block of all aggregating operators.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};

use super::calls::{CallAccumulators, Unit};
use super::distinct::Distinct;
use super::{AggregateCall, Slots};
use crate::delta::Delta;
use crate::error::Result;
use crate::keys::GroupKeys;

/// Groups with their accumulators.
pub(crate) struct GroupTable {
    pub(crate) keys: GroupKeys,
    pub(crate) accumulators: CallAccumulators,
    /// The slots of the batch at hand.
    pub(crate) slots: Vec<u32>,
}

impl GroupTable {
    /// An empty table.
    pub(crate) fn new(key_types: &[DataType], calls: &[AggregateCall]) -> Result<Self> {
        Ok(Self {
            keys: GroupKeys::new(key_types.to_vec())?,
            accumulators: CallAccumulators::new(calls)?,
            slots: Vec::new(),
        })
    }

    /// Finds or makes the slots of rows and makes room for them.
    pub(crate) fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        self.keys.intern(keys, rows, &mut self.slots)?;
        if !self.keys.fresh().is_empty() {
            self.accumulators.resize(self.keys.slot_count());
        }
        Ok(())
    }

    /// Takes in rows.
    pub(crate) fn update(&mut self, delta: &Delta, keys: &[usize], calls: &[AggregateCall]) -> Result<()> {
        let columns = delta.batch.columns();
        let keys: Vec<ArrayRef> = keys.iter().map(|index| Arc::clone(&columns[*index])).collect();
        self.intern(&keys, delta.rows())?;
        self.accumulators.update(&self.slots, delta, calls)
    }

    /// Takes in states, a row each of the slots that [`intern`](Self::intern) found last. `layout` says how many columns each call has.
    pub(crate) fn merge_states(&mut self, states: &[ArrayRef], layout: &StateLayout) -> Result<()> {
        self.accumulators.merge(&self.slots, states, layout)
    }

    /// Takes in partial rows: keys from column `first` on, then states.
    pub(crate) fn merge(
        &mut self,
        batch: &RecordBatch,
        first: usize,
        key_count: usize,
        layout: &StateLayout,
    ) -> Result<()> {
        let columns = &batch.columns()[first..];
        self.intern(&columns[..key_count], batch.num_rows())?;
        self.merge_states(&columns[key_count..], layout)
    }

    /// The states of `slots`, all calls in order.
    pub(crate) fn states(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        self.accumulators.states(slots)
    }

    /// The results of `slots`, one column a call.
    pub(crate) fn results(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        self.accumulators.results(slots)
    }

    /// Empties the table, keeping its capacity.
    pub(crate) fn clear(&mut self) {
        let count = self.keys.slot_count();
        self.accumulators.clear(Slots::First(count));
        self.keys.clear();
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.bytes() + self.accumulators.state_bytes() + self.slots.capacity() * 4
    }
}

/// Where the state columns lie of each [unit](Unit) of some calls.
#[derive(Clone, Debug)]
pub(crate) struct StateLayout {
    /// The first column of each unit, and one past the last.
    bounds: Arc<[usize]>,
    /// The units of distinct values.
    distinct: Arc<[usize]>,
}

impl StateLayout {
    pub(crate) fn new(calls: &[AggregateCall]) -> Self {
        let (mut bounds, mut distinct) = (vec![0], Vec::new());
        for (index, unit) in Unit::of(calls).iter().enumerate() {
            if unit.is_distinct(calls) {
                distinct.push(index);
            }
            // The state of distinct values is one column, for however many calls.
            bounds.push(bounds[index] + calls[unit.calls[0]].function.state_fields().len());
        }
        Self { bounds: bounds.into(), distinct: distinct.into() }
    }

    /// How many state columns there are.
    pub(crate) fn columns(&self) -> usize {
        self.bounds[self.bounds.len() - 1]
    }

    /// How many distinct values lie in the lists of state columns.
    pub(crate) fn list_entries(&self, states: &[ArrayRef]) -> u64 {
        let entries = |unit: &usize| {
            let offsets = states[self.bounds[*unit]].as_list::<i32>().value_offsets();
            (offsets[offsets.len() - 1] - offsets[0]) as u64
        };
        self.distinct.iter().map(entries).sum()
    }

    /// The state columns of a unit.
    pub(crate) fn range(&self, unit: usize) -> std::ops::Range<usize> {
        self.bounds[unit]..self.bounds[unit + 1]
    }
}

/// The state columns of `calls`, named by function and position.
pub(crate) fn state_fields(calls: &[AggregateCall]) -> Vec<Field> {
    let mut fields = Vec::new();
    for unit in Unit::of(calls) {
        let index = unit.calls[0];
        let function = &calls[index].function;
        let of_unit = match function.distinct() {
            Some(call) => vec![Field::new(
                "values",
                Distinct::state_type(&call.data_type, call.retracting, unit.calls.len()),
                false,
            )],
            None => function.state_fields(),
        };
        for field in of_unit {
            let name = format!("{}_{index}.{}", function.name(), field.name());
            fields.push(field.with_name(name));
        }
    }
    fields
}

/// The result columns of `calls`, named by function and position.
pub(crate) fn result_fields(calls: &[AggregateCall]) -> Vec<Field> {
    let named = |(index, call): (usize, &AggregateCall)| {
        call.function.return_field().as_ref().clone().with_name(format!("{}_{index}", call.function.name()))
    };
    calls.iter().enumerate().map(named).collect()
}

/// The types of the first `count` columns from `first` on.
pub(crate) fn types_of(schema: &SchemaRef, first: usize, count: usize) -> Vec<DataType> {
    schema.fields()[first..first + count].iter().map(|field| field.data_type().clone()).collect()
}
