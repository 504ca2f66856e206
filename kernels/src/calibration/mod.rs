//! From scores to alarms: how rare a score is among the earlier scores of its key, and when that is worth an alarm.

mod bounds;
#[cfg(test)]
mod bounds_tests;
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
use crate::recurrence_scan::{Gains, RecurrenceScan};
use crate::score::{Detections, Expectations};
use crate::state::{Layout, StatePages, StateShape};

// Words of a slot; then those of `bounds`, for each feature `FEATURE_WORDS`, and those of `tail`.
const COUNT: usize = 0; // scores learnt, at most COUNT_MAX
// How many rows the key rests still, or until when, in milliseconds: low and high word.
const REST_LOW: usize = 1;
const REST_HIGH: usize = 2;
const HEADER_WORDS: usize = 3;
// What is expected of a feature's next value, as the sum of two; what is added with each row; the variance of what came.
const EXPECTED_HIGH: usize = 0;
const EXPECTED_LOW: usize = 1;
const TREND: usize = 2;
const VARIANCE: usize = 3;
const FEATURE_WORDS: usize = 4;
const COUNT_MAX: u32 = 1 << 30;
/// Rows after which a score weighs half in how they are distributed, where nobody says otherwise.
pub const HALF_LIFE_ROWS: f32 = 50_000.0;
/// Rows that a mean is over, where the method has none of its own.
const MEAN_ROWS: u32 = 200;
/// No more than so many standard deviations are learnt of a value, for what is expected of the next ones. A level that shifts is followed all
/// the same: each such row makes the deviation greater by a third.
const FAR_DEVIATIONS: f32 = 12.0;

/// A squared deviation that says no more; sums of some are finite.
const CONTRIBUTION_MAX: f32 = 1e30;

