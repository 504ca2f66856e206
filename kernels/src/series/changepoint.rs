//! The method `changepoint`: how sure it is that the series has not begun anew of late.
//!
//! ```text
//! score = -ln P(no change in the last `window` rows | all rows up to this one)
//! ```
//!
//! Bayesian online change point detection (Adams and MacKay, 2007): each *hypothesis* says since when the series has been as it is, and has
//! learnt mean and variance of the rows since then (normal-inverse-gamma, so that a row's chance under it is Student's t). A row makes
//! each hypothesis as much more likely as it had expected the row, and begins a new one with the chance that any row has of being a change.
//! A shift of the level, up or down, and a change of the spread are found by the same evidence, which a cumulative sum of residuals does
//! not.
//!
//! **Bounded.** Hypotheses that nothing speaks for die: of a fixed number the least likely is given up for the new one. What all runs have
//! in common, the prior of a new one, is a level that forgets slowly. Values are cut at some deviations from it, so that one row cannot
//! speak for a change by itself. A run forgets too, or drift too slow for anybody to call it a change would be one some day.

use super::novelty::COUNT_MAX;
use super::{Parts, Row, Scored, SeriesModel, level, outlier};

/// Hypotheses that are kept.
pub(super) const HYPOTHESES: usize = 48;

// Words of a hypothesis.
const WEIGHT: usize = 0; // ln of its chance, beside the likeliest
const LENGTH: usize = 1; // rows of its run; that from the beginning on has COUNT_MAX
const MEAN: usize = 2;
const KAPPA: usize = 3; // rows that the mean is worth
const BETA: usize = 4; // of the inverse gamma distribution of the variance
const WORDS: usize = 5;

// Words before the hypotheses.
const COUNT: usize = 0;
const ROWS: usize = 1;
const FAR: usize = 2; // see `outlier`
const HEADER: usize = 3;

/// What the mean of a new run is worth: it lies within about three deviations of the level.
const KAPPA_0: f32 = 0.1;
/// Shape of the variance of a new run.
const ALPHA_0: f32 = 1.0;
/// Beyond this nothing is surer.
const SCORE_MAX: f32 = 80.0;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct ChangePoint {
    /// Rows of late in which a change counts.
    pub(crate) window: u32,
    /// The chance that any row is a change.
    pub(crate) hazard: f32,
    /// Values are cut at so many standard deviations from the level.
    pub(crate) residual_limit: f32,
    /// The weight of the newest row in the level.
    pub(crate) gain: f32,
    /// Rows that a run remembers.
    pub(crate) memory: f32,
    /// Rows that score 0.
    pub(crate) min_training: u32,
}

impl ChangePoint {
    /// `ln` of the chance (density) of a value under a hypothesis.
    fn ln_chance(hypothesis: &[f32], value: f32) -> f32 {
        let (kappa, beta) = (hypothesis[KAPPA], hypothesis[BETA]);
        let alpha = ALPHA_0 + 0.5 * (kappa - KAPPA_0);
        let difference = value - hypothesis[MEAN];
        // `2 alpha scale^2`, where the scale is Student's.
        let spread = 2.0 * beta * (kappa + 1.0) / kappa;
        // Of `gamma(alpha + 1/2) / gamma(alpha)`, its asymptotic series.
        let (one, root) = (1.0 / alpha, alpha.sqrt());
        let ratio = root * (1.0 - one * (0.125 - one * (0.007_812_5 + one * 0.004_882_8)));
        (ratio / (std::f32::consts::PI * spread).sqrt()).ln()
            - (alpha + 0.5) * (difference * difference / spread).ln_1p()
    }

    /// A hypothesis after a value.
    fn learnt(&self, hypothesis: &[f32], value: f32) -> [f32; WORDS] {
        let mut next: [f32; WORDS] = std::array::from_fn(|word| hypothesis[word]);
        let difference = value - next[MEAN];
        let kappa = next[KAPPA] + 1.0;
        next[MEAN] += difference / kappa;
        next[BETA] += 0.5 * difference * difference * next[KAPPA] / kappa;
        next[KAPPA] = kappa;
        next[LENGTH] = (next[LENGTH] + 1.0).min(COUNT_MAX);
        if kappa > self.memory {
            let alpha = |kappa: f32| ALPHA_0 + 0.5 * (kappa - KAPPA_0);
            next[BETA] *= alpha(self.memory) / alpha(kappa);
            next[KAPPA] = self.memory;
        }
        next
    }
}

/// `ln` of a sum of which there are logarithms; nothing: minus infinity.
fn ln_sum(logarithms: impl Iterator<Item = f32> + Clone) -> f32 {
    let greatest = logarithms.clone().fold(f32::NEG_INFINITY, f32::max);
    if greatest == f32::NEG_INFINITY {
        return greatest;
    }
    greatest + logarithms.map(|logarithm| (logarithm - greatest).exp()).sum::<f32>().ln()
}

