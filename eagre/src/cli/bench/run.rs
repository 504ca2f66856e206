//! Runs a planned pipeline while all that it takes is watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eagre_engine::metrics::Metrics;
use eagre_engine::runtime::StepObserver;
use eagre_sql::planner::Job;

use super::latency::Recorder;
use super::process;
use super::sink::MeasuringFactory;
use crate::error::{Error, Result};
use crate::session::Session;

/// A pipeline that was planned, with all that watches it.
pub(super) struct Planned {
    session: Session,
    job: Job,
    rows_out: Arc<AtomicU64>,
    /// Told what steps take and when they have ended.
    pub recorder: Option<Arc<Recorder>>,
}

/// What a run took.
pub(super) struct Run {
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// What the system took of these.
    pub system_seconds: f64,
    pub rows_read: u64,
    /// Rows that reached the measuring sinks.
    pub rows_out: u64,
    pub state_bytes_max: u64,
    pub state_rows_max: u64,
    /// Resident before the run: with events in memory, these above all.
    pub rss_mib_start: f64,
    pub rss_mib_max: f64,
    pub metrics: Arc<Metrics>,
}

impl Planned {
    pub(super) fn new(session: Session, job: Job, recorder: Option<Arc<Recorder>>) -> Self {
        Self { session, job, rows_out: Arc::default(), recorder }
    }

    /// Gives all results of the text to sinks that count their rows, and hash them if asked to.
    pub(super) fn measure_results(&mut self, hash: bool) {
        for output in 0..self.job.outputs.len() {
            let (rows, recorder) = (Arc::clone(&self.rows_out), self.recorder.clone());
            self.job.attach_results(output, Arc::new(MeasuringFactory { hash, rows, recorder }));
        }
    }

    /// Runs it to the end of its input; with `text`, its own, in the session's state folder.
    pub(super) fn run(self, text: Option<&str>) -> Result<Run> {
        let observer = self.recorder.map(|recorder| recorder as Arc<dyn StepObserver>);
        process::reset_peak_memory();
        let rss_mib_start = process::memory_mib();
        let (cpu, system, started) = (process::cpu_seconds(), process::system_seconds(), Instant::now());
        let job = self.session.start_as_is(self.job, text, observer)?;
        let metrics = job.metrics().cloned().ok_or_else(|| Error::usage("the pipeline has no metrics"))?;
        let watch = StateWatch::start(Arc::clone(&metrics));
        let summary = job.wait_blocking();
        let (seconds, cpu_seconds) = (started.elapsed().as_secs_f64(), process::cpu_seconds() - cpu);
        let system_seconds = process::system_seconds() - system;
        let (state_bytes_max, state_rows_max) = watch.stop();
        let rss_mib_max = process::peak_memory_mib();
        let rows_read = summary?.rows_read;
        let rows_out = self.rows_out.load(Ordering::Relaxed);
        Ok(Run {
            seconds,
            cpu_seconds,
            system_seconds,
            rows_read,
            rows_out,
            state_bytes_max,
            state_rows_max,
            rss_mib_start,
            rss_mib_max,
            metrics,
        })
    }
}

/// Looks at the size of the state now and then: at the end of the input it is what is left when all is closed.
struct StateWatch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u64, u64)>,
}

impl StateWatch {
    const INTERVAL: Duration = Duration::from_millis(50);

    fn start(metrics: Arc<Metrics>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut bytes, mut rows) = (0, 0);
            loop {
                bytes = metrics.state_bytes().max(bytes);
                rows = metrics.state_rows().max(rows);
                if stopped.load(Ordering::Acquire) {
                    return (bytes, rows);
                }
                std::thread::park_timeout(Self::INTERVAL);
            }
        });
        Self { stop, thread }
    }

    /// The most bytes and rows that were seen.
    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_default()
    }
}
