//! `OVER`: which of the engine's two ways a window expression takes, and what it reads.
//!
//! Calls over the same partitions in the same order are one operator, after a projection that computes keys, arguments and filters. Where the
//! order begins with the event time of rows that are only inserted, results are final rows, made by the watermark; otherwise they are
//! corrected as rows come.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{NullTreatment, Sort, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, LogicalPlan, Window, WindowFunctionDefinition};
use eagre_engine::aggregate::{AggregateFunctionRef, BuiltinRequest, builtin};
use eagre_engine::expr::{Expr, ExprRef, PlainColumn};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Route};
use eagre_engine::operator::over::{
    Exclusion, Finality, Frame, OrderKey, OverCall, OverFactory, OverFunctionRef, OverRequest, OverSpec, Reach,
    accumulated, excluding, native,
};

use self::foreign::{Call, ForeignAggregate, ForeignWindow, Frames};
use self::frame::{
    aggregate_of, distance_text, exclusion_of, frame_of, frame_text, is_session, reaches_of, row_by_row, session_of,
    session_text,
};
pub(super) use self::frames_at_once::frames_at_once;
use self::hold::{at_once, hold_of};
pub(super) use self::session_at_once::Sessions;
use self::tie::sees_ties;
use super::accumulators::{Arg, Foreign, ForeignSpec};
use super::aggregate::ORDERED_FUNCTIONS;
use super::context::default_functions;
use super::expr::{Compiler, short_text, strip_alias};
use super::lower::{Lowering, ShiftedTime, Slot, Stream, StreamColumn, WindowInfo, WindowPart, engine};
use super::processing_time::is_clock;
use crate::error::{Result, SqlError};
use crate::parser::EmitKind;
use crate::parser::frame_exclusion::FrameExclusion;

mod anew_at_once;
mod foreign;
mod frame;
mod frames_at_once;
mod hold;
pub(super) mod known_only;
pub(super) mod once;
pub(super) mod score;
mod session_at_once;
mod tie;

/// The rows that the operator reads: the stream's columns, then what is computed for the calls.
struct Inputs<'a> {
    exprs: Vec<ExprRef>,
    fields: Vec<FieldRef>,
    /// The expression of each computed column.
    computed: Vec<(LogicalExpr, usize)>,
    compiler: Compiler,
    plan: &'a LogicalPlan,
}

impl Inputs<'_> {
    /// The place of `expr`, computed unless it is a column.
    fn add(&mut self, lowering: &mut Lowering<'_>, stream: &mut Stream, expr: &LogicalExpr) -> Result<usize> {
        let expr = strip_alias(expr);
        if let LogicalExpr::Column(column) = expr {
            let index = self.plan.schema().index_of_column(column)?;
            if let Slot::Physical(place) = stream.columns[index].slot {
                return Ok(self.keep(stream, place));
            }
        }
        if let Some((_, place)) = self.computed.iter().find(|(known, _)| known == expr && !expr.is_volatile()) {
            return Ok(*place);
        }
        let compiled = lowering.compile(stream, &self.compiler, expr, &short_text(expr))?;
        self.fields.push(Arc::clone(compiled.field()));
        self.exprs.push(compiled);
        self.computed.push((expr.clone(), self.exprs.len() - 1));
        Ok(self.exprs.len() - 1)
    }

    /// What of column `place`, which is this part of a window, says that the window has closed.
    fn finality(&mut self, stream: &Stream, place: usize, info: &WindowInfo, part: WindowPart) -> Option<Finality> {
        if let Some(shift_ms) = info.closing_shift_ms(part) {
            return Some(Finality::Window { column: self.keep(stream, place), shift_ms });
        }
        let closing = ShiftedTime::closing(place, info, part)?;
        self.fields.push(Arc::clone(Expr::field(&closing)));
        self.exprs.push(Arc::new(closing));
        Some(Finality::Window { column: self.exprs.len() - 1, shift_ms: -1 })
    }

    /// The new place of a column of the batches.
    fn keep(&mut self, stream: &Stream, place: usize) -> usize {
        if let Some(index) = self.exprs.iter().position(|expr| expr.as_column() == Some(place)) {
            return index;
        }
        let field = Arc::clone(&stream.physical.fields()[place]);
        self.exprs.push(Arc::new(PlainColumn::new(place, Arc::clone(&field))));
        self.fields.push(field);
        self.exprs.len() - 1
    }
}

