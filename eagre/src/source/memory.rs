//! Batches in memory as a bounded, replayable source: `INSERT INTO t VALUES`, benchmarks, tests.
//!
//! A place is the number of a row and not of a batch: how many rows a batch has depends on the settings under which a fixture was
//! filled, and a run may go on under others.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use eagre_engine::Result;
use eagre_engine::source::{PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
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

    /// How many rows all batches have.
    pub fn row_count(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }
}

impl Source for MemorySource {
    fn describe(&self) -> String {
        format!("memory({}, rows={})", self.name, self.row_count())
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
        let row = places.get(&*partition).and_then(|place| place.position.as_u64()).unwrap_or(0);
        Ok(Box::new(MemoryReader {
            batches: Arc::clone(&self.batches),
            projection: projection.to_vec(),
            partition,
            row,
            batch: 0,
            batch_starts_at: 0,
            announced: false,
        }))
    }
}

struct MemoryReader {
    batches: Arc<[RecordBatch]>,
    projection: Vec<usize>,
    partition: PartitionId,
    /// The next row.
    row: u64,
    /// A batch that may hold it, and the number of that batch's first row.
    batch: usize,
    batch_starts_at: u64,
    announced: bool,
}

impl SourceReader for MemoryReader {
    fn next(&mut self) -> Result<SourceEvent> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
        }
        while let Some(batch) = self.batches.get(self.batch) {
            let (start, rows) = (self.row, batch.num_rows() as u64);
            let before = start - self.batch_starts_at;
            if before >= rows {
                self.batch += 1;
                self.batch_starts_at += rows;
                continue;
            }
            self.row = self.batch_starts_at + rows;
            let rest = batch.slice(before as usize, (rows - before) as usize);
            return Ok(SourceEvent::Batch(SourceBatch {
                partition: Arc::clone(&self.partition),
                start: json!(start),
                end: json!(self.row),
                batch: rest.project(&self.projection)?,
                weights: None,
                bad_rows: Vec::new(),
            }));
        }
        Ok(SourceEvent::End)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use eagre_engine::source::Place;

    use super::*;

    fn source(sizes: &[usize]) -> MemorySource {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let mut first = 0;
        let batches = sizes.iter().map(|size| {
            let rows = Int64Array::from_iter_values(first..first + *size as i64);
            first += *size as i64;
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(rows)]).expect("one column")
        });
        MemorySource::new("t", Arc::clone(&schema), batches.collect())
    }

    /// The batches from a place on: where each begins, and its rows.
    fn read(source: &MemorySource, from: u64) -> Vec<(u64, Vec<i64>)> {
        let place = Place { position: json!(from), rows: 0 };
        let mut reader = source.open(&[0], &[("memory".to_owned(), place)].into(), StopFlag::new()).expect("in memory");
        let mut batches = Vec::new();
        loop {
            match reader.next().expect("in memory") {
                SourceEvent::Batch(batch) => {
                    let rows = batch.batch.column(0).as_primitive::<Int64Type>().values().to_vec();
                    batches.push((batch.start.as_u64().expect("a row"), rows));
                }
                SourceEvent::End => return batches,
                _ => {}
            }
        }
    }

    /// A run goes on at the same row however the fixture was cut, or it would read rows twice or never.
    #[test]
    fn places_are_rows() {
        for sizes in [&[10][..], &[1; 10], &[3, 0, 7], &[9, 1]] {
            let source = source(sizes);
            for from in 0..=10 {
                let batches = read(&source, from);
                let rows: Vec<i64> = batches.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
                assert_eq!(rows, (from as i64..10).collect::<Vec<_>>(), "{sizes:?} from {from}");
                assert!(batches.iter().all(|(start, rows)| *start as i64 == rows[0]), "{sizes:?} from {from}");
            }
        }
    }
}
