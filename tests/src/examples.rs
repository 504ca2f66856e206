//! The worked examples of `examples/`, from their SQL files: they print what the guide says, on any number of shards, on the CPU and on a
//! device, killed and resumed; and what they find is as good as the guide says, for other seeds of the data, too.

use std::process::Stdio;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use eagre::Session;
use libtest_mimic::Trial;

use crate::guide::blocks;
use crate::harness::{Answer, Crash, Schedule, folder, run_all};
use crate::process::{command, ended};

struct Example {
    name: &'static str,
    /// Its results are so many tables of rows at the end of what it prints; what comes before is of statements that run no pipeline.
    results: usize,
    /// Where the seed of its data is put.
    connector: &'static str,
    /// What is wrong with these results, of another seed.
    judge: fn(&[Answer]) -> Result<(), String>,
}

const EXAMPLES: &[Example] = &[
    Example { name: "fraud", results: 3, connector: "'connector' = 'payments'", judge: fraud },
    Example { name: "maintenance", results: 2, connector: "'connector' = 'telemetry'", judge: maintenance },
    Example { name: "webshop", results: 3, connector: "'connector' = 'webshop'", judge: webshop },
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![];
    for example in EXAMPLES {
        let name = |what: &str| format!("examples::{}::{what}", example.name);
        trials.push(Trial::test(name("prints_what_the_guide_says"), || Ok(as_in_the_guide(example)?)));
        trials.push(Trial::test(name("killed_on_the_cpu"), || Ok(killed(example, "cpu", 3, 1)?)));
        trials.push(Trial::test(name("killed_on_a_device"), || Ok(killed(example, "gpu", 1, 3)?)));
        trials.push(Trial::test(name("is_good_on_another_seed"), || Ok(another_seed(example)?)));
    }
    trials.push(Trial::test("examples::fraud::the_score_tells_haste_from_habit", || Ok(without_the_score()?)));
    trials
}

fn sql(example: &Example) -> Result<String, String> {
    let path = folder("../examples").join(format!("{}.sql", example.name));
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The statements of the guide's section about an example, and what it prints.
fn guide(example: &Example) -> Result<(String, String), String> {
    let path = folder("../docs/examples.md");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let begins = format!("eagre run examples/{}.sql\n", example.name);
    let mut blocks = blocks(&text).into_iter().skip_while(|block| block.text != begins);
    blocks.next().ok_or(format!("the guide has no block `{begins}`"))?;
    let (mut statements, mut printed) = (String::new(), String::new());
    for block in blocks.take_while(|block| block.language != "sh") {
        match block.language.as_str() {
            "sql" => statements.push_str(&block.text),
            _ => printed.push_str(&block.text),
        }
    }
    Ok((statements, printed))
}

/// Without comments and empty lines.
fn code(sql: &str) -> Vec<&str> {
    sql.lines().filter(|line| !line.is_empty() && !line.starts_with("--")).collect()
}

fn first_difference(one: &[&str], other: &[&str]) -> Option<String> {
    let at = (0..one.len().max(other.len())).find(|&line| one.get(line) != other.get(line))?;
    Some(format!("{:?}\nand not\n{:?}", one.get(at), other.get(at)))
}

/// As a reader runs it, from the root of the repository.
fn as_in_the_guide(example: &Example) -> Result<(), String> {
    let (statements, printed) = guide(example)?;
    if let Some(difference) = first_difference(&code(&statements), &code(&sql(example)?)) {
        return Err(format!("the guide says\n{difference}"));
    }
    let path = format!("examples/{}.sql", example.name);
    let ended = ended(command(&["run", &path]).current_dir(folder("..")).stdin(Stdio::null())).ok()?;
    match ended.stdout == printed {
        true => Ok(()),
        false => Err(format!("it prints\n{}and not\n{printed}", ended.stdout)),
    }
}

/// The same tables, though the process vanishes, twice, and goes on elsewhere.
fn killed(example: &Example, device: &str, before: u64, after: u64) -> Result<(), String> {
    let (_, printed) = guide(example)?;
    let crash = |after_step, shards| Crash { after_step, shards };
    let schedule = Schedule {
        shards: before,
        rows_max: 9_000,
        crashes: vec![crash(4, after), crash(9, before)],
        checkpoint_steps: 3,
    };
    let scene = |_: &Session| Ok(());
    let text = format!("SET 'eagre.device' = '{device}'; {}", sql(example)?);
    let answers = match run_all(&schedule, &scene, &text) {
        Ok(answers) => answers,
        Err(error) if device == "gpu" && error.to_string().contains("there is none to use") => {
            if std::env::var("EAGRE_REQUIRE_GPU").is_ok_and(|value| !value.is_empty() && value != "0") {
                return Err(format!("EAGRE_REQUIRE_GPU is set, and {error}"));
            }
            eprintln!("SKIPPED, needs a device: {error}");
            return Ok(());
        }
        Err(error) => return Err(format!("{schedule}: {error}")),
    };
    let steps = answers.first().and_then(|answer| answer.summary.as_ref()).map_or(0, |summary| summary.steps);
    if steps < 12 {
        return Err(format!("it takes {steps} steps, so it was not killed twice"));
    }
    let tables = answers.iter().map(table).collect::<Result<Vec<_>, _>>()?.concat();
    match answers.len() == example.results && printed.ends_with(&tables) {
        true => Ok(()),
        false => Err(format!("{schedule}, on {device}: it gives\n{tables}and not\n{printed}")),
    }
}

/// As the command prints it.
fn table(answer: &Answer) -> Result<String, String> {
    let batches: Vec<RecordBatch> = match answer.batches.is_empty() {
        true => vec![RecordBatch::new_empty(Arc::clone(&answer.schema))],
        false => answer.batches.clone(),
    };
    let options = FormatOptions::default().with_null("NULL").with_display_error(true);
    let text = pretty_format_batches_with_options(&batches, &options).map_err(|error| error.to_string())?;
    Ok(format!("{text}\n"))
}

/// The answers of an example whose text was changed.
fn answers(example: &Example, from: &str, to: &str) -> Result<Vec<Answer>, String> {
    let sql = sql(example)?;
    let changed = sql.replace(from, to);
    if changed == sql {
        return Err(format!("`{from}` is not in the example"));
    }
    run_all(&Schedule::calm(1, 65_536), &|_: &Session| Ok(()), &changed).map_err(|error| error.to_string())
}

/// What an example finds is no accident of its data.
fn another_seed(example: &Example) -> Result<(), String> {
    for seed in ["1", "2"] {
        let found = answers(example, example.connector, &format!("{}, 'seed' = '{seed}'", example.connector))?;
        (example.judge)(&found).map_err(|error| format!("seed {seed}: {error}"))?;
    }
    Ok(())
}

/// A column of numbers.
fn numbers(answer: &Answer, column: &str) -> Result<Vec<f64>, String> {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Float64Type};
    let mut numbers = vec![];
    for batch in &answer.batches {
        let found = batch.column_by_name(column).ok_or(format!("there is no column `{column}`"))?;
        let found = arrow::compute::cast(found, &DataType::Float64).map_err(|error| error.to_string())?;
        numbers.extend(found.as_primitive::<Float64Type>().iter().map(|number| number.unwrap_or(f64::NAN)));
    }
    Ok(numbers)
}

