//! Clauses that cannot be: each is refused with its place, and what is said names the thing and the way out.

use eagre::Session;
use libtest_mimic::Trial;

/// Line 1; the rest of the clause begins in line 2.
const HEAD: &str = "SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts";

/// What stands in line 2 and after it, where it is refused (line, column), and what is said.
struct Bad {
    name: &'static str,
    clause: &'static str,
    at: (u64, u64),
    says: &'static [&'static str],
}

const fn bad(name: &'static str, clause: &'static str, at: (u64, u64), says: &'static [&'static str]) -> Bad {
    Bad { name, clause, at, says }
}

const CLAUSES: &[Bad] = &[
    bad("no_pattern", "ONE ROW PER MATCH\nDEFINE A AS v > 1", (3, 1), &["PATTERN"]),
    bad("unclosed_group", "PATTERN (A (B)\nDEFINE A AS v > 1", (1, 33), &["parenthesis is not closed"]),
    bad("quantifier_of_nothing", "PATTERN (A | + B)", (2, 14), &[]),
    bad("quantifier_twice", "PATTERN (A* *)", (2, 13), &[]),
    bad("bounds_the_wrong_way", "PATTERN (A{3,2})", (2, 11), &["3", "2"]),
    bad("no_repetition", "PATTERN (A{0})", (2, 11), &["the upper bound of a quantifier is 1 at least"]),
    bad("no_repetition_at_most", "PATTERN (A B{,0})", (2, 13), &["the upper bound of a quantifier is 1 at least"]),
    bad("unclosed_exclusion", "PATTERN (A {- B)", (2, 16), &["`-}`"]),
    bad("condition_of_no_variable", "PATTERN (A B) DEFINE X AS v > 1", (2, 22), &["`X`"]),
    bad("two_conditions", "PATTERN (A) DEFINE A AS v > 1, A AS v > 2", (2, 32), &["`A`"]),
    bad("no_condition", "PATTERN (A) DEFINE A AS", (2, 20), &["condition"]),
    bad("subset_of_no_variable", "PATTERN (A B) SUBSET U = (A, X)", (2, 30), &["`X`"]),
    bad("subset_named_as_a_variable", "PATTERN (A B) SUBSET A = (A, B)", (2, 22), &["`SUBSET A`"]),
    bad("skip_to_no_variable", "AFTER MATCH SKIP TO X PATTERN (A)", (2, 21), &["`X`", "SKIP TO"]),
    bad("measure_of_no_variable", "MEASURES X.v AS x PATTERN (A)", (2, 10), &["`X`", "the pattern has A"]),
    bad("label_of_no_variable", "MEASURES CLASSIFIER(X) AS x PATTERN (A)", (2, 21), &["`X`"]),
    bad("measure_of_no_column", "MEASURES A.vv AS x PATTERN (A)", (2, 12), &["vv", "did you mean `v`?"]),
    bad("condition_on_no_column", "PATTERN (A) DEFINE A AS vv > 1", (2, 25), &["vv", "did you mean `v`?"]),
    bad("measure_without_a_name", "MEASURES SUM(v) PATTERN (A)", (2, 10), &["AS <name>"]),
    bad(
        "two_variables_in_one_argument",
        "MEASURES SUM(A.v + B.v) AS x PATTERN (A B)",
        (2, 20),
        &["`SUM`", "`A`", "`B`"],
    ),
    bad("aggregate_of_an_aggregate", "MEASURES SUM(COUNT(v)) AS x PATTERN (A)", (2, 14), &[]),
    bad("previous_of_an_aggregate", "MEASURES PREV(SUM(v)) AS x PATTERN (A)", (2, 15), &["PREV"]),
    bad("negative_offset", "MEASURES LAST(v, -1) AS x PATTERN (A)", (2, 19), &["`LAST`", "-1"]),
    bad("offset_of_a_column", "MEASURES LAST(v, v) AS x PATTERN (A)", (2, 18), &["LAST"]),
    bad("unknown_function", "MEASURES SUMM(v) AS x PATTERN (A)", (2, 10), &["did you mean `sum`?"]),
    bad("final_in_a_condition", "PATTERN (A) DEFINE A AS FINAL LAST(v) > 1", (2, 25), &["FINAL"]),
    bad("subquery_over_the_match", "PATTERN (A) DEFINE A AS v > (SELECT max(A.v) FROM t)", (2, 41), &["`A.v`"]),
    bad("window_in_a_condition", "PATTERN (A) DEFINE A AS SUM(v) OVER () > 1", (2, 25), &[]),
    bad("condition_that_is_a_number", "PATTERN (A) DEFINE A AS v + 1", (2, 25), &["BIGINT"]),
    bad(
        "exclusion_beside_unmatched_rows",
        "ALL ROWS PER MATCH WITH UNMATCHED ROWS PATTERN (A {- B -})",
        (2, 1),
        &["WITH UNMATCHED ROWS", "{- -}"],
    ),
    bad(
        "empty_matches_of_one_row",
        "ONE ROW PER MATCH OMIT EMPTY MATCHES PATTERN (A*)",
        (2, 19),
        &["ALL ROWS PER MATCH"],
    ),
    bad("seek", "SEEK PATTERN (A)", (2, 1), &["SEEK", "windows"]),
    bad("initial", "INITIAL PATTERN (A)", (2, 1), &["INITIAL", "windows"]),
    bad("rows_in_another_function", "MEASURES MIN(A.*) AS x PATTERN (A)", (2, 14), &["`COUNT(A.*)`"]),
    bad("rows_that_differ", "MEASURES COUNT(DISTINCT A.*) AS x PATTERN (A)", (2, 25), &["`COUNT(A.*)` alone"]),
    bad("number_of_a_variable", "MEASURES MATCH_NUMBER(A) AS x PATTERN (A)", (2, 10), &["takes no arguments"]),
    bad("last_of_a_constant", "MEASURES LAST(1) AS x PATTERN (A)", (2, 15), &["`LAST`", "`CLASSIFIER()`"]),
    bad("previous_number", "PATTERN (A) DEFINE A AS PREV(MATCH_NUMBER()) = 1", (2, 30), &["`PREV`", "a column"]),
    bad("months", "PATTERN (A B) WITHIN INTERVAL '1' MONTH", (2, 31), &["WITHIN", "days"]),
    bad("no_interval", "PATTERN (A B) WITHIN 5", (2, 22), &["WITHIN", "INTERVAL"]),
    bad("partial_without_a_bound", "PATTERN (A B) EMIT PARTIAL ON TIMEOUT", (2, 15), &["WITHIN INTERVAL"]),
    bad("pattern_that_is_too_large", "PATTERN (((A{1000}){1000}){1000})", (2, 9), &["states"]),
    bad("orders_of_sixteen", "PATTERN (PERMUTE(A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P))", (2, 9), &["PERMUTE"]),
    bad("what_follows_the_clause", "PATTERN (A) DEFINE A AS v > 1 LIMIT 3", (2, 31), &[]),
];

