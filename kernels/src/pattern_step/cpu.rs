//! The twin: 64 keys side by side, one bit each; keys that outlast their neighbours alone.
//!
//! A tile is 64 keys. Their rows are taken in blocks of 64: each predicate's block is 64 words of 64 rows, one for each key, and is
//! transposed to 64 words with a bit for each key, one for each row. All patterns share those. Within a block a pattern's conditions
//! are worked out first (for all 64 rows at once), then its states are stepped row by row, then its hits are transposed back, if
//! there are any. Keys of a tile that are over keep their state by a mask; when few keys are left (skew), each goes on alone with
//! [`run_key`](key::run_key).
//!
//! States with a bound in time are not bits but ages, and go 16 keys side by side.

mod ages;
mod key;

use super::bits::{load, set, transpose};
use super::compiled::Compiled;
use super::{AGE_NEVER, Batch, Matches, PREDICATES_MAX, STATES_MAX, stride};
use crate::state::StatePages;
use multiversion::multiversion;
use std::ops::Range;

/// Keys of a tile, rows of a block: the bits of a word.
const LANES: usize = 64;
/// How many words of a key's rows are taken at a time, where it has so many.
const WORDS: usize = 4;
/// With fewer keys than that left in a tile, a key alone is faster than the tile.
const LANES_MIN: usize = 4;

/// A key of the batch: its rows, and its slot within the page.
#[derive(Debug, Clone, Copy)]
struct Lane {
    slot: usize,
    first_row: usize,
    row_count: usize,
}

/// What all loops share.
struct Run<'a> {
    patterns: &'a [Compiled],
    /// Which predicates some pattern looks at.
    predicates: Vec<usize>,
    needs_times: bool,
    batch: &'a Batch,
    matches: &'a mut Matches,
    slots_per_page: usize,
}

/// A block of rows of a tile: some words of each key's bits, because reading one of each of 64 streams at a time misses the cache.
struct Block {
    /// For each predicate and row, a bit for each key.
    predicates: [[[u64; LANES]; WORDS]; PREDICATES_MAX],
    /// For each state of the pattern in work and row, whether the condition holds, a bit for each key.
    conditions: [[u64; LANES]; STATES_MAX],
    /// For each row, which keys still have rows.
    active: [[u64; LANES]; WORDS],
    /// For each row, the time since the row before it of the same key.
    elapsed: [[[u32; LANES]; LANES]; WORDS],
    hits: [[u64; LANES]; WORDS],
    ages: ages::Scratch,
}

