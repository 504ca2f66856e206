//! What a submitted wave gives: a ticket at once, a readback later.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::DeviceError;
use super::error::one_line;
use super::gpu::Gpu;
use super::memory::{Buffer, Use};
use super::wave::{Arena, Place, Region};

/// How much longer than its time-out a wave is waited for, in case the device thread itself hangs in the driver.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// The answer of a wave that is under way.
#[derive(Debug)]
pub struct Ticket {
    pub(super) shared: Arc<TicketState>,
    pub(super) gpu: Arc<Gpu>,
    pub(super) submitted: Instant,
}

/// Where the device thread puts the answer.
#[derive(Debug, Default)]
pub(super) struct TicketState {
    answer: Mutex<Option<Result<Readback, DeviceError>>>,
    arrived: Condvar,
}

impl TicketState {
    fn lock(&self) -> MutexGuard<'_, Option<Result<Readback, DeviceError>>> {
        // An answer is there or not, whatever happened to the thread that held the lock.
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn resolve(&self, answer: Result<Readback, DeviceError>) {
        *self.lock() = Some(answer);
        self.arrived.notify_all();
    }
}

impl Ticket {
    /// The answer if it is there. It is given once; after that, and before, this is `None`.
    pub fn poll(&mut self) -> Option<Result<Readback, DeviceError>> {
        let answer = self.shared.lock().take();
        answer.or_else(|| self.is_overdue().then(|| Err(self.give_up())))
    }

    /// Waits for the answer, at most as long as the device's time-out after the last sign of life.
    ///
    /// # Errors
    /// What went wrong: the wave has no effect that can be relied upon then.
    pub fn wait(self) -> Result<Readback, DeviceError> {
        let mut answer = self.shared.lock();
        loop {
            if let Some(answer) = answer.take() {
                return answer;
            }
            if self.is_overdue() {
                drop(answer);
                return Err(self.give_up());
            }
            let (guard, _) = self
                .shared
                .arrived
                .wait_timeout(answer, Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner);
            answer = guard;
        }
    }

    fn is_overdue(&self) -> bool {
        self.gpu.idle_since(self.submitted) > self.gpu.timeout + GRACE
    }

    fn give_up(&self) -> DeviceError {
        let error = self.gpu.timeout_error();
        self.gpu.mark_lost(&error);
        self.gpu.counters.count_error(error.kind());
        error
    }
}

/// A readback staging buffer that is mapped.
struct Mapped {
    buffer: Buffer,
    view: wgpu::BufferView,
}

/// What came back with a wave, read in place. Its staging memory is used again when it is dropped.
pub struct Readback {
    gpu: Arc<Gpu>,
    wave: u64,
    mapped: Vec<Mapped>,
    outputs: Vec<Place>,
    page_copies: Vec<Place>,
    device_ns: Option<u64>,
}

impl Readback {
    /// Takes over buffers that are mapped for reading.
    pub(super) fn new(
        gpu: Arc<Gpu>,
        wave: u64,
        buffers: Vec<Buffer>,
        outputs: Vec<Place>,
        page_copies: Vec<Place>,
        timestamps: Option<Place>,
    ) -> Result<Self, DeviceError> {
        let mut readback = Readback { gpu, wave, mapped: Vec::new(), outputs, page_copies, device_ns: None };
        for buffer in buffers {
            let view = buffer.raw.slice(..).get_mapped_range().map_err(|error| DeviceError::Lost {
                adapter: readback.gpu.description.name.clone(),
                reason: format!("the readback is not mapped: {}", one_line(&error.to_string())),
            })?;
            readback.mapped.push(Mapped { buffer, view });
        }
        if let Some(place) = timestamps {
            let ticks: &[u64] = bytemuck::cast_slice(readback.bytes(place));
            let elapsed = ticks[1].saturating_sub(ticks[0]);
            readback.device_ns = Some((elapsed as f64 * f64::from(readback.gpu.queue.get_timestamp_period())) as u64);
        }
        Ok(readback)
    }

    /// The words of an output, or of a page that was read.
    ///
    /// # Panics
    /// When the region is of another wave, or is not one that comes back: a mistake in the kernel.
    pub fn words(&self, region: &Region) -> &[u32] {
        assert_eq!(region.wave, self.wave, "a region belongs to one wave");
        let place = match region.arena {
            Arena::Output => self.outputs[region.index],
            Arena::PageCopy => self.page_copies[region.index],
            Arena::Upload | Arena::Scratch => panic!("uploads and scratch do not come back"),
        };
        bytemuck::cast_slice(self.bytes(place))
    }

    /// The same words, as the bits of floats.
    ///
    /// # Panics
    /// As [`words`](Self::words).
    pub fn f32s(&self, region: &Region) -> &[f32] {
        bytemuck::cast_slice(self.words(region))
    }

    /// How long all dispatches of the wave took on the device, from first to last, where timestamps were asked for.
    pub fn device_ns(&self) -> Option<u64> {
        self.device_ns
    }

    fn bytes(&self, place: Place) -> &[u8] {
        &self.mapped[place.buffer].view[place.offset as usize..(place.offset + place.bytes) as usize]
    }
}

impl Drop for Readback {
    fn drop(&mut self) {
        for Mapped { buffer, view } in self.mapped.drain(..) {
            drop(view);
            buffer.raw.unmap();
            if !self.gpu.is_lost() {
                self.gpu.pool.give_back(Use::ReadbackStaging, buffer);
            }
        }
    }
}

impl fmt::Debug for Readback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readback").field("wave", &self.wave).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}
