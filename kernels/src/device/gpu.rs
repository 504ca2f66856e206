//! What the callers of a device and its thread share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::adapter::{self, AdapterDescription};
use super::error::{ErrorKind, one_line};
use super::faults::Faults;
use super::memory::{Budget, Pool};
use super::program::Pipelines;
use super::self_test::SelfTest;
use super::{DeviceError, DeviceMetrics, DeviceOptions, MemoryBudget};

/// The most waves that there may be at a time, recorded and under way together.
const WAVES_MAX: usize = 64;
/// What is assumed of an adapter that does not tell its memory.
const MEMORY_BYTES_ASSUMED: u64 = 2 << 30;
/// The first wave's staging.
const UPLOAD_BYTES_FIRST: u64 = 256 << 10;

/// A device with all that belongs to it.
#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) description: AdapterDescription,
    pub(super) binding_bytes_max: u64,
    pub(super) timeout: Duration,
    pub(super) timestamps: bool,
    pub(super) budget: Arc<Budget>,
    pub(super) pool: Arc<Pool>,
    pub(super) pipelines: Pipelines,
    pub(super) faults: Faults,
    pub(super) counters: Counters,
    pub(super) self_test: OnceLock<SelfTest>,
    lost: Arc<Lost>,
    waves: Arc<Waves>,
    /// When the last answer came.
    progress: Mutex<Instant>,
    upload_bytes_expected: AtomicU64,
}

/// Why a device cannot be used any more. The first reason stays.
#[derive(Debug, Default)]
struct Lost {
    flag: AtomicBool,
    reason: Mutex<Option<DeviceError>>,
}

impl Lost {
    fn mark(&self, error: DeviceError) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.flag.store(true, Ordering::Release);
    }
}

/// Figures since the device was opened.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) waves: AtomicU64,
    pub(super) dispatches: AtomicU64,
    pub(super) upload_bytes: AtomicU64,
    pub(super) readback_bytes: AtomicU64,
    errors: [AtomicU64; ErrorKind::ALL.len()],
}

impl Counters {
    pub(super) fn count_error(&self, kind: ErrorKind) {
        self.errors[kind.index()].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts the waves that there are.
#[derive(Debug, Default)]
struct Waves {
    count: Mutex<usize>,
    fewer: Condvar,
}

/// One of the waves that there may be at a time, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<Waves>);

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.fewer.notify_one();
    }
}

