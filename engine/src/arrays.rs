//! Arrays of numbers where columns of numbers are read: each row's array is its numbers side by side.
//!
//! An array that is null, or has one, is as columns that are. One of another length says nothing that could be read: it is null in all columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef};

use crate::error::Result;

/// The type of arrays that are read so.
pub fn array_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)))
}

/// What arrays of a type are made of; `None`: it is no type of arrays.
pub fn item_of(data_type: &DataType) -> Option<&FieldRef> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}

/// So many numbers, in words.
pub(crate) fn of_numbers(width: usize) -> String {
    if width == 1 { "1 number".into() } else { format!("{width} numbers") }
}

fn lists(column: &ArrayRef) -> Result<ListArray> {
    Ok(cast(column, &array_type())?.as_list::<i32>().clone())
}

/// The numbers of arrays of `width` ones, a `DOUBLE` column for each place.
///
/// # Errors
/// A column of something else.
pub(crate) fn side_by_side(column: &ArrayRef, width: usize) -> Result<Vec<ArrayRef>> {
    let lists = lists(column)?;
    let starts: Vec<Option<u32>> = (0..lists.len())
        .map(|row| {
            let fits = lists.is_valid(row) && lists.value_length(row) as usize == width;
            fits.then(|| lists.value_offsets()[row] as u32)
        })
        .collect();
    let of_place = |place: u32| {
        let places: UInt32Array = starts.iter().map(|start| start.map(|start| start + place)).collect();
        Ok(take(lists.values(), &places, None)?)
    };
    (0..width as u32).map(of_place).collect()
}

/// The rows whose array has another length than `width`, by that length.
///
/// # Errors
/// A column of something else.
pub(crate) fn misfits(column: &ArrayRef, width: usize) -> Result<BTreeMap<usize, Vec<u32>>> {
    let lists = lists(column)?;
    let mut by_length: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
        let length = lists.value_length(row) as usize;
        if length != width {
            by_length.entry(length).or_default().push(row as u32);
        }
    }
    Ok(by_length)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Float64Type;

    use super::*;

    /// Places are columns; what is null or of another length is null, and only the latter is told. A slice has its own rows.
    #[test]
    fn places_are_columns() {
        let rows: Vec<Option<Vec<Option<f64>>>> = vec![
            Some(vec![Some(9.0), Some(9.0)]),
            Some(vec![Some(1.0), Some(2.0)]),
            None,
            Some(vec![Some(3.0)]),
            Some(vec![None, Some(4.0)]),
            Some(vec![]),
        ];
        let all: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows));
        let column = all.slice(1, 5);
        let columns = side_by_side(&column, 2).expect("they are numbers");
        let numbers = |place: usize| columns[place].as_primitive::<Float64Type>().iter().collect::<Vec<_>>();
        assert_eq!(numbers(0), [Some(1.0), None, None, None, None]);
        assert_eq!(numbers(1), [Some(2.0), None, None, Some(4.0), None]);
        let told = misfits(&column, 2).expect("they are numbers");
        assert_eq!(told, BTreeMap::from([(0, vec![4]), (1, vec![2])]));
    }
}
