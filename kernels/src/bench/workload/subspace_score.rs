//! `subspace_score`: principal components of windows, and centres of them, for many keys.

use std::sync::Arc;

use super::{KeyedColumns, many_keys};
use crate::bench::case::{Answer, Case, Workload};
use crate::features::{Features, Scores};
use crate::kernel::Kernel;
use crate::subspace_score::{Model, SubspaceParameters, SubspaceScore};

struct Subspace {
    kernel: SubspaceScore,
    variant: &'static str,
    input: &'static str,
}

pub(super) fn add(cases: &mut Vec<Box<dyn Case>>) {
    let mut subspace = |variant, model, components, input| {
        let parameters = SubspaceParameters { model, components, ..SubspaceParameters::default() };
        let kernel = SubspaceScore::new(parameters).expect("the parameters are in range");
        cases.push(Box::new(Subspace { kernel, variant, input }));
    };
    subspace("", Model::Subspace, 4, "4 components of windows of 32 rows, up to 4,096 keys with 64 rows each or more");
    subspace(
        "centroids",
        Model::Centroids,
        16,
        "16 centres of windows of 32 rows, up to 4,096 keys with 64 rows each or more",
    );
}

impl Workload for Subspace {
    type Kernel = SubspaceScore;
    type Columns = KeyedColumns;

    fn kernel(&self) -> &SubspaceScore {
        &self.kernel
    }

    fn variant(&self) -> &'static str {
        self.variant
    }

    fn input(&self) -> &'static str {
        self.input
    }

    fn key_count(&self, rows: usize) -> usize {
        many_keys(rows)
    }

    fn warm_rows(&self) -> usize {
        (self.kernel.parameters().min_training_windows() + self.kernel.parameters().window) as usize + 1
    }

    fn columns(&self, rows: usize, key_count: usize, seed: u64) -> KeyedColumns {
        KeyedColumns::sensors(rows, key_count, 1, seed)
    }

    fn batch(&self, columns: &KeyedColumns) -> Features {
        Features::new(Arc::new(columns.grouped()), &[&columns.values[0]])
    }

    fn traffic_bytes(&self, batch: &Features) -> u64 {
        // A value in two parts in and a score out for each row; the vectors of a key, read and written once.
        let (rows, keys) = (batch.rows().row_count() as u64, batch.rows().slots().len() as u64);
        rows * 12 + keys * (8 + 8 * self.kernel.state_shape().words_per_slot() as u64)
    }

    fn answer(&self, scores: Scores) -> Answer {
        Answer { floats: scores.score, ..Answer::default() }
    }
}
