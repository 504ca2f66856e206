//! What the command measures: benchmarks of queries, patterns and kernels, and the adapters that there are.

use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::process::{Pipeline, eagre};

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("command::{name}"), move || Ok(test()?));
    vec![
        trial("bench_refuses_what_it_does_not_know", bench_refuses),
        trial("bench_checks_answers_and_writes_reports", bench_reports),
        trial("bench_runs_over_files_of_others", bench_files),
        trial("each_nexmark_query_gives_the_right_answer", bench_answers),
        trial("bench_of_patterns_checks_answers_and_writes_reports", bench_patterns),
        trial("kernels_are_measured_and_reported", bench_kernels),
        trial("bench_kernels_refuses_what_it_does_not_know", bench_kernels_refuses),
        trial("adapters_are_shown", adapters),
    ]
}

fn bench_refuses() -> Result<(), String> {
    for (args, code, texts) in [
        (&["--queries", "q99"][..], 1, &["there is no query `q99`", "q22", "`extra`"][..]),
        (&["--source", "kafka"], 1, &["there is no source `kafka`", "generator-pushdown", "`parquet DIR`"]),
        (&["--source", "parquet"], 1, &["--source parquet DIR", "bid.parquet"]),
        (&["--source", "memory", "dir"], 1, &["--source memory takes no folder", "`dir`"]),
        (&["--source", "memory,parquet", "dir"], 1, &["give `--source parquet DIR` alone"]),
        (
            &["--queries", "q0", "--source", "parquet", "no/such"],
            1,
            &["`no/such` holds neither the file `person.parquet` nor a folder"],
        ),
        (&["--report", "figures.txt"], 1, &["`figures.txt` ends in none of .json, .md and .html"]),
        (&["--shards", "1,0"], 1, &["--shards takes whole numbers of at least 1", "`1,0`"]),
        (&["--rows-per-step", "many"], 1, &["--rows-per-step takes whole numbers", "`many`"]),
        (&["--events", "ten"], 2, &["`ten` is no count like 500k or 10M"]),
        (&["--rate-seconds", "0"], 2, &["--rate-seconds"]),
        (&["--sink", "kafka"], 2, &["hash", "blackhole"]),
        (&["--queries", "q0", "--events", "1k", "--device", "tpu"], 1, &["`eagre.device` cannot be 'tpu'"]),
    ] {
        eagre(&[&["bench", "nexmark"], args].concat()).says(code, texts)?;
    }
    for (args, code, texts) in [
        (&["--queries", "w"][..], 1, &["there is no query `w`", "v, fraud", "`all`"][..]),
        (&["--keys", "0"], 1, &["--keys takes whole numbers of at least 1", "`0`"]),
        (&["--patterns", "some"], 1, &["--patterns takes whole numbers", "`some`"]),
        (&["--report", "figures"], 1, &["`figures` ends in none of .json, .md and .html"]),
        (&["--disorder", "1001"], 2, &["--disorder"]),
    ] {
        eagre(&[&["bench", "cep"], args].concat()).says(code, texts)?;
    }
    Ok(())
}

/// Every query's answer is that of a plain program, with one key and with more keys than events.
fn bench_patterns() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let (json, html, markdown) = (pipeline.path("out.json"), pipeline.path("out.html"), pipeline.path("out.md"));
    let reports = ["--report", &json, "--report", &html, "--report", &markdown];
    let args = ["bench", "cep", "--keys", "1,100,1k,1M", "--patterns", "1,20", "--events", "10k"];
    let ended = eagre(&[&args[..], &reports].concat()).ok()?;
    let lines = ended.stdout.lines().filter(|line| line.ends_with(" ok")).count();
    if lines != 44 {
        return Err(format!("{lines} right answers and not 44:\n{}", ended.stdout));
    }
    let text = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let report: serde_json::Value = serde_json::from_str(&text(&json)?).map_err(|error| error.to_string())?;
    for figure in report["figures"].as_array().ok_or("no figures")? {
        let matches = figure["rows_out"].as_u64();
        let few_keys = figure["keys"].as_u64() < Some(1_000_000);
        if figure["rows"].as_u64() != Some(10_000) || matches.is_none() || (few_keys && matches == Some(0)) {
            return Err(format!("not all was read, or nothing found: {figure}"));
        }
        let peer = figure["times_peer"]["Flink"].as_f64().is_some_and(|times| times > 0.0);
        let measured = ["v", "fraud"].iter().any(|name| figure["query"] == *name) && figure["keys"] == 1_000;
        if peer != measured {
            return Err(format!("a peer beside what it was not measured with, or none beside what it was: {figure}"));
        }
    }
    let (html, markdown) = (text(&html)?, text(&markdown)?);
    match html.contains("<title>rules:20/1k eagre") && markdown.contains("| rules | 1k | 20 | 1 | hash | 10000 |") {
        true => Ok(()),
        false => Err(format!("a report lacks something:\n{markdown}\n{html}")),
    }
}

/// A twin at two sizes; what a device does is tested beside the kernels.
fn bench_kernels() -> Result<(), String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let file = |end: &str| folder.path().join(format!("kernels.{end}")).display().to_string();
    let (json, html) = (file("json"), file("html"));
    let args = [
        "bench",
        "kernels",
        "--device",
        "cpu",
        "--kernels",
        "recurrence_scan",
        "--rows",
        "500,2k",
        "--seconds",
        "0.01",
    ];
    let ended = eagre(&[&args[..], &["--report", &json, "--report", &html]].concat()).ok()?;
    let lines = ended.stdout.lines().filter(|line| line.starts_with("recurrence_scan ")).count();
    let report: serde_json::Value = std::fs::read(&json)
        .map_err(|error| error.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))?;
    let point = &report["cases"][0]["points"][1];
    let page = std::fs::read_to_string(&html).map_err(|error| error.to_string())?;
    match lines == 2
        && point["rows"] == 2000
        && point["twin"][0]["events_per_s"].as_f64().is_some_and(|rate| rate > 0.0)
        && report["command"].as_str().is_some_and(|command| command.contains("bench kernels --device cpu"))
        && page.contains("<polyline")
    {
        true => Ok(()),
        false => Err(format!("{}\n{report:#}\n{page}", ended.stdout)),
    }
}

