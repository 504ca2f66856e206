//! What the tests share: tables in a few words, and reading a source to its end.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use eagre_connectors::{Environment, TableDefinition, TableOptions};
use eagre_engine::Delta;
use eagre_engine::source::{BadRow, Place, Places, Position, SourceBatch, SourceEvent, StopFlag};

pub(crate) const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

pub(crate) fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()))
}

pub(crate) fn options(entries: &[(&str, &str)]) -> TableOptions {
    entries.iter().copied().collect()
}

/// A table over files.
pub(crate) fn files(path: &Path, format: &str, schema: &SchemaRef, more: &[(&str, &str)]) -> TableDefinition {
    let mut all = options(&[("connector", "filesystem"), ("path", path.to_str().expect("UTF-8")), ("format", format)]);
    more.iter().for_each(|(key, value)| all.set(*key, *value));
    TableDefinition::new("t", Arc::clone(schema), all)
}

pub(crate) fn environment() -> Environment {
    Environment { decode_threads: 2, ..Environment::new("pipeline") }
}

/// All that a bounded source says.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) batches: Vec<SourceBatch>,
    pub(crate) announced: Vec<String>,
    pub(crate) ended: Vec<String>,
}

impl Read {
    pub(crate) fn rows(&self) -> RecordBatch {
        let batches: Vec<&RecordBatch> = self.batches.iter().map(|batch| &batch.batch).collect();
        concat_batches(batches[0].schema_ref(), batches).expect("one schema")
    }

    pub(crate) fn bad_rows(&self) -> Vec<BadRow> {
        self.batches.iter().flat_map(|batch| batch.bad_rows.clone()).collect()
    }
}

pub(crate) fn read(table: &TableDefinition, projection: &[usize], places: &Places) -> Result<Read, String> {
    read_in(table, projection, places, &environment())
}

pub(crate) fn read_in(
    table: &TableDefinition,
    projection: &[usize],
    places: &Places,
    environment: &Environment,
) -> Result<Read, String> {
    let source = eagre_connectors::source(table, environment).map_err(|error| error.to_string())?;
    assert!(source.bounded(), "this would not end");
    let mut reader = source.open(projection, places, StopFlag::new()).map_err(|error| error.to_string())?;
    let mut read = Read::default();
    loop {
        match reader.next().map_err(|error| error.to_string())? {
            SourceEvent::Partitions(names) => read.announced.extend(names.iter().map(ToString::to_string)),
            SourceEvent::Batch(batch) => read.batches.push(batch),
            SourceEvent::PartitionEnd(name) => read.ended.push(name.to_string()),
            SourceEvent::Waiting => {}
            SourceEvent::End => return Ok(read),
        }
    }
}

/// All rows of all columns.
pub(crate) fn read_all(table: &TableDefinition) -> Result<Read, String> {
    let all: Vec<usize> = (0..table.schema.fields().len()).collect();
    read(table, &all, &Places::new())
}

pub(crate) fn place(partition: &str, position: &Position) -> Places {
    [(partition.to_owned(), Place { position: position.clone(), rows: 0 })].into()
}

pub(crate) fn table_text(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch)).expect("a table").to_string()
}

/// Writes batches through the sink `filesystem`, in one step, without checkpoints.
pub(crate) fn write(table: &TableDefinition, batches: &[RecordBatch]) -> Result<(), String> {
    let factory = eagre_connectors::sink(table, &environment()).map_err(|error| error.to_string())?;
    let mut sink = factory.create().map_err(|error| error.to_string())?;
    let deltas: Vec<Delta> = batches.iter().cloned().map(Delta::insert).collect();
    sink.write(1, &deltas).map_err(|error| error.to_string())?;
    sink.finish().map_err(|error| error.to_string())
}
