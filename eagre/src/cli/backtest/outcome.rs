//! From scores and alarms to figures, and the threshold that keeps within a number of alarms a day.

use eagre_measures::alarms::AlarmOutcome;
use eagre_measures::vus::vus_pr;
use serde::Serialize;

use super::history::{History, Track};
use super::verdict::{Kind, Mark, Verdict};
use super::{Question, Rules};

/// Buffers of VUS-PR are no longer than so many rows: it takes as many walks over the scores.
const BUFFER_ROWS_MAX: usize = 100;
/// How many thresholds are tried for each doubling of the number of rows above them.
const STEPS_PER_DOUBLING: f64 = 4.0;
/// How many of them are shown.
const SHOWN_THRESHOLDS: usize = 10;

/// What one query came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub name: String,
    pub sql: String,
    pub kind: Kind,
    /// Of scores: from which on a row is an alarm.
    pub threshold: Option<f64>,
    pub figures: AlarmOutcome,
    /// By the history's track.
    pub by_track: Vec<AlarmOutcome>,
    /// Mean over the keys with labels, of scores that every row has.
    pub vus_pr: Option<f64>,
    /// What other thresholds would have come to, from the highest on.
    pub thresholds: Vec<(f64, AlarmOutcome)>,
    pub marks: Vec<Vec<Mark>>,
    /// The alarms that are raised, by track.
    pub alarms_ms: Vec<Vec<i64>>,
}

/// One line of figures, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub alarms: usize,
    pub right_alarms: usize,
    pub precision: Option<f64>,
    pub windows: usize,
    pub windows_found: usize,
    pub recall: Option<f64>,
    pub f1: Option<f64>,
    pub alarms_per_day: Option<f64>,
    pub false_alarms_per_day: Option<f64>,
    pub delay_ms_median: Option<i64>,
    pub delay_ms_max: Option<i64>,
}

impl From<&AlarmOutcome> for Figures {
    fn from(outcome: &AlarmOutcome) -> Self {
        Self {
            alarms: outcome.alarms,
            right_alarms: outcome.right_alarms,
            precision: outcome.precision(),
            windows: outcome.windows,
            windows_found: outcome.windows_found(),
            recall: outcome.recall(),
            f1: outcome.f1(),
            alarms_per_day: outcome.alarms_per_day(),
            false_alarms_per_day: outcome.false_alarms_per_day(),
            delay_ms_median: outcome.delay_ms_median(),
            delay_ms_max: outcome.delay_ms_max(),
        }
    }
}

impl Outcome {
    /// Measures an answer.
    pub(super) fn of(history: &History, question: &Question, verdict: Verdict, rules: &Rules) -> Self {
        let Verdict { marks, kind } = verdict;
        let (mut threshold, mut thresholds) = (None, Vec::new());
        if kind == Kind::Scores {
            let tried = tried(&marks, |threshold| {
                AlarmOutcome::sum(&by_track(history, &alarms(&marks, Some(threshold), rules.rest_ms)))
            });
            threshold = Some(rules.threshold.unwrap_or_else(|| within(&tried, rules.alarms_per_day)));
            thresholds = shown(tried);
        }
        let alarms_ms = alarms(&marks, threshold, rules.rest_ms);
        let by_track = by_track(history, &alarms_ms);
        Self {
            name: question.name.clone(),
            sql: question.sql.trim().to_owned(),
            kind,
            threshold,
            figures: AlarmOutcome::sum(&by_track),
            by_track,
            vus_pr: mean_vus_pr(history, &marks),
            thresholds,
            marks,
            alarms_ms,
        }
    }
}

/// The times of the alarms of each track, those left out that come while a key rests after its last one.
fn alarms(marks: &[Vec<Mark>], threshold: Option<f64>, rest_ms: i64) -> Vec<Vec<i64>> {
    let of_track = |marks: &Vec<Mark>| {
        let mut alarms: Vec<i64> = Vec::new();
        for mark in marks {
            let is_alarm = threshold.map_or(mark.is_alarm, |threshold| mark.score >= threshold);
            if is_alarm && alarms.last().is_none_or(|last| mark.time_ms - last >= rest_ms) {
                alarms.push(mark.time_ms);
            }
        }
        alarms
    };
    marks.iter().map(of_track).collect()
}

fn by_track(history: &History, alarms_ms: &[Vec<i64>]) -> Vec<AlarmOutcome> {
    let of_track = |(track, alarms): (&Track, &Vec<i64>)| AlarmOutcome::of(alarms, &track.windows_ms, track.span_ms());
    history.tracks.iter().zip(alarms_ms).map(of_track).collect()
}

