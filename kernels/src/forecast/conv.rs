//! `conv`: the network [`conv_forecast`] looks at the last values, and errors say how far its quantiles are to be moved.
//!
//! The network says quantiles of its own. How good they are for this series is measured as for the other methods, in another unit: a value is
//! read on the scale on which the network's quantiles are those of a standard normal distribution ([`surprise`]). Where the network is right,
//! these numbers are standard normal; where they are not, their quantiles say which of the network's levels is really meant. At first nothing
//! is known, and the network is believed.
//!
//! A forecast for errors alone would cost more than all the rest, so only each so-manieth row begins one, and of each group of horizons one
//! step of it is kept until its value comes.

use std::cmp::Ordering;

use super::forecaster::{ERRORS_MIN, mix};
use super::interval::GROWTH_PLAIN;
use super::state::{Key, Shape};
use crate::conv_forecast::{self, FORECAST_NUMBERS, QUANTILES, Seasons, Weights, Windows};

/// Rows between forecasts that are held against what comes, at least.
const STRIDE_MIN: usize = 4;
/// Forecasts are held against what comes from so many values on.
const VALUES_MIN: u32 = 12;
/// The network's word counts as much as so many errors.
const PRIOR: f64 = 24.0;
/// Surprises are no greater than this. Widths of a window say nothing of what lies so far beyond them: a burst among equal values is a million
/// widths away, and these million, learnt, would be asked for in a restless window, whose widths are a million times as wide. And bins have
/// room for a factor of 256 between the greatest and those that are told from zero.
const SURPRISE_MAX: f32 = 32.0;
/// So many windows are worked out at once.
const WAITING_MAX: usize = 64;
const MEDIAN: usize = QUANTILES / 2;
/// The standard normal quantiles of the network's levels.
const NORMAL: [f32; QUANTILES] =
    [-1.281_551_6, -0.841_621_2, -0.524_400_5, -0.253_347_1, 0.0, 0.253_347_1, 0.524_400_5, 0.841_621_2, 1.281_551_6];

/// Rows between two forecasts that are kept.
fn stride(horizon: usize) -> usize {
    horizon.div_ceil(32).max(STRIDE_MIN)
}

/// How many forecasts are kept.
fn kept(horizon: usize) -> usize {
    horizon / stride(horizon) + 1
}

/// Words that the method needs for itself: of each kept forecast the quantiles of one step of each group.
pub(super) fn words(horizon: usize, groups: usize) -> usize {
    kept(horizon) * groups * QUANTILES
}

/// So many values must be remembered.
pub(super) fn rows_seen(season_max: usize) -> usize {
    Seasons { season: season_max, long: 0 }.rows_seen()
}

/// The step ahead whose quantiles are kept, of the forecast that begins at row `origin`.
fn step_kept(shape: &Shape, origin: usize, group: usize) -> usize {
    let (first, last) = shape.groups[group];
    first + mix(origin as u32, group as u32) as usize % (last - first + 1)
}

fn place(shape: &Shape, horizon: usize, origin: usize, group: usize) -> usize {
    let forecast = origin / stride(horizon) % kept(horizon);
    (forecast * shape.groups.len() + group) * QUANTILES
}

/// The network, and windows that wait for it.
#[derive(Debug)]
pub(super) struct Network {
    weights: &'static Weights,
    windows: Windows,
    /// Slot and newest row of each window.
    waiting: Vec<(u32, usize)>,
    history: Vec<f32>,
    /// `[STEPS][QUANTILES]` of one key.
    quantiles: Vec<f32>,
}

impl Network {
    pub(super) fn new() -> Self {
        Network {
            weights: Weights::builtin(),
            windows: Windows::new(),
            waiting: Vec::new(),
            history: Vec::new(),
            quantiles: Vec::new(),
        }
    }

    /// The newest row may begin a forecast that is kept; it waits for [`Self::settle`]. Says whether there are many that wait.
    pub(super) fn begin(&mut self, key: &mut Key<'_>, slot: u32, horizon: usize) -> bool {
        let newest = key.head.rows as usize - 1;
        if !newest.is_multiple_of(stride(horizon)) {
            return false;
        }
        if key.head.values < VALUES_MIN {
            let (start, count) = (place(key.shape, horizon, newest, 0), key.shape.groups.len() * QUANTILES);
            key.own()[start..start + count].fill(f32::NAN);
            return false;
        }
        let seasons = look_back(key, &mut self.history);
        self.windows.push(&self.history, seasons);
        self.waiting.push((slot, newest));
        self.waiting.len() >= WAITING_MAX
    }

