//! Frames as they are written, in the words of the engine.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    AggregateUDF, Expr as LogicalExpr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};
use eagre_engine::operator::over::{Bound, Distance, Frame, FrameUnit, RangeKeys, Reach};

use crate::error::{Result, SqlError};
use crate::parser::frame_exclusion::FrameExclusion;
use crate::parser::session_frame;
use crate::planner::context::default_functions;
use crate::planner::expr::{constant_text, strip_alias};

/// The frame where no row has peers: of rows instead of groups, and instead of values where it has no offsets.
pub(super) fn row_by_row(frame: &WindowFrame) -> WindowFrame {
    let plain = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => true,
        WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) => value.is_null(),
    };
    let is_groups = frame.units == WindowFrameUnits::Groups;
    match is_groups || plain(&frame.start_bound) && plain(&frame.end_bound) {
        true => WindowFrame::new_bounds(WindowFrameUnits::Rows, frame.start_bound.clone(), frame.end_bound.clone()),
        false => frame.clone(),
    }
}

/// The frame in the engine's words; `None` where it has none for an offset.
pub(super) fn frame_of(frame: &WindowFrame, order: Option<&DataType>) -> Option<Frame> {
    let unit = unit_of(frame);
    let bound = |bound: &WindowFrameBound| bound_of(bound, unit, order);
    Some(Frame { unit, start: bound(&frame.start_bound)?, end: bound(&frame.end_bound)? })
}

/// The session that is written as a frame of values around the row (see [`session_frame`](crate::parser::session_frame)).
///
/// # Errors
/// Its gap is none of the order key.
pub(super) fn session_of(frame: &WindowFrame, order: Option<&DataType>) -> Result<Frame> {
    match frame_of(frame, order) {
        Some(Frame { end: Bound::Following(gap), .. }) => Ok(Frame::session(gap)),
        _ => {
            let order = order.map_or_else(String::new, crate::types::sql_name);
            let message = format!(
                "`{}` over an order by {order}: a gap is a number for numbers, and an interval of days, hours, minutes and seconds for \
                 dates and times; not negative, not of months, and in whole units of the type",
                session_text(frame)
            );
            Err(SqlError::plan(message, None))
        }
    }
}

/// A session as it is written.
pub(super) fn session_text(frame: &WindowFrame) -> String {
    match &frame.end_bound {
        WindowFrameBound::Following(gap) => format!("SESSION WITH GAP {}", constant_text(gap)),
        _ => "SESSION WITH GAP".to_string(),
    }
}

fn unit_of(frame: &WindowFrame) -> FrameUnit {
    match frame.units {
        WindowFrameUnits::Rows => FrameUnit::Rows,
        WindowFrameUnits::Range => FrameUnit::Range,
        WindowFrameUnits::Groups => FrameUnit::Groups,
    }
}

fn bound_of(bound: &WindowFrameBound, unit: FrameUnit, order: Option<&DataType>) -> Option<Bound> {
    let distance = |value: &ScalarValue| match unit {
        FrameUnit::Range => range_distance(value, order?, false),
        _ => match value.cast_to(&DataType::UInt64).ok()? {
            ScalarValue::UInt64(count) => count.map(Distance::Count),
            _ => None,
        },
    };
    Some(match bound {
        WindowFrameBound::Preceding(value) if value.is_null() => Bound::UnboundedPreceding,
        WindowFrameBound::Following(value) if value.is_null() => Bound::UnboundedFollowing,
        WindowFrameBound::CurrentRow => Bound::CurrentRow,
        WindowFrameBound::Preceding(value) => Bound::Preceding(distance(value)?),
        WindowFrameBound::Following(value) => Bound::Following(distance(value)?),
    })
}

/// A frame as it is written.
pub(super) fn frame_text(frame: &WindowFrame) -> String {
    let bound = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(value) if !value.is_null() => format!("{} PRECEDING", constant_text(value)),
        WindowFrameBound::Following(value) if !value.is_null() => format!("{} FOLLOWING", constant_text(value)),
        other => other.to_string(),
    };
    format!("{} BETWEEN {} AND {}", frame.units, bound(&frame.start_bound), bound(&frame.end_bound))
}

