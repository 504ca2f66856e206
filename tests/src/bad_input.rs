//! Mistakes: each ends the command with exit code 1 (2 for its own arguments) and one message that names what is wrong, where, and the
//! way out.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;

use crate::process::{EAGRE, INSERT, Pipeline, Running, command, eagre, ended, visible_lines, wait_for};

/// `$DIR`: the folder of the case; it holds `ok.json` and `broken.json`.
struct Statement {
    name: &'static str,
    sql: &'static str,
    message: &'static [&'static str],
}

const fn statement(name: &'static str, sql: &'static str, message: &'static [&'static str]) -> Statement {
    Statement { name, sql, message }
}

/// The table of most cases, in one line so that places are easy to count: statements begin in line 2.
const TABLE: &str = "CREATE TABLE t (ts TIMESTAMP(3), k STRING, v BIGINT, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', \
                     'path' = '$DIR/ok.json', 'format' = 'json');\n";

const STATEMENTS: &[Statement] = &[
    statement(
        "unknown_column",
        "SELECT k,\n  vv FROM t",
        &["error: line 3, column 3: column `vv` is not known; did you mean `v`?"],
    ),
    statement(
        "unknown_column_of_a_table",
        "SELECT t.tss FROM t",
        &["line 2, column 8: column `t.tss` is not known; did you mean `ts`?"],
    ),
    statement("unknown_table", "SELECT 1 FROM tt", &["line 2, column 15: table `tt` is not known; did you mean `t`?"]),
    statement(
        "unknown_function",
        "SELECT uper(k) FROM t",
        &["line 2, column 8: function `uper` is not known; did you mean `upper`?"],
    ),
    statement(
        "unknown_setting",
        "SET 'eagre.step.row_max' = '1'",
        &["setting `eagre.step.row_max` is not known; did you mean `eagre.step.rows_max`?", "line 2, column 5"],
    ),
    statement(
        "wrong_setting",
        "SET 'eagre.step.rows_max' = 'many'",
        &[
            "line 2, column 5",
            "setting `eagre.step.rows_max` cannot be 'many': it takes a whole number of at least 1 (rows)",
        ],
    ),
    statement(
        "unknown_time_zone",
        "SET 'eagre.sql.time_zone' = 'Europe/Berln'",
        &["line 2, column 5", "setting `eagre.sql.time_zone` cannot be 'Europe/Berln': it takes a time zone"],
    ),
    statement(
        "options_in_a_hint",
        "SELECT * FROM t /*+ OPTIONS('bad-rows' = 'fail') */",
        &["line 2, column 17", "the hint `OPTIONS` is not supported", "WITH (..)"],
    ),
    statement(
        "memory_table_read_while_it_is_written",
        "CREATE TABLE m (a BIGINT); INSERT INTO m SELECT v FROM t; SELECT * FROM m",
        &["line 2, column 59", "`m` holds its rows in memory", "CREATE VIEW m AS SELECT"],
    ),
    statement(
        "created_from_a_query_and_read",
        "CREATE TABLE m AS SELECT v FROM t; CREATE VIEW w AS SELECT * FROM m; SELECT * FROM w",
        &["line 2, column 70", "`m` holds its rows in memory"],
    ),
    statement(
        "wrong_duration",
        "SET 'eagre.checkpoint.interval' = 'soon'",
        &["cannot be 'soon': it takes a duration like '500 ms'"],
    ),
    statement(
        "unknown_option",
        "CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'pth' = 'x')",
        &[
            "line 2, column 58",
            "table `o`: option `pth` is not known; did you mean `path`?",
            "DESCRIBE CONNECTOR filesystem",
        ],
    ),
    statement(
        "unknown_option_of_a_format",
        "CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = '$DIR/ok.json', 'format' = 'csv', 'csv.field-delimeter' = ';'); SELECT * FROM o",
        &["option `csv.field-delimeter` is not known; did you mean `csv.field-delimiter`?"],
    ),
    statement(
        "missing_option",
        "CREATE TABLE o (a INT) WITH ('connector' = 'filesystem'); SELECT * FROM o",
        &["table `o`: option `path` is missing"],
    ),
    statement(
        "wrong_option_value",
        "CREATE TABLE o (a INT) WITH ('connector' = 'datagen', 'rows-per-second' = 'fast'); SELECT * FROM o",
        &["table `o`: option `rows-per-second` = 'fast' cannot be used"],
    ),
    statement(
        "wrong_word_for_bad_rows",
        "CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = '$DIR/ok.json', 'format' = 'json', 'bad-rows' = 'ignore')",
        &["option `bad-rows` cannot be 'ignore'", "'fail'"],
    ),
    statement(
        "wrong_allowed_lateness",
        "CREATE TABLE o (a INT) WITH ('connector' = 'datagen', 'allowed-lateness' = 'a bit')",
        &["line 2, column ", "option `allowed-lateness` cannot be 'a bit': it is a duration"],
    ),
    statement(
        "unknown_connector",
        "CREATE TABLE o (a INT) WITH ('connector' = 'filesytem', 'path' = 'x')",
        &["table `o`: there is no connector `filesytem`; did you mean `filesystem`?"],
    ),
    statement(
        "unknown_format",
        "CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = '$DIR/ok.json', 'format' = 'jsn'); SELECT * FROM o",
        &["`format` = 'jsn' cannot be used", "json"],
    ),
    statement(
        "unknown_type",
        "CREATE TABLE o (a STRNG)",
        &["line 2, column 19: type `STRNG` is not known; did you mean `STRING`?"],
    ),
    statement("column_twice", "CREATE TABLE o (a INT, A STRING)", &["line 2, column 24: column `A` is given twice"]),
    statement(
        "table_twice",
        "CREATE TABLE t (a INT)",
        &["line 2, column 14: table `t` exists already; drop it first, or add `IF NOT EXISTS`"],
    ),
    statement(
        "missing_file",
        "CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = '$DIR/nowhere.json', 'format' = 'json'); SELECT * FROM o",
        &["table `o`: cannot read `", "nowhere.json`", "check the path"],
    ),
    statement(
        "columns_of_a_missing_file",
        "CREATE TABLE o WITH ('connector' = 'filesystem', 'path' = '$DIR/nowhere.json', 'format' = 'json')",
        &["table `o`: cannot read `", "nowhere.json`"],
    ),
    statement(
        "no_columns_to_infer",
        "CREATE TABLE o WITH ('connector' = 'push')",
        &["line 2, column 14", "table `o` needs columns: connector `push` has none of its own"],
    ),
    statement(
        "bad_rows_fail",
        "CREATE TABLE o (k STRING, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '$DIR/broken.json', 'format' = 'json', 'bad-rows' = 'fail'); SELECT * FROM o",
        &["table `o`:", "broken.json", "many"],
    ),
    statement(
        "emit_on_window_close_without_a_watermark",
        "CREATE TABLE o (ts TIMESTAMP(3), v INT); SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE o, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end EMIT ON WINDOW CLOSE",
        &["EMIT ON WINDOW CLOSE needs a watermark on `o`", "WATERMARK FOR"],
    ),
    statement(
        "window_on_a_number",
        "SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(v), INTERVAL '1' SECOND)) GROUP BY window_start, window_end",
        &["line 2, column ", "`v`", "TIMESTAMP"],
    ),
    statement(
        "watermark_for_a_text",
        "CREATE TABLE o (k STRING, WATERMARK FOR k AS k)",
        &["line 2, column ", "`WATERMARK FOR k` needs a TIMESTAMP column; `k` is STRING"],
    ),
    statement(
        "watermark_for_an_unknown_column",
        "CREATE TABLE o (ts TIMESTAMP(3), WATERMARK FOR tsx AS tsx)",
        &["line 2, column 48: column `tsx` is not known; did you mean `ts`?"],
    ),
    statement(
        "updates_into_a_file",
        "CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '$DIR/out', 'format' = 'json'); INSERT INTO o SELECT k, COUNT(*) FROM t GROUP BY k",
        &["`o`", "takes appended rows only", "can be taken back", "EMIT ON WINDOW CLOSE"],
    ),
    statement(
        "too_few_columns_in_insert",
        "CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'blackhole'); INSERT INTO o SELECT k FROM t",
        &["line 2, column ", "`o`", "2", "1"],
    ),
    statement(
        "unknown_column_in_insert",
        "CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'blackhole'); INSERT INTO o (k, m) SELECT k, v FROM t",
        &["column `m` is not known"],
    ),
    statement(
        "type_that_does_not_fit_in_insert",
        "CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'blackhole'); INSERT INTO o SELECT k, make_array(v) FROM t",
        &["line 2, column ", "`n`", "BIGINT"],
    ),
    statement(
        "insert_into_an_unknown_table",
        "INSERT INTO oo SELECT k FROM t",
        &["line 2, column 13: table `oo` is not known"],
    ),
    statement(
        "write_to_a_source",
        "CREATE SOURCE o (k STRING) WITH ('connector' = 'datagen'); INSERT INTO o SELECT k FROM t",
        &["`o` is a source and cannot be written"],
    ),
    statement(
        "read_from_a_sink",
        "CREATE SINK o (k STRING) WITH ('connector' = 'blackhole'); SELECT * FROM o",
        &["`o` is a sink and cannot be read"],
    ),
    statement("column_without_group", "SELECT k, v, COUNT(*) FROM t GROUP BY k", &["line 2, column ", "v", "GROUP BY"]),
    statement("aggregate_in_where", "SELECT k FROM t WHERE SUM(v) > 1", &["line 2, column ", "HAVING"]),
    statement("text_plus_number", "SELECT k + INTERVAL '1' SECOND FROM t", &["line 2, column "]),
    statement("wrong_arguments", "SELECT SUBSTRING(v) FROM t", &["line 2, column ", "substr"]),
    statement(
        "session_window_without_gap",
        "SELECT COUNT(*) FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts))) GROUP BY window_start, window_end",
        &["line 2, column 28", "`SESSION` needs its gap", "SESSION(TABLE t [PARTITION BY k, ..], DESCRIPTOR(ts), gap)"],
    ),
    statement(
        "match_recognize",
        "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY ts MEASURES A.v AS x PATTERN (A) DEFINE B AS A.v > 1) AS m",
        &["line 2, column 83", "`DEFINE`", "`B` is no variable of the pattern"],
    ),
    statement("update", "UPDATE t SET v = 1", &["line 2, column 1: `UPDATE` is not supported"]),
    statement("syntax", "SELECT k v x FROM t", &["line 2, column 12", "expected", "x"]),
    statement("syntax_at_the_end", "SELECT k FROM t WHERE", &["line 2, column ", "xpected"]),
    statement("open_text", "SELECT 'k FROM t", &["line 2, column 8", "unterminated string literal"]),
    statement(
        "misspelt_statement",
        "SELCT k FROM t",
        &["line 2, column 1: `SELCT K FROM` begins no statement; did you mean `SELECT`?"],
    ),
    statement(
        "order_of_an_endless_input",
        "CREATE TABLE g (n INT) WITH ('connector' = 'datagen'); SELECT n FROM g ORDER BY n",
        &["ORDER BY", "does not end"],
    ),
    statement("cast_of_a_wrong_text", "SELECT CAST(k AS INT) FROM t", &["Cannot cast string 'a'"]),
    statement(
        "two_columns_of_one_name_in_a_view",
        "CREATE VIEW w AS SELECT k,\n  v AS k FROM t",
        &["error: line 3, column 8: the query gives two columns named `k`; give one of them another name: `.. AS k_2`"],
    ),
    statement(
        "two_columns_of_one_name_in_an_insert",
        "CREATE TABLE o (a STRING, b BIGINT) WITH ('connector' = 'blackhole'); INSERT INTO o SELECT k AS x, v AS x FROM t",
        &["line 2, column 105: the query gives two columns named `x`"],
    ),
    statement(
        "drop_of_an_unknown_view",
        "DROP VIEW nosuch",
        &["line 2, column 11: view `nosuch` is not known; `SHOW TABLES` and `SHOW VIEWS` list what there is"],
    ),
    statement(
        "drop_of_another_kind",
        "CREATE SOURCE o (a INT) WITH ('connector' = 'datagen'); DROP SINK o",
        &["line 2, column 67: `o` is a source: `DROP SINK` does not drop it, `DROP SOURCE o` does"],
    ),
    statement("drop_of_a_table_as_a_view", "DROP VIEW IF EXISTS t", &["`t` is a table: `DROP VIEW` does not drop it"]),
    statement(
        "show_of_what_is_not_there",
        "SHOW JOBS",
        &["line 2, column 6: `SHOW JOBS` is not supported", "eagre checkpoint list"],
    ),
    statement("show_of_nonsense", "SHOW nonsense", &["`SHOW nonsense` is not known; it knows TABLES, SOURCES, SINKS"]),
    statement(
        "explain_of_a_view_creates_nothing",
        "EXPLAIN CREATE VIEW w AS SELECT k FROM t; SELECT * FROM w",
        &["line 2, column 57: table `w` is not known"],
    ),
    statement(
        "null_in_a_not_null_column",
        "CREATE TABLE o (n BIGINT NOT NULL) WITH ('connector' = 'blackhole'); INSERT INTO o SELECT NULLIF(v, 1) FROM t",
        &["sink `o`: column `n` is NOT NULL, and a row gives NULL for it", "WHERE .. IS NOT NULL"],
    ),
    statement(
        "null_in_a_not_null_column_of_a_fixture",
        "CREATE TABLE o (n BIGINT NOT NULL); INSERT INTO o VALUES (1), (NULL)",
        &["line 2, column 51", "`o`: column `n` is NOT NULL"],
    ),
    statement(
        "value_out_of_range",
        "CREATE TABLE o (n TINYINT); INSERT INTO o VALUES (1), (300)",
        &["error: line 2, column 43: column `n` of `o` is TINYINT, and 300 does not fit it"],
    ),
    statement(
        "text_that_is_no_date",
        "CREATE TABLE o (d DATE); INSERT INTO o VALUES ('2026-13-01')",
        &["column `d` of `o` is DATE, and '2026-13-01' does not fit it"],
    ),
    statement(
        "value_out_of_range_in_a_query",
        "CREATE TABLE o (n TINYINT) WITH ('connector' = 'blackhole'); INSERT INTO o SELECT v * 300 FROM t",
        &["column `n` of `o` is TINYINT, and 300 does not fit it"],
    ),
    statement(
        "unit_that_is_none",
        "SELECT FLOOR(ts TO FORTNIGHT) FROM t",
        &["line 2, column 20: expected a unit of time (MILLENNIUM, ", "found `FORTNIGHT`"],
    ),
    statement(
        "rounding_of_a_number",
        "SELECT CEIL(v TO DAY) FROM t",
        &["`CEIL(.. TO unit)` takes a TIMESTAMP, a DATE or a TIME, not a BIGINT"],
    ),
    statement(
        "empty_map",
        "SELECT MAP[] FROM t",
        &["line 2, column 12: expected a key and its value: `MAP['key', value, ..]`"],
    ),
    statement(
        "top_with_ties",
        "SELECT TOP 3 WITH TIES k FROM t",
        &["`TOP .. WITH TIES` is not supported", "RANK() OVER"],
    ),
    statement(
        "error_in_one_of_several_shards",
        "SET 'eagre.shards' = '3'; SELECT CAST(k AS INT) AS n, COUNT(*) FROM t GROUP BY CAST(k AS INT)",
        &["Cannot cast string 'a' to INT"],
    ),
    statement(
        "json_has_no_order",
        "SELECT MAX(k -> 'a') FROM t",
        &["JSON values have no order; take numbers or texts out of them"],
    ),
    statement(
        "bucket_without_its_feature",
        "CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = 's3://bucket/x', 'format' = 'json'); SELECT * FROM o",
        &[
            "table `o`: 's3://bucket/x' needs the cargo feature `aws`, which this build lacks; build with `--features aws`",
        ],
    ),
    statement(
        "memory_bound",
        "SET 'eagre.shards' = '1'; SET 'eagre.memory.max' = '1 kb'; SELECT k, array_agg(repeat(k, 3000)) FROM t GROUP BY k",
        &["the state of the pipeline holds ", " bytes of it in ", "and `eagre.memory.max` allows 1024; raise it"],
    ),
    statement(
        "nested_field_that_is_not_there",
        "CREATE TABLE o (a ROW<x INT>) WITH ('connector' = 'datagen', 'fields.a.y.min' = '1'); SELECT * FROM o",
        &["option `fields.a.y.min` is not known; did you mean `fields.a.x.min`?"],
    ),
    statement(
        "unknown_connector_to_describe",
        "DESCRIBE CONNECTOR filesistem",
        &["there is no connector `filesistem`; did you mean `filesystem`?"],
    ),
];

