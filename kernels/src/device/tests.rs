//! The device through its outermost surface: waves in, readbacks out.

use proptest::prelude::*;

use super::testing::{own_test_device, test_device, test_options};
use super::*;
use crate::state::{Layout, StateShape};

static SCALE: Program = Program {
    name: "scale",
    source: "
struct Params { count: u32, factor: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<u32>;
@group(0) @binding(2) var<storage, read_write> output: array<u32>;
override OFFSET: u32 = 0u;

@compute @workgroup_size(64)
fn scale(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let i = linear_invocation(workgroup_id, num_workgroups, local_index, 64u);
    if i < params.count {
        output[i] = input[i] * params.factor + OFFSET;
    }
}
",
    storage: &[Access::Read, Access::ReadWrite],
};

static ADD: Program = Program {
    name: "add_to_state",
    source: "
struct Params { count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<u32>;
@group(0) @binding(2) var<storage, read_write> page: array<u32>;

@compute @workgroup_size(64)
fn add_to_state(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let i = linear_invocation(workgroup_id, num_workgroups, local_index, 64u);
    if i < params.count {
        page[i] += input[i];
    }
}
",
    storage: &[Access::Read, Access::ReadWrite],
};

fn scale<'a>(
    params: &'a [u32; 2],
    overrides: &'a [(&'static str, f64)],
    bindings: &'a [Binding<'a>; 2],
) -> Dispatch<'a> {
    let workgroups = params[0].div_ceil(64);
    Dispatch { program: &SCALE, entry: "scale", overrides, params, bindings, workgroups }
}

/// input * 3 + 5 in the first dispatch, * 7 + 0 in the second, through scratch.
fn scale_twice(device: &Device, input: &[u32]) -> Vec<u32> {
    let mut wave = device.wave().expect("a wave");
    let (upload, scratch, output) = (wave.upload(input), wave.scratch(input.len()), wave.output(input.len()));
    let count = input.len() as u32;
    wave.dispatch(scale(&[count, 3], &[("OFFSET", 5.0)], &[Binding::Region(&upload), Binding::Region(&scratch)]))
        .expect("first");
    wave.dispatch(scale(&[count, 7], &[], &[Binding::Region(&scratch), Binding::Region(&output)])).expect("second");
    device.submit(wave).wait().expect("an answer").words(&output).to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// What one dispatch writes, the next one reads, in waves of any size, many times over with the same buffers.
    #[test]
    fn dispatches_of_a_wave_run_in_order(input in prop_oneof![
        proptest::collection::vec(any::<u32>(), 0..300),
        proptest::collection::vec(any::<u32>(), 65_530..65_540),
    ]) {
        let Some(device) = test_device() else { return Ok(()) };
        let expected: Vec<u32> = input.iter().map(|value| value.wrapping_mul(3).wrapping_add(5).wrapping_mul(7)).collect();
        prop_assert_eq!(scale_twice(&device, &input), expected);
    }
}

/// Dispatches that bind the same share their bindings; those that differ in a parameter do not.
#[test]
fn dispatches_take_turns_with_the_same_bindings() {
    let Some(device) = test_device() else { return };
    let mut wave = device.wave().expect("a wave");
    let (upload, first, second) = (wave.upload(&[1, 2, 3]), wave.scratch(3), wave.output(3));
    let before = wave.upload_bytes();
    for round in 0..50 {
        let factor = if round == 49 { 5 } else { 2 };
        wave.dispatch(scale(&[3, factor], &[], &[Binding::Region(&upload), Binding::Region(&first)])).expect("up");
        wave.dispatch(scale(&[3, 3], &[], &[Binding::Region(&first), Binding::Region(&second)])).expect("down");
    }
    assert_eq!(wave.upload_bytes() - before, 3 * 256, "three sets of parameters");
    assert_eq!(device.submit(wave).wait().expect("an answer").words(&second), [15, 30, 45]);
}

/// More workgroups than fit into one row of the grid: the last rows are computed too, and none twice.
#[test]
fn large_dispatches_are_spread_over_the_grid() {
    let Some(device) = test_device() else { return };
    let input: Vec<u32> = (0..64 * 65_536 + 17).collect();
    let expected: Vec<u32> = input.iter().map(|value| value.wrapping_mul(21).wrapping_add(35)).collect();
    assert!(scale_twice(&device, &input) == expected);
}

