//! `eagre backtest`: scoring and pattern queries over labelled history, before they go live.
//!
//! Which method, and from which score on an alarm? Both depend on the data, so they are tried on history whose anomalies somebody
//! has labelled. The queries are those that would run on the stream, and they run as they would there: over a table in order of
//! time, with a watermark, in which nothing ahead can be seen, and from which the labels are gone. What comes out is counted in
//! what a user of alarms notices (right and wrong alarms, windows found, how late, how many a day), and drawn.

#[cfg(feature = "polars")]
pub(crate) mod frame;
mod history;
mod html;
mod labels;
mod outcome;
mod plot;
mod report;
#[cfg(test)]
mod tests;
mod verdict;

use std::path::{Path, PathBuf};

use clap::Args;
use eagre_engine::settings::{self, parse_duration_ms};

use self::history::History;
use self::outcome::Outcome;
use self::report::Report;
use super::SettingsArgs;
use crate::error::{Error, Result};
use crate::session::Session;

/// The name of the table that queries read.
const HISTORY: &str = "history";

/// Options of `eagre backtest`.
#[derive(Debug, Args)]
#[command(
    after_help = "A query reads the table `history`: the columns of the data but for the labels, rows in order of time. Its answer has the \
                        column of times (and of keys), and says which rows are alarms: by a Boolean `is_anomaly`, or by a `score` from a \
                        threshold on, or, without either, all of them (a pattern's matches)."
)]
pub(super) struct BacktestArgs {
    /// The history: a CSV file with a header, a file that ends in .parquet or .arrow, or a folder of files.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// What was wrong, and when: a column of the data (true and false, or 1 and 0), or a file of windows (`start,end[,key]` as CSV;
    /// `[[start, end], ..]` or an object of such lists by key as JSON).
    #[arg(long, value_name = "COLUMN|FILE")]
    labels: String,
    /// A query, or a file of one (its last SELECT is the answer); may be repeated.
    #[arg(long = "query", value_name = "SQL|FILE.sql", required_unless_present = "method")]
    query: Vec<String>,
    /// A method of `anomaly_score` with its defaults over the value, as a query; may be repeated.
    #[arg(long, value_name = "NAME")]
    method: Vec<String>,
    /// The column of event time.
    #[arg(long, value_name = "COLUMN", default_value = "timestamp")]
    time: String,
    /// The column by which the history is many series.
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// The column that is drawn, and scored by --method (default: `value`, or the only number).
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// From which `score` on a row is an alarm (default: the lowest that keeps to --alarms-per-day on this history).
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// How many alarms a day of one key may have, right ones included, where no threshold is given.
    #[arg(long, value_name = "N", default_value_t = 0.1, conflicts_with = "threshold")]
    alarms_per_day: f64,
    /// For how long a key is quiet after an alarm, like '1 h'.
    #[arg(long, value_name = "DURATION", default_value = "0 ms")]
    rest: String,
    /// Writes the report to a file: .html (with plots, all in one page) or .json; may be repeated.
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// How many shards run a query (default: one for each core).
    #[arg(long, value_name = "N")]
    shards: Option<u64>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// The columns of the history that have a meaning.
#[derive(Debug)]
struct Columns {
    time: String,
    key: Option<String>,
    value: Option<String>,
    /// How options are written where they are given: `--` on a command line, nothing in code.
    dashes: &'static str,
}

impl Columns {
    /// An option, as its user knows it.
    fn option(&self, name: &str) -> String {
        match self.dashes {
            "" => name.replace('-', "_"),
            dashes => format!("{dashes}{name}"),
        }
    }
}

/// A query that is tried.
#[derive(Debug)]
struct Question {
    name: String,
    sql: String,
}

/// How scores become alarms.
#[derive(Debug)]
struct Rules {
    threshold: Option<f64>,
    alarms_per_day: f64,
    rest_ms: i64,
}

/// Runs all queries and says what they came to.
pub(super) fn run(args: BacktestArgs) -> Result<()> {
    let columns = Columns { time: args.time, key: args.key, value: args.value, dashes: "--" };
    let rules = Rules::new(args.threshold, args.alarms_per_day, &args.rest, &columns)?;
    for path in &args.report {
        Report::check_form(path)?;
    }
    let mut settings = args.settings.settings()?;
    if let Some(shards) = args.shards {
        let wrong = |error: eagre_engine::EngineError| Error::command_line(error.to_string());
        settings.set(settings::SHARDS, &shards.to_string()).map_err(wrong)?;
    }
    let history = History::read(&args.data, &columns, &args.labels)?;
    let mut questions =
        args.query.iter().enumerate().map(|(index, query)| question(index, query)).collect::<Result<Vec<_>>>()?;
    for method in &args.method {
        questions.push(of_method(method, &history, &columns)?);
    }
    let session = || Session::builder().settings(settings.clone()).build();
    let outcomes = outcomes(&history, &columns, &rules, &questions, session)?;
    let report = Report {
        data: args.data.display().to_string(),
        labels: args.labels,
        history,
        columns,
        rules,
        outcomes,
        command: None,
    };
    let report = report.of_command();
    super::text::print(format_args!("{}", report.text()))?;
    args.report.iter().try_for_each(|path| report.write(path))
}

/// Runs all queries over the history, each in a session of its own.
fn outcomes(
    history: &History,
    columns: &Columns,
    rules: &Rules,
    questions: &[Question],
    session: impl Fn() -> Result<Session>,
) -> Result<Vec<Outcome>> {
    let outcome = |question: &Question| {
        let verdict = verdict::ask(history, columns, question, session()?)?;
        Ok(Outcome::of(history, question, verdict, rules))
    };
    questions.iter().map(outcome).collect()
}

impl Rules {
    fn new(threshold: Option<f64>, alarms_per_day: f64, rest: &str, columns: &Columns) -> Result<Self> {
        let rest_ms = parse_duration_ms(rest).ok_or_else(|| {
            let option = columns.option("rest");
            Error::command_line(format!("{option}: `{rest}` is no duration; write it like '1 h' or '30 min'"))
        })?;
        if !(alarms_per_day > 0.0 && alarms_per_day.is_finite()) {
            let option = columns.option("alarms-per-day");
            return Err(Error::command_line(format!("{option}: {alarms_per_day} is not above 0")));
        }
        if threshold.is_some_and(f64::is_nan) {
            return Err(Error::command_line(format!("{}: NaN is reached by no score", columns.option("threshold"))));
        }
        Ok(Self { threshold, alarms_per_day, rest_ms: i64::try_from(rest_ms).unwrap_or(i64::MAX) })
    }
}

/// A query's text, or a file of it.
fn question(index: usize, query: &str) -> Result<Question> {
    let path = Path::new(query.trim());
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sql")) {
        let at = |error| Error::File { path: path.display().to_string(), error };
        let sql = std::fs::read_to_string(path).map_err(at)?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        return Ok(Question { name: stem.unwrap_or_default(), sql });
    }
    Ok(Question { name: format!("query {}", index + 1), sql: query.to_owned() })
}

/// `anomaly_score` by a method with its defaults.
fn of_method(method: &str, history: &History, columns: &Columns) -> Result<Question> {
    let value = history.value.as_ref().ok_or_else(|| {
        let schema = history.schema();
        let numbers = schema.fields().iter().filter(|field| field.data_type().is_numeric());
        let numbers: Vec<&str> = numbers.map(|field| field.name().as_str()).collect();
        Error::command_line(format!(
            "{} scores one value; say which with {}, one of {}",
            columns.option("method"),
            columns.option("value"),
            if numbers.is_empty() { "no column, because none holds numbers".to_owned() } else { numbers.join(", ") }
        ))
    })?;
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    let (time, key) = (quoted(&columns.time), columns.key.as_deref().map(quoted));
    let (selected, partition) = match &key {
        Some(key) => (format!("{key}, {time}"), format!("PARTITION BY {key} ")),
        None => (time.clone(), String::new()),
    };
    let sql = format!(
        "SELECT {selected}, anomaly_score({}, method => '{}') OVER ({partition}ORDER BY {time}) AS score FROM {HISTORY}",
        quoted(value),
        method.replace('\'', "''")
    );
    Ok(Question { name: method.to_owned(), sql })
}
