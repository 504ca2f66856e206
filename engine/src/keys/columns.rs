//! Between key columns and the words and bytes in which keys are kept.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, GenericByteArray, GenericByteViewArray, ListArray, MapArray, StructArray,
    UInt32Array, make_comparator,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{
    BinaryType, BinaryViewType, ByteArrayType, ByteViewType, DataType, LargeBinaryType, LargeUtf8Type, StringViewType,
    Utf8Type,
};

use crate::aggregate::Slots;
use crate::aggregate::select::nulls;
use crate::error::{EngineError, Result};
use crate::hash::{Words, by_native, native_column, native_values};

/// Whether a type is kept as plain bytes.
pub(crate) fn is_bytes(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    matches!(data_type, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView)
}

/// How many words a value of a fixed-width type takes; `None` for all other types.
pub(crate) fn word_count(data_type: &DataType) -> Option<usize> {
    macro_rules! count {
        ($native:ty) => {
            Some(<$native as Words>::COUNT)
        };
    }
    by_native! {
        data_type => count,
        DataType::Boolean => Some(1),
        _ => None,
    }
}

/// The values of a one-word column as words, whatever lies under nulls included.
pub(super) fn column_words(column: &ArrayRef) -> Result<ScalarBuffer<u64>> {
    macro_rules! words {
        (i64) => {
            // Eight bytes that are their own word.
            native_values::<u64>(column)
        };
        (u64) => {
            native_values::<u64>(column)
        };
        ($native:ty) => {
            native_values::<$native>(column).iter().map(|value| value.to_words()[0]).collect()
        };
    }
    Ok(by_native! {
        column.data_type() => words,
        DataType::Boolean => column.as_boolean().values().iter().map(u64::from).collect(),
        other => return Err(EngineError::bug(format!("a word key column has type {other}"))),
    })
}

pub(super) fn words_column(data_type: &DataType, words: Vec<u64>, nulls: Option<NullBuffer>) -> ArrayRef {
    macro_rules! column {
        ($native:ty) => {{
            // In place, where a value has the size of a word.
            let values = words.into_iter().map(|word| <$native as Words>::from_words(&[word, 0, 0, 0])).collect();
            native_column::<$native>(data_type, values, nulls)
        }};
    }
    by_native! {
        data_type => column,
        DataType::Boolean => {
            Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(words.len(), |row| words[row] != 0), nulls))
        },
        _ => unreachable!("only fixed-width types are kept as words"),
    }
}

/// Writes a fixed-width column into rows of `stride` words, from word `offset` on; bit `index` of word 0 says null. Returns how many
/// words a value takes.
pub(super) fn scatter_words(
    column: &ArrayRef,
    rows: &mut [u64],
    stride: usize,
    offset: usize,
    index: usize,
) -> Result<usize> {
    fn natives<N: Words>(values: &[N], rows: &mut [u64], stride: usize, offset: usize) -> usize {
        for (row, value) in rows.chunks_exact_mut(stride).zip(values) {
            row[offset..offset + N::COUNT].copy_from_slice(&value.to_words()[..N::COUNT]);
        }
        N::COUNT
    }
    macro_rules! scatter {
        ($native:ty) => {
            natives(&native_values::<$native>(column), rows, stride, offset)
        };
    }
    let count = by_native! {
        column.data_type() => scatter,
        DataType::Boolean => {
            for (row, value) in rows.chunks_exact_mut(stride).zip(column.as_boolean().values().iter()) {
                row[offset] = u64::from(value);
            }
            1
        },
        other => return Err(EngineError::bug(format!("a word key column has type {other}"))),
    };
    if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
        for (row, valid) in rows.chunks_exact_mut(stride).zip(nulls.iter()) {
            if !valid {
                row[0] |= 1 << index;
                row[offset..offset + count].fill(0);
            }
        }
    }
    Ok(count)
}

/// The column that [`scatter_words`] wrote, for `slots`.
pub(super) fn gather_words(
    data_type: &DataType,
    words: &[u64],
    stride: usize,
    offset: usize,
    index: usize,
    slots: Slots<'_>,
) -> ArrayRef {
    let nulls = nulls(slots.map(|slot| words[slot * stride] & (1 << index) == 0));
    macro_rules! column {
        ($native:ty) => {{
            let values = slots.map(|slot| <$native as Words>::from_words(&words[slot * stride + offset..]));
            native_column::<$native>(data_type, values, nulls)
        }};
    }
    by_native! {
        data_type => column,
        DataType::Boolean => {
            let values = slots.map(|slot| words[slot * stride + offset] != 0);
            Arc::new(BooleanArray::new(values.into(), nulls))
        },
        _ => unreachable!("only fixed-width types are kept as words"),
    }
}

