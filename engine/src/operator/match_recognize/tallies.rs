//! Aggregates of conditions on the match that fit no few words (`COUNT(DISTINCT ..)`, the least text): accumulators that move along with
//! the partial matches, row by row, instead of being filled anew for each row.
//!
//! An accumulator stands behind some rows, known by their key ([`RowsKey`]). Whoever asks names its rows and can go back along them: the
//! nearest accumulator on the way takes in what is missing and stands there then. So one that grows with its match takes in each row once.
//! The row in question is asked about (*what if*), because it may not be taken: by a copy, or, where there may be much to copy and rows can be
//! taken back, by taking it in until the next question tells whether it was taken. Where partial matches part, the first one takes the accumulator along and the other fills one of its own: a few are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, UInt64Array};
use eagre_patterns::Trail;

use super::Slot;
use super::matches::{Evaluation, values_of};
use super::references::{Aggregated, References, RowsKey, TakenRow};
use super::rows::{RowAt, View};
use crate::aggregate::{Accumulators, AggregateFunction, RowInfo, Slots};
use crate::error::{EngineError, Result};
use crate::expr::ExprRef;

/// So many accumulators are kept for an aggregate.
const MOVERS_MAX: usize = 16;
/// So many values.
const VALUES_MAX: usize = 1_024;

/// The accumulators of all aggregates of the conditions on one partition, while its rows are fed.
pub(super) struct Tallies {
    tallies: Vec<Tally>,
}

/// Whether a function can be moved along.
pub(super) fn moves_along(function: &dyn AggregateFunction) -> bool {
    function.is_incremental() && (function.distinct().is_none() || function.supports_retraction())
}

#[derive(Default)]
struct Tally {
    movers: Vec<Mover>,
    values: BTreeMap<RowsKey, ArrayRef>,
    /// Counts what was asked.
    asked: u64,
}

/// An accumulator behind some rows.
struct Mover {
    key: RowsKey,
    rows: u64,
    /// A row behind those that it has taken in, too, and that may not be taken.
    tried: Option<TakenRow>,
    accumulators: Box<dyn Accumulators>,
    /// When it was asked last.
    asked: u64,
}

impl Mover {
    /// Whether it can tell what rows with this key come to, with what it tries or without.
    fn stands_behind(&self, key: RowsKey) -> bool {
        self.key == key || self.tried.is_some_and(|row| self.key.with(row) == key)
    }
}

/// What is asked: the value over the rows of a partial match, which are known by `key`, and, if it is one of them, the row in question.
pub(super) struct Question<'a> {
    pub(super) key: RowsKey,
    pub(super) with: Option<TakenRow>,
    pub(super) trail: Trail<'a>,
    pub(super) view: View<'a>,
    /// Of the match.
    pub(super) number: u64,
}

impl Tallies {
    pub(super) fn new(references: &References) -> Self {
        Self { tallies: references.aggregates.iter().map(|_| Tally::default()).collect() }
    }

    /// Another attempt begins.
    pub(super) fn begin(&mut self) {
        for tally in &mut self.tallies {
            tally.movers.clear();
            tally.values.clear();
        }
    }

    /// The value of the aggregate at `place` among those of conditions.
    pub(super) fn value(
        &mut self,
        (place, of): (usize, &Aggregated),
        question: &Question<'_>,
        evaluation: Evaluation<'_>,
    ) -> Result<ArrayRef> {
        let condition = evaluation.spec.conditions[of.condition].run.as_ref();
        let slot = condition.and_then(|run| run.slots.get(of.slot));
        let Some(Slot::Aggregate { function, args, filter, place: written, .. }) = slot else {
            return Err(EngineError::bug("a condition lost its aggregate"));
        };
        let call = Call { function: function.as_ref(), args, filter: filter.as_ref(), of };
        let value = self.tallies[place].value(&call, question, evaluation);
        value.map_err(|error| error.or_at(written))
    }
}

/// The aggregate that is asked for.
struct Call<'a> {
    function: &'a dyn AggregateFunction,
    args: &'a [ExprRef],
    filter: Option<&'a ExprRef>,
    of: &'a Aggregated,
}

