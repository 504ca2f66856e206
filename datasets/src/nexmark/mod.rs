//! Nexmark: an auction house as a stream of persons, auctions and bids.
//!
//! After the official generator (`nexmark/nexmark`, which follows Apache Beam's model): of each fifty events one is a person,
//! three are auctions and forty-six are bids; ids count up from 1000; half of the bids go to one hot auction, three quarters
//! come from one hot bidder, three quarters of the auctions are one hot seller's; bids and auctions refer to recent persons and
//! auctions, and to a few that are yet to come. Ids are a function of the event id alone, so no generator has to know what
//! another one made.
//!
//! Where the official generator is followed in spirit and not to the letter:
//! - It draws from one sequential source of randomness, which cannot be entered in the middle. Here each column of each event
//!   has its own draw (see `random.rs`), so the values differ while the distributions are the same.
//! - It adds the first person id to a bid's bidder twice, so that a bidder's id points a thousand persons ahead and the join of
//!   bids with persons misses. Beam adds it once, and so does this one.
//! - Event time advances by the inter-event delay in exact integers; the first event is at Beam's base time rather than at the
//!   wall clock's, so that two runs agree.
//!
//! Average sizes are the official ones and are counted as it counts them: see [`NexmarkTable::accounted_bytes`].

mod auction;
mod bid;
mod config;
mod ids;
mod person;
mod table;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;

use crate::columns::project;
use crate::error::Result;
use crate::generator::{EVENT_COUNT_MAX, Generator, clamp};
use crate::order::Order;
use crate::random::{Draws, below, high};
use crate::text::TextPool;
use auction::Auctions;
use bid::Bids;
pub use config::NexmarkConfig;
use person::Persons;
pub use table::NexmarkTable;

/// The dataset's name in the catalog and in errors.
pub(crate) const NAME: &str = "nexmark";

/// Enough places that two events hardly ever have the same `extra`, and small enough for a core's second-level cache.
const EXTRA_POOL_BYTES: usize = 256 << 10;
const WORD_POOL_BYTES: usize = 64 << 10;

/// The generator of all three tables; a clone shares everything.
#[derive(Debug, Clone)]
pub struct NexmarkGenerator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: NexmarkConfig,
    order: Order,
    persons: Persons,
    auctions: Auctions,
    bids: Bids,
}

impl NexmarkGenerator {
    /// Checks the configuration and makes the pools that texts are cut from.
    pub fn new(config: NexmarkConfig) -> Result<Self> {
        let order = config.validate()?;
        let words = TextPool::random(Draws::new(config.seed, "words"), WORD_POOL_BYTES, Some(13));
        let letters = TextPool::random(Draws::new(config.seed, "letters"), EXTRA_POOL_BYTES, None);
        let persons = Persons::new(&config, words.clone(), letters.clone());
        let auctions = Auctions::new(&config, words, letters.clone());
        let bids = Bids::new(&config, letters);
        Ok(Self { shared: Arc::new(Shared { config, order, persons, auctions, bids }) })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &NexmarkConfig {
        &self.shared.config
    }

    /// One of the tables, behind the face that all generated tables have.
    pub fn table(&self, table: NexmarkTable) -> NexmarkTableGenerator {
        NexmarkTableGenerator { generator: self.clone(), table }
    }

    /// That table's rows among the event numbers, in their order; see [`Generator::batch`].
    pub fn batch(&self, table: NexmarkTable, events: Range<u64>, projection: Option<&[usize]>) -> Result<RecordBatch> {
        let Shared { config, order, persons, auctions, bids } = &*self.shared;
        let ids = table.ids(*order, clamp(events, config.event_count));
        let column = |index: usize| -> ArrayRef {
            match table {
                NexmarkTable::Person => persons.column(config, &ids, index),
                NexmarkTable::Auction => auctions.column(config, &ids, index),
                NexmarkTable::Bid => bids.column(config, &ids, index),
            }
        };
        project(table.schema(), projection, ids.len(), column)
    }

    /// How many of the table's rows are among the event numbers.
    pub fn row_count(&self, table: NexmarkTable, events: Range<u64>) -> u64 {
        let events = clamp(events, self.shared.config.event_count);
        table.rows_before(self.shared.order, events.end) - table.rows_before(self.shared.order, events.start)
    }

    /// The shortest range from `first_event` on that holds `rows` rows of the table; see [`Generator::events_for_rows`].
    pub fn events_for_rows(&self, table: NexmarkTable, first_event: u64, rows: u64) -> Range<u64> {
        let order = self.shared.order;
        let start = first_event.min(EVENT_COUNT_MAX);
        let end = if rows == 0 {
            start
        } else {
            table.number_after_row(order, table.rows_before(order, start).saturating_add(rows))
        };
        clamp(start..end, self.shared.config.event_count)
    }

    /// The smallest event time of this or any later event; see [`Generator::event_time_ms_min`].
    pub fn event_time_ms_min(&self, first_event: u64) -> i64 {
        let first_event = first_event.min(EVENT_COUNT_MAX);
        self.shared.config.event_time_ms(self.shared.order.group_start(first_event))
    }
}

/// One Nexmark table as a [`Generator`].
#[derive(Debug, Clone)]
pub struct NexmarkTableGenerator {
    generator: NexmarkGenerator,
    table: NexmarkTable,
}

impl Generator for NexmarkTableGenerator {
    fn schema(&self) -> &arrow::datatypes::SchemaRef {
        self.table.schema()
    }

    fn event_count(&self) -> Option<u64> {
        self.generator.config().event_count
    }

    fn row_count(&self, events: Range<u64>) -> u64 {
        self.generator.row_count(self.table, events)
    }

    fn events_for_rows(&self, first_event: u64, rows: u64) -> Range<u64> {
        self.generator.events_for_rows(self.table, first_event, rows)
    }

    fn event_time_ms_min(&self, first_event: u64) -> i64 {
        self.generator.event_time_ms_min(first_event)
    }

    fn batch(&self, events: Range<u64>, projection: Option<&[usize]>) -> Result<RecordBatch> {
        self.generator.batch(self.table, events, projection)
    }
}

/// The place and length of a word: three characters or more, fewer than `bytes_max`, without spaces at its ends.
fn word(pool: &TextPool, bits: u64, bytes_max: u32) -> (u32, u32) {
    const BYTES_MIN: u32 = 3;
    let bytes = BYTES_MIN + below(high(bits), bytes_max - BYTES_MIN);
    pool.trim(below(bits as u32, pool.places(bytes_max)), bytes)
}

/// The place and length of an `extra` that fills an event of `bytes` up to `bytes_average`, give or take a fifth.
#[inline(always)]
fn extra(pool: &TextPool, bits: u64, bytes: u32, bytes_average: u32) -> (u32, u32) {
    // Compared so that the subtraction cannot wrap: an event that is already too large gets an empty one.
    let missing = bytes_average.saturating_sub(bytes);
    let spread = (missing + 2) / 5; // a fifth, rounded
    let length = missing - spread + below(high(bits), 2 * spread);
    (below(bits as u32, pool.places(missing + spread)), length)
}
