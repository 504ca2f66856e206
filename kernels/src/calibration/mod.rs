//! From scores to alarms: how rare a score is among the earlier scores of its key, and when that is worth an alarm.

mod digest;
mod excursions;
mod options;
mod pareto;
mod prior;
mod tail;
#[cfg(test)]
mod tests;

pub use options::{AlarmBy, AlarmOptions, Rest};
pub use prior::Prior;

use crate::features::{Features, centred};
use crate::score::{Detections, Expectations};
use crate::state::{Layout, StatePages, StateShape};

// Words of a slot; then for each feature `FEATURE_WORDS`, then those of `tail`.
const COUNT: usize = 0; // scores learnt, at most COUNT_MAX
// How many rows the key rests still, or until when, in milliseconds: low and high word.
const REST_LOW: usize = 1;
const REST_HIGH: usize = 2;
const HEADER_WORDS: usize = 3;
const BASE_HIGH: usize = 0;
const BASE_LOW: usize = 1;
const MEAN: usize = 2;
const VARIANCE: usize = 3;
const FEATURE_WORDS: usize = 4;
const COUNT_MAX: u32 = 1 << 30;
/// Rows after which a score weighs half in how they are distributed, where nobody says otherwise.
pub const HALF_LIFE_ROWS: f32 = 50_000.0;
/// No more than so many standard deviations are learnt of a value, for what is expected of the next ones. A level that shifts is followed all
/// the same: each such row makes the deviation greater by a third.
const FAR_DEVIATIONS: f32 = 12.0;

/// Scores and their alarms. The state of a key is a histogram of its scores, what makes up for how often
/// they were below the rate, and a mean and variance for each feature.
#[derive(Debug, Clone)]
pub struct Calibration {
    options: AlarmOptions,
    prior: Prior,
    features: usize,
    /// Rows of a key that the scorer learns before it has a score for one.
    warm_up_rows: u32,
    /// Rows of a key that are learnt before one may be an alarm.
    training_rows: u32,
    /// How fast scores of earlier rows fade.
    growth: f32,
    shape: StateShape,
}

/// What is known of rows beside their features and scores; `[grouped row]` each.
#[derive(Debug, Clone, Copy)]
pub struct GroupedContext<'a> {
    /// Event time in milliseconds; 0 where it is not known.
    pub time_ms: Option<&'a [i64]>,
    /// Rows with `false` are judged and not learnt.
    pub learn: Option<&'a [bool]>,
    /// Rows that have all values and no score: one is infinite, or of a magnitude where no difference is left.
    pub beyond: &'a [bool],
}

