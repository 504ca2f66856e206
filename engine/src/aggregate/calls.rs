//! The accumulators of all calls of an operator. Those that count the values of one column with `DISTINCT` share them ([`Distinct`]).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};

use super::distinct::{CALLS_MAX, Distinct, DistinctCall};
use super::table::StateLayout;
use super::{Accumulators, AggregateCall, RowInfo, Slots};
use crate::delta::Delta;
use crate::error::Result;

/// The calls that have one set of accumulators, and one part of the state: one call, or several over the same distinct values.
#[derive(Debug)]
pub(crate) struct Unit {
    /// Their places among all calls, ascending.
    pub(crate) calls: Vec<usize>,
}

impl Unit {
    /// The units of some calls, in the order of their first calls. The same calls always have the same.
    pub(crate) fn of(calls: &[AggregateCall]) -> Vec<Unit> {
        let mut units: Vec<Unit> = Vec::new();
        for (place, call) in calls.iter().enumerate() {
            let shares = |unit: &&mut Unit| {
                let other = &calls[unit.calls[0]];
                let both = call.function.distinct().zip(other.function.distinct());
                unit.calls.len() < CALLS_MAX && call.args == other.args && both.is_some_and(|(a, b)| a.shares_with(b))
            };
            match units.iter_mut().find(shares) {
                Some(unit) => unit.calls.push(place),
                None => units.push(Unit { calls: vec![place] }),
            }
        }
        units
    }

    /// Whether it keeps distinct values.
    pub(crate) fn is_distinct(&self, calls: &[AggregateCall]) -> bool {
        calls[self.calls[0]].function.distinct().is_some()
    }
}

/// What a unit keeps.
enum Kept {
    One(Box<dyn Accumulators>),
    Values(Box<Distinct>),
}

impl Kept {
    fn get(&self) -> &dyn Accumulators {
        match self {
            Self::One(accumulators) => accumulators.as_ref(),
            Self::Values(values) => values.as_ref(),
        }
    }

    fn get_mut(&mut self) -> &mut dyn Accumulators {
        match self {
            Self::One(accumulators) => accumulators.as_mut(),
            Self::Values(values) => values.as_mut(),
        }
    }
}

/// The accumulators of some calls, by slot.
pub(crate) struct CallAccumulators {
    units: Vec<(Unit, Kept)>,
    /// The unit of each call, and its place there.
    places: Vec<(usize, usize)>,
}

impl CallAccumulators {
    pub(crate) fn new(calls: &[AggregateCall]) -> Result<Self> {
        let mut units = Vec::new();
        let mut places = vec![(0, 0); calls.len()];
        for (index, unit) in Unit::of(calls).into_iter().enumerate() {
            unit.calls.iter().enumerate().for_each(|(place, call)| places[*call] = (index, place));
            let functions = unit.calls.iter().map(|call| &calls[*call].function);
            let distinct: Vec<DistinctCall> = functions.filter_map(|function| function.distinct().cloned()).collect();
            let kept = match distinct.is_empty() {
                true => Kept::One(calls[unit.calls[0]].function.create()?),
                false => Kept::Values(Box::new(Distinct::new(&distinct)?)),
            };
            units.push((unit, kept));
        }
        Ok(Self { units, places })
    }

    /// As [`Accumulators::resize`].
    pub(crate) fn resize(&mut self, count: usize) {
        self.units.iter_mut().for_each(|(_, kept)| kept.get_mut().resize(count));
    }

    /// Takes in the rows of a delta, whose slots are given.
    pub(crate) fn update(&mut self, slots: &[u32], delta: &Delta, calls: &[AggregateCall]) -> Result<()> {
        let columns = delta.batch.columns();
        let filter_of = |call: usize| calls[call].filter.map(|index| columns[index].as_boolean());
        for (unit, kept) in &mut self.units {
            let first = unit.calls[0];
            let args: Vec<ArrayRef> = calls[first].args.iter().map(|index| Arc::clone(&columns[*index])).collect();
            match kept {
                Kept::One(accumulators) => {
                    let rows = RowInfo {
                        filter: filter_of(first),
                        weights: delta.weights.as_ref(),
                        ordinals: delta.ordinals.as_ref(),
                    };
                    accumulators.update(slots, &args, rows)?;
                }
                Kept::Values(values) => {
                    let filters: Vec<_> = unit.calls.iter().map(|call| filter_of(*call)).collect();
                    values.update_all(slots, &args[0], &filters, delta.weights.as_ref())?;
                }
            }
        }
        Ok(())
    }

