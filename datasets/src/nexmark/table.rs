//! The three tables: their columns, and which events are whose rows.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::ids::{AUCTIONS_PER_GROUP, BIDS_PER_GROUP, GROUP_EVENTS, PERSONS_PER_GROUP};
use crate::columns::{TIMESTAMP_MS, required};
use crate::generator::EVENT_COUNT_MAX;
use crate::order::Order;

/// One of Nexmark's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NexmarkTable {
    /// Someone who bids or sells.
    Person,
    /// An item under the hammer.
    Auction,
    /// An offer for an auction.
    Bid,
}

impl NexmarkTable {
    /// All of them, the rarest first.
    pub const ALL: [Self; 3] = [Self::Person, Self::Auction, Self::Bid];

    /// The name that SQL uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Auction => "auction",
            Self::Bid => "bid",
        }
    }

    /// All columns, with the benchmark's names.
    pub fn schema(self) -> &'static SchemaRef {
        static PERSON: LazyLock<SchemaRef> = LazyLock::new(|| {
            schema(&[
                ("id", DataType::Int64),
                ("name", DataType::Utf8View),
                ("emailAddress", DataType::Utf8View),
                ("creditCard", DataType::Utf8View),
                ("city", DataType::Utf8View),
                ("state", DataType::Utf8View),
                ("dateTime", TIMESTAMP_MS),
                ("extra", DataType::Utf8View),
            ])
        });
        static AUCTION: LazyLock<SchemaRef> = LazyLock::new(|| {
            schema(&[
                ("id", DataType::Int64),
                ("itemName", DataType::Utf8View),
                ("description", DataType::Utf8View),
                ("initialBid", DataType::Int64),
                ("reserve", DataType::Int64),
                ("dateTime", TIMESTAMP_MS),
                ("expires", TIMESTAMP_MS),
                ("seller", DataType::Int64),
                ("category", DataType::Int64),
                ("extra", DataType::Utf8View),
            ])
        });
        static BID: LazyLock<SchemaRef> = LazyLock::new(|| {
            schema(&[
                ("auction", DataType::Int64),
                ("bidder", DataType::Int64),
                ("price", DataType::Int64),
                ("channel", DataType::Utf8View),
                ("url", DataType::Utf8View),
                ("dateTime", TIMESTAMP_MS),
                ("extra", DataType::Utf8View),
            ])
        });
        match self {
            Self::Person => &PERSON,
            Self::Auction => &AUCTION,
            Self::Bid => &BID,
        }
    }

    /// The size of a batch of this table (all columns) as the official generator counts when it fills an event up with `extra`:
    /// eight bytes for each number and time, the length of each text; a person's time, an auction's category, a bid's `channel`
    /// and its `url` are not counted. Over many rows, the average of this is the configured one.
    pub fn accounted_bytes(self, batch: &RecordBatch) -> u64 {
        let uncounted: &[&str] = match self {
            Self::Person => &["dateTime"],
            Self::Auction => &["category"],
            Self::Bid => &["channel", "url"],
        };
        let fields = batch.schema_ref().fields().iter().zip(batch.columns());
        fields
            .filter(|(field, _)| !uncounted.contains(&field.name().as_str()))
            .map(|(_, column)| match column.as_string_view_opt() {
                Some(texts) => texts.lengths().map(u64::from).sum(),
                None => column.len() as u64 * 8,
            })
            .sum()
    }

    /// This table's events within a group of the proportions.
    fn places(self) -> Range<u64> {
        const AUCTION_FIRST: u64 = PERSONS_PER_GROUP;
        const BID_FIRST: u64 = AUCTION_FIRST + AUCTIONS_PER_GROUP;
        match self {
            Self::Person => 0..AUCTION_FIRST,
            Self::Auction => AUCTION_FIRST..BID_FIRST,
            Self::Bid => BID_FIRST..BID_FIRST + BIDS_PER_GROUP,
        }
    }

    #[inline(always)]
    fn has(self, id: u64) -> bool {
        self.places().contains(&(id % GROUP_EVENTS))
    }

    /// The ids of this table's events among the event numbers, in the order of the numbers.
    pub(super) fn ids(self, order: Order, numbers: Range<u64>) -> Vec<u64> {
        if order.is_shuffled() {
            return order.ids(numbers).filter(|&id| self.has(id)).collect();
        }
        let places = self.places();
        let mut ids =
            Vec::with_capacity((self.rows_before_id(numbers.end) - self.rows_before_id(numbers.start)) as usize);
        let mut group_first = numbers.start - numbers.start % GROUP_EVENTS;
        while group_first < numbers.end {
            let first = (group_first + places.start).max(numbers.start);
            let end = (group_first + places.end).min(numbers.end);
            ids.extend(first..end.max(first));
            group_first += GROUP_EVENTS;
        }
        ids
    }

    /// How many ids below this one are this table's.
    fn rows_before_id(self, id: u64) -> u64 {
        let places = self.places();
        let per_group = places.end - places.start;
        id / GROUP_EVENTS * per_group + (id % GROUP_EVENTS).clamp(places.start, places.end) - places.start
    }

    /// How many event numbers below this one are this table's.
    pub(super) fn rows_before(self, order: Order, number: u64) -> u64 {
        // Up to the group's start, numbers and ids are the same set.
        let start = order.group_start(number);
        self.rows_before_id(start) + order.ids(start..number).filter(|&id| self.has(id)).count() as u64
    }

    /// The smallest event number below which there are `rows` of this table's rows.
    pub(super) fn number_after_row(self, order: Order, rows: u64) -> u64 {
        let places = self.places();
        let per_group = places.end - places.start;
        if rows == 0 {
            return 0;
        }
        // The id of the last of these rows if nothing is shuffled. Its shuffle group, or one beside it, holds the answer.
        let last =
            ((rows - 1) / per_group).saturating_mul(GROUP_EVENTS).saturating_add(places.start + (rows - 1) % per_group);
        if last >= EVENT_COUNT_MAX {
            return EVENT_COUNT_MAX;
        }
        // As many of the table's ids lie before the group as numbers do, so the group of that id is the one of the number.
        let start = order.group_start(last);
        let mut missing = rows - self.rows_before_id(start);
        let numbers = start..start + order.group_size();
        for (number, id) in numbers.clone().zip(order.ids(numbers.clone())) {
            missing -= u64::from(self.has(id));
            if missing == 0 {
                return number + 1;
            }
        }
        numbers.end
    }
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, data_type)| required(name, data_type.clone())).collect::<Vec<_>>()))
}
