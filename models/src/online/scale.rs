//! Running means and variances, by which numbers are standardised before they are learnt.
//!
//! Mean and variance with exponentially falling weights are updated in one pass (Finch, 2009, "Incremental calculation of weighted mean and variance"); without
//! a half-life all rows weigh the same, which is Welford's recurrence. Of a number that is far beyond all that was usual only so much is learnt that one wild
//! row does not hide what comes after it; where such numbers go on coming the deviation grows with each, until they are usual.

use super::words::{Reader, Writer};

/// Numbers beyond it are this number: their squares still have room.
const NUMBER_MAX: f64 = 1e100;
/// A standardised number is at most so far from 0, so that one outlier cannot carry the weights away.
pub(super) const STANDARD_MAX: f64 = 10.0;

/// Before so many rows nobody knows what is usual.
const USUAL_WEIGHT: f64 = 8.0;

#[derive(Debug, Clone)]
pub(super) struct Scale {
    /// The sum of all weights.
    weight: f64,
    mean: Vec<f64>,
    /// Weighted squares of distances from the mean.
    squares: Vec<f64>,
}

impl Scale {
    pub(super) fn new(width: usize) -> Self {
        Self { weight: 0.0, mean: vec![0.0; width], squares: vec![0.0; width] }
    }

    pub(super) fn mean(&self, place: usize) -> f64 {
        self.mean[place]
    }

    pub(super) fn deviation(&self, place: usize) -> f64 {
        if self.weight > 0.0 { (self.squares[place] / self.weight).sqrt() } else { 0.0 }
    }

    /// The deviation, where numbers vary: a variance that rounds to nothing beside the mean is none.
    fn varies_by(&self, place: usize) -> Option<f64> {
        let deviation = self.deviation(place);
        Some(deviation).filter(|deviation| *deviation > 1e-12 * self.mean[place].abs() && *deviation > 0.0)
    }

    /// The row's distance from the mean in deviations; 0 where nothing has varied yet.
    pub(super) fn apply(&self, row: &[f64], standard: &mut [f64]) {
        for (place, (value, standard)) in row.iter().zip(standard).enumerate() {
            let distance = value.clamp(-NUMBER_MAX, NUMBER_MAX) - self.mean[place];
            let in_deviations = |deviation: f64| (distance / deviation).clamp(-STANDARD_MAX, STANDARD_MAX);
            *standard = self.varies_by(place).map_or(0.0, in_deviations);
        }
    }

    /// Takes a row in; those before weigh `decay` of what they did.
    pub(super) fn learn(&mut self, row: &[f64], decay: f64) {
        let before = self.weight * decay;
        let weight = before + 1.0;
        let is_young = self.weight < USUAL_WEIGHT;
        for (place, value) in row.iter().enumerate() {
            let limit = self.varies_by(place).filter(|_| !is_young).map_or(f64::MAX, |usual| STANDARD_MAX * usual);
            let distance = (value.clamp(-NUMBER_MAX, NUMBER_MAX) - self.mean[place]).clamp(-limit, limit);
            self.mean[place] += distance / weight;
            self.squares[place] = self.squares[place] * decay + distance * distance * before / weight;
        }
        self.weight = weight;
    }

    pub(super) fn save(&self, words: &mut Writer) {
        words.number(self.weight);
        words.numbers(&self.mean);
        words.numbers(&self.squares);
    }

    pub(super) fn restore(&mut self, words: &mut Reader<'_>) -> Option<()> {
        self.weight = words.number()?;
        words.numbers(&mut self.mean)?;
        words.numbers(&mut self.squares)
    }

    pub(super) fn bytes(&self) -> usize {
        self.mean.len() * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With and without forgetting, mean and deviation are those of the definition.
    #[test]
    fn agrees_with_the_definition() {
        let values = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0];
        for decay in [1.0, 0.5f64.powf(1.0 / 3.0)] {
            let mut scale = Scale::new(1);
            values.iter().for_each(|value| scale.learn(&[*value], decay));
            let weights: Vec<f64> = (0..values.len()).rev().map(|age| decay.powi(age as i32)).collect();
            let sum: f64 = weights.iter().sum();
            let mean = weights.iter().zip(&values).map(|(weight, value)| weight * value).sum::<f64>() / sum;
            let squares = weights.iter().zip(&values).map(|(weight, value)| weight * (value - mean).powi(2));
            let deviation = (squares.sum::<f64>() / sum).sqrt();
            assert!((scale.mean(0) - mean).abs() < 1e-12 && (scale.deviation(0) - deviation).abs() < 1e-12);
        }
    }

    /// A constant has no deviation to divide by, and what is huge stays finite.
    #[test]
    fn constants_and_giants_are_finite() {
        let mut scale = Scale::new(2);
        let mut standard = [7.0; 2];
        for _ in 0..100 {
            scale.learn(&[0.1, f64::MAX], 0.99);
        }
        scale.apply(&[0.1, -f64::MAX], &mut standard);
        assert_eq!(standard[0], 0.0);
        assert!(standard[1].is_finite());
        scale.learn(&[0.1, -f64::MAX], 0.99);
        scale.apply(&[5.0, 0.0], &mut standard);
        assert!(standard.iter().all(|value| value.is_finite()));
    }
}
