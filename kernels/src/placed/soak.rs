//! Random steps with random faults, for as long as one likes: what placements give is always what the twin alone gives.
//!
//! A lane is a kernel with two states: one that is placed, moved, synced, restored and broken, and one of the twin alone. Lanes share
//! waves, and several steps are under way at a time. The seed gives the whole run and is printed when it fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::toy::{ChainBatch, ChainHash};
use super::{Backoff, Changed, Placed, PlacedMetrics, PlacedOptions, Step, WaveGroup};
use crate::device::testing::{shared_test_device, test_options};
use crate::device::{Fault, SharedDevice};
use crate::features::{Features, Scores};
use crate::half_space_forest::{ForestParameters, HalfSpaceForest};
use crate::kernel::{Exactness, Kernel};
use crate::pattern_step::{self, Pattern, PatternStep, Skip};
use crate::recurrence_scan::{self, RecurrenceScan};
use crate::rows::GroupedRows;
use crate::state::{Layout, StatePages};
use crate::subspace_score::{Model, SubspaceParameters, SubspaceScore};
use crate::window_distance::{DistanceParameters, WindowDistance};
use crate::window_reduce::{self, Cells, ValueKind, Values, WindowReduce};

/// How long the soak runs, in seconds. Without it, a few rounds only.
const SECONDS_VARIABLE: &str = "EAGRE_SOAK_SECONDS";
/// Another run than the usual one.
const SEED_VARIABLE: &str = "EAGRE_SOAK_SEED";

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A kernel under soak, whatever its types are.
trait Lane {
    fn start(&mut self, random: &mut Random, group: &mut WaveGroup);
    fn finish_one(&mut self);
    fn pending(&self) -> usize;
    fn disturb(&mut self, random: &mut Random, device: &SharedDevice);
    fn check_state(&mut self);
    fn metrics(&self) -> PlacedMetrics;
}

/// The answer is the same, as far as the kernel promises.
type Agree<K> = fn(&K, &<K as Kernel>::Output, &<K as Kernel>::Output) -> bool;

struct KernelLane<K: Kernel> {
    placed: Placed<K>,
    twin: StatePages,
    batch: fn(&mut Random, u64) -> Arc<K::Batch>,
    agree: Agree<K>,
    waiting: VecDeque<(Step<K>, K::Output)>,
    /// State as of the last checkpoint: the placement's, and the twin's.
    checkpoint: Option<(StatePages, StatePages)>,
    touched: Vec<u32>,
    started: u64,
}

impl<K: Kernel> KernelLane<K> {
    fn boxed(kernel: K, batch: fn(&mut Random, u64) -> Arc<K::Batch>, agree: Agree<K>) -> Box<dyn Lane>
    where
        K::Batch: 'static,
    {
        Box::new(Self::new(kernel, batch, agree))
    }

    fn new(kernel: K, batch: fn(&mut Random, u64) -> Arc<K::Batch>, agree: Agree<K>) -> Self {
        let options = PlacedOptions {
            retained_bytes_max: 40_000,
            backoff: Backoff { steps_first: 2, steps_max: 8 },
            ..PlacedOptions::default()
        };
        KernelLane {
            twin: StatePages::new(kernel.state_shape()),
            placed: Placed::new(Arc::new(kernel), options),
            batch,
            agree,
            waiting: VecDeque::new(),
            checkpoint: None,
            touched: Vec::new(),
            started: 0,
        }
    }
}

impl<K: Kernel> Lane for KernelLane<K> {
    fn start(&mut self, random: &mut Random, group: &mut WaveGroup) {
        let batch = (self.batch)(random, self.started);
        self.started += 1;
        self.twin.grow(self.placed.kernel().slot_count(&batch));
        let expected = self.placed.kernel().run_twin(&batch, &mut self.twin);
        self.touched.extend(self.placed.kernel().touched_slots(&batch).unwrap_or_default());
        let step = self.placed.start(batch, group);
        self.waiting.push_back((step, expected));
    }

    fn finish_one(&mut self) {
        if let Some((step, expected)) = self.waiting.pop_front() {
            let output = self.placed.finish(step);
            assert!(
                (self.agree)(self.placed.kernel(), &output, &expected),
                "`{}` answers otherwise than its twin",
                self.placed.kernel().name()
            );
        }
    }

    fn pending(&self) -> usize {
        self.waiting.len()
    }

