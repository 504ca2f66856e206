//! A report as tables in Markdown.

use std::fmt::Write as _;

use super::super::options::count;
use super::table::speedup;
use super::{break_even, bytes, is_gpu, percent, short, time};
use crate::bench::Report;

pub(super) fn text(report: &Report) -> String {
    let mut text = format!(
        "# Kernels of eagre {}\n\n{}, seed {}\n\n    {}\n",
        report.version, report.machine, report.seed, report.command
    );
    if let Some(adapter) = &report.adapter {
        let kind = if adapter.software { ", **a software adapter: its speed says nothing of a GPU**" } else { "" };
        let _ = write!(
            text,
            "\n## Device\n\n{} ({}, {}){kind}; {} shaders; round trip {}, 99th percentile {}\n\n| transfer | to the device, GB/s | back, GB/s |\n|---:|---:|---:|\n",
            adapter.name,
            adapter.backend,
            adapter.driver,
            if adapter.checked_shaders { "checked" } else { "trusted" },
            time(adapter.round_trip_ns_p50),
            time(adapter.round_trip_ns_p99)
        );
        for link in &adapter.links {
            let _ = writeln!(
                text,
                "| {} | {} | {} |",
                bytes(link.bytes),
                short(link.upload_gb_per_s),
                short(link.readback_gb_per_s)
            );
        }
        if let Some(copy) = adapter.copy_gb_per_s {
            let _ =
                writeln!(text, "\nA copy on the device reaches {} GB/s, read and written bytes together.", short(copy));
        }
    }
    if is_gpu(report) {
        text.push_str("\n## Summary\n\n| kernel | best against all cores | device pays from, rows (by threads of the twin) |\n|---|---:|---:|\n");
        for case in &report.cases {
            let best = speedup(case)
                .map_or_else(|| "–".to_owned(), |(times, rows)| format!("{}x at {} rows", short(times), count(rows)));
            let from: Vec<String> =
                case.break_even.iter().map(|found| format!("{}: {}", found.threads, break_even(found))).collect();
            let _ = writeln!(text, "| {} | {best} | {} |", case.case, from.join(", "));
        }
    }
    for case in &report.cases {
        let threads = case
            .points
            .iter()
            .flat_map(|point| point.twin.iter().map(|figure| figure.threads))
            .collect::<std::collections::BTreeSet<_>>();
        let _ = write!(text, "\n## {}\n\n{}; device and twin {}.\n\n| rows |", case.case, case.input, case.exactness);
        for threads in &threads {
            let _ = write!(text, " twin, {threads} thread(s), events/s | kernel alone |");
        }
        text.push_str(" device, events/s | fed by all cores | from converted rows | p50 | p99 | conversion | kernel | GB/s | of copy | answer |\n|---:|");
        text.push_str(&"---:|".repeat(threads.len() * 2 + 9));
        text.push_str("---|\n");
        for point in &case.points {
            let _ = write!(text, "| {} |", count(point.rows));
            for threads in &threads {
                let figure = point.twin.iter().find(|figure| figure.threads == *threads);
                let cell = figure.map_or_else(
                    || " – | –".to_owned(),
                    |figure| {
                        format!(
                            " {} | {}",
                            short(figure.events_per_s),
                            short(point.rows as f64 / figure.kernel_ns_p50.max(1.0) * 1e9)
                        )
                    },
                );
                let _ = write!(text, "{cell} |");
            }
            let dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
            let device = point.device.as_ref();
            for cell in [
                dash(device.map(|figure| short(figure.events_per_s))),
                dash(device.and_then(|figure| figure.fed.last()).map(|fed| short(fed.events_per_s))),
                dash(device.map(|figure| short(figure.converted_events_per_s))),
                dash(device.map(|figure| time(figure.batch_ns_p50))),
                dash(device.map(|figure| time(figure.batch_ns_p99))),
                dash(device.map(|figure| time(figure.convert_ns_p50))),
                dash(device.and_then(|figure| figure.kernel_ns_p50).map(time)),
                dash(device.and_then(|figure| figure.kernel_gb_per_s).map(short)),
                dash(device.and_then(|figure| figure.kernel_share_of_copy).map(percent)),
                dash(point.agreement.as_ref().map(|agreement| agreement.text())),
            ] {
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        for point in &case.points {
            for note in &point.notes {
                let _ = writeln!(text, "\n{} rows: {note}", count(point.rows));
            }
        }
    }
    if !report.refused.is_empty() {
        text.push_str("\n## Not measured\n\n");
        for refused in &report.refused {
            let _ = writeln!(text, "- {}: {}", refused.what, refused.reason.replace('\n', " "));
        }
    }
    text
}
