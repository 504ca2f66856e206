//! `INTERVAL '1' HOUR * 3`, `n * INTERVAL '1' MONTH`, `(a - b) / 2`: intervals times and through numbers.
//!
//! DataFusion has no such operators, so its planner is told what they are where an operator meets these types. A whole multiple is exact. Of a part, what is left of a
//! month goes on as days, thirty to the month, and what is left of a day as time, as PostgreSQL does it. The difference of two times is an interval without months.
//!
//! Comparisons are of the same lengths: see [`compared`]. Times of day of two precisions are compared in nanoseconds, where DataFusion has no type for both.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, DurationMillisecondType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, TimeUnit,
};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{self, Expr, ExprSchemable, Operator, ScalarUDF, binary_expr};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use eagre_engine::interval_text::parse;

use super::as_it_is;
use super::definition::{Call, Definition, Param};

const DAYS_OF_MONTH: f64 = 30.0;
const SECONDS_OF_DAY: f64 = 86_400.0;
pub(crate) const NANOS_OF_DAY: i64 = 86_400_000_000_000;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// The name of the function that `interval * number` is.
pub(crate) const TIMES: &str = "__interval_times";
/// The name of the function that `interval / number` is.
pub(crate) const DIVIDED: &str = "__interval_divided";

static TIMES_FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| scaled(call, false);
    Definition { name: TIMES, params: &[Param::Any, Param::Any], optional: 0, returns, invoke }.udf()
});

static DIVIDED_FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let invoke = |call: &Call| scaled(call, true);
    Definition { name: DIVIDED, params: &[Param::Any, Param::Any], optional: 0, returns, invoke }.udf()
});

fn returns(_types: &[DataType]) -> DataType {
    INTERVAL
}

/// Plans the operators.
#[derive(Debug)]
pub(super) struct IntervalOperators;

impl ExprPlanner for IntervalOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if matches!(expr.op, BinaryOperator::Plus | BinaryOperator::Minus) {
            return Ok(date_with_time(expr, schema));
        }
        let divides = match expr.op {
            BinaryOperator::Multiply => false,
            BinaryOperator::Divide => true,
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq => {
                let RawBinaryExpr { op, mut left, mut right } = expr;
                let types = (left.get_type(schema), right.get_type(schema));
                match types {
                    (Ok(of_left), _) if is_interval(&of_left) => right = as_interval(right)?,
                    (_, Ok(of_right)) if is_interval(&of_right) => left = as_interval(left)?,
                    (Ok(of_left), Ok(of_right)) if of_left != of_right && is_clock(&of_left) && is_clock(&of_right) => {
                        (left, right) = (in_finest(left), in_finest(right));
                    }
                    _ => {}
                }
                return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let function = if divides { &DIVIDED_FUNCTION } else { &TIMES_FUNCTION };
        Ok(match (is_interval(&left), is_interval(&right)) {
            (true, false) if right.is_numeric() => PlannerResult::Planned(call(function, expr.left, expr.right)),
            (false, true) if left.is_numeric() && !divides => {
                PlannerResult::Planned(call(function, expr.right, expr.left))
            }
            _ => PlannerResult::Original(expr),
        })
    }
}

/// Whether values are intervals, or differences of two times.
pub(super) fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

fn is_clock(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Time32(_) | DataType::Time64(_))
}

/// A time of day in the unit in which those of all precisions meet.
fn in_finest(clock: Expr) -> Expr {
    logical_expr::cast(clock, DataType::Time64(TimeUnit::Nanosecond))
}

/// Two values of which one is an interval and the other one a text that is written, as intervals: the ends of a `BETWEEN`, the values of an `IN`.
pub(super) fn read_beside(
    left: &Expr,
    left_type: &DataType,
    right: &Expr,
    right_type: &DataType,
) -> Result<Option<(Expr, Expr)>> {
    let is_text = |expr: &Expr, data_type: &DataType| data_type.is_string() && matches!(expr, Expr::Literal(..));
    Ok(match (is_interval(left_type), is_interval(right_type)) {
        (true, false) if is_text(right, right_type) => Some((left.clone(), as_interval(right.clone())?)),
        (false, true) if is_text(left, left_type) => Some((as_interval(left.clone())?, right.clone())),
        _ => None,
    })
}

/// A text that is written beside an interval is one: `i > '01:00'`.
fn as_interval(expr: Expr) -> Result<Expr> {
    let Expr::Literal(value, _) = &expr else { return Ok(expr) };
    let Some(text) = value.try_as_str().flatten() else { return Ok(expr) };
    match parse(text) {
        Ok(interval) => Ok(Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), None)),
        Err(message) => plan_err!("{message}"),
    }
}

