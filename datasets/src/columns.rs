//! From projected columns to a batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::error::{DatasetError, Result};

/// Makes a batch of `rows` rows from the columns that the projection names; `column` is called with each index once per mention.
pub(crate) fn project(
    schema: &SchemaRef,
    projection: Option<&[usize]>,
    rows: usize,
    mut column: impl FnMut(usize) -> ArrayRef,
) -> Result<RecordBatch> {
    let (schema, columns) = match projection {
        None => (Arc::clone(schema), (0..schema.fields().len()).map(column).collect()),
        Some(indices) => {
            if let Some(&index) = indices.iter().find(|&&index| index >= schema.fields().len()) {
                let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(DatasetError::UnknownColumn { index, column_count: known.len(), known: known.join(", ") });
            }
            let projected = schema.project(indices)?;
            (Arc::new(projected), indices.iter().map(|&index| column(index)).collect::<Vec<_>>())
        }
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

pub(crate) fn int64(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// Event times in ms since 1970 UTC, without a time zone: SQL's `TIMESTAMP(3)`.
pub(crate) fn timestamp(values_ms: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values_ms))
}

pub(crate) fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

pub(crate) fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

pub(crate) const TIMESTAMP_MS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);
