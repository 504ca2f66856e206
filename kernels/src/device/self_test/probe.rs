//! Runs the self-test's shaders and compares them with the CPU.

use super::evaluate::Observed;
use crate::device::{Access, Binding, Device, DeviceError, Dispatch, Program, Region, Wave};

pub(super) const WORKGROUP_SIZE: u32 = 256;
pub(super) const INTEGER_WORDS: u32 = 11;
pub(super) const FLOAT_WORDS: u32 = 6;

/// Far over the 65,535 at which some drivers cut loops.
const LOOP_ITERATIONS: u32 = 200_000;
const NESTED_ITERATIONS: u32 = 1_000;
const REDUCTIONS: u32 = 64;
const SEQUENCES: u32 = 64;
const SEQUENCE_LENGTH: u32 = 200;

/// The shaders of the self-test.
pub static SELF_TEST: Program =
    Program { name: "self_test", source: include_str!("self_test.wgsl"), storage: &[Access::Read, Access::ReadWrite] };
/// The one that needs subgroups.
static SUBGROUP: Program =
    Program { name: "subgroup", source: include_str!("subgroup.wgsl"), storage: &[Access::ReadWrite] };

fn mix(x: u32) -> u32 {
    x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
}

/// Words that look random, the same each time.
fn words(count: u32) -> Vec<u32> {
    let mut state = 2026u32;
    let step = |_| {
        state = mix(state);
        state ^ (state >> 15)
    };
    (0..count).map(step).collect()
}

/// A float between 1 and 2 out of a word, as the shader makes it.
fn float(word: u32) -> f32 {
    f32::from_bits((word & 0x007f_ffff) | 0x3f80_0000)
}

