//! A text of statements: each holds for those after it and changes nothing of those before it.

use std::sync::Arc;

use eagre::Session;
use eagre_engine::checkpoint::MemoryStore;
use libtest_mimic::Trial;

use crate::harness::folder;
use crate::process::{command, eagre, ended, visible_files, visible_lines};

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("statements::{name}"), move || Ok(test()?));
    vec![
        trial("a_fixture_has_the_rows_inserted_before_the_query", fixtures),
        trial("a_name_means_what_it_meant_at_its_place", names),
        trial("reset_goes_back_to_what_held_before_the_text", reset),
        trial("instants_are_shown_in_the_time_zone", time_zone),
        trial("hints_that_change_no_result_are_passed_over", hints),
        trial("instants_are_rounded_by_the_wall_clock", rounded_instants),
        trial("json_values_are_shown_as_what_they_are", json_values),
        trial("rows_and_maps_are_inserted_by_place", rows_and_maps),
        trial("explain_creates_and_fills_nothing", explain),
        trial("sources_and_sinks_are_listed", listings),
        trial("updates_are_printed_as_updates", printed_updates),
        trial("rows_are_written_in_the_order_that_is_asked_for", written_in_order),
        trial("folders_tell_their_format_and_columns", folders),
        trial("a_fixture_goes_on_under_other_settings", resumed_fixture),
        trial("a_store_keeps_the_name_of_the_pipeline", named_by_its_store),
        trial("late_rows_say_whether_they_were_to_be_taken_back", late_retractions),
        trial("views_of_late_rows_are_read_by_others", late_views),
    ]
}

fn prints(sql: &str, expected: &str) -> Result<(), String> {
    let shown = eagre(&["run", "-e", sql, "--format", "csv"]).ok()?.stdout;
    match shown == expected {
        true => Ok(()),
        false => Err(format!("{sql}\nexpected\n{expected}\ngot\n{shown}")),
    }
}

/// A changelog that is read row by row, its watermark where its greatest time is.
fn late_scene() -> String {
    format!(
        "SET 'eagre.step.rows_max' = '1';
         CREATE TABLE eager (id INT, k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'changelog-json');",
        folder("cases/slt/data/orders_changed.json").display()
    )
}

