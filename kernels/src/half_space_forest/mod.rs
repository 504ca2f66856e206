//! `half_space_forest`: how rare the region is in which a row lies, by an ensemble of random halvings of space.
//!
//! After half-space trees (Tan, Ting, Liu, "Fast Anomaly Detection for Streaming Data", IJCAI 2011): every tree halves a randomly
//! placed work range again and again, so its structure needs no data; only the *mass* (count of rows) of its cells is learnt. Masses of
//! the *latest* window are counted while rows are scored against those of the *reference* window; every `window` rows the latest
//! becomes the reference. Each level of a tree splits one feature, drawn for the level and not for the node, as in the half-space chains
//! of xStream (Manzoor, Lamba, Akoglu, "xStream: Outlier Detection in Feature-Evolving Data Streams", KDD 2018): a leaf's index is then
//! a string of bits of the row's fixed-point coordinates and is computed without walking, for many rows at once.
//!
//! **Range.** A stream's range is not known beforehand. The first quarter window of a key ([`ForestParameters::calibration_rows`])
//! only finds it; after that, each window may set the range of the one that follows. The range is the second least of the minima and the
//! second greatest of the maxima over eight equal parts of the window, so one stray row does not stretch it, and it is exact on every
//! device. It is kept while the data fits it (`KEEP_BELOW` and so on), and masses are always read with the range that they were
//! counted with. It is widened to a power of two (so that scaling is exact), which lets the data take between 1/4 and 1/2 of the work
//! range, as in the paper. Rows outside count in the outermost cells.
//!
//! **Score.** On the path of a row, the first node with at most [`ForestParameters::node_mass_min`] rows, at level `k` with mass `m`,
//! has the density `m 2^k / window`. A tree's score is by how many bits this is below that of a window that lies in one leaf:
//! `depth + log2(window) - k - log2(max(m, 1/2))`; the row's is the mean over trees (mean of logarithms, as in LODA, so that one dense
//! cell does not hide that all others are empty). Logarithms are integers, in units of 1/1024 bit, so that scores are sums of integers
//! and equal on every device.
//!
//! **Attribution.** The score of a tree is a sum over the splits on the path: a split that leads from mass `p` to mass `c` adds
//! `log2(p / c)`, and the one that ends the path adds the levels that were not needed. Each is credited to the feature that was split, as
//! in DIFFI (Carletti, Terzi, Susto, 2019), so attributions add up to the score.
//!
//! The first window and the quarter before have score 0. For a model that all keys share, group all rows under one slot.

mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub mod naive;

use serde::{Deserialize, Serialize};

use crate::features::{Features, Scores};
use crate::kernel::{Exactness, Kernel, KernelError};
use crate::parameter::check;
use crate::state::{Layout, StatePages, StateShape};

/// Fixed-point units of a work range.
pub(crate) const WORK_BITS: u32 = 15;
/// The least and the greatest place of the range's lower end in a work range.
pub(crate) const OFFSET_MIN: u32 = 1 << 12;
pub(crate) const OFFSET_MAX: u32 = 3 << 12;
/// Into how many equal parts a window is cut to find its range.
pub(crate) const PARTS: u32 = 8;
/// A range is kept while the window's own lies between these units of it and is not shorter than `KEEP_SPAN`.
pub(crate) const KEEP_BELOW: f32 = -2048.0;
pub(crate) const KEEP_ABOVE: f32 = 18_432.0;
pub(crate) const KEEP_SPAN: f32 = 4096.0;
/// A range is at least this wide, relative to the values in it and in absolute terms.
pub(crate) const SPAN_RELATIVE: f32 = 9.536_743e-7; // 2^-20
pub(crate) const SPAN_MIN: f32 = 8.673_617_4e-19; // 2^-60
/// The base moves when it is farther from the values than this many ranges: beyond, `f32` would be coarser than a cell.
pub(crate) const REBASE_SPANS: f32 = 64.0;
/// Units of scores and attributions in one bit.
pub(crate) const UNITS: u32 = 1024;

// Words of a slot.
pub(crate) const PHASE: usize = 0; // CALIBRATING, COUNTING or SCORING
pub(crate) const COUNT: usize = 1; // rows of this phase's window so far
pub(crate) const HEADER_WORDS: usize = 2;
// Words of a feature, after the header.
pub(crate) const BASE_HIGH: usize = 0;
pub(crate) const BASE_LOW: usize = 1;
pub(crate) const LOW: usize = 2; // lower end of the range of the latest window
pub(crate) const SCALE: usize = 3; // units of its work range per unit of value
pub(crate) const REFERENCE_LOW: usize = 4;
pub(crate) const REFERENCE_SCALE: usize = 5;
pub(crate) const PART_MIN: usize = 6; // of this part of the window
pub(crate) const PART_MAX: usize = 7;
pub(crate) const LEAST: usize = 8; // of the parts' minima
pub(crate) const LEAST_2: usize = 9;
pub(crate) const GREATEST: usize = 10; // of the parts' maxima
pub(crate) const GREATEST_2: usize = 11;
pub(crate) const FEATURE_WORDS: usize = 12;

