//! Training: rows of a query become a network.
//!
//! `CREATE MODEL m WITH ('task' = 'classifier', 'label' = 'is_fraud', ..) AS SELECT ..` learns the label from the other columns by AdamW
//! (Loshchilov and Hutter, 2019), in batches, until the loss on rows that were held out has not become less for some epochs; the weights of the best
//! epoch are kept. Inputs are standardised by the rows that are learnt from, and what that takes is part of the file, so a model is asked about
//! plain columns. Rare labels weigh more ('class-weights' = 'balanced'): each label has the same say in the loss.
//!
//! The same rows and seed give the same model: rows of a query come in any order, so they are sorted first, and chance is a generator of our own
//! ([`chance`]) whose numbers no library's next version changes.

mod chance;
mod report;
mod rows;
mod sample;
mod settings;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

pub(crate) use self::chance::Chance;
use self::report::{Report, of_classes, of_numbers};
use self::rows::{Rows, Targets};
pub use self::sample::Sample;
pub use self::settings::{Task, TrainingSettings};
pub(crate) use self::settings::{number, seed};
use crate::error::{ModelError, Result};
use crate::network::{Arch, Card, Network, write};
use crate::options::{Definition, Made, check_as};
use crate::signature::Column;

/// A model that was trained.
#[derive(Debug)]
pub struct Trained {
    /// A safetensors file, with a [`Card`].
    pub bytes: Vec<u8>,
    /// What was learnt from and how good it is, for people.
    pub report: Vec<(String, String)>,
}

/// How far a training is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The epoch, from 1.
    pub epoch: usize,
    /// How many there are at most.
    pub epochs: usize,
    /// The mean loss over the rows that are learnt from.
    pub loss: f64,
    /// The loss on the rows that were held out.
    pub held_out_loss: f64,
}

/// Learns the column `'label'` of rows from the others. `told` is called after each epoch.
///
/// # Errors
/// Settings that cannot be, rows that nothing can be learnt from.
pub fn train(definition: &Definition, batch: &RecordBatch, told: &mut dyn FnMut(Progress)) -> Result<Trained> {
    learn(definition, batch, 0, told)
}

/// What is wrong with the options of a training, as far as they say it without its rows.
///
/// # Errors
/// The first of them.
pub fn check_training(definition: &Definition) -> Result<()> {
    checked_settings(definition).map(drop)
}

fn checked_settings(definition: &Definition) -> Result<TrainingSettings> {
    check_as(definition, Some(Made::Trained))?;
    let settings = TrainingSettings::of(definition)?;
    if let Some(labels) = definition.labels()? {
        definition.priorities(&labels)?;
    }
    Ok(settings)
}

/// As [`train`], of the rows that a sample has kept.
///
/// # Errors
/// As [`train`].
pub fn train_sample(definition: &Definition, sample: Sample, told: &mut dyn FnMut(Progress)) -> Result<Trained> {
    let (rows, seen) = sample.finish().map_err(|error| ModelError::Training {
        model: definition.name.clone(),
        message: format!("its rows cannot be put together: {error}"),
    })?;
    learn(definition, &rows, seen - rows.num_rows(), told)
}