/// How far rows matter, at most, to a frame that DataFusion finds.
pub(super) fn reaches_of(frame: &WindowFrame, order: Option<&DataType>) -> (Reach, Reach) {
    let unit = unit_of(frame);
    let exact = |bound: &WindowFrameBound| {
        bound_of(bound, unit, order).or_else(|| {
            let (WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value)) = bound else {
                return None;
            };
            let distance = range_distance(value, order?, true)?;
            Some(match bound {
                WindowFrameBound::Preceding(_) => Bound::Preceding(distance),
                _ => Bound::Following(distance),
            })
        })
    };
    match (exact(&frame.start_bound), exact(&frame.end_bound)) {
        (Some(start), Some(end)) => {
            let frame = Frame { unit, start, end };
            (frame.lookback(), frame.lookahead())
        }
        _ => (Reach::Unbounded, Reach::Unbounded),
    }
}

/// An offset of a `RANGE` frame in units of the order key. `at_most`: rounded up where it is no whole number of them, months as 31 days.
fn range_distance(value: &ScalarValue, order: &DataType, at_most: bool) -> Option<Distance> {
    const DAY_NS: i128 = 86_400_000_000_000;
    if !RangeKeys::supports(order) {
        return None;
    }
    if order.is_floating() {
        return match value.cast_to(&DataType::Float64).ok()? {
            ScalarValue::Float64(distance) => distance.map(Distance::Float),
            _ => None,
        };
    }
    if order.is_integer() {
        return match value.cast_to(&DataType::UInt64).ok()? {
            ScalarValue::UInt64(distance) => distance.map(Distance::Count),
            _ => None,
        };
    }
    let unit_ns = match order {
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => 1_000_000_000,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        },
        DataType::Date32 => DAY_NS,
        _ => return None,
    };
    let (months, days, ns) = match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            (i128::from(interval.months), i128::from(interval.days), i128::from(interval.nanoseconds))
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            (0, i128::from(interval.days), i128::from(interval.milliseconds) * 1_000_000)
        }
        ScalarValue::IntervalYearMonth(Some(months)) => (i128::from(*months), 0, 0),
        _ => return None,
    };
    let ns = (months * 31 + days) * DAY_NS + ns;
    let whole = months == 0 && ns % unit_ns == 0;
    if ns < 0 || !(whole || at_most) {
        return None;
    }
    u64::try_from(ns / unit_ns + i128::from(ns % unit_ns != 0)).ok().map(Distance::Count)
}

pub(super) fn distance_text(distance: Distance, order: Option<&DataType>) -> String {
    match (distance, order) {
        (Distance::Count(count), Some(DataType::Timestamp(unit, _))) => {
            let ms = match unit {
                TimeUnit::Second => count.saturating_mul(1_000),
                TimeUnit::Millisecond => count,
                TimeUnit::Microsecond => count / 1_000,
                TimeUnit::Nanosecond => count / 1_000_000,
            };
            let units = [(86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1_000, "seconds")];
            match units.into_iter().find(|(size, _)| ms > 0 && ms % size == 0) {
                Some((size, name)) => format!("{} {name}", ms / size),
                None => format!("{ms} ms"),
            }
        }
        (Distance::Count(count), Some(DataType::Date32)) => format!("{count} days"),
        (Distance::Count(count), _) => count.to_string(),
        (Distance::Float(distance), _) => distance.to_string(),
    }
}

/// The rows that a call leaves out of its frames; none for a function without a frame.
pub(in crate::planner) fn exclusion_of(function: &WindowFunction) -> Option<FrameExclusion> {
    marks_of(function).find_map(FrameExclusion::of_mark)
}

/// Whether the frame of a call is the session that a row is in; never for a function without a frame.
pub(super) fn is_session(function: &WindowFunction) -> bool {
    marks_of(function).any(session_frame::is_mark)
}

/// The constants among the partitions of a function that has a frame.
fn marks_of(function: &WindowFunction) -> impl Iterator<Item = &str> {
    let framed = aggregate_of(function).is_some();
    function.params.partition_by.iter().filter(move |_| framed).filter_map(|expr| match strip_alias(expr) {
        LogicalExpr::Literal(value, _) => value.try_as_str()?,
        _ => None,
    })
}

/// An aggregate, or one that gives what a window function gives of a frame.
pub(super) fn aggregate_of(function: &WindowFunction) -> Option<Arc<AggregateUDF>> {
    match &function.fun {
        WindowFunctionDefinition::AggregateUDF(udf) => Some(Arc::clone(udf)),
        WindowFunctionDefinition::WindowUDF(udf) => match udf.name() {
            name @ ("first_value" | "last_value" | "nth_value") => default_functions().aggregate.get(name).cloned(),
            _ => None,
        },
    }
}
