//! What services of different makes want to be sent, and what they send back.
//!
//! - `openai`: a chat of one row: the text of its one column, or its columns as a JSON object, behind `'system-prompt'`; the answer is the text of the
//!   first choice, which is the one output, or a JSON object with all of them.
//! - `sagemaker`: `{"instances": [{"features": [..]}]}`, answered by `{"predictions": [..]}`.
//! - `vertex`: `{"instances": [{"column": ..}]}`, answered by `{"predictions": [..]}`.
//! - `azureml`: `{"input_data": {"columns": [..], "index": [..], "data": [[..]]}}`, answered by an array, or `{"predictions": [..]}` or
//!   `{"result": [..]}`.
//!
//! A prediction is an object with the outputs by name, an array of them in order, or the one output. That of a classifier is the probability of each of its
//! labels, that of the second of two, or the label that it is sure of.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};
use eagre_engine::arrays::item_of;
use serde_json::{Map, Value, json};

use super::RowAnswer;
use crate::error::{ModelError, Result};
use crate::options::Definition;

/// A make of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    OpenAi,
    SageMaker,
    Vertex,
    AzureMl,
}

const KINDS: [(&str, Kind); 4] =
    [("openai", Kind::OpenAi), ("sagemaker", Kind::SageMaker), ("vertex", Kind::Vertex), ("azureml", Kind::AzureMl)];

/// How a service is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    kind: Kind,
    /// The name of the model there.
    remote_model: Option<String>,
    system_prompt: Option<String>,
}

impl Payload {
    pub(super) fn of(definition: &Definition) -> Result<Self> {
        let missing = |option: &'static str, meaning: &'static str, example: &'static str| ModelError::MissingOption {
            model: definition.name.clone(),
            option,
            meaning,
            example,
        };
        let kind = definition
            .word("payload", &KINDS)?
            .ok_or_else(|| missing("payload", "how the service is spoken to", "vertex"))?;
        let text = |option: &str| definition.option(option).map(str::to_owned);
        if kind == Kind::OpenAi && text("remote-model").is_none() {
            return Err(missing("remote-model", "what the model is called there", "gpt-4o-mini"));
        }
        for option in ["remote-model", "system-prompt"] {
            if let Some(value) = definition.option(option).filter(|_| kind != Kind::OpenAi) {
                return Err(definition.bad(option, value, "only 'payload' = 'openai' has a place for it"));
            }
        }
        Ok(Self { kind, remote_model: text("remote-model"), system_prompt: text("system-prompt") })
    }

    pub(super) fn name(&self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("http", |(name, _)| name)
    }

    /// Whether a request is about one row.
    pub(super) fn takes_one_row(&self) -> bool {
        self.kind == Kind::OpenAi
    }

    pub(super) fn authorise<B>(&self, request: ureq::RequestBuilder<B>, key: &str) -> ureq::RequestBuilder<B> {
        request.header("authorization", format!("Bearer {key}"))
    }

    /// The body of a request about some rows.
    pub(super) fn request(&self, input: &SchemaRef, rows: &[Vec<Value>]) -> Value {
        let names = || input.fields().iter().map(|field| field.name().clone());
        let object = |row: &Vec<Value>| Value::Object(names().zip(row.iter().cloned()).collect::<Map<String, Value>>());
        match self.kind {
            Kind::OpenAi => {
                let content = match rows.first().map(Vec::as_slice) {
                    Some([Value::String(text)]) => text.clone(),
                    _ => rows.first().map(|row| object(row).to_string()).unwrap_or_default(),
                };
                let system = self.system_prompt.iter().map(|text| json!({ "role": "system", "content": text }));
                let messages: Vec<Value> = system.chain([json!({ "role": "user", "content": content })]).collect();
                json!({ "model": self.remote_model, "messages": messages, "temperature": 0 })
            }
            Kind::SageMaker => {
                let instances: Vec<Value> = rows.iter().map(|row| json!({ "features": row })).collect();
                json!({ "instances": instances })
            }
            Kind::Vertex => json!({ "instances": rows.iter().map(object).collect::<Vec<_>>() }),
            Kind::AzureMl => {
                let index: Vec<usize> = (0..rows.len()).collect();
                json!({ "input_data": { "columns": names().collect::<Vec<_>>(), "index": index, "data": rows } })
            }
        }
    }

    /// The outputs of each row, or why it has none; or why none has.
    pub(super) fn answers(
        &self,
        output: &SchemaRef,
        labels: Option<&[String]>,
        response: &Value,
        rows: usize,
    ) -> std::result::Result<Vec<RowAnswer>, String> {
        if self.kind == Kind::OpenAi {
            let content = response.pointer("/choices/0/message/content").and_then(Value::as_str);
            let content = content.ok_or_else(|| {
                format!("its response has no `choices[0].message.content`: {}", super::excerpt(&response.to_string()))
            })?;
            let plain = matches!(output.fields().as_ref(), [field] if *field.data_type() == DataType::Utf8);
            let prediction = match plain {
                true => Value::String(content.to_owned()),
                // Models like to put JSON between fences.
                false => {
                    let bare =
                        content.trim().trim_start_matches("```json").trim_start_matches("```").trim_end_matches("```");
                    let label = || {
                        let is_it = |label: &&String| label.as_str() == bare.trim();
                        labels?.iter().find(is_it).map(|label| Value::String(label.clone()))
                    };
                    let parsed = label().or_else(|| serde_json::from_str(bare).ok());
                    parsed
                        .ok_or_else(|| format!("its answer is no JSON with the outputs: {}", super::excerpt(content)))?
                }
            };
            return Ok(vec![outputs(output, labels, &prediction)]);
        }
        let listed = [response.get("predictions"), response.get("result"), Some(response)];
        let predictions = listed.into_iter().flatten().find_map(Value::as_array);
        let predictions = predictions
            .ok_or_else(|| format!("its response has no `predictions`: {}", super::excerpt(&response.to_string())))?;
        if predictions.len() != rows {
            return Err(format!("it gave {} predictions for {rows} rows", predictions.len()));
        }
        Ok(predictions.iter().map(|prediction| outputs(output, labels, prediction)).collect())
    }
}

