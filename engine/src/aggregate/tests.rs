use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array,
    ListArray, StringArray, StringViewArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type};
use proptest::prelude::*;

use super::*;

fn function(
    name: &str,
    arg: Option<&DataType>,
    result: DataType,
    distinct: bool,
    retracting: bool,
) -> AggregateFunctionRef {
    let args: Vec<FieldRef> = arg.iter().map(|arg| Arc::new(Field::new("x", (*arg).clone(), true))).collect();
    let return_field = Arc::new(Field::new("result", result, true));
    builtin(&BuiltinRequest { name, args: &args, distinct, retracting, return_field }).expect(name)
}

/// Feeds rows in two parts to two sets of accumulators, merges them through their states, and evaluates three groups, the last empty.
fn check_rows(
    function: &AggregateFunctionRef,
    values: &ArrayRef,
    slots: &[u32],
    rows: RowInfo<'_>,
    expected: &ArrayRef,
) {
    let whole = |accumulators: &mut dyn Accumulators, from: usize, to: usize| {
        let weights = rows.weights.map(|weights| weights.slice(from, to - from));
        let filter = rows.filter.map(|filter| filter.slice(from, to - from));
        let ordinals = rows.ordinals.map(|ordinals| ordinals.slice(from, to - from));
        let rows = RowInfo { filter: filter.as_ref(), weights: weights.as_ref(), ordinals: ordinals.as_ref() };
        accumulators.resize(3);
        accumulators.update(&slots[from..to], &[values.slice(from, to - from)], rows).expect("updates");
    };
    let middle = slots.len() / 2;
    let mut at_once = function.create().expect("creates");
    whole(at_once.as_mut(), 0, slots.len());
    assert_eq!(&at_once.evaluate(Slots::First(3)).expect("evaluates"), expected, "{function:?} at once");

    let mut merged = function.create().expect("creates");
    merged.resize(3);
    for (from, to) in [(middle, slots.len()), (0, middle)] {
        let mut part = function.create().expect("creates");
        whole(part.as_mut(), from, to);
        let state = part.state(Slots::Some(&[2, 0, 1])).expect("has a state");
        let types: Vec<_> = state.iter().map(|column| column.data_type().clone()).collect();
        let fields: Vec<_> = function.state_fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, fields, "{function:?}");
        merged.merge(&[2, 0, 1], &state).expect("merges");
    }
    assert_eq!(&merged.evaluate(Slots::First(3)).expect("evaluates"), expected, "{function:?} merged");
    let reversed = merged.evaluate(Slots::Some(&[2, 1, 0])).expect("evaluates");
    let indices = arrow::array::UInt32Array::from(vec![2, 1, 0]);
    assert_eq!(&reversed, &arrow::compute::take(expected, &indices, None).expect("takes"));

    for accumulators in [&mut at_once, &mut merged] {
        accumulators.clear(Slots::Some(&[1]));
        accumulators.clear(Slots::First(3));
        whole(accumulators.as_mut(), 0, slots.len());
        assert_eq!(&accumulators.evaluate(Slots::First(3)).expect("evaluates"), expected, "{function:?} after a clear");
    }
}

fn array(values: impl Array + 'static) -> ArrayRef {
    Arc::new(values)
}

fn ints(values: &[Option<i64>]) -> ArrayRef {
    array(Int64Array::from(values.to_vec()))
}

fn floats(values: &[Option<f64>]) -> ArrayRef {
    array(Float64Array::from(values.to_vec()))
}

const SLOTS: [u32; 7] = [0, 1, 0, 0, 1, 0, 1];

