//! Rows that are written in the query: `VALUES`, and the one row of a `SELECT` without `FROM`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use eagre_engine::source::{Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};

/// A bounded source of one batch.
pub(super) struct ConstantSource {
    rows: RecordBatch,
}

impl ConstantSource {
    pub(super) fn new(rows: RecordBatch) -> Self {
        Self { rows }
    }
}

/// The only partition.
const PARTITION: &str = "values";

impl Source for ConstantSource {
    fn describe(&self) -> String {
        match self.rows.num_rows() {
            1 => "values(1 row)".into(),
            count => format!("values({count} rows)"),
        }
    }

    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(
        &self,
        projection: &[usize],
        places: &Places,
        _stop: StopFlag,
    ) -> eagre_engine::Result<Box<dyn SourceReader>> {
        let rows = self.rows.project(projection)?;
        // Position 0 is before the batch, 1 after it.
        let finished = places.get(PARTITION).is_some_and(|place| place.position == serde_json::json!(1));
        let mut events = vec![SourceEvent::End, SourceEvent::PartitionEnd(PARTITION.into())];
        if !finished && rows.num_rows() > 0 {
            events.push(SourceEvent::Batch(SourceBatch {
                partition: PARTITION.into(),
                start: serde_json::json!(0),
                end: serde_json::json!(1),
                batch: rows,
                weights: None,
                bad_rows: vec![],
            }));
        }
        events.push(SourceEvent::Partitions(vec![Arc::from(PARTITION)]));
        Ok(Box::new(ConstantReader { events }))
    }
}

/// What is still to be said, last first.
struct ConstantReader {
    events: Vec<SourceEvent>,
}

impl SourceReader for ConstantReader {
    fn next(&mut self) -> eagre_engine::Result<SourceEvent> {
        Ok(self.events.pop().unwrap_or(SourceEvent::End))
    }
}
