//! A kernel with its state, on the CPU or on the device, whichever it was moved to, and back on the CPU when the device fails.
//!
//! The invariant: the state is always *the mirror followed by the batches kept since*. On the CPU the mirror is the state and nothing
//! is kept. On the device the mirror is what was copied back last, and each batch stays until the next copy, its answer given or not.
//! So when a device is lost, hangs, refuses a command or has no memory left, the twin does the kept batches again from the mirror:
//! answers that were given already are thrown away, those that were not are given now. Nothing is lost and nothing is doubled, and
//! nobody waits for a checkpoint to be read. What is kept is bounded in bytes; at the bound the changed pages are copied back with the
//! same wave.
//!
//! A step has three parts, so that all operators of a step share one wave (see [`WaveGroup`]):
//! [`start`](Placed::start) records, [`WaveGroup::submit`] sends, [`finish`](Placed::finish) gives the answer. Without the feature
//! `gpu` all is the same, with the twin alone.

mod backoff;
mod changed;
mod group;
#[cfg(all(test, feature = "gpu"))]
mod many_keys;
mod placement;
#[cfg(feature = "gpu")]
mod resident;
mod runner;
#[cfg(all(test, feature = "gpu"))]
mod soak;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod toy;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub use backoff::Backoff;
pub use changed::Changed;
pub use group::{WaitingFor, WaveGroup};
pub use placement::Placement;
#[cfg(feature = "gpu")]
pub use placement::{OpenDevice, OpenOnce};
pub use runner::Runner;

pub use crate::placer::Side;

use crate::Kernel;
use crate::state::StatePages;

#[cfg(feature = "gpu")]
use crate::device::{DeviceError, SharedDevice};

/// What happened to a placement, for one line in the log; its `Display` is the line.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PlacementEvent {
    /// It runs on the device from here on.
    MovedToDevice {
        /// The kernel.
        kernel: &'static str,
        /// The adapter's name.
        adapter: String,
    },
    /// The device computes wrongly what the kernel needs; it stays on the CPU.
    Refused {
        /// The kernel.
        kernel: &'static str,
        /// What the self-test saw.
        reason: String,
    },
    /// It is a replay of a run that used a device, and there is none here.
    Absent {
        /// The kernel.
        kernel: &'static str,
    },
    /// The device failed; the twin has taken over.
    FellBack {
        /// The kernel.
        kernel: &'static str,
        /// What the device did.
        reason: String,
        /// How many batches the twin has done again.
        replayed_batches: usize,
        /// After how many steps the device is tried again.
        retry_after_steps: u64,
    },
}

impl fmt::Display for PlacementEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlacementEvent::MovedToDevice { kernel, adapter } => write!(f, "`{kernel}` runs on `{adapter}`"),
            PlacementEvent::Absent { kernel } => write!(
                f,
                "`{kernel}` ran on a device in the recorded run, and there is none to use here: on the CPU, answers may differ in their \
                 last digits"
            ),
            PlacementEvent::Refused { kernel, reason } => write!(f, "`{kernel}` stays on the CPU: {reason}"),
            PlacementEvent::FellBack { kernel, reason, replayed_batches, retry_after_steps } => write!(
                f,
                "`{kernel}` continues on the CPU: {reason}. The twin has done {replayed_batches} batches again; the device is tried \
                 again after {retry_after_steps} steps"
            ),
        }
    }
}

/// Settings of a placement.
#[derive(Clone)]
pub struct PlacedOptions {
    /// How many bytes of batches are kept for the case that the device fails, before changed state is copied back.
    pub retained_bytes_max: usize,
    /// How long a failed device is left alone.
    pub backoff: Backoff,
    /// Told what happens; most write it to the log.
    pub on_event: Arc<dyn Fn(&PlacementEvent) + Send + Sync>,
}

impl Default for PlacedOptions {
    fn default() -> Self {
        PlacedOptions { retained_bytes_max: 64 << 20, backoff: Backoff::default(), on_event: Arc::new(|_| {}) }
    }
}

impl fmt::Debug for PlacedOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacedOptions")
            .field("retained_bytes_max", &self.retained_bytes_max)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