fn late_retractions() -> Result<(), String> {
    for (query, expected) in [
        (
            "CREATE MATERIALIZED VIEW q AS SELECT SUM(id) AS s FROM TABLE(TUMBLE(TABLE eager, DESCRIPTOR(ts), INTERVAL '2' SECOND)) GROUP BY window_start, window_end",
            "true,1\ntrue,3\n",
        ),
        ("CREATE MATERIALIZED VIEW q AS SELECT * FROM eager EMIT ON WINDOW CLOSE", "false,3\ntrue,1\ntrue,3\n"),
        (
            "CREATE MATERIALIZED VIEW q AS SELECT * FROM eager MATCH_RECOGNIZE (ORDER BY ts MEASURES FIRST(A.id) AS id PATTERN (A) DEFINE A AS A.v > 0)",
            "false,3\ntrue,1\ntrue,3\n",
        ),
    ] {
        let sql = format!(
            "{} {query};
             CREATE MATERIALIZED VIEW told AS SELECT retracted, JSON_VALUE(\"row\", '$.id' RETURNING INT) AS id FROM eager.late;
             SELECT * FROM told ORDER BY retracted, id",
            late_scene()
        );
        prints(&sql, &format!("retracted,id\n{expected}"))?;
    }
    Ok(())
}

fn late_views() -> Result<(), String> {
    let sql = format!(
        "{} CREATE MATERIALIZED VIEW told AS SELECT * FROM eager.late;
         CREATE MATERIALIZED VIEW counted AS SELECT retracted, COUNT(*) AS n FROM told GROUP BY retracted;
         CREATE MATERIALIZED VIEW final AS SELECT id FROM eager EMIT ON WINDOW CLOSE;
         SELECT retracted, n FROM counted ORDER BY retracted",
        late_scene()
    );
    // The time has to be in the result.
    let said = eagre(&["run", "-e", &sql]);
    said.says(1, &["no column of the result is one; select the column of which the watermark speaks"])?;
    prints(&sql.replace("SELECT id FROM eager", "SELECT id, ts FROM eager"), "retracted,n\nfalse,1\ntrue,2\n")
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

/// A day has 23 or 25 hours where the clocks change, and an hour that they show twice is two.
fn rounded_instants() -> Result<(), String> {
    prints(
        "SET 'eagre.sql.time_zone' = 'Europe/Berlin';
         CREATE TABLE t (i TIMESTAMP_LTZ(3));
         INSERT INTO t VALUES ('2026-03-29T12:30:00Z'), ('2026-10-25T00:30:00Z'), ('2026-10-25T01:30:00Z');
         SELECT FLOOR(i TO DAY) AS d, CEIL(i TO DAY) AS e, FLOOR(i TO HOUR) AS h, CEIL(i TO HOUR) AS j, CEIL(i TO MONTH) AS m
         FROM t ORDER BY i",
        "d,e,h,j,m\n\
         2026-03-29T00:00:00+01:00,2026-03-30T00:00:00+02:00,2026-03-29T14:00:00+02:00,2026-03-29T15:00:00+02:00,2026-04-01T00:00:00+02:00\n\
         2026-10-25T00:00:00+02:00,2026-10-26T00:00:00+01:00,2026-10-25T02:00:00+02:00,2026-10-25T02:00:00+01:00,2026-11-01T00:00:00+01:00\n\
         2026-10-25T00:00:00+02:00,2026-10-26T00:00:00+01:00,2026-10-25T02:00:00+01:00,2026-10-25T03:00:00+01:00,2026-11-01T00:00:00+01:00\n",
    )
}

fn json_values() -> Result<(), String> {
    let table = r#"CREATE TABLE f (j STRING); INSERT INTO f VALUES ('{"a": {"b": [1, 2]}, "s": "x", "n": null}'), ('{"a": 3}'), ('no');"#;
    let query =
        format!("{table} SELECT j -> 'a' AS a, json_get(j, 's') AS s, j -> 'n' AS n, j -> 'a' -> 'b' AS b FROM f");
    let shown =
        |format: &str| -> Result<String, String> { Ok(eagre(&["run", "-e", &query, "--format", format]).ok()?.stdout) };
    let expected = [
        ("csv", "a,s,n,b\n\"{\"\"b\"\": [1, 2]}\",x,,\"[1, 2]\"\n3,,,\n,,,\n"),
        (
            "ndjson",
            "{\"a\":{\"b\": [1, 2]},\"s\":\"x\",\"n\":null,\"b\":[1, 2]}\n{\"a\":3,\"s\":null,\"n\":null,\"b\":null}\n\
             {\"a\":null,\"s\":null,\"n\":null,\"b\":null}\n",
        ),
    ];
    for (format, expected) in expected {
        let shown = shown(format)?;
        if shown != expected {
            return Err(format!("{format}: expected\n{expected}\ngot\n{shown}"));
        }
    }
    let shown = shown("table")?;
    if !shown.contains("| {\"b\": [1, 2]} | x    | NULL | [1, 2] |") || !shown.contains("| 3 ") {
        return Err(shown);
    }
    // A text column takes them as `->>` gives them.
    prints(
        &format!(
            "{table} CREATE TABLE o (a STRING) WITH ('connector' = 'print'); INSERT INTO o SELECT j -> 's' FROM f WHERE j -> 's' = 'x'"
        ),
        "+I[x]\n",
    )
}

fn rows_and_maps() -> Result<(), String> {
    prints(
        "CREATE TABLE o (r ROW<x INT, y STRING>, m MAP<STRING, INT>, l ARRAY<ROW<x INT, y STRING>>);
         INSERT INTO o VALUES (ROW(1, 'a'), MAP['k', 10, 'l', 20], ARRAY[ROW(2, 'b')]), ((3, 'c'), NULL, NULL);
         SELECT r.x AS x, r.y AS y, m['l'] AS l, l[1].y AS z FROM o ORDER BY x",
        "x,y,l,z\n1,a,20,b\n3,c,,\n",
    )?;
    // Keys of any type are names of fields in JSON.
    let shown = eagre(&[
        "run",
        "-e",
        "SELECT MAP[1, 'a', 2, NULL] AS m, MAP[[1, 2], MAP[TRUE, 1.5]] AS n",
        "--format",
        "ndjson",
    ])
    .ok()?;
    match shown.stdout.as_str() {
        "{\"m\":{\"1\":\"a\",\"2\":null},\"n\":{\"[1, 2]\":{\"true\":1.5}}}\n" => Ok(()),
        other => Err(other.into()),
    }
}

fn explain() -> Result<(), String> {
    let shown = eagre(&[
        "run",
        "-e",
        "CREATE TABLE f (a INT);
         EXPLAIN INSERT INTO f VALUES (1);
         EXPLAIN CREATE VIEW v AS SELECT a FROM f WHERE a > 1;
         EXPLAIN CREATE TABLE t AS SELECT a FROM f;
         SHOW VIEWS; SHOW TABLES; SELECT COUNT(*) AS n FROM f",
        "--format",
        "csv",
    ])
    .ok()?
    .stdout;
    match shown.ends_with("view\ntable,connector\nf,memory\nn\n0\n") && shown.contains("a > 1") {
        true => Ok(()),
        false => Err(shown),
    }
}

fn listings() -> Result<(), String> {
    prints(
        "CREATE SOURCE s (a INT) WITH ('connector' = 'datagen'); CREATE SINK k (a INT) WITH ('connector' = 'blackhole');
         CREATE TABLE t (a INT); SHOW SOURCES; SHOW SINKS; SHOW COLUMNS FROM s; DROP SOURCE s; DROP SINK k; SHOW TABLES",
        "source,connector\ns,datagen\nsink,connector\nk,blackhole\ncolumn,type,null,key,extra,comment\na,INT,true,,,\n\
         table,connector\nt,memory\n",
    )
}

fn printed_updates() -> Result<(), String> {
    let updates = |sink: &str, query: &str| {
        format!(
            "SET 'eagre.step.rows_max' = '1'; CREATE TABLE f (k STRING, v INT);
             INSERT INTO f VALUES ('a', 1), ('a', 2), ('b', 1), ('a', -3); CREATE TABLE o (k STRING, n BIGINT) WITH ({sink});
             INSERT INTO o {query}"
        )
    };
    prints(
        &updates("'connector' = 'print'", "SELECT k, SUM(v) FROM f GROUP BY k"),
        "+I[a, 1]\n-U[a, 1]\n+U[a, 3]\n+I[b, 1]\n-U[a, 3]\n+U[a, 0]\n",
    )?;
    // A query of one row.
    prints(
        &updates("'connector' = 'print'", "SELECT MAX(k), SUM(v) FROM f WHERE v > 0 HAVING SUM(v) > 0"),
        "+I[a, 1]\n-U[a, 1]\n+U[a, 3]\n-U[a, 3]\n+U[b, 4]\n",
    )?;
    prints(
        &updates(
            "'connector' = 'stdout', 'format' = 'csv', 'op-column' = 'true'",
            "SELECT k, SUM(v) FROM f GROUP BY k HAVING SUM(v) > 1",
        ),
        "op,k,n\n+I,a,3\n-D,a,3\n",
    )
}

fn folders() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    for (path, text) in [
        ("day=2026-01-01/k=a/x.csv", "v\n1\n"),
        ("day=2026-01-02/k=b%20c/x.csv", "v\n2\n3\n"),
        ("day=2026-01-02/k=__HIVE_DEFAULT_PARTITION__/y.csv", "v\n4\n"),
    ] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().ok_or("a folder")?).map_err(|error| error.to_string())?;
        std::fs::write(path, text).map_err(|error| error.to_string())?;
    }
    let path = folder.path().display();
    prints(
        &format!(
            "CREATE TABLE t WITH ('connector' = 'filesystem', 'path' = '{path}'); SHOW COLUMNS FROM t;
             SELECT day, k, v FROM t WHERE day > DATE '2026-01-01' ORDER BY v"
        ),
        "column,type,null,key,extra,comment\nv,BIGINT,true,,,\nday,DATE,true,,,\nk,STRING,true,,,\n\
         day,k,v\n2026-01-02,b c,2\n2026-01-02,b c,3\n2026-01-02,,4\n",
    )?;
    prints(
        &format!(
            "CREATE TABLE t (v INT) WITH ('connector' = 'filesystem', 'path' = '{path}'); SELECT SUM(v) AS s FROM t"
        ),
        "s\n10\n",
    )
}

