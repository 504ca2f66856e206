//! `eagre demo`: the main job on real data, from the binary alone.
//!
//! Half-hourly taxi rides of New York, the temperature of a machine, clicks on advertisements and road traffic, as recorded, run as one
//! stream at full speed through windows of streaming SQL. The days that people know stand out. Then a pattern looks for fraud among
//! payments ([`fraud`]), and alarms of patterns and scores are shown as they come ([`live`]).

mod fraud;
mod live;

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use clap::Args;
use eagre_datasets::real::{SERIES, Series};
use eagre_sql::catalog::TableDefinition;

use crate::cli::progress::count;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::source::memory::MemorySource;

/// Options of `eagre demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// How many shards run the pipeline (default: one for each core).
    #[arg(long, value_name = "N")]
    shards: Option<u64>,
}

/// Windows of a day over all series, each closed by the watermark.
const DAYS: &str = "\
SELECT window_start AS day, series, count(*) AS readings, min(value) AS lowest, avg(value) AS mean, max(value) AS highest
FROM TABLE(TUMBLE(TABLE reading, DESCRIPTOR(ts), INTERVAL '1' DAY))
GROUP BY window_start, window_end, series";

/// Sliding windows: the widest swing within six hours, looked for every hour.
const SWINGS: &str = "\
SELECT series, window_start, window_end, max(value) - min(value) AS swing
FROM TABLE(HOP(TABLE reading, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '6' HOUR))
GROUP BY window_start, window_end, series
HAVING max(value) - min(value) > 40 AND series = 'machine_temperature'";

/// Each reading beside the earlier ones of its series.
const SCORES: &str = "\
SELECT series, ts, score FROM (
  SELECT *, anomaly_score(value, method => 'half_space') OVER (PARTITION BY series ORDER BY ts) AS score FROM reading
) WHERE score > 12 AND series = 'nyc_taxi'";

/// How many strange days are shown.
const STRANGE_DAYS: usize = 6;

const CHART: &str = "nyc_taxi";
const CHART_COLUMNS: f64 = 44.0;

pub(super) fn run(args: DemoArgs) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let print = |out: &mut dyn Write, text: String| -> Result<()> {
        out.write_all(text.as_bytes()).map_err(|error| Error::File { path: "standard output".to_owned(), error })
    };
    let mut builder = Session::builder();
    if let Some(shards) = args.shards {
        builder = builder.set("eagre.shards", shards.to_string());
    }
    let session = builder.build()?;
    let rows = readings()?;
    let total = rows.num_rows();
    let table =
        TableDefinition::from_schema("reading", &rows.schema()).with_watermark("ts", Some("ts - INTERVAL '1' HOUR"))?;
    session.register_source(table, Arc::new(MemorySource::new("reading", rows.schema(), batches(&rows))))?;

    print(
        &mut out,
        format!(
            "{total} real readings of {} series, as one stream ordered by time.\n\n{DAYS};\n\n{SWINGS};\n\n{SCORES};\n\n",
            SERIES.len()
        ),
    )?;
    let clock = crate::clock::SystemClock::default();
    let started = eagre_engine::runtime::Clock::monotonic_ns(&clock);
    let mut job = session
        .execute(&format!("{DAYS}; {SWINGS}; {SCORES}"))?
        .job
        .ok_or_else(|| Error::usage("the demo's statements run no pipeline"))?;
    let mut results = job.take_results().into_iter();
    let (days, swings, scores) = match (results.next(), results.next(), results.next()) {
        (Some(days), Some(swings), Some(scores)) => (days, swings, scores),
        _ => return Err(Error::usage("the demo's statements give three results")),
    };
    let swings = std::thread::spawn(move || swings.collect_blocking());
    let scores = std::thread::spawn(move || scores.collect_blocking());
    let days = days.collect_blocking()?;
    let swings = swings.join().map_err(|_| Error::usage("the thread of a result panicked"))??;
    let scores = scores.join().map_err(|_| Error::usage("the thread of a result panicked"))??;
    let summary = job.wait_blocking()?;
    let seconds = (eagre_engine::runtime::Clock::monotonic_ns(&clock) - started) as f64 / 1e9;

    print(
        &mut out,
        format!(
            "Taxi rides in New York, mean of each half hour, by day ({CHART}); * = an anomaly that people labelled:\n"
        ),
    )?;
    print(&mut out, chart(&days))?;
    print(&mut out, "\nThe machine's temperature, the widest swings within six hours:\n".to_owned())?;
    print(&mut out, widest(&swings))?;
    print(
        &mut out,
        "\nThe days with the strangest half hour, by its score beside all that came before it:\n".to_owned(),
    )?;
    print(&mut out, strangest(&scores))?;
    print(
        &mut out,
        format!(
            "\n{total} events, {} windows in {:.0} ms ({} events/s, start included), {} steps. The data: Numenta Anomaly Benchmark (MIT).\n\n",
            days.iter().chain(&swings).map(RecordBatch::num_rows).sum::<usize>(),
            seconds * 1e3,
            count(total as f64 / seconds),
            summary.steps,
        ),
    )?;
    print(&mut out, fraud::show(&session)?)?;
    print(
        &mut out,
        format!(
            "\nSome kinds of fraud depend on the card, so a score learns how fast each is used, and a pattern is about the score:\n\n{};\n\n\
             A day and a half of another bank, at a day in a second and a bit; the first day is for learning, then alarms come:\n",
            live::RUSHED
        ),
    )?;
    live::show(args.shards, &mut out)?;
    print(
        &mut out,
        "\nNext: the worked examples in examples/ (`eagre run examples/fraud.sql`), or `eagre --help`.\n".to_owned(),
    )
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("series", DataType::Utf8, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("value", DataType::Float64, false),
    ]))
}

