//! The net changes of a step: a row that comes and goes within it leaves no trace.
//!
//! Most operators say of each row once a step what became of it. A changelog from outside does not, and neither does a join, which takes back
//! the pair of a row that came with one that goes. To whom the order of changes means nothing this is no matter; an operator that takes
//! what goes before what comes ([`super::ttl`]) has to know what was there before the step.
//!
//! Most rows of a step are said once all the same. Only rows whose hash another row of the step has are looked up by their columns; the
//! others are passed on as they are, and where that is all of them, so are their deltas.

use arrow::array::{ArrayRef, Int64Array, UInt64Array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;

use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::hash_columns;
use crate::rows::Rows;

/// Makes [`Consolidate`]s.
pub struct ConsolidateFactory {
    schema: SchemaRef,
    is_final: bool,
}

impl ConsolidateFactory {
    /// Over rows of `schema`, equal ones of which an exchange brings to one shard.
    ///
    /// # Errors
    /// A column whose values cannot be compared.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        Rows::new(&schema, true)?;
        Ok(Self { schema, is_final: false })
    }

    /// What is left of a step are rows that come, each for the first time, and stay: rows that are taken back come again in the same step, as
    /// they were. Those leave as rows that are only inserted.
    pub fn into_final(self) -> Self {
        Self { is_final: true, ..self }
    }
}

impl OperatorFactory for ConsolidateFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Consolidate {
            is_final: self.is_final,
            rows: Rows::new(&self.schema, true)?,
            touched: Vec::new(),
            touched_of: Vec::new(),
            hashes: Vec::new(),
            of_delta: Vec::new(),
            seen: Vec::new(),
            meets: Vec::new(),
        }))
    }
}

const NAME: &str = "Consolidate";
/// No touched row.
const NONE: u32 = u32::MAX;

/// Says of each row of a step once what became of it.
struct Consolidate {
    /// No row is taken back for good.
    is_final: bool,
    /// The rows of the step that may be said more than once, none between two steps.
    rows: Rows,
    touched: Vec<Touched>,
    /// By row id: its place in `touched`.
    touched_of: Vec<u32>,
    /// Of all rows of the step, delta by delta.
    hashes: Vec<u64>,
    of_delta: Vec<u64>,
    /// A table from hashes to rows: the high half of a hash and the row's number, or [`NONE`].
    seen: Vec<(u32, u32)>,
    /// Whether another row of the step has a row's hash.
    meets: Vec<bool>,
}

/// A row of the step that may be said more than once.
struct Touched {
    id: u32,
    /// The number of the first change of it in the step.
    first: usize,
    /// Delta and row of the first change that puts it in, and of the first one that takes it back.
    came: Option<(usize, usize)>,
    went: Option<(usize, usize)>,
}

/// What became of a row.
struct Net {
    /// In order of this number, those that go before those that come.
    first: usize,
    place: (usize, usize),
    weight: i64,
}

impl Consolidate {
    /// Finds the rows whose hash others have too. Returns whether there are any.
    fn find_meetings(&mut self, deltas: &[Delta]) -> Result<bool> {
        self.hashes.clear();
        for delta in deltas {
            hash_columns(delta.batch.columns(), delta.rows(), &mut self.of_delta)?;
            self.hashes.extend_from_slice(&self.of_delta);
        }
        let rows = self.hashes.len();
        let size = (rows * 2).next_power_of_two();
        self.seen.clear();
        self.seen.resize(size, (0, NONE));
        self.meets.clear();
        self.meets.resize(rows, false);
        let mut any = false;
        for (row, hash) in self.hashes.iter().enumerate() {
            let mut position = *hash as usize & (size - 1);
            loop {
                let (tag, other) = self.seen[position];
                if other == NONE {
                    self.seen[position] = ((hash >> 32) as u32, row as u32);
                    break;
                }
                if tag == (hash >> 32) as u32 && self.hashes[other as usize] == *hash {
                    (self.meets[row], self.meets[other as usize], any) = (true, true, true);
                    break;
                }
                position = (position + 1) & (size - 1);
            }
        }
        Ok(any)
    }

    /// Takes in the rows of a delta that others of the step may be equal to; `first` is the number of its first row.
    fn take_in(&mut self, number: usize, delta: &Delta, first: usize) -> Result<()> {
        let meets = &self.meets[first..first + delta.rows()];
        let places: Vec<u32> = (0..delta.rows() as u32).filter(|row| meets[*row as usize]).collect();
        let mut changes = Vec::with_capacity(places.len());
        match places.len() {
            0 => return Ok(()),
            all if all == delta.rows() => {
                self.rows.apply_hashed(delta, Some(&self.hashes[first..first + all]), &mut changes)?;
            }
            _ => {
                let hashes: Vec<u64> = places.iter().map(|row| self.hashes[first + *row as usize]).collect();
                self.rows.apply_hashed(&delta.take(&places.clone().into())?, Some(&hashes), &mut changes)?;
            }
        }
        self.touched_of.resize(self.rows.id_bound().max(self.touched_of.len()), NONE);
        for (row, change) in places.into_iter().zip(&changes) {
            let row = row as usize;
            let place = &mut self.touched_of[change.id as usize];
            if *place == NONE {
                *place = self.touched.len() as u32;
                self.touched.push(Touched { id: change.id, first: first + row, came: None, went: None });
            }
            let touched = &mut self.touched[*place as usize];
            let of = if change.after > change.before { &mut touched.came } else { &mut touched.went };
            of.get_or_insert((number, row));
        }
        Ok(())
    }

