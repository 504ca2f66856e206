//! The state folder: what is in it, whose it is, and going on from it.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use libtest_mimic::Trial;

use crate::process::{Ended, INSERT, Pipeline, Running, command, eagre, visible_files, visible_lines, wait_for};

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn() -> Result<(), String>| {
        Trial::test(format!("state_folder::{name}"), move || Ok(test()?))
    };
    vec![
        trial("fresh_removes_only_what_eagre_wrote", fresh),
        trial("a_dropped_checkpoint_doubles_no_row", dropped),
        trial("a_finished_pipeline_is_not_complete_for_another_query", finished),
        trial("other_options_of_a_generator_are_another_input", generator),
        trial("ctrl_c_before_the_end_is_told", partial),
        trial("a_closed_pipe_is_no_panic", closed_pipe),
        trial("views_go_on_and_are_changed_from_the_command_line", resumed),
        trial("patterns_go_on_wherever_they_stand_in_the_text", patterns),
        trial("a_file_that_is_being_copied_is_waited_for", copied),
        trial("columns_are_those_that_the_pipeline_began_with", inferred),
        trial("an_interrupt_does_not_wait_for_who_does_not_read", unread),
    ]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn fresh() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = pipeline.sql(false);
    pipeline.run(&sql, &[]).ok()?;
    let foreign = ["notes.txt", "in/ours.json", "log/today.txt", "state/ohio.csv"];
    for name in foreign {
        let path = pipeline.folder.path().join("state").join(name);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).map_err(text)?;
        std::fs::write(path, "x").map_err(text)?;
    }
    let again = pipeline.run(&sql, &["--fresh"]).ok()?;
    if again.stderr.contains("complete") {
        return Err(format!("--fresh did not start over: {}", again.stderr));
    }
    match foreign.iter().find(|name| !pipeline.folder.path().join("state").join(name).exists()) {
        Some(name) => Err(format!("--fresh removed `{name}`")),
        None => Ok(()),
    }
}

/// Lines of numbers, each a row and a step of its own.
fn numbers(pipeline: &Pipeline, partitioned: &str) -> String {
    format!(
        "SET 'eagre.step.rows_max' = '1'; SET 'eagre.checkpoint.steps' = '1'; SET 'eagre.checkpoint.retain' = '5';
         CREATE TABLE gen (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'fields.n.kind' = 'sequence',
           'fields.n.start' = '1', 'fields.n.end' = '40');
         CREATE TABLE out (n BIGINT, k BIGINT) {partitioned} WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.header' = 'false');
         INSERT INTO out SELECT n, n % 3 FROM gen",
        pipeline.path("out")
    )
}

fn dropped() -> Result<(), String> {
    for (partitioned, damaged) in [("", false), ("PARTITIONED BY (k)", true)] {
        let pipeline = Pipeline::new();
        let (sql, state) = (numbers(&pipeline, partitioned), pipeline.path("state"));
        pipeline.run(&sql, &[]).ok()?;
        let calm = visible_lines(&pipeline.folder.path().join("out"));
        if calm.len() != 40 {
            return Err(format!("40 rows are expected: {calm:?}"));
        }
        let list = eagre(&["checkpoint", "list", "--state", &state]).ok()?.stdout;
        let mut checkpoints: Vec<&str> =
            list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        if damaged {
            let newest: u64 = checkpoints.last().and_then(|newest| newest.parse().ok()).ok_or("no checkpoint")?;
            let manifest = Path::new(&state).join(format!("manifest/{newest:020}.json"));
            std::fs::write(manifest, "{").map_err(text)?;
            pipeline.run(&sql, &[]).says(1, &["the manifest is damaged", "checkpoint drop"])?;
        }
        // Whoever runs there needs the files of its checkpoints.
        let runs = std::fs::File::options().write(true).open(Path::new(&state).join("eagre.lock")).map_err(text)?;
        runs.lock().map_err(text)?;
        let newest = checkpoints.last().ok_or("no checkpoint")?;
        eagre(&["checkpoint", "drop", "--state", &state, newest])
            .says(1, &["another process runs on the state folder", "stop it before a checkpoint is dropped"])?;
        drop(runs);
        // All but the oldest: most of what is in the folder was published after it.
        while checkpoints.len() > 1 {
            let newest = checkpoints.pop().expect("there are several");
            eagre(&["checkpoint", "drop", "--state", &state, newest]).ok()?;
        }
        let oldest = checkpoints.pop().ok_or("no checkpoint")?;
        eagre(&["checkpoint", "drop", "--state", &state, oldest])
            .says(1, &[&format!("checkpoint {oldest} is the only one"), "--fresh"])?;
        pipeline.run(&sql, &[]).ok()?;
        let again = visible_lines(&pipeline.folder.path().join("out"));
        if again != calm {
            return Err(format!("{partitioned}: after the drop, instead of each row once:\n{}", again.join(" ")));
        }
    }
    Ok(())
}

