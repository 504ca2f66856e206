//! `anomaly_score(..) OVER (..)` and `detect_anomalies(..) OVER (..)`: where the engine's `Score` runs, and what is refused.
//!
//! A score is made of the rows before its own, so rows have to come in order and stay: a stream needs a watermark for that, and rows
//! that can be taken back would have to be unlearnt, which no model can. A finished table needs neither; its rows wait until it ends.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, WindowFrame, WindowFrameBound, WindowFunctionDefinition,
};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::array_lengths::{ArrayLength, ArrayLengthsFactory};
use eagre_engine::operator::over::OrderKey;
use eagre_engine::operator::score::{ScoreAnswer, ScoreCall, ScoreFactory, ScoreSpec};
use eagre_engine::score::Rest;

use super::super::expr::{short_text, strip_alias};
use super::super::lower::{Lowering, Slot, Stream, StreamColumn, engine};
use super::{Layout, Wishes};
use crate::error::{Result, SqlError};
use crate::functions::score::{ScoreArgs, ScoreFunction};
use crate::parser::EmitKind;

/// The function of a call, where that is for the `Score` operator.
pub(super) fn score_function(function: &WindowFunction) -> Option<ScoreFunction> {
    match &function.fun {
        WindowFunctionDefinition::WindowUDF(udf) => ScoreFunction::named(udf.name()),
        WindowFunctionDefinition::AggregateUDF(_) => None,
    }
}

/// Refuses a call whose `OVER` says other than that rows are compared with all those before them, in the order of their times.
///
/// # Errors
/// No order; one that is not that of the time that was given; a frame of some rows; an array of which nobody says how long it is.
pub(in crate::planner) fn check_over(expr: &Expr, input: &DFSchema) -> Result<()> {
    let Expr::WindowFunction(function) = strip_alias(expr) else { return Ok(()) };
    let Some(which) = score_function(function) else { return Ok(()) };
    let (name, params) = (which.name(), &function.params);
    let refuse = |message: String| Err(SqlError::plan(message, None));
    let order = params.order_by.iter().find(|sort| !matches!(strip_alias(&sort.expr), Expr::Literal(..)));
    let Some(order) = order else {
        return refuse(format!("`{name}` compares a row with earlier ones: add `ORDER BY <event time>` to its `OVER`"));
    };
    let args = ScoreArgs::of(which, &params.args)?;
    let feature = params.args.first().ok_or_else(|| SqlError::internal("a score of nothing"))?;
    let written = match strip_alias(feature) {
        Expr::Cast(cast) => &cast.expr,
        other => other,
    };
    args.check_width(which, &feature.get_type(input)?, &short_text(written))?;
    if let Some(place) = args.time {
        let (time, by) = (strip_alias(&params.args[place]), strip_alias(&order.expr));
        if time != by || !order.asc {
            return refuse(format!(
                "`{name}` goes through rows in the order of their times: its time is `{}`, so its `OVER` begins with \
                 `ORDER BY {}`, not `ORDER BY {}{}`",
                short_text(time),
                short_text(time),
                short_text(by),
                if order.asc { "" } else { " DESC" },
            ));
        }
    }
    if !is_all_before(&params.window_frame) {
        return refuse(format!(
            "`{name}` has seen all rows before its own, so its `OVER` takes no other frame than `RANGE BETWEEN UNBOUNDED \
             PRECEDING AND CURRENT ROW`"
        ));
    }
    Ok(())
}

/// A call as `EXPLAIN` shows it.
fn call_text(call: &ScoreCall, features: &str) -> String {
    let method = call.answer.method();
    let features = match call.width {
        Some(width) => format!("{features} of {width}"),
        None => features.to_owned(),
    };
    match &call.answer {
        ScoreAnswer::Score(_) => format!("{method} of {features}"),
        ScoreAnswer::Detections(options) => {
            let rest = match options.alarm().rest {
                Rest::Rows(rows) => format!("{rows} rows"),
                Rest::Ms(ms) => format!("{ms} ms"),
            };
            let rate = options.alarm().max_false_alarm_rate;
            format!("alarms by {method} of {features}, at most {rate} false, then rest for {rest}")
        }
    }
}

/// Whether a frame holds all rows up to the current one: what is written, or meant where nothing is.
fn is_all_before(frame: &WindowFrame) -> bool {
    let starts = matches!(&frame.start_bound, WindowFrameBound::Preceding(bound) if bound.is_null());
    starts && matches!(frame.end_bound, WindowFrameBound::CurrentRow)
}

