//! Calibration: what a round trip, a byte over the bus and an event of each kernel cost on this adapter, and what the twins cost beside.
//!
//! It has to be over before a user notices, so each figure is a few short runs and a median, kernels are measured at two sizes for the
//! slope between them, and a deadline ends it: kernels that it did not come to stay on the CPU and are measured at the next start.
//! Compiling shaders takes most of a first start, and drivers keep them. It cannot be ended once it has begun, so no kernel is begun that
//! would be late if it took as long as the longest one so far, and one whose first run was late already is left for the next start, for
//! which its shaders are kept; but for the first of a start, so that each comes at least one further. Figures are kept in a file by adapter, driver and processor;
//! what happens later corrects them anyway, see [`crate::placer`].

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::program::{Access, Program};
use super::wave::{Binding, Dispatch, Wave};
use super::{AdapterDescription, Device, DeviceError};
use crate::bench::{Case, Limits, percentile};
use crate::placer::{BandwidthPoint, Calibration, KernelFigures, Line, Link, RoundTrip};

/// Figures of another version mean something else.
const CALIBRATION_VERSION: u32 = 1;
/// How long calibrating may take at a start, where a user waits.
pub const START_BUDGET: Duration = Duration::from_millis(300);
/// Sizes at which both ways over the bus are timed.
pub const LINK_BYTES: [u64; 3] = [1 << 20, 16 << 20, 64 << 20];
/// Workgroups of `copy.wgsl`.
pub(crate) const COPY_WORKGROUP_SIZE: u32 = 256;
/// Words that an invocation of it copies.
const COPY_VECTOR_WORDS: usize = 4;
/// The longest copy: what a default binding takes.
const COPY_BYTES: u64 = 127 << 20;
/// A kernel is timed on batches that grow by this factor until one takes [`KERNEL_DURATION`].
const ROWS_FACTOR: usize = 8;
const ROWS_MIN: usize = 64;
const ROWS_MAX: usize = 1 << 18;
const KERNEL_DURATION: Duration = Duration::from_millis(2);
/// By how much launches of a kernel differ on a card, whatever they do.
const LAUNCH_NOISE_NS: f64 = 2_000.0;

/// Copies words from one region to another.
pub static COPY: Program =
    Program { name: "copy", source: include_str!("copy.wgsl"), storage: &[Access::Read, Access::ReadWrite] };

fn copy<'a>(params: &'a [u32; 1], bindings: &'a [Binding<'a>; 2]) -> Dispatch<'a> {
    let workgroups = params[0].div_ceil(COPY_WORKGROUP_SIZE);
    Dispatch { program: &COPY, entry: "copy", overrides: &[], params, bindings, workgroups }
}

/// An empty round trip: a few words up, copied, and back.
///
/// # Errors
/// What the device refuses.
pub fn round_trip(device: &Device, duration: Duration) -> Result<RoundTrip, DeviceError> {
    let mut ns = Vec::new();
    let mut started = Instant::now();
    // The first ones compile the shader and make buffers.
    for trip in 0..2000 {
        if trip == 3 {
            (started, ns) = (Instant::now(), Vec::new());
        }
        ns.push(transfer(device, 64, 64)?);
        if trip >= 10 && started.elapsed() > duration {
            break;
        }
    }
    Ok(RoundTrip { p50_ns: percentile(&mut ns, 0.5), p99_ns: percentile(&mut ns, 0.99) })
}

/// How long both ways take beyond an empty round trip, at one size: filling staging and reading the answer included, because a kernel's
/// caller does both. In ns, to the device and back.
///
/// # Errors
/// What the device refuses.
pub fn link(device: &Device, bytes: u64, round_trip_ns: f64, repeats: usize) -> Result<(f64, f64), DeviceError> {
    let words = (bytes / 4) as usize;
    let median = |up: usize, back: usize| {
        // The first makes the buffers.
        transfer(device, up, back)?;
        let mut ns = (0..repeats.max(1)).map(|_| transfer(device, up, back)).collect::<Result<Vec<_>, _>>()?;
        // A round trip that was slower than all with a load says nothing: no bus moves more than this.
        const BYTES_PER_NS_MAX: f64 = 1000.0;
        Ok::<f64, DeviceError>((percentile(&mut ns, 0.5) - round_trip_ns).max(bytes as f64 / BYTES_PER_NS_MAX))
    };
    Ok((median(words, 64)?, median(64, words)?))
}

