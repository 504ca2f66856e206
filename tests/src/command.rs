//! The command from outside: what it prints, what it exits with, what it leaves on disk.

use std::io::Write as _;
use std::process::Stdio;

use libtest_mimic::Trial;

use crate::harness::folder;
use crate::process::{INSERT, Pipeline, Running, command, eagre, ended, visible_files, visible_lines, wait_for};

const OUT_LINES: &[&str] = &[
    r#"{"window_start":"2026-01-01T00:00:00","k":"a","n":1,"total":1}"#,
    r#"{"window_start":"2026-01-01T00:00:00","k":"b","n":1,"total":2}"#,
    r#"{"window_start":"2026-01-01T00:00:10","k":"a","n":2,"total":3}"#,
    r#"{"window_start":"2026-01-01T00:00:20","k":"c","n":1,"total":5}"#,
];

/// Lines of JSON as values, so that the spelling of a time does not matter here.
fn parsed(lines: &[impl AsRef<str>]) -> Result<Vec<String>, String> {
    let one = |line: &str| -> Result<String, String> {
        let value: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        Ok(value.to_string().replace(".000", "").replace("00Z\"", "00\"").replace("-01 00", "-01T00"))
    };
    let mut lines = lines.iter().map(|line| one(line.as_ref())).collect::<Result<Vec<_>, _>>()?;
    lines.sort();
    Ok(lines)
}

fn same(what: &str, expected: &[String], got: &[String]) -> Result<(), String> {
    match expected == got {
        true => Ok(()),
        false => Err(format!("{what}: expected\n{}\ngot\n{}", expected.join("\n"), got.join("\n"))),
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("command::{name}"), move || Ok(test()?));
    vec![
        trial("a_bounded_pipeline_ends_by_itself", bounded),
        trial("ctrl_c_writes_a_checkpoint_and_exits_0", ctrl_c),
        trial("an_interrupted_pipeline_goes_on", goes_on),
        trial("a_finished_pipeline_says_so_and_fresh_starts_over", complete),
        trial("a_pipeline_killed_between_its_last_checkpoint_and_its_files_publishes_them", killed_at_the_end),
        trial("replay_gives_the_same_rows_bit_for_bit", replay),
        trial("replay_orders_and_cuts_results_as_the_run_did", replay_ordered),
        trial("checkpoints_are_listed_inspected_and_dropped", checkpoints),
        trial("results_have_every_column_in_order_in_all_formats", formats),
        trial("an_unbounded_select_shows_changes_with_op", changes),
        trial("check_plans_and_runs_nothing", check),
        trial("views_of_a_file_are_read_at_the_end", views_at_the_end),
        trial("a_subscription_in_a_file_shows_changes_with_op", view_changes),
        trial("a_file_of_statements_and_standard_input_are_read", files),
        trial("settings_come_from_file_environment_and_line", settings),
        trial("metrics_are_written_for_prometheus", metrics),
        trial("explain_shows_shuffles_and_state", explain),
        trial("explain_analyze_counts", analyze),
        trial("the_demo_shows_real_data", demo),
        trial("lost_rows_are_told", losses),
        trial("late_rows_are_told_once_and_by_which_input", late_rows),
        trial("nexmark_is_the_same_on_any_number_of_shards", nexmark),
        trial("generated_rows_are_the_same_after_a_restart", datagen),
    ]
}

fn bounded() -> Result<(), String> {
    let pipeline = Pipeline::new();
    eagre(&["run", "-e", &pipeline.sql(false)]).ok()?;
    same("the output", &parsed(OUT_LINES)?, &parsed(&visible_lines(&pipeline.folder.path().join("out")))?)
}

fn ctrl_c() -> Result<(), String> {
    let pipeline = Pipeline::new();
    pipeline.interrupted()?;
    let list = eagre(&["checkpoint", "list", "--state", &pipeline.path("state")]).ok()?;
    match list.stdout.lines().last() {
        Some(last) if last.ends_with(" no") => {}
        _ => {
            return Err(format!("the last checkpoint is not an unfinished one:\n{}", list.stdout));
        }
    }
    // The last window is open: its rows are in the state and not in the output.
    same("the output", &parsed(&OUT_LINES[..3])?, &parsed(&visible_lines(&pipeline.folder.path().join("out")))?)
}