fn finished() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = |query: &str| format!("{}{query}", pipeline.tables(false));
    let of_another = |query: &str| {
        pipeline.run(&sql(query), &[]).says(1, &["is of another query", "--fresh"]).map_err(|e| format!("{query}: {e}"))
    };
    pipeline.run(&sql(INSERT), &[]).ok()?;
    pipeline.run(&sql(INSERT), &[]).ok()?.says(0, &["this pipeline is complete"])?;
    of_another("SELECT COUNT(*) FROM events")?;
    of_another(&INSERT.replace("'10' SECOND", "'20' SECOND"))?;
    // The same rows in another format: the folder would hold both.
    let json = format!("{}', 'format' = 'json'", pipeline.path("out"));
    let csv = sql(INSERT).replace(&json, &json.replace("json'", "csv'"));
    pipeline.run(&csv, &[]).says(1, &["sink `out` wrote its files as `json` so far, and 'format' is `csv` now"])?;
    // The same rows to another place.
    let pipeline = Pipeline::new();
    let sql = |table: &str| {
        format!(
            "CREATE TABLE events (k STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
             CREATE TABLE a (k STRING) WITH ('connector' = 'blackhole'); CREATE TABLE b (k STRING) WITH ('connector' = 'blackhole');
             INSERT INTO {table} SELECT k FROM events",
            pipeline.path("in")
        )
    };
    pipeline.run(&sql("a"), &[]).ok()?;
    pipeline.run(&sql("b"), &[]).says(1, &["is of another query: it wrote its rows elsewhere"])
}

fn generator() -> Result<(), String> {
    for (connector, before, after) in [
        ("datagen", "'seed' = '1'", "'seed' = '2'"),
        ("datagen", "'fields.a.min' = '1', 'fields.a.max' = '5'", "'fields.a.min' = '1', 'fields.a.max' = '6'"),
        ("datagen", "'number-of-rows' = '10'", "'number-of-rows' = '11'"),
        ("nexmark", "'table' = 'bid', 'seed' = '1'", "'table' = 'bid', 'seed' = '2'"),
        ("payments", "'seed' = '1'", "'seed' = '2'"),
        ("telemetry", "'seed' = '1'", "'seed' = '2'"),
        ("anomalies", "'seed' = '1'", "'seed' = '2'"),
        ("webshop", "'seed' = '1'", "'seed' = '2'"),
    ] {
        let pipeline = Pipeline::new();
        let sql = |options: &str| {
            let columns = if connector == "datagen" { "(a INT)" } else { "" };
            let rows = if options.contains("number-of-rows") { "" } else { ", 'number-of-rows' = '10'" };
            let table = if connector == "nexmark" { "bid" } else { connector };
            format!(
                "CREATE TABLE {table} {columns} WITH ('connector' = '{connector}', 'rows-per-second' = '100000', {options}{rows});
                 SELECT COUNT(*) FROM {table}"
            )
        };
        let first = pipeline.run(&sql(before), &[]);
        if first.code != Some(0) {
            return Err(format!("{connector}: {}", first.stderr));
        }
        pipeline
            .run(&sql(after), &[])
            .says(1, &["is of another query: it read table `", "in another way"])
            .map_err(|error| format!("{connector} {after}: {error}"))?;
        // How fast rows come is no part of what they are.
        pipeline.run(&sql(before).replace("100000", "200000"), &[]).says(0, &["is complete"])?;
    }
    Ok(())
}

fn partial() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let metrics = pipeline.path("metrics.prom");
    let sql = "CREATE TABLE gen (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'number-of-rows' = '1000000');
               SELECT COUNT(*) AS n FROM gen";
    let state = pipeline.path("state");
    for (more, note) in [(&[][..], "--state DIR"), (&["--state", &state][..], "the same command goes on from here")] {
        let mut args = vec!["run", "-e", sql, "--format", "csv", "--metrics", &metrics];
        args.extend(more);
        let running = Running::start(&args);
        wait_for("the first metrics", || std::fs::metadata(&metrics).is_ok())?;
        running.interrupt();
        let ended = running.end();
        ended.says(130, &["note: stopped before the end of the input", note])?;
        if ended.stdout.lines().count() != 2 {
            return Err(format!("the rows so far are shown: {}", ended.stdout));
        }
        std::fs::remove_file(&metrics).map_err(text)?;
    }
    Ok(())
}

