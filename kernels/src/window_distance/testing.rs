//! Series for tests of kernels that look at windows.

use std::sync::Arc;

use crate::features::Features;
use crate::rows::GroupedRows;

pub(crate) fn batch(slots: &[u32], values: &[f64]) -> Features {
    let slot_count = slots.iter().max().map_or(0, |&slot| slot as usize + 1);
    Features::new(Arc::new(GroupedRows::group(slots, slot_count)), &[values])
}

/// A seeded series of numbers in [-1, 1).
pub(crate) fn noise(seed: u64, rows: usize) -> Vec<f64> {
    let hash = |row: u64| {
        let word = (row + seed * 1_000_003).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let word = (word ^ (word >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (word >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..rows as u64).map(hash).collect()
}
