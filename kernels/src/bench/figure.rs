//! What is measured, as data: the JSON form of a report is these.

use serde::Serialize;

/// Everything that was measured, and what it was measured with.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of eagre.
    pub version: &'static str,
    /// Cores and processor.
    pub machine: String,
    /// The command that makes it again.
    pub command: String,
    /// Of the input.
    pub seed: u64,
    /// The device, where one was measured.
    pub adapter: Option<AdapterFigures>,
    /// A workload each.
    pub cases: Vec<CaseFigures>,
    /// What was asked for and could not be measured.
    pub refused: Vec<Refused>,
}

impl Report {
    /// Whether every answer that was compared was right.
    pub fn is_right(&self) -> bool {
        let agreements = self.cases.iter().flat_map(|case| &case.points).filter_map(|point| point.agreement.as_ref());
        agreements.into_iter().all(Agreement::is_right)
    }
}

/// What was not measured, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Refused {
    /// A workload, or a device.
    pub what: String,
    /// The reason.
    pub reason: String,
}

/// The device apart from any kernel.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterFigures {
    /// Its name.
    pub name: String,
    /// The driver's name and version.
    pub driver: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// It computes on the CPU: its figures say nothing of a GPU.
    pub software: bool,
    /// Whether shaders checked their indices.
    pub checked_shaders: bool,
    /// An empty round trip: median, in ns.
    pub round_trip_ns_p50: f64,
    /// An empty round trip: 99th percentile, in ns.
    pub round_trip_ns_p99: f64,
    /// Bandwidth of both ways by size.
    pub links: Vec<LinkFigure>,
    /// What a kernel that only copies reaches, read and written bytes together; none where the device gives no timestamps.
    pub copy_gb_per_s: Option<f64>,
}

/// Bandwidth at one size.
#[derive(Debug, Clone, Serialize)]
pub struct LinkFigure {
    /// Bytes of one transfer.
    pub bytes: u64,
    /// To the device, staging included.
    pub upload_gb_per_s: f64,
    /// From the device.
    pub readback_gb_per_s: f64,
}

/// One workload.
#[derive(Debug, Clone, Serialize)]
pub struct CaseFigures {
    /// The kernel.
    pub kernel: String,
    /// The kernel and which of its workloads.
    pub case: String,
    /// What the rows are.
    pub input: String,
    /// How device and twin agree.
    pub exactness: String,
    /// By batch size, ascending.
    pub points: Vec<Point>,
    /// From which batch size on the device is quicker, for each count of threads that the twin has.
    pub break_even: Vec<BreakEven>,
}

/// One batch size.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Rows of a batch.
    pub rows: u64,
    /// The twin, by count of threads.
    pub twin: Vec<TwinFigure>,
    /// The device.
    pub device: Option<DeviceFigure>,
    /// Whether both gave the same answer.
    pub agreement: Option<Agreement>,
    /// What was left out, or is not what it should be, and why.
    pub notes: Vec<String>,
}

/// The twin at one batch size.
#[derive(Debug, Clone, Serialize)]
pub struct TwinFigure {
    /// Threads that shared the batch.
    pub threads: usize,
    /// Batches that were timed.
    pub batches: u64,
    /// Whether all keys had the rows they need to cost what they cost for good; else the figure is too good.
    pub warm: bool,
    /// A batch with its conversion: median, in ns.
    pub batch_ns_p50: f64,
    /// The kernel alone: median, in ns.
    pub kernel_ns_p50: f64,
    /// Events a second, with conversion.
    pub events_per_s: f64,
}

/// The device at one batch size.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceFigure {
    /// Batches that were timed, one after the other.
    pub batches: u64,
    /// Whether all keys had the rows they need to cost what they cost for good; else the figure is too good.
    pub warm: bool,
    /// From columns to answer, alone: median, in ns.
    pub batch_ns_p50: f64,
    /// From columns to answer, alone: 99th percentile, in ns.
    pub batch_ns_p99: f64,
    /// Of it grouping and conversion on the CPU: median, in ns.
    pub convert_ns_p50: f64,
    /// The kernel alone, by the device's own clock: median, in ns; none where it gives no timestamps. It is that of converted batches
    /// that follow each other, since a device that waits for the CPU lowers its clock.
    pub kernel_ns_p50: Option<f64>,
    /// Events a second from columns to answers, one thread converting, with several batches under way.
    pub events_per_s: f64,
    /// The same when more threads convert, each its own keys, and share the device, as shards do.
    pub fed: Vec<FedFigure>,
    /// Events a second of batches that are converted already, with several under way: from host memory to the device, through the
    /// kernel and back to answers in host memory.
    pub converted_events_per_s: f64,
    /// Bytes that crossed to the device for a batch.
    pub upload_bytes: u64,
    /// Bytes that came back.
    pub readback_bytes: u64,
    /// Bytes that the kernel cannot but touch, by the kernel's own time.
    pub kernel_gb_per_s: Option<f64>,
    /// The same as a share of what a copy reaches.
    pub kernel_share_of_copy: Option<f64>,
}

