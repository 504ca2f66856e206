//! `eagre bench`: throughput, CPU seconds, memory and step latency of whole queries, with the answer checked.
//!
//! Events lie in memory as Arrow before the clock starts, so that no generator is in the figure; the sink hashes every output column, so
//! that nothing can be skipped. Each query's answer is first compared with DataFusion's over the first events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::{Args, Subcommand};
use eagre_datasets::nexmark::{NexmarkConfig, NexmarkGenerator, NexmarkTable};
use eagre_engine::graph::NodeKind;
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::{Delta, Result as EngineResult};
use eagre_sql::catalog::TableDefinition;
use serde::Serialize;

use super::text::print;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::sink::results::Materialized;
use crate::source::memory::MemorySource;

/// Benchmarks.
#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Nexmark queries and keyed windows over events in memory.
    Nexmark(NexmarkArgs),
}

/// Options of `eagre bench nexmark`.
#[derive(Debug, Args)]
pub(super) struct NexmarkArgs {
    /// Which queries, separated by commas; `all`: every one.
    #[arg(long, default_value = "q0,q1,q2,q5win,q7win,tumble10k,hop10k,group10k")]
    queries: String,
    /// How many events (of all three tables; 46 of 50 are bids); suffixes k and M.
    #[arg(long, default_value = "10M", value_parser = parse_count)]
    events: u64,
    /// Shard counts to run at, separated by commas.
    #[arg(long, default_value = "1")]
    shards: String,
    /// The most rows of a step, separated by commas: one run for each.
    #[arg(long, default_value = "65536")]
    rows_per_step: String,
    /// Events of event time in a second.
    #[arg(long, default_value = "100k", value_parser = parse_count)]
    event_rate: u64,
    /// Seed of the events.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Writes checkpoints to this folder while it runs (emptied first).
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// Also times DataFusion's batch answer to the same query over the same rows, on one core.
    #[arg(long)]
    peer: bool,
    /// The answer over so many of the first events is compared with DataFusion's; 0: not checked.
    #[arg(long, default_value = "200k", value_parser = parse_count)]
    verify_events: u64,
    /// Writes the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<std::path::PathBuf>,
}

fn parse_count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000.0),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000.0),
        _ => (text, 1.0),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no count like 500k or 10M"))?;
    Ok((number * factor) as u64)
}

macro_rules! queries {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../benches/nexmark/", $name, ".sql")))),*]
    };
}

/// Name and text.
const QUERIES: &[(&str, &str)] =
    queries!["q0", "q1", "q2", "q5win", "q7win", "q14", "q15", "q17", "q21", "q22", "tumble10k", "hop10k", "group10k"];

/// One line of the table.
#[derive(Debug, Serialize)]
struct Figure {
    query: String,
    shards: usize,
    rows_per_step: u64,
    rows: u64,
    seconds: f64,
    rows_per_s: f64,
    cpu_seconds: f64,
    rows_per_cpu_s: f64,
    step_ms_p50: f64,
    step_ms_p99: f64,
    step_ms_max: f64,
    rss_mib_max: f64,
    checkpoints: u64,
    datafusion_rows_per_s: Option<f64>,
    answer: String,
}

