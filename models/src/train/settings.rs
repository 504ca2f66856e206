//! What `WITH (..)` says of a training.

use crate::error::{ModelError, Result};
use crate::network::{Arch, Hidden};
use crate::options::Definition;

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Which of some labels a row has.
    Classifier,
    /// A number.
    Regressor,
}

impl Task {
    pub(crate) const ALL: [(&'static str, Self); 2] =
        [("classifier", Self::Classifier), ("regressor", Self::Regressor)];
}

/// How a model is trained.
#[derive(Debug, Clone)]
pub struct TrainingSettings {
    /// What is learnt.
    pub task: Task,
    /// What learns it.
    pub arch: Arch,
    /// The column that is learnt.
    pub label: String,
    /// The widths of hidden layers; of a gru the first is its own.
    pub hidden: Vec<usize>,
    /// What follows them.
    pub hidden_activation: Hidden,
    /// The most epochs.
    pub epochs: usize,
    /// After how many epochs without progress it ends.
    pub patience: usize,
    /// Rows a step of the optimiser; `None`: so many that an epoch has some steps, also where there are few rows.
    pub batch_rows: Option<usize>,
    /// Of AdamW.
    pub learning_rate: f64,
    /// Which part of the rows is held out.
    pub held_out: f64,
    /// Whether rare labels weigh more.
    pub balanced: bool,
    /// Of all chance.
    pub seed: u64,
}

impl TrainingSettings {
    /// # Errors
    /// What must be said and is not; values that cannot be.
    pub(super) fn of(definition: &Definition) -> Result<Self> {
        let missing = |option: &'static str, meaning: &'static str, example: &'static str| ModelError::MissingOption {
            model: definition.name.clone(),
            option,
            meaning,
            example,
        };
        let task = definition
            .word("task", &Task::ALL)?
            .ok_or_else(|| missing("task", "what is learnt, a label or a number", "classifier"))?;
        let arch = definition.word("arch", &Arch::ALL)?.ok_or_else(|| missing("arch", "what learns it", "mlp"))?;
        let label = definition
            .option("label")
            .ok_or_else(|| missing("label", "which column of the query is learnt", "is_fraud"))?;
        if (task, arch) == (Task::Regressor, Arch::Logistic) {
            return Err(definition.bad(
                "arch",
                "logistic",
                "it gives probabilities, and a regressor gives numbers: 'linear'",
            ));
        }
        for option in ["hidden", "activation"] {
            let said = definition.option(option).filter(|_| matches!(arch, Arch::Linear | Arch::Logistic));
            if let Some(value) = said {
                return Err(definition.bad(
                    option,
                    value,
                    "an 'mlp' and a 'gru' have hidden layers, and the others none",
                ));
            }
        }
        let is_said = definition.word("format", &[("safetensors", ())])?.is_some();
        let path = definition.option("path").filter(|path| !is_said && path.to_lowercase().ends_with(".onnx"));
        if let Some(path) = path {
            return Err(definition.bad("path", path, "what is trained is written as 'safetensors'"));
        }
        let hidden = match definition.option("hidden") {
            None if arch == Arch::Gru => vec![16],
            None => vec![16, 16],
            Some(text) => {
                let widths: Option<Vec<usize>> = text
                    .split(',')
                    .map(|width| width.trim().parse().ok().filter(|width| (1..=4_096).contains(width)))
                    .collect();
                widths.ok_or_else(|| {
                    definition.bad("hidden", text, "it is the widths of the hidden layers, such as '32, 16'")
                })?
            }
        };
        let settings = Self {
            task,
            arch,
            label: label.to_owned(),
            hidden,
            hidden_activation: definition.hidden()?.unwrap_or(Hidden::Relu),
            epochs: number(definition, "epochs", 100.0, 1.0..=1e6)? as usize,
            patience: number(definition, "patience", 10.0, 1.0..=1e6)? as usize,
            batch_rows: match definition.option("batch-rows") {
                None => None,
                Some(_) => Some(number(definition, "batch-rows", 64.0, 1.0..=1e6)? as usize),
            },
            learning_rate: number(definition, "learning-rate", 0.01, 1e-9..=10.0)?,
            held_out: number(definition, "held-out", 0.2, 0.01..=0.9)?,
            balanced: definition.word("class-weights", &[("balanced", true), ("none", false)])?.unwrap_or(true),
            seed: seed(definition)?,
        };
        Ok(settings)
    }

    /// Rows a step of the optimiser, where so many are learnt from.
    pub(super) fn batch_rows_of(&self, learnt: usize) -> usize {
        self.batch_rows.unwrap_or_else(|| (learnt / 32).clamp(8, 64))
    }

    /// How much a row of each label counts.
    pub(super) fn weights_of(&self, labels: usize, learnt: &[usize], of: &[u32]) -> Vec<f32> {
        if !self.balanced {
            return vec![1.0; labels];
        }
        let mut counts = vec![0usize; labels];
        learnt.iter().for_each(|row| counts[of[*row] as usize] += 1);
        counts.into_iter().map(|count| learnt.len() as f32 / (labels as f32 * count.max(1) as f32)).collect()
    }
}

/// `'seed'`, or 0.
pub(crate) fn seed(definition: &Definition) -> Result<u64> {
    match definition.option("seed") {
        None => Ok(0),
        Some(text) => text.trim().parse().map_err(|_| definition.bad("seed", text, "it is a whole number")),
    }
}

/// An option that is a number in a range.
pub(crate) fn number(
    definition: &Definition,
    option: &str,
    default: f64,
    range: std::ops::RangeInclusive<f64>,
) -> Result<f64> {
    let Some(text) = definition.option(option) else { return Ok(default) };
    let number: Option<f64> = text.trim().parse().ok();
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        definition.bad(
            option,
            text,
            &format!("it is a number from {} to {}, and {default} where it is not said", range.start(), range.end()),
        )
    })
}