    fn disturb(&mut self, random: &mut Random, device: &SharedDevice) {
        match random.below(7) {
            0 => self.placed.move_to_cpu(),
            1..=4 => drop(self.placed.move_to_device(device)),
            5 => {
                self.check_state();
                self.checkpoint = Some((self.placed.state().clone(), self.twin.clone()));
            }
            _ => {
                // A crash: all since the checkpoint is gone on both sides, and what is under way is never asked for.
                if let Some((placed, twin)) = self.checkpoint.clone() {
                    self.waiting.clear();
                    self.touched.clear();
                    self.placed.restore(placed);
                    self.twin = twin;
                    assert_eq!(self.placed.sync(), Changed::Any);
                }
            }
        }
    }

    fn check_state(&mut self) {
        let changed = self.placed.sync();
        self.touched.sort_unstable();
        self.touched.dedup();
        if let Changed::Slots(slots) = changed {
            assert_eq!(slots, self.touched, "what a checkpoint would save");
        }
        self.touched.clear();
        if self.placed.kernel().exactness() != Exactness::Exact {
            return;
        }
        // Slots that no key has are filled when pages go to a device, and else later.
        let (mut state, mut twin) = (self.placed.state().clone(), self.twin.clone());
        state.fill();
        twin.fill();
        for page in 0..twin.page_count() {
            assert!(state.page(page) == twin.page(page), "`{}`, page {page}", self.placed.kernel().name());
        }
    }

    fn metrics(&self) -> PlacedMetrics {
        self.placed.metrics()
    }
}

fn chain_batch(random: &mut Random, _: u64) -> Arc<ChainBatch> {
    let keys = [1, 3, 50, 200_000][random.below(4) as usize];
    let rows = [0, 1, 64, 65, 700][random.below(5) as usize];
    let slots: Vec<u32> = (0..rows).map(|_| random.below(keys) as u32).collect();
    let values: Vec<u32> = slots.iter().map(|_| random.next() as u32).collect();
    ChainBatch::new(&slots, &values)
}

fn random_rows(random: &mut Random, keys: u64) -> Arc<GroupedRows> {
    let keys = [1, 3, keys][random.below(3) as usize];
    let rows = [0, 1, 64, 65, 300][random.below(5) as usize];
    let slots: Vec<u32> = (0..rows).map(|_| random.below(keys) as u32).collect();
    Arc::new(GroupedRows::group(&slots, keys as usize))
}

fn forest() -> HalfSpaceForest {
    let parameters = ForestParameters { features: 2, trees: 3, depth: 4, window: 40, ..Default::default() };
    HalfSpaceForest::new(parameters).expect("within its ranges")
}

fn forest_batch(random: &mut Random, _: u64) -> Arc<Features> {
    let rows = random_rows(random, 40);
    let mut column = || -> Vec<f64> {
        let value = |random: &mut Random| match random.below(20) {
            0 => f64::NAN,
            1 => 1e6,
            _ => random.below(1000) as f64,
        };
        (0..rows.row_count()).map(|_| value(random)).collect()
    };
    let columns = [column(), column()];
    Arc::new(Features::new(rows, &[&columns[0], &columns[1]]))
}

pub(super) fn same_scores<K>(_: &K, output: &Scores, expected: &Scores) -> bool {
    let bits = |scores: &Scores| scores.score.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
    bits(output) == bits(expected)
}

pub(super) fn near(exactness: Exactness, output: &[f32], expected: &[f32]) -> bool {
    let Exactness::Tolerance { relative, absolute } = exactness else { panic!("of the class with a tolerance") };
    let is_near = |ours: f32, twin: f32| {
        if twin.is_nan() { ours.is_nan() } else { (ours - twin).abs() <= relative * twin.abs() + absolute }
    };
    output.len() == expected.len() && output.iter().zip(expected).all(|(&ours, &twin)| is_near(ours, twin))
}

/// A wave with noise, and now and then nothing.
fn shape(rows: &GroupedRows, random: &mut Random, step: u64) -> Vec<f64> {
    let value = |row: usize| match random.below(40) {
        0 => f64::NAN,
        noise => 50.0 + 10.0 * ((step * 300 + row as u64) as f64 / 3.0).sin() + noise as f64 / 20.0,
    };
    (0..rows.row_count()).map(value).collect()
}

fn recurrence() -> RecurrenceScan {
    RecurrenceScan::new(recurrence_scan::Config::default()).expect("within its ranges")
}

