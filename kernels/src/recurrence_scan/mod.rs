//! `recurrence_scan`: how far each row is from what its key's recurrence expects of it: EWMA, Holt, CUSUM.
//!
//! A recurrence keeps a few numbers for each key and makes the next ones from them and the next row, so one key's rows seem to wait
//! for one another. But each step is an affine map (CUSUM: a max-plus map), and such maps compose: each invocation of a device makes one
//! map of a few rows, a team of them scans over the maps, and only then they walk their rows. So keys are spread over all lanes, and rows
//! are read and scores written side by side; a key that is hot enough is cut, and its pieces are scanned over in the same way.
//!
//! The twin needs no scan. Written as `keep * mean + gain * value`, the chain from row to row is one multiplication and one addition,
//! and all the rest of the work fits into its shadow. So is Holt's, which keeps the forecast of the next row, level and trend in one, and
//! CUSUM's two sums are a chain as short beside it. So the twin walks each key in order, in `f64`, and **its answer does not depend
//! on how rows are cut into batches**, to the bit, nor on the machine (it uses no fused operations). A device answers in `f32` within
//! [`Exactness::Tolerance`]; it centres values on the first one of the key in the batch, so that a level of 1e9 with a noise of 1
//! keeps all its digits.
//!
//! A glitch is learnt in full. To learn a part of it (`clamp(residual, -limit * deviation, limit * deviation)`, as the methods of
//! [`series`](crate::series) do) would end the scan: mean and variance would each depend on the other, and even with a fixed limit a map of so
//! many rows is piecewise linear with twice as many pieces, so that no map of fixed size stands for a few rows.
//!
//! Every score is taken *before* its row is learnt: a row is never part of what it is compared with.
//!
//! The first rows have no past to forget: gains start at those of a plain running mean (or line) and fall until they reach the
//! configured ones. This makes the start-up unbiased, and lets a fresh key begin from zeros.
//!
//! Sources: Finch, "Incremental calculation of weighted mean and variance" (2009); Holt (1957) in error-correction form, with the
//! least-squares gains of the expanding-memory filter (Brookner, "Tracking and Kalman Filtering Made Easy", 1998, section 1.2.10) at
//! its start; Page, "Continuous inspection schemes" (1954).

mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub mod naive;
mod steps;

use crate::kernel::{Exactness, Kernel, KernelError};
use crate::rows::GroupedRows;
use crate::state::{Layout, StatePages, StateShape};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The name of the kernel.
pub const NAME: &str = "recurrence_scan";
/// Values of greater magnitude are treated as missing: all of `i64` is below, and squares stay far from the ends of `f32`.
pub const VALUE_LIMIT: f64 = 9_223_372_036_854_775_808.0;

/// Which recurrence is kept for each key.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "recurrence", rename_all = "snake_case")]
pub enum Recurrence {
    /// Exponentially weighted mean and variance. The score is `|value - mean| / sqrt(variance + variance_floor)`.
    Ewma {
        /// After so many rows a row weighs half.
        half_life: f64,
    },
    /// Holt's level and trend. The score is the error of the forecast one row ahead, in its own standard deviations.
    Holt {
        /// After so many rows the level has forgotten half.
        half_life: f64,
        /// The same for the trend.
        trend_half_life: f64,
    },
    /// Two-sided cumulative sum of standardised residuals of an exponentially weighted mean: small shifts that last.
    /// The score is the greater of the two sums, this row's residual included.
    Cusum {
        /// After so many rows a row weighs half in the mean and the variance that residuals are measured by.
        half_life: f64,
        /// What is taken from each residual, in standard deviations: half of the shift that is to be found.
        drift: f64,
        /// Residuals are cut at so many standard deviations, so that one wild row does not look like a lasting shift.
        residual_limit: f64,
    },
}

/// Settings of [`RecurrenceScan`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Which recurrence.
    #[serde(flatten)]
    pub recurrence: Recurrence,
    /// A key's first rows are learnt, but score 0.
    pub min_training: u32,
    /// Added to every variance, in squared units of the value, so that a constant series scores 0 and not NaN.
    pub variance_floor: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config::new(Recurrence::Ewma { half_life: 100.0 })
    }
}

impl Config {
    /// A recurrence with the default training (30 rows) and floor (1e-18).
    pub fn new(recurrence: Recurrence) -> Self {
        Config { recurrence, min_training: 30, variance_floor: 1e-18 }
    }
}

