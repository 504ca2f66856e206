//! The twin of `window_distance`: all rows of a chunk against one tile of lags, then the next tile.
//!
//! A lag's covariance moves from row to row, whatever other lags do. So a tile of lags stays in the first-level cache while all rows of
//! the chunk pass over it, and the memory of a long history is read once for a chunk and not once for a row.

use multiversion::multiversion;

use super::{
    CHUNK, COUNT, COUNT_BACK, COUNT_MAX, FLAT_COUNT, HEADER_WORDS, LEFT_OUT, PEAK, PEAK_RATIO, PLACE, RENEWED, RINGS,
    WindowDistance,
};
use crate::features::{Features, Scores, VALUE_MAX, centred};
use crate::state::StatePages;
use crate::window::{LANES, Statistics, add_lanes, lanes, statistics};

/// Lags of a tile: with four arrays of words, half of a first-level cache.
const TILE: usize = 1024;
/// Pairs that are moved side by side.
const PAIR_LANES: usize = 32;

/// A window whose differences are cut has at least half of the greatest one's square, so its inverse is less than 2^-55.
const CUT_INVERSE_MAX: f32 = 2.775_557_6e-17;

/// A window that is compared.
struct Row {
    place: usize,
    /// From the newest value to the mean.
    offset: f32,
    inverse: f32,
    df: f32,
    dg: f32,
    /// The greatest lag whose covariance there was at the row before.
    lag_max: usize,
    /// The lag of the first window of all, when it is seen for the first time at this distance.
    entering: Option<usize>,
    /// Whether all covariances are computed anew.
    renew: bool,
    /// The first and the last lag to refresh.
    refresh: (usize, usize),
    scored: bool,
    any_flat: bool,
    best: f32,
}

/// Where the parts of a slot lie.
#[derive(Clone, Copy)]
struct Shape {
    window: usize,
    history: usize,
    exclusion: usize,
    ring: usize,
}

pub(super) fn run(kernel: &WindowDistance, batch: &Features, state: &mut StatePages) -> Scores {
    let parameters = kernel.parameters();
    let shape = Shape {
        window: parameters.window as usize,
        history: parameters.history as usize,
        exclusion: parameters.exclusion_rows(),
        ring: parameters.ring(),
    };
    let mut score = vec![0.0; batch.kept_count()];
    let (mut rows, mut values) = (Vec::with_capacity(CHUNK), Values::default());
    let slot_words = state.shape().words_per_slot();
    for (slot, group) in batch.groups() {
        let (page, slot_in_page) =
            (slot as usize / state.shape().slots_per_page(), slot as usize % state.shape().slots_per_page());
        let slot_start = state.shape().index(slot_in_page, 0);
        let slot = &mut state.page_mut(page)[slot_start..][..slot_words];
        let mut start = group.start;
        while start < group.end {
            let end = (start + CHUNK - slot[COUNT] as usize % CHUNK).min(group.end);
            let (high, low) = (&batch.high(0)[start..end], &batch.low(0)[start..end]);
            let learns = batch.learns().map(|learns| &learns[start..end]);
            make_windows(kernel, shape, slot, (high, low), learns, &mut rows, &mut values);
            compare(slot, shape, &mut rows);
            // Rows before the first window of all have score 0.
            let first = end - rows.len();
            for (score, row) in score[first..end].iter_mut().zip(&rows) {
                if row.scored {
                    *score = kernel.distance(row.best, row.inverse, row.any_flat);
                }
            }
            start = end;
        }
    }
    Scores { score: batch.spread(score), attribution: Vec::new() }
}

/// Values in the order of time, each in two parts, and the window that is looked at.
#[derive(Default)]
struct Values {
    high: Vec<f32>,
    low: Vec<f32>,
    window: Vec<f32>,
}

impl Values {
    /// From one value to another.
    fn between(&self, from: usize, to: usize) -> f32 {
        centred(self.high[to], self.low[to], self.high[from], self.low[from])
    }

    /// Of the window that starts and ends there, and whether differences in it were cut: then they are not those of other windows.
    fn statistics(&mut self, start: usize, newest: usize) -> (Statistics, bool) {
        let Values { high, low, window } = self;
        window.resize(newest + 1 - start, 0.0);
        differences(&high[start..=newest], &low[start..=newest], window);
        let found = statistics(window);
        if found.greatest < VALUE_MAX && found.least > -VALUE_MAX {
            return (found, false);
        }
        window.iter_mut().for_each(|value| *value = value.clamp(-VALUE_MAX, VALUE_MAX));
        (statistics(window), true)
    }
}

