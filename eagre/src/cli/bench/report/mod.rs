//! What a benchmark says: a line on standard output as soon as a run is done, and reports in files at the end.

pub(super) mod cep;
mod html;
mod markdown;
pub(super) mod nexmark;
mod plot;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::alone::Outcome;
use super::figure::Figure;
use super::peers::Peers;
use super::process;
use crate::error::{Error, Result};

/// A form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// All that is known.
    Json,
    /// Tables.
    Markdown,
    /// Tables and plots, in one file that needs nothing else.
    Html,
}

impl Form {
    /// By the end of a file's name.
    pub(super) fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Ok(Self::Json),
            Some("md") => Ok(Self::Markdown),
            Some("html") => Ok(Self::Html),
            _ => Err(Error::usage(format!(
                "--report: `{}` ends in none of .json, .md and .html, which say what is written",
                path.display()
            ))),
        }
    }
}

/// A query that did not run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Refused {
    pub query: String,
    pub reason: String,
}

/// What is shown of a benchmark.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// What the benchmark is called.
    pub title: &'static str,
    /// Names over the columns of `line`.
    pub header: &'static str,
    /// One run on standard output.
    pub line: fn(&Figure) -> String,
    /// What the numbers of the first table mean.
    pub meaning: &'static str,
    /// The first table.
    throughput: &'static [Cell],
    /// The table of memory and state.
    resources: &'static [Cell],
}

/// Everything that was measured, and what it was measured with.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    #[serde(skip)]
    pub layout: &'static Layout,
    pub version: String,
    pub machine: String,
    /// The command that makes it again.
    pub command: String,
    pub seed: u64,
    pub figures: Vec<Figure>,
    pub refused: Vec<Refused>,
    pub peers: Peers,
}

impl Report {
    pub(super) fn new(layout: &'static Layout, seed: u64, peers: Peers) -> Self {
        let arguments = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        Self {
            layout,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: process::machine(),
            command: format!("eagre {arguments}"),
            seed,
            figures: Vec::new(),
            refused: Vec::new(),
            peers,
        }
    }

    /// Shows what the columns are.
    pub(super) fn begin(&self) {
        if cfg!(debug_assertions) {
            eprintln!("note: this is a debug build; its figures say nothing, build with --release");
        }
        println!("{}", self.layout.header);
    }

    /// Shows a run and keeps it.
    pub(super) fn add(&mut self, figure: Figure) {
        println!("{}", (self.layout.line)(&figure));
        self.figures.push(figure);
    }

    /// Keeps what another process has measured, and shown.
    pub(super) fn keep(&mut self, outcome: Outcome) {
        self.figures.extend(outcome.figures);
        self.refused.extend(outcome.refused);
    }

    /// What there is for the process that asked for it.
    pub(super) fn outcome(self) -> Outcome {
        Outcome { figures: self.figures, refused: self.refused }
    }

    /// Notes that a query did not run.
    pub(super) fn refuse(&mut self, query: &str, error: &Error) {
        println!("{query:<10} REFUSED: {error}");
        self.refused.push(Refused { query: query.to_owned(), reason: error.to_string() });
    }

    /// Writes it down.
    ///
    /// # Errors
    /// A file that cannot be written; an answer that was wrong, a query that did not run.
    pub(super) fn end(&self, files: &[(Form, &Path)]) -> Result<()> {
        for (form, path) in files {
            self.write(*form, path)?;
        }
        self.verdict()
    }

    /// An error where an answer was wrong or a query did not run.
    fn verdict(&self) -> Result<()> {
        if let Some(figure) = self.figures.iter().find(|figure| figure.answer.starts_with("WRONG")) {
            return Err(Error::usage(format!("{}: the answer is {}", figure.query, figure.answer)));
        }
        match self.refused.first() {
            Some(refused) => {
                let names: Vec<_> = self.refused.iter().map(|refused| refused.query.as_str()).collect();
                Err(Error::usage(format!("{} did not run; {}: {}", names.join(", "), refused.query, refused.reason)))
            }
            None => Ok(()),
        }
    }

    fn write(&self, form: Form, path: &Path) -> Result<()> {
        let text = match form {
            Form::Json => serde_json::to_string_pretty(self).map_err(eagre_engine::EngineError::bug)?,
            Form::Markdown => markdown::text(self),
            Form::Html => html::text(self),
        };
        std::fs::write(path, text).map_err(|error| Error::File { path: path.display().to_string(), error })
    }
}

