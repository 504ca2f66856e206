//! Joins of rows with the greatest or least of their own window: rows that cannot be it need not be kept.
//!
//! `b JOIN (SELECT MAX(price) AS m, window_end FROM TABLE(TUMBLE(TABLE b, ..)) GROUP BY window_start, window_end) w ON b.price = w.m AND ..`, with a
//! condition that says which windows a row of `b` can meet: an [`ExtremeFilterFactory`] in front of the join drops those that others of their
//! window are beyond. That is right where every row of the join's side is one that the aggregate sees, which is followed back here to
//! the node that both come from.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr as LogicalExpr, Join as LogicalJoin, LogicalPlan, Operator};
use eagre_engine::aggregate::AggregateCall;
use eagre_engine::graph::{ChangelogMode, NodeIndex, NodeKind, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::chain::Stage;
use eagre_engine::operator::extreme_filter::{ExtremeFilterFactory, ExtremeSpec};
use eagre_engine::operator::window::{WindowKind, WindowSpec};

use super::{Condition, Input, Side, shifted, side_of};
use crate::error::Result;
use crate::planner::context::default_functions;
use crate::planner::expr::strip_alias;
use crate::planner::lower::{Lowering, Slot, Stream, StreamColumn, WindowInfo, engine};
use crate::planner::window::WindowShape;

/// That a column is the greatest or least of all rows of a tumbling window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::planner) struct Extreme {
    /// The node that aggregates.
    of: NodeIndex,
    /// The node and port that its rows leave, and the columns there of the values and of their times.
    from: (NodeIndex, u8),
    value: usize,
    time: usize,
    greatest: bool,
    size_ms: i64,
    offset_ms: i64,
}

impl Extreme {
    /// Whether a call, over `stream` in windows of `info` by the time in column `time`, is the greatest or least of rows that leave a node as
    /// they are. The node that aggregates is still to be said.
    pub(in crate::planner) fn of_call(
        stream: &Stream,
        info: &WindowInfo,
        spec: WindowSpec,
        time: usize,
        function: &AggregateFunction,
        call: &AggregateCall,
    ) -> Option<Self> {
        let name = function.func.name();
        let greatest = match name {
            "max" => true,
            "min" => false,
            _ => return None,
        };
        let ours = default_functions().aggregate.get(name).is_some_and(|known| Arc::ptr_eq(known, &function.func));
        let WindowKind::Tumble { size_ms } = spec.kind else { return None };
        let ([value], None) = (call.args.as_slice(), call.filter) else { return None };
        if !ours || !info.watermark || !info.clock.is_utc() || stream.changelog != ChangelogMode::AppendOnly {
            return None;
        }
        let only_projected = stream.stages.iter().all(|stage| matches!(stage, Stage::Project { .. }));
        let place = |place: usize| traced(&stream.stages, place).filter(|_| only_projected);
        let (value, time) = (place(*value)?, place(time)?);
        let of = NodeIndex::MAX;
        Some(Self { of, from: stream.from, value, time, greatest, size_ms, offset_ms: spec.offset_ms })
    }

    /// Says which node aggregates.
    pub(in crate::planner) fn at(self, of: NodeIndex) -> Self {
        Self { of, ..self }
    }
}

/// The column, of what goes into `stages`, that is column `place` of what comes out, be it of fewer rows.
fn traced(stages: &[Stage], place: usize) -> Option<usize> {
    stages.iter().rev().try_fold(place, |place, stage| match stage {
        Stage::Filter(_) => Some(place),
        Stage::Project { exprs, .. } => exprs.get(place)?.as_column(),
        Stage::Transform(_) => None,
    })
}

