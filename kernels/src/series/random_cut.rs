//! The method `rcf`: robust random cut forest, by how much a row would displace the others.
//!
//! Guha, Mishra, Roy, Schrijvers, "Robust Random Cut Forest Based Anomaly Detection On Streams" (ICML 2016). Each *tree* has a sample of the
//! earlier rows and cuts its bounding box again and again, in a dimension with a chance as its share of the box's sides, at a place that is
//! even over the side, until each row is alone ([`tree`]). The *collusive displacement* of a row in a tree is how many rows a subtree
//! beside it has for each row on its own side, at the ancestor where that is most: a row that the first cuts part from all others
//! displaces them all, and so do a few rows that are strange together.
//!
//! A row is scored before it is in any tree. Where the paper draws a cut to insert it, scores it and takes it out again, we take the mean
//! over all cuts that could be drawn, which is a sum along one path: the same expectation without its noise. The score is the mean over
//! the trees, from 0 to the size of a sample.
//!
//! **Sample.** Biased reservoir (Aggarwal, "On Biased Reservoir Sampling in the Presence of Stream Evolution", VLDB 2006): a row comes into
//! a full sample of `n` with the chance `max(n / rows so far, n * decay)`, in the place of any of them. So a young key has a uniform
//! sample of all rows, and an old one forgets half in `half_life` rows.
//!
//! A row is the last `window` values of each feature (a *shingle*), as differences from the key's first ones. Dimensions are not scaled: as
//! everywhere with these forests, what varies more is cut more. Randomness is a hash of seed, tree and row, so that the same rows give the
//! same forest anywhere. State: for each tree `2 + n * (3 + d) + (n - 1) * (6 + 2 d)` words, where `d` is features times window.

mod tree;

use tree::Tree;

use super::novelty::COUNT_MAX;
use super::{Parts, Row, Scored, SeriesModel, level};

const ROWS: usize = 0; // that were learnt, at most COUNT_MAX
const TICK: usize = 1; // which draws are next; begins again after COUNT_MAX rows
const HEADER: usize = 2;
/// What is expected, for those who ask: a mean over about a thousand rows.
const LEVEL_GAIN: f32 = 1e-3;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct RandomCutForest {
    pub(crate) features: usize,
    /// Rows of a shingle.
    pub(crate) window: usize,
    pub(crate) trees: usize,
    /// Rows of a tree's sample.
    pub(crate) sample: usize,
    /// The share of a full sample that each row takes the place of, at least.
    pub(crate) decay: f32,
    pub(crate) seed: u32,
    /// Rows that score 0.
    pub(crate) min_training: u32,
}

/// A number that looks random, by what it is for.
fn mix(seed: u32, tree: u32, row: u32, draw: u32) -> u32 {
    let mut word =
        seed ^ tree.wrapping_mul(0x9e37_79b9) ^ row.wrapping_mul(0x85eb_ca6b) ^ draw.wrapping_mul(0xc2b2_ae35);
    for factor in [0x7feb_352d_u32, 0x846c_a68b, 0x9e37_79b1] {
        word = (word ^ word >> 16).wrapping_mul(factor);
    }
    word ^ word >> 16
}

/// The draws of a tree at a row, each from 0 up to 1.
struct Draws {
    seed: u32,
    tree: u32,
    row: u32,
    draw: u32,
}

impl Draws {
    fn next(&mut self) -> f32 {
        self.draw += 1;
        (mix(self.seed, self.tree, self.row, self.draw) >> 8) as f32 / (1u32 << 24) as f32
    }
}

impl RandomCutForest {
    fn dimensions(&self) -> usize {
        self.features * self.window
    }
}

impl SeriesModel for RandomCutForest {
    fn words(&self) -> usize {
        HEADER + level::WORDS + 2 * self.dimensions() + self.trees * tree::words(self.sample, self.dimensions())
    }

