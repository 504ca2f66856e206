//! Frames: made of record batches, or given by a program, at once or as a plan.

use arrow::array::{Array, RecordBatch, new_empty_array};
use arrow::datatypes::{Schema, SchemaRef};
use polars::prelude::{Column, DataFrame, IntoLazy, LazyFrame, Series, by_name, len};

use crate::batches;
use crate::column::retyped;
use crate::error::Result;
use crate::ffi::array_of_arrow;
use crate::types::frame_type;

/// The rows of `batches` as one frame with the columns of `schema`; each batch is a chunk of it.
///
/// # Errors
/// A type that polars does not have; two columns of one name.
pub fn frame(schema: &Schema, batches: &[RecordBatch]) -> Result<DataFrame> {
    let height = batches.iter().map(RecordBatch::num_rows).sum();
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let name = field.name().as_str();
        let data_type = frame_type(name, field.data_type())?;
        let filled = batches.iter().map(|batch| batch.column(index)).filter(|array| !array.is_empty());
        let mut chunks = Vec::new();
        for array in filled {
            chunks.push(array_of_arrow(&retyped(name, array, &data_type)?)?);
        }
        if chunks.is_empty() {
            chunks.push(array_of_arrow(&new_empty_array(&data_type))?);
        }
        Ok(Column::from(Series::from_arrow_chunks(name.into(), chunks)?))
    });
    Ok(DataFrame::new(height, columns.collect::<Result<Vec<_>>>()?)?)
}

/// A frame that a program gives: its rows, or how they are made.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one for a whole table")]
pub enum Frame {
    /// Rows in memory.
    Data(DataFrame),
    /// A plan, that runs when the rows are asked for.
    Lazy(LazyFrame),
}

impl std::fmt::Debug for Frame {
    /// Its kind alone: the rows of a frame are many, and a plan is shown by [`LazyFrame::explain`].
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data(frame) => write!(formatter, "Frame::Data(rows={})", frame.height()),
            Self::Lazy(_) => formatter.write_str("Frame::Lazy"),
        }
    }
}

impl From<DataFrame> for Frame {
    fn from(frame: DataFrame) -> Self {
        Self::Data(frame)
    }
}

impl From<LazyFrame> for Frame {
    fn from(frame: LazyFrame) -> Self {
        Self::Lazy(frame)
    }
}

impl Frame {
    /// The columns, with the types that SQL has for them.
    ///
    /// # Errors
    /// A type that SQL does not have; a plan that is wrong, or whose files are not there.
    pub fn schema(&self) -> Result<SchemaRef> {
        match self {
            Self::Data(frame) => batches::schema(frame.schema()),
            Self::Lazy(frame) => batches::schema(&*frame.clone().collect_schema()?),
        }
    }

    /// The rows of these columns (by name, without any: rows alone), in batches of `rows_max` rows or less. A plan runs for them alone, so
    /// what it reads of files is no more than they need.
    ///
    /// # Errors
    /// A plan that fails.
    pub fn batches(&self, columns: &[&str], rows_max: usize) -> Result<Vec<RecordBatch>> {
        let frame = match self {
            Self::Data(frame) => frame.select(columns.iter().copied())?,
            Self::Lazy(frame) if columns.is_empty() => {
                let counted = frame.clone().select([len()]).collect()?;
                let rows = counted.columns()[0].get(0)?.try_extract::<usize>()?;
                DataFrame::empty_with_height(rows)
            }
            Self::Lazy(frame) => {
                frame.clone().select([by_name(columns.iter().copied(), true, false).as_expr()]).collect()?
            }
        };
        batches::batches(&frame, rows_max)
    }

    /// As a plan.
    pub fn lazy(self) -> LazyFrame {
        match self {
            Self::Data(frame) => frame.lazy(),
            Self::Lazy(frame) => frame,
        }
    }
}
