//! One key alone: a table gives the states that may be entered after a set of states, so a row is one look-up and one intersection.
//!
//! What a row satisfies, as a set of states, is worked out for 64 rows at once from the predicates' words and turned around; it is
//! no part of the chain from row to row.

use super::{AGE_NEVER, Lane, Run, elapsed, last_time, load, rows_mask, set, set_last_time, stride, transpose};
use crate::pattern_step::compiled::Compiled;
use crate::pattern_step::{PREDICATES_MAX, STATES_MAX};

/// All rows of a key, for all patterns.
#[inline(always)]
pub(super) fn run_key(run: &mut Run<'_>, page: &mut [u32], lane: Lane) {
    let stride = stride(run.batch.rows.row_count());
    let mut last = if run.needs_times { last_time(page, run.slots_per_page, lane.slot) } else { 0 };
    let mut predicates = [0; PREDICATES_MAX];
    let mut elapsed_rows = [0; 64];
    for first in (lane.first_row..lane.first_row + lane.row_count).step_by(64) {
        let rows = (lane.first_row + lane.row_count - first).min(64);
        for &predicate in &run.predicates {
            [predicates[predicate]] = load(run.batch.bitmap(predicate), first);
        }
        if run.needs_times {
            for (passed, &time) in elapsed_rows.iter_mut().zip(&run.batch.times[first..first + rows]) {
                *passed = elapsed(last, time);
                last = time;
            }
        }
        for (index, pattern) in run.patterns.iter().enumerate() {
            let slot_words = &mut page[pattern.first_word * run.slots_per_page + lane.slot..];
            let mut held = [0; STATES_MAX];
            for (held, literals) in held.iter_mut().zip(&pattern.conditions) {
                *held = literals
                    .iter()
                    .fold(u64::MAX, |held, literal| held & (predicates[literal.predicate as usize] ^ literal.invert));
            }
            let hits = match pattern.within {
                Some(within) => {
                    let held = turn_wide(&held);
                    step_ages(pattern, within, &held[..rows], &elapsed_rows, slot_words, run.slots_per_page)
                }
                None if pattern.next.len() == 1 => step_small(pattern, &turn_small(&held)[..rows], &mut slot_words[0]),
                None => step_wide(pattern, &turn_wide(&held)[..rows], &mut slot_words[0]),
            };
            let hits = hits & rows_mask(rows);
            if hits != 0 {
                run.matches.counts[index] += u64::from(hits.count_ones());
                set(&mut run.matches.bits[index * stride..(index + 1) * stride], first, &[hits]);
            }
        }
    }
    if run.needs_times {
        set_last_time(page, run.slots_per_page, lane.slot, last);
    }
}

/// From 64 rows for each of eight states to eight states for each of 64 rows.
#[inline(always)]
fn turn_small(held: &[u64; STATES_MAX]) -> [u8; 64] {
    let mut turned = [0; 64];
    for (byte, rows) in turned.chunks_exact_mut(8).enumerate() {
        let mut square = (0..8).fold(0u64, |square, state| square | (held[state] >> (8 * byte) & 0xff) << (8 * state));
        for (distance, mask) in [(7, 0x00aa_00aa_00aa_00aa), (14, 0x0000_cccc_0000_cccc), (28, 0x0000_0000_f0f0_f0f0)] {
            let differing = (square ^ square >> distance) & mask;
            square ^= differing ^ differing << distance;
        }
        rows.copy_from_slice(&square.to_le_bytes());
    }
    turned
}

/// From 64 rows for each state to a set of states for each of 64 rows.
#[inline(always)]
fn turn_wide(held: &[u64; STATES_MAX]) -> [u64; 64] {
    let mut square = [0; 64];
    square[..STATES_MAX].copy_from_slice(held);
    transpose(&mut square);
    square
}

/// Up to eight states: giving up after a match is part of the table, so the last set may still be one that is to be given up.
#[inline(always)]
fn step_small(pattern: &Compiled, held: &[u8], set: &mut u32) -> u64 {
    let (next, accept) = (&pattern.next[0], pattern.accept);
    let mut now = *set;
    let mut hits = 0;
    for (row, &held) in held.iter().enumerate() {
        now = next[usize::from(now as u8)] & u32::from(held);
        hits |= u64::from(now & accept != 0) << row;
    }
    *set = if pattern.skip && now & accept != 0 { 0 } else { now };
    hits
}

#[inline(always)]
fn step_wide(pattern: &Compiled, held: &[u64], set: &mut u32) -> u64 {
    let mut now = *set;
    let mut hits = 0;
    for (row, &held) in held.iter().enumerate() {
        let bytes = now.to_le_bytes();
        let entered = pattern.next.iter().zip(bytes).fold(0, |entered, (next, byte)| entered | next[usize::from(byte)]);
        now = entered & held as u32;
        let hit = now & pattern.accept != 0;
        hits |= u64::from(hit) << row;
        now = if hit && pattern.skip { 0 } else { now };
    }
    *set = now;
    hits
}

/// With a bound in time: `ages` is by state, `stride` apart.
#[inline(always)]
fn step_ages(
    pattern: &Compiled,
    within: u32,
    held: &[u64],
    elapsed: &[u32; 64],
    ages: &mut [u32],
    stride: usize,
) -> u64 {
    let count = pattern.state_count();
    let mut now = [AGE_NEVER; STATES_MAX];
    for (state, age) in now[..count].iter_mut().enumerate() {
        *age = ages[state * stride];
    }
    let mut next = [AGE_NEVER; STATES_MAX];
    let mut hits = 0;
    for (row, (&held, &elapsed)) in held.iter().zip(elapsed).enumerate() {
        let mut hit = false;
        for age in &mut now[..count] {
            *age = if *age + elapsed > within { AGE_NEVER } else { *age + elapsed };
        }
        for (state, next) in next[..count].iter_mut().enumerate() {
            *next = AGE_NEVER;
            if held >> state & 1 == 1 {
                let start = if pattern.start >> state & 1 == 1 { 0 } else { AGE_NEVER };
                let before = pattern.before[state].iter();
                *next = before.fold(start, |youngest, &before| youngest.min(now[before as usize % STATES_MAX]));
                hit |= pattern.accept >> state & 1 == 1 && *next < AGE_NEVER;
            }
        }
        hits |= u64::from(hit) << row;
        for (now, &next) in now[..count].iter_mut().zip(&next) {
            *now = if hit && pattern.skip { AGE_NEVER } else { next };
        }
    }
    for (state, &age) in now[..count].iter().enumerate() {
        ages[state * stride] = age;
    }
    hits
}
