//! Conditions that look at the rows matched so far.

use crate::automaton::{State, StateId};
use crate::pattern::{PatternError, Variable};

/// What is asked while a partial match takes a row, where the row's own bits do not say all.
///
/// A partial match carries a few words of *registers* (the first row of a variable, a running sum); whoever implements this gives them
/// their meaning. Two partial matches in one state whose registers are equal have the same future, so they become one.
pub trait Conditions {
    /// How many words a partial match carries.
    fn register_count(&self) -> usize;

    /// Whether [`take`](Self::take) also looks at the trail; then partial matches with equal registers still differ.
    fn reads_trail(&self) -> bool {
        false
    }

    /// Whether [`take`](Self::take) is a function of the variable, the row and the registers alone, for all attempts of a partition: what
    /// [`begin`](Self::begin) is told then counts only as far as the registers hold it. What failed for one attempt is not tried again by
    /// another one that comes to the same place with the same registers (registers that stay apart, of a sum, gain nothing from it), and the trail
    /// may be left out.
    fn forgets(&self) -> bool {
        false
    }

    /// A partial match begins at row `first` of its partition; it would become match `number`.
    fn begin(&mut self, first: u64, number: u64, registers: &mut [u64]);

    /// The row at `row` is taken as `variable`, whose bit it has: notes it in the registers (those of the partial match before, to be
    /// changed in place), and tells whether the variable's whole condition holds, the row itself counted as one of the variable's.
    /// Called for every variable, also those whose conditions are bits only.
    ///
    /// # Errors
    /// What the evaluation says.
    fn take(
        &mut self,
        variable: Variable,
        row: u64,
        trail: Trail<'_>,
        registers: &mut [u64],
    ) -> Result<bool, PatternError>;
}

/// The rows of a partial match before the one in question, and what there is of that one.
#[derive(Debug, Clone, Copy)]
pub struct Trail<'a> {
    pub(crate) nodes: &'a [TrailNode],
    pub(crate) states: &'a [State],
    /// The node of the last row, or [`NO_NODE`].
    pub(crate) last: u32,
    /// The row after it: they follow each other without gaps.
    pub(crate) row: u64,
    /// Of that row.
    pub(crate) values: &'a [u32],
}

/// A row of a partial match; those before it are found by `before`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TrailNode {
    pub(crate) before: u32,
    /// The state that the row entered.
    pub(crate) state: StateId,
}

/// No node.
pub(crate) const NO_NODE: u32 = u32::MAX;

impl Trail<'_> {
    /// What was handed over of the row in question with its symbols ([`Symbols::set_values`](crate::Symbols::set_values)).
    #[inline]
    pub fn values(&self) -> &[u32] {
        self.values
    }

    /// Row and variable of each row taken before, the last one first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Variable)> + '_ {
        let mut next = self.last;
        let mut row = self.row;
        std::iter::from_fn(move || {
            let node = self.nodes.get(next as usize)?;
            next = node.before;
            row -= 1;
            Some((row, self.states[node.state as usize].variable))
        })
    }
}

/// For patterns whose conditions are bits only.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoConditions;

impl Conditions for NoConditions {
    fn register_count(&self) -> usize {
        0
    }

    fn begin(&mut self, _first: u64, _number: u64, _registers: &mut [u64]) {}

    fn take(&mut self, _: Variable, _: u64, _: Trail<'_>, _: &mut [u64]) -> Result<bool, PatternError> {
        Ok(true)
    }
}
