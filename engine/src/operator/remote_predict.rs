//! Rows beside what a model outside says of them: one that [waits](Model::waits), such as a service behind HTTP.
//!
//! A step asks once, for all its different rows together that no answer is held for, on a thread of its own, and is pending until the answer is
//! there; the shard runs what else is ready. What the outside answered is an input of the step: all answers that a step uses are in the step log, and a
//! replay is handed these ([`Operator::recall`]) and asks nobody. So answers that are held from step to step are no state: after a restart they are
//! asked for again, and a replay of a step needs no other one's.
//!
//! Rows that the service refuses, or for which it does not answer, have null for an answer and go with the reason to the side port; a service that is
//! down ends nothing. The input is one that only grows, because to take a row back one would have to know what it was answered; it is partitioned by what
//! is asked, so that one question has one answer in a step.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, RecordBatch, StringBuilder, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::predict::PredictCall;
use super::{
    BadRows, Input, Operator, OperatorFactory, Output, Progress, Redeemer, SaveKind, StateReader, StateWriter, Ticket,
};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::model::{Asker, Model, Predictions, ask};
use crate::thread::start_detached;

#[cfg(test)]
mod tests;

const NAME: &str = "RemotePredict";

/// Makes [`RemotePredict`]s.
pub struct RemotePredictFactory {
    call: PredictCall,
    output: SchemaRef,
}

impl RemotePredictFactory {
    /// The columns of `input`, then that of the call. The input only grows and is partitioned by the call's arguments.
    ///
    /// # Errors
    /// A call about columns that cannot be compared.
    pub fn new(input: &SchemaRef, call: PredictCall) -> Result<Self> {
        let model = call.model.current();
        let mut fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(&call.name, call.shape.data_type(model.output()), true)));
        let factory = Self { call, output: Arc::new(Schema::new(fields)) };
        Converters::of(model.as_ref())?;
        Ok(factory)
    }

    /// The columns that come out.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }
}

impl OperatorFactory for RemotePredictFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(RemotePredict {
            call: self.call.clone(),
            _asks: self.call.model.bind(false),
            output: Arc::clone(&self.output),
            converters: Converters::of(self.call.model.current().as_ref())?,
            answers: BTreeMap::new(),
            order: VecDeque::new(),
            worker: None,
            waiting: None,
            replays: false,
            bytes: 0,
        }))
    }

    fn refuses_as_bad(&self) -> bool {
        true
    }

    fn runs_on(&self) -> &'static str {
        "elsewhere"
    }
}

/// Questions and answers as bytes that compare.
struct Converters {
    questions: RowConverter,
    answers: RowConverter,
}

impl Converters {
    fn of(model: &dyn Model) -> Result<Self> {
        let fields = |schema: &SchemaRef| {
            schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect()
        };
        Ok(Self {
            questions: RowConverter::new(fields(model.input()))?,
            answers: RowConverter::new(fields(model.output()))?,
        })
    }
}

/// What was answered to one question.
#[derive(Debug, Clone)]
struct Answer {
    asked_ms: i64,
    /// The columns of the answer as a row, or why there is none.
    row: std::result::Result<Box<[u8]>, Arc<str>>,
}

impl Answer {
    fn bytes(&self, question: &[u8]) -> usize {
        // The question is held twice, by the map and by the order.
        2 * question.len() + self.row.as_ref().map_or_else(|reason| reason.len(), |row| row.len()) + 96
    }
}

/// See the [module](self).
struct RemotePredict {
    call: PredictCall,
    _asks: Arc<Asker>,
    output: SchemaRef,
    converters: Converters,
    answers: BTreeMap<Box<[u8]>, Answer>,
    /// Questions by when they were asked.
    order: VecDeque<Box<[u8]>>,
    /// Started with the first question.
    worker: Option<Worker>,
    waiting: Option<Waiting>,
    /// Answers come from the log.
    replays: bool,
    bytes: usize,
}

