//! Forecasts by the network on the CPU and on a device: the same SQL has the same answer, however rows come and whatever happens to the
//! process in between. As for scores, these trials are skipped where there is no device.

use std::collections::BTreeMap;
use std::path::Path;

use libtest_mimic::Trial;

use crate::harness::{Random, run_killed};
use crate::process::{eagre, visible_lines};
use crate::scores::{on_device, write_in_order};

const ROWS: usize = 450;
const KEYS: usize = 5;
/// Device and twin agree within 1e-4 of a window's unit, which is about 6 here, for quantiles of a few units; what is 33 and more steps
/// ahead begins from such a forecast.
const TOLERANCE: f64 = 0.02;

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("forecasts::{name}"), move || Ok(test()?));
    vec![
        trial("device_equals_cpu", device_equals_cpu),
        trial("killed_with_forecasts_of_the_device", killed),
        trial("a_replay_forecasts_where_the_run_did", replayed),
        trial("explain_analyze_says_where_and_why", explained),
    ]
}

/// Readings of a few sensors, one each 2.5 seconds: a wave, noise, some nulls, a part that is missing; in disorder of a few seconds.
fn write_readings(file: &Path) -> Result<(), String> {
    let mut random = Random::named("forecasts::readings");
    let mut rows: Vec<(u64, String)> = Vec::new();
    for index in 0..ROWS {
        let (key, second) = (index % KEYS, index as u64 / 2);
        if key == 3 && (200..300).contains(&index) {
            continue;
        }
        let wave = (index as f64 / 60.0 * std::f64::consts::TAU + key as f64).sin() * 10.0;
        let value = match index % 97 {
            0 => "null".to_owned(),
            _ => format!("{:.3}", 100.0 * key as f64 + wave + random.between(0, 1_000) as f64 / 1_000.0),
        };
        let time = format!("2024-01-01 00:{:02}:{:02}", second / 60, second % 60);
        let line = format!("{{\"sensor\":{key},\"ts\":\"{time}\",\"value\":{value}}}");
        rows.push((second * 10 + random.between(0, 40), line));
    }
    write_in_order(file, rows)
}

fn table(file: &Path) -> String {
    format!(
        "CREATE TABLE reading (sensor INT, ts TIMESTAMP(3), `value` DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');",
        file.display()
    )
}

/// The forecasts with `more` said of them. A horizon of 40 is two windows of the network.
fn query(more: &str) -> String {
    format!(
        "SELECT sensor, CAST(made_at AS STRING) AS made_at, CAST(ts AS STRING) AS ts, q10, q50, q90 \
         FROM FORECAST(TABLE reading, DESCRIPTOR(`value`), ts => ts, key => sensor, horizon => 40, \
         step => INTERVAL '2.5' SECOND, min_training => 20, method => 'conv'{more})"
    )
}

/// What is forecast, by sensor, when, and for when.
type Forecasts = BTreeMap<(i64, String, String), [f64; 3]>;

fn forecasts(lines: &str) -> Result<Forecasts, String> {
    let mut forecasts = Forecasts::new();
    for line in lines.lines() {
        let row: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        // A replay says more of each row.
        let row = row.get("row").unwrap_or(&row);
        let text = |name: &str| row[name].as_str().map(str::to_owned).ok_or(line);
        let number = |name: &str| row[name].as_f64().ok_or(line);
        let key = (row["sensor"].as_i64().ok_or(line)?, text("made_at")?, text("ts")?);
        let quantiles = [number("q10")?, number("q50")?, number("q90")?];
        if forecasts.insert(key, quantiles).is_some() {
            return Err(format!("a forecast is there twice: {line}"));
        }
    }
    Ok(forecasts)
}

fn compare(cpu: &Forecasts, device: &Forecasts) -> Result<(), String> {
    if cpu.len() < ROWS {
        return Err(format!("only {} rows are forecast", cpu.len()));
    }
    if !cpu.keys().eq(device.keys()) {
        return Err(format!("{} rows on the CPU, {} on the device, or others", cpu.len(), device.len()));
    }
    for (key, one) in cpu {
        let other = &device[key];
        if one.iter().zip(other).any(|(one, other)| (one - other).abs() > TOLERANCE) {
            return Err(format!("{key:?}: {one:?} on the CPU, {other:?} on the device"));
        }
    }
    Ok(())
}

