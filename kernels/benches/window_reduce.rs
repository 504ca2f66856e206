//! `window_reduce` on one core, against row-at-a-time reduction in the same run.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eagre_kernels::Kernel;
use eagre_kernels::rows::GroupedRows;
use eagre_kernels::state::StatePages;
use eagre_kernels::window_reduce::{Batch, Values, WindowReduce, naive};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

const ROWS: usize = 1 << 20;

fn bench(criterion: &mut Criterion) {
    let integer = |row: usize| i64::from((row as u32).wrapping_mul(2_654_435_761));
    let columns = [
        ("int64", Values::Int64((0..ROWS).map(integer).collect())),
        ("decimal128", Values::Decimal128((0..ROWS).map(|row| i128::from(integer(row))).collect())),
        ("float32", Values::Float32((0..ROWS).map(|row| integer(row) as f32).collect())),
    ];
    for (name, values) in columns {
        let mut group = criterion.benchmark_group(format!("window_reduce/{name}"));
        group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
        for cells in [1usize, 1024, 65_536] {
            let rows_each = (ROWS / cells) as u32;
            let offsets = (0..=cells as u32).map(|cell| cell * rows_each).collect();
            let rows = GroupedRows::from_parts((0..cells as u32).collect(), offsets);
            let batch = Batch::new(Arc::new(rows), values.clone(), Vec::new());
            let kernel = WindowReduce::new(values.kind());
            let mut state = StatePages::new(kernel.state_shape());
            state.grow(cells);
            group.bench_with_input(BenchmarkId::new("twin", cells), &batch, |bencher, batch| {
                bencher.iter(|| black_box(kernel.run_twin(batch, &mut state)));
            });
            if cells == 1024 {
                let mut naive_cells = HashMap::new();
                group.bench_function(BenchmarkId::new("naive", cells), |bencher| {
                    bencher.iter(|| naive::reduce(&batch, &mut naive_cells));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
