//! `kill -9` of the real process, again and again: file to file, hopping windows, state on disk. At the end the output has the rows of an
//! undisturbed run, none lost, none twice; and at no moment do the visible files hold anything else.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::harness::{Random, seed};
use crate::process::{Running, command, ended, visible_lines};

const KILLS: u64 = 20;
const ROWS: u64 = 200_000;
const KEYS: u64 = 40;
const ROW_EVERY_MS: u64 = 20;
/// Rows come out of order by less than the watermark's delay of two seconds.
const DISORDER_MS: u64 = 1_990;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("crash::kill_9_at_random_moments_loses_and_doubles_nothing", || Ok(kill_9()?))]
}

fn kill_9() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    std::fs::write(folder.path().join("events.json"), events()).map_err(|error| error.to_string())?;
    let calm_sql = sql(folder.path(), "calm");
    let calm_state = path(&folder, "calm-state");
    let started = Instant::now();
    ended(&mut command(&["run", "-e", &calm_sql, "--state", &calm_state, "--shards", "2"])).ok()?;
    let whole_run = started.elapsed();
    let calm = visible_lines(&folder.path().join("calm"));
    let keys_of_a_window = calm.len() as u64 / (ROWS * ROW_EVERY_MS / 5_000);
    if keys_of_a_window < KEYS / 2 {
        return Err(format!("the undisturbed run gave {} rows only", calm.len()));
    }

    let killed_sql = sql(folder.path(), "killed");
    let state = path(&folder, "state");
    let out = folder.path().join("killed");
    let mut random = Random::named("crash");
    let context = |kill: u64| format!("after kill {kill} (seed {})", seed());
    let shards = |run: u64| (run % 3 + 1).to_string();
    // Twenty runs come about three quarters of the way together, and most come past a checkpoint or two. On a machine whose load has grown
    // since, they get more time until one comes past its first.
    let start = started_up(&folder)?;
    let mut given = whole_run * 3 / (2 * KILLS as u32);
    let mut most = 0;
    let mut kills = 0;
    while kills < KILLS {
        let mut running = Running::start(&["run", "-e", &killed_sql, "--state", &state, "--shards", &shards(kills)]);
        std::thread::sleep(Duration::from_micros(random.between(1_000, (start + given).as_micros() as u64)));
        if running.0.try_wait().map_err(|error| error.to_string())?.is_some() {
            running.end().ok().map_err(|error| format!("{}: {error}", context(kills)))?;
            // They were lucky. What is there must be right; the others begin again.
            same(&calm, &visible_lines(&out)).map_err(|error| format!("{}: {error}", context(kills)))?;
            for folder in [&state, &path(&folder, "killed")] {
                std::fs::remove_dir_all(folder).map_err(|error| error.to_string())?;
            }
            continue;
        }
        // SIGKILL.
        drop(running);
        kills += 1;
        let there = visible_lines(&out);
        part_of(&calm, &there).map_err(|error| format!("{}: {error}", context(kills)))?;
        most = most.max(there.len());
        if most == 0 {
            given = given * 3 / 2;
        }
    }
    if most == 0 {
        return Err(format!("{}: no run came as far as its first checkpoint", context(kills)));
    }
    ended(&mut command(&["run", "-e", &killed_sql, "--state", &state, "--shards", "2"])).ok()?;
    let killed = visible_lines(&out);
    println!("{kills} kills; at most {most} of {} rows were there at one of them (seed {})", calm.len(), seed());
    same(&calm, &killed).map_err(|error| format!("{}: {error}", context(kills)))
}

fn same(calm: &[String], killed: &[String]) -> Result<(), String> {
    part_of(calm, killed)?;
    match killed.len() == calm.len() {
        true => Ok(()),
        false => Err(format!("{} rows undisturbed, {} now", calm.len(), killed.len())),
    }
}

/// How long the process takes before it reads its first row.
fn started_up(folder: &TempDir) -> Result<Duration, String> {
    let started = Instant::now();
    ended(&mut command(&["check", "-e", &sql(folder.path(), "unused")])).ok()?;
    Ok(started.elapsed())
}

/// Whether `part` holds no row more often than `whole`.
fn part_of(whole: &[String], part: &[String]) -> Result<(), String> {
    let mut left: HashMap<&str, i64> = HashMap::new();
    whole.iter().for_each(|line| *left.entry(line).or_insert(0) += 1);
    for line in part {
        let count = left.entry(line).or_insert(0);
        *count -= 1;
        if *count < 0 {
            return Err(format!("a row is there twice, or should not be at all: {line}"));
        }
    }
    Ok(())
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

fn sql(folder: &Path, out: &str) -> String {
    let folder = folder.display();
    format!(
        "SET 'eagre.checkpoint.interval' = '30 ms';
         SET 'eagre.step.rows_max' = '20';
         CREATE TABLE events (ts TIMESTAMP(3), k STRING, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
         WITH ('connector' = 'filesystem', 'path' = '{folder}/events.json', 'format' = 'json');
         CREATE TABLE out (window_start TIMESTAMP(3), window_end TIMESTAMP(3), k STRING, n BIGINT, total BIGINT, most BIGINT)
         WITH ('connector' = 'filesystem', 'path' = '{folder}/{out}', 'format' = 'json', 'sink.rolling-policy.file-size' = '64 kb');
         INSERT INTO out SELECT window_start, window_end, k, COUNT(*), SUM(v), MAX(v)
         FROM TABLE(HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND))
         GROUP BY window_start, window_end, k"
    )
}

fn events() -> String {
    let mut random = Random::named("crash events");
    let mut text = String::new();
    for row in 0..ROWS {
        let ms = row * ROW_EVERY_MS + random.between(0, DISORDER_MS);
        let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        let (key, value) = (random.between(1, KEYS), random.between(0, 1_000));
        writeln!(
            text,
            r#"{{"ts": "2026-01-01 {hours:02}:{minutes:02}:{seconds:02}.{:03}", "k": "key {key}", "v": {value}}}"#,
            ms % 1_000
        )
        .expect("text");
    }
    text
}
