//! How `recurrence_scan` goes to a device: values centred and narrowed while they are staged, keys with very many
//! rows in pieces.

use super::{Batch, NAME, Recurrence, RecurrenceScan, VALUE_LIMIT};
use crate::device::{Access, Binding, Dispatch, Program, Readback, Region, ResidentPages, Wave};
use crate::kernel::{Kernel, KernelError};
use std::ops::Range;

pub(super) const WORKGROUP_SIZE: u32 = 64;
/// The most rows of a tile that a member of a team has.
pub(super) const MEMBER_ROWS_MAX: u32 = 16;
pub(super) const PIECE_WORDS: usize = 8;
/// Where in a carry is what holds before a piece; its map is before that.
pub(super) const CARRY_LEARNT: u32 = 10;
const CARRY_WORDS: usize = CARRY_LEARNT as usize + 7;
pub(super) const FLAG_FIRST: u32 = 1;
pub(super) const FLAG_LAST: u32 = 2;
pub(super) const FLAG_LEARNS: u32 = 4;
pub(super) const HOLT: u32 = 1;
pub(super) const CUSUM: u32 = 2;
/// The least rows that a piece of a cut key has.
pub(super) const PIECE_ROWS: usize = 1024;
/// As many pieces at most are made of all rows together: enough for a large device, few enough to be scanned over quickly.
const PIECES_MOST: usize = 1024;
/// A key is cut when it has as many rows as so many pieces: cutting costs more dispatches, and reads rows twice.
const PIECES_TO_CUT: usize = 4;

/// The shader.
pub(crate) static RECURRENCE_SCAN: Program = Program {
    name: NAME,
    source: concat!(
        include_str!("f64.wgsl"),
        include_str!("recurrence_scan.wgsl"),
        include_str!("maps.wgsl"),
        include_str!("walk.wgsl"),
        include_str!("carry.wgsl")
    ),
    storage: &[Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite, Access::ReadWrite, Access::Read],
};

/// One page: its pieces, and which of the cut keys are in it.
struct PageRun {
    page: usize,
    pieces: Range<usize>,
    cuts: Range<usize>,
}

/// The rows of all groups in pieces.
struct Pieces {
    words: Vec<u32>,
    pages: Vec<PageRun>,
    /// First piece and end of each cut key.
    cuts: Vec<u32>,
    /// How many pieces cut keys have.
    part_count: usize,
    /// For each group, what its values are relative to.
    origins: Vec<f64>,
}

fn has_value(value: f64) -> bool {
    value.abs() <= VALUE_LIMIT
}

impl Pieces {
    fn new(batch: &Batch, slots_per_page: usize, piece_rows: usize) -> Self {
        let (slots, offsets) = (batch.rows.slots(), batch.rows.offsets());
        let mut pieces = Pieces {
            words: Vec::with_capacity(slots.len() * PIECE_WORDS),
            pages: Vec::new(),
            cuts: Vec::new(),
            part_count: 0,
            origins: Vec::with_capacity(slots.len()),
        };
        let piece_rows = piece_rows.max(batch.values.len().div_ceil(PIECES_MOST));
        for (page, groups) in batch.rows.pages(slots_per_page) {
            let (first, first_cut) = (pieces.words.len() / PIECE_WORDS, pieces.cuts.len() / 2);
            for group in groups {
                let rows = offsets[group] as usize..offsets[group + 1] as usize;
                pieces.cut(batch, slots[group] % slots_per_page as u32, rows, piece_rows);
            }
            let (end, end_cut) = (pieces.words.len() / PIECE_WORDS, pieces.cuts.len() / 2);
            pieces.pages.push(PageRun { page, pieces: first..end, cuts: first_cut..end_cut });
        }
        pieces
    }

