//! From scores to alarms: how rare a score is among the earlier scores of its key, and when that is worth an alarm.

mod options;
mod tail;

pub use options::AlarmOptions;

use crate::features::{Features, centred};
use crate::score::Detections;
use crate::state::{Layout, StatePages, StateShape};

// Words of a slot; then for each feature `FEATURE_WORDS`, then `BINS` weights.
const COUNT: usize = 0; // scores learnt, at most COUNT_MAX
const REST: usize = 1; // rows until the key may alarm again
const HEADER_WORDS: usize = 2;
const BASE_HIGH: usize = 0;
const BASE_LOW: usize = 1;
const MEAN: usize = 2;
const VARIANCE: usize = 3;
const FEATURE_WORDS: usize = 4;
const COUNT_MAX: u32 = 1 << 30;

/// Scores and their alarms. The state of a key is a histogram of its scores and a mean and variance for each feature.
#[derive(Debug, Clone)]
pub struct Calibration {
    options: AlarmOptions,
    features: usize,
    shape: StateShape,
}

impl Calibration {
    /// What the words of a key mean.
    pub const LAYOUT: &'static str = "calibration/1";

    /// For rows with so many features.
    pub fn new(options: AlarmOptions, features: usize) -> Self {
        let words = HEADER_WORDS + features * FEATURE_WORDS + tail::BINS;
        Calibration { options, features, shape: StateShape::new(vec![0; words], Layout::SlotMajor) }
    }

    /// The words of a key.
    pub fn shape(&self) -> &StateShape {
        &self.shape
    }

    /// Judges the scores of rows, grouped by key and in order, and learns them where `learn` does not say otherwise.
    pub fn run(
        &self,
        features: &Features,
        scores: Vec<f32>,
        learn: Option<&[bool]>,
        state: &mut StatePages,
    ) -> Detections {
        let rows = features.rows().row_count();
        let mut out = Detections {
            p_value: vec![1.0; rows],
            is_anomaly: vec![false; rows],
            expected: vec![f64::NAN; rows],
            lower: vec![f64::NAN; rows],
            upper: vec![f64::NAN; rows],
            direction: vec![0; rows],
            contributions: vec![vec![f32::NAN; rows]; self.features],
            score: scores,
        };
        let mut kept = 0;
        for (slot, rows) in features.rows().groups() {
            let (page, in_page) =
                (slot as usize / state.shape().slots_per_page(), slot as usize % state.shape().slots_per_page());
            let start = state.shape().index(in_page, 0);
            let words = &mut state.page_mut(page)[start..][..self.shape.words_per_slot()];
            for row in rows {
                if out.score[row].is_nan() {
                    continue;
                }
                let learns = learn.is_none_or(|learn| learn[row]);
                self.row(words, features, kept, row, learns, &mut out);
                kept += 1;
            }
        }
        out
    }

    fn row(&self, words: &mut [u32], features: &Features, kept: usize, row: usize, learns: bool, out: &mut Detections) {
        let score = out.score[row];
        let (header, rest) = words.split_at_mut(HEADER_WORDS);
        let (models, bins) = rest.split_at_mut(self.features * FEATURE_WORDS);
        let count = header[COUNT];
        if count >= self.options.min_training {
            out.p_value[row] = tail::p_value(bins, score);
        }
        let below = f64::from(out.p_value[row]) < self.options.max_false_alarm_rate;
        if header[REST] > 0 {
            header[REST] -= 1;
        } else if below {
            out.is_anomaly[row] = true;
            header[REST] = self.options.rest;
        }
        let gain = 1.0 / (count.min(200) + 1) as f32;
        let mut deviations = 0.0;
        for (index, model) in models.chunks_exact_mut(FEATURE_WORDS).enumerate() {
            let (high, low) = (features.high(index)[kept], features.low(index)[kept]);
            if count == 0 {
                (model[BASE_HIGH], model[BASE_LOW]) = (high.to_bits(), low.to_bits());
            }
            let base = (f32::from_bits(model[BASE_HIGH]), f32::from_bits(model[BASE_LOW]));
            let value = centred(high, low, base.0, base.1);
            let (mean, variance) = (f32::from_bits(model[MEAN]), f32::from_bits(model[VARIANCE]));
            let difference = value - mean;
            if index == 0 && count > 0 {
                let base = f64::from(base.0) + f64::from(base.1);
                let reach = f64::from(tail::reach(self.options.max_false_alarm_rate) * variance.sqrt());
                out.expected[row] = base + f64::from(mean);
                (out.lower[row], out.upper[row]) = (out.expected[row] - reach, out.expected[row] + reach);
                out.direction[row] = if difference == 0.0 { 0 } else { difference.signum() as i8 };
            }
            let deviation = difference * difference / variance.max(f32::MIN_POSITIVE);
            out.contributions[index][row] = deviation;
            deviations += deviation;
            if learns {
                model[MEAN] = (mean + gain * difference).to_bits();
                model[VARIANCE] = ((1.0 - gain) * (variance + gain * difference * difference)).to_bits();
            }
        }
        for share in &mut out.contributions {
            share[row] = if deviations > 0.0 { share[row] / deviations } else { 1.0 / self.features as f32 };
        }
        if learns {
            tail::learn(bins, score);
            header[COUNT] = (count + 1).min(COUNT_MAX);
        }
    }
}