type Test = fn() -> Result<(), String>;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = STATEMENTS
        .iter()
        .map(|statement| Trial::test(format!("bad_input::{}", statement.name), move || Ok(refused(statement)?)))
        .collect();
    let others: [(&str, Test); 23] = [
        ("broken_lines_are_set_aside", broken_lines),
        ("arrays_of_another_length_are_told", arrays_of_another_length),
        ("missing_statement_file", missing_statement_file),
        ("statements_for_a_file", statements_for_a_file),
        ("missing_config_file", missing_config_file),
        ("wrong_config_file", wrong_config_file),
        ("wrong_environment", wrong_environment),
        ("misspelt_environment", misspelt_environment),
        ("folder_of_several_formats", folder_of_several_formats),
        ("wrong_set_argument", wrong_set_argument),
        ("usage_errors_exit_2", usage),
        ("errors_as_json", json),
        ("unreadable_folder", unreadable_folder),
        ("full_disk", full_disk),
        ("unwritable_output", unwritable_output),
        ("corrupt_checkpoint_file", corrupt_checkpoint_file),
        ("missing_checkpoint_file", missing_checkpoint_file),
        ("damaged_manifest", damaged_manifest),
        ("newer_checkpoint_format", newer_format),
        ("checkpoint_of_another_query", another_query),
        ("state_of_nothing", state_of_nothing),
        ("replay_of_steps_that_are_not_there", replay_out_of_range),
        ("input_that_changed_under_a_checkpoint", changed_input),
    ];
    trials
        .extend(others.into_iter().map(|(name, test)| Trial::test(format!("bad_input::{name}"), move || Ok(test()?))));
    trials
}

