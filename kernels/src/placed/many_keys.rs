//! A hundred thousand keys, of which a few have most rows: state of many pages, and a workgroup or lane for each key.

use std::sync::Arc;

use super::soak::{near, same_cells, same_scores};
use super::{Placed, PlacedOptions};
use crate::device::testing::{shared_test_device, test_options};
use crate::features::Features;
use crate::half_space_forest::{ForestParameters, HalfSpaceForest};
use crate::kernel::Kernel;
use crate::pattern_step::{self, Pattern, PatternStep};
use crate::recurrence_scan::{self, RecurrenceScan};
use crate::rows::GroupedRows;
use crate::state::StatePages;
use crate::subspace_score::{Model, SubspaceParameters, SubspaceScore};
use crate::window_distance::{DistanceParameters, WindowDistance};
use crate::window_reduce::{self, ValueKind, Values, WindowReduce};

const KEYS: u32 = 100_000;
const ROWS: u32 = 9_000;
const STEPS: u32 = 3;

/// Every other row is one of three hot keys, the others are spread over all; the last key is among them.
fn rows(step: u32) -> Arc<GroupedRows> {
    let slot = |row: u32| match (row % 2, row) {
        (0, _) => [0, 65_536, KEYS - 1][row as usize / 2 % 3],
        _ => (row + step).wrapping_mul(2_654_435_761) % KEYS,
    };
    Arc::new(GroupedRows::group(&(0..ROWS).map(slot).collect::<Vec<_>>(), KEYS as usize))
}

fn values(step: u32) -> Vec<f64> {
    let noise = |row: u32| f64::from((row ^ step).wrapping_mul(2_246_822_519) >> 20) / 512.0;
    (0..ROWS).map(|row| if row % 97 == 0 { f64::NAN } else { f64::from(row % 60).sin() * 9.0 + noise(row) }).collect()
}

fn features(step: u32) -> Arc<Features> {
    Arc::new(Features::new(rows(step), &[&values(step)]))
}

/// Runs the steps on the device and by the twin.
fn assert_agrees<K: Kernel + Clone>(
    kernel: K,
    batch: impl Fn(u32) -> Arc<K::Batch>,
    agree: impl Fn(&K, &K::Output, &K::Output) -> bool,
) {
    let Some(device) = shared_test_device(&test_options()) else { return };
    let mut twin = StatePages::new(kernel.state_shape());
    let mut placed = Placed::new(Arc::new(kernel.clone()), PlacedOptions::default());
    placed.move_to_device(&device).expect("a device");
    for step in 0..STEPS {
        let batch = batch(step);
        twin.grow(kernel.slot_count(&batch));
        let (output, expected) = (placed.run(batch.clone()), kernel.run_twin(&batch, &mut twin));
        assert!(agree(&kernel, &output, &expected), "`{}`, step {step}", kernel.name());
    }
    assert_eq!(placed.metrics().device_batches, u64::from(STEPS), "ran on the device");
}

#[test]
fn forests_on_a_device() {
    let parameters = ForestParameters { features: 1, trees: 2, depth: 3, window: 32, ..Default::default() };
    assert_agrees(HalfSpaceForest::new(parameters).expect("within its ranges"), features, same_scores);
}

#[test]
fn distances_on_a_device() {
    let parameters = DistanceParameters { window: 4, history: 40, ..Default::default() };
    let kernel = WindowDistance::new(parameters).expect("within its ranges");
    assert_agrees(kernel, features, |kernel, ours, twin| near(kernel.exactness(), &ours.score, &twin.score));
}

#[test]
fn subspaces_on_a_device() {
    for model in [Model::Subspace, Model::Centroids] {
        let parameters = SubspaceParameters { window: 4, components: 2, model, ..Default::default() };
        let kernel = SubspaceScore::new(parameters).expect("within its ranges");
        assert_agrees(kernel, features, |kernel, ours, twin| near(kernel.exactness(), &ours.score, &twin.score));
    }
}

#[test]
fn recurrences_on_a_device() {
    let kernel = RecurrenceScan::new(recurrence_scan::Config::default()).expect("within its ranges");
    let batch = |step| Arc::new(recurrence_scan::Batch::gather(rows(step), &values(step)));
    assert_agrees(kernel, batch, |kernel, ours, twin| near(kernel.exactness(), ours, twin));
}

#[test]
fn patterns_on_a_device() {
    let kernel = PatternStep::new(vec![Pattern::sequence(3, 0b010)]).expect("within its ranges");
    let batch = |step: u32| {
        let words = ROWS.div_ceil(32);
        let bits = |salt: u32| (0..words).map(|word| (word ^ step ^ salt).wrapping_mul(2_654_435_761)).collect();
        let bitmaps: [Vec<u32>; 3] = [bits(1), bits(2 << 20), bits(3 << 24)];
        let times: Vec<i64> = (0..ROWS).map(|row| i64::from(step * ROWS + row)).collect();
        Arc::new(pattern_step::Batch::gather(rows(step), &bitmaps.each_ref().map(Vec::as_slice), &times))
    };
    assert_agrees(kernel, batch, |_, ours, twin| ours == twin);
}

#[test]
fn reductions_on_a_device() {
    let batch = |step| {
        let integers = values(step).iter().map(|value| (value * 1e9) as i64).collect();
        Arc::new(window_reduce::Batch::gather(rows(step), &Values::Int64(integers), &[]))
    };
    assert_agrees(WindowReduce::new(ValueKind::Int64), batch, same_cells);
}
