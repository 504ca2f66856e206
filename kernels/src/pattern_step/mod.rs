//! `pattern_step`: many pattern automata at once over packed predicate bits.
//!
//! A pattern is data, never code: up to 32 states, each of which stands for one pattern variable's place (a position automaton after
//! Glushkov). A row *enters* state `j` when its predicate bits satisfy the state's condition and the row before it (of the same key)
//! entered a state that `j` may follow, or `j` may start. A row *matches* when an accepting state is entered, and the answer is one
//! bit for each pattern and row.
//!
//! # Semantics
//! - All partial matches of a key advance side by side as a set of states, so nothing is lost to greed and no row is looked at twice.
//! - [`Skip::PastLastRow`]: after a match all partial matches of the key are given up, and the next row starts anew.
//!   [`Skip::Overlapping`]: they go on, and every row at which some match ends is reported.
//! - `within`: a match's last row is at most so many units after its first. Of the partial matches in a state only the one that
//!   started last is kept, as its age instead of a bit: whatever an older one could still complete, it completes sooner. So the answer
//!   is exact. Ages count from row to row and stop at [`AGE_NEVER`], so no distance in time overflows them.
//!
//! # Why bits
//! Predicates come bit-sliced: one bitmap over the grouped rows for each predicate, as they leave the evaluation of a boolean column.
//! One transposition of 64 x 64 bits turns 64 rows of 64 keys into words with one bit for each key, and then a step of a state is a
//! few word operations for 64 keys. One byte for each row would need eight transpositions for the same rows whatever the count of
//! predicates, and be shipped to a device in eight bits instead of three.
//!
//! Sources: Glushkov, "The abstract theory of automata" (1961); Baeza-Yates and Gonnet, "A new approach to text searching" (1992);
//! Hacker's Delight, section 7-3 (transposition).

mod bits;
mod compiled;
mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub mod naive;

use crate::kernel::{Exactness, Kernel, KernelError};
use crate::rows::GroupedRows;
use crate::state::{Layout, StatePages, StateShape};
use compiled::Compiled;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The name of the kernel.
pub const NAME: &str = "pattern_step";
/// How many states a pattern may have.
pub const STATES_MAX: usize = 32;
/// How many predicates a batch may have.
pub const PREDICATES_MAX: usize = 32;
/// The age of a partial match that is not there; `within` is below it.
pub const AGE_NEVER: u32 = 0x7fff_ffff;
/// Words that follow each bitmap, so that a block of rows can be read at any row.
pub(crate) const PADDING_WORDS: usize = 10;

/// One state of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which predicates the condition looks at.
    pub mask: u32,
    /// What they must be: `bits & mask == value`.
    pub value: u32,
    /// The states that the next row may enter, as a bit set.
    pub follow: u32,
}

/// What happens to the key's other partial matches after a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// They are given up: the next match starts after this one's last row.
    PastLastRow,
    /// They go on.
    Overlapping,
}

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// At most [`STATES_MAX`].
    pub states: Vec<State>,
    /// The states that a first row may enter, as a bit set.
    pub start: u32,
    /// The states that complete a match, as a bit set.
    pub accept: u32,
    /// What follows a match.
    pub skip: Skip,
    /// How many units of time the last row may be after the first one.
    pub within: Option<u32>,
}

impl Pattern {
    /// Conditions one after the other: state `j` is predicate `j`; a state in `repeats` (a bit set) may go on for any number of rows.
    pub fn sequence(length: usize, repeats: u32) -> Self {
        let states = (0..length).map(|state| State {
            mask: 1 << state,
            value: 1 << state,
            follow: if state + 1 < length { 2 << state } else { 0 } | (repeats & (1 << state)),
        });
        let accept = 1u32.checked_shl(length as u32).unwrap_or(0) >> 1;
        Pattern { states: states.collect(), start: 1, accept, skip: Skip::PastLastRow, within: None }
    }
}

/// The rows of one step.
#[derive(Debug, Clone)]
pub struct Batch {
    rows: Arc<GroupedRows>,
    predicate_count: usize,
    /// `[predicate][stride]`, bit `i % 32` of word `i / 32` is grouped row `i`; zero after the last row.
    bits: Vec<u32>,
    times: Vec<i64>,
}

