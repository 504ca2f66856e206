//! Decodes a block of text into columns and bad rows.
//!
//! The answer is a pure function of the block's bytes, so blocks can be decoded on any thread in any order. All records of a block
//! get a row; those that turn out bad are filtered out at the end, where it is known before which good row each of them stood.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int64Array, StringViewBuilder};
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::error::ArrowError;
use eagre_engine::source::BadRow;

use super::cell::{Cell, CellKind, Cells, ColumnBuilder, Escapes, RowErrors, clip};
use super::changelog::{ChangeScanner, ChangelogFormat};
use super::csv::Record;
use super::json::{ObjectScanner, ScanError};
use super::lines::{Block, RECORD_BYTES_MAX};
use super::{CsvFormat, Format, JsonFormat};

/// What a block holds.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The columns asked for, good rows only.
    pub(crate) columns: Vec<ArrayRef>,
    /// Offset of each good row in the stream.
    pub(crate) offsets: Vec<u64>,
    /// Weights of the good rows, where the format has changes.
    pub(crate) weights: Option<Int64Array>,
    pub(crate) bad_rows: Vec<BadRow>,
}

/// How the fields of a CSV file map to the wanted columns.
#[derive(Debug, Clone)]
pub(crate) struct CsvLayout {
    /// By field of the file: the wanted column.
    pub(crate) columns: Vec<Option<usize>>,
    /// The names of the fields, for messages.
    pub(crate) names: Vec<String>,
}

/// Decodes blocks of one file.
#[derive(Debug, Clone)]
pub(crate) struct LineDecoder {
    format: Format,
    /// The wanted columns.
    fields: Vec<Field>,
    layout: Option<Arc<CsvLayout>>,
    /// Names the file in bad rows.
    origin: Arc<str>,
}

/// The records of a block while they are looked at.
pub(super) struct Rows {
    starts: Vec<usize>,
    ends: Vec<usize>,
    pub(super) errors: RowErrors,
    /// `cells[column][row]`.
    pub(super) cells: Vec<Vec<Cell>>,
    /// By row, where the format has changes. Rows of one change begin at the same place.
    weights: Option<Vec<i64>>,
}

