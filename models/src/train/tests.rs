//! Training on small made-up rows: what must be learnt is, the same each time, and what cannot be is told.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::{Float32Type, Float64Type};
use eagre_engine::model::{Model, ask};

use super::*;
use crate::open;

fn definition(options: &[(&str, &str)]) -> Definition {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Definition { name: "m".into(), options, ..Definition::default() }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("columns fit")
}

/// Points within a ring are `in`, others `out`; one axis is large, so that only standardised inputs are learnt from.
fn ring(rows: usize) -> RecordBatch {
    let mut chance = Chance::new(7);
    let (mut x, mut y, mut label) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        let (a, b) = (chance.uniform() * 4.0 - 2.0, chance.uniform() * 4.0 - 2.0);
        x.push(a * 1e4 + 5e5);
        y.push(b);
        label.push(if a * a + b * b < 1.5 { "in" } else { "out" });
    }
    batch(vec![
        ("x", Arc::new(Float64Array::from(x))),
        ("y", Arc::new(Float64Array::from(y))),
        ("place", Arc::new(StringArray::from(label))),
    ])
}

fn figure(trained: &Trained, name: &str) -> f64 {
    let line = trained.report.iter().find(|(known, _)| known == name);
    line.unwrap_or_else(|| panic!("no `{name}` in {:?}", trained.report)).1.parse().expect("a number")
}

fn model(bytes: &[u8]) -> Arc<dyn Model> {
    open(&definition(&[("path", "m.safetensors")]), bytes).expect("what was trained opens")
}

const MLP: [(&str, &str); 5] =
    [("task", "classifier"), ("arch", "mlp"), ("label", "place"), ("epochs", "40"), ("seed", "3")];

/// An mlp learns what no line tells apart, from rows in any order the same to the bit, and its file needs no options.
#[test]
fn an_mlp_learns_a_ring() {
    let rows = ring(600);
    let mut told = Vec::new();
    let trained = train(&definition(&MLP), &rows, &mut |progress| told.push(progress)).expect("it learns");
    assert!(figure(&trained, "held_out_accuracy") > 0.93, "{:?}", trained.report);
    assert!(figure(&trained, "held_out_accuracy") > figure(&trained, "accuracy_of_most_frequent") + 0.2);
    assert_eq!(told.len() as f64, figure(&trained, "epochs"));
    assert!(told[0].held_out_loss > told[told.len() - 1].held_out_loss);
    let order = arrow::array::UInt32Array::from_iter_values((0..600).map(|row| (row * 7) % 600));
    let turned: Vec<ArrayRef> =
        rows.columns().iter().map(|column| arrow::compute::take(column, &order, None).expect("it is there")).collect();
    let turned = RecordBatch::try_new(rows.schema(), turned).expect("columns fit");
    let again = train(&definition(&MLP), &turned, &mut |_| ()).expect("it learns");
    assert_eq!(trained.bytes, again.bytes);
    let mut other_seed = MLP.to_vec();
    other_seed[4] = ("seed", "4");
    assert_ne!(trained.bytes, train(&definition(&other_seed), &rows, &mut |_| ()).expect("it learns").bytes);
    let model = model(&trained.bytes);
    assert_eq!(model.labels().expect("it is a classifier"), ["in", "out"]);
    assert_eq!(model.input().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["x", "y"]);
    let inputs: [ArrayRef; 2] =
        [Arc::new(Float64Array::from(vec![5e5, 5.2e5])), Arc::new(Float64Array::from(vec![0.0, 1.9]))];
    let answer = ask(model.as_ref(), &inputs, 2).expect("it answers");
    let labels: &StringArray = answer.columns[0].as_any().downcast_ref().expect("texts");
    assert_eq!(labels.iter().collect::<Vec<_>>(), [Some("in"), Some("out")]);
    assert!(model.details().contains(&("seed".into(), "3".into())));
}

