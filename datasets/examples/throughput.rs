//! How fast the generators make events on one core, all columns of each table, as Arrow batches.
//!
//! ```text
//! cargo run --release -p eagre-datasets --example throughput [-- EVENTS BATCH_ROWS]
//! ```
//!
//! A Nexmark table's rate counts all events of the range, as a source that serves one table has to; the line `all three tables`
//! makes every row of every table, and is the figure to compare with other generators.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use eagre_datasets::anomalies::{AnomaliesConfig, AnomaliesGenerator};
use eagre_datasets::nexmark::{NexmarkConfig, NexmarkGenerator, NexmarkTable};
use eagre_datasets::payments::{PaymentsConfig, PaymentsGenerator};
use eagre_datasets::telemetry::{TelemetryConfig, TelemetryGenerator};
use eagre_datasets::{DatasetError, Generator};

/// The fastest of so many runs is printed: the others were disturbed.
const RUNS: usize = 5;

/// A pipeline's allocator, as the C library's gives pages back to the kernel after every batch and faults them in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (events, batch_rows) = match (arguments.next(), arguments.next()) {
        (None, None) => (10_000_000, 8_192),
        (Some(Ok(events)), None) => (events, 8_192),
        (Some(Ok(events)), Some(Ok(batch_rows))) if batch_rows > 0 => (events, batch_rows),
        _ => {
            eprintln!("usage: throughput [EVENTS [BATCH_ROWS]], both whole numbers above 0");
            return ExitCode::from(2);
        }
    };
    match measure(events, batch_rows) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(events: u64, batch_rows: u64) -> Result<(), DatasetError> {
    println!("events {events}, batch_rows {batch_rows}, CPU time of one thread, fastest of {RUNS} runs");
    println!("{:<28} {:>12} {:>14} {:>10} {:>10}", "table", "rows", "events_per_s", "ns/event", "ns/row");
    let nexmark = NexmarkGenerator::new(NexmarkConfig::default())?;
    let tables: Vec<Box<dyn Generator>> =
        NexmarkTable::ALL.iter().map(|&table| Box::new(nexmark.table(table)) as Box<dyn Generator>).collect();
    line("nexmark, all three tables", events, || {
        tables.iter().map(|table| run(&**table, events, batch_rows, None)).sum()
    })?;
    for (table, name) in tables.iter().zip(NexmarkTable::ALL) {
        line(&format!("nexmark {}", name.name()), events, || run(&**table, events, batch_rows, None))?;
    }
    let bids = nexmark.table(NexmarkTable::Bid);
    for (index, field) in bids.schema().fields().iter().enumerate() {
        line(&format!("  bid.{}", field.name()), events, || run(&bids, events, batch_rows, Some(&[index])))?;
    }
    let payments = PaymentsGenerator::new(PaymentsConfig::default())?;
    line("payments payment", events, || run(&payments, events, batch_rows, None))?;
    let telemetry = TelemetryGenerator::new(TelemetryConfig::default())?;
    line("telemetry reading", events, || run(&telemetry, events, batch_rows, None))?;
    let anomalies = AnomaliesGenerator::new(AnomaliesConfig::default())?;
    line("anomalies measurement", events, || run(&anomalies, events, batch_rows, None))
}

fn line(name: &str, events: u64, mut make: impl FnMut() -> Result<u64, DatasetError>) -> Result<(), DatasetError> {
    let mut seconds_min = f64::INFINITY;
    let mut rows = 0;
    for _ in 0..RUNS {
        let (start, cpu_start) = (Instant::now(), cpu_time());
        rows = make()?;
        let elapsed = match (cpu_start, cpu_time()) {
            (Some(start), Some(end)) => end.saturating_sub(start),
            _ => start.elapsed(),
        };
        seconds_min = seconds_min.min(elapsed.as_secs_f64());
    }
    let (per_event, per_row) = (seconds_min * 1e9 / events as f64, seconds_min * 1e9 / rows as f64);
    println!("{name:<28} {rows:>12} {:>14.0} {per_event:>10.1} {per_row:>10.1}", events as f64 / seconds_min);
    Ok(())
}

/// For how long this thread has run, where the system tells: on a shared machine the wall clock counts the neighbours too.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Makes all rows of a table, batch by batch, and says how many there were.
fn run(table: &dyn Generator, events: u64, batch_rows: u64, projection: Option<&[usize]>) -> Result<u64, DatasetError> {
    let (mut next_event, mut rows) = (0, 0);
    while next_event < events {
        let range = table.events_for_rows(next_event, batch_rows);
        let range = range.start..range.end.min(events);
        next_event = range.end;
        rows += black_box(table.batch(range, projection)?).num_rows() as u64;
    }
    Ok(rows)
}
