//! The placer as a function of its figures, then its laws over any run.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A discrete card on PCIe 4: 50 us a round trip, 25 GB/s each way.
fn card() -> Calibration {
    let link = || Link {
        points: vec![
            BandwidthPoint { bytes: 1 << 20, ns: (1 << 20) as f64 / 25.0 },
            BandwidthPoint { bytes: 64 << 20, ns: (64 << 20) as f64 / 25.0 },
        ],
    };
    let kernel = |kernel: &str, twin: f64, device: f64| KernelFigures {
        kernel: kernel.to_owned(),
        twin: Line { fixed_ns: 0.0, ns_per_event: twin },
        device: Line { fixed_ns: 0.0, ns_per_event: device },
        upload_bytes_per_event: 32.0,
        readback_bytes_per_event: 4.0,
    };
    Calibration {
        version: 1,
        adapter: "a card".to_owned(),
        software: false,
        round_trip: RoundTrip { p50_ns: 50_000.0, p99_ns: 150_000.0 },
        upload: link(),
        readback: link(),
        kernels: vec![kernel("forest", 1000.0, 1.4), kernel("sum", 0.25, 0.02), kernel("slow", 10.0, 100.0)],
    }
}

fn placer(kernel: &str, settings: PlacerSettings) -> OperatorPlacer {
    OperatorPlacer::new(kernel, settings, DeviceFitness::Fit, Some(Arc::new(card())))
}

fn sides(placer: &mut OperatorPlacer, batches: &[BatchShape]) -> Vec<Side> {
    batches.iter().map(|batch| placer.decide(batch).side).collect()
}

/// The bus decides for cheap kernels and the round trip for dear ones: the figures of the roofline come out.
#[test]
fn break_even_is_where_both_sides_take_as_long() {
    let card = card();
    let forest = card.break_even_rows("forest", &BatchShape::of_rows(1, 32, 4), 1.0, 1.0).expect("pays early");
    assert!((48..56).contains(&forest), "50 us at 1 us an event: {forest}");
    let measured = card.kernel("forest").expect("measured").batch(1 << 20);
    assert_eq!(measured, BatchShape::of_rows(1 << 20, 32, 4));
    assert_eq!(card.break_even_rows("forest", &measured, 1.0, 1.0), Some(forest));
    // 8 B at 25 GB/s take 0.32 ns, more than the 0.25 ns of the sum itself: never.
    assert_eq!(card.break_even_rows("sum", &BatchShape::of_rows(1, 8, 0), 1.0, 1.0), None);
    // On resident columns nothing crosses: 50 us / (0.25 - 0.02) ns.
    let resident = card.break_even_rows("sum", &BatchShape::of_rows(1, 0, 0), 1.0, 1.0).expect("pays late");
    assert_eq!(resident, (50_000.0f64 / 0.23).ceil() as u64);
    // Four kernels of one wave carry a quarter of its round trip each, and their own bytes.
    let shared = |upload_bytes| BatchShape { upload_sharers: 4, ..BatchShape::of_rows(1000, upload_bytes, 0) };
    let of_four = card.break_even_rows("sum", &shared(0), 1.0, 1.0).expect("pays earlier when shared");
    assert_eq!(of_four, (12_500.0f64 / 0.23).ceil() as u64);
    assert_eq!(card.break_even_rows("sum", &shared(8), 1.0, 1.0), None);
    // Sixteen threads of twins leave nothing to save.
    let threads = BatchShape { twin_threads: 16, ..BatchShape::of_rows(1, 0, 0) };
    assert_eq!(card.break_even_rows("sum", &threads, 1.0, 1.0), None);
    assert_eq!(card.break_even_rows("unknown", &threads, 1.0, 1.0), None);
}

#[test]
fn a_link_is_straight_between_its_points() {
    let link = Link { points: vec![BandwidthPoint { bytes: 100, ns: 50.0 }, BandwidthPoint { bytes: 300, ns: 90.0 }] };
    assert_eq!([0, 50, 100, 200, 300, 400].map(|bytes| link.ns(bytes)), [0.0, 25.0, 50.0, 70.0, 90.0, 110.0]);
    assert_eq!(Link::default().ns(1 << 30), 0.0);
    // Noise that makes more bytes quicker does not make them quicker here.
    let noisy = Link { points: vec![BandwidthPoint { bytes: 100, ns: 50.0 }, BandwidthPoint { bytes: 300, ns: 40.0 }] };
    assert_eq!(noisy.ns(400), 50.0);
    assert_eq!(Line::through((100, 1200.0), (200, 2200.0)), Line { fixed_ns: 200.0, ns_per_event: 10.0 });
    assert_eq!(Line::through((100, 1200.0), (200, 1100.0)).ns_per_event, 0.0);
}

