//! Rows on standard output, in the formats of `--format`.

use std::io::Write;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::csv::writer::WriterBuilder as CsvWriterBuilder;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder as JsonWriterBuilder,
};
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use eagre_sql::functions::json_values;
use std::sync::Arc;

use super::Format;
use crate::error::{Error, Result};

/// Writes batches of one schema.
pub(crate) struct Printer<W: Write> {
    format: Format,
    out: W,
    schema: SchemaRef,
    csv_header: bool,
    arrow: Option<StreamWriter<Vec<u8>>>,
}

/// An error of standard output.
fn output_error(error: std::io::Error) -> Error {
    Error::File { path: "standard output".to_owned(), error }
}

impl<W: Write> Printer<W> {
    /// Writes rows of `schema` to `out`.
    pub(crate) fn new(format: Format, out: W, schema: SchemaRef) -> Self {
        Self { format, out, schema, csv_header: true, arrow: None }
    }

    /// Writes a finished result. A table shows its header even when it is empty.
    pub(crate) fn print_all(&mut self, batches: &[RecordBatch]) -> Result<()> {
        if self.format == Format::Table {
            let empty = [RecordBatch::new_empty(Arc::clone(&self.schema))];
            let batches = if batches.is_empty() { &empty } else { batches };
            return self.table(batches);
        }
        if batches.iter().all(|batch| batch.num_rows() == 0) {
            self.print(&RecordBatch::new_empty(Arc::clone(&self.schema)))?;
        }
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            self.print(batch)?;
        }
        Ok(())
    }

    /// Writes some rows at once: in one piece, which nothing that is written beside them parts.
    pub(crate) fn print(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut text = Vec::new();
        match self.format {
            Format::Table => return self.table(std::slice::from_ref(batch)),
            Format::Csv => {
                let builder = CsvWriterBuilder::new().with_header(std::mem::replace(&mut self.csv_header, false));
                builder.build(&mut text).write(&csv_ready(batch)?).map_err(unwritable)?;
            }
            Format::Ndjson => {
                let mut writer = json_writer().build::<_, LineDelimited>(&mut text);
                writer.write(batch).and_then(|()| writer.finish()).map_err(unwritable)?;
            }
            Format::Arrow => {
                let writer = match &mut self.arrow {
                    Some(writer) => writer,
                    None => self.arrow.insert(StreamWriter::try_new(Vec::new(), &self.schema).map_err(unwritable)?),
                };
                writer.write(batch).and_then(|()| writer.flush()).map_err(unwritable)?;
                text = std::mem::take(writer.get_mut());
            }
        }
        self.out(&text)
    }

    /// Ends the output.
    pub(crate) fn finish(mut self) -> Result<()> {
        match self.arrow.take() {
            Some(writer) => {
                let rest = writer.into_inner().map_err(unwritable)?;
                self.out(&rest)
            }
            None => Ok(()),
        }
    }

    fn table(&mut self, batches: &[RecordBatch]) -> Result<()> {
        let options = FormatOptions::default().with_null("NULL").with_display_error(true);
        let batches = batches.iter().map(with_json_texts).collect::<Result<Vec<_>>>()?;
        let table = pretty_format_batches_with_options(&batches, &options).map_err(unwritable)?;
        self.out(format!("{table}\n").as_bytes())
    }

    fn out(&mut self, text: &[u8]) -> Result<()> {
        self.out.write_all(text).and_then(|()| self.out.flush()).map_err(output_error)
    }
}

/// Rows that the format does not hold.
fn unwritable(error: ArrowError) -> Error {
    Error::Engine(error.into())
}

/// Nested columns as JSON text: CSV has no way to write them.
fn csv_ready(batch: &RecordBatch) -> Result<RecordBatch> {
    let batch = &with_json_texts(batch)?;
    let nested = |data_type: &DataType| data_type.is_nested();
    if !batch.schema().fields().iter().any(|field| nested(field.data_type())) {
        return Ok(batch.clone());
    }
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !nested(field.data_type()) {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
            continue;
        }
        let value = Arc::new(field.as_ref().clone().with_name("v"));
        let one = RecordBatch::try_new(Arc::new(Schema::new(vec![value])), vec![Arc::clone(column)])
            .map_err(|error| Error::Engine(error.into()))?;
        let mut text = Vec::new();
        let mut writer = json_writer().build::<_, LineDelimited>(&mut text);
        writer.write(&one).and_then(|()| writer.finish()).map_err(|error| Error::Engine(error.into()))?;
        drop(writer);
        let cells = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| {
            let value = line.strip_prefix(br#"{"v":"#).and_then(|rest| rest.strip_suffix(b"}"));
            value.filter(|value| *value != b"null").map(|value| String::from_utf8_lossy(value).into_owned())
        });
        columns.push(Arc::new(cells.collect::<StringArray>()) as ArrayRef);
        fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| Error::Engine(error.into()))
}

/// JSON values (`j -> 'a'`) as texts, as `->>` gives them.
fn with_json_texts(batch: &RecordBatch) -> Result<RecordBatch> {
    let is_json = |data_type: &DataType| matches!(data_type, DataType::Union(..));
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| is_json(field.data_type())) {
        return Ok(batch.clone());
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if is_json(field.data_type()) {
            let texts = json_values(column, false).map_err(|error| Error::Engine(error.into()))?;
            columns.push(Arc::new(texts.into_iter().collect::<StringArray>()) as ArrayRef);
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
        } else {
            columns.push(Arc::clone(column));
            fields.push(Arc::clone(field));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| Error::Engine(error.into()))
}

/// Writes rows as lines of JSON, nulls included.
pub(super) fn json_writer() -> JsonWriterBuilder {
    JsonWriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(JsonValues))
}

/// Writes JSON values (`j -> 'a'`) as the JSON that they are, and what arrow has no form for as tables write it.
#[derive(Debug)]
struct JsonValues;

impl EncoderFactory for JsonValues {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> std::result::Result<Option<NullableEncoder<'a>>, ArrowError> {
        if !matches!(array.data_type(), DataType::Union(..)) {
            return eagre_connectors::json_encoder(field, array, options);
        }
        Ok(Some(NullableEncoder::new(Box::new(JsonEncoder(json_values(array, true)?)), None)))
    }
}

struct JsonEncoder(Vec<Option<String>>);

impl Encoder for JsonEncoder {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0[index].as_deref().unwrap_or("null").as_bytes());
    }
}

/// `batch` with a column `op` before the others.
pub(crate) fn with_op(words: Vec<&'static str>, batch: &RecordBatch) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(words))];
    columns.extend(batch.columns().iter().cloned());
    RecordBatch::try_new(op_schema(&batch.schema()), columns).map_err(|error| Error::Engine(error.into()))
}

/// The schema of [`with_op`].
pub(crate) fn op_schema(schema: &SchemaRef) -> SchemaRef {
    let op = Arc::new(Field::new("op", DataType::Utf8, false));
    Arc::new(Schema::new(std::iter::once(op).chain(schema.fields().iter().cloned()).collect::<Vec<_>>()))
}
