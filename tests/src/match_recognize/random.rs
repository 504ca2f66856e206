//! Random patterns over random rows: the answer is that of the naive evaluator, whatever the steps, the shards and the crashes, as a
//! bounded table and as a stream, with late rows, with rows that are taken back, and when matches leave before they are final.
//!
//! The queries of a case run as one pipeline, which is also what a book of rules is. A fixed set runs with all tests; with
//! `EAGRE_RANDOM_SECONDS=600` one trial of each form goes on, all of them for that long (`make test-random`).

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema};
use eagre::Session;
use eagre_sql::catalog::TableDefinition;
use eagre_sql::error::Location;
use eagre_sql::parser::TableOption;
use libtest_mimic::Trial;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use super::generate::{self, DELAY_S, Input};
use super::naive::{self, NoAnswer};
use super::query::{COLUMNS, Query, Row};
use crate::harness::{Answer, Schedule, run_all, seed, time_of_each};
use crate::laws::{Chances, chances};
use crate::source::TestSource;
use crate::value;

/// Doubles are multiples of a quarter, so that only averages need it.
const TOLERANCE: f64 = 1e-9;
/// Cases of one trial, and queries of a case, at most.
const CASES: u32 = 16;
const QUERIES: usize = 12;
/// Rows of a case, at most.
const ROWS: usize = 28;

/// How rows come and matches leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A table that ends, without a watermark.
    Bounded,
    /// A stream of which no row is late.
    Stream,
    /// A stream of which rows are late, and correct what was said.
    Corrected,
    /// A stream of which rows are taken back.
    Retracted,
    /// A stream; matches leave as soon as they exist, and are taken back.
    Changes,
}

/// How many trials each form has.
const PARTS: [(Form, u64); 5] =
    [(Form::Bounded, 4), (Form::Stream, 4), (Form::Corrected, 2), (Form::Retracted, 2), (Form::Changes, 2)];

pub(super) fn trials() -> Vec<Trial> {
    let trial = |form: Form, part: u64| {
        let name = format!("match_recognize::random_queries::{}_{part}", format!("{form:?}").to_lowercase());
        Trial::test(name, move || Ok(check(form, part)?))
    };
    let mut trials: Vec<Trial> =
        PARTS.into_iter().flat_map(|(form, count)| (1..=count).map(move |part| trial(form, part))).collect();
    trials.push(Trial::test("match_recognize::random_queries::errors", || Ok(errors()?)));
    trials
}

fn check(form: Form, part: u64) -> Result<(), String> {
    let until = Instant::now() + time_of_each(PARTS.len() as u64);
    let mut round = 0;
    loop {
        let input = if form == Form::Bounded { Input::Bounded } else { Input::Stream };
        let goes = vec((any::<bool>(), 0..2 * ROWS), ROWS);
        let case = (vec(generate::query_or_window(input), 1..=QUERIES), generate::rows(0..ROWS), goes, chances());
        let config = Config {
            cases: CASES,
            rng_seed: RngSeed::Fixed(
                seed().wrapping_mul(1_000_003).wrapping_add(form as u64 * 100_000 + part * 1_000 + round),
            ),
            failure_persistence: None,
            max_shrink_iters: 300,
            ..Config::default()
        };
        TestRunner::new(config)
            .run(&case, |(queries, rows, goes, chances)| holds(form, &queries, &rows, &goes, &chances))
            .map_err(|error| format!("EAGRE_TESTS_SEED={} ({form:?}, round {round}): {error}", seed()))?;
        round += 1;
        if part > 1 || Instant::now() >= until {
            return Ok(());
        }
    }
}

fn holds(
    form: Form,
    queries: &[Query],
    rows: &[Row],
    goes: &[(bool, usize)],
    chances: &Chances,
) -> Result<(), TestCaseError> {
    let mut left = rows.to_vec();
    if form == Form::Retracted {
        left.retain(|row| !goes[row.id as usize].0);
    }
    let mut expected = Vec::new();
    let mut asked = Vec::new();
    for query in queries {
        match naive::answer(query, &left, false) {
            Ok(rows) => {
                expected.push(rows);
                asked.push(Query { changes: form == Form::Changes, ..query.clone() });
            }
            Err(NoAnswer::Unfinished) => {}
            Err(NoAnswer::BadSkip) => panic!("it goes on at the next row"),
        }
    }
    if asked.is_empty() {
        return Err(TestCaseError::reject("no query has a naive answer in time"));
    }
    let text: Vec<String> = asked.iter().map(Query::to_string).collect();
    let text = text.join(";\n");
    // One schedule a case: of so many cases, each kind has its share.
    let [_, calm, crashing] = chances.schedules(rows.len());
    let schedule = if chances.rows_max.is_multiple_of(3) { calm } else { crashing };
    let goes = |row: usize| goes[row].0.then(|| goes[row].1);
    let answers = answers(form, &schedule, Changes { rows, goes: &goes }, chances.batch_rows, &text);
    let answers =
        answers.map_err(|error| TestCaseError::fail(format!("{schedule}: [{}] {error}\n{text}", error.code())))?;
    for ((query, expected), answer) in asked.iter().zip(&expected).zip(&answers) {
        value::compare(expected, &value::rows(&answer.batches), false, TOLERANCE)
            .map_err(|error| TestCaseError::fail(format!("{schedule}: {error}{query}")))?;
    }
    Ok(())
}

