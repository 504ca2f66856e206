//! `pattern_starts`: rows at which matches of many patterns may begin, by the rows that follow them in the batch.
//!
//! Of a rule book of many patterns most rows are the beginning of no match, and the rows behind them tell so. [`pattern_step`] walks an
//! automaton forward and says where matches *end*; whoever looks for the match that the standard prefers has to know where one may *begin*,
//! and that is the same automaton walked backwards:
//!
//! ```text
//! goes_on[state][row] = holds[predicate of state][row]
//!                       and (state is free, or row is the last of its group, or goes_on[next][row + 1] for a next state)
//! starts[row]         = goes_on[state][row] for a state that a match may begin with
//! ```
//!
//! Behind a group's last row anything may come, so what the batch does not refute counts as a beginning: the answer is no match, but leaves
//! none out. Nothing is kept from one batch to the next.
//!
//! # Why backwards over rows, and not one lane for each key
//! A state is a bitmap over rows, and a step is `and`, `or` and a shift of words with a row in each bit: no rows have to be turned into
//! lanes, groups of a few rows cost no more than long ones, and what ends a group is one more bitmap. A state that repeats (`A+`) is filled
//! downwards through its runs. Only cycles of several states (`(A B)+`) are walked until nothing changes, word by word.
//!
//! Sources: Glushkov, "The abstract theory of automata" (1961); Myers, "A fast bit-vector algorithm for approximate string matching" (1999),
//! for runs that are filled by a carry.
//!
//! [`pattern_step`]: crate::pattern_step

mod compiled;
mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(test)]
mod naive;

use std::sync::{Arc, Mutex, PoisonError};

use crate::kernel::{Exactness, Kernel, KernelError};
use crate::state::{Layout, StatePages, StateShape};
use compiled::Compiled;

/// The name of the kernel.
pub const NAME: &str = "pattern_starts";
/// How many states a pattern may have.
pub const STATES_MAX: usize = 32;

/// A place in a pattern, which a row takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The bitmap of the rows that may take it; `None`: any row.
    pub predicate: Option<u32>,
    /// The states that the row after it may take, as a bit set.
    pub next: u32,
    /// Nothing more has to come: the rows so far are a match, or are one where the partition ends.
    pub free: bool,
}

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// At most [`STATES_MAX`].
    pub states: Vec<State>,
    /// The states that a match may begin with, as a bit set.
    pub start: u32,
}

/// The rows of a batch: bit `i % 64` of word `i / 64` of a bitmap is row `i`. What follows the last row does not matter.
#[derive(Debug, Clone)]
pub struct Batch {
    row_count: usize,
    bitmaps: Arc<Vec<Vec<u64>>>,
    ends: Arc<Vec<u64>>,
}

impl Batch {
    /// `ends` has the last row of each group; the very last row is one of them.
    ///
    /// # Panics
    /// When a bitmap has another count of words than the rows have, or the last row ends no group.
    pub fn new(row_count: usize, bitmaps: Arc<Vec<Vec<u64>>>, ends: Arc<Vec<u64>>) -> Self {
        let words = row_count.div_ceil(64);
        assert!(
            ends.len() == words && bitmaps.iter().all(|bitmap| bitmap.len() == words),
            "a bit for each row in each bitmap"
        );
        if let Some(last) = row_count.checked_sub(1) {
            assert_eq!(ends[last / 64] >> (last % 64) & 1, 1, "the last row ends a group");
        }
        Batch { row_count, bitmaps, ends }
    }

    /// How many rows there are.
    pub fn row_count(&self) -> usize {
        self.row_count
    }

    fn words(&self) -> usize {
        self.ends.len()
    }

    /// The rows among those of the last word.
    fn last_mask(&self) -> u64 {
        match self.row_count % 64 {
            0 => u64::MAX,
            rows => (1 << rows) - 1,
        }
    }
}

/// The answer: a bit for each pattern and row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Starts {
    words: usize,
    /// `[pattern][words]`
    bits: Vec<u64>,
}

