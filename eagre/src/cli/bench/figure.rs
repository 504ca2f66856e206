//! A run's figures, as they are shown and written down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::run::Run;

/// One line of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Figure {
    pub query: String,
    /// How many keys the events have, where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// How many patterns are looked for at once, where the query is of patterns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patterns: Option<u64>,
    /// Where events came from, see `--source`.
    pub source: String,
    /// What became of the output.
    pub sink: String,
    pub shards: u64,
    /// The most rows of a step; `None`: as many as pipelines take by themselves.
    pub rows_per_step: Option<u64>,
    /// Events of all tables, read or not; for keyed queries rows.
    pub events: u64,
    /// Events that pass in one second of event time.
    pub event_time_rate: Option<u64>,
    /// Rows that the query read.
    pub rows: u64,
    /// Rows that came out, insertions and retractions.
    pub rows_out: u64,
    pub seconds: f64,
    pub events_per_s: f64,
    pub cpu_seconds: f64,
    pub events_per_cpu_s: f64,
    /// CPU seconds per second.
    pub cores: f64,
    pub steps: u64,
    pub step_ms_p50: f64,
    pub step_ms_p99: f64,
    pub step_ms_max: f64,
    /// Resident before the run: with `memory`, the events above all.
    pub rss_mib_start: f64,
    pub rss_mib_max: f64,
    /// The most state at any time, as operators count it.
    pub state_mib_max: f64,
    pub state_rows_max: u64,
    pub rows_late: u64,
    pub checkpoints: Option<Checkpoints>,
    /// DataFusion's batch answer, one core.
    pub datafusion_events_per_s: Option<f64>,
    /// Events per CPU second as a multiple of each peer's.
    pub times_peer: BTreeMap<String, f64>,
    /// Whether the answer was right.
    pub answer: String,
    /// The run at a fixed rate.
    pub latency: Option<AtRate>,
}

/// What checkpoints cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Checkpoints {
    pub count: u64,
    pub mib: f64,
    pub mib_per_s: f64,
    /// What steps waited for, in all.
    pub save_ms: f64,
    /// The longest.
    pub save_ms_max: f64,
    /// CPU seconds on top of a run without, as a share of it.
    pub cost: Option<f64>,
}

/// A run at a fixed rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AtRate {
    pub events_per_s: u64,
    pub checkpoints: u64,
    pub step_ms_max: f64,
    /// CPU seconds per second.
    pub cores: f64,
    #[serde(flatten)]
    pub latency: Latency,
}

/// What a run is of, for its figure.
pub(super) struct Subject {
    pub query: String,
    pub source: &'static str,
    pub sink: &'static str,
    pub shards: u64,
    pub rows_per_step: Option<u64>,
    pub events: u64,
    pub event_time_rate: Option<u64>,
}

impl Figure {
    /// The most rows of a step, or how many the steps had on average.
    pub(super) fn rows_per_step(&self) -> String {
        match self.rows_per_step {
            Some(rows) => rows.to_string(),
            None => format!("~{}", self.rows / self.steps.max(1)),
        }
    }

    /// The figure of a run without checkpoints.
    pub(super) fn of(subject: Subject, run: &Run) -> Self {
        let metrics = run.metrics.snapshot();
        let events = subject.events as f64;
        Self {
            query: subject.query,
            keys: None,
            patterns: None,
            source: subject.source.to_owned(),
            sink: subject.sink.to_owned(),
            shards: subject.shards,
            rows_per_step: subject.rows_per_step,
            events: subject.events,
            event_time_rate: subject.event_time_rate,
            rows: run.rows_read,
            rows_out: run.rows_out,
            seconds: run.seconds,
            events_per_s: events / run.seconds,
            cpu_seconds: run.cpu_seconds,
            // The system counts in hundredths: a run that took no time took less than one.
            events_per_cpu_s: events / run.cpu_seconds.max(0.01),
            cores: run.cpu_seconds / run.seconds,
            steps: metrics.steps,
            step_ms_p50: metrics.step_ns_p50 as f64 / 1e6,
            step_ms_p99: metrics.step_ns_p99 as f64 / 1e6,
            step_ms_max: metrics.step_ns_max as f64 / 1e6,
            rss_mib_start: run.rss_mib_start,
            rss_mib_max: run.rss_mib_max,
            state_mib_max: mib(run.state_bytes_max),
            state_rows_max: run.state_rows_max,
            rows_late: metrics.nodes.iter().map(|node| node.rows_late).sum(),
            checkpoints: None,
            datafusion_events_per_s: None,
            times_peer: BTreeMap::new(),
            answer: String::new(),
            latency: None,
        }
    }

    /// What peers' figures and plots call it.
    pub(super) fn label(&self) -> String {
        let mut label = self.query.clone();
        if let Some(patterns) = self.patterns.filter(|patterns| *patterns > 1) {
            label.push_str(&format!(":{patterns}"));
        }
        if let Some(keys) = self.keys {
            label.push_str(&format!("/{}", short_count(keys)));
        }
        label
    }
}

/// Bytes in MiB.
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A count as options take it: `100k`.
pub(super) fn short_count(count: u64) -> String {
    match count {
        count if count >= 1_000_000 && count % 1_000_000 == 0 => format!("{}M", count / 1_000_000),
        count if count >= 1_000 && count % 1_000 == 0 => format!("{}k", count / 1_000),
        count => count.to_string(),
    }
}
