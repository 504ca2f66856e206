//! Arrow IPC, as a file or as a stream; told apart by the first bytes.
//!
//! The position is (index of the batch in the file, row within it): written batches may be larger than what an edge carries, so
//! they are handed on in slices.

use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileReader, StreamReader};
use eagre_engine::delta::DELTA_ROWS_MAX;

use super::compression::Compression;
use crate::filesystem::location::Location;

pub(crate) const FILE_MAGIC: &[u8] = b"ARROW1";

/// A seekable view of a file wherever it is.
pub(crate) struct SeekableFile {
    location: Location,
    size: u64,
    at: u64,
    input: Option<Box<dyn Read + Send>>,
}

impl Read for SeekableFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let input = match &mut self.input {
            Some(input) => input,
            None => self.input.insert(self.location.open(self.at)?),
        };
        let read = input.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for SeekableFile {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        let at = at.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidInput, "a place before the file"))?;
        if at != self.at {
            self.input = None;
        }
        self.at = at;
        Ok(at)
    }
}

enum Batches {
    File(FileReader<BufReader<SeekableFile>>),
    Stream(StreamReader<Box<dyn Read + Send>>),
}

/// Batches of an IPC file in order.
pub(crate) struct ArrowRows {
    batches: Batches,
    schema: SchemaRef,
    /// The batch being sliced.
    current: Option<RecordBatch>,
    /// Index of the batch that `current` is, or that comes next.
    pub(crate) batch: u64,
    /// Next row in it.
    pub(crate) row: u64,
}

impl ArrowRows {
    /// Opens a file; `columns` are indices into its schema, ascending.
    pub(crate) fn open(
        location: &Location,
        size: u64,
        compression: Compression,
        columns: impl FnOnce(&SchemaRef) -> Result<Option<Vec<usize>>, String>,
        start: (u64, u64),
    ) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut input = compression.reader(location.open(0).map_err(text)?).map_err(text)?;
        let mut magic = Vec::new();
        input.by_ref().take(FILE_MAGIC.len() as u64).read_to_end(&mut magic).map_err(text)?;
        let arrow_text = |error: arrow::error::ArrowError| error.to_string();
        let mut rows = if magic == FILE_MAGIC {
            if compression != Compression::None {
                return Err("it is an Arrow IPC file inside a compressed file, which cannot be read without unpacking it; unpack \
                            it, or write an IPC stream ('arrow.container' = 'stream')"
                    .into());
            }
            drop(input);
            let open = |columns| {
                let file = SeekableFile { location: location.clone(), size, at: 0, input: None };
                FileReader::try_new(BufReader::with_capacity(1 << 20, file), columns).map_err(arrow_text)
            };
            let schema = open(None)?.schema();
            let mut reader = open(columns(&schema)?)?;
            if (start.0 as usize) < reader.num_batches() {
                reader.set_index(start.0 as usize).map_err(arrow_text)?;
            } else {
                reader.by_ref().for_each(drop);
            }
            Self { schema, batches: Batches::File(reader), current: None, batch: start.0, row: 0 }
        } else {
            let again: Box<dyn Read + Send> =
                Box::new(Cursor::new(magic).chain(BufReader::with_capacity(1 << 20, input)));
            let all = StreamReader::try_new(again, None).map_err(arrow_text)?;
            let schema = all.schema();
            let reader = match columns(&schema)? {
                None => all,
                columns => {
                    let input = compression.reader(location.open(0).map_err(text)?).map_err(text)?;
                    let input: Box<dyn Read + Send> = Box::new(BufReader::with_capacity(1 << 20, input));
                    StreamReader::try_new(input, columns).map_err(arrow_text)?
                }
            };
            let mut rows = Self { schema, batches: Batches::Stream(reader), current: None, batch: 0, row: 0 };
            while rows.batch < start.0 {
                if rows.read()?.is_none() {
                    break;
                }
                rows.batch += 1;
            }
            rows
        };
        rows.row = start.1;
        Ok(rows)
    }

    /// The file's schema, before projection.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&mut self) -> Result<Option<RecordBatch>, String> {
        let next = match &mut self.batches {
            Batches::File(reader) => reader.next(),
            Batches::Stream(reader) => reader.next(),
        };
        next.transpose().map_err(|error| error.to_string())
    }

    /// The next rows; `batch` and `row` then stand behind them.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, String> {
        loop {
            let current = match self.current.take() {
                Some(current) => current,
                None => match self.read()? {
                    Some(batch) => batch,
                    None => return Ok(None),
                },
            };
            let rows = current.num_rows() as u64;
            if self.row >= rows {
                self.batch += 1;
                self.row = 0;
                continue;
            }
            let count = (rows - self.row).min(DELTA_ROWS_MAX as u64);
            let slice = current.slice(self.row as usize, count as usize);
            self.row += count;
            if self.row == rows {
                self.batch += 1;
                self.row = 0;
            } else {
                self.current = Some(current);
            }
            return Ok(Some(slice));
        }
    }
}
