//! How `window_reduce` goes to a device: a team of invocations for each piece of a cell, then for each piece of pieces.

use super::{Batch, LANES, NAME, PIECE_ROWS, ValueKind, Values, WindowReduce};
use crate::device::{Access, Binding, Dispatch, Program, Region, ResidentPages, Wave};
use crate::kernel::{Kernel, KernelError};
use std::ops::Range;

pub(super) const WORKGROUP_SIZE: usize = 64;
pub(super) const TO_PARTIAL: u32 = u32::MAX;
const PIECE_WORDS: usize = 4;

const STORAGE: &[Access] =
    &[Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite, Access::ReadWrite];

/// The shader for 64-bit integers.
pub(crate) static INT64: Program = Program {
    name: NAME,
    source: concat!(include_str!("int64.wgsl"), include_str!("window_reduce.wgsl")),
    storage: STORAGE,
};

/// The shader for decimals.
pub(crate) static DECIMAL128: Program = Program {
    name: NAME,
    source: concat!(include_str!("decimal128.wgsl"), include_str!("window_reduce.wgsl")),
    storage: STORAGE,
};

/// The shader for floats.
pub(crate) static FLOAT32: Program = Program {
    name: NAME,
    source: concat!(include_str!("float32.wgsl"), include_str!("window_reduce.wgsl")),
    storage: STORAGE,
};

pub(super) fn program(kind: ValueKind) -> &'static Program {
    match kind {
        ValueKind::Int64 => &INT64,
        ValueKind::Decimal128 => &DECIMAL128,
        ValueKind::Float32 => &FLOAT32,
    }
}

/// How many members a team has: a quarter as many as lanes, which costs the fewest workgroups, or one for each lane where there are too
/// few pieces to keep a device busy otherwise.
fn team_of(piece_count: usize) -> usize {
    const PIECES_FEW: usize = 1024;
    if piece_count < PIECES_FEW { LANES } else { LANES / 4 }
}

fn upload(values: &Values, wave: &mut Wave) -> Region {
    match values {
        Values::Float32(values) => wave.upload_f32(values),
        Values::Int64(values) => wave.upload(bytemuck::cast_slice(values)),
        Values::Decimal128(values) => wave.upload(bytemuck::cast_slice(values)),
    }
}

/// A dispatch: of rows (level 0) or of the parts of the level before, the page of its cells, its pieces.
struct Run {
    level: usize,
    page: usize,
    pieces: Range<usize>,
}

/// All cells in pieces, level by level.
struct Pieces {
    words: Vec<u32>,
    partial_count: usize,
    runs: Vec<Run>,
}

/// What of a cell is still to be reduced: rows, or parts.
struct Open {
    page: usize,
    slot: u32,
    cell: usize,
    parts: Range<usize>,
}

impl Pieces {
    fn new(batch: &Batch, slots_per_page: usize, piece_rows: usize) -> Self {
        let (slots, offsets) = (batch.rows.slots(), batch.rows.offsets());
        let mut pieces =
            Pieces { words: Vec::with_capacity(slots.len() * PIECE_WORDS), partial_count: 0, runs: Vec::new() };
        let mut open: Vec<Open> = Vec::new();
        for (page, cells) in batch.rows.pages(slots_per_page) {
            for cell in cells {
                let parts = offsets[cell] as usize..offsets[cell + 1] as usize;
                let slot = slots[cell] % slots_per_page as u32;
                open.extend(pieces.cut(0, Open { page, slot, cell, parts }, piece_rows));
            }
        }
        for level in 1.. {
            if open.is_empty() {
                break;
            }
            open = open.into_iter().filter_map(|cell| pieces.cut(level, cell, piece_rows)).collect();
        }
        pieces
    }

    /// Cuts what is left of a cell. When that are several pieces, the parts that they become are left.
    fn cut(&mut self, level: usize, open: Open, piece_rows: usize) -> Option<Open> {
        let Open { page, slot, cell, parts } = open;
        let (first, part_first) = (self.words.len() / PIECE_WORDS, self.partial_count);
        let is_whole = parts.len() <= piece_rows;
        if is_whole {
            self.words.extend([parts.start as u32, parts.end as u32, slot, cell as u32]);
        } else {
            for start in parts.clone().step_by(piece_rows) {
                let end = (start + piece_rows).min(parts.end);
                self.words.extend([start as u32, end as u32, TO_PARTIAL, self.partial_count as u32]);
                self.partial_count += 1;
            }
        }
        let end = self.words.len() / PIECE_WORDS;
        match self.runs.last_mut() {
            Some(run) if run.level == level && run.page == page => run.pieces.end = end,
            _ => self.runs.push(Run { level, page, pieces: first..end }),
        }
        (!is_whole).then_some(Open { page, slot, cell, parts: part_first..self.partial_count })
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
    let pieces = Pieces::new(batch, slots_per_page, PIECE_ROWS);
    let cell_words = kernel.kind.cell_words();
    let cells = wave.output(batch.rows.slots().len() * cell_words);
    let partial = wave.scratch(pieces.partial_count * cell_words);
    let (piece_region, valid) = (wave.upload(&pieces.words), wave.upload(&batch.valid));
    let values = upload(&batch.values, wave);
    let team = team_of(pieces.words.len() / PIECE_WORDS);
    for run in &pieces.runs {
        wave.dispatch(Dispatch {
            program: program(kernel.kind),
            entry: if run.level == 0 { "reduce" } else { "combine" },
            overrides: &[("TEAM", team as f64)],
            params: &[
                run.pieces.start as u32,
                run.pieces.len() as u32,
                slots_per_page as u32,
                pieces.partial_count as u32,
                u32::from(batch.valid.is_empty()),
                0,
            ],
            bindings: &[
                Binding::Region(&piece_region),
                Binding::Region(&values),
                Binding::Region(&valid),
                Binding::Region(&partial),
                Binding::Page(state, run.page),
                Binding::Region(&cells),
            ],
            workgroups: run.pieces.len().div_ceil(WORKGROUP_SIZE / team) as u32,
        })?;
    }
    Ok(vec![cells])
}
