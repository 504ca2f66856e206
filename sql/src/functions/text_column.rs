//! Columns of texts that are mostly parts of the texts of another column.
//!
//! A string view is sixteen bytes: the length, and up to twelve bytes of text in place or four of them and where the text stands. So a part
//! of a text needs no copy of it, only a view of its own into the same buffer, which both columns then hold.
//!
//! Arrow's checked constructors read every byte of every view again to see that it is UTF-8, which costs more than cutting the texts. Here
//! that is known: what is pushed is cut as a `&str`, or is ASCII. Views and buffers stay together until the column is made, so that the one
//! unchecked call cannot be reached with others.

use std::ops::Range;

use arrow::array::{Array, NullBufferBuilder, StringViewArray, make_view};
use arrow::buffer::{Buffer, ScalarBuffer};

/// Longer texts stand in a buffer, shorter ones in the view itself (the Arrow format's figure).
const INLINE_BYTES_MAX: usize = 12;

/// Texts of a column's own stand in buffers of about so many bytes.
const OWN_BYTES: usize = 1 << 20;

/// The highest bit of each byte of a word, which ASCII leaves free.
const HIGH_BITS: u128 = 0x8080_8080_8080_8080_8080_8080_8080_8080;

/// Builds a column from the texts of another, row by row.
pub(super) struct TextColumn<'a> {
    texts: &'a StringViewArray,
    views: Vec<u128>,
    nulls: NullBufferBuilder,
    /// Full buffers of texts that no buffer of `texts` holds, to come after those.
    full: Vec<Buffer>,
    /// The last such buffer.
    own: Vec<u8>,
}

impl<'a> TextColumn<'a> {
    pub(super) fn over(texts: &'a StringViewArray) -> Self {
        let rows = texts.len();
        Self { texts, views: Vec::with_capacity(rows), nulls: NullBufferBuilder::new(rows), full: vec![], own: vec![] }
    }

    /// A part of the text of a row, in bytes.
    ///
    /// Panics where the range ends outside of the text or within a character: a bug of the function that cuts.
    pub(super) fn push_part(&mut self, row: usize, part: Range<usize>) {
        let text = self.texts.value(row);
        let bytes = text[part.clone()].as_bytes();
        let view = match bytes.len() {
            0..=INLINE_BYTES_MAX => inline_view(text.as_bytes(), &part),
            length => {
                // A long part is of a longer text, so there is a buffer (the format's layout, least significant first: length, four
                // bytes of prefix, buffer index, offset).
                let whole = self.texts.views()[row];
                let prefix = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                let place = (whole >> 64) + ((part.start as u128) << 32);
                length as u128 | u128::from(prefix) << 32 | place << 64
            }
        };
        self.push_view(view);
    }

    /// The text of a row as it is.
    pub(super) fn push_same(&mut self, row: usize) {
        self.push_view(self.texts.views()[row]);
    }

    /// A text of `length` bytes of ASCII, the first in the lowest byte of `word`.
    ///
    /// Panics where it is none.
    pub(super) fn push_ascii(&mut self, word: u128, length: usize) {
        assert!(
            length <= INLINE_BYTES_MAX && word & HIGH_BITS == 0 && word >> (8 * length) == 0,
            "{length} bytes of ASCII and nothing else"
        );
        self.push_view(word << 32 | length as u128);
    }

    /// A text of its own.
    pub(super) fn push_own(&mut self, text: &str) {
        if text.len() <= INLINE_BYTES_MAX {
            return self.push_view(make_view(text.as_bytes(), 0, 0));
        }
        if !self.own.is_empty() && self.own.len() + text.len() > OWN_BYTES {
            self.full.push(Buffer::from_vec(std::mem::take(&mut self.own)));
        }
        let buffer = self.texts.data_buffers().len() + self.full.len();
        let view = make_view(text.as_bytes(), buffer as u32, self.own.len() as u32);
        self.own.extend_from_slice(text.as_bytes());
        self.push_view(view);
    }

    /// A part as in [`Self::push_part`], or null.
    pub(super) fn push_part_or_null(&mut self, row: usize, part: Option<Range<usize>>) {
        match part {
            Some(part) => self.push_part(row, part),
            None => self.push_null(),
        }
    }

    pub(super) fn push_null(&mut self) {
        self.views.push(0);
        self.nulls.append_null();
    }

    fn push_view(&mut self, view: u128) {
        self.views.push(view);
        self.nulls.append_non_null();
    }

    #[allow(unsafe_code)]
    pub(super) fn finish(mut self) -> StringViewArray {
        let mut buffers = self.texts.data_buffers().to_vec();
        buffers.append(&mut self.full);
        if !self.own.is_empty() {
            buffers.push(Buffer::from_vec(self.own));
        }
        let nulls = self.nulls.finish();
        // SAFETY: each view is one of `texts`, whose buffers come first and in their order; or covers a part of such a text, cut at the
        // bounds of characters, with the prefix found there; or holds ASCII in place with zeros after it; or was made of a `str`, in place
        // or at the place in the buffers after those of `texts` where it was copied to; or is the empty text of a null. There is one null bit
        // for each.
        unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(self.views), buffers, nulls) }
    }
}