/// What a calibration needs of a kernel at one batch size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelTime {
    /// The kernel alone, in ns, the quickest of several: at sizes for which there is time a launch varies by more than a thousand rows
    /// cost. None where the device gives no timestamps.
    pub kernel_ns: Option<f64>,
    /// From converted rows to the answer, in ns.
    pub whole_ns: f64,
    /// Bytes that crossed to the device.
    pub upload_bytes: u64,
    /// Bytes that came back.
    pub readback_bytes: u64,
}

/// The device at one batch size, fed by several threads.
#[derive(Debug, Clone, Serialize)]
pub struct FedFigure {
    /// Threads that shared the batch.
    pub threads: usize,
    /// Events a second from columns to answers, with several batches under way of each.
    pub events_per_s: f64,
}

/// From which batch size on the device is quicker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BreakEven {
    /// Threads that the twin has.
    pub threads: usize,
    /// Rows; none when it never was.
    pub rows: Option<u64>,
    /// It was quicker at the smallest size already, so the figure is an upper bound.
    pub or_fewer: bool,
}

/// How the answers of both sides compare.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Values compared.
    pub compared: u64,
    /// Values with other bits.
    pub differing: u64,
    /// Values that differ by more than the kernel's policy allows.
    pub wrong: u64,
    /// The greatest relative error.
    pub relative_error_max: f64,
    /// The greatest absolute error.
    pub absolute_error_max: f64,
}

impl Agreement {
    /// Whether something was compared and nothing was wrong.
    pub fn is_right(&self) -> bool {
        self.compared > 0 && self.wrong == 0
    }

    /// In a word or two.
    pub fn text(&self) -> String {
        match self {
            Agreement { compared: 0, .. } => "not compared".to_owned(),
            Agreement { wrong: 0, differing: 0, .. } => "equal".to_owned(),
            Agreement { wrong: 0, absolute_error_max, .. } => format!("within {absolute_error_max:.0e}"),
            Agreement { wrong, compared, .. } => format!("WRONG: {wrong} of {compared}"),
        }
    }
}

/// From which rows on the device's line of times lies below the twin's: straight between the measured sizes.
///
/// Each of `points` is rows, ns of the twin, ns of the device; rows ascend.
pub(super) fn break_even(threads: usize, points: &[(u64, f64, f64)]) -> Option<BreakEven> {
    // From the last size at which the twin is quicker, so that noise at small sizes does not decide.
    let last_loss = points.iter().rposition(|&(_, twin, device)| device > twin);
    let found = |rows, or_fewer| Some(BreakEven { threads, rows, or_fewer });
    match last_loss {
        _ if points.is_empty() => None,
        None => found(Some(points[0].0), true),
        Some(last) if last + 1 == points.len() => found(None, false),
        Some(last) => {
            let ((rows, twin, device), (next_rows, next_twin, next_device)) = (points[last], points[last + 1]);
            let (loss, gain) = (device - twin, next_twin - next_device);
            let share = loss / (loss + gain);
            found(Some(rows + (share * (next_rows - rows) as f64).ceil() as u64), false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn break_even_lies_between_the_sizes_where_the_quicker_side_changes() {
        let rows = |points: &[(u64, f64, f64)]| break_even(1, points).map(|found| (found.rows, found.or_fewer));
        assert_eq!(rows(&[]), None);
        assert_eq!(rows(&[(1000, 10.0, 50.0), (4000, 40.0, 60.0)]), Some((None, false)));
        assert_eq!(rows(&[(1000, 100.0, 50.0), (4000, 400.0, 60.0)]), Some((Some(1000), true)));
        // 40 behind at 1,000 and 40 ahead at 3,000: halfway.
        assert_eq!(rows(&[(1000, 10.0, 50.0), (3000, 100.0, 60.0), (9000, 300.0, 70.0)]), Some((Some(2000), false)));
        // One lucky small size is not a break-even.
        assert_eq!(rows(&[(1000, 51.0, 50.0), (2000, 20.0, 50.0), (4000, 90.0, 60.0)]), Some((Some(3000), false)));
    }
}
