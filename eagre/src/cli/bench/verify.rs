//! Whether an answer is right: the streamed rows, all changes applied, against an oracle's over the same rows, as a multiset.
//!
//! The oracle is the plain program of [`plain`](super::plain) where there is one, which shares no line with the planner, and DataFusion's
//! batch answer to the same text elsewhere. q12 counts by the clock on the wall, so that no second run gives its rows again: its windows
//! are checked for their form, and its counts by their totals.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use eagre_engine::EngineError;
use eagre_sql::planner::Job;

use super::measure::{Rows, Setup, open_gate};
use super::plain::answer as plain_answer;
use super::query::Query;
use super::sink::CollectingFactory;
use crate::error::{Error, Result};
use crate::session::Session;

/// Rows that differ are shown up to so many.
const SHOWN: usize = 3;

/// `ok`, or what is wrong with the answer.
pub(super) fn verify(query: &Query, setup: &Setup<'_>, rows: &Rows) -> Result<String> {
    let (streamed, rows_late) = streamed(query, setup)?;
    if rows_late > 0 {
        return Ok(format!("unchecked: {rows_late} rows came late"));
    }
    let tables = rows.tables();
    let (expected, oracle) = match plain_answer(query.name, &tables)? {
        Some(expected) => (expected, "plain Rust"),
        None => (setup.session()?.0.answer_at_once(query.text, &tables)?, "DataFusion"),
    };
    let streamed = if query.name == "q12" { totals(&streamed)? } else { streamed };
    verdict(&streamed, &expected, oracle)
}

/// `ok`, or in which rows an answer differs from the oracle's.
pub(super) fn verdict(streamed: &RecordBatch, expected: &RecordBatch, oracle: &str) -> Result<String> {
    Ok(match difference(streamed, expected)? {
        None => "ok".to_owned(),
        Some(difference) => format!("WRONG against {oracle}: {difference}"),
    })
}

/// The rows that a query's changes add up to, and how many rows of its input were late.
fn streamed(query: &Query, setup: &Setup<'_>) -> Result<(RecordBatch, u64)> {
    let (session, gate) = setup.session()?;
    let job = session.prepare(query.text)?.job.ok_or_else(|| Error::usage("the text holds no query"))?;
    open_gate(&gate, &job);
    rows_of(&session, job)
}

/// The rows that the changes of all results of a pipeline add up to, which have the same columns, and how many rows of its input were
/// late.
pub(super) fn rows_of(session: &Session, mut job: Job) -> Result<(RecordBatch, u64)> {
    let schema = job.outputs.first().map(|output| Arc::clone(&output.schema));
    let schema = schema.ok_or_else(|| Error::usage("the text holds no query"))?;
    let tables: Vec<CollectingFactory> = job.outputs.iter().map(|_| CollectingFactory::new(&schema)).collect();
    for (output, table) in tables.iter().enumerate() {
        job.attach_results(output, Arc::new(table.clone()));
    }
    let job = session.start_as_is(job, None, None)?;
    let metrics = job.metrics().cloned();
    job.wait_blocking()?;
    let mut batches = Vec::new();
    for table in tables {
        batches.extend(table.rows()?);
    }
    let rows_late = metrics.map_or(0, |metrics| metrics.snapshot().nodes.iter().map(|node| node.rows_late).sum());
    Ok((concat_batches(&schema, &batches).map_err(EngineError::from)?, rows_late))
}

