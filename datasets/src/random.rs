//! Randomness by position: draw `n` of a stream without drawing the ones before it.
//!
//! A generator with a state would have to be run from its start to reach event `n`, so each draw here is a hash of (stream,
//! event number). The hash is wyrand's output function on a Weyl sequence (Wang Yi, wyhash): one wide multiplication for 64 bits
//! that pass the usual test batteries, cheap enough that every column of every event has draws of its own. That
//! independence is what lets a projection leave columns out without changing the others.

use crate::math::{ln, sine_of_turn};

const WEYL: u64 = 0xa076_1d64_78bd_642f;
const FOLD: u64 = 0xe703_7ed1_a0b4_28db;

/// One stream of draws, addressed by event number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draws {
    key: u64,
}

impl Draws {
    /// The stream of a seed with the given name; streams of different names or seeds have nothing in common.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let key = name.bytes().fold(scramble(seed), |key, byte| scramble(key ^ u64::from(byte)));
        Self { key }
    }

    /// The stream that belongs to one of many things (a card, a machine) within this stream.
    #[inline]
    pub(crate) fn of(self, thing: u64) -> Self {
        Self { key: scramble(self.at(thing)) }
    }

    /// 64 random bits for position `n`.
    #[inline(always)]
    pub(crate) fn at(self, n: u64) -> u64 {
        let position = self.key.wrapping_add(n.wrapping_mul(WEYL));
        let product = u128::from(position) * u128::from(position ^ FOLD);
        (product >> 64) as u64 ^ product as u64
    }
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): every input bit moves every output bit.
#[inline]
fn scramble(key: u64) -> u64 {
    let key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

/// The upper half of a draw.
#[inline(always)]
pub(crate) fn high(bits: u64) -> u32 {
    (bits >> 32) as u32
}

/// The lower half of a draw.
#[inline(always)]
pub(crate) fn low(bits: u64) -> u32 {
    bits as u32
}

/// A number in `0..bound` from 32 random bits, by multiplication instead of a slow remainder (Lemire 2019, without the
/// rejection: its bias is below `bound` / 2^32).
#[inline(always)]
pub(crate) fn below(bits: u32, bound: u32) -> u32 {
    ((u64::from(bits) * u64::from(bound)) >> 32) as u32
}

/// A number in `[0, 1)` from 32 random bits.
#[inline(always)]
pub(crate) fn unit(bits: u32) -> f64 {
    f64::from(bits) * (1.0 / 4_294_967_296.0)
}

/// A number near the standard normal distribution: the sum of four uniform ones, so it stays within ±3.47.
#[inline(always)]
pub(crate) fn normal(bits: u64) -> f64 {
    let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
    (sum as f64 * (1.0 / 65_536.0) - 2.0) * 1.732_050_807_568_877_2
}

/// A standard normal number by Box and Muller (1958), with tails out to ±6.6: where it matters how rare a rare value is. Slower
/// than [`normal`].
#[inline]
pub(crate) fn gaussian(bits: u64) -> f64 {
    let radius = (-2.0 * ln((f64::from(high(bits)) + 0.5) * (1.0 / 4_294_967_296.0))).sqrt();
    radius * sine_of_turn(unit(low(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments and tails of the normal distribution: a test of false alarms relies on both.
    #[test]
    fn gaussian_is_normal() {
        let draws = Draws::new(1, "gaussian");
        let count = 1_000_000u32;
        let (mut sum, mut squares, mut fourth, mut beyond) = (0.0, 0.0, 0.0, 0);
        for n in 0..count {
            let x = gaussian(draws.at(u64::from(n)));
            sum += x;
            squares += x * x;
            fourth += x * x * x * x;
            beyond += u32::from(x.abs() > 3.290_527); // one in a thousand
        }
        let mean = |sum: f64| sum / f64::from(count);
        assert!(mean(sum).abs() < 0.004 && (mean(squares) - 1.0).abs() < 0.006 && (mean(fourth) - 3.0).abs() < 0.04);
        assert!((900..1_100).contains(&beyond), "{beyond}");
    }
}
