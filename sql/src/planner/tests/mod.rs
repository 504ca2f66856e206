//! Plans as text, refusals with their place, names, identities, and answers against the oracle.

mod answers;
mod forecasts;
mod harness;
mod matches;
mod names;
mod plans;
mod programs;
mod refusals;
