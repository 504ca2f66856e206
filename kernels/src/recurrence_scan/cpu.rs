//! The twin: every key in order, eight keys side by side where they have few rows each.
//!
//! A tile of rows is done in passes: learn (the chain from row to row, which leaves each row's residual and the variance before it),
//! standardise (a square root and a division for each row, over the whole tile at once), and for CUSUM a second chain. A pass is
//! written over arrays of `N` keys. With `N = 1` it is the loop for a key with many rows, whose chain is one multiplication and one
//! addition; with `N = LANES` it is vector code for keys with few rows, whose values are turned from key by key into step by
//! step. Both do the same operations in the same order for a row, so the answer does not depend on which of them runs.

use super::steps::Steps;
use super::{Batch, Constants, Recurrence, VALUE_LIMIT, word};
use crate::state::StatePages;
use multiversion::multiversion;
use std::array::from_fn;
use std::ops::Range;

/// How many keys go side by side: the `f64` of one AVX-512 register.
const LANES: usize = 8;
/// How many rows of each of those make a tile; it stays in the first-level cache.
const LANE_ROWS: usize = 32;
/// How many rows of one key alone make a tile.
pub(super) const KEY_ROWS: usize = LANES * LANE_ROWS;

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
#[derive(Clone, Copy)]
struct Keys<const N: usize> {
    learnt: [u32; N],
    base: [f64; N],
    /// Or Holt's forecast of the next row.
    mean: [f64; N],
    variance: [f64; N],
    /// Holt only.
    trend: [f64; N],
    /// CUSUM only: sums above and below.
    rise: [f32; N],
    fall: [f32; N],
}

/// One tile: `rows` rows of each of `N` keys. A pass overwrites what the one before it left.
struct Tile<const N: usize, const ROWS: usize> {
    /// Residuals, then standardised residuals, then scores. NaN where a row has no value, 0 in training.
    residual: [[f32; N]; ROWS],
    /// The variance before the row, floor included.
    variance: [[f32; N]; ROWS],
}

/// What the loops write before they read it, made once for all keys.
struct Scratch {
    values: [[f64; LANES]; LANE_ROWS],
    lanes: Tile<LANES, LANE_ROWS>,
    /// Of a key alone: the tile that is learnt, and the steps of its sums and of those of the tile before.
    key: Tile<1, KEY_ROWS>,
    steps: [Steps; 2],
}

/// One kind of recurrence.
trait Formula {
    const HAS_TREND: bool = false;
    const HAS_SUMS: bool = false;
    /// Whether a loop that chooses nothing is quicker for one key. Beside a second chain it is not: the compiler then packs both into one
    /// register, and packing waits in the chain.
    const PLAIN_IS_QUICKER: bool = false;

    /// Learns rows of each key; a row without a value leaves its key as it was.
    ///
    /// `STEADY` promises that every key has learnt `steady_from` rows, so that gains are constants, `ALL` that each row has a value, so that
    /// nothing has to be chosen in the chain. `beside` is called for each row, with
    /// its place in the tile: work that does not wait for this chain fits into its shadow.
    fn learn<const N: usize, const ROWS: usize, const STEADY: bool, const ALL: bool>(
        keys: &mut Keys<N>,
        constants: &Constants,
        values: &[[f64; N]],
        tile: &mut Tile<N, ROWS>,
        beside: impl FnMut(usize),
    );
}

#[inline(always)]
fn residual_of<const STEADY: bool>(valid: bool, learnt: u32, constants: &Constants, residual: f64) -> f32 {
    let residual = if STEADY || learnt >= constants.min_training { residual as f32 } else { 0.0 };
    if valid { residual } else { f32::NAN }
}

#[inline(always)]
fn variance_of(variance: f64, constants: &Constants) -> f32 {
    (variance + constants.variance_floor).min(f64::from(f32::MAX)) as f32
}

struct Ewma;

impl Formula for Ewma {
    const PLAIN_IS_QUICKER: bool = true;

