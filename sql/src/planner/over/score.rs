//! `anomaly_score(..) OVER (..)`: where the engine's `Score` runs, and what is refused.
//!
//! A score is made of the rows before its own, so rows have to come in order and stay: a stream needs a watermark for that, and rows
//! that can be taken back would have to be unlearnt, which no model can. A finished table needs neither; its rows wait until it ends.

use arrow::datatypes::FieldRef;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{LogicalPlan, WindowFrame, WindowFrameBound, WindowFunctionDefinition};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Route};
use eagre_engine::operator::score::{ScoreCall, ScoreFactory, ScoreSpec};

use super::super::lower::{Lowering, Slot, Stream, StreamColumn, engine};
use super::Layout;
use crate::error::{Result, SqlError};
use crate::functions::score::{NAME, method_of};
use crate::parser::EmitKind;

/// Whether a call is for the `Score` operator.
pub(super) fn is_score(function: &WindowFunction) -> bool {
    matches!(&function.fun, WindowFunctionDefinition::WindowUDF(udf) if udf.name() == NAME)
}

/// Whether a frame holds all rows up to the current one: what is written, or meant where nothing is.
fn is_all_before(frame: &WindowFrame) -> bool {
    let starts = matches!(&frame.start_bound, WindowFrameBound::Preceding(bound) if bound.is_null());
    starts && matches!(frame.end_bound, WindowFrameBound::CurrentRow)
}

impl Lowering<'_> {
    /// One operator: the stream with a score more for each call.
    pub(super) fn score_group(
        &mut self,
        mut stream: Stream,
        calls: &[(&WindowFunction, FieldRef)],
        input: &LogicalPlan,
        plan: &LogicalPlan,
    ) -> Result<Stream> {
        let refuse = |message: String| Err(SqlError::plan(message, None));
        if stream.changelog != ChangelogMode::AppendOnly {
            let reason = stream.retracts_because.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            return refuse(format!(
                "`{NAME}` learns from rows and cannot unlearn one that is taken back{reason}; score rows that are only inserted"
            ));
        }
        if self.emit == Some(EmitKind::Changes) {
            return refuse(format!(
                "`{NAME}` gives each row one score, when the watermark has passed it; leave `EMIT CHANGES` out"
            ));
        }
        let params = &calls[0].0.params;
        let (mut inputs, layout) = self.lay_out(&mut stream, params, input)?;
        if layout.order.is_empty() {
            return refuse(format!(
                "`{NAME}` compares a row with earlier ones: add `ORDER BY <event time>` to its `OVER`"
            ));
        }
        if !layout.by_time && !stream.bounded {
            return refuse(format!(
                "`{NAME}` over a stream needs rows in event-time order: begin the ORDER BY of its `OVER` with a column of which a \
                 watermark speaks, ascending (`WATERMARK FOR <column> AS ..` in `CREATE TABLE`)"
            ));
        }
        let mut score_calls = vec![];
        for (function, field) in calls {
            if !is_all_before(&function.params.window_frame) {
                return refuse(format!(
                    "`{NAME}` has seen all rows before its own, so its `OVER` takes no other frame than `RANGE BETWEEN UNBOUNDED \
                     PRECEDING AND CURRENT ROW`"
                ));
            }
            let (method, args) = method_of(&function.params.args)?;
            let features = args.iter().map(|arg| inputs.add(self, &mut stream, arg)).collect::<Result<Vec<_>>>()?;
            score_calls.push(ScoreCall { name: field.name().clone(), method, features });
        }
        self.project_inputs(&mut stream, inputs, &layout);
        let from = self.flush(&mut stream, input);
        let Layout { key, partition, order, by_time, .. } = layout;
        let schema = stream.physical.clone();
        let names = |places: &mut dyn Iterator<Item = usize>| {
            places.map(|place| schema.field(place).name().clone()).collect::<Vec<_>>().join(", ")
        };
        let detail = format!(
            "partition=[{}], order=[{}], scores=[{}], {}",
            names(&mut partition.iter().copied()),
            names(&mut order.iter().map(|key| key.column)),
            score_calls
                .iter()
                .map(|call| format!("{} of {}", call.method, names(&mut call.features.iter().copied())))
                .collect::<Vec<_>>()
                .join(", "),
            if by_time { "final by watermark" } else { "final when the input ends" },
        );
        let bound = format!(
            "rows that wait for the {}; one model{}{}",
            if by_time { "watermark" } else { "end" },
            if partition.is_empty() { "" } else { " of each key" },
            if stream.bounded { ", until the input ends" } else { ", for ever" },
        );
        let spec = ScoreSpec {
            input: schema.clone(),
            partition: partition.clone(),
            order,
            by_watermark: by_time,
            calls: score_calls,
            placement: self.context.catalog.placement().clone(),
        };
        let factory = ScoreFactory::new(spec).map_err(engine)?;
        let mut columns = stream.columns.clone();
        if !by_time {
            columns.iter_mut().for_each(|column| (column.rowtime, column.role) = (false, None));
        }
        let time_column = columns.iter().find_map(|column| match (column.rowtime, column.slot) {
            (true, Slot::Physical(place)) => Some(place),
            _ => None,
        });
        let width = schema.fields().len();
        columns.extend((0..calls.len()).map(|index| StreamColumn::plain(width + index)));
        let id = self.id("score", plan, &stream.tables);
        let output = EdgeInfo {
            schema: factory.output_schema(),
            changelog: ChangelogMode::AppendOnly,
            key,
            time_column,
            ordinals: false,
        };
        let node = self.push_operator(id, factory, from, Route::Hash(partition), output, detail, &bound);
        if by_time {
            self.may_refuse(node, &stream.tables);
        }
        Ok(self.stream_after(&stream, node, columns))
    }
}
