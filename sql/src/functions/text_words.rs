//! A text as two words, where only whether it is the same counts.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, ScalarUDF};
use xxhash_rust::xxh3::xxh3_128;

use super::definition::{Call, Definition, Param};

static FIRST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| words(call, |hash| (hash >> 64) as i64);
    Definition { name: "__text_word_1", params: &[Param::Any], optional: 0, returns, invoke }.udf()
});

static SECOND: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| words(call, |hash| hash as i64);
    Definition { name: "__text_word_2", params: &[Param::Any], optional: 0, returns, invoke }.udf()
});

/// The words of a text, `BIGINT` each: the halves of its XXH3 hash of 128 bits. Of NULL they are NULL.
pub(crate) fn of(text: Expr) -> [Expr; 2] {
    [FIRST.call(vec![text.clone()]), SECOND.call(vec![text])]
}

fn returns(_types: &[DataType]) -> DataType {
    DataType::Int64
}

fn words(call: &Call, half: fn(u128) -> i64) -> Result<ArrayRef> {
    let texts = cast(&call.array(0)?, &DataType::Utf8View)?;
    let words = texts.as_string_view().iter().map(|text| text.map(|text| half(xxh3_128(text.as_bytes()))));
    Ok(Arc::new(words.collect::<Int64Array>()))
}
