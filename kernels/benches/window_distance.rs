//! Rows per second and core of the left matrix profile: the twin beside its definition, in batches and row by row, one key and many.
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
use eagre_kernels::rows::GroupedRows;
use eagre_kernels::state::StatePages;
use eagre_kernels::window_distance::naive::NaiveDistance;
use eagre_kernels::window_distance::{DistanceParameters, WindowDistance};

fn series(rows: usize) -> Vec<f64> {
    let noise = |row: u64| (row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 24);
    (0..rows).map(|row| 1e6 + 10.0 * (row as f64 * 0.1).sin() + noise(row as u64)).collect()
}

fn batch(rows: usize, keys: u32) -> Features {
    let slots: Vec<u32> = (0..rows as u32).map(|row| row % keys).collect();
    Features::new(Arc::new(GroupedRows::group(&slots, keys as usize)), &[&series(rows)])
}

fn bench(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("window_distance");
    group.sample_size(15).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    for (history, window, keys, rows) in
        [(10_000, 64, 1, 2048), (10_000, 64, 1, 1), (2048, 32, 64, 64), (2048, 32, 64, 4096)]
    {
        let parameters = DistanceParameters { history, window, ..Default::default() };
        let kernel = WindowDistance::new(parameters).expect("parameters are in range");
        let before = batch((history + window) as usize * keys as usize, keys);
        let batch = batch(rows, keys);
        let mut state = StatePages::new(kernel.state_shape());
        state.grow(keys as usize);
        kernel.run_twin(&before, &mut state);
        let shape = format!("history {history}, window {window}, {keys} keys, {rows} rows");
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::new("twin", &shape), |bencher| {
            bencher.iter(|| black_box(kernel.run_twin(&batch, &mut state)));
        });
        if keys == 1 && rows > 1 {
            let mut naive = NaiveDistance::new(kernel);
            let few = self::batch(16, keys);
            group.throughput(Throughput::Elements(16));
            group.bench_function(BenchmarkId::new("naive", &shape), |bencher| {
                bencher.iter(|| black_box(naive.run(&few)))
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default().with_measurement(CpuTime); targets = bench }
criterion_main!(benches);