/// A string or binary column of the given type.
pub(crate) fn bytes_column<'a>(data_type: &DataType, values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
    fn offsets<'a, T: ByteArrayType>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
        let bytes = arrow::array::GenericBinaryArray::<T::Offset>::from_iter(values);
        let (offsets, data, nulls) = bytes.into_parts();
        Arc::new(GenericByteArray::<T>::new(offsets, data, nulls))
    }
    fn views<'a, T: ByteViewType + ?Sized>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
        let (views, buffers, nulls) = arrow::array::BinaryViewArray::from_iter(values).into_parts();
        Arc::new(GenericByteViewArray::<T>::new(views, buffers, nulls))
    }
    match data_type {
        DataType::Utf8 => offsets::<Utf8Type>(values),
        DataType::LargeUtf8 => offsets::<LargeUtf8Type>(values),
        DataType::Binary => offsets::<BinaryType>(values),
        DataType::LargeBinary => offsets::<LargeBinaryType>(values),
        DataType::Utf8View => views::<StringViewType>(values),
        DataType::BinaryView => views::<BinaryViewType>(values),
        other => unreachable!("{other} is not kept as bytes"),
    }
}

/// Columns that came out of arrow's row format, in the types that went in: it gives the values of dictionaries back as plain ones.
///
/// # Errors
/// Values that a type cannot hold, such as more words than a dictionary has keys.
pub fn with_types<'a>(columns: Vec<ArrayRef>, types: impl Iterator<Item = &'a DataType>) -> Result<Vec<ArrayRef>> {
    let as_asked = |(column, data_type): (ArrayRef, &DataType)| match column.data_type() == data_type {
        true => Ok(column),
        false => Ok(cast(&column, data_type)?),
    };
    columns.into_iter().zip(types).map(as_asked).collect()
}

/// Values in the form by which keys compare: 0.0 for both zeros, one NaN, the entries of a map by their keys; also within rows and arrays.
/// Other columns as they are.
pub fn canonical_values(column: &ArrayRef) -> ArrayRef {
    macro_rules! canonical {
        ($type:ty) => {
            Arc::new(column.as_primitive::<$type>().unary::<_, $type>(|value| Words::from_words(&value.to_words())))
        };
    }
    match column.data_type() {
        DataType::Float16 => canonical!(arrow::datatypes::Float16Type),
        DataType::Float32 => canonical!(arrow::datatypes::Float32Type),
        DataType::Float64 => canonical!(arrow::datatypes::Float64Type),
        data_type if !has_other_forms(data_type) => Arc::clone(column),
        DataType::Struct(fields) => {
            let rows = column.as_struct();
            let columns = rows.columns().iter().map(canonical_values).collect();
            Arc::new(StructArray::new(fields.clone(), columns, rows.nulls().cloned()))
        }
        DataType::List(item) => {
            let lists = column.as_list::<i32>();
            let values = canonical_values(lists.values());
            Arc::new(ListArray::new(Arc::clone(item), lists.offsets().clone(), values, lists.nulls().cloned()))
        }
        DataType::Map(entries, sorted) => {
            let maps = column.as_map();
            let rows: ArrayRef = Arc::new(maps.entries().clone());
            let values = by_keys(&canonical_values(&rows), maps.offsets());
            let nulls = maps.nulls().cloned();
            Arc::new(MapArray::new(Arc::clone(entries), maps.offsets().clone(), values, nulls, *sorted))
        }
        _ => Arc::clone(column),
    }
}

/// Whether equal values of a type may differ in their bytes, so that [`canonical_values`] has something to do.
pub fn has_other_forms(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| has_other_forms(field.data_type())),
        DataType::List(item) => has_other_forms(item.data_type()),
        DataType::Map(..) => true,
        other => other.is_floating(),
    }
}

/// The entries of maps, each map's in the order of their keys; of a key that is there twice the first stays before the second.
fn by_keys(entries: &ArrayRef, offsets: &OffsetBuffer<i32>) -> StructArray {
    let entries = entries.as_struct();
    let keys = entries.column(0);
    let Ok(compare) = make_comparator(keys, keys, SortOptions::default()) else {
        return entries.clone();
    };
    let mut order: Vec<u32> = (0..entries.len() as u32).collect();
    for bounds in offsets.windows(2) {
        order[bounds[0] as usize..bounds[1] as usize].sort_by(|a, b| compare(*a as usize, *b as usize));
    }
    if order.is_sorted() {
        return entries.clone();
    }
    let order = UInt32Array::from(order);
    let columns = entries.columns().iter().map(|column| take(column, &order, None).expect("places of the entries"));
    StructArray::new(entries.fields().clone(), columns.collect(), None)
}
