//! A source, bounded or not, is read by the step engine. DataFusion's executor serves a final `ORDER BY` and the tests' oracle, nothing else.
//!
//! Three looks at it: the rooms that move rows do not depend on DataFusion at all; in the others, only named files speak of its executor;
//! and in a running session every row of every kind of table has gone through the steps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use eagre::Session;
use eagre_sql::catalog::TableDefinition;
use libtest_mimic::Trial;

use crate::harness::folder;
use crate::source::TestSource;
use crate::value::{self, Value};

/// What code says that runs a DataFusion plan, or makes one that could be run.
const WORDS: &[&str] = &[
    "ExecutionPlan",
    "create_physical_plan",
    "execute_logical_plan",
    "execute_stream",
    "DefaultPhysicalPlanner",
    "PhysicalPlanner",
    "SessionContext",
    "SessionStateBuilder",
    "DataFrame",
    "TaskContext",
    "TableProvider ",
    "MemTable",
    "physical_plan::",
];
/// Where they may stand: the final sort, the oracle with what compares to it, and queries over rows that materialized views keep.
const ALLOWED: &[&str] = &[
    "sql/src/planner/final_sort.rs",
    "sql/src/planner/oracle.rs",
    "sql/src/planner/ad_hoc.rs",
    "eagre/src/views/table.rs",
    // What a `FORECAST` or a `MATCH_RECOGNIZE` in one of these reads: it is handed their session.
    "sql/src/planner/at_once.rs",
    "sql/src/functions/tests.rs",
    // Reads expressions that are texts.
    "sql/src/planner/tests/programs.rs",
    // Holds the registry of functions, for planning; nothing is executed in it.
    "sql/src/planner/context.rs",
];
/// Who may ask the oracle.
const ASKS_ORACLE: &[&str] = &["eagre/src/session/mod.rs", "sql/src/planner/"];

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn() -> Result<(), String>| {
        Trial::test(format!("no_execution_plan::{name}"), move || Ok(test()?))
    };
    vec![
        trial("engine_and_connectors_do_not_know_datafusion", dependencies),
        trial("only_named_files_speak_of_its_executor", words),
        trial("every_row_goes_through_the_steps", rows),
    ]
}

fn dependencies() -> Result<(), String> {
    let lock = std::fs::read_to_string(folder("../Cargo.lock")).map_err(|error| error.to_string())?;
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let line = package.lines().find(|line| line.starts_with("name = ")).ok_or("a package without a name")?;
        let name = line.split('"').nth(1).ok_or("a package without a name")?;
        let dependencies =
            package.split("dependencies = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("");
        let names = dependencies.split('"').skip(1).step_by(2).filter_map(|text| text.split(' ').next());
        needs.entry(name).or_default().extend(names);
    }
    for room in ["eagre-engine", "eagre-connectors", "eagre-datasets"] {
        if !needs.contains_key(room) {
            return Err(format!("`{room}` is not in Cargo.lock"));
        }
        let mut reached = BTreeSet::new();
        let mut todo = vec![room];
        while let Some(name) = todo.pop() {
            if reached.insert(name) {
                todo.extend(needs.get(name).into_iter().flatten());
            }
        }
        if let Some(name) = reached.iter().find(|name| name.starts_with("datafusion")) {
            return Err(format!("`{room}` depends on `{name}`: {reached:?}"));
        }
    }
    Ok(())
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => sources(&path, files),
            path if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            _ => {}
        }
    }
}

fn words() -> Result<(), String> {
    let root = folder("..");
    let mut files = Vec::new();
    for room in ["sql/src", "eagre/src", "engine/src", "connectors/src"] {
        sources(&root.join(room), &mut files);
    }
    if files.len() < 50 {
        return Err(format!("only {} source files were found", files.len()));
    }
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).map_err(|error| error.to_string())?.display().to_string();
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        let is_in = |places: &[&str]| places.iter().any(|place| name.starts_with(place));
        // The frame of polars has the name of DataFusion's; a file that has both is told too.
        let is_of_polars = text.contains("polars::") && !text.contains("datafusion");
        let runs = |line: &str| WORDS.iter().any(|word| line.contains(word) && !(is_of_polars && *word == "DataFrame"));
        for (index, line) in code {
            let runs_plans = runs(line) && !is_in(ALLOWED);
            let asks_oracle = line.contains("oracle::") && !is_in(ASKS_ORACLE);
            let is_engine = name.starts_with("engine/") || name.starts_with("connectors/");
            if runs_plans || asks_oracle || (is_engine && line.contains("datafusion::")) {
                found.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(format!("rows may only be moved by the step engine:\n{}", found.join("\n"))),
    }
}

fn rows() -> Result<(), String> {
    const ROWS: i64 = 1_000;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let lines: String = (0..ROWS).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    std::fs::write(folder.path().join("n.json"), lines).map_err(|error| error.to_string())?;
    let values: Vec<String> = (0..ROWS).map(|n| format!("({n})")).collect();
    let setup = format!(
        "CREATE TABLE file (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         CREATE TABLE made (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000000', 'fields.n.kind' = 'sequence',
           'fields.n.start' = '0', 'fields.n.end' = '{}');
         CREATE TABLE fixture (n BIGINT);
         INSERT INTO fixture VALUES {};",
        folder.path().join("n.json").display(),
        ROWS - 1,
        values.join(", ")
    );
    for table in ["code", "file", "made", "fixture"] {
        // Such that one would be tempted to let DataFusion run them.
        for (query, expected) in [
            (format!("SELECT n FROM {table} ORDER BY n DESC LIMIT 1"), ROWS - 1),
            (format!("SELECT SUM(n) FROM {table}"), ROWS * (ROWS - 1) / 2),
            (format!("SELECT MAX(n) FROM (SELECT DISTINCT n FROM {table}) AS d"), ROWS - 1),
        ] {
            let session = Session::builder()
                .set("eagre.step.rows_max", "100")
                .set("eagre.shards", "2")
                .build()
                .map_err(|error| error.to_string())?;
            let definition = TableDefinition::from_schema("code", &batch.schema());
            let source = Arc::new(TestSource::new(&batch, None, 64, true));
            session.register_source(definition, source).map_err(|error| error.to_string())?;
            session.execute(&setup).map_err(|error| error.to_string())?;
            let text = |error: eagre::Error| format!("{query}: {error}");
            let mut job =
                session.execute(&query).map_err(text)?.job.ok_or_else(|| format!("{query}: no pipeline ran"))?;
            let metrics = Arc::clone(job.metrics().ok_or("no metrics")?);
            let answer = job.take_results().remove(0).collect_blocking().map_err(text)?;
            let summary = job.wait_blocking().map_err(text)?;
            let cell = value::rows(&answer).first().and_then(|row| row.first().cloned());
            if cell != Value::exact(&expected.to_string()) {
                return Err(format!("{query}: {cell:?}, not {expected}"));
            }
            if summary.rows_read != ROWS as u64 || metrics.rows_read.get() != ROWS as u64 || summary.steps < 10 {
                return Err(format!(
                    "{query}: the engine read {} of {ROWS} rows in {} steps",
                    summary.rows_read, summary.steps
                ));
            }
        }
    }
    Ok(())
}