/// Everything in one wave.
pub(super) fn observe(device: &Device) -> Result<Observed, DeviceError> {
    let integers = integer_cases();
    let (nans, floats) = (nan_cases(), float_cases());
    let (reduced, summed) = (words(REDUCTIONS * WORKGROUP_SIZE), words(SEQUENCES * SEQUENCE_LENGTH));

    let mut wave = device.wave()?;
    let run = |wave: &mut Wave, entry: &'static str, params: [u32; 2], input: &[u32], outputs: u32, workgroups: u32| {
        let (input, output) = (wave.upload(input), wave.output(outputs as usize));
        let bindings = [Binding::Region(&input), Binding::Region(&output)];
        let params = [params[0], params[1], 0];
        wave.dispatch(Dispatch {
            program: &SELF_TEST,
            entry,
            overrides: &[],
            params: &params,
            bindings: &bindings,
            workgroups,
        })?;
        Ok::<Region, DeviceError>(output)
    };
    let per_lane = |count: usize| (count as u32).div_ceil(WORKGROUP_SIZE);
    let loops = run(&mut wave, "loops", [LOOP_ITERATIONS, NESTED_ITERATIONS], &[0], 3, 1)?;
    let (count, flat) = (integers.len(), integers.as_flattened());
    let integer_words =
        run(&mut wave, "integers", [count as u32, 0], flat, count as u32 * INTEGER_WORDS, per_lane(count))?;
    let nan_words = run(&mut wave, "nans", [nans.len() as u32, 0], &nans, nans.len() as u32, per_lane(nans.len()))?;
    let (count, bits) =
        (floats.len() as u32, floats.as_flattened().iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    let float_words = run(&mut wave, "floats", [count, 0], &bits, count * FLOAT_WORDS, per_lane(floats.len()))?;
    let reductions = run(&mut wave, "reductions", [REDUCTIONS, 0], &reduced, REDUCTIONS * 3, REDUCTIONS)?;
    let sequences =
        run(&mut wave, "sequences", [SEQUENCES, SEQUENCE_LENGTH], &summed, SEQUENCES, per_lane(SEQUENCES as usize))?;
    let subgroup = if device.description().features.iter().any(|feature| feature == "subgroups") {
        let output = wave.output(64);
        let bindings = [Binding::Region(&output)];
        let (overrides, params) = (&[], &[64]);
        wave.dispatch(Dispatch {
            program: &SUBGROUP,
            entry: "subgroup",
            overrides,
            params,
            bindings: &bindings,
            workgroups: 1,
        })?;
        Some(output)
    } else {
        None
    };
    let readback = device.submit(wave).wait()?;

    let loops = readback.words(&loops);
    let nan_words = readback.words(&nan_words);
    let is_nan = |bits: u32| (bits & 0x7fff_ffff) > 0x7f80_0000;
    let is_finite = |bits: u32| bits & 0x7f80_0000 != 0x7f80_0000;
    let expected_nan = |&bits: &u32| u32::from(is_nan(bits)) | (u32::from(is_finite(bits)) << 2);
    let float_words: Vec<[u32; 6]> = readback.words(&float_words).as_chunks().0.to_vec();
    let [sum, product, denormal] = [float_words[0], float_words[1], float_words[2]];
    let reductions: Vec<[u32; 3]> = readback.words(&reductions).as_chunks().0.to_vec();
    let expected: Vec<[u32; 3]> = reduced.chunks(WORKGROUP_SIZE as usize).map(reduction).collect();
    let differing = |index: usize| {
        reductions.iter().zip(&expected).filter(|(got, right)| got[index] != right[index]).count() as u32
    };
    Ok(Observed {
        loop_iterations: (LOOP_ITERATIONS, loops[0]),
        nested_iterations: (NESTED_ITERATIONS * NESTED_ITERATIONS, loops[1]),
        loop_hash_is_right: loops[2] == loop_hash(),
        integer_mismatches: readback
            .words(&integer_words)
            .as_chunks::<{ INTEGER_WORDS as usize }>()
            .0
            .iter()
            .zip(&integers)
            .map(|(got, case)| {
                got.iter().zip(integer_results(*case)).filter(|(got, right)| **got != *right).count() as u32
            })
            .sum(),
        nan_mismatches: nan_words.iter().zip(&nans).filter(|(got, bits)| **got & 5 != expected_nan(bits)).count()
            as u32,
        nan_is_unequal_to_itself: nan_words.iter().zip(&nans).all(|(got, &bits)| (got & 2 != 0) == is_nan(bits)),
        barrier_mismatches: differing(0),
        tree_sum_mismatches: differing(1),
        atomic_mismatches: differing(2),
        sequential_sum_mismatches: readback
            .words(&sequences)
            .iter()
            .zip(summed.chunks(SEQUENCE_LENGTH as usize))
            .filter(|(got, values)| **got != values.iter().fold(0.0, |sum, word| sum + float(*word)).to_bits())
            .count() as u32,
        reassociates: f32::from_bits(sum[0]) != SUM_ERROR,
        reassociates_laundered: f32::from_bits(sum[1]) != SUM_ERROR,
        contracts: f32::from_bits(product[2]) != 0.0,
        contracts_laundered: f32::from_bits(product[3]) != 0.0,
        fma_is_fused: f32::from_bits(product[4]) == PRODUCT_ERROR,
        keeps_denormals: denormal[5] == DENORMAL.to_bits(),
        subgroup_size: subgroup.map(|output| readback.words(&output)[0]),
    })
}

fn loop_hash() -> u32 {
    let nested = (0..NESTED_ITERATIONS).flat_map(|_| 0..NESTED_ITERATIONS);
    (0..LOOP_ITERATIONS).chain(nested).fold(0, |hash, i| mix(hash ^ i))
}

/// Pairs of 64-bit integers, (low, high) each: all kinds of carries, and some that look random.
fn integer_cases() -> Vec<[u32; 4]> {
    let edges = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    let mut cases = Vec::new();
    for a in edges {
        for b in edges {
            for c in edges {
                cases.extend(edges.map(|d| [a, b, c, d]));
            }
        }
    }
    cases.extend(words(4 * 64).as_chunks().0);
    cases
}

