//! The last values of a series, and their means.

use super::novelty::COUNT_MAX;
use crate::window::sum;

const COUNT: usize = 0; // values seen, at most COUNT_MAX
const PLACE: usize = 1; // where the next value goes
const HEADER: usize = 2;

/// The words of a history of so many values.
pub(super) const fn words(length: usize) -> usize {
    HEADER + length
}

/// Adds a value.
pub(super) fn push(history: &mut [f32], value: f32) {
    let length = history.len() - HEADER;
    let place = history[PLACE] as usize;
    history[HEADER + place] = value;
    history[PLACE] = if place + 1 == length { 0.0 } else { (place + 1) as f32 };
    history[COUNT] = (history[COUNT] + 1.0).min(COUNT_MAX);
}

/// How many values were seen.
pub(super) fn count(history: &[f32]) -> usize {
    history[COUNT] as usize
}

/// The mean of a value and of those before it, at most `window` in all.
///
/// It is summed anew each time: a running sum would keep the rounding of a spike for ever, and a window is a few vectors.
pub(super) fn mean_with(history: &[f32], value: f32, window: usize) -> f32 {
    let values = &history[HEADER..];
    let earlier = (window - 1).min(count(history)).min(values.len());
    let end = history[PLACE] as usize;
    let sum = if earlier <= end {
        sum(&values[end - earlier..end])
    } else {
        sum(&values[..end]) + sum(&values[values.len() - (earlier - end)..])
    };
    (sum + value) / (earlier + 1) as f32
}

/// The values that are there, oldest first.
pub(super) fn in_order(history: &[f32], values: &mut Vec<f32>) {
    let ring = &history[HEADER..];
    let place = history[PLACE] as usize;
    values.clear();
    if count(history) >= ring.len() {
        values.extend_from_slice(&ring[place..]);
    }
    values.extend_from_slice(&ring[..place]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_the_last_values() {
        let mut history = vec![0.0; words(4)];
        for value in 1..=9u8 {
            let value = f32::from(value);
            let expected = |window: f32| {
                let first = (value - window + 1.0).max(1.0);
                (first + value) / 2.0
            };
            for window in 1..=5u8 {
                assert_eq!(mean_with(&history, value, window.into()), expected(window.into()), "{value} {window}");
            }
            push(&mut history, value);
        }
        let mut values = vec![];
        in_order(&history, &mut values);
        assert_eq!(values, [6.0, 7.0, 8.0, 9.0]);
    }
}
