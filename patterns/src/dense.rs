//! Attempts one after the other, each a look-up a row ([`Attempts`]).
//!
//! Rows are looked at again only where attempts differ: the states of the last long attempt are kept for each row, and an attempt that
//! comes to the same state at the same row goes on where that one stopped. Attempts of different starts mostly are in the same state after
//! a few rows. Where they are not (`(A A)* B`), what failed is remembered for each row and inner state; so without a bound in time no
//! inner state fails twice at a row, beyond the first few rows of an attempt.

use std::cell::Cell;
use std::ops::Range;

use crate::determinise::{ACCEPTS, Attempts, DEAD, DECIDED, NEW, NONE, START, START_FIRST};
use crate::few::Few;
use crate::fold::{Fold, IDLE};
use crate::key::{Active, Key};
use crate::long::{LONG_ROWS, Long, Standing};
use crate::matcher::{Found, Label, Match, MatcherSpec, Overflow, Skip, Status, next_start};
use crate::pattern::PatternError;
use crate::short::{SHORT_ROWS, Short};
use crate::thread_run::Until;
use crate::viable::StartBits;

/// An attempt that fails so early is simply made again.
const REMEMBERED_ROWS_MIN: usize = 8;

/// Rows before the start are thrown away when they are so many, and half of all.
const PASSED_ROWS_MIN: usize = 64;

/// What a key has while rows are under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dense {
    /// The first row under way.
    pub(crate) start: u64,
    /// How many rows before it are in the vectors below.
    passed: usize,
    /// Of each row.
    classes: Few<u8, 8>,
    /// After each row that the attempt has looked at.
    states: Few<u8, 8>,
    /// Of each row, where there is a bound in time.
    times: Vec<i64>,
    /// Of each row, inner states that lead nowhere; shorter where nothing is known.
    failed: Vec<u64>,
    attempt: DenseAttempt,
    pub(crate) told_until: u64,
}

impl Dense {
    /// No row yet, but what was told.
    pub(crate) fn after_partial(start: u64, told_until: u64) -> Self {
        Self { start, told_until, ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.classes.bytes()
            + self.states.bytes()
            + size_of::<i64>() * self.times.capacity()
            + size_of::<u64>() * self.failed.capacity()
    }

    /// Touches its lines.
    #[inline]
    pub(crate) fn look_ahead(&self) -> u64 {
        let times = self.times.first().map_or(0, |time| *time as u64);
        self.start ^ self.attempt.taken as u64 ^ self.classes.look_ahead() ^ self.states.look_ahead() ^ times
    }

    pub(crate) fn deadline(&self) -> Option<i64> {
        self.attempt.deadline.filter(|_| !self.attempt.waits_for_end)
    }

    /// The same in the key itself, where it has become so short.
    pub(crate) fn shortened(&self, within: Option<i64>) -> Option<Short> {
        let classes = &self.classes.as_slice()[self.passed..];
        // Those that are near the bound go back and forth, which costs more than staying.
        let is_short = classes.len() <= SHORT_ROWS / 2
            && self.attempt.taken == classes.len()
            && !self.attempt.waits_for_end
            && self.told_until <= self.start;
        if !is_short {
            return None;
        }
        let times = self.times.get(self.passed..).unwrap_or(&[]);
        Short::of(self.start, classes, times, within, self.attempt.state)
    }
}

/// The attempt at the first row under way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DenseAttempt {
    begun: bool,
    /// The time is over, but it is a match if no row comes at all.
    waits_for_end: bool,
    /// Folded: the way of the first attempt is not that of its most preferred partial match throughout.
    pub(crate) turned: bool,
    pub(crate) state: u8,
    /// How many rows it has looked at.
    pub(crate) taken: usize,
    /// How many rows the match has that it is if no preferred one comes.
    best: Option<usize>,
    /// The last time at which a further row may have a part in it.
    deadline: Option<i64>,
}

/// States that an earlier attempt left behind.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    /// At these rows,
    rows: (usize, usize),
    /// with a match up to here, or none (0).
    best_end: usize,
}

