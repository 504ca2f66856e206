//! A backtest from code, over a frame: what the command does over a file.
//!
//! History seldom lies there as one file with one column of labels. What has to be done before (reading many files, joining labels to
//! rows, leaving out what was maintenance, bringing sensors to one clock) is what frames are good at, so a lazy frame is the input, and what
//! comes out are frames again.

use std::path::Path;

use arrow::compute::concat_batches;
use eagre_engine::settings::Settings;
use eagre_frames::polars::prelude::{Column, DataFrame, DataType, NamedFrom, Series, TimeUnit};
use eagre_frames::{Frame, FrameError};
use eagre_measures::alarms::AlarmOutcome;

use super::history::History;
use super::outcome::Figures;
use super::report::Report;
use super::verdict::Kind;
use super::{Columns, HISTORY, Question, Rules, of_method, outcomes};
use crate::config;
use crate::error::{Error, Result};
use crate::session::Session;

/// The most rows of a batch of the history.
const BATCH_ROWS: usize = 1 << 20;

/// Scoring and pattern queries over labelled history, before they go live.
///
/// A query reads the table `history`: the frame's columns but for the labels, rows in order of time, with a watermark. Its answer has
/// the columns of time (and key), and says which rows are alarms: by a Boolean `is_anomaly`, by a `score` from a threshold on, or,
/// without either, all of them, as a pattern's matches.
///
/// ```
/// use eagre::backtest::Backtest;
/// use eagre::polars::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // One reading a minute; somebody has written down that something was wrong for ten of them.
/// let minutes = 0..600;
/// let is_wrong = |minute: &i64| (400..410).contains(minute);
/// let readings = df!(
///     "at" => minutes.clone().map(|minute| minute * 60_000).collect::<Vec<i64>>(),
///     "load" => minutes.clone().map(|minute| if is_wrong(&minute) { 9.0 } else { (minute % 7) as f64 / 7.0 }).collect::<Vec<f64>>(),
///     "was_wrong" => minutes.clone().map(|minute| is_wrong(&minute)).collect::<Vec<bool>>(),
/// )?;
/// let readings = readings.lazy().with_column(col("at").cast(DataType::Datetime(TimeUnit::Milliseconds, None)));
/// let report = Backtest::new(readings, "was_wrong")
///     .time("at")
///     .value("load")
///     .method("ewma")
///     .query("above five", "SELECT at, load > 5 AS is_anomaly FROM history")
///     .rest("1 h")
///     .set("eagre.shards", "1")
///     .run()?;
/// let figures = report.figures()?;
/// assert_eq!(figures.column("query")?.str()?.get(1), Some("above five"));
/// assert_eq!(figures.column("precision")?.f64()?.get(1), Some(1.0));
/// assert_eq!(figures.column("recall")?.f64()?.get(1), Some(1.0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Backtest {
    history: Frame,
    labels: String,
    time: String,
    key: Option<String>,
    value: Option<String>,
    tries: Vec<Try>,
    threshold: Option<f64>,
    alarms_per_day: f64,
    rest: String,
    settings: Vec<(String, String)>,
}

/// What is tried.
#[derive(Debug, Clone)]
enum Try {
    Method(String),
    Query { name: String, sql: String },
}

impl Backtest {
    /// Over the rows of a frame, in any order. `labels`: its column of what was wrong (true and false, or 1 and 0), or the path of a file of
    /// windows, as `eagre backtest --labels` takes it.
    pub fn new(history: impl Into<Frame>, labels: impl Into<String>) -> Self {
        Self {
            history: history.into(),
            labels: labels.into(),
            time: "timestamp".to_owned(),
            key: None,
            value: None,
            tries: Vec::new(),
            threshold: None,
            alarms_per_day: 0.1,
            rest: "0 ms".to_owned(),
            settings: Vec::new(),
        }
    }

    /// The column of event time; without it `timestamp`.
    pub fn time(self, column: impl Into<String>) -> Self {
        Self { time: column.into(), ..self }
    }

    /// The column by which the history is many series.
    pub fn key(self, column: impl Into<String>) -> Self {
        Self { key: Some(column.into()), ..self }
    }

    /// The column that is drawn, and scored by methods; without it `value`, or the only number.
    pub fn value(self, column: impl Into<String>) -> Self {
        Self { value: Some(column.into()), ..self }
    }

