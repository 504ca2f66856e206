//! Models behind HTTP: a service is asked for the rows of a step, some at a time, several requests at once.
//!
//! `'provider' = 'http'`, `'url'`, and `'payload'`, which says how rows are put into a request and answers taken out of a response ([`payload`]). A
//! request that fails in a way that may pass (no connection, too late, 429, 5xx) is made again, waiting longer each time. What does not answer in the
//! end, or answers something else than was asked for, refuses its rows with the reason; nothing is ended by it. What is refused for what it asks is
//! asked in parts, so that a bad row refuses itself. With `'labels'` a service is a classifier: its answers are probabilities, which become what those of
//! any other are ([`Answer`]).
//!
//! The engine keeps what was answered for its replays, and, with `'cache.max-rows'`, from step to step.

mod payload;

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, StringArray, UInt32Array,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use eagre_engine::arrays::item_of;
use eagre_engine::model::{AnswerCache, Model, Predictions, Refusal};
use eagre_engine::type_name::sql_name;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use self::payload::Payload;
use crate::answer::{Activation, Answer, Classes};
use crate::error::{ModelError, Result};
use crate::options::Definition;
use crate::signature::Signature;

/// A response may have so many bytes.
const RESPONSE_BYTES_MAX: u64 = 64 << 20;
/// The wait before a request is made again, and the longest that it becomes.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Of what a service says of an error, so much is told.
const EXCERPT_CHARS: usize = 200;

