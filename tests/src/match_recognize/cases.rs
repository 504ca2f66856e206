//! Cases that other engines and the standard state, each as a bounded table and as a stream, under every schedule.
//! `cases/match_recognize/README.md` says where they are from and how they are written.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use eagre::Session;
use eagre_sql::catalog::TableDefinition;
use eagre_sql::error::Location;
use eagre_sql::parser::{TableOption, parse_type};
use libtest_mimic::Trial;
use serde_json::Value as Json;

use crate::harness::{Answer, Random, Schedule, folder, run, seed};
use crate::source::TestSource;
use crate::streaming_sql::{array, batch, text_of};
use crate::value::{self, Row, Value};

/// Doubles may differ by this much, relatively.
const TOLERANCE: f64 = 1e-6;

/// How the rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By `INSERT`, all at once.
    Inserted,
    /// As a materialized view, of which the query is answered at once.
    Viewed,
    /// As a table that ends, without a watermark.
    Bounded,
    /// As a stream, in order of arrival; the watermark is behind far enough that no row is late.
    Stream,
    /// As a stream whose watermark is the newest row, with late rows that correct what was said.
    Corrected,
    /// As a stream; matches leave as soon as they exist, and are taken back.
    Changes,
}

pub(super) fn trials() -> Vec<Trial> {
    let mut names: Vec<String> = std::fs::read_dir(folder("cases/match_recognize"))
        .expect("the cases are part of this crate")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    let forms = [Form::Inserted, Form::Viewed, Form::Bounded, Form::Stream, Form::Corrected, Form::Changes];
    let trial = |name: &String, form: Form| {
        let path = format!("match_recognize::cases::{name}::{}", format!("{form:?}").to_lowercase());
        let name = name.clone();
        Trial::test(path, move || Ok(check(&name, form)?))
    };
    names.iter().flat_map(|name| forms.map(|form| trial(name, form))).collect()
}

fn check(name: &str, form: Form) -> Result<(), String> {
    let case = Case::read(name);
    let mut random = Random::named(name);
    let first = match form {
        Form::Inserted | Form::Viewed => Schedule::calm(2, 65_536),
        _ => Schedule::row_by_row(),
    };
    let context = |schedule: &Schedule| format!("{schedule} (seed {})", seed());
    let Some(expected) = &case.expected else {
        return match case.run(form, &first, &mut random) {
            Ok(answer) => Err(format!("an error was expected, these rows came:\n{}", value::show(&readable(&answer)))),
            Err(_) => Ok(()),
        };
    };
    let compare = |answer: &Answer| value::compare(expected, &readable(answer), case.ordered, TOLERANCE);
    let answer = case.run(form, &first, &mut random);
    let answer = answer.map_err(|error| format!("{}: [{}] {error}\n{}", context(&first), error.code(), case.query))?;
    compare(&answer).map_err(|error| format!("{}: {error}\n{}", context(&first), case.query))?;
    if matches!(form, Form::Inserted | Form::Viewed) {
        return Ok(());
    }
    let steps = answer.summary.as_ref().map_or(1, |summary| summary.steps);
    let mut schedules = Schedule::others(&mut random, None, steps);
    if matches!(form, Form::Corrected | Form::Changes) {
        // The crashes.
        schedules.drain(..3);
    }
    for schedule in schedules {
        let answer = case.run(form, &schedule, &mut random);
        let answer = answer.map_err(|error| format!("{}: [{}] {error}", context(&schedule), error.code()))?;
        compare(&answer).map_err(|error| format!("{}: {error}\n{}", context(&schedule), case.query))?;
    }
    Ok(())
}

struct Case {
    columns: Vec<(String, DataType)>,
    rows: Vec<Vec<Json>>,
    query: String,
    ordered: bool,
    /// None: an error.
    expected: Option<Vec<Row>>,
}

impl Case {
    fn read(name: &str) -> Self {
        let path = folder("cases/match_recognize").join(format!("{name}.json"));
        let text = std::fs::read_to_string(&path).expect("a case is a file");
        let json: Json = serde_json::from_str(&text).expect("a case is JSON");
        let columns = array(&json["columns"]).iter();
        let columns = columns.map(|column| {
            (text_of(&column["name"]).to_owned(), parse_type(text_of(&column["type"])).expect("a type of the dialect"))
        });
        let expected = array(&json["expected_rows"]).iter().map(|row| array(row).iter().map(expected_value).collect());
        Self {
            columns: columns.collect(),
            rows: array(&json["rows"]).iter().map(|row| array(row).to_vec()).collect(),
            query: text_of(&json["query"]).to_owned(),
            ordered: json["ordered"] == true,
            expected: (!json["expect_error"].is_string()).then(|| expected.collect()),
        }
    }

