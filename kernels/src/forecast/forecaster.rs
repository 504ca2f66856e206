//! The face: keys by slot, rows in, forecasts out.

use super::asked::Asked;
use super::interval::{GROWTH, GROWTH_PLAIN};
use super::point::{Begin, phase_of, point, spread_factor};
use super::season::{self, Scratch};
use super::state::{Key, Origin, Shape};
use super::{Method, Parameters, Season, conv, experts, flair, holt_winters, outlier};
use crate::conv_forecast::ConvForecast;
use crate::kernel::KernelError;
use crate::rows::GroupedRows;
use crate::state::{Layout, StatePages, StateShape};

/// Values of greater magnitude are taken to be this.
const VALUE_MAX: f64 = 1e300;
/// Values of greater magnitude in a key's unit are as far off as can be.
const SCALED_MAX: f32 = 1e30;
/// Seasons are looked for from so many rows on.
const CHECK_FIRST: u64 = 16;
/// How fast spreads follow errors.
const SPREAD: f32 = 0.01;
/// The same of plain methods.
const SPREAD_PLAIN: f32 = 1.0 / 64.0;
/// How fast parts of a season learn how far errors spread in them.
const PHASE_SPREAD: f32 = 1.0 / 32.0;
/// How fast unrest follows errors.
const UNREST: f32 = 0.1;
/// A group of horizons borrows from the one before until it has seen so many errors.
pub(super) const ERRORS_MIN: f32 = 6.0;

/// What was expected of the next row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expectation {
    /// The median.
    pub expected: f64,
    /// The quantile at the lower level.
    pub lower: f64,
    /// The quantile at the upper level.
    pub upper: f64,
}

/// Forecasts by key. See the [module](super).
#[derive(Debug)]
pub struct Forecaster {
    parameters: Parameters,
    shape: Shape,
    state: StatePages,
    scratch: Scratch,
    /// Of the method `conv`.
    network: Option<conv::Network>,
}

impl Forecaster {
    /// No key yet.
    ///
    /// # Errors
    /// Parameters out of range.
    pub fn new(parameters: Parameters) -> Result<Self, KernelError> {
        parameters.check()?;
        let shape = shape_of(&parameters);
        let state = StatePages::new(state_shape(&shape));
        let network = (parameters.method == Method::Conv).then(conv::Network::new);
        Ok(Forecaster { parameters, shape, state, scratch: Scratch::default(), network })
    }

    /// What it is.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The words of a key.
    pub fn state_shape(&self) -> &StateShape {
        self.state.shape()
    }

    /// Says what the words of a state mean: those of another layout cannot be read.
    pub fn state_layout(&self) -> String {
        let Parameters { method, horizon, season, season_max, min_training } = &self.parameters;
        let season = match season {
            Season::Auto(periods) => format!("auto{periods:?}"),
            Season::Fixed(period) => period.to_string(),
            Season::None => "none".to_string(),
        };
        let version = if *method == Method::Flair { 5 } else { 3 };
        format!(
            "forecast/{version} {} horizon={horizon} season={season} season_max={season_max} from={min_training}",
            method.name()
        )
    }

    /// How many rows back a key is remembered.
    pub fn rows_remembered(&self) -> u32 {
        self.shape.ring as u32
    }

    /// Makes sure that slots below `slot_count` are there.
    pub fn grow(&mut self, slot_count: usize) {
        self.state.grow(slot_count);
    }

    /// Bytes of state.
    pub fn bytes(&self) -> usize {
        self.state.bytes()
    }

    /// Appends the words of a key's state.
    pub fn read_slot(&self, slot: u32, words: &mut Vec<u32>) {
        words.extend(self.state.slot(slot));
    }

    /// Sets the words of keys, `words_per_slot` for each.
    pub fn load(&mut self, slots: &[u32], words: &[u32]) {
        self.grow(slots.iter().max().map_or(0, |last| *last as usize + 1));
        for (slot, words) in slots.iter().zip(words.chunks_exact(self.state.shape().words_per_slot())) {
            self.state.set_slot(*slot, words);
        }
    }

    /// Learns rows; `values[r]` belongs to row `r` before grouping, NaN if it is missing.
    pub fn learn(&mut self, rows: &GroupedRows, values: &[f64]) {
        self.grow(rows.slots().last().map_or(0, |last| *last as usize + 1));
        for (slot, range) in rows.groups() {
            for row in &rows.order()[range] {
                self.learn_row(slot, values[*row as usize]);
            }
        }
        self.settle();
    }

