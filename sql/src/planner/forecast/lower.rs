//! From the logical node to the operator.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::logical_expr::LogicalPlan;
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Route};
use eagre_engine::operator::forecast::{ForecastFactory, ForecastSpec};

use super::ForecastTable;
use crate::error::{Result, SqlError};
use crate::planner::lower::{Lowering, Slot, Stream, StreamColumn, engine};

impl Lowering<'_> {
    pub(in crate::planner) fn lower_forecast(&mut self, node: &ForecastTable, plan: &LogicalPlan) -> Result<Stream> {
        let (rules, input) = (&node.rules, &node.input);
        let mut stream = self.lower(input)?;
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, input)?;
        }
        self.narrow(&mut stream);
        let learnable = stream.check_learnable("`FORECAST`", "forecast");
        learnable.map_err(|error| error.or_at(node.location))?;
        let index = |column: &Column| Ok::<_, SqlError>(input.schema().index_of_column(column)?);
        let by_watermark = stream.columns[index(&rules.time)?].rowtime;
        if !by_watermark && !stream.bounded {
            let message = format!(
                "`FORECAST` over a stream needs rows in event-time order, and no watermark speaks of `{0}`; add `WATERMARK FOR {0} AS {0} - \
                 INTERVAL '5' SECOND` to the table",
                rules.time.name
            );
            return Err(SqlError::plan(message, node.location));
        }
        if stream.ordered {
            stream.require_ordinals();
        }
        let from = self.flush(&mut stream, input);
        let place = |column: &Column| match stream.columns[index(column)?].slot {
            Slot::Physical(place) => Ok(place),
            Slot::Window(_) => Err(SqlError::internal("windows were not assigned")),
        };
        let keys = rules.keys.iter().map(place).collect::<Result<Vec<_>>>()?;
        let (time, value) = (place(&rules.time)?, place(&rules.value)?);
        let spec = ForecastSpec {
            placement: self.context.catalog.placement().clone(),
            ..rules.spec(Arc::clone(&stream.physical), keys.clone(), time, value, by_watermark)
        };
        let (event_time, width) = (spec.event_time(), node.schema.fields().len());
        let factory = ForecastFactory::new(spec).map_err(engine).map_err(|error| error.or_at(node.location))?;
        let latest = rules.options.is_latest();
        let columns: Vec<StreamColumn> = (0..width)
            .map(|column| StreamColumn {
                // Rows that are taken back are older than any watermark.
                rowtime: by_watermark && !latest && column == event_time,
                ..StreamColumn::plain(column)
            })
            .collect();
        let detail =
            format!("{rules}, {}", if by_watermark { "final by watermark" } else { "final when the input ends" });
        let bound = format!(
            "rows that wait for the {}; one model{}{}{}",
            if by_watermark { "watermark" } else { "end" },
            if latest || rules.options.errors { " and one forecast" } else { "" },
            if keys.is_empty() { "" } else { " of each key" },
            if stream.bounded { ", until the input ends" } else { ", for ever" },
        );
        let id = self.id("forecast", plan, &stream.tables);
        let output = EdgeInfo {
            schema: factory.output_schema(),
            changelog: if latest { ChangelogMode::Retract } else { ChangelogMode::AppendOnly },
            key: None,
            time_column: columns.iter().position(|column| column.rowtime),
            ordinals: false,
        };
        let operator = self.push_operator(id, factory, from, Route::Hash(keys), output, detail, &bound);
        if by_watermark {
            self.may_refuse(operator, &stream.tables);
        }
        let mut result = self.stream_after(&stream, operator, columns);
        result.columns[event_time].whole = !rules.options.errors;
        if latest {
            result.retracts_because =
                Some("`changelog => 'latest'` takes a forecast back when the key has a newer one".to_string());
        }
        Ok(result)
    }
}
