//! What `WITH ('learn' = 'online', ..)` says.

use crate::error::{ModelError, Result};
use crate::network::{Arch, Hidden};
use crate::options::Definition;
use crate::train::{Task, number, seed};

/// More would be slow a row, and are the work of a model that is trained at once.
const HIDDEN_MAX: f64 = 1_024.0;
const ROWS_MAX: f64 = 1e6;

/// How large a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) inputs: usize,
    /// Numbers before the last function: one for two labels or a regressor.
    pub(super) outputs: usize,
    /// Units between; 0: there is no such layer.
    pub(super) hidden: usize,
}

/// How far a row moves the weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub(super) learning_rate: f64,
    pub(super) l2: f64,
    /// What is left of earlier rows' weight after a row; 1: all.
    pub(super) decay: f64,
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) task: Task,
    pub(super) arch: Arch,
    pub(super) hidden: usize,
    pub(super) activation: Hidden,
    pub(super) steps: Steps,
    pub(super) seed: u64,
    pub(super) window_rows: u64,
    pub(super) reference_rows: u64,
}

/// Whether a definition is that of a model that goes on learning.
pub(super) fn is_online(definition: &Definition) -> Result<bool> {
    Ok(definition.word("learn", &[("online", true), ("once", false)])?.unwrap_or(false))
}

impl Settings {
    pub(super) fn of(definition: &Definition) -> Result<Self> {
        let arch = definition.word("arch", &Arch::ALL)?.ok_or_else(|| ModelError::MissingOption {
            model: definition.name.clone(),
            option: "arch",
            meaning: "what learns, 'logistic', 'linear' or 'mlp'",
            example: "logistic",
        })?;
        let said = definition.word("task", &Task::ALL)?;
        let task = match (arch, said) {
            (Arch::Gru, _) => {
                return Err(definition.bad("arch", "gru", "a row at a time 'logistic', 'linear' and 'mlp' are learnt"));
            }
            (Arch::Logistic, Some(Task::Regressor)) => {
                return Err(definition.bad(
                    "arch",
                    "logistic",
                    "it gives probabilities, and a regressor gives numbers: 'linear'",
                ));
            }
            (Arch::Linear, Some(Task::Classifier)) => {
                return Err(definition.bad(
                    "arch",
                    "linear",
                    "it gives numbers, and a classifier gives probabilities: 'logistic'",
                ));
            }
            (Arch::Logistic, _) => Task::Classifier,
            (Arch::Linear, _) => Task::Regressor,
            (Arch::Mlp, Some(task)) => task,
            (Arch::Mlp, None) => {
                return Err(ModelError::MissingOption {
                    model: definition.name.clone(),
                    option: "task",
                    meaning: "what is learnt, a label ('classifier') or a number ('regressor')",
                    example: "classifier",
                });
            }
        };
        let is_mlp = arch == Arch::Mlp;
        for option in ["hidden", "activation"] {
            if let Some(value) = definition.option(option).filter(|_| !is_mlp) {
                return Err(definition.bad(option, value, "an 'mlp' has a hidden layer, and the others have none"));
            }
        }
        let activation = match definition.hidden()? {
            None => Hidden::Tanh,
            Some(activation @ (Hidden::Tanh | Hidden::Relu)) => activation,
            Some(_) => {
                let value = definition.option("activation").unwrap_or_default();
                return Err(definition.bad("activation", value, "a row at a time 'tanh' and 'relu' are learnt"));
            }
        };
        let hidden = match definition.option("hidden") {
            Some(text) if text.contains(',') => {
                return Err(definition.bad("hidden", text, "a row at a time one hidden layer is learnt: one width"));
            }
            _ if is_mlp => number(definition, "hidden", 16.0, 1.0..=HIDDEN_MAX)? as usize,
            _ => 0,
        };
        let decay = match definition.option("half-life").map(str::trim) {
            Some(none) if none.eq_ignore_ascii_case("none") => 1.0,
            _ => 0.5f64.powf(1.0 / number(definition, "half-life", 10_000.0, 1.0..=1e12)?),
        };
        let steps = Steps {
            learning_rate: number(definition, "learning-rate", if is_mlp { 0.01 } else { 0.5 }, 1e-9..=10.0)?,
            l2: number(definition, "l2", 0.0, 0.0..=1.0)?,
            decay,
        };
        let window_rows = number(definition, "window-rows", 1_000.0, 2.0..=ROWS_MAX)? as u64;
        Ok(Self {
            task,
            arch,
            hidden,
            activation,
            steps,
            seed: seed(definition)?,
            window_rows,
            reference_rows: number(definition, "reference-rows", 1_000.0, 2.0..=ROWS_MAX)? as u64,
        })
    }
}
