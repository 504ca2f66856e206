//! Mean and variance that forget exponentially, and how far a number is from them.
//!
//! Finch (2009), "Incremental calculation of weighted mean and variance"; the first rows weigh alike, so that a young mean is a plain one.

use super::novelty::COUNT_MAX;
use super::outlier::{ROWS_MIN, Usual};

const MEAN: usize = 0;
const VARIANCE: usize = 1;
const COUNT: usize = 2;
/// The words of a level.
pub(super) const WORDS: usize = 3;

/// Deviations beyond this say no more.
const DEVIATION_MAX: f32 = 1e9;

/// The gain with which half of a row's weight is gone after `half_life` rows.
pub(crate) fn gain_of(half_life: f32) -> f32 {
    1.0 - 0.5f32.powf(1.0 / half_life)
}

/// What a number is beside the numbers before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside {
    /// The mean of the numbers before; 0 before the first.
    pub(super) mean: f32,
    /// Their variance.
    pub(super) variance: f32,
    /// The distance from the mean in standard deviations, from 0 on. Of numbers that have long been one and the same any other is as far off as
    /// can be.
    pub(super) deviation: f32,
}

/// What was usual so far, and how much of what is not is to be learnt.
pub(super) fn usual(level: &[f32], limit: f32) -> Usual {
    Usual { mean: level[MEAN], variance: level[VARIANCE], rows: level[COUNT], limit }
}

/// Tells how far a number is, and then learns it, if it is to be learnt.
pub(super) fn beside(level: &mut [f32], number: f32, gain: f32, learn: bool) -> Beside {
    let (mean, variance) = (level[MEAN], level[VARIANCE]);
    let difference = number - mean;
    let deviation = if variance > 0.0 {
        (difference.abs() / variance.sqrt()).min(DEVIATION_MAX)
    } else if difference != 0.0 && level[COUNT] >= ROWS_MIN {
        DEVIATION_MAX
    } else {
        0.0
    };
    if learn {
        level[COUNT] = (level[COUNT] + 1.0).min(COUNT_MAX);
        let gain = gain.max(1.0 / level[COUNT]);
        level[MEAN] = mean + gain * difference;
        level[VARIANCE] = variance + gain * (difference * difference - variance);
    }
    Beside { mean, variance, deviation }
}