pub(super) fn run(command: BenchCommand) -> Result<()> {
    let BenchCommand::Nexmark(args) = command;
    let queries = selected(&args.queries)?;
    let numbers = |text: &str, option: &str| -> Result<Vec<u64>> {
        text.split(',')
            .map(|part| parse_count(part.trim()).ok().filter(|n| *n > 0))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                Error::command_line(format!(
                    "{option} takes whole numbers of at least 1 separated by commas, not `{text}`"
                ))
            })
    };
    let shards = numbers(&args.shards, "--shards")?;
    let steps = numbers(&args.rows_per_step, "--rows-per-step")?;
    let events = Events::generate(&args, &queries)?;
    print(format_args!(
        "{:<10} {:>6} {:>9} {:>12} {:>8} {:>12} {:>8} {:>12} {:>9} {:>9} {:>9} {:>8} {:>6} {:>12} answer",
        "query",
        "shards",
        "rows/step",
        "rows",
        "seconds",
        "rows/s",
        "cpu_s",
        "rows/cpu_s",
        "p50_ms",
        "p99_ms",
        "max_ms",
        "rss_mib",
        "ckpts",
        "datafusion/s"
    ))?;
    let mut figures = Vec::new();
    for (name, text) in &queries {
        let answer =
            if args.verify_events == 0 { "unchecked".to_owned() } else { verify(text, &events, args.verify_events)? };
        let peer = if args.peer { Some(datafusion_rate(text, &events)?) } else { None };
        for shards in &shards {
            for rows_per_step in &steps {
                let mut figure = measure(name, text, &events, *shards, *rows_per_step, args.state.as_deref())?;
                figure.answer.clone_from(&answer);
                figure.datafusion_rows_per_s = peer;
                print(format_args!("{}", line(&figure)))?;
                figures.push(figure);
            }
        }
    }
    if let Some(path) = &args.report {
        let json = serde_json::to_vec_pretty(&figures).map_err(eagre_engine::EngineError::bug)?;
        std::fs::write(path, json).map_err(|error| Error::File { path: path.display().to_string(), error })?;
    }
    match figures.iter().find(|figure| figure.answer.starts_with("WRONG")) {
        Some(figure) => {
            Err(Error::usage(format!("{}: the answer differs from DataFusion's: {}", figure.query, figure.answer)))
        }
        None => Ok(()),
    }
}

fn selected(names: &str) -> Result<Vec<(&'static str, &'static str)>> {
    if names == "all" {
        return Ok(QUERIES.to_vec());
    }
    names
        .split(',')
        .map(|name| {
            QUERIES.iter().find(|(known, _)| *known == name.trim()).copied().ok_or_else(|| {
                let known: Vec<_> = QUERIES.iter().map(|(name, _)| *name).collect();
                Error::usage(format!("there is no query `{name}`; there are {}", known.join(", ")))
            })
        })
        .collect()
}

fn line(figure: &Figure) -> String {
    format!(
        "{:<10} {:>6} {:>9} {:>12} {:>8.2} {:>12.0} {:>8.2} {:>12.0} {:>9.3} {:>9.3} {:>9.3} {:>8.0} {:>6} {:>12} {}",
        figure.query,
        figure.shards,
        figure.rows_per_step,
        figure.rows,
        figure.seconds,
        figure.rows_per_s,
        figure.cpu_seconds,
        figure.rows_per_cpu_s,
        figure.step_ms_p50,
        figure.step_ms_p99,
        figure.step_ms_max,
        figure.rss_mib_max,
        figure.checkpoints,
        figure.datafusion_rows_per_s.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}")),
        figure.answer,
    )
}

/// The events of all tables that the queries read.
struct Events {
    bid: Vec<RecordBatch>,
    keyed: Vec<RecordBatch>,
}

const BATCH_ROWS: u64 = 8_192;
const KEYS: i64 = 10_000;

impl Events {
    fn generate(args: &NexmarkArgs, queries: &[(&str, &str)]) -> Result<Self> {
        let reads = |table: &str| queries.iter().any(|(_, text)| text.contains(table));
        let config = NexmarkConfig {
            seed: args.seed,
            events_per_second: args.event_rate,
            event_count: Some(args.events),
            ..NexmarkConfig::default()
        };
        let generator = NexmarkGenerator::new(config).map_err(|error| Error::usage(error.to_string()))?;
        let mut events = Self { bid: Vec::new(), keyed: Vec::new() };
        let mut next = 0;
        while next < args.events {
            let range = generator.events_for_rows(NexmarkTable::Bid, next, BATCH_ROWS);
            next = range.end;
            if range.is_empty() {
                break;
            }
            if reads("FROM bid") || reads("TABLE bid") {
                let batch = generator.batch(NexmarkTable::Bid, range.clone(), None);
                events.bid.push(batch.map_err(|error| Error::usage(error.to_string()))?);
            }
        }
        if reads("keyed") {
            let mut row = 0;
            while row < args.events {
                let rows = BATCH_ROWS.min(args.events - row);
                events.keyed.push(keyed(row, rows, args.event_rate, args.seed)?);
                row += rows;
            }
        }
        Ok(events)
    }

    fn table<'a>(&'a self, text: &str) -> (&'static str, &'static str, &'a [RecordBatch]) {
        if text.contains("keyed") { ("keyed", "ts", &self.keyed) } else { ("bid", "dateTime", &self.bid) }
    }
}

