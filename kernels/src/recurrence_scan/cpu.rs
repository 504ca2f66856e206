//! The twin: every key in order, eight keys side by side where they have few rows each.
//!
//! All formulas are written over arrays of `N` keys. With `N = 1` that is the loop for a key with many rows: the chain from row to
//! row is one multiplication and one addition, and the rest overlaps with it. With `N = LANES` it is vector code for keys with few
//! rows, whose values are first turned from key by key into step by step. Both do the same operations in the same order for a
//! row, so the answer does not depend on which of them runs.

use super::{Batch, Constants, Recurrence, VALUE_LIMIT, word};
use crate::state::StatePages;
use multiversion::multiversion;
use std::ops::Range;

/// How many keys go side by side: the `f64` of one AVX-512 register.
const LANES: usize = 8;
/// How many rows of each of those are turned at a time; the block stays in the first-level cache.
const TILE_ROWS: usize = 32;

/// Gain of the mean and the variance for the row after `learnt` rows: `1 / (learnt + 1)` until the constant one is greater.
#[inline(always)]
pub(super) fn ewma_gain(learnt: f64, constants: &Constants) -> f64 {
    (1.0 / (learnt + 1.0)).max(constants.gain)
}

/// Gains of Holt's level, trend and residual variance for the row after `learnt` rows: those of a least-squares line through all rows
/// until the constant ones are greater. The first row has no residual, so a second one's is the first to count.
#[inline(always)]
pub(super) fn holt_gains(learnt: f64, constants: &Constants) -> (f64, f64, f64) {
    let reciprocal = 1.0 / ((learnt + 1.0) * (learnt + 2.0));
    let level = (2.0 * (2.0 * learnt + 1.0) * reciprocal).max(constants.gain);
    let trend = (6.0 * reciprocal).max(constants.trend_gain);
    (level, if learnt == 0.0 { 0.0 } else { trend }, (1.0 / learnt.max(1.0)).max(constants.gain))
}

/// The state of `N` keys.
struct Keys<const N: usize> {
    learnt: [u32; N],
    base: [f64; N],
    mean: [f64; N],
    variance: [f64; N],
    /// Holt only.
    trend: [f64; N],
    /// CUSUM only: sums above and below.
    rise: [f32; N],
    fall: [f32; N],
}

/// One kind of recurrence: how the next row is scored and learnt.
trait Formula {
    const HAS_TREND: bool = false;
    const HAS_SUMS: bool = false;

    /// Scores a row of each key, then learns it; a row that is not finite leaves its key as it was.
    ///
    /// `STEADY` promises that every key has learnt `steady_from` rows, so that gains are constants.
    fn step<const N: usize, const STEADY: bool>(
        keys: &mut Keys<N>,
        constants: &Constants,
        values: &[f64; N],
    ) -> [f32; N];
}

/// Centres the row's value, and tells whether it has one.
#[inline(always)]
fn centre<const N: usize>(keys: &mut Keys<N>, values: &[f64; N], lane: usize) -> (bool, f64) {
    let value = values[lane];
    let valid = value.abs() <= VALUE_LIMIT;
    if keys.learnt[lane] == 0 {
        keys.base[lane] = if valid { value } else { 0.0 };
    }
    (valid, if valid { value - keys.base[lane] } else { 0.0 })
}

/// `|residual| / sqrt(variance + floor)`. In `f32`: it has the digits that a score needs, and no chain goes through it.
#[inline(always)]
fn standardise(residual: f64, variance: f64, constants: &Constants) -> f32 {
    residual as f32 / ((variance + constants.variance_floor).min(f64::from(f32::MAX)) as f32).sqrt()
}

#[inline(always)]
fn score_of<const STEADY: bool>(valid: bool, learnt: u32, constants: &Constants, score: f32) -> f32 {
    let score = if STEADY || learnt >= constants.min_training { score } else { 0.0 };
    if valid { score } else { f32::NAN }
}

struct Ewma;

