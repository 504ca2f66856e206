//! The chance of a score among the earlier ones of its key, held to the rate that was asked for.
//!
//! ```text
//! p = min(1, (prior rows above + own rows above + itself) / (prior rows + own rows + itself) * correction)
//! correction = ((rows below the rate + k) / (rate * rows + k))^3
//! prior rows = those of the method * trust,  k = STEADY * trust * min(1, rate / 5e-4)^1.5,  trust = 1 / (1 + (age / 20,000)^2)
//! ```
//!
//! The first factor is conformal (Vovk et al., "Algorithmic Learning in a Random World"): the rank of a score among those seen, in a
//! histogram that forgets slowly, so that it follows drift; what is known of the method's scores in general ([`Prior`](super::Prior))
//! stands in for rows that have not come yet, and reaches beyond them. The second closes the loop (after adaptive conformal inference,
//! Gibbs and Candès, NeurIPS 2021): where ranks are wrong, because scores depend on each other or fade as a key ages, rows below the
//! rate come more or less often than the rate says, and p-values follow.
//!
//! Both begin with trust in what is known beforehand, and it fades with the *age* of the key, not with the weight of its histogram, which
//! stays finite because it forgets: a prior that is worth two per cent of a histogram for ever holds a key whose tail is lighter than the
//! prior's at a fraction of the rate for ever, and a loop that is as steady after a million rows as after a thousand cannot mend it. With
//! `k` gone the loop is an integral of all misses, which bounds the rate over the key's life whatever its scores do (Angelopoulos, Candès,
//! Tibshirani, "Conformal PID Control for Time Series Prediction", NeurIPS 2023).
//!
//! An anomaly is not one row. After the first row below the rate a *cluster* lasts for some rows: they are not learnt, or a key would
//! take its own fault for normal; they count against the rate like all others.
//!
//! Scores that *last*, such as a cumulative sum or how sure a model is of a change, are different: the rows of a cluster say again what its
//! first one has said, and all of them would be below the rate. So they are told as no rarer than the rate, a cluster goes on as long as they
//! are low, and the first one counts, and is learnt for those that are passed over. A cluster that goes on for hundreds of rows is how the
//! series is now, and is learnt. How rare they are, and what the key's own are worth, is told by its [excursions](super::excursions).
//!
//! A distance has no end: that of a glitch is a million, and as one row in two thousand it would make a rate of one in two thousand of all that
//! comes after it, ten standard deviations included. So the first distance that is far beyond all others is not learnt; the next one is.
//!
//! Where nothing is known of a method's scores but their rank, they may lie close together: distances between shapes of noise differ by a
//! few per cent. So the histogram is laid around the mean of the key's first scores, with its finest bins there.

use super::excursions;
use super::prior::{Prior, SURPRISE_MAX, trust_in_prior};
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
const LASTED: usize = 5; // rows that it has lasted
const USUAL: usize = 6; // mean of the first scores in octaves, where only ranks say what a score means
const USUAL_ROWS: usize = 7; // how many that is of
const HEADER: usize = 8;
/// The words of a key: those of excursions are the last ones, of scores that have some, or whether a score far beyond all others has been
/// passed over, of distances.
pub(super) fn words(prior: &Prior) -> usize {
    let rest = if prior.lasts().is_some() { excursions::WORDS } else { usize::from(prior.is_of_distances()) };
    HEADER + BINS + rest
}

/// `2^(1 / 50,000)`: after so many rows half of a row's weight is gone.
const GROWTH: f32 = 1.0 + std::f32::consts::LN_2 / 50_000.0;
/// Weights are brought back to 1 when they reach this.
const WEIGHT_MAX: f32 = 1e6;
/// Rows of a cluster. The longer, the more rows of a restless key are passed over, and the more the ranks of the rest promise too much.
const CLUSTER_ROWS: f32 = 50.0;
/// After so many rows a cluster of scores that last is how the key is now: its rows are learnt.
const CLUSTER_ROWS_MAX: f32 = 500.0;
/// A distance is far beyond all others when it is so much more surprising than any: whatever a key's tail is, hardly any score of it is the
/// first one to be three thousand times as rare as the rarest before it.
const FAR: f32 = 8.0;
/// Others are so many rows at least.
const FAR_ROWS: f32 = 30.0;
/// Scores that say where the key's are, before any is counted.
const USUAL_ROWS_MAX: f32 = 32.0;
/// Rows below the rate that are taken as given before any is seen: how slowly the correction sets in.
const STEADY: f32 = 120.0;
/// At this rate, or a greater one; at a smaller one, fewer, and not only in proportion: a key of a hundred thousand rows, of which ten are to be
/// below a rate of 1e-4, would otherwise be for all its life as it began.
const STEADY_RATE: f32 = 5e-4;
/// Some are for ever: a rate so small that no row below it is expected is not corrected by one that comes.
const STEADY_MIN: f32 = 5.0;
/// Corrections stay within these: a discrete series may have no score at all between normal and never seen.
const CORRECTION_MIN: f32 = 0.0625;
const CORRECTION_MAX: f32 = 64.0;
/// The ratio of rows below the rate to those expected whose third power is [`CORRECTION_MAX`].
const RATIO_MAX: f32 = 4.0;
/// Counts are halved when so many rows below the rate are expected.
const EXPECTED_MAX: f32 = 1000.0;

