//! What the network sees of a series: its last values and those of a season ago, and forecasts that need no network.
//!
//! A series may have fewer values than the window: before the first one, the first one is repeated, and each token says which share of it is
//! real. Large values are pressed together (`x / (1 + |x| / 8)`), so that a spike of a thousand is not a thousand times as loud. The
//! candidates are not pressed.

use super::{
    CANDIDATES, CHANNELS, CONTEXT, FEATURES, PAST_TOKENS, PATCH, STEPS, TOKENS, WINDOW_CANDIDATES, WINDOW_NUMBERS,
};

/// Beyond so many units values are pressed together.
const PRESS: f32 = 8.0;
/// Scales below this are none: the window is constant.
const SCALE_MIN: f32 = 1e-30;
/// Candidates go no farther than this from the level.
const CANDIDATE_MAX: f32 = 32.0;

/// The seasons of a series in rows; 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seasons {
    /// The season.
    pub season: usize,
    /// A longer one, a multiple of it.
    pub long: usize,
}

impl Seasons {
    /// How many of a series' last values its window depends on.
    pub fn rows_seen(self) -> usize {
        CONTEXT + self.long.max(2 * self.season)
    }
}

/// The window's zero and its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The mean of the last patch.
    pub level: f32,
    /// The mean distance of the window's values from it; 0 if it is constant.
    pub unit: f32,
}

impl Scale {
    /// A value in units of the window.
    pub fn scaled(self, value: f32) -> f32 {
        if self.unit > 0.0 { (value - self.level) / self.unit } else { 0.0 }
    }

    /// Back.
    pub fn unscaled(self, value: f32) -> f32 {
        self.level + self.unit * value
    }
}

/// The values of a series by how far back they are; those before the first are the first.
struct Past<'a>(&'a [f32]);

impl Past<'_> {
    fn value(&self, back: usize) -> f32 {
        self.0[self.0.len().saturating_sub(back + 1)]
    }

    /// `count` values up to the one `back` rows ago, oldest first, and which share of them is real.
    fn copy(&self, back: usize, out: &mut [f32]) -> f32 {
        let (count, end) = (out.len(), self.0.len().saturating_sub(back));
        let start = end.saturating_sub(count);
        let real = end - start;
        out[..count - real].fill(self.0[0]);
        out[count - real..].copy_from_slice(&self.0[start..end]);
        real as f32 / count as f32
    }

    /// The mean of up to `count` values up to the one `back` rows ago.
    fn mean(&self, back: usize, count: usize) -> f32 {
        let end = self.0.len().saturating_sub(back).max(1);
        let values = &self.0[end.saturating_sub(count)..end];
        (values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64) as f32
    }
}

/// Fills in the numbers of one window, [`WINDOW_NUMBERS`], and its candidates, [`WINDOW_CANDIDATES`], of the series that ends with `values`,
/// the newest last. Only the last [`Seasons::rows_seen`] matter.
///
/// Candidates of a step, in units of the window: the last value; the mean of the last 4; of the last 16, which is zero; of the window; the
/// value of a season ago; that plus what the last 16 values differ from those of a season ago; the mean of the two values of a season ago and
/// of the longer one, moved in the same way by the mean of a season; the line through the last two means of 32.
///
/// # Panics
/// Without any value, or with slices of another length.
pub fn fill(values: &[f32], seasons: Seasons, numbers: &mut [f32], candidates: &mut [f32]) -> Scale {
    assert!(!values.is_empty(), "a window has a value");
    assert_eq!((numbers.len(), candidates.len()), (WINDOW_NUMBERS, WINDOW_CANDIDATES), "slices are of one window");
    let past = Past(values);
    let level = past.mean(0, PATCH);
    let window = &values[values.len().saturating_sub(CONTEXT)..];
    let unit = window.iter().map(|value| f64::from((value - level).abs())).sum::<f64>() / window.len() as f64;
    let scale = Scale { level, unit: if (unit as f32) < SCALE_MIN { 0.0 } else { unit as f32 } };
    let inverse = if scale.unit > 0.0 { 1.0 / scale.unit } else { 0.0 };
    let Seasons { season, long } = seasons;
    let second = if long > 0 { long } else { 2 * season };
    let backs = [0, season, second];
    for (token, numbers) in numbers.chunks_exact_mut(FEATURES).enumerate() {
        let (places, flags) = numbers.split_at_mut(CHANNELS * PATCH);
        for (channel, places) in places.chunks_exact_mut(PATCH).enumerate() {
            flags[channel] = if channel > 0 && season == 0 {
                places.fill(level);
                0.0
            } else if token < PAST_TOKENS {
                past.copy((PAST_TOKENS - 1 - token) * PATCH + backs[channel], places)
            } else if channel == 0 {
                places.fill(level);
                -1.0
            } else {
                let first = (token - PAST_TOKENS) * PATCH + 1;
                let mut real = 0;
                for (ahead, place) in (first..).zip(places.iter_mut()) {
                    let back = ago(season, long, channel, ahead);
                    *place = past.value(back);
                    real += usize::from(back < values.len());
                }
                real as f32 / PATCH as f32
            };
            for place in places {
                let value = (*place - level) * inverse;
                *place = value / (1.0 + value.abs() * (1.0 / PRESS));
            }
        }
        flags[CHANNELS] = if long > 0 { 1.0 } else { 0.0 };
    }
    debug_assert_eq!(TOKENS * FEATURES, WINDOW_NUMBERS);
    let last = past.value(0);
    let (four, all) = (past.mean(0, 4), past.mean(0, CONTEXT));
    let (near, far) = (past.mean(0, 32), past.mean(32, 32));
    // As long as there is no row 32 rows ago the second mean is the first value.
    let slope = if values.len() >= 64 { (near - far) / 32.0 } else { 0.0 };
    let (moved, moved_cycle) = if season > 0 {
        let cycle = season.min(CONTEXT);
        let before = 0.5 * (past.mean(season, cycle) + past.mean(second, cycle));
        (level - past.mean(season, PATCH), past.mean(0, cycle) - before)
    } else {
        (0.0, 0.0)
    };
    for (ahead, candidates) in (1..=STEPS).zip(candidates.chunks_exact_mut(CANDIDATES)) {
        let (one, two) = if season > 0 {
            (past.value(ago(season, long, 1, ahead)), past.value(ago(season, long, 2, ahead)))
        } else {
            (last, last)
        };
        let line = near + slope * (ahead as f32 + 15.5);
        let all = [last, four, level, all, one, one + moved, 0.5 * (one + two) + moved_cycle, line];
        for (candidate, value) in candidates.iter_mut().zip(all) {
            *candidate = ((value - level) * inverse).clamp(-CANDIDATE_MAX, CANDIDATE_MAX);
        }
    }
    scale
}

/// How many rows ago the value was that the channel shows `ahead` steps ahead: the nearest of the same phase.
fn ago(season: usize, long: usize, channel: usize, ahead: usize) -> usize {
    match channel {
        1 => ahead.div_ceil(season) * season - ahead,
        _ if long > 0 => ahead.div_ceil(long) * long - ahead,
        _ => (ahead.div_ceil(season) + 1) * season - ahead,
    }
}
