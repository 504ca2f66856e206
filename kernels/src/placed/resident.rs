//! The part of a placement that is on a device.

use std::collections::VecDeque;
use std::sync::Arc;

use super::backoff::BackoffState;
use super::group::{Answer, WaveGroup};
use super::{Placed, PlacementEvent, Step, StepKind};
use crate::device::{Device, DeviceError, Region, ResidentPages, SharedDevice};
use crate::kernel::{Kernel, KernelError};

/// How many bytes of pages are copied with one wave, so that staging stays bounded however large the state is.
const COPY_BYTES_MAX: usize = 256 << 20;

/// A device that the placement was moved to, and how it does.
#[derive(Debug)]
pub(super) struct Wanted {
    device: SharedDevice,
    backoff: BackoffState,
}

impl Wanted {
    pub(super) fn new(device: SharedDevice) -> Self {
        Wanted { device, backoff: BackoffState::default() }
    }

    pub(super) fn is(&self, device: &SharedDevice) -> bool {
        self.device.is_same(device)
    }

    pub(super) fn device(&self) -> &SharedDevice {
        &self.device
    }
}

/// State that lies on a device, and what is needed to do without it.
pub(super) struct Resident<K: Kernel> {
    device: Device,
    pages: ResidentPages,
    /// Batches that were answered since the mirror was taken, in order.
    retained: Vec<Kept<K>>,
    /// Steps that were not answered yet, in order.
    in_flight: VecDeque<InFlight<K>>,
    retained_bytes: usize,
}

/// Changed pages with where they come back, and how many slots there are then.
struct PageCopies {
    slot_count: usize,
    pages: Vec<(usize, Region)>,
}

struct Kept<K: Kernel> {
    batch: Arc<K::Batch>,
    bytes: usize,
}

struct InFlight<K: Kernel> {
    number: u64,
    kept: Kept<K>,
    regions: Vec<Region>,
    answer: Arc<Answer>,
    /// Pages that are copied back with this step, as they are after it.
    copies: Option<PageCopies>,
}

impl<K: Kernel> Resident<K> {
    pub(super) fn retained_bytes(&self) -> usize {
        self.retained_bytes
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.pages.bytes()
    }

    fn copy_bytes(&self, pages: usize) -> usize {
        pages * self.pages.shape().page_words() * 4
    }
}

/// What keeping a batch takes besides its rows, about: many small ones are many bytes too.
const BATCH_OVERHEAD_BYTES: usize = 512;

impl<K: Kernel> Placed<K> {
    /// Records the step for the device; `None` when it is to be done on the CPU.
    pub(super) fn start_on_device(&mut self, batch: &Arc<K::Batch>, group: &mut WaveGroup) -> Option<Step<K>> {
        if self.device.is_none() {
            let wanted = self.wanted.as_mut()?;
            if !wanted.backoff.step() {
                return None;
            }
            // What it says was said when it failed; the next try comes after a longer pause.
            self.try_device().ok()?;
        }
        let bytes = self.kernel.batch_bytes(batch) + BATCH_OVERHEAD_BYTES;
        self.make_room(bytes);
        match self.record(batch, bytes, group) {
            Ok(step) => step,
            Err(error) => {
                self.fall_back(&error);
                None
            }
        }
    }

    /// Keeps what is retained bounded where that takes a copy of more pages than go with a step.
    fn make_room(&mut self, bytes: usize) {
        let Some(device) = &self.device else { return };
        let full = device.retained_bytes + bytes > self.options.retained_bytes_max;
        if full && device.copy_bytes(device.pages.dirty_pages().len()) > COPY_BYTES_MAX {
            self.sync_from_device();
        }
    }

