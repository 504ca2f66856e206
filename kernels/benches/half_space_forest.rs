//! Rows per second and core of the half-space forest: the twin beside the forest of the paper, one key and many.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

#[path = "common/cpu_time.rs"]
mod cpu_time;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use cpu_time::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eagre_kernels::Kernel;
use eagre_kernels::features::Features;
use eagre_kernels::half_space_forest::naive::NaiveForest;
use eagre_kernels::half_space_forest::{ForestParameters, HalfSpaceForest};
use eagre_kernels::rows::GroupedRows;
use eagre_kernels::state::StatePages;

const ROWS: usize = 1 << 15;

/// Sums of hashed digits: bell-shaped, seeded, without a table.
fn column(feature: u64) -> Vec<f64> {
    let hash = |row: u64, part: u64| {
        let mut word = (row << 8 | feature << 3 | part).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        word = (word ^ word >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (word >> 40) as f64 / f64::from(1 << 24)
    };
    (0..ROWS as u64).map(|row| 1e6 + (0..4).map(|part| hash(row, part)).sum::<f64>()).collect()
}

fn bench(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("half_space_forest");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20).warm_up_time(Duration::from_secs(1));
    group.measurement_time(Duration::from_secs(4));
    let columns: Vec<Vec<f64>> = (0..8).map(column).collect();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    for (trees, depth, window) in [(25, 8, 256), (100, 12, 4096)] {
        for keys in [1, 256] {
            let slots: Vec<u32> = (0..ROWS as u32).map(|row| row.wrapping_mul(2_654_435_769) % keys).collect();
            let batch = Features::new(Arc::new(GroupedRows::group(&slots, keys as usize)), &columns);
            let forest =
                HalfSpaceForest::new(ForestParameters { features: 8, trees, depth, window, ..Default::default() })
                    .expect("parameters are in range");
            let shape = format!("{trees}x{depth}, {keys} keys");
            let mut state = StatePages::new(forest.state_shape());
            state.grow(keys as usize);
            let warm_up = forest.parameters().warm_up_rows() as usize * keys as usize;
            (0..=warm_up / ROWS).for_each(|_| drop(forest.run_twin(&batch, &mut state)));
            group.bench_function(BenchmarkId::new("twin", &shape), |bencher| {
                bencher.iter(|| black_box(forest.run_twin(&batch, &mut state)));
            });
            let mut naive = NaiveForest::new(forest);
            (0..=warm_up / ROWS).for_each(|_| drop(naive.run(&batch)));
            group.bench_function(BenchmarkId::new("naive", &shape), |bencher| {
                bencher.iter(|| black_box(naive.run(&batch)))
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default().with_measurement(CpuTime); targets = bench }
criterion_main!(benches);
