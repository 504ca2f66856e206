//! Scores beyond all that a key has had: how far is far.
//!
//! A rank ends there. Of `n` rows in no order the next one is beyond all with a chance of `1 / (n + 1)`, and no rank tells a score that is
//! just beyond from one that is a hundred times as great: at a rate of one in two thousand, no row of a key is rare enough before it has
//! had two thousand. So what lies above a high quantile of the key's own scores is taken for a generalised Pareto tail (Pickands,
//! "Statistical inference using extreme order statistics", 1975), which what lies beyond the greatest of them then is, too:
//!
//! ```text
//! chance(score) = (1 + shape * (score - greatest) / scale)^(-1 / shape)       of a row beyond all others to be so far beyond them
//! scale         = scale above the quantile + shape * (greatest - quantile)
//! shape         = (rows * own shape + WORTH * SHAPE) / (rows + WORTH) + 1 / sqrt(rows)
//! ```
//!
//! The shape and the scale above the quantile are those of probability-weighted moments (Hosking and Wallis, "Parameter and quantile
//! estimation for the generalized Pareto distribution", 1987), which a heavy tail does not carry away. Few rows say little of a shape: so it
//! is drawn to that of measured series, made heavier by its standard error, and never lighter than exponential, though scores of
//! windows have an end: the tail is to be safe first. It says nothing about scores that the key has had: ranks do.

use super::digest;

/// The share of a key's rows that are its tail.
const SHARE: f32 = 0.2;
/// What the shape of a tail is in general, and how many rows of the tail that is worth.
const SHAPE: f32 = 0.25;
const WORTH: f32 = 50.0;
/// A shape of 1 has no mean.
const SHAPE_MAX: f32 = 0.95;

/// The chance of a score that is beyond all others to be as far beyond them as this one; 1 where it is not beyond them. `weight` is that of a
/// row.
pub(super) fn chance(words: &[f32], score: f32, weight: f32) -> f32 {
    let (means, weights) = digest::centres(words);
    let Some(&greatest) = means.last().filter(|greatest| score > **greatest) else {
        return 1.0;
    };
    let Some(tail) = Tail::fit(means, weights, weight) else {
        return 1.0;
    };
    let scale = tail.scale + tail.shape * (greatest - tail.quantile);
    (-(tail.shape * (score - greatest) / scale).ln_1p() / tail.shape).exp()
}

/// What lies above a quantile.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tail {
    quantile: f32,
    scale: f32,
    shape: f32,
}

