//! Row pattern recognition: which rows of a partition match a pattern, and as which of its variables.
//!
//! Rows come as *symbols*: for each row one bit for each pattern variable whose condition it meets, worked out before for whole columns
//! at once. A pattern becomes an [`Automaton`] whose transitions are in order of preference, and a [`Matcher`] runs it over the symbols of
//! a partition. Conditions that also look at the rows matched so far (`SUM(A.price) < 30`) are asked while it runs ([`Conditions`]).
//!
//! Three engines find the same matches: all attempts as one automaton (`fold`), attempts one after the other at a look-up a row (`dense`),
//! and partial matches one by one (`attempt`, `thread_run`), which alone asks conditions and runs patterns of any size. Which one it is
//! follows from the pattern and from what is asked for.
//!
//! Semantics: SQL:2016, ISO/IEC 19075-5 (row pattern recognition), and a bound in time (`WITHIN`).

mod attempt;
mod automaton;
mod conditions;
mod dense;
mod determinise;
mod distinct;
mod few;
mod fold;
mod fold_run;
mod key;
mod lone;
mod long;
mod matcher;
#[cfg(test)]
mod naive;
mod packed;
mod pattern;
mod queue;
mod short;
mod symbols;
mod table;
#[cfg(test)]
mod tests;
mod thread_run;
mod trace;
mod viable;
mod ways;

pub use automaton::{Automaton, Distance, State, StateId, Step};
pub use conditions::{Conditions, NoConditions, Trail};
pub use key::Key;
pub use matcher::{BadSkip, Found, Label, Match, Matcher, MatcherSpec, Overflow, Skip, Status};
pub use pattern::{Pattern, PatternError, VARIABLES_MAX, Variable, VariableSet};
pub use symbols::Symbols;
pub use trace::{TraceEnd, TraceRows, TracedRow};
