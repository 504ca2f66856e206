//! The ordering buffer: rows wait until the watermark has passed their event time, and leave in the order of time and arrival.
//!
//! A few sorted runs of times, each at most half as long as the one before, point to the rows: a row is merged no more often than the
//! logarithm of their number. Rows that came in order make runs that are sorted already, and merging them costs a comparison a row.

use arrow::array::{BooleanArray, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;

use crate::delta::Delta;
use crate::error::Result;
use crate::operator::over::kept::Kept;
use crate::operator::{SaveKind, StateReader, StateWriter};
use crate::rows::RowLog;
use crate::time::{EventTimeMs, WATERMARK_MAX, event_times_ms};

const ROWS: &str = "rows";
/// More runs than this are merged.
const RUNS_MAX: usize = 8;
/// So many runs that have left keep their memory for those to come, if they are no longer than this: memory that is asked for anew in each step
/// is cleared anew, which costs more than what is done with it.
const SPARES_MAX: usize = 2;
const SPARE_ROWS_MAX: usize = 1 << 18;

#[derive(Debug, Clone, Copy)]
struct Waiting {
    time: EventTimeMs,
    arrival: u64,
    id: u32,
}

impl Waiting {
    fn place(&self) -> (EventTimeMs, u64) {
        (self.time, self.arrival)
    }
}

/// Rows that wait.
pub(in crate::operator) struct Buffer {
    pub(in crate::operator) kept: Kept,
    /// Each ascending; `first` of them have left.
    runs: Vec<Run>,
    log: RowLog,
    /// Rows that leave, in order, not yet handed over.
    leaving: Vec<Waiting>,
    handed: usize,
    /// Empty, for their capacity.
    spares: Vec<Vec<Waiting>>,
}

struct Run {
    rows: Vec<Waiting>,
    first: usize,
}

impl Buffer {
    pub(in crate::operator) fn new(schema: &SchemaRef) -> Result<Self> {
        Self::named(ROWS, schema)
    }

    /// One of several buffers of an operator: its rows are saved under the name `table`.
    pub(in crate::operator) fn named(table: &'static str, schema: &SchemaRef) -> Result<Self> {
        Ok(Self {
            kept: Kept::new(schema)?,
            runs: Vec::new(),
            log: RowLog::new(table, schema),
            leaving: Vec::new(),
            handed: 0,
            spares: Vec::new(),
        })
    }

    /// Takes in rows, none of which is late, in order of arrival. Rows without a column of `time` leave when all is over.
    pub(in crate::operator) fn take_in(&mut self, deltas: Vec<Delta>, time: Option<usize>) -> Result<()> {
        let mut run = self.spares.pop().unwrap_or_default();
        run.reserve(deltas.iter().map(Delta::rows).sum());
        let mut ids = Vec::new();
        for delta in deltas {
            let times = times_of(&delta.batch, time)?;
            ids.clear();
            self.kept.append(&delta.batch, &mut ids)?;
            let rows = ids.iter().zip(times.values());
            run.extend(rows.map(|(id, time)| Waiting { time: *time, arrival: self.kept.arrival(*id), id: *id }));
        }
        self.add(run);
        Ok(())
    }

    fn add(&mut self, mut run: Vec<Waiting>) {
        if run.is_empty() {
            return;
        }
        self.sort(&mut run);
        self.runs.push(Run { rows: run, first: 0 });
        self.drop_left();
        if self.runs.len() <= RUNS_MAX {
            return;
        }
        let length = |run: &Run| run.rows.len() - run.first;
        let mut after: usize = self.runs.iter().map(length).sum();
        let first = self.runs.iter().position(|run| {
            after -= length(run);
            length(run) <= after
        });
        let merged = self.runs.drain(first.unwrap_or(0)..);
        let mut rows: Vec<Waiting> = merged.flat_map(|run| run.rows.into_iter().skip(run.first)).collect();
        self.sort(&mut rows);
        self.runs.push(Run { rows, first: 0 });
    }

    /// Forgets runs of which all rows have left.
    fn drop_left(&mut self) {
        let spares = &mut self.spares;
        self.runs.retain_mut(|run| {
            let waits = run.first < run.rows.len();
            if !waits && spares.len() < SPARES_MAX && run.rows.capacity() <= SPARE_ROWS_MAX {
                run.rows.clear();
                spares.push(std::mem::take(&mut run.rows));
            }
            waits
        });
    }

    fn sort(&mut self, rows: &mut Vec<Waiting>) {
        let mut spare = self.spares.pop().unwrap_or_default();
        sort(rows, &mut spare);
        if spare.capacity() <= SPARE_ROWS_MAX {
            spare.clear();
            self.spares.push(spare);
        }
    }

    /// Rows that the watermark has passed, in order: about `rows_max`, and all of a time. To be called until there are none.
    pub(in crate::operator) fn settle(
        &mut self,
        watermark: EventTimeMs,
        rows_max: usize,
    ) -> Result<Option<RecordBatch>> {
        let Some(ids) = self.settle_ids(watermark, rows_max) else { return Ok(None) };
        let batch = self.kept.rows.take_batch(&ids)?;
        self.kept.release(&ids)?;
        Ok(Some(batch))
    }

    /// As [`settle`](Self::settle); the rows are still kept, and have to be released.
    pub(in crate::operator) fn settle_ids(&mut self, watermark: EventTimeMs, rows_max: usize) -> Option<Vec<u32>> {
        if self.handed == self.leaving.len() {
            self.leaving.clear();
            self.handed = 0;
            let mut runs = 0;
            for run in &mut self.runs {
                let rest = &run.rows[run.first..];
                let count = match watermark {
                    WATERMARK_MAX => rest.len(),
                    watermark => rest.partition_point(|row| row.time < watermark),
                };
                runs += usize::from(count > 0);
                self.leaving.extend_from_slice(&rest[..count]);
                run.first += count;
            }
            self.drop_left();
            if runs > 1 {
                let mut leaving = std::mem::take(&mut self.leaving);
                self.sort(&mut leaving);
                self.leaving = leaving;
            }
        }
        let rest = &self.leaving[self.handed..];
        let mut count = rest.len().min(rows_max);
        while count > 0 && count < rest.len() && rest[count].time == rest[count - 1].time {
            count += 1;
        }
        if count == 0 {
            return None;
        }
        let ids: Vec<u32> = rest[..count].iter().map(|row| row.id).collect();
        self.handed += count;
        Some(ids)
    }

    /// Hands over the rows that wait and came since the last save, or all.
    pub(in crate::operator) fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        let unsaved = self.kept.take_unsaved();
        let rows = if kind == SaveKind::Full { self.kept.all() } else { unsaved };
        if rows.is_empty() {
            return Ok(());
        }
        let ids: Vec<u32> = rows.iter().map(|(_, id)| *id).collect();
        let rows = Delta {
            batch: self.kept.rows.take_batch(&ids)?,
            weights: None,
            ordinals: Some(UInt64Array::from_iter_values(rows.iter().map(|(arrival, _)| *arrival))),
        };
        // What is handed over is known by now; only the form is the log's.
        self.log.save(SaveKind::Full, state, || Ok(vec![rows]))
    }

    /// Takes in again the rows that were waiting when the watermark was at `watermark`.
    pub(in crate::operator) fn restore(
        &mut self,
        state: &StateReader<'_>,
        keys: &[usize],
        time: Option<usize>,
        watermark: EventTimeMs,
    ) -> Result<()> {
        let mut run = Vec::new();
        for delta in self.log.restore("Over", state, keys)? {
            let times = times_of(&delta.batch, time)?;
            let waits = |time: i64| time >= watermark && watermark != WATERMARK_MAX;
            let mask: BooleanArray = times.values().iter().map(|time| Some(waits(*time))).collect();
            let rows = filter_record_batch(&delta.batch, &mask)?;
            let arrivals = delta.ordinals.iter().flat_map(|ordinals| ordinals.values().iter());
            let old = times.values().iter().zip(arrivals).filter(|(time, _)| waits(**time));
            let (times, arrivals): (Vec<i64>, Vec<u64>) = old.unzip();
            let mut ids = Vec::new();
            self.kept.append_again(&rows, &arrivals, &mut ids)?;
            let rows = ids.iter().zip(times).zip(arrivals);
            run.extend(rows.map(|((id, time), arrival)| Waiting { time, arrival, id: *id }));
        }
        self.add(run);
        Ok(())
    }

    /// Bytes held, about.
    pub(in crate::operator) fn bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(|run| run.rows.capacity() * size_of::<Waiting>()).sum();
        let spares: usize = self.spares.iter().map(|rows| rows.capacity() * size_of::<Waiting>()).sum();
        self.kept.bytes() + runs + spares + self.leaving.capacity() * size_of::<Waiting>()
    }
}

