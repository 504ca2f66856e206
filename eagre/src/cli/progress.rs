//! Progress on standard error, when it is a terminal: events, events a second, watermark, how far it is behind the clock, state, steps.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use eagre_engine::metrics::{Metrics, MetricsSnapshot};
use eagre_engine::runtime::Clock;

use crate::clock::SystemClock;

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(250);

/// One line that is written over and over.
pub(crate) struct Progress {
    enabled: bool,
    started: Instant,
    last: Instant,
    last_rows: u64,
    shown: bool,
}

impl Progress {
    /// Shows progress if standard error is a terminal.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { enabled: std::io::stderr().is_terminal(), started: now, last: now, last_rows: 0, shown: false }
    }

    /// Writes the line if it is time for it.
    pub(crate) fn update(&mut self, metrics: &Metrics) {
        let elapsed = self.last.elapsed();
        if !self.enabled || elapsed < EVERY {
            return;
        }
        let snapshot = metrics.snapshot();
        let rate = (snapshot.rows_read - self.last_rows) as f64 / elapsed.as_secs_f64();
        self.last = Instant::now();
        self.last_rows = snapshot.rows_read;
        self.shown = true;
        // A closed standard error needs no progress.
        let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(&snapshot, rate, SystemClock::default().now_ms()));
    }

    /// Removes the line, so that what follows starts at the left.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    /// The last line, with the mean rate.
    pub(crate) fn finish(&mut self, metrics: &Metrics) {
        self.clear();
        if self.enabled {
            let snapshot = metrics.snapshot();
            let rate = snapshot.rows_read as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
            let _ = writeln!(std::io::stderr(), "{}", line(&snapshot, rate, SystemClock::default().now_ms()));
        }
    }
}

/// A watermark further behind the clock than this is of a past that is being replayed.
const LAG_MAX_MS: i64 = 7 * 86_400_000;

fn line(snapshot: &MetricsSnapshot, rate: f64, now_ms: i64) -> String {
    let watermark =
        snapshot.nodes.iter().filter_map(|node| node.watermark_ms).filter(|watermark| *watermark != i64::MAX).min();
    let state: u64 = snapshot.nodes.iter().map(|node| node.state_bytes).sum();
    let mut line = format!("{} events, {}/s", count(snapshot.rows_read as f64), count(rate));
    if let Some(time) = watermark.and_then(arrow::temporal_conversions::timestamp_ms_to_datetime) {
        line.push_str(&format!(", watermark {}", time.format("%Y-%m-%d %H:%M:%S")));
        let lag_ms = now_ms.saturating_sub(watermark.unwrap_or(now_ms));
        // Event time of long ago, or still to come, is not behind: it is another time.
        if (0..LAG_MAX_MS).contains(&lag_ms) {
            line.push_str(&format!(", lag {:.1} s", lag_ms as f64 / 1e3));
        }
    }
    line.push_str(&format!(", state {}B, {} steps", count(state as f64), count(snapshot.steps as f64)));
    if snapshot.checkpoints > 0 {
        line.push_str(&format!(", {} checkpoints", snapshot.checkpoints));
    }
    line
}

/// `12.3 M` for 12,300,000.
pub(crate) fn count(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.2} G", n / 1e9),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0} "),
    }
    .trim_end()
    .to_owned()
}
