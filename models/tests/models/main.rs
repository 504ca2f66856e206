//! Models from files, against what can be worked out by hand.

mod bad;
mod fixtures;
mod service;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use arrow::datatypes::{DataType, Field, Float64Type};
use eagre_engine::model::{Model, ask};
use eagre_models::{Definition, Result, open};
use proptest::prelude::*;

/// Options and their values.
pub(crate) type Options<'a> = &'a [(&'a str, &'a str)];

/// A definition with these options.
pub(crate) fn definition(options: &[(&str, &str)]) -> Definition {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Definition { name: "m".into(), options, ..Definition::default() }
}

/// The model of one of the fixtures.
pub(crate) fn fixture(name: &str, options: &[(&str, &str)]) -> Result<Arc<dyn Model>> {
    let bytes = fixtures::all().into_iter().find(|(known, _)| *known == name).expect("it is a fixture").1;
    let options: Vec<(&str, &str)> = [("path", name)].into_iter().chain(options.iter().copied()).collect();
    open(&definition(&options), &bytes)
}

pub(crate) fn numbers(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn answers(model: &dyn Model, inputs: &[ArrayRef]) -> Vec<Vec<f64>> {
    let answer = ask(model, inputs, inputs[0].len()).expect("it answers");
    assert_eq!(answer.refused, [], "nothing is refused");
    answer.columns.iter().map(|column| column.as_primitive::<Float64Type>().values().to_vec()).collect()
}

/// The files that SQL tests read are those that are written here; `EAGRE_TESTS_REWRITE=1` writes them anew.
#[test]
fn the_files_are_the_fixtures() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/slt/data/models");
    for (name, bytes) in fixtures::all() {
        let path = folder.join(name);
        if std::env::var_os("EAGRE_TESTS_REWRITE").is_some() {
            std::fs::write(&path, &bytes).expect("it can be written");
        }
        assert_eq!(std::fs::read(&path).expect("it is there"), bytes, "{name}");
    }
}

/// Each kind of network answers what its weights say.
#[test]
fn networks_answer_what_their_weights_say() {
    let line = fixture("linear.safetensors", &[("arch", "linear")]).expect("it opens");
    assert_eq!(line.describe(), "safetensors linear(2, 1)");
    assert_eq!(answers(line.as_ref(), &[numbers(&[1.0, 3.0, -0.1]), numbers(&[2.0, 1.0, 0.2])]), [[0.5, 5.5, 0.1]]);
    let shape = fixture("mlp.safetensors", &[("arch", "mlp")]).expect("it opens");
    assert_eq!(shape.describe(), "safetensors mlp(2, 2, 3)");
    assert_eq!(
        answers(shape.as_ref(), &[numbers(&[1.0, 5.0]), numbers(&[3.0, 5.0])]),
        [[2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]]
    );
    let fraud = fixture("logistic.safetensors", &[("arch", "logistic")]).expect("it opens");
    assert_eq!(answers(fraud.as_ref(), &[numbers(&[400.0, 0.0, 800.0])]), [[0.5, 0.0179862, 0.982014]]);
}

/// A gru reads as many numbers as come, each row its own count of them.
#[test]
fn a_gru_reads_sequences() {
    let mut definition = definition(&[("path", "gru.safetensors"), ("arch", "gru")]);
    let sequence = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
    definition.input = Some(vec![("history".into(), sequence)]);
    let model = open(&definition, &fixtures::gru()).expect("it opens");
    let lists = ListArray::from_iter_primitive::<Float64Type, _, _>([
        Some(vec![Some(0.5f64.atanh())]),
        Some(vec![Some(0.5f64.atanh()), Some(0.0)]),
        Some(vec![]),
        Some(vec![Some(f64::NAN), Some(0.0)]),
        Some(vec![Some(0.0), Some(0.0), Some(0.5f64.atanh())]),
    ]);
    let answer = ask(model.as_ref(), &[Arc::new(lists)], 5).expect("it answers");
    let values: Vec<Option<f64>> = answer.columns[0].as_primitive::<Float64Type>().iter().collect();
    assert_eq!(values, [Some(2.5), Some(1.25), None, None, Some(2.5)]);
    let refused: Vec<(u32, &str)> =
        answer.refused.iter().map(|refusal| (refusal.row, refusal.reason.as_str())).collect();
    assert_eq!(refused, [(2, "its input `history` is empty"), (3, "its input `history` is not a number")]);
    // As columns, each is a step.
    definition.input = Some(vec![("before".into(), DataType::Float64), ("now".into(), DataType::Float64)]);
    let model = open(&definition, &fixtures::gru()).expect("it opens");
    assert_eq!(answers(model.as_ref(), &[numbers(&[0.5f64.atanh()]), numbers(&[0.0])]), [[1.25]]);
}

