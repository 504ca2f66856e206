//! Sinks: the output of steps leaves. `connectors` and `eagre` implement the trait.
//!
//! A sink runs on a thread of its own and gets whole steps, in order, through a bounded queue. A sink that *commits* stages what it
//! writes, lists the staged parts in the checkpoint's manifest and publishes them when the manifest is durable; so its visible
//! output is always that of a checkpointed step, and publishing again after a crash changes nothing.

use std::sync::Arc;

use serde_json::Value;

use crate::delta::Delta;
use crate::error::Result;

/// Where the rows of one `INSERT INTO` or one top-level `SELECT` go.
pub trait Sink: Send {
    /// Takes the whole output of a step, in order of steps. Steps without output are left out. May block.
    fn write(&mut self, step: u64, deltas: &[Delta]) -> Result<()>;

    /// Stages all that was written so far (flushed, durable, not visible) and names it; `None`: nothing to publish. `step` is the
    /// checkpointed step.
    fn prepare(&mut self, step: u64) -> Result<Option<Value>>;

    /// Publishes what [`prepare`](Self::prepare) named; the manifest that lists it is durable. Idempotent.
    fn commit(&mut self, transaction: &Value) -> Result<()>;

    /// Called once before the first step of a restarted pipeline: publishes the transaction of the checkpoint again (it may have
    /// been cut off half-way) and removes what was staged after it.
    fn recover(&mut self, transaction: Option<&Value>) -> Result<()>;

    /// In the place of [`recover`](Self::recover) where the pipeline had ended with this transaction: publishes what is staged still. What is
    /// neither staged nor published was published before, and taken away by whoever it was for.
    fn publish_ended(&mut self, transaction: Option<&Value>) -> Result<()> {
        self.recover(transaction)
    }

    /// The pipeline has ended cleanly and there are no checkpoints: publishes everything. With checkpoints the last one has
    /// already been committed, and this only releases resources.
    fn finish(&mut self) -> Result<()>;
}

/// Makes the sink of a node.
pub trait SinkFactory: Send + Sync {
    /// For EXPLAIN, errors and metrics, for example `filesystem(path=out, format=json)`.
    fn describe(&self) -> String;
    /// Whether rows with negative weights can be written.
    fn accepts_retractions(&self) -> bool;
    /// Columns of which a row replaces the one with the same values; `None`: no row replaces another.
    fn replaces_by(&self) -> Option<&[usize]> {
        None
    }
    /// The same sink, told that `key` (columns of the rows) identifies the rows of the query, where it shows a new row in the place of an
    /// old one as an update; `None`: it makes no difference.
    fn keyed_by(&self, _key: &[usize]) -> Option<Arc<dyn SinkFactory>> {
        None
    }
    /// Whether each row shows exactly once after any number of crashes.
    fn exactly_once(&self) -> bool;
    /// Opens the sink.
    fn create(&self) -> Result<Box<dyn Sink>>;
}
