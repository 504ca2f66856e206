//! Scores of a key, in order, the rare ones told apart the finer the rarer they are.
//!
//! Where nothing is known of a method's scores beforehand, bins that are laid out before they come are too wide or too many: what a window's
//! shape leaves of noise lies between 0.9 and 1, and one in ten thousand of these within a hundredth of that. So the bins are the key's own:
//! a *t-digest* (Dunning and Ertl, "Computing extremely accurate quantiles using t-digests", 2019), for the upper tail alone.
//!
//! ```text
//! centre  = mean and weight of some neighbouring scores
//! weight <= SHARE * weight of all above,  or that of one row
//! ```
//!
//! So the share of rows above a score is known within a few per cent of itself, however small it is: the greatest scores are kept one by
//! one. `ln(rows) / ln(1 + SHARE)` centres do for that. Newer rows weigh more, which is how older ones fade; the centres of what has
//! faded are merged.

use crate::window::sum;

/// A centre weighs at most so much of all that is above it.
const SHARE: f32 = 0.15;
/// Centres that are kept.
const CENTRES: usize = 96;

const COUNT: usize = 0;
const HEADER: usize = 1;
/// The words of a key: how many centres there are, their means in ascending order, their weights.
pub(super) const WORDS: usize = HEADER + 2 * CENTRES;

/// The weight of scores above this one: half of its equals are.
pub(super) fn above(words: &[f32], score: f32) -> f32 {
    let (count, means, weights) = parts(words);
    let place = means[..count].partition_point(|mean| *mean < score);
    if place == count {
        return 0.0;
    }
    let higher = sum(&weights[place + 1..count]);
    if means[place] == score || place == 0 {
        // All that is below the least is beside it.
        let share = if means[place] == score { 0.5 } else { 1.0 };
        return higher + share * weights[place];
    }
    // Half of a centre is on either side of its mean.
    let (lower, upper) = (means[place - 1], means[place]);
    let between = 0.5 * (weights[place - 1] + weights[place]);
    higher + 0.5 * weights[place] + between * ((upper - score) / (upper - lower))
}

/// The means in ascending order, and their weights.
pub(super) fn centres(words: &[f32]) -> (&[f32], &[f32]) {
    let (count, means, weights) = parts(words);
    (&means[..count], &weights[..count])
}

/// Whether no score has been less than this one, as far as centres tell.
pub(super) fn is_least(words: &[f32], score: f32) -> bool {
    let (count, means, _) = parts(words);
    count == 0 || score <= means[0]
}

/// Learns a score of such a weight; that of the newest row, or a multiple of it.
pub(super) fn learn(words: &mut [f32], score: f32, weight: f32) {
    let (count, means, weights) = parts(words);
    let place = means[..count].partition_point(|mean| *mean < score);
    let distance = |place: usize| (means[place] - score).abs();
    let nearest = match place {
        0 => 0,
        place if place == count || distance(place - 1) < distance(place) => place - 1,
        place => place,
    };
    if count > 0 {
        let both = weights[nearest] + weight;
        if means[nearest] == score || both <= SHARE * sum(&weights[nearest + 1..count]) {
            // Between its neighbours still: it moves towards a score that is nearer to it than to them.
            words[HEADER + nearest] += weight / both * (score - means[nearest]);
            words[HEADER + CENTRES + nearest] = both;
            return;
        }
    }
    for list in [HEADER, HEADER + CENTRES] {
        words.copy_within(list + place..list + count, list + place + 1);
    }
    (words[HEADER + place], words[HEADER + CENTRES + place]) = (score, weight);
    words[COUNT] += 1.0;
    let mut share = SHARE;
    while words[COUNT] as usize == CENTRES {
        merge(words, weight, share);
        share *= 2.0;
    }
}

/// The weights, for all to be multiplied.
pub(super) fn weights(words: &mut [f32]) -> &mut [f32] {
    &mut words[HEADER + CENTRES..]
}

/// Merges neighbours, from the greatest on, that weigh no more than such a share of what is above them, or than a row.
fn merge(words: &mut [f32], of_row: f32, share: f32) {
    let count = words[COUNT] as usize;
    let (means, weights) = words[HEADER..].split_at_mut(CENTRES);
    let (mut above, mut last) = (0.0, count - 1);
    for place in (0..count - 1).rev() {
        let both = weights[last] + weights[place];
        if both <= of_row.max(share * above) {
            means[last] += weights[place] / both * (means[place] - means[last]);
            weights[last] = both;
        } else {
            above += weights[last];
            last -= 1;
            (means[last], weights[last]) = (means[place], weights[place]);
        }
    }
    means.copy_within(last..count, 0);
    weights.copy_within(last..count, 0);
    words[COUNT] = (count - last) as f32;
}

fn parts(words: &[f32]) -> (usize, &[f32], &[f32]) {
    let (means, weights) = words[HEADER..].split_at(CENTRES);
    (words[COUNT] as usize, means, weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::series::testing::{gaussian, unit};

    /// The share of rows above a score is right within some per cent of itself, in the tail of any distribution, also where older rows fade.
    #[test]
    fn rare_scores_are_told_apart() {
        type Score = fn(u64) -> f64;
        let kinds: [(&str, Score); 4] = [
            ("bounded", |row| 1.0 - 0.05 * unit(row)),
            ("Gaussian", |row| gaussian(row).abs()),
            ("heavy", |row| unit(row).max(1e-9).powi(-2)),
            ("of two kinds", |row| if row % 50 == 0 { 10.0 + unit(row) } else { gaussian(row).abs() }),
        ];
        for (kind, score) in kinds {
            let mut scores: Vec<f32> = (0..100_000).map(|row| score(row) as f32).collect();
            let mut words = [0.0; WORDS];
            scores.iter().for_each(|score| learn(&mut words, *score, 1.0));
            scores.sort_by(f32::total_cmp);
            for rank in [10, 30, 100, 300, 1000, 3000, 10_000, 30_000] {
                let said = above(&words, scores[scores.len() - rank]);
                let ratio = said / (rank as f32 - 0.5);
                assert!((0.85..1.15).contains(&ratio), "{kind}: {said} of {rank} above");
            }
            let all = words[HEADER + CENTRES..].iter().sum::<f32>();
            assert!((all / 100_000.0 - 1.0).abs() < 1e-3, "{kind}: {all}");
        }
    }

    proptest! {
        /// Nothing is lost, means ascend, and what is above falls with the score, whatever comes with whatever weight.
        #[test]
        fn weights_are_kept(scores in proptest::collection::vec((-20i32..200, 1u8..4), 1..2000), growth in 1.0f32..1.01) {
            let mut words = [0.0; WORDS];
            let (mut weight, mut total) = (1.0f32, 0.0f32);
            for (score, rows) in &scores {
                let rows = f32::from(*rows) * weight;
                learn(&mut words, (*score as f32 / 10.0).exp(), rows);
                total += rows;
                weight *= growth;
                let (count, means, _) = parts(&words);
                prop_assert!((1..CENTRES).contains(&count) && means[..count].windows(2).all(|pair| pair[0] < pair[1]));
            }
            let (count, _, weights) = parts(&words);
            prop_assert!((weights[..count].iter().sum::<f32>() / total - 1.0).abs() < 1e-3);
            let falling: Vec<f32> = (-30..220).map(|step| above(&words, (step as f32 / 10.0).exp())).collect();
            prop_assert!((falling[0] / total - 1.0).abs() < 1e-3 && falling[falling.len() - 1] == 0.0);
            prop_assert!(falling.windows(2).all(|pair| pair[1] <= pair[0] * 1.0001));
        }
    }
}
