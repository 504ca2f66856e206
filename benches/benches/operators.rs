//! The hot operators, one at a time: rows a second of one core, in batches of 8,192 rows and of one.

#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use eagre_datasets::nexmark::{NexmarkConfig, NexmarkGenerator, NexmarkTable};
use eagre_engine::Delta;
use eagre_engine::aggregate::{AggregateCall, BuiltinRequest, builtin};
use eagre_engine::expr::StepContext;
use eagre_engine::hash::hash_columns;
use eagre_engine::operator::group_aggregate::GroupAggregateFactory;
use eagre_engine::operator::partial_aggregate::{PaneEmit, PartialAggregateFactory, PartialWindows};
use eagre_engine::operator::window::{WindowKind, WindowSpec};
use eagre_engine::operator::window_aggregate::WindowAggregateFactory;
use eagre_engine::operator::window_reduce::{WindowReduceFactory, WindowReduceSpec};
use eagre_engine::operator::{Input, Operator, OperatorFactory, Output};
use eagre_engine::time::Watermarks;
use eagre_engine::wall_clock::WallClock;

const BATCH_ROWS: usize = 8_192;
const BATCHES: usize = 64;
const KEYS: u64 = 10_000;

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", time_type(), false),
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Int64, false),
    ]))
}

/// `rows` rows from row `first` on, 100,000 a second of event time, keys in random order.
fn batch(first: u64, rows: usize) -> Delta {
    let random = |row: u64| (row ^ (row >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let each = || first..first + rows as u64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(each().map(|row| (row / 100) as i64))),
        Arc::new(Int64Array::from_iter_values(each().map(|row| (random(row) % KEYS) as i64))),
        Arc::new(Int64Array::from_iter_values(each().map(|row| (random(row) % 1_000_000) as i64))),
    ];
    Delta::insert(RecordBatch::try_new(schema(), columns).expect("the schema's types"))
}

fn count_sum_max() -> Vec<AggregateCall> {
    let call = |name: &str, args: Vec<usize>| {
        let fields: Vec<_> = args.iter().map(|index| Arc::new(schema().field(*index).clone())).collect();
        let return_field = Arc::new(Field::new(name, DataType::Int64, true));
        let request = BuiltinRequest { name, args: &fields, distinct: false, retracting: false, return_field };
        AggregateCall { function: builtin(&request).expect("a function of our own"), args, filter: None }
    };
    vec![call("count", vec![]), call("sum", vec![2]), call("max", vec![2])]
}

struct Pair {
    local: Box<dyn Operator>,
    global: Box<dyn Operator>,
    watermark: i64,
    step: u64,
}

impl Pair {
    fn windows(kind: WindowKind) -> Self {
        let spec = WindowSpec::new(kind, 0).expect("a window");
        let windows = PartialWindows::Panes { spec, time_column: 0, emit: PaneEmit::OnClose, lateness_ms: 0 };
        let local = PartialAggregateFactory::new(schema(), vec![1], count_sum_max(), windows).expect("a plan");
        let global = WindowAggregateFactory::new(spec, time_type(), local.output_schema(), 1, count_sum_max(), None);
        Self::new(&local, &global.expect("a plan"))
    }

    /// The same through the kernel, on the CPU.
    fn approximate_windows(kind: WindowKind) -> Self {
        let windows = WindowSpec::new(kind, 0).expect("a window");
        let spec = WindowReduceSpec {
            input: schema(),
            keys: vec![1],
            calls: count_sum_max(),
            windows,
            time_column: 0,
            emit: PaneEmit::OnClose,
            lateness_ms: 0,
            clock: WallClock::default(),
            placement: Arc::default(),
        };
        let local = WindowReduceFactory::new(spec).expect("a plan");
        let global = WindowAggregateFactory::new(windows, time_type(), local.output_schema(), 1, count_sum_max(), None);
        Self::new(&local, &global.expect("a plan"))
    }

    fn groups() -> Self {
        let local =
            PartialAggregateFactory::new(schema(), vec![1], count_sum_max(), PartialWindows::None).expect("a plan");
        let global = GroupAggregateFactory::new(local.output_schema(), 1, count_sum_max(), None, None);
        Self::new(&local, &global.expect("a plan"))
    }

    fn new(local: &dyn OperatorFactory, global: &dyn OperatorFactory) -> Self {
        let (local, global) = (local.create().expect("creates"), global.create().expect("creates"));
        Self { local, global, watermark: i64::MIN, step: 0 }
    }

    fn step(&mut self, delta: Delta, watermark: i64) -> usize {
        let watermarks = Watermarks { before: self.watermark, after: watermark };
        self.watermark = watermark;
        self.step += 1;
        let context = StepContext { step: self.step, clock_ms: 0, seed: 0 };
        let mut partial = Output::default();
        self.local
            .step(Input { ports: vec![vec![delta]], context: &context, watermarks }, &mut partial)
            .expect("steps");
        let mut out = Output::default();
        self.global
            .step(Input { ports: vec![partial.deltas], context: &context, watermarks }, &mut out)
            .expect("steps");
        out.deltas.iter().map(Delta::rows).sum()
    }
}

type MakePair = fn() -> Pair;

fn aggregates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("count+sum+max, 10 k keys");
    let rows: Vec<Delta> = (0..BATCHES).map(|index| batch((index * BATCH_ROWS) as u64, BATCH_ROWS)).collect();
    group.throughput(Throughput::Elements((BATCHES * BATCH_ROWS) as u64)).sample_size(20);
    let forms: [(&str, MakePair); 4] = [
        ("tumble 1 s", || Pair::windows(WindowKind::Tumble { size_ms: 1_000 })),
        ("tumble 1 s, approximate", || Pair::approximate_windows(WindowKind::Tumble { size_ms: 1_000 })),
        ("hop 200 ms / 1 s", || Pair::windows(WindowKind::Hop { slide_ms: 200, size_ms: 1_000 })),
        ("updating group by", Pair::groups),
    ];
    for (name, pair) in forms {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                pair,
                |mut pair| {
                    let step =
                        |(index, delta): (usize, &Delta)| pair.step(delta.clone(), (index * BATCH_ROWS / 100) as i64);
                    rows.iter().enumerate().map(step).sum::<usize>()
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("a step of one row");
    for (name, pair) in forms {
        let mut pair = pair();
        let mut row = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                row += 1;
                pair.step(batch(row, 1), (row / 100) as i64)
            });
        });
    }
    group.finish();
}

fn hashes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash for the exchange");
    let delta = batch(0, BATCH_ROWS);
    let mut out = Vec::new();
    group.throughput(Throughput::Elements(BATCH_ROWS as u64));
    group.bench_function("one i64 key", |bencher| {
        bencher.iter(|| hash_columns(&[Arc::clone(delta.batch.column(1))], BATCH_ROWS, &mut out).expect("hashes"));
    });
    group.finish();
}

fn nexmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nexmark generator");
    let generator = NexmarkGenerator::new(NexmarkConfig::default()).expect("the defaults hold");
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("bid, all columns", |bencher| {
        let mut next = 0;
        bencher.iter(|| {
            next += 10_000;
            generator.batch(NexmarkTable::Bid, next..next + 10_000, None).expect("a batch")
        });
    });
    group.finish();
}

criterion_group!(benches, aggregates, hashes, nexmark);
criterion_main!(benches);
