//! Scores that last: how often they rise, how far, and for how long.
//!
//! A cumulative sum, or how sure a model is of a change, goes up and comes back, and each row on the way says again what the row before has
//! said. How far it goes, and for how long, is a matter of the series: where values follow each other by 0.9, sums of their residuals are some
//! twenty times as high as where they do not, and what is rare for one key is nothing for another. So how rare a score is cannot be
//! known beforehand, nor be told from a hundred rows as if they were a hundred scores.
//!
//! ```text
//! an excursion  = rows one after the other whose scores are above the mean score of the key, and above that of the prior
//! excess        = what a score is above it
//! length        = rows of an excursion in the mean
//! chance(score) = share of rows in one * (1 + excess / scale)^-shape         of a row to have such a score or more
//! shape         = excursions + worth,  scale = excursions * mean excess + worth * that of the prior
//! ```
//!
//! Excesses of sums fall exponentially (Siegmund, "Sequential Analysis"), those of a sureness nearly so; then their mean says all. It is known
//! as well as there have been excursions, as these do not depend on each other and their rows do. So the chance is that of an exponential
//! excess whose rate is itself uncertain, a gamma distribution that the excursions have narrowed: that is Lomax's, a Pareto tail. After two
//! excursions hardly anything is rare, after twenty some things are.
//!
//! What is asked for is a rate of alarms, and an alarm is one excursion and not one row. So it is the chance that one *begins*, of a row that
//! is in none: `chance / length` beside `1 - chance` (`1 / length` is the extremal index of Leadbetter, "Extremes and local dependence in
//! stationary sequences", 1983). What is pointed stays high for fewer rows than it is up, so that the length there is counted high up.

/// What is known of excursions beforehand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Excursions {
    /// No score up to this is in one.
    pub(super) beyond: f32,
    /// The mean of what they are above it.
    pub(super) excess: f32,
    /// The share of rows in one.
    pub(super) share: f32,
    /// Rows of one.
    pub(super) length: f32,
    /// How many of the key's own all that is worth.
    pub(super) worth: f32,
}

const ROWS: usize = 0; // that were learnt since the last halving
const BEYOND: usize = 1; // of them, those in an excursion
const COUNT: usize = 2; // excursions
const EXCESS: usize = 3; // sum over the rows in them
const SUM: usize = 4; // of the scores of all rows
const HIGH: usize = 5; // rows high up in an excursion
const HIGH_COUNT: usize = 6; // how often one goes there
const INSIDE: usize = 7; // whether the row before is in one: 1, or high up in one: 2
/// The words of a key.
pub(super) const WORDS: usize = 8;

/// Sums are halved at so many rows, so that they follow drift as the histogram does.
const ROWS_MAX: f32 = 100_000.0;

/// So many mean excesses above where excursions begin they are high.
const HIGH_EXCESSES: f32 = 2.0;

/// Of a score, by what is known of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Chance {
    /// That a row has such a score or a greater one.
    pub(super) of_row: f32,
    /// Rows of an excursion in the mean, 1 or more.
    pub(super) length: f32,
    /// Rows in a row that are high up in one.
    pub(super) high: f32,
}

impl Excursions {
    /// How rare a score is.
    pub(super) fn chance(&self, words: &[f32], score: f32) -> Chance {
        let shape = words[COUNT] + self.worth;
        let length = ((words[BEYOND] + self.worth * self.length) / shape).max(1.0);
        // Rows that say something new.
        let rows = words[ROWS] / length;
        let share = (words[BEYOND] / length + self.worth * self.share) / (rows + self.worth);
        let beyond = self.beyond(words);
        let excess = score - beyond;
        let of_row = if excess <= 0.0 {
            1.0 - (1.0 - share) * (score / beyond).clamp(0.0, 1.0)
        } else {
            let mean = if words[BEYOND] > 0.0 { words[EXCESS] / words[BEYOND] } else { 0.0 };
            let scale = words[COUNT] * mean + self.worth * self.excess;
            share * (-shape * (excess / scale).ln_1p()).exp()
        };
        let high = ((words[HIGH] + self.worth * length) / (words[HIGH_COUNT] + self.worth)).max(1.0);
        Chance { of_row, length, high }
    }

    /// Scores above this are in an excursion.
    fn beyond(&self, words: &[f32]) -> f32 {
        if words[ROWS] > 0.0 { self.beyond.max(words[SUM] / words[ROWS]) } else { self.beyond }
    }

