//! Kernels: the numeric inner loops of eagre, each in two forms with the same answer.
//!
//! A kernel is one folder: `mod.rs` (shapes, constants, what is data), `cpu.rs` (the *twin*: a first-class fast path for the CPU,
//! written so that the compiler vectorises it) and `<name>.wgsl` with `gpu.rs` (the compute shader and how it is dispatched). A query
//! never says which of them runs: the [`placer`] decides from measured figures, and the answer is the same (see *Policies*).
//!
//! This room knows numbers only: no Arrow, no SQL, no async, no clock that decides an answer. Rows come in grouped by key
//! ([`rows::GroupedRows`]), state lies in pages of words that are the same bytes on both sides ([`state::StatePages`]).
//!
//! # Policies
//! - *Exact*: counts, integer sums, bits, minima and maxima, automaton states, leaf masses: device and twin are equal to the bit.
//! - *Same tree*: float reductions use one fixed tree, whatever the device's width, and are equal to the bit where the adapter's
//!   self-test shows that it neither reassociates nor contracts.
//! - *Tolerance*: recurrences, distances, projections in `f32`: each states its bound. Where a step ran is recorded, so that a replay
//!   runs it there too.

pub mod bench;
pub mod calibration;
#[cfg(feature = "cli")]
pub mod cli;
pub mod conv_forecast;
pub mod convert;
#[cfg(feature = "gpu")]
pub mod device;
pub mod features;
pub mod forecast;
pub mod half_space_forest;
#[cfg(feature = "gpu")]
pub mod inspect;
pub mod kernel;
mod parameter;
pub mod pattern_starts;
pub mod pattern_step;
pub mod placed;
pub mod placer;
pub mod recurrence_scan;
pub mod rows;
pub mod score;
mod series;
pub mod state;
pub mod subspace_score;
mod window;
pub mod window_distance;
pub mod window_reduce;

pub use kernel::{Kernel, KernelError};