fn integer_results([a0, a1, b0, b1]: [u32; 4]) -> [u32; INTEGER_WORDS as usize] {
    let join = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    let (a, b) = (join(a0, a1), join(b0, b1));
    let (sum, difference, product) = (a.wrapping_add(b), a.wrapping_sub(b), u64::from(a0) * u64::from(b0));
    let wide = |low: u64, high: u64| u128::from(low) | (u128::from(high) << 64);
    let wide = wide(a, b).wrapping_add(wide(b, a));
    let part = |value: u128, index: u32| (value >> (32 * index)) as u32;
    [
        part(sum.into(), 0),
        part(sum.into(), 1),
        part(difference.into(), 0),
        part(difference.into(), 1),
        part(product.into(), 0),
        part(product.into(), 1),
        part(wide, 0),
        part(wide, 1),
        part(wide, 2),
        part(wide, 3),
        u32::from(a < b) | (u32::from((a as i64) < (b as i64)) << 1),
    ]
}

fn nan_cases() -> Vec<u32> {
    let mut bits = vec![0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xff80_0001, 0x7fff_ffff, 0xffff_ffff];
    bits.extend(
        [0.0f32, -0.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, DENORMAL].map(f32::to_bits),
    );
    bits
}

/// 1e8 + 1.5 is rounded to 1e8.
const SUM_ERROR: f32 = 1.5;
/// (1 + 2^-12)^2 is 1 + 2^-11 + 2^-24, of which the last is rounded away.
const PRODUCT_ERROR: f32 = 1.0 / 16_777_216.0;
const DENORMAL: f32 = 1e-40;

fn float_cases() -> Vec<[f32; 3]> {
    let root = 1.0 + 1.0 / 4_096.0;
    vec![[1e8, SUM_ERROR, 0.0], [root, root, -(1.0 + 1.0 / 2_048.0)], [DENORMAL, 0.0, 0.0]]
}

/// The sum of the words, the sum of the floats by halving, and the count.
fn reduction(input: &[u32]) -> [u32; 3] {
    let mut values: Vec<f32> = input.iter().map(|&word| float(word)).collect();
    let mut half = values.len() / 2;
    while half > 0 {
        (0..half).for_each(|lane| values[lane] += values[lane + half]);
        half /= 2;
    }
    let sum = input.iter().fold(0u32, |sum, word| sum.wrapping_add(*word));
    [sum, values[0].to_bits(), input.iter().map(|word| word & 0xff).sum()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::validation::{assert_constants_agree, assert_registered};

    #[test]
    fn the_shader_agrees_with_rust() {
        assert_registered(&SELF_TEST);
        assert_constants_agree(
            &SELF_TEST,
            &[
                ("WORKGROUP_SIZE", WORKGROUP_SIZE.into()),
                ("INTEGER_WORDS", INTEGER_WORDS.into()),
                ("FLOAT_WORDS", FLOAT_WORDS.into()),
            ],
        );
    }

    /// The cases are ones in which wrong drivers differ from right ones.
    #[test]
    fn the_cases_tell_right_from_wrong() {
        let [a, b, _] = float_cases()[0];
        let (s, bb) = (a + b, (a + b) - a);
        assert_eq!((a - (s - bb)) + (b - bb), SUM_ERROR, "the error of the sum, in order");
        let [a, b, c] = float_cases()[1];
        assert_eq!((a * b + c, a.mul_add(b, c)), (0.0, PRODUCT_ERROR), "rounded twice, and once");
        let values: Vec<f32> = words(SEQUENCE_LENGTH).into_iter().map(float).collect();
        let backwards = values.iter().rev().fold(0.0f32, |sum, value| sum + value);
        let by_four: f32 = (0..4).map(|lane| values.iter().skip(lane).step_by(4).sum::<f32>()).sum();
        let forwards = values.iter().fold(0.0f32, |sum, value| sum + value);
        assert!(forwards != backwards && forwards != by_four, "{forwards} {backwards} {by_four}");
        assert!(DENORMAL.is_subnormal());
    }
}
