//! The net changes of a step: a row that comes and goes within it leaves no trace.
//!
//! Most operators say of each row once a step what became of it. A changelog from outside does not, and neither does a join, which takes back
//! the pair of a row that came with one that goes. To whom the order of changes means nothing this is no matter; an operator that takes
//! what goes before what comes ([`super::ttl`]) has to know what was there before the step.

use arrow::array::{ArrayRef, Int64Array, UInt64Array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;

use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::rows::Rows;

/// Makes [`Consolidate`]s.
pub struct ConsolidateFactory {
    schema: SchemaRef,
}

impl ConsolidateFactory {
    /// Over rows of `schema`, equal ones of which an exchange brings to one shard.
    ///
    /// # Errors
    /// A column whose values cannot be compared.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        Rows::new(&schema, true)?;
        Ok(Self { schema })
    }
}

impl OperatorFactory for ConsolidateFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Consolidate { rows: Rows::new(&self.schema, true)?, touched: Vec::new(), touched_of: Vec::new() }))
    }
}

const NAME: &str = "Consolidate";
/// No touched row.
const NONE: u32 = u32::MAX;

/// Says of each row of a step once what became of it.
struct Consolidate {
    /// The rows of the step, none between two steps.
    rows: Rows,
    touched: Vec<Touched>,
    /// By row id: its place in `touched`.
    touched_of: Vec<u32>,
}

/// A row of the step.
struct Touched {
    id: u32,
    /// Delta and row of the first change that puts it in, and of the first one that takes it back.
    came: Option<(usize, usize)>,
    went: Option<(usize, usize)>,
}

impl Consolidate {
    fn take_in(&mut self, number: usize, delta: &Delta) -> Result<()> {
        let mut changes = Vec::with_capacity(delta.rows());
        self.rows.apply(delta, &mut changes)?;
        self.touched_of.resize(self.rows.id_bound().max(self.touched_of.len()), NONE);
        for (row, change) in changes.iter().enumerate() {
            let place = &mut self.touched_of[change.id as usize];
            if *place == NONE {
                *place = self.touched.len() as u32;
                self.touched.push(Touched { id: change.id, came: None, went: None });
            }
            let touched = &mut self.touched[*place as usize];
            let first = if change.after > change.before { &mut touched.came } else { &mut touched.went };
            first.get_or_insert((number, row));
        }
        Ok(())
    }

    /// What became of the rows, those that go before those that come.
    fn emit(&self, deltas: &[Delta], out: &mut Output) -> Result<()> {
        let mut net: Vec<((usize, usize), i64)> = Vec::with_capacity(self.touched.len());
        for touched in &self.touched {
            let weight = self.rows.weight(touched.id);
            let of = if weight > 0 { touched.came } else { touched.went };
            net.extend(of.filter(|_| weight != 0).map(|of| (of, weight)));
        }
        net.sort_by_key(|(_, weight)| *weight > 0);
        let Some(first) = deltas.first().filter(|_| !net.is_empty()) else { return Ok(()) };
        let places: Vec<(usize, usize)> = net.iter().map(|(place, _)| *place).collect();
        let columns = (0..first.batch.num_columns()).map(|column| -> Result<ArrayRef> {
            let arrays: Vec<_> = deltas.iter().map(|delta| delta.batch.column(column).as_ref()).collect();
            Ok(interleave(&arrays, &places)?)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut delta = Delta::weighted(
            batch_of(self.rows.schema(), columns, net.len())?,
            Int64Array::from_iter_values(net.iter().map(|(_, weight)| *weight)),
        );
        if deltas.iter().all(|delta| delta.ordinals.is_some()) {
            let ordinals = places.iter().map(|(number, row)| deltas[*number].ordinal(*row));
            delta.ordinals = Some(UInt64Array::from_iter_values(ordinals));
        }
        out.emit(delta);
        Ok(())
    }
}

impl Operator for Consolidate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let mut deltas = input.single();
        deltas.retain(|delta| !delta.is_empty());
        let takes_back =
            |delta: &Delta| delta.weights.as_ref().is_some_and(|weights| weights.values().iter().any(|w| *w < 0));
        if !deltas.iter().any(takes_back) {
            deltas.into_iter().for_each(|delta| out.emit(delta));
            return Ok(Progress::Done);
        }
        for (number, delta) in deltas.iter().enumerate() {
            self.take_in(number, delta)?;
        }
        self.emit(&deltas, out)?;
        let ids: Vec<u32> = self.touched.drain(..).map(|touched| touched.id).collect();
        ids.iter().for_each(|id| self.touched_of[*id as usize] = NONE);
        self.rows.remove(&ids)?;
        Ok(Progress::Done)
    }

    fn save(&mut self, _kind: SaveKind, _state: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _state: &StateReader<'_>) -> Result<()> {
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes() + self.touched_of.capacity() * 4
    }

    fn state_rows(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::aggregate::testing::{Row, delta_of, input_schema, show};
    use crate::expr::StepContext;
    use crate::time::Watermarks;

    proptest! {
        /// Each row once, with the sum of what was said of it, and nothing where that is nothing; step after step.
        #[test]
        fn says_each_row_once(steps in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec((0_i64..4, prop_oneof![-2_i64..0, 1_i64..3]), 0..6), 0..4), 1..5)
        ) {
            let mut operator = ConsolidateFactory::new(input_schema()).expect("plans").create().expect("creates");
            for deltas in steps {
                let row = |(value, weight): &(i64, i64)| Row { ts: 0, key: Some(1), value: Some(*value), weight: *weight, ordinal: 7 };
                let rows = |delta: &Vec<(i64, i64)>| delta.iter().map(row).collect::<Vec<_>>();
                let deltas: Vec<Delta> = deltas.iter().map(|delta| delta_of(&rows(delta), true)).collect();
                let mut expected = BTreeMap::<String, i64>::new();
                show(&deltas).into_iter().for_each(|(row, weight)| *expected.entry(row).or_default() += weight);
                expected.retain(|_, weight| *weight != 0);
                let takes_back = show(&deltas).iter().any(|(_, weight)| *weight < 0);
                let mut out = Output::default();
                let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
                let input = Input { ports: vec![deltas], context: &context, watermarks: Watermarks::NONE };
                operator.step(input, &mut out).expect("steps");
                let shown = show(&out.deltas);
                let mut sums = BTreeMap::<String, i64>::new();
                shown.iter().for_each(|(row, weight)| *sums.entry(row.clone()).or_default() += weight);
                prop_assert!(!takes_back || sums.len() == shown.len(), "a row is said twice: {:?}", shown);
                prop_assert_eq!(sums, expected);
                prop_assert!(out.deltas.iter().all(|delta| delta.ordinals.is_some()));
            }
        }
    }
}