/// A date and an interval that names hours, minutes or seconds, or a difference of two times, make a point in time, as in PostgreSQL. (DataFusion makes a
/// date, and loses them.) A time of day goes on by the difference of two times as by any interval.
fn date_with_time(mut expr: RawBinaryExpr, schema: &DFSchema) -> PlannerResult<RawBinaryExpr> {
    use DataType::{Date32, Date64, Duration, Time32, Time64};
    let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
        return PlannerResult::Original(expr);
    };
    let names_time = |expr: &Expr| {
        Ok(matches!(expr, Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) if value.nanoseconds != 0))
    };
    let in_time = |date: &mut Expr| {
        *date = logical_expr::cast(std::mem::take(date), DataType::Timestamp(TimeUnit::Millisecond, None));
    };
    match (&left, &right) {
        (Date32 | Date64, Date32 | Date64) => {}
        (Date32 | Date64, Duration(_)) => in_time(&mut expr.left),
        (Duration(_), Date32 | Date64) => in_time(&mut expr.right),
        (Date32 | Date64, _) if expr.right.exists(names_time).unwrap_or(false) => in_time(&mut expr.left),
        (_, Date32 | Date64) if expr.left.exists(names_time).unwrap_or(false) => in_time(&mut expr.right),
        (Time32(_) | Time64(_), Duration(_)) => expr.right = logical_expr::cast(expr.right, INTERVAL),
        (Duration(_), Time32(_) | Time64(_)) => expr.left = logical_expr::cast(expr.left, INTERVAL),
        _ => {}
    }
    PlannerResult::Original(expr)
}

static LENGTH_FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let returns = |_: &[DataType]| LENGTH;
    Definition { name: as_it_is::LENGTH, params: &[Param::Any], optional: 0, returns, invoke: lengths }.udf()
});

/// By which intervals are put in order.
pub(crate) fn length_of(interval: Expr) -> Expr {
    LENGTH_FUNCTION.call(vec![interval])
}

/// Nanoseconds: the longest interval has more than a BIGINT counts.
const LENGTH: DataType = DataType::Decimal128(38, 0);

fn length(interval: IntervalMonthDayNano) -> i128 {
    let days = i128::from(interval.months) * 30 + i128::from(interval.days);
    days * i128::from(NANOS_OF_DAY) + i128::from(interval.nanoseconds)
}

fn lengths(call: &Call) -> Result<ArrayRef> {
    lengths_of(&call.array(0)?)
}

/// By which they are put in order.
pub(super) fn lengths_of(array: &ArrayRef) -> Result<ArrayRef> {
    let lengths: Decimal128Array = intervals(array)?.iter().map(|interval| interval.map(length)).collect();
    Ok(Arc::new(lengths.with_precision_and_scale(38, 0)?))
}

/// `left op right` of intervals, by their lengths; none where DataFusion compares these. A constant becomes one without months and days, so
/// that what a condition says of two times is still seen in it.
pub(super) fn compared(left: (&Expr, &DataType), op: Operator, right: (&Expr, &DataType)) -> Option<Expr> {
    let is_difference = |data_type: &DataType| matches!(data_type, DataType::Duration(_));
    if is_difference(left.1) && is_difference(right.1) {
        return None;
    }
    let plain = |(expr, data_type): (&Expr, &DataType)| match expr {
        _ if is_difference(data_type) => Some(expr.clone()),
        Expr::Literal(ScalarValue::IntervalMonthDayNano(value), metadata) => {
            let plain =
                value.map(|value| i64::try_from(length(value)).map(|length| IntervalMonthDayNano::new(0, 0, length)));
            Some(Expr::Literal(ScalarValue::IntervalMonthDayNano(plain.transpose().ok()?), metadata.clone()))
        }
        _ => None,
    };
    let of_length = |expr: &Expr| length_of(expr.clone());
    match (plain(left), plain(right)) {
        (Some(plain_left), Some(plain_right)) if plain_left == *left.0 && plain_right == *right.0 => None,
        (Some(plain_left), Some(plain_right)) => Some(binary_expr(plain_left, op, plain_right)),
        _ => Some(binary_expr(of_length(left.0), op, of_length(right.0))),
    }
}

fn call(function: &Arc<ScalarUDF>, interval: Expr, number: Expr) -> Expr {
    function.call(vec![interval, number])
}

fn scaled(call: &Call, divides: bool) -> Result<ArrayRef> {
    let intervals = intervals(&call.array(0)?)?;
    let numbers = &call.array(1)?;
    let whole = numbers.data_type().is_integer() && !divides;
    let (integers, doubles) = match whole {
        true => (Some(cast(numbers, &DataType::Int64)?.as_primitive::<Int64Type>().clone()), None),
        false => (None, Some(cast(numbers, &DataType::Float64)?.as_primitive::<Float64Type>().clone())),
    };
    let mut results = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        if intervals.is_null(row) || numbers.is_null(row) {
            results.push(None);
            continue;
        }
        let interval = intervals.value(row);
        let (result, text) = match (&integers, &doubles) {
            (Some(integers), _) => (times(interval, integers.value(row)), integers.value(row).to_string()),
            (None, Some(doubles)) => {
                let number = doubles.value(row);
                if divides && number == 0.0 {
                    return exec_err!("Divide by zero error");
                }
                (part(interval, |count| if divides { count / number } else { count * number }), number.to_string())
            }
            (None, None) => (None, String::new()),
        };
        let Some(result) = result else {
            let operator = if divides { '/' } else { '*' };
            return exec_err!("an INTERVAL {operator} {text} is longer than an INTERVAL can be");
        };
        results.push(Some(result));
    }
    Ok(Arc::new(IntervalMonthDayNanoArray::from(results)))
}

