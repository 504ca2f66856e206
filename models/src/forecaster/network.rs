//! The forecaster as candle sees it: the same network as the kernel `conv_forecast`, for training and as a second opinion.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use eagre_kernels::conv_forecast::{
    CANDIDATES, DILATIONS, FEATURES, HIDDEN, LAYERS, OUTPUTS, QUANTILES, STEPS, TOKENS, WIDTH,
};

use crate::train::chance::Chance;

const MEDIAN: usize = QUANTILES / 2;

/// Linear layers by name, each a weight `[outputs, inputs]` and a bias.
#[derive(Debug)]
pub(super) struct Network {
    layers: Vec<(Tensor, Tensor)>,
    /// `[4, 4]`: a quantile is as far out as all distances up to it.
    outwards: Tensor,
    inwards: Tensor,
}

/// Random weights to begin with, by name.
pub(super) fn first_weights(chance: &mut Chance) -> Result<BTreeMap<String, Var>> {
    let mut weights = BTreeMap::new();
    for layer in LAYERS {
        // Blocks add little at first, and the head says little: the candidates speak.
        let gain = match layer.name {
            name if name.ends_with("contract") => 0.3,
            "head.output" => 0.2,
            _ => 1.0,
        };
        let bound = gain * (3.0 / layer.inputs as f32).sqrt();
        let mut uniform = || (2.0 * chance.uniform() as f32 - 1.0) * bound;
        let weight: Vec<f32> = (0..layer.inputs * layer.outputs).map(|_| uniform()).collect();
        let bias: Vec<f32> = match layer.name {
            // Distances between quantiles of about a quarter of the window's unit.
            "head.output" => (0..layer.outputs)
                .map(|output| match output % OUTPUTS {
                    MEDIAN | QUANTILES.. => 0.0,
                    _ => -1.25,
                })
                .collect(),
            _ => vec![0.0; layer.outputs],
        };
        let weight = Tensor::from_vec(weight, (layer.outputs, layer.inputs), &Device::Cpu)?;
        weights.insert(format!("{}.weight", layer.name), Var::from_tensor(&weight)?);
        let bias = Tensor::from_vec(bias, layer.outputs, &Device::Cpu)?;
        weights.insert(format!("{}.bias", layer.name), Var::from_tensor(&bias)?);
    }
    Ok(weights)
}

impl Network {
    /// The network with these weights.
    pub(super) fn new(tensor: &dyn Fn(&str) -> Result<Tensor>) -> Result<Self> {
        let mut layers = Vec::new();
        for layer in LAYERS {
            let weight = tensor(&format!("{}.weight", layer.name))?;
            let bias = tensor(&format!("{}.bias", layer.name))?;
            if weight.dims() != [layer.outputs, layer.inputs] || bias.dims() != [layer.outputs] {
                return Err(candle_core::Error::Msg(format!(
                    "`{}` is a layer of {} to {} numbers, not of {:?}",
                    layer.name,
                    layer.inputs,
                    layer.outputs,
                    weight.dims()
                )));
            }
            layers.push((weight, bias));
        }
        // [distance, quantile]: 1 where the quantile lies at or beyond the distance.
        let triangle = |is_in: fn(usize, usize) -> bool| {
            let ones = (0..MEDIAN * MEDIAN).map(|at| if is_in(at / MEDIAN, at % MEDIAN) { 1f32 } else { 0.0 });
            Tensor::from_vec(ones.collect::<Vec<_>>(), (MEDIAN, MEDIAN), &Device::Cpu)
        };
        Ok(Self {
            layers,
            outwards: triangle(|distance, quantile| distance <= quantile)?,
            inwards: triangle(|distance, quantile| distance >= quantile)?,
        })
    }

    /// `rows`: `[n, inputs]`.
    fn linear(&self, layer: usize, rows: &Tensor) -> Result<Tensor> {
        let (weight, bias) = &self.layers[layer];
        rows.matmul(&weight.t()?)?.broadcast_add(bias)
    }

    /// Quantiles `[windows, STEPS, QUANTILES]` from numbers `[windows, TOKENS, FEATURES]` and candidates `[windows, STEPS, CANDIDATES]`.
    pub(super) fn forward(&self, numbers: &Tensor, candidates: &Tensor) -> Result<Tensor> {
        let windows = numbers.dim(0)?;
        let mut x = self.linear(0, &numbers.reshape((windows * TOKENS, FEATURES))?)?;
        let mut tokens = TOKENS;
        for block in 0..DILATIONS.len() {
            let (own, before) = if block == 0 {
                let x = x.reshape((windows, TOKENS, WIDTH))?;
                let zeros = Tensor::zeros((windows, 1, WIDTH), DType::F32, &Device::Cpu)?;
                let before = Tensor::cat(&[&zeros, &x.narrow(1, 0, TOKENS - 1)?], 1)?;
                (x, before)
            } else {
                // The last two of each four look back to the first two.
                let x = x.reshape((windows * tokens / 4, 2, 2 * WIDTH))?;
                tokens /= 2;
                (x.narrow(1, 1, 1)?.contiguous()?, x.narrow(1, 0, 1)?.contiguous()?)
            };
            let (own, before) = (own.reshape((windows * tokens, WIDTH))?, before.reshape((windows * tokens, WIDTH))?);
            let pairs = Tensor::cat(&[&own, &before], 1)?;
            let hidden = self.linear(1 + 2 * block, &pairs)?.relu()?;
            x = (own + self.linear(2 + 2 * block, &hidden)?)?;
        }
        let hidden = self.linear(LAYERS.len() - 2, &x)?.relu()?;
        debug_assert_eq!(hidden.dims()[1], HIDDEN);
        let outputs = self.linear(LAYERS.len() - 1, &hidden)?.reshape((windows * STEPS, OUTPUTS))?;
        let beliefs = candle_nn::ops::softmax(&outputs.narrow(1, QUANTILES, CANDIDATES)?, 1)?;
        let believed = (beliefs * candidates.reshape((windows * STEPS, CANDIDATES))?)?.sum_keepdim(1)?;
        let median = (outputs.narrow(1, MEDIAN, 1)? + believed)?;
        let below = softplus(&outputs.narrow(1, 0, MEDIAN)?)?.matmul(&self.inwards)?;
        let above = softplus(&outputs.narrow(1, MEDIAN + 1, MEDIAN)?)?.matmul(&self.outwards)?;
        let quantiles = Tensor::cat(&[&median.broadcast_sub(&below)?, &median, &median.broadcast_add(&above)?], 1)?;
        quantiles.reshape((windows, STEPS, QUANTILES))
    }
}

/// `ln(1 + e^x)`.
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}
