//! What the loops want to know of a pattern.

use super::{Pattern, Skip};
use std::collections::HashMap;

/// A condition as conjunction of single predicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) predicate: u8,
    /// All ones when the predicate must be false.
    pub(super) invert: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Compiled {
    /// Where the pattern's words begin in the state of a key.
    pub(super) first_word: usize,
    pub(super) conditions: Vec<Vec<Literal>>,
    /// For each state, those that it may follow.
    pub(super) before: Vec<Vec<u8>>,
    pub(super) start: u32,
    pub(super) accept: u32,
    pub(super) skip: bool,
    pub(super) within: Option<u32>,
    /// Set when the first state starts, every other follows the one before it (and perhaps itself), and the last one accepts.
    pub(super) sequence: bool,
    /// `next[b][s]`: the states that may be entered after those of set `s << 8 b`; the first table has the starting ones too. Where no
    /// more than eight states are there, giving up after a match is in it.
    pub(super) next: Vec<[u32; 256]>,
    /// The same pattern as a deterministic automaton, if it is small and has no bound.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only a device composes maps"))]
    pub(super) deterministic: Option<Deterministic>,
}

/// How many sets of states a pattern may reach for its rows to be composed: a map between them is 16 nibbles.
pub(super) const MAP_SETS_MAX: usize = 16;
/// How many predicates such a pattern may look at.
pub(super) const MAP_PREDICATES_MAX: usize = 6;

/// The subset construction: all sets of states that can be reached, of which the first is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deterministic {
    /// Bit `i` of a row's class is predicate `predicates[i]`.
    pub(super) predicates: Vec<u8>,
    pub(super) sets: Vec<u32>,
    /// `[set][class]`: which set comes next.
    pub(super) next: Vec<u8>,
}

impl Deterministic {
    fn new(pattern: &Pattern) -> Option<Self> {
        if pattern.within.is_some() {
            return None;
        }
        let masks = pattern.states.iter().fold(0, |masks, state| masks | state.mask);
        let predicates: Vec<u8> = (0..32).filter(|&predicate| masks >> predicate & 1 == 1).collect();
        if predicates.len() > MAP_PREDICATES_MAX {
            return None;
        }
        let mut index = HashMap::from([(0, 0)]);
        let mut automaton = Deterministic { predicates, sets: vec![0], next: Vec::new() };
        let mut done = 0;
        while done < automaton.sets.len() {
            for class in 0..1u32 << automaton.predicates.len() {
                let bits = automaton
                    .predicates
                    .iter()
                    .enumerate()
                    .fold(0, |bits, (bit, &predicate)| bits | (class >> bit & 1) << predicate);
                let set = step_set(pattern, automaton.sets[done], bits);
                let next = *index.entry(set).or_insert_with(|| {
                    automaton.sets.push(set);
                    automaton.sets.len() - 1
                });
                if next >= MAP_SETS_MAX {
                    return None;
                }
                automaton.next.push(next as u8);
            }
            done += 1;
        }
        Some(automaton)
    }
}

/// The set after a row, as it is kept: empty after a match that skips.
fn step_set(pattern: &Pattern, set: u32, bits: u32) -> u32 {
    let states = || pattern.states.iter().enumerate();
    let entered =
        states().filter(|(state, _)| set >> state & 1 == 1).fold(pattern.start, |all, (_, state)| all | state.follow);
    let next = states()
        .filter(|(state, condition)| entered >> state & 1 == 1 && bits & condition.mask == condition.value)
        .fold(0, |next, (state, _)| next | 1 << state);
    if pattern.skip == Skip::PastLastRow && next & pattern.accept != 0 { 0 } else { next }
}

impl Compiled {
    pub(super) fn new(pattern: &Pattern, first_word: usize) -> Self {
        let count = pattern.states.len();
        let conditions = pattern.states.iter().map(|state| {
            let of_mask = (0..32u8).filter(|&predicate| state.mask >> predicate & 1 == 1);
            of_mask
                .map(|predicate| Literal {
                    predicate,
                    invert: if state.value >> predicate & 1 == 1 { 0 } else { u64::MAX },
                })
                .collect()
        });
        let before: Vec<Vec<u8>> = (0..count)
            .map(|state| {
                (0..count as u8).filter(|&other| pattern.states[other as usize].follow >> state & 1 == 1).collect()
            })
            .collect();
        let sequence = pattern.start == 1
            && pattern.accept == 1 << (count - 1)
            && before.iter().enumerate().all(|(state, before)| {
                let others = before.iter().filter(|&&other| usize::from(other) != state);
                others.map(|&other| usize::from(other)).eq(state.checked_sub(1))
            });
        let skip = pattern.skip == Skip::PastLastRow;
        let next = (0..count.div_ceil(8)).map(|byte| {
            std::array::from_fn(|set| {
                let after = (0..8.min(count - byte * 8))
                    .filter(|bit| set >> bit & 1 == 1)
                    .fold(0, |after, bit| after | pattern.states[byte * 8 + bit].follow);
                let given_up = skip && count <= 8 && set as u32 & pattern.accept != 0;
                let start = if byte == 0 { pattern.start } else { 0 };
                if given_up { start } else { after | start }
            })
        });
        Compiled {
            first_word,
            conditions: conditions.collect(),
            before,
            start: pattern.start,
            accept: pattern.accept,
            skip,
            within: pattern.within,
            sequence,
            next: next.collect(),
            deterministic: Deterministic::new(pattern),
        }
    }

    pub(super) fn state_count(&self) -> usize {
        self.conditions.len()
    }

    /// How many words of state the pattern has.
    pub(super) fn word_count(&self) -> usize {
        if self.within.is_some() { self.state_count() } else { 1 }
    }
}
