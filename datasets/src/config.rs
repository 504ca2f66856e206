//! Checks that the configurations of all datasets share.

use crate::error::{DatasetError, Result};
use crate::generator::EVENT_COUNT_MAX;

/// Far enough from the ends of time that no event time overflows: about the years -30000 to 34000.
const BASE_TIME_MS_MAX: i64 = 1_000_000_000_000_000;

pub(crate) fn validate_base(dataset: &'static str, event_count: Option<u64>, base_time_ms: i64) -> Result<()> {
    if let Some(count) = event_count.filter(|count| !(1..=EVENT_COUNT_MAX).contains(count)) {
        return Err(DatasetError::OptionOutOfRange {
            dataset,
            option: "event-count",
            value: count.to_string(),
            way_out: format!("use 1 to {EVENT_COUNT_MAX}, or leave it out for a stream without an end"),
        });
    }
    if !(-BASE_TIME_MS_MAX..=BASE_TIME_MS_MAX).contains(&base_time_ms) {
        return Err(DatasetError::OptionOutOfRange {
            dataset,
            option: "base-time-ms",
            value: base_time_ms.to_string(),
            way_out: format!("use ms since 1970 UTC, between -{BASE_TIME_MS_MAX} and {BASE_TIME_MS_MAX}"),
        });
    }
    Ok(())
}

pub(crate) fn validate_range<T: PartialOrd + std::fmt::Display>(
    dataset: &'static str,
    option: &'static str,
    value: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let way_out = format!("use {} to {}", range.start(), range.end());
    Err(DatasetError::OptionOutOfRange { dataset, option, value: value.to_string(), way_out })
}
