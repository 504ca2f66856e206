//! One attempt to find a match: all partial matches that begin at one row, in order of preference.
//!
//! The partial matches (*threads*) take the rows together. Those in one state with the same registers have the same future, so only the
//! most preferred one goes on: there are never more than there are states (times registers), whatever the pattern. A thread in which a
//! match is complete cuts off all that are less preferred; when none is left before it, the match is decided.
//!
//! Attempts that fail one after the other could walk the same rows again and again (`A+ B` over many `A`). So what is known to fail is
//! remembered: a state and a row from which rows that have come lead to no match, wherever the attempt began. That holds where conditions
//! are bits, and where it was not the bound in time that ended it.

use std::cell::Cell;
use std::collections::VecDeque;

use crate::automaton::{Automaton, StateId, Step};
use crate::conditions::{Conditions, NO_NODE, Trail, TrailNode};
use crate::key::Key;
use crate::matcher::{Found, Label, Match, Matcher, MatcherSpec, Overflow, Skip, Status, next_start};
use crate::packed::Packed;
use crate::pattern::PatternError;

/// The state of a thread that took no row yet.
const AT_START: StateId = StateId::MAX;

/// With fewer threads, looking at each of them is quicker than a table.
const SCANNED_THREADS_MAX: usize = 16;

/// With fewer nodes, those of dead threads are left where they are.
const KEPT_NODES_MIN: usize = 1024;

/// Of attempts that ask conditions, what failed within so many rows is simply tried again; tests are short.
const FORGOTTEN_ROWS: usize = if cfg!(test) { 2 } else { 8 };

/// So much is noted of one attempt.
const LIVED_WORDS_MAX: usize = 1 << 20;

/// So many states with registers are remembered for a row: where each attempt has others, all that would be looked through in vain.
const KNOWN_REGISTERS_MAX: usize = 4;

/// A partial match.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Thread {
    state: StateId,
    /// Its last row.
    node: u32,
}

/// The partial matches that begin at one row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempt {
    pub(crate) begun: bool,
    /// How many rows it has looked at.
    pub(crate) taken: usize,
    /// Those that can become a match that is preferred to `best`, most preferred first.
    pub(crate) threads: Vec<Thread>,
    /// Of each thread.
    pub(crate) registers: Vec<u64>,
    /// The rows of all threads, as a forest.
    pub(crate) nodes: Vec<TrailNode>,
    /// How many nodes there may be before those of dead threads are thrown away.
    pub(crate) nodes_max: usize,
    /// Last node and count of rows of the match that it is if no thread completes.
    pub(crate) best: Option<(u32, usize)>,
    /// Last node and count of rows of the most preferred of the threads that lived longest.
    pub(crate) longest: (u32, usize),
    /// The bound in time ended a thread.
    pub(crate) timed: bool,
    /// The last time at which a further row may have a part in it.
    pub(crate) deadline: Option<i64>,
    /// That time has passed, but it is a match if no row comes at all.
    pub(crate) waits_for_end: bool,
    /// Of a long attempt, where that is worth to be remembered: for each thread that was alive the count of rows that it had, its state
    /// and its registers.
    lived: Vec<u64>,
}

impl Attempt {
    fn bytes(&self) -> usize {
        self.threads.capacity() * size_of::<Thread>()
            + self.registers.capacity() * size_of::<u64>()
            + self.nodes.capacity() * size_of::<TrailNode>()
            + self.lived.capacity() * size_of::<u64>()
    }

    fn reset(&mut self) {
        self.threads.clear();
        self.registers.clear();
        self.nodes.clear();
        self.lived.clear();
        *self = Self {
            threads: std::mem::take(&mut self.threads),
            registers: std::mem::take(&mut self.registers),
            nodes: std::mem::take(&mut self.nodes),
            lived: std::mem::take(&mut self.lived),
            ..Self::default()
        };
    }