impl Lowering<'_> {
    /// Drops rows of one side of a join that the other side, which has the extremes, lets no chance.
    pub(super) fn drop_what_is_beaten(
        &mut self,
        join: &LogicalJoin,
        condition: &Condition,
        both: &DFSchema,
        (side, rows, plan): (Side, &mut Input, &LogicalPlan),
        extremes: &Input,
    ) -> Result<()> {
        if rows.preserved || rows.stream.changelog != ChangelogMode::AppendOnly {
            return Ok(());
        }
        let sides = Sides { join, both, side, rows: &rows.stream, extremes: &extremes.stream };
        for (index, pair) in condition.keys.iter().enumerate() {
            let key = if side == Side::Left { &pair.1 } else { &pair.0 };
            let Some(extreme) = sides.extreme(key) else { continue };
            if self.origin(&rows.stream, rows.keys[index]) != Some((extreme.from, extreme.value)) {
                continue;
            }
            let mut places = 0..rows.stream.physical.fields().len();
            let is_time = |place: &usize| self.origin(&rows.stream, *place) == Some((extreme.from, extreme.time));
            let Some(time) = places.find(is_time) else { continue };
            let Some(ends_ms) = self.ends_met(condition, &sides, extreme, time)? else { continue };
            let spec = ExtremeSpec {
                value: rows.keys[index],
                greatest: extreme.greatest,
                time,
                size_ms: extreme.size_ms,
                offset_ms: extreme.offset_ms,
                ends_ms,
            };
            let Some(factory) = ExtremeFilterFactory::new(spec, &rows.stream.physical).map_err(engine)? else {
                continue;
            };
            let name = |place: usize| rows.stream.physical.field(place).name().clone();
            let best = if extreme.greatest { "greatest" } else { "least" };
            let detail = format!("{} that may be the {best} of its window of {}", name(rows.keys[index]), name(time));
            let from = self.flush(&mut rows.stream, plan);
            let id = self.id("extreme filter", plan, &rows.stream.tables);
            let output = rows.stream.output_info();
            let bound = format!("the {best} of each window, until no row can meet it");
            let node = self.push_operator(id, factory, from, Route::Forward, output, detail, &bound);
            rows.stream.leave((node, PORT_MAIN));
            return Ok(());
        }
        Ok(())
    }

    /// The node and port that the rows of `stream` come from, with the column of them that is at `place` now; through the assignment of windows too, which
    /// adds columns behind theirs.
    fn origin(&self, stream: &Stream, place: usize) -> Option<((NodeIndex, u8), usize)> {
        let place = traced(&stream.stages, place)?;
        let node = &self.graph.nodes[stream.from.0];
        match (&node.kind, node.inputs.as_slice()) {
            (NodeKind::Operator(factory), [edge]) if factory.name() == "WindowAssign" && stream.from.1 == PORT_MAIN => {
                let width = self.graph.nodes[edge.from].output.schema.fields().len();
                (place < width).then_some(((edge.from, edge.port), place))
            }
            _ => Some((stream.from, place)),
        }
    }

    /// From when to when, counted from the time of a row, the windows that it can meet end, in milliseconds.
    fn ends_met(
        &self,
        condition: &Condition,
        sides: &Sides<'_>,
        extreme: Extreme,
        time: usize,
    ) -> Result<Option<(i64, i64)>> {
        // By the window that the row belongs to: its own.
        for (left, right) in &condition.keys {
            let (of_rows, of_extremes) = if sides.side == Side::Left { (left, right) } else { (right, left) };
            let role =
                |stream: &Stream, expr: &LogicalExpr| sides.column(stream, expr).and_then(|column| column.role.clone());
            let roles = (role(sides.rows, of_rows), role(sides.extremes, of_extremes));
            let (Some((info, part)), Some((other, other_part))) = roles else { continue };
            // A source has one time that a watermark speaks of, so the windows are by that one on both sides.
            let is_source = matches!(self.graph.nodes[extreme.from.0].kind, NodeKind::Source(_));
            let same = info.spec == other.spec && info.clock == other.clock && info.watermark && other.watermark;
            if is_source && same && part == other_part && is_window_of(&other, extreme) && info.identified_by(part) {
                return Ok(Some((1, extreme.size_ms)));
            }
        }
        // By comparisons of the row's time with a part of the window.
        let (mut least, mut greatest): (Option<i64>, Option<i64>) = (None, None);
        for (x, op, y) in condition.comparisons() {
            let ((x, shift_x), (y, shift_y)) = (shifted(x, sides.both), shifted(y, sides.both));
            let width = sides.join.left.schema().fields().len();
            let of = (side_of(&x, sides.both, width)?, side_of(&y, sides.both, width)?);
            let (Some(side_x), Some(side_y)) = of else { continue };
            let (row, window, op, shift) = match (side_x == sides.side, side_y == sides.side) {
                // row + shift_x op window + shift_y
                (true, false) => (&x, &y, op, shift_y - shift_x),
                (false, true) => match op.swap() {
                    Some(op) => (&y, &x, op, shift_x - shift_y),
                    None => continue,
                },
                _ => continue,
            };
            if sides.column(sides.rows, row).is_none_or(|column| column.slot != Slot::Physical(time)) {
                continue;
            }
            let role = sides.column(sides.extremes, window).and_then(|column| column.role.clone());
            let Some((info, part)) = role.filter(|(info, _)| is_window_of(info, extreme)) else { continue };
            let Some(to_end_ms) = info.to_end_ms(part) else { continue };
            // time op end - to_end + shift; a millisecond more for what is finer.
            let by = to_end_ms - shift;
            if matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq) {
                least = Some(least.map_or(by - 1, |least| least.max(by - 1)));
            }
            if matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq) {
                greatest = Some(greatest.map_or(by + 1, |greatest| greatest.min(by + 1)));
            }
        }
        Ok(least.zip(greatest))
    }
}

/// Whether a window is one of those that the extreme is of.
fn is_window_of(info: &WindowInfo, extreme: Extreme) -> bool {
    let kind = WindowKind::Tumble { size_ms: extreme.size_ms };
    info.clock.is_utc() && info.spec == WindowShape::Aligned(WindowSpec { kind, offset_ms: extreme.offset_ms })
}

/// Both sides of a join.
struct Sides<'a> {
    join: &'a LogicalJoin,
    both: &'a DFSchema,
    /// That of the rows.
    side: Side,
    rows: &'a Stream,
    extremes: &'a Stream,
}

impl<'a> Sides<'a> {
    /// What a plain column of one of the sides is.
    fn column(&self, stream: &'a Stream, expr: &LogicalExpr) -> Option<&'a StreamColumn> {
        let LogicalExpr::Column(column) = strip_alias(expr) else { return None };
        let is_left = std::ptr::eq(stream, self.rows) == (self.side == Side::Left);
        let plan = if is_left { &self.join.left } else { &self.join.right };
        stream.columns.get(plan.schema().index_of_column(column).ok()?)
    }

    /// What a key of the other side is the extreme of, where its rows come from the aggregate itself: its other columns are of the same window.
    fn extreme(&self, key: &LogicalExpr) -> Option<Extreme> {
        let extreme = self.column(self.extremes, key)?.extreme?;
        (extreme.of == self.extremes.from.0).then_some(extreme)
    }
}
