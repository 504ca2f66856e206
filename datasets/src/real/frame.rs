//! A real series as a labelled frame: read, brought into order of time, its windows as a column.

use std::io::Cursor;
use std::sync::Arc;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use eagre_frames::frame;
use eagre_frames::polars::prelude::{DataType as FrameType, TimeUnit as FrameUnit};
use eagre_frames::polars::prelude::{IntoLazy, LazyFrame, SortMultipleOptions, col, lit};

use super::Series;

impl Series {
    /// The series as a plan of a frame with the columns `timestamp` (milliseconds), `value` and `is_anomaly`, in order of time; rows of one
    /// time stay as they are in the file. It goes on where a program adds to it:
    ///
    /// ```
    /// use eagre_datasets::real::SERIES;
    /// use eagre_frames::polars::prelude::*;
    ///
    /// # fn main() -> PolarsResult<()> {
    /// let taxi = SERIES.iter().find(|series| series.name == "nyc_taxi").expect("a series of this crate");
    /// let wrong = taxi.frame().filter(col("is_anomaly")).collect()?;
    /// assert_eq!(wrong.height(), 1_035);
    /// # Ok(())
    /// # }
    /// ```
    pub fn frame(&self) -> LazyFrame {
        let schema = Arc::new(Schema::new(vec![
            Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Field::new("value", DataType::Float64, false),
        ]));
        let reader = ReaderBuilder::new(Arc::clone(&schema)).with_header(true).build(Cursor::new(self.csv));
        let rows = reader.and_then(Iterator::collect::<Result<Vec<_>, _>>).expect("the embedded files are tested");
        let rows = frame(&schema, &rows).expect("times and numbers are columns of frames");
        let at_ms = |text: &str| {
            let ns = string_to_timestamp_nanos(text).expect("the embedded windows are tested");
            lit(ns.div_euclid(1_000_000)).cast(FrameType::Datetime(FrameUnit::Milliseconds, None))
        };
        let at = || col("timestamp");
        let windows = self.anomaly_windows();
        let within = windows.iter().map(|(first, last)| at().gt_eq(at_ms(first)).and(at().lt_eq(at_ms(last))));
        let is_anomaly = within.reduce(|a, b| a.or(b)).unwrap_or_else(|| lit(false));
        rows.lazy()
            .sort(["timestamp"], SortMultipleOptions::default().with_maintain_order(true))
            .with_column(is_anomaly.alias("is_anomaly"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::SERIES;
    use super::*;

    /// Each series is there as a whole, in order, and labelled where the benchmark says so: checked row by row against its texts.
    #[test]
    fn series_are_labelled_frames() {
        for series in SERIES {
            let frame = series.frame().collect().expect("a plan over rows in memory");
            let text = std::str::from_utf8(series.csv).expect("ASCII");
            let windows = series.anomaly_windows();
            let mut expected: Vec<(i64, f64, bool)> = text
                .lines()
                .skip(1)
                .map(|line| {
                    let (at, value) = line.split_once(',').expect("two columns");
                    let ms = string_to_timestamp_nanos(at).expect("a time") / 1_000_000;
                    // As texts, which sort as times do.
                    let is_within = |(first, last): &(String, String)| first.as_str() <= at && at <= last.as_str();
                    (ms, value.parse().expect("a number"), windows.iter().any(is_within))
                })
                .collect();
            expected.sort_by_key(|row| row.0);
            let times = frame.column("timestamp").and_then(|column| column.cast(&FrameType::Int64));
            let times = times.expect("instants");
            let column = |name: &str| frame.column(name).expect("a column").clone();
            let (values, labels) = (column("value"), column("is_anomaly"));
            let rows: Vec<(i64, f64, bool)> = times
                .i64()
                .expect("milliseconds")
                .into_no_null_iter()
                .zip(values.f64().expect("numbers").into_no_null_iter())
                .zip(labels.bool().expect("labels").iter().flatten())
                .map(|((at, value), label)| (at, value, label))
                .collect();
            assert_eq!(rows, expected, "{}", series.name);
        }
    }
}
