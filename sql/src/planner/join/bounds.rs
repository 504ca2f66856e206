//! When rows of a join may be let go, and which are late: what its condition says of event time.
//!
//! Where the condition ties the event times of the two sides together, not all rows have to be kept: `b.ts <= a.ts + INTERVAL '10' MINUTE` says
//! that a row of `a` can be let go once the watermark is past its own time and ten minutes, and `b.ts <= a.expires` says the same with a time
//! that differs from row to row. Such bounds are found in the condition itself ([`Bounds`]), so no form of query is special: an interval join
//! is a join with two constant bounds, a window join one on the columns of a window.
//!
//! What is late follows from what was let go. With constant bounds `b.ts` in `[a.ts + lo, a.ts + hi]` a row is late when the watermark has passed
//! both it and its interval, and rows are kept so long that every other row meets all its partners. With other bounds
//! a row is late when a partner of it may have been let go.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, Join as LogicalJoin, Operator, cast, lit};
use eagre_engine::graph::ChangelogMode;

use super::Condition;
use crate::error::{Result, SqlError};
use crate::planner::decorrelate::is_of_domain;
use crate::planner::expr::{short_text, strip_alias};
use crate::planner::local_time::last_instant;
use crate::planner::lower::{Lowering, Stream, StreamColumn, WindowPart};

/// Until when a row of one side is kept, in milliseconds of event time.
pub(super) struct Bound {
    pub(super) expires: LogicalExpr,
    pub(super) text: String,
}

/// What the condition says of the times of both sides.
#[derive(Default)]
pub(super) struct Bounds {
    pub(super) left: Option<Bound>,
    pub(super) right: Option<Bound>,
    /// When a row of each side is late, in milliseconds of event time.
    pub(super) late: [Option<LogicalExpr>; 2],
    /// How far behind the watermark the times of joined rows may be; `None`: as far as they like.
    pub(super) delay_ms: Option<i64>,
    /// Both sides are of one window, whose columns mean the same in the result.
    pub(super) window: bool,
}