fn goes_on() -> Result<(), String> {
    let pipeline = Pipeline::new();
    pipeline.interrupted()?;
    let input = pipeline.folder.path().join("in/later.json");
    std::fs::write(input, "{\"ts\": \"2026-01-01 00:00:26\", \"k\": \"c\", \"v\": 7}\n{\"ts\": \"2026-01-01 00:01:00\", \"k\": \"a\", \"v\": 1}\n")
        .map_err(|error| error.to_string())?;
    let running =
        Running::start(&["run", "-e", &pipeline.sql(true), "--state", &pipeline.path("state"), "--shards", "3"]);
    wait_for("the window that was open", || visible_lines(&pipeline.folder.path().join("out")).len() >= 4)?;
    running.interrupt();
    running.end().ok()?;
    let mut expected: Vec<&str> = OUT_LINES[..3].to_vec();
    expected.push(r#"{"window_start":"2026-01-01T00:00:20","k":"c","n":2,"total":12}"#);
    same("the output", &parsed(&expected)?, &parsed(&visible_lines(&pipeline.folder.path().join("out")))?)
}

fn complete() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = pipeline.sql(false);
    pipeline.run(&sql, &[]).ok()?;
    let before = visible_files(&pipeline.folder.path().join("out"));
    let again = pipeline.run(&sql, &[]).ok()?;
    again.says(0, &["this pipeline is complete", "--fresh"])?;
    if visible_files(&pipeline.folder.path().join("out")) != before {
        return Err("the second run wrote files".to_owned());
    }
    std::fs::remove_dir_all(pipeline.folder.path().join("out")).map_err(|error| error.to_string())?;
    let fresh = pipeline.run(&sql, &["--fresh"]).ok()?;
    if fresh.stderr.contains("complete") {
        return Err(format!("--fresh did not start over: {}", fresh.stderr));
    }
    same("the output", &parsed(OUT_LINES)?, &parsed(&visible_lines(&pipeline.folder.path().join("out")))?)
}

fn replay() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = format!("SET 'eagre.step.rows_max' = '2'; SET 'eagre.checkpoint.steps' = '2';\n{}", pipeline.sql(false));
    pipeline.run(&sql, &["--shards", "2"]).ok()?;
    let state = pipeline.path("state");
    let args = ["replay", "--state", &state];
    let first = eagre(&args).ok()?.stdout;
    let second = eagre(&args).ok()?.stdout;
    if first != second {
        return Err(format!("two replays differ:\n{first}\n{second}"));
    }
    let rows = |text: &str| -> Result<Vec<String>, String> {
        let row = |line: &str| -> Result<String, String> {
            let line: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
            match line["op"] == "+I" && line["table"] == "out" {
                true => Ok(line["row"].to_string()),
                false => Err(format!("not an insert into `out`: {line}")),
            }
        };
        parsed(&text.lines().map(row).collect::<Result<Vec<_>, _>>()?)
    };
    same("the replay", &parsed(OUT_LINES)?, &rows(&first)?)?;
    // A part of the steps is a part of the rows.
    let steps: Vec<u64> = first
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64())
        .collect();
    let last = steps.iter().max().copied().unwrap_or(0);
    let from = last.to_string();
    let tail = eagre(&["replay", "--state", &state, "--from-step", &from]).ok()?.stdout;
    let expected: String = first
        .lines()
        .filter(|line| line.contains(&format!("\"step\":{last},")))
        .map(|line| format!("{line}\n"))
        .collect();
    if tail != expected {
        return Err(format!("--from-step {from}: expected\n{expected}got\n{tail}"));
    }
    let until = (last - 1).to_string();
    let head = eagre(&["replay", "--state", &state, "--until-step", &until]).ok()?.stdout;
    match head + &tail == first {
        true => Ok(()),
        false => Err(format!("--until-step {until} and --from-step {from} are not the whole")),
    }
}