/// Differences of times become intervals.
pub(super) fn intervals(array: &ArrayRef) -> Result<IntervalMonthDayNanoArray> {
    if let DataType::Duration(_) = array.data_type() {
        let milliseconds = cast(array, &DataType::Duration(TimeUnit::Millisecond))?;
        let milliseconds = milliseconds.as_primitive::<DurationMillisecondType>();
        let interval = |ms: i64| match ms.checked_mul(1_000_000) {
            Some(nanoseconds) => Ok(IntervalMonthDayNano::new(0, 0, nanoseconds)),
            None => exec_err!("{ms} milliseconds are longer than an INTERVAL can be"),
        };
        return milliseconds.iter().map(|ms| ms.map(interval).transpose()).collect();
    }
    Ok(cast(array, &INTERVAL)?.as_primitive::<IntervalMonthDayNanoType>().clone())
}

/// Exactly; none where it does not fit.
fn times(interval: IntervalMonthDayNano, count: i64) -> Option<IntervalMonthDayNano> {
    let short = |part: i32| i32::try_from(i64::from(part).checked_mul(count)?).ok();
    Some(IntervalMonthDayNano::new(
        short(interval.months)?,
        short(interval.days)?,
        interval.nanoseconds.checked_mul(count)?,
    ))
}

/// Parts of months and days go on to what is shorter; none where it does not fit.
fn part(interval: IntervalMonthDayNano, scale: impl Fn(f64) -> f64) -> Option<IntervalMonthDayNano> {
    let months = scale(f64::from(interval.months));
    let days_of_months = (months - months.trunc()) * DAYS_OF_MONTH;
    // A third of a month is ten days, whatever the binary digits of a third say.
    let days_of_months = settled(days_of_months);
    let days = scale(f64::from(interval.days));
    let days_left = days - days.trunc() + days_of_months - days_of_months.trunc();
    let whole_days = days.trunc() + days_of_months.trunc();
    // To a millionth of a second, as a third of a day is eight hours.
    let seconds_left = (days_left * SECONDS_OF_DAY * 1e6).round() / 1e6;
    let carried = (seconds_left / SECONDS_OF_DAY).trunc();
    let (whole_days, seconds_left) = (whole_days + carried, seconds_left - carried * SECONDS_OF_DAY);
    let nanoseconds = scale(interval.nanoseconds as f64) + seconds_left * 1e9;
    let fits = |value: f64, bound: f64| value.is_finite() && value.abs() < bound;
    let bound = f64::from(i32::MAX);
    if !fits(months, bound) || !fits(whole_days, bound) || !fits(nanoseconds, i64::MAX as f64) {
        return None;
    }
    Some(IntervalMonthDayNano::new(months.trunc() as i32, whole_days as i32, nanoseconds.round() as i64))
}

/// To a billionth.
fn settled(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(months: i32, days: i32, nanoseconds: i64) -> IntervalMonthDayNano {
        IntervalMonthDayNano::new(months, days, nanoseconds)
    }

    /// Whole multiples are exact, and parts of a month are days of a month of thirty.
    #[test]
    fn parts_of_intervals() {
        assert_eq!(part(interval(0, 1, 0), |count| count / 3.0), Some(interval(0, 0, NANOS_OF_DAY / 3)));
        assert_eq!(part(interval(1, 2, 0), |count| count / 4.0), Some(interval(0, 8, 0)));
        assert_eq!(part(interval(1, 10, 0), |count| count * -0.55), Some(interval(0, -22, 0)));
        assert_eq!(part(interval(0, 2, 0), |count| count / 30.0), Some(interval(0, 0, NANOS_OF_DAY / 15)));
        assert_eq!(times(interval(1, -2, 3), 7), Some(interval(7, -14, 21)));
        assert_eq!(times(interval(i32::MAX, 0, 0), 2), None);
        assert_eq!(times(interval(0, 0, i64::MAX), 2), None);
        assert_eq!(part(interval(1, 0, 0), |count| count / 3.0), Some(interval(0, 10, 0)));
        assert_eq!(part(interval(0, 1, 0), |count| count / 2.0), Some(interval(0, 0, NANOS_OF_DAY / 2)));
        assert_eq!(part(interval(-1, 0, 0), |count| count * 1.5), Some(interval(-1, -15, 0)));
        assert_eq!(part(interval(1, 0, 0), |count| count * 1e300), None);
    }
}
