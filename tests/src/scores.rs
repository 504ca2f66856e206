//! Scores on the CPU and on a device: the same SQL has the same answer, whatever happens to the device or the process in between.
//!
//! The device is any adapter that the machine has, a software one too. Where there is none these trials are skipped and say so; with
//! `EAGRE_REQUIRE_GPU` set they fail.

use std::fmt::Write as _;
use std::path::Path;

use eagre::Session;
use eagre_engine::score::METHODS;
use libtest_mimic::Trial;

use crate::harness::{Random, run_killed};
use crate::process::{Ended, eagre, visible_lines};

const ROWS: usize = 1_200;
const KEYS: usize = 5;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = METHODS
        .iter()
        .map(|method| {
            Trial::test(format!("scores::device_equals_cpu::{}", method.name), || Ok(device_equals_cpu(method.name)?))
        })
        .collect();
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("scores::{name}"), move || Ok(test()?));
    trials.push(trial("killed_with_state_on_the_device", killed));
    trials.push(trial("a_replay_moves_where_the_run_moved", replayed));
    trials.push(trial("a_device_is_that_of_its_statement", by_statement));
    trials.push(trial("explain_analyze_says_where_and_why", explained));
    trials
}

/// Options under which few rows are enough.
fn options(method: &str) -> &'static str {
    match method {
        "ewma" | "holt" | "cusum" => "min_training => 5, half_life => 20",
        "auto" => "half_life => 20",
        "novelty" | "seasonal" | "changepoint" | "forecast" => "min_training => 5",
        "rcf" => "min_training => 5, trees => 10, sample => 32",
        "half_space" => "window => 64, trees => 10, depth => 5",
        "distance" => "window => 8, history => 128",
        _ => "window => 8, components => 2",
    }
}

/// Readings of a few sensors: a daily wave, noise, some nulls, a spike and a flat part; in disorder of a few seconds.
fn write_readings(file: &Path) -> Result<(), String> {
    let mut random = Random::named("scores::readings");
    let mut rows: Vec<(u64, String)> = Vec::new();
    for index in 0..ROWS {
        let (key, second) = (index % KEYS, index as u64 / 2);
        let wave = (second as f64 / 12.0 + key as f64).sin() * 10.0;
        let noise = random.between(0, 1_000) as f64 / 1_000.0;
        let value = match index % 211 {
            0 => "null".to_owned(),
            1 => "120.5".to_owned(),
            _ if (400..460).contains(&index) => "7".to_owned(),
            _ => format!("{:.3}", 1_000_000.0 + wave + noise),
        };
        let time = format!("2024-01-01 00:{:02}:{:02}", second / 60, second % 60);
        let line = format!("{{\"id\":{index},\"sensor\":{key},\"ts\":\"{time}\",\"value\":{value}}}");
        rows.push((second * 10 + random.between(0, 40), line));
    }
    write_in_order(file, rows)
}

/// Lines by the time at which they come.
pub(crate) fn write_in_order(file: &Path, mut lines: Vec<(u64, String)>) -> Result<(), String> {
    lines.sort();
    let text = lines.into_iter().fold(String::new(), |mut text, (_, line)| {
        let _ = writeln!(text, "{line}");
        text
    });
    std::fs::write(file, text).map_err(|error| error.to_string())
}

fn table(file: &Path) -> String {
    format!(
        "CREATE TABLE reading (id INT, sensor INT, ts TIMESTAMP(3), `value` DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');",
        file.display()
    )
}

fn query(method: &str) -> String {
    format!(
        "SELECT id, anomaly_score(`value`, method => '{method}', {}) OVER (PARTITION BY sensor ORDER BY ts, id) AS score FROM reading",
        options(method)
    )
}

