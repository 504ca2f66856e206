//! Threads take rows: all partial matches of an attempt, one by one and in order ([`Attempt`](crate::attempt::Attempt)).
//!
//! This is how every pattern can be run; where conditions are bits and the pattern is small, [`dense`](crate::dense) is quicker.

use std::cell::Cell;

use crate::attempt::{Attempt, Thread, ThreadRows, is_known};
use crate::automaton::{Automaton, StateId, Step};
use crate::conditions::{Conditions, NO_NODE, Trail, TrailNode};
use crate::distinct::{Distinct, push_few};
use crate::key::Key;
use crate::matcher::{Found, Label, Match, Matcher, MatcherSpec, Overflow, Skip, Status, next_start};
use crate::packed::Packed;
use crate::pattern::PatternError;
use crate::symbols::ThreadSymbols;
use crate::viable::all_starts;

/// The state of a thread that took no row yet.
pub(crate) const AT_START: StateId = StateId::MAX;

/// With fewer nodes, those of dead threads are left where they are.
pub(crate) const KEPT_NODES_MIN: usize = 1024;

/// What failed within so many rows is simply tried again, unless as many partial matches did; tests are short.
pub(crate) const FORGOTTEN_ROWS: usize = if cfg!(test) { 4 } else { 8 };

/// So much is noted of one attempt.
const LIVED_WORDS_MAX: usize = 1 << 22;

/// Fewer rows are not looked back at: attempts over them cost little, and keys with few rows are many.
const LOOKED_BACK_ROWS_MIN: usize = if cfg!(test) { 2 } else { 64 };

/// How many transitions were tried, on this thread: what tests bound instead of time.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local!(static TRIED: Cell<u64> = const { Cell::new(0) });

    pub(crate) fn add(count: u64) {
        TRIED.with(|tried| tried.set(tried.get() + count));
    }

    pub(crate) fn take() -> u64 {
        TRIED.with(Cell::take)
    }
}

/// How far a partition is decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    /// No further row comes.
    pub(crate) ended: bool,
    /// No further row before this time comes.
    pub(crate) time: Option<i64>,
}

/// A pass over the rows that a partition has.
pub(crate) struct Run<'a, C> {
    matcher: &'a Matcher,
    until: Until,
    conditions: &'a mut C,
    found: &'a mut Found,
    register_count: usize,
    /// Partial matches in one state with equal registers are one.
    merges: bool,
    /// What fails is remembered. Where partial matches are told it matters how long they lived, so there it is not.
    remembers: bool,
    /// Bits may tell where no match begins. Where conditions are bits, what is remembered does; partial matches are told that lead to none;
    /// and how many attempts are given up must not depend on how many rows came at once.
    looks_back: bool,
    scratch: Box<Scratch>,
}

/// What is empty between two rows, and kept for its capacity.
#[derive(Debug, Default)]
struct Scratch {
    threads: Vec<Thread>,
    registers: Vec<u64>,
    distinct: Distinct,
    /// What was asked of one thread: for each variable where its registers are in `asked_registers`, if its condition holds.
    asked: Vec<(u8, Option<usize>)>,
    asked_registers: Vec<u64>,
    /// Of keys that have no rows under way any more.
    #[expect(clippy::vec_box, reason = "they go into keys, and come from there, as they are")]
    spare: Vec<Box<ThreadRows>>,
}

/// As many as go back and forth within a few calls; more would only be memory.
const SPARE_MAX: usize = 4;

/// Larger ones are not kept.
const SPARE_ROWS_MAX: usize = 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl<C> Drop for Run<'_, C> {
    fn drop(&mut self) {
        // After an error they are not empty.
        self.scratch.threads.clear();
        self.scratch.registers.clear();
        SCRATCH.set(Some(std::mem::take(&mut self.scratch)));
    }
}

impl<'a, C: Conditions> Run<'a, C> {
    pub(crate) fn new(matcher: &'a Matcher, until: Until, conditions: &'a mut C, found: &'a mut Found) -> Self {
        let MatcherSpec { asks, partial, overflow, .. } = matcher.spec;
        let register_count = if asks { conditions.register_count() } else { 0 };
        let merges = !asks || !conditions.reads_trail();
        let remembers = !partial && merges && (!asks || conditions.forgets());
        Self {
            matcher,
            until,
            conditions,
            found,
            register_count,
            merges,
            remembers,
            looks_back: asks && !partial && overflow == Overflow::Error,
            scratch: SCRATCH.take().unwrap_or_default(),
        }
    }

