//! The models in `f64`, with directions and eigenvalues apart, windows cut from all values seen, and no base.

use std::collections::HashMap;

use super::{CENTRE_SQUARES_MIN, EMPTY_SQUARES, Model, Scale, SubspaceScore, TAKEN_SQUARES};
use crate::features::{Features, Scores};

/// A model of shapes for each slot.
#[derive(Debug)]
pub struct NaiveSubspace {
    kernel: SubspaceScore,
    keys: HashMap<u32, Key>,
}

#[derive(Debug, Default, Clone)]
struct Key {
    values: Vec<f64>,
    windows: u32,
    flat_share: f64,
    /// Direction of length 1 with its eigenvalue, or centre with its count.
    vectors: Vec<(Vec<f64>, f64)>,
}

impl NaiveSubspace {
    /// The same models.
    pub fn new(kernel: SubspaceScore) -> Self {
        NaiveSubspace { kernel, keys: HashMap::new() }
    }

    /// Scores and learns a batch.
    pub fn run(&mut self, batch: &Features) -> Scores {
        let mut score = vec![0.0; batch.kept_count()];
        for (slot, rows) in batch.groups() {
            let key = self.keys.entry(slot).or_default();
            for row in rows {
                key.values.push(f64::from(batch.high(0)[row]) + f64::from(batch.low(0)[row]));
                let mut copy;
                let learner = match batch.learns().is_none_or(|learns| learns[row]) {
                    true => &mut *key,
                    false => {
                        copy = key.clone();
                        &mut copy
                    }
                };
                score[row] = learner.step(&self.kernel) as f32;
            }
        }
        Scores { score: batch.spread(score), attribution: Vec::new() }
    }
}

impl Key {
    fn step(&mut self, kernel: &SubspaceScore) -> f64 {
        let parameters = kernel.parameters();
        let window = parameters.window as usize;
        if self.values.len() < window {
            return 0.0;
        }
        self.windows += 1;
        let values = &self.values[self.values.len() - window..];
        let mean = values.iter().sum::<f64>() / window as f64;
        let length = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>().sqrt();
        let span = values.iter().copied().fold(f64::MIN, f64::max) - values.iter().copied().fold(f64::MAX, f64::min);
        let flat = span <= f64::from(parameters.flat_span);
        let before = self.flat_share;
        self.flat_share += f64::from(kernel.gain(self.windows, 1.0)) * (f64::from(u8::from(flat)) - before);
        let rest = if flat {
            1.0 - before
        } else {
            let shape: Vec<f64> = values.iter().map(|value| (value - mean) / length).collect();
            match parameters.model {
                Model::Subspace => self.take_components(kernel, shape),
                Model::Centroids => self.move_centres(kernel, &shape),
            }
        };
        match parameters.scale {
            _ if self.windows <= parameters.min_training_windows() => 0.0,
            Scale::Shape => rest,
            Scale::Value => rest * length / (window as f64).sqrt(),
        }
    }

    fn take_components(&mut self, kernel: &SubspaceScore, mut rest: Vec<f64>) -> f64 {
        let gain = f64::from(kernel.gain(self.windows, 3.0));
        for component in 0..kernel.parameters().components as usize {
            let squares: f64 = rest.iter().map(|value| value * value).sum();
            let empty = self.vectors.get(component).is_none_or(|(_, value)| value * value < f64::from(EMPTY_SQUARES));
            if empty {
                if squares > f64::from(TAKEN_SQUARES) {
                    let direction = rest.iter().map(|value| value / squares.sqrt()).collect();
                    self.vectors.truncate(component);
                    self.vectors.push((direction, squares.sqrt()));
                }
                return squares.sqrt();
            }
            let (direction, value) = &mut self.vectors[component];
            let projection: f64 = direction.iter().zip(&rest).map(|(direction, rest)| direction * rest).sum();
            let learnt: Vec<f64> = direction
                .iter()
                .zip(&rest)
                .map(|(direction, rest)| (1.0 - gain) * *value * direction + gain * projection * rest)
                .collect();
            rest.iter_mut().zip(direction.iter()).for_each(|(rest, direction)| *rest -= projection * direction);
            *value = learnt.iter().map(|value| value * value).sum::<f64>().sqrt();
            *direction = learnt.iter().map(|component| component / *value).collect();
        }
        rest.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    fn move_centres(&mut self, kernel: &SubspaceScore, shape: &[f64]) -> f64 {
        let parameters = kernel.parameters();
        let squares_to = |centre: &[f64]| shape.iter().zip(centre).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let mut nearest: Option<(usize, f64)> = None;
        for (index, (centre, _)) in self.vectors.iter().enumerate() {
            let squares = squares_to(centre);
            if nearest.is_none_or(|(_, least)| squares < least) {
                nearest = Some((index, squares));
            }
        }
        let squares = nearest.map_or(4.0, |(_, squares)| squares);
        let room = self.vectors.len() < parameters.components as usize;
        if room && squares > f64::from(CENTRE_SQUARES_MIN) && self.windows % parameters.window == 1 {
            self.vectors.push((shape.to_vec(), 1.0));
        } else if let Some((index, _)) = nearest {
            let (centre, count) = &mut self.vectors[index];
            *count += 1.0;
            let gain = f64::from(kernel.gain(*count as u32, 1.0));
            centre.iter_mut().zip(shape).for_each(|(centre, shape)| *centre += gain * (shape - *centre));
        }
        squares.sqrt()
    }
}
