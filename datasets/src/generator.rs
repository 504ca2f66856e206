//! The face of one generated table, and what all of them share.
//!
//! Events are numbered from 0 over *all* tables of a dataset: an event number is the position in the stream at which the event
//! is handed over, and so it is the offset that a source checkpoints. A table has rows at some of the numbers (one event in
//! fifty is a Nexmark person), so a batch is asked for by event numbers and holds as many rows as fall among them.

use std::fmt;
use std::ops::Range;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::error::Result;

/// More events than any run makes, and few enough that no event time or id overflows. An endless stream ends here.
pub const EVENT_COUNT_MAX: u64 = 1 << 52;

/// One table of a generated dataset: rows by event number.
///
/// Calls are pure: the same arguments always give the same bytes, on any thread and in any order; there is nothing to save or
/// to restore but the next event number.
pub trait Generator: Send + Sync + fmt::Debug {
    /// All columns of the table, in the order in which a projection counts them.
    fn schema(&self) -> &SchemaRef;

    /// How many events the stream has over all tables of the dataset; `None` for a stream without an end.
    fn event_count(&self) -> Option<u64>;

    /// How many rows this table has among the event numbers. Numbers past the end of the stream hold no rows.
    ///
    /// Each event is a row, where the dataset has one table.
    fn row_count(&self, events: Range<u64>) -> u64 {
        let events = clamp(events, self.event_count());
        events.end - events.start
    }

    /// The shortest range from `first_event` on that holds `rows` rows of this table, cut off at the end of the stream.
    ///
    /// The next call goes on at the end of the returned range; an empty one for more than no rows says that the stream is over.
    fn events_for_rows(&self, first_event: u64, rows: u64) -> Range<u64> {
        clamp(first_event..first_event.saturating_add(rows), self.event_count())
    }

    /// The smallest event time, in ms since 1970 UTC, that `first_event` or any event after it has: what a watermark may
    /// promise once all events before it have been handed over.
    fn event_time_ms_min(&self, first_event: u64) -> i64;

    /// The table's rows among the event numbers, in their order; with a projection, only those columns, in its order.
    ///
    /// A batch has no bound of its own: the caller cuts ranges as it likes, [`Self::events_for_rows`] helps.
    fn batch(&self, events: Range<u64>, projection: Option<&[usize]>) -> Result<RecordBatch>;
}

/// Cuts a range of event numbers off at the end of the stream; an empty or reversed range stays empty.
pub(crate) fn clamp(events: Range<u64>, event_count: Option<u64>) -> Range<u64> {
    let end = event_count.unwrap_or(EVENT_COUNT_MAX).min(EVENT_COUNT_MAX);
    let start = events.start.min(end);
    start..events.end.clamp(start, end)
}
