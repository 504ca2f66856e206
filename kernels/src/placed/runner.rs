//! A kernel with the state of its keys, run batch by batch where its placer says.
//!
//! [`Placed`] knows how to be on either side; the [placer](crate::placer) knows on which to be. What an operator has to do about them for
//! each batch is the same whatever the kernel: ask, move, do it on the other side too now and then, tell how long it took and whether
//! the device failed.

use std::sync::Arc;
use std::time::Instant;

use super::{Placed, PlacedOptions, Placement, PlacementEvent, Step, WaveGroup, WaveShare};
use crate::Kernel;
use crate::placer::{BatchShape, Decision, OperatorPlacer, Reason, Side, Switch};
use crate::state::{StatePages, StateShape};

/// See the module.
pub struct Runner<K: Kernel> {
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
    /// How long it took to start it: all, where it was done at once.
    took_ns: u64,
    share: Option<WaveShare>,
}

/// State beyond this is not copied for a shadow run.
const SHADOW_BYTES_MAX: usize = 64 << 20;

impl<K: Kernel> Runner<K> {
    /// Without any key yet.
    pub fn new(kernel: K, placement: &Arc<Placement>) -> Self {
        let kernel = Arc::new(kernel);
        Runner {
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

    /// The kernel.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// The words of a key's state.
    pub fn state_shape(&self) -> &StateShape {
        &self.shape
    }

    /// Starts a batch; on a device, as part of the group's wave. To be [finished](Self::finish) before the next.
    ///
    /// `batch_shape` is what the placer has to know of it; the bytes of state, and what the group knows, are filled in.
    pub fn start(&mut self, batch: K::Batch, batch_shape: BatchShape, group: &mut WaveGroup) {
        if let Some(state) = self.loading.take() {
            self.placed.restore(state);
        }
        let batch = Arc::new(batch);
        self.slot_count = self.slot_count.max(self.kernel.slot_count(&batch));
        let shape = BatchShape {
            state_bytes: self.bytes() as u64,
            upload_sharers: group.sharers(),
            oldest_wait_ns: group.oldest_wait_ns(),
            ..batch_shape
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
        let took_ns = nanoseconds(at);
        let predicted = self.decision.as_ref().and_then(|decision| decision.gpu_predicted_ns_per_event);
        let share = step.share((predicted.unwrap_or(1.0) * shape.rows as f64) as u64);
        self.started = Some(Started { step, batch: shape, side, number, at, took_ns, share });
    }

    /// The answer of the batch that was started.
    ///
    /// # Panics
    /// When nothing was started.
    pub fn finish(&mut self) -> K::Output {
        let Started { step, batch, side, number, at, took_ns, share } =
            self.started.take().expect("a batch was started");
        let output = self.placed.finish(step);
        let failed = self.note_fall_backs(number);
        match (side, self.placed.side()) {
            _ if failed => {}
            // It could not be had.
            (Side::Device, Side::Cpu) => self.placer.device_failed(number),
            _ => {
                // The wave is waited for by all its kernels, and is sent when all operators have started theirs.
                let waited = share.map_or(Some(0), |share| share.ns());
                let took_ns = waited.map_or_else(|| nanoseconds(at), |waited| took_ns + waited);
                self.placer.observe(side, &batch, took_ns);
            }
        }
        let (cpu, device) = self.placer.observed();
        if let Some(decision) = &mut self.decision {
            (decision.cpu_observed_ns_per_event, decision.gpu_observed_ns_per_event) = (cpu, device);
        }
        output
    }

    /// Brings what [`read_slot`](Self::read_slot) reads up to the last batch.
    pub fn sync(&mut self) {
        if let Some(state) = self.loading.take() {
            self.placed.restore(state);
        }
        self.placed.sync();
        let next = self.placer.step();
        self.note_fall_backs(next);
    }

    /// Appends the words of a key's state as of the last [`sync`](Self::sync).
    pub fn read_slot(&self, slot: u32, words: &mut Vec<u32>) {
        words.extend(self.placed.state().slot(slot));
    }

    /// Sets the words of keys, `words_per_slot` for each, before the first batch.
    pub fn load(&mut self, slots: &[u32], words: &[u32]) {
        let state = self.loading.get_or_insert_with(|| StatePages::new(self.shape.clone()));
        let count = slots.iter().max().map_or(0, |last| *last as usize + 1);
        self.slot_count = self.slot_count.max(count);
        state.grow(count);
        for (slot, words) in slots.iter().zip(words.chunks_exact(self.shape.words_per_slot())) {
            state.set_slot(*slot, words);
        }
    }

    /// Forgets all keys: slots begin anew.
    pub fn clear(&mut self) {
        self.slot_count = 0;
        self.loading = Some(StatePages::new(self.shape.clone()));
    }

    /// Bytes of state.
    pub fn bytes(&self) -> usize {
        self.slot_count * self.shape.words_per_slot() * 4
    }

    /// What was decided last: where it runs, and why.
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }

    /// How often the twin has taken over from a failed device, and how many batches it has done again.
    pub fn fall_backs(&self) -> (u64, u64) {
        let metrics = self.placed.metrics();
        (metrics.fall_backs, metrics.replayed_batches)
    }

    /// How many batches were placed, and where the next one is unless something changes; for a checkpoint.
    pub fn place(&self) -> (u64, Side) {
        (self.placer.step(), self.placer.side())
    }

    /// Goes on at a place of a checkpoint.
    pub fn resume(&mut self, steps: u64, side: Side) {
        self.placer = self.placer.clone().resuming(steps, side);
    }

    /// The moves between CPU and device since the last call.
    pub fn take_switches(&mut self) -> Vec<Switch> {
        self.placer.take_switches()
    }

    /// Repeats recorded moves from here on, whatever figures say; to be called with those of each step before it.
    pub fn recall(&mut self, switches: &[Switch]) {
        self.placer.replay(switches);
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
