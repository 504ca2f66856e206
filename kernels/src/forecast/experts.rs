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
//! Losses are remembered over a hundred rows, so after a level shift they go on saying what was best before it. What each expert was off by
//! in the last rows, one step ahead, tells sooner: who is off by several times what he usually is off by is distrusted as much. So a forecast
//! of the next row moves from one expert to another within two rows, as *fixed share* does (Herbster & Warmuth, "Tracking the best expert",
//! 1998), without a rate of change that would have to be guessed. Of a longer horizon as many more rows count: a burst may be over by then.
//!
//! Right after a row that surprised all of them nothing tells a spike from a shift, but for what this series did before: what each was off
//! by in the rows after such rows is kept beside. So the second refill of a stock is followed at once, and a spike that comes now and then
//! is never followed.
//!
//! Where experts are apart, the forecast is in doubt: its variance is that of a mixture, what each is off by and what they differ by. So how
//! far apart they are widens the interval of this one forecast, and errors are counted beside it.
//!
//! What is kept of it lies in the method's own words: `medians | losses by group | of the last rows, by group | after surprises | surprises`. A median of all that is remembered is worked out after
//! each eighth row, and as many are kept as forecasts still begin from.

use super::flair::{WINDOW, cycles_of};
use super::state::Key;
use super::{Parameters, Season};

/// How many there are.
pub(super) const EXPERTS: usize = 8;
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
/// The last value, and from there on by what most of the last rows have added: a stock that is drawn from, also right after a refill.
const DRIFT: usize = 7;
/// Rows of [`RECENT`].
const RECENT_ROWS: usize = 5;
/// Rows that [`MOVED`] is moved by.
const MOVED_ROWS: usize = 8;
/// Rows that [`DRIFT`] has its step from, and as many steps at most does it go: no farther than it has been seen.
const DRIFT_ROWS: usize = 7;
/// Rows of [`ALL`], at most,
const ALL_ROWS: usize = 336;
/// and after how many it is worked out anew.
const ALL_EVERY: usize = 8;
/// How fast losses follow errors,
const FORGET: f32 = 0.01;
/// those of the last rows, for the next row,
const FORGET_LATE: f32 = 0.3;
/// for so many more rows with each step to the end of a group,
const LATE_ROWS: f32 = 2.0 / 3.0;
/// and those of rows after a surprise.
const FORGET_AFTER: f32 = 0.2;
/// Who is off by more than so many times what he usually is, is distrusted; where all are, the row is a surprise.
const UNUSUAL: f32 = 4.0;
/// One error counts at most as so many of the group's mean ones.
const ERROR_MAX: f32 = 20.0;
/// So many cycles at most, with three rows of each.
const PHASE_ROWS: usize = 3 * super::flair::CYCLES_MAX;

/// How many medians are kept: of each row that forecasts up to this horizon begin from.
pub(super) fn medians(horizon: usize) -> usize {
    horizon / ALL_EVERY + 2
}

/// The last of [`words`], which have no unit.
pub(super) const PLAIN_WORDS: usize = 2;

