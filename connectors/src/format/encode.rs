//! Rows to bytes.
//!
//! JSON goes through arrow-json's writer with two corrections, so that what is written reads back the same: bytes are base64, as in
//! Flink, and NaN and the infinities are words instead of null. CSV has a writer of its own ([`super::csv_lines`]).

use std::io::{self, Write};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::json::writer::{LineDelimited, NullableEncoder, WriterBuilder, make_encoder};
use arrow::json::{Encoder as JsonValueEncoder, EncoderFactory, EncoderOptions};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use eagre_engine::changes::Changes;

use super::changelog::{ChangelogFormat, wrap_lines};
use super::csv_lines::{write_csv, write_csv_header};
use super::{CsvHeader, Format, JsonFormat};

const SQL_TIMESTAMP: &str = "%Y-%m-%d %H:%M:%S%.f";
const SQL_TIMESTAMP_UTC: &str = "%Y-%m-%d %H:%M:%S%.fZ";
const SQL_TIMESTAMP_ZONED: &str = "%Y-%m-%d %H:%M:%S%.f%:z";
const ISO_TIMESTAMP: &str = "%Y-%m-%dT%H:%M:%S%.f";
const ISO_TIMESTAMP_UTC: &str = "%Y-%m-%dT%H:%M:%S%.fZ";
const ISO_TIMESTAMP_ZONED: &str = "%Y-%m-%dT%H:%M:%S%.f%:z";

/// How times with a zone are written: `Z` where all are UTC.
pub(super) fn timestamp_formats(schema: &Schema, iso: bool) -> (&'static str, &'static str) {
    fn zoned(data_type: &DataType) -> bool {
        match data_type {
            DataType::Timestamp(_, Some(zone)) => !matches!(zone.as_ref(), "UTC" | "+00:00" | "Z"),
            DataType::Struct(fields) => fields.iter().any(|field| zoned(field.data_type())),
            DataType::List(item) | DataType::Map(item, _) => zoned(item.data_type()),
            _ => false,
        }
    }
    let zoned = schema.fields().iter().any(|field| zoned(field.data_type()));
    match (iso, zoned) {
        (false, false) => (SQL_TIMESTAMP, SQL_TIMESTAMP_UTC),
        (false, true) => (SQL_TIMESTAMP, SQL_TIMESTAMP_ZONED),
        (true, false) => (ISO_TIMESTAMP, ISO_TIMESTAMP_UTC),
        (true, true) => (ISO_TIMESTAMP, ISO_TIMESTAMP_ZONED),
    }
}

/// Writes values of which arrow-json has another idea.
#[derive(Debug)]
struct Corrections;

struct Base64Encoder<'a>(Box<dyn Fn(usize) -> &'a [u8] + 'a>);

impl JsonValueEncoder for Base64Encoder<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(BASE64_STANDARD.encode((self.0)(index)).as_bytes());
        out.push(b'"');
    }
}

/// The words of values that are no numbers; numbers as arrow writes them, whatever else is in the column.
struct FloatEncoder<'a> {
    word: Box<dyn Fn(usize) -> Option<&'static str> + 'a>,
    numbers: NullableEncoder<'a>,
}

impl JsonValueEncoder for FloatEncoder<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        match (self.word)(index) {
            Some(word) => out.extend_from_slice(word.as_bytes()),
            None => self.numbers.encode(index, out),
        }
    }
}

fn word_of(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_finite() => None,
        f64::INFINITY => Some("\"Infinity\""),
        f64::NEG_INFINITY => Some("\"-Infinity\""),
        _ => Some("\"NaN\""),
    }
}

impl EncoderFactory for Corrections {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn JsonValueEncoder + 'a> = match array.data_type() {
            DataType::Binary => Box::new(Base64Encoder(Box::new(|index| array.as_binary::<i32>().value(index)))),
            DataType::LargeBinary => Box::new(Base64Encoder(Box::new(|index| array.as_binary::<i64>().value(index)))),
            DataType::BinaryView => Box::new(Base64Encoder(Box::new(|index| array.as_binary_view().value(index)))),
            DataType::FixedSizeBinary(_) => {
                Box::new(Base64Encoder(Box::new(|index| array.as_fixed_size_binary().value(index))))
            }
            _ => return json_encoder(field, array, options),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

/// A map as an object. The names of its fields are the keys as they are displayed: arrow writes maps of texts alone.
struct MapEncoder<'a> {
    keys: Vec<String>,
    offsets: &'a [i32],
    values: NullableEncoder<'a>,
    explicit_nulls: bool,
}

impl JsonValueEncoder for MapEncoder<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        for entry in self.offsets[index] as usize..self.offsets[index + 1] as usize {
            let is_null = self.values.is_null(entry);
            if is_null && !self.explicit_nulls {
                continue;
            }
            if !std::mem::replace(&mut first, false) {
                out.push(b',');
            }
            out.extend_from_slice(serde_json::Value::from(self.keys[entry].as_str()).to_string().as_bytes());
            out.push(b':');
            match is_null {
                true => out.extend_from_slice(b"null"),
                false => self.values.encode(entry, out),
            }
        }
        out.push(b'}');
    }
}

