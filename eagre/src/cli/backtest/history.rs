//! Labelled history: rows, of a CSV file or a frame, and which of them something was wrong with.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{SortColumn, SortOptions, cast, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use eagre_engine::settings;

use super::labels::{self, LabelledWindows};
use super::{Columns, HISTORY};
use crate::error::{Error, Result};
use crate::session::Session;

/// How times are kept, and how a query sees them.
pub(super) const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// The endings of files that are read as tables.
const TABLE_ENDINGS: [&str; 2] = ["parquet", "arrow"];

/// One key's part of the history.
#[derive(Debug)]
pub(super) struct Track {
    /// The text of the key; empty where the history has none.
    pub key: String,
    /// Event time by row, ascending.
    pub times_ms: Vec<i64>,
    /// The value that is shown, by row; NaN where there is none.
    pub values: Vec<f64>,
    /// The labelled windows with both ends, ascending.
    pub windows_ms: Vec<RangeInclusive<i64>>,
}

impl Track {
    /// From the first to the last row.
    pub(super) fn span_ms(&self) -> i64 {
        match (self.times_ms.first(), self.times_ms.last()) {
            (Some(first), Some(last)) => last - first,
            _ => 0,
        }
    }

    /// Whether each row is within a labelled window.
    pub(super) fn labels(&self) -> Vec<bool> {
        let mut labels = vec![false; self.times_ms.len()];
        for window in &self.windows_ms {
            let start = self.times_ms.partition_point(|time| time < window.start());
            let end = self.times_ms.partition_point(|time| time <= window.end());
            labels[start..end].fill(true);
        }
        labels
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct History {
    /// All rows in order of time, without the labels: a query that could read them would find everything.
    pub rows: RecordBatch,
    /// By key, in order of their texts.
    pub tracks: Vec<Track>,
    /// The column that is shown and scored by `--method`.
    pub value: Option<String>,
}

impl History {
    /// Reads the rows of a file and their labels.
    ///
    /// # Errors
    /// A file that cannot be read; as [`of`](Self::of).
    pub(super) fn read(path: &Path, columns: &Columns, labels: &str) -> Result<Self> {
        Self::of(read_file(path)?, &format!("`{}`", path.display()), columns, labels)
    }

    /// The rows of `data`, as errors call it, with their labels.
    ///
    /// # Errors
    /// A column that is not there or of another type; a label that fits no row.
    pub(super) fn of(rows: RecordBatch, data: &str, columns: &Columns, labels: &str) -> Result<Self> {
        if rows.num_rows() == 0 {
            return Err(Error::usage(format!("{data} has no rows")));
        }
        let schema = rows.schema();
        let time = column(&schema, &columns.time, &columns.option("time"), data)?;
        let key = columns.key.as_ref().map(|key| column(&schema, key, &columns.option("key"), data)).transpose()?;
        let times = times(&rows, time, columns, data)?;
        if times.null_count() > 0 {
            return Err(Error::usage(format!(
                "{data}: {} rows have no time in `{}`; take them out of it",
                times.null_count(),
                columns.time
            )));
        }
        // By time, as a stream would bring them; rows of one time stay as they are.
        let numbers: ArrayRef = Arc::new(arrow::array::UInt64Array::from_iter_values(0..rows.num_rows() as u64));
        let sort = |values: &ArrayRef| SortColumn { values: Arc::clone(values), options: Some(SortOptions::default()) };
        let order = lexsort_to_indices(&[sort(&times), sort(&numbers)], None).map_err(engine)?;
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        fields[time] = Arc::new(Field::new(fields[time].name(), TIME, false));
        let mut arrays = rows.columns().to_vec();
        arrays[time] = times;
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(engine)?;
        let rows = take_record_batch(&rows, &order).map_err(engine)?;

        let label = schema.index_of(labels).ok();
        let value = value_column(&schema, columns, [Some(time), key, label], data)?;
        let keys = match key {
            Some(key) => texts(rows.column(key))?,
            None => vec![String::new(); rows.num_rows()],
        };
        let mut windows = match label {
            Some(label) => {
                let flags = labels::flags(rows.column(label)).ok_or_else(|| {
                    Error::usage(format!(
                        "{data}: column `{labels}` is {}; labels are true and false, or 1 and 0",
                        eagre_sql::types::sql_name(rows.column(label).data_type())
                    ))
                })?;
                labels::of_flags(&keys, rows.column(time).as_primitive::<TimestampMillisecondType>().values(), &flags)
            }
            None => labels::read(Path::new(labels), &columns.option("labels"), &names(&schema))?,
        };
        let tracks = tracks(&rows, time, value, &keys, &mut windows);
        if let Some((key, _)) = windows.0.first_key_value() {
            let known: Vec<&str> = tracks.iter().map(|track| track.key.as_str()).take(10).collect();
            let key = if key.is_empty() { "no key".to_owned() } else { format!("key `{key}`") };
            return Err(Error::usage(format!(
                "`{labels}` has windows of {key}, which no row of {data} has; its keys are: {}",
                known.join(", ")
            )));
        }
        check_windows(&tracks, labels, data)?;
        let kept: Vec<usize> = (0..rows.num_columns()).filter(|column| Some(*column) != label).collect();
        Ok(Self {
            rows: rows.project(&kept).map_err(engine)?,
            tracks,
            value: value.map(|value| schema.field(value).name().clone()),
        })
    }

    /// The history's schema, as a query sees it.
    pub(super) fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    /// What the table would be in a session of one's own.
    pub(super) fn definition(&self, time: &str) -> String {
        let schema = self.rows.schema();
        let columns = schema.fields().iter().map(|field| {
            let kind = eagre_sql::types::sql_name(field.data_type());
            format!("`{}` {kind}", field.name())
        });
        format!("{HISTORY} ({}, WATERMARK FOR `{time}` AS `{time}`)", columns.collect::<Vec<_>>().join(", "))
    }
}

fn engine(error: arrow::error::ArrowError) -> Error {
    Error::Engine(error.into())
}

/// All rows of a file: one of CSV by itself, so that it may have any name; others, and folders, as a table would read them.
fn read_file(path: &Path) -> Result<RecordBatch> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match path.is_dir() || TABLE_ENDINGS.contains(&ending) {
        true => read_table(path),
        false => read_csv(path),
    }
}

/// All rows of what the connector of files reads there. A row that it cannot read is no history to leave out in silence.
fn read_table(path: &Path) -> Result<RecordBatch> {
    let session = Session::builder().set(settings::SHARDS, "1").build()?;
    let quoted = path.display().to_string().replace('\'', "''");
    let sql = format!(
        "CREATE TABLE data WITH ('connector' = 'filesystem', 'path' = '{quoted}', 'bad-rows' = 'fail'); SELECT * FROM data"
    );
    let mut job = session.execute(&sql)?.job.ok_or_else(|| Error::usage("the rows of a table are a result"))?;
    let rows = job.take_results().remove(0);
    let schema = rows.schema().clone();
    let batches = rows.collect_blocking()?;
    job.wait_blocking()?;
    concat_batches(&schema, &batches).map_err(engine)
}

/// All rows, with the types that all of them fit.
fn read_csv(path: &Path) -> Result<RecordBatch> {
    let at = |error| Error::File { path: path.display().to_string(), error };
    let bad = |error: arrow::error::ArrowError| Error::usage(format!("`{}`: {error}", path.display()));
    let mut file = File::open(path).map_err(at)?;
    let (schema, _) = Format::default().with_header(true).infer_schema(BufReader::new(&file), None).map_err(bad)?;
    file.rewind().map_err(at)?;
    let schema = Arc::new(schema);
    let reader = ReaderBuilder::new(Arc::clone(&schema)).with_header(true).build(BufReader::new(file)).map_err(bad)?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(bad)?;
    let rows = concat_batches(&schema, &batches).map_err(bad)?;
    match rows.num_rows() {
        0 => Err(Error::usage(format!("`{}` has no rows below its header", path.display()))),
        _ => Ok(rows),
    }
}

fn names(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

/// The place of a column that an option names.
fn column(schema: &Schema, name: &str, option: &str, data: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        Error::usage(format!("{option}: {data} has no column `{name}`; its columns are: {}", names(schema)))
    })
}