/// Integers with nulls, then filtered, then weighted.
#[test]
fn integers_by_hand() {
    let int = DataType::Int64;
    let values = ints(&[Some(3), Some(10), None, Some(5), None, Some(3), Some(-4)]);
    let ordinals = UInt64Array::from(vec![9, 8, 7, 6, 5, 4, 3]);
    let plain = RowInfo { ordinals: Some(&ordinals), ..RowInfo::default() };
    let filter =
        BooleanArray::from(vec![Some(true), Some(false), Some(true), Some(true), Some(true), None, Some(false)]);
    let filtered = RowInfo { filter: Some(&filter), ..plain };
    let (no, five) = (None, Some(5));
    // name, distinct, plain results of groups 0 and 1, filtered results
    let cases = [
        ("count", false, [Some(3), Some(2), Some(0)], [Some(2), Some(0), Some(0)]),
        ("sum", false, [Some(11), Some(6), no], [Some(8), no, no]),
        ("min", false, [Some(3), Some(-4), no], [Some(3), no, no]),
        ("max", false, [five, Some(10), no], [five, no, no]),
        ("first_value", false, [Some(3), Some(-4), no], [five, no, no]),
        ("last_value", false, [Some(3), Some(10), no], [Some(3), no, no]),
        ("bit_xor", false, [five, Some(10 ^ -4), no], [Some(6), no, no]),
        ("bit_and", false, [Some(1), Some(10 & -4), no], [Some(1), no, no]),
        ("bit_or", false, [Some(7), Some(10 | -4), no], [Some(7), no, no]),
        ("count", true, [Some(2), Some(2), Some(0)], [Some(2), Some(0), Some(0)]),
        ("sum", true, [Some(8), Some(6), no], [Some(8), no, no]),
        ("max", true, [five, Some(10), no], [five, no, no]),
    ];
    for (name, distinct, expected, expected_filtered) in cases {
        for retracting in [false, true] {
            let function = function(name, Some(&int), int.clone(), distinct, retracting);
            assert!(!retracting || function.supports_retraction(), "{name}");
            check_rows(&function, &values, &SLOTS, plain, &ints(&expected));
            check_rows(&function, &values, &SLOTS, filtered, &ints(&expected_filtered));
        }
    }
}

/// Rows that are taken back count as if they had never been there.
#[test]
fn weights_by_hand() {
    let int = DataType::Int64;
    // Group 0 is left with 5 twice; group 1 with nothing but a null.
    let values = ints(&[Some(3), Some(10), Some(5), Some(3), None, Some(-9), Some(10)]);
    let weights = Int64Array::from(vec![1, 1, 2, -1, 1, 0, -1]);
    let ordinals = UInt64Array::from(vec![1, 2, 3, 1, 4, 5, 2]);
    let rows = RowInfo { weights: Some(&weights), ordinals: Some(&ordinals), ..RowInfo::default() };
    let cases = [
        ("count", false, [Some(2), Some(0), Some(0)]),
        ("sum", false, [Some(10), None, None]),
        ("min", false, [Some(5), None, None]),
        ("max", false, [Some(5), None, None]),
        ("first_value", false, [Some(5), None, None]),
        ("last_value", false, [Some(5), None, None]),
        ("bit_and", false, [Some(5), None, None]),
        ("bit_or", false, [Some(5), None, None]),
        ("bit_xor", false, [Some(0), None, None]),
        ("count", true, [Some(1), Some(0), Some(0)]),
        ("sum", true, [Some(5), None, None]),
    ];
    let keep = [0_usize, 1, 2, 3, 4, 6];
    let indices = arrow::array::UInt32Array::from_iter_values(keep.iter().map(|row| *row as u32));
    let values = arrow::compute::take(&values, &indices, None).expect("takes");
    let weights = Int64Array::from_iter_values(keep.iter().map(|row| weights.value(*row)));
    let ordinals = UInt64Array::from_iter_values(keep.iter().map(|row| ordinals.value(*row)));
    let rows = RowInfo { weights: Some(&weights), ordinals: Some(&ordinals), ..rows };
    for (name, distinct, expected) in cases {
        let function = function(name, Some(&int), int.clone(), distinct, true);
        check_rows(&function, &values, &[0, 1, 0, 0, 1, 1], rows, &ints(&expected));
    }
}

