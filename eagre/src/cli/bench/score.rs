//! `eagre bench score`: what a score costs through SQL, by method, number of keys and order of rows.
//!
//! Rows lie in memory, and each key has a daily wave with noise. *Grouped* rows come key after key, so that a step has many rows of few
//! keys and a model stays in the cache; *round-robin* rows come from each key in turn, so that each row finds a cold model. A key's state is
//! memory that the system clears when it is first touched: with few rows a key that is most of the time, so it is told beside, and the
//! first method and order of a process pays it for those after it, which get the memory again. Before time is taken, the answers of sampled keys are compared with those over each key's rows at once.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray, UInt64Array};
use arrow::compute::{concat, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use clap::{Args, ValueEnum};
use eagre_engine::EngineError;
use eagre_engine::operator::score::{ScoreAnswer, score_partition};
use eagre_engine::score::{DetectorOptions, METHODS};
use eagre_sql::catalog::TableDefinition;
use eagre_sql::planner::Job;
use serde_json::{Map, Value};

use super::args::parse_count;
use super::input::mix;
use super::run::Planned;
use super::verify::rows_of;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::source::memory::MemorySource;

const BATCH_ROWS: u64 = 65_536;
/// Of about so many keys the answers are checked.
const CHECKED_KEYS: u64 = 16;

/// Options of `eagre bench score`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ScoreArgs {
    /// How many keys there are; suffixes k and M.
    #[arg(long, default_value = "100k", value_parser = parse_count)]
    keys: u64,
    /// How many rows; suffixes k and M.
    #[arg(long, default_value = "10M", value_parser = parse_count)]
    rows: u64,
    /// Which methods, separated by commas; `all` of those that score one value.
    #[arg(long, default_value = "ewma")]
    methods: String,
    /// In which order rows come, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "grouped,round-robin")]
    order: Vec<Order>,
    /// What is asked of each row: its score, or all that is detected.
    #[arg(long, value_enum, default_value_t = Function::Score)]
    function: Function,
    /// The most rows of a step.
    #[arg(long, default_value = "65536", value_parser = parse_count)]
    rows_per_step: u64,
    /// Seed of the values.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Grouped,
    RoundRobin,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Function {
    Score,
    Detect,
}

/// Checks and measures all that is asked for.
pub(super) fn run(args: &ScoreArgs) -> Result<()> {
    if args.keys == 0 || args.rows < args.keys {
        return Err(Error::usage(format!("{} rows are fewer than {} keys; give each key a row", args.rows, args.keys)));
    }
    println!(
        "{:<12} {:<12} {:>9} {:>11} {:>12} {:>15} {:>13} {:>11}  answer",
        "method", "order", "keys", "rows", "rows_per_s", "rows_per_cpu_s", "of_it_system", "bytes_key"
    );
    let mut wrong = false;
    for method in methods(&args.methods)? {
        for order in &args.order {
            let bench = Bench { args, method, order: *order };
            let batches: Vec<RecordBatch> = bench.batches()?;
            let answer = bench.answer(&batches)?;
            wrong |= answer != "ok";
            let (session, job) = bench.plan(&batches, &bench.query())?;
            let mut planned = Planned::new(session, job, None);
            planned.measure_results(false);
            let run = planned.run(None)?;
            println!(
                "{method:<12} {:<12} {:>9} {:>11} {:>12.0} {:>15.0} {:>12.0}% {:>11}  {answer}",
                order.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned()),
                args.keys,
                args.rows,
                args.rows as f64 / run.seconds,
                args.rows as f64 / run.cpu_seconds,
                100.0 * run.system_seconds / run.cpu_seconds.max(0.01),
                run.state_bytes_max / args.keys,
            );
        }
    }
    if wrong { Err(Error::usage("answers are wrong: see above")) } else { Ok(()) }
}

fn methods(text: &str) -> Result<Vec<&'static str>> {
    let one_value = || METHODS.iter().map(|method| method.name);
    if text == "all" {
        return Ok(one_value().collect());
    }
    let named = |name: &str| {
        let found = one_value().find(|method| *method == name.trim());
        let all = || one_value().collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| Error::usage(format!("there is no method `{name}`; there are {} and `all`", all())))
    };
    text.split(',').map(named).collect()
}

struct Bench<'a> {
    args: &'a ScoreArgs,
    method: &'static str,
    order: Order,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("k", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("v", DataType::Float64, false),
    ]))
}

