//! `MATCH_RECOGNIZE`: what plans, what is refused and where, and what is read of it.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::harness::{catalog, explained, job, job_of, materialised, refused, run};
use crate::parser::parse_query;
use crate::planner::oracle;

const TABLES: &str = "
CREATE TABLE tick (k STRING, price BIGINT, amount DOUBLE, pay ROW<tax BIGINT, net BIGINT>, arr ARRAY<BIGINT>, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'endless');
CREATE TABLE raw (k STRING, price BIGINT, ts TIMESTAMP(3)) WITH ('connector' = 'endless');
CREATE TABLE done (k STRING, price BIGINT, \"Mixed\" BIGINT, day DATE, ts TIMESTAMP(3)) WITH ('connector' = 'finite');
CREATE TABLE lax (k STRING, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH ('connector' = 'endless', 'allowed-lateness' = '10 s');
CREATE TABLE sink (k STRING, n BIGINT) WITH ('connector' = 'x');
";

/// The cases of other engines plan, and those that are wrong say so.
#[test]
fn all_cases_plan() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/match_recognize");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the cases") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a case");
        let case: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let columns = case["columns"].as_array().expect("columns").iter().map(|column| {
            let data_type = match column["type"].as_str().expect("a type") {
                "VARCHAR" => "STRING",
                "TIMESTAMP" => "TIMESTAMP(3)",
                other => other,
            };
            format!("{} {data_type}", column["name"].as_str().expect("a name"))
        });
        let table =
            format!("CREATE TABLE events ({}) WITH ('connector' = 'x')", columns.collect::<Vec<_>>().join(", "));
        let query = case["query"].as_str().expect("a query");
        let fails_early = case["expect_error"].as_str().is_some_and(|when| !when.starts_with("run time"));
        match job(&table, query) {
            Ok(_) if fails_early => panic!("{path:?} planned: {query}"),
            Err(error) if !fails_early => panic!("{path:?}: {error}\n{query}"),
            _ => count += 1,
        }
    }
    assert!(count > 100, "{count} cases in {folder:?}");
}

/// A query over the stream `tick` with this clause, which begins in the second line.
fn over_tick(clause: &str) -> String {
    format!("SELECT * FROM tick MATCH_RECOGNIZE (\n{clause}\n)")
}

/// The line of the `MatchRecognize` node in `EXPLAIN`, and what it keeps.
fn node(sql: &str) -> String {
    let text = explained(TABLES, sql);
    let mut lines = text.lines().skip_while(|line| !line.contains(" MatchRecognize: "));
    let first = lines.next().unwrap_or_else(|| panic!("no match in\n{text}"));
    let detail = first.split_once(": ").map_or(first, |(_, detail)| detail).trim_end_matches(" (CPU)");
    let state = lines.find_map(|line| line.trim().strip_prefix("state: ")).unwrap_or("nothing");
    format!("{detail}\n{state}")
}

/// Who reads a plan sees what is looked for, which conditions cost what, and what is kept.
#[test]
fn plans_say_what_is_looked_for() {
    for (clause, expected) in [
        (
            "PARTITION BY k ORDER BY ts MEASURES FIRST(A.price) AS f PATTERN (A B+ C) WITHIN INTERVAL '10' MINUTE
             DEFINE B AS B.price < PREV(B.price), C AS C.price > A.price AND SUM(B.price) < 30 AND C.amount > 1",
            "partition=[k], order=[ts], pattern=(A B+ C), within 10 min, conditions on [columns: B; columns and match: C], final by watermark\n\
             rows that wait for the watermark; rows of each key of matches under way, for 10 min at most; 1000000 partial matches of each \
             key at most; the last 1 rows of each key",
        ),
        // The rows of `A` and `B` lie at fixed distances from those of `B` and `C`.
        (
            "ORDER BY ts MEASURES COUNT(*) AS n AFTER MATCH SKIP TO LAST b PATTERN (A B C)
             DEFINE B AS b.pay.net > a.pay.net + 1, C AS C.arr[1] > FIRST(A.price) AND LAST(B.amount) > 2 AND CLASSIFIER() = 'C'",
            "partition=[], order=[ts], pattern=(A B C), skip to last B, conditions on [columns: B, C], final by watermark\n\
             rows that wait for the watermark; the last 3 rows of matches under way; 1000000 partial matches at most; the last 2 rows",
        ),
        // How far `A` lies back depends on how many `B` there are; of several rows of `B` the first is not the last.
        (
            "ORDER BY ts MEASURES COUNT(*) AS n PATTERN (A B{2,3} C) DEFINE C AS C.price > A.price, B AS FIRST(B.price) < 3",
            "partition=[], order=[ts], pattern=(A B{2,3} C), conditions on [match: B, C], final by watermark\n\
             rows that wait for the watermark; the last 5 rows of matches under way; 1000000 partial matches at most",
        ),
        (
            "ORDER BY ts MEASURES COUNT(*) AS n ALL ROWS PER MATCH AFTER MATCH SKIP TO NEXT ROW
             PATTERN (^ PERMUTE(A, B | C)??  ({- D* -} $ | ())) DEFINE D AS NEXT(D.price, 2) > LAST(D.price, 1)",
            "partition=[], order=[ts], pattern=(^ PERMUTE(A, B | C)?? ({- D* -} $ | ())), skip to next row, conditions on [match: D], \
             final by watermark\nrows that wait for the watermark; all rows of matches under way; 1000000 partial matches at most; \
             rows, and matches that are complete, until the next 2 rows have come, however long that takes",
        ),
        (
            "ORDER BY ts MEASURES COUNT(*) AS n PATTERN (A$) EMIT CHANGES",
            "partition=[], order=[ts], pattern=(A $), corrected by later rows\n\
             rows that wait for the watermark; the last 1 rows of matches under way; 1000000 partial matches at most",
        ),
        // A match waits for the rows that its measures look at, and counts stay.
        (
            "PARTITION BY k ORDER BY ts MEASURES NEXT(price, 5000) AS next, MATCH_NUMBER() AS n PATTERN (^ A B) WITHIN INTERVAL '1' MINUTE",
            "partition=[k], order=[ts], pattern=(^ A B), within 1 min, final by watermark\n\
             rows that wait for the watermark; rows of each key of matches under way, for 1 min at most; 1000000 partial matches of each \
             key at most; rows of each key, and matches that are complete, until the next 5000 rows have come, however long that takes; \
             the number of matches of each key, for ever; each key, for ever, as the pattern looks at its beginning",
        ),
        (
            "PARTITION BY k ORDER BY ts MEASURES COUNT(\"NOT B\".*) AS n PATTERN (A NOT B C) WITHIN INTERVAL '1' MINUTE
             DEFINE B AS B.price > 5",
            "partition=[k], order=[ts], pattern=(A NOT B C), within 1 min, conditions on [columns: NOT B, B], final by watermark\n\
             rows that wait for the watermark; rows of each key of matches under way, for 1 min at most; 1000000 partial matches of each \
             key at most",
        ),
    ] {
        assert_eq!(node(&over_tick(clause)), expected, "{clause}");
    }
    let text =
        node("SELECT * FROM done MATCH_RECOGNIZE (ORDER BY price DESC NULLS LAST, k MEASURES 1 AS one PATTERN (A))");
    let expected = "partition=[], order=[price DESC NULLS LAST, k], pattern=(A), final when the input ends\nevery row, until the input ends";
    assert_eq!(text, expected);
}

