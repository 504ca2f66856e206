//! Holt's level and trend with Winters' season, additive, the trend damped.
//!
//! How fast level and trend follow is not asked for: a few pairs of gains run side by side, and the one whose forecasts of the next row
//! have been best of late speaks. They share one season.
//!
//! Sources: Holt (1957); Winters, "Forecasting sales by exponentially weighted moving averages" (1960); Gardner & McKenzie (1985) for
//! the damped trend.

use super::state::{Key, Origin};

/// Gains of level and trend.
const GAINS: [(f32, f32); 5] = [(0.02, 0.002), (0.1, 0.01), (0.3, 0.02), (0.6, 0.03), (0.9, 0.04)];
/// Gain of the season.
const SEASON: f32 = 0.2;
/// What is left of the trend after one more step.
const DAMPING: f32 = 0.95;
/// How fast old errors are forgotten when pairs are compared.
const FORGET: f32 = 0.02;
/// Level, trend and error of each pair.
const PAIR: usize = 3;

/// Where levels are among the words: how many, and how far apart.
pub(super) const LEVELS: (usize, usize) = (GAINS.len(), PAIR);

/// Words that the method needs for itself.
pub(super) fn words(season_max: usize) -> usize {
    GAINS.len() * PAIR + season_max
}

fn best(own: &[f32]) -> usize {
    let error = |pair: &usize| own[pair * PAIR + 2];
    (0..GAINS.len()).min_by(|one, two| error(one).total_cmp(&error(two))).unwrap_or(0)
}

/// Takes in the newest row, which has been pushed.
pub(super) fn learn(key: &mut Key<'_>) -> Origin {
    let newest = key.head.rows as usize - 1;
    let value = key.value(newest);
    let phase = (key.head.season > 0).then(|| GAINS.len() * PAIR + newest % key.head.season as usize);
    let own = key.own();
    let season = phase.map_or(0.0, |at| own[at]);
    for (pair, (gain, trend_gain)) in own[..GAINS.len() * PAIR].chunks_exact_mut(PAIR).zip(GAINS) {
        if newest == 0 {
            pair[0] = value;
            continue;
        }
        let expected = pair[0] + DAMPING * pair[1];
        let error = value - season - expected;
        let rate = FORGET.max(1.0 / newest as f32);
        pair[2] += rate * (error.abs() - pair[2]);
        let level = expected + gain * error;
        pair[1] = DAMPING * pair[1] + trend_gain * error;
        pair[0] = level;
    }
    let best = best(own);
    let (level, trend) = (own[best * PAIR], own[best * PAIR + 1]);
    if let Some(at) = phase {
        // In error-correction form: what the level took of the error is not the season's, and what is left of it is `value - season - level`.
        own[at] += SEASON * (value - season - level);
    }
    Origin { level, trend, ..Origin::default() }
}

/// The season has changed: it begins with the last cycle, by phase.
pub(super) fn restart(key: &mut Key<'_>, season: &[f32]) {
    let own = key.own();
    own[GAINS.len() * PAIR..].fill(0.0);
    own[GAINS.len() * PAIR..][..season.len()].copy_from_slice(season);
}

/// The forecast for row `target` from row `newest`.
pub(super) fn forecast(key: &mut Key<'_>, origin: &Origin, newest: usize, target: usize) -> f32 {
    let ahead = (target - newest) as f32;
    let damped = DAMPING * (1.0 - DAMPING.powf(ahead)) / (1.0 - DAMPING);
    let season = match key.head.season as usize {
        0 => 0.0,
        period => key.own()[GAINS.len() * PAIR + target % period],
    };
    origin.level + origin.trend * damped + season
}