#[test]
fn what_pays_moves_and_what_does_not_stays() {
    let large = BatchShape::of_rows(100_000, 32, 4);
    let mut forest = placer("forest", PlacerSettings::default());
    let decision = forest.decide(&large);
    assert_eq!((decision.side, decision.moved), (Side::Device, true), "{}", decision.reason);
    assert!(matches!(decision.reason, Reason::Faster { times } if times > 100.0), "{}", decision.reason);
    assert_eq!(forest.take_switches(), [Switch { step: 0, side: Side::Device }]);
    assert!(!forest.decide(&large).moved);
    let mut sum = placer("sum", PlacerSettings::default());
    assert!(sides(&mut sum, &[large; 100]).iter().all(|&side| side == Side::Cpu));
    assert!(matches!(sum.decide(&large).reason, Reason::Faster { .. }));
}

/// State of a gigabyte is not moved for a microsecond, and is moved in the end when microseconds add up.
#[test]
fn moving_state_must_pay_there_and_back() {
    let state_bytes = 1 << 30;
    let batch = BatchShape { state_bytes, ..BatchShape::of_rows(10_000, 32, 4) };
    let mut forest = placer("forest", PlacerSettings::default());
    let first = forest.decide(&batch);
    assert_eq!(first.side, Side::Cpu);
    assert!(matches!(first.reason, Reason::MoveDoesNotPayYet { .. }), "{}", first.reason);
    let card = card();
    let move_ns = card.move_in_ns(state_bytes) + card.move_out_ns(state_bytes);
    let predicted = card.predict("forest", &batch).expect("measured");
    let saved_a_step = predicted.twin_ns * 0.8 - predicted.device_ns;
    let expected = (move_ns / saved_a_step).ceil() as usize;
    let moved_at =
        1 + sides(&mut forest, &[batch; 1000]).iter().position(|&side| side == Side::Device).expect("moves in the end");
    assert_eq!(moved_at, expected - 1, "steps count from 0");
}

/// Sides that are nearly equal are not worth a move, whichever of them is ahead.
#[test]
fn nearly_equal_sides_never_move() {
    let mut calibration = card();
    calibration.kernels[0].twin.ns_per_event = 1.0;
    let batch = BatchShape::of_rows(1 << 20, 8, 4);
    let device = calibration.predict("forest", &batch).expect("measured").device_ns;
    for ratio in [0.85, 0.99, 1.01, 1.2] {
        calibration.kernels[0].twin.ns_per_event = device * ratio / batch.rows as f64;
        for start in [Side::Cpu, Side::Device] {
            let mut placer = OperatorPlacer::new(
                "forest",
                PlacerSettings::default(),
                DeviceFitness::Fit,
                Some(Arc::new(calibration.clone())),
            )
            .resuming(0, start);
            assert!(sides(&mut placer, &[batch; 500]).iter().all(|&side| side == start), "{ratio} from {start}");
        }
    }
}

#[test]
fn a_software_adapter_is_used_only_when_forced() {
    let software = Arc::new(Calibration { software: true, ..card() });
    let batch = BatchShape::of_rows(1 << 20, 32, 4);
    let decide = |device| {
        let settings = PlacerSettings { device, ..PlacerSettings::default() };
        OperatorPlacer::new("forest", settings, DeviceFitness::Fit, Some(software.clone())).decide(&batch)
    };
    assert_eq!(
        (decide(DeviceChoice::Auto).side, decide(DeviceChoice::Auto).reason),
        (Side::Cpu, Reason::SoftwareAdapter)
    );
    assert_eq!((decide(DeviceChoice::Gpu).side, decide(DeviceChoice::Gpu).reason), (Side::Device, Reason::Forced));
    assert_eq!((decide(DeviceChoice::Cpu).side, decide(DeviceChoice::Cpu).reason), (Side::Cpu, Reason::Forced));
}