/// A prediction as the values of the outputs.
fn outputs(output: &SchemaRef, labels: Option<&[String]>, prediction: &Value) -> RowAnswer {
    let fields = output.fields();
    if let Some(labels) = labels {
        // A whole number or a truth value may be a label, too.
        let said = match prediction {
            Value::String(said) => Some(said.clone()),
            Value::Bool(said) => Some(said.to_string()),
            Value::Number(said) => Some(said.to_string()).filter(|said| labels.contains(said)),
            _ => None,
        };
        if let Some(said) = said {
            let of_label = |label: &String| f64::from(u8::from(*label == said)).into();
            return match labels.contains(&said) {
                true => Ok(labels.iter().map(of_label).collect()),
                false => Err(format!("its prediction is '{said}', which is none of the labels {}", labels.join(", "))),
            };
        }
        match prediction {
            Value::Number(second) if labels.len() == 2 => {
                return Ok(vec![
                    second.as_f64().map_or(Value::Null, |second| (1.0 - second).into()),
                    prediction.clone(),
                ]);
            }
            _ => {}
        }
    }
    match prediction {
        Value::Object(object) => {
            let value = |name: &String| {
                let known = || object.keys().cloned().collect::<Vec<_>>().join(", ");
                object.get(name).cloned().ok_or_else(|| format!("its prediction has no `{name}`; it has {}", known()))
            };
            fields.iter().map(|field| value(field.name())).collect()
        }
        // The one output is an array: by itself, as the services of embeddings have it, or as the first of one output.
        Value::Array(values) if matches!(fields.as_ref(), [field] if item_of(field.data_type()).is_some()) => {
            Ok(match values.as_slice() {
                [one @ Value::Array(_)] => vec![one.clone()],
                _ => vec![prediction.clone()],
            })
        }
        Value::Array(values) if values.len() == fields.len() => Ok(values.clone()),
        Value::Array(values) => {
            Err(format!("its prediction has {} values, and the model names {}", values.len(), fields.len()))
        }
        one if fields.len() == 1 => Ok(vec![one.clone()]),
        other => Err(format!(
            "its prediction is {}, and the model names {} columns",
            super::excerpt(&other.to_string()),
            fields.len()
        )),
    }
}

/// Rows of columns as JSON.
pub(super) fn rows(columns: &[ArrayRef], rows: usize) -> Vec<Vec<Value>> {
    (0..rows).map(|row| columns.iter().map(|column| value(column, row)).collect()).collect()
}

fn value(column: &ArrayRef, row: usize) -> Value {
    match column.data_type() {
        _ if column.is_null(row) => Value::Null,
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            Value::Array((0..items.len()).map(|item| value(&items, item)).collect())
        }
        _ => column.as_string::<i32>().value(row).into(),
    }
}