impl Formula for Ewma {
    #[inline(always)]
    fn step<const N: usize, const STEADY: bool>(
        keys: &mut Keys<N>,
        constants: &Constants,
        values: &[f64; N],
    ) -> [f32; N] {
        let mut scores = [0.0; N];
        for lane in 0..N {
            let (valid, centred) = centre(keys, values, lane);
            let learnt = keys.learnt[lane];
            let residual = centred - keys.mean[lane];
            let score = standardise(residual, keys.variance[lane], constants).abs();
            scores[lane] = score_of::<STEADY>(valid, learnt, constants, score);
            let gain = if STEADY { constants.gain } else { ewma_gain(f64::from(learnt), constants) };
            let gain = if valid { gain } else { 0.0 };
            let keep = 1.0 - gain;
            keys.mean[lane] = keep * keys.mean[lane] + gain * centred;
            keys.variance[lane] = keep * keys.variance[lane] + keep * gain * residual * residual;
            keys.learnt[lane] = learnt.saturating_add(u32::from(valid));
        }
        scores
    }
}

struct Holt;

impl Formula for Holt {
    const HAS_TREND: bool = true;

    #[inline(always)]
    fn step<const N: usize, const STEADY: bool>(
        keys: &mut Keys<N>,
        constants: &Constants,
        values: &[f64; N],
    ) -> [f32; N] {
        let mut scores = [0.0; N];
        for lane in 0..N {
            let (valid, centred) = centre(keys, values, lane);
            let learnt = keys.learnt[lane];
            let forecast = keys.mean[lane] + keys.trend[lane];
            let residual = centred - forecast;
            let score = standardise(residual, keys.variance[lane], constants).abs();
            scores[lane] = score_of::<STEADY>(valid, learnt, constants, score);
            let (gain, trend_gain, variance_gain) = match STEADY {
                true => (constants.gain, constants.trend_gain, constants.gain),
                false => holt_gains(f64::from(learnt), constants),
            };
            let level = (1.0 - gain) * forecast + gain * centred;
            let trend = (keys.trend[lane] - trend_gain * forecast) + trend_gain * centred;
            let variance = (1.0 - variance_gain) * keys.variance[lane] + variance_gain * residual * residual;
            keys.mean[lane] = if valid { level } else { keys.mean[lane] };
            keys.trend[lane] = if valid { trend } else { keys.trend[lane] };
            keys.variance[lane] = if valid { variance } else { keys.variance[lane] };
            keys.learnt[lane] = learnt.saturating_add(u32::from(valid));
        }
        scores
    }
}

struct Cusum;

impl Formula for Cusum {
    const HAS_SUMS: bool = true;

    #[inline(always)]
    fn step<const N: usize, const STEADY: bool>(
        keys: &mut Keys<N>,
        constants: &Constants,
        values: &[f64; N],
    ) -> [f32; N] {
        let mut scores = [0.0; N];
        for lane in 0..N {
            let (valid, centred) = centre(keys, values, lane);
            let learnt = keys.learnt[lane];
            let residual = centred - keys.mean[lane];
            let standardised = standardise(residual, keys.variance[lane], constants);
            let limited = standardised.min(constants.residual_limit).max(-constants.residual_limit);
            let counts = valid && (STEADY || learnt >= constants.min_training);
            let rise = (keys.rise[lane] + (limited - constants.drift)).max(0.0);
            let fall = (keys.fall[lane] + (-limited - constants.drift)).max(0.0);
            keys.rise[lane] = if counts { rise } else { keys.rise[lane] };
            keys.fall[lane] = if counts { fall } else { keys.fall[lane] };
            scores[lane] = score_of::<STEADY>(valid, learnt, constants, keys.rise[lane].max(keys.fall[lane]));
            let gain = if STEADY { constants.gain } else { ewma_gain(f64::from(learnt), constants) };
            let gain = if valid { gain } else { 0.0 };
            let keep = 1.0 - gain;
            keys.mean[lane] = keep * keys.mean[lane] + gain * centred;
            keys.variance[lane] = keep * keys.variance[lane] + keep * gain * residual * residual;
            keys.learnt[lane] = learnt.saturating_add(u32::from(valid));
        }
        scores
    }
}

