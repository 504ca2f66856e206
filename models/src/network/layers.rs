//! The layers of a network, found in named tensors.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use candle_core::{DType, Device, Tensor};
use candle_nn::rnn::{GRU, GRUConfig, RNN};
use candle_nn::{Linear, Module, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::options::Definition;

/// Kinds of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// One layer: weighted sums.
    Linear,
    /// One layer, its outputs probabilities.
    Logistic,
    /// Layers one after the other.
    Mlp,
    /// A gated recurrent unit over a sequence (Cho et al., 2014), then layers over its last state.
    Gru,
}

impl Arch {
    pub(crate) const ALL: [(&'static str, Self); 4] =
        [("linear", Self::Linear), ("logistic", Self::Logistic), ("mlp", Self::Mlp), ("gru", Self::Gru)];
}

/// What follows a hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hidden {
    /// max(x, 0)
    Relu,
    /// tanh(x)
    Tanh,
    /// 1 / (1 + exp(-x))
    Sigmoid,
    /// x Phi(x), exactly.
    Gelu,
    /// x sigmoid(x)
    Silu,
}

impl Hidden {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("relu", Self::Relu),
        ("tanh", Self::Tanh),
        ("sigmoid", Self::Sigmoid),
        ("gelu", Self::Gelu),
        ("silu", Self::Silu),
    ];

    pub(crate) fn apply(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Relu => x.relu(),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => candle_nn::ops::sigmoid(x),
            Self::Gelu => x.gelu_erf(),
            Self::Silu => x.silu(),
        }
    }
}

/// Of each input or output: subtract, then divide.
pub(crate) struct Standard {
    pub(crate) mean: Tensor,
    pub(crate) deviation: Tensor,
}

/// A network that answers for rows of numbers.
pub(crate) struct Network {
    arch: Arch,
    hidden: Hidden,
    gru: Option<GRU>,
    /// Hidden width of the gru, and what it reads a step.
    gru_width: Option<(usize, usize)>,
    layers: Vec<Linear>,
    /// What goes in, then what each layer gives.
    widths: Vec<usize>,
    input: Option<Standard>,
    output: Option<Standard>,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Arch::ALL.iter().find(|(_, arch)| *arch == self.arch).map_or("network", |(name, _)| name);
        let widths: Vec<String> =
            self.gru_width.iter().map(|(_, read)| read).chain(&self.widths).map(ToString::to_string).collect();
        write!(f, "{name}({})", widths.join(", "))
    }
}

/// The numbers in a name are read as numbers: `layers.10` comes after `layers.9`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    for part in name.split('.') {
        let digits = part.trim_start_matches(|character: char| !character.is_ascii_digit());
        parts.push((part[..part.len() - digits.len()].to_owned(), digits.parse().unwrap_or(0)));
    }
    parts
}

impl Network {
    /// # Errors
    /// Tensors that make no network of this kind.
    pub(crate) fn build(
        definition: &Definition,
        arch: Arch,
        hidden: Hidden,
        mut tensors: BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        let wrong = |message: String| definition.shape(message);
        let input = standard(definition, &mut tensors, "input")?;
        let output = standard(definition, &mut tensors, "output")?;
        let (mut gru, mut gru_width) = (None, None);
        if arch == Arch::Gru {
            let (unit, read, width) = recurrent(definition, &mut tensors)?;
            (gru, gru_width) = (Some(unit), Some((width, read)));
        }
        let mut names: Vec<String> = tensors
            .iter()
            .filter(|(name, tensor)| is_weight(name) && tensor.rank() == 2)
            .map(|(name, _)| name.clone())
            .collect();
        names.sort_by_key(|name| natural(name));
        let (mut layers, mut widths) = (Vec::new(), Vec::new());
        for name in &names {
            let Some(weight) = tensors.remove(name) else { continue };
            let bias_name = format!("{}bias", name.strip_suffix("weight").unwrap_or(name));
            let bias = tensors.remove(&bias_name);
            let (rows, columns) = weight.dims2().map_err(|error| wrong(error.to_string()))?;
            let before = widths.last().copied().or(gru_width.map(|(width, _)| width));
            if let Some(before) = before.filter(|before| *before != columns) {
                return Err(wrong(format!(
                    "tensor `{name}` is {rows} x {columns}, and what comes before it gives {before} numbers; layers are taken in the order of \
                     their names: {}",
                    names.join(", ")
                )));
            }
            if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [rows]) {
                return Err(wrong(format!(
                    "tensor `{bias_name}` has the shape {:?}, and `{name}` gives {rows} numbers",
                    bias.dims()
                )));
            }
            if before.is_none() {
                widths.push(columns);
            }
            widths.push(rows);
            layers.push(Linear::new(weight, bias));
        }
        if !tensors.is_empty() {
            let left = tensors
                .iter()
                .map(|(name, tensor)| format!("`{name}` {:?}", tensor.dims()))
                .collect::<Vec<_>>()
                .join(", ");
            return Err(wrong(format!(
                "it has tensors that are no part of such a network: {left}; a layer is `<name>.weight` (outputs x inputs) and `<name>.bias`"
            )));
        }
        let most = match arch {
            Arch::Linear | Arch::Logistic => 1,
            Arch::Mlp | Arch::Gru => usize::MAX,
        };
        if layers.is_empty() || layers.len() > most {
            return Err(wrong(format!(
                "it has {} layers, and such a network has {}; is 'arch' right?",
                layers.len(),
                if most == 1 { "one" } else { "at least one" }
            )));
        }
        let network = Self { arch, hidden, gru, gru_width, layers, widths, input, output };
        let fits = |standard: &Option<Standard>, width: usize| {
            standard.as_ref().is_none_or(|standard| standard.mean.dims() == [width])
        };
        if !fits(&network.input, network.input_width()) || !fits(&network.output, network.output_width()) {
            return Err(wrong("`input.mean` or `output.mean` has another length than the layer beside it".into()));
        }
        Ok(network)
    }

    /// How many numbers are read at once.
    pub(crate) fn input_width(&self) -> usize {
        self.gru_width.map_or(self.widths[0], |(_, read)| read)
    }

    /// How many numbers are given.
    pub(crate) fn output_width(&self) -> usize {
        *self.widths.last().expect("a network has a layer")
    }

    /// `[rows, width]` to `[rows, output_width]`.
    pub(crate) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let standardise = |x: &Tensor| match &self.input {
            Some(standard) => x.broadcast_sub(&standard.mean)?.broadcast_div(&standard.deviation),
            None => Ok(x.clone()),
        };
        let mut x = match &self.gru {
            Some(gru) => {
                let read = self.input_width();
                let steps = standardise(&x.reshape((rows, width / read, read))?)?;
                let states = gru.seq(&steps.contiguous()?)?;
                states.last().map(|state| state.h().clone()).unwrap_or(x.clone())
            }
            None => standardise(x)?,
        };
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x)?;
            if index + 1 < self.layers.len() {
                x = self.hidden.apply(&x)?;
            }
        }
        match &self.output {
            Some(standard) => x.broadcast_mul(&standard.deviation)?.broadcast_add(&standard.mean),
            None => Ok(x),
        }
    }
}

