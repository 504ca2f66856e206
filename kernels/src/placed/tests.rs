//! A placement against the twin alone: wherever it runs and whatever fails, the same answers and the same state.

use std::sync::Arc;

use super::toy::{ChainBatch, ChainHash};
use super::*;
use crate::state::Layout;

fn kernel() -> Arc<ChainHash> {
    Arc::new(ChainHash { layout: Layout::WordMajor, counters: 2 })
}

/// A step whose keys lie in several pages and overlap with those of the steps before.
fn batch(step: u32) -> Arc<ChainBatch> {
    let slots: Vec<u32> = (0..400).map(|row: u32| (row * 7919 + step * 31) % 97 + (row % 3) * 65_500).collect();
    let values: Vec<u32> = (0..400).map(|row| row * row + step).collect();
    ChainBatch::new(&slots, &values)
}

/// Answers and state of the twin alone.
fn twin(steps: u32) -> (Vec<Vec<u32>>, StatePages) {
    let mut state = StatePages::new(kernel().state_shape());
    let answers = (0..steps).map(|step| {
        state.grow(kernel().slot_count(&batch(step)));
        kernel().run_twin(&batch(step), &mut state)
    });
    (answers.collect(), state)
}

fn assert_same_state(state: &StatePages, expected: &StatePages) {
    // Slots that no key has are filled when pages go to a device, and else later.
    let (mut state, mut expected) = (state.clone(), expected.clone());
    state.fill();
    expected.fill();
    assert_eq!(state.page_count(), expected.page_count());
    assert!((0..state.page_count()).all(|page| state.page(page) == expected.page(page)));
}

/// Without a device a placement is the twin, and tells what has changed for the next checkpoint.
#[test]
fn a_placement_on_the_cpu_is_the_twin() {
    let mut placed = Placed::new(kernel(), PlacedOptions::default());
    let (expected, state) = twin(3);
    for (step, expected) in (0..).zip(&expected) {
        let mut group = WaveGroup::new();
        let step = placed.start(batch(step), &mut group);
        assert!(step.is_ready());
        assert_eq!(group.submit(|| panic!("nobody waits")), WaitingFor::Nothing);
        assert_eq!(placed.finish(step), *expected);
    }
    let Changed::Slots(slots) = placed.sync() else { panic!("the kernel tells its slots") };
    let mut touched: Vec<u32> = (0..3).flat_map(|step| batch(step).rows.slots().to_vec()).collect();
    touched.sort_unstable();
    touched.dedup();
    assert_eq!(slots, touched);
    assert_eq!(placed.sync(), Changed::Slots(vec![]));
    assert_same_state(placed.state(), &state);
    assert_eq!((placed.side(), placed.metrics().twin_batches), (Side::Cpu, 3));

    let mut restored = Placed::new(kernel(), PlacedOptions::default());
    restored.restore(state);
    assert_eq!(restored.sync(), Changed::Any);
    assert_eq!(restored.run(batch(3)), twin(4).0[3]);
}

#[cfg(feature = "gpu")]
mod device {
    use std::sync::Mutex;

    use super::*;
    use crate::device::testing::{shared_test_device, test_options};
    use crate::device::{DeviceOptions, Fault, MemoryBudget};
    use crate::placer::{BatchShape, Calibration, DeviceChoice, KernelFigures, Line, Link, PlacerSettings, RoundTrip};