    fn cut(&mut self, batch: &Batch, slot: u32, rows: Range<usize>, piece_rows: usize) {
        let origin = batch.values[rows.clone()].iter().copied().find(|&value| has_value(value));
        let origin_bits = origin.unwrap_or(0.0).to_bits();
        let [low, high] = [origin_bits as u32, (origin_bits >> 32) as u32];
        self.origins.push(origin.unwrap_or(0.0));
        let is_cut = rows.len() > piece_rows.saturating_mul(PIECES_TO_CUT);
        let length = if is_cut { piece_rows } else { rows.len() };
        let first = self.words.len() / PIECE_WORDS;
        let mut values_before = 0;
        for start in rows.clone().step_by(length) {
            let end = (start + length).min(rows.end);
            let mut flags = if origin.is_some() { FLAG_LEARNS } else { 0 };
            flags |= if start == rows.start { FLAG_FIRST } else { 0 };
            flags |= if end == rows.end { FLAG_LAST } else { 0 };
            let part = self.part_count as u32;
            self.words.extend([slot, start as u32, end as u32, flags, values_before, low, high, part]);
            if is_cut {
                values_before += batch.values[start..end].iter().filter(|&&value| has_value(value)).count() as u32;
                self.part_count += 1;
            }
        }
        if is_cut {
            self.cuts.extend([first as u32, (self.words.len() / PIECE_WORDS) as u32]);
        }
    }
}

/// How many members a team has, and how many rows of a tile each of them: about as many as a piece has rows. More rows for each member are
/// fewer steps of scans, more members are more rows under way.
fn team_of(row_count: usize, piece_count: usize) -> (u32, u32) {
    match row_count / piece_count.max(1) {
        0..32 => (4, 8),
        32..256 => (16, 8),
        256..4096 => (16, MEMBER_ROWS_MAX),
        _ => (WORKGROUP_SIZE, MEMBER_ROWS_MAX),
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
    let pieces = Pieces::new(batch, slots_per_page, kernel.piece_rows);
    let scores = wave.output(batch.values.len());
    let piece_region = wave.upload(&pieces.words);
    let mut has_missing = false;
    let values = wave.upload_with(batch.values.len() * 2, |words| {
        for (rows, &origin) in batch.rows.offsets().windows(2).zip(&pieces.origins) {
            let rows = rows[0] as usize..rows[1] as usize;
            let pairs = words[rows.start * 2..rows.end * 2].chunks_exact_mut(2);
            for (pair, &value) in pairs.zip(&batch.values[rows]) {
                has_missing |= !has_value(value);
                let relative = if has_value(value) { value - origin } else { f64::NAN };
                let rounded = relative as f32;
                pair.copy_from_slice(&[rounded.to_bits(), ((relative - f64::from(rounded)) as f32).to_bits()]);
            }
        }
    });
    let (carried, cuts) = (wave.scratch(pieces.part_count * CARRY_WORDS), wave.upload(&pieces.cuts));
    let recurrence = match kernel.config.recurrence {
        Recurrence::Ewma { .. } => 0,
        Recurrence::Holt { .. } => HOLT,
        Recurrence::Cusum { .. } => CUSUM,
    };
    let constants = &kernel.constants;
    let (team, member_rows) = team_of(batch.values.len(), pieces.words.len() / PIECE_WORDS);
    for PageRun { page, pieces: range, cuts: cut_range } in pieces.pages {
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
            constants.steady_from,
            u32::from(has_missing),
            pieces.part_count as u32,
            cut_range.start as u32,
            cut_range.len() as u32,
            team,
            member_rows,
            member_rows.ilog2(),
            WORKGROUP_SIZE,
            if recurrence == HOLT { 6 } else { 4 },
        ];
        let entries: &[&'static str] = match (cut_range.is_empty(), recurrence) {
            (true, _) => &["score"],
            (false, 0) => &["summarise", "carry", "score"],
            (false, _) => &["summarise", "carry", "summarise_residuals", "carry_residuals", "score"],
        };
        for entry in entries {
            let workgroups = match *entry {
                "carry" | "carry_residuals" => cut_range.len(),
                _ => range.len().div_ceil((WORKGROUP_SIZE / team) as usize),
            };
            wave.dispatch(Dispatch {
                program: &RECURRENCE_SCAN,
                entry,
                overrides: &[("RECURRENCE", f64::from(recurrence))],
                params: &params,
                bindings: &[
                    Binding::Region(&piece_region),
                    Binding::Region(&values),
                    Binding::Page(state, page),
                    Binding::Region(&scores),
                    Binding::Region(&carried),
                    Binding::Region(&cuts),
                ],
                workgroups: workgroups as u32,
            })?;
        }
    }
    Ok(vec![scores])
}

pub(super) fn decode(regions: &[Region], readback: &Readback) -> Vec<f32> {
    readback.f32s(&regions[0]).to_vec()
}