/// Averages and variances, as DataFusion defines them over few rows; special floats.
#[test]
fn floats_by_hand() {
    let float = DataType::Float64;
    let values = floats(&[Some(1.0), Some(8.0), None, Some(2.0), None, Some(6.0), None]);
    let cases = [
        ("sum", [Some(9.0), Some(8.0), None]),
        ("avg", [Some(3.0), Some(8.0), None]),
        ("min", [Some(1.0), Some(8.0), None]),
        ("max", [Some(6.0), Some(8.0), None]),
        ("var", [Some(7.0), None, None]),
        ("var_pop", [Some(14.0 / 3.0), Some(0.0), None]),
        ("stddev", [Some(7.0_f64.sqrt()), None, None]),
        ("stddev_pop", [Some((14.0_f64 / 3.0).sqrt()), Some(0.0), None]),
    ];
    for (name, expected) in cases {
        for (distinct, retracting) in [(false, false), (false, true), (true, false)] {
            let function = function(name, Some(&float), float.clone(), distinct, retracting);
            check_rows(&function, &values, &SLOTS, RowInfo::default(), &floats(&expected));
        }
    }
    let specials = floats(&[
        Some(f64::NAN),
        Some(f64::INFINITY),
        Some(1.0),
        Some(f64::NEG_INFINITY),
        Some(5.0),
        Some(2.0),
        Some(f64::INFINITY),
    ]);
    let max = function("max", Some(&float), float.clone(), false, false);
    check_rows(&max, &specials, &SLOTS, RowInfo::default(), &floats(&[Some(f64::NAN), Some(f64::INFINITY), None]));
    let min = function("min", Some(&float), float.clone(), false, true);
    check_rows(&min, &specials, &SLOTS, RowInfo::default(), &floats(&[Some(f64::NEG_INFINITY), Some(5.0), None]));
    let sum = function("sum", Some(&float), float.clone(), false, false);
    check_rows(&sum, &specials, &SLOTS, RowInfo::default(), &floats(&[Some(f64::NAN), Some(f64::INFINITY), None]));
}

/// Taking back a NaN or an infinity heals a sum; a large value that comes and goes leaves the small ones.
#[test]
fn a_sum_heals() {
    let float = DataType::Float64;
    let values = floats(&[Some(0.1), Some(f64::NAN), Some(1e300), Some(f64::INFINITY), Some(0.2)]);
    let back = floats(&[Some(f64::NAN), Some(1e300), Some(f64::INFINITY)]);
    let weights = Int64Array::from(vec![-1, -1, -1]);
    for (name, expected) in [("sum", 0.1 + 0.2), ("avg", (0.1 + 0.2) / 2.0)] {
        let mut sums = function(name, Some(&float), float.clone(), false, true).create().expect("creates");
        sums.resize(1);
        sums.update(&[0; 5], std::slice::from_ref(&values), RowInfo::default()).expect("updates");
        let rows = RowInfo { weights: Some(&weights), ..RowInfo::default() };
        sums.update(&[0; 3], std::slice::from_ref(&back), rows).expect("updates");
        let found = sums.evaluate(Slots::First(1)).expect("evaluates").as_primitive::<Float64Type>().value(0);
        assert!((found - expected).abs() < 1e-15, "{name}: {found}");
    }
    let mut variance = function("var_pop", Some(&float), float.clone(), false, true).create().expect("creates");
    variance.resize(1);
    let values = floats(&[Some(1e9 + 1.0), Some(1e9 + 3.0), Some(f64::NAN), Some(7e9)]);
    variance.update(&[0; 4], &[values], RowInfo::default()).expect("updates");
    let weights = Int64Array::from(vec![-1, -1]);
    let rows = RowInfo { weights: Some(&weights), ..RowInfo::default() };
    variance.update(&[0; 2], &[floats(&[Some(f64::NAN), Some(7e9)])], rows).expect("updates");
    assert_eq!(&variance.evaluate(Slots::First(1)).expect("evaluates"), &floats(&[Some(1.0)]));
}

/// Result types and scales are DataFusion's.
#[test]
fn decimals_by_hand() {
    let decimal = |values: &[Option<i128>], precision, scale| {
        array(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).expect("fits"))
    };
    let values = decimal(&[Some(100), Some(250), None, Some(201), None, Some(-1), Some(51)], 10, 2);
    let of = DataType::Decimal128(10, 2);
    for retracting in [false, true] {
        let check = |name: &str, result: ArrayRef| {
            let function = function(name, Some(&of), result.data_type().clone(), false, retracting);
            check_rows(&function, &values, &SLOTS, RowInfo::default(), &result);
        };
        check("sum", decimal(&[Some(300), Some(301), None], 20, 2));
        check("avg", decimal(&[Some(1_000_000), Some(1_505_000), None], 14, 6));
        check("min", decimal(&[Some(-1), Some(51), None], 10, 2));
        check("max", decimal(&[Some(201), Some(250), None], 10, 2));
    }
}

