//! From a file to figures and a page, without the command around it.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, StructArray};
use arrow::datatypes::{DataType, Field};

use super::verdict::Kind;
use super::*;

const ROWS: &str = "\
ts,k,v,bad
2026-01-01 00:00:00,a,1.0,false
2026-01-01 00:00:00,b,5.0,false
2026-01-01 12:00:00,a,9.5,true
2026-01-01 12:00:00,b,5.5,false
2026-01-02 00:00:00,a,9.0,true
2026-01-02 00:00:00,b,,false
2026-01-02 12:00:00,b,7.0,true
2026-01-03 00:00:00,b,9.9,false
2026-01-02 12:00:00,a,1.5,false
2026-01-03 00:00:00,a,2.0,false
";

fn columns() -> Columns {
    Columns { time: "ts".to_owned(), key: Some("k".to_owned()), value: None, dashes: "--" }
}

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a small file");
    path
}

fn read(text: &str, columns: &Columns, labels: &str) -> Result<History> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, "rows.csv", text);
    let labels =
        if labels.contains('.') { folder.path().join(labels).display().to_string() } else { labels.to_owned() };
    file(&folder, "windows.csv", "key,start,end\na,2026-01-01 06:00:00,2026-01-02 03:00:00\n");
    file(&folder, "elsewhere.csv", "key,start,end\nc,2026-01-01 06:00:00,2026-01-02 03:00:00\n");
    file(&folder, "later.csv", "key,start,end\na,2027-01-01 06:00:00,2027-01-02 03:00:00\n");
    History::read(&path, columns, &labels)
}

fn outcome(sql: &str, rules: &Rules) -> Outcome {
    let history = read(ROWS, &columns(), "bad").expect("readable");
    let question = Question { name: "q".to_owned(), sql: sql.to_owned() };
    let session = Session::builder().set("eagre.shards", "1").build().expect("a session");
    let verdict = verdict::ask(&history, &columns(), &question, session).expect("an answer");
    Outcome::of(&history, &question, verdict, rules)
}

const RULES: Rules = Rules { threshold: None, alarms_per_day: 0.5, rest_ms: 0 };

/// Rows come to their keys in order of time; labels become windows, from a column as from a file, and are no column any more.
#[test]
fn history_is_read() {
    const HALF_DAY_MS: i64 = 43_200_000;
    let history = read(ROWS, &columns(), "bad").expect("readable");
    let start = history.tracks[0].times_ms[0];
    let [a, b] = &history.tracks[..] else { panic!("two keys: {:?}", history.tracks) };
    assert_eq!((a.key.as_str(), b.key.as_str(), history.value.as_deref()), ("a", "b", Some("v")));
    assert_eq!(a.values, [1.0, 9.5, 9.0, 1.5, 2.0]);
    assert!(b.values[2].is_nan() && a.times_ms.is_sorted());
    assert_eq!(a.windows_ms, [start + HALF_DAY_MS..=start + 2 * HALF_DAY_MS]);
    assert_eq!(b.windows_ms, [start + 3 * HALF_DAY_MS..=start + 3 * HALF_DAY_MS]);
    assert_eq!(a.labels(), [false, true, true, false, false]);
    assert!(history.schema().index_of("bad").is_err());
    let of_file = read(ROWS, &columns(), "windows.csv").expect("readable");
    assert_eq!(of_file.tracks[0].labels(), a.labels());
    assert!(of_file.tracks[1].windows_ms.is_empty() && of_file.schema().index_of("bad").is_ok());
}

/// What is wrong with the history is told by file, column and value.
#[test]
fn history_refusals_help() {
    let refused = |text: &str, columns: &Columns, labels: &str, expected: &str| {
        let error = read(text, columns, labels).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}\nshould contain: {expected}");
    };
    let with = |time: &str, key: Option<&str>, value: Option<&str>| Columns {
        time: time.to_owned(),
        key: key.map(str::to_owned),
        value: value.map(str::to_owned),
        dashes: "--",
    };
    refused(ROWS, &with("time", None, None), "bad", "has no column `time`; its columns are: ts, k, v, bad");
    refused(ROWS, &with("v", None, None), "bad", "column `v` of");
    refused(ROWS, &with("ts", Some("card"), None), "bad", "--key:");
    refused(ROWS, &with("ts", None, Some("k")), "bad", "column `k`");
    refused(ROWS, &columns(), "good", "`good` is neither a column of the data (ts, k, v, bad) nor a file of windows");
    refused(ROWS, &columns(), "v", "labels are true and false, or 1 and 0");
    refused(ROWS, &columns(), "elsewhere.csv", "windows of key `c`, which no row of");
    refused(ROWS, &columns(), "later.csv", "lies in the window from 2027-01-01 06:00:00 to 2027-01-02 03:00:00");
    refused(&ROWS.replace("true", "false"), &columns(), "bad", "labels no row of");
    refused("ts,k,v,bad\n", &columns(), "bad", "has no rows below its header");
    refused(&ROWS.replace("2026-01-03 00:00:00,a", ",a"), &columns(), "bad", "1 rows have no time in `ts`");
}