/// One wave: so many words up, a few of them copied on the device, so many back and read.
fn transfer(device: &Device, up: usize, back: usize) -> Result<f64, DeviceError> {
    let started = Instant::now();
    let mut wave = device.wave()?;
    let upload = wave.upload_with(up, |words| words.fill(1));
    let output = wave.output(back);
    wave.dispatch(copy(&[16], &[Binding::Region(&upload), Binding::Region(&output)]))?;
    let readback = device.submit(wave).wait()?;
    std::hint::black_box(readback.words(&output).iter().fold(0, |all, word| all ^ word));
    Ok(started.elapsed().as_nanos() as f64)
}

/// What a copy on the device reaches, read and written bytes together, in GB/s; none where the device gives no timestamps.
///
/// # Errors
/// What the device refuses.
pub fn copy_gb_per_s(device: &Device, repeats: usize) -> Result<Option<f64>, DeviceError> {
    let vectors = COPY_BYTES as usize / 4 / COPY_VECTOR_WORDS;
    let words = vectors * COPY_VECTOR_WORDS;
    let time = |dispatches: usize| -> Result<Option<f64>, DeviceError> {
        let mut wave = device.wave()?;
        let (from, to) = (wave.scratch(words), wave.scratch(words));
        for _ in 0..dispatches {
            wave.dispatch(copy(&[vectors as u32], &[Binding::Region(&from), Binding::Region(&to)]))?;
        }
        Ok(device.submit(wave).wait()?.device_ns().map(|ns| ns as f64))
    };
    let Some(_) = time(1)? else { return Ok(None) };
    let mut rates = Vec::new();
    for _ in 0..repeats.max(1) {
        // Several in a row, so that starting the first does not count for much.
        const DISPATCHES: usize = 4;
        if let Some(ns) = time(DISPATCHES)?.filter(|&ns| ns > 0.0) {
            rates.push((DISPATCHES * words * 4 * 2) as f64 / ns);
        }
    }
    Ok(if rates.is_empty() { None } else { Some(percentile(&mut rates, 1.0)) })
}

/// Puts copies into a wave that keep the device busy for some milliseconds, and leave nothing of other buffers in its caches: what comes
/// after them finds the clocks as they are under load, and is timed alone.
///
/// # Errors
/// What the device refuses.
pub(crate) fn keep_busy(wave: &mut Wave) -> Result<(), DeviceError> {
    const BYTES: usize = 64 << 20;
    const DISPATCHES: usize = 100;
    let (from, to) = (wave.scratch(BYTES / 4), wave.scratch(BYTES / 4));
    for _ in 0..DISPATCHES {
        let vectors = (BYTES / 4 / COPY_VECTOR_WORDS) as u32;
        wave.dispatch(copy(&[vectors], &[Binding::Region(&from), Binding::Region(&to)]))?;
    }
    wave.time_from_here();
    Ok(())
}

/// The calibration of a device: the one kept in `file` if it is of this adapter, driver and processor, completed by what it lacks and
/// kept again. `cases` are the workloads to measure kernels on, the first of each kernel; `budget` is about how long it may take.
///
/// # Errors
/// What the device refuses. A file that cannot be read or written is as none.
pub fn calibrate(
    device: &Device,
    cases: &[Box<dyn Case>],
    file: Option<&Path>,
    budget: Duration,
) -> Result<Calibration, DeviceError> {
    let key = key(device.description());
    let kept = file.map(Kept::read).unwrap_or_default();
    let same = |known: &&Calibration| known.adapter == key && known.version == CALIBRATION_VERSION;
    let known = kept.calibrations.iter().find(same).cloned();
    let calibration = measure(device, cases, known.clone(), key, Instant::now() + budget)?;
    if known.as_ref() != Some(&calibration) {
        keep(kept, file, &calibration);
    }
    Ok(calibration)
}

/// As [`calibrate`], with nothing of what was kept.
///
/// # Errors
/// As [`calibrate`].
pub fn calibrate_anew(
    device: &Device,
    cases: &[Box<dyn Case>],
    file: Option<&Path>,
    budget: Duration,
) -> Result<Calibration, DeviceError> {
    let calibration = measure(device, cases, None, key(device.description()), Instant::now() + budget)?;
    keep(file.map(Kept::read).unwrap_or_default(), file, &calibration);
    Ok(calibration)
}