/// Thresholds at scores that ever more rows reach, and what each would have come to.
fn tried(marks: &[Vec<Mark>], outcome: impl Fn(f64) -> AlarmOutcome) -> Vec<(f64, AlarmOutcome)> {
    let mut scores: Vec<f64> = marks.iter().flatten().map(|mark| mark.score).filter(|score| !score.is_nan()).collect();
    scores.sort_unstable_by(|a, b| b.total_cmp(a));
    let mut tried: Vec<(f64, AlarmOutcome)> = Vec::new();
    let mut rank = 1.0f64;
    while let Some(score) = scores.get(rank as usize - 1) {
        if tried.last().is_none_or(|(last, _)| last > score) {
            tried.push((*score, outcome(*score)));
        }
        rank = (rank * 2f64.powf(1.0 / STEPS_PER_DOUBLING)).max(rank + 1.0);
    }
    tried
}

/// The lowest threshold before the first that would have given more alarms a day; infinite if each gives more.
fn within(tried: &[(f64, AlarmOutcome)], alarms_per_day: f64) -> f64 {
    let is_within = |outcome: &AlarmOutcome| outcome.alarms_per_day().is_none_or(|per_day| per_day <= alarms_per_day);
    let lowest = tried.iter().take_while(|(_, outcome)| is_within(outcome)).last();
    lowest.map_or(f64::INFINITY, |(threshold, _)| *threshold)
}

/// Some of the thresholds: those at which more windows are found, and else evenly.
fn shown(tried: Vec<(f64, AlarmOutcome)>) -> Vec<(f64, AlarmOutcome)> {
    let every = tried.len().div_ceil(SHOWN_THRESHOLDS).max(1);
    tried.into_iter().step_by(every).collect()
}

/// The mean of VUS-PR over keys, where each row of a key has a score; rows that have none yet count as the least strange.
fn mean_vus_pr(history: &History, marks: &[Vec<Mark>]) -> Option<f64> {
    let mut volumes = Vec::new();
    for (track, marks) in history.tracks.iter().zip(marks) {
        let is_complete = marks.len() == track.times_ms.len()
            && marks.iter().zip(&track.times_ms).all(|(mark, time)| mark.time_ms == *time);
        if !is_complete || marks.iter().all(|mark| mark.score.is_nan()) {
            return None;
        }
        let labels = track.labels();
        let least = marks.iter().map(|mark| mark.score).filter(|score| score.is_finite()).fold(f64::MAX, f64::min);
        let finite = |score: f64| if score.is_nan() { least } else { score.clamp(f64::MIN, f64::MAX) };
        let scores: Vec<f64> = marks.iter().map(|mark| finite(mark.score)).collect();
        // Keys without labels, or with nothing else, have no volume.
        volumes.extend(vus_pr(&scores, &labels, buffer_rows(&labels)).ok());
    }
    (!volumes.is_empty()).then(|| volumes.iter().sum::<f64>() / volumes.len() as f64)
}

/// The usual length of a labelled window.
fn buffer_rows(labels: &[bool]) -> usize {
    let mut lengths: Vec<usize> = eagre_measures::ranges::ranges(labels).iter().map(|range| range.len()).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(0).min(BUFFER_ROWS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(scores: &[f64]) -> Vec<Vec<Mark>> {
        let mark =
            |(time, score): (usize, &f64)| Mark { time_ms: time as i64 * 10, score: *score, is_alarm: *score > 2.5 };
        vec![scores.iter().enumerate().map(mark).collect()]
    }

    /// After an alarm a key is quiet for as long as was asked, and a row without a score is no alarm.
    #[test]
    fn alarms_rest() {
        let marks = marks(&[1.0, 3.0, 3.0, f64::NAN, 3.0]);
        assert_eq!(alarms(&marks, Some(2.0), 0), [[10, 20, 40]]);
        assert_eq!(alarms(&marks, Some(2.0), 20), [[10, 40]]);
        assert_eq!(alarms(&marks, Some(2.0), 31), [[10]]);
        // Without a threshold the query says which rows are alarms.
        assert_eq!(alarms(&marks, None, 0), [[10, 20, 40]]);
        assert_eq!(alarms(&marks, Some(f64::INFINITY), 0), [Vec::<i64>::new()]);
    }

    /// The lowest threshold that stays within the alarms a day, and none at all where one is too many.
    #[test]
    fn thresholds_stay_within_a_budget() {
        let marks = marks(&[5.0, 1.0, 4.0, 2.0, 3.0, 3.0]);
        let outcome = |threshold| AlarmOutcome::of(&alarms(&marks, Some(threshold), 0)[0], &[0..=1], 86_400_000);
        let tried = tried(&marks, outcome);
        let reached: Vec<(f64, usize)> = tried.iter().map(|(score, outcome)| (*score, outcome.alarms)).collect();
        assert_eq!(reached, [(5.0, 1), (4.0, 2), (3.0, 4), (2.0, 5), (1.0, 6)]);
        assert_eq!((within(&tried, 1.0), within(&tried, 3.9), within(&tried, 100.0)), (5.0, 4.0, 1.0));
        assert_eq!(within(&tried, 0.5), f64::INFINITY);
    }
}
