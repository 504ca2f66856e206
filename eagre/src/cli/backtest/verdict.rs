//! What a query says about the history: scores, or alarms.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimestampMillisecondType};
use eagre_sql::catalog::TableDefinition;

use super::history::{History, TIME, texts};
use super::{Columns, HISTORY, Question};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::source::memory::MemorySource;

/// How many rows a batch of the history has.
const BATCH_ROWS: usize = 4_096;
/// A column of this name and of type Boolean says which rows are alarms.
const IS_ANOMALY: &str = "is_anomaly";
/// A column of this name and of a number's type is a score.
const SCORE: &str = "score";

/// One row of an answer, or that it is an alarm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mark {
    pub time_ms: i64,
    /// The score; NaN where the answer has none.
    pub score: f64,
    /// Whether the query says that it is an alarm.
    pub is_alarm: bool,
}

/// The answer of one query.
#[derive(Debug)]
pub(super) struct Verdict {
    /// By the history's track, ascending in time.
    pub marks: Vec<Vec<Mark>>,
    pub kind: Kind,
}

/// Where alarms come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Scores; a threshold makes alarms of them.
    Scores,
    /// A Boolean column.
    Flags,
    /// Each row is one, as of a pattern.
    Rows,
}

/// Runs the query over the history, which it knows as the table `history`.
///
/// # Errors
/// A query that is refused, fails or has no time of the history's among its columns.
pub(super) fn ask(history: &History, columns: &Columns, question: &Question, session: Session) -> Result<Verdict> {
    let rows = &history.rows;
    let batches = (0..rows.num_rows()).step_by(BATCH_ROWS);
    let batches = batches.map(|start| rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start))).collect();
    let quoted = format!("`{}`", columns.time.replace('`', "``"));
    let table =
        TableDefinition::from_schema(HISTORY, &history.schema()).with_watermark(&columns.time, Some(&quoted))?;
    session.register_source(table, Arc::new(MemorySource::new(HISTORY, history.schema(), batches)))?;
    let named = |message: String| Error::usage(format!("{}: {message}", question.name));
    let mut job = session
        .execute(&question.sql)?
        .job
        .ok_or_else(|| named("there is no query; its last statement has to be a SELECT from `history`".to_owned()))?;
    // All results have to be read, or the pipeline waits for who reads them; the last one is the answer.
    let results = job.take_results();
    let readers: Vec<_> = results
        .into_iter()
        .map(|result| std::thread::spawn(move || (result.schema().clone(), result.collect_blocking())))
        .collect();
    let mut answer = None;
    for reader in readers {
        let (schema, rows) = reader.join().map_err(|_| named("the thread of a result panicked".to_owned()))?;
        answer = Some((schema, rows?));
    }
    job.wait_blocking()?;
    let (schema, batches) = answer
        .ok_or_else(|| named("there is no query; its last statement has to be a SELECT from `history`".to_owned()))?;
    let rows = arrow::compute::concat_batches(&schema, &batches).map_err(engine)?;
    marks(history, columns, &flat(&rows)?).map_err(named)
}

fn engine(error: arrow::error::ArrowError) -> Error {
    Error::Engine(error.into())
}

/// The same rows with the fields of structs as columns, so that `detect_anomalies(..)` needs no unpacking.
pub(super) fn flat(rows: &RecordBatch) -> Result<RecordBatch> {
    let (mut fields, mut arrays): (Vec<Arc<Field>>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for (field, array) in rows.schema().fields().iter().zip(rows.columns()) {
        match array.as_struct_opt() {
            Some(parts) => {
                for (part, field) in parts.fields().iter().enumerate() {
                    fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
                    // A null struct has no fields: what is below it does not count.
                    let values = parts.column(part);
                    let hidden = arrow::compute::is_null(array).map_err(engine)?;
                    arrays.push(arrow::compute::nullif(values, &hidden).map_err(engine)?);
                }
            }
            None => {
                fields.push(Arc::clone(field));
                arrays.push(Arc::clone(array));
            }
        }
    }
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).map_err(engine)
}