pub(super) fn run(patterns: &[Compiled], needs_times: bool, batch: &Batch, state: &mut StatePages) -> Matches {
    let rows = &batch.rows;
    let mut matches = Matches::new(rows.row_count(), patterns.len());
    let slots_per_page = state.shape().slots_per_page();
    let mut used = [false; PREDICATES_MAX];
    let literals = patterns.iter().flat_map(|pattern| pattern.conditions.iter().flatten());
    literals.for_each(|literal| used[literal.predicate as usize] = true);
    let mut run = Run {
        patterns,
        predicates: (0..PREDICATES_MAX).filter(|&predicate| used[predicate]).collect(),
        needs_times,
        batch,
        matches: &mut matches,
        slots_per_page,
    };
    let mut block = Box::new(Block {
        predicates: [[[0; LANES]; WORDS]; PREDICATES_MAX],
        conditions: [[0; LANES]; STATES_MAX],
        active: [[0; LANES]; WORDS],
        elapsed: [[[0; LANES]; LANES]; WORDS],
        hits: [[0; LANES]; WORDS],
        ages: ages::Scratch::new(),
    });
    for (page, groups) in rows.pages(slots_per_page) {
        run_page(&mut run, &mut block, state.page_mut(page), groups);
    }
    matches
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn run_page(run: &mut Run<'_>, block: &mut Block, page: &mut [u32], groups: Range<usize>) {
    let (slots, offsets) = (run.batch.rows.slots(), run.batch.rows.offsets());
    let mut sets = vec![0; run.patterns.iter().map(Compiled::state_count).sum()];
    let mut ages = vec![[0; LANES]; run.patterns.iter().map(Compiled::word_count).sum()];
    let lane_of = |group: usize| Lane {
        slot: slots[group] as usize % run.slots_per_page,
        first_row: offsets[group] as usize,
        row_count: (offsets[group + 1] - offsets[group]) as usize,
    };
    let mut unequal: Vec<Lane> = Vec::new();
    let mut lanes: Vec<Lane> = Vec::with_capacity(LANES);
    let mut equal: Vec<Range<usize>> = Vec::new();
    for first in groups.clone().step_by(LANES) {
        let groups = first..(first + LANES).min(groups.end);
        let longest = groups.clone().map(|group| offsets[group + 1] - offsets[group]).max().unwrap_or(0) as usize;
        let total = (offsets[groups.end] - offsets[groups.start]) as usize;
        if longest * LANES <= 2 * total {
            equal.push(groups);
        } else {
            unequal.extend(groups.map(lane_of));
        }
    }
    // Neighbours of very unequal length waste lanes: those go with others of their length.
    unequal.sort_unstable_by_key(|lane| std::cmp::Reverse(lane.row_count));
    for groups in equal {
        lanes.clear();
        lanes.extend(groups.map(|group| Lane {
            slot: slots[group] as usize % run.slots_per_page,
            first_row: offsets[group] as usize,
            row_count: (offsets[group + 1] - offsets[group]) as usize,
        }));
        run_tile(run, block, page, &lanes, &mut sets, &mut ages);
    }
    for lanes in unequal.chunks(LANES) {
        run_tile(run, block, page, lanes, &mut sets, &mut ages);
    }
}

/// All rows of up to 64 keys. `sets` and `ages` have room for the states of all patterns.
#[inline(always)]
fn run_tile(
    run: &mut Run<'_>,
    block: &mut Block,
    page: &mut [u32],
    lanes: &[Lane],
    sets: &mut [u64],
    ages: &mut [[u32; LANES]],
) {
    let longest = lanes.iter().map(|lane| lane.row_count).max().unwrap_or(0);
    let mut last_times = [0i64; LANES];
    let mut first = 0;
    let in_tile = |first: usize| lanes.iter().filter(|lane| lane.row_count > first).count() >= LANES_MIN;
    if in_tile(0) {
        load_states(run, page, lanes, sets, ages, &mut last_times);
        while first < longest && in_tile(first) {
            let rows = longest - first;
            let words = match rows.div_ceil(64) {
                1 => {
                    run_block::<1>(run, block, lanes, first, rows, sets, ages, &mut last_times);
                    1
                }
                2 => {
                    run_block::<2>(run, block, lanes, first, rows, sets, ages, &mut last_times);
                    2
                }
                _ => {
                    run_block::<WORDS>(run, block, lanes, first, rows.min(WORDS * 64), sets, ages, &mut last_times);
                    WORDS
                }
            };
            first += words * 64;
        }
        store_states(run, page, lanes, sets, ages, &last_times);
    }
    for lane in lanes.iter().filter(|lane| lane.row_count > first) {
        let lane = Lane { slot: lane.slot, first_row: lane.first_row + first, row_count: lane.row_count - first };
        key::run_key(run, page, lane);
    }
}

/// Words of the patterns' states, from `[word][slot]` to a bit for each key, or an age for each key.
#[inline(always)]
fn load_states(
    run: &Run<'_>,
    page: &[u32],
    lanes: &[Lane],
    mut sets: &mut [u64],
    mut ages: &mut [[u32; LANES]],
    last_times: &mut [i64; LANES],
) {
    if run.needs_times {
        for (time, lane) in last_times.iter_mut().zip(lanes) {
            *time = last_time(page, run.slots_per_page, lane.slot);
        }
    }
    for pattern in run.patterns {
        let words = &page[pattern.first_word * run.slots_per_page..];
        if pattern.within.is_some() {
            let (own, rest) = ages.split_at_mut(pattern.state_count());
            for (state, ages) in own.iter_mut().enumerate() {
                *ages = [AGE_NEVER; LANES];
                for (age, lane) in ages.iter_mut().zip(lanes) {
                    *age = words[state * run.slots_per_page + lane.slot];
                }
            }
            ages = rest;
        } else {
            let mut turned = [0; LANES];
            for (word, lane) in turned.iter_mut().zip(lanes) {
                *word = u64::from(words[lane.slot]);
            }
            transpose(&mut turned);
            let (own, rest) = sets.split_at_mut(pattern.state_count());
            own.copy_from_slice(&turned[..own.len()]);
            sets = rest;
        }
    }
}

/// The way back.
#[inline(always)]
fn store_states(
    run: &Run<'_>,
    page: &mut [u32],
    lanes: &[Lane],
    mut sets: &[u64],
    mut ages: &[[u32; LANES]],
    last_times: &[i64; LANES],
) {
    if run.needs_times {
        for (&time, lane) in last_times.iter().zip(lanes) {
            set_last_time(page, run.slots_per_page, lane.slot, time);
        }
    }
    for pattern in run.patterns {
        let words = &mut page[pattern.first_word * run.slots_per_page..];
        if pattern.within.is_some() {
            let (own, rest) = ages.split_at(pattern.state_count());
            for (state, ages) in own.iter().enumerate() {
                for (&age, lane) in ages.iter().zip(lanes) {
                    words[state * run.slots_per_page + lane.slot] = age;
                }
            }
            ages = rest;
        } else {
            let (own, rest) = sets.split_at(pattern.state_count());
            let mut turned = [0; LANES];
            turned[..own.len()].copy_from_slice(own);
            transpose(&mut turned);
            for (&word, lane) in turned.iter().zip(lanes) {
                words[lane.slot] = word as u32;
            }
            sets = rest;
        }
    }
}

fn last_time(page: &[u32], slots_per_page: usize, slot: usize) -> i64 {
    (u64::from(page[slots_per_page + slot]) << 32 | u64::from(page[slot])) as i64
}

fn set_last_time(page: &mut [u32], slots_per_page: usize, slot: usize, time: i64) {
    page[slot] = time as u32;
    page[slots_per_page + slot] = (time as u64 >> 32) as u32;
}

/// Time from one row to the next one of the key, cut where no bound in time reaches.
pub(super) fn elapsed(before: i64, time: i64) -> u32 {
    time.saturating_sub(before).clamp(0, i64::from(AGE_NEVER)) as u32
}

/// `rows` rows of each key, from its row `first` on, which are in `N` words.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the tile's state in its three forms")]
fn run_block<const N: usize>(
    run: &mut Run<'_>,
    block: &mut Block,
    lanes: &[Lane],
    first: usize,
    rows: usize,
    mut sets: &mut [u64],
    mut ages: &mut [[u32; LANES]],
    last_times: &mut [i64; LANES],
) {
    let word_count = rows.div_ceil(64);
    let ragged = lanes.len() < LANES || lanes.iter().any(|lane| lane.row_count < first + rows);
    if ragged {
        for (word, active) in block.active[..word_count].iter_mut().enumerate() {
            *active = [0; LANES];
            for (bits, lane) in active.iter_mut().zip(lanes) {
                *bits = rows_mask(lane.row_count.saturating_sub(first + word * 64));
            }
            transpose(active);
        }
    }
    for &predicate in &run.predicates {
        let bitmap = run.batch.bitmap(predicate);
        let words = &mut block.predicates[predicate];
        for (index, lane) in lanes.iter().enumerate() {
            // What belongs to the next key is masked by `active`.
            let bits: [u64; N] = load(bitmap, lane.first_row + first.min(lane.row_count));
            for (word, bits) in words.iter_mut().zip(bits) {
                word[index] = bits;
            }
        }
        for word in &mut words[..word_count] {
            transpose(word);
        }
    }
    if run.needs_times {
        for (index, (lane, last)) in lanes.iter().zip(&mut *last_times).enumerate() {
            let start = lane.first_row + first.min(lane.row_count);
            let end = lane.first_row + (first + rows).min(lane.row_count);
            elapsed_rows(&run.batch.times[start..end], last, block.elapsed.as_flattened_mut(), index);
        }
    }
    let stride = stride(run.batch.rows.row_count());
    for (index, pattern) in run.patterns.iter().enumerate() {
        let count = pattern.state_count();
        let mut any = false;
        let (own_sets, own_ages);
        if pattern.within.is_some() {
            (own_ages, ages) = ages.split_at_mut(count);
            own_sets = &mut [][..];
        } else {
            (own_sets, sets) = sets.split_at_mut(count);
            own_ages = &mut [][..];
        }
        for word in 0..word_count {
            for (condition, literals) in block.conditions.iter_mut().zip(&pattern.conditions) {
                *condition = [u64::MAX; LANES];
                for literal in literals {
                    for (held, bits) in condition.iter_mut().zip(&block.predicates[literal.predicate as usize][word]) {
                        *held &= bits ^ literal.invert;
                    }
                }
            }
            let conditions = &block.conditions[..count];
            let rows = (rows - word * 64).min(64);
            let (hits, rest) = block.hits[word].split_at_mut(rows);
            rest.fill(0);
            let active = ragged.then_some(&block.active[word][..]);
            any |= match pattern.within {
                Some(within) => {
                    let elapsed = &block.elapsed[word];
                    ages::step(pattern, within, conditions, elapsed, active, &mut block.ages, own_ages, hits)
                }
                None => step(pattern, conditions, active, own_sets, hits),
            };
        }
        if any {
            let hits = &mut block.hits;
            for hits in &mut hits[..word_count] {
                transpose(hits);
            }
            hits[word_count..].fill([0; LANES]);
            let bits = &mut run.matches.bits[index * stride..(index + 1) * stride];
            for (index_of_lane, lane) in lanes.iter().enumerate() {
                let words: [u64; N] = std::array::from_fn(|word| hits[word][index_of_lane]);
                if words != [0; N] {
                    run.matches.counts[index] += words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
                    set(bits, lane.first_row + first, &words);
                }
            }
        }
    }
}

/// Times between the rows of a key. Not part of the functions for vector units, which would scatter.
#[inline(never)]
fn elapsed_rows(times: &[i64], last: &mut i64, rows: &mut [[u32; LANES]], lane: usize) {
    for (row, &time) in rows.iter_mut().zip(times) {
        row[lane] = elapsed(*last, time);
        *last = time;
    }
}

fn rows_mask(rows: usize) -> u64 {
    if rows >= 64 { u64::MAX } else { (1 << rows) - 1 }
}

/// Steps a pattern over the rows of a block; tells whether there was a hit.
#[inline(always)]
fn step(
    pattern: &Compiled,
    conditions: &[[u64; LANES]],
    active: Option<&[u64]>,
    sets: &mut [u64],
    hits: &mut [u64],
) -> bool {
    if pattern.sequence {
        // The usual pattern, one condition after the other.
        let known = match (sets.len(), pattern.skip) {
            (1, true) => Some(step_sequence::<1, true>(pattern, conditions, active, sets, hits)),
            (2, true) => Some(step_sequence::<2, true>(pattern, conditions, active, sets, hits)),
            (3, true) => Some(step_sequence::<3, true>(pattern, conditions, active, sets, hits)),
            (4, true) => Some(step_sequence::<4, true>(pattern, conditions, active, sets, hits)),
            (5, true) => Some(step_sequence::<5, true>(pattern, conditions, active, sets, hits)),
            (6, true) => Some(step_sequence::<6, true>(pattern, conditions, active, sets, hits)),
            (2, false) => Some(step_sequence::<2, false>(pattern, conditions, active, sets, hits)),
            (3, false) => Some(step_sequence::<3, false>(pattern, conditions, active, sets, hits)),
            (4, false) => Some(step_sequence::<4, false>(pattern, conditions, active, sets, hits)),
            _ => None,
        };
        if let Some(any) = known {
            return any;
        }
    }
    step_any(pattern, conditions, active, sets, hits)
}

/// All ones when the bit is set.
fn spread(set: u32, bit: usize) -> u64 {
    0u64.wrapping_sub(u64::from(set >> bit & 1))
}

/// One condition after the other, some of which may repeat: no lists, all sets in registers.
#[inline(always)]
fn step_sequence<const N: usize, const SKIP: bool>(
    pattern: &Compiled,
    conditions: &[[u64; LANES]],
    active: Option<&[u64]>,
    sets: &mut [u64],
    hits: &mut [u64],
) -> bool {
    let conditions: &[[u64; LANES]; N] = conditions.first_chunk().expect("one condition for each state");
    let sets: &mut [u64; N] = sets.first_chunk_mut().expect("one set for each state");
    let repeats: [u64; N] =
        std::array::from_fn(|state| if pattern.before[state].contains(&(state as u8)) { u64::MAX } else { 0 });
    let mut now = *sets;
    let mut any = 0;
    match active {
        None => {
            for (row, hits) in hits.iter_mut().enumerate().take(LANES) {
                let (next, hit) = step_row::<N, SKIP>(&now, &repeats, &conditions.each_ref().map(|held| held[row]));
                now = next;
                *hits = hit;
                any |= hit;
            }
        }
        Some(active) => {
            for (row, (hits, active)) in hits.iter_mut().zip(active).enumerate().take(LANES) {
                let (next, hit) = step_row::<N, SKIP>(&now, &repeats, &conditions.each_ref().map(|held| held[row]));
                for (now, next) in now.iter_mut().zip(next) {
                    *now = next & active | *now & !active;
                }
                *hits = hit & active;
                any |= *hits;
            }
        }
    }
    *sets = now;
    any != 0
}

/// A row of a sequence: the sets after it, and which keys match.
#[inline(always)]
fn step_row<const N: usize, const SKIP: bool>(
    now: &[u64; N],
    repeats: &[u64; N],
    conditions: &[u64; N],
) -> ([u64; N], u64) {
    let mut next = [0; N];
    next[0] = conditions[0];
    for state in 1..N {
        next[state] = conditions[state] & (now[state - 1] | now[state] & repeats[state]);
    }
    let hit = next[N - 1];
    (if SKIP { next.map(|next| next & !hit) } else { next }, hit)
}

/// Any pattern.
#[inline(always)]
fn step_any(
    pattern: &Compiled,
    conditions: &[[u64; LANES]],
    active: Option<&[u64]>,
    sets: &mut [u64],
    hits: &mut [u64],
) -> bool {
    let skip = if pattern.skip { u64::MAX } else { 0 };
    let mut next = [0; STATES_MAX];
    let next = &mut next[..sets.len()];
    let mut any = 0;
    for (row, hits) in hits.iter_mut().enumerate() {
        let mut hit = 0;
        for (state, next) in next.iter_mut().enumerate() {
            let mut from = spread(pattern.start, state);
            for &before in &pattern.before[state] {
                from |= sets[before as usize];
            }
            *next = conditions[state][row] & from;
            hit |= *next & spread(pattern.accept, state);
        }
        let active = active.map_or(u64::MAX, |active| active[row]);
        for (set, next) in sets.iter_mut().zip(&*next) {
            *set = next & !(hit & skip) & active | *set & !active;
        }
        *hits = hit & active;
        any |= *hits;
    }
    any != 0
}
