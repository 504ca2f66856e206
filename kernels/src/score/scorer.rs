//! A scoring kernel with the state of its keys.

use std::sync::Arc;

use crate::features::{Features, Scores};
use crate::half_space_forest::HalfSpaceForest;
use crate::kernel::Kernel;
use crate::recurrence_scan::{self, RecurrenceScan};
use crate::rows::GroupedRows;
use crate::state::{StatePages, StateShape};

/// A kernel whose answer is one score for each row.
pub(super) trait ScoreKernel: Kernel {
    /// Makes a batch of columns that have one value for each row before grouping; a null is NaN.
    fn batch(&self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Self::Batch;

    /// The score of each grouped row.
    fn scores(output: Self::Output) -> Vec<f32>;
}

/// Scores rows and remembers of each key what that takes.
///
/// Keys are slots, given out by the caller. Rows come grouped by slot, each key's in order, and the same rows in the same order have the
/// same scores however they are cut into batches.
pub trait Scorer: Send {
    /// The words of a key's state.
    fn state_shape(&self) -> &StateShape;

    /// Scores the rows of a batch: one score for each *grouped* row; NaN where a feature is missing, 0 while the key is too young.
    ///
    /// `columns` are the features, each with one value for each row *before* grouping; a null is NaN.
    fn score(&mut self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Vec<f32>;

    /// Appends the words of a key's state.
    fn read_slot(&self, slot: u32, words: &mut Vec<u32>);

    /// Sets the words of a key's state.
    fn write_slot(&mut self, slot: u32, words: &[u32]);

    /// Bytes held.
    fn bytes(&self) -> usize;
}

impl ScoreKernel for RecurrenceScan {
    fn batch(&self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Self::Batch {
        recurrence_scan::Batch::gather(Arc::clone(rows), columns[0])
    }

    fn scores(output: Vec<f32>) -> Vec<f32> {
        output
    }
}

impl ScoreKernel for HalfSpaceForest {
    fn batch(&self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Features {
        Features::new(Arc::clone(rows), columns)
    }

    fn scores(output: Scores) -> Vec<f32> {
        output.score
    }
}

/// A kernel that runs as its twin.
pub(super) struct TwinScorer<K: Kernel> {
    kernel: K,
    state: StatePages,
}

impl<K: ScoreKernel> TwinScorer<K> {
    pub(super) fn new(kernel: K) -> Self {
        let state = StatePages::new(kernel.state_shape());
        TwinScorer { kernel, state }
    }
}

impl<K: ScoreKernel> Scorer for TwinScorer<K> {
    fn state_shape(&self) -> &StateShape {
        self.state.shape()
    }

    fn score(&mut self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Vec<f32> {
        let batch = self.kernel.batch(rows, columns);
        self.state.grow(self.kernel.slot_count(&batch));
        K::scores(self.kernel.run_twin(&batch, &mut self.state))
    }

    fn read_slot(&self, slot: u32, words: &mut Vec<u32>) {
        words.extend(self.state.slot(slot));
    }

    fn write_slot(&mut self, slot: u32, words: &[u32]) {
        self.state.grow(slot as usize + 1);
        self.state.set_slot(slot, words);
    }

    fn bytes(&self) -> usize {
        self.state.bytes()
    }
}
