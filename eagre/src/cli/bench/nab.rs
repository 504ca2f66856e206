//! `eagre bench nab`: the series of the Numenta Anomaly Benchmark through `detect_anomalies`, as files that its scorer reads.
//!
//! Each series goes through one query with nothing set, so what is measured is what a user has who sets nothing. The benchmark's files
//! are in the order in which values were taken, with times that come twice and an hour that was recorded twice; a detector there sees rows
//! in this order. So event time is the greatest timestamp so far, and rows of one time are in the order of the file.
//!
//! A result is a number between 0 and 1 with one threshold for all files, 0.5: rows that the query calls anomalies are at or above it,
//! all others below. How far follows from the row's chance p and the false alarm rate, `1 - 2^-(ln p / ln rate)`, which is 0.5 where
//! the two are equal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use clap::Args;
use eagre_engine::EngineError;
use eagre_engine::score::AlarmOptions;
use eagre_sql::catalog::TableDefinition;

use super::verify::rows_of;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::source::memory::MemorySource;

/// What each series goes through.
const QUERY: &str = "SELECT n, d.is_anomaly, d.p_value FROM (SELECT n, detect_anomalies(`value`, ts) OVER (ORDER BY ts) AS d FROM series)";
/// A row that is an alarm has at least this.
const THRESHOLD: f64 = 0.5;
/// The most that a row has which is none.
const BELOW: f64 = 0.499_999;
const HEADER: &str = "timestamp,value";

/// Options of `eagre bench nab`.
#[derive(Debug, Args)]
pub(in crate::cli) struct NabArgs {
    /// The benchmark's folder or its `data` folder: `<folder>/<file>.csv` below it, with header `timestamp,value`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where the results go: `<folder>/<file>.csv` with header `timestamp,value,anomaly_score`; an alarm has at least 0.5.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Scores all files.
pub(super) fn run(args: &NabArgs) -> Result<()> {
    let (data, files) = data_of(&args.data)?;
    let (mut rows_all, mut alarms_all) = (0, 0);
    for file in &files {
        let series = Series::read(&data.join(file))?;
        let scores = series.scores()?;
        let alarms = scores.iter().filter(|score| **score >= THRESHOLD).count();
        let path = args.out.join(file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| told(folder, error))?;
        }
        fs::write(&path, series.result(&scores)).map_err(|error| told(&path, error))?;
        println!("{}: {} rows, {alarms} alarms", file.display(), scores.len());
        (rows_all, alarms_all) = (rows_all + scores.len(), alarms_all + alarms);
    }
    println!("{} files, {rows_all} rows, {alarms_all} alarms; results in {}", files.len(), args.out.display());
    Ok(())
}

fn told(path: &Path, error: std::io::Error) -> Error {
    Error::File { path: path.display().to_string(), error }
}

/// The benchmark's `data` folder and its files, where the folder itself or the benchmark's is named.
fn data_of(named: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    for folder in [named.to_path_buf(), named.join("data")] {
        let files = if folder.is_dir() || folder == named { files_of(&folder)? } else { vec![] };
        if !files.is_empty() {
            return Ok((folder, files));
        }
    }
    Err(Error::usage(format!("there is no `<folder>/<file>.csv` below `{0}` or `{0}/data`", named.display())))
}

/// `<folder>/<file>.csv` below a folder, in the order of their names.
fn files_of(data: &Path) -> Result<Vec<PathBuf>> {
    let entries = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder).map_err(|error| told(folder, error))?;
        entries.map(|entry| Ok(entry.map_err(|error| told(folder, error))?.path())).collect()
    };
    let mut files = vec![];
    for folder in entries(data)?.into_iter().filter(|path| path.is_dir()) {
        let csv = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "csv");
        files.extend(
            entries(&folder)?
                .into_iter()
                .filter(csv)
                .filter_map(|path| Some(path.strip_prefix(data).ok()?.to_path_buf())),
        );
    }
    files.sort();
    Ok(files)
}

/// A file: its rows as they are written, and what they say.
struct Series {
    written: Vec<(String, String)>,
    /// The greatest time up to each row, in milliseconds.
    times_ms: Vec<i64>,
    values: Vec<Option<f64>>,
}