fn refused(statement: &Statement) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).map_err(|error| error.to_string());
    write("ok.json", "{\"ts\": \"2026-01-01 00:00:01\", \"k\": \"a\", \"v\": 1}\n")?;
    write("broken.json", "{\"k\": \"a\", \"v\": 1}\n{\"k\": \"b\", \"v\": \"many\"}\n")?;
    let sql = format!("{TABLE}{}", statement.sql).replace("$DIR", &folder.path().display().to_string());
    let said = eagre(&["run", "-e", &sql]);
    said.says(1, statement.message)?;
    one_message(&said.stderr)?;
    if folder.path().join("out").exists() {
        return Err("files were written before the error".to_owned());
    }
    Ok(())
}

/// One message for people, without what only helps whoever wrote the program.
fn one_message(stderr: &str) -> Result<(), String> {
    let foreign = [
        "panicked",
        "backtrace",
        "Error during planning",
        "DataFusion error",
        "SchemaError",
        "Utf8View",
        "internal error",
        "a bug in eagre",
    ];
    match foreign.iter().find(|word| stderr.contains(**word)) {
        Some(word) => Err(format!("the message has `{word}` in it:\n{stderr}")),
        None if stderr.lines().filter(|line| line.starts_with("error:")).count() != 1
            || !stderr.starts_with("error: ") =>
        {
            Err(format!("not one message:\n{stderr}"))
        }
        None => Ok(()),
    }
}

