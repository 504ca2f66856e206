//! The conversion pass beside a copy of the same bytes and beside a row-at-a-time pass, on buffers larger than the caches of a core.
//!
//! Bytes are those of the column that is read. `cargo bench -p eagre-kernels --bench convert`.

#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use eagre_kernels::convert::{Bits, Column};
use eagre_kernels::rows::GroupedRows;

/// 16 MiB of 8-byte values.
const ROWS: usize = 2 << 20;

/// A fixed scramble: the same input at every run.
fn scramble(row: usize) -> u64 {
    (row as u64 ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

fn bench(criterion: &mut Criterion) {
    let values: Vec<f64> = (0..ROWS).map(|row| 1e9 + scramble(row) as f64 * 1e-9).collect();
    let times: Vec<i64> =
        (0..ROWS).map(|row| 1_700_000_000_000 + row as i64 / 3 + (scramble(row) % 100) as i64).collect();
    // One null in a hundred, so that about half of all blocks of 64 rows hold one; three bits into the buffer, as a slice may be.
    let mut valid = vec![0xffu8; (ROWS + 3).div_ceil(8)];
    (0..ROWS)
        .filter(|&row| scramble(row).is_multiple_of(100))
        .for_each(|row| valid[(row + 3) / 8] &= !(1 << ((row + 3) % 8)));
    let bits = Bits::new(&valid, 3, ROWS);
    let mut staging = vec![0u32; ROWS];

    let mut whole = criterion.benchmark_group("convert");
    let group = &mut whole;
    group.throughput(Throughput::Bytes(ROWS as u64 * 8)).sample_size(20);
    let mut copy = vec![0f64; ROWS];
    group.bench_function("f64/copy", |bencher| {
        bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&values)))
    });
    let column = Column::new(&values);
    group.bench_function("f64/centred", |bencher| bencher.iter(|| column.centred(1e9, black_box(&mut staging))));
    let nullable = Column::with_validity(&values, bits);
    group.bench_function("f64/centred, nulls", |bencher| {
        bencher.iter(|| nullable.centred(1e9, black_box(&mut staging)))
    });
    naive(group, "f64/naive, nulls", || {
        let rows: Vec<f32> =
            (0..ROWS).map(|row| nullable.get(row).map_or(f32::NAN, |value| (value - 1e9) as f32)).collect();
        staging.iter_mut().zip(&rows).for_each(|(word, value)| *word = value.to_bits());
    });
    let column = Column::new(&times);
    group.bench_function("i64/deltas", |bencher| bencher.iter(|| column.deltas(black_box(&mut staging))));
    let nullable = Column::with_validity(&times, bits);
    group.bench_function("i64/deltas, nulls", |bencher| bencher.iter(|| nullable.deltas(black_box(&mut staging))));
    naive(group, "i64/naive, nulls", || {
        let base = (0..ROWS).filter_map(|row| nullable.get(row)).min().unwrap_or(0);
        let rows: Vec<u32> = (0..ROWS)
            .map(|row| nullable.get(row).map_or(0, |value| u32::try_from(value - base).unwrap_or(0)))
            .collect();
        staging.copy_from_slice(&rows);
    });

    whole.finish();
    grouped(criterion, &values[..64 << 10], 1_000);
    grouped(criterion, &values[..64 << 10], 20_000);
    grouped(criterion, &values, 100_000);

    // Bits: bytes are an eighth of the rows.
    let mut words = vec![0u32; bits.word_count()];
    let group = &mut criterion.benchmark_group("convert bits");
    group.throughput(Throughput::Bytes(ROWS as u64 / 8));
    group.bench_function("copy", |bencher| {
        let mut copy = vec![0u8; ROWS / 8];
        bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&valid[..ROWS / 8])));
    });
    group.bench_function("from bit 3", |bencher| bencher.iter(|| bits.words(black_box(&mut words))));
    naive(group, "naive", || {
        words.fill(0);
        (0..ROWS).for_each(|row| words[row / 32] |= u32::from(bits.get(row)) << (row % 32));
    });
}

/// Grouping rides along: of a step's rows, which a core's cache holds, and of many more, which it does not, so that each row is a miss.
fn grouped(criterion: &mut Criterion, values: &[f64], keys: u64) {
    let slots: Vec<u32> = (0..values.len()).map(|row| (scramble(row) % keys) as u32).collect();
    let rows = GroupedRows::group(&slots, keys as usize);
    let bases = vec![1e9; rows.slots().len()];
    let mut staging = vec![0u32; values.len()];
    let column = Column::new(values);
    let mut group = criterion.benchmark_group(format!("convert grouped, {} rows, {keys} keys", values.len()));
    group.throughput(Throughput::Bytes(values.len() as u64 * 8)).sample_size(20);
    group.bench_function("f64/grouped", |bencher| {
        bencher.iter(|| column.gather_centred_by_key(&rows, &bases, black_box(&mut staging)));
    });
    naive(&mut group, "f64/naive, grouped", || {
        let sorted: Vec<f64> = rows.order().iter().map(|&row| values[row as usize]).collect();
        let centred = |((_, rows), base): ((u32, std::ops::Range<usize>), &f64)| {
            let base = *base;
            sorted[rows].iter().map(move |value| (value - base) as f32).collect::<Vec<f32>>()
        };
        let rows: Vec<f32> = rows.groups().zip(&bases).flat_map(centred).collect();
        staging.iter_mut().zip(&rows).for_each(|(word, value)| *word = value.to_bits());
    });
}

fn naive(group: &mut BenchmarkGroup<'_, WallTime>, label: &str, mut run: impl FnMut()) {
    group.bench_function(label, |bencher| bencher.iter(&mut run));
}

criterion_group!(benches, bench);
criterion_main!(benches);
