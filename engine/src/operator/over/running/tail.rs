//! The rows that sliding frames still hold, and which of them leave as rows come.
//!
//! The rows of a partition are chained in order, and a frame knows the first of the chain that is in it: a row that comes links itself to
//! the end, those that leave are walked over once. What the functions want to know of the rows that left in a batch (their arguments)
//! is gathered for the whole batch, column by column. A row is forgotten when it has left every frame.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMillisecondType};

use super::Grouped;
use crate::delta::{Delta, batch_of};
use crate::error::Result;
use crate::operator::over::kept::Kept;
use crate::time::EventTimeMs;

/// Nobody.
pub(in crate::operator::over) const NONE: u32 = u32::MAX;

/// Where a frame begins that ends with the current row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operator::over) enum Start {
    /// So many rows before; the frame ends with the row itself.
    Rows(u64),
    /// So many units of the order key before; the frame ends with the row's peers.
    Range(u64),
}

/// One frame over all partitions.
struct Frame {
    start: Start,
    /// By slot: the first row in the frame, and how many there are.
    heads: Vec<(u32, u32)>,
}

/// What the rows of a batch did to a frame, by their position in the order of partitions.
#[derive(Debug, Default)]
pub(in crate::operator::over) struct Slid {
    /// How many rows leave before the value at this position is taken.
    pub(in crate::operator::over) counts: Vec<u32>,
    /// The ids of the rows that leave.
    pub(in crate::operator::over) left: Vec<u32>,
    /// The first row of the frame.
    pub(in crate::operator::over) heads: Vec<u32>,
    /// How many rows are in it.
    pub(in crate::operator::over) lengths: Vec<u32>,
}

/// The rows of all partitions that some frame holds.
pub(in crate::operator::over) struct Tail {
    pub(in crate::operator::over) kept: Kept,
    /// The columns of the input that are kept; the first is the order key.
    columns: Vec<usize>,
    /// By id: order key, the row after it, partition, frames that hold it.
    keys: Vec<i64>,
    next: Vec<u32>,
    slots: Vec<u32>,
    holders: Vec<u8>,
    /// By slot: the last row.
    last: Vec<u32>,
    frames: Vec<Frame>,
    /// Rows that have left every frame, to be forgotten.
    gone: Vec<u32>,
    /// Partitions to be looked at when the watermark has passed a time.
    due: BTreeMap<EventTimeMs, Vec<u32>>,
    /// By slot: whether it is in `due`.
    scheduled: Vec<bool>,
    /// How many milliseconds after its last row a partition is in no frame by range.
    idle_ms: i64,
}

impl Tail {
    /// For `frames` over rows with the columns `columns` (the first of which is the order key) of `input`.
    pub(in crate::operator::over) fn new(
        input: &SchemaRef,
        columns: Vec<usize>,
        frames: Vec<Start>,
        milliseconds: impl Fn(u64) -> u64,
    ) -> Result<Self> {
        let fields: Vec<_> = columns.iter().map(|column| Arc::clone(&input.fields()[*column])).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let ranges = frames.iter().filter_map(|start| match start {
            Start::Range(units) => Some(i64::try_from(milliseconds(*units)).unwrap_or(i64::MAX).saturating_add(1)),
            Start::Rows(_) => None,
        });
        let idle_ms = ranges.max().unwrap_or(i64::MAX);
        Ok(Self {
            kept: Kept::new(&schema)?,
            columns,
            keys: Vec::new(),
            next: Vec::new(),
            slots: Vec::new(),
            holders: Vec::new(),
            last: Vec::new(),
            frames: frames.into_iter().map(|start| Frame { start, heads: Vec::new() }).collect(),
            gone: Vec::new(),
            due: BTreeMap::new(),
            scheduled: Vec::new(),
            idle_ms,
        })
    }

    pub(in crate::operator::over) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(in crate::operator::over) fn resize(&mut self, slots: usize) {
        if slots > self.last.len() {
            self.last.resize(slots, NONE);
            self.scheduled.resize(slots, false);
            self.frames.iter_mut().for_each(|frame| frame.heads.resize(slots, (NONE, 0)));
        }
    }