    #[inline(always)]
    fn learn<const N: usize, const ROWS: usize, const STEADY: bool, const ALL: bool>(
        keys: &mut Keys<N>,
        constants: &Constants,
        values: &[[f64; N]],
        tile: &mut Tile<N, ROWS>,
        mut beside: impl FnMut(usize),
    ) {
        let Keys { mut learnt, mut base, mut mean, mut variance, .. } = *keys;
        let rows = values.iter().zip(&mut tile.residual).zip(&mut tile.variance);
        for (row, ((values, residuals), variances)) in rows.enumerate() {
            beside(row);
            // Compared anew for each use: an array of truth values is put together lane by lane.
            let valid = |lane: usize| ALL || values[lane].abs() <= VALUE_LIMIT;
            if !STEADY {
                base = from_fn(|lane| if learnt[lane] == 0 && valid(lane) { values[lane] } else { base[lane] });
            }
            let centred: [f64; N] = from_fn(|lane| if valid(lane) { values[lane] - base[lane] } else { 0.0 });
            let residual: [f64; N] = from_fn(|lane| centred[lane] - mean[lane]);
            *residuals = from_fn(|lane| residual_of::<STEADY>(valid(lane), learnt[lane], constants, residual[lane]));
            *variances = from_fn(|lane| variance_of(variance[lane], constants));
            let gain: [f64; N] = from_fn(|lane| {
                let gain = if STEADY { constants.gain } else { ewma_gain(f64::from(learnt[lane]), constants) };
                if valid(lane) { gain } else { 0.0 }
            });
            let keep: [f64; N] = from_fn(|lane| 1.0 - gain[lane]);
            mean = from_fn(|lane| keep[lane] * mean[lane] + gain[lane] * centred[lane]);
            variance =
                from_fn(|lane| keep[lane] * variance[lane] + keep[lane] * gain[lane] * residual[lane] * residual[lane]);
            learnt = from_fn(|lane| learnt[lane].saturating_add(u32::from(valid(lane))));
        }
        *keys = Keys { learnt, base, mean, variance, ..*keys };
    }
}

/// [`Ewma`] with two sums over the standardised residuals.
struct Cusum;

impl Formula for Cusum {
    const HAS_SUMS: bool = true;

    #[inline(always)]
    fn learn<const N: usize, const ROWS: usize, const STEADY: bool, const ALL: bool>(
        keys: &mut Keys<N>,
        constants: &Constants,
        values: &[[f64; N]],
        tile: &mut Tile<N, ROWS>,
        beside: impl FnMut(usize),
    ) {
        Ewma::learn::<N, ROWS, STEADY, ALL>(keys, constants, values, tile, beside);
    }
}

struct Holt;

impl Formula for Holt {
    const HAS_TREND: bool = true;

    #[inline(always)]
    fn learn<const N: usize, const ROWS: usize, const STEADY: bool, const ALL: bool>(
        keys: &mut Keys<N>,
        constants: &Constants,
        values: &[[f64; N]],
        tile: &mut Tile<N, ROWS>,
        mut beside: impl FnMut(usize),
    ) {
        let Keys { mut learnt, mut base, mean: mut forecast, mut variance, mut trend, .. } = *keys;
        let rows = values.iter().zip(&mut tile.residual).zip(&mut tile.variance);
        for (row, ((values, residuals), variances)) in rows.enumerate() {
            beside(row);
            // Compared anew for each use: an array of truth values is put together lane by lane.
            let valid = |lane: usize| ALL || values[lane].abs() <= VALUE_LIMIT;
            if !STEADY {
                base = from_fn(|lane| if learnt[lane] == 0 && valid(lane) { values[lane] } else { base[lane] });
            }
            let centred: [f64; N] = from_fn(|lane| if valid(lane) { values[lane] - base[lane] } else { 0.0 });
            let residual: [f64; N] = from_fn(|lane| centred[lane] - forecast[lane]);
            *residuals = from_fn(|lane| residual_of::<STEADY>(valid(lane), learnt[lane], constants, residual[lane]));
            *variances = from_fn(|lane| variance_of(variance[lane], constants));
            let gains: [(f64, f64, f64); N] = from_fn(|lane| match STEADY {
                true => (constants.gain, constants.trend_gain, constants.gain),
                false => holt_gains(f64::from(learnt[lane]), constants),
            });
            // Level and trend in one: the chain from forecast to forecast is one multiplication and one addition, and so is the trend's.
            let both: [f64; N] = from_fn(|lane| gains[lane].0 + gains[lane].1);
            let forecast_next: [f64; N] =
                from_fn(|lane| (1.0 - both[lane]) * forecast[lane] + (trend[lane] + both[lane] * centred[lane]));
            let trend_next: [f64; N] =
                from_fn(|lane| (trend[lane] + gains[lane].1 * centred[lane]) - gains[lane].1 * forecast[lane]);
            let variance_next: [f64; N] = from_fn(|lane| {
                (1.0 - gains[lane].2) * variance[lane] + gains[lane].2 * residual[lane] * residual[lane]
            });
            forecast = from_fn(|lane| if valid(lane) { forecast_next[lane] } else { forecast[lane] });
            trend = from_fn(|lane| if valid(lane) { trend_next[lane] } else { trend[lane] });
            variance = from_fn(|lane| if valid(lane) { variance_next[lane] } else { variance[lane] });
            learnt = from_fn(|lane| learnt[lane].saturating_add(u32::from(valid(lane))));
        }
        *keys = Keys { learnt, base, mean: forecast, variance, trend, ..*keys };
    }
}

