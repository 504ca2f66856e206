//! What anomaly scores rely on: healthy readings that are predictable, faults that show, and labels that are true.

use arrow::array::{Array, AsArray, Float64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use proptest::prelude::*;

use super::*;

fn generator(config: TelemetryConfig) -> TelemetryGenerator {
    TelemetryGenerator::new(config).expect("a valid configuration")
}

const SENSORS: [&str; 5] = ["temperature_c", "vibration_mm_s", "pressure_bar", "speed_rpm", "power_kw"];

fn sensor<'a>(batch: &'a RecordBatch, name: &str) -> &'a Float64Array {
    batch[name].as_primitive::<Float64Type>()
}

proptest! {
    /// A checkpoint may fall inside a fault: how the stream is cut never shows.
    #[test]
    fn cuts_do_not_show(
        seed: u64, group_size in prop::sample::select(vec![1u64, 100]), start in 0u64..1_000_000,
        lengths in prop::collection::vec(0u64..400, 1..5), indices in prop::collection::vec(0usize..10, 0..4),
    ) {
        let generator = generator(TelemetryConfig { seed, out_of_order_group_size: group_size, ..Default::default() });
        let mut parts = Vec::new();
        let mut end = start;
        for length in lengths {
            parts.push(generator.batch(end..end + length, None).expect("a batch"));
            end += length;
        }
        let whole = generator.batch(start..end, None).expect("a batch");
        let projected = generator.batch(start..end, Some(&indices)).expect("a batch");
        prop_assert_eq!(&concat_batches(schema(), &parts).expect("one schema"), &whole);
        prop_assert_eq!(projected, whole.project(&indices).expect("columns"));
    }
}

/// Every machine reports once per interval, and event time never goes back.
#[test]
fn machines_report_in_turn() {
    let generator = generator(TelemetryConfig { machine_count: 7, ..Default::default() });
    let batch = generator.batch(0..7_000, None).expect("a batch");
    let times = batch["event_time"].as_primitive::<TimestampMillisecondType>().values();
    let machines = batch["machine"].as_primitive::<Int64Type>().values();
    assert!(times.is_sorted());
    for (row, (&machine, &time)) in machines.iter().zip(times).enumerate() {
        assert_eq!((machine, (time - times[0]) / 1_000), (row as i64 % 7, row as i64 / 7));
    }
}

/// Each fault does to the sensors what its label says, compared with the same machine without faults; outside of faults the two
/// are equal to the bit.
#[test]
fn faults_are_what_their_labels_say() {
    let config =
        TelemetryConfig { machine_count: 20, service_period_readings: 600, fault_share: 0.5, ..Default::default() };
    let healthy = generator(TelemetryConfig { fault_share: 0.0, ..config.clone() });
    let faulty = generator(config);
    let events = 0..20 * 600 * 20;
    let (healthy, faulty) =
        (healthy.batch(events.clone(), None).expect("a batch"), faulty.batch(events, None).expect("a batch"));
    let kinds = faulty["fault_kind"].as_string_view();
    let mut seen = std::collections::BTreeMap::<&str, (f64, usize)>::new();
    for row in 0..faulty.num_rows() {
        let is_fault = faulty["is_fault"].as_boolean().value(row);
        assert!(is_fault == kinds.is_valid(row) && is_fault == faulty["fault_id"].is_valid(row));
        let kind = if is_fault { kinds.value(row) } else { "none" };
        let mut change_max = 0.0f64;
        for name in SENSORS {
            assert_eq!(sensor(&faulty, name).is_null(row), kind == "dropout");
            let (before, after) = (sensor(&healthy, name).value(row), sensor(&faulty, name).value(row));
            assert!(before.is_finite() && before > 0.0 && after.is_finite(), "{name}: {before} {after}");
            change_max = change_max.max((after / before - 1.0).abs());
        }
        let entry = seen.entry(kind).or_default();
        *entry = (if kind == "dropout" { 0.0 } else { entry.0.max(change_max) }, entry.1 + 1);
        assert!(kind != "none" || change_max == 0.0, "row {row} changes by {change_max} without a fault");
        assert!(kind != "spike" || change_max > 0.1, "a spike of {change_max}");
    }
    assert!(FaultKind::ALL.iter().all(|kind| seen.contains_key(kind.name())), "{seen:?}");
    assert!(seen["drift"].0 > 0.15 && seen["bearing_wear"].0 > 2.0 && seen["stuck_sensor"].0 > 0.02, "{seen:?}");
}

/// A stuck sensor repeats one value to the bit, while noise makes every healthy reading differ from the one before.
#[test]
fn a_stuck_sensor_repeats_itself() {
    let config = TelemetryConfig { machine_count: 1, fault_share: 1.0, ..Default::default() };
    let batch = generator(config).batch(0..100 * 3_600, None).expect("a batch");
    let kinds = batch["fault_kind"].as_string_view();
    let faults = batch["fault_id"].as_primitive::<Int64Type>();
    let repeats = |row: usize| {
        SENSORS.iter().filter(|name| sensor(&batch, name).value(row) == sensor(&batch, name).value(row - 1)).count()
    };
    let mut stuck = 0;
    for row in 1..batch.num_rows() {
        let goes_on = faults.is_valid(row) && faults.is_valid(row - 1) && faults.value(row) == faults.value(row - 1);
        if goes_on && kinds.value(row) == "stuck_sensor" {
            stuck += 1;
            assert_eq!(repeats(row), 1, "row {row}");
        } else if faults.is_null(row) && faults.is_null(row - 1) {
            assert!(repeats(row) <= 1, "row {row}");
        }
    }
    assert!(stuck > 1_000);
}

/// Load follows the hours and the week, so that a forecast has something to learn.
#[test]
fn seasons_show() {
    let config = TelemetryConfig { machine_count: 1, interval_ms: 600_000, fault_share: 0.0, ..Default::default() };
    let batch = generator(config).batch(0..7 * 144, Some(&[6])).expect("a batch");
    let power = sensor(&batch, "power_kw").values();
    let mean = |days: Range<usize>| {
        let values = &power[days.start * 144..days.end * 144];
        values.iter().sum::<f64>() / values.len() as f64
    };
    assert!(mean(0..5) > 1.5 * mean(5..7), "{} {}", mean(0..5), mean(5..7));
    let (lowest, highest) =
        power[..144].iter().fold((f64::MAX, f64::MIN), |(low, high), &kw| (low.min(kw), high.max(kw)));
    assert!(highest > 1.5 * lowest, "{lowest} to {highest}");
}

/// A column's texts are picked by the place of the variant: an enum in another order than its texts would mislabel rows.
#[test]
fn variants_are_in_the_order_of_their_texts() {
    assert!(FaultKind::ALL.iter().enumerate().all(|(index, kind)| index == *kind as usize));
}

/// Settings at their limits make no panic and no overflow.
#[test]
fn extremes_hold() {
    for (machine_count, interval_ms, service_period_readings) in
        [(1, 1, 100), (1 << 31, 86_400_000, 1 << 30), (1, 86_400_000, 1 << 30)]
    {
        let config = TelemetryConfig {
            machine_count,
            interval_ms,
            service_period_readings,
            fault_share: 1.0,
            ..Default::default()
        };
        let generator = generator(config);
        for events in [0..500, EVENT_COUNT_MAX - 100..u64::MAX] {
            let batch = generator.batch(events.clone(), None).expect("a batch");
            assert_eq!(batch.num_rows() as u64, generator.row_count(events));
        }
    }
}