    fn run(&self, form: Form, schedule: &Schedule, random: &mut Random) -> eagre::Result<Answer> {
        let settings = |session: &Session| {
            // A stream goes on where it can by itself.
            session.execute("SET 'eagre.match.bad_skip' = 'error'").map(|_| ())
        };
        if form == Form::Inserted {
            let scene = |session: &Session| {
                settings(session)?;
                session.execute(&self.create())?;
                match self.insert().map(|sql| session.execute(&sql)).transpose()?.and_then(|execution| execution.job) {
                    Some(job) => job.wait_blocking().map(|_| ()),
                    None => Ok(()),
                }
            };
            return run(schedule, &scene, &self.query);
        }
        if form == Form::Viewed {
            let rows = self.batch(&self.columns, &self.rows);
            let scene = |session: &Session| {
                settings(session)?;
                let source = TestSource::new(&rows, None, rows.num_rows().max(1), true);
                session.register_source(TableDefinition::from_schema("came", &rows.schema()), Arc::new(source))?;
                let view = session.execute("CREATE MATERIALIZED VIEW events AS SELECT * FROM came")?;
                view.job.map_or(Ok(()), |job| job.wait_blocking().map(|_| ()))
            };
            return run(schedule, &scene, &self.query);
        }
        let (rows, query) = match form {
            Form::Bounded | Form::Inserted | Form::Viewed => {
                (self.batch(&self.columns, &self.rows), self.query.clone())
            }
            Form::Stream | Form::Corrected | Form::Changes => self.streamed(),
        };
        let query = if form == Form::Changes { with_changes(&query) } else { query };
        let mut definition = TableDefinition::from_schema("events", &rows.schema());
        let time = self.time_column();
        if form != Form::Bounded {
            let delay_s = if form == Form::Corrected { 0 } else { disorder_s(&rows, &time) };
            let expr = format!("\"{time}\" - INTERVAL '{delay_s} seconds'");
            definition = definition.with_watermark(&time, Some(&expr)).expect("an expression of the dialect");
        }
        if form == Form::Corrected {
            let (key, value, at) = ("allowed-lateness".to_owned(), "36500 d".to_owned(), Location::new(1, 1));
            definition.options.push(TableOption { key, value, key_location: at, value_location: at });
        }
        // Where a batch of the source ends must not show either.
        let batch_rows = random.between(1, rows.num_rows().max(1) as u64) as usize;
        let scene = |session: &Session| {
            settings(session)?;
            let source = TestSource::new(&rows, None, batch_rows, true);
            session.register_source(definition.clone(), Arc::new(source))
        };
        run(schedule, &scene, &query)
    }

    fn create(&self) -> String {
        let columns = self.columns.iter().map(|(name, data_type)| {
            let data_type = match data_type {
                DataType::Int64 => "BIGINT",
                DataType::Float64 => "DOUBLE",
                DataType::Date32 => "DATE",
                DataType::Timestamp(..) => "TIMESTAMP",
                _ => "VARCHAR",
            };
            format!("{name} {data_type}")
        });
        format!("CREATE TABLE events ({})", columns.collect::<Vec<_>>().join(", "))
    }

    fn insert(&self) -> Option<String> {
        let cell = |(cell, (_, data_type)): (&Json, &(String, DataType))| match (cell, data_type) {
            (Json::Null, _) => "NULL".to_owned(),
            (Json::String(text), DataType::Date32) => format!("DATE '{text}'"),
            (Json::String(text), DataType::Timestamp(..)) => format!("TIMESTAMP '{text}'"),
            (Json::String(text), _) => format!("'{text}'"),
            (other, _) => other.to_string(),
        };
        let row =
            |row: &Vec<Json>| format!("({})", row.iter().zip(&self.columns).map(cell).collect::<Vec<_>>().join(", "));
        let rows: Vec<String> = self.rows.iter().map(row).collect();
        (!rows.is_empty()).then(|| format!("INSERT INTO events VALUES {}", rows.join(", ")))
    }

    fn batch(&self, columns: &[(String, DataType)], rows: &[Vec<Json>]) -> RecordBatch {
        let fields: Vec<Field> =
            columns.iter().map(|(name, data_type)| Field::new(name, data_type.clone(), true)).collect();
        batch(&Arc::new(Schema::new(fields)), rows)
    }