    /// Learns one row of a key; nothing happens if the key is not there.
    pub fn learn_one(&mut self, slot: u32, value: f64) {
        self.learn_row(slot, value);
        self.settle();
    }

    /// Learns one row of a key as [`learn_one`](Self::learn_one) does, but what the network is to say after it may wait until
    /// [`settle`](Self::settle), so that it is asked about many keys at once. Between two calls of that a key's rows follow each other.
    pub fn learn_later(&mut self, slot: u32, value: f64) {
        self.learn_row(slot, value);
    }

    /// Learns a row; what the network says after it may wait until [`Self::settle`].
    fn learn_row(&mut self, slot: u32, value: f64) {
        if self.network.as_ref().is_some_and(|network| network.waits(slot)) {
            self.settle();
        }
        let Some(mut key) = key(&self.shape, &mut self.state, slot) else { return };
        let rows = key.head.rows;
        learn(&self.parameters, &mut key, value, &mut self.scratch);
        let many = match &mut self.network {
            Some(network) if key.head.rows > rows => network.begin(&mut key, slot, self.parameters.horizon as usize),
            _ => false,
        };
        key.store();
        if many {
            self.settle();
        }
    }

    /// Asks the network what waits for it.
    pub fn settle(&mut self) {
        let Some(network) = self.network.as_mut().filter(|network| !network.is_idle()) else { return };
        let (shape, state, horizon) = (&self.shape, &mut self.state, self.parameters.horizon as usize);
        network.settle(|slot, newest, quantiles| {
            let mut key = key(shape, state, slot).expect("a key that has learnt a row is there");
            conv::keep(&mut key, horizon, newest, quantiles);
            key.store();
        });
    }

    /// What is expected of the key's next row, at two levels around the median; `None` as long as there is no forecast.
    ///
    /// So a row's residual is its value less `expected`, asked for before the row is [learnt](Self::learn_one).
    pub fn expect(&mut self, slot: u32, lower: f64, upper: f64) -> Option<Expectation> {
        let mut key = key(&self.shape, &mut self.state, slot)?;
        if !ready(&self.parameters, &key) {
            return None;
        }
        let (levels, mut values) = ([lower, 0.5, upper], [0.0; 3]);
        if let Some(network) = &self.network {
            let mut asked = Asked::new(1, &levels, vec![0]);
            asked.ask_network(&mut key);
            asked.settle(network.weights());
            values.copy_from_slice(asked.quantiles(0));
        } else {
            let begin = Begin::newest(self.parameters.method, &mut key);
            forecast_step(&self.parameters, &mut key, &begin, 1, &levels, &mut values)?;
        }
        let [lower, expected, upper] = values;
        Some(Expectation { expected, lower, upper })
    }

    /// Appends the forecast of a key: for each step from 1 to the horizon, its quantile at each of `levels`, which ascend and lie between
    /// 0 and 1. False, and nothing appended, as long as there is none.
    pub fn forecast(&mut self, slot: u32, levels: &[f64], quantiles: &mut Vec<f64>) -> bool {
        let mut asked = self.asking(levels);
        if !self.ask(slot, &mut asked) {
            return false;
        }
        if let Some(network) = &self.network {
            asked.settle(network.weights());
        }
        quantiles.extend_from_slice(asked.quantiles(0));
        true
    }

    /// For forecasts of many keys at these levels, as [`forecast`](Self::forecast) has them.
    pub fn asking(&self, levels: &[f64]) -> Asked {
        let horizon = self.parameters.horizon as usize;
        Asked::new(horizon, levels, (1..=horizon).map(|ahead| self.shape.group_of(ahead)).collect())
    }

    /// Asks for the forecast of a key as it is now, at the levels of `asked`. False as long as there is none.
    pub fn ask(&mut self, slot: u32, asked: &mut Asked) -> bool {
        let Some(mut key) = key(&self.shape, &mut self.state, slot) else { return false };
        if !ready(&self.parameters, &key) {
            return false;
        }
        if self.network.is_some() {
            asked.ask_network(&mut key);
            return true;
        }
        let parameters = &self.parameters;
        let begin = Begin::newest(parameters.method, &mut key);
        asked.ask_key(|ahead, levels, step| forecast_step(parameters, &mut key, &begin, ahead, levels, step))
    }

