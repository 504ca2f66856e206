//! How many rows a second one core takes through the aggregating operators, and what a step of one row costs.
//!
//! `cargo run --release -p eagre-engine --example aggregate_throughput [rows in millions]`
//!
//! Rows are `(event time, i64 key of 10,000, i64 value)`, 100,000 a second of event time, in batches of 8,192, made before the clock
//! starts. Results are counted and summed, so that nothing is skipped. Time is that of the processor (`/proc/thread-self/schedstat`), so
//! that neighbours on a shared machine do not show, except in the slowest step.

#![allow(clippy::disallowed_methods)] // A measurement reads the clock.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use eagre_engine::Delta;
use eagre_engine::aggregate::{AggregateCall, BuiltinRequest, builtin};
use eagre_engine::expr::StepContext;
use eagre_engine::operator::group_aggregate::GroupAggregateFactory;
use eagre_engine::operator::partial_aggregate::{PaneEmit, PartialAggregateFactory, PartialWindows};
use eagre_engine::operator::window::{WindowKind, WindowSpec};
use eagre_engine::operator::window_aggregate::WindowAggregateFactory;
use eagre_engine::operator::{Input, Operator, OperatorFactory, Output, SaveKind, StateWriter};
use eagre_engine::time::Watermarks;

const BATCH_ROWS: usize = 8_192;
const KEYS: u64 = 10_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", time_type(), false),
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Int64, false),
        Field::new("text", DataType::Utf8View, false),
        Field::new("amount", DataType::Float64, false),
    ]))
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

fn batch(first: u64, rows: usize) -> Delta {
    let random = |row: u64| {
        let x = (row ^ (row >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let each = || first..first + rows as u64;
    let keys = || each().map(|row| (random(row) >> 33) % KEYS);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(each().map(|row| (row / 100) as i64))),
        Arc::new(Int64Array::from_iter_values(keys().map(|key| key as i64))),
        Arc::new(Int64Array::from_iter_values(each().map(|row| (random(row) % 1_000_000) as i64))),
        Arc::new(StringViewArray::from_iter_values(keys().map(|key| format!("channel-number-{key}")))),
        Arc::new(Float64Array::from_iter_values(each().map(|row| (random(row) % 1_000_000) as f64 / 100.0))),
    ];
    Delta::insert(RecordBatch::try_new(schema(), columns).expect("the schema's types"))
}

fn call(name: &str, args: &[usize], result: DataType, distinct: bool) -> AggregateCall {
    let fields: Vec<_> = args.iter().map(|index| Arc::new(schema().field(*index).clone())).collect();
    let return_field = Arc::new(Field::new(name, result, true));
    let request = BuiltinRequest { name, args: &fields, distinct, retracting: false, return_field };
    AggregateCall { function: builtin(&request).expect(name), args: args.to_vec(), filter: None }
}

fn count_sum_max() -> Vec<AggregateCall> {
    vec![
        call("count", &[], DataType::Int64, false),
        call("sum", &[2], DataType::Int64, false),
        call("max", &[2], DataType::Int64, false),
    ]
}

/// Nanoseconds that this thread has run.
fn thread_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}

struct Pair {
    local: Box<dyn Operator>,
    global: Box<dyn Operator>,
    watermark: i64,
    step: u64,
    rows_out: usize,
    checksum: i64,
    count_column: usize,
}

impl Pair {
    fn new(local: &dyn OperatorFactory, global: &dyn OperatorFactory, count_column: usize) -> Self {
        let (local, global) = (local.create().expect("creates"), global.create().expect("creates"));
        Self { local, global, watermark: i64::MIN, step: 0, rows_out: 0, checksum: 0, count_column }
    }

    fn step(&mut self, deltas: Vec<Delta>, watermark: i64) {
        let watermarks = Watermarks { before: self.watermark, after: watermark };
        self.watermark = watermark;
        self.step += 1;
        let context = StepContext { step: self.step, clock_ms: 0, seed: 0 };
        let mut partials = Output::default();
        self.local.step(Input { ports: vec![deltas], context: &context, watermarks }, &mut partials).expect("steps");
        let mut out = Output::default();
        let input = Input { ports: vec![partials.deltas], context: &context, watermarks };
        self.global.step(input, &mut out).expect("steps");
        for delta in out.deltas {
            self.rows_out += delta.rows();
            let counts = delta.batch.column(self.count_column).as_primitive::<Int64Type>();
            self.checksum += match &delta.weights {
                None => counts.values().iter().sum::<i64>(),
                Some(weights) => {
                    counts.values().iter().zip(weights.values()).map(|(count, weight)| count * weight).sum()
                }
            };
        }
    }
}

