//! What the session's time zone means in a plan: how instants (`TIMESTAMP_LTZ`) become wall clock times, texts and days, and back, and
//! where windows over them are cut.
//!
//! Instants are held in UTC, so with the zone `UTC` there is nothing to do. With another, casts between instants and everything else are
//! rewritten (see [`super::casts`]).

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use chrono::{DateTime, Offset, TimeZone};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TryCast,
    Volatility, cast,
};
use eagre_engine::wall_clock::WallClock;

use crate::error::{Result, SqlError};
use crate::functions::convert;
use crate::functions::local_time::{INSTANT, INSTANT_OF_TEXT, TRY_INSTANT_OF_TEXT, WALL_CLOCK, time_zone};
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

pub(super) fn is_instant(data_type: &DataType) -> bool {
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

/// The clock of a zone, for windows over instants.
///
/// # Errors
/// A zone that is not known.
pub(super) fn wall_clock(zone: &str) -> Result<WallClock> {
    if zone == UTC {
        return Ok(WallClock::default());
    }
    let parsed = time_zone(zone).ok_or_else(|| {
        SqlError::plan(
            format!("there is no time zone `{zone}`; a zone is a name as `Europe/Berlin` or an offset as `+01:00`"),
            None,
        )
    })?;
    let offset_s = |second: i64| match DateTime::from_timestamp(second, 0) {
        Some(time) => i64::from(parsed.offset_from_utc_datetime(&time.naive_utc()).fix().local_minus_utc()),
        None => 0,
    };
    let mut changes = vec![];
    let mut before = offset_s(FIRST_S);
    for day in (FIRST_S..LAST_S).step_by(DAY_S as usize) {
        let after = offset_s(day + DAY_S);
        if after == before {
            continue;
        }
        // The second at which the clocks change lies in (low, high].
        let (mut low, mut high) = (day, day + DAY_S);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if offset_s(middle) == before { low = middle } else { high = middle }
        }
        changes.push((high * 1_000, after * 1_000));
        before = after;
    }
    Ok(WallClock::new(zone, offset_s(FIRST_S) * 1_000, changes))
}

const DAY_S: i64 = 86_400;
/// Before the first zone had a common time: 1830.
const FIRST_S: i64 = -140 * 365 * DAY_S;
/// Rules for clocks are not known further: 2150.
const LAST_S: i64 = 180 * 365 * DAY_S;

/// Local milliseconds as the last instant at which the clock shows them or earlier ones.
pub(super) fn last_instant(clock: &WallClock, ms: Expr) -> Expr {
    if clock.is_utc() {
        return ms;
    }
    let signature = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
    ScalarUDF::new_from_impl(LastInstant { clock: clock.clone(), signature }).call(vec![ms])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LastInstant {
    clock: WallClock,
    signature: Signature,
}

impl ScalarUDFImpl for LastInstant {
    fn name(&self) -> &str {
        "__last_instant"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> datafusion::common::Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> datafusion::common::Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let times = arrays.first().and_then(|array| array.as_primitive_opt::<Int64Type>());
        let times = times.ok_or_else(|| SqlError::internal("a local time is no number"))?;
        let instants: Int64Array = times.unary(|time| self.clock.last_instant(time));
        Ok(ColumnarValue::Array(Arc::new(instants)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes are found to the second, old and odd ones too.
    #[test]
    fn clocks_of_zones() {
        let clock = wall_clock("Europe/Berlin").expect("it is known");
        let ms = |text: &str| text.parse::<DateTime<chrono::Utc>>().expect("an instant").timestamp_millis();
        let hours = |text: &str| (clock.local(ms(text)) - ms(text)) as f64 / 3_600_000.0;
        let times =
            ["2026-03-29T00:59:59.999Z", "2026-03-29T01:00:00Z", "2026-10-25T00:59:59.999Z", "2026-10-25T01:00:00Z"];
        assert_eq!(times.map(hours), [1.0, 2.0, 2.0, 1.0]);
        // Summer time of the year 1947 was doubled for a while.
        assert_eq!(hours("1947-06-01T00:00:00Z"), 3.0);
        assert!(clock.changes());
        assert_eq!(wall_clock("+05:30").expect("an offset").offsets_since(0), [19_800_000]);
        assert!(wall_clock("Etc/UTC").expect("it is known").is_utc());
        assert!(wall_clock("Mars/Base").is_err_and(|error| error.to_string().contains("no time zone `Mars/Base`")));
    }
}
