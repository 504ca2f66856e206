//! What the session's time zone means in a plan: how instants (`TIMESTAMP_LTZ`) become wall clock times, texts and days, and back, and
//! where windows over them are cut.
//!
//! Instants are held in UTC, so with the zone `UTC` there is nothing to do. With another, casts between instants and everything else are
//! rewritten (see [`super::casts`]).

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, Offset, TimeZone};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, TryCast, cast};
use eagre_engine::operator::window::{WindowKind, WindowSpec};

use crate::error::{Location, Result, SqlError};
use crate::functions::convert;
use crate::functions::local_time::{INSTANT, INSTANT_OF_TEXT, TRY_INSTANT_OF_TEXT, WALL_CLOCK};
use crate::types::UTC;

/// What stands for a cast or a call over instants in another zone than UTC; none where the expression does what it should.
pub(super) fn rewritten(expr: &Expr, schema: &DFSchema, zone: &str) -> Option<Expr> {
    match expr {
        Expr::Cast(Cast { expr: inner, field }) => of_cast(inner, field.data_type(), false, schema, zone),
        Expr::TryCast(TryCast { expr: inner, field }) => of_cast(inner, field.data_type(), true, schema, zone),
        Expr::ScalarFunction(call) => of_call(call, schema, zone),
        _ => None,
    }
}

/// Whether a conversion makes instants of anything else, or the other way, at any depth.
pub(super) fn crosses(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Struct(a), DataType::Struct(b)) => match convert::pairs(a, b) {
            Some(pairs) => pairs.into_iter().zip(b).any(|(at, b)| crosses(a[at].data_type(), b.data_type())),
            None => false,
        },
        (DataType::List(a), DataType::List(b)) | (DataType::Map(a, _), DataType::Map(b, _)) => {
            crosses(a.data_type(), b.data_type())
        }
        (from, to) => is_instant(from) != is_instant(to),
    }
}

fn is_instant(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(zone)) if zone.as_ref() == UTC)
}

fn in_zone(unit: TimeUnit, zone: &str) -> DataType {
    DataType::Timestamp(unit, Some(zone.into()))
}

/// What stands for `CAST(inner AS to)`; none where the cast does what it should.
fn of_cast(inner: &Expr, to: &DataType, lenient: bool, schema: &DFSchema, zone: &str) -> Option<Expr> {
    let from = inner.get_type(schema).ok()?;
    let again = |expr: Expr| match lenient {
        true => Expr::TryCast(TryCast::new(Box::new(expr), to.clone())),
        false => cast(expr, to.clone()),
    };
    let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_wall = |t: &DataType| matches!(t, DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64);
    match (&from, to) {
        (DataType::Timestamp(unit, Some(_)), to) if is_instant(&from) && is_text(to) => {
            Some(again(cast(inner.clone(), in_zone(*unit, zone))))
        }
        (from, to) if is_instant(from) && (is_wall(to) || matches!(to, DataType::Time32(_) | DataType::Time64(_))) => {
            Some(again(WALL_CLOCK.call(vec![inner.clone()])))
        }
        (DataType::Timestamp(_, None), to) if is_instant(to) => Some(again(INSTANT.call(vec![inner.clone()]))),
        (DataType::Date32 | DataType::Date64, to) if is_instant(to) => {
            let midnight = cast(inner.clone(), DataType::Timestamp(TimeUnit::Millisecond, None));
            Some(again(INSTANT.call(vec![midnight])))
        }
        (from, to) if is_text(from) && is_instant(to) => {
            let read = if lenient { &TRY_INSTANT_OF_TEXT } else { &INSTANT_OF_TEXT };
            Some(again(read.call(vec![cast(inner.clone(), DataType::Utf8View)])))
        }
        _ => None,
    }
}

/// Days and hours of an instant are those of the wall clock.
fn of_call(call: &ScalarFunction, schema: &DFSchema, zone: &str) -> Option<Expr> {
    let name = call.func.name();
    if !matches!(name, "date_part" | "date_trunc") {
        return None;
    }
    let [what, time] = call.args.as_slice() else { return None };
    let time_type = time.get_type(schema).ok().filter(is_instant)?;
    let DataType::Timestamp(unit, _) = &time_type else { return None };
    let args = vec![what.clone(), cast(time.clone(), in_zone(*unit, zone))];
    let local = Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&call.func), args });
    Some(if name == "date_trunc" { cast(local, time_type) } else { local })
}

/// Windows over instants, cut where the wall clock of the zone shows a multiple of their length.
///
/// # Errors
/// The zone changes its clocks by less than a window: such windows differ in length, which nothing here can cut.
pub(super) fn cut_by_wall_clock(
    spec: WindowSpec,
    zone: &str,
    time: &str,
    location: Option<Location>,
) -> Result<WindowSpec> {
    if zone == UTC {
        return Ok(spec);
    }
    let period_ms = match spec.kind {
        WindowKind::Tumble { size_ms } | WindowKind::Cumulate { size_ms, .. } => size_ms,
        WindowKind::Hop { slide_ms, .. } => slide_ms,
    };
    let remainders: BTreeSet<i64> = offsets_ms(zone)?.into_iter().map(|offset| offset.rem_euclid(period_ms)).collect();
    match remainders.first() {
        Some(remainder) if remainders.len() == 1 => WindowSpec::new(spec.kind, spec.offset_ms - remainder)
            .map_err(|error| SqlError::plan(error.to_string(), location)),
        _ => Err(SqlError::unsupported(
            format!("a window as long as {spec} over `{time}`, which is TIMESTAMP_LTZ, in the time zone {zone}"),
            format!(
                "the clocks of the zone have been changed, so windows by its wall clock differ in length; cut them over a column that \
                 is a wall clock time, `local_time AS CAST({time} AS TIMESTAMP(3))`, with a watermark of its own"
            ),
            location,
        )),
    }
}

/// How far the zone's clocks have been ahead of UTC since 1970, and will be as far as is known.
fn offsets_ms(zone: &str) -> Result<BTreeSet<i64>> {
    let parsed = Tz::from_str(zone).map_err(|_| SqlError::plan(format!("there is no time zone `{zone}`"), None))?;
    const WEEK_S: usize = 7 * 86_400;
    const LAST_S: i64 = 80 * 365 * 86_400;
    let times = (0..LAST_S).step_by(WEEK_S).filter_map(|second| DateTime::from_timestamp(second, 0));
    let offset = |time: DateTime<chrono::Utc>| {
        i64::from(parsed.offset_from_utc_datetime(&time.naive_utc()).fix().local_minus_utc()) * 1_000
    };
    Ok(times.map(offset).collect())
}
