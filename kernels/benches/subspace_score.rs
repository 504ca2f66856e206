//! Rows per second and core of the subspace and centroid models: the twins beside the models in `f64`, one key and many.
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
use eagre_kernels::subspace_score::naive::NaiveSubspace;
use eagre_kernels::subspace_score::{Model, SubspaceParameters, SubspaceScore};

const ROWS: usize = 1 << 14;

fn series() -> Vec<f64> {
    let noise = |row: u64| (row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 24);
    (0..ROWS).map(|row| 1e6 + 10.0 * (row as f64 * 0.1).sin() + noise(row as u64)).collect()
}

fn bench(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("subspace_score");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(15).warm_up_time(Duration::from_secs(1));
    group.measurement_time(Duration::from_secs(4));
    for (model, window, components) in [(Model::Subspace, 32, 4), (Model::Subspace, 128, 8), (Model::Centroids, 32, 16)]
    {
        for keys in [1, 4096] {
            let slots: Vec<u32> = (0..ROWS as u32).map(|row| row % keys).collect();
            let batch = Features::new(Arc::new(GroupedRows::group(&slots, keys as usize)), &[&series()]);
            let parameters = SubspaceParameters { window, components, model, ..Default::default() };
            let kernel = SubspaceScore::new(parameters).expect("parameters are in range");
            let shape = format!("{model:?}, {components} of {window}, {keys} keys");
            let mut state = StatePages::new(kernel.state_shape());
            state.grow(keys as usize);
            (0..window as usize * keys as usize / ROWS + 2).for_each(|_| drop(kernel.run_twin(&batch, &mut state)));
            group.bench_function(BenchmarkId::new("twin", &shape), |bencher| {
                bencher.iter(|| black_box(kernel.run_twin(&batch, &mut state)));
            });
            if keys == 1 {
                group.bench_function(BenchmarkId::new("naive", &shape), |bencher| {
                    bencher.iter_batched(
                        || NaiveSubspace::new(kernel.clone()),
                        |mut naive| black_box(naive.run(&batch)),
                        criterion::BatchSize::PerIteration,
                    );
                });
            }
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default().with_measurement(CpuTime); targets = bench }
criterion_main!(benches);
