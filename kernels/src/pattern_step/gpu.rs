//! How `pattern_step` goes to a device: chunks of rows, patterns as tables.

use super::compiled::Compiled;
use super::cpu::elapsed;
use super::{AGE_NEVER, Batch, Matches, PatternStep, stride};
use crate::device::{Access, Binding, Dispatch, Program, Readback, Region, ResidentPages, Wave};
use crate::kernel::{Kernel, KernelError};
use std::ops::Range;

pub(super) const WORKGROUP_SIZE: u32 = 64;
pub(super) const CHUNK_WORDS: usize = 8;
pub(super) const CARRY_WORDS: usize = 3;
pub(super) const HEADER_WORDS: usize = 13;
pub(super) const CONDITION_WORDS: usize = 4;
/// Patterns up to this size keep their states in registers.
pub(super) const NARROW_STATES_MAX: usize = 4;
pub(super) const FLAG_FIRST: u32 = 1;
pub(super) const FLAG_LAST: u32 = 2;
/// Invocations of a workgroup that goes over the maps of a key.
#[cfg(test)]
pub(super) const CARRY_SIZE: u32 = 256;
/// The least rows that a chunk of a key has. Keys of up to eight times as many rows stay whole: walking them takes no longer than
/// two more dispatches.
pub(super) const CHUNK_ROWS: usize = 256;
/// As many invocations fill a large device: with more, keys stay whole, since cutting them costs a pass over all rows.
const INVOCATIONS: usize = 1 << 17;

/// The shader.
pub(crate) static PATTERN_STEP: Program = Program {
    name: super::NAME,
    source: include_str!("pattern_step.wgsl"),
    storage: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::ReadWrite,
        Access::ReadWrite,
        Access::ReadWrite,
    ],
};

/// The patterns as the shader reads them, in the order of [`order`].
fn table(patterns: &[Compiled], order: &[usize], conditions_of: &[super::Pattern]) -> Vec<u32> {
    let mut words = vec![0; order.len() * HEADER_WORDS];
    for (place, &index) in order.iter().enumerate() {
        let (compiled, pattern) = (&patterns[index], &conditions_of[index]);
        let conditions = words.len();
        for (state, before) in pattern.states.iter().zip(&compiled.before) {
            let before = before.iter().fold(0, |before, state| before | 1 << state);
            words.extend([state.mask, state.value, before, state.follow]);
        }
        // The shader reads as many as a narrow pattern may have.
        words.resize(words.len().max(conditions + NARROW_STATES_MAX * CONDITION_WORDS), 0);
        let following = following(pattern);
        let predicates = words.len();
        let (mut predicate_count, mut sets, mut set_count) = (0, 0, 0);
        if let Some(deterministic) = &compiled.deterministic {
            words.extend(deterministic.predicates.iter().map(|&predicate| u32::from(predicate)));
            words.extend(deterministic.next.iter().map(|&set| u32::from(set)));
            (predicate_count, sets, set_count) =
                (deterministic.predicates.len(), words.len(), deterministic.sets.len());
            words.extend(&deterministic.sets);
        }
        let header = [
            compiled.first_word as u32,
            compiled.state_count() as u32,
            compiled.start,
            compiled.accept,
            u32::from(compiled.skip),
            following as u32,
            compiled.within.unwrap_or(AGE_NEVER),
            conditions as u32,
            predicate_count as u32,
            predicates as u32,
            sets as u32,
            set_count as u32,
            (following >> 32) as u32,
        ];
        words[place * HEADER_WORDS..(place + 1) * HEADER_WORDS].copy_from_slice(&header);
    }
    words
}

