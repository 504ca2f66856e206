//! Patterns as they are written.

/// A pattern variable by its number, below [`VARIABLES_MAX`].
pub type Variable = u8;

/// How many variables a pattern may have: the conditions that a row meets fit a word.
pub const VARIABLES_MAX: usize = 64;

/// A set of variables, a bit each; what `SUBSET` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VariableSet(pub u64);

impl VariableSet {
    /// All of them: the universal row pattern variable.
    pub const ALL: Self = Self(u64::MAX);

    /// One variable.
    pub fn of(variable: Variable) -> Self {
        Self(1 << variable)
    }

    /// Whether the variable is one of them.
    #[inline]
    pub fn contains(self, variable: Variable) -> bool {
        self.0 >> variable & 1 == 1
    }
}

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `()`.
    Empty,
    /// A row that meets the variable's condition.
    Variable(Variable),
    /// One after the other.
    Concatenation(Vec<Pattern>),
    /// `a | b`: the first is preferred.
    Alternation(Vec<Pattern>),
    /// `PERMUTE(a, b, ..)`: all orders, the lexicographically first preferred.
    Permutation(Vec<Pattern>),
    /// `a{min,max}`: more are preferred or, not `greedy`, fewer.
    Repetition {
        /// What is repeated.
        body: Box<Pattern>,
        /// At least so often.
        min: u32,
        /// At most so often.
        max: Option<u32>,
        /// Whether more are preferred.
        greedy: bool,
    },
    /// `{- a -}`: matched, but not shown by `ALL ROWS PER MATCH`.
    Exclusion(Box<Pattern>),
    /// `^`.
    PartitionStart,
    /// `$`.
    PartitionEnd,
}

/// A pattern that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Its automaton has too many states.
    #[error(
        "the pattern needs more than {max} states; use smaller bounds in `{{n,m}}`, or fewer patterns in `PERMUTE`"
    )]
    TooLarge {
        /// The most there may be.
        max: usize,
    },
    /// A variable beyond [`VARIABLES_MAX`].
    #[error("a pattern has at most {VARIABLES_MAX} variables")]
    TooManyVariables,
    /// `AFTER MATCH SKIP TO` names a variable that no row of the match has.
    #[error(
        "`AFTER MATCH SKIP TO {first_or_last} ..`: no row of the match that begins at row {first} of its partition has that variable"
    )]
    SkipTargetMissing {
        /// `FIRST` or `LAST`.
        first_or_last: &'static str,
        /// The first row of the match, from 0.
        first: u64,
    },
    /// `AFTER MATCH SKIP TO` names the match's first row, where the next match would be the same one.
    #[error(
        "`AFTER MATCH SKIP TO {first_or_last} ..` leads to the first row of the match (row {first} of its partition) again, for ever"
    )]
    SkipToFirstRow {
        /// `FIRST` or `LAST`.
        first_or_last: &'static str,
        /// The first row of the match, from 0.
        first: u64,
    },
    /// More partial matches than [`MatcherSpec::max_partial`](crate::MatcherSpec::max_partial).
    #[error(
        "partial matches of more than {max} rows in one partition; bound the pattern by `WITHIN`, raise `eagre.match.max_partial`, or set `eagre.match.overflow` to 'drop-oldest'"
    )]
    TooManyPartial {
        /// The bound.
        max: usize,
    },
    /// A condition could not be evaluated.
    #[error("{0}")]
    Condition(String),
}

impl PatternError {
    /// Whether `AFTER MATCH SKIP TO` leads nowhere, which hangs on how the match ends.
    pub fn is_bad_skip(&self) -> bool {
        matches!(self, Self::SkipTargetMissing { .. } | Self::SkipToFirstRow { .. })
    }
}