fn closed_pipe() -> Result<(), String> {
    let pipeline = Pipeline::new();
    pipeline.run(&pipeline.sql(false), &[]).ok()?;
    let state = pipeline.path("state");
    let select = format!("{}SELECT * FROM events", pipeline.tables(false));
    let print = format!(
        "{}CREATE TABLE shown (k STRING) WITH ('connector' = 'print'); INSERT INTO shown SELECT k FROM events",
        pipeline.tables(false)
    );
    for args in [
        &["run", "-e", &select][..],
        &["run", "-e", &print],
        &["run", "-e", "SHOW SETTINGS"],
        &["check", "-e", &select],
        &["checkpoint", "list", "--state", &state],
        &["checkpoint", "inspect", "--state", &state],
        &["replay", "--state", &state],
    ] {
        let mut child = command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        drop(child.stdout.take());
        let ended = child.wait_with_output().map_err(|error| error.to_string())?;
        let stderr = String::from_utf8_lossy(&ended.stderr);
        if ended.status.code() != Some(0) || stderr.contains("panicked") || stderr.contains("error") {
            return Err(format!("{args:?}: exit code {:?}\n{stderr}", ended.status.code()));
        }
    }
    Ok(())
}

/// A pager that nobody scrolls, while the results come (`stream`) and when all are there and are being printed.
fn unread() -> Result<(), String> {
    let rows = "CREATE TABLE gen (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100'";
    // The second's input may end before the interrupt, which then ends the printing.
    for (rest, texts) in [
        (
            ");",
            &["ended without", "standard output has not been read for 5 seconds; the same command goes on"]
                as &[&str],
        ),
        (", 'number-of-rows' = '10');", &[]),
    ] {
        let pipeline = Pipeline::new();
        // One row is more than a pipe holds.
        let sql = format!("{rows}{rest} SELECT repeat('x', 1000000 + n % 2) FROM gen");
        let args = ["run", "-e", &sql, "--state", &pipeline.path("state"), "--format", "ndjson"];
        let mut running = Running::start(&args);
        let out = running.0.stdout.as_mut().ok_or("no pipe")?;
        out.read_exact(&mut [0]).map_err(text)?;
        running.interrupt();
        wait_for("the end", || !matches!(running.0.try_wait(), Ok(None)))?;
        running.end().says(130, texts)?;
    }
    Ok(())
}