/// The differences of values from the last of them. They are not cut yet.
#[multiversion(targets = "simd")]
fn differences(high: &[f32], low: &[f32], out: &mut [f32]) {
    let (newest_high, newest_low) = (high[high.len() - 1], low[low.len() - 1]);
    for ((out, &high), &low) in out.iter_mut().zip(high).zip(low) {
        *out = (high - newest_high) + (low - newest_low);
    }
}

/// Puts the values of a chunk into the rings and makes the windows that end with them.
fn make_windows(
    kernel: &WindowDistance,
    shape: Shape,
    slot: &mut [u32],
    (high, low): (&[f32], &[f32]),
    learns: Option<&[bool]>,
    rows: &mut Vec<Row>,
    values: &mut Values,
) {
    let Shape { window, history, exclusion, ring } = shape;
    let (slices, slice_lags) = kernel.parameters().slices();
    // Windows that are not learnt, among those that the newest is compared with.
    let mut left_out = if learns.is_some() { count_left_out(shape, slot) } else { 0 };
    // The last `window` values before the chunk, then the chunk, in the order of time.
    for (array, (values, new)) in [(&mut values.high, high), (&mut values.low, low)].into_iter().enumerate() {
        values.clear();
        let old = (0..window).rev().map(|back| HEADER_WORDS + array * ring + (slot[PLACE] as usize + back) % ring);
        values.extend(old.map(|word| f32::from_bits(slot[word])));
        values.extend_from_slice(new);
    }
    rows.clear();
    let (mut before, mut cut_before) = values.statistics(0, window - 1);
    for (index, ends) in (window..window + high.len()).enumerate() {
        let place = (slot[PLACE] as usize + ring - 1) % ring;
        let count = slot[COUNT] as usize + 1;
        (slot[PLACE], slot[COUNT]) = (place as u32, count as u32);
        slot[HEADER_WORDS + place] = values.high[ends].to_bits();
        slot[HEADER_WORDS + ring + place] = values.low[ends].to_bits();
        if count < window {
            continue;
        }
        if count == window {
            // There is no window before the first one, and nothing looks at the differences from it.
            (before, cut_before) = (Statistics { offset: 0.0, squares: 0.0, least: 0.0, greatest: 0.0 }, false);
        }
        let (now, cut) = values.statistics(index + 1, ends);
        let mut df = values.between(index, ends) * 0.5;
        let mut dg = (values.between(ends - 1, index) - before.offset) - now.offset;
        if count == window {
            (df, dg) = (0.0, 0.0);
        }
        let mut renew = false;
        let mut inverse = 0;
        if !now.is_flat(kernel.parameters().flat_span) {
            let peak = f32::from_bits(slot[PEAK]).max(now.squares);
            let is_small = now.squares * PEAK_RATIO < peak;
            slot[PEAK] = if is_small { now.squares } else { peak }.to_bits();
            renew = is_small || cut || cut_before;
            inverse = (1.0 / now.squares.sqrt()).to_bits() & !RENEWED | if renew { RENEWED } else { 0 };
        }
        let kept = if learns.is_none_or(|learns| learns[index]) { inverse } else { LEFT_OUT | inverse & RENEWED };
        for (array, word) in [(2, df.to_bits()), (3, dg.to_bits()), (4, kept)] {
            slot[HEADER_WORDS + array * ring + place] = word;
        }
        let earlier = count - window; // windows before this one
        let inverse_of = |lag: usize| slot[HEADER_WORDS + 4 * ring + (place + lag) % ring];
        let is_flat = |lag: usize| inverse_of(lag) == 0;
        let flats = slot[FLAT_COUNT] + u32::from(earlier > exclusion && is_flat(exclusion + 1))
            - u32::from(earlier > history && is_flat(history + 1));
        if learns.is_some() {
            let comes = earlier > exclusion && is_left_out(inverse_of(exclusion + 1));
            let goes = earlier > history && is_left_out(inverse_of(history + 1));
            left_out = left_out + usize::from(comes) - usize::from(goes);
        }
        slot[FLAT_COUNT] = flats;
        let slice = (count as u32 % slices * slice_lags) as usize;
        rows.push(Row {
            place,
            offset: now.offset,
            inverse: f32::from_bits(inverse),
            renew,
            df,
            dg,
            lag_max: earlier.saturating_sub(1).min(history),
            entering: (earlier > exclusion && earlier <= history).then_some(earlier),
            refresh: (slice + 1, (slice + slice_lags as usize).min(earlier.min(history))),
            scored: earlier.min(history).saturating_sub(exclusion)
                >= kernel.parameters().min_training_windows() + left_out,
            any_flat: flats > 0,
            best: f32::NEG_INFINITY,
        });
        (before, cut_before) = (now, cut);
    }
    if slot[COUNT] >= COUNT_MAX {
        slot[COUNT] -= COUNT_BACK;
    }
}

