//! Values without an order of DataFusion's own, or with two of them, as bytes that are in order.
//!
//! DataFusion compares arrays by one rule in `<`, where a null in them comes first, and by another one where it sorts, and JSON values as the
//! types that they are made of. By this key of arrays and rows the first values that differ decide, and a null in them is the greatest, as in
//! PostgreSQL; of JSON values, texts come before numbers, numbers by their amount before truth values, and these before arrays and objects, as in
//! its `jsonb` (which orders arrays and objects by their parts, and this by their text). A map goes by its entries in the order of their keys. What is
//! null has no key. (`GREATEST` and `LEAST` of arrays are DataFusion's own.)

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field};
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use eagre_engine::keys::canonical_values;

use super::definition::{Call, Definition, Param};
use super::json_order;

/// `__order_key(x)`: the key of an array, a row, a map or a JSON value.
pub(crate) static ORDER_KEY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| keys(&call.array(0)?);
    Definition { name: "__order_key", params: &[Param::Any], optional: 0, returns: |_| DataType::Binary, invoke }.udf()
});

pub(crate) fn is_array(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

/// Whether values are arrays or rows.
pub(crate) fn is_nested(data_type: &DataType) -> bool {
    is_array(data_type) || matches!(data_type, DataType::Struct(_))
}

/// Whether there are values in an array or a row that have no key there: JSON, and maps.
pub(crate) fn has_no_key(data_type: &DataType) -> bool {
    let lacks_one = |inner: &DataType| matches!(inner, DataType::Union(..) | DataType::Map(..)) || has_no_key(inner);
    match data_type {
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => {
            lacks_one(inner.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| lacks_one(field.data_type())),
        DataType::Map(entries, _) => has_no_key(entries.data_type()),
        _ => false,
    }
}

/// The keys of a column.
pub(crate) fn keys(values: &ArrayRef) -> Result<ArrayRef> {
    if matches!(values.data_type(), DataType::Union(..)) {
        return Ok(Arc::new(json_order::sort_keys(values)?.iter().map(Option::as_deref).collect::<BinaryArray>()));
    }
    if matches!(values.data_type(), DataType::Map(..)) {
        let maps = canonical_values(values);
        let maps = maps.as_map();
        let entries: ArrayRef = Arc::new(maps.entries().clone());
        let item = Arc::new(Field::new_list_field(entries.data_type().clone(), false));
        let lists = ListArray::try_new(item, maps.offsets().clone(), entries, maps.nulls().cloned())?;
        return keys(&(Arc::new(lists) as ArrayRef));
    }
    // Of the value itself whoever sorts says where nulls are.
    let ascending = SortOptions { descending: false, nulls_first: false };
    let converter = RowConverter::new(vec![SortField::new_with_options(values.data_type().clone(), ascending)])?;
    let keys = converter.convert_columns(&[canonical_values(values)])?.try_into_binary()?;
    let (offsets, bytes, _) = keys.into_parts();
    Ok(Arc::new(BinaryArray::try_new(offsets, bytes, values.nulls().cloned())?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StructArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn order(values: ArrayRef) -> Vec<usize> {
        let keys = keys(&values).expect("keys");
        let keys = keys.as_binary::<i32>();
        let mut places: Vec<usize> = (0..keys.len()).filter(|row| keys.is_valid(*row)).collect();
        places.sort_by_key(|row| keys.value(*row));
        places
    }

    #[test]
    fn a_null_in_an_array_or_row_is_the_greatest() {
        let lists = [
            Some(vec![None]),
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
            Some(vec![Some(1), Some(2)]),
            Some(vec![Some(1)]),
            Some(vec![Some(-3), Some(9)]),
        ];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
        assert_eq!(order(lists), [3, 6, 5, 4, 1, 0]);
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(-1)]));
        let rows = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int64, true)), column)]);
        assert_eq!(order(Arc::new(rows)), [2, 0, 1]);
    }
}