/// Worked by hand: key a has 9.5 and 9.0 in its window of two rows; key b 9.9 outside of its window.
#[test]
fn scores_flags_and_rows_become_alarms() {
    let scores = outcome("SELECT k, ts, v AS score FROM history", &Rules { threshold: Some(9.0), ..RULES });
    let figures = &scores.figures;
    assert_eq!((scores.kind, figures.alarms, figures.right_alarms, figures.windows_found()), (Kind::Scores, 3, 2, 1));
    assert_eq!((figures.precision(), figures.recall()), (Some(2.0 / 3.0), Some(0.5)));
    // Two keys with two days of history each.
    assert_eq!((figures.alarms_per_day(), figures.delay_ms_max()), (Some(0.75), Some(0)));
    assert_eq!(scores.alarms_ms.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    let rest = Rules { threshold: Some(9.0), rest_ms: 43_200_001, ..RULES };
    assert_eq!(outcome("SELECT k, ts, v AS score FROM history", &rest).figures.alarms, 2);
    // Half an alarm a day and key, over four days: two at most.
    let budget = outcome("SELECT k, ts, v AS score FROM history", &RULES);
    assert_eq!((budget.threshold, budget.figures.alarms), (Some(9.5), 2));
    assert!(budget.thresholds.len() > 3 && budget.vus_pr.is_some_and(|volume| volume > 0.5));
    let flags = outcome("SELECT k, ts, v > 6 AS is_anomaly FROM history", &RULES);
    assert_eq!((flags.kind, flags.threshold, flags.figures.alarms), (Kind::Flags, None, 4));
    assert_eq!(flags.figures.windows_found(), 2);
    let rows = outcome("SELECT ts, k FROM history WHERE v > 9.4", &RULES);
    assert_eq!((rows.kind, rows.figures.alarms, rows.vus_pr), (Kind::Rows, 2, None));
}

/// A query cannot peep at the labels, and one without the columns that say whose alarm it is, and when, is told so.
#[test]
fn query_refusals_help() {
    let history = read(ROWS, &columns(), "bad").expect("readable");
    let refused = |sql: &str, expected: &str| {
        let question = Question { name: "q".to_owned(), sql: sql.to_owned() };
        let session = Session::builder().set("eagre.shards", "1").build().expect("a session");
        let error = verdict::ask(&history, &columns(), &question, session).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}\nshould contain: {expected}");
    };
    refused("SELECT k, ts, bad AS is_anomaly FROM history", "bad");
    refused(
        "SELECT k, v FROM history",
        "q: its columns are k, v; `ts`, the time of the history, has to be one of them",
    );
    refused("SELECT ts, v FROM history", "`k`, the key of the history, has to be one of them");
    refused("SELECT k, v AS ts FROM history", "`ts` is DOUBLE and no time");
    refused("SELECT 'c' AS k, ts FROM history", "rows of key `c`, which the history does not have");
    refused("CREATE VIEW w AS SELECT * FROM history", "there is no query");
}

/// What `detect_anomalies` gives is one column; its parts are found, and a null one is no alarm.
#[test]
fn parts_of_a_struct_are_columns() {
    let parts: Vec<(Arc<Field>, ArrayRef)> = vec![
        (Arc::new(Field::new("score", DataType::Float64, false)), Arc::new(Float64Array::from(vec![1.0, 2.0]))),
        (Arc::new(Field::new("is_anomaly", DataType::Boolean, false)), Arc::new(BooleanArray::from(vec![true, true]))),
    ];
    let (fields, arrays): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let nulls = arrow::buffer::NullBuffer::from(vec![true, false]);
    let whole: ArrayRef = Arc::new(StructArray::new(fields.into(), arrays, Some(nulls)));
    let rows = arrow::array::RecordBatch::try_from_iter([("d", whole)]).expect("one column");
    let flat = verdict::flat(&rows).expect("columns");
    let names: Vec<String> = flat.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["score", "is_anomaly"]);
    assert!(flat.columns().iter().all(|column| column.is_valid(0) && column.is_null(1)));
}

/// The page has all figures and plots, shows texts as texts, and loads nothing.
#[test]
fn the_page_stands_alone() {
    let history = read(ROWS, &columns(), "bad").expect("readable");
    let scores = outcome("SELECT k, ts, v AS score FROM history WHERE k <> '<b>'", &RULES);
    let rows = outcome("SELECT ts, k FROM history WHERE v > 9.4", &RULES);
    let report = Report {
        data: "<rows>.csv".to_owned(),
        labels: "bad".to_owned(),
        history,
        columns: columns(),
        rules: RULES,
        outcomes: vec![scores, rows],
        command: Some("eagre backtest --data '<rows>.csv'".to_owned()),
    };
    let page = html::text(&report);
    assert_eq!(page.matches("<svg").count(), 2);
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert_eq!(page.matches("class=\"window\"").count(), 2);
    // Two queries, each with the alarm of key a right and that of key b false.
    assert_eq!((page.matches("class=\"right\"").count(), page.matches("class=\"wrong\"").count()), (2, 2));
    assert_eq!(page.matches("class=\"limit\"").count(), 2);
    assert!(!page.contains("<rows>") && page.contains("&lt;rows&gt;.csv") && page.contains("&lt;&gt; '&lt;b&gt;'"));
    assert!(!page.contains("http") && !page.contains("src=") && !page.contains("<script") && !page.contains("NaN"));
    let text = report.text();
    assert!(
        text.starts_with("10 rows of 2 keys from 2026-01-01 00:00:00 to 2026-01-03 00:00:00, 2 labelled windows\n"),
        "{text}"
    );
    assert!(text.contains("\nq: other thresholds\n"), "{text}");
}

