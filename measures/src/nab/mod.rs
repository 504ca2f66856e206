//! The scoring rules of the Numenta Anomaly Benchmark (NAB) v1.1: what alarms are worth that must come early and seldom be wrong.
//!
//! The first rows of a file are a probation and do not count: `min(15 %, 750)` of them. The earliest alarm within a labelled
//! window earns up to 1, less the later it comes; further alarms in the same window earn nothing; a window without one costs the
//! profile's weight of a miss. Each row with an alarm outside of a window costs the profile's weight of a false alarm, less just
//! after a window. With `σ(y) = 2 / (1 + e^{5y}) − 1`:
//!
//! ```text
//!   in a window      σ(y) / σ(−1) · weight of a hit,     y = −(last row − row + 1) / rows of the window
//!   after one        σ(y) · weight of a false alarm,     y = (row − last row of the window) / (rows of the window − 1)
//!   far, or before   −1 · weight of a false alarm        (y > 3, or no window came before)
//! ```
//!
//! The sum over all files is put on a scale on which a detector without alarms has 0 and one that hits every window at its first
//! row, and nothing else, has 100. So figures over other files, or a part of them, do not compare.
//!
//! The benchmark itself chooses one threshold for all files, with their labels at hand ([`Threshold::Best`]). That flatters:
//! [`Threshold::LeaveOneOut`] scores each file with the threshold chosen on the others, and [`Threshold::Fixed`] is what a
//! detector that ships with a threshold has to answer for.
//!
//! After Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark" (ICMLA 2015).

mod files;
#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one window is meant, not its rows")]
mod tests;

use std::ops::Range;

use crate::error::{MeasureError, Result};
use crate::ranges::{check_scores, check_windows};
pub use files::{NabFile, load, load_scores};

const PROBATION_SHARE: f64 = 0.15;
/// A longer file has no longer probation than one of so many rows.
const PROBATION_ROWS_MAX: f64 = 5_000.0;
/// So many widths of a window after it, an alarm is as wrong as anywhere.
const FAR: f64 = 3.0;

/// What hits, false alarms and misses weigh against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// The profile that is meant where none is named.
    Standard,
    /// False alarms weigh double.
    RewardLowFalsePositives,
    /// Misses weigh double.
    RewardLowFalseNegatives,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Standard, Self::RewardLowFalsePositives, Self::RewardLowFalseNegatives];

    /// The benchmark's own name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::RewardLowFalsePositives => "reward_low_FP_rate",
            Self::RewardLowFalseNegatives => "reward_low_FN_rate",
        }
    }

    fn weights(self) -> Weights {
        let (hit, false_alarm, miss) = match self {
            Self::Standard => (1.0, 0.11, 1.0),
            Self::RewardLowFalsePositives => (1.0, 0.22, 1.0),
            Self::RewardLowFalseNegatives => (1.0, 0.11, 2.0),
        };
        Weights { hit, false_alarm, miss }
    }
}

#[derive(Debug, Clone, Copy)]
struct Weights {
    hit: f64,
    false_alarm: f64,
    miss: f64,
}

/// From which score on a row is an alarm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// The same for all files, given beforehand.
    Fixed(f64),
    /// The one that scores best on all files.
    Best,
    /// For each file the one that scores best on all others.
    LeaveOneOut,
}

/// What an alarm at each row of one file is worth, before a profile's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Rows before this one are the probation.
    probation_rows: usize,
    windows: Vec<Range<usize>>,
    /// The window that a row is in.
    window_of: Vec<Option<u32>>,
    worth: Vec<f64>,
}

/// What a set of files scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// 0 for silence, 100 for perfection.
    pub score: f64,
    /// Windows with an alarm.
    pub windows_hit: usize,
    /// Windows that end after the probation: those that can be hit.
    pub windows: usize,
    /// Rows with an alarm outside of windows, after the probation.
    pub false_alarm_rows: usize,
    /// Rows after the probation.
    pub scored_rows: usize,
    /// The same file by file, in their order.
    pub files: Vec<FileOutcome>,
}

/// What one file scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FileOutcome {
    /// The sum of what alarms earn and misses cost, not on the scale.
    pub raw: f64,
    /// The threshold that was used; infinite where silence is best.
    pub threshold: f64,
    /// Windows with an alarm.
    pub windows_hit: usize,
    /// Windows that can be hit.
    pub windows: usize,
    /// Rows with a false alarm.
    pub false_alarm_rows: usize,
}

impl Outcome {
    /// Rows with a false alarm per 10,000.
    pub fn false_alarms_per_10k_rows(&self) -> f64 {
        if self.scored_rows == 0 { 0.0 } else { 1e4 * self.false_alarm_rows as f64 / self.scored_rows as f64 }
    }
}

fn sigma(y: f64) -> f64 {
    if y > FAR { -1.0 } else { 2.0 / (1.0 + (5.0 * y).exp()) - 1.0 }
}

impl Plan {
    /// For a file of so many rows with the labelled windows, ascending and apart.
    pub fn new(rows: usize, windows: Vec<Range<usize>>) -> Result<Self> {
        check_windows(&windows, rows)?;
        let probation_rows = (PROBATION_SHARE * rows as f64).floor().min(PROBATION_SHARE * PROBATION_ROWS_MAX) as usize;
        let (mut window_of, mut worth) = (vec![None; rows], vec![-1.0; rows]);
        for (number, window) in windows.iter().enumerate() {
            let width = window.len() as f64;
            for row in window.clone() {
                window_of[row] = Some(number as u32);
                worth[row] = sigma(-((window.end - row) as f64) / width) / sigma(-1.0);
            }
            let next = windows.get(number + 1).map_or(rows, |next| next.start);
            for (place, worth) in worth[window.end..next].iter_mut().enumerate() {
                let beyond = (place + 1) as f64;
                *worth = if width > 1.0 { sigma(beyond / (width - 1.0)) } else { -1.0 };
            }
        }
        Ok(Self { probation_rows, windows, window_of, worth })
    }

