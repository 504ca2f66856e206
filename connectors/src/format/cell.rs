//! Cells: where the values of a block of text are, before anyone looks at them.
//!
//! JSON and CSV are read in two passes. The first walks the text once, checks its form and notes for each wanted column where its
//! value is; the second turns a column's cells into an array, one tight loop for each type. So a column that is not asked for costs
//! its scan only; a broken row leaves a hole that a filter closes at the end, and all other rows keep going; and every reason can
//! name the column and the value. (arrow-json's tape and arrow-csv's records give up a whole batch at the first broken row, and
//! accept a text that runs over several lines as one row.)

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BinaryViewBuilder, BooleanBuilder, FixedSizeBinaryBuilder, LargeBinaryBuilder,
    LargeStringBuilder, ListArray, MapArray, NullArray, PrimitiveArray, StringBuilder, StringViewBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::json::{self, ObjectScanner};
use super::scalar;

/// What kind of value a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellKind {
    /// There is no such key in the object.
    Missing,
    /// There is no value, and none is needed: the row goes, and only its key counts.
    Stale,
    Null,
    True,
    False,
    Number,
    /// Text as it stands.
    Text,
    /// Text with escapes to resolve.
    Escaped,
    Object,
    Array,
}

/// A value's place in the block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) start: u32,
    pub(crate) len: u32,
    pub(crate) kind: CellKind,
}

impl Cell {
    pub(crate) const MISSING: Self = Self { start: 0, len: 0, kind: CellKind::Missing };

    pub(crate) fn new(kind: CellKind, start: usize, end: usize) -> Self {
        Self { start: start as u32, len: (end - start) as u32, kind }
    }

    #[inline]
    pub(crate) fn text<'a>(&self, block: &'a str) -> &'a str {
        &block[self.start as usize..(self.start + self.len) as usize]
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.kind, CellKind::Missing | CellKind::Stale | CellKind::Null)
    }
}

/// How escapes in a text are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escapes {
    Json,
    Csv { quote: Option<u8>, escape: Option<u8> },
}

/// The rows of a block that cannot be read, each with its first reason.
#[derive(Debug, Default)]
pub(crate) struct RowErrors {
    reasons: Vec<Option<String>>,
    count: usize,
}

impl RowErrors {
    pub(crate) fn push_row(&mut self) {
        self.reasons.push(None);
    }

    pub(crate) fn with_rows(rows: usize) -> Self {
        Self { reasons: vec![None; rows], count: 0 }
    }

    pub(crate) fn is_bad(&self, row: usize) -> bool {
        self.reasons[row].is_some()
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn set(&mut self, row: usize, reason: impl FnOnce() -> String) {
        if self.reasons[row].is_none() {
            self.reasons[row] = Some(reason());
            self.count += 1;
        }
    }

    /// Sets a reason that explains more than the one there may be.
    pub(crate) fn replace(&mut self, row: usize, reason: String) {
        self.count += usize::from(self.reasons[row].is_none());
        self.reasons[row] = Some(reason);
    }

    /// Forgets a row; those after it move up.
    pub(crate) fn remove(&mut self, row: usize) {
        self.count -= usize::from(self.reasons.remove(row).is_some());
    }

    pub(crate) fn take(&mut self, row: usize) -> Option<String> {
        self.reasons[row].take()
    }
}

/// Cuts a value for a message.
pub(crate) fn clip(value: &str) -> Cow<'_, str> {
    const SHOWN_MAX: usize = 80;
    match value.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}..", &value[..end])),
        None => Cow::Borrowed(value),
    }
}

/// Turns cells into arrays.
pub(crate) struct ColumnBuilder<'a> {
    pub(crate) block: &'a str,
    pub(crate) escapes: Escapes,
    /// Values that do not fit become null instead of making their row bad.
    pub(crate) ignore_errors: bool,
    /// A missing key makes its row bad.
    pub(crate) fail_on_missing: bool,
    pub(crate) errors: &'a mut RowErrors,
}

/// One column of cells: its path for messages, and the row that each cell belongs to (`None`: cell `i` is row `i`).
#[derive(Clone, Copy)]
pub(crate) struct Cells<'c> {
    pub(crate) path: &'c str,
    pub(crate) cells: &'c [Cell],
    pub(crate) rows: Option<&'c [u32]>,
}

impl Cells<'_> {
    #[inline]
    fn row(&self, index: usize) -> usize {
        self.rows.map_or(index, |rows| rows[index] as usize)
    }
}

