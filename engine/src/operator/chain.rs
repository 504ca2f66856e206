//! A chain of stateless steps over the rows of an edge: filters, projections, and transforms like `UNNEST`, one after the other on
//! the same batch, with no channel in between.
//!
//! A filter that keeps every row and a projection of plain columns cost nothing; weights and ordinals follow their rows.
//!
//! A row of which a step cannot compute something ends the pipeline, unless it can be taken back ([`deferred`]).

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;

use self::deferred::Deferred;

use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::{ExprRef, StepContext, Transform};
use crate::time::{EventTimeMs, WATERMARK_MAX, WATERMARK_MIN};

mod deferred;
#[cfg(test)]
mod tests;

/// One step of a chain.
#[derive(Clone)]
pub enum Stage {
    /// Keeps the rows where the boolean expression is true.
    Filter(ExprRef),
    /// Computes new columns.
    Project {
        /// One for each column.
        exprs: Vec<ExprRef>,
        /// The columns that come out.
        schema: SchemaRef,
    },
    /// Any number of rows for each row.
    Transform(Arc<dyn Transform>),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(expr) => write!(f, "filter {expr}"),
            Self::Project { exprs, .. } => {
                f.write_str("project [")?;
                for (index, expr) in exprs.iter().enumerate() {
                    write!(f, "{}{expr}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Transform(transform) => write!(f, "{transform}"),
        }
    }
}

/// Makes [`Chain`]s.
pub struct ChainFactory {
    stages: Arc<[Stage]>,
    deferring: Option<Deferring>,
}

/// Of rows that can be taken back, those that cannot be computed are kept until they are.
struct Deferring {
    input: SchemaRef,
    route: Vec<usize>,
}

impl ChainFactory {
    /// A chain of `stages`, first to last.
    pub fn new(stages: Vec<Stage>) -> Self {
        Self { stages: stages.into(), deferring: None }
    }

    /// Rows that cannot be computed are an error only where they are still there when the input has ended. Rows with the columns of `input`
    /// come, and equal ones to the same shard, by the hash of the columns `route`.
    ///
    /// # Errors
    /// A column of `input` whose values cannot be compared; the chain is as before then.
    pub fn defer(&mut self, input: SchemaRef, route: Vec<usize>) -> Result<()> {
        Deferred::new(&input, &route)?;
        self.deferring = Some(Deferring { input, route });
        Ok(())
    }

    /// The stages, first to last.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }
}

impl OperatorFactory for ChainFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        let deferring = self.deferring.as_ref();
        let deferred = deferring.map(|Deferring { input, route }| Deferred::new(input, route)).transpose()?;
        Ok(Box::new(Chain { stages: Arc::clone(&self.stages), deferred }))
    }

    fn refuses_as_bad(&self) -> bool {
        self.deferring.is_some()
    }
}

/// The operator's name.
pub const NAME: &str = "Chain";

/// Filters, projections and transforms, without a state but for rows that cannot be computed.
pub struct Chain {
    stages: Arc<[Stage]>,
    deferred: Option<Deferred>,
}

impl Chain {
    /// Finds the rows of which a stage cannot compute something, by halving, and runs the others.
    fn run_rest(&mut self, delta: Delta, input: &Input<'_>, out: &mut Output) -> Result<()> {
        let (mut failed, mut reasons) = (Vec::new(), Vec::new());
        let mut open = vec![(0, delta.rows())];
        while let Some((first, rows)) = open.pop() {
            match run_stages(&self.stages, delta.slice(first, rows), input.context, input.watermarks.before) {
                Ok(rest) => rest.into_iter().for_each(|rest| out.emit(rest)),
                Err(error @ EngineError::Evaluate { .. }) if rows == 1 => {
                    failed.push(first as u32);
                    reasons.push(error.to_string());
                }
                Err(EngineError::Evaluate { .. }) => {
                    let half = rows / 2;
                    open.extend([(first + half, rows - half), (first, half)]);
                }
                Err(other) => return Err(other),
            }
        }
        match &mut self.deferred {
            Some(deferred) => deferred.take_in(&delta.take(&UInt32Array::from(failed))?, reasons),
            None => Err(EngineError::bug("a chain that keeps no rows took some in")),
        }
    }