    /// Tries `anomaly_score` by a method with its defaults.
    pub fn method(mut self, name: impl Into<String>) -> Self {
        self.tries.push(Try::Method(name.into()));
        self
    }

    /// Tries a query, under a name for the report.
    pub fn query(mut self, name: impl Into<String>, sql: impl Into<String>) -> Self {
        self.tries.push(Try::Query { name: name.into(), sql: sql.into() });
        self
    }

    /// From which score on a row is an alarm. Without it: from the lowest that keeps to [`alarms_per_day`](Self::alarms_per_day).
    pub fn threshold(self, score: f64) -> Self {
        Self { threshold: Some(score), ..self }
    }

    /// How many alarms a day of one key may have where no threshold is given; without it 0.1.
    pub fn alarms_per_day(self, count: f64) -> Self {
        Self { alarms_per_day: count, ..self }
    }

    /// For how long a key is quiet after an alarm, like `1 h`.
    pub fn rest(self, duration: impl Into<String>) -> Self {
        Self { rest: duration.into(), ..self }
    }

    /// A setting of the sessions that run the queries, by the name that `SET` uses.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Runs all queries. It takes as long as they do, and waits: in an async runtime, call it by `spawn_blocking`.
    ///
    /// # Errors
    /// Nothing is tried; an unknown setting; a plan that fails; a column that is not there or of another type; labels that fit no row; a
    /// query that is refused or fails.
    pub fn run(self) -> Result<BacktestReport> {
        let columns = Columns { time: self.time, key: self.key, value: self.value, dashes: "" };
        let rules = Rules::new(self.threshold, self.alarms_per_day, &self.rest, &columns)?;
        let mut settings = Settings::default();
        for (name, value) in &self.settings {
            config::set(&mut settings, name, value)?;
        }
        let schema = self.history.schema()?;
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let batches = self.history.batches(&names, BATCH_ROWS)?;
        let rows = concat_batches(&schema, &batches).map_err(FrameError::from)?;
        let history = History::of(rows, "the frame", &columns, &self.labels)?;
        let question = |tried: Try| match tried {
            Try::Method(name) => of_method(&name, &history, &columns),
            Try::Query { name, sql } => Ok(Question { name, sql }),
        };
        let questions = self.tries.into_iter().map(question).collect::<Result<Vec<_>>>()?;
        if questions.is_empty() {
            return Err(Error::usage(format!(
                "there is nothing to try; give a `method` or a `query` over `{HISTORY}`"
            )));
        }
        let session = || Session::builder().settings(settings.clone()).build();
        let outcomes = outcomes(&history, &columns, &rules, &questions, session)?;
        let data = "a frame".to_owned();
        Ok(BacktestReport(Report { data, labels: self.labels, history, columns, rules, outcomes, command: None }))
    }
}

/// What the queries of a [`Backtest`] came to.
#[derive(Debug)]
pub struct BacktestReport(Report);

impl BacktestReport {
    /// The tables that the command prints.
    pub fn text(&self) -> String {
        self.0.text()
    }

    /// A page with plots of series, scores, windows and alarms, that loads nothing.
    pub fn html(&self) -> String {
        self.0.html()
    }

    /// Everything but the plots, for programs.
    pub fn json(&self) -> String {
        self.0.json()
    }

