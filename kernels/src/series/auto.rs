//! The method `auto`: several looks at a row, weighed by what the key's own history says of them.
//!
//! ```text
//! n        = ln(1 + novelty of the value) + ln(1 + novelty of the mean of the last 80 values)
//! r        = what is left when the season is taken out;  m = mean of its last 20
//! d(x)     = ln(1 + deviation of x)
//! surprise = n + d(mean of the last 20 values) / 2 + explained * (ln(1 + novelty of m) + (d(m) + d(r)) / 2)
//! score    = n / 8 + d(r) + d(m) / 2 + explained * (d(m) + d(r) / 2)
//! ```
//!
//! **Two questions, two numbers.** *Has something begun?* is the surprise, from which the calibration makes p-values and alarms: novelty is
//! great at the first row of an anomaly and gone once it has been seen. *Is this row part of it?* is the score, by which rows are ranked: what a
//! season leaves stays far from usual as long as the anomaly lasts. One number for both is worse at each: alarms want the onset alone, and a
//! ranking is measured over all rows of an anomaly.
//!
//! *Novelty* finds spikes, dips and levels that never were; the mean's novelty finds stretches whose values are usual and whose mix is
//! not, a shift of level or a sensor that is stuck; the *deviation* finds fast changes of level; what the season leaves finds values that
//! are usual at another time of the day, one row or many. A season speaks as far as it explains the variance ([`seasonal`](super::seasonal)); a key
//! without one has a score without it: that is the choice by key, and it moves as the evidence does.
//!
//! Of a value that is far beyond all others only a part is learnt ([`outlier`](super::outlier)), by each look.
//!
//! Logarithms are summed because ratios have heavy tails: two looks that each find a row twice as strange as usual say more than one
//! that finds it three times.

use super::seasonal::{HISTORY, Seasonality};
use super::{Parts, Row, Scored, SeriesModel, history, level, novelty, outlier, strangeness};

/// Numbers that are kept of values and of their means.
const CAPACITY: usize = 384;
/// Numbers that are kept of what seasons leave.
const REST_CAPACITY: usize = 320;
/// Rows of the rolling mean whose novelty counts.
const LONG: usize = 80;
/// Rows of the rolling means whose deviations count.
const SHORT: usize = 20;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Auto {
    pub(crate) seasonality: Seasonality,
    /// The weight of the newest row in means and deviations.
    pub(crate) gain: f32,
}

impl SeriesModel for Auto {
    fn words(&self) -> usize {
        2 * novelty::words(CAPACITY)
            + novelty::words(REST_CAPACITY)
            + history::words(HISTORY)
            + history::words(SHORT)
            + 3 * level::WORDS
            + self.seasonality.words()
    }

    fn row(&self, state: &mut [f32], row: Row<'_>) -> Scored {
        let mut parts = Parts(state);
        let (values, means) = (parts.take(novelty::words(CAPACITY)), parts.take(novelty::words(CAPACITY)));
        let rests = parts.take(novelty::words(REST_CAPACITY));
        let (last_values, last_rests) = (parts.take(history::words(HISTORY)), parts.take(history::words(SHORT)));
        let (mean_level, rests_level, rest_level) =
            (parts.take(level::WORDS), parts.take(level::WORDS), parts.take(level::WORDS));
        let seasons = parts.take(self.seasonality.words());

        let left = self.seasonality.take_out(seasons, last_values, row, outlier::FAR);
        let long = history::mean_with(last_values, row.value(), LONG);
        let short = history::mean_with(last_values, row.value(), SHORT);
        let mean_rest = history::mean_with(last_rests, left.rest, SHORT);
        // The same of the value as it is learnt; from scratch, as a difference of great numbers would leave nothing but rounding.
        let (long_learnt, short_learnt, mean_rest_learnt) = match left.learnt == row.value() {
            true => (long, short, mean_rest),
            false => (
                history::mean_with(last_values, left.learnt, LONG),
                history::mean_with(last_values, left.learnt, SHORT),
                history::mean_with(last_rests, left.rest_learnt, SHORT),
            ),
        };
        let new = |set: &mut [f32], numbers| {
            outlier::scored_and_learnt(numbers, row.learn, |number, learn| {
                novelty::novelty(set, &mut (), number, learn)
            })
        };
        let off = |level: &mut [f32], numbers| {
            let deviation = |number, learn| level::beside(level, number, self.gain, learn).deviation;
            outlier::scored_and_learnt(numbers, row.learn, deviation)
        };
        let of_value = new(values, (row.value(), left.learnt));
        let of_mean = new(means, (long, long_learnt));
        let of_rest = new(rests, (mean_rest, mean_rest_learnt));
        let of_level = off(mean_level, (short, short_learnt));
        let of_rests_level = off(rests_level, (mean_rest, mean_rest_learnt));
        let of_rest_level = off(rest_level, (left.rest, left.rest_learnt));
        if row.learn {
            history::push(last_values, left.learnt);
            history::push(last_rests, left.rest_learnt);
        }
        let novelty = strangeness(of_value) + strangeness(of_mean);
        let level = strangeness(of_level);
        let (rests, rests_level, rest_level) =
            (strangeness(of_rest), strangeness(of_rests_level), strangeness(of_rest_level));
        let score = novelty / 8.0 + rest_level + 0.5 * rests_level + left.explained * (rests_level + 0.5 * rest_level);
        let surprise = novelty + 0.5 * level + left.explained * (rests + 0.5 * (rests_level + rest_level));
        Scored { score, surprise: Some(surprise), expected: left.expected, deviation: left.square.sqrt() }
    }
}
