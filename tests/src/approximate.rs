//! Windowed aggregates that may be approximate: the same on the CPU and on a device, and near the exact answer, whatever happens to the
//! device or the process in between.
//!
//! The device is any adapter that the machine has, a software one too; as in [`crate::scores`].

use std::collections::BTreeMap;
use std::path::Path;

use eagre::Session;
use libtest_mimic::Trial;

use crate::harness::Random;
use crate::process::eagre;
use crate::scores::{on_device, write_in_order};

const ROWS: usize = 6_000;
const APPROXIMATE: &str = "eagre.sql.approximate=true";

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("approximate::{name}"), move || Ok(test()?));
    vec![
        trial("device_equals_cpu", device_equals_cpu),
        trial("killed_with_panes_on_the_device", killed),
        trial("a_replay_moves_where_the_run_moved", replayed),
        trial("equal_statements_differ_in_the_setting", by_statement),
        trial("explain_analyze_says_where_and_why", explained),
        trial("operators_of_a_step_share_a_wave", shared),
    ]
}

/// Readings of a few sensors in disorder of a few seconds, with nulls, a value that 32 bits do not hold, and integers that doubles do not.
fn write_readings(file: &Path) -> Result<(), String> {
    let mut random = Random::named("approximate::readings");
    let mut rows: Vec<(u64, String)> = Vec::new();
    for index in 0..ROWS {
        let second = index as u64 / 8;
        let value = match index % 977 {
            0 => "null".to_owned(),
            1 => "1e200".to_owned(),
            _ => format!("{}", 1_000_000.0 + random.between(0, 1_000_000) as f64 / 1_000.0),
        };
        let number = (1i64 << 60) + random.between(0, 1_000_000) as i64;
        let time = format!("2024-01-01 00:{:02}:{:02}", second / 60, second % 60);
        let sensor = random.between(0, 6);
        let line = format!("{{\"sensor\":{sensor},\"ts\":\"{time}\",\"value\":{value},\"number\":{number}}}");
        rows.push((second * 10 + random.between(0, 40), line));
    }
    write_in_order(file, rows)
}

fn table(file: &Path) -> String {
    format!(
        "CREATE TABLE reading (sensor INT, ts TIMESTAMP(3), `value` DOUBLE, number BIGINT, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');",
        file.display()
    )
}

const TUMBLE: &str = "TUMBLE(TABLE reading, DESCRIPTOR(ts), INTERVAL '30' SECOND)";
const HOP: &str = "HOP(TABLE reading, DESCRIPTOR(ts), INTERVAL '20' SECOND, INTERVAL '50' SECOND)";

/// Exact are the first, from `c`unt on; near are `total`, `mean` and `deviation`.
fn query(windows: &str) -> String {
    format!(
        "SELECT CAST(window_end AS STRING) || ' ' || CAST(sensor AS STRING) AS id, COUNT(*) AS c, COUNT(`value`) AS n, MIN(number) AS lo, MAX(number) AS hi,
           CAST(SUM(number - 1152921504606846976) AS STRING) AS s, CAST(MIN(`value`) AS STRING) AS least,
           SUM(`value`) FILTER (WHERE `value` < 1e100) AS total, AVG(`value`) FILTER (WHERE `value` < 1e100) AS mean,
           STDDEV_POP(`value`) FILTER (WHERE `value` < 1e100) AS deviation
         FROM TABLE({windows}) GROUP BY window_start, window_end, sensor"
    )
}

/// What is exact of a window, and what is near.
type Windows = BTreeMap<String, (Vec<serde_json::Value>, [f64; 3])>;

fn windows_of(lines: &str) -> Result<Windows, String> {
    let mut windows = Windows::new();
    for line in lines.lines() {
        let row: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        // A replay says more of each row.
        let row = row.get("row").unwrap_or(&row);
        let exact = ["c", "n", "lo", "hi", "s", "least"].map(|name| row[name].clone()).to_vec();
        if exact.iter().any(serde_json::Value::is_null) {
            return Err(format!("something is missing in {line}"));
        }
        let near = |name: &str| row[name].as_f64().ok_or_else(|| format!("no {name} in {line}"));
        let near = [near("total")?, near("mean")?, near("deviation")?];
        if windows.insert(row["id"].as_str().ok_or(line)?.to_owned(), (exact, near)).is_some() {
            return Err(format!("two rows of one window: {line}"));
        }
    }
    match windows.len() {
        0..20 => Err(format!("only {} windows", windows.len())),
        _ => Ok(windows),
    }
}