/// A step and what it asks.
struct Waiting {
    deltas: Vec<Delta>,
    /// By delta and row: the question, none where an input is null.
    questions: Vec<Vec<Option<Box<[u8]>>>>,
    asked: Vec<Box<[u8]>>,
}

/// What a step was answered, in the step log.
fn log_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("question", DataType::Binary, false),
        Field::new("answer", DataType::Binary, true),
        Field::new("refused", DataType::Utf8, true),
    ]))
}

impl RemotePredict {
    fn questions(&self, delta: &Delta) -> Result<Vec<Option<Box<[u8]>>>> {
        let columns: Vec<ArrayRef> = self.call.args.iter().map(|arg| Arc::clone(delta.batch.column(*arg))).collect();
        let rows = self.converters.questions.convert_columns(&columns)?;
        let is_null = |row: usize| columns.iter().any(|column| column.is_null(row));
        Ok(rows.iter().enumerate().map(|(row, bytes)| (!is_null(row)).then(|| bytes.as_ref().into())).collect())
    }

    /// The columns of questions.
    fn columns(&self, questions: &[Box<[u8]>]) -> Result<Vec<ArrayRef>> {
        let parser = self.converters.questions.parser();
        Ok(self.converters.questions.convert_rows(questions.iter().map(|question| parser.parse(question)))?)
    }

    /// Drops answers that are too old or too many; without a cache, all.
    fn tidy(&mut self, clock_ms: i64) {
        let cache = self.call.model.current().cache();
        while let Some(oldest) = self.order.front() {
            let keep = match (cache, self.answers.get(oldest)) {
                (None, _) | (_, None) => false,
                (Some(cache), Some(answer)) => {
                    let old =
                        cache.expire_ms.is_some_and(|expire_ms| answer.asked_ms.saturating_add(expire_ms) <= clock_ms);
                    !old && self.answers.len() <= cache.rows_max
                }
            };
            if keep {
                return;
            }
            if let Some(question) = self.order.pop_front()
                && let Some(answer) = self.answers.remove(&question)
            {
                self.bytes = self.bytes.saturating_sub(answer.bytes(&question));
            }
        }
    }

    fn put(&mut self, question: Box<[u8]>, answer: Answer) {
        self.bytes += answer.bytes(&question);
        if let Entry::Vacant(entry) = self.answers.entry(question.clone()) {
            entry.insert(answer);
            self.order.push_back(question);
        }
    }

    /// Takes in what the worker has for these questions. What failed as a whole is refused row by row, and asked for again when it comes again.
    fn take_in(&mut self, asked: &[Box<[u8]>], answered: Result<Predictions>, clock_ms: i64) -> Result<()> {
        let mut refused: BTreeMap<u32, Arc<str>> = BTreeMap::new();
        let rows = match answered {
            Ok(predictions) => {
                refused.extend(predictions.refused.into_iter().map(|refusal| (refusal.row, refusal.reason.into())));
                Some(self.converters.answers.convert_columns(&predictions.columns)?)
            }
            Err(error) => {
                let reason: Arc<str> = error.to_string().into();
                refused.extend((0..asked.len() as u32).map(|row| (row, Arc::clone(&reason))));
                None
            }
        };
        for (place, question) in asked.iter().enumerate() {
            let row = match (refused.remove(&(place as u32)), &rows) {
                (None, Some(rows)) => Ok(rows.row(place).as_ref().into()),
                (reason, _) => Err(reason.unwrap_or_else(|| "there is no answer".into())),
            };
            self.put(question.clone(), Answer { asked_ms: clock_ms, row });
        }
        Ok(())
    }

