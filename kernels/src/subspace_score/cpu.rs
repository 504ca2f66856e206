//! The twin of `subspace_score`: rows in order, each vector a loop over the window.

use multiversion::multiversion;

use super::{
    BASE_HIGH, BASE_LOW, CENTRE_SQUARES_MIN, COUNT, COUNT_MAX, EMPTY_SQUARES, FLAT_SHARE, HEADER_WORDS, Model, Scale,
    SubspaceScore, TAKEN_SQUARES,
};
use crate::features::{Features, Scores, centred};
use crate::state::StatePages;
use crate::window::{LANES, REBASE_SPANS, add_lanes, lanes, statistics};

pub(super) fn run(kernel: &SubspaceScore, batch: &Features, state: &mut StatePages) -> Scores {
    let parameters = kernel.parameters();
    let (window, stride, slot_words) =
        (parameters.window as usize, parameters.stride(), state.shape().words_per_slot());
    let mut score = vec![0.0; batch.kept_count()];
    let (mut values, mut shape, mut copy) = (Vec::new(), vec![0.0f32; stride], Vec::new());
    for (slot, rows) in batch.groups() {
        if rows.is_empty() {
            continue;
        }
        let (page, slot_in_page) =
            (slot as usize / state.shape().slots_per_page(), slot as usize % state.shape().slots_per_page());
        let slot_start = state.shape().index(slot_in_page, 0);
        let slot = &mut state.page_mut(page)[slot_start..][..slot_words];
        let (high, low) = (&batch.high(0)[rows.clone()], &batch.low(0)[rows.clone()]);
        if slot[COUNT] == 0 {
            (slot[BASE_HIGH], slot[BASE_LOW]) = (high[0].to_bits(), low[0].to_bits());
        }
        values.clear();
        values.extend(slot[parameters.values_start()..][..window].iter().map(|&word| f32::from_bits(word)));
        for (row, (&high, &low)) in rows.zip(high.iter().zip(low)) {
            let base = (f32::from_bits(slot[BASE_HIGH]), f32::from_bits(slot[BASE_LOW]));
            values.push(centred(high, low, base.0, base.1));
            // A window that is not to be learnt is learnt by a copy, which is dropped.
            let is_window = slot[COUNT] as usize + 1 >= window;
            let learner = match batch.learns() {
                Some(learns) if is_window && !learns[row] => {
                    copy.clear();
                    copy.extend_from_slice(slot);
                    copy.as_mut_slice()
                }
                _ => &mut *slot,
            };
            learner[COUNT] = (learner[COUNT] + 1).min(COUNT_MAX);
            if is_window {
                let newest_window = values.len() - window;
                score[row] = step(kernel, learner, &values[newest_window..], &mut shape);
                rebase(slot, &mut values[newest_window..], high, low);
            }
        }
        let last = values.len() - window;
        for (word, value) in slot[parameters.values_start()..].iter_mut().zip(&values[last..]) {
            *word = value.to_bits();
        }
    }
    Scores { score: batch.spread(score), attribution: Vec::new() }
}

/// Moves the base to the newest value when it is many spans of its window away.
fn rebase(slot: &mut [u32], values: &mut [f32], high: f32, low: f32) {
    let newest = values[values.len() - 1];
    let reach = REBASE_SPANS.recip() * newest.abs();
    // Most windows span more than that already between their ends.
    if reach == 0.0 || (newest - values[0]).abs() >= reach {
        return;
    }
    let (mut least, mut greatest) = (newest, newest);
    for &value in values.iter() {
        (least, greatest) = (least.min(value), greatest.max(value));
    }
    if greatest - least < reach {
        values.iter_mut().for_each(|value| *value -= newest);
        (slot[BASE_HIGH], slot[BASE_LOW]) = (high.to_bits(), low.to_bits());
    }
}