/// What an operator over partitions in an order reads, as places in its input.
struct Layout {
    /// The stream's columns.
    columns: Vec<StreamColumn>,
    key: Option<Vec<usize>>,
    /// The arrival numbers, where they are a column.
    arrival: Option<usize>,
    partition: Vec<usize>,
    order: Vec<OrderKey>,
    /// What the order is made of.
    sorts: Vec<Sort>,
    /// Whether a watermark speaks of the first of the order, which is ascending.
    by_time: bool,
    /// Whether there may be rows at the end that have no time to be final by.
    may_lack_time: bool,
}

impl Layout {
    /// Whether no two rows of a partition are equal in the order.
    fn tells_apart(&self) -> bool {
        let known = |place: &usize| self.partition.contains(place) || self.order.iter().any(|key| key.column == *place);
        self.key.as_ref().is_some_and(|key| key.iter().all(known))
    }
}

/// What is asked of the operator of some calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wishes {
    /// Whether rows keep their arrival numbers.
    keeps_arrival: bool,
    /// Whether rows come in the order of the calls.
    in_order: bool,
}

fn is_constant(expr: &LogicalExpr) -> bool {
    matches!(strip_alias(expr), LogicalExpr::Literal(..))
}

impl Lowering<'_> {
    /// `keeps_arrival`: rows keep their arrival numbers if they have any.
    pub(super) fn lower_over(&mut self, window: &Window, plan: &LogicalPlan, keeps_arrival: bool) -> Result<Stream> {
        let (input, exprs) = at_once(window);
        let calls = exprs.into_iter().map(|expr| match strip_alias(expr) {
            LogicalExpr::WindowFunction(function) => Ok(function.as_ref()),
            other => Err(SqlError::internal(format!("`{other}` is no window function"))),
        });
        let calls = calls.collect::<Result<Vec<_>>>()?;
        self.above.keeps_arrival = keeps_arrival || calls.iter().any(|call| sees_ties(call));
        let mut stream = self.lower(input)?;
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, input)?;
        }
        let width = input.schema().fields().len();
        // Calls over the same rows together, whatever their frames.
        let mut groups: Vec<Vec<usize>> = vec![];
        for (index, call) in calls.iter().enumerate() {
            let same = |other: &usize| {
                let (a, b) = (&calls[*other].params, &call.params);
                let rows = a.partition_by == b.partition_by && a.order_by == b.order_by;
                rows && score::score_function(calls[*other]).is_some() == score::score_function(call).is_some()
            };
            match groups.iter_mut().find(|group| group.first().is_some_and(same)) {
                Some(group) => group.push(index),
                None => groups.push(vec![index]),
            }
        }
        // What holds rows back comes last: what is behind it cannot go by the watermark.
        groups.sort_by_key(|group| group.iter().map(|index| hold_of(calls[*index], input)).max());
        let mut places = vec![0; calls.len()];
        let mut next = width;
        let last = groups.len() - 1;
        for (number, group) in groups.into_iter().enumerate() {
            let wishes = Wishes { keeps_arrival: keeps_arrival || number < last, in_order: false };
            for index in &group {
                places[*index] = next;
                next += 1;
            }
            let group: Vec<(&WindowFunction, FieldRef)> = group
                .into_iter()
                .map(|index| (calls[index], Arc::clone(&plan.schema().fields()[width + index])))
                .collect();
            stream = match score::score_function(group[0].0).is_some() {
                true => self.score_group(stream, &group, input, plan, wishes)?,
                false => self.over_group(stream, &group, input, plan, wishes)?,
            };
        }
        let results: Vec<StreamColumn> = places.iter().map(|place| stream.columns[*place].clone()).collect();
        stream.columns.truncate(width);
        stream.columns.extend(results);
        Ok(stream)
    }

    /// What an operator over these partitions in this order reads: the columns of the stream, the partitions' and the order's.
    fn lay_out<'p>(
        &mut self,
        stream: &mut Stream,
        params: &WindowFunctionParams,
        input: &'p LogicalPlan,
    ) -> Result<(Inputs<'p>, Layout)> {
        let compiler = self.compiler(stream, input.schema());
        let mut inputs = Inputs { exprs: vec![], fields: vec![], computed: vec![], compiler, plan: input };
        let mut columns = stream.columns.clone();
        for column in &mut columns {
            if let Slot::Physical(place) = column.slot {
                column.slot = Slot::Physical(inputs.keep(stream, place));
            }
        }
        let key = stream.key.clone().filter(|_| stream.changelog != ChangelogMode::Retract);
        let key: Option<Vec<usize>> = key.map(|key| key.into_iter().map(|place| inputs.keep(stream, place)).collect());
        let mut partition = vec![];
        for expr in params.partition_by.iter().filter(|expr| !is_constant(expr)) {
            let place = inputs.add(self, stream, expr)?;
            if !partition.contains(&place) {
                partition.push(place);
            }
        }
        let mut order = vec![];
        let sorts: Vec<Sort> = params.order_by.iter().filter(|sort| !is_constant(&sort.expr)).cloned().collect();
        for sort in &sorts {
            let column = inputs.add(self, stream, &sort.expr)?;
            let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            order.push(OrderKey { column, options });
        }
        let first = sorts.first().and_then(|sort| match strip_alias(&sort.expr) {
            LogicalExpr::Column(column) => Some((sort, &stream.columns[input.schema().index_of_column(column).ok()?])),
            _ => None,
        });
        // Does the watermark speak of the order?
        let by_time = first.is_some_and(|(sort, column)| sort.asc && column.rowtime);
        // Rows without a time would never be final, and are there when the input has ended.
        let may_lack_time = stream.bounded && first.is_some_and(|(_, column)| column.padded);
        let arrival = stream.arrival.map(|place| inputs.keep(stream, place));
        Ok((inputs, Layout { columns, key, arrival, partition, order, sorts, by_time, may_lack_time }))
    }

    /// The stream, in processing time if that is what the order begins with.
    fn by_processing_time(
        &mut self,
        stream: Stream,
        params: &WindowFunctionParams,
        input: &LogicalPlan,
    ) -> Result<Stream> {
        let first = params.order_by.iter().find(|sort| !is_constant(&sort.expr)).filter(|sort| sort.asc);
        match first.map(|sort| strip_alias(&sort.expr)) {
            Some(LogicalExpr::Column(column)) => self.order_in_processing_time(stream, input, column),
            _ => Ok(stream),
        }
    }

    /// Whether rows are ordered by processing time alone: each has then come at a time of its own, though a step shows one time for all of its
    /// rows, and no two are peers.
    fn orders_by_clock(&self, sorts: &[&Sort], plan: &LogicalPlan) -> Result<bool> {
        let [sort] = sorts else { return Ok(false) };
        match strip_alias(&sort.expr) {
            LogicalExpr::Column(column) => self.is_processing_time(plan, plan.schema().index_of_column(column)?),
            expr => Ok(is_clock(expr)),
        }
    }

    /// Gives the stream the columns that were laid out.
    fn project_inputs(&mut self, stream: &mut Stream, inputs: Inputs<'_>, layout: &Layout) {
        let schema: SchemaRef = Arc::new(Schema::new(inputs.fields));
        let direct = inputs.exprs.len() == stream.physical.fields().len()
            && inputs.exprs.iter().enumerate().all(|(place, expr)| expr.as_column() == Some(place));
        if !direct {
            self.project_physical(stream, inputs.exprs, schema);
        }
        stream.columns = layout.columns.clone();
        stream.key = layout.key.clone();
        stream.arrival = layout.arrival;
        if stream.ordered {
            stream.require_ordinals();
        }
    }

    /// One operator: the stream with a column more for each call.
    fn over_group(
        &mut self,
        mut stream: Stream,
        calls: &[(&WindowFunction, FieldRef)],
        input: &LogicalPlan,
        plan: &LogicalPlan,
        wishes: Wishes,
    ) -> Result<Stream> {
        let params = &calls[0].0.params;
        stream = self.by_processing_time(stream, params, input)?;
        let sees_ties = calls.iter().any(|(function, _)| sees_ties(function));
        let before = stream.clone();
        let old = stream.columns.clone();
        let (mut inputs, layout) = self.lay_out(&mut stream, params, input)?;
        let sorts: Vec<&Sort> = layout.sorts.iter().collect();
        let mut over_calls = vec![];
        for (function, field) in calls {
            over_calls.push(self.over_call(function, field, &sorts, &mut stream, &mut inputs)?);
        }
        let retracting = stream.changelog != ChangelogMode::AppendOnly;
        let by_window = match self.window_of(&stream, &old, params, input) {
            Some((place, info, part)) if stream.lateness_ms == 0 => inputs.finality(&stream, place, info, part),
            _ => None,
        };
        let by_time = layout.by_time;
        let never_final = over_calls.iter().any(|call| call.function.lookahead() == Reach::Unbounded);
        let on_close = self.emit == Some(EmitKind::OnWindowClose);
        if on_close && !by_time && by_window.is_none() {
            return Err(SqlError::plan(
                "EMIT ON WINDOW CLOSE needs an `OVER` whose rows become final: begin its ORDER BY with a column of which a \
                 watermark speaks, ascending, or have its PARTITION BY name a window that closes",
                None,
            ));
        }
        let finality = match self.emit {
            Some(EmitKind::Changes) => None,
            Some(EmitKind::OnWindowClose) => by_window.or(Some(Finality::Order)),
            None if retracting => None,
            None => by_window.or((by_time && !never_final && !layout.may_lack_time).then_some(Finality::Order)),
        };
        let settled = finality.is_some();
        // What follows from the rows so far needs none of the rows that the others keep: an operator of its own.
        let runs: Vec<bool> = over_calls.iter().map(|call| call.function.running().is_some()).collect();
        if finality == Some(Finality::Order) && runs.contains(&true) && runs.contains(&false) {
            let tells_apart = !sees_ties || layout.tells_apart();
            return self.over_split(before, calls, (&runs, tells_apart), input, plan, wishes);
        }

        self.project_inputs(&mut stream, inputs, &layout);
        if wishes.keeps_arrival {
            self.keep_arrival(&mut stream);
        }
        let asks = sees_ties && !wishes.in_order && !layout.tells_apart();
        let tie = if asks { self.tie(&mut stream) } else { None };
        let Layout { key, partition, order, .. } = layout;
        let from = self.flush(&mut stream, input);
        let schema = Arc::clone(&stream.physical);
        let name = |place: usize| schema.field(place).name().as_str();
        let sort_text =
            |key: &OrderKey| format!("{}{}", name(key.column), if key.options.descending { " DESC" } else { "" });
        let detail = format!(
            "partition=[{}], order=[{}], functions=[{}]{}",
            partition.iter().map(|place| name(*place)).collect::<Vec<_>>().join(", "),
            order.iter().map(sort_text).collect::<Vec<_>>().join(", "),
            calls.iter().map(|(function, _)| call_text(function)).collect::<Vec<_>>().join(", "),
            match finality {
                Some(Finality::Order) => ", final by watermark",
                Some(Finality::Window { .. }) => ", final when the window closes",
                None => "",
            },
        );
        let spec = OverSpec {
            input: Arc::clone(&schema),
            retracting,
            partition: partition.clone(),
            order: order.clone(),
            tie,
            calls: over_calls.clone(),
        };
        let factory = match finality {
            Some(finality) => OverFactory::settled(spec, finality),
            None => OverFactory::updating(spec),
        };
        let factory = factory.map_err(engine)?;
        let bound = match finality {
            None => self.updating_bound(&stream),
            Some(Finality::Window { .. }) => "rows of open windows, until the watermark passes window_end".to_string(),
            Some(Finality::Order) => {
                let key = order.first().map(|key| schema.field(key.column).data_type().clone());
                self.settled_bound(&stream, &over_calls, key.as_ref(), factory.is_running(), !partition.is_empty())
            }
        };
        let changelog = match (settled, &key) {
            (true, _) => ChangelogMode::AppendOnly,
            (false, Some(_)) => ChangelogMode::Upsert,
            (false, None) => ChangelogMode::Retract,
        };
        // A row that waits for others leaves behind the watermark; but not behind its window, nor further than its frame looks ahead.
        let mut columns = stream.columns.clone();
        match finality {
            Some(Finality::Order) if factory.delay_ms().is_some() => {
                let by_order = |column: &StreamColumn| column.slot == Slot::Physical(order[0].column);
                let has_other_times =
                    columns.iter().any(|column| column.rowtime && column.role.is_none() && !by_order(column));
                for column in columns.iter_mut().filter(|column| has_other_times && !by_order(column)) {
                    (column.rowtime, column.role) = (false, None);
                }
            }
            Some(Finality::Window { .. }) => {
                columns.iter_mut().for_each(|column| column.rowtime &= column.role.is_some())
            }
            _ => columns.iter_mut().for_each(|column| (column.rowtime, column.role) = (false, None)),
        }
        let time_column = columns.iter().find_map(|column| match (column.rowtime, column.slot) {
            (true, Slot::Physical(place)) => Some(place),
            _ => None,
        });
        let width = schema.fields().len();
        columns.extend((0..calls.len()).map(|index| StreamColumn::plain(width + index)));
        let id = self.id_over("over", plan, &stream);
        let output = EdgeInfo { schema: factory.output_schema(), changelog, key, time_column, ordinals: false };
        let node = self.push_operator(id, factory, from, Route::Hash(partition), output, detail, &bound);
        if settled {
            self.aggregated_window = true;
            self.may_refuse(node, &stream.tables);
        }
        let mut output = self.stream_after(&stream, node, columns);
        output.arrival = stream.arrival;
        output.retracts_because = match (settled, retracting) {
            (true, _) => None,
            (_, true) => stream.retracts_because.clone(),
            (_, false) if self.emit == Some(EmitKind::Changes) => {
                Some("`EMIT CHANGES` shows values that are corrected later".to_string())
            }
            (_, false) if by_time => Some("a frame that ends with the last row changes with each row".to_string()),
            _ => Some(
                "an `OVER` gives values that change with each row, unless its ORDER BY begins with a column of which a \
                 watermark speaks, ascending"
                    .to_string(),
            ),
        };
        Ok(output)
    }

    /// Two operators, one after the other: the calls of the first have running forms.
    fn over_split(
        &mut self,
        mut stream: Stream,
        calls: &[(&WindowFunction, FieldRef)],
        (runs, tells_apart): (&[bool], bool),
        input: &LogicalPlan,
        plan: &LogicalPlan,
        wishes: Wishes,
    ) -> Result<Stream> {
        let width = stream.columns.len();
        // Both go by the same column; or the second takes rows as the first leaves them.
        let by_contents = !tells_apart && !stream.ordered && stream.arrival.is_none();
        if by_contents {
            stream.arrival = Some(self.add_contents(&mut stream));
        }
        let mut places = vec![0; calls.len()];
        let mut next = width;
        for running in [true, false] {
            let mut group = vec![];
            for (index, call) in calls.iter().enumerate().filter(|(index, _)| runs[*index] == running) {
                places[index] = next;
                next += 1;
                group.push(call.clone());
            }
            let wishes = Wishes { in_order: !running && stream.arrival.is_none(), ..wishes };
            stream = self.over_group(stream, &group, input, plan, wishes)?;
        }
        if by_contents {
            stream.arrival = None;
        }
        let results: Vec<StreamColumn> = places.iter().map(|place| stream.columns[*place].clone()).collect();
        stream.columns.truncate(width);
        stream.columns.extend(results);
        Ok(stream)
    }

    /// The column of the batches by which the partitions belong to windows that close, and what of the window it is.
    fn window_of<'c>(
        &self,
        stream: &Stream,
        columns: &'c [StreamColumn],
        params: &WindowFunctionParams,
        input: &LogicalPlan,
    ) -> Option<(usize, &'c WindowInfo, WindowPart)> {
        if stream.changelog != ChangelogMode::AppendOnly {
            return None;
        }
        let found = params.partition_by.iter().filter_map(|expr| {
            let LogicalExpr::Column(column) = strip_alias(expr) else {
                return None;
            };
            let column = &columns[input.schema().index_of_column(column).ok()?];
            let (info, part) = column.role.as_ref()?;
            let Slot::Physical(place) = column.slot else {
                return None;
            };
            let to_end_ms = info.to_end_ms(*part)?;
            (info.watermark && info.emit != Some(EmitKind::Changes)).then_some((to_end_ms, (place, info, *part)))
        });
        found.min_by_key(|(to_end_ms, _)| (to_end_ms - 1).unsigned_abs()).map(|(_, found)| found)
    }

    /// What is kept where values are corrected, in words.
    fn updating_bound(&mut self, stream: &Stream) -> String {
        if stream.bounded {
            return "every row, until the input ends".to_string();
        }
        self.notice(
            "the rows of an `OVER` whose values can change are never freed; begin its ORDER BY with a column of which a watermark \
             speaks, ascending, to have final values and a bounded state"
                .to_string(),
        );
        "every row, for ever".to_string()
    }

    /// What is kept where values are final, in words.
    fn settled_bound(
        &mut self,
        stream: &Stream,
        calls: &[OverCall],
        key: Option<&DataType>,
        running: bool,
        partitioned: bool,
    ) -> String {
        let until = if stream.bounded { "until the input ends" } else { "for ever" };
        let each = if partitioned { " of each key" } else { "" };
        let mut parts = vec!["rows that wait for the watermark".to_string()];
        let (mut rows_max, mut accumulators) = (0, false);
        for call in calls {
            let part = match call.function.context() {
                Reach::Unbounded if running => {
                    accumulators = true;
                    continue;
                }
                Reach::Unbounded => {
                    if !stream.bounded {
                        self.notice(format!(
                            "`{}` looks back to its first row, so its rows are never freed; bound its frame",
                            call.function.name()
                        ));
                    }
                    format!("every row, {until}")
                }
                Reach::Rows(count) | Reach::Groups(count) => {
                    rows_max = rows_max.max(count);
                    continue;
                }
                Reach::Range(distance) => {
                    format!("rows of the last {}{each}, by watermark", distance_text(distance, key))
                }
                Reach::Session(gap) => {
                    format!(
                        "rows of open sessions{each}, until the watermark is {} past the last one",
                        distance_text(gap, key)
                    )
                }
            };
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        if rows_max > 0 {
            parts.push(format!("the last {rows_max} rows{each}, {until}"));
        }
        if accumulators || calls.iter().any(|call| call.function.counts_rows()) {
            accumulators = true;
            parts.push(format!("one state{each}, {until}"));
        }
        if partitioned && !stream.bounded && (rows_max > 0 || accumulators) {
            self.notice(
                "the state of an `OVER (PARTITION BY ..)` grows with every new key and is never freed; partition by a window too \
                 (`window_end` of `TABLE(TUMBLE(..))`), or use a frame of time (`RANGE INTERVAL '1' HOUR PRECEDING`), to bound it"
                    .to_string(),
            );
        }
        parts.join("; ")
    }

    /// One call over the columns of `inputs`.
    fn over_call(
        &mut self,
        function: &WindowFunction,
        field: &FieldRef,
        sorts: &[&Sort],
        stream: &mut Stream,
        inputs: &mut Inputs<'_>,
    ) -> Result<OverCall> {
        let params = &function.params;
        let schema = inputs.plan.schema();
        let name = field.name().clone();
        let order_type = sorts.first().map(|sort| sort.expr.get_type(schema.as_ref())).transpose()?;
        let by_clock = self.orders_by_clock(sorts, inputs.plan)?;
        let written = if by_clock { row_by_row(&params.window_frame) } else { params.window_frame.clone() };
        let frame = match is_session(function) {
            true => Some(session_of(&written, order_type.as_ref())?),
            false => frame_of(&written, order_type.as_ref()),
        };
        let filter = match &params.filter {
            Some(filter) => Some(inputs.add(self, stream, filter)?),
            None => None,
        };
        let ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
        let exclusion = exclusion_of(function);
        if let Some((request, read)) = frame.and_then(|frame| request_of(function, frame, field)) {
            let request = match request {
                OverRequest::Rank | OverRequest::DenseRank if by_clock => OverRequest::RowNumber,
                request => request,
            };
            let fields = read.iter().map(|arg| Ok(arg.to_field(schema.as_ref())?.1)).collect::<Result<Vec<_>>>()?;
            let native = match (exclusion, &request) {
                (None, request) => native(request, &fields, field),
                (Some(exclusion), OverRequest::Aggregate { name, frame }) => {
                    excluding(name, &fields, *frame, exclusion_of_engine(exclusion), field)
                }
                (Some(_), _) => None,
            };
            if let Some(native) = native {
                let args = read.iter().map(|arg| inputs.add(self, stream, arg)).collect::<Result<_>>()?;
                return Ok(OverCall { name, function: native, args, filter });
            }
        }
        // DataFusion's own.
        let mut columns: Vec<FieldRef> = vec![];
        let mut places = vec![];
        let mut args = vec![];
        for arg in &params.args {
            args.push(match strip_alias(arg) {
                LogicalExpr::Literal(value, _) => Arg::Literal(value.clone()),
                arg => {
                    places.push(inputs.add(self, stream, arg)?);
                    columns.push(arg.to_field(schema.as_ref())?.1);
                    Arg::Column(columns.len() - 1)
                }
            });
        }
        let (frames, by_frame) = match frame {
            Some(frame) => (Frames::Engine(frame), (frame.lookback(), frame.lookahead())),
            None => {
                let options =
                    sorts.iter().map(|sort| SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first });
                let reaches = reaches_of(&params.window_frame, order_type.as_ref());
                (Frames::DataFusion(Arc::new(params.window_frame.clone()), options.collect()), reaches)
            }
        };
        let (lookback, lookahead) = match &function.fun {
            WindowFunctionDefinition::AggregateUDF(_) => by_frame,
            WindowFunctionDefinition::WindowUDF(udf) => match udf.name() {
                "first_value" | "last_value" | "nth_value" => by_frame,
                "row_number" | "rank" | "dense_rank" => (Reach::Unbounded, Reach::Groups(0)),
                "lag" => (Reach::Unbounded, Reach::NONE),
                "lead" => (Reach::NONE, Reach::Unbounded),
                _ => (Reach::Unbounded, Reach::Unbounded),
            },
        };
        let call = Call {
            name: function.fun.name().to_string(),
            args,
            columns,
            field: Arc::new(field.as_ref().clone().with_nullable(true)),
            frame: frames,
            lookback,
            lookahead,
            ignore_nulls,
        };
        if let Some((exclusion, udf)) = exclusion.zip(aggregate_of(function)) {
            let function = ForeignAggregate::new(call, udf, params.distinct)?.excluding(exclusion);
            return Ok(OverCall { name, function: Arc::new(function), args: places, filter });
        }
        let accumulators = match frame {
            Some(frame) => accumulators_of(function, &call, field)?.map(|aggregate| (frame, aggregate)),
            None => None,
        };
        let function: OverFunctionRef = match &function.fun {
            WindowFunctionDefinition::AggregateUDF(udf) => {
                let foreign: OverFunctionRef = Arc::new(ForeignAggregate::new(call, Arc::clone(udf), params.distinct)?);
                match accumulators {
                    Some((frame, aggregate)) => accumulated(foreign, aggregate, frame),
                    None => foreign,
                }
            }
            WindowFunctionDefinition::WindowUDF(udf) => Arc::new(ForeignWindow::new(call, Arc::clone(udf))?),
        };
        Ok(OverCall { name, function, args: places, filter })
    }
}