    /// For a key that had no rows under way.
    pub(crate) fn begin_rows(&mut self, start: u64) -> Box<ThreadRows> {
        let mut rows = self.scratch.spare.pop().unwrap_or_default();
        (rows.start, rows.told_until) = (start, 0);
        rows
    }

    /// For a key that has few.
    pub(crate) fn unpack(&mut self, packed: &Packed) -> Box<ThreadRows> {
        let mut rows = self.begin_rows(packed.start);
        packed.unpack(&mut rows, self.nodes_max());
        rows
    }

    fn nodes_max(&self) -> usize {
        KEPT_NODES_MIN.min(self.matcher.spec.max_partial)
    }

    /// They are packed, or the key has none under way any more.
    pub(crate) fn end_rows(&mut self, mut rows: Box<ThreadRows>) {
        if rows.rows.capacity() <= SPARE_ROWS_MAX && self.scratch.spare.len() < SPARE_MAX {
            rows.clear();
            self.scratch.spare.push(rows);
        }
    }

    /// Takes in rows; `active` is the key's.
    pub(crate) fn feed(
        &mut self,
        key: &mut Key,
        active: &mut ThreadRows,
        rows: ThreadSymbols<'_>,
    ) -> Result<(), PatternError> {
        active.rows.extend_from_slice(rows.bits);
        active.values.extend_from_slice(rows.values);
        active.times.extend_from_slice(rows.times);
        active.value_count = active.values.len().checked_div(active.rows.len()).unwrap_or(0);
        key.position += rows.bits.len() as u64;
        self.run(key, active)
    }

    /// Decides all attempts that can be decided.
    fn run(&mut self, key: &mut Key, active: &mut ThreadRows) -> Result<(), PatternError> {
        while !active.rows.is_empty() {
            if !active.attempt.begun {
                self.begin(active, key.number + 1);
            }
            let mut given_up = false;
            while !active.attempt.threads.is_empty() && active.attempt.taken < active.rows.len() {
                self.take_row(active)?;
                if self.too_many(active)? {
                    given_up = true;
                    break;
                }
            }
            if !given_up && !active.attempt.threads.is_empty() && !self.cease(active) {
                return Ok(());
            }
            self.look_back(active);
            let next = if given_up {
                self.found.dropped += 1;
                self.no_match(active, key.matched_until)
            } else {
                self.decide(key, active)?
            };
            active.drop_front(next);
            active.attempt.reset();
        }
        Ok(())
    }

    /// Finds out where matches may begin, where attempts have cost as much as that does and it can tell anything new.
    fn look_back(&self, active: &mut ThreadRows) {
        let by = (active.start + active.rows.len() as u64, self.until.ended);
        let is_new = active.possible_by != by && active.rows.len() >= LOOKED_BACK_ROWS_MIN;
        if !self.looks_back || !is_new || active.tried / self.matcher.transitions <= active.rows.len() {
            return;
        }
        active.possible = all_starts(&self.matcher.automaton, &active.rows, active.start, self.until.ended);
        (active.possible_by, active.tried) = (by, 0);
    }

    fn begin(&mut self, active: &mut ThreadRows, number: u64) {
        let nodes_max = self.nodes_max();
        let attempt = &mut active.attempt;
        attempt.begun = true;
        attempt.longest = (NO_NODE, 0);
        attempt.nodes_max = nodes_max;
        if !self.matcher.may_start(active.start, active.rows[0]) || active.possible.front() == Some(&false) {
            return;
        }
        let steps = steps(&self.matcher.automaton, AT_START, active.start);
        if steps.contains(&Step::Accept) {
            attempt.best = Some((NO_NODE, 0));
        }
        if steps.first().is_some_and(|step| *step != Step::Accept) {
            attempt.threads.push(Thread { state: AT_START, node: NO_NODE });
            attempt.registers.resize(self.register_count, 0);
            if self.matcher.spec.asks {
                self.conditions.begin(active.start, number, &mut attempt.registers);
            }
            let within = self.matcher.spec.within;
            attempt.deadline = within.and_then(|within| active.times.first().map(|first| first.saturating_add(within)));
        }
    }

