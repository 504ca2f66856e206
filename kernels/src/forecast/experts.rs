//! What the default forecaster weighs its regression against: guesses that nothing is estimated for.
//!
//! A level that jumps is where its last value is, a queue that is mostly empty is at its median, traffic at eight is what it was at eight: a
//! regression on a few hundred rows learns that late and never quite. So it is one of several *experts*, and the forecast is their mean, each
//! weighed by how far off it has been of late at this group of horizons, to a power that makes the best ones speak and leaves ties a mean
//! (after Bates & Granger, "The combination of forecasts", 1969; weights that follow losses online: Vovk, "Aggregating strategies", 1990).
//!
//! Groups of horizons are coarse: the last value is a good guess nine steps ahead and a poor one twenty-four ahead. So losses are those of
//! the group at its middle, and a blend of two groups' between their middles.
//!
//! Where experts are apart, the forecast is in doubt: its variance is that of a mixture, what each is off by and what they differ by. So how
//! far apart they are widens the interval of this one forecast, and errors are counted beside it.
//!
//! What is kept of it lies in the method's own words: `medians | losses by group`. A median of all that is remembered is worked out after
//! each eighth row, and as many are kept as forecasts still begin from.

use super::flair::{WINDOW, cycles_of};
use super::state::Key;
use super::{Parameters, Season};

/// How many there are.
pub(super) const EXPERTS: usize = 7;
/// Which of them is the regression.
pub(super) const REGRESSION: usize = 0;
/// The last value.
const LAST: usize = 1;
/// The median of the last values.
const RECENT: usize = 2;
/// The median of the rows of the same phase in earlier cycles, and of the rows beside them.
const PHASE: usize = 3;
/// The median of all that is remembered.
const ALL: usize = 4;
/// The value a cycle ago, moved by what the last rows differ from those of a cycle ago.
const MOVED: usize = 5;
/// The median of three rows around the one a longer cycle ago: the same hour of the same day of last week.
const LONG: usize = 6;
/// Rows of [`RECENT`].
const RECENT_ROWS: usize = 5;
/// Rows that [`MOVED`] is moved by.
const MOVED_ROWS: usize = 8;
/// Rows of [`ALL`], at most,
const ALL_ROWS: usize = 336;
/// and after how many it is worked out anew.
const ALL_EVERY: usize = 8;
/// How fast losses follow errors.
const FORGET: f32 = 0.01;
/// One error counts at most as so many of the group's mean ones.
const ERROR_MAX: f32 = 20.0;
/// So many cycles at most, with three rows of each.
const PHASE_ROWS: usize = 3 * super::flair::CYCLES_MAX;

/// How many medians are kept: of each row that forecasts up to this horizon begin from.
pub(super) fn medians(horizon: usize) -> usize {
    horizon / ALL_EVERY + 2
}

/// Words that experts need.
pub(super) fn words(horizon: usize, groups: usize) -> usize {
    medians(horizon) + groups * EXPERTS
}

/// The rows between values that are compared while no season is found: the day, where the calendar says what it is.
pub(super) fn phase_period(parameters: &Parameters) -> usize {
    let Season::Auto(calendar) = &parameters.season else { return WINDOW };
    let periods = calendar.iter().copied().filter(|period| (WINDOW as u32..=parameters.season_max).contains(period));
    periods.min().map_or(WINDOW, |period| period as usize)
}

/// A longer period of the calendar, a multiple of that one; 0 if there is none.
pub(super) fn long_period(parameters: &Parameters) -> usize {
    let Season::Auto(calendar) = &parameters.season else { return 0 };
    let short = phase_period(parameters);
    let periods = calendar.iter().filter(|period| **period <= parameters.season_max).map(|period| *period as usize);
    periods.filter(|period| *period > short && period.is_multiple_of(short)).max().unwrap_or(0)
}

/// Takes in the newest row, which has been pushed.
pub(super) fn remember(key: &mut Key<'_>, scratch: &mut Vec<i32>) {
    let rows = key.head.rows as usize;
    let newest = rows - 1;
    if !newest.is_multiple_of(ALL_EVERY) {
        return;
    }
    let (one, two) = key.run(rows - key.held().min(ALL_ROWS), rows);
    scratch.clear();
    scratch.extend(one.iter().chain(two).map(|value| ordered(*value)));
    let median = median(scratch);
    let at = median_at(key, newest);
    key.own()[at] = median;
}

fn median_at(key: &Key<'_>, row: usize) -> usize {
    let count = key.shape.own_levels.map_or(1, |(count, _)| count);
    row / ALL_EVERY % count
}