    fn record(
        &mut self,
        batch: &Arc<K::Batch>,
        bytes: usize,
        group: &mut WaveGroup,
    ) -> Result<Option<Step<K>>, DeviceError> {
        let Some(device) = &mut self.device else { return Ok(None) };
        let (wave, answer) = group.wave(&device.device)?;
        let mark = wave.mark();
        let mut record = || -> Result<(Vec<Region>, Option<PageCopies>), DeviceError> {
            device.pages.grow(wave, self.kernel.slot_count(batch))?;
            let regions = self.kernel.encode(batch, &mut device.pages, wave).map_err(device_error)?;
            let copies = (device.retained_bytes + bytes > self.options.retained_bytes_max).then(|| {
                let dirty = device.pages.dirty_pages().into_iter();
                let pages = dirty.map(|page| (page, wave.read_page(&device.pages, page))).collect();
                PageCopies { slot_count: device.pages.slot_count(), pages }
            });
            match wave.failure() {
                Some(failure) => Err(failure.clone()),
                None => Ok((regions, copies)),
            }
        };
        match record() {
            Ok((regions, copies)) => {
                for (page, _) in copies.iter().flat_map(|copies| &copies.pages) {
                    device.pages.mark_clean(*page);
                }
                let number = self.next_step;
                self.next_step += 1;
                group.note_recorded();
                device.retained_bytes += bytes;
                device.in_flight.push_back(InFlight {
                    number,
                    kept: Kept { batch: batch.clone(), bytes },
                    regions,
                    answer: answer.clone(),
                    copies,
                });
                Ok(Some(Step(StepKind::Waiting(number, answer))))
            }
            Err(error) => {
                // The wave is shared: what this kernel could not finish must not spoil the others' work.
                wave.roll_back(mark);
                Err(error)
            }
        }
    }

    pub(super) fn finish_on_device(&mut self, number: u64) -> K::Output {
        if !self.outputs.contains_key(&number) {
            self.settle(Some(number));
        }
        self.outputs
            .remove(&number)
            .expect("a step of this placement, finished once, was answered by the device or by the twin")
    }

    /// Takes the answers of all steps up to one, or of all, in order.
    fn settle(&mut self, last: Option<u64>) {
        while let Some(device) = &mut self.device {
            let due = device.in_flight.front().is_some_and(|step| last.is_none_or(|last| step.number <= last));
            if !due {
                return;
            }
            let Some(step) = device.in_flight.pop_front() else { return };
            match step.answer.wait() {
                Ok(readback) => {
                    let output = self.kernel.decode(&step.kept.batch, &step.regions, readback);
                    self.outputs.insert(step.number, output);
                    self.metrics.device_batches += 1;
                    if self.kernel.keeps_state() {
                        device.retained.push(step.kept);
                    } else {
                        device.retained_bytes -= step.kept.bytes;
                    }
                    if let Some(copies) = step.copies {
                        self.state.grow(copies.slot_count);
                        for (page, region) in copies.pages {
                            let words = readback.words(&region);
                            self.state.page_mut(page)[..words.len()].copy_from_slice(words);
                        }
                        device.retained_bytes -= device.retained.drain(..).map(|kept| kept.bytes).sum::<usize>();
                        self.metrics.syncs += 1;
                    }
                    if let Some(wanted) = &mut self.wanted {
                        wanted.backoff.succeed(self.options.backoff);
                    }
                }
                Err(error) => {
                    device.in_flight.push_front(step);
                    self.fall_back(&error);
                }
            }
        }
    }

    /// The device has failed: the twin does again what was kept, and the placement goes on on the CPU.
    fn fall_back(&mut self, error: &DeviceError) {
        let Some(device) = self.device.take() else { return };
        // Freed first, because the twin may need long.
        drop(device.pages);
        let replayed_batches = device.retained.len() + device.in_flight.len();
        for kept in device.retained {
            self.state.grow(self.kernel.slot_count(&kept.batch));
            drop(self.kernel.run_twin(&kept.batch, &mut self.state));
        }
        for step in device.in_flight {
            let output = self.run_twin(&step.kept.batch);
            self.outputs.insert(step.number, output);
        }
        self.metrics.fall_backs += 1;
        self.metrics.replayed_batches += replayed_batches as u64;
        self.pause(error, replayed_batches);
    }

    fn pause(&mut self, error: &DeviceError, replayed_batches: usize) {
        let Some(wanted) = &mut self.wanted else { return };
        let retry_after_steps = wanted.backoff.fail(self.options.backoff);
        let (kernel, reason) = (self.kernel.name(), error.to_string());
        (self.options.on_event)(&PlacementEvent::FellBack { kernel, reason, replayed_batches, retry_after_steps });
    }

