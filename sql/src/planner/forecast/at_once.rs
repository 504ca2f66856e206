//! Forecasts in a query that is answered at once.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::{Column, DFSchema, Result as DataFusionResult};
use datafusion::logical_expr::LogicalPlan;
use eagre_engine::operator::OperatorFactoryRef;
use eagre_engine::operator::forecast::ForecastFactory;

use super::ForecastTable;
use crate::catalog::MatchSettings;
use crate::error::{Location, Result};
use crate::planner::at_once::AtOnce;
use crate::planner::lower::engine;

impl AtOnce for ForecastTable {
    fn input(&self) -> &LogicalPlan {
        &self.input
    }

    fn schema(&self) -> &DFSchema {
        &self.schema
    }

    fn location(&self) -> Option<Location> {
        self.location
    }

    fn operator(&self, _: &Arc<ConfigOptions>, _: &MatchSettings) -> Result<OperatorFactoryRef> {
        let place = |column: &Column| self.input.schema().index_of_column(column);
        let keys = self.rules.keys.iter().map(place).collect::<DataFusionResult<Vec<_>>>()?;
        let (time, value) = (place(&self.rules.time)?, place(&self.rules.value)?);
        let schema = Arc::clone(self.input.schema().inner());
        let factory = ForecastFactory::new(self.rules.spec(schema, keys, time, value, false)).map_err(engine);
        Ok(Arc::new(factory.map_err(|error| error.or_at(self.location))?))
    }
}