pub(crate) const CALIBRATING: u32 = 0;
pub(crate) const COUNTING: u32 = 1;
pub(crate) const SCORING: u32 = 2;

/// A page holds this much: a model is large, and most queries have few keys.
const PAGE_BYTES: usize = 16 << 20;
/// And so many keys, where they fit at all: a device works on a page at a time, and has little to do with the trees of fewer.
const PAGE_SLOTS_MIN: usize = 32;

const NAME: &str = "half_space_forest";

/// What a forest is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForestParameters {
    /// Features of a row, 1 to 32.
    pub features: u32,
    /// Trees, 1 to 256.
    pub trees: u32,
    /// Levels of a tree, 1 to 15; a tree has `2^depth` leaves.
    pub depth: u32,
    /// Rows of a window, 32 to 65,535.
    pub window: u32,
    /// Where all random choices come from.
    pub seed: u32,
    /// Whether the output has what each feature adds to the score. The reference masses of inner nodes are kept for it, which doubles
    /// the state.
    pub attribution: bool,
}

impl Default for ForestParameters {
    fn default() -> Self {
        ForestParameters { features: 1, trees: 25, depth: 8, window: 256, seed: 0x5EED, attribution: false }
    }
}

impl ForestParameters {
    /// Rows that only find the range.
    pub fn calibration_rows(&self) -> u32 {
        self.window / 4
    }

    /// A path ends at the first node with at most this many rows of the reference window: a tenth of it, as in the paper.
    pub fn node_mass_min(&self) -> u32 {
        self.window / 10
    }

    /// Rows of a key that have score 0.
    pub fn warm_up_rows(&self) -> u32 {
        self.calibration_rows() + self.window
    }

    fn check(&self) -> Result<(), KernelError> {
        check(NAME, "features", self.features, 1..=32)?;
        check(NAME, "trees", self.trees, 1..=256)?;
        check(NAME, "depth", self.depth, 1..=15)?;
        check(NAME, "window", self.window, 32..=65_535)?;
        // A page holds at least one key.
        let words = self.slot_words();
        check(NAME, "trees * 2^depth, in words of state,", words as u64, 0..=(crate::state::PAGE_BYTES_MAX as u64 / 4))
    }

    pub(crate) fn leaf_count(&self) -> usize {
        1 << self.depth
    }

    /// The word at which the leaf tables start: `[tree][leaf]`, the latest mass in the low half, the reference's score in the high half.
    pub(crate) fn table_start(&self) -> usize {
        HEADER_WORDS + self.features as usize * FEATURE_WORDS
    }

    /// The word at which the reference masses start: `[tree][index]`, of the inner node `index` of the heap (the root is 1) in the low
    /// half, of the leaf `index` in the high half. There only for attributions.
    pub(crate) fn mass_start(&self) -> usize {
        self.table_start() + self.trees as usize * self.leaf_count()
    }

    fn slot_words(&self) -> usize {
        let table_words = self.trees as usize * self.leaf_count();
        self.table_start() + table_words * if self.attribution { 2 } else { 1 }
    }
}

/// One level of a tree: which feature is split, where its work range lies, and which bit of the coordinate tells the side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) feature: u8,
    pub(crate) shift: u8,
    pub(crate) offset: u16,
}

/// The kernel `half_space_forest`, see the [module](self).
#[derive(Debug, Clone)]
pub struct HalfSpaceForest {
    parameters: ForestParameters,
    /// `[tree][level]`
    levels: Vec<Level>,
    /// `1024 (log2(max(m, 1/2)) + 1)` for each mass up to `window`.
    log_units: Vec<u16>,
    /// From how many workgroups on a device gives several trees to each.
    #[cfg(feature = "gpu")]
    workgroups: u32,
}

