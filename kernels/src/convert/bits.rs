//! Packed bits that begin anywhere.

use super::vectorised;

/// Bits of one column, least significant bit of a byte first (as Arrow lays out validity and booleans), beginning at any bit.
#[derive(Debug, Clone, Copy)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    offset: usize,
    len: usize,
}

impl<'a> Bits<'a> {
    /// `len` bits from bit `offset` of `bytes`.
    ///
    /// # Panics
    /// When `bytes` ends before that.
    pub fn new(bytes: &'a [u8], offset: usize, len: usize) -> Self {
        let end = offset.checked_add(len).expect("bits are counted in memory");
        assert!(end.div_ceil(8) <= bytes.len(), "{} bytes do not hold {len} bits from bit {offset}", bytes.len());
        // Cut to what belongs to the slice, so that no index needs to know of what lies around it.
        Bits { bytes: &bytes[offset / 8..end.div_ceil(8)], offset: offset % 8, len }
    }

    /// How many bits there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no bit.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One bit.
    ///
    /// # Panics
    /// When there is no such bit.
    #[inline(always)]
    pub fn get(&self, index: usize) -> bool {
        assert!(index < self.len, "bit {index} of {}", self.len);
        let bit = self.offset + index;
        self.bytes[bit / 8] >> (bit % 8) & 1 == 1
    }

    /// How many words [`words`](Self::words) writes.
    pub fn word_count(&self) -> usize {
        self.len.div_ceil(32)
    }

    /// The bits as `u32` words: bit `i` is bit `i % 32` of word `i / 32`; those behind the last are 0.
    ///
    /// # Panics
    /// When `out` does not have [`word_count`](Self::word_count) words.
    pub fn words(&self, out: &mut [u32]) {
        assert_eq!(out.len(), self.word_count(), "32 bits a word");
        // Whole words first; the last ones are put together from what is left of the bytes.
        let whole = whole_words(self.bytes, self.offset as u32, self.len / 32, out);
        for (index, out) in out.iter_mut().enumerate().skip(whole) {
            let block = self.block(index / 2);
            *out = (block >> (index % 2 * 32)) as u32;
        }
    }

    /// The bits of the rows that `order` names, in that order, as words like those of [`words`](Self::words).
    ///
    /// # Panics
    /// When `out` does not have a word for each 32 rows begun, or `order` names a row that is not there.
    pub fn gather_words(&self, order: &[u32], out: &mut [u32]) {
        assert_eq!(out.len(), order.len().div_ceil(32), "32 bits a word");
        gather(*self, order, out);
    }

    /// Bits `64 * index ..` as one word; those behind the last are 0.
    #[inline(always)]
    pub(super) fn block(&self, index: usize) -> u64 {
        let (byte, shift) = (index * 8, self.offset as u32);
        let word = if let Some(bytes) = self.bytes.get(byte..byte + 9) {
            let low = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
            // Two shifts, because a shift by 64 is none.
            low >> shift | u64::from(bytes[8]) << 1 << (63 - shift)
        } else {
            let rest = self.bytes.get(byte..).unwrap_or_default();
            let mut padded = [0u8; 16];
            padded[..rest.len()].copy_from_slice(rest);
            (u128::from_le_bytes(padded) >> shift) as u64
        };
        let left = self.len.saturating_sub(index * 64);
        if left >= 64 { word } else { word & ((1 << left) - 1) }
    }
}

vectorised! {
    /// Writes words of which all bits are there, at most `count`; returns how many.
    fn whole_words(bytes: &[u8], shift: u32, count: usize, out: &mut [u32]) -> usize {
        if shift == 0 {
            for (out, bytes) in out[..count].iter_mut().zip(bytes.chunks_exact(4)) {
                *out = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
            }
            return count;
        }
        // The word four bytes on gives the bits that the shift brings in; it is read whole, so the last word is left to the caller.
        let Some(next) = bytes.get(4..) else { return 0 };
        let count = count.min(next.len() / 4);
        for ((out, low), high) in out[..count].iter_mut().zip(bytes.chunks_exact(4)).zip(next.chunks_exact(4)) {
            let low = u32::from_le_bytes(low.try_into().expect("four bytes"));
            let high = u32::from_le_bytes(high.try_into().expect("four bytes"));
            *out = low >> shift | high << (32 - shift);
        }
        count
    }

    fn gather(bits: Bits<'_>, order: &[u32], out: &mut [u32]) {
        for (out, rows) in out.iter_mut().zip(order.chunks(32)) {
            let mut word = 0;
            for (bit, &row) in rows.iter().enumerate() {
                word |= u32::from(bits.get(row as usize)) << bit;
            }
            *out = word;
        }
    }
}
