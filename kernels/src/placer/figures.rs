//! What was measured at start, and what it predicts of a batch.

use serde::{Deserialize, Serialize};

/// Everything measured of one adapter and of this machine's cores beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Changes when figures mean something else; figures of another version are measured anew.
    pub version: u32,
    /// Adapter and driver, as they name themselves: figures hold for this pair.
    pub adapter: String,
    /// Whether the adapter is a software one: it shares the cores it would relieve.
    pub software: bool,
    /// How long an empty round trip takes: submit, wait, read back.
    pub round_trip: RoundTrip,
    /// Host to device, from filled staging to the arena.
    pub upload: Link,
    /// Device to host.
    pub readback: Link,
    /// The cost of each kernel on both sides.
    pub kernels: Vec<KernelFigures>,
}

impl Calibration {
    /// The figures of a kernel, unless it was not measured.
    pub fn kernel(&self, name: &str) -> Option<&KernelFigures> {
        self.kernels.iter().find(|figures| figures.kernel == name)
    }
}

/// The time of an empty round trip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// The median, in ns.
    pub p50_ns: f64,
    /// The 99th percentile, in ns.
    pub p99_ns: f64,
}

/// One way over the bus: time by size, ascending.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Link {
    /// Measured points; none means that the way costs nothing.
    pub points: Vec<BandwidthPoint>,
}

/// How long one size takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BandwidthPoint {
    /// The size, in bytes.
    pub bytes: u64,
    /// The time beyond an empty round trip, in ns.
    pub ns: f64,
}

impl Link {
    /// How long `bytes` take, in ns: straight lines between the points from nothing on, and on with the last line. Never falls with size,
    /// also where the points do.
    pub fn ns(&self, bytes: u64) -> f64 {
        let bytes = bytes as f64;
        let (mut last_bytes, mut last_ns, mut slope) = (0.0, 0.0f64, 0.0);
        for point in &self.points {
            let (point_bytes, ns) = (point.bytes as f64, point.ns.max(last_ns));
            if point_bytes > last_bytes {
                slope = (ns - last_ns) / (point_bytes - last_bytes);
                if bytes <= point_bytes {
                    return last_ns + slope * (bytes - last_bytes);
                }
                (last_bytes, last_ns) = (point_bytes, ns);
            }
        }
        last_ns + slope * (bytes - last_bytes)
    }
}

/// The cost of one kernel, on its calibrated shape, on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelFigures {
    /// The kernel's name.
    pub kernel: String,
    /// The twin on one thread.
    pub twin: Line,
    /// The shader alone: without the round trip and without bytes over the bus.
    pub device: Line,
    /// Bytes that crossed to the device for an event.
    pub upload_bytes_per_event: f64,
    /// Bytes that came back for an event.
    pub readback_bytes_per_event: f64,
}

impl KernelFigures {
    /// A batch of the workload that was measured, with so many rows.
    pub fn batch(&self, rows: u64) -> BatchShape {
        let bytes = |per_event: f64| (per_event * rows as f64) as u64;
        BatchShape {
            upload_bytes: bytes(self.upload_bytes_per_event),
            readback_bytes: bytes(self.readback_bytes_per_event),
            ..BatchShape::of_rows(rows, 0, 0)
        }
    }
}

/// A cost by count of events: `fixed_ns + events * ns_per_event`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Line {
    /// Per batch, in ns.
    pub fixed_ns: f64,
    /// Per event, in ns.
    pub ns_per_event: f64,
}

impl Line {
    /// The line through two measured points; what noise makes negative is 0.
    pub fn through(small: (u64, f64), large: (u64, f64)) -> Line {
        let events = large.0.saturating_sub(small.0).max(1) as f64;
        let ns_per_event = ((large.1 - small.1) / events).max(0.0);
        Line { fixed_ns: (small.1 - ns_per_event * small.0 as f64).max(0.0), ns_per_event }
    }

    /// The cost of that many events, each `work` times that of a calibrated one.
    pub fn ns(&self, events: u64, work: f64) -> f64 {
        self.fixed_ns + events as f64 * work * self.ns_per_event
    }
}

