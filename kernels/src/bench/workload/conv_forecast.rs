//! `conv_forecast`: forecasts of many keys, each an event.

use super::Random;
use crate::bench::case::{Answer, Case, Workload};
use crate::conv_forecast::{
    ConvForecast, FORECAST_NUMBERS, Seasons, WINDOW_CANDIDATES, WINDOW_NUMBERS, Weights, Windows,
};

struct Conv {
    kernel: ConvForecast,
}

/// So many series there are; each key has one of them, from another place on.
const SERIES: usize = 64;
const SEASON: usize = 24;
const SERIES_ROWS: usize = 1024;

pub(super) fn add(cases: &mut Vec<Box<dyn Case>>) {
    cases.push(Box::new(Conv { kernel: ConvForecast::new(Weights::builtin().clone()) }));
}

/// Where each key's newest value is.
pub(super) struct Keys {
    series: Vec<Vec<f32>>,
    /// Series and row.
    newest: Vec<(usize, usize)>,
}

impl Workload for Conv {
    type Kernel = ConvForecast;
    type Columns = Keys;

    fn kernel(&self) -> &ConvForecast {
        &self.kernel
    }

    fn variant(&self) -> &'static str {
        ""
    }

    fn input(&self) -> &'static str {
        "forecasts of 32 steps, 9 quantiles each, of series with a season of 24 rows, a key each"
    }

    fn key_count(&self, rows: usize) -> usize {
        rows
    }

    fn warm_rows(&self) -> usize {
        1
    }

    fn columns(&self, rows: usize, _: usize, seed: u64) -> Keys {
        let mut random = Random::new(seed);
        let series = (0..SERIES)
            .map(|key| {
                let value = |row: usize| {
                    let turn = row as f64 / SEASON as f64 * std::f64::consts::TAU;
                    (10.0 * (turn + key as f64).sin() + random.noise()) as f32
                };
                (0..SERIES_ROWS).map(value).collect()
            })
            .collect();
        let first = Seasons { season: SEASON, long: 0 }.rows_seen();
        let newest = (0..rows).map(|_| (random.below(SERIES), first + random.below(SERIES_ROWS - first))).collect();
        Keys { series, newest }
    }

    fn batch(&self, keys: &Keys) -> Windows {
        let mut windows = Windows::new();
        for (series, newest) in &keys.newest {
            windows.push(&keys.series[*series][..=*newest], Seasons { season: SEASON, long: 0 });
        }
        windows
    }

    fn traffic_bytes(&self, batch: &Windows) -> u64 {
        let numbers = WINDOW_NUMBERS + WINDOW_CANDIDATES + FORECAST_NUMBERS;
        (batch.len() * numbers * 4 + Weights::COUNT * 4) as u64
    }

    fn answer(&self, quantiles: Vec<f32>) -> Answer {
        Answer { floats: quantiles, ..Answer::default() }
    }
}
