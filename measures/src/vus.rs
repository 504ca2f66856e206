//! VUS-PR: the volume under the precision-recall surface, for scores against labelled ranges.
//!
//! A score says how unusual each row is; whoever uses it sets a threshold. An area under a curve rates it for all thresholds at
//! once. Counted row by row that area is unfair to ranges, whose borders are a matter of taste: a score that reacts two rows late
//! is as bad as one that reacts elsewhere. So each labelled range gets a *buffer* of rows at both ends whose label falls from 1
//! to √½, recall is lowered by the ranges that are missed altogether, and the area is averaged over all buffer lengths up to one
//! that suits the data (about a cycle): the volume.
//!
//! For a buffer length ℓ, with label `l(i)` of row i: 1 in a range, `√(1 − d / ℓ)` at distance `d ≤ ℓ / 2` of one, sums of those
//! (at most 1) where two buffers meet, else 0. For the set A of rows at or above a threshold, with R the ranges after their
//! buffers have grown together where they touch, and P the number of labelled rows:
//!
//! ```text
//!   TP        = Σ_{i ∈ A} l(i)
//!   precision = TP / |A|
//!   recall    = min(1, TP / ((P + Σ l) / 2)) · (share of R with a row of A)
//!   area(ℓ)   = Σ over thresholds, falling: (recall − recall before) · precision
//!   VUS-PR    = mean of area(ℓ) over ℓ = 0, 1, .., L
//! ```
//!
//! Buffers have less than full labels but count in full in |A|, so even a perfect score stays below 1 for ℓ > 1; for ℓ = 0 it is
//! 1. A random score comes near the share of labelled rows (a little over it for wide buffers).
//!
//! After Paparrizos, Boniol, Palpanas, Tsay, Elmore, Franklin, "Volume Under the Surface: A New Accuracy Evaluation Measure for
//! Time-Series Anomaly Detection" (VLDB 2022). Their program looks at 250 thresholds spread over the rows; here every different
//! score is one, which is what that approaches.
//!
//! The rows are put in order once; each ℓ is then one walk over them, O(n log n + n · L) in all. A buffer changes only at even ℓ
//! and with ℓ itself, so there is no shorter way that is exact.

use std::ops::Range;

use crate::error::{MeasureError, Result};
use crate::ranges::{check_scores, ranges};

/// VUS-PR of the scores, for buffers of up to `buffer_rows_max` rows; about a cycle of the data, or the usual length of an anomaly.
///
/// `scores[i]` is higher where row i is more unusual, only the order of scores counts; `labels[i]` says whether it is.
///
/// Errors if the lengths differ, a score is not finite, or no or every row is labelled.
pub fn vus_pr(scores: &[f64], labels: &[bool], buffer_rows_max: usize) -> Result<f64> {
    let ranked = Ranked::new(scores, labels)?;
    let areas = (0..=buffer_rows_max).map(|buffer_rows| ranked.area(buffer_rows));
    Ok(areas.sum::<f64>() / (buffer_rows_max + 1) as f64)
}

/// The area under the range-aware precision-recall curve for one buffer length.
///
/// With `buffer_rows` 0 and a single labelled range this is the average precision, row by row.
///
/// Errors as [`vus_pr`] does.
pub fn range_auc_pr(scores: &[f64], labels: &[bool], buffer_rows: usize) -> Result<f64> {
    Ok(Ranked::new(scores, labels)?.area(buffer_rows))
}

/// Rows by falling score, and the labels that they are compared with.
struct Ranked<'a> {
    /// Rows from the highest score to the lowest.
    order: Vec<u32>,
    scores: &'a [f64],
    ranges: Vec<Range<usize>>,
    labelled_rows: usize,
}

