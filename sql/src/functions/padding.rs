//! `LPAD(text, length[, fill])` and `RPAD`: a text of exactly so many characters; `REPEAT(text, count)`.
//!
//! DataFusion's take memory by the lengths that are asked for, and a negative one in a column, or a very long one, ended the pipeline. A length below 0 is 0 here, as in
//! PostgreSQL, and there is a longest one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringViewBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};

use super::definition::{Call, Definition, Param};

/// No text of a row is longer, in characters.
const LENGTH_MAX: i64 = 16 << 20;

pub(super) fn definitions() -> Vec<Definition> {
    let pad = |name, invoke| Definition {
        name,
        params: &[Param::Text, Param::Integer, Param::Text],
        optional: 1,
        returns: |_| DataType::Utf8View,
        invoke,
    };
    let repeat = Definition {
        name: "repeat",
        params: &[Param::Text, Param::Integer],
        optional: 0,
        returns: |_| DataType::Utf8View,
        invoke: repeated,
    };
    vec![pad("lpad", |call| padded(call, true)), pad("rpad", |call| padded(call, false)), repeat]
}

fn check_length(call: &Call, length: i64) -> Result<()> {
    if length > LENGTH_MAX {
        return exec_err!(
            "{}: {length} characters are too many; a text has at most {LENGTH_MAX}",
            call.name.to_uppercase()
        );
    }
    Ok(())
}

fn repeated(call: &Call) -> Result<ArrayRef> {
    let (texts, counts) = (call.text(0)?, call.integer_or(1, 0)?);
    let mut out = StringViewBuilder::with_capacity(call.rows);
    for row in 0..call.rows {
        if texts.is_null(row) || counts.is_null(row) {
            out.append_null();
            continue;
        }
        let (text, count) = (texts.value(row), counts.value(row).max(0));
        check_length(call, count.saturating_mul(text.chars().count() as i64))?;
        // An empty text may be repeated any number of times.
        out.append_value(if text.is_empty() { String::new() } else { text.repeat(count as usize) });
    }
    Ok(Arc::new(out.finish()))
}

fn padded(call: &Call, is_left: bool) -> Result<ArrayRef> {
    let (texts, lengths, fills) = (call.text(0)?, call.integer_or(1, 0)?, call.text(2)?);
    let has_fill = call.is_given(2);
    let mut out = StringViewBuilder::with_capacity(call.rows);
    let mut written = String::new();
    for row in 0..call.rows {
        if texts.is_null(row) || lengths.is_null(row) || has_fill && fills.is_null(row) {
            out.append_null();
            continue;
        }
        let (text, fill) = (texts.value(row), if has_fill { fills.value(row) } else { " " });
        let length = lengths.value(row).max(0);
        check_length(call, length)?;
        let length = length as usize;
        // Where the text is cut; none where it is shorter.
        if let Some((end, _)) = text.char_indices().nth(length) {
            out.append_value(&text[..end]);
            continue;
        }
        let missing = length - text.chars().count();
        written.clear();
        if !is_left {
            written.push_str(text);
        }
        written.extend(fill.chars().cycle().take(missing));
        if is_left {
            written.push_str(text);
        }
        out.append_value(&written);
    }
    Ok(Arc::new(out.finish()))
}
