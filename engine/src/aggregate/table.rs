//! A grouped table: keys in slots, and the accumulators of every call beside them. The building block of all aggregating operators.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};

use super::{Accumulators, AggregateCall, RowInfo, Slots};
use crate::delta::Delta;
use crate::error::Result;
use crate::keys::GroupKeys;

/// Groups with their accumulators.
pub(crate) struct GroupTable {
    pub(crate) keys: GroupKeys,
    pub(crate) accumulators: Vec<Box<dyn Accumulators>>,
    /// The slots of the batch at hand.
    pub(crate) slots: Vec<u32>,
}

impl GroupTable {
    /// An empty table.
    pub(crate) fn new(key_types: &[DataType], calls: &[AggregateCall]) -> Result<Self> {
        Ok(Self {
            keys: GroupKeys::new(key_types.to_vec())?,
            accumulators: calls.iter().map(|call| call.function.create()).collect::<Result<_>>()?,
            slots: Vec::new(),
        })
    }

    /// Finds or makes the slots of rows and makes room for them.
    pub(crate) fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        self.keys.intern(keys, rows, &mut self.slots)?;
        if !self.keys.fresh().is_empty() {
            let count = self.keys.slot_count();
            self.accumulators.iter_mut().for_each(|accumulators| accumulators.resize(count));
        }
        Ok(())
    }

    /// Takes in rows.
    pub(crate) fn update(&mut self, delta: &Delta, keys: &[usize], calls: &[AggregateCall]) -> Result<()> {
        let columns = delta.batch.columns();
        let keys: Vec<ArrayRef> = keys.iter().map(|index| Arc::clone(&columns[*index])).collect();
        self.intern(&keys, delta.rows())?;
        for (call, accumulators) in calls.iter().zip(&mut self.accumulators) {
            let args: Vec<ArrayRef> = call.args.iter().map(|index| Arc::clone(&columns[*index])).collect();
            let rows = RowInfo {
                filter: call.filter.map(|index| columns[index].as_boolean()),
                weights: delta.weights.as_ref(),
                ordinals: delta.ordinals.as_ref(),
            };
            accumulators.update(&self.slots, &args, rows)?;
        }
        Ok(())
    }

    /// Takes in states, a row each of the slots that [`intern`](Self::intern) found last. `layout` says how many columns each call has.
    pub(crate) fn merge_states(&mut self, states: &[ArrayRef], layout: &StateLayout) -> Result<()> {
        for (index, accumulators) in self.accumulators.iter_mut().enumerate() {
            accumulators.merge(&self.slots, &states[layout.range(index)])?;
        }
        Ok(())
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
        let mut states = Vec::new();
        for accumulators in &mut self.accumulators {
            states.extend(accumulators.state(slots)?);
        }
        Ok(states)
    }

    /// The results of `slots`, one column a call.
    pub(crate) fn results(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        self.accumulators.iter_mut().map(|accumulators| accumulators.evaluate(slots)).collect()
    }

    /// Empties the table, keeping its capacity.
    pub(crate) fn clear(&mut self) {
        let count = self.keys.slot_count();
        self.accumulators.iter_mut().for_each(|accumulators| accumulators.clear(Slots::First(count)));
        self.keys.clear();
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|accumulators| accumulators.state_bytes()).sum();
        self.keys.bytes() + accumulators + self.slots.capacity() * 4
    }
}

/// Where the state columns of each call lie.
#[derive(Clone, Debug)]
pub(crate) struct StateLayout {
    /// The first column of each call, and one past the last.
    bounds: Arc<[usize]>,
}

impl StateLayout {
    pub(crate) fn new(calls: &[AggregateCall]) -> Self {
        let mut bounds = vec![0];
        for call in calls {
            bounds.push(bounds[bounds.len() - 1] + call.function.state_fields().len());
        }
        Self { bounds: bounds.into() }
    }

    /// How many state columns there are.
    pub(crate) fn columns(&self) -> usize {
        self.bounds[self.bounds.len() - 1]
    }

    /// The state columns of a call.
    pub(crate) fn range(&self, call: usize) -> std::ops::Range<usize> {
        self.bounds[call]..self.bounds[call + 1]
    }
}

/// The state columns of `calls`, named by function and position.
pub(crate) fn state_fields(calls: &[AggregateCall]) -> Vec<Field> {
    let mut fields = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        for field in call.function.state_fields() {
            let name = format!("{}_{index}.{}", call.function.name(), field.name());
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
