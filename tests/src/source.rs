//! A source for tests: rows with weights, cut into batches as asked, with or without an end.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use eagre_engine::Result;
use eagre_engine::source::{PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};

/// Rows in memory as one replayable partition.
#[derive(Clone)]
pub(crate) struct TestSource {
    schema: SchemaRef,
    batches: Arc<[(RecordBatch, Option<Int64Array>)]>,
    ends: bool,
}

impl TestSource {
    /// The rows of `batch` in pieces of `batch_rows`. Without an end the pipeline runs until it is stopped.
    pub(crate) fn new(batch: &RecordBatch, weights: Option<&Int64Array>, batch_rows: usize, ends: bool) -> Self {
        let pieces = (0..batch.num_rows()).step_by(batch_rows.max(1)).map(|start| {
            let length = batch_rows.max(1).min(batch.num_rows() - start);
            (batch.slice(start, length), weights.map(|weights| weights.slice(start, length)))
        });
        Self { schema: batch.schema(), batches: pieces.collect(), ends }
    }
}

impl Source for TestSource {
    fn describe(&self) -> String {
        "test".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        self.ends
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(&self, projection: &[usize], places: &Places, stop: StopFlag) -> Result<Box<dyn SourceReader>> {
        let partition: PartitionId = Arc::from("test");
        let next = places.get(&*partition).and_then(|place| place.position.as_u64()).unwrap_or(0) as usize;
        let projection = projection.to_vec();
        Ok(Box::new(TestReader { source: self.clone(), projection, partition, next, announced: false, stop }))
    }
}

struct TestReader {
    source: TestSource,
    projection: Vec<usize>,
    partition: PartitionId,
    next: usize,
    announced: bool,
    stop: StopFlag,
}

impl SourceReader for TestReader {
    fn next(&mut self) -> Result<SourceEvent> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
        }
        let Some((batch, weights)) = self.source.batches.get(self.next) else {
            if self.source.ends || self.stop.is_stopped() {
                return Ok(SourceEvent::End);
            }
            std::thread::sleep(Duration::from_millis(1));
            return Ok(SourceEvent::Waiting);
        };
        self.next += 1;
        Ok(SourceEvent::Batch(SourceBatch {
            partition: Arc::clone(&self.partition),
            start: (self.next - 1).into(),
            end: self.next.into(),
            batch: batch.project(&self.projection)?,
            weights: weights.clone(),
            bad_rows: Vec::new(),
        }))
    }
}