/// Scratch that one dispatch reads while it writes other scratch: the device tracks buffers as wholes, so they need two.
#[test]
fn a_dispatch_reads_scratch_and_writes_other_scratch() {
    let Some(device) = test_device() else { return };
    let input: Vec<u32> = (0..1000).collect();
    let mut wave = device.wave().expect("a wave");
    let upload = wave.upload(&input);
    let steps: Vec<Region> = (0..5).map(|_| wave.scratch(1000)).collect();
    let outputs = [wave.output(1000), wave.output(1000)];
    wave.dispatch(scale(&[1000, 2], &[], &[Binding::Region(&upload), Binding::Region(&steps[0])]))
        .expect("upload to scratch");
    for pair in steps.windows(2) {
        wave.dispatch(scale(&[1000, 2], &[], &[Binding::Region(&pair[0]), Binding::Region(&pair[1])]))
            .expect("scratch to scratch");
    }
    wave.dispatch(scale(&[1000, 1], &[], &[Binding::Region(&steps[4]), Binding::Region(&outputs[0])]))
        .expect("scratch to output");
    wave.dispatch(scale(&[1000, 2], &[], &[Binding::Region(&outputs[0]), Binding::Region(&outputs[1])]))
        .expect("output to output");
    let readback = device.submit(wave).wait().expect("an answer");
    assert!(readback.words(&outputs[0]).iter().zip(0u32..).all(|(&got, i)| got == i * 32));
    assert!(readback.words(&outputs[1]).iter().zip(0u32..).all(|(&got, i)| got == i * 64));
}

/// State stays on the device between waves, new slots hold their initial words, and only pages that were written are dirty.
#[test]
fn state_stays_between_waves_and_new_pages_are_filled() {
    let Some(device) = test_device() else { return };
    for layout in [Layout::WordMajor, Layout::SlotMajor] {
        let shape = StateShape::new(vec![7, 0, 0xffff_ffff], layout);
        let mut twin = crate::state::StatePages::new(shape.clone());
        let mut state = ResidentPages::new(&device, shape.clone());
        let (slots, words) = (shape.slots_per_page() + 1, shape.page_words());
        twin.grow(slots);
        twin.fill();
        let input: Vec<u32> = (0..words as u32).collect();
        for round in 0..3 {
            let mut wave = device.wave().expect("a wave");
            state.grow(&mut wave, slots).expect("two pages");
            let upload = wave.upload(&input);
            wave.dispatch(Dispatch {
                program: &ADD,
                entry: "add_to_state",
                overrides: &[],
                params: &[words as u32],
                bindings: &[Binding::Region(&upload), Binding::Page(&state, 1)],
                workgroups: (words as u32).div_ceil(64),
            })
            .expect("a dispatch");
            device.submit(wave).wait().expect("an answer");
            twin.page_mut(1).iter_mut().zip(&input).for_each(|(word, value)| *word = word.wrapping_add(*value));
            assert_eq!(state.dirty_pages(), if round == 0 { vec![0, 1] } else { vec![1] });
            if round == 0 {
                state.mark_clean(0);
            }
        }
        let mut wave = device.wave().expect("a wave");
        let copies: Vec<Region> = (0..2).map(|page| wave.read_page(&state, page)).collect();
        let readback = device.submit(wave).wait().expect("an answer");
        for (page, copy) in copies.iter().enumerate() {
            // Of the second page there is one slot.
            let used = if page == 1 && layout == Layout::SlotMajor { 3 } else { words };
            assert!(
                copy.words() == used && readback.words(copy) == &twin.page(page)[..used],
                "{layout:?}, page {page}"
            );
        }
        let mut wave = device.wave().expect("a wave");
        wave.write_page(&state, 0, twin.page(1));
        let copy = wave.read_page(&state, 0);
        assert!(device.submit(wave).wait().expect("an answer").words(&copy) == twin.page(1), "a page that was written");
    }
}