/// Strings and binaries are ordered by their bytes, in every layout; booleans too.
#[test]
fn bytes_and_booleans_by_hand() {
    let words = [Some("pear"), Some("fig"), None, Some("apple"), None, Some("plum"), Some("")];
    let (least, greatest) = ([Some("apple"), Some(""), None], [Some("plum"), Some("fig"), None]);
    let ordinals = UInt64Array::from(vec![1, 2, 3, 4, 5, 6, 7]);
    let rows = RowInfo { ordinals: Some(&ordinals), ..RowInfo::default() };
    type Layout<'a> = &'a dyn Fn(&[Option<&str>]) -> ArrayRef;
    let layouts: [Layout<'_>; 3] = [
        &|words| array(StringArray::from(words.to_vec())),
        &|words| array(StringViewArray::from(words.to_vec())),
        &|words| array(words.iter().map(|word| word.map(str::as_bytes)).collect::<BinaryViewArray>()),
    ];
    for layout in layouts {
        let values = layout(&words);
        let of = values.data_type();
        for retracting in [false, true] {
            let check = |name: &str, expected: ArrayRef| {
                let function = function(name, Some(of), expected.data_type().clone(), false, retracting);
                check_rows(&function, &values, &SLOTS, rows, &expected);
            };
            check("min", layout(&least));
            check("max", layout(&greatest));
            check("first_value", layout(&[Some("pear"), Some("fig"), None]));
            check("last_value", layout(&[Some("plum"), Some(""), None]));
        }
        let distinct = function("count", Some(of), DataType::Int64, true, true);
        check_rows(&distinct, &values, &SLOTS, rows, &ints(&[Some(3), Some(2), Some(0)]));
    }
    let of = DataType::Boolean;
    let flags = |values: &[Option<bool>]| array(BooleanArray::from(values.to_vec()));
    let values = flags(&[Some(true), Some(true), None, Some(false), None, Some(true), None]);
    for (name, zero) in [("bool_and", false), ("bool_or", true), ("min", false), ("max", true)] {
        for retracting in [false, true] {
            let function = function(name, Some(&of), DataType::Boolean, false, retracting);
            check_rows(&function, &values, &SLOTS, RowInfo::default(), &flags(&[Some(zero), Some(true), None]));
        }
    }
}

/// A first value may be null, and nested.
#[test]
fn first_and_last_respect_nulls() {
    let values = array(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        None,
        Some(vec![Some(1), None]),
        Some(vec![Some(2)]),
    ]));
    let ordinals = UInt64Array::from(vec![1, 1, 2]);
    let rows = RowInfo { ordinals: Some(&ordinals), ..RowInfo::default() };
    let expected =
        array(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![None, Some(vec![Some(1), None]), None]));
    for retracting in [false, true] {
        let first = function("first_value", Some(values.data_type()), values.data_type().clone(), false, retracting);
        check_rows(&first, &values, &[0, 1, 0], rows, &expected);
    }
}

/// What DataFusion must do is left to it.
#[test]
fn unknown_functions_are_refused() {
    let args = [Arc::new(Field::new("x", DataType::Int64, true))];
    for name in ["median", "array_agg"] {
        let return_field = Arc::new(Field::new("result", DataType::Int64, true));
        let request = BuiltinRequest { name, args: &args, distinct: false, retracting: false, return_field };
        assert!(builtin(&request).is_none());
    }
    let count = function("count", None, DataType::Int64, false, false);
    let mut counts = count.create().expect("creates");
    counts.resize(1);
    counts.update(&[0, 0], &[], RowInfo::default()).expect("updates");
    assert_eq!(&counts.evaluate(Slots::First(1)).expect("evaluates"), &ints(&[Some(2)]));
    let narrow = function("bit_and", Some(&DataType::Int32), DataType::Int32, false, true);
    let values = array(Int32Array::from(vec![-1, -2]));
    let expected = array(Int32Array::from(vec![Some(-2), None, None]));
    check_rows(&narrow, &values, &[0, 0], RowInfo::default(), &expected);
}