impl HalfSpaceForest {
    /// A forest.
    ///
    /// # Errors
    /// [`KernelError::Parameter`] for what is out of range.
    pub fn new(parameters: ForestParameters) -> Result<Self, KernelError> {
        parameters.check()?;
        let mut levels = Vec::with_capacity((parameters.trees * parameters.depth) as usize);
        for tree in 0..parameters.trees {
            let mut splits = vec![0u8; parameters.features as usize];
            for level in 0..parameters.depth {
                let feature = random(parameters.seed, tree, level) % parameters.features;
                let offset =
                    OFFSET_MIN + random(parameters.seed, tree, 1 << 16 | feature) % (OFFSET_MAX - OFFSET_MIN + 1);
                let split = &mut splits[feature as usize];
                *split += 1;
                levels.push(Level { feature: feature as u8, shift: WORK_BITS as u8 - *split, offset: offset as u16 });
            }
        }
        let log_units = (0..=parameters.window)
            .map(|mass| ((f64::from(mass).max(0.5).log2() + 1.0) * f64::from(UNITS)).round() as u16)
            .collect();
        Ok(HalfSpaceForest {
            parameters,
            levels,
            log_units,
            #[cfg(feature = "gpu")]
            workgroups: gpu::WORKGROUPS,
        })
    }

    /// What it was made from.
    pub fn parameters(&self) -> &ForestParameters {
        &self.parameters
    }

    pub(crate) fn levels_of(&self, tree: usize) -> &[Level] {
        let depth = self.parameters.depth as usize;
        &self.levels[tree * depth..][..depth]
    }

    pub(crate) fn log_units(&self) -> &[u16] {
        &self.log_units
    }

    /// A tree's score, in units, for a path that ends at level 0 with mass 1/2: what levels and masses are taken from.
    pub(crate) fn units_max(&self) -> u32 {
        self.parameters.depth * UNITS + u32::from(self.log_units[self.parameters.window as usize])
    }

    /// From the sum of units over trees to the score.
    pub(crate) fn unit(&self) -> f32 {
        1.0 / (UNITS * self.parameters.trees) as f32
    }
}

/// A random number for each counter: the output function of PCG (O'Neill, 2014), twice. The same on every machine, and without state.
fn random(seed: u32, tree: u32, counter: u32) -> u32 {
    fn mix(value: u32) -> u32 {
        let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
        (word >> 22) ^ word
    }
    mix(mix(mix(seed).wrapping_add(tree)).wrapping_add(counter))
}

impl Kernel for HalfSpaceForest {
    type Batch = Features;
    type Output = Scores;

    fn name(&self) -> &'static str {
        NAME
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn state_shape(&self) -> StateShape {
        let mut initial = vec![0; self.parameters.slot_words()];
        for feature in 0..self.parameters.features as usize {
            reset_parts(&mut initial[HEADER_WORDS + feature * FEATURE_WORDS..][..FEATURE_WORDS]);
        }
        let page_bytes = PAGE_BYTES.max(PAGE_SLOTS_MIN * initial.len() * 4);
        StateShape::new(initial, Layout::SlotMajor).with_page_bytes(page_bytes)
    }

    fn slot_count(&self, batch: &Features) -> usize {
        batch.slot_count()
    }

    fn row_count(&self, batch: &Features) -> usize {
        batch.rows().row_count()
    }

    fn batch_bytes(&self, batch: &Features) -> usize {
        batch.bytes()
    }

    fn touched_slots<'a>(&self, batch: &'a Features) -> Option<&'a [u32]> {
        Some(batch.rows().slots())
    }

    /// # Panics
    /// When the batch has another count of features.
    fn run_twin(&self, batch: &Features, state: &mut StatePages) -> Scores {
        assert_eq!(batch.column_count(), self.parameters.features as usize, "the batch has the features of the forest");
        cpu::run(self, batch, state)
    }

    #[cfg(feature = "gpu")]
    fn encode(
        &self,
        batch: &Features,
        state: &mut crate::device::ResidentPages,
        wave: &mut crate::device::Wave,
    ) -> Result<Vec<crate::device::Region>, KernelError> {
        gpu::encode(self, batch, state, wave)
    }

    #[cfg(feature = "gpu")]
    fn decode(
        &self,
        batch: &Features,
        regions: &[crate::device::Region],
        readback: &crate::device::Readback,
    ) -> Scores {
        gpu::decode(self, batch, regions, readback)
    }
}

/// No minimum and maximum yet, of a window and its parts.
fn reset_parts(feature: &mut [u32]) {
    for word in [PART_MIN, LEAST, LEAST_2] {
        feature[word] = f32::INFINITY.to_bits();
    }
    for word in [PART_MAX, GREATEST, GREATEST_2] {
        feature[word] = f32::NEG_INFINITY.to_bits();
    }
}

#[cfg(test)]
mod tests;