impl Starts {
    /// The rows at which a match of a pattern may begin; zero behind the last row.
    pub fn of(&self, pattern: usize) -> &[u64] {
        &self.bits[pattern * self.words..(pattern + 1) * self.words]
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct PatternStarts {
    patterns: Vec<Pattern>,
    compiled: Vec<Compiled>,
    /// The bitmaps that some pattern looks at, ascending: what a device gets.
    predicates: Vec<u32>,
    /// An answer is megabytes, and memory that is asked for anew with each batch is cleared anew by the system: that cost ten times what the
    /// twin did with it.
    spare: Arc<Mutex<cpu::Spare>>,
}

impl PatternStarts {
    /// Checks the patterns.
    ///
    /// # Errors
    /// [`KernelError::Parameter`] names what is out of its range.
    pub fn new(patterns: Vec<Pattern>) -> Result<Self, KernelError> {
        let refuse = |parameter, expected: String, given: String| {
            Err(KernelError::Parameter { kernel: NAME, parameter, expected, given })
        };
        if patterns.is_empty() {
            return refuse("patterns", "at least one".to_owned(), "none".to_owned());
        }
        for pattern in &patterns {
            let count = pattern.states.len();
            if count == 0 || count > STATES_MAX {
                return refuse("states", "between 1 and 32 for each pattern".to_owned(), count.to_string());
            }
            let beyond = u32::MAX.checked_shl(count as u32).unwrap_or(0);
            let next = pattern.states.iter().map(|state| ("next", state.next));
            for (parameter, states) in std::iter::once(("start", pattern.start)).chain(next) {
                if states & beyond != 0 {
                    return refuse(parameter, format!("a set of the pattern's {count} states"), format!("{states:#b}"));
                }
            }
        }
        let mut predicates: Vec<u32> =
            patterns.iter().flat_map(|pattern| &pattern.states).filter_map(|state| state.predicate).collect();
        predicates.sort_unstable();
        predicates.dedup();
        let compiled = patterns.iter().map(Compiled::new).collect();
        Ok(PatternStarts { patterns, compiled, predicates, spare: Arc::default() })
    }

    /// The patterns.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// How many bitmaps of a batch the patterns look at.
    pub fn predicate_count(&self) -> usize {
        self.predicates.len()
    }

    /// How many states all patterns have: what a row costs, about.
    pub fn state_count(&self) -> usize {
        self.patterns.iter().map(|pattern| pattern.states.len()).sum()
    }

    /// Takes an answer back that nobody looks at any more: the next one is written over it.
    pub fn give_back(&self, starts: Starts) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).bits = starts.bits;
    }

    /// # Panics
    /// When the batch lacks bitmaps that the patterns look at: the caller has built both from one plan.
    fn check(&self, batch: &Batch) {
        let needed = self.predicates.last().map_or(0, |last| *last as usize + 1);
        assert!(batch.bitmaps.len() >= needed, "the batch has a bitmap for each predicate of the patterns");
    }
}

impl Kernel for PatternStarts {
    type Batch = Batch;
    type Output = Starts;

    fn name(&self) -> &'static str {
        NAME
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn keeps_state(&self) -> bool {
        false
    }

    fn state_shape(&self) -> StateShape {
        StateShape::new(vec![0], Layout::SlotMajor)
    }

    fn slot_count(&self, _: &Batch) -> usize {
        0
    }

    fn row_count(&self, batch: &Batch) -> usize {
        batch.row_count
    }

    fn batch_bytes(&self, batch: &Batch) -> usize {
        (batch.bitmaps.len() + 1) * batch.words() * 8
    }

    fn run_twin(&self, batch: &Batch, _: &mut StatePages) -> Starts {
        self.check(batch);
        cpu::run(&self.compiled, batch, &mut self.spare.lock().unwrap_or_else(PoisonError::into_inner))
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
    fn decode(&self, batch: &Batch, regions: &[crate::device::Region], readback: &crate::device::Readback) -> Starts {
        gpu::decode(batch, regions, readback)
    }
}

#[cfg(test)]
mod tests;
