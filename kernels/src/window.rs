//! Sums over windows of values, in lanes: the same order of additions on every instruction set, so that scores replay anywhere.

use multiversion::multiversion;

/// A window spanning less than this of its greatest magnitude is flat: what `f32` has rounded away is no shape.
pub(crate) const FLAT_RELATIVE: f32 = 9.536_743e-7; // 2^-20
/// A window is flat when its sum of squares is less than this.
pub(crate) const SQUARES_MIN: f32 = 1e-30;
/// The base of a key moves when the newest value is farther from it than so many spans of its window: beyond, `f32` is too coarse.
pub(crate) const REBASE_SPANS: f32 = 64.0;

/// Sums have this many lanes.
pub(crate) const LANES: usize = 16;

/// An array of lanes, made at once: written so, sums over chunks stay in registers. A macro, because closures are not always inlined
/// into functions for a certain instruction set.
macro_rules! lanes {
    ($count:expr, $lane:ident => $value:expr) => {{
        let mut all = [0.0f32; $count];
        for ($lane, value) in all.iter_mut().enumerate() {
            *value = $value;
        }
        all
    }};
}
pub(crate) use lanes;

/// The sum of a few values, in eight lanes: vectors on every processor, in the same order of additions.
pub(crate) fn sum(values: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut lanes = [0.0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// What a window's shape is taken from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statistics {
    /// The mean, from the newest value: so it has the digits of the differences, also where the base is far away.
    pub(crate) offset: f32,
    /// Sum of squares around the mean.
    pub(crate) squares: f32,
    pub(crate) least: f32,
    pub(crate) greatest: f32,
}

impl Statistics {
    /// Whether the window has no shape.
    pub(crate) fn is_flat(&self, flat_span: f32) -> bool {
        let rounding = FLAT_RELATIVE * self.greatest.max(-self.least);
        self.greatest - self.least <= flat_span + rounding || self.squares < SQUARES_MIN
    }
}

/// Mean, sum of squares around it, and extremes of a window, the newest value last.
#[multiversion(targets = "simd")]
pub(crate) fn statistics(values: &[f32]) -> Statistics {
    let (mut least, mut greatest) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let newest = values[values.len() - 1];
    let whole = values.len() / LANES * LANES;
    let mut sums = [0.0f32; LANES];
    for chunk in values[..whole].chunks_exact(LANES) {
        sums = lanes!(LANES, lane => sums[lane] + (chunk[lane] - newest));
        least = lanes!(LANES, lane => if chunk[lane] < least[lane] { chunk[lane] } else { least[lane] });
        greatest = lanes!(LANES, lane => if chunk[lane] > greatest[lane] { chunk[lane] } else { greatest[lane] });
    }
    for (lane, &value) in values[whole..].iter().enumerate() {
        sums[lane] += value - newest;
        least[lane] = least[lane].min(value);
        greatest[lane] = greatest[lane].max(value);
    }
    let offset = add_lanes(sums) / values.len() as f32;
    let square = |value: f32| ((value - newest) - offset) * ((value - newest) - offset);
    let mut squares = [0.0f32; LANES];
    for chunk in values[..whole].chunks_exact(LANES) {
        squares = lanes!(LANES, lane => squares[lane] + square(chunk[lane]));
    }
    for (lane, &value) in values[whole..].iter().enumerate() {
        squares[lane] += square(value);
    }
    Statistics {
        offset,
        squares: add_lanes(squares),
        least: least.into_iter().fold(f32::INFINITY, f32::min),
        greatest: greatest.into_iter().fold(f32::NEG_INFINITY, f32::max),
    }
}

/// Adds the lanes in halves.
#[inline(always)]
pub(crate) fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}
