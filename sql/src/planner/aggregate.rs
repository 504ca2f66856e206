//! Aggregates: which of the engine's ways a `GROUP BY` takes.
//!
//! All ways but one have two phases: rows are aggregated where they are, the partial results travel to the shard that owns their key, and are
//! merged there.
//! - By a pending window that closes, lateness 0: panes, each shipped once when it is complete ([`WindowAggregateFactory`]).
//!   Where `eagre.sql.approximate` allows it, panes are made by a kernel that can run on a device ([`WindowReduceFactory`]).
//! - By a pending window that is corrected, shown early, or never closes: panes shipped each step, spread over their windows, merged into a
//!   table keyed by window too ([`PaneWindowsFactory`], [`GroupAggregateFactory`]).
//! - By a pending session of exactly the keys that partition it: one phase behind the exchange (see [`super::session`]).
//! - By the window columns of an earlier aggregate or of rows that were assigned to windows: the window's end is an ordinary key that
//!   says when a group is final.
//! - Without a window: an updating table that is never freed.

mod calls;
mod places;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate as LogicalAggregate, Expr as LogicalExpr, ExprSchemable, LogicalPlan, cast, lit,
};
use eagre_engine::aggregate::AggregateCall;
use eagre_engine::expr::{ExprRef, PlainColumn};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, NodeIndex, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::expand::ExpandFactory;
use eagre_engine::operator::group_aggregate::{GroupAggregateFactory, GroupEmit, GroupWindow};
use eagre_engine::operator::partial_aggregate::{PaneEmit, PartialAggregateFactory, PartialWindows, Repeated};
use eagre_engine::operator::window::WindowSpec;
use eagre_engine::operator::window_aggregate::WindowAggregateFactory;
use eagre_engine::operator::window_assign::PaneWindowsFactory;
use eagre_engine::operator::window_reduce::{WindowReduceFactory, WindowReduceSpec, check_calls};
use eagre_engine::wall_clock::WallClock;

use self::calls::{Inputs, TakenBack, is_extreme, keeps_values, row_count};
pub(super) use self::places::GroupPlaces;
use super::expr::{Compiler, short_text, strip_alias};
use super::grouping_sets::{grouping_ids, patterns_of};
use super::join::Extreme;
use super::lower::{
    Lowering, NEVER_LATE_MS, ShiftedTime, Slot, Stream, StreamColumn, Trend, WindowInfo, WindowPart, columns_of, engine,
};
use super::session::judges_sessions;
use super::state_ttl::{ADVICE, duration};
use super::window::WindowShape;
use crate::error::{Result, SqlError};
use crate::parser::EmitKind;

/// Functions whose result depends on the order of rows.
pub(super) const ORDERED_FUNCTIONS: &[&str] = &["array_agg", "string_agg", "first_value", "last_value", "nth_value"];

/// What a column of the group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GroupColumn {
    /// The key at this place.
    Key(usize),
    /// A column of the pending window.
    Window(WindowPart),
}

/// The way that a `GROUP BY` takes.
enum Way {
    /// Panes of a pending window.
    Panes { info: WindowInfo, spec: WindowSpec, time: usize },
    /// A pending session of exactly these keys.
    Session { info: WindowInfo, gap_ms: i64, time: usize },
    /// The window's end is the key at this place.
    Attached { info: WindowInfo, end_key: usize, hidden: bool },
    /// No window that closes.
    Plain,
}