    /// All threads take the next row.
    fn take_row(&mut self, active: &mut ThreadRows) -> Result<(), PatternError> {
        let Self { matcher, conditions, register_count, merges, remembers, scratch, .. } = self;
        let Scratch { threads, registers, distinct, asked, asked_registers, .. } = &mut **scratch;
        let (automaton, asks, register_count) = (&matcher.automaton, matcher.spec.asks, *register_count);
        let attempt = &mut active.attempt;
        let taken = attempt.taken;
        let row = active.start + taken as u64;
        let bits = active.rows[taken];
        let values = &active.values[taken * active.value_count..][..active.value_count];
        let in_time = attempt.deadline.is_none_or(|deadline| active.times[taken] <= deadline);
        let failed: &[u64] = active.failed.get(taken).map_or(&[], |failed| failed);
        let mut first_node = None;
        // One partial match goes on in states that differ.
        let merges = *merges && attempt.threads.len() > 1;
        distinct.clear();
        'threads: for (index, thread) in attempt.threads.iter().enumerate() {
            asked.clear();
            asked_registers.clear();
            for step in steps(automaton, thread.state, active.start) {
                let Step::To(id) = *step else { continue };
                active.tried += 1;
                #[cfg(test)]
                work::add(1);
                let state = &automaton.states[id as usize];
                if bits >> state.variable & 1 == 0 {
                    continue;
                }
                if !in_time {
                    attempt.timed = true;
                    break 'threads;
                }
                let mut own: &[u64] = &[];
                if asks {
                    let answer = match asked.iter().find(|(variable, _)| *variable == state.variable) {
                        Some((_, answer)) => *answer,
                        None => {
                            let begin = asked_registers.len();
                            push_few(asked_registers, &attempt.registers[index * register_count..][..register_count]);
                            let nodes = &attempt.nodes;
                            let trail = Trail { nodes, states: &automaton.states, last: thread.node, row, values };
                            let holds = conditions.take(state.variable, row, trail, &mut asked_registers[begin..])?;
                            asked.push((state.variable, holds.then_some(begin)));
                            holds.then_some(begin)
                        }
                    };
                    let Some(begin) = answer else { continue };
                    own = &asked_registers[begin..begin + register_count];
                }
                if !failed.is_empty() && is_known(failed, id, own) {
                    continue;
                }
                if merges && !distinct.insert(id, own) {
                    continue;
                }
                let node = u32::try_from(attempt.nodes.len()).ok().filter(|node| *node != NO_NODE);
                let node = node.ok_or(PatternError::TooManyPartial { max: matcher.spec.max_partial })?;
                attempt.nodes.push(TrailNode { before: thread.node, state: id });
                first_node.get_or_insert(node);
                if state.goes_on() {
                    threads.push(Thread { state: id, node });
                    push_few(registers, own);
                }
                if state.accepts() {
                    attempt.best = Some((node, taken + 1));
                    break 'threads;
                }
            }
        }
        attempt.taken += 1;
        if let Some(node) = first_node.filter(|_| matcher.spec.partial) {
            attempt.longest = (node, attempt.taken);
        }
        std::mem::swap(&mut attempt.threads, threads);
        std::mem::swap(&mut attempt.registers, registers);
        let many = taken.max(attempt.threads.len()) >= FORGOTTEN_ROWS;
        if *remembers && many && attempt.lived.len() < LIVED_WORDS_MAX {
            for (index, thread) in attempt.threads.iter().enumerate() {
                attempt.lived.extend([attempt.taken as u64, u64::from(thread.state)]);
                push_few(&mut attempt.lived, &attempt.registers[index * register_count..][..register_count]);
            }
        }
        threads.clear();
        registers.clear();
        Ok(())
    }

    /// Keeps the trails short; true if the attempt is to be given up.
    fn too_many(&mut self, active: &mut ThreadRows) -> Result<bool, PatternError> {
        let MatcherSpec { asks, max_partial, overflow, .. } = self.matcher.spec;
        let attempt = &mut active.attempt;
        if attempt.threads.is_empty() {
            return Ok(false);
        }
        let mut live = 0;
        if attempt.nodes.len() > attempt.nodes_max {
            attempt.collect();
            // Near the bound it is done more often, but still only after a fixed part of them is new.
            live = attempt.nodes.len();
            attempt.nodes_max = (2 * live).max(KEPT_NODES_MIN).min(max_partial.max(live + live / 8));
        }
        // Where only bits count, what is remembered of other attempts makes for fewer threads; but not for fewer rows.
        let partial = if asks { live } else { attempt.taken };
        if partial <= max_partial {
            return Ok(false);
        }
        match overflow {
            Overflow::Error => Err(PatternError::TooManyPartial { max: max_partial }),
            Overflow::DropOldest => Ok(true),
        }
    }

    /// Threads are alive, but there are no more rows: whether that decides it.
    fn cease(&mut self, active: &mut ThreadRows) -> bool {
        let attempt = &mut active.attempt;
        let states = &self.matcher.automaton.states;
        // A thread that has no row yet cannot be at the end, as there is a row.
        let at_end = |thread: &&Thread| thread.state != AT_START && states[thread.state as usize].accepts_at_end();
        let complete = attempt.threads.iter().find(at_end);
        if self.until.ended {
            if let Some(thread) = complete {
                attempt.best = Some((thread.node, attempt.taken));
            }
            return true;
        }
        let expired = self.until.time.is_some_and(|time| attempt.deadline.is_some_and(|deadline| deadline < time));
        if expired && complete.is_some() {
            attempt.waits_for_end = true;
            return false;
        }
        attempt.timed |= expired;
        expired
    }

    /// Tells what the attempt came to, and after how many rows the next one begins.
    fn decide(&mut self, key: &mut Key, active: &mut ThreadRows) -> Result<usize, PatternError> {
        if self.remembers {
            active.attempt.remember(&mut active.failed, self.register_count);
        }
        let attempt = &active.attempt;
        let Some((node, rows)) = attempt.best else {
            self.tell_partial(active, key.number + 1);
            return Ok(self.no_match(active, key.matched_until));
        };
        let labels = self.push_labels(attempt, node, rows);
        let named = &self.found.labels[labels.clone()];
        let next = next_start(&self.matcher.spec, active.start, named, &mut self.found.bad_skips)?;
        key.number += 1;
        let first = active.start;
        key.matched_until = key.matched_until.max(first + rows as u64);
        self.found.matches.push(Match { first, number: key.number, labels, status: Status::Complete });
        Ok(next)
    }

    /// No match begins at the row.
    fn no_match(&mut self, active: &ThreadRows, matched_until: u64) -> usize {
        if self.matcher.spec.unmatched && active.start >= matched_until {
            self.found.unmatched.push(active.start);
        }
        1
    }

    fn tell_partial(&mut self, active: &mut ThreadRows, number: u64) {
        let MatcherSpec { partial, skip, .. } = self.matcher.spec;
        let (node, rows) = active.attempt.longest;
        let end = active.start + rows as u64;
        if !partial || rows == 0 || skip == Skip::PastLastRow && end <= active.told_until {
            return;
        }
        let labels = self.push_labels(&active.attempt, node, rows);
        active.told_until = active.told_until.max(end);
        self.found.matches.push(Match { first: active.start, number, labels, status: Status::Timeout });
    }

    fn push_labels(&mut self, attempt: &Attempt, node: u32, rows: usize) -> std::ops::Range<usize> {
        let labels = &mut self.found.labels;
        let begin = labels.len();
        let mut next = node;
        while let Some(node) = attempt.nodes.get(next as usize) {
            let state = &self.matcher.automaton.states[node.state as usize];
            labels.push(Label::new(state.variable, state.excluded));
            next = node.before;
        }
        labels[begin..].reverse();
        debug_assert_eq!(labels.len() - begin, rows, "a thread has taken each row");
        begin..labels.len()
    }
}

/// Where a thread may go on, of an attempt that began at row `start`.
pub(crate) fn steps(automaton: &Automaton, state: StateId, start: u64) -> &[Step] {
    match automaton.states.get(state as usize) {
        Some(state) => &state.next,
        None if start == 0 => &automaton.start_first,
        None => &automaton.start,
    }
}
