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
pub(super) const HEADER_WORDS: usize = 12;
pub(super) const FLAG_FIRST: u32 = 1;
pub(super) const FLAG_LAST: u32 = 2;
/// The least rows that a chunk of a key has: a map costs up to 16 steps for each of its rows.
pub(super) const CHUNK_ROWS: usize = 1024;

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

/// The patterns as the shader reads them, those that may be cut into chunks first.
fn table(patterns: &[Compiled], order: &[usize], conditions_of: &[super::Pattern]) -> Vec<u32> {
    let mut words = vec![0; order.len() * HEADER_WORDS];
    for (place, &index) in order.iter().enumerate() {
        let (compiled, pattern) = (&patterns[index], &conditions_of[index]);
        let conditions = words.len();
        for (state, before) in pattern.states.iter().zip(&compiled.before) {
            words.extend([state.mask, state.value, before.iter().fold(0, |before, state| before | 1 << state)]);
        }
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
            u32::from(compiled.within.is_some()),
            compiled.within.unwrap_or(AGE_NEVER),
            conditions as u32,
            predicate_count as u32,
            predicates as u32,
            sets as u32,
            set_count as u32,
        ];
        words[place * HEADER_WORDS..(place + 1) * HEADER_WORDS].copy_from_slice(&header);
    }
    words
}

/// The order of patterns on the device, and how many of them may be cut into chunks.
fn order(patterns: &[Compiled]) -> (Vec<usize>, usize) {
    let (mut order, whole): (Vec<usize>, Vec<usize>) =
        (0..patterns.len()).partition(|&index| patterns[index].deterministic.is_some());
    let cut = order.len();
    order.extend(whole);
    (order, cut)
}

/// The rows of all groups in chunks; for each page its number and its chunks.
struct Chunks {
    words: Vec<u32>,
    pages: Vec<(usize, Range<usize>)>,
    has_cut: bool,
}

impl Chunks {
    /// Cuts keys of more than `chunk_rows` rows, into as many chunks as each then has rows.
    fn new(batch: &Batch, slots_per_page: usize, chunk_rows: usize) -> Self {
        let (slots, offsets) = (batch.rows.slots(), batch.rows.offsets());
        let mut chunks =
            Chunks { words: Vec::with_capacity(slots.len() * CHUNK_WORDS), pages: Vec::new(), has_cut: false };
        for (page, groups) in batch.rows.pages(slots_per_page) {
            let first = chunks.words.len() / CHUNK_WORDS;
            for group in groups {
                let rows = offsets[group] as usize..offsets[group + 1] as usize;
                let length = chunk_rows.max((rows.len() as f64).sqrt().ceil() as usize);
                for start in rows.clone().step_by(length) {
                    let end = start.saturating_add(length).min(rows.end);
                    let flags =
                        if start == rows.start { FLAG_FIRST } else { 0 } | if end == rows.end { FLAG_LAST } else { 0 };
                    chunks.has_cut |= flags != FLAG_FIRST | FLAG_LAST;
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
            chunks.pages.push((page, first..chunks.words.len() / CHUNK_WORDS));
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
    let (order, cut_count) = order(&kernel.compiled);
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
    let whole = [(0..cut_count, kernel.chunk_rows), (cut_count..order.len(), usize::MAX)];
    for (pattern_range, chunk_rows) in whole.into_iter().filter(|(range, _)| !range.is_empty()) {
        let chunks = Chunks::new(batch, slots_per_page, chunk_rows);
        let chunk_region = wave.upload(&chunks.words);
        let carry_words = if chunks.has_cut { chunks.count() * pattern_range.len() * CARRY_WORDS } else { 0 };
        let carried = wave.scratch(carry_words);
        for (page, chunk_range) in chunks.pages {
            let params = [
                chunk_range.start as u32,
                chunk_range.len() as u32,
                pattern_range.start as u32,
                pattern_range.len() as u32,
                stride(row_count) as u32,
                stride(row_count) as u32,
                matches_words as u32,
                slots_per_page as u32,
            ];
            let mut run = |entry, invocations: usize| {
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
                    workgroups: invocations.div_ceil(WORKGROUP_SIZE as usize) as u32,
                })
            };
            let invocations = chunk_range.len() * pattern_range.len();
            if chunks.has_cut {
                run("compose", invocations)?;
                run("carry", invocations)?;
            }
            run("step", invocations)?;
            if pattern_range.start == cut_count && kernel.needs_times() {
                run("settle", chunk_range.len())?;
            }
        }
    }
    Ok(vec![matches])
}

pub(super) fn decode(kernel: &PatternStep, batch: &Batch, regions: &[Region], readback: &Readback) -> Matches {
    let row_count = batch.rows.row_count();
    let words = readback.words(&regions[0]);
    let mut matches = Matches::new(row_count, kernel.patterns.len());
    let stride = stride(row_count);
    let (bits, counts) = words.split_at(kernel.patterns.len() * stride);
    for (place, index) in order(&kernel.compiled).0.into_iter().enumerate() {
        matches.bits[index * stride..(index + 1) * stride].copy_from_slice(&bits[place * stride..(place + 1) * stride]);
        matches.counts[index] = u64::from(counts[place]);
    }
    matches
}
