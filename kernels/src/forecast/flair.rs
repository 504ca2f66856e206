//! The default forecaster: level and shape in closed form.
//!
//! A forecast is the mean of the last cycle, plus the shape of the last cycles at the phase that is forecast, plus what a ridge regression
//! on a few lags says the level will be off by. Each group of horizons has a regression of its own, for just these steps ahead: nothing
//! is iterated, so an error of one step does not grow in the next. It weighs rows that are far off less, which makes it nearly one of the
//! least absolute error: series of machines have spikes.
//!
//! A regression takes its time after a level shift, and does not see what is no level at all: so what it says is one voice of several
//! (`experts.rs`).
//!
//! After the idea of FLAIR (arXiv 2605.07222), level times shape with a ridge on the level, written for streams: additive, so that zeros
//! and negative values are nothing special, and each number is updated by the next row.

use super::ridge::{self, FEATURES};
use super::state::{Key, Origin};

/// The cycles that a shape is taken from.
pub(super) const CYCLES_MAX: usize = 7;
/// Without season the level is the mean of so many rows.
pub(super) const WINDOW: usize = 24;
/// Gain of the fast moving average.
const FAST: f32 = 0.25;
/// What is forgotten of an example with each other one.
const FORGET: f32 = 1.0 / 1024.0;
/// Errors beyond so many mean errors count by their magnitude, not by its square.
const ROBUST: f32 = 1.0;
/// The variance that is expected of weights, as a fraction of the variance of errors: how strongly they are held back.
const PENALTY: f64 = 8.0;

/// Rows in a cycle.
pub(super) fn period(key: &Key<'_>) -> usize {
    if key.head.season > 0 { key.head.season as usize } else { WINDOW }
}

/// How many rows the level is the mean of when `rows` have come: twice as many are there, so that what it grows by is known too.
fn width(key: &Key<'_>, rows: usize) -> usize {
    match key.head.season as usize {
        0 => WINDOW.min(rows / 2).max(1),
        season => season.min(rows),
    }
}

/// How many whole cycles are used when `rows` rows have come.
fn cycles(key: &Key<'_>, rows: usize) -> usize {
    cycles_of(key, rows, period(key))
}

/// How many cycles of a period are used when `rows` rows have come: as many as are remembered after any row that forecasts are made from.
pub(super) fn cycles_of(key: &Key<'_>, rows: usize, period: usize) -> usize {
    let remembered = rows.min(2 * key.shape.season_max);
    (remembered / period).clamp(1, CYCLES_MAX)
}

/// The mean of the values in the phase of row `target`, of the cycles up to row `newest`, without the farthest off where there are many;
/// `base` if there is none.
fn same_phase(key: &Key<'_>, newest: usize, target: usize, base: f32) -> f32 {
    let period = period(key);
    let first = (target - newest).div_ceil(period);
    let count = cycles(key, newest + 1);
    let (mut sum, mut least, mut greatest) = (0.0, f32::MAX, f32::MIN);
    let mut used = 0;
    for back in first..first + count {
        let Some(row) = target.checked_sub(back * period) else { break };
        let value = key.value(row);
        sum += value;
        least = least.min(value);
        greatest = greatest.max(value);
        used += 1;
    }
    match used {
        0 => base,
        1..=3 => sum / used as f32,
        _ => (sum - least - greatest) / (used - 2) as f32,
    }
}

/// The shape of the season at row `target`, as known after row `newest`.
fn shape(key: &Key<'_>, newest: usize, target: usize, base: f32) -> f32 {
    if key.head.season == 0 { 0.0 } else { same_phase(key, newest, target, base) - base }
}

/// What is known now that the newest row has been pushed; `is_new` if its averages have not been moved yet.
pub(super) fn origin(key: &mut Key<'_>, is_new: bool) -> Origin {
    let rows = key.head.rows as usize;
    let newest = rows - 1;
    let width = width(key, rows);
    let level = key.mean(rows - width, rows);
    let trend = if rows >= 2 * width { level - key.mean(rows - 2 * width, rows - width) } else { 0.0 };
    // In a season what a cycle adds comes all at once, without one row by row.
    let trend = if key.head.season > 0 { trend } else { trend / width as f32 };
    let base = match key.head.season {
        0 => level,
        _ => key.mean(rows - (cycles(key, rows) * width).min(rows), rows),
    };
    let season = if newest > 0 { shape(key, newest - 1, newest, base) } else { 0.0 };
    let value = key.value(newest);
    let flat = value - season;
    if is_new {
        let first = 1.0 / rows as f32;
        key.head.fast += FAST.max(first) * (flat - key.head.fast);
        let slow = 1.0 / (4 * period(key)) as f32;
        key.head.slow += slow.max(first) * (value - key.head.slow);
    }
    Origin {
        level,
        last: flat - level,
        fast: key.head.fast - level,
        slow: key.head.slow - level,
        trend,
        base,
        unrest: 0.0,
    }
}

/// A forecast for row `target` from row `newest` before what the regression adds, and what that is made from.
pub(super) fn features(key: &Key<'_>, origin: &Origin, newest: usize, target: usize) -> (f32, [f32; FEATURES]) {
    let season = shape(key, newest, target, origin.base);
    let ahead = target - newest;
    let (near, far, trend) = if key.head.season > 0 {
        let period = key.head.season as usize;
        let near = target
            .checked_sub(ahead.div_ceil(period) * period)
            .map_or(0.0, |row| key.value(row) - origin.base - season);
        let far = match key.head.long as usize {
            0 => 0.0,
            long => target
                .checked_sub(ahead.div_ceil(long) * long)
                .filter(|row| newest - row < key.shape.ring - ahead)
                .map_or(0.0, |row| key.value(row) - origin.base - season),
        };
        (near, far, origin.trend)
    } else {
        let back = |by: usize| newest.checked_sub(by).map_or(0.0, |row| key.value(row) - origin.level);
        (back(1), back(2), origin.trend * ahead as f32)
    };
    (origin.level + season, [origin.last, origin.fast, origin.slow, trend, near, far, season])
}

/// Learns from what has come for row `target`, which row `newest` forecast.
pub(super) fn learn(key: &mut Key<'_>, group: usize, base: f32, features: &[f32; FEATURES], value: f32, error: f32) {
    let group = key.group(group);
    let limit = ROBUST * *group.spread;
    let weight = if error.abs() > limit && limit > 0.0 { limit / error.abs() } else { 1.0 };
    // The first examples come from sums of few rows: each weighs by how many there were, until old ones are forgotten.
    let keep = 1.0 - FORGET.max(1.0 / *group.count);
    ridge::learn(group.normal, features, value - base, weight, keep);
}

/// The season has changed: what was learnt under the other one counts for less.
pub(super) fn restart(key: &mut Key<'_>) {
    for group in 0..key.shape.groups.len() {
        key.group(group).normal.iter_mut().for_each(|product| *product *= 0.25);
    }
    let rows = key.head.rows as usize;
    let width = width(key, rows);
    key.head.fast = key.mean(rows - width, rows);
}

/// Solves one group's regression.
pub(super) fn solve(key: &mut Key<'_>, group: usize) {
    let group = key.group(group);
    let spread = f64::from(*group.spread);
    ridge::solve(group.normal, &[0.0; FEATURES], PENALTY * spread * spread, group.weights);
}