impl SeriesModel for ChangePoint {
    fn words(&self) -> usize {
        level::WORDS + HEADER + HYPOTHESES * WORDS
    }

    fn row(&self, state: &mut [f32], row: Row<'_>) -> Scored {
        let mut parts = Parts(state);
        let (level, header) = (parts.take(level::WORDS), parts.take(HEADER));
        let kept = parts.take(HYPOTHESES * WORDS);
        let learnt = outlier::learnt(&mut header[FAR], level::usual(level, outlier::NEAR), row.value(), row.learn);
        let beside = outlier::scored_and_learnt((row.value(), learnt), row.learn, |value, learn| {
            level::beside(level, value, self.gain, learn)
        });
        let deviation = beside.variance.sqrt();
        let mut scored = Scored { score: 0.0, surprise: None, expected: beside.mean, deviation };
        let young = header[ROWS] < self.min_training as f32;
        if row.learn {
            header[ROWS] = (header[ROWS] + 1.0).min(COUNT_MAX);
        }
        if young || !beside.variance.is_finite() {
            return scored;
        }
        // A series that has not moved yet has no scale. Of one that has long been the same nothing is surer than that it is no longer.
        if beside.variance <= 0.0 {
            scored.score = if beside.deviation > 0.0 { SCORE_MAX } else { 0.0 };
            return scored;
        }
        let reach = self.residual_limit * deviation;
        let value = row.value().clamp(beside.mean - reach, beside.mean + reach);
        let new = [0.0, 0.0, beside.mean, KAPPA_0, beside.variance * ALPHA_0];
        let count = header[COUNT] as usize;
        if count == 0 {
            if row.learn {
                let mut first = self.learnt(&new, value);
                first[LENGTH] = COUNT_MAX;
                kept[..WORDS].copy_from_slice(&first);
                header[COUNT] = 1.0;
            }
            return scored;
        }
        let mut next = [[0.0f32; WORDS]; HYPOTHESES + 1];
        let before = ln_sum(kept[..count * WORDS].chunks_exact(WORDS).map(|hypothesis| hypothesis[WEIGHT]));
        let mut likeliest = 0;
        for (index, hypothesis) in kept[..count * WORDS].chunks_exact(WORDS).enumerate() {
            next[index] = self.learnt(hypothesis, value);
            next[index][WEIGHT] = hypothesis[WEIGHT] + (1.0 - self.hazard).ln() + Self::ln_chance(hypothesis, value);
            if hypothesis[WEIGHT] > kept[likeliest * WORDS + WEIGHT] {
                likeliest = index;
            }
        }
        next[count] = self.learnt(&new, value);
        next[count][WEIGHT] = before + self.hazard.ln() + Self::ln_chance(&new, value);
        let all = ln_sum(next[..=count].iter().map(|hypothesis| hypothesis[WEIGHT]));
        let old = next[..=count].iter().filter(|hypothesis| hypothesis[LENGTH] > self.window as f32);
        let unchanged = ln_sum(old.map(|hypothesis| hypothesis[WEIGHT]));
        let expected = &kept[likeliest * WORDS..][..WORDS];
        scored.expected = expected[MEAN];
        scored.deviation = (expected[BETA] / (ALPHA_0 + 0.5 * (expected[KAPPA] - KAPPA_0))).sqrt();
        scored.score = (all - unchanged).clamp(0.0, SCORE_MAX);
        if row.learn {
            let mut count = count + 1;
            if count > HYPOTHESES {
                // The newest has no chance to show itself yet, and stays.
                let least = (0..HYPOTHESES).min_by(|one, other| next[*one][WEIGHT].total_cmp(&next[*other][WEIGHT]));
                count = HYPOTHESES;
                next[least.unwrap_or(0)] = next[HYPOTHESES];
            }
            for (kept, next) in kept.chunks_exact_mut(WORDS).zip(&next[..count]) {
                kept.copy_from_slice(next);
                // Nothing becomes so unlikely that it could not come back before a spread of `f32`.
                kept[WEIGHT] = (next[WEIGHT] - all).max(-1e6);
            }
            header[COUNT] = count as f32;
        }
        scored
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::gaussian;
    use super::*;

    const MODEL: ChangePoint =
        ChangePoint { window: 30, hazard: 0.01, residual_limit: 4.0, gain: 0.005, memory: 1e6, min_training: 20 };

    /// `ln gamma`, by Stirling's series far out and the recurrence.
    fn ln_gamma(mut number: f64) -> f64 {
        let mut shift = 0.0;
        while number < 30.0 {
            shift -= number.ln();
            number += 1.0;
        }
        shift + (number - 0.5) * number.ln() - number + 0.5 * std::f64::consts::TAU.ln() + 1.0 / (12.0 * number)
            - 1.0 / (360.0 * number.powi(3))
    }

    /// Bayes' rule over all ways to have had at most one open run since each row, in `f64`, with each run's evidence worked out anew from
    /// its rows: `ln` of the joint chance of rows `start..end` under the prior of a run that begins at `start`.
    fn evidence(values: &[f64], mean: f64, variance: f64) -> f64 {
        let (kappa_0, alpha_0) = (f64::from(KAPPA_0), f64::from(ALPHA_0));
        let beta_0 = variance * alpha_0;
        let count = values.len() as f64;
        let average = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - average).powi(2)).sum();
        let (kappa, alpha) = (kappa_0 + count, alpha_0 + 0.5 * count);
        let beta = beta_0 + 0.5 * squares + 0.5 * kappa_0 * count * (average - mean).powi(2) / kappa;
        ln_gamma(alpha) - ln_gamma(alpha_0) + alpha_0 * beta_0.ln() - alpha * beta.ln()
            + 0.5 * (kappa_0.ln() - kappa.ln())
            - 0.5 * count * std::f64::consts::TAU.ln()
    }

    /// The recursion over hypotheses is Bayes' rule: it agrees with the sum over all histories of changes, each weighed by the chance of its
    /// changes and the evidence of its runs, computed from scratch. (The level stands still here, so that all runs have one prior.)
    #[test]
    fn the_recursion_is_bayes_rule() {
        let model = ChangePoint { gain: 0.0, ..MODEL };
        let rows: Vec<f32> = (0..60).map(|row| gaussian(row) as f32 + if row >= 44 { 3.0 } else { 0.0 }).collect();
        let mut state = vec![0.0; model.words()];
        let mut fixed = vec![];
        for (row, value) in rows.iter().enumerate() {
            // The level as of the end of training stands still.
            if row == 20 {
                fixed = state[..level::WORDS].to_vec();
            } else if row > 20 {
                state[..level::WORDS].copy_from_slice(&fixed);
            }
            let score = model.row(&mut state, Row { values: &[*value], time_ms: None, learn: true }).score;
            if row <= 20 {
                continue;
            }
            let (mean, variance) = (f64::from(fixed[0]), f64::from(fixed[1]));
            let cut = |value: &f32| f64::from(*value).clamp(mean - 4.0 * variance.sqrt(), mean + 4.0 * variance.sqrt());
            let seen: Vec<f64> = rows[20..=row].iter().map(cut).collect();
            let hazard: f64 = model.hazard.into();
            // `before[n]`: chance of the first n rows, and of a change right after them.
            let sum = |logarithms: &[f64]| {
                let greatest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                greatest + logarithms.iter().map(|one| (one - greatest).exp()).sum::<f64>().ln()
            };
            let run = |start: usize, end: usize| {
                evidence(&seen[start..end], mean, variance) + (end - start - 1) as f64 * (1.0 - hazard).ln()
            };
            let mut before = vec![0.0];
            for end in 1..seen.len() {
                let ways: Vec<f64> = (0..end).map(|start| before[start] + run(start, end)).collect();
                before.push(sum(&ways) + hazard.ln());
            }
            let ways: Vec<f64> = (0..seen.len()).map(|start| before[start] + run(start, seen.len())).collect();
            let old: Vec<f64> = (0..seen.len())
                .filter(|start| *start == 0 || seen.len() - start > model.window as usize)
                .map(|start| ways[start])
                .collect();
            let expected = sum(&ways) - sum(&old);
            assert!((f64::from(score) - expected).abs() < 0.01 * expected.max(1.0), "row {row}: {score}, {expected}");
        }
    }

    /// Changes of level and of spread are found, one strange row is not one, and nothing is before them.
    #[test]
    fn changes_are_found_and_spikes_are_none() {
        let model = ChangePoint { memory: 500.0, hazard: 0.002, ..MODEL };
        let run = |change: fn(u64, f32) -> f32| {
            let mut state = vec![0.0; model.words()];
            let score = |row: u64| {
                let value = change(row, gaussian(row) as f32);
                model.row(&mut state, Row { values: &[value], time_ms: None, learn: true }).score
            };
            let scores: Vec<f32> = (0..1200).map(score).collect();
            (
                scores[100..1000].iter().copied().fold(0.0, f32::max),
                scores[1000..1040].iter().copied().fold(0.0, f32::max),
            )
        };
        let (calm, level) = run(|row, value| if row >= 1000 { value + 2.0 } else { value });
        let (_, spread) = run(|row, value| if row >= 1000 { 4.0 * value } else { value });
        let (_, spike) = run(|row, value| if row == 1000 { value + 30.0 } else { value });
        assert!(
            calm < 5.0 && level > 8.0 && spread > 8.0 && spike < calm.max(level / 2.0),
            "{calm} {level} {spread} {spike}"
        );
    }
}