/// What the conditions and measures mean is in the plan, and so in the identity of its state.
#[test]
fn what_decides_the_answer_is_in_the_plan() {
    let id = |clause: &str| {
        let job = job_of(TABLES, &over_tick(clause));
        job.graph.nodes.iter().find(|node| node.name() == "MatchRecognize").expect("a match").id
    };
    let clause = |measures: &str, rest: &str, define: &str| {
        format!("PARTITION BY k ORDER BY ts MEASURES {measures} {rest} SUBSET U = (A, B) DEFINE {define}")
    };
    let plain = clause("LAST(A.price) AS p", "PATTERN (A B)", "B AS SUM(A.price) > 1");
    let others = [
        clause("FIRST(A.price) AS p", "PATTERN (A B)", "B AS SUM(A.price) > 1"),
        clause("LAST(B.price) AS p", "PATTERN (A B)", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price, 1) AS p", "PATTERN (A B)", "B AS SUM(A.price) > 1"),
        clause("LAST(U.price) AS p", "PATTERN (A B)", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "PATTERN (A B+)", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "PATTERN (A B+?)", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "AFTER MATCH SKIP TO NEXT ROW PATTERN (A B)", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "AFTER MATCH SKIP TO FIRST B PATTERN (A B)", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "AFTER MATCH SKIP TO LAST B PATTERN (A B)", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "PATTERN (A B) WITHIN INTERVAL '1' HOUR", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "PATTERN (A B)", "B AS SUM(B.price) > 1"),
        clause("LAST(A.price) AS p", "PATTERN (A B)", "A AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "PATTERN (A B)", "B AS PREV(B.price) > 1"),
        clause("LAST(A.price) AS p", "PATTERN (A B)", "B AS PREV(B.price, 2) > 1"),
        clause("LAST(A.price) AS p", "PATTERN (A B) EMIT CHANGES", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "ALL ROWS PER MATCH PATTERN (A B)", "B AS SUM(A.price) > 1"),
        clause("FINAL LAST(A.price) AS p", "ALL ROWS PER MATCH PATTERN (A B)", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "ALL ROWS PER MATCH OMIT EMPTY MATCHES PATTERN (A B)", "B AS SUM(A.price) > 1"),
        clause("LAST(A.price) AS p", "ALL ROWS PER MATCH WITH UNMATCHED ROWS PATTERN (A B)", "B AS SUM(A.price) > 1"),
    ];
    let mut ids: Vec<_> = others.iter().map(|clause| id(clause)).collect();
    ids.push(id(&plain));
    assert_eq!(id(&plain), id(&plain));
    ids.sort_by_key(|id| id.0);
    ids.dedup();
    assert_eq!(ids.len(), others.len() + 1);
}

/// The clause stands wherever a table does, and its words are names elsewhere.
#[test]
fn a_clause_stands_behind_any_table() {
    let clause = "MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES COUNT(*) AS n PATTERN (A B+) DEFINE B AS B.price > PREV(price))";
    let ddl = format!(
        "{TABLES} CREATE VIEW v AS SELECT k, price, ts FROM tick; CREATE VIEW m AS SELECT * FROM tick {clause};"
    );
    for sql in [
        format!("SELECT k, n FROM tick {clause}"),
        format!("SELECT m.k, m.n FROM tick AS t {clause} AS m"),
        format!("SELECT m.n FROM tick t {clause} m"),
        format!("SELECT \"M\".n FROM tick t(k, price, amount, pay, arr, ts) {clause} AS \"M\""),
        format!("SELECT a FROM tick {clause} AS m(b, a) WHERE b = 'x'"),
        format!("SELECT n FROM v {clause}"),
        "SELECT n FROM m".to_string(),
        format!("SELECT n FROM (SELECT * FROM tick WHERE price > 1) {clause}"),
        format!("SELECT n FROM (SELECT * FROM tick) AS t {clause} AS m"),
        format!("SELECT n FROM TABLE(TUMBLE(TABLE tick, DESCRIPTOR(ts), INTERVAL '1' HOUR)) {clause}"),
        format!("SELECT n FROM TABLE(TUMBLE(TABLE tick, DESCRIPTOR(ts), INTERVAL '1' HOUR)) AS w {clause} AS m"),
        format!("SELECT n FROM (done JOIN (SELECT k AS other FROM done AS x) AS d ON done.k = d.other) {clause}"),
        format!("WITH c AS (SELECT * FROM tick {clause}) SELECT c.n FROM c"),
        format!("WITH c AS (SELECT k, price, ts FROM tick) SELECT n FROM c {clause}"),
        format!("SELECT a.n, b.n AS n2 FROM tick {clause} AS a JOIN tick {clause} AS b ON a.k = b.k"),
        format!("SELECT n FROM tick {clause} UNION ALL SELECT n FROM tick {clause}"),
        format!("SELECT k, sum(n) FROM tick {clause} GROUP BY k"),
        format!("SELECT n FROM tick WHERE price IN (SELECT n FROM tick {clause})").replace("SELECT n FROM tick WHERE", "SELECT price FROM tick WHERE"),
        format!("INSERT INTO sink SELECT k, n FROM tick {clause}"),
        // One in the other, and one behind the other.
        "SELECT total FROM (SELECT * FROM tick MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES LAST(ts) AS at, SUM(price) AS price \
         PATTERN (A B) WITHIN INTERVAL '1' HOUR)) MATCH_RECOGNIZE (PARTITION BY k ORDER BY at MEASURES SUM(price) AS total PATTERN (X Y))"
            .to_string(),
        "SELECT total FROM tick MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES MATCH_ROWTIME() AS at, SUM(price) AS price \
         PATTERN (A B) WITHIN INTERVAL '1' HOUR) AS a MATCH_RECOGNIZE (PARTITION BY k ORDER BY a.at MEASURES SUM(a.price) AS total PATTERN (X Y)) AS b"
            .to_string(),
        // Names of all sorts.
        "SELECT n FROM tick MATCH_RECOGNIZE (ORDER BY ts MEASURES COUNT(\"a b\".*) AS n PATTERN (\"a b\" first+ last) DEFINE first AS first.price > \"a b\".price)"
            .to_string(),
        "SELECT match_recognize.k AS pattern, measures.k AS define FROM tick AS match_recognize JOIN tick AS measures ON match_recognize.k = measures.k"
            .to_string(),
        "SELECT match_recognize FROM (SELECT k FROM tick) AS match_recognize (match_recognize)".to_string(),
        "SELECT define FROM (SELECT k FROM tick) match_recognize (define)".to_string(),
    ] {
        job_of(&ddl, &sql);
    }
    let text = explained(&ddl, &format!("EXPLAIN SELECT n FROM tick {clause}"));
    assert!(text.contains("pattern=(A B+)"), "{text}");
}

/// Rows come out with their event time only where something bounds how late they come.
#[test]
fn event_time_goes_on_within_a_bound() {
    let time_of = |clause: &str| {
        let job = job_of(TABLES, &over_tick(clause));
        let node = job.graph.nodes.iter().find(|node| node.name() == "MatchRecognize").expect("a match");
        node.output.time_column.map(|column| node.output.schema.field(column).name().clone())
    };
    let within = "PATTERN (A B+) WITHIN INTERVAL '1' HOUR";
    for (clause, expected) in [
        (format!("ORDER BY ts MEASURES LAST(ts) AS at {within}"), Some("at")),
        (format!("ORDER BY ts MEASURES 1 AS one, FIRST(B.ts) AS at {within}"), Some("at")),
        (format!("ORDER BY ts MEASURES MATCH_ROWTIME() AS at {within}"), Some("at")),
        (format!("ORDER BY ts MEASURES ts AS at {within}"), Some("at")),
        (format!("ORDER BY ts MEASURES COUNT(*) AS n ALL ROWS PER MATCH {within}"), Some("ts")),
        // Before the match's first row, or nowhere; no bound; a wait for rows that come however late.
        (format!("ORDER BY ts MEASURES PREV(ts) AS at {within}"), None),
        (format!("ORDER BY ts MEASURES LAST(A.ts, 1) AS at {within}"), None),
        (format!("ORDER BY ts MEASURES ts + INTERVAL '1' HOUR AS at {within}"), None),
        ("ORDER BY ts MEASURES LAST(ts) AS at PATTERN (A B+)".to_string(), None),
        ("ORDER BY ts MEASURES LAST(ts) AS at PATTERN (A*) WITHIN INTERVAL '1' HOUR".to_string(), None),
        ("ORDER BY ts MEASURES LAST(ts) AS at PATTERN (A $) WITHIN INTERVAL '1' HOUR".to_string(), None),
        (format!("ORDER BY ts MEASURES LAST(ts) AS at {within} DEFINE B AS NEXT(price) > 1"), None),
        (format!("ORDER BY ts MEASURES LAST(ts) AS at, NEXT(price) AS next_price {within}"), None),
    ] {
        assert_eq!(time_of(&clause).as_deref(), expected, "{clause}");
    }
    let sql = "SELECT window_end, count(*) FROM TABLE(TUMBLE(TABLE m, DESCRIPTOR(at), INTERVAL '1' HOUR)) GROUP BY window_end EMIT ON WINDOW CLOSE";
    let view = |within: &str| {
        let clause = format!("PARTITION BY k ORDER BY ts MEASURES LAST(ts) AS at PATTERN (A B) {within}");
        format!("{TABLES} CREATE VIEW m AS {};", over_tick(&clause))
    };
    job_of(&view("WITHIN INTERVAL '1' HOUR"), sql);
    let advice = "`at` is the time of a match of the pattern (A B), which may be under way however long; bound that one by `WITHIN INTERVAL ..`";
    let error = refused(&view(""), sql);
    assert!(error.contains(&format!("EMIT ON WINDOW CLOSE needs a watermark: {advice}")), "{error}");
    let notices = job_of(&view(""), &sql.replace(" EMIT ON WINDOW CLOSE", "")).notices;
    let expected =
        format!("no watermark speaks of `at`, so its windows never close and their state is never freed; {advice}");
    assert!(notices.iter().any(|notice| notice.message.starts_with(&expected)), "{notices:?}");
    // The same of a second pattern, with whatever of projections and filters between.
    let second = "SELECT * FROM (SELECT k, at AS t FROM m WHERE k IS NOT NULL) AS n MATCH_RECOGNIZE (
         PARTITION BY k ORDER BY t MEASURES COUNT(*) AS n PATTERN (A B))";
    let error = refused(&view(""), second);
    assert!(
        error.contains("needs rows in event-time order: `at` is the time of a match of the pattern (A B)"),
        "{error}"
    );
    job_of(&view("WITHIN INTERVAL '1' HOUR"), second);
}