    /// All answers that a step uses, for the step log.
    fn log(&self, waiting: &Waiting) -> Result<Option<RecordBatch>> {
        let mut used: Vec<&Box<[u8]>> = waiting.questions.iter().flatten().flatten().collect();
        used.sort_unstable();
        used.dedup();
        let (mut questions, mut answers, mut refused) =
            (BinaryBuilder::new(), BinaryBuilder::new(), StringBuilder::new());
        for question in &used {
            let Some(answer) = self.answers.get(*question) else { continue };
            questions.append_value(question);
            answers.append_option(answer.row.as_ref().ok());
            refused.append_option(answer.row.as_ref().err());
        }
        let columns: Vec<ArrayRef> =
            vec![Arc::new(questions.finish()), Arc::new(answers.finish()), Arc::new(refused.finish())];
        Ok(if used.is_empty() { None } else { Some(batch_of(&log_schema(), columns, used.len())?) })
    }

    fn emit(&self, model: &dyn Model, delta: &Delta, questions: &[Option<Box<[u8]>>], out: &mut Output) -> Result<()> {
        let mut places: Vec<Option<u32>> = Vec::with_capacity(questions.len());
        let mut rows: Vec<&[u8]> = Vec::new();
        let mut seen: BTreeMap<&[u8], u32> = BTreeMap::new();
        let mut by_reason: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (row, question) in questions.iter().enumerate() {
            let answer = match question {
                None => None,
                Some(question) => {
                    Some(self.answers.get(question).ok_or_else(|| EngineError::bug("a question without its answer"))?)
                }
            };
            places.push(match (question, answer.map(|answer| &answer.row)) {
                (Some(question), Some(Ok(bytes))) => Some(*seen.entry(question).or_insert_with(|| {
                    rows.push(bytes);
                    rows.len() as u32 - 1
                })),
                (_, Some(Err(reason))) => {
                    by_reason.entry(reason).or_default().push(row as u32);
                    None
                }
                _ => None,
            });
        }
        let places = UInt32Array::from(places);
        let answered: Vec<ArrayRef> = match rows.is_empty() {
            true => model
                .output()
                .fields()
                .iter()
                .map(|field| arrow::array::new_null_array(field.data_type(), delta.rows()))
                .collect(),
            false => {
                let parser = self.converters.answers.parser();
                let columns = self.converters.answers.convert_rows(rows.iter().map(|row| parser.parse(row)))?;
                columns.iter().map(|column| Ok(take(column, &places, None)?)).collect::<Result<_>>()?
            }
        };
        let mut columns = delta.batch.columns().to_vec();
        columns.push(self.call.shape.column(model.output(), answered)?);
        out.emit(delta.with_batch(batch_of(&self.output, columns, delta.rows())?));
        for (reason, rows) in by_reason {
            let origin = format!("model {}", self.call.model.name());
            out.bad(BadRows::of(delta, rows, format!("{}: {reason}", model.describe()), origin)?);
        }
        Ok(())
    }

    fn worker(&mut self) -> Result<&Worker> {
        if self.worker.is_none() {
            self.worker = Some(Worker::start()?);
        }
        self.worker.as_ref().ok_or_else(|| EngineError::bug("a worker was just started"))
    }
}

