//! Time that the thread was running, instead of time that went by: on a shared machine the latter measures the neighbours.
//!
//! Linux counts it in `/proc/thread-self/schedstat`, to a clock tick; elsewhere the wall clock is taken.

use std::time::Instant;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};

/// Measures the time on the CPU, in nanoseconds.
pub(crate) struct CpuTime;

fn now_ns(start: Instant) -> u64 {
    let on_cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let on_cpu = on_cpu.and_then(|text| text.split_whitespace().next()?.parse().ok());
    on_cpu.unwrap_or_else(|| start.elapsed().as_nanos() as u64)
}

impl Measurement for CpuTime {
    type Intermediate = (Instant, u64);
    type Value = f64;

    fn start(&self) -> Self::Intermediate {
        let start = Instant::now();
        (start, now_ns(start))
    }

    fn end(&self, (start, before): Self::Intermediate) -> f64 {
        // A reading that has not moved since the last tick would be a division by 0 later.
        now_ns(start).saturating_sub(before).max(1) as f64
    }

    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }

    fn zero(&self) -> f64 {
        0.0
    }

    fn to_f64(&self, value: &f64) -> f64 {
        *value
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Formatter
    }
}

struct Formatter;

impl ValueFormatter for Formatter {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_throughputs(typical, throughput, values)
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