/// Puts a calibration in the place of an older one of the same adapter.
fn keep(mut kept: Kept, file: Option<&Path>, calibration: &Calibration) {
    if let Some(file) = file {
        kept.calibrations.retain(|other| other.adapter != calibration.adapter);
        kept.calibrations.push(calibration.clone());
        kept.write(file);
    }
}

/// Adapter, driver and processor: figures hold for these.
fn key(adapter: &AdapterDescription) -> String {
    format!("{}; {}; {}; {}", adapter.name, adapter.backend, adapter.driver, crate::bench::machine())
}

fn measure(
    device: &Device,
    cases: &[Box<dyn Case>],
    known: Option<Calibration>,
    key: String,
    deadline: Instant,
) -> Result<Calibration, DeviceError> {
    let mut calibration = match known {
        Some(known) => known,
        None => {
            let round_trip = round_trip(device, Duration::from_millis(20))?;
            let (mut upload, mut readback) = (Link::default(), Link::default());
            for (index, bytes) in LINK_BYTES.into_iter().enumerate() {
                let started = Instant::now();
                let (up_ns, back_ns) = link(device, bytes, round_trip.p50_ns, 2)?;
                upload.points.push(BandwidthPoint { bytes, ns: up_ns });
                readback.points.push(BandwidthPoint { bytes, ns: back_ns });
                // The next size takes longer by as much as it is larger, and leaves half of what is left to the kernels.
                let growth = LINK_BYTES.get(index + 1).map_or(0, |next| next.div_ceil(bytes));
                let left = deadline.saturating_duration_since(Instant::now());
                if started.elapsed() * growth as u32 > left / 2 {
                    break;
                }
            }
            Calibration {
                version: CALIBRATION_VERSION,
                adapter: key,
                software: device.description().software,
                round_trip,
                upload,
                readback,
                kernels: Vec::new(),
            }
        }
    };
    let mut pace = Pace::default();
    for (index, case) in cases.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        if calibration.kernel(case.kernel()).is_some() || !pace.allows(left) {
            continue;
        }
        // Each side of each kernel that is left gets the same share, and uses less if it can.
        let rest: BTreeSet<&str> = cases[index..].iter().map(|case| case.kernel()).collect();
        let share = left / 2 / rest.iter().filter(|name| calibration.kernel(name).is_none()).count().max(1) as u32;
        // A kernel that this device refuses is one that it will not be asked for.
        let started = Instant::now();
        let until = pace.until(deadline);
        if let Ok(Some(figures)) = kernel(device, case.as_ref(), &calibration, share, until) {
            calibration.kernels.push(figures);
        }
        pace.took(started.elapsed());
    }
    Ok(calibration)
}

/// How long kernels take to be measured, of which nothing is known before.
#[derive(Debug, Default)]
struct Pace {
    longest: Duration,
}

impl Pace {
    /// Whether another one is likely to be over in what is left.
    fn allows(&self, left: Duration) -> bool {
        !left.is_zero() && left >= self.longest
    }

    /// When one that is begun now is late. The first of a start never is: each start comes at least one further.
    fn until(&self, deadline: Instant) -> Option<Instant> {
        (!self.longest.is_zero()).then_some(deadline)
    }

    fn took(&mut self, duration: Duration) {
        self.longest = self.longest.max(duration);
    }
}

/// One kernel on both sides, at two sizes; none if it is late.
fn kernel(
    device: &Device,
    case: &dyn Case,
    calibration: &Calibration,
    share: Duration,
    until: Option<Instant>,
) -> Result<Option<KernelFigures>, crate::KernelError> {
    let is_late = || until.is_some_and(|until| Instant::now() >= until);
    let limits = Limits {
        duration: KERNEL_DURATION / 2,
        warm_duration: KERNEL_DURATION * 2,
        batches_min: 3,
        batches_max: 16,
        busy: false,
        ..Limits::default()
    };
    let (mut upload_bytes_per_event, mut readback_bytes_per_event) = (0.0, 0.0);
    let device = two_sizes(share, is_late, LAUNCH_NOISE_NS, |rows| {
        let time = case.kernel_time(device, rows, &limits)?;
        upload_bytes_per_event = time.upload_bytes as f64 / rows as f64;
        readback_bytes_per_event = time.readback_bytes as f64 / rows as f64;
        // Without timestamps it is what is left of the whole.
        Ok(time.kernel_ns.unwrap_or_else(|| {
            let around = calibration.round_trip.p50_ns
                + calibration.upload.ns(time.upload_bytes)
                + calibration.readback.ns(time.readback_bytes);
            (time.whole_ns - around).max(0.0)
        }))
    })?;
    // After the device, which may refuse the kernel.
    let Some(device) = device else { return Ok(None) };
    let twin = two_sizes(share, is_late, 0.0, |rows| Ok(case.twin(rows, 1, &limits).kernel_ns_p50))?;
    Ok(twin.map(|twin| KernelFigures {
        kernel: case.kernel().to_owned(),
        twin,
        device,
        upload_bytes_per_event,
        readback_bytes_per_event,
    }))
}