/// A line is found again, in the units of the label, and what it is measured by says so.
#[test]
fn a_line_is_found_again() {
    let mut chance = Chance::new(1);
    let a: Vec<f64> = (0..300).map(|_| chance.uniform() * 100.0).collect();
    let b: Vec<f64> = (0..300).map(|_| chance.uniform()).collect();
    let y: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 3.0 * a - 50.0 * b + 1_000.0).collect();
    let rows = batch(vec![
        ("a", Arc::new(Float64Array::from(a))),
        ("b", Arc::new(Float64Array::from(b))),
        ("y", Arc::new(Float64Array::from(y))),
    ]);
    let options =
        [("task", "regressor"), ("arch", "linear"), ("label", "Y"), ("learning-rate", "0.05"), ("epochs", "200")];
    let trained = train(&definition(&options), &rows, &mut |_| ()).expect("it learns");
    assert!(figure(&trained, "held_out_r2") > 0.999, "{:?}", trained.report);
    let model = model(&trained.bytes);
    assert_eq!(model.output().field(0).name(), "Y");
    let inputs: [ArrayRef; 2] = [Arc::new(Float64Array::from(vec![50.0])), Arc::new(Float64Array::from(vec![0.5]))];
    let answer = ask(model.as_ref(), &inputs, 1).expect("it answers");
    let got = arrow::array::AsArray::as_primitive::<Float64Type>(&answer.columns[0]).value(0);
    assert!((got - 1_125.0).abs() < 2.0, "{got}");
}

/// Rare labels are not drowned: of 2 % of the rows most are found.
#[test]
fn rare_labels_have_their_say() {
    let mut chance = Chance::new(5);
    let (mut amount, mut fraud) = (Vec::new(), Vec::new());
    for row in 0..1_000 {
        let is_fraud = row % 50 == 0;
        amount.push(chance.uniform() * 100.0 + if is_fraud { 90.0 } else { 0.0 });
        fraud.push(is_fraud);
    }
    let rows =
        batch(vec![("amount", Arc::new(Float64Array::from(amount))), ("fraud", Arc::new(BooleanArray::from(fraud)))]);
    let options = [("task", "classifier"), ("arch", "logistic"), ("label", "fraud"), ("learning-rate", "0.05")];
    let recall = |more: &[(&str, &str)]| {
        let trained = train(&definition(&[&options, more].concat()), &rows, &mut |_| ()).expect("it learns");
        figure(&trained, "recall of true")
    };
    assert!(recall(&[]) >= 0.75);
    assert!(recall(&[("class-weights", "none")]) <= recall(&[]));
}

/// A gru learns from arrays of any length: whether the last number is greater than the one before it.
#[test]
fn a_gru_learns_from_arrays() {
    let mut chance = Chance::new(9);
    let (mut lists, mut up) = (Vec::new(), Vec::new());
    for row in 0..400 {
        let list: Vec<Option<f64>> = (0..2 + row % 3).map(|_| Some(chance.uniform())).collect();
        up.push(i64::from(list[list.len() - 1] > list[list.len() - 2]));
        lists.push(Some(list));
    }
    let rows = batch(vec![
        ("history", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))),
        ("up", Arc::new(Int64Array::from(up))),
    ]);
    let options =
        [("task", "classifier"), ("arch", "gru"), ("label", "up"), ("epochs", "60"), ("learning-rate", "0.02")];
    let trained = train(&definition(&options), &rows, &mut |_| ()).expect("it learns");
    assert!(figure(&trained, "held_out_accuracy") > 0.9, "{:?}", trained.report);
    assert_eq!(model(&trained.bytes).labels().expect("it is a classifier"), ["0", "1"]);
}

