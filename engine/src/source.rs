//! Sources: bytes or calls outside become batches inside. `connectors` and `eagre` implement the traits.
//!
//! A [`Source`] is what `CREATE TABLE` names; a [`SourceReader`] is one open reading of it. A reader runs on a thread of its own, may
//! block, and hands its batches to the step coordinator through a bounded queue (a full queue is the backpressure). The coordinator
//! cuts steps at *row* granularity, so a place in a source is a [`Place`]: the position where a batch started, as the reader gave
//! it, and how many of the batch's rows had been taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// One ordered part of a source: a file, a broker's partition. Its name is stable across restarts.
pub type PartitionId = Arc<str>;

/// Where a reader can start again, in its own words; opaque to the engine and part of the checkpoint.
pub type Position = serde_json::Value;

/// A place between two rows of a partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Where the batch that holds the next row starts.
    pub position: Position,
    /// How many good rows of that batch are behind us.
    pub rows: u64,
}

/// Places to resume from; a partition that is not named starts at its beginning. A finished partition keeps its last place.
pub type Places = BTreeMap<String, Place>;

/// A table's data outside.
pub trait Source: Send + Sync {
    /// For EXPLAIN, errors and metrics, for example `filesystem(path=data/*.csv, format=csv)`.
    fn describe(&self) -> String;

    /// All columns that can be read, in order.
    fn schema(&self) -> SchemaRef;

    /// Whether the input ends by itself.
    fn bounded(&self) -> bool;

    /// Whether a reader opened at an old position gives the same rows again, bit for bit.
    fn replayable(&self) -> bool;

    /// Whether a reader opened without places gives all rows that were ever read, from the first on: what is new can be filled from it.
    fn keeps_history(&self) -> bool {
        self.replayable()
    }

    /// Whether the source can be opened again in this process after a reader of it was [closed](SourceReader::close), and goes on.
    fn goes_on(&self) -> bool {
        self.replayable()
    }

    /// Opens a reading of the columns `projection` (indices into [`schema`](Self::schema), ascending) from `places`. The reader
    /// starts each partition at `places[partition].position`; the rows already taken of that first batch are skipped by the
    /// caller. Readers look at `stop` at least every 100 ms and then return [`SourceEvent::End`].
    ///
    /// # Errors
    /// What a user can mend (missing file, no permission) names the path and the way out.
    fn open(&self, projection: &[usize], places: &Places, stop: StopFlag) -> Result<Box<dyn SourceReader>>;

    /// A word that is another one once the data has changed, for those who hold what they have read; `None`: it does not change.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    fn revision(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// A checkpoint is durable, and nothing before `oldest`, the places of the oldest one that is kept, will be asked for again: what
    /// the source keeps for that purpose can go.
    fn committed(&self, _oldest: &Places) {}
}

/// One open reading of a source.
pub trait SourceReader: Send {
    /// Waits for the next event. After [`SourceEvent::End`] it is not called again.
    ///
    /// # Errors
    /// An error ends the pipeline (with a checkpoint of what came before). Rows that cannot be read are no error: they come as
    /// [`BadRow`]s.
    fn next(&mut self) -> Result<SourceEvent>;

    /// Called once, as the last, when reading stops before its end because the pipeline goes on as another one in this process: secures what
    /// was taken from outside and not handed over yet, where it could not be read again.
    ///
    /// # Errors
    /// It cannot be secured.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a reader has to say.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moves once for thousands of rows; a box each would cost more")]
pub enum SourceEvent {
    /// These partitions exist and will be read; until a partition has given a watermark or ended it holds the table's watermark
    /// back. A reader announces all partitions that it knows before its first batch.
    Partitions(Vec<PartitionId>),
    /// Rows.
    Batch(SourceBatch),
    /// This partition has ended and leaves the watermark's minimum.
    PartitionEnd(PartitionId),
    /// Nothing for now (a watched folder, a quiet topic); lets the coordinator look at the time.
    Waiting,
    /// All partitions have ended.
    End,
}

/// Consecutive rows of one partition.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    /// The partition.
    pub partition: PartitionId,
    /// Where this batch starts; [`Source::open`] at this position gives the same rows again.
    pub start: Position,
    /// Where the next one starts.
    pub end: Position,
    /// The columns asked for. May be empty of rows when there are only bad ones.
    pub batch: RecordBatch,
    /// Weights, for sources that bring changes.
    pub weights: Option<Int64Array>,
    /// What could not be read, in order.
    pub bad_rows: Vec<BadRow>,
}

/// A row that could not be read: it goes to `<table>.errors`.
#[derive(Debug, Clone, PartialEq)]
pub struct BadRow {
    /// It stood before this good row of the batch (so `batch.num_rows()`: after the last).
    pub before_row: usize,
    /// Where it was: a file, a topic.
    pub origin: String,
    /// Byte or record offset there.
    pub offset: u64,
    /// What is wrong with it, naming column and value.
    pub reason: String,
    /// The row's bytes as they came.
    pub raw: Vec<u8>,
}

/// Tells readers to come to an end.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicU8>);

const STOPPED: u8 = 1;
const DRAINED: u8 = 2;

impl StopFlag {
    /// A flag that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag.
    pub fn stop(&self) {
        self.0.fetch_max(STOPPED, Ordering::AcqRel);
    }

    /// Raises the flag for readers whose sources will be opened again by what goes on in this process.
    pub fn drain(&self) {
        self.0.fetch_max(DRAINED, Ordering::AcqRel);
    }

    /// Whether it was raised.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// Whether it was raised by [`drain`](Self::drain).
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::Acquire) == DRAINED
    }
}