impl Tail {
    /// None where all scores are the same.
    fn fit(means: &[f32], weights: &[f32], of_row: f32) -> Option<Self> {
        let total: f32 = weights.iter().sum();
        let (mut place, mut rows) = (means.len() - 1, weights[means.len() - 1]);
        while place > 0 && rows < SHARE * total {
            place -= 1;
            rows += weights[place];
        }
        // Where the centre begins, half way from the one below.
        let quantile = if place > 0 { 0.5 * (means[place - 1] + means[place]) } else { means[0] };
        // The mean excess, and that of excesses times the share of rows above them.
        let (mut mean, mut weighted, mut above) = (0.0, 0.0, 0.0);
        for (score, weight) in means[place..].iter().zip(&weights[place..]).rev() {
            let excess = weight / rows * (score - quantile);
            mean += excess;
            weighted += excess * (above + 0.5 * weight) / rows;
            above += weight;
        }
        let left = mean - 2.0 * weighted;
        if !(mean > 0.0 && left > 0.0) {
            return None;
        }
        let rows = rows / of_row;
        let own = (2.0 - mean / left).clamp(0.0, SHAPE_MAX);
        let shape = ((rows * own + WORTH * SHAPE) / (rows + WORTH) + rows.sqrt().recip()).min(SHAPE_MAX);
        // So that the mean is that of the key.
        Some(Tail { quantile, scale: mean * (1.0 - own), shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{HALF_LIFE_ROWS, Prior, tail};
    use crate::series::testing::{gaussian, unit};

    fn learnt(scores: impl Iterator<Item = f64>) -> Vec<f32> {
        let mut words = vec![0.0; digest::WORDS];
        scores.for_each(|score| digest::learn(&mut words, score as f32, 1.0));
        words
    }

    /// What a tail says of scores is what is so, whatever its shape; of rare ones rather too much than too little.
    #[test]
    fn tails_are_fitted() {
        for shape in [0.0f64, 0.2, 0.4] {
            let score = |row: u64| {
                let chance = unit(row).max(1e-12);
                if shape > 0.0 { (chance.powf(-shape) - 1.0) / shape } else { -chance.ln() }
            };
            let words = learnt((0..50_000).map(score));
            let (means, weights) = digest::centres(&words);
            let tail = Tail::fit(means, weights, 1.0).expect("scores differ");
            for chance in [0.1f64, 0.01, 0.001] {
                // How far beyond the quantile such a share of what is beyond it lies.
                let scale = 1.0 + shape * f64::from(tail.quantile);
                let excess = if shape > 0.0 { scale * (chance.powf(-shape) - 1.0) / shape } else { -chance.ln() };
                let (own, scale) = (f64::from(tail.shape), f64::from(tail.scale));
                let said = (1.0 + own * excess / scale).powf(-1.0 / own);
                let most = if chance < 0.01 { 4.0 } else { 1.7 };
                assert!((0.7..most).contains(&(said / chance)), "{shape}: {said} for {chance}, {tail:?}");
            }
        }
    }

    /// The chance is 1 up to the greatest score and falls from there on; where all scores are the same, nothing is known of what is far.
    #[test]
    fn the_chance_falls_beyond_the_greatest() {
        let words = learnt((0..500).map(|row| gaussian(row).abs()));
        let chances: Vec<f32> = (0..1000).map(|step| chance(&words, step as f32 * 0.02, 1.0)).collect();
        assert!(chances.windows(2).all(|pair| pair[1] <= pair[0]), "{chances:?}");
        assert!(chances[0] == 1.0 && chances[999] < 1e-3, "{chances:?}");
        assert_eq!(chance(&learnt((0..500).map(|_| 2.0)), 3.0, 1.0), 1.0);
        assert_eq!(chance(&vec![0.0; digest::WORDS], 3.0, 1.0), 1.0);
    }

    /// A gross anomaly of a young key is an alarm, however heavy the key's tail is, and rows that only are its greatest so far are not more often
    /// than the rate says. (By rank alone no row of a key of less than two thousand was one.)
    #[test]
    fn young_keys_tell_what_is_far() {
        type Score = fn(u64) -> f64;
        let kinds: [(&str, Score); 3] = [
            ("Gaussian", |row| gaussian(row).abs()),
            ("log-normal", |row| gaussian(row).exp()),
            ("heavy", |row| unit(row).max(1e-9).powf(-1.0 / 3.0)),
        ];
        const RATE: f32 = 5e-4;
        let (prior, growth) = (&Prior::UNKNOWN, tail::growth(HALF_LIFE_ROWS));
        for (kind, score) in kinds {
            let (mut below, mut rows, mut tried) = (0, 0.0, 0);
            for key in 0..60u64 {
                let mut state = vec![0.0; tail::words(prior)];
                let (mut greatest, mut last) = (0.0f32, 0);
                for age in 0..1000 {
                    let score = score(key * 1000 + u64::from(age)) as f32;
                    let judged = age >= 100;
                    let is_low = tail::p_value(
                        &mut state,
                        prior,
                        RATE,
                        tail::Judged { score, age, learn: true, judged, growth },
                    ) < RATE;
                    last = if is_low { age } else { last };
                    if judged {
                        (below, rows) = (below + u32::from(is_low), rows + 1.0);
                    }
                    greatest = greatest.max(score);
                }
                // In a cluster ranks alone tell.
                if last < 900 {
                    let far = tail::Judged { score: 4.0 * greatest, age: 1000, learn: false, judged: true, growth };
                    assert!(tail::p_value(&mut state, prior, RATE, far) < RATE, "{kind}, key {key}");
                    tried += 1;
                }
            }
            let multiple = below as f32 / (rows * RATE);
            assert!(multiple < 2.0 && tried >= 40, "{kind}: {multiple:.2} times the rate, {tried} keys tried");
        }
    }
}
