//! The options of `CREATE MODEL`.

use arrow::datatypes::DataType;

use crate::answer::Activation;
use crate::error::{ModelError, Result};
use crate::network::Hidden;
use crate::online::is_online;

/// An option of `CREATE MODEL`, for `SHOW` and checks.
#[derive(Debug, Clone, Copy)]
pub struct ModelOption {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub values: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

const fn option(name: &'static str, values: &'static str, meaning: &'static str) -> ModelOption {
    ModelOption { name, values, meaning }
}

/// All of them.
pub const OPTIONS: &[ModelOption] = &[
    option("format", "safetensors | onnx", "what the file is"),
    option("path", "a file", "where it is"),
    option(
        "arch",
        "linear | logistic | mlp | gru",
        "what the tensors of a safetensors file are; a file trained here says so itself",
    ),
    option(
        "activation",
        "relu | tanh | sigmoid | gelu | silu",
        "what follows the hidden layers of an mlp or gru (relu)",
    ),
    option("output.activation", "none | sigmoid | softmax", "what follows the last layer"),
    option("output.name", "a name", "which output of an ONNX graph is the answer, where it has several"),
    option("labels", "a, b, c", "makes it a classifier: the label of each output, or of the two sides of one output"),
    option("priorities", "a = 1, b = 10", "how urgent each label is; by default its place in 'labels', from 0"),
    option("provider", "http", "who answers, where it is no file"),
    option("url", "an URL", "where the service is"),
    option("payload", "openai | sagemaker | vertex | azureml", "how it is spoken to"),
    option("remote-model", "a name", "what the model is called there ('payload' = 'openai')"),
    option("system-prompt", "a text", "what stands before each row ('payload' = 'openai')"),
    option("api-key", "a text", "sent as `Authorization: Bearer ..`; it is part of the statement, so better in a file"),
    option("api-key.file", "a file", "holds the key"),
    option("timeout", "a duration", "how long a request may take (30 s)"),
    option("retries", "a count", "how often a request that failed is made again (2)"),
    option("max-concurrency", "a count", "requests at once, for each shard (4)"),
    option("cache.max-rows", "a count", "how many answers are held from step to step; by default none"),
    option("cache.expire", "a duration", "how old a held answer may be"),
    option(
        "learn",
        "once | online",
        "whether the rows of `AS SELECT ..` are learnt once, or as they come, for as long as they do (once)",
    ),
    option("task", "classifier | regressor", "what is learnt from the rows of `AS SELECT ..`, a label or a number"),
    option("label", "a column", "what is learnt; the other columns are the inputs"),
    option(
        "hidden",
        "32, 16",
        "widths of the hidden layers of what is trained; of a gru the first is its own (16, 16; a gru: 16; online: 16)",
    ),
    option("epochs", "a count", "the most epochs (100)"),
    option(
        "patience",
        "a count",
        "a training ends after so many epochs that make the loss on the held-out rows no less (10)",
    ),
    option(
        "batch-rows",
        "a count",
        "rows for each step of the optimiser (8 to 64, by how many there are), or for each request (64)",
    ),
    option("learning-rate", "a number", "of AdamW (0.01); online of Adam (mlp: 0.01) or AdaGrad (0.5)"),
    option("l2", "a number", "online: how much weights are drawn to 0 (0)"),
    option(
        "half-life",
        "a count of rows | none",
        "online: after how many rows what was seen of scales and slopes counts half (10000)",
    ),
    option("window-rows", "a count", "online: rows for each row of `m.drift` (1000)"),
    option(
        "reference-rows",
        "a count",
        "online: the first rows, with which the inputs of later ones are compared (1000)",
    ),
    option(
        "max-rows",
        "a count",
        "of more rows an even sample is learnt from, so that no more are held in memory than twice as many (1000000)",
    ),
    option("held-out", "a part", "which part of the rows is held out to measure by (0.2)"),
    option(
        "class-weights",
        "balanced | none",
        "whether rare labels weigh more, so that each label has the same say (balanced)",
    ),
    option("seed", "a whole number", "of all chance in a training (0)"),
];

/// What `CREATE MODEL` said.
#[derive(Debug, Clone, Default)]
pub struct Definition {
    /// The model's name, as created.
    pub name: String,
    /// Names and types of `INPUT (..)`.
    pub input: Option<Vec<(String, DataType)>>,
    /// Names and types of `OUTPUT (..)`.
    pub output: Option<Vec<(String, DataType)>>,
    /// `WITH (..)`.
    pub options: Vec<(String, String)>,
    /// Of a model that goes on learning from a stream: the type of what is learnt. Its `input` is what it is learnt from.
    pub label: Option<DataType>,
}

/// What a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Safetensors,
    Onnx,
}