impl<'a> Ranked<'a> {
    fn new(scores: &'a [f64], labels: &[bool]) -> Result<Self> {
        if scores.len() != labels.len() {
            return Err(MeasureError::UnequalLengths { scores: scores.len(), labels: labels.len() });
        }
        check_scores(scores)?;
        let labelled_rows = labels.iter().filter(|label| **label).count();
        if labelled_rows == 0 {
            return Err(MeasureError::NoAnomaly);
        }
        if labelled_rows == labels.len() {
            return Err(MeasureError::NothingElse { rows: labels.len() });
        }
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_unstable_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
        Ok(Self { order, scores, ranges: ranges(labels), labelled_rows })
    }

    fn area(&self, buffer_rows: usize) -> f64 {
        let weights = weights(&self.ranges, buffer_rows, self.scores.len());
        let grown = grown(&self.ranges, buffer_rows, self.scores.len());
        let mut range_of = vec![u32::MAX; self.scores.len()];
        for (number, range) in grown.iter().enumerate() {
            range_of[range.clone()].fill(number as u32);
        }
        let positive = 0.5 * (self.labelled_rows as f64 + weights.iter().sum::<f64>());
        let mut is_hit = vec![false; grown.len()];
        let (mut hits, mut true_positive, mut recall, mut area) = (0usize, 0.0, 0.0, 0.0);
        let mut place = 0;
        while place < self.order.len() {
            let threshold = self.scores[self.order[place] as usize];
            // All rows of one score are taken in at once. -0 and 0 are one score.
            while let Some(&row) = self.order.get(place).filter(|row| self.scores[**row as usize] == threshold) {
                let row = row as usize;
                true_positive += weights[row];
                if let Some(is_hit) = is_hit.get_mut(range_of[row] as usize) {
                    hits += usize::from(!*is_hit);
                    *is_hit = true;
                }
                place += 1;
            }
            let share_hit = hits as f64 / grown.len() as f64;
            let recall_now = (true_positive / positive).min(1.0) * share_hit;
            area += (recall_now - recall) * (true_positive / place as f64);
            recall = recall_now;
        }
        area
    }
}

/// The label of each row: 1 in the ranges, falling off in their buffers.
fn weights(ranges: &[Range<usize>], buffer_rows: usize, rows: usize) -> Vec<f64> {
    let mut weights = vec![0.0f64; rows];
    for range in ranges {
        for distance in 1..=buffer_rows / 2 {
            let weight = (1.0 - distance as f64 / buffer_rows as f64).sqrt();
            if let Some(before) = range.start.checked_sub(distance) {
                weights[before] += weight;
            }
            if let Some(after) = weights.get_mut(range.end - 1 + distance) {
                *after += weight;
            }
        }
    }
    for range in ranges {
        weights[range.clone()].fill(1.0);
    }
    weights.iter_mut().for_each(|weight| *weight = weight.min(1.0));
    weights
}

/// The ranges with their buffers, as one where they touch or overlap.
fn grown(ranges: &[Range<usize>], buffer_rows: usize, rows: usize) -> Vec<Range<usize>> {
    let half = buffer_rows / 2;
    let mut grown: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (start, end) = (range.start.saturating_sub(half), (range.end + half).min(rows));
        match grown.last_mut() {
            Some(last) if start < last.end => last.end = end,
            _ => grown.push(start..end),
        }
    }
    grown
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one range is meant, not its rows")]
mod tests {
    use eagre_datasets::anomalies::{NormalKind, SeriesSpec};
    use proptest::prelude::*;

    use super::*;

    fn labels(text: &str) -> Vec<bool> {
        text.bytes().map(|byte| byte == b'1').collect()
    }