fn bench_kernels_refuses() -> Result<(), String> {
    for (args, texts) in [
        (
            &["--kernels", "recurence_scan"][..],
            &["there is no kernel `recurence_scan`", "did you mean `recurrence_scan`?"][..],
        ),
        (&["--device", "tpu"], &["there is no device `tpu`", "cpu,gpu"]),
        (&["--rows", "some"], &["--rows: `some`", "1k..16M"]),
        (&["--report", "kernels.txt"], &["`kernels.txt` ends in none of .json, .md and .html"]),
        (&["--seconds", "0"], &["--seconds: `0`"]),
        (&["--batch-seconds", "long"], &["--batch-seconds: `long`"]),
    ] {
        eagre(&[&["bench", "kernels"], args].concat()).says(2, texts)?;
    }
    Ok(())
}

/// With or without a GPU the command says what there is; an adapter that is not there is an error.
fn adapters() -> Result<(), String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let file = folder.path().join("calibration.json").display().to_string();
    let shown = eagre(&["gpu", "--seconds", "0.01", "--calibration", &file]).ok()?.stdout;
    if !["no adapter", "round trip", "no feature `gpu`"].iter().any(|text| shown.contains(text)) {
        return Err(shown);
    }
    let json = eagre(&["gpu", "--seconds", "0.01", "--calibration", &file, "--json"]).ok()?.stdout;
    let found: serde_json::Value = serde_json::from_str(&json).map_err(|error| format!("{error}: {json}"))?;
    if !found["adapters"].is_array() {
        return Err(json);
    }
    eagre(&["gpu", "--adapter", "no such card"]).says(1, &["is not there"])
}

fn bench_reports() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let (json, html, markdown) = (pipeline.path("out.json"), pipeline.path("out.html"), pipeline.path("out.md"));
    let state = pipeline.path("bench-state");
    let ended = eagre(&[
        "bench",
        "nexmark",
        "--queries",
        "q0,q10,q12,q17,tumble10k",
        "--events",
        "10k",
        "--source",
        "memory,generator",
        "--rate",
        "100k",
        "--rate-seconds",
        "1",
        "--state",
        &state,
        "--report",
        &json,
        "--report",
        &html,
        "--report",
        &markdown,
    ])
    .ok()?;
    // Keyed rows lie in memory whatever the source is.
    let lines = ended.stdout.lines().filter(|line| line.ends_with(" ok")).count();
    if lines != 9 {
        return Err(format!("{lines} right answers and not 9:\n{}", ended.stdout));
    }
    let text = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let report: serde_json::Value = serde_json::from_str(&text(&json)?).map_err(|error| error.to_string())?;
    let figures = report["figures"].as_array().ok_or("no figures")?;
    for figure in figures {
        let keyed = figure["query"] == "tumble10k";
        let events = figure["events"].as_u64();
        let (rows, wanted) = (figure["rows"].as_u64(), if keyed { 10_000 } else { 9_200 });
        if events != Some(10_000) || rows != Some(wanted) || figure["checkpoints"]["count"].as_u64() < Some(1) {
            return Err(format!("not all was read or nothing was saved: {figure}"));
        }
        if !keyed && figure["latency"]["events"].as_u64() != Some(9_200) {
            return Err(format!("the latency of some bids is missing: {figure}"));
        }
        if !keyed && figure["times_peer"]["Flink"].as_f64().is_none_or(|times| times <= 0.0) {
            return Err(format!("no peer beside it: {figure}"));
        }
    }
    let (html, markdown) = (text(&html)?, text(&markdown)?);
    match html.contains("<svg") && html.ends_with("</html>\n") && markdown.contains("| q17 | generator | hash |") {
        true => Ok(()),
        false => Err(format!("a report lacks something:\n{markdown}\n{html}")),
    }
}

/// All queries over events of which many share a time, beside plain Rust or DataFusion's batch answer.
fn bench_answers() -> Result<(), String> {
    let ended = eagre(&["bench", "nexmark", "--queries", "all", "--events", "50k", "--verify"]).ok()?;
    match ended.stdout.lines().filter(|line| line.ends_with(" ok")).count() {
        23 => Ok(()),
        right => Err(format!("{right} right answers and not 23:\n{}", ended.stdout)),
    }
}

fn bench_files() -> Result<(), String> {
    let pipeline = Pipeline::new();
    let folder = pipeline.path("events");
    for table in ["person", "auction", "bid"] {
        let sql = format!(
            "CREATE TABLE {table} WITH ('connector' = 'nexmark', 'events.num' = '5000');
             CREATE TABLE out WITH ('connector' = 'filesystem', 'format' = 'parquet', 'path' = '{folder}/{table}') AS SELECT * FROM {table}"
        );
        eagre(&["run", "-e", &sql]).ok()?;
    }
    let ended = eagre(&["bench", "nexmark", "--queries", "q1,q17", "--source", "parquet", &folder]).ok()?;
    let right = |line: &&str| line.contains(" parquet ") && line.contains(" 5000 ") && line.ends_with(" ok");
    match ended.stdout.lines().filter(right).count() {
        2 => Ok(()),
        _ => Err(format!("all events of the files and a right answer, twice:\n{}", ended.stdout)),
    }
}