impl Lowering<'_> {
    pub(super) fn lower_aggregate(
        &mut self,
        aggregate: &LogicalAggregate,
        plan: &LogicalPlan,
        wanted: Option<&BTreeSet<usize>>,
    ) -> Result<Stream> {
        let input_plan = &aggregate.input;
        let looked_at: Vec<LogicalExpr> = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect();
        let group: Vec<LogicalExpr> = grouping_set_to_exprlist(&aggregate.group_expr)?
            .into_iter()
            .map(|expr| strip_alias(expr).clone())
            .collect();
        let sets = match aggregate.group_expr.as_slice() {
            [LogicalExpr::GroupingSet(set)] => Some(patterns_of(set, &group)),
            _ => None,
        };
        let in_all_sets = |index: usize| sets.as_ref().is_none_or(|sets| sets.iter().all(|set| set[index]));
        self.judges_sessions = judges_sessions(&group, in_all_sets, input_plan);
        let mut stream = self.lower_wanting(input_plan, Some(&columns_of(&looked_at, input_plan)?))?;
        let schema = input_plan.schema();
        let column_of = |stream: &Stream, expr: &LogicalExpr| match expr {
            LogicalExpr::Column(column) => {
                schema.index_of_column(column).ok().map(|index| stream.columns[index].clone())
            }
            _ => None,
        };

        // By the pending window?
        if let Some(pending) = &stream.pending {
            let part_of = |expr: &LogicalExpr| match column_of(&stream, expr).map(|column| column.slot) {
                Some(Slot::Window(part)) => Some(part),
                _ => None,
            };
            let parts: Vec<_> = group.iter().map(part_of).collect();
            let identified = parts.iter().flatten().any(|part| pending.info.identified_by(*part));
            let in_sets = (0..group.len()).all(|index| parts[index].is_none() || in_all_sets(index));
            let keys_look =
                group.iter().zip(&parts).any(|(e, part)| part.is_none() && stream.looks_at_window(e, schema));
            let calls_look = aggregate.aggr_expr.iter().any(|expr| stream.looks_at_window(expr, schema));
            let fits = match pending.info.spec {
                WindowShape::Aligned(_) => identified && in_sets,
                WindowShape::Session { .. } => {
                    let slots = group.iter().map(|expr| column_of(&stream, expr).map(|column| column.slot));
                    sets.is_none() && stream.sessions_are_groups(&slots.collect::<Vec<_>>())
                }
            };
            if !fits || keys_look || calls_look {
                stream = self.assign_windows(stream, input_plan)?;
            }
        }

        // The columns that are aggregated.
        let mut inputs = Inputs::default();
        let compiler = self.compiler(&stream, schema);
        let mut group_columns = vec![];
        let mut keys: Vec<usize> = vec![];
        let mut roles: Vec<Option<StreamColumn>> = vec![];
        for expr in &group {
            let column = column_of(&stream, expr);
            if let Some(Slot::Window(part)) = column.as_ref().map(|column| column.slot) {
                group_columns.push(GroupColumn::Window(part));
                roles.push(column);
                continue;
            }
            let place = inputs.add(self, &mut stream, &compiler, expr)?;
            // The place among the keys; the same column twice is two keys of one value.
            keys.push(place);
            group_columns.push(GroupColumn::Key(keys.len() - 1));
            roles.push(column);
        }
        let mut way = match &stream.pending {
            Some(pending) => {
                let (info, time) = (pending.info.clone(), pending.time);
                match info.spec {
                    WindowShape::Aligned(spec) => Way::Panes { info, spec, time },
                    WindowShape::Session { gap_ms } => Way::Session { info, gap_ms, time },
                }
            }
            None => self.attached_way(&mut inputs, &mut keys, &group_columns, &roles, &in_all_sets)?,
        };
        let retracting = stream.changelog != ChangelogMode::AppendOnly;
        // Whether a row is only ever replaced by another one of its group.
        let groups_stay = sets.is_none() && group.iter().all(|key| stream.trend_of(key, schema) == Some(Trend::Stays));
        let lasting = match way {
            Way::Plain | Way::Attached { .. } => !retracting || (stream.lasting && groups_stay),
            Way::Panes { .. } => !retracting,
            Way::Session { .. } => false,
        } && self.ports.is_empty();
        let (mut trends, mut rising) = (vec![], false);
        let mut calls = vec![];
        let mut texts = vec![];
        for expr in &aggregate.aggr_expr {
            let LogicalExpr::AggregateFunction(function) = strip_alias(expr) else {
                return Err(SqlError::internal(format!("`{expr}` is no aggregate")));
            };
            texts.push(short_text(strip_alias(expr)));
            let (_, field) = expr.to_field(schema.as_ref())?;
            let trend = stream.trend_of_call(function, schema).filter(|_| lasting);
            // Of a group that has a row, the greatest of values that are never null is one of them.
            let is_known = function.params.filter.is_none() && !group.is_empty() && sets.is_none();
            let is_value =
                |arg: &LogicalExpr| arg.to_field(schema.as_ref()).is_ok_and(|(_, field)| !field.is_nullable());
            trends.push((trend, is_known && is_extreme(function) && function.params.args.iter().all(is_value)));
            // The greatest of values that rise is that of the last ones, whatever there was before.
            let looks_back = retracting && !(trend.is_some() && is_extreme(function));
            rising |= looks_back != retracting;
            let taken_back = TakenBack { rows: retracting, looks_back };
            let call = self.call(function, field, &mut stream, &mut inputs, &compiler, input_plan, taken_back)?;
            calls.push(call);
        }
        // Whether any row of a group is left.
        let keeps_count = retracting && (!keys.is_empty() || matches!(way, Way::Panes { .. }));
        let row_count_call = keeps_count.then_some(calls.len());
        if keeps_count {
            calls.push(row_count()?);
        }
        let time = match &way {
            Way::Panes { time, .. } | Way::Session { time, .. } => {
                let field = Arc::clone(&stream.physical.fields()[*time]);
                Some(inputs.add_physical(Arc::new(PlainColumn::new(*time, field))))
            }
            _ => None,
        };

        // The columns that are there already need no projection.
        let direct = inputs.columns.iter().all(|input| input.expr.as_column().is_some());
        let place = |place: usize| match direct {
            true => inputs.columns[place].expr.as_column().expect("checked above"),
            false => place,
        };
        let mut keys: Vec<usize> = keys.into_iter().map(place).collect();
        let time = time.map(place);
        for call in &mut calls {
            call.args.iter_mut().for_each(|arg| *arg = place(*arg));
            call.filter = call.filter.map(place);
        }
        if !direct {
            let fields = inputs.columns.iter().map(|input| Arc::clone(input.expr.field())).collect::<Vec<_>>();
            let exprs = inputs.columns.into_iter().map(|input| input.expr).collect();
            let keep = (stream.pending.take(), stream.key.take());
            self.project_physical(&mut stream, exprs, Arc::new(Schema::new(fields)));
            (stream.pending, stream.key) = (keep.0, None);
        }
        let ttl_ms = self.ttl_of(input_plan).filter(|_| matches!(way, Way::Plain) && !keys.is_empty());
        if ttl_ms.is_some() {
            self.consolidate(&mut stream, input_plan);
        }
        // Of all rows of a window, and not of those of one key.
        let extremes: Vec<Option<Extreme>> = aggregate
            .aggr_expr
            .iter()
            .zip(&calls)
            .map(|(expr, call)| match (&way, time, strip_alias(expr)) {
                (Way::Panes { info, spec, .. }, Some(time), LogicalExpr::AggregateFunction(function))
                    if keys.is_empty() && sets.is_none() =>
                {
                    Extreme::of_call(&stream, info, *spec, time, function, call)
                }
                _ => None,
            })
            .collect();
        let mut from = self.flush(&mut stream, input_plan);
        let mut input_schema = Arc::clone(&stream.physical);

        let mut repeated = None;
        if let Some(sets) = &sets {
            // The keys that are nulled move behind the input's columns, with the grouping id.
            let id_type = plan.schema().field(group.len()).data_type().clone();
            let patterns: Vec<Vec<bool>> = sets
                .iter()
                .map(|set| {
                    let of_keys = group_columns.iter().zip(set);
                    of_keys.filter(|(c, _)| matches!(c, GroupColumn::Key(_))).map(|(_, present)| *present).collect()
                })
                .collect();
            let ids = grouping_ids(sets);
            let hidden_end = matches!(way, Way::Attached { hidden: true, .. });
            let nulled = keys.len() - usize::from(hidden_end);
            (from, input_schema) =
                self.expand(&mut stream, from, &input_schema, &keys[..nulled], &patterns, &ids, &id_type, plan)?;
            let width = input_schema.fields().len() - nulled - 1;
            repeated = ids.first().map(|id| Repeated { columns: width, id_column: width + nulled, id: *id });
            let hidden_key = hidden_end.then(|| keys[nulled]);
            keys = (width..width + nulled + 1).collect();
            if let (Some(hidden), Way::Attached { end_key, .. }) = (hidden_key, &mut way) {
                keys.push(hidden);
                *end_key = keys.len() - 1;
            }
            group_columns.push(GroupColumn::Key(nulled));
            roles.push(None);
        }

        // Keys are called as in the query, on the way through the exchange too.
        let mut key_names = vec![];
        let mut named: Vec<FieldRef> = input_schema.fields().iter().cloned().collect();
        for (place, key) in keys.iter().enumerate() {
            let of_key = group_columns.iter().position(|column| *column == GroupColumn::Key(place));
            let name = match of_key.and_then(|index| group.get(index)) {
                Some(expr) => short_text(expr),
                None => input_schema.field(*key).name().clone(),
            };
            named[*key] = Arc::new(named[*key].as_ref().clone().with_name(&name));
            key_names.push(name);
        }
        input_schema = Arc::new(Schema::new(named));
        let place = |part| group_columns.iter().position(|column| *column == GroupColumn::Window(part));
        let key_part = match &way {
            Way::Panes { info, .. } | Way::Session { info, .. } => info.key_part(place, wanted),
            _ => WindowPart::End,
        };
        let mut keys_and_calls = describe(&key_names, &texts);
        if rising {
            keys_and_calls.push_str(", extremes of values that go one way");
        }
        let detail = Described { keys_and_calls, names: key_names };
        let (node, group_places, result_start) = match &way {
            Way::Panes { info, spec, .. } => {
                let time = time.ok_or_else(|| SqlError::internal("a window without its time"))?;
                let task = Task { from, input_schema, keys, calls, row_count_call, repeated, rising, detail, plan };
                self.windowed(&mut stream, task, info, *spec, time, key_part)?
            }
            Way::Session { info, gap_ms, .. } => {
                let time = time.ok_or_else(|| SqlError::internal("a session without its time"))?;
                let task = Task { from, input_schema, keys, calls, row_count_call, repeated, rising, detail, plan };
                self.sessions(&mut stream, task, info, *gap_ms, time, key_part)?
            }
            Way::Attached { info, end_key, .. } => {
                let task = Task { from, input_schema, keys, calls, row_count_call, repeated, rising, detail, plan };
                self.attached(&mut stream, task, info, *end_key)?
            }
            Way::Plain => {
                let task = Task { from, input_schema, keys, calls, row_count_call, repeated, rising, detail, plan };
                self.updating(&mut stream, task, ttl_ms)?
            }
        };

        // The logical columns, wherever the operator put them.
        let mut columns = vec![];
        let mut wants_time = None;
        for (column, role) in group_columns.iter().zip(&roles) {
            let role = role.as_ref();
            let slot = match column {
                GroupColumn::Key(key) => Slot::Physical(group_places.first_key + key),
                GroupColumn::Window(WindowPart::Time) if group_places.time.is_none() => {
                    wants_time = Some(columns.len());
                    Slot::Physical(usize::MAX)
                }
                GroupColumn::Window(part) => Slot::Physical(group_places.of(*part)),
            };
            // A key is still a time of the stream only if it says when its group is final.
            let finite = !matches!(way, Way::Plain);
            columns.push(StreamColumn {
                slot,
                role: role.and_then(|column| column.role.clone()),
                rowtime: finite && role.is_some_and(|column| column.rowtime && column.role.is_some()),
                ..StreamColumn::plain(0)
            });
        }
        for (index, extreme) in extremes.into_iter().enumerate() {
            let extreme = extreme.map(|extreme| extreme.at(node));
            columns.push(StreamColumn { extreme, ..StreamColumn::plain(result_start + index) });
        }
        let mut output = self.stream_after(&stream, node, columns);
        // Groups that are shown until their window closes are freed, and not taken back.
        output.lasting = lasting && ttl_ms.is_none() && output.changelog == ChangelogMode::Upsert;
        let of_group = std::iter::repeat_n((Some(Trend::Stays), false), group_columns.len());
        for (column, known) in output.columns.iter_mut().zip(of_group.chain(trends)) {
            (column.trend, column.never_null) = known;
        }
        output.consolidated = matches!(way, Way::Plain);
        if let Some(column) = wants_time {
            self.append_window_time(&mut output, column, group_places.end);
        }
        if output.changelog != ChangelogMode::AppendOnly {
            let reason = match &way {
                Way::Panes { info, .. } | Way::Session { info, .. } | Way::Attached { info, .. } if !info.watermark => {
                    "no watermark closes its windows, which `WATERMARK FOR <column> AS ..` in `CREATE TABLE` declares"
                }
                Way::Plain => "a `GROUP BY` without a window that closes gives a result that changes with each row",
                _ if self.shows_changes(&way) => "`EMIT CHANGES` shows results that are corrected later",
                _ if retracting => "its input can take rows back",
                _ => "the table's 'allowed-lateness' has results corrected after they were shown",
            };
            output.retracts_because = Some(reason.to_string());
        } else {
            output.retracts_because = None;
        }
        Ok(output)
    }

    fn shows_changes(&self, way: &Way) -> bool {
        match way {
            Way::Panes { info, .. } | Way::Session { info, .. } | Way::Attached { info, .. } => {
                info.emit == Some(EmitKind::Changes)
            }
            Way::Plain => false,
        }
    }

    /// Whether the rows carry a window that closes, among the keys.
    fn attached_way(
        &mut self,
        inputs: &mut Inputs,
        keys: &mut Vec<usize>,
        group_columns: &[GroupColumn],
        roles: &[Option<StreamColumn>],
        in_all_sets: &dyn Fn(usize) -> bool,
    ) -> Result<Way> {
        let closing = |index: usize, part: WindowPart| {
            let (info, found) = roles[index].as_ref()?.role.as_ref()?;
            // When a group with a `window_time` is final follows from that, whether or not it is of one window.
            let says = part == WindowPart::Time || info.identified_by(part);
            let fits = *found == part && info.watermark && says && in_all_sets(index);
            fits.then(|| info.clone())
        };
        let find = |part: WindowPart| (0..roles.len()).find_map(|index| closing(index, part).map(|info| (index, info)));
        if let Some((index, info)) = find(WindowPart::End).filter(|(_, info)| info.clock.is_utc()) {
            let GroupColumn::Key(end_key) = group_columns[index] else {
                return Ok(Way::Plain);
            };
            return Ok(Way::Attached { info, end_key, hidden: false });
        }
        // The end as an instant follows from another column, and becomes one more key.
        for part in [WindowPart::Time, WindowPart::End, WindowPart::Start] {
            let Some((index, info)) = find(part) else { continue };
            let Some(Slot::Physical(place)) = roles[index].as_ref().map(|column| column.slot) else {
                continue;
            };
            let Some(closing) = ShiftedTime::closing(place, &info, part) else { continue };
            keys.push(inputs.add_physical(Arc::new(closing)));
            return Ok(Way::Attached { info, end_key: keys.len() - 1, hidden: true });
        }
        Ok(Way::Plain)
    }

    /// Each row once for each grouping set, with the other keys null.
    #[allow(clippy::too_many_arguments)]
    fn expand(
        &mut self,
        stream: &mut Stream,
        from: (NodeIndex, u8),
        input: &SchemaRef,
        keys: &[usize],
        patterns: &[Vec<bool>],
        ids: &[u64],
        id_type: &DataType,
        plan: &LogicalPlan,
    ) -> Result<((NodeIndex, u8), SchemaRef)> {
        let compiler = Compiler::over(input, &self.context.config)?;
        let mut fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
        fields.extend(keys.iter().map(|key| Arc::new(input.field(*key).clone().with_nullable(true))));
        fields.push(Arc::new(Field::new("__grouping_id", id_type.clone(), false)));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let mut projections = vec![];
        for (pattern, id) in patterns.iter().zip(ids) {
            let mut exprs: Vec<ExprRef> = vec![];
            for (index, field) in input.fields().iter().enumerate() {
                exprs.push(Arc::new(PlainColumn::new(index, Arc::clone(field))));
            }
            for (key, present) in keys.iter().zip(pattern) {
                let field = input.field(*key);
                exprs.push(match present {
                    true => Arc::new(PlainColumn::new(*key, Arc::new(field.clone()))),
                    false => compiler.compile(&lit(ScalarValue::try_from(field.data_type())?), field.name())?,
                });
            }
            let id = cast(lit(*id), id_type.clone());
            let id = self.context.simplify(id, datafusion::common::DFSchema::empty())?;
            exprs.push(compiler.compile(&id, "__grouping_id")?);
            projections.push(exprs);
        }
        let sets = patterns.iter().map(|pattern| {
            let present = keys.iter().zip(pattern).filter(|(_, present)| **present);
            format!("({})", present.map(|(key, _)| input.field(*key).name().as_str()).collect::<Vec<_>>().join(", "))
        });
        let detail = format!("grouping sets [{}]", sets.collect::<Vec<_>>().join(", "));
        let id = self.id("expand", plan, &stream.tables);
        let output = EdgeInfo {
            schema: Arc::clone(&schema),
            changelog: if stream.changelog == ChangelogMode::AppendOnly {
                stream.changelog
            } else {
                ChangelogMode::Retract
            },
            key: None,
            time_column: None,
            ordinals: self.graph.nodes[from.0].output.ordinals,
        };
        let factory = ExpandFactory::new(projections, Arc::clone(&schema));
        let node = self.push_operator(id, factory, from, Route::Forward, output, detail, "");
        stream.physical = Arc::clone(&schema);
        Ok(((node, PORT_MAIN), schema))
    }

    // ---------------------------------------------------------------- ways

    /// By a pending window.
    fn windowed(
        &mut self,
        stream: &mut Stream,
        task: Task<'_>,
        info: &WindowInfo,
        spec: WindowSpec,
        time: usize,
        key_part: WindowPart,
    ) -> Result<(NodeIndex, GroupPlaces, usize)> {
        self.aggregated_window = true;
        let key_count = task.keys.len();
        let time_type = task.input_schema.field(time).data_type().clone();
        let lateness_ms = if info.watermark { stream.lateness_ms } else { NEVER_LATE_MS };
        let closes_once = info.watermark && lateness_ms == 0 && info.emit != Some(EmitKind::Changes);
        let emit = if closes_once { PaneEmit::OnClose } else { PaneEmit::EveryStep };
        let bound = if closes_once { "open panes, until the watermark passes the pane's end" } else { "" };
        let detail = format!("{}, window={}", task.detail.keys_and_calls, info.cut());
        let cut = Cut { spec, time, emit, lateness_ms, clock: &info.clock };
        let (partial, partial_schema) = self.panes(stream, &task, cut, detail.clone(), bound)?;
        if info.watermark {
            self.may_refuse(partial, &stream.tables);
        }
        if closes_once {
            let factory = WindowAggregateFactory::new(
                spec,
                time_type.clone(),
                partial_schema,
                key_count,
                task.calls,
                task.row_count_call,
            )
            .map_err(engine)?
            .with_clock(info.clock.clone());
            let schema = factory.output_schema();
            let id = self.id("window aggregate", task.plan, &stream.tables);
            let output = EdgeInfo {
                schema,
                changelog: ChangelogMode::AppendOnly,
                key: Some((0..key_count).chain([key_count + key_part as usize]).collect()),
                time_column: Some(key_count + 2),
                ordinals: false,
            };
            let route = Route::Hash((1..=key_count).collect());
            let bound = "panes of open windows, until the watermark passes window_end";
            let node = self.push_operator(id, factory, (partial, PORT_MAIN), route, output, detail, bound);
            let places = GroupPlaces { first_key: 0, start: key_count, end: key_count + 1, time: Some(key_count + 2) };
            return Ok((node, places, key_count + 3));
        }
        let factory = PaneWindowsFactory::new(spec, time_type, partial_schema, lateness_ms)
            .map_err(engine)?
            .with_clock(info.clock.clone());
        let windows_schema = factory.output_schema();
        let id = self.id("pane windows", task.plan, &stream.tables);
        let output = plain_edge(Arc::clone(&windows_schema));
        let from = (partial, PORT_MAIN);
        let spread = self.push_operator(id, factory, from, Route::Forward, output, info.cut().to_string(), "");
        let window = info.watermark.then_some(GroupWindow {
            end_key: 1,
            emit: match info.emit {
                Some(EmitKind::Changes) => GroupEmit::EveryStep,
                _ => GroupEmit::OnWindowClose,
            },
            lateness_ms,
        });
        let factory =
            GroupAggregateFactory::new(windows_schema, key_count + 2, task.calls, task.row_count_call, window)
                .map_err(engine)?
                .with_clock(info.clock.clone());
        let bound = match (window.is_some(), lateness_ms) {
            (false, _) if stream.bounded => "every group, until the input ends".to_string(),
            (false, _) => "every group, for ever".to_string(),
            (true, 0) => "groups of open windows, until the watermark passes window_end".to_string(),
            (true, lateness_ms) => {
                format!("groups of windows, until the watermark passes window_end + {lateness_ms} ms")
            }
        };
        let schema = factory.output_schema();
        let id = self.id("group aggregate", task.plan, &stream.tables);
        let output = EdgeInfo {
            schema,
            changelog: ChangelogMode::Upsert,
            // `window_time` is not there yet; `window_end` stands for it.
            key: Some([(key_part as usize).min(1)].into_iter().chain(2..key_count + 2).collect()),
            time_column: None,
            ordinals: false,
        };
        let route = Route::Hash((0..key_count + 2).collect());
        let node = self.push_operator(id, factory, (spread, PORT_MAIN), route, output, detail, &bound);
        Ok((node, GroupPlaces { first_key: 2, start: 0, end: 1, time: None }, key_count + 2))
    }

    /// By a window that the rows carry.
    fn attached(
        &mut self,
        stream: &mut Stream,
        task: Task<'_>,
        info: &WindowInfo,
        end_key: usize,
    ) -> Result<(NodeIndex, GroupPlaces, usize)> {
        self.aggregated_window = true;
        let key_count = task.keys.len();
        let lateness_ms = stream.lateness_ms;
        let windows = match info.judged {
            true => PartialWindows::None,
            false => PartialWindows::Attached { end_key, lateness_ms },
        };
        let end_name = task.detail.names[end_key].clone();
        let detail = format!("{}, until {end_name}", task.detail.keys_and_calls);
        // The end among the keys is an instant, or a time without a zone.
        let (partial, partial_schema) =
            self.partial(stream, &task, (windows, &WallClock::default()), false, &detail, "")?;
        if !info.judged {
            self.may_refuse(partial, &stream.tables);
        }
        let emit = match info.emit {
            Some(EmitKind::Changes) => GroupEmit::EveryStep,
            _ => GroupEmit::OnWindowClose,
        };
        let window = GroupWindow { end_key, emit, lateness_ms };
        let kind = task.kind("group aggregate");
        let factory =
            GroupAggregateFactory::new(partial_schema, key_count, task.calls, task.row_count_call, Some(window))
                .map_err(engine)?;
        let schema = factory.output_schema();
        let append_only = emit == GroupEmit::OnWindowClose && lateness_ms == 0;
        let bound = match lateness_ms {
            0 => format!("groups, until the watermark passes {end_name}"),
            lateness_ms => format!("groups, until the watermark passes {end_name} + {lateness_ms} ms"),
        };
        let id = self.id(&kind, task.plan, &stream.tables);
        let output = EdgeInfo {
            schema,
            changelog: if append_only { ChangelogMode::AppendOnly } else { ChangelogMode::Upsert },
            key: Some((0..key_count).collect()),
            time_column: None,
            ordinals: false,
        };
        let route = Route::Hash((0..key_count).collect());
        let node = self.push_operator(id, factory, (partial, PORT_MAIN), route, output, detail, &bound);
        Ok((node, GroupPlaces::keys_only(), key_count))
    }

    /// Without a window that closes.
    fn updating(
        &mut self,
        stream: &mut Stream,
        task: Task<'_>,
        ttl_ms: Option<i64>,
    ) -> Result<(NodeIndex, GroupPlaces, usize)> {
        if self.emit == Some(EmitKind::OnWindowClose) {
            return Err(SqlError::plan(
                "EMIT ON WINDOW CLOSE needs a window: this `GROUP BY` has none that closes; aggregate over \
                 `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), ..))` and group by `window_start, window_end`",
                None,
            ));
        }
        let key_count = task.keys.len();
        let detail = task.detail.keys_and_calls.clone();
        let (partial, partial_schema) =
            self.partial(stream, &task, (PartialWindows::None, &WallClock::default()), ttl_ms.is_some(), &detail, "")?;
        let distinct = task.calls.is_empty();
        let kind = task.kind(if ttl_ms.is_some() { "group aggregate with ttl" } else { "group aggregate" });
        let keeps_values = task.calls.iter().any(|call| keeps_values(&call.function));
        let factory = GroupAggregateFactory::new(partial_schema, key_count, task.calls, task.row_count_call, None)
            .map_err(engine)?
            .with_ttl(ttl_ms);
        let schema = factory.output_schema();
        let bound = match (key_count, ttl_ms) {
            (0, _) if !keeps_values => "one row".to_string(),
            (0, _) if stream.bounded => "one row, with the values that it is made of, until the input ends".to_string(),
            (0, _) => {
                self.notice(format!(
                    "the state of `{}` holds every value that it is made of and is never freed; group by a window \
                     (`TABLE(TUMBLE(..))`) over a table with a watermark to bound it",
                    task.detail.keys_and_calls
                ));
                "one row, with the values that it is made of, for ever".to_string()
            }
            (_, Some(ttl_ms)) => format!("every group, for {} by TTL", duration(ttl_ms)),
            (_, None) if stream.bounded => "every group, until the input ends".to_string(),
            (_, None) => {
                self.notice(format!(
                    "the state of `GROUP BY {}` grows with every new group and is never freed; group by a window \
                     (`TABLE(TUMBLE(..))`) over a table with a watermark to bound it, {ADVICE}",
                    task.detail.names.join(", ")
                ));
                "every group, for ever".to_string()
            }
        };
        let id = self.id(&kind, task.plan, &stream.tables);
        let output = EdgeInfo {
            schema,
            changelog: if distinct { ChangelogMode::AppendOnly } else { ChangelogMode::Upsert },
            key: Some((0..key_count).collect()),
            time_column: None,
            ordinals: false,
        };
        let route = Route::Hash((0..key_count).collect());
        let node = self.push_operator(id, factory, (partial, PORT_MAIN), route, output, detail, &bound);
        Ok((node, GroupPlaces::keys_only(), key_count))
    }

    /// The local phase.
    fn partial(
        &mut self,
        stream: &mut Stream,
        task: &Task<'_>,
        (windows, clock): (PartialWindows, &WallClock),
        apart: bool,
        detail: &str,
        bound: &str,
    ) -> Result<(NodeIndex, SchemaRef)> {
        let input = Arc::clone(&task.input_schema);
        let factory = PartialAggregateFactory::new(input, task.keys.clone(), task.calls.clone(), windows)
            .map_err(engine)?
            .with_clock(clock.clone())
            .with_retractions_apart(apart)
            .with_repeated(task.repeated);
        let schema = factory.output_schema();
        let id = self.id(&task.kind("partial aggregate"), task.plan, &stream.tables);
        let output = plain_edge(Arc::clone(&schema));
        let node = self.push_operator(id, factory, task.from, Route::Forward, output, detail.to_string(), bound);
        Ok((node, schema))
    }

    /// The local phase by panes: through the kernel where results may be approximate and it has all aggregates.
    fn panes(
        &mut self,
        stream: &mut Stream,
        task: &Task<'_>,
        cut: Cut<'_>,
        mut detail: String,
        bound: &str,
    ) -> Result<(NodeIndex, SchemaRef)> {
        let Cut { spec, time, emit, lateness_ms, clock } = cut;
        if self.context.catalog.approximate() {
            let reason = match task.row_count_call {
                Some(_) => Some("rows can be taken back".to_string()),
                // What waits for a device cannot be part of a step's iterations.
                None if !self.ports.is_empty() => Some("it is in a recursive part".to_string()),
                None => check_calls(&task.input_schema, &task.calls).err(),
            };
            let Some(reason) = reason else {
                let factory = WindowReduceFactory::new(WindowReduceSpec {
                    input: Arc::clone(&task.input_schema),
                    keys: task.keys.clone(),
                    calls: task.calls.clone(),
                    windows: spec,
                    time_column: time,
                    emit,
                    lateness_ms,
                    clock: clock.clone(),
                    placement: self.context.catalog.placement().clone(),
                })
                .map_err(engine)?;
                let schema = factory.output_schema();
                let id = self.id("window reduce", task.plan, &stream.tables);
                let output = plain_edge(Arc::clone(&schema));
                let detail = format!("{detail}, floats approximate");
                let node = self.push_operator(id, factory, task.from, Route::Forward, output, detail, bound);
                return Ok((node, schema));
            };
            detail = format!("{detail}, exact: {reason}");
        }
        let windows = PartialWindows::Panes { spec, time_column: time, emit, lateness_ms };
        self.partial(stream, task, (windows, clock), false, &detail, bound)
    }
}

