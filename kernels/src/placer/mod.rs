//! Where a kernel runs: a pure function of figures, with a memory that is handed forward.
//!
//! The GPU pays when what it saves on a batch is more than the round trip and the bytes over the bus cost; a good CPU path often
//! leaves nothing to save. So nothing is guessed: figures measured at start ([`Calibration`]) predict both sides of a batch, what is
//! observed corrects them, and [`OperatorPlacer`] chooses. It reads no clock and draws no random number: durations are handed in, and
//! the same calls give the same choices.
//!
//! *Sticky.* State lives where the kernel runs, and moving it costs. A move is made only when the other side would have been quicker,
//! by more than a margin, for long enough to have paid for moving there and back: the rule for renting skis, which is never worse than
//! twice what hindsight would have chosen (Karlin, Manasse, Rudolph, Sleator 1988). What is faster in turns stays where it is.
//!
//! *Exploring in the shadow.* What is known of the side that does not run grows old. Now and then a batch is done there too and its
//! answer dropped; time spent so is bounded by a share of all time, so a side that is fifty times slower is asked fifty times more
//! rarely. After SABER's observed-throughput matrix (Koliousis et al., SIGMOD 2016), without giving a share of the answers to the
//! slower side.
//!
//! *Recorded.* Kernels of the tolerance class do not give the same bits on both sides, so a replay must place as the first run did:
//! moves are kept as [`Switch`]es and [`OperatorPlacer::replaying`] repeats them, whatever the figures say now.

mod decision;
mod figures;
mod operator;

#[cfg(test)]
mod tests;

pub use decision::{Decision, Reason, Side, Switch};
pub use figures::{BandwidthPoint, BatchShape, Calibration, KernelFigures, Line, Link, Prediction, RoundTrip};
pub use operator::{DeviceFitness, OperatorPlacer};

use serde::{Deserialize, Serialize};

/// `eagre.device`: who chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The placer, from its figures.
    #[default]
    Auto,
    /// The twins, always.
    Cpu,
    /// The device wherever a kernel can run on it, a software adapter too.
    Gpu,
}

/// Text that is no device choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no device: it is one of auto (what measures faster), cpu, gpu")]
pub struct UnknownDevice {
    /// What was given.
    pub given: String,
}

impl std::str::FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "gpu" => Ok(DeviceChoice::Gpu),
            _ => Err(UnknownDevice { given: text.to_owned() }),
        }
    }
}

/// How the placer weighs things. The defaults are for steps of milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlacerSettings {
    /// Who chooses.
    pub device: DeviceChoice,
    /// The latency bound of an event through this operator (`eagre.latency.target`), in ns; none when absent.
    pub latency_target_ns: Option<u64>,
    /// By which share the other side must be quicker to count at all, between 0 and 1.
    pub hysteresis: f64,
    /// The least count of steps between two moves that nothing forces.
    pub dwell_steps: u64,
    /// The largest share of time spent on shadow runs.
    pub explore_share: f64,
    /// The least count of steps between two shadow runs.
    pub explore_steps: u64,
    /// The weight of a new observation in the moving average, between 0 and 1.
    pub observation_weight: f64,
    /// For how many steps the twin takes over after a device failed for the first time; doubles with each failure up to 64 times that.
    pub backoff_steps: u64,
}

impl Default for PlacerSettings {
    fn default() -> Self {
        PlacerSettings {
            device: DeviceChoice::Auto,
            latency_target_ns: None,
            hysteresis: 0.2,
            dwell_steps: 32,
            explore_share: 0.02,
            explore_steps: 64,
            observation_weight: 0.2,
            backoff_steps: 64,
        }
    }
}
