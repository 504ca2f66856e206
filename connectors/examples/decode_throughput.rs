//! How fast a core decodes text: Nexmark bids written as JSON and CSV, read back through the source `filesystem`.
//!
//! `cargo run --release -p eagre-connectors --example decode_throughput [-- ROWS [THREADS]]`
//!
//! The file is in the page cache. Reading, cutting into blocks and decoding are all counted; with one decoding thread the reading
//! thread still runs beside it, so CPU seconds are given as well. arrow-json and arrow-csv decode the same file on one thread.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use eagre_connectors::{Environment, TableDefinition, TableOptions, infer_schema, sink, source};
use eagre_engine::Delta;
use eagre_engine::source::{Places, SourceEvent, StopFlag};

type Error = Box<dyn std::error::Error>;

fn table(entries: &[(&str, &str)], schema: &arrow::datatypes::SchemaRef) -> TableDefinition {
    TableDefinition::new("bid", Arc::clone(schema), entries.iter().copied().collect())
}

/// Rows of all columns in `projection`.
fn read(table: &TableDefinition, projection: &[usize], environment: &Environment) -> Result<Vec<RecordBatch>, Error> {
    let mut reader = source(table, environment)?.open(projection, &Places::new(), StopFlag::new())?;
    let mut batches = Vec::new();
    loop {
        match reader.next()? {
            SourceEvent::Batch(batch) => {
                assert!(batch.bad_rows.is_empty(), "{:?}", batch.bad_rows[0]);
                batches.push(batch.batch);
            }
            SourceEvent::End => return Ok(batches),
            _ => {}
        }
    }
}

/// User and system time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn measure(name: &str, bytes: u64, rows: usize, run: impl FnOnce() -> Result<usize, Error>) -> Result<(), Error> {
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let read = run()?;
    let (cpu, wall) = (cpu_seconds() - cpu, start.elapsed().as_secs_f64());
    assert_eq!(read, rows);
    let mb = bytes as f64 / 1e6;
    println!(
        "{name:<34} {:>8.0} MB/s {:>8.0} MB/s of CPU {:>8.2} M rows/s",
        mb / wall,
        mb / cpu,
        rows as f64 / wall / 1e6
    );
    Ok(())
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let rows: usize = arguments.next().map_or(Ok(4_000_000), |rows| rows.parse())?;
    let threads: usize = arguments.next().map_or(Ok(1), |threads| threads.parse())?;
    let folder = std::env::temp_dir().join(format!("eagre-decode-{}", std::process::id()));
    let environment = Environment { decode_threads: threads, ..Environment::new("bench") };
    let count = rows.to_string();
    let generated = [("connector", "nexmark"), ("table", "bid"), ("number-of-rows", count.as_str())];
    let schema = infer_schema("bid", &generated.iter().copied().collect::<TableOptions>(), &environment)?.schema;
    let bids = read(&table(&generated, &schema), &(0..schema.fields().len()).collect::<Vec<_>>(), &environment)?;
    for format in ["json", "csv"] {
        let path = folder.join(format);
        let path = path.to_str().ok_or("a path that is not UTF-8")?;
        let more = [
            ("connector", "filesystem"),
            ("path", path),
            ("format", format),
            ("sink.rolling-policy.file-size", "1 tb"),
        ];
        let files = table(&more, &schema);
        let start = Instant::now();
        let mut out = sink(&files, &environment)?.create()?;
        for batch in &bids {
            out.write(1, &[Delta::insert(batch.clone())])?;
        }
        out.finish()?;
        let part = std::fs::read_dir(path)?.next().ok_or("no file")??.path();
        let bytes = std::fs::metadata(&part)?.len();
        let mb = bytes as f64 / 1e6;
        println!(
            "{format}: {rows} rows, {mb:.0} MB, written at {:.0} MB/s; {threads} decoding threads",
            mb / start.elapsed().as_secs_f64()
        );
        let counted = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let read_back = read(&files, &all, &environment)?;
        let same =
            arrow::compute::concat_batches(&schema, &read_back)? == arrow::compute::concat_batches(&schema, &bids)?;
        assert!(same, "the rows read back differ");
        drop(read_back);
        measure("  eagre, all columns", bytes, rows, || Ok(counted(&read(&files, &all, &environment)?)))?;
        measure("  eagre, auction and price", bytes, rows, || Ok(counted(&read(&files, &[0, 2], &environment)?)))?;
        measure("  arrow-rs, all columns, one thread", bytes, rows, || {
            let input = BufReader::with_capacity(1 << 20, File::open(&part)?);
            let mut count = 0;
            if format == "json" {
                for batch in arrow::json::ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(8_192).build(input)? {
                    count += batch?.num_rows();
                }
            } else {
                let reader =
                    arrow::csv::ReaderBuilder::new(Arc::clone(&schema)).with_header(true).with_batch_size(8_192);
                for batch in reader.build_buffered(input)? {
                    count += batch?.num_rows();
                }
            }
            Ok(count)
        })?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