fn checkpoints() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = format!("SET 'eagre.step.rows_max' = '1'; SET 'eagre.checkpoint.steps' = '1';\n{}", pipeline.sql(false));
    pipeline.run(&sql, &[]).ok()?;
    let state = pipeline.path("state");
    let list = eagre(&["checkpoint", "list", "--state", &state]).ok()?;
    let lines: Vec<&str> = list.stdout.lines().collect();
    // A title and the last three, which are kept.
    let finished = lines.last().is_some_and(|line| line.ends_with(" yes"));
    if lines.len() > 4 || lines.len() < 3 || !lines[0].contains("checkpoint") || !finished {
        return Err(format!("checkpoint list:\n{}", list.stdout));
    }
    let inspected = eagre(&["checkpoint", "inspect", "--state", &state]).ok()?;
    for text in ["finished", "source events", "operator ", "sink "] {
        if !inspected.stdout.contains(text) {
            return Err(format!("checkpoint inspect has no `{text}`:\n{}", inspected.stdout));
        }
    }
    let oldest = lines[1].split_whitespace().next().expect("a number");
    eagre(&["checkpoint", "drop", "--state", &state, oldest]).ok()?;
    let after = eagre(&["checkpoint", "list", "--state", &state]).ok()?;
    if after.stdout.lines().count() != lines.len() - 1 || !after.stdout.lines().any(|line| line.ends_with(" yes")) {
        return Err(format!("after the drop of {oldest}:\n{}", after.stdout));
    }
    eagre(&["checkpoint", "drop", "--state", &state, oldest])
        .says(1, &["there is no checkpoint", "checkpoint list"])?;
    // What is left still says that the pipeline is complete, and its output is as it was.
    pipeline.run(&sql, &[]).ok()?;
    same("the output", &parsed(OUT_LINES)?, &parsed(&visible_lines(&pipeline.folder.path().join("out")))?)
}

fn formats() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = format!("{}SELECT v, k, ts FROM events ORDER BY ts", pipeline.tables(false));
    let run = |format: &str| eagre(&["run", "-e", &sql, "--format", format]).ok();
    let lines: Vec<serde_json::Value> = run("ndjson")?
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    let keys: Vec<&String> = lines[3].as_object().into_iter().flat_map(|object| object.keys()).collect();
    if lines.len() != 5 || keys != ["v", "k", "ts"] || !lines[3]["v"].is_null() || lines[4]["v"] != 5 {
        return Err(format!("ndjson: {lines:?}"));
    }
    let csv = run("csv")?.stdout;
    let csv: Vec<&str> = csv.lines().collect();
    if csv.len() != 6 || csv[0] != "v,k,ts" || !csv[1].starts_with("1,a,2026-01-01") || !csv[4].starts_with(",a,") {
        return Err(format!("csv: {csv:?}"));
    }
    let table = run("table")?.stdout;
    if !table.contains("| v    | k | ts ") || !table.contains("| NULL | a |") {
        return Err(format!("table:\n{table}"));
    }
    let output = command(&["run", "-e", &sql, "--format", "arrow"]).output().map_err(|error| error.to_string())?;
    let reader = arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(output.stdout), None)
        .map_err(|error| error.to_string())?;
    let rows: usize = reader.map(|batch| batch.map_or(0, |batch| batch.num_rows())).sum();
    if rows != 5 {
        return Err(format!("arrow: {rows} rows"));
    }
    // An empty result still has its header.
    let empty = format!("{}SELECT k, v FROM events WHERE v > 100", pipeline.tables(false));
    let csv = eagre(&["run", "-e", &empty, "--format", "csv"]).ok()?.stdout;
    match csv.as_str() {
        "k,v\n" => Ok(()),
        _ => Err(format!("an empty result as csv: {csv:?}")),
    }
}

