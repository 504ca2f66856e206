//! What can be set about the payments.

use serde::{Deserialize, Serialize};

use super::NAME;
use crate::config::{validate_base, validate_range};
use crate::error::Result;
use crate::order::Order;

/// Configuration of a [`super::PaymentsGenerator`]: plain data, in kebab case where it is written as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct PaymentsConfig {
    /// Another seed gives another stream with the same distributions.
    pub seed: u64,
    /// How many payments there are in one second of event time.
    pub events_per_second: u64,
    /// Event time of the first payment, in ms since 1970 UTC.
    pub base_time_ms: i64,
    /// How many payments there are; none for a stream without an end.
    pub event_count: Option<u64>,
    /// Payments are handed over shuffled within groups of this many; 1 for payments in order.
    pub out_of_order_group_size: u64,
    /// How many cards there are. With few cards and a high rate, honest cards pay so often that fraud does not stand out.
    pub card_count: u64,
    /// How many merchants there are, spread over the countries by their weight.
    pub merchant_count: u64,
    /// Share of payments that belong to a planted episode, about.
    pub episode_share: f64,
}

impl Default for PaymentsConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            events_per_second: 200,
            base_time_ms: 1_735_689_600_000, // 2025-01-01
            event_count: None,
            out_of_order_group_size: 1,
            card_count: 1_000_000,
            merchant_count: 50_000,
            episode_share: 0.005,
        }
    }
}

impl PaymentsConfig {
    pub(super) fn validate(&self) -> Result<Order> {
        validate_range(NAME, "events-per-second", self.events_per_second, 1..=1_000_000_000)?;
        validate_range(NAME, "card-count", self.card_count, 1..=1 << 31)?;
        validate_range(NAME, "merchant-count", self.merchant_count, 100..=1 << 31)?;
        // Beyond this, episodes would fill their blocks and have to be dropped.
        validate_range(NAME, "episode-share", self.episode_share, 0.0..=0.2)?;
        validate_base(NAME, self.event_count, self.base_time_ms)?;
        Order::new(NAME, self.out_of_order_group_size)
    }

    /// When the payment with this id happens, in ms since 1970 UTC.
    #[inline]
    pub(super) fn event_time_ms(&self, id: u64) -> i64 {
        self.base_time_ms + (id * 1_000 / self.events_per_second) as i64
    }
}
