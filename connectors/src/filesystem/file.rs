//! One file, read in order from a position.
//!
//! A position holds where the next record starts and a fingerprint of the file, so that a restart over a file that was replaced is
//! an error and not a wrong answer. For plain text the fingerprint is of the file's beginning and of the bytes right before the
//! position: the file may have grown since (or been copied), what was read is still what it was. For all else it is of both ends
//! and the size. Modification times are not looked at: copying a folder must not break its pipeline.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use crossbeam_channel::Sender;
use eagre_engine::delta::batch_of;
use eagre_engine::source::{PartitionId, Position, SourceBatch, StopFlag};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::location::FoundFile;
use crate::error::io_reason;
use crate::error::nearest;
use crate::format::adapt::{adapt, match_columns};
use crate::format::arrow_ipc::{ArrowRows, FILE_MAGIC};
use crate::format::cell::{Cell, CellKind, Cells, ColumnBuilder, Escapes, RowErrors};
use crate::format::compression::Compression;
use crate::format::decode::{CsvLayout, LineDecoder};
use crate::format::lines::{Block, BlockReader, Cut};
use crate::format::{CsvFormat, CsvHeader, Format};

/// How many bytes of each end make a fingerprint.
const FINGERPRINT_BYTES: u64 = 4 << 10;
/// How long a file of a followed folder may stay as it is without its end.
pub(crate) const UNFINISHED_MAX: Duration = Duration::from_secs(10);
/// How many bytes before a position are compared.
const BEFORE_BYTES: u64 = 64;

