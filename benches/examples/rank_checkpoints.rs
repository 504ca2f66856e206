//! What checkpoints of ranks cost: the bids of Nexmark with all their columns, ranked as in q9 (the best of each auction), q18 (the last of each bidder
//! and auction) and q19 (the ten best of each auction), without SQL, source and sink.
//!
//! `cargo run --release -p eagre-benches --example rank_checkpoints -- [q9|q18|q19] [EVENTS] [STEPS BETWEEN CHECKPOINTS] [EVENTS A STEP]`
//!
//! Time is that of the processor (`/proc/thread-self/schedstat`): of the steps, of handing over what a checkpoint takes, and of encoding that as
//! for a folder and as for a bucket. What leaves is added up, and what all checkpoints hold is restored and compared by its number of rows.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, UInt64Array};
use arrow::datatypes::Int64Type;
use eagre_datasets::nexmark::{NexmarkConfig, NexmarkGenerator, NexmarkTable};
use eagre_engine::Delta;
use eagre_engine::checkpoint::{Compression, encode_chunks};
use eagre_engine::expr::StepContext;
use eagre_engine::hash::HashGroups;
use eagre_engine::operator::top_n::{RankFunction, SortColumn, Ties, TopNFactory, TopNSpec};
use eagre_engine::operator::{Input, OperatorFactory, Output, SaveKind, SavedChunk, StateReader, StateWriter};
use eagre_engine::time::Watermarks;

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nanoseconds that this thread has run.
fn thread_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}

fn spec(query: &str) -> TopNSpec {
    let column = |name: &str| NexmarkTable::Bid.schema().index_of(name).expect("a column of bids");
    let sort = |name: &str, descending: bool| SortColumn { column: column(name), descending, nulls_first: false };
    let (partition, order, last) = match query {
        "q9" => (vec![column("auction")], vec![sort("price", true), sort("dateTime", false)], 1),
        "q18" => (vec![column("bidder"), column("auction")], vec![sort("dateTime", true)], 1),
        "q19" => (vec![column("auction")], vec![sort("price", true)], 10),
        other => panic!("`{other}` is none of q9, q18 and q19"),
    };
    TopNSpec {
        partition,
        order,
        function: RankFunction::RowNumber,
        first: 1,
        last,
        rank_column: (query == "q19").then(|| "rank_number".to_owned()),
        window: None,
        retracting: false,
        ties: Ties::FirstToArrive,
    }
}

#[derive(Default)]
struct Figures {
    step_ns: u64,
    save_ns: u64,
    encode_ns: [u64; 2],
    bytes: [u64; 2],
    rows: usize,
    /// What came among the first, where their places are not told.
    came: usize,
    sum: i64,
    kept: usize,
}

fn run(query: &str, steps: &[Delta], saves_every: Option<usize>) -> Figures {
    let factory = TopNFactory::new(spec(query), Arc::clone(NexmarkTable::Bid.schema())).expect("plans");
    let mut operator = factory.create().expect("creates");
    let context = StepContext { step: 1, clock_ms: 0, seed: 0 };
    let watermarks = Watermarks { before: 0, after: 0 };
    let mut figures = Figures::default();
    let (mut buffer, mut chunks, mut metas) = (Vec::new(), Vec::new(), Vec::new());
    let mut saves = 0;
    for (step, delta) in steps.iter().enumerate() {
        let start = thread_ns();
        let mut out = Output::default();
        let input = Input { ports: vec![vec![delta.clone()]], context: &context, watermarks };
        operator.step(input, &mut out).expect("steps");
        figures.step_ns += thread_ns() - start;
        for delta in &out.deltas {
            let prices = delta.batch.column(2).as_primitive::<Int64Type>();
            figures.came += (0..delta.rows()).filter(|row| delta.weight(*row) > 0).count();
            figures.sum += (0..delta.rows()).map(|row| prices.value(row) * delta.weight(row)).sum::<i64>();
        }
        if saves_every.is_none_or(|every| (step + 1) % every > 0) {
            continue;
        }
        let mut writer = StateWriter::default();
        let start = thread_ns();
        operator.save(SaveKind::Changes, &mut writer).expect("saves");
        figures.save_ns += thread_ns() - start;
        saves += 1;
        // The first one has all rows, whatever came and went.
        for (which, compression) in [Compression::None, Compression::Zstd].into_iter().enumerate() {
            let start = thread_ns();
            let mut rest = writer.chunks.as_slice();
            while !rest.is_empty() {
                rest = &rest[encode_chunks(rest, compression, &mut buffer).expect("encodes")..];
                figures.bytes[which] += buffer.len() as u64;
            }
            figures.encode_ns[which] += thread_ns() - start;
        }
        figures.rows += writer.chunks.iter().map(SavedChunk::row_count).sum::<usize>();
        chunks.extend(writer.saved().expect("gathers"));
        metas = vec![writer.meta];
    }
    figures.kept = operator.state_rows();
    if saves > 0 && steps.len().is_multiple_of(saves_every.unwrap_or(1)) {
        let mut restored = factory.create().expect("creates");
        let state = StateReader { chunks: &chunks, metas: &metas, owned: HashGroups::ALL };
        restored.restore(&state).expect("restores");
        assert_eq!(restored.state_rows(), figures.kept, "what was saved is what is kept");
    }
    figures
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let query = args.first().map_or("q19", String::as_str);
    let number =
        |place: usize, otherwise: u64| args.get(place).map_or(otherwise, |text| text.parse().expect("a number"));
    let (events, every, step_events) = (number(1, 4_000_000), number(2, 16) as usize, number(3, 65_536));
    let config = NexmarkConfig { event_count: Some(events), events_per_second: 100_000, ..NexmarkConfig::default() };
    let generator = NexmarkGenerator::new(config).expect("valid");
    let firsts = (0..events / step_events).map(|step| step * step_events);
    let delta = |first: u64| {
        let bids = generator.batch(NexmarkTable::Bid, first..first + step_events, None).expect("generates");
        let ordinals = UInt64Array::from_iter_values((first..).take(bids.num_rows()));
        Delta { batch: bids, weights: None::<Int64Array>, ordinals: Some(ordinals) }
    };
    let steps: Vec<Delta> = firsts.map(delta).collect();
    for saves_every in [None, Some(every)] {
        let figures = run(query, &steps, saves_every);
        let seconds = |ns: u64| ns as f64 / 1e9;
        let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        println!(
            "{query} {:<24} steps {:>6.3} s  saves {:>6.3} s  folder {:>6.3} s {:>6.1} MiB  bucket {:>6.3} s {:>6.1} MiB  rows saved {:>8} \
             of {:>8}, kept {:>8}  cost {:>+4.0} %  sum {}",
            saves_every.map_or("no checkpoints".to_owned(), |every| format!("one every {every} steps")),
            seconds(figures.step_ns),
            seconds(figures.save_ns),
            seconds(figures.encode_ns[0]),
            mib(figures.bytes[0]),
            seconds(figures.encode_ns[1]),
            mib(figures.bytes[1]),
            figures.rows,
            figures.came,
            figures.kept,
            (figures.save_ns + figures.encode_ns[0]) as f64 * 100.0 / figures.step_ns as f64,
            figures.sum,
        );
    }
}