/// Whether a column of this type can be read from text.
pub(crate) fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => is_supported(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_supported(field.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                fields.len() == 2 && is_text(fields[0].data_type()) && is_supported(fields[1].data_type())
            }
            _ => false,
        },
        DataType::Null
        | DataType::Boolean
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(_, _)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, _)
        | DataType::Interval(IntervalUnit::MonthDayNano)
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => true,
        other => other.is_integer() || is_text(other),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

impl<'a> ColumnBuilder<'a> {
    /// The array of a column. Bad cells leave a null (a default where the field is NOT NULL): their rows are filtered out later.
    pub(crate) fn build(&mut self, cells: Cells<'_>, field: &Field) -> ArrayRef {
        let nullable = field.is_nullable();
        macro_rules! integer {
            ($type:ty) => {
                Arc::new(self.primitive::<$type>(cells, field, |text| {
                    <$type as ArrowPrimitiveType>::Native::try_from(scalar::parse_integer(text)?).ok()
                }))
            };
        }
        match field.data_type() {
            DataType::Null => Arc::new(NullArray::new(cells.cells.len())),
            DataType::Boolean => self.boolean(cells, field),
            DataType::Int8 => integer!(Int8Type),
            DataType::Int16 => integer!(Int16Type),
            DataType::Int32 => integer!(Int32Type),
            DataType::Int64 => integer!(Int64Type),
            DataType::UInt8 => integer!(UInt8Type),
            DataType::UInt16 => integer!(UInt16Type),
            DataType::UInt32 => integer!(UInt32Type),
            DataType::UInt64 => integer!(UInt64Type),
            DataType::Float32 => Arc::new(self.primitive::<Float32Type>(cells, field, |text| {
                // A number that a FLOAT cannot hold is out of range; the word for infinity is not.
                let value = scalar::parse_float(text)?;
                let narrow = value as f32;
                (narrow.is_finite() || !value.is_finite()).then_some(narrow)
            })),
            DataType::Float64 => Arc::new(self.primitive::<Float64Type>(cells, field, scalar::parse_float)),
            &DataType::Decimal128(precision, scale) => Arc::new(
                self.primitive::<Decimal128Type>(cells, field, |text| scalar::parse_decimal(text, precision, scale))
                    .with_data_type(field.data_type().clone()),
            ),
            DataType::Date32 => Arc::new(self.primitive::<Date32Type>(cells, field, scalar::parse_date)),
            DataType::Date64 => Arc::new(self.primitive::<Date64Type>(cells, field, |text| {
                scalar::parse_date(text).map(|days| i64::from(days) * 86_400_000)
            })),
            DataType::Time32(TimeUnit::Second) => Arc::new(self.primitive::<Time32SecondType>(cells, field, |text| {
                scalar::parse_time(text).map(|nanos| (nanos / 1_000_000_000) as i32)
            })),
            DataType::Time32(_) => Arc::new(self.primitive::<Time32MillisecondType>(cells, field, |text| {
                scalar::parse_time(text).map(|nanos| (nanos / 1_000_000) as i32)
            })),
            DataType::Time64(TimeUnit::Microsecond) => {
                Arc::new(self.primitive::<Time64MicrosecondType>(cells, field, |text| {
                    scalar::parse_time(text).map(|nanos| nanos / 1_000)
                }))
            }
            DataType::Time64(_) => Arc::new(self.primitive::<Time64NanosecondType>(cells, field, scalar::parse_time)),
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Arc::new(self.primitive::<IntervalMonthDayNanoType>(cells, field, scalar::parse_interval))
            }
            DataType::Timestamp(unit, zone) => {
                let unit = *unit;
                let parse = move |text: &[u8]| scalar::parse_timestamp(text)?.in_unit(unit);
                let zone = zone.clone();
                match unit {
                    TimeUnit::Second => {
                        Arc::new(self.primitive::<TimestampSecondType>(cells, field, parse).with_timezone_opt(zone))
                    }
                    TimeUnit::Millisecond => Arc::new(
                        self.primitive::<TimestampMillisecondType>(cells, field, parse).with_timezone_opt(zone),
                    ),
                    TimeUnit::Microsecond => Arc::new(
                        self.primitive::<TimestampMicrosecondType>(cells, field, parse).with_timezone_opt(zone),
                    ),
                    TimeUnit::Nanosecond => {
                        Arc::new(self.primitive::<TimestampNanosecondType>(cells, field, parse).with_timezone_opt(zone))
                    }
                }
            }
            DataType::Utf8View => {
                // Blocks as large as the text of a batch is likely to be, so that few are made.
                let mut builder = StringViewBuilder::with_capacity(cells.cells.len()).with_fixed_block_size(256 << 10);
                self.strings(cells, field, |text| match text {
                    Some(text) => builder.append_value(text),
                    None => builder.append_null(),
                });
                Arc::new(builder.finish())
            }
            DataType::Utf8 => {
                let mut builder = StringBuilder::with_capacity(cells.cells.len(), cells.cells.len() * 16);
                self.strings(cells, field, |text| builder.append_option(text));
                Arc::new(builder.finish())
            }
            DataType::LargeUtf8 => {
                let mut builder = LargeStringBuilder::with_capacity(cells.cells.len(), cells.cells.len() * 16);
                self.strings(cells, field, |text| builder.append_option(text));
                Arc::new(builder.finish())
            }
            DataType::Binary => {
                let mut builder = BinaryBuilder::new();
                self.bytes(cells, field, None, |bytes| builder.append_option(bytes));
                Arc::new(builder.finish())
            }
            DataType::LargeBinary => {
                let mut builder = LargeBinaryBuilder::new();
                self.bytes(cells, field, None, |bytes| builder.append_option(bytes));
                Arc::new(builder.finish())
            }
            DataType::BinaryView => {
                let mut builder = BinaryViewBuilder::new();
                self.bytes(cells, field, None, |bytes| builder.append_option(bytes));
                Arc::new(builder.finish())
            }
            &DataType::FixedSizeBinary(size) => {
                let mut builder = FixedSizeBinaryBuilder::new(size);
                let zeros = vec![0; size as usize];
                self.bytes(cells, field, Some(size as usize), |bytes| match bytes {
                    Some(bytes) => {
                        let bytes = if bytes.is_empty() { &zeros } else { bytes };
                        builder.append_value(bytes).expect("the length was checked");
                    }
                    None => builder.append_null(),
                });
                Arc::new(builder.finish())
            }
            DataType::List(item) => self.list(cells, field, item, nullable),
            DataType::Struct(fields) => self.structure(cells, field, fields, nullable),
            DataType::Map(entries, sorted) => self.map(cells, field, entries, *sorted, nullable),
            other => unreachable!("`{other}` was refused when the source was opened"),
        }
    }

    /// A null cell: bad where the column is NOT NULL. Says whether a default stands in for the null.
    #[inline]
    fn null(&mut self, cells: Cells<'_>, index: usize, nullable: bool) -> bool {
        if nullable && !(self.fail_on_missing && cells.cells[index].kind == CellKind::Missing) {
            return false;
        }
        if cells.cells[index].kind == CellKind::Stale {
            return !nullable;
        }
        let path = cells.path;
        let missing = cells.cells[index].kind == CellKind::Missing;
        self.errors.set(cells.row(index), || match (missing, nullable) {
            (true, true) => format!("column `{path}` is missing (and `json.fail-on-missing-field` is 'true')"),
            (true, false) => format!("column `{path}` is missing, and NOT NULL"),
            (false, _) => format!("column `{path}` is null, and NOT NULL"),
        });
        !nullable
    }

    /// A cell whose value is not of the type. Says whether a default stands in for the null.
    #[cold]
    fn wrong(&mut self, cells: Cells<'_>, index: usize, field: &Field) -> bool {
        let cell = cells.cells[index];
        if self.ignore_errors && field.is_nullable() {
            return false;
        }
        let (block, path) = (self.block, cells.path);
        self.errors.set(cells.row(index), || {
            let value = clip(cell.text(block));
            let name = type_hint(field.data_type());
            let in_range = scalar::parse_integer(cell.text(block).trim().as_bytes()).is_some();
            match field.data_type() {
                data_type if data_type.is_integer() && in_range => {
                    format!("column `{path}`: {value} is out of range for {name}")
                }
                DataType::Decimal128(_, _) if in_range => format!("column `{path}`: {value} is out of range for {name}"),
                DataType::Timestamp(_, _) if cell.kind == CellKind::Number => format!(
                    "column `{path}`: {value} is a number, and {name} is read from text such as '2024-01-31 12:00:00'; declare \
                     the column BIGINT and compute the time with TO_TIMESTAMP_LTZ"
                ),
                _ => format!("column `{path}`: `{value}` is not {name}"),
            }
        });
        !field.is_nullable()
    }

    /// The bytes of a scalar, or `None` for a container. In CSV, blanks around anything but text do not count.
    #[inline]
    fn scalar_bytes(&self, cell: &Cell) -> Option<Cow<'a, [u8]>> {
        let text = cell.text(self.block);
        match cell.kind {
            CellKind::Object | CellKind::Array | CellKind::Missing | CellKind::Null => None,
            CellKind::Escaped => self.unescape(text).map(|text| Cow::Owned(text.trim().to_owned().into_bytes())),
            CellKind::Text => Some(Cow::Borrowed(text.trim_ascii_bytes())),
            _ => Some(Cow::Borrowed(text.as_bytes())),
        }
    }

    fn unescape(&self, text: &str) -> Option<String> {
        match self.escapes {
            Escapes::Json => json::unescape(text),
            Escapes::Csv { quote, escape } => Some(super::csv::unescape(text, quote, escape)),
        }
    }

    #[inline]
    fn primitive<T: ArrowPrimitiveType>(
        &mut self,
        cells: Cells<'_>,
        field: &Field,
        parse: impl Fn(&[u8]) -> Option<T::Native>,
    ) -> PrimitiveArray<T> {
        // Times are text, numbers are either.
        let from_number = field.data_type().is_numeric();
        let mut values = Vec::with_capacity(cells.cells.len());
        let mut nulls = NullFlags::default();
        for (index, cell) in cells.cells.iter().enumerate() {
            let value = match cell.kind {
                CellKind::Number if from_number => parse(cell.text(self.block).as_bytes()),
                CellKind::Text | CellKind::Escaped => self.scalar_bytes(cell).and_then(|bytes| parse(&bytes)),
                CellKind::Missing | CellKind::Stale | CellKind::Null => {
                    if !self.null(cells, index, field.is_nullable()) {
                        nulls.set(index, cells.cells.len());
                    }
                    values.push(T::Native::default());
                    continue;
                }
                _ => None,
            };
            values.push(match value {
                Some(value) => value,
                None => {
                    if !self.wrong(cells, index, field) {
                        nulls.set(index, cells.cells.len());
                    }
                    T::Native::default()
                }
            });
        }
        PrimitiveArray::new(ScalarBuffer::from(values), nulls.finish())
    }

    fn boolean(&mut self, cells: Cells<'_>, field: &Field) -> ArrayRef {
        let mut builder = BooleanBuilder::with_capacity(cells.cells.len());
        for (index, cell) in cells.cells.iter().enumerate() {
            let value = match cell.kind {
                CellKind::True => Some(true),
                CellKind::False => Some(false),
                CellKind::Text | CellKind::Escaped => {
                    self.scalar_bytes(cell).and_then(|bytes| scalar::parse_bool(&bytes))
                }
                _ => None,
            };
            let default = match value {
                Some(value) => {
                    builder.append_value(value);
                    continue;
                }
                None if cell.is_null() => self.null(cells, index, field.is_nullable()),
                None => self.wrong(cells, index, field),
            };
            builder.append_option(default.then_some(false));
        }
        Arc::new(builder.finish())
    }

    /// Text; numbers, booleans and containers are taken as they are written, as Flink does.
    #[inline]
    fn strings(&mut self, cells: Cells<'_>, field: &Field, mut append: impl FnMut(Option<&str>)) {
        for (index, cell) in cells.cells.iter().enumerate() {
            match cell.kind {
                CellKind::Missing | CellKind::Stale | CellKind::Null => {
                    let default = self.null(cells, index, field.is_nullable());
                    append(default.then_some(""));
                }
                CellKind::Escaped => match self.unescape(cell.text(self.block)) {
                    Some(text) => append(Some(&text)),
                    None => {
                        let default = self.wrong(cells, index, field);
                        append(default.then_some(""));
                    }
                },
                _ => append(Some(cell.text(self.block))),
            }
        }
    }

    /// Bytes, written in base64 as Flink does.
    fn bytes(&mut self, cells: Cells<'_>, field: &Field, size: Option<usize>, mut append: impl FnMut(Option<&[u8]>)) {
        for (index, cell) in cells.cells.iter().enumerate() {
            if cell.is_null() {
                let default = self.null(cells, index, field.is_nullable());
                append(default.then_some(&[]));
                continue;
            }
            let decoded = match cell.kind {
                CellKind::Text | CellKind::Escaped => {
                    self.scalar_bytes(cell).and_then(|bytes| BASE64_STANDARD.decode(bytes).ok())
                }
                _ => None,
            };
            match decoded.filter(|bytes| size.is_none_or(|size| bytes.len() == size)) {
                Some(bytes) => append(Some(&bytes)),
                None => {
                    let default = self.wrong(cells, index, field);
                    append(default.then_some(&[]));
                }
            }
        }
    }

    /// Cells of a text format (CSV) that hold JSON; their text is unescaped into a block of its own.
    fn embedded_json(&mut self, cells: Cells<'_>, field: &Field) -> ArrayRef {
        let mut text = String::new();
        let mut inner = Vec::with_capacity(cells.cells.len());
        for (index, cell) in cells.cells.iter().enumerate() {
            if cell.is_null() {
                inner.push(*cell);
                continue;
            }
            let start = text.len();
            match cell.kind {
                CellKind::Escaped => text.push_str(&self.unescape(cell.text(self.block)).unwrap_or_default()),
                _ => text.push_str(cell.text(self.block)),
            }
            // A quoted field may have lines of its own; in JSON they can only stand where blanks do.
            if text[start..].contains('\n') {
                let lines = text[start..].replace('\n', " ");
                text.replace_range(start.., &lines);
            }
            text.push('\n');
            match json::scan_value(text.as_bytes(), start) {
                Ok((cell, end)) if text[end..].trim().is_empty() => inner.push(cell),
                _ => {
                    let default = self.wrong(cells, index, field);
                    let kind = if default { CellKind::Missing } else { CellKind::Null };
                    inner.push(Cell { kind, ..Cell::MISSING });
                }
            }
        }
        let mut builder = ColumnBuilder {
            block: &text,
            escapes: Escapes::Json,
            ignore_errors: self.ignore_errors,
            fail_on_missing: false,
            errors: self.errors,
        };
        builder.build(Cells { cells: &inner, ..cells }, field)
    }

    fn list(&mut self, cells: Cells<'_>, field: &Field, item: &FieldRef, nullable: bool) -> ArrayRef {
        if self.escapes != Escapes::Json {
            return self.embedded_json(cells, field);
        }
        let mut offsets = vec![0i32];
        let (mut items, mut item_rows) = (Vec::new(), Vec::new());
        let mut nulls = NullFlags::default();
        for (index, cell) in cells.cells.iter().enumerate() {
            if cell.kind == CellKind::Array {
                json::scan_array(self.block.as_bytes(), cell.start as usize, |cell| items.push(cell));
                item_rows.resize(items.len(), cells.row(index) as u32);
            } else {
                let default =
                    if cell.is_null() { self.null(cells, index, nullable) } else { self.wrong(cells, index, field) };
                if !default {
                    nulls.set(index, cells.cells.len());
                }
            }
            offsets.push(items.len() as i32);
        }
        let path = format!("{}[]", cells.path);
        let values = self.build(Cells { path: &path, cells: &items, rows: Some(&item_rows) }, item);
        Arc::new(ListArray::new(Arc::clone(item), OffsetBuffer::new(offsets.into()), values, nulls.finish()))
    }

    fn structure(&mut self, cells: Cells<'_>, field: &Field, fields: &Fields, nullable: bool) -> ArrayRef {
        if self.escapes != Escapes::Json {
            return self.embedded_json(cells, field);
        }
        let mut scanner = ObjectScanner::new(fields.iter().map(|field| field.name().as_str()));
        let mut columns = vec![vec![Cell::MISSING; cells.cells.len()]; fields.len()];
        let mut nulls = NullFlags::default();
        for (index, cell) in cells.cells.iter().enumerate() {
            if cell.kind == CellKind::Object {
                // Its form was checked when the row was scanned.
                let _ = scanner.scan(self.block.as_bytes(), cell.start as usize, index, &mut columns);
                continue;
            }
            let default =
                if cell.is_null() { self.null(cells, index, nullable) } else { self.wrong(cells, index, field) };
            if !default {
                nulls.set(index, cells.cells.len());
            }
        }
        let nulls = nulls.finish();
        let rows: Vec<u32> = (0..cells.cells.len()).map(|index| cells.row(index) as u32).collect();
        // Under a null everything is missing, and nothing is wrong with that.
        let fail_on_missing = self.fail_on_missing;
        self.fail_on_missing &= nulls.is_none();
        let children = fields.iter().zip(&columns).map(|(child, column)| {
            let path = format!("{}.{}", cells.path, child.name());
            // Under a null the children are null too, whatever they are declared: build those apart from the NOT NULL rule.
            match (&nulls, child.is_nullable()) {
                (Some(nulls), false) => self.not_null_child(&path, column, &rows, nulls, child),
                _ => self.build(Cells { path: &path, cells: column, rows: Some(&rows) }, child),
            }
        });
        let children = children.collect();
        self.fail_on_missing = fail_on_missing;
        Arc::new(StructArray::new(fields.clone(), children, nulls))
    }

    /// A NOT NULL child of a struct that is null in places: there it holds nulls, which the parent's nulls hide.
    fn not_null_child(
        &mut self,
        path: &str,
        column: &[Cell],
        rows: &[u32],
        nulls: &NullBuffer,
        child: &Field,
    ) -> ArrayRef {
        for (index, cell) in column.iter().enumerate() {
            if cell.is_null() && nulls.is_valid(index) {
                self.errors.set(rows[index] as usize, || format!("column `{path}` is missing or null, and NOT NULL"));
            }
        }
        let nullable = child.clone().with_nullable(true);
        self.build(Cells { path, cells: column, rows: Some(rows) }, &nullable)
    }

    fn map(&mut self, cells: Cells<'_>, field: &Field, entries: &FieldRef, sorted: bool, nullable: bool) -> ArrayRef {
        if self.escapes != Escapes::Json {
            return self.embedded_json(cells, field);
        }
        let DataType::Struct(fields) = entries.data_type() else {
            unreachable!("a map's entries are a struct");
        };
        let mut offsets = vec![0i32];
        let (mut keys, mut values, mut entry_rows) = (Vec::new(), Vec::new(), Vec::new());
        let mut nulls = NullFlags::default();
        for (index, cell) in cells.cells.iter().enumerate() {
            if cell.kind == CellKind::Object {
                json::scan_entries(self.block.as_bytes(), cell.start as usize, |key, value| {
                    keys.push(key);
                    values.push(value);
                });
                entry_rows.resize(keys.len(), cells.row(index) as u32);
            } else {
                let default =
                    if cell.is_null() { self.null(cells, index, nullable) } else { self.wrong(cells, index, field) };
                if !default {
                    nulls.set(index, cells.cells.len());
                }
            }
            offsets.push(keys.len() as i32);
        }
        let path = format!("{}{{}}", cells.path);
        let keys = self.build(Cells { path: &path, cells: &keys, rows: Some(&entry_rows) }, &fields[0]);
        let values = self.build(Cells { path: &path, cells: &values, rows: Some(&entry_rows) }, &fields[1]);
        let entries_array = StructArray::new(fields.clone(), vec![keys, values], None);
        let offsets = OffsetBuffer::new(offsets.into());
        Arc::new(MapArray::new(Arc::clone(entries), offsets, entries_array, nulls.finish(), sorted))
    }
}

