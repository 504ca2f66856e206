//! What a wave costs besides its shaders: round trip, and bytes each way, beside a plain copy of the same bytes in the same run. On a
//! software adapter only the ratio to the copy means anything.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eagre_kernels::device::testing::{test_device, test_options};
use eagre_kernels::device::{Access, Binding, Device, DeviceOptions, Dispatch, Program};

static TOUCH: Program = Program {
    name: "touch",
    source: "
@group(0) @binding(0) var<uniform> params: vec4<u32>;
@group(0) @binding(1) var<storage, read> input: array<u32>;
@group(0) @binding(2) var<storage, read_write> output: array<u32>;
@compute @workgroup_size(1)
fn touch() {
    output[0] = input[0] + params.x;
}
",
    storage: &[Access::Read, Access::ReadWrite],
};

/// One wave with `dispatches` dispatches, so many words up and back.
fn wave(device: &Device, up: &[u32], back: usize, dispatches: usize) -> u32 {
    let mut wave = device.wave().expect("a wave");
    let (upload, output) = (wave.upload(up), wave.output(back));
    for _ in 0..dispatches {
        wave.dispatch(Dispatch {
            program: &TOUCH,
            entry: "touch",
            overrides: &[],
            params: &[1],
            bindings: &[Binding::Region(&upload), Binding::Region(&output)],
            workgroups: 1,
        })
        .expect("a dispatch");
    }
    device.submit(wave).wait().expect("an answer").words(&output)[0]
}

fn waves(criterion: &mut Criterion) {
    let Some(device) = test_device() else { return };
    drop(device);
    let options = DeviceOptions { checked_shaders: false, ..test_options() };
    let device = Device::open(&options).expect("opened before");
    println!("{}", device.description().name);
    let mut group = criterion.benchmark_group("device");
    group.bench_function("round trip", |bencher| bencher.iter(|| wave(&device, &[1], 1, 1)));
    group.bench_function("round trip of 32 dispatches", |bencher| bencher.iter(|| wave(&device, &[1], 1, 32)));
    for mebibytes in [1, 16, 64] {
        let words = vec![7u32; mebibytes << 18];
        let mut copy = vec![0u32; words.len()];
        group.throughput(Throughput::Bytes((words.len() * 4) as u64));
        group.bench_with_input(BenchmarkId::new("plain copy", mebibytes), &words, |bencher, words| {
            bencher.iter(|| black_box(&mut copy).copy_from_slice(words));
        });
        group.bench_with_input(BenchmarkId::new("upload", mebibytes), &words, |bencher, words| {
            bencher.iter(|| wave(&device, words, 1, 1));
        });
        group.bench_with_input(BenchmarkId::new("readback", mebibytes), &words, |bencher, words| {
            bencher.iter(|| wave(&device, &[1], words.len(), 1));
        });
    }
}

criterion_group!(benches, waves);
criterion_main!(benches);
