//! `recurrence_scan` on one core, against row-at-a-time scoring in the same run.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eagre_kernels::Kernel;
use eagre_kernels::recurrence_scan::{Batch, Config, Recurrence, RecurrenceScan, naive::Naive};
use eagre_kernels::rows::GroupedRows;
use eagre_kernels::state::StatePages;
use std::hint::black_box;
use std::sync::Arc;

const ROWS: usize = 1 << 20;

fn value(row: usize) -> f64 {
    1000.0 + f64::from((row as u32).wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 20)
}

fn bench(criterion: &mut Criterion) {
    let recurrences = [
        ("ewma", Recurrence::Ewma { half_life: 100.0 }),
        ("holt", Recurrence::Holt { half_life: 50.0, trend_half_life: 200.0 }),
        ("cusum", Recurrence::Cusum { half_life: 100.0, drift: 0.5, residual_limit: 8.0 }),
    ];
    for (name, recurrence) in recurrences {
        let mut group = criterion.benchmark_group(format!("recurrence_scan/{name}"));
        group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
        for keys in [1usize, 64, 1024, 65_536, 1 << 20] {
            let slots: Vec<u32> = (0..ROWS).map(|row| (row % keys) as u32).collect();
            let rows = Arc::new(GroupedRows::group(&slots, keys));
            let values: Vec<f64> = (0..ROWS).map(value).collect();
            let config = Config::new(recurrence);
            let kernel = RecurrenceScan::new(config).expect("parameters are in range");
            let batch = Batch::gather(rows, &values);
            let mut state = StatePages::new(kernel.state_shape());
            state.grow(keys);
            group.bench_with_input(BenchmarkId::new("twin", keys), &batch, |bencher, batch| {
                bencher.iter(|| black_box(kernel.run_twin(batch, &mut state)));
            });
            if keys == 64 {
                let mut naive = Naive::new(config);
                group.bench_function(BenchmarkId::new("naive", keys), |bencher| {
                    bencher.iter(|| {
                        slots.iter().zip(&values).map(|(&slot, &value)| naive.score(slot, value)).sum::<f64>()
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