    /// Puts the state on the wanted device.
    pub(super) fn try_device(&mut self) -> Result<(), DeviceError> {
        self.try_device_telling(true)
    }

    /// The same; whether anybody is told that it is there now.
    fn try_device_telling(&mut self, tell: bool) -> Result<(), DeviceError> {
        let Some(wanted) = &self.wanted else { return Ok(()) };
        let placed = wanted.device.get().and_then(|device| {
            self.check_self_test(&device)?;
            self.upload_state(device)
        });
        match placed {
            Ok(resident) => {
                let adapter = resident.device.description().name.clone();
                self.device = Some(resident);
                if tell {
                    (self.options.on_event)(&PlacementEvent::MovedToDevice { kernel: self.kernel.name(), adapter });
                }
                Ok(())
            }
            Err(error @ DeviceError::Refused { .. }) => {
                // It will compute wrongly the next time too.
                self.wanted = None;
                let (kernel, reason) = (self.kernel.name(), error.to_string());
                (self.options.on_event)(&PlacementEvent::Refused { kernel, reason });
                Err(error)
            }
            Err(error) => {
                self.pause(&error, 0);
                Err(error)
            }
        }
    }

    /// A device that computes wrongly what this kernel needs does not get it.
    fn check_self_test(&self, device: &Device) -> Result<(), DeviceError> {
        device.self_test().allows_kernel(&*self.kernel).map_err(|(need, reason)| DeviceError::Refused {
            adapter: device.description().name.clone(),
            wanted: need.name().to_owned(),
            reason: reason.to_owned(),
        })
    }

    fn upload_state(&self, device: Device) -> Result<Resident<K>, DeviceError> {
        let mut pages = ResidentPages::new(&device, self.kernel.state_shape());
        pages.grow_unset(self.state.slot_count())?;
        for page in 0..self.state.page_count() {
            let mut wave = device.wave()?;
            // Slots that come later are not filled again on the device.
            wave.write_page(&pages, page, &self.state.whole_page(page));
            device.submit(wave).wait()?;
        }
        Ok(Resident { device, pages, retained: Vec::new(), in_flight: VecDeque::new(), retained_bytes: 0 })
    }

    /// Waits for all steps, and brings the mirror up to them.
    pub(super) fn sync_from_device(&mut self) {
        self.settle(None);
        if let Err(error) = self.copy_back() {
            self.fall_back(&error);
        }
    }

    fn copy_back(&mut self) -> Result<(), DeviceError> {
        let Some(device) = &mut self.device else { return Ok(()) };
        let dirty = device.pages.dirty_pages();
        let page_bytes = device.copy_bytes(1);
        let mut copies: Vec<(usize, Box<[u32]>)> = Vec::new();
        for pages in dirty.chunks((COPY_BYTES_MAX / page_bytes).max(1)) {
            let mut wave = device.device.wave()?;
            let regions: Vec<Region> = pages.iter().map(|&page| wave.read_page(&device.pages, page)).collect();
            let readback = device.device.submit(wave).wait()?;
            copies.extend(pages.iter().zip(&regions).map(|(&page, region)| (page, readback.words(region).into())));
        }
        // Only when all are there: a mirror of which one half is older than the other is of no time at all.
        self.state.grow(device.pages.slot_count());
        for (page, words) in copies {
            self.state.page_mut(page)[..words.len()].copy_from_slice(&words);
            device.pages.mark_clean(page);
        }
        device.retained.clear();
        device.retained_bytes = 0;
        self.metrics.syncs += 1;
        Ok(())
    }

    /// The state was replaced: what is on the device is worth nothing any more.
    pub(super) fn restart_on_device(&mut self) {
        if self.device.take().is_some() {
            // It stays where it was, which is nothing to tell; a failure is, and is tried again.
            drop(self.try_device_telling(false));
        }
    }
}

/// Why a kernel could not record its work, as the device's failure.
fn device_error(error: KernelError) -> DeviceError {
    match error {
        KernelError::Device(error) => error,
        other => DeviceError::Kernel { reason: other.to_string() },
    }
}