impl Rows {
    fn new(columns: usize, rows_guess: usize) -> Self {
        Self {
            starts: Vec::with_capacity(rows_guess),
            ends: Vec::with_capacity(rows_guess),
            errors: RowErrors::default(),
            cells: (0..columns).map(|_| Vec::with_capacity(rows_guess)).collect(),
            weights: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    #[inline]
    fn push(&mut self, start: usize, end: usize) -> usize {
        self.starts.push(start);
        self.ends.push(end);
        self.errors.push_row();
        for column in &mut self.cells {
            column.push(Cell::MISSING);
        }
        self.starts.len() - 1
    }

    /// A row of a change; where its line ends is known later.
    pub(super) fn push_change(&mut self, start: usize, weight: i64) -> usize {
        self.weights.get_or_insert_default().push(weight);
        self.push(start, start)
    }

    /// A row that cannot be read.
    fn push_broken(&mut self, start: usize) -> usize {
        if let Some(weights) = &mut self.weights {
            weights.push(1);
        }
        self.push(start, start)
    }

    /// Takes back rows from the end.
    pub(super) fn truncate(&mut self, rows: usize) {
        while self.len() > rows {
            self.remove(self.len() - 1);
        }
    }

    pub(super) fn remove(&mut self, row: usize) {
        self.starts.remove(row);
        self.ends.remove(row);
        self.errors.remove(row);
        for column in &mut self.cells {
            column.remove(row);
        }
        if let Some(weights) = &mut self.weights {
            weights.remove(row);
        }
    }
}

impl LineDecoder {
    pub(crate) fn new(format: Format, fields: Vec<Field>, layout: Option<Arc<CsvLayout>>, origin: Arc<str>) -> Self {
        Self { format, fields, layout, origin }
    }

    /// Decodes a block.
    pub(crate) fn decode(&self, block: &Block) -> Result<Decoded, ArrowError> {
        let origin = || self.origin.to_string();
        if block.overlong {
            let reason = format!("the record has more than {} MiB; raw holds its beginning", RECORD_BYTES_MAX >> 20);
            let raw = block.bytes.clone();
            let bad_rows = vec![BadRow { before_row: 0, origin: origin(), offset: block.start, reason, raw }];
            return Ok(Decoded {
                columns: self.build_columns("", &[], &mut RowErrors::default()),
                offsets: vec![],
                weights: matches!(self.format, Format::Changelog(_)).then(|| Int64Array::from(Vec::<i64>::new())),
                bad_rows,
            });
        }
        let bytes: &[u8] = &block.bytes;
        // A byte order mark means nothing in UTF-8.
        let first = if block.start == 0 && bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let mut not_utf8 = Vec::new();
        let (text, blanked): (&str, Vec<u8>);
        text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => {
                // Rare: records with broken text become NULs of the same length, which no format takes for a value.
                blanked = self.blank_broken_text(bytes, first, &mut not_utf8);
                std::str::from_utf8(&blanked).map_err(|error| ArrowError::ParseError(error.to_string()))?
            }
        };
        let mut rows = match &self.format {
            Format::Csv(csv) => self.scan_csv(csv, text, first),
            Format::Json(_) => self.scan_json(text, first),
            Format::Changelog(changelog) => self.scan_changes(changelog, text, first),
            _ => self.scan_raw(text, first),
        };
        for (start, reason) in not_utf8 {
            if let Ok(row) = rows.starts.binary_search(&start) {
                rows.errors.replace(row, reason);
            }
        }
        let columns = self.build_columns(text, &rows.cells, &mut rows.errors);
        let weights = rows.weights.take().map(Int64Array::from);
        let offset = |row: usize| block.start + rows.starts[row] as u64;
        if rows.errors.count() == 0 {
            let offsets = (0..rows.starts.len()).map(offset).collect();
            return Ok(Decoded { columns, offsets, weights, bad_rows: Vec::new() });
        }
        let (mut offsets, mut bad_rows, mut good) = (Vec::new(), Vec::new(), Vec::new());
        let mut row = 0;
        while row < rows.starts.len() {
            // The rows of one record: one, but for an update. Half of one would be a wrong answer.
            let next = row + rows.starts[row..].iter().take_while(|start| **start == rows.starts[row]).count();
            let reason = (row..next).find_map(|row| rows.errors.take(row));
            good.resize(next, reason.is_none());
            match reason {
                None => offsets.extend((row..next).map(offset)),
                Some(reason) => bad_rows.push(BadRow {
                    before_row: offsets.len(),
                    origin: origin(),
                    offset: offset(row),
                    reason,
                    raw: bytes[rows.starts[row]..rows.ends[row]].to_vec(),
                }),
            }
            row = next;
        }
        let good = BooleanArray::from(good);
        let columns = columns.iter().map(|column| filter(column, &good)).collect::<Result<_, _>>()?;
        let kept = |weights: Int64Array| -> Result<Int64Array, ArrowError> {
            Ok(filter(&weights as &dyn Array, &good)?.as_primitive::<Int64Type>().clone())
        };
        Ok(Decoded { columns, offsets, weights: weights.map(kept).transpose()?, bad_rows })
    }

    fn build_columns(&self, text: &str, cells: &[Vec<Cell>], errors: &mut RowErrors) -> Vec<ArrayRef> {
        let (escapes, ignore_errors, fail_on_missing) = match &self.format {
            Format::Json(JsonFormat { ignore_parse_errors, fail_on_missing_field, .. })
            | Format::Changelog(ChangelogFormat {
                json: JsonFormat { ignore_parse_errors, fail_on_missing_field, .. },
                ..
            }) => (Escapes::Json, *ignore_parse_errors, *fail_on_missing_field),
            Format::Csv(csv) => {
                let escapes = Escapes::Csv { quote: csv.dialect.quote, escape: csv.dialect.escape };
                (escapes, csv.ignore_parse_errors, false)
            }
            _ => (Escapes::Json, false, false),
        };
        let build = |(index, field): (usize, &Field)| {
            let cells = cells.get(index).map_or(&[][..], Vec::as_slice);
            if let Format::Raw = self.format {
                return raw_column(text, cells, field.data_type());
            }
            let mut builder = ColumnBuilder { block: text, escapes, ignore_errors, fail_on_missing, errors };
            builder.build(Cells { path: field.name(), cells, rows: None }, field)
        };
        self.fields.iter().enumerate().map(build).collect()
    }

    fn scan_json(&self, text: &str, first: usize) -> Rows {
        let mut rows = Rows::new(self.fields.len(), text.len() / 64);
        let mut scanner = ObjectScanner::new(self.fields.iter().map(|field| field.name().as_str()));
        let bytes = text.as_bytes();
        scan_lines(text, first, &mut rows, |rows, line_start, start| {
            let row = rows.push(line_start, line_start);
            scanner.scan(bytes, start, row, &mut rows.cells)
        });
        rows
    }

    fn scan_changes(&self, format: &ChangelogFormat, text: &str, first: usize) -> Rows {
        let mut rows = Rows::new(self.fields.len(), text.len() / 64);
        rows.weights = Some(Vec::new());
        let mut scanner = ChangeScanner::new(format, &self.fields);
        scan_lines(text, first, &mut rows, |rows, line_start, start| scanner.scan(text, line_start, start, rows));
        rows
    }

    fn scan_csv(&self, format: &CsvFormat, text: &str, first: usize) -> Rows {
        let bytes = text.as_bytes();
        let mut rows = Rows::new(self.fields.len(), bytes.len() / 64);
        let empty = CsvLayout { columns: Vec::new(), names: Vec::new() };
        let layout = self.layout.as_deref().unwrap_or(&empty);
        let null_literal = format.null_literal.as_deref();
        // Without a null literal an empty field is null, unless it is quoted, or text that must not be null: as in PostgreSQL.
        let empty_is_null: Vec<bool> = self
            .fields
            .iter()
            .map(|field| {
                let text = can_be_empty(field.data_type());
                !text || (null_literal.is_none() && field.is_nullable())
            })
            .collect();
        let mut at = first;
        while at < bytes.len() {
            if let Some(end) = format.dialect.skipped_line(bytes, at, true) {
                // In a file of one column a blank line is a null, as in PostgreSQL.
                let comment = format.dialect.allow_comments && bytes[at] == b'#';
                if layout.columns.len() != 1 || comment {
                    at = end;
                    continue;
                }
            }
            let row = rows.push(at, at);
            let mut place = 0;
            let cells = &mut rows.cells;
            let record = format.dialect.scan(bytes, at, true, |span| {
                if let Some(&Some(column)) = layout.columns.get(place) {
                    let value = span.cell.text(text);
                    let null =
                        !span.quoted && (null_literal == Some(value) || (value.is_empty() && empty_is_null[column]));
                    let quoted_empty =
                        span.quoted && value.is_empty() && !can_be_empty(self.fields[column].data_type());
                    let kind = if null || quoted_empty { CellKind::Null } else { span.cell.kind };
                    cells[column][row] = Cell { kind, ..span.cell };
                }
                place += 1;
            });
            let end = match record {
                Record::Whole(end) => {
                    if place != layout.columns.len() {
                        let names = layout.names.join(", ");
                        let expected = layout.columns.len();
                        rows.errors.set(row, || format!("the record has {place} fields, not {expected} ({names})"));
                    }
                    end
                }
                Record::Broken(end, expected) => {
                    rows.errors.set(row, || format!("broken CSV: expected {expected}"));
                    end
                }
                Record::Open => bytes.len(),
            };
            if rows.errors.is_bad(row) {
                for column in &mut rows.cells {
                    column[row] = Cell::MISSING;
                }
            }
            let line_end = if bytes[at..end].ends_with(b"\n") { end - 1 } else { end };
            rows.ends[row] = trim_line_end(bytes, at, line_end);
            at = end;
        }
        rows
    }

    fn scan_raw(&self, text: &str, first: usize) -> Rows {
        let bytes = text.as_bytes();
        let mut rows = Rows::new(self.fields.len(), bytes.len() / 64);
        let mut at = first;
        while at < bytes.len() {
            let line_end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end);
            let end = trim_line_end(bytes, at, line_end);
            let row = rows.push(at, end);
            for column in &mut rows.cells {
                column[row] = Cell::new(CellKind::Text, at, end);
            }
            at = line_end + 1;
        }
        rows
    }

