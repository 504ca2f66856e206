//! `window_distance`: how far the newest window of a series is from the most similar earlier one, each brought to mean 0 and deviation 1.
//!
//! This is the *left matrix profile* over a bounded history (Yeh et al., "Matrix Profile I", ICDM 2016; Barz et al. call its maxima
//! discords; streaming: STAMPI, and DAMP by Lu et al., KDD 2022): a shape that has not been seen before is far from all that have. The
//! distance of two windows of length `w` is `sqrt(2 w (1 - correlation))`, between 0 and `2 sqrt(w)`.
//!
//! The window that ends with row `t` is compared with those that end `lag` rows before, for `exclusion < lag <= history` (nearer ones
//! overlap too much: trivial matches). For each lag the state keeps the centred product of the two windows, which the next row moves in
//! four operations (Zimmerman et al., "SCAMP", SoCC 2019, after mpx):
//!
//! ```text
//! covariance[lag] += df[t] * dg[t - lag] + df[t - lag] * dg[t]
//! df[t] = (x[t] - x[t - w]) / 2      dg[t] = (x[t] - mean[t]) + (x[t - w] - mean[t - 1])
//! correlation = covariance[lag] * inverse[t] * inverse[t - lag]      inverse = 1 / sqrt(sum of (x - mean)^2 over the window)
//! ```
//!
//! Only differences go in, never squares of means, so `f32` is enough; and so that roundings do not add up for ever, every row computes
//! the covariances of a few lags anew from the values: each lag after [`DistanceParameters::refresh`] rows. A spike needs more: it makes
//! covariances large, and when it leaves the window their roundings stay. So when a window's sum of squares falls below the greatest
//! since the last time by `PEAK_RATIO`, all its covariances are computed anew, and those of later windows with it too (it is marked in
//! the lowest bit of `inverse`). The same where differences were cut at the greatest that is computed with. Correlations are right to
//! 10^-4 so.
//!
//! Lower bounds that spare pairs (as in DAMP) are refused: where they are exact for every row, and not for the greatest distance alone,
//! a bound of one pair costs as much as its four operations, and covariances that were not moved are not there for the next row.
//!
//! **Flat windows**, whose values span no more than [`DistanceParameters::flat_span`] or than rounding, have no shape. As in stumpy and
//! MASS, two flat windows have distance 0, a flat one and another `sqrt(w)`.
//!
//! **Windows that are not learnt** are scored, and no later one is compared with them: in the place of their `inverse` stands a number that
//! is none (`LEFT_OUT`), which is never the greatest. Their covariances move on, as later windows on the same diagonal need them; the history
//! counts them as rows.
//!
//! **State.** Values of the last `history + window` rows and, for each window that ends with one, `df`, `dg` and `inverse`, in rings
//! that are filled *downwards*: so the lag ascends with the address, and covariances and rings are read side by side. The twin takes
//! rows in chunks of `CHUNK`; the rings have room for one more chunk, so a chunk's windows are all made before any is compared. Values
//! are kept in two parts, and all that is computed starts from differences within one window: no base that a level could run away
//! from, and nothing that a row would have to wait for but the rows of its own window.

mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub mod naive;

use serde::{Deserialize, Serialize};

use crate::features::{Features, Scores};
use crate::kernel::{Exactness, Kernel, KernelError};
use crate::parameter::check;
use crate::state::{Layout, StatePages, StateShape};

/// Rows whose windows are made before any of them is compared.
pub(crate) const CHUNK: usize = 256;
/// Covariances of a window are computed anew when its sum of squares is smaller than the greatest one lately by this.
pub(crate) const PEAK_RATIO: f32 = 4096.0;
/// How far device and twin may be apart, in correlations.
pub(crate) const CORRELATION_ERROR_MAX: f32 = 5e-4;
/// The bit of `inverse` that tells so.
pub(crate) const RENEWED: u32 = 1;
/// What stands in the place of `inverse` for a window that is not learnt, but for the bit `RENEWED`: not a number.
pub(crate) const LEFT_OUT: u32 = 0x7fc0_0000;
/// The count of rows goes on below this; it is set back by `COUNT_BACK`, after which nothing looks at its magnitude.
pub(crate) const COUNT_MAX: u32 = 1 << 30;
pub(crate) const COUNT_BACK: u32 = 1 << 29;

// Words of a slot.
pub(crate) const COUNT: usize = 0; // rows
pub(crate) const FLAT_COUNT: usize = 1; // flat windows among those that the newest is compared with
pub(crate) const PLACE: usize = 2; // of the newest value in the rings
pub(crate) const PEAK: usize = 3; // the greatest sum of squares since a window was marked
pub(crate) const HEADER_WORDS: usize = 4;
/// The rings: both parts of the value, `df`, `dg`, `inverse`.
pub(crate) const RINGS: usize = 5;

const NAME: &str = "window_distance";
/// A page holds this much, or one key.
const PAGE_BYTES: usize = 16 << 20;

/// The history that the kernel is calibrated with; its cost grows with it.
pub(crate) const CALIBRATED_HISTORY: u32 = 2048;

/// What is compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistanceParameters {
    /// Rows of a window, 4 to 1024.
    pub window: u32,
    /// How many rows back the earlier windows may end, from `2 * window` to 1,000,000.
    pub history: u32,
    /// Earlier windows that end at most so many rows back are left out; a quarter of the window when not given. Less than `history`.
    pub exclusion: Option<u32>,
    /// The score is 0 until there are so many earlier windows; `2 * window` when not given.
    pub min_training: Option<u32>,
    /// A window is flat when its values span no more than this.
    pub flat_span: f32,
    /// After so many rows a covariance is computed anew, 16 to 1,000,000.
    pub refresh: u32,
}