/// Blanks around a value, cut off without looking at its characters.
trait TrimAsciiBytes {
    fn trim_ascii_bytes(&self) -> &[u8];
}

impl TrimAsciiBytes for str {
    #[inline]
    fn trim_ascii_bytes(&self) -> &[u8] {
        self.as_bytes().trim_ascii()
    }
}

/// Nulls of a column; costs nothing until the first one.
#[derive(Default)]
struct NullFlags(Option<Vec<bool>>);

impl NullFlags {
    fn set(&mut self, index: usize, rows: usize) {
        self.0.get_or_insert_with(|| vec![true; rows])[index] = false;
    }

    fn finish(self) -> Option<NullBuffer> {
        self.0.map(NullBuffer::from)
    }
}

fn type_hint(data_type: &DataType) -> String {
    let name = scalar::type_name(data_type);
    match data_type {
        DataType::Timestamp(_, _) => format!("{name} (such as '2024-01-31 12:00:00' or '2024-01-31T12:00:00Z')"),
        DataType::Date32 | DataType::Date64 => format!("{name} (such as '2024-01-31')"),
        DataType::Time32(_) | DataType::Time64(_) => format!("{name} (such as '12:00:00')"),
        DataType::Interval(_) => format!("{name} (such as '1 day 02:03:04' or 'P1DT2H')"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => format!("{name} (in base64)"),
        DataType::FixedSizeBinary(size) => format!("{size} bytes in base64"),
        _ => name,
    }
}