/// Broken JSON and wrong types do not stop the others.
fn broken_lines() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let text = "{\"ts\": \"2026-01-01 00:00:01\", \"k\": \"a\", \"v\": 1}\n{\"ts\": \"2026-01-01\n\n[1]\n{\"ts\": \"yesterday\", \"k\": \"a\", \"v\": 1}\n\
                {\"ts\": \"2026-01-01 00:00:02\", \"k\": \"a\", \"v\": 1.5}\n{\"ts\": \"2026-01-01 00:00:03\", \"k\": \"\u{fffd}\", \"v\": 3}\n";
    std::fs::write(pipeline.folder.path().join("in/events.json"), text).map_err(|error| error.to_string())?;
    let sql = format!(
        "{}SELECT COUNT(*) AS good, SUM(v) AS total FROM events; SELECT reason FROM events.errors",
        pipeline.tables(false)
    );
    let said = eagre(&["run", "-e", &sql, "--format", "csv"]).ok()?;
    said.says(0, &["4 rows of `events` could not be read"])?;
    let reasons: Vec<&str> = said.stdout.lines().skip(3).collect();
    if !said.stdout.starts_with("good,total\n2,4\nreason\n") || reasons.len() != 4 {
        return Err(format!("two good rows and four bad ones:\n{}", said.stdout));
    }
    match reasons.iter().any(|reason| reason.contains("ts") && reason.contains("yesterday"))
        && reasons.iter().any(|reason| reason.contains("1.5"))
    {
        true => Ok(()),
        false => Err(format!("the reasons name column and value: {reasons:?}")),
    }
}