fn measure(name: &str, batches: &[Delta], mut pair: Pair, covers: i64, batches_a_step: usize, saves: bool) {
    let rows: usize = batches.iter().map(Delta::rows).sum();
    let start = thread_ns();
    let mut slowest = 0.0_f64;
    let mut last = 0;
    for (index, chunk) in batches.chunks(batches_a_step).enumerate() {
        let begin = Instant::now();
        last += chunk.iter().map(|delta| delta.rows() as i64).sum::<i64>();
        pair.step(chunk.to_vec(), last / 100 - 1_000);
        slowest = slowest.max(begin.elapsed().as_secs_f64());
        if saves && index % 500 == 0 {
            for operator in [&mut pair.local, &mut pair.global] {
                operator.save(SaveKind::Changes, &mut StateWriter::default()).expect("saves");
            }
        }
    }
    pair.step(Vec::new(), i64::MAX);
    let seconds = (thread_ns() - start) as f64 / 1e9;
    let right = if pair.checksum == rows as i64 * covers { "right" } else { "WRONG" };
    println!(
        "{name:<44} {:>8.1} M rows/s  {:>6.2} ns/row  slowest step {:>7.3} ms  {:>9} rows out  {right}",
        rows as f64 / seconds / 1e6,
        seconds * 1e9 / rows as f64,
        slowest * 1e3,
        pair.rows_out,
    );
}

fn windowed(spec: WindowSpec, keys: &[usize], calls: &[AggregateCall]) -> Pair {
    let windows = PartialWindows::Panes { spec, time_column: 0, emit: PaneEmit::OnClose, lateness_ms: 0 };
    let local = PartialAggregateFactory::new(schema(), keys.to_vec(), calls.to_vec(), windows).expect("plans");
    let global =
        WindowAggregateFactory::new(spec, time_type(), local.output_schema(), keys.len(), calls.to_vec(), None)
            .expect("plans");
    Pair::new(&local, &global, keys.len() + 3)
}

fn grouped(keys: &[usize], calls: &[AggregateCall]) -> Pair {
    let local =
        PartialAggregateFactory::new(schema(), keys.to_vec(), calls.to_vec(), PartialWindows::None).expect("plans");
    let global =
        GroupAggregateFactory::new(local.output_schema(), keys.len(), calls.to_vec(), Some(0), None).expect("plans");
    Pair::new(&local, &global, keys.len())
}

fn main() {
    let millions: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let only = std::env::args().nth(2).unwrap_or_default();
    let count = millions * 1_000_000 / BATCH_ROWS;
    let batches: Vec<Delta> = (0..count).map(|index| batch((index * BATCH_ROWS) as u64, BATCH_ROWS)).collect();
    let spec = |kind| WindowSpec::new(kind, 0).expect("valid");
    let tumble = spec(WindowKind::Tumble { size_ms: 10_000 });
    let hop = spec(WindowKind::Hop { slide_ms: 2_000, size_ms: 10_000 });
    let fine = spec(WindowKind::Hop { slide_ms: 100, size_ms: 10_000 });
    let run = |name: &str, pair: Pair, covers: i64, batches_a_step: usize, saves: bool| {
        if name.contains(&only) {
            measure(name, &batches, pair, covers, batches_a_step, saves);
        }
    };
    let calls = count_sum_max();
    run("tumble 10 s, count sum max by i64", windowed(tumble, &[1], &calls), 1, 1, false);
    run("hop 10 s / 2 s, count sum max by i64", windowed(hop, &[1], &calls), 5, 1, false);
    run("hop 10 s / 2 s, with saves", windowed(hop, &[1], &calls), 5, 1, true);
    run("hop 10 s / 100 ms, count sum max by i64", windowed(fine, &[1], &calls), 100, 1, false);
    run("hop 10 s / 2 s, count sum max by text", windowed(hop, &[3], &calls), 5, 1, false);
    run("hop 10 s / 2 s, by i64 and text", windowed(hop, &[1, 3], &calls), 5, 1, false);
    run("hop 10 s / 2 s, by two i64", windowed(hop, &[1, 1], &calls), 5, 1, false);
    let float = vec![
        call("count", &[], DataType::Int64, false),
        call("sum", &[4], DataType::Float64, false),
        call("avg", &[4], DataType::Float64, false),
    ];
    run("hop 10 s / 2 s, count sum avg of double", windowed(hop, &[1], &float), 5, 1, false);
    let distinct = vec![call("count", &[], DataType::Int64, false), call("count", &[2], DataType::Int64, true)];
    run("tumble 10 s, count distinct by i64", windowed(tumble, &[1], &distinct), 1, 1, false);
    run("group by i64, steps of 8,192", grouped(&[1], &calls), 1, 1, false);
    run("group by i64, steps of 40,960", grouped(&[1], &calls), 1, 5, false);
    run("group by i64, steps of 409,600", grouped(&[1], &calls), 1, 50, false);
    run("group by i64, one step", grouped(&[1], &calls), 1, count, false);
    run("no keys, count sum max", grouped(&[], &calls), 1, 1, false);

    for (name, mut pair) in [("window", windowed(hop, &[1], &calls)), ("group", grouped(&[1], &calls))] {
        if !"one row".contains(&only) {
            continue;
        }
        batches.iter().take(100).for_each(|batch| pair.step(vec![batch.clone()], 0));
        const STEPS: usize = 200_000;
        let rows: Vec<Delta> = (0..BATCH_ROWS).map(|row| batches[100].slice(row, 1)).collect();
        let start = thread_ns();
        rows.iter().cycle().take(STEPS).for_each(|row| pair.step(vec![row.clone()], 0));
        println!("one row a step, {name:<28} {:>8.2} us/step", (thread_ns() - start) as f64 / 1e3 / STEPS as f64);
    }
}