impl Calibration {
    /// What the words of a key mean, of scores with this prior.
    pub fn layout(prior: &Prior) -> &'static str {
        match (prior.lasts(), prior.is_of_distances()) {
            (Some(_), _) => "calibration/5+digest/1+excursions/2",
            (None, _) if prior.is_by_rank() => "calibration/5+digest/1",
            (None, true) => "calibration/5+distances/1",
            (None, false) => "calibration/5",
        }
    }

    /// For rows with so many features, and a scorer that says 0 of the first `warm_up_rows` of a key, whatever they are: these are no
    /// scores, and teach nothing about how scores are distributed.
    pub fn new(options: AlarmOptions, prior: Prior, features: usize, warm_up_rows: u32) -> Self {
        let words = HEADER_WORDS + features * FEATURE_WORDS + tail::words(&prior);
        let scored = warm_up_rows.saturating_add(options.min_training.min(prior.own_rows()));
        let training_rows = options.min_training.max(scored).min(COUNT_MAX);
        let shape = StateShape::new(vec![0; words], Layout::SlotMajor);
        let growth = tail::growth(HALF_LIFE_ROWS);
        Calibration { options, prior, features, warm_up_rows, training_rows, growth, shape }
    }

    /// With another half-life of how scores are distributed, in rows.
    pub fn with_half_life(self, rows: f32) -> Self {
        Calibration { growth: tail::growth(rows), ..self }
    }

    /// The words of a key.
    pub fn shape(&self) -> &StateShape {
        &self.shape
    }

    /// Judges the scores of rows, grouped by key and in order, and learns them where `seen` does not say otherwise.
    ///
    /// What the scorer expected of rows is told as it is; where it expects nothing, an exponentially weighted mean stands in.
    pub fn run(
        &self,
        features: &Features,
        (scores, surprises): (Vec<f32>, Option<Vec<f32>>),
        expectations: Option<Expectations>,
        seen: GroupedContext<'_>,
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
        let mut kept = 0usize;
        for (slot, rows) in features.rows().groups() {
            let (page, in_page) =
                (slot as usize / state.shape().slots_per_page(), slot as usize % state.shape().slots_per_page());
            let start = state.shape().index(in_page, 0);
            let words = &mut state.page_mut(page)[start..][..self.shape.words_per_slot()];
            for row in rows {
                // A kernel may give up on rows that are among the features.
                let place = kept;
                let is_kept = features.kept().is_none_or(|all| all.get(place) == Some(&(row as u32)));
                kept += usize::from(is_kept);
                if out.score[row].is_nan() {
                    if seen.beyond[row] {
                        self.beyond(words, seen.time_ms.map_or(0, |times| times[row]), row, &mut out);
                    }
                    continue;
                }
                let learns = seen.learn.is_none_or(|learn| learn[row]);
                let time_ms = seen.time_ms.map_or(0, |times| times[row]);
                let surprise = surprises.as_ref().map_or(out.score[row], |surprises| surprises[row]);
                if let Some(Expectations { expected, deviation }) = &expectations {
                    let reach = f64::from(tail::reach(self.options.max_false_alarm_rate) * deviation[row]);
                    let value = f64::from(features.high(0)[place]) + f64::from(features.low(0)[place]);
                    out.expected[row] = expected[row];
                    (out.lower[row], out.upper[row]) = (expected[row] - reach, expected[row] + reach);
                    out.direction[row] = i8::from(value > expected[row]) - i8::from(value < expected[row]);
                }
                let is_expected = expectations.is_some();
                self.row(words, features, (place, surprise), (row, time_ms), (learns, is_expected), &mut out);
            }
        }
        out
    }

    /// A value that nothing can be compared with is as rare as can be.
    fn beyond(&self, words: &mut [u32], time_ms: i64, row: usize, out: &mut Detections) {
        let trained = words[COUNT] >= self.training_rows;
        out.score[row] = f32::MAX;
        out.p_value[row] = if trained { f32::MIN_POSITIVE } else { 1.0 };
        out.is_anomaly[row] = self.alarms(words, time_ms, trained);
    }

    /// Whether a row that is rare enough for an alarm is one, and no row of the rest after another; `rare` or not, it counts as a row.
    fn alarms(&self, header: &mut [u32], time_ms: i64, rare: bool) -> bool {
        let left = i64::from(header[REST_LOW]) | i64::from(header[REST_HIGH]) << 32;
        let (rests, next) = match self.options.rest {
            Rest::Rows(rows) if left == 0 => (false, i64::from(if rare { rows } else { 0 })),
            Rest::Rows(_) => (true, left - 1),
            // No time is the one at which nothing rests: a key that never alarmed.
            Rest::Ms(_) if left != 0 && time_ms < left => (true, left),
            Rest::Ms(ms) => (false, if rare { time_ms.saturating_add(ms) } else { 0 }),
        };
        (header[REST_LOW], header[REST_HIGH]) = (next as u32, (next >> 32) as u32);
        rare && !rests
    }

    fn row(
        &self,
        words: &mut [u32],
        features: &Features,
        (kept, surprise): (usize, f32),
        (row, time_ms): (usize, i64),
        (learns, is_expected): (bool, bool),
        out: &mut Detections,
    ) {
        let (header, rest) = words.split_at_mut(HEADER_WORDS);
        let (models, tail) = rest.split_at_mut(self.features * FEATURE_WORDS);
        let count = header[COUNT];
        if count >= self.warm_up_rows {
            let trained = count >= self.training_rows;
            let rate = self.options.max_false_alarm_rate as f32;
            let judged =
                tail::Judged { score: surprise, age: count, learn: learns, judged: trained, growth: self.growth };
            let p_value = tail::p_value(bytemuck::cast_slice_mut(tail), &self.prior, rate, judged);
            if trained {
                out.p_value[row] = p_value;
            }
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
            if index == 0 && count > 0 && !is_expected {
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
                let reach = FAR_DEVIATIONS * variance.sqrt();
                let difference = if count > 30 && reach > 0.0 { difference.clamp(-reach, reach) } else { difference };
                model[MEAN] = (mean + gain * difference).to_bits();
                model[VARIANCE] = ((1.0 - gain) * (variance + gain * difference * difference)).to_bits();
            }
        }
        let rare = match self.options.alarm {
            AlarmBy::Chance => f64::from(out.p_value[row]) < self.options.max_false_alarm_rate,
            AlarmBy::Bounds => {
                let value = f64::from(features.high(0)[kept]) + f64::from(features.low(0)[kept]);
                count >= self.training_rows && (value < out.lower[row] || value > out.upper[row])
            }
        };
        out.is_anomaly[row] = self.alarms(header, time_ms, rare);
        for share in &mut out.contributions {
            share[row] = if deviations > 0.0 { share[row] / deviations } else { 1.0 / self.features as f32 };
        }
        if learns {
            header[COUNT] = (count + 1).min(COUNT_MAX);
        }
    }
}
