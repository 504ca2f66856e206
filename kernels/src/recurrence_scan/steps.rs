//! CUSUM's sums over a tile of one key. Only an addition and a comparison wait for the row before, and they fit into the shadow of the
//! chain that learns the next tile; limits, drifts and scores are worked out for many rows at once.

use super::Constants;
use super::cpu::{KEY_ROWS, greater, lesser};

/// Steps of both sums over a tile, then the sums after them.
pub(super) struct Steps {
    rise: [f32; KEY_ROWS],
    fall: [f32; KEY_ROWS],
    /// Standardised residuals: NaN where a row does not count.
    residual: [f32; KEY_ROWS],
}

impl Steps {
    pub(super) fn new() -> Self {
        Steps { rise: [0.0; KEY_ROWS], fall: [0.0; KEY_ROWS], residual: [0.0; KEY_ROWS] }
    }

    /// Takes in standardised residuals.
    #[inline(always)]
    pub(super) fn begin(&mut self, constants: &Constants, residuals: &[f32]) {
        let rows = self.rise.iter_mut().zip(&mut self.fall).zip(&mut self.residual).zip(residuals);
        for (((up, down), kept), &residual) in rows {
            // What is added where a row does not count is nothing, whatever the limits make of it.
            let counts = !residual.is_nan();
            let limited = lesser(greater(residual, -constants.residual_limit), constants.residual_limit);
            let (above, below) = (limited - constants.drift, -limited - constants.drift);
            *up = if counts { above } else { 0.0 };
            *down = if counts { below } else { 0.0 };
            *kept = residual;
        }
    }

    /// Adds a row's steps to the sums before it, and puts the sums after it in their place: none is below 0.
    #[inline(always)]
    pub(super) fn add(&mut self, sums: &mut [f32; 2], row: usize) {
        let row = row % KEY_ROWS;
        let rise = greater(sums[0] + self.rise[row], 0.0);
        let fall = greater(sums[1] + self.fall[row], 0.0);
        (self.rise[row], self.fall[row]) = (rise, fall);
        *sums = [rise, fall];
    }

    /// The scores, once all steps have been added.
    #[inline(always)]
    pub(super) fn scores(&self, scores: &mut [f32]) {
        for (((score, rise), fall), residual) in scores.iter_mut().zip(&self.rise).zip(&self.fall).zip(&self.residual) {
            *score = if residual.is_nan() { f32::NAN } else { greater(*rise, *fall) };
        }
    }
}