/// Brings the rows of an answer to the tracks that they are about.
fn marks(history: &History, columns: &Columns, rows: &RecordBatch) -> Result<Verdict, String> {
    let schema = rows.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let place = |name: &str| names.iter().position(|known| known.eq_ignore_ascii_case(name));
    let required = |name: &str, what: &str| {
        place(name).ok_or_else(|| {
            format!(
                "its columns are {}; `{name}`, the {what} of the history, has to be one of them (`.. AS {name}`)",
                names.join(", ")
            )
        })
    };
    let time = required(&columns.time, "time")?;
    let key = columns.key.as_ref().map(|key| required(key, "key")).transpose()?;
    let times = match rows.column(time).data_type() {
        DataType::Timestamp(..) => cast(rows.column(time), &TIME).map_err(|error| error.to_string())?,
        other => return Err(format!("`{}` is {} and no time", columns.time, eagre_sql::types::sql_name(other))),
    };
    let times = times.as_primitive::<TimestampMillisecondType>();
    let keys = match key {
        Some(key) => texts(rows.column(key)).map_err(|error| error.to_string())?,
        None => vec![String::new(); rows.num_rows()],
    };
    // A column without a type holds nothing but NULL, which is no alarm.
    let flag = place(IS_ANOMALY)
        .filter(|column| matches!(rows.column(*column).data_type(), DataType::Boolean | DataType::Null));
    let score = place(SCORE).filter(|column| {
        let data_type = rows.column(*column).data_type();
        data_type.is_numeric() || data_type.is_null()
    });
    // That every row is an alarm is what an answer without a verdict says, and not one with a verdict that is misspelt.
    if let (None, None, Some(column)) = (flag, score, place(IS_ANOMALY).or_else(|| place(SCORE))) {
        return Err(format!(
            "its column `{}` is {}; `{IS_ANOMALY}` has to be a Boolean, and `{SCORE}` a number",
            names[column],
            eagre_sql::types::sql_name(rows.column(column).data_type())
        ));
    }
    let kind = match (flag, score) {
        (Some(_), _) => Kind::Flags,
        (None, Some(_)) => Kind::Scores,
        (None, None) => Kind::Rows,
    };
    let flags = flag
        .map(|column| cast(rows.column(column), &DataType::Boolean))
        .transpose()
        .map_err(|error| error.to_string())?;
    let flags = flags.as_ref().map(|flags| flags.as_boolean());
    let scores = score
        .map(|column| cast(rows.column(column), &DataType::Float64))
        .transpose()
        .map_err(|error| error.to_string())?;
    let scores = scores.as_ref().map(|scores| scores.as_primitive::<Float64Type>());
    let tracks: HashMap<&str, usize> =
        history.tracks.iter().enumerate().map(|(index, track)| (track.key.as_str(), index)).collect();
    let mut marks: Vec<Vec<Mark>> = vec![Vec::new(); history.tracks.len()];
    for (row, key) in keys.iter().enumerate() {
        let track = tracks
            .get(key.as_str())
            .ok_or_else(|| format!("it has rows of key `{key}`, which the history does not have"))?;
        if times.is_null(row) {
            return Err(format!("`{}` is null in row {row} (rows count from 0)", columns.time));
        }
        marks[*track].push(Mark {
            time_ms: times.value(row),
            score: scores.filter(|scores| scores.is_valid(row)).map_or(f64::NAN, |scores| scores.value(row)),
            is_alarm: match kind {
                Kind::Flags => flags.is_some_and(|flags| flags.is_valid(row) && flags.value(row)),
                Kind::Scores => false,
                Kind::Rows => true,
            },
        });
    }
    for marks in &mut marks {
        marks.sort_by_key(|mark| mark.time_ms);
    }
    Ok(Verdict { marks, kind })
}