fn resumed() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let state = pipeline.path("state");
    let views = |more: &str| {
        format!(
            "CREATE TABLE events (k STRING, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
             CREATE MATERIALIZED VIEW sums AS SELECT k, SUM(v) AS s FROM events GROUP BY k;{more}",
            pipeline.path("in")
        )
    };
    let resume = |sql: &str| eagre(&["run", "--resume", "--state", &state, "--format", "csv", "-e", sql]);
    let shows = |ended: Ended, rows: &[&str], notes: &[&str]| {
        let ended = ended.ok()?;
        ended.says(0, notes)?;
        let mut lines: Vec<&str> = ended.stdout.lines().skip(1).collect();
        lines.sort_unstable();
        if lines == rows { Ok(()) } else { Err(format!("{rows:?} are expected: {}", ended.stdout)) }
    };
    resume("SELECT 1").says(1, &["there is nothing to resume"])?;
    pipeline.run(&views(""), &[]).ok()?;
    // Another text is told how to go on, and what is refused leaves the folder what it was.
    pipeline
        .run(&views("CREATE MATERIALIZED VIEW n AS SELECT 1 AS one"), &[])
        .says(1, &["is of another query", "--resume"])?;
    shows(resume("SELECT * FROM sums"), &["a,4", "b,2", "c,5"], &["this pipeline is complete"])?;
    let new = "CREATE MATERIALIZED VIEW big AS SELECT k FROM sums WHERE s > 4; SELECT * FROM big";
    shows(
        resume(new),
        &["c"],
        &["GroupAggregate: keys=[k], aggregates=[sum(v)]: kept", "big, found by (k): rebuilt from the rows of `sums`"],
    )?;
    shows(resume("SELECT * FROM big NATURAL JOIN sums"), &["c,5"], &[])?;
    resume("INSERT INTO nowhere SELECT 1").says(1, &["table `nowhere` is not known"])?;
    // What names mean is kept, also where no view changes.
    shows(
        resume("CREATE VIEW twice AS SELECT k, s * 2 AS d FROM sums; SELECT * FROM twice WHERE d > 5"),
        &["a,8", "c,10"],
        &[],
    )?;
    shows(
        resume("CREATE OR REPLACE VIEW twice AS SELECT k, s * 3 AS d FROM sums; SELECT * FROM twice WHERE d > 13"),
        &["c,15"],
        &[],
    )?;
    shows(resume("SELECT * FROM twice WHERE d > 13"), &["c,15"], &["this pipeline is complete"])?;
    resume("DROP VIEW twice").says(0, &[])?;
    // What is complete is said once more, and was not stopped.
    shows(resume("SUBSCRIBE TO big"), &["+I,c"], &[])?;
    // Where the last view was dropped another one begins.
    resume("DROP MATERIALIZED VIEW sums CASCADE").says(0, &["sums, found by (k): dropped"])?;
    // Of anything else it is not.
    let select = format!("{}SELECT count(*) AS n FROM events", pipeline.tables(false));
    pipeline.run(&select, &[]).says(1, &["is of another query"])?;
    resume("CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM events").says(0, &[])?;
    shows(resume("SELECT * FROM n"), &["5"], &["this pipeline is complete"])?;
    eagre(&["run", "--state", &state]).says(2, &["there are no statements"])
}

/// A change of views writes the text of the state folder anew, without what stood between the statements and the views that are gone: patterns
/// without a name, windows with patterns, and joins that several views read are what they were.
fn patterns() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let (state, path) = (pipeline.path("state"), pipeline.path("prices"));
    std::fs::create_dir(&path).map_err(text)?;
    let rows = (0..6).map(|n| format!("{{\"k\":\"a\",\"at\":\"2026-01-01 00:00:0{n}\",\"v\":{}}}\n", 7 * n % 5));
    std::fs::write(Path::new(&path).join("a.json"), rows.collect::<String>()).map_err(text)?;
    let window = |name: &str, rises: &str| {
        format!(
            "CREATE MATERIALIZED VIEW {name} AS SELECT v, LAST(A.v) OVER w AS top FROM prices
             WINDOW w AS (PARTITION BY k ORDER BY at ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING PATTERN (A+) DEFINE A AS {rises});\n"
        )
    };
    let sql = format!(
        "CREATE TABLE prices (k STRING, at TIMESTAMP(3), v BIGINT, WATERMARK FOR at AS at)
           WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json');
         -- What stands here is not written down.
         CREATE MATERIALIZED VIEW most AS SELECT max(v) AS v FROM prices;
         CREATE MATERIALIZED VIEW falls AS SELECT COUNT(*) AS n, SUM(low) AS low FROM prices
           MATCH_RECOGNIZE (PARTITION BY k ORDER BY at MEASURES LAST(B.v) AS low PATTERN (A B) DEFINE B AS v < PREV(v));
         CREATE VIEW chosen AS SELECT at, v FROM prices WHERE v IN (SELECT v FROM prices WHERE v > 1);
         CREATE MATERIALIZED VIEW plain AS SELECT v FROM chosen;
         CREATE MATERIALIZED VIEW ranks AS SELECT v, ROW_NUMBER() OVER (ORDER BY v) AS n FROM chosen;
         {}{}",
        window("all_rise", "A.v > PREV(A.v) OR PREV(A.v) IS NULL"),
        window("rise", "A.v > PREV(A.v)")
    );
    pipeline.run(&sql, &[]).ok()?;
    let resume = |sql: &str| eagre(&["run", "--resume", "--state", &state, "--format", "csv", "-e", sql]);
    resume("DROP MATERIALIZED VIEW most")
        .says(0, &["Materialize: falls: kept", "Materialize: all_rise: kept", "Materialize: rise: kept"])?;
    resume("DROP MATERIALIZED VIEW all_rise").says(0, &["Materialize: falls: kept", "Materialize: rise: kept"])?;
    // One of two joins that differ in the order of arrival alone is not taken for the other.
    resume("DROP MATERIALIZED VIEW plain").says(0, &["Materialize: plain: dropped", "Materialize: ranks: kept"])?;
    resume("CREATE MATERIALIZED VIEW least AS SELECT min(v) AS v FROM prices").says(0, &["Materialize: rise: kept"])?;
    let shown = resume("SELECT * FROM falls; SELECT * FROM ranks ORDER BY n; SELECT * FROM rise; SELECT * FROM least")
        .ok()?
        .stdout;
    let expected = "n,low\n2,1\nv,n\n2,1\n3,2\n4,3\nv,top\n";
    match shown.starts_with(expected) && shown.ends_with("v\n0\n") {
        true => Ok(()),
        false => Err(format!("{expected:?} is expected first: {shown}")),
    }
}

