//! A frame's rows as record batches.
//!
//! Each column of a frame is a row of chunks, and each may be cut in its own way. Batches end where any column's chunk does: so chunks
//! are sliced and never put together.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use polars::prelude::{Column, CompatLevel, DataFrame, DataType, Field as PartOf};
use polars_arrow::datatypes::Field as PolarsField;

use crate::column::retyped;
use crate::error::{FrameError, Result};
use crate::ffi::{array_of_polars, field_of_polars};
use crate::types::{check_exportable, sql_type};

/// The columns of a frame with the types that SQL has for them.
///
/// # Errors
/// A type that SQL does not have.
pub fn schema(schema: &polars::prelude::Schema) -> Result<SchemaRef> {
    let fields = schema.iter().map(|(name, data_type)| {
        let field = field_of_polars(&exportable(name, data_type)?).map_err(|error| value(name, error))?;
        Ok(Field::new(name.as_str(), sql_type(name, field.data_type())?, true))
    });
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
}

/// All rows of a frame in their order, in batches of `rows_max` rows or less, with the columns of [`schema`].
///
/// # Errors
/// A column of a type that SQL does not have, or a list of more than 2³¹ elements in one chunk.
pub fn batches(frame: &DataFrame, rows_max: usize) -> Result<Vec<RecordBatch>> {
    let schema = schema(frame.schema())?;
    let columns = frame.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| chunks(column, field)).collect::<Result<Vec<_>>>()?;
    let mut cursors: Vec<Cursor<'_>> = columns.iter().map(|chunks| Cursor { chunks, from: 0 }).collect();
    let mut batches = Vec::new();
    let (height, rows_max) = (frame.height(), rows_max.max(1));
    let mut row = 0;
    while row < height {
        let left = cursors.iter_mut().map(Cursor::left).min().unwrap_or(height - row);
        let rows = left.min(rows_max);
        let arrays = cursors.iter_mut().map(|cursor| cursor.take(rows)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        batches.push(RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options)?);
        row += rows;
    }
    Ok(batches)
}

/// The type of a column as polars gives it to others.
fn exportable(name: &str, data_type: &DataType) -> Result<PolarsField> {
    let data_type = told(data_type).try_to_arrow(CompatLevel::newest())?;
    check_exportable(name, &data_type)?;
    Ok(PolarsField::new(name.into(), data_type, true))
}

/// With a type for values of which nothing but null is known: arrow and polars differ in how many buffers such a column has, and SQL has no such
/// type.
fn told(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Null => DataType::String,
        DataType::List(element) => DataType::List(Box::new(told(element))),
        DataType::Struct(parts) => {
            DataType::Struct(parts.iter().map(|part| PartOf::new(part.name().clone(), told(part.dtype()))).collect())
        }
        other => other.clone(),
    }
}

/// The chunks of a column that have rows.
fn chunks(column: &Column, field: &Field) -> Result<Vec<ArrayRef>> {
    let mut series = column.as_materialized_series().clone();
    let told = told(series.dtype());
    if told != *series.dtype() {
        series = series.cast(&told)?;
    }
    let mut chunks = Vec::with_capacity(series.n_chunks());
    for chunk in 0..series.n_chunks() {
        if series.chunks()[chunk].is_empty() {
            continue;
        }
        let array = array_of_polars(series.to_arrow(chunk, CompatLevel::newest()));
        let array = array.map_err(|error| value(field.name(), error))?;
        chunks.push(retyped(field.name(), &array, field.data_type())?);
    }
    Ok(chunks)
}

fn value(column: &str, error: arrow::error::ArrowError) -> FrameError {
    FrameError::Value { column: column.to_owned(), error }
}

/// What is left of a column.
struct Cursor<'a> {
    chunks: &'a [ArrayRef],
    /// The first row of the first chunk that is left.
    from: usize,
}

impl Cursor<'_> {
    /// How many rows the first chunk has left.
    fn left(&mut self) -> usize {
        self.chunks.first().map_or(0, |chunk| chunk.len() - self.from)
    }

    /// The next rows, which are in one chunk.
    fn take(&mut self, rows: usize) -> ArrayRef {
        let chunk = &self.chunks[0];
        let taken = if rows == chunk.len() { Arc::clone(chunk) } else { chunk.slice(self.from, rows) };
        self.from += rows;
        if self.from == chunk.len() {
            (self.chunks, self.from) = (&self.chunks[1..], 0);
        }
        taken
    }
}
