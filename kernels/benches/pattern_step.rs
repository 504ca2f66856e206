//! `pattern_step` on one core, against the plain loop over rows in the same run.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eagre_kernels::Kernel;
use eagre_kernels::pattern_step::{Batch, Pattern, PatternStep, naive};
use eagre_kernels::rows::GroupedRows;
use eagre_kernels::state::StatePages;
use std::hint::black_box;
use std::sync::Arc;

const ROWS: usize = 1 << 22;

/// Three predicates, each true for about half of the rows.
fn bits(row: usize) -> u32 {
    ((row as u32).wrapping_mul(2_654_435_761) ^ (row as u32 >> 7).wrapping_mul(0x9e37_79b9)) >> 17 & 7
}

fn bench(criterion: &mut Criterion) {
    let bitmaps: Vec<Vec<u32>> = (0..3)
        .map(|predicate| {
            (0..ROWS / 32)
                .map(|word| (0..32).fold(0, |bitmap, row| bitmap | (bits(word * 32 + row) >> predicate & 1) << row))
                .collect()
        })
        .collect();
    let bitmaps: Vec<&[u32]> = bitmaps.iter().map(Vec::as_slice).collect();
    let predicates: Vec<u32> = (0..ROWS).map(bits).collect();
    let times: Vec<i64> = (0..ROWS as i64).map(|row| row / 7).collect();
    // A B+ C, of which C is rare because it takes all three.
    let mut pattern = Pattern::sequence(3, 0b010);
    (pattern.states[2].mask, pattern.states[2].value) = (0b111, 0b111);
    let bounded = Pattern { within: Some(100), ..pattern.clone() };
    for (name, patterns) in
        [("one", vec![pattern.clone()]), ("bounded", vec![bounded]), ("sixteen", vec![pattern.clone(); 16])]
    {
        let mut group = criterion.benchmark_group(format!("pattern_step/{name}"));
        group.throughput(Throughput::Elements((ROWS * patterns.len()) as u64)).sample_size(10);
        let kernel = PatternStep::new(patterns.clone()).expect("the pattern is well formed");
        for keys in [1usize, 64, 1024, 65_536] {
            let rows_each = (ROWS / keys) as u32;
            let rows = GroupedRows::from_parts(
                (0..keys as u32).collect(),
                (0..=keys as u32).map(|key| key * rows_each).collect(),
            );
            let batch =
                Batch::new(Arc::new(rows), &bitmaps, if kernel.needs_times() { times.clone() } else { Vec::new() });
            let mut state = StatePages::new(kernel.state_shape());
            state.grow(keys);
            group.bench_with_input(BenchmarkId::new("twin", keys), &batch, |bencher, batch| {
                bencher.iter(|| black_box(kernel.run_twin(batch, &mut state)).counts);
            });
            if keys == 64 && name == "one" {
                let slots: Vec<u32> = (0..ROWS).map(|row| row as u32 / rows_each).collect();
                let mut states = vec![0; keys];
                group.bench_function(BenchmarkId::new("naive", keys), |bencher| {
                    bencher.iter(|| naive::count_by_row(&pattern, &slots, &predicates, &mut states));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
