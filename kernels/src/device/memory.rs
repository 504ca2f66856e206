//! Memory of the device: a byte budget, and buffers that are used again.
//!
//! The budget is counted here because drivers do not police it: some give out more than there is and fail, or kill the process, when it
//! is touched. Every buffer holds a [`Reservation`] and gives it back when it is freed.
//!
//! A buffer costs much to make (it is mapped, zeroed, and its pages are faulted in), so the buffers of a wave come from a [`Pool`] in
//! sizes that are powers of two, and go back to it: in steady state no wave makes one. Staging buffers are the ring: while one wave's are
//! in use by the device, the next wave fills others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DeviceError;

/// Counts the bytes that are held against the bytes that may be.
#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: u64,
    held_bytes: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Budget { limit_bytes, held_bytes: AtomicU64::new(0) })
    }

    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Takes `bytes` out of the budget until the reservation is dropped.
    pub(super) fn reserve(self: &Arc<Self>, what: &'static str, bytes: u64) -> Result<Reservation, DeviceError> {
        self.held_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|&total| total <= self.limit_bytes)
            })
            .map(|_| Reservation { budget: self.clone(), bytes })
            .map_err(|held_bytes| self.exhausted(what, bytes, held_bytes))
    }

    pub(super) fn exhausted(&self, what: &'static str, asked_bytes: u64, held_bytes: u64) -> DeviceError {
        DeviceError::OutOfBudget { what, asked_bytes, held_bytes, budget_bytes: self.limit_bytes }
    }
}

/// A part of the budget.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A buffer with its part of the budget.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) raw: wgpu::Buffer,
    pub(super) bytes: u64,
    _reservation: Reservation,
}

/// What a buffer is for. Each use has its own buffers, because the device tracks whether a buffer is read or written as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Filled by the CPU, copied from by the device.
    UploadStaging,
    /// What shaders read of the wave's upload.
    Upload,
    /// What shaders write and, in later dispatches, read.
    Scratch,
    /// Copied to by the device, read by the CPU.
    ReadbackStaging,
    /// A page of state, which stays.
    Page,
    /// A constant table, which stays.
    Table,
    /// Where timestamps go before they are copied.
    Timestamps,
}

impl Use {
    const POOLED: usize = 4;

    fn usages(self) -> wgpu::BufferUsages {
        use wgpu::BufferUsages as U;
        match self {
            Use::UploadStaging => U::MAP_WRITE | U::COPY_SRC,
            Use::Upload => U::STORAGE | U::UNIFORM | U::COPY_DST,
            Use::Scratch => U::STORAGE | U::COPY_SRC | U::COPY_DST,
            Use::ReadbackStaging => U::MAP_READ | U::COPY_DST,
            Use::Page => U::STORAGE | U::COPY_SRC | U::COPY_DST,
            Use::Table => U::STORAGE | U::COPY_DST,
            Use::Timestamps => U::QUERY_RESOLVE | U::COPY_SRC,
        }
    }

    pub(super) fn what(self) -> &'static str {
        match self {
            Use::UploadStaging => "staging of an upload",
            Use::Upload => "an upload",
            Use::Scratch => "scratch and output",
            Use::ReadbackStaging => "staging of a readback",
            Use::Page => "a page of state",
            Use::Table => "a constant table",
            Use::Timestamps => "timestamps",
        }
    }
}

/// The smallest buffer of a pool.
const POOLED_BYTES_MIN: u64 = 64 << 10;
/// How many free buffers of a use are kept at most, and how many however large they are: a ring.
const POOLED_FREE_MAX: usize = 8;
const POOLED_FREE_MIN: usize = 3;
/// How many times as large as needed a buffer may be: small waves leave the large ones to large waves.
const POOLED_EXCESS_MAX: u64 = 16;
/// How many bytes of free buffers of a use are kept, beyond that: so many, or a share of the budget where that is more.
const POOLED_FREE_BYTES_MAX: u64 = 512 << 20;
const POOLED_FREE_OF_BUDGET: u64 = 32;

/// Free buffers by use, those that came back last at the end.
#[derive(Debug)]
pub(super) struct Pool {
    device: wgpu::Device,
    adapter: String,
    budget: Arc<Budget>,
    buffer_bytes_max: u64,
    created: AtomicU64,
    free: [Mutex<Vec<Buffer>>; Use::POOLED],
}

