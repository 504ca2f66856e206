//! Session windows: aggregated where the groups are the sessions, assigned to rows everywhere else.
//!
//! Where a query groups by the window and exactly the columns that partition it, over rows that are only inserted, rows go to the
//! shard of their key as they are and are aggregated there once. A local phase before the exchange would gain nothing: a key seldom has
//! many rows in one step, and a partial session is as large as a row. All other queries (finer groups, grouping sets, filters on what the window
//! says, rows that can be taken back, windows of windows) get rows that carry their session.

use std::sync::Arc;

use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, NodeIndex, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::group_aggregate::GroupEmit;
use eagre_engine::operator::session_window::SessionSpec;
use eagre_engine::operator::session_window::aggregate::SessionAggregateFactory;
use eagre_engine::operator::session_window::assign::SessionAssignFactory;
use eagre_engine::operator::window::Millis;

use super::aggregate::{GroupPlaces, Task};
use super::expr::strip_alias;
use super::lower::{Lowering, NEVER_LATE_MS, PendingWindow, Slot, Stream, WindowInfo, WindowPart, engine};
use super::window::{WindowShape, WindowTableFunction};
use crate::error::Result;
use crate::parser::EmitKind;

impl Stream {
    /// Whether groups with columns at these places are the sessions of the pending window.
    pub(super) fn sessions_are_groups(&self, group: &[Option<Slot>]) -> bool {
        let Some(pending) = &self.pending else {
            return false;
        };
        let keys = group.iter().filter(|slot| !matches!(slot, Some(Slot::Window(_))));
        let by_window = group.iter().any(|slot| matches!(slot, Some(Slot::Window(_))));
        let is_key = |slot: &Option<Slot>| match slot {
            Some(Slot::Physical(place)) => pending.partition.contains(place),
            _ => false,
        };
        let has = |place: &usize| group.contains(&Some(Slot::Physical(*place)));
        self.changelog == ChangelogMode::AppendOnly
            && by_window
            && keys.into_iter().all(is_key)
            && pending.partition.iter().all(has)
    }
}

/// Whether rows of a session window are aggregated by its `window_end` or `window_time`, in all grouping sets, and there is nothing but projections
/// and filters between.
pub(super) fn judges_sessions(group: &[LogicalExpr], in_all_sets: impl Fn(usize) -> bool, input: &LogicalPlan) -> bool {
    let is_judged = |expr: &LogicalExpr| match expr {
        LogicalExpr::Column(column) => {
            input.schema().index_of_column(column).is_ok_and(|index| is_session_end(input, index))
        }
        _ => false,
    };
    group.iter().enumerate().any(|(index, expr)| in_all_sets(index) && is_judged(strip_alias(expr)))
}

/// Whether a column of a plan says when the session of its row ends.
fn is_session_end(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => match strip_alias(&projection.expr[index]) {
            LogicalExpr::Column(column) => {
                let index = projection.input.schema().index_of_column(column);
                index.is_ok_and(|index| is_session_end(&projection.input, index))
            }
            _ => false,
        },
        LogicalPlan::Filter(filter) => is_session_end(&filter.input, index),
        LogicalPlan::SubqueryAlias(alias) => is_session_end(&alias.input, index),
        LogicalPlan::Extension(extension) => {
            extension.node.as_any().downcast_ref::<WindowTableFunction>().is_some_and(|window| {
                matches!(window.cut.spec, WindowShape::Session { .. }) && index > window.input.schema().fields().len()
            })
        }
        _ => false,
    }
}

