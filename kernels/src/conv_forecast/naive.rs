//! The network as its definition says, all tokens in all blocks, in `f64`; and what a window holds, value by value.

use super::{
    CANDIDATES, CHANNELS, CONTEXT, DILATIONS, FEATURES, FUTURE_TOKENS, OUTPUTS, PAST_TOKENS, PATCH, QUANTILES, STEPS,
    Seasons, TOKENS, WIDTH, Weights, Windows,
};

fn linear(weights: &Weights, layer: usize, row: &[f64]) -> Vec<f64> {
    let (weight, bias) = weights.layer(layer);
    let outputs = bias.len();
    assert_eq!(weight.len(), row.len() * outputs);
    let output = |output: usize| {
        let products = row.iter().enumerate().map(|(input, x)| x * f64::from(weight[input * outputs + output]));
        products.sum::<f64>() + f64::from(bias[output])
    };
    (0..outputs).map(output).collect()
}

fn relu(row: Vec<f64>) -> Vec<f64> {
    row.into_iter().map(|x| x.max(0.0)).collect()
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The quantiles of each window, `[key][STEPS][QUANTILES]`.
pub(super) fn forecast(weights: &Weights, windows: &Windows) -> Vec<f64> {
    let mut out = Vec::new();
    for window in 0..windows.len() {
        let numbers = &windows.numbers[window * TOKENS * FEATURES..][..TOKENS * FEATURES];
        let row = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let mut x: Vec<Vec<f64>> =
            numbers.chunks_exact(FEATURES).map(|numbers| linear(weights, 0, &row(numbers))).collect();
        for (block, dilation) in DILATIONS.into_iter().enumerate() {
            let next = |token: usize| {
                let before = token.checked_sub(dilation).map_or(vec![0.0; WIDTH], |before| x[before].clone());
                let pair = [x[token].clone(), before].concat();
                let hidden = relu(linear(weights, 1 + 2 * block, &pair));
                let more = linear(weights, 2 + 2 * block, &hidden);
                x[token].iter().zip(more).map(|(x, more)| x + more).collect()
            };
            x = (0..TOKENS).map(next).collect();
        }
        for (future, token) in x[TOKENS - FUTURE_TOKENS..].iter().enumerate() {
            let outputs = linear(weights, 10, &relu(linear(weights, 9, token)));
            for (place, of_step) in outputs.chunks_exact(OUTPUTS).enumerate() {
                let step = future * PATCH + place;
                let candidates = &windows.candidates[(window * STEPS + step) * CANDIDATES..][..CANDIDATES];
                let beliefs: Vec<f64> = of_step[QUANTILES..].iter().map(|belief| belief.exp()).collect();
                let believed: f64 = beliefs.iter().zip(candidates).map(|(b, c)| b * f64::from(*c)).sum();
                let median = believed / beliefs.iter().sum::<f64>() + of_step[4];
                for level in 0..QUANTILES {
                    let distance = |levels: std::ops::Range<usize>| levels.map(|at| softplus(of_step[at])).sum::<f64>();
                    out.push(if level < 4 { median - distance(level..4) } else { median + distance(5..level + 1) });
                }
            }
        }
    }
    out
}

/// The values that a token shows, before they are scaled and pressed; `None` where there is no season or no value yet.
pub(super) fn shown(values: &[f32], seasons: Seasons) -> Vec<[[Option<f32>; PATCH]; CHANNELS]> {
    let value = |back: i64| values[(values.len() as i64 - 1 - back).max(0) as usize];
    let (season, long) = (seasons.season as i64, seasons.long as i64);
    let of_row = |channel: usize, ahead: i64| {
        let apart = if channel == 2 && long > 0 { long } else { season };
        match channel {
            // The row itself, if it is there.
            0 => (ahead <= 0).then(|| value(-ahead)),
            _ if season == 0 => None,
            // The nearest row of the same phase that is there, counted from the row itself; without a longer season the one before it.
            _ => {
                let mut back = apart - ahead;
                while back < 0 {
                    back += apart;
                }
                Some(value(back + if channel == 2 && long == 0 { season } else { 0 }))
            }
        }
    };
    let token = |token: usize| {
        let place = |channel: usize, place: usize| {
            let ahead = ((token * PATCH + place) as i64) - (CONTEXT as i64 - 1);
            of_row(channel, ahead)
        };
        std::array::from_fn(|channel| std::array::from_fn(|at| place(channel, at)))
    };
    debug_assert_eq!(PAST_TOKENS * PATCH, CONTEXT);
    (0..TOKENS).map(token).collect()
}