/// What can be taken back is said, and what nothing bounds.
#[test]
fn changes_and_bounds_are_told() {
    let clause = "PARTITION BY k ORDER BY ts MEASURES COUNT(*) AS n PATTERN (A+ B)";
    let sql = format!("INSERT INTO sink SELECT k, n FROM lax MATCH_RECOGNIZE ({clause})");
    let error = refused(TABLES, &sql);
    assert!(error.contains("the table's 'allowed-lateness' has matches corrected"), "{error}");
    let error =
        refused(TABLES, &format!("INSERT INTO sink SELECT k, n FROM tick MATCH_RECOGNIZE ({clause} EMIT CHANGES)"));
    assert!(error.contains("`EMIT CHANGES` shows matches that are corrected later"), "{error}");
    let error =
        refused(TABLES, &format!("INSERT INTO sink SELECT k, n FROM tick MATCH_RECOGNIZE ({clause}) EMIT CHANGES"));
    assert!(error.contains("`EMIT CHANGES` shows matches that are corrected later"), "{error}");
    let notices = |sql: &str| job_of(TABLES, sql).notices;
    let unbounded = notices(&over_tick(clause));
    assert!(
        unbounded[0].message.starts_with("nothing bounds how long a match of the pattern (A+ B) may be under way"),
        "{unbounded:?}"
    );
    assert_eq!(notices(&over_tick(&format!("{clause} WITHIN INTERVAL '1' DAY"))), []);
    assert_eq!(notices(&over_tick(&clause.replace("A+", "A{2,9}"))), []);
    assert_eq!(notices(&format!("SELECT * FROM done MATCH_RECOGNIZE ({clause})")), []);
}

