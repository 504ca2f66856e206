//! The method `forecast`: how far a value is from what the [forecaster](crate::forecast) expected of it, beside its interval.
//!
//! ```text
//! score = (value - median) / (quantile(0.8413) - median)      above the median, below it likewise with quantile(0.1587)
//! ```
//!
//! For errors that are normal this is a number of standard deviations; for others too, as far as quantiles say it: the interval is that of the
//! key's own errors, which differ by season and by side. What is expected comes from earlier rows alone, and then the row is learnt. A row
//! that is missing or not to be learnt takes its place in time: the expectation stands in for it.

use std::sync::Arc;

use super::detector::RowContext;
use super::scorer::{Expectations, Scorer};
use crate::forecast::{Forecaster, Method, Parameters, Season};
use crate::kernel::KernelError;
use crate::placed::WaveGroup;
use crate::placer::Side;
use crate::rows::GroupedRows;
use crate::state::StateShape;

/// One standard deviation on either side of the median of a normal distribution.
const LOWER: f64 = 0.158_655;
const UPPER: f64 = 0.841_345;
/// Scores beyond this say no more.
const SCORE_MAX: f64 = 1e9;

/// Residuals of one forecaster for all keys.
pub(super) struct ForecastScorer {
    forecaster: Forecaster,
    scores: Vec<f32>,
    expectations: Expectations,
    batches: u64,
}

/// After how many rows values repeat.
#[derive(Debug, Clone, Copy)]
pub(super) enum ScorerSeason {
    /// After any number up to `season_max`, if they show it.
    Found { season_max: u32 },
    /// After so many.
    Rows(u32),
    /// They do not.
    None,
}

impl ForecastScorer {
    pub(super) fn new(season: ScorerSeason, min_training: u32) -> Result<Self, KernelError> {
        let (season, season_max) = match season {
            ScorerSeason::Found { season_max } => {
                let usual = [24, 168, 288].into_iter().filter(|period| *period <= season_max);
                (Season::Auto(usual.collect()), season_max)
            }
            ScorerSeason::Rows(period) => (Season::Fixed(period), period),
            ScorerSeason::None => (Season::None, 2),
        };
        let forecaster =
            Forecaster::new(Parameters { method: Method::Flair, horizon: 1, season, season_max, min_training })?;
        Ok(ForecastScorer { forecaster, scores: vec![], expectations: Expectations::default(), batches: 0 })
    }
}

/// How far a value is from its expectation, and the half width of the interval on its side.
fn residual(value: f64, expected: f64, edge: f64) -> f64 {
    let (distance, width) = ((value - expected).abs(), (edge - expected).abs());
    match distance {
        0.0 => 0.0,
        // Errors that never differed have no width: any other one is as strange as can be.
        distance => (distance / width.max(f64::MIN_POSITIVE)).min(SCORE_MAX),
    }
}

impl Scorer for ForecastScorer {
    fn state_shape(&self) -> &StateShape {
        self.forecaster.state_shape()
    }

    fn start(&mut self, rows: &Arc<GroupedRows>, columns: &[&[f64]], context: RowContext<'_>, _: &mut WaveGroup) {
        self.batches += 1;
        self.forecaster.grow(rows.slots().last().map_or(0, |last| *last as usize + 1));
        let count = rows.row_count();
        let mut scores = vec![f32::NAN; count];
        let mut told = Expectations { expected: vec![f64::NAN; count], deviation: vec![f32::NAN; count] };
        for (slot, range) in rows.groups() {
            for row in range {
                let arrived = rows.order()[row] as usize;
                let value = columns[0][arrived];
                // As for all methods: beyond `f32` there is nothing to compare a value with.
                let known = (value as f32).is_finite();
                if known {
                    scores[row] = 0.0;
                    if let Some(ahead) = self.forecaster.expect(slot, LOWER, UPPER) {
                        let edge = if value > ahead.expected { ahead.upper } else { ahead.lower };
                        scores[row] = residual(value, ahead.expected, edge) as f32;
                        told.expected[row] = ahead.expected;
                        told.deviation[row] = (0.5 * (ahead.upper - ahead.lower)) as f32;
                    }
                }
                let learns = known && context.learn.is_none_or(|learn| learn[arrived]);
                self.forecaster.learn_one(slot, if learns { value } else { f64::NAN });
            }
        }
        (self.scores, self.expectations) = (scores, told);
    }

    fn finish(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.scores)
    }

    fn take_expectations(&mut self) -> Option<Expectations> {
        Some(std::mem::take(&mut self.expectations))
    }

    fn sync(&mut self) {}

    fn read_slot(&self, slot: u32, words: &mut Vec<u32>) {
        self.forecaster.read_slot(slot, words);
    }

    fn load(&mut self, slots: &[u32], words: &[u32]) {
        self.forecaster.load(slots, words);
    }

    fn bytes(&self) -> usize {
        self.forecaster.bytes()
    }

    fn place(&self) -> (u64, Side) {
        (self.batches, Side::Cpu)
    }

    fn resume(&mut self, steps: u64, _: Side) {
        self.batches = steps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::testing::unit;

    /// The score is the forecaster's own residual over its own interval: asked for by hand, row by row.
    #[test]
    fn it_is_the_residual_over_the_interval() {
        let values: Vec<f64> = (0..900u64)
            .map(|row| {
                (std::f64::consts::TAU * row as f64 / 24.0).sin() * 5.0
                    + unit(row)
                    + if row == 700 { 20.0 } else { 0.0 }
            })
            .collect();
        let mut scorer = ForecastScorer::new(ScorerSeason::Found { season_max: 168 }, 32).expect("it can be");
        let rows = Arc::new(GroupedRows::group(&vec![0; values.len()], 1));
        scorer.start(&rows, &[&values], RowContext::default(), &mut WaveGroup::new());
        let scores = scorer.finish();
        let mut by_hand =
            ForecastScorer::new(ScorerSeason::Found { season_max: 168 }, 32).expect("it can be").forecaster;
        by_hand.grow(1);
        for (row, value) in values.iter().enumerate() {
            let expected = by_hand.expect(0, LOWER, UPPER).map_or(0.0, |ahead| match *value > ahead.expected {
                true => (value - ahead.expected) / (ahead.upper - ahead.expected),
                false => (ahead.expected - value) / (ahead.expected - ahead.lower),
            });
            assert!(
                (f64::from(scores[row]) - expected).abs() <= 1e-5 * expected,
                "row {row}: {} {expected}",
                scores[row]
            );
            by_hand.learn_one(0, *value);
        }
        let usual = scores[300..700].iter().copied().fold(0.0, f32::max);
        assert!(scores[700] > 2.0 * usual, "{} {usual}", scores[700]);
    }
}
