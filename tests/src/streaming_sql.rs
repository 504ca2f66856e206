//! Other engines' own test cases: input rows, a query, the result that those engines state. `cases/streaming_sql/README.md` says where
//! they are from and how they are written.
//!
//! A case gives the stated result under every schedule, or it is refused before it runs, by name and place. `refused.txt` lists the
//! refused ones, so that nothing falls back into being refused, and nothing that starts to work stays unnoticed.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use eagre::Session;
use eagre_sql::catalog::TableDefinition;
use eagre_sql::error::{Location, SqlError};
use eagre_sql::parser::{TableOption, parse_type};
use libtest_mimic::Trial;
use serde_json::{Map, Value as Json};

use crate::harness::{Answer, Random, Schedule, folder, run, run_open, seed};
use crate::source::TestSource;
use crate::value::{self, Row, Value};

/// DOUBLE results may differ by this much, relatively.
const TOLERANCE: f64 = 1e-6;
/// Cases whose stated rows are those of an engine that means something else, with the rows worked out by hand, and why.
const WORKED_OUT: &[(&str, &str, &str)] = &[(
    "fe_asof_window_function_subquery",
    "[[1, 10, 17.5, 5], [2, 15, 17.5, null], [3, 20, 17.5, null], [4, 25, 17.5, 12]]",
    "Feldera truncates AVG of integers: (10 + 15 + 20 + 25) / 4 is 17 there; here AVG is DOUBLE",
)];
/// Where a row is a step there are many steps: cases with thousands of rows take this many at once.
const LARGE_STEP_ROWS: u64 = 199;

pub(crate) fn trials() -> Vec<Trial> {
    let refused = refused();
    let mut names: Vec<String> = std::fs::read_dir(folder("cases/streaming_sql"))
        .expect("the cases are part of this crate")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    let stale: Vec<&String> = refused.keys().filter(|name| !names.contains(name)).collect();
    assert!(stale.is_empty(), "refused.txt names cases that do not exist: {stale:?}");
    let trial = |name: String| {
        let refusal = refused.get(&name).cloned();
        Trial::test(format!("streaming_sql::{name}"), move || Ok(check(&name, refusal.as_deref())?))
    };
    names.into_iter().map(trial).collect()
}

/// Name and construct of each refused case.
fn refused() -> HashMap<String, String> {
    let text = std::fs::read_to_string(folder("cases/streaming_sql").join("refused.txt")).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(": ")).map(|(name, why)| (name.to_owned(), why.to_owned())).collect()
}

fn check(name: &str, refusal: Option<&str>) -> Result<(), String> {
    let case = Case::read(name);
    let mut random = Random::named(name);
    let large = case.tables.iter().any(|table| table.rows.num_rows() > 1_000);
    let first = if large { Schedule::calm(1, LARGE_STEP_ROWS) } else { Schedule::row_by_row() };
    let answer = match (case.run(&first, &mut random), refusal) {
        (Ok(answer), None) => answer,
        (Ok(answer), Some(_)) => {
            case.compare(&answer).map_err(|error| format!("listed in refused.txt, ran, and is wrong: {error}"))?;
            return Err("listed in refused.txt, but runs and is right: take it off the list".to_owned());
        }
        (Err(error), Some(construct)) => return refused_cleanly(&error, construct),
        (Err(error), None) => return Err(format!("{first}: [{}] {error}", error.code())),
    };
    case.compare(&answer).map_err(|error| format!("{first}: {error}"))?;
    if case.open_end {
        return Ok(());
    }
    let steps = answer.summary.as_ref().map_or(1, |summary| summary.steps);
    let rows_max = match (case.late, large) {
        (true, _) => Some(1),
        (false, true) => Some(LARGE_STEP_ROWS),
        (false, false) => None,
    };
    for schedule in Schedule::others(&mut random, rows_max, steps) {
        let context = || format!("{schedule} (seed {})", seed());
        let answer =
            case.run(&schedule, &mut random).map_err(|error| format!("{}: [{}] {error}", context(), error.code()))?;
        case.compare(&answer).map_err(|error| format!("{}: {error}", context()))?;
    }
    Ok(())
}