/// What the placer must know of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchShape {
    /// Events in it.
    pub rows: u64,
    /// Bytes that this kernel needs on the device and that are not there yet.
    pub upload_bytes: u64,
    /// Bytes of its answer.
    pub readback_bytes: u64,
    /// How many kernels share the wave, which is one upload, one submission and one readback, itself included: its round trip is paid
    /// once by all of them.
    pub upload_sharers: u32,
    /// Bytes of state that move when the operator moves.
    pub state_bytes: u64,
    /// Cost per event as a multiple of the calibrated shape's (a forest of 100 x 12 is six of 25 x 8).
    pub work: f64,
    /// Threads that the twin has for this batch.
    pub twin_threads: u32,
    /// How long the oldest event of the batch has waited, in ns.
    pub oldest_wait_ns: u64,
}

impl BatchShape {
    /// That many rows with so many bytes a row, alone on its upload, on one thread, without state and without wait.
    pub fn of_rows(rows: u64, upload_bytes_per_row: u64, readback_bytes_per_row: u64) -> Self {
        BatchShape {
            rows,
            upload_bytes: rows * upload_bytes_per_row,
            readback_bytes: rows * readback_bytes_per_row,
            upload_sharers: 1,
            state_bytes: 0,
            work: 1.0,
            twin_threads: 1,
            oldest_wait_ns: 0,
        }
    }

    /// The same batch with another count of rows.
    fn with_rows(&self, rows: u64) -> Self {
        let scaled = |bytes: u64| (u128::from(bytes) * u128::from(rows) / u128::from(self.rows.max(1))) as u64;
        BatchShape {
            rows,
            upload_bytes: scaled(self.upload_bytes),
            readback_bytes: scaled(self.readback_bytes),
            ..*self
        }
    }
}

/// How long both sides take for a batch, in ns, before anything observed corrects it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The twin.
    pub twin_ns: f64,
    /// The device: its share of the round trip, its bytes up, kernel and readback one after the other. That they overlap is not promised by
    /// any driver, so it is not counted on.
    pub device_ns: f64,
}

impl Calibration {
    /// Predicts both sides of a batch; none for a kernel that was not measured.
    pub fn predict(&self, kernel: &str, batch: &BatchShape) -> Option<Prediction> {
        let figures = self.kernel(kernel)?;
        let twin_ns = figures.twin.ns(batch.rows, batch.work) / f64::from(batch.twin_threads.max(1));
        let device_ns = self.round_trip.p50_ns / f64::from(batch.upload_sharers.max(1))
            + self.upload.ns(batch.upload_bytes)
            + figures.device.ns(batch.rows, batch.work)
            + self.readback.ns(batch.readback_bytes);
        Some(Prediction { twin_ns, device_ns })
    }

    /// The least count of rows from which the device is at least as quick, for batches like this one; none when it never is.
    ///
    /// `twin` and `device` correct the predictions: what was observed, as a multiple of them.
    pub fn break_even_rows(&self, kernel: &str, batch: &BatchShape, twin: f64, device: f64) -> Option<u64> {
        let pays = |rows: u64| {
            let predicted = self.predict(kernel, &batch.with_rows(rows))?;
            Some(predicted.device_ns * device <= predicted.twin_ns * twin)
        };
        // Doubling until it pays, then halving the distance.
        let mut high = 1u64;
        while !pays(high)? {
            high = high.checked_mul(2).filter(|&rows| rows <= 1 << 40)?;
        }
        let mut low = high / 2;
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if pays(middle)? { high = middle } else { low = middle }
        }
        Some(high)
    }

    /// What moving that much state to the device costs, in ns.
    pub fn move_in_ns(&self, state_bytes: u64) -> f64 {
        if state_bytes == 0 { 0.0 } else { self.round_trip.p50_ns + self.upload.ns(state_bytes) }
    }

    /// What moving that much state back costs, in ns.
    pub fn move_out_ns(&self, state_bytes: u64) -> f64 {
        if state_bytes == 0 { 0.0 } else { self.round_trip.p50_ns + self.readback.ns(state_bytes) }
    }
}
