//! One wave for all operators of a step that do not wait for each other.

#[cfg(feature = "gpu")]
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicUsize, Ordering},
};
#[cfg(feature = "gpu")]
use std::time::Duration;

#[cfg(feature = "gpu")]
use crate::device::{Device, DeviceError, Readback, Ticket, Wave, watchdog};

/// Gathers the device's work of a step. Start it, let every operator [`start`](super::Placed::start) into it, and submit it.
#[derive(Debug, Default)]
pub struct WaveGroup {
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

    /// Sends what was recorded. `on_done` is called on the device thread when all of it is answered, and should only wake who waits.
    #[cfg_attr(not(feature = "gpu"), expect(unused_variables, reason = "there is nothing to wait for"))]
    pub fn submit(self, on_done: impl FnOnce() + Send + 'static) -> WaitingFor {
        #[cfg(feature = "gpu")]
        if !self.waves.is_empty() {
            let left = Arc::new(AtomicUsize::new(self.waves.len()));
            let on_done: watchdog::Once = Arc::new(Mutex::new(Some(Box::new(on_done))));
            for GroupWave { device, wave, answer } in self.waves {
                let (left, done) = (left.clone(), on_done.clone());
                let answered = move || {
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
}

/// The answer of a wave that several placements wait for.
#[cfg(feature = "gpu")]
#[derive(Debug, Default)]
pub(super) struct Answer {
    ticket: Mutex<Option<Ticket>>,
    answer: OnceLock<Result<Readback, DeviceError>>,
}

#[cfg(feature = "gpu")]
impl Answer {
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
        answer.as_ref().map_err(Clone::clone)
    }
}