fn recurrence_batch(random: &mut Random, step: u64) -> Arc<recurrence_scan::Batch> {
    let rows = random_rows(random, 2_000);
    let values = shape(&rows, random, step);
    Arc::new(recurrence_scan::Batch::gather(rows, &values))
}

fn distance() -> WindowDistance {
    let parameters = DistanceParameters { window: 8, history: 200, ..Default::default() };
    WindowDistance::new(parameters).expect("within its ranges")
}

fn distance_batch(random: &mut Random, step: u64) -> Arc<Features> {
    let rows = random_rows(random, 20);
    let values = shape(&rows, random, step);
    Arc::new(Features::new(rows, &[&values]))
}

fn subspace(model: Model) -> SubspaceScore {
    let parameters = SubspaceParameters { window: 8, components: 3, model, ..Default::default() };
    SubspaceScore::new(parameters).expect("within its ranges")
}

fn reduce_batch(random: &mut Random, _: u64) -> Arc<window_reduce::Batch> {
    let rows = random_rows(random, 2_000);
    // Large enough that sums carry into their third word, and no larger than that their squares stay finite.
    let values = (0..rows.row_count()).map(|_| random.next() as i64 >> 8).collect();
    let valid: Vec<u32> = (0..rows.row_count().div_ceil(32)).map(|_| random.next() as u32).collect();
    Arc::new(window_reduce::Batch::gather(rows, &Values::Int64(values), &valid))
}

/// Integers are equal; their squares are sums of floats.
pub(super) fn same_cells(_: &WindowReduce, output: &Cells, expected: &Cells) -> bool {
    let exact = |cells: &Cells, cell| (cells.count(cell), cells.sum(cell), cells.min(cell), cells.max(cell));
    output.len() == expected.len()
        && (0..output.len()).all(|cell| {
            let (squares, twin) = (output.sum_of_squares(cell), expected.sum_of_squares(cell));
            exact(output, cell) == exact(expected, cell) && (squares - twin).abs() <= 1e-4 * twin.abs()
        })
}

fn patterns() -> PatternStep {
    let within = Pattern { within: Some(2_500), ..Pattern::sequence(3, 0b010) };
    let overlapping = Pattern { skip: Skip::Overlapping, ..Pattern::sequence(4, 0b0110) };
    PatternStep::new(vec![Pattern::sequence(3, 0b010), within, overlapping]).expect("within their ranges")
}

fn pattern_batch(random: &mut Random, step: u64) -> Arc<pattern_step::Batch> {
    let rows = random_rows(random, 500);
    let words = rows.row_count().div_ceil(32);
    let bitmaps: Vec<Vec<u32>> = (0..4).map(|_| (0..words).map(|_| random.next() as u32).collect()).collect();
    let bitmaps: Vec<&[u32]> = bitmaps.iter().map(Vec::as_slice).collect();
    let times: Vec<i64> = (0..rows.row_count()).map(|row| (step * 1000 + row as u64) as i64).collect();
    Arc::new(pattern_step::Batch::gather(rows, &bitmaps, &times))
}

fn lanes() -> Vec<Box<dyn Lane>> {
    let same = |_: &ChainHash, output: &Vec<u32>, expected: &Vec<u32>| output == expected;
    vec![
        KernelLane::boxed(forest(), forest_batch, same_scores),
        KernelLane::boxed(patterns(), pattern_batch, |_, output, expected| output == expected),
        KernelLane::boxed(recurrence(), recurrence_batch, |kernel, output, expected| {
            near(kernel.exactness(), output, expected)
        }),
        KernelLane::boxed(distance(), distance_batch, |kernel, output, expected| {
            near(kernel.exactness(), &output.score, &expected.score)
        }),
        KernelLane::boxed(subspace(Model::Subspace), distance_batch, |kernel, output, expected| {
            near(kernel.exactness(), &output.score, &expected.score)
        }),
        KernelLane::boxed(subspace(Model::Centroids), distance_batch, |kernel, output, expected| {
            near(kernel.exactness(), &output.score, &expected.score)
        }),
        KernelLane::boxed(WindowReduce::new(ValueKind::Int64), reduce_batch, same_cells),
        KernelLane::boxed(ChainHash { layout: Layout::WordMajor, counters: 1 }, chain_batch, same),
        KernelLane::boxed(ChainHash { layout: Layout::SlotMajor, counters: 0 }, chain_batch, same),
    ]
}

