//! A text of statements: each holds for those after it and changes nothing of those before it.

use libtest_mimic::Trial;

use crate::command::{command, eagre, ended};

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("statements::{name}"), move || Ok(test()?));
    vec![
        trial("a_fixture_has_the_rows_inserted_before_the_query", fixtures),
        trial("a_name_means_what_it_meant_at_its_place", names),
        trial("reset_goes_back_to_what_held_before_the_text", reset),
        trial("instants_are_shown_in_the_time_zone", time_zone),
        trial("hints_that_change_no_result_are_passed_over", hints),
    ]
}

fn prints(sql: &str, expected: &str) -> Result<(), String> {
    let shown = eagre(&["run", "-e", sql, "--format", "csv"]).ok()?.stdout;
    match shown == expected {
        true => Ok(()),
        false => Err(format!("{sql}\nexpected\n{expected}\ngot\n{shown}")),
    }
}

fn fixtures() -> Result<(), String> {
    prints(
        "CREATE TABLE f (a INT);
         INSERT INTO f VALUES (1), (2);
         SELECT SUM(a) AS one FROM f;
         INSERT INTO f VALUES (10);
         SELECT SUM(a) AS two FROM f;
         DROP TABLE f;
         CREATE TABLE f (a STRING);
         INSERT INTO f VALUES ('x');
         SELECT a AS three FROM f;
         CREATE OR REPLACE TABLE f (a INT);
         SELECT COUNT(*) AS four FROM f;
         INSERT INTO f VALUES (7);
         SELECT a AS five FROM f",
        "one\n3\ntwo\n13\nthree\nx\nfour\n0\nfive\n7\n",
    )
}

fn names() -> Result<(), String> {
    prints(
        "CREATE TABLE f (a INT);
         INSERT INTO f VALUES (1), (2);
         CREATE VIEW v AS SELECT a FROM f WHERE a > 1;
         CREATE FUNCTION g(x INT) RETURNS INT AS 'x + 1';
         SELECT g(a) AS one FROM v;
         CREATE OR REPLACE VIEW v AS SELECT a FROM f WHERE a < 2;
         CREATE OR REPLACE FUNCTION g(x INT) RETURNS INT AS 'x * 100';
         SELECT g(a) AS two FROM v;
         DROP VIEW v;
         DROP FUNCTION g;
         DROP TABLE f",
        "one\n3\ntwo\n100\n",
    )?;
    // One run, two files that had one name.
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, rows) in [("a.csv", "1\n2\n"), ("b.csv", "30\n40\n")] {
        std::fs::write(path(name), rows).map_err(|error| error.to_string())?;
    }
    let table = |name: &str| {
        format!("CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv')", path(name))
    };
    prints(
        &format!(
            "{}; SELECT SUM(a) AS one FROM t; DROP TABLE t; {}; SELECT SUM(a) AS two FROM t",
            table("a.csv"),
            table("b.csv")
        ),
        "one\n3\ntwo\n70\n",
    )
}

fn reset() -> Result<(), String> {
    let sql = "SET 'eagre.step.rows_max' = '5'; RESET 'eagre.step.rows_max'; SHOW eagre.step.rows_max;
               SET 'eagre.seed' = '5'; SET 'eagre.sql.time_zone' = 'UTC'; RESET; SHOW eagre.seed; SHOW eagre.step.in_flight;
               SELECT CAST(TIMESTAMP '2026-01-01 00:00:00' AS TIMESTAMP_LTZ(3)) AS t";
    let args = ["run", "-e", sql, "--format", "csv", "--set", "eagre.step.rows_max=11"];
    let shown = ended(command(&args).env("EAGRE_SEED", "7").env("EAGRE_SQL_TIME_ZONE", "Asia/Tokyo")).ok()?.stdout;
    for line in ["eagre.step.rows_max,11", "eagre.seed,7", "eagre.step.in_flight,4", "2026-01-01T00:00:00+09:00"] {
        if !shown.lines().any(|shown| shown == line) {
            return Err(format!("no `{line}` in\n{shown}"));
        }
    }
    Ok(())
}

fn time_zone() -> Result<(), String> {
    prints(
        "SELECT CAST('2026-07-01T00:00:00Z' AS TIMESTAMP_LTZ(3)) AS one;
         SET 'eagre.sql.time_zone' = 'Europe/Berlin';
         SELECT CAST('2026-07-01T00:00:00Z' AS TIMESTAMP_LTZ(3)) AS two",
        "one\n2026-07-01T00:00:00Z\ntwo\n2026-07-01T02:00:00+02:00\n",
    )
}

fn hints() -> Result<(), String> {
    prints(
        "CREATE TABLE f (a INT); INSERT INTO f VALUES (1); SELECT /*+ BROADCAST(f), SHUFFLE_HASH(f) */ a FROM f /* + 1 */",
        "a\n1\n",
    )
}
