//! Typical input of each kernel.

mod conv_forecast;
mod half_space_forest;
mod pattern_starts;
mod pattern_step;
mod recurrence_scan;
mod subspace_score;
mod window_distance;
mod window_reduce;

use super::Case;
use crate::rows::GroupedRows;

/// All workloads, in the order in which they are measured.
pub fn cases() -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    window_reduce::add(&mut cases);
    recurrence_scan::add(&mut cases);
    half_space_forest::add(&mut cases);
    window_distance::add(&mut cases);
    subspace_score::add(&mut cases);
    pattern_step::add(&mut cases);
    pattern_starts::add(&mut cases);
    conv_forecast::add(&mut cases);
    cases
}

/// Numbers from a seed, the same on every machine: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// From 0 to 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal: a sum of four uniform numbers, with variance 1.
    pub(super) fn noise(&mut self) -> f64 {
        ((0..4).map(|_| self.unit()).sum::<f64>() - 2.0) * 3f64.sqrt()
    }
}

/// Rows of many keys in order of arrival: the slot of each, and columns of numbers.
pub(super) struct KeyedColumns {
    pub(super) slots: Vec<u32>,
    pub(super) key_count: usize,
    pub(super) values: Vec<Vec<f64>>,
}

impl KeyedColumns {
    /// Sensors: each key has a level and a daily swing of its own, with noise, and now and then a value far off.
    pub(super) fn sensors(rows: usize, key_count: usize, column_count: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        // A table, because making sixteen million sines takes longer than any kernel.
        let swing: Vec<f64> =
            (0..1024).map(|step| 5.0 * (f64::from(step) * std::f64::consts::TAU / 1024.0).sin()).collect();
        let slots: Vec<u32> = (0..rows).map(|_| random.below(key_count.max(1)) as u32).collect();
        let values = (0..column_count)
            .map(|column| {
                let value = |(row, &slot): (usize, &u32)| {
                    let phase = row / 4 + slot as usize * 37 + column * 101;
                    let level = 1000.0 + f64::from(slot % 97) * 10.0;
                    let far = if random.below(1000) == 0 { 50.0 } else { 0.0 };
                    level + swing[phase % swing.len()] + random.noise() + far
                };
                slots.iter().enumerate().map(value).collect()
            })
            .collect();
        KeyedColumns { slots, key_count, values }
    }

    /// The rows by key: each batch groups anew, as each step does.
    pub(super) fn grouped(&self) -> GroupedRows {
        GroupedRows::group(&self.slots, self.key_count)
    }
}

/// As many keys as a busy step has: some 64 rows each, at most a few thousand.
pub(super) fn many_keys(rows: usize) -> usize {
    (rows / 64).clamp(1, 4096)
}
