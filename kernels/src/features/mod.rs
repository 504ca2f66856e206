//! Feature columns of one step, grouped by key, as the scoring kernels read them.
//!
//! Callers have `f64`, devices have `f32` only, and a series around 10^9 with noise of 1 has all its information in the digits that an
//! `f32` drops. So each value travels as the unevaluated sum of two `f32` (its rounding and the rest), the state of a key holds a
//! *base* in the same form, and what kernels compute on is the difference: `(high - base.high) + (low - base.low)`. The first
//! difference is exact when value and base are near each other (Sterbenz), so the result carries 24 bits of the *difference*. The base
//! is always a value that was seen, never a computed one, so moving it needs no extended arithmetic either.
//!
//! A row with a null (NaN), an infinity or a magnitude beyond `f32` in any feature is not learnt and has the score NaN. Such rows are
//! dropped here, once, so that neither twins nor shaders ever meet them. Of those that are *kept* some may be scored without being learnt
//! ([`Features::learning`]); only twins know such rows.

use std::ops::Range;
use std::sync::Arc;

use crate::rows::GroupedRows;

/// Differences from the base are cut at this magnitude, so that sums of their squares over a window stay finite in `f32`.
pub const VALUE_MAX: f32 = 72_057_594_037_927_936.0; // 2^56
/// Differences below this magnitude are 0, so that no product meets a denormal, which some devices flush.
pub const VALUE_MIN: f32 = 7.888_609e-31; // 2^-100

/// Feature columns of rows grouped by key.
#[derive(Debug, Clone, Default)]
pub struct Features {
    rows: Arc<GroupedRows>,
    column_count: usize,
    starts: Vec<u32>,
    kept: Option<Vec<u32>>,
    learns: Option<Vec<bool>>,
    high: Vec<f32>,
    low: Vec<f32>,
}

impl Features {
    /// Gathers columns into the order of `rows`. Each column has one value for each row *before* grouping; a null is NaN.
    ///
    /// # Panics
    /// When a column has another length than `rows`, which is a fault of the caller.
    pub fn new(rows: Arc<GroupedRows>, columns: &[&[f64]]) -> Self {
        let row_count = rows.row_count();
        assert!(columns.iter().all(|column| column.len() == row_count), "each feature has {row_count} rows");
        let kept: Vec<u32> =
            (0..row_count as u32).filter(|&row| has_values(columns, rows.order()[row as usize] as usize)).collect();
        let all = kept.len() == row_count;
        let starts = if all { rows.offsets().to_vec() } else { starts_of(&kept, rows.offsets()) };
        let (mut high, mut low) =
            (Vec::with_capacity(kept.len() * columns.len()), Vec::with_capacity(kept.len() * columns.len()));
        for column in columns {
            for &row in &kept {
                let value = column[rows.order()[row as usize] as usize];
                let rounded = value as f32;
                high.push(rounded);
                low.push((value - f64::from(rounded)) as f32);
            }
        }
        Features { rows, column_count: columns.len(), starts, kept: (!all).then_some(kept), learns: None, high, low }
    }

    /// The same, where rows with `false` are scored and not learnt; `learns` has one entry for each grouped row.
    pub(crate) fn learning(mut self, learns: &[bool]) -> Self {
        self.learns = Some(match &self.kept {
            None => learns.to_vec(),
            Some(kept) => kept.iter().map(|&row| learns[row as usize]).collect(),
        });
        self
    }

    /// The rows, also those that are not kept.
    pub fn rows(&self) -> &GroupedRows {
        &self.rows
    }

    /// How many features a row has.
    pub fn column_count(&self) -> usize {
        self.column_count
    }

    /// How many rows are kept.
    pub fn kept_count(&self) -> usize {
        self.starts.last().map_or(0, |&end| end as usize)
    }

    /// Which grouped rows are kept, ascending; none where all are.
    pub fn kept(&self) -> Option<&[u32]> {
        self.kept.as_deref()
    }

    /// Which of the kept rows are learnt; none where nothing was said of it, and all are.
    pub(crate) fn learns(&self) -> Option<&[bool]> {
        self.learns.as_deref()
    }

    /// How many of some kept rows, from the first on, are learnt as the first one is, or are not; and whether it is.
    pub(crate) fn run(&self, rows: Range<usize>) -> (usize, bool) {
        let Some(learns) = &self.learns else { return (rows.len(), true) };
        let first = learns[rows.start];
        (learns[rows].iter().take_while(|&&learns| learns == first).count(), first)
    }

    /// Where the kept rows of each group start; one more entry than there are groups. Groups may be empty here.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// The roundings of a feature to `f32`, one for each kept row.
    pub fn high(&self, column: usize) -> &[f32] {
        let count = self.kept_count();
        &self.high[column * count..][..count]
    }

