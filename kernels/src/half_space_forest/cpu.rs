//! The twin of `half_space_forest`: rows in blocks, leaves of a tree for a whole block at once.
//!
//! Ranges depend on rows only, masses on ranges and rows: so a block first moves the ranges of its keys and turns its rows into
//! fixed-point coordinates, then goes tree by tree, whose leaf table stays in the first-level cache. A *segment* is a run of rows of one
//! key that lies in one part of one window: inside of it nothing but latest masses changes.

use multiversion::multiversion;

use super::{
    BASE_HIGH, BASE_LOW, CALIBRATING, COUNT, COUNTING, FEATURE_WORDS, GREATEST, GREATEST_2, HEADER_WORDS,
    HalfSpaceForest, KEEP_ABOVE, KEEP_BELOW, KEEP_SPAN, LEAST, LEAST_2, LOW, Level, PART_MAX, PART_MIN, PARTS, PHASE,
    REBASE_SPANS, REFERENCE_LOW, REFERENCE_SCALE, SCALE, SCORING, SPAN_MIN, SPAN_RELATIVE, UNITS, reset_parts,
};
use crate::features::{Features, Scores, centred};
use crate::state::StatePages;

/// Rows of a block: enough that a table of 2^12 leaves is used while it is near, few enough that coordinates are too.
const BLOCK: usize = 512;
/// Rows whose leaves are in registers at the same time.
const CHUNK: usize = 64;

/// Rows of one key in one part of one window.
struct Segment {
    page: usize,
    slot_start: usize,
    start: usize,
    end: usize,
    phase: u32,
    /// Whether its rows are learnt.
    learns: bool,
    /// Whether the reference has another range than the latest window.
    two_ranges: bool,
    /// Whether the latest masses become the reference after these rows.
    ends_window: bool,
}

struct Block {
    /// `[feature][row]`, in the latest and in the reference's range.
    latest: Vec<[i16; BLOCK]>,
    reference: Vec<[i16; BLOCK]>,
    segments: Vec<Segment>,
    rows: usize,
    any_two_ranges: bool,
}

pub(super) fn run(forest: &HalfSpaceForest, batch: &Features, state: &mut StatePages) -> Scores {
    let features = batch.column_count();
    let mut units = vec![0u32; batch.kept_count()];
    let attributed = if forest.parameters().attribution { features } else { 0 };
    let mut attribution = vec![vec![0u32; batch.kept_count()]; attributed];
    let mut block = Block {
        latest: vec![[0; BLOCK]; features],
        reference: vec![[0; BLOCK]; features],
        segments: Vec::new(),
        rows: 0,
        any_two_ranges: false,
    };
    let mut masses = vec![0u32; 2 * forest.parameters().leaf_count()];
    let mut done = 0;
    for (slot, rows) in batch.groups() {
        let (page, slot_in_page) =
            (slot as usize / state.shape().slots_per_page(), slot as usize % state.shape().slots_per_page());
        let slot_start = state.shape().index(slot_in_page, 0);
        let mut row = rows.start;
        while row < rows.end {
            let ranges = &mut state.page_mut(page)[slot_start..][..forest.parameters().table_start()];
            let (alike, learns) = batch.run(row..rows.end);
            // What is not learnt moves no part of a window.
            let segment_rows = if learns { next_segment(forest, ranges, alike) } else { alike }.min(BLOCK - block.rows);
            let segment_of = row..row + segment_rows;
            let mut segment = match learns {
                true => track(forest, batch, ranges, segment_of, &mut block),
                false => place(batch, ranges, segment_of, &mut block),
            };
            (segment.page, segment.slot_start) = (page, slot_start);
            block.segments.push(segment);
            row += segment_rows;
            if block.rows == BLOCK {
                count(forest, &mut block, state, &mut masses, &mut units[done..], &mut attribution, done);
                done += BLOCK;
            }
        }
    }
    count(forest, &mut block, state, &mut masses, &mut units[done..], &mut attribution, done);
    let unit = forest.unit();
    let scale = |units: Vec<u32>| batch.spread(units.into_iter().map(|units| units as f32 * unit).collect());
    Scores { score: scale(units), attribution: attribution.into_iter().map(scale).collect() }
}

