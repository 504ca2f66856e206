//! The twin: some windows at a time, so that weights are read once for many rows; each output a sum over inputs in their order, so that
//! how many windows there are does not show.

use multiversion::multiversion;

use super::weights::LAYERS;
use super::{
    CANDIDATES, DILATIONS, FEATURES, FORECAST_NUMBERS, FUTURE_TOKENS, HIDDEN, OUTPUTS, PATCH, QUANTILES, STEPS, TOKENS,
    WIDTH, WINDOW_CANDIDATES, WINDOW_NUMBERS, Weights, Windows,
};

/// So many windows are worked out at once: what lies between layers stays in a near cache.
const BLOCK: usize = 16;
/// Outputs of a tile, in registers.
const COLUMNS: usize = 16;
/// Rows of a tile.
const ROWS: usize = 8;
const MEDIAN: usize = QUANTILES / 2;

/// What lies between two layers.
struct Scratch {
    tokens: Vec<f32>,
    pairs: Vec<f32>,
    hidden: Vec<f32>,
    outputs: Vec<f32>,
}

pub(super) fn run(weights: &Weights, windows: &Windows, out: &mut [f32]) {
    let block = BLOCK.min(windows.len());
    let mut scratch = Scratch {
        tokens: vec![0.0; block * TOKENS * WIDTH],
        pairs: vec![0.0; block * TOKENS * 2 * WIDTH],
        hidden: vec![0.0; block * TOKENS * HIDDEN],
        outputs: vec![0.0; block * STEPS * OUTPUTS],
    };
    let numbers = windows.numbers.chunks(BLOCK * WINDOW_NUMBERS);
    let candidates = windows.candidates.chunks(BLOCK * WINDOW_CANDIDATES);
    for ((numbers, candidates), out) in numbers.zip(candidates).zip(out.chunks_mut(BLOCK * FORECAST_NUMBERS)) {
        run_block(weights, numbers, candidates, out, &mut scratch);
    }
}

fn run_block(weights: &Weights, numbers: &[f32], candidates: &[f32], out: &mut [f32], scratch: &mut Scratch) {
    let windows = numbers.len() / WINDOW_NUMBERS;
    let mut tokens = TOKENS;
    linear(weights, 0, numbers, &mut scratch.tokens[..windows * TOKENS * WIDTH], Then::Set);
    for block in 0..DILATIONS.len() {
        let kept = if block == 0 { tokens } else { tokens / 2 };
        let pairs = &mut scratch.pairs[..windows * kept * 2 * WIDTH];
        pair(&scratch.tokens[..windows * tokens * WIDTH], pairs, tokens, kept);
        tokens = kept;
        let hidden = &mut scratch.hidden[..windows * tokens * HIDDEN];
        linear(weights, 1 + 2 * block, pairs, hidden, Then::Relu);
        // The first half of a pair is what the block's outcome is added to.
        for (token, pair) in scratch.tokens.chunks_exact_mut(WIDTH).zip(pairs.chunks_exact(2 * WIDTH)) {
            token.copy_from_slice(&pair[..WIDTH]);
        }
        linear(weights, 2 + 2 * block, hidden, &mut scratch.tokens[..windows * tokens * WIDTH], Then::Add);
    }
    let hidden = &mut scratch.hidden[..windows * FUTURE_TOKENS * HIDDEN];
    linear(weights, LAYERS.len() - 2, &scratch.tokens[..windows * FUTURE_TOKENS * WIDTH], hidden, Then::Relu);
    let outputs = &mut scratch.outputs[..windows * STEPS * OUTPUTS];
    linear(weights, LAYERS.len() - 1, hidden, outputs, Then::Set);
    let steps = outputs.chunks_exact(OUTPUTS).zip(candidates.chunks_exact(CANDIDATES));
    for ((outputs, candidates), out) in steps.zip(out.chunks_exact_mut(QUANTILES)) {
        quantiles(outputs, candidates, out);
    }
    debug_assert_eq!(PATCH * FUTURE_TOKENS, STEPS);
    debug_assert_eq!(FEATURES * TOKENS, WINDOW_NUMBERS);
}

