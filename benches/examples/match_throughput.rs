//! How many events a second one core takes through the operator of `MATCH_RECOGNIZE`: ordering, conditions, matching, measures.
//!
//! `cargo run --release -p eagre-benches --example match_throughput -- QUERY[,QUERY..] KEYS EVENTS [PATTERNS [ROWS A STEP]]`, where a query is
//! one of `v`, `fraud`, `login`, `sum`, `avg` and `rules` (of which there are PATTERNS in one operator).
//!
//! Time is that of the processor (`/proc/thread-self/schedstat`), so that neighbours on a shared machine show less. What leaves is hashed,
//! so that two versions of the operator can be held against each other.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use eagre_benches::cep::{batches, query};
use eagre_engine::Delta;
use eagre_engine::expr::StepContext;
use eagre_engine::operator::match_recognize::MatchFactory;
use eagre_engine::operator::{Input, OperatorFactory, Output};
use eagre_engine::time::{WATERMARK_MAX, Watermarks};

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nanoseconds that this thread has run.
fn thread_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}

/// Count of rows, and a hash in which their order does not count.
fn digest(delta: &Delta, digest: &mut (u64, u64)) {
    let columns: Vec<_> = delta
        .batch
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Float64 => {
                cast(&(cast(column, &DataType::Float64).expect("it is one")), &DataType::Utf8).expect("text")
            }
            _ => cast(column, &DataType::Int64).expect("an integer"),
        })
        .collect();
    for row in 0..delta.rows() {
        let mut hash = 0u64;
        for column in &columns {
            let value = match column.data_type() {
                _ if column.is_null(row) => 7,
                DataType::Utf8 => column
                    .as_string::<i32>()
                    .value(row)
                    .bytes()
                    .fold(1, |hash: u64, byte| hash.wrapping_mul(257) + u64::from(byte)),
                _ => column.as_primitive::<Int64Type>().value(row) as u64,
            };
            hash = (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        *digest = (digest.0 + 1, digest.1.wrapping_add(hash));
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |place: usize, otherwise: u64| args.get(place).map_or(otherwise, |text| text.parse().expect("a number"));
    let names = args.first().map_or("v,fraud,login,sum,avg", String::as_str);
    let (keys, events, patterns, rows) = (number(1, 100_000), number(2, 2_000_000), number(3, 32), number(4, 65_536));
    let batches = batches(keys, events);
    for name in names.split(',') {
        let specs = query(name, patterns).expect("one of the queries");
        let factory = match specs.len() {
            1 => MatchFactory::new(specs.into_iter().next().expect("one")),
            _ => MatchFactory::together(specs),
        };
        let mut operator = factory.and_then(|factory| factory.create()).expect("a plan");
        let (mut watermark, mut found, mut busy_ns, mut state) = (i64::MIN, (0, 0), 0, 0);
        let steps: Vec<&[_]> = batches.chunks((rows as usize).div_ceil(8_192)).collect();
        for step in 0..=steps.len() {
            let (deltas, after) = match steps.get(step) {
                Some(batches) => {
                    let deltas = batches.iter().map(|(batch, _)| Delta::insert(batch.clone())).collect();
                    (deltas, batches.last().expect("no step is empty").1 - 1_000)
                }
                None => (Vec::new(), WATERMARK_MAX),
            };
            let context = StepContext { step: step as u64 + 1, clock_ms: 0, seed: 0 };
            let watermarks = Watermarks { before: watermark, after };
            watermark = after;
            let mut out = Output::default();
            let began = thread_ns();
            operator.step(Input { ports: vec![deltas], context: &context, watermarks }, &mut out).expect("steps");
            state = state.max(operator.state_bytes());
            busy_ns += thread_ns() - began;
            out.deltas.iter().for_each(|delta| digest(delta, &mut found));
        }
        println!(
            "{name}: {keys} keys, {events} events: {:.3} M events/s, {:.0} ns each; {} rows {:016x}; {} MiB",
            events as f64 * 1e3 / busy_ns as f64,
            busy_ns as f64 / events as f64,
            found.0,
            found.1,
            state >> 20,
        );
    }
}
