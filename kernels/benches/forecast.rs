//! Rows that a forecaster learns, and forecasts that it makes, on one core.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eagre_kernels::conv_forecast::{self, Seasons, Weights, Windows};
use eagre_kernels::forecast::{Forecaster, Method, Parameters};
use eagre_kernels::rows::GroupedRows;
use std::hint::black_box;

const ROWS: usize = 200_000;
/// Each key has come through a day and more before anything is measured.
const WARM_ROWS: usize = 64;

fn value(row: usize) -> f64 {
    let noise = f64::from((row as u32).wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 20);
    1000.0 + 20.0 * (row as f64 / 24.0 * std::f64::consts::TAU).sin() + noise
}

fn bench(criterion: &mut Criterion) {
    for method in Method::ALL {
        let mut group = criterion.benchmark_group(format!("forecast/{}", method.name()));
        group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
        for keys in [64usize, 100_000] {
            let parameters = Parameters { method, ..Parameters::new(24) };
            let mut forecaster = Forecaster::new(parameters).expect("parameters are in range");
            forecaster.grow(keys);
            for slot in 0..keys as u32 {
                (0..WARM_ROWS).for_each(|row| forecaster.learn_one(slot, value(row + slot as usize)));
            }
            let slots: Vec<u32> = (0..ROWS).map(|row| (row % keys) as u32).collect();
            let rows = GroupedRows::group(&slots, keys);
            let values: Vec<f64> = (0..ROWS).map(|row| value(row / keys + row % keys)).collect();
            group.bench_function(BenchmarkId::new("learn", keys), |bencher| {
                bencher.iter(|| forecaster.learn(black_box(&rows), &values));
            });
        }
        group.finish();
        let mut group = criterion.benchmark_group(format!("forecast/{}/24_steps_3_levels", method.name()));
        group.throughput(Throughput::Elements(1)).sample_size(10);
        let parameters = Parameters { method, ..Parameters::new(24) };
        let mut forecaster = Forecaster::new(parameters).expect("parameters are in range");
        forecaster.grow(1);
        (0..500).for_each(|row| forecaster.learn_one(0, value(row)));
        let mut quantiles = Vec::new();
        group.bench_function("forecast", |bencher| {
            bencher.iter(|| {
                quantiles.clear();
                black_box(forecaster.forecast(0, &[0.1, 0.5, 0.9], &mut quantiles))
            });
        });
        group.finish();
    }
}

/// Forecasts of many keys, one after the other and asked for together.
fn together(criterion: &mut Criterion) {
    const KEYS: usize = 1024;
    const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];
    let mut group = criterion.benchmark_group("forecast/conv/24_steps_3_levels/1024_keys");
    group.throughput(Throughput::Elements(KEYS as u64)).sample_size(10);
    let mut forecaster = Forecaster::new(Parameters { method: Method::Conv, ..Parameters::new(24) }).expect("in range");
    forecaster.grow(KEYS);
    for row in 0..96 {
        (0..KEYS as u32).for_each(|slot| forecaster.learn_later(slot, value(row + slot as usize)));
        forecaster.settle();
    }
    let mut quantiles = Vec::new();
    group.bench_function("one_by_one", |bencher| {
        bencher.iter(|| {
            quantiles.clear();
            (0..KEYS as u32).all(|slot| forecaster.forecast(slot, &LEVELS, &mut quantiles))
        });
    });
    let mut asked = forecaster.asking(&LEVELS);
    group.bench_function("together", |bencher| {
        bencher.iter(|| {
            asked.clear();
            assert!((0..KEYS as u32).all(|slot| forecaster.ask(slot, &mut asked)));
            asked.settle(Weights::builtin());
        });
    });
    group.finish();
}

/// The network alone, so many keys at once, the windows being there.
fn network(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv_forecast/32_steps_9_levels");
    group.sample_size(10);
    for keys in [1usize, 16, 1024] {
        let mut windows = Windows::new();
        for key in 0..keys {
            let values: Vec<f32> = (0..400).map(|row| value(row + key) as f32).collect();
            windows.push(&values, Seasons { season: 24, long: 0 });
        }
        group.throughput(Throughput::Elements(keys as u64));
        group.bench_function(BenchmarkId::new("keys", keys), |bencher| {
            bencher.iter(|| conv_forecast::forecast(Weights::builtin(), black_box(&windows)));
        });
    }
    let values: Vec<f32> = (0..400).map(|row| value(row) as f32).collect();
    group.throughput(Throughput::Elements(1));
    group.bench_function("window", |bencher| {
        let mut windows = Windows::new();
        bencher.iter(|| {
            windows.clear();
            windows.push(black_box(&values), Seasons { season: 24, long: 0 });
        });
    });
    group.finish();
}

criterion_group!(benches, bench, together, network);
criterion_main!(benches);