/// Whole statements.
const STATEMENTS: &[Bad] = &[
    bad(
        "unknown_partition",
        "SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY kk ORDER BY ts PATTERN (A))",
        (1, 47),
        &["kk", "did you mean `k`?"],
    ),
    bad(
        "unknown_order",
        "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY tss PATTERN (A))",
        (1, 43),
        &["tss", "did you mean `ts`?"],
    ),
    bad(
        "within_without_a_time",
        "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY v PATTERN (A B) WITHIN INTERVAL '1' HOUR)",
        (1, 59),
        &["WITHIN"],
    ),
    bad("unclosed", "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY ts PATTERN (A)", (1, 33), &[]),
    bad(
        "order_by_the_number",
        "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY MATCH_NUMBER() PATTERN (A))",
        (1, 43),
        &["`MATCH_NUMBER` in the `ORDER BY`"],
    ),
    bad(
        "partition_by_a_variable",
        "SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY A.k ORDER BY ts PATTERN (A))",
        (1, 47),
        &["a variable of the pattern in the `PARTITION BY`"],
    ),
    bad(
        "within_another",
        "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY ts MEASURES (SELECT max(n) FROM t MATCH_RECOGNIZE (ORDER BY ts \
         MEASURES COUNT(*) AS n PATTERN (A))) AS n PATTERN (A))",
        (1, 77),
        &["`MATCH_RECOGNIZE` in a measure or condition of another", "join"],
    ),
    bad(
        "in_a_window_over_ranges",
        "SELECT SUM(v) OVER (ORDER BY ts RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING PATTERN (A+) DEFINE A AS v > 1) FROM t",
        (1, 33),
        &[
            "a pattern in a window is looked for from the current row on",
            "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
        ],
    ),
    bad(
        "in_a_named_window_of_another_variable",
        "SELECT n OVER w FROM t WINDOW w AS (ORDER BY ts MEASURES COUNT(*) AS n ROWS BETWEEN CURRENT ROW AND 5 FOLLOWING \
         AFTER MATCH SKIP TO LAST B SEEK PATTERN (A+))",
        (1, 138),
        &["`B` is no variable of the pattern", "the pattern has"],
    ),
    bad("final_elsewhere", "SELECT FINAL SUM(v) FROM t", (1, 8), &["`FINAL` stands in the `MEASURES`"]),
    bad(
        "stream_without_a_watermark",
        "SELECT * FROM endless MATCH_RECOGNIZE (ORDER BY v MEASURES A.v AS x PATTERN (A))",
        (1, 49),
        &["WATERMARK FOR"],
    ),
    bad(
        "stream_that_descends",
        "SELECT * FROM stream MATCH_RECOGNIZE (ORDER BY ts DESC MEASURES A.v AS x PATTERN (A))",
        (1, 48),
        &["ts"],
    ),
    bad("unknown_bad_skip", "SET 'eagre.match.bad_skip' = 'maybe'", (1, 5), &["'maybe'", "next-row"]),
    bad("unknown_overflow", "SET 'eagre.match.overflow' = 'maybe'", (1, 5), &["'maybe'", "drop-oldest"]),
    bad("no_partial_matches_at_all", "SET 'eagre.match.max_partial' = 'none'", (1, 5), &["'none'"]),
];