    /// How many rows each node's way has; nodes stand after those before them.
    fn depths(&self) -> Vec<usize> {
        let mut depths: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            depths.push(1 + depths.get(node.before as usize).copied().unwrap_or(0));
        }
        depths
    }

    /// Throws away the nodes that no thread needs. `failed`: where it is remembered what failed.
    fn collect(&mut self, failed: Option<&mut VecDeque<Vec<StateId>>>) {
        let mut needed = vec![false; self.nodes.len()];
        let ends =
            self.threads.iter().map(|thread| thread.node).chain(self.best.map(|best| best.0)).chain([self.longest.0]);
        for end in ends {
            let mut node = end;
            while let Some(needed) = needed.get_mut(node as usize).filter(|needed| !**needed) {
                *needed = true;
                node = self.nodes[node as usize].before;
            }
        }
        if let Some(failed) = failed {
            self.remember(failed, |node| !needed[node]);
        }
        let mut moved = vec![NO_NODE; self.nodes.len()];
        let mut kept = 0;
        for node in 0..self.nodes.len() {
            if needed[node] {
                let TrailNode { before, state } = self.nodes[node];
                let before = moved.get(before as usize).copied().unwrap_or(NO_NODE);
                self.nodes[kept as usize] = TrailNode { before, state };
                moved[node] = kept;
                kept += 1;
            }
        }
        self.nodes.truncate(kept as usize);
        let place = |node: &mut u32| *node = moved.get(*node as usize).copied().unwrap_or(NO_NODE);
        self.threads.iter_mut().for_each(|thread| place(&mut thread.node));
        place(&mut self.longest.0);
        if let Some(best) = &mut self.best {
            place(&mut best.0);
        }
    }

    /// As [`remember`](Self::remember), for what is asked.
    fn remember_registers(&self, failed: &mut VecDeque<Vec<u64>>, register_count: usize) {
        let matched = self.best.map_or(0, |best| best.1);
        if self.timed {
            return;
        }
        for lived in self.lived.chunks_exact(register_count + 2).filter(|lived| lived[0] as usize > matched) {
            let depth = lived[0] as usize;
            if failed.len() < depth {
                failed.resize_with(depth, Vec::new);
            }
            let known = &mut failed[depth - 1];
            if known.len() < KNOWN_REGISTERS_MAX * (register_count + 1) {
                known.extend_from_slice(&lived[1..]);
            }
        }
    }

    /// Notes which of the nodes led nowhere. Up to the last row of a match nothing is noted: a node there may have been part of a match
    /// that a more preferred one has replaced.
    fn remember(&self, failed: &mut VecDeque<Vec<StateId>>, dead: impl Fn(usize) -> bool) {
        let matched = self.best.map_or(0, |best| best.1);
        if self.timed || self.taken <= matched {
            return;
        }
        for (node, depth) in self.depths().into_iter().enumerate() {
            if depth > matched && dead(node) {
                if failed.len() < depth {
                    failed.resize_with(depth, Vec::new);
                }
                let states = &mut failed[depth - 1];
                if let Err(place) = states.binary_search(&self.nodes[node].state) {
                    states.insert(place, self.nodes[node].state);
                }
            }
        }
    }
}

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

/// What a key has while rows are under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct ThreadRows {
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
    /// The same where conditions are asked: for each row states with their registers.
    pub(crate) failed_registers: VecDeque<Vec<u64>>,
    /// The greatest row of a partial match that was told, plus one.
    pub(crate) told_until: u64,
}

impl ThreadRows {
    /// No row yet, but what was told.
    pub(crate) fn after_partial(start: u64, told_until: u64) -> Self {
        Self { start, told_until, ..Self::default() }
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.times.clear();
        self.failed.clear();
        self.failed_registers.clear();
        self.attempt.reset();
    }

    /// Whether anything is under way, or was told that must not be told again.
    pub(crate) fn is_needed(&self) -> bool {
        !self.rows.is_empty() || self.told_until > self.start
    }

