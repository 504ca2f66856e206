//! The options of `CREATE MODEL`.

use std::collections::BTreeMap;

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
    /// What it says something of.
    of: &'static [Made],
}

/// How a model comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// Read from a safetensors file.
    Safetensors,
    /// Read from an ONNX file.
    Onnx,
    /// Trained with the rows of a query.
    Trained,
    /// Learnt from the rows of a stream as they come.
    Online,
    /// A service that is asked.
    Http,
}

impl Made {
    fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors files",
            Self::Onnx => "ONNX files",
            Self::Trained => "models that are trained once (`AS SELECT ..`)",
            Self::Online => "models that go on learning ('learn' = 'online')",
            Self::Http => "services ('provider' = 'http')",
        }
    }

    /// What a definition makes; `None`: what its file is is not said.
    fn of(definition: &Definition) -> Result<Option<Self>> {
        if is_online(definition)? {
            return Ok(Some(Self::Online));
        }
        if definition.is_remote()? {
            return Ok(Some(Self::Http));
        }
        if definition.option("task").is_some() {
            return Ok(Some(Self::Trained));
        }
        match definition.format() {
            Ok(Format::Safetensors) => Ok(Some(Self::Safetensors)),
            Ok(Format::Onnx) => Ok(Some(Self::Onnx)),
            Err(ModelError::MissingOption { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

const fn option(name: &'static str, of: &'static [Made], values: &'static str, meaning: &'static str) -> ModelOption {
    ModelOption { name, values, meaning, of }
}

const FILES: &[Made] = &[Made::Safetensors, Made::Onnx, Made::Trained];
const READ: &[Made] = &[Made::Safetensors, Made::Onnx];
const ALL: &[Made] = &[Made::Safetensors, Made::Onnx, Made::Trained, Made::Online, Made::Http];
const NETWORKS: &[Made] = &[Made::Safetensors, Made::Trained, Made::Online];
const LEARNT: &[Made] = &[Made::Trained, Made::Online];
const TRAINED: &[Made] = &[Made::Trained];
const ONLINE: &[Made] = &[Made::Online];
const SERVICES: &[Made] = &[Made::Http];

/// All of them.
pub const OPTIONS: &[ModelOption] = &[
    option("format", FILES, "safetensors | onnx", "what the file is"),
    option("path", FILES, "a file", "where it is"),
    option(
        "arch",
        NETWORKS,
        "linear | logistic | mlp | gru",
        "what the tensors of a safetensors file are; a file trained here says so itself",
    ),
    option(
        "activation",
        NETWORKS,
        "relu | tanh | sigmoid | gelu | silu",
        "what follows the hidden layers of an mlp or gru (relu)",
    ),
    option("output.activation", READ, "none | sigmoid | softmax", "what follows the last layer"),
    option("output.name", &[Made::Onnx], "a name", "which output of an ONNX graph is the answer, where it has several"),
    option(
        "labels",
        ALL,
        "a, b, c | [\"a\", \"b, c\"]",
        "makes it a classifier: the label of each output, or of the two sides of one output",
    ),
    option(
        "priorities",
        ALL,
        "a = 1, b = 10 | {\"a\": 1, \"b, c\": 10}",
        "how urgent each label is; by default its place in 'labels', from 0",
    ),
    option("provider", SERVICES, "http", "who answers, where it is no file"),
    option("url", SERVICES, "an URL", "where the service is"),
    option("payload", SERVICES, "openai | sagemaker | vertex | azureml", "how it is spoken to"),
    option("remote-model", SERVICES, "a name", "what the model is called there ('payload' = 'openai')"),
    option("system-prompt", SERVICES, "a text", "what stands before each row ('payload' = 'openai')"),
    option(
        "api-key",
        SERVICES,
        "a text",
        "sent as `Authorization: Bearer ..`; it is part of the statement, so better in a file",
    ),
    option("api-key.file", SERVICES, "a file", "holds the key"),
    option("timeout", SERVICES, "a duration", "how long a request may take (30 s)"),
    option("retries", SERVICES, "a count", "how often a request that failed is made again (2)"),
    option("max-concurrency", SERVICES, "a count", "requests at once, for each shard (4)"),
    option("cache.max-rows", SERVICES, "a count", "how many answers are held from step to step; by default none"),
    option("cache.expire", SERVICES, "a duration", "how old a held answer may be"),
    option(
        "learn",
        ALL,
        "once | online",
        "whether the rows of `AS SELECT ..` are learnt once, or as they come, for as long as they do (once)",
    ),
    option(
        "task",
        LEARNT,
        "classifier | regressor",
        "what is learnt from the rows of `AS SELECT ..`, a label or a number",
    ),
    option("label", LEARNT, "a column", "what is learnt; the other columns are the inputs"),
    option(
        "hidden",
        LEARNT,
        "32, 16",
        "widths of the hidden layers of what is trained; of a gru the first is its own (16, 16; a gru: 16; online: 16)",
    ),
    option("epochs", TRAINED, "a count", "the most epochs (100)"),
    option(
        "patience",
        TRAINED,
        "a count",
        "a training ends after so many epochs that make the loss on the held-out rows no less (10)",
    ),
    option(
        "batch-rows",
        &[Made::Trained, Made::Http],
        "a count",
        "rows for each step of the optimiser (8 to 64, by how many there are), or for each request (64)",
    ),
    option("learning-rate", LEARNT, "a number", "of AdamW (0.01); online of Adam (mlp: 0.01) or AdaGrad (0.5)"),
    option("l2", ONLINE, "a number", "online: how much weights are drawn to 0 (0)"),
    option(
        "half-life",
        ONLINE,
        "a count of rows | none",
        "online: after how many rows what was seen of scales and slopes counts half (10000)",
    ),
    option("window-rows", ONLINE, "a count", "online: rows for each row of `m.drift` (1000)"),
    option(
        "reference-rows",
        ONLINE,
        "a count",
        "online: the first rows, with which the inputs of later ones are compared (1000)",
    ),
    option(
        "max-rows",
        TRAINED,
        "a count",
        "of more rows an even sample is learnt from, so that no more are held in memory than twice as many (1000000)",
    ),
    option("held-out", TRAINED, "a part", "which part of the rows is held out to measure by (0.2)"),
    option(
        "class-weights",
        TRAINED,
        "balanced | none",
        "whether rare labels weigh more, so that each label has the same say (balanced)",
    ),
    option("seed", LEARNT, "a whole number", "of all chance in a training (0)"),
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

/// Refuses options that models do not have, or not those that come to be as this one does.
///
/// # Errors
/// The first of them.
pub fn check(definition: &Definition) -> Result<()> {
    check_as(definition, None)
}

/// As [`check`], of a model that comes to be so, whatever is missing that would say it.
pub(crate) fn check_as(definition: &Definition, made: Option<Made>) -> Result<()> {
    for (name, _) in &definition.options {
        if OPTIONS.iter().any(|option| option.name.eq_ignore_ascii_case(name)) {
            continue;
        }
        let names = OPTIONS.iter().map(|option| option.name);
        let alike = |known: &&str| strsim::normalized_damerau_levenshtein(known, &name.to_lowercase());
        let nearest = names.filter(|known| alike(known) >= 0.5).max_by(|a, b| alike(a).total_cmp(&alike(b)));
        return Err(ModelError::UnknownOption { model: definition.name.clone(), option: name.clone(), nearest });
    }
    let Some(made) = made.or(Made::of(definition)?) else { return Ok(()) };
    for (name, value) in &definition.options {
        let known = OPTIONS.iter().find(|option| option.name.eq_ignore_ascii_case(name));
        let Some(known) = known.filter(|known| !known.of.contains(&made)) else { continue };
        let of = known.of.iter().map(|made| made.name()).collect::<Vec<_>>().join(", ");
        return Err(definition.bad(name, value, &format!("it is for {of}")));
    }
    Ok(())
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
        let labels: Vec<String> = match text.trim_start().starts_with('[') {
            true => serde_json::from_str(text)
                .map_err(|error| self.bad("labels", text, &format!("it is no JSON array of texts: {error}")))?,
            false => text.split(',').map(|label| label.trim().to_owned()).collect(),
        };
        let twice = (0..labels.len()).any(|index| labels[..index].contains(&labels[index]));
        if labels.len() < 2 || twice || labels.iter().any(String::is_empty) {
            return Err(self.bad(
                "labels",
                text,
                "it is two or more different names, separated by commas, or a JSON array of them",
            ));
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
        let mut said = vec![false; labels.len()];
        let pair = |part: &str| {
            let (label, number) = part.split_once('=')?;
            Some((label.trim().to_owned(), number.trim().parse().ok()?))
        };
        let pairs: Vec<(String, f64)> = match text.trim_start().starts_with('{') {
            true => serde_json::from_str::<BTreeMap<String, f64>>(text)
                .map_err(|error| self.bad("priorities", text, &format!("it is no JSON object of numbers: {error}")))?
                .into_iter()
                .collect(),
            false => text.split(',').map(pair).collect::<Option<_>>().ok_or_else(expected)?,
        };
        for (label, number) in pairs {
            let place = labels.iter().position(|known| *known == label).ok_or_else(expected)?;
            if !number.is_finite() {
                return Err(expected());
            }
            if std::mem::replace(&mut said[place], true) {
                return Err(self.bad("priorities", text, &format!("'{}' has two priorities", labels[place])));
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
