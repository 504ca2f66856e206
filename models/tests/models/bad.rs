//! Models that cannot be had, and rows that they cannot answer: each says what is wrong.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use eagre_engine::model::ask;
use eagre_models::open;
use proptest::prelude::*;

use crate::{Options, definition, fixture, fixtures, numbers};

fn error(name: &str, options: &[(&str, &str)]) -> String {
    match fixture(name, options) {
        Ok(model) => panic!("{name} opens as {}", model.describe()),
        Err(error) => error.to_string(),
    }
}

/// Errors name the thing, the value and the way out.
#[test]
fn errors_say_what_is_wrong() {
    let cases: [(&str, Options<'_>, &str); 9] = [
        ("linear.safetensors", &[], "option `arch` is missing"),
        ("linear.safetensors", &[("arch", "lstm")], "it is one of 'linear', 'logistic', 'mlp', 'gru'"),
        ("linear.safetensors", &[("arch", "gru")], "no tensor `weight_ih_l0`"),
        ("gru.safetensors", &[("arch", "mlp")], "tensors that are no part of such a network: `gru.bias_hh_l0` [3]"),
        ("mlp.safetensors", &[("arch", "mlp"), ("labels", "a, a")], "two or more different names"),
        ("mlp.safetensors", &[("arch", "mlp"), ("labels", "a, b, c"), ("priorities", "d = 1")], "a = 1, b = 2, c = 3"),
        ("classifier.onnx", &[("labels", "a, b")], "the graph gives 3 numbers a row, and there are 2 labels"),
        ("classifier.onnx", &[("output.name", "logit")], "the graph's outputs are 'probabilities'"),
        ("missing.onnx", &[], "the ONNX operators Frobnicate, ZipMapper"),
    ];
    for (name, options, expected) in cases {
        let told = error(name, options);
        assert!(told.starts_with("model `m`: ") && told.contains(expected), "{name} {options:?}: {told}");
    }
}

/// A training that has diverged leaves weights that are no numbers: no row would have an answer, so it is told when the model is made.
#[test]
fn weights_that_are_no_numbers_are_refused() {
    for (odd, told) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let bytes =
            fixtures::safetensors(&[("weight", vec![1, 2], vec![2.0, odd]), ("bias", vec![1], vec![0.5])], None);
        let model = open(&definition(&[("path", "m.safetensors"), ("arch", "linear")]), &bytes);
        let error = model.err().expect("it is refused").to_string();
        assert!(error.contains(&format!("tensor `weight` holds {told}, with which no answer is a number")), "{error}");
    }
}

/// A network that has no outputs, or a layer without numbers, has nothing to say.
#[test]
fn weights_without_numbers_are_refused() {
    let open = |tensors: &[(&'static str, Vec<usize>, Vec<f32>)], arch| {
        let bytes = fixtures::safetensors(tensors, None);
        let model = open(&definition(&[("path", "m.safetensors"), ("arch", arch)]), &bytes);
        model.err().expect("it is refused").to_string()
    };
    let error = open(&[("weight", vec![0, 2], vec![]), ("bias", vec![0], vec![])], "linear");
    assert!(error.contains("tensor `bias` has the shape [0] and so no numbers"), "{error}");
    let hidden = [
        ("0.weight", vec![0, 2], vec![]),
        ("0.bias", vec![0], vec![]),
        ("2.weight", vec![1, 0], vec![]),
        ("2.bias", vec![1], vec![0.5]),
    ];
    let error = open(&hidden, "mlp");
    assert!(error.contains("tensor `0.bias` has the shape [0] and so no numbers"), "{error}");
}

/// Numbers beyond what 32 bits hold end in no answer, for their own row only.
#[test]
fn what_overflows_is_refused_row_by_row() {
    let model = fixture("overflowing.safetensors", &[("arch", "mlp")]).expect("it opens");
    let inputs = [numbers(&[1e-40, 1.0, f64::INFINITY, 1e300, 0.0])];
    let answer = ask(model.as_ref(), &inputs, 5).expect("it answers");
    let given: Vec<bool> =
        answer.columns[0].as_primitive::<Float64Type>().iter().map(|value| value.is_some()).collect();
    assert_eq!(given, [true, false, false, false, true]);
    let reasons: Vec<&str> = answer.refused.iter().map(|refusal| refusal.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "its output `prediction` is infinite",
            "its input `x1` is infinite",
            "its input `x1` is beyond what 32 bits hold"
        ]
    );
    assert_eq!(answer.columns[0].null_count(), 3);
}

/// What a graph says of a row must not depend on which rows came with it: such a graph is refused when it is made.
#[test]
fn graphs_that_mix_rows_are_refused() {
    let model = |options: &[(&str, &str)]| open(&definition(options), &fixtures::onnx_over_batch());
    let error = model(&[("path", "over_batch.onnx")]).err().expect("it mixes rows").to_string();
    assert!(error.contains("what its output `centred` says of a row depends on the rows beside it"), "{error}");
    assert!(model(&[("path", "over_batch.onnx"), ("output.name", "double")]).is_ok());
}

/// A graph of whole numbers is asked about no others: nothing is cut off without a word.
#[test]
fn fractions_are_refused_where_whole_numbers_are_taken() {
    let model = open(&definition(&[("path", "whole.onnx")]), &fixtures::onnx_whole()).expect("it opens");
    let inputs = [numbers(&[2.0, 1.5, 16_777_217.0, -3.0, f64::NAN])];
    let answer = ask(model.as_ref(), &inputs, 5).expect("it answers");
    let values: Vec<Option<f64>> = answer.columns[0].as_primitive::<Float64Type>().iter().collect();
    assert_eq!(values, [Some(4.0), None, None, Some(-6.0), None]);
    let reasons: Vec<&str> = answer.refused.iter().map(|refusal| refusal.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "its input `n` is 1.5, no whole number, and the graph takes whole numbers",
            "its input `n` is 16777217, of more digits than 32 bits hold, and the graph takes whole numbers",
            "its input `n` is not a number"
        ]
    );
}

/// Outputs that are no probabilities are told as such, and how they become some.
#[test]
fn numbers_that_are_no_probabilities_are_refused() {
    let model = fixture("mlp.safetensors", &[("arch", "mlp"), ("labels", "a, b, c"), ("output.activation", "none")])
        .expect("it opens");
    let answer = ask(model.as_ref(), &[numbers(&[1.0]), numbers(&[3.0])], 1).expect("it answers");
    assert!(answer.refused[0].reason.contains("'output.activation' = 'softmax'"), "{:?}", answer.refused);
}

proptest! {
    /// A file that was cut short or changed is refused or answers; it never ends the process.
    #[test]
    fn damaged_files_are_errors(which in 0usize..9, place in 0usize..4_000, value: u8, cut: bool) {
        let (name, mut bytes) = fixtures::all().swap_remove(which);
        let place = place % bytes.len();
        match cut {
            true => bytes.truncate(place),
            false => bytes[place] = value,
        }
        let arch = name.split('.').next().unwrap_or_default();
        let arch = if arch == "overflowing" { "mlp" } else { arch };
        let mut options = vec![("path", name)];
        if name.ends_with(".safetensors") {
            options.push(("arch", arch));
        }
        if let Ok(model) = open(&definition(&options), &bytes) {
            let inputs: Vec<_> = model.input().fields().iter().map(|_| numbers(&[1.0, -2.0])).collect();
            let _ = ask(model.as_ref(), &inputs, 2).map(|answer| answer.refused.len());
        }
    }
}