    fn row(&self, state: &mut [f32], row: Row<'_>) -> Scored {
        let dimensions = self.dimensions();
        let mut parts = Parts(state);
        let (header, level) = (parts.take(HEADER), parts.take(level::WORDS));
        // The second is for this row, which leaves no trace if it is not to be learnt.
        let (last, point) = (parts.take(dimensions), parts.take(dimensions));
        let beside = level::beside(level, row.value(), LEVEL_GAIN, row.learn);
        point[..dimensions - self.features].copy_from_slice(&last[self.features..]);
        point[dimensions - self.features..].copy_from_slice(row.values);
        let rows = header[ROWS];
        // Before there is a whole window there is no row to put into a tree.
        let whole = rows + 1.0 >= self.window as f32;
        let mut sum = 0.0f32;
        for index in 0..self.trees {
            let mut tree = Tree::new(parts.take(tree::words(self.sample, dimensions)), self.sample, dimensions);
            if !whole {
                continue;
            }
            sum += tree.displacement(point);
            if !row.learn {
                continue;
            }
            let mut draws = Draws { seed: self.seed, tree: index as u32, row: header[TICK] as u32, draw: 0 };
            let seen = rows + 2.0 - self.window as f32;
            let chance = (self.sample as f32 / seen).max(self.sample as f32 * self.decay);
            if !tree.is_full() {
                tree.insert(point, || draws.next());
            } else if draws.next() < chance {
                let leaves = (draws.next() * self.sample as f32) as usize;
                tree.remove(leaves.min(self.sample - 1));
                tree.insert(point, || draws.next());
            }
        }
        let young = rows < self.min_training as f32;
        if row.learn {
            header[ROWS] = (rows + 1.0).min(COUNT_MAX);
            header[TICK] = if header[TICK] + 1.0 < COUNT_MAX { header[TICK] + 1.0 } else { 0.0 };
            last.copy_from_slice(point);
        }
        point.fill(0.0);
        Scored {
            score: if young { 0.0 } else { sum / self.trees as f32 },
            surprise: None,
            expected: beside.mean,
            deviation: beside.variance.sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::gaussian;
    use super::*;

    fn model() -> RandomCutForest {
        RandomCutForest { features: 1, window: 4, trees: 20, sample: 64, decay: 1e-3, seed: 7, min_training: 100 }
    }

    /// What a strange row and a strange order of usual values score, beside ordinary rows.
    #[test]
    fn what_displaces_others_scores_high() {
        let value = |row: u64| match row {
            3000 => 8.0,
            3500..3504 => 0.5,
            row => (std::f64::consts::TAU * row as f64 / 20.0).sin() + 0.05 * gaussian(row),
        };
        let model = model();
        let mut state = vec![0.0; model.words()];
        let scores: Vec<f32> = (0..4000)
            .map(|row| model.row(&mut state, Row { values: &[value(row) as f32], time_ms: None, learn: true }).score)
            .collect();
        let mut usual = scores[1000..3000].to_vec();
        usual.sort_unstable_by(f32::total_cmp);
        let high = usual[usual.len() * 99 / 100];
        let peak = |rows: std::ops::Range<usize>| scores[rows].iter().copied().fold(0.0, f32::max);
        assert!(
            peak(3000..3004) > 2.0 * high && peak(3500..3507) > high,
            "{high} {} {}",
            peak(3000..3004),
            peak(3500..3507)
        );
        assert!(scores[..100].iter().all(|score| *score == 0.0));
    }

    /// A few values far from all others make the rest neighbours in `f32`, where cuts have little room: rows go on to be scored.
    #[test]
    fn a_few_far_values_leave_no_row_without_a_score() {
        let model = RandomCutForest { trees: 10, sample: 32, min_training: 5, ..model() };
        for seed in 0..8 {
            let mut state = vec![0.0; model.words()];
            for row in 0..3000u64 {
                let wave =
                    (row as f64 / 12.0).sin() * 10.0 + (gaussian(seed * 10_007 + row).abs() * 300.0).round() / 1000.0;
                let value = if row == 0 || row % 97 == 5 { -1e6 } else { wave } as f32;
                let score = model.row(&mut state, Row { values: &[value], time_ms: None, learn: true }).score;
                assert!((0.0..=32.0).contains(&score) && (row < 50 || score > 0.0), "row {row}: {score}");
            }
        }
    }

    /// A sample of a young key is one of all its rows, an old key forgets: the mean age of sampled rows says which.
    #[test]
    fn samples_forget_as_they_are_told() {
        for (decay, rows, least, most) in [(0.0, 4000, 0.42, 0.58), (1e-3, 20_000, 0.03, 0.07)] {
            let model = RandomCutForest { window: 1, decay, ..model() };
            let mut state = vec![0.0; model.words()];
            for row in 0..rows {
                model.row(&mut state, Row { values: &[row as f32], time_ms: None, learn: true });
            }
            let (mut sum, mut count) = (0.0, 0);
            let mut parts = Parts(&mut state);
            parts.take(HEADER + level::WORDS + 2);
            for _ in 0..model.trees {
                let tree = Tree::new(parts.take(tree::words(model.sample, 1)), model.sample, 1);
                for leaf in 0..model.sample {
                    sum += rows as f32 - tree.point(leaf)[0];
                    count += 1;
                }
            }
            let age = sum / count as f32 / rows as f32;
            assert!((least..most).contains(&age), "{decay}: {age}");
        }
    }
}
