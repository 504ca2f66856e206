//! `UNNEST`: each element of an array becomes a row, each field of a row type a column.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, UInt32Builder};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use eagre_engine::delta::batch_of;
use eagre_engine::expr::{StepContext, Transform};
use eagre_engine::{EngineError, Result};

/// Where an output column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unnested {
    /// The input column as it is, repeated for each element.
    Repeat(usize),
    /// The elements of the arrays in the input column.
    Elements(usize),
    /// Field `field` of the rows in the input column.
    Field {
        /// The input column.
        column: usize,
        /// The field's place.
        field: usize,
    },
}

/// Unnests arrays in step: of several arrays the longest decides, shorter ones are filled up with nulls.
#[derive(Debug)]
pub(super) struct Unnest {
    columns: Vec<Unnested>,
    /// Whether a row without elements stays, with a null.
    keep_null: bool,
    keep_empty: bool,
    schema: SchemaRef,
    text: String,
}

impl Unnest {
    pub(super) fn new(
        columns: Vec<Unnested>,
        keep_null: bool,
        keep_empty: bool,
        schema: SchemaRef,
        text: String,
    ) -> Self {
        Self { columns, keep_null, keep_empty, schema, text }
    }
}

impl fmt::Display for Unnest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unnest [{}]", self.text)
    }
}

/// Where the elements of a row's array are among all elements.
fn range_of(array: &ArrayRef, row: usize) -> (usize, usize) {
    match array.data_type() {
        DataType::List(_) => {
            let offsets = array.as_list::<i32>().value_offsets();
            (offsets[row] as usize, offsets[row + 1] as usize)
        }
        DataType::LargeList(_) => {
            let offsets = array.as_list::<i64>().value_offsets();
            (offsets[row] as usize, offsets[row + 1] as usize)
        }
        _ => {
            let list = array.as_fixed_size_list();
            let size = list.value_length() as usize;
            ((list.offset() + row) * size, (list.offset() + row + 1) * size)
        }
    }
}

fn elements_of(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::List(_) => Arc::clone(array.as_list::<i32>().values()),
        DataType::LargeList(_) => Arc::clone(array.as_list::<i64>().values()),
        _ => Arc::clone(array.as_fixed_size_list().values()),
    }
}

impl Transform for Unnest {
    fn apply(&self, batch: &RecordBatch, _context: &StepContext) -> Result<(RecordBatch, UInt32Array)> {
        let lists: Vec<usize> = self
            .columns
            .iter()
            .filter_map(|column| if let Unnested::Elements(index) = column { Some(*index) } else { None })
            .collect();
        let mut rows = vec![];
        let mut elements: Vec<UInt32Builder> = lists.iter().map(|_| UInt32Builder::new()).collect();
        for row in 0..batch.num_rows() {
            let ranges: Vec<(usize, usize)> = lists
                .iter()
                .map(|index| match batch.column(*index) {
                    array if array.is_null(row) => (0, 0),
                    array => range_of(array, row),
                })
                .collect();
            let mut count = ranges.iter().map(|(start, end)| end - start).max().unwrap_or(1);
            if count == 0 {
                let null = lists.iter().all(|index| batch.column(*index).is_null(row));
                count = usize::from(if null { self.keep_null } else { self.keep_empty });
            }
            for position in 0..count {
                rows.push(row as u32);
                for (builder, (start, end)) in elements.iter_mut().zip(&ranges) {
                    match start + position < *end {
                        true => builder.append_value((start + position) as u32),
                        false => builder.append_null(),
                    }
                }
            }
        }
        let rows = UInt32Array::from(rows);
        let elements: Vec<UInt32Array> = elements.iter_mut().map(UInt32Builder::finish).collect();
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            columns.push(match *column {
                Unnested::Repeat(index) => take(batch.column(index), &rows, None)?,
                Unnested::Field { column, field } => {
                    let rows_of =
                        batch.column(column).as_struct_opt().ok_or_else(|| EngineError::bug("unnest of no row"))?;
                    let values = Arc::clone(rows_of.column(field));
                    let values = match rows_of.nulls() {
                        Some(nulls) => {
                            let mask = arrow::array::BooleanArray::new(!nulls.inner(), None);
                            arrow::compute::nullif(&values, &mask)?
                        }
                        None => values,
                    };
                    take(&values, &rows, None)?
                }
                Unnested::Elements(index) => {
                    let place = lists.iter().position(|list| *list == index).expect("it was collected above");
                    let values = elements_of(batch.column(index));
                    match values.is_empty() {
                        // `take` cannot make nulls of nothing.
                        true => arrow::array::new_null_array(values.data_type(), rows.len()),
                        false => take(&values, &elements[place], None)?,
                    }
                }
            });
        }
        Ok((batch_of(&self.schema, columns, rows.len())?, rows))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
