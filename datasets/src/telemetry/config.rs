//! What can be set about the machines.

use serde::{Deserialize, Serialize};

use super::NAME;
use crate::config::{validate_base, validate_range};
use crate::error::Result;
use crate::order::Order;

/// Configuration of a [`super::TelemetryGenerator`]: plain data, in kebab case where it is written as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Another seed gives another stream with the same distributions.
    pub seed: u64,
    /// How many machines there are.
    pub machine_count: u64,
    /// Each machine reports once in so many ms of event time.
    pub interval_ms: u64,
    /// Event time of the first reading, in ms since 1970 UTC. The default is a Monday at midnight.
    pub base_time_ms: i64,
    /// How many readings there are over all machines; none for a stream without an end.
    pub event_count: Option<u64>,
    /// Readings are handed over shuffled within groups of this many; 1 for readings in order.
    pub out_of_order_group_size: u64,
    /// How many readings a machine makes from one service to the next; faults begin and end within.
    pub service_period_readings: u64,
    /// In which share of its service periods a machine has a fault.
    pub fault_share: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            machine_count: 100,
            interval_ms: 1_000,
            base_time_ms: 1_736_121_600_000, // 2025-01-06
            event_count: None,
            out_of_order_group_size: 1,
            service_period_readings: 3_600,
            fault_share: 0.25,
        }
    }
}

impl TelemetryConfig {
    pub(super) fn validate(&self) -> Result<Order> {
        validate_range(NAME, "machine-count", self.machine_count, 1..=1 << 31)?;
        // A day at most, so that no event time overflows.
        validate_range(NAME, "interval-ms", self.interval_ms, 1..=86_400_000)?;
        validate_range(NAME, "service-period-readings", self.service_period_readings, 100..=1 << 30)?;
        validate_range(NAME, "fault-share", self.fault_share, 0.0..=1.0)?;
        validate_base(NAME, self.event_count, self.base_time_ms)?;
        Order::new(NAME, self.out_of_order_group_size)
    }

    /// When the reading with this id is made, in ms since 1970 UTC: its round's start, and its machine's place in the round.
    #[inline]
    pub(super) fn event_time_ms(&self, id: u64) -> i64 {
        let (machine, tick) = (id % self.machine_count, id / self.machine_count);
        let since_base_ms =
            tick.saturating_mul(self.interval_ms).saturating_add(machine * self.interval_ms / self.machine_count);
        self.base_time_ms.saturating_add(i64::try_from(since_base_ms).unwrap_or(i64::MAX))
    }
}
