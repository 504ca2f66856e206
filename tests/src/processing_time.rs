//! The order of processing time, from outside: what is asked in it leaves, final, while the input goes on.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use eagre::{QueryResult, Session};
use libtest_mimic::Trial;

use crate::process::eagre;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn() -> Result<(), String>| {
        Trial::test(format!("processing_time::{name}"), move || Ok(test()?))
    };
    vec![
        trial("over_leaves_while_the_input_goes_on", over),
        trial("a_pattern_leaves_while_the_input_goes_on", pattern),
        trial("a_partial_match_runs_out_while_nothing_comes", timeout),
        trial("a_replay_has_the_clock_of_then", replay),
    ]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Pushes each value by itself, as a row of one key, and checks what has left when as many rows as are listed beside it have.
/// `told`: of the notices of state that is never freed, some words of each.
fn check(query: &str, told: &[&str], pushes: &[(i64, &[&[i64]])]) -> Result<(), String> {
    let session = Session::builder().build().map_err(text)?;
    session
        .execute("CREATE TABLE t (k BIGINT, v BIGINT, p AS PROCTIME()) WITH ('connector' = 'push')")
        .map_err(text)?;
    let execution = session.execute(query).map_err(|error| format!("{query}: {error}"))?;
    let unbounded: Vec<&String> = execution.notices.iter().filter(|notice| notice.contains("never freed")).collect();
    let is_told = |(notice, told): (&&String, &&str)| notice.contains(*told);
    if unbounded.len() != told.len() || !unbounded.iter().zip(told).all(is_told) {
        return Err(format!("{query}: {unbounded:?}, expected {told:?}"));
    }
    let mut job = execution.job.ok_or("no pipeline runs")?;
    let mut result = job.take_results().remove(0);
    let input = session.input("t").map_err(text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(text)?;
    for (value, expected) in pushes {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_value(7, 1)), Arc::new(Int64Array::from_value(*value, 1))];
        let batch = RecordBatch::try_new(Arc::clone(input.schema()), columns).map_err(text)?;
        runtime.block_on(input.push(batch)).map_err(text)?;
        let left = rows(&mut result, expected.len())?;
        if left != *expected {
            return Err(format!("{query}: after {value} came {left:?}, expected {expected:?}"));
        }
    }
    job.stop();
    job.wait_blocking().map(drop).map_err(text)
}

/// The next rows, of whole numbers, each of which is new and stays.
fn rows(result: &mut QueryResult, count: usize) -> Result<Vec<Vec<i64>>, String> {
    let mut rows = vec![];
    while rows.len() < count {
        let change = result.blocking_next().ok_or("the pipeline has ended")?;
        let batch = change.batch;
        if change.weights.is_some_and(|weights| weights.iter().any(|weight| weight != Some(1))) {
            return Err(format!("what has left is taken back: {batch:?}"));
        }
        let value = |row: usize| move |column: &ArrayRef| column.as_primitive::<Int64Type>().value(row);
        rows.extend((0..batch.num_rows()).map(|row| batch.columns().iter().map(value(row)).collect::<Vec<_>>()));
    }
    Ok(rows)
}

fn over() -> Result<(), String> {
    check(
        "SELECT v, SUM(v) OVER (PARTITION BY k ORDER BY p ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS two,
                COUNT(*) OVER (PARTITION BY k ORDER BY p) AS n FROM t",
        // A count of each key, and no rows.
        &["grows with every new key"],
        &[(5, &[&[5, 5, 1]]), (3, &[&[3, 8, 2]]), (9, &[&[9, 12, 3]])],
    )
}

fn pattern() -> Result<(), String> {
    check(
        "SELECT n, last FROM (SELECT *, PROCTIME() AS q FROM t) MATCH_RECOGNIZE (
           PARTITION BY k ORDER BY q MEASURES COUNT(*) AS n, LAST(v) AS last PATTERN (A B C) DEFINE B AS v > A.v, C AS v < B.v)",
        &[],
        &[(5, &[]), (9, &[]), (1, &[&[3, 1]]), (2, &[]), (3, &[]), (0, &[&[3, 0]])],
    )
}

fn timeout() -> Result<(), String> {
    check(
        "SELECT v FROM t MATCH_RECOGNIZE (
           PARTITION BY k ORDER BY p MEASURES FIRST(A.v) AS v AFTER MATCH SKIP PAST LAST ROW
           PATTERN (A B) WITHIN INTERVAL '0.05' SECOND EMIT PARTIAL ON TIMEOUT DEFINE A AS v > 4, B AS v < 0)",
        &[],
        &[(5, &[&[5]]), (3, &[]), (8, &[&[8]])],
    )
}

/// What a match says of the clock is the time of its step: a replay says the same, whenever it runs and from wherever it begins.
fn replay() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let state = folder.path().join("state").display().to_string();
    let sql = "SET 'eagre.step.rows_max' = '4'; SET 'eagre.checkpoint.steps' = '3'; SET 'eagre.checkpoint.retain' = '100';
        CREATE TABLE gen (n BIGINT, p AS PROCTIME()) WITH ('connector' = 'datagen', 'number-of-rows' = '60', 'rows-per-second' = '600',
          'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '59');
        SELECT * FROM gen MATCH_RECOGNIZE (
          ORDER BY p MEASURES FIRST(n) AS n, MATCH_PROCTIME() AS told PATTERN (A B) DEFINE A AS n % 3 = 0)";
    let run = eagre(&["run", "--state", &state, "-e", sql, "--format", "ndjson"]).ok()?.stdout;
    let rows: Vec<&str> = run.lines().collect();
    let mut clocks: Vec<&str> =
        rows.iter().filter_map(|row| row.split_once("\"told\":")).map(|(_, told)| told).collect();
    clocks.dedup();
    if rows.len() != 20 || clocks.len() < 4 {
        return Err(format!("twenty matches in many steps:\n{run}"));
    }
    for (from, args) in
        [(0, &["replay", "--state", &state][..]), (6, &["replay", "--state", &state, "--from-step", "6"])]
    {
        let replayed = eagre(args).ok()?.stdout;
        let again: Vec<&str> = replayed
            .lines()
            .filter_map(|line| line.split_once("\"row\":"))
            .map(|(_, row)| row.strip_suffix('}').unwrap_or(row))
            .collect();
        let enough = if from == 0 { again.len() == rows.len() } else { (1..rows.len()).contains(&again.len()) };
        if !enough || !rows.ends_with(&again) {
            return Err(format!("{args:?} shows\n{replayed}\nafter\n{run}"));
        }
    }
    Ok(())
}