impl Default for DistanceParameters {
    fn default() -> Self {
        DistanceParameters {
            window: 32,
            history: 2048,
            exclusion: None,
            min_training: None,
            flat_span: 0.0,
            refresh: 1024,
        }
    }
}

impl DistanceParameters {
    /// Rows that are left out as trivial matches.
    pub fn exclusion_rows(&self) -> usize {
        self.exclusion.unwrap_or(self.window.div_ceil(4)) as usize
    }

    /// Earlier windows that there must be.
    pub fn min_training_windows(&self) -> usize {
        self.min_training.unwrap_or(2 * self.window).max(1) as usize
    }

    /// Rows of a key that have score 0.
    pub fn warm_up_rows(&self) -> u32 {
        self.window - 1 + (self.exclusion_rows() + self.min_training_windows()) as u32
    }

    /// The words of a ring.
    pub(crate) fn ring(&self) -> usize {
        (self.history + self.window) as usize + CHUNK
    }

    /// The word of covariance 0, which is not used.
    pub(crate) fn covariance_start(&self) -> usize {
        HEADER_WORDS + RINGS * self.ring()
    }

    fn slot_words(&self) -> usize {
        self.covariance_start() + self.history as usize + 1
    }

    /// Into how many slices of lags the history is cut, of which each row refreshes one, and how many lags a slice has.
    pub(crate) fn slices(&self) -> (u32, u32) {
        let lags = self.history.div_ceil(self.refresh);
        (self.history.div_ceil(lags), lags)
    }
}

/// The kernel `window_distance`, see the [module](self). Batches have one feature.
#[derive(Debug, Clone)]
pub struct WindowDistance {
    parameters: DistanceParameters,
}

impl WindowDistance {
    /// A left matrix profile.
    ///
    /// # Errors
    /// [`KernelError::Parameter`] for what is out of range.
    pub fn new(parameters: DistanceParameters) -> Result<Self, KernelError> {
        check(NAME, "window", parameters.window, 4..=1024)?;
        check(NAME, "history", parameters.history, 2 * parameters.window..=1_000_000)?;
        check(NAME, "exclusion", parameters.exclusion_rows() as u32, 0..=parameters.history - 1)?;
        let windows = parameters.history - parameters.exclusion_rows() as u32;
        check(NAME, "min_training", parameters.min_training_windows() as u32, 1..=windows)?;
        check(NAME, "flat_span", parameters.flat_span, 0.0..=f32::MAX)?;
        check(NAME, "refresh", parameters.refresh, 16..=1_000_000)?;
        Ok(WindowDistance { parameters })
    }

    /// What it was made from.
    pub fn parameters(&self) -> &DistanceParameters {
        &self.parameters
    }

    /// From the greatest `covariance * inverse` over the earlier windows to the distance.
    pub(crate) fn distance(&self, best: f32, inverse: f32, any_flat: bool) -> f32 {
        let window = self.parameters.window as f32;
        let correlation = match (inverse == 0.0, any_flat) {
            (true, true) => 1.0,
            (true, false) => 0.5,
            (false, true) => (best * inverse).max(0.5),
            (false, false) => best * inverse,
        };
        (2.0 * window * (1.0 - correlation)).max(0.0).sqrt()
    }
}

impl Kernel for WindowDistance {
    type Batch = Features;
    type Output = Scores;

    fn name(&self) -> &'static str {
        NAME
    }

    /// Correlations are right to 5 10^-4 on both sides; near 0 the square root makes `sqrt(2 w 5 10^-4)` of it.
    fn exactness(&self) -> Exactness {
        Exactness::Tolerance {
            relative: 1e-3,
            absolute: (2.0 * self.parameters.window as f32 * CORRELATION_ERROR_MAX).sqrt(),
        }
    }

    fn state_shape(&self) -> StateShape {
        StateShape::new(vec![0; self.parameters.slot_words()], Layout::SlotMajor).with_page_bytes(PAGE_BYTES)
    }

    fn slot_count(&self, batch: &Features) -> usize {
        batch.slot_count()
    }

    fn row_count(&self, batch: &Features) -> usize {
        batch.rows().row_count()
    }

    fn batch_bytes(&self, batch: &Features) -> usize {
        batch.bytes()
    }

    fn touched_slots<'a>(&self, batch: &'a Features) -> Option<&'a [u32]> {
        Some(batch.rows().slots())
    }

    /// # Panics
    /// When the batch has not one feature.
    fn run_twin(&self, batch: &Features, state: &mut StatePages) -> Scores {
        assert_eq!(batch.column_count(), 1, "distances are of one feature");
        cpu::run(self, batch, state)
    }

    #[cfg(feature = "gpu")]
    fn encode(
        &self,
        batch: &Features,
        state: &mut crate::device::ResidentPages,
        wave: &mut crate::device::Wave,
    ) -> Result<Vec<crate::device::Region>, KernelError> {
        gpu::encode(self, batch, state, wave)
    }

    #[cfg(feature = "gpu")]
    fn decode(
        &self,
        batch: &Features,
        regions: &[crate::device::Region],
        readback: &crate::device::Readback,
    ) -> Scores {
        gpu::decode(batch, regions, readback)
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
