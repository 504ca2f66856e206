//! `eagre bench nexmark` and `eagre bench cep`: throughput, CPU seconds, memory, state, checkpoints and latency of whole queries, with the
//! answer checked.
//!
//! A figure is worth something when its question is the same as everyone's, its answer right and its command known. So the queries are
//! Nexmark's ([`query`]), or patterns as they are known ([`cep`]), the answer over the first events is compared with an oracle's before time is taken ([`verify`], [`oracle`]), the
//! sink hashes every output column so that nothing can be skipped ([`sink`]), the source says what it leaves out ([`input`]), latency is
//! counted from when an event was due ([`latency`]), each query has a process of its own ([`alone`]), and a report ([`report`]) carries the command that makes it again. [`kernels`] is the benchmark of the
//! kernels alone.

mod alone;
mod args;
mod cep;
mod figure;
mod input;
mod kernels;
mod latency;
mod measure;
mod nab;
mod peers;
mod plain;
mod process;
mod query;
mod report;
mod run;
mod score;
mod sink;
mod verify;

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use clap::Subcommand;
use eagre_datasets::nexmark::NexmarkTable;

use self::args::{NexmarkArgs, SourceKind};
use self::figure::{Checkpoints, Figure};
use self::input::{Events, Feed, Memory, Pace};
use self::measure::{Input, Rows, RowsKind, Setup};
use self::peers::Peers;
use self::query::{Folder, Query};
use self::report::Report;
use crate::error::Result;

/// Benchmarks.
#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// The queries of Nexmark, and windows over keys.
    Nexmark(NexmarkArgs),
    /// Queries of row patterns (MATCH_RECOGNIZE), by number of keys and of patterns.
    Cep(cep::CepArgs),
    /// Scores and alarms through SQL, by method, number of keys and order of rows.
    Score(score::ScoreArgs),
    /// The series of the Numenta Anomaly Benchmark through `detect_anomalies`, as files that its scorer reads.
    Nab(nab::NabArgs),
    /// Each kernel on the device and on the CPU, by batch size, with the answers compared.
    Kernels(eagre_kernels::cli::KernelsArgs),
}

/// Runs a benchmark.
pub(super) fn run(command: BenchCommand) -> Result<()> {
    let args = match command {
        BenchCommand::Nexmark(args) => args,
        BenchCommand::Cep(args) => return cep::run(&args),
        BenchCommand::Score(args) => return score::run(&args),
        BenchCommand::Nab(args) => return nab::run(&args),
        BenchCommand::Kernels(args) => return kernels::run(&args),
    };
    let (queries, shards, rows_per_step) = (args.queries()?, args.shards()?, args.rows_per_step()?);
    let (sources, reports) = (args.sources()?, args.reports()?);
    let peers = Peers::stored(peers::NEXMARK)?;
    let folder = Folder::create()?;
    let mut bench = Bench { args: &args, folder: &folder, nexmark: None, keyed: None, files: None, file_events: None };
    let mut report = Report::new(&report::nexmark::LAYOUT, args.seed, peers);
    if args.outcome.is_none() {
        report.begin();
    }
    let alone = queries.len() > 1;
    for query in queries {
        let measured = match alone {
            true => alone::measure(query, &folder).map(|outcome| report.keep(outcome)),
            false => bench.query(query, &sources, &shards, &rows_per_step, &mut report),
        };
        if let Err(error) = measured {
            report.refuse(query.name, &error);
        }
    }
    match &args.outcome {
        Some(path) => report.outcome().write(path),
        None => report.end(&reports),
    }
}

/// Rows that are made once for all runs of a query.
struct Bench<'a> {
    args: &'a NexmarkArgs,
    folder: &'a Folder,
    nexmark: Option<Arc<Memory>>,
    keyed: Option<Arc<Vec<RecordBatch>>>,
    /// Rows of others' files, for the oracle.
    files: Option<Arc<Memory>>,
    /// Rows of all of others' files.
    file_events: Option<u64>,
}

