//! SQL tests in sqllogictest form: `cases/slt/*.slt`, and `cases/datafusion/*.slt` from DataFusion's own suite, one trial a file.
//!
//! Statements of a file build the scene for all queries after them. A query must give the stated rows row by row, in random steps, at
//! several shards, killed and resumed, as a materialized view, and when DataFusion answers it at once over the same rows. `skipif batch` leaves out the last
//! (for what has no meaning there), `skipif random` everything but row by row (for what depends on when the watermark moves).
//!
//! Cells are separated by tabs. Rows come in any order unless the query has an `ORDER BY`. `EAGRE_TESTS_REWRITE=1` writes the results
//! anew.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use eagre::Session;
use eagre_engine::model::ModelAndHistory;
use eagre_engine::sink::SinkFactory;
use eagre_engine::source::Source;
use eagre_engine::thread::DEEP_STACK_BYTES;
use eagre_sql::catalog::{
    Catalog, ColumnKind, InferredTable, ModelDefinition, NoProviders, TableDefinition, TableProviderFactory,
};
use eagre_sql::error::SqlError;
use eagre_sql::parser::{self, StatementKind};
use eagre_sql::planner::oracle;
use libtest_mimic::Trial;
use sqllogictest::{Condition, ExpectedError, QueryExpect, Record, StatementExpect};

use crate::harness::{Random, Scene, Schedule, folder, run, seed};
use crate::value::{self, Row, Value};

/// Doubles of two runs may differ by this much, relatively.
const TOLERANCE: f64 = 1e-9;
/// Stands for the folder `cases/slt/data` in statements.
const DATA: &str = "$DATA";

/// Where files are, and whether their queries are run in all ways. Those of another engine are run row by row and in one other way, and the rows that it
/// states may come in any order.
const SUITES: &[(&str, bool)] = &[("slt", true), ("datafusion", false)];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (suite, thorough) in SUITES {
        let mut names: Vec<String> = std::fs::read_dir(folder(&format!("cases/{suite}")))
            .expect("the cases are part of this crate")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".slt").map(str::to_owned))
            .collect();
        names.sort();
        let trial = |name: String| Trial::test(format!("{suite}::{name}"), move || Ok(check(suite, &name, *thorough)?));
        trials.extend(names.into_iter().map(trial));
    }
    trials
}

/// The letter of a column's type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Letter(char);

