//! The report as one page with plots, which asks no server for anything.

use std::fmt::Write as _;

use super::history::Track;
use super::plot::{self, Strip};
use super::report::{HEADER, Report, THRESHOLD_HEADER, span, threshold_cells};
use super::verdict::Kind;

/// Keys that are drawn; those with labels first. The figures are of all.
const DRAWN_KEYS_MAX: usize = 12;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2127;--soft:#5b6470;--line:#d8dde3;--page:#fff;--band:#f5f7f9}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa4b1;--line:#343b45;--page:#14171c;--band:#1b2027}}\
body{margin:0 auto;max-width:1240px;padding:2rem 1.2rem;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
h1{font-size:1.7rem;margin:0 0 .3rem}h2{font-size:1.2rem;margin:2.4rem 0 .4rem}h3{font-size:1rem;margin:1.4rem 0 .2rem}\
p{color:var(--soft);margin:.2rem 0 .8rem;max-width:85ch}\
pre{background:var(--band);padding:.7rem .9rem;border-radius:6px;overflow-x:auto;font-size:13px;white-space:pre-wrap}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}\
th,td{padding:.28rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\
th{color:var(--soft);font-weight:600}td:first-child,th:first-child{text-align:left}tr:hover td{background:var(--band)}\
svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg text{fill:var(--soft)}\
.grid{stroke:var(--line)}.window{fill:#f08c00;fill-opacity:.22}.series{fill:none;stroke:#339af0;stroke-width:1.1}\
.score{fill:none;stroke:#868e96;stroke-width:1.1}.limit{stroke:#c92a2a;stroke-dasharray:5 4}\
.right{stroke:#2f9e44;stroke-width:2}.wrong{stroke:#e03131;stroke-width:2}";

pub(super) fn text(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Backtest on {0}</title><style>{STYLE}</style></head><body>\n<h1>Backtest on {0}</h1>\n<p>{1}; labels: {2}. \
         eagre {3}.</p>\n{4}",
        escape(&report.data),
        escape(&report.about()),
        escape(&report.labels),
        env!("CARGO_PKG_VERSION"),
        report.command.as_ref().map_or_else(String::new, |command| format!("<pre>{}</pre>\n", escape(command)))
    );
    let rules = if report.has_scores() { format!("{}. ", report.rules_text()) } else { String::new() };
    let _ = write!(
        page,
        "<h2>Alarms</h2>\n<p>{}An alarm within a labelled window is right; a window with one is found, and the delay is from its start to \
         the first. Alarms a day are of one key. VUS-PR rates a score for all thresholds at once (1 is best).</p>\n",
        escape(&rules)
    );
    let rows = report.outcomes.iter().map(|outcome| [vec![outcome.name.clone()], outcome.cells()].concat());
    table(&mut page, &[&["query"][..], &HEADER].concat(), rows);
    plots(report, &mut page);
    for outcome in report.outcomes.iter().filter(|outcome| !outcome.thresholds.is_empty()) {
        let _ = write!(
            page,
            "<h2>{}: other thresholds</h2>\n<p>What each would have come to on this history. A threshold that is chosen by the \
             labels of the history looks better on it than it will be.</p>\n",
            escape(&outcome.name)
        );
        table(
            &mut page,
            &THRESHOLD_HEADER,
            outcome.thresholds.iter().map(|(at, figures)| threshold_cells(*at, figures)),
        );
    }
    page.push_str("<h2>Queries</h2>\n");
    let _ = writeln!(page, "<pre>{}</pre>", escape(&report.history.definition(&report.columns.time)));
    for outcome in &report.outcomes {
        let _ = write!(page, "<h3>{}</h3>\n<pre>{}</pre>\n", escape(&outcome.name), escape(&outcome.sql));
    }
    page + "</body></html>\n"
}

fn plots(report: &Report, page: &mut String) {
    let tracks = &report.history.tracks;
    let mut order: Vec<usize> = (0..tracks.len()).collect();
    order.sort_by_key(|track| tracks[*track].windows_ms.is_empty());
    let drawn = &order[..order.len().min(DRAWN_KEYS_MAX)];
    let left_out = match order.len() - drawn.len() {
        0 => String::new(),
        count => format!(" {count} more keys are not drawn."),
    };
    let _ = write!(
        page,
        "<h2>Series, scores and alarms</h2>\n<p>Shaded: labelled windows. Green: right alarms; red: false ones. Dashed: the \
         threshold.{left_out}</p>\n"
    );
    for &index in drawn {
        let track = &tracks[index];
        let strips: Vec<Strip<'_>> = report
            .outcomes
            .iter()
            .map(|outcome| Strip {
                name: &outcome.name,
                marks: if outcome.kind == Kind::Rows { &[] } else { &outcome.marks[index] },
                alarms_ms: &outcome.alarms_ms[index],
                threshold: outcome.threshold,
            })
            .collect();
        let _ = write!(
            page,
            "<h3>{}</h3>\n{}\n",
            escape(&title(report, track)),
            plot::track(track, report.history.value.as_deref(), &strips)
        );
    }
}

fn title(report: &Report, track: &Track) -> String {
    let windows: Vec<String> = track.windows_ms.iter().map(|window| span(window.end() - window.start())).collect();
    let windows =
        if windows.is_empty() { "no labelled window".to_owned() } else { format!("labelled: {}", windows.join(", ")) };
    match &report.columns.key {
        Some(key) => format!("{key} {}: {windows}", track.key),
        None => windows,
    }
}

fn table(page: &mut String, names: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    page.push_str("<div class=\"wide\"><table><thead><tr>");
    for name in names {
        let _ = write!(page, "<th>{}</th>", escape(name));
    }
    page.push_str("</tr></thead><tbody>\n");
    for cells in rows {
        page.push_str("<tr>");
        for cell in cells {
            let _ = write!(page, "<td>{}</td>", escape(&cell));
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
