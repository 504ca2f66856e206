//! What a backtest says: a table on standard output, and files.

use std::fmt::Write as _;
use std::path::Path;

use eagre_measures::alarms::AlarmOutcome;

use super::history::{History, moment};
use super::html;
use super::outcome::{Figures, Outcome};
use super::verdict::Kind;
use super::{Columns, Rules};
use crate::error::{Error, Result};

/// Everything that came out.
#[derive(Debug)]
pub(super) struct Report {
    pub data: String,
    pub labels: String,
    pub history: History,
    pub columns: Columns,
    pub rules: Rules,
    pub outcomes: Vec<Outcome>,
    /// The command that makes it again, where it was made by one.
    pub command: Option<String>,
}

/// Names over the figures.
pub(super) const HEADER: [&str; 13] = [
    "threshold",
    "alarms",
    "right",
    "precision",
    "windows",
    "found",
    "recall",
    "F1",
    "alarms/day",
    "false/day",
    "delay p50",
    "delay max",
    "VUS-PR",
];

impl Report {
    /// The same, with the command that this process was started by.
    pub(super) fn of_command(self) -> Self {
        let quoted = |argument: String| match argument
            .contains(|letter: char| letter.is_whitespace() || "'\"`$*();<>|&".contains(letter))
        {
            true => format!("'{}'", argument.replace('\'', r"'\''")),
            false => argument,
        };
        let arguments: Vec<String> = std::env::args().skip(1).map(quoted).collect();
        Self { command: Some(format!("eagre {}", arguments.join(" "))), ..self }
    }

    /// An error where the end of a file's name does not say what is written.
    pub(super) fn check_form(path: &Path) -> Result<()> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("html" | "json") => Ok(()),
            _ => Err(Error::command_line(format!(
                "--report: `{}` ends in neither .html nor .json, which say what is written",
                path.display()
            ))),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => self.json(),
            _ => self.html(),
        };
        std::fs::write(path, text).map_err(|error| Error::File { path: path.display().to_string(), error })
    }

    /// What was tried on what.
    pub(super) fn about(&self) -> String {
        let tracks = &self.history.tracks;
        let windows: usize = tracks.iter().map(|track| track.windows_ms.len()).sum();
        let first = tracks.iter().filter_map(|track| track.times_ms.first()).min();
        let last = tracks.iter().filter_map(|track| track.times_ms.last()).max();
        let keys = match (&self.columns.key, tracks.len()) {
            (None, _) => String::new(),
            (Some(_), 1) => " of 1 key".to_owned(),
            (Some(_), count) => format!(" of {count} keys"),
        };
        format!(
            "{} rows{keys} from {} to {}, {windows} labelled window{}",
            self.history.rows.num_rows(),
            first.map_or_else(String::new, |ms| moment(*ms)),
            last.map_or_else(String::new, |ms| moment(*ms)),
            if windows == 1 { "" } else { "s" }
        )
    }

    /// How alarms were made of scores.
    pub(super) fn rules_text(&self) -> String {
        let threshold = match self.rules.threshold {
            Some(threshold) => format!("threshold {threshold} for all scores"),
            None => format!(
                "the threshold of a score is the lowest that gives at most {} alarm{} a day and key on this history",
                self.rules.alarms_per_day,
                if self.rules.alarms_per_day == 1.0 { "" } else { "s" }
            ),
        };
        match self.rules.rest_ms {
            0 => threshold,
            rest => format!("{threshold}; after an alarm a key is quiet for {}", span(rest)),
        }
    }

    /// Whether anything was measured by a threshold.
    pub(super) fn has_scores(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.kind == Kind::Scores)
    }

    /// The tables of standard output.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.about());
        if self.has_scores() {
            let _ = writeln!(text, "{}", self.rules_text());
        }
        let header: Vec<String> = ["query"].iter().chain(&HEADER).map(|name| (*name).to_owned()).collect();
        let mut rows = vec![header];
        for outcome in &self.outcomes {
            rows.push([vec![outcome.name.clone()], outcome.cells()].concat());
        }
        text.push('\n');
        text.push_str(&aligned(&rows));
        for outcome in self.outcomes.iter().filter(|outcome| !outcome.thresholds.is_empty()) {
            let _ = writeln!(text, "\n{}: other thresholds", outcome.name);
            let mut rows = vec![THRESHOLD_HEADER.map(str::to_owned).to_vec()];
            rows.extend(outcome.thresholds.iter().map(|(threshold, figures)| threshold_cells(*threshold, figures)));
            text.push_str(&aligned(&rows));
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// A page with plots.
    pub(super) fn html(&self) -> String {
        html::text(self)
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let outcomes =
            self.outcomes.iter().map(|outcome| {
                let thresholds = outcome.thresholds.iter().map(|(threshold, figures)| {
                serde_json::json!({ "threshold": threshold, "figures": Figures::from(figures) })
            });
                let keys =
                    self.history.tracks.iter().zip(&outcome.by_track).map(
                        |(track, figures)| serde_json::json!({ "key": track.key, "figures": Figures::from(figures) }),
                    );
                serde_json::json!({
                    "query": outcome.name,
                    "sql": outcome.sql,
                    "threshold": outcome.threshold,
                    "figures": Figures::from(&outcome.figures),
                    "vus_pr": outcome.vus_pr,
                    "keys": keys.collect::<Vec<_>>(),
                    "thresholds": thresholds.collect::<Vec<_>>(),
                })
            });
        let report = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "command": self.command,
            "data": self.data,
            "labels": self.labels,
            "rows": self.history.rows.num_rows(),
            "keys": self.history.tracks.len(),
            "rest_ms": self.rules.rest_ms,
            "outcomes": outcomes.collect::<Vec<_>>(),
        });
        format!("{report:#}\n")
    }
}