/// Figures of a placement since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlacedMetrics {
    /// Batches that the device has answered.
    pub device_batches: u64,
    /// Batches that the twin has answered.
    pub twin_batches: u64,
    /// How often the twin has taken over from a failed device.
    pub fall_backs: u64,
    /// Batches that the twin has done again because of that, answered before or not.
    pub replayed_batches: u64,
    /// How often changed state was copied back.
    pub syncs: u64,
    /// Bytes of batches that are kept.
    pub retained_bytes: usize,
    /// Bytes of state that lie on the device.
    pub resident_bytes: u64,
}

/// A step that was started. Hand it to [`Placed::finish`] of the placement that it is of.
#[must_use = "its answer is given by `finish`"]
pub struct Step<K: Kernel>(StepKind<K::Output>);

enum StepKind<O> {
    Done(O),
    #[cfg(feature = "gpu")]
    Waiting(u64, Arc<group::Answer>),
}

/// The part of a kernel in the time of the wave that it is in.
pub(crate) struct WaveShare {
    #[cfg(feature = "gpu")]
    answer: Arc<group::Answer>,
    #[cfg(feature = "gpu")]
    predicted_ns: u64,
}

impl WaveShare {
    /// How long of the wave's time is the kernel's, once the wave is answered.
    pub(crate) fn ns(&self) -> Option<u64> {
        #[cfg(feature = "gpu")]
        return self.answer.share_ns(self.predicted_ns);
        #[cfg(not(feature = "gpu"))]
        None
    }
}

impl<K: Kernel> Step<K> {
    /// Has the step take part in the time of its wave by what it is predicted to take; `None`: it is in no wave.
    pub(crate) fn share(&self, predicted_ns: u64) -> Option<WaveShare> {
        match &self.0 {
            StepKind::Done(_) => {
                let _ = predicted_ns;
                None
            }
            #[cfg(feature = "gpu")]
            StepKind::Waiting(_, answer) => {
                answer.predict(predicted_ns.max(1));
                Some(WaveShare { answer: answer.clone(), predicted_ns: predicted_ns.max(1) })
            }
        }
    }

    /// Whether `finish` gives the answer without waiting.
    pub fn is_ready(&self) -> bool {
        match &self.0 {
            StepKind::Done(_) => true,
            #[cfg(feature = "gpu")]
            StepKind::Waiting(_, answer) => answer.is_there(),
        }
    }
}

/// A kernel, its state, and where they are. It starts on the CPU.
pub struct Placed<K: Kernel> {
    kernel: Arc<K>,
    options: PlacedOptions,
    metrics: PlacedMetrics,
    /// The state on the CPU; else the mirror of what is on the device.
    state: StatePages,
    changed: changed::ChangedSlots,
    /// Answers of steps that are not finished yet, by number: those that came in while another was waited for.
    outputs: HashMap<u64, K::Output>,
    #[cfg(feature = "gpu")]
    device: Option<resident::Resident<K>>,
    #[cfg(feature = "gpu")]
    wanted: Option<resident::Wanted>,
    /// The number of the next step on a device, whichever.
    #[cfg(feature = "gpu")]
    next_step: u64,
}

impl<K: Kernel> Placed<K> {
    /// No key yet, on the CPU.
    pub fn new(kernel: Arc<K>, options: PlacedOptions) -> Self {
        Placed {
            state: StatePages::new(kernel.state_shape()),
            kernel,
            options,
            metrics: PlacedMetrics::default(),
            changed: changed::ChangedSlots::default(),
            outputs: HashMap::new(),
            #[cfg(feature = "gpu")]
            device: None,
            #[cfg(feature = "gpu")]
            wanted: None,
            #[cfg(feature = "gpu")]
            next_step: 0,
        }
    }

    /// The kernel.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Where the next step runs, unless the device fails or is tried again.
    pub fn side(&self) -> Side {
        #[cfg(feature = "gpu")]
        if self.device.is_some() {
            return Side::Device;
        }
        Side::Cpu
    }

    /// Figures so far.
    pub fn metrics(&self) -> PlacedMetrics {
        #[cfg(feature = "gpu")]
        if let Some(device) = &self.device {
            return PlacedMetrics {
                retained_bytes: device.retained_bytes(),
                resident_bytes: device.resident_bytes(),
                ..self.metrics
            };
        }
        self.metrics
    }