    /// Writes [`html`](Self::html) or [`json`](Self::json), by the end of the file's name.
    ///
    /// # Errors
    /// Another end; the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        Report::check_form(path.as_ref())?;
        self.0.write(path.as_ref())
    }

    /// A row for each query, over all keys: `query`, `threshold` (null where the query says which rows are alarms), `alarms`,
    /// `right_alarms`, `precision`, `windows`, `windows_found`, `recall`, `f1`, `alarms_per_day` and `false_alarms_per_day` (of one key),
    /// `delay_ms_median`, `delay_ms_max`, `vus_pr`.
    ///
    /// # Errors
    /// None, unless polars has some.
    pub fn figures(&self) -> Result<DataFrame> {
        let outcomes = &self.0.outcomes;
        let rows: Vec<_> =
            outcomes.iter().map(|outcome| (outcome.name.as_str(), outcome.threshold, &outcome.figures)).collect();
        let mut frame = figures(&rows)?;
        let volumes: Vec<Option<f64>> = outcomes.iter().map(|outcome| outcome.vus_pr).collect();
        frame.with_column(column("vus_pr", volumes)).map_err(FrameError::from)?;
        Ok(frame)
    }

    /// What other thresholds of each query with scores would have come to: a row for each, with the columns of [`figures`](Self::figures)
    /// but `vus_pr`, which is of all thresholds.
    ///
    /// # Errors
    /// As [`figures`](Self::figures).
    pub fn thresholds(&self) -> Result<DataFrame> {
        let rows: Vec<_> = self
            .0
            .outcomes
            .iter()
            .flat_map(|outcome| {
                let name = outcome.name.as_str();
                outcome.thresholds.iter().map(move |(threshold, figures)| (name, Some(*threshold), figures))
            })
            .collect();
        figures(&rows)
    }

    /// What each query said of each row: `query`, `key` (where the history has one), `at`, `score` (null where the query gives none), and
    /// `is_alarm`, whether an alarm was raised then (not where its key rested).
    ///
    /// # Errors
    /// As [`figures`](Self::figures).
    pub fn marks(&self) -> Result<DataFrame> {
        let (mut queries, mut keys, mut times, mut scores, mut alarms) = (vec![], vec![], vec![], vec![], vec![]);
        for outcome in &self.0.outcomes {
            let tracks = self.0.history.tracks.iter().zip(&outcome.marks).zip(&outcome.alarms_ms);
            for ((track, marks), alarms_ms) in tracks {
                // Both are in order of time, and an alarm is raised at the first row of its time that says so.
                let mut raised = alarms_ms.iter().peekable();
                for mark in marks {
                    let says_so = match (outcome.kind, outcome.threshold) {
                        (Kind::Scores, Some(threshold)) => mark.score >= threshold,
                        _ => mark.is_alarm,
                    };
                    queries.push(outcome.name.as_str());
                    keys.push(track.key.as_str());
                    times.push(mark.time_ms);
                    scores.push((!mark.score.is_nan()).then_some(mark.score));
                    alarms.push(says_so && raised.next_if(|at| **at == mark.time_ms).is_some());
                }
            }
        }
        let height = times.len();
        let times = Series::new("at".into(), times).cast(&DataType::Datetime(TimeUnit::Milliseconds, None));
        let mut columns = vec![column("query", queries)];
        if self.0.columns.key.is_some() {
            columns.push(column("key", keys));
        }
        columns.extend([times.map_err(FrameError::from)?.into(), column("score", scores), column("is_alarm", alarms)]);
        Ok(DataFrame::new(height, columns).map_err(FrameError::from)?)
    }
}

fn column<T>(name: &str, values: Vec<T>) -> Column
where
    Series: NamedFrom<Vec<T>, [T]>,
{
    Series::new(name.into(), values).into()
}

/// Figures below each other: whose, at which threshold, and what they are.
fn figures(rows: &[(&str, Option<f64>, &AlarmOutcome)]) -> Result<DataFrame> {
    let figures: Vec<Figures> = rows.iter().map(|(_, _, outcome)| Figures::from(*outcome)).collect();
    fn of<T>(name: &str, figures: &[Figures], value: impl Fn(&Figures) -> T) -> Column
    where
        Series: NamedFrom<Vec<T>, [T]>,
    {
        column(name, figures.iter().map(value).collect())
    }
    let columns = vec![
        column("query", rows.iter().map(|(name, _, _)| *name).collect::<Vec<_>>()),
        column("threshold", rows.iter().map(|(_, threshold, _)| *threshold).collect::<Vec<_>>()),
        of("alarms", &figures, |figures| figures.alarms as u64),
        of("right_alarms", &figures, |figures| figures.right_alarms as u64),
        of("precision", &figures, |figures| figures.precision),
        of("windows", &figures, |figures| figures.windows as u64),
        of("windows_found", &figures, |figures| figures.windows_found as u64),
        of("recall", &figures, |figures| figures.recall),
        of("f1", &figures, |figures| figures.f1),
        of("alarms_per_day", &figures, |figures| figures.alarms_per_day),
        of("false_alarms_per_day", &figures, |figures| figures.false_alarms_per_day),
        of("delay_ms_median", &figures, |figures| figures.delay_ms_median),
        of("delay_ms_max", &figures, |figures| figures.delay_ms_max),
    ];
    Ok(DataFrame::new(rows.len(), columns).map_err(FrameError::from)?)
}
