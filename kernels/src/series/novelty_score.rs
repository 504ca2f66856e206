//! The method `novelty`: a value that nothing earlier is near to, or a mean of the last values that is so.

use super::novelty::COUNT_MAX;
use super::{Parts, Row, Scored, SeriesModel, history, level, novelty, strangeness};

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
        2 * novelty::words(self.capacity) + history::words(self.window) + level::WORDS
    }

    fn row(&self, state: &mut [f32], row: Row<'_>) -> Scored {
        let mut parts = Parts(state);
        let (values, means) = (parts.take(novelty::words(self.capacity)), parts.take(novelty::words(self.capacity)));
        let (window, level) = (parts.take(history::words(self.window)), parts.take(level::WORDS));
        let mean = history::mean_with(window, row.value(), self.window);
        let of_value = novelty::novelty(values, row.value(), row.learn);
        let of_mean = novelty::novelty(means, mean, row.learn);
        let beside = level::beside(level, row.value(), LEVEL_GAIN, row.learn);
        let young = (history::count(window) as f32) < (self.min_training as f32).min(COUNT_MAX);
        if row.learn {
            history::push(window, row.value());
        }
        Scored {
            score: if young { 0.0 } else { strangeness(of_value) + strangeness(of_mean) },
            surprise: None,
            expected: beside.mean,
            deviation: beside.variance.sqrt(),
        }
    }
}
