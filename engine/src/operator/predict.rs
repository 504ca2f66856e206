//! Rows beside what models say of them: `predict(m, a, b)`, `classify(m, a, b)`, `ML_PREDICT`.
//!
//! A step's rows are handed to the model together. A row that the model refuses stays, with a null in the place of its prediction, and goes
//! with its reason to the side port, so that one bad row ends nothing. Nothing of a row is kept: a row that is taken back gets the
//! same answer again, because an answer depends on the row and the model alone. That is why another model may take the place of one
//! ([`ModelSlot::replace`]) only where rows are never taken back.
//!
//! Which model answers in a step is an input of the step: the hashes that hold from a step on are in the step log, and a replay asks the
//! models of these ([`Operator::recall`]). A checkpoint says which models its pipeline asked last, so that a pipeline that goes on with another
//! file under the same name is told so.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, UInt32Type, UInt64Type};
use serde_json::Value;

use super::{BadRows, Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::arrays::array_type;
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::HashGroups;
use crate::model::{Asker, Model, ModelSlot, Refusal, Shape, StepModels, ask, filled_by};

#[cfg(test)]
mod tests;

const NAME: &str = "Predict";
/// In the meta of a checkpoint: the hash of each model, by its name.
const MODELS: &str = "models";

/// One question to a model.
#[derive(Debug, Clone)]
pub struct PredictCall {
    /// What the result is called.
    pub name: String,
    /// Who is asked.
    pub model: Arc<ModelSlot>,
    /// What about: columns of the operator's input, of the types of [`Model::input`], or one of arrays for several of them ([`filled_by`]).
    pub args: Vec<usize>,
    /// What of the answer.
    pub shape: Shape,
    /// Which models answer in which steps of the pipeline.
    pub steps: Arc<StepModels>,
}

/// Makes [`Predict`]s.
pub struct PredictFactory {
    calls: Arc<[PredictCall]>,
    output: SchemaRef,
    retracts: bool,
}

impl PredictFactory {
    /// The columns of `input`, then one for each call.
    ///
    /// # Errors
    /// A call with other columns than the model takes.
    pub fn new(input: &SchemaRef, calls: Vec<PredictCall>) -> Result<Self> {
        let mut fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
        for call in &calls {
            let model = call.model.current();
            let types: Vec<DataType> = call.args.iter().map(|arg| input.field(*arg).data_type().clone()).collect();
            let fits = |(given, inputs): (&DataType, Range<usize>)| {
                let read = model.input().field(inputs.start).data_type();
                given == read || (*read == DataType::Float64 && *given == array_type())
            };
            if !filled_by(model.input(), &types).is_some_and(|filled| types.iter().zip(filled).all(fits)) {
                let types = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(EngineError::bug(format!("model `{}` is asked about ({types})", call.model.name())));
            }
            fields.push(Arc::new(Field::new(&call.name, call.shape.data_type(model.output()), true)));
        }
        Ok(Self { calls: calls.into(), output: Arc::new(Schema::new(fields)), retracts: false })
    }

    /// Whether rows can be taken back.
    pub fn retracting(self, retracts: bool) -> Self {
        Self { retracts, ..self }
    }

    /// The columns that come out.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }
}

impl OperatorFactory for PredictFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Predict {
            calls: Arc::clone(&self.calls),
            output: Arc::clone(&self.output),
            asked: vec![None; self.calls.len()],
            restored: vec![None; self.calls.len()],
            recalled: None,
            owned: HashGroups::ALL,
            _asks: self.calls.iter().map(|call| call.model.bind(self.retracts)).collect(),
        }))
    }

    fn refuses_as_bad(&self) -> bool {
        true
    }
}

/// See the [module](self).
struct Predict {
    calls: Arc<[PredictCall]>,
    output: SchemaRef,
    /// By call: the hash of the model that answered last.
    asked: Vec<Option<u64>>,
    /// By call: the hash of the checkpoint's model, until the first step.
    restored: Vec<Option<u64>>,
    /// In a replay: by call, the model that answers now.
    recalled: Option<Vec<Option<Arc<dyn Model>>>>,
    owned: HashGroups,
    /// While it runs, its models know of it.
    _asks: Vec<Arc<Asker>>,
}

/// Which models answer from a step on, in the step log.
fn answers_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("call", DataType::UInt32, false),
        Field::new("model", DataType::UInt64, false),
    ]))
}

impl Predict {
    /// The models that answer in a step, and what of that is new.
    fn models(&mut self, step: u64, out: &mut Output) -> Result<Vec<Arc<dyn Model>>> {
        let mut models = Vec::with_capacity(self.calls.len());
        let (mut changed, mut hashes) = (Vec::new(), Vec::new());
        if self.recalled.is_none() {
            self.check_restored()?;
        }
        for (index, call) in self.calls.iter().enumerate() {
            let recalled = self.recalled.as_ref().and_then(|models| models[index].clone());
            let model = recalled.unwrap_or_else(|| call.steps.at(&call.model, step));
            let hash = model.hash();
            if self.asked[index].replace(hash) != Some(hash) {
                changed.push(index as u32);
                hashes.push(hash);
            }
            models.push(model);
        }
        // All shards change at the same step, so one of them says so.
        if out.records_answers && !changed.is_empty() && self.owned.start == 0 {
            let rows = changed.len();
            let columns: Vec<ArrayRef> =
                vec![Arc::new(UInt32Array::from(changed)), Arc::new(UInt64Array::from(hashes))];
            out.answers.push(batch_of(&answers_schema(), columns, rows)?);
        }
        Ok(models)
    }