    pub(crate) fn deadline(&self) -> Option<i64> {
        self.attempt.deadline.filter(|_| !self.attempt.waits_for_end)
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.rows.capacity() * size_of::<u64>()
            + self.times.capacity() * size_of::<i64>()
            + self.attempt.bytes()
            + self.failed.capacity() * size_of::<Vec<StateId>>()
            + self.failed.iter().map(|states| states.capacity() * size_of::<StateId>()).sum::<usize>()
            + self.failed_registers.capacity() * size_of::<Vec<u64>>()
            + self.failed_registers.iter().map(|words| words.capacity() * size_of::<u64>()).sum::<usize>()
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
    /// The same for what is asked.
    remembers_registers: bool,
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
        SCRATCH.set(Some(std::mem::take(&mut self.scratch)));
    }
}

impl<'a, C: Conditions> Run<'a, C> {
    pub(crate) fn new(matcher: &'a Matcher, until: Until, conditions: &'a mut C, found: &'a mut Found) -> Self {
        let MatcherSpec { asks, partial, .. } = matcher.spec;
        let register_count = if asks { conditions.register_count() } else { 0 };
        let merges = !asks || !conditions.reads_trail();
        let remembers_registers = asks && merges && !partial && conditions.forgets();
        Self {
            matcher,
            until,
            conditions,
            found,
            register_count,
            merges,
            remembers: !asks && !partial,
            remembers_registers,
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
        rows: &[u64],
        times: &[i64],
    ) -> Result<(), PatternError> {
        active.rows.extend(rows);
        active.times.extend(times);
        key.position += rows.len() as u64;
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
            let next = if given_up {
                self.found.dropped += 1;
                self.no_match(active, key.matched_until)
            } else {
                self.decide(key, active)?
            };
            active.rows.drain(..next);
            active.times.drain(..next.min(active.times.len()));
            active.failed.drain(..next.min(active.failed.len()));
            active.failed_registers.drain(..next.min(active.failed_registers.len()));
            active.start += next as u64;
            active.attempt.reset();
        }
        Ok(())
    }

    fn begin(&mut self, active: &mut ThreadRows, number: u64) {
        let nodes_max = self.nodes_max();
        let attempt = &mut active.attempt;
        attempt.begun = true;
        attempt.longest = (NO_NODE, 0);
        attempt.nodes_max = nodes_max;
        if !self.matcher.may_start(active.start, active.rows[0]) {
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
            attempt.deadline = within.and_then(|within| active.times.front().map(|first| first.saturating_add(within)));
        }
    }

