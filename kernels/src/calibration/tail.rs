//! A histogram of scores on a logarithmic scale, and the chance of a score beyond all of them.

/// Weights of a histogram: eight for each doubling, from 2^-8 to 2^24.
pub(super) const BINS: usize = 256;
const PER_OCTAVE: f32 = 8.0;
const LEAST_OCTAVE: f32 = -8.0;

fn bin(score: f32) -> usize {
    if score <= 0.0 {
        return 0;
    }
    ((score.log2() - LEAST_OCTAVE) * PER_OCTAVE).clamp(0.0, (BINS - 1) as f32) as usize
}

/// The chance of a score at least as great: `(1 + those at least as great) / (1 + all)` (conformal).
pub(super) fn p_value(bins: &[u32], score: f32) -> f32 {
    let mine = bin(score);
    let (mut above, mut all) = (1.0, 1.0);
    for (index, weight) in bins.iter().enumerate() {
        let weight = f32::from_bits(*weight);
        all += weight;
        above += if index >= mine { weight } else { 0.0 };
    }
    above / all
}

/// Learns a score.
pub(super) fn learn(bins: &mut [u32], score: f32) {
    let bin = &mut bins[bin(score)];
    *bin = (f32::from_bits(*bin) + 1.0).to_bits();
}

/// How many standard deviations a normal value has a chance of `rate` to be away, on either side.
pub(super) fn reach(rate: f64) -> f32 {
    (-2.0 * (rate / 2.0).ln()).sqrt() as f32
}