/// One instruction, as no operand is NaN or what is then chosen does not matter.
#[inline(always)]
pub(super) fn greater(left: f32, right: f32) -> f32 {
    if left > right { left } else { right }
}

/// See [`greater`].
#[inline(always)]
pub(super) fn lesser(left: f32, right: f32) -> f32 {
    if left < right { left } else { right }
}

/// Replaces residuals of `rows` rows by standardised ones: the scores where there are no sums.
#[inline(always)]
fn standardise<F: Formula, const N: usize, const ROWS: usize>(rows: usize, tile: &mut Tile<N, ROWS>) {
    let residuals = tile.residual[..rows].as_flattened_mut();
    for (residual, variance) in residuals.iter_mut().zip(tile.variance[..rows].as_flattened()) {
        let standardised = *residual / variance.sqrt();
        *residual = if F::HAS_SUMS { standardised } else { standardised.abs() };
    }
}

/// CUSUM's sums above and below.
#[derive(Clone, Copy)]
struct Sums<const N: usize> {
    rise: [f32; N],
    fall: [f32; N],
}

impl<const N: usize> Sums<N> {
    /// Adds a row's standardised residuals, and puts the scores in their place.
    #[inline(always)]
    fn add(&mut self, constants: &Constants, residuals: &mut [f32; N]) {
        let Sums { mut rise, mut fall } = *self;
        // A row without a value adds nothing, and no sum is below 0.
        let before = *residuals;
        let counts = |lane: usize| !before[lane].is_nan();
        let limited: [f32; N] =
            from_fn(|lane| lesser(greater(residuals[lane], -constants.residual_limit), constants.residual_limit));
        let up: [f32; N] = from_fn(|lane| if counts(lane) { limited[lane] - constants.drift } else { 0.0 });
        let down: [f32; N] = from_fn(|lane| if counts(lane) { -limited[lane] - constants.drift } else { 0.0 });
        rise = from_fn(|lane| greater(rise[lane] + up[lane], 0.0));
        fall = from_fn(|lane| greater(fall[lane] + down[lane], 0.0));
        *residuals = from_fn(|lane| if counts(lane) { greater(rise[lane], fall[lane]) } else { f32::NAN });
        *self = Sums { rise, fall };
    }
}

/// Whether each row has a value.
#[inline(always)]
fn has_all(values: &[f64]) -> bool {
    values.iter().fold(true, |all, value| all & (value.abs() <= VALUE_LIMIT))
}

