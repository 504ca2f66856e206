//! Conditions on the rows matched so far, evaluated for one partial match at a time, as measures are: slow, and for every expression.

use arrow::array::{Array, AsArray};
use eagre_patterns::{Conditions, Label, PatternError, Trail, Variable};

use super::matches::{Evaluation, Margin, Matches};
use super::rows::View;

/// See the module.
pub(super) struct Asked<'a> {
    pub(super) evaluation: Evaluation<'a>,
    pub(super) view: View<'a>,
    pub(super) margin: Margin,
}

impl Conditions for Asked<'_> {
    /// The first row and the number of the match.
    fn register_count(&self) -> usize {
        2
    }

    fn reads_trail(&self) -> bool {
        true
    }

    fn begin(&mut self, first: u64, number: u64, registers: &mut [u64]) {
        registers.copy_from_slice(&[first, number]);
    }

    fn take(
        &mut self,
        variable: Variable,
        _row: u64,
        trail: Trail<'_>,
        registers: &mut [u64],
    ) -> Result<bool, PatternError> {
        let Some(condition) = &self.evaluation.spec.conditions[variable as usize].run else {
            return Ok(true);
        };
        let mut labels: Vec<Label> = trail.iter().map(|(_, variable)| Label::new(variable, false)).collect();
        labels.reverse();
        labels.push(Label::new(variable, false));
        let matches = Matches::of_partial(&labels, registers[0], registers[1], self.view, self.margin);
        let holds = matches.condition(condition, self.evaluation);
        let holds = holds.map_err(|error| PatternError::Condition(error.to_string()))?;
        let holds = holds.as_boolean();
        Ok(holds.is_valid(0) && holds.value(0))
    }
}
