//! The rows of a source that were read before, once more, and no others: what a new view is filled from.
//!
//! How far a partition was read is known as a number of records, readable or not, because positions are the reader's own words and a
//! second reading may cut the rows into other batches. Where that number is reached the partition falls silent: it has not ended,
//! so time does not move on for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use eagre_engine::checkpoint::SourceState;
use eagre_engine::source::{PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use eagre_engine::{EngineError, Result};

/// How long a reader that has nothing more to give sleeps between two looks at the stop flag.
const SILENCE: Duration = Duration::from_millis(5);

/// A source up to where it had been read.
pub(super) struct PrefixSource {
    table: String,
    inner: Arc<dyn Source>,
    /// `None`: nothing of it was read.
    until: Option<SourceState>,
    /// How many sources of the run have more to give.
    busy: Arc<AtomicUsize>,
}

impl PrefixSource {
    /// `inner` up to `until`. `busy` counts down when all of it was handed over.
    pub(super) fn new(
        table: &str,
        inner: Arc<dyn Source>,
        until: Option<SourceState>,
        busy: &Arc<AtomicUsize>,
    ) -> Self {
        busy.fetch_add(1, Ordering::SeqCst);
        Self { table: table.to_owned(), inner, until, busy: Arc::clone(busy) }
    }
}

impl Source for PrefixSource {
    fn describe(&self) -> String {
        format!("{}, as far as it was read", self.inner.describe())
    }

    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn bounded(&self) -> bool {
        self.inner.bounded()
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(&self, projection: &[usize], _places: &Places, stop: StopFlag) -> Result<Box<dyn SourceReader>> {
        let until = self.until.clone().unwrap_or_default();
        let mut left = BTreeMap::new();
        for (name, partition) in &until.partitions {
            let records = partition.records.ok_or_else(|| EngineError::Source {
                table: self.table.clone(),
                message:
                    "its checkpoint is of an older eagre, which did not count what it had read; start over with --fresh"
                        .to_owned(),
            })?;
            left.insert(PartitionId::from(name.as_str()), Left { records, ends: partition.ended });
        }
        let inner = match left.is_empty() && !until.ended {
            true => None,
            false => Some(self.inner.open(projection, &Places::new(), stop.clone())?),
        };
        Ok(Box::new(PrefixReader {
            table: self.table.clone(),
            inner,
            ends: until.ended,
            left,
            ended_partitions: Vec::new(),
            busy: Some(Arc::clone(&self.busy)),
            stop,
        }))
    }
}

struct Left {
    records: u64,
    /// Whether the partition had ended.
    ends: bool,
}

struct PrefixReader {
    table: String,
    inner: Option<Box<dyn SourceReader>>,
    /// Whether the source had ended.
    ends: bool,
    left: BTreeMap<PartitionId, Left>,
    ended_partitions: Vec<PartitionId>,
    busy: Option<Arc<AtomicUsize>>,
    stop: StopFlag,
}

impl PrefixReader {
    /// All was handed over, for it is asked for more.
    fn rest(&mut self) -> SourceEvent {
        if let Some(busy) = self.busy.take() {
            busy.fetch_sub(1, Ordering::SeqCst);
        }
        if self.ends || self.stop.is_stopped() {
            return SourceEvent::End;
        }
        std::thread::sleep(SILENCE);
        SourceEvent::Waiting
    }

    fn is_done(&self) -> bool {
        self.left.values().all(|left| left.records == 0)
    }

    /// As much of a batch as had been read.
    fn cut(&mut self, batch: SourceBatch) -> SourceEvent {
        let Some(left) = self.left.get_mut(&batch.partition).filter(|left| left.records > 0) else {
            return SourceEvent::Waiting;
        };
        let records = (batch.batch.num_rows() + batch.bad_rows.len()) as u64;
        let batch = if records <= left.records { batch } else { first_records(batch, left.records as usize) };
        left.records -= (batch.batch.num_rows() + batch.bad_rows.len()) as u64;
        if left.records == 0 && left.ends {
            self.ended_partitions.push(Arc::clone(&batch.partition));
        }
        SourceEvent::Batch(batch)
    }
}

/// The first records of a batch: its rows, and the unreadable ones between them, in order.
fn first_records(batch: SourceBatch, records: usize) -> SourceBatch {
    let mut bad_rows = batch.bad_rows;
    // A bad row stands after the good ones before it and the bad ones before it.
    let bad_count = bad_rows.iter().enumerate().filter(|(index, bad)| bad.before_row + index < records).count();
    bad_rows.truncate(bad_count);
    let rows = (records - bad_count).min(batch.batch.num_rows());
    SourceBatch {
        batch: batch.batch.slice(0, rows),
        weights: batch.weights.as_ref().map(|weights| weights.slice(0, rows)),
        bad_rows,
        ..batch
    }
}

impl SourceReader for PrefixReader {
    fn next(&mut self) -> Result<SourceEvent> {
        if let Some(partition) = self.ended_partitions.pop() {
            return Ok(SourceEvent::PartitionEnd(partition));
        }
        let done = self.is_done();
        let Some(inner) = self.inner.as_mut().filter(|_| !done) else {
            return Ok(self.rest());
        };
        Ok(match inner.next()? {
            SourceEvent::Partitions(mut ids) => {
                ids.retain(|id| self.left.contains_key(id));
                SourceEvent::Partitions(ids)
            }
            SourceEvent::Batch(batch) => self.cut(batch),
            // Those that had ended end when their last record is handed over.
            SourceEvent::PartitionEnd(_) | SourceEvent::Waiting => SourceEvent::Waiting,
            SourceEvent::End if self.stop.is_stopped() => SourceEvent::End,
            SourceEvent::End => {
                return Err(EngineError::Source {
                    table: self.table.clone(),
                    message:
                        "it has fewer rows now than were read of it before, so a new view cannot be filled from it"
                            .to_owned(),
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use eagre_engine::source::BadRow;
    use serde_json::Value;

    use super::*;

    /// A view that is filled with a record too many or too few would be wrong for ever.
    #[test]
    fn records_count_whether_they_could_be_read_or_not() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let bad = |before_row: usize| BadRow {
            before_row,
            origin: "f".to_owned(),
            offset: 0,
            reason: "no number".to_owned(),
            raw: Vec::new(),
        };
        // Bad, good, bad, bad, good, good, bad.
        let batch = SourceBatch {
            partition: Arc::from("f"),
            start: Value::Null,
            end: Value::Null,
            batch: RecordBatch::try_from_iter([("n", column)]).expect("one column"),
            weights: Some(Int64Array::from(vec![1, -1, 1])),
            bad_rows: vec![bad(0), bad(1), bad(1), bad(3)],
        };
        for (records, rows, bad_rows) in [(1, 0, 1), (2, 1, 1), (3, 1, 2), (4, 1, 3), (5, 2, 3), (6, 3, 3), (7, 3, 4)] {
            let cut = first_records(batch.clone(), records);
            let weights = cut.weights.map_or(0, |weights| weights.len());
            assert_eq!(
                (cut.batch.num_rows(), weights, cut.bad_rows.len()),
                (rows, rows, bad_rows),
                "{records} records"
            );
        }
    }
}
