//! Moving bits: transposition, and 64 bits at any place of a bitmap.

/// Transposes in place: bit `c` of word `r` becomes bit `r` of word `c`. (Hacker's Delight 7-3, mirrored to count bits from below.)
#[inline(always)]
pub(super) fn transpose(words: &mut [u64; 64]) {
    swap_blocks::<32>(words, 0x0000_0000_ffff_ffff);
    swap_blocks::<16>(words, 0x0000_ffff_0000_ffff);
    swap_blocks::<8>(words, 0x00ff_00ff_00ff_00ff);
    swap_blocks::<4>(words, 0x0f0f_0f0f_0f0f_0f0f);
    swap_blocks::<2>(words, 0x3333_3333_3333_3333);
    swap_blocks::<1>(words, 0x5555_5555_5555_5555);
}

/// Swaps the upper `N` bits of the lower words with the lower `N` bits of the upper words, in every block of `2 N` words.
#[inline(always)]
fn swap_blocks<const N: usize>(words: &mut [u64; 64], low: u64) {
    for block in words.chunks_exact_mut(2 * N) {
        let (lower, upper) = block.split_at_mut(N);
        for (lower, upper) in lower.iter_mut().zip(upper) {
            let differing = (*lower >> N ^ *upper) & low;
            *lower ^= differing << N;
            *upper ^= differing;
        }
    }
}

/// `64 N` bits from bit `at` on. There are `2 N + 1` words after the one that holds that bit.
#[inline(always)]
pub(super) fn load<const N: usize>(words: &[u32], at: usize) -> [u64; N] {
    let (words, shift) = (&words[at / 32..at / 32 + 2 * N + 2], at % 32);
    let pair = |index: usize| u64::from(words[2 * index]) | u64::from(words[2 * index + 1]) << 32;
    // Two shifts, as one of 64 is none.
    std::array::from_fn(|index| pair(index) >> shift | (pair(index + 1) << (63 - shift)) << 1)
}

/// Sets those of `64 N` bits from bit `at` on that are set in `bits`; as many words are needed as to [`load`].
#[inline(always)]
pub(super) fn set<const N: usize>(words: &mut [u32], at: usize, bits: &[u64; N]) {
    let (words, shift) = (&mut words[at / 32..at / 32 + 2 * N + 2], at % 32);
    let mut carried = 0;
    for (words, &bits) in words.chunks_exact_mut(2).zip(bits.iter().chain(&[0])) {
        let shifted = bits << shift | carried;
        carried = (bits >> 1) >> (63 - shift);
        words[0] |= shifted as u32;
        words[1] |= (shifted >> 32) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_transposed() {
        let mut words: [u64; 64] = std::array::from_fn(|row| (row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let before = words;
        transpose(&mut words);
        for (row, before) in before.iter().enumerate() {
            for (column, word) in words.iter().enumerate() {
                assert_eq!(word >> row & 1, before >> column & 1, "{row} {column}");
            }
        }
    }

    #[test]
    fn bits_are_read_and_set_anywhere() {
        for at in 0..100 {
            let mut words = [0u32; 12];
            let bits = [0x8421_0fed_cba9_8765, 1, 0x8000_0000_0000_0001];
            set(&mut words, at, &bits);
            assert_eq!(load(&words, at), bits, "at {at}");
            assert_eq!(words.iter().map(|word| word.count_ones()).sum::<u32>(), bits[0].count_ones() + 3);
            assert_eq!(words[at / 32] >> (at % 32) & 1, 1);
        }
    }
}
