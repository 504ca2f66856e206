//! The oracle: every partial match of every key as a thing of its own, advanced row by row.

use super::{Pattern, Skip};
use std::collections::{BTreeSet, HashMap};

/// Runs patterns row by row.
#[derive(Debug)]
pub struct Naive {
    patterns: Vec<Pattern>,
    /// For pattern and key: the state and the first row's time of each partial match.
    partial: HashMap<(usize, u32), BTreeSet<(u32, i64)>>,
}

impl Naive {
    /// No row yet.
    pub fn new(patterns: Vec<Pattern>) -> Self {
        Naive { patterns, partial: HashMap::new() }
    }

    /// Which patterns the row matches, as a list of truth values.
    pub fn step(&mut self, slot: u32, predicates: u32, time: i64) -> Vec<bool> {
        let mut matched = Vec::new();
        for (index, pattern) in self.patterns.iter().enumerate() {
            let partial = self.partial.entry((index, slot)).or_default();
            let mut next = BTreeSet::new();
            for (state, condition) in pattern.states.iter().enumerate() {
                if predicates & condition.mask != condition.value {
                    continue;
                }
                if pattern.start >> state & 1 == 1 {
                    next.insert((state as u32, time));
                }
                for &(from, first) in partial.iter() {
                    let in_time = pattern.within.is_none_or(|within| time - first <= i64::from(within));
                    if pattern.states[from as usize].follow >> state & 1 == 1 && in_time {
                        next.insert((state as u32, first));
                    }
                }
            }
            if pattern.within.is_none() {
                // Without a bound, partial matches in the same state have the same future.
                next = next.into_iter().map(|(state, _)| (state, 0)).collect();
            }
            let hit = next.iter().any(|(state, _)| pattern.accept >> state & 1 == 1);
            if hit && pattern.skip == Skip::PastLastRow {
                next.clear();
            }
            *partial = next;
            matched.push(hit);
        }
        matched
    }
}

/// The plain loop for one pattern without a bound: a word of state for each key, a condition after the other for each row.
///
/// `predicates[i]` has the predicate bits of row `i`, `slots[i]` its key. Returns how many rows match.
pub fn count_by_row(pattern: &Pattern, slots: &[u32], predicates: &[u32], states: &mut [u32]) -> u64 {
    let mut count = 0;
    for (&slot, &bits) in slots.iter().zip(predicates) {
        let mut follow = pattern.start;
        for (state, condition) in pattern.states.iter().enumerate() {
            if states[slot as usize] >> state & 1 == 1 {
                follow |= condition.follow;
            }
        }
        let mut next = 0;
        for (state, condition) in pattern.states.iter().enumerate() {
            if follow >> state & 1 == 1 && bits & condition.mask == condition.value {
                next |= 1 << state;
            }
        }
        if next & pattern.accept != 0 {
            count += 1;
            if pattern.skip == Skip::PastLastRow {
                next = 0;
            }
        }
        states[slot as usize] = next;
    }
    count
}
