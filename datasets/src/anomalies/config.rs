//! What can be set about the table of labelled series.

use serde::{Deserialize, Serialize};

use super::{NAME, SERIES_LENGTH_MAX, SERIES_LENGTH_MIN};
use crate::config::{validate_base, validate_range};
use crate::error::{DatasetError, Result};

/// The rows of the series that are on at the same time are kept while they are handed over: at most so many.
const KEPT_ROWS_MAX: u64 = 1 << 24;

/// Configuration of an [`super::AnomaliesGenerator`]: plain data, in kebab case where it is written as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct AnomaliesConfig {
    /// Another seed gives other series of the same kinds.
    pub seed: u64,
    /// How many series are on at the same time; when they end, as many new ones begin.
    pub series_count: u64,
    /// How many rows a series has.
    pub series_length: u64,
    /// Which share of the series has anomalies.
    pub anomaly_share: f64,
    /// Each series has a row in so many ms of event time. With the default, half an hour, a day of the courses is a day.
    pub interval_ms: u64,
    /// Event time of the first rows, in ms since 1970 UTC. The default is a Monday at midnight.
    pub base_time_ms: i64,
    /// How many rows there are over all series; none for a stream without an end.
    pub event_count: Option<u64>,
}

impl Default for AnomaliesConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            series_count: 100,
            series_length: 5_000,
            anomaly_share: 1.0,
            interval_ms: 1_800_000,
            base_time_ms: 1_736_121_600_000, // 2025-01-06
            event_count: None,
        }
    }
}

impl AnomaliesConfig {
    pub(super) fn validate(&self) -> Result<()> {
        validate_range(NAME, "series-length", self.series_length, SERIES_LENGTH_MIN..=SERIES_LENGTH_MAX)?;
        validate_range(NAME, "series-count", self.series_count, 1..=KEPT_ROWS_MAX / SERIES_LENGTH_MIN)?;
        if self.series_count * self.series_length > KEPT_ROWS_MAX {
            return Err(DatasetError::OptionOutOfRange {
                dataset: NAME,
                option: "series-count",
                value: self.series_count.to_string(),
                way_out: format!(
                    "with a `series-length` of {} use 1 to {}: the rows of all series that are on at the same time are kept in \
                     memory, at most {KEPT_ROWS_MAX}",
                    self.series_length,
                    KEPT_ROWS_MAX / self.series_length
                ),
            });
        }
        validate_range(NAME, "anomaly-share", self.anomaly_share, 0.0..=1.0)?;
        // A day at most, so that no event time overflows.
        validate_range(NAME, "interval-ms", self.interval_ms, 1..=86_400_000)?;
        validate_base(NAME, self.event_count, self.base_time_ms)
    }

    /// How many events there are until all series have ended and others begin.
    pub(super) fn block_events(&self) -> u64 {
        self.series_count * self.series_length
    }

    /// When the event with this number happens, in ms since 1970 UTC.
    #[inline]
    pub(super) fn event_time_ms(&self, number: u64) -> i64 {
        let since_base_ms = (number / self.series_count).saturating_mul(self.interval_ms);
        self.base_time_ms.saturating_add(i64::try_from(since_base_ms).unwrap_or(i64::MAX))
    }
}
