//! What can be set about the shop.

use serde::{Deserialize, Serialize};

use super::NAME;
use crate::config::{validate_base, validate_range};
use crate::error::Result;
use crate::order::Order;

/// Configuration of a [`super::WebshopGenerator`]: plain data, in kebab case where it is written as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct WebshopConfig {
    /// Another seed gives another stream with the same distributions.
    pub seed: u64,
    /// How many clicks there are in one second of event time. With very many, what a visitor does in hours is squeezed together.
    pub events_per_second: u64,
    /// Event time of the first click, in ms since 1970 UTC.
    pub base_time_ms: i64,
    /// How many clicks there are; none for a stream without an end.
    pub event_count: Option<u64>,
    /// Clicks are handed over shuffled within groups of this many; 1 for clicks in order.
    pub out_of_order_group_size: u64,
    /// How many people come to the shop.
    pub visitor_count: u64,
    /// How many products there are.
    pub product_count: u64,
    /// Share of clicks that belong to visits with a cart, about; the others only browse.
    pub cart_share: f64,
}

impl Default for WebshopConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            events_per_second: 1,
            base_time_ms: 1_735_689_600_000, // 2025-01-01
            event_count: None,
            out_of_order_group_size: 1,
            visitor_count: 1_000_000,
            product_count: 2_000,
            cart_share: 0.5,
        }
    }
}

impl WebshopConfig {
    pub(super) fn validate(&self) -> Result<Order> {
        validate_range(NAME, "events-per-second", self.events_per_second, 1..=1_000_000_000)?;
        validate_range(NAME, "visitor-count", self.visitor_count, 1..=1 << 31)?;
        validate_range(NAME, "product-count", self.product_count, 1..=1 << 31)?;
        // Beyond this, visits would fill their blocks and have to be dropped.
        validate_range(NAME, "cart-share", self.cart_share, 0.0..=0.7)?;
        validate_base(NAME, self.event_count, self.base_time_ms)?;
        Order::new(NAME, self.out_of_order_group_size)
    }

    /// When the click with this id happens, in ms since 1970 UTC.
    #[inline]
    pub(super) fn event_time_ms(&self, id: u64) -> i64 {
        self.base_time_ms + (id * 1_000 / self.events_per_second) as i64
    }
}
