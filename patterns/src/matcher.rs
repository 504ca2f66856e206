//! Runs an automaton over the rows of partitions.

use std::collections::VecDeque;
use std::ops::Range;

use crate::attempt::{Attempt, Run, Until};
use crate::automaton::{Automaton, StateId, Step};
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
    /// For each row the variables whose conditions it meets.
    bits: Vec<u64>,
}

/// Where matching stands in one partition: between two calls, all that is known of its rows. It holds the symbols (and times) of the
/// rows from [`start`](Key::start) on and the partial matches there; without rows under way it is a few words.
#[derive(Debug, Clone)]
pub struct Key {
    /// How many rows have come.
    pub(crate) position: u64,
    pub(crate) number: u64,
    pub(crate) matched_until: u64,
    /// Where rows are under way.
    pub(crate) active: Option<Box<Active>>,
}

/// What a key has while rows are under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Active {
    /// The first row under way.
    pub(crate) start: u64,
    /// The symbols of the rows from there on.
    pub(crate) rows: VecDeque<u64>,
    /// Their times, where there is a bound in time.
    pub(crate) times: VecDeque<i64>,
    /// What begins at `start`.
    pub(crate) attempt: Attempt,
    /// For each row from `start` on, states in which a partial match was that could not be completed for lack of rows that fit.
    /// Shorter than `rows` where nothing is known.
    pub(crate) failed: VecDeque<Vec<StateId>>,
    /// The greatest row of a partial match that was told, plus one.
    pub(crate) told_until: u64,
}

impl Key {
    /// How many rows of the partition have come.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The first row that the match being looked for may have; [`position`](Self::position) if no row is under way. Rows before it are
    /// not looked at any more.
    pub fn start(&self) -> u64 {
        self.active.as_ref().map_or(self.position, |active| active.start)
    }

    /// How many matches there were.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The greatest row that an earlier match has, plus one; 0 if there was none.
    pub fn matched_until(&self) -> u64 {
        self.matched_until
    }

    /// The greatest row of a partial match that was told ([`Status::Timeout`]), plus one; 0 where it does not matter any more. With
    /// [`Skip::PastLastRow`] a key that is resumed has to know it, see [`Matcher::resume_after_partial`].
    pub fn told_until(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.told_until)
    }

    /// [`Matcher::expire`] has something to do when time has passed this.
    pub fn deadline(&self) -> Option<i64> {
        self.active.as_ref().and_then(|active| active.attempt.deadline)
    }

    /// Bytes held outside of the value itself.
    pub fn bytes(&self) -> usize {
        self.active.as_ref().map_or(0, |active| {
            size_of::<Active>()
                + active.rows.capacity() * size_of::<u64>()
                + active.times.capacity() * size_of::<i64>()
                + active.attempt.bytes()
                + active.failed.capacity() * size_of::<Vec<StateId>>()
                + active.failed.iter().map(|states| states.capacity() * size_of::<StateId>()).sum::<usize>()
        })
    }
}

/// How a match may begin.
#[derive(Debug, Clone, Copy)]
struct Starts {
    /// Without a row.
    empty: bool,
    /// As these variables.
    variables: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Matcher {
    pub(crate) automaton: Automaton,
    pub(crate) spec: MatcherSpec,
    /// How a match may begin at the partition's first row, and elsewhere.
    starts_first: Starts,
    starts: Starts,
}

impl Matcher {
    /// Makes the automaton.
    ///
    /// # Errors
    /// A pattern that is too large.
    pub fn new(spec: MatcherSpec) -> Result<Self, PatternError> {
        let automaton = Automaton::new(&spec.pattern)?;
        let starts = |steps: &[Step]| Starts {
            empty: steps.contains(&Step::Accept),
            variables: steps.iter().fold(0, |variables, step| match step {
                Step::To(state) => variables | 1 << automaton.states[*state as usize].variable,
                Step::Accept | Step::AcceptAtEnd => variables,
            }),
        };
        let (starts_first, starts) = (starts(&automaton.start_first), starts(&automaton.start));
        Ok(Self { automaton, spec, starts_first, starts })
    }

    /// The automaton.
    pub fn automaton(&self) -> &Automaton {
        &self.automaton
    }

