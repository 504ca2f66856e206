//! Patterns with a bound in time, 64 keys side by side: each state is the age of its youngest partial match.
//!
//! Every loop goes over the 64 keys of arrays in memory, which the compiler makes vector code of; ages held in registers over the
//! loops on states it does not.

use super::LANES;
use crate::pattern_step::compiled::Compiled;
use crate::pattern_step::{AGE_NEVER, STATES_MAX};

type Ages = [u32; LANES];

/// What a row's step writes before it reads it.
pub(super) struct Scratch {
    aged: [Ages; STATES_MAX],
    next: [Ages; STATES_MAX],
    accepted: Ages,
}

impl Scratch {
    pub(super) const fn new() -> Self {
        let never = [AGE_NEVER; LANES];
        Scratch { aged: [never; STATES_MAX], next: [never; STATES_MAX], accepted: never }
    }
}

/// Steps a pattern over the rows of a block; tells whether there was a hit. `ages` is by state, then key.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a block and the state in its forms")]
pub(super) fn step(
    pattern: &Compiled,
    within: u32,
    conditions: &[[u64; LANES]],
    elapsed: &[Ages],
    active: Option<&[u64]>,
    scratch: &mut Scratch,
    ages: &mut [Ages],
    hits: &mut [u64],
) -> bool {
    let Scratch { aged, next, accepted } = scratch;
    let count = pattern.state_count();
    let (aged, next) = (&mut aged[..count], &mut next[..count]);
    let mut any = 0;
    for (row, hits) in hits.iter_mut().enumerate() {
        for (aged, now) in aged.iter_mut().zip(&*ages) {
            grow_older(aged, now, &elapsed[row], within);
        }
        let mut has_accepted = false;
        for (state, next) in next.iter_mut().enumerate() {
            let start = if pattern.start >> state & 1 == 1 { 0 } else { AGE_NEVER };
            match pattern.before[state].split_first() {
                None => next.fill(start),
                Some((&first, others)) => {
                    youngest_of_start(next, &aged[first as usize], start);
                    for &other in others {
                        youngest(next, &aged[other as usize]);
                    }
                }
            }
            keep(next, conditions[state][row]);
            if pattern.accept >> state & 1 == 1 {
                if has_accepted {
                    youngest(accepted, next)
                } else {
                    *accepted = *next
                }
                has_accepted = true;
            }
        }
        let active = active.map_or(u64::MAX, |active| active[row]);
        let hit = if has_accepted { there(accepted) & active } else { 0 };
        if hit != 0 && pattern.skip {
            for next in next.iter_mut() {
                keep(next, !hit);
            }
        }
        for (now, next) in ages.iter_mut().zip(&*next) {
            if active == u64::MAX { *now = *next } else { choose(now, next, active) }
        }
        *hits = hit;
        any |= hit;
    }
    any != 0
}

/// Ages after some time; those over the bound are gone. No sum overflows, as both are at most [`AGE_NEVER`].
#[inline(always)]
fn grow_older(aged: &mut Ages, now: &Ages, elapsed: &Ages, within: u32) {
    for (aged, (&now, &elapsed)) in aged.iter_mut().zip(now.iter().zip(elapsed)) {
        let age = now + elapsed;
        *aged = if age > within { AGE_NEVER } else { age };
    }
}

#[inline(always)]
fn youngest_of_start(next: &mut Ages, before: &Ages, start: u32) {
    for (next, &before) in next.iter_mut().zip(before) {
        *next = before.min(start);
    }
}

#[inline(always)]
fn youngest(next: &mut Ages, before: &Ages) {
    for (next, &before) in next.iter_mut().zip(before) {
        *next = (*next).min(before);
    }
}

/// Leaves ages where the bit is set, and none elsewhere.
#[inline(always)]
fn keep(ages: &mut Ages, bits: u64) {
    for (half, ages) in ages.chunks_exact_mut(32).enumerate() {
        let bits = (bits >> (32 * half)) as u32;
        for (lane, age) in ages.iter_mut().enumerate() {
            *age = if bits & 1 << lane != 0 { *age } else { AGE_NEVER };
        }
    }
}

/// Takes the next age where the bit is set.
#[inline(always)]
fn choose(now: &mut Ages, next: &Ages, bits: u64) {
    for (half, (now, next)) in now.chunks_exact_mut(32).zip(next.chunks_exact(32)).enumerate() {
        let bits = (bits >> (32 * half)) as u32;
        for (lane, (now, &next)) in now.iter_mut().zip(next).enumerate() {
            *now = if bits & 1 << lane != 0 { next } else { *now };
        }
    }
}

/// A bit for each age that is there.
#[inline(always)]
fn there(ages: &Ages) -> u64 {
    if ages.iter().fold(AGE_NEVER, |least, &age| least.min(age)) == AGE_NEVER {
        return 0;
    }
    ages.iter().enumerate().fold(0, |bits, (lane, &age)| bits | u64::from(age != AGE_NEVER) << lane)
}