fn is_weight(name: &str) -> bool {
    name == "weight" || name.ends_with(".weight")
}

fn standard(definition: &Definition, tensors: &mut BTreeMap<String, Tensor>, side: &str) -> Result<Option<Standard>> {
    let mut take = |what: &str| tensors.remove(&format!("{side}.{what}"));
    match (take("mean"), take("deviation")) {
        (None, None) => Ok(None),
        (Some(mean), Some(deviation)) if mean.dims() == deviation.dims() && mean.rank() == 1 => {
            let deviations = deviation.to_vec1::<f32>().map_err(|error| definition.shape(error.to_string()))?;
            match deviations.iter().all(|deviation| *deviation > 0.0) {
                true => Ok(Some(Standard { mean, deviation })),
                false => Err(definition.shape(format!("`{side}.deviation` has a value that is not greater than 0"))),
            }
        }
        _ => {
            Err(definition
                .shape(format!("`{side}.mean` and `{side}.deviation` come together, as vectors of one length")))
        }
    }
}

/// The gru, how many numbers it reads a step, and how many it gives.
fn recurrent(definition: &Definition, tensors: &mut BTreeMap<String, Tensor>) -> Result<(GRU, usize, usize)> {
    let suffix = "weight_ih_l0";
    let name = tensors.keys().find(|name| name.ends_with(suffix)).cloned();
    let name =
        name.ok_or_else(|| definition.shape(format!("it has no tensor `{suffix}`, so it is no gru of one layer")))?;
    let prefix = name.strip_suffix(suffix).unwrap_or_default().to_owned();
    let mut parts: HashMap<String, Tensor> = HashMap::new();
    for part in ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"] {
        if let Some(tensor) = tensors.remove(&format!("{prefix}{part}")) {
            parts.insert(part.to_owned(), tensor);
        }
    }
    let shape = |part: &str| parts.get(part).map(|tensor| tensor.dims().to_vec()).unwrap_or_default();
    let fits = match (shape("weight_ih_l0").as_slice(), shape("weight_hh_l0").as_slice()) {
        ([rows, _], [other, width]) => {
            rows == other && *rows == 3 * width && shape("bias_ih_l0") == [*rows] && shape("bias_hh_l0") == [*rows]
        }
        _ => false,
    };
    if !fits {
        return Err(definition.shape(format!(
            "`weight_ih_l0` {:?}, `weight_hh_l0` {:?}, `bias_ih_l0` {:?}, `bias_hh_l0` {:?} are not those of a gru: (3h x inputs), (3h x h), 3h, 3h",
            shape("weight_ih_l0"),
            shape("weight_hh_l0"),
            shape("bias_ih_l0"),
            shape("bias_hh_l0")
        )));
    }
    let (read, width) = (shape("weight_ih_l0")[1], shape("weight_hh_l0")[1]);
    let builder = VarBuilder::from_tensors(parts, DType::F32, &Device::Cpu);
    let unit = candle_nn::rnn::gru(read, width, GRUConfig::default(), builder);
    Ok((unit.map_err(|error| definition.shape(error.to_string()))?, read, width))
}
