//! Where the events come from.
//!
//! The stream of events is cut into *slices*, stretches of event numbers, and each table hands over its rows of one slice after the other.
//! A [`Gate`] keeps the tables abreast: they are one stream, and a table that ran ahead of the others (persons are one event in fifty)
//! would have joins keep rows that in the benchmark they need not have yet. With a [`Pace`] a slice comes when its last event is due.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use eagre_datasets::nexmark::{NexmarkConfig, NexmarkGenerator, NexmarkTable};
use eagre_engine::source::{PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use eagre_engine::{EngineError, Result as EngineResult};

use crate::error::{Error, Result};

/// Events of a batch in memory; their bids fit one delta.
pub(super) const SLICE_EVENTS: u64 = 8_000;
/// A table may be so many slices ahead of the slowest.
const SLICES_AHEAD: u64 = 2;
/// A slice of a paced run covers about this long, so that its first event does not wait for its last.
const PACED_SLICES_PER_S: u64 = 2_000;
const STOP_CHECK: Duration = Duration::from_millis(50);

/// The event-time column of each table.
pub(super) const EVENT_TIME: &str = "dateTime";
/// How far behind the newest event the benchmark's watermark is.
pub(super) const WATERMARK_DELAY: &str = "INTERVAL '4' SECOND";

/// The generator, and how many events it is to make.
#[derive(Debug, Clone)]
pub(super) struct Events {
    generator: NexmarkGenerator,
    count: u64,
}

impl Events {
    pub(super) fn new(seed: u64, event_rate: u64, count: u64) -> Result<Self> {
        let config =
            NexmarkConfig { seed, events_per_second: event_rate, event_count: Some(count), ..NexmarkConfig::default() };
        let generator = NexmarkGenerator::new(config).map_err(|error| Error::usage(error.to_string()))?;
        Ok(Self { generator, count })
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Events that pass in one second of event time.
    pub(super) fn rate(&self) -> u64 {
        self.generator.config().events_per_second
    }

    /// The first of them.
    pub(super) fn first(&self, count: u64) -> Self {
        Self { generator: self.generator.clone(), count: count.min(self.count) }
    }

    fn batch(&self, table: NexmarkTable, events: Range<u64>, columns: Option<&[usize]>) -> EngineResult<RecordBatch> {
        self.generator.batch(table, events, columns).map_err(EngineError::bug)
    }
}

/// Rows of the three tables in memory, a batch for each slice.
#[derive(Debug)]
pub(super) struct Memory {
    tables: [Vec<RecordBatch>; 3],
}

impl Memory {
    /// All rows of these events, of the tables that `wanted` names.
    pub(super) fn generate(events: &Events, wanted: &[NexmarkTable]) -> Result<Self> {
        let mut tables = [const { Vec::new() }; 3];
        for table in wanted {
            let mut first = 0;
            while first < events.count {
                let end = (first + SLICE_EVENTS).min(events.count);
                tables[place(*table)].push(events.batch(*table, first..end, None)?);
                first = end;
            }
        }
        Ok(Self { tables })
    }

    /// Rows from elsewhere: of persons, auctions and bids.
    pub(super) fn of(tables: [Vec<RecordBatch>; 3]) -> Self {
        Self { tables }
    }

    pub(super) fn table(&self, table: NexmarkTable) -> &[RecordBatch] {
        &self.tables[place(table)]
    }

    /// The rows of events that lie within one slice.
    fn rows(&self, generator: &NexmarkGenerator, table: NexmarkTable, events: Range<u64>) -> RecordBatch {
        let slice = events.start / SLICE_EVENTS;
        let batch = &self.tables[place(table)][slice as usize];
        let offset = generator.row_count(table, slice * SLICE_EVENTS..events.start) as usize;
        let rows = generator.row_count(table, events) as usize;
        batch.slice(offset, rows)
    }
}

fn place(table: NexmarkTable) -> usize {
    match table {
        NexmarkTable::Person => 0,
        NexmarkTable::Auction => 1,
        NexmarkTable::Bid => 2,
    }
}

/// The event that is row `row` of a table (from 0), where events come in order.
pub(super) fn event_of_row(table: NexmarkTable, row: u64) -> u64 {
    let (first, per_group) = match table {
        NexmarkTable::Person => (0, 1),
        NexmarkTable::Auction => (1, 3),
        NexmarkTable::Bid => (4, 46),
    };
    row / per_group * 50 + first + row % per_group
}

/// Keeps tables abreast, and knows who makes the rows that nobody reads.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// The next slice of each table that is read.
    next: Mutex<Vec<(NexmarkTable, u64)>>,
    moved: Condvar,
}

impl Gate {
    /// Names the tables that will be read, before any of them is.
    pub(super) fn open(&self, tables: &[NexmarkTable]) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = tables.iter().map(|table| (*table, 0)).collect();
    }

    /// The tables that nobody reads, for the first of those that are read.
    fn unread(&self, table: NexmarkTable) -> Vec<NexmarkTable> {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        match next.first() {
            Some((first, _)) if *first == table => {
                NexmarkTable::ALL.into_iter().filter(|other| !next.iter().any(|(read, _)| read == other)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The next slice of `table` is this one.
    fn arrive(&self, table: NexmarkTable, slice: u64) -> MutexGuard<'_, Vec<(NexmarkTable, u64)>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, at)) = next.iter_mut().find(|(other, _)| *other == table) {
            *at = slice;
        }
        self.moved.notify_all();
        next
    }

    /// Waits until `slice` of `table` may be handed over; `false`: the pipeline has stopped.
    fn pass(&self, table: NexmarkTable, slice: u64, stop: &StopFlag) -> bool {
        let mut next = self.arrive(table, slice);
        while next.iter().any(|(_, at)| at.saturating_add(SLICES_AHEAD) < slice) {
            if stop.is_stopped() {
                return false;
            }
            next = self.moved.wait_timeout(next, STOP_CHECK).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// A fixed rate of events: when each is due.
#[derive(Debug)]
pub(super) struct Pace {
    events_per_s: f64,
    started: OnceLock<Instant>,
}

impl Pace {
    pub(super) fn new(events_per_s: u64) -> Self {
        Self { events_per_s: events_per_s.max(1) as f64, started: OnceLock::new() }
    }

    /// When the event was to come.
    pub(super) fn due(&self, event: u64) -> Instant {
        let started = *self.started.get_or_init(Instant::now);
        started + Duration::from_secs_f64(event as f64 / self.events_per_s)
    }

    /// Waits until the event is due; `false`: the pipeline has stopped.
    fn wait(&self, event: u64, stop: &StopFlag) -> bool {
        let due = self.due(event);
        loop {
            let early = due.saturating_duration_since(Instant::now());
            if early.is_zero() {
                return true;
            }
            if stop.is_stopped() {
                return false;
            }
            std::thread::sleep(early.min(STOP_CHECK));
        }
    }

    /// How many events come at once: a divisor of a batch in memory.
    fn slice_events(&self) -> u64 {
        let wanted = self.events_per_s as u64 / PACED_SLICES_PER_S;
        (1..=SLICE_EVENTS)
            .rev()
            .find(|events| SLICE_EVENTS.is_multiple_of(*events) && *events <= wanted.max(1))
            .unwrap_or(1)
    }
}

/// How a table's rows are made.
#[derive(Debug, Clone)]
pub(super) enum Feed {
    /// They lie in memory.
    Memory(Arc<Memory>),
    /// When they are asked for; `pushdown`: only the columns and tables that are read.
    Generator { pushdown: bool },
}

/// One table of the stream.
pub(super) struct SlicedSource {
    pub table: NexmarkTable,
    pub events: Events,
    pub feed: Feed,
    pub gate: Arc<Gate>,
    pub pace: Option<Arc<Pace>>,
}

impl Source for SlicedSource {
    fn describe(&self) -> String {
        format!("nexmark({}, events={})", self.table.name(), self.events.count)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.schema())
    }

    fn bounded(&self) -> bool {
        true
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(&self, projection: &[usize], places: &Places, stop: StopFlag) -> EngineResult<Box<dyn SourceReader>> {
        let partition: PartitionId = Arc::from("events");
        let next = places.get(&*partition).and_then(|place| place.position.as_u64()).unwrap_or(0);
        let makes_also = match self.feed {
            Feed::Generator { pushdown: false } => self.gate.unread(self.table),
            _ => Vec::new(),
        };
        Ok(Box::new(SlicedReader {
            table: self.table,
            events: self.events.clone(),
            feed: self.feed.clone(),
            gate: Arc::clone(&self.gate),
            slice_events: self.pace.as_ref().map_or(SLICE_EVENTS, |pace| pace.slice_events()),
            pace: self.pace.clone(),
            projection: projection.to_vec(),
            makes_also,
            partition,
            next,
            announced: false,
            stop,
        }))
    }
}

struct SlicedReader {
    table: NexmarkTable,
    events: Events,
    feed: Feed,
    gate: Arc<Gate>,
    pace: Option<Arc<Pace>>,
    slice_events: u64,
    projection: Vec<usize>,
    /// Tables that nobody reads: their rows are made and dropped, as a source that cannot leave them out would.
    makes_also: Vec<NexmarkTable>,
    partition: PartitionId,
    next: u64,
    announced: bool,
    stop: StopFlag,
}

impl SlicedReader {
    fn batch(&self, events: Range<u64>) -> EngineResult<RecordBatch> {
        match &self.feed {
            Feed::Memory(memory) => {
                Ok(memory.rows(&self.events.generator, self.table, events).project(&self.projection)?)
            }
            Feed::Generator { pushdown: true } => self.events.batch(self.table, events, Some(&self.projection)),
            Feed::Generator { pushdown: false } => {
                for table in &self.makes_also {
                    std::hint::black_box(self.events.batch(*table, events.clone(), None)?);
                }
                Ok(self.events.batch(self.table, events, None)?.project(&self.projection)?)
            }
        }
    }
}

impl SourceReader for SlicedReader {
    fn next(&mut self) -> EngineResult<SourceEvent> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
        }
        loop {
            let first = self.next * self.slice_events;
            if first >= self.events.count {
                // Nobody waits for a table that has ended.
                drop(self.gate.arrive(self.table, u64::MAX));
                return Ok(SourceEvent::End);
            }
            let events = first..(first + self.slice_events).min(self.events.count);
            let paced = || self.pace.as_ref().is_none_or(|pace| pace.wait(events.end - 1, &self.stop));
            if !self.gate.pass(self.table, self.next, &self.stop) || !paced() {
                return Ok(SourceEvent::End);
            }
            let batch = self.batch(events)?;
            let start = self.next;
            self.next += 1;
            if batch.num_rows() > 0 {
                return Ok(SourceEvent::Batch(SourceBatch {
                    partition: Arc::clone(&self.partition),
                    start: start.into(),
                    end: self.next.into(),
                    batch,
                    weights: None,
                    bad_rows: Vec::new(),
                }));
            }
        }
    }
}

pub(super) const KEYED_BATCH_ROWS: u64 = 8_192;
const KEYS: u64 = 10_000;

/// The columns of [`keyed`].
pub(super) fn keyed_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Int64, false),
    ]))
}