/// Refused before anything ran, for the stated reason, with its place.
fn refused_cleanly(error: &eagre::Error, construct: &str) -> Result<(), String> {
    let eagre::Error::Sql(sql) = error else {
        return Err(format!("not refused by the planner: [{}] {error}", error.code()));
    };
    match sql {
        SqlError::Unsupported { .. } | SqlError::Plan { .. } => {}
        _ => return Err(format!("refused for the wrong reason: [{}] {sql}", sql.code())),
    }
    if sql.location().is_none() {
        return Err(format!("refused without a place: {sql}"));
    }
    match sql.to_string().contains(construct) {
        true => Ok(()),
        false => Err(format!("expected to be refused for `{construct}`: {sql}")),
    }
}

struct Case {
    tables: Vec<Table>,
    query: String,
    ordered: bool,
    late: bool,
    open_end: bool,
    expected: Vec<Row>,
}

struct Table {
    definition: TableDefinition,
    rows: RecordBatch,
    weights: Option<Int64Array>,
}

impl Case {
    fn read(name: &str) -> Self {
        let path = folder("cases/streaming_sql").join(format!("{name}.json"));
        let text = std::fs::read_to_string(&path).expect("a case is a file");
        let json: Json = serde_json::from_str(&text).expect("a case is JSON");
        let query = json["query"].as_str().expect("a query").to_owned();
        let averages = query.to_lowercase().contains("avg(");
        let worked_out = WORKED_OUT.iter().find(|(case, ..)| *case == name);
        let stated: Json = match worked_out {
            Some((_, rows, _)) => serde_json::from_str(rows).expect("rows are JSON"),
            None => json["expected_rows"].clone(),
        };
        let types: Vec<&str> = array(&json["expected_columns"]).iter().map(|column| text_of(&column["type"])).collect();
        let of_type = |cell: &Json, sql_type: &str| {
            // A type that the other engine gave to a value of another kind.
            let sql_type = if worked_out.is_some() && cell.is_f64() { "DOUBLE" } else { sql_type };
            expected_value(cell, sql_type, averages)
        };
        let expected = array(&stated)
            .iter()
            .map(|row| array(row).iter().zip(&types).map(|(cell, sql_type)| of_type(cell, sql_type)).collect());
        Self {
            tables: array(&json["tables"]).iter().map(Table::read).collect(),
            // Some sources state an order for a query that asks for none.
            ordered: json["ordered"] == true && crate::slt::is_ordered(&query),
            late: json["late"] == true,
            open_end: json["open_end"] == true,
            expected: expected.collect(),
            query,
        }
    }

    fn run(&self, schedule: &Schedule, random: &mut Random) -> eagre::Result<Answer> {
        // Where a batch of the source ends is one more thing that must not show.
        let batch_rows: Vec<usize> =
            self.tables.iter().map(|table| random.between(1, table.rows.num_rows().max(1) as u64) as usize).collect();
        let scene = |session: &Session| {
            for (table, batch_rows) in self.tables.iter().zip(&batch_rows) {
                let source = TestSource::new(&table.rows, table.weights.as_ref(), *batch_rows, !self.open_end);
                session.register_source(table.definition.clone(), Arc::new(source))?;
            }
            Ok(())
        };
        match self.open_end {
            true => run_open(
                schedule,
                self.tables.iter().map(|table| table.rows.num_rows() as u64).sum(),
                &scene,
                &self.query,
            ),
            false => run(schedule, &scene, &self.query),
        }
    }

    fn compare(&self, answer: &Answer) -> Result<(), String> {
        value::compare(&self.expected, &value::rows(&answer.batches), self.ordered, TOLERANCE)
    }
}

