//! `window_distance`: a long history of one key, and shorter ones of some.

use std::sync::Arc;

use super::KeyedColumns;
use crate::bench::case::{Answer, Case, Workload};
use crate::features::{Features, Scores};
use crate::window_distance::{CALIBRATED_HISTORY, DistanceParameters, WindowDistance};

struct Distance {
    kernel: WindowDistance,
    variant: &'static str,
    input: &'static str,
    keys_max: usize,
}

pub(super) fn add(cases: &mut Vec<Box<dyn Case>>) {
    let mut distance = |variant, history, window, keys_max, input| {
        let parameters = DistanceParameters { history, window, ..DistanceParameters::default() };
        let kernel = WindowDistance::new(parameters).expect("the parameters are in range");
        cases.push(Box::new(Distance { kernel, variant, input, keys_max }));
    };
    distance("", CALIBRATED_HISTORY, 32, 64, "windows of 32 rows against 2,048 earlier ones, up to 64 keys");
    distance("10k-history", 10_000, 64, 1, "windows of 64 rows against 10,000 earlier ones, one key");
}

impl Workload for Distance {
    type Kernel = WindowDistance;
    type Columns = KeyedColumns;

    fn kernel(&self) -> &WindowDistance {
        &self.kernel
    }

    fn variant(&self) -> &'static str {
        self.variant
    }

    fn input(&self) -> &'static str {
        self.input
    }

    fn key_count(&self, rows: usize) -> usize {
        (rows / 64).clamp(1, self.keys_max)
    }

    fn warm_rows(&self) -> usize {
        (self.kernel.parameters().history + self.kernel.parameters().window) as usize
    }

    fn columns(&self, rows: usize, key_count: usize, seed: u64) -> KeyedColumns {
        KeyedColumns::sensors(rows, key_count, 1, seed)
    }

    fn batch(&self, columns: &KeyedColumns) -> Features {
        Features::new(Arc::new(columns.grouped()), &[&columns.values[0]])
    }

    fn traffic_bytes(&self, batch: &Features) -> u64 {
        // Every row reads and writes a covariance for each earlier window, and reads three numbers of it.
        batch.rows().row_count() as u64 * u64::from(self.kernel.parameters().history) * 20
    }

    fn answer(&self, scores: Scores) -> Answer {
        Answer { floats: scores.score, ..Answer::default() }
    }
}