/// Runs until it is killed after a step, then to its end in another session, and gives what the sink's folder holds.
fn killed_and_resumed(first_rows_max: &str, then_rows_max: &str) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let store = MemoryStore::new();
    let sql = format!(
        "CREATE TABLE f (a INT); INSERT INTO f VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10);
         CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.header' = 'false');
         INSERT INTO o SELECT a FROM f",
        folder.path().display()
    );
    for (rows_max, abort) in [(first_rows_max, Some(2)), (then_rows_max, None)] {
        let mut builder = Session::builder()
            .set("eagre.step.rows_max", rows_max)
            .set("eagre.checkpoint.steps", "1")
            .set("eagre.shards", "1")
            .store(Arc::new(store.clone()));
        if let Some(step) = abort {
            builder = builder.abort_after_step(step);
        }
        let session = builder.build().map_err(|error| error.to_string())?;
        let job = session.execute(&sql).map_err(|error| error.to_string())?.job.ok_or("a pipeline")?;
        job.wait_blocking().map_err(|error| error.to_string())?;
    }
    let mut rows = visible_lines(folder.path());
    rows.retain(|row| row != "a");
    rows.sort_by_key(|row| row.parse::<i64>().unwrap_or_default());
    Ok(rows)
}

fn resumed_fixture() -> Result<(), String> {
    let all: Vec<String> = (1..=10).map(|row| row.to_string()).collect();
    for (first, then) in [("3", "4"), ("1", "100"), ("4", "1")] {
        let rows = killed_and_resumed(first, then)?;
        if rows != all {
            return Err(format!("{first} rows a step, then {then}: {rows:?}"));
        }
    }
    Ok(())
}