/// A number with two or three telling digits.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Names of the tables' columns and how a figure fills them, for the forms that have tables.
type Cell = (&'static str, fn(&Figure) -> String);

const RESOURCES: &[Cell] = &[
    ("query", |figure| figure.query.clone()),
    ("source", |figure| figure.source.clone()),
    ("shards", |figure| figure.shards.to_string()),
    ("rows/step", Figure::rows_per_step),
    ("rows read", |figure| figure.rows.to_string()),
    ("rows out", |figure| figure.rows_out.to_string()),
    ("step p50 ms", |figure| format!("{:.3}", figure.step_ms_p50)),
    ("p99 ms", |figure| format!("{:.3}", figure.step_ms_p99)),
    ("max ms", |figure| format!("{:.3}", figure.step_ms_max)),
    ("memory before MiB", |figure| format!("{:.0}", figure.rss_mib_start)),
    ("peak MiB", |figure| format!("{:.0}", figure.rss_mib_max)),
    ("state MiB", |figure| format!("{:.1}", figure.state_mib_max)),
    ("state rows", |figure| figure.state_rows_max.to_string()),
];

const CHECKPOINTS: &[Cell] = &[
    ("query", |figure| figure.query.clone()),
    ("source", |figure| figure.source.clone()),
    ("shards", |figure| figure.shards.to_string()),
    ("checkpoints", |figure| checkpoint(figure, |checkpoints| checkpoints.count.to_string())),
    ("MiB", |figure| checkpoint(figure, |checkpoints| format!("{:.1}", checkpoints.mib))),
    ("MiB/s", |figure| checkpoint(figure, |checkpoints| format!("{:.1}", checkpoints.mib_per_s))),
    ("saving ms", |figure| checkpoint(figure, |checkpoints| format!("{:.1}", checkpoints.save_ms))),
    ("longest ms", |figure| checkpoint(figure, |checkpoints| format!("{:.2}", checkpoints.save_ms_max))),
    ("CPU cost", |figure| {
        checkpoint(figure, |checkpoints| {
            checkpoints.cost.map_or_else(|| "–".to_owned(), |cost| format!("{:+.1} %", cost * 100.0))
        })
    }),
];

const LATENCY: &[Cell] = &[
    ("query", |figure| figure.query.clone()),
    ("source", |figure| figure.source.clone()),
    ("shards", |figure| figure.shards.to_string()),
    ("events/s", |figure| at_rate(figure, |at_rate| at_rate.events_per_s.to_string())),
    ("events", |figure| at_rate(figure, |at_rate| at_rate.latency.events.to_string())),
    ("p50 ms", |figure| at_rate(figure, |at_rate| format!("{:.2}", at_rate.latency.ms_p50))),
    ("p99 ms", |figure| at_rate(figure, |at_rate| format!("{:.2}", at_rate.latency.ms_p99))),
    ("p99.9 ms", |figure| at_rate(figure, |at_rate| format!("{:.2}", at_rate.latency.ms_p999))),
    ("max ms", |figure| at_rate(figure, |at_rate| format!("{:.2}", at_rate.latency.ms_max))),
    ("longest step ms", |figure| at_rate(figure, |at_rate| format!("{:.2}", at_rate.step_ms_max))),
    ("cores", |figure| at_rate(figure, |at_rate| format!("{:.2}", at_rate.cores))),
    ("checkpoints", |figure| at_rate(figure, |at_rate| at_rate.checkpoints.to_string())),
];

fn times(figure: &Figure, peer: &str) -> String {
    figure.times_peer.get(peer).map_or_else(|| "–".to_owned(), |times| short(*times))
}

fn checkpoint(figure: &Figure, text: impl Fn(&super::figure::Checkpoints) -> String) -> String {
    figure.checkpoints.as_ref().map_or_else(String::new, text)
}

fn at_rate(figure: &Figure, text: impl Fn(&super::figure::AtRate) -> String) -> String {
    figure.latency.as_ref().map_or_else(String::new, text)
}

/// Title, explanation, columns and rows of each table that has rows.
fn tables(report: &Report) -> Vec<(&'static str, &'static str, &'static [Cell], Vec<&Figure>)> {
    let all: Vec<&Figure> = report.figures.iter().collect();
    let with = |has: fn(&Figure) -> bool| report.figures.iter().filter(|figure| has(figure)).collect::<Vec<_>>();
    let tables = [
        ("Throughput", report.layout.meaning, report.layout.throughput, all.clone()),
        (
            "Steps, memory, state",
            "Memory is what is resident, with events in memory included; state is what operators count, at its largest.",
            report.layout.resources,
            all,
        ),
        (
            "Checkpoints",
            "One every second. CPU cost is against the same run without.",
            CHECKPOINTS,
            with(|figure| figure.checkpoints.is_some()),
        ),
        (
            "Latency at a fixed rate",
            "From when an event was due until the step that took it had run and its output was written.",
            LATENCY,
            with(|figure| figure.latency.is_some()),
        ),
    ];
    tables.into_iter().filter(|(_, _, _, rows)| !rows.is_empty()).collect()
}

#[cfg(test)]
mod tests;
