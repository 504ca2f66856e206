//! Training: quantile losses of windows that are never the same twice.
//!
//! Each step has fresh windows of fresh series, so nothing can be learnt by heart; the loss on windows of other series is worked out now
//! and then for the curve. AdamW (Loshchilov and Hutter, 2019), gradients cut to a norm of one, a learning rate that rises over the first
//! steps and falls as a cosine. The same settings give the same file, to the bit.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use eagre_kernels::conv_forecast::{LEVELS, QUANTILES};
use safetensors::tensor::{Dtype, TensorView};

use super::network::{Network, first_weights};
use super::samples::Batch;
use super::{CurvePoint, ForecasterSettings, SeriesSource, TrainedForecaster};
use crate::train::chance::Chance;

/// Series of held-out windows have numbers from here on.
const HELD_OUT_FIRST: u64 = 1 << 40;
const HELD_OUT_BATCH: usize = 64;
const WEIGHT_DECAY: f64 = 0.01;
/// Over so many steps, or a tenth of all, the learning rate rises.
const WARM_UP: usize = 200;
const GRADIENT_NORM: f64 = 1.0;

pub(super) fn train(
    settings: &ForecasterSettings,
    source: SeriesSource<'_>,
    told: &mut dyn FnMut(CurvePoint),
) -> Result<TrainedForecaster> {
    let mut chance = Chance::new(settings.seed);
    let weights = first_weights(&mut chance)?;
    let network = Network::new(&|name| Ok(weights[name].as_tensor().clone()))?;
    let levels = Tensor::from_vec(LEVELS.to_vec(), (1, 1, QUANTILES), &Device::Cpu)?;
    let mut held_out_chance = Chance::new(!settings.seed);
    let held_out: Vec<Batch> = (0..settings.held_out_windows.div_ceil(HELD_OUT_BATCH).max(1))
        .map(|batch| {
            let first = HELD_OUT_FIRST + (batch * HELD_OUT_BATCH) as u64;
            Batch::new(source, first, HELD_OUT_BATCH, &mut held_out_chance)
        })
        .collect::<Result<_>>()?;
    let held_out_loss = || -> Result<f64> {
        let mut sum = 0.0;
        for batch in &held_out {
            let quantiles = network.forward(batch.numbers(), batch.candidates())?;
            sum += f64::from(batch.loss(&quantiles, &levels)?.to_scalar::<f32>()?);
        }
        Ok(sum / held_out.len() as f64)
    };
    let params = ParamsAdamW { lr: 0.0, weight_decay: WEIGHT_DECAY, ..ParamsAdamW::default() };
    let vars: Vec<Var> = weights.values().cloned().collect();
    let mut optimizer = AdamW::new(vars.clone(), params)?;
    let mut curve = Vec::new();
    let mut tell = |step: usize, loss: f64, curve: &mut Vec<CurvePoint>| -> Result<()> {
        let point = CurvePoint { step, steps: settings.steps, loss, held_out_loss: held_out_loss()? };
        told(point);
        curve.push(point);
        Ok(())
    };
    let (mut sum, mut count) = (0.0, 0);
    let every = (settings.steps / settings.points.max(1)).max(1);
    for step in 1..=settings.steps {
        let first = (step as u64 - 1) * settings.batch_windows as u64;
        let batch = Batch::new(source, first, settings.batch_windows, &mut chance)?;
        let loss = batch.loss(&network.forward(batch.numbers(), batch.candidates())?, &levels)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(candle_core::Error::Msg(format!(
                "the loss of step {step} is {value}; lower the learning rate"
            )));
        }
        if step == 1 {
            tell(0, value, &mut curve)?;
        }
        let mut gradients = loss.backward()?;
        let mut squares = 0.0;
        for var in &vars {
            if let Some(gradient) = gradients.get(var) {
                squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let norm = squares.sqrt();
        if norm > GRADIENT_NORM {
            for var in &vars {
                if let Some(gradient) = gradients.remove(var) {
                    gradients.insert(var, (gradient * (GRADIENT_NORM / norm))?);
                }
            }
        }
        optimizer.set_learning_rate(settings.learning_rate * rate(step, settings.steps));
        optimizer.step(&gradients)?;
        (sum, count) = (sum + value, count + 1);
        if step.is_multiple_of(every) || step == settings.steps {
            tell(step, sum / f64::from(count), &mut curve)?;
            (sum, count) = (0.0, 0);
        }
    }
    let bytes = file(&weights, settings, &curve)?;
    Ok(TrainedForecaster { bytes, curve })
}

/// The share of the learning rate at a step.
fn rate(step: usize, steps: usize) -> f64 {
    let warm_up = WARM_UP.min(steps / 10).max(1);
    if step < warm_up {
        return step as f64 / warm_up as f64;
    }
    let done = (step - warm_up) as f64 / (steps - warm_up).max(1) as f64;
    0.5 * (1.0 + (std::f64::consts::PI * done).cos()).max(0.01)
}

fn file(weights: &BTreeMap<String, Var>, settings: &ForecasterSettings, curve: &[CurvePoint]) -> Result<Vec<u8>> {
    let failed = |error: safetensors::SafeTensorError| candle_core::Error::Msg(error.to_string());
    let mut data = Vec::new();
    for (name, var) in weights {
        let numbers = var.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        data.push((name, var.dims().to_vec(), bytes));
    }
    let mut views = Vec::new();
    for (name, shape, bytes) in &data {
        views.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(failed)?));
    }
    let card = serde_json::json!({
        "arch": "conv_forecast",
        "seed": settings.seed,
        "steps": settings.steps,
        "batch": settings.batch_windows,
        "learning_rate": settings.learning_rate,
        "held_out_loss": curve.last().map(|point| point.held_out_loss),
    });
    let metadata = HashMap::from([("eagre".to_owned(), card.to_string())]);
    safetensors::serialize(views, Some(metadata)).map_err(failed)
}
