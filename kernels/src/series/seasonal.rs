//! What is left of a value when its season is taken out, for three seasons at once: the day, the week, and a period in rows that is
//! found in the values.
//!
//! All three learn every row; the one that has lately left least speaks, and says how much of the variance it explains. Errors count
//! before a row is learnt, so a season that is none loses to the plain mean, and explains nothing.

use super::novelty::COUNT_MAX;
use super::outlier::Usual;
use super::{Parts, Row, Scored, SeriesModel, history, level, outlier, season};

const DAY_MS: i64 = 86_400_000;
const WEEK_MS: i64 = 7 * DAY_MS;
const DAY_BINS: usize = 48;
const WEEK_BINS: usize = 84;
const ROW_BINS: usize = 64;
/// Values in which a period in rows is looked for.
pub(super) const HISTORY: usize = 256;
/// The mean squares of what is left forget half after so many rows.
const ERROR_GAIN: f32 = 1.0 / 2000.0;

// Words before those of the seasons.
const ROWS: usize = 0; // learnt, at most COUNT_MAX
const MEAN: usize = 1;
const VARIANCE: usize = 2; // mean square of what the mean leaves
const PERIOD: usize = 3; // in rows, 0 while there is none
const PHASE: usize = 4; // in rows, of the next row
const FAR: usize = 5; // see `outlier`
const HEADER: usize = 6;

/// Which seasons there may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Seasonality {
    /// A day, a week, or a period in rows, whichever explains most.
    Auto,
    /// None: what is left is the distance from the mean.
    None,
    /// One of so many milliseconds.
    Period(i64),
}

/// What is left of a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// What was expected before the value came: by the season that had left least so far.
    pub(super) expected: f32,
    /// The mean square of what that season had left before.
    pub(super) square: f32,
    /// Value less what the season expected that has left least, this value included.
    pub(super) rest: f32,
    /// The share of the variance that the season explains, 0 to 1.
    pub(super) explained: f32,
    /// The value as models learn it: of one that is far off only a part, so that a glitch does not blind them to what comes after it.
    pub(super) learnt: f32,
    /// What is left of that.
    pub(super) rest_learnt: f32,
}

/// Words of the seasons that there are at most, each with the bin of the row at hand: none while it says nothing.
type Seasons<'a> = [(&'a mut [f32], Option<usize>); 3];

impl Seasonality {
    /// The words of the seasons.
    pub(super) fn words(self) -> usize {
        HEADER
            + match self {
                Seasonality::Auto => season::words(DAY_BINS) + season::words(WEEK_BINS) + season::words(ROW_BINS),
                Seasonality::None => 0,
                Seasonality::Period(_) => season::words(WEEK_BINS),
            }
    }