/// Puts rows in order. They came within a short time, so their times lie close together and each is near its place already: they are counted by
/// time or, where there are more times than rows, by spans of time, and what is out of order within one is put in order. `spare` is memory for
/// as many, whatever is in it.
fn sort(rows: &mut Vec<Waiting>, spare: &mut Vec<Waiting>) {
    if rows.is_sorted_by_key(Waiting::place) {
        return;
    }
    let ends = count_spans(rows, spare);
    let mut begin = 0;
    for end in ends {
        let span = &mut rows[begin..end as usize];
        // Of one time, rows came one after the other, as a rule.
        if !span.is_sorted_by_key(Waiting::place) {
            span.sort_by_key(Waiting::place);
        }
        begin = end as usize;
    }
}

/// Puts rows in order of the spans that their times lie in, those of one span as they were. There are fewer spans than rows; gives where each
/// of them ends.
fn count_spans(rows: &mut Vec<Waiting>, sorted: &mut Vec<Waiting>) -> Vec<u32> {
    let (first, last) = rows
        .iter()
        .fold((EventTimeMs::MAX, EventTimeMs::MIN), |(first, last), row| (first.min(row.time), last.max(row.time)));
    let bits = (last.abs_diff(first) / rows.len() as u64).checked_ilog2().map_or(0, |bits| bits + 1);
    let span = |row: &Waiting| (row.time.abs_diff(first) >> bits) as usize;
    let mut ends = vec![0u32; (last.abs_diff(first) >> bits) as usize + 2];
    rows.iter().for_each(|row| ends[span(row) + 1] += 1);
    let mut before = 0;
    for end in &mut ends {
        before += *end;
        *end = before;
    }
    sorted.resize(rows.len(), rows[0]);
    for row in rows.iter() {
        let next = &mut ends[span(row)];
        sorted[*next as usize] = *row;
        *next += 1;
    }
    std::mem::swap(rows, sorted);
    ends
}