impl Gpu {
    pub(super) fn open(options: &DeviceOptions) -> Result<Arc<Self>, DeviceError> {
        let (adapter, description) = adapter::choose(options.adapter.as_deref(), options.allow_software)?;
        let mut limits = wgpu::Limits::default();
        if !options.default_limits {
            let (default, best) = (limits.clone(), adapter.limits());
            limits.max_storage_buffer_binding_size =
                best.max_storage_buffer_binding_size.max(default.max_storage_buffer_binding_size);
            limits.max_buffer_size = best.max_buffer_size.max(default.max_buffer_size);
        }
        let timestamps = options.timestamps && adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let mut features = wgpu::Features::SUBGROUP & adapter.features();
        features.set(wgpu::Features::TIMESTAMP_QUERY, timestamps);
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("eagre"),
            required_features: features,
            required_limits: limits.clone(),
            ..Default::default()
        }))
        .map_err(|error| DeviceError::Open {
            adapter: description.name.clone(),
            reason: one_line(&error.to_string()),
        })?;

        let lost = Arc::new(Lost::default());
        let (name, flag) = (description.name.clone(), lost.clone());
        device.set_device_lost_callback(move |_, reason| {
            let reason = if reason.is_empty() { "the driver says no more".to_owned() } else { reason };
            flag.mark(DeviceError::Lost { adapter: name.clone(), reason });
        });
        // Every submission looks for its own errors. What comes besides is a mistake of which nobody knows what it spoilt.
        let (name, flag) = (description.name.clone(), lost.clone());
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            flag.mark(DeviceError::Validation {
                what: "a command outside of a wave".to_owned(),
                adapter: name.clone(),
                reason: one_line(&error.to_string()),
            });
        }));

        let limit_bytes = match options.memory {
            MemoryBudget::Bytes(bytes) => bytes,
            MemoryBudget::Share(share) => {
                (description.memory_bytes.unwrap_or(MEMORY_BYTES_ASSUMED) as f64 * share.clamp(0.0, 1.0)) as u64
            }
        };
        let budget = Budget::new(limit_bytes);
        // Offsets within a buffer are 32 bits on some drivers, and no buffer has to be larger.
        let buffer_bytes_max = limits.max_buffer_size.min(1 << 31) / 256 * 256;
        let pool = Pool::new(device.clone(), description.name.clone(), budget.clone(), buffer_bytes_max);
        Ok(Arc::new(Gpu {
            pipelines: Pipelines::new(device.clone(), description.name.clone(), options.checked_shaders),
            binding_bytes_max: limits.max_storage_buffer_binding_size.min(buffer_bytes_max) / 4 * 4,
            timeout: options.timeout,
            timestamps,
            budget,
            pool,
            faults: options.faults.clone(),
            counters: Counters::default(),
            self_test: OnceLock::new(),
            lost,
            waves: Arc::default(),
            progress: Mutex::new(Instant::now()),
            upload_bytes_expected: AtomicU64::new(UPLOAD_BYTES_FIRST),
            device,
            queue,
            description,
        }))
    }

    /// A place among the waves that there may be at a time. Waits until one is free, as long as a wave may take.
    pub(super) fn slot(&self) -> Result<Slot, DeviceError> {
        let waves = self.waves.count.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut waves, _) = self
            .waves
            .fewer
            .wait_timeout_while(waves, self.timeout, |waves| *waves >= WAVES_MAX)
            .unwrap_or_else(PoisonError::into_inner);
        if *waves >= WAVES_MAX {
            return Err(DeviceError::Busy { waves: *waves });
        }
        *waves += 1;
        Ok(Slot(self.waves.clone()))
    }

    /// An answer has come.
    pub(super) fn note_progress(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nothing has happened to a wave that was submitted then, neither to it nor to those before it.
    pub(super) fn idle_since(&self, submitted: Instant) -> Duration {
        let progress = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.max(submitted).elapsed()
    }

    /// A number that no other wave of this process has, on any device.
    pub(super) fn next_wave_id(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// How large the staging of the next wave should be: as those before it were, the last ones most.
    pub(super) fn upload_bytes_expected(&self) -> u64 {
        self.upload_bytes_expected.load(Ordering::Relaxed)
    }

    pub(super) fn expect_upload_bytes(&self, bytes: u64) {
        let expected = u64::midpoint(self.upload_bytes_expected(), bytes);
        self.upload_bytes_expected.store(expected.min(self.pool.buffer_bytes_max()), Ordering::Relaxed);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.flag.load(Ordering::Acquire)
    }

    /// From now on nothing is sent to the device any more.
    pub(super) fn mark_lost(&self, error: &DeviceError) {
        self.lost.mark(error.clone());
    }

    /// Why the device cannot be used any more, if so.
    pub(super) fn lost_error(&self) -> Option<DeviceError> {
        if !self.is_lost() {
            return None;
        }
        self.lost.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn timeout_error(&self) -> DeviceError {
        DeviceError::Timeout { adapter: self.description.name.clone(), timeout_ms: self.timeout.as_millis() as u64 }
    }

    pub(super) fn metrics(&self) -> DeviceMetrics {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DeviceMetrics {
            waves: load(&self.counters.waves),
            waves_in_flight: *self.waves.count.lock().unwrap_or_else(PoisonError::into_inner),
            dispatches: load(&self.counters.dispatches),
            upload_bytes: load(&self.counters.upload_bytes),
            readback_bytes: load(&self.counters.readback_bytes),
            held_bytes: self.budget.held_bytes(),
            budget_bytes: self.budget.limit_bytes(),
            pipelines: self.pipelines.count(),
            buffers_created: self.pool.created(),
            errors: ErrorKind::ALL.map(|kind| (kind, load(&self.counters.errors[kind.index()]))),
        }
    }
}
