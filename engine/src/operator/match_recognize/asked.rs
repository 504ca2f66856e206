//! Conditions on the rows matched so far, evaluated for one partial match at a time: slow, and for every expression.
//!
//! Where it is known which rows a condition looks at, these are noted in the registers, and its aggregates are moved along ([`Tallies`]),
//! so that it costs the same however long the match is. All else is evaluated as measures are, over the whole of the partial match.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, new_null_array};

use eagre_patterns::{Conditions, Label, PatternError, Trail, Variable};

use super::matches::{Evaluation, Margin, Matches, values_of};
use super::references::{Read, References, RowsKey, TakenRow, row_in, rows_in};
use super::rows::View;
use super::tallies::{Question, Tallies, moves_along};
use super::{Failure, Plan, Slot, SlotExpr, condition_error};
use crate::delta::batch_of;
use crate::error::{EngineError, Result};

/// See the module.
pub(super) struct Asked<'a> {
    evaluation: Evaluation<'a>,
    view: View<'a>,
    margin: Margin,
    /// The rows that decide, if they are known, and the aggregates over them.
    known: Option<(&'a References, Tallies)>,
    failure: &'a Failure,
}

/// The first row and the number of the match.
const OWN_WORDS: usize = 2;

impl Plan {
    /// The conditions of a partition.
    pub(super) fn asked<'a>(&'a self, evaluation: Evaluation<'a>, view: View<'a>, failure: &'a Failure) -> Asked<'a> {
        let known = self.references.as_ref().map(|references| (references, Tallies::new(references)));
        Asked { evaluation, view, margin: self.run_margin, known, failure }
    }
}

/// A partial match that is asked.
struct Partial<'a> {
    /// Its first row and its number.
    own: [u64; OWN_WORDS],
    /// The rows noted, that in question among them.
    words: &'a [u64],
    trail: Trail<'a>,
    /// As what the row in question would be taken.
    variable: Variable,
    row: u64,
}

impl Partial<'_> {
    /// Its rows as a match.
    fn matches(&self, view: View<'_>, margin: Margin) -> Matches {
        let mut labels: Vec<Label> = self.trail.iter().map(|(_, variable)| Label::new(variable, false)).collect();
        labels.reverse();
        labels.push(Label::new(self.variable, false));
        Matches::of_partial(&labels, self.own[0], self.own[1], view, margin)
    }
}

impl Asked<'_> {
    fn holds(&mut self, condition: &SlotExpr, partial: &Partial<'_>) -> Result<ArrayRef> {
        let Self { evaluation, view, margin, known, .. } = self;
        let Some((references, tallies)) = known else {
            return partial.matches(*view, *margin).condition(condition, *evaluation);
        };
        let value = |(slot, read): (&Slot, &Read)| match *read {
            Read::Number => Ok(Arc::new(Int64Array::from(vec![partial.own[1] as i64])) as ArrayRef),
            Read::Count { word } => Ok(Arc::new(Int64Array::from(vec![partial.words[word] as i64])) as ArrayRef),
            Read::Row { word, label, shift } => at(slot, partial, (word, label, shift), *view, *evaluation),
            Read::Aggregate { word, place } => {
                let of = &references.aggregates[place];
                let along = matches!(slot, Slot::Aggregate { function, .. } if moves_along(&**function));
                if !along {
                    return partial.matches(*view, *margin).value(slot, *evaluation);
                }
                let row = TakenRow::new(partial.row, partial.variable, of.labelled);
                let with = of.variables.contains(partial.variable).then_some(row);
                let key = rows_in(partial.words, word);
                let question = Question {
                    key: with.map_or(key, |row| RowsKey::without(key, row)),
                    with,
                    trail: partial.trail,
                    view: *view,
                    number: partial.own[1],
                };
                tallies.value((place, of), &question, *evaluation)
            }
        };
        let holds = || {
            let slots = condition.slots.iter().zip(references.reads(partial.variable));
            let columns = slots.map(value).collect::<Result<Vec<_>>>()?;
            condition.expr.evaluate(&batch_of(&condition.schema, columns, 1)?, evaluation.context, None)
        };
        holds().map_err(|error| error.or_at(&condition.place))
    }
}

/// A value at a row that is noted.
fn at(
    slot: &Slot,
    partial: &Partial<'_>,
    (word, label, shift): (usize, usize, i64),
    view: View<'_>,
    evaluation: Evaluation<'_>,
) -> Result<ArrayRef> {
    let Slot::At { value, .. } = slot else { return Err(EngineError::bug("a condition lost its row")) };
    let position = row_in(partial.words, word).and_then(|row| row.row().checked_add_signed(shift));
    let Some(row) = position.and_then(|position| view.at(position)) else {
        return Ok(new_null_array(value.field().data_type(), 1));
    };
    let name = || {
        let row = row_in(partial.words, label)?;
        evaluation.spec.label(row.variable())
    };
    let labels = || Arc::new(StringArray::from(vec![name()])) as ArrayRef;
    let numbers = || Arc::new(Int64Array::from(vec![partial.own[1] as i64])) as ArrayRef;
    values_of(&[row], value, evaluation, &labels, &numbers)
}

impl Conditions for Asked<'_> {
    fn register_count(&self) -> usize {
        OWN_WORDS + self.known.as_ref().map_or(0, |(references, _)| references.words())
    }

    /// But where the registers tell which of its rows are looked at.
    fn reads_trail(&self) -> bool {
        self.known.is_none()
    }

    fn begin(&mut self, first: u64, number: u64, registers: &mut [u64]) {
        let (own, referenced) = registers.split_at_mut(OWN_WORDS);
        own.copy_from_slice(&[first, number]);
        referenced.fill(0);
        if let Some((_, tallies)) = &mut self.known {
            tallies.begin();
        }
    }

    fn take(
        &mut self,
        variable: Variable,
        row: u64,
        trail: Trail<'_>,
        registers: &mut [u64],
    ) -> Result<bool, PatternError> {
        let (own, words) = registers.split_at_mut(OWN_WORDS);
        if let Some((references, _)) = &self.known {
            references.take(variable, row, words);
        }
        let spec = self.evaluation.spec;
        let Some(condition) = &spec.conditions[variable as usize].run else {
            return Ok(true);
        };
        let partial = Partial { own: [own[0], own[1]], words, trail, variable, row };
        let holds = self.holds(condition, &partial).map_err(|error| condition_error(self.failure, error))?;
        let holds = holds.as_boolean();
        Ok(holds.is_valid(0) && holds.value(0))
    }
}
