//! How good a model is on rows that it has not learnt yet: each is predicted first and learnt then, so every row is a test (prequential evaluation: Dawid, 1984; Gama,
//! Sebastião and Rodrigues, "On evaluating stream learning algorithms", Machine Learning 2013).

use super::words::{Reader, Writer};

/// How many figures there are of each kind of model.
pub(super) const FIGURES: usize = 3;

/// Sums over some rows.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    rows: f64,
    /// Rows whose label was right; sums of absolute errors.
    first: f64,
    /// Sums of log losses; of squared errors.
    second: f64,
    /// By label, how often it came; of a regressor, sums of distances from the running mean.
    base: Vec<f64>,
    is_classifier: bool,
}

impl Tally {
    /// Of a classifier with so many labels; 0: of a regressor.
    pub(super) fn new(labels: usize) -> Self {
        Self { rows: 0.0, first: 0.0, second: 0.0, base: vec![0.0; labels.max(1)], is_classifier: labels > 0 }
    }

    /// The answer was `probabilities`, and the label is this one.
    pub(super) fn label(&mut self, probabilities: &[f64], label: usize) {
        let first_of_greatest = (1..probabilities.len())
            .fold(0, |best, place| if probabilities[place] > probabilities[best] { place } else { best });
        self.rows += 1.0;
        self.first += f64::from(first_of_greatest == label);
        self.second -= probabilities[label].max(1e-15).ln();
        self.base[label] += 1.0;
    }

    /// The answer was `answer`, the number is this one, and the mean of all before it that.
    pub(super) fn number(&mut self, answer: f64, number: f64, mean: f64) {
        self.rows += 1.0;
        self.first += (answer - number).abs();
        self.second += (answer - number) * (answer - number);
        self.base[0] += (number - mean).abs();
    }

    /// Accuracy, log loss, and the part of the most frequent label; mean absolute error, root of the mean square, and the mean error of the mean. NaN without rows.
    pub(super) fn figures(&self) -> [f64; FIGURES] {
        let (first, second) = (self.first / self.rows, self.second / self.rows);
        let base = self.base.iter().copied().fold(0.0, f64::max) / self.rows;
        [first, if self.is_classifier { second } else { second.sqrt() }, base]
    }

    pub(super) fn clear(&mut self) {
        (self.rows, self.first, self.second) = (0.0, 0.0, 0.0);
        self.base.fill(0.0);
    }

    pub(super) fn save(&self, words: &mut Writer) {
        words.numbers(&[self.rows, self.first, self.second]);
        words.numbers(&self.base);
    }

    pub(super) fn restore(&mut self, words: &mut Reader<'_>) -> Option<()> {
        (self.rows, self.first, self.second) = (words.number()?, words.number()?, words.number()?);
        words.numbers(&mut self.base)
    }
}
