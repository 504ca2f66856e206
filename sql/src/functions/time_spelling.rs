//! Texts of times in the spellings that arrow does not read, or reads as something else: `2022-02-22 10:23` without seconds, and `040506`, which is a time of
//! day in PostgreSQL and so many milliseconds to arrow.

use std::borrow::Cow;

use arrow::array::StringViewArray;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// The texts as arrow reads them as values of type `to`, a TIMESTAMP or a TIME; none where it reads all of them as they stand.
///
/// # Errors
/// A row of digits that is no time, unless `lenient`: then that row is NULL.
pub(crate) fn spelled_out(
    texts: &StringViewArray,
    to: &DataType,
    lenient: bool,
) -> Result<Option<StringViewArray>, ArrowError> {
    let spell = match to {
        DataType::Timestamp(..) => timestamp,
        _ => time,
    };
    let stands = |text: &str| matches!(spell(text), Some(Cow::Borrowed(_)));
    if texts.iter().flatten().all(stands) {
        return Ok(None);
    }
    let rows = texts.iter().map(|text| {
        let Some(text) = text else { return Ok(None) };
        match spell(text) {
            None if !lenient => {
                Err(ArrowError::CastError(format!("Cannot cast string '{text}' to value of {to} type")))
            }
            spelled => Ok(spelled),
        }
    });
    rows.collect::<Result<_, _>>().map(Some)
}

/// The same of one text.
///
/// # Errors
/// As [`spelled_out`].
pub(crate) fn spelled_out_text(
    text: &str,
    to: &DataType,
    lenient: bool,
) -> Result<Option<StringViewArray>, ArrowError> {
    spelled_out(&StringViewArray::from(vec![text]), to, lenient)
}

/// With seconds, if they are all that is missing.
fn timestamp(text: &str) -> Option<Cow<'_, str>> {
    const MINUTES: usize = "2022-02-22 10:23".len();
    let bytes = text.as_bytes();
    let lacks_seconds = bytes.len() >= MINUTES
        && text.is_char_boundary(MINUTES)
        && matches!(bytes[10], b' ' | b'T' | b't')
        && bytes[13] == b':'
        && [11, 12, 14, 15].iter().all(|place: &usize| bytes[*place].is_ascii_digit())
        && !matches!(bytes.get(MINUTES), Some(b':' | b'.' | b'0'..=b'9'));
    Some(match lacks_seconds {
        true => Cow::Owned(format!("{}:00{}", &text[..MINUTES], &text[MINUTES..])),
        false => Cow::Borrowed(text),
    })
}

/// Digits alone are hours, minutes and seconds, of two digits each; none if they are fewer or more.
fn time(text: &str) -> Option<Cow<'_, str>> {
    let trimmed = text.trim();
    let whole = trimmed.split('.').next().unwrap_or_default();
    if trimmed.is_empty() || !trimmed.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Some(Cow::Borrowed(text));
    }
    match whole.len() {
        4 if trimmed.len() == 4 => Some(Cow::Owned(format!("{}:{}:00", &whole[..2], &whole[2..]))),
        6 => Some(Cow::Owned(format!("{}:{}:{}", &whole[..2], &whole[2..4], &trimmed[4..]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_added() {
        for (text, spelled) in [
            ("2022-02-22 10:23", "2022-02-22 10:23:00"),
            ("2022-02-22T10:23Z", "2022-02-22T10:23:00Z"),
            ("2022-02-22 10:23+02:00", "2022-02-22 10:23:00+02:00"),
            ("2022-02-22 10:23:45.5", "2022-02-22 10:23:45.5"),
            ("2022-02-22", "2022-02-22"),
            ("2022-02-22 10:2\u{e4}", "2022-02-22 10:2\u{e4}"),
        ] {
            assert_eq!(timestamp(text).as_deref(), Some(spelled));
        }
        for (text, spelled) in [
            ("040506", Some("04:05:06")),
            (" 040506.789 ", Some("04:05:06.789")),
            ("0405", Some("04:05:00")),
            ("04:05", Some("04:05")),
            ("12", None),
            ("1234567", None),
            ("1.5", None),
            ("noon", Some("noon")),
        ] {
            assert_eq!(time(text).as_deref(), spelled, "{text}");
        }
    }

    /// A column of which nothing is to be changed is left alone.
    #[test]
    fn columns_keep_what_stands() {
        let to = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
        let plain = StringViewArray::from(vec![Some("2022-02-22 10:23:00"), None]);
        assert!(spelled_out(&plain, &to, false).expect("nothing is wrong").is_none());
        let to = DataType::Time32(arrow::datatypes::TimeUnit::Millisecond);
        let times = StringViewArray::from(vec![Some("040506"), None, Some("12")]);
        let error = spelled_out(&times, &to, false).expect_err("12 is no time").to_string();
        assert!(error.contains("Cannot cast string '12'"), "{error}");
        let spelled = spelled_out(&times, &to, true).expect("it is lenient").expect("it is changed");
        assert_eq!(spelled.iter().collect::<Vec<_>>(), [Some("04:05:06"), None, None]);
    }
}