/// The arrays that calls read, each once.
fn array_lengths(calls: &[ScoreCall]) -> Vec<ArrayLength> {
    let mut lengths: Vec<ArrayLength> = vec![];
    for call in calls {
        let (Some(width), [column]) = (call.width, call.features.as_slice()) else { continue };
        let reader = match call.answer {
            ScoreAnswer::Score(_) => ScoreFunction::Score,
            ScoreAnswer::Detections(_) => ScoreFunction::Detect,
        };
        let length = ArrayLength { column: *column, width, reader: reader.name().to_owned() };
        if !lengths.iter().any(|other| (other.column, other.width) == (length.column, width)) {
            lengths.push(length);
        }
    }
    lengths
}

impl Lowering<'_> {
    /// One operator: the stream with a score more for each call.
    pub(super) fn score_group(
        &mut self,
        mut stream: Stream,
        calls: &[(&WindowFunction, FieldRef)],
        input: &LogicalPlan,
        plan: &LogicalPlan,
        wishes: Wishes,
    ) -> Result<Stream> {
        let refuse = |message: String| Err(SqlError::plan(message, None));
        let name = score_function(calls[0].0).map_or("", ScoreFunction::name);
        stream.check_learnable(&format!("`{name}`"), "score")?;
        if self.emit == Some(EmitKind::Changes) {
            return refuse(format!(
                "`{name}` gives each row one score, when the watermark has passed it; leave `EMIT CHANGES` out"
            ));
        }
        let params = &calls[0].0.params;
        for (function, _) in calls {
            check_over(&Expr::from((*function).clone()), input.schema())?;
        }
        stream = self.by_processing_time(stream, params, input)?;
        let (mut inputs, layout) = self.lay_out(&mut stream, params, input)?;
        if !layout.by_time && !stream.bounded {
            return refuse(format!(
                "`{name}` over a stream needs rows in event-time order: begin the ORDER BY of its `OVER` with a column of which a \
                 watermark speaks, ascending (`WATERMARK FOR <column> AS ..` in `CREATE TABLE`), or with one that is `PROCTIME()`"
            ));
        }
        let order_time = layout.order.first().map(|key| key.column);
        let is_time =
            |column: &usize| matches!(inputs.fields[*column].data_type(), DataType::Timestamp(..) | DataType::Date32);
        let time = order_time.filter(is_time);
        let mut score_calls = vec![];
        for (function, field) in calls {
            let Some(which) = score_function(function) else { continue };
            let args = &function.params.args;
            let ScoreArgs { answer, features, width, learn, passed_over, .. } = ScoreArgs::of(which, args)?;
            if let Some(names) = passed_over {
                self.notice(format!(
                    "`ML_DETECT_ANOMALIES` asks the methods of `{}` and no ARIMA: {names} change nothing",
                    which.name()
                ));
            }
            let mut place = |arg: &Expr| inputs.add(self, &mut stream, arg);
            let features = args[..features].iter().map(&mut place).collect::<Result<Vec<_>>>()?;
            let learn = learn.map(|learn| place(&args[learn])).transpose()?;
            // A score is the same over a finished table, where nobody tells the function when a row was.
            let time = time.filter(|_| which == ScoreFunction::Detect);
            score_calls.push(ScoreCall { name: field.name().clone(), answer, features, width, time, learn });
        }
        self.project_inputs(&mut stream, inputs, &layout);
        if wishes.keeps_arrival {
            self.keep_arrival(&mut stream);
        }
        let tie = if layout.tells_apart() { None } else { self.tie(&mut stream) };
        let mut from = self.flush(&mut stream, input);
        let lengths = array_lengths(&score_calls);
        if !lengths.is_empty() {
            let id = self.id("array lengths", plan, &stream.tables);
            let told = lengths
                .iter()
                .map(|length| format!("{} of {}", stream.physical.field(length.column).name(), length.width));
            let detail = format!("arrays=[{}]", told.collect::<Vec<_>>().join(", "));
            let factory = ArrayLengthsFactory::new(lengths);
            from = (self.push_operator(id, factory, from, Route::Forward, stream.output_info(), detail, ""), PORT_MAIN);
        }
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
                .map(|call| call_text(call, &names(&mut call.features.iter().copied())))
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
            order: order.into_iter().chain(tie.map(OrderKey::ascending)).collect(),
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
        let id = self.id_over("score", plan, &stream);
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
        Ok(Stream { arrival: stream.arrival, ..self.stream_after(&stream, node, columns) })
    }
}