proptest! {
    /// A sum of doubles is the same to the last digits whatever the order, the batches and the rows that came and went.
    #[test]
    fn double_sums_do_not_depend_on_order(
        values in proptest::collection::vec((-1e12..1e12_f64, any::<bool>()), 1..60),
        noise in proptest::collection::vec(-1.0..1.0_f64, 0..20),
        cut in 1_usize..20,
    ) {
        let float = DataType::Float64;
        let scale = values.iter().fold(0.0_f64, |scale, (value, _)| scale.max(value.abs()));
        // A variance sees squares, so it has half the digits to spare.
        for (name, loudness, digits) in [("sum", 1e6, 1e-15), ("avg", 1e6, 1e-15), ("stddev_pop", 1e2, 1e-12)] {
            let function = function(name, Some(&float), float.clone(), false, true);
            let run = |rows: &[(f64, i64)], cut: usize| {
                let mut sums = function.create().expect("creates");
                sums.resize(1);
                for rows in rows.chunks(cut) {
                    let values = array(Float64Array::from_iter_values(rows.iter().map(|(value, _)| *value)));
                    let weights = Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight));
                    let info = RowInfo { weights: Some(&weights), ..RowInfo::default() };
                    sums.update(&vec![0; rows.len()], &[values], info).expect("updates");
                }
                sums.evaluate(Slots::First(1)).expect("evaluates").as_primitive::<Float64Type>().value(0)
            };
            let plain: Vec<(f64, i64)> = values.iter().map(|(value, _)| (*value, 1)).collect();
            let mut disturbed: Vec<(f64, i64)> = noise.iter().map(|value| (value * loudness * scale, 3)).collect();
            disturbed.extend(plain.iter().rev());
            disturbed.extend(noise.iter().map(|value| (value * loudness * scale, -3)));
            let (calm, wild) = (run(&plain, 1_000), run(&disturbed, cut));
            prop_assert!((calm - wild).abs() <= (1e-9 * calm.abs()).max(digits * scale), "{name}: {calm} {wild}");
        }
    }
}

proptest! {
    /// The first and the last by arrival are those of the rows that are left, however the rows are cut into batches and parts: a row that is taken back
    /// comes with an arrival number of its own, and stands for the first with its value.
    #[test]
    fn rows_taken_back_go_by_value(
        events in proptest::collection::vec((0_i64..4, any::<bool>()), 1..60),
        cut in 1_usize..9,
    ) {
        let int = DataType::Int64;
        let names = ["first_value", "last_value"];
        let functions = names.map(|name| function(name, Some(&int), int.clone(), false, true));
        let mut whole = functions.each_ref().map(|function| function.create().expect("creates"));
        whole.iter_mut().for_each(|whole| whole.resize(1));
        let mut left: Vec<i64> = vec![];
        let mut rows: Vec<(u64, i64, i64)> = vec![];
        for (ordinal, (value, gone)) in events.iter().enumerate() {
            match left.iter().position(|there| there == value).filter(|_| *gone) {
                Some(place) => {
                    left.remove(place);
                    rows.push((ordinal as u64, *value, -1));
                }
                None => {
                    left.push(*value);
                    rows.push((ordinal as u64, *value, 1));
                }
            }
            if rows.len() < cut && ordinal + 1 < events.len() {
                continue;
            }
            for (function, whole) in functions.iter().zip(&mut whole) {
                for part in 0..2 {
                    let rows = rows.iter().filter(|(ordinal, ..)| ordinal % 2 == part);
                    let ordinals = UInt64Array::from_iter_values(rows.clone().map(|row| row.0));
                    let values = array(Int64Array::from_iter_values(rows.clone().map(|row| row.1)));
                    let weights = Int64Array::from_iter_values(rows.map(|row| row.2));
                    let mut partial = function.create().expect("creates");
                    partial.resize(1);
                    let info = RowInfo { weights: Some(&weights), ordinals: Some(&ordinals), ..RowInfo::default() };
                    partial.update(&vec![0; weights.len()], &[values], info).expect("updates");
                    whole.merge(&[0], &partial.state(Slots::First(1)).expect("has a state")).expect("merges");
                }
            }
            rows.clear();
            let expected = [left.first(), left.last()];
            for (whole, expected) in whole.iter_mut().zip(expected) {
                let found = whole.evaluate(Slots::First(1)).expect("evaluates");
                prop_assert_eq!(&found, &array(Int64Array::from_iter([expected.copied()])));
            }
        }
    }
}