/// A sensor that sends fewer numbers than it did has no score, and that is told.
fn arrays_of_another_length() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = format!(
        "{}SELECT anomaly_score(ARRAY_APPEND(ARRAY[v], v), width => 3) OVER (ORDER BY ts) AS score FROM events",
        pipeline.tables(false)
    );
    let said = eagre(&["run", "-e", &sql, "--format", "csv"]);
    said.says(0, &["note: 5 arrays have another length than `width` says", "make the query a view", ".errors"])
}

fn missing_statement_file() -> Result<(), String> {
    eagre(&["run", "/nowhere/job.sql"]).says(1, &["error: `/nowhere/job.sql`: No such file or directory"])
}

fn missing_config_file() -> Result<(), String> {
    eagre(&["run", "-e", "SHOW TABLES", "--config", "/nowhere/eagre.toml"])
        .says(1, &["`/nowhere/eagre.toml`: No such file or directory"])
}

fn wrong_config_file() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("eagre.toml").display().to_string();
    std::fs::write(&file, "[step]\nrow_max = 1\n").map_err(|error| error.to_string())?;
    let args = ["run", "-e", "SHOW TABLES", "--config", &file];
    eagre(&args)
        .says(1, &["eagre.toml`: setting `eagre.step.row_max` is not known; did you mean `eagre.step.rows_max`?"])?;
    std::fs::write(&file, "[step\n").map_err(|error| error.to_string())?;
    eagre(&args).says(1, &["eagre.toml` is no TOML", "line 1"])
}