/// Bits that say nothing of the row's number.
pub(super) fn mix(seed: u64, row: u64) -> u64 {
    let mut x = row.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 31)
}

/// `rows` rows of a stream over [`KEYS`] keys in random order.
pub(super) fn keyed(rows: u64, event_rate: u64, seed: u64) -> Result<Vec<RecordBatch>> {
    let mix = |row: u64| mix(seed, row);
    let mut batches = Vec::new();
    let mut first = 0;
    while first < rows {
        let batch = first..(first + KEYED_BATCH_ROWS).min(rows);
        first = batch.end;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMillisecondArray::from_iter_values(
                batch.clone().map(|row| (row * 1_000 / event_rate.max(1)) as i64),
            )),
            Arc::new(Int64Array::from_iter_values(batch.clone().map(|row| (mix(row) % KEYS) as i64))),
            Arc::new(Int64Array::from_iter_values(batch.map(|row| (mix(row) >> 40) as i64))),
        ];
        batches.push(RecordBatch::try_new(keyed_schema(), columns).map_err(EngineError::from)?);
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A latency would be counted from when another event was due.
    #[test]
    fn rows_know_their_events() {
        let events = Events::new(1, 100_000, 1_000).expect("a plain configuration");
        for table in NexmarkTable::ALL {
            let rows = events.generator.row_count(table, 0..1_000);
            for row in 0..rows {
                let event = event_of_row(table, row);
                assert_eq!(events.generator.row_count(table, 0..event), row, "{table:?}");
                assert_eq!(events.generator.row_count(table, event..event + 1), 1, "{table:?}");
            }
        }
    }

    /// Rows of a slice that is cut small are those of the batch, none twice and none left out.
    #[test]
    fn small_slices_are_the_batch() {
        let events = Events::new(1, 100_000, SLICE_EVENTS).expect("a plain configuration");
        let memory = Memory::generate(&events, &NexmarkTable::ALL).expect("small");
        for table in NexmarkTable::ALL {
            let cut: Vec<_> = (0..SLICE_EVENTS / 100)
                .map(|slice| memory.rows(&events.generator, table, slice * 100..(slice + 1) * 100))
                .collect();
            let joined = arrow::compute::concat_batches(table.schema(), &cut).expect("one schema");
            assert_eq!(&joined, &memory.table(table)[0]);
        }
    }

    #[test]
    fn paced_slices_divide_a_batch() {
        for rate in [1, 999, 10_000, 200_000, 1_000_000, 50_000_000] {
            let events = Pace::new(rate).slice_events();
            assert!(SLICE_EVENTS.is_multiple_of(events) && events >= 1, "{rate}: {events}");
        }
        assert_eq!(Pace::new(200_000).slice_events(), 100);
    }
}