/// Rows `first..first + rows` of a stream over [`KEYS`] keys in random order.
fn keyed(first: u64, rows: u64, event_rate: u64, seed: u64) -> Result<RecordBatch> {
    let mix = |row: u64| {
        let mut x = row.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^ (x >> 31)
    };
    let schema = Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Int64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(
            (first..first + rows).map(|row| (row * 1_000 / event_rate.max(1)) as i64),
        )),
        Arc::new(Int64Array::from_iter_values((first..first + rows).map(|row| (mix(row) % KEYS as u64) as i64))),
        Arc::new(Int64Array::from_iter_values((first..first + rows).map(|row| (mix(row) >> 40) as i64))),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).map_err(|error| Error::Engine(error.into()))
}

fn session(
    text: &str,
    events: &Events,
    batches: Vec<RecordBatch>,
    shards: u64,
    rows_per_step: u64,
    state: Option<&str>,
) -> Result<Session> {
    let (name, time, all) = events.table(text);
    let mut builder = Session::builder()
        .set("eagre.shards", shards.to_string())
        .set("eagre.step.rows_max", rows_per_step.to_string());
    if let Some(state) = state {
        builder = builder.state(state).fresh(true);
    }
    let session = builder.build()?;
    let schema = all.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let table = TableDefinition::from_schema(name, &schema);
    let table = table.with_watermark(time, Some(&format!("\"{time}\" - INTERVAL '4' SECOND")))?;
    session.register_source(table, Arc::new(MemorySource::new(name, schema, batches)))?;
    Ok(session)
}

fn measure(
    name: &str,
    text: &str,
    events: &Events,
    shards: u64,
    rows_per_step: u64,
    state: Option<&str>,
) -> Result<Figure> {
    let (_, _, batches) = events.table(text);
    let session = session(text, events, batches.to_vec(), shards, rows_per_step, state)?;
    let prepared = session.prepare(text)?;
    let mut job = prepared.job.ok_or_else(|| Error::usage("the query runs no pipeline"))?;
    for output in 0..job.outputs.len() {
        job.attach_results(output, Arc::new(HashFactory));
    }
    debug_assert!(job.graph.nodes.iter().any(|node| matches!(node.kind, NodeKind::Sink(_))));
    reset_peak_memory();
    let (cpu, started) = (cpu_seconds(), Instant::now());
    let job = session.start_as_is(job, state.is_some().then_some(text))?;
    let metrics = job.metrics().cloned();
    let summary = job.wait_blocking()?;
    let (seconds, cpu_seconds) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let metrics =
        metrics.map(|metrics| metrics.snapshot()).ok_or_else(|| Error::usage("the pipeline has no metrics"))?;
    Ok(Figure {
        query: name.to_owned(),
        shards: shards as usize,
        rows_per_step,
        rows: summary.rows_read,
        seconds,
        rows_per_s: summary.rows_read as f64 / seconds,
        cpu_seconds,
        rows_per_cpu_s: summary.rows_read as f64 / cpu_seconds.max(1e-9),
        step_ms_p50: metrics.step_ns_p50 as f64 / 1e6,
        step_ms_p99: metrics.step_ns_p99 as f64 / 1e6,
        step_ms_max: metrics.step_ns_max as f64 / 1e6,
        rss_mib_max: peak_memory_mib(),
        checkpoints: metrics.checkpoints,
        datafusion_rows_per_s: None,
        answer: String::new(),
    })
}

/// Compares the streamed answer over the first rows with DataFusion's: all rows, as a multiset.
fn verify(text: &str, events: &Events, rows: u64) -> Result<String> {
    let (name, _, batches) = events.table(text);
    let first: Vec<RecordBatch> = batches.iter().take(rows.div_ceil(BATCH_ROWS) as usize).cloned().collect();
    let session = session(text, events, first.clone(), 2, 10_000, None)?;
    let mut job = session.execute(text)?.job.ok_or_else(|| Error::usage("the query runs no pipeline"))?;
    let mut result = job.take_results().remove(0);
    let mut table = Materialized::new(Arc::clone(result.schema()));
    while let Some(change) = result.blocking_next() {
        table.apply(&change.batch, change.weights.as_ref())?;
    }
    job.wait_blocking()?;
    let streamed = fingerprint(&table.finish()?)?;
    let expected = fingerprint(&[session.answer_at_once(text, &HashMap::from([(name.to_owned(), first)]))?])?;
    Ok(if streamed == expected { "ok".to_owned() } else { format!("WRONG ({streamed:?}, DataFusion {expected:?})") })
}