pub(super) fn trials() -> Vec<Trial> {
    let trial = |bad: &'static Bad, sql: String| {
        Trial::test(format!("match_recognize::bad_input::{}", bad.name), move || Ok(refused(bad, &sql)?))
    };
    let clauses = CLAUSES.iter().map(|bad| trial(bad, format!("{HEAD}\n{})", bad.clause)));
    let statements = STATEMENTS.iter().map(|bad| trial(bad, bad.clause.to_owned()));
    clauses.chain(statements).collect()
}

fn refused(bad: &Bad, sql: &str) -> Result<(), String> {
    let session = Session::builder().build().map_err(|error| error.to_string())?;
    let tables = "CREATE TABLE t (ts TIMESTAMP(3), k STRING, v BIGINT);
                  CREATE TABLE endless (ts TIMESTAMP(3), k STRING, v BIGINT) WITH ('connector' = 'push');
                  CREATE TABLE stream (ts TIMESTAMP(3), k STRING, v BIGINT, WATERMARK FOR ts AS ts) WITH ('connector' = 'push')";
    session.execute(tables).map_err(|error| error.to_string())?;
    let error = match session.execute(sql) {
        Ok(_) => return Err(format!("it is not refused:\n{sql}")),
        Err(error) => error,
    };
    let text = match error.location() {
        Some(at) => format!("line {}, column {}: {error}", at.line, at.column),
        None => format!("nowhere: {error}"),
    };
    let place = format!("line {}, column {}:", bad.at.0, bad.at.1);
    let wanted = std::iter::once(place.as_str()).chain(bad.says.iter().copied());
    match wanted.into_iter().find(|part| !text.contains(part)) {
        Some(part) => Err(format!("`{part}` is missing in: {text}\n{sql}")),
        None => Ok(()),
    }
}
