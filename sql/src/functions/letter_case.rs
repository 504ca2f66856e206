//! `LOWER` and `UPPER`: DataFusion's, with a faster way for string views.
//!
//! A short text of ASCII is changed within its view, all bytes at once; a long one that has no letter to change stays where it is. DataFusion
//! goes byte by byte, copies the long ones, and takes its slow way for a column as soon as one text is not ASCII.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

use super::text_column::{TextColumn, inline_ascii};

/// What letters become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LetterCase {
    Lower,
    Upper,
}

impl LetterCase {
    /// The first and the last of the letters of ASCII that change.
    fn letters(self) -> (u8, u8) {
        match self {
            Self::Lower => (b'A', b'Z'),
            Self::Upper => (b'a', b'z'),
        }
    }

    /// All bytes of a word of ASCII at once.
    fn of_word(self, word: u128) -> u128 {
        const EACH: u128 = 0x0101_0101_0101_0101_0101_0101_0101_0101;
        let (first, last) = self.letters();
        // The highest bit of a byte tells whether it is at least `first`, and whether it is beyond `last`; no sum leaves its byte.
        let from_first = word + EACH * u128::from(0x80 - first);
        let beyond_last = word + EACH * u128::from(0x7f - last);
        word ^ ((from_first & !beyond_last & (EACH * 0x80)) >> 2)
    }

    /// All texts of a column.
    fn of_column(self, texts: &StringViewArray) -> StringViewArray {
        let mut column = TextColumn::over(texts);
        let mut changed = String::new();
        for (row, view) in texts.views().iter().enumerate() {
            if texts.is_null(row) {
                column.push_null();
                continue;
            }
            if let Some((word, length)) = inline_ascii(*view) {
                column.push_ascii(self.of_word(word), length);
                continue;
            }
            let (text, (first, last)) = (texts.value(row), self.letters());
            match (text.is_ascii(), self) {
                (false, Self::Lower) => column.push_own(&text.to_lowercase()),
                (false, Self::Upper) => column.push_own(&text.to_uppercase()),
                (true, _) if !text.bytes().any(|byte| (first..=last).contains(&byte)) => column.push_same(row),
                (true, _) => {
                    changed.clear();
                    changed.push_str(text);
                    match self {
                        Self::Lower => changed.make_ascii_lowercase(),
                        Self::Upper => changed.make_ascii_uppercase(),
                    }
                    column.push_own(&changed);
                }
            }
        }
        column.finish()
    }
}

/// DataFusion's function in all but how fast it is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ChangeCase {
    function: Arc<ScalarUDF>,
    to: LetterCase,
}

/// `LOWER`, also called `LCASE`, and `UPPER`, also called `UCASE`.
pub(super) fn functions() -> [Arc<ScalarUDF>; 2] {
    let of = |function: Arc<ScalarUDF>, to, alias| {
        Arc::new(ScalarUDF::new_from_impl(ChangeCase { function, to }).with_aliases([alias]))
    };
    [
        of(datafusion::functions::string::lower(), LetterCase::Lower, "lcase"),
        of(datafusion::functions::string::upper(), LetterCase::Upper, "ucase"),
    ]
}

impl ScalarUDFImpl for ChangeCase {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.function.return_type(arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [ColumnarValue::Array(array)] = args.args.as_slice()
            && let Some(texts) = array.as_string_view_opt()
        {
            return Ok(ColumnarValue::Array(Arc::new(self.to.of_column(texts)) as ArrayRef));
        }
        self.function.invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every byte of ASCII, at every place of a word.
    #[test]
    fn bytes_of_a_word_are_changed_as_bytes_are() {
        for byte in 0..0x80_u8 {
            for place in 0..12 {
                let word = |byte: u8| (u128::from(byte) << (8 * place)) | (u128::from(b'@') << (8 * (11 - place)));
                if place != 11 - place {
                    assert_eq!(
                        LetterCase::Lower.of_word(word(byte)),
                        word(byte.to_ascii_lowercase()),
                        "{byte} at {place}"
                    );
                    assert_eq!(
                        LetterCase::Upper.of_word(word(byte)),
                        word(byte.to_ascii_uppercase()),
                        "{byte} at {place}"
                    );
                }
            }
        }
    }

    proptest! {
        /// Each text is what Rust makes of it, whatever else is in the column: short, long, empty, null, in no ASCII, where letters become
        /// several (ß) or depend on their place (Σ).
        #[test]
        fn texts_of_a_column_are_changed_one_by_one(
            texts in proptest::collection::vec(proptest::option::of("[a-zA-Z@`{é|ßΣİ \\[]{0,6}|[a-zA-Z0-9 ]{9,30}|[a-z0-9 ]{9,30}"), 1..30),
            skipped in 0_usize..4,
        ) {
            let column: StringViewArray = texts.iter().map(Option::as_deref).collect();
            let skipped = skipped.min(texts.len());
            let column = column.slice(skipped, texts.len() - skipped);
            let lower = LetterCase::Lower.of_column(&column);
            let upper = LetterCase::Upper.of_column(&column);
            prop_assert!(lower.to_data().validate_full().is_ok() && upper.to_data().validate_full().is_ok());
            let expected = |change: fn(&str) -> String| -> Vec<Option<String>> {
                column.iter().map(|text| text.map(change)).collect()
            };
            prop_assert_eq!(lower.iter().map(|text| text.map(String::from)).collect::<Vec<_>>(), expected(str::to_lowercase));
            prop_assert_eq!(upper.iter().map(|text| text.map(String::from)).collect::<Vec<_>>(), expected(str::to_uppercase));
        }
    }
}