fn is_left_out(inverse: u32) -> bool {
    inverse & !RENEWED == LEFT_OUT
}

/// How many windows that are not learnt are among those that the newest window so far was compared with.
fn count_left_out(shape: Shape, slot: &[u32]) -> usize {
    let Shape { window, history, exclusion, ring } = shape;
    let earlier = (slot[COUNT] as usize).saturating_sub(window);
    let inverses = &slot[HEADER_WORDS + 4 * ring..][..ring];
    let compared = exclusion + 1..=earlier.min(history);
    compared.filter(|lag| is_left_out(inverses[(slot[PLACE] as usize + lag) % ring])).count()
}

/// Moves the covariances of all lags over the rows of a chunk, and finds each row's best.
#[multiversion(targets = "simd")]
fn compare(slot: &mut [u32], shape: Shape, rows: &mut [Row]) {
    let Shape { window, history, exclusion, ring } = shape;
    let (rings, covariance) = slot.split_at_mut(HEADER_WORDS + RINGS * ring);
    let (high, rest) = rings[HEADER_WORDS..].split_at(ring);
    let (low, rest) = rest.split_at(ring);
    let (df, rest) = rest.split_at(ring);
    let (dg, inverse) = rest.split_at(ring);
    let mut centred_window = Vec::with_capacity(window);
    for first in (exclusion + 1..=history).step_by(TILE) {
        let last = (first + TILE - 1).min(history);
        for row in rows.iter_mut() {
            // Most rows compute a few covariances anew in one tile, and those share what is taken from the row's window.
            centred_window.clear();
            let (place, offset) = (row.place, row.offset);
            let mut anew = |lag: usize| {
                if centred_window.is_empty() {
                    centre(high, low, place, offset, window, &mut centred_window);
                }
                covariance_of(&centred_window, high, low, inverse, (place + lag) % ring).to_bits()
            };
            // What is computed anew, and compared before it is refreshed as any other.
            let mut renew = |row: &mut Row, covariance: &mut [u32], lag: usize| {
                covariance[lag] = anew(lag);
                let inverse = f32::from_bits(inverse[(row.place + lag) % ring]);
                row.best = row.best.max(f32::from_bits(covariance[lag]) * inverse);
            };
            let end = last.min(row.lag_max) + 1;
            if row.renew {
                (first..end).for_each(|lag| renew(row, covariance, lag));
            } else {
                let mut lag = first;
                let mut place = (row.place + first) % ring;
                // At most twice: up to the end of the rings, and from their start.
                while lag < end {
                    let pairs = (end - lag).min(ring - place);
                    let (df, dg, inverse) = (&df[place..][..pairs], &dg[place..][..pairs], &inverse[place..][..pairs]);
                    let (best, marks) = move_pairs(&mut covariance[lag..][..pairs], df, dg, inverse, row.df, row.dg);
                    row.best = row.best.max(best);
                    if marks & RENEWED != 0 {
                        let marked = (0..pairs).filter(|&pair| inverse[pair] & RENEWED != 0);
                        marked.for_each(|pair| renew(row, covariance, lag + pair));
                    }
                    lag += pairs;
                    place = 0;
                }
            }
            if let Some(entering) = row.entering.filter(|lag| (first..=last).contains(lag)) {
                renew(row, covariance, entering);
            }
            (first.max(row.refresh.0)..=last.min(row.refresh.1)).for_each(|lag| covariance[lag] = anew(lag));
        }
    }
}

