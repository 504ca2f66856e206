//! Conditions on the rows matched so far, evaluated for one partial match at a time, as measures are: slow, and for every expression.

use arrow::array::{Array, AsArray};
use eagre_patterns::{Conditions, Label, PatternError, Trail, Variable};

use super::Plan;
use super::matches::{Evaluation, Margin, Matches};
use super::references::References;
use super::rows::View;

/// See the module.
pub(super) struct Asked<'a> {
    evaluation: Evaluation<'a>,
    view: View<'a>,
    margin: Margin,
    /// The rows that decide, if they are few.
    references: Option<&'a References>,
}

/// The first row and the number of the match.
const OWN_WORDS: usize = 2;

impl Plan {
    /// The conditions of a partition.
    pub(super) fn asked<'a>(&'a self, evaluation: Evaluation<'a>, view: View<'a>) -> Asked<'a> {
        Asked { evaluation, view, margin: self.run_margin, references: self.references.as_ref() }
    }
}

impl Conditions for Asked<'_> {
    fn register_count(&self) -> usize {
        OWN_WORDS + self.references.map_or(0, References::words)
    }

    /// But where the registers tell which of its rows are looked at.
    fn reads_trail(&self) -> bool {
        self.references.is_none()
    }

    fn begin(&mut self, first: u64, number: u64, registers: &mut [u64]) {
        let (own, referenced) = registers.split_at_mut(OWN_WORDS);
        own.copy_from_slice(&[first, number]);
        referenced.fill(0);
    }

    fn take(
        &mut self,
        variable: Variable,
        row: u64,
        trail: Trail<'_>,
        registers: &mut [u64],
    ) -> Result<bool, PatternError> {
        let (own, referenced) = registers.split_at_mut(OWN_WORDS);
        if let Some(references) = self.references {
            references.take(variable, row, referenced);
        }
        let Some(condition) = &self.evaluation.spec.conditions[variable as usize].run else {
            return Ok(true);
        };
        let mut labels: Vec<Label> = trail.iter().map(|(_, variable)| Label::new(variable, false)).collect();
        labels.reverse();
        labels.push(Label::new(variable, false));
        let matches = Matches::of_partial(&labels, own[0], own[1], self.view, self.margin);
        let holds = matches.condition(condition, self.evaluation);
        let holds = holds.map_err(|error| PatternError::Condition(error.to_string()))?;
        let holds = holds.as_boolean();
        Ok(holds.is_valid(0) && holds.value(0))
    }
}