/// `None`: there is no device, which was said.
pub(crate) fn on_device(args: &[&str]) -> Result<Option<Ended>, String> {
    let ended = eagre(&[&["run", "--device", "gpu", "--format", "ndjson"], args].concat());
    if ended.code != Some(0) && ended.stderr.contains("there is none to use") {
        let required = std::env::var("EAGRE_REQUIRE_GPU").is_ok_and(|value| !value.is_empty() && value != "0");
        if required {
            return Err(format!("EAGRE_REQUIRE_GPU is set, and {}", ended.stderr));
        }
        eprintln!("SKIPPED, needs a device: {}", ended.stderr);
        return Ok(None);
    }
    ended.ok().map(Some)
}

/// `(id, score)` of each line, by id.
fn scores(lines: &str) -> Result<Vec<(i64, Option<f64>)>, String> {
    let mut scores = Vec::new();
    for line in lines.lines() {
        let row: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        // A replay says more of each row.
        let row = row.get("row").unwrap_or(&row);
        scores.push((row["id"].as_i64().ok_or(line)?, row["score"].as_f64()));
    }
    scores.sort_by_key(|(id, _)| *id);
    Ok(scores)
}

/// Equal within what a method says of itself, and scored at all.
fn compare(method: &str, cpu: &[(i64, Option<f64>)], device: &[(i64, Option<f64>)]) -> Result<(), String> {
    if cpu.len() != ROWS || device.len() != ROWS {
        return Err(format!("{} rows on the CPU and {} on the device, of {ROWS}", cpu.len(), device.len()));
    }
    let told = cpu.iter().filter(|(_, score)| score.is_some_and(|score| score > 0.0)).count();
    if told < ROWS / 3 {
        return Err(format!("{method}: only {told} rows have a score"));
    }
    for ((id, one), (other_id, other)) in cpu.iter().zip(device) {
        let near = match (one, other) {
            (Some(one), Some(other)) if method == "half_space" => one == other,
            // Kernels agree on the correlation, of which a distance is the root: near 0 that makes much of little.
            (Some(one), Some(other)) if method == "distance" && one.max(*other) < 0.02 => {
                (one * one - other * other).abs() <= 1e-4
            }
            (Some(one), Some(other)) => (one - other).abs() <= 2e-3 * one.abs() + 2e-3,
            (one, other) => one == other,
        };
        if id != other_id || !near {
            return Err(format!("{method}, row {id}: {one:?} on the CPU, {other:?} on the device (row {other_id})"));
        }
    }
    Ok(())
}

fn device_equals_cpu(method: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = folder.path();
    let file = folder.join("readings.json");
    write_readings(&file)?;
    let sql = format!("{}{}", table(&file), query(method));
    let cpu = scores(&eagre(&["run", "--device", "cpu", "--format", "ndjson", "-e", &sql]).ok()?.stdout)?;
    // As it comes, and in small steps on two shards.
    for more in [&["-e", sql.as_str()][..], &["--shards", "2", "--set", "eagre.step.rows_max=37", "-e", &sql]] {
        let Some(device) = on_device(more)? else { return Ok(()) };
        compare(method, &cpu, &scores(&device.stdout)?)?;
    }
    Ok(())
}

fn killed() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = folder.path();
    let file = folder.join("readings.json");
    write_readings(&file)?;
    for method in ["ewma", "half_space", "subspace"] {
        let sql = format!("{}{}", table(&file), query(method));
        let cpu = scores(&eagre(&["run", "--device", "cpu", "--format", "ndjson", "-e", &sql]).ok()?.stdout)?;
        if on_device(&["-e", &sql])?.is_none() {
            return Ok(());
        }
        let out = folder.join(method);
        let sink = format!(
            "{} CREATE TABLE scored (id INT, score DOUBLE) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json'); INSERT INTO scored {}",
            table(&file),
            out.display(),
            query(method)
        );
        let state = folder.join(format!("{method}_state")).display().to_string();
        let settings = [("eagre.device", "gpu"), ("eagre.step.rows_max", "50"), ("eagre.checkpoint.steps", "2")];
        run_killed(&sink, &state, &settings, &[(1u64, Some(4)), (2, Some(9)), (1, Some(15)), (3, None)])?;
        let lines = visible_lines(&out).join("\n");
        let published = scores(&lines)?;
        compare(method, &cpu, &published)?;
        // At the last number of shards, on the device from the beginning.
        let again = scores(&eagre(&["replay", "--state", &state, "--device", "gpu"]).ok()?.stdout)?;
        if again != published {
            let differs = again.iter().zip(&published).filter(|(again, published)| again != published).count();
            return Err(format!("{method}: a replay has {} rows, of which {differs} differ", again.len()));
        }
    }
    Ok(())
}

