//! What connectors are there and what options they take; what a plan did when it ran.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use eagre_connectors::connectors as connector_infos;
use eagre_engine::graph::NodeKind;
use eagre_engine::operator::Placed;
use eagre_engine::operator::match_recognize::TRACE;
use eagre_engine::runtime::Mode;
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::thread::start_detached;
use eagre_engine::{Delta, EngineError, Result as EngineResult};
use eagre_sql::error::{Location, SqlError, nearest};
use eagre_sql::parser::Analyze;
use eagre_sql::planner::{self, Job};

use crate::error::{Error, Result};
use crate::session::{Session, table};

/// The connectors of this crate, beside those of `eagre-connectors`.
const OWN: &[(&str, &str)] = &[
    ("callback", "A function registered with the session takes the rows (write)."),
    (
        "memory",
        "A fixture: holds the rows of INSERT INTO .. VALUES; what a table without 'connector' has (read, write).",
    ),
    (
        "push",
        "Rows pushed from code (read); 'changelog.mode' = 'retract' lets them be taken back, 'upsert' replaced by key.",
    ),
];

/// `SHOW CONNECTORS`.
pub(crate) fn connectors() -> Result<RecordBatch> {
    let mut rows: Vec<(String, String)> =
        connector_infos().iter().map(|info| (info.name.to_owned(), info.about.to_string())).collect();
    rows.extend(OWN.iter().map(|(name, meaning)| ((*name).to_owned(), (*meaning).to_owned())));
    rows.sort();
    let (names, meanings): (Vec<_>, Vec<_>) =
        rows.into_iter().map(|(name, meaning)| (Some(name), Some(meaning))).unzip();
    table(&[("connector", names), ("meaning", meanings)])
}

/// `SHOW FORMATS`.
pub(crate) fn formats() -> Result<RecordBatch> {
    let (names, meanings) = eagre_connectors::formats()
        .iter()
        .map(|format| (Some(format.name.to_owned()), Some(format.about.to_owned())))
        .unzip();
    table(&[("format", names), ("meaning", meanings)])
}

/// `DESCRIBE CONNECTOR name`.
pub(crate) fn connector(name: &str, location: Option<Location>) -> Result<RecordBatch> {
    if let Some((_, meaning)) = OWN.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)) {
        return table(&[
            ("connector", vec![Some(name.to_lowercase())]),
            ("meaning", vec![Some((*meaning).to_owned())]),
        ]);
    }
    let infos = connector_infos();
    let Some(info) = infos.iter().find(|info| info.name.eq_ignore_ascii_case(name)) else {
        let names: Vec<&str> = infos.iter().map(|info| info.name).chain(OWN.iter().map(|(name, _)| *name)).collect();
        let nearest = nearest(name, names.iter().copied());
        let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
        return Err(SqlError::plan(
            format!("there is no connector `{name}`{hint} SHOW CONNECTORS lists them all"),
            location,
        )
        .into());
    };
    let formats = eagre_connectors::formats().iter().filter(|format| info.formats.contains(&format.name));
    let options: Vec<_> = info
        .options
        .iter()
        .chain(eagre_connectors::common_options())
        .chain(formats.flat_map(|format| &format.options))
        .collect();
    table(&[
        ("option", options.iter().map(|option| Some(option.name.to_string())).collect()),
        ("type", options.iter().map(|option| Some(option.value_type.to_owned())).collect()),
        ("required", options.iter().map(|option| Some(option.required.to_string())).collect()),
        ("default", options.iter().map(|option| option.default.as_ref().map(|default| default.to_string())).collect()),
        ("meaning", options.iter().map(|option| Some(option.meaning.to_string())).collect()),
    ])
}

/// A sink that takes everything and keeps nothing.
#[derive(Clone)]
pub(crate) struct Discard;

impl SinkFactory for Discard {
    fn describe(&self) -> String {
        "discarded".to_owned()
    }