fn times_of(batch: &RecordBatch, time: Option<usize>) -> Result<Int64Array> {
    match time {
        Some(time) => event_times_ms(batch.column(time)),
        None => Ok(Int64Array::from(vec![0; batch.num_rows()])),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(range: std::ops::Range<i64>) -> impl Strategy<Value = Vec<i64>> {
        proptest::collection::vec(range, 0..80)
    }

    proptest! {
        /// Rows of one time stay in order of arrival, however many times there are.
        #[test]
        fn rows_are_in_order_of_time_and_arrival(
            times in prop_oneof![times(0..40), times(-4_000..4_000), times(i64::MIN..i64::MAX), times(0..40).prop_map(|mut times| {
                times.push(i64::MAX);
                times
            })],
            turned in any::<bool>(),
        ) {
            let arrival = |index: u64| if turned { u64::MAX - index } else { index };
            let rows = times.iter().zip(0..).map(|(time, index)| Waiting { time: *time, arrival: arrival(index), id: index as u32 });
            let mut rows: Vec<Waiting> = rows.collect();
            let mut expected = rows.clone();
            expected.sort_by_key(Waiting::place);
            sort(&mut rows, &mut expected.clone());
            let places = |rows: &[Waiting]| rows.iter().map(|row| (row.place(), row.id)).collect::<Vec<_>>();
            prop_assert_eq!(places(&rows), places(&expected));
        }
    }
}