    /// The network's weights.
    pub(super) fn weights(&self) -> &'static Weights {
        self.weights
    }

    /// Whether a forecast of this key waits.
    pub(super) fn waits(&self, slot: u32) -> bool {
        // Of all that wait the last one is the only one that can have another row: rows come by key.
        self.waiting.last().is_some_and(|(waiting, _)| *waiting == slot)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Works out all forecasts that wait, and hands each to its key: slot, newest row, the quantiles of [`STEPS`] steps.
    pub(super) fn settle(&mut self, mut keep: impl FnMut(u32, usize, &[f32])) {
        let forecasts = conv_forecast::forecast(self.weights, &self.windows);
        let all = forecasts.chunks_exact(FORECAST_NUMBERS).zip(&self.windows.scales).zip(&self.waiting);
        for ((forecast, scale), (slot, newest)) in all {
            self.quantiles.clear();
            self.quantiles.extend(forecast.iter().map(|quantile| scale.unscaled(*quantile)));
            keep(*slot, *newest, &self.quantiles);
        }
        self.windows.clear();
        self.waiting.clear();
    }
}

/// Copies the values that a window of a key depends on.
pub(super) fn look_back(key: &Key<'_>, history: &mut Vec<f32>) -> Seasons {
    let seasons = Seasons { season: key.head.season as usize, long: key.head.long as usize };
    let rows = key.head.rows as usize;
    let (one, two) = key.run(rows - key.held().min(seasons.rows_seen()), rows);
    history.clear();
    history.extend_from_slice(one);
    history.extend_from_slice(two);
    seasons
}

/// Keeps what a forecast that began at row `newest` says of one step of each group.
pub(super) fn keep(key: &mut Key<'_>, horizon: usize, newest: usize, quantiles: &[f32]) {
    for group in 0..key.shape.groups.len() {
        let step = step_kept(key.shape, newest, group);
        let place = place(key.shape, horizon, newest, group);
        // What is beyond the network's steps begins from its medians: too much work for an error.
        match quantiles.chunks_exact(QUANTILES).nth(step - 1) {
            Some(of_step) => key.own()[place..place + QUANTILES].copy_from_slice(of_step),
            None => key.own()[place..place + QUANTILES].fill(f32::NAN),
        }
    }
}

/// Holds a value, the next row's, against what was kept for it.
pub(super) fn judge(key: &mut Key<'_>, horizon: usize, value: f32) {
    let target = key.head.rows as usize;
    let stride = stride(horizon);
    let mut origin = target.saturating_sub(1) / stride * stride;
    while target > origin && target - origin <= horizon {
        let ahead = target - origin;
        let group = key.shape.group_of(ahead);
        if step_kept(key.shape, origin, group) == ahead {
            let place = place(key.shape, horizon, origin, group);
            let mut quantiles = [0.0; QUANTILES];
            quantiles.copy_from_slice(&key.own()[place..place + QUANTILES]);
            if let Some(surprise) = surprise(&quantiles, value) {
                let even = (mix(target as u32, 64 + group as u32) >> 8) as f32 / (1u32 << 24) as f32;
                let of_group = key.group(group);
                *of_group.count += 1.0;
                let (count, mut errors) = (*of_group.count, of_group.errors);
                errors.learn(surprise, 1, even);
                errors.age(count, GROWTH_PLAIN);
            }
        }
        match origin.checked_sub(stride) {
            Some(before) => origin = before,
            None => break,
        }
    }
}

/// Where a value lies among quantiles, on the scale on which they are those of a standard normal distribution. `None` if they are no
/// numbers, or all the same.
pub(super) fn surprise(quantiles: &[f32; QUANTILES], value: f32) -> Option<f32> {
    let (low, middle, high) = (quantiles[0], quantiles[MEDIAN], quantiles[QUANTILES - 1]);
    // None of these orders holds where one is no number.
    if low.partial_cmp(&high) != Some(Ordering::Less) {
        return None;
    }
    let beyond = |distance: f32, width: f32| distance / width.max((high - low) * 0.05) * NORMAL[QUANTILES - 1];
    let surprise = if value < low {
        NORMAL[0] + beyond(value - low, middle - low)
    } else if value > high {
        NORMAL[QUANTILES - 1] + beyond(value - high, high - middle)
    } else {
        let above = quantiles.iter().position(|quantile| value < *quantile).unwrap_or(QUANTILES - 1).max(1);
        let (from, to) = (quantiles[above - 1], quantiles[above]);
        let share = if to > from { (value - from) / (to - from) } else { 0.5 };
        NORMAL[above - 1] + share * (NORMAL[above] - NORMAL[above - 1])
    };
    Some(surprise.clamp(-SURPRISE_MAX, SURPRISE_MAX))
}

