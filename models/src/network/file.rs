//! safetensors: a header of JSON with names, types and shapes, then the numbers.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::layers::{Arch, Hidden};
use crate::error::Result;
use crate::options::Definition;
use crate::signature::Column;

/// The key of a file's metadata under which it says what it is.
pub const CARD: &str = "eagre";

/// What a file that was trained here says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// What the tensors are.
    pub arch: Option<Arch>,
    /// What follows hidden layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Hidden>,
    /// The inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Vec<Column>>,
    /// The name of a regressor's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The labels of a classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// How it was trained and how good it is, for `DESCRIBE MODEL`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub training: Vec<(String, String)>,
}

impl Card {
    pub(super) fn details(&self) -> Vec<(String, String)> {
        self.training.clone()
    }
}

/// A file that was read.
pub(super) struct File {
    pub(super) tensors: BTreeMap<String, Tensor>,
    pub(super) card: Option<Card>,
}

const FORMAT: &str = "safetensors";

/// # Errors
/// Bytes that are no such file, numbers of types that no network here has, numbers that are none.
pub(super) fn read(definition: &Definition, bytes: &[u8]) -> Result<File> {
    let damaged = |reason: &dyn std::fmt::Display| definition.damaged(FORMAT, reason);
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(&error))?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(&error))?;
    let card = metadata.metadata().as_ref().and_then(|metadata| metadata.get(CARD));
    let card = card
        .map(|card| serde_json::from_str(card))
        .transpose()
        .map_err(|error| damaged(&format!("its header: {error}")))?;
    let mut tensors = BTreeMap::new();
    // In an order of their own, so that the same file always has the same fault.
    let mut views = file.tensors();
    views.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, view) in views {
        let tensor = tensor(&view).map_err(|error| damaged(&error))?;
        let tensor = tensor.ok_or_else(|| {
            definition.shape(format!("tensor `{name}` has numbers of type {:?}; save the model in F32", view.dtype()))
        })?;
        if tensor.elem_count() == 0 {
            return Err(definition.shape(format!(
                "tensor `{name}` has the shape {:?} and so no numbers, with which there is nothing to answer",
                tensor.dims()
            )));
        }
        let numbers =
            tensor.flatten_all().and_then(|numbers| numbers.to_vec1::<f32>()).map_err(|error| damaged(&error))?;
        if let Some(odd) = numbers.into_iter().find(|number| !number.is_finite()) {
            return Err(definition.shape(format!(
                "tensor `{name}` holds {odd}, with which no answer is a number; save a model whose training has not diverged"
            )));
        }
        tensors.insert(name, tensor);
    }
    Ok(File { tensors, card })
}

/// In `f32`; `None`: a type of no weights.
fn tensor(view: &TensorView<'_>) -> candle_core::Result<Option<Tensor>> {
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        _ => return Ok(None),
    };
    Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?.to_dtype(DType::F32).map(Some)
}

/// The bytes of a file with these tensors.
pub(crate) fn write(tensors: &BTreeMap<String, Tensor>, card: &Card) -> candle_core::Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| candle_core::Error::Msg(error.to_string());
    let card = serde_json::to_string(card).map_err(|error| failed(&error))?;
    let mut data: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in tensors {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        data.push((
            name.clone(),
            tensor.dims().to_vec(),
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ));
    }
    let views =
        data.iter().map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views =
        views.collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>().map_err(|error| failed(&error))?;
    let metadata = HashMap::from([(CARD.to_owned(), card)]);
    safetensors::serialize(views, Some(metadata)).map_err(|error| failed(&error))
}
