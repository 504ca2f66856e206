//! Models behind HTTP: a service is asked for the rows of a step, some at a time, several requests at once.
//!
//! `'provider' = 'http'`, `'url'`, and `'payload'`, which says how rows are put into a request and answers taken out of a response ([`payload`]). A
//! request that fails in a way that may pass (no connection, too late, 429, 5xx) is made again, waiting longer each time. What does not answer in the
//! end, or answers something else than was asked for, refuses its rows with the reason; nothing is ended by it.
//!
//! The engine keeps what was answered for its replays, and, with `'cache.max-rows'`, from step to step.

mod payload;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, StringArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use eagre_engine::arrays::item_of;
use eagre_engine::model::{AnswerCache, Model, Predictions, Refusal};
use eagre_engine::type_name::sql_name;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use self::payload::Payload;
use crate::answer::six_digits;
use crate::error::{ModelError, Result};
use crate::options::Definition;

/// A response may have so many bytes.
const RESPONSE_BYTES_MAX: u64 = 64 << 20;
/// The wait before a request is made again, and the longest that it becomes.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Of what a service says of an error, so much is told.
const EXCERPT_CHARS: usize = 200;

/// Options that say nothing of a service.
const OF_FILES: &[&str] =
    &["format", "path", "arch", "activation", "output.activation", "output.name", "labels", "priorities"];

/// A service.
pub struct HttpModel {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
    payload: Payload,
    retries: usize,
    requests_at_once: usize,
    batch_rows: usize,
    cache: Option<AnswerCache>,
    input: SchemaRef,
    output: SchemaRef,
    hash: u64,
}

impl HttpModel {
    /// The service of a definition. It is not asked yet.
    ///
    /// # Errors
    /// Options that cannot be; no `INPUT` or `OUTPUT`.
    pub fn open(definition: &Definition) -> Result<Self> {
        let url = definition.option("url").ok_or_else(|| ModelError::MissingOption {
            model: definition.name.clone(),
            option: "url",
            meaning: "where the service is",
            example: "http://localhost:8080/predict",
        })?;
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(definition.bad("url", url, "it begins with http:// or https://"));
        }
        if let Some((option, value)) = OF_FILES.iter().find_map(|option| Some((*option, definition.option(option)?))) {
            let hint = "it is for models in files; what a service answers, a label too, is named by `OUTPUT (label STRING, ..)`";
            return Err(definition.bad(option, value, hint));
        }
        let payload = Payload::of(definition)?;
        let input = columns(definition, "INPUT", definition.input.as_deref())?;
        let output = columns(definition, "OUTPUT", definition.output.as_deref())?;
        let timeout = duration(definition, "timeout", Duration::from_secs(30))?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            // What the environment says is for the session to know.
            .proxy(None)
            .build();
        let cache = match definition.option("cache.max-rows") {
            None => {
                if let Some(value) = definition.option("cache.expire") {
                    return Err(definition.bad(
                        "cache.expire",
                        value,
                        "answers are held where 'cache.max-rows' says how many",
                    ));
                }
                None
            }
            Some(_) => Some(AnswerCache {
                rows_max: count(definition, "cache.max-rows", 1, 1 << 32)?,
                expire_ms: match definition.option("cache.expire") {
                    None => None,
                    Some(_) => Some(duration(definition, "cache.expire", Duration::ZERO)?.as_millis() as i64),
                },
            }),
        };
        let said = format!("{url} {payload:?} {input:?} {output:?}");
        Ok(Self {
            agent: agent.into(),
            url: url.to_owned(),
            key: definition.option("api-key").map(str::to_owned),
            retries: count(definition, "retries", 2, 100)?,
            requests_at_once: count(definition, "max-concurrency", 4, 256)?.max(1),
            batch_rows: if payload.takes_one_row() { 1 } else { count(definition, "batch-rows", 64, 1 << 20)?.max(1) },
            payload,
            cache,
            input,
            output,
            hash: xxh3_64(said.as_bytes()),
        })
    }

    /// The answers to some rows, by output, or why there are none.
    fn request(&self, rows: &[Vec<Value>]) -> std::result::Result<Vec<Vec<Value>>, String> {
        let body = self.payload.request(&self.input, rows).to_string();
        let mut wait = BACKOFF;
        let mut attempt = 0;
        loop {
            let (why, may_pass) = match self.send(&body) {
                Ok((200..=299, text)) => {
                    let response = serde_json::from_str(&text);
                    let response = response.map_err(|_| format!("its response is no JSON: {}", excerpt(&text)))?;
                    return self.payload.answers(&self.output, &response, rows.len());
                }
                Ok((status, text)) => {
                    (format!("it answered {status}: {}", excerpt(&text)), status == 429 || status >= 500)
                }
                Err(error) => (format!("it did not answer: {error}"), true),
            };
            if !may_pass {
                return Err(why);
            }
            if attempt == self.retries {
                return Err(match attempt {
                    0 => why,
                    _ => format!("{why}, also when asked {attempt} times again ('retries')"),
                });
            }
            attempt += 1;
            std::thread::sleep(wait);
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    fn send(&self, body: &str) -> std::result::Result<(u16, String), ureq::Error> {
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = self.payload.authorise(request, key);
        }
        let mut response = request.send(body)?;
        let text = response.body_mut().with_config().limit(RESPONSE_BYTES_MAX).read_to_string()?;
        Ok((response.status().as_u16(), text))
    }
}

