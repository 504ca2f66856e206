//! How well a model does that learns, and how far its input has gone from what it began with: a row for every so many rows that it learnt.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::WATERMARK;
use super::lessons::Lessons;
use crate::aggregate::partial::newest_time;
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::model::{Model, ModelSlot};
use crate::online::Report;
use crate::operator::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN, event_times_from_ms};

const NAME: &str = "OnlineReport";

/// Makes operators that read lessons of a [`LabelledFactory`](super::LabelledFactory), on the shard of the first hash group.
pub struct OnlineReportFactory {
    plan: Arc<Plan>,
}

struct Plan {
    model: Arc<ModelSlot>,
    labelled: SchemaRef,
    by_watermark: bool,
    output: SchemaRef,
}

impl OnlineReportFactory {
    /// `by_watermark`: whether a watermark speaks of the time of lessons.
    ///
    /// # Errors
    /// A model that does not go on learning.
    pub fn new(labelled: &SchemaRef, by_watermark: bool, model: Arc<ModelSlot>) -> Result<Self> {
        let output = Self::columns(model.current().as_ref(), labelled.field(0).data_type())?;
        let plan = Arc::new(Plan { model, labelled: Arc::clone(labelled), by_watermark, output });
        OnlineReport::new(&plan)?;
        Ok(Self { plan })
    }

    /// What leaves, where event times are of this type: the time of the last row, how many were learnt by then, and the model's own figures.
    ///
    /// # Errors
    /// A model that does not go on learning.
    pub fn columns(model: &dyn Model, time: &DataType) -> Result<SchemaRef> {
        let online = model.online().ok_or_else(|| EngineError::bug("a model that does not learn"))?;
        let mut fields = vec![Field::new("ts", time.clone(), false), Field::new("rows_learnt", DataType::Int64, false)];
        fields.extend(online.report_fields());
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The columns that come out.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

impl OperatorFactory for OnlineReportFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(OnlineReport::new(&self.plan)?))
    }
}

/// See the [module](super).
struct OnlineReport {
    plan: Arc<Plan>,
    model: Arc<dyn Model>,
    lessons: Lessons,
    watermark: EventTimeMs,
}

impl OnlineReport {
    fn new(plan: &Arc<Plan>) -> Result<Self> {
        let model = plan.model.current();
        Ok(Self {
            lessons: Lessons::new(model.as_ref(), &plan.labelled, plan.by_watermark)?,
            model,
            plan: Arc::clone(plan),
            watermark: WATERMARK_MIN,
        })
    }
}

impl Operator for OnlineReport {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let (before, after) = (input.watermarks.before, input.watermarks.after);
        self.lessons.take_in(input.single(), before, out)?;
        if after <= self.watermark && after != WATERMARK_MAX {
            return Ok(Progress::Done);
        }
        self.watermark = after;
        let (mut times, mut reports) = (Vec::new(), Vec::<Report>::new());
        self.lessons.learn_before(after, after, |time, report| {
            times.push(time);
            reports.push(report);
        })?;
        self.lessons.learner.publish();
        if reports.is_empty() {
            return Ok(Progress::Done);
        }
        let online = self.model.online().ok_or_else(|| EngineError::bug("a model that does not learn"))?;
        let rows = reports.len();
        let learnt = Int64Array::from_iter_values(reports.iter().map(|report| report.rows as i64));
        let time_type = self.plan.output.field(0).data_type();
        let mut columns: Vec<ArrayRef> =
            vec![event_times_from_ms(Int64Array::from(times), time_type)?, Arc::new(learnt)];
        columns.extend(online.reports(&reports)?);
        out.emit(Delta::insert(batch_of(&self.plan.output, columns, rows)?));
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        state.meta.insert(WATERMARK.into(), self.watermark.into());
        self.lessons.save(kind, state)
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.watermark = newest_time(state.metas, WATERMARK);
        self.lessons.restore(NAME, state, self.watermark)
    }

    fn state_bytes(&self) -> usize {
        self.lessons.bytes()
    }

    fn state_rows(&self) -> usize {
        self.lessons.rows()
    }
}
