//! Rows beside what a model says of them that learns meanwhile.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, new_null_array};
use arrow::datatypes::{Field, FieldRef, Float64Type, Schema, SchemaRef};

use super::lessons::Lessons;
use super::{CHUNK_ROWS, WATERMARK};
use crate::aggregate::partial::newest_time;
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::model::{Model, ModelSlot, Shape, spread};
use crate::online::Learner;
use crate::operator::over::{Buffer, judge};
use crate::operator::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN, event_times_ms};

const NAME: &str = "OnlinePredict";
const ASKED: &str = "asked";
const ARRIVALS: &str = "asked arrivals";

/// One question to a model that learns.
#[derive(Debug, Clone)]
pub struct Question {
    /// What the result is called.
    pub name: String,
    /// What about: `DOUBLE` columns of the rows that ask.
    pub args: Vec<usize>,
    /// What of the answer.
    pub shape: Shape,
}

/// Questions to one model that learns: they share what it has learnt.
#[derive(Debug, Clone)]
pub struct OnlineCall {
    /// Who is asked.
    pub model: Arc<ModelSlot>,
    /// What, about each row.
    pub questions: Vec<Question>,
    /// The event time of the rows that ask.
    pub time: usize,
    /// Whether a watermark speaks of it; otherwise rows wait until they end.
    pub by_watermark: bool,
}

/// Makes operators with two inputs: rows that ask, and lessons of a [`LabelledFactory`](super::LabelledFactory), all on the shard of the first hash group.
pub struct OnlinePredictFactory {
    plan: Arc<Plan>,
}

struct Plan {
    call: OnlineCall,
    asked: SchemaRef,
    labelled: SchemaRef,
    labels_by_watermark: bool,
    output: SchemaRef,
}

impl OnlinePredictFactory {
    /// The columns of `asked`, then one for each question. `labels_by_watermark`: whether a watermark speaks of the time of lessons. Both inputs only grow. Late are
    /// rows of either whose time lies before the watermark at the step's start, and those without one.
    ///
    /// # Errors
    /// A model that does not go on learning.
    pub fn new(asked: &SchemaRef, labelled: &SchemaRef, labels_by_watermark: bool, call: OnlineCall) -> Result<Self> {
        let model = call.model.current();
        let mut fields: Vec<FieldRef> = asked.fields().iter().cloned().collect();
        for question in &call.questions {
            fields.push(Arc::new(Field::new(&question.name, question.shape.data_type(model.output()), true)));
        }
        let output = Arc::new(Schema::new(fields));
        let (asked, labelled) = (Arc::clone(asked), Arc::clone(labelled));
        let plan = Arc::new(Plan { call, asked, labelled, labels_by_watermark, output });
        OnlinePredict::new(&plan)?;
        Ok(Self { plan })
    }

    /// The columns that come out.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

impl OperatorFactory for OnlinePredictFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(OnlinePredict::new(&self.plan)?))
    }
}

/// See the [module](super).
struct OnlinePredict {
    plan: Arc<Plan>,
    /// The model as it was when the pipeline began: its form, which stays.
    model: Arc<dyn Model>,
    lessons: Lessons,
    asked: Buffer,
    watermark: EventTimeMs,
}

/// The answers about some columns.
struct Asked<'a> {
    args: &'a [usize],
    inputs: Vec<&'a Float64Array>,
    width: usize,
    numbers: Vec<f64>,
    /// The rows that have an answer: nulls and what is no number have none.
    whole: Vec<u32>,
    features: Vec<f64>,
}

impl<'a> Asked<'a> {
    fn new(args: &'a [usize], batch: &'a RecordBatch, width: usize) -> Self {
        Self {
            args,
            inputs: args.iter().map(|arg| batch.column(*arg).as_primitive::<Float64Type>()).collect(),
            width,
            numbers: Vec::with_capacity(batch.num_rows() * width),
            whole: Vec::with_capacity(batch.num_rows()),
            features: vec![0.0; args.len()],
        }
    }

    fn ask(&mut self, row: usize, learner: &mut dyn Learner) {
        if self.inputs.iter().any(|column| column.is_null(row) || !column.value(row).is_finite()) {
            return;
        }
        self.features.iter_mut().zip(&self.inputs).for_each(|(place, column)| *place = column.value(row));
        let start = self.numbers.len();
        self.numbers.resize(start + self.width, 0.0);
        learner.predict(&self.features, &mut self.numbers[start..]);
        self.whole.push(row as u32);
    }
}