    fn accepts_retractions(&self) -> bool {
        true
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> EngineResult<Box<dyn Sink>> {
        Ok(Box::new(Self))
    }
}

impl Sink for Discard {
    fn write(&mut self, _step: u64, _deltas: &[Delta]) -> EngineResult<()> {
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
        Ok(())
    }
}

/// Runs the job of an `EXPLAIN MATCH` to its end, or until all is told.
pub(crate) fn told_matches(session: &Session, job: Job) -> Result<RecordBatch> {
    let until_ms = job.told_until_ms;
    let mut job = session.start_detached(job, Mode::Live)?;
    let metrics = job.metrics().cloned();
    let result = job.take_results().pop().ok_or_else(|| Error::usage("`EXPLAIN MATCH` has no result"))?;
    let schema = Arc::clone(result.schema());
    let rows = std::thread::spawn(move || result.collect_blocking());
    if let (Some(until_ms), Some(metrics)) = (until_ms, metrics) {
        let is_told = || {
            let nodes = metrics.snapshot().nodes;
            nodes.iter().any(|node| node.label.name == TRACE && node.watermark_ms.is_some_and(|ms| ms > until_ms))
        };
        while !job.is_finished() && !is_told() {
            std::thread::sleep(Duration::from_millis(5));
        }
        job.stop();
    }
    let outcome = job.wait_blocking();
    let rows = rows.join().map_err(|_| Error::usage("the result of `EXPLAIN MATCH` could not be read"))?;
    outcome?;
    let rows = rows?;
    let schema = rows.first().map_or(schema, RecordBatch::schema);
    Ok(concat_batches(&schema, &rows).map_err(EngineError::from)?)
}

/// Runs a job to its end (or for the time given), without touching its sinks, and says what each operator did.
pub(crate) fn analyze(session: &Session, mut job: Job, analyze: &Analyze) -> Result<String> {
    let endless = job.outputs.iter().any(|output| !output.bounded);
    if endless && analyze.duration_ms.is_none() {
        let message =
            "the statement reads input without an end; say for how long: EXPLAIN ANALYZE FOR INTERVAL '10' SECOND ..";
        return Err(SqlError::plan(message, analyze.location).into());
    }
    let mut text = planner::explain(&job);
    for node in &mut job.graph.nodes {
        if let NodeKind::Sink(sink) = &mut node.kind {
            sink.factory = Arc::new(Discard);
        }
    }
    let mut job = session.start_detached(job, Mode::Live)?;
    let metrics = job.metrics().cloned();
    // Results are read and forgotten: an unread one would hold the pipeline back.
    for mut result in job.take_results() {
        start_detached("eagre-unread", move || while result.blocking_next().is_some() {})?;
    }
    let clock = Arc::clone(&session.inner.clock);
    let started = clock.monotonic_ns();
    if let Some(ms) = analyze.duration_ms {
        let until = Duration::from_millis(ms).as_nanos() as u64;
        while !job.is_finished() && clock.monotonic_ns() - started < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        job.stop();
    }
    let summary = job.wait_blocking()?;
    let seconds = (clock.monotonic_ns() - started) as f64 / 1e9;
    let Some(metrics) = metrics.map(|metrics| metrics.snapshot()) else {
        return Ok(text);
    };
    let _ = writeln!(
        text,
        "\nran {:.3} s: {} rows read ({:.0} rows/s), {} steps, step p50 {:.3} ms, p99 {:.3} ms",
        seconds,
        summary.rows_read,
        summary.rows_read as f64 / seconds.max(1e-9),
        summary.steps,
        metrics.step_ns_p50 as f64 / 1e6,
        metrics.step_ns_p99 as f64 / 1e6,
    );
    if metrics.device_waves > 0 {
        let _ = writeln!(text, "device: {} waves with {} batches", metrics.device_waves, metrics.device_batches);
    }
    for node in &metrics.nodes {
        let watermark = match node.watermark_ms {
            None => "none".to_owned(),
            Some(i64::MAX) => "end".to_owned(),
            Some(ms) => arrow::temporal_conversions::timestamp_ms_to_datetime(ms)
                .map_or_else(|| ms.to_string(), |time| time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()),
        };
        let table = if node.label.table.is_empty() { String::new() } else { format!(" `{}`", node.label.table) };
        let _ = writeln!(
            text,
            "#{} {}{table}: rows in {}, out {}, late {}, unreadable {}; busy {:.3} ms; state {} rows, {} bytes; watermark {watermark}",
            node.label.node,
            node.label.name,
            node.rows_in,
            node.rows_out,
            node.rows_late,
            node.rows_bad,
            node.busy_ns as f64 / 1e6,
            node.state_rows,
            node.state_bytes,
        );
        for placed in &node.placements {
            let _ = writeln!(text, "    {}", placement(placed));
        }
        for (name, count) in &node.incidents {
            let _ = writeln!(text, "    {}: {count}", name.replace('_', " "));
        }
    }
    Ok(text)
}

/// Where a kernel runs, and what is known of both sides.
fn placement(placed: &Placed) -> String {
    let Placed { what, decision, fall_backs, .. } = placed;
    let ns = |value: Option<f64>| value.map_or("unknown".to_owned(), |ns| format!("{ns:.1}"));
    let failed = if *fall_backs > 0 { format!("; the device has failed {fall_backs} times") } else { String::new() };
    let rows = decision.break_even_rows.map_or("none".to_owned(), |rows| format!("{rows} rows"));
    format!(
        "{what} on {}: {}; ns per event predicted: cpu {}, gpu {}; observed: cpu {}, gpu {}; break-even batch: {rows}{failed}",
        decision.side,
        decision.reason,
        ns(decision.cpu_predicted_ns_per_event),
        ns(decision.gpu_predicted_ns_per_event),
        ns(decision.cpu_observed_ns_per_event),
        ns(decision.gpu_observed_ns_per_event),
    )
}