/// A classifier gives the likeliest label, its probability, all of them, and what they say of priority.
#[test]
fn a_classifier_gives_labels_and_probabilities() {
    let options = [("arch", "mlp"), ("labels", "far, near, even"), ("priorities", "far = 10, near = 1")];
    let model = fixture("mlp.safetensors", &options).expect("it opens");
    let answer = ask(model.as_ref(), &[numbers(&[1.0, 5.0]), numbers(&[3.0, 5.0])], 2).expect("it answers");
    let column = |place: usize| answer.columns[place].as_primitive::<Float64Type>().values().to_vec();
    let labels: Vec<Option<&str>> = answer.columns[0].as_string::<i32>().iter().collect();
    // Where two are as likely, the one that is named first.
    assert_eq!(labels, [Some("far"), Some("far")]);
    let sum = 2f64.exp() + (-2f64).exp() + 1.0;
    let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-5, "{got} is not {expected}");
    close(column(1)[0], 2f64.exp() / sum);
    close(column(2)[0], (10.0 * 2f64.exp() + (-2f64).exp()) / sum);
    close(column(2)[1], 11.0 / 3.0);
    let probabilities = answer.columns[3].as_struct();
    assert_eq!(probabilities.column_names(), ["far", "near", "even"]);
    close(probabilities.column(1).as_primitive::<Float64Type>().value(0), (-2f64).exp() / sum);
    // One output is the probability of the second label.
    let fraud = fixture("logistic.safetensors", &[("arch", "logistic"), ("labels", "ok, fraud")]).expect("it opens");
    let answer = ask(fraud.as_ref(), &[numbers(&[800.0, 0.0])], 2).expect("it answers");
    let labels: Vec<Option<&str>> = answer.columns[0].as_string::<i32>().iter().collect();
    assert_eq!(labels, [Some("fraud"), Some("ok")]);
    close(answer.columns[2].as_primitive::<Float64Type>().value(0), 0.982014);
}

/// ONNX graphs with one input for all columns and with one for each, for any count of rows and for one.
#[test]
fn onnx_graphs_answer() {
    let graph = fixture("classifier.onnx", &[("labels", "a, b, c")]).expect("it opens");
    let answer = ask(graph.as_ref(), &[numbers(&[1.0, 0.0, -3.0]), numbers(&[0.0, 2.0, -3.0])], 3).expect("it answers");
    let labels: Vec<Option<&str>> = answer.columns[0].as_string::<i32>().iter().collect();
    assert_eq!(labels, [Some("a"), Some("b"), Some("c")]);
    let first = answer.columns[1].as_primitive::<Float64Type>().value(0);
    assert!((first - 1f64.exp() / (1f64.exp() + 1.0 + (-1f64).exp())).abs() < 1e-6, "{first}");
    let product = fixture("two_inputs.onnx", &[]).expect("it opens");
    assert_eq!(product.input().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(answers(product.as_ref(), &[numbers(&[2.0, -1.0]), numbers(&[3.0, 4.0])]), [[7.0, -3.0]]);
    let root = fixture("root.onnx", &[]).expect("it opens");
    let answer = ask(root.as_ref(), &[numbers(&[9.0, -1.0, 2.25])], 3).expect("it answers");
    let values: Vec<Option<f64>> = answer.columns[0].as_primitive::<Float64Type>().iter().collect();
    assert_eq!(values, [Some(3.0), None, Some(1.5)]);
    assert_eq!(answer.refused[0].reason, "its output `prediction` is not a number");
}

/// What the answers depend on is in the hash, and nothing else: not what the model is called or where its file lies.
#[test]
fn the_hash_is_of_what_answers_depend_on() {
    let hash = |name: &str, options: &[(&str, &str)]| fixture(name, options).expect("it opens").hash();
    let options = [("arch", "mlp"), ("labels", "far, near, even")];
    assert_eq!(hash("mlp.safetensors", &options), hash("mlp.safetensors", &options));
    let tanh = [("arch", "mlp"), ("labels", "far, near, even"), ("activation", "tanh")];
    let named = [("arch", "mlp"), ("labels", "a, b, c")];
    let mut hashes =
        vec![hash("mlp.safetensors", &options), hash("mlp.safetensors", &tanh), hash("mlp.safetensors", &named)];
    hashes.push(hash("linear.safetensors", &[("arch", "linear")]));
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 4);
}

