//! What it costs to write kept rows into a checkpoint, and to read them again, by codec: Nexmark's tables as joins and ranks keep them.
//!
//! `cargo run --release -p eagre-benches --example checkpoint_rows -- [ROWS]`
//!
//! Time is that of the processor (`/proc/thread-self/schedstat`), of encoding and of writing files into the folder for temporary files, or of
//! reading these and decoding; what a disk takes comes on top and grows with the bytes.

use arrow::compute::concat_batches;
use eagre_datasets::nexmark::{NexmarkConfig, NexmarkGenerator, NexmarkTable};
use eagre_engine::checkpoint::{Compression, decode_chunks, encode_chunks};
use eagre_engine::operator::SavedChunk;

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHUNK_ROWS: u64 = 8_192;

/// Nanoseconds that this thread has run.
fn thread_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}

fn main() {
    let rows: u64 = std::env::args().nth(1).map_or(1_000_000, |text| text.parse().expect("a number"));
    let generator = NexmarkGenerator::new(NexmarkConfig::default()).expect("valid");
    let path = std::env::temp_dir().join(format!("eagre-checkpoint-rows-{}", std::process::id()));
    for table in NexmarkTable::ALL {
        let mut chunks = Vec::new();
        let (mut first, mut left) = (0, rows);
        while left > 0 {
            let events = generator.events_for_rows(table, first, CHUNK_ROWS.min(left));
            first = events.end;
            let batch = generator.batch(table, events, None).expect("generates");
            left -= batch.num_rows() as u64;
            // Buffers of their own, as rows have that were kept.
            chunks.push(SavedChunk::new("rows", concat_batches(&batch.schema(), [&batch]).expect("one batch")));
        }
        let mut file = Vec::new();
        for (what, compression) in [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::Zstd)]
        {
            // Once for the buffer, which a checkpointer uses again and again.
            encode_chunks(&chunks, compression, &mut file).expect("encodes");
            let (mut write_ns, mut read_ns, mut bytes, mut back) = (0, 0, 0, 0);
            let mut rest = chunks.as_slice();
            while !rest.is_empty() {
                let start = thread_ns();
                let done = encode_chunks(rest, compression, &mut file).expect("encodes");
                std::fs::write(&path, &file).expect("writes");
                write_ns += thread_ns() - start;
                rest = &rest[done..];
                bytes += file.len();
                let start = thread_ns();
                let read = std::fs::read(&path).expect("reads");
                let decoded = decode_chunks(&read).expect("decodes");
                read_ns += thread_ns() - start;
                back += decoded.iter().map(|chunk| chunk.rows.num_rows()).sum::<usize>();
            }
            assert_eq!(back as u64, rows, "{what}");
            let each = |sum: u64| sum as f64 / rows as f64;
            println!(
                "{:<8} {what:<5} {:>6.0} ns to write, {:>6.0} ns to read, {:>6.1} bytes a row",
                table.name(),
                each(write_ns),
                each(read_ns),
                each(bytes as u64),
            );
        }
    }
    std::fs::remove_file(&path).expect("it was written");
}