/// How values are written in JSON that arrow refuses or loses: floats that are no numbers, and maps whose keys are no texts. None for all others.
///
/// # Errors
/// Types within a map that have no JSON form.
pub fn json_encoder<'a>(
    field: &'a FieldRef,
    array: &'a dyn Array,
    options: &'a EncoderOptions,
) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
    let Some(map) = array.as_map_opt() else { return json_floats(field, array) };
    if matches!(map.key_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return Ok(None);
    }
    let DataType::Map(entries, _) = array.data_type() else { return Ok(None) };
    let DataType::Struct(fields) = entries.data_type() else { return Ok(None) };
    let display = FormatOptions::default();
    let keys = ArrayFormatter::try_new(map.keys(), &display)?;
    let encoder = MapEncoder {
        keys: (0..map.keys().len()).map(|entry| keys.value(entry).to_string()).collect(),
        offsets: map.value_offsets(),
        values: make_encoder(&fields[1], map.values(), options)?,
        explicit_nulls: options.explicit_nulls(),
    };
    Ok(Some(NullableEncoder::new(Box::new(encoder), array.nulls().cloned())))
}

/// How floats are written in JSON where some are no numbers: `"NaN"`, `"Infinity"` and `"-Infinity"`, which are read back as they were (arrow writes
/// null). None where all are numbers, and for arrays of other types.
fn json_floats<'a>(field: &'a FieldRef, array: &'a dyn Array) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
    static PLAIN: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);
    let word: Box<dyn Fn(usize) -> Option<&'static str> + 'a> = match array.data_type() {
        DataType::Float64 => {
            let floats = array.as_primitive::<Float64Type>();
            if floats.values().iter().all(|value| value.is_finite()) {
                return Ok(None);
            }
            Box::new(|index| word_of(floats.value(index)))
        }
        DataType::Float32 => {
            let floats = array.as_primitive::<Float32Type>();
            if floats.values().iter().all(|value| value.is_finite()) {
                return Ok(None);
            }
            Box::new(|index| word_of(f64::from(floats.value(index))))
        }
        _ => return Ok(None),
    };
    let encoder = FloatEncoder { word, numbers: make_encoder(field, array, &PLAIN)? };
    Ok(Some(NullableEncoder::new(Box::new(encoder), array.nulls().cloned())))
}

pub(super) fn write_json(format: &JsonFormat, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let (plain, zoned) = timestamp_formats(batch.schema_ref(), format.iso_timestamps);
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(!format.ignore_null_fields)
        .with_timestamp_format(plain.to_owned())
        .with_timestamp_tz_format(zoned.to_owned())
        .with_encoder_factory(Arc::new(Corrections))
        .build::<_, LineDelimited>(out);
    writer.write(batch)?;
    writer.finish()
}

fn write_raw(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let Some(column) = batch.columns().first() else {
        return Ok(());
    };
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
    for row in 0..batch.num_rows() {
        let _ = writeln!(out, "{}", formatter.value(row));
    }
    Ok(())
}

/// Writes rows of a text format into memory. `first` asks for what stands before the first row (a CSV header).
pub(crate) fn encode_lines(
    format: &Format,
    batch: &RecordBatch,
    first: bool,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    match format {
        Format::Json(json) => write_json(json, batch, out),
        Format::Csv(csv) => {
            if first && matches!(csv.header, CsvHeader::Auto | CsvHeader::Yes) {
                write_csv_header(csv, batch.schema_ref(), out);
            }
            write_csv(csv, batch, out)
        }
        _ => write_raw(batch, out),
    }
}

/// Writes changes into memory.
pub(crate) fn encode_changes(format: &ChangelogFormat, changes: &Changes, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let mut lines = Vec::new();
    write_json(&format.json, &changes.rows, &mut lines)?;
    wrap_lines(&format.form, &changes.ops, &lines, out);
    Ok(())
}

/// Writes one file.
pub(crate) enum FileEncoder<W: Write + Send> {
    Lines {
        format: Format,
        output: W,
        first: bool,
        buffer: Vec<u8>,
    },
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::arrow::ArrowWriter<W>>),
    ArrowFile(FileWriter<W>),
    ArrowStream(StreamWriter<W>),
}

fn as_io(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(feature = "parquet")]
fn parquet_as_io(error: parquet::errors::ParquetError) -> io::Error {
    match error {
        parquet::errors::ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        other => io::Error::other(other),
    }
}

