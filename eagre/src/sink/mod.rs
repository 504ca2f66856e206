//! Sinks that live in this crate: results to callers, and rows to callbacks.

pub mod callback;
pub mod results;