    /// The definition in the head of this file, threshold by threshold, with nothing reused.
    fn naive_area(scores: &[f64], labels: &[bool], buffer_rows: usize) -> f64 {
        let rows = scores.len() as isize;
        let label = |row: isize| (0..rows).contains(&row) && labels[row as usize];
        let starts: Vec<isize> = (0..rows).filter(|row| label(*row) && !label(row - 1)).collect();
        let ends: Vec<isize> = (0..rows).filter(|row| label(*row) && !label(row + 1)).collect();
        let weight = |row: isize| {
            if label(row) {
                return 1.0;
            }
            let side = |distance: isize| {
                let is_near = distance >= 1 && distance <= buffer_rows as isize / 2;
                if is_near { (1.0 - distance as f64 / buffer_rows as f64).sqrt() } else { 0.0 }
            };
            let before: f64 = starts.iter().map(|start| side(start - row)).sum();
            let after: f64 = ends.iter().map(|end| side(row - end)).sum();
            (before + after).min(1.0)
        };
        let half = buffer_rows as isize / 2;
        let mut grown: Vec<(isize, isize)> = Vec::new();
        for (start, end) in starts.iter().zip(&ends) {
            match grown.last_mut() {
                Some((_, last)) if start - half <= *last => *last = end + half,
                _ => grown.push((start - half, end + half)),
            }
        }
        let labelled = labels.iter().filter(|label| **label).count() as f64;
        let positive = 0.5 * (labelled + (0..rows).map(weight).sum::<f64>());
        let mut thresholds = scores.to_vec();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        thresholds.dedup();
        let (mut recall, mut area) = (0.0, 0.0);
        for threshold in thresholds {
            let alarm = |row: isize| (0..rows).contains(&row) && scores[row as usize] >= threshold;
            let alarms = (0..rows).filter(|row| alarm(*row)).count() as f64;
            let true_positive: f64 = (0..rows).filter(|row| alarm(*row)).map(weight).sum();
            let hit = grown.iter().filter(|(first, last)| (*first..=*last).any(alarm)).count() as f64;
            let now = (true_positive / positive).min(1.0) * hit / grown.len() as f64;
            area += (now - recall) * true_positive / alarms;
            recall = now;
        }
        area
    }

