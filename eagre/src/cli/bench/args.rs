//! The options of `eagre bench nexmark`, checked before anything is generated: a typing error must not cost a long run.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::query::{self, Query};
use super::report::Form;
use crate::error::{Error, Result};

/// Options of `eagre bench nexmark`.
#[derive(Debug, Args)]
pub(in crate::cli) struct NexmarkArgs {
    /// Which queries, separated by commas: `q0` to `q22`; `all` of these; `extra` for the keyed windows and the parts of queries.
    /// Each of several runs in a process of its own, so that none goes by what ran before it.
    #[arg(long, default_value = "all", overrides_with = "queries")]
    queries: String,
    /// How many events (of all three tables; 46 of 50 are bids); suffixes k and M.
    #[arg(long, default_value = "10M", value_parser = parse_count)]
    pub(super) events: u64,
    /// Shard counts to run at, separated by commas.
    #[arg(long, default_value = "1")]
    shards: String,
    /// The most rows of a step for each shard, separated by commas: one run for each.
    #[arg(long, default_value = "65536")]
    rows_per_step: String,
    /// Events of event time in a second.
    #[arg(long, default_value = "100k", value_parser = parse_count)]
    pub(super) event_rate: u64,
    /// Seed of the events.
    #[arg(long, default_value_t = 42)]
    pub(super) seed: u64,
    /// Where events come from, separated by commas: `memory` (made before the clock starts), `generator` (all columns of all tables are
    /// made while it runs), `generator-pushdown` (only what the query reads is made); or `parquet DIR` (person.parquet,
    /// auction.parquet and bid.parquet, or folders of these names).
    #[arg(long, num_args = 1..=2, value_names = ["SOURCES", "DIR"], default_values = ["memory"])]
    source: Vec<String>,
    /// What becomes of the output. (q10 is always written to files.)
    #[arg(long, value_enum, default_value_t = SinkKind::Hash)]
    pub(super) sink: SinkKind,
    /// Where operators run.
    #[arg(long, value_name = "auto|cpu")]
    pub(super) device: Option<String>,
    /// Also runs each query at this fixed rate, in events a second, and reports how late its effects are, counted from when each event
    /// was due.
    #[arg(long, value_parser = parse_count, value_name = "EVENTS_PER_S")]
    pub(super) rate: Option<u64>,
    /// How long the run at a fixed rate takes.
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rate_seconds: u64,
    /// Writes checkpoints to this folder while it runs (emptied first), and tells what they cost against a run without.
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<String>,
    /// Also times DataFusion's batch answer to the same query over the same rows, on one core.
    #[arg(long)]
    pub(super) peer: bool,
    /// Compares the answer over all events with the oracle's, and not only that over the first --verify-events.
    #[arg(long)]
    pub(super) verify: bool,
    /// The answer over so many of the first events is compared with the oracle's; 0: not checked.
    #[arg(long, default_value = "200k", value_parser = parse_count)]
    verify_events: u64,
    /// Writes the figures to this file, as its name ends: .json, .md or .html; may be repeated.
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Where a process that measures one query leaves what it has measured.
    #[arg(long, hide = true)]
    pub(super) outcome: Option<PathBuf>,
}

/// What becomes of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SinkKind {
    /// Every value of every column is hashed.
    Hash,
    /// Rows are counted and dropped.
    #[value(alias = "count")]
    Blackhole,
}

impl SinkKind {
    /// As tables and reports name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Blackhole => "blackhole",
        }
    }
}

/// Where events come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceKind {
    /// Made before the clock starts.
    Memory,
    /// Made while it runs; `pushdown`: only the columns and tables that the query reads.
    Generator { pushdown: bool },
    /// Files of others.
    Parquet(PathBuf),
}

impl SourceKind {
    /// As tables and reports name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Generator { pushdown: false } => "generator",
            Self::Generator { pushdown: true } => "generator-pushdown",
            Self::Parquet(_) => "parquet",
        }
    }
}