impl<W: Write + Send> FileEncoder<W> {
    pub(crate) fn new(format: &Format, schema: &SchemaRef, output: W) -> io::Result<Self> {
        Ok(match format {
            #[cfg(feature = "parquet")]
            Format::Parquet(options) => {
                let properties = parquet_properties(options);
                let writer = parquet::arrow::ArrowWriter::try_new(output, Arc::clone(schema), Some(properties));
                Self::Parquet(Box::new(writer.map_err(parquet_as_io)?))
            }
            Format::Arrow { stream: true } => Self::ArrowStream(StreamWriter::try_new(output, schema).map_err(as_io)?),
            Format::Arrow { stream: false } => Self::ArrowFile(FileWriter::try_new(output, schema).map_err(as_io)?),
            lines => Self::Lines { format: lines.clone(), output, first: true, buffer: Vec::new() },
        })
    }

    /// Writes rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match self {
            Self::Lines { format, output, first, buffer } => {
                buffer.clear();
                encode_lines(format, batch, *first, buffer).map_err(as_io)?;
                *first = false;
                output.write_all(buffer)
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(writer) => writer.write(batch).map_err(parquet_as_io),
            Self::ArrowFile(writer) => writer.write(batch).map_err(as_io),
            Self::ArrowStream(writer) => writer.write(batch).map_err(as_io),
        }
    }

    /// Writes changes, where the format has them.
    pub(crate) fn write_changes(&mut self, format: &ChangelogFormat, changes: &Changes) -> io::Result<()> {
        let Self::Lines { output, buffer, .. } = self else {
            return Err(io::Error::other("this format has no changes"));
        };
        buffer.clear();
        encode_changes(format, changes, buffer).map_err(as_io)?;
        output.write_all(buffer)
    }

    /// Bytes that wait in memory for the end of a row group.
    pub(crate) fn buffered_bytes(&self) -> u64 {
        match self {
            #[cfg(feature = "parquet")]
            Self::Parquet(writer) => writer.in_progress_size() as u64,
            _ => 0,
        }
    }

    /// What was written to.
    pub(crate) fn output(&self) -> &W {
        match self {
            Self::Lines { output, .. } => output,
            #[cfg(feature = "parquet")]
            Self::Parquet(writer) => writer.inner(),
            Self::ArrowFile(writer) => writer.get_ref(),
            Self::ArrowStream(writer) => writer.get_ref(),
        }
    }

    /// Writes what stands at the end.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Lines { output, .. } => Ok(output),
            #[cfg(feature = "parquet")]
            Self::Parquet(writer) => writer.into_inner().map_err(parquet_as_io),
            Self::ArrowFile(writer) => writer.into_inner().map_err(as_io),
            Self::ArrowStream(writer) => writer.into_inner().map_err(as_io),
        }
    }
}

#[cfg(feature = "parquet")]
fn parquet_properties(options: &super::ParquetFormat) -> parquet::file::properties::WriterProperties {
    use super::ParquetCompression;
    use parquet::basic::{Compression, GzipLevel, ZstdLevel};
    let compression = match options.compression {
        ParquetCompression::None => Compression::UNCOMPRESSED,
        ParquetCompression::Snappy => Compression::SNAPPY,
        ParquetCompression::Gzip => Compression::GZIP(GzipLevel::default()),
        ParquetCompression::Lz4 => Compression::LZ4_RAW,
        ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
    };
    parquet::file::properties::WriterProperties::builder().set_compression(compression).build()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float32Array, Float64Array};
    use arrow::buffer::{NullBuffer, ScalarBuffer};

    use super::*;

    fn lines(columns: Vec<(&str, ArrayRef)>) -> String {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
                .expect("columns of one length");
        let mut out = Vec::new();
        let mut writer = WriterBuilder::new()
            .with_explicit_nulls(true)
            .with_encoder_factory(Arc::new(Corrections))
            .build::<_, LineDelimited>(&mut out);
        writer.write(&batch).and_then(|()| writer.finish()).expect("writes to memory");
        String::from_utf8(out).expect("JSON is a text")
    }

    /// A number is written by its own digits, whatever else is in the column or lies under a null.
    #[test]
    fn numbers_do_not_depend_on_their_neighbours() {
        let valid = || Some(NullBuffer::from(vec![true, true, false]));
        let column = |last: f32| -> Vec<(&str, ArrayRef)> {
            let (reals, doubles) = ([2.56, 1e10, last], [2.56, 1e10, f64::from(last)]);
            vec![
                ("r", Arc::new(Float32Array::new(ScalarBuffer::from(reals.to_vec()), valid()))),
                ("d", Arc::new(Float64Array::new(ScalarBuffer::from(doubles.to_vec()), valid()))),
            ]
        };
        let expected = "{\"r\":2.56,\"d\":2.56}\n{\"r\":1.0e10,\"d\":1.0e10}\n{\"r\":null,\"d\":null}\n";
        assert_eq!(lines(column(0.0)), expected);
        assert_eq!(lines(column(f32::NAN)), expected);
        let reals: ArrayRef = Arc::new(Float32Array::from(vec![2.56, f32::NAN, f32::NEG_INFINITY]));
        assert_eq!(lines(vec![("r", reals)]), "{\"r\":2.56}\n{\"r\":\"NaN\"}\n{\"r\":\"-Infinity\"}\n");
    }
}
