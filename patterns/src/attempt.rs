//! One attempt to find a match: all partial matches that begin at one row, in order of preference.
//!
//! The partial matches (*threads*) take the rows together. Those in one state with the same registers have the same future, so only the
//! most preferred one goes on: there are never more than there are states (times registers), whatever the pattern. A thread in which a
//! match is complete cuts off all that are less preferred; when none is left before it, the match is decided.
//!
//! Attempts that fail one after the other could walk the same rows again and again (`A+ B` over many `A`). So what is known to fail is
//! remembered: a state and a row from which rows that have come lead to no match, wherever the attempt began. That holds where conditions
//! are bits, and where it was not the bound in time that ended it.

use std::collections::VecDeque;

use crate::automaton::StateId;
use crate::conditions::{NO_NODE, TrailNode};

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

    /// How many rows each node's way has; nodes stand after those before them.
    fn depths(&self) -> Vec<usize> {
        let mut depths: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            depths.push(1 + depths.get(node.before as usize).copied().unwrap_or(0));
        }
        depths
    }

    /// Throws away the nodes that no thread needs. `failed`: where it is remembered what failed.
    pub(crate) fn collect(&mut self, failed: Option<&mut VecDeque<Vec<StateId>>>) {
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
    pub(crate) fn remember_registers(&self, failed: &mut VecDeque<Vec<u64>>, register_count: usize) {
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
    pub(crate) fn remember(&self, failed: &mut VecDeque<Vec<StateId>>, dead: impl Fn(usize) -> bool) {
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

    pub(crate) fn clear(&mut self) {
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
