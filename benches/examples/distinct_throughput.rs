//! What `COUNT(DISTINCT)` costs: Nexmark's q16 (eight distinct counts over two columns, by channel and day) or q15 (by day alone), without SQL,
//! source and sink, without checkpoints and with one every so many steps, encoded as the checkpointer does.
//!
//! `cargo run --release -p eagre-benches --example distinct_throughput -- q16|q15 EVENTS [STEPS BETWEEN CHECKPOINTS]`
//!
//! Time is that of the processor (`/proc/thread-self/schedstat`), so that neighbours on a shared machine show less. What leaves is summed, so
//! that two versions can be held against each other.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use eagre_datasets::nexmark::{NexmarkConfig, NexmarkGenerator, NexmarkTable};
use eagre_engine::Delta;
use eagre_engine::aggregate::{AggregateCall, BuiltinRequest, builtin};
use eagre_engine::checkpoint::{Compression, encode_chunks};
use eagre_engine::expr::StepContext;
use eagre_engine::operator::group_aggregate::GroupAggregateFactory;
use eagre_engine::operator::partial_aggregate::{PartialAggregateFactory, PartialWindows};
use eagre_engine::operator::{Input, OperatorFactory, Output, SaveKind, StateWriter};
use eagre_engine::time::Watermarks;

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STEP_ROWS: u64 = 65_536;

/// Nanoseconds that this thread has run.
fn thread_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}

/// `channel, day, bidder, auction`, and of each of three ranges of prices whether the bid is in it.
fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8View, false);
    let int = |name| Field::new(name, DataType::Int64, false);
    let flag = |name| Field::new(name, DataType::Boolean, false);
    Arc::new(Schema::new(vec![
        text("channel"),
        text("day"),
        int("bidder"),
        int("auction"),
        flag("rank1"),
        flag("rank2"),
        flag("rank3"),
    ]))
}

fn rows(bids: &RecordBatch) -> Delta {
    let column = |name: &str| Arc::clone(bids.column_by_name(name).expect("a column of bids"));
    let price = column("price");
    let price = price.as_primitive::<Int64Type>();
    let within = |least: i64, end: i64| -> ArrayRef {
        Arc::new(price.values().iter().map(|price| Some((least..end).contains(price))).collect::<BooleanArray>())
    };
    let day = Arc::new(StringViewArray::from(vec!["2015-07-15"; bids.num_rows()]));
    let columns = vec![
        column("channel"),
        day,
        column("bidder"),
        column("auction"),
        within(i64::MIN, 10_000),
        within(10_000, 1_000_000),
        within(1_000_000, i64::MAX),
    ];
    Delta::insert(RecordBatch::try_new(schema(), columns).expect("the schema's types"))
}

fn calls() -> Vec<AggregateCall> {
    let count = |args: &[usize], filter: Option<usize>| {
        let fields: Vec<_> = args.iter().map(|index| Arc::new(schema().field(*index).clone())).collect();
        let return_field = Arc::new(Field::new("count", DataType::Int64, false));
        let distinct = !args.is_empty();
        let request = BuiltinRequest { name: "count", args: &fields, distinct, retracting: false, return_field };
        AggregateCall { function: builtin(&request).expect("count"), args: args.to_vec(), filter }
    };
    let filters = [None, Some(4), Some(5), Some(6)];
    let args: [&[usize]; 3] = [&[], &[2], &[3]];
    args.into_iter().flat_map(|args| filters.map(|filter| count(args, filter))).collect()
}

struct Figures {
    step_ns: u64,
    slowest_ms: f64,
    save_ns: u64,
    encode_ns: u64,
    bytes: u64,
    sum: i64,
    state: usize,
}

fn run(steps: &[Delta], keys: &[usize], saves_every: Option<usize>) -> Figures {
    let local = PartialAggregateFactory::new(schema(), keys.to_vec(), calls(), PartialWindows::None).expect("plans");
    let global = GroupAggregateFactory::new(local.output_schema(), keys.len(), calls(), None, None).expect("plans");
    let (mut local, mut global) = (local.create().expect("creates"), global.create().expect("creates"));
    let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
    let watermarks = Watermarks { before: 0, after: 0 };
    let mut figures = Figures { step_ns: 0, slowest_ms: 0.0, save_ns: 0, encode_ns: 0, bytes: 0, sum: 0, state: 0 };
    let mut buffer = Vec::new();
    for (step, delta) in steps.iter().enumerate() {
        let start = thread_ns();
        let mut partials = Output::default();
        let input = Input { ports: vec![vec![delta.clone()]], context: &context, watermarks };
        local.step(input, &mut partials).expect("steps");
        let mut out = Output::default();
        let input = Input { ports: vec![partials.deltas], context: &context, watermarks };
        global.step(input, &mut out).expect("steps");
        let ns = thread_ns() - start;
        figures.step_ns += ns;
        figures.slowest_ms = figures.slowest_ms.max(ns as f64 / 1e6);
        for delta in &out.deltas {
            for column in &delta.batch.columns()[keys.len()..] {
                let counts: &Int64Array = column.as_primitive();
                figures.sum += (0..delta.rows()).map(|row| counts.value(row) * delta.weight(row)).sum::<i64>();
            }
        }
        if saves_every.is_some_and(|every| (step + 1) % every == 0) {
            let mut writer = StateWriter::default();
            let start = thread_ns();
            global.save(SaveKind::Changes, &mut writer).expect("saves");
            figures.save_ns += thread_ns() - start;
            let start = thread_ns();
            let mut rest = writer.chunks.as_slice();
            while !rest.is_empty() {
                rest = &rest[encode_chunks(rest, Compression::None, &mut buffer).expect("encodes")..];
                figures.bytes += buffer.len() as u64;
            }
            figures.encode_ns += thread_ns() - start;
        }
    }
    figures.state = global.state_bytes();
    figures
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |place: usize, otherwise: u64| args.get(place).map_or(otherwise, |text| text.parse().expect("a number"));
    let keys: &[usize] = match args.first().map_or("q16", String::as_str) {
        "q16" => &[0, 1],
        "q15" => &[1],
        other => panic!("`{other}` is neither q16 nor q15"),
    };
    let (events, every) = (number(1, 2_000_000), number(2, 8) as usize);
    let config = NexmarkConfig { event_count: Some(events), events_per_second: 100_000, ..NexmarkConfig::default() };
    let generator = NexmarkGenerator::new(config).expect("valid");
    let firsts = (0..events).step_by(STEP_ROWS as usize);
    let bids = |first| generator.batch(NexmarkTable::Bid, first..(first + STEP_ROWS).min(events), None);
    let steps: Vec<Delta> = firsts.map(|first| rows(&bids(first).expect("generates"))).collect();
    for saves_every in [None, Some(every)] {
        let figures = run(&steps, keys, saves_every);
        let seconds = |ns: u64| ns as f64 / 1e9;
        println!(
            "{:<28} {:>7.0} k events/s  steps {:>6.2} s, the slowest {:>6.1} ms  saves {:>6.2} s  encoding {:>6.2} s, {:>6.1} MiB  \
             state {:>6.1} MiB  sum {}",
            saves_every.map_or("no checkpoints".to_owned(), |every| format!("one every {every} steps")),
            events as f64 / seconds(figures.step_ns + figures.save_ns + figures.encode_ns) / 1e3,
            seconds(figures.step_ns),
            figures.slowest_ms,
            seconds(figures.save_ns),
            seconds(figures.encode_ns),
            figures.bytes as f64 / (1 << 20) as f64,
            figures.state as f64 / (1 << 20) as f64,
            figures.sum,
        );
    }
}