fn changes() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = format!(
        "SET 'eagre.step.rows_max' = '1';{}SELECT k, COUNT(*) AS n FROM events GROUP BY k",
        pipeline.tables(true)
    );
    let mut running = Running::start(&["run", "-e", &sql, "--format", "ndjson"]);
    let stdout = running.0.stdout.take().ok_or("no standard output")?;
    let mut lines = Vec::new();
    for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)).take(7) {
        let line: serde_json::Value =
            serde_json::from_str(&line.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        lines.push(format!(
            "{} {} {}",
            line["op"].as_str().unwrap_or("?"),
            line["k"].as_str().unwrap_or("?"),
            line["n"]
        ));
    }
    running.interrupt();
    running.end().ok()?;
    let expected = ["+I a 1", "+I b 1", "-U a 1", "+U a 2", "-U a 2", "+U a 3", "+I c 1"];
    match lines == expected {
        true => Ok(()),
        false => Err(format!("expected {expected:?}, got {lines:?}")),
    }
}

/// The checkpoint that says that all is done is there before the files are; and before anybody has read the answers.
fn killed_at_the_end() -> Result<(), String> {
    let views = "CREATE MATERIALIZED VIEW sums AS SELECT k, SUM(v) AS s FROM events GROUP BY k;\n";
    for views in ["", views] {
        let pipeline = Pipeline::new();
        // One checkpoint, the last one, which names all files.
        let tables = pipeline.tables(false).replace("'20 ms'", "'1 h'");
        let sql = format!("{tables}{views}{INSERT};\nSELECT k, v FROM events WHERE v > 2");
        let first = pipeline.run(&sql, &["--format", "ndjson"]).ok()?;
        let out = pipeline.folder.path().join("out");
        let published = visible_files(&out);
        // As they were before they were published.
        for file in &published {
            let name = file.file_name().and_then(|name| name.to_str()).ok_or("a part without a name")?;
            let writer = name.strip_prefix("part-").and_then(|name| name.rsplit_once('-')).ok_or("another name")?.0;
            let staging = out.join(format!(".eagre-staging-{writer}"));
            std::fs::create_dir_all(&staging).map_err(|error| error.to_string())?;
            std::fs::rename(file, staging.join(name)).map_err(|error| error.to_string())?;
        }
        if !visible_files(&out).is_empty() || published.is_empty() {
            return Err(format!("{published:?} were not taken back"));
        }
        let again = pipeline.run(&sql, &["--format", "ndjson"]).ok()?;
        again.says(0, &["this pipeline is complete"])?;
        same("the output", &parsed(OUT_LINES)?, &parsed(&visible_lines(&out))?)?;
        if again.stdout != first.stdout || first.stdout.lines().count() != 2 {
            return Err(format!("the answer was {:?} and is {:?}", first.stdout, again.stdout));
        }
        // Whoever takes files away has them.
        std::fs::remove_dir_all(&out).map_err(|error| error.to_string())?;
        let later = pipeline.run(&sql, &["--format", "ndjson"]).ok()?;
        later.says(0, &["this pipeline is complete"])?;
        if later.stdout != first.stdout || !visible_files(&out).is_empty() {
            return Err(format!("the answer was {:?} and is {:?}", first.stdout, later.stdout));
        }
    }
    Ok(())
}