impl Bench<'_> {
    /// Checks and measures one query in all ways asked for.
    fn query(
        &mut self,
        query: &'static Query,
        sources: &[SourceKind],
        shards: &[u64],
        rows_per_step: &[u64],
        report: &mut Report,
    ) -> Result<()> {
        let answer = self.answer(query, &sources[0])?;
        for source in sources {
            // Keyed rows lie in memory whatever the source is: once is enough.
            if query.is_keyed() && *source != sources[0] {
                continue;
            }
            let input = self.input(query, source)?;
            for shards in shards {
                for rows_per_step in rows_per_step {
                    let mut figure = self.measure(query, source, self.setup(input.clone(), *shards, *rows_per_step))?;
                    figure.answer.clone_from(&answer);
                    figure.times_peer = report.peers.times(query.name, figure.events_per_cpu_s);
                    report.add(figure);
                }
            }
        }
        Ok(())
    }

    fn setup(&self, input: Input, shards: u64, rows_per_step: u64) -> Setup<'_> {
        let device = self.args.device.as_deref();
        Setup { folder: self.folder, input, shards, rows_per_step, device, state: None, pace: None }
    }

    fn measure(&self, query: &Query, source: &SourceKind, setup: Setup<'_>) -> Result<Figure> {
        let args = self.args;
        let mut figure = measure::measure(query, source, args.sink, &setup)?;
        let with_state = Setup { state: args.state.as_deref(), ..setup.clone() };
        if args.state.is_some() {
            let without = figure.cpu_seconds;
            figure = measure::measure(query, source, args.sink, &with_state)?;
            let cost = (without > 0.0).then(|| figure.cpu_seconds / without - 1.0);
            figure.checkpoints = figure.checkpoints.map(|checkpoints| Checkpoints { cost, ..checkpoints });
        }
        if let (Some(rate), Input::Stream(events, feed)) = (args.rate, &setup.input) {
            let events = events.first(rate.saturating_mul(args.rate_seconds));
            let pace = Some(Arc::new(Pace::new(rate)));
            let paced = Setup { input: Input::Stream(events, feed.clone()), pace, ..with_state };
            figure.latency = Some(measure::measure_latency(query, args.sink, rate, &paced)?);
        }
        if args.peer && *source == SourceKind::Memory {
            let rows = self.rows(query, u64::MAX)?;
            figure.datafusion_events_per_s = Some(measure::datafusion_rate(query, &setup, &rows)?);
        }
        Ok(figure)
    }

    /// Whether the answer over the first events is right.
    fn answer(&mut self, query: &Query, source: &SourceKind) -> Result<String> {
        let count = self.args.verified_events();
        if count == 0 {
            return Ok("unchecked".to_owned());
        }
        let rows = match source {
            SourceKind::Parquet(folder) if !query.is_keyed() => self.file_rows(folder, count)?,
            _ => self.rows(query, count)?,
        };
        let input = match (&rows.kind, source) {
            (RowsKind::Keyed(batches), _) => Input::Keyed(Arc::clone(batches)),
            (RowsKind::Nexmark(_), SourceKind::Parquet(_)) => Input::Tables(rows.clone()),
            (RowsKind::Nexmark(memory), _) => {
                Input::Stream(self.events()?.first(count), Feed::Memory(Arc::clone(memory)))
            }
        };
        verify::verify(query, &self.setup(input, 2, 10_000), &rows)
    }

    fn events(&self) -> Result<Events> {
        Events::new(self.args.seed, self.args.event_rate, self.args.events)
    }

    /// What a query reads when time is taken.
    fn input(&mut self, query: &Query, source: &SourceKind) -> Result<Input> {
        if query.is_keyed() {
            return Ok(Input::Keyed(self.keyed()?));
        }
        Ok(match source {
            SourceKind::Memory => {
                let memory = match &self.nexmark {
                    Some(memory) => Arc::clone(memory),
                    None => Arc::new(Memory::generate(&self.events()?, &NexmarkTable::ALL)?),
                };
                self.nexmark = Some(Arc::clone(&memory));
                Input::Stream(self.events()?, Feed::Memory(memory))
            }
            SourceKind::Generator { pushdown } => {
                Input::Stream(self.events()?, Feed::Generator { pushdown: *pushdown })
            }
            SourceKind::Parquet(folder) => {
                let rows = match self.file_events {
                    Some(rows) => rows,
                    None => self.count_file_rows(folder)?,
                };
                self.file_events = Some(rows);
                Input::Parquet(Arc::from(folder.as_path()), rows)
            }
        })
    }

    /// The rows of all tables of others' files.
    fn count_file_rows(&self, folder: &Path) -> Result<u64> {
        let (session, _) = self.setup(Input::Parquet(Arc::from(folder), 0), 1, 65_536).session()?;
        NexmarkTable::ALL.into_iter().map(|table| measure::count_rows(&session, table)).sum()
    }

    fn keyed(&mut self) -> Result<Arc<Vec<RecordBatch>>> {
        let batches = match &self.keyed {
            Some(batches) => Arc::clone(batches),
            None => Arc::new(input::keyed(self.args.events, self.args.event_rate, self.args.seed)?),
        };
        self.keyed = Some(Arc::clone(&batches));
        Ok(batches)
    }

    /// The first rows as finished tables.
    fn rows(&self, query: &Query, count: u64) -> Result<Rows> {
        let events = self.args.events.min(count);
        if query.is_keyed() {
            let batches = input::keyed(events, self.args.event_rate, self.args.seed)?;
            return Ok(Rows { events, kind: RowsKind::Keyed(Arc::new(batches)) });
        }
        let memory = match &self.nexmark {
            Some(memory) if events == self.args.events => Arc::clone(memory),
            _ => Arc::new(Memory::generate(&self.events()?.first(events), &NexmarkTable::ALL)?),
        };
        Ok(Rows { events, kind: RowsKind::Nexmark(memory) })
    }

    /// The first rows of each of others' files.
    fn file_rows(&mut self, folder: &Path, count: u64) -> Result<Rows> {
        let memory = match &self.files {
            Some(memory) => Arc::clone(memory),
            None => {
                let (session, _) = self.setup(Input::Parquet(Arc::from(folder), 0), 1, 65_536).session()?;
                let mut tables = [const { Vec::new() }; 3];
                for (table, batches) in NexmarkTable::ALL.into_iter().zip(&mut tables) {
                    *batches = measure::all_rows(&session, table, count)?;
                }
                Arc::new(Memory::of(tables))
            }
        };
        self.files = Some(Arc::clone(&memory));
        let rows = NexmarkTable::ALL.into_iter().flat_map(|table| memory.table(table)).map(RecordBatch::num_rows);
        Ok(Rows { events: rows.sum::<usize>() as u64, kind: RowsKind::Nexmark(memory) })
    }
}
