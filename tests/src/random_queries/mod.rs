//! Random queries over random tables: the streamed answer is the one that DataFusion computes over all rows at once, in steps of any size,
//! at any number of shards, with a crash in the middle.
//!
//! [`updating`] queries know no time: any operator stands on any other, and on materialized views. [`event_time`] has windows, sessions,
//! frames, patterns, scores and joins in time, over rows that come out of order, and [`late_rows`] those over rows some of which come too
//! late. A fixed set runs with all tests. `EAGRE_RANDOM_SECONDS=600` goes on with further queries for that long (`make test-random`). A
//! failure names the query's number, by which it is made again, after its tables were made as small as they can be.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take, take_record_batch};
use arrow::datatypes::Int64Type;
use arrow::util::pretty::pretty_format_batches;
use eagre::Session;
use eagre_sql::catalog::{Catalog, NoProviders, TableDefinition};
use eagre_sql::error::Location;
use eagre_sql::parser::{self, TableOption};
use eagre_sql::planner::oracle;
use libtest_mimic::Trial;

use crate::harness::{Answer, Random, Schedule, run_all, seed, time_of_each};
use crate::source::TestSource;
use crate::value;

mod event_time;
mod late_rows;
mod timed_tables;
mod updating;

/// Doubles are averages and sums of few small numbers.
const TOLERANCE: f64 = 1e-9;
/// Trials of the fixed set of each kind, which run beside each other, and queries of each.
const TRIALS: u64 = 8;
const QUERIES: u64 = 14;

/// Makes tables and a query over them.
type Make = fn(&mut Random) -> Case;
/// What has to hold of the runs of a case.
type Law = fn(&Case) -> Result<(), String>;