    /// The kernel that answers what is asked, if one does: of the method `conv`.
    pub fn kernel(&self) -> Option<ConvForecast> {
        self.network.as_ref().map(|network| ConvForecast::new(network.weights().clone()))
    }

    /// The season that a key's values have now, in rows.
    pub fn season(&mut self, slot: u32) -> Option<u32> {
        let season = key(&self.shape, &mut self.state, slot)?.head.season;
        (season > 0).then_some(season)
    }

    /// The forecast of a key before what errors say of it.
    #[cfg(test)]
    pub(super) fn points(&mut self, slot: u32) -> Vec<f64> {
        let mut key = key(&self.shape, &mut self.state, slot).expect("the key is there");
        let begin = Begin::newest(self.parameters.method, &mut key);
        let steps = 1..=self.parameters.horizon as usize;
        let step = |ahead: usize| {
            let group = key.shape.group_of(ahead);
            let scaled = point(self.parameters.method, &mut key, group, &begin, begin.newest + ahead).point;
            key.unscaled(f64::from(scaled))
        };
        steps.map(step).collect()
    }
}

/// The words of a key, to be worked on where they are; `None` if it is not there.
fn key<'a>(shape: &'a Shape, state: &'a mut StatePages, slot: u32) -> Option<Key<'a>> {
    if slot as usize >= state.slot_count() {
        return None;
    }
    let (per_page, words) = (state.shape().slots_per_page(), shape.words());
    let at = slot as usize % per_page * words;
    Some(Key::new(shape, &mut state.page_mut(slot as usize / per_page)[at..at + words]))
}

fn shape_of(parameters: &Parameters) -> Shape {
    let (horizon, season_max) = (parameters.horizon as usize, parameters.season_max as usize);
    match parameters.method {
        Method::HoltWinters => {
            let mut shape =
                Shape::new(horizon, season_max, holt_winters::words(season_max), Some(holt_winters::LEVELS));
            shape.tables = shape.groups.len();
            shape
        }
        Method::Flair => {
            let mut shape = Shape::new(horizon, season_max, 0, None);
            shape.own = experts::words(horizon, shape.groups.len());
            shape.own_levels = Some((experts::medians(horizon), 1));
            shape.own_plain = experts::PLAIN_WORDS;
            shape.phase_period = experts::phase_period(parameters);
            shape.long_period = experts::long_period(parameters);
            shape
        }
        Method::SeasonalNaive => {
            let mut shape = Shape::new(horizon, season_max, 0, None);
            shape.tables = shape.groups.len();
            shape
        }
        Method::Conv => {
            let mut shape = Shape::new(horizon, season_max, 0, None);
            shape.ring = shape.ring.max(conv::rows_seen(season_max));
            // All of its words are values.
            shape.own = conv::words(horizon, shape.groups.len());
            shape.own_levels = Some((shape.own, 1));
            shape.errors_have_unit = false;
            shape.tables = shape.groups.len();
            shape
        }
    }
}

/// Pages of 1 MiB: a query with few keys does not hold a large one.
fn state_shape(shape: &Shape) -> StateShape {
    StateShape::new(vec![0; shape.words()], Layout::SlotMajor).with_page_bytes(1 << 20)
}

/// Whether there is enough to forecast from.
fn ready(parameters: &Parameters, key: &Key<'_>) -> bool {
    key.head.values >= parameters.min_training
}

/// The same on each machine, spread over all numbers.
pub(super) fn mix(row: u32, salt: u32) -> u32 {
    let mut word = row.wrapping_mul(0x9e37_79b9) ^ salt.wrapping_mul(0x85eb_ca6b);
    word = (word ^ word >> 16).wrapping_mul(0x7feb_352d);
    word = (word ^ word >> 15).wrapping_mul(0x846c_a68b);
    word ^ word >> 16
}