/// The clock of the step in which a match leaves is a measure, where the match stays; other functions of the step are none.
#[test]
fn a_match_can_tell_when_it_leaves() {
    let clause = |measure: &str, emit: &str| {
        over_tick(&format!("PARTITION BY k ORDER BY ts MEASURES {measure} AS at PATTERN (A B) {emit}"))
    };
    for measure in ["MATCH_PROCTIME()", "CAST(match_proctime() AS DATE)"] {
        let job = job_of(TABLES, &clause(measure, ""));
        assert!(job.notices.is_empty(), "{measure}: {:?}", job.notices);
    }
    for (measure, emit, expected) in [
        ("MATCH_PROCTIME()", "EMIT CHANGES", "`MATCH_PROCTIME()` of matches that can be taken back is not supported"),
        ("MATCH_PROCTIME(1)", "", "line 2, column 37: `MATCH_PROCTIME` takes no arguments"),
        ("LAST(MATCH_PROCTIME())", "", "`MATCH_PROCTIME` in the argument of `LAST`"),
        ("now()", "", "`now()` in `MATCH_RECOGNIZE` is not supported"),
    ] {
        let error = refused(TABLES, &clause(measure, emit));
        assert!(error.contains(expected), "{measure}: {error}");
    }
}

/// Where partial matches may double with each row, because a row may be either of two variables and a condition asks which were which, that
/// is said; not of counts and extremes, of variables whose conditions may exclude each other, or where none of it comes round again.
#[test]
fn what_may_double_is_told() {
    let doubles = |pattern: &str, define: &str| {
        let clause =
            format!("ORDER BY ts MEASURES COUNT(*) AS n PATTERN ({pattern}) WITHIN INTERVAL '1' DAY DEFINE {define}");
        let notices = job_of(TABLES, &over_tick(&clause)).notices;
        let mut messages = notices.into_iter().map(|notice| notice.message);
        messages.find(|message| message.contains("partial matches may double with each row"))
    };
    let told = doubles("(A | B)+ X", "X AS string_agg(CLASSIFIER(), '') = 'AAX'").expect("a notice");
    let begins = "a row may be `A` as well as `B` in each round of the pattern ((A | B)+ X), and the condition of `X` reads \
                  `string_agg(CLASSIFIER(), '')`, which is another one for each way";
    assert!(told.starts_with(begins), "{told}");
    for (pattern, define) in
        [("(A | B)+ X", "X AS SUM(A.price) = 5"), ("(A B?)+ X", "A AS A.price > 1, X AS COUNT(DISTINCT B.price) = 2")]
    {
        assert!(doubles(pattern, define).is_some(), "{pattern}: {define}");
    }
    for (pattern, define) in [
        ("(A | B)+ X", "X AS COUNT(A.*) = 5 AND MAX(B.price) > 3"),
        ("(A | B)+ X", "A AS A.price > 3, B AS B.price <= 3, X AS SUM(A.price) = 5"),
        ("(A | B)+ X", "X AS SUM(price) = 5"),
        ("A+ B+ X", "X AS string_agg(CLASSIFIER(), '') = 'ABX'"),
    ] {
        assert_eq!(doubles(pattern, define), None, "{pattern}: {define}");
    }
}