/// The beginning of what a service says, on one line.
fn excerpt(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}..", &line[..end]),
        None => line,
    }
}

/// `INPUT (..)` or `OUTPUT (..)`, in the types that JSON has.
fn columns(definition: &Definition, clause: &str, said: Option<&[(String, DataType)]>) -> Result<SchemaRef> {
    let said = said.filter(|columns| !columns.is_empty());
    let said = said.ok_or_else(|| {
        definition.shape(format!("a service does not say what its columns are: `{clause} (name TYPE, ..)`"))
    })?;
    let mut fields = Vec::new();
    for (name, data_type) in said {
        let json = json_type(data_type).ok_or_else(|| {
            definition.shape(format!(
                "`{name}` of {clause} is {}; a service takes and gives numbers, booleans, texts, and arrays of them",
                sql_name(data_type)
            ))
        })?;
        fields.push(Field::new(name, json, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The type in which values are told and taken; `None`: JSON has no word for them.
fn json_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        integer if integer.is_integer() => DataType::Int64,
        number if number.is_numeric() => DataType::Float64,
        DataType::Boolean => DataType::Boolean,
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        other => DataType::List(Arc::new(Field::new_list_field(json_type(item_of(other)?.data_type())?, true))),
    })
}

fn count(definition: &Definition, option: &str, default: usize, most: usize) -> Result<usize> {
    let Some(text) = definition.option(option) else { return Ok(default) };
    let count: Option<usize> = text.trim().parse().ok();
    count
        .filter(|count| *count <= most)
        .ok_or_else(|| definition.bad(option, text, &format!("it is a whole number up to {most}")))
}

fn duration(definition: &Definition, option: &str, default: Duration) -> Result<Duration> {
    let Some(text) = definition.option(option) else { return Ok(default) };
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let unit_ms = match text[digits..].trim() {
        "" | "ms" => Some(1),
        "s" => Some(1_000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let ms = text[..digits].parse::<u64>().ok().zip(unit_ms).and_then(|(number, unit_ms)| number.checked_mul(unit_ms));
    let ms = ms
        .filter(|ms| *ms > 0)
        .ok_or_else(|| definition.bad(option, text, "it is a duration such as '500 ms', '30 s' or '1 h'"))?;
    Ok(Duration::from_millis(ms))
}

impl Model for HttpModel {
    fn describe(&self) -> String {
        format!("{} at {}", self.payload.name(), self.url)
    }

    fn input(&self) -> &SchemaRef {
        &self.input
    }

    fn output(&self) -> &SchemaRef {
        &self.output
    }

    fn hash(&self) -> u64 {
        self.hash
    }

    fn waits(&self) -> bool {
        true
    }

    fn cache(&self) -> Option<AnswerCache> {
        self.cache
    }

    fn predict(&self, inputs: &[ArrayRef], rows: usize) -> eagre_engine::Result<Predictions> {
        let (told, asked) = self.flaws(inputs, rows);
        if told.is_empty() {
            return Ok(self.ask(inputs, rows));
        }
        // JSON has no word for what is no number, and `null` would be another question.
        let rows_asked = UInt32Array::from(asked);
        let inputs = inputs.iter().map(|column| Ok(take(column, &rows_asked, None)?));
        let answered = self.ask(&inputs.collect::<eagre_engine::Result<Vec<_>>>()?, rows_asked.len());
        let mut places = vec![None; rows];
        (0..).zip(rows_asked.values()).for_each(|(place, row)| places[*row as usize] = Some(place));
        let places = UInt32Array::from(places);
        let columns = answered.columns.iter().map(|column| Ok(take(column, &places, None)?));
        let columns = columns.collect::<eagre_engine::Result<Vec<_>>>()?;
        let refused = answered
            .refused
            .into_iter()
            .map(|refusal| Refusal { row: rows_asked.value(refusal.row as usize), ..refusal });
        let mut refused: Vec<Refusal> = told.into_iter().chain(refused).collect();
        refused.sort_by_key(|refusal| refusal.row);
        Ok(Predictions { columns, refused })
    }
}

impl HttpModel {
    /// The rows that cannot be asked about, and the others.
    fn flaws(&self, inputs: &[ArrayRef], rows: usize) -> (Vec<Refusal>, Vec<u32>) {
        let odd = |row: usize| {
            inputs.iter().zip(self.input.fields()).find_map(|(column, field)| {
                let value = not_finite(column, row)?;
                let flaw = if value.is_nan() { "not a number" } else { "infinite" };
                let place = if item_of(field.data_type()).is_some() { " in a place" } else { "" };
                Some(format!("its input `{}` is {flaw}{place}", field.name()))
            })
        };
        let (mut told, mut asked) = (Vec::new(), Vec::new());
        for row in 0..rows {
            match odd(row) {
                Some(reason) => told.push(Refusal { row: row as u32, reason }),
                None => asked.push(row as u32),
            }
        }
        (told, asked)
    }

    /// The answers to rows, each of which is asked about.
    fn ask(&self, inputs: &[ArrayRef], rows: usize) -> Predictions {
        let questions = payload::rows(inputs, rows);
        let batches: Vec<&[Vec<Value>]> = questions.chunks(self.batch_rows).collect();
        let (next, answered) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(batches.len())));
        let work = || {
            while let Some((place, batch)) = {
                let place = next.fetch_add(1, Ordering::Relaxed);
                batches.get(place).map(|batch| (place, *batch))
            } {
                let answer = self.request(batch);
                answered.lock().unwrap_or_else(PoisonError::into_inner).push((place, answer));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.requests_at_once.min(batches.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut answered = answered.into_inner().unwrap_or_else(PoisonError::into_inner);
        answered.sort_unstable_by_key(|(place, _)| *place);
        let mut columns: Vec<Vec<Value>> = vec![Vec::with_capacity(rows); self.output.fields().len()];
        let mut refused = Vec::new();
        let mut row = 0u32;
        for ((_, answer), batch) in answered.into_iter().zip(&batches) {
            if let Ok(answers) = &answer {
                let empty = (row..).zip(answers).filter(|(_, answer)| answer.iter().all(Value::is_null));
                refused.extend(empty.map(|(row, _)| Refusal { row, reason: "its prediction is null".into() }));
            }
            let answers = answer.unwrap_or_else(|reason| {
                refused.extend((row..row + batch.len() as u32).map(|row| Refusal { row, reason: reason.clone() }));
                vec![vec![Value::Null; columns.len()]; batch.len()]
            });
            for answer in answers {
                columns.iter_mut().zip(answer).for_each(|(column, value)| column.push(value));
            }
            row += batch.len() as u32;
        }
        let columns = columns
            .iter()
            .zip(self.output.fields())
            .map(|(values, field)| column(values, field, &mut refused))
            .collect();
        refused.sort_by_key(|refusal| refusal.row);
        refused.dedup_by_key(|refusal| refusal.row);
        Predictions { columns, refused }
    }
}

/// A number of a row that JSON has no word for.
fn not_finite(column: &ArrayRef, row: usize) -> Option<f64> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Float64 => Some(column.as_primitive::<Float64Type>().value(row)).filter(|value| !value.is_finite()),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).find_map(|item| not_finite(&items, item))
        }
        _ => None,
    }
}

