//! A chain of stateless steps over the rows of an edge: filters, projections, and transforms like `UNNEST`, one after the other on
//! the same batch, with no channel in between.
//!
//! A filter that keeps every row and a projection of plain columns cost nothing; weights and ordinals follow their rows.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;

use super::{Input, Operator, OperatorFactory, Output, Progress, SaveKind, StateReader, StateWriter};
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::expr::{ExprRef, StepContext, Transform};
use crate::time::{EventTimeMs, WATERMARK_MIN};

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
}

impl ChainFactory {
    /// A chain of `stages`, first to last.
    pub fn new(stages: Vec<Stage>) -> Self {
        Self { stages: stages.into() }
    }

    /// The stages, first to last.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }
}

impl OperatorFactory for ChainFactory {
    fn name(&self) -> &'static str {
        "Chain"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Chain { stages: Arc::clone(&self.stages) }))
    }
}

/// Stateless filters, projections and transforms.
pub struct Chain {
    stages: Arc<[Stage]>,
}

impl Operator for Chain {
    fn name(&self) -> &'static str {
        "Chain"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        for delta in input.single() {
            if let Some(delta) = run_stages(&self.stages, delta, input.context, input.watermarks.before)? {
                out.emit(delta);
            }
        }
        Ok(Progress::Done)
    }

    fn save(&mut self, _kind: SaveKind, _state: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _state: &StateReader<'_>) -> Result<()> {
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        0
    }

    fn state_rows(&self) -> usize {
        0
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