/// Each mistake is told with its place, its name and the way out.
#[test]
fn mistakes_in_conditions() {
    for (condition, expected) in [
        (
            "D.price > 1",
            "13: `D` is neither a variable of the pattern nor a table of its rows; the pattern has A, B, C, U",
        ),
        ("B.prise > 1", "15: column `prise` is not known; did you mean `price`?"),
        ("nope(price)", "13: function `nope` is not known"),
        ("price", "13: the condition of `B` is BIGINT, not BOOLEAN"),
        ("FINAL LAST(price) > 1", "13: `FINAL` in the condition of `B`: while it is asked the match has no end"),
        (
            "SUM(A.price + B.price) > 1",
            "27: `SUM` speaks of the rows of `A` and of `B`; all its columns are of one variable",
        ),
        ("PREV(A.price + price) > 1", "28: `PREV` speaks of the rows of `A` and of all rows"),
        ("MAX(A.k || CLASSIFIER(B)) > 'x'", "24: `MAX` speaks of the rows of `A` and of `B`"),
        ("PREV(SUM(price)) > 1", "18: the aggregate `SUM` in the argument of `PREV`"),
        ("SUM(PREV(price)) > 1", "17: `PREV` in the argument of `SUM`"),
        ("SUM(MAX(price)) > 1", "17: the aggregate `MAX` in the argument of `SUM`"),
        ("LAST(PREV(price)) > 1", "18: `PREV` in the argument of `LAST`; write `PREV(LAST(..))`, the other way round"),
        ("PREV(NEXT(price)) > 1", "18: `NEXT` in the argument of `PREV`; both go from a row to another"),
        ("PREV(LAST(price) + 1) > 1", "18: `LAST` in the argument of `PREV`"),
        ("PREV(price, -1) > 1", "26: the number of rows of `PREV` is negative: `-1`"),
        (
            "PREV(price, 99999999999999999999) > 1",
            "25: the number of rows of `PREV` is too large: `99999999999999999999`",
        ),
        ("PREV(price, A.price) > 1", "25: the number of rows of `PREV` is no constant"),
        ("PREV(price, 1.5) > 1", "25: the number of rows of `PREV` is no whole number: `1.5`"),
        ("PREV() > 1", "13: a navigation is written `PREV(<value>)` or `PREV(<value>, <rows>)`"),
        ("SUM(A.price, A.price) > 1", "13: `sum` is called with BIGINT, BIGINT; it takes"),
        ("UPPER(A.k, 1) > 'x'", "13: `upper` is called with STRING, BIGINT; it takes STRING"),
        ("AVG(A.ts) > ts", "13: `avg` is called with TIMESTAMP(3); it takes"),
        ("FIRST(DISTINCT price) > 1", "13: `FIRST` takes a value and a number of rows, and nothing else"),
        ("LAST(*) > 1", "13: `LAST` takes no `*`; name a column"),
        ("COUNT(X.*) > 1", "19: `X` is neither a variable of the pattern nor a table of its rows"),
        ("CLASSIFIER(X) = 'A'", "24: `X` is neither a variable"),
        ("CLASSIFIER(A, B) = 'A'", "13: `CLASSIFIER` takes the name of a variable or subset, or nothing"),
        ("MATCH_NUMBER(1) = 1", "13: `MATCH_NUMBER` takes no arguments"),
        ("match_status() = 'x'", "13: `match_status()` in a condition: it is known when the match has ended"),
        ("MATCH_PROCTIME() > ts", "13: `MATCH_PROCTIME()` in a condition: it is known when the match leaves"),
        (
            "price > (SELECT max(A.price) FROM tick)",
            "33: `A.price` in a subquery of `MATCH_RECOGNIZE`: it sees the columns of the row in question, and no variables; write `price`",
        ),
        ("price > (SELECT prise FROM tick)", "29: column `prise` is not known; did you mean `price`?"),
        ("SUM(price) OVER (ORDER BY ts) > 1", "13: `OVER` in `MATCH_RECOGNIZE` is not supported"),
        ("price > 1 AND random() > 0.5", "27: `random()` in `MATCH_RECOGNIZE` is not supported"),
        ("now() > ts", "13: `now()` in `MATCH_RECOGNIZE` is not supported"),
        ("price >", "20: expected an expression, found `)`"),
        ("price > 1 C AS true", "23: expected ), found `C`"),
        ("", "8: expected a condition after `B AS`"),
        ("true, B AS false", "19: `DEFINE` has two conditions for `B`"),
        ("true, D AS false", "19: `DEFINE`: `D` is no variable of the pattern; the pattern has A, B, C"),
        ("true, U AS false", "19: `DEFINE U`: a subset has no condition; define its variables"),
    ] {
        let head = "PARTITION BY k ORDER BY ts MEASURES COUNT(*) AS n PATTERN (A B+ C)\nSUBSET U = (A, B)";
        let error = refused(TABLES, &over_tick(&format!("{head}\nDEFINE B AS {condition}")));
        assert!(error.starts_with(&format!("line 4, column {expected}")), "{condition}\n{error}");
    }
}

/// Over a stream, what a subquery of tables gives has no place in time.
#[test]
fn a_subquery_over_a_stream() {
    let clause = "PARTITION BY k ORDER BY ts MEASURES COUNT(*) AS n PATTERN (A+)";
    for condition in ["price > (SELECT max(price) FROM tick)", "price IN (SELECT price FROM tick)"] {
        let error = refused(TABLES, &over_tick(&format!("{clause} DEFINE A AS {condition}")));
        assert!(error.contains("a subquery over tables in the `MATCH_RECOGNIZE` of a stream"), "{condition}\n{error}");
    }
    let text = node(&over_tick(&format!("{clause} DEFINE A AS price > (SELECT 5)")));
    assert!(text.contains("conditions on [columns: A]"), "{text}");
}

#[test]
fn mistakes_in_measures() {
    for (measure, expected) in [
        ("A.price", "1: a measure has a name: `MEASURES <expression> AS <name>`"),
        ("price IS NULL", "1: a measure has a name"),
        ("CASE WHEN true THEN 1 END", "1: a measure has a name"),
        ("SUM(A.price) AS", "1: a measure has a name"),
        ("SUM(A.price) AS s, SUM(B.price) AS S", "36: two measures have the name `S`"),
        ("1 AS a,, 2 AS b", "8: expected a measure, found `,`"),
        (
            "FINAL PREV(price) AS p",
            "7: `RUNNING` and `FINAL` stand before `FIRST`, `LAST` and aggregates; write `PREV(FINAL LAST(..))`",
        ),
        ("RUNNING CLASSIFIER() AS c", "1: `RUNNING` stands before `FIRST`, `LAST` or an aggregate: `RUNNING LAST(..)`"),
        ("RUNNING abs(price) AS a", "1: `RUNNING` stands before"),
        ("A.pay.nope AS x", "1: the ROW has no field `nope`"),
        ("GROUPING(A.price) AS x", "1: `GROUPING` tells of a `GROUP BY`"),
        ("array_agg(A.price ORDER BY B.price) AS x", "28: `array_agg` speaks of the rows of `A` and of `B`"),
        ("SUM(A.price) FILTER (WHERE B.price > 1) AS x", "28: `SUM` speaks of the rows of `A` and of `B`"),
    ] {
        let error =
            refused(TABLES, &over_tick(&format!("PARTITION BY k ORDER BY ts MEASURES\n{measure}\nPATTERN (A B+ C)")));
        assert!(error.starts_with(&format!("line 3, column {expected}")), "{measure}\n{error}");
    }
}