/// The answers come in the order of the text, also after a restart that has nothing left to read.
fn views_at_the_end() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let views = pipeline.tables(false)
        + "CREATE MATERIALIZED VIEW totals AS SELECT k, COUNT(*) AS n, SUM(v) AS total FROM events GROUP BY k;\n";
    let refused = pipeline.run(&(views.clone() + "INSERT INTO out SELECT NULL, k, n, total FROM totals"), &[]);
    refused.says(1, &["`out`", "takes appended rows only"])?;
    let sql = views
        + "INSERT INTO out SELECT ts, k, v, v FROM events WHERE v > 2;
           SELECT k, n FROM totals ORDER BY n DESC, k LIMIT 2;
           SELECT COUNT(*) AS n FROM events;
           SELECT SUM(n) AS n FROM totals";
    let expected = "{\"k\":\"a\",\"n\":3}\n{\"k\":\"b\",\"n\":1}\n{\"n\":5}\n{\"n\":5}\n";
    let first = pipeline.run(&sql, &["--format", "ndjson"]).ok()?;
    if first.stdout != expected {
        return Err(format!("{}, not {expected}", first.stdout));
    }
    if visible_lines(&pipeline.folder.path().join("out")).len() != 2 {
        return Err(format!("{:?}", visible_lines(&pipeline.folder.path().join("out"))));
    }
    let again = pipeline.run(&sql, &["--format", "ndjson"]).ok()?;
    again.says(0, &["this pipeline is complete"])?;
    match again.stdout == expected {
        true => Ok(()),
        false => Err(format!("after a restart {}, not {expected}", again.stdout)),
    }
}

fn view_changes() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let views = format!(
        "SET 'eagre.step.rows_max' = '1'; SET 'eagre.shards' = '1';
         {}CREATE MATERIALIZED VIEW counts AS SELECT k, COUNT(*) AS n FROM events GROUP BY k;",
        pipeline.tables(true)
    );
    let endless = eagre(&["run", "-e", &format!("{views} SELECT * FROM counts")]);
    endless.says(1, &["is answered at the end of the input", "`SUBSCRIBE TO` a view"])?;
    let mut running = Running::start(&["run", "-e", &format!("{views} SUBSCRIBE TO counts"), "--format", "ndjson"]);
    let stdout = running.0.stdout.take().ok_or("no standard output")?;
    let mut counts = std::collections::BTreeMap::new();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    // However much was there when the subscription began, its rows and changes add up.
    while counts.values().sum::<i64>() < 5 {
        let line = lines.next().ok_or("the output has ended")?.map_err(|error| error.to_string())?;
        let line: serde_json::Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let (op, k, n) = (line["op"].as_str().unwrap_or("?"), line["k"].to_string(), line["n"].as_i64().unwrap_or(0));
        match op {
            "+I" | "+U" => counts.insert(k, n),
            _ => counts.remove(&k),
        };
    }
    running.interrupt();
    running.end().ok()?;
    let expected = [("\"a\"", 3), ("\"b\"", 1), ("\"c\"", 1)].map(|(k, n)| (k.to_owned(), n));
    match counts.iter().map(|(k, n)| (k.clone(), *n)).eq(expected) {
        true => Ok(()),
        false => Err(format!("{counts:?}")),
    }
}

fn check() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let checked = eagre(&["check", "-e", &pipeline.sql(false)]).ok()?;
    if checked.stdout.trim() != "ok" || pipeline.folder.path().join("out").exists() {
        return Err(format!("check printed {:?}, or wrote", checked.stdout));
    }
    let wrong = pipeline.tables(false) + "SELECT kk FROM events";
    eagre(&["check", "-e", &wrong]).says(1, &["column `kk` is not known; did you mean `k`?"])
}

