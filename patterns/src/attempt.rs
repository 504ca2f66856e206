//! One attempt to find a match: all partial matches that begin at one row, in order of preference.
//!
//! The partial matches (*threads*) take the rows together. Those in one state with the same registers have the same future, so only the
//! most preferred one goes on: there are never more than there are states (times registers), whatever the pattern. A thread in which a
//! match is complete cuts off all that are less preferred; when none is left before it, the match is decided.
//!
//! Attempts that fail one after the other could walk the same rows again and again (`A+ B` over many `A`). So what is known to fail is
//! remembered: a state (and registers) and a row from which rows that have come lead to no match, wherever the attempt began. That holds
//! where conditions are bits or do not know it ([`Conditions::forgets`](crate::Conditions::forgets)), and where it was not the bound in
//! time that ended it.
//!
//! Where each attempt carries other registers (a sum), that says nothing to the next one. Then the rows are looked at backwards, by their
//! bits alone, and no attempt begins at a row from which these lead to no match ([`ThreadRows::possible`]).

use std::collections::VecDeque;

use crate::automaton::StateId;
use crate::conditions::{NO_NODE, TrailNode};
use crate::queue::Queue;

/// So many states with registers are remembered for a row: where each attempt has others, all that would be looked through in vain.
const KNOWN_REGISTERS_MAX: usize = 4;

/// A partial match.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Thread {
    pub(crate) state: StateId,
    /// Its last row.
    pub(crate) node: u32,
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
    pub(crate) lived: Vec<u64>,
}

impl Attempt {
    fn bytes(&self) -> usize {
        self.threads.capacity() * size_of::<Thread>()
            + self.registers.capacity() * size_of::<u64>()
            + self.nodes.capacity() * size_of::<TrailNode>()
            + self.lived.capacity() * size_of::<u64>()
    }

    pub(crate) fn reset(&mut self) {
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

    /// Throws away the nodes that no thread needs.
    pub(crate) fn collect(&mut self) {
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

    /// Notes which of the threads that lived led nowhere: those that had more rows than the match, as all of them were preferred to it and
    /// are dead; without a match, all. Of a thread that had fewer, another one may have taken the place, in the same state.
    pub(crate) fn remember(&self, failed: &mut VecDeque<Vec<u64>>, register_count: usize) {
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
            if register_count == 0 {
                if let Err(place) = known.binary_search(&lived[1]) {
                    known.insert(place, lived[1]);
                }
            } else if known.len() < KNOWN_REGISTERS_MAX * (register_count + 1) {
                known.extend_from_slice(&lived[1..]);
            }
        }
    }
}

/// Whether a state with its registers is among those.
#[inline]
pub(crate) fn is_known(known: &[u64], state: StateId, registers: &[u64]) -> bool {
    if registers.is_empty() {
        return known.binary_search(&u64::from(state)).is_ok();
    }
    known.chunks_exact(registers.len() + 1).any(|words| words[0] == u64::from(state) && words[1..] == *registers)
}

/// What a key has while rows are under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct ThreadRows {
    /// The first row under way.
    pub(crate) start: u64,
    /// The symbols of the rows from there on.
    pub(crate) rows: Queue<u64>,
    /// What conditions read of them, as many for each ([`Symbols::set_values`](crate::Symbols::set_values)).
    pub(crate) values: Queue<u32>,
    /// So many.
    pub(crate) value_count: usize,
    /// Their times, where there is a bound in time.
    pub(crate) times: Queue<i64>,
    /// What begins at `start`.
    pub(crate) attempt: Attempt,
    /// For each row from `start` on, states in which a partial match was that could not be completed for lack of rows that fit, with the
    /// registers that it had: those first that were found first or, without registers, ascending. Shorter than `rows` where nothing is
    /// known.
    pub(crate) failed: VecDeque<Vec<u64>>,
    /// For each row from `start` on, whether a match may begin there as far as bits tell. Shorter than `rows` where nothing is known.
    pub(crate) possible: VecDeque<bool>,
    /// The row behind the last one that was there, and whether that was the end, when `possible` was found.
    pub(crate) possible_by: (u64, bool),
    /// How many transitions attempts have tried since then.
    pub(crate) tried: usize,
    /// The greatest row of a partial match that was told, plus one.
    pub(crate) told_until: u64,
}

impl ThreadRows {
    /// No row yet, but what was told.
    pub(crate) fn after_partial(start: u64, told_until: u64) -> Self {
        Self { start, told_until, ..Self::default() }
    }

    /// The first rows go.
    pub(crate) fn drop_front(&mut self, count: usize) {
        let values = count * self.value_count;
        self.rows.drop_front(count);
        self.values.drop_front(values);
        self.times.drop_front(count.min(self.times.len()));
        self.failed.drain(..count.min(self.failed.len()));
        self.possible.drain(..count.min(self.possible.len()));
        self.start += count as u64;
    }

    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.values.clear();
        self.times.clear();
        self.failed.clear();
        self.possible.clear();
        (self.possible_by, self.tried) = ((0, false), 0);
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
            + self.values.capacity() * size_of::<u32>()
            + self.times.capacity() * size_of::<i64>()
            + self.attempt.bytes()
            + self.possible.capacity()
            + self.failed.capacity() * size_of::<Vec<u64>>()
            + self.failed.iter().map(|words| words.capacity() * size_of::<u64>()).sum::<usize>()
    }
}
