//! A rule book over one stream, on the CPU and on a device: matches are those of each rule alone, wherever it is looked ahead for them, and
//! whatever happens to the device or the process in between. As for scores, trials on a device are skipped where there is none.

use std::path::Path;

use libtest_mimic::Trial;

use crate::harness::{Random, run_killed, seed};
use crate::process::{eagre, visible_lines};
use crate::scores::{on_device, write_in_order};

const EVENTS: usize = 1_500;
const CARDS: u64 = 7;

pub(super) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn() -> Result<(), String>| {
        Trial::test(format!("match_recognize::rule_book::{name}"), move || Ok(test()?))
    };
    vec![
        trial("device_equals_cpu_equals_each_alone", device_equals_cpu),
        trial("random_rules_are_the_same_on_the_device", random_rules),
        trial("killed_with_the_operator_on_the_device", killed),
        trial("a_replay_looks_ahead_where_the_run_did", replayed),
        trial("a_device_without_memory_loses_nothing", without_memory),
        trial("explain_says_where_and_why", explained),
    ]
}

/// Events of a few cards: of four kinds, in runs; in disorder of a few seconds.
fn write_events(file: &Path) -> Result<(), String> {
    let mut random = Random::named("rule_book::events");
    let mut rows: Vec<(u64, String)> = Vec::new();
    let mut kind = 0;
    for id in 0..EVENTS {
        let second = id as u64 / 3;
        if random.between(0, 2) > 0 {
            kind = random.between(0, 3) as usize;
        }
        let (card, amount) = (random.between(0, CARDS - 1), random.between(0, 999));
        let (kind, time) = (["a", "b", "c", "d"][kind], format!("2024-01-01 00:{:02}:{:02}", second / 60, second % 60));
        let line = format!("{{\"id\":{id},\"card\":{card},\"ts\":\"{time}\",\"kind\":\"{kind}\",\"amount\":{amount}}}");
        rows.push((second * 10 + random.between(0, 40), line));
    }
    write_in_order(file, rows)
}

fn table(file: &Path) -> String {
    format!(
        "CREATE TABLE payment (id INT, card INT, ts TIMESTAMP(3), kind STRING, amount INT, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');",
        file.display()
    )
}

/// What is looked for: the pattern with what comes before and after it, and its conditions. The last ones look for themselves: they have a
/// condition on the match, look at where a partition begins, or have too many states.
const RULES: [(&str, &str); 12] = [
    ("PATTERN (A{2,} B) WITHIN INTERVAL '2' MINUTE", "A AS kind = 'a', B AS kind = 'b'"),
    ("PATTERN (A+ B)", "A AS kind = 'a' AND amount < 700, B AS amount > 800"),
    ("PATTERN ((A B)+ C)", "A AS kind IN ('a', 'b'), B AS amount < 600, C AS kind = 'c'"),
    ("PATTERN (A B? C | C A)", "A AS kind = 'a', B AS kind = 'b', C AS kind = 'c'"),
    ("PATTERN (PERMUTE(A, B, C))", "A AS kind = 'a', B AS kind = 'b', C AS kind = 'c'"),
    ("AFTER MATCH SKIP TO NEXT ROW PATTERN (A B+ C)", "A AS kind = 'a', B AS amount < 500, C AS kind = 'c'"),
    (
        "PATTERN (A X*? C) WITHIN INTERVAL '1' MINUTE",
        "A AS kind = 'a' AND amount > 900, C AS kind = 'c' AND amount > 900",
    ),
    ("PATTERN (A UP{2,3} C)", "UP AS amount > PREV(amount), C AS kind = 'd'"),
    ("PATTERN (A (B | C A)* D{2})", "A AS kind = 'a', B AS kind = 'b', C AS kind = 'c', D AS kind = 'd'"),
    ("PATTERN (A B+ C)", "A AS kind = 'a', B AS SUM(B.amount) < 900, C AS kind = 'c'"),
    ("PATTERN (^ A B)", "B AS amount > 100"),
    ("PATTERN (A{35,} B)", "A AS amount < 995, B AS amount >= 900"),
];

fn rule(number: usize, (pattern, conditions): (&str, &str)) -> String {
    format!(
        "SELECT CAST({number} AS INT) AS rule, card, first_id, last_id, n FROM payment MATCH_RECOGNIZE (PARTITION BY card ORDER BY ts, id \
         MEASURES FIRST(id) AS first_id, LAST(id) AS last_id, COUNT(*) AS n ONE ROW PER MATCH {pattern} DEFINE {conditions})"
    )
}

fn rule_book(rules: &[(&str, &str)]) -> String {
    let rules = rules.iter().enumerate().map(|(number, text)| rule(number, *text));
    rules.collect::<Vec<_>>().join(" UNION ALL ")
}

/// The matches, sorted.
fn matches(lines: &str) -> Result<Vec<[i64; 5]>, String> {
    let mut matches = Vec::new();
    for line in lines.lines() {
        let row: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        // A replay says more of each row.
        let row = row.get("row").unwrap_or(&row);
        let number = |name: &str| row[name].as_i64().ok_or(line);
        matches.push([number("rule")?, number("card")?, number("first_id")?, number("last_id")?, number("n")?]);
    }
    matches.sort_unstable();
    Ok(matches)
}

