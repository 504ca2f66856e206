//! Small models of known weights, as the bytes of their files.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto, tensor_proto, tensor_shape_proto, type_proto,
};

/// A tensor: its name, shape and numbers.
pub(crate) type Named = (&'static str, Vec<usize>, Vec<f32>);

/// The bytes of a safetensors file.
pub(crate) fn safetensors(tensors: &[Named], metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, numbers)| numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shape is that of the numbers"))
    });
    safetensors::serialize(views, metadata).expect("it can be written")
}

/// y = 2 a - b + 0.5
pub(crate) fn linear() -> Vec<u8> {
    safetensors(&[("weight", vec![1, 2], vec![2.0, -1.0]), ("bias", vec![1], vec![0.5])], None)
}

/// Two hidden units, max(a - b, 0) and max(b - a, 0), whose sum is |a - b|; then three outputs: |a - b|, -|a - b|, 0.
pub(crate) fn mlp() -> Vec<u8> {
    safetensors(
        &[
            ("layers.0.weight", vec![2, 2], vec![1.0, -1.0, -1.0, 1.0]),
            ("layers.0.bias", vec![2], vec![0.0, 0.0]),
            ("layers.2.weight", vec![3, 2], vec![1.0, 1.0, -1.0, -1.0, 0.0, 0.0]),
            ("layers.2.bias", vec![3], vec![0.0, 0.0, 0.0]),
        ],
        None,
    )
}

/// The probability of the second label is 1 / (1 + exp(4 - amount / 100)).
pub(crate) fn logistic() -> Vec<u8> {
    safetensors(&[("weight", vec![1, 1], vec![0.01]), ("bias", vec![1], vec![-4.0])], None)
}

/// One hidden state that no gate opens but the update's: h' = (1 - z) n + z h with z = 1/2, n = tanh(x); the answer is 10 h.
pub(crate) fn gru() -> Vec<u8> {
    safetensors(
        &[
            ("gru.weight_ih_l0", vec![3, 1], vec![0.0, 0.0, 1.0]),
            ("gru.weight_hh_l0", vec![3, 1], vec![0.0, 0.0, 0.0]),
            ("gru.bias_ih_l0", vec![3], vec![0.0, 0.0, 0.0]),
            ("gru.bias_hh_l0", vec![3], vec![0.0, 0.0, 0.0]),
            ("head.weight", vec![1, 1], vec![10.0]),
            ("head.bias", vec![1], vec![0.0]),
        ],
        None,
    )
}

/// 1e38 times what goes in, twice over: beyond what 32 bits hold for all but the smallest.
pub(crate) fn overflowing() -> Vec<u8> {
    safetensors(
        &[
            ("0.weight", vec![1, 1], vec![1e38]),
            ("0.bias", vec![1], vec![0.0]),
            ("1.weight", vec![1, 1], vec![1e38]),
            ("1.bias", vec![1], vec![0.0]),
        ],
        None,
    )
}

fn tensor_type(element: tensor_proto::DataType, dims: &[Option<i64>]) -> TypeProto {
    let dim = |size: &Option<i64>| tensor_shape_proto::Dimension {
        value: size.map(tensor_shape_proto::dimension::Value::DimValue),
        ..Default::default()
    };
    TypeProto {
        value: Some(type_proto::Value::TensorType(type_proto::Tensor {
            elem_type: element as i32,
            shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
        })),
        ..Default::default()
    }
}

fn value(name: &str, element: tensor_proto::DataType, dims: &[Option<i64>]) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), r#type: Some(tensor_type(element, dims)), ..Default::default() }
}

fn weights(name: &str, dims: &[i64], numbers: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: tensor_proto::DataType::Float as i32,
        float_data: numbers.to_vec(),
        ..Default::default()
    }
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        name: output.into(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.into()],
        attribute,
        ..Default::default()
    }
}

fn graph(
    nodes: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
) -> Vec<u8> {
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(GraphProto {
            name: "fixture".into(),
            node: nodes,
            initializer,
            input,
            output,
            ..Default::default()
        }),
        ..Default::default()
    };
    prost::Message::encode_to_vec(&model)
}

use tensor_proto::DataType::Float;