    /// The first column of the order.
    fn ordered_by(&self) -> usize {
        let (_, clause) = self.query.split_once("MATCH_RECOGNIZE").expect("a clause");
        let (_, order) = clause.split_once("ORDER BY ").expect("an order");
        let name = order.split([' ', ',']).next().expect("a column");
        self.columns.iter().position(|(column, _)| column == name).expect("a column of the table")
    }

    fn time_column(&self) -> String {
        let (name, data_type) = &self.columns[self.ordered_by()];
        if matches!(data_type, DataType::Timestamp(..)) { name.clone() } else { "event_time".to_owned() }
    }

    /// Rows and query with a time as first column of the order: one second for each of its values, where it is no time.
    fn streamed(&self) -> (RecordBatch, String) {
        let by = self.ordered_by();
        if matches!(self.columns[by].1, DataType::Timestamp(..)) {
            return (self.batch(&self.columns, &self.rows), self.query.clone());
        }
        let number = |cell: &Json| cell.as_i64().unwrap_or(0);
        let mut values: Vec<&Json> = self.rows.iter().map(|row| &row[by]).collect();
        values.sort_by(|a, b| (number(a), a.as_str()).cmp(&(number(b), b.as_str())));
        values.dedup();
        let rows = self.rows.iter().map(|row| {
            let rank = values.iter().position(|value| **value == row[by]).expect("it is one of them");
            let mut row = row.clone();
            row.push(Json::String(super::naive::time_text(rank as i64)));
            row
        });
        let rows: Vec<Vec<Json>> = rows.collect();
        let mut columns = self.columns.clone();
        columns.push(("event_time".to_owned(), parse_type("TIMESTAMP(3)").expect("a type of the dialect")));
        let clause = self.query.find("MATCH_RECOGNIZE").expect("a clause");
        let (head, tail) = self.query.split_at(clause);
        (self.batch(&columns, &rows), format!("{head}{}", tail.replacen("ORDER BY ", "ORDER BY event_time, ", 1)))
    }
}

/// How many seconds a row comes behind one with a later time, at most.
fn disorder_s(rows: &RecordBatch, time: &str) -> i64 {
    let times = rows.column_by_name(time).expect("a column of the table");
    let times = arrow::compute::cast(times, &DataType::Timestamp(arrow::datatypes::TimeUnit::Second, None));
    let times = times.expect("a timestamp in another unit");
    let times = arrow::array::AsArray::as_primitive::<arrow::datatypes::TimestampSecondType>(&times);
    let mut newest = i64::MIN;
    let mut disorder = 0;
    for time in times.iter().flatten() {
        newest = newest.max(time);
        disorder = disorder.max(newest - time);
    }
    disorder
}

/// The query with `EMIT CHANGES` at the end of its clause.
fn with_changes(query: &str) -> String {
    let start = query.find("MATCH_RECOGNIZE").expect("a clause");
    let start = start + query[start..].find('(').expect("a parenthesis");
    let mut depth = 0;
    let mut quoted = false;
    for (index, letter) in query[start..].char_indices() {
        match letter {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    let (head, tail) = query.split_at(start + index);
                    return format!("{head}EMIT CHANGES {tail}");
                }
            }
            _ => {}
        }
    }
    panic!("`{query}` does not close its clause")
}

/// The rows as a case states them: without fractions of seconds, which no case has.
fn readable(answer: &Answer) -> Vec<Row> {
    fn cell(value: Value, is_time: bool) -> Value {
        match value {
            Value::Text(text) if is_time => Value::Text(text.trim_end_matches(".000").to_owned()),
            other => other,
        }
    }
    let is_time: Vec<bool> =
        answer.schema.fields().iter().map(|field| matches!(field.data_type(), DataType::Timestamp(..))).collect();
    let rows = value::rows(&answer.batches).into_iter();
    rows.map(|row| row.into_iter().zip(&is_time).map(|(value, is_time)| cell(value, *is_time)).collect()).collect()
}

pub(super) fn expected_value(cell: &Json) -> Value {
    match cell {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) if number.is_f64() => Value::Double(number.as_f64().expect("a number")),
        Json::Number(number) => Value::exact(&number.to_string()).expect("a whole number"),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(cells) => Value::List(cells.iter().map(expected_value).collect()),
        other => panic!("{other} is no value of a case"),
    }
}