/// q12's rows (bidder, count, start, end) as one a bidder.
///
/// # Errors
/// A window that is no ten seconds of the clock.
fn totals(windows: &RecordBatch) -> Result<RecordBatch> {
    let column = |index: usize, data_type: &DataType| cast(windows.column(index), data_type).map_err(EngineError::from);
    let milliseconds = |index| -> Result<Int64Array> {
        let time = column(index, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
        Ok(cast(&time, &DataType::Int64).map_err(EngineError::from)?.as_primitive::<Int64Type>().clone())
    };
    let (bidders, counts) = (column(0, &DataType::Int64)?, column(1, &DataType::Int64)?);
    let (bidders, counts) = (bidders.as_primitive::<Int64Type>(), counts.as_primitive::<Int64Type>());
    let (starts, ends) = (milliseconds(2)?, milliseconds(3)?);
    let mut sums: BTreeMap<i64, i64> = BTreeMap::new();
    for row in 0..windows.num_rows() {
        let (start, end) = (starts.value(row), ends.value(row));
        if end - start != 10_000 || start % 10_000 != 0 {
            return Err(Error::usage(format!(
                "q12 gave a window from {start} to {end} ms, which is no ten seconds of the clock"
            )));
        }
        *sums.entry(bidders.value(row)).or_default() += counts.value(row);
    }
    let field = |name| Field::new(name, DataType::Int64, false);
    let columns: [Arc<dyn Array>; 2] = [
        Arc::new(Int64Array::from_iter_values(sums.keys().copied())),
        Arc::new(Int64Array::from_iter_values(sums.values().copied())),
    ];
    let schema = Arc::new(Schema::new(vec![field("bidder"), field("bid_count")]));
    Ok(RecordBatch::try_new(schema, columns.to_vec()).map_err(EngineError::from)?)
}

/// How two multisets of rows differ; columns are compared by place, in the types of the first.
fn difference(got: &RecordBatch, expected: &RecordBatch) -> Result<Option<String>> {
    if got.num_columns() != expected.num_columns() {
        return Ok(Some(format!("{} columns and not {}", got.num_columns(), expected.num_columns())));
    }
    let columns = expected.columns().iter().zip(got.columns());
    let columns = columns.map(|(column, like)| cast(column, like.data_type()).map_err(EngineError::from));
    let expected = RecordBatch::try_new_with_options(
        Arc::new(nullable(&got.schema())),
        columns.collect::<Result<Vec<_>, _>>()?,
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(expected.num_rows())),
    )
    .map_err(EngineError::from)?;
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for_each_row(got, |row| *counts.entry(row).or_default() += 1)?;
    for_each_row(&expected, |row| *counts.entry(row).or_default() -= 1)?;
    let only = |sign: i64| {
        let rows = counts.iter().filter(move |(_, count)| **count * sign > 0);
        let number: i64 = rows.clone().map(|(_, count)| count.abs()).sum();
        let shown: Vec<&str> = rows.map(|(row, _)| row.as_str()).take(SHOWN).collect();
        (number, shown.join("; "))
    };
    let ((more, more_rows), (missing, missing_rows)) = (only(1), only(-1));
    Ok((more > 0 || missing > 0).then(|| {
        format!(
            "of {} rows {more} should not be there ({more_rows}), {missing} of {} are missing ({missing_rows})",
            got.num_rows(),
            expected.num_rows()
        )
    }))
}

fn nullable(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Schema::new(fields.collect::<Vec<_>>())
}

/// Each row as text. Doubles count to eleven digits: sums may be added up in another order.
fn for_each_row(batch: &RecordBatch, mut each: impl FnMut(String)) -> Result<()> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(EngineError::from)?;
    for row in 0..batch.num_rows() {
        let mut text = String::new();
        for (column, formatter) in batch.columns().iter().zip(&columns) {
            match column.as_primitive_opt::<Float64Type>().filter(|column| column.is_valid(row)) {
                Some(doubles) => text.push_str(&format!("{:.10e}|", doubles.value(row))),
                None => text.push_str(&format!("{}|", formatter.value(row))),
            }
        }
        each(text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, Int32Array};

    use super::*;

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        let names = ["a", "b", "c", "d"];
        RecordBatch::try_from_iter(names.into_iter().zip(columns)).expect("columns of one length")
    }

    /// A wrong answer would pass, or a right one fail for its order or type.
    #[test]
    fn answers_are_compared_as_multisets() {
        let got =
            batch(vec![Arc::new(Int64Array::from(vec![1, 2, 2])), Arc::new(Float64Array::from(vec![0.5, 1.0, 1.0]))]);
        let same = batch(vec![
            Arc::new(Int32Array::from(vec![2, 1, 2])),
            Arc::new(Float64Array::from(vec![1.0, 0.5, 1.0 + 1e-14])),
        ]);
        assert_eq!(difference(&got, &same).expect("comparable"), None);
        let other =
            batch(vec![Arc::new(Int64Array::from(vec![1, 2, 1])), Arc::new(Float64Array::from(vec![0.5, 1.0, 0.5]))]);
        let text = difference(&got, &other).expect("comparable").expect("they differ");
        assert_eq!(
            text,
            "of 3 rows 1 should not be there (2|1.0000000000e0|), 1 of 3 are missing (1|5.0000000000e-1|)"
        );
        assert!(difference(&got, &got.project(&[0]).expect("a column")).expect("comparable").is_some());
    }

    /// q12's windows must be ten seconds of the clock, whatever they count.
    #[test]
    fn processing_time_windows_are_checked_by_their_totals() {
        let windows = |start: i64| {
            let time = |ms: i64| -> ArrayRef {
                Arc::new(arrow::array::TimestampMillisecondArray::from(vec![ms, ms + 10_000]))
            };
            batch(vec![
                Arc::new(Int64Array::from(vec![7, 7])),
                Arc::new(Int64Array::from(vec![2, 3])),
                time(start),
                time(start + 10_000),
            ])
        };
        let sums = totals(&windows(20_000)).expect("whole windows");
        assert_eq!(sums.column(1).as_primitive::<Int64Type>().values(), &[5]);
        assert!(totals(&windows(20_001)).is_err());
    }
}