fn files() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = pipeline.tables(false) + "-- the answer\nSELECT COUNT(*) AS n FROM events;\n";
    let file = pipeline.path("job.sql");
    std::fs::write(&file, &sql).map_err(|error| error.to_string())?;
    let from_file = eagre(&["run", &file, "--format", "csv"]).ok()?.stdout;
    let mut child = command(&["run", "-", "--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    child.stdin.take().ok_or("no standard input")?.write_all(sql.as_bytes()).map_err(|error| error.to_string())?;
    let from_stdin = child.wait_with_output().map_err(|error| error.to_string())?.stdout;
    if from_file != "n\n5\n" || from_stdin != from_file.as_bytes() {
        return Err(format!("{from_file:?}, {:?}", String::from_utf8_lossy(&from_stdin)));
    }
    // Also on the command line a text may begin with a comment; an option is none.
    let from_line = eagre(&["run", "--format", "csv", "-e", &format!("-- all of it\n{sql}")]).ok()?.stdout;
    eagre(&["run", "-e", "--fresh"]).says(2, &["this is an option", "'--execute <SQL>'"])?;
    match from_line == from_file {
        true => Ok(()),
        false => Err(format!("{from_line:?} by -e")),
    }
}

fn settings() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let file = pipeline.path("eagre.toml");
    std::fs::write(&file, "[step]\nrows_max = 11\nin_flight = 2\n[checkpoint]\nretain = 9\n")
        .map_err(|error| error.to_string())?;
    let sql = "SET 'eagre.step.in_flight' = '3'; SHOW eagre.step.rows_max; SHOW eagre.step.in_flight; SHOW eagre.checkpoint.retain; \
               SHOW eagre.seed";
    let args = ["run", "-e", sql, "--format", "csv", "--config", &file, "--set", "eagre.checkpoint.retain=4"];
    let shown = ended(command(&args).env("EAGRE_STEP_ROWS_MAX", "12").env("EAGRE_SEED", "5")).ok()?.stdout;
    // The text goes before the line, the line before the environment, that before the file.
    for line in ["eagre.step.rows_max,12", "eagre.step.in_flight,3", "eagre.checkpoint.retain,4", "eagre.seed,5"] {
        if !shown.contains(line) {
            return Err(format!("no `{line}` in\n{shown}"));
        }
    }
    Ok(())
}

fn metrics() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let file = pipeline.path("metrics.prom");
    eagre(&["run", "-e", &pipeline.sql(false), "--metrics", &file]).ok()?;
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let counted = text.lines().any(|line| line.starts_with("eagre_rows_read") && line.ends_with(" 5"));
    let typed = text.lines().any(|line| line.starts_with("# TYPE eagre_"));
    match counted && typed {
        true => {}
        false => return Err(format!("no count of 5 rows read:\n{text}")),
    }
    // Told before anything runs: this input has no end.
    eagre(&["run", "-e", &pipeline.sql(true), "--metrics", "/no/such/folder/m"]).says(1, &["/no/such/folder/m"])
}

fn explain() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = format!("{}EXPLAIN {INSERT}", pipeline.tables(false));
    let plan = eagre(&["run", "-e", &sql]).ok()?.stdout;
    for text in ["events", "exchange hash(k)", "window", "watermark", "state", "out"] {
        if !plan.to_lowercase().contains(text) {
            return Err(format!("the plan does not speak of `{text}`:\n{plan}"));
        }
    }
    Ok(())
}

fn analyze() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = format!("{}EXPLAIN ANALYZE {INSERT}", pipeline.tables(false));
    let plan = eagre(&["run", "-e", &sql]).ok()?.stdout;
    if !plan.contains("5 rows read") || pipeline.folder.path().join("out").exists() {
        return Err(format!("5 rows should be read and none written:\n{plan}"));
    }
    let endless = format!("{}EXPLAIN ANALYZE {INSERT}", pipeline.tables(true));
    eagre(&["run", "-e", &endless]).says(1, &["without an end", "EXPLAIN ANALYZE FOR INTERVAL"])
}

