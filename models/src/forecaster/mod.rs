//! The forecaster `conv`: how its network is trained, and the network in candle.
//!
//! The kernel `conv_forecast` ([`eagre_kernels::conv_forecast`]) runs the network in queries, on the CPU or on a device, from weights that
//! are part of the repository. Here is how they came about: series by number from whoever calls, windows of them, and a training that gives the
//! same file for the same seed. candle's answers from that file are held against the kernel's by a test.

mod network;
mod report;
mod samples;
mod train;

#[cfg(test)]
mod tests;

use candle_core::{Device, Tensor};
use eagre_kernels::conv_forecast::{CANDIDATES, FEATURES, LAYERS, STEPS, TOKENS, Windows};

pub use eagre_kernels::conv_forecast::Seasons;

use self::network::Network;
pub use self::report::{curve_csv, curve_svg};
use crate::error::{ModelError, Result};

/// The model's name in errors.
const NAME: &str = "conv";

/// How a forecaster is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecasterSettings {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many batches are learnt from.
    pub steps: usize,
    /// Windows in a batch.
    pub batch_windows: usize,
    /// The greatest learning rate.
    pub learning_rate: f64,
    /// At about so many points the loss on held-out windows is worked out.
    pub points: usize,
    /// How many windows are held out: a multiple of 64.
    pub held_out_windows: usize,
}

impl Default for ForecasterSettings {
    fn default() -> Self {
        Self { seed: 1, steps: 16_000, batch_windows: 128, learning_rate: 2e-3, points: 80, held_out_windows: 2048 }
    }
}

/// One series to learn from.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSeries {
    /// As many values as were asked for.
    pub values: Vec<f32>,
    /// Its seasons in rows, up to 336.
    pub seasons: Seasons,
}

/// Makes the series with a number, of so many rows: the same one each time.
pub type SeriesSource<'a> = &'a dyn Fn(u64, usize) -> TrainingSeries;

/// A place on the loss curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// The step, from 1; 0 is before the first.
    pub step: usize,
    /// How many there are.
    pub steps: usize,
    /// The mean quantile loss since the last point, in units of windows.
    pub loss: f64,
    /// That of windows which are never learnt from.
    pub held_out_loss: f64,
}

/// A forecaster that was trained.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedForecaster {
    /// A safetensors file, as [`eagre_kernels::conv_forecast::Weights::read`] takes it.
    pub bytes: Vec<u8>,
    /// How the loss went.
    pub curve: Vec<CurvePoint>,
}

/// Trains the forecaster on series that `source` makes; `told` is called at each point of the curve.
///
/// # Errors
/// A loss that is no number.
pub fn train_forecaster(
    settings: &ForecasterSettings,
    source: SeriesSource<'_>,
    told: &mut dyn FnMut(CurvePoint),
) -> Result<TrainedForecaster> {
    train::train(settings, source, told)
        .map_err(|error| ModelError::Training { model: NAME.into(), message: format!("its training failed: {error}") })
}

/// The network in candle.
#[derive(Debug)]
pub struct CandleForecaster(Network);

impl CandleForecaster {
    /// From a safetensors file.
    ///
    /// # Errors
    /// A file without the network's tensors.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let failed = |error: candle_core::Error| ModelError::Training {
            model: NAME.into(),
            message: format!("its weights cannot be read: {error}"),
        };
        let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu).map_err(failed)?;
        debug_assert!(tensors.len() <= 2 * LAYERS.len());
        let tensor = |name: &str| {
            let missing = || candle_core::Error::Msg(format!("tensor `{name}` is missing"));
            tensors.get(name).cloned().ok_or_else(missing)
        };
        Network::new(&tensor).map(Self).map_err(failed)
    }

    /// As [`eagre_kernels::conv_forecast::forecast`]: `[key][STEPS][QUANTILES]`.
    ///
    /// # Errors
    /// What candle cannot do.
    pub fn forecast(&self, windows: &Windows) -> Result<Vec<f32>> {
        if windows.is_empty() {
            return Ok(Vec::new());
        }
        let run = || -> candle_core::Result<Vec<f32>> {
            let count = windows.len();
            let numbers = Tensor::from_slice(&windows.numbers, (count, TOKENS, FEATURES), &Device::Cpu)?;
            let candidates = Tensor::from_slice(&windows.candidates, (count, STEPS, CANDIDATES), &Device::Cpu)?;
            self.0.forward(&numbers, &candidates)?.flatten_all()?.to_vec1()
        };
        run().map_err(|error| ModelError::Training { model: NAME.into(), message: error.to_string() })
    }
}
