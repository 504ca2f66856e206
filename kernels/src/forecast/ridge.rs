//! Ridge regression on few features, updated row by row and solved from its normal equations.

/// What a level is worked out from.
pub(super) const FEATURES: usize = 7;
/// Upper triangle of the products of features, then the products with the target.
pub(super) const NORMAL: usize = FEATURES * (FEATURES + 1) / 2 + FEATURES;

pub(super) fn dot(weights: &[f32], features: &[f32; FEATURES]) -> f32 {
    weights.iter().zip(features).map(|(weight, feature)| weight * feature).sum()
}

/// Takes in one example; what came before weighs `keep` of what it did.
pub(super) fn learn(normal: &mut [f32], features: &[f32; FEATURES], target: f32, weight: f32, keep: f32) {
    let mut at = 0;
    for row in 0..FEATURES {
        let weighted = weight * features[row];
        for feature in &features[row..] {
            normal[at] = normal[at] * keep + weighted * feature;
            at += 1;
        }
    }
    for feature in features {
        normal[at] = normal[at] * keep + weight * feature * target;
        at += 1;
    }
}

/// Solves `(A + penalty I) w = b`, where `penalty` is the variance of errors over that of weights: what is nearly without error is hardly
/// shrunk. By Cholesky's factors; a feature that the others explain (or that is not there) gets no weight.
#[expect(clippy::needless_range_loop, reason = "indices of matrices are what the reader compares with the book")]
pub(super) fn solve(normal: &[f32], prior: &[f32; FEATURES], penalty: f64, weights: &mut [f32]) {
    let mut factor = [[0f64; FEATURES]; FEATURES];
    let mut at = 0;
    let mut trace = 0.0;
    for row in 0..FEATURES {
        for column in row..FEATURES {
            factor[column][row] = f64::from(normal[at]);
            at += 1;
        }
        trace += factor[row][row];
    }
    let floor = trace * 1e-6;
    let mut solution = [0f64; FEATURES];
    for (index, right) in normal[at..].iter().enumerate() {
        solution[index] = f64::from(*right) + penalty * f64::from(prior[index]);
        factor[index][index] += penalty;
    }
    let mut skipped = [false; FEATURES];
    for row in 0..FEATURES {
        for column in 0..=row {
            let mut value = factor[row][column];
            for inner in 0..column {
                value -= factor[row][inner] * factor[column][inner];
            }
            if row == column {
                skipped[row] = value <= floor;
                factor[row][row] = if skipped[row] { 1.0 } else { value.sqrt() };
            } else {
                factor[row][column] = if skipped[column] { 0.0 } else { value / factor[column][column] };
            }
        }
    }
    for row in 0..FEATURES {
        if skipped[row] {
            solution[row] = 0.0;
            continue;
        }
        for column in 0..row {
            solution[row] -= factor[row][column] * solution[column];
        }
        solution[row] /= factor[row][row];
    }
    for row in (0..FEATURES).rev() {
        for lower in row + 1..FEATURES {
            solution[row] -= factor[lower][row] * solution[lower];
        }
        solution[row] = if skipped[row] { 0.0 } else { solution[row] / factor[row][row] };
        weights[row] = solution[row] as f32;
    }
}
