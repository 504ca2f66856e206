//! Novelty of a number: how far it is from the nearest one that came before, beside how far numbers usually are.
//!
//! A number that has been seen is not strange, however far from the mean it lies; one that nobody has come near to is. The distance to
//! the nearest earlier number is divided by the running mean of such distances, so that the ratio has no unit (after the simple causal
//! detector that the Numenta Anomaly Benchmark is known to reward; the nearest-neighbour score of Ramaswamy et al., SIGMOD 2000, in one
//! dimension).
//!
//! **State.** The numbers seen, ascending, at most a capacity of them: a number is kept when it is farther than a *resolution* from all
//! that are there. When the capacity is full, the resolution rises to the median gap and the numbers are thinned to it. What lies within
//! the resolution counts as seen. So memory is bounded, a lookup is a binary search, and few rows insert.

use std::cell::RefCell;

use super::outlier::ROWS_MIN;

// Words before the numbers.
const LENGTH: usize = 0;
const RESOLUTION: usize = 1;
const MEAN: usize = 2;
const COUNT: usize = 3;
const HEADER: usize = 4;

/// Ratios beyond this say no more.
const RATIO_MAX: f32 = 1e9;
/// Counts are exact in `f32` up to here.
pub(super) const COUNT_MAX: f32 = 16_777_216.0;

/// The words of a set of at most so many numbers.
pub(super) const fn words(capacity: usize) -> usize {
    HEADER + capacity
}

/// How many distances the running mean remembers: half of a distance's weight is gone after so many.
const MEAN_HALF_LIFE: f32 = 4000.0;
/// `1 - 2^(-1 / MEAN_HALF_LIFE)`.
pub(super) const MEAN_GAIN: f32 = std::f32::consts::LN_2 / MEAN_HALF_LIFE;

/// Once there have been so many, a distance teaches the mean no more than all numbers before are apart: one glitch must not make all that is
/// new after it look usual. (Not a multiple of the mean: where nearly all has been seen, most distances are none and their mean is next to
/// nothing, so that those which are some would hardly count, and each would be a hundred thousand times the usual one for ever.)
const SPAN_LEARNT_AFTER: f32 = 100.0;

/// What stands beside each number of a set, and goes where it goes.
pub(super) trait Kept {
    /// A number came that is like the one in this place, and is to be learnt or not.
    fn met(&mut self, place: usize, learn: bool);
    /// A new number stands in this place, before those that were there and behind, of `length` in all.
    fn insert(&mut self, place: usize, length: usize);
    /// The number in a place goes to an earlier one, in place of the one that was there.
    fn keep(&mut self, from: usize, to: usize);
    /// The number in a place is dropped: another one stands for it.
    fn join(&mut self, from: usize, to: usize);
}

/// Nothing does.
impl Kept for () {
    fn met(&mut self, _: usize, _: bool) {}
    fn insert(&mut self, _: usize, _: usize) {}
    fn keep(&mut self, _: usize, _: usize) {}
    fn join(&mut self, _: usize, _: usize) {}
}

/// The novelty of a number: its distance as a multiple of the mean distance, from 0 on; then the number is learnt, if it is to be. Where numbers
/// have long been one and the same, any other is as new as can be.
pub(super) fn novelty(set: &mut [f32], beside: &mut impl Kept, number: f32, learn: bool) -> f32 {
    let (header, numbers) = set.split_at_mut(HEADER);
    let length = header[LENGTH] as usize;
    let place = place_of(&numbers[..length], number);
    let above = numbers[..length].get(place).map_or(f32::INFINITY, |seen| seen - number);
    let below = if place > 0 { number - numbers[place - 1] } else { f32::INFINITY };
    let distance = above.min(below);
    if !distance.is_finite() {
        if learn {
            numbers[0] = number;
            header[LENGTH] = 1.0;
            beside.insert(0, 0);
        }
        return 0.0;
    }
    let distance = if distance > header[RESOLUTION] { distance } else { 0.0 };
    if distance == 0.0 {
        beside.met(if above <= below { place } else { place - 1 }, learn);
    }
    let mean = header[MEAN];
    let ratio = if mean > 0.0 {
        (distance / mean).min(RATIO_MAX)
    } else if distance > 0.0 && header[COUNT] >= ROWS_MIN {
        RATIO_MAX
    } else {
        0.0
    };
    if !learn {
        return ratio;
    }
    header[COUNT] = (header[COUNT] + 1.0).min(COUNT_MAX);
    let has_mean = mean > 0.0 && header[COUNT] > SPAN_LEARNT_AFTER;
    let learnt = if has_mean { distance.min(numbers[length - 1] - numbers[0]) } else { distance };
    header[MEAN] = mean + (1.0 / header[COUNT]).max(MEAN_GAIN) * (learnt - mean);
    if distance > 0.0 {
        numbers.copy_within(place..length, place + 1);
        numbers[place] = number;
        beside.insert(place, length);
        header[LENGTH] += 1.0;
        if length + 1 == numbers.len() {
            let (resolution, left) = thin(numbers, beside, header[RESOLUTION]);
            (header[RESOLUTION], header[LENGTH]) = (resolution, left as f32);
        }
    }
    ratio
}