#[test]
fn without_a_fit_device_the_twin_runs_whatever_is_asked() {
    let batch = BatchShape::of_rows(1 << 20, 32, 4);
    let force = PlacerSettings { device: DeviceChoice::Gpu, ..PlacerSettings::default() };
    for settings in [PlacerSettings::default(), force] {
        let mut absent = OperatorPlacer::new("forest", settings.clone(), DeviceFitness::Absent, None);
        assert_eq!((absent.decide(&batch).side, absent.decide(&batch).reason), (Side::Cpu, Reason::NoDevice));
        let unfit = DeviceFitness::Unfit("loops are cut at 65,535".to_owned());
        let decision = OperatorPlacer::new("forest", settings, unfit, Some(Arc::new(card()))).decide(&batch);
        assert_eq!(decision.side, Side::Cpu);
        assert!(decision.reason.to_string().contains("65,535"));
    }
    let mut unmeasured =
        OperatorPlacer::new("new", PlacerSettings::default(), DeviceFitness::Fit, Some(Arc::new(card())));
    assert_eq!(unmeasured.decide(&batch).reason, Reason::NotCalibrated);
}

/// An event that has waited for most of its bound goes where its batch is done in time, if only the twin can.
#[test]
fn the_latency_bound_keeps_and_takes_the_twin() {
    let settings = PlacerSettings { latency_target_ns: Some(1_000_000), ..PlacerSettings::default() };
    // 120 us on the twin; on the device 50, but 150 now and then.
    let batch = BatchShape::of_rows(120, 32, 4);
    let mut forest = placer("forest", settings.clone());
    let waited = |ns| BatchShape { oldest_wait_ns: ns, ..batch };
    assert_eq!(forest.decide(&waited(0)).side, Side::Device);
    let late = forest.decide(&waited(870_000));
    assert_eq!(late.side, Side::Cpu);
    assert!(matches!(late.reason, Reason::LatencyBound { done_ns, .. } if done_ns > 1e6), "{}", late.reason);
    // On the twin it stays while the device would be late, and for a while after that.
    let staying = forest.decide(&waited(870_000));
    assert!(matches!(staying.reason, Reason::LatencyBound { .. }), "{}", staying.reason);
    let after = forest.decide(&waited(0));
    assert!(matches!(after.reason, Reason::MovedLately { .. }), "{}", after.reason);
    assert!(sides(&mut forest, &[batch; 40]).contains(&Side::Device));
    // The bound takes the device at once where the twin is too slow for it, though state that large would not have paid yet.
    let large = BatchShape { state_bytes: 1 << 20, ..BatchShape::of_rows(2_000, 32, 4) };
    let mut slow = placer("forest", PlacerSettings { hysteresis: 0.99, ..settings });
    assert_eq!(slow.decide(&large).side, Side::Device);
}

/// Figures of another machine, or of a busy one, are put right by what happens.
#[test]
fn observations_correct_the_figures() {
    let batch = BatchShape::of_rows(10_000, 32, 4);
    let mut forest = placer("forest", PlacerSettings::default());
    let predicted = forest.decide(&batch).gpu_predicted_ns_per_event.expect("measured");
    let mut left = None;
    for step in 1..200 {
        // The device takes 300 times what was predicted, more than twice what the twin takes.
        forest.observe(Side::Device, &batch, (predicted * batch.rows as f64 * 300.0) as u64);
        if forest.decide(&batch).side == Side::Cpu {
            left = Some(step);
            break;
        }
    }
    assert!(left.is_some_and(|step| step >= 32), "after it has stayed for a while: {left:?}");
    let decision = forest.decide(&batch);
    assert!(decision.gpu_predicted_ns_per_event > decision.cpu_predicted_ns_per_event);
    assert!((decision.gpu_observed_ns_per_event.expect("observed") / predicted - 300.0).abs() < 1.0);
    assert!(decision.break_even_rows.is_none_or(|rows| rows > batch.rows));
}