impl Batch {
    /// `bitmaps[p]` has a bit for each grouped row (see [`Batch`]); bits after the last row do not matter. `times` has the event time
    /// of each grouped row, in the unit of `within`, ascending within a key; it may be empty when no pattern has a bound.
    ///
    /// # Panics
    /// When a bitmap has fewer bits than there are rows, or there are some times, but not for all rows.
    pub fn new(rows: Arc<GroupedRows>, bitmaps: &[&[u32]], times: Vec<i64>) -> Self {
        assert!(times.is_empty() || times.len() == rows.row_count(), "one time for each row");
        let row_count = rows.row_count();
        let (words, stride) = (row_count.div_ceil(32), stride(row_count));
        let mut bits = Vec::with_capacity(bitmaps.len() * stride);
        for bitmap in bitmaps {
            bits.extend_from_slice(&bitmap[..words]);
            if let Some(last) = bits.last_mut()
                && !row_count.is_multiple_of(32)
            {
                *last &= (1 << (row_count % 32)) - 1;
            }
            bits.resize(bits.len() + PADDING_WORDS, 0);
        }
        Batch { rows, predicate_count: bitmaps.len(), bits, times }
    }

    /// Bitmaps and times in the order that rows had before grouping.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn gather(rows: Arc<GroupedRows>, bitmaps: &[&[u32]], times: &[i64]) -> Self {
        assert!(times.is_empty() || times.len() == rows.row_count(), "one time for each row");
        let stride = stride(rows.row_count());
        let mut bits = vec![0; bitmaps.len() * stride];
        for (bitmap, bits) in bitmaps.iter().zip(bits.chunks_exact_mut(stride)) {
            for (rows, word) in rows.order().chunks(32).zip(bits) {
                for (index, &row) in rows.iter().enumerate() {
                    *word |= (bitmap[row as usize / 32] >> (row % 32) & 1) << index;
                }
            }
        }
        let times =
            if times.is_empty() { Vec::new() } else { rows.order().iter().map(|&row| times[row as usize]).collect() };
        Batch { rows, predicate_count: bitmaps.len(), bits, times }
    }

    /// Which rows are which key's.
    pub fn rows(&self) -> &Arc<GroupedRows> {
        &self.rows
    }

    /// The bitmap of a predicate over the grouped rows, with [`PADDING_WORDS`] zeros after it.
    fn bitmap(&self, predicate: usize) -> &[u32] {
        let stride = stride(self.rows.row_count());
        &self.bits[predicate * stride..(predicate + 1) * stride]
    }
}

pub(crate) fn stride(row_count: usize) -> usize {
    row_count.div_ceil(32) + PADDING_WORDS
}

/// The answer for one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matches {
    row_count: usize,
    /// `[pattern][stride]`.
    bits: Vec<u32>,
    /// How many rows matched each pattern.
    pub counts: Vec<u64>,
}

impl Matches {
    fn new(row_count: usize, pattern_count: usize) -> Self {
        Matches { row_count, bits: vec![0; pattern_count * stride(row_count)], counts: vec![0; pattern_count] }
    }

    /// One bit for each grouped row: bit `i % 32` of word `i / 32` is row `i`.
    pub fn bitmap(&self, pattern: usize) -> &[u32] {
        let stride = stride(self.row_count);
        &self.bits[pattern * stride..(pattern + 1) * stride - PADDING_WORDS]
    }

