//! `half_space_forest`: forests of two sizes over eight features, one model for each of some keys.

use std::sync::Arc;

use super::KeyedColumns;
use crate::bench::case::{Answer, Case, Workload};
use crate::features::{Features, Scores};
use crate::half_space_forest::{ForestParameters, HalfSpaceForest};

const FEATURES: u32 = 8;
/// Keys share the rows; a model of its own for each of thousands would take gigabytes.
const KEYS_MAX: usize = 64;

struct Forest {
    kernel: HalfSpaceForest,
    variant: &'static str,
    input: &'static str,
}

pub(super) fn add(cases: &mut Vec<Box<dyn Case>>) {
    let mut forest = |variant, trees, depth, window, input| {
        let parameters = ForestParameters { features: FEATURES, trees, depth, window, ..ForestParameters::default() };
        let kernel = HalfSpaceForest::new(parameters).expect("the parameters are in range");
        cases.push(Box::new(Forest { kernel, variant, input }));
    };
    forest("", 25, 8, 256, "25 trees of depth 8 over 8 features, up to 64 keys with a model each");
    forest("100x12", 100, 12, 4096, "100 trees of depth 12 over 8 features, up to 64 keys with a model each");
}

impl Workload for Forest {
    type Kernel = HalfSpaceForest;
    type Columns = KeyedColumns;

    fn kernel(&self) -> &HalfSpaceForest {
        &self.kernel
    }

    fn variant(&self) -> &'static str {
        self.variant
    }

    fn input(&self) -> &'static str {
        self.input
    }

    fn key_count(&self, rows: usize) -> usize {
        (rows / 256).clamp(1, KEYS_MAX)
    }

    fn warm_rows(&self) -> usize {
        self.kernel.parameters().warm_up_rows() as usize + 1
    }

    fn columns(&self, rows: usize, key_count: usize, seed: u64) -> KeyedColumns {
        KeyedColumns::sensors(rows, key_count, FEATURES as usize, seed)
    }

    fn batch(&self, columns: &KeyedColumns) -> Features {
        let values: Vec<&[f64]> = columns.values.iter().map(Vec::as_slice).collect();
        Features::new(Arc::new(columns.grouped()), &values)
    }

    fn traffic_bytes(&self, batch: &Features) -> u64 {
        // Features in two parts in and a score out, and for each tree the leaf's word, read and written.
        let rows = batch.rows().row_count() as u64;
        rows * (u64::from(FEATURES) * 8 + 4 + u64::from(self.kernel.parameters().trees) * 8)
    }

    fn answer(&self, scores: Scores) -> Answer {
        Answer { floats: scores.score, ..Answer::default() }
    }
}