    fn assert_near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12, "{value}, expected {expected}");
    }

    /// A score that ranks all labelled rows first is perfect without buffers, whatever its numbers are.
    #[test]
    fn a_perfect_score_is_1() {
        let labels = labels("0001100000111000");
        let scores: Vec<f64> = labels
            .iter()
            .enumerate()
            .map(|(row, label)| if *label { 5.0 + row as f64 } else { row as f64 * 0.1 })
            .collect();
        assert_near(range_auc_pr(&scores, &labels, 0).expect("valid"), 1.0);
    }

    /// Worked by hand. Without buffers: at 3 one of two rows right of one (1/2 recall, precision 1), at 2 a false one, at 1 the
    /// other (recall 1, precision 2/3): 1/2 + 1/2 * 2/3.
    #[test]
    fn hand_worked_areas() {
        let scores = [0.0, 0.0, 3.0, 1.0, 0.0, 2.0];
        assert_near(range_auc_pr(&scores, &labels("001100"), 0).expect("valid"), 0.5 + 1.0 / 3.0);
        // Two ranges of one row each: at 3 half of the rows and half of the ranges are found, so recall is 1/4; at 2 nothing
        // comes; at 1 all is there.
        assert_near(range_auc_pr(&scores, &labels("001000"), 0).expect("valid"), 1.0);
        let two = [0.0, 3.0, 0.0, 2.0, 0.0, 1.0];
        assert_near(range_auc_pr(&two, &labels("010001"), 0).expect("valid"), 0.25 + 0.75 * 2.0 / 3.0);
        // A buffer of 2 gives the rows next to row 2 the label w = √½, and P' = (1 + 1 + 2w) / 2 = 1 + w. At 3: TP 1, precision
        // 1, recall 1 / (1 + w). At 1 (row 3, after the false one at 2): TP 1 + w of 3 rows, recall 1. Then recall stays.
        let w = 0.5f64.sqrt();
        let expected = 1.0 / (1.0 + w) + (1.0 - 1.0 / (1.0 + w)) * (1.0 + w) / 3.0;
        assert_near(range_auc_pr(&scores, &labels("001000"), 2).expect("valid"), expected);
        // The volume is the mean of the areas for buffers 0, 1 (which has no row) and 2.
        assert_near(vus_pr(&scores, &labels("001000"), 2).expect("valid"), (1.0 + 1.0 + expected) / 3.0);
    }

    /// Buffers that meet make one range: what hits one has hit both, and labels do not exceed 1.
    #[test]
    fn buffers_that_meet_grow_together() {
        let ranges = [2..3, 5..6];
        assert_eq!(grown(&ranges, 2, 9), [1..4, 4..7]);
        assert_eq!(grown(&ranges, 4, 9), [0..8]);
        let (near, far) = (0.75f64.sqrt(), 0.5f64.sqrt());
        let expected = [far, near, 1.0, 1.0, 1.0, 1.0, near, far, 0.0];
        weights(&ranges, 4, 9).into_iter().zip(expected).for_each(|(weight, expected)| assert_near(weight, expected));
    }

    /// Noise as a score is as good as guessing: the share of labelled rows, over many series.
    #[test]
    fn a_random_score_is_near_the_anomaly_rate() {
        let (mut sum, mut rates, count) = (0.0, 0.0, 60);
        for number in 0..count {
            let series = SeriesSpec::numbered(1, number).make().expect("a valid spec");
            let labels = series.labels();
            // Points are few, and chance is great.
            if series.spec.anomaly.is_none_or(|kind| kind.is_point()) {
                continue;
            }
            let scores = NormalKind::Gaussian.values(number, labels.len());
            sum += range_auc_pr(&scores, &labels, 0).expect("valid");
            rates += labels.iter().filter(|label| **label).count() as f64 / labels.len() as f64;
        }
        assert!((sum / rates - 1.0).abs() < 0.15, "{} times the rate", sum / rates);
    }

    /// What cannot be measured is refused with its reason.
    #[test]
    fn refusals_help() {
        let error = |scores: &[f64], text: &str| vus_pr(scores, &labels(text), 3).expect_err("refused").to_string();
        assert!(error(&[1.0], "10").contains("1 scores for 2 labels"));
        assert!(error(&[1.0, f64::NAN], "10").contains("row 1 (rows count from 0) is NaN"));
        assert!(error(&[1.0, 2.0], "00").contains("no row is labelled"));
        assert!(error(&[1.0, 2.0], "11").contains("all 2 rows"));
    }

    proptest! {
        /// The walk over ranked rows gives what the definition gives, with ties, ranges at the ends and buffers of any length.
        #[test]
        fn agrees_with_the_definition(
            rows in prop::collection::vec((0u8..6, prop::bool::weighted(0.2)), 2..60), buffer_rows in 0usize..20,
        ) {
            let (scores, labels): (Vec<f64>, Vec<bool>) = rows.iter().map(|(score, label)| (f64::from(*score), *label)).unzip();
            prop_assume!(labels.contains(&true) && labels.contains(&false));
            let fast = range_auc_pr(&scores, &labels, buffer_rows).expect("valid");
            prop_assert!((fast - naive_area(&scores, &labels, buffer_rows)).abs() < 1e-12);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&fast));
            let volume = vus_pr(&scores, &labels, buffer_rows).expect("valid");
            let naive: f64 = (0..=buffer_rows).map(|rows| naive_area(&scores, &labels, rows)).sum();
            prop_assert!((volume - naive / (buffer_rows + 1) as f64).abs() < 1e-12);
        }

        /// Only the order of scores counts: a scale of one's own gains nothing.
        #[test]
        fn only_the_order_counts(rows in prop::collection::vec((-50i8..50, prop::bool::weighted(0.3)), 4..60)) {
            let (scores, labels): (Vec<f64>, Vec<bool>) = rows.iter().map(|(score, label)| (f64::from(*score), *label)).unzip();
            prop_assume!(labels.contains(&true) && labels.contains(&false));
            let cubes: Vec<f64> = scores.iter().map(|score| score * score * score + 7.0).collect();
            let (a, b) = (vus_pr(&scores, &labels, 9).expect("valid"), vus_pr(&cubes, &labels, 9).expect("valid"));
            prop_assert!((a - b).abs() < 1e-12);
        }
    }
}