/// Learns a tile, and standardises its residuals.
#[inline(always)]
fn learn_tile<F: Formula, const N: usize, const ROWS: usize>(
    keys: &mut Keys<N>,
    constants: &Constants,
    values: &[[f64; N]],
    tile: &mut Tile<N, ROWS>,
    beside: impl FnMut(usize),
) {
    if keys.learnt.iter().all(|&learnt| learnt >= constants.steady_from) {
        // Where many keys go side by side, choosing costs nothing.
        if N == 1 && F::PLAIN_IS_QUICKER && has_all(values.as_flattened()) {
            F::learn::<N, ROWS, true, true>(keys, constants, values, tile, beside);
        } else {
            F::learn::<N, ROWS, true, false>(keys, constants, values, tile, beside);
        }
    } else {
        F::learn::<N, ROWS, false, false>(keys, constants, values, tile, beside);
    }
    standardise::<F, N, ROWS>(values.len(), tile);
}

/// All passes over a tile.
#[inline(always)]
fn run_tile<F: Formula, const N: usize, const ROWS: usize>(
    keys: &mut Keys<N>,
    constants: &Constants,
    values: &[[f64; N]],
    tile: &mut Tile<N, ROWS>,
) {
    learn_tile::<F, N, ROWS>(keys, constants, values, tile, |_| ());
    if F::HAS_SUMS {
        let mut sums = Sums { rise: keys.rise, fall: keys.fall };
        tile.residual[..values.len()].iter_mut().for_each(|residuals| sums.add(constants, residuals));
        (keys.rise, keys.fall) = (sums.rise, sums.fall);
    }
}

/// One page of state, word-major.
struct Page<'a> {
    words: &'a mut [u32],
    slots_per_page: usize,
}

impl Page<'_> {
    /// A word of `N` slots, which mostly lie side by side.
    #[inline(always)]
    fn word<const N: usize>(&self, word: usize, slots: &[usize; N]) -> [u32; N] {
        let words = &self.words[word * self.slots_per_page..(word + 1) * self.slots_per_page];
        if slots[N - 1] - slots[0] == N - 1
            && let Some(words) = words[slots[0]..].first_chunk()
        {
            return *words;
        }
        slots.map(|slot| words[slot])
    }

    #[inline(always)]
    fn set_word<const N: usize>(&mut self, word: usize, slots: &[usize; N], values: &[u32; N]) {
        let words = &mut self.words[word * self.slots_per_page..(word + 1) * self.slots_per_page];
        if slots[N - 1] - slots[0] == N - 1
            && let Some(words) = words[slots[0]..].first_chunk_mut()
        {
            *words = *values;
            return;
        }
        for (&slot, &value) in slots.iter().zip(values) {
            words[slot] = value;
        }
    }

    #[inline(always)]
    fn f64s<const N: usize>(&self, word: usize, slots: &[usize; N]) -> [f64; N] {
        let (low, high) = (self.word(word, slots), self.word(word + 1, slots));
        let mut values = [0.0; N];
        for (value, (low, high)) in values.iter_mut().zip(low.into_iter().zip(high)) {
            *value = f64::from_bits(u64::from(high) << 32 | u64::from(low));
        }
        values
    }

    #[inline(always)]
    fn f32s<const N: usize>(&self, word: usize, slots: &[usize; N]) -> [f32; N] {
        self.word(word, slots).map(f32::from_bits)
    }

    #[inline(always)]
    fn set_f64s<const N: usize>(&mut self, word: usize, slots: &[usize; N], values: &[f64; N]) {
        self.set_word(word, slots, &values.map(|value| value.to_bits() as u32));
        self.set_word(word + 1, slots, &values.map(|value| (value.to_bits() >> 32) as u32));
    }

    #[inline(always)]
    fn load<F: Formula, const N: usize>(&self, slots: &[usize; N]) -> Keys<N> {
        Keys {
            learnt: self.word(word::LEARNT, slots),
            base: self.f64s(word::BASE, slots),
            mean: self.f64s(word::MEAN, slots),
            variance: self.f64s(word::VARIANCE, slots),
            trend: if F::HAS_TREND { self.f64s(word::EXTRA, slots) } else { [0.0; N] },
            rise: if F::HAS_SUMS { self.f32s(word::EXTRA, slots) } else { [0.0; N] },
            fall: if F::HAS_SUMS { self.f32s(word::EXTRA + 1, slots) } else { [0.0; N] },
        }
    }

    #[inline(always)]
    fn store<F: Formula, const N: usize>(&mut self, slots: &[usize; N], keys: &Keys<N>) {
        self.set_f64s(word::BASE, slots, &keys.base);
        self.set_f64s(word::MEAN, slots, &keys.mean);
        self.set_f64s(word::VARIANCE, slots, &keys.variance);
        if F::HAS_TREND {
            self.set_f64s(word::EXTRA, slots, &keys.trend);
        }
        if F::HAS_SUMS {
            self.set_word(word::EXTRA, slots, &keys.rise.map(f32::to_bits));
            self.set_word(word::EXTRA + 1, slots, &keys.fall.map(f32::to_bits));
        }
        self.set_word(word::LEARNT, slots, &keys.learnt);
    }
}

