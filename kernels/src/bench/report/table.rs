//! The forms for a terminal.

use std::fmt::Write as _;

use super::super::options::count;
use super::{break_even, bytes, is_gpu, percent, short, time};
use crate::bench::{AdapterFigures, Point, Report};

const CASE_WIDTH: usize = 26;

/// The device, before its kernels.
pub(in crate::bench) fn adapter(adapter: &AdapterFigures) -> String {
    let mut text = format!("{} ({}, {})\n", adapter.name, adapter.backend, adapter.driver);
    if adapter.software {
        text.push_str("  a software adapter: it computes on the CPU, so its speed says nothing of a GPU\n");
    }
    let _ = writeln!(
        text,
        "  round trip {} (99th percentile {}), {} shaders",
        time(adapter.round_trip_ns_p50),
        time(adapter.round_trip_ns_p99),
        if adapter.checked_shaders { "checked" } else { "trusted" }
    );
    for link in &adapter.links {
        let _ = writeln!(
            text,
            "  {:>8}  to the device {:>6} GB/s, back {:>6} GB/s",
            bytes(link.bytes),
            short(link.upload_gb_per_s),
            short(link.readback_gb_per_s)
        );
    }
    let _ = match adapter.copy_gb_per_s {
        Some(copy) => writeln!(text, "  a copy on the device reaches {} GB/s, read and written together", short(copy)),
        None => writeln!(text, "  it gives no timestamps, so kernels cannot be timed alone"),
    };
    text
}

/// Names over [`line`]'s columns.
pub(in crate::bench) fn header(threads: &[usize], gpu: bool) -> String {
    let mut text = format!("{:<CASE_WIDTH$} {:>6}", "events/s, with conversion", "rows");
    for threads in threads {
        let _ = write!(text, " {:>8}", format!("cpu x{threads}"));
    }
    if gpu {
        let _ = write!(
            text,
            " {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} answer",
            "gpu", "gpu fed", "converted", "p50", "p99", "convert", "kernel", "GB/s", "of copy"
        );
    }
    text
}

/// One batch size.
pub(in crate::bench) fn line(case: &str, point: &Point, threads: &[usize], gpu: bool) -> String {
    let mut text = format!("{case:<CASE_WIDTH$} {:>6}", count(point.rows));
    for threads in threads {
        let figure = point.twin.iter().find(|figure| figure.threads == *threads);
        let _ = write!(text, " {:>8}", figure.map_or_else(|| "-".to_owned(), |figure| short(figure.events_per_s)));
    }
    if let Some(figure) = point.device.as_ref().filter(|_| gpu) {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let _ = write!(
            text,
            " {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {}",
            short(figure.events_per_s),
            or_dash(figure.fed.last().map(|fed| short(fed.events_per_s))),
            short(figure.converted_events_per_s),
            time(figure.batch_ns_p50),
            time(figure.batch_ns_p99),
            time(figure.convert_ns_p50),
            or_dash(figure.kernel_ns_p50.map(time)),
            or_dash(figure.kernel_gb_per_s.map(short)),
            or_dash(figure.kernel_share_of_copy.map(percent)),
            point.agreement.as_ref().map_or_else(|| "not compared".to_owned(), |agreement| agreement.text())
        );
    } else if gpu {
        let _ = write!(text, " {:>8}", "-");
    }
    for note in &point.notes {
        let _ = write!(text, "\n  {note}");
    }
    text
}

/// What the run comes to.
pub(in crate::bench) fn summary(report: &Report) -> String {
    let mut text = String::new();
    for refused in report.refused.iter().filter(|refused| refused.what != "device") {
        let _ = writeln!(text, "not measured: {}: {}", refused.what, refused.reason);
    }
    let wrong = report.cases.iter().flat_map(|case| case.points.iter().map(move |point| (case, point)));
    for (case, point) in wrong {
        if let Some(agreement) = point.agreement.as_ref().filter(|agreement| !agreement.is_right()) {
            let _ = writeln!(
                text,
                "{} at {} rows: the device's answer is {}",
                case.case,
                count(point.rows),
                agreement.text()
            );
        }
    }
    match &report.adapter {
        None => {}
        Some(adapter) if adapter.software => {
            let _ = writeln!(text, "\nno summary: {} is a software adapter", adapter.name);
        }
        Some(_) => {
            text.push_str("\ngpu: fed by one thread; gpu fed: by as many as there are cores, each with its own keys\n");
            let _ = writeln!(
                text,
                "\n{:<CASE_WIDTH$} {:>24} {:>30}",
                "the device pays", "best against all cores", "from rows, against 1 .. all threads"
            );
            for case in &report.cases {
                let best = speedup(case)
                    .map_or_else(|| "-".to_owned(), |(times, rows)| format!("{}x at {}", short(times), count(rows)));
                let from: Vec<String> = case.break_even.iter().map(break_even).collect();
                let _ = writeln!(text, "{:<CASE_WIDTH$} {best:>24} {:>30}", case.case, from.join(", "));
            }
        }
    }
    debug_assert!(is_gpu(report) || !text.contains("the device pays"));
    text
}

/// How many times quicker than the twin on all threads the device was at best, and at how many rows.
pub(super) fn speedup(case: &crate::bench::CaseFigures) -> Option<(f64, u64)> {
    let times = |point: &Point| {
        let twin = point.twin.iter().max_by_key(|figure| figure.threads)?;
        let device = point.device.as_ref()?;
        let best = device.fed.iter().map(|fed| fed.events_per_s).fold(device.events_per_s, f64::max);
        Some((best / twin.events_per_s, point.rows))
    };
    case.points.iter().filter_map(times).max_by(|left, right| left.0.total_cmp(&right.0))
}
