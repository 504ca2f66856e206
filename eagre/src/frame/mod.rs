//! Frames of polars: as tables that end, and as results.
//!
//! For the work before a stream goes live: history is prepared with polars, queries run over it as they will over the stream, and what
//! they say goes on as a frame. Columns pass by the C data interface, without a copy where both sides mean the same by a type
//! ([`eagre_frames::types`]).

mod result;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::RecordBatch;
use eagre_frames::polars::prelude::{DataFrame, LazyFrame};
pub use eagre_frames::{Frame, FrameError, frame, types};
use eagre_sql::catalog::TableDefinition;

use self::source::FrameSource;
use crate::error::Result;
use crate::session::Session;

/// A frame as a table: its rows in their order, and perhaps which column is event time.
#[derive(Debug, Clone)]
pub struct FrameTable {
    frame: Frame,
    watermark: Option<(String, String)>,
}

impl FrameTable {
    /// As `WATERMARK FOR column AS expr` says it in `CREATE TABLE`. Over a frame that is sorted by the column, `expr` is the column itself;
    /// rows behind the watermark are late, as in any stream.
    pub fn watermark(mut self, column: impl Into<String>, expr: impl Into<String>) -> Self {
        self.watermark = Some((column.into(), expr.into()));
        self
    }
}

impl From<Frame> for FrameTable {
    fn from(frame: Frame) -> Self {
        Self { frame, watermark: None }
    }
}

impl From<DataFrame> for FrameTable {
    fn from(frame: DataFrame) -> Self {
        Frame::from(frame).into()
    }
}

impl From<LazyFrame> for FrameTable {
    fn from(frame: LazyFrame) -> Self {
        Frame::from(frame).into()
    }
}

/// All rows of a frame in their order, in batches of `rows_max` rows or less, with the types that SQL has for their columns: to be pushed into a
/// table, say.
///
/// # Errors
/// A column of a type that SQL does not have, or a list of more than 2³¹ elements in one chunk.
pub fn batches(frame: &DataFrame, rows_max: usize) -> Result<Vec<RecordBatch>> {
    Ok(eagre_frames::batches(frame, rows_max)?)
}

impl Session {
    /// Makes a frame known to SQL as a table that ends; `DROP TABLE` lets it go.
    ///
    /// A lazy frame is planned now, and runs when a query reads the table: for the columns that the query reads and no others, so that a
    /// scan of files reads no more than these. What it gave is kept for the next query of the same columns. With a state folder, a
    /// program that starts again has to register the same rows in the same order: sort them, or have `group_by_stable`.
    ///
    /// ```
    /// use eagre::frame::FrameTable;
    /// use eagre::polars::prelude::*;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let minute = 60_000;
    /// let readings = df!(
    ///     "at" => [3 * minute, 0, minute, 2 * minute],
    ///     "machine" => ["a", "a", "b", "b"],
    ///     "celsius" => [24.0, 20.0, 99.0, 21.0],
    /// )?;
    /// let readings = readings.lazy()
    ///     .with_column(col("at").cast(DataType::Datetime(TimeUnit::Milliseconds, None)))
    ///     .filter(col("celsius").lt(lit(50.0)))
    ///     .sort(["at"], SortMultipleOptions::default());
    ///
    /// let session = eagre::Session::builder().set("eagre.shards", "1").build()?;
    /// session.register_frame("reading", FrameTable::from(readings).watermark("at", "at"))?;
    /// let hottest = session.execute(
    ///     "SELECT window_start, max(celsius) AS hottest
    ///      FROM TABLE(TUMBLE(TABLE reading, DESCRIPTOR(at), INTERVAL '2' MINUTE))
    ///      GROUP BY window_start, window_end ORDER BY window_start",
    /// )?.into_frame_blocking()?;
    /// assert_eq!(hottest.column("hottest")?.f64()?.to_vec(), [Some(20.0), Some(24.0)]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The name is taken, a column has a type that SQL does not have, the watermark does not parse, or the plan is wrong.
    pub fn register_frame(&self, name: &str, frame: impl Into<FrameTable>) -> Result<()> {
        let FrameTable { frame, watermark } = frame.into();
        let schema = frame.schema()?;
        let mut table = TableDefinition::from_schema(name, &schema);
        if let Some((column, expr)) = watermark {
            table = table.with_watermark(&column, Some(&expr))?;
        }
        self.register_source(table, Arc::new(FrameSource::new(name, schema, frame)))
    }
}