    /// Starts a step. On the CPU it is done when this returns; on the device it is recorded into the group's wave.
    ///
    /// Steps are started in order, and may be started before those before them are finished.
    pub fn start(&mut self, batch: Arc<K::Batch>, group: &mut WaveGroup) -> Step<K> {
        self.note_changes(&batch);
        #[cfg(feature = "gpu")]
        if let Some(step) = self.start_on_device(&batch, group) {
            return step;
        }
        #[cfg(not(feature = "gpu"))]
        let _ = group;
        Step(StepKind::Done(self.run_twin(&batch)))
    }

    /// The answer of a step; waits for it if need be. When the device has failed the twin gives it, now.
    ///
    /// # Panics
    /// When the step is of another placement, or was started before [`restore`](Self::restore).
    pub fn finish(&mut self, step: Step<K>) -> K::Output {
        match step.0 {
            StepKind::Done(output) => output,
            #[cfg(feature = "gpu")]
            StepKind::Waiting(number, _) => self.finish_on_device(number),
        }
    }

    /// One step by itself, with a wave of its own.
    pub fn run(&mut self, batch: Arc<K::Batch>) -> K::Output {
        let mut group = WaveGroup::new();
        let step = self.start(batch, &mut group);
        group.submit(|| {});
        self.finish(step)
    }

    /// Brings [`state`](Self::state) up to the last step that was started, and tells which slots have changed since the last call.
    /// Copies pages from the device, if it is there, and waits for them; when the device fails, the twin has the state after all.
    pub fn sync(&mut self) -> Changed {
        #[cfg(feature = "gpu")]
        self.sync_from_device();
        self.changed.take()
    }

    /// The state as of the last [`sync`](Self::sync); on the CPU as of the last step.
    pub fn state(&self) -> &StatePages {
        &self.state
    }

    /// Replaces the state, as after a restart. It stays where it is wanted. Steps that are not finished are lost.
    ///
    /// # Panics
    /// When the state is of another shape than the kernel's.
    pub fn restore(&mut self, state: StatePages) {
        assert_eq!(state.shape(), &self.kernel.state_shape(), "the state is of this kernel");
        self.state = state;
        self.changed.mark_any();
        self.outputs.clear();
        #[cfg(feature = "gpu")]
        self.restart_on_device();
    }

    /// Moves the state to the CPU, where it stays.
    pub fn move_to_cpu(&mut self) {
        #[cfg(feature = "gpu")]
        {
            self.sync_from_device();
            self.device = None;
            self.wanted = None;
        }
    }

    /// Moves the state to the device, where it stays as long as the device works; after a failure it is tried again, with back-off.
    /// It is there at once unless the device cannot be had now.
    ///
    /// # Errors
    /// Why it cannot be had now. It is tried again all the same; [`move_to_cpu`](Self::move_to_cpu) ends that.
    #[cfg(feature = "gpu")]
    pub fn move_to_device(&mut self, device: &SharedDevice) -> Result<(), DeviceError> {
        if self.wanted.as_ref().is_some_and(|wanted| wanted.is(device)) && self.device.is_some() {
            return Ok(());
        }
        self.move_to_cpu();
        self.wanted = Some(resident::Wanted::new(device.clone()));
        self.try_device()
    }

    /// The device that it was moved to, if it was, whether that works or not.
    #[cfg(feature = "gpu")]
    pub fn wanted_device(&self) -> Option<&SharedDevice> {
        self.wanted.as_ref().map(resident::Wanted::device)
    }

    fn run_twin(&mut self, batch: &K::Batch) -> K::Output {
        self.state.grow(self.kernel.slot_count(batch));
        self.metrics.twin_batches += 1;
        self.kernel.run_twin(batch, &mut self.state)
    }

    fn note_changes(&mut self, batch: &K::Batch) {
        match self.kernel.touched_slots(batch) {
            Some(slots) => self.changed.mark(slots),
            None => self.changed.mark_any(),
        }
    }
}

impl<K: Kernel> fmt::Debug for Placed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed")
            .field("kernel", &self.kernel.name())
            .field("side", &self.side())
            .field("metrics", &self.metrics())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<K: Kernel> fmt::Debug for Step<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("is_ready", &self.is_ready()).finish_non_exhaustive()
    }
}
