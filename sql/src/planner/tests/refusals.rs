//! What cannot run says so, by its name and at its place.

use super::harness::{catalog, job, refused};

const TABLES: &str = "
CREATE TABLE a (k INT, v BIGINT, name STRING, ts TIMESTAMP(3), arr ARRAY<INT>, WATERMARK FOR ts AS ts) WITH ('connector' = 'endless');
CREATE TABLE b (k INT, v BIGINT, ts TIMESTAMP(3)) WITH ('connector' = 'endless');
CREATE TABLE done (k INT, v BIGINT, ts TIMESTAMP(3)) WITH ('connector' = 'finite');
CREATE TABLE sink (k INT, v BIGINT, at TIMESTAMP(3), doubled AS v * 2) WITH ('connector' = 'x');
CREATE TABLE strict (k INT NOT NULL, v BIGINT) WITH ('connector' = 'x', 'changes' = 'yes');
CREATE VIEW w AS SELECT k FROM a;
CREATE SOURCE only_read (k INT) WITH ('connector' = 'endless');
CREATE SINK only_written (k INT) WITH ('connector' = 'x');
";

#[test]
fn constructs_are_named_and_placed() {
    for (sql, message) in [
        ("SELECT * FROM a TABLESAMPLE BERNOULLI (10)", "`TABLESAMPLE` is not supported"),
        ("SELECT * FROM a FOR SYSTEM_TIME AS OF ts", "`FOR SYSTEM_TIME` is not supported"),
        (
            "SELECT 1; WITH RECURSIVE r AS (SELECT k FROM a UNION SELECT a.k FROM r LEFT JOIN a ON r.k = a.k) SELECT * FROM r",
            "column 11: `WITH RECURSIVE r` can be evaluated at the end of its input only, because it makes rows because others are not \
             there",
        ),
        ("SELECT k FROM a ORDER BY k", "column 26: `ORDER BY` over an input that does not end is not supported"),
        ("SELECT * FROM numbers(1, 3)", "the table function `numbers` is not supported"),
        (
            "SELECT n, now() FROM (SELECT k, count(*) AS n FROM a GROUP BY k)",
            "`now()` over rows that can be taken back",
        ),
        ("SELECT random() FROM (SELECT DISTINCT k FROM a)", "`random()` after an aggregation is not supported"),
    ] {
        let error = refused(TABLES, sql);
        assert!(error.contains(message), "{sql}\n{error}");
        assert!(error.starts_with("line "), "{sql}\n{error}");
    }
}

