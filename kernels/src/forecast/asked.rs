//! Forecasts of many keys, asked for one by one and answered together.
//!
//! What a key says of its next values is in its words, but for the method `conv`, whose network costs more than all the rest and is best
//! asked about many windows at once, on a device if there is one. So a forecast is *asked* for when its key is as it should be: all that
//! the answer depends on is taken along then, and the key may go on. When the network has said what it says of all windows, forecasts are
//! there, in the order in which they were asked for, and the same as if each had been made at once.
//!
//! A horizon beyond the network's steps takes several rounds: what comes next is asked in another window, whose past goes on with the
//! medians of the one before. It does not know how uncertain these are, so its quantiles are no nearer to the median than those of the last
//! step before.

use super::conv;
use super::state::{Key, Unit};
use crate::conv_forecast::{self, FORECAST_NUMBERS, QUANTILES, STEPS, Scale, Seasons, Weights, Windows};

const MEDIAN: usize = QUANTILES / 2;

/// See the module. Made by [`Forecaster::asking`](super::Forecaster::asking).
#[derive(Debug, Default)]
pub struct Asked {
    steps: usize,
    levels: Vec<f64>,
    /// The group of horizons of each step.
    groups: Vec<usize>,
    /// `[forecast][step][level]`
    quantiles: Vec<f64>,
    count: usize,
    /// Those that the network is asked about.
    pending: Vec<Pending>,
    /// `[pending][group][level]`: which surprise of the network's is meant by a level.
    surprises: Vec<f64>,
    /// Of the windows that are asked about.
    scales: Vec<Scale>,
    windows: Windows,
    /// Steps of all that are pending that the network has said.
    done: usize,
}

#[derive(Debug)]
struct Pending {
    /// Which forecast it is.
    index: usize,
    unit: Unit,
    seasons: Seasons,
    /// The values that its windows depend on; only where another one follows.
    history: Vec<f32>,
    /// What was said of the last step.
    last: Option<[f32; QUANTILES]>,
}

impl Asked {
    pub(super) fn new(steps: usize, levels: &[f64], groups: Vec<usize>) -> Self {
        Asked { steps, levels: levels.to_vec(), groups, ..Asked::default() }
    }

    /// How many forecasts were asked for since the last [`clear`](Self::clear).
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A forecast: of each step from 1 to the horizon, the quantile at each level. It is there when
    /// [`next_windows`](Self::next_windows) has no more.
    pub fn quantiles(&self, index: usize) -> &[f64] {
        let width = self.width();
        &self.quantiles[index * width..(index + 1) * width]
    }

    /// Forgets all forecasts.
    pub fn clear(&mut self) {
        self.quantiles.clear();
        self.count = 0;
        debug_assert!(self.pending.is_empty(), "forecasts are waited for");
    }

    /// The windows that the network is to be asked about next, if any; [`answer`](Self::answer) takes what it says, before more is asked
    /// for.
    pub fn next_windows(&mut self) -> Option<Windows> {
        if self.windows.is_empty() {
            return None;
        }
        self.scales.clone_from(&self.windows.scales);
        Some(std::mem::take(&mut self.windows))
    }

    /// What the network says of the windows that were taken last, `[window][STEPS][QUANTILES]` in units of each.
    pub fn answer(&mut self, forecasts: &[f32]) {
        let first = self.done;
        self.done = (first + STEPS).min(self.steps);
        let goes_on = self.done < self.steps;
        let (width, levels, groups) = (self.width(), self.levels.len(), self.group_count());
        let windows = self.scales.iter().zip(forecasts.chunks_exact(FORECAST_NUMBERS));
        for (place, (pending, (scale, forecast))) in self.pending.iter_mut().zip(windows).enumerate() {
            let surprises = &self.surprises[place * groups * levels..][..groups * levels];
            let quantiles = &mut self.quantiles[pending.index * width..][..width];
            let last = pending.last;
            for (ahead, of_network) in (first..).zip(forecast.chunks_exact(QUANTILES)) {
                let median = scale.unscaled(of_network[MEDIAN]);
                let of_step: [f32; QUANTILES] = std::array::from_fn(|level| {
                    let distance = scale.unit * (of_network[level] - of_network[MEDIAN]);
                    let before = last.map_or(0.0, |last| last[level] - last[MEDIAN]);
                    median + if level < MEDIAN { distance.min(before) } else { distance.max(before) }
                });
                if ahead < self.steps {
                    let surprises = &surprises[self.groups[ahead] * levels..][..levels];
                    let step = &mut quantiles[ahead * levels..][..levels];
                    for (value, surprise) in step.iter_mut().zip(surprises) {
                        *value = pending.unit.unscaled(conv::value_of(&of_step, *surprise));
                    }
                    super::forecaster::ascend(step);
                }
                pending.last = Some(of_step);
                if goes_on {
                    pending.history.push(median);
                }
            }
            if goes_on {
                self.windows.push(&pending.history, pending.seasons);
            }
        }
        if !goes_on {
            self.pending.clear();
            self.surprises.clear();
            self.done = 0;
        }
    }

    /// Has the twin answer all.
    pub fn settle(&mut self, weights: &Weights) {
        while let Some(windows) = self.next_windows() {
            self.answer(&conv_forecast::forecast(weights, &windows));
        }
    }

    /// Asks the network about a key as it is now.
    pub(super) fn ask_network(&mut self, key: &mut Key<'_>) {
        debug_assert_eq!(self.done, 0, "answers come before more is asked");
        for group in 0..self.group_count() {
            let ahead = self.groups.iter().position(|of_step| *of_step == group).expect("each group has a step") + 1;
            let surprises = self.levels.iter().map(|level| conv::surprise_of(key, ahead, *level));
            self.surprises.extend(surprises);
        }
        let mut history = Vec::new();
        let seasons = conv::look_back(key, &mut history);
        self.windows.push(&history, seasons);
        if self.steps <= STEPS {
            history = Vec::new();
        }
        self.pending.push(Pending { index: self.count, unit: key.unit(), seasons, history, last: None });
        self.quantiles.resize(self.quantiles.len() + self.width(), 0.0);
        self.count += 1;
    }

    /// Adds a forecast that `make` makes now, step by step; or none, if it cannot make one of them.
    pub(super) fn ask_key(&mut self, mut make: impl FnMut(usize, &[f64], &mut [f64]) -> Option<()>) -> bool {
        let start = self.quantiles.len();
        self.quantiles.resize(start + self.width(), 0.0);
        let steps = self.quantiles[start..].chunks_exact_mut(self.levels.len());
        let made = (1..).zip(steps).all(|(ahead, step)| make(ahead, &self.levels, step).is_some());
        match made {
            true => self.count += 1,
            false => self.quantiles.truncate(start),
        }
        made
    }

    fn width(&self) -> usize {
        self.steps * self.levels.len()
    }

    fn group_count(&self) -> usize {
        self.groups.last().map_or(0, |last| last + 1)
    }
}