/// The inner loop: moves covariances by one row. The greatest `covariance * inverse` of unmarked windows, and the bits of all inverses.
#[inline(always)]
fn move_pairs(covariance: &mut [u32], df: &[u32], dg: &[u32], inverse: &[u32], df_now: f32, dg_now: f32) -> (f32, u32) {
    let mut best = [f32::NEG_INFINITY; PAIR_LANES];
    let mut marks = [0u32; PAIR_LANES];
    let step = |covariance: u32, df: u32, dg: u32| {
        f32::from_bits(covariance) + (df_now * f32::from_bits(dg) + f32::from_bits(df) * dg_now)
    };
    let similarity = |moved: f32, inverse: u32| {
        if inverse & RENEWED == 0 { moved * f32::from_bits(inverse) } else { f32::NEG_INFINITY }
    };
    let whole = covariance.len() / PAIR_LANES * PAIR_LANES;
    let (covariance, covariance_rest) = covariance.split_at_mut(whole);
    for (index, covariance) in covariance.chunks_exact_mut(PAIR_LANES).enumerate() {
        let at = index * PAIR_LANES;
        let (df, dg, inverse) = (&df[at..][..PAIR_LANES], &dg[at..][..PAIR_LANES], &inverse[at..][..PAIR_LANES]);
        let moved = lanes!(PAIR_LANES, lane => step(covariance[lane], df[lane], dg[lane]));
        covariance.iter_mut().zip(moved).for_each(|(covariance, moved)| *covariance = moved.to_bits());
        let similar = lanes!(PAIR_LANES, lane => similarity(moved[lane], inverse[lane]));
        best = lanes!(PAIR_LANES, lane => if similar[lane] > best[lane] { similar[lane] } else { best[lane] });
        marks.iter_mut().zip(inverse).for_each(|(marks, inverse)| *marks |= inverse);
    }
    let mut best = best.into_iter().fold(f32::NEG_INFINITY, |best, other| if other > best { other } else { best });
    let mut marks = marks.into_iter().fold(0, |marks, other| marks | other);
    for (lane, covariance) in covariance_rest.iter_mut().enumerate() {
        let moved = step(*covariance, df[whole + lane], dg[whole + lane]);
        *covariance = moved.to_bits();
        best = best.max(similarity(moved, inverse[whole + lane]));
        marks |= inverse[whole + lane];
    }
    (best, marks)
}

/// The values of the window at `place` from their mean, the newest first as in the rings.
#[inline(always)]
fn centre(high: &[u32], low: &[u32], place: usize, offset: f32, window: usize, out: &mut Vec<f32>) {
    let newest = (f32::from_bits(high[place]), f32::from_bits(low[place]));
    let before_end = window.min(high.len() - place);
    let mut add = |high: &[u32], low: &[u32]| {
        let value = |high: u32, low: u32| centred(f32::from_bits(high), f32::from_bits(low), newest.0, newest.1);
        out.extend(high.iter().zip(low).map(|(&high, &low)| value(high, low) - offset));
    };
    add(&high[place..][..before_end], &low[place..][..before_end]);
    add(&high[..window - before_end], &low[..window - before_end]);
}

/// The product of a window from its mean and another one, from their values. The second is seen from its newest value, which is as good
/// as from its mean, because the first one's differences from its mean add up to nothing.
#[inline(always)]
fn covariance_of(now: &[f32], high: &[u32], low: &[u32], inverse: &[u32], other: usize) -> f32 {
    let origin = (f32::from_bits(high[other]), f32::from_bits(low[other]));
    // Differences of other windows than these are not cut; of one that is not learnt nobody knows.
    let may_be_cut = is_left_out(inverse[other]) || f32::from_bits(inverse[other]) < CUT_INVERSE_MAX;
    let mut sums = [0.0f32; LANES];
    let mut done = 0;
    while done < now.len() {
        let place = (other + done) % high.len();
        let run = (now.len() - done).min(high.len() - place);
        let (now, high, low) = (&now[done..][..run], &high[place..][..run], &low[place..][..run]);
        if may_be_cut {
            for (index, now) in now.iter().enumerate() {
                let then = centred(f32::from_bits(high[index]), f32::from_bits(low[index]), origin.0, origin.1);
                sums[index % LANES] += now * then;
            }
        } else {
            let product = |now: f32, high: u32, low: u32| {
                now * ((f32::from_bits(high) - origin.0) + (f32::from_bits(low) - origin.1))
            };
            let whole = run / LANES * LANES;
            for start in (0..whole).step_by(LANES) {
                let (now, high, low) = (&now[start..][..LANES], &high[start..][..LANES], &low[start..][..LANES]);
                sums = lanes!(LANES, lane => sums[lane] + product(now[lane], high[lane], low[lane]));
            }
            for index in whole..run {
                sums[index - whole] += product(now[index], high[index], low[index]);
            }
        }
        done += run;
    }
    add_lanes(sums)
}
