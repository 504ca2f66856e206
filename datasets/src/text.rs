//! Text columns as views into shared pools.
//!
//! Filling the strings of an event byte by byte would cost more than all else about it. An Arrow string view is sixteen bytes:
//! length, prefix, and where in a buffer the text stands. So the random text is made once, when a generator is opened, and an
//! event only draws a place and a length; batches share the pool's buffer by reference count.
//!
//! Arrow's checked constructors read every byte of every view again to see that it is UTF-8, which more than halves the rate. Here that is known beforehand: a
//! pool is ASCII, so each cut of it is UTF-8, and a cut is bounds-checked when it is made. The two types below keep the views
//! and the buffer that they point into together, so that the one unchecked call cannot be reached with others.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringViewArray, make_view};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};

use crate::random::{Draws, below, high};

/// Longer texts stand in a buffer, shorter ones in the view itself (the Arrow format's figure).
const INLINE_BYTES_MAX: usize = 12;

/// Random ASCII text to cut strings from.
#[derive(Debug, Clone)]
pub(crate) struct TextPool {
    /// Invariant: ASCII only, shorter than `u32::MAX`.
    text: Buffer,
}

impl TextPool {
    /// Lower-case letters; with `space_one_in`, one character of so many is a space instead.
    pub(crate) fn random(draws: Draws, bytes: usize, space_one_in: Option<u32>) -> Self {
        let text: Vec<u8> = (0..bytes as u64)
            .map(|n| {
                let bits = draws.at(n);
                match space_one_in {
                    Some(one_in) if below(high(bits), one_in) == 0 => b' ',
                    _ => b'a' + below(bits as u32, 26) as u8,
                }
            })
            .collect();
        assert!(
            text.is_ascii() && u32::try_from(text.len()).is_ok(),
            "a pool holds at most 4 GiB of letters and spaces"
        );
        Self { text: Buffer::from_vec(text) }
    }

    /// How many places there are to cut a text of up to `bytes_max` from.
    pub(crate) fn places(&self, bytes_max: u32) -> u32 {
        self.text.len() as u32 - bytes_max
    }

    /// The place and length of a text with the spaces at its ends cut off.
    pub(crate) fn trim(&self, place: u32, bytes: u32) -> (u32, u32) {
        let text = &self.text[place as usize..][..bytes as usize];
        let start = text.iter().take_while(|&&byte| byte == b' ').count();
        let end = text.len() - text[start..].iter().rev().take_while(|&&byte| byte == b' ').count();
        (place + start as u32, (end - start) as u32)
    }

    pub(crate) fn text(&self, place: u32, bytes: u32) -> &str {
        std::str::from_utf8(&self.text[place as usize..][..bytes as usize]).expect("a pool is ASCII")
    }

    /// A column of texts, each given by its place and length in bytes.
    ///
    /// Panics when one of them is not inside the pool.
    pub(crate) fn cut(&self, texts: impl Iterator<Item = (u32, u32)>) -> ArrayRef {
        let pool = self.text.as_slice();
        let views: Vec<u128> = texts
            .map(|(place, bytes)| {
                let text = &pool[place as usize..][..bytes as usize];
                if bytes as usize <= INLINE_BYTES_MAX {
                    return make_view(text, 0, 0);
                }
                // The format's layout, least significant first: length, four bytes of prefix, buffer index (0), offset.
                let prefix = u32::from_le_bytes([text[0], text[1], text[2], text[3]]);
                u128::from(bytes) | u128::from(prefix) << 32 | u128::from(place) << 96
            })
            .collect();
        Arc::new(array_of_views(views, std::slice::from_ref(&self.text), None))
    }
}

/// A fixed list of texts, of which a column picks by index.
#[derive(Debug, Clone)]
pub(crate) struct TextList {
    texts: StringViewArray,
}

impl TextList {
    pub(crate) fn new<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self { texts: StringViewArray::from_iter_values(texts) }
    }

    pub(crate) fn len(&self) -> u32 {
        self.texts.len() as u32
    }

    pub(crate) fn text(&self, index: u32) -> &str {
        self.texts.value(index as usize)
    }

    /// A column of the texts at the indices.
    ///
    /// Panics when an index is not in the list.
    pub(crate) fn pick(&self, indices: impl Iterator<Item = u32>) -> ArrayRef {
        let texts = self.texts.views();
        let views: Vec<u128> = indices.map(|index| texts[index as usize]).collect();
        Arc::new(array_of_views(views, self.texts.data_buffers(), None))
    }

    /// As [`Self::pick`], with null where there is no index.
    pub(crate) fn pick_optional(&self, indices: impl Iterator<Item = Option<u32>>) -> ArrayRef {
        let texts = self.texts.views();
        // The view of nothing, 0, is an empty text: valid, though nobody looks at it.
        let (views, is_valid): (Vec<u128>, Vec<bool>) =
            indices.map(|index| (index.map_or(0, |index| texts[index as usize]), index.is_some())).unzip();
        Arc::new(array_of_views(views, self.texts.data_buffers(), Some(NullBuffer::from(is_valid))))
    }
}

/// Called only by the two types above, with views that they made from these very buffers.
#[allow(unsafe_code)]
fn array_of_views(views: Vec<u128>, buffers: &[Buffer], nulls: Option<NullBuffer>) -> StringViewArray {
    if let Some(nulls) = &nulls {
        assert_eq!(nulls.len(), views.len(), "one bit for each view");
    }
    // SAFETY: each view either was taken from a valid array over the same buffers (`TextList`), or was bounds-checked against
    // the one buffer, carries the prefix found there, and covers ASCII (`TextPool`), or is
    // the empty text; and there is one null bit for each: what `try_new` would verify holds.
    unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(views), buffers.to_vec(), nulls) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    /// Arrow's own full check accepts the columns that skipped it, inline and out of line, at both ends of the pool.
    #[test]
    fn unchecked_columns_are_valid() {
        let pool = TextPool::random(Draws::new(1, "pool"), 1_000, Some(13));
        let texts: Vec<(u32, u32)> =
            (0..=40).flat_map(|bytes| [(0, bytes), (1_000 - bytes, bytes), (7 * bytes, bytes)]).collect();
        let column = pool.cut(texts.iter().copied());
        column.to_data().validate_full().expect("a valid column");
        for (&(place, bytes), text) in texts.iter().zip(column.as_string_view()) {
            assert_eq!(text, Some(pool.text(place, bytes)));
        }
        let list = TextList::new(["a", "something longer than a view", ""]);
        let column = list.pick([1, 1, 2, 0].into_iter());
        column.to_data().validate_full().expect("a valid column");
        assert_eq!(column.as_string_view().value(1), "something longer than a view");
        let column = list.pick_optional([None, Some(1), Some(0)].into_iter());
        column.to_data().validate_full().expect("a valid column");
        assert_eq!(
            column.as_string_view().iter().collect::<Vec<_>>(),
            [None, Some("something longer than a view"), Some("a")]
        );
    }

    /// A cut outside the pool is a panic, never a view of other memory.
    #[test]
    #[should_panic(expected = "out of range")]
    fn a_cut_outside_the_pool_panics() {
        TextPool::random(Draws::new(1, "pool"), 100, None).cut([(90, 20)].into_iter());
    }
}
