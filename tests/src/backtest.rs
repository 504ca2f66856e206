//! `eagre backtest` from outside: a file and labels in, figures and a page out.

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, eagre};

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("backtest::{name}"), move || Ok(test()?));
    vec![
        trial("figures_are_those_of_the_labels", figures),
        trial("the_default_method_ranks_rows_at_least_as_well_as_any_other", default),
        trial("files_of_other_formats_are_read", formats),
        trial("a_pattern_is_tried_like_a_score", pattern),
        trial("methods_are_compared_on_generated_history", methods),
        trial("figures_do_not_depend_on_shards", shards),
        trial("mistakes_are_told", mistakes),
    ]
}

/// Ten minutes of one sensor: a fault from minute 4 to minute 6, and a jump at minute 8 that nobody labelled.
const READINGS: &str = "\
timestamp,value,is_fault
2026-01-01 00:00:00,1.0,0
2026-01-01 00:01:00,1.1,0
2026-01-01 00:02:00,1.0,0
2026-01-01 00:03:00,1.2,0
2026-01-01 00:04:00,1.1,1
2026-01-01 00:05:00,8.0,1
2026-01-01 00:06:00,9.0,1
2026-01-01 00:07:00,1.0,0
2026-01-01 00:08:00,6.0,0
2026-01-01 00:09:00,1.0,0
";

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a temporary folder"));
        files.write("readings.csv", READINGS);
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).expect("a small file");
    }

    fn read(&self, name: &str) -> Result<String, String> {
        std::fs::read_to_string(self.0.path().join(name)).map_err(|error| format!("{name}: {error}"))
    }

    fn backtest(&self, labels: &str, more: &[&str]) -> Ended {
        let data = self.path("readings.csv");
        eagre(&[&["backtest", "--data", &data, "--labels", labels], more].concat())
    }

    /// The JSON report of a run.
    fn report(&self, labels: &str, more: &[&str]) -> Result<Value, String> {
        let path = self.path("report.json");
        self.backtest(labels, &[more, &["--report", &path]].concat()).ok()?;
        serde_json::from_str(&self.read("report.json")?).map_err(|error| error.to_string())
    }
}

/// Equal, numbers to rounding.
fn is_same(got: &Value, expected: &Value) -> bool {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => {
            got.len() == expected.len()
                && expected.iter().all(|(name, value)| got.get(name).is_some_and(|got| is_same(got, value)))
        }
        (Value::Array(got), Value::Array(expected)) => {
            got.len() == expected.len() && got.iter().zip(expected).all(|(got, expected)| is_same(got, expected))
        }
        (Value::Number(got), Value::Number(expected)) => {
            let numbers = got.as_f64().zip(expected.as_f64());
            numbers.is_some_and(|(got, expected)| (got - expected).abs() <= 1e-9 * expected.abs())
        }
        _ => got == expected,
    }
}

fn same(what: &str, got: &Value, expected: Value) -> Result<(), String> {
    match is_same(got, &expected) {
        true => Ok(()),
        false => Err(format!("{what}: expected {expected}, got {got}")),
    }
}

