//! The left matrix profile by its definition, in `f64`: every pair of windows is brought to mean 0 and deviation 1 and compared.

use std::collections::{HashMap, VecDeque};

use super::WindowDistance;
use crate::features::{Features, Scores};

/// A left matrix profile, by slot.
#[derive(Debug)]
pub struct NaiveDistance {
    kernel: WindowDistance,
    keys: HashMap<u32, Key>,
}

#[derive(Debug, Default)]
struct Key {
    /// The values of the window.
    values: VecDeque<f64>,
    /// The windows up to the newest, each with mean 0 and deviation 1; nothing for a flat one. And whether it is learnt.
    windows: VecDeque<(Option<Vec<f64>>, bool)>,
}

impl NaiveDistance {
    /// The same profile.
    pub fn new(kernel: WindowDistance) -> Self {
        NaiveDistance { kernel, keys: HashMap::new() }
    }

    /// Scores and learns a batch.
    pub fn run(&mut self, batch: &Features) -> Scores {
        let mut score = vec![0.0; batch.kept_count()];
        for (slot, rows) in batch.groups() {
            let key = self.keys.entry(slot).or_default();
            for row in rows {
                let value = f64::from(batch.high(0)[row]) + f64::from(batch.low(0)[row]);
                let learns = batch.learns().is_none_or(|learns| learns[row]);
                score[row] = key.step(&self.kernel, value, learns) as f32;
            }
        }
        Scores { score: batch.spread(score), attribution: Vec::new() }
    }
}

impl Key {
    fn step(&mut self, kernel: &WindowDistance, value: f64, learns: bool) -> f64 {
        let parameters = kernel.parameters();
        let (window, exclusion) = (parameters.window as usize, parameters.exclusion_rows());
        self.values.push_back(value);
        if self.values.len() < window {
            return 0.0;
        }
        let newest = normalised(self.values.make_contiguous(), parameters.flat_span);
        self.values.pop_front();
        self.windows.push_front((newest, learns));
        self.windows.truncate(parameters.history as usize + 1);
        let learnt = || self.windows.iter().skip(exclusion + 1).filter(|(_, learnt)| *learnt);
        if learnt().count() < parameters.min_training_windows() {
            return 0.0;
        }
        let distance = |(other, _): &(Option<Vec<f64>>, bool)| match (&self.windows[0].0, other) {
            (None, None) => 0.0,
            (None, _) | (_, None) => (window as f64).sqrt(),
            (Some(newest), Some(other)) => newest.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
        };
        learnt().map(distance).fold(f64::INFINITY, f64::min)
    }
}

/// A window with mean 0 and deviation 1; nothing for a flat one. `f64` rounds nothing away, so the given span alone makes it flat.
fn normalised(values: &[f64], flat_span: f32) -> Option<Vec<f64>> {
    let length = values.len() as f64;
    let mean = values.iter().sum::<f64>() / length;
    let deviation = (values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / length).sqrt();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let flat = greatest - least <= f64::from(flat_span);
    (!flat).then(|| values.iter().map(|value| (value - mean) / deviation).collect())
}