/// Values are within 1,000 of each other: sums are known to some 2^-16 of that, in the worst case.
fn compare(what: &str, one: &Windows, other: &Windows) -> Result<(), String> {
    if !one.keys().eq(other.keys()) {
        return Err(format!("{what}: {} windows and {}", one.len(), other.len()));
    }
    for ((id, (exact, near)), (other_exact, other_near)) in one.iter().zip(other.values()) {
        let count = exact[1].as_f64().unwrap_or(0.0);
        let tolerances = [0.02 * count, 0.02, 0.02];
        let far = |place: &usize| (near[*place] - other_near[*place]).abs() > tolerances[*place];
        if exact != other_exact || (0..3).any(|place| far(&place)) {
            return Err(format!("{what}, {id}: {exact:?} {near:?}, and {other_exact:?} {other_near:?}"));
        }
    }
    Ok(())
}

fn run_on_cpu(sql: &str, set: &[&str]) -> Result<Windows, String> {
    windows_of(&eagre(&[&["run", "--device", "cpu", "--format", "ndjson", "-e", sql], set].concat()).ok()?.stdout)
}

fn device_equals_cpu() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("readings.json");
    write_readings(&file)?;
    for windows in [TUMBLE, HOP] {
        let sql = format!("{}{}", table(&file), query(windows));
        let exact = run_on_cpu(&sql, &[])?;
        let cpu = run_on_cpu(&sql, &["--set", APPROXIMATE])?;
        compare("exact and by the twin", &exact, &cpu)?;
        if cpu.iter().zip(&exact).all(|((_, (_, cpu)), (_, (_, exact)))| cpu == exact) {
            return Err("all floats are exact: the kernel was not used".to_owned());
        }
        // As it comes, to the bit where the device keeps floats as they are written; and in small steps on two shards.
        let Some(device) = on_device(&["--set", APPROXIMATE, "-e", &sql])? else { return Ok(()) };
        let device = windows_of(&device.stdout)?;
        compare("twin and device", &cpu, &device)?;
        if cpu.iter().zip(&device).any(|((_, (_, cpu)), (_, (_, device)))| cpu[..2] != device[..2]) {
            eprintln!("sums of floats by `window_reduce` differ in bits between this adapter and the twin");
        }
        let args = ["--set", APPROXIMATE, "--shards", "2", "--set", "eagre.step.rows_max=37", "-e", &sql];
        let Some(device) = on_device(&args)? else { return Ok(()) };
        compare("in small steps on the device", &exact, &windows_of(&device.stdout)?)?;
    }
    Ok(())
}

fn killed() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = folder.path();
    let file = folder.join("readings.json");
    write_readings(&file)?;
    let exact = run_on_cpu(&format!("{}{}", table(&file), query(HOP)), &[])?;
    if on_device(&["--set", APPROXIMATE, "-e", &format!("{}{}", table(&file), query(HOP))])?.is_none() {
        return Ok(());
    }
    let out = folder.join("out");
    let sink = format!(
        "{} CREATE TABLE reduced (id STRING, c BIGINT, n BIGINT, lo BIGINT, hi BIGINT, s STRING, least STRING, total DOUBLE, mean DOUBLE, deviation DOUBLE)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json'); INSERT INTO reduced {}",
        table(&file),
        out.display(),
        query(HOP)
    );
    let state = folder.join("state").display().to_string();
    let text = |error: eagre::Error| error.to_string();
    let mut finished = false;
    for (shards, abort) in [(1u64, Some(7)), (3, Some(18)), (2, Some(31)), (1, None)] {
        let mut builder = Session::builder()
            .set("eagre.device", "gpu")
            .set("eagre.sql.approximate", "true")
            .set("eagre.shards", shards.to_string())
            .set("eagre.step.rows_max", "100")
            .set("eagre.checkpoint.steps", "3")
            .state(&state);
        if let Some(step) = abort {
            builder = builder.abort_after_step(step);
        }
        let job = builder.build().map_err(text)?.execute(&sink).map_err(text)?.job.ok_or("no pipeline runs")?;
        finished = job.wait_blocking().map_err(text)?.finished;
        if finished != abort.is_none() {
            return Err("it was to be killed in the middle, three times".to_owned());
        }
    }
    if !finished {
        return Err("the input does not end".to_owned());
    }
    let mut lines = String::new();
    for entry in std::fs::read_dir(&out).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            lines.push_str(&std::fs::read_to_string(path).map_err(|error| error.to_string())?);
        }
    }
    compare("killed three times", &exact, &windows_of(&lines)?)
}

