//! One column as another type: what the types of the two sides differ in, and no more of it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeListArray, StructArray, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;

use crate::error::{FrameError, Result};

/// The column as `data_type`, which [`types`](crate::types) has found for it. Parts that have their type already are passed on.
///
/// # Errors
/// A value does not fit.
pub(crate) fn retyped(column: &str, array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    of_type(array, data_type).map_err(|error| FrameError::Value { column: column.to_owned(), error })
}

fn of_type(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), data_type) {
        (DataType::Null, other) => Ok(new_null_array(other, array.len())),
        (DataType::List(_), DataType::LargeList(field)) => {
            let list = array.as_list::<i32>();
            large_list(list.offsets(), list.values(), list.nulls(), field)
        }
        (DataType::LargeList(_), DataType::LargeList(field)) => {
            let list = array.as_list::<i64>();
            let values = of_type(list.values(), field.data_type())?;
            let list =
                LargeListArray::try_new(Arc::clone(field), list.offsets().clone(), values, list.nulls().cloned())?;
            Ok(Arc::new(list))
        }
        (DataType::Map(..), DataType::LargeList(field)) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            large_list(map.offsets(), &entries, map.nulls(), field)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let parts = array.as_struct();
            let columns = parts.columns().iter().zip(fields).map(|(part, field)| of_type(part, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, parts.nulls().cloned())?))
        }
        _ => cast_with_options(array, data_type, &CastOptions { safe: false, ..CastOptions::default() }),
    }
}

fn large_list(
    offsets: &OffsetBuffer<i32>,
    values: &ArrayRef,
    nulls: Option<&arrow::buffer::NullBuffer>,
    field: &FieldRef,
) -> Result<ArrayRef, ArrowError> {
    let values = of_type(values, field.data_type())?;
    let offsets = OffsetBuffer::new(offsets.iter().map(|offset| i64::from(*offset)).collect());
    Ok(Arc::new(LargeListArray::try_new(Arc::clone(field), offsets, values, nulls.cloned())?))
}