/// The value of a [`surprise`].
pub(super) fn value_of(quantiles: &[f32], surprise: f64) -> f64 {
    let quantile = |level: usize| f64::from(quantiles[level]);
    let normal = |level: usize| f64::from(NORMAL[level]);
    let (low, middle, high) = (quantile(0), quantile(MEDIAN), quantile(QUANTILES - 1));
    let width = |width: f64| width.max((high - low) * 0.05);
    if surprise < normal(0) {
        return low + (surprise - normal(0)) / normal(QUANTILES - 1) * width(middle - low);
    }
    for above in 1..QUANTILES {
        if surprise <= normal(above) {
            let share = (surprise - normal(above - 1)) / (normal(above) - normal(above - 1));
            return quantile(above - 1) + share * (quantile(above) - quantile(above - 1));
        }
    }
    high + (surprise - normal(QUANTILES - 1)) / normal(QUANTILES - 1) * width(high - middle)
}

/// Which surprise is meant by a level, at a step of a group: the network's, moved by what the group's errors say.
pub(super) fn surprise_of(key: &mut Key<'_>, ahead: usize, level: f64) -> f64 {
    let mut group = key.shape.group_of(ahead);
    // Of what lies beyond the network's steps no errors are counted at all.
    while group > 0 && *key.group(group).count < ERRORS_MIN {
        group -= 1;
    }
    let errors = key.group(group).errors;
    let weight = f64::from(errors.weight());
    // That errors of forecasts that overlap are alike is what the network's word makes up for.
    let learnt = f64::from(errors.quantile(level as f32, 1));
    (weight * learnt + PRIOR * normal_quantile(level)) / (weight + PRIOR)
}

/// The quantile of the standard normal distribution, to about 1e-9 (Acklam's rational approximation).
fn normal_quantile(level: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    const TAIL: f64 = 0.02425;
    let polynomial =
        |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient);
    let level = level.clamp(1e-300, 1.0 - 1e-16);
    if level > 1.0 - TAIL {
        return -normal_quantile(1.0 - level);
    }
    if level < TAIL {
        let root = (-2.0 * level.ln()).sqrt();
        return polynomial(&C, root) / (polynomial(&D, root) * root + 1.0);
    }
    let (centred, square) = (level - 0.5, (level - 0.5) * (level - 0.5));
    polynomial(&A, square) * centred / (polynomial(&B, square) * square + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normal_quantiles_are_those_of_tables() {
        for (level, quantile) in NORMAL.iter().enumerate() {
            let found = normal_quantile((level + 1) as f64 / 10.0);
            assert!((found - f64::from(*quantile)).abs() < 1e-6, "{found}");
        }
        assert!((normal_quantile(0.999) - 3.090_232_306).abs() < 1e-8);
        assert!((normal_quantile(0.001) + 3.090_232_306).abs() < 1e-8);
    }

    proptest! {
        /// A surprise and its value belong together as far as surprises go, and a greater value is a greater surprise.
        #[test]
        fn surprises_and_values_are_inverse(
            steps in proptest::collection::vec(0.01f32..3.0, QUANTILES),
            value in -20f32..20.0,
            more in 0f32..5.0,
        ) {
            let mut quantiles = [0.0; QUANTILES];
            let mut at = -6.0;
            for (quantile, step) in quantiles.iter_mut().zip(steps) {
                at += step;
                *quantile = at;
            }
            let of = surprise(&quantiles, value).expect("they differ");
            let back = value_of(&quantiles, f64::from(of)) - f64::from(value);
            prop_assert!(of.abs() == SURPRISE_MAX || back.abs() < 1e-3 * (1.0 + value.abs() as f64));
            prop_assert!(surprise(&quantiles, value + more).expect("they differ") >= of);
        }
    }
}