    /// How many rows the file has.
    pub fn rows(&self) -> usize {
        self.worth.len()
    }

    /// Windows that can be hit: with a row after the probation.
    fn live_windows(&self) -> usize {
        self.windows.iter().filter(|window| window.end > self.probation_rows).count()
    }

    /// By how much the raw sum changes when the threshold falls to each score, against silence; from the highest on.
    fn steps(&self, scores: &[f64], weights: Weights) -> Vec<(f64, f64)> {
        let mut rows: Vec<usize> = (self.probation_rows..self.rows()).collect();
        rows.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mut earned = vec![-weights.miss; self.windows.len()];
        let steps = rows.into_iter().map(|row| {
            let change = match self.window_of[row] {
                None => self.worth[row] * weights.false_alarm,
                Some(window) => {
                    let (earned, gain) = (&mut earned[window as usize], self.worth[row] * weights.hit);
                    let change = (gain - *earned).max(0.0);
                    *earned = earned.max(gain);
                    change
                }
            };
            (scores[row], change)
        });
        steps.filter(|(_, change)| *change != 0.0).collect()
    }

    fn counts(&self, scores: &[f64], threshold: f64) -> (usize, usize) {
        let mut is_hit = vec![false; self.windows.len()];
        let mut false_alarm_rows = 0;
        for row in (self.probation_rows..self.rows()).filter(|row| scores[*row] >= threshold) {
            match self.window_of[row] {
                Some(window) => is_hit[window as usize] = true,
                None => false_alarm_rows += 1,
            }
        }
        (is_hit.into_iter().filter(|is_hit| *is_hit).count(), false_alarm_rows)
    }
}

/// Scores files: `scores[f][i]` belongs to row i of the file of `plans[f]`, and is an alarm from the threshold on.
///
/// Errors if a file has not one finite score for each row.
pub fn score(plans: &[Plan], scores: &[Vec<f64>], profile: Profile, threshold: Threshold) -> Result<Outcome> {
    if plans.len() != scores.len() {
        return Err(MeasureError::UnequalLengths { scores: scores.len(), labels: plans.len() });
    }
    for (plan, scores) in plans.iter().zip(scores) {
        if plan.rows() != scores.len() {
            return Err(MeasureError::UnequalLengths { scores: scores.len(), labels: plan.rows() });
        }
        check_scores(scores)?;
    }
    let weights = profile.weights();
    let steps: Vec<Vec<(f64, f64)>> =
        plans.iter().zip(scores).map(|(plan, scores)| plan.steps(scores, weights)).collect();
    let thresholds = match threshold {
        Threshold::Fixed(threshold) => vec![threshold; plans.len()],
        Threshold::Best => vec![best(&merged(&steps), None); plans.len()],
        Threshold::LeaveOneOut => {
            let merged = merged(&steps);
            (0..plans.len()).map(|file| best(&merged, Some(file))).collect()
        }
    };
    let mut files = Vec::with_capacity(plans.len());
    let (mut gained, mut silent, mut perfect) = (0.0, 0.0, 0.0);
    for (file, plan) in plans.iter().enumerate() {
        let threshold = thresholds[file];
        let reached = steps[file].iter().filter(|(score, _)| *score >= threshold);
        let change: f64 = reached.map(|(_, change)| change).sum();
        let misses = -weights.miss * plan.live_windows() as f64;
        let (windows_hit, false_alarm_rows) = plan.counts(&scores[file], threshold);
        files.push(FileOutcome {
            raw: misses + change,
            threshold,
            windows_hit,
            windows: plan.live_windows(),
            false_alarm_rows,
        });
        gained += change;
        silent += misses;
        perfect += weights.hit * plan.windows.len() as f64;
    }
    let span = perfect - silent;
    Ok(Outcome {
        score: if span > 0.0 { 100.0 * gained / span } else { 0.0 },
        windows_hit: files.iter().map(|file| file.windows_hit).sum(),
        windows: files.iter().map(|file| file.windows).sum(),
        false_alarm_rows: files.iter().map(|file| file.false_alarm_rows).sum(),
        scored_rows: plans.iter().map(|plan| plan.rows() - plan.probation_rows).sum(),
        files,
    })
}

/// The steps of all files, from the highest score on, each with its file.
fn merged(steps: &[Vec<(f64, f64)>]) -> Vec<(f64, f64, usize)> {
    let with_file = |(file, steps): (usize, &Vec<(f64, f64)>)| {
        steps.iter().map(|(score, change)| (*score, *change, file)).collect::<Vec<_>>()
    };
    let mut merged: Vec<(f64, f64, usize)> = steps.iter().enumerate().flat_map(with_file).collect();
    merged.sort_by(|a, b| b.0.total_cmp(&a.0));
    merged
}

/// The threshold with the highest sum of changes over all files but one; infinite if silence is best.
fn best(steps: &[(f64, f64, usize)], without: Option<usize>) -> f64 {
    // Sums that differ by rounding alone are one: the higher threshold has fewer alarms.
    const ROUNDING: f64 = 1e-12;
    let (mut best, mut best_sum, mut sum, mut place) = (f64::INFINITY, 0.0, 0.0, 0);
    while let Some((threshold, _, _)) = steps.get(place) {
        while let Some((_, change, file)) = steps.get(place).filter(|(score, _, _)| score == threshold) {
            if Some(*file) != without {
                sum += change;
            }
            place += 1;
        }
        if sum > best_sum + ROUNDING {
            (best, best_sum) = (*threshold, sum);
        }
    }
    best
}
