//! What is written as changes reads back to the same rows: in each format and mode, at several shards, and when the pipeline that writes
//! stops in the middle and goes on.

use std::path::Path;
use std::sync::Arc;

use eagre::Session;
use libtest_mimic::Trial;

use crate::harness::{Random, Schedule, run, seed};
use crate::value;

/// Options of the table between, and whether it has a primary key.
const TABLES: &[(&str, &str, bool)] = &[
    ("changelog", "'format' = 'changelog-json'", false),
    ("changelog_keyed", "'format' = 'changelog-json', 'changelog-json.op-column' = 'what'", true),
    ("changelog_upsert", "'format' = 'changelog-json', 'changelog.mode' = 'upsert'", true),
    ("debezium", "'format' = 'debezium-json'", false),
    ("debezium_keyed", "'format' = 'debezium-json', 'debezium-json.schema-include' = 'true'", true),
    ("debezium_upsert", "'format' = 'debezium-json', 'changelog.mode' = 'upsert'", true),
];

/// Queries whose rows are taken back, by the key `k`.
const QUERIES: &[(&str, &str)] = &[
    ("sums", "SELECT k, SUM(v) AS s, COUNT(*) AS n FROM t GROUP BY k"),
    ("filtered", "SELECT * FROM (SELECT k, SUM(v) AS s, COUNT(*) AS n FROM t GROUP BY k) WHERE s > 0"),
    ("rounded", "SELECT k, SUM(v) / 10 AS s, COUNT(*) % 2 AS n FROM t GROUP BY k"),
];

/// One whose rows share a key, of which the greatest stands.
const SHARED: &str =
    "SELECT CASE WHEN SUM(v) % 3 = 0 THEN 'x' ELSE 'y' END AS k, SUM(v) AS s, COUNT(*) AS n FROM t GROUP BY t.k";

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("changelog::explained", || Ok(explained()?)),
        Trial::test("changelog::updates_are_not_torn", || Ok(updates_are_not_torn()?)),
    ];
    for &(table, options, key) in TABLES {
        for &(name, query) in QUERIES {
            let trial = move || Ok(reads_back(&format!("{table}::{name}"), options, key, query, query)?);
            trials.push(Trial::test(format!("changelog::reads_back::{table}::{name}"), trial));
        }
        if options.contains("'upsert'") {
            let greatest = format!(
                "SELECT k, s, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY s DESC, n DESC) AS rn FROM ({SHARED})) WHERE rn = 1"
            );
            let trial = move || Ok(reads_back(&format!("{table}::shared"), options, key, SHARED, &greatest)?);
            trials.push(Trial::test(format!("changelog::reads_back::{table}::shared"), trial));
        }
    }
    trials
}

fn scene(random: &mut Random) -> Vec<String> {
    let row = |random: &mut Random| {
        format!("('{}', {})", ["a", "b", "c", "d"][random.between(0, 3) as usize], random.between(0, 40) as i64 - 20)
    };
    let rows: Vec<String> = (0..40).map(|_| row(random)).collect();
    vec!["CREATE TABLE t (k STRING, v BIGINT)".into(), format!("INSERT INTO t VALUES {}", rows.join(", "))]
}

fn build(session: &Session, statements: &[String]) -> eagre::Result<()> {
    for statement in statements {
        if let Some(job) = session.execute(statement)?.job {
            job.wait_blocking()?;
        }
    }
    Ok(())
}

/// `want` gives what is there when `query` has been written.
fn reads_back(name: &str, options: &str, key: bool, query: &str, want: &str) -> Result<(), String> {
    let mut random = Random::named(name);
    let text = |error: eagre::Error| format!("[{}] {error} (seed {})", error.code(), seed());
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let scene = scene(&mut random);
    let want = run(&Schedule::calm(1, 64), &|session| build(session, &scene), want).map_err(text)?;
    let table = |path: &Path| {
        let key = if key { ", PRIMARY KEY (k) NOT ENFORCED" } else { "" };
        format!(
            "CREATE TABLE between (k STRING, s BIGINT, n BIGINT{key}) WITH ('connector' = 'filesystem', 'path' = '{}', {options})",
            path.display()
        )
    };
    for stops in 0..3 {
        let path = folder.path().join(stops.to_string());
        let mut with_table = scene.clone();
        with_table.push(table(&path));
        write(
            &mut random,
            &with_table,
            &format!("INSERT INTO between {query}"),
            &folder.path().join(format!("state{stops}")),
            stops,
        )
        .map_err(text)?;
        for shards in [1, 3] {
            let schedule = Schedule::calm(shards, random.between(1, 9));
            let back = run(&schedule, &|session| build(session, &with_table), "SELECT k, s, n FROM between");
            let back = back.map_err(|error| format!("{schedule}: {}", text(error)))?;
            value::compare(&value::rows(&want.batches), &value::rows(&back.batches), false, 0.0)
                .map_err(|error| format!("written with {stops} stops, {schedule}: {error} (seed {})", seed()))?;
            let bad = run(&schedule, &|session| build(session, &with_table), "SELECT reason FROM between.errors");
            let bad = value::rows(&bad.map_err(text)?.batches);
            if !bad.is_empty() {
                return Err(format!("written with {stops} stops, {schedule}: bad rows {bad:?} (seed {})", seed()));
            }
        }
    }
    Ok(())
}