impl Table {
    fn read(json: &Json) -> Self {
        let name = text_of(&json["name"]);
        let columns: Vec<(&str, DataType)> = array(&json["columns"])
            .iter()
            .map(|column| {
                (text_of(&column["name"]), parse_type(text_of(&column["type"])).expect("a type of the dialect"))
            })
            .collect();
        let fields: Vec<Field> =
            columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let file: Json;
        let rows = match json["rows_file"].as_str() {
            Some(path) => {
                let text =
                    std::fs::read_to_string(folder("cases/streaming_sql").join(path)).expect("the rows are there");
                file = serde_json::from_str(&text).expect("rows are JSON");
                array(&file)
            }
            None => array(&json["rows"]),
        };
        let mut definition = TableDefinition::from_schema(name, &schema);
        if let Some(rowtime) = json["rowtime"].as_str() {
            let delay_ms = json["watermark_delay_ms"].as_i64().unwrap_or(0);
            let expr = (delay_ms > 0).then(|| format!("\"{rowtime}\" - INTERVAL '{delay_ms} milliseconds'"));
            definition = definition.with_watermark(rowtime, expr.as_deref()).expect("an expression of the dialect");
        }
        let key: Vec<String> =
            json["primary_key"].as_array().into_iter().flatten().map(|name| text_of(name).to_owned()).collect();
        let (rows, weights) = match json["changelog"] == true {
            true => {
                let at = Location::new(1, 1);
                let mode = if json["changelog_mode"] == "upsert" { "upsert" } else { "retract" };
                for (option, value) in [("connector", "push"), ("changelog.mode", mode)] {
                    let (key, value) = (option.to_owned(), value.to_owned());
                    definition.options.push(TableOption { key, value, key_location: at, value_location: at });
                }
                let changes = changes(rows, mode == "upsert");
                let weights: Int64Array = changes.iter().map(|(weight, _)| *weight).collect::<Vec<_>>().into();
                (changes.into_iter().map(|(_, row)| row).collect(), Some(weights))
            }
            false => (rows.iter().map(|row| array(row).to_vec()).collect::<Vec<_>>(), None),
        };
        definition.primary_key = key;
        Self { definition, rows: batch(&schema, &rows), weights }
    }
}

/// Weights and rows of a changelog. `upsert`: its rows replace those of the same key, so that those before are not said.
fn changes(rows: &[Json], upsert: bool) -> Vec<(i64, Vec<Json>)> {
    let change = |row: &Json| {
        let (word, row) = array(row).split_first().expect("a changelog row begins with its word");
        let word = text_of(word);
        (!upsert || word != "-U").then(|| (if word.starts_with('+') { 1 } else { -1 }, row.to_vec()))
    };
    rows.iter().filter_map(change).collect()
}

/// Rows as Arrow reads JSON.
pub(crate) fn batch(schema: &Arc<Schema>, rows: &[Vec<Json>]) -> RecordBatch {
    let mut lines = Vec::new();
    for row in rows {
        let names = schema.fields().iter().map(|field| field.name().clone());
        let object: Map<String, Json> = names.zip(row.iter().cloned()).collect();
        lines.extend(serde_json::to_vec(&object).expect("JSON"));
        lines.push(b'\n');
    }
    let reader = arrow::json::ReaderBuilder::new(Arc::clone(schema)).build(Cursor::new(lines)).expect("a reader");
    let batches = reader.collect::<Result<Vec<_>, _>>().expect("rows of the stated types");
    concat_batches(schema, &batches).expect("batches of one schema")
}

/// What the case states, as a value. Averages of decimals have as many digits as an engine likes: they compare as floats.
fn expected_value(cell: &Json, sql_type: &str, averages: bool) -> Value {
    let sql_type = sql_type.to_uppercase();
    if let Some(element) = sql_type.strip_prefix("ARRAY<").and_then(|rest| rest.strip_suffix('>')) {
        return match cell.as_array() {
            Some(cells) => Value::List(cells.iter().map(|cell| expected_value(cell, element, averages)).collect()),
            None => Value::Null,
        };
    }
    match cell {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) if sql_type == "DOUBLE" => Value::Double(number.as_f64().expect("a number")),
        Json::Number(number) => Value::exact(&number.to_string()).expect("a whole number"),
        Json::String(text) if sql_type.starts_with("DECIMAL") => match averages {
            true => Value::Double(text.parse().expect("a number")),
            false => Value::exact(text).expect("a decimal"),
        },
        Json::String(text) if sql_type == "DOUBLE" => Value::Double(text.parse().expect("a number")),
        Json::String(text) => Value::Text(text.clone()),
        other => panic!("{other} is no value of {sql_type}"),
    }
}

pub(crate) fn array(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text_of(json: &Json) -> &str {
    json.as_str().expect("a string")
}