    /// What cannot be computed of the rows that are there when the input has ended.
    fn fail_at_end(&self, input: &Input<'_>) -> Result<()> {
        let Some(deferred) = self.deferred.as_ref().filter(|_| input.watermarks.after == WATERMARK_MAX) else {
            return Ok(());
        };
        match deferred.any()? {
            Some(row) => run_stages(&self.stages, row, input.context, input.watermarks.before).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Operator for Chain {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        for delta in input.single() {
            let kept = self.deferred.as_ref().map(|_| delta.clone());
            match (run_stages(&self.stages, delta, input.context, input.watermarks.before), kept) {
                (Ok(rest), _) => rest.into_iter().for_each(|rest| out.emit(rest)),
                (Err(EngineError::Evaluate { .. }), Some(delta)) => self.run_rest(delta, &input, out)?,
                (Err(error), _) => return Err(error),
            }
        }
        if let Some(deferred) = &mut self.deferred {
            deferred.settle(out)?;
        }
        self.fail_at_end(&input)?;
        Ok(Progress::Done)
    }

    fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        self.deferred.as_mut().map_or(Ok(()), |deferred| deferred.save(kind, state))
    }

    fn restore(&mut self, state: &StateReader<'_>) -> Result<()> {
        self.deferred.as_mut().map_or(Ok(()), |deferred| deferred.restore(NAME, state))
    }

    fn state_bytes(&self) -> usize {
        self.deferred.as_ref().map_or(0, Deferred::bytes)
    }

    fn state_rows(&self) -> usize {
        self.deferred.as_ref().map_or(0, Deferred::len)
    }
}

/// The rows of `delta` after all stages; `None` when none is left.
fn run_stages(
    stages: &[Stage],
    mut delta: Delta,
    context: &StepContext,
    watermark: EventTimeMs,
) -> Result<Option<Delta>> {
    for stage in stages {
        if delta.is_empty() {
            return Ok(None);
        }
        delta = match stage {
            Stage::Filter(predicate) => filter(delta, predicate, context, watermark)?,
            Stage::Project { exprs, schema } => {
                let batch = project_behind(&delta, exprs, schema, context, watermark)?;
                delta.with_batch(batch)
            }
            Stage::Transform(transform) => {
                let (batch, rows) = transform.apply(&delta.batch, context)?;
                let follow = |column: &dyn Array| take(column, &rows, None);
                Delta {
                    batch,
                    weights: delta.weights.as_ref().map(|w| follow(w)).transpose()?.map(|w| w.as_primitive().clone()),
                    ordinals: delta.ordinals.as_ref().map(|o| follow(o)).transpose()?.map(|o| o.as_primitive().clone()),
                }
            }
        };
    }
    Ok((!delta.is_empty()).then_some(delta))
}

fn filter(delta: Delta, predicate: &ExprRef, context: &StepContext, watermark: EventTimeMs) -> Result<Delta> {
    let mask = predicate.evaluate_behind(&delta.batch, context, delta.ordinals.as_ref(), watermark)?;
    let mask = mask
        .as_boolean_opt()
        .ok_or_else(|| EngineError::bug(format!("the filter `{predicate}` has type {}", mask.data_type())))?;
    if mask.null_count() == 0 && mask.true_count() == mask.len() {
        return Ok(delta);
    }
    delta.filter(mask)
}

/// Evaluates `exprs` over the rows of `delta`, whose watermark nobody asks for.
pub fn project(delta: &Delta, exprs: &[ExprRef], schema: &SchemaRef, context: &StepContext) -> Result<RecordBatch> {
    project_behind(delta, exprs, schema, context, WATERMARK_MIN)
}

fn project_behind(
    delta: &Delta,
    exprs: &[ExprRef],
    schema: &SchemaRef,
    context: &StepContext,
    watermark: EventTimeMs,
) -> Result<RecordBatch> {
    let columns = exprs
        .iter()
        .map(|expr| match expr.as_column() {
            Some(index) => Ok(Arc::clone(delta.batch.column(index))),
            None => expr.evaluate_behind(&delta.batch, context, delta.ordinals.as_ref(), watermark),
        })
        .collect::<Result<Vec<_>>>()?;
    batch_of(schema, columns, delta.rows())
}
