//! The stream core of eagre: batches, event time, steps, keyed state, operators and checkpoints, and the traits that the other
//! rooms plug into.
//!
//! A pipeline is a [`graph::Graph`] of [`operator::Operator`]s that advances in *steps*. In a step every operator runs once on its
//! whole input, and the outputs of the step are complete when the last one has run; so every answer is the answer for one prefix
//! of the input, a checkpoint belongs to a step and there is nothing to align, and all that could vary (offsets, clock, seed) is an
//! input of the step, written to the [`log`], so that a step can be replayed.
//!
//! What this room lacks is its design: no DataFusion (expressions and foreign aggregates arrive behind [`expr::Expr`] and
//! [`aggregate::Accumulators`]), no async, no clock, no randomness, no network; they are handed in.

pub mod aggregate;
pub mod arrays;
pub mod changes;
pub mod checkpoint;
pub mod delta;
pub mod error;
pub mod expr;
pub mod graph;
pub mod hash;
pub mod interval_text;
pub mod keys;
pub mod log;
pub mod lookup;
pub mod metrics;
pub mod model;
pub mod online;
pub mod operator;
mod rows;
pub mod runtime;
pub mod settings;
pub mod sink;
pub mod source;
pub mod thread;
pub mod time;
pub mod type_name;
pub mod view;
pub mod wall_clock;

pub use delta::Delta;
/// How values are forecast.
pub use eagre_kernels::forecast;
/// The methods by which rows are scored.
pub use eagre_kernels::score;
pub use error::{EngineError, Place, Result};
pub use time::EventTimeMs;