/// One page of state, word-major.
struct Page<'a> {
    words: &'a mut [u32],
    slots_per_page: usize,
}

impl Page<'_> {
    #[inline(always)]
    fn f64_at(&self, word: usize, slot: usize) -> f64 {
        let (low, high) =
            (self.words[word * self.slots_per_page + slot], self.words[(word + 1) * self.slots_per_page + slot]);
        f64::from_bits(u64::from(high) << 32 | u64::from(low))
    }

    #[inline(always)]
    fn set_f64(&mut self, word: usize, slot: usize, value: f64) {
        let bits = value.to_bits();
        self.words[word * self.slots_per_page + slot] = bits as u32;
        self.words[(word + 1) * self.slots_per_page + slot] = (bits >> 32) as u32;
    }

    #[inline(always)]
    fn load<F: Formula, const N: usize>(&self, slots: &[usize; N]) -> Keys<N> {
        let f64s = |word: usize| slots.map(|slot| self.f64_at(word, slot));
        let f32s = |word: usize| slots.map(|slot| f32::from_bits(self.words[word * self.slots_per_page + slot]));
        Keys {
            learnt: slots.map(|slot| self.words[word::LEARNT * self.slots_per_page + slot]),
            base: f64s(word::BASE),
            mean: f64s(word::MEAN),
            variance: f64s(word::VARIANCE),
            trend: if F::HAS_TREND { f64s(word::EXTRA) } else { [0.0; N] },
            rise: if F::HAS_SUMS { f32s(word::EXTRA) } else { [0.0; N] },
            fall: if F::HAS_SUMS { f32s(word::EXTRA + 1) } else { [0.0; N] },
        }
    }

    #[inline(always)]
    fn store<F: Formula, const N: usize>(&mut self, slots: &[usize; N], keys: &Keys<N>) {
        for lane in 0..N {
            let slot = slots[lane];
            self.words[word::LEARNT * self.slots_per_page + slot] = keys.learnt[lane];
            self.set_f64(word::BASE, slot, keys.base[lane]);
            self.set_f64(word::MEAN, slot, keys.mean[lane]);
            self.set_f64(word::VARIANCE, slot, keys.variance[lane]);
            if F::HAS_TREND {
                self.set_f64(word::EXTRA, slot, keys.trend[lane]);
            }
            if F::HAS_SUMS {
                self.words[word::EXTRA * self.slots_per_page + slot] = keys.rise[lane].to_bits();
                self.words[(word::EXTRA + 1) * self.slots_per_page + slot] = keys.fall[lane].to_bits();
            }
        }
    }
}

/// The rows of the groups of one page, and where their scores go.
struct Rows<'a> {
    /// Slots within the page.
    slots: &'a [u32],
    offsets: &'a [u32],
    values: &'a [f64],
    scores: &'a mut [f32],
    slot_mask: u32,
}

impl Rows<'_> {
    #[inline(always)]
    fn range(&self, group: usize) -> Range<usize> {
        self.offsets[group] as usize..self.offsets[group + 1] as usize
    }
}

#[inline(always)]
fn run_page<F: Formula>(constants: &Constants, page: &mut Page<'_>, rows: &mut Rows<'_>) {
    let group_count = rows.slots.len();
    let mut group = 0;
    while group < group_count {
        if group + LANES <= group_count {
            let longest = (group..group + LANES).map(|group| rows.range(group).len()).max().expect("there are lanes");
            let total = rows.range(group + LANES - 1).end - rows.range(group).start;
            if longest * LANES <= 2 * total {
                run_lanes::<F>(constants, page, rows, group, longest);
                group += LANES;
                continue;
            }
        }
        run_key::<F>(constants, page, rows, group);
        group += 1;
    }
}