fn wrong_environment() -> Result<(), String> {
    let said = ended(command(&["run", "-e", "SHOW TABLES"]).env("EAGRE_STEP_ROWS_MAX", "0"));
    said.says(1, &["environment `EAGRE_STEP_ROWS_MAX`: setting `eagre.step.rows_max` cannot be '0'"])
}

fn statements_for_a_file() -> Result<(), String> {
    eagre(&["run", "SELECT 1"]).says(2, &["there is no file `SELECT 1`; statements are given with -e"])
}

/// A variable with a slip of the pen would leave the default in force.
fn misspelt_environment() -> Result<(), String> {
    let said = ended(command(&["run", "-e", "SHOW TABLES"]).env("EAGRE_STEP_ROW_MAX", "10"));
    said.says(1, &["environment `EAGRE_STEP_ROW_MAX`: there is no such setting; did you mean `EAGRE_STEP_ROWS_MAX`?"])
}

/// Which format files have is seen from their names, unless these differ.
fn folder_of_several_formats() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let write = |name: &str| std::fs::write(folder.path().join(name), "{}\n").map_err(|error| error.to_string());
    write("a.json")?;
    write("b.csv")?;
    let path = folder.path().display();
    let sql = format!("CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = '{path}'); SELECT * FROM o");
    eagre(&["run", "-e", &sql]).says(
        1,
        &["option `format` is missing: the files of", "do not all end alike", "a.json`", "b.csv`", "'format' = 'json'"],
    )
}

fn wrong_set_argument() -> Result<(), String> {
    eagre(&["run", "-e", "SHOW TABLES", "--set", "eagre.step.rows_max"])
        .says(2, &["--set takes NAME=VALUE, not `eagre.step.rows_max`"])?;
    eagre(&["run", "-e", "SHOW TABLES", "--set", "eagre.step.row_max=1"])
        .says(2, &["--set: setting `eagre.step.row_max` is not known; did you mean `eagre.step.rows_max`?"])?;
    eagre(&["run", "-e", "SHOW TABLES", "--set", "eagre.sql.time_zone=Nowhere"]).says(2, &["--set: ", "'Nowhere'"])?;
    eagre(&["run", "-e", "SHOW TABLES", "--device", "warp"]).says(2, &["setting `eagre.device` cannot be 'warp'"])?;
    eagre(&["run", "-e", "SHOW TABLES", "--shards", "many"]).says(2, &["--shards", "many"])
}

fn usage() -> Result<(), String> {
    for (args, text) in [
        (&["run"][..], "there are no statements"),
        (&["rnu"], "unrecognized subcommand 'rnu'"),
        (&["run", "-e", "SELECT 1", "job.sql"], "cannot be used with"),
        (&["run", "-e", "SHOW TABLES", "--formt", "csv"], "--format"),
        (&["run", "-e", "SHOW TABLES", "--format", "xml"], "table, csv, ndjson, arrow"),
        (&["run", "-e", "SHOW TABLES", "--fresh"], "--state"),
        (&[], "Usage"),
    ] {
        eagre(args).says(2, &[text]).map_err(|error| format!("{args:?}: {error}"))?;
    }
    eagre(&["--help"]).ok()?;
    eagre(&["--version"]).ok()?;
    Ok(())
}