/// The view of a short part of a text. Reading twelve bytes and dropping those that are too many is faster than a copy of a length that
/// nothing foretells.
fn inline_view(text: &[u8], part: &Range<usize>) -> u128 {
    let length = part.len();
    let word = if let Some(bytes) = text[part.start..].first_chunk::<INLINE_BYTES_MAX>() {
        word_of(bytes) & ((1 << (8 * length)) - 1)
    } else if let Some(bytes) = text[..part.end].last_chunk::<INLINE_BYTES_MAX>() {
        word_of(bytes) >> (8 * (INLINE_BYTES_MAX - length))
    } else {
        return make_view(&text[part.clone()], 0, 0);
    };
    word << 32 | length as u128
}

fn word_of(bytes: &[u8; INLINE_BYTES_MAX]) -> u128 {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
    u128::from(u64::from_le_bytes([a, b, c, d, e, f, g, h])) | u128::from(u32::from_le_bytes([i, j, k, l])) << 64
}

/// The text of a row where it stands in its view, and is ASCII: its bytes, the first lowest, and how many there are.
pub(super) fn inline_ascii(view: u128) -> Option<(u128, usize)> {
    let (word, length) = (view >> 32, view as u32 as usize);
    (length <= INLINE_BYTES_MAX && word & HIGH_BITS == 0).then_some((word, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One row of a column.
    #[derive(Debug, Clone)]
    enum Row {
        Null,
        Same,
        /// From and to the so many-th character.
        Part(usize, usize),
        Own(String),
    }

    fn text() -> impl Strategy<Value = Option<String>> {
        proptest::option::weighted(0.9, "[a-zé€]{0,40}")
    }

    fn row() -> impl Strategy<Value = Row> {
        prop_oneof![
            Just(Row::Null),
            Just(Row::Same),
            (0_usize..=40, 0_usize..=40).prop_map(|(start, end)| Row::Part(start, end)),
            "[a-zé]{0,40}".prop_map(Row::Own),
        ]
    }

    proptest! {
        /// Arrow's own full check accepts the column that skipped it, of a slice and of texts at the ends of buffers, and it has the texts.
        #[test]
        fn columns_are_valid(rows in proptest::collection::vec((text(), row()), 1..40), skipped in 0_usize..5) {
            let texts: StringViewArray = rows.iter().map(|(text, _)| text.as_deref()).collect();
            let skipped = skipped.min(rows.len());
            let (texts, rows) = (texts.slice(skipped, rows.len() - skipped), &rows[skipped..]);
            let mut column = TextColumn::over(&texts);
            let mut expected: Vec<Option<&str>> = vec![];
            for (at, (text, row)) in rows.iter().enumerate() {
                let (Some(text), false) = (text, matches!(row, Row::Null)) else {
                    column.push_null();
                    expected.push(None);
                    continue;
                };
                let place = |character| text.char_indices().map(|(place, _)| place).nth(character).unwrap_or(text.len());
                match row {
                    Row::Null => {}
                    Row::Same => {
                        column.push_same(at);
                        expected.push(Some(text));
                    }
                    Row::Part(start, end) => {
                        let part = place(*start.min(end))..place(*start.max(end));
                        column.push_part(at, part.clone());
                        expected.push(Some(&text[part]));
                    }
                    Row::Own(own) => {
                        column.push_own(own);
                        expected.push(Some(own));
                    }
                }
            }
            let column = column.finish();
            prop_assert!(column.to_data().validate_full().is_ok());
            prop_assert_eq!(column.iter().collect::<Vec<_>>(), expected);
        }

        /// ASCII goes from a view to a word and back.
        #[test]
        fn words_of_ascii_are_views(texts in proptest::collection::vec("[ -~é]{0,16}", 1..20)) {
            let texts = StringViewArray::from_iter_values(texts);
            let mut column = TextColumn::over(&texts);
            for (row, (text, view)) in texts.iter().flatten().zip(texts.views()).enumerate() {
                prop_assert_eq!(inline_ascii(*view).is_some(), text.is_ascii() && text.len() <= INLINE_BYTES_MAX);
                match inline_ascii(*view) {
                    Some((word, length)) => column.push_ascii(word, length),
                    None => column.push_same(row),
                }
            }
            let column = column.finish();
            prop_assert!(column.to_data().validate_full().is_ok());
            prop_assert_eq!(&column, &texts);
        }
    }

    /// Texts of a column's own fill several buffers.
    #[test]
    fn own_texts_fill_buffers() {
        let texts = StringViewArray::from_iter_values(["a text that is longer than a view", "b"]);
        let long = "x".repeat(OWN_BYTES * 2 / 3);
        let mut column = TextColumn::over(&texts);
        for row in 0..2 {
            column.push_own(&long);
            column.push_same(row);
            column.push_own("another text longer than a view");
        }
        let column = column.finish();
        column.to_data().validate_full().expect("a valid column");
        assert!(column.data_buffers().len() > 2);
        assert_eq!((column.value(0), column.value(3)), (long.as_str(), long.as_str()));
        assert_eq!((column.value(4), column.value(5)), ("b", "another text longer than a view"));
    }
}
