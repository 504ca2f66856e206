//! Weighted sums, learnt by gradients whose steps get smaller in each direction by what was seen of it: AdaGrad (Duchi, Hazan and Singer, JMLR 2011).
//!
//! With a half-life the squares of gradients are forgotten as the scale of inputs is, so steps do not become too small to follow a drift.

use super::settings::Steps;
use super::words::{Reader, Writer};

/// Keeps the first division from being one by zero.
const EPSILON: f64 = 1e-8;

#[derive(Debug, Clone)]
pub(super) struct Linear {
    inputs: usize,
    /// For each output the weights of its inputs, then its bias.
    weights: Vec<f64>,
    /// The squares of gradients, as the weights.
    squares: Vec<f64>,
}

impl Linear {
    pub(super) fn new(inputs: usize, outputs: usize) -> Self {
        let count = (inputs + 1) * outputs;
        Self { inputs, weights: vec![0.0; count], squares: vec![0.0; count] }
    }

    pub(super) fn forward(&self, row: &[f64], output: &mut [f64]) {
        for (weights, output) in self.weights.chunks_exact(self.inputs + 1).zip(output) {
            let sum: f64 = weights.iter().zip(row).map(|(weight, value)| weight * value).sum();
            *output = sum + weights[self.inputs];
        }
    }

    /// A step against `gradient`, that of the loss by each output for `row`.
    pub(super) fn descend(&mut self, row: &[f64], gradient: &[f64], steps: &Steps) {
        let all = self.weights.chunks_exact_mut(self.inputs + 1).zip(self.squares.chunks_exact_mut(self.inputs + 1));
        for ((weights, squares), gradient) in all.zip(gradient) {
            let (bias, weights) = weights.split_last_mut().expect("an output has a bias");
            let (bias_square, squares) = squares.split_last_mut().expect("a bias has a slope");
            for ((weight, square), input) in weights.iter_mut().zip(squares).zip(row) {
                step(weight, square, gradient * input + steps.l2 * *weight, steps);
            }
            // The bias is not drawn to 0.
            step(bias, bias_square, *gradient, steps);
        }
    }

    pub(super) fn save(&self, words: &mut Writer) {
        words.numbers(&self.weights);
        words.numbers(&self.squares);
    }

    pub(super) fn restore(&mut self, words: &mut Reader<'_>) -> Option<()> {
        words.numbers(&mut self.weights)?;
        words.numbers(&mut self.squares)
    }

    pub(super) fn bytes(&self) -> usize {
        self.weights.len() * 16
    }
}

#[inline(always)]
fn step(weight: &mut f64, square: &mut f64, slope: f64, steps: &Steps) {
    *square = *square * steps.decay + slope * slope;
    *weight -= steps.learning_rate * slope / (square.sqrt() + EPSILON);
}