    /// Takes the season out of a value, and learns it. `values` has those before it, for a period in rows; `limit` is that of what is learnt
    /// of a row ([`outlier`]).
    pub(super) fn take_out(self, state: &mut [f32], values: &[f32], row: Row<'_>, limit: f32) -> Left {
        let (header, rest) = state.split_at_mut(HEADER);
        let mut parts = Parts(rest);
        let mut seasons: Seasons<'_> = [(&mut [], None), (&mut [], None), (&mut [], None)];
        match (self, row.time_ms) {
            (Seasonality::Auto, time_ms) => {
                let bin = |period_ms, bins| time_ms.map(|time_ms| season::bin_of_time(time_ms, period_ms, bins));
                seasons[0] = (parts.take(season::words(DAY_BINS)), bin(DAY_MS, DAY_BINS));
                seasons[1] = (parts.take(season::words(WEEK_BINS)), bin(WEEK_MS, WEEK_BINS));
                let (period, phase) = (header[PERIOD], header[PHASE]);
                let bins = period.min(ROW_BINS as f32);
                let bin = (period > 0.0).then(|| ((phase * bins / period) as usize).min(ROW_BINS - 1));
                seasons[2] = (parts.take(season::words(ROW_BINS)), bin);
                // Time goes on for rows that are not learnt too.
                if period > 0.0 {
                    header[PHASE] = if phase + 1.0 < period { phase + 1.0 } else { 0.0 };
                }
            }
            (Seasonality::Period(period), Some(time_ms)) => {
                let bin = season::bin_of_time(time_ms, period, WEEK_BINS);
                seasons[0] = (parts.take(season::words(WEEK_BINS)), Some(bin));
            }
            (Seasonality::Period(_), None) | (Seasonality::None, _) => {}
        }
        let mean = header[MEAN];
        let mut left =
            Left { expected: mean, square: header[VARIANCE], rest: 0.0, explained: 0.0, learnt: 0.0, rest_learnt: 0.0 };
        for (season, bin) in &seasons {
            let Some(bin) = *bin else { continue };
            let before = season::error(season);
            if before < left.square {
                (left.expected, left.square) = (season::expected(season, bin, mean), before);
            }
        }
        let usual = Usual { mean: left.expected, variance: left.square, rows: header[ROWS], limit };
        left.learnt = outlier::learnt(&mut header[FAR], usual, row.value(), row.learn);
        let gain = ERROR_GAIN.max(1.0 / (header[ROWS] + 1.0));
        let from_mean = left.learnt - mean;
        let variance = header[VARIANCE] + gain * (from_mean * from_mean - header[VARIANCE]);
        (left.rest, left.rest_learnt) = (row.value() - mean, from_mean);
        let mut least = variance;
        for (season, bin) in &mut seasons {
            let Some(bin) = *bin else { continue };
            let expected = season::expected(season, bin, mean);
            let rest = left.learnt - expected;
            let before = season::error(season);
            let square = before + gain * (rest * rest - before);
            if square < least {
                (left.rest, left.rest_learnt, least) = (row.value() - expected, rest, square);
            }
            if row.learn {
                season::learn(season, bin, left.learnt, rest, gain);
            }
        }
        if row.learn {
            if self == Seasonality::Auto {
                find_period(header, seasons[2].0, values, variance);
            }
            header[VARIANCE] = variance;
            header[MEAN] = mean + gain * from_mean;
            header[ROWS] = (header[ROWS] + 1.0).min(COUNT_MAX);
        }
        left.explained = if variance > 0.0 { (1.0 - least / variance).max(0.0) } else { 0.0 };
        left
    }
}

/// Looks for a period each time the history is a new one, while the one there is explains little.
fn find_period(header: &mut [f32], season: &mut [f32], values: &[f32], variance: f32) {
    let count = history::count(values);
    let explains = header[PERIOD] > 0.0 && season::error(season) < 0.5 * variance;
    if count == 0 || !count.is_multiple_of(HISTORY) || explains || count as f32 >= COUNT_MAX {
        return;
    }
    let mut ordered = Vec::with_capacity(HISTORY);
    history::in_order(values, &mut ordered);
    if let Some(period) = season::period_of(&ordered)
        && period as f32 != header[PERIOD]
    {
        (header[PERIOD], header[PHASE]) = (period as f32, 0.0);
        season::clear(season, variance);
    }
}

/// The method `seasonal`: how far a value is from its season, in standard deviations of what seasons leave.
#[derive(Debug, Clone)]
pub(crate) struct SeasonalScore {
    pub(crate) seasonality: Seasonality,
    /// The weight of the newest row in the standard deviation of what is left.
    pub(crate) gain: f32,
    /// Rows that score 0.
    pub(crate) min_training: u32,
}

impl SeriesModel for SeasonalScore {
    fn words(&self) -> usize {
        self.seasonality.words() + history::words(HISTORY) + level::WORDS + 1
    }

    fn row(&self, state: &mut [f32], row: Row<'_>) -> Scored {
        let mut parts = Parts(state);
        let seasons = parts.take(self.seasonality.words());
        let values = parts.take(history::words(HISTORY));
        let (rests, rows) = (parts.take(level::WORDS), parts.take(1));
        let left = self.seasonality.take_out(seasons, values, row, outlier::NEAR);
        let beside = outlier::scored_and_learnt((left.rest, left.rest_learnt), row.learn, |rest, learn| {
            level::beside(rests, rest, self.gain, learn)
        });
        let young = rows[0] < self.min_training as f32;
        if row.learn {
            history::push(values, left.learnt);
            rows[0] = (rows[0] + 1.0).min(COUNT_MAX);
        }
        Scored {
            score: if young { 0.0 } else { beside.deviation },
            surprise: None,
            expected: left.expected,
            deviation: beside.variance.sqrt(),
        }
    }
}