/// Refuses options that models do not have, and another word for how they learn.
///
/// # Errors
/// The first of them.
pub fn check(definition: &Definition) -> Result<()> {
    for (name, _) in &definition.options {
        if OPTIONS.iter().any(|option| option.name.eq_ignore_ascii_case(name)) {
            continue;
        }
        let names = OPTIONS.iter().map(|option| option.name);
        let nearest = names.min_by_key(|known| strsim::levenshtein(known, name)).unwrap_or("format");
        return Err(ModelError::UnknownOption { model: definition.name.clone(), option: name.clone(), nearest });
    }
    is_online(definition).map(|_| ())
}

impl Definition {
    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().find(|(option, _)| option.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether a service answers, and no file.
    ///
    /// # Errors
    /// Another provider.
    pub fn is_remote(&self) -> Result<bool> {
        Ok(self.word("provider", &[("http", true)])?.unwrap_or(false))
    }

    /// Where the file is.
    ///
    /// # Errors
    /// It is not said.
    pub fn path(&self) -> Result<&str> {
        self.option("path").ok_or_else(|| ModelError::MissingOption {
            model: self.name.clone(),
            option: "path",
            meaning: "where the file is",
            example: "model.safetensors",
        })
    }

    /// `'format'`, or what the end of the path says.
    pub(crate) fn format(&self) -> Result<Format> {
        let path = self.path()?;
        let said = self.option("format").map(str::to_lowercase);
        let extension = path.rsplit_once('.').map(|(_, end)| end.to_lowercase());
        match (said.as_deref(), extension.as_deref()) {
            (Some("safetensors"), _) | (None, Some("safetensors")) => Ok(Format::Safetensors),
            (Some("onnx"), _) | (None, Some("onnx")) => Ok(Format::Onnx),
            (Some(other), _) => Err(self.bad("format", other, "it is 'safetensors' or 'onnx'")),
            (None, _) => Err(ModelError::MissingOption {
                model: self.name.clone(),
                option: "format",
                meaning: "what the file is, 'safetensors' or 'onnx'",
                example: "safetensors",
            }),
        }
    }

    pub(crate) fn hidden(&self) -> Result<Option<Hidden>> {
        self.word("activation", &Hidden::ALL)
    }

    pub(crate) fn activation(&self) -> Result<Option<Activation>> {
        self.word("output.activation", &Activation::ALL)
    }

    /// An option that is one of some words.
    pub(crate) fn word<T: Copy>(&self, option: &'static str, words: &[(&'static str, T)]) -> Result<Option<T>> {
        let Some(value) = self.option(option) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value.trim()));
        let known = || words.iter().map(|(word, _)| format!("'{word}'")).collect::<Vec<_>>().join(", ");
        found
            .map(|(_, meaning)| Some(*meaning))
            .ok_or_else(|| self.bad(option, value, &format!("it is one of {}", known())))
    }

    /// `'labels'`.
    pub(crate) fn labels(&self) -> Result<Option<Vec<String>>> {
        let Some(text) = self.option("labels") else { return Ok(None) };
        let labels: Vec<String> = text.split(',').map(|label| label.trim().to_owned()).collect();
        let twice = (0..labels.len()).any(|index| labels[..index].contains(&labels[index]));
        if labels.len() < 2 || twice || labels.iter().any(String::is_empty) {
            return Err(self.bad("labels", text, "it is two or more different names, separated by commas"));
        }
        Ok(Some(labels))
    }

    /// `'priorities'`, by label.
    pub(crate) fn priorities(&self, labels: &[String]) -> Result<Vec<f64>> {
        let mut priorities: Vec<f64> = (0..labels.len()).map(|place| place as f64).collect();
        let Some(text) = self.option("priorities") else { return Ok(priorities) };
        let expected = || {
            let example: Vec<String> =
                labels.iter().zip(1..).map(|(label, number)| format!("{label} = {number}")).collect();
            self.bad(
                "priorities",
                text,
                &format!("it is a number for labels of the model, such as '{}'", example.join(", ")),
            )
        };
        priorities.fill(0.0);
        for part in text.split(',') {
            let (label, number) = part.split_once('=').ok_or_else(expected)?;
            let place = labels.iter().position(|known| known == label.trim()).ok_or_else(expected)?;
            let number: f64 = number.trim().parse().map_err(|_| expected())?;
            if !number.is_finite() {
                return Err(expected());
            }
            priorities[place] = number;
        }
        Ok(priorities)
    }

    pub(crate) fn bad(&self, option: &str, value: &str, expected: &str) -> ModelError {
        ModelError::BadValue {
            model: self.name.clone(),
            option: option.to_owned(),
            value: value.to_owned(),
            expected: expected.to_owned(),
        }
    }

    pub(crate) fn shape(&self, message: impl Into<String>) -> ModelError {
        ModelError::Shape { model: self.name.clone(), message: message.into() }
    }

    pub(crate) fn damaged(&self, format: &'static str, reason: impl std::fmt::Display) -> ModelError {
        let path = self.option("path").unwrap_or_default().to_owned();
        ModelError::Damaged { model: self.name.clone(), path, format, reason: reason.to_string() }
    }
}
