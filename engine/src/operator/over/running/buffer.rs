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
        })
    }

    /// Takes in rows, none of which is late, in order of arrival. Rows without a column of `time` leave when all is over.
    pub(in crate::operator) fn take_in(&mut self, deltas: Vec<Delta>, time: Option<usize>) -> Result<()> {
        let mut run = Vec::new();
        for delta in deltas {
            let times = times_of(&delta.batch, time)?;
            let mut ids = Vec::with_capacity(delta.rows());
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
        run.sort_by_key(Waiting::place);
        self.runs.push(Run { rows: run, first: 0 });
        self.runs.retain(|run| run.first < run.rows.len());
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
        rows.sort_by_key(Waiting::place);
        self.runs.push(Run { rows, first: 0 });
    }

    /// Rows that the watermark has passed, in order: about `rows_max`, and all of a time. To be called until there are none.
    pub(in crate::operator) fn settle(
        &mut self,
        watermark: EventTimeMs,
        rows_max: usize,
    ) -> Result<Option<RecordBatch>> {
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
            self.runs.retain(|run| run.first < run.rows.len());
            if runs > 1 {
                self.leaving.sort_by_key(Waiting::place);
            }
        }
        let rest = &self.leaving[self.handed..];
        let mut count = rest.len().min(rows_max);
        while count > 0 && count < rest.len() && rest[count].time == rest[count - 1].time {
            count += 1;
        }
        if count == 0 {
            return Ok(None);
        }
        let ids: Vec<u32> = rest[..count].iter().map(|row| row.id).collect();
        self.handed += count;
        let batch = self.kept.rows.take_batch(&ids)?;
        self.kept.release(&ids)?;
        Ok(Some(batch))
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
        self.kept.bytes() + runs + self.leaving.capacity() * size_of::<Waiting>()
    }
}

fn times_of(batch: &RecordBatch, time: Option<usize>) -> Result<Int64Array> {
    match time {
        Some(time) => event_times_ms(batch.column(time)),
        None => Ok(Int64Array::from(vec![0; batch.num_rows()])),
    }
}