/// A device that was slow once is found again when it is quick: a shadow run tells.
#[test]
fn shadow_runs_find_a_side_that_has_become_quicker() {
    let batch = BatchShape::of_rows(10_000, 32, 4);
    let mut placer = placer("slow", PlacerSettings::default());
    let (mut here, mut shadow, mut shadows) = (0.0, 0.0, 0);
    for step in 0..20_000 {
        let decision = placer.decide(&batch);
        if decision.side == Side::Device {
            assert!(step > 100 && shadows > 1);
            // Bounded by the share of time, at the figures that were believed then.
            assert!(shadow <= here * 0.02 * 10.0, "{shadow} of {here}");
            return;
        }
        here += 100_000.0;
        placer.observe(Side::Cpu, &batch, 100_000);
        if decision.shadow == Some(Side::Device) {
            // It takes a twentieth of what calibration said.
            shadow += 50_000.0;
            shadows += 1;
            placer.observe(Side::Device, &batch, 50_000);
        }
    }
    panic!("never found, after {shadows} shadow runs");
}

#[test]
fn a_failing_device_is_left_for_longer_each_time() {
    let batch = BatchShape::of_rows(100_000, 32, 4);
    let mut forest = placer("forest", PlacerSettings::default());
    let mut waits = Vec::new();
    for _ in 0..4 {
        let decision = (0..10_000)
            .map(|_| forest.decide(&batch))
            .find(|decision| decision.side == Side::Device)
            .expect("tried again");
        forest.device_failed(decision.step);
        let decision = forest.decide(&batch);
        let Reason::BackingOff { steps_left } = decision.reason else { panic!("{}", decision.reason) };
        waits.push(steps_left);
    }
    assert_eq!(waits, [64, 128, 256, 512]);
    // The failed step itself was the twin's in the end, and a replay does so too.
    let switches = forest.take_switches();
    assert_eq!(switches[..2], [Switch { step: 0, side: Side::Device }, Switch { step: 0, side: Side::Cpu }]);
    assert_eq!(placer("forest", PlacerSettings::default()).replaying(switches).decide(&batch).side, Side::Cpu);
}

#[test]
fn a_setting_moves_at_the_next_step() {
    let batch = BatchShape::of_rows(100_000, 32, 4);
    let mut forest = placer("forest", PlacerSettings::default());
    assert_eq!(forest.decide(&batch).side, Side::Device);
    forest.set(PlacerSettings { device: "CPU".parse().expect("a device"), ..PlacerSettings::default() });
    assert_eq!((forest.decide(&batch).side, forest.side()), (Side::Cpu, Side::Cpu));
    assert_eq!(forest.take_switches().len(), 2);
    let error = "cuda".parse::<DeviceChoice>().expect_err("no such device");
    assert!(error.to_string().contains("`cuda`") && error.to_string().contains("auto"), "{error}");
}

/// What `EXPLAIN ANALYZE` says holds all that the choice was made from.
#[test]
fn a_decision_explains_itself() {
    let batch = BatchShape::of_rows(100_000, 32, 4);
    let mut forest = placer("forest", PlacerSettings::default());
    forest.decide(&batch);
    forest.observe(Side::Device, &batch, 900_000);
    let text = forest.decide(&batch).to_string();
    let expected = "device=gpu, because ";
    assert!(text.starts_with(expected) && text.contains("x quicker"), "{text}");
    assert!(text.contains("cpu ns/event: predicted 1000.00, observed -"), "{text}");
    assert!(text.contains("gpu ns/event: predicted ") && text.contains("observed 9.00; gpu pays from 5"), "{text}");
    let absent = OperatorPlacer::new("forest", PlacerSettings::default(), DeviceFitness::Absent, None).decide(&batch);
    assert_eq!(absent.to_string(), "device=cpu, because there is no GPU");
}

/// What one step brings: a batch, and how far the truth is from what was predicted on each side.
fn steps() -> impl Strategy<Value = Vec<(BatchShape, f64, f64)>> {
    let batch = (
        0u64..2_000_000,
        0u64..64,
        0u64..8,
        1u32..5,
        prop_oneof![Just(0u64), 0u64..1 << 28],
        0.1..10.0f64,
        1u32..16,
        0u64..2_000_000,
    )
        .prop_map(|(rows, up, down, upload_sharers, state_bytes, work, twin_threads, oldest_wait_ns)| BatchShape {
            upload_sharers,
            state_bytes,
            work,
            twin_threads,
            oldest_wait_ns,
            ..BatchShape::of_rows(rows, up, down)
        });
    vec((batch, 0.05..20.0f64, 0.05..20.0f64), 1..400)
}

