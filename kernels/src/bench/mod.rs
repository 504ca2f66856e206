//! `bench kernels`: each kernel on the device and its twin beside it, in one run, with the answers compared.
//!
//! A kernel's own time flatters a GPU and a whole query hides it. So both are told apart: what the kernel takes by the device's own
//! clock, as a share of what a plain copy reaches on the same device (not of a data sheet); what a batch takes from columns to answer,
//! with grouping, conversion and both ways over the bus; and what the twin takes for the same batch on one thread, two, and all of
//! them. From these comes the batch size at which the device begins to pay. A software adapter takes part, because its answers are
//! worth checking, but is labelled as what it is and never part of a summary.
//!
//! The same workloads calibrate the placer ([`crate::placer`]).

#[cfg(any(test, feature = "gpu"))]
mod agreement;
mod case;
mod figure;
#[cfg(feature = "gpu")]
mod gpu;
mod options;
mod report;
mod run;
#[cfg(test)]
mod tests;
mod twin;
mod workload;

use std::time::Duration;

pub use case::{Answer, Case, Workload};
pub use figure::{
    AdapterFigures, Agreement, BreakEven, CaseFigures, DeviceFigure, FedFigure, KernelTime, LinkFigure, Point, Refused,
    Report, TwinFigure,
};
pub use options::{Form, Options, OptionsError, Sides, parse_rows, parse_seconds, parse_sides};
pub use run::{BenchError, run};
pub use workload::cases;
#[cfg(feature = "gpu")]
pub(crate) use {
    report::{bytes, machine, short, time},
    twin::percentile,
};

/// How long one figure may take, and what its input is.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For each figure, beside what it takes to warm up.
    pub duration: Duration,
    /// For warming up, at most: until each key costs what it costs for good.
    pub warm_duration: Duration,
    /// The least count of batches that are timed, however long they take.
    pub batches_min: usize,
    /// The most.
    pub batches_max: usize,
    /// Of the input.
    pub seed: u64,
    /// Kernels are timed on a device right after other work, as it finds its clocks under load. Without it they are timed as a stream
    /// with pauses finds them, and soon.
    pub busy: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            duration: Duration::from_millis(500),
            warm_duration: Duration::from_secs(10),
            batches_min: 3,
            batches_max: 1000,
            seed: 42,
            busy: true,
        }
    }
}

impl Limits {
    /// How many batches are timed when one takes so long.
    pub(crate) fn batches(&self, one: Duration) -> usize {
        let fits = self.duration.as_nanos() / one.as_nanos().max(1);
        usize::try_from(fits).unwrap_or(usize::MAX).clamp(self.batches_min.max(1), self.batches_max.max(1))
    }
}

#[cfg(feature = "gpu")]
/// Bytes or events a nanosecond are billions a second.
pub(crate) fn giga_per_s(count: f64, ns: f64) -> f64 {
    count / ns.max(1.0)
}
