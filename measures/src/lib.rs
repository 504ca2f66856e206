//! How good scores and alarms are, against labels: numbers in, numbers out.
//!
//! A room of its own and not a part of the benchmarks, because three others measure with it: the tests of the scorers, `eagre
//! bench` and `eagre backtest`. It knows no scorer, no SQL and no Arrow, so it builds in seconds and cannot favour anyone.
//!
//! - [`vus`]: VUS-PR, for scores without a threshold, against labelled ranges.
//! - [`nab`]: the scoring rules of the Numenta Anomaly Benchmark, for files of scores and one threshold.
//! - [`alarms`]: precision, recall, delay and alarms per day of alarms as they are raised.

pub mod alarms;
mod error;
pub mod nab;
pub mod ranges;
pub mod vus;

pub use error::{MeasureError, Result};
