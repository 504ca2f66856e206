//! A scoring kernel with the state of its keys, wherever it runs.

use std::sync::Arc;

use super::detector::RowContext;
use crate::features::{Features, Scores};
use crate::half_space_forest::HalfSpaceForest;
use crate::kernel::Kernel;
use crate::placed::{Placement, Runner, WaveGroup};
use crate::placer::{BatchShape, Decision, Side, Switch};
use crate::recurrence_scan::{self, RecurrenceScan};
use crate::rows::GroupedRows;
use crate::state::StateShape;
use crate::subspace_score::SubspaceScore;
use crate::window_distance::{CALIBRATED_HISTORY, WindowDistance};

/// A kernel whose answer is one score for each row.
pub(super) trait ScoreKernel: Kernel {
    /// Makes a batch of columns that have one value for each row before grouping; a null is NaN.
    fn batch(&self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Self::Batch;

    /// The same batch, where rows with `false` are scored and not learnt, for the twin; `learns` has one entry for each grouped row.
    fn learning(batch: Self::Batch, learns: &[bool]) -> Self::Batch;

    /// The score of each grouped row.
    fn scores(output: Self::Output) -> Vec<f32>;

    /// Rows that a score is made of: those of a window, if the kernel looks at windows.
    fn window(&self) -> u32 {
        1
    }

    /// Cost of a row as a multiple of that of the shape that is calibrated.
    fn work(&self) -> f64 {
        1.0
    }
}

impl ScoreKernel for RecurrenceScan {
    fn batch(&self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Self::Batch {
        recurrence_scan::Batch::gather(Arc::clone(rows), columns[0])
    }

    fn learning(batch: Self::Batch, learns: &[bool]) -> Self::Batch {
        batch.learning(learns)
    }

    fn scores(output: Vec<f32>) -> Vec<f32> {
        output
    }
}

/// A kernel over [`Features`], the rows of its windows, and what a row costs it.
macro_rules! of_features {
    ($kernel:ty, $window:expr, $work:expr) => {
        impl ScoreKernel for $kernel {
            fn batch(&self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Features {
                Features::new(Arc::clone(rows), columns)
            }

            fn learning(batch: Features, learns: &[bool]) -> Features {
                batch.learning(learns)
            }

            fn scores(output: Scores) -> Vec<f32> {
                output.score
            }

            fn window(&self) -> u32 {
                let window: fn(&Self) -> u32 = $window;
                window(self)
            }

            fn work(&self) -> f64 {
                let work: fn(&Self) -> f64 = $work;
                work(self)
            }
        }
    };
}

of_features!(HalfSpaceForest, |_| 1, |kernel| {
    f64::from(kernel.parameters().trees * kernel.parameters().depth) / (25.0 * 8.0)
});
of_features!(WindowDistance, |kernel| kernel.parameters().window, |kernel| {
    f64::from(kernel.parameters().history) / f64::from(CALIBRATED_HISTORY)
});
of_features!(SubspaceScore, |kernel| kernel.parameters().window, |kernel| {
    f64::from(kernel.parameters().window * kernel.parameters().components) / (32.0 * 4.0)
});

/// Scores rows and remembers of each key what that takes.
///
/// Keys are slots, given out by the caller. Rows come grouped by slot, each key's in order, and the same rows in the same order have the
/// same scores however they are cut into batches; on which side they are scored shows within the kernel's tolerance.
pub trait Scorer: Send {
    /// The words of a key's state.
    fn state_shape(&self) -> &StateShape;

    /// Starts to score the rows of a batch; on a device, as part of the group's wave. To be [finished](Self::finish) before the next.
    ///
    /// `columns` are the features, each with one value for each row *before* grouping; a null is NaN. Rows that are not to be learnt are
    /// for a [selective](super::Method::selective_scorer) scorer.
    fn start(&mut self, rows: &Arc<GroupedRows>, columns: &[&[f64]], context: RowContext<'_>, group: &mut WaveGroup);

    /// One score for each *grouped* row; NaN where a feature is missing, 0 while the key is too young.
    ///
    /// # Panics
    /// When nothing was started.
    fn finish(&mut self) -> Vec<f32>;

    /// What a calibration is to judge and learn of the batch that was finished; `None`: its scores.
    fn take_surprises(&mut self) -> Option<Vec<f32>> {
        None
    }

    /// What was expected of each row of the batch that was finished last, of scorers that expect something.
    fn take_expectations(&mut self) -> Option<Expectations> {
        None
    }

    /// Which rows of the batch that was finished last a calibration may learn; `None`: those that were to be learnt.
    fn take_learns(&mut self) -> Option<Vec<bool>> {
        None
    }

    /// Brings what [`read_slot`](Self::read_slot) reads up to the last batch.
    fn sync(&mut self);

    /// Appends the words of a key's state as of the last [`sync`](Self::sync).
    fn read_slot(&self, slot: u32, words: &mut Vec<u32>);

    /// Sets the words of keys, `words_per_slot` for each, before the first batch.
    fn load(&mut self, slots: &[u32], words: &[u32]);

    /// Bytes of state.
    fn bytes(&self) -> usize;

    /// Whether it has a kernel, which may run on a device.
    fn has_kernel(&self) -> bool {
        false
    }

    /// What was decided last: where it runs, and why; nothing, where there is nothing to decide.
    fn decision(&self) -> Option<&Decision> {
        None
    }

    /// How often the twin has taken over from a failed device, and how many batches it has done again.
    fn fall_backs(&self) -> (u64, u64) {
        (0, 0)
    }

    /// How many batches were placed, and where the next one is unless something changes; for a checkpoint.
    fn place(&self) -> (u64, Side);

    /// Goes on at a place of a checkpoint.
    fn resume(&mut self, steps: u64, side: Side);

    /// The moves between CPU and device since the last call.
    fn take_switches(&mut self) -> Vec<Switch> {
        Vec::new()
    }

    /// Repeats recorded moves from here on, whatever figures say; to be called with those of each step before it. What stays on the CPU
    /// has none.
    fn recall(&mut self, _switches: &[Switch]) {}
}

/// What a scorer expected of the first feature, by grouped row; NaN where the row was not scored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expectations {
    /// The value that was expected.
    pub expected: Vec<f64>,
    /// How far values usually are from it: a standard deviation.
    pub deviation: Vec<f32>,
}

/// Scores rows at once, with a wave of their own.
pub fn score_now(scorer: &mut dyn Scorer, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Vec<f32> {
    let mut group = WaveGroup::new();
    scorer.start(rows, columns, RowContext::default(), &mut group);
    group.submit(|| {});
    scorer.finish()
}

/// A kernel, its state and its place.
pub(super) struct KernelScorer<K: Kernel>(Runner<K>);

impl<K: ScoreKernel> KernelScorer<K> {
    pub(super) fn new(kernel: K, placement: &Arc<Placement>) -> Self {
        KernelScorer(Runner::new(kernel, placement))
    }
}

impl<K: ScoreKernel> Scorer for KernelScorer<K> {
    fn state_shape(&self) -> &StateShape {
        self.0.state_shape()
    }

    fn start(&mut self, rows: &Arc<GroupedRows>, columns: &[&[f64]], context: RowContext<'_>, group: &mut WaveGroup) {
        debug_assert!(context.learn.is_none(), "rows that are not to be learnt are for a selective scorer");
        let kernel = self.0.kernel();
        let batch = kernel.batch(rows, columns);
        let shape = BatchShape {
            upload_bytes: kernel.batch_bytes(&batch) as u64,
            readback_bytes: rows.row_count() as u64 * 4,
            work: kernel.work(),
            ..BatchShape::of_rows(rows.row_count() as u64, 0, 0)
        };
        self.0.start(batch, shape, group);
    }

    fn finish(&mut self) -> Vec<f32> {
        K::scores(self.0.finish())
    }

    fn sync(&mut self) {
        self.0.sync();
    }

    fn read_slot(&self, slot: u32, words: &mut Vec<u32>) {
        self.0.read_slot(slot, words);
    }

    fn load(&mut self, slots: &[u32], words: &[u32]) {
        self.0.load(slots, words);
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn has_kernel(&self) -> bool {
        true
    }

    fn decision(&self) -> Option<&Decision> {
        self.0.decision()
    }

    fn fall_backs(&self) -> (u64, u64) {
        self.0.fall_backs()
    }

    fn place(&self) -> (u64, Side) {
        self.0.place()
    }

    fn resume(&mut self, steps: u64, side: Side) {
        self.0.resume(steps, side);
    }

    fn take_switches(&mut self) -> Vec<Switch> {
        self.0.take_switches()
    }

    fn recall(&mut self, switches: &[Switch]) {
        self.0.recall(switches);
    }
}
