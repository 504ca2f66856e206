//! What a second shard costs: keyed windows and groups as whole pipelines, without SQL, from rows in memory.
//!
//! `cargo run --release -p eagre-benches --example shards -- [queries] [rows in millions] [passes] [rounds] [rows a step] [keys]`
//!
//! Each round measures, one after the other and each in a process of its own: one shard; two of those at the same time, which is what two
//! cores can do at most; two shards of one pipeline. Processor time is that of the whole process, reader, steps and sink together. The sink
//! adds up a hash of each row times its weight, which must not depend on the number of shards, and is compared. A step takes 65,536 rows for each
//! shard, as `eagre.step.rows_max` has it where it is not set (or 0), or as many as the argument says, however many shards there are.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit};
use eagre_engine::aggregate::{AggregateCall, BuiltinRequest, builtin};
use eagre_engine::expr::{Expr, ExprRef, StepContext};
use eagre_engine::graph::{
    ChangelogMode, Edge, EdgeInfo, Graph, Node, NodeKind, OperatorId, Route, SinkNode, SourceNode, WatermarkSpec,
    WatermarkStrategy,
};
use eagre_engine::operator::OperatorFactoryRef;
use eagre_engine::operator::group_aggregate::GroupAggregateFactory;
use eagre_engine::operator::partial_aggregate::{PaneEmit, PartialAggregateFactory, PartialWindows};
use eagre_engine::operator::window::{WindowKind, WindowSpec};
use eagre_engine::operator::window_aggregate::WindowAggregateFactory;
use eagre_engine::runtime::{Clock, Mode, Pipeline, PipelineConfig, Start};
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::source::{PartitionId, Places, Position, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use eagre_engine::{Delta, Result};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a batch as the reader hands them over.
const BATCH_ROWS: usize = 8_192;

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

/// Spreads the bits of a number.
fn spread(number: u64) -> u64 {
    let x = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// 100,000 rows a second of event time, keys in random order.
fn batch(first: u64, rows: usize, keys: u64) -> RecordBatch {
    let each = || first..first + rows as u64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(each().map(|row| (row / 100) as i64))),
        Arc::new(Int64Array::from_iter_values(each().map(|row| ((spread(row) >> 33) % keys) as i64))),
        Arc::new(Int64Array::from_iter_values(each().map(|row| (spread(row) % 1_000_000) as i64))),
    ];
    RecordBatch::try_new(schema(), columns).expect("the schema's types")
}

/// Batches in memory, in one partition.
#[derive(Clone)]
struct Memory(Arc<[RecordBatch]>);

impl Source for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }
    fn schema(&self) -> SchemaRef {
        schema()
    }
    fn bounded(&self) -> bool {
        true
    }
    fn replayable(&self) -> bool {
        true
    }
    fn open(&self, _projection: &[usize], _places: &Places, _stop: StopFlag) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(MemoryReader { batches: Arc::clone(&self.0), next: 0, partition: "all".into() }))
    }
}

struct MemoryReader {
    batches: Arc<[RecordBatch]>,
    /// The announcement is event 0, then come the batches.
    next: usize,
    partition: PartitionId,
}

impl SourceReader for MemoryReader {
    fn next(&mut self) -> Result<SourceEvent> {
        self.next += 1;
        if self.next == 1 {
            return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
        }
        Ok(match self.batches.get(self.next - 2) {
            Some(batch) => SourceEvent::Batch(SourceBatch {
                partition: Arc::clone(&self.partition),
                start: (self.next - 2).into(),
                end: (self.next - 1).into(),
                batch: batch.clone(),
                weights: None,
                bad_rows: Vec::new(),
            }),
            None => SourceEvent::End,
        })
    }
}

/// Adds up a hash of each row times its weight.
#[derive(Clone, Default)]
struct Sum(Arc<AtomicU64>);

impl SinkFactory for Sum {
    fn describe(&self) -> String {
        "sum of hashes".to_owned()
    }
    fn accepts_retractions(&self) -> bool {
        true
    }
    fn exactly_once(&self) -> bool {
        false
    }
    fn create(&self) -> Result<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
}

impl Sink for Sum {
    fn write(&mut self, _step: u64, deltas: &[Delta]) -> Result<()> {
        let mut sum = 0_u64;
        for delta in deltas {
            let mut hashes = vec![0_u64; delta.rows()];
            for column in delta.batch.columns() {
                let words = cast(column, &DataType::Int64)?;
                let words = words.as_primitive::<Int64Type>().values();
                hashes
                    .iter_mut()
                    .zip(words)
                    .for_each(|(hash, word)| *hash = spread(hash.rotate_left(23) ^ *word as u64));
            }
            let weighted = hashes.iter().enumerate().map(|(row, hash)| hash.wrapping_mul(delta.weight(row) as u64));
            sum = weighted.fold(sum, u64::wrapping_add);
        }
        self.0.fetch_add(sum, Ordering::Relaxed);
        Ok(())
    }
    fn prepare(&mut self, _step: u64) -> Result<Option<Position>> {
        Ok(None)
    }
    fn commit(&mut self, _transaction: &Position) -> Result<()> {
        Ok(())
    }
    fn recover(&mut self, _transaction: Option<&Position>) -> Result<()> {
        Ok(())
    }
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Column(usize, FieldRef);

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1.name())
    }
}

