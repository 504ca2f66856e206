//! How far the inputs have gone from those that a model began with: the population stability index (Siddiqi, "Credit Risk Scorecards", 2006).
//!
//! The first rows are the reference. Their deciles cut each input into bins; of each window of later rows the index is the sum over bins of
//! `(p - q) ln(p / q)`, where `p` is the window's part in the bin and `q` the reference's. Below 0.1 is noise, above 0.2 a shift, by its author's rule of thumb.
//! Half a row is added to each bin, so that an empty one is finite. An input of few values has as many bins.

use super::words::{Reader, Writer};

const BINS: usize = 10;

#[derive(Debug, Clone)]
pub(super) struct Drift {
    inputs: usize,
    reference_rows: u64,
    window_rows: u64,
    rows: u64,
    /// Until the reference is whole: its rows, one after the other.
    gathered: Vec<f64>,
    /// By input: the upper bounds of all bins but the last.
    bounds: Vec<Vec<f64>>,
    /// By input and bin, [`BINS`] an input: rows of the reference, and of the window.
    reference: Vec<f64>,
    window: Vec<f64>,
    /// How many rows the window has.
    in_window: u64,
}

impl Drift {
    pub(super) fn new(inputs: usize, reference_rows: u64, window_rows: u64) -> Self {
        Self {
            inputs,
            reference_rows,
            window_rows,
            rows: 0,
            gathered: Vec::new(),
            bounds: vec![Vec::new(); inputs],
            reference: vec![0.0; inputs * BINS],
            window: vec![0.0; inputs * BINS],
            in_window: 0,
        }
    }

    pub(super) fn learn(&mut self, row: &[f64]) {
        self.rows += 1;
        if self.rows <= self.reference_rows {
            self.gathered.extend_from_slice(row);
            if self.rows == self.reference_rows {
                self.cut();
            }
            return;
        }
        self.in_window += 1;
        for (input, value) in row.iter().enumerate() {
            self.window[input * BINS + bin_of(&self.bounds[input], *value)] += 1.0;
        }
    }

    /// Bins of the reference, and its rows in them.
    fn cut(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        for input in 0..self.inputs {
            let mut values: Vec<f64> = gathered.iter().skip(input).step_by(self.inputs).copied().collect();
            values.sort_by(f64::total_cmp);
            let decile = |part: usize| values[(values.len() * part / BINS).min(values.len() - 1)];
            let mut bounds: Vec<f64> = (1..BINS).map(decile).collect();
            bounds.dedup();
            // What is the greatest of all bounds nothing.
            bounds.retain(|bound| *bound < values[values.len() - 1]);
            for value in &values {
                self.reference[input * BINS + bin_of(&bounds, *value)] += 1.0;
            }
            self.bounds[input] = bounds;
        }
    }

    /// Ends the window: the index of each input; NaN where the window has rows of the reference.
    pub(super) fn close(&mut self) -> Vec<f64> {
        let whole = self.in_window == self.window_rows;
        let indices = (0..self.inputs).map(|input| if whole { self.index(input) } else { f64::NAN }).collect();
        self.window.fill(0.0);
        self.in_window = 0;
        indices
    }

    fn index(&self, input: usize) -> f64 {
        let bins = self.bounds[input].len() + 1;
        let part = |counts: &[f64], bin: usize, rows: u64| {
            (counts[input * BINS + bin] + 0.5) / (rows as f64 + 0.5 * bins as f64)
        };
        let of_bin = |bin: usize| {
            let now = part(&self.window, bin, self.in_window);
            let then = part(&self.reference, bin, self.reference_rows);
            (now - then) * (now / then).ln()
        };
        (0..bins).map(of_bin).sum()
    }

    pub(super) fn save(&self, words: &mut Writer) {
        words.count(self.rows);
        words.count(self.in_window);
        words.list(&self.gathered);
        self.bounds.iter().for_each(|bounds| words.list(bounds));
        words.numbers(&self.reference);
        words.numbers(&self.window);
    }

    pub(super) fn restore(&mut self, words: &mut Reader<'_>) -> Option<()> {
        (self.rows, self.in_window) = (words.count()?, words.count()?);
        self.gathered = words.list()?;
        for bounds in &mut self.bounds {
            *bounds = words.list().filter(|bounds| bounds.len() < BINS)?;
        }
        words.numbers(&mut self.reference)?;
        words.numbers(&mut self.window)
    }

    pub(super) fn bytes(&self) -> usize {
        self.gathered.capacity() * 8 + self.inputs * BINS * 24
    }
}

/// The first bin whose bound is not below the value.
fn bin_of(bounds: &[f64], value: f64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Chance;

    /// The same distribution is noise, one that moved by a deviation is a shift, and an input of two values is judged by its two bins.
    #[test]
    fn the_index_tells_a_shift_from_noise() {
        let mut chance = Chance::new(3);
        let mut drift = Drift::new(2, 1_000, 500);
        let mut rows = |drift: &mut Drift, count: usize, shift: f64, part: f64| {
            for _ in 0..count {
                let bell = (0..12).map(|_| chance.uniform()).sum::<f64>() - 6.0;
                let coin = f64::from(chance.uniform() < part);
                drift.learn(&[bell + shift, coin]);
            }
        };
        rows(&mut drift, 500, 0.0, 0.5);
        assert!(drift.close().iter().all(|index| index.is_nan()));
        rows(&mut drift, 500, 0.0, 0.5);
        drift.close();
        rows(&mut drift, 500, 0.0, 0.5);
        let same = drift.close();
        assert!(same.iter().all(|index| (0.0..0.1).contains(index)), "{same:?}");
        rows(&mut drift, 500, 1.0, 0.9);
        let moved = drift.close();
        // Of a bell that moved by one deviation the index is 1, about; of a coin (0.4 ln(9)) 0.88.
        assert!(moved[0] > 0.7 && (moved[1] - 0.88).abs() < 0.3, "{moved:?}");
    }

    /// By hand: a reference of 1 to 10 with a bin for each, a window of ten tens.
    #[test]
    fn the_index_is_that_of_the_definition() {
        let mut drift = Drift::new(1, 10, 10);
        (1..=10).for_each(|value| drift.learn(&[f64::from(value)]));
        (0..10).for_each(|_| drift.learn(&[10.0]));
        assert_eq!(drift.bounds[0].len(), 8, "2 to 9 bound bins; what is above 9 is in the last");
        let (few, many) = (0.5 / 14.5, 10.5 / 14.5);
        let (two, one) = (2.5 / 14.5, 1.5 / 14.5);
        let expected = (few - two) * f64::ln(few / two)
            + 7.0 * (few - one) * f64::ln(few / one)
            + (many - one) * f64::ln(many / one);
        assert!((drift.close()[0] - expected).abs() < 1e-12);
    }
}