    /// What the roundings of a feature left out, one for each kept row.
    pub fn low(&self, column: usize) -> &[f32] {
        let count = self.kept_count();
        &self.low[column * count..][..count]
    }

    /// All roundings, `[column][kept row]`.
    pub fn all_high(&self) -> &[f32] {
        &self.high
    }

    /// All that the roundings left out, `[column][kept row]`.
    pub fn all_low(&self) -> &[f32] {
        &self.low
    }

    /// The slot of each group with its kept rows.
    pub fn groups(&self) -> impl Iterator<Item = (u32, Range<usize>)> + '_ {
        self.rows
            .slots()
            .iter()
            .zip(self.starts.windows(2))
            .map(|(&slot, pair)| (slot, pair[0] as usize..pair[1] as usize))
    }

    /// One more than the greatest slot.
    pub fn slot_count(&self) -> usize {
        self.rows.slots().last().map_or(0, |&slot| slot as usize + 1)
    }

    /// About how many bytes it holds.
    pub fn bytes(&self) -> usize {
        let groups = self.rows.slots().len() * 12;
        groups + self.rows.row_count() * 4 + self.kept.as_ref().map_or(0, Vec::len) * 4 + self.high.len() * 8
    }

    /// Gives each row its value, from those of the kept rows; NaN for the others.
    pub fn spread(&self, of_kept: Vec<f32>) -> Vec<f32> {
        debug_assert_eq!(of_kept.len(), self.kept_count());
        let Some(kept) = &self.kept else { return of_kept };
        let mut all = vec![f32::NAN; self.rows.row_count()];
        for (&row, value) in kept.iter().zip(of_kept) {
            all[row as usize] = value;
        }
        all
    }
}

/// Whether a row before grouping has a value in each column: such rows are kept.
pub(crate) fn has_values(columns: &[&[f64]], row: usize) -> bool {
    columns.iter().all(|column| (column[row] as f32).is_finite())
}

/// For the ascending `kept` rows, how many lie before each of `offsets`.
fn starts_of(kept: &[u32], offsets: &[u32]) -> Vec<u32> {
    let mut count = 0;
    let start_of = |&offset: &u32| {
        count += kept[count..].iter().take_while(|&&row| row < offset).count();
        count as u32
    };
    offsets.iter().map(start_of).collect()
}

/// The difference of a value from a base, both as unevaluated sums, within [`VALUE_MAX`] and without denormals.
#[inline(always)]
pub(crate) fn centred(high: f32, low: f32, base_high: f32, base_low: f32) -> f32 {
    let value = ((high - base_high) + (low - base_low)).clamp(-VALUE_MAX, VALUE_MAX);
    if value.abs() < VALUE_MIN { 0.0 } else { value }
}

/// What a scoring kernel answers, by grouped row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// One score for each row: greater is stranger, 0 while the key's model has seen too little, NaN where the row was not learnt.
    pub score: Vec<f32>,
    /// `[feature][row]`: what each feature adds to the score. Empty where the kernel was not asked for it.
    pub attribution: Vec<Vec<f32>>,
}

#[cfg(all(test, feature = "gpu"))]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_without_a_value_are_dropped_and_come_back_as_nan() {
        let rows = Arc::new(GroupedRows::group(&[1, 0, 1, 1], 2));
        let features = Features::new(rows, &[&[1.0, 2.0, f64::NAN, 4.0], &[5.0, f64::INFINITY, 7.0, 8.0]]);
        assert_eq!(features.starts(), [0, 0, 2]);
        assert_eq!((features.high(0), features.high(1)), (&[1.0f32, 4.0][..], &[5.0f32, 8.0][..]));
        let scores = features.spread(vec![0.5, 0.25]);
        assert!(scores[0].is_nan() && scores[2].is_nan());
        assert_eq!((scores[1], scores[3]), (0.5, 0.25));
    }

    #[test]
    fn a_magnitude_beyond_f32_is_no_value() {
        let rows = Arc::new(GroupedRows::group(&[0, 0], 1));
        assert_eq!(Features::new(rows, &[&[1e39, -1e38]]).starts(), [0, 1]);
    }

    proptest! {
        /// What a series does around a large value must not be lost in `f32`.
        #[test]
        fn differences_keep_their_digits(base in -1e9f64..1e9, difference in -1000.0f64..1000.0) {
            let rows = Arc::new(GroupedRows::group(&[0, 0], 1));
            let features = Features::new(rows, &[&[base, base + difference]]);
            let (high, low) = (features.high(0), features.low(0));
            let exact = (base + difference) - base;
            prop_assert!((f64::from(centred(high[1], low[1], high[0], low[0])) - exact).abs() < 2e-4, "{exact}");
        }
    }
}
