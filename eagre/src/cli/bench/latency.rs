//! How late the effects of events are, at a fixed rate.
//!
//! An event's latency runs from when it was *due*, not from when it was read: a pipeline that stalls reads late, and would else hide
//! exactly the events that its stall delayed (coordinated omission; Tene, "How NOT to Measure Latency"). It ends when the step that took
//! the event has run on all shards and, if the step gave output, when the sink has written it: from then on every answer shows the event.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eagre_datasets::nexmark::NexmarkTable;
use eagre_engine::log::Taken;
use eagre_engine::runtime::StepObserver;
use serde::{Deserialize, Serialize};

use super::input::{Pace, event_of_row};

/// Notes when steps were cut, had run and were written.
#[derive(Debug)]
pub(super) struct Recorder {
    pace: Arc<Pace>,
    /// The table of each source, in graph order; none for others than Nexmark's.
    tables: Vec<Option<NexmarkTable>>,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    /// Step, source, rows.
    cuts: Vec<(u64, usize, u64)>,
    ended: HashMap<u64, Instant>,
}

/// What one run at a fixed rate gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Latency {
    /// Events that were measured.
    pub events: u64,
    /// Half of the events were faster.
    pub ms_p50: f64,
    /// 99 of 100 were.
    pub ms_p99: f64,
    /// 999 of 1,000 were.
    pub ms_p999: f64,
    /// The slowest.
    pub ms_max: f64,
    /// Quantile and milliseconds, for a plot.
    pub curve: Vec<(f64, f64)>,
}

const CURVE: &[f64] =
    &[0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 1.0];

impl Recorder {
    pub(super) fn new(pace: Arc<Pace>, tables: Vec<Option<NexmarkTable>>) -> Self {
        Self { pace, tables, log: Mutex::default() }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sink has written a step's output.
    pub(super) fn written(&self, step: u64) {
        self.ended(step, Instant::now());
    }

    fn ended(&self, step: u64, at: Instant) {
        let mut log = self.log();
        // Sinks and shards end in any order; the later one counts.
        let ended = log.ended.entry(step).or_insert(at);
        *ended = at.max(*ended);
    }

    /// The latencies of all events whose step has ended.
    pub(super) fn finish(&self) -> Option<Latency> {
        let log = self.log();
        let mut histogram = Histogram::default();
        let mut rows_before = vec![0u64; self.tables.len()];
        for (step, source, rows) in &log.cuts {
            let first = rows_before[*source];
            rows_before[*source] += rows;
            let (Some(table), Some(ended)) = (self.tables[*source], log.ended.get(step)) else { continue };
            for row in first..first + rows {
                histogram.record(ended.saturating_duration_since(self.pace.due(event_of_row(table, row))));
            }
        }
        histogram.latency()
    }
}

impl StepObserver for Recorder {
    fn cut(&self, step: u64, taken: &[Taken]) {
        self.log().cuts.extend(taken.iter().map(|taken| (step, taken.source, taken.rows)));
    }

    fn done(&self, step: u64) {
        self.ended(step, Instant::now());
    }
}

/// Durations in buckets of a sixty-fourth of an octave: a percent and a half, from a microsecond on.
#[derive(Debug, Default)]
struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max_ns: u64,
}

const BUCKETS_PER_OCTAVE: f64 = 64.0;

impl Histogram {
    fn record(&mut self, duration: Duration) {
        let ns = (duration.as_nanos() as u64).max(1_000);
        let bucket = ((ns as f64 / 1_000.0).log2() * BUCKETS_PER_OCTAVE) as usize;
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Milliseconds that no more than a share `1 - q` is above: the upper bound of a bucket.
    fn quantile_ms(&self, q: f64) -> f64 {
        let wanted = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let upper_us = ((bucket + 1) as f64 / BUCKETS_PER_OCTAVE).exp2();
                return (upper_us / 1e3).min(self.max_ns as f64 / 1e6);
            }
        }
        self.max_ns as f64 / 1e6
    }

    fn latency(&self) -> Option<Latency> {
        (self.count > 0).then(|| Latency {
            events: self.count,
            ms_p50: self.quantile_ms(0.5),
            ms_p99: self.quantile_ms(0.99),
            ms_p999: self.quantile_ms(0.999),
            ms_max: self.max_ns as f64 / 1e6,
            curve: CURVE.iter().map(|q| (*q, self.quantile_ms(*q))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stall of the pipeline must show for every event that it delayed, also for those that were read late because of it.
    #[test]
    fn latency_counts_from_when_an_event_was_due() {
        let pace = Arc::new(Pace::new(1_000));
        let started = pace.due(0);
        let recorder = Recorder::new(Arc::clone(&pace), vec![Some(NexmarkTable::Bid)]);
        let taken = |rows| Taken { source: 0, partition: "events".to_owned(), rows, bad_rows_behind: 0 };
        // Two bids (events 4 and 5, due after 4 and 5 ms), seen at once at 104 ms.
        recorder.cut(1, &[taken(1)]);
        recorder.cut(2, &[taken(1)]);
        recorder.ended(1, started + Duration::from_millis(104));
        recorder.ended(2, started + Duration::from_millis(100));
        recorder.ended(2, started + Duration::from_millis(104));
        // One that is still on its way is not counted.
        recorder.cut(3, &[taken(1)]);
        let latency = recorder.finish().expect("two events");
        assert_eq!(latency.events, 2);
        assert!((latency.ms_max - 100.0).abs() < 1e-6, "{latency:?}");
        assert!((latency.ms_p50 / 99.0 - 1.0).abs() < 0.02, "{latency:?}");
    }

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut histogram = Histogram::default();
        (1..=100_000u64).for_each(|us| histogram.record(Duration::from_micros(us)));
        for q in [0.5, 0.99, 0.999] {
            let got = histogram.quantile_ms(q);
            assert!((got / (q * 100.0) - 1.0).abs() < 0.02, "q{q}: {got}");
        }
        assert_eq!(Histogram::default().latency(), None);
    }
}
