//! Timing the device: one batch after the other for its latency, several under way for its throughput.

use std::collections::VecDeque;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use super::case::Workload;
use super::figure::{AdapterFigures, Agreement, DeviceFigure, FedFigure, KernelTime, LinkFigure};
use super::twin::{Runner, percentile, share_of, warm_batches, warm_up};
use super::{Limits, Options, agreement, giga_per_s};
use crate::device::{
    Device, DeviceError, DeviceOptions, Readback, Region, ResidentPages, SharedDevice, Ticket, Wave, calibrate,
};
use crate::kernel::{Kernel, KernelError};

/// Batches under way when throughput is measured: one is converted, one crosses, one computes.
const BATCHES_UNDER_WAY: usize = 3;
/// Batches that follow each other when the kernel alone is timed.
const CONVERTED_BATCHES_MIN: usize = 8;

/// Opens the device that is measured, and measures what is not a kernel's.
pub(super) fn open(options: &Options) -> Result<(SharedDevice, AdapterFigures), DeviceError> {
    let shared = SharedDevice::open(DeviceOptions {
        adapter: options.adapter.clone(),
        allow_software: true,
        checked_shaders: options.checked_shaders,
        timestamps: true,
        // A batch may take as long as one of the twin's, and may have to wait for those before it.
        timeout: options.batch_duration_max.max(Duration::from_secs(5)) * 2 * BATCHES_UNDER_WAY as u32,
        ..DeviceOptions::default()
    })?;
    let device = shared.get()?;
    let round_trip = calibrate::round_trip(&device, options.duration)?;
    let mut links = Vec::new();
    for bytes in calibrate::LINK_BYTES {
        let (up_ns, back_ns) = calibrate::link(&device, bytes, round_trip.p50_ns, 5)?;
        links.push(LinkFigure {
            bytes,
            upload_gb_per_s: giga_per_s(bytes as f64, up_ns),
            readback_gb_per_s: giga_per_s(bytes as f64, back_ns),
        });
    }
    let description = device.description();
    let figures = AdapterFigures {
        name: description.name.clone(),
        driver: description.driver.clone(),
        backend: description.backend.clone(),
        software: description.software,
        checked_shaders: options.checked_shaders,
        round_trip_ns_p50: round_trip.p50_ns,
        round_trip_ns_p99: round_trip.p99_ns,
        links,
        copy_gb_per_s: calibrate::copy_gb_per_s(&device, 5)?,
    };
    Ok((shared, figures))
}

/// A kernel on the device with its state.
struct Resident<'a, W: Workload> {
    workload: &'a W,
    device: &'a Device,
    pages: ResidentPages,
}

/// A batch that is under way.
struct UnderWay<B> {
    batch: Arc<B>,
    regions: Vec<Region>,
    ticket: Ticket,
}

type BatchOf<W> = <<W as Workload>::Kernel as Kernel>::Batch;
type OutputOf<W> = <<W as Workload>::Kernel as Kernel>::Output;

impl<'a, W: Workload> Resident<'a, W> {
    fn new(workload: &'a W, device: &'a Device) -> Self {
        Resident { workload, device, pages: ResidentPages::new(device, workload.kernel().state_shape()) }
    }

    fn start(&mut self, batch: Arc<BatchOf<W>>) -> Result<UnderWay<BatchOf<W>>, KernelError> {
        let wave = self.device.wave()?;
        self.start_in(wave, batch)
    }

    fn start_in(&mut self, mut wave: Wave, batch: Arc<BatchOf<W>>) -> Result<UnderWay<BatchOf<W>>, KernelError> {
        let kernel = self.workload.kernel();
        self.pages.grow(&mut wave, kernel.slot_count(&batch))?;
        let regions = kernel.encode(&batch, &mut self.pages, &mut wave)?;
        Ok(UnderWay { batch, regions, ticket: self.device.submit(wave) })
    }

    fn finish(&self, under_way: UnderWay<BatchOf<W>>) -> Result<(OutputOf<W>, Readback), KernelError> {
        let readback = under_way.ticket.wait()?;
        Ok((self.workload.kernel().decode(&under_way.batch, &under_way.regions, &readback), readback))
    }

    fn run(&mut self, batch: Arc<BatchOf<W>>) -> Result<(OutputOf<W>, Readback), KernelError> {
        let under_way = self.start(batch)?;
        self.finish(under_way)
    }