/// Words that experts need.
pub(super) fn words(horizon: usize, groups: usize) -> usize {
    medians(horizon) + (2 * groups + 1) * EXPERTS + PLAIN_WORDS
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

/// What experts know after a row, whatever row is forecast.
#[derive(Clone, Copy, Default)]
pub(super) struct Known {
    last: f32,
    recent: f32,
    all: f32,
    step: f32,
}

/// What is known after row `newest`, one of the last `horizon` ones.
pub(super) fn known(key: &mut Key<'_>, newest: usize) -> Known {
    let mut recent = [0; RECENT_ROWS];
    let count = RECENT_ROWS.min(newest + 1);
    for (back, value) in recent[..count].iter_mut().enumerate() {
        *value = ordered(key.value(newest - back));
    }
    let at = median_at(key, newest);
    Known { last: key.value(newest), recent: median(&mut recent[..count]), all: key.own()[at], step: step(key, newest) }
}

/// What each says of row `target` after row `newest`; `regression` is what that says. NaN says nothing: too few rows have come, or there is
/// no longer cycle.
pub(super) fn ask(key: &Key<'_>, known: &Known, newest: usize, target: usize, regression: f32) -> [f32; EXPERTS] {
    let mut said = [regression; EXPERTS];
    said[LAST] = known.last;
    said[RECENT] = known.recent;
    said[ALL] = known.all;
    said[DRIFT] = known.last + known.step * (target - newest).min(DRIFT_ROWS) as f32;
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
    said[MOVED] = moved(key, newest, target, first * period);
    said[LONG] = long_ago(key, newest, target);
    said
}

/// See [`DRIFT`]: the median of the steps between the last rows.
fn step(key: &Key<'_>, newest: usize) -> f32 {
    let mut steps = [0; DRIFT_ROWS];
    let count = DRIFT_ROWS.min(newest);
    if count == 0 {
        return 0.0;
    }
    for (back, step) in steps[..count].iter_mut().enumerate() {
        *step = ordered(key.value(newest - back) - key.value(newest - back - 1));
    }
    median(&mut steps[..count])
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
    match *values {
        [a, b, c] => middle([a, b, c]),
        [a, b, c, d, e] => middle([a, b, c, d, e]),
        [a, b, c, d, e, f, g] => middle([a, b, c, d, e, f, g]),
        _ => from_ordered(*values.select_nth_unstable(values.len() / 2).1),
    }
}

/// The median of a few, sorted without a branch: neighbours by turns.
fn middle<const COUNT: usize>(mut values: [i32; COUNT]) -> f32 {
    for turn in 0..COUNT {
        for index in (turn % 2..COUNT - 1).step_by(2) {
            let (one, other) = (values[index], values[index + 1]);
            (values[index], values[index + 1]) = (one.min(other), one.max(other));
        }
    }
    from_ordered(values[COUNT / 2])
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

/// Losses of the last rows, one step ahead: of as many as matter to a group.
fn late<'a>(key: &'a mut Key<'_>, group: usize) -> &'a mut [f32] {
    let groups = key.shape.groups.len();
    losses(key, groups + group)
}

/// Losses of rows that came after a row that surprised all, one step ahead.
fn after<'a>(key: &'a mut Key<'_>) -> &'a mut [f32] {
    let groups = key.shape.groups.len();
    losses(key, 2 * groups)
}

/// Whether the newest row surprised all, and how many did that another one came after.
fn surprises<'a>(key: &'a mut Key<'_>) -> &'a mut [f32] {
    let own = key.own();
    let at = own.len() - PLAIN_WORDS;
    &mut own[at..]
}

/// By how much each is distrusted at a group after row `newest`: 1 is not at all.
fn distrust(key: &mut Key<'_>, group: usize, newest: usize) -> [f32; EXPERTS] {
    let mut factors = [1.0; EXPERTS];
    let mut usual = [0.0; EXPERTS];
    usual.copy_from_slice(losses(key, 0));
    let is_next = group == 0 && newest + 1 == key.head.rows as usize;
    let off = match surprises(key)[0] > 0.0 {
        true if is_next => after(key),
        // What surprised all says nothing against one of them.
        true => return factors,
        false => late(key, group),
    };
    for (factor, (off, usual)) in factors.iter_mut().zip(off.iter().zip(usual)) {
        let ratio = off / (UNUSUAL * usual);
        // Neither where both are zero.
        if ratio > 1.0 && ratio.is_finite() {
            *factor = ratio;
        }
    }
    factors
}

/// The forecast: what the experts say, each by how little it has been off at this group of horizons, and, as far as the step ahead lies on
/// the side of the group beside, at that one, and whether that is unusual of late. Then how far apart they are: the mean distance from it, by the same weights.
pub(super) fn weigh(key: &mut Key<'_>, group: usize, newest: usize, ahead: usize, said: &[f32; EXPERTS]) -> (f32, f32) {
    let mut all = [0.0; EXPERTS];
    all.copy_from_slice(losses(key, group));
    if let Some((other, share)) = key.beside(group, ahead) {
        for (loss, other) in all.iter_mut().zip(losses(key, other)) {
            *loss += share * (*other - *loss);
        }
    }
    for (loss, factor) in all.iter_mut().zip(distrust(key, group, newest)) {
        *loss *= factor;
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
    // The first errors are those of experts that have seen little: they count less and less.
    let rate = FORGET.max(2.0 / (count + 1.0));
    let error_max = if count > 16.0 && spread > 0.0 { ERROR_MAX * spread } else { f32::MAX };
    for (loss, expert) in losses(key, group).iter_mut().zip(said) {
        let said = if expert.is_nan() { said[REGRESSION] } else { *expert };
        *loss += rate * ((value - said).abs().min(error_max) - *loss);
    }
}

/// Holds what was said one step ahead against what has come, once all groups have learnt of it: whether it is a surprise, and what it says
/// of the rows after one.
pub(super) fn learn_late(key: &mut Key<'_>, said: &[f32; EXPERTS], value: f32) {
    let off = said.map(|expert| (value - if expert.is_nan() { said[REGRESSION] } else { expert }).abs());
    let surprises_all = off.iter().zip(losses(key, 0)).all(|(off, usual)| *off > UNUSUAL * *usual);
    let [surprised, count] = surprises(key) else { unreachable!("there are two words") };
    let came_after = *surprised > 0.0;
    *surprised = f32::from(u8::from(surprises_all));
    if came_after {
        *count += 1.0;
        let rate = FORGET_AFTER.max(1.0 / *count);
        for (loss, off) in after(key).iter_mut().zip(off) {
            *loss += rate * (off - *loss);
        }
    }
    for group in 0..key.shape.groups.len() {
        let steps = (key.shape.groups[group].1 - 1) as f32;
        let rate = 1.0 / (1.0 / FORGET_LATE + LATE_ROWS * steps);
        for (loss, off) in late(key, group).iter_mut().zip(off) {
            *loss += rate * (off - *loss);
        }
    }
}
