//! A small kernel for tests: a hash of all values of a key so far. Whatever is lost, doubled or out of order changes it.

use std::sync::Arc;

use crate::kernel::{Exactness, Kernel};
use crate::rows::GroupedRows;
use crate::state::{Layout, StatePages, StateShape};

/// `hash = hash * 31 + value`, for each row of a key in order; the answer has the hash after each row.
#[derive(Debug)]
pub(crate) struct ChainHash {
    pub(crate) layout: Layout,
    /// Further words of each slot, so that pages get smaller; each counts the rows.
    pub(crate) counters: usize,
}

#[derive(Debug)]
pub(crate) struct ChainBatch {
    pub(crate) rows: GroupedRows,
    pub(crate) values: Vec<u32>,
}

impl ChainBatch {
    pub(crate) fn new(slots: &[u32], values: &[u32]) -> Arc<Self> {
        let slot_count = slots.iter().max().map_or(0, |last| *last as usize + 1);
        let rows = GroupedRows::group(slots, slot_count);
        let values = rows.order().iter().map(|&row| values[row as usize]).collect();
        Arc::new(ChainBatch { rows, values })
    }
}

const HASH_START: u32 = 17;
const HASH_FACTOR: u32 = 31;

impl Kernel for ChainHash {
    type Batch = ChainBatch;
    type Output = Vec<u32>;

    fn name(&self) -> &'static str {
        "chain_hash"
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn state_shape(&self) -> StateShape {
        let mut initial = vec![0; 1 + self.counters];
        initial[0] = HASH_START;
        StateShape::new(initial, self.layout)
    }

    fn slot_count(&self, batch: &ChainBatch) -> usize {
        batch.rows.slots().last().map_or(0, |last| *last as usize + 1)
    }

    fn row_count(&self, batch: &ChainBatch) -> usize {
        batch.rows.row_count()
    }

    fn batch_bytes(&self, batch: &ChainBatch) -> usize {
        batch.rows.slots().len() * 8 + batch.values.len() * 8
    }

    fn touched_slots<'a>(&self, batch: &'a ChainBatch) -> Option<&'a [u32]> {
        Some(batch.rows.slots())
    }

    fn run_twin(&self, batch: &ChainBatch, state: &mut StatePages) -> Vec<u32> {
        let mut hashes = Vec::with_capacity(batch.values.len());
        for (slot, rows) in batch.rows.groups() {
            let mut words = state.slot(slot);
            for &value in &batch.values[rows] {
                words[0] = words[0].wrapping_mul(HASH_FACTOR).wrapping_add(value);
                words[1..].iter_mut().for_each(|counter| *counter += 1);
                hashes.push(words[0]);
            }
            state.set_slot(slot, &words);
        }
        hashes
    }

    #[cfg(feature = "gpu")]
    fn encode(
        &self,
        batch: &ChainBatch,
        state: &mut crate::device::ResidentPages,
        wave: &mut crate::device::Wave,
    ) -> Result<Vec<crate::device::Region>, crate::KernelError> {
        use crate::device::{Binding, Dispatch};
        let shape = state.shape().clone();
        let (slots, offsets) = (wave.upload(batch.rows.slots()), wave.upload(batch.rows.offsets()));
        let (values, hashes) = (wave.upload(&batch.values), wave.output(batch.values.len()));
        let (slot_stride, word_stride) = match self.layout {
            Layout::WordMajor => (1, shape.slots_per_page() as u32),
            Layout::SlotMajor => (shape.words_per_slot() as u32, 1),
        };
        for (page, groups) in batch.rows.pages(shape.slots_per_page()) {
            wave.dispatch(Dispatch {
                program: &gpu::CHAIN_HASH,
                entry: "chain_hash",
                overrides: &[("COUNTERS", self.counters as f64)],
                params: &[
                    groups.start as u32,
                    groups.end as u32,
                    (page * shape.slots_per_page()) as u32,
                    slot_stride,
                    word_stride,
                ],
                bindings: &[
                    Binding::Region(&slots),
                    Binding::Region(&offsets),
                    Binding::Region(&values),
                    Binding::Page(state, page),
                    Binding::Region(&hashes),
                ],
                workgroups: (groups.len() as u32).div_ceil(64),
            })?;
        }
        Ok(vec![hashes])
    }

    #[cfg(feature = "gpu")]
    fn decode(
        &self,
        _: &ChainBatch,
        regions: &[crate::device::Region],
        readback: &crate::device::Readback,
    ) -> Vec<u32> {
        readback.words(&regions[0]).to_vec()
    }
}

#[cfg(feature = "gpu")]
mod gpu {
    use crate::device::{Access, Program};

    pub(super) static CHAIN_HASH: Program = Program {
        name: "chain_hash",
        source: "
const FACTOR: u32 = 31u;
override COUNTERS: u32;
struct Params { first: u32, end: u32, page_slot: u32, slot_stride: u32, word_stride: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<u32>;
@group(0) @binding(4) var<storage, read_write> page: array<u32>;
@group(0) @binding(5) var<storage, read_write> hashes: array<u32>;

@compute @workgroup_size(64)
fn chain_hash(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let group = params.first + linear_invocation(workgroup_id, num_workgroups, local_index, 64u);
    if group >= params.end {
        return;
    }
    let at = (slots[group] - params.page_slot) * params.slot_stride;
    var hash = page[at];
    for (var row = offsets[group]; row < offsets[group + 1u]; row++) {
        hash = hash * FACTOR + values[row];
        hashes[row] = hash;
    }
    page[at] = hash;
    let rows = offsets[group + 1u] - offsets[group];
    for (var word = 1u; word <= COUNTERS; word++) {
        page[at + word * params.word_stride] += rows;
    }
}
",
        storage: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite],
    };

    #[test]
    fn the_shader_has_the_twins_constants() {
        crate::device::validation::assert_constants_agree(&CHAIN_HASH, &[("FACTOR", f64::from(super::HASH_FACTOR))]);
    }
}
