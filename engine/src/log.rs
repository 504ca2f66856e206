//! The step log: everything that could have gone differently in a step, so that the step can be run again, bit for bit.
//!
//! A record holds what the coordinator decided: how many rows of which partitions the step took, processing time, the watermarks after
//! it (idle decisions are in them). Rows themselves are not logged: a replayable source gives them again, and input that is
//! not replayable is journalled before it is read. Records of the steps between two checkpoints form one immutable segment,
//! which is written with the later checkpoint; sinks that commit show only checkpointed steps, so nothing visible is ever missing from the
//! log, and no step waits for it.

use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointStore;
use crate::error::{EngineError, Result};
use crate::time::EventTimeMs;

/// The decisions of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Step number, from 1.
    pub step: u64,
    /// Processing time in milliseconds since 1970.
    pub clock_ms: i64,
    /// How far the sources were at the end of the step, in graph order of the source nodes.
    pub watermarks: Vec<SourceTime>,
    /// What was taken, in order.
    pub taken: Vec<Taken>,
}

/// How far a source has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTime {
    /// Its watermark.
    pub watermark: EventTimeMs,
    /// Whether all of its partitions that go on are idle: others need not wait for it.
    pub idle: bool,
}

/// Consecutive rows of one partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// Which source, counted in graph order.
    pub source: usize,
    /// The partition.
    pub partition: String,
    /// How many good rows.
    pub rows: u64,
    /// Whether the end of a batch was reached, so that unreadable rows behind its last good row belong to the step.
    pub to_batch_end: bool,
}

/// The log's objects start with this.
pub const LOG_PREFIX: &str = "log/";

/// The name of the segment that was written with a checkpoint by a run.
pub fn segment_name(checkpoint: u64, run: &str) -> String {
    format!("{LOG_PREFIX}{checkpoint:020}-{run}.jsonl.zst")
}

/// The first line of a segment.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SegmentHead {
    /// The segment of the checkpoint before; segments form a chain that starts at the newest manifest, so that one of a run that lost
    /// a race is never read.
    previous: Option<String>,
}

/// Encodes the records of a segment: one JSON object a line, zstd.
pub fn encode_segment(previous: Option<String>, records: &[StepRecord]) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(&SegmentHead { previous }).map_err(EngineError::bug)?;
    text.push(b'\n');
    for record in records {
        serde_json::to_writer(&mut text, record).map_err(EngineError::bug)?;
        text.push(b'\n');
    }
    zstd::encode_all(&text[..], 1).map_err(EngineError::bug)
}

/// Reads the whole log whose newest segment is `head`, oldest step first.
///
/// # Errors
/// A segment is missing or damaged.
pub fn read_log(store: &dyn CheckpointStore, head: Option<String>) -> Result<Vec<StepRecord>> {
    let mut segments = Vec::new();
    let mut next = head;
    while let Some(name) = next {
        let broken = |reason: String| EngineError::Checkpoint {
            message: format!("the step log `{name}` in {}: {reason}", store.describe()),
        };
        let bytes = store.get(&name)?.ok_or_else(|| broken("it is missing".to_owned()))?;
        let text = zstd::decode_all(&bytes[..]).map_err(|error| broken(format!("it is damaged: {error}")))?;
        let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let damaged = |error: serde_json::Error| broken(format!("it is damaged: {error}"));
        let head: SegmentHead = serde_json::from_slice(lines.next().unwrap_or_default()).map_err(damaged)?;
        let records: Vec<StepRecord> =
            lines.map(|line| serde_json::from_slice(line).map_err(damaged)).collect::<Result<_>>()?;
        segments.push(records);
        next = head.previous;
    }
    Ok(segments.into_iter().rev().flatten().collect())
}