    /// The grouped rows that match, ascending.
    pub fn rows(&self, pattern: usize) -> impl Iterator<Item = usize> + '_ {
        self.bitmap(pattern).iter().enumerate().flat_map(|(index, &word)| {
            std::iter::successors(Some(word).filter(|&word| word != 0), |word| {
                Some(word & (word - 1)).filter(|&word| word != 0)
            })
            .map(move |word| index * 32 + word.trailing_zeros() as usize)
        })
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct PatternStep {
    patterns: Vec<Pattern>,
    compiled: Vec<Compiled>,
    initial: Vec<u32>,
    /// How many rows of a key one invocation of a device takes, where it may split a key.
    #[cfg(feature = "gpu")]
    chunk_rows: usize,
}

impl PatternStep {
    /// Checks the patterns.
    ///
    /// # Errors
    /// [`KernelError::Parameter`] names what is out of its range.
    pub fn new(patterns: Vec<Pattern>) -> Result<Self, KernelError> {
        let refuse = |parameter, expected: &str, given: String| {
            Err(KernelError::Parameter { kernel: NAME, parameter, expected: expected.to_owned(), given })
        };
        if patterns.is_empty() {
            return refuse("patterns", "at least one", "none".to_owned());
        }
        for pattern in &patterns {
            let count = pattern.states.len();
            if count == 0 || count > STATES_MAX {
                return refuse("states", "between 1 and 32 for each pattern", count.to_string());
            }
            let beyond = u32::MAX.checked_shl(count as u32).unwrap_or(0);
            let named = [("start", pattern.start), ("accept", pattern.accept)];
            let follow = pattern.states.iter().map(|state| ("follow", state.follow));
            for (parameter, states) in named.into_iter().chain(follow) {
                if states & beyond != 0 {
                    return refuse(
                        parameter,
                        &format!("a set of the pattern's {count} states"),
                        format!("{states:#b}"),
                    );
                }
            }
            if let Some(state) = pattern.states.iter().find(|state| state.value & !state.mask != 0) {
                return refuse("value", &format!("within the mask {:#b}", state.mask), format!("{:#b}", state.value));
            }
            if let Some(within) = pattern.within.filter(|&within| within >= AGE_NEVER) {
                return refuse("within", "below 2147483647 units of time", within.to_string());
            }
        }
        let mut initial = Vec::new();
        if patterns.iter().any(|pattern| pattern.within.is_some()) {
            initial.extend([0, 0]); // the time of the key's last row
        }
        let compiled = patterns
            .iter()
            .map(|pattern| {
                let first_word = initial.len();
                match pattern.within {
                    None => initial.push(0),
                    Some(_) => initial.extend(pattern.states.iter().map(|_| AGE_NEVER)),
                }
                Compiled::new(pattern, first_word)
            })
            .collect();
        Ok(PatternStep {
            patterns,
            compiled,
            initial,
            #[cfg(feature = "gpu")]
            chunk_rows: gpu::CHUNK_ROWS,
        })
    }

    /// The patterns.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether some pattern has a bound in time, so that batches need times.
    pub fn needs_times(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.within.is_some())
    }

    /// How many predicates the conditions look at.
    pub fn predicate_count(&self) -> usize {
        let masks = self.patterns.iter().flat_map(|pattern| &pattern.states).fold(0, |masks, state| masks | state.mask);
        (u32::BITS - masks.leading_zeros()) as usize
    }

    /// # Panics
    /// When the batch lacks predicates or times that the patterns need: the caller has built both from one plan.
    fn check(&self, batch: &Batch) {
        assert!(
            batch.predicate_count >= self.predicate_count(),
            "the batch has a bitmap for each predicate of the patterns"
        );
        assert!(
            !self.needs_times() || batch.times.len() == batch.rows.row_count(),
            "patterns with a bound need the times of rows"
        );
    }
}

impl Kernel for PatternStep {
    type Batch = Batch;
    type Output = Matches;

    fn name(&self) -> &'static str {
        NAME
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    /// For each pattern a word with its set of states, or, with a bound, the age of each state; before them, if there is a bound, the
    /// time of the key's last row (low word, high word).
    fn state_shape(&self) -> StateShape {
        StateShape::new(self.initial.clone(), Layout::WordMajor)
    }

    fn slot_count(&self, batch: &Batch) -> usize {
        batch.rows.slots().last().map_or(0, |&slot| slot as usize + 1)
    }

    fn row_count(&self, batch: &Batch) -> usize {
        batch.rows.row_count()
    }

    fn batch_bytes(&self, batch: &Batch) -> usize {
        batch.bits.len() * 4 + batch.times.len() * 8 + batch.rows.row_count() * 4
    }

    fn touched_slots<'a>(&self, batch: &'a Batch) -> Option<&'a [u32]> {
        Some(batch.rows.slots())
    }

    fn run_twin(&self, batch: &Batch, state: &mut StatePages) -> Matches {
        self.check(batch);
        cpu::run(&self.compiled, self.needs_times(), batch, state)
    }

    #[cfg(feature = "gpu")]
    fn encode(
        &self,
        batch: &Batch,
        state: &mut crate::device::ResidentPages,
        wave: &mut crate::device::Wave,
    ) -> Result<Vec<crate::device::Region>, KernelError> {
        self.check(batch);
        gpu::encode(self, batch, state, wave)
    }

    #[cfg(feature = "gpu")]
    fn decode(&self, batch: &Batch, regions: &[crate::device::Region], readback: &crate::device::Readback) -> Matches {
        gpu::decode(self, batch, regions, readback)
    }
}

#[cfg(test)]
mod tests;
