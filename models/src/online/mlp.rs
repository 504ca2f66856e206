//! One hidden layer, learnt by Adam (Kingma and Ba, ICLR 2015), a row a step. Weights begin at random, uniformly as Glorot and Bengio (AISTATS 2010) have them; the
//! seed says at which.

use super::settings::Steps;
use super::words::{Reader, Writer};
use crate::network::Hidden;
use crate::train::Chance;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

#[derive(Debug, Clone)]
pub(super) struct Mlp {
    inputs: usize,
    hidden: usize,
    activation: Hidden,
    /// For each hidden unit the weights of its inputs, then its bias; then for each output those of the hidden units.
    weights: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    /// Both betas to the power of the steps that were taken.
    powers: (f64, f64),
    /// The hidden units of the last row.
    units: Vec<f64>,
    /// Of the loss, by hidden unit and by weight, for the row that is learnt.
    slopes: Vec<f64>,
    gradient: Vec<f64>,
}

impl Mlp {
    pub(super) fn new(inputs: usize, hidden: usize, outputs: usize, activation: Hidden, seed: u64) -> Self {
        let count = (inputs + 1) * hidden + (hidden + 1) * outputs;
        let mut chance = Chance::new(seed);
        let mut weights = Vec::with_capacity(count);
        for (wide, high) in [(inputs, hidden), (hidden, outputs)] {
            let limit = (6.0 / (wide + high) as f64).sqrt();
            for _ in 0..high {
                weights.extend((0..wide).map(|_| (chance.uniform() * 2.0 - 1.0) * limit));
                weights.push(0.0);
            }
        }
        Self {
            inputs,
            hidden,
            activation,
            first: vec![0.0; weights.len()],
            second: vec![0.0; weights.len()],
            gradient: vec![0.0; weights.len()],
            weights,
            powers: (1.0, 1.0),
            units: vec![0.0; hidden],
            slopes: vec![0.0; hidden],
        }
    }

    fn split(&self) -> usize {
        (self.inputs + 1) * self.hidden
    }

    pub(super) fn forward(&mut self, row: &[f64], output: &mut [f64]) {
        let (below, above) = self.weights.split_at(self.split());
        for (weights, unit) in below.chunks_exact(self.inputs + 1).zip(&mut self.units) {
            let sum: f64 = weights.iter().zip(row).map(|(weight, value)| weight * value).sum();
            let sum = sum + weights[self.inputs];
            *unit = match self.activation {
                Hidden::Tanh => sum.tanh(),
                _ => sum.max(0.0),
            };
        }
        for (weights, output) in above.chunks_exact(self.hidden + 1).zip(output) {
            let sum: f64 = weights.iter().zip(&self.units).map(|(weight, unit)| weight * unit).sum();
            *output = sum + weights[self.hidden];
        }
    }

    /// A step against `gradient`, that of the loss by each output for `row`, which [`forward`](Self::forward) was called with last.
    pub(super) fn descend(&mut self, row: &[f64], gradient: &[f64], steps: &Steps) {
        self.powers = (self.powers.0 * BETA_1, self.powers.1 * BETA_2);
        let split = self.split();
        self.slopes.fill(0.0);
        for (weights, gradient) in self.weights[split..].chunks_exact(self.hidden + 1).zip(gradient) {
            self.slopes.iter_mut().zip(weights).for_each(|(slope, weight)| *slope += gradient * weight);
        }
        for (slope, unit) in self.slopes.iter_mut().zip(&self.units) {
            *slope *= match self.activation {
                Hidden::Tanh => 1.0 - unit * unit,
                _ => f64::from(*unit > 0.0),
            };
        }
        // First all slopes, then all steps: the square roots and quotients of a row are done several at once.
        let (below, above) = self.gradient.split_at_mut(split);
        for (slopes, slope) in below.chunks_exact_mut(self.inputs + 1).zip(&self.slopes) {
            slopes.iter_mut().zip(row).for_each(|(place, input)| *place = slope * input);
            slopes[self.inputs] = *slope;
        }
        for (slopes, gradient) in above.chunks_exact_mut(self.hidden + 1).zip(gradient) {
            slopes.iter_mut().zip(&self.units).for_each(|(place, unit)| *place = gradient * unit);
            slopes[self.hidden] = *gradient;
        }
        if steps.l2 > 0.0 {
            self.shrink(steps.l2);
        }
        let (correct_1, correct_2) = (1.0 - self.powers.0, 1.0 - self.powers.1);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((weight, slope), (first, second)) in self.weights.iter_mut().zip(&self.gradient).zip(moments) {
            *first = something(BETA_1 * *first + (1.0 - BETA_1) * slope);
            *second = something(BETA_2 * *second + (1.0 - BETA_2) * slope * slope);
            *weight -= steps.learning_rate * (*first / correct_1) / ((*second / correct_2).sqrt() + EPSILON);
        }
    }