impl Expr for Column {
    fn evaluate(&self, batch: &RecordBatch, _: &StepContext, _: Option<&UInt64Array>) -> Result<ArrayRef> {
        Ok(Arc::clone(batch.column(self.0)))
    }
    fn field(&self) -> &FieldRef {
        &self.1
    }
    fn as_column(&self) -> Option<usize> {
        Some(self.0)
    }
}

struct MachineClock(Instant);

impl Clock for MachineClock {
    fn now_ms(&self) -> i64 {
        self.0.elapsed().as_millis() as i64
    }
    fn monotonic_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
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

/// Both halves of a query, with the column of the key between them and the columns that leave.
fn halves(query: &str) -> (OperatorFactoryRef, SchemaRef, usize, OperatorFactoryRef, SchemaRef) {
    let windows = |kind| {
        let spec = WindowSpec::new(kind, 0).expect("a window");
        let panes = PartialWindows::Panes { spec, time_column: 0, emit: PaneEmit::OnClose, lateness_ms: 0 };
        let local = PartialAggregateFactory::new(schema(), vec![1], count_sum_max(), panes).expect("a plan");
        let states = local.output_schema();
        let global = WindowAggregateFactory::new(spec, time_type(), Arc::clone(&states), 1, count_sum_max(), None);
        let global = global.expect("a plan");
        let output = global.output_schema();
        (Arc::new(local) as OperatorFactoryRef, states, 1, Arc::new(global) as OperatorFactoryRef, output)
    };
    match query {
        "tumble" => windows(WindowKind::Tumble { size_ms: 10_000 }),
        "hop" => windows(WindowKind::Hop { slide_ms: 2_000, size_ms: 10_000 }),
        "group" => {
            let local = PartialAggregateFactory::new(schema(), vec![1], count_sum_max(), PartialWindows::None);
            let local = local.expect("a plan");
            let states = local.output_schema();
            let global = GroupAggregateFactory::new(Arc::clone(&states), 1, count_sum_max(), None, None);
            let global = global.expect("a plan");
            let output = global.output_schema();
            (Arc::new(local), states, 0, Arc::new(global), output)
        }
        other => panic!("there is no query `{other}`; there are tumble, hop and group"),
    }
}

fn graph(query: &str, source: Memory, sink: Sum) -> Graph {
    let (local, states, key, global, output) = halves(query);
    let read = schema();
    let columns = read.fields().iter().cloned().enumerate();
    let columns = columns.map(|(index, field)| Arc::new(Column(index, field)) as ExprRef).collect();
    let source = SourceNode {
        table: "keyed".to_owned(),
        source: Arc::new(source),
        projection: vec![0, 1, 2],
        columns,
        watermark: Some(WatermarkSpec {
            time_column: 0,
            strategy: WatermarkStrategy::BoundedOutOfOrderness { delay_ms: 0 },
        }),
        idle_timeout_ms: None,
        ordinals: false,
        positions: false,
        fail_on_bad_rows: false,
    };
    let node = |id: u64, kind: NodeKind, route: Option<Route>, schema: SchemaRef| Node {
        id: OperatorId(id),
        kind,
        inputs: route.map(|route| Edge { from: id as usize - 1, port: 0, route }).into_iter().collect(),
        output: EdgeInfo { schema, changelog: ChangelogMode::Retract, key: None, time_column: None, ordinals: false },
        detail: String::new(),
        state_bound: String::new(),
        statement: String::new(),
    };
    let sink = NodeKind::Sink(SinkNode { table: "out".to_owned(), factory: Arc::new(sink) });
    Graph {
        nodes: vec![
            node(0, NodeKind::Source(source), None, schema()),
            node(1, NodeKind::Operator(local), Some(Route::Forward), states),
            node(2, NodeKind::Operator(global), Some(Route::Hash(vec![key])), Arc::clone(&output)),
            node(3, sink, Some(Route::Forward), output),
        ],
    }
}

/// What one process measured.
#[derive(Clone, Copy)]
struct Figures {
    cpu_s: f64,
    wall_s: f64,
    checksum: u64,
}

/// Seconds that the threads of this process have run, those that have ended included.
fn process_cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = text.rsplit(')').next().expect("the name ends").split_whitespace().skip(11).take(2);
    // In hundredths, whatever the kernel's own tick is.
    fields.map(|field| field.parse::<f64>().expect("a number") / 100.0).sum()
}

