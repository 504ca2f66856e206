//! Runs an automaton over the rows of partitions.

use std::ops::Range;

use crate::automaton::Automaton;
use crate::conditions::Conditions;
use crate::pattern::{Pattern, PatternError, Variable, VariableSet};

/// Where the next match is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// After the match's last row.
    PastLastRow,
    /// At the row after its first one.
    ToNextRow,
    /// At its first row of these variables.
    ToFirst(VariableSet),
    /// At its last row of these variables.
    ToLast(VariableSet),
}

/// What happens where `SKIP TO` leads nowhere, or to the match's own first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BadSkip {
    /// An error, as the standard has it.
    Error,
    /// The next match is looked for at the row after the match's first one; counted.
    NextRow,
}

/// What happens where a partition has too many partial matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// An error.
    Error,
    /// The attempt that began first is given up; counted.
    DropOldest,
}

/// What a matcher looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatcherSpec {
    /// The pattern.
    pub pattern: Pattern,
    /// Where the next match is looked for.
    pub skip: Skip,
    /// What happens where that is nowhere.
    pub bad_skip: BadSkip,
    /// The last row of a match is at most so many units of time after its first (inclusive).
    pub within: Option<i64>,
    /// Whether [`Conditions`] are to be asked.
    pub asks: bool,
    /// Whether rows are told at which no match begins, and that no earlier one has (`WITH UNMATCHED ROWS`).
    pub unmatched: bool,
    /// Whether an attempt that took rows and ends without a match is told, as a [`Match`] with [`Status::Timeout`].
    pub partial: bool,
    /// How many partial matches (rows of trails) a partition may have, and what happens then.
    pub max_partial: usize,
    /// See there.
    pub overflow: Overflow,
}

/// How a match came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It is whole.
    Complete,
    /// It is the beginning of one, which cannot be completed any more.
    Timeout,
}

/// A row's variable in a match, and whether it is excluded from the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(pub u8);

impl Label {
    const EXCLUDED: u8 = 0x80;

    /// A label.
    pub fn new(variable: Variable, excluded: bool) -> Self {
        Self(variable | if excluded { Self::EXCLUDED } else { 0 })
    }

    /// The variable.
    #[inline]
    pub fn variable(self) -> Variable {
        self.0 & !Self::EXCLUDED
    }

    /// Whether the row is within `{- -}`.
    #[inline]
    pub fn excluded(self) -> bool {
        self.0 & Self::EXCLUDED != 0
    }
}

/// A match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Its first row in the partition, from 0; of an empty match, the row at which it was found.
    pub first: u64,
    /// `MATCH_NUMBER()`, from 1 in each partition.
    pub number: u64,
    /// Its rows from the first on: the range of their labels in [`Found::labels`]. Empty for an empty match.
    pub labels: Range<usize>,
    /// How it came to be. The number of a [`Status::Timeout`] is the one that it would have had.
    pub status: Status,
}

/// What was found in one or more partitions since it was cleared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The matches, in the order in which they were found; those of one partition by their number.
    pub matches: Vec<Match>,
    /// The labels of their rows.
    pub labels: Vec<Label>,
    /// Rows that no match has, ascending within a partition.
    pub unmatched: Vec<u64>,
    /// Attempts given up by [`Overflow::DropOldest`].
    pub dropped: u64,
    /// Skips by [`BadSkip::NextRow`].
    pub bad_skips: u64,
}

impl Found {
    /// Forgets all, but the counts.
    pub fn clear(&mut self) {
        self.matches.clear();
        self.labels.clear();
        self.unmatched.clear();
    }
}

/// The symbols of some rows, in a form that the matcher has chosen.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    bits: Vec<u64>,
}

/// Where matching stands in one partition: between two calls, all that is known of its rows. It holds the symbols (and times) of the
/// rows from [`start`](Key::start) on and the partial matches there; without rows under way it is a few words.
#[derive(Debug, Clone)]
pub struct Key {
    position: u64,
    start: u64,
    number: u64,
}

impl Key {
    /// How many rows of the partition have come.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The first row that the match being looked for may have; [`position`](Self::position) if no row is under way. Rows before it are
    /// not looked at any more.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// How many matches there were.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The greatest row that an earlier match has, plus one; 0 if there was none.
    pub fn matched_until(&self) -> u64 {
        todo!()
    }

    /// [`Matcher::expire`] has something to do when time has passed this.
    pub fn deadline(&self) -> Option<i64> {
        todo!()
    }

    /// Bytes held outside of the value itself.
    pub fn bytes(&self) -> usize {
        todo!()
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Matcher {
    automaton: Automaton,
    spec: MatcherSpec,
}

impl Matcher {
    /// Makes the automaton.
    ///
    /// # Errors
    /// A pattern that is too large.
    pub fn new(_spec: MatcherSpec) -> Result<Self, PatternError> {
        todo!()
    }

    /// The automaton.
    pub fn automaton(&self) -> &Automaton {
        &self.automaton
    }

    /// The symbols of `rows` rows: bit `i % 64` of word `i / 64` of `bitmaps[v]` tells whether row `i` meets the condition of variable
    /// `v`, one bitmap for each variable, in order. Bits after the last row do not matter.
    pub fn symbols(&self, _bitmaps: &[&[u64]], _rows: usize, _symbols: &mut Symbols) {
        todo!()
    }

    /// A partition of which no row has come.
    pub fn key(&self) -> Key {
        todo!()
    }

    /// A partition as it was: `start`, `number` and `matched_until` are those of the key that is to go on. Its rows from `start` on
    /// are to be fed again, and then nothing is found that was found before.
    pub fn resume(&self, _start: u64, _number: u64, _matched_until: u64) -> Key {
        todo!()
    }

    /// Takes in the next rows of a partition: rows `rows` of `symbols`. `times` has the time of each of them, ascending (it is empty
    /// where there is no bound in time). `ended`: no further row comes.
    ///
    /// # Errors
    /// A skip that leads nowhere, too many partial matches, a condition that cannot be evaluated.
    pub fn feed<C: Conditions>(
        &self,
        _key: &mut Key,
        _symbols: &Symbols,
        _rows: Range<usize>,
        _times: &[i64],
        _ended: bool,
        _conditions: &mut C,
        _found: &mut Found,
    ) -> Result<(), PatternError> {
        todo!()
    }

    /// No further row of the partition has a time below `time`: attempts that none can join any more are decided.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    pub fn expire<C: Conditions>(
        &self,
        _key: &mut Key,
        _time: i64,
        _conditions: &mut C,
        _found: &mut Found,
    ) -> Result<(), PatternError> {
        todo!()
    }
}
