//! `pattern_step`: one pattern and many over the same predicates, over many keys and one.

use std::sync::Arc;

use super::{Random, many_keys};
use crate::bench::case::{Answer, Case, Workload};
use crate::kernel::Kernel;
use crate::pattern_step::{Batch, Matches, Pattern, PatternStep};
use crate::rows::GroupedRows;

/// Predicates of a row, each true for half of the rows.
const PREDICATES: usize = 8;

struct Patterns {
    kernel: PatternStep,
    variant: &'static str,
    input: &'static str,
    key_count: fn(usize) -> usize,
}

/// Rows in order of arrival: the slot of each, and a bitmap for each predicate.
pub(super) struct Rows {
    slots: Vec<u32>,
    key_count: usize,
    bitmaps: Vec<Vec<u32>>,
}

/// `A B+ C` on predicates that start at another one for each pattern; `C` takes three of them, so that matches are rare.
fn pattern(index: usize) -> Pattern {
    let mut pattern = Pattern::sequence(3, 0b010);
    for (state, condition) in pattern.states.iter_mut().enumerate() {
        let predicate = |further: usize| 1 << ((index + state + further) % PREDICATES);
        condition.mask = if state == 2 { predicate(0) | predicate(1) | predicate(2) } else { predicate(0) };
        // Patterns beyond the first eight ask for the opposite of their first condition.
        condition.value = if state == 0 && index / PREDICATES % 2 == 1 { 0 } else { condition.mask };
    }
    pattern
}

pub(super) fn add(cases: &mut Vec<Box<dyn Case>>) {
    let mut patterns = |variant, count, key_count, input| {
        let kernel = PatternStep::new((0..count).map(pattern).collect()).expect("the patterns are well formed");
        cases.push(Box::new(Patterns { kernel, variant, input, key_count }));
    };
    patterns("", 1, many_keys, "one pattern A B+ C over 8 predicates, up to 4,096 keys with 64 rows each or more");
    patterns(
        "64-patterns",
        64,
        many_keys,
        "64 patterns A B+ C over 8 predicates, up to 4,096 keys with 64 rows each or more",
    );
    patterns("one-key", 1, |_| 1, "one pattern A B+ C over 8 predicates, one key");
}

impl Workload for Patterns {
    type Kernel = PatternStep;
    type Columns = Rows;

    fn kernel(&self) -> &PatternStep {
        &self.kernel
    }

    fn variant(&self) -> &'static str {
        self.variant
    }

    fn input(&self) -> &'static str {
        self.input
    }

    fn key_count(&self, rows: usize) -> usize {
        (self.key_count)(rows)
    }

    fn warm_rows(&self) -> usize {
        1
    }

    fn columns(&self, rows: usize, key_count: usize, seed: u64) -> Rows {
        let mut random = Random::new(seed);
        let slots = (0..rows).map(|_| random.below(key_count) as u32).collect();
        let bitmaps = (0..PREDICATES).map(|_| (0..rows.div_ceil(32)).map(|_| random.next() as u32).collect()).collect();
        Rows { slots, key_count, bitmaps }
    }

    fn batch(&self, rows: &Rows) -> Batch {
        let bitmaps: Vec<&[u32]> = rows.bitmaps.iter().map(Vec::as_slice).collect();
        Batch::gather(Arc::new(GroupedRows::group(&rows.slots, rows.key_count)), &bitmaps, &[])
    }

    fn traffic_bytes(&self, batch: &Batch) -> u64 {
        // A bit of each predicate in and of each pattern out for each row; offsets and state, read and written, for each key.
        let (rows, keys) = (batch.rows().row_count() as u64, batch.rows().slots().len() as u64);
        let state_words = self.kernel.state_shape().words_per_slot() as u64;
        rows * (self.kernel.predicate_count() + self.kernel.patterns().len()) as u64 / 8 + keys * (8 + 8 * state_words)
    }

    fn units_per_event(&self) -> Option<(usize, &'static str)> {
        Some((self.kernel.patterns().len(), "event-patterns")).filter(|(patterns, _)| *patterns > 1)
    }

    fn answer(&self, matches: Matches) -> Answer {
        let counts = matches.counts.iter().flat_map(|&count| [count as u32, (count >> 32) as u32]);
        let bits = (0..matches.counts.len()).flat_map(|pattern| matches.bitmap(pattern).to_vec());
        Answer { words: counts.chain(bits).collect(), ..Answer::default() }
    }
}