fn replayed() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = folder.path();
    let (file, state) = (folder.join("readings.json"), folder.join("state"));
    write_readings(&file)?;
    let sql = format!("{} SET 'eagre.sql.approximate' = 'true'; {}", table(&file), query(TUMBLE));
    let state = state.display().to_string();
    let args = ["--state", &state, "--set", "eagre.step.rows_max=100", "--shards", "2", "-e", &sql];
    let Some(run) = on_device(&args)? else { return Ok(()) };
    let again = eagre(&["replay", "--state", &state, "--device", "gpu"]).ok()?;
    if !again.stderr.contains("`window_reduce` runs on") {
        return Err(format!("the replay does not say that it runs on the device: {}", again.stderr));
    }
    match windows_of(&run.stdout)? == windows_of(&again.stdout)? {
        true => Ok(()),
        false => Err("the replay has other bits".to_owned()),
    }
}

/// Equal queries are one operator, but not where a setting between them says otherwise.
fn by_statement() -> Result<(), String> {
    let session = Session::builder().set("eagre.device", "cpu").build().map_err(|error| error.to_string())?;
    let query = "SELECT SUM(v) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end";
    let text = format!(
        "CREATE TABLE t (v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen', 'number-of-rows' = '1');
         CREATE TABLE a (s DOUBLE) WITH ('connector' = 'blackhole');
         CREATE TABLE b (s DOUBLE) WITH ('connector' = 'blackhole');
         INSERT INTO a {query}; SET 'eagre.sql.approximate' = 'true'; INSERT INTO b {query}"
    );
    let job = session.prepare(&text).map_err(|error| error.to_string())?.job.ok_or("no pipeline runs")?;
    let count = |name: &str| job.graph.nodes.iter().filter(|node| node.name() == name).count();
    match (count("PartialAggregate"), count("WindowReduce")) {
        (1, 1) => Ok(()),
        (exact, kernel) => Err(format!("{exact} exact and {kernel} approximate")),
    }
}

/// Three operators that read the same rows, with five kernels: each step is one round trip to the device, not three.
fn shared() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("readings.json");
    write_readings(&file)?;
    let text = |error: eagre::Error| error.to_string();
    if on_device(&["-e", &format!("{}SELECT anomaly_score(`value`) OVER (ORDER BY ts) FROM reading", table(&file))])?
        .is_none()
    {
        return Ok(());
    }
    let sink =
        |name: &str| format!("CREATE TABLE {name} (s DOUBLE) WITH ('connector' = 'blackhole'); INSERT INTO {name}");
    let ewma = |partition: &str| {
        format!("anomaly_score(`value`, method => 'ewma') OVER (PARTITION BY {partition} ORDER BY ts)")
    };
    let sql = format!(
        "{} {} SELECT {} + anomaly_score(`value`, method => 'cusum') OVER (PARTITION BY sensor ORDER BY ts) FROM reading;
         {} SELECT {} FROM reading; {} SELECT SUM(`value`) + MIN(number) FROM TABLE({TUMBLE}) GROUP BY window_start, window_end, sensor",
        table(&file),
        sink("a"),
        ewma("sensor"),
        sink("b"),
        ewma("number % 7"),
        sink("c"),
    );
    let session = Session::builder()
        .set("eagre.device", "gpu")
        .set("eagre.sql.approximate", "true")
        .set("eagre.shards", "1")
        .set("eagre.step.rows_max", "100");
    let job = session.build().map_err(text)?.execute(&sql).map_err(text)?.job.ok_or("no pipeline runs")?;
    let metrics = job.metrics().cloned().ok_or("it has no metrics")?;
    job.wait_blocking().map_err(text)?;
    let (waves, batches, steps) = (metrics.device_waves.get(), metrics.device_batches.get(), metrics.steps.get());
    // Windows have their rows in the step that brings them, scores theirs when the watermark has passed them, in most steps some. An
    // operator of its own has two kernels at most.
    if waves < 20 || waves > steps || batches < 3 * waves {
        return Err(format!("{waves} waves with {batches} batches in {steps} steps"));
    }
    Ok(())
}

fn explained() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("readings.json");
    write_readings(&file)?;
    let sql = format!("{}EXPLAIN ANALYZE {}", table(&file), query(TUMBLE));
    let cpu = eagre(&["run", "--device", "cpu", "--set", APPROXIMATE, "-e", &sql]).ok()?.stdout;
    for expected in ["window_reduce of value as float on cpu: eagre.device says so", "window_reduce of number on cpu: "]
    {
        if !cpu.contains(expected) {
            return Err(format!("no `{expected}` in\n{cpu}"));
        }
    }
    let Some(device) = on_device(&["--set", APPROXIMATE, "-e", &sql])? else { return Ok(()) };
    for expected in ["window_reduce of value as float on ", "observed: ", "break-even batch"] {
        if !device.stdout.contains(expected) {
            return Err(format!("no `{expected}` in\n{}", device.stdout));
        }
    }
    Ok(())
}