    /// Draws all weights but biases to 0.
    fn shrink(&mut self, l2: f64) {
        let split = self.split();
        for (range, wide) in [(0..split, self.inputs), (split..self.weights.len(), self.hidden)] {
            let rows = self.gradient[range.clone()].chunks_exact_mut(wide + 1);
            for (slopes, weights) in rows.zip(self.weights[range].chunks_exact(wide + 1)) {
                slopes[..wide].iter_mut().zip(weights).for_each(|(slope, weight)| *slope += l2 * weight);
            }
        }
    }

    pub(super) fn save(&self, words: &mut Writer) {
        words.number(self.powers.0);
        words.number(self.powers.1);
        [&self.weights, &self.first, &self.second].into_iter().for_each(|numbers| words.numbers(numbers));
    }

    pub(super) fn restore(&mut self, words: &mut Reader<'_>) -> Option<()> {
        self.powers = (words.number()?, words.number()?);
        [&mut self.weights, &mut self.first, &mut self.second]
            .into_iter()
            .try_for_each(|numbers| words.numbers(numbers))
    }

    pub(super) fn bytes(&self) -> usize {
        self.weights.len() * 32 + self.hidden * 16
    }

    #[cfg(test)]
    pub(super) fn weights(&mut self) -> &mut [f64] {
        &mut self.weights
    }
}

/// Moments of what does not vary any more fall for ever, and numbers near the least are very slow to compute with: below this they are nothing.
#[inline(always)]
fn something(moment: f64) -> f64 {
    if moment.abs() < 1e-200 { 0.0 } else { moment }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way that a first step goes is that of the numerical slope of the loss: Adam's first step has the size of the rate, and the sign of the slope.
    #[test]
    fn the_gradient_is_that_of_the_loss() {
        for activation in [Hidden::Tanh, Hidden::Relu] {
            let mut network = Mlp::new(3, 4, 2, activation, 5);
            let (row, target) = ([0.3, -1.2, 0.7], [0.5, -0.25]);
            let loss = |network: &mut Mlp| {
                let mut output = [0.0; 2];
                network.forward(&row, &mut output);
                output.iter().zip(target).map(|(output, target)| (output - target).powi(2) / 2.0).sum::<f64>()
            };
            let slopes: Vec<f64> = (0..network.weights().len())
                .map(|place| {
                    let moved = |by: f64| {
                        let mut network = network.clone();
                        network.weights()[place] += by;
                        loss(&mut network)
                    };
                    (moved(1e-6) - moved(-1e-6)) / 2e-6
                })
                .collect();
            let before = network.weights().to_vec();
            let mut output = [0.0; 2];
            network.forward(&row, &mut output);
            let gradient = [output[0] - target[0], output[1] - target[1]];
            network.descend(&row, &gradient, &Steps { learning_rate: 1e-3, l2: 0.0, decay: 1.0 });
            // What Adam remembers of one step is a tenth of the slope.
            for (place, slope) in slopes.iter().enumerate() {
                assert!((network.first[place] / (1.0 - BETA_1) - slope).abs() < 1e-6, "{activation:?} {place}");
                let moved = network.weights()[place] - before[place];
                assert!(slope.abs() < 1e-6 || (moved + 1e-3 * slope.signum()).abs() < 1e-5, "{activation:?} {place}");
            }
        }
    }
}
