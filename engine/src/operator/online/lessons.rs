//! Labelled rows on their way into a model: they wait for the watermark and are learnt in the order of event time.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use xxhash_rust::xxh3::xxh3_64;

use super::CHUNK_ROWS;
use super::labelled::numbers_of;
use crate::aggregate::partial::check_chunk;
use crate::delta::{Delta, batch_of};
use crate::error::{EngineError, Result};
use crate::hash::HashGroups;
use crate::model::Model;
use crate::online::{Learner, Report};
use crate::operator::over::{Buffer, judge};
use crate::operator::{Output, SaveKind, StateReader, StateWriter};
use crate::time::{EventTimeMs, event_times_ms};

/// Tables of a checkpoint.
const LABELLED: &str = "labelled";
const LEARNT: &str = "learnt";
const ARRIVALS: &str = "labelled arrivals";

/// A model that learns.
pub(super) struct Lessons {
    pub(super) learner: Box<dyn Learner>,
    /// Rows of [`LabelledFactory`](super::LabelledFactory).
    buffer: Buffer,
    /// Whether a watermark speaks of their time; otherwise they wait until they end.
    by_watermark: bool,
    /// Numbers a row: the inputs, then what is to be learnt.
    width: usize,
    /// Rows that the watermark has passed, in order, and the next one of them.
    chunk: Chunk,
    next: usize,
    state_schema: SchemaRef,
    /// Whether something was learnt since the last save.
    changed: bool,
    owned: HashGroups,
}

#[derive(Default)]
struct Chunk {
    times: Vec<EventTimeMs>,
    numbers: Vec<f64>,
}

impl Chunk {
    /// Rows that are in the order of time. Those of one millisecond are put in the order of a hash of what is in them, which prefers none.
    fn of(batch: &RecordBatch) -> Result<Self> {
        let width = batch.num_columns() - 1;
        let times = event_times_ms(batch.column(0))?.values().to_vec();
        let mut numbers = numbers_of(batch);
        let mut start = 0;
        while start < times.len() {
            let count = times[start..].iter().take_while(|time| **time == times[start]).count();
            if count > 1 {
                let rows = &mut numbers[start * width..(start + count) * width];
                let mut keyed: Vec<(u64, Vec<u64>)> = rows
                    .chunks_exact(width)
                    .map(|row| {
                        let words: Vec<u64> = row.iter().map(|number| number.to_bits()).collect();
                        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                        (xxh3_64(&bytes), words)
                    })
                    .collect();
                keyed.sort_unstable();
                let ordered = keyed.iter().flat_map(|(_, words)| words.iter().map(|word| f64::from_bits(*word)));
                rows.iter_mut().zip(ordered).for_each(|(place, number)| *place = number);
            }
            start += count;
        }
        Ok(Self { times, numbers })
    }
}

impl Lessons {
    /// `labelled` are the columns of a [`LabelledFactory`](super::LabelledFactory).
    pub(super) fn new(model: &dyn Model, labelled: &SchemaRef, by_watermark: bool) -> Result<Self> {
        let online = model.online().ok_or_else(|| EngineError::bug("a model that does not learn"))?;
        Ok(Self {
            learner: online.learner(),
            buffer: Buffer::named(LABELLED, labelled)?,
            by_watermark,
            width: labelled.fields().len() - 1,
            chunk: Chunk::default(),
            next: 0,
            state_schema: Arc::new(Schema::new(vec![Field::new(LEARNT, DataType::Binary, false)])),
            changed: false,
            owned: HashGroups::ALL,
        })
    }

    /// Keeps rows until they are learnt; `before` is the watermark by which they are judged.
    pub(super) fn take_in(&mut self, mut deltas: Vec<Delta>, before: EventTimeMs, out: &mut Output) -> Result<()> {
        if self.by_watermark {
            deltas = judge((0, 0), deltas, before, out)?;
        }
        self.buffer.take_in(deltas, Some(0))
    }

    /// Learns all rows that were taken in with event times before `time`, which is not after `watermark`, the step's; at the greatest of all times, all rows.
    pub(super) fn learn_before(
        &mut self,
        time: EventTimeMs,
        watermark: EventTimeMs,
        mut told: impl FnMut(EventTimeMs, Report),
    ) -> Result<()> {
        loop {
            while let Some(at) = self.chunk.times.get(self.next).copied() {
                if at >= time && time != EventTimeMs::MAX {
                    return Ok(());
                }
                let row = &self.chunk.numbers[self.next * self.width..(self.next + 1) * self.width];
                let (target, features) =
                    row.split_last().ok_or_else(|| EngineError::bug("a lesson without a label"))?;
                self.next += 1;
                self.changed = true;
                if let Some(report) = self.learner.learn(features, *target) {
                    told(at, report);
                }
            }
            match self.buffer.settle(watermark, CHUNK_ROWS)? {
                Some(batch) => (self.chunk, self.next) = (Chunk::of(&batch)?, 0),
                None => {
                    (self.chunk, self.next) = (Chunk::default(), 0);
                    return Ok(());
                }
            }
        }
    }

    pub(super) fn save(&mut self, kind: SaveKind, state: &mut StateWriter) -> Result<()> {
        debug_assert_eq!(self.next, self.chunk.times.len(), "a step learns all that it can");
        state.meta.insert(ARRIVALS.into(), self.buffer.kept.next_arrival.into());
        self.buffer.save(kind, state)?;
        // The rows of one model are on one shard.
        if self.owned.owns(0) && (std::mem::take(&mut self.changed) || kind == SaveKind::Full) {
            let learnt = self.learner.save();
            let column = Arc::new(BinaryArray::from_iter_values([learnt.as_slice()]));
            state.put(LEARNT, batch_of(&self.state_schema, vec![column], 1)?);
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, operator: &str, state: &StateReader<'_>, watermark: EventTimeMs) -> Result<()> {
        self.owned = state.owned;
        let arrivals = state.metas.iter().filter_map(|meta| meta.get(ARRIVALS)?.as_u64()).max().unwrap_or(0);
        self.buffer.restore(state, &[], Some(0), watermark)?;
        self.buffer.kept.take_unsaved();
        self.buffer.kept.next_arrival = arrivals.max(self.buffer.kept.next_arrival);
        if let Some(chunk) = state.chunks.iter().rfind(|chunk| chunk.table == LEARNT).filter(|_| self.owned.owns(0)) {
            check_chunk(operator, chunk, &self.state_schema)?;
            let learnt = chunk.rows.column(0).as_binary::<i32>();
            let last = learnt.len().checked_sub(1).ok_or_else(|| EngineError::bug("an empty chunk was saved"))?;
            self.learner.restore(learnt.value(last))?;
            self.learner.publish();
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.buffer.bytes() + self.learner.bytes() + self.chunk.numbers.capacity() * 8 + self.chunk.times.capacity() * 8
    }

    pub(super) fn rows(&self) -> usize {
        self.buffer.kept.rows.len() + usize::from(self.learner.rows() > 0)
    }
}