/// Of a request that is refused for something in its rows, parts are asked about until what is refused stands alone. After so many in a row that are
/// refused, and as many as it takes to come down to one row, all that is left is.
const PARTS_MAX: usize = 16;

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
    /// What the service answers: the probability of each label, of a classifier.
    answered: SchemaRef,
    output: SchemaRef,
    /// What is made of probabilities.
    classifier: Option<Answer>,
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
        let payload = Payload::of(definition)?;
        if let Some(value) = definition.option("batch-rows").filter(|_| payload.takes_one_row()) {
            return Err(definition.bad("batch-rows", value, "a request to 'payload' = 'openai' is about one row"));
        }
        let input = columns(definition, "INPUT", definition.input.as_deref(), json_type)?;
        let (answered, classifier) = match Classes::of(definition, None)? {
            Some(classes) => {
                let answered = classes.labels.iter().map(|label| Field::new(label, DataType::Float64, true));
                let answered = Arc::new(Schema::new(answered.collect::<Vec<_>>()));
                let output = Signature::classification(definition, &classes)?;
                (answered, Some(Answer { activation: Activation::None, classes: Some(classes), output }))
            }
            None => (columns(definition, "OUTPUT", definition.output.as_deref(), answered_type)?, None),
        };
        let output = classifier.as_ref().map_or(&answered, |classifier| &classifier.output).clone();
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
                rows_max: count(definition, "cache.max-rows", 1, 0..=1 << 32)?,
                expire_ms: match definition.option("cache.expire") {
                    None => None,
                    Some(_) => Some(duration(definition, "cache.expire", Duration::ZERO)?.as_millis() as i64),
                },
            }),
        };
        let said = format!("{url} {payload:?} {input:?} {output:?} {classifier:?}");
        Ok(Self {
            agent: agent.into(),
            url: url.to_owned(),
            key: definition.option("api-key").map(str::to_owned),
            retries: count(definition, "retries", 2, 0..=100)?,
            requests_at_once: count(definition, "max-concurrency", 4, 1..=256)?,
            batch_rows: if payload.takes_one_row() { 1 } else { count(definition, "batch-rows", 64, 1..=1 << 20)? },
            payload,
            cache,
            input,
            answered,
            output,
            classifier,
            hash: xxh3_64(said.as_bytes()),
        })
    }

    /// The answers to some rows, each by output, or why it has none. What a request is refused for may be one row of it.
    fn answers(&self, rows: &[Vec<Value>], parts_left: &mut usize) -> Vec<RowAnswer> {
        match self.request(rows) {
            Ok(answers) => {
                *parts_left = self.parts_max();
                answers
            }
            Err(refused) if refused.for_its_rows && rows.len() > 1 && *parts_left >= 2 => {
                *parts_left -= 2;
                let (left, right) = rows.split_at(rows.len() / 2);
                let mut answers = self.answers(left, parts_left);
                answers.extend(self.answers(right, parts_left));
                answers
            }
            Err(refused) => vec![Err(refused.why); rows.len()],
        }
    }

    fn parts_max(&self) -> usize {
        PARTS_MAX + 2 * (self.batch_rows.ilog2() as usize + 1)
    }

    /// What a request about some rows comes to.
    fn request(&self, rows: &[Vec<Value>]) -> std::result::Result<Vec<RowAnswer>, RequestRefused> {
        let body = self.payload.request(&self.input, rows).to_string();
        let mut wait = BACKOFF;
        let mut attempt = 0;
        loop {
            let (why, may_pass, for_its_rows) = match self.send(&body) {
                Ok((200..=299, text)) => {
                    let response = serde_json::from_str(&text).map_err(|_| RequestRefused {
                        why: format!("its response is no JSON: {}", excerpt(&text)),
                        // What is no number is written so by some (Python's `json`), and then one of the rows is to blame.
                        for_its_rows: text.trim_start().starts_with(['{', '['])
                            && ["NaN", "Infinity"].iter().any(|word| text.contains(word)),
                    })?;
                    let answers = self.payload.answers(&self.answered, self.labels(), &response, rows.len());
                    return answers.map_err(|why| RequestRefused { why, for_its_rows: false });
                }
                Ok((status, text)) => {
                    let why = format!("it answered {status}: {}", excerpt(&text));
                    // Bad request, too large, no such instance: what is asked; not who asks, where, or how often.
                    (why, status == 429 || status >= 500, matches!(status, 400 | 413 | 422))
                }
                Err(error) => (format!("it did not answer: {error}"), true, false),
            };
            if !may_pass {
                return Err(RequestRefused { why, for_its_rows });
            }
            if attempt == self.retries {
                let why = match attempt {
                    0 => why,
                    _ => format!("{why}, also when asked {attempt} times again ('retries')"),
                };
                return Err(RequestRefused { why, for_its_rows });
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

/// The outputs of a row, or why it has none.
type RowAnswer = std::result::Result<Vec<Value>, String>;

/// A request that has no answer.
struct RequestRefused {
    why: String,
    /// Whether one of its rows may be the reason.
    for_its_rows: bool,
}

/// An address as it may be shown: `http://user:***@host/path`.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let Some((user, host)) = authority.rsplit_once('@') else { return url.to_owned() };
    let user = user.split_once(':').map_or(user.to_owned(), |(name, _)| format!("{name}:***"));
    format!("{scheme}://{user}@{host}{}", &rest[authority.len()..])
}

/// The beginning of what a service says, on one line.
fn excerpt(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}..", &line[..end]),
        None => line,
    }
}

