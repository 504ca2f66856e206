//! A frame as a source: bounded, of one partition, whose places are numbers of rows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use eagre_engine::source::{Places, Source, SourceEvent, SourceReader, StopFlag};
use eagre_engine::{EngineError, Result};
use eagre_frames::Frame;

use crate::source::memory::MemorySource;

/// The most rows of a batch: a frame may be one chunk of all its rows, and a step takes batches as they are.
const BATCH_ROWS: usize = 8_192;

/// What a frame gave for some of its columns.
type Kept = HashMap<Vec<usize>, Arc<MemorySource>>;

/// A registered frame.
pub(super) struct FrameSource {
    name: String,
    schema: SchemaRef,
    frame: Frame,
    /// Rows by the columns that were asked for. A plan may give its rows in another order each time, and places are numbers of rows: who goes
    /// on where another has stopped has to find the same ones.
    kept: Arc<Mutex<Kept>>,
}

impl FrameSource {
    pub(super) fn new(name: &str, schema: SchemaRef, frame: Frame) -> Self {
        Self { name: name.to_owned(), schema, frame, kept: Arc::default() }
    }
}

impl Source for FrameSource {
    fn describe(&self) -> String {
        match &self.frame {
            Frame::Data(frame) => format!("frame({}, rows={})", self.name, frame.height()),
            Frame::Lazy(_) => format!("lazy frame({})", self.name),
        }
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

    fn open(&self, projection: &[usize], places: &Places, stop: StopFlag) -> Result<Box<dyn SourceReader>> {
        let asked = Asked {
            name: self.name.clone(),
            schema: Arc::clone(&self.schema),
            frame: self.frame.clone(),
            kept: Arc::clone(&self.kept),
            projection: projection.to_vec(),
            places: places.clone(),
            stop,
        };
        Ok(Box::new(FrameReader { asked: Some(asked), rows: None }))
    }
}

/// Runs a plan when the first rows are asked for: a reader may block, and who opens it may not.
struct FrameReader {
    asked: Option<Asked>,
    rows: Option<Box<dyn SourceReader>>,
}

impl SourceReader for FrameReader {
    fn next(&mut self) -> Result<SourceEvent> {
        if let Some(asked) = self.asked.take() {
            self.rows = Some(asked.open()?);
        }
        match &mut self.rows {
            Some(rows) => rows.next(),
            None => Err(EngineError::bug("a frame is read on after it has failed")),
        }
    }
}

/// What was asked of a frame.
struct Asked {
    name: String,
    schema: SchemaRef,
    frame: Frame,
    kept: Arc<Mutex<Kept>>,
    projection: Vec<usize>,
    places: Places,
    stop: StopFlag,
}

impl Asked {
    fn open(self) -> Result<Box<dyn SourceReader>> {
        let rows = self.rows()?;
        let there = rows.row_count();
        // A batch began at the position, and so many rows of it were taken.
        let read = self.places.values().map(|place| place.position.as_u64().unwrap_or(0) + place.rows).max();
        if let Some(read) = read.filter(|read| *read > there) {
            return Err(self.failed(format!(
                "the frame has {there} rows, of which {read} were read before; what goes on from a state folder is given the same rows in the same \
                 order"
            )));
        }
        let all: Vec<usize> = (0..self.projection.len()).collect();
        rows.open(&all, &self.places, self.stop)
    }

    /// The rows of the columns.
    fn rows(&self) -> Result<Arc<MemorySource>> {
        // Held while a plan runs: who asks for the same columns meanwhile waits for it.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = kept.get(&self.projection) {
            return Ok(Arc::clone(rows));
        }
        let columns: Vec<&str> =
            self.projection.iter().map(|index| self.schema.field(*index).name().as_str()).collect();
        let batches = self.frame.batches(&columns, BATCH_ROWS).map_err(|error| self.failed(error.to_string()))?;
        let schema = Arc::new(self.schema.project(&self.projection)?);
        if let Some(other) = batches.iter().find(|batch: &&RecordBatch| batch.schema_ref() != &schema) {
            return Err(self.failed(format!(
                "its plan gave the columns {} and had promised {}",
                columns_of(other.schema_ref()),
                columns_of(&schema)
            )));
        }
        let rows = Arc::new(MemorySource::new(&self.name, schema, batches));
        kept.insert(self.projection.clone(), Arc::clone(&rows));
        Ok(rows)
    }

    fn failed(&self, message: String) -> EngineError {
        EngineError::Source { table: self.name.clone(), message }
    }
}

fn columns_of(schema: &SchemaRef) -> String {
    let column = |field: &FieldRef| format!("`{}` {}", field.name(), eagre_sql::types::sql_name(field.data_type()));
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}