    /// So many batches, several of them under way.
    fn run_all(&mut self, batches: usize, mut batch: impl FnMut() -> Arc<BatchOf<W>>) -> Result<(), KernelError> {
        let mut under_way = VecDeque::new();
        for index in 0..batches + BATCHES_UNDER_WAY - 1 {
            if index < batches {
                under_way.push_back(self.start(batch())?);
            }
            if index + 1 >= BATCHES_UNDER_WAY
                && let Some(first) = under_way.pop_front()
            {
                drop(std::hint::black_box(self.finish(first)?));
            }
        }
        Ok(())
    }
}

/// Times batches of `rows` rows from columns to answers; the throughput also with each of `threads` threads that convert.
pub(super) fn measure<W: Workload>(
    workload: &W,
    device: &Device,
    rows: usize,
    threads: &[usize],
    limits: &Limits,
) -> Result<DeviceFigure, KernelError> {
    let key_count = workload.key_count(rows);
    let columns = workload.columns(rows, key_count, limits.seed);
    may_run(workload, device)?;
    let mut resident = Resident::new(workload, device);
    let (warm, one) = warm_up(warm_batches(workload, rows, key_count), limits, || {
        resident.run(Arc::new(workload.batch(&columns))).map(drop)
    })?;
    let batches = limits.batches(one);
    let before = device.metrics();
    let (mut whole, mut convert) = (Vec::new(), Vec::new());
    let mut traffic = 0;
    for _ in 0..batches {
        let started = Instant::now();
        let batch = Arc::new(workload.batch(&columns));
        let converted = started.elapsed();
        let (output, _) = resident.run(batch.clone())?;
        whole.push(started.elapsed().as_nanos() as f64);
        convert.push(converted.as_nanos() as f64);
        traffic = workload.traffic_bytes(&batch);
        drop(std::hint::black_box(output));
    }
    let crossed = device.metrics();
    let per_batch = |after: u64, before: u64| (after - before) / batches as u64;

    let started = Instant::now();
    resident.run_all(batches, || Arc::new(workload.batch(&columns)))?;
    let events_per_s = (batches * rows) as f64 / started.elapsed().as_secs_f64().max(1e-9);
    let (batch, converted) = (Arc::new(workload.batch(&columns)), batches.max(CONVERTED_BATCHES_MIN));
    let started = Instant::now();
    resident.run_all(converted, || batch.clone())?;
    let converted_events_per_s = (converted * rows) as f64 / started.elapsed().as_secs_f64().max(1e-9);
    let mut kernel = kernel_ns(&mut resident, &batch, limits)?;
    drop(batch);
    drop(resident);
    let fed = threads.iter().map(|&threads| fed(workload, device, rows, threads, batches, limits));
    let fed = fed.collect::<Result<_, _>>()?;

    let kernel_ns_p50 = Some(percentile(&mut kernel, 0.5)).filter(|_| !kernel.is_empty());
    Ok(DeviceFigure {
        batches: batches as u64,
        warm,
        batch_ns_p50: percentile(&mut whole, 0.5),
        batch_ns_p99: percentile(&mut whole, 0.99),
        convert_ns_p50: percentile(&mut convert, 0.5),
        kernel_ns_p50,
        events_per_s,
        fed,
        converted_events_per_s,
        upload_bytes: per_batch(crossed.upload_bytes, before.upload_bytes),
        readback_bytes: per_batch(crossed.readback_bytes, before.readback_bytes),
        kernel_gb_per_s: kernel_ns_p50.map(|ns| giga_per_s(traffic as f64, ns)),
        kernel_share_of_copy: None,
    })
}

/// The kernel alone on batches of `rows` rows, as soon as it can be told.
pub(super) fn kernel_time<W: Workload>(
    workload: &W,
    device: &Device,
    rows: usize,
    limits: &Limits,
) -> Result<KernelTime, KernelError> {
    let key_count = workload.key_count(rows);
    may_run(workload, device)?;
    let mut resident = Resident::new(workload, device);
    let batch = Arc::new(workload.batch(&workload.columns(rows, key_count, limits.seed)));
    warm_up(warm_batches(workload, rows, key_count), limits, || resident.run(batch.clone()).map(drop))?;
    let (before, started) = (device.metrics(), Instant::now());
    drop(std::hint::black_box(resident.run(batch.clone())?));
    let (after, whole) = (device.metrics(), started.elapsed());
    let times = kernel_ns(&mut resident, &batch, limits)?;
    Ok(KernelTime {
        kernel_ns: times.into_iter().min_by(f64::total_cmp),
        whole_ns: whole.as_nanos() as f64,
        upload_bytes: after.upload_bytes - before.upload_bytes,
        readback_bytes: after.readback_bytes - before.readback_bytes,
    })
}