fn forecast_step(
    parameters: &Parameters,
    key: &mut Key<'_>,
    begin: &Begin,
    ahead: usize,
    levels: &[f64],
    out: &mut [f64],
) -> Option<()> {
    let group = key.shape.group_of(ahead);
    let target = begin.newest + ahead;
    let said = point(parameters.method, key, group, begin, target);
    let mut source = group;
    while source > 0 && key.spread(source).1 < ERRORS_MIN {
        source -= 1;
    }
    if key.spread(source).1 < ERRORS_MIN {
        return None;
    }
    // Errors of fewer steps ahead, as if they added up.
    let wider = (ahead as f32 / key.shape.groups[source].1.min(ahead) as f32).sqrt();
    let factor =
        spread_factor(key, group, &begin.origin, (ahead, target), said.apart) * wider * key.beside_table(source);
    let span = key.shape.groups[source].1;
    for (value, level) in out.iter_mut().zip(levels) {
        let error = key.group(source).errors.quantile(*level as f32, span) * factor;
        *value = key.unscaled(f64::from(said.point) + f64::from(error));
    }
    ascend(out);
    Some(())
}

/// Rounding may have turned two that are equal.
pub(super) fn ascend(quantiles: &mut [f64]) {
    for index in 1..quantiles.len() {
        quantiles[index] = quantiles[index].max(quantiles[index - 1]);
    }
}

fn learn(parameters: &Parameters, key: &mut Key<'_>, value: f64, scratch: &mut Scratch) {
    if !value.is_finite() {
        if key.head.values > 0 {
            missing(parameters, key, scratch);
        }
        return;
    }
    let value = value.clamp(-VALUE_MAX, VALUE_MAX);
    let scaled = key.scaled(value).clamp(-SCALED_MAX, SCALED_MAX);
    let learnt = outlier::learnt(parameters.method, key, scaled);
    let value = if learnt == scaled { value } else { key.unscaled(f64::from(learnt)) };
    key.make_room(value);
    let scaled = key.scaled(value);
    match parameters.method {
        Method::Conv => conv::judge(key, parameters.horizon as usize, scaled),
        _ => judge(parameters, key, scaled),
    }
    key.head.values = key.head.values.saturating_add(1);
    advance(parameters, key, scaled, scratch);
}

/// The expectation stands in for a value that is missing.
fn missing(parameters: &Parameters, key: &mut Key<'_>, scratch: &mut Scratch) {
    let newest = key.head.rows as usize - 1;
    let origin = key.newest_origin();
    let expected = match parameters.method {
        Method::Flair => flair::features(key, &origin, newest, newest + 1).0,
        method => {
            let begin = Begin::new(method, key, origin, newest);
            point(method, key, 0, &begin, newest + 1).point
        }
    };
    advance(parameters, key, expected, scratch);
}

/// Holds a value against what was forecast for it, at one horizon of each group.
fn judge(parameters: &Parameters, key: &mut Key<'_>, value: f32) {
    let target = key.head.rows as usize;
    let since = key.head.since as usize;
    let mut one_step = None;
    for group in 0..key.shape.groups.len() {
        let (first, last) = key.shape.groups[group];
        let stride = key.shape.stride;
        let ahead = first + mix(target as u32, group as u32) as usize % (last - first + 1);
        let Some(mut newest) = target.checked_sub(ahead) else { continue };
        let origin = if ahead == 1 {
            key.newest_origin()
        } else {
            newest -= newest % stride;
            if target - newest > last {
                continue;
            }
            key.origin(newest)
        };
        if newest < since {
            continue;
        }
        let begin = Begin::new(parameters.method, key, origin, newest);
        let said = point(parameters.method, key, group, &begin, target);
        let error = value - said.point;
        let factor = spread_factor(key, group, &origin, (target - newest, target), said.apart);
        let factor = factor * key.beside_table(group);
        let even = (mix(target as u32, 64 + group as u32) >> 8) as f32 / (1u32 << 24) as f32;
        let of_group = key.group(group);
        let spread = *of_group.spread;
        *of_group.count += 1.0;
        // The first errors are those of a forecaster that knows nothing yet: they count less and less.
        let rate =
            if parameters.method == Method::Flair { SPREAD } else { SPREAD_PLAIN }.max(2.0 / (*of_group.count + 1.0));
        // One error may at most make the spread grow by a third or so.
        let magnitude =
            if *of_group.count > 16.0 && spread > 0.0 { error.abs().min(20.0 * spread) } else { error.abs() };
        *of_group.spread += rate * (magnitude - spread);
        let mut errors = of_group.errors;
        // What a plain method does not see, such as a trend that begins, its levels have to follow at once, at each horizon by itself.
        errors.learn(error / factor, if parameters.method == Method::Flair { last } else { 1 }, even);
        if parameters.method == Method::Flair {
            if group == 0 {
                one_step = Some(said.experts);
            }
            experts::learn(key, group, &said.experts, value);
            flair::learn(key, group, said.base, &said.features, value, value - said.experts[experts::REGRESSION]);
        }
        if group == 0 && spread > 0.0 {
            key.head.unrest += UNREST * ((error.abs() / spread).min(4.0) - 1.0 - key.head.unrest);
        }
        if group == 0 && spread > 0.0 {
            let learnt = phase_of(key, target);
            *learnt += PHASE_SPREAD * ((error.abs() / spread).min(4.0) - 1.0 - *learnt);
        }
    }
    if let Some(experts) = one_step {
        experts::learn_late(key, &experts, value);
    }
    for table in 0..key.shape.tables {
        let counts = key.shape.sharing(table).map(|group| key.spread(group).1);
        let count = counts.fold(0.0, f32::max);
        let growth = if parameters.method == Method::Flair { GROWTH } else { GROWTH_PLAIN };
        key.group(table).errors.age(count, growth);
    }
    if parameters.method == Method::Flair {
        for group in 0..key.shape.groups.len() {
            let (_, last) = key.shape.groups[group];
            if target % last == group % last {
                flair::solve(key, group);
            }
        }
    }
}