#[test]
fn mistakes_in_the_clause() {
    let many = (0..65).map(|index| format!("V{index}")).collect::<Vec<_>>().join(" ");
    let deep = format!("{}A{}", "(".repeat(100), ")".repeat(100));
    for (clause, expected) in [
        ("ORDER BY ts".to_string(), "line 3, column 1: expected `PATTERN (..)`, found `)`"),
        (
            "PATTERN (A) ORDER BY ts".into(),
            "line 2, column 13: `ORDER` cannot stand here, or stands twice; the parts of the clause come in this order",
        ),
        (
            "PARTITION BY k PATTERN (A)".into(),
            "line 1, column 20: `MATCH_RECOGNIZE` over a stream needs rows in event-time order",
        ),
        (
            "PARTITION BY k ORDER BY price PATTERN (A)".into(),
            "line 2, column 25: `MATCH_RECOGNIZE` over a stream needs rows in event-time order",
        ),
        (
            "PARTITION BY k ORDER BY ts DESC PATTERN (A)".into(),
            "line 2, column 25: `MATCH_RECOGNIZE` over a stream needs",
        ),
        (
            "PARTITION BY k + 1 ORDER BY ts PATTERN (A)".into(),
            "line 2, column 14: an expression in the `PARTITION BY` of `MATCH_RECOGNIZE` is not",
        ),
        ("PARTITION BY ORDER BY ts PATTERN (A)".into(), "line 2, column 14: expected a column, found `ORDER`"),
        (
            "ORDER BY ts + 1 PATTERN (A)".into(),
            "line 2, column 10: an expression in the `ORDER BY` of `MATCH_RECOGNIZE` is not",
        ),
        ("ORDER BY tz PATTERN (A)".into(), "line 2, column 10: column `tz` is not known; did you mean `ts`?"),
        (
            "ORDER BY ts PATTERN (A)".into(),
            "line 1, column 20: `ONE ROW PER MATCH` without `PARTITION BY` and `MEASURES` has no columns",
        ),
        ("ORDER BY ts PATTERN (A | )".into(), "line 2, column 26: expected a pattern"),
        (
            "ORDER BY ts PATTERN (A || B)".into(),
            "line 2, column 24: `||` is no operator of patterns; `A | B` is one or the other",
        ),
        (
            "ORDER BY ts PATTERN (A & B)".into(),
            "line 2, column 24: expected the end of the pattern, or another part of it, found `&`",
        ),
        ("ORDER BY ts PATTERN (A{3,2})".into(), "line 2, column 23: `{3,2}`: the first bound is above the second"),
        ("ORDER BY ts PATTERN (A{})".into(), "line 2, column 24: expected a number or `,`, found `}`"),
        ("ORDER BY ts PATTERN (A{99999999999})".into(), "line 2, column 24: `99999999999` is no number of repetitions"),
        (
            "ORDER BY ts PATTERN (A+*)".into(),
            "line 2, column 24: a part of a pattern has one quantifier; write `(A+)*`, not `A+*`",
        ),
        ("ORDER BY ts PATTERN ({- A)".into(), "line 2, column 26: expected `-}`, found `)`"),
        ("ORDER BY ts PATTERN (A B -})".into(), "line 2, column 26: expected the end of the pattern"),
        ("ORDER BY ts PATTERN (PERMUTE())".into(), "line 2, column 30: expected a pattern"),
        (
            "ORDER BY ts PATTERN (NOT B C) DEFINE B AS price > 1".into(),
            "line 2, column 22: `NOT B` stands between two parts of a pattern, as in `A NOT B C`",
        ),
        ("ORDER BY ts PATTERN (A NOT B) DEFINE B AS price > 1".into(), "line 2, column 24: `NOT B` stands between two"),
        (
            "ORDER BY ts PATTERN (A (NOT B | C) D) DEFINE B AS price > 1".into(),
            "line 2, column 25: `NOT B` stands between two parts",
        ),
        (
            "ORDER BY ts PATTERN (A NOT B+ C) DEFINE B AS price > 1".into(),
            "line 2, column 29: `NOT B` has no quantifier: it is as many rows as there are, or none",
        ),
        ("ORDER BY ts PATTERN (A NOT (B D) C)".into(), "line 2, column 24: `NOT` stands before the name of a variable"),
        (
            "ORDER BY ts PATTERN (A NOT B NOT D C) DEFINE B AS price > 1, D AS price < 0".into(),
            "line 2, column 30: one `NOT` stands between two parts of a pattern",
        ),
        (
            "ORDER BY ts PATTERN (A NOT B C) DEFINE C AS price > 1".into(),
            "line 2, column 28: `NOT B`: `B` has no condition, so each row is one; add `DEFINE B AS <what must not come>`",
        ),
        (
            "ORDER BY ts PATTERN (A NOT B \"NOT B\" C) DEFINE B AS price > 1".into(),
            "line 2, column 30: `NOT B` and a variable that is called `\"NOT B\"`",
        ),
        (
            "ORDER BY ts PATTERN (\"NOT B\" NOT B C) DEFINE B AS price > 1".into(),
            "line 2, column 30: `NOT B` and a variable that is called `\"NOT B\"`",
        ),
        (
            "ORDER BY ts PATTERN (A NOT B C) DEFINE B AS price > 1, \"NOT B\" AS price < 1".into(),
            "line 2, column 56: `DEFINE NOT B`: its condition is that of `B`, negated; leave it out",
        ),
        ("ORDER BY ts PATTERN (A or B)".into(), "line 2, column 24: `OR` is no operator of patterns; `A | B` is one"),
        ("ORDER BY ts PATTERN (A AND B)".into(), "line 2, column 24: `AND` is no operator of patterns"),
        ("PARTITION BY * ORDER BY ts PATTERN (A)".into(), "line 2, column 14: expected a column, found `*`"),
        (
            "ORDER BY ts MEASURES FINAL RUNNING LAST(A.price) AS x PATTERN (A)".into(),
            "line 2, column 22: a function has one of `RUNNING` and `FINAL` before it, not both",
        ),
        ("ORDER BY ts MEASURES * AS x PATTERN (A)".into(), "line 2, column 22: expected a measure, found `*`"),
        (
            format!("ORDER BY ts PATTERN ({many})"),
            "line 2, column 268: a pattern has at most 64 variables; `V64` is one more",
        ),
        (
            format!("ORDER BY ts PATTERN ({deep})"),
            "line 2, column 86: a pattern nested more than 64 deep is not supported",
        ),
        (
            "ORDER BY ts MEASURES 1 AS x PATTERN ((A{1000} B){1000})".into(),
            "line 2, column 37: the pattern needs more than",
        ),
        ("ORDER BY ts ONE ROW PATTERN (A)".into(), "line 2, column 21: expected `PER MATCH`, found `PATTERN`"),
        (
            "ORDER BY ts ALL ROWS PER MATCHES PATTERN (A)".into(),
            "line 2, column 26: expected `PER MATCH`, found `PER MATCHES`",
        ),
        (
            "ORDER BY ts MEASURES CLASSIFIER AS c PATTERN (A)".into(),
            "line 2, column 22: `CLASSIFIER` is a function, and no column of the rows has that name: `CLASSIFIER()`",
        ),
        (
            "ORDER BY ts ONE ROW PER MATCH OMIT EMPTY MATCHES PATTERN (A)".into(),
            "line 2, column 31: `OMIT EMPTY MATCHES` belongs to `ALL ROWS PER MATCH`",
        ),
        (
            "ORDER BY ts ONE ROW PER MATCH WITH UNMATCHED ROWS PATTERN (A)".into(),
            "line 2, column 31: `WITH UNMATCHED ROWS` belongs to `ALL ROWS PER MATCH`",
        ),
        (
            "ORDER BY ts ALL ROWS PER MATCH WITH UNMATCHED ROWS PATTERN (A {- B -})".into(),
            "line 2, column 13: `WITH UNMATCHED ROWS` shows all rows, and `{- -}`",
        ),
        (
            "ORDER BY ts AFTER MATCH SKIP PATTERN (A)".into(),
            "line 2, column 30: expected `PAST LAST ROW`, `TO NEXT ROW` or `TO [FIRST | LAST] <variable>`",
        ),
        (
            "ORDER BY ts AFTER MATCH SKIP TO CURRENT ROW PATTERN (A)".into(),
            "line 2, column 33: expected `PAST LAST ROW`, `TO NEXT ROW` or `TO [FIRST | LAST] <variable>`, found `CURRENT`",
        ),
        (
            "ORDER BY ts AFTER MATCH SKIP TO LAST X PATTERN (A)".into(),
            "line 2, column 38: `AFTER MATCH SKIP TO`: `X` is no variable of the pattern",
        ),
        ("ORDER BY ts SEEK PATTERN (A)".into(), "line 2, column 13: `SEEK` is not supported"),
        (
            "ORDER BY ts PATTERN (Ab) SUBSET U = (Ac)".into(),
            "line 2, column 38: `SUBSET U`: `AC` is no variable of the pattern; did you mean `AB`?",
        ),
        (
            "ORDER BY ts PATTERN (A) SUBSET A = (A)".into(),
            "line 2, column 32: `SUBSET A`: there is a variable or subset of this name",
        ),
        ("ORDER BY ts PATTERN (A) SUBSET U = (A B)".into(), "line 2, column 39: expected `,` or `)`, found `B`"),
        (
            "ORDER BY ts PATTERN (A) WITHIN".into(),
            "line 3, column 1: expected an interval, such as `INTERVAL '10' MINUTE`",
        ),
        (
            "ORDER BY ts PATTERN (A) WITHIN INTERVAL '1' MONTH".into(),
            "line 2, column 41: `WITHIN INTERVAL '1' MONTH`: months and years have no fixed length",
        ),
        (
            "ORDER BY ts PATTERN (A) WITHIN 10".into(),
            "line 2, column 32: `WITHIN 10`: it is a constant such as `INTERVAL '10' MINUTE`",
        ),
        ("ORDER BY ts PATTERN (A) WITHIN price".into(), "line 2, column 32: `WITHIN price`: it is a constant such as"),
        (
            "ORDER BY ts PATTERN (A) WITHIN INTERVAL '-1' SECOND".into(),
            "line 2, column 41: `WITHIN INTERVAL '-1' SECOND` is negative",
        ),
        (
            "ORDER BY price PATTERN (A) WITHIN INTERVAL '1' SECOND".into(),
            "line 2, column 28: `WITHIN` bounds the time from a match's first row to its last",
        ),
        (
            "ORDER BY ts DESC PATTERN (A) WITHIN INTERVAL '1' SECOND".into(),
            "line 2, column 30: `WITHIN` bounds the time",
        ),
        (
            "ORDER BY ts PATTERN (A) EMIT PARTIAL ON TIMEOUT".into(),
            "line 2, column 25: `EMIT PARTIAL ON TIMEOUT` needs a time",
        ),
        (
            "ORDER BY ts PATTERN (A) EMIT CHANGES EMIT CHANGES".into(),
            "line 2, column 38: this `EMIT` stands twice in the clause",
        ),
    ] {
        let error = refused(TABLES, &over_tick(&clause));
        assert!(error.starts_with(expected), "{clause}\n{error}");
    }
    for (sql, expected) in [
        (
            "SELECT * FROM tick MATCH_RECOGNIZE (ORDER BY ts PATTERN (A)",
            "line 1, column 36: `MATCH_RECOGNIZE (`: the parenthesis is not closed",
        ),
        (
            "SELECT * FROM tick a JOIN tick b ON a.k = b.k MATCH_RECOGNIZE (ORDER BY ts PATTERN (A))",
            "line 1, column 47: `MATCH_RECOGNIZE` follows a table; a join stands in parentheses",
        ),
        (
            "SELECT * FROM (tick a JOIN raw b ON a.k = b.k) MATCH_RECOGNIZE (ORDER BY ts MEASURES 1 AS x PATTERN (A))",
            "line 1, column 74: the rows of `MATCH_RECOGNIZE` have several columns named `ts`: `a.ts`, `b.ts`; say which",
        ),
        (
            "SELECT classifier() FROM raw",
            "line 1, column 8: `CLASSIFIER` stands in the `MEASURES` and the `DEFINE` of a `MATCH_RECOGNIZE`",
        ),
    ] {
        let error = refused(TABLES, sql);
        assert!(error.starts_with(expected), "{sql}\n{error}");
    }
}

