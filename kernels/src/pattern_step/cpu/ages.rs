//! Patterns with a bound in time, 16 keys side by side: each state is the age of its youngest partial match.

use super::LANES;
use crate::pattern_step::compiled::Compiled;
use crate::pattern_step::{AGE_NEVER, STATES_MAX};
use std::array::from_fn;

/// Ages of one AVX-512 register.
const WIDTH: usize = 16;

/// Steps a pattern over the rows of a block; tells whether there was a hit. `ages` is by state, then key.
#[inline(always)]
pub(super) fn step(
    pattern: &Compiled,
    within: u32,
    conditions: &[[u64; LANES]],
    elapsed: &[[u32; LANES]; LANES],
    active: Option<&[u64; LANES]>,
    ages: &mut [[u32; LANES]],
    hits: &mut [u64],
) -> bool {
    let count = pattern.state_count();
    hits.fill(0);
    let mut any = false;
    for first in (0..LANES).step_by(WIDTH) {
        let mut now = [[AGE_NEVER; WIDTH]; STATES_MAX];
        for (now, ages) in now.iter_mut().zip(&*ages) {
            *now = from_fn(|lane| ages[first + lane]);
        }
        for (row, hits) in hits.iter_mut().enumerate() {
            let elapsed: [u32; WIDTH] = from_fn(|lane| elapsed[row][first + lane]);
            let active = active.map_or(u64::MAX, |active| active[row]) >> first;
            let mut aged = [[AGE_NEVER; WIDTH]; STATES_MAX];
            for (aged, now) in aged[..count].iter_mut().zip(&now) {
                *aged = from_fn(|lane| {
                    let age = now[lane] + elapsed[lane]; // each is at most AGE_NEVER
                    if age > within { AGE_NEVER } else { age }
                });
            }
            let mut next = [[AGE_NEVER; WIDTH]; STATES_MAX];
            let mut accepted = [AGE_NEVER; WIDTH];
            for (state, next) in next[..count].iter_mut().enumerate() {
                let mut youngest = [if pattern.start >> state & 1 == 1 { 0 } else { AGE_NEVER }; WIDTH];
                for &before in &pattern.before[state] {
                    let before = &aged[before as usize % STATES_MAX];
                    youngest = from_fn(|lane| youngest[lane].min(before[lane]));
                }
                let holds = conditions[state][row] >> first;
                *next = from_fn(|lane| if holds >> lane & 1 == 1 { youngest[lane] } else { AGE_NEVER });
                if pattern.accept >> state & 1 == 1 {
                    accepted = from_fn(|lane| accepted[lane].min(next[lane]));
                }
            }
            let mut hit = 0;
            if accepted.iter().fold(AGE_NEVER, |least, &age| least.min(age)) < AGE_NEVER {
                hit = (0..WIDTH).fold(0, |hit, lane| hit | u64::from(accepted[lane] < AGE_NEVER) << lane) & active;
                any |= hit != 0;
                *hits |= hit << first;
            }
            let given_up = if pattern.skip { hit } else { 0 };
            for (now, next) in now[..count].iter_mut().zip(&next) {
                *now = from_fn(|lane| {
                    let kept = if given_up >> lane & 1 == 1 { AGE_NEVER } else { next[lane] };
                    if active >> lane & 1 == 1 { kept } else { now[lane] }
                });
            }
        }
        for (ages, now) in ages.iter_mut().zip(&now) {
            ages[first..first + WIDTH].copy_from_slice(now);
        }
    }
    any
}
