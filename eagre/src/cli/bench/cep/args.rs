//! The options of `eagre bench cep`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::events::Stream;
use super::query::{self, Query};
use crate::cli::bench::args::{SinkKind, numbers, parse_count, reports};
use crate::cli::bench::report::Form;
use crate::error::{Error, Result};

/// Options of `eagre bench cep`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CepArgs {
    /// Which queries, separated by commas: `v`, `fraud`, `login`, `funnel2`, `funnel3`, `sessionize`, `streak`, `sum`, `avg` (one
    /// pattern each), `rules` (a book of `--patterns` rules); `all` of these.
    #[arg(long, default_value = "all")]
    queries: String,
    /// How many keys there are, separated by commas, with suffixes k and M: one run for each.
    #[arg(long, default_value = "1k,100k")]
    keys: String,
    /// How many rules `rules` looks for at once, separated by commas: one run for each.
    #[arg(long, default_value = "1,32")]
    patterns: String,
    /// How many events; suffixes k and M.
    #[arg(long, default_value = "5M", value_parser = parse_count)]
    pub(super) events: u64,
    /// Shard counts to run at, separated by commas.
    #[arg(long, default_value = "1")]
    shards: String,
    /// The most rows of a step, separated by commas: one run for each. Unless it is given, as many as pipelines take by themselves, which goes
    /// by the number of keys.
    #[arg(long)]
    rows_per_step: Option<String>,
    /// Events of event time in a second; at most ten of each key.
    #[arg(long, default_value = "100k", value_parser = parse_count)]
    event_rate: u64,
    /// How far rows come out of order, in milliseconds of event time. The watermark is a second behind.
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=1_000))]
    disorder: u64,
    /// Seed of the events.
    #[arg(long, default_value_t = 42)]
    pub(super) seed: u64,
    /// What becomes of the matches.
    #[arg(long, value_enum, default_value_t = SinkKind::Hash)]
    pub(super) sink: SinkKind,
    /// Where operators run.
    #[arg(long, value_name = "auto|cpu")]
    pub(super) device: Option<String>,
    /// Compares the answer over all events with that of a plain program, and not only that over the first --verify-events.
    #[arg(long)]
    verify: bool,
    /// The answer over so many of the first events is compared with that of a plain program; 0: not checked.
    #[arg(long, default_value = "200k", value_parser = parse_count)]
    verify_events: u64,
    /// Writes the figures to this file, as its name ends: .json, .md or .html; may be repeated.
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
}

impl CepArgs {
    /// The queries in the order asked for, each once; the rule book once for each number of patterns.
    pub(super) fn queries(&self) -> Result<Vec<Query>> {
        let patterns = numbers(&self.patterns, "--patterns")?;
        let mut chosen: Vec<Query> = Vec::new();
        for name in self.queries.split(',').map(str::trim) {
            let of_name = query::named(name, &patterns);
            if of_name.is_empty() {
                return Err(Error::usage(format!(
                    "there is no query `{name}`; there are {} and `all`",
                    query::NAMES.join(", ")
                )));
            }
            for query in of_name {
                if !chosen.contains(&query) {
                    chosen.push(query);
                }
            }
        }
        Ok(chosen)
    }

    pub(super) fn keys(&self) -> Result<Vec<u64>> {
        numbers(&self.keys, "--keys")
    }

    pub(super) fn shards(&self) -> Result<Vec<u64>> {
        numbers(&self.shards, "--shards")
    }

    /// `None`: as pipelines do by themselves.
    pub(super) fn rows_per_step(&self) -> Result<Vec<Option<u64>>> {
        match &self.rows_per_step {
            Some(rows) => Ok(numbers(rows, "--rows-per-step")?.into_iter().map(Some).collect()),
            None => Ok(vec![None]),
        }
    }

    pub(super) fn reports(&self) -> Result<Vec<(Form, &Path)>> {
        reports(&self.report)
    }

    /// Over how many of the first events the answer is checked.
    pub(super) fn verified_events(&self) -> u64 {
        if self.verify { u64::MAX } else { self.verify_events }
    }

    /// The events of so many keys.
    pub(super) fn stream(&self, keys: u64) -> Stream {
        Stream { seed: self.seed, keys, event_rate: self.event_rate, disorder_ms: self.disorder }
    }
}
