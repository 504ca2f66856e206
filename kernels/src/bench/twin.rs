//! Timing the twin: batches cut by key among threads, as shards do it.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Limits;
use super::case::Workload;
use super::figure::TwinFigure;
use crate::kernel::Kernel;
use crate::state::StatePages;

/// A twin with its state.
pub(super) struct Runner<'a, W> {
    workload: &'a W,
    state: StatePages,
}

impl<'a, W: Workload> Runner<'a, W> {
    pub(super) fn new(workload: &'a W) -> Self {
        Runner { workload, state: StatePages::new(workload.kernel().state_shape()) }
    }

    /// One batch.
    pub(super) fn run(&mut self, batch: &<W::Kernel as Kernel>::Batch) -> <W::Kernel as Kernel>::Output {
        let kernel = self.workload.kernel();
        self.state.grow(kernel.slot_count(batch));
        kernel.run_twin(batch, &mut self.state)
    }
}

/// How often a batch is done before it is timed, so that each key has had enough rows.
pub(super) fn warm_batches<W: Workload>(workload: &W, rows: usize, key_count: usize) -> usize {
    let needed = workload.warm_rows() * key_count.max(1);
    needed.div_ceil(rows.max(1)).max(2)
}

/// Runs a batch until it is warm, or the time for that is over; tells whether it is, and how long the last one took.
pub(super) fn warm_up<E>(
    batches: usize,
    limits: &Limits,
    mut run: impl FnMut() -> Result<(), E>,
) -> Result<(bool, Duration), E> {
    let started = Instant::now();
    for batch in 1.. {
        let batch_started = Instant::now();
        run()?;
        if batch == batches || started.elapsed() > limits.warm_duration {
            return Ok((batch == batches, batch_started.elapsed()));
        }
    }
    unreachable!("the loop has no end of its own")
}

/// Times batches of `rows` rows, each cut among `threads` threads that run at the same time.
pub(super) fn measure<W: Workload>(workload: &W, rows: usize, threads: usize, limits: &Limits) -> TwinFigure {
    let key_count = workload.key_count(rows).max(1);
    let threads = threads.clamp(1, rows.min(key_count).max(1));
    let barrier = Barrier::new(threads);
    let slowest_ns = AtomicU64::new(0);
    let all_warm = AtomicBool::new(true);
    // For each thread, the duration of each batch and of the kernel in it.
    let timed: Vec<Vec<(f64, f64)>> = std::thread::scope(|scope| {
        let run = |thread: usize| {
            let (share, keys) = (share_of(rows, threads, thread), share_of(key_count, threads, thread));
            let columns = workload.columns(share, keys, limits.seed + thread as u64);
            let mut runner = Runner::new(workload);
            let Ok((warm, one)) =
                warm_up::<std::convert::Infallible>(warm_batches(workload, share, keys), limits, || {
                    drop(runner.run(&workload.batch(&columns)));
                    Ok(())
                });
            all_warm.fetch_and(warm, Ordering::AcqRel);
            slowest_ns.fetch_max(one.as_nanos() as u64, Ordering::AcqRel);
            // All threads do the same count of batches, so that none runs alone at the end.
            barrier.wait();
            let batches = limits.batches(Duration::from_nanos(slowest_ns.load(Ordering::Acquire)));
            let mut timed = Vec::with_capacity(batches);
            for _ in 0..batches {
                barrier.wait();
                let started = Instant::now();
                let batch = workload.batch(&columns);
                let converted = started.elapsed();
                let output = runner.run(&batch);
                let done = started.elapsed();
                drop(std::hint::black_box(output));
                timed.push((done.as_nanos() as f64, (done - converted).as_nanos() as f64));
            }
            timed
        };
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let mut timed = vec![run(0)];
        timed.extend(
            others.into_iter().map(|thread| thread.join().expect("a twin does not panic on input of its workload")),
        );
        timed
    });
    // A batch is done when its last part is.
    let batches = timed[0].len();
    let last = |part: fn(&(f64, f64)) -> f64| -> Vec<f64> {
        (0..batches).map(|batch| timed.iter().map(|thread| part(&thread[batch])).fold(0.0, f64::max)).collect()
    };
    let batch_ns_p50 = percentile(&mut last(|timed| timed.0), 0.5);
    let kernel_ns_p50 = percentile(&mut last(|timed| timed.1), 0.5);
    TwinFigure {
        threads,
        batches: batches as u64,
        warm: all_warm.load(Ordering::Acquire),
        batch_ns_p50,
        kernel_ns_p50,
        events_per_s: rows as f64 / batch_ns_p50.max(1.0) * 1e9,
    }
}

/// How many of `count` things one of `threads` threads has.
pub(super) fn share_of(count: usize, threads: usize, thread: usize) -> usize {
    count / threads + usize::from(thread < count % threads)
}

/// The value that a share of all does not exceed; 0 for none.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (share * values.len() as f64).ceil() as usize;
    values.get(index.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A figure of keys that have not seen enough says so.
    #[test]
    fn warming_up_ends_when_it_is_warm_or_takes_too_long() {
        let warm_up_for = |warm_duration| {
            let mut runs = 0;
            let limits = Limits { warm_duration, ..Limits::default() };
            let (warm, _) = warm_up::<()>(5, &limits, || {
                runs += 1;
                Ok(())
            })
            .expect("never fails");
            (warm, runs)
        };
        assert_eq!(warm_up_for(Duration::from_secs(3600)), (true, 5));
        assert_eq!(warm_up_for(Duration::ZERO), (false, 1));
        assert_eq!(warm_up(5, &Limits::default(), || Err("refused")), Err("refused"));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(
            [0.0, 0.25, 0.5, 0.75, 0.99, 1.0].map(|share| percentile(&mut values, share)),
            [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]
        );
        assert_eq!(percentile(&mut [], 0.5), 0.0);
    }
}