    /// Learns the score of a row that stands for so many; of one that stands for none, only whether it is in an excursion.
    pub(super) fn learn(&self, words: &mut [f32], score: f32, rows: f32) {
        let excess = score - self.beyond(words);
        let mean = if words[BEYOND] > 0.0 { words[EXCESS] / words[BEYOND] } else { self.excess };
        let inside = if excess <= 0.0 {
            0.0
        } else if excess <= HIGH_EXCESSES * mean {
            1.0
        } else {
            2.0
        };
        if rows > 0.0 {
            words[ROWS] += rows;
            words[SUM] += rows * score;
            if inside >= 1.0 {
                words[BEYOND] += rows;
                words[EXCESS] += rows * excess;
                words[COUNT] += if words[INSIDE] == 0.0 { 1.0 } else { 0.0 };
            }
            if inside == 2.0 {
                words[HIGH] += rows;
                words[HIGH_COUNT] += if words[INSIDE] < 2.0 { 1.0 } else { 0.0 };
            }
            if words[ROWS] >= ROWS_MAX {
                words[..INSIDE].iter_mut().for_each(|sum| *sum *= 0.5);
            }
        }
        words[INSIDE] = inside;
    }
}

/// The chance that an excursion begins, of a row that is in none, by that of a row to be in one.
pub(super) fn begins(of_row: f32, length: f32) -> f32 {
    of_row / (of_row + length * (1.0 - of_row)).max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::testing::unit;

    const KNOWN: Excursions = Excursions { beyond: 1.0, excess: 1.0, share: 0.4, length: 3.0, worth: 2.0 };

    /// A row of a series that is in an excursion half of the time, each `length` rows long and of an excess that is exponential with such a mean.
    fn score(row: u64, length: u64, mean: f32) -> f32 {
        let excursion = row / length;
        match excursion.is_multiple_of(2) {
            true => 0.0,
            false => 1.0 - mean * unit(excursion).max(1e-9).ln() as f32,
        }
    }

    fn learnt(rows: u64, length: u64, mean: f32) -> [f32; WORDS] {
        learnt_from(0, rows, length, mean)
    }

    fn learnt_from(first: u64, rows: u64, length: u64, mean: f32) -> [f32; WORDS] {
        let mut words = [0.0; WORDS];
        (first..first + rows).for_each(|row| KNOWN.learn(&mut words, score(row, length, mean), 1.0));
        words
    }

    /// What is rare is told by the key's own excursions, however long and high they are; and one that has had few is not sure of it.
    #[test]
    fn a_key_says_itself_what_is_rare() {
        for (length, mean) in [(1, 1.0), (5, 3.0), (40, 20.0)] {
            let words = learnt(20_000 * length, length, mean);
            for chance in [0.1f32, 0.01, 0.001] {
                let score = 1.0 - mean * chance.ln();
                let said = KNOWN.chance(&words, score);
                let ratio = said.of_row / (0.5 * chance);
                assert!((0.5..2.0).contains(&ratio), "{length} rows of {mean}: {ratio} at {chance}");
                assert!((said.length / length as f32 - 1.0).abs() < 0.1, "{length}: {}", said.length);
                assert!((said.high / length as f32 - 1.0).abs() < 0.1, "{length}: {}", said.high);
            }
            // Keys that have had three excursions: they differ, and in the mean a score is far less rare to them.
            let far = 1.0 + 7.0 * mean;
            let young =
                |key: u64| KNOWN.chance(&learnt_from(1000 * key * length, 6 * length, length, mean), far).of_row;
            let (young, old) = ((0..50).map(young).sum::<f32>() / 50.0, KNOWN.chance(&words, far).of_row);
            assert!(young > 2.0 * old, "{length} rows of {mean}: {young} and {old}");
        }
    }

    /// The chance falls with the score, from 1 on, without a step that is not there.
    #[test]
    fn chances_fall_with_scores() {
        for words in [[0.0; WORDS], learnt(50, 5, 3.0), learnt(5000, 5, 3.0)] {
            let chances: Vec<f32> = (0..4000).map(|step| KNOWN.chance(&words, step as f32 * 0.01).of_row).collect();
            assert_eq!(chances[0], 1.0);
            assert!(chances.windows(2).all(|pair| pair[1] <= pair[0] && pair[1] > pair[0] - 0.02), "{words:?}");
            let begin: Vec<f32> = chances.iter().map(|chance| begins(*chance, 7.0)).collect();
            assert!((begin[0] - 1.0).abs() < 1e-6 && begin.windows(2).all(|pair| pair[1] <= pair[0]));
        }
        // Of a row in a thousand, in runs of ten: one run in ten thousand.
        assert!((begins(0.001, 10.0) / 1e-4 - 1.0).abs() < 0.01);
    }

    /// Rows that are passed over are no excursion of their own, and one that stands for them counts for all.
    #[test]
    fn a_row_stands_for_those_that_are_passed_over() {
        let mut words = [0.0; WORDS];
        for (score, rows) in [(0.0, 1.0), (5.0, 4.0), (5.0, 0.0), (5.0, 0.0), (5.0, 1.0), (0.0, 1.0), (9.0, 1.0)] {
            KNOWN.learn(&mut words, score, rows);
        }
        assert_eq!((words[ROWS], words[BEYOND], words[COUNT]), (8.0, 6.0, 2.0));
    }
}
