//! Random queries over random tables: the streamed answer is the one that DataFusion computes over all rows at once, in steps of any size,
//! at any number of shards, with a crash in the middle.
//!
//! Every relation of a query has the columns `k INT, s STRING, v BIGINT`, so that any operator can stand on any other. Where an operator has
//! to choose (ranks, limits, frames), it orders by all columns: rows that it cannot tell apart are equal. Tables hold nulls and
//! duplicates, and one of them takes rows back.
//!
//! A fixed set runs with all tests. `EAGRE_RANDOM_SECONDS=600` goes on with further queries for that long (`make test-random`). A
//! failure names the query's number, by which it is made again, after its tables were made as small as they can be.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Int32Array, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use eagre::Session;
use eagre_sql::catalog::{Catalog, NoProviders, TableDefinition};
use eagre_sql::error::Location;
use eagre_sql::parser::{self, TableOption};
use eagre_sql::planner::oracle;
use libtest_mimic::Trial;

use crate::harness::{Answer, Random, Schedule, run, seed};
use crate::source::TestSource;
use crate::value;

/// Doubles are not among the columns; averages inside of conditions are of few small integers.
const TOLERANCE: f64 = 1e-9;
/// Trials of the fixed set, which run beside each other, and queries of each.
const TRIALS: u64 = 8;
const QUERIES: u64 = 14;
/// Names of the tables. Rows of the last one are taken back.
const TABLES: [&str; 3] = ["t0", "t1", "t2"];

pub(crate) fn trials() -> Vec<Trial> {
    let seconds = std::env::var("EAGRE_RANDOM_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let part = |part: u64| {
        Trial::test(format!("random_queries::equal_the_batch_answer_{part}"), move || {
            let until = Instant::now() + Duration::from_secs(seconds);
            let mut number = part * 1_000_000;
            let fixed = number + QUERIES;
            while number < fixed || Instant::now() < until {
                check(number)?;
                number += 1;
            }
            Ok(())
        })
    };
    (1..=TRIALS).map(part).collect()
}

/// A row with its weight.
type Row = (Option<i32>, Option<&'static str>, Option<i64>, i64);

struct Case {
    tables: Vec<Vec<Row>>,
    query: String,
    schedules: Vec<Schedule>,
    batch_rows: Vec<usize>,
}

fn check(number: u64) -> Result<(), String> {
    let mut random = Random::named(&format!("query {number}"));
    let mut case = Case {
        tables: (0..TABLES.len()).map(|table| rows(&mut random, table + 1 == TABLES.len())).collect(),
        query: Queries { random: &mut random, aliases: 0 }.top(),
        schedules: Vec::new(),
        batch_rows: Vec::new(),
    };
    case.batch_rows = case.tables.iter().map(|_| random.between(1, 20) as usize).collect();
    let steps = case.tables.iter().map(|rows| rows.len() as u64).sum::<u64>();
    case.schedules = vec![Schedule::row_by_row()];
    case.schedules.extend(Schedule::others(&mut random, None, steps).into_iter().skip(1));
    let Err(error) = holds(&case) else {
        return Ok(());
    };
    // Rows are left out, in halves and then one by one, as long as it still fails.
    let mut error = error;
    for size in [8, 4, 2, 1] {
        for table in 0..case.tables.len() {
            let mut start = 0;
            while start < case.tables[table].len() {
                let end = (start + size).min(case.tables[table].len());
                let removed: Vec<Row> = case.tables[table].drain(start..end).collect();
                match holds(&case) {
                    Err(smaller) => error = smaller,
                    Ok(()) => {
                        case.tables[table].splice(start..start, removed);
                        start += size;
                    }
                }
            }
        }
    }
    let tables = TABLES.iter().zip(&case.tables).map(|(name, rows)| format!("{name}: {rows:?}"));
    let tables = tables.collect::<Vec<_>>().join("\n");
    Err(format!("EAGRE_TESTS_SEED={}, query {number}:\n{}\n{tables}\n{error}", seed(), case.query))
}

/// Whether all schedules give the batch answer.
fn holds(case: &Case) -> Result<(), String> {
    let expected = value::rows(&[batch_answer(case)?]);
    for schedule in &case.schedules {
        let answer = streamed(case, schedule).map_err(|error| format!("{schedule}: [{}] {error}", error.code()))?;
        value::compare(&expected, &value::rows(&answer.batches), false, TOLERANCE)
            .map_err(|error| format!("{schedule}: {error}"))?;
    }
    Ok(())
}

fn streamed(case: &Case, schedule: &Schedule) -> eagre::Result<Answer> {
    let scene = |session: &Session| {
        for ((name, rows), batch_rows) in TABLES.iter().zip(&case.tables).zip(&case.batch_rows) {
            let retracts = rows.iter().any(|row| row.3 != 1) || *name == TABLES[TABLES.len() - 1];
            let weights = retracts.then(|| rows.iter().map(|row| row.3).collect::<Int64Array>());
            let source = TestSource::new(&batch(rows), weights.as_ref(), *batch_rows, true);
            session.register_source(definition(name, retracts), Arc::new(source))?;
        }
        Ok(())
    };
    run(schedule, &scene, &case.query)
}

fn batch_answer(case: &Case) -> Result<RecordBatch, String> {
    let text = |error: &dyn std::fmt::Display| format!("the oracle: {error}");
    let mut catalog = Catalog::new(Arc::new(NoProviders));
    let mut tables = HashMap::new();
    for (name, rows) in TABLES.iter().zip(&case.tables) {
        catalog.register_table(definition(name, false), None, None).map_err(|error| text(&error))?;
        let mut left: Vec<Row> = Vec::new();
        for row in rows {
            if row.3 > 0 {
                left.push(*row);
            } else if let Some(place) =
                left.iter().position(|known| (known.0, known.1, known.2) == (row.0, row.1, row.2))
            {
                left.remove(place);
            }
        }
        tables.insert((*name).to_owned(), vec![batch(&left)]);
    }
    let query = parser::parse_query(&case.query).map_err(|error| text(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| text(&error))?;
    runtime.block_on(oracle::answer(&catalog, &query, &tables)).map_err(|error| text(&error))
}

fn definition(name: &str, retracts: bool) -> TableDefinition {
    let mut table = TableDefinition::from_schema(name, &batch(&[]).schema());
    if retracts {
        let (key, value, at) = ("changelog.mode".to_owned(), "retract".to_owned(), Location::new(1, 1));
        table.options.push(TableOption { key, value, key_location: at, value_location: at });
    }
    table
}

fn batch(rows: &[Row]) -> RecordBatch {
    let fields = [("k", DataType::Int32), ("s", DataType::Utf8View), ("v", DataType::Int64)];
    let schema = Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<StringViewArray>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).expect("one length")
}

fn rows(random: &mut Random, retracts: bool) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut alive: Vec<Row> = Vec::new();
    for _ in 0..random.between(0, 22) {
        if retracts && !alive.is_empty() && random.between(0, 3) == 0 {
            let row = alive.swap_remove(random.between(0, alive.len() as u64 - 1) as usize);
            rows.push((row.0, row.1, row.2, -1));
            continue;
        }
        let k = (random.between(0, 9) > 0).then(|| random.between(0, 4) as i32);
        let s = [None, Some("a"), Some("b"), Some("a text of more than twelve bytes")][random.between(0, 3) as usize];
        let v = (random.between(0, 6) > 0).then(|| random.between(0, 12) as i64 - 4);
        rows.push((k, s, v, 1));
        alive.push((k, s, v, 1));
    }
    rows
}