impl Operator for RemotePredict {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let model = self.call.steps.at(&self.call.model, input.context.step);
        let clock_ms = input.context.clock_ms;
        let waiting = match self.waiting.take() {
            Some(waiting) => {
                let answered = self.worker()?.answer()?;
                self.take_in(&waiting.asked, answered, clock_ms)?;
                waiting
            }
            None => {
                let mut deltas = input.single();
                deltas.retain(|delta| !delta.is_empty());
                if !self.replays {
                    self.tidy(clock_ms);
                }
                let questions = deltas.iter().map(|delta| self.questions(delta)).collect::<Result<Vec<_>>>()?;
                let mut asked: Vec<Box<[u8]>> =
                    questions.iter().flatten().flatten().filter(|q| !self.answers.contains_key(*q)).cloned().collect();
                asked.sort_unstable();
                asked.dedup();
                let waiting = Waiting { deltas, questions, asked };
                if !waiting.asked.is_empty() {
                    if self.replays {
                        return Err(EngineError::Checkpoint {
                            message: format!(
                                "the step log has no answer of model `{}` for a row of step {}",
                                self.call.model.name(),
                                input.context.step
                            ),
                        });
                    }
                    let columns = self.columns(&waiting.asked)?;
                    let rows = waiting.asked.len();
                    let ticket = self.worker()?.ask(Arc::clone(&model), columns, rows)?;
                    self.waiting = Some(waiting);
                    return Ok(Progress::Pending(ticket));
                }
                waiting
            }
        };
        if out.records_answers
            && let Some(log) = self.log(&waiting)?
        {
            out.answers.push(log);
        }
        for (delta, questions) in waiting.deltas.iter().zip(&waiting.questions) {
            self.emit(model.as_ref(), delta, questions, out)?;
        }
        // A failure is not held: whoever asks again may have more luck.
        let failed: Vec<Box<[u8]>> =
            waiting.asked.into_iter().filter(|q| self.answers.get(q).is_some_and(|a| a.row.is_err())).collect();
        for question in &failed {
            if let Some(answer) = self.answers.remove(question) {
                self.bytes = self.bytes.saturating_sub(answer.bytes(question));
            }
        }
        if !failed.is_empty() {
            self.order.retain(|question| self.answers.contains_key(question));
        }
        if !self.replays {
            self.tidy(clock_ms);
        }
        Ok(Progress::Done)
    }

    fn recall(&mut self, answers: &[RecordBatch]) -> Result<()> {
        self.replays = true;
        (self.bytes, self.order) = (0, VecDeque::new());
        self.answers.clear();
        let binary = |column: &ArrayRef| -> Result<BinaryArray> {
            let column = column.as_binary_opt::<i32>().cloned();
            column.ok_or_else(|| EngineError::Checkpoint {
                message: "the step log has no answers in the place of answers".into(),
            })
        };
        for batch in answers {
            let (questions, rows) = (binary(batch.column(0))?, binary(batch.column(1))?);
            let reasons = batch
                .column(2)
                .as_string_opt::<i32>()
                .ok_or_else(|| EngineError::bug("answers without their reasons"))?;
            for place in 0..batch.num_rows() {
                let row = match rows.is_valid(place) {
                    true => Ok(rows.value(place).into()),
                    false => Err(reasons.value(place).into()),
                };
                self.put(questions.value(place).into(), Answer { asked_ms: 0, row });
            }
        }
        Ok(())
    }

    fn save(&mut self, _kind: SaveKind, _state: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _state: &StateReader<'_>) -> Result<()> {
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }

    fn state_rows(&self) -> usize {
        0
    }
}

/// Asks on a thread of its own, which ends with it.
struct Worker {
    requests: Sender<Request>,
    answers: Receiver<Result<Predictions>>,
}

struct Request {
    model: Arc<dyn Model>,
    columns: Vec<ArrayRef>,
    rows: usize,
    redeemer: Redeemer,
}

impl Worker {
    fn start() -> Result<Self> {
        let (requests, inbox) = bounded::<Request>(1);
        let (outbox, answers) = bounded(1);
        let work = move || {
            for Request { model, columns, rows, redeemer } in inbox {
                if outbox.send(ask(model.as_ref(), &columns, rows)).is_err() {
                    return;
                }
                redeemer.redeem();
            }
        };
        start_detached("eagre-model", work)?;
        Ok(Self { requests, answers })
    }

    fn ask(&self, model: Arc<dyn Model>, columns: Vec<ArrayRef>, rows: usize) -> Result<Ticket> {
        let (redeemer, ticket) = Ticket::new();
        let sent = self.requests.send(Request { model, columns, rows, redeemer });
        sent.map_err(|_| EngineError::bug("the thread of a model is gone"))?;
        Ok(ticket)
    }

    fn answer(&self) -> Result<Result<Predictions>> {
        self.answers.recv().map_err(|_| EngineError::bug("the thread of a model is gone"))
    }
}