fn json() -> Result<(), String> {
    let said = eagre(&["run", "--errors", "json", "-e", "CREATE TABLE t (a INT);\nSELECT b FROM t"]);
    let error: serde_json::Value =
        serde_json::from_str(said.stderr.trim()).map_err(|error| format!("{error}: {}", said.stderr))?;
    let expected = serde_json::json!({
        "code": "unknown_column", "message": error["message"], "line": 2, "column": 8
    });
    if said.code != Some(1) || error != expected {
        return Err(format!("exit code {:?}: {error}", said.code));
    }
    // Also those of the command line itself.
    for args in [
        &["run", "--errors", "json", "-e", "SHOW TABLES", "--formt", "csv"][..],
        &["run", "--errors=json", "-e", "SHOW TABLES", "--device", "warp"],
    ] {
        let said = eagre(args);
        let error: serde_json::Value =
            serde_json::from_str(said.stderr.trim()).map_err(|error| format!("{args:?}: {error}: {}", said.stderr))?;
        if said.code != Some(2) || error["code"] != "usage" || error["message"].as_str().is_none_or(str::is_empty) {
            return Err(format!("{args:?}: exit code {:?}: {error}", said.code));
        }
    }
    Ok(())
}

/// Root may read everything: its right to do so is taken from the command.
fn unreadable_folder() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let closed = pipeline.folder.path().join("in");
    let permissions = |mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(mode)).map_err(|error| error.to_string())
    };
    permissions(0o000)?;
    let sql = format!("{}SELECT * FROM events", pipeline.tables(false));
    let said = match std::fs::read_dir(&closed).is_ok() {
        false => eagre(&["run", "-e", &sql]),
        true => {
            let mut command = Command::new("setpriv");
            command.args([
                "--bounding-set=-dac_override,-dac_read_search",
                "--inh-caps=-dac_override,-dac_read_search",
                EAGRE,
                "run",
                "-e",
                &sql,
            ]);
            let works = Command::new("setpriv")
                .args(["--bounding-set=-dac_override", "true"])
                .status()
                .is_ok_and(|status| status.success());
            if !works {
                println!("skipped: this is root, which may read every folder, and `setpriv` cannot take that away");
                return permissions(0o700);
            }
            ended(&mut command)
        }
    };
    permissions(0o700)?;
    said.says(1, &["table `events`: cannot ", "/in", "ermission denied", "give this user the permission"])
}

/// A file system of its own, gone at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing better can be done if it stays.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn full_disk() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let Some(disk) = SmallDisk::mount(&pipeline.folder.path().join("disk"), "256k") else {
        println!("skipped: this user may not mount a small file system to fill");
        return Ok(());
    };
    let sql = |out: &str| {
        format!(
            "CREATE TABLE gen (n BIGINT, text STRING) WITH ('connector' = 'datagen', 'rows-per-second' = '1000000', 'number-of-rows' = '20000');
             CREATE TABLE out (n BIGINT, text STRING) WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'csv');
             INSERT INTO out SELECT n, text FROM gen"
        )
    };
    let said = eagre(&["run", "-e", &sql(&disk.0.join("out").display().to_string())]);
    said.says(1, &["sink `out`: cannot write `", "No space left on device", "free space, or choose another path"])?;
    if !visible_lines(&disk.0.join("out")).is_empty() {
        return Err("a part of the rows is visible".to_owned());
    }
    // And the disk of the state.
    std::fs::remove_dir_all(disk.0.join("out")).map_err(|error| error.to_string())?;
    std::fs::write(disk.0.join("fill"), vec![0; 250 << 10]).map_err(|error| error.to_string())?;
    let state = disk.0.join("state").display().to_string();
    let said = eagre(&["run", "-e", &sql(&pipeline.path("out")), "--state", &state]);
    said.says(1, &["No space left on device", "disk/state"])
}

fn unwritable_output() -> Result<(), String> {
    let pipeline = Pipeline::new();
    std::fs::write(pipeline.folder.path().join("out"), "a file where a folder should be")
        .map_err(|error| error.to_string())?;
    eagre(&["run", "-e", &pipeline.sql(false)]).says(1, &["`out`", "/out"])
}

/// The files of a checkpoint's state, or of its manifests.
fn objects(pipeline: &Pipeline, kind: &str) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(pipeline.folder.path().join("state").join(kind))
        .map_err(|error| format!("state/{kind}: {error}"))?;
    // State files lie in a folder for each operator.
    let inside = |path: PathBuf| match std::fs::read_dir(&path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![path],
    };
    let mut files: Vec<PathBuf> = entries.flatten().flat_map(|entry| inside(entry.path())).collect();
    files.sort();
    match files.is_empty() {
        true => Err(format!("there is nothing in state/{kind}")),
        false => Ok(files),
    }
}

