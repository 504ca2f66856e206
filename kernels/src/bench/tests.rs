//! The whole run on a small kernel and on the real ones, as far as a machine without a GPU goes.

use std::sync::Arc;
use std::time::Duration;

use super::workload::Random;
use super::*;
use crate::placed::toy::{ChainBatch, ChainHash};
use crate::state::Layout;

/// The hash of all rows of a key: anything lost, doubled or out of order changes it.
pub(crate) struct Chain {
    pub(crate) kernel: ChainHash,
}

impl Chain {
    pub(crate) fn new() -> Self {
        Chain { kernel: ChainHash { layout: Layout::WordMajor, counters: 1 } }
    }
}

impl Workload for Chain {
    type Kernel = ChainHash;
    type Columns = (Vec<u32>, Vec<u32>);

    fn kernel(&self) -> &ChainHash {
        &self.kernel
    }

    fn variant(&self) -> &'static str {
        ""
    }

    fn input(&self) -> &'static str {
        "numbers"
    }

    fn key_count(&self, _: usize) -> usize {
        8
    }

    fn warm_rows(&self) -> usize {
        1
    }

    fn columns(&self, rows: usize, key_count: usize, seed: u64) -> (Vec<u32>, Vec<u32>) {
        let mut random = Random::new(seed);
        (0..rows).map(|_| (random.below(key_count) as u32, random.next() as u32)).unzip()
    }

    fn batch(&self, (slots, values): &(Vec<u32>, Vec<u32>)) -> ChainBatch {
        Arc::into_inner(ChainBatch::new(slots, values)).expect("nobody else has it")
    }

    fn traffic_bytes(&self, batch: &ChainBatch) -> u64 {
        batch.values.len() as u64 * 8
    }

    fn answer(&self, hashes: Vec<u32>) -> Answer {
        Answer { words: hashes, ..Answer::default() }
    }
}

fn quick() -> Limits {
    Limits {
        duration: Duration::from_millis(5),
        warm_duration: Duration::from_millis(50),
        batches_min: 2,
        batches_max: 4,
        seed: 7,
        busy: false,
    }
}

#[test]
fn a_twin_is_timed_on_every_count_of_threads() {
    for (rows, threads) in [(0, 1), (1, 4), (1000, 1), (1000, 3)] {
        let figure = Chain::new().twin(rows, threads, &quick());
        assert_eq!(figure.threads, threads.min(rows.max(1)));
        assert!(
            figure.batches >= 2 && figure.batch_ns_p50 >= figure.kernel_ns_p50 && figure.kernel_ns_p50 > 0.0,
            "{figure:?}"
        );
        assert!((figure.events_per_s - rows as f64 / figure.batch_ns_p50 * 1e9).abs() <= figure.events_per_s * 1e-9);
    }
}

/// Two runs of the same batches give the same answer, for each real workload; and workloads differ by their seed.
#[test]
fn workloads_repeat() {
    for case in cases() {
        let agreement = case.repeats(500, &quick());
        assert!(agreement.is_right() && agreement.differing == 0, "{}: {agreement:?}", case.name());
    }
    assert_ne!(Chain::new().columns(10, 8, 1), Chain::new().columns(10, 8, 2));
}

/// Scores that are all zero would be compared as equal whatever a device does.
#[test]
fn warm_workloads_score() {
    for case in cases() {
        assert!(case.telling_share(300, &quick()) > 0.01, "{} says nothing", case.name());
    }
}