    /// What became of the rows, in no order; the rows that were looked up are forgotten.
    fn net(&mut self, deltas: &[Delta]) -> Result<Vec<Net>> {
        let mut net = Vec::with_capacity(self.hashes.len());
        let mut first = 0;
        for (number, delta) in deltas.iter().enumerate() {
            let once = (0..delta.rows()).filter(|row| !self.meets[first + row]);
            net.extend(once.map(|row| Net { first: first + row, place: (number, row), weight: delta.weight(row) }));
            self.take_in(number, delta, first)?;
            first += delta.rows();
        }
        let mut ids = Vec::with_capacity(self.touched.len());
        for touched in self.touched.drain(..) {
            self.touched_of[touched.id as usize] = NONE;
            ids.push(touched.id);
            let weight = self.rows.weight(touched.id);
            let place = if weight > 0 { touched.came } else { touched.went };
            net.extend(place.filter(|_| weight != 0).map(|place| Net { first: touched.first, place, weight }));
        }
        self.rows.remove(&ids)?;
        Ok(net)
    }

    /// The weights with which rows leave.
    fn weights_of(&self, weights: Option<Int64Array>) -> Result<Option<Int64Array>> {
        if !self.is_final {
            return Ok(weights);
        }
        match weights.iter().flat_map(|weights| weights.values()).find(|weight| **weight != 1) {
            Some(weight) => Err(EngineError::bug(format!("a row that stays once it has come changed by {weight}"))),
            None => Ok(None),
        }
    }

    /// Lets deltas leave as they came.
    fn pass(&self, deltas: Vec<Delta>, out: &mut Output) -> Result<Progress> {
        for mut delta in deltas {
            delta.weights = self.weights_of(delta.weights)?;
            out.emit(delta);
        }
        Ok(Progress::Done)
    }

    /// Emits what became of the rows, those that go before those that come.
    fn emit(&self, deltas: &[Delta], mut net: Vec<Net>, out: &mut Output) -> Result<()> {
        net.sort_unstable_by_key(|net| (net.weight > 0, net.first));
        let Some(first) = deltas.first().filter(|_| !net.is_empty()) else { return Ok(()) };
        let places: Vec<(usize, usize)> = net.iter().map(|net| net.place).collect();
        let columns = (0..first.batch.num_columns()).map(|column| -> Result<ArrayRef> {
            let arrays: Vec<_> = deltas.iter().map(|delta| delta.batch.column(column).as_ref()).collect();
            Ok(interleave(&arrays, &places)?)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut delta = Delta::insert(batch_of(self.rows.schema(), columns, net.len())?);
        delta.weights = self.weights_of(Some(net.iter().map(|net| net.weight).collect()))?;
        if deltas.iter().all(|delta| delta.ordinals.is_some()) {
            let ordinals = places.iter().map(|(number, row)| deltas[*number].ordinal(*row));
            delta.ordinals = Some(UInt64Array::from_iter_values(ordinals));
        }
        out.emit(delta);
        Ok(())
    }
}

/// Whether what goes comes before what comes, over all deltas.
fn goes_first(deltas: &[Delta]) -> bool {
    let mut comes = false;
    deltas.iter().all(|delta| match &delta.weights {
        None => {
            comes = true;
            true
        }
        Some(weights) => {
            let ordered = weights.values().is_sorted_by_key(|weight| *weight > 0);
            let ordered = ordered && !(comes && weights.value(0) < 0);
            comes |= weights.values().last().is_some_and(|weight| *weight > 0);
            ordered
        }
    })
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
            return self.pass(deltas, out);
        }
        if !self.find_meetings(&deltas)? && goes_first(&deltas) {
            return self.pass(deltas, out);
        }
        let net = self.net(&deltas)?;
        self.emit(&deltas, net, out)?;
        Ok(Progress::Done)
    }

    fn save(&mut self, _kind: SaveKind, _state: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _state: &StateReader<'_>) -> Result<()> {
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let hashes = self.hashes.capacity() + self.of_delta.capacity() + self.seen.capacity();
        self.rows.bytes() + self.touched_of.capacity() * 4 + hashes * 8 + self.meets.capacity()
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

    /// Of rows that stay those are news that come for the first time; one that goes for good is a fault of who said that it stays.
    #[test]
    fn rows_that_stay_come_once() {
        let step = |rows: &[(i64, i64)]| {
            let mut operator =
                ConsolidateFactory::new(input_schema()).expect("plans").into_final().create().expect("creates");
            let row = |(value, weight): &(i64, i64)| Row {
                ts: 0,
                key: Some(1),
                value: Some(*value),
                weight: *weight,
                ordinal: 7,
            };
            let deltas = vec![delta_of(&rows.iter().map(row).collect::<Vec<_>>(), true)];
            let (mut out, context) = (Output::default(), StepContext { step: 1, clock_ms: 0, seed: 0 });
            operator
                .step(Input { ports: vec![deltas], context: &context, watermarks: Watermarks::NONE }, &mut out)
                .map(|_| (out.deltas.iter().all(|delta| delta.weights.is_none()), show(&out.deltas).len()))
        };
        assert_eq!(step(&[(1, 1), (2, 1)]).expect("inserts"), (true, 2));
        assert_eq!(step(&[(1, -1), (3, 1), (1, 1)]).expect("one is new"), (true, 1));
        let error = step(&[(1, -1), (3, 1)]).expect_err("one goes").to_string();
        assert!(error.contains("a row that stays once it has come changed by -1"), "{error}");
    }

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
