//! The naive evaluator agrees with one that was written by others, in another language, from the same standard:
//! `cases/match_recognize/oracle` has its answers to random queries.

use libtest_mimic::Trial;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value as Json, json};

use super::cases::expected_value;
use super::generate::{self, Input};
use super::naive::{self, NoAnswer};
use super::query::{Query, Row};
use crate::harness::folder;
use crate::streaming_sql::{array, text_of};
use crate::value;

const FILE: &str = "cases/match_recognize/oracle/cases.json";
/// Queries, and tables that they go over in turn, with rows of at most so many.
const QUERIES: usize = 1_500;
const TABLES: usize = 25;
const ROWS: usize = 13;
/// So many of the queries have an answer at least: the oracle does not know all functions.
const ANSWERED_MIN: usize = 750;
const TOLERANCE: f64 = 1e-9;

pub(super) fn trials() -> Vec<Trial> {
    vec![Trial::test("match_recognize::oracle", || Ok(check()?))]
}

/// The same ones each time.
fn made() -> (Vec<Vec<Row>>, Vec<Query>) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    fn next<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
        strategy.new_tree(runner).expect("nothing is rejected").current()
    }
    let (rows, query) = (generate::rows(0..ROWS), generate::query(Input::Bounded));
    let tables = (0..TABLES).map(|_| next(&rows, &mut runner)).collect();
    (tables, (0..QUERIES).map(|_| next(&query, &mut runner)).collect())
}

fn check() -> Result<(), String> {
    let (tables, queries) = made();
    let row = |row: &Row| json!([row.k, row.t, row.id, row.v, row.s, row.d]);
    let rows: Vec<Json> = tables.iter().map(|rows| rows.iter().map(row).collect()).collect();
    let case = |(index, query): (usize, &Query)| json!({"clause": query.clause(), "table": index % TABLES});
    let cases: Vec<Json> = queries.iter().enumerate().map(case).collect();
    let path = folder(FILE);
    if std::env::var_os("EAGRE_TESTS_REWRITE").is_some() {
        let json = json!({"tables": rows, "cases": cases});
        return std::fs::write(&path, json.to_string()).map_err(|error| error.to_string());
    }
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{FILE}: {error}"))?;
    let known: Json = serde_json::from_str(&text).map_err(|error| format!("{FILE}: {error}"))?;
    let same = *array(&known["tables"]) == rows && array(&known["cases"]).len() == queries.len();
    let mut answered = 0;
    for ((index, query), (known, case)) in queries.iter().enumerate().zip(array(&known["cases"]).iter().zip(&cases)) {
        if !same || known["clause"] != case["clause"] || known["table"] != case["table"] {
            return Err(format!(
                "{FILE} has other queries than are made now: cases/match_recognize/README.md says how it is made anew"
            ));
        }
        let clause = text_of(&case["clause"]);
        let got = naive::answer(query, &tables[index % TABLES], true);
        match (&known["expected"], got) {
            (Json::Null, _) | (_, Err(NoAnswer::Unfinished)) => continue,
            (Json::String(_), Err(NoAnswer::BadSkip)) => {}
            (Json::Array(expected), Ok(rows)) => {
                let expected: Vec<value::Row> =
                    expected.iter().map(|row| array(row).iter().map(expected_value).collect()).collect();
                value::compare(&expected, &rows, false, TOLERANCE).map_err(|error| format!("{clause}: {error}"))?;
            }
            (expected, got) => return Err(format!("{clause}: {expected} was expected, {got:?} came")),
        }
        answered += 1;
    }
    if answered < ANSWERED_MIN {
        return Err(format!("{answered} queries were compared, {ANSWERED_MIN} were expected"));
    }
    Ok(())
}