    /// All threads take the next row.
    fn take_row(&mut self, active: &mut ThreadRows) -> Result<(), PatternError> {
        let Self { matcher, conditions, register_count, merges, remembers_registers, scratch, .. } = self;
        let Scratch { threads, registers, distinct, asked, asked_registers, .. } = &mut **scratch;
        let (automaton, asks, register_count) = (&matcher.automaton, matcher.spec.asks, *register_count);
        let attempt = &mut active.attempt;
        let taken = attempt.taken;
        let row = active.start + taken as u64;
        let bits = active.rows[taken];
        let in_time = attempt.deadline.is_none_or(|deadline| active.times[taken] <= deadline);
        let failed: &[StateId] = active.failed.get(taken).map_or(&[], |failed| failed);
        let failed_registers: &[u64] = active.failed_registers.get(taken).map_or(&[], |failed| failed);
        let mut first_node = None;
        distinct.clear();
        'threads: for (index, thread) in attempt.threads.iter().enumerate() {
            asked.clear();
            asked_registers.clear();
            for step in steps(automaton, thread.state, active.start) {
                let Step::To(id) = *step else { continue };
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
                if failed.binary_search(&id).is_ok() {
                    continue;
                }
                let mut own: &[u64] = &[];
                if asks {
                    let answer = match asked.iter().find(|(variable, _)| *variable == state.variable) {
                        Some((_, answer)) => *answer,
                        None => {
                            let begin = asked_registers.len();
                            push_few(asked_registers, &attempt.registers[index * register_count..][..register_count]);
                            let trail =
                                Trail { nodes: &attempt.nodes, states: &automaton.states, last: thread.node, row };
                            let holds = conditions.take(state.variable, row, trail, &mut asked_registers[begin..])?;
                            asked.push((state.variable, holds.then_some(begin)));
                            holds.then_some(begin)
                        }
                    };
                    let Some(begin) = answer else { continue };
                    own = &asked_registers[begin..begin + register_count];
                    let same = |words: &[u64]| words[0] == u64::from(id) && words[1..] == *own;
                    if failed_registers.chunks_exact(register_count + 1).any(same) {
                        continue;
                    }
                }
                if *merges && !distinct.insert(id, own) {
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
        if *remembers_registers && taken >= FORGOTTEN_ROWS && attempt.lived.len() < LIVED_WORDS_MAX {
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
            attempt.collect(self.remembers.then_some(&mut active.failed));
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
            active.attempt.remember(&mut active.failed, |_| true);
        }
        if self.remembers_registers {
            active.attempt.remember_registers(&mut active.failed_registers, self.register_count);
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

/// Registers are few, mostly one or two: too few for a call.
#[inline]
fn push_few(all: &mut Vec<u64>, few: &[u64]) {
    for register in few {
        all.push(*register);
    }
}

/// Where a thread may go on, of an attempt that began at row `start`.
fn steps(automaton: &Automaton, state: StateId, start: u64) -> &[Step] {
    match automaton.states.get(state as usize) {
        Some(state) => &state.next,
        None if start == 0 => &automaton.start_first,
        None => &automaton.start,
    }
}

/// The threads that there are already: by looking at each of them or, where they are many, by a table.
#[derive(Debug, Default)]
struct Distinct {
    /// A thread's index plus one, where its hash says or in the free place after that. The length is a power of two, or 0.
    table: Vec<u32>,
    /// States that were met, of threads that do not go on too.
    met: Vec<StateId>,
    /// Registers of each of them.
    registers: Vec<u64>,
}

impl Distinct {
    fn clear(&mut self) {
        self.table.clear();
        self.met.clear();
        self.registers.clear();
    }

    /// Whether it is a new one.
    fn insert(&mut self, state: StateId, registers: &[u64]) -> bool {
        let width = registers.len();
        let same = |index: usize, met: &[StateId], all: &[u64]| {
            met[index] == state && all[index * width..][..width] == *registers
        };
        if self.met.len() < SCANNED_THREADS_MAX {
            if (0..self.met.len()).any(|index| same(index, &self.met, &self.registers)) {
                return false;
            }
        } else {
            if self.table.len() < 2 * (self.met.len() + 1) {
                self.rehash(width);
            }
            let mask = self.table.len() - 1;
            let mut place = hash(state, registers) as usize & mask;
            while let Some(index) = (self.table[place] as usize).checked_sub(1) {
                if same(index, &self.met, &self.registers) {
                    return false;
                }
                place = (place + 1) & mask;
            }
            self.table[place] = u32::try_from(self.met.len() + 1).unwrap_or(u32::MAX);
        }
        self.met.push(state);
        push_few(&mut self.registers, registers);
        true
    }

    fn rehash(&mut self, width: usize) {
        let size = (4 * (self.met.len() + 1)).next_power_of_two();
        self.table.clear();
        self.table.resize(size, 0);
        for (index, state) in self.met.iter().enumerate() {
            let mut place = hash(*state, &self.registers[index * width..][..width]) as usize & (size - 1);
            while self.table[place] != 0 {
                place = (place + 1) & (size - 1);
            }
            self.table[place] = u32::try_from(index + 1).unwrap_or(u32::MAX);
        }
    }
}

/// Multiplies and rotates, as the hash of rustc does.
fn hash(state: StateId, registers: &[u64]) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    registers.iter().fold(mix(0, u64::from(state)), |hash, word| mix(hash, *word)).rotate_left(26)
}
