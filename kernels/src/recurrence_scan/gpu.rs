//! How `recurrence_scan` goes to a device: values centred and narrowed while they are staged, keys with many rows in chunks.

use super::{Batch, NAME, Recurrence, RecurrenceScan, VALUE_LIMIT};
use crate::device::{Access, Binding, Dispatch, Program, Readback, Region, ResidentPages, Wave};
use crate::kernel::{Kernel, KernelError};
use std::ops::Range;

pub(super) const WORKGROUP_SIZE: u32 = 64;
pub(super) const CHUNK_WORDS: usize = 8;
pub(super) const CARRY_WORDS: usize = 16;
pub(super) const FLAG_FIRST: u32 = 1;
pub(super) const FLAG_LAST: u32 = 2;
pub(super) const FLAG_LEARNS: u32 = 4;
pub(super) const HOLT: u32 = 1;
pub(super) const CUSUM: u32 = 2;
/// The least rows that a chunk of a key has.
pub(super) const CHUNK_ROWS: usize = 512;

/// The shader.
pub(crate) static RECURRENCE_SCAN: Program = Program {
    name: NAME,
    source: concat!(include_str!("f64.wgsl"), include_str!("recurrence_scan.wgsl")),
    storage: &[Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite, Access::ReadWrite],
};

/// The rows of all groups in chunks; for each page its number and its chunks.
struct Chunks {
    words: Vec<u32>,
    pages: Vec<(usize, Range<usize>)>,
    has_cut: bool,
    /// For each group, what its values are relative to.
    origins: Vec<f64>,
}

fn has_value(value: f64) -> bool {
    value.abs() <= VALUE_LIMIT
}

impl Chunks {
    /// Cuts keys of more than `chunk_rows` rows, into about as many chunks as each then has rows, as one invocation walks each way.
    fn new(batch: &Batch, slots_per_page: usize, chunk_rows: usize) -> Self {
        let (slots, offsets) = (batch.rows.slots(), batch.rows.offsets());
        let mut chunks = Chunks {
            words: Vec::with_capacity(slots.len() * CHUNK_WORDS),
            pages: Vec::new(),
            has_cut: false,
            origins: Vec::with_capacity(slots.len()),
        };
        for (page, groups) in batch.rows.pages(slots_per_page) {
            let first = chunks.words.len() / CHUNK_WORDS;
            for group in groups {
                let rows = offsets[group] as usize..offsets[group + 1] as usize;
                let origin = batch.values[rows.clone()].iter().copied().find(|&value| has_value(value));
                let origin_bits = origin.unwrap_or(0.0).to_bits();
                chunks.origins.push(origin.unwrap_or(0.0));
                let length = chunk_rows.max((rows.len() as f64).sqrt().ceil() as usize);
                let is_cut = rows.len() > length;
                chunks.has_cut |= is_cut;
                let mut values_before = 0;
                for start in rows.clone().step_by(length) {
                    let end = (start + length).min(rows.end);
                    let mut flags = if origin.is_some() { FLAG_LEARNS } else { 0 };
                    flags |= if start == rows.start { FLAG_FIRST } else { 0 };
                    flags |= if end == rows.end { FLAG_LAST } else { 0 };
                    let slot = slots[group] % slots_per_page as u32;
                    let [low, high] = [origin_bits as u32, (origin_bits >> 32) as u32];
                    chunks.words.extend([slot, start as u32, end as u32, flags, values_before, low, high, 0]);
                    if is_cut {
                        values_before +=
                            batch.values[start..end].iter().filter(|&&value| has_value(value)).count() as u32;
                    }
                }
            }
            chunks.pages.push((page, first..chunks.words.len() / CHUNK_WORDS));
        }
        chunks
    }
}

pub(super) fn encode(
    kernel: &RecurrenceScan,
    batch: &Batch,
    state: &mut ResidentPages,
    wave: &mut Wave,
) -> Result<Vec<Region>, KernelError> {
    state.grow(wave, kernel.slot_count(batch))?;
    let slots_per_page = state.shape().slots_per_page();
    let chunks = Chunks::new(batch, slots_per_page, kernel.chunk_rows);
    let scores = wave.output(batch.values.len());
    let chunk_region = wave.upload(&chunks.words);
    let values = wave.upload_with(batch.values.len() * 2, |words| {
        for (rows, &origin) in batch.rows.offsets().windows(2).zip(&chunks.origins) {
            let rows = rows[0] as usize..rows[1] as usize;
            let pairs = words[rows.start * 2..rows.end * 2].chunks_exact_mut(2);
            for (pair, &value) in pairs.zip(&batch.values[rows]) {
                let relative = if has_value(value) { value - origin } else { f64::NAN };
                let rounded = relative as f32;
                pair.copy_from_slice(&[rounded.to_bits(), ((relative - f64::from(rounded)) as f32).to_bits()]);
            }
        }
    });
    let carry_words = if chunks.has_cut { chunks.words.len() / CHUNK_WORDS * CARRY_WORDS } else { 0 };
    let carried = wave.scratch(carry_words);
    let recurrence = match kernel.config.recurrence {
        Recurrence::Ewma { .. } => 0,
        Recurrence::Holt { .. } => HOLT,
        Recurrence::Cusum { .. } => CUSUM,
    };
    let constants = &kernel.constants;
    for (page, range) in chunks.pages {
        let params = [
            range.start as u32,
            range.len() as u32,
            slots_per_page as u32,
            0,
            constants.min_training,
            (constants.gain as f32).to_bits(),
            (constants.trend_gain as f32).to_bits(),
            (constants.variance_floor as f32).to_bits(),
            constants.drift.to_bits(),
            constants.residual_limit.to_bits(),
        ];
        let entries: &[&'static str] = match (chunks.has_cut, recurrence) {
            (false, _) => &["score"],
            (true, 0) => &["summarise", "carry", "score"],
            (true, _) => &["summarise", "carry", "summarise_residuals", "carry_residuals", "score"],
        };
        for entry in entries {
            wave.dispatch(Dispatch {
                program: &RECURRENCE_SCAN,
                entry,
                overrides: &[("RECURRENCE", f64::from(recurrence))],
                params: &params,
                bindings: &[
                    Binding::Region(&chunk_region),
                    Binding::Region(&values),
                    Binding::Page(state, page),
                    Binding::Region(&scores),
                    Binding::Region(&carried),
                ],
                workgroups: range.len().div_ceil(WORKGROUP_SIZE as usize) as u32,
            })?;
        }
    }
    Ok(vec![scores])
}

pub(super) fn decode(regions: &[Region], readback: &Readback) -> Vec<f32> {
    readback.f32s(&regions[0]).to_vec()
}
