//! Forecasts by key: what values come next, and how far they may be off.
//!
//! A [`Forecaster`] takes each key's values in order and remembers a fixed number of words of them, whatever comes
//! ([`Forecaster::state_shape`]). From these it forecasts any step up to its horizon, as quantiles. Nothing is trained on a key's values: each row is
//! learnt when it comes, so that the same rows in the same order give the same forecasts however they were cut into batches.
//!
//! What methods share is around them: which season a series has (`season.rs`), which unit it is kept in (`state.rs`), and how far
//! forecasts are off (`interval.rs`). For the last, each row is held against what had been forecast for it from earlier ones, at a
//! horizon of each group of horizons. So intervals come from forecasts as they really are, at the horizon that they are for, and follow
//! the series when it changes.
//!
//! | method | a forecast is |
//! |---|---|
//! | [`Flair`](Method::Flair) | level of the last cycle, shape of the last cycles, a ridge on few lags for each group of horizons; weighed against seven plain guesses by how far off each has been |
//! | [`HoltWinters`](Method::HoltWinters) | level and damped trend, with a season, all exponentially smoothed |
//! | [`SeasonalNaive`](Method::SeasonalNaive) | the value one season ago, or the last one |
//! | [`Conv`](Method::Conv) | what a small network says that was trained on generated series ([`conv_forecast`](crate::conv_forecast)) |
//!
//! The default, for 24 steps ahead and seasons of up to 168 rows, has 938 words a key (3,752 bytes): the last 361 values, what forecasts
//! began from in the last 24 rows, for each of four groups of horizons a regression and the losses of eight experts, and two tables of errors.
//!
//! Of a value that is far off all that was forecast only a part is learnt, unless the series shows that it belongs to it (`outlier.rs`).
//!
//! Values that are missing (NaN) take a place in time: the season goes on, and the expectation stands in for them. They are no error of
//! a forecast. Infinite values are missing ones, and those beyond 1e300 are that.

mod asked;
mod conv;
mod experts;
mod flair;
mod forecaster;
mod holt_winters;
mod interval;
mod outlier;
mod point;
mod ridge;
mod season;
mod state;

#[cfg(test)]
mod accuracy;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

pub use asked::Asked;
pub use forecaster::{Expectation, Forecaster};

use crate::kernel::KernelError;
use serde::{Deserialize, Serialize};

/// The name in errors.
pub const NAME: &str = "forecast";
/// The farthest step ahead.
pub const HORIZON_MAX: u32 = 1024;
/// The longest season, in rows.
pub const SEASON_MAX: u32 = 4096;

/// How values are forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Level, shape and ridge: the default.
    #[default]
    Flair,
    /// Exponential smoothing of level, trend and season.
    HoltWinters,
    /// The value one season ago.
    SeasonalNaive,
    /// A small convolutional network that was trained on generated series.
    Conv,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 4] = [Method::Flair, Method::HoltWinters, Method::SeasonalNaive, Method::Conv];

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Flair => "flair",
            Method::HoltWinters => "holt_winters",
            Method::SeasonalNaive => "seasonal_naive",
            Method::Conv => "conv",
        }
    }

    /// By its name, ignoring case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name().eq_ignore_ascii_case(name))
    }
}

/// Which season is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Season {
    /// None, or the best of these periods, in rows, and of those that the series shows by itself.
    Auto(Vec<u32>),
    /// This period, in rows.
    Fixed(u32),
    /// There is none.
    None,
}

/// What a forecaster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// How values are forecast.
    pub method: Method,
    /// Steps ahead, from 1 to [`HORIZON_MAX`].
    pub horizon: u32,
    /// Which season is looked for.
    pub season: Season,
    /// The longest season that can be found, in rows: two of it are remembered. From 2 to [`SEASON_MAX`].
    pub season_max: u32,
    /// There is no forecast before so many values.
    pub min_training: u32,
}

impl Parameters {
    /// The default forecaster for so many steps ahead: any season up to a week of hours.
    pub fn new(horizon: u32) -> Self {
        Parameters {
            method: Method::Flair,
            horizon,
            season: Season::Auto(vec![24, 168]),
            season_max: 168,
            min_training: 32,
        }
    }

    /// The calendar's periods for rows that are `step_ms` apart, and the longest that is remembered: the day and the week, where they
    /// are a whole number of rows and not more than 336; for rows within minutes the hour.
    pub fn calendar(step_ms: i64) -> (Vec<u32>, u32) {
        const MINUTE: i64 = 60_000;
        let spans = [60 * MINUTE, 24 * 60 * MINUTE, 7 * 24 * 60 * MINUTE];
        let periods: Vec<u32> = spans
            .iter()
            .filter(|span| step_ms > 0 && *span % step_ms == 0)
            .filter_map(|span| u32::try_from(span / step_ms).ok())
            .filter(|period| (4..=336).contains(period))
            .collect();
        let longest = periods.last().copied().unwrap_or(0).max(168);
        (periods, longest)
    }

    fn check(&self) -> Result<(), KernelError> {
        let refuse = |parameter, expected: String, given: String| {
            Err(KernelError::Parameter { kernel: NAME, parameter, expected, given })
        };
        if !(1..=HORIZON_MAX).contains(&self.horizon) {
            return refuse("horizon", format!("from 1 to {HORIZON_MAX} steps"), self.horizon.to_string());
        }
        if !(2..=SEASON_MAX).contains(&self.season_max) {
            return refuse("season_max", format!("from 2 to {SEASON_MAX} rows"), self.season_max.to_string());
        }
        if let Season::Fixed(period) = self.season
            && !(2..=self.season_max).contains(&period)
        {
            return refuse("seasonality", format!("from 2 to {} rows", self.season_max), period.to_string());
        }
        if self.min_training == 0 {
            return refuse("min_training", "at least 1 row".to_string(), "0".to_string());
        }
        Ok(())
    }
}
