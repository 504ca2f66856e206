//! Rows that ask a model something that is no number: they pass and are told. A null asks nothing and is no error.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, SchemaRef};

use super::labelled::{flaw, tell};
use crate::delta::Delta;
use crate::error::{EngineError, Result};
use crate::model::ModelSlot;
use crate::operator::{Input, Operator, OperatorFactory, Output, Progress};

const NAME: &str = "Questions";

/// Makes operators that tell of rows whose questions cannot be answered. They are an operator of their own because the one that answers tells of late rows.
pub struct QuestionsFactory {
    model: Arc<ModelSlot>,
    args: Vec<usize>,
}

impl QuestionsFactory {
    /// `args` are the `DOUBLE` columns of `input` that the model is asked about.
    ///
    /// # Errors
    /// Other columns.
    pub fn new(input: &SchemaRef, model: Arc<ModelSlot>, args: Vec<usize>) -> Result<Self> {
        let types = args.iter().map(|arg| input.field(*arg).data_type());
        let current = model.current();
        if !types.eq(current.input().fields().iter().map(|field| field.data_type())) {
            return Err(EngineError::bug(format!(
                "model `{}` is asked about other columns than it reads",
                model.name()
            )));
        }
        Ok(Self { model, args })
    }
}

impl OperatorFactory for QuestionsFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Questions { model: Arc::clone(&self.model), args: self.args.clone() }))
    }

    fn refuses_as_bad(&self) -> bool {
        true
    }
}

struct Questions {
    model: Arc<ModelSlot>,
    args: Vec<usize>,
}

impl Questions {
    fn check(&self, delta: &Delta, out: &mut Output) -> Result<()> {
        let mut by_reason: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let model = self.model.current();
        for (arg, field) in self.args.iter().zip(model.input().fields()) {
            let values = delta.batch.column(*arg).as_primitive::<Float64Type>();
            for (row, value) in values.iter().enumerate() {
                let Some(flaw) = value.and_then(|value| flaw(Some(value))) else { continue };
                // Of several flaws one is told, and a null asks nothing.
                let told = by_reason.values().any(|rows| rows.contains(&(row as u32)));
                let asks = self.args.iter().all(|arg| delta.batch.column(*arg).is_valid(row));
                if asks && !told {
                    let reason = format!("its input `{}` is {flaw}, so it is not asked", field.name());
                    by_reason.entry(reason).or_default().push(row as u32);
                }
            }
        }
        tell(delta, &self.model, by_reason, out)
    }
}

impl Operator for Questions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        for delta in input.single() {
            self.check(&delta, out)?;
            out.emit(delta);
        }
        Ok(Progress::Done)
    }

    keeps_nothing!();
}
