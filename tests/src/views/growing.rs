//! A source of numbers that grows while it is read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use eagre::Session;
use eagre_engine::source::{Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use eagre_sql::catalog::TableDefinition;

use super::{Outcome, text};
use crate::harness::Random;

/// Numbers in one partition that grow while they are read, never end and can be read again; each reading cuts them into other batches.
#[derive(Clone, Default)]
pub(super) struct Growing {
    pub(super) rows: Arc<Mutex<Vec<(i64, i64)>>>,
    pub(super) readings: Arc<AtomicU64>,
}

impl Growing {
    pub(super) fn add(&self, rows: impl IntoIterator<Item = (i64, i64)>) {
        self.rows.lock().expect("no thread panicked").extend(rows);
    }

    pub(super) fn register(&self, session: &Session, name: &str) -> Outcome {
        let definition = TableDefinition::from_schema(name, &self.schema());
        session.register_source(definition, Arc::new(self.clone())).map_err(text)
    }
}

impl Source for Growing {
    fn describe(&self) -> String {
        "growing".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        let fields = ["k", "n"].map(|name| Field::new(name, DataType::Int64, true));
        Arc::new(Schema::new(fields.to_vec()))
    }

    fn bounded(&self) -> bool {
        false
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(
        &self,
        projection: &[usize],
        places: &Places,
        stop: StopFlag,
    ) -> eagre_engine::Result<Box<dyn SourceReader>> {
        let next = places.get("rows").and_then(|place| place.position.as_u64()).unwrap_or(0) as usize;
        let reading = self.readings.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(GrowingReader {
            random: Random::named(&format!("reading {reading}")),
            source: self.clone(),
            projection: projection.to_vec(),
            next,
            announced: false,
            stop,
        }))
    }
}

struct GrowingReader {
    source: Growing,
    projection: Vec<usize>,
    next: usize,
    announced: bool,
    stop: StopFlag,
    random: Random,
}

impl SourceReader for GrowingReader {
    fn next(&mut self) -> eagre_engine::Result<SourceEvent> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::from("rows")]));
        }
        if self.stop.is_stopped() {
            return Ok(SourceEvent::End);
        }
        let rows: Vec<(i64, i64)> = {
            let rows = self.source.rows.lock().expect("no thread panicked");
            let count = self.random.between(1, 9) as usize;
            rows[self.next..].iter().take(count).copied().collect()
        };
        if rows.is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(1));
            return Ok(SourceEvent::Waiting);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(k, _)| *k))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, n)| *n))),
        ];
        let batch = RecordBatch::try_new(self.source.schema(), columns)?.project(&self.projection)?;
        let start = self.next;
        self.next += rows.len();
        Ok(SourceEvent::Batch(SourceBatch {
            partition: Arc::from("rows"),
            start: start.into(),
            end: self.next.into(),
            batch,
            weights: None,
            bad_rows: Vec::new(),
        }))
    }
}