fn exclusion_of_engine(exclusion: FrameExclusion) -> Exclusion {
    match exclusion {
        FrameExclusion::CurrentRow => Exclusion::CurrentRow,
        FrameExclusion::Group => Exclusion::Group,
        FrameExclusion::Ties => Exclusion::Ties,
    }
}

/// Accumulators that keep an aggregate over all rows so far: the engine's own, or DataFusion's. None for those whose result depends on the
/// order of rows.
fn accumulators_of(function: &WindowFunction, call: &Call, field: &FieldRef) -> Result<Option<AggregateFunctionRef>> {
    let WindowFunctionDefinition::AggregateUDF(udf) = &function.fun else {
        return Ok(None);
    };
    let name = udf.name();
    if ORDERED_FUNCTIONS.contains(&name) {
        return Ok(None);
    }
    let known = default_functions();
    let ours = known.aggregate.get(name).is_some_and(|known| Arc::ptr_eq(known, udf)) && !call.ignore_nulls;
    let columns_only = call.args.iter().all(|arg| matches!(arg, Arg::Column(_)));
    if ours && columns_only {
        let request = BuiltinRequest {
            name,
            args: &call.columns,
            distinct: function.params.distinct,
            retracting: false,
            return_field: Arc::clone(field),
        };
        if let Some(builtin) = builtin(&request) {
            return Ok(Some(builtin));
        }
    }
    let foreign = Foreign::new(ForeignSpec {
        function: Arc::clone(udf),
        args: call.args.clone(),
        columns: call.columns.clone(),
        order: vec![],
        by_arrival: false,
        distinct: function.params.distinct,
        ignore_nulls: call.ignore_nulls,
    });
    Ok(foreign.ok().map(|foreign| Arc::new(foreign) as AggregateFunctionRef))
}

