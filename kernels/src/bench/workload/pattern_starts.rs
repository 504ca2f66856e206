//! `pattern_starts`: a rule book over the same rows, of a few conditions and of many.

use std::sync::Arc;

use super::{Random, many_keys};
use crate::bench::case::{Answer, Case, Workload};
use crate::pattern_starts::{Batch, Pattern, PatternStarts, Starts, State};
use crate::rows::GroupedRows;

struct Rules {
    kernel: PatternStarts,
    variant: &'static str,
    input: &'static str,
    predicates: usize,
}

/// Rows in order of arrival: the slot of each, and a bitmap for each predicate.
pub(super) struct Rows {
    slots: Vec<u32>,
    key_count: usize,
    bitmaps: Vec<Vec<u64>>,
}

/// `A{2,} B`: what a rule asks of a stream. `A` is true for half of the rows, `B` for a sixteenth.
fn rule(index: usize, predicates: usize) -> Pattern {
    let half = predicates / 2;
    let (probe, hit) = (Some((index % half) as u32), Some((half + index / half % half) as u32));
    let state = |predicate, next, free| State { predicate, next, free };
    Pattern { states: vec![state(probe, 0b010, false), state(probe, 0b110, false), state(hit, 0, true)], start: 1 }
}

pub(super) fn add(cases: &mut Vec<Box<dyn Case>>) {
    let mut rules = |variant, count, predicates, input| {
        let patterns = (0..count).map(|index| rule(index, predicates)).collect();
        let kernel = PatternStarts::new(patterns).expect("the patterns are well formed");
        cases.push(Box::new(Rules { kernel, variant, input, predicates }));
    };
    rules("", 64, 32, "64 patterns A{2,} B over 32 predicates, up to 4,096 keys with 64 rows each or more");
    rules(
        "1000-patterns",
        1_000,
        512,
        "1,000 patterns A{2,} B over 512 predicates, up to 4,096 keys with 64 rows each or more",
    );
}

impl Workload for Rules {
    type Kernel = PatternStarts;
    type Columns = Rows;

    fn kernel(&self) -> &PatternStarts {
        &self.kernel
    }

    fn variant(&self) -> &'static str {
        self.variant
    }

    fn input(&self) -> &'static str {
        self.input
    }

    fn key_count(&self, rows: usize) -> usize {
        many_keys(rows)
    }

    fn warm_rows(&self) -> usize {
        1
    }

    fn columns(&self, rows: usize, key_count: usize, seed: u64) -> Rows {
        let mut random = Random::new(seed);
        let slots = (0..rows).map(|_| random.below(key_count) as u32).collect();
        let rare = |random: &mut Random| random.next() & random.next() & random.next() & random.next();
        let bitmap = |predicate: usize| {
            let word = |_| if predicate < self.predicates / 2 { random.next() } else { rare(&mut random) };
            (0..rows.div_ceil(64)).map(word).collect()
        };
        Rows { slots, key_count, bitmaps: (0..self.predicates).map(bitmap).collect() }
    }

    fn batch(&self, rows: &Rows) -> Batch {
        // Conditions are worked out for rows that are grouped already.
        let grouped = GroupedRows::group(&rows.slots, rows.key_count);
        let mut ends = vec![0u64; rows.slots.len().div_ceil(64)];
        for end in &grouped.offsets()[1..] {
            ends[(*end as usize - 1) / 64] |= 1 << ((end - 1) % 64);
        }
        Batch::new(rows.slots.len(), Arc::new(rows.bitmaps.clone()), Arc::new(ends))
    }

    fn traffic_bytes(&self, batch: &Batch) -> u64 {
        // A bit of each predicate in, of each group's end, and of each pattern out for each row.
        batch.row_count() as u64 * (self.kernel.predicate_count() + 1 + self.kernel.patterns().len()) as u64 / 8
    }

    fn units_per_event(&self) -> Option<(usize, &'static str)> {
        Some((self.kernel.patterns().len(), "event-patterns"))
    }

    fn answer(&self, starts: Starts) -> Answer {
        let words = (0..self.kernel.patterns().len()).flat_map(|pattern| starts.of(pattern).to_vec());
        Answer { words: words.flat_map(|word| [word as u32, (word >> 32) as u32]).collect(), ..Answer::default() }
    }
}
