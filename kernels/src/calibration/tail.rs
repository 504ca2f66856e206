//! The chance of a score among the earlier ones of its key, held to the rate that was asked for.
//!
//! ```text
//! p = min(1, (prior rows above + own rows above + itself) / (prior rows + own rows + itself) * correction)
//! ln correction += GAIN * (1 if the row is below the rate, else 0, less the rate) / (rate * rows + k)
//! prior rows above = prior rows * exp(-surprise) * (1 + settled / age)
//! prior rows = those of the method * trust,  k = STEADY * trust * min(1, rate / 5e-4)^1.5,  trust = 1 / (1 + (age / 20,000)^2)
//! ```
//!
//! The first factor is conformal (Vovk et al., "Algorithmic Learning in a Random World"): the rank of a score among those seen, in a
//! histogram that forgets slowly, so that it follows drift; what is known of the method's scores in general ([`Prior`](super::Prior))
//! stands in for rows that have not come yet, and reaches beyond them. The second closes the loop (after adaptive conformal inference,
//! Gibbs and Candès, NeurIPS 2021): where ranks are wrong, because scores depend on each other or fade as a key ages, rows below the
//! rate come more or less often than the rate says, and p-values follow.
//!
//! The correction is a sum of all misses, with steps that fall as rows come (Angelopoulos, Barber, Bates, "Online conformal prediction with
//! decaying step sizes", ICML 2024; Robbins and Monro, 1951), so that it comes to rest only where rows below the rate come as often as the
//! rate says, whatever ranks are wrong by. (A power of how often they have come needs a lasting miss to have something to correct with: of
//! ranks that are wrong by eight, its third power leaves twice the rate for ever.)
//!
//! Both begin with trust in what is known beforehand, and it fades with the *age* of the key, not with the weight of its histogram, which
//! stays finite because it forgets: a prior that is worth two per cent of a histogram for ever holds a key whose tail is lighter than the
//! prior's at a fraction of the rate for ever, and a loop that is as steady after a million rows as after a thousand cannot mend it.
//!
//! No correction makes the *least* score rare: all others are at least as great, so its chance is 1. (A series that never changes has no row
//! below the rate, and the loop would lower p-values until all were.)
//!
//! An anomaly is not one row. After the first row below the rate a *cluster* lasts for some rows: they are not learnt, or a key would
//! take its own fault for normal; they count against the rate like all others. The more rows are to be below the rate, the shorter it is: else
//! all rows were in one, and none told.
//!
//! Where rows of a cluster are rare for one reason, the first tells it *once*: a series that reaches where it never was goes on from there,
//! and each row is new again; one that comes to a region where it seldom is stays there for a while. What is asked for is a rate of alarms, and
//! ranks and rates are of rows that do not depend on each other. So the rows after it are told as no rarer than the rate, unless one is far
//! rarer than all of them.
//!
//! Scores that *last*, such as a cumulative sum or how sure a model is of a change, say once what they say, too. How rare they are, and what the
//! key's own are worth, is told by its [excursions](super::excursions); the first row of a cluster counts, and is learnt, for those that
//! are passed over. Their cluster goes on as long as rows are low; one that goes on for hundreds of rows is how the series is now, and is learnt;
//! where one of a thousand rows goes higher still, that is told again.
//!
//! A distance has no end: that of a glitch is a million, and as one row in two thousand it would make a rate of one in two thousand of all that
//! comes after it, ten standard deviations included. So the first distance that is far beyond all others is not learnt; the next one is.
//!
//! Where nothing is known of a method's scores but their rank, they may lie close together (distances between shapes of noise differ by a
//! few per cent), or far beyond any scale. So there a [digest](super::digest) stands for the histogram: its bins are where the key's scores are.
//! The row itself counts among those above it, and the less the [farther](super::pareto) it is beyond all of them, where
//! no cluster lasts: a series that goes on rising is beyond all of them again with each row.

use super::prior::{Prior, SURPRISE_MAX, trust_in_prior};
use super::{digest, excursions, pareto};
use crate::window::sum;

/// Bins of a unit of surprise.
const PER_UNIT: f32 = 8.0;
/// Weights of the histogram.
pub(super) const BINS: usize = (SURPRISE_MAX * PER_UNIT) as usize;

// Words before the weights.
const WEIGHT: usize = 0; // of the newest row; it grows, which is how older ones fade
const TOTAL: usize = 1; // of all weights
const ROWS: usize = 2; // that were judged since the last halving
const CORRECTION: usize = 3; // its logarithm
const CLUSTER: usize = 4; // rows that the cluster lasts still
const LASTED: usize = 5; // rows that it has lasted
// The greatest surprise of the cluster; where only ranks are known, -ln of the least; of scores that last, at strict rates, the greatest of them.
const PEAK: usize = 6;
const MOVED: usize = 7; // how far the cluster has raised the correction
const HEADER: usize = 8;
/// The words of a key: those of excursions are the last ones, of scores that have some, or whether a score far beyond all others has been
/// passed over, of distances.
pub(super) fn words(prior: &Prior) -> usize {
    let rest = if prior.lasts().is_some() { excursions::WORDS } else { usize::from(prior.is_of_distances()) };
    HEADER + ranks(prior) + rest
}