#[inline(always)]
fn run_key<F: Formula>(constants: &Constants, page: &mut Page<'_>, rows: &mut Rows<'_>, group: usize) {
    let slots = [(rows.slots[group] & rows.slot_mask) as usize];
    let range = rows.range(group);
    let mut keys = page.load::<F, 1>(&slots);
    let mut pairs = rows.values[range.clone()].iter().zip(&mut rows.scores[range]);
    while keys.learnt[0] < constants.steady_from {
        let Some((&value, score)) = pairs.next() else { break };
        [*score] = F::step::<1, false>(&mut keys, constants, &[value]);
    }
    for (&value, score) in pairs {
        [*score] = F::step::<1, true>(&mut keys, constants, &[value]);
    }
    page.store::<F, 1>(&slots, &keys);
}

#[inline(always)]
fn run_lanes<F: Formula>(
    constants: &Constants,
    page: &mut Page<'_>,
    rows: &mut Rows<'_>,
    group: usize,
    longest: usize,
) {
    let slots: [usize; LANES] = std::array::from_fn(|lane| (rows.slots[group + lane] & rows.slot_mask) as usize);
    let mut keys = page.load::<F, LANES>(&slots);
    let mut tile = [[f64::NAN; LANES]; TILE_ROWS];
    let mut scores = [[0f32; LANES]; TILE_ROWS];
    for first in (0..longest).step_by(TILE_ROWS) {
        let tile_rows = (longest - first).min(TILE_ROWS);
        for lane in 0..LANES {
            let range = rows.range(group + lane);
            let values = &rows.values[range.start + first.min(range.len())..range.end];
            let count = values.len().min(tile_rows);
            for (step, &value) in tile.iter_mut().zip(&values[..count]) {
                step[lane] = value;
            }
            // A key whose rows are over learns nothing more.
            for step in &mut tile[count..tile_rows] {
                step[lane] = f64::NAN;
            }
        }
        if keys.learnt.iter().all(|&learnt| learnt >= constants.steady_from) {
            for (values, scores) in tile[..tile_rows].iter().zip(&mut scores) {
                *scores = F::step::<LANES, true>(&mut keys, constants, values);
            }
        } else {
            for (values, scores) in tile[..tile_rows].iter().zip(&mut scores) {
                *scores = F::step::<LANES, false>(&mut keys, constants, values);
            }
        }
        for lane in 0..LANES {
            let range = rows.range(group + lane);
            let out = &mut rows.scores[range.start + first.min(range.len())..range.end];
            for (score, step) in out.iter_mut().zip(&scores[..tile_rows]) {
                *score = step[lane];
            }
        }
    }
    page.store::<F, LANES>(&slots, &keys);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn run_ewma(constants: &Constants, page: &mut Page<'_>, rows: &mut Rows<'_>) {
    run_page::<Ewma>(constants, page, rows);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn run_holt(constants: &Constants, page: &mut Page<'_>, rows: &mut Rows<'_>) {
    run_page::<Holt>(constants, page, rows);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn run_cusum(constants: &Constants, page: &mut Page<'_>, rows: &mut Rows<'_>) {
    run_page::<Cusum>(constants, page, rows);
}

pub(super) fn run(recurrence: &Recurrence, constants: &Constants, batch: &Batch, state: &mut StatePages) -> Vec<f32> {
    let mut scores = vec![0.0; batch.values.len()];
    let slots_per_page = state.shape().slots_per_page();
    let run_page = match recurrence {
        Recurrence::Ewma { .. } => run_ewma,
        Recurrence::Holt { .. } => run_holt,
        Recurrence::Cusum { .. } => run_cusum,
    };
    for (page, groups) in batch.rows.pages(slots_per_page) {
        let mut page = Page { words: state.page_mut(page), slots_per_page };
        let mut rows = Rows {
            slots: &batch.rows.slots()[groups.clone()],
            offsets: &batch.rows.offsets()[groups.start..=groups.end],
            values: &batch.values,
            scores: &mut scores,
            slot_mask: slots_per_page as u32 - 1,
        };
        run_page(constants, &mut page, &mut rows);
    }
    scores
}