/// Measures when told to by a line on standard input.
fn run_child(query: &str, shards: usize, [rows, passes, rows_max, keys]: [usize; 4]) {
    let batches = (0..rows / BATCH_ROWS).map(|index| batch((index * BATCH_ROWS) as u64, BATCH_ROWS, keys as u64));
    let source = Memory(batches.collect());
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
    let (cpu_s, begin) = (process_cpu_s(), Instant::now());
    let mut checksum = None;
    for _ in 0..passes {
        let sum = Sum::default();
        let rows_max = if rows_max == 0 { PipelineConfig::default().rows_max * shards } else { rows_max };
        let config = PipelineConfig { shards, rows_max, ..PipelineConfig::default() };
        let clock = Arc::new(MachineClock(Instant::now()));
        let graph = graph(query, source.clone(), sum.clone());
        let start = Start { graph, config, clock, store: None, restore: None, mode: Mode::Live, observer: None };
        Pipeline::start(start).expect("starts").wait().expect("runs");
        let sum = sum.0.load(Ordering::Relaxed);
        assert_eq!(*checksum.get_or_insert(sum), sum, "two passes differ");
    }
    let (cpu_s, wall_s) = (process_cpu_s() - cpu_s, begin.elapsed().as_secs_f64());
    println!("{cpu_s} {wall_s} {}", checksum.unwrap_or(0));
}

/// Processes that run at the same time, one for each number of shards.
fn measure(query: &str, shards: &[usize], sizes: [usize; 4]) -> Vec<Figures> {
    let program = std::env::current_exe().expect("this program");
    let start = |shards: &usize| -> Child {
        let numbers = [*shards].into_iter().chain(sizes).map(|number| number.to_string());
        let command = Command::new(&program)
            .args(["child", query])
            .args(numbers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        command.expect("a process")
    };
    let mut children: Vec<Child> = shards.iter().map(start).collect();
    let outputs = children.iter_mut().map(|child| BufReader::new(child.stdout.take().expect("a pipe")));
    let mut outputs: Vec<_> = outputs.collect();
    for output in &mut outputs {
        output.read_line(&mut String::new()).expect("it is ready");
    }
    for child in &mut children {
        writeln!(child.stdin.as_mut().expect("a pipe")).expect("it listens");
    }
    let figures = outputs.iter_mut().map(|output| {
        let mut text = String::new();
        output.read_to_string(&mut text).expect("it answers");
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [cpu_s, wall_s, checksum] = fields[..] else { panic!("a process has failed") };
        let number = |text: &str| text.parse::<f64>().expect("a number");
        Figures { cpu_s: number(cpu_s), wall_s: number(wall_s), checksum: checksum.parse().expect("a number") }
    });
    let figures = figures.collect();
    children.iter_mut().for_each(|child| assert!(child.wait().expect("it ends").success()));
    figures
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, otherwise: usize| {
        args.get(index).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("`{text}` is no number")))
    };
    if args.first().is_some_and(|arg| arg == "child") {
        return run_child(&args[1], number(2, 1), [number(3, 0), number(4, 1), number(5, 0), number(6, 1)]);
    }
    let queries = args.first().map_or("tumble,hop,group", String::as_str);
    let (rows, passes, rounds) = (number(1, 10) * 1_000_000, number(2, 10), number(3, 5));
    let sizes = [rows, passes, number(4, 0), number(5, 10_000)];
    println!("{rows} rows, {} keys, {passes} passes, median of {rounds} rounds", sizes[3]);
    println!(
        "query    M rows/cpu_s: one  two at once  two shards   cpu / one  cpu / two at once  wall: two at once / two shards"
    );
    for query in queries.split(',') {
        let rounds: Vec<[Figures; 4]> = (0..rounds)
            .map(|_| {
                let one = measure(query, &[1], sizes)[0];
                let two = measure(query, &[1, 1], sizes);
                let shards = measure(query, &[2], sizes)[0];
                assert!(two.iter().chain([&shards]).all(|figures| figures.checksum == one.checksum), "{query} differs");
                [one, two[0], two[1], shards]
            })
            .collect();
        let million = (rows / BATCH_ROWS * BATCH_ROWS * passes) as f64 / 1e6;
        let of = |value: fn(&[Figures; 4]) -> f64| median(rounds.iter().map(value));
        let together = |round: &[Figures; 4]| (round[1].cpu_s + round[2].cpu_s) / 2.0;
        println!(
            "{query:<8} {:>17.1} {:>12.1} {:>11.1} {:>11.2} {:>18.2} {:>20.2}",
            million / of(|round| round[0].cpu_s),
            million / median(rounds.iter().map(together)),
            million / of(|round| round[3].cpu_s),
            of(|round| round[3].cpu_s / round[0].cpu_s),
            median(rounds.iter().map(|round| round[3].cpu_s / together(round))),
            // Two processes have done twice the rows.
            of(|round| round[1].wall_s.max(round[2].wall_s) / 2.0 / round[3].wall_s),
        );
    }
}
