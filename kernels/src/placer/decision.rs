//! A choice and why it was made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a batch runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The twin, on the thread that calls.
    #[serde(rename = "cpu")]
    Cpu,
    /// The shader; its state lies on the device.
    #[serde(rename = "gpu")]
    Device,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Cpu => Side::Device,
            Side::Device => Side::Cpu,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Side::Cpu => "cpu",
            Side::Device => "gpu",
        })
    }
}

/// Where one batch runs, why, and what was known then; what `EXPLAIN ANALYZE` and metrics show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The operator's step, from 0.
    pub step: u64,
    /// Where the batch runs.
    pub side: Side,
    /// Whether state must move there first.
    pub moved: bool,
    /// The batch is to be done there too, on a copy of the state, and the answer dropped; only its duration is of use.
    pub shadow: Option<Side>,
    /// Why.
    pub reason: Reason,
    /// Predicted ns per event on the CPU, corrected by what was observed.
    pub cpu_predicted_ns_per_event: Option<f64>,
    /// Predicted ns per event on the device, transfers included, corrected by what was observed.
    pub gpu_predicted_ns_per_event: Option<f64>,
    /// Moving average of what was observed on the CPU, in ns per event.
    pub cpu_observed_ns_per_event: Option<f64>,
    /// Moving average of what was observed on the device, in ns per event.
    pub gpu_observed_ns_per_event: Option<f64>,
    /// From how many rows the device pays; none when never, or when nothing is known.
    pub break_even_rows: Option<u64>,
}

impl fmt::Display for Decision {
    /// For `EXPLAIN ANALYZE`: where, why, and the figures of both sides.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |ns: Option<f64>| ns.map_or_else(|| "-".to_owned(), |ns| format!("{ns:.2}"));
        write!(formatter, "device={}, because {}", self.side, self.reason)?;
        let sides = [
            (Side::Cpu, self.cpu_predicted_ns_per_event, self.cpu_observed_ns_per_event),
            (Side::Device, self.gpu_predicted_ns_per_event, self.gpu_observed_ns_per_event),
        ];
        for (side, predicted, observed) in sides {
            if predicted.is_some() || observed.is_some() {
                write!(formatter, "; {side} ns/event: predicted {}, observed {}", figure(predicted), figure(observed))?;
            }
        }
        match (self.break_even_rows, self.gpu_predicted_ns_per_event) {
            (Some(rows), _) => write!(formatter, "; gpu pays from {rows} rows"),
            (None, Some(_)) => write!(formatter, "; gpu never pays"),
            (None, None) => Ok(()),
        }
    }
}

/// Why a batch runs where it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// `eagre.device` says so.
    Forced,
    /// There is no device.
    NoDevice,
    /// The adapter failed the part of its self-test that this kernel needs.
    Unfit {
        /// What it failed.
        reason: String,
    },
    /// The adapter is a software one and nobody asked for it.
    SoftwareAdapter,
    /// The kernel was not measured on this adapter.
    NotCalibrated,
    /// The device failed not long ago.
    BackingOff {
        /// For how many more steps the twin takes over.
        steps_left: u64,
    },
    /// The batch is empty.
    Empty,
    /// It is the quicker side.
    Faster {
        /// How many times quicker.
        times: f64,
    },
    /// The other side is quicker, but by less than the margin.
    WithinMargin {
        /// How many times quicker the other side is.
        times: f64,
    },
    /// The other side is quicker, but has not been for long enough to pay for moving state.
    MoveDoesNotPayYet {
        /// What would have been saved so far, in ns.
        saved_ns: f64,
        /// What moving there and back costs, in ns.
        move_ns: f64,
    },
    /// The other side is quicker, but the operator has moved not long ago.
    MovedLately {
        /// For how many more steps it stays.
        steps_left: u64,
    },
    /// The other side exceeds the latency bound: it is not gone to, or was left for it.
    LatencyBound {
        /// When the oldest event would be done there, counted from when it came, in ns.
        done_ns: f64,
        /// The bound, in ns.
        target_ns: u64,
    },
    /// The run that is replayed did so.
    Replayed,
    /// The run that is replayed used a device; there is none here that can, so answers of the tolerance class may differ in it.
    ReplayedWithoutDevice,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Forced => write!(formatter, "eagre.device says so"),
            Reason::NoDevice => write!(formatter, "there is no GPU"),
            Reason::Unfit { reason } => write!(formatter, "the adapter is not fit for it: {reason}"),
            Reason::SoftwareAdapter => {
                write!(formatter, "the adapter is a software one; SET 'eagre.device' = 'gpu' uses it all the same")
            }
            Reason::NotCalibrated => write!(formatter, "the kernel was not measured on this adapter"),
            Reason::BackingOff { steps_left } => {
                write!(formatter, "the device failed; it is tried again in {steps_left} steps")
            }
            Reason::Empty => write!(formatter, "there is nothing to do"),
            Reason::Faster { times } => write!(formatter, "{times:.1}x quicker"),
            Reason::WithinMargin { times } => write!(formatter, "the other side is only {times:.2}x quicker"),
            Reason::MoveDoesNotPayYet { saved_ns, move_ns } => write!(
                formatter,
                "the other side is quicker, but has saved {:.0} us of the {:.0} us that moving its state costs",
                saved_ns / 1e3,
                move_ns / 1e3
            ),
            Reason::MovedLately { steps_left } => {
                write!(formatter, "it has moved not long ago and stays for {steps_left} steps")
            }
            Reason::LatencyBound { done_ns, target_ns } => write!(
                formatter,
                "the other side would be done after {:.1} ms, and eagre.latency.target is {:.1} ms",
                done_ns / 1e6,
                *target_ns as f64 / 1e6
            ),
            Reason::Replayed => write!(formatter, "the recorded run did so"),
            Reason::ReplayedWithoutDevice => {
                write!(formatter, "the recorded run used a device, and there is none here")
            }
        }
    }
}

/// A move, as it is recorded: from this step on the operator runs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The operator's step, from 0.
    pub step: u64,
    /// Where it runs from then on.
    pub side: Side,
}