/// The throughput when a batch is cut by key among threads that share the device.
fn fed<W: Workload>(
    workload: &W,
    device: &Device,
    rows: usize,
    threads: usize,
    batches: usize,
    limits: &Limits,
) -> Result<FedFigure, KernelError> {
    let key_count = workload.key_count(rows).max(1);
    let barrier = Barrier::new(threads);
    let run = |thread: usize| {
        let (share, keys) = (share_of(rows, threads, thread), share_of(key_count, threads, thread));
        let columns = workload.columns(share, keys, limits.seed + thread as u64);
        let mut resident = Resident::new(workload, device);
        let warm = warm_up(warm_batches(workload, share, keys), limits, || {
            resident.run(Arc::new(workload.batch(&columns))).map(drop)
        });
        // Whoever fails still lets the others go on.
        barrier.wait();
        let started = Instant::now();
        warm.and_then(|_| resident.run_all(batches, || Arc::new(workload.batch(&columns))))?;
        Ok((started, Instant::now()))
    };
    let spans = std::thread::scope(|scope| {
        let run = &run;
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        all.into_iter()
            .map(|thread| thread.join().expect("a device does not panic on input of its workload"))
            .collect::<Result<Vec<_>, KernelError>>()
    })?;
    let first = spans.iter().map(|(started, _)| *started).min();
    let last = spans.iter().map(|(_, ended)| *ended).max();
    let duration = first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first);
    Ok(FedFigure { threads, events_per_s: (batches * rows) as f64 / duration.as_secs_f64().max(1e-9) })
}

/// What one batch takes on the device, again and again, right after other work where the limits say so: a card that has waited while a batch was converted or
/// crossed the bus has slowed down its clocks when that comes, by up to six times.
fn kernel_ns<W: Workload>(
    resident: &mut Resident<'_, W>,
    batch: &Arc<BatchOf<W>>,
    limits: &Limits,
) -> Result<Vec<f64>, KernelError> {
    const BATCHES_MIN: usize = 5;
    /// As long as clocks take to rise.
    const BUSY_BEFORE: Duration = Duration::from_millis(300);
    let is_busy = limits.busy && !resident.device.description().software;
    let batches_min = if limits.busy { BATCHES_MIN } else { 1 };
    let started = Instant::now();
    while is_busy && started.elapsed() < BUSY_BEFORE {
        let mut wave = resident.device.wave()?;
        calibrate::keep_busy(&mut wave)?;
        resident.device.submit(wave).wait()?;
    }
    let (mut times, mut one) = (Vec::new(), Duration::ZERO);
    let started = Instant::now();
    while times.len() < limits.batches(one).max(batches_min) {
        let mut wave = resident.device.wave()?;
        if is_busy {
            calibrate::keep_busy(&mut wave)?;
        }
        let under_way = resident.start_in(wave, batch.clone())?;
        // A device without timestamps tells nothing, however often it is asked.
        let Some(ns) = resident.finish(under_way)?.1.device_ns() else { break };
        times.push(ns as f64);
        one = started.elapsed() / times.len() as u32;
    }
    Ok(times)
}

/// Whether the adapter computes rightly what the kernel needs.
fn may_run<W: Workload>(workload: &W, device: &Device) -> Result<(), DeviceError> {
    device.self_test().allows_kernel(workload.kernel()).map_err(|(need, reason)| DeviceError::Refused {
        adapter: device.description().name.clone(),
        wanted: need.name().to_owned(),
        reason: reason.to_owned(),
    })
}

/// Compares device and twin over several batches from fresh state.
pub(super) fn agreement<W: Workload>(
    workload: &W,
    device: &Device,
    rows: usize,
    limits: &Limits,
) -> Result<Agreement, KernelError> {
    may_run(workload, device)?;
    let exactness = device.self_test().agreement(workload.kernel().exactness());
    let mut twin = Runner::new(workload);
    let mut resident = Resident::new(workload, device);
    let mut found = Agreement::default();
    for step in 0..agreement::STEPS {
        let batch = Arc::new(workload.batch(&workload.columns(rows, workload.key_count(rows), limits.seed + step)));
        let expected = workload.answer(twin.run(&batch));
        let (output, _) = resident.run(batch)?;
        agreement::compare(&mut found, exactness, &expected, &workload.answer(output));
    }
    Ok(found)
}