/// What each says of row `target` after row `newest`, one of the last `horizon` ones; `regression` is what that says. NaN says nothing: too
/// few rows have come, or there is no longer cycle.
pub(super) fn ask(key: &mut Key<'_>, newest: usize, target: usize, regression: f32) -> [f32; EXPERTS] {
    let mut said = [regression; EXPERTS];
    said[LAST] = key.value(newest);
    let mut recent = [0; RECENT_ROWS];
    let count = RECENT_ROWS.min(newest + 1);
    for (back, value) in recent[..count].iter_mut().enumerate() {
        *value = ordered(key.value(newest - back));
    }
    said[RECENT] = median(&mut recent[..count]);
    let period = if key.head.season > 0 { key.head.season as usize } else { key.shape.phase_period };
    let first = (target - newest).div_ceil(period);
    let mut phase = [0; PHASE_ROWS];
    let mut found = 0;
    for back in first..first + cycles_of(key, newest + 1, period) {
        let Some(row) = target.checked_sub(back * period) else { break };
        for row in [row.saturating_sub(1), row, (row + 1).min(newest)] {
            phase[found] = ordered(key.value(row));
            found += 1;
        }
    }
    if found > 0 {
        said[PHASE] = median(&mut phase[..found]);
    }
    let at = median_at(key, newest);
    said[ALL] = key.own()[at];
    said[MOVED] = moved(key, newest, target, first * period);
    said[LONG] = long_ago(key, newest, target);
    said
}

/// See [`MOVED`]; `back` rows are the cycles from the row that shows to the target.
fn moved(key: &Key<'_>, newest: usize, target: usize, back: usize) -> f32 {
    let rows = newest + 1;
    let Some(before) = rows.checked_sub(back + MOVED_ROWS) else { return f32::NAN };
    if target - before > key.shape.ring {
        return f32::NAN;
    }
    key.value(target - back) + key.mean(rows - MOVED_ROWS, rows) - key.mean(before, before + MOVED_ROWS)
}

/// See [`LONG`].
fn long_ago(key: &Key<'_>, newest: usize, target: usize) -> f32 {
    let long = if key.head.long > 0 { key.head.long as usize } else { key.shape.long_period };
    if long == 0 {
        return f32::NAN;
    }
    let back = (target - newest).div_ceil(long) * long;
    let Some(row) = target.checked_sub(back) else { return f32::NAN };
    if back + 2 > key.shape.ring {
        return f32::NAN;
    }
    let mut around = [row.saturating_sub(1), row, (row + 1).min(newest)].map(|row| ordered(key.value(row)));
    median(&mut around)
}

/// The greater one of the middle, where there are two.
fn median(values: &mut [i32]) -> f32 {
    let middle = values.len() / 2;
    from_ordered(*values.select_nth_unstable(middle).1)
}

/// A number as an integer that orders as it does: integers are compared in one step.
fn ordered(value: f32) -> i32 {
    let bits = value.to_bits() as i32;
    bits ^ (bits >> 31 & i32::MAX)
}

fn from_ordered(ordered: i32) -> f32 {
    f32::from_bits((ordered ^ (ordered >> 31 & i32::MAX)) as u32)
}

fn losses<'a>(key: &'a mut Key<'_>, group: usize) -> &'a mut [f32] {
    let medians = key.shape.own_levels.map_or(0, |(count, _)| count);
    &mut key.own()[medians + group * EXPERTS..][..EXPERTS]
}

/// The forecast: what the experts say, each by how little it has been off at this group of horizons, and, as far as the step ahead lies on
/// the side of the group beside, at that one. Then how far apart they are: the mean distance from it, by the same weights.
pub(super) fn weigh(key: &mut Key<'_>, group: usize, ahead: usize, said: &[f32; EXPERTS]) -> (f32, f32) {
    let mut all = [0.0; EXPERTS];
    all.copy_from_slice(losses(key, group));
    if let Some((other, share)) = key.beside(group, ahead) {
        for (loss, other) in all.iter_mut().zip(losses(key, other)) {
            *loss += share * (*other - *loss);
        }
    }
    let spoken = || all.iter().zip(said).filter(|(_, said)| !said.is_nan());
    let best = spoken().map(|(loss, _)| *loss).fold(f32::MAX, f32::min);
    if best <= 0.0 {
        // Without any error, or nothing is known yet: the first of those.
        return (spoken().find(|(loss, _)| **loss <= 0.0).map_or(said[REGRESSION], |(_, said)| *said), 0.0);
    }
    let mut weights = [0.0f32; EXPERTS];
    let (mut sum, mut total) = (0.0, 0.0);
    for (weight, (loss, said)) in weights.iter_mut().zip(all.iter().zip(said)) {
        if said.is_nan() {
            continue;
        }
        let ratio = best / loss;
        let power = (ratio * ratio) * (ratio * ratio);
        *weight = power * power;
        sum += *weight * said;
        total += *weight;
    }
    let mean = sum / total;
    let apart: f32 = weights
        .iter()
        .zip(said)
        .filter(|(_, said)| !said.is_nan())
        .map(|(weight, said)| weight * (said - mean).abs())
        .sum();
    (mean, apart / total)
}

/// Holds what was said against what has come. Who said nothing is off as the regression is, so that he begins as one of its size.
pub(super) fn learn(key: &mut Key<'_>, group: usize, said: &[f32; EXPERTS], value: f32) {
    let of_group = key.group(group);
    let (count, spread) = (*of_group.count, *of_group.spread);
    let rate = FORGET.max(1.0 / count.max(1.0));
    let error_max = if count > 16.0 && spread > 0.0 { ERROR_MAX * spread } else { f32::MAX };
    for (loss, expert) in losses(key, group).iter_mut().zip(said) {
        let said = if expert.is_nan() { said[REGRESSION] } else { *expert };
        *loss += rate * ((value - said).abs().min(error_max) - *loss);
    }
}