/// Where a reading of a file can start again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct FilePosition {
    /// Text: offset in the (decompressed) stream. Parquet: number of the row. Arrow: number of the batch.
    pub(crate) at: u64,
    /// Arrow: the row in the batch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) row: u64,
    /// The file's size when it was opened.
    pub(crate) size: u64,
    /// Hash of what must not change.
    pub(crate) fingerprint: u64,
    /// Plain text: hash of the bytes right before `at`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) before: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl FilePosition {
    fn value(&self) -> Position {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Where a column of the output comes from.
#[derive(Debug, Clone)]
pub(crate) enum ColumnOrigin {
    /// A column of the file: index into [`ReadPlan::fields`].
    File(usize),
    /// A metadata key.
    Metadata(String),
    /// A value in the path, `name=value/`.
    Path,
}

/// What to read of each file.
#[derive(Debug)]
pub(crate) struct ReadPlan {
    pub(crate) table: String,
    pub(crate) format: Format,
    pub(crate) compression: Option<Compression>,
    /// All columns of the table that files hold, in order: what CSV counts by.
    pub(crate) file_columns: Vec<Field>,
    /// The wanted ones of them.
    pub(crate) fields: Vec<Field>,
    /// The output's columns and where each comes from.
    pub(crate) schema: SchemaRef,
    pub(crate) origins: Vec<ColumnOrigin>,
    /// The file may grow while it is read.
    pub(crate) watched: bool,
    /// Threads that decode.
    pub(crate) threads: usize,
}

/// A piece of work for the pool.
pub(crate) type Job = Box<dyn FnOnce() + Send>;
/// A batch, or why there is none.
pub(crate) type BatchResult = Result<Box<SourceBatch>, String>;

/// What a file's thread has to say, in order.
pub(crate) enum FileEvent {
    /// A batch that is being decoded.
    Decoding(crossbeam_channel::Receiver<BatchResult>),
    /// A batch.
    Batch(BatchResult),
    /// All that is there was read; where to go on if more comes.
    End(FilePosition),
    /// The file is still being written: nothing of it can be read before its last bytes are there.
    Unfinished,
}

/// Puts metadata and path columns beside what was read.
struct Finisher {
    plan: Arc<ReadPlan>,
    file: FoundFile,
}

impl Finisher {
    fn batch(
        &self,
        columns: Vec<ArrayRef>,
        offsets: Offsets<'_>,
        rows: usize,
    ) -> Result<arrow::array::RecordBatch, String> {
        let text = |error: ArrowError| error.to_string();
        let column = |(index, origin): (usize, &ColumnOrigin)| -> Result<ArrayRef, String> {
            let field = self.plan.schema.field(index);
            let made: ArrayRef = match origin {
                ColumnOrigin::File(index) => return Ok(Arc::clone(&columns[*index])),
                ColumnOrigin::Path => return self.path_column(field, rows),
                ColumnOrigin::Metadata(key) => match key.as_str() {
                    "file.path" => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.file.shown, rows))),
                    "file.name" => {
                        let name = self.file.shown.rsplit('/').next().unwrap_or_default();
                        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(name, rows)))
                    }
                    "file.size" => Arc::new(Int64Array::from_value(self.file.size as i64, rows)),
                    "file.modification-time" => Arc::new(
                        TimestampMillisecondArray::from_value(self.file.modified_ms, rows).with_timezone("UTC"),
                    ),
                    _ => match offsets {
                        Offsets::Each(offsets) => Arc::new(UInt64Array::from_iter_values(offsets.iter().copied())),
                        Offsets::From(first, None) => {
                            Arc::new(UInt64Array::from_iter_values(first..first + rows as u64))
                        }
                        Offsets::From(first, Some(kept)) => {
                            let numbers = kept.iter().enumerate().filter(|(_, kept)| *kept == Some(true));
                            Arc::new(UInt64Array::from_iter_values(numbers.map(|(row, _)| first + row as u64)))
                        }
                    },
                },
            };
            cast(&made, field.data_type()).map_err(text)
        };
        let columns = self.plan.origins.iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
        batch_of(&self.plan.schema, columns, rows).map_err(|error| error.to_string())
    }

    /// The value of a `PARTITIONED BY` column from the path.
    fn path_column(&self, field: &Field, rows: usize) -> Result<ArrayRef, String> {
        let value = self.file.shown.split('/').rev().find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.eq_ignore_ascii_case(field.name()).then(|| percent_decode(value))
        });
        let Some(value) = value else {
            let name = field.name();
            return Err(format!("the path has no folder `{name}=..`, and the table is partitioned by `{name}`"));
        };
        let cell = match value == super::sink::NULL_PARTITION {
            true => Cell { kind: CellKind::Null, ..Cell::MISSING },
            false => Cell::new(CellKind::Text, 0, value.len()),
        };
        let mut errors = RowErrors::with_rows(rows);
        let mut builder = ColumnBuilder {
            block: &value,
            escapes: Escapes::Csv { quote: None, escape: None },
            ignore_errors: false,
            fail_on_missing: false,
            errors: &mut errors,
        };
        // Booleans are written as words, which a text cell takes as well.
        let array = builder.build(Cells { path: field.name(), cells: &vec![cell; rows], rows: None }, field);
        match (0..rows).find_map(|row| errors.take(row)) {
            Some(reason) => Err(format!("{reason} (in the path)")),
            None => Ok(array),
        }
    }
}