/// Scores and their alarms. The state of a key is a histogram of its scores, what makes up for how often
/// they were below the rate, and for each feature what is expected of it, and how far it was from that.
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
    /// What follows the values of the method; `None`: it does not follow them.
    recurrence: Option<RecurrenceScan>,
    /// How many standard deviations from what is expected a normal value has the chance that is asked for.
    normal_quantile: f32,
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
            (Some(_), _) => "calibration/6+digest/1+excursions/2",
            (None, _) if prior.is_by_rank() => "calibration/6+digest/1",
            (None, true) => "calibration/6+distances/1",
            (None, false) => "calibration/6",
        }
    }

    /// For rows with so many features, and a scorer that says 0 of the first `warm_up_rows` of a key, whatever they are: these are no
    /// scores, and teach nothing about how scores are distributed.
    pub fn new(options: AlarmOptions, prior: Prior, features: usize, warm_up_rows: u32) -> Self {
        let words = HEADER_WORDS + bounds::WORDS + features * FEATURE_WORDS + tail::words(&prior);
        let scored = warm_up_rows.saturating_add(options.min_training.min(prior.own_rows()));
        let training_rows = options.min_training.max(scored).min(COUNT_MAX);
        let shape = StateShape::new(vec![0; words], Layout::SlotMajor);
        let growth = tail::growth(HALF_LIFE_ROWS);
        let normal_quantile = bounds::normal_quantile(options.max_false_alarm_rate) as f32;
        let recurrence = None;
        Calibration {
            options,
            prior,
            features,
            warm_up_rows,
            training_rows,
            growth,
            recurrence,
            normal_quantile,
            shape,
        }
    }

    /// What is expected of values is what this expects of them, and not a mean of the last ones.
    pub fn with_recurrence(self, recurrence: Option<RecurrenceScan>) -> Self {
        Calibration { recurrence, ..self }
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
    /// What the scorer expected of rows is told as it is; where it does not tell, its recurrence or an exponentially weighted mean stands in.
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
                let told = expectations.as_ref().map(|told| (told.expected[row], told.deviation[row]));
                self.row(words, features, (place, surprise), (row, time_ms), (learns, told), &mut out);
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
        (learns, told): (bool, Option<(f64, f32)>),
        out: &mut Detections,
    ) {
        let (header, rest) = words.split_at_mut(HEADER_WORDS);
        let (bounds, rest) = rest.split_at_mut(bounds::WORDS);
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
        let gains = match &self.recurrence {
            Some(recurrence) => recurrence.gains(count),
            None => Gains::of_mean(1.0 / f64::from(count.min(MEAN_ROWS) + 1)),
        };
        let (mut deviations, mut greatest) = (0.0, f32::NEG_INFINITY);
        for (index, model) in models.chunks_exact_mut(FEATURE_WORDS).enumerate() {
            let (high, low) = (features.high(index)[kept], features.low(index)[kept]);
            if count == 0 {
                (model[EXPECTED_HIGH], model[EXPECTED_LOW]) = (high.to_bits(), low.to_bits());
            }
            let expected = (f32::from_bits(model[EXPECTED_HIGH]), f32::from_bits(model[EXPECTED_LOW]));
            let variance = f32::from_bits(model[VARIANCE]);
            let difference = centred(high, low, expected.0, expected.1);
            let mut direction = difference;
            if index == 0 {
                let own = (count > 0).then(|| (f64::from(expected.0) + f64::from(expected.1), variance.sqrt()));
                if let Some((expected, deviation)) = told.or(own) {
                    let factor = self.normal_quantile * bounds::factor(bytemuck::cast_slice(bounds));
                    let reach = f64::from(factor * deviation);
                    out.expected[row] = expected;
                    (out.lower[row], out.upper[row]) = (expected - reach, expected + reach);
                    direction = (f64::from(high) + f64::from(low) - expected) as f32;
                }
            }
            let deviation = (difference * difference / variance.max(f32::MIN_POSITIVE)).min(CONTRIBUTION_MAX);
            out.contributions[index][row] = deviation;
            deviations += deviation;
            if count > 0 && deviation > greatest {
                greatest = deviation;
                out.direction[row] = if direction == 0.0 { 0 } else { direction.signum() as i8 };
            }
            if learns {
                self.learn_value(model, gains, difference, count);
            }
        }
        let value = f64::from(features.high(0)[kept]) + f64::from(features.low(0)[kept]);
        let is_outside = value < out.lower[row] || value > out.upper[row];
        let trained = count >= self.training_rows;
        if learns && trained && !out.lower[row].is_nan() {
            bounds::learn(bytemuck::cast_slice_mut(bounds), is_outside, self.options.max_false_alarm_rate as f32);
        }
        let rare = match self.options.alarm {
            AlarmBy::Chance => f64::from(out.p_value[row]) < self.options.max_false_alarm_rate,
            AlarmBy::Bounds => trained && is_outside,
        };
        out.is_anomaly[row] = self.alarms(header, time_ms, rare);
        for share in &mut out.contributions {
            share[row] = if deviations > 0.0 { share[row] / deviations } else { 1.0 / self.features as f32 };
        }
        if learns {
            header[COUNT] = (count + 1).min(COUNT_MAX);
        }
    }

    /// Learns a value of a feature, by how far it is from what was expected. A recurrence learns all of it, as its scores do.
    fn learn_value(&self, model: &mut [u32], gains: Gains, difference: f32, count: u32) {
        let variance = f32::from_bits(model[VARIANCE]);
        let reach = FAR_DEVIATIONS * variance.sqrt();
        let is_limited = self.recurrence.is_none() && count > 30 && reach > 0.0;
        let difference = f64::from(if is_limited { difference.clamp(-reach, reach) } else { difference });
        let trend = f64::from(f32::from_bits(model[TREND]));
        let expected = f64::from(f32::from_bits(model[EXPECTED_HIGH])) + f64::from(f32::from_bits(model[EXPECTED_LOW]));
        let expected = expected + trend + gains.level * difference;
        let high = expected as f32;
        (model[EXPECTED_HIGH], model[EXPECTED_LOW]) = (high.to_bits(), ((expected - f64::from(high)) as f32).to_bits());
        model[TREND] = ((trend + gains.trend * difference) as f32).to_bits();
        let variance = gains.keep * f64::from(variance) + gains.take * difference * difference;
        model[VARIANCE] = (variance as f32).to_bits();
    }
}
