//! What a run says: lines while it runs, and reports in files at the end.

mod html;
mod markdown;
mod plot;
pub(super) mod table;

#[cfg(test)]
mod tests;

use super::{Form, Report};

/// A report in a form.
pub(super) fn text(report: &Report, form: Form) -> String {
    match form {
        Form::Json => serde_json::to_string_pretty(report).expect("figures are plain data") + "\n",
        Form::Markdown => markdown::text(report),
        Form::Html => html::text(report),
    }
}

/// The machine: processor, and how many cores may be used.
pub(crate) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = if model.is_empty() { std::env::consts::ARCH } else { model };
    format!("{cores} cores of {model}, {}", std::env::consts::OS)
}

/// A number with three telling digits and a suffix: `1.23M`.
pub(crate) fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        magnitude if magnitude >= 1e12 => (value / 1e12, "T"),
        magnitude if magnitude >= 1e9 => (value / 1e9, "G"),
        magnitude if magnitude >= 1e6 => (value / 1e6, "M"),
        magnitude if magnitude >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        magnitude if magnitude >= 100.0 => 0,
        magnitude if magnitude >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

/// A time with its unit: `12.3 us`.
pub(crate) fn time(ns: f64) -> String {
    let (scaled, unit) = match ns {
        ns if ns >= 1e9 => (ns / 1e9, "s"),
        ns if ns >= 1e6 => (ns / 1e6, "ms"),
        ns if ns >= 1e3 => (ns / 1e3, "us"),
        ns => (ns, "ns"),
    };
    format!("{} {unit}", short(scaled))
}

/// A size with its unit.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 30 => format!("{} GiB", short(bytes as f64 / f64::from(1 << 30))),
        bytes if bytes >= 1 << 20 => format!("{} MiB", short(bytes as f64 / f64::from(1 << 20))),
        bytes if bytes >= 1 << 10 => format!("{} KiB", short(bytes as f64 / f64::from(1 << 10))),
        bytes => format!("{bytes} B"),
    }
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A break-even in words.
pub(super) fn break_even(found: &super::BreakEven) -> String {
    match (found.rows, found.or_fewer) {
        (None, _) => "never".to_owned(),
        (Some(rows), true) => format!("{} or fewer", short(rows as f64)),
        (Some(rows), false) => short(rows as f64),
    }
}

/// Whether the summary may speak of the device: one that computes on the CPU says nothing of a GPU.
pub(super) fn is_gpu(report: &Report) -> bool {
    report.adapter.as_ref().is_some_and(|adapter| !adapter.software)
}
