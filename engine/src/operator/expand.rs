//! Several projections of the same rows, one below the other: `GROUPING SETS`, `ROLLUP` and `CUBE` aggregate each row once for each
//! set, with the other keys null and a grouping id beside them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::chain::project;
use super::{Input, Operator, OperatorFactory, Output, Progress};
use crate::error::Result;
use crate::expr::ExprRef;

/// Makes [`Expand`]s.
pub struct ExpandFactory {
    projections: Arc<[Vec<ExprRef>]>,
    schema: SchemaRef,
}

impl ExpandFactory {
    /// Each row comes out once for each of `projections`, all of which give the columns of `schema`.
    pub fn new(projections: Vec<Vec<ExprRef>>, schema: SchemaRef) -> Self {
        Self { projections: projections.into(), schema }
    }
}

impl OperatorFactory for ExpandFactory {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Expand { projections: Arc::clone(&self.projections), schema: Arc::clone(&self.schema) }))
    }
}

/// Stateless: rows times projections.
pub struct Expand {
    projections: Arc<[Vec<ExprRef>]>,
    schema: SchemaRef,
}

impl Operator for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn step(&mut self, mut input: Input<'_>, out: &mut Output) -> Result<Progress> {
        for delta in input.single() {
            for exprs in self.projections.iter() {
                out.emit(delta.with_batch(project(&delta, exprs, &self.schema, input.context)?));
            }
        }
        Ok(Progress::Done)
    }

    keeps_nothing!();
}
