//! Runs an automaton over the rows of partitions.

use std::ops::Range;
use std::sync::Arc;

use crate::attempt::ThreadRows;
use crate::automaton::{Automaton, Step};
use crate::conditions::Conditions;
use crate::dense::{Dense, DenseMatcher, DenseRun};
use crate::determinise::{Attempts, Classes, next_variables};
use crate::fold::Fold;
use crate::key::{Active, Key};
use crate::lone;
use crate::packed::Packed;
use crate::pattern::{Pattern, PatternError, Variable, VariableSet};
use crate::short::{SHORT_ROWS, Short, Stop};
use crate::symbols::{Symbols, ThreadSymbols};
use crate::thread_run::{Run, Until};
use crate::viable::{self, StartBits};

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

/// How a match may begin.
#[derive(Debug, Clone, Copy)]
struct Starts {
    /// Without a row.
    empty: bool,
    /// As these variables.
    variables: u64,
}

/// So many rows are matched at once, if each is some bytes.
const CACHED_ROWS: usize = if cfg!(test) { 100 } else { 8192 };

/// So many rows that come to a key at once are looked at one by one; more are worth what it takes to look at all of them together.
const FEW_ROWS: usize = if cfg!(test) { 4 } else { 16 };

/// See the module.
#[derive(Debug, Clone)]
pub struct Matcher {
    pub(crate) automaton: Automaton,
    pub(crate) spec: MatcherSpec,
    /// How a match may begin at the partition's first row, and elsewhere.
    starts_first: Starts,
    starts: Starts,
    /// How many the automaton has, one at least.
    pub(crate) transitions: usize,
    /// Where it is small enough, and conditions are bits: all partial matches of an attempt as one.
    dense: Option<Arc<(Classes, DenseMatcher)>>,
    labels: bool,
    /// Whether `dense` is folded where it can be.
    folding: bool,
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
            variables: next_variables(&automaton, steps),
        };
        let (starts_first, starts) = (starts(&automaton.start_first), starts(&automaton.start));
        let steps = automaton.states.iter().map(|state| &state.next).chain([&automaton.start]);
        let transitions = steps.map(|steps| steps.len()).sum::<usize>().max(1);
        let dense = Classes::new(&automaton).filter(|_| !spec.asks).and_then(|classes| {
            let attempts = Attempts::new(&automaton, &classes)?;
            let folds = spec.skip == Skip::PastLastRow && spec.within.is_none() && !spec.partial;
            let class_count = 1 << classes.variables.len();
            let fold = if folds { Fold::new(&automaton, &classes) } else { None };
            Some(Arc::new((
                classes,
                DenseMatcher::new(attempts, fold, class_count, [starts.empty, starts_first.empty]),
            )))
        });
        Ok(Self { automaton, spec, starts_first, starts, transitions, dense, labels: true, folding: true })
    }

    /// Leaves the labels out: [`Found::labels`] stays empty, and only the length of [`Match::labels`] says how many rows a match has.
    #[must_use]
    pub fn without_labels(mut self) -> Self {
        self.labels = false;
        self
    }

    #[cfg(test)]
    pub(crate) fn spec(&self) -> &MatcherSpec {
        &self.spec
    }

    /// Whether all attempts are run as one automaton.
    #[cfg(test)]
    pub(crate) fn folds(&self) -> bool {
        self.dense.as_ref().is_some_and(|dense| dense.1.fold.is_some())
    }

    /// Runs attempts one by one, as where the pattern cannot be folded.
    #[cfg(test)]
    pub(crate) fn without_fold(mut self) -> Self {
        self.folding = false;
        self
    }

    /// Runs partial matches one by one, as where tables would be too large.
    #[cfg(test)]
    pub(crate) fn without_tables(mut self) -> Self {
        self.dense = None;
        self
    }

    /// The automaton.
    pub fn automaton(&self) -> &Automaton {
        &self.automaton
    }

    /// The symbols of `rows` rows: bit `i % 64` of word `i / 64` of `bitmaps[v]` tells whether row `i` meets the condition of variable
    /// `v`, one bitmap for each variable, in order. Bits after the last row do not matter.
    pub fn symbols(&self, bitmaps: &[&[u64]], rows: usize, symbols: &mut Symbols) {
        symbols.clear();
        match &self.dense {
            Some(dense) => symbols.classify(&dense.0.variables, bitmaps, rows),
            None => symbols.collect(bitmaps, rows),
        }
    }

    /// Whether rows at which no match can begin, as the rows behind them tell, may be passed over unseen: nothing else is told of them.
    pub fn looks_ahead(&self) -> bool {
        let MatcherSpec { asks, unmatched, partial, .. } = self.spec;
        let plain = self.automaton.start == self.automaton.start_first && !self.starts.empty;
        !asks && !unmatched && !partial && plain && self.dense.is_some()
    }

    /// The rows at which a match can begin, a bit each, as the next few rows tell; `None` where that does not say all that is asked for
    /// or is not worth it. Bit `i % 64` of word `i / 64` of `ends` tells that row `i` is the last one of its partition that there is.
    pub fn starts(&self, bitmaps: &[&[u64]], rows: usize, ends: &[u64]) -> Option<Vec<u64>> {
        let told = self.spec.max_partial >= viable::ROWS && self.looks_ahead();
        told.then(|| viable::starts(&self.automaton, bitmaps, rows, ends))
    }

    /// As [`symbols`](Self::symbols), with what [`starts`](Self::starts) gave of these rows, or who looked further ahead.
    pub fn symbols_with(&self, bitmaps: &[&[u64]], starts: &[u64], rows: usize, symbols: &mut Symbols) {
        self.symbols(bitmaps, rows, symbols);
        symbols.starts.extend_from_slice(starts);
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
            key.active = Some(match self.dense {
                Some(_) => Active::Dense(Box::new(Dense::after_partial(start, told_until))),
                None => Active::Threads(Box::new(ThreadRows::after_partial(start, told_until))),
            });
        }
        key
    }

    /// The few rows that a key has under way as one word, from which [`resume_packed`](Self::resume_packed) makes it again without them being
    /// fed again: their number, and a byte for each. 0: they do not fit, or their times count.
    pub fn packed(&self, key: &Key) -> u64 {
        match (&key.active, &self.dense) {
            (Some(Active::Short(short)), Some(dense))
                if short.deadline().is_none() && dense.1.state_before(short.start, self.fold()).is_some() =>
            {
                short.packed()
            }
            _ => 0,
        }
    }

    /// A partition as it was, with the rows from `start` on that [`packed`](Self::packed) gave. `None`: it never gave that.
    pub fn resume_packed(&self, start: u64, number: u64, matched_until: u64, packed: u64) -> Option<Key> {
        let (classes, matcher) = &**self.dense.as_ref()?;
        let [rows, bytes @ ..] = packed.to_le_bytes();
        let bytes = bytes.get(..usize::from(rows)).filter(|bytes| !bytes.is_empty())?;
        let fold = self.fold();
        let mut state = matcher.state_before(start, fold)?;
        for class in bytes {
            if usize::from(*class) >> classes.variables.len() != 0 {
                return None;
            }
            state = match fold {
                Some(fold) => fold.next(state, *class),
                None => matcher.attempts.undecided(state, *class)?.0,
            };
        }
        let short = Short::of(start, bytes, &[], None, state)?;
        let mut key = self.resume(start + u64::from(rows), number, matched_until);
        key.active = Some(Active::Short(short));
        Some(key)
    }

    /// All attempts as one automaton, where they are run so.
    fn fold(&self) -> Option<&Fold> {
        self.dense.as_ref()?.1.fold.as_ref().filter(|_| self.folding)
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
        let times = if self.spec.within.is_some() { times } else { &[] };
        let until = Until { ended, time: None };
        match &self.dense {
            Some(dense) => {
                // A cache holds what is looked at several times.
                let known = !symbols.starts.is_empty();
                let mut starts = known.then_some(StartBits { words: &symbols.starts, bit: rows.start, at: 0 });
                let mut rest = &symbols.classes[rows];
                let mut times = times;
                while rest.len() > CACHED_ROWS {
                    let (now, then) = rest.split_at(CACHED_ROWS);
                    let (times_now, times_then) = times.split_at(times.len().min(CACHED_ROWS));
                    let open = Until { ended: false, time: None };
                    self.feed_dense(&dense.1, key, (now, times_now, starts), open, found)?;
                    (rest, times) = (then, times_then);
                    if let Some(starts) = &mut starts {
                        starts.bit += CACHED_ROWS;
                    }
                }
                self.feed_dense(&dense.1, key, (rest, times, starts), until, found)
            }
            None => self.feed_threads(key, symbols.of_threads(rows, times), until, conditions, found),
        }
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
        if key.deadline().is_none_or(|deadline| deadline >= time) {
            return Ok(());
        }
        let until = Until { ended: false, time: Some(time) };
        match &self.dense {
            Some(dense) => self.feed_dense(&dense.1, key, (&[], &[], None), until, found),
            None => self.feed_threads(key, ThreadSymbols::EMPTY, until, conditions, found),
        }
    }

    fn feed_dense(
        &self,
        matcher: &DenseMatcher,
        key: &mut Key,
        (classes, times, starts): (&[u8], &[i64], Option<StartBits<'_>>),
        until: Until,
        found: &mut Found,
    ) -> Result<(), PatternError> {
        let fold = self.fold();
        let (mut classes, mut times, mut starts) = (classes, times, starts);
        if classes.len() <= FEW_ROWS && !until.ended && until.time.is_none() {
            let taken = self.take_short((matcher, fold), key, (classes, times, starts), found);
            if taken == classes.len() {
                return Ok(());
            }
            (classes, times) = (&classes[taken..], times.get(taken..).unwrap_or(&[]));
            if let Some(starts) = &mut starts {
                starts.bit += taken;
            }
        }
        let mut run = DenseRun { spec: &self.spec, matcher, fold, labels: self.labels, until, starts, found };
        if let Some(Active::Long(_)) = &key.active {
            return run.run_long(key, classes, times);
        }
        match key.active.take() {
            Some(Active::Dense(mut dense)) => {
                if run.run_on(key, &mut dense, classes, times)? {
                    key.active = Some(dense.shortened(self.spec.within).map_or(Active::Dense(dense), Active::Short));
                }
                return Ok(());
            }
            Some(Active::Short(short)) => {
                key.active = run.run_again(key, &short, classes, times)?;
                return Ok(());
            }
            _ => {}
        }
        let idle = match starts {
            Some(starts) => starts.next(0, classes.len()),
            None => matcher.idle_rows(key.position, classes),
        };
        self.pass_idle(key, idle, run.found);
        if idle < classes.len() {
            if let Some(starts) = &mut run.starts {
                starts.bit += idle;
            }
            key.active = run.run_new(key, &classes[idle..], times.get(idle..).unwrap_or(&[]))?;
        }
        Ok(())
    }

    /// Takes the next rows as long as they decide nothing and there are few under way: most rows that come to a key, where there are many
    /// keys. Gives how many it has taken.
    fn take_short(
        &self,
        (matcher, fold): (&DenseMatcher, Option<&Fold>),
        key: &mut Key,
        (classes, times, starts): (&[u8], &[i64], Option<StartBits<'_>>),
        found: &mut Found,
    ) -> usize {
        // Which rows are in no match is told as attempts end.
        if fold.is_some() && self.spec.unmatched {
            return 0;
        }
        let mut taken = 0;
        loop {
            let rest = &classes[taken..];
            if key.active.is_none() {
                let idle = match starts {
                    Some(starts) => StartBits { bit: starts.bit + taken, ..starts }.next(0, rest.len()),
                    None => matcher.idle_rows(key.position, rest),
                };
                self.pass_idle(key, idle, found);
                taken += idle;
                if idle == rest.len() {
                    return taken;
                }
                let state = matcher.state_before(key.position, fold);
                let begin = |state| Short::begin(key.position, times.get(taken).copied(), self.spec.within, state);
                let Some(short) = state.and_then(begin) else { return taken };
                key.active = Some(Active::Short(short));
            }
            let Some(Active::Short(short)) = &mut key.active else { return taken };
            let rest = &classes[taken..];
            let (rows, mut stop) = match fold {
                Some(fold) => short.take_folded(fold, &self.spec, rest),
                None => short.take(&matcher.attempts, &self.spec, rest, times.get(taken..).unwrap_or(&[])),
            };
            key.position += rows as u64;
            taken += rows;
            if let (Some(fold), Some(class), Stop::Decides) = (fold, classes.get(taken), stop) {
                let asked = (SHORT_ROWS.min(self.spec.max_partial), self.labels);
                if short.decide_folded(fold, asked, *class, (&mut key.number, &mut key.matched_until), found) {
                    key.position += 1;
                    taken += 1;
                    stop = Stop::Decided;
                }
            }
            if short.is_empty() {
                key.active = None;
            }
            if !matches!(stop, Stop::Idle | Stop::Decided) || taken == classes.len() {
                return taken;
            }
        }
    }

    fn feed_threads<C: Conditions>(
        &self,
        key: &mut Key,
        rows: ThreadSymbols<'_>,
        until: Until,
        conditions: &mut C,
        found: &mut Found,
    ) -> Result<(), PatternError> {
        let mut rows = rows;
        if rows.bits.len() <= FEW_ROWS {
            let taken = lone::take(self, key, rows, until, conditions)?;
            if taken == rows.bits.len() && taken > 0 {
                return Ok(());
            }
            rows = rows.from(taken);
        }
        let mut active = key.active.take();
        if active.is_none() {
            let idle = (key.position..).zip(rows.bits).take_while(|&(row, bits)| !self.may_start(row, *bits)).count();
            self.pass_idle(key, idle, found);
            rows = rows.from(idle);
            if rows.bits.is_empty() {
                return Ok(());
            }
        }
        let mut run = Run::new(self, until, conditions, found);
        let states = self.automaton.states.len();
        match &mut active {
            Some(Active::Threads(threads)) => {
                run.feed(key, threads, rows)?;
                if !threads.is_needed() {
                    return Ok(());
                }
                if Packed::fits(threads, false, states) {
                    let mut packed = Box::<Packed>::default();
                    packed.pack(threads);
                    active = Some(Active::Packed(packed));
                }
            }
            Some(Active::Packed(packed)) => {
                let mut threads = run.unpack(packed);
                run.feed(key, &mut threads, rows)?;
                if !threads.is_needed() {
                    run.end_rows(threads);
                    return Ok(());
                }
                if Packed::fits(&threads, true, states) {
                    packed.pack(&threads);
                    run.end_rows(threads);
                } else {
                    active = Some(Active::Threads(threads));
                }
            }
            _ => {
                let mut threads = run.begin_rows(key.position);
                run.feed(key, &mut threads, rows)?;
                if threads.is_needed() {
                    if Packed::fits(&threads, true, states) {
                        let mut packed = Box::<Packed>::default();
                        packed.pack(&threads);
                        active = Some(Active::Packed(packed));
                    } else {
                        key.active = Some(Active::Threads(threads));
                        return Ok(());
                    }
                }
                run.end_rows(threads);
            }
        }
        key.active = active;
        Ok(())
    }

    /// Rows that start nothing, while none is under way.
    fn pass_idle(&self, key: &mut Key, rows: usize, found: &mut Found) {
        let first = key.position;
        key.position += rows as u64;
        if self.spec.unmatched {
            found.unmatched.extend(first.max(key.matched_until)..key.position);
        }
    }

    /// Whether an attempt at a row can do better than fail at once.
    pub(crate) fn may_start(&self, row: u64, bits: u64) -> bool {
        let starts = if row == 0 { self.starts_first } else { self.starts };
        starts.empty || bits & starts.variables != 0
    }
}

/// After how many rows of a match the next attempt begins.
pub(crate) fn next_start(
    spec: &MatcherSpec,
    first: u64,
    labels: &[Label],
    bad_skips: &mut u64,
) -> Result<usize, PatternError> {
    if labels.is_empty() {
        return Ok(1);
    }
    let has = |variables: VariableSet| move |label: &Label| variables.contains(label.variable());
    let (target, first_or_last) = match spec.skip {
        Skip::PastLastRow => return Ok(labels.len()),
        Skip::ToNextRow => return Ok(1),
        Skip::ToFirst(variables) => (labels.iter().position(has(variables)), "FIRST"),
        Skip::ToLast(variables) => (labels.iter().rposition(has(variables)), "LAST"),
    };
    match (target, spec.bad_skip) {
        (Some(row), _) if row > 0 => Ok(row),
        (_, BadSkip::NextRow) => {
            *bad_skips += 1;
            Ok(1)
        }
        (Some(_), BadSkip::Error) => Err(PatternError::SkipToFirstRow { first_or_last, first }),
        (None, BadSkip::Error) => Err(PatternError::SkipTargetMissing { first_or_last, first }),
    }
}