impl Pool {
    pub(super) fn new(device: wgpu::Device, adapter: String, budget: Arc<Budget>, buffer_bytes_max: u64) -> Arc<Self> {
        Arc::new(Pool {
            device,
            adapter,
            budget,
            buffer_bytes_max,
            created: AtomicU64::new(0),
            free: Default::default(),
        })
    }

    pub(super) fn buffer_bytes_max(&self) -> u64 {
        self.buffer_bytes_max
    }

    /// How many buffers were made so far.
    pub(super) fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    fn free(&self, usage: Use) -> MutexGuard<'_, Vec<Buffer>> {
        // A list of buffers is whole whatever happened to the thread that held it.
        self.free[usage as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of at least `bytes`; staging of uploads comes mapped.
    pub(super) fn take(&self, usage: Use, bytes: u64) -> Result<Buffer, DeviceError> {
        let bytes = bytes.max(POOLED_BYTES_MIN);
        if bytes > self.buffer_bytes_max {
            return Err(DeviceError::TooLarge { what: usage.what(), bytes, limit_bytes: self.buffer_bytes_max });
        }
        let bytes = bytes.next_power_of_two().min(self.buffer_bytes_max);
        let mut free = self.free(usage);
        let fitting = bytes..=bytes.saturating_mul(POOLED_EXCESS_MAX);
        let best = (0..free.len())
            .rev()
            .filter(|&index| fitting.contains(&free[index].bytes))
            .min_by_key(|&index| free[index].bytes);
        if let Some(index) = best {
            return Ok(free.remove(index));
        }
        drop(free);
        self.create(usage, bytes)
    }

    /// A buffer of exactly `bytes`, not from the pool. When the budget is exhausted, what lies free in the pool is given up for it.
    pub(super) fn create(&self, usage: Use, bytes: u64) -> Result<Buffer, DeviceError> {
        if bytes > self.buffer_bytes_max {
            return Err(DeviceError::TooLarge { what: usage.what(), bytes, limit_bytes: self.buffer_bytes_max });
        }
        let reservation = self.budget.reserve(usage.what(), bytes).or_else(|_| {
            self.clear();
            self.budget.reserve(usage.what(), bytes)
        })?;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(usage.what()),
            size: bytes,
            usage: usage.usages(),
            mapped_at_creation: usage == Use::UploadStaging,
        });
        self.created.fetch_add(1, Ordering::Relaxed);
        match pollster::block_on(scope.pop()) {
            None => Ok(Buffer { raw, bytes, _reservation: reservation }),
            Some(_) => {
                let adapter = self.adapter.clone();
                Err(DeviceError::OutOfMemory { what: usage.what(), adapter, asked_bytes: bytes })
            }
        }
    }

    /// Takes a buffer back; staging of uploads must be mapped, all others not. What nobody has used for longest makes room: after
    /// large waves small ones keep their buffers, which would cost them milliseconds to make each time.
    pub(super) fn give_back(&self, usage: Use, buffer: Buffer) {
        let bytes_max = POOLED_FREE_BYTES_MAX.max(self.budget.limit_bytes() / POOLED_FREE_OF_BUDGET);
        let mut free = self.free(usage);
        free.push(buffer);
        while free.len() > POOLED_FREE_MAX
            || (free.len() > POOLED_FREE_MIN && free.iter().map(|buffer| buffer.bytes).sum::<u64>() > bytes_max)
        {
            drop(free.remove(0));
        }
    }

    /// Frees all that is not in use.
    pub(super) fn clear(&self) {
        for free in &self.free {
            free.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_never_exceeded_and_comes_back() {
        let budget = Budget::new(100);
        let first = budget.reserve("a test", 60).expect("60 of 100");
        let error = budget.reserve("a test", 41).expect_err("41 more");
        assert!(error.to_string().contains("needs 41 bytes on the device, which holds 60 of the 100"), "{error}");
        let second = budget.reserve("a test", 40).expect("exactly what is left");
        drop(first);
        assert_eq!(budget.held_bytes(), 40);
        drop(second);
        assert_eq!(budget.held_bytes(), 0);
        assert!(budget.reserve("a test", u64::MAX).is_err());
    }
}
