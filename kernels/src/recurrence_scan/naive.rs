//! The oracle: row after row as they came, each key's numbers in a map, formulas as the books write them.

use super::{Config, Recurrence, VALUE_LIMIT, gain_of_half_life};
use std::collections::HashMap;

/// What is known of a key.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    learnt: u64,
    mean: f64,
    trend: f64,
    variance: f64,
    rise: f64,
    fall: f64,
}

/// Scores rows one by one.
#[derive(Debug)]
pub struct Naive {
    config: Config,
    keys: HashMap<u32, Known>,
}

impl Naive {
    /// No row yet.
    pub fn new(config: Config) -> Self {
        Naive { config, keys: HashMap::new() }
    }

    /// The score of a row that is not learnt.
    pub fn judge(&mut self, slot: u32, value: f64) -> f64 {
        let before = self.keys.get(&slot).copied();
        let score = self.score(slot, value);
        match before {
            Some(before) => self.keys.insert(slot, before),
            None => self.keys.remove(&slot),
        };
        score
    }

    /// The score of a row, before it is learnt.
    pub fn score(&mut self, slot: u32, value: f64) -> f64 {
        let known = self.keys.entry(slot).or_default();
        if value.is_nan() || value.abs() > VALUE_LIMIT {
            return f64::NAN;
        }
        if known.learnt == 0 {
            known.mean = value; // so that there is nothing yet to differ from
        }
        let n = known.learnt as f64;
        let trained = known.learnt >= u64::from(self.config.min_training);
        let score;
        match self.config.recurrence {
            Recurrence::Ewma { half_life } => {
                let residual = value - known.mean;
                score = residual.abs() / (known.variance + self.config.variance_floor).sqrt();
                known.learn_ewma(half_life, n, residual);
            }
            Recurrence::Cusum { half_life, drift, residual_limit } => {
                let residual = value - known.mean;
                let standardised = residual / (known.variance + self.config.variance_floor).sqrt();
                let standardised = standardised.clamp(-residual_limit, residual_limit);
                if trained {
                    known.rise = (known.rise + standardised - drift).max(0.0);
                    known.fall = (known.fall - standardised - drift).max(0.0);
                }
                score = known.rise.max(known.fall);
                known.learn_ewma(half_life, n, residual);
            }
            Recurrence::Holt { half_life, trend_half_life } => {
                let residual = value - (known.mean + known.trend);
                score = residual.abs() / (known.variance + self.config.variance_floor).sqrt();
                let gain = gain_of_half_life(half_life);
                let level_gain = gain.max(2.0 * (2.0 * n + 1.0) / ((n + 1.0) * (n + 2.0)));
                let trend_gain = (gain * gain_of_half_life(trend_half_life)).max(6.0 / ((n + 1.0) * (n + 2.0)));
                known.mean = known.mean + known.trend + level_gain * residual;
                if known.learnt > 0 {
                    let variance_gain = gain.max(1.0 / n);
                    known.trend += trend_gain * residual;
                    known.variance += variance_gain * (residual * residual - known.variance);
                }
            }
        }
        known.learnt += 1;
        if trained { score } else { 0.0 }
    }

    /// Mean and variance of a key, for tests.
    pub fn mean_and_variance(&self, slot: u32) -> (f64, f64) {
        let known = &self.keys[&slot];
        (known.mean, known.variance)
    }
}

impl Known {
    fn learn_ewma(&mut self, half_life: f64, n: f64, residual: f64) {
        let gain = gain_of_half_life(half_life).max(1.0 / (n + 1.0));
        let increment = gain * residual;
        self.mean += increment;
        self.variance = (1.0 - gain) * (self.variance + residual * increment);
    }
}