/// For each set of a narrow pattern, as a nibble, the states that the next row may enter; 0 for larger patterns.
fn following(pattern: &super::Pattern) -> u64 {
    if pattern.states.len() > NARROW_STATES_MAX {
        return 0;
    }
    let after = |set: u32| {
        if pattern.skip == super::Skip::PastLastRow && set & pattern.accept != 0 {
            return pattern.start;
        }
        let of_set = pattern.states.iter().enumerate().filter(|(state, _)| set >> state & 1 == 1);
        of_set.fold(pattern.start, |after, (_, state)| after | state.follow)
    };
    (0..16).fold(0, |all, set| all | u64::from(after(set)) << (4 * set))
}

/// The order of patterns on the device: how many may be cut into chunks, how many others have no bound in time, and then those that have.
fn order(patterns: &[Compiled]) -> (Vec<usize>, usize, usize) {
    let class = |pattern: &Compiled| match pattern {
        Compiled { deterministic: Some(_), .. } => 0,
        Compiled { within: None, .. } => 1,
        _ => 2,
    };
    let mut order: Vec<usize> = (0..patterns.len()).collect();
    order.sort_by_key(|&index| class(&patterns[index]));
    let count = |wanted| patterns.iter().filter(|pattern| class(pattern) == wanted).count();
    (order, count(0), count(1))
}

/// The rows of all groups in chunks; for each page its number, its chunks and its keys that are cut.
struct Chunks {
    words: Vec<u32>,
    pages: Vec<(usize, Range<usize>, Range<usize>)>,
    /// First chunk and count of chunks of each key that is cut.
    runs: Vec<[u32; 2]>,
}

impl Chunks {
    /// Cuts keys of more than a few times `chunk_rows` rows, into chunks of whole words of rows. More chunks make walks over their rows
    /// shorter and the walk over their maps longer, which a workgroup shares.
    fn new(batch: &Batch, slots_per_page: usize, chunk_rows: usize) -> Self {
        let (slots, offsets) = (batch.rows.slots(), batch.rows.offsets());
        let mut chunks =
            Chunks { words: Vec::with_capacity(slots.len() * CHUNK_WORDS), pages: Vec::new(), runs: Vec::new() };
        for (page, groups) in batch.rows.pages(slots_per_page) {
            let (first, first_run) = (chunks.count(), chunks.runs.len());
            for group in groups {
                let rows = offsets[group] as usize..offsets[group + 1] as usize;
                let length = chunk_rows.max(rows.len().isqrt() / 4).checked_next_multiple_of(32).unwrap_or(usize::MAX);
                let is_cut = rows.len() > chunk_rows.saturating_mul(8).max(length.saturating_mul(2));
                let length = if is_cut { length } else { rows.len().max(1) };
                if is_cut {
                    chunks.runs.push([chunks.count() as u32, rows.len().div_ceil(length) as u32]);
                }
                for start in rows.clone().step_by(length) {
                    let end = start.saturating_add(length).min(rows.end);
                    let flags =
                        if start == rows.start { FLAG_FIRST } else { 0 } | if end == rows.end { FLAG_LAST } else { 0 };
                    let times = |row: usize| {
                        batch.times.get(row).map_or([0; 2], |&time| [time as u32, (time as u64 >> 32) as u32])
                    };
                    let ([first_low, first_high], [last_low, last_high]) = (times(start), times(end - 1));
                    let slot = slots[group] % slots_per_page as u32;
                    chunks.words.extend([
                        slot,
                        start as u32,
                        end as u32,
                        flags,
                        first_low,
                        first_high,
                        last_low,
                        last_high,
                    ]);
                }
            }
            chunks.pages.push((page, first..chunks.count(), first_run..chunks.runs.len()));
        }
        chunks
    }

    fn count(&self) -> usize {
        self.words.len() / CHUNK_WORDS
    }
}