/// The number of each row, for the metadata column `offset`.
enum Offsets<'a> {
    Each(&'a [u64]),
    /// Counted from the first; of those, the ones that were kept.
    From(u64, Option<&'a BooleanArray>),
}

/// Undoes the escapes of [`super::sink`]'s folder names.
pub(super) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads one file on a thread of its own and sends what it finds.
pub(crate) struct FileTask {
    pub(crate) plan: Arc<ReadPlan>,
    pub(crate) file: FoundFile,
    pub(crate) partition: PartitionId,
    /// Where to start, and whether that must be checked against the file (it comes from a checkpoint).
    pub(crate) start: Option<FilePosition>,
    /// How long a file without its end has been waited for, if it is such a one.
    pub(crate) waited: Option<Duration>,
    pub(crate) jobs: Sender<Job>,
    pub(crate) events: Sender<FileEvent>,
    pub(crate) stop: StopFlag,
}

impl FileTask {
    /// Runs to the end of the file.
    pub(crate) fn run(self) {
        let outcome = if self.plan.format.is_lines() { self.run_lines() } else { self.run_rows() };
        if let Err(reason) = outcome {
            let path = &self.file.shown;
            // Nobody listens when the pipeline has stopped.
            let _ = self.events.send(FileEvent::Batch(Err(format!("`{path}`: {reason}"))));
        }
    }

    fn compression(&self) -> Compression {
        self.plan.compression.unwrap_or_else(|| Compression::of_path(&self.file.shown))
    }

    fn hash_range(&self, start: u64, bytes: u64) -> Result<u64, String> {
        self.file.location.read_range(start, bytes).map(|bytes| xxh3_64(&bytes)).map_err(|error| io_reason(&error))
    }

    /// The fingerprint of the file as it was when it had `size` bytes.
    fn fingerprint(&self, size: u64, growing: bool) -> Result<u64, String> {
        let head_bytes = size.min(FINGERPRINT_BYTES);
        let head = self.hash_range(0, head_bytes)?;
        if growing {
            return Ok(head);
        }
        let tail = self.hash_range(size - head_bytes, head_bytes)?;
        Ok(head ^ tail.rotate_left(1) ^ size)
    }

    /// Compares the file with what a checkpoint remembers of it.
    fn check(&self, start: &FilePosition, growing: bool) -> Result<(), String> {
        let changed = |what: &str| {
            let size = start.size;
            format!(
                "the file is not the one that the checkpoint was taken over ({what}; it had {size} bytes); put the old file back, \
                 or start over without the checkpoint (`--fresh`)"
            )
        };
        let size = self.file.size;
        if if growing { size < start.size.min(start.at) } else { size != start.size } {
            return Err(changed(&format!("it now has {size} bytes")));
        }
        // A file that has grown is compared as far as it went then.
        let seen = if growing { start.size.min(size) } else { start.size };
        if self.fingerprint(seen, growing)? != start.fingerprint {
            return Err(changed("its content differs"));
        }
        if growing && start.at > 0 {
            let bytes = start.at.min(BEFORE_BYTES);
            if self.hash_range(start.at - bytes, bytes)? != start.before {
                return Err(changed("its content differs"));
            }
        }
        Ok(())
    }

    fn run_lines(&self) -> Result<(), String> {
        let text = |error: io::Error| io_reason(&error);
        let compression = self.compression();
        let growing = compression == Compression::None;
        if self.plan.watched && !growing && self.start.is_none() && !self.unpacks(compression)? {
            return self.unfinished();
        }
        let start = match &self.start {
            Some(start) => {
                self.check(start, growing)?;
                start.clone()
            }
            None => {
                let size = self.file.size;
                FilePosition { size, fingerprint: self.fingerprint(size, growing)?, ..FilePosition::default() }
            }
        };
        let csv = match &self.plan.format {
            Format::Csv(csv) => Some(csv),
            _ => None,
        };
        let mut first = 0;
        let mut layout = None;
        if let Some(csv) = csv {
            let input = compression.reader(self.file.location.open(0).map_err(text)?).map_err(text)?;
            let head = first_bytes(input).map_err(text)?;
            // A header is a line like others: of a file that is followed, it is waited for.
            let is_written = csv.header == CsvHeader::No || head.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
            if self.plan.watched && growing && start.at == 0 && !is_written {
                let _ = self.events.send(FileEvent::End(start));
                return Ok(());
            }
            let (found, after) = csv_layout(csv, &head, &self.plan.file_columns, &self.plan.fields)?;
            layout = Some(Arc::new(found));
            first = after;
        }
        let offset = start.at.max(first);
        let mut input = if growing {
            self.file.location.open(offset).map_err(text)?
        } else {
            let mut input = compression.reader(self.file.location.open(0).map_err(text)?).map_err(text)?;
            BlockReader::skip(input.as_mut(), offset).map_err(text)?;
            input
        };
        if !self.plan.watched && growing {
            // What is appended while the file is read belongs to it or not by chance; the size at the start decides.
            let bytes = self.file.size.saturating_sub(offset);
            input = Box::new(io::Read::take(input, bytes));
        }
        let take_last = !(self.plan.watched && growing);
        let dialect = csv.map(|csv| csv.dialect.clone());
        let mut blocks = BlockReader::new(input, offset, dialect, take_last, false);
        let decoder = LineDecoder::new(
            self.plan.format.clone(),
            self.plan.fields.clone(),
            layout,
            Arc::from(self.file.shown.as_str()),
        );
        let mut position = start;
        loop {
            let before_end = blocks.offset();
            let cut =
                blocks.next().map_err(|error| format!("cannot be read at byte {before_end}: {}", io_reason(&error)))?;
            let Cut::Block(block) = cut else {
                let _ = self.events.send(FileEvent::End(position));
                return Ok(());
            };
            let begin = position.clone();
            position.at = block.end;
            if growing {
                position.before = match block.overlong || (block.bytes.len() as u64) < BEFORE_BYTES {
                    true => self.hash_range(block.end - block.end.min(BEFORE_BYTES), block.end.min(BEFORE_BYTES))?,
                    false => xxh3_64(&block.bytes[block.bytes.len() - BEFORE_BYTES as usize..]),
                };
            }
            let (sender, receiver) = crossbeam_channel::bounded(1);
            let job = self.decode_job(&decoder, block, &begin, &position, sender);
            if self.stop.is_stopped()
                || self.events.send(FileEvent::Decoding(receiver)).is_err()
                || self.jobs.send(job).is_err()
            {
                return Ok(());
            }
        }
    }

    fn finisher(&self) -> Finisher {
        Finisher { plan: Arc::clone(&self.plan), file: self.file.clone() }
    }

    fn decode_job(
        &self,
        decoder: &LineDecoder,
        block: Block,
        begin: &FilePosition,
        end: &FilePosition,
        sender: Sender<BatchResult>,
    ) -> Job {
        let (decoder, partition, finisher) = (decoder.clone(), Arc::clone(&self.partition), self.finisher());
        let (start, end) = (begin.value(), end.value());
        Box::new(move || {
            let decode = || {
                let decoded = decoder.decode(&block).map_err(|error| format!("`{partition}`: {error}"))?;
                let rows = decoded.offsets.len();
                let batch = finisher
                    .batch(decoded.columns, Offsets::Each(&decoded.offsets), rows)
                    .map_err(|reason| format!("`{partition}`: {reason}"))?;
                let (weights, bad_rows) = (decoded.weights, decoded.bad_rows);
                Ok(Box::new(SourceBatch { partition: Arc::clone(&partition), start, end, batch, weights, bad_rows }))
            };
            let _ = sender.send(decode());
        })
    }

    /// Whether the end is there of a file that can only be read from its end.
    fn has_end(&self) -> Result<bool, String> {
        let magic: &[u8] = match &self.plan.format {
            #[cfg(feature = "parquet")]
            Format::Parquet(_) => b"PAR1",
            // A stream is read from its beginning.
            _ if self.bytes(0, FILE_MAGIC.len())? != FILE_MAGIC => return Ok(self.file.size > 0),
            _ => FILE_MAGIC,
        };
        Ok(self.file.size > magic.len() as u64
            && self.bytes(self.file.size - magic.len() as u64, magic.len())? == magic)
    }

    /// Whether the end is there of a compressed file, which has to be unpacked for that; where nobody has written for long, reading tells.
    fn unpacks(&self, compression: Compression) -> Result<bool, String> {
        let written = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(self.file.modified_ms).unwrap_or(0));
        if self.waited.is_none() && written.elapsed().is_ok_and(|since| since > UNFINISHED_MAX) {
            return Ok(true);
        }
        let listed = self.file.location.open(0).map(|input| Box::new(input.take(self.file.size)));
        let unpacked = listed.and_then(|input| io::copy(&mut compression.reader(input)?, &mut io::sink()));
        match unpacked {
            Ok(_) => Ok(self.file.size > 0),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(format!("cannot be unpacked: {}", io_reason(&error))),
        }
    }

    fn unfinished(&self) -> Result<(), String> {
        if self.waited.is_none_or(|waited| waited < UNFINISHED_MAX) {
            let _ = self.events.send(FileEvent::Unfinished);
            return Ok(());
        }
        Err(format!(
            "its end is missing, and it has not grown for {} seconds; remove it, or put it there anew: under a name that starts with `.` \
             while it is written, to be renamed then",
            UNFINISHED_MAX.as_secs()
        ))
    }

    fn bytes(&self, start: u64, count: usize) -> Result<Vec<u8>, String> {
        self.file.location.read_range(start, (count as u64).min(self.file.size)).map_err(|error| io_reason(&error))
    }

    fn run_rows(&self) -> Result<(), String> {
        if self.plan.watched && self.start.is_none() && !self.has_end()? {
            return self.unfinished();
        }
        let start = match &self.start {
            Some(start) => {
                self.check(start, false)?;
                start.clone()
            }
            None => {
                let size = self.file.size;
                FilePosition { size, fingerprint: self.fingerprint(size, false)?, ..FilePosition::default() }
            }
        };
        match &self.plan.format {
            #[cfg(feature = "parquet")]
            Format::Parquet(_) => self.run_parquet(start),
            _ => self.run_arrow(start),
        }
    }

    /// Hands over rows that came with types of their own. False: the pipeline has stopped.
    fn send_rows(
        &self,
        finisher: &Finisher,
        columns: Vec<ArrayRef>,
        rows: usize,
        first_row: u64,
        start: &FilePosition,
        end: &FilePosition,
    ) -> Result<bool, String> {
        let adapted =
            adapt(columns, &self.plan.fields, rows, &self.file.shown, first_row).map_err(|error| error.to_string())?;
        let kept = adapted.kept.as_ref().map_or(rows, BooleanArray::true_count);
        let batch = finisher.batch(adapted.columns, Offsets::From(first_row, adapted.kept.as_ref()), kept)?;
        let partition = Arc::clone(&self.partition);
        let (start, end) = (start.value(), end.value());
        let batch = SourceBatch { partition, start, end, batch, weights: None, bad_rows: adapted.bad_rows };
        Ok(!self.stop.is_stopped() && self.events.send(FileEvent::Batch(Ok(Box::new(batch)))).is_ok())
    }

    #[cfg(feature = "parquet")]
    fn run_parquet(&self, start: FilePosition) -> Result<(), String> {
        use crate::format::parquet::ParquetFile;
        let file = ParquetFile::open(&self.file.location, self.file.size)?;
        let schema = file.schema();
        let indices = match_columns(&schema, &self.plan.fields, "the file")?;
        let mut file_order = indices.clone();
        file_order.sort_unstable();
        file_order.dedup();
        let mut rows = file.rows(file_order.clone(), start.at, self.plan.threads);
        let finisher = self.finisher();
        let mut position = start;
        while let Some(batch) = rows.next()? {
            let begin = position.clone();
            position.at += batch.num_rows() as u64;
            let columns = pick(&batch, &indices, &file_order);
            if !self.send_rows(&finisher, columns, batch.num_rows(), begin.at, &begin, &position)? {
                return Ok(());
            }
        }
        let _ = self.events.send(FileEvent::End(position));
        Ok(())
    }

    fn run_arrow(&self, start: FilePosition) -> Result<(), String> {
        let mut indices = Vec::new();
        let mut file_order = Vec::new();
        let (plan, location) = (&self.plan, &self.file.location);
        let choose = |schema: &SchemaRef| {
            indices = match_columns(schema, &plan.fields, "the file")?;
            file_order = indices.clone();
            file_order.sort_unstable();
            file_order.dedup();
            Ok(Some(file_order.clone()))
        };
        let mut rows = ArrowRows::open(location, self.file.size, self.compression(), choose, (start.at, start.row))?;
        let finisher = self.finisher();
        let mut position = start;
        while let Some(batch) = rows.next()? {
            let begin = position.clone();
            (position.at, position.row) = (rows.batch, rows.row);
            let columns = pick(&batch, &indices, &file_order);
            // The number of the batch in the high half: a row's number in the whole file is not known without reading all of it.
            let first_row = (begin.at << 32) | begin.row;
            if !self.send_rows(&finisher, columns, batch.num_rows(), first_row, &begin, &position)? {
                return Ok(());
            }
        }
        let _ = self.events.send(FileEvent::End(position));
        Ok(())
    }
}