/// A frame is history as a file is: the same rows give the same figures.
#[cfg(feature = "polars")]
#[test]
fn frames_are_history() {
    use arrow::csv::ReaderBuilder;
    use arrow::csv::reader::Format;
    use eagre_frames::polars::prelude::*;

    use super::frame::Backtest;

    let (schema, _) = Format::default().with_header(true).infer_schema(ROWS.as_bytes(), None).expect("readable");
    let schema = Arc::new(schema);
    let reader = ReaderBuilder::new(Arc::clone(&schema)).with_header(true).build(ROWS.as_bytes()).expect("readable");
    let rows = reader.collect::<std::result::Result<Vec<_>, _>>().expect("readable");
    let history = eagre_frames::frame(&schema, &rows).expect("a frame");
    let sql = "SELECT k, ts, v AS score FROM history";
    let backtest = |history: LazyFrame| Backtest::new(history, "bad").time("ts").key("k").set("eagre.shards", "1");
    let report = backtest(history.clone().lazy()).alarms_per_day(0.5).query("q", sql).run().expect("a report");
    let expected = outcome(sql, &RULES);
    let figures = report.figures().expect("figures");
    let number = |name: &str| figures.column(name).expect("a column").get(0).expect("a row").try_extract::<f64>().ok();
    assert_eq!(number("threshold"), expected.threshold);
    assert_eq!(number("alarms"), Some(expected.figures.alarms as f64));
    assert_eq!(number("precision"), expected.figures.precision());
    assert_eq!(number("recall"), expected.figures.recall());
    assert_eq!(number("delay_ms_max"), expected.figures.delay_ms_max().map(|ms| ms as f64));
    assert_eq!(number("vus_pr"), expected.vus_pr);
    let thresholds = report.thresholds().expect("thresholds");
    assert_eq!(thresholds.height(), expected.thresholds.len());
    // Each alarm is a mark, and each row has one.
    let marks = report.marks().expect("marks");
    assert_eq!(marks.height(), 10);
    let raised = marks.column("is_alarm").expect("a column").bool().expect("flags").sum();
    assert_eq!(raised.map(|count| count as usize), Some(expected.figures.alarms));
    assert_eq!(marks.column("score").expect("a column").null_count(), 1);
    assert!(
        report.text().contains("\nq: other thresholds\n") && report.html().contains("<h1>Backtest on a frame</h1>")
    );
    assert!(report.json().contains("\"command\": null"));

    let refused = |backtest: Backtest, expected: &str| {
        let error = backtest.run().expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}\nshould contain: {expected}");
    };
    let lazy = || history.clone().lazy();
    refused(backtest(lazy()), "there is nothing to try");
    refused(
        backtest(lazy()).time("at").method("ewma"),
        "time: the frame has no column `at`; its columns are: ts, k, v, bad",
    );
    refused(backtest(lazy()).alarms_per_day(0.0).method("ewma"), "alarms_per_day: 0 is not above 0");
    refused(backtest(lazy().filter(lit(false))).method("ewma"), "the frame has no rows");
    refused(backtest(lazy().select([col("none")])).method("ewma"), "none");
    assert!(report.write("report.pdf").expect_err("no such form").to_string().contains("report.pdf"));
}

/// A row that has no score is no alarm, whatever type its NULL has; a verdict of another type is an error, and not an alarm in each row.
#[test]
fn rows_without_a_verdict_are_no_alarms() {
    for null in ["NULL", "CAST(NULL AS DOUBLE)"] {
        let scored = outcome(&format!("SELECT ts, k, {null} AS score FROM history"), &RULES);
        assert_eq!((scored.kind, scored.figures.alarms), (Kind::Scores, 0), "{null}");
    }
    for null in ["NULL", "CAST(NULL AS BOOLEAN)"] {
        let flagged = outcome(&format!("SELECT ts, k, {null} AS is_anomaly FROM history"), &RULES);
        assert_eq!((flagged.kind, flagged.figures.alarms), (Kind::Flags, 0), "{null}");
    }
    let history = read(ROWS, &columns(), "bad").expect("readable");
    for (column, what) in [("k AS score", "`score` is STRING"), ("1 AS is_anomaly", "`is_anomaly` is BIGINT")] {
        let question = Question { name: "q".to_owned(), sql: format!("SELECT ts, k, {column} FROM history") };
        let session = Session::builder().set("eagre.shards", "1").build().expect("a session");
        let error = verdict::ask(&history, &columns(), &question, session).expect_err("no verdict").to_string();
        assert!(error.contains(what) && error.contains("has to be a Boolean"), "{error}");
    }
}