/// The rows of the groups of one page, and where their scores go.
struct Rows<'a> {
    slots: &'a [u32],
    offsets: &'a [u32],
    values: &'a [f64],
    /// Which are learnt; all, where nothing is said of it.
    learns: Option<&'a [bool]>,
    scores: &'a mut [f32],
    /// What makes a slot one of the page.
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
    let mut scratch = Scratch {
        values: [[0.0; LANES]; LANE_ROWS],
        lanes: Tile { residual: [[0.0; LANES]; LANE_ROWS], variance: [[0.0; LANES]; LANE_ROWS] },
        key: Tile { residual: [[0.0]; KEY_ROWS], variance: [[0.0]; KEY_ROWS] },
        steps: [Steps::new(), Steps::new()],
    };
    if let Some(learns) = rows.learns {
        for group in 0..group_count {
            run_key_in_part::<F>(constants, page, rows, &mut scratch.key, (group, learns));
        }
        return;
    }
    let mut group = 0;
    while group < group_count {
        if group + LANES <= group_count {
            let offsets: [u32; LANES + 1] = from_fn(|lane| rows.offsets[group + lane]);
            let longest = (0..LANES).map(|lane| offsets[lane + 1] - offsets[lane]).fold(0, u32::max) as usize;
            let total = (offsets[LANES] - offsets[0]) as usize;
            if longest * LANES <= 2 * total {
                run_lanes::<F>(constants, page, rows, &mut scratch, group, longest);
                group += LANES;
                continue;
            }
        }
        run_key::<F>(constants, page, rows, &mut scratch, group);
        group += 1;
    }
}

/// A key alone. Its sums are a second chain, and a core has time for both side by side: those of a tile go beside the learning of the next.
#[inline(always)]
fn run_key<F: Formula>(
    constants: &Constants,
    page: &mut Page<'_>,
    rows: &mut Rows<'_>,
    scratch: &mut Scratch,
    group: usize,
) {
    let slots = [(rows.slots[group] & rows.slot_mask) as usize];
    let range = rows.range(group);
    let mut keys = page.load::<F, 1>(&slots);
    let mut sums = [keys.rise[0], keys.fall[0]];
    let Scratch { key: tile, steps, .. } = scratch;
    let [mut steps, mut waiting] = steps.each_mut();
    let mut waiting_scores: &mut [f32] = &mut [];
    let chunks = rows.values[range.clone()].chunks(KEY_ROWS).zip(rows.scores[range].chunks_mut(KEY_ROWS));
    for (values, scores) in chunks {
        let values = values.as_chunks().0;
        if !F::HAS_SUMS {
            learn_tile::<F, 1, KEY_ROWS>(&mut keys, constants, values, tile, |_| ());
            scores.copy_from_slice(tile.residual[..values.len()].as_flattened());
            continue;
        }
        let waits = waiting_scores.len();
        // Of all rows of a tile or none, and past its end nothing is looked at.
        if waits == KEY_ROWS {
            learn_tile::<F, 1, KEY_ROWS>(&mut keys, constants, values, tile, |row| waiting.add(&mut sums, row));
            (values.len()..waits).for_each(|row| waiting.add(&mut sums, row));
        } else {
            learn_tile::<F, 1, KEY_ROWS>(&mut keys, constants, values, tile, |_| ());
        }
        waiting.scores(waiting_scores);
        steps.begin(constants, tile.residual[..values.len()].as_flattened());
        waiting_scores = scores;
        std::mem::swap(&mut steps, &mut waiting);
    }
    (0..waiting_scores.len()).for_each(|row| waiting.add(&mut sums, row));
    waiting.scores(waiting_scores);
    [keys.rise[0], keys.fall[0]] = sums;
    page.store::<F, 1>(&slots, &keys);
}