    /// A copy in which the records that are not UTF-8 are gone, and where they were.
    fn blank_broken_text(&self, bytes: &[u8], first: usize, not_utf8: &mut Vec<(usize, String)>) -> Vec<u8> {
        let mut copy = bytes.to_vec();
        let mut at = first;
        while at < bytes.len() {
            let line_end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end);
            let end = match &self.format {
                Format::Csv(csv) if csv.dialect.skipped_line(bytes, at, true).is_none() => {
                    match csv.dialect.scan(bytes, at, true, |_| {}) {
                        Record::Whole(end) | Record::Broken(end, _) => end,
                        Record::Open => bytes.len(),
                    }
                }
                _ => (line_end + 1).min(bytes.len()),
            };
            let kept_end = if bytes[at..end].ends_with(b"\n") { end - 1 } else { end };
            if let Err(error) = std::str::from_utf8(&bytes[at..kept_end]) {
                copy[at..kept_end].fill(0);
                let valid = error.valid_up_to();
                let before = String::from_utf8_lossy(&bytes[at..at + valid]);
                let skip = before.chars().count().saturating_sub(20);
                let before: Cow<'_, str> = before.chars().skip(skip).collect();
                let byte = bytes[at + valid];
                not_utf8
                    .push((at, format!("not UTF-8: byte {byte:#04x} after `{before}` (byte {valid} of the record)")));
            }
            at = end;
        }
        copy
    }
}