#[test]
fn windows_say_what_they_lack() {
    for (sql, message) in [
        (
            "SELECT count(*) FROM TABLE(TUMBLE(TABLE b, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start EMIT ON WINDOW CLOSE",
            "EMIT ON WINDOW CLOSE needs a watermark on `b`; add `WATERMARK FOR ts AS",
        ),
        (
            "SELECT max(w) FROM TABLE(TUMBLE(TABLE (SELECT ts, LEAD(k) OVER (ORDER BY ts) AS w FROM a), DESCRIPTOR(ts), \
             INTERVAL '10' SECOND)) GROUP BY window_start EMIT ON WINDOW CLOSE",
            "EMIT ON WINDOW CLOSE needs a watermark: `ts` is not the column of `WATERMARK FOR`, or its rows come behind the watermark, as those of `LEAD`",
        ),
        ("SELECT k, count(*) FROM a GROUP BY k EMIT ON WINDOW CLOSE", "EMIT ON WINDOW CLOSE needs a window"),
        (
            "SELECT k FROM a EMIT ON WINDOW CLOSE",
            "line 1, column 17: EMIT ON WINDOW CLOSE: rows leave when the watermark has passed their event time, and no column",
        ),
        (
            "SELECT k, ts FROM b EMIT ON WINDOW CLOSE",
            "line 1, column 21: EMIT ON WINDOW CLOSE needs a watermark on `b`; add `WATERMARK FOR",
        ),
        (
            "SELECT ts, k FROM a UNION ALL SELECT ts, k FROM b EMIT ON WINDOW CLOSE",
            "EMIT ON WINDOW CLOSE needs a watermark on `b`; add `WATERMARK FOR",
        ),
        (
            "SELECT 1 FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(k), INTERVAL '10' SECOND))",
            "line 1, column 48: `DESCRIPTOR(k)` needs a TIMESTAMP or DATE column; `k` is INT",
        ),
        ("SELECT 1 FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts)))", "`TUMBLE` needs its size; the form is `TUMBLE("),
        ("SELECT 1 FROM TABLE(HOP(TABLE a, DESCRIPTOR(ts), INTERVAL '1' SECOND))", "`HOP` needs its size"),
        ("SELECT 1 FROM TABLE(TUMBLE(TABLE a, ts + 1, INTERVAL '1' SECOND))", "is no `DESCRIPTOR(column)`"),
        (
            "SELECT 1 FROM TABLE(TUMBLE(DATA => TABLE a, TIMECOL => DESCRIPTOR(ts), SIZ => INTERVAL '1' SECOND))",
            "no argument `SIZ`, did you mean `SIZE`?",
        ),
        (
            "SELECT 1 FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '1' MONTH))",
            "the size of `TUMBLE` is given in months",
        ),
        ("SELECT 1 FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts), v))", "v"),
        ("SELECT 1 FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '0' SECOND))", "size"),
        ("SELECT 1 FROM TABLE(CUMULATE(TABLE a, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '5' SECOND))", "step"),
        ("SELECT TUMBLE_START(ts, INTERVAL '1' DAY) FROM a", "`tumble_start` needs a `GROUP BY tumble(..)`"),
        (
            "SELECT TUMBLE_START(ts, INTERVAL '2' DAY) FROM a GROUP BY TUMBLE(ts, INTERVAL '1' DAY)",
            "`TUMBLE_START` needs the arguments of the window in `GROUP BY`",
        ),
    ] {
        let error = refused(TABLES, sql);
        assert!(error.contains(message), "{sql}\n{error}");
    }
}

