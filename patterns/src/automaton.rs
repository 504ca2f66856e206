//! From a pattern to an automaton whose transitions are in order of preference.

use crate::pattern::{Pattern, PatternError, Variable, VariableSet};

/// A state by its number.
pub type StateId = u32;

/// Where a partial match may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The next row enters this state.
    To(StateId),
    /// It is a match.
    Accept,
    /// It is a match if there is no further row in the partition.
    AcceptAtEnd,
}

/// A place in the pattern: the row that entered it has the state's variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The variable of the row.
    pub variable: Variable,
    /// Whether it is within an exclusion.
    pub excluded: bool,
    /// Where it goes on, preferred first; nothing follows an [`Step::Accept`].
    pub next: Box<[Step]>,
}

/// How many rows lie between a row and the last one of some variables before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// There never is one.
    Never,
    /// Always so many.
    Rows(u32),
    /// It depends.
    Varies,
}

/// A pattern as states; see the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Automaton {
    /// The states.
    pub states: Vec<State>,
    /// Where a match starts that begins with the partition's first row.
    pub start_first: Box<[Step]>,
    /// Where a match starts elsewhere.
    pub start: Box<[Step]>,
}

impl Automaton {
    /// The automaton of a pattern.
    ///
    /// # Errors
    /// [`PatternError::TooLarge`].
    pub fn new(_pattern: &Pattern) -> Result<Self, PatternError> {
        todo!()
    }

    /// How far the last row of `of` lies before a row that is taken as `at`, over all ways to come there.
    pub fn distance(&self, _of: VariableSet, _at: Variable) -> Distance {
        todo!()
    }
}
