//! Any other aggregate over all rows so far.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::Field;

use super::each_value;
use crate::aggregate::{Accumulators, AggregateFunctionRef, RowInfo, Slots};
use crate::error::Result;
use crate::operator::over::running::{Arrived, Running};

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
