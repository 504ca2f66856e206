//! Numbers for tests.

/// A number between 0 and 1 that looks random, by its place (SplitMix64).
pub(crate) fn unit(place: u64) -> f64 {
    let mut word = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((word ^ (word >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// A number of the standard normal distribution, by its place (Box and Muller).
pub(crate) fn gaussian(place: u64) -> f64 {
    let (one, other) = (unit(2 * place).max(1e-300), unit(2 * place + 1));
    (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
}