/// How many of the key's rows lie in the same part of the window.
fn next_segment(forest: &HalfSpaceForest, ranges: &[u32], rows: usize) -> usize {
    let length = phase_rows(forest, ranges[PHASE]);
    let part = length.div_ceil(PARTS);
    let count = ranges[COUNT];
    ((part - count % part).min(length - count) as usize).min(rows)
}

fn phase_rows(forest: &HalfSpaceForest, phase: u32) -> u32 {
    if phase == CALIBRATING { forest.parameters().calibration_rows() } else { forest.parameters().window }
}

/// Moves a key's ranges over the rows of a segment and puts their coordinates into the block.
fn track(
    forest: &HalfSpaceForest,
    batch: &Features,
    ranges: &mut [u32],
    rows: std::ops::Range<usize>,
    block: &mut Block,
) -> Segment {
    let (phase, fresh) = (ranges[PHASE], ranges[PHASE] == CALIBRATING && ranges[COUNT] == 0);
    let (start, end) = (block.rows, block.rows + rows.len());
    let length = phase_rows(forest, phase);
    let count = ranges[COUNT] + rows.len() as u32;
    let ends_part = count == length || count.is_multiple_of(length.div_ceil(PARTS));
    let mut two_ranges = false;
    for (feature, words) in ranges[HEADER_WORDS..].chunks_exact_mut(FEATURE_WORDS).enumerate() {
        let (high, low) = (&batch.high(feature)[rows.clone()], &batch.low(feature)[rows.clone()]);
        if fresh {
            (words[BASE_HIGH], words[BASE_LOW]) = (high[0].to_bits(), low[0].to_bits());
        }
        let number = |word: usize| f32::from_bits(words[word]);
        let base = (number(BASE_HIGH), number(BASE_LOW));
        let (latest, reference) = ((number(LOW), number(SCALE)), (number(REFERENCE_LOW), number(REFERENCE_SCALE)));
        let mut extremes = (number(PART_MIN), number(PART_MAX));
        if phase == CALIBRATING {
            find_extremes(high, low, base, &mut extremes);
        } else {
            coordinates(high, low, base, latest, &mut block.latest[feature][start..end], &mut extremes);
        }
        if phase == SCORING {
            if latest == reference {
                let (latest, reference) = (&block.latest[feature], &mut block.reference[feature]);
                reference[start..end].copy_from_slice(&latest[start..end]);
            } else {
                two_ranges = true;
                coordinates(high, low, base, reference, &mut block.reference[feature][start..end], &mut (0.0, 0.0));
            }
        }
        (words[PART_MIN], words[PART_MAX]) = (extremes.0.to_bits(), extremes.1.to_bits());
        if ends_part {
            end_part(words);
        }
        if count == length {
            end_range(words, phase, high[high.len() - 1], low[low.len() - 1]);
        }
    }
    ranges[COUNT] = if count == length { 0 } else { count };
    if count == length {
        ranges[PHASE] = (phase + 1).min(SCORING);
    }
    block.rows = end;
    block.any_two_ranges |= two_ranges;
    Segment {
        page: 0,
        slot_start: 0,
        start,
        end,
        phase,
        learns: true,
        two_ranges,
        ends_window: count == length && phase != CALIBRATING,
    }
}