/// Names over the figures of a threshold.
pub(super) const THRESHOLD_HEADER: [&str; 8] =
    ["threshold", "alarms", "precision", "recall", "F1", "alarms/day", "false/day", "delay p50"];

/// The figures of a threshold, as texts.
pub(super) fn threshold_cells(threshold: f64, figures: &AlarmOutcome) -> Vec<String> {
    vec![
        number(threshold),
        figures.alarms.to_string(),
        share(figures.precision()),
        share(figures.recall()),
        share(figures.f1()),
        rate(figures.alarms_per_day()),
        rate(figures.false_alarms_per_day()),
        delay(figures.delay_ms_median()),
    ]
}

impl Outcome {
    /// The figures as texts, under [`HEADER`].
    pub(super) fn cells(&self) -> Vec<String> {
        let figures = &self.figures;
        vec![
            self.threshold.map_or_else(dash, number),
            figures.alarms.to_string(),
            figures.right_alarms.to_string(),
            share(figures.precision()),
            figures.windows.to_string(),
            figures.windows_found().to_string(),
            share(figures.recall()),
            share(figures.f1()),
            rate(figures.alarms_per_day()),
            rate(figures.false_alarms_per_day()),
            delay(figures.delay_ms_median()),
            delay(figures.delay_ms_max()),
            share(self.vus_pr),
        ]
    }
}

fn dash() -> String {
    "–".to_owned()
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(dash, |share| format!("{share:.3}"))
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(dash, |rate| format!("{rate:.3}"))
}

fn delay(delay_ms: Option<i64>) -> String {
    delay_ms.map_or_else(dash, span)
}

/// A score with four telling digits.
fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_infinite() => "none".to_owned(),
        size if size >= 1e6 || size > 0.0 && size < 1e-3 => format!("{value:.3e}"),
        size if size >= 1e3 => format!("{value:.0}"),
        _ => format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// A time span with one unit.
pub(super) fn span(ms: i64) -> String {
    let units = [(86_400_000.0, "d"), (3_600_000.0, "h"), (60_000.0, "min"), (1_000.0, "s")];
    match units.iter().find(|(unit, _)| ms as f64 >= *unit) {
        Some((unit, name)) => {
            let count = format!("{:.1}", ms as f64 / unit);
            format!("{} {name}", count.trim_end_matches(".0"))
        }
        None => format!("{ms} ms"),
    }
}

/// Rows of cells below each other: the first column to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