impl Lowering<'_> {
    fn session_spec(&mut self, stream: &Stream, info: &WindowInfo, gap_ms: i64, time_column: usize) -> SessionSpec {
        let closes = info.watermark && info.emit != Some(EmitKind::Changes);
        self.aggregated_window |= closes;
        SessionSpec {
            time_column,
            gap_ms,
            emit: if closes { GroupEmit::OnWindowClose } else { GroupEmit::EveryStep },
            lateness_ms: if info.watermark { stream.lateness_ms } else { NEVER_LATE_MS },
            clock: info.clock.clone(),
        }
    }

    /// The groups are the sessions.
    pub(super) fn sessions(
        &mut self,
        stream: &mut Stream,
        task: Task<'_>,
        info: &WindowInfo,
        gap_ms: i64,
        time: usize,
        key_part: WindowPart,
    ) -> Result<(NodeIndex, GroupPlaces, usize)> {
        self.aggregated_window = true;
        let spec = self.session_spec(stream, info, gap_ms, time);
        let key_count = task.keys.len();
        let route = Route::Hash(task.keys.clone());
        let factory =
            SessionAggregateFactory::new(task.input_schema, task.keys, task.calls, spec.clone()).map_err(engine)?;
        let output = EdgeInfo {
            schema: factory.output_schema(),
            changelog: if spec.corrects() { ChangelogMode::Upsert } else { ChangelogMode::AppendOnly },
            key: Some((0..key_count).chain([key_count + key_part as usize]).collect()),
            time_column: Some(key_count + 2),
            ordinals: false,
        };
        let detail = format!("{}, window={}", task.detail.keys_and_calls, info.cut());
        let bound = bound(stream, info, &spec, "sessions");
        let id = self.id("session aggregate", task.plan, &stream.tables);
        let node = self.push_operator(id, factory, task.from, route, output, detail, &bound);
        self.may_refuse(node, &stream.tables);
        let places = GroupPlaces { first_key: 0, start: key_count, end: key_count + 1, time: Some(key_count + 2) };
        Ok((node, places, key_count + 3))
    }

    /// Gives each row its session.
    pub(super) fn assign_sessions(
        &mut self,
        mut stream: Stream,
        pending: &PendingWindow,
        gap_ms: i64,
        plan: &LogicalPlan,
    ) -> Result<Stream> {
        let from = self.flush(&mut stream, plan);
        let width = stream.physical.fields().len();
        let spec = self.session_spec(&stream, &pending.info, gap_ms, pending.time);
        let retracting = stream.changelog != ChangelogMode::AppendOnly;
        let factory = SessionAssignFactory::new(
            Arc::clone(&stream.physical),
            pending.partition.clone(),
            spec.clone(),
            retracting,
        )
        .map_err(engine)?
        .judging(pending.info.judged);
        stream.physical = factory.output_schema();
        for column in &mut stream.columns {
            match column.slot {
                Slot::Window(part) => column.slot = Slot::Physical(width + part as usize),
                // Rows were held back: of what they said of time before, no watermark speaks any more.
                Slot::Physical(_) => (column.rowtime, column.role) = (false, None),
            }
        }
        if spec.corrects() {
            (stream.changelog, stream.key, stream.lasting) = (ChangelogMode::Retract, None, false);
            let because = match &pending.info {
                info if info.emit == Some(EmitKind::Changes) => {
                    "`EMIT CHANGES` shows sessions that are corrected later"
                }
                info if !info.watermark => "no watermark closes the sessions",
                _ => "the table's 'allowed-lateness' has sessions corrected after they were shown",
            };
            stream.retracts_because = Some(because.to_string());
        } else {
            // A row leaves once, when its session is final: what could be taken back was taken back before.
            (stream.changelog, stream.retracts_because) = (ChangelogMode::AppendOnly, None);
        }
        let keys: Vec<&str> = pending.partition.iter().map(|key| stream.physical.field(*key).name().as_str()).collect();
        let time = stream.physical.field(pending.time).name();
        let detail = format!("{}, keys=[{}], time={time}", pending.info.cut(), keys.join(", "));
        let bound = bound(&stream, &pending.info, &spec, "rows of sessions");
        let kind = if pending.info.judged { "session assign, judging" } else { "session assign" };
        let id = self.id(kind, plan, &stream.tables);
        let output = stream.output_info();
        let route = Route::Hash(pending.partition.clone());
        let node = self.push_operator(id, factory, from, route, output, detail, &bound);
        self.may_refuse(node, &stream.tables);
        stream.columns.iter_mut().for_each(|column| column.whole = false);
        stream.leave((node, PORT_MAIN));
        // Arrival numbers of rows that can be taken back are not kept.
        stream.ordered &= !retracting;
        Ok(stream)
    }
}

/// Until when the state is kept, in words.
fn bound(stream: &Stream, info: &WindowInfo, spec: &SessionSpec, what: &str) -> String {
    match (info.watermark, stream.bounded, spec.lateness_ms) {
        (false, true, _) => format!("{what}, until the input ends"),
        (false, false, _) => format!("{what}, for ever"),
        (true, _, 0) => format!("open {what}, until the watermark passes window_end"),
        (true, _, lateness_ms) => format!("{what}, until the watermark passes window_end + {}", Millis(lateness_ms)),
    }
}
