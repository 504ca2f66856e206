//! `conv_forecast`: quantiles of the next values of a series, by a small causal convolutional network that was trained beforehand.
//!
//! ```text
//! window of a series           [TOKENS][FEATURES]    the last values in patches, two places for the future; see `window.rs`
//!   embed     linear           [TOKENS][WIDTH]
//!   block d   x[t] + contract(relu(expand([x[t], x[t - d]])))        for d = 1, 2, 4, 8
//!   head      linear, relu, linear     of the tokens of the future: for each step QUANTILES numbers and CANDIDATES weights
//! median   = sum over candidates of softmax(weights) * candidate, plus the middle number
//! quantile = the one nearer to the median, further out by softplus(number)
//! ```
//!
//! Dilations that double see all tokens, as in WaveNet (van den Oord et al., 2016), here over patches of values (Nie et al., PatchTST,
//! 2023). A token of the future depends on few of those in the layers below, so only these are worked out: [`TOKENS`] of the first block,
//! and half as many of each one after it.
//!
//! What a small network is bad at is arithmetic: to hand through the last value, or that of a season ago, to the last digit. So these are
//! *candidates*, worked out beside it, and the network says how far each is to be believed and what is to be added. Quantiles cannot cross,
//! because each is told as its distance from the one before.
//!
//! Numbers are relative to the window: its level is zero and its mean distance from the level one. So a forecast has the series' unit.
//!
//! Device and twin agree within [`TOLERANCE`]: the device may round otherwise, and has its own exponential.

mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
mod weights;
mod window;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

pub use weights::{BUILTIN_FILE, LAYERS, Layer, Weights};
pub use window::{Scale, Seasons, fill};

use crate::kernel::{Exactness, Kernel};
use crate::state::{Layout, StatePages, StateShape};

/// The name in errors.
pub const NAME: &str = "conv_forecast";

/// Values in a token.
pub const PATCH: usize = 16;
/// Tokens of what has been.
pub const PAST_TOKENS: usize = 14;
/// Tokens of what comes.
pub const FUTURE_TOKENS: usize = 2;
/// All tokens.
pub const TOKENS: usize = PAST_TOKENS + FUTURE_TOKENS;
/// So many of the last values are seen, beside those of a season ago.
pub const CONTEXT: usize = PAST_TOKENS * PATCH;
/// Steps ahead of one forecast; farther ones begin from its medians.
pub const STEPS: usize = FUTURE_TOKENS * PATCH;
/// Values of a place: its own, that of a season ago, that of two or of a longer one ago.
pub const CHANNELS: usize = 3;
/// Numbers of a token that are no values.
pub const FLAGS: usize = 4;
/// Numbers of a token.
pub const FEATURES: usize = CHANNELS * PATCH + FLAGS;
/// Channels of the network.
pub const WIDTH: usize = 64;
/// Hidden units of a block and of the head.
pub const HIDDEN: usize = 128;
/// How far back each block looks.
pub const DILATIONS: [usize; 4] = [1, 2, 4, 8];
/// The levels of the quantiles.
pub const LEVELS: [f32; QUANTILES] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// How many there are; the middle one is the median.
pub const QUANTILES: usize = 9;
/// Forecasts by arithmetic alone, see [`fill`].
pub const CANDIDATES: usize = 8;
/// What the head says of a step.
pub const OUTPUTS: usize = QUANTILES + CANDIDATES;
/// Numbers of a window.
pub const WINDOW_NUMBERS: usize = TOKENS * FEATURES;
/// Candidates of a window.
pub const WINDOW_CANDIDATES: usize = STEPS * CANDIDATES;
/// Quantiles of a forecast.
pub const FORECAST_NUMBERS: usize = STEPS * QUANTILES;
/// How far device, twin and candle may be apart, in units of the window's scale.
pub const TOLERANCE: f32 = 1e-4;

/// The windows of some keys, one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Windows {
    /// `[key][TOKENS][FEATURES]`
    pub numbers: Vec<f32>,
    /// `[key][STEPS][CANDIDATES]`
    pub candidates: Vec<f32>,
    /// `[key]`
    pub scales: Vec<Scale>,
}

impl Windows {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.candidates.clear();
        self.scales.clear();
    }

    /// Adds the window of a series that ends with `values`, the newest last; see [`fill`].
    pub fn push(&mut self, values: &[f32], seasons: Seasons) {
        let (numbers, candidates) = (self.numbers.len(), self.candidates.len());
        self.numbers.resize(numbers + WINDOW_NUMBERS, 0.0);
        self.candidates.resize(candidates + WINDOW_CANDIDATES, 0.0);
        let scale = fill(values, seasons, &mut self.numbers[numbers..], &mut self.candidates[candidates..]);
        self.scales.push(scale);
    }
}

/// The quantiles of each window's next values, `[key][STEPS][QUANTILES]`, in units of the window.
///
/// What is said of one window does not depend on the others, to the bit.
pub fn forecast(weights: &Weights, windows: &Windows) -> Vec<f32> {
    let mut out = vec![0.0; windows.len() * FORECAST_NUMBERS];
    cpu::run(weights, windows, &mut out);
    out
}

/// The kernel `conv_forecast`: it keeps nothing from one batch to the next.
#[derive(Debug, Clone)]
pub struct ConvForecast {
    weights: Weights,
}

impl ConvForecast {
    /// With these weights.
    pub fn new(weights: Weights) -> Self {
        ConvForecast { weights }
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
}

impl Kernel for ConvForecast {
    type Batch = Windows;
    /// `[window][STEPS][QUANTILES]`
    type Output = Vec<f32>;

    fn name(&self) -> &'static str {
        NAME
    }

    fn exactness(&self) -> Exactness {
        Exactness::Tolerance { relative: TOLERANCE, absolute: TOLERANCE }
    }

    fn long_loops(&self) -> bool {
        false
    }

    fn keeps_state(&self) -> bool {
        false
    }

    fn state_shape(&self) -> StateShape {
        StateShape::new(vec![0], Layout::SlotMajor)
    }

    fn slot_count(&self, _: &Windows) -> usize {
        0
    }

    fn row_count(&self, batch: &Windows) -> usize {
        batch.len()
    }

    fn batch_bytes(&self, batch: &Windows) -> usize {
        batch.len() * (WINDOW_NUMBERS + WINDOW_CANDIDATES + 2) * 4
    }

    fn run_twin(&self, batch: &Windows, _: &mut StatePages) -> Vec<f32> {
        forecast(&self.weights, batch)
    }

    #[cfg(feature = "gpu")]
    fn encode(
        &self,
        batch: &Windows,
        state: &mut crate::device::ResidentPages,
        wave: &mut crate::device::Wave,
    ) -> Result<Vec<crate::device::Region>, crate::KernelError> {
        gpu::encode(self, batch, state, wave)
    }

    #[cfg(feature = "gpu")]
    fn decode(&self, _: &Windows, regions: &[crate::device::Region], readback: &crate::device::Readback) -> Vec<f32> {
        gpu::decode(regions, readback)
    }
}