fn device_equals_cpu() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("readings.json");
    write_readings(&file)?;
    for more in [", emit => 'every 3'", ", emit => 'on window close'"] {
        let sql = format!("{}{}", table(&file), query(more));
        let run = |args: &[&str]| eagre(&[&["run", "--device", "cpu", "--format", "ndjson"], args].concat()).ok();
        let small = ["--shards", "2", "--set", "eagre.step.rows_max=37", "-e", &sql];
        let cpu = forecasts(&run(&["-e", &sql])?.stdout)?;
        // On the CPU nothing shows of how rows come, to the bit.
        if forecasts(&run(&small)?.stdout)? != cpu {
            return Err(format!("{more}: steps and shards show in forecasts of the CPU"));
        }
        let Some(device) = on_device(&small)? else { return Ok(()) };
        compare(&cpu, &forecasts(&device.stdout)?)?;
    }
    Ok(())
}

/// The file is whole, although the process was killed again and again, at other numbers of shards.
fn killed() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = folder.path();
    let file = folder.join("readings.json");
    write_readings(&file)?;
    let sql = format!("{}{}", table(&file), query(", emit => 'every 2'"));
    let cpu = forecasts(&eagre(&["run", "--device", "cpu", "--format", "ndjson", "-e", &sql]).ok()?.stdout)?;
    if on_device(&["-e", &sql])?.is_none() {
        return Ok(());
    }
    let out = folder.join("out");
    let sink = format!(
        "{} CREATE TABLE forecast (sensor INT, made_at STRING, ts STRING, q10 DOUBLE, q50 DOUBLE, q90 DOUBLE)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json'); INSERT INTO forecast {}",
        table(&file),
        out.display(),
        query(", emit => 'every 2'")
    );
    let state = folder.join("state").display().to_string();
    let settings = [("eagre.device", "gpu"), ("eagre.step.rows_max", "25"), ("eagre.checkpoint.steps", "2")];
    run_killed(&sink, &state, &settings, &[(1u64, Some(4)), (2, Some(9)), (1, Some(12)), (3, None)])?;
    let lines = visible_lines(&out).join("\n");
    let published = forecasts(&lines)?;
    compare(&cpu, &published)?;
    // At the last number of shards, on the device from the beginning.
    match forecasts(&eagre(&["replay", "--state", &state, "--device", "gpu"]).ok()?.stdout)? == published {
        true => Ok(()),
        false => Err("a replay has other forecasts".to_owned()),
    }
}

fn replayed() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (file, state) = (folder.path().join("readings.json"), folder.path().join("state"));
    write_readings(&file)?;
    let sql = format!("{}{}", table(&file), query(", emit => 'every 2'"));
    let state = state.display().to_string();
    let args = ["--state", &state, "--set", "eagre.step.rows_max=100", "--shards", "2", "-e", &sql];
    let Some(run) = on_device(&args)? else { return Ok(()) };
    let again = eagre(&["replay", "--state", &state, "--device", "gpu"]).ok()?;
    if !again.stderr.contains("`conv_forecast` runs on") {
        return Err(format!("the replay does not say that it runs on the device: {}", again.stderr));
    }
    let first = forecasts(&run.stdout)?;
    if first.len() < ROWS || forecasts(&again.stdout)? != first {
        return Err("the replay has other forecasts".to_owned());
    }
    // Without a device it is told that there is none; the forecasts are near.
    let without = eagre(&["replay", "--state", &state, "--device", "cpu"]).ok()?;
    if !without.stderr.contains("ran on a device in the recorded run") {
        return Err(format!("nothing is told of the device that is not there: {}", without.stderr));
    }
    compare(&forecasts(&without.stdout)?, &first)
}

fn explained() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("readings.json");
    write_readings(&file)?;
    let sql = format!("{}EXPLAIN ANALYZE {}", table(&file), query(", emit => 'every 20'"));
    let cpu = eagre(&["run", "--device", "cpu", "-e", &sql]).ok()?.stdout;
    let expected = "conv on cpu: eagre.device says so";
    if !cpu.contains(expected) {
        return Err(format!("no `{expected}` in\n{cpu}"));
    }
    let other = eagre(&["run", "--device", "cpu", "-e", &sql.replace("'conv'", "'flair'")]).ok()?.stdout;
    if other.contains("flair on ") {
        return Err(format!("`flair` has no kernel that is placed:\n{other}"));
    }
    let Some(device) = on_device(&["-e", &sql])? else { return Ok(()) };
    match device.stdout.contains("conv on ") && device.stdout.contains("observed: ") {
        true => Ok(()),
        false => Err(format!("nothing of where `conv` ran in\n{}", device.stdout)),
    }
}
