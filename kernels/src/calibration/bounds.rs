//! How far from what was expected a value is strange: bounds outside of which as many values lie as a rate says.
//!
//! ```text
//! bounds = expected -+ normal quantile(rate) * exp(correction) * deviation
//! correction += (1 if the value is outside, else 0, less the rate) / (SLOPE * (rate * rows + FIRST))
//! ```
//!
//! A normal quantile is right for normal values alone; of others as many lie outside as they like. So the bounds of a key are moved until
//! the rate is held, whatever its values are (Robbins and Monro, "A stochastic approximation method", 1951, of a quantile; Gibbs and Candès,
//! "Adaptive conformal inference under distribution shift", 2021). Values that follow each other outside are one event, which moves them so far
//! and no further.

// Words of a key.
const CORRECTION: usize = 0; // its logarithm
const ROWS: usize = 1; // that were judged, halved now and then
const CLUSTER: usize = 2; // rows for which values outside are of the same event
const MOVED: usize = 3; // how far that has raised the correction
pub(super) const WORDS: usize = 4;

/// By how much the logarithm of a rate falls where bounds are further by a factor of e: 12 of a normal tail at 5e-4, and 3 of a heavy one.
const SLOPE: f32 = 4.0;
/// Values outside that the first step is divided by.
const FIRST: f32 = 3.0;
/// Rows after which a value outside is another event, or a share of those until the next is expected.
const CLUSTER_ROWS: f32 = 40.0;
const CLUSTER_SHARE: f32 = 0.4;
/// An event raises the logarithm by no more.
const EVENT_STEP_MAX: f32 = 0.25;
/// Bounds are not moved by more than a factor of e^3 from where a normal quantile has them.
const CORRECTION_MAX: f32 = 3.0;
/// Rows are halved when so many values outside are expected: steps do not become smaller than that.
const EXPECTED_MAX: f32 = 1000.0;

/// How many standard deviations a normal value has a chance of `rate` to be away, on either side: the quantile of `1 - rate / 2`.
pub(super) fn normal_quantile(rate: f64) -> f64 {
    let (mut near, mut far) = (0.0, 40.0);
    for _ in 0..64 {
        let middle = 0.5 * (near + far);
        let beyond = libm::erfc(middle * std::f64::consts::FRAC_1_SQRT_2);
        if beyond > rate { near = middle } else { far = middle }
    }
    near
}

/// By what the normal quantile of a key is to be multiplied.
pub(super) fn factor(words: &[f32]) -> f32 {
    words[CORRECTION].exp()
}

/// Learns whether a value was outside of its bounds.
pub(super) fn learn(words: &mut [f32], is_outside: bool, rate: f32) {
    let goes_on = words[CLUSTER] > 0.0;
    let moved = if goes_on { words[MOVED] } else { 0.0 };
    let miss = f32::from(u8::from(is_outside)) - rate;
    let step = (miss / (SLOPE * (rate * words[ROWS] + FIRST))).min(EVENT_STEP_MAX - moved);
    words[MOVED] = moved + step.max(0.0);
    words[CLUSTER] = match is_outside {
        true => (CLUSTER_SHARE / rate).min(CLUSTER_ROWS).floor(),
        false => (words[CLUSTER] - 1.0).max(0.0),
    };
    words[CORRECTION] = (words[CORRECTION] + step).clamp(-CORRECTION_MAX, CORRECTION_MAX);
    words[ROWS] += 1.0;
    if rate * words[ROWS] > EXPECTED_MAX || words[ROWS] >= 16_000_000.0 {
        words[ROWS] *= 0.5;
    }
}