fn on_cpu(args: &[&str]) -> Result<Vec<[i64; 5]>, String> {
    matches(&eagre(&[&["run", "--device", "cpu", "--format", "ndjson"], args].concat()).ok()?.stdout)
}

/// The device was used for as long as the run took.
fn stayed(stderr: &str) -> Result<(), String> {
    match stderr.contains("`pattern_starts` runs on") && !stderr.contains("continues on the CPU") {
        true => Ok(()),
        false => Err(format!("the look-ahead did not run on the device: {stderr}")),
    }
}

fn same(what: &str, expected: &[[i64; 5]], got: &[[i64; 5]]) -> Result<(), String> {
    if expected == got {
        return Ok(());
    }
    let lost = expected.iter().find(|row| !got.contains(row));
    let more = got.iter().find(|row| !expected.contains(row));
    Err(format!("{what}: {} matches, not {}; {lost:?} is missing, {more:?} is too many", got.len(), expected.len()))
}

fn device_equals_cpu() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("payments.json");
    write_events(&file)?;
    let sql = format!("{}{}", table(&file), rule_book(&RULES));
    let cpu = on_cpu(&["-e", &sql])?;
    for (number, text) in RULES.iter().enumerate() {
        let alone = on_cpu(&["-e", &format!("{}{}", table(&file), rule(number, *text))])?;
        let together: Vec<_> = cpu.iter().filter(|row| row[0] == number as i64).copied().collect();
        same(&format!("rule {number} together with others"), &alone, &together)?;
        if number < 10 && alone.len() < 3 {
            return Err(format!("rule {number} has {} matches, which says nothing", alone.len()));
        }
    }
    // As it comes, and in small steps on two shards.
    let small = ["--shards", "2", "--set", "eagre.step.rows_max=37", "-e", &sql];
    same("small steps", &cpu, &on_cpu(&small)?)?;
    for args in [&["-e", sql.as_str()][..], &small] {
        let Some(device) = on_device(args)? else { return Ok(()) };
        stayed(&device.stderr)?;
        same("device", &cpu, &matches(&device.stdout)?)?;
    }
    Ok(())
}

/// A pattern of three variables with quantifiers, alternations and groups.
fn random_pattern(random: &mut Random, depth: u32) -> String {
    match random.between(0, if depth == 0 { 2 } else { 6 }) {
        0..=2 => {
            let quantifier = ["", "", "", "+", "*", "?", "{2}", "{2,}", "{1,3}", "+?"][random.between(0, 9) as usize];
            format!("{}{quantifier}", ["A", "B", "C"][random.between(0, 2) as usize])
        }
        3 | 4 => format!("{} {}", random_pattern(random, depth - 1), random_pattern(random, depth - 1)),
        5 => format!("({} | {})", random_pattern(random, depth - 1), random_pattern(random, depth - 1)),
        _ => {
            let quantifier = ["+", "*", "{2}", "{2,}"][random.between(0, 3) as usize];
            format!("({}){quantifier}", random_pattern(random, depth - 1))
        }
    }
}

fn random_rules() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("payments.json");
    write_events(&file)?;
    let mut random = Random::named("rule_book::rules");
    let rules: Vec<(String, String)> = (0..24)
        .map(|_| {
            let within = ["", " WITHIN INTERVAL '30' SECOND"][random.between(0, 1) as usize];
            let skip = ["", "AFTER MATCH SKIP TO NEXT ROW "][random.between(0, 1) as usize];
            let pattern = format!("{} C", random_pattern(&mut random, 3));
            let bounds = [0; 3].map(|_| random.between(0, 9) * 100);
            let conditions = [
                format!("A AS kind = 'a' OR amount > {}", bounds[0]),
                format!("B AS amount < {}", bounds[1]),
                format!("C AS kind = 'c' AND amount > {}", bounds[2]),
            ];
            // Only variables that the pattern has can be defined.
            let named = conditions.into_iter().filter(|condition| pattern.contains(&condition[..1]));
            let named: Vec<String> = named.collect();
            (format!("{skip}PATTERN ({pattern}){within}"), named.join(", "))
        })
        .collect();
    let texts: Vec<(&str, &str)> = rules.iter().map(|(pattern, rest)| (pattern.as_str(), rest.as_str())).collect();
    let sql = format!("{}{}", table(&file), rule_book(&texts));
    let cpu = on_cpu(&["-e", &sql])?;
    for (number, text) in texts.iter().enumerate() {
        let alone = on_cpu(&["-e", &format!("{}{}", table(&file), rule(number, *text))])?;
        let together: Vec<_> = cpu.iter().filter(|row| row[0] == number as i64).copied().collect();
        same(&format!("{text:?} together with others (seed {})", seed()), &alone, &together)?;
    }
    let size = format!("eagre.step.rows_max={}", random.between(20, 400));
    let Some(device) = on_device(&["--shards", "2", "--set", &size, "-e", &sql])? else { return Ok(()) };
    stayed(&device.stderr)?;
    same(&format!("{texts:?} on the device (seed {})", seed()), &cpu, &matches(&device.stdout)?)
}

