//! Patterns that take exponential or quadratic time where partial matches are not merged: each is answered in about the time that its rows
//! take to be read.
//!
//! A bound in seconds would be a test of the machine: what is bounded is the time relative to a plain pattern over the same rows, with much
//! room for both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch};
use eagre::Session;
use eagre_sql::catalog::TableDefinition;
use libtest_mimic::Trial;

use crate::harness::{Schedule, run};
use crate::source::TestSource;
use crate::value::{self, Value};

/// How much longer than the plain pattern, and in any case how long, a pattern may take. An exponential one takes years, a quadratic one
/// over [`ROWS`] rows some hundred times as long. In a build without optimisations a row and a partial match take about a microsecond.
const TIMES_MAX: u32 = 8;
const AT_LEAST: Duration = Duration::from_secs(8);
const ROWS: i64 = 40_000;

/// Name, what stands in the clause after `ORDER BY`, how many matches there are, and how many rows the first one has.
const PATTERNS: &[(&str, &str, i64, i64)] = &[
    // Every row is 1, so nothing is a B.
    ("nested_plus_that_fails", "PATTERN ((A+)+ B) DEFINE A AS v = 1, B AS v = 2", 0, 0),
    ("nested_star_that_fails", "PATTERN ((A*)* B) DEFINE A AS v = 1, B AS v = 2", 0, 0),
    // Twenty optional rows before one that never comes: 2^20 ways.
    ("twenty_optional_rows_that_fail", "PATTERN ((A?){20} B) DEFINE A AS v = 1, B AS v = 2", 0, 0),
    ("twenty_optional_and_twenty", "PATTERN ((A?){20} A{20}) DEFINE A AS v = 1", ROWS / 40, 40),
    ("ten_optional_variables", "PATTERN (A? B? C? D? E? F? G? H? I? J? Z) DEFINE Z AS v = 2", 0, 0),
    // Both take every row: the first run of A takes all rows but one.
    ("two_runs_of_equal_rows", "PATTERN (A+ B+) DEFINE A AS v = 1, B AS v = 1", 1, ROWS),
    ("two_runs_of_anything", "PATTERN (A+ B+ C+) DEFINE A AS v > 0, B AS v > 0, C AS v = 1", 1, ROWS),
    ("iterations_without_a_row", "PATTERN ((E?){2,} Y) DEFINE Y AS v = 1", 1, ROWS),
    ("alternatives_that_are_equal", "PATTERN ((A | B | C)* D) DEFINE D AS v = 2", 0, 0),
    ("all_orders_of_four", "PATTERN (PERMUTE(A, B, C, D) Z) DEFINE Z AS v = 2", 0, 0),
    ("a_long_tail_that_fails", "PATTERN (A B* C) DEFINE A AS id % 2 = 0, C AS v = 2", 0, 0),
    // Conditions that look at the match.
    ("bounded_sums", "PATTERN (A+ B) DEFINE A AS SUM(A.v) < 30, B AS v = 2", 0, 0),
    // Each attempt has another sum, and goes to the end, where it fails: the rows tell that by themselves.
    ("sums_over_all_rows_that_fail", "PATTERN (A+ B) DEFINE A AS SUM(A.v) < 100000000, B AS v = 2", 0, 0),
    (
        "sums_before_rows_in_another_order",
        "PATTERN (A+ B A* C) DEFINE A AS SUM(A.v) < 100000000, B AS id > 20000, C AS id < 20000",
        0,
        0,
    ),
    ("long_sums_of_decimals", "PATTERN (A+) DEFINE A AS SUM(A.d) <= 1000000 AND AVG(A.d) < 1.5", 1, ROWS),
    ("long_sums_of_some_rows", "PATTERN (A+) DEFINE A AS SUM(A.v) FILTER (WHERE A.id % 2 = 0) < 1000000", 1, ROWS),
    ("long_deviations", "PATTERN (A+) DEFINE A AS A.id < 2 OR STDDEV(A.id) > 0 AND VAR_POP(A.d) < 1", 1, ROWS),
    (
        "long_correlations",
        "PATTERN (A+) DEFINE A AS A.id < 2 OR CORR(A.id, A.id) > 0.9 AND COVAR_POP(A.id, A.v) >= 0",
        1,
        ROWS,
    ),
    ("many_distinct_values", "PATTERN (A+) DEFINE A AS COUNT(DISTINCT A.id) > A.id", 1, ROWS),
    ("least_texts", "PATTERN (A+) DEFINE A AS MIN(CAST(A.id AS VARCHAR)) = '0'", 1, ROWS),
    // Nobody asks which rows are which.
    ("labels_that_do_not_count", "PATTERN (^ S (B | C)+ X) DEFINE X AS COUNT(DISTINCT S.id) = 2", 0, 0),
    ("bounded_counts", "PATTERN ((A | B)+ C) DEFINE A AS COUNT(A.*) <= 3, B AS COUNT(B.*) <= 3, C AS v = 2", 0, 0),
];

pub(super) fn trials() -> Vec<Trial> {
    let trial = |&(name, clause, matches, longest): &'static (&'static str, &'static str, i64, i64)| {
        Trial::test(format!("match_recognize::no_blow_up::{name}"), move || Ok(check(clause, matches, longest)?))
    };
    PATTERNS.iter().map(trial).collect()
}

fn check(clause: &str, matches: i64, longest: i64) -> Result<(), String> {
    let expected = vec![vec![
        Value::exact(&matches.to_string()).expect("a number"),
        if matches == 0 { Value::Null } else { Value::exact(&longest.to_string()).expect("a number") },
    ]];
    let mut slow = String::new();
    // What takes too long always does, a busy machine only sometimes.
    for _ in 0..3 {
        let (_, plain) = timed("PATTERN (A B) DEFINE B AS v = 2")?;
        let (rows, taken) = timed(clause)?;
        value::compare(&expected, &rows, false, 0.0).map_err(|error| format!("{error}{clause}"))?;
        if taken <= AT_LEAST || taken <= plain * TIMES_MAX {
            return Ok(());
        }
        slow = format!("`{clause}` took {taken:?} over {ROWS} rows, a plain pattern {plain:?}");
    }
    Err(slow)
}

/// The number of matches and the rows of the longest one, and how long that took.
fn timed(clause: &str) -> Result<(Vec<value::Row>, Duration), String> {
    let ones = Decimal128Array::from_iter_values((0..ROWS).map(|_| 100)).with_precision_and_scale(10, 2);
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new((0..ROWS).collect::<Int64Array>())),
        ("v", Arc::new((0..ROWS).map(|_| 1).collect::<Int64Array>())),
        ("d", Arc::new(ones.map_err(|error| error.to_string())?)),
    ];
    let rows = RecordBatch::try_from_iter(columns).map_err(|error| error.to_string())?;
    let definition = TableDefinition::from_schema("events", &rows.schema());
    let scene = |session: &Session| {
        session.register_source(definition.clone(), Arc::new(TestSource::new(&rows, None, 4_096, true)))
    };
    let sql = format!(
        "SELECT COUNT(*), MAX(n) FROM events MATCH_RECOGNIZE (ORDER BY id MEASURES COUNT(*) AS n ONE ROW PER MATCH \
         AFTER MATCH SKIP PAST LAST ROW {clause})"
    );
    let start = Instant::now();
    let answer =
        run(&Schedule::calm(1, 65_536), &scene, &sql).map_err(|error| format!("[{}] {error}\n{sql}", error.code()))?;
    Ok((value::rows(&answer.batches), start.elapsed()))
}