impl sqllogictest::ColumnType for Letter {
    fn from_char(value: char) -> Option<Self> {
        "BDIPRT?".contains(value).then_some(Self(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

impl Letter {
    /// Boolean, Date, Integer, Point in time, Real (decimals too), Text; anything else is `?`.
    fn of(data_type: &DataType) -> Self {
        Self(match data_type {
            DataType::Boolean => 'B',
            DataType::Date32 | DataType::Date64 => 'D',
            DataType::Timestamp(..) => 'P',
            data_type if data_type.is_integer() => 'I',
            data_type if data_type.is_floating() || data_type.is_decimal() => 'R',
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => 'T',
            _ => '?',
        })
    }
}

fn check(suite: &str, name: &str, thorough: bool) -> Result<(), String> {
    let path = folder(&format!("cases/{suite}")).join(format!("{name}.slt"));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let records = sqllogictest::parse_with_name::<Letter>(&text, name).map_err(|error| error.to_string())?;
    let mut file = File { thorough, random: Random::named(name), statements: Vec::new(), fixtures: None };
    let rewrite = std::env::var_os("EAGRE_TESTS_REWRITE").is_some();
    let mut failures = String::new();
    let mut rewritten = String::new();
    for mut record in records {
        if let Err(error) = file.record(&mut record, rewrite) {
            let _ = writeln!(failures, "{error}\n");
        }
        let _ = writeln!(rewritten, "{record}");
    }
    if rewrite {
        write_anew(&path, &rewritten)?;
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(format!("{failures}(seed {})", seed())),
    }
}

fn write_anew(path: &Path, text: &str) -> Result<(), String> {
    let text = format!("{}\n", text.trim_end());
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A file up to some record.
struct File {
    thorough: bool,
    random: Random,
    /// What built the scene, in order.
    statements: Vec<String>,
    /// The rows of tables, for the oracle; read when first needed.
    fixtures: Option<HashMap<String, Vec<RecordBatch>>>,
}

impl File {
    fn record(&mut self, record: &mut Record<Letter>, rewrite: bool) -> Result<(), String> {
        match record {
            Record::Statement { sql, expected, loc, .. } => {
                let place = loc.to_string();
                self.statement(&filled(sql), expected).map_err(|error| format!("{place}: {error}\n{sql}"))
            }
            Record::Query { sql, expected, loc, conditions, .. } => {
                let place = loc.to_string();
                let skipped = |label: &str| conditions.contains(&Condition::SkipIf { label: label.to_owned() });
                let (batch, random) = (!skipped("batch"), !skipped("random"));
                self.query(&filled(sql), expected, batch, random, rewrite)
                    .map_err(|error| format!("{place}: {error}\n{sql}"))
            }
            Record::Comment(_) | Record::Newline | Record::Condition(_) | Record::Injected(_) => Ok(()),
            other => Err(format!("this runner has no `{other}`")),
        }
    }

    fn statement(&mut self, sql: &str, expected: &StatementExpect) -> Result<(), String> {
        let mut done = Ok(());
        let outcome = run_all(&self.statements, sql);
        match (expected, outcome) {
            (StatementExpect::Error(expected), Err(error)) => done = matches(expected, &error),
            (StatementExpect::Error(_), Ok(())) => done = Err("an error was expected, none came".to_owned()),
            (_, Err(error)) => done = Err(error.to_string()),
            (_, Ok(())) => {
                self.statements.push(sql.to_owned());
                self.fixtures = None;
            }
        }
        done
    }

    fn query(
        &mut self,
        sql: &str,
        expected: &mut QueryExpect<Letter>,
        batch: bool,
        random: bool,
        rewrite: bool,
    ) -> Result<(), String> {
        let statements = self.statements.clone();
        let scene = |session: &Session| {
            for statement in &statements {
                execute(session, statement)?;
            }
            Ok(())
        };
        let first = Schedule::row_by_row();
        let answer = run(&first, &scene, sql);
        let (types, results) = match (expected, &answer) {
            (QueryExpect::Error(expected), Err(error)) => return matches(expected, error),
            (QueryExpect::Error(_), Ok(_)) => return Err("an error was expected, none came".to_owned()),
            (QueryExpect::Results { .. }, Err(error)) => return Err(format!("[{}] {error}", error.code())),
            (QueryExpect::Results { types, results, .. }, Ok(_)) => (types, results),
        };
        let answer = answer.map_err(|error| error.to_string())?;
        let ordered = self.thorough && is_ordered(sql);
        if rewrite {
            *types = letters(&answer.schema);
            *results = lines(&answer.batches, ordered);
        }
        let want = expected_rows(results, &answer.schema)?;
        if *types != letters(&answer.schema) {
            let got: String = letters(&answer.schema).iter().map(|letter| letter.0).collect();
            return Err(format!("the types of the columns are {got}"));
        }
        let compare = |batches: &[RecordBatch]| value::compare(&want, &readable(batches), ordered, TOLERANCE);
        compare(&answer.batches).map_err(|error| format!("{first}: {error}"))?;
        let Some(summary) = &answer.summary else { return Ok(()) };
        let mut others = Schedule::others(&mut self.random, (!random).then_some(1), summary.steps);
        if !self.thorough {
            others = vec![others.swap_remove(self.random.between(0, others.len() as u64 - 1) as usize)];
        }
        for schedule in others {
            let answer =
                run(&schedule, &scene, sql).map_err(|error| format!("{schedule}: [{}] {error}", error.code()))?;
            compare(&answer.batches).map_err(|error| format!("{schedule}: {error}"))?;
        }
        if !self.thorough {
            return Ok(());
        }
        if !ordered && random {
            as_view(&scene, sql, want.first().map_or(0, Vec::len)).and_then(|rows| compare(&rows))?;
        }
        if batch {
            let answer = match self.oracle(sql) {
                Ok(answer) => answer,
                // DataFusion's own executor cannot run some plans in which it pushes the access to a nested field into the scan; the
                // result in the file, read by eye, is the oracle then.
                Err(error) if error.contains("duplicate unqualified field name") => return Ok(()),
                Err(error) => return Err(format!("the oracle: {error}")),
            };
            compare(&[answer]).map_err(|error| format!("the oracle has other rows (expected: ours): {error}"))?;
        }
        Ok(())
    }

    /// DataFusion's answer over all rows at once.
    fn oracle(&mut self, sql: &str) -> Result<RecordBatch, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut catalog = Catalog::new(Arc::new(OnlyModels));
        for sql in &self.statements {
            for statement in parser::parse(sql).map_err(|error| text(&error))? {
                let done = match &statement.kind {
                    StatementKind::CreateTable(create) => catalog.create_table(create),
                    StatementKind::CreateView(create) => catalog.create_view(create),
                    StatementKind::CreateFunction(create) => catalog.create_function(create),
                    StatementKind::CreateModel(create) => {
                        catalog.create_model(ModelDefinition::of(create, sql), create).map(drop)
                    }
                    StatementKind::Drop(drop) => catalog.drop(drop),
                    StatementKind::Set { key, value, .. } if key == "eagre.sql.time_zone" => {
                        catalog.set_time_zone(value.clone());
                        Ok(())
                    }
                    _ => Ok(()),
                };
                done.map_err(|error| text(&error))?;
            }
        }
        if self.fixtures.is_none() {
            self.fixtures = Some(fixtures(&catalog, &self.statements)?);
        }
        let tables = self.fixtures.as_ref().expect("just read");
        let statements = parser::parse(sql).map_err(|error| text(&error))?;
        let Some(StatementKind::Query(query)) = statements.first().map(|statement| &statement.kind) else {
            return Err("only a query has an oracle".to_owned());
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| text(&error))?;
        // DataFusion's rules call themselves for each subquery in a subquery.
        let answer = || runtime.block_on(oracle::answer(&catalog, query, tables));
        stacker::maybe_grow(DEEP_STACK_BYTES / 2, DEEP_STACK_BYTES, answer).map_err(|error| text(&error))
    }
}

/// Has the models of files, and no data behind tables.
struct OnlyModels;

impl TableProviderFactory for OnlyModels {
    fn source(&self, table: &TableDefinition) -> eagre_sql::error::Result<Arc<dyn Source>> {
        NoProviders.source(table)
    }

    fn sink(&self, table: &TableDefinition) -> eagre_sql::error::Result<Arc<dyn SinkFactory>> {
        NoProviders.sink(table)
    }

    fn infer_schema(&self, table: &TableDefinition) -> eagre_sql::error::Result<InferredTable> {
        NoProviders.infer_schema(table)
    }

    fn model(&self, model: &ModelDefinition) -> eagre_sql::error::Result<ModelAndHistory> {
        let failed = |error: &dyn std::fmt::Display| SqlError::plan(error.to_string(), model.location);
        let definition = eagre_models::Definition {
            name: model.name.clone(),
            input: model.input.clone(),
            output: model.output.clone(),
            options: model.options.iter().map(|option| (option.key.clone(), option.value.clone())).collect(),
            label: model.label.clone(),
        };
        if model.is_online() {
            return Ok((eagre_models::open(&definition, &[]).map_err(|error| failed(&error))?, None));
        }
        let path = definition.path().map_err(|error| failed(&error))?;
        let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
        Ok((eagre_models::open(&definition, &bytes).map_err(|error| failed(&error))?, None))
    }
}

/// The rows of a query as those of a materialized view, whose columns are named anew: a query may name two alike.
fn as_view(scene: Scene<'_>, sql: &str, columns: usize) -> Result<Vec<RecordBatch>, String> {
    let names: Vec<String> = (0..columns).map(|column| format!("c{column}")).collect();
    // What has no rows tells nothing of its columns.
    let names = if names.is_empty() { String::new() } else { format!("({})", names.join(", ")) };
    let sql = sql.trim().trim_end_matches(';');
    let sql = format!("CREATE MATERIALIZED VIEW __view {names} AS {sql};\nSELECT * FROM __view");
    let answer =
        run(&Schedule::calm(3, 5), scene, &sql).map_err(|error| format!("as a view: [{}] {error}", error.code()))?;
    Ok(answer.batches)
}

/// The rows that `INSERT`s put into tables.
fn fixtures(catalog: &Catalog, statements: &[String]) -> Result<HashMap<String, Vec<RecordBatch>>, String> {
    let mut tables = HashMap::new();
    for table in catalog.tables().filter(|table| table.option("connector").is_none()) {
        let columns: Vec<String> = table
            .columns
            .iter()
            .filter(|column| !matches!(column.kind, ColumnKind::Computed(_)))
            .map(|column| format!("\"{}\"", column.name))
            .collect();
        let scene = |session: &Session| statements.iter().try_for_each(|statement| execute(session, statement));
        let sql = format!("SELECT {} FROM \"{}\"", columns.join(", "), table.name);
        let answer = run(&Schedule::calm(1, 65_536), &scene, &sql).map_err(|error| error.to_string())?;
        let schema = table.source_schema();
        // Instants were shown in the session's zone.
        let as_held = |batch: RecordBatch| {
            let columns = batch.columns().iter().zip(schema.fields());
            let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<Vec<_>, _>>();
            RecordBatch::try_new(Arc::clone(&schema), columns?)
        };
        let batches = answer.batches.into_iter().map(as_held).collect::<Result<Vec<_>, _>>();
        tables.insert(table.name.clone(), batches.map_err(|error| error.to_string())?);
    }
    Ok(tables)
}

/// Runs statements to their end; results are read and forgotten.
fn execute(session: &Session, sql: &str) -> eagre::Result<()> {
    let Some(mut job) = session.execute(sql)?.job else {
        return Ok(());
    };
    for result in job.take_results() {
        result.collect_blocking()?;
    }
    job.wait_blocking().map(|_| ())
}

/// Runs one more statement after others.
fn run_all(before: &[String], sql: &str) -> eagre::Result<()> {
    let session = Session::builder().set("eagre.shards", "1").build()?;
    for statement in before {
        execute(&session, statement)?;
    }
    execute(&session, sql)
}

fn matches(expected: &ExpectedError, error: &eagre::Error) -> Result<(), String> {
    let text = error.to_string();
    match expected.is_match(&text, None) {
        true => Ok(()),
        false => Err(format!("another error came: [{}] {text}", error.code())),
    }
}

fn filled(sql: &str) -> String {
    sql.replace(DATA, &folder("cases/slt/data").display().to_string())
}

fn letters(schema: &SchemaRef) -> Vec<Letter> {
    schema.fields().iter().map(|field| Letter::of(field.data_type())).collect()
}

/// Numbers that are floats as such, all else as it is written in a file.
fn readable(batches: &[RecordBatch]) -> Vec<Row> {
    let cell = |value: Value| match value {
        Value::Double(value) => Value::Double(value),
        other => Value::Text(cell_text(&other)),
    };
    value::rows(batches).into_iter().map(|row| row.into_iter().map(cell).collect()).collect()
}

fn cell_text(value: &Value) -> String {
    match value {
        Value::Text(text) if text.is_empty() => "(empty)".to_owned(),
        other => other.to_string().replace('\n', "\\n").replace('\t', "\\t"),
    }
}

fn lines(batches: &[RecordBatch], ordered: bool) -> Vec<String> {
    let line = |row: Row| row.iter().map(cell_text).collect::<Vec<_>>().join("\t");
    let mut lines: Vec<String> = value::rows(batches).into_iter().map(line).collect();
    if !ordered {
        lines.sort();
    }
    lines
}

fn expected_rows(lines: &[String], schema: &SchemaRef) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        if cells.len() != schema.fields().len() {
            return Err(format!(
                "`{line}` has {} cells, the answer has {} columns",
                cells.len(),
                schema.fields().len()
            ));
        }
        let row = cells.iter().zip(schema.fields()).map(|(cell, field)| {
            match field.data_type().is_floating() && *cell != "NULL" {
                true => cell.parse().map(Value::Double).map_err(|_| format!("`{cell}` is no number")),
                false => Ok(Value::Text((*cell).to_owned())),
            }
        });
        rows.push(row.collect::<Result<Row, String>>()?);
    }
    Ok(rows)
}

/// Whether the query itself has an `ORDER BY`, and not only an aggregate in it.
pub(crate) fn is_ordered(sql: &str) -> bool {
    let tail = sql.to_uppercase().rfind("ORDER BY").map(|at| &sql[at..]);
    tail.is_some_and(|tail| tail.matches('(').count() == tail.matches(')').count())
}