fn copied() -> Result<(), String> {
    for (format, packed) in [
        ("parquet", ""),
        ("arrow", ""),
        ("csv", ", 'csv.header' = 'false', 'compression' = 'gzip'"),
        ("json", ", 'compression' = 'zstd'"),
    ] {
        let pipeline = Pipeline::new();
        let table = |name: &str, format: &str, more: &str| {
            let path = pipeline.path(name);
            format!(
                "CREATE TABLE {name} (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = '{format}'{more});"
            )
        };
        let series = "INSERT INTO made SELECT generate_series FROM generate_series(1, 1000)";
        eagre(&["run", "-e", &(table("made", format, packed) + series)]).ok()?;
        let made = visible_files(&pipeline.folder.path().join("made"));
        let whole = std::fs::read(made.first().ok_or("no file was made")?).map_err(text)?;
        let half = &whole[..whole.len() / 2];
        let place = |name: &str| pipeline.folder.path().join("copies").join(name);
        std::fs::create_dir(pipeline.folder.path().join("copies")).map_err(text)?;
        std::fs::write(place("whole"), &whole).map_err(text)?;
        std::fs::write(place("half"), half).map_err(text)?;
        std::fs::write(place("empty"), "").map_err(text)?;
        let sql = table("copies", format, &format!("{packed}, 'source.monitor-interval' = '20 ms'"))
            + &table("out", "csv", ", 'csv.header' = 'false'")
            + "SET 'eagre.checkpoint.interval' = '20 ms'; INSERT INTO out SELECT n FROM copies";
        let mut running = Running::start(&["run", "-e", &sql, "--state", &pipeline.path("state")]);
        let rows = || visible_lines(&pipeline.folder.path().join("out")).len();
        wait_for("the whole file", || rows() == 1000)?;
        std::fs::write(place("half"), &whole).map_err(text)?;
        std::fs::remove_file(place("empty")).map_err(text)?;
        wait_for("the file that was copied", || rows() == 2000)?;
        // One that is never finished is told.
        std::fs::write(place("stub"), half).map_err(text)?;
        wait_for("the error", || !matches!(running.0.try_wait(), Ok(None)))?;
        running.end().says(1, &["stub`: its end is missing, and it has not grown for 10 seconds"])?;
    }
    Ok(())
}

/// The files that said what the columns are may be gone when a pipeline goes on.
fn inferred() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let sql = format!(
        "SET 'eagre.checkpoint.interval' = '20 ms';
         CREATE TABLE t WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'source.monitor-interval' = '20 ms');
         CREATE TABLE out (k STRING, v STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.header' = 'false');
         INSERT INTO out SELECT k, CAST(v AS STRING) FROM t",
        pipeline.path("rows"),
        pipeline.path("out")
    );
    let out = pipeline.folder.path().join("out");
    let rows = pipeline.folder.path().join("rows");
    std::fs::create_dir(&rows).map_err(text)?;
    let files = [("a.csv", "k,v\nx,1.5\n", "x,1.5"), ("b.csv", "v,more,k\n2,true,y\n", "y,2.0")];
    for (index, (file, content, _)) in files.into_iter().enumerate() {
        std::fs::write(rows.join(file), content).map_err(text)?;
        let running = Running::start(&["run", "-e", &sql, "--state", &pipeline.path("state")]);
        wait_for("the row", || visible_lines(&out).len() > index)?;
        running.interrupt();
        running.end().ok()?;
        std::fs::remove_file(rows.join(file)).map_err(text)?;
    }
    let expected: Vec<&str> = files.iter().map(|(_, _, row)| *row).collect();
    let lines = visible_lines(&out);
    if lines == expected { Ok(()) } else { Err(format!("{expected:?} are expected: {lines:?}")) }
}
