//! Patterns in a query that is answered at once.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::LogicalPlan;
use eagre_engine::operator::OperatorFactoryRef;
use eagre_engine::operator::match_recognize::MatchFactory;

use super::MatchRecognize;
use super::spec::{Expressions, Rows};
use crate::catalog::MatchSettings;
use crate::error::{Location, Result};
use crate::planner::at_once::AtOnce;
use crate::planner::lower::engine;

impl AtOnce for MatchRecognize {
    fn input(&self) -> &LogicalPlan {
        &self.input
    }

    fn schema(&self) -> &DFSchema {
        &self.schema
    }

    fn location(&self) -> Option<Location> {
        self.location
    }

    fn operator(&self, config: &Arc<ConfigOptions>, settings: &MatchSettings) -> Result<OperatorFactoryRef> {
        self.check_output()?;
        let schema = Arc::clone(self.input.schema().inner());
        let width = schema.fields().len();
        let exprs = Expressions::new(config, self, (0..width).collect(), width)?;
        let rows = Rows {
            schema,
            retracting: false,
            bounded: true,
            order: exprs.order(&self.rules)?,
            by_watermark: false,
            whole_partitions: false,
            allowed_lateness_ms: 0,
        };
        let factory = MatchFactory::new(exprs.spec(self, rows, settings)?).map_err(engine);
        Ok(Arc::new(factory.map_err(|error| error.or_at(self.location))?))
    }
}