/// Worked by hand: from 5 on there are alarms in minutes 5, 6 and 8.
fn figures() -> Result<(), String> {
    let files = Files::new();
    let expected = serde_json::json!({
        "alarms": 3, "right_alarms": 2, "precision": 2.0 / 3.0, "windows": 1, "windows_found": 1, "recall": 1.0, "f1": 0.8,
        // Three in nine minutes.
        "alarms_per_day": 480.0, "false_alarms_per_day": 160.0, "delay_ms_median": 60_000, "delay_ms_max": 60_000,
    });
    let score = "SELECT timestamp, value AS score FROM history";
    let report = files.report("is_fault", &["--query", score, "--threshold", "5"])?;
    same("figures", &report["outcomes"][0]["figures"], expected.clone())?;
    same("threshold", &report["outcomes"][0]["threshold"], 5.0.into())?;
    // The same windows from files, and the same alarms from a flag and from a file of SQL.
    files.write("windows.csv", "start,end\n2026-01-01 00:04:00,2026-01-01 00:06:00\n");
    files.write("windows.json", r#"[["2026-01-01T00:04:00", "2026-01-01T00:06:30"]]"#);
    files.write("flag.sql", "SELECT timestamp, value >= 5 AS is_anomaly FROM history;");
    let flag = files.path("flag.sql");
    for labels in ["is_fault", &files.path("windows.csv"), &files.path("windows.json")] {
        let report = files.report(labels, &["--query", &flag])?;
        same(labels, &report["outcomes"][0]["figures"], expected.clone())?;
        same(labels, &report["outcomes"][0]["query"], "flag".into())?;
    }
    // Quiet for two minutes after the alarm of minute 5.
    let report = files.report("is_fault", &["--query", &flag, "--rest", "2 min"])?;
    same("rested alarms", &report["outcomes"][0]["figures"]["alarms"], 2.into())
}

/// The same rows as Parquet, as Arrow, and as a folder of files: the same figures.
fn formats() -> Result<(), String> {
    let files = Files::new();
    let score = ["--query", "SELECT timestamp, value AS score FROM history", "--threshold", "5"];
    let expected = files.report("is_fault", &score)?["outcomes"].clone();
    for format in ["parquet", "arrow"] {
        let folder = files.path(&format!("as {format}"));
        let sql = format!(
            "CREATE TABLE reading (timestamp TIMESTAMP(3), `value` DOUBLE, is_fault BIGINT)
             WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.header' = 'true');
             CREATE TABLE copy (timestamp TIMESTAMP(3), `value` DOUBLE, is_fault BIGINT)
             WITH ('connector' = 'filesystem', 'path' = '{folder}', 'format' = '{format}');
             INSERT INTO copy SELECT * FROM reading",
            files.path("readings.csv")
        );
        eagre(&["run", "-e", &sql]).ok()?;
        let written = std::fs::read_dir(&folder).map_err(|error| error.to_string())?;
        let mut written: Vec<_> = written.filter_map(|file| Some(file.ok()?.path().display().to_string())).collect();
        written.retain(|file| file.ends_with(format));
        for data in written.iter().chain([&folder]) {
            let path = files.path("report.json");
            eagre(&[&["backtest", "--data", data, "--labels", "is_fault", "--report", &path][..], &score].concat())
                .ok()?;
            let report: Value = serde_json::from_str(&files.read("report.json")?).map_err(|error| error.to_string())?;
            same(data, &report["outcomes"], expected.clone())?;
        }
        if written.is_empty() {
            return Err(format!("no file of {format} was written"));
        }
    }
    Ok(())
}

/// Each match is an alarm, at the time that the query says.
fn pattern() -> Result<(), String> {
    let files = Files::new();
    let sql = "SELECT timestamp FROM history MATCH_RECOGNIZE (
                 ORDER BY timestamp MEASURES LAST(HIGH.timestamp) AS timestamp PATTERN (HIGH{2}) DEFINE HIGH AS value > 5
               )";
    let report = files.report("is_fault", &["--query", sql])?;
    let outcome = &report["outcomes"][0];
    same("alarms", &outcome["figures"]["alarms"], 1.into())?;
    same("precision", &outcome["figures"]["precision"], 1.0.into())?;
    same("delay", &outcome["figures"]["delay_ms_median"], 120_000.into())?;
    same("threshold", &outcome["threshold"], Value::Null)
}

/// Rows of the labelled generator as a file.
fn generated(files: &Files) -> Result<(), String> {
    let sql =
        "CREATE TABLE measurement WITH ('connector' = 'anomalies', 'series-count' = '6', 'series-length' = '2000', \
               'number-of-rows' = '12000', 'seed' = '5');
               SELECT series, event_time, value, is_anomaly FROM measurement";
    let rows = eagre(&["run", "-e", sql, "--format", "csv"]).ok()?.stdout;
    files.write("readings.csv", &rows);
    Ok(())
}

const GENERATED: &[&str] = &["--time", "event_time", "--key", "series", "--value", "value"];

