//! Batches in memory as a bounded, replayable source: `INSERT INTO t VALUES`, benchmarks, tests.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use eagre_engine::Result;
use eagre_engine::source::{PartitionId, Places, Position, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use serde_json::json;

/// Batches in memory, read once in order, as one partition.
#[derive(Debug, Clone)]
pub struct MemorySource {
    name: String,
    schema: SchemaRef,
    batches: Arc<[RecordBatch]>,
}

impl MemorySource {
    /// All `batches` have the columns of `schema`.
    pub fn new(name: impl Into<String>, schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { name: name.into(), schema, batches: batches.into() }
    }
}

impl Source for MemorySource {
    fn describe(&self) -> String {
        format!("memory({}, rows={})", self.name, self.batches.iter().map(RecordBatch::num_rows).sum::<usize>())
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        true
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(&self, projection: &[usize], places: &Places, _stop: StopFlag) -> Result<Box<dyn SourceReader>> {
        let partition: PartitionId = Arc::from("memory");
        let next = places.get(&*partition).and_then(|place| place.position.as_u64()).unwrap_or(0) as usize;
        Ok(Box::new(MemoryReader {
            batches: Arc::clone(&self.batches),
            projection: projection.to_vec(),
            partition,
            next,
            announced: false,
        }))
    }
}

struct MemoryReader {
    batches: Arc<[RecordBatch]>,
    projection: Vec<usize>,
    partition: PartitionId,
    next: usize,
    announced: bool,
}

impl SourceReader for MemoryReader {
    fn next(&mut self) -> Result<SourceEvent> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
        }
        let Some(batch) = self.batches.get(self.next) else {
            return Ok(SourceEvent::End);
        };
        let position = |index: usize| -> Position { json!(index) };
        let event = SourceEvent::Batch(SourceBatch {
            partition: Arc::clone(&self.partition),
            start: position(self.next),
            end: position(self.next + 1),
            batch: batch.project(&self.projection)?,
            weights: None,
            bad_rows: Vec::new(),
        });
        self.next += 1;
        Ok(event)
    }
}
