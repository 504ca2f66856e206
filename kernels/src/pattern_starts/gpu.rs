//! How `pattern_starts` goes to a device: rows in segments that begin behind the end of a group, patterns as tables.

use super::compiled::Compiled;
use super::{Batch, PatternStarts, Starts};
use crate::device::{Access, Binding, Dispatch, Program, Readback, Region, ResidentPages, Wave};
use crate::kernel::KernelError;

pub(super) const WORKGROUP_SIZE: u32 = 64;
pub(super) const HEADER_WORDS: usize = 4;
pub(super) const STATE_WORDS: usize = 4;
pub(super) const FLAG_FREE: u32 = 1;
pub(super) const FLAG_REPEATS: u32 = 2;
pub(super) const PREDICATE_ANY: u32 = u32::MAX;
/// The least words of rows that an invocation has.
const SEGMENT_WORDS: usize = 8;
/// As many invocations fill a large device: with more, each has more rows.
const INVOCATIONS: usize = 1 << 17;
/// The patterns of one dispatch have no more words of answers, so that they fit what may be bound by the default limits.
const ANSWER_WORDS_MAX: usize = 8 << 20;

/// See the shader's head.
pub(crate) static PATTERN_STARTS: Program = Program {
    name: super::NAME,
    source: include_str!("pattern_starts.wgsl"),
    storage: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
};

/// The patterns as the shader reads them; predicates are those of the device.
fn table(kernel: &PatternStarts) -> Vec<u32> {
    let mut words = vec![0; kernel.compiled.len() * HEADER_WORDS];
    for (index, pattern) in kernel.compiled.iter().enumerate() {
        let header = [words.len() as u32, pattern.states.len() as u32, pattern.start, u32::from(pattern.has_cycles())];
        words[index * HEADER_WORDS..(index + 1) * HEADER_WORDS].copy_from_slice(&header);
        words.extend(states(kernel, pattern).flatten());
    }
    words
}

fn states<'a>(kernel: &'a PatternStarts, pattern: &'a Compiled) -> impl Iterator<Item = [u32; STATE_WORDS]> + 'a {
    pattern.states.iter().enumerate().map(|(place, state)| {
        let predicate = state.predicate.map_or(PREDICATE_ANY, |predicate| {
            kernel.predicates.binary_search(&predicate).expect("it is one of them") as u32
        });
        let flags = if state.free { FLAG_FREE } else { 0 } | if state.repeats { FLAG_REPEATS } else { 0 };
        let cycle = pattern.components.iter().find(|component| component.len() > 1 && component.end == place + 1);
        // One more than the first state of the cycle that ends here.
        [predicate, state.next, flags, cycle.map_or(0, |component| component.start as u32 + 1)]
    })
}

/// The words of a bitmap of 32 rows each.
fn halves(words: &[u64]) -> impl Iterator<Item = u32> + '_ {
    words.iter().flat_map(|word| [*word as u32, (word >> 32) as u32])
}

/// First word and end of each segment: all but the last one end with a word behind which a group ends.
fn segments(ends: &[u64], patterns: usize) -> Vec<[u32; 2]> {
    let words = ends.len() * 2;
    let least = SEGMENT_WORDS.max(words.saturating_mul(patterns) / INVOCATIONS);
    let mut segments = Vec::new();
    let mut first = 0;
    for (word, _) in halves(ends).enumerate().filter(|(_, ends)| *ends != 0) {
        if word >= first + least {
            segments.push([first as u32, word as u32]);
            first = word;
        }
    }
    if first < words {
        segments.push([first as u32, words as u32]);
    }
    segments
}

pub(super) fn encode(
    kernel: &PatternStarts,
    batch: &Batch,
    state: &mut ResidentPages,
    wave: &mut Wave,
) -> Result<Vec<Region>, KernelError> {
    let patterns = state.table("patterns", || table(kernel))?;
    let words = batch.words() * 2;
    let mut regions = Vec::new();
    if words == 0 {
        return Ok(regions);
    }
    let segments = segments(&batch.ends, kernel.compiled.len());
    let segment_region = wave.upload(segments.as_flattened());
    let bitmaps = kernel.predicates.iter().map(|predicate| &batch.bitmaps[*predicate as usize]);
    let bits = wave.upload_with((kernel.predicates.len() + 1) * words, |staging| {
        for (staging, bitmap) in staging.chunks_exact_mut(words).zip(bitmaps.chain([&*batch.ends])) {
            staging.iter_mut().zip(halves(bitmap)).for_each(|(staging, word)| *staging = word);
        }
    });
    let all = kernel.compiled.len();
    let at_once = (ANSWER_WORDS_MAX / words).max(1);
    for first in (0..all).step_by(at_once) {
        let count = at_once.min(all - first);
        let starts = wave.output(count * words);
        let blocks = segments.len().div_ceil(WORKGROUP_SIZE as usize);
        wave.dispatch(Dispatch {
            program: &PATTERN_STARTS,
            entry: "pattern_starts",
            overrides: &[],
            params: &[
                segments.len() as u32,
                first as u32,
                count as u32,
                words as u32,
                (kernel.predicates.len() * words) as u32,
            ],
            bindings: &[
                Binding::Region(&segment_region),
                Binding::Region(&bits),
                Binding::Table(&patterns),
                Binding::Region(&starts),
            ],
            workgroups: (blocks * count) as u32,
        })?;
        regions.push(starts);
    }
    Ok(regions)
}

pub(super) fn decode(batch: &Batch, regions: &[Region], readback: &Readback) -> Starts {
    let words = batch.words();
    let halves = regions.iter().flat_map(|region| readback.words(region).chunks_exact(2));
    let mut bits: Vec<u64> = halves.map(|half| u64::from(half[0]) | u64::from(half[1]) << 32).collect();
    for starts in bits.chunks_exact_mut(words.max(1)) {
        *starts.last_mut().expect("there are words") &= batch.last_mask();
    }
    Starts { words, bits }
}
