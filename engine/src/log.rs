//! The step log: everything that could have gone differently in a step, so that the step can be run again, bit for bit.
//!
//! A record holds what the coordinator decided: how many rows of which partitions the step took, processing time, the watermarks after
//! it (idle decisions are in them), and what tables outside answered in it. Rows themselves are not logged: a replayable source gives them again, and input that is
//! not replayable is journalled before it is read. Records of the steps between two checkpoints form one immutable segment,
//! which is written with the later checkpoint; sinks that commit show only checkpointed steps, so nothing visible is ever missing from the
//! log, and no step waits for it.

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointStore, Compression, decode_chunks, encode_chunks};
use crate::error::{EngineError, Result};
use crate::operator::SavedChunk;
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
    /// What tables outside answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
}

/// What a table outside answered to an operator in one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The operator, by its id.
    pub operator: String,
    /// Rows in the operator's own form, encoded as state is, in hexadecimal digits.
    rows: String,
}

/// The name of the only table in an answer.
const ANSWER: &str = "answer";

impl Answer {
    /// Rows that `operator` was answered.
    pub(crate) fn new(operator: String, rows: RecordBatch) -> Result<Self> {
        let mut bytes = Vec::new();
        encode_chunks(&[SavedChunk::new(ANSWER, rows)], Compression::Zstd, &mut bytes)?;
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("four bits are a digit");
        let rows = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        Ok(Self { operator, rows })
    }

    /// The rows again.
    ///
    /// # Errors
    /// They are damaged.
    pub(crate) fn rows(&self) -> Result<Vec<RecordBatch>> {
        let damaged = || EngineError::Checkpoint { message: "an answer in the step log is damaged".to_owned() };
        let digits: Option<Vec<u32>> = self.rows.chars().map(|digit| digit.to_digit(16)).collect();
        let bytes: Vec<u8> = digits
            .ok_or_else(damaged)?
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8))
            .collect();
        Ok(decode_chunks(&bytes)?.into_iter().map(|chunk| chunk.rows).collect())
    }
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
    /// How many good rows, and all unreadable ones before the last of them.
    pub rows: u64,
    /// How many unreadable rows behind these.
    #[serde(default)]
    pub bad_rows_behind: u64,
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