/// How rows are cut into panes, and when those leave.
struct Cut<'a> {
    spec: WindowSpec,
    time: usize,
    emit: PaneEmit,
    lateness_ms: i64,
    clock: &'a WallClock,
}

/// What the ways of aggregating have in common.
pub(super) struct Task<'p> {
    pub(super) from: (NodeIndex, u8),
    pub(super) input_schema: SchemaRef,
    pub(super) keys: Vec<usize>,
    pub(super) calls: Vec<AggregateCall>,
    row_count_call: Option<usize>,
    /// How rows were repeated for grouping sets.
    repeated: Option<Repeated>,
    /// Whether an aggregate keeps less because values rise or fall, by which its state is another one.
    rising: bool,
    pub(super) detail: Described,
    pub(super) plan: &'p LogicalPlan,
}

impl Task<'_> {
    /// What a node is called by.
    fn kind(&self, kind: &str) -> String {
        if self.rising { format!("{kind} of rising values") } else { kind.to_string() }
    }
}

/// Keys and calls in words.
pub(super) struct Described {
    pub(super) keys_and_calls: String,
    names: Vec<String>,
}

fn describe(keys: &[String], calls: &[String]) -> String {
    match calls.is_empty() {
        true => format!("keys=[{}]", keys.join(", ")),
        false => format!("keys=[{}], aggregates=[{}]", keys.join(", "), calls.join(", ")),
    }
}

fn plain_edge(schema: SchemaRef) -> EdgeInfo {
    EdgeInfo { schema, changelog: ChangelogMode::AppendOnly, key: None, time_column: None, ordinals: false }
}