pub(super) fn encode(
    kernel: &PatternStep,
    batch: &Batch,
    state: &mut ResidentPages,
    wave: &mut Wave,
) -> Result<Vec<Region>, KernelError> {
    state.grow(wave, kernel.slot_count(batch))?;
    let row_count = batch.rows.row_count();
    let (order, cut_count, whole_count) = order(&kernel.compiled);
    let patterns = state.table("patterns", || table(&kernel.compiled, &order, &kernel.patterns))?;
    let slots_per_page = state.shape().slots_per_page();
    let matches_words = order.len() * stride(row_count);
    let matches = wave.output(matches_words + order.len());
    let bits = wave.upload(&batch.bits);
    let times = wave.upload_with(batch.times.len(), |words| {
        for ((word, &time), before) in words.iter_mut().zip(&batch.times).zip(std::iter::once(&0).chain(&batch.times)) {
            *word = elapsed(*before, time);
        }
    });
    let fair_rows = row_count * cut_count / INVOCATIONS;
    let bounded_at = cut_count + whole_count;
    let classes = [
        (0..cut_count, kernel.chunk_rows.max(fair_rows), "step"),
        (cut_count..bounded_at, usize::MAX, "step"),
        (bounded_at..order.len(), usize::MAX, "step_within"),
    ];
    for (pattern_range, chunk_rows, step) in classes.into_iter().filter(|(range, ..)| !range.is_empty()) {
        let chunks = Chunks::new(batch, slots_per_page, chunk_rows);
        let chunk_region = wave.upload_with(chunks.words.len() + 2 * chunks.runs.len(), |words| {
            let (of_chunks, of_runs) = words.split_at_mut(chunks.words.len());
            of_chunks.copy_from_slice(&chunks.words);
            of_runs.copy_from_slice(chunks.runs.as_flattened());
        });
        let carry_words = if !chunks.runs.is_empty() { chunks.count() * pattern_range.len() * CARRY_WORDS } else { 0 };
        let carried = wave.scratch(carry_words);
        for (page, chunk_range, run_range) in chunks.pages.iter().cloned() {
            let params = [
                chunk_range.start as u32,
                chunk_range.len() as u32,
                pattern_range.start as u32,
                pattern_range.len() as u32,
                stride(row_count) as u32,
                stride(row_count) as u32,
                matches_words as u32,
                slots_per_page as u32,
                (chunks.words.len() + 2 * run_range.start) as u32,
                run_range.len() as u32,
            ];
            let mut run = |entry, workgroups: usize| {
                wave.dispatch(Dispatch {
                    program: &PATTERN_STEP,
                    entry,
                    overrides: &[],
                    params: &params,
                    bindings: &[
                        Binding::Region(&chunk_region),
                        Binding::Region(&bits),
                        Binding::Table(&patterns),
                        Binding::Region(&times),
                        Binding::Page(state, page),
                        Binding::Region(&matches),
                        Binding::Region(&carried),
                    ],
                    workgroups: workgroups as u32,
                })
            };
            let blocks = chunk_range.len().div_ceil(WORKGROUP_SIZE as usize);
            if !run_range.is_empty() {
                run("compose", blocks * pattern_range.len())?;
                run("carry", run_range.len() * pattern_range.len())?;
            }
            run(step, blocks * pattern_range.len())?;
            if step == "step_within" {
                run("settle", blocks)?;
            }
        }
    }
    Ok(vec![matches])
}

pub(super) fn decode(kernel: &PatternStep, batch: &Batch, regions: &[Region], readback: &Readback) -> Matches {
    let row_count = batch.rows.row_count();
    let words = readback.words(&regions[0]);
    let stride = stride(row_count);
    let (bits, counts) = words.split_at(kernel.patterns.len() * stride);
    let (order, ..) = order(&kernel.compiled);
    if order.is_sorted() {
        return Matches {
            row_count,
            bits: bits.to_vec(),
            counts: counts.iter().map(|&count| u64::from(count)).collect(),
        };
    }
    let mut matches = Matches::new(row_count, kernel.patterns.len());
    for (place, index) in order.into_iter().enumerate() {
        matches.bits[index * stride..(index + 1) * stride].copy_from_slice(&bits[place * stride..(place + 1) * stride]);
        matches.counts[index] = u64::from(counts[place]);
    }
    matches
}