/// The engine's own function that a call may be, with the expressions that it reads.
fn request_of<'a>(
    function: &'a WindowFunction,
    frame: Frame,
    field: &FieldRef,
) -> Option<(OverRequest<'a>, &'a [LogicalExpr])> {
    let params = &function.params;
    let args = params.args.as_slice();
    let ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    if ignore_nulls || params.distinct {
        return None;
    }
    let literal = |index: usize| match args.get(index).map(strip_alias) {
        Some(LogicalExpr::Literal(value, _)) => Some(value),
        _ => None,
    };
    let integer = |index: usize| match literal(index)?.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(value) => value,
        _ => None,
    };
    let name = function.fun.name();
    let value = |n: i64| Some((OverRequest::Value { n, frame }, &args[..1]));
    match (&function.fun, name) {
        (_, "first_value") if args.len() == 1 => value(1),
        (_, "last_value") if args.len() == 1 => value(-1),
        (_, "nth_value") if args.len() == 2 => value(integer(1)?),
        (WindowFunctionDefinition::AggregateUDF(udf), _) => {
            let known = default_functions();
            if !known.aggregate.get(name).is_some_and(|known| Arc::ptr_eq(known, udf)) {
                return None;
            }
            let counts_rows = name == "count" && literal(0).is_some_and(|value| !value.is_null());
            Some((OverRequest::Aggregate { name, frame }, if counts_rows { &[] } else { args }))
        }
        (WindowFunctionDefinition::WindowUDF(_), "row_number") => Some((OverRequest::RowNumber, &[])),
        (WindowFunctionDefinition::WindowUDF(_), "rank") => Some((OverRequest::Rank, &[])),
        (WindowFunctionDefinition::WindowUDF(_), "dense_rank") => Some((OverRequest::DenseRank, &[])),
        (WindowFunctionDefinition::WindowUDF(_), "lag" | "lead") => {
            let offset = if args.len() > 1 { integer(1)? } else { 1 };
            let default = match args.get(2) {
                Some(_) => {
                    let value = literal(2)?;
                    let value = if value.is_null() { None } else { Some(value.cast_to(field.data_type()).ok()?) };
                    value.map(|value| value.to_array()).transpose().ok()?
                }
                None => None,
            };
            let offset = if name == "lag" { offset } else { offset.checked_neg()? };
            Some((OverRequest::Shift { offset, default }, &args[..1]))
        }
        _ => None,
    }
}

/// A call as `EXPLAIN` shows it.
fn call_text(function: &WindowFunction) -> String {
    let params = &function.params;
    let args = params.args.iter().map(short_text).collect::<Vec<_>>().join(", ");
    let args = match (function.fun.name(), args.as_str()) {
        ("count", "1" | "Int64(1)") => "*".to_string(),
        _ => args,
    };
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let nulls = match params.null_treatment {
        Some(NullTreatment::IgnoreNulls) => " IGNORE NULLS",
        _ => "",
    };
    let framed = match &function.fun {
        WindowFunctionDefinition::AggregateUDF(_) => true,
        WindowFunctionDefinition::WindowUDF(udf) => matches!(udf.name(), "first_value" | "last_value" | "nth_value"),
    };
    let excluded = exclusion_of(function).map_or_else(String::new, |exclusion| format!(" {}", exclusion.sql()));
    let frame = match (framed, is_session(function)) {
        (false, _) => String::new(),
        (true, true) => format!(" {}", session_text(&params.window_frame)),
        (true, false) => format!(" {}{excluded}", frame_text(&params.window_frame)),
    };
    format!("{}({distinct}{args}){nulls}{frame}", function.fun.name())
}