/// The column of times in milliseconds.
fn times(rows: &RecordBatch, time: usize, columns: &Columns, data: &str) -> Result<ArrayRef> {
    let array = rows.column(time);
    match array.data_type() {
        DataType::Timestamp(_, None) | DataType::Date32 => cast(array, &TIME).map_err(engine),
        // With a time zone: the instant, in UTC.
        DataType::Timestamp(_, Some(_)) => {
            let instants = cast(array, &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())));
            cast(&instants.map_err(engine)?, &TIME).map_err(engine)
        }
        other => Err(Error::usage(format!(
            "{}: column `{}` of {data} holds {} and not times; a time is written like 2026-01-31 12:00:00, in every row",
            columns.option("time"),
            rows.schema().field(time).name(),
            eagre_sql::types::sql_name(other)
        ))),
    }
}

/// The column of values: the one that is named, else `value`, else the only number.
fn value_column(schema: &Schema, columns: &Columns, taken: [Option<usize>; 3], data: &str) -> Result<Option<usize>> {
    let is_number = |index: &usize| schema.field(*index).data_type().is_numeric();
    if let Some(name) = &columns.value {
        let index = column(schema, name, &columns.option("value"), data)?;
        return match is_number(&index) {
            true => Ok(Some(index)),
            false => Err(Error::usage(format!(
                "{}: column `{name}` of {data} holds {} and not numbers",
                columns.option("value"),
                eagre_sql::types::sql_name(schema.field(index).data_type())
            ))),
        };
    }
    if let Some(index) = schema.index_of("value").ok().filter(is_number) {
        return Ok(Some(index));
    }
    let mut numbers = (0..schema.fields().len()).filter(|index| is_number(index) && !taken.contains(&Some(*index)));
    Ok(numbers.next().filter(|_| numbers.next().is_none()))
}