/// What a killed session has published is not published again by the one that goes on from its store.
fn named_by_its_store() -> Result<(), String> {
    let rows = killed_and_resumed("3", "3")?;
    match rows.len() {
        10 => Ok(()),
        _ => Err(format!("each row once: {rows:?}")),
    }
}

/// `INSERT INTO .. SELECT .. ORDER BY`, by columns and expressions that are written or not, whatever the steps and shards.
fn written_in_order() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    for (shards, rows_max) in [("1", "100"), ("3", "1")] {
        for (order, written) in [
            ("s DESC NULLS LAST", vec!["2,c", "1,b", "4,b", "3,a", "5,"]),
            ("s, id DESC", vec!["3,a", "4,b", "1,b", "2,c", "5,"]),
            ("id * 7 % 5", vec!["5,", "3,a", "1,b", "4,b", "2,c"]),
        ] {
            let out = folder.path().join("out");
            let sql = format!(
                "SET 'eagre.step.rows_max' = '{rows_max}'; CREATE TABLE i (id INT, s STRING);
                 INSERT INTO i VALUES (1, 'b'), (3, 'a'), (2, 'c'), (5, NULL), (4, 'b');
                 CREATE TABLE o (id STRING, s STRING)
                 WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.header' = 'false');
                 INSERT INTO o SELECT CAST(id AS STRING), s FROM i ORDER BY {order};",
                out.display()
            );
            eagre(&["run", "--shards", shards, "-e", &sql]).ok()?;
            let texts = visible_files(&out).into_iter().map(std::fs::read_to_string);
            let text = texts.collect::<Result<String, _>>().map_err(|error| error.to_string())?;
            let lines: Vec<&str> = text.lines().collect();
            if lines != written {
                return Err(format!("ORDER BY {order} wrote {lines:?}"));
            }
            std::fs::remove_dir_all(&out).map_err(|error| error.to_string())?;
        }
    }
    // Rows that do not end have no last one.
    let sql = "CREATE TABLE g (n BIGINT) WITH ('connector' = 'datagen');
               CREATE TABLE o (n BIGINT) WITH ('connector' = 'print'); INSERT INTO o SELECT n FROM g ORDER BY n DESC";
    eagre(&["run", "-e", sql]).says(1, &["`ORDER BY` over an input that does not end is not supported", "line 2"])
}