/// Rows in order of arrival, of which some go again.
pub(super) struct Changes<'a> {
    pub(super) rows: &'a [Row],
    /// By `id`: how many changes after the row comes it goes, in a circle of what follows; `None`: it stays.
    pub(super) goes: &'a dyn Fn(usize) -> Option<usize>,
}

/// The answers of the queries of `sql` over the table `events`.
pub(super) fn answers(
    form: Form,
    schedule: &Schedule,
    changes: Changes<'_>,
    batch_rows: usize,
    sql: &str,
) -> eagre::Result<Vec<Answer>> {
    let (rows, weights) = match form {
        Form::Retracted => changed(&changes),
        _ => (batch(changes.rows), None),
    };
    let definition = definition(form, &rows);
    let scene = |session: &Session| {
        session.execute("SET 'eagre.match.bad_skip' = 'next-row'")?;
        let source = TestSource::new(&rows, weights.as_ref(), batch_rows, true);
        session.register_source(definition.clone(), Arc::new(source))
    };
    run_all(schedule, &scene, sql)
}

pub(super) fn definition(form: Form, rows: &RecordBatch) -> TableDefinition {
    let mut table = TableDefinition::from_schema("events", &rows.schema());
    let mut option = |key: &str, value: &str| {
        let (key, value, at) = (key.to_owned(), value.to_owned(), Location::new(1, 1));
        table.options.push(TableOption { key, value, key_location: at, value_location: at });
    };
    match form {
        Form::Bounded => return table,
        Form::Stream | Form::Changes => {}
        Form::Corrected => option("allowed-lateness", "365 d"),
        Form::Retracted => {
            option("connector", "push");
            option("changelog.mode", "retract");
            option("allowed-lateness", "365 d");
        }
    }
    let delay_s = if form == Form::Corrected { 0 } else { DELAY_S };
    table.with_watermark("t", Some(&format!("t - INTERVAL '{delay_s} seconds'"))).expect("an expression of the dialect")
}

/// Rows and weights, in order.
pub(super) fn changed(Changes { rows, goes }: &Changes<'_>) -> (RecordBatch, Option<Int64Array>) {
    let mut changes: Vec<(usize, i64)> = (0..rows.len()).map(|row| (row, 1)).collect();
    for (row, Row { id, .. }) in rows.iter().enumerate() {
        if let Some(after) = goes(*id as usize) {
            let came = changes.iter().position(|change| *change == (row, 1)).expect("it comes");
            changes.insert(came + 1 + after % (changes.len() - came), (row, -1));
        }
    }
    let indices: UInt32Array = changes.iter().map(|(row, _)| Some(*row as u32)).collect();
    let weights: Int64Array = changes.iter().map(|(_, weight)| Some(*weight)).collect();
    let batch = batch(rows);
    let columns = batch.columns().iter().map(|column| take(column, &indices, None).expect("indices of this batch"));
    (RecordBatch::try_new(batch.schema(), columns.collect()).expect("one length"), Some(weights))
}

pub(super) fn batch(rows: &[Row]) -> RecordBatch {
    let columns: [ArrayRef; COLUMNS.len()] = [
        Arc::new(rows.iter().map(|row| row.k).collect::<StringViewArray>()),
        Arc::new(rows.iter().map(|row| Some(row.t * 1_000)).collect::<TimestampMillisecondArray>()),
        Arc::new(rows.iter().map(|row| Some(row.id)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.v).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.s).collect::<StringViewArray>()),
        Arc::new(rows.iter().map(|row| row.d).collect::<Float64Array>()),
    ];
    let fields =
        COLUMNS.iter().zip(&columns).map(|((name, _), column)| Field::new(*name, column.data_type().clone(), true));
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns.to_vec()).expect("one length")
}

/// Where `SKIP TO` leads nowhere it is an error of the query, if that is asked for, and only there.
fn errors() -> Result<(), String> {
    let case = (generate::query(Input::Bounded), generate::rows(0..ROWS), chances());
    let config = Config {
        cases: 48,
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let law = |(query, rows, chances): (Query, Vec<Row>, Chances)| {
        let expected = match naive::answer(&query, &rows, true) {
            Err(NoAnswer::Unfinished) => return Err(TestCaseError::reject("no naive answer in time")),
            other => other.ok(),
        };
        let [_, schedule, _] = chances.schedules(rows.len());
        let rows = batch(&rows);
        let definition = definition(Form::Bounded, &rows);
        let scene = |session: &Session| {
            session.execute("SET 'eagre.match.bad_skip' = 'error'")?;
            session
                .register_source(definition.clone(), Arc::new(TestSource::new(&rows, None, chances.batch_rows, true)))
        };
        match (expected, run_all(&schedule, &scene, &query.to_string())) {
            (None, Err(error)) if error.to_string().contains("AFTER MATCH SKIP TO") => Ok(()),
            (None, Err(error)) => Err(TestCaseError::fail(format!("another error: {error}\n{query}"))),
            (None, Ok(_)) => Err(TestCaseError::fail(format!("no error came\n{query}"))),
            (Some(_), Err(error)) => Err(TestCaseError::fail(format!("{schedule}: {error}\n{query}"))),
            (Some(expected), Ok(answers)) => {
                value::compare(&expected, &value::rows(&answers[0].batches), false, TOLERANCE)
                    .map_err(|error| TestCaseError::fail(format!("{schedule}: {error}{query}")))
            }
        }
    };
    TestRunner::new(config).run(&case, law).map_err(|error| format!("EAGRE_TESTS_SEED={}: {error}", seed()))
}