fn settings() -> impl Strategy<Value = PlacerSettings> {
    (prop_oneof![Just(None), (100_000u64..5_000_000).prop_map(Some)], 0.0..0.9f64, 0u64..64, 0.0..0.2f64, 1u64..100)
        .prop_map(|(latency_target_ns, hysteresis, dwell_steps, explore_share, explore_steps)| PlacerSettings {
            latency_target_ns,
            hysteresis,
            dwell_steps,
            explore_share,
            explore_steps,
            ..PlacerSettings::default()
        })
}

/// Runs all steps, with durations that are the raw predictions times what the step says.
fn run(
    placer: &mut OperatorPlacer,
    calibration: &Calibration,
    kernel: &str,
    steps: &[(BatchShape, f64, f64)],
    fails_every: usize,
) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for (step, (batch, cpu, gpu)) in steps.iter().enumerate() {
        let decision = placer.decide(batch);
        let raw = calibration.predict(kernel, batch).expect("measured");
        let ns = |side| match side {
            Side::Cpu => (raw.twin_ns * cpu) as u64,
            Side::Device => (raw.device_ns * gpu) as u64,
        };
        if decision.side == Side::Device && step % fails_every == fails_every - 1 {
            placer.device_failed(decision.step);
        } else {
            placer.observe(decision.side, batch, ns(decision.side));
        }
        if let Some(shadow) = decision.shadow {
            placer.observe(shadow, batch, ns(shadow));
        }
        decisions.push(decision);
    }
    decisions
}

/// A replay from a checkpoint goes on where the run was, though no move is recorded after it.
#[test]
fn a_replay_from_a_checkpoint_begins_where_the_run_was() {
    let batch = BatchShape::of_rows(10, 32, 4);
    let mut placer = placer("sum", PlacerSettings::default()).resuming(7, Side::Device);
    placer.replay(&[]);
    assert_eq!((placer.decide(&batch).side, placer.step()), (Side::Device, 8));
    placer.replay(&[Switch { step: 8, side: Side::Cpu }]);
    assert_eq!(placer.decide(&batch).side, Side::Cpu);
    placer.replay(&[]);
    assert_eq!(placer.decide(&batch).side, Side::Cpu);
    placer.replay(&[Switch { step: 10, side: Side::Device }, Switch { step: 10, side: Side::Cpu }]);
    assert_eq!(placer.decide(&batch).side, Side::Cpu, "the device failed in that very batch");
}

