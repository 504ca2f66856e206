//! What can be set about the auction house. Defaults are the official generator's, except where the field says otherwise.

use serde::{Deserialize, Serialize};

use super::NAME;
use crate::config::{validate_base, validate_range};
use crate::error::Result;
use crate::generator::EVENT_COUNT_MAX;
use crate::order::Order;

/// An event larger than this would not fit the pool that its `extra` is cut from.
const BYTES_AVERAGE_MAX: u32 = 64 << 10;
/// Ids refer to at most so many recent auctions or persons; the bound keeps the draw within 32 bits.
const RECENT_MAX: u32 = 1 << 30;

/// Configuration of a [`super::NexmarkGenerator`]: plain data, in kebab case where it is written as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct NexmarkConfig {
    /// Another seed gives another stream with the same distributions.
    pub seed: u64,
    /// How many events pass in one second of event time. The official default is ten times slower; this one lets the usual
    /// window sizes close many times in a benchmark of a few million events, with thousands of rows in each.
    pub events_per_second: u64,
    /// Event time of the first event, in ms since 1970 UTC. The default is Beam's base time, 2015-07-15.
    pub base_time_ms: i64,
    /// How many events there are over all three tables; none for a stream without an end.
    pub event_count: Option<u64>,
    /// Events are handed over shuffled within groups of this many; 1 for events in order.
    pub out_of_order_group_size: u64,
    /// One bid in so many is *not* for the hot auction.
    pub hot_auction_ratio: u32,
    /// One bid in so many is *not* by the hot bidder.
    pub hot_bidder_ratio: u32,
    /// One auction in so many is *not* by the hot seller.
    pub hot_seller_ratio: u32,
    /// How many of the last auctions a bid may be for; it also sets how long auctions last.
    pub in_flight_auctions: u32,
    /// How many of the last persons may bid or sell.
    pub active_people: u32,
    /// Average size of a person, in bytes, as the official generator counts them.
    pub person_bytes_average: u32,
    /// Average size of an auction, in bytes.
    pub auction_bytes_average: u32,
    /// Average size of a bid, in bytes; `channel` and `url` come on top.
    pub bid_bytes_average: u32,
}

impl Default for NexmarkConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            events_per_second: 100_000,
            base_time_ms: 1_436_918_400_000,
            event_count: None,
            out_of_order_group_size: 1,
            hot_auction_ratio: 2,
            hot_bidder_ratio: 4,
            hot_seller_ratio: 4,
            in_flight_auctions: 100,
            active_people: 1_000,
            person_bytes_average: 200,
            auction_bytes_average: 500,
            bid_bytes_average: 100,
        }
    }
}

impl NexmarkConfig {
    /// The official option names, as `CREATE TABLE .. WITH ('connector' = 'nexmark', ..)` spells them, and ours.
    pub(crate) const OFFICIAL_OPTIONS: &[(&str, &str)] = &[
        ("first-event.rate", "events-per-second"),
        ("events.num", "event-count"),
        ("bid.hot-ratio.auctions", "hot-auction-ratio"),
        ("bid.hot-ratio.bidders", "hot-bidder-ratio"),
        ("auction.hot-ratio.sellers", "hot-seller-ratio"),
        ("person.avg-size", "person-bytes-average"),
        ("auction.avg-size", "auction-bytes-average"),
        ("bid.avg-size", "bid-bytes-average"),
    ];

    pub(super) fn validate(&self) -> Result<Order> {
        let in_range = |option, value: u64, max: u64| validate_range(NAME, option, value, 1..=max);
        in_range("events-per-second", self.events_per_second, 1_000_000_000)?;
        in_range("hot-auction-ratio", self.hot_auction_ratio.into(), u32::MAX.into())?;
        in_range("hot-bidder-ratio", self.hot_bidder_ratio.into(), u32::MAX.into())?;
        in_range("hot-seller-ratio", self.hot_seller_ratio.into(), u32::MAX.into())?;
        in_range("in-flight-auctions", self.in_flight_auctions.into(), RECENT_MAX.into())?;
        in_range("active-people", self.active_people.into(), RECENT_MAX.into())?;
        in_range("person-bytes-average", self.person_bytes_average.into(), BYTES_AVERAGE_MAX.into())?;
        in_range("auction-bytes-average", self.auction_bytes_average.into(), BYTES_AVERAGE_MAX.into())?;
        in_range("bid-bytes-average", self.bid_bytes_average.into(), BYTES_AVERAGE_MAX.into())?;
        validate_base(NAME, self.event_count, self.base_time_ms)?;
        Order::new(NAME, self.out_of_order_group_size)
    }

    /// When the event with this id happens, in ms since 1970 UTC.
    #[inline(always)]
    pub(super) fn event_time_ms(&self, id: u64) -> i64 {
        self.base_time_ms + (id * 1_000 / self.events_per_second) as i64
    }
}

const _: () = assert!(EVENT_COUNT_MAX <= u64::MAX / 1_000, "event times must not overflow");
