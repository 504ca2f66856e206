//! The twin: a state after the other, for all rows of the batch, 64 rows in a word and some words in a vector.
//!
//! Only two things go from word to word, from the last to the first: whether a run of a state that repeats goes on in the word before, which
//! is a count of leading ones, and cycles of several states, which are walked until nothing changes.

use std::ops::Range;

use multiversion::multiversion;

use super::compiled::{Compiled, members};
use super::{Batch, Starts};

/// Memory that is used again from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Spare {
    /// An answer that was looked at.
    pub(super) bits: Vec<u64>,
    work: Work,
}

pub(super) fn run(patterns: &[Compiled], batch: &Batch, spare: &mut Spare) -> Starts {
    let words = batch.words();
    let mut bits = std::mem::take(&mut spare.bits);
    // All of it is written over.
    bits.resize(patterns.len() * words, 0);
    if words == 0 {
        return Starts { words, bits };
    }
    let work = &mut spare.work;
    work.any.resize(words, u64::MAX);
    let states = patterns.iter().map(|pattern| pattern.states.len()).max().unwrap_or(0);
    work.goes_on.resize_with(states.max(work.goes_on.len()), Vec::new);
    for goes_on in &mut work.goes_on {
        // A word more, so that the last one has one behind it: rows end there.
        goes_on.resize(words + 1, 0);
        goes_on[words] = 0;
    }
    for (pattern, starts) in patterns.iter().zip(bits.chunks_exact_mut(words)) {
        run_pattern(pattern, batch, work, starts);
        starts[words - 1] &= batch.last_mask();
    }
    Starts { words, bits }
}

/// Used again from pattern to pattern.
#[derive(Debug, Default)]
struct Work {
    any: Vec<u64>,
    /// For each state and row.
    goes_on: Vec<Vec<u64>>,
}

impl Work {
    fn predicate<'a>(&'a self, predicate: Option<u32>, batch: &'a Batch) -> &'a [u64] {
        predicate.map_or(&self.any, |predicate| &batch.bitmaps[predicate as usize])
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn run_pattern(pattern: &Compiled, batch: &Batch, work: &mut Work, starts: &mut [u64]) {
    for component in &pattern.components {
        if component.len() > 1 {
            walk_cycle(pattern, component.clone(), batch, work);
            continue;
        }
        let place = component.start;
        let state = &pattern.states[place];
        let mut own = std::mem::take(&mut work.goes_on[place]);
        let holds = work.predicate(state.predicate, batch);
        let now = &mut own[..holds.len()];
        if state.free {
            now.copy_from_slice(holds);
        } else {
            now.copy_from_slice(&batch.ends);
            for next in members(state.next) {
                add_next(now, &work.goes_on[next]);
            }
            now.iter_mut().zip(holds).for_each(|(now, holds)| *now &= holds);
            if state.repeats {
                fill(now, holds);
            }
        }
        work.goes_on[place] = own;
    }
    let mut first = members(pattern.start);
    match first.next() {
        Some(place) => starts.copy_from_slice(&work.goes_on[place][..starts.len()]),
        None => starts.fill(0),
    }
    for place in first {
        starts.iter_mut().zip(&work.goes_on[place]).for_each(|(starts, now)| *starts |= now);
    }
}

/// Adds the rows before those of a state that may follow.
#[inline(always)]
fn add_next(now: &mut [u64], next: &[u64]) {
    let next = &next[..now.len() + 1];
    for (word, now) in now.iter_mut().enumerate() {
        *now |= next[word] >> 1 | next[word + 1] << 63;
    }
}

/// Goes on downwards through the runs of `holds`: a row of the state may be followed by another one.
#[inline(always)]
fn fill(now: &mut [u64], holds: &[u64]) {
    for (now, holds) in now.iter_mut().zip(holds) {
        let (mut filled, mut open) = (*now, *holds);
        // Runs of 2, 4, .. 64 rows.
        for shift in [1, 2, 4, 8, 16, 32] {
            filled |= open & filled >> shift;
            open &= open >> shift;
        }
        *now = filled;
    }
    let mut goes_on = 0u64;
    for (now, holds) in now.iter_mut().zip(holds).rev() {
        // The run that the word after it has reached, if it has.
        let run = !u64::MAX.checked_shr(holds.leading_ones()).unwrap_or(0);
        *now |= run & goes_on;
        goes_on = 0u64.wrapping_sub(*now & 1);
    }
}

/// States that lead to each other: a word after the other from the last one on, again and again until nothing changes.
#[inline(always)]
fn walk_cycle(pattern: &Compiled, component: Range<usize>, batch: &Batch, work: &mut Work) {
    for word in (0..batch.words()).rev() {
        for place in component.clone() {
            work.goes_on[place][word] = 0;
        }
        let mut changed = true;
        while changed {
            changed = false;
            for place in component.clone() {
                let state = &pattern.states[place];
                let after = |next: usize| work.goes_on[next][word] >> 1 | work.goes_on[next][word + 1] << 63;
                let itself = if state.repeats { after(place) } else { 0 };
                let leads = members(state.next).fold(batch.ends[word] | itself, |leads, next| leads | after(next));
                let now = leads & work.predicate(state.predicate, batch)[word];
                changed |= now != work.goes_on[place][word];
                work.goes_on[place][word] = now;
            }
        }
    }
}
