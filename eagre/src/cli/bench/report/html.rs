//! A report as one page with plots, which asks no server for anything.

use std::fmt::Write as _;

use super::plot::{self, Curve, DotRow};
use super::{Report, tables};

/// The target for the 99th percentile, drawn into the latency plot.
const LATENCY_TARGET_MS: f64 = 10.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2127;--soft:#5b6470;--line:#d8dde3;--page:#fff;--band:#f5f7f9}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa4b1;--line:#343b45;--page:#14171c;--band:#1b2027}}\
body{margin:0 auto;max-width:1240px;padding:2rem 1.2rem;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
h1{font-size:1.7rem;margin:0 0 .3rem}h2{font-size:1.2rem;margin:2.4rem 0 .4rem}p{color:var(--soft);margin:.2rem 0 .8rem;max-width:75ch}\
pre{background:var(--band);padding:.7rem .9rem;border-radius:6px;overflow-x:auto;font-size:13px}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}\
th,td{padding:.28rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\
th{color:var(--soft);font-weight:600}td:first-child,th:first-child,td.text,th.text{text-align:left}\
td.wrong{color:#c92a2a;font-weight:600;white-space:normal}tr:hover td{background:var(--band)}\
svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg text:not([fill]){fill:var(--soft)}\
.grid{stroke:var(--line)}.limit{stroke:#c92a2a;stroke-dasharray:5 4}";

pub(super) fn text(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0} on eagre</title><style>{STYLE}</style></head><body>\n<h1>{0} on eagre {1}</h1>\n<p>{2}, seed {3}</p>\n<pre>{4}</pre>\n",
        report.layout.title,
        escape(&report.version),
        escape(&report.machine),
        report.seed,
        escape(&report.command)
    );
    let (series, rows) = throughput(report);
    if !rows.is_empty() {
        let _ = write!(
            page,
            "<h2>Throughput of each query</h2>\n<p>Events per CPU second; further right is faster, each line is ten times the one before. Peers are \
             stored figures: {}.</p>\n{}\n",
            escape(&report.peers.machine),
            plot::dots(&series, &rows, "events per CPU second")
        );
    }
    let curves = latencies(report);
    if !curves.is_empty() {
        let _ = write!(
            page,
            "<h2>Latency at a fixed rate</h2>\n<p>Share of the events that were faster than so many milliseconds, counted from when each was due. \
             Dashed: {LATENCY_TARGET_MS} ms.</p>\n{}\n",
            plot::curves(&curves, LATENCY_TARGET_MS)
        );
    }
    for (title, meaning, columns, figures) in tables(report) {
        let _ = write!(page, "<h2>{title}</h2>\n<p>{}</p>\n<div class=\"wide\"><table><thead><tr>", prose(meaning));
        for (name, _) in columns {
            let _ = write!(page, "<th{}>{}</th>", class(name, ""), escape(name));
        }
        page.push_str("</tr></thead><tbody>\n");
        for figure in figures {
            page.push_str("<tr>");
            for (name, cell) in columns {
                let value = cell(figure);
                let _ = write!(page, "<td{}>{}</td>", class(name, &value), escape(&value));
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table></div>\n");
    }
    if !report.refused.is_empty() {
        page.push_str("<h2>Did not run</h2>\n<ul>\n");
        for refused in &report.refused {
            let _ = writeln!(page, "<li>{}: {}</li>", escape(&refused.query), escape(&refused.reason));
        }
        page.push_str("</ul>\n");
    }
    let _ = write!(
        page,
        "<h2>Peers</h2>\n<p>In {}, on {}.</p>\n<ul>\n",
        escape(&report.peers.unit),
        escape(&report.peers.machine)
    );
    for peer in &report.peers.peers {
        let _ = writeln!(page, "<li>{} ({}): {}</li>", escape(&peer.name), escape(&peer.version), escape(&peer.what));
    }
    page + "</ul>\n</body></html>\n"
}

fn class(column: &str, value: &str) -> &'static str {
    match column {
        _ if value.starts_with("WRONG") => " class=\"wrong\"",
        "source" | "sink" | "answer" => " class=\"text\"",
        _ => "",
    }
}

/// Series (eagre's ways of running, then the peers) and a row of dots for each query.
fn throughput(report: &Report) -> (Vec<String>, Vec<DotRow>) {
    let mut series: Vec<String> = Vec::new();
    let mut rows: Vec<DotRow> = Vec::new();
    for figure in &report.figures {
        let shards = if figure.shards == 1 { String::new() } else { format!(", {} shards", figure.shards) };
        let name = format!("eagre, {}{shards}", figure.source);
        let index = series.iter().position(|known| *known == name).unwrap_or_else(|| {
            series.push(name);
            series.len() - 1
        });
        let (label, dot) = (figure.label(), (index, figure.events_per_cpu_s));
        match rows.iter_mut().find(|row| row.label == label) {
            Some(row) => row.dots.push(dot),
            None => rows.push(DotRow { label, dots: vec![dot] }),
        }
    }
    for peer in &report.peers.peers {
        let index = series.len();
        series.push(peer.name.clone());
        for row in &mut rows {
            row.dots.extend(peer.figures.get(&row.label).map(|thousands| (index, thousands * 1e3)));
        }
    }
    (series, rows)
}

fn latencies(report: &Report) -> Vec<Curve> {
    let several = report
        .figures
        .iter()
        .any(|figure| figure.source != report.figures[0].source || figure.shards != report.figures[0].shards);
    let curve = |figure: &super::Figure| {
        let label = if several {
            format!("{} {} {}", figure.query, figure.source, figure.shards)
        } else {
            figure.query.clone()
        };
        Some(Curve { label, points: figure.latency.as_ref()?.latency.curve.clone() })
    };
    report.figures.iter().filter_map(curve).collect()
}

/// Words between backticks are code.
fn prose(text: &str) -> String {
    let parts = text.split('`').map(escape).enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { format!("<code>{part}</code>") } else { part }).collect()
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
