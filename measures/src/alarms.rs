//! Alarms as they were raised, against labelled windows: what a user of alarms notices.
//!
//! A threshold is set and a query says *now*. Counted are alarms, not rows: an alarm within a labelled window is right, however
//! many there are; a window with at least one is found, and how long that took is its delay. So a detector that rests after an
//! alarm and one that repeats itself have the same recall, and the alarms per day tell them apart.

use std::ops::RangeInclusive;

/// What the alarms of one key, or of all, come to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AlarmOutcome {
    /// How many alarms there were.
    pub alarms: usize,
    /// How many of them were within a window.
    pub right_alarms: usize,
    /// How many windows are labelled.
    pub windows: usize,
    /// From the start of a window to the first alarm within it, in ms, for each window that has one; ascending.
    pub delays_ms: Vec<i64>,
    /// How long the history is, in ms, summed over keys.
    pub history_ms: i64,
}

impl AlarmOutcome {
    /// Of one key: the times of its alarms, in any order, its labelled windows with both ends, and the time from its first to its
    /// last row; all in ms.
    pub fn of(alarms_ms: &[i64], windows_ms: &[RangeInclusive<i64>], history_ms: i64) -> Self {
        let mut sorted = alarms_ms.to_vec();
        sorted.sort_unstable();
        let mut is_right = vec![false; sorted.len()];
        let mut delays_ms = Vec::new();
        for window in windows_ms {
            let first = sorted.partition_point(|time| time < window.start());
            let end = sorted.partition_point(|time| time <= window.end());
            if first < end {
                is_right[first..end].fill(true);
                delays_ms.push(sorted[first] - window.start());
            }
        }
        delays_ms.sort_unstable();
        Self {
            alarms: sorted.len(),
            right_alarms: is_right.into_iter().filter(|is_right| *is_right).count(),
            windows: windows_ms.len(),
            delays_ms,
            history_ms,
        }
    }

    /// All keys together.
    pub fn sum<'a>(outcomes: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for outcome in outcomes {
            sum.alarms += outcome.alarms;
            sum.right_alarms += outcome.right_alarms;
            sum.windows += outcome.windows;
            sum.delays_ms.extend(&outcome.delays_ms);
            sum.history_ms += outcome.history_ms;
        }
        sum.delays_ms.sort_unstable();
        sum
    }

    /// How many windows have an alarm.
    pub fn windows_found(&self) -> usize {
        self.delays_ms.len()
    }

    /// The share of the alarms that are right; none without alarms.
    pub fn precision(&self) -> Option<f64> {
        (self.alarms > 0).then(|| self.right_alarms as f64 / self.alarms as f64)
    }

    /// The share of the windows that are found; none without windows.
    pub fn recall(&self) -> Option<f64> {
        (self.windows > 0).then(|| self.windows_found() as f64 / self.windows as f64)
    }

    /// The harmonic mean of precision and recall; none where one of them is.
    pub fn f1(&self) -> Option<f64> {
        let (precision, recall) = (self.precision()?, self.recall()?);
        let sum = precision + recall;
        Some(if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 })
    }

    /// Alarms per day of history and key; none for a history of no length.
    pub fn alarms_per_day(&self) -> Option<f64> {
        self.per_day(self.alarms)
    }

    /// Alarms outside of windows per day of history and key; none for a history of no length.
    pub fn false_alarms_per_day(&self) -> Option<f64> {
        self.per_day(self.alarms - self.right_alarms)
    }

    /// The delay that half of the windows that are found stay within, in ms (the lower one of two in the middle).
    pub fn delay_ms_median(&self) -> Option<i64> {
        self.delays_ms.get(self.delays_ms.len().saturating_sub(1) / 2).copied()
    }

    /// The longest delay, in ms.
    pub fn delay_ms_max(&self) -> Option<i64> {
        self.delays_ms.last().copied()
    }

    fn per_day(&self, count: usize) -> Option<f64> {
        const DAY_MS: f64 = 86_400_000.0;
        (self.history_ms > 0).then(|| count as f64 * DAY_MS / self.history_ms as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand: two of three windows found, one of them twice; one alarm before, one between.
    #[test]
    fn hand_worked_alarms() {
        let outcome = AlarmOutcome::of(&[250, 5, 110, 100, 260], &[100..=110, 200..=200, 260..=300], 2 * 86_400_000);
        let expected =
            AlarmOutcome { alarms: 5, right_alarms: 3, windows: 3, delays_ms: vec![0, 0], history_ms: 2 * 86_400_000 };
        assert_eq!(outcome, expected);
        assert_eq!((outcome.precision(), outcome.recall()), (Some(0.6), Some(2.0 / 3.0)));
        assert!(outcome.f1().is_some_and(|f1| (f1 - 2.0 * 0.6 * (2.0 / 3.0) / (0.6 + 2.0 / 3.0)).abs() < 1e-12));
        assert_eq!((outcome.alarms_per_day(), outcome.false_alarms_per_day()), (Some(2.5), Some(1.0)));
    }

    /// Silence has no precision, and no windows no recall: neither is 0 or 1.
    #[test]
    fn nothing_is_no_figure() {
        let silent = AlarmOutcome::of(&[], &[1..=2], 10);
        assert_eq!((silent.precision(), silent.recall(), silent.f1()), (None, Some(0.0), None));
        assert_eq!((silent.delay_ms_median(), silent.delay_ms_max()), (None, None));
        let unlabelled = AlarmOutcome::of(&[1], &[], 0);
        assert_eq!((unlabelled.precision(), unlabelled.recall()), (Some(0.0), None));
        assert_eq!(unlabelled.alarms_per_day(), None);
    }

    /// Keys are added up, and the median is over the windows of all.
    #[test]
    fn keys_add_up() {
        let a = AlarmOutcome::of(&[15], &[10..=20], 1_000);
        let b = AlarmOutcome::of(&[12, 38, 99], &[10..=20, 30..=40], 500);
        let sum = AlarmOutcome::sum([&a, &b]);
        assert_eq!((sum.alarms, sum.right_alarms, sum.windows, sum.history_ms), (4, 3, 3, 1_500));
        assert_eq!((sum.delay_ms_median(), sum.delay_ms_max()), (Some(5), Some(8)));
    }
}
