//! Scores behind one face: what an operator needs of a scoring kernel, whatever the kernel and wherever it runs.
//!
//! A [`Method`] is what a user names (`method => 'ewma', half_life => 50`), checked. It makes a [`Scorer`], which owns the state of all
//! keys and scores rows that come grouped by key and in order. A score never depends on how rows are cut into batches.

mod detector;
mod forecast;
mod method;
mod scorer;
mod selective;
#[cfg(test)]
mod still;
#[cfg(test)]
mod tests;

pub use detector::{Detections, Detector, DetectorOptions, RowContext};
pub use method::{METHODS, Method, MethodDescription, MethodError, OptionDescription, methods_with};
pub use scorer::{Expectations, Scorer, score_now};

/// When scores are alarms.
pub use crate::calibration::{AlarmOptions, Rest};
/// Where kernels may run, and how their state is kept on a device.
#[cfg(feature = "gpu")]
pub use crate::placed::{OpenDevice, OpenOnce};
pub use crate::placed::{PlacedOptions, Placement};
/// Where a batch runs, and the record of a move.
pub use crate::placer::{Decision, DeviceChoice, PlacerSettings, Side, Switch};
