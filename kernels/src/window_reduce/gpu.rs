//! How `window_reduce` goes to a device: a workgroup for each chunk, then an invocation for each cell.

use super::{Batch, CHUNK_ROWS, NAME, ValueKind, Values, WindowReduce};
use crate::device::{Access, Binding, Dispatch, Program, Region, ResidentPages, Wave};
use crate::kernel::{Kernel, KernelError};

pub(super) const WORKGROUP_SIZE: u32 = 64;
pub(super) const GROUP_WORDS: usize = 4;

/// The shader.
pub(crate) static WINDOW_REDUCE: Program = Program {
    name: NAME,
    source: include_str!("window_reduce.wgsl"),
    storage: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::ReadWrite,
        Access::ReadWrite,
        Access::ReadWrite,
    ],
};

/// The override constants for a kind of column.
pub(crate) const fn overrides(kind: ValueKind) -> &'static [(&'static str, f64)] {
    match kind {
        ValueKind::Float32 => &[("VALUE_WORDS", 1.0), ("SUM_WORDS", 1.0)],
        ValueKind::Int64 => &[("VALUE_WORDS", 2.0), ("SUM_WORDS", 3.0)],
        ValueKind::Decimal128 => &[("VALUE_WORDS", 4.0), ("SUM_WORDS", 5.0)],
    }
}

fn upload(values: &Values, wave: &mut Wave) -> Region {
    match values {
        Values::Float32(values) => wave.upload_f32(values),
        Values::Int64(values) => wave.upload(bytemuck::cast_slice(values)),
        Values::Decimal128(values) => wave.upload(bytemuck::cast_slice(values)),
    }
}

pub(super) fn encode(
    kernel: &WindowReduce,
    batch: &Batch,
    state: &mut ResidentPages,
    wave: &mut Wave,
) -> Result<Vec<Region>, KernelError> {
    state.grow(wave, kernel.slot_count(batch))?;
    let slots_per_page = state.shape().slots_per_page();
    let mut chunks: Vec<u32> = Vec::new();
    let mut groups: Vec<u32> = Vec::with_capacity(batch.rows.slots().len() * GROUP_WORDS);
    for (slot, rows) in batch.rows.groups() {
        let first = chunks.len() / 2;
        for start in rows.clone().step_by(CHUNK_ROWS) {
            chunks.extend([start as u32, (rows.end - start).min(CHUNK_ROWS) as u32]);
        }
        groups.extend([slot % slots_per_page as u32, first as u32, (chunks.len() / 2) as u32, 0]);
    }
    let (chunk_count, group_count) = (chunks.len() / 2, groups.len() / GROUP_WORDS);
    let cell_words = kernel.kind.cell_words();
    let cells = wave.output(group_count * cell_words);
    let partial = wave.scratch(chunk_count * cell_words);
    let (chunks, groups, valid) = (wave.upload(&chunks), wave.upload(&groups), wave.upload(&batch.valid));
    let values = upload(&batch.values, wave);
    for (place, (page, range)) in batch.rows.pages(slots_per_page).into_iter().enumerate() {
        let params = [
            chunk_count as u32,
            range.start as u32,
            range.len() as u32,
            slots_per_page as u32,
            u32::from(batch.valid.is_empty()),
            0,
        ];
        let runs = [("reduce", chunk_count), ("merge", range.len().div_ceil(WORKGROUP_SIZE as usize))];
        // All chunks are reduced before the first page, whatever page their cells are in.
        for (entry, workgroups) in runs.into_iter().skip(usize::from(place > 0)) {
            wave.dispatch(Dispatch {
                program: &WINDOW_REDUCE,
                entry,
                overrides: overrides(kernel.kind),
                params: &params,
                bindings: &[
                    Binding::Region(&chunks),
                    Binding::Region(&groups),
                    Binding::Region(&values),
                    Binding::Region(&valid),
                    Binding::Region(&partial),
                    Binding::Page(state, page),
                    Binding::Region(&cells),
                ],
                workgroups: workgroups as u32,
            })?;
        }
    }
    Ok(vec![cells])
}