impl OnlinePredict {
    fn new(plan: &Arc<Plan>) -> Result<Self> {
        let model = plan.call.model.current();
        Ok(Self {
            lessons: Lessons::new(model.as_ref(), &plan.labelled, plan.labels_by_watermark)?,
            asked: Buffer::named(ASKED, &plan.asked)?,
            model,
            plan: Arc::clone(plan),
            watermark: WATERMARK_MIN,
        })
    }

    /// Answers rows that are in the order of time, learning what comes before each.
    fn answer(&mut self, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        let call = &self.plan.call;
        let online = self.model.online().ok_or_else(|| EngineError::bug("a model that does not learn"))?;
        let rows = batch.num_rows();
        let times = event_times_ms(batch.column(call.time))?;
        // Several questions about the same columns are one.
        let mut asked: Vec<Asked<'_>> = Vec::new();
        for question in &call.questions {
            if !asked.iter().any(|asked| asked.args == question.args) {
                asked.push(Asked::new(&question.args, batch, online.width()));
            }
        }
        let mut last = WATERMARK_MIN;
        for row in 0..rows {
            let time = times.value(row);
            if time > last {
                self.lessons.learn_before(time, self.watermark, |_, _| {})?;
                last = time;
            }
            asked.iter_mut().for_each(|asked| asked.ask(row, self.lessons.learner.as_mut()));
        }
        let mut answers = Vec::with_capacity(asked.len());
        for Asked { args, numbers, whole, .. } in asked {
            let answer = online.answers(numbers, whole.len());
            let some = (whole.len() < rows).then_some(whole.as_slice());
            answers.push((args, spread(self.model.as_ref(), answer, some, rows)?));
        }
        let mut columns = batch.columns().to_vec();
        for question in &call.questions {
            let found = answers.iter().find(|(args, _)| *args == question.args);
            let (_, answer) = found.ok_or_else(|| EngineError::bug("a question without its answer"))?;
            columns.push(question.shape.column(self.model.output(), answer.columns.clone())?);
        }
        out.emit(Delta::insert(batch_of(&self.plan.output, columns, rows)?));
        Ok(())
    }

    /// Rows that no watermark speaks of need have no time; without one nothing is known of them.
    fn without_time(&self, deltas: Vec<Delta>, out: &mut Output) -> Result<Vec<Delta>> {
        let mut with_time = Vec::with_capacity(deltas.len());
        for delta in deltas {
            let times = delta.batch.column(self.plan.call.time);
            if times.null_count() == 0 {
                with_time.push(delta);
                continue;
            }
            let known: BooleanArray = (0..delta.rows()).map(|row| Some(times.is_valid(row))).collect();
            let others = delta.filter(&arrow::compute::not(&known)?)?;
            let mut columns: Vec<ArrayRef> = others.batch.columns().to_vec();
            for answer in &self.plan.output.fields()[columns.len()..] {
                columns.push(new_null_array(answer.data_type(), others.rows()));
            }
            out.emit(Delta::insert(batch_of(&self.plan.output, columns, others.rows())?));
            with_time.push(delta.filter(&known)?);
        }
        Ok(with_time)
    }
}

impl Operator for OnlinePredict {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        self.lessons.take_in(std::mem::take(&mut input.ports[1]), before, out)?;
        let asked = std::mem::take(&mut input.ports[0]);
        let asked = match self.plan.call.by_watermark {
            true => judge((self.plan.call.time, 0), asked, before, out)?,
            false => self.without_time(asked, out)?,
        };
        self.asked.take_in(asked, Some(self.plan.call.time))?;
        if after <= self.watermark && after != WATERMARK_MAX {
            return Ok(Progress::Done);
        }
        self.watermark = after;
        while let Some(batch) = self.asked.settle(after, CHUNK_ROWS)? {
            self.answer(&batch, out)?;
        }
        self.lessons.learn_before(after, after, |_, _| {})?;
        self.lessons.learner.publish();
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        state.meta.insert(ARRIVALS.into(), self.asked.kept.next_arrival.into());
        self.asked.save(kind, state)?;
        self.lessons.save(kind, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.watermark = newest_time(state.metas, WATERMARK);
        let arrivals = state.metas.iter().filter_map(|meta| meta.get(ARRIVALS)?.as_u64()).max().unwrap_or(0);
        self.asked.restore(state, &[], Some(self.plan.call.time), self.watermark)?;
        self.asked.kept.take_unsaved();
        self.asked.kept.next_arrival = arrivals.max(self.asked.kept.next_arrival);
        self.lessons.restore(NAME, state, self.watermark)
    }

    fn state_bytes(&self) -> usize {
        self.asked.bytes() + self.lessons.bytes()
    }

    fn state_rows(&self) -> usize {
        self.asked.kept.rows.len() + self.lessons.rows()
    }
}