/// Appends a value, and what forecasts begin from after it.
fn advance(parameters: &Parameters, key: &mut Key<'_>, value: f32, scratch: &mut Scratch) {
    key.push(value);
    find_season(parameters, key, scratch);
    if parameters.method == Method::Flair {
        experts::remember(key, &mut scratch.ordered);
    }
    let mut origin = match parameters.method {
        Method::Flair => flair::origin(key, true),
        Method::HoltWinters => holt_winters::learn(key),
        Method::SeasonalNaive | Method::Conv => Origin::default(),
    };
    origin.unrest = key.head.unrest;
    key.set_newest_origin(origin);
    let newest = key.head.rows as usize - 1;
    if newest.is_multiple_of(key.shape.stride) {
        key.set_origin(newest, origin);
    }
}

fn find_season(parameters: &Parameters, key: &mut Key<'_>, scratch: &mut Scratch) {
    let rows = key.head.rows;
    let calendar: &[u32] = match &parameters.season {
        Season::None => return,
        Season::Fixed(period) => {
            if key.head.season == 0 && rows >= u64::from(*period) {
                change_season(parameters, key, *period, 0);
            }
            return;
        }
        Season::Auto(calendar) => calendar,
    };
    if rows < key.head.check.max(CHECK_FIRST) {
        return;
    }
    let season_max = parameters.season_max;
    key.head.check = rows + (rows / 4).clamp(8, u64::from(season_max / 2).max(8));
    let first = rows as usize - key.held().min(2 * season_max as usize);
    let (one, two) = key.run(first, rows as usize);
    scratch.values.clear();
    scratch.values.extend_from_slice(one);
    scratch.values.extend_from_slice(two);
    let season = season::find(scratch, calendar, season_max as usize, key.head.season);
    let long = calendar
        .iter()
        .copied()
        .filter(|long| season > 0 && *long > season && long.is_multiple_of(season))
        .max()
        .unwrap_or(0);
    if (season, long) != (key.head.season, key.head.long) {
        change_season(parameters, key, season, long);
    }
}

fn change_season(parameters: &Parameters, key: &mut Key<'_>, season: u32, long: u32) {
    (key.head.season, key.head.long) = (season, long);
    let rows = key.head.rows as usize;
    key.head.since = key.head.rows - 1;
    key.phases().fill(0.0);
    match parameters.method {
        Method::Flair => flair::restart(key),
        Method::HoltWinters => {
            let cycle: Vec<f32> = match season as usize {
                0 => Vec::new(),
                period => {
                    let level = key.mean(rows - period, rows);
                    let mut cycle = vec![0.0; period];
                    for row in rows - period..rows {
                        cycle[row % period] = key.value(row) - level;
                    }
                    cycle
                }
            };
            holt_winters::restart(key, &cycle);
        }
        Method::SeasonalNaive | Method::Conv => {}
    }
}