/// Tables stay beside the state, and are made once.
#[test]
fn tables_are_made_once() {
    let Some(device) = test_device() else { return };
    let mut state = ResidentPages::new(&device, StateShape::new(vec![0], Layout::SlotMajor));
    let words: Vec<u32> = (0..100).map(|i| i * i).collect();
    let beside = state.table("squares", || words.clone()).expect("a table");
    state.table("squares", || panic!("made twice")).expect("the same table");
    for table in [beside, device.table(&words).expect("a table without state")] {
        let mut wave = device.wave().expect("a wave");
        let output = wave.output(100);
        wave.dispatch(scale(&[100, 2], &[], &[Binding::Table(&table), Binding::Region(&output)])).expect("a dispatch");
        let readback = device.submit(wave).wait().expect("an answer");
        assert!(readback.words(&output).iter().zip(&words).all(|(got, word)| *got == word * 2));
    }
}

/// In steady state no wave makes a buffer: the second wave of a kind uses what the first one made.
#[test]
fn buffers_are_used_again() {
    let Some(device) = own_test_device(&test_options()) else { return };
    // The self-test runs once for each process, so it may have been on this device.
    let before = device.metrics();
    let input = vec![1u32; 500_000];
    // As much is expected of a wave as those before it had, so the first ones get larger staging each.
    (0..6).for_each(|_| drop(scale_twice(&device, &input)));
    let held = device.metrics().held_bytes;
    for _ in 0..10 {
        scale_twice(&device, &input);
    }
    assert_eq!(device.metrics().held_bytes, held);
    let after = device.metrics();
    assert_eq!((after.waves - before.waves, after.dispatches - before.dispatches), (16, 32));
    assert_eq!(after.pipelines - before.pipelines, 2);
}

/// Large waves fill the ring with large buffers; small waves after them must not make their own anew each time.
#[test]
fn small_waves_after_large_ones_make_no_buffers() {
    let Some(device) = own_test_device(&test_options()) else { return };
    let (large, small) = (vec![1u32; 30_000_000], vec![1u32; 1000]);
    let two_under_way = |input: &[u32]| drop((scale_twice(&device, input), scale_twice(&device, input)));
    (0..4).for_each(|_| two_under_way(&large));
    (0..30).for_each(|_| two_under_way(&small));
    let created = device.metrics().buffers_created;
    (0..20).for_each(|_| two_under_way(&small));
    assert_eq!(device.metrics().buffers_created, created);
}

/// Many threads, each with several waves under way: every wave gets its own answer.
#[test]
fn waves_of_many_threads_do_not_mix() {
    let Some(device) = test_device() else { return };
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let device = device.clone();
            scope.spawn(move || {
                let mut tickets = Vec::new();
                for round in 0..6u32 {
                    let mut wave = device.wave().expect("a wave");
                    let input: Vec<u32> = (0..2000 + round).map(|i| i + thread * 1_000_000 + round * 10_000).collect();
                    let (upload, output) = (wave.upload(&input), wave.output(input.len()));
                    wave.dispatch(scale(
                        &[input.len() as u32, 3],
                        &[],
                        &[Binding::Region(&upload), Binding::Region(&output)],
                    ))
                    .expect("a dispatch");
                    let (done, is_done) = std::sync::mpsc::channel();
                    let ticket = device.submit_then(wave, Box::new(move || done.send(()).expect("is received")));
                    tickets.push((ticket, is_done, input, output));
                }
                for (mut ticket, is_done, input, output) in tickets {
                    is_done.recv().expect("the callback comes");
                    let readback =
                        ticket.poll().expect("the answer is there when the callback comes").expect("an answer");
                    assert!(readback.words(&output).iter().zip(&input).all(|(got, value)| *got == value * 3));
                    assert!(ticket.poll().is_none());
                }
            });
        }
    });
}