/// Scores the newest window and learns it.
fn step(kernel: &SubspaceScore, slot: &mut [u32], values: &[f32], shape: &mut [f32]) -> f32 {
    let parameters = kernel.parameters();
    let count = slot[COUNT] - parameters.window + 1;
    let gain = kernel.gain(count, 3.0);
    let now = statistics(values);
    let flat_share = f32::from_bits(slot[FLAT_SHARE]);
    let flat = now.is_flat(parameters.flat_span);
    slot[FLAT_SHARE] = (flat_share + kernel.gain(count, 1.0) * (f32::from(u8::from(flat)) - flat_share)).to_bits();
    let rest = if flat {
        1.0 - flat_share
    } else {
        let scale = 1.0 / now.squares.sqrt();
        let newest = values[values.len() - 1];
        shape.iter_mut().zip(values).for_each(|(shape, &value)| *shape = ((value - newest) - now.offset) * scale);
        let (counts, vectors) = slot.split_at_mut(parameters.vectors_start());
        let counts = &mut counts[HEADER_WORDS..][..parameters.components as usize];
        match parameters.model {
            Model::Subspace => take_components(vectors, shape, gain),
            Model::Centroids => {
                let (nearest, squares, free) = find_centre(vectors, shape, counts);
                // Centres start from windows that do not overlap.
                let begins = free < counts.len() && squares > CENTRE_SQUARES_MIN && count % parameters.window == 1;
                let centre = if begins { free } else { nearest };
                if centre < counts.len() {
                    counts[centre] = (counts[centre] + 1).min(COUNT_MAX);
                    let gain = kernel.gain(counts[centre], 1.0);
                    move_centre(&mut vectors[centre * shape.len()..][..shape.len()], shape, gain);
                }
                squares.sqrt()
            }
        }
    };
    if count <= parameters.min_training_windows() {
        return 0.0;
    }
    match parameters.scale {
        Scale::Shape => rest,
        Scale::Value => rest * (now.squares / values.len() as f32).sqrt(),
    }
}

/// Takes the components out of a shape, one after the other, and learns it; the length of what is left.
#[multiversion(targets = "simd")]
fn take_components(vectors: &mut [u32], shape: &mut [f32], gain: f32) -> f32 {
    let stride = shape.len();
    for vector in vectors.chunks_exact_mut(stride) {
        let (mut squares, mut products) = ([0.0f32; LANES], [0.0f32; LANES]);
        for (vector, rest) in vector.chunks_exact(LANES).zip(shape.chunks_exact(LANES)) {
            let component = lanes!(LANES, lane => f32::from_bits(vector[lane]));
            squares = lanes!(LANES, lane => squares[lane] + component[lane] * component[lane]);
            products = lanes!(LANES, lane => products[lane] + component[lane] * rest[lane]);
        }
        let (squares, product) = (add_lanes(squares), add_lanes(products));
        if squares < EMPTY_SQUARES {
            let rest_squares = squares_of(shape);
            if rest_squares > TAKEN_SQUARES {
                vector.iter_mut().zip(shape.iter()).for_each(|(vector, rest)| *vector = rest.to_bits());
            }
            // Components after an empty one are empty too, or were left behind: they wait until this one is there.
            return rest_squares.sqrt();
        }
        let (keep, learn, take) = (1.0 - gain, gain * (product / squares.sqrt()), product / squares);
        for (word, rest) in vector.iter_mut().zip(shape.iter_mut()) {
            let component = f32::from_bits(*word);
            *word = (keep * component + learn * *rest).to_bits();
            *rest -= take * component;
        }
    }
    squares_of(shape).sqrt()
}

#[inline(always)]
fn squares_of(shape: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for chunk in shape.chunks_exact(LANES) {
        sums = lanes!(LANES, lane => sums[lane] + chunk[lane] * chunk[lane]);
    }
    add_lanes(sums)
}

/// The nearest centre, its squared distance (4 where there is none: no shapes are farther apart), and the first that is free.
#[multiversion(targets = "simd")]
fn find_centre(vectors: &[u32], shape: &[f32], counts: &[u32]) -> (usize, f32, usize) {
    let stride = shape.len();
    let (mut nearest, mut least) = (counts.len(), 4.0);
    for (centre, vector) in vectors.chunks_exact(stride).enumerate() {
        if counts[centre] == 0 {
            return (nearest, least, centre);
        }
        let mut sums = [0.0f32; LANES];
        for (vector, shape) in vector.chunks_exact(LANES).zip(shape.chunks_exact(LANES)) {
            let difference = lanes!(LANES, lane => shape[lane] - f32::from_bits(vector[lane]));
            sums = lanes!(LANES, lane => sums[lane] + difference[lane] * difference[lane]);
        }
        let squares = add_lanes(sums);
        if squares < least {
            (nearest, least) = (centre, squares);
        }
    }
    (nearest, least, counts.len())
}

#[multiversion(targets = "simd")]
fn move_centre(vector: &mut [u32], shape: &[f32], gain: f32) {
    for (word, &shape) in vector.iter_mut().zip(shape) {
        let value = f32::from_bits(*word);
        *word = (value + gain * (shape - value)).to_bits();
    }
}