/// Values of JSON as a column; a row whose value is something else is refused.
fn column(values: &[Value], field: &Field, refused: &mut Vec<Refusal>) -> ArrayRef {
    let mut wrong = |row: usize, value: &Value, expected: &str| {
        let reason = format!("its output `{}` is {}, and not {expected}", field.name(), excerpt(&value.to_string()));
        refused.push(Refusal { row: row as u32, reason });
    };
    let rows = values.iter().enumerate();
    match field.data_type() {
        DataType::Float64 => {
            let numbers = rows.map(|(row, value)| match value {
                Value::Null => None,
                Value::Number(number) => number.as_f64().map(six_digits_of_f32),
                other => {
                    wrong(row, other, "a number");
                    None
                }
            });
            Arc::new(numbers.collect::<Float64Array>())
        }
        DataType::Int64 => {
            let numbers = rows.map(|(row, value)| {
                let whole = value
                    .as_i64()
                    .or_else(|| value.as_f64().filter(|value| value.fract() == 0.0).map(|value| value as i64));
                if whole.is_none() && !value.is_null() {
                    wrong(row, value, "a whole number");
                }
                whole
            });
            Arc::new(numbers.collect::<Int64Array>())
        }
        DataType::Boolean => {
            let values = rows.map(|(row, value)| {
                if !value.is_boolean() && !value.is_null() {
                    wrong(row, value, "true or false");
                }
                value.as_bool()
            });
            Arc::new(values.collect::<BooleanArray>())
        }
        DataType::List(item) => {
            let (mut items, mut lengths, mut of) = (Vec::new(), Vec::with_capacity(values.len()), Vec::new());
            for (row, value) in rows {
                let array = value.as_array();
                if array.is_none() && !value.is_null() {
                    wrong(row, value, "an array");
                }
                items.extend(array.into_iter().flatten().cloned());
                of.resize(items.len(), row as u32);
                lengths.push(array.map_or(0, Vec::len));
            }
            let mut flaws = Vec::new();
            let named = item.as_ref().clone().with_name(field.name());
            let items = column(&items, &named, &mut flaws);
            refused.extend(flaws.into_iter().map(|flaw| Refusal { row: of[flaw.row as usize], ..flaw }));
            let nulls = NullBuffer::from_iter(values.iter().map(|value| !value.is_null()));
            Arc::new(ListArray::new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), items, Some(nulls)))
        }
        _ => {
            let texts = values.iter().map(|value| match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            });
            Arc::new(texts.collect::<StringArray>())
        }
    }
}

/// A number as the service gave it; what it computed in `f32` and wrote out in full is rounded to what that holds.
fn six_digits_of_f32(value: f64) -> f64 {
    let single = f64::from(value as f32);
    if single == value && value.fract() != 0.0 { six_digits(value) } else { value }
}
