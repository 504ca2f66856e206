//! Rows of two inputs that belong together.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::spec::Plan;
use crate::error::Result;

mod spec;

pub use self::spec::{JoinKind, JoinResidual, JoinSide, JoinSpec, JoinTime};

/// Makes [`Join`]s.
pub struct JoinFactory {
    plan: Arc<Plan>,
}

impl JoinFactory {
    /// Joins input port 0 (left) with input port 1 (right). Both are partitioned by their keys.
    ///
    /// # Errors
    /// Keys of a type that cannot be compared, or, where rows are retracted, columns of such a type; columns that are not there.
    pub fn new(spec: JoinSpec) -> Result<Self> {
        let plan = Arc::new(Plan::new(spec)?);
        Ok(Self { plan })
    }

    /// The columns that come out. Those of a side beside which rows without a match come out may be null.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output)
    }

    /// Whether output rows carry weights.
    pub fn is_updating(&self) -> bool {
        self.plan.updating
    }
}