/// The wanted columns out of those that were read in the file's order.
fn pick(batch: &arrow::array::RecordBatch, indices: &[usize], file_order: &[usize]) -> Vec<ArrayRef> {
    let place = |index: &usize| file_order.binary_search(index).unwrap_or_default();
    indices.iter().map(|index| Arc::clone(batch.column(place(index)))).collect()
}

/// The beginning of a file, enough for a header.
fn first_bytes(input: Box<dyn io::Read + Send>) -> io::Result<Vec<u8>> {
    const HEADER_BYTES_MAX: u64 = 256 << 10;
    let mut head = Vec::new();
    io::Read::take(input, HEADER_BYTES_MAX).read_to_end(&mut head)?;
    Ok(head)
}

/// How a CSV file's fields map to the wanted columns, and where the first record starts.
pub(crate) fn csv_layout(
    csv: &CsvFormat,
    head: &[u8],
    file_columns: &[Field],
    wanted: &[Field],
) -> Result<(CsvLayout, u64), String> {
    let mark = if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let by_place = || {
        let column = |field: &Field| wanted.iter().position(|known| known.name() == field.name());
        CsvLayout {
            columns: file_columns.iter().map(column).collect(),
            names: file_columns.iter().map(|field| field.name().clone()).collect(),
        }
    };
    if csv.header == CsvHeader::No {
        return Ok((by_place(), 0));
    }
    let Some((names, end)) = csv.dialect.first_record(&head[mark..]) else {
        return Ok((by_place(), 0));
    };
    let end = (mark + end) as u64;
    let find = |wanted: &str| {
        let exact = names.iter().position(|name| name == wanted);
        exact.or_else(|| names.iter().position(|name| name.to_lowercase() == wanted.to_lowercase()))
    };
    match csv.header {
        CsvHeader::Ignored => return Ok((by_place(), end)),
        CsvHeader::Auto => {
            // A header has all of the table's columns, or nothing but columns of it.
            let known =
                |name: &String| file_columns.iter().any(|field| field.name().to_lowercase() == name.to_lowercase());
            let all_found = file_columns.iter().all(|field| find(field.name()).is_some());
            if file_columns.is_empty() || !(all_found || names.iter().all(known)) {
                return Ok((by_place(), 0));
            }
        }
        _ => {}
    }
    let mut columns = vec![None; names.len()];
    for (index, field) in wanted.iter().enumerate() {
        match find(field.name()) {
            Some(place) => columns[place] = Some(index),
            None => {
                let near = nearest(field.name(), names.iter().map(String::as_str));
                let (name, all) = (field.name(), names.join(", "));
                return Err(format!("the header has no column `{name}`; did you mean `{near}`? It has {all}"));
            }
        }
    }
    Ok((CsvLayout { columns, names }, end))
}

/// Whether a metadata value can be put into a column of this type.
pub(crate) fn metadata_fits(key: &str, data_type: &DataType) -> bool {
    let from = match key {
        "file.path" | "file.name" => DataType::Utf8,
        "file.modification-time" => DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("UTC".into())),
        _ => DataType::Int64,
    };
    arrow::compute::can_cast_types(&from, data_type)
}
