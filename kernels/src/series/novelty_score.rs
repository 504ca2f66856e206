//! The method `novelty`: a value that nothing earlier is near to, or a mean of the last values that is so.

use super::novelty::COUNT_MAX;
use super::{Parts, Row, Scored, SeriesModel, history, level, novelty, outlier, strangeness};

/// `ln(1 + novelty of the value) + ln(1 + novelty of the mean of the last `window` values)`.
#[derive(Debug, Clone)]
pub(crate) struct NoveltyScore {
    /// Rows of the rolling mean.
    pub(crate) window: usize,
    /// Distinct numbers that are kept of either.
    pub(crate) capacity: usize,
    /// Rows that score 0.
    pub(crate) min_training: u32,
}

/// What is expected, for those who ask: a mean over about a thousand rows.
const LEVEL_GAIN: f32 = 1e-3;

impl SeriesModel for NoveltyScore {
    fn words(&self) -> usize {
        2 * novelty::words(self.capacity) + history::words(self.window) + level::WORDS + 1
    }

    fn row(&self, state: &mut [f32], row: Row<'_>) -> Scored {
        let mut parts = Parts(state);
        let (values, means) = (parts.take(novelty::words(self.capacity)), parts.take(novelty::words(self.capacity)));
        let (window, level) = (parts.take(history::words(self.window)), parts.take(level::WORDS));
        let far = parts.take(1);
        let learnt = outlier::learnt(&mut far[0], level::usual(level, outlier::FAR), row.value(), row.learn);
        let mean = history::mean_with(window, row.value(), self.window);
        let mean_learnt = history::mean_with(window, learnt, self.window);
        let new = |set: &mut [f32], numbers| {
            outlier::scored_and_learnt(numbers, row.learn, |number, learn| novelty::novelty(set, number, learn))
        };
        let of_value = new(values, (row.value(), learnt));
        let of_mean = new(means, (mean, mean_learnt));
        let beside = outlier::scored_and_learnt((row.value(), learnt), row.learn, |value, learn| {
            level::beside(level, value, LEVEL_GAIN, learn)
        });
        let young = (history::count(window) as f32) < (self.min_training as f32).min(COUNT_MAX);
        if row.learn {
            history::push(window, learnt);
        }
        Scored {
            score: if young { 0.0 } else { strangeness(of_value) + strangeness(of_mean) },
            surprise: None,
            expected: beside.mean,
            deviation: beside.variance.sqrt(),
        }
    }
}