/// The file is whole, although the process was killed again and again, at other numbers of shards.
fn killed() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = folder.path();
    let file = folder.join("payments.json");
    write_events(&file)?;
    let sql = format!("{}{}", table(&file), rule_book(&RULES));
    let cpu = on_cpu(&["-e", &sql])?;
    if on_device(&["-e", &sql])?.is_none() {
        return Ok(());
    }
    let out = folder.join("out");
    let sink = format!(
        "{} CREATE TABLE alarm (rule INT, card INT, first_id INT, last_id INT, n BIGINT)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json'); INSERT INTO alarm {}",
        table(&file),
        out.display(),
        rule_book(&RULES)
    );
    let state = folder.join("state").display().to_string();
    let settings = [("eagre.device", "gpu"), ("eagre.step.rows_max", "60"), ("eagre.checkpoint.steps", "2")];
    run_killed(&sink, &state, &settings, &[(1u64, Some(4)), (2, Some(9)), (1, Some(15)), (3, None)])?;
    let published = matches(&visible_lines(&out).join("\n"))?;
    same("killed and resumed", &cpu, &published)?;
    // At the last number of shards, on the device from the beginning, and without it.
    for device in ["gpu", "cpu"] {
        let again = eagre(&["replay", "--state", &state, "--device", device]).ok()?;
        same(&format!("a replay on {device}"), &published, &matches(&again.stdout)?)?;
    }
    Ok(())
}

fn replayed() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (file, state) = (folder.path().join("payments.json"), folder.path().join("state"));
    write_events(&file)?;
    let sql = format!("{}{}", table(&file), rule_book(&RULES));
    let state = state.display().to_string();
    let args = ["--state", &state, "--set", "eagre.step.rows_max=100", "--shards", "2", "-e", &sql];
    let Some(run) = on_device(&args)? else { return Ok(()) };
    stayed(&run.stderr)?;
    let again = eagre(&["replay", "--state", &state, "--device", "gpu"]).ok()?;
    stayed(&again.stderr)?;
    let first = matches(&run.stdout)?;
    same("a replay", &first, &matches(&again.stdout)?)?;
    // Without a device it is told that there is none; the matches are the same.
    let without = eagre(&["replay", "--state", &state, "--device", "cpu"]).ok()?;
    if !without.stderr.contains("`pattern_starts` ran on a device in the recorded run") {
        return Err(format!("nothing is told of the device that is not there: {}", without.stderr));
    }
    same("a replay without device", &first, &matches(&without.stdout)?)
}

/// A device that refuses every batch: the twin does it, and that is told.
fn without_memory() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("payments.json");
    write_events(&file)?;
    let sql = format!("{}{}", table(&file), rule_book(&RULES));
    let cpu = on_cpu(&["-e", &sql])?;
    if on_device(&["-e", &sql])?.is_none() {
        return Ok(());
    }
    // What a device takes before the first batch, so that it is opened, and no more.
    let mut told = String::new();
    for kilobytes in [640, 704, 768, 576, 832] {
        let memory = format!("eagre.gpu.memory={kilobytes}KB");
        let run = eagre(&["run", "--device", "gpu", "--format", "ndjson", "--set", &memory, "-e", &sql]);
        if run.code == Some(0) && run.stderr.contains("`pattern_starts` continues on the CPU") {
            return same("without memory", &cpu, &matches(&run.stdout)?);
        }
        told.push_str(&run.stderr);
    }
    Err(format!("no batch was refused for want of memory: {told}"))
}

fn explained() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("payments.json");
    write_events(&file)?;
    let (table, book) = (table(&file), rule_book(&RULES));
    let run = |args: &[&str], explain: &str| {
        let sql = format!("{table}{explain} {book}");
        Ok::<_, String>(eagre(&[&["run"], args, &["-e", &sql]].concat()).ok()?.stdout)
    };
    let has = |text: &str, expected: &str| match text.contains(expected) {
        true => Ok(()),
        false => Err(format!("no `{expected}` in\n{text}")),
    };
    // The nine that can be looked ahead for.
    has(&run(&["--device", "cpu"], "EXPLAIN ANALYZE")?, "look-ahead of 9 patterns on cpu: eagre.device says so")?;
    has(&run(&[], "EXPLAIN ANALYZE")?, "look-ahead of 9 patterns on ")?;
    let alone = format!("{table}EXPLAIN ANALYZE {}", rule(0, RULES[0]));
    let alone = eagre(&["run", "--device", "cpu", "-e", &alone]).ok()?.stdout;
    if alone.contains("look-ahead") {
        return Err(format!("a pattern alone has no kernel that is placed:\n{alone}"));
    }
    let sql = format!("{table}EXPLAIN ANALYZE {book}");
    let Some(device) = on_device(&["-e", &sql])? else { return Ok(()) };
    for expected in ["look-ahead of 9 patterns on gpu: eagre.device says so", "observed: ", "break-even batch"] {
        has(&device.stdout, expected)?;
    }
    Ok(())
}