fn number(answer: &Answer, column: &str) -> Result<f64, String> {
    match numbers(answer, column)?.as_slice() {
        [number] => Ok(*number),
        numbers => Err(format!("`{column}` is {numbers:?}, one number is needed")),
    }
}

fn at_least(what: &str, number: f64, least: f64) -> Result<(), String> {
    if number >= least { Ok(()) } else { Err(format!("{what} is {number}, less than {least}")) }
}

fn fraud(answers: &[Answer]) -> Result<(), String> {
    let [_, kinds, all] = answers else { return Err("three tables are needed".to_owned()) };
    let (episodes, found) = (numbers(kinds, "episodes")?, numbers(kinds, "found")?);
    if episodes.len() != 4 || episodes.iter().any(|&count| count < 30.0) {
        return Err(format!("the kinds of fraud have {episodes:?} episodes"));
    }
    at_least("recall", found.iter().sum::<f64>() / episodes.iter().sum::<f64>(), 0.88)?;
    for recall in numbers(kinds, "recall")? {
        at_least("recall of a kind", recall, 0.75)?;
    }
    at_least("precision", number(all, "precision")?, 0.93)
}

fn maintenance(answers: &[Answer]) -> Result<(), String> {
    let [_, all] = answers else { return Err("two tables are needed".to_owned()) };
    let stops = number(all, "stops")?;
    at_least("stops", stops, 8.0)?;
    at_least("share of stops with an event before", number(all, "warned_before")? / stops, 0.95)?;
    at_least("median hours from event to stop", number(all, "lead_hours_median")?, 12.0)?;
    at_least("least hours from event to stop", number(all, "lead_hours_least")?, 8.0)?;
    at_least("share of events that are right", 1.0 - number(all, "false_events")? / number(all, "events")?, 0.85)
}

fn webshop(answers: &[Answer]) -> Result<(), String> {
    let [_, letters, all] = answers else { return Err("three tables are needed".to_owned()) };
    at_least("accuracy", number(all, "accuracy")?, 0.76)?;
    at_least("accuracy beside the most frequent", number(all, "accuracy")? - number(all, "most_frequent")?, 0.3)?;
    match numbers(letters, "who_hesitates")?.as_slice() {
        // By worth, by price, as they come.
        [worth, price, time] => {
            at_least("hesitating owners on the list", *worth, 80.0)?;
            at_least("more of them than by price", worth - price, 10.0)?;
            at_least("more of them than as they come", worth - time, 30.0)
        }
        found => Err(format!("three lists are needed: {found:?}")),
    }
}

/// What the guide says of the rule without its score: bursts are mostly habits.
fn without_the_score() -> Result<(), String> {
    let found = answers(&EXAMPLES[0], " AND pace.p_value < 0.05", "")?;
    let precision = found.last().map(|all| number(all, "precision")).ok_or("no answer")??;
    if precision < 0.35 { Ok(()) } else { Err(format!("without the score, precision is {precision}")) }
}
