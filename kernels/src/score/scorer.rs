//! A scoring kernel with the state of its keys, wherever it runs.

use std::sync::Arc;
use std::time::Instant;

use super::detector::RowContext;
use super::placement::Placement;
use crate::features::{Features, Scores};
use crate::half_space_forest::HalfSpaceForest;
use crate::kernel::Kernel;
use crate::placed::{Placed, PlacedOptions, PlacementEvent, Step, WaveGroup};
use crate::placer::{BatchShape, Decision, OperatorPlacer, Reason, Side, Switch};
use crate::recurrence_scan::{self, RecurrenceScan};
use crate::rows::GroupedRows;
use crate::state::{StatePages, StateShape};
use crate::subspace_score::SubspaceScore;
use crate::window_distance::{CALIBRATED_HISTORY, WindowDistance};

/// A kernel whose answer is one score for each row.
pub(super) trait ScoreKernel: Kernel {
    /// Makes a batch of columns that have one value for each row before grouping; a null is NaN.
    fn batch(&self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Self::Batch;

    /// The score of each grouped row.
    fn scores(output: Self::Output) -> Vec<f32>;

    /// Cost of a row as a multiple of that of the shape that is calibrated.
    fn work(&self) -> f64 {
        1.0
    }
}

impl ScoreKernel for RecurrenceScan {
    fn batch(&self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Self::Batch {
        recurrence_scan::Batch::gather(Arc::clone(rows), columns[0])
    }

    fn scores(output: Vec<f32>) -> Vec<f32> {
        output
    }
}

/// A kernel over [`Features`], and what a row costs it.
macro_rules! of_features {
    ($kernel:ty, $work:expr) => {
        impl ScoreKernel for $kernel {
            fn batch(&self, rows: &Arc<GroupedRows>, columns: &[&[f64]]) -> Features {
                Features::new(Arc::clone(rows), columns)
            }

            fn scores(output: Scores) -> Vec<f32> {
                output.score
            }

            fn work(&self) -> f64 {
                let work: fn(&Self) -> f64 = $work;
                work(self)
            }
        }
    };
}

of_features!(HalfSpaceForest, |kernel| {
    f64::from(kernel.parameters().trees * kernel.parameters().depth) / (25.0 * 8.0)
});
of_features!(WindowDistance, |kernel| f64::from(kernel.parameters().history) / f64::from(CALIBRATED_HISTORY));
of_features!(SubspaceScore, |kernel| {
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
    /// so only by methods that [know how](super::MethodDescription::learns_when).
    fn start(&mut self, rows: &Arc<GroupedRows>, columns: &[&[f64]], context: RowContext<'_>, group: &mut WaveGroup);

    /// One score for each *grouped* row; NaN where a feature is missing, 0 while the key is too young.
    ///
    /// # Panics
    /// When nothing was started.
    fn finish(&mut self) -> Vec<f32>;

    /// What was expected of each row of the batch that was finished last, of scorers that expect something.
    fn take_expectations(&mut self) -> Option<Expectations> {
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

    /// What was decided last: where it runs, and why.
    fn decision(&self) -> Option<&Decision>;

    /// How often the twin has taken over from a failed device, and how many batches it has done again.
    fn fall_backs(&self) -> (u64, u64);

    /// How many batches were placed, and where the next one is unless something changes; for a checkpoint.
    fn place(&self) -> (u64, Side);

    /// Goes on at a place of a checkpoint.
    fn resume(&mut self, steps: u64, side: Side);

    /// The moves between CPU and device since the last call.
    fn take_switches(&mut self) -> Vec<Switch>;

    /// Repeats recorded moves from here on, whatever figures say; to be called with those of each step before it.
    fn recall(&mut self, switches: &[Switch]);
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
pub(super) struct KernelScorer<K: Kernel> {
    kernel: Arc<K>,
    placed: Placed<K>,
    placer: OperatorPlacer,
    placement: Arc<Placement>,
    shape: StateShape,
    started: Option<Started<K>>,
    decision: Option<Decision>,
    loading: Option<StatePages>,
    slot_count: usize,
    fall_backs: u64,
}

struct Started<K: Kernel> {
    step: Step<K>,
    batch: BatchShape,
    side: Side,
    number: u64,
    at: Instant,
    /// How long it took, where it was done at once.
    took_ns: Option<u64>,
}

/// State beyond this is not copied for a shadow run.
const SHADOW_BYTES_MAX: usize = 64 << 20;

impl<K: ScoreKernel> KernelScorer<K> {
    pub(super) fn new(kernel: K, placement: &Arc<Placement>) -> Self {
        let kernel = Arc::new(kernel);
        KernelScorer {
            placer: placement.placer(&*kernel),
            shape: kernel.state_shape(),
            placed: Placed::new(Arc::clone(&kernel), placement.options().clone()),
            kernel,
            placement: Arc::clone(placement),
            started: None,
            decision: None,
            loading: None,
            slot_count: 0,
            fall_backs: 0,
        }
    }

    /// Does the batch on the other side too, on a copy of the state, and drops the answer: only how long it takes is of use.
    fn shadow(&mut self, side: Side, batch: &Arc<K::Batch>, shape: &BatchShape, number: u64) {
        if self.bytes() > SHADOW_BYTES_MAX {
            return;
        }
        // Nobody is told of what happens to a shadow.
        let options = PlacedOptions { on_event: Arc::new(|_| {}), ..self.placement.options().clone() };
        let mut shadow = Placed::new(Arc::clone(&self.kernel), options);
        self.sync();
        shadow.restore(self.placed.state().clone());
        if side == Side::Device {
            // The first one compiles shaders.
            if !self.placement.move_to_device(&mut shadow) {
                return;
            }
            drop(shadow.run(Arc::clone(batch)));
        }
        let at = Instant::now();
        drop(shadow.run(Arc::clone(batch)));
        match shadow.metrics().fall_backs {
            0 => self.placer.observe(side, shape, nanoseconds(at)),
            _ => self.placer.device_failed(number),
        }
    }

    /// Tells the placer when the device has failed; the twin has done the batches from `number` on.
    fn note_fall_backs(&mut self, number: u64) -> bool {
        let fall_backs = self.placed.metrics().fall_backs;
        let failed = fall_backs > self.fall_backs;
        self.fall_backs = fall_backs;
        if failed {
            self.placer.device_failed(number);
        }
        failed
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl<K: ScoreKernel> Scorer for KernelScorer<K> {
    fn state_shape(&self) -> &StateShape {
        &self.shape
    }

    fn start(&mut self, rows: &Arc<GroupedRows>, columns: &[&[f64]], _: RowContext<'_>, group: &mut WaveGroup) {
        if let Some(state) = self.loading.take() {
            self.placed.restore(state);
        }
        let kernel = &self.kernel;
        let batch = Arc::new(kernel.batch(rows, columns));
        self.slot_count = self.slot_count.max(kernel.slot_count(&batch));
        let shape = BatchShape {
            rows: rows.row_count() as u64,
            upload_bytes: kernel.batch_bytes(&batch) as u64,
            readback_bytes: rows.row_count() as u64 * 4,
            upload_sharers: 1,
            state_bytes: self.bytes() as u64,
            work: kernel.work(),
            twin_threads: 1,
            oldest_wait_ns: 0,
        };
        let decision = self.placer.decide(&shape);
        match decision.side {
            Side::Cpu => self.placed.move_to_cpu(),
            // Where it cannot be had, the twin does the batch, and the placer learns of it when that is done.
            Side::Device => drop(self.placement.move_to_device(&mut self.placed)),
        }
        let (side, number) = (decision.side, decision.step);
        let absent = |decision: &Decision| decision.reason == Reason::ReplayedWithoutDevice;
        if absent(&decision) && !self.decision.as_ref().is_some_and(absent) {
            (self.placement.options().on_event)(&PlacementEvent::Absent { kernel: self.kernel.name() });
        }
        if let Some(other) = decision.shadow {
            self.shadow(other, &batch, &shape, number);
        }
        self.decision = Some(decision);
        // What came before is not what the batch takes.
        let at = Instant::now();
        let step = self.placed.start(batch, group);
        let took_ns = step.is_ready().then(|| nanoseconds(at));
        self.started = Some(Started { step, batch: shape, side, number, at, took_ns });
    }

    fn finish(&mut self) -> Vec<f32> {
        let Started { step, batch, side, number, at, took_ns } = self.started.take().expect("a batch was started");
        let output = self.placed.finish(step);
        let failed = self.note_fall_backs(number);
        match (side, self.placed.side()) {
            _ if failed => {}
            // It could not be had.
            (Side::Device, Side::Cpu) => self.placer.device_failed(number),
            _ => self.placer.observe(side, &batch, took_ns.unwrap_or_else(|| nanoseconds(at))),
        }
        let (cpu, device) = self.placer.observed();
        if let Some(decision) = &mut self.decision {
            (decision.cpu_observed_ns_per_event, decision.gpu_observed_ns_per_event) = (cpu, device);
        }
        K::scores(output)
    }

    fn sync(&mut self) {
        if let Some(state) = self.loading.take() {
            self.placed.restore(state);
        }
        self.placed.sync();
        let next = self.placer.step();
        self.note_fall_backs(next);
    }

    fn read_slot(&self, slot: u32, words: &mut Vec<u32>) {
        words.extend(self.placed.state().slot(slot));
    }

    fn load(&mut self, slots: &[u32], words: &[u32]) {
        let state = self.loading.get_or_insert_with(|| StatePages::new(self.shape.clone()));
        let count = slots.iter().max().map_or(0, |last| *last as usize + 1);
        self.slot_count = self.slot_count.max(count);
        state.grow(count);
        for (slot, words) in slots.iter().zip(words.chunks_exact(self.shape.words_per_slot())) {
            state.set_slot(*slot, words);
        }
    }

    fn bytes(&self) -> usize {
        self.slot_count * self.shape.words_per_slot() * 4
    }

    fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }

    fn fall_backs(&self) -> (u64, u64) {
        let metrics = self.placed.metrics();
        (metrics.fall_backs, metrics.replayed_batches)
    }

    fn place(&self) -> (u64, Side) {
        (self.placer.step(), self.placer.side())
    }

    fn resume(&mut self, steps: u64, side: Side) {
        self.placer = self.placer.clone().resuming(steps, side);
    }

    fn take_switches(&mut self) -> Vec<Switch> {
        self.placer.take_switches()
    }

    fn recall(&mut self, switches: &[Switch]) {
        self.placer.replay(switches);
    }
}