fn demo() -> Result<(), String> {
    let shown = eagre(&["demo", "--shards", "2"]).ok()?.stdout;
    let real = shown.contains("nyc_taxi") && shown.contains(" *\n") && shown.contains("degrees");
    // All planted ones are found, and nothing else.
    let counts =
        shown.split_once("tried small amounts before large ones, the pattern finds ").and_then(|(before, after)| {
            let planted = before.rsplit("Of ").next()?.split(' ').next()?;
            Some((planted.parse::<u64>().ok()?, after.split(',').next()?.parse::<u64>().ok()?))
        });
    let found = matches!(counts, Some((planted, found)) if planted > 20 && found == planted)
        && shown.contains("with 0 false alarms");
    // The rows of a match: at least three small ones, then large ones.
    let steps: Vec<&str> = shown.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let rows = steps.windows(4).any(|steps| steps == ["PROBE", "PROBE", "PROBE", "LARGE"]);
    // Alarms of a pattern, and of one over a score.
    let live = |rule: &str, why: &str| shown.lines().filter(|line| line.contains(rule) && line.contains(why)).count();
    let live = live(" tested ", "pattern") > 2
        && live(" travelled ", "pattern") > 2
        && live(" rushed ", " score: one in ") > 4;
    if !(real && found && rows && live) {
        return Err(shown);
    }
    // The README shows a part of it.
    let readme = std::fs::read_to_string(folder("../README.md")).map_err(|error| error.to_string())?;
    let pattern = readme.split("\n## ").find(|section| section.starts_with("A pattern")).ok_or("no section")?;
    let blocks: Vec<&str> = pattern.split("```").skip(1).step_by(2).collect();
    match blocks
        .iter()
        .map(|block| block.split_once('\n').map_or("", |(_, text)| text))
        .find(|text| !shown.contains(text))
    {
        None if blocks.len() == 2 => Ok(()),
        other => Err(format!("the README shows\n{}\nand the demo\n{shown}", other.unwrap_or("something else"))),
    }
}

fn losses() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let broken = "{\"ts\": \"2026-01-01 00:00:50\", \"k\": \"a\", \"v\": 1}\n{\"ts\": \n{\"ts\": \"2026-01-01 00:00:01\", \"k\": \"late\", \"v\": 1}\n";
    std::fs::write(pipeline.folder.path().join("in/events.json"), broken).map_err(|error| error.to_string())?;
    let sql = format!("SET 'eagre.step.rows_max' = '1';{}", pipeline.sql(false));
    eagre(&["run", "-e", &sql])
        .ok()?
        .says(0, &["1 rows of `events` could not be read", "events.errors", "1 rows came too late", "events.late"])?;
    // And both can be queried in the same run.
    let sql = format!(
        "SET 'eagre.step.rows_max' = '1';{}{INSERT}; SELECT COUNT(*) AS broken FROM events.errors; SELECT COUNT(*) AS late FROM events.late",
        pipeline.tables(false)
    );
    let shown = eagre(&["run", "-e", &sql, "--format", "csv"]).ok()?.stdout;
    match shown.as_str() {
        "broken\n1\nlate\n1\n" => Ok(()),
        _ => Err(format!("counts of broken and late rows: {shown:?}")),
    }
}

/// Late rows of two inputs say by which one they came; a row that grouping sets repeat is told once, as it came.
fn late_rows() -> Result<(), String> {
    // Both inputs are of one table: how two come to stand beside each other is nobody's promise.
    let rows = [(10, 1, 1), (10, 2, 1), (20, 1, 2), (20, 2, 2), (1, 1, 3), (2, 2, 3), (30, 1, 4), (30, 2, 4)];
    let rows =
        rows.map(|(second, side, k)| format!("(TIMESTAMP '2026-01-01 00:00:{second:02}', {side}, {k})")).join(", ");
    let sql = format!(
        "SET 'eagre.step.rows_max' = '1';
        CREATE TABLE both (ts TIMESTAMP(3), side INT, k INT, WATERMARK FOR ts AS ts); INSERT INTO both VALUES {rows};
        CREATE VIEW one AS SELECT ts, k FROM both WHERE side = 1; CREATE VIEW two AS SELECT ts AS at, k AS x FROM both WHERE side = 2;
        SELECT COUNT(*) FROM one JOIN two ON ts BETWEEN at - INTERVAL '1' SECOND AND at;
        SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE one, DESCRIPTOR(ts), INTERVAL '5' SECOND))
        GROUP BY GROUPING SETS ((window_start, window_end, k), (window_start, window_end));
        SELECT operator, \"row\" FROM both.late ORDER BY operator, \"row\""
    );
    let shown = eagre(&["run", "-e", &sql, "--format", "csv"]).ok()?.stdout;
    let late: Vec<&str> = shown.lines().skip_while(|line| *line != "operator,row").skip(1).collect();
    let expected = [
        r#""Join, left input","{""ts"":""2026-01-01T00:00:01""}""#,
        r#""Join, right input","{""ts"":""2026-01-01T00:00:02""}""#,
        r#"PartialAggregate,"{""ts"":""2026-01-01T00:00:01"",""side"":1,""k"":3}""#,
    ];
    match late == expected {
        true => Ok(()),
        false => Err(format!("late rows:\n{shown}")),
    }
}