#[test]
fn inserts_are_checked() {
    for (sql, message) in [
        ("INSERT INTO sink SELECT k, v FROM a", "`sink` takes 3 columns (k, v, at), but the query gives 2"),
        (
            "INSERT INTO sink (k, v) SELECT k, name FROM a",
            "column `v` of `sink` is BIGINT, but the query gives STRING (`name`)",
        ),
        (
            "INSERT INTO sink (doubled) SELECT v FROM a",
            "column 19: column `doubled` of `sink` is computed from other columns",
        ),
        ("INSERT INTO sink (k, k) SELECT k, k FROM a", "column `k` is given twice"),
        ("INSERT INTO strict (v) SELECT v FROM a", "column `k` of `strict` is NOT NULL and needs a value"),
        (
            "INSERT INTO sink (k, v) SELECT k, count(*) FROM a GROUP BY k",
            "`sink` (test) takes appended rows only, but rows of this query can be taken back: a `GROUP BY` without a window",
        ),
        (
            "INSERT INTO sink (k, v) SELECT k, v FROM a ORDER BY v LIMIT 3",
            "takes appended rows only, but rows of this query can be taken back: a row that ranks higher replaces another one",
        ),
        ("INSERT INTO w SELECT 1", "`w` is a view and cannot be written"),
        ("INSERT INTO a.late SELECT 1", "`a.late` is made by the engine and cannot be written"),
        ("INSERT INTO only_read SELECT 1", "`only_read` is a source and cannot be written"),
        ("SELECT * FROM only_written", "`only_written` is a sink and cannot be read"),
    ] {
        let error = refused(TABLES, sql);
        assert!(error.contains(message), "{sql}\n{error}");
    }
    for sql in [
        "INSERT INTO sink (at, k) SELECT ts, v FROM a",
        "INSERT INTO sink (k, at) VALUES (1, '2020-01-01 00:00:00'), (NULL, NULL)",
        "INSERT INTO sink (k, v) SELECT k, v FROM a LIMIT 3",
        "INSERT INTO strict SELECT k, count(*) FROM a GROUP BY k",
    ] {
        job(TABLES, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn definitions_are_checked() {
    for (sql, message) in [
        ("CREATE TABLE t (at INT, WATERMARK FOR ats AS ats)", "column `ats` is not known; did you mean `at`?"),
        ("CREATE TABLE t (a INT, WATERMARK FOR a AS a)", "`WATERMARK FOR a` needs a TIMESTAMP column; `a` is INT"),
        ("CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS 5)", "the watermark `5` is BIGINT, not a TIMESTAMP"),
        ("CREATE TABLE t (a INT, b AS c + 1)", "column `c` is not known"),
        ("CREATE TABLE t (a INT, b AS sum(a))", "`sum(a)` aggregates rows"),
        ("CREATE TABLE t (a INT, A STRING)", "column `A` is given twice"),
        ("CREATE TABLE t (a INT); CREATE TABLE T (b INT)", "table `T` exists already"),
        ("CREATE TABLE t (a INT); CREATE VIEW t AS SELECT 1", "table `t` exists already"),
        ("CREATE VIEW v (a, b) AS SELECT 1", "view `v` names 2 columns, but its query has 1"),
        ("CREATE VIEW v AS SELECT x FROM nothing", "table `nothing` is not known"),
        ("CREATE FUNCTION f(a INT) RETURNS INT AS 'b + 1'", "column `b` is not known"),
        ("CREATE FUNCTION sum(a INT) RETURNS INT AS 'a'", "function `sum` exists already"),
        ("CREATE TABLE t (a INT) WITH ('allowed-lateness' = 'soon')", "option `allowed-lateness` cannot be 'soon'"),
        ("CREATE TABLE t (a INT) WITH ('bad-rows' = 'maybe')", "option `bad-rows` cannot be 'maybe'"),
        ("DROP TABLE t", "table `t` is not known"),
        (
            "CREATE TABLE t (a INT); CREATE VIEW v AS SELECT a FROM t; DROP VIEW t",
            "`t` is a table: `DROP VIEW` does not drop it",
        ),
        ("CREATE VIEW v AS SELECT 1 AS a; DROP TABLE IF EXISTS v", "`v` is a view: `DROP TABLE` does not drop it"),
        ("DROP SINK s", "sink `s` is not known"),
    ] {
        let error = catalog(sql).err().unwrap_or_else(|| panic!("created: {sql}")).to_string();
        assert!(error.contains(message), "{sql}\n{error}");
    }
    catalog("CREATE TABLE t (a INT); CREATE TABLE IF NOT EXISTS t (b INT); CREATE OR REPLACE TABLE t (c INT); DROP TABLE IF EXISTS x")
        .expect("all of that may be said");
}

/// Whoever writes a wrong query reads SQL, a place and a way out: no phase of a planner, no type of Arrow, no struct of Rust.
#[test]
fn no_foreign_words_reach_users() {
    const FOREIGN: &[&str] = &[
        "Error during planning",
        "not implemented",
        "Internal error",
        "Arrow error",
        "Execution error",
        "External error",
        "Schema error",
        "DataFusion",
        "Candidate functions",
        "user-defined coercion",
        "Utf8",
        "Int64",
        "Int32",
        "Float64",
        "Timestamp(",
        "Struct(",
        "List(",
        "Span(",
        "\n",
    ];
    for sql in [
        "SELECT FLOOR(v TO DAY) FROM a",
        "SELECT STRING_AGG(name) FROM a",
        "SELECT k FROM a WHERE v = 'x'",
        "SELECT k FROM a WHERE v LIKE 'x%'",
        "SELECT name + 1 FROM a",
        "SELECT -name FROM a",
        "SELECT k FROM a WHERE name",
        "SELECT name AND v FROM a",
        "SELECT CASE WHEN v = 1 THEN 1 ELSE ts END FROM a",
        "SELECT COALESCE(v, ts) FROM a",
        "SELECT SUM(name) FROM a",
        "SELECT AVG(ts) FROM a",
        "SELECT SUM(v, v) FROM a",
        "SELECT SUM() FROM a",
        "SELECT ABS(name) FROM a",
        "SELECT UPPER(v) FROM a",
        "SELECT UPPER(name, name) FROM a",
        "SELECT ts + 1 FROM a",
        "SELECT ts + ts FROM a",
        "SELECT v + INTERVAL '1' DAY FROM a",
        "SELECT INTERVAL 'x' DAY FROM a",
        "SELECT DATE '2026-13-01'",
        "SELECT TIMESTAMP '2026-01-01 25:00:00'",
        "SELECT TIME '25:00'",
        "SELECT CAST('x' AS TIMESTAMP(3))",
        "SELECT CAST('abc' AS INT)",
        "SELECT CAST(arr AS INT) FROM a",
        "SELECT CAST(ROW(k, v) AS INT) FROM a",
        "SELECT CAST(300 AS TINYINT)",
        "SELECT ROW(1, 2).x",
        "SELECT v.x FROM a",
        "SELECT arr['x'] FROM a",
        "SELECT name[1] FROM a",
        "SELECT * FROM a, a",
        "SELECT * FROM a JOIN b ON a.name",
        "SELECT * FROM a LEFT JOIN b",
        "SELECT k FROM a GROUP BY v",
        "SELECT k, SUM(v) FROM a",
        "SELECT k FROM a HAVING v > 1",
        "SELECT k FROM a GROUP BY 3",
        "SELECT k FROM done ORDER BY 3",
        "SELECT k FROM a LIMIT -1",
        "SELECT k FROM a LIMIT 'x'",
        "SELECT SUM(SUM(v)) FROM a",
        "SELECT k FROM a WHERE ROW_NUMBER() OVER (ORDER BY v) = 1",
        "SELECT ROW_NUMBER() FROM a",
        "SELECT ROW_NUMBER() OVER w FROM a",
        "SELECT RANK(v) OVER (ORDER BY v) FROM a",
        "SELECT k FROM a UNION ALL SELECT k, v FROM a",
        "SELECT k FROM a UNION ALL SELECT arr FROM a",
        "VALUES (1), (2, 3)",
        "VALUES (1), ('x')",
        "SELECT (SELECT k, v FROM a LIMIT 1)",
        "SELECT k FROM a WHERE v IN (SELECT k, v FROM a)",
        "SELECT UNNEST(name) FROM a",
        "SELECT * FROM a CROSS JOIN UNNEST(v) AS u(x)",
        "WITH x AS (SELECT 1), x AS (SELECT 2) SELECT * FROM x",
        "WITH x(a, b) AS (SELECT 1) SELECT * FROM x",
        "SELECT DISTINCT ON (k) v FROM a ORDER BY v",
        "SELECT GROUPING(k) FROM a",
        "SELECT IF(v, 1, 2) FROM a",
        "SELECT DATE_FORMAT(ts, 1) FROM a",
        "SELECT name ~ '(' FROM a",
        "SELECT SPLIT_INDEX(name) FROM a",
        "SELECT SUBSTRING(name FROM ts) FROM a",
        "SELECT PERCENTILE_CONT(2) WITHIN GROUP (ORDER BY v) FROM a",
        "SELECT ARRAY[1, ts] FROM a",
        "SELECT :x",
        "SELECT $1",
        "SELECT k AS x, v AS x FROM a",
        "SELECT TOP 3 PERCENT k FROM a",
    ] {
        let error = refused(TABLES, sql);
        let foreign = FOREIGN.iter().find(|word| error.contains(**word));
        assert!(foreign.is_none(), "{sql}\nsays {foreign:?}\n{error}");
        assert!(error.starts_with("line 1, column "), "{sql}\n{error}");
    }
}

/// A message about a function stands at the function, one about a column at the column.
#[test]
fn foreign_errors_are_placed() {
    for (sql, place) in [
        ("SELECT k,\n  UPPER(v) FROM a", "line 2, column 3: "),
        ("SELECT SUM(v),\n  name FROM a", "line 2, column 3: "),
        ("SELECT k FROM a\nWHERE IF(v, TRUE, FALSE)", "line 2, column 7: "),
    ] {
        let error = refused(TABLES, sql);
        assert!(error.starts_with(place), "{sql}\n{error}");
    }
}
