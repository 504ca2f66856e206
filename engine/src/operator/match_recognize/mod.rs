//! `MATCH_RECOGNIZE`: rows of a partition that together match a pattern.

mod spec;

pub use spec::*;

use arrow::datatypes::SchemaRef;

use super::{Operator, OperatorFactory};
use crate::error::Result;

/// Makes the operators of a [`MatchSpec`].
pub struct MatchFactory {
    spec: std::sync::Arc<MatchSpec>,
}

impl MatchFactory {
    /// Checks the spec.
    ///
    /// # Errors
    /// A pattern that is too large; keys that cannot be compared.
    pub fn new(spec: MatchSpec) -> Result<Self> {
        Ok(Self { spec: std::sync::Arc::new(spec) })
    }

    /// The columns that leave.
    pub fn output_schema(&self) -> SchemaRef {
        self.spec.output_schema()
    }

    /// Whether matches are taken back: rows can be, or come late, or matches leave before they are final.
    pub fn retracts(&self) -> bool {
        let spec = &self.spec;
        spec.retracting || spec.allowed_lateness_ms > 0 || spec.emit == MatchEmit::Changes
    }
}

impl OperatorFactory for MatchFactory {
    fn name(&self) -> &'static str {
        "MatchRecognize"
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        todo!()
    }
}