fn methods() -> Result<(), String> {
    let files = Files::new();
    generated(&files)?;
    let (html, json) = (files.path("report.html"), files.path("report.json"));
    let options =
        ["--method", "ewma", "--method", "subspace", "--alarms-per-day", "0.2", "--report", &html, "--report", &json];
    let shown = files.backtest("is_anomaly", &[GENERATED, &options].concat()).ok()?.stdout;
    for text in [
        "12000 rows of 6 keys",
        "at most 0.2 alarms a day and key",
        "precision",
        "\newma ",
        "\nsubspace ",
        "VUS-PR",
        "ewma: other thresholds",
    ] {
        if !shown.contains(text) {
            return Err(format!("standard output has no `{text}`:\n{shown}"));
        }
    }
    let report: Value = serde_json::from_str(&files.read("report.json")?).map_err(|error| error.to_string())?;
    for outcome in report["outcomes"].as_array().ok_or("no outcomes")? {
        let figure = |name: &str| outcome["figures"][name].as_f64().ok_or(format!("{name} of {outcome}"));
        let (per_day, alarms, right) = (figure("alarms_per_day")?, figure("alarms")?, figure("right_alarms")?);
        if !(0.05..=0.2).contains(&per_day) || !(1.0..=alarms).contains(&right) {
            return Err(format!("{per_day} alarms a day, {right} of {alarms} right: {outcome}"));
        }
        let keys = outcome["keys"].as_array().ok_or("no keys")?;
        let sum: f64 = keys.iter().filter_map(|key| key["figures"]["alarms"].as_f64()).sum();
        if keys.len() != 6 || sum != alarms {
            return Err(format!("{sum} alarms of {} keys, {alarms} of all", keys.len()));
        }
        let volume = outcome["vus_pr"].as_f64().ok_or("no VUS-PR")?;
        if !(0.02..1.0).contains(&volume) {
            return Err(format!("a VUS-PR of {volume}"));
        }
    }
    let page = files.read("report.html")?;
    let count = |text: &str| page.matches(text).count();
    if count("<svg") != 6 || count("</svg>") != 6 || count("class=\"window\"") < 6 || count("class=\"limit\"") != 12 {
        return Err(format!(
            "{} plots, {} windows, {} thresholds",
            count("<svg"),
            count("class=\"window\""),
            count("class=\"limit\"")
        ));
    }
    match page.contains("http") || page.contains("src=") || page.contains("NaN") {
        true => Err("the page loads something, or draws nothing".to_owned()),
        false => Ok(()),
    }
}

/// Over cycles, walks and noise with many kinds of anomalies, rows are ranked at least as well as by the best method of one idea, and the
/// best threshold finds at least as much.
fn default() -> Result<(), String> {
    let files = Files::new();
    let sql =
        "CREATE TABLE measurement WITH ('connector' = 'anomalies', 'series-count' = '24', 'series-length' = '2000', \
               'number-of-rows' = '48000', 'seed' = '11');
               SELECT series, event_time, value, is_anomaly FROM measurement";
    files.write("readings.csv", &eagre(&["run", "-e", sql, "--format", "csv"]).ok()?.stdout);
    let others = ["seasonal", "novelty", "ewma", "cusum", "changepoint", "half_space", "subspace", "centroids"];
    let methods = others.iter().chain(&["auto"]).flat_map(|method| ["--method", method]).collect::<Vec<_>>();
    let report = files.report("is_anomaly", &[GENERATED, &methods].concat())?;
    let outcomes = report["outcomes"].as_array().ok_or("no outcomes")?;
    let volumes: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome["vus_pr"].as_f64()).collect();
    let [others @ .., auto] = &volumes[..] else { return Err("no VUS-PR".to_owned()) };
    match others.len() == methods.len() / 2 - 1 && others.iter().all(|other| auto >= other) {
        true => Ok(()),
        false => Err(format!("auto {auto}, others {others:?}")),
    }
}

fn shards() -> Result<(), String> {
    let files = Files::new();
    generated(&files)?;
    let run =
        |shards: &str| files.report("is_anomaly", &[GENERATED, &["--method", "ewma", "--shards", shards]].concat());
    same("figures of three shards", &run("3")?["outcomes"], run("1")?["outcomes"].clone())
}

fn mistakes() -> Result<(), String> {
    let files = Files::new();
    let score = ["--query", "SELECT timestamp, value AS score FROM history"];
    let says = |labels: &str, more: &[&str], code: i32, texts: &[&str]| files.backtest(labels, more).says(code, texts);
    says("is_fault", &[], 2, &["--query"])?;
    says(
        "faulty",
        &score,
        1,
        &["`faulty` is neither a column of the data (timestamp, value, is_fault) nor a file of windows"],
    )?;
    says(
        "is_fault",
        &[&score[..], &["--time", "ts"]].concat(),
        1,
        &["has no column `ts`; its columns are: timestamp, value, is_fault"],
    )?;
    says("is_fault", &[&score[..], &["--rest", "soon"]].concat(), 2, &["--rest: `soon` is no duration"])?;
    says("is_fault", &[&score[..], &["--report", "report.pdf"]].concat(), 2, &["ends in neither .html nor .json"])?;
    says("is_fault", &[&score[..], &["--alarms-per-day", "0"]].concat(), 2, &["--alarms-per-day: 0 is not above 0"])?;
    says("is_fault", &["--method", "guess"], 1, &["guess"])?;
    says("is_fault", &["--query", "none.sql"], 1, &["none.sql"])?;
    // The labels are not among the columns that a query sees.
    says("is_fault", &["--query", "SELECT timestamp, is_fault AS is_anomaly FROM history"], 1, &["is_fault"])?;
    says(
        "is_fault",
        &["--query", "SELECT value FROM history"],
        1,
        &["`timestamp`, the time of the history, has to be one of them"],
    )
}