impl Bench<'_> {
    fn key(&self, row: u64) -> u64 {
        match self.order {
            Order::Grouped => (u128::from(row) * u128::from(self.args.keys) / u128::from(self.args.rows)) as u64,
            Order::RoundRobin => row % self.args.keys,
        }
    }

    fn value(&self, row: u64) -> f64 {
        let noise = mix(self.args.seed, row) as u32;
        100.0 + 10.0 * (row as f64 / 1_440.0).sin() + f64::from(noise) / f64::from(u32::MAX)
    }

    fn batches(&self) -> Result<Vec<RecordBatch>> {
        let batch = |first: u64| {
            let rows = || first..(first + BATCH_ROWS).min(self.args.rows);
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values(rows().map(|row| row as i64))),
                Arc::new(Int64Array::from_iter_values(rows().map(|row| self.key(row) as i64))),
                Arc::new(TimestampMillisecondArray::from_iter_values(rows().map(|row| row as i64))),
                Arc::new(Float64Array::from_iter_values(rows().map(|row| self.value(row)))),
            ];
            Ok(RecordBatch::try_new(schema(), columns).map_err(EngineError::from)?)
        };
        (0..self.args.rows).step_by(BATCH_ROWS as usize).map(batch).collect()
    }

    fn query(&self) -> String {
        let method = self.method;
        let call = match self.args.function {
            Function::Score => format!("anomaly_score(v, method => '{method}')"),
            Function::Detect => format!("detect_anomalies(v, ts, method => '{method}')"),
        };
        format!("SELECT n, k, {call} OVER (PARTITION BY k ORDER BY ts) AS s FROM series")
    }

    fn plan(&self, batches: &[RecordBatch], query: &str) -> Result<(Session, Job)> {
        let session = Session::builder()
            .set("eagre.device", "cpu")
            .set("eagre.shards", "1")
            .set("eagre.step.rows_max", self.args.rows_per_step.to_string())
            .build()?;
        let table = TableDefinition::from_schema("series", &schema()).with_watermark("ts", Some("ts"))?;
        session.register_source(table, Arc::new(MemorySource::new("series", schema(), batches.to_vec())))?;
        let job = session.prepare(query)?.job.ok_or_else(|| Error::usage("the text holds no query"))?;
        Ok((session, job))
    }

    /// Whether sampled keys have the answers that their rows have at once.
    fn answer(&self, batches: &[RecordBatch]) -> Result<String> {
        let stride = self.args.keys.div_ceil(CHECKED_KEYS);
        let query = format!("SELECT n, k, s FROM ({}) WHERE k % {stride} = 0", self.query());
        let (session, job) = self.plan(batches, &query)?;
        let (found, _) = rows_of(&session, job)?;
        let places = found.column(0).as_primitive::<Int64Type>();
        let mut order: Vec<u64> = (0..found.num_rows() as u64).collect();
        order.sort_by_key(|row| places.value(*row as usize));
        let found = take_record_batch(&found, &UInt64Array::from(order)).map_err(EngineError::from)?;
        let mut options = Map::new();
        options.insert("method".to_owned(), Value::from(self.method));
        let options = DetectorOptions::parse(&options).map_err(|error| Error::usage(error.to_string()))?;
        let answer = match self.args.function {
            Function::Score => ScoreAnswer::Score(options.method().clone()),
            Function::Detect => ScoreAnswer::Detections(options),
        };
        let (numbers, keys) =
            (found.column(0).as_primitive::<Int64Type>(), found.column(1).as_primitive::<Int64Type>());
        let mut checked = 0;
        for key in (0..self.args.keys).step_by(stride as usize) {
            let of_key: Vec<u64> =
                (0..found.num_rows() as u64).filter(|row| keys.value(*row as usize) == key as i64).collect();
            let rows: Vec<u64> = of_key.iter().map(|row| numbers.value(*row as usize) as u64).collect();
            let values: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| self.value(*row))));
            let times: ArrayRef =
                Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| *row as i64)));
            // A score alone is not told times.
            let times = matches!(answer, ScoreAnswer::Detections(_)).then_some(&times);
            let expected = score_partition(&answer, &[values], None, times, None, rows.len())?;
            let mine = take_record_batch(&found, &UInt64Array::from(of_key)).map_err(EngineError::from)?;
            let mine = concat(&[mine.column(2).as_ref()]).map_err(EngineError::from)?;
            if *mine != *expected {
                return Ok(format!("WRONG for key {key}"));
            }
            checked += rows.len() as u64;
        }
        let expected = (0..self.args.rows).filter(|row| self.key(*row).is_multiple_of(stride)).count() as u64;
        Ok(if checked == expected { "ok".to_owned() } else { format!("WRONG: {checked} of {expected} rows came out") })
    }
}