/// A result with an order or a limit is shown whole, once all of its rows are there.
fn replay_ordered() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let state = folder.path().join("state").display().to_string();
    let input = folder.path().join("in.json");
    let lines: String = [5, 3, 9, 1, 7, 4].map(|v| format!("{{\"v\":{v}}}\n")).concat();
    std::fs::write(&input, lines).map_err(|error| error.to_string())?;
    let sql = format!(
        "SET 'eagre.step.rows_max' = '1'; SET 'eagre.checkpoint.steps' = '2';
        CREATE TABLE t (v INT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
        SELECT v * 10 AS x FROM t ORDER BY v DESC LIMIT 3 OFFSET 1;",
        input.display()
    );
    let run = eagre(&["run", "--state", &state, "-e", &sql, "--format", "ndjson"]).ok()?.stdout;
    if run != "{\"x\":70}\n{\"x\":50}\n{\"x\":40}\n" {
        return Err(format!("the run shows\n{run}"));
    }
    for args in [&["replay", "--state", &state][..], &["replay", "--state", &state, "--from-step", "3"]] {
        let replayed = eagre(args).ok()?.stdout;
        let rows: Vec<&str> =
            replayed.lines().filter_map(|line| line.split_once("\"row\":")).map(|(_, row)| row).collect();
        if rows != ["{\"x\":70}}", "{\"x\":50}}", "{\"x\":40}}"] {
            return Err(format!("{args:?} shows\n{replayed}"));
        }
    }
    Ok(())
}

fn nexmark() -> Result<(), String> {
    let sql = "CREATE TABLE bid WITH ('connector' = 'nexmark', 'number-of-rows' = '20000');
               SELECT auction % 10 AS a, COUNT(*) AS n, SUM(price) AS total, MAX(channel) AS c FROM bid GROUP BY auction % 10 ORDER BY a";
    let one = eagre(&["run", "-e", sql, "--format", "csv", "--shards", "1"]).ok()?.stdout;
    let three = eagre(&["run", "-e", sql, "--format", "csv", "--shards", "3"]).ok()?.stdout;
    match one == three && one.lines().count() == 11 {
        true => Ok(()),
        false => Err(format!("one shard:\n{one}three:\n{three}")),
    }
}

fn datagen() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = |folder: &str| {
        format!(
            "SET 'eagre.checkpoint.interval' = '20 ms';
             CREATE TABLE gen (n BIGINT, x INT) WITH ('connector' = 'datagen', 'rows-per-second' = '20000', 'fields.n.kind' = 'sequence',
               'fields.n.start' = '1', 'fields.n.end' = '10000', 'fields.x.min' = '0', 'fields.x.max' = '99');
             CREATE TABLE out (n BIGINT, x INT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
             INSERT INTO out SELECT n, x FROM gen",
            pipeline.path(folder)
        )
    };
    let calm = eagre(&["run", "-e", &sql("calm")]);
    calm.ok()?;
    let text = sql("out");
    let state = pipeline.path("state");
    let running = Running::start(&["run", "-e", &text, "--state", &state]);
    wait_for("the first part", || !visible_files(&pipeline.folder.path().join("out")).is_empty())?;
    drop(running);
    pipeline.run(&text, &[]).ok()?;
    let rows = |folder: &str| -> Vec<String> {
        visible_lines(&pipeline.folder.path().join(folder)).into_iter().filter(|line| line != "n,x").collect()
    };
    let (calm, killed) = (rows("calm"), rows("out"));
    match calm.len() == 10_000 && calm == killed {
        true => Ok(()),
        false => Err(format!("{} rows undisturbed, {} after kill -9", calm.len(), killed.len())),
    }
}