/// Rows as they lie, and what is known of them.
pub(crate) struct Rows<'a> {
    /// The number of the first one.
    pub(crate) base: u64,
    pub(crate) classes: &'a [u8],
    times: &'a [i64],
    pub(crate) states: &'a mut [u8],
    failed: &'a mut Vec<u64>,
}

/// What is needed to run; see [`Attempts`].
#[derive(Debug, Clone)]
pub(crate) struct DenseMatcher {
    pub(crate) attempts: Attempts,
    /// All attempts as one, where that is possible and what is asked for.
    pub(crate) fold: Option<Fold>,
    /// Whether an attempt at a row of a class can do better than fail at once: elsewhere, and at the partition's first row.
    may_start: [Vec<bool>; 2],
    /// Whether it may be empty: elsewhere, and at the partition's first row.
    may_be_empty: [bool; 2],
}

impl DenseMatcher {
    pub(crate) fn new(attempts: Attempts, fold: Option<Fold>, class_count: usize, may_be_empty: [bool; 2]) -> Self {
        let may_start = |start: u8, empty: bool| {
            let class = |class| empty || attempts.transitions.next(start, class) != DEAD;
            (0..class_count).map(|index| class(index as u8)).collect()
        };
        let may_start = [may_start(START, may_be_empty[0]), may_start(START_FIRST, may_be_empty[1])];
        Self { attempts, fold, may_start, may_be_empty }
    }

    /// The state before the first row of an attempt at a row of the partition, where all attempts are one automaton or each is by itself.
    /// `None`: what comes of it may be no row at all.
    #[inline]
    pub(crate) fn state_before(&self, position: u64, fold: Option<&Fold>) -> Option<u8> {
        let first = position == 0;
        if self.may_be_empty[usize::from(first)] {
            return None;
        }
        Some(match fold {
            Some(fold) if first => fold.first,
            Some(_) => IDLE,
            None if first => START_FIRST,
            None => START,
        })
    }

    /// How many of the rows start nothing.
    #[inline]
    pub(crate) fn idle_rows(&self, position: u64, classes: &[u8]) -> usize {
        let Some((first, rest)) = classes.split_first().filter(|_| position == 0) else {
            return classes.iter().take_while(|class| !self.may_start[0][usize::from(**class)]).count();
        };
        if self.may_start[1][usize::from(*first)] {
            return 0;
        }
        1 + rest.iter().take_while(|class| !self.may_start[0][usize::from(**class)]).count()
    }
}

/// What serves all partitions one after the other, and is kept for its capacity.
#[derive(Debug, Default)]
struct Scratch {
    /// States of rows that come while few or none are under way.
    states: Vec<u8>,
    /// Rows that were under way and those that come.
    classes: Vec<u8>,
    times: Vec<i64>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch { states: Vec::new(), classes: Vec::new(), times: Vec::new() }) };
}

/// A pass over the rows of a partition.
pub(crate) struct DenseRun<'a> {
    pub(crate) spec: &'a MatcherSpec,
    pub(crate) matcher: &'a DenseMatcher,
    pub(crate) fold: Option<&'a Fold>,
    pub(crate) labels: bool,
    pub(crate) until: Until,
    /// Where attempts may begin among the rows that come, if that is known.
    pub(crate) starts: Option<StartBits<'a>>,
    pub(crate) found: &'a mut Found,
}

/// The parts of a key that a pass changes.
pub(crate) struct Counts<'a> {
    pub(crate) number: &'a mut u64,
    pub(crate) matched_until: &'a mut u64,
    told_until: u64,
}