impl Call<'_> {
    /// Takes rows in, of which `before` came before them, with a weight if they are to be taken back.
    fn update(
        &self,
        accumulators: &mut dyn Accumulators,
        rows: &[TakenRow],
        (before, weight): (u64, Option<i64>),
        question: &Question<'_>,
        evaluation: Evaluation<'_>,
    ) -> Result<()> {
        let places: Vec<RowAt> = rows.iter().filter_map(|row| question.view.at(row.row())).collect();
        debug_assert_eq!(places.len(), rows.len(), "the rows of a match are there");
        let name = |row: &TakenRow| evaluation.spec.variables[usize::from(row.variable())].as_str();
        let labels = || Arc::new(StringArray::from_iter_values(rows.iter().map(name))) as ArrayRef;
        let numbers = || Arc::new(Int64Array::from(vec![question.number as i64; rows.len()])) as ArrayRef;
        let value = |value| values_of(&places, value, evaluation, &labels, &numbers);
        let args = self.args.iter().map(value).collect::<Result<Vec<_>>>()?;
        let filter = self.filter.map(value).transpose()?;
        let weights = weight.map(|weight| Int64Array::from(vec![weight; rows.len()]));
        let ordinals = UInt64Array::from_iter_values(before..before + rows.len() as u64);
        let info = RowInfo {
            filter: filter.as_ref().map(|filter| filter.as_boolean()),
            weights: weights.as_ref(),
            ordinals: Some(&ordinals),
        };
        accumulators.update(&vec![0; rows.len()], &args, info)
    }
}

impl Tally {
    fn value(&mut self, call: &Call<'_>, question: &Question<'_>, evaluation: Evaluation<'_>) -> Result<ArrayRef> {
        if question.with.is_none()
            && let Some(value) = self.values.get(&question.key)
        {
            return Ok(Arc::clone(value));
        }
        let place = self.reach(call, question, evaluation)?;
        let Mover { accumulators, rows, tried, .. } = &mut self.movers[place];
        let Some(row) = question.with else {
            let value = accumulators.evaluate(Slots::First(1))?;
            if self.values.len() == VALUES_MAX {
                self.values.clear();
            }
            self.values.insert(question.key, Arc::clone(&value));
            return Ok(value);
        };
        if call.function.distinct().is_some() {
            if tried.is_none() {
                call.update(&mut **accumulators, &[row], (*rows, Some(1)), question, evaluation)?;
                *tried = Some(row);
            }
            return accumulators.evaluate(Slots::First(1));
        }
        let mut copy = fresh(call)?;
        copy.merge(&[0], &accumulators.state(Slots::First(1))?)?;
        call.update(&mut *copy, &[row], (*rows, None), question, evaluation)?;
        copy.evaluate(Slots::First(1))
    }

    /// The place of an accumulator that stands behind the rows in question, but the one that may not be taken: that is tried at most.
    fn reach(&mut self, call: &Call<'_>, question: &Question<'_>, evaluation: Evaluation<'_>) -> Result<usize> {
        self.asked += 1;
        let standing = |movers: &[Mover], key: RowsKey| movers.iter().position(|mover| mover.stands_behind(key));
        let mut key = question.key;
        let mut missing = Vec::new();
        let mut found = standing(&self.movers, key);
        let mut back = question.trail.iter().filter(|(_, variable)| call.of.variables.contains(*variable));
        while found.is_none()
            && let Some((row, variable)) = back.next()
        {
            let row = TakenRow::new(row, variable, call.of.labelled);
            missing.push(row);
            key = key.without(row);
            found = standing(&self.movers, key);
        }
        missing.reverse();
        let place = match found {
            Some(place) => place,
            None => {
                debug_assert!(key.is_empty(), "all rows were gone back along");
                if self.movers.len() == MOVERS_MAX {
                    let oldest = (0..MOVERS_MAX).min_by_key(|place| self.movers[*place].asked);
                    self.movers.swap_remove(oldest.expect("there are some"));
                }
                self.movers.push(Mover { key, rows: 0, tried: None, accumulators: fresh(call)?, asked: 0 });
                self.movers.len() - 1
            }
        };
        let mover = &mut self.movers[place];
        mover.asked = self.asked;
        let catch_up = |mover: &mut Mover| {
            if mover.key != key {
                // What it tried was taken.
                (mover.key, mover.tried) = (key, None);
                mover.rows += 1;
            } else if let Some(row) = mover.tried
                && (question.with != Some(row) || !missing.is_empty())
            {
                call.update(&mut *mover.accumulators, &[row], (mover.rows, Some(-1)), question, evaluation)?;
                mover.tried = None;
            }
            if !missing.is_empty() {
                call.update(&mut *mover.accumulators, &missing, (mover.rows, None), question, evaluation)?;
                mover.rows += missing.len() as u64;
                mover.key = question.key;
            }
            Ok(())
        };
        if let Err(error) = catch_up(mover) {
            // What it has taken in is not known.
            self.movers.swap_remove(place);
            return Err(error);
        }
        Ok(place)
    }
}

fn fresh(call: &Call<'_>) -> Result<Box<dyn Accumulators>> {
    let mut accumulators = call.function.create()?;
    accumulators.resize(1);
    Ok(accumulators)
}
