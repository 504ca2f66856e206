//! Event time: what a row says of when it happened, and how far it has come.
//!
//! Event time is counted in milliseconds since 1970 in UTC, whatever the unit of the column: windows and watermarks have no finer
//! grain. A column of a finer unit is floored, which keeps the promise of a watermark (it only gets weaker).
//!
//! Watermark `W` promises that no row with an event time before `W` comes any more. A step has two: rows are judged by the one at its
//! start, and the one at its end says what has become final. So lateness, and only lateness, depends on how steps were cut.
//! After Akidau et al., "Watermarks in Stream Processing Systems" (VLDB 2021).

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};

use crate::error::{EngineError, Result};

/// Milliseconds of event time since 1970-01-01T00:00:00Z.
pub type EventTimeMs = i64;

/// Nothing is known yet.
pub const WATERMARK_MIN: EventTimeMs = i64::MIN;
/// The input has ended: everything is final.
pub const WATERMARK_MAX: EventTimeMs = i64::MAX;

/// The watermark of an edge at the two ends of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// At the start: a row is late where this had already closed what it belongs to.
    pub before: EventTimeMs,
    /// At the end: what this has passed is final. Never below `before`.
    pub after: EventTimeMs,
}

impl Watermarks {
    /// Nothing is known yet.
    pub const NONE: Self = Self { before: WATERMARK_MIN, after: WATERMARK_MIN };

    /// The slower of two inputs decides.
    pub fn min(self, other: Self) -> Self {
        Self { before: self.before.min(other.before), after: self.after.min(other.after) }
    }
}

/// The event times of a timestamp or date column as milliseconds; nulls stay null.
///
/// # Errors
/// A column of any other type: the planner refuses it earlier, so this is a bug.
pub fn event_times_ms(column: &ArrayRef) -> Result<Int64Array> {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => Ok(reinterpret_ms(column)),
        DataType::Timestamp(unit, _) => {
            let per_ms = match unit {
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1_000_000,
                _ => {
                    let ms = cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
                    return Ok(reinterpret_ms(&ms));
                }
            };
            let raw = cast(column, &DataType::Int64)?;
            let raw = raw.as_primitive::<arrow::datatypes::Int64Type>();
            Ok(raw.unary(|t| t.div_euclid(per_ms)))
        }
        DataType::Date32 | DataType::Date64 => {
            Ok(reinterpret_ms(&cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?))
        }
        other => Err(EngineError::bug(format!("an event time column has type {other}"))),
    }
}

/// The greatest of `times` that is not null.
///
/// Every row of a source passes here before its step begins: the loop is built for the instructions that the machine has, as arrow's kernel
/// is not (1.3 ns a row without a comparison of words of 64 bits, against what loading them takes).
pub(crate) fn greatest_time(times: &Int64Array) -> Option<EventTimeMs> {
    let values = times.values();
    match times.nulls().filter(|nulls| nulls.null_count() > 0) {
        None if values.is_empty() => None,
        None => Some(greatest(values)),
        Some(nulls) => nulls.valid_slices().map(|(start, end)| greatest(&values[start..end])).max(),
    }
}

/// `i64::MIN` where there are none.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn greatest(times: &[EventTimeMs]) -> EventTimeMs {
    times.iter().copied().fold(EventTimeMs::MIN, EventTimeMs::max)
}

fn reinterpret_ms(column: &ArrayRef) -> Int64Array {
    let ms = column.as_primitive::<TimestampMillisecondType>();
    Int64Array::new(ms.values().clone(), ms.nulls().cloned())
}

/// Event times in milliseconds as a column of the timestamp type `data_type`.
pub fn event_times_from_ms(times: Int64Array, data_type: &DataType) -> Result<ArrayRef> {
    let ms = times.reinterpret_cast::<TimestampMillisecondType>();
    Ok(cast(&ms, data_type)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_greatest_time_is_that_of_a_plain_loop(
            times in proptest::collection::vec(proptest::option::weighted(0.8, any::<i64>()), 0..100),
            all_there in any::<bool>(),
        ) {
            let times: Vec<_> = times.into_iter().map(|time| if all_there { time.or(Some(3)) } else { time }).collect();
            let expected = times.iter().flatten().max().copied();
            prop_assert_eq!(greatest_time(&Int64Array::from(times.clone())), expected);
            let sliced = Int64Array::from(times.clone()).slice(times.len() / 3, times.len() - times.len() / 3);
            prop_assert_eq!(greatest_time(&sliced), times[times.len() / 3..].iter().flatten().max().copied());
        }
    }
}
