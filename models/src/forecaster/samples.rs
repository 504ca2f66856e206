//! What is learnt from: windows of series and what came after them.

use candle_core::{Device, Result, Tensor};
use eagre_kernels::conv_forecast::{
    CANDIDATES, CONTEXT, FEATURES, QUANTILES, STEPS, Seasons, TOKENS, WINDOW_CANDIDATES, WINDOW_NUMBERS, Windows,
};

use super::SeriesSource;
use crate::train::chance::Chance;

/// Windows of one series.
const WINDOWS_PER_SERIES: usize = 4;
/// A series is so long: what a window sees with the longest seasons, what comes after it, and different places for its end.
const ROWS: usize = 2 * SEASON_MAX + CONTEXT + STEPS + 256;
const SEASON_MAX: usize = 336;
/// The fewest values before a forecast.
const HISTORY_MIN: usize = 12;
/// What comes is at most so many units away: one window is not to speak for a hundred.
const TARGET_MAX: f32 = 16.0;

/// Windows, and what came.
pub(super) struct Batch {
    numbers: Tensor,
    candidates: Tensor,
    /// `[windows, STEPS, 1]`, in units of the window.
    targets: Tensor,
}

impl Batch {
    /// So many windows, a multiple of [`WINDOWS_PER_SERIES`], of the series from number `first` on.
    pub(super) fn new(source: SeriesSource<'_>, first: u64, windows: usize, chance: &mut Chance) -> Result<Self> {
        let (mut all, mut targets) = (Windows::new(), Vec::with_capacity(windows * STEPS));
        let mut number = first;
        while all.len() < windows {
            let series = source(number, ROWS);
            number += 1;
            for _ in 0..WINDOWS_PER_SERIES {
                let end = ROWS - STEPS - (chance.uniform() * 256.0) as usize;
                let seasons = told(series.seasons, chance);
                let begin = match chance.uniform() < 0.15 {
                    true => end - HISTORY_MIN - (chance.uniform() * (2 * CONTEXT - HISTORY_MIN) as f64) as usize,
                    false => 0,
                };
                let history = &series.values[begin..end];
                // Nobody finds a season that has not been seen once.
                let seasons = if history.len() < seasons.season { Seasons::default() } else { seasons };
                let recent = &history[history.len().saturating_sub(CONTEXT)..];
                // Of a window that never changes nothing is to be learnt.
                if recent.iter().all(|value| *value == recent[0]) {
                    continue;
                }
                all.push(history, seasons);
                let scale = all.scales[all.len() - 1];
                let scaled = |value: &f32| scale.scaled(*value).clamp(-TARGET_MAX, TARGET_MAX);
                targets.extend(series.values[end..end + STEPS].iter().map(scaled));
                if all.len() == windows {
                    break;
                }
            }
        }
        debug_assert_eq!(all.numbers.len(), windows * WINDOW_NUMBERS);
        debug_assert_eq!(all.candidates.len(), windows * WINDOW_CANDIDATES);
        Ok(Self {
            numbers: Tensor::from_vec(all.numbers, (windows, TOKENS, FEATURES), &Device::Cpu)?,
            candidates: Tensor::from_vec(all.candidates, (windows, STEPS, CANDIDATES), &Device::Cpu)?,
            targets: Tensor::from_vec(targets, (windows, STEPS, 1), &Device::Cpu)?,
        })
    }

    pub(super) fn numbers(&self) -> &Tensor {
        &self.numbers
    }

    pub(super) fn candidates(&self) -> &Tensor {
        &self.candidates
    }

    /// The mean quantile loss of a forecast, `[windows, STEPS, QUANTILES]`.
    pub(super) fn loss(&self, quantiles: &Tensor, levels: &Tensor) -> Result<Tensor> {
        debug_assert_eq!(quantiles.dims()[2], QUANTILES);
        let errors = self.targets.broadcast_sub(quantiles)?;
        let above = errors.relu()?.broadcast_mul(levels)?;
        let below = errors.neg()?.relu()?.broadcast_mul(&(1.0 - levels)?)?;
        (above + below)?.mean_all()
    }
}

/// Which seasons the network is told of: most often the right ones, sometimes none, twice the right one, or another. Who looks for seasons
/// errs, too.
fn told(seasons: Seasons, chance: &mut Chance) -> Seasons {
    let Seasons { season, long } = seasons;
    match chance.uniform() {
        ..0.75 => Seasons { season, long: if chance.uniform() < 0.8 { long } else { 0 } },
        ..0.85 => Seasons::default(),
        ..0.90 if 2 * season <= SEASON_MAX => Seasons { season: 2 * season, long: 0 },
        _ => Seasons { season: 2 + (chance.uniform() * 200.0) as usize, long: 0 },
    }
}
