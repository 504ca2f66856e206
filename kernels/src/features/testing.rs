//! Batches for tests of kernels on a device.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Features, Scores};
use crate::device::testing::{own_test_device, test_options};
use crate::device::{Device, DeviceOptions, ResidentPages};
use crate::kernel::Kernel;
use crate::rows::GroupedRows;

/// The device that tests of kernels share. Software on a busy machine may take long over a wave.
pub(crate) fn patient_device() -> Option<Device> {
    static SHARED: OnceLock<Option<Device>> = OnceLock::new();
    let options = || DeviceOptions { timeout: Duration::from_secs(120), ..test_options() };
    SHARED.get_or_init(|| own_test_device(&options())).clone()
}

/// The scores of each batch and the pages after the last.
pub(crate) fn run_on_device<K>(device: &Device, kernel: &K, batches: &[Features]) -> (Vec<Scores>, Vec<Vec<u32>>)
where
    K: Kernel<Batch = Features, Output = Scores>,
{
    let mut state = ResidentPages::new(device, kernel.state_shape());
    let mut scores = Vec::new();
    for batch in batches {
        let mut wave = device.wave().expect("a wave");
        state.grow(&mut wave, kernel.slot_count(batch)).expect("the state fits");
        let regions = kernel.encode(batch, &mut state, &mut wave).expect("the batch is encoded");
        let readback = device.submit(wave).wait().expect("an answer");
        scores.push(kernel.decode(batch, &regions, &readback));
    }
    // One page after the other: a wave has a bounded readback.
    let pages = (0..state.page_count()).map(|page| {
        let mut wave = device.wave().expect("a wave");
        let region = wave.read_page(&state, page);
        device.submit(wave).wait().expect("the page").words(&region).to_vec()
    });
    (scores, pages.collect())
}

fn hash(seed: u64) -> u64 {
    let word = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (word ^ (word >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11
}

/// Ordinary rows with a few nulls, infinities, denormals and large values; nothing but nulls if asked for.
pub(crate) fn batch(
    features: usize,
    rows: usize,
    slot_count: usize,
    slot_of: impl Fn(u64) -> usize,
    nulls: bool,
) -> Features {
    let slots: Vec<u32> = (0..rows as u64).map(|row| slot_of(row) as u32).collect();
    let value = |row: u64, feature: u64| {
        if nulls {
            return f64::NAN;
        }
        match hash(row * 77 + feature) % 200 {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => 1e-310,
            3 => -1e35,
            4 => -0.0,
            _ => 1e6 + (row as f64 * 0.3).sin() + (hash(row * 31 + feature) % 4096) as f64 / 4096.0,
        }
    };
    let columns: Vec<Vec<f64>> =
        (0..features as u64).map(|feature| (0..rows as u64).map(|row| value(row, feature)).collect()).collect();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    Features::new(Arc::new(GroupedRows::group(&slots, slot_count)), &columns)
}

/// Lists of batches that are run one after the other: no rows, one, as many as lanes and one beside it, nothing but nulls, one key
/// (the list at 6), skew, slots at both sides of the edge of a page, and many keys up to `keys`.
pub(crate) fn edge_batches(features: usize, slots_per_page: usize, keys: usize) -> Vec<Vec<Features>> {
    let few = |rows| batch(features, rows, 3, |row| hash(row) as usize % 3, false);
    let mut lists = vec![
        vec![few(0), few(1), few(0), few(2)],
        vec![few(63), few(64), few(65)],
        vec![few(255), few(256), few(257)],
        vec![few(40), batch(features, 40, 3, |row| row as usize % 3, true), few(40)],
        vec![few(1000), few(1)],
        vec![batch(features, 2000, 64, |row| if hash(row) % 10 < 9 { 5 } else { hash(row) as usize % 64 }, false)],
        vec![batch(features, 1500, 1, |_| 0, false), batch(features, 700, 1, |_| 0, false)],
    ];
    let edge = |row: u64| [0, slots_per_page - 1, slots_per_page, slots_per_page + 1][hash(row) as usize % 4];
    lists.push((0..2).map(|_| batch(features, 600, slots_per_page + 2, edge, false)).collect());
    lists.push((0..2).map(|_| batch(features, keys, keys, |row| row as usize, false)).collect());
    lists
}
