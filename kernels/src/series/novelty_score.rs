//! The method `novelty`: a value that nothing earlier is near to, or a mean of the last values that is so.
//!
//! ```text
//! score    = ln(1 + novelty of the value) + ln(1 + novelty of the mean of the last `window` values)
//! surprise = score + LAPSE * (ln(1 + lapse of the value) + ln(1 + lapse of the mean))
//! ```
//!
//! By the score rows are ranked, and the surprise is what the calibration makes p-values and alarms of. Of two rows that are not new at all, which in
//! an old key are all but one in thousands, the one is rarer whose like has not been seen for longer: so that as many rows are alarms as were asked
//! for, and these are the ones that are nearest to being new.

use super::lapse::{self, Lapses};
use super::novelty::COUNT_MAX;
use super::{Parts, Row, Scored, SeriesModel, history, level, novelty, outlier, strangeness};

/// See the [module](self).
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
/// What a lapse is worth beside novelty: it orders what is not new, and no more.
const LAPSE: f32 = 0.25;

impl NoveltyScore {
    /// The words of a set of numbers, and of when they were last met.
    fn set_words(&self) -> [usize; 2] {
        [novelty::words(self.capacity), lapse::words(self.capacity)]
    }
}

/// How new a number is, and the lapse of one that is not.
fn novelty_and_lapse(set: &mut [f32], lapses: &mut [f32], numbers: (f32, f32), learn: bool) -> (f32, f32) {
    outlier::scored_and_learnt(numbers, learn, |number, learn| {
        let mut lapses = Lapses::new(lapses);
        let novelty = novelty::novelty(set, &mut lapses, number, learn);
        (strangeness(novelty), strangeness(lapses.lapse()))
    })
}

impl SeriesModel for NoveltyScore {
    fn words(&self) -> usize {
        2 * self.set_words().iter().sum::<usize>() + history::words(self.window) + level::WORDS + 1
    }

    fn row(&self, state: &mut [f32], row: Row<'_>) -> Scored {
        let mut parts = Parts(state);
        let [values, value_lapses] = self.set_words().map(|words| parts.take(words));
        let [means, mean_lapses] = self.set_words().map(|words| parts.take(words));
        let (window, level) = (parts.take(history::words(self.window)), parts.take(level::WORDS));
        let far = parts.take(1);
        let learnt = outlier::learnt(&mut far[0], level::usual(level, outlier::FAR), row.value(), row.learn);
        let mean = history::mean_with(window, row.value(), self.window);
        let mean_learnt = history::mean_with(window, learnt, self.window);
        let (of_value, value_lapse) = novelty_and_lapse(values, value_lapses, (row.value(), learnt), row.learn);
        let (of_mean, mean_lapse) = novelty_and_lapse(means, mean_lapses, (mean, mean_learnt), row.learn);
        let beside = outlier::scored_and_learnt((row.value(), learnt), row.learn, |value, learn| {
            level::beside(level, value, LEVEL_GAIN, learn)
        });
        let young = (history::count(window) as f32) < (self.min_training as f32).min(COUNT_MAX);
        if row.learn {
            history::push(window, learnt);
        }
        let score = of_value + of_mean;
        let surprise = score + LAPSE * (value_lapse + mean_lapse);
        Scored {
            score: if young { 0.0 } else { score },
            surprise: Some(if young { 0.0 } else { surprise }),
            expected: beside.mean,
            deviation: beside.variance.sqrt(),
        }
    }
}