/// A score, and what is to be done with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    pub(super) score: f32,
    /// Rows that the key has learnt.
    pub(super) age: u32,
    /// Whether it is to be learnt.
    pub(super) learn: bool,
    /// Whether it counts against the rate: rows of a young key are no alarms.
    pub(super) judged: bool,
}

/// The chance of a score at least as great, above 0 and at most 1; then the score is learnt, if it is to be.
pub(super) fn p_value(state: &mut [f32], prior: &Prior, rate: f32, row: Judged) -> f32 {
    let Judged { score, age, learn, judged } = row;
    let (header, rest) = state.split_at_mut(HEADER);
    let (weights, extra) = rest.split_at_mut(BINS);
    if prior.is_by_rank() && header[USUAL_ROWS] < USUAL_ROWS_MAX {
        if learn && score > 0.0 {
            header[USUAL_ROWS] += 1.0;
            header[USUAL] += (score.log2() - header[USUAL]) / header[USUAL_ROWS];
        }
        return 1.0;
    }
    let surprise = prior.surprise(score, header[USUAL]);
    let place = surprise * PER_UNIT;
    let bin = (place as usize).min(BINS - 1);
    // Of its own bin, what lies above its place in it.
    let own = weights[bin] * (1.0 - (place - bin as f32)).clamp(0.0, 1.0);
    let weight = header[WEIGHT].max(1.0);
    let above = (sum(&weights[bin + 1..]) + own) / weight;
    let shown = header[TOTAL] / weight;
    let trust = trust_in_prior(age);
    // What the row stands for if it begins a cluster.
    let mut stands_for = 1.0;
    let rank = match prior.lasts() {
        None => {
            let (prior_above, prior_rows) = prior.rows_above(trust, (-surprise).exp());
            (prior_above + above) / (prior_rows + shown)
        }
        Some(known) => {
            // The rows of an excursion are worth one.
            let chance = known.chance(extra, score);
            stands_for = chance.high;
            let (prior_above, prior_rows) = prior.rows_above(trust, chance.of_row);
            let of_row = (prior_above + above / chance.length) / (prior_rows + shown / chance.length);
            excursions::begins(of_row.min(1.0), chance.high)
        }
    };
    let relative = (rate / STEADY_RATE).min(1.0);
    let steady = (STEADY * trust * relative * relative.sqrt()).max(STEADY_MIN);
    let ratio = (header[BELOW] + steady) / (rate * header[ROWS] + steady);
    let correction = (ratio * ratio * ratio).clamp(CORRECTION_MIN, CORRECTION_MAX);
    let p_value = (rank * correction).clamp(f32::MIN_POSITIVE, 1.0);
    let is_low = p_value < rate;
    // Of scores that last, those of a cluster say again what its first one has said.
    let in_cluster = header[CLUSTER] > 0.0;
    let again = prior.lasts().is_some() && in_cluster;
    let below = judged && is_low && !again;
    let told = if again { p_value.max(rate * 1.001) } else { p_value };
    if !learn {
        return told;
    }
    let is_new_normal = again && header[LASTED] >= CLUSTER_ROWS_MAX;
    if in_cluster && !(again && is_low) {
        header[CLUSTER] -= 1.0;
    } else if below || again {
        header[CLUSTER] = CLUSTER_ROWS;
    }
    header[LASTED] = if in_cluster { (header[LASTED] + 1.0).min(CLUSTER_ROWS_MAX) } else { 0.0 };
    if judged {
        header[ROWS] += 1.0;
        // No more than the greatest correction needs: a fault that lasts for a week must not silence the key for years.
        let enough = RATIO_MAX * (rate * header[ROWS] + steady) - steady;
        header[BELOW] = (header[BELOW] + f32::from(u8::from(below))).min(enough);
        if rate * header[ROWS] > EXPECTED_MAX || header[ROWS] >= 16_000_000.0 {
            (header[ROWS], header[BELOW]) = (0.5 * header[ROWS], 0.5 * header[BELOW]);
        }
    }
    let mut passed = in_cluster && !is_new_normal;
    if !passed && prior.is_of_distances() && shown >= FAR_ROWS && is_far(weights, bin) {
        passed = extra[0] == 0.0;
        extra[0] = f32::from(u8::from(passed));
    }
    // Of scores that last, the first row of a cluster stands for those that are passed over.
    let rows = if passed {
        0.0
    } else if below {
        stands_for
    } else {
        1.0
    };
    if let Some(known) = prior.lasts() {
        known.learn(extra, score, rows);
    }
    if !passed {
        let mut weight = weight * GROWTH;
        if weight > WEIGHT_MAX {
            weights.iter_mut().for_each(|of_bin| *of_bin /= weight);
            (header[TOTAL], weight) = (header[TOTAL] / weight, 1.0);
        }
        weights[bin] += rows * weight;
        (header[TOTAL], header[WEIGHT]) = (header[TOTAL] + rows * weight, weight);
    }
    told
}

/// Whether all scores seen are far below a bin.
fn is_far(weights: &[f32], bin: usize) -> bool {
    bin.checked_sub((FAR * PER_UNIT) as usize).is_some_and(|near| weights[near..].iter().all(|weight| *weight == 0.0))
}

/// How many standard deviations a normal value has a chance of `rate` to be away, on either side (a bound of the Gaussian tail).
pub(super) fn reach(rate: f64) -> f32 {
    (-2.0 * (rate / 2.0).ln()).sqrt() as f32
}