/// A kernel that binds what its shader does not take is told so by name, not by the driver.
#[test]
fn bindings_that_do_not_fit_are_refused() {
    let Some(device) = test_device() else { return };
    let other = device.wave().expect("a wave").output(4);
    let mut wave = device.wave().expect("a wave");
    let (upload, output) = (wave.upload(&[1, 2, 3, 4]), wave.output(4));
    let mut refused = |bindings: &[Binding<'_>]| {
        let call =
            Dispatch { program: &SCALE, entry: "scale", overrides: &[], params: &[4, 1], bindings, workgroups: 1 };
        wave.dispatch(call).expect_err("does not fit").to_string()
    };
    assert_eq!(
        refused(&[Binding::Region(&upload)]),
        "`scale.scale`: binding 2: not as many bindings as the program has"
    );
    assert_eq!(
        refused(&[Binding::Region(&output), Binding::Region(&upload)]),
        "`scale.scale`: binding 2: uploads and tables are read only; copy them into scratch, or bind another region"
    );
    assert_eq!(
        refused(&[Binding::Region(&output), Binding::Region(&output)]),
        "`scale.scale`: binding 2: is bound for writing and for reading in one dispatch"
    );
    assert_eq!(
        refused(&[Binding::Region(&upload), Binding::Region(&other)]),
        "`scale.scale`: binding 2: a region of another wave"
    );
    // Nothing of that has spoilt the wave.
    wave.dispatch(scale(&[4, 2], &[], &[Binding::Region(&upload), Binding::Region(&output)])).expect("this one fits");
    assert_eq!(device.submit(wave).wait().expect("an answer").words(&output), [2, 4, 6, 8]);
}

/// A region that no binding can hold fails its wave with what it is, and leaves the device as it was.
#[test]
fn what_is_too_large_is_refused() {
    let Some(device) = test_device() else { return };
    let mut wave = device.wave().expect("a wave");
    wave.upload_with((128 << 20) / 4 + 1, |_| panic!("there is nothing to write to"));
    let output = wave.output(4);
    let upload = wave.upload(&[1]);
    let error = wave
        .dispatch(scale(&[1, 2], &[], &[Binding::Region(&upload), Binding::Region(&output)]))
        .expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Validation);
    let error = device.submit(wave).wait().expect_err("too large");
    assert!(
        error.to_string().starts_with("an upload has 134217732 bytes, and the device takes 134217728 at once"),
        "{error}"
    );
    assert!(!device.lost());
}

static BUSY: Program = Program {
    name: "busy",
    source: "
struct Params { iterations: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;

@compute @workgroup_size(1)
fn busy() {
    var hash = 0u;
    for (var i = 0u; i < params.iterations; i++) {
        hash = (hash ^ i) * 1664525u + 1013904223u;
    }
    output[0] = hash;
}
",
    storage: &[Access::ReadWrite],
};

fn busy(device: &Device, iterations: u32) -> Ticket {
    let mut wave = device.wave().expect("a wave");
    let output = wave.output(1);
    wave.dispatch(Dispatch {
        program: &BUSY,
        entry: "busy",
        overrides: &[],
        params: &[iterations],
        bindings: &[Binding::Region(&output)],
        workgroups: 1,
    })
    .expect("a dispatch");
    device.submit(wave)
}

/// A device that hangs is given up in time, with all that waits for it; another one works, and the first one is taken down when it has
/// ended after all.
#[test]
fn a_device_that_hangs_is_given_up() {
    // The self-test, which takes longer than this time-out, is run once for all devices of an adapter.
    if test_device().is_none() {
        return;
    }
    let options = DeviceOptions { timeout: Duration::from_millis(100), ..test_options() };
    let Some(device) = own_test_device(&options) else { return };
    let started = Instant::now();
    let tickets: Vec<Ticket> = [500_000_000, 1, 1].map(|iterations| busy(&device, iterations)).into();
    for ticket in tickets {
        assert_eq!(ticket.wait().expect_err("too slow").kind(), ErrorKind::Timeout);
    }
    assert!(device.lost());
    assert_eq!(device.wave().expect_err("is lost").kind(), ErrorKind::Timeout);
    assert!(device.metrics().errors.contains(&(ErrorKind::Timeout, 4)), "{:?}", device.metrics().errors);
    drop(device);
    let Some(other) = own_test_device(&test_options()) else { return };
    busy(&other, 1_000).wait().expect("works");
    assert!(started.elapsed() < Duration::from_secs(20), "nobody waited for the device that hangs");
}

/// More waves than may be at a time: a thread waits until there is room, instead of failing.
#[test]
fn too_many_waves_wait() {
    let Some(device) = own_test_device(&test_options()) else { return };
    let mut held: Vec<Wave> = Vec::new();
    while device.metrics().waves_in_flight < 64 {
        held.push(device.wave().expect("a wave"));
    }
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| device.wave().map(drop));
        drop(held.pop());
        waiting.join().expect("does not panic").expect("there is room now");
    });
    drop(held);
    assert_eq!(device.metrics().waves_in_flight, 0);
}
