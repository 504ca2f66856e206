//! A model that reads columns is asked about an array of as many numbers.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Schema};

use super::Refusal;
use crate::arrays::{item_of, misfits, of_numbers, side_by_side};
use crate::error::{EngineError, Result};

/// Which inputs of a model each argument of a question fills: one, but for an array of numbers in the place of columns, which fills all that the
/// others leave. `None`: they do not fill them.
pub fn filled_by(input: &Schema, args: &[DataType]) -> Option<Vec<Range<usize>>> {
    let fields = input.fields();
    let spreads = |place: usize| {
        item_of(&args[place]).is_some()
            && fields.get(place).is_some_and(|field| *field.data_type() == DataType::Float64)
    };
    let Some(place) = (0..args.len()).find(|place| spreads(*place)) else {
        return (args.len() == fields.len()).then(|| (0..args.len()).map(|place| place..place + 1).collect());
    };
    let width = (fields.len() + 1).checked_sub(args.len()).filter(|width| *width > 0)?;
    let of = |arg: usize| match arg.cmp(&place) {
        std::cmp::Ordering::Less => arg..arg + 1,
        std::cmp::Ordering::Equal => arg..arg + width,
        std::cmp::Ordering::Greater => arg + width - 1..arg + width,
    };
    let filled: Vec<Range<usize>> = (0..args.len()).map(of).collect();
    let fits = |(arg, inputs): (usize, &Range<usize>)| {
        let is_number = fields[inputs.clone()].iter().all(|field| *field.data_type() == DataType::Float64);
        if arg == place { is_number } else { !(is_number && item_of(&args[arg]).is_some()) }
    };
    filled.iter().enumerate().all(fits).then_some(filled)
}

/// A column for each input, and the rows that have none: their array has another length.
pub(super) fn columns(input: &Schema, args: &[ArrayRef]) -> Result<(Vec<ArrayRef>, Vec<Refusal>)> {
    let types: Vec<DataType> = args.iter().map(|column| column.data_type().clone()).collect();
    let filled = filled_by(input, &types).ok_or_else(|| EngineError::bug("a model is asked about other columns"))?;
    let (mut columns, mut refused) = (Vec::with_capacity(input.fields().len()), Vec::new());
    for (column, inputs) in args.iter().zip(filled) {
        let reads_number = *input.field(inputs.start).data_type() == DataType::Float64;
        if !(reads_number && item_of(column.data_type()).is_some()) {
            columns.push(column.clone());
            continue;
        }
        let width = inputs.len();
        let names = match width {
            1 => format!("its input `{}` is", input.field(inputs.start).name()),
            _ => format!(
                "its inputs `{}` to `{}` are",
                input.field(inputs.start).name(),
                input.field(inputs.end - 1).name()
            ),
        };
        for (length, rows) in misfits(column, width)? {
            let reason = format!("{names} an ARRAY of {}, and this one has {length}", of_numbers(width));
            refused.extend(rows.into_iter().map(|row| Refusal { row, reason: reason.clone() }));
        }
        columns.extend(side_by_side(column, width)?);
    }
    Ok((columns, refused))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Float64Array, ListArray};
    use arrow::datatypes::{Field, Float64Type};
    use proptest::prelude::*;

    use super::*;
    use crate::arrays::array_type;
    use crate::model::ask;
    use crate::model::testing::sum_of;

    /// One array fills what single numbers leave; two say nothing of how long each is, and one that is too many has no place.
    #[test]
    fn one_array_fills_what_is_left() {
        let model = sum_of(4, 1.0);
        let (number, array) = (DataType::Float64, array_type());
        let filled = |args: &[&DataType]| {
            let args: Vec<DataType> = args.iter().map(|data_type| (*data_type).clone()).collect();
            filled_by(model.input(), &args).map(|filled| filled.iter().map(ExactSizeIterator::len).collect())
        };
        assert_eq!(filled(&[&array]), Some(vec![4]));
        assert_eq!(filled(&[&number, &array]), Some(vec![1, 3]));
        assert_eq!(filled(&[&array, &number]), Some(vec![3, 1]));
        assert_eq!(filled(&[&number, &array, &number, &number]), Some(vec![1, 1, 1, 1]));
        assert_eq!(filled(&[&array, &array]), None);
        assert_eq!(filled(&[&number]), None);
        assert_eq!(filled(&[&number, &number, &number, &number, &array]), None);
    }

    /// An array is a sequence where the model reads one.
    #[test]
    fn a_sequence_is_one_input() {
        let input = Schema::new(vec![Field::new("history", array_type(), true)]);
        assert_eq!(filled_by(&input, &[array_type()]).map(|filled| filled.len()), Some(1));
    }

    proptest! {
        /// The answers about arrays are those about their numbers in columns; a row whose array is longer or shorter has none and is told, one
        /// with a null has none.
        #[test]
        fn arrays_are_their_numbers(
            rows in proptest::collection::vec(
                proptest::option::weighted(0.9, proptest::collection::vec(proptest::option::weighted(0.9, 0i32..100), 2..5)), 0..40),
        ) {
            let model = sum_of(4, 2.0);
            let first: ArrayRef = Arc::new((0..rows.len()).map(|row| Some(row as f64)).collect::<Float64Array>());
            let number = |value: Option<i32>| value.map(f64::from);
            let lists = rows.iter().map(|row| row.as_ref().map(|row| row.iter().copied().map(number).collect::<Vec<_>>()));
            let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists));
            let answer = ask(model.as_ref(), &[Arc::clone(&first), lists], rows.len()).expect("it answers");
            let place = |place: usize| -> ArrayRef {
                let value = |row: &Option<Vec<Option<i32>>>| number(row.as_ref().filter(|row| row.len() == 3)?[place]);
                Arc::new(rows.iter().map(value).collect::<Float64Array>())
            };
            let twin = ask(model.as_ref(), &[first, place(0), place(1), place(2)], rows.len()).expect("it answers");
            let values = |column: &ArrayRef| column.as_primitive::<Float64Type>().iter().collect::<Vec<_>>();
            prop_assert_eq!(values(&answer.columns[0]), values(&twin.columns[0]));
            let told: Vec<u32> = answer.refused.iter().map(|refusal| refusal.row).collect();
            let misfit = |row: &Option<Vec<Option<i32>>>| row.as_ref().is_some_and(|row| row.len() != 3);
            let expected: Vec<u32> = (0..).zip(&rows).filter(|(_, row)| misfit(row)).map(|(row, _)| row).collect();
            prop_assert_eq!(told, expected);
        }
    }
}