    /// The symbols of `rows` rows: bit `i % 64` of word `i / 64` of `bitmaps[v]` tells whether row `i` meets the condition of variable
    /// `v`, one bitmap for each variable, in order. Bits after the last row do not matter.
    pub fn symbols(&self, bitmaps: &[&[u64]], rows: usize, symbols: &mut Symbols) {
        symbols.bits.clear();
        symbols.bits.resize(rows, 0);
        for (variable, bitmap) in bitmaps.iter().enumerate() {
            for (chunk, word) in symbols.bits.chunks_mut(64).zip(*bitmap) {
                for (bit, row) in chunk.iter_mut().enumerate() {
                    *row |= (word >> bit & 1) << variable;
                }
            }
        }
    }

    /// A partition of which no row has come.
    pub fn key(&self) -> Key {
        self.resume(0, 0, 0)
    }

    /// A partition as it was: `start`, `number` and `matched_until` are those of the key that is to go on. Its rows from `start` on
    /// are to be fed again, and then nothing is found that was found before.
    pub fn resume(&self, start: u64, number: u64, matched_until: u64) -> Key {
        Key { position: start, number, matched_until, active: None }
    }

    /// As [`resume`](Self::resume) where attempts are told that end without a match: `told_until` is that of the key that is to go on.
    pub fn resume_after_partial(&self, start: u64, number: u64, matched_until: u64, told_until: u64) -> Key {
        let mut key = self.resume(start, number, matched_until);
        if told_until > start {
            key.active = Some(Box::new(Active { start, told_until, ..Active::default() }));
        }
        key
    }

    /// Takes in the next rows of a partition: rows `rows` of `symbols`. `times` has the time of each of them, ascending (it is empty
    /// where there is no bound in time). `ended`: no further row comes.
    ///
    /// # Errors
    /// A skip that leads nowhere, too many partial matches, a condition that cannot be evaluated.
    #[expect(clippy::too_many_arguments, reason = "what came, who is asked, and where it goes")]
    pub fn feed<C: Conditions>(
        &self,
        key: &mut Key,
        symbols: &Symbols,
        rows: Range<usize>,
        times: &[i64],
        ended: bool,
        conditions: &mut C,
        found: &mut Found,
    ) -> Result<(), PatternError> {
        let mut rows = &symbols.bits[rows];
        let mut times = times;
        if key.active.is_none() {
            let skipped = (key.position..).zip(rows).take_while(|&(row, bits)| !self.may_start(row, *bits)).count();
            key.position += skipped as u64;
            if self.spec.unmatched {
                let first = key.position - skipped as u64;
                found.unmatched.extend((first..key.position).filter(|row| *row >= key.matched_until));
            }
            rows = &rows[skipped..];
            times = times.get(skipped..).unwrap_or(&[]);
            if rows.is_empty() {
                return Ok(());
            }
        }
        let active = key.active.get_or_insert_with(|| Box::new(Active { start: key.position, ..Active::default() }));
        active.rows.extend(rows);
        if self.spec.within.is_some() {
            active.times.extend(times);
        }
        key.position += rows.len() as u64;
        self.run(key, Until { ended, time: None }, conditions, found)
    }

    /// No further row of the partition has a time below `time`: attempts that none can join any more are decided, unless there being no
    /// further row would complete them (`$`).
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    pub fn expire<C: Conditions>(
        &self,
        key: &mut Key,
        time: i64,
        conditions: &mut C,
        found: &mut Found,
    ) -> Result<(), PatternError> {
        if key.deadline().is_some_and(|deadline| deadline < time) {
            self.run(key, Until { ended: false, time: Some(time) }, conditions, found)?;
        }
        Ok(())
    }

    /// Whether an attempt at a row can do better than fail at once.
    pub(crate) fn may_start(&self, row: u64, bits: u64) -> bool {
        let starts = if row == 0 { self.starts_first } else { self.starts };
        starts.empty || bits & starts.variables != 0
    }

    fn run<C: Conditions>(
        &self,
        key: &mut Key,
        until: Until,
        conditions: &mut C,
        found: &mut Found,
    ) -> Result<(), PatternError> {
        Run::new(self, until, conditions, found).run(key)
    }
}