    /// A pipeline goes on with the models that it had, or that took their places in the same text.
    fn check_restored(&mut self) -> Result<()> {
        for (call, saved) in self.calls.iter().zip(&mut self.restored) {
            let Some(saved) = saved.take().filter(|saved| !call.model.has_had(*saved)) else { continue };
            let now = call.model.current();
            return Err(EngineError::Checkpoint {
                message: format!(
                    "model `{0}` ({1}) is another one than that of the checkpoint: its content was {saved:016x} and is {2:016x}; put the earlier \
                     file back, or begin anew with `--fresh`; `CREATE OR REPLACE MODEL {0}` exchanges a model while the pipeline runs",
                    call.model.name(),
                    now.describe(),
                    now.hash()
                ),
            });
        }
        Ok(())
    }

    fn predict(&self, delta: &Delta, models: &[Arc<dyn Model>], out: &mut Output) -> Result<()> {
        let mut columns = delta.batch.columns().to_vec();
        for (call, model) in self.calls.iter().zip(models) {
            let inputs: Vec<ArrayRef> = call.args.iter().map(|arg| Arc::clone(delta.batch.column(*arg))).collect();
            let answer = ask(model.as_ref(), &inputs, delta.rows()).map_err(|error| match error {
                EngineError::Bug(_) => error,
                other => EngineError::evaluate(format!("model {}", call.model.name()), other),
            })?;
            columns.push(call.shape.column(model.output(), answer.columns)?);
            refuse(delta, call, model.as_ref(), answer.refused, out)?;
        }
        out.emit(delta.with_batch(batch_of(&self.output, columns, delta.rows())?));
        Ok(())
    }
}

/// Sends rows to the side port, each with what the model was asked. Of a row that is taken back it was told when it came.
fn refuse(delta: &Delta, call: &PredictCall, model: &dyn Model, refused: Vec<Refusal>, out: &mut Output) -> Result<()> {
    let mut by_reason: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for refusal in refused.into_iter().filter(|refusal| delta.weight(refusal.row as usize) > 0) {
        by_reason.entry(refusal.reason).or_default().push(refusal.row);
    }
    for (reason, rows) in by_reason {
        let origin = format!("model {}", call.model.name());
        out.bad(BadRows::of(delta, rows, format!("{}: {reason}", model.describe()), origin)?);
    }
    Ok(())
}

impl Operator for Predict {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        let models = self.models(input.context.step, out)?;
        for delta in input.single().iter().filter(|delta| !delta.is_empty()) {
            self.predict(delta, &models, out)?;
        }
        Ok(Progress::Done)
    }

    fn recall(&mut self, answers: &[RecordBatch]) -> Result<()> {
        if self.recalled.is_none() {
            let of_checkpoint = self.calls.iter().zip(&self.restored);
            let of_checkpoint = of_checkpoint.map(|(call, hash)| hash.map(|hash| call.model.version(hash)).transpose());
            self.recalled = Some(of_checkpoint.collect::<Result<_>>()?);
        }
        let recalled = self.recalled.as_mut().ok_or_else(|| EngineError::bug("models were just recalled"))?;
        for answer in answers {
            let (calls, hashes) =
                (answer.column(0).as_primitive_opt::<UInt32Type>(), answer.column(1).as_primitive_opt::<UInt64Type>());
            let (Some(calls), Some(hashes)) = (calls, hashes) else {
                return Err(EngineError::Checkpoint {
                    message: "the step log has no models in the place of models".into(),
                });
            };
            for (index, hash) in calls.values().iter().zip(hashes.values()) {
                let index = *index as usize;
                let call =
                    self.calls.get(index).ok_or_else(|| EngineError::bug("a model of a call that is not there"))?;
                recalled[index] = Some(call.model.version(*hash)?);
            }
        }
        Ok(())
    }

    fn save(&mut self, _kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let hashes = self.calls.iter().zip(&self.asked);
        let hashes = hashes
            .filter_map(|(call, hash)| Some((call.model.name().to_owned(), Value::from(format!("{:016x}", (*hash)?)))));
        state.meta.insert(MODELS.to_owned(), Value::Object(hashes.collect()));
        Ok(())
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.owned = state.owned;
        for models in state.metas.iter().filter_map(|meta| meta.get(MODELS)) {
            for (index, call) in self.calls.iter().enumerate() {
                let Some(saved) = models.get(call.model.name()).and_then(Value::as_str) else { continue };
                let hash = u64::from_str_radix(saved, 16).map_err(|_| EngineError::Checkpoint {
                    message: format!("model `{}` has the content `{saved}`, which is no hash", call.model.name()),
                })?;
                (self.asked[index], self.restored[index]) = (Some(hash), Some(hash));
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        0
    }

    fn state_rows(&self) -> usize {
        0
    }
}