/// Puts the coordinates of rows that are not learnt into the block: those in the reference's range, by which they are scored.
fn place(batch: &Features, ranges: &[u32], rows: std::ops::Range<usize>, block: &mut Block) -> Segment {
    let phase = ranges[PHASE];
    let (start, end) = (block.rows, block.rows + rows.len());
    let mut two_ranges = false;
    if phase == SCORING {
        for (feature, words) in ranges[HEADER_WORDS..].chunks_exact(FEATURE_WORDS).enumerate() {
            let (high, low) = (&batch.high(feature)[rows.clone()], &batch.low(feature)[rows.clone()]);
            let number = |word: usize| f32::from_bits(words[word]);
            let reference = (number(REFERENCE_LOW), number(REFERENCE_SCALE));
            two_ranges |= (number(LOW), number(SCALE)) != reference;
            let base = (number(BASE_HIGH), number(BASE_LOW));
            coordinates(high, low, base, reference, &mut block.reference[feature][start..end], &mut (0.0, 0.0));
            let (latest, reference) = (&mut block.latest[feature], &block.reference[feature]);
            latest[start..end].copy_from_slice(&reference[start..end]);
        }
    }
    block.rows = end;
    block.any_two_ranges |= two_ranges;
    Segment { page: 0, slot_start: 0, start, end, phase, learns: false, two_ranges, ends_window: false }
}

/// The least and the greatest of a run of rows.
#[multiversion(targets = "simd")]
fn find_extremes(high: &[f32], low: &[f32], base: (f32, f32), extremes: &mut (f32, f32)) {
    let (mut least, mut greatest) = *extremes;
    for (&high, &low) in high.iter().zip(low) {
        let value = centred(high, low, base.0, base.1);
        least = if value < least { value } else { least };
        greatest = if value > greatest { value } else { greatest };
    }
    *extremes = (least, greatest);
}

/// Fixed-point coordinates of a run of rows: units of the work range above the lower end of `range`; and their least and greatest.
#[multiversion(targets = "simd")]
fn coordinates(
    high: &[f32],
    low: &[f32],
    base: (f32, f32),
    range: (f32, f32),
    out: &mut [i16],
    extremes: &mut (f32, f32),
) {
    let (mut least, mut greatest) = *extremes;
    for ((&high, &low), out) in high.iter().zip(low).zip(out) {
        let value = centred(high, low, base.0, base.1);
        least = if value < least { value } else { least };
        greatest = if value > greatest { value } else { greatest };
        // Made positive first, so that cutting the fraction off is the floor.
        let units = ((value - range.0) * range.1).clamp(-32_768.0, 32_767.0) + 32_768.0;
        *out = (units as i32 - 32_768) as i16;
    }
    *extremes = (least, greatest);
}

/// Takes the extremes of a part into those of the window.
fn end_part(words: &mut [u32]) {
    let number = |word: usize| f32::from_bits(words[word]);
    let (min, least, least_2) = (number(PART_MIN), number(LEAST), number(LEAST_2));
    let (max, greatest, greatest_2) = (number(PART_MAX), number(GREATEST), number(GREATEST_2));
    words[LEAST] = least.min(min).to_bits();
    words[LEAST_2] = least_2.min(least.max(min)).to_bits();
    words[GREATEST] = greatest.max(max).to_bits();
    words[GREATEST_2] = greatest_2.max(greatest.min(max)).to_bits();
    words[PART_MIN] = f32::INFINITY.to_bits();
    words[PART_MAX] = f32::NEG_INFINITY.to_bits();
}