/// Patterns over one stream, in the same partitions and order, are one operator; one that waits for later rows does not have the others wait.
#[test]
fn patterns_share_an_operator() {
    let clause = |define: &str| {
        format!(
            "SELECT at FROM tick MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES LAST(ts) AS at PATTERN (A B) \
                 WITHIN INTERVAL '1' HOUR DEFINE B AS {define})"
        )
    };
    let operators = |conditions: &[&str]| {
        let sql = conditions.iter().map(|define| clause(define)).collect::<Vec<_>>().join("; ");
        job_of(TABLES, &sql).graph.nodes.iter().filter(|node| node.name() == "MatchRecognize").count()
    };
    assert_eq!(operators(&["price > 1", "B.price > A.price", "SUM(price) > 10"]), 1);
    assert_eq!(operators(&["price > 1", "price < NEXT(price)", "price > 2", "price = NEXT(price)"]), 2);
}

/// The answer over five rows of `id`, `price` and `name`.
fn answer(clause: &str) -> Vec<String> {
    let rows = "(VALUES (1, 0, 'a'), (2, 5, 'b'), (3, 50, 'a'), (4, 40, 'c'), (5, 60, 'b')) AS t(id, price, name)";
    let job = job_of(TABLES, &format!("SELECT * FROM {rows} MATCH_RECOGNIZE ({clause}) AS m"));
    materialised(&run(&job, &HashMap::new(), 1000)[0])
}