impl Series {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| told(path, error))?;
        let wrong = |line: usize, what: &str| Error::usage(format!("`{}`, line {line}: {what}", path.display()));
        let mut lines = text.lines().map(str::trim_end).zip(1..);
        if lines.next().is_none_or(|(header, _)| header != HEADER) {
            return Err(wrong(1, "the header is not `timestamp,value`"));
        }
        let mut series = Series { written: vec![], times_ms: vec![], values: vec![] };
        for (text, line) in lines.filter(|(text, _)| !text.is_empty()) {
            let Some((time, value)) = text.split_once(',') else { return Err(wrong(line, "there is no `,`")) };
            series.values.push(match value {
                "" => None,
                value => Some(value.parse().map_err(|_| wrong(line, &format!("`{value}` is no number")))?),
            });
            series.written.push((time.to_owned(), value.to_owned()));
        }
        let times: ArrayRef = Arc::new(StringArray::from_iter_values(series.written.iter().map(|(time, _)| time)));
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let times = cast_with_options(&times, &DataType::Timestamp(TimeUnit::Millisecond, None), &strict)
            .map_err(|error| wrong(2, &format!("a time below cannot be read: {error}")))?;
        let times = times.as_primitive::<TimestampMillisecondType>().values().iter();
        series.times_ms = times
            .scan(i64::MIN, |greatest, time| {
                *greatest = (*greatest).max(*time);
                Some(*greatest)
            })
            .collect();
        Ok(series)
    }

    /// The score of each row, by the query.
    fn scores(&self) -> Result<Vec<f64>> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, false),
            Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Field::new("value", DataType::Float64, true),
        ]));
        let rows = self.values.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            Arc::new(TimestampMillisecondArray::from(self.times_ms.clone())),
            Arc::new(Float64Array::from(self.values.clone())),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(EngineError::from)?;
        let session = Session::builder().set("eagre.device", "cpu").build()?;
        let table = TableDefinition::from_schema("series", &schema).with_watermark("ts", Some("ts"))?;
        session.register_source(table, Arc::new(MemorySource::new("series", schema, vec![batch])))?;
        let job = session.prepare(QUERY)?.job.ok_or_else(|| Error::usage("the text holds no query"))?;
        let (found, rows_late) = rows_of(&session, job)?;
        if rows_late > 0 || found.num_rows() != rows {
            return Err(Error::usage(format!(
                "{} of {rows} rows came out, and {rows_late} came late",
                found.num_rows()
            )));
        }
        let (places, alarms) = (found.column(0).as_primitive::<Int64Type>(), found.column(1).as_boolean());
        let chances = found.column(2).as_primitive::<Float64Type>();
        let mut scores = vec![0.0; rows];
        for row in 0..rows {
            let chance = chances.is_valid(row).then(|| chances.value(row));
            scores[places.value(row) as usize] = score(chance, alarms.value(row));
        }
        Ok(scores)
    }

    /// The file of results.
    fn result(&self, scores: &[f64]) -> String {
        let rows = self.written.iter().zip(scores);
        let lines = rows.map(|((time, value), score)| format!("{time},{value},{score:.6}\n"));
        std::iter::once(format!("{HEADER},anomaly_score\n")).chain(lines).collect()
    }
}

/// Between 0 and 1, at or above 0.5 for an alarm only.
fn score(chance: Option<f64>, alarm: bool) -> f64 {
    let rate = AlarmOptions::default().max_false_alarm_rate;
    let score = chance.map_or(0.0, |chance| 1.0 - (-chance.ln() / rate.ln()).exp2());
    if alarm { score.max(THRESHOLD) } else { score.min(BELOW) }
}

#[cfg(test)]
mod tests {
    use eagre_measures::nab::{Plan, Profile, Threshold, load, load_scores, score as worth};

    use super::*;

    /// What is shipped is worth what it is held to: the real series that are here, all with one threshold and nothing set, by the benchmark's own
    /// rules.
    #[test]
    fn the_default_is_worth_its_gates() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/data/nab");
        let out = tempfile::tempdir().expect("a folder");
        run(&NabArgs { data: data.clone(), out: out.path().to_owned() }).expect("all series are scored");
        let files = load(&data, &data.join("windows_all.json")).expect("the labels of the repository");
        assert_eq!(files.len(), files_of(&data).expect("they are there").len(), "each series has labels");
        let plans: Vec<Plan> = files.iter().map(|file| file.plan.clone()).collect();
        let scores: Vec<Vec<f64>> =
            files.iter().map(|file| load_scores(out.path(), file).expect("a score for each row")).collect();
        for (profile, gate) in [(Profile::Standard, 72.0), (Profile::RewardLowFalsePositives, 63.0)] {
            let outcome = worth(&plans, &scores, profile, Threshold::Fixed(THRESHOLD)).expect("they are scored");
            assert!(
                outcome.score >= gate,
                "{}: {:.2} of at least {gate}; {} of {} windows, {} rows of false alarms",
                profile.name(),
                outcome.score,
                outcome.windows_hit,
                outcome.windows,
                outcome.false_alarm_rows
            );
        }
    }

    /// One threshold is for all files: which side of it a row is on is what the query says, and rarer rows are higher.
    #[test]
    fn alarms_and_no_others_reach_the_threshold() {
        let rate = AlarmOptions::default().max_false_alarm_rate;
        assert_eq!((score(None, false), score(Some(1.0), false)), (0.0, 0.0));
        assert!((score(Some(rate), true) - 0.5).abs() < 1e-12);
        assert_eq!((score(Some(rate / 1e3), false), score(Some(0.9), true)), (BELOW, THRESHOLD));
        assert!(score(Some(1e-30), true) > score(Some(1e-6), true) && score(Some(1e-30), true) < 1.0);
    }
}