/// Each token that is kept beside the one that it looks back to: in the first block the one before, and zeros before the first; after that
/// the last two of each four beside the first two, since the tokens between are nobody's any more.
fn pair(tokens: &[f32], pairs: &mut [f32], count: usize, kept: usize) {
    for (tokens, pairs) in tokens.chunks_exact(count * WIDTH).zip(pairs.chunks_exact_mut(kept * 2 * WIDTH)) {
        for (place, pair) in pairs.chunks_exact_mut(2 * WIDTH).enumerate() {
            let (token, back) = if kept == count { (place, 1) } else { (place / 2 * 4 + 2 + place % 2, 2) };
            let (own, before) = pair.split_at_mut(WIDTH);
            own.copy_from_slice(&tokens[token * WIDTH..][..WIDTH]);
            match token.checked_sub(back) {
                Some(token) => before.copy_from_slice(&tokens[token * WIDTH..][..WIDTH]),
                None => before.fill(0.0),
            }
        }
    }
}

/// What happens to the outcome of a layer.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Set,
    Relu,
    Add,
}

fn linear(weights: &Weights, layer: usize, rows: &[f32], out: &mut [f32], then: Then) {
    let (weight, bias) = weights.layer(layer);
    multiply(LAYERS[layer].inputs, weight, bias, rows, out, then);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn multiply(inputs: usize, weight: &[f32], bias: &[f32], rows: &[f32], out: &mut [f32], then: Then) {
    let outputs = bias.len();
    for (rows, out) in rows.chunks(ROWS * inputs).zip(out.chunks_mut(ROWS * outputs)) {
        for column in (0..outputs).step_by(COLUMNS) {
            match rows.len() / inputs {
                ROWS => tile::<ROWS>(inputs, weight, bias, rows, out, column, then),
                _ => {
                    for (row, out) in rows.chunks_exact(inputs).zip(out.chunks_exact_mut(outputs)) {
                        tile::<1>(inputs, weight, bias, row, out, column, then);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn tile<const ROWS: usize>(
    inputs: usize,
    weight: &[f32],
    bias: &[f32],
    rows: &[f32],
    out: &mut [f32],
    column: usize,
    then: Then,
) {
    let outputs = bias.len();
    let bias: &[f32; COLUMNS] = bias[column..column + COLUMNS].try_into().expect("layers are whole tiles");
    let mut sums = [*bias; ROWS];
    for (input, weight) in weight.chunks_exact(outputs).enumerate() {
        let weight: &[f32; COLUMNS] = weight[column..column + COLUMNS].try_into().expect("layers are whole tiles");
        for (row, sums) in sums.iter_mut().enumerate() {
            let number = rows[row * inputs + input];
            for (sum, weight) in sums.iter_mut().zip(weight) {
                *sum += number * weight;
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let out = &mut out[row * outputs + column..][..COLUMNS];
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = match then {
                Then::Set => *sum,
                Then::Relu => sum.max(0.0),
                Then::Add => *out + *sum,
            };
        }
    }
}

/// What the head says of a step, as quantiles that ascend.
fn quantiles(outputs: &[f32], candidates: &[f32], out: &mut [f32]) {
    let (distances, beliefs) = outputs.split_at(QUANTILES);
    let greatest = beliefs.iter().copied().fold(f32::MIN, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (belief, candidate) in beliefs.iter().zip(candidates) {
        let weight = (belief - greatest).exp();
        sum += weight;
        weighted += weight * candidate;
    }
    out[MEDIAN] = weighted / sum + distances[MEDIAN];
    for level in MEDIAN + 1..QUANTILES {
        out[level] = out[level - 1] + softplus(distances[level]);
    }
    for level in (0..MEDIAN).rev() {
        out[level] = out[level + 1] - softplus(distances[level]);
    }
}

/// `ln(1 + e^x)`, which is never below zero.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (1.0 + (-x.abs()).exp()).ln()
}