    /// Takes in a batch; `slots` are the partitions of its rows. Tells for each frame what it did.
    pub(in crate::operator::over) fn take_in(
        &mut self,
        batch: &RecordBatch,
        slots: &[u32],
        times: &[EventTimeMs],
        arrived: Grouped<'_>,
    ) -> Result<Vec<Slid>> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        let rows = batch_of(self.kept.rows.schema(), columns, batch.num_rows())?;
        let mut ids = Vec::with_capacity(slots.len());
        self.kept.append(&rows, &mut ids)?;
        let bound = self.kept.rows.id_bound();
        if bound > self.keys.len() {
            self.keys.resize(bound, 0);
            self.next.resize(bound, NONE);
            self.slots.resize(bound, NONE);
            self.holders.resize(bound, 0);
        }
        let keys = order_keys(rows.column(0));
        let frames = self.frames.len() as u8;
        for (row, id) in ids.iter().enumerate() {
            let id = *id as usize;
            self.keys[id] = keys[row];
            (self.next[id], self.slots[id], self.holders[id]) = (NONE, slots[row], frames);
        }
        for (slot, run) in arrived.runs {
            let last = &mut self.last[*slot as usize];
            for row in &arrived.order[run.clone()] {
                let id = ids[*row as usize];
                if *last != NONE {
                    self.next[*last as usize] = id;
                }
                *last = id;
            }
            if self.idle_ms < i64::MAX && !self.scheduled[*slot as usize] {
                self.scheduled[*slot as usize] = true;
                let time = times[arrived.order[run.end - 1] as usize];
                self.due.entry(time.saturating_add(self.idle_ms)).or_default().push(*slot);
            }
        }
        let mut slid = Vec::with_capacity(self.frames.len());
        for frame in &mut self.frames {
            let of_frame = match frame.start {
                Start::Rows(count) => frame.slide_rows(count, arrived, &ids, &self.next),
                Start::Range(units) => frame.slide_range(units, arrived, &ids, &self.next, &self.keys),
            };
            for id in &of_frame.left {
                let holders = &mut self.holders[*id as usize];
                *holders -= 1;
                if *holders == 0 {
                    self.gone.push(*id);
                }
            }
            slid.push(of_frame);
        }
        Ok(slid)
    }

    /// These rows' values of a column of the input.
    pub(in crate::operator::over) fn column(&self, ids: &[u32], column: usize) -> Result<ArrayRef> {
        let place = self.columns.iter().position(|kept| *kept == column).expect("arguments of sliding calls are kept");
        Ok(self.kept.rows.take(ids, &[place])?.swap_remove(0))
    }

    /// Forgets the rows that have left every frame.
    pub(in crate::operator::over) fn forget(&mut self) -> Result<()> {
        let gone = std::mem::take(&mut self.gone);
        for id in &gone {
            // The first row of a chain is gone only when it has a next one, or when the partition fell silent.
            let slot = self.slots[*id as usize] as usize;
            if self.last[slot] == *id {
                self.last[slot] = NONE;
            }
        }
        self.kept.release(&gone)
    }

    /// Empties the frames by range of partitions that the watermark has left behind, and lists them.
    pub(in crate::operator::over) fn expire(&mut self, watermark: EventTimeMs, idle: &mut Vec<u32>) -> Result<()> {
        if self.due.first_key_value().is_none_or(|(time, _)| *time >= watermark) {
            return Ok(());
        }
        let later = self.due.split_off(&watermark);
        let due: Vec<u32> = std::mem::replace(&mut self.due, later).into_values().flatten().collect();
        let last: Vec<u32> = due.iter().map(|slot| self.last[*slot as usize]).collect();
        let present: Vec<u32> = last.iter().copied().filter(|id| *id != NONE).collect();
        let times = crate::time::event_times_ms(&self.kept.rows.take(&present, &[0])?[0])?;
        let mut times = times.values().iter();
        for (slot, last) in due.into_iter().zip(last) {
            self.scheduled[slot as usize] = false;
            if last == NONE {
                continue;
            }
            let until = times.next().expect("one for each").saturating_add(self.idle_ms);
            if until >= watermark {
                self.scheduled[slot as usize] = true;
                self.due.entry(until).or_default().push(slot);
                continue;
            }
            for frame in self.frames.iter_mut().filter(|frame| matches!(frame.start, Start::Range(_))) {
                let (mut id, length) = std::mem::replace(&mut frame.heads[slot as usize], (NONE, 0));
                for _ in 0..length {
                    let holders = &mut self.holders[id as usize];
                    *holders -= 1;
                    if *holders == 0 {
                        self.gone.push(id);
                    }
                    id = self.next[id as usize];
                }
            }
            idle.push(slot);
        }
        self.forget()
    }

    /// Whether no row of the partition is held.
    pub(in crate::operator::over) fn is_free(&self, slot: u32) -> bool {
        self.frames.iter().all(|frame| frame.heads[slot as usize].1 == 0)
    }

    /// Rows with the columns of their partitions in front, and when they came.
    pub(in crate::operator::over) fn saved(
        &self,
        rows: &[(u64, u32)],
        partition: impl Fn(&[u32]) -> Result<Vec<ArrayRef>>,
        schema: &SchemaRef,
    ) -> Result<Delta> {
        let ids: Vec<u32> = rows.iter().map(|(_, id)| *id).collect();
        let slots: Vec<u32> = ids.iter().map(|id| self.slots[*id as usize]).collect();
        let mut columns = partition(&slots)?;
        columns.extend(self.kept.rows.take_batch(&ids)?.columns().iter().cloned());
        Ok(Delta {
            batch: batch_of(schema, columns, ids.len())?,
            weights: None,
            ordinals: Some(UInt64Array::from_iter_values(rows.iter().map(|(arrival, _)| *arrival))),
        })
    }

    /// The columns of saved rows: those of the partition, then those that are kept.
    pub(in crate::operator::over) fn saved_schema(&self, input: &SchemaRef, partition: &[usize]) -> SchemaRef {
        let columns = partition.iter().chain(&self.columns);
        let field = |(index, column): (usize, &usize)| {
            Arc::new(Field::clone(&input.fields()[*column]).with_name(format!("c{index}")))
        };
        Arc::new(Schema::new(columns.enumerate().map(field).collect::<Vec<_>>()))
    }

    /// The kept columns in the width of the input, from saved rows; the columns that nobody reads are null.
    pub(in crate::operator::over) fn widened(
        &self,
        saved: &RecordBatch,
        partition: &[usize],
        input: &SchemaRef,
    ) -> Result<RecordBatch> {
        let rows = saved.num_rows();
        let places: Vec<usize> = partition.iter().chain(&self.columns).copied().collect();
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for (index, field) in input.fields().iter().enumerate() {
            columns.push(match places.iter().position(|place| *place == index) {
                Some(place) => Arc::clone(saved.column(place)),
                None => arrow::array::new_null_array(field.data_type(), rows),
            });
            fields.push(Field::clone(field).with_nullable(true));
        }
        batch_of(&Arc::new(Schema::new(fields)), columns, rows)
    }

    /// Bytes held, about.
    pub(in crate::operator::over) fn bytes(&self) -> usize {
        let by_slot = self.last.capacity() * (5 + 8 * self.frames.len());
        self.kept.bytes() + self.keys.capacity() * 17 + by_slot
    }
}