fn corrupt_checkpoint_file() -> Result<(), String> {
    let pipeline = Pipeline::new();
    pipeline.interrupted()?;
    for file in objects(&pipeline, "state")? {
        let mut bytes = std::fs::read(&file).map_err(|error| error.to_string())?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        std::fs::write(&file, bytes).map_err(|error| error.to_string())?;
    }
    let expected = ["checkpoint: state file `state/", "it is damaged (its checksum is ", "checkpoint drop", "--fresh"];
    pipeline.run(&pipeline.sql(true), &[]).says(1, &expected)?;
    eagre(&["checkpoint", "inspect", "--state", &pipeline.path("state")]).says(1, &expected)
}

fn missing_checkpoint_file() -> Result<(), String> {
    let pipeline = Pipeline::new();
    pipeline.interrupted()?;
    for file in objects(&pipeline, "state")? {
        std::fs::remove_file(file).map_err(|error| error.to_string())?;
    }
    pipeline
        .run(&pipeline.sql(true), &[])
        .says(1, &["checkpoint: state file `state/", "it is missing", "checkpoint drop", "--fresh"])
}

fn damaged_manifest() -> Result<(), String> {
    let pipeline = Pipeline::new();
    pipeline.interrupted()?;
    let manifests = objects(&pipeline, "manifest")?;
    let newest = manifests.last().expect("not empty");
    let text = std::fs::read_to_string(newest).map_err(|error| error.to_string())?;
    std::fs::write(newest, &text[..text.len() / 2]).map_err(|error| error.to_string())?;
    pipeline
        .run(&pipeline.sql(true), &[])
        .says(1, &["checkpoint: `manifest/", "the manifest is damaged", "eagre checkpoint drop --state"])?;
    // The way out is one.
    let number =
        newest.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()).expect("a manifest has a number");
    let dropped = eagre(&["checkpoint", "drop", "--state", &pipeline.path("state"), &number.to_string()]);
    if manifests.len() < 2 {
        return dropped.says(1, &["is the only one", "--fresh"]);
    }
    dropped.ok()?;
    let running = Running::start(&["run", "-e", &pipeline.sql(true), "--state", &pipeline.path("state")]);
    wait_for("a new checkpoint", || objects(&pipeline, "manifest").is_ok_and(|now| now.len() >= manifests.len()))?;
    running.interrupt();
    running.end().ok().map(|_| ())
}

fn newer_format() -> Result<(), String> {
    let pipeline = Pipeline::new();
    pipeline.interrupted()?;
    let manifests = objects(&pipeline, "manifest")?;
    let newest = manifests.last().expect("not empty");
    let text = std::fs::read_to_string(newest).map_err(|error| error.to_string())?;
    let mut manifest: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    manifest["format_version"] = 4_711.into();
    std::fs::write(newest, manifest.to_string()).map_err(|error| error.to_string())?;
    let expected =
        ["it was written with format version 4711", "use the version that wrote it, or start over with --fresh"];
    pipeline.run(&pipeline.sql(true), &[]).says(1, &expected)
}

fn another_query() -> Result<(), String> {
    let pipeline = Pipeline::new();
    pipeline.interrupted()?;
    let other = pipeline.sql(true).replace("'10' SECOND", "'20' SECOND");
    pipeline
        .run(&other, &[])
        .says(1, &["is of another query", "give this query its own --state, or start over with --fresh"])
}

fn state_of_nothing() -> Result<(), String> {
    for command in ["list", "inspect"] {
        eagre(&["checkpoint", command, "--state", "/nowhere/state"])
            .says(1, &["there are no checkpoints in `/nowhere/state`", "eagre run --state"])?;
    }
    if Path::new("/nowhere").exists() {
        return Err("looking for checkpoints made a folder".to_owned());
    }
    eagre(&["replay", "--state", "/nowhere/state"]).says(1, &["there are no checkpoints in `/nowhere/state`"])
}

fn replay_out_of_range() -> Result<(), String> {
    let pipeline = Pipeline::new();
    pipeline.run(&pipeline.sql(false), &[]).ok()?;
    eagre(&["replay", "--state", &pipeline.path("state"), "--from-step", "1000"])
        .says(1, &["steps 1000 to ", "cannot be shown", "ends with step"])
}

/// A file that was read is another one now: what was counted cannot be right any more.
fn changed_input() -> Result<(), String> {
    let pipeline = Pipeline::new();
    pipeline.interrupted()?;
    let input = pipeline.folder.path().join("in/events.json");
    std::fs::write(&input, "{\"ts\": \"2026-01-01 00:00:01\", \"k\": \"z\", \"v\": 1}\n")
        .map_err(|error| error.to_string())?;
    pipeline.run(&(pipeline.tables(false) + INSERT), &[]).says(1, &["events.json", "table `events`"])
}
