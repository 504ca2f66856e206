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
        ("SELECT k, count(*) FROM a GROUP BY k EMIT ON WINDOW CLOSE", "EMIT ON WINDOW CLOSE needs a window"),
        (
            "SELECT k FROM a EMIT ON WINDOW CLOSE",
            "line 1, column 17: EMIT ON WINDOW CLOSE needs an aggregation by a window",
        ),
        (
            "SELECT 1 FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(k), INTERVAL '10' SECOND))",
            "line 1, column 48: `DESCRIPTOR(k)` needs a TIMESTAMP column; `k` is INT",
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
        ("CREATE TABLE t (a INT); CREATE VIEW v AS SELECT a FROM t; DROP VIEW t", "table `t` is not known"),
    ] {
        let error = catalog(sql).err().unwrap_or_else(|| panic!("created: {sql}")).to_string();
        assert!(error.contains(message), "{sql}\n{error}");
    }
    catalog("CREATE TABLE t (a INT); CREATE TABLE IF NOT EXISTS t (b INT); CREATE OR REPLACE TABLE t (c INT); DROP TABLE IF EXISTS x")
        .expect("all of that may be said");
}
