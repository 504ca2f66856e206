//! Labelled rows as numbers; what is no number, or no label of the model, is told and left out, so that it never reaches the weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};

use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::model::ModelSlot;
use crate::operator::{BadRows, Input, Operator, OperatorFactory, Output, Progress};

const NAME: &str = "Labelled";

/// Makes operators that turn rows into lessons: event time, inputs, and what is to be learnt, as numbers that are all finite.
pub struct LabelledFactory {
    plan: Arc<Plan>,
}

struct Plan {
    model: Arc<ModelSlot>,
    time: usize,
    inputs: Vec<usize>,
    label: usize,
    names: Vec<String>,
    output: SchemaRef,
}

impl LabelledFactory {
    /// `time`, `inputs` (of the model, in its order) and `label` are columns of `input`, whose rows are only inserted.
    ///
    /// # Errors
    /// A model that does not go on learning; other than its inputs.
    pub fn new(
        input: &SchemaRef,
        model: Arc<ModelSlot>,
        time: usize,
        inputs: Vec<usize>,
        label: usize,
    ) -> Result<Self> {
        let current = model.current();
        if current.online().is_none() || current.input().fields().len() != inputs.len() {
            return Err(EngineError::bug(format!("model `{}` learns other rows than it is given", model.name())));
        }
        let names: Vec<String> = current.input().fields().iter().map(|field| field.name().clone()).collect();
        let mut fields = vec![Field::new("time", input.field(time).data_type().clone(), true)];
        fields.extend(names.iter().map(|name| Field::new(name, DataType::Float64, false)));
        fields.push(Field::new(input.field(label).name(), DataType::Float64, false));
        let output = Arc::new(Schema::new(fields));
        Ok(Self { plan: Arc::new(Plan { model, time, inputs, label, names, output }) })
    }

    /// Time, inputs, label.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }
}

impl OperatorFactory for LabelledFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn table(&self) -> Option<&str> {
        Some(self.plan.model.name())
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Labelled { plan: Arc::clone(&self.plan) }))
    }

    fn refuses_as_bad(&self) -> bool {
        true
    }
}

/// See the [module](self).
struct Labelled {
    plan: Arc<Plan>,
}

/// Why a number is none that can be computed with.
pub(super) fn flaw(value: Option<f64>) -> Option<&'static str> {
    match value {
        None => Some("null"),
        Some(value) if value.is_nan() => Some("not a number"),
        Some(value) if value.is_infinite() => Some("infinite"),
        Some(_) => None,
    }
}

/// Tells rows, by reason.
pub(super) fn tell(
    delta: &Delta,
    model: &ModelSlot,
    by_reason: BTreeMap<String, Vec<u32>>,
    out: &mut Output,
) -> Result<()> {
    for (reason, rows) in by_reason {
        out.bad(BadRows::of(delta, rows, reason, format!("model {}", model.name()))?);
    }
    Ok(())
}

impl Labelled {
    fn take_in(&self, delta: &Delta, out: &mut Output) -> Result<()> {
        let plan = &self.plan;
        let model = plan.model.current();
        let online = model.online().ok_or_else(|| EngineError::bug("a model that does not learn"))?;
        let batch = &delta.batch;
        let inputs: Vec<Float64Array> = plan
            .inputs
            .iter()
            .map(|place| Ok(cast(batch.column(*place), &DataType::Float64)?.as_primitive::<Float64Type>().clone()))
            .collect::<Result<_>>()?;
        let targets = online.targets(batch.column(plan.label))?;
        let mut by_reason: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let (mut kept, mut numbers) = (Vec::with_capacity(delta.rows()), Vec::with_capacity(delta.rows()));
        for (row, target) in targets.into_iter().enumerate() {
            let value = |column: &Float64Array| column.is_valid(row).then(|| column.value(row));
            let bad = inputs.iter().zip(&plan.names).find_map(|(column, name)| {
                flaw(value(column)).map(|flaw| format!("its input `{name}` is {flaw}, so it is not learnt"))
            });
            let without_time = batch.column(plan.time).is_null(row).then(|| "it has no event time".to_owned());
            match (without_time.or(bad), target) {
                (None, Ok(target)) => {
                    kept.push(row as u32);
                    numbers.push(target);
                }
                (Some(reason), _) => by_reason.entry(reason).or_default().push(row as u32),
                (None, Err(reason)) => by_reason.entry(reason.as_ref().to_owned()).or_default().push(row as u32),
            }
        }
        tell(delta, &plan.model, by_reason, out)?;
        let rows = kept.len();
        if rows == 0 {
            return Ok(());
        }
        let kept = UInt32Array::from(kept);
        let mut columns: Vec<ArrayRef> = vec![take(batch.column(plan.time), &kept, None)?];
        for column in &inputs {
            columns.push(take(column, &kept, None)?);
        }
        columns.push(Arc::new(Float64Array::from(numbers)));
        out.emit(Delta::insert(batch_of(&plan.output, columns, rows)?));
        Ok(())
    }
}

impl Operator for Labelled {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        for delta in input.single().iter().filter(|delta| !delta.is_empty()) {
            self.take_in(delta, out)?;
        }
        Ok(Progress::Done)
    }

    keeps_nothing!();
}

/// The numbers of lessons, row by row: the inputs, then what is to be learnt.
pub(super) fn numbers_of(batch: &RecordBatch) -> Vec<f64> {
    let columns: Vec<&[f64]> =
        batch.columns()[1..].iter().map(|column| column.as_primitive::<Float64Type>().values().as_ref()).collect();
    let mut numbers = Vec::with_capacity(columns.len() * batch.num_rows());
    for row in 0..batch.num_rows() {
        numbers.extend(columns.iter().map(|column| column[row]));
    }
    numbers
}
