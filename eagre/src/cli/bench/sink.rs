//! Where the output goes: when time is taken, rows are counted, and hashed so that nothing of them can be skipped; when the answer is
//! checked, they are kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::{Delta, Result};

use super::latency::Recorder;
use crate::sink::results::Materialized;

/// Makes a [`MeasuringSink`].
pub(super) struct MeasuringFactory {
    /// Hash every value of every column.
    pub hash: bool,
    /// Rows that came, insertions and retractions.
    pub rows: Arc<AtomicU64>,
    /// Is told when the output of a step is through.
    pub recorder: Option<Arc<Recorder>>,
}

struct MeasuringSink {
    hash: bool,
    rows: Arc<AtomicU64>,
    recorder: Option<Arc<Recorder>>,
    sum: u64,
}

impl SinkFactory for MeasuringFactory {
    fn describe(&self) -> String {
        if self.hash { "hash".to_owned() } else { "blackhole".to_owned() }
    }

    fn accepts_retractions(&self) -> bool {
        true
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> Result<Box<dyn Sink>> {
        let (rows, recorder) = (Arc::clone(&self.rows), self.recorder.clone());
        Ok(Box::new(MeasuringSink { hash: self.hash, rows, recorder, sum: 0 }))
    }
}

impl Sink for MeasuringSink {
    fn write(&mut self, step: u64, deltas: &[Delta]) -> Result<()> {
        for delta in deltas {
            self.rows.fetch_add(delta.rows() as u64, Ordering::Relaxed);
            if !self.hash {
                continue;
            }
            for column in delta.batch.columns() {
                self.sum = self.sum.wrapping_add(hash_column(column)?);
            }
        }
        if let Some(recorder) = &self.recorder {
            recorder.written(step);
        }
        Ok(())
    }

    fn prepare(&mut self, _step: u64) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }

    fn commit(&mut self, _transaction: &serde_json::Value) -> Result<()> {
        Ok(())
    }

    fn recover(&mut self, _transaction: Option<&serde_json::Value>) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        std::hint::black_box(self.sum);
        Ok(())
    }
}

/// A hash over all bytes that the rows of a column have: of fixed-width values at once, of texts one by one.
fn hash_column(column: &ArrayRef) -> Result<u64> {
    let hash = xxhash_rust::xxh3::xxh3_64;
    Ok(match column.data_type() {
        DataType::Utf8View => {
            column.as_string_view().iter().flatten().fold(0u64, |sum, text| sum.wrapping_add(hash(text.as_bytes())))
        }
        DataType::Utf8 => {
            column.as_string::<i32>().iter().flatten().fold(0u64, |sum, text| sum.wrapping_add(hash(text.as_bytes())))
        }
        data_type => match data_type.primitive_width() {
            Some(width) => {
                let data = column.to_data();
                let start = data.offset() * width;
                hash(&data.buffers()[0].as_slice()[start..start + data.len() * width])
            }
            None => {
                let mut hashes = Vec::new();
                eagre_engine::hash::hash_columns(std::slice::from_ref(column), column.len(), &mut hashes)?;
                hashes.iter().fold(0u64, |sum, hash| sum.wrapping_add(*hash))
            }
        },
    })
}

/// Makes sinks that keep the rows to which what they are given adds up.
#[derive(Clone)]
pub(super) struct CollectingFactory {
    schema: SchemaRef,
    table: Arc<Mutex<Materialized>>,
}

impl CollectingFactory {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self { schema: Arc::clone(schema), table: Arc::new(Mutex::new(Materialized::new(Arc::clone(schema)))) }
    }

    fn table(&self) -> MutexGuard<'_, Materialized> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows, which are gone from here then.
    ///
    /// # Errors
    /// A row was taken back more often than it came.
    pub(super) fn rows(&self) -> Result<Vec<RecordBatch>> {
        std::mem::replace(&mut *self.table(), Materialized::new(Arc::clone(&self.schema))).finish()
    }
}

impl SinkFactory for CollectingFactory {
    fn describe(&self) -> String {
        "collected".to_owned()
    }

    fn accepts_retractions(&self) -> bool {
        true
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> Result<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
}

impl Sink for CollectingFactory {
    fn write(&mut self, _step: u64, deltas: &[Delta]) -> Result<()> {
        let mut table = self.table();
        deltas.iter().try_for_each(|delta| table.apply(&delta.batch, delta.weights.as_ref()))
    }

    fn prepare(&mut self, _step: u64) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }

    fn commit(&mut self, _transaction: &serde_json::Value) -> Result<()> {
        Ok(())
    }

    fn recover(&mut self, _transaction: Option<&serde_json::Value>) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