fn replayed() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = folder.path();
    let (file, state) = (folder.join("readings.json"), folder.join("state"));
    write_readings(&file)?;
    let sql = format!("{}{}", table(&file), query("ewma"));
    let state = state.display().to_string();
    let args = ["--state", &state, "--set", "eagre.step.rows_max=100", "--shards", "2", "-e", &sql];
    let Some(run) = on_device(&args)? else { return Ok(()) };
    let again = eagre(&["replay", "--state", &state, "--device", "gpu"]).ok()?;
    if !again.stderr.contains("`recurrence_scan` runs on") {
        return Err(format!("the replay does not say that it runs on the device: {}", again.stderr));
    }
    let (mut first, mut second) = (scores(&run.stdout)?, scores(&again.stdout)?);
    first.sort_by_key(|(id, _)| *id);
    second.sort_by_key(|(id, _)| *id);
    if first.len() != ROWS || first != second {
        return Err(format!("the run has {} rows, the replay {}, or other scores", first.len(), second.len()));
    }
    // Without a device it is told that there is none; the scores are near.
    let without = eagre(&["replay", "--state", &state, "--device", "cpu"]).ok()?;
    if !without.stderr.contains("ran on a device in the recorded run") {
        return Err(format!("nothing is told of the device that is not there: {}", without.stderr));
    }
    compare("ewma", &scores(&without.stdout)?, &first)
}

/// Equal queries are one operator, but not where a setting between them says otherwise.
fn by_statement() -> Result<(), String> {
    let scores = |between: &str| {
        let session = Session::builder().set("eagre.device", "cpu").build().map_err(|error| error.to_string())?;
        let text = format!(
            "CREATE TABLE t (v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen', 'number-of-rows' = '1');
             CREATE TABLE a (s DOUBLE) WITH ('connector' = 'blackhole');
             CREATE TABLE b (s DOUBLE) WITH ('connector' = 'blackhole');
             INSERT INTO a SELECT anomaly_score(v) OVER (ORDER BY ts) FROM t; {between}
             INSERT INTO b SELECT anomaly_score(v) OVER (ORDER BY ts) FROM t"
        );
        let job = session.prepare(&text).map_err(|error| error.to_string())?.job.ok_or("no pipeline runs")?;
        Ok::<usize, String>(job.graph.nodes.iter().filter(|node| node.name() == "Score").count())
    };
    match (scores("")?, scores("SET 'eagre.device' = 'auto';")?) {
        (1, 2) => Ok(()),
        (same, other) => Err(format!("{same} operators for equal statements, {other} for two devices")),
    }
}

fn explained() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = folder.path();
    let file = folder.join("readings.json");
    write_readings(&file)?;
    let sql = format!("{}EXPLAIN ANALYZE {}", table(&file), query("ewma"));
    let cpu = eagre(&["run", "--device", "cpu", "-e", &sql]).ok()?.stdout;
    let expected = "ewma on cpu: eagre.device says so";
    if !cpu.contains(expected) {
        return Err(format!("no `{expected}` in\n{cpu}"));
    }
    let auto = eagre(&["run", "-e", &sql]).ok()?.stdout;
    if !auto.contains("ewma on ") {
        return Err(format!("nothing of where `ewma` ran in\n{auto}"));
    }
    let Some(device) = on_device(&["-e", &sql])? else { return Ok(()) };
    for expected in ["ewma on ", "observed: ", "break-even batch"] {
        if !device.stdout.contains(expected) {
            return Err(format!("no `{expected}` in\n{}", device.stdout));
        }
    }
    Ok(())
}