/// The words that ranks are told from.
fn ranks(prior: &Prior) -> usize {
    if prior.is_by_rank() { digest::WORDS } else { BINS }
}

/// By what the weight of rows grows from one to the next: `2^(1 / half_life)`, so that after so many rows half of a row's weight is gone.
pub(super) fn growth(half_life_rows: f32) -> f32 {
    1.0 + std::f32::consts::LN_2 / half_life_rows
}

/// Weights are brought back to 1 when they reach this.
const WEIGHT_MAX: f32 = 1e6;
/// Rows of a cluster. The longer, the more rows of a restless key are passed over, and the more the ranks of the rest promise too much.
const CLUSTER_ROWS: f32 = 40.0;
/// Nor more than so many for each row that is expected below the rate, of scores that last for each row of an excursion,
const CLUSTER_SHARE: f32 = 0.4;
/// as far as it is no longer than this: where all of a series is one excursion it is one cluster.
const CLUSTER_LENGTH_MAX: f32 = 8.0;
/// At this rate, or a smaller one, an excursion is one cluster however far it goes. A looser one is begun by next to nothing, and what is far
/// rarer is told for itself: it is an alarm where fewer are asked for.
const STRICT_RATE: f32 = 5e-4;
/// After so many rows a cluster of scores that last is how the key is now: its rows are learnt.
const CLUSTER_ROWS_MAX: f32 = 500.0;
/// After so many a row that is above all of its cluster is told for itself: a walk may be up for thousands of rows, and higher all the time.
const TOLD_ANEW_ROWS: f32 = 1000.0;
/// A row that is so much more surprising than all of its cluster, fifty times as rare, is not rare for their reason.
const MORE: f32 = 4.0;
/// A distance is far beyond all others when it is so much more surprising than any: whatever a key's tail is, hardly any score of it is the
/// first one to be three thousand times as rare as the rarest before it.
const FAR: f32 = 8.0;
/// Others are so many rows at least.
const FAR_ROWS: f32 = 30.0;
/// A score is the least one of so many at least: of a few, which may be those of the fault itself, one is.
const OTHERS_MIN: f32 = 30.0;
/// How fast corrections follow misses.
const GAIN: f32 = 12.0;
/// A cluster raises it no further than this: a fault of many rows is one event, after which a young key is not to be deaf.
const CLUSTER_STEP_MAX: f32 = 2.0;
/// Rows below the rate that a correction is divided by before any is expected: how slowly it sets in.
const STEADY: f32 = 240.0;
/// At this rate, or a greater one; at a smaller one, fewer, and not only in proportion: a key of a hundred thousand rows, of which ten are to be
/// below a rate of 1e-4, would otherwise be for all its life as it began.
const STEADY_RATE: f32 = 5e-4;
/// Some are for ever: a rate so small that no row below it is expected is not corrected by one that comes.
const STEADY_MIN: f32 = 10.0;
/// Its logarithm stays within this (a factor of 64): a discrete series may have no score at all between normal and never seen, and a fault that
/// lasts for a week must not silence the key for years.
const CORRECTION_MAX: f32 = 6.0 * std::f32::consts::LN_2;
/// Rows are halved when so many below the rate are expected: steps do not become smaller than that.
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
    /// How fast older rows fade ([`growth`]).
    pub(super) growth: f32,
}