/// The rows of one step.
#[derive(Debug, Clone)]
pub struct Batch {
    rows: Arc<GroupedRows>,
    values: Vec<f64>,
    learns: Option<Vec<bool>>,
}

impl Batch {
    /// `values[i]` belongs to grouped row `i`; NaN, infinities and magnitudes over [`VALUE_LIMIT`] are rows without a value.
    ///
    /// # Panics
    /// When there are not as many values as rows.
    pub fn new(rows: Arc<GroupedRows>, values: Vec<f64>) -> Self {
        assert_eq!(rows.row_count(), values.len(), "one value for each row");
        Batch { rows, values, learns: None }
    }

    /// `values[r]` belongs to row `r` before grouping.
    ///
    /// # Panics
    /// When there are not as many values as rows.
    pub fn gather(rows: Arc<GroupedRows>, values: &[f64]) -> Self {
        assert_eq!(rows.row_count(), values.len(), "one value for each row");
        let values = rows.order().iter().map(|&row| values[row as usize]).collect();
        Batch { rows, values, learns: None }
    }

    /// The same, where rows with `false` are scored and not learnt; `learns` has one entry for each grouped row. Only the twin knows
    /// such rows.
    pub(crate) fn learning(mut self, learns: &[bool]) -> Self {
        self.learns = learns.contains(&false).then(|| learns.to_vec());
        self
    }

    /// Which rows are which key's.
    pub fn rows(&self) -> &Arc<GroupedRows> {
        &self.rows
    }

    /// The value of each grouped row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }
}

/// Gains and limits, worked out of a [`Config`] once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Constants {
    /// Weight of the newest row once the start-up is over: `1 - 2^(-1 / half_life)`.
    pub(crate) gain: f64,
    /// Holt: what the trend takes of an error, `gain * trend gain`.
    pub(crate) trend_gain: f64,
    pub(crate) variance_floor: f64,
    pub(crate) min_training: u32,
    /// From so many learnt rows on gains are constant and rows are scored.
    pub(crate) steady_from: u32,
    pub(crate) drift: f32,
    pub(crate) residual_limit: f32,
}

/// What a recurrence takes of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gains {
    /// What the level takes of the row's residual.
    pub(crate) level: f64,
    /// The same of the trend; 0 without one.
    pub(crate) trend: f64,
    /// What the variance keeps,
    pub(crate) keep: f64,
    /// and takes of the square of the residual.
    pub(crate) take: f64,
}

impl Gains {
    /// Those of an exponentially weighted mean and variance.
    pub(crate) fn of_mean(gain: f64) -> Self {
        Gains { level: gain, trend: 0.0, keep: 1.0 - gain, take: (1.0 - gain) * gain }
    }
}

/// The weight of the newest row when a row is to weigh half after `half_life` rows.
pub fn gain_of_half_life(half_life: f64) -> f64 {
    -(-std::f64::consts::LN_2 / half_life).exp_m1()
}

/// See the module.
#[derive(Debug, Clone)]
pub struct RecurrenceScan {
    config: Config,
    constants: Constants,
    /// The least rows of a piece, where a key is cut for a device.
    #[cfg(feature = "gpu")]
    piece_rows: usize,
}

/// Words of a key's state, for all recurrences; `f64` as low word, high word.
pub(crate) mod word {
    /// How many rows have been learnt, saturating.
    pub(crate) const LEARNT: usize = 0;
    /// The key's first value: all else is relative to it.
    pub(crate) const BASE: usize = 1;
    /// The mean, or Holt's forecast of the next row: level and trend in one.
    pub(crate) const MEAN: usize = 3;
    pub(crate) const VARIANCE: usize = 5;
    /// How many words EWMA has; Holt's trend (`f64`) and the two sums of CUSUM (`f32` each) follow.
    pub(crate) const EXTRA: usize = 7;
    pub(crate) const COUNT_MAX: usize = 9;
}