impl Lowering<'_> {
    /// Reads the condition for what it says of event time.
    pub(super) fn time_bounds(
        &self,
        condition: &Condition,
        join: &LogicalJoin,
        left: &Stream,
        right: &Stream,
        both: &DFSchema,
    ) -> Result<Bounds> {
        let lateness_ms = left.lateness_ms.max(right.lateness_ms);
        if let Some(bounds) = window_bounds(condition, join, left, right, lateness_ms) {
            return Ok(bounds);
        }
        // A row that is taken back when its time is long past has to find what it met.
        if left.retracts_late || right.retracts_late {
            return Ok(Bounds::default());
        }
        let width = left.columns.len();
        let column = |index: usize| match index < width {
            true => &left.columns[index],
            false => &right.columns[index - width],
        };
        let mut limits = Limits::default();
        for (x, op, y) in condition.comparisons() {
            let ((x, shift_x), (y, shift_y)) = (shifted(x, both), shifted(y, both));
            let (Some(side_x), Some(side_y)) = (side_of(&x, both, width)?, side_of(&y, both, width)?) else { continue };
            if side_x == side_y {
                continue;
            }
            // What a subquery is a function of is kept in any case, so no row has to be late for it.
            let of_domain = |expr: &LogicalExpr| match expr {
                LogicalExpr::Column(name) if is_of_domain(name) => {
                    both.index_of_column(name).is_ok_and(|at| column(at).role.is_none())
                }
                _ => false,
            };
            if of_domain(&x) || of_domain(&y) {
                continue;
            }
            let is_time = |expr: &LogicalExpr| expr.get_type(both).is_ok_and(|t| matches!(t, DataType::Timestamp(..)));
            if !is_time(&x) || !is_time(&y) {
                continue;
            }
            let of = |expr: &LogicalExpr| match expr {
                LogicalExpr::Column(name) => Ok(Some(column(both.index_of_column(name)?))),
                _ => Ok::<_, SqlError>(None),
            };
            let (column_x, column_y) = (of(&x)?, of(&y)?);
            let rowtime = [column_x, column_y].iter().all(|column| column.is_some_and(|column| column.rowtime));
            // x <= y + shift: a row of y's side meets no x beyond y + shift.
            let shift = shift_y - shift_x;
            if matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq)
                && let Some(behind_ms) = column_x.and_then(StreamColumn::behind_ms)
            {
                let by = (x.clone(), behind_ms);
                limits.side(side_y).push(Limit { expr: y.clone(), shift_ms: shift + behind_ms, by, rowtime });
            }
            if matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq)
                && let Some(behind_ms) = column_y.and_then(StreamColumn::behind_ms)
            {
                let by = (y.clone(), behind_ms);
                limits.side(side_x).push(Limit { expr: x.clone(), shift_ms: behind_ms - shift, by, rowtime });
            }
        }
        // A side that is a join itself may have two columns of the name.
        let named = |time: &LogicalExpr| match time {
            LogicalExpr::Column(column)
                if [&join.left, &join.right].iter().any(|side| {
                    let same = side.schema().fields().iter().filter(|field| field.name() == &column.name);
                    side.schema().has_column(column) && same.count() > 1
                }) =>
            {
                column.flat_name()
            }
            _ => short_text(time),
        };
        let tightest = |limits: &[Limit]| limits.iter().filter(|limit| limit.rowtime).map(|l| l.shift_ms).min();
        if let (Some(hi), Some(below)) = (tightest(&limits.left), tightest(&limits.right))
            && let Some((left_time, right_time)) = limits.times()
        {
            // right.ts in [left.ts + lo, left.ts + hi]
            let lo = -below;
            let bound = |time: &LogicalExpr, kept: i64| Bound {
                expires: milliseconds(time, kept + lateness_ms),
                text: format!("{} + {}", named(time), humane(kept + lateness_ms)),
            };
            let (left_kept, right_kept) = (hi - lo.min(0), hi.max(0) - lo);
            return Ok(Bounds {
                left: Some(bound(&left_time, left_kept)),
                right: Some(bound(&right_time, right_kept)),
                // No row before the watermark is late, also if all that it meets is.
                late: [(&left_time, hi.max(0)), (&right_time, (-lo).max(0))]
                    .map(|(time, closed)| Some(milliseconds(time, closed + lateness_ms))),
                delay_ms: Some(left_kept.max(right_kept).max(0)),
                window: false,
            });
        }
        let bound = |limits: &[Limit]| {
            let limit = limits.first()?;
            Some(Bound {
                expires: milliseconds(&limit.expr, limit.shift_ms + lateness_ms),
                text: format!("{} + {}", named(&limit.expr), humane(limit.shift_ms + lateness_ms)),
            })
        };
        // A side that is kept may take back any row of it, whenever that comes: what the row met has to be there still.
        let stays = |own: &[Limit], stream: &Stream| own.is_empty() && stream.changelog != ChangelogMode::AppendOnly;
        if stays(&limits.left, left) {
            limits.right.clear();
        }
        if stays(&limits.right, right) {
            limits.left.clear();
        }
        // Where the other side has a bound, a partner may have been let go: as soon as the column that bounds it is behind.
        let late = |other: &[Limit]| {
            let (time, behind_ms) = &other.first()?.by;
            Some(milliseconds(time, behind_ms + lateness_ms))
        };
        Ok(Bounds {
            left: bound(&limits.left),
            right: bound(&limits.right),
            late: [late(&limits.right), late(&limits.left)],
            delay_ms: None,
            window: false,
        })
    }
}

/// For the rows of one side: times of the other side's rows beyond this do not match.
struct Limit {
    expr: LogicalExpr,
    shift_ms: i64,
    /// The column of the other side whose values in rows to come are this many milliseconds behind the watermark at most.
    by: (LogicalExpr, i64),
    /// Whether both are the event times of their sides.
    rowtime: bool,
}

#[derive(Default)]
struct Limits {
    left: Vec<Limit>,
    right: Vec<Limit>,
}

impl Limits {
    /// The event times of both sides, where all limits that speak of such speak of the same: a joined row has several.
    fn times(&self) -> Option<(LogicalExpr, LogicalExpr)> {
        let of_left = self.left.iter().filter(|limit| limit.rowtime).map(|limit| (&limit.expr, &limit.by.0));
        let of_right = self.right.iter().filter(|limit| limit.rowtime).map(|limit| (&limit.by.0, &limit.expr));
        let mut pairs = of_left.chain(of_right);
        let (left, right) = pairs.next()?;
        pairs.all(|pair| pair == (left, right)).then(|| (left.clone(), right.clone()))
    }

