//! Sources that live in this crate because they know callers and sessions: batches pushed from code, rows in memory, and the journal
//! that makes input replayable that is not.

pub mod journal;
pub mod memory;
pub mod push;