/// A key alone, of which some rows are not learnt: each of those is learnt by a copy, which is dropped.
#[inline(always)]
fn run_key_in_part<F: Formula>(
    constants: &Constants,
    page: &mut Page<'_>,
    rows: &mut Rows<'_>,
    tile: &mut Tile<1, KEY_ROWS>,
    (group, learns): (usize, &[bool]),
) {
    let slots = [(rows.slots[group] & rows.slot_mask) as usize];
    let range = rows.range(group);
    let mut keys = page.load::<F, 1>(&slots);
    let mut start = range.start;
    for alike in learns[range].chunk_by(|one, next| one == next) {
        let end = start + alike.len();
        let tile_rows = if alike[0] { KEY_ROWS } else { 1 };
        for first in (start..end).step_by(tile_rows) {
            let tiled = first..(first + tile_rows).min(end);
            let before = keys;
            run_tile::<F, 1, KEY_ROWS>(&mut keys, constants, rows.values[tiled.clone()].as_chunks().0, tile);
            if !alike[0] {
                keys = before;
            }
            rows.scores[tiled.clone()].copy_from_slice(tile.residual[..tiled.len()].as_flattened());
        }
        start = end;
    }
    page.store::<F, 1>(&slots, &keys);
}

#[inline(always)]
fn run_lanes<F: Formula>(
    constants: &Constants,
    page: &mut Page<'_>,
    rows: &mut Rows<'_>,
    scratch: &mut Scratch,
    group: usize,
    longest: usize,
) {
    let slots: [usize; LANES] = from_fn(|lane| (rows.slots[group + lane] & rows.slot_mask) as usize);
    let mut keys = page.load::<F, LANES>(&slots);
    let Scratch { values, lanes: tile, .. } = scratch;
    for first in (0..longest).step_by(LANE_ROWS) {
        let tile_rows = (longest - first).min(LANE_ROWS);
        let mut ranges = [const { 0..0 }; LANES];
        for (lane, tile_range) in ranges.iter_mut().enumerate() {
            let range = rows.range(group + lane);
            *tile_range = (range.start + first).min(range.end)..(range.start + first + tile_rows).min(range.end);
        }
        turn_in(rows.values, &ranges, &mut values[..tile_rows]);
        run_tile::<F, LANES, LANE_ROWS>(&mut keys, constants, &values[..tile_rows], tile);
        turn_out(&tile.residual[..tile_rows], &ranges, rows.scores);
    }
    page.store::<F, LANES>(&slots, &keys);
}

/// From key by key to step by step. A key whose rows are over gets rows without a value.
///
/// Not part of the functions for vector units: what they make of it (scattering stores) is far slower than plain moves.
#[inline(never)]
fn turn_in(values: &[f64], ranges: &[Range<usize>; LANES], steps: &mut [[f64; LANES]]) {
    for (lane, range) in ranges.iter().enumerate() {
        let values = &values[range.clone()];
        let (with, without) = steps.split_at_mut(values.len());
        for (step, &value) in with.iter_mut().zip(values) {
            step[lane] = value;
        }
        for step in without {
            step[lane] = f64::NAN;
        }
    }
}

/// From step by step to key by key.
#[inline(never)]
fn turn_out(steps: &[[f32; LANES]], ranges: &[Range<usize>; LANES], scores: &mut [f32]) {
    for (lane, range) in ranges.iter().enumerate() {
        for (score, step) in scores[range.clone()].iter_mut().zip(steps) {
            *score = step[lane];
        }
    }
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
            learns: batch.learns.as_deref(),
            scores: &mut scores,
            slot_mask: slots_per_page as u32 - 1,
        };
        run_page(constants, &mut page, &mut rows);
    }
    scores
}