/// Runs an `INSERT` in small steps, stopped so many times.
fn write(random: &mut Random, scene: &[String], sql: &str, state: &Path, stops: u64) -> eagre::Result<()> {
    // A fixture has the batches of the steps that filled it, so all runs cut alike.
    let rows_max = random.between(1, 5).to_string();
    for stop in 0..=stops {
        let mut builder = Session::builder()
            .set("eagre.shards", random.between(1, 3).to_string())
            .set("eagre.step.rows_max", &rows_max)
            .set("eagre.checkpoint.steps", random.between(1, 3).to_string())
            .set("eagre.checkpoint.interval", "1 h");
        if stops > 0 {
            builder = builder.state(state.display().to_string());
        }
        let session = builder.build()?;
        build(&session, scene)?;
        let Some(job) = session.execute(sql)?.job else { continue };
        if stop < stops
            && let Some(metrics) = job.metrics().map(Arc::clone)
        {
            let rows = random.between(1, 8);
            while metrics.rows_read.get() < rows && !job.is_finished() {
                std::thread::yield_now();
            }
            job.stop();
        }
        job.wait_blocking()?;
    }
    Ok(())
}

/// However small steps are, none shows the time between the two rows of an update: a table of two rows never has one.
fn updates_are_not_torn() -> Result<(), String> {
    let text = |error: eagre::Error| error.to_string();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let row = |id: u64, v: u64| format!("{{\"id\":{id},\"v\":{v}}}");
    let mut lines: Vec<String> =
        (0..2).map(|id| format!("{{\"before\":null,\"after\":{},\"op\":\"c\"}}\n", row(id, 0))).collect();
    lines.extend((0..60).map(|n| {
        let (id, v) = (n % 2, n / 2);
        format!("{{\"before\":{},\"after\":{},\"op\":\"u\"}}\n", row(id, v), row(id, v + 1))
    }));
    let input = folder.path().join("in.json");
    std::fs::write(&input, lines.concat()).map_err(|error| error.to_string())?;
    for rows_max in [1, 2, 3, 7] {
        let output = folder.path().join(format!("out{rows_max}"));
        let session = Session::builder().set("eagre.step.rows_max", rows_max.to_string()).build().map_err(text)?;
        let scene = [
            format!(
                "CREATE TABLE t (id BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'debezium-json')",
                input.display()
            ),
            format!(
                "CREATE TABLE counts (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'changelog-json')",
                output.display()
            ),
            "INSERT INTO counts SELECT COUNT(*) AS n FROM t WHERE v >= 0".to_owned(),
        ];
        build(&session, &scene).map_err(text)?;
        let mut written = String::new();
        for file in std::fs::read_dir(&output).map_err(|error| error.to_string())?.flatten() {
            if file.file_type().is_ok_and(|kind| kind.is_file()) {
                written += &std::fs::read_to_string(file.path()).map_err(|error| error.to_string())?;
            }
        }
        // Once there are two rows there are two.
        let counts: Vec<&str> = written.lines().collect();
        let ends_with_two = written.matches("\"n\":2").count();
        if ends_with_two != 1 || counts.len() > 5 {
            return Err(format!("steps of {rows_max} rows: {written}"));
        }
    }
    Ok(())
}

/// A user sees what a changelog costs.
fn explained() -> Result<(), String> {
    let session = Session::builder().build().map_err(|error| error.to_string())?;
    let explain = |options: &str| -> Result<String, String> {
        let create = format!(
            "CREATE OR REPLACE TABLE c (id BIGINT, v STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'stdin', 'format' = \
             'changelog-json'{options})"
        );
        session.execute(&create).map_err(|error| error.to_string())?;
        let execution = session.execute("EXPLAIN SELECT v FROM c").map_err(|error| error.to_string())?;
        Ok(value::rows(&execution.tables).into_iter().flatten().map(|cell| format!("{cell}\n")).collect())
    };
    let expect = |text: &str, wanted: &[&str]| match wanted.iter().find(|wanted| !text.contains(**wanted)) {
        Some(missing) => Err(format!("`{missing}` is missing in\n{text}")),
        None => Ok(()),
    };
    expect(
        &explain(", 'changelog.mode' = 'upsert'")?,
        &[
            "-> upsert, key=(id)",
            "ChangelogNormalize: c, key=(id) (CPU)",
            "exchange hash(id)",
            "state: the last row of each key, until it is deleted",
            "-> retract, key=(id)",
        ],
    )?;
    expect(
        &explain("")?,
        &["RetractionCheck: c (CPU)", "state: a hash and a count for each row, until it is taken back"],
    )?;
    match explain(", 'changelog.check' = 'false'")? {
        text if text.contains("RetractionCheck") => Err(format!("there is a check in\n{text}")),
        _ => Ok(()),
    }
}