/// Hands the range to the reference and sets that of the window to come; `high` and `low` are the newest value.
fn end_range(words: &mut [u32], phase: u32, high: f32, low: f32) {
    words[REFERENCE_LOW] = words[LOW];
    words[REFERENCE_SCALE] = words[SCALE];
    let number = |word: usize| f32::from_bits(words[word]);
    let (least, greatest) = (number(LEAST_2), number(GREATEST_2));
    let (range_low, scale) = (number(LOW), number(SCALE));
    let kept = phase != CALIBRATING
        && (least - range_low) * scale >= KEEP_BELOW
        && (greatest - range_low) * scale <= KEEP_ABOVE
        && (greatest - least) * scale >= KEEP_SPAN;
    if !kept {
        let span = (greatest - least).max(least.abs().max(greatest.abs()) * SPAN_RELATIVE).max(SPAN_MIN);
        // A power of two that makes the range between a quarter and a half of the work range: 2^13 over the span's own power of two.
        let scale = (13 + 2 * 127 - (span.to_bits() >> 23)) << 23;
        let newest = centred(high, low, number(BASE_HIGH), number(BASE_LOW));
        let moved = if newest.abs() > REBASE_SPANS * span { newest } else { 0.0 };
        if moved != 0.0 {
            words[REFERENCE_LOW] = (range_low - moved).to_bits();
            (words[BASE_HIGH], words[BASE_LOW]) = (high.to_bits(), low.to_bits());
        }
        words[LOW] = (least - moved).to_bits();
        words[SCALE] = scale;
    }
    reset_parts(words);
}

/// Finds the leaves of the block's rows, scores them and counts them; empties the block.
fn count(
    forest: &HalfSpaceForest,
    block: &mut Block,
    state: &mut StatePages,
    masses: &mut [u32],
    units: &mut [u32],
    attribution: &mut [Vec<u32>],
    first_row: usize,
) {
    let (leaf_count, table_start) = (forest.parameters().leaf_count(), forest.parameters().table_start());
    let (mut leaves, mut reference_leaves) = ([0u16; BLOCK], [0u16; BLOCK]);
    let pages = state.pages_mut();
    for tree in 0..forest.parameters().trees as usize {
        let levels = forest.levels_of(tree);
        find_leaves(&block.latest, levels, &mut leaves[..block.rows.next_multiple_of(CHUNK)]);
        if block.any_two_ranges {
            find_leaves(&block.reference, levels, &mut reference_leaves[..block.rows.next_multiple_of(CHUNK)]);
        }
        for segment in &block.segments {
            let slot = &mut pages[segment.page][segment.slot_start..];
            let (start, end) = (segment.start, segment.end);
            let read = if segment.two_ranges { &reference_leaves } else { &leaves };
            if segment.phase == SCORING && !attribution.is_empty() {
                let masses = &slot[forest.parameters().mass_start() + tree * leaf_count..][..leaf_count];
                for row in start..end {
                    attribute(forest, levels, masses, read[row], |feature, units| {
                        attribution[feature][first_row + row] += units
                    });
                }
            }
            let table = &mut slot[table_start + tree * leaf_count..][..leaf_count];
            if segment.phase == SCORING {
                let sums = &mut units[start..end];
                if !segment.learns {
                    for (sum, &read) in sums.iter_mut().zip(&read[start..end]) {
                        *sum += table[read as usize] >> 16;
                    }
                } else if segment.two_ranges {
                    for ((sum, &leaf), &read) in sums.iter_mut().zip(&leaves[start..end]).zip(&read[start..end]) {
                        *sum += table[read as usize] >> 16;
                        table[leaf as usize] += 1;
                    }
                } else {
                    for (sum, &leaf) in sums.iter_mut().zip(&leaves[start..end]) {
                        let word = &mut table[leaf as usize];
                        *sum += *word >> 16;
                        *word += 1;
                    }
                }
            } else if segment.phase == COUNTING && segment.learns {
                leaves[start..end].iter().for_each(|&leaf| table[leaf as usize] += 1);
            }
            if segment.ends_window {
                end_window(forest, slot, tree, masses);
            }
        }
    }
    block.segments.clear();
    block.rows = 0;
    block.any_two_ranges = false;
}

/// The leaves of one tree for rows in chunks: at each level, the bit of the feature's coordinate in this tree's work range.
#[multiversion(targets = "simd")]
fn find_leaves(coordinates: &[[i16; BLOCK]], levels: &[Level], leaves: &mut [u16]) {
    for (chunk, leaves) in leaves.chunks_exact_mut(CHUNK).enumerate() {
        let mut leaf = [0u16; CHUNK];
        for level in levels {
            let column = &coordinates[level.feature as usize][chunk * CHUNK..][..CHUNK];
            for (leaf, &units) in leaf.iter_mut().zip(column) {
                let place = units.saturating_add(level.offset as i16).max(0) as u16;
                *leaf = (*leaf << 1) | ((place >> level.shift) & 1);
            }
        }
        leaves.copy_from_slice(&leaf);
    }
}