/// A condition is asked of the rows that it is for: others may be such that it has no answer.
#[test]
fn conditions_fail_only_where_they_are_asked() {
    let clause = |condition: &str| {
        format!(
            "ORDER BY id MEASURES B.price AS p AFTER MATCH SKIP TO NEXT ROW PATTERN (A B) DEFINE A AS price > 0, B AS {condition}"
        )
    };
    assert_eq!(answer(&clause("100 / A.price > 3")), ["50"]);
    assert_eq!(answer(&clause("100 % A.price = 0 AND B.price > A.price")), ["50"]);
    assert_eq!(answer(&clause("SUM(100 / A.price) > 3")), ["50"]);
    assert_eq!(answer(&clause("100 / PREV(B.price) > 3")), ["50"]);
    let error = job_of(
        TABLES,
        &format!("SELECT * FROM (VALUES (1, 0), (2, 0)) AS t(id, price) MATCH_RECOGNIZE ({})", clause("true")),
    );
    assert!(materialised(&run(&error, &HashMap::new(), 1000)[0]).is_empty());
}

/// Aggregates and functions of all forms mean in a measure what they mean elsewhere.
#[test]
fn measures_of_all_forms() {
    for (measure, expected) in [
        ("COUNT(DISTINCT name)", "3"),
        ("COUNT(DISTINCT A.name, A.price)", "2"),
        ("COUNT(B.*) FILTER (WHERE B.price > 45)", "2"),
        ("ARG_MAX(name, price)", "b"),
        ("FINAL ARG_MIN(B.name, B.price)", "c"),
        ("LISTAGG(B.name) WITHIN GROUP (ORDER BY B.price DESC)", "b,a,c"),
        ("array_agg(name ORDER BY price DESC)", "[b, a, c, b, a]"),
        ("array_agg(A.price)", "[0, 5]"),
        ("string_agg(CLASSIFIER(), '')", "AABBB"),
        ("array_transform(array_agg(A.price), x -> x + LAST(B.price))", "[60, 65]"),
        ("CASE WHEN FIRST(B.name) = 'a' THEN SUM(B.price) / COUNT(*) END", "30"),
        ("CAST(approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY B.price) AS BIGINT)", "50"),
        ("median(U.price)", "4.000000000e1"),
        ("first_value(B.name)", "a"),
        ("PREV(FIRST(B.name, 1), 2) || NEXT(LAST(A.name), 3) || LAST(B.name, 2)", "bba"),
        ("coalesce(PREV(FIRST(id)), NEXT(id), -1)", "-1"),
        ("CLASSIFIER(U) || lower(LAST(CLASSIFIER())) || FIRST(CLASSIFIER(A))", "BbA"),
        ("SUM(MATCH_NUMBER() * id)", "15"),
        ("match_status()", "complete"),
    ] {
        let clause = format!("ORDER BY id MEASURES {measure} AS m PATTERN (A A B+) SUBSET U = (A, B)");
        assert_eq!(answer(&clause), [expected], "{measure}");
    }
}

/// Over rows that are all there patterns are looked for by the same operator; what is wrong with one is told with its place.
#[test]
fn patterns_are_answered_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let answer = |sql: &str| {
        let query = parse_query(sql).expect("a query");
        let answer = runtime.block_on(oracle::answer(&catalog(TABLES).expect("tables"), &query, &HashMap::new()));
        answer.map(|batch| batch.num_rows()).map_err(|error| error.to_string())
    };
    let count = "SELECT n\nFROM done MATCH_RECOGNIZE (ORDER BY ts MEASURES COUNT(*) AS n PATTERN (A))";
    assert_eq!(answer(count), Ok(0));
    let nothing = answer("SELECT *\nFROM done MATCH_RECOGNIZE (ORDER BY ts PATTERN (A))").expect_err("no columns");
    assert!(nothing.starts_with("line 2, column 11: `ONE ROW PER MATCH` without"), "{nothing}");
}
