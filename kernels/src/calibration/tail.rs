//! The chance of a score among the earlier ones of its key, held to the rate that was asked for.
//!
//! ```text
//! p = min(1, (prior rows above + own rows above) / (prior rows + own rows) * correction)
//! correction = ((rows below the rate + k) / (rate * rows + k))^3
//! ```
//!
//! The first factor is conformal (Vovk et al., "Algorithmic Learning in a Random World"): the rank of a score among those seen, in a
//! histogram that forgets slowly, so that it follows drift; what is known of the method's scores in general ([`Prior`](super::Prior))
//! stands in for rows that have not come yet, and reaches beyond them. The second closes the loop (after adaptive conformal inference,
//! Gibbs and Candès, NeurIPS 2021): where ranks are wrong, because scores depend on each other or fade as a key ages, rows below the
//! rate come more or less often than the rate says, and p-values follow.
//!
//! An anomaly is not one row. After the first row below the rate a *cluster* lasts for some rows: they are not learnt, or a key would
//! take its own fault for normal, and only some of them count against the rate.

use super::prior::{Prior, SURPRISE_MAX};
use crate::window::sum;

/// Bins of a unit of surprise.
const PER_UNIT: f32 = 8.0;
/// Weights of the histogram.
pub(super) const BINS: usize = (SURPRISE_MAX * PER_UNIT) as usize;

// Words before the weights.
const WEIGHT: usize = 0; // of the newest row; it grows, which is how older ones fade
const TOTAL: usize = 1; // of all weights
const ROWS: usize = 2; // that were judged since the last halving
const BELOW: usize = 3; // of them, those with a p-value below the rate
const CLUSTER: usize = 4; // rows that the cluster lasts still
const COUNTED: usize = 5; // rows of the cluster that counted against the rate
const HEADER: usize = 6;
/// The words of a key.
pub(super) const WORDS: usize = HEADER + BINS;

/// `2^(1 / 50,000)`: after so many rows half of a row's weight is gone.
const GROWTH: f32 = 1.0 + std::f32::consts::LN_2 / 50_000.0;
/// Weights are brought back to 1 when they reach this.
const WEIGHT_MAX: f32 = 1e6;
/// Rows of a cluster.
const CLUSTER_ROWS: f32 = 100.0;
/// Rows of a cluster that count against the rate at most.
const COUNTED_MAX: f32 = 16.0;
/// Rows below the rate that are taken as given before any is seen: how slowly the correction sets in.
const STEADY: f32 = 120.0;
/// Corrections stay within these: a discrete series may have no score at all between normal and never seen.
const CORRECTION_MIN: f32 = 0.0625;
const CORRECTION_MAX: f32 = 64.0;
/// Counts are halved when so many rows below the rate are expected.
const EXPECTED_MAX: f32 = 1000.0;

/// The chance of a score at least as great, above 0 and at most 1; then the score is learnt, if it is to be.
pub(super) fn p_value(state: &mut [f32], prior: &Prior, rate: f32, score: f32, learn: bool, judged: bool) -> f32 {
    let surprise = prior.surprise(score);
    let (header, weights) = state.split_at_mut(HEADER);
    let place = surprise * PER_UNIT;
    let bin = (place as usize).min(BINS - 1);
    // Of its own bin, what lies above its place in it.
    let own = weights[bin] * (1.0 - (place - bin as f32)).clamp(0.0, 1.0);
    let weight = header[WEIGHT].max(1.0);
    let above = (sum(&weights[bin + 1..]) + own) / weight;
    let shown = header[TOTAL] / weight;
    let (prior_above, prior_rows) = prior.rows_above(surprise, shown);
    let rank = (prior_above + above) / (prior_rows + shown);
    let ratio = (header[BELOW] + STEADY) / (rate * header[ROWS] + STEADY);
    let correction = (ratio * ratio * ratio).clamp(CORRECTION_MIN, CORRECTION_MAX);
    let p_value = (rank * correction).clamp(f32::MIN_POSITIVE, 1.0);
    let below = judged && p_value < rate;
    if !learn {
        return p_value;
    }
    let in_cluster = header[CLUSTER] > 0.0;
    if in_cluster {
        header[CLUSTER] -= 1.0;
    } else if below {
        (header[CLUSTER], header[COUNTED]) = (CLUSTER_ROWS, 0.0);
    }
    if judged {
        header[ROWS] += 1.0;
        if below && header[COUNTED] < COUNTED_MAX {
            header[BELOW] += 1.0;
            header[COUNTED] += 1.0;
        }
        if rate * header[ROWS] > EXPECTED_MAX || header[ROWS] >= 16_000_000.0 {
            (header[ROWS], header[BELOW]) = (0.5 * header[ROWS], 0.5 * header[BELOW]);
        }
    }
    if !in_cluster {
        let mut weight = weight * GROWTH;
        if weight > WEIGHT_MAX {
            weights.iter_mut().for_each(|of_bin| *of_bin /= weight);
            (header[TOTAL], weight) = (header[TOTAL] / weight, 1.0);
        }
        weights[bin] += weight;
        (header[TOTAL], header[WEIGHT]) = (header[TOTAL] + weight, weight);
    }
    p_value
}

/// How many standard deviations a normal value has a chance of `rate` to be away, on either side (a bound of the Gaussian tail).
pub(super) fn reach(rate: f64) -> f32 {
    (-2.0 * (rate / 2.0).ln()).sqrt() as f32
}