/// The chance of a score at least as great, above 0 and at most 1; then the score is learnt, if it is to be.
pub(super) fn p_value(state: &mut [f32], prior: &Prior, rate: f32, row: Judged) -> f32 {
    let Judged { score, age, learn, judged, growth } = row;
    let (header, rest) = state.split_at_mut(HEADER);
    let (weights, extra) = rest.split_at_mut(ranks(prior));
    let weight = header[WEIGHT].max(1.0);
    let surprise = prior.surprise(score);
    let above = if prior.is_by_rank() { digest::above(weights, score) } else { above(weights, surprise) } / weight;
    let shown = header[TOTAL] / weight;
    let trust = trust_in_prior(age);
    let is_least = shown >= OTHERS_MIN
        && if prior.is_by_rank() { digest::is_least(weights, score) } else { is_least(weights, surprise) };
    // What the row stands for if it begins a cluster.
    let mut stands_for = 1.0;
    let rank = match prior.lasts() {
        None => {
            let is_new = header[CLUSTER] <= 0.0;
            let itself = if prior.is_by_rank() && is_new { pareto::chance(weights, score, weight) } else { 1.0 };
            let (prior_above, prior_rows) = prior.rows_above(trust, prior.chance(surprise, age));
            (prior_above * itself + above) / (prior_rows + shown)
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
    let corrected = (rank * header[CORRECTION].exp()).clamp(f32::MIN_POSITIVE, 1.0);
    let p_value = if is_least { 1.0 } else { corrected };
    let may_be_told_anew = header[LASTED] >= TOLD_ANEW_ROWS;
    // How far a row of a cluster must go to be told for itself.
    let (rarity, more) = match prior.lasts() {
        None if !prior.is_by_rank() => (surprise, MORE),
        Some(_) if rate <= STRICT_RATE => (score, if may_be_told_anew { 0.0 } else { f32::INFINITY }),
        _ => (-rank.max(f32::MIN_POSITIVE).ln(), MORE),
    };
    let is_low = p_value < rate;
    let in_cluster = header[CLUSTER] > 0.0;
    // It says again what the first row of the cluster has said.
    let again = prior.tells_once() && in_cluster && rarity <= header[PEAK] + more;
    let below = judged && is_low && !again;
    let told = if again { p_value.max(rate * 1.001) } else { p_value };
    if !learn {
        return told;
    }
    let is_new_normal = again && header[LASTED] >= CLUSTER_ROWS_MAX;
    header[PEAK] = if in_cluster { header[PEAK].max(rarity) } else { rarity };
    let goes_on = if in_cluster { prior.lasts().is_some() } else { judged };
    let cluster = (CLUSTER_SHARE / (rate * stands_for.min(CLUSTER_LENGTH_MAX))).floor().min(CLUSTER_ROWS);
    header[CLUSTER] = if is_low && goes_on { cluster } else { (header[CLUSTER] - 1.0).max(0.0) };
    header[LASTED] =
        if in_cluster && !(may_be_told_anew && below) { (header[LASTED] + 1.0).min(TOLD_ANEW_ROWS) } else { 0.0 };
    if judged {
        let miss = f32::from(u8::from(below)) - rate;
        let moved = if in_cluster { header[MOVED] } else { 0.0 };
        let step = (GAIN * miss / (rate * header[ROWS] + steady)).min(CLUSTER_STEP_MAX - moved);
        header[MOVED] = moved + step.max(0.0);
        header[CORRECTION] = (header[CORRECTION] + step).clamp(-CORRECTION_MAX, CORRECTION_MAX);
        header[ROWS] += 1.0;
        if rate * header[ROWS] > EXPECTED_MAX || header[ROWS] >= 16_000_000.0 {
            header[ROWS] *= 0.5;
        }
    }
    let mut passed = in_cluster && !is_new_normal;
    if !passed && prior.is_of_distances() && shown >= FAR_ROWS && is_far(weights, surprise) {
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
        let mut weight = weight * growth;
        if weight > WEIGHT_MAX {
            let weights = if prior.is_by_rank() { digest::weights(weights) } else { &mut *weights };
            weights.iter_mut().for_each(|of_some| *of_some /= weight);
            (header[TOTAL], weight) = (header[TOTAL] / weight, 1.0);
        }
        if prior.is_by_rank() {
            digest::learn(weights, score, rows * weight);
        } else {
            weights[bin_of(surprise)] += rows * weight;
        }
        (header[TOTAL], header[WEIGHT]) = (header[TOTAL] + rows * weight, weight);
    }
    told
}

/// The bin of a surprise.
fn bin_of(surprise: f32) -> usize {
    ((surprise * PER_UNIT) as usize).min(BINS - 1)
}

/// Whether no surprise has been less than this one, as far as bins tell.
fn is_least(weights: &[f32], surprise: f32) -> bool {
    surprise <= 0.0 || sum(&weights[..bin_of(surprise)]) <= 0.0
}

/// The weight above a surprise: of its own bin, what lies above its place in it. All that is beyond the scale is alike.
fn above(weights: &[f32], surprise: f32) -> f32 {
    if surprise >= SURPRISE_MAX {
        return weights[BINS - 1];
    }
    let bin = bin_of(surprise);
    sum(&weights[bin + 1..]) + weights[bin] * (1.0 - (surprise * PER_UNIT - bin as f32)).clamp(0.0, 1.0)
}

/// Whether all scores seen are far below a surprise.
fn is_far(weights: &[f32], surprise: f32) -> bool {
    let near = bin_of(surprise).checked_sub((FAR * PER_UNIT) as usize);
    near.is_some_and(|near| weights[near..].iter().all(|weight| *weight == 0.0))
}
