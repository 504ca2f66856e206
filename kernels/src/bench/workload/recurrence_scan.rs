//! `recurrence_scan`: EWMA over many keys and over one, Holt, CUSUM.

use std::sync::Arc;

use super::{KeyedColumns, many_keys};
use crate::bench::case::{Answer, Case, Workload};
use crate::kernel::Kernel;
use crate::recurrence_scan::{Batch, Config, Recurrence, RecurrenceScan};

struct Scan {
    kernel: RecurrenceScan,
    variant: &'static str,
    input: &'static str,
    key_count: fn(usize) -> usize,
}

pub(super) fn add(cases: &mut Vec<Box<dyn Case>>) {
    let mut scan = |variant, input, recurrence, key_count| {
        let kernel = RecurrenceScan::new(Config::new(recurrence)).expect("parameters are in range");
        cases.push(Box::new(Scan { kernel, variant, input, key_count }));
    };
    let ewma = Recurrence::Ewma { half_life: 100.0 };
    let holt = Recurrence::Holt { half_life: 50.0, trend_half_life: 200.0 };
    let cusum = Recurrence::Cusum { half_life: 100.0, drift: 0.5, residual_limit: 8.0 };
    scan("", "EWMA score of one value a row, up to 4,096 keys with 64 rows each or more", ewma, many_keys);
    scan("one-key", "EWMA score of one value a row, one key", ewma, |_| 1);
    scan("holt", "Holt's score of one value a row, up to 4,096 keys with 64 rows each or more", holt, many_keys);
    scan("cusum", "CUSUM of one value a row, up to 4,096 keys with 64 rows each or more", cusum, many_keys);
}

impl Workload for Scan {
    type Kernel = RecurrenceScan;
    type Columns = KeyedColumns;

    fn kernel(&self) -> &RecurrenceScan {
        &self.kernel
    }

    fn variant(&self) -> &'static str {
        self.variant
    }

    fn input(&self) -> &'static str {
        self.input
    }

    fn key_count(&self, rows: usize) -> usize {
        (self.key_count)(rows)
    }

    fn warm_rows(&self) -> usize {
        self.kernel.config().min_training as usize + 1
    }

    fn columns(&self, rows: usize, key_count: usize, seed: u64) -> KeyedColumns {
        KeyedColumns::sensors(rows, key_count, 1, seed)
    }

    fn batch(&self, columns: &KeyedColumns) -> Batch {
        Batch::gather(Arc::new(columns.grouped()), &columns.values[0])
    }

    fn traffic_bytes(&self, batch: &Batch) -> u64 {
        // A value (with what rounding took from it) in and a score out for each row; offsets and state, read and written, for each key.
        let state_words = self.kernel.state_shape().words_per_slot();
        batch.rows().row_count() as u64 * 12 + batch.rows().slots().len() as u64 * (8 + 8 * state_words as u64)
    }

    fn answer(&self, scores: Vec<f32>) -> Answer {
        Answer { floats: scores, ..Answer::default() }
    }
}
