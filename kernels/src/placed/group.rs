//! One wave for all operators of a step that do not wait for each other.

#[cfg(feature = "gpu")]
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
#[cfg(feature = "gpu")]
use std::time::{Duration, Instant};

#[cfg(feature = "gpu")]
use crate::device::{Device, DeviceError, Readback, Ticket, Wave, watchdog};

/// Gathers the device's work of a step. Start it, let every operator [`start`](super::Placed::start) into it, and submit it.
///
/// An operator says what it is about to start ([`begin`](Self::begin)), so that the placer of each kernel knows what it pays: a round
/// trip is waited for once by all kernels of a wave.
#[derive(Debug, Default)]
pub struct WaveGroup {
    /// What was said last of the kernels that are started.
    sharers: u32,
    oldest_wait_ns: u64,
    /// How many kernels were in the wave before this one.
    sharers_before: u32,
    /// How many batches were recorded for a device.
    recorded: u32,
    /// One wave for each device: more than one only while a lost device is replaced.
    #[cfg(feature = "gpu")]
    waves: Vec<GroupWave>,
}

/// Whether a submitted group has to be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    /// All was done on the CPU; the callback is not called.
    Nothing,
    /// The callback comes from the device thread, once.
    Device,
}

#[cfg(feature = "gpu")]
#[derive(Debug)]
struct GroupWave {
    device: Device,
    wave: Wave,
    answer: Arc<Answer>,
}

impl WaveGroup {
    /// Nothing to do yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same behind a wave that had so many kernels: the best guess of how many will share this one.
    pub fn after(recorded: u32) -> Self {
        WaveGroup { sharers_before: recorded, ..Self::default() }
    }

    /// What is known of the kernels that are started next: how many they are, and how long the oldest of their events has waited.
    pub fn begin(&mut self, kernels: u32, oldest_wait_ns: u64) {
        (self.sharers, self.oldest_wait_ns) = (kernels, oldest_wait_ns);
    }

    /// How many kernels share the wave, the one that is started next included, as far as can be known.
    pub fn sharers(&self) -> u32 {
        self.sharers.max(self.sharers_before).max(1)
    }

    /// How long the oldest event has waited of what is started next.
    pub fn oldest_wait_ns(&self) -> u64 {
        self.oldest_wait_ns
    }

    /// How many batches were recorded for a device.
    pub fn recorded(&self) -> u32 {
        self.recorded
    }

    /// Sends what was recorded. `on_done` is called on the device thread when all of it is answered, and should only wake who waits.
    #[cfg_attr(not(feature = "gpu"), expect(unused_variables, reason = "there is nothing to wait for"))]
    pub fn submit(self, on_done: impl FnOnce() + Send + 'static) -> WaitingFor {
        #[cfg(feature = "gpu")]
        if !self.waves.is_empty() {
            let left = Arc::new(AtomicUsize::new(self.waves.len()));
            let on_done: watchdog::Once = Arc::new(Mutex::new(Some(Box::new(on_done))));
            for GroupWave { device, wave, answer } in self.waves {
                let (left, done) = (left.clone(), on_done.clone());
                answer.note_sent();
                let times = answer.clone();
                let answered = move || {
                    times.note_answered();
                    if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                        watchdog::call(&done);
                    }
                };
                // A little later than that, so that the wave is overdue when it is asked.
                watchdog::call_by(device.overdue_at() + Duration::from_millis(100), on_done.clone());
                answer.set_ticket(device.submit_then(wave, Box::new(answered)));
            }
            return WaitingFor::Device;
        }
        WaitingFor::Nothing
    }

    /// The group's wave for a device, started now if need be, and where its answer will be.
    #[cfg(feature = "gpu")]
    pub(super) fn wave(&mut self, device: &Device) -> Result<(&mut Wave, Arc<Answer>), DeviceError> {
        let index = match self.waves.iter().position(|one| one.device.is_same(device)) {
            Some(index) => index,
            None => {
                self.waves.push(GroupWave { device: device.clone(), wave: device.wave()?, answer: Arc::default() });
                self.waves.len() - 1
            }
        };
        let GroupWave { wave, answer, .. } = &mut self.waves[index];
        Ok((wave, answer.clone()))
    }

    /// A batch was recorded.
    #[cfg(feature = "gpu")]
    pub(super) fn note_recorded(&mut self) {
        self.recorded += 1;
    }
}

/// The answer of a wave that several placements wait for.
#[cfg(feature = "gpu")]
#[derive(Debug, Default)]
pub(super) struct Answer {
    ticket: Mutex<Option<Ticket>>,
    answer: OnceLock<Result<Readback, DeviceError>>,
    sent: OnceLock<Instant>,
    answered: OnceLock<Instant>,
    /// What the kernels of the wave were predicted to take, together.
    predicted_ns: AtomicU64,
}

#[cfg(feature = "gpu")]
impl Answer {
    fn note_sent(&self) {
        // Each group is sent once.
        let _ = self.sent.set(Instant::now());
    }

    fn note_answered(&self) {
        let _ = self.answered.set(Instant::now());
    }

    /// A kernel of the wave is predicted to take so long.
    pub(super) fn predict(&self, ns: u64) {
        self.predicted_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// The share of a kernel in the time from sending the wave to its answer: as it was predicted to have.
    pub(super) fn share_ns(&self, predicted_ns: u64) -> Option<u64> {
        let took = self.answered.get()?.saturating_duration_since(*self.sent.get()?);
        let share = predicted_ns as f64 / self.predicted_ns.load(Ordering::Relaxed).max(1) as f64;
        Some((took.as_nanos() as f64 * share.min(1.0)) as u64)
    }

    fn set_ticket(&self, ticket: Ticket) {
        *self.ticket.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
    }

    /// Whether [`wait`](Self::wait) returns at once.
    pub(super) fn is_there(&self) -> bool {
        if self.answer.get().is_some() {
            return true;
        }
        let mut ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match ticket.as_mut() {
            Some(waiting) => waiting.poll(),
            // Not submitted, so that waiting fails, which it does at once.
            None => return true,
        };
        match answer {
            Some(answer) => {
                *ticket = None;
                self.answer.set(answer).is_ok()
            }
            None => false,
        }
    }

    /// Waits for the answer. A group that was dropped without being submitted has failed.
    pub(super) fn wait(&self) -> Result<&Readback, DeviceError> {
        let mut ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = self.answer.get_or_init(|| ticket.take().map_or(Err(DeviceError::NotSubmitted), Ticket::wait));
        // The device thread answers before it says that it has: who waits may be sooner.
        self.note_answered();
        answer.as_ref().map_err(Clone::clone)
    }
}
