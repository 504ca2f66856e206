//! Sources that make their rows: `datagen`, and the datasets `nexmark`, `payments`, `telemetry`, `webshop` and `anomalies`.
//!
//! Rows are a function of (seed, number), so the position is a number and a restart makes the same rows again. Where a rate is asked
//! for, the reader sleeps between batches; the rate decides when rows come and never what they are.

pub(crate) mod datagen;
pub(crate) mod dataset;

use std::time::{Duration, Instant};

use eagre_engine::delta::DELTA_ROWS_MAX;

/// A batch of a paced source covers about this long, so that rows come evenly.
const PACE: Duration = Duration::from_millis(20);
/// A reader looks at its stop flag at least this often.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Holds a source to a rate.
pub(crate) struct Pacer {
    rows_per_second: Option<f64>,
    started: Option<Instant>,
    made: f64,
}

impl Pacer {
    pub(crate) fn new(rows_per_second: Option<u64>) -> Self {
        Self { rows_per_second: rows_per_second.map(|rows| rows.max(1) as f64), started: None, made: 0.0 }
    }

    /// How many rows to make at once.
    pub(crate) fn batch_rows(&self) -> u64 {
        let most = DELTA_ROWS_MAX as u64;
        self.rows_per_second.map_or(most, |rate| ((rate * PACE.as_secs_f64()) as u64).clamp(1, most))
    }

    /// Whether the next rows are due; sleeps a little if they are not.
    pub(crate) fn is_due(&mut self) -> bool {
        let Some(rate) = self.rows_per_second else {
            return true;
        };
        let started = *self.started.get_or_insert_with(Instant::now);
        let due = Duration::from_secs_f64(self.made / rate);
        let early = due.saturating_sub(started.elapsed());
        if early.is_zero() {
            return true;
        }
        std::thread::park_timeout(early.min(STOP_CHECK));
        started.elapsed() >= due
    }

    pub(crate) fn made(&mut self, rows: u64) {
        self.made += rows as f64;
    }
}