#[test]
fn a_run_writes_what_it_measured() {
    let folder = std::env::temp_dir().join(format!("eagre-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let options = Options {
        sides: parse_sides("cpu").expect("cpu is a side"),
        kernels: vec!["recurrence_scan".to_owned()],
        rows: vec![100, 400],
        duration: Duration::from_millis(1),
        reports: ["json", "md", "html"].map(|end| folder.join(format!("report.{end}"))).to_vec(),
        ..Options::default()
    };
    let mut printed = Vec::new();
    let report = run(&options, "eagre bench kernels".to_owned(), &mut printed).expect("runs");
    let printed = String::from_utf8(printed).expect("text");
    assert_eq!(report.cases.len(), cases().iter().filter(|case| case.kernel() == "recurrence_scan").count());
    assert_eq!(
        printed.lines().filter(|line| line.starts_with("recurrence_scan")).count(),
        report.cases.len() * 2,
        "{printed}"
    );
    assert!(
        report
            .cases
            .iter()
            .all(|case| case.points.iter().all(|point| !point.twin.is_empty() && point.device.is_none()))
    );
    for path in &options.reports {
        assert!(std::fs::read_to_string(path).expect("is written").contains("recurrence_scan"), "{}", path.display());
    }
    std::fs::remove_dir_all(&folder).expect("was made here");
}

/// A batch that takes minutes is told and left out, not waited for.
#[test]
fn what_takes_too_long_is_left_out() {
    let options = Options {
        sides: parse_sides("cpu").expect("cpu is a side"),
        kernels: vec!["recurrence_scan/one-key".to_owned()],
        rows: vec![100, 60_000_000],
        duration: Duration::from_millis(1),
        batch_duration_max: Duration::from_millis(2),
        ..Options::default()
    };
    let mut printed = Vec::new();
    let report = run(&options, String::new(), &mut printed).expect("runs");
    assert!(report.cases[0].points[1].twin.is_empty() && !report.cases[0].points[1].notes.is_empty());
    assert!(String::from_utf8(printed).expect("text").contains("left out"));
}

#[cfg(feature = "gpu")]
mod gpu {
    use super::*;
    use crate::device::calibrate::{self, calibrate};
    use crate::device::testing::{own_test_device, test_device, test_options};
    use crate::device::{Device, DeviceOptions};
    use crate::placer::BatchShape;

    fn timed_device() -> Option<Device> {
        own_test_device(&DeviceOptions { timestamps: true, ..test_options() })
    }

    #[test]
    fn a_device_is_timed_and_compared() {
        let Some(device) = timed_device() else { return };
        let figure = Case::device(&Chain::new(), &device, 5000, &[2], &quick()).expect("runs");
        assert!(
            figure.fed.iter().all(|fed| fed.threads == 2 && fed.events_per_s > 0.0) && figure.fed.len() == 1,
            "{figure:?}"
        );
        assert!(
            figure.batches >= 2
                && figure.batch_ns_p99 >= figure.batch_ns_p50
                && figure.batch_ns_p50 > figure.convert_ns_p50
        );
        assert!(figure.kernel_ns_p50.is_none_or(|ns| ns > 0.0 && ns < figure.batch_ns_p99), "{figure:?}");
        assert!(figure.upload_bytes >= 5000 * 4 && figure.readback_bytes >= 5000 * 4, "{figure:?}");
        let agreement = Case::agreement(&Chain::new(), &device, 5000, &quick()).expect("runs");
        assert!(agreement.is_right() && agreement.differing == 0 && agreement.compared == 15_000, "{agreement:?}");
    }

    /// All kernels on whatever device there is: the agreement check of `bench kernels`, small.
    #[test]
    fn every_workload_agrees_with_its_twin() {
        let Some(device) = test_device() else { return };
        for case in cases() {
            let agreement =
                case.agreement(&device, 1500, &quick()).unwrap_or_else(|error| panic!("{}: {error}", case.name()));
            assert!(agreement.is_right(), "{}: {agreement:?}", case.name());
        }
    }

    /// The report has each kernel at each size, on the twin's threads and on the device, compared; a software adapter is named as one, and
    /// nothing is summed up from it.
    #[test]
    fn a_whole_run_has_every_kernel_on_both_sides() {
        if test_device().is_none() {
            return;
        }
        let path = std::env::temp_dir().join(format!("eagre-bench-both-{}.md", std::process::id()));
        let options = Options {
            rows: vec![64, 256],
            duration: Duration::from_millis(1),
            batch_duration_max: Duration::from_secs(60),
            checked_shaders: true,
            reports: vec![path.clone()],
            ..Options::default()
        };
        let mut printed = Vec::new();
        let report = run(&options, "eagre bench kernels".to_owned(), &mut printed).expect("runs");
        let (printed, text) =
            (String::from_utf8(printed).expect("text"), std::fs::read_to_string(&path).expect("is written"));
        std::fs::remove_file(&path).expect("was written");
        assert!(report.refused.is_empty(), "{:?}", report.refused);
        let names: Vec<String> = report.cases.iter().map(|figures| figures.case.clone()).collect();
        assert_eq!(names, cases().iter().map(|case| case.name()).collect::<Vec<_>>());
        for kernel in ["subspace_score", "pattern_step", "pattern_starts", "conv_forecast"] {
            assert!(report.cases.iter().any(|figures| figures.kernel == kernel), "{kernel}: {names:?}");
        }
        for figures in &report.cases {
            assert!(text.contains(&format!("\n## {}\n", figures.case)), "{}: {text}", figures.case);
            assert_eq!(figures.points.iter().map(|point| point.rows).collect::<Vec<_>>(), options.rows);
            for point in &figures.points {
                let (name, rows) = (&figures.case, point.rows);
                assert!(
                    point.twin.first().is_some_and(|figure| figure.threads == 1 && figure.events_per_s > 0.0),
                    "{name} {rows}"
                );
                assert!(point.device.as_ref().is_some_and(|figure| figure.events_per_s > 0.0), "{name} {rows}");
                assert!(
                    point.agreement.as_ref().is_some_and(Agreement::is_right),
                    "{name} {rows}: {:?}",
                    point.agreement
                );
            }
        }
        let software = report.adapter.as_ref().expect("there is one").software;
        assert_eq!(software, text.contains("software adapter"), "{text}");
        assert_eq!(software, printed.contains("no summary"), "{printed}");
    }

    #[test]
    fn calibration_is_made_once_and_completed() {
        let Some(device) = timed_device() else { return };
        let file = std::env::temp_dir().join(format!("eagre-calibration-{}.json", std::process::id()));
        let _ = std::fs::remove_file(&file);
        let chain = || -> Vec<Box<dyn Case>> { vec![Box::new(Chain::new())] };
        // No time for any kernel: the rest is there all the same, and is kept.
        let first = calibrate(&device, &chain(), Some(&file), Duration::ZERO).expect("calibrates");
        assert!(
            first.kernels.is_empty()
                && first.round_trip.p99_ns >= first.round_trip.p50_ns
                && first.round_trip.p50_ns > 0.0
        );
        assert!(!first.upload.points.is_empty() && first.upload.points.len() == first.readback.points.len());
        let second = calibrate(&device, &chain(), Some(&file), Duration::from_secs(20)).expect("calibrates");
        assert_eq!((&second.round_trip, &second.upload), (&first.round_trip, &first.upload));
        let figures = second.kernel("chain_hash").expect("was measured now");
        assert!(figures.twin.ns_per_event > 0.0 && figures.device.fixed_ns + figures.device.ns_per_event > 0.0);
        // It is kept as it is, and another start measures nothing.
        let third = calibrate(&device, &chain(), Some(&file), Duration::from_secs(20)).expect("calibrates");
        assert!(third.adapter == second.adapter && third.kernels.len() == 1);
        let (kept, made) = (third.kernels[0].twin.ns_per_event, second.kernels[0].twin.ns_per_event);
        assert!((kept - made).abs() < made * 1e-12, "the same up to a digit that JSON loses: {kept} {made}");
        assert!(
            second
                .predict("chain_hash", &BatchShape::of_rows(1000, 4, 4))
                .is_some_and(|both| both.device_ns >= second.round_trip.p50_ns)
        );
        // Measuring anew takes the place of what was kept.
        let anew = calibrate::calibrate_anew(&device, &[], Some(&file), Duration::ZERO).expect("calibrates");
        assert!(anew.kernels.is_empty() && anew.adapter == second.adapter);
        let again = calibrate(&device, &[], Some(&file), Duration::ZERO).expect("calibrates");
        assert_eq!(again.round_trip, anew.round_trip);
        // What is no JSON is as no file.
        std::fs::write(&file, "{").expect("writes");
        assert!(calibrate(&device, &[], Some(&file), Duration::ZERO).is_ok());
        std::fs::remove_file(&file).expect("was written");
        assert_eq!(second.software, device.description().software);
    }

    #[test]
    fn links_and_copies_have_a_speed() {
        let Some(device) = timed_device() else { return };
        let round_trip = calibrate::round_trip(&device, Duration::from_millis(5)).expect("runs");
        let (up_ns, back_ns) = calibrate::link(&device, 4 << 20, round_trip.p50_ns, 2).expect("runs");
        assert!(up_ns >= 1.0 && back_ns >= 1.0);
        let copy = calibrate::copy_gb_per_s(&device, 1).expect("runs");
        assert_eq!(copy.is_some(), device.description().features.iter().any(|feature| feature == "timestamps"));
        assert!(copy.is_none_or(|rate| rate > 0.0));
        let Some(without) = test_device() else { return };
        assert_eq!(calibrate::copy_gb_per_s(&without, 1).expect("runs"), None);
    }

    #[test]
    fn the_copy_shader_agrees_with_rust() {
        use crate::device::validation::{assert_constants_agree, assert_registered};
        assert_constants_agree(&calibrate::COPY, &[("WORKGROUP_SIZE", f64::from(calibrate::COPY_WORKGROUP_SIZE))]);
        assert_registered(&calibrate::COPY);
    }
}