impl RecurrenceScan {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`KernelError::Parameter`] names the parameter that is out of its range.
    pub fn new(config: Config) -> Result<Self, KernelError> {
        let check = |parameter: &'static str, value: f64, least: f64, most: f64| match value {
            value if value >= least && value <= most => Ok(value),
            value => Err(KernelError::Parameter {
                kernel: NAME,
                parameter,
                expected: format!("between {least} and {most}"),
                given: value.to_string(),
            }),
        };
        let variance_floor = check("variance_floor", config.variance_floor, 1e-30, 1e30)?;
        let mut constants = Constants {
            gain: 0.0,
            trend_gain: 0.0,
            variance_floor,
            min_training: config.min_training,
            steady_from: 0,
            drift: 0.0,
            residual_limit: 0.0,
        };
        let half_life = match config.recurrence {
            Recurrence::Ewma { half_life } => half_life,
            Recurrence::Holt { half_life, trend_half_life } => {
                constants.trend_gain = gain_of_half_life(check("trend_half_life", trend_half_life, 0.1, 1e9)?);
                half_life
            }
            Recurrence::Cusum { half_life, drift, residual_limit } => {
                constants.drift = check("drift", drift, 0.0, 1e6)? as f32;
                constants.residual_limit = check("residual_limit", residual_limit, 0.1, 1e6)? as f32;
                half_life
            }
        };
        constants.gain = gain_of_half_life(check("half_life", half_life, 0.1, 1e9)?);
        constants.trend_gain *= constants.gain;
        constants.steady_from = config.min_training.max(first_steady(&config.recurrence, &constants));
        Ok(RecurrenceScan {
            config,
            constants,
            #[cfg(feature = "gpu")]
            piece_rows: gpu::PIECE_ROWS,
        })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it takes of a key's row after so many that were learnt.
    pub(crate) fn gains(&self, learnt: u32) -> Gains {
        match self.config.recurrence {
            Recurrence::Holt { .. } => {
                let (level, trend, take) = cpu::holt_gains(f64::from(learnt), &self.constants);
                Gains { level: level + trend, trend, keep: 1.0 - take, take }
            }
            _ => Gains::of_mean(cpu::ewma_gain(f64::from(learnt), &self.constants)),
        }
    }
}

/// The least count of learnt rows from which on the gains of the start-up do not exceed the constant ones: they only fall.
fn first_steady(recurrence: &Recurrence, constants: &Constants) -> u32 {
    let steady = |learnt: u32| match recurrence {
        Recurrence::Holt { .. } => {
            cpu::holt_gains(f64::from(learnt), constants) == (constants.gain, constants.trend_gain, constants.gain)
        }
        _ => cpu::ewma_gain(f64::from(learnt), constants) == constants.gain,
    };
    let (mut least, mut most) = (1u32, u32::MAX);
    while least < most {
        let middle = least + (most - least) / 2;
        if steady(middle) { most = middle } else { least = middle + 1 }
    }
    least
}

impl Kernel for RecurrenceScan {
    type Batch = Batch;
    /// A score for each grouped row: NaN for a row without a value, 0 in training.
    type Output = Vec<f32>;

    fn name(&self) -> &'static str {
        NAME
    }

    fn exactness(&self) -> Exactness {
        Exactness::Tolerance { relative: 1e-3, absolute: 1e-3 }
    }

    fn state_shape(&self) -> StateShape {
        let words = match self.config.recurrence {
            Recurrence::Ewma { .. } => word::EXTRA,
            Recurrence::Holt { .. } | Recurrence::Cusum { .. } => word::COUNT_MAX,
        };
        StateShape::new(vec![0; words], Layout::WordMajor)
    }

    fn slot_count(&self, batch: &Batch) -> usize {
        batch.rows.slots().last().map_or(0, |&slot| slot as usize + 1)
    }

    fn row_count(&self, batch: &Batch) -> usize {
        batch.rows.row_count()
    }

    fn touched_slots<'a>(&self, batch: &'a Batch) -> Option<&'a [u32]> {
        Some(batch.rows.slots())
    }

    fn run_twin(&self, batch: &Batch, state: &mut StatePages) -> Vec<f32> {
        cpu::run(&self.config.recurrence, &self.constants, batch, state)
    }

    #[cfg(feature = "gpu")]
    fn encode(
        &self,
        batch: &Batch,
        state: &mut crate::device::ResidentPages,
        wave: &mut crate::device::Wave,
    ) -> Result<Vec<crate::device::Region>, KernelError> {
        gpu::encode(self, batch, state, wave)
    }

    #[cfg(feature = "gpu")]
    fn decode(&self, _: &Batch, regions: &[crate::device::Region], readback: &crate::device::Readback) -> Vec<f32> {
        gpu::decode(regions, readback)
    }
}

#[cfg(test)]
mod tests;
