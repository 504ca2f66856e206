//! `subspace_score`: how much of the newest window's shape the shapes seen before do not explain.
//!
//! Each window of `w` values is brought to mean 0 and length 1. Two models of such shapes, both of `k` vectors of `w` numbers for each
//! key and both learnt row by row:
//!
//! - [`Model::Subspace`]: the first `k` principal components, by CCIPCA (Weng, Zhang, Hwang, "Candid covariance-free incremental
//!   principal component analysis", PAMI 2003). The score is the length of what is left of the window when its projections are taken
//!   away one after the other (each component is learnt on what the ones before it leave), so it lies between 0 and 1. Reconstruction
//!   by principal components of windows leads the univariate part of TSB-AD (Liu, Paparrizos, NeurIPS 2024).
//! - [`Model::Centroids`]: `k` centres of online k-means (MacQueen 1967); the score is the distance to the nearest, between 0 and 2.
//!
//! A component is kept as eigenvalue times direction, `v <- (1 - gain) v + gain (u . v / |v|) u`, with `u` the rest of the window; an
//! empty one takes the rest as it is. The gain falls from 1 as `3 / n` (the paper's amnesic average with `l = 2`) until it reaches that of
//! [`SubspaceParameters::half_life`]. Scores are taken with the vectors as they were before the row.
//!
//! **Flat windows** (see [`SubspaceParameters::flat_span`]) have no shape and are not learnt, but counted: a flat window's score is the
//! share of windows that were not flat, so a sensor that gets stuck for the first time stands out and one that often rests does not.
//!
//! A window that is not to be learnt is scored, and neither vectors nor counts move; its newest value stays for the windows after it.

mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub mod naive;

use serde::{Deserialize, Serialize};

use crate::features::{Features, Scores};
use crate::kernel::{Exactness, Kernel, KernelError};
use crate::parameter::check;
use crate::state::{Layout, StatePages, StateShape};

/// Vectors lie this many words apart, or a multiple: filled up with zeros, so that loops have no rest.
pub(crate) const STRIDE: usize = 16;
/// A component of less than this squared length is empty.
pub(crate) const EMPTY_SQUARES: f32 = 1e-16;
/// An empty component takes a rest of more than this squared length; less is rounding.
pub(crate) const TAKEN_SQUARES: f32 = 1e-6;
/// A new centre is farther from all others than this, squared.
pub(crate) const CENTRE_SQUARES_MIN: f32 = 1e-2;
/// Counts stop here, long after all gains have.
pub(crate) const COUNT_MAX: u32 = 1 << 24;

// Words of a slot.
pub(crate) const BASE_HIGH: usize = 0;
pub(crate) const BASE_LOW: usize = 1;
pub(crate) const COUNT: usize = 2; // windows learnt, and the rows before the first window
pub(crate) const FLAT_SHARE: usize = 3; // of windows
pub(crate) const HEADER_WORDS: usize = 4;
// After the header: the count of windows learnt by each vector [k], the last values [stride], the vectors [k][stride].

const NAME: &str = "subspace_score";
/// A page holds this much.
const PAGE_BYTES: usize = 16 << 20;

/// What is kept of the shapes of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// The directions in which windows differ most.
    Subspace,
    /// The most usual windows.
    Centroids,
}

/// What a score counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Of shapes alone, whatever their amplitude.
    Shape,
    /// In units of the value: the same, times the window's standard deviation.
    Value,
}

/// What is learnt, and how fast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubspaceParameters {
    /// Rows of a window, 4 to 512.
    pub window: u32,
    /// Components or centres, 1 to 16, fewer than `window`.
    pub components: u32,
    /// What is kept of shapes.
    pub model: Model,
    /// What scores count in.
    pub scale: Scale,
    /// After so many rows half is forgotten, 1 to 10,000,000.
    pub half_life: f32,
    /// The score is 0 for so many windows, 1 to 1,000,000; `4 * window` when not given.
    pub min_training: Option<u32>,
    /// A window is flat when its values span no more than this.
    pub flat_span: f32,
}

impl Default for SubspaceParameters {
    fn default() -> Self {
        SubspaceParameters {
            window: 32,
            components: 4,
            model: Model::Subspace,
            scale: Scale::Shape,
            half_life: 5000.0,
            min_training: None,
            flat_span: 0.0,
        }
    }
}

impl SubspaceParameters {
    /// Windows of score 0.
    pub fn min_training_windows(&self) -> u32 {
        self.min_training.unwrap_or(4 * self.window)
    }

    /// Rows of a key that have score 0.
    pub fn warm_up_rows(&self) -> u32 {
        self.window - 1 + self.min_training_windows()
    }

    /// Words from one vector to the next.
    pub(crate) fn stride(&self) -> usize {
        (self.window as usize).next_multiple_of(STRIDE)
    }

    pub(crate) fn values_start(&self) -> usize {
        HEADER_WORDS + self.components as usize
    }

    pub(crate) fn vectors_start(&self) -> usize {
        self.values_start() + self.stride()
    }

    fn slot_words(&self) -> usize {
        self.vectors_start() + self.components as usize * self.stride()
    }
}

/// The kernel `subspace_score`, see the [module](self). Batches have one feature.
#[derive(Debug, Clone)]
pub struct SubspaceScore {
    parameters: SubspaceParameters,
    gain_min: f32,
}

impl SubspaceScore {
    /// A model of shapes.
    ///
    /// # Errors
    /// [`KernelError::Parameter`] for what is out of range.
    pub fn new(parameters: SubspaceParameters) -> Result<Self, KernelError> {
        check(NAME, "window", parameters.window, 4..=512)?;
        check(NAME, "components", parameters.components, 1..=16.min(parameters.window - 1))?;
        check(NAME, "half_life", parameters.half_life, 1.0..=1e7)?;
        check(NAME, "min_training", parameters.min_training_windows(), 1..=1_000_000)?;
        check(NAME, "flat_span", parameters.flat_span, 0.0..=f32::MAX)?;
        let gain_min = -(-std::f64::consts::LN_2 / f64::from(parameters.half_life)).exp_m1();
        Ok(SubspaceScore { parameters, gain_min: gain_min as f32 })
    }

    /// What it was made from.
    pub fn parameters(&self) -> &SubspaceParameters {
        &self.parameters
    }

    /// The weight of the newest of `count` windows, of which the first ones count `first` times.
    pub(crate) fn gain(&self, count: u32, first: f32) -> f32 {
        (first / count as f32).clamp(self.gain_min, 1.0)
    }
}

impl Kernel for SubspaceScore {
    type Batch = Features;
    type Output = Scores;

    fn name(&self) -> &'static str {
        NAME
    }

    /// Equal to the bit where an adapter keeps the order of float operations and denormals, and it has to be: a last bit may decide
    /// which centre is nearest, and what is learnt from that moves all scores after it by more than any tolerance. Elsewhere most
    /// scores are within this.
    fn exactness(&self) -> Exactness {
        Exactness::Tolerance { relative: 1e-3, absolute: 1e-3 }
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
        assert_eq!(batch.column_count(), 1, "windows are of one feature");
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
mod tests;