/// Number of rows and a sum of hashes of their text: the same for the same rows in any order. Doubles count to twelve digits.
fn fingerprint(batches: &[RecordBatch]) -> Result<(usize, u64)> {
    let options = FormatOptions::default().with_null("NULL");
    let engine = |error: arrow::error::ArrowError| Error::Engine(error.into());
    let (mut rows, mut sum) = (0, 0u64);
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).map_err(engine));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let mut text = String::new();
            for (column, formatter) in batch.columns().iter().zip(&columns) {
                match column.as_primitive_opt::<Float64Type>().filter(|column| column.is_valid(row)) {
                    Some(doubles) => text.push_str(&format!("{:.11e}|", doubles.value(row))),
                    None => text.push_str(&format!("{}|", formatter.value(row))),
                }
            }
            sum = sum.wrapping_add(xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
        }
        rows += batch.num_rows();
    }
    Ok((rows, sum))
}

fn datafusion_rate(text: &str, events: &Events) -> Result<f64> {
    let (name, _, batches) = events.table(text);
    let session = session(text, events, Vec::new(), 1, 1, None)?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let tables = HashMap::from([(name.to_owned(), batches.to_vec())]);
    let started = Instant::now();
    let answer = session.answer_at_once(text, &tables)?;
    std::hint::black_box(&answer);
    Ok(rows as f64 / started.elapsed().as_secs_f64())
}

/// Hashes every value of every column.
#[derive(Default)]
struct HashSink {
    sum: u64,
}

struct HashFactory;

impl SinkFactory for HashFactory {
    fn describe(&self) -> String {
        "hash".to_owned()
    }

    fn accepts_retractions(&self) -> bool {
        true
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> EngineResult<Box<dyn Sink>> {
        Ok(Box::new(HashSink::default()))
    }
}

impl Sink for HashSink {
    fn write(&mut self, _step: u64, deltas: &[Delta]) -> EngineResult<()> {
        for delta in deltas {
            for column in delta.batch.columns() {
                self.sum = self.sum.wrapping_add(hash_column(column)?);
            }
        }
        Ok(())
    }

    fn prepare(&mut self, _step: u64) -> EngineResult<Option<serde_json::Value>> {
        Ok(None)
    }

    fn commit(&mut self, _transaction: &serde_json::Value) -> EngineResult<()> {
        Ok(())
    }

    fn recover(&mut self, _transaction: Option<&serde_json::Value>) -> EngineResult<()> {
        Ok(())
    }

    fn finish(&mut self) -> EngineResult<()> {
        std::hint::black_box(self.sum);
        Ok(())
    }
}

/// A hash over all bytes that the rows of a column have: of fixed-width values at once, of texts one by one.
fn hash_column(column: &ArrayRef) -> EngineResult<u64> {
    let hash = xxhash_rust::xxh3::xxh3_64;
    Ok(match column.data_type() {
        DataType::Utf8View => {
            column.as_string_view().iter().flatten().fold(0u64, |sum, text| sum.wrapping_add(hash(text.as_bytes())))
        }
        DataType::Utf8 => {
            column.as_string::<i32>().iter().flatten().fold(0u64, |sum, text| sum.wrapping_add(hash(text.as_bytes())))
        }
        data_type => match data_type.primitive_width() {
            Some(width) => {
                let data = column.to_data();
                let start = data.offset() * width;
                hash(&data.buffers()[0].as_slice()[start..start + data.len() * width])
            }
            None => {
                let mut hashes = Vec::new();
                eagre_engine::hash::hash_columns(std::slice::from_ref(column), column.len(), &mut hashes)?;
                hashes.iter().fold(0u64, |sum, hash| sum.wrapping_add(*hash))
            }
        },
    })
}

/// CPU seconds of this process so far, user and system; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

fn reset_peak_memory() {
    // Where it is not allowed the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that this process had resident, in MiB; 0 where the system does not tell.
fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1_024.0
}