impl NexmarkArgs {
    /// The queries in the order asked for, each once.
    pub(super) fn queries(&self) -> Result<Vec<&'static Query>> {
        let mut chosen: Vec<&'static Query> = Vec::new();
        for name in self.queries.split(',').map(str::trim) {
            let matching: Vec<_> = query::QUERIES
                .iter()
                .filter(|query| match name {
                    "all" => !query.is_extra(),
                    "extra" => query.is_extra(),
                    _ => query.name == name,
                })
                .collect();
            if matching.is_empty() {
                let known: Vec<_> = query::QUERIES.iter().map(|query| query.name).collect();
                return Err(Error::usage(format!(
                    "there is no query `{name}`; there are {}, `all` (q0 to q22) and `extra` (the others)",
                    known.join(", ")
                )));
            }
            for query in matching {
                if !chosen.iter().any(|other| other.name == query.name) {
                    chosen.push(query);
                }
            }
        }
        Ok(chosen)
    }

    pub(super) fn shards(&self) -> Result<Vec<u64>> {
        numbers(&self.shards, "--shards")
    }

    pub(super) fn rows_per_step(&self) -> Result<Vec<u64>> {
        numbers(&self.rows_per_step, "--rows-per-step")
    }

    pub(super) fn sources(&self) -> Result<Vec<SourceKind>> {
        let words = self.source.first().map_or("", String::as_str);
        let folder = self.source.get(1);
        let kinds = words.split(',').map(|word| match (word.trim(), folder) {
            ("memory", _) => Ok(SourceKind::Memory),
            ("generator", _) => Ok(SourceKind::Generator { pushdown: false }),
            ("generator-pushdown", _) => Ok(SourceKind::Generator { pushdown: true }),
            ("parquet", Some(folder)) => Ok(SourceKind::Parquet(PathBuf::from(folder))),
            ("parquet", None) => Err(Error::usage(
                "--source parquet needs the folder of the files: --source parquet DIR (with person.parquet, auction.parquet, bid.parquet)",
            )),
            (other, _) => Err(Error::usage(format!(
                "there is no source `{other}`; there are memory, generator, generator-pushdown and `parquet DIR`"
            ))),
        });
        let kinds = kinds.collect::<Result<Vec<_>>>()?;
        let files = kinds.iter().any(|kind| matches!(kind, SourceKind::Parquet(_)));
        match folder {
            Some(folder) if !files => {
                Err(Error::usage(format!("--source {words} takes no folder; `{folder}` would be that of `parquet`")))
            }
            _ if files && kinds.len() > 1 => Err(Error::usage(
                "files of others hold other events than the generator makes: give `--source parquet DIR` alone",
            )),
            _ => Ok(kinds),
        }
    }

    /// Over how many of the first events the answer is checked.
    pub(super) fn verified_events(&self) -> u64 {
        if self.verify { u64::MAX } else { self.verify_events }
    }

    pub(super) fn reports(&self) -> Result<Vec<(Form, &Path)>> {
        reports(&self.report)
    }
}

/// The files to write, with what their names say of the form.
pub(super) fn reports(files: &[PathBuf]) -> Result<Vec<(Form, &Path)>> {
    files.iter().map(|path| Ok((Form::of(path)?, path.as_path()))).collect()
}

/// Counts separated by commas.
pub(super) fn numbers(text: &str, option: &str) -> Result<Vec<u64>> {
    text.split(',').map(|part| parse_count(part.trim()).ok().filter(|n| *n > 0)).collect::<Option<Vec<_>>>().ok_or_else(
        || Error::usage(format!("{option} takes whole numbers of at least 1 separated by commas, not `{text}`")),
    )
}

/// A count, perhaps with a suffix.
pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000.0),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000.0),
        _ => (text, 1.0),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no count like 500k or 10M"))?;
    if !number.is_finite() || number < 0.0 {
        return Err(format!("`{text}` is no count like 500k or 10M"));
    }
    Ok((number * factor) as u64)
}