/// A shadow run that would hold a batch back beyond the bound is not made.
#[test]
fn no_shadow_runs_beyond_the_latency_bound() {
    let batch = BatchShape::of_rows(1_000, 32, 4);
    let shadows = |latency_target_ns| {
        let mut placer = placer("forest", PlacerSettings { latency_target_ns, ..PlacerSettings::default() });
        (0..2_000).filter(|_| placer.decide(&batch).shadow.is_some()).count()
    };
    assert!(shadows(None) > 0);
    assert_eq!(shadows(Some(500_000)), 0, "the twin takes 1 ms");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A software adapter takes cores from those it would relieve, so nothing that is observed may lead to it.
    #[test]
    fn a_software_adapter_is_never_chosen(settings in settings(), steps in steps()) {
        let software = Calibration { software: true, ..card() };
        let mut placer = OperatorPlacer::new("forest", settings, DeviceFitness::Fit, Some(Arc::new(software.clone())));
        for decision in run(&mut placer, &software, "forest", &steps, usize::MAX) {
            prop_assert_eq!((decision.side, decision.shadow), (Side::Cpu, None));
        }
    }

    /// An operator that goes to and fro moves its state at each turn.
    #[test]
    fn moves_are_no_closer_than_the_dwell(settings in settings(), steps in steps()) {
        let dwell = settings.dwell_steps;
        let mut placer = placer("forest", settings);
        let decisions = run(&mut placer, &card(), "forest", &steps, usize::MAX);
        let moves: Vec<&Decision> = decisions.iter().filter(|decision| decision.moved).collect();
        for pair in moves.windows(2) {
            let for_latency = matches!(pair[1].reason, Reason::LatencyBound { .. }) && pair[1].side == Side::Cpu;
            prop_assert!(for_latency || pair[1].step - pair[0].step >= dwell, "{:?}", pair);
        }
        let switches: Vec<Switch> = moves.iter().map(|decision| Switch { step: decision.step, side: decision.side }).collect();
        prop_assert_eq!(placer.take_switches(), switches);
    }

    /// A batch is on the device only if it is done there in time, or at least before the twin could be.
    #[test]
    fn the_latency_bound_is_respected(settings in settings(), target_ns in 100_000u64..5_000_000, steps in steps()) {
        let settings = PlacerSettings { latency_target_ns: Some(target_ns), ..settings };
        let (mut placer, card) = (placer("forest", settings), card());
        let decisions = run(&mut placer, &card, "forest", &steps, usize::MAX);
        for (decision, (batch, ..)) in decisions.iter().zip(&steps) {
            if decision.side == Side::Device && batch.rows > 0 {
                let rows = batch.rows as f64;
                let (cpu, gpu) = (decision.cpu_predicted_ns_per_event.expect("measured") * rows, decision.gpu_predicted_ns_per_event.expect("measured") * rows);
                let wait = batch.oldest_wait_ns as f64;
                let gpu_done = wait + gpu + 100_000.0 + if decision.moved { card.move_in_ns(batch.state_bytes) } else { 0.0 };
                let cpu_done = wait + cpu + if decision.moved { 0.0 } else { card.move_out_ns(batch.state_bytes) };
                prop_assert!(gpu_done <= target_ns as f64 * 1.000001 || gpu_done <= cpu_done * 1.000001, "{} {} {}", gpu_done, cpu_done, target_ns);
            }
        }
    }

    /// Shadow runs cost no more than their share, at what was predicted of them.
    #[test]
    fn exploring_costs_its_share(settings in settings(), steps in steps()) {
        let (share, every) = (settings.explore_share, settings.explore_steps);
        let decisions = run(&mut placer("forest", settings), &card(), "forest", &steps, usize::MAX);
        let (mut here, mut shadow, mut last) = (0.0, 0.0, None::<u64>);
        for (decision, (batch, ..)) in decisions.iter().zip(&steps) {
            let rows = batch.rows as f64;
            let ns = |side| rows * match side {
                Side::Cpu => decision.cpu_predicted_ns_per_event.expect("measured"),
                Side::Device => decision.gpu_predicted_ns_per_event.expect("measured"),
            };
            here += ns(decision.side);
            if let Some(side) = decision.shadow {
                prop_assert_eq!(side, decision.side.other());
                prop_assert!(last.is_none_or(|last| decision.step - last >= every));
                last = Some(decision.step);
                shadow += ns(side);
            }
            prop_assert!(shadow <= here * share * 1.000001);
        }
    }

    /// A replay that chose otherwise would give other bits for kernels of the tolerance class.
    #[test]
    fn a_replay_makes_the_same_choices(settings in settings(), steps in steps(), fails_every in 3usize..50) {
        let first = run(&mut placer("forest", settings.clone()), &card(), "forest", &steps, fails_every);
        let mut again = placer("forest", settings.clone());
        prop_assert_eq!(&run(&mut again, &card(), "forest", &steps, fails_every), &first);
        let switches: Vec<Switch> = again.take_switches();
        let recorded = serde_json::to_string(&switches).expect("plain data");
        let switches: Vec<Switch> = serde_json::from_str(&recorded).expect("what was written");
        // On a machine where the device is useless, and nothing fails.
        let mut other = card();
        other.round_trip.p50_ns = 1e9;
        let mut replay = OperatorPlacer::new("forest", settings, DeviceFitness::Fit, Some(Arc::new(other.clone()))).replaying(switches);
        let replayed = run(&mut replay, &other, "forest", &steps, usize::MAX);
        for (step, (first, replayed)) in first.iter().zip(&replayed).enumerate() {
            let failed = first.side == Side::Device && step % fails_every == fails_every - 1;
            prop_assert_eq!(replayed.side, if failed { Side::Cpu } else { first.side });
            prop_assert_eq!(replayed.shadow, None);
        }
    }

    /// The figures shown are those that the choice was made from.
    #[test]
    fn more_rows_never_take_less_time(rows in 0u64..1 << 30, more in 0u64..1 << 20, up in 0u64..64) {
        let card = card();
        let (few, many) = (BatchShape::of_rows(rows, up, 4), BatchShape::of_rows(rows + more, up, 4));
        let (few, many) = (card.predict("forest", &few).expect("measured"), card.predict("forest", &many).expect("measured"));
        prop_assert!(few.twin_ns <= many.twin_ns && few.device_ns <= many.device_ns);
    }
}