/// The first place of ascending numbers at which one is no less than `number`: `partition_point`, but that the last few numbers are compared
/// all at once instead of one after the other, each of which waits for the one before.
fn place_of(numbers: &[f32], number: f32) -> usize {
    const AT_ONCE: usize = 32;
    // All before `first` are less; the place is within the next `count` numbers or behind them.
    let (mut first, mut count) = (0, numbers.len());
    while count > AT_ONCE {
        let half = count / 2;
        first = if numbers[first + half] < number { first + half } else { first };
        count -= half;
    }
    let less: u32 = numbers[first..first + count].iter().map(|seen| u32::from(*seen < number)).sum();
    first + less as usize
}

thread_local! {
    static GAPS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Keeps numbers that are farther apart than the median gap, the least and the greatest among them: the new resolution, and how many.
fn thin(numbers: &mut [f32], beside: &mut impl Kept, resolution: f32) -> (f32, usize) {
    let median = GAPS.with_borrow_mut(|gaps| {
        gaps.clear();
        gaps.extend(numbers.windows(2).map(|pair| pair[1] - pair[0]));
        let middle = gaps.len() / 2;
        *gaps.select_nth_unstable_by(middle, f32::total_cmp).1
    });
    let resolution = resolution.max(median);
    let greatest = numbers[numbers.len() - 1];
    let mut left = 1;
    for place in 1..numbers.len() {
        if numbers[place] - numbers[left - 1] > resolution {
            numbers[left] = numbers[place];
            beside.keep(place, left);
            left += 1;
        } else {
            beside.join(place, left - 1);
        }
    }
    if numbers[left - 1] < greatest {
        if left == 1 {
            beside.keep(0, 1);
            left = 2;
        }
        numbers[left - 1] = greatest;
    }
    (resolution, left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_seen_is_not_new() {
        let mut set = vec![0.0; words(8)];
        let ratios: Vec<f32> =
            [1.0, 2.0, 1.0, 2.0, 4.0].map(|number| novelty(&mut set, &mut (), number, true)).to_vec();
        // The first has nothing to be compared with, the second no usual distance; then distances 1, 0, 0 have the mean 1/3.
        assert_eq!(ratios[..4], [0.0; 4]);
        assert!((ratios[4] - 6.0).abs() < 1e-5);
        let before = set.clone();
        assert!(novelty(&mut set, &mut (), 9.0, false) > 0.0);
        assert_eq!(set, before, "a row that is not learnt leaves no trace");
    }

    proptest! {
        /// A search that misses by one calls what was seen new.
        #[test]
        fn places_are_those_of_a_plain_search(mut numbers in proptest::collection::vec(-50i32..50, 0..400), number in -60i32..60) {
            numbers.sort_unstable();
            let numbers: Vec<f32> = numbers.into_iter().map(|number| number as f32 / 2.0).collect();
            let number = number as f32 / 2.0;
            prop_assert_eq!(place_of(&numbers, number), numbers.partition_point(|seen| *seen < number));
        }

        /// A full set must go on telling new from seen: every number is within the resolution of one that is kept.
        #[test]
        fn thinning_forgets_no_place(numbers in proptest::collection::vec(-1e6f32..1e6, 1..400), capacity in 4usize..40) {
            let mut set = vec![0.0; words(capacity)];
            for number in &numbers {
                let ratio = novelty(&mut set, &mut (), *number, true);
                prop_assert!(ratio.is_finite() && ratio >= 0.0);
                let length = set[LENGTH] as usize;
                prop_assert!(length >= 1 && length < capacity);
                prop_assert!(set[HEADER..HEADER + length].windows(2).all(|pair| pair[0] < pair[1]));
            }
            let kept = &set[HEADER..HEADER + set[LENGTH] as usize];
            let reach = 2.0 * set[RESOLUTION];
            for number in &numbers {
                let nearest = kept.iter().map(|kept| (kept - number).abs()).fold(f32::INFINITY, f32::min);
                prop_assert!(nearest <= reach, "{number} is {nearest} away, the resolution is {}", set[RESOLUTION]);
            }
        }
    }
}