/// Makes the latest masses of a tree the reference: every leaf gets the score of the node at which a path to it ends.
fn end_window(forest: &HalfSpaceForest, slot: &mut [u32], tree: usize, masses: &mut [u32]) {
    let leaf_count = forest.parameters().leaf_count();
    let (tables, kept) = slot.split_at_mut(forest.parameters().mass_start());
    let table = &mut tables[forest.parameters().table_start() + tree * leaf_count..][..leaf_count];
    sum_masses(table, masses);
    // For attributions: the masses of all nodes that a path can pass.
    let mut kept = forest.parameters().attribution.then(|| &mut kept[tree * leaf_count..][..leaf_count]);
    if let Some(kept) = &mut kept {
        kept.fill(0);
    }
    let end = forest.parameters().node_mass_min();
    // Nodes above `end` are few: at most ten at each level. All leaves below another one get its score.
    let mut open = [(1usize, 0u32); 16];
    let mut open_count = 1;
    while open_count > 0 {
        open_count -= 1;
        let (node, level) = open[open_count];
        match &mut kept {
            Some(kept) if level == forest.parameters().depth => kept[node - leaf_count] |= masses[node] << 16,
            Some(kept) => kept[node] |= masses[node],
            None => {}
        }
        if masses[node] <= end || level == forest.parameters().depth {
            let units = forest.units_max() - level * UNITS - u32::from(forest.log_units()[masses[node] as usize]);
            let below = forest.parameters().depth - level;
            let first = (node << below) - leaf_count;
            table[first..first + (1 << below)].fill(units << 16);
        } else {
            open[open_count] = (2 * node, level + 1);
            open[open_count + 1] = (2 * node + 1, level + 1);
            open_count += 2;
        }
    }
}

/// Masses of all nodes of a tree, as a heap: the root is 1, the children of `n` are `2n` and `2n + 1`.
#[multiversion(targets = "simd")]
fn sum_masses(table: &[u32], masses: &mut [u32]) {
    let leaf_count = table.len();
    for (mass, &word) in masses[leaf_count..].iter_mut().zip(table) {
        *mass = word & 0xFFFF;
    }
    let mut parents = leaf_count / 2;
    while parents > 0 {
        let (upper, lower) = masses.split_at_mut(2 * parents);
        for (parent, children) in upper[parents..].iter_mut().zip(lower.chunks_exact(2)) {
            *parent = children[0] + children[1];
        }
        parents /= 2;
    }
    masses[0] = 0;
}

/// Credits a tree's score for a row in `leaf` to the features that are split on its path.
fn attribute(
    forest: &HalfSpaceForest,
    levels: &[Level],
    masses: &[u32],
    leaf: u16,
    mut credit: impl FnMut(usize, u32),
) {
    let depth = levels.len();
    let mass_of = |level: usize| {
        let below = depth - level;
        if below == 0 { masses[leaf as usize] >> 16 } else { masses[(1 << level) | (leaf as usize >> below)] & 0xFFFF }
    };
    let units_of = |mass: u32| u32::from(forest.log_units()[mass as usize]);
    let mut mass = forest.parameters().window;
    for (level, split) in levels.iter().enumerate() {
        let child = mass_of(level + 1);
        let last = child <= forest.parameters().node_mass_min() || level + 1 == depth;
        let unused = if last { (depth - level - 1) as u32 * UNITS } else { 0 };
        credit(split.feature as usize, units_of(mass) - units_of(child) + unused);
        if last {
            return;
        }
        mass = child;
    }
}