fn learn(
    definition: &Definition,
    batch: &RecordBatch,
    not_sampled: usize,
    told: &mut dyn FnMut(Progress),
) -> Result<Trained> {
    let settings = checked_settings(definition)?;
    let rows = rows::read(definition, &settings, batch)?;
    if let Targets::Classes { labels, .. } = &rows.targets {
        // Before the training, and not when its model is opened.
        definition.priorities(labels)?;
    }
    let failed = |error: candle_core::Error| ModelError::Training {
        model: definition.name.clone(),
        message: format!("its training failed: {error}"),
    };
    let mut chance = Chance::new(settings.seed);
    let (learnt, held_out) = split(definition, &settings, &rows, &mut chance)?;
    let mut training = Training::new(definition, &settings, &rows, &learnt, &mut chance).map_err(failed)?;
    let mut report = Report::new(&settings, &rows, learnt.len(), held_out.len());
    if not_sampled > 0 {
        report.add("rows_not_sampled", not_sampled);
    }
    training.run(&settings, &rows, (&learnt, &held_out), &mut chance, &mut report, told).map_err(failed)?;
    let outputs = training.answers(&rows, &held_out).map_err(failed)?;
    match &rows.targets {
        Targets::Classes { labels, of } => of_classes(&mut report, labels, &held_out, of, &outputs),
        Targets::Numbers(numbers) => of_numbers(&mut report, &held_out, numbers, &training.in_units(&outputs)),
    }
    let card = Card {
        arch: Some(settings.arch),
        activation: Some(settings.hidden_activation),
        input: Some(rows.names.iter().map(|name| Column { name: name.clone(), sequence: rows.sequence }).collect()),
        output: matches!(rows.targets, Targets::Numbers(_)).then(|| settings.label.clone()),
        labels: match &rows.targets {
            Targets::Classes { labels, .. } => Some(labels.clone()),
            Targets::Numbers(_) => None,
        },
        training: report.lines.clone(),
    };
    let bytes = write(&training.file(), &card).map_err(failed)?;
    Ok(Trained { bytes, report: report.lines })
}

/// Which rows are learnt from and which are held out: of each label the same part.
fn split(
    definition: &Definition,
    settings: &TrainingSettings,
    rows: &Rows,
    chance: &mut Chance,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for row in 0..rows.len() {
        let group = match &rows.targets {
            Targets::Classes { of, .. } => of[row],
            Targets::Numbers(_) => 0,
        };
        groups.entry(group).or_default().push(row);
    }
    let (mut learnt, mut held_out) = (Vec::new(), Vec::new());
    for (group, mut members) in groups {
        chance.shuffle(&mut members);
        let out = ((members.len() as f64 * settings.held_out).round() as usize).max(1);
        if members.len() <= out {
            let of = match &rows.targets {
                Targets::Classes { labels, .. } => format!(" with the label '{}'", labels[group as usize]),
                Targets::Numbers(_) => String::new(),
            };
            return Err(ModelError::Training {
                model: definition.name.clone(),
                message: format!(
                    "there are {} rows{of}, and some must be learnt from and others held out; give it more, or leave that label out",
                    members.len()
                ),
            });
        }
        learnt.extend_from_slice(&members[out..]);
        held_out.extend_from_slice(&members[..out]);
    }
    Ok((learnt, held_out))
}

/// A network whose weights change.
struct Training {
    weights: BTreeMap<String, Var>,
    /// What is part of the file and does not change: means and deviations.
    fixed: BTreeMap<String, Tensor>,
    network: Network,
    /// Mean and deviation of a regressor's numbers.
    units: (f64, f64),
    /// By label.
    label_weights: Vec<f32>,
}