/// All series, merged in order of time.
fn readings() -> Result<RecordBatch> {
    let engine = |error: arrow::error::ArrowError| Error::Engine(error.into());
    let mut rows: Vec<(i64, &'static str, f64)> = Vec::new();
    for Series { name, csv, .. } in SERIES {
        let columns = Arc::new(Schema::new(vec![
            Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Field::new("value", DataType::Float64, false),
        ]));
        for batch in ReaderBuilder::new(columns).with_header(true).build(*csv).map_err(engine)? {
            let batch = batch.map_err(engine)?;
            let (times, values) = (
                batch.column(0).as_primitive::<TimestampMillisecondType>(),
                batch.column(1).as_primitive::<Float64Type>(),
            );
            rows.extend(times.values().iter().zip(values.values()).map(|(time, value)| (*time, *name, *value)));
        }
    }
    rows.sort_by_key(|(time, name, _)| (*time, *name));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, name, _)| name))),
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|(time, _, _)| *time))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, _, value)| *value))),
    ];
    RecordBatch::try_new(schema(), columns).map_err(engine)
}

fn batches(rows: &RecordBatch) -> Vec<RecordBatch> {
    const ROWS: usize = 4_096;
    (0..rows.num_rows()).step_by(ROWS).map(|start| rows.slice(start, ROWS.min(rows.num_rows() - start))).collect()
}

fn day(ms: i64) -> String {
    arrow::temporal_conversions::timestamp_ms_to_datetime(ms)
        .map_or_else(String::new, |time| time.format("%a %Y-%m-%d").to_string())
}

/// One bar a day.
fn chart(batches: &[RecordBatch]) -> String {
    let mut days = Vec::new();
    for batch in batches {
        let starts = batch.column(0).as_primitive::<TimestampMillisecondType>();
        let names = batch.column(1).as_string::<i32>();
        let means = batch.column(4).as_primitive::<Float64Type>();
        days.extend(
            (0..batch.num_rows())
                .filter(|row| names.value(*row) == CHART)
                .map(|row| (starts.value(row), means.value(row))),
        );
    }
    days.sort_by_key(|(start, _)| *start);
    let most = days.iter().map(|(_, mean)| *mean).fold(1.0, f64::max);
    let mut text = String::new();
    for (start, mean) in days {
        let name = day(start);
        let bar = "█".repeat((mean / most * CHART_COLUMNS).round() as usize);
        text.push_str(&format!("{name} {mean:>7.0} {bar}{}\n", labelled(&name)));
    }
    text
}

/// ` *` for a day on which people labelled an anomaly.
fn labelled(day: &str) -> &'static str {
    let windows = SERIES.iter().find(|series| series.name == CHART).map(Series::anomaly_windows).unwrap_or_default();
    let date = day.split(' ').next_back().unwrap_or_default();
    let within = |(from, to): &(String, String)| {
        from.get(..10).is_some_and(|from| from <= date) && to.get(..10).is_some_and(|to| date <= to)
    };
    if windows.iter().any(within) { " *" } else { "" }
}

/// The strangest reading of each of the strangest days.
fn strangest(batches: &[RecordBatch]) -> String {
    let mut best: Vec<(f64, i64, String)> = Vec::new();
    for batch in batches {
        let times = batch.column(1).as_primitive::<TimestampMillisecondType>();
        let scores = batch.column(2).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let (score, time) = (scores.value(row), times.value(row));
            let name = day(time);
            match best.iter_mut().find(|(.., known)| *known == name) {
                Some(known) if known.0 < score => *known = (score, time, name),
                Some(_) => {}
                None => best.push((score, time, name)),
            }
        }
    }
    best.sort_by(|a, b| b.0.total_cmp(&a.0));
    let line = |(score, time, name): &(f64, i64, String)| {
        let hour = arrow::temporal_conversions::timestamp_ms_to_datetime(*time)
            .map_or_else(String::new, |time| time.format("%H:%M").to_string());
        format!("{name} {hour}: {score:.1} bits{}\n", labelled(name))
    };
    best.iter().take(STRANGE_DAYS).map(line).collect()
}

fn widest(batches: &[RecordBatch]) -> String {
    let mut swings = Vec::new();
    for batch in batches {
        let (from, to) = (
            batch.column(1).as_primitive::<TimestampMillisecondType>(),
            batch.column(2).as_primitive::<TimestampMillisecondType>(),
        );
        let swing = batch.column(3).as_primitive::<Float64Type>();
        swings.extend((0..batch.num_rows()).map(|row| (swing.value(row), from.value(row), to.value(row))));
    }
    swings.sort_by(|a, b| b.0.total_cmp(&a.0));
    let hour = |ms: i64| {
        arrow::temporal_conversions::timestamp_ms_to_datetime(ms)
            .map_or_else(String::new, |time| time.format("%H:%M").to_string())
    };
    swings
        .iter()
        .take(5)
        .map(|(swing, from, to)| format!("{} {} to {}: {swing:.1} degrees\n", day(*from), hour(*from), hour(*to)))
        .collect()
}