impl DenseRun<'_> {
    /// Rows come to a key that has none under way; gives what is under way then.
    pub(crate) fn run_new(
        &mut self,
        key: &mut Key,
        classes: &[u8],
        times: &[i64],
    ) -> Result<Option<Active>, PatternError> {
        let mut scratch = SCRATCH.take();
        let base = key.position;
        key.position += classes.len() as u64;
        let result = self.run_from(key, base, (classes, times), DenseAttempt::default(), &mut scratch.states);
        SCRATCH.set(scratch);
        result
    }

    /// Rows come (or none, but time passes or the partition ends) to a key that has few under way, over which an attempt is made again.
    pub(crate) fn run_again(
        &mut self,
        key: &mut Key,
        short: &Short,
        classes: &[u8],
        times: &[i64],
    ) -> Result<Option<Active>, PatternError> {
        let mut scratch = SCRATCH.take();
        key.position += classes.len() as u64;
        let Scratch { states, classes: all_classes, times: all_times } = &mut scratch;
        all_classes.clear();
        all_classes.extend_from_slice(short.classes());
        all_classes.extend_from_slice(classes);
        all_times.clear();
        all_times.extend(short.times(self.spec.within));
        all_times.extend_from_slice(times);
        if let Some(starts) = &mut self.starts {
            starts.at = short.classes().len();
        }
        let result = self.run_from(key, short.start, (all_classes, all_times), DenseAttempt::default(), states);
        SCRATCH.set(scratch);
        result
    }

    /// Rows come to a key that has more under way. Those that decide nothing it takes; with the others, or where time passes or the partition
    /// ends, the attempt goes on from where it stands, with the states that it had.
    pub(crate) fn run_long(&mut self, key: &mut Key, classes: &[u8], times: &[i64]) -> Result<(), PatternError> {
        let Some(Active::Long(long)) = &mut key.active else { return Ok(()) };
        let taken = long.take(&self.matcher.attempts, self.spec, classes, times);
        key.position += taken as u64;
        if taken == classes.len() && !self.until.ended && self.until.time.is_none() {
            return Ok(());
        }
        let (classes, times) = (&classes[taken..], times.get(taken..).unwrap_or(&[]));
        key.position += classes.len() as u64;
        let Some(Active::Long(long)) = key.active.take() else { return Ok(()) };
        if let Some(starts) = &mut self.starts {
            starts.bit += taken;
            starts.at = long.rows();
        }
        let mut scratch = SCRATCH.take();
        let Scratch { states, classes: all_classes, times: all_times } = &mut scratch;
        all_classes.clear();
        all_classes.extend(long.classes());
        states.clear();
        let mut state = if long.start == 0 { START_FIRST } else { START };
        states.extend(all_classes.iter().map(|class| {
            state = self.matcher.attempts.transitions.next(state, *class);
            state
        }));
        let Standing { state, best } = long.standing();
        debug_assert_eq!(states.last(), Some(&state), "states follow from the rows");
        all_classes.extend_from_slice(classes);
        all_times.clear();
        all_times.extend(long.times(self.spec.within));
        all_times.extend_from_slice(times);
        let attempt = DenseAttempt {
            begun: true,
            state,
            taken: long.rows(),
            best,
            deadline: self.spec.within.map(|within| all_times[0].saturating_add(within)),
            ..DenseAttempt::default()
        };
        let result = self.run_from(key, long.start, (all_classes, all_times), attempt, states);
        SCRATCH.set(scratch);
        key.active = result?;
        Ok(())
    }

    /// Rows from `base` on, none of which has decided anything. `states` has those of the rows that the attempt has taken.
    fn run_from(
        &mut self,
        key: &mut Key,
        base: u64,
        (classes, times): (&[u8], &[i64]),
        mut attempt: DenseAttempt,
        states: &mut Vec<u8>,
    ) -> Result<Option<Active>, PatternError> {
        if states.len() < classes.len() {
            states.resize(classes.len(), 0);
        }
        let mut failed = Vec::new();
        let mut rows = Rows { base, classes, times, states, failed: &mut failed };
        let mut start = 0;
        let mut counts = Counts { number: &mut key.number, matched_until: &mut key.matched_until, told_until: 0 };
        self.run_rows(&mut rows, &mut start, &mut attempt, &mut counts)?;
        let told_until = counts.told_until;
        if start == classes.len() {
            return Ok(None);
        }
        let (first, rest, rest_times) = (base + start as u64, &classes[start..], times.get(start..).unwrap_or(&[]));
        if rest.len() <= SHORT_ROWS
            && attempt.taken == rest.len()
            && told_until <= first
            && !attempt.waits_for_end
            && let Some(short) = Short::of(first, rest, rest_times, self.spec.within, attempt.state)
        {
            return Ok(Some(Active::Short(short)));
        }
        let standing = Standing { state: attempt.state, best: attempt.best };
        let is_waiting = self.fold.is_none() && attempt.begun && attempt.taken == rest.len() && failed.is_empty();
        if is_waiting
            && rest.len() <= LONG_ROWS
            && told_until <= first
            && !attempt.waits_for_end
            && let Some(long) = Long::of(first, (rest, rest_times), standing, self.spec.within)
        {
            return Ok(Some(Active::Long(long)));
        }
        let mut dense = Dense { start: first, attempt, told_until, ..Dense::default() };
        dense.classes.extend_from_slice(rest);
        dense.states.extend_from_slice(&states[start..start + attempt.taken]);
        dense.times.extend_from_slice(rest_times);
        dense.failed.extend_from_slice(failed.get(start..).unwrap_or(&[]));
        Ok(Some(Active::Dense(Box::new(dense))))
    }

    /// Rows come to a key that has some under way (or none come, but time passes or the partition ends); false if none is left.
    pub(crate) fn run_on(
        &mut self,
        key: &mut Key,
        dense: &mut Dense,
        classes: &[u8],
        times: &[i64],
    ) -> Result<bool, PatternError> {
        if let Some(starts) = &mut self.starts {
            starts.at = dense.classes.as_slice().len();
        }
        dense.classes.extend_from_slice(classes);
        dense.times.extend_from_slice(times);
        key.position += classes.len() as u64;
        let count = dense.classes.as_slice().len();
        dense.states.resize(count);
        let base = dense.start - dense.passed as u64;
        let mut rows = Rows {
            base,
            classes: dense.classes.as_slice(),
            times: &dense.times,
            states: dense.states.as_mut_slice(),
            failed: &mut dense.failed,
        };
        let mut start = dense.passed;
        let mut counts =
            Counts { number: &mut key.number, matched_until: &mut key.matched_until, told_until: dense.told_until };
        let result = self.run_rows(&mut rows, &mut start, &mut dense.attempt, &mut counts);
        dense.told_until = counts.told_until;
        dense.start = base + start as u64;
        dense.passed = start;
        result?;
        if start == count && dense.told_until <= dense.start {
            return Ok(false);
        }
        if dense.passed >= PASSED_ROWS_MIN && dense.passed >= count / 2 || start == count || count <= 8 {
            dense.classes.remove_front(start);
            dense.states.remove_front(start);
            dense.times.drain(..start.min(dense.times.len()));
            dense.failed.drain(..start.min(dense.failed.len()));
            dense.passed = 0;
        }
        Ok(true)
    }

    fn run_rows(
        &mut self,
        rows: &mut Rows<'_>,
        start: &mut usize,
        attempt: &mut DenseAttempt,
        counts: &mut Counts<'_>,
    ) -> Result<(), PatternError> {
        match self.fold {
            Some(fold) => self.run_folded(fold, rows, start, attempt, counts),
            None => self.run(rows, start, attempt, counts),
        }
    }

    /// Decides all attempts that can be decided.
    pub(crate) fn run(
        &mut self,
        rows: &mut Rows<'_>,
        start: &mut usize,
        attempt: &mut DenseAttempt,
        counts: &mut Counts<'_>,
    ) -> Result<(), PatternError> {
        let mut left = Left::default();
        let count = rows.classes.len();
        while *start < count {
            if let Some(starts) = self.starts.as_ref().filter(|_| !attempt.begun) {
                *start = starts.next(*start, count);
                if *start == count {
                    break;
                }
            }
            let at_first = usize::from(rows.base == 0 && *start == 0);
            if !attempt.begun {
                if !self.matcher.may_start[at_first][usize::from(rows.classes[*start])] {
                    self.no_match(rows.base + *start as u64, counts);
                    *start += 1;
                    continue;
                }
                *attempt = DenseAttempt {
                    begun: true,
                    state: if at_first == 1 { START_FIRST } else { START },
                    best: self.matcher.may_be_empty[at_first].then_some(0),
                    deadline: self.spec.within.map(|within| rows.times[*start].saturating_add(within)),
                    ..DenseAttempt::default()
                };
            }
            let mut timed = false;
            let stop = if attempt.deadline.is_some() {
                self.advance::<true>(rows, *start, attempt, &mut left)
            } else {
                self.advance::<false>(rows, *start, attempt, &mut left)
            };
            let mut last = None;
            let mut given_up = false;
            match stop {
                Stop::Decided => {}
                Stop::OutOfTime => timed = true,
                Stop::TooLong if self.spec.overflow == Overflow::Error => {
                    return Err(PatternError::TooManyPartial { max: self.spec.max_partial });
                }
                Stop::TooLong => given_up = true,
                Stop::OutOfRows => {
                    let at_end = if attempt.taken == 0 {
                        NONE
                    } else {
                        self.matcher.attempts.at_end[usize::from(attempt.state)]
                    };
                    let expired =
                        self.until.time.is_some_and(|time| attempt.deadline.is_some_and(|deadline| deadline < time));
                    if self.until.ended {
                        if at_end != NONE {
                            attempt.best = Some(attempt.taken);
                            last = Some(at_end);
                        }
                    } else if expired && at_end == NONE {
                        timed = true;
                    } else {
                        attempt.waits_for_end |= expired;
                        return Ok(());
                    }
                }
            }
            let next = if given_up {
                self.found.dropped += 1;
                self.no_match(rows.base + *start as u64, counts);
                1
            } else {
                if !timed && self.spec.within.is_none() && !self.spec.partial {
                    self.remember(rows, *start, attempt);
                }
                self.decide(rows, *start, attempt, last, counts)?
            };
            self.leave(*start, attempt, &mut left);
            *start += next;
            *attempt = DenseAttempt::default();
        }
        Ok(())
    }

    /// Takes rows until something is decided.
    fn advance<const TIMED: bool>(
        &self,
        rows: &mut Rows<'_>,
        start: usize,
        attempt: &mut DenseAttempt,
        left: &mut Left,
    ) -> Stop {
        let attempts = &self.matcher.attempts;
        let deadline = attempt.deadline.unwrap_or(i64::MAX);
        let long = start.saturating_add(self.spec.max_partial);
        let count = rows.classes.len();
        let (mut at, mut state, mut best) = (start + attempt.taken, attempt.state, attempt.best);
        let stop = loop {
            if at == count {
                break Stop::OutOfRows;
            }
            if TIMED && rows.times[at] > deadline {
                break Stop::OutOfTime;
            }
            let next = attempts.transitions.next(state, rows.classes[at]);
            #[cfg(test)]
            crate::thread_run::work::add(1);
            if next == DEAD
                || rows.failed.get(at).is_some_and(|failed| attempts.members[usize::from(next)] & !failed == 0)
            {
                break Stop::Decided;
            }
            state = next;
            if at < left.rows.1 && at >= left.rows.0 && rows.states[at] == next {
                // From here on it is what an earlier attempt was.
                if left.best_end > at {
                    best = Some(left.best_end - start);
                }
                at = left.rows.1;
                left.rows.0 = start;
                state = rows.states[at - 1];
            } else {
                rows.states[at] = next;
                at += 1;
                if attempts.flags[usize::from(state)] & ACCEPTS != 0 {
                    best = Some(at - start);
                }
            }
            let decided = attempts.flags[usize::from(state)] & DECIDED != 0;
            if at - usize::from(decided) > long {
                break Stop::TooLong;
            }
            if decided {
                break Stop::Decided;
            }
        };
        (attempt.taken, attempt.state, attempt.best) = (at - start, state, best);
        stop
    }

    /// Its states may serve the next attempt, unless those of an earlier one reach further.
    fn leave(&self, start: usize, attempt: &DenseAttempt, left: &mut Left) {
        let end = start + attempt.taken;
        let kept = left.rows.1.saturating_sub(left.rows.0.max(end));
        if attempt.taken >= kept {
            *left = Left { rows: (start, end), best_end: attempt.best.map_or(0, |best| start + best) };
        } else {
            left.rows.0 = left.rows.0.max(end);
        }
    }

    /// Notes which inner states lead nowhere: all after the match or, without one, all.
    fn remember(&self, rows: &mut Rows<'_>, start: usize, attempt: &DenseAttempt) {
        let (from, to) = (start + attempt.best.unwrap_or(0), start + attempt.taken);
        if to - from < REMEMBERED_ROWS_MIN {
            return;
        }
        if rows.failed.len() < to {
            rows.failed.resize(to, 0);
        }
        for (failed, state) in rows.failed[from..to].iter_mut().zip(&rows.states[from..to]) {
            *failed |= self.matcher.attempts.members[usize::from(*state)];
        }
    }

    /// Tells what the attempt came to, and after how many rows the next one begins. `last`: which of the partial matches is the match,
    /// where that is not the accepting one.
    fn decide(
        &mut self,
        rows: &Rows<'_>,
        start: usize,
        attempt: &DenseAttempt,
        last: Option<u8>,
        counts: &mut Counts<'_>,
    ) -> Result<usize, PatternError> {
        let first = rows.base + start as u64;
        let Some(length) = attempt.best else {
            self.tell_partial(rows, start, attempt, counts);
            self.no_match(first, counts);
            return Ok(1);
        };
        let named = self.labels || matches!(self.spec.skip, Skip::ToFirst(_) | Skip::ToLast(_));
        let begin = self.found.labels.len();
        if named && length > 0 {
            let last = last.unwrap_or_else(|| self.matcher.attempts.accepted(rows.states[start + length - 1]));
            self.push_labels(rows, start..start + length, last);
        }
        let next = if named {
            next_start(self.spec, first, &self.found.labels[begin..], &mut self.found.bad_skips)?
        } else if self.spec.skip == Skip::PastLastRow {
            length.max(1)
        } else {
            1
        };
        if !self.labels {
            self.found.labels.truncate(begin);
        }
        *counts.number += 1;
        *counts.matched_until = (*counts.matched_until).max(first + length as u64);
        let labels = begin..begin + length;
        self.found.matches.push(Match { first, number: *counts.number, labels, status: Status::Complete });
        Ok(next)
    }

    #[inline]
    pub(crate) fn no_match(&mut self, row: u64, counts: &Counts<'_>) {
        if self.spec.unmatched && row >= *counts.matched_until {
            self.found.unmatched.push(row);
        }
    }

    fn tell_partial(&mut self, rows: &Rows<'_>, start: usize, attempt: &DenseAttempt, counts: &mut Counts<'_>) {
        let first = rows.base + start as u64;
        let end = first + attempt.taken as u64;
        let told = self.spec.skip == Skip::PastLastRow && end <= counts.told_until;
        if !self.spec.partial || attempt.taken == 0 || told {
            return;
        }
        let begin = self.found.labels.len();
        if self.labels {
            self.push_labels(rows, start..start + attempt.taken, 0);
        }
        counts.told_until = counts.told_until.max(end);
        let labels = begin..begin + attempt.taken;
        self.found.matches.push(Match { first, number: *counts.number + 1, labels, status: Status::Timeout });
    }

    /// The way of the partial match `last` of the last of these rows.
    fn push_labels(&mut self, rows: &Rows<'_>, range: Range<usize>, last: u8) {
        let attempts = &self.matcher.attempts;
        let (classes, states) = (&rows.classes[range.clone()], &rows.states[range]);
        let labels = &mut self.found.labels;
        if attempts.direct && last == 0 {
            labels.extend(states.iter().map(|state| attempts.first_labels[usize::from(*state)]));
            return;
        }
        let begin = labels.len();
        labels.resize(begin + states.len(), Label(0));
        let mut member = last;
        for at in (0..states.len()).rev() {
            labels[begin + at] = attempts.labels[usize::from(states[at])][usize::from(member)];
            if at > 0 {
                member = attempts.transitions.origin(states[at - 1], classes[at], member);
                debug_assert_ne!(member, NEW, "only the first row begins an attempt");
            }
        }
    }
}

/// Why an attempt takes no further row.
enum Stop {
    Decided,
    OutOfTime,
    OutOfRows,
    TooLong,
}