    /// As [`Accumulators::merge`], of all units.
    pub(crate) fn merge(&mut self, slots: &[u32], states: &[ArrayRef], layout: &StateLayout) -> Result<()> {
        for (index, (_, kept)) in self.units.iter_mut().enumerate() {
            kept.get_mut().merge(slots, &states[layout.range(index)])?;
        }
        Ok(())
    }

    /// The states of `slots`, all units in order.
    pub(crate) fn states(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        let mut states = Vec::new();
        for (_, kept) in &mut self.units {
            states.extend(kept.get_mut().state(slots)?);
        }
        Ok(states)
    }

    /// The results of `slots`, one column a call.
    pub(crate) fn results(&mut self, slots: Slots<'_>) -> Result<Vec<ArrayRef>> {
        (0..self.places.len()).map(|call| self.result(call, slots)).collect()
    }

    /// The results of one call.
    pub(crate) fn result(&mut self, call: usize, slots: Slots<'_>) -> Result<ArrayRef> {
        let (unit, place) = self.places[call];
        match &mut self.units[unit].1 {
            Kept::One(accumulators) => accumulators.evaluate(slots),
            Kept::Values(values) => values.evaluate_call(place, slots),
        }
    }

    /// As [`Accumulators::clear`].
    pub(crate) fn clear(&mut self, slots: Slots<'_>) {
        self.units.iter_mut().for_each(|(_, kept)| kept.get_mut().clear(slots));
    }

    /// For a checkpoint: the states of the slots `whole`, and those of the slots `changed` with only such distinct values as changed since the
    /// checkpoint before, which [`apply`](Self::apply) takes. Every slot with changes is among the two.
    pub(crate) fn save(&mut self, whole: &[u32], changed: &[u32]) -> Result<[Vec<ArrayRef>; 2]> {
        let mut states = [Vec::new(), Vec::new()];
        for (_, kept) in &mut self.units {
            let [all, changes] = match kept {
                Kept::One(one) => [one.state(Slots::Some(whole))?, one.state(Slots::Some(changed))?],
                Kept::Values(values) => values.save(whole, changed)?,
            };
            states[0].extend(all);
            states[1].extend(changes);
        }
        Ok(states)
    }

    /// Takes in what [`save`](Self::save) gave for the slots `changed`: it replaces what is there, of distinct values those that it names.
    pub(crate) fn apply(&mut self, slots: &[u32], states: &[ArrayRef], layout: &StateLayout) -> Result<()> {
        for (index, (_, kept)) in self.units.iter_mut().enumerate() {
            let states = &states[layout.range(index)];
            match kept {
                Kept::One(one) => {
                    one.clear(Slots::Some(slots));
                    one.merge(slots, states)?;
                }
                Kept::Values(values) => values.apply(slots, states)?,
            }
        }
        Ok(())
    }

    /// After a checkpoint was read: it has all that is there.
    pub(crate) fn restored(&mut self) {
        for (_, kept) in &mut self.units {
            if let Kept::Values(values) = kept {
                values.restored();
            }
        }
    }

    /// Whether some call keeps distinct values.
    pub(crate) fn has_values(&self) -> bool {
        self.units.iter().any(|(_, kept)| matches!(kept, Kept::Values(_)))
    }

    /// How many distinct values are kept, of all slots and units.
    pub(crate) fn value_count(&self) -> usize {
        let of = |kept: &Kept| if let Kept::Values(values) = kept { values.pair_count() } else { 0 };
        self.units.iter().map(|(_, kept)| of(kept)).sum()
    }

    /// Bytes held, about.
    pub(crate) fn state_bytes(&self) -> usize {
        self.units.iter().map(|(_, kept)| kept.get().state_bytes()).sum()
    }
}
