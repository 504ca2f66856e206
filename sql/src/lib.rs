//! Text in, pipeline description out. No IO, no clock: what a statement needs from the world is handed in.

pub mod catalog;
pub mod error;
pub mod functions;
pub mod parser;
pub mod planner;
pub mod types;
pub(crate) mod words;