impl Frame {
    fn slide_rows(&mut self, count: u64, arrived: Grouped<'_>, ids: &[u32], next: &[u32]) -> Slid {
        let most = u32::try_from(count.saturating_add(1)).unwrap_or(u32::MAX);
        let mut slid = Slid::with_capacity(ids.len());
        for (slot, run) in arrived.runs {
            let (mut head, mut length) = self.heads[*slot as usize];
            for row in &arrived.order[run.clone()] {
                if length == 0 {
                    head = ids[*row as usize];
                }
                let leaves = length == most;
                if leaves {
                    slid.left.push(head);
                    head = next[head as usize];
                } else {
                    length += 1;
                }
                slid.counts.push(u32::from(leaves));
                slid.heads.push(head);
                slid.lengths.push(length);
            }
            self.heads[*slot as usize] = (head, length);
        }
        slid
    }

    fn slide_range(&mut self, units: u64, arrived: Grouped<'_>, ids: &[u32], next: &[u32], keys: &[i64]) -> Slid {
        let mut slid = Slid::with_capacity(ids.len());
        for (slot, run) in arrived.runs {
            let (mut head, mut length) = self.heads[*slot as usize];
            let mut position = run.start;
            while position < run.end {
                let id = ids[arrived.order[position] as usize];
                if length == 0 {
                    head = id;
                }
                let mut end = position + 1;
                while end < run.end && !arrived.new_peer[end] {
                    end += 1;
                }
                length += (end - position) as u32;
                let mut left = 0;
                let key = keys[id as usize];
                while keys[head as usize] < key && key.abs_diff(keys[head as usize]) > units {
                    slid.left.push(head);
                    head = next[head as usize];
                    left += 1;
                }
                length -= left;
                for peer in position..end {
                    slid.counts.push(if peer == position { left } else { 0 });
                    slid.heads.push(head);
                    slid.lengths.push(length);
                }
                position = end;
            }
            self.heads[*slot as usize] = (head, length);
        }
        slid
    }
}

impl Slid {
    fn with_capacity(rows: usize) -> Self {
        Self {
            counts: Vec::with_capacity(rows),
            left: Vec::with_capacity(rows),
            heads: Vec::with_capacity(rows),
            lengths: Vec::with_capacity(rows),
        }
    }
}

/// An event time as it is kept: its own units.
fn order_keys(column: &ArrayRef) -> Vec<i64> {
    use arrow::datatypes::{DataType, Date32Type};
    match column.data_type() {
        DataType::Date32 => column.as_primitive::<Date32Type>().values().iter().map(|day| i64::from(*day)).collect(),
        DataType::Timestamp(..) | DataType::Date64 => crate::hash::native_values::<i64>(column).to_vec(),
        _ => column.as_primitive::<TimestampMillisecondType>().values().to_vec(),
    }
}
