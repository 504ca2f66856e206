//! What a benchmark says: a line on standard output as soon as a run is done, and reports in files at the end.

mod html;
mod markdown;
mod plot;

use std::path::Path;

use serde::Serialize;

use super::args::NexmarkArgs;
use super::measure::Figure;
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
#[derive(Debug, Clone, Serialize)]
pub(super) struct Refused {
    pub query: String,
    pub reason: String,
}

/// Everything that was measured, and what it was measured with.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
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
    pub(super) fn new(args: &NexmarkArgs, peers: Peers) -> Self {
        let arguments = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: process::machine(),
            command: format!("eagre {arguments}"),
            seed: args.seed,
            figures: Vec::new(),
            refused: Vec::new(),
            peers,
        }
    }

    pub(super) fn write(&self, form: Form, path: &Path) -> Result<()> {
        let text = match form {
            Form::Json => serde_json::to_string_pretty(self).map_err(eagre_engine::EngineError::bug)?,
            Form::Markdown => markdown::text(self),
            Form::Html => html::text(self),
        };
        std::fs::write(path, text).map_err(|error| Error::File { path: path.display().to_string(), error })
    }
}

/// Names over [`line`]'s columns.
pub(super) const HEADER: &str = "query      source             sink      shards rows/step       events  seconds     events/s    cpu_s events/cpu_s \
                                 cores   p50_ms   p99_ms   max_ms  rss_mib state_mib ckpts ckpt_cost late_p50 late_p99 late_p999  flink   dbsp  batch datafusion/s answer";

/// One run.
pub(super) fn line(figure: &Figure) -> String {
    let optional =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
    let times =
        |peer: &str| figure.times_peer.get(peer).map_or_else(|| "-".to_owned(), |times| format!("{}x", short(*times)));
    let checkpoints = figure.checkpoints.as_ref();
    let cost = checkpoints.and_then(|checkpoints| checkpoints.cost);
    let late = figure.latency.as_ref().map(|at_rate| &at_rate.latency);
    format!(
        "{:<10} {:<18} {:<9} {:>6} {:>9} {:>12} {:>8.2} {:>12.0} {:>8.2} {:>12.0} {:>5.2} {:>8.3} {:>8.3} {:>8.3} {:>8.0} {:>9.1} {:>5} {:>9} {:>8} {:>8} {:>9} {:>6} {:>6} {:>6} {:>12} {}",
        figure.query,
        figure.source,
        figure.sink,
        figure.shards,
        figure.rows_per_step,
        figure.events,
        figure.seconds,
        figure.events_per_s,
        figure.cpu_seconds,
        figure.events_per_cpu_s,
        figure.cores,
        figure.step_ms_p50,
        figure.step_ms_p99,
        figure.step_ms_max,
        figure.rss_mib_max,
        figure.state_mib_max,
        checkpoints.map_or(0, |checkpoints| checkpoints.count),
        cost.map_or_else(|| "-".to_owned(), |cost| format!("{:+.1}%", cost * 100.0)),
        optional(late.map(|late| late.ms_p50), 2),
        optional(late.map(|late| late.ms_p99), 2),
        optional(late.map(|late| late.ms_p999), 2),
        times("Flink"),
        times("DBSP"),
        times("best batch"),
        optional(figure.datafusion_events_per_s, 0),
        figure.answer,
    )
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

const THROUGHPUT: &[Cell] = &[
    ("query", |figure| figure.query.clone()),
    ("source", |figure| figure.source.clone()),
    ("sink", |figure| figure.sink.clone()),
    ("shards", |figure| figure.shards.to_string()),
    ("events", |figure| figure.events.to_string()),
    ("event time, events/s", |figure| figure.event_time_rate.map_or_else(|| "–".to_owned(), |rate| rate.to_string())),
    ("k events/s", |figure| format!("{:.0}", figure.events_per_s / 1e3)),
    ("k events/CPU-s", |figure| format!("{:.0}", figure.events_per_cpu_s / 1e3)),
    ("cores", |figure| format!("{:.2}", figure.cores)),
    ("× Flink", |figure| times(figure, "Flink")),
    ("× DBSP", |figure| times(figure, "DBSP")),
    ("× best batch", |figure| times(figure, "best batch")),
    ("answer", |figure| figure.answer.clone()),
];

const RESOURCES: &[Cell] = &[
    ("query", |figure| figure.query.clone()),
    ("source", |figure| figure.source.clone()),
    ("shards", |figure| figure.shards.to_string()),
    ("rows/step", |figure| figure.rows_per_step.to_string()),
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

fn checkpoint(figure: &Figure, text: impl Fn(&super::measure::Checkpoints) -> String) -> String {
    figure.checkpoints.as_ref().map_or_else(String::new, text)
}

fn at_rate(figure: &Figure, text: impl Fn(&super::measure::AtRate) -> String) -> String {
    figure.latency.as_ref().map_or_else(String::new, text)
}

/// Title, explanation, columns and rows of each table that has rows.
fn tables(report: &Report) -> Vec<(&'static str, &'static str, &'static [Cell], Vec<&Figure>)> {
    let all: Vec<&Figure> = report.figures.iter().collect();
    let with = |has: fn(&Figure) -> bool| report.figures.iter().filter(|figure| has(figure)).collect::<Vec<_>>();
    let tables = [
        (
            "Throughput",
            "Events of all three tables count, whether or not the query reads them. `memory`: made before the clock starts; `generator`: \
             all columns of all tables are made while it runs; `generator-pushdown`: only what the query reads is made. A multiple above 1 \
             is in favour of eagre.",
            THROUGHPUT,
            all.clone(),
        ),
        (
            "Steps, memory, state",
            "Memory is what is resident, with events in memory included; state is what operators count, at its largest.",
            RESOURCES,
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