impl Training {
    fn new(
        definition: &Definition,
        settings: &TrainingSettings,
        rows: &Rows,
        learnt: &[usize],
        chance: &mut Chance,
    ) -> candle_core::Result<Self> {
        let read = if settings.arch == Arch::Gru { 1 } else { rows.width() };
        let (outputs, units, label_weights) = match &rows.targets {
            Targets::Classes { labels, of } => {
                (labels.len(), (0.0, 1.0), settings.weights_of(labels.len(), learnt, of))
            }
            Targets::Numbers(numbers) => {
                let (mean, deviation) = mean_and_deviation(learnt.iter().map(|row| numbers[*row]));
                (1, (mean, deviation), Vec::new())
            }
        };
        let mut shapes: Vec<(String, usize, usize)> = Vec::new();
        let mut before = read;
        if settings.arch == Arch::Gru {
            let width = settings.hidden[0];
            shapes.push(("gru.weight_ih_l0".into(), 3 * width, read));
            shapes.push(("gru.weight_hh_l0".into(), 3 * width, width));
            before = width;
        }
        let layers = match settings.arch {
            Arch::Mlp => settings.hidden.as_slice(),
            Arch::Gru => &settings.hidden[1..],
            Arch::Linear | Arch::Logistic => &[],
        };
        for (index, width) in layers.iter().chain([&outputs]).enumerate() {
            shapes.push((format!("layers.{index}.weight"), *width, before));
            before = *width;
        }
        let mut weights = BTreeMap::new();
        for (name, rows, columns) in shapes {
            // As PyTorch begins a layer: uniform within 1 / sqrt(inputs).
            let inputs = if name.contains("_l0") { settings.hidden[0] } else { columns };
            let bound = 1.0 / (inputs as f32).sqrt();
            let mut uniform = |count: usize| -> Vec<f32> {
                (0..count).map(|_| (2.0 * chance.uniform() as f32 - 1.0) * bound).collect()
            };
            let (weight, bias) = (uniform(rows * columns), uniform(rows));
            let bias_name = name.replace("weight", "bias");
            weights.insert(name, Var::from_tensor(&Tensor::from_vec(weight, (rows, columns), &Device::Cpu)?)?);
            weights.insert(bias_name, Var::from_tensor(&Tensor::from_vec(bias, rows, &Device::Cpu)?)?);
        }
        let mut fixed = BTreeMap::new();
        let (means, deviations): (Vec<f32>, Vec<f32>) = (0..read)
            .map(|place| {
                let values = learnt.iter().flat_map(|row| rows.numbers[*row].iter().skip(place).step_by(read));
                let (mean, deviation) = mean_and_deviation(values.map(|value| f64::from(*value)));
                (mean as f32, deviation as f32)
            })
            .unzip();
        fixed.insert("input.mean".to_owned(), Tensor::from_vec(means, read, &Device::Cpu)?);
        fixed.insert("input.deviation".to_owned(), Tensor::from_vec(deviations, read, &Device::Cpu)?);
        let tensors =
            weights.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).chain(fixed.clone()).collect();
        let network = Network::build(definition, settings.arch, settings.hidden_activation, tensors);
        let network = network.map_err(|error| candle_core::Error::Msg(error.to_string()))?;
        if matches!(rows.targets, Targets::Numbers(_)) {
            fixed.insert("output.mean".to_owned(), Tensor::from_vec(vec![units.0 as f32], 1, &Device::Cpu)?);
            fixed.insert("output.deviation".to_owned(), Tensor::from_vec(vec![units.1 as f32], 1, &Device::Cpu)?);
        }
        Ok(Self { weights, fixed, network, units, label_weights })
    }

    /// Learns until it gets no better.
    fn run(
        &mut self,
        settings: &TrainingSettings,
        rows: &Rows,
        (learnt, held_out): (&[usize], &[usize]),
        chance: &mut Chance,
        report: &mut Report,
        told: &mut dyn FnMut(Progress),
    ) -> candle_core::Result<()> {
        let params = ParamsAdamW { lr: settings.learning_rate, ..ParamsAdamW::default() };
        let mut optimizer = AdamW::new(self.weights.values().cloned().collect(), params)?;
        let mut order = learnt.to_vec();
        let mut best = (f64::INFINITY, 0, self.copy()?);
        for epoch in 1..=settings.epochs {
            chance.shuffle(&mut order);
            let (mut sum, mut weight) = (0.0, 0.0);
            for batch in rows.batches(&order, settings.batch_rows_of(learnt.len())) {
                let (loss, share) = self.loss(rows, &batch)?;
                optimizer.backward_step(&loss)?;
                sum += f64::from(loss.to_scalar::<f32>()?) * share;
                weight += share;
            }
            let loss = sum / weight;
            let held_out_loss = self.mean_loss(rows, held_out)?;
            told(Progress { epoch, epochs: settings.epochs, loss, held_out_loss });
            report.epochs = epoch;
            if held_out_loss < best.0 {
                best = (held_out_loss, epoch, self.copy()?);
            }
            if epoch - best.1 >= settings.patience || !loss.is_finite() {
                break;
            }
        }
        if best.1 == 0 {
            return Err(candle_core::Error::Msg(
                "the loss is no number from the first epoch on; lower 'learning-rate'".into(),
            ));
        }
        for (var, tensor) in self.weights.values().zip(&best.2) {
            var.set(tensor)?;
        }
        (report.best_epoch, report.loss) = (best.1, best.0);
        Ok(())
    }

    fn copy(&self) -> candle_core::Result<Vec<Tensor>> {
        self.weights.values().map(|var| var.as_tensor().copy()).collect()
    }

    /// The loss of a batch, and how much it counts among others.
    fn loss(&self, rows: &Rows, batch: &[usize]) -> candle_core::Result<(Tensor, f64)> {
        let outputs = self.network.forward(&rows.tensor(batch)?)?;
        match &rows.targets {
            Targets::Classes { of, .. } => {
                let classes: Vec<u32> = batch.iter().map(|row| of[*row]).collect();
                let weights: Vec<f32> = classes.iter().map(|class| self.label_weights[*class as usize]).collect();
                let share: f32 = weights.iter().sum();
                let classes = Tensor::from_vec(classes, (batch.len(), 1), &Device::Cpu)?;
                let weights = Tensor::from_vec(weights, batch.len(), &Device::Cpu)?;
                let picked = candle_nn::ops::log_softmax(&outputs, 1)?.gather(&classes, 1)?.squeeze(1)?;
                Ok((((picked * weights)?.sum_all()? / -f64::from(share))?, f64::from(share)))
            }
            Targets::Numbers(numbers) => {
                let (mean, deviation) = self.units;
                let numbers: Vec<f32> = batch.iter().map(|row| ((numbers[*row] - mean) / deviation) as f32).collect();
                let numbers = Tensor::from_vec(numbers, (batch.len(), 1), &Device::Cpu)?;
                Ok((candle_nn::loss::mse(&outputs, &numbers)?, batch.len() as f64))
            }
        }
    }

    fn mean_loss(&self, rows: &Rows, of: &[usize]) -> candle_core::Result<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for batch in rows.batches(of, 1_024) {
            let (loss, share) = self.loss(rows, &batch)?;
            sum += f64::from(loss.to_scalar::<f32>()?) * share;
            weight += share;
        }
        Ok(sum / weight)
    }

    /// The last layer's numbers for these rows, in their order.
    fn answers(&self, rows: &Rows, of: &[usize]) -> candle_core::Result<Vec<Vec<f32>>> {
        let mut places: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        for batch in rows.batches(of, 1_024) {
            let outputs = self.network.forward(&rows.tensor(&batch)?)?.to_vec2::<f32>()?;
            places.extend(batch.into_iter().zip(outputs));
        }
        Ok(of.iter().map(|row| places.remove(row).unwrap_or_default()).collect())
    }

    /// A regressor's outputs in the units of the label.
    fn in_units(&self, outputs: &[Vec<f32>]) -> Vec<f64> {
        outputs
            .iter()
            .map(|output| f64::from(output.first().copied().unwrap_or(f32::NAN)) * self.units.1 + self.units.0)
            .collect()
    }

    fn file(&self) -> BTreeMap<String, Tensor> {
        let weights = self.weights.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        weights.chain(self.fixed.clone()).collect()
    }
}

/// Mean and deviation; what is always the same has the deviation 1, so that it stays 0.
fn mean_and_deviation(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, if variance.sqrt() > 1e-9 * mean.abs().max(1e-9) { variance.sqrt() } else { 1.0 })
}

#[cfg(test)]
mod tests;