/// The line through the two largest sizes, growing until one takes long enough to be told from noise, or the next would take too long.
/// Sizes that differ by no more than `noise_ns` cost the same: a line through noise would let a kernel look slow for good. None where
/// the first run was late already.
fn two_sizes(
    share: Duration,
    is_late: impl Fn() -> bool,
    noise_ns: f64,
    mut time: impl FnMut(usize) -> Result<f64, crate::KernelError>,
) -> Result<Option<Line>, crate::KernelError> {
    let mut small = (ROWS_MIN as u64, time(ROWS_MIN)?);
    if is_late() {
        return Ok(None);
    }
    // Counted from here, because the first run compiles the shaders, which may take longer than all the others.
    let started = Instant::now();
    let mut rows = ROWS_MIN * ROWS_FACTOR;
    loop {
        let size_started = Instant::now();
        let large = (rows as u64, time(rows)?);
        let next = size_started.elapsed() * ROWS_FACTOR as u32;
        rows *= ROWS_FACTOR;
        if large.1 >= KERNEL_DURATION.as_nanos() as f64 || rows > ROWS_MAX || started.elapsed() + next > share {
            let beyond_noise = if large.1 - small.1 > noise_ns { large.1 } else { small.1 };
            return Ok(Some(Line::through(small, (large.0, beyond_noise))));
        }
        small = large;
    }
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    calibrations: Vec<Calibration>,
}

impl Kept {
    fn read(file: &Path) -> Self {
        std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Writes beside it and renames, so that another process never reads half of it.
    fn write(&self, file: &Path) {
        let Ok(text) = serde_json::to_vec_pretty(self) else { return };
        let beside = file.with_extension(format!("{}.new", std::process::id()));
        // A calibration that is not kept is made again.
        if std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, file)).is_err() {
            let _ = std::fs::remove_file(&beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was measured so far says how long the next takes: a start does not wait for a kernel that will be late.
    #[test]
    fn no_kernel_is_begun_that_would_be_late() {
        let ms = Duration::from_millis;
        let mut pace = Pace::default();
        assert!(pace.allows(ms(1)) && !pace.allows(Duration::ZERO), "of the first one nothing is known");
        pace.took(ms(80));
        pace.took(ms(20));
        assert!(pace.allows(ms(80)) && !pace.allows(ms(79)));
        assert_eq!(Pace::default().until(Instant::now()), None, "each start comes one further");
        assert!(pace.until(Instant::now()).is_some());
    }

    /// A first run compiles shaders, and nothing ends it; but then nothing more is run.
    #[test]
    fn a_kernel_that_is_late_is_left_for_the_next_start() {
        let mut runs = 0;
        let line = two_sizes(
            Duration::from_secs(1),
            || true,
            0.0,
            |_| {
                runs += 1;
                Ok(1e9)
            },
        );
        assert_eq!((line.expect("never fails"), runs), (None, 1));
    }

    /// Two launches that differ by a microsecond on 500 rows would be 2 ns a row, which no placer would ever send anything for.
    #[test]
    fn noise_does_not_make_a_kernel_slow() {
        let line = |noise_ns: f64, more_ns: f64| {
            let time = |rows| Ok(10_000.0 + if rows > ROWS_MIN { more_ns } else { 0.0 });
            two_sizes(Duration::ZERO, || false, noise_ns, time).expect("never fails").expect("is not late")
        };
        assert_eq!(line(LAUNCH_NOISE_NS, 1_500.0), Line { fixed_ns: 10_000.0, ns_per_event: 0.0 });
        let rows = (ROWS_MIN * ROWS_FACTOR - ROWS_MIN) as f64;
        assert_eq!(line(LAUNCH_NOISE_NS, rows * 20.0).ns_per_event, 20.0);
        assert_eq!(line(0.0, rows * 2.0).ns_per_event, 2.0);
    }
}
