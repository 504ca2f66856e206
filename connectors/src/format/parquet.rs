//! Parquet: read by row group, several groups at a time, in order.
//!
//! A row group can be decoded without its neighbours, so each gets a thread of its own, a few ahead of the reader; each hands over
//! batch by batch through a short queue, so that no group is ever held whole. The position is the number of the row in the file.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use crossbeam_channel::Receiver;
use eagre_engine::delta::DELTA_ROWS_MAX;
use eagre_engine::thread::start_detached;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::filesystem::location::Location;

/// Read ahead from a store at a time: pages are small, and each request has its price.
const READ_AHEAD_BYTES: u64 = 8 << 20;

/// A file for parquet's reader.
#[derive(Clone)]
pub(crate) struct ParquetInput {
    location: Location,
    size: u64,
    /// Bytes last read from a store, and where they start.
    window: Arc<Mutex<(u64, Bytes)>>,
}

impl Length for ParquetInput {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for ParquetInput {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.location.open(start).map_err(|error| ParquetError::External(error.into()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let external = |error: io::Error| ParquetError::External(error.into());
        if self.location.is_local() || length as u64 > READ_AHEAD_BYTES {
            return self.location.read_range(start, length as u64).map(Bytes::from).map_err(external);
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let inside =
            |window: &(u64, Bytes)| start >= window.0 && start + length as u64 <= window.0 + window.1.len() as u64;
        if !inside(&window) {
            let bytes = READ_AHEAD_BYTES.min(self.size.saturating_sub(start));
            *window = (start, self.location.read_range(start, bytes).map_err(external)?.into());
        }
        if !inside(&window) {
            return Err(ParquetError::EOF("the file is shorter than its footer says".into()));
        }
        let from = (start - window.0) as usize;
        Ok(window.1.slice(from..from + length))
    }
}

/// An opened parquet file.
pub(crate) struct ParquetFile {
    input: ParquetInput,
    metadata: ArrowReaderMetadata,
}

impl ParquetFile {
    pub(crate) fn open(location: &Location, size: u64) -> Result<Self, String> {
        let input = ParquetInput { location: location.clone(), size, window: Arc::default() };
        let metadata =
            ArrowReaderMetadata::load(&input, ArrowReaderOptions::new()).map_err(|error| error.to_string())?;
        Ok(Self { input, metadata })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(self.metadata.schema())
    }

    /// Reads the columns `columns` (of the file, in any order) from row `first_row` on, `threads` row groups at a time.
    pub(crate) fn rows(self, columns: Vec<usize>, first_row: u64, threads: usize) -> ParquetRows {
        let mut row = first_row;
        let mut next_group = 0;
        for group in self.metadata.metadata().row_groups() {
            let rows = group.num_rows().max(0) as u64;
            if row < rows {
                break;
            }
            row -= rows;
            next_group += 1;
        }
        ParquetRows {
            file: self,
            columns,
            next_group,
            skip: row as usize,
            threads: threads.max(1),
            open: VecDeque::new(),
        }
    }
}

/// Batches of a parquet file in order.
pub(crate) struct ParquetRows {
    file: ParquetFile,
    columns: Vec<usize>,
    next_group: usize,
    /// Rows to leave out of the next group.
    skip: usize,
    threads: usize,
    open: VecDeque<Receiver<Result<RecordBatch, String>>>,
}

impl ParquetRows {
    fn start_group(&mut self) -> Result<(), String> {
        let (input, metadata) = (self.file.input.clone(), self.file.metadata.clone());
        let mask = ProjectionMask::roots(metadata.parquet_schema(), self.columns.iter().copied());
        let (group, skip) = (self.next_group, std::mem::take(&mut self.skip));
        self.next_group += 1;
        let (sender, receiver) = crossbeam_channel::bounded(2);
        let read = move || {
            let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(input, metadata)
                .with_row_groups(vec![group])
                .with_projection(mask)
                .with_offset(skip)
                .with_batch_size(DELTA_ROWS_MAX)
                .build();
            match batches {
                Err(error) => {
                    let _ = sender.send(Err(error.to_string()));
                }
                Ok(batches) => {
                    for batch in batches {
                        // The other end is gone when the pipeline has stopped.
                        if sender.send(batch.map_err(|error| error.to_string())).is_err() {
                            break;
                        }
                    }
                }
            }
        };
        start_detached("parquet", read).map_err(|error| error.to_string())?;
        self.open.push_back(receiver);
        Ok(())
    }

    /// The next batch, its columns in the file's order.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, String> {
        loop {
            while self.open.len() < self.threads && self.next_group < self.file.metadata.metadata().num_row_groups() {
                self.start_group()?;
            }
            let Some(group) = self.open.front() else {
                return Ok(None);
            };
            match group.recv() {
                Ok(batch) => return batch.map(Some),
                Err(_) => self.open.pop_front(),
            };
        }
    }
}