/// Makes queries.
struct Queries<'r> {
    random: &'r mut Random,
    aliases: u32,
}

impl Queries<'_> {
    fn top(&mut self) -> String {
        let depth = self.random.between(1, 3);
        let relation = self.relation(depth);
        format!("SELECT k, s, v FROM ({relation}) AS answer")
    }

    fn pick<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.random.between(0, texts.len() as u64 - 1) as usize]
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("q{}", self.aliases)
    }

    fn condition(&mut self, of: &str) -> String {
        let text = self.pick(&[
            "{}v > 0",
            "{}k <> 2",
            "{}s IS NOT NULL",
            "{}s = 'a' OR {}k IS NULL",
            "{}v IS DISTINCT FROM 1 AND {}k >= 1",
            "{}v % 2 = 0",
        ]);
        text.replace("{}", of)
    }

    /// A query with the columns `k`, `s`, `v`.
    fn relation(&mut self, depth: u64) -> String {
        if depth == 0 {
            let table = self.pick(&TABLES);
            return format!("SELECT k, s, v FROM {table}");
        }
        let input = self.relation(depth - 1);
        let a = self.alias();
        match self.random.between(0, 13) {
            0 => {
                let condition = self.condition("");
                format!("SELECT k, s, v FROM ({input}) AS {a} WHERE {condition}")
            }
            1 => {
                format!("SELECT CAST(v % 3 AS INT) AS k, UPPER(s) AS s, v + COALESCE(k, 7) AS v FROM ({input}) AS {a}")
            }
            2 | 3 => {
                let call = self.pick(&[
                    "SUM(v)",
                    "COUNT(*)",
                    "MAX(v)",
                    "MIN(v)",
                    "COUNT(DISTINCT v)",
                    "COUNT(v) FILTER (WHERE s = 'a')",
                    "SUM(DISTINCT v)",
                    "CAST(AVG(v) AS BIGINT)",
                    "CAST(median(v) AS BIGINT)",
                ]);
                let having = self.pick(&["", " HAVING COUNT(*) > 1", " HAVING MAX(s) IS NOT NULL"]);
                let keys = self.pick(&["k", "k, s", "s"]);
                let k = if keys == "s" { "MAX(k)" } else { "k" };
                let s = if keys == "k" { "MIN(s)" } else { "s" };
                format!("SELECT {k} AS k, {s} AS s, {call} AS v FROM ({input}) AS {a} GROUP BY {keys}{having}")
            }
            4 | 5 => {
                let other = self.relation(depth - 1);
                let b = self.alias();
                let kind = self.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
                let on = self.pick(&[
                    "{a}.k = {b}.k",
                    "{a}.k = {b}.k AND {a}.v < {b}.v",
                    "{a}.k = {b}.k AND {a}.s = {b}.s",
                    "{a}.k IS NOT DISTINCT FROM {b}.k AND {a}.s = {b}.s",
                    "{a}.v + 1 = {b}.v",
                ]);
                let on = on.replace("{a}", &a).replace("{b}", &b);
                format!(
                    "SELECT {a}.k AS k, {b}.s AS s, COALESCE({a}.v, 0) - COALESCE({b}.v, 0) AS v \
                     FROM ({input}) AS {a} {kind} ({other}) AS {b} ON {on}"
                )
            }
            6 => {
                let other = self.relation(depth - 1);
                let b = self.alias();
                let condition = self.pick(&[
                    "{a}.k IN (SELECT k FROM ({other}) AS {b})",
                    "{a}.v NOT IN (SELECT v FROM ({other}) AS {b} WHERE {b}.k = {a}.k)",
                    "{a}.k NOT IN (SELECT k FROM ({other}) AS {b})",
                    "EXISTS (SELECT 1 FROM ({other}) AS {b} WHERE {b}.k = {a}.k AND {b}.v > {a}.v)",
                    "NOT EXISTS (SELECT 1 FROM ({other}) AS {b} WHERE {b}.s = {a}.s)",
                    "{a}.v > (SELECT AVG(v) FROM ({other}) AS {b})",
                    "{a}.v <= (SELECT COUNT(*) FROM ({other}) AS {b} WHERE {b}.k = {a}.k)",
                ]);
                let condition = condition.replace("{a}", &a).replace("{b}", &b).replace("{other}", &other);
                format!("SELECT {a}.k, {a}.s, {a}.v FROM ({input}) AS {a} WHERE {condition}")
            }
            7 | 8 => {
                let other = self.relation(depth - 1);
                let b = self.alias();
                let operation =
                    self.pick(&["UNION ALL", "UNION", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]);
                format!("SELECT k, s, v FROM ({input}) AS {a} {operation} SELECT k, s, v FROM ({other}) AS {b}")
            }
            9 => {
                let function = self.pick(&["ROW_NUMBER", "RANK", "DENSE_RANK"]);
                let order = self.pick(&["v DESC, s, k", "s NULLS FIRST, v, k", "k, v, s"]);
                let partition = self.pick(&["PARTITION BY k ", "PARTITION BY s ", ""]);
                let bound = self.pick(&["rn <= 2", "rn = 1", "rn BETWEEN 2 AND 3"]);
                format!(
                    "SELECT k, s, v FROM (SELECT k, s, v, {function}() OVER ({partition}ORDER BY {order}) AS rn \
                     FROM ({input}) AS {a}) AS {a}_ranked WHERE {bound}"
                )
            }
            10 => {
                let call = self.pick(&[
                    "SUM(v) OVER (PARTITION BY k ORDER BY v, s)",
                    "COUNT(*) OVER (PARTITION BY s ORDER BY v, k ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
                    "MAX(v) OVER (PARTITION BY k)",
                    "LAG(v) OVER (PARTITION BY k ORDER BY v, s)",
                    "CAST(RANK() OVER (ORDER BY v, k, s) AS BIGINT)",
                    "LEAD(v, 2, 0) OVER (PARTITION BY s ORDER BY v DESC, k)",
                    "MIN(v) OVER (PARTITION BY k ORDER BY v RANGE BETWEEN 2 PRECEDING AND CURRENT ROW)",
                ]);
                format!("SELECT k, s, {call} AS v FROM ({input}) AS {a}")
            }
            11 => format!("SELECT DISTINCT k, s, v FROM ({input}) AS {a}"),
            12 => {
                let limit = self.random.between(1, 6);
                let order = self.pick(&["v, k, s", "k DESC, s, v", "s, v DESC NULLS LAST, k"]);
                format!("SELECT k, s, v FROM ({input}) AS {a} ORDER BY {order} LIMIT {limit}")
            }
            _ => {
                let other = self.relation(depth - 1);
                let b = self.alias();
                format!(
                    "SELECT {a}.k, {a}.s, (SELECT MAX({b}.v) FROM ({other}) AS {b} WHERE {b}.k = {a}.k) AS v \
                     FROM ({input}) AS {a}"
                )
            }
        }
    }
}