fn models() -> Vec<Arc<dyn Model>> {
    vec![
        fixture("linear.safetensors", &[("arch", "linear")]).expect("it opens"),
        fixture("mlp.safetensors", &[("arch", "mlp"), ("activation", "gelu"), ("labels", "a, b, c")])
            .expect("it opens"),
        fixture("classifier.onnx", &[("labels", "a, b, c")]).expect("it opens"),
        fixture("two_inputs.onnx", &[]).expect("it opens"),
    ]
}

proptest! {
    /// How rows are cut into batches, and in what order they come, is an accident: it does not show in any answer, to the bit.
    #[test]
    fn answers_do_not_depend_on_batches(
        rows in proptest::collection::vec((-1e3f64..1e3, -1e3f64..1e3), 1..200),
        cut in 1usize..80,
    ) {
        let columns = |rows: &[(f64, f64)]| -> Vec<ArrayRef> {
            let side = |pick: fn(&(f64, f64)) -> f64| numbers(&rows.iter().map(pick).collect::<Vec<_>>());
            vec![side(|row| row.0), side(|row| row.1)]
        };
        for model in models() {
            let answer = |rows: &[(f64, f64)]| ask(model.as_ref(), &columns(rows), rows.len()).expect("it answers").columns;
            let whole = answer(&rows);
            let mut parts = rows.chunks(cut).map(answer);
            let mut joined = parts.next().expect("there are rows");
            for part in parts {
                for (column, more) in joined.iter_mut().zip(part) {
                    *column = arrow::compute::concat(&[column.as_ref(), more.as_ref()]).expect("they are of one type");
                }
            }
            prop_assert_eq!(&whole, &joined, "{}", model.describe());
            let backwards: Vec<(f64, f64)> = rows.iter().rev().copied().collect();
            let order = arrow::array::UInt32Array::from_iter_values((0..rows.len() as u32).rev());
            for (column, turned) in whole.iter().zip(answer(&backwards)) {
                let back = arrow::compute::take(&turned, &order, None).expect("it is a permutation");
                prop_assert_eq!(column, &back, "{}", model.describe());
            }
        }
    }

    /// Networks agree with plain loops over their weights.
    #[test]
    fn an_mlp_agrees_with_plain_loops(
        first in proptest::collection::vec(-2f32..2.0, 12), second in proptest::collection::vec(-2f32..2.0, 4),
        biases in proptest::collection::vec(-1f32..1.0, 5),
        rows in proptest::collection::vec(proptest::array::uniform3(-5f64..5.0), 1..20),
    ) {
        let bytes = fixtures::safetensors(&[
            ("0.weight", vec![4, 3], first.clone()), ("0.bias", vec![4], biases[..4].to_vec()),
            ("2.weight", vec![1, 4], second.clone()), ("2.bias", vec![1], biases[4..].to_vec()),
        ], None);
        let model = open(&definition(&[("path", "x.safetensors"), ("arch", "mlp"), ("activation", "tanh")]), &bytes).expect("it opens");
        let columns: Vec<ArrayRef> = (0..3).map(|place| numbers(&rows.iter().map(|row| row[place]).collect::<Vec<_>>())).collect();
        for (row, got) in rows.iter().zip(&answers(model.as_ref(), &columns)[0]) {
            let hidden = (0..4).map(|unit| {
                let sum: f64 = (0..3).map(|place| f64::from(first[unit * 3 + place]) * row[place]).sum();
                (sum + f64::from(biases[unit])).tanh()
            });
            let expected: f64 = hidden.zip(&second).map(|(value, weight)| value * f64::from(*weight)).sum::<f64>() + f64::from(biases[4]);
            prop_assert!((got - expected).abs() < 1e-4, "{} is not {}", got, expected);
        }
    }
}
