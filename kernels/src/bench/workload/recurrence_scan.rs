//! `recurrence_scan`: EWMA over many keys, and over one.

use std::sync::Arc;

use super::{KeyedColumns, many_keys};
use crate::bench::case::{Answer, Case, Workload};
use crate::kernel::Kernel;
use crate::recurrence_scan::{Batch, Config, RecurrenceScan};

struct Ewma {
    kernel: RecurrenceScan,
    variant: &'static str,
    input: &'static str,
    key_count: fn(usize) -> usize,
}

pub(super) fn add(cases: &mut Vec<Box<dyn Case>>) {
    let kernel = || RecurrenceScan::new(Config::default()).expect("the defaults are in range");
    cases.push(Box::new(Ewma {
        kernel: kernel(),
        variant: "",
        input: "EWMA score of one value a row, up to 4,096 keys with 64 rows each or more",
        key_count: many_keys,
    }));
    cases.push(Box::new(Ewma {
        kernel: kernel(),
        variant: "one-key",
        input: "EWMA score of one value a row, one key",
        key_count: |_| 1,
    }));
}

impl Workload for Ewma {
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
        // A value in and a score out for each row; offsets and state, read and written, for each key.
        let state_words = self.kernel.state_shape().words_per_slot();
        batch.rows().row_count() as u64 * 8 + batch.rows().slots().len() as u64 * (8 + 8 * state_words as u64)
    }

    fn answer(&self, scores: Vec<f32>) -> Answer {
        Answer { floats: scores, ..Answer::default() }
    }
}