/// `INPUT (..)` or `OUTPUT (..)`, in the types that `type_of` makes of those of JSON and those that are said.
fn columns(
    definition: &Definition,
    clause: &str,
    said: Option<&[(String, DataType)]>,
    type_of: fn(&DataType) -> Option<DataType>,
) -> Result<SchemaRef> {
    let said = said.filter(|columns| !columns.is_empty());
    let said = said.ok_or_else(|| {
        definition.shape(format!("a service does not say what its columns are: `{clause} (name TYPE, ..)`"))
    })?;
    let mut fields = Vec::new();
    for (name, data_type) in said {
        let data_type_of = type_of(data_type).ok_or_else(|| {
            definition.shape(format!(
                "`{name}` of {clause} is {}; a service takes and gives numbers, booleans, texts, and arrays of them",
                sql_name(data_type)
            ))
        })?;
        fields.push(Field::new(name, data_type_of, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The type in which values are told; `None`: JSON has no word for them.
fn json_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        integer if integer.is_integer() => DataType::Int64,
        number if number.is_numeric() => DataType::Float64,
        DataType::Boolean => DataType::Boolean,
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        other => DataType::List(Arc::new(Field::new_list_field(json_type(item_of(other)?.data_type())?, true))),
    })
}

/// The type of an answer: the one that was said, of numbers.
fn answered_type(data_type: &DataType) -> Option<DataType> {
    match (item_of(data_type), json_type(data_type)?) {
        (Some(item), _) => {
            Some(DataType::List(Arc::new(Field::new_list_field(answered_type(item.data_type())?, true))))
        }
        (None, json) => Some(if data_type.is_numeric() { data_type.clone() } else { json }),
    }
}

fn count(definition: &Definition, option: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize> {
    let Some(text) = definition.option(option) else { return Ok(default) };
    let count: Option<usize> = text.trim().parse().ok();
    let expected = || format!("it is a whole number from {} to {}", range.start(), range.end());
    count.filter(|count| range.contains(count)).ok_or_else(|| definition.bad(option, text, &expected()))
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
        format!("{} at {}", self.payload.name(), without_password(&self.url))
    }

    fn input(&self) -> &SchemaRef {
        &self.input
    }

    fn output(&self) -> &SchemaRef {
        &self.output
    }

    fn labels(&self) -> Option<&[String]> {
        Some(self.classifier.as_ref()?.classes.as_ref()?.labels.as_slice())
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
                let mut parts_left = self.parts_max();
                let answer = self.answers(batch, &mut parts_left);
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
        let mut columns: Vec<Vec<Value>> = vec![Vec::with_capacity(rows); self.answered.fields().len()];
        let mut refused = Vec::new();
        for (row, answer) in (0u32..).zip(answered.into_iter().flat_map(|(_, answers)| answers)) {
            let values = answer.and_then(|values| match values.iter().all(Value::is_null) {
                true => Err("its prediction is null".to_owned()),
                false => Ok(values),
            });
            let values = values.unwrap_or_else(|reason| {
                refused.push(Refusal { row, reason });
                vec![Value::Null; columns.len()]
            });
            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        }
        let columns = columns
            .iter()
            .zip(self.answered.fields())
            .map(|(values, field)| column(values, field, &mut refused))
            .collect::<Vec<_>>();
        let Predictions { columns, mut refused } = match &self.classifier {
            None => Predictions { columns, refused },
            Some(classifier) => {
                let by_label: Vec<_> = columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
                let number = |row: usize, label: usize| {
                    let of_label = by_label[label];
                    if of_label.is_null(row) { f64::NAN } else { of_label.value(row) }
                };
                let numbers = (0..rows).flat_map(|row| (0..by_label.len()).map(move |label| (row, label)));
                let numbers = numbers.map(|(row, label)| number(row, label)).collect();
                classifier.columns(numbers, by_label.len(), rows, refused)
            }
        };
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
        number if number.is_numeric() => {
            let whole = number.is_integer();
            let fits = |value: &f64| *number != DataType::Float32 || (*value as f32).is_finite();
            let wide: ArrayRef = match whole {
                true => Arc::new(values.iter().map(whole_number).collect::<Int64Array>()),
                false => Arc::new(values.iter().map(|value| value.as_f64().filter(fits)).collect::<Float64Array>()),
            };
            let numbers = cast(&wide, number).unwrap_or_else(|_| new_null_array(number, values.len()));
            for (row, value) in rows.filter(|(row, value)| !value.is_null() && numbers.is_null(*row)) {
                let expected = match (value.is_number(), whole) {
                    (true, _) => format!("one of {}", sql_name(number)),
                    (false, true) => "a whole number".to_owned(),
                    (false, false) => "a number".to_owned(),
                };
                wrong(row, value, &expected);
            }
            numbers
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

/// A number without a fraction, of 64 bits.
fn whole_number(value: &Value) -> Option<i64> {
    // 2^63 and -2^63 are numbers of 64 bits, and only the second is one of `i64`.
    const END: f64 = 9_223_372_036_854_775_808.0;
    let whole = |value: &f64| value.fract() == 0.0 && (-END..END).contains(value);
    value.as_i64().or_else(|| value.as_f64().filter(whole).map(|value| value as i64))
}