    /// Options that gather the log's lines, with a short back-off.
    fn logged() -> (PlacedOptions, Arc<Mutex<Vec<String>>>) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = log.clone();
        let options = PlacedOptions {
            backoff: Backoff { steps_first: 3, steps_max: 8 },
            on_event: Arc::new(move |event| lines.lock().expect("not poisoned").push(event.to_string())),
            ..PlacedOptions::default()
        };
        (options, log)
    }

    fn fall_backs(log: &Mutex<Vec<String>>) -> Vec<String> {
        log.lock().expect("not poisoned").iter().filter(|line| line.contains("continues on the CPU")).cloned().collect()
    }

    /// A device that is fast, but 100 us away, and a twin that takes 1 us for each row.
    fn far_device(settings: PlacerSettings) -> Option<Arc<Placement>> {
        let line = |ns_per_event| Line { fixed_ns: 0.0, ns_per_event };
        let figures = KernelFigures {
            kernel: "chain_hash".to_owned(),
            twin: line(1_000.0),
            device: line(1.0),
            upload_bytes_per_event: 8.0,
            readback_bytes_per_event: 4.0,
        };
        let calibration = Calibration {
            version: 1,
            adapter: "any".to_owned(),
            software: false,
            round_trip: RoundTrip { p50_ns: 100_000.0, p99_ns: 100_000.0 },
            upload: Link::default(),
            readback: Link::default(),
            kernels: vec![figures],
        };
        let device = shared_test_device(&test_options())?;
        let opened = OpenDevice { device, calibration: Some(Arc::new(calibration)) };
        Some(Arc::new(Placement::on(settings, PlacedOptions::default(), Arc::new(move || Ok(opened.clone())))))
    }

    fn runner(placement: &Arc<Placement>) -> Runner<ChainHash> {
        Runner::new(ChainHash { layout: Layout::WordMajor, counters: 0 }, placement)
    }

    /// Starts 50 rows, twice as many microseconds too few for a round trip of one's own.
    fn start(runner: &mut Runner<ChainHash>, group: &mut WaveGroup) {
        let slots: Vec<u32> = (0..50).collect();
        let batch = Arc::into_inner(ChainBatch::new(&slots, &slots)).expect("nobody else has it");
        runner.start(batch, BatchShape::of_rows(50, 8, 4), group);
    }

    /// Kernels that would not pay for a round trip each pay for one together, whichever way they know of each other.
    #[test]
    fn kernels_of_a_wave_share_its_round_trip() {
        // What this machine takes says nothing here.
        let settings = PlacerSettings { observation_weight: 0.0, ..PlacerSettings::default() };
        let Some(placement) = far_device(settings) else { return };
        let sides = |kernels: usize, group: fn() -> WaveGroup| {
            let mut runners: Vec<_> = (0..kernels).map(|_| runner(&placement)).collect();
            let (mut recorded, mut sides) = (0, Vec::new());
            for _ in 0..30 {
                let mut group = group();
                group.begin(kernels as u32, 0);
                runners.iter_mut().for_each(|runner| start(runner, &mut group));
                recorded += group.recorded();
                sides.extend(runners.iter().map(|runner| runner.place().1));
                group.submit(|| {});
                runners.iter_mut().for_each(|runner| drop(runner.finish()));
            }
            assert_eq!(recorded as usize, sides.iter().filter(|side| **side == Side::Device).count());
            recorded
        };
        assert_eq!(sides(1, WaveGroup::new), 0, "50 us are less than 100");
        assert!(sides(4, WaveGroup::new) >= 4, "50 us are more than 25");
        // Behind a wave of four, one that starts is taken for one of four again.
        assert!(sides(1, || WaveGroup::after(4)) >= 1);
    }

    /// Slots that were all taken back begin anew, on the device too, and a log is not filled with moves that were none.
    #[test]
    fn a_cleared_kernel_begins_anew_where_it_is() {
        let (options, log) = logged();
        let Some(device) = shared_test_device(&test_options()) else { return };
        let opened = OpenDevice { device, calibration: None };
        let settings = PlacerSettings { device: DeviceChoice::Gpu, ..PlacerSettings::default() };
        let placement = Arc::new(Placement::on(settings, options, Arc::new(move || Ok(opened.clone()))));
        let mut runner = runner(&placement);
        let answers: Vec<Vec<u32>> = (0..6)
            .map(|round| {
                let mut group = WaveGroup::new();
                start(&mut runner, &mut group);
                assert_eq!((group.recorded(), group.submit(|| {})), (1, WaitingFor::Device));
                let answer = runner.finish();
                assert_eq!(runner.bytes(), 50 * 4);
                if round % 2 == 1 {
                    runner.clear();
                    assert_eq!(runner.bytes(), 0);
                }
                answer
            })
            .collect();
        assert_ne!(answers[0], answers[1], "keys remember");
        assert!(answers[2..].iter().zip(&answers).all(|(later, first)| later == first));
        assert_eq!(log.lock().expect("not poisoned").len(), 1, "{log:?}");
    }

    /// A wave is waited for by all of its kernels: what it took is not observed once for each of them.
    #[test]
    fn the_time_of_a_wave_is_shared_as_predicted() {
        let Some(device) = shared_test_device(&test_options()) else { return };
        let mut placed: Vec<_> = (0..3).map(|_| Placed::new(kernel(), PlacedOptions::default())).collect();
        let mut group = WaveGroup::new();
        let mut started = Vec::new();
        for (placed, predicted_ns) in placed.iter_mut().zip([1_000, 1_000, 2_000]) {
            placed.move_to_device(&device).expect("a device");
            let step = placed.start(batch(0), &mut group);
            started.push((step.share(predicted_ns).expect("it is in the wave"), step));
        }
        assert!(started.iter().all(|(share, _)| share.ns().is_none()), "nothing is answered yet");
        let sent = std::time::Instant::now();
        group.submit(|| {});
        let finish = |((share, step), placed): ((WaveShare, Step<ChainHash>), &mut Placed<ChainHash>)| {
            drop(placed.finish(step));
            share.ns().expect("it is answered")
        };
        let shares: Vec<u64> = started.into_iter().zip(&mut placed).map(finish).collect();
        let took_ns = u64::try_from(sent.elapsed().as_nanos()).expect("soon");
        assert!(shares[0] > 0 && shares[0] == shares[1] && shares[2].abs_diff(2 * shares[0]) <= 2, "{shares:?}");
        assert!(shares.iter().sum::<u64>() <= took_ns, "{shares:?} of {took_ns}");
    }

    /// Rows that have waited for most of the latency bound do not wait for state to be moved as well.
    #[test]
    fn the_wait_before_a_batch_counts_towards_the_bound() {
        let settings = PlacerSettings { latency_target_ns: Some(1_000_000), ..PlacerSettings::default() };
        let Some(placement) = far_device(settings) else { return };
        let reason_after = |wait_ns| {
            let mut runner = runner(&placement);
            let mut group = WaveGroup::after(4);
            group.begin(1, wait_ns);
            start(&mut runner, &mut group);
            group.submit(|| {});
            runner.finish();
            runner.decision().expect("decided").reason.to_string()
        };
        let bound = "eagre.latency.target is 1.0 ms";
        assert!(!reason_after(0).contains(bound), "{}", reason_after(0));
        assert!(reason_after(990_000).contains(bound), "{}", reason_after(990_000));
    }

    /// Moving back and forth between steps changes nothing, and what is on the device is what a checkpoint sees.
    #[test]
    fn moving_changes_nothing() {
        let Some(device) = shared_test_device(&test_options()) else { return };
        let mut placed = Placed::new(kernel(), PlacedOptions::default());
        let (expected, state) = twin(12);
        for (step, expected) in (0..).zip(&expected) {
            match step % 4 {
                1 => placed.move_to_device(&device).expect("a device"),
                3 => placed.move_to_cpu(),
                _ => {}
            }
            assert_eq!(placed.run(batch(step)), *expected, "step {step}");
            assert_eq!(placed.side(), if step % 4 == 1 || step % 4 == 2 { Side::Device } else { Side::Cpu });
        }
        assert_eq!((placed.metrics().device_batches, placed.metrics().twin_batches), (6, 6));
        placed.move_to_device(&device).expect("a device");
        assert!(placed.metrics().resident_bytes > 0);
        placed.sync();
        assert_same_state(placed.state(), &state);
    }

    /// Each fault, at each step: the same answers as without, the same state, one line in the log, and the device again afterwards.
    #[test]
    fn no_fault_loses_or_doubles_anything() {
        let steps = 9;
        let (expected, state) = twin(steps);
        for fault in Fault::ALL {
            for occasion in 0..4 {
                let options = test_options();
                let Some(device) = shared_test_device(&options) else { return };
                let (placed_options, log) = logged();
                let mut placed = Placed::new(kernel(), placed_options);
                placed.move_to_device(&device).expect("a device");
                options.faults.arm(fault, occasion);
                for (step, expected) in (0..).zip(&expected) {
                    assert_eq!(placed.run(batch(step)), *expected, "{fault:?} at {occasion}, step {step}");
                }
                placed.sync();
                assert_same_state(placed.state(), &state);
                // Only the first step makes pages, three of them.
                let struck = fault != Fault::PageBudget || occasion < 3;
                assert_eq!(
                    fall_backs(&log).len(),
                    usize::from(struck),
                    "{fault:?} at {occasion}: {:?}",
                    fall_backs(&log)
                );
                assert_eq!(placed.side(), Side::Device, "{fault:?} at {occasion}: it comes back");
                let metrics = placed.metrics();
                assert_eq!(metrics.fall_backs, u64::from(struck));
                assert_eq!(metrics.device_batches + metrics.twin_batches, u64::from(steps), "{metrics:?}");
                let lost = struck && !matches!(fault, Fault::Validation | Fault::PageBudget);
                assert_eq!(device.reopened(), u64::from(lost), "{fault:?} at {occasion}");
            }
        }
    }

    /// The line says what failed and what happens now.
    #[test]
    fn the_log_says_what_happened() {
        let options = test_options();
        let Some(device) = shared_test_device(&options) else { return };
        let (placed_options, log) = logged();
        let mut placed = Placed::new(kernel(), placed_options);
        placed.move_to_device(&device).expect("a device");
        placed.run(batch(0));
        options.faults.arm(Fault::Timeout, 0);
        placed.run(batch(1));
        let name = device.current().description().name.clone();
        assert_eq!(
            *log.lock().expect("not poisoned"),
            [
                format!("`chain_hash` runs on `{name}`"),
                format!(
                    "`chain_hash` continues on the CPU: device `{name}` did not answer within 120000 ms. Raise the time-out, or make \
                     batches smaller. The twin has done 2 batches again; the device is tried again after 3 steps"
                ),
            ]
        );
    }

    /// A driver that cuts long loops gets no kernel that has some, and the log says why once.
    #[test]
    fn a_kernel_is_not_run_where_it_would_be_wrong() {
        use crate::device::self_test::{Need, Observed, SelfTest};
        let Some(device) = shared_test_device(&test_options()) else { return };
        let right = device.current().self_test().observed.clone();
        assert!(SelfTest::evaluate(right.clone()).allows_kernel(&*kernel()).is_ok());
        let cut = SelfTest::evaluate(Observed { loop_iterations: (200_000, 65_535), ..right });
        let (need, reason) = cut.allows_kernel(&*kernel()).expect_err("loops are as long as a key has rows");
        assert!(need == Need::LongLoops && reason.contains("ended after 65535"), "{reason}");
    }

    /// Several steps are under way when one fails: those behind it were computed on a state that is wrong, and are done again too.
    #[test]
    fn steps_behind_a_failed_one_are_done_again() {
        let (expected, state) = twin(8);
        for fault in [Fault::LostDuringWave, Fault::Validation, Fault::Timeout] {
            for occasion in 0..6 {
                let options = test_options();
                let Some(device) = shared_test_device(&options) else { return };
                let (placed_options, log) = logged();
                let mut placed = Placed::new(kernel(), placed_options);
                placed.move_to_device(&device).expect("a device");
                assert_eq!(placed.run(batch(0)), expected[0]);
                options.faults.arm(fault, occasion);
                let steps: Vec<_> = (1..8)
                    .map(|step| {
                        let mut group = WaveGroup::new();
                        let step = placed.start(batch(step), &mut group);
                        group.submit(|| {});
                        step
                    })
                    .collect();
                for (step, expected) in steps.into_iter().zip(&expected[1..]) {
                    assert_eq!(placed.finish(step), *expected, "{fault:?} at {occasion}");
                }
                placed.sync();
                assert_same_state(placed.state(), &state);
                assert_eq!(fall_backs(&log).len(), 1, "{fault:?} at {occasion}");
            }
        }
    }

    /// What is kept is bounded: changed pages are copied back with a step, and after that a fault replays only what came since.
    #[test]
    fn what_is_kept_is_bounded() {
        let options = test_options();
        let Some(device) = shared_test_device(&options) else { return };
        let (mut placed_options, log) = logged();
        let one = kernel().batch_bytes(&batch(0));
        placed_options.retained_bytes_max = one * 3 + one / 2;
        let mut placed = Placed::new(kernel(), placed_options);
        placed.move_to_device(&device).expect("a device");
        let (expected, state) = twin(11);
        for (step, expected) in (0..10).zip(&expected) {
            assert_eq!(placed.run(batch(step)), *expected);
            assert!(placed.metrics().retained_bytes <= one * 4, "{:?}", placed.metrics());
        }
        // The fourth and the eighth step went with a copy of what had changed.
        assert_eq!(placed.metrics().syncs, 2);
        options.faults.arm(Fault::LostBeforeWave, 0);
        assert_eq!(placed.run(batch(10)), expected[10]);
        assert_eq!(placed.metrics().replayed_batches, 3);
        placed.sync();
        assert_same_state(placed.state(), &state);
        assert_eq!(fall_backs(&log).len(), 1);
    }

    /// Operators of one step share a wave, and a fault of that wave is made good for each of them.
    #[test]
    fn operators_share_a_wave() {
        let options = test_options();
        let Some(device) = shared_test_device(&options) else { return };
        let (expected, _) = twin(6);
        let mut placed: Vec<_> = (0..3)
            .map(|_| {
                let mut one = Placed::new(kernel(), logged().0);
                one.move_to_device(&device).expect("a device");
                one
            })
            .collect();
        for step in 0..6 {
            let waves = device.current().metrics().waves;
            if step == 3 {
                options.faults.arm(Fault::LostDuringWave, 0);
            }
            let mut group = WaveGroup::new();
            let steps: Vec<_> = placed.iter_mut().map(|one| one.start(batch(step), &mut group)).collect();
            let (done, is_done) = std::sync::mpsc::channel();
            let waiting = group.submit(move || done.send(()).expect("is received"));
            if waiting == WaitingFor::Device {
                is_done.recv().expect("the callback comes");
                assert!(steps.iter().all(Step::is_ready));
                assert_eq!(device.current().metrics().waves - waves, 1, "one wave for all");
            }
            assert_eq!(waiting == WaitingFor::Device, step <= 3, "after the fault all are on the CPU for a while");
            for (one, step_of) in placed.iter_mut().zip(steps) {
                assert_eq!(one.finish(step_of), expected[step as usize]);
            }
        }
        assert!(placed.iter().all(|one| one.metrics().fall_backs == 1));
    }

    /// A kernel whose batch does not fit leaves the wave as it was for the others.
    #[test]
    fn what_does_not_fit_does_not_spoil_the_wave_of_others() {
        let large = Arc::new(ChainHash { layout: Layout::SlotMajor, counters: (16 << 20) - 1 });
        let tight = DeviceOptions { memory: MemoryBudget::Bytes(100 << 20), ..test_options() };
        let Some(tight) = shared_test_device(&tight) else { return };
        let (first_options, first_log) = logged();
        let (large_options, large_log) = logged();
        let mut first = Placed::new(kernel(), first_options);
        let mut second = Placed::new(large, large_options);
        first.move_to_device(&tight).expect("small");
        second.move_to_device(&tight).expect("nothing to upload yet");
        let mut group = WaveGroup::new();
        let first_step = first.start(batch(0), &mut group);
        // Two slots are two pages of 64 MiB.
        let second_step = second.start(ChainBatch::new(&[0, 1, 0], &[5, 6, 7]), &mut group);
        assert_eq!(group.submit(|| {}), WaitingFor::Device);
        assert_eq!(first.finish(first_step), twin(1).0[0]);
        let hash = |values: &[u32]| values.iter().fold(17u32, |hash, value| hash.wrapping_mul(31).wrapping_add(*value));
        assert_eq!(second.finish(second_step), [hash(&[5]), hash(&[5, 7]), hash(&[6])]);
        assert_eq!((first.side(), second.side()), (Side::Device, Side::Cpu));
        assert_eq!((fall_backs(&first_log).len(), fall_backs(&large_log).len()), (0, 1));
        assert!(fall_backs(&large_log)[0].contains("raise `eagre.gpu.memory`"), "{:?}", fall_backs(&large_log));
    }

    /// A group that is never submitted, because something else failed, loses nothing either.
    #[test]
    fn a_group_that_is_not_submitted_is_done_by_the_twin() {
        let Some(device) = shared_test_device(&test_options()) else { return };
        let (expected, state) = twin(2);
        let mut placed = Placed::new(kernel(), PlacedOptions::default());
        placed.move_to_device(&device).expect("a device");
        assert_eq!(placed.run(batch(0)), expected[0]);
        let mut group = WaveGroup::new();
        let step = placed.start(batch(1), &mut group);
        drop(group);
        assert_eq!(placed.finish(step), expected[1]);
        placed.sync();
        assert_same_state(placed.state(), &state);
    }

    /// A checkpoint that was taken on the device restores on the CPU, and the other way round.
    #[test]
    fn a_checkpoint_restores_on_either_side() {
        let Some(device) = shared_test_device(&test_options()) else { return };
        let (expected, state) = twin(7);
        let mut placed = Placed::new(kernel(), PlacedOptions::default());
        placed.move_to_device(&device).expect("a device");
        (0..3).for_each(|step| drop(placed.run(batch(step))));
        placed.sync();
        let saved = placed.state().clone();
        // What comes after the checkpoint is lost with the process.
        placed.run(batch(3));
        placed.restore(saved.clone());
        assert_eq!((placed.side(), placed.sync()), (Side::Device, Changed::Any));
        let mut other = Placed::new(kernel(), PlacedOptions::default());
        other.restore(saved);
        for step in 3..7 {
            assert_eq!(placed.run(batch(step)), expected[step as usize]);
            assert_eq!(other.run(batch(step)), expected[step as usize]);
        }
        placed.sync();
        assert_same_state(placed.state(), &state);
        assert_same_state(other.state(), &state);
    }
}
