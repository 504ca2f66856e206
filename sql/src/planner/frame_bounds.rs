//! Bounds of frames that are computed: `ROWS 1 + 1 PRECEDING`, `RANGE '1 day'::INTERVAL PRECEDING`. DataFusion takes a number, a text or an interval, so any other
//! constant becomes one.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr as LogicalExpr;
use datafusion::sql::sqlparser::ast::{
    Expr, Interval, Query, Spanned, Value, VisitMut, VisitorMut, WindowFrameBound, WindowFrameUnits, WindowSpec,
    WindowType, visit_expressions,
};

use super::{intervals, window};
use crate::error::{Location, Result, SqlError};
use crate::parser::written::written;

/// Writes the value of each bound in its place; `constant` gives that of an expression without columns.
///
/// # Errors
/// A bound that is no constant, or none that a frame can have.
pub(super) fn fold(query: &mut Query, constant: &dyn Fn(&Expr) -> Result<LogicalExpr>) -> Result<()> {
    match query.visit(&mut Folder { constant }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Folder<'a> {
    constant: &'a dyn Fn(&Expr) -> Result<LogicalExpr>,
}

impl VisitorMut for Folder<'_> {
    type Break = SqlError;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let Some(WindowType::WindowSpec(spec)) = &mut function.over else { return ControlFlow::Continue(()) };
        match self.bounds(spec) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Folder<'_> {
    fn bounds(&self, spec: &mut WindowSpec) -> Result<()> {
        let Some(frame) = &mut spec.window_frame else { return Ok(()) };
        let units = frame.units;
        for bound in std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound) {
            if let WindowFrameBound::Preceding(Some(offset)) | WindowFrameBound::Following(Some(offset)) = bound
                && !is_plain(offset)
            {
                **offset = self.value_of(offset, units)?;
            }
        }
        Ok(())
    }

    fn value_of(&self, offset: &Expr, units: WindowFrameUnits) -> Result<Expr> {
        let location = Location::of(offset.span());
        let of_frame = match units {
            WindowFrameUnits::Rows => "`ROWS`",
            WindowFrameUnits::Range => "`RANGE`",
            WindowFrameUnits::Groups => "`GROUPS`",
        };
        let wrong = |what: &str| {
            SqlError::plan(format!("the bound `{}` of a frame of {of_frame} is {what}", written(offset)), location)
        };
        let not_constant = || wrong("no constant; it is one for all rows, such as `1` or `INTERVAL '1' DAY`");
        let reads = visit_expressions(offset, |part| match part {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Subquery(_) | Expr::Exists { .. } => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        if reads.is_break() {
            return Err(not_constant());
        }
        let value = (self.constant)(offset).map_err(|error| error.or_at(location))?;
        let LogicalExpr::Literal(value, _) = value else { return Err(not_constant()) };
        if value.is_null() {
            return Err(wrong("NULL"));
        }
        let data_type = value.data_type();
        let is_number = data_type.is_numeric();
        if is_number && is_negative(&value) {
            return Err(wrong("negative; the other way from a row is the other of PRECEDING and FOLLOWING"));
        }
        if units != WindowFrameUnits::Range && !data_type.is_integer() {
            return Err(wrong("no whole number"));
        }
        const NS: i64 = 1_000_000_000;
        let interval = match &value {
            _ if is_number => {
                let digits = value.cast_to(&DataType::Utf8).map(|digits| digits.to_string())?;
                return Ok(Expr::Value(Value::Number(digits, false).into()));
            }
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)) => {
                return Ok(text_of(text));
            }
            ScalarValue::IntervalMonthDayNano(Some(interval)) => Some(*interval),
            ScalarValue::IntervalYearMonth(Some(months)) => Some(IntervalMonthDayNano::new(*months, 0, 0)),
            ScalarValue::IntervalDayTime(Some(interval)) => {
                let ns = i64::from(interval.milliseconds) * (NS / 1_000);
                Some(IntervalMonthDayNano::new(0, interval.days, ns))
            }
            ScalarValue::DurationSecond(Some(count)) => of_units(*count, NS),
            ScalarValue::DurationMillisecond(Some(count)) => of_units(*count, NS / 1_000),
            ScalarValue::DurationMicrosecond(Some(count)) => of_units(*count, NS / 1_000_000),
            ScalarValue::DurationNanosecond(Some(count)) => of_units(*count, 1),
            _ => None,
        };
        let interval = interval
            .ok_or_else(|| wrong(&format!("{}; it is a number or an interval", crate::types::sql_name(&data_type))))?;
        Ok(intervals::constant(interval))
    }
}

/// What DataFusion takes as it stands.
fn is_plain(offset: &Expr) -> bool {
    let is_text =
        |value: &Expr| matches!(value, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)));
    match offset {
        Expr::Value(value) => matches!(value.value, Value::Number(_, false)),
        Expr::Interval(interval) => is_text(&interval.value),
        _ => false,
    }
}

/// A text as it stands in a frame: an interval without a unit.
fn text_of(text: &str) -> Expr {
    Expr::Interval(Interval {
        value: Box::new(window::string(text)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

fn of_units(count: i64, ns: i64) -> Option<IntervalMonthDayNano> {
    Some(IntervalMonthDayNano::new(0, 0, count.checked_mul(ns)?))
}

fn is_negative(value: &ScalarValue) -> bool {
    let zero = ScalarValue::new_zero(&value.data_type());
    zero.is_ok_and(|zero| value.partial_cmp(&zero) == Some(std::cmp::Ordering::Less))
}