/// softmax(x W + c) of [rows, 2] numbers, as probabilities of three labels: W = [[1, 0, -1], [0, 1, -1]], c = 0.
pub(crate) fn onnx_classifier() -> Vec<u8> {
    let axis = AttributeProto {
        name: "axis".into(),
        r#type: attribute_proto::AttributeType::Int as i32,
        i: 1,
        ..Default::default()
    };
    graph(
        vec![
            node("MatMul", &["x", "W"], "product", vec![]),
            node("Add", &["product", "c"], "logits", vec![]),
            node("Softmax", &["logits"], "probabilities", vec![axis]),
        ],
        vec![weights("W", &[2, 3], &[1.0, 0.0, -1.0, 0.0, 1.0, -1.0]), weights("c", &[3], &[0.0, 0.0, 0.0])],
        vec![value("x", Float, &[None, Some(2)])],
        vec![value("probabilities", Float, &[None, Some(3)])],
    )
}

/// a * b + 1 of two inputs [rows, 1].
pub(crate) fn onnx_two_inputs() -> Vec<u8> {
    graph(
        vec![node("Mul", &["a", "b"], "product", vec![]), node("Add", &["product", "one"], "y", vec![])],
        vec![weights("one", &[1], &[1.0])],
        vec![value("a", Float, &[None, Some(1)]), value("b", Float, &[None, Some(1)])],
        vec![value("y", Float, &[None, Some(1)])],
    )
}

/// The square root of one number for one row at a time: what is negative has none.
pub(crate) fn onnx_root() -> Vec<u8> {
    graph(
        vec![node("Sqrt", &["x"], "root", vec![])],
        vec![],
        vec![value("x", Float, &[Some(1), Some(1)])],
        vec![value("root", Float, &[Some(1), Some(1)])],
    )
}

/// x less its mean over the rows of the batch: no answer of a row by itself. A second output is.
pub(crate) fn onnx_over_batch() -> Vec<u8> {
    let axes = AttributeProto {
        name: "axes".into(),
        r#type: attribute_proto::AttributeType::Ints as i32,
        ints: vec![0],
        ..Default::default()
    };
    graph(
        vec![
            node("ReduceMean", &["x"], "mean", vec![axes]),
            node("Add", &["x", "x"], "double", vec![]),
            node("Sub", &["x", "mean"], "centred", vec![]),
        ],
        vec![],
        vec![value("x", Float, &[None, Some(1)])],
        vec![value("double", Float, &[None, Some(1)]), value("centred", Float, &[None, Some(1)])],
    )
}

/// Twice a whole number.
pub(crate) fn onnx_whole() -> Vec<u8> {
    let float = AttributeProto {
        name: "to".into(),
        r#type: attribute_proto::AttributeType::Int as i32,
        i: Float as i64,
        ..Default::default()
    };
    graph(
        vec![node("Add", &["n", "n"], "double", vec![]), node("Cast", &["double"], "y", vec![float])],
        vec![],
        vec![value("n", tensor_proto::DataType::Int64, &[None, Some(1)])],
        vec![value("y", Float, &[None, Some(1)])],
    )
}

/// Operators that nobody has.
pub(crate) fn onnx_missing() -> Vec<u8> {
    graph(
        vec![node("Frobnicate", &["x"], "y", vec![]), node("ZipMapper", &["y"], "z", vec![])],
        vec![],
        vec![value("x", Float, &[None, Some(1)])],
        vec![value("z", Float, &[None, Some(1)])],
    )
}

/// All of them, by file name.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("linear.safetensors", linear()),
        ("mlp.safetensors", mlp()),
        ("logistic.safetensors", logistic()),
        ("gru.safetensors", gru()),
        ("overflowing.safetensors", overflowing()),
        ("classifier.onnx", onnx_classifier()),
        ("two_inputs.onnx", onnx_two_inputs()),
        ("root.onnx", onnx_root()),
        ("missing.onnx", onnx_missing()),
        ("damaged.safetensors", linear()[..40].to_vec()),
        ("damaged.onnx", b"\x08\x08\x3a\xff\xff\xff\xff".to_vec()),
    ]
}