/// What one round of a soak did.
#[derive(Debug, Default)]
struct Tally {
    steps: u64,
    device_batches: u64,
    twin_batches: u64,
    fall_backs: u64,
    syncs: u64,
}

fn round(seed: u64, steps: u64, tally: &mut Tally) -> bool {
    let mut random = Random(seed);
    let options = test_options();
    let Some(device) = shared_test_device(&options) else { return false };
    let mut lanes = lanes();
    for lane in &mut lanes {
        lane.disturb(&mut Random(0), &device);
    }
    for _ in 0..steps {
        if random.one_in(10) {
            let fault = Fault::ALL[random.below(Fault::ALL.len() as u64) as usize];
            options.faults.arm(fault, random.below(4));
        }
        let mut group = WaveGroup::new();
        for lane in &mut lanes {
            if !random.one_in(5) {
                lane.start(&mut random, &mut group);
            }
        }
        if random.one_in(50) {
            // Somebody failed before the step was sent.
            drop(group);
        } else {
            group.submit(|| {});
        }
        for lane in &mut lanes {
            while lane.pending() > 0 && (lane.pending() > 4 || random.one_in(2)) {
                lane.finish_one();
            }
            if random.one_in(9) {
                lane.disturb(&mut random, &device);
            }
        }
        tally.steps += 1;
    }
    for lane in &mut lanes {
        while lane.pending() > 0 {
            lane.finish_one();
        }
        lane.check_state();
        let metrics = lane.metrics();
        tally.device_batches += metrics.device_batches;
        tally.twin_batches += metrics.twin_batches;
        tally.fall_backs += metrics.fall_backs;
        tally.syncs += metrics.syncs;
    }
    true
}

/// Answers and state are those of the twin alone, whatever fails when.
#[test]
fn random_faults_change_nothing() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = variable(SEED_VARIABLE).unwrap_or(2026);
    let (duration, started) = (variable(SECONDS_VARIABLE).map(Duration::from_secs), Instant::now());
    let mut tally = Tally::default();
    for seed in first.. {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| round(seed, 100, &mut tally)));
        match outcome {
            Ok(true) => {}
            Ok(false) => return,
            Err(panic) => {
                println!("{SEED_VARIABLE}={seed} gives this failure again");
                std::panic::resume_unwind(panic);
            }
        }
        if duration.map_or(seed > first, |duration| started.elapsed() >= duration) {
            break;
        }
    }
    println!("{tally:?} in {:.0} s", started.elapsed().as_secs_f64());
    // It would pass without a device, or without a fault: then it shows nothing.
    assert!(tally.device_batches * 5 > tally.twin_batches && tally.fall_backs > 10 && tally.syncs > 10, "{tally:?}");
}

/// Many shards share one device: it fails under all of them at once, is opened again by one, and none mixes up anything.
#[test]
fn shards_share_a_device_that_fails() {
    let options = test_options();
    let Some(device) = shared_test_device(&options) else { return };
    let fall_backs: u64 = std::thread::scope(|scope| {
        let shards: Vec<_> = (0..4)
            .map(|shard| {
                let (device, faults) = (&device, &options.faults);
                scope.spawn(move || {
                    let mut random = Random(7 + shard);
                    let kernel = ChainHash { layout: Layout::WordMajor, counters: 1 };
                    let mut lane = KernelLane::new(kernel, chain_batch, |_, output, expected| output == expected);
                    drop(lane.placed.move_to_device(device));
                    for _ in 0..80 {
                        if random.one_in(40) {
                            faults.arm(Fault::ALL[random.below(Fault::ALL.len() as u64) as usize], random.below(3));
                        }
                        let mut group = WaveGroup::new();
                        lane.start(&mut random, &mut group);
                        group.submit(|| {});
                        while lane.pending() > 2 {
                            lane.finish_one();
                        }
                    }
                    while lane.pending() > 0 {
                        lane.finish_one();
                    }
                    lane.check_state();
                    lane.metrics().fall_backs
                })
            })
            .collect();
        shards.into_iter().map(|shard| shard.join().expect("no shard fails")).sum()
    });
    assert!(fall_backs > 0, "no fault has struck");
    // A wave whose batch was redone by the twin is not waited for by anybody: its answer may still be on its way.
    let patience = Instant::now() + Duration::from_secs(60);
    while device.current().metrics().waves_in_flight > 0 {
        assert!(Instant::now() < patience, "a wave is left over");
        std::thread::sleep(Duration::from_millis(1));
    }
}