    fn side(&mut self, side: Side) -> &mut Vec<Limit> {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// The side whose columns an expression reads; `None`: of both or of none.
pub(super) fn side_of(expr: &LogicalExpr, both: &DFSchema, width: usize) -> Result<Option<Side>> {
    let mut side = None;
    for column in expr.column_refs() {
        let of = if both.index_of_column(column)? < width { Side::Left } else { Side::Right };
        if side.is_some_and(|side| side != of) {
            return Ok(None);
        }
        side = Some(of);
    }
    Ok(side)
}

/// A time as another one and a constant number of milliseconds.
pub(super) fn shifted(expr: &LogicalExpr, schema: &DFSchema) -> (LogicalExpr, i64) {
    match strip_alias(expr) {
        LogicalExpr::BinaryExpr(binary) if matches!(binary.op, Operator::Plus | Operator::Minus) => {
            let sign = if binary.op == Operator::Plus { 1 } else { -1 };
            if let Some(ms) = interval_ms(&binary.right) {
                let (inner, shift) = shifted(&binary.left, schema);
                return (inner, shift + sign * ms);
            }
            if let (Some(ms), 1) = (interval_ms(&binary.left), sign) {
                let (inner, shift) = shifted(&binary.right, schema);
                return (inner, shift + ms);
            }
            (expr.clone(), 0)
        }
        LogicalExpr::Cast(to) if matches!(to.field.data_type(), DataType::Timestamp(..)) => {
            // To another unit: the same time in milliseconds.
            match to.expr.get_type(schema) {
                Ok(DataType::Timestamp(..)) => shifted(&to.expr, schema),
                _ => (expr.clone(), 0),
            }
        }
        other => (other.clone(), 0),
    }
}

/// An interval of constant length, rounded up to milliseconds.
fn interval_ms(expr: &LogicalExpr) -> Option<i64> {
    match strip_alias(expr) {
        LogicalExpr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months == 0 => {
            let ms = interval.nanoseconds.div_euclid(1_000_000) + i64::from(interval.nanoseconds % 1_000_000 != 0);
            Some(i64::from(interval.days) * 86_400_000 + ms)
        }
        LogicalExpr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => {
            Some(i64::from(interval.days) * 86_400_000 + i64::from(interval.milliseconds))
        }
        LogicalExpr::Literal(ScalarValue::DurationMillisecond(Some(ms)), _) => Some(*ms),
        _ => None,
    }
}

/// A time in milliseconds, moved by `shift_ms`.
fn milliseconds(time: &LogicalExpr, shift_ms: i64) -> LogicalExpr {
    let ms = cast(cast(time.clone(), DataType::Timestamp(TimeUnit::Millisecond, None)), DataType::Int64);
    if shift_ms == 0 { ms } else { ms + lit(shift_ms) }
}

fn humane(ms: i64) -> String {
    match ms {
        ms if ms % 60_000 == 0 && ms != 0 => format!("{} min", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

/// Where both sides are of one window: rows are kept until it closes, and late when it was closed.
fn window_bounds(
    condition: &Condition,
    join: &LogicalJoin,
    left: &Stream,
    right: &Stream,
    lateness_ms: i64,
) -> Option<Bounds> {
    for (left_key, right_key) in &condition.keys {
        let column = |stream: &Stream, expr: &LogicalExpr, schema: &DFSchema| match strip_alias(expr) {
            LogicalExpr::Column(column) => Some(stream.columns[schema.index_of_column(column).ok()?].clone()),
            _ => None,
        };
        let of_left = column(left, left_key, join.left.schema()).and_then(|column| column.role);
        let of_right = column(right, right_key, join.right.schema()).and_then(|column| column.role);
        let (Some((info, part)), Some((other, other_part))) = (of_left, of_right) else { continue };
        if info.spec != other.spec
            || info.clock != other.clock
            || part != other_part
            || !info.watermark
            || !other.watermark
            || !info.identified_by(part)
        {
            continue;
        }
        let Some(to_end_ms) = info.to_end_ms(part) else { continue };
        // Closed when the watermark has reached the end.
        let closed = |key: &LogicalExpr| match part {
            WindowPart::Start | WindowPart::End if !info.clock.is_utc() => {
                last_instant(&info.clock, milliseconds(key, to_end_ms - 1)) + lit(lateness_ms)
            }
            _ => milliseconds(key, to_end_ms - 1 + lateness_ms),
        };
        let bound = |key: &LogicalExpr| Bound {
            expires: closed(key),
            text: match lateness_ms {
                0 => "window_end".to_string(),
                _ => format!("window_end + {}", humane(lateness_ms)),
            },
        };
        return Some(Bounds {
            left: Some(bound(left_key)),
            right: Some(bound(right_key)),
            late: [Some(closed(left_key)), Some(closed(right_key))],
            delay_ms: Some(0),
            window: true,
        });
    }
    None
}