/// Has `scan` read the object of each line that is not blank: it is told where the line and its object begin, adds the line's rows and
/// says where the object ends. A line that is no object becomes one bad row.
#[inline]
fn scan_lines(
    text: &str,
    first: usize,
    rows: &mut Rows,
    mut scan: impl FnMut(&mut Rows, usize, usize) -> Result<usize, ScanError>,
) {
    let bytes = text.as_bytes();
    let mut at = first;
    while at < bytes.len() {
        // The scan mostly ends at the line's end, so looking for that first would read everything twice.
        let start = at + bytes[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
        if bytes.get(start).is_none_or(|byte| *byte == b'\n') {
            at = start + 1;
            continue;
        }
        let line_start = at;
        let first_row = rows.len();
        let end = match scan(rows, line_start, start) {
            Ok(end) => {
                let end = end + bytes[end..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
                match bytes.get(end) {
                    None | Some(b'\n') => Ok(end),
                    Some(_) => Err(ScanError { at: end, expected: "the end of the line" }),
                }
            }
            Err(error) => Err(error),
        };
        at = match end {
            Ok(end) => end,
            Err(error) => {
                let end = memchr::memchr(b'\n', &bytes[line_start..]).map_or(bytes.len(), |at| line_start + at);
                rows.truncate(first_row);
                let row = rows.push_broken(line_start);
                rows.errors.set(row, || broken_json(&text[line_start..end], error.at - line_start, error.expected));
                end
            }
        };
        let line_end = trim_line_end(bytes, line_start, at);
        rows.ends[first_row..].fill(line_end);
        at += 1;
    }
}

/// Whether an empty field is a value of this type, and not just none.
fn can_be_empty(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
    )
}

/// Leaves out a carriage return before a line's end.
fn trim_line_end(bytes: &[u8], start: usize, end: usize) -> usize {
    if end > start && bytes[end - 1] == b'\r' { end - 1 } else { end }
}

fn broken_json(line: &str, at: usize, expected: &str) -> String {
    let found = match line.get(at.min(line.len())..) {
        Some("") | None => "the line ends".to_owned(),
        Some(rest) => format!("found `{}`", clip(rest.get(..rest.len().min(20)).unwrap_or(rest))),
    };
    format!("broken JSON: expected {expected} at byte {at} of the line, {found}")
}

fn raw_column(text: &str, cells: &[Cell], data_type: &DataType) -> ArrayRef {
    if let DataType::Binary | DataType::LargeBinary | DataType::BinaryView = data_type {
        let mut builder = BinaryBuilder::new();
        cells.iter().for_each(|cell| builder.append_value(cell.text(text)));
        let array: ArrayRef = Arc::new(builder.finish());
        return cast(&array, data_type).unwrap_or(array);
    }
    let mut builder = StringViewBuilder::with_capacity(cells.len());
    cells.iter().for_each(|cell| builder.append_value(cell.text(text)));
    let array: ArrayRef = Arc::new(builder.finish());
    cast(&array, data_type).unwrap_or(array)
}