/// A column as texts; nulls are empty.
pub(super) fn texts(array: &ArrayRef) -> Result<Vec<String>> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).map_err(engine)?;
    (0..array.len()).map(|row| formatter.value(row).try_to_string().map_err(engine)).collect()
}

/// The rows of each key, with its windows, which are taken out of `windows`.
fn tracks(
    rows: &RecordBatch,
    time: usize,
    value: Option<usize>,
    keys: &[String],
    windows: &mut LabelledWindows,
) -> Vec<Track> {
    let times = rows.column(time).as_primitive::<TimestampMillisecondType>();
    let values = value.and_then(|value| cast(rows.column(value), &DataType::Float64).ok());
    let values = values.as_ref().map(|values| values.as_primitive::<Float64Type>());
    let mut by_key: BTreeMap<&str, Track> = BTreeMap::new();
    for (row, key) in keys.iter().enumerate() {
        let track = by_key.entry(key).or_insert_with(|| Track {
            key: key.clone(),
            times_ms: Vec::new(),
            values: Vec::new(),
            windows_ms: Vec::new(),
        });
        track.times_ms.push(times.value(row));
        let value = values.filter(|values| values.is_valid(row)).map_or(f64::NAN, |values| values.value(row));
        track.values.push(value);
    }
    let mut tracks: Vec<Track> = by_key.into_values().collect();
    for track in &mut tracks {
        track.windows_ms = windows.0.remove(&track.key).unwrap_or_default();
    }
    tracks
}

/// A window without a row could never be found, and says that the labels are those of something else.
fn check_windows(tracks: &[Track], labels: &str, data: &str) -> Result<()> {
    for track in tracks {
        for window in &track.windows_ms {
            let at = track.times_ms.partition_point(|time| time < window.start());
            if track.times_ms.get(at).is_none_or(|time| time > window.end()) {
                return Err(Error::usage(format!(
                    "`{labels}`: no row of {data}{} lies in the window from {} to {}; are the labels in another time zone?",
                    if track.key.is_empty() { String::new() } else { format!(" with key `{}`", track.key) },
                    moment(*window.start()),
                    moment(*window.end())
                )));
            }
        }
    }
    match tracks.iter().all(|track| track.windows_ms.is_empty()) {
        true => Err(Error::usage(format!(
            "`{labels}` labels no row of {data}: without anything to find, precision and recall mean nothing"
        ))),
        false => Ok(()),
    }
}

/// A time as people write it.
pub(super) fn moment(ms: i64) -> String {
    arrow::temporal_conversions::timestamp_ms_to_datetime(ms)
        .map_or_else(|| format!("{ms} ms"), |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
}