pub(crate) fn trials() -> Vec<Trial> {
    let kinds: [(&'static str, Make, Law); 4] = [
        ("equal_the_batch_answer", updating::case, equals_batch),
        ("over_views", updating::over_views, equals_batch),
        ("in_event_time", event_time::case, equals_batch),
        ("over_late_rows", late_rows::case, equals_batch_without_late),
    ];
    let more = time_of_each(TRIALS * kinds.len() as u64);
    let part = |(name, make, law): (&'static str, Make, Law), part: u64| {
        Trial::test(format!("random_queries::{name}_{part}"), move || {
            let until = Instant::now() + more;
            let mut number = part * 1_000_000;
            let fixed = number + QUERIES;
            while number < fixed || Instant::now() < until {
                check(name, make, law, number)?;
                number += 1;
            }
            Ok(())
        })
    };
    kinds.into_iter().flat_map(|kind| (1..=TRIALS).map(move |number| part(kind, number))).collect()
}

/// A table, and its rows as they come.
struct Table {
    definition: TableDefinition,
    rows: RecordBatch,
    /// Of a changelog: 1 for a row that comes, -1 for one that is taken back.
    weights: Option<Int64Array>,
    /// Which of the rows are left, where a failure is made smaller.
    left: Vec<u32>,
    /// Rows of a batch.
    batch_rows: usize,
}

impl Table {
    fn new(definition: TableDefinition, rows: RecordBatch, weights: Option<Int64Array>, batch_rows: usize) -> Self {
        let left = (0..rows.num_rows() as u32).collect();
        Self { definition, rows, weights, left, batch_rows }
    }

    fn changes(&self) -> (RecordBatch, Option<Int64Array>) {
        let left = UInt32Array::from(self.left.clone());
        let rows = take_record_batch(&self.rows, &left).expect("rows that are there");
        let weights = self.weights.as_ref().map(|weights| {
            let weights = take(weights, &left, None).expect("rows that are there");
            weights.as_primitive().clone()
        });
        (rows, weights)
    }

    /// Whether a row takes the place of the one with its key.
    fn upserts(&self) -> bool {
        !self.definition.primary_key.is_empty()
    }

    /// The rows that are there in the end.
    fn finally(&self) -> RecordBatch {
        let (rows, weights) = self.changes();
        let Some(weights) = weights else { return rows };
        let values = value::rows(std::slice::from_ref(&rows));
        let name_of = |column: usize| self.definition.columns[column].name.as_str();
        let compared =
            |column: &usize| !self.upserts() || self.definition.primary_key.iter().any(|key| key == name_of(*column));
        let compared: Vec<usize> = (0..rows.num_columns()).filter(compared).collect();
        let same =
            |a: u32, b: usize| compared.iter().all(|column| values[a as usize][*column].same(&values[b][*column], 0.0));
        let mut there: Vec<u32> = Vec::new();
        for (row, weight) in weights.values().iter().enumerate() {
            let known = there.iter().position(|known| same(*known, row));
            if let Some(place) = known.filter(|_| *weight < 0 || self.upserts()) {
                there.remove(place);
            }
            if *weight > 0 {
                there.push(row as u32);
            }
        }
        take_record_batch(&rows, &UInt32Array::from(there)).expect("rows that are there")
    }

    /// As a pipeline is told of it.
    fn definition(&self) -> TableDefinition {
        let mut definition = self.definition.clone();
        if self.weights.is_some() {
            let mode = if self.upserts() { "upsert" } else { "retract" };
            let (key, value, at) = ("changelog.mode".to_owned(), mode.to_owned(), Location::new(1, 1));
            definition.options.push(TableOption { key, value, key_location: at, value_location: at });
        }
        definition
    }
}

struct Case {
    tables: Vec<Table>,
    /// What the oracle answers.
    query: String,
    /// What is run, to give the same.
    run: String,
    schedules: Vec<Schedule>,
}

impl Case {
    fn new(tables: Vec<Table>, query: String) -> Self {
        Self { tables, run: query.clone(), query, schedules: vec![] }
    }
}

fn check(name: &str, make: Make, law: Law, number: u64) -> Result<(), String> {
    let mut random = Random::named(&format!("{name} {number}"));
    let mut case = make(&mut random);
    let steps = case.tables.iter().map(|table| table.left.len() as u64).sum::<u64>();
    case.schedules = vec![Schedule::row_by_row()];
    case.schedules.extend(Schedule::others(&mut random, None, steps).into_iter().skip(1));
    let Err(error) = law(&case) else {
        return Ok(());
    };
    // Rows are left out, in halves and then one by one, as long as it still fails.
    let mut error = error;
    for size in [8, 4, 2, 1] {
        for table in 0..case.tables.len() {
            let mut start = 0;
            while start < case.tables[table].left.len() {
                let end = (start + size).min(case.tables[table].left.len());
                let removed: Vec<u32> = case.tables[table].left.drain(start..end).collect();
                match law(&case) {
                    Err(smaller) => error = smaller,
                    Ok(()) => {
                        case.tables[table].left.splice(start..start, removed);
                        start += size;
                    }
                }
            }
        }
    }
    let show = |table: &Table| {
        let (rows, weights) = table.changes();
        let rows = pretty_format_batches(&[rows]).map_or_else(|error| error.to_string(), |rows| rows.to_string());
        let watermark = table.definition.watermark.as_ref().and_then(|watermark| watermark.expr.as_ref());
        let watermark = watermark.map(|expr| &expr.text);
        format!(
            "{}, watermark {watermark:?}, weights {:?}:\n{rows}",
            table.definition.name,
            weights.map(|w| w.values().to_vec())
        )
    };
    let tables = case.tables.iter().map(show).collect::<Vec<_>>().join("\n");
    Err(format!("EAGRE_TESTS_SEED={}, query {number}:\n{}\n{tables}\n{error}", seed(), case.run))
}

/// The answer is the batch answer.
fn equals_batch(case: &Case) -> Result<(), String> {
    let expected = value::rows(&[batch_answer(case, Table::finally)?]);
    for schedule in &case.schedules {
        let answers = streamed(case, schedule, &case.run)?;
        value::compare(&expected, &value::rows(&answers[0].batches), false, TOLERANCE)
            .map_err(|error| format!("{schedule}: {error}"))?;
    }
    Ok(())
}

/// The answer is the batch answer over the rows that were not told late, each of them once.
fn equals_batch_without_late(case: &Case) -> Result<(), String> {
    let late = |table: &Table| format!("; SELECT CAST(\"row\"->'id' AS BIGINT) FROM {}.late", table.definition.name);
    let late: String = case.tables.iter().map(late).collect();
    for schedule in &case.schedules {
        let answers = streamed(case, schedule, &format!("{}{late}", case.run))?;
        let mut in_time = HashMap::new();
        for (table, answer) in case.tables.iter().zip(&answers[1..]) {
            let name = table.definition.name.as_str();
            in_time.insert(name, rows_in_time(table, answer).map_err(|error| format!("{schedule}: {error}"))?);
        }
        let expected = batch_answer(case, |table| in_time[table.definition.name.as_str()].clone())?;
        value::compare(&value::rows(&[expected]), &value::rows(&answers[0].batches), false, TOLERANCE)
            .map_err(|error| format!("{schedule}: {error}"))?;
    }
    Ok(())
}

/// The rows of a table that are not among `late`, the ids of those that were told.
fn rows_in_time(table: &Table, late: &Answer) -> Result<RecordBatch, String> {
    let (rows, _) = table.changes();
    let ids = rows["id"].as_primitive::<Int64Type>();
    let mut in_time = vec![true; ids.len()];
    for row in value::rows(&late.batches) {
        let id = row[0].as_f64().ok_or("a late row without its columns")?;
        let place = ids.values().iter().position(|known| *known as f64 == id);
        let place = place.ok_or_else(|| format!("row {id} is told late, and never came"))?;
        if !std::mem::replace(&mut in_time[place], false) {
            return Err(format!("row {id} of {} is told late twice", table.definition.name));
        }
    }
    filter_record_batch(&rows, &BooleanArray::from(in_time)).map_err(|error| error.to_string())
}

/// The answers of `sql` as a pipeline.
fn streamed(case: &Case, schedule: &Schedule, sql: &str) -> Result<Vec<Answer>, String> {
    let scene = |session: &Session| {
        for table in &case.tables {
            let (rows, weights) = table.changes();
            let source = TestSource::new(&rows, weights.as_ref(), table.batch_rows, true);
            session.register_source(table.definition(), Arc::new(source))?;
        }
        Ok(())
    };
    run_all(schedule, &scene, sql).map_err(|error| format!("{schedule}: [{}] {error}", error.code()))
}

/// The answer over what `rows` says that the tables hold.
fn batch_answer(case: &Case, rows: impl Fn(&Table) -> RecordBatch) -> Result<RecordBatch, String> {
    let text = |error: &dyn std::fmt::Display| format!("the oracle: {error}");
    let mut catalog = Catalog::new(Arc::new(NoProviders));
    let mut tables = HashMap::new();
    for table in &case.tables {
        catalog.register_table(table.definition.clone(), None, None).map_err(|error| text(&error))?;
        tables.insert(table.definition.name.clone(), vec![rows(table)]);
    }
    let query = parser::parse_query(&case.query).map_err(|error| text(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| text(&error))?;
    runtime.block_on(oracle::answer(&catalog, &query, &tables)).map_err(|error| text(&error))
}

fn pick<T: Clone>(random: &mut Random, choices: &[T]) -> T {
    choices[random.between(0, choices.len() as u64 - 1) as usize].clone()
}
