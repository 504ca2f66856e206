//! A report as one page with plots, which asks no server for anything.

use std::fmt::Write as _;

use super::super::options::count;
use super::plot::{self, Curve};
use super::table::speedup;
use super::{break_even, bytes, is_gpu, percent, short, time};
use crate::bench::{CaseFigures, Report};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2127;--soft:#5b6470;--line:#d8dde3;--page:#fff;--band:#f5f7f9}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa4b1;--line:#343b45;--page:#14171c;--band:#1b2027}}\
body{margin:0 auto;max-width:1320px;padding:2rem 1.2rem;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
h1{font-size:1.7rem;margin:0 0 .3rem}h2{font-size:1.2rem;margin:2.4rem 0 .4rem}p{color:var(--soft);margin:.2rem 0 .8rem;max-width:75ch}\
pre{background:var(--band);padding:.7rem .9rem;border-radius:6px;overflow-x:auto;font-size:13px}\
.warn{background:#fff3bf;color:#5c3d00;padding:.6rem .9rem;border-radius:6px;max-width:75ch}\
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:1rem}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;margin:.4rem 0}\
th,td{padding:.28rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\
th{color:var(--soft);font-weight:600}td:first-child,th:first-child{text-align:left}\
td.wrong{color:#c92a2a;font-weight:600}tr:hover td{background:var(--band)}\
svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg text{fill:var(--soft)}\
.grid{stroke:var(--line)}.limit{stroke:#c92a2a;stroke-dasharray:5 4}";

const TWIN_COLOURS: [&str; 3] = ["#74c0fc", "#339af0", "#1864ab"];
const DEVICE_COLOUR: &str = "#e8590c";
const FED_COLOUR: &str = "#d6336c";

pub(super) fn text(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Kernels of eagre</title><style>{STYLE}</style></head><body>\n<h1>Kernels of eagre {}</h1>\n<p>{}, seed {}</p>\n<pre>{}</pre>\n",
        escape(report.version),
        escape(&report.machine),
        report.seed,
        escape(&report.command)
    );
    device(report, &mut page);
    if is_gpu(report) {
        let rows = report.cases.iter().map(|case| {
            let best = speedup(case)
                .map_or_else(|| "–".to_owned(), |(times, rows)| format!("{}x at {} rows", short(times), count(rows)));
            let from: Vec<String> =
                case.break_even.iter().map(|found| format!("{}: {}", found.threads, break_even(found))).collect();
            vec![case.case.clone(), best, from.join(", ")]
        });
        page.push_str("<h2>Where the device pays</h2>\n");
        table(
            &mut page,
            &["kernel", "best against all cores", "from so many rows, by threads of the twin"].map(str::to_owned),
            rows,
        );
    }
    for case in &report.cases {
        section(case, &mut page);
    }
    if !report.refused.is_empty() {
        page.push_str("<h2>Not measured</h2>\n<ul>\n");
        for refused in &report.refused {
            let _ = writeln!(page, "<li>{}: {}</li>", escape(&refused.what), escape(&refused.reason));
        }
        page.push_str("</ul>\n");
    }
    page + "</body></html>\n"
}

fn device(report: &Report, page: &mut String) {
    let Some(adapter) = &report.adapter else { return };
    let _ = write!(
        page,
        "<h2>{}</h2>\n<p>{}, {}; {} shaders; round trip {}, 99th percentile {}</p>\n",
        escape(&adapter.name),
        escape(&adapter.backend),
        escape(&adapter.driver),
        if adapter.checked_shaders { "checked" } else { "trusted" },
        time(adapter.round_trip_ns_p50),
        time(adapter.round_trip_ns_p99)
    );
    if adapter.software {
        page.push_str(
            "<p class=\"warn\">This is a software adapter: it computes on the CPU, so its speed says nothing of a GPU. What is shown is that the \
             answers are the same.</p>\n",
        );
    }
    if let Some(copy) = adapter.copy_gb_per_s {
        let _ = writeln!(
            page,
            "<p>A copy on the device reaches {} GB/s, read and written bytes together.</p>",
            short(copy)
        );
    }
    let rows = adapter
        .links
        .iter()
        .map(|link| vec![bytes(link.bytes), short(link.upload_gb_per_s), short(link.readback_gb_per_s)]);
    table(page, &["transfer", "to the device, GB/s", "back, GB/s"].map(str::to_owned), rows);
}

fn section(case: &CaseFigures, page: &mut String) {
    let _ = writeln!(
        page,
        "<h2>{}</h2>\n<p>{}. Device and twin: {}.</p>",
        escape(&case.case),
        escape(&case.input),
        escape(&case.exactness)
    );
    let mut threads: Vec<usize> =
        case.points.iter().flat_map(|point| point.twin.iter().map(|figure| figure.threads)).collect();
    threads.sort_unstable();
    threads.dedup();
    let twin = |threads: usize| {
        move |point: &crate::bench::Point| point.twin.iter().find(|figure| figure.threads == threads).cloned()
    };
    let mut rates: Vec<Curve> = Vec::new();
    for (index, &count) in threads.iter().enumerate() {
        rates.push(Curve {
            label: format!("twin, {count} thread{}", if count == 1 { "" } else { "s" }),
            colour: TWIN_COLOURS[index.min(TWIN_COLOURS.len() - 1)],
            dashed: false,
            points: case
                .points
                .iter()
                .filter_map(|point| Some((point.rows as f64, twin(count)(point)?.events_per_s)))
                .collect(),
        });
    }
    let device = |value: fn(&crate::bench::DeviceFigure) -> Option<f64>| -> Vec<(f64, f64)> {
        case.points.iter().filter_map(|point| Some((point.rows as f64, value(point.device.as_ref()?)?))).collect()
    };
    rates.push(Curve {
        label: "device".to_owned(),
        colour: DEVICE_COLOUR,
        dashed: false,
        points: device(|figure| Some(figure.events_per_s)),
    });
    let fed = device(|figure| figure.fed.last().map(|fed| fed.events_per_s));
    if !fed.is_empty() {
        rates.push(Curve { label: "device, fed".to_owned(), colour: FED_COLOUR, dashed: false, points: fed });
    }
    let kernel_rates: Vec<(f64, f64)> = case
        .points
        .iter()
        .filter_map(|point| {
            Some((point.rows as f64, point.rows as f64 / point.device.as_ref()?.kernel_ns_p50?.max(1.0) * 1e9))
        })
        .collect();
    rates.push(Curve { label: "its kernel".to_owned(), colour: DEVICE_COLOUR, dashed: true, points: kernel_rates });
    let pays = case.break_even.last().and_then(|found| found.rows.filter(|_| !found.or_fewer));
    let mark = pays.map(|rows| (rows as f64, format!("pays from {}", short(rows as f64))));
    let latencies = [
        Curve {
            label: "median".to_owned(),
            colour: DEVICE_COLOUR,
            dashed: false,
            points: device(|figure| Some(figure.batch_ns_p50 / 1e3)),
        },
        Curve {
            label: "99th percentile".to_owned(),
            colour: DEVICE_COLOUR,
            dashed: true,
            points: device(|figure| Some(figure.batch_ns_p99 / 1e3)),
        },
        Curve {
            label: "conversion".to_owned(),
            colour: "#868e96",
            dashed: false,
            points: device(|figure| Some(figure.convert_ns_p50 / 1e3)),
        },
        Curve {
            label: "kernel".to_owned(),
            colour: "#f08c00",
            dashed: false,
            points: device(|figure| figure.kernel_ns_p50.map(|ns| ns / 1e3)),
        },
    ];
    let _ = writeln!(
        page,
        "<div class=\"two\"><div><p>Events a second, from columns to answers</p>{}</div><div>{}</div></div>",
        plot::curves(&rates, "rows of a batch", "events a second", mark),
        match latencies[0].points.is_empty() {
            true => String::new(),
            false => format!(
                "<p>Time of a batch on the device, in us</p>{}",
                plot::curves(&latencies, "rows of a batch", "microseconds", None)
            ),
        }
    );
    let mut names = vec!["rows".to_owned()];
    for threads in &threads {
        names.extend([format!("twin x{threads}, events/s"), "kernel alone".to_owned()]);
    }
    let measured = case.points.iter().any(|point| point.device.is_some());
    if measured {
        names.extend(
            [
                "answer",
                "device, events/s",
                "fed by all cores",
                "from converted rows",
                "p50",
                "p99",
                "conversion",
                "kernel",
                "GB/s",
                "of copy",
                "up",
                "back",
            ]
            .map(str::to_owned),
        );
    }
    let rows = case.points.iter().map(|point| {
        let dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        let mut cells = vec![count(point.rows)];
        for &threads in &threads {
            let figure = twin(threads)(point);
            cells.push(dash(figure.as_ref().map(|figure| short(figure.events_per_s))));
            cells.push(dash(figure.map(|figure| short(point.rows as f64 / figure.kernel_ns_p50.max(1.0) * 1e9))));
        }
        if !measured {
            return cells;
        }
        let device = point.device.as_ref();
        cells.extend([
            dash(point.agreement.as_ref().map(|agreement| agreement.text())),
            dash(device.map(|figure| short(figure.events_per_s))),
            dash(device.and_then(|figure| figure.fed.last()).map(|fed| short(fed.events_per_s))),
            dash(device.map(|figure| short(figure.converted_events_per_s))),
            dash(device.map(|figure| time(figure.batch_ns_p50))),
            dash(device.map(|figure| time(figure.batch_ns_p99))),
            dash(device.map(|figure| time(figure.convert_ns_p50))),
            dash(device.and_then(|figure| figure.kernel_ns_p50).map(time)),
            dash(device.and_then(|figure| figure.kernel_gb_per_s).map(short)),
            dash(device.and_then(|figure| figure.kernel_share_of_copy).map(percent)),
            dash(device.map(|figure| bytes(figure.upload_bytes))),
            dash(device.map(|figure| bytes(figure.readback_bytes))),
        ]);
        cells
    });
    table(page, &names, rows);
    for point in &case.points {
        for note in &point.notes {
            let _ = writeln!(page, "<p>{} rows: {}</p>", count(point.rows), escape(note));
        }
    }
}

fn table(page: &mut String, names: &[String], rows: impl Iterator<Item = Vec<String>>) {
    page.push_str("<div class=\"wide\"><table><thead><tr>");
    for name in names {
        let _ = write!(page, "<th>{}</th>", escape(name));
    }
    page.push_str("</tr></thead><tbody>\n");
    for cells in rows {
        page.push_str("<tr>");
        for cell in cells {
            let class = if cell.starts_with("WRONG") { " class=\"wrong\"" } else { "" };
            let _ = write!(page, "<td{class}>{}</td>", escape(&cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

/// Text that is no markup.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter => out.push(letter),
        }
    }
    out
}