/// All but a gru read the numbers of an array as inputs of their own, beside others: here whether the array's second number is above the
/// number before it. Rows of arrays with a null are left out.
#[test]
fn numbers_of_an_array_are_inputs() {
    let mut chance = Chance::new(4);
    let (mut lists, mut limits, mut above) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..400 {
        let list: Vec<Option<f32>> = (0..3).map(|_| Some(chance.uniform() as f32)).collect();
        let limit = chance.uniform();
        above.push(list[1].is_some_and(|value| f64::from(value) > limit));
        limits.push(limit);
        lists.push(match row {
            7 => None,
            8 => Some(vec![None, Some(0.5), Some(0.5)]),
            _ => Some(list),
        });
    }
    let rows = batch(vec![
        ("upper", Arc::new(Float64Array::from(limits))),
        ("v", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists))),
        ("above", Arc::new(BooleanArray::from(above))),
    ]);
    for arch in ["mlp", "logistic"] {
        let options =
            [("task", "classifier"), ("arch", arch), ("label", "above"), ("epochs", "150"), ("learning-rate", "0.02")];
        let trained = train(&definition(&options), &rows, &mut |_| ()).expect("it learns");
        assert!(figure(&trained, "held_out_accuracy") > 0.9, "{:?}", trained.report);
        assert_eq!(figure(&trained, "rows_left_out"), 2.0);
        let model = model(&trained.bytes);
        let names: Vec<&str> = model.input().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["upper", "v_1", "v_2", "v_3"]);
        let asked: [ArrayRef; 2] = [
            Arc::new(Float64Array::from(vec![0.1, 0.9])),
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(vec![Some(vec![Some(0.5); 3]); 2])),
        ];
        let answer = ask(model.as_ref(), &asked, 2).expect("it answers");
        assert_eq!(answer.columns[0].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("true"), Some("false")]);
    }
}

/// What cannot be learnt from is told, with the way out.
#[test]
fn what_cannot_be_learnt_is_told() {
    let error = |options: &[(&str, &str)], rows: &RecordBatch| {
        train(&definition(options), rows, &mut |_| ()).expect_err("nothing can be learnt").to_string()
    };
    let classifier =
        |more: &[(&'static str, &'static str)]| [&[("task", "classifier"), ("arch", "logistic")][..], more].concat();
    let rows = ring(50);
    let cases = [
        (error(&[("arch", "mlp")], &rows), "option `task` is missing"),
        (error(&classifier(&[]), &rows), "option `label` is missing"),
        (error(&classifier(&[("label", "plaice")]), &rows), "the query has the columns `x`, `y`, `place`"),
        (error(&classifier(&[("label", "place"), ("epochs", "none")]), &rows), "`epochs` = 'none'"),
        (error(&classifier(&[("label", "place"), ("labels", "in, on")]), &rows), "'out' stands on one side only"),
        (error(&classifier(&[("label", "place")]), &rows.slice(0, 3)), "learnt from ten or more"),
        (error(&classifier(&[("label", "x")]), &rows), "column `place` is STRING, and models learn from numbers"),
        (error(&[("task", "regressor"), ("arch", "mlp"), ("label", "place")], &rows), "a regressor learns numbers"),
        (
            error(&[("task", "regressor"), ("arch", "logistic"), ("label", "x")], &rows),
            "a regressor gives numbers: 'linear'",
        ),
    ];
    let list = |length: usize| Some(vec![Some(1.0); length]);
    let arrays = |lengths: fn(usize) -> usize| -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>((0..12).map(|row| list(lengths(row)))))
    };
    let label: ArrayRef = Arc::new((0..12).map(|row| Some(row % 2)).collect::<Int64Array>());
    let mixed = batch(vec![("v", arrays(|row| 2 + row % 3)), ("up", Arc::clone(&label))]);
    let two = batch(vec![("v", arrays(|_| 2)), ("w", arrays(|_| 2)), ("up", label)]);
    let of_up = |arch: &'static str| [("task", "classifier"), ("arch", arch), ("label", "up")];
    let cases = cases.into_iter().chain([
        (error(&of_up("mlp"), &mixed), "column `v` has arrays of 2 and of 4 numbers"),
        (error(&of_up("mlp"), &two), "the query has 2 columns of arrays, and a model is asked about one"),
        (error(&of_up("gru"), &two), "a gru reads an array alone"),
    ]);
    for (told, expected) in cases {
        assert!(told.starts_with("model `m`: ") && told.contains(expected), "{told}");
    }
}
